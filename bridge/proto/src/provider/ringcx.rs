//! RingCX call streaming over WebSocket, the way it was before gRPC: mu-law in base64, to be listened to only. Both ends of the
//! wire, as a table.
//!
//! Every stream has two tracks. RingCX calls them perspectives: `Participant` is the agent, `Conference` is everybody else, so
//! that is the caller. Nothing is counted and nothing timed, there are no keys, and nothing can be sent.

use ringback_codecs::MediaFormat;

use super::dialect::{Carriage, Dialect, Kind, MediaPaths, Ours, Theirs};
use super::{Capabilities, Info, Status, Track};

static INFO: Info = Info {
    name: "ringcx",
    title: "RingCX call streaming (WebSocket)",
    reference: "https://developers.ringcentral.com/engage/voice/guide/workforce/call-streaming/getting-started",
    status: Status::Documentation,
    capabilities: Capabilities::LISTEN_ONLY,
    formats: &[MediaFormat::PCMU_8000],
};

pub(super) static DIALECT: Dialect = Dialect {
    theirs: Theirs {
        kinds: &[
            ("Connected", Kind::Nothing),
            ("Start", Kind::Start),
            ("Media", Kind::Media),
            ("Stop", Kind::Stop),
        ],
        open: &[
            r#"{"event":"Connected"}"#,
            r#"{"event":"Start","metadata":{"callId":$call$members}}"#,
        ],
        media: r#"{"event":"Media","perspective":"$track","media":"$payload"}"#,
        stop: r#"{"event":"Stop"}"#,
        stream: &[],
        call: &["metadata.callId"],
        from: &["metadata.from"],
        to: &["metadata.to"],
        encoding: &[],
        rate: &[],
        channels: &[],
        ..Theirs::USUAL
    },
    ours: Ours { kinds: &[], media: "", mark: "", clear: "", stream: "", ..Ours::USUAL },
    carriage: Carriage::Base64(MediaPaths {
        kind: "Media",
        track: "perspective",
        chunk: "",
        timestamp: "",
        payload: "media",
        names: &[("Conference", Track::Inbound), ("Participant", Track::Outbound)],
    }),
    fixed_tracks: &[Track::Inbound, Track::Outbound],
    parameters: |message| {
        message.get("metadata").map(|given| given.pairs(&["callId"])).unwrap_or_default()
    },
    ..Dialect::like_twilio(&INFO, "RingCX JSON")
};
