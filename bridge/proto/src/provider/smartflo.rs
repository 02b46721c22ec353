//! Tata Smartflo's bi-directional streaming, also sold as Acefone and AstraDial: Twilio's JSON with numbers to call in the start
//! message and a message to hang up. Both ends of the wire, as a table.
//!
//! Sound comes 100 ms at a time. What is sent must be a multiple of 160 octets, or there are gaps, and is counted: one
//! integration needs the count, none minds it. The caller and the called stand beside or within `start`, depending on whom one
//! reads. The lines of some accounts are 16 kHz linear PCM and announce mu-law: set both formats of the listener
//! ([`super::Options`]) for these.

use std::time::Duration;

use ringback_codecs::MediaFormat;

use super::dialect::{Dialect, Ours, Request, Theirs};
use super::{Capabilities, ClearLaw, FrameLaw, HangupLaw, Info, PlayoutPolicy, Status};

static INFO: Info = Info {
    name: "smartflo",
    title: "Tata Smartflo, Acefone, AstraDial",
    reference: "https://docs.smartflo.tatatelebusiness.com/docs/bi-directional-audio-streaming-integration-document",
    status: Status::Documentation,
    capabilities: TWO_WAY,
    formats: &[MediaFormat::PCMU_8000],
};

const TWO_WAY: Capabilities = Capabilities {
    // It queues, but how much is not told.
    playout: PlayoutPolicy::Ahead { limit: Duration::from_secs(30) },
    frame: FrameLaw::MultipleOf(Duration::from_millis(20)),
    clear: ClearLaw::ReturnsMarks,
    marks: true,
    dtmf_in: true,
    hangup: HangupLaw::Message,
    ..Capabilities::LISTEN_ONLY
};

pub(super) static DIALECT: Dialect = Dialect {
    theirs: Theirs {
        open: &[
            r#"{"event":"connected"}"#,
            r#"{"event":"start","sequenceNumber":"$sequence","start":{"streamSid":$stream,"accountSid":"1234","callSid":$call,"from":$from,"to":$to,"direction":"inbound","mediaFormat":{"encoding":$encoding,"sampleRate":$rate,"bitRate":64,"bitDepth":8},"customParameters":$parameters},"streamSid":$stream}"#,
        ],
        media: r#"{"event":"media","sequenceNumber":"$sequence","media":{"chunk":"$chunk","timestamp":"$ms","payload":"$payload"},"streamSid":$stream}"#,
        dtmf: r#"{"event":"dtmf","sequenceNumber":"$sequence","streamSid":$stream,"dtmf":{"digit":"$digit"}}"#,
        played: r#"{"event":"mark","sequenceNumber":"$sequence","streamSid":$stream,"mark":{"name":$name}}"#,
        stop: r#"{"event":"stop","sequenceNumber":"$sequence","stop":{"accountSid":"1234","callSid":$call,"reason":"The call has ended"},"streamSid":$stream}"#,
        stream_prefix: "SF",
        ..Theirs::USUAL
    },
    ours: Ours {
        kinds: &[
            ("media", Request::Media),
            ("mark", Request::Mark),
            ("clear", Request::Clear),
            ("end", Request::Hangup),
        ],
        media: r#"{"event":"media","streamSid":$stream,"media":{"payload":"$payload","chunk":$chunk}}"#,
        hangup: r#"{"event":"end","streamSid":$stream,"call_sid":$call}"#,
        ..Ours::USUAL
    },
    two_way: |_| TWO_WAY,
    ..Dialect::like_twilio(&INFO, "Smartflo JSON")
};
