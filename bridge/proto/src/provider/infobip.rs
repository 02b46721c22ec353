//! Infobip's WEBSOCKET endpoints: Vonage's wire with less on it. Both ends of it, as a table.
//!
//! Nothing is queued there: no clear, no marks, and what is sent is heard at once, so playback is paced to exact frames. Infobip hangs
//! up on a socket that is quiet; while modules say nothing, a frame of silence answers every frame that comes. The custom data of the
//! dialog arrives flattened in the first message and is all that is told about the call; closing is the end.

use std::time::Duration;

use super::dialect::{Dialect, Idle, Kind, Ours, Theirs};
use super::{Capabilities, FrameLaw, Info, PlayoutPolicy, Status, vonage};

static INFO: Info = Info {
    name: "infobip",
    title: "Infobip Calls API",
    reference: "https://www.infobip.com/docs/voice-and-video/calls/media-stream",
    status: Status::Documentation,
    capabilities: TWO_WAY,
    formats: vonage::FORMATS,
};

const TWO_WAY: Capabilities = Capabilities {
    // Nothing is told of a queue; what a network delivers at once after a stall must fit somewhere.
    playout: PlayoutPolicy::Paced { limit: Duration::from_secs(10) },
    frame: FrameLaw::Exact(Duration::from_millis(20)),
    dtmf_in: true,
    ..Capabilities::LISTEN_ONLY
};

pub(super) static DIALECT: Dialect = Dialect {
    theirs: Theirs {
        kinds: &[("websocket:connected", Kind::Start), ("websocket:dtmf", Kind::Dtmf)],
        dtmf: r#"{"event":"websocket:dtmf","digit":"$digit","duration":250}"#,
        played: "",
        cleared: "",
        call_parameter: Some("call"),
        ..Theirs::VONAGE
    },
    ours: Ours { kinds: &[], mark: "", clear: "", ..Ours::VONAGE },
    two_way: |_| TWO_WAY,
    idle: Idle::Silence,
    ..Dialect::like_vonage(&INFO, "Infobip JSON")
};
