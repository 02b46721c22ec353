//! FreeSWITCH's mod_audio_fork (drachtio), as a table; `freeswitch` makes both ends of it.
//!
//! The module discards binary messages. Sound goes back as `playAudio`: it writes every one to a file and tells the dialplan's
//! application, which has to play it; where it does, say `playback=yes` in the URL. `killAudio` ends what is being played and what is
//! queued. `disconnect` is an event for the application too, so we close after it. What modules find goes out as `json`, an event as
//! well. Where the stream is ended by `graceful-shutdown`, an empty binary message comes and FreeSWITCH waits for us to close.

use std::time::Duration;

use super::freeswitch::Module;
use super::{Capabilities, ClearLaw, FrameLaw, HangupLaw, Info, PlayoutPolicy, Status, linear};

static INFO: Info = Info {
    name: "freeswitch-fork",
    title: "FreeSWITCH mod_audio_fork",
    reference: "https://github.com/drachtio/drachtio-freeswitch-modules",
    status: Status::Documentation,
    capabilities: PLAYS,
    formats: &[linear(8_000), linear(16_000), linear(24_000), linear(32_000), linear(48_000)],
};

/// With an application that plays the files it is told of.
const PLAYS: Capabilities = Capabilities {
    // How many files may wait is the application's affair.
    playout: PlayoutPolicy::Ahead { limit: Duration::from_secs(60) },
    // A file each: the fewer there are, the fewer gaps are between them.
    frame: FrameLaw::MultipleOf(Duration::from_millis(500)),
    clear: ClearLaw::DropsMarks,
    hangup: HangupLaw::Message,
    results: true,
    ..Capabilities::LISTEN_ONLY
};

pub(super) static MODULE: Module = Module {
    info: &INFO,
    subprotocol: Some("audio.drachtio.org"),
    sound: [
        "playAudio",
        "data.audioContent",
        r#"{"type":"playAudio","data":{"audioContentType":"raw","sampleRate":$rate,"audioContent":"$payload"}}"#,
    ],
    clear: "killAudio",
    hangup: "disconnect",
    result: "json",
    empty_is_end: true,
};
