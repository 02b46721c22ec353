//! SignalWire `<Stream>`: Twilio's JSON with more codecs and with keys we can press. Both ends of the wire, as a table.
//!
//! Start, media and stop have no stream name at the top, what is sent must have one. Names are UUIDs, marks and stops are bare,
//! keys tell how long they were held. The codec is chosen in the document that asks for the stream and the same both ways; the
//! order of octets in linear PCM is not documented, SignalWire's own agent sample takes it for little-endian.

use std::time::Duration;

use ringback_codecs::{Encoding, MediaFormat, SampleRate};

use super::dialect::{Dialect, Ours, Query, Request, Theirs};
use super::{Capabilities, ClearLaw, Info, PlayoutPolicy, Status, linear_at};

static INFO: Info = Info {
    name: "signalwire",
    title: "SignalWire Stream",
    reference: "https://developer.signalwire.com/compatibility-api/cxml/voice/stream/",
    status: Status::Documentation,
    capabilities: TWO_WAY,
    formats: &[
        MediaFormat::PCMU_8000,
        linear_at(SampleRate::HZ_16000),
        linear_at(SampleRate::HZ_24000),
    ],
};

const TWO_WAY: Capabilities = Capabilities {
    // It queues, but how much is not told.
    playout: PlayoutPolicy::Ahead { limit: Duration::from_secs(30) },
    clear: ClearLaw::ReturnsMarks,
    marks: true,
    dtmf_in: true,
    dtmf_out: true,
    ..Capabilities::LISTEN_ONLY
};

const fn encoding_name(format: MediaFormat) -> &'static str {
    match format.encoding {
        Encoding::L16(_) => "audio/x-L16",
        _ => "audio/x-mulaw",
    }
}

pub(super) static DIALECT: Dialect = Dialect {
    theirs: Theirs {
        open: &[
            r#"{"event":"connected","protocol":"Call","version":"0.2.0"}"#,
            r#"{"event":"start","sequenceNumber":"$sequence","start":{"streamSid":$stream,"accountSid":"b08dacad-0000-4000-8000-000000000000","callSid":$call,"tracks":$tracks,"customParameters":$parameters,"mediaFormat":{"encoding":$encoding,"sampleRate":$rate,"channels":1}}}"#,
        ],
        media: r#"{"event":"media","sequenceNumber":"$sequence","media":{"track":"$track","chunk":"$chunk","timestamp":"$ms","payload":"$payload"}}"#,
        dtmf: r#"{"event":"dtmf","sequenceNumber":"$sequence","streamSid":$stream,"dtmf":{"digit":"$digit","duration":200}}"#,
        played: r#"{"event":"mark","streamSid":$stream,"mark":{"name":$name}}"#,
        stop: r#"{"event":"stop","sequenceNumber":"$sequence"}"#,
        ..Theirs::USUAL
    },
    ours: Ours {
        kinds: &[
            ("media", Request::Media),
            ("mark", Request::Mark),
            ("clear", Request::Clear),
            ("dtmf", Request::Dtmf),
        ],
        dtmf: r#"{"event":"dtmf","streamSid":$stream,"dtmf":{"digit":"$digit"}}"#,
        ..Ours::USUAL
    },
    query: Query::Dropped,
    two_way: |_| TWO_WAY,
    encoding_name,
    ..Dialect::like_twilio(&INFO, "SignalWire JSON")
};
