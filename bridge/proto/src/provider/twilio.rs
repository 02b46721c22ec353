//! Twilio Media Streams: JSON with base64 mu-law in text messages. Both ends of the wire, as a table; signatures are checked in
//! `auth`.
//!
//! Two kinds of stream share the wire. `<Connect><Stream>` is two-way; `<Start><Stream>` forks one or both tracks, and every message
//! sent on it is an error (31924). Nothing in the handshake tells them apart, only a fork has the outbound track: set
//! [`super::Options::one_way`] for forks of the inbound track alone.

use std::time::Duration;

use ringback_codecs::MediaFormat;

use super::dialect::{Dialect, Query, Theirs};
use super::media_message::MediaMessage;
use super::{Capabilities, ClearLaw, Info, PlayoutPolicy, Status};

static INFO: Info = Info {
    name: "twilio",
    title: "Twilio Media Streams",
    reference: "https://www.twilio.com/docs/voice/media-streams/websocket-messages",
    status: Status::Documentation,
    capabilities: TWO_WAY,
    formats: &[MediaFormat::PCMU_8000],
};

/// Of a stream that is connected, not forked.
pub(super) const TWO_WAY: Capabilities = Capabilities {
    // More than ten minutes of queued sound is discarded (warning 31931).
    playout: PlayoutPolicy::Ahead { limit: Duration::from_secs(600) },
    clear: ClearLaw::ReturnsMarks,
    marks: true,
    dtmf_in: true,
    ..Capabilities::LISTEN_ONLY
};

pub(super) static DIALECT: Dialect = Dialect {
    theirs: Theirs {
        open: &[
            r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#,
            r#"{"event":"start","sequenceNumber":"$sequence","start":{"accountSid":"AC0123456789abcdef0123456789abcdef","streamSid":$stream,"callSid":$call,"tracks":$tracks,"mediaFormat":{"encoding":$encoding,"sampleRate":$rate,"channels":1},"customParameters":$parameters},"streamSid":$stream}"#,
        ],
        media: r#"{"event":"media","sequenceNumber":"$sequence","media":{"track":"$track","chunk":"$chunk","timestamp":"$ms","payload":"$payload"},"streamSid":$stream}"#,
        dtmf: r#"{"event":"dtmf","sequenceNumber":"$sequence","dtmf":{"track":"inbound_track","digit":"$digit"},"streamSid":$stream}"#,
        played: r#"{"event":"mark","sequenceNumber":"$sequence","mark":{"name":$name},"streamSid":$stream}"#,
        stop: r#"{"event":"stop","sequenceNumber":"$sequence","stop":{"accountSid":"AC0123456789abcdef0123456789abcdef","callSid":$call},"streamSid":$stream}"#,
        stream_prefix: "MZ",
        ..Theirs::USUAL
    },
    query: Query::Dropped,
    two_way: |_| TWO_WAY,
    outbound: |_| MediaFormat::PCMU_8000,
    usual_media: Some(|text| MediaMessage::scan_twilio(text)),
    ..Dialect::like_twilio(&INFO, "Twilio JSON")
};
