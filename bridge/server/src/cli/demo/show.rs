//! What the demo's audience sees: the transcript as it grows, the reply, and how long each took. Looks on only.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ringback_module::message::{Transcript, VadState};
use ringback_proto::Instant;
use ringback_proto::ledger::Drop;
use ringback_proto::session::{PortId, Report, Session, Summary};

use crate::call::{Seen, Watch};
use crate::cli::screen::{self, Style};
use crate::picture::Caption;

/// What the call came to.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    /// Final transcripts, on the recording's time.
    pub(super) captions: Vec<Caption>,
    /// Whether the caller heard a reply.
    pub(super) replied: bool,
    /// The ledger in one sentence.
    pub(super) account: String,
}

impl Heard {
    /// From the end of speech to its final text.
    pub(super) fn latency(&self) -> String {
        let latencies = self.captions.iter().map(|c| (c.shown - c.end).max(0.0));
        let worst = latencies.clone().fold(0.0, f64::max);
        let mean = latencies.sum::<f64>() / self.captions.len().max(1) as f64;
        format!(
            "final text {:.0} ms after the end of speech on average, {:.0} ms at worst",
            mean * 1e3,
            worst * 1e3
        )
    }
}

#[derive(Default)]
struct State {
    /// The call's first sample.
    origin: Option<Instant>,
    ready: Vec<PortId>,
    modules: usize,
    heard: Heard,
    last_final: Option<Instant>,
    reply_ended: Option<Instant>,
    /// Whether the last line on the screen is a partial transcript to be written over.
    partial: bool,
    last_partial: String,
}

/// Looks on and prints.
pub(super) struct Show {
    style: Style,
    state: Mutex<State>,
}

impl Show {
    pub(super) fn new() -> Self {
        Self { style: Style::of_stdout(), state: Mutex::new(State::default()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn line(&self, text: &str) {
        screen::line(text);
    }

    /// The caller begins to speak.
    pub(super) fn begin(&self, _now: Instant) {
        screen::line("the caller speaks:");
    }

    /// Whether every module said that it is ready.
    pub(super) fn is_listening(&self) -> bool {
        let state = self.state();
        state.modules > 0 && state.ready.len() >= state.modules
    }

    /// Whether the last words were understood and answered; `last_word` is when they were sent.
    pub(super) fn is_complete(&self, last_word: Instant) -> bool {
        let state = self.state();
        let understood =
            state.last_final.is_some_and(|at| at > last_word || state.heard.captions.len() >= 3);
        understood && state.reply_ended.is_some_and(|at| Some(at) > state.last_final)
    }

    pub(super) fn heard(&self) -> Heard {
        self.state().heard.clone()
    }

    pub(super) fn reply_began(&self, now: Instant) {
        let mut state = self.state();
        let line = format!("{}  {}", self.stamp(&state, now), self.style.dim("the reply is heard"));
        self.put(&mut state, &line, false);
    }

    pub(super) fn reply_ended(&self, now: Instant) {
        let mut state = self.state();
        state.heard.replied = true;
        state.reply_ended = Some(now);
    }

    fn stamp(&self, state: &State, now: Instant) -> String {
        let since = state.origin.map_or(0.0, |origin| (now - origin).as_secs_f64());
        self.style.dim(format!("{since:6.2} s"))
    }

    /// Prints a line; a partial one is written over by the next where that is possible.
    fn put(&self, state: &mut State, line: &str, partial: bool) {
        let over = if state.partial && self.style.is_terminal() { "\r\x1b[2K" } else { "" };
        let end = if partial && self.style.is_terminal() { "" } else { "\n" };
        screen::painted(&format!("{over}{line}{end}"));
        state.partial = partial;
    }

    fn transcript(&self, now: Instant, transcript: &Transcript) {
        let mut state = self.state();
        let stamp = self.stamp(&state, now);
        if !transcript.is_final {
            if transcript.text != state.last_partial {
                state.last_partial.clone_from(&transcript.text);
                let line =
                    format!("{stamp}  {}", self.style.dim(format!("{} ...", transcript.text)));
                self.put(&mut state, &line, true);
            }
            return;
        }
        let shown = state.origin.map_or(0.0, |origin| (now - origin).as_secs_f64());
        let seconds = |ms: u64| ms as f64 / 1_000.0;
        let caption = Caption {
            start: seconds(transcript.start_ms),
            end: seconds(transcript.end_ms),
            shown,
            text: transcript.text.clone(),
        };
        let late = (caption.shown - caption.end).max(0.0) * 1_000.0;
        let late = self.style.dim(format!("(+{late:.0} ms)"));
        let line = format!("{stamp}  {} {late}", self.style.good(&caption.text));
        state.heard.captions.push(caption);
        state.last_final = Some(now);
        self.put(&mut state, &line, false);
    }

    fn happened(&self, now: Instant, report: &Report, session: &Session) {
        match report {
            Report::Started(_) => self.state().modules = session.port_count(),
            Report::ModuleReady(port) => {
                self.state().ready.push(*port);
                let ready = format!("module {} is ready", session.port_name(*port));
                screen::painted(&format!("{}\n", self.style.dim(ready)));
            }
            Report::ModuleFailed { port, reason, .. } => {
                screen::problem(format!("module {}: {reason}", session.port_name(*port)));
            }
            Report::Transcript(_, transcript) => self.transcript(now, transcript),
            Report::Cleared { cleared, .. } => {
                let mut state = self.state();
                let heard = cleared.played_ms as f64 / 1_000.0;
                let note = format!("the caller interrupts: the reply stops after {heard:.2} s");
                let line = format!("{}  {}", self.stamp(&state, now), self.style.dim(note));
                self.put(&mut state, &line, false);
            }
            Report::Vad(_, vad) if vad.state == VadState::Speech => {}
            _ => {}
        }
        let origin = session.origin();
        let mut state = self.state();
        state.origin = state.origin.or(origin);
    }

    fn ended(&self, summary: &Summary) {
        // What an interruption drops is dropped on purpose, in playback and on its way there.
        let meant = |reason: Drop| matches!(reason, Drop::Cleared | Drop::Stale);
        let drops = summary.ledger.hops.iter().filter(|h| h.name != "playout");
        let drops = drops.flat_map(|h| &h.dropped).filter(|(reason, _)| !meant(*reason));
        let lost: u64 = drops.map(|(_, count)| count).sum();
        let balance =
            if summary.ledger.is_balanced() { "every hop adds up" } else { "IT DOES NOT ADD UP" };
        self.state().heard.account = format!(
            "{} frames in, {} out, {lost} lost on the way, {} holes; {balance}",
            summary.frames_in, summary.frames_out, summary.underruns
        );
    }
}

impl Watch for Show {
    fn see(&self, _call: &str, now: Instant, seen: &Seen<'_>) {
        match seen {
            Seen::Report { report, session } => self.happened(now, report, session),
            Seen::Ended(summary) => self.ended(summary),
            Seen::SocketFailed(error) => screen::problem(error),
            Seen::Late(_) => {}
        }
    }
}
