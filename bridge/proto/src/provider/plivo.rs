//! Plivo Audio Streaming: JSON with base64 payloads in text messages. Both ends of the wire, as a table, and what its clones share.
//!
//! There is no message before the start. The format of what we play is told with every message of sound. Custom headers come as one
//! text that is written in three ways. Whether a stop comes is disputed; closing is the end. A clear is confirmed, and checkpoints
//! that were pending never come.

use std::time::Duration;

use ringback_codecs::{Encoding, Endian, MediaFormat, SampleRate};

use super::dialect::{Carriage, Dialect, Kind, MediaPaths, Ours, Request, Theirs};
use super::json::Node;
use super::{Capabilities, ClearLaw, Info, PlayoutPolicy, Status};

const LINEAR: Encoding = Encoding::L16(Endian::Little);

static INFO: Info = Info {
    name: "plivo",
    title: "Plivo Audio Streaming",
    reference: "https://www.plivo.com/docs/voice/audio-streaming/concepts/stream-events",
    status: Status::VendorSdk,
    capabilities: TWO_WAY,
    formats: FORMATS,
};

pub(super) const FORMATS: &[MediaFormat] = &[
    MediaFormat::PCMU_8000,
    MediaFormat::mono(LINEAR, SampleRate::HZ_8000),
    MediaFormat::mono(LINEAR, SampleRate::HZ_16000),
];

pub(super) const TWO_WAY: Capabilities = Capabilities {
    // Sound is queued and played in order; how much is not told.
    playout: PlayoutPolicy::Ahead { limit: Duration::from_secs(60) },
    clear: ClearLaw::DropsMarks,
    marks: true,
    dtmf_in: true,
    dtmf_out: true,
    ..Capabilities::LISTEN_ONLY
};

const fn encoding_name(format: MediaFormat) -> &'static str {
    match format.encoding {
        Encoding::L16(_) => "audio/x-l16",
        _ => "audio/x-mulaw",
    }
}

/// Custom headers: `a=1;b=2` in the reference, with commas in the example beside it, and JSON in the comments of the SDK.
fn extra_headers(message: &Node<'_>) -> Vec<(String, String)> {
    let Some(text) = message.text("extra_headers") else {
        return message.get("extra_headers").map(|given| given.pairs(&[])).unwrap_or_default();
    };
    if let Ok(given @ Node::Object(_)) = Node::parse(0, "JSON", text) {
        return given.pairs(&[]);
    }
    let pairs = text.split([';', ',']).map(str::trim).filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

pub(super) const THEIRS: Theirs = Theirs {
    kinds: &[
        ("start", Kind::Start),
        ("media", Kind::Media),
        ("dtmf", Kind::Dtmf),
        ("playedStream", Kind::Played),
        ("clearedAudio", Kind::Cleared),
        ("stop", Kind::Stop),
    ],
    open: &[
        r#"{"event":"start","sequenceNumber":$sequence,"start":{"callId":$call,"streamId":$stream,"accountId":"MA0123456789ABCDEF01","tracks":$tracks,"mediaFormat":{"encoding":$encoding,"sampleRate":$rate}},"extra_headers":$pairs}"#,
    ],
    media: r#"{"event":"media","sequenceNumber":$sequence,"streamId":$stream,"media":{"track":"$track","timestamp":"$ms","chunk":$chunk,"payload":"$payload"},"extra_headers":$pairs}"#,
    dtmf: r#"{"event":"dtmf","sequenceNumber":$sequence,"streamId":$stream,"dtmf":{"track":"inbound","digit":"$digit","timestamp":"0"},"extra_headers":$pairs}"#,
    played: r#"{"event":"playedStream","sequenceNumber":$sequence,"streamId":$stream,"name":$name}"#,
    cleared: r#"{"event":"clearedAudio","sequenceNumber":$sequence,"streamId":$stream}"#,
    stream: &["start.streamId", "streamId"],
    call: &["start.callId"],
    mark: &["name"],
    ..Theirs::USUAL
};

pub(super) const OURS: Ours = Ours {
    kinds: &[
        ("playAudio", Request::Media),
        ("checkpoint", Request::Mark),
        ("clearAudio", Request::Clear),
        ("sendDTMF", Request::Dtmf),
    ],
    media: r#"{"event":"playAudio","streamId":$stream,"media":{"contentType":$encoding,"sampleRate":$rate,"payload":"$payload"}}"#,
    mark: r#"{"event":"checkpoint","streamId":$stream,"name":$name}"#,
    clear: r#"{"event":"clearAudio","streamId":$stream}"#,
    dtmf: r#"{"event":"sendDTMF","dtmf":"$digit"}"#,
    name: "name",
    digit: "dtmf",
    // The SDK leaves it out where there is sound.
    stream: "",
    ..Ours::USUAL
};

/// What Plivo and its clones have in common.
pub(super) const fn like_plivo(info: &'static Info, expected: &'static str) -> Dialect {
    Dialect {
        theirs: THEIRS,
        ours: OURS,
        // Time is since 1970 or since the stream's start, who knows; the count is enough.
        carriage: Carriage::Base64(MediaPaths { timestamp: "", ..MediaPaths::USUAL }),
        two_way: |_| TWO_WAY,
        encoding_name,
        parameters: extra_headers,
        ..Dialect::like_twilio(info, expected)
    }
}

pub(super) static DIALECT: Dialect = like_plivo(&INFO, "Plivo JSON");
