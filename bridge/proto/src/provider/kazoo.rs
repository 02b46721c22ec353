//! 2600Hz KAZOO Pivot `<Stream>`: Twilio's JSON, but linear PCM inside unless asked otherwise. Both ends of the wire, as a table.
//!
//! `<Connect><Stream>` is two-way, `<Start><Stream>` only listens and reports keys all the same; nothing on the wire tells them
//! apart, so set [`super::Options::one_way`] for the latter. Every message but the first counts, names the stream and has an
//! object of its own name. Rates are multiples of 8 kHz (`sampleRate`), 24 kHz for `audioCodec="pcm16"`, 8 kHz if nothing is said; the
//! order of octets is not documented and taken to be little-endian. The query of the URL is dropped, custom parameters are told in
//! the start. `audioMix="stereo"` is refused: a message of this wire is of one track.
//!
//! `<Start><Stream rawAudio="true">` is another wire and not understood here: octets, and never a message, so that neither the call
//! nor the caller nor the format nor the end has a name, no URL can tell them, and nothing may be sent. It saves a third of the octets.

use std::time::Duration;

use ringback_codecs::{Encoding, MediaFormat, SampleRate};

use super::dialect::{Dialect, Ours, Query, Request, Theirs};
use super::{Capabilities, Info, PlayoutPolicy, Status, linear, linear_at};

static INFO: Info = Info {
    name: "kazoo",
    title: "2600Hz KAZOO Pivot",
    reference: "https://docs.2600hz.com/developers/pivot/streams/pivot-stream-web-socket-messages",
    status: Status::Documentation,
    capabilities: TWO_WAY,
    formats: &[
        linear_at(SampleRate::HZ_8000),
        linear_at(SampleRate::HZ_16000),
        linear(24_000),
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
    query: Query::Dropped,
    two_way: |_| TWO_WAY,
    one_way: ONE_WAY,
    encoding_name,
    ..Dialect::like_twilio(&INFO, "KAZOO Pivot JSON")
};
