//! FreeSWITCH's mod_audio_stream (amigniter), as a table; `freeswitch` makes both ends of it.
//!
//! Sound goes back as `streamAudio`. The community's edition writes every one to a file and tells the dialplan's application; the
//! commercial one and a fork play it themselves, a packet at a time. The wire does not tell which it is: say `playback=yes` in the URL
//! where what is sent gets played. There is no clear, no mark, no key and no word for hanging up. Any other JSON becomes an event of
//! FreeSWITCH, so what modules find is sent as it is.

use std::time::Duration;

use super::freeswitch::Module;
use super::{Capabilities, FrameLaw, Info, PlayoutPolicy, Status, linear};

static INFO: Info = Info {
    name: "freeswitch-stream",
    title: "FreeSWITCH mod_audio_stream",
    reference: "https://github.com/amigniter/mod_audio_stream",
    status: Status::Documentation,
    capabilities: PLAYS,
    formats: &[linear(8_000), linear(16_000)],
};

/// With a build that plays what it is sent.
const PLAYS: Capabilities = Capabilities {
    // Nothing is told of a queue beyond one packet; what does not fit there waits on the socket.
    playout: PlayoutPolicy::Paced { limit: Duration::from_secs(10) },
    frame: FrameLaw::MultipleOf(Duration::from_millis(20)),
    results: true,
    ..Capabilities::LISTEN_ONLY
};

pub(super) static MODULE: Module = Module {
    info: &INFO,
    subprotocol: None,
    sound: [
        "streamAudio",
        "data.audioData",
        r#"{"type":"streamAudio","data":{"audioDataType":"raw","sampleRate":$rate,"audioData":"$payload"}}"#,
    ],
    clear: "",
    hangup: "",
    result: "",
    empty_is_end: false,
};
