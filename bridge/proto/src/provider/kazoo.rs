//! 2600Hz KAZOO Pivot `<Stream>`: Twilio's JSON, but linear PCM inside unless asked otherwise. Both ends of the wire, as a table.
//!
//! `<Connect><Stream>` is two-way, `<Start><Stream>` only listens and reports keys all the same; nothing on the wire tells them
//! apart, so set [`super::Options::one_way`] for the latter. Every message but the first counts, names the stream and has an
//! object of its own name. Rates and the order of octets are not documented: what the start message says is believed, else it is
//! little-endian at 8 kHz. `<Start><Stream rawAudio="true">` sends octets without any message, not even a start: that is not this
//! wire and not understood here.

use std::time::Duration;

use ringback_codecs::{Encoding, MediaFormat, SampleRate};

use super::dialect::{Dialect, Ours, Request, Theirs};
use super::linear_at;
use super::{Capabilities, Info, PlayoutPolicy, Status};

static INFO: Info = Info {
    name: "kazoo",
    title: "2600Hz KAZOO Pivot",
    reference: "https://docs.2600hz.com/developers/pivot/streams/pivot-stream-web-socket-messages",
    status: Status::Documentation,
    capabilities: TWO_WAY,
    formats: &[
        linear_at(SampleRate::HZ_8000),
        linear_at(SampleRate::HZ_16000),
        MediaFormat::PCMU_8000,
    ],
};

const TWO_WAY: Capabilities = Capabilities {
    // Neither how much it queues nor a way to clear it is told, so little is ever under way.
    playout: PlayoutPolicy::Paced { limit: Duration::from_secs(30) },
    marks: true,
    ..ONE_WAY
};

const ONE_WAY: Capabilities = Capabilities { dtmf_in: true, ..Capabilities::LISTEN_ONLY };

const fn encoding_name(format: MediaFormat) -> &'static str {
    match format.encoding {
        Encoding::L16(_) => "audio/L16",
        _ => "audio/x-mulaw",
    }
}

pub(super) static DIALECT: Dialect = Dialect {
    theirs: Theirs {
        open: &[
            r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#,
            r#"{"event":"start","sequenceNumber":$sequence,"streamSid":$stream,"start":{"streamSid":$stream,"callSid":$call,"tracks":$tracks,"mediaFormat":{"encoding":$encoding,"sampleRate":$rate,"channels":1},"customParameters":$parameters}}"#,
        ],
        media: r#"{"event":"media","sequenceNumber":$sequence,"streamSid":$stream,"media":{"track":"$track","chunk":$chunk,"timestamp":$ms,"payload":"$payload"}}"#,
        dtmf: r#"{"event":"dtmf","sequenceNumber":$sequence,"streamSid":$stream,"dtmf":{"track":"inbound_track","digit":"$digit"}}"#,
        played: r#"{"event":"mark","sequenceNumber":$sequence,"streamSid":$stream,"mark":{"name":$name}}"#,
        stop: r#"{"event":"stop","sequenceNumber":$sequence,"streamSid":$stream,"stop":{}}"#,
        ..Theirs::USUAL
    },
    ours: Ours {
        kinds: &[("media", Request::Media), ("mark", Request::Mark)],
        clear: "",
        ..Ours::USUAL
    },
    two_way: |_| TWO_WAY,
    one_way: ONE_WAY,
    encoding_name,
    ..Dialect::like_twilio(&INFO, "KAZOO Pivot JSON")
};
