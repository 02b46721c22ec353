//! Telnyx media streaming in RTP mode: JSON with base64 payloads in text messages. Both ends of the wire, as a table.
//!
//! What Telnyx sends (`stream_codec`) and what it takes (`stream_bidirectional_codec`) are chosen apart, and only the first is
//! announced: we answer in PCMU, its default, unless [`super::Options::outbound_format`] says what the call was set up with.
//! Calls that end in Europe or India often come as PCMA, so the announcement counts. Messages may overtake each other; `chunk`
//! puts them in order. The start does not tell which tracks follow: the outbound one is what we play, heard again.
//!
//! Whether `L16` is little- or big-endian is disputed between the RFC and the field; it is taken for little-endian, and
//! [`super::Options::inbound_format`] says otherwise.

use std::time::Duration;

use ringback_codecs::{Encoding, Endian, MediaFormat, SampleRate};

use super::dialect::members_of;
use super::dialect::{Dialect, Kind, Ours, Theirs, only_inbound};
use super::{Capabilities, ClearLaw, FrameLaw, Info, PlayoutPolicy, Status};

const LINEAR: Encoding = Encoding::L16(Endian::Little);

static INFO: Info = Info {
    name: "telnyx",
    title: "Telnyx media streaming",
    reference: "https://developers.telnyx.com/docs/voice/programmable-voice/media-streaming",
    status: Status::Documentation,
    capabilities: TWO_WAY,
    formats: &[
        MediaFormat::PCMU_8000,
        MediaFormat::mono(Encoding::Pcma, SampleRate::HZ_8000),
        MediaFormat::mono(Encoding::G722, SampleRate::HZ_16000),
        MediaFormat::mono(LINEAR, SampleRate::HZ_16000),
        // What some calls are that were set up for 16 kHz.
        MediaFormat::mono(LINEAR, SampleRate::HZ_8000),
        MediaFormat::mono(Encoding::Opus, SampleRate::HZ_48000),
        MediaFormat::mono(Encoding::Opus, SampleRate::HZ_16000),
        MediaFormat::mono(Encoding::Opus, SampleRate::HZ_8000),
    ],
};

const TWO_WAY: Capabilities = Capabilities {
    // How much is queued is not told, but one message may be half a minute.
    playout: PlayoutPolicy::Ahead { limit: Duration::from_secs(30) },
    // 20 ms to 30 s.
    frame: FrameLaw::AtLeast { least: Duration::from_millis(20), step: Duration::ZERO },
    clear: ClearLaw::ReturnsMarks,
    marks: true,
    dtmf_in: true,
    ..Capabilities::LISTEN_ONLY
};

/// As the newer documentation spells them; the older one has `audio/x-mulaw`.
const fn encoding_name(format: MediaFormat) -> &'static str {
    match format.encoding {
        Encoding::Pcma => "PCMA",
        Encoding::G722 => "G722",
        Encoding::Opus => "OPUS",
        Encoding::L16(_) => "L16",
        _ => "PCMU",
    }
}

pub(super) static DIALECT: Dialect = Dialect {
    theirs: Theirs {
        kinds: &[
            ("connected", Kind::Nothing),
            ("start", Kind::Start),
            ("media", Kind::Media),
            ("dtmf", Kind::Dtmf),
            ("mark", Kind::Played),
            ("error", Kind::Error),
            ("stop", Kind::Stop),
        ],
        open: &[
            r#"{"event":"connected","version":"1.0.0"}"#,
            r#"{"event":"start","sequence_number":"$sequence","start":{"user_id":"3e6f995f-85f7-4705-9741-53b116d28237","call_control_id":$call,"call_session_id":"ff55a038-6f5d-11ef-9692-02420aeffb1f","from":$from,"to":$to,"tags":[],"client_state":null,"custom_parameters":$parameters,"media_format":{"encoding":$encoding,"sample_rate":$rate,"channels":1}},"stream_id":$stream}"#,
        ],
        media: r#"{"event":"media","sequence_number":"$sequence","media":{"track":"$track","chunk":"$chunk","timestamp":"$ms","payload":"$payload"},"stream_id":$stream}"#,
        dtmf: r#"{"event":"dtmf","stream_id":$stream,"occurred_at":"2025-06-05T08:54:19.698408Z","sequence_number":"$sequence","dtmf":{"digit":"$digit"}}"#,
        played: r#"{"event":"mark","stream_id":$stream,"sequence_number":"$sequence","mark":{"name":$name}}"#,
        stop: r#"{"event":"stop","sequence_number":"$sequence","stop":{"user_id":"3e6f995f-85f7-4705-9741-53b116d28237","call_control_id":$call},"stream_id":$stream}"#,
        stream_prefix: "32DE-",
        stream: &["stream_id", "start.stream_id"],
        call: &["start.call_control_id", "start.call_session_id"],
        encoding: &["start.media_format.encoding"],
        rate: &["start.media_format.sample_rate"],
        channels: &["start.media_format.channels"],
        // The newer guide and the older one.
        error: &["payload.detail", "payload.title", "error.detail", "error.title"],
        ..Theirs::USUAL
    },
    ours: Ours {
        media: r#"{"event":"media","media":{"payload":"$payload"}}"#,
        mark: r#"{"event":"mark","mark":{"name":$name}}"#,
        clear: r#"{"event":"clear"}"#,
        stream: "",
        ..Ours::USUAL
    },
    two_way: |_| TWO_WAY,
    one_way: Capabilities { dtmf_in: true, ..Capabilities::LISTEN_ONLY },
    encoding_name,
    outbound: |_| MediaFormat::PCMU_8000,
    tracks: only_inbound,
    parameters: |message| members_of(message, "start.custom_parameters"),
    ..Dialect::like_twilio(&INFO, "Telnyx JSON")
};
