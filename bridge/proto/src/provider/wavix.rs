//! Wavix call streaming: flat JSON, linear PCM at 24 kHz in base64. Both ends of the wire, as a table.
//!
//! Stream and call stand at the top of every message, numbers are numbers, and every message tells the hour. There are no custom
//! parameters and no numbers to call: what is to be known of a call goes into the URL. A two-way stream carries the caller alone,
//! whatever `channel` says. What `media.timestamp` counts is not documented (160 for a first message of 24 kHz), so it is not
//! believed; chunks tell the order. Keys are not documented.

use std::time::Duration;

use ringback_codecs::{Encoding, Endian, MediaFormat, SampleRate};

use super::dialect::{Carriage, Dialect, MediaPaths, Ours, Query, Theirs};
use super::json::Reader;
use super::{Capabilities, ClearLaw, Dial, Info, PlayoutPolicy, ProtocolError, Status, Track};

static INFO: Info = Info {
    name: "wavix",
    title: "Wavix call streaming",
    reference: "https://docs.wavix.com/api-reference/websocket/websockets/callstreaming",
    status: Status::VendorSdk,
    capabilities: TWO_WAY,
    formats: &[MediaFormat::mono(Encoding::L16(Endian::Little), SampleRate::HZ_24000)],
};

const TWO_WAY: Capabilities = Capabilities {
    // It queues, but how much is not told.
    playout: PlayoutPolicy::Ahead { limit: Duration::from_secs(30) },
    // Whether a clear answers pending marks is not told; late ones do no harm.
    clear: ClearLaw::DropsMarks,
    marks: true,
    ..Capabilities::LISTEN_ONLY
};

fn tracks(message: &Reader<'_>) -> Result<Vec<Track>, ProtocolError> {
    let one_way = message.node.text("stream_type") == Some("oneway");
    Ok(match message.node.text("channel") {
        Some("both") if one_way => vec![Track::Inbound, Track::Outbound],
        Some("outbound") if one_way => vec![Track::Outbound],
        _ => vec![Track::Inbound],
    })
}

/// What kind of stream the start message says it is.
fn words(call: &Dial) -> Vec<(&'static str, String)> {
    let kind = if call.two_way && call.tracks == [Track::Inbound] { "twoway" } else { "oneway" };
    let channel = match call.tracks.as_slice() {
        [Track::Inbound] => "inbound",
        [Track::Outbound] => "outbound",
        _ => "both",
    };
    [("kind", kind), ("channel", channel)].map(|(name, word)| (name, format!("\"{word}\""))).into()
}

pub(super) static DIALECT: Dialect = Dialect {
    theirs: Theirs {
        open: &[
            r#"{"event":"connected","event_time":"2026-01-01T00:00:00Z"}"#,
            r#"{"event":"start","event_time":"2026-01-01T00:00:00Z","call_id":$call,"stream_id":$stream,"stream_type":$kind,"channel":$channel,"sequence_number":$sequence}"#,
        ],
        media: r#"{"event":"media","event_time":"2026-01-01T00:00:01Z","call_id":$call,"stream_id":$stream,"sequence_number":$sequence,"media":{"payload":"$payload","track":"$track","timestamp":$ms,"chunk":$chunk}}"#,
        played: r#"{"event":"mark","event_time":"2026-01-01T00:00:02Z","call_id":$call,"stream_id":$stream,"sequence_number":$sequence,"mark":{"name":$name}}"#,
        stop: r#"{"event":"stop","event_time":"2026-01-01T00:00:03Z","call_id":$call,"stream_id":$stream,"sequence_number":$sequence}"#,
        stream: &["stream_id"],
        call: &["call_id"],
        from: &[],
        to: &[],
        encoding: &[],
        rate: &[],
        channels: &[],
        words,
        ..Theirs::USUAL
    },
    ours: Ours {
        media: r#"{"event":"media","stream_id":$stream,"media":{"payload":"$payload"}}"#,
        mark: r#"{"event":"mark","stream_id":$stream,"mark":{"name":$name}}"#,
        clear: r#"{"event":"clear","stream_id":$stream}"#,
        stream: "stream_id",
        ..Ours::USUAL
    },
    carriage: Carriage::Base64(MediaPaths { timestamp: "", ..MediaPaths::USUAL }),
    query: Query::Parameters,
    two_way: |_| TWO_WAY,
    only_listens: |message| message.text("stream_type") == Some("oneway"),
    tracks,
    parameters: |_| Vec::new(),
    ..Dialect::like_twilio(&INFO, "Wavix JSON")
};
