//! jambonz' `listen` and `stream` verbs, and Cognigy's Voice Gateway, which is built on it: linear PCM in binary messages, JSON for
//! control. Both ends of the wire, as a table.
//!
//! The first text is the call with its metadata and has no name; later ones are named by `type`, keys by `event`. Sound may be sent
//! back where the verb says `bidirectionalAudio` with `streaming`, at the rate that it gives, which the wire does not tell: it is taken
//! for the one that comes in unless `outbound_format` is set. Marks come back as played or, after a clear, as cleared. Nested in `dial`
//! nothing can be sent. A stereo stream is listened to: the caller on the left, the callee on the right.

use std::time::Duration;

use super::dialect::{Carriage, Dialect, Kind, Ours, Request, Theirs};
use super::freeswitch::rtp_time;
use super::{Capabilities, ClearLaw, HangupLaw, Info, PlayoutPolicy, Status, Track, linear};

static INFO: Info = Info {
    name: "jambonz",
    title: "jambonz, Cognigy Voice Gateway",
    reference: "https://docs.jambonz.org/verbs/verbs/listen",
    status: Status::Documentation,
    capabilities: TWO_WAY,
    formats: &[linear(8_000), linear(16_000), linear(24_000), linear(48_000), linear(64_000)],
};

const TWO_WAY: Capabilities = Capabilities {
    // FreeSWITCH buffers; how much of it is not told, so keep well below this.
    playout: PlayoutPolicy::Ahead { limit: Duration::from_secs(10) },
    clear: ClearLaw::ReturnsMarks,
    marks: true,
    dtmf_in: true,
    hangup: HangupLaw::Message,
    ..Capabilities::LISTEN_ONLY
};

pub(super) static DIALECT: Dialect = Dialect {
    theirs: Theirs {
        key: "type",
        other_keys: &["event"],
        kinds: &[("mark", Kind::Played), ("dtmf", Kind::Dtmf), ("playDone", Kind::Nothing)],
        first_starts: true,
        open: &[
            r#"{"sampleRate":$rate,"mixType":$heard,"callSid":$call,"from":$from,"to":$to$members}"#,
        ],
        // 200 ms.
        dtmf: r#"{"event":"dtmf","dtmf":"$digit","duration":"1600"}"#,
        played: r#"{"type":"mark","data":{"name":$name,"event":"playout"}}"#,
        released: r#"{"type":"mark","data":{"name":$name,"event":"cleared"}}"#,
        tells_parties: true,
        stream: &[],
        call: &["callSid"],
        from: &["from"],
        to: &["to"],
        encoding: &[],
        rate: &["sampleRate"],
        channels: &[],
        digit: &["dtmf", "digit"],
        duration: &["duration"],
        duration_of: rtp_time,
        mark: &["data.name"],
        ..Theirs::USUAL
    },
    ours: Ours {
        key: "type",
        kinds: &[
            ("mark", Request::Mark),
            ("killAudio", Request::Clear),
            ("disconnect", Request::Hangup),
        ],
        media: "",
        mark: r#"{"type":"mark","data":{"name":$name}}"#,
        clear: r#"{"type":"killAudio"}"#,
        hangup: r#"{"type":"disconnect"}"#,
        name: "data.name",
        stream: "",
        ..Ours::USUAL
    },
    carriage: Carriage::Binary,
    two_way: |_| TWO_WAY,
    one_way: Capabilities { dtmf_in: true, ..Capabilities::LISTEN_ONLY },
    encoding_name: |_| "L16",
    tracks: |message| {
        let stereo = message.node.text("mixType") == Some("stereo");
        let tracks: &[_] =
            if stereo { &[Track::Inbound, Track::Outbound] } else { &[Track::Inbound] };
        Ok(tracks.to_vec())
    },
    tracks_name: |tracks| if tracks.len() > 1 { "stereo" } else { "mono" },
    parameters: |message| message.pairs(&["sampleRate", "mixType", "callSid", "from", "to"]),
    subprotocols: &["audio.jambonz.org", "audio.drachtio.org"],
    ..Dialect::like_twilio(&INFO, "jambonz JSON")
};
