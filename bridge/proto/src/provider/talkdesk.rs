//! Talkdesk audio streaming: Twilio's JSON without a format, without keys and with a way to say how it went. Both ends of the
//! wire, as a table.
//!
//! It is always mu-law at 8 kHz. "Stream audio unidirectional" mirrors both tracks; the external voice stream of a virtual agent
//! is two-way. A stop from us ends that step of the flow with a result: hanging up says `ok`. Who called stands in the custom
//! parameters, if the flow puts it there. The shapes of marks and clears are not documented and taken to be Twilio's.

use std::time::Duration;

use ringback_codecs::MediaFormat;

use super::dialect::{Dialect, Ours, Request, Theirs};
use super::{Capabilities, ClearLaw, HangupLaw, Info, PlayoutPolicy, Status};

static INFO: Info = Info {
    name: "talkdesk",
    title: "Talkdesk audio streaming",
    reference: "https://support.talkdesk.com/hc/en-us/articles/9484798498587-Conversation-Orchestrator-Streaming-Bidirectional-Audio",
    status: Status::Documentation,
    capabilities: TWO_WAY,
    formats: &[MediaFormat::PCMU_8000],
};

const TWO_WAY: Capabilities = Capabilities {
    // It queues, but how much is not told.
    playout: PlayoutPolicy::Ahead { limit: Duration::from_secs(30) },
    clear: ClearLaw::ReturnsMarks,
    marks: true,
    hangup: HangupLaw::Message,
    ..Capabilities::LISTEN_ONLY
};

pub(super) static DIALECT: Dialect = Dialect {
    theirs: Theirs {
        open: &[
            r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#,
            r#"{"event":"start","sequenceNumber":"$sequence","start":{"streamSid":$stream,"accountSid":"AC0123456789abcdef0123456789abcdef","callSid":$call,"tracks":$tracks,"customParameters":$parameters}}"#,
        ],
        media: r#"{"event":"media","sequenceNumber":"$sequence","streamSid":$stream,"media":{"payload":"$payload","chunk":"$chunk","track":"$track","timestamp":"$ms"}}"#,
        played: r#"{"event":"mark","sequenceNumber":"$sequence","streamSid":$stream,"mark":{"name":$name}}"#,
        stop: r#"{"event":"stop","sequenceNumber":"$sequence","streamSid":$stream,"stop":{"accountSid":"AC0123456789abcdef0123456789abcdef","callSid":$call}}"#,
        stream_prefix: "MZ",
        ..Theirs::USUAL
    },
    ours: Ours {
        kinds: &[
            ("media", Request::Media),
            ("mark", Request::Mark),
            ("clear", Request::Clear),
            ("stop", Request::Hangup),
        ],
        hangup: r#"{"event":"stop","sequenceNumber":"1","stop":{"accountSid":$account,"callSid":$call,"result":"ok"}}"#,
        words: &[("account", &["start.accountSid"])],
        // The stop does not name it, so nothing else has to.
        stream: "",
        ..Ours::USUAL
    },
    two_way: |_| TWO_WAY,
    ..Dialect::like_twilio(&INFO, "Talkdesk JSON")
};
