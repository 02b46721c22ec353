//! Tells latency from jitter in a live stream: backlog that never drains is latency. Decides how much to trim, trims nothing.

use std::time::Duration;

use super::playout::PlayoutLimits;
use crate::Instant;

/// Backlog that stayed for this long is not jitter.
const WINDOW: Duration = Duration::from_secs(1);

/// Backlog above the target that is left alone: cutting sound for less would be heard, the latency would not.
const SLACK: Duration = Duration::from_millis(60);

/// Watches the backlog of a live stream.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Backlog {
    window: Option<(Instant, Duration)>,
    owed: Duration,
}

impl Backlog {
    /// Sound was pushed; `before` and `after` are the backlogs around it. Says how much to trim from what waits.
    pub(crate) fn observe(
        &mut self,
        now: Instant,
        before: Duration,
        after: Duration,
        limits: &PlayoutLimits,
    ) -> Duration {
        let (since, least) = self.window.get_or_insert((now, before));
        *least = before.min(*least);
        if after > limits.live_max {
            self.owed = after.saturating_sub(limits.live_target);
            self.window = None;
        } else if now - *since >= WINDOW {
            if *least > limits.live_target + SLACK {
                self.owed = least.saturating_sub(limits.live_target);
            }
            self.window = None;
        }
        self.owed
    }

    /// So much was trimmed; the rest of what is owed is taken from what comes next.
    pub(crate) fn trimmed(&mut self, time: Duration) {
        self.owed = self.owed.saturating_sub(time);
    }
}
