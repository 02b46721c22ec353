//! What a module is offered: tracks, formats and verbs, by what it is used as and what the stream can. Agrees to nothing.

use ringback_codecs::{Encoding, MediaFormat};
use ringback_module::message::{
    AudioFormat, Framing, Kind, Offer, RATES, Role, SampleEncoding, Track as OfferedTrack,
};

use crate::provider::{Start, Track};

use super::port::{AGENT, CALLER, PortConfig};

/// What a module is offered on a stream.
pub(super) fn offer(start: &Start, port: &PortConfig) -> Offer {
    let features: Vec<String> = features(start, port).into_iter().map(str::to_owned).collect();
    if port.kind == Kind::Text {
        return Offer { features, ..Offer::default() };
    }
    if port.kind == Kind::Filter {
        return filter_offer(start, features);
    }
    Offer {
        tracks: tracks(start),
        input: start.inbound.map(formats).unwrap_or_default(),
        output: start.outbound.filter(|_| port.speaks).map(formats).unwrap_or_default(),
        features,
        ..sounding()
    }
}

/// A filter hears the caller and answers at the same rate, so that each sample of its answer has a place.
fn filter_offer(start: &Start, features: Vec<String>) -> Offer {
    let Some(wire) = start.inbound.filter(|_| start.tracks.contains(&Track::Inbound)) else {
        return Offer { features, ..Offer::default() };
    };
    let mut formats = formats(wire);
    formats.retain(|format| format.rate == wire.rate.hz());
    Offer {
        tracks: vec![OfferedTrack { id: CALLER, role: Role::Caller }],
        input: formats.clone(),
        output: formats,
        features,
        ..sounding()
    }
}

/// What holds wherever there is sound.
fn sounding() -> Offer {
    Offer {
        frame_ms: vec![10, 20, 40, 60, 100],
        framing: vec![Framing::Raw, Framing::Hdr16],
        ..Offer::default()
    }
}

fn tracks(start: &Start) -> Vec<OfferedTrack> {
    let mut tracks = Vec::new();
    if start.tracks.contains(&Track::Inbound) {
        tracks.push(OfferedTrack { id: CALLER, role: Role::Caller });
    }
    if start.outbound.is_some() || start.tracks.contains(&Track::Outbound) {
        tracks.push(OfferedTrack { id: AGENT, role: Role::Agent });
    }
    tracks
}

fn features(start: &Start, port: &PortConfig) -> Vec<&'static str> {
    let can = start.capabilities;
    let mut features = vec!["resume", "text", "vad"];
    features.extend(can.dtmf_in.then_some("dtmf"));
    features.extend(can.files.then_some("spoken"));
    if port.kind == Kind::Text {
        let says: &[_] = if port.speaks && can.text { &["say", "language"] } else { &[] };
        features.extend(says);
        features.extend((port.speaks && can.files).then_some("play"));
        features.extend(["clear", "hangup", "private"]);
        features.extend(can.dtmf_out.then_some("dtmf.send"));
    } else if port.speaks && start.outbound.is_some() {
        features.extend(["playback", "mark", "clear", "hangup", "pause", "private"]);
        features.extend(can.dtmf_out.then_some("dtmf.send"));
    } else if port.speaks && can.text {
        features.extend(["say", "language", "hangup", "private"]);
        features.extend(can.files.then_some("play"));
        features.extend(can.dtmf_out.then_some("dtmf.send"));
    }
    features
}

/// Formats between bridge and module, the track's own first; any other rate is resampled.
fn formats(wire: MediaFormat) -> Vec<AudioFormat> {
    // Modules are promised no other rates.
    let native = wire.rate.hz().clamp(*RATES.start(), *RATES.end());
    let mut formats = vec![AudioFormat::pcm(native)];
    match wire.encoding {
        Encoding::Pcmu => {
            formats.push(AudioFormat { encoding: SampleEncoding::Pcmu, rate: wire.rate.hz() });
        }
        Encoding::Pcma => {
            formats.push(AudioFormat { encoding: SampleEncoding::Pcma, rate: wire.rate.hz() });
        }
        _ => {}
    }
    for rate in [8_000, 16_000, 24_000, 48_000] {
        let format = AudioFormat::pcm(rate);
        if !formats.contains(&format) {
            formats.push(format);
        }
    }
    formats.push(AudioFormat { encoding: SampleEncoding::PcmF32le, rate: 16_000 });
    formats
}
