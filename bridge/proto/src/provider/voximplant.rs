//! Voximplant media streams, which the customer's scenario sends by `sendMediaTo`: JSON with base64 payloads. Both ends of the wire,
//! as a table.
//!
//! Both sides say start, media and stop; a start of ours announces what we play. Calls are described by the scenario in custom
//! parameters. Marks, keys and clears are the scenario's own: there are none on the wire. The stop says that the scenario no longer
//! sends sound, and the socket may outlive the call. Experimental, because the members of media and stop are known from one sentence
//! only, and streams that are told apart by `tag` are taken for one.

use std::time::Duration;

use ringback_codecs::{Encoding, Endian, MediaFormat, SampleRate};

use super::dialect::{Dialect, Kind, Ours, Request, Theirs, only_inbound, usual_format};
use super::{Capabilities, Info, PlayoutPolicy, Status};

const LINEAR: Encoding = Encoding::L16(Endian::Little);

static INFO: Info = Info {
    name: "voximplant",
    title: "Voximplant VoxEngine",
    reference: "https://voximplant.com/docs/guides/media-streams/format",
    status: Status::Experimental,
    capabilities: TWO_WAY,
    formats: &[
        MediaFormat::mono(LINEAR, SampleRate::HZ_8000),
        MediaFormat::mono(LINEAR, SampleRate::HZ_16000),
        MediaFormat::PCMU_8000,
        MediaFormat::mono(Encoding::Pcma, SampleRate::HZ_8000),
    ],
};

const TWO_WAY: Capabilities = Capabilities {
    // There is a queue, but only the scenario can clear it: what waits there cannot be taken back.
    playout: PlayoutPolicy::Paced { limit: Duration::from_secs(60) },
    ..Capabilities::LISTEN_ONLY
};

/// The number in the name of linear sound is its rate in kHz, not its depth.
const fn encoding_name(format: MediaFormat) -> &'static str {
    match (format.encoding, format.rate.hz()) {
        (Encoding::Pcmu, _) => "ULAW",
        (Encoding::Pcma, _) => "ALAW",
        (_, 8_000) => "PCM8",
        _ => "PCM16",
    }
}

fn format(dialect: &Dialect, name: &str, hz: Option<u64>) -> Option<MediaFormat> {
    let usual = match name.to_ascii_uppercase().as_str() {
        "PCM8" | "PCM16_8KHZ" => 8_000,
        "PCM16" | "PCM16_16KHZ" => 16_000,
        _ => return usual_format(dialect, name, hz),
    };
    usual_format(dialect, "L16", hz.or(Some(usual)))
}

pub(super) static DIALECT: Dialect = Dialect {
    theirs: Theirs {
        kinds: &[("start", Kind::Start), ("media", Kind::Media), ("stop", Kind::Stop)],
        open: &[
            r#"{"event":"start","sequenceNumber":0,"start":{"mediaFormat":{"encoding":$encoding,"sampleRate":$rate},"customParameters":$parameters}}"#,
        ],
        media: r#"{"event":"media","sequenceNumber":$sequence,"media":{"chunk":$chunk,"timestamp":$ms,"payload":"$payload"}}"#,
        stop: r#"{"event":"stop","sequenceNumber":$sequence,"stop":{}}"#,
        call_parameter: Some("call"),
        stream: &[],
        call: &[],
        from: &[],
        to: &[],
        ..Theirs::USUAL
    },
    ours: Ours {
        kinds: &[
            ("start", Request::Nothing),
            ("media", Request::Media),
            // Would say that our sound ended, not that the call does.
            ("stop", Request::Nothing),
        ],
        answer: r#"{"event":"start","sequenceNumber":0,"start":{"mediaFormat":{"encoding":$encoding,"sampleRate":$rate}}}"#,
        media: r#"{"event":"media","sequenceNumber":$sequence,"media":{"chunk":$chunk,"timestamp":$ms,"payload":"$payload"}}"#,
        mark: "",
        clear: "",
        stream: "",
        ..Ours::USUAL
    },
    two_way: |_| TWO_WAY,
    encoding_name,
    format,
    tracks: only_inbound,
    ..Dialect::like_twilio(&INFO, "Voximplant JSON")
};
