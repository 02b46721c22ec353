//! When the caller's speech clears playback: after it has lasted long enough. Decides; the session acts.

use std::time::Duration;

use ringback_module::message::{Vad, VadState};

use crate::Instant;

/// Barge-in by detected speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BargeIn {
    /// Speech shorter than this is a cough or a backchannel.
    pub min_speech: Duration,
}

/// Speech that began longer ago than this, and is told only now, interrupts nothing.
const STALE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    policy: Option<BargeIn>,
    due: Option<Instant>,
}

impl State {
    pub(super) fn new(policy: Option<BargeIn>) -> Self {
        Self { policy, due: None }
    }

    /// A detector saw speech begin or end on the caller's track; `lasted` is how long ago it began.
    pub(super) fn handle_vad(&mut self, now: Instant, vad: &Vad, lasted: Duration) {
        let Some(policy) = self.policy else { return };
        self.due = match vad.state {
            // Speech of long ago is being replayed to a detector that came late; its end follows at once.
            VadState::Speech if lasted > STALE => None,
            VadState::Speech => Some(now + policy.min_speech.saturating_sub(lasted)),
            VadState::Silence => None,
        };
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Whether to clear now; says so once per stretch of speech.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|due| *due <= now).is_some()
    }
}
