//! Bandwidth `<StartStream>`: JSON with base64 payloads, messages named by `eventType`. Both ends of the wire, as a table.
//!
//! Who calls whom is not told, tracks are objects that each bring their format, and sound stands at the top of its message. What we
//! play has a content type of its own: PCMU as it comes, or linear PCM by [`super::Options::outbound_format`]. There are neither
//! marks nor keys on this wire.

use std::time::Duration;

use ringback_codecs::{Encoding, MediaFormat};

use super::dialect::{Carriage, Dialect, Kind, MediaPaths, Ours, Request, Theirs, members_of};
use super::json::{Node, Reader};
use super::media_message::{TRACK_NAMES, track_of};
use super::{Capabilities, ClearLaw, Info, PlayoutPolicy, ProtocolError, Status, Track};

static INFO: Info = Info {
    name: "bandwidth",
    title: "Bandwidth Programmable Voice",
    reference: "https://dev.bandwidth.com/docs/voice/programmable-voice/bxml/startStream",
    status: Status::VendorSdk,
    capabilities: TWO_WAY,
    formats: &[MediaFormat::PCMU_8000],
};

const TWO_WAY: Capabilities = Capabilities {
    // Bandwidth's own samples send whole answers at once; the limit is not told.
    playout: PlayoutPolicy::Ahead { limit: Duration::from_secs(60) },
    clear: ClearLaw::DropsMarks,
    ..Capabilities::LISTEN_ONLY
};

/// What sound that we send is called.
const fn content_type(format: MediaFormat) -> &'static str {
    match (format.encoding, format.rate.hz()) {
        (Encoding::L16(_), 8_000) => {
            "audio/pcm;rate=8000;channels=1;bit-depth=16;endian=little;encoding=signed"
        }
        (Encoding::L16(_), 16_000) => {
            "audio/pcm;rate=16000;channels=1;bit-depth=16;endian=little;encoding=signed"
        }
        (Encoding::L16(_), _) => {
            "audio/pcm;rate=24000;channels=1;bit-depth=16;endian=little;encoding=signed"
        }
        _ => "audio/pcmu",
    }
}

/// The names of the tracks; none means the inbound one.
fn tracks(message: &Reader<'_>) -> Result<Vec<Track>, ProtocolError> {
    const PATH: &str = "metadata.tracks";
    let items = match message.node.get(PATH) {
        Some(Node::List(items)) => items.as_slice(),
        _ => &[],
    };
    let named = items.iter().filter_map(|item| item.text("name"));
    let unknown = || message.error(PATH, "names an unknown track");
    let tracks = named.map(|name| track_of(TRACK_NAMES, name).ok_or_else(unknown));
    let tracks = tracks.collect::<Result<Vec<_>, _>>()?;
    Ok(if tracks.is_empty() { vec![Track::Inbound] } else { tracks })
}

pub(super) static DIALECT: Dialect = Dialect {
    theirs: Theirs {
        key: "eventType",
        kinds: &[("start", Kind::Start), ("media", Kind::Media), ("stop", Kind::Stop)],
        open: &[
            r#"{"eventType":"start","metadata":{"accountId":"5555555","callId":$call,"streamId":$stream,"streamName":"ringback","tracks":$tracks},"streamParams":$parameters}"#,
        ],
        track: r#"{"name":"$track","mediaFormat":{"encoding":$encoding,"sampleRate":$rate}}"#,
        media: r#"{"eventType":"media","track":"$track","payload":"$payload","sequenceNumber":"$chunk"}"#,
        stop: r#"{"eventType":"stop","metadata":{"accountId":"5555555","callId":$call,"streamId":$stream,"streamName":"ringback","tracks":$tracks}}"#,
        stream_prefix: "s-",
        stream: &["metadata.streamId"],
        call: &["metadata.callId"],
        from: &[],
        to: &[],
        encoding: &["metadata.tracks.0.mediaFormat.encoding"],
        rate: &["metadata.tracks.0.mediaFormat.sampleRate"],
        channels: &[],
        ..Theirs::USUAL
    },
    ours: Ours {
        key: "eventType",
        kinds: &[("playAudio", Request::Media), ("clear", Request::Clear)],
        media: r#"{"eventType":"playAudio","media":{"contentType":$encoding,"payload":"$payload"}}"#,
        mark: "",
        clear: r#"{"eventType":"clear"}"#,
        stream: "",
        ..Ours::USUAL
    },
    carriage: Carriage::Base64(MediaPaths {
        names: TRACK_NAMES,
        kind: "media",
        track: "track",
        chunk: "sequenceNumber",
        timestamp: "",
        payload: "payload",
    }),
    two_way: |_| TWO_WAY,
    encoding_name: |_| "PCMU",
    content_type: Some(content_type),
    tracks,
    parameters: |message| members_of(message, "streamParams"),
    ..Dialect::like_twilio(&INFO, "Bandwidth JSON")
};
