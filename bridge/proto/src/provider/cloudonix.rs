//! Cloudonix `<Stream>`: Twilio's wire as it is. Both ends, as a table of what is not the same.
//!
//! The account is a domain and the call a session token, both just text here. Cloudonix documents the document that asks for a
//! stream, not the stream; that it is Twilio's is known from integrations that use a Twilio client unchanged.

use ringback_codecs::MediaFormat;

use super::dialect::{Dialect, Query, Theirs};
use super::{Info, Status, twilio};

static INFO: Info = Info {
    name: "cloudonix",
    title: "Cloudonix Stream",
    reference: "https://developers.cloudonix.com/Documentation/voiceApplication/Verb/connect",
    status: Status::Documentation,
    capabilities: twilio::TWO_WAY,
    formats: &[MediaFormat::PCMU_8000],
};

pub(super) static DIALECT: Dialect = Dialect {
    info: &INFO,
    expected: "Cloudonix JSON",
    theirs: Theirs {
        open: &[
            r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#,
            r#"{"event":"start","sequenceNumber":"$sequence","start":{"accountSid":"example.cloudonix.net","streamSid":$stream,"callSid":$call,"tracks":$tracks,"mediaFormat":{"encoding":$encoding,"sampleRate":$rate,"channels":1},"customParameters":$parameters},"streamSid":$stream}"#,
        ],
        stop: r#"{"event":"stop","sequenceNumber":"$sequence","stop":{"accountSid":"example.cloudonix.net","callSid":$call},"streamSid":$stream}"#,
        ..twilio::DIALECT.theirs
    },
    query: Query::Kept,
    ..twilio::DIALECT
};
