//! SiphonAI's bridge protocol, version 1 (as of its release 0.32): linear PCM in binary messages, JSON for control. Both ends of the
//! wire, as a table.
//!
//! A SIP daemon that dials one WebSocket for each call. It hangs up on who has sent no sound within five seconds of the start, so
//! a frame of silence is the first thing we say. Every message of ours names the call and is of a kind it knows: anything else ends
//! the call. Who put us on hold does not listen, so nothing is sent until it resumes. It drops what it has queued by itself when the
//! caller speaks, and the marks in it, unless `barge_in.mode` says `notify_only`. Closing the socket without a hang-up may make it
//! dial again with the same call name and `reconnected`. The headers of the SIP request that it was told to forward are the custom
//! parameters; beside them stand `sip_call_id`, whatever else the start message has, and `direction` if we were not called.

use std::time::Duration;

use ringback_codecs::MediaFormat;

use super::behaviour::Behaviour;
use super::dialect::{Carriage, Dialect, Idle, Kind, Ours, Request, Theirs};
use super::json::{Members, Node, Quoted, Reader};
use super::{
    Capabilities, ClearLaw, Dial, FrameLaw, HangupLaw, Info, PlayoutPolicy, ProtocolError, Status,
    Track, linear,
};

static INFO: Info = Info {
    name: "siphon-ai",
    title: "SiphonAI",
    reference: "https://github.com/thevoiceguy/siphon-ai/blob/main/docs/PROTOCOL.md",
    status: Status::Documentation,
    capabilities: TWO_WAY,
    formats: &[linear(8_000), linear(16_000)],
};

const TWO_WAY: Capabilities = Capabilities {
    // Ten frames are buffered; beyond that the oldest are dropped.
    playout: PlayoutPolicy::Paced { limit: Duration::from_millis(200) },
    frame: FrameLaw::Exact(Duration::from_millis(20)),
    clear: ClearLaw::DropsMarks,
    marks: true,
    dtmf_in: true,
    dtmf_out: true,
    hangup: HangupLaw::Message,
    ..Capabilities::LISTEN_ONLY
};

fn caller_alone(start: &Reader<'_>) -> Result<Vec<Track>, ProtocolError> {
    match start.node.number("audio.channels") {
        None | Some(1) => Ok(vec![Track::Inbound]),
        Some(_) => Err(start.error("audio.channels", "is not 1, all there is in version 1")),
    }
}

/// Members of a start message that are told in places of their own, or to nobody.
const PLACED: &[&str] =
    &["type", "version", "call_id", "seq", "from", "to", "direction", "audio", "sip"];

fn parameters(start: &Node<'_>) -> Vec<(String, String)> {
    let mut parameters = start.get("sip.headers").map(|given| given.pairs(&[])).unwrap_or_default();
    let unlike = |path, usual| start.text(path).filter(|told| Some(*told) != usual);
    let told = [
        ("sip_call_id", unlike("sip.call_id", start.text("call_id"))),
        ("direction", unlike("direction", Some("inbound"))),
    ];
    let told = told.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    parameters.extend(told);
    parameters.extend(start.pairs(PLACED));
    parameters
}

/// The headers, and what [`parameters`] tells beside them.
fn words(call: &Dial) -> Vec<(&'static str, String)> {
    let beside = |name: &str| ["sip_call_id", "direction"].contains(&name);
    let given = |name| call.parameters.iter().find(|(of, _)| of == name).map(|(_, v)| v.as_str());
    let headers: Vec<_> =
        call.parameters.iter().filter(|(name, _)| !beside(name)).cloned().collect();
    vec![
        ("headers", Members(&headers).to_string()),
        ("dialog", Quoted(given("sip_call_id").unwrap_or(&call.call)).to_string()),
        ("direction", Quoted(given("direction").unwrap_or("inbound")).to_string()),
    ]
}

pub(super) static DIALECT: Dialect = Dialect {
    theirs: Theirs {
        key: "type",
        kinds: &[
            ("start", Kind::Start),
            ("dtmf", Kind::Dtmf),
            ("mark", Kind::Played),
            ("hold", Kind::Full),
            ("resume", Kind::Writable),
            ("stop", Kind::Stop),
            ("error", Kind::Error),
            ("speech_started", Kind::Nothing),
            ("speech_stopped", Kind::Nothing),
            ("silence_detected", Kind::Nothing),
            ("dead_air_detected", Kind::Nothing),
            ("rtp_stats", Kind::Nothing),
            ("recording_started", Kind::Nothing),
            ("recording_stopped", Kind::Nothing),
            ("recording_failed", Kind::Nothing),
            ("participant_joined", Kind::Nothing),
            ("participant_left", Kind::Nothing),
        ],
        // The first of them is number 0.
        open: &[
            r#"{"type":"start","version":"1","call_id":$stream,"seq":0,"from":$from,"to":$to,"direction":$direction,"audio":{"encoding":$encoding,"sample_rate":$rate,"channels":1,"frame_ms":20},"sip":{"call_id":$dialog,"headers":$headers}}"#,
        ],
        dtmf: r#"{"type":"dtmf","call_id":$stream,"seq":$sequence,"digit":"$digit","duration_ms":120,"method":"rfc2833"}"#,
        played: r#"{"type":"mark","call_id":$stream,"seq":$sequence,"name":$name}"#,
        full: r#"{"type":"hold","call_id":$stream,"seq":$sequence,"direction":"sendonly"}"#,
        writable: r#"{"type":"resume","call_id":$stream,"seq":$sequence}"#,
        stop: r#"{"type":"stop","call_id":$stream,"seq":$sequence,"reason":"caller_hangup"}"#,
        stream: &["call_id"],
        call: &["call_id"],
        from: &["from"],
        to: &["to"],
        encoding: &["audio.encoding"],
        rate: &["audio.sample_rate"],
        channels: &["audio.channels"],
        digit: &["digit"],
        duration: &["duration_ms"],
        mark: &["name"],
        error: &["message", "code"],
        words,
        ..Theirs::USUAL
    },
    ours: Ours {
        key: "type",
        kinds: &[
            ("mark", Request::Mark),
            ("clear", Request::Clear),
            ("send_dtmf", Request::Dtmf),
            ("hangup", Request::Hangup),
        ],
        media: "",
        mark: r#"{"type":"mark","call_id":$stream,"name":$name}"#,
        clear: r#"{"type":"clear","call_id":$stream}"#,
        dtmf: r#"{"type":"send_dtmf","call_id":$stream,"digit":"$digit","duration_ms":200}"#,
        hangup: r#"{"type":"hangup","call_id":$stream,"cause":"normal"}"#,
        name: "name",
        digit: "digit",
        stream: "call_id",
        ..Ours::USUAL
    },
    carriage: Carriage::Binary,
    two_way: |_| TWO_WAY,
    one_way: Capabilities { dtmf_in: true, ..Capabilities::LISTEN_ONLY },
    encoding_name: |_: MediaFormat| "pcm16le",
    tracks: caller_alone,
    parameters,
    subprotocols: &["siphon-ai.v1"],
    idle: Idle::Once,
    behaviours: &[
        Behaviour::full("hold", "a telephone that holds the call does not listen"),
        Behaviour::redial("ws_reconnect_enabled"),
    ],
    ..Dialect::like_twilio(&INFO, "SiphonAI JSON")
};
