//! Exotel AgentStream: JSON with linear PCM in base64. Both ends of the wire, as a table.
//!
//! Documentation and samples spell the same members in two ways, so both are read, and what we send has both. All scalars are
//! strings. The rate is chosen by `sample-rate` in the URL. Sound must come in multiples of 320 octets and at least 3200, which is
//! as much time as the rate makes of it, and no faster than it is spoken: who sends a greeting at once loses the call.

use std::time::Duration;

use ringback_codecs::{Encoding, Endian, MediaFormat, SampleRate};

use super::dialect::{Dialect, Kind, Ours, Theirs, members_of, only_inbound};
use super::json::Node;
use super::{Capabilities, ClearLaw, FrameLaw, Info, PlayoutPolicy, Status};

const LINEAR: Encoding = Encoding::L16(Endian::Little);
const USUAL: MediaFormat = MediaFormat::mono(LINEAR, SampleRate::HZ_8000);

static INFO: Info = Info {
    name: "exotel",
    title: "Exotel AgentStream",
    reference: "https://developer.exotel.com/docs/agentstream/websocket-protocol",
    status: Status::Documentation,
    capabilities: two_way(USUAL),
    formats: &[
        USUAL,
        MediaFormat::mono(LINEAR, SampleRate::HZ_16000),
        MediaFormat::mono(LINEAR, SampleRate::HZ_24000),
        // What comes in by one page that is marked beta; what is played is linear everywhere.
        MediaFormat::PCMU_8000,
    ],
};

const fn two_way(format: MediaFormat) -> Capabilities {
    Capabilities {
        // A call that is sent a greeting at once was seen to end after about four seconds.
        playout: PlayoutPolicy::Paced { limit: Duration::from_secs(4) },
        frame: FrameLaw::AtLeast { least: time_of(format, 3_200), step: time_of(format, 320) },
        // Whether a clear returns marks is not told; late ones do no harm.
        clear: ClearLaw::DropsMarks,
        marks: true,
        dtmf_in: true,
        ..Capabilities::LISTEN_ONLY
    }
}

/// How long so many octets of sound last.
const fn time_of(format: MediaFormat, octets: usize) -> Duration {
    match format.samples_in(octets) {
        Some(samples) => format.rate.duration_of(samples as u64),
        None => Duration::ZERO,
    }
}

const fn encoding_name(format: MediaFormat) -> &'static str {
    match format.encoding {
        Encoding::Pcmu => "audio/x-mulaw",
        _ => "audio/x-raw",
    }
}

fn custom_parameters(message: &Node<'_>) -> Vec<(String, String)> {
    let snake = members_of(message, "start.custom_parameters");
    if snake.is_empty() { members_of(message, "start.customParameters") } else { snake }
}

pub(super) static DIALECT: Dialect = Dialect {
    theirs: Theirs {
        kinds: &[
            ("connected", Kind::Nothing),
            ("start", Kind::Start),
            ("media", Kind::Media),
            ("dtmf", Kind::Dtmf),
            ("mark", Kind::Played),
            ("stop", Kind::Stop),
            // As samples of Exotel's own have it.
            ("closed", Kind::Stop),
        ],
        open: &[
            r#"{"event":"connected"}"#,
            r#"{"event":"start","sequence_number":"$sequence","stream_sid":$stream,"start":{"stream_sid":$stream,"call_sid":$call,"account_sid":"ringback1","from":$from,"to":$to,"custom_parameters":$parameters,"media_format":{"encoding":$encoding,"sample_rate":"$rate","bit_rate":"16"}}}"#,
        ],
        media: r#"{"event":"media","sequence_number":"$sequence","stream_sid":$stream,"media":{"chunk":"$chunk","timestamp":"$ms","payload":"$payload"}}"#,
        dtmf: r#"{"event":"dtmf","sequence_number":"$sequence","stream_sid":$stream,"dtmf":{"digit":"$digit","duration":"100"}}"#,
        played: r#"{"event":"mark","sequence_number":"$sequence","stream_sid":$stream,"mark":{"name":$name}}"#,
        stop: r#"{"event":"stop","sequence_number":"$sequence","stream_sid":$stream,"stop":{"call_sid":$call,"account_sid":"ringback1","reason":"callended"}}"#,
        stream: &["streamSid", "start.streamSid", "stream_sid", "start.stream_sid"],
        call: &["start.call_sid", "start.callSid", "call_sid", "callSid"],
        encoding: &["start.media_format.encoding", "start.mediaFormat.encoding"],
        rate: &[
            "start.media_format.sample_rate",
            "start.media_format.sampleRate",
            "start.mediaFormat.sampleRate",
            "start.mediaFormat.sample_rate",
        ],
        channels: &[],
        ..Theirs::USUAL
    },
    ours: Ours {
        // Samples say that some calls drop early without the count and the time.
        media: r#"{"event":"media","sequence_number":"$sequence","stream_sid":$stream,"streamSid":$stream,"media":{"chunk":"$chunk","timestamp":"$ms","sequenceNumber":"$sequence","payload":"$payload"}}"#,
        mark: r#"{"event":"mark","sequence_number":"$sequence","stream_sid":$stream,"streamSid":$stream,"mark":{"name":$name}}"#,
        clear: r#"{"event":"clear","stream_sid":$stream,"streamSid":$stream}"#,
        stream: "stream_sid",
        ..Ours::USUAL
    },
    two_way,
    encoding_name,
    outbound: |inbound| MediaFormat::mono(LINEAR, inbound.rate),
    tracks: only_inbound,
    parameters: custom_parameters,
    ..Dialect::like_twilio(&INFO, "Exotel JSON")
};
