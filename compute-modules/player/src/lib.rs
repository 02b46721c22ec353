//! The `player` compute module: plays a WAV file into the call. The file is read whole when the session starts.
//!
//! ```toml
//! config = { path = "greeting.wav", after_ms = 500, loop = false, on = "start", barge_in = true, hangup = false }
//! ```
//!
//! All but `path` may be absent. `on = "transcript"` plays after each final transcript of another module instead of at the
//! start; `barge_in` stops when the caller speaks; `hangup` ends the call when the file was heard to its end. Playback is
//! reported as event `player.finished` with `status` `played` or `cleared`.

mod clip;

use clip::Clip;
use ringback_module::message::{
    Accept, AcceptIn, AcceptOut, Framing, FromModule, Hangup, HangupAfter, MarkReport, MarkStatus,
    Pace, Ready, Reject, SampleEncoding, Start, ToModule, Vad, VadState,
};
use ringback_module::{Input, Module, ModuleError, Outputs};
use serde::Deserialize;
use serde_json::json;

/// Sound is handed over this far ahead of the call's clock: enough to ride out a stall, little to throw away on barge-in.
const LEAD_MS: u64 = 1_000;
/// How often the clock is acknowledged; what the caller said before is of no use after a crash.
const ACK_MS: u64 = 500;
/// Named in the report that all was heard.
const MARK: &str = "player-done";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    path: std::path::PathBuf,
    #[serde(default)]
    after_ms: u64,
    #[serde(default, rename = "loop")]
    repeat: bool,
    #[serde(default)]
    on: On,
    #[serde(default)]
    barge_in: bool,
    #[serde(default)]
    hangup: bool,
}

/// What starts playback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum On {
    #[default]
    Start,
    Transcript,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing to do until asked.
    Idle,
    /// Begins when the call's clock gets there.
    Due { at_ms: u64 },
    /// Samples of the clip before `next` were handed over, paced from `since_ms` on.
    Playing { since_ms: u64, next: u64 },
    /// All is handed over; waits for the mark.
    Draining,
    /// Was interrupted; waits to hear how much of it was heard.
    Clearing,
}

/// Plays one file to one session, in pieces of at most a second driven by the caller's sound.
#[derive(Debug)]
pub struct Player {
    config: Config,
    clip: Clip,
    state: State,
    now_ms: u64,
    acked_ms: u64,
}

impl Default for Player {
    fn default() -> Self {
        Self::new()
    }
}

impl Player {
    /// A player for one session; what to play is in the session's configuration.
    #[must_use]
    pub fn new() -> Self {
        Self {
            config: Config::default(),
            clip: Clip::default(),
            state: State::Idle,
            now_ms: 0,
            acked_ms: 0,
        }
    }

    /// What to do first. A session that goes on after a crash goes on where the clock says the file is by now.
    fn first_state(&self, start: &Start) -> State {
        let at_ms = self.config.after_ms;
        let resumed_ms = start.resume.as_ref().map_or(0, |resume| resume.from_ms);
        match self.config.on {
            On::Transcript => State::Idle,
            On::Start if resumed_ms > at_ms => {
                let next = self.clip.samples_in(resumed_ms - at_ms);
                State::Playing { since_ms: at_ms, next }
            }
            On::Start => State::Due { at_ms },
        }
    }

    fn advance(&mut self, out: &mut Outputs) {
        if let State::Due { at_ms } = self.state
            && self.now_ms >= at_ms
        {
            self.state = State::Playing { since_ms: self.now_ms, next: 0 };
        }
        let State::Playing { since_ms, next } = &mut self.state else {
            return;
        };
        let target = self.clip.samples_in(self.now_ms.saturating_sub(*since_ms) + LEAD_MS);
        let piece = target.saturating_sub(*next).min(self.clip.samples_in(1_000));
        let played = self.clip.play(*next, piece, self.config.repeat, out);
        *next += played;
        if played < piece {
            out.end_of_audio();
            out.mark(MARK);
            self.state = State::Draining;
        }
    }

    fn message(&mut self, message: &ToModule, out: &mut Outputs) {
        let busy = matches!(self.state, State::Playing { .. } | State::Draining);
        match message {
            ToModule::Text(text)
                if text.is_final
                    && self.config.on == On::Transcript
                    && self.state == State::Idle =>
            {
                self.state = State::Due { at_ms: self.now_ms + self.config.after_ms };
            }
            ToModule::Vad(Vad { state: VadState::Speech, track: 0, .. })
                if self.config.barge_in && busy =>
            {
                self.state = State::Clearing;
                out.clear();
            }
            ToModule::Cleared(cleared) if busy || self.state == State::Clearing => {
                self.state = State::Idle;
                finished("cleared", cleared.played_ms, out);
            }
            ToModule::Mark(MarkReport { name, status: MarkStatus::Played, played_ms, .. })
                if name == MARK && self.state == State::Draining =>
            {
                self.state = State::Idle;
                finished("played", *played_ms, out);
                if self.config.hangup {
                    let reason = format!("{} was played", self.config.path.display());
                    out.hangup(Hangup { after: HangupAfter::Now, reason, data: None });
                }
            }
            _ => {}
        }
    }
}

fn finished(status: &str, played_ms: u64, out: &mut Outputs) {
    out.event("player.finished", json!({"status": status, "played_ms": played_ms}));
}

impl Module for Player {
    fn start(&mut self, start: &Start) -> Result<Ready, Reject> {
        self.config = start.parse_config()?;
        if self.config.path.as_os_str().is_empty() {
            return Err(Reject::bad_config("`path` is missing: name a WAV file"));
        }
        if start.offer.output.is_empty() {
            return Err(Reject::unsupported_format(
                "a player must speak, but `out` is not offered",
            ));
        }
        self.clip = Clip::read(&self.config.path).map_err(Reject::bad_config)?;
        self.state = self.first_state(start);
        let mut want = Vec::new();
        if self.config.barge_in {
            want.push("vad".to_owned());
        }
        if self.config.on == On::Transcript {
            want.push("text".to_owned());
        }
        Ok(Ready {
            session: start.session.clone(),
            accept: Accept {
                // Heard only as a clock.
                input: Some(AcceptIn::pcm(start.native_rate())),
                output: Some(AcceptOut {
                    encoding: SampleEncoding::PcmS16le,
                    rate: self.clip.rate(),
                    pace: Pace::Clip,
                }),
                tracks: vec![0],
                framing: Framing::Raw,
            },
            want,
            ..Ready::default()
        })
    }

    fn process(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), ModuleError> {
        match input {
            Input::Audio(frame) => {
                self.now_ms = frame.at_ms();
                self.advance(out);
                if self.now_ms >= self.acked_ms + ACK_MS {
                    self.acked_ms = self.now_ms;
                    out.push(FromModule::Ack { in_ms: self.now_ms, lag_ms: None });
                }
            }
            Input::Message(message) => self.message(message, out),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
