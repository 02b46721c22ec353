//! Signs of life of a socket: when to ping, when to give the peer up, and how many pings are too many. Sends nothing itself.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use ringback_proto::Instant;
use tokio::time::{Interval, MissedTickBehavior};

use super::SocketError;
use crate::clock::Clock;

/// A keep-alive interval is cut into so many ticks; hearing something costs no look at the clock, only a flag per tick.
const TICKS_PER_PING: u32 = 4;
/// Two pings unanswered, and one tick of grace for the second.
const TICKS_UNTIL_DEAD: u32 = 2 * TICKS_PER_PING + 1;

/// What a tick brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing to do.
    Quiet,
    /// A ping is due.
    Ping,
    /// The peer is gone.
    Dead {
        /// It was heard before that.
        silent_for: Duration,
    },
}

/// Counts ticks without a sign of life.
#[derive(Debug)]
pub(super) struct Heartbeat {
    timer: Option<Interval>,
    heard: bool,
    silent_ticks: u32,
    ticks: u32,
}

impl Heartbeat {
    pub(super) fn new(keepalive: Option<Duration>) -> Self {
        let timer = keepalive.map(|interval| {
            let mut timer = tokio::time::interval(interval / TICKS_PER_PING);
            // A process that was stopped for a while must not count the time it did not listen as the peer's silence.
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
            timer.reset();
            timer
        });
        Self { timer, heard: false, silent_ticks: 0, ticks: 0 }
    }

    pub(super) fn heard(&mut self) {
        self.heard = true;
    }

    /// Waits for the next tick; for ever if there is no keep-alive.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Beat> {
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        ready!(timer.poll_tick(cx));
        let tick = timer.period();
        Poll::Ready(self.count(tick))
    }

    fn count(&mut self, tick: Duration) -> Beat {
        self.ticks = self.ticks.wrapping_add(1);
        self.silent_ticks = if std::mem::take(&mut self.heard) { 0 } else { self.silent_ticks + 1 };
        if self.silent_ticks >= TICKS_UNTIL_DEAD {
            Beat::Dead { silent_for: tick * self.silent_ticks }
        } else if self.ticks.is_multiple_of(TICKS_PER_PING) {
            Beat::Ping
        } else {
            Beat::Quiet
        }
    }
}

/// Control frames a peer may send within a second: far above any keep-alive, far below what costs anything.
const CONTROL_FRAMES_PER_SECOND: u32 = 50;

/// Ends a stream whose pings or pongs come without measure; each ping makes us write an answer.
#[derive(Debug)]
pub(super) struct ControlBudget {
    clock: Clock,
    second_began: Instant,
    spent: u32,
}

impl ControlBudget {
    pub(super) fn new() -> Self {
        Self { clock: Clock::start(), second_began: Instant::ZERO, spent: 0 }
    }

    pub(super) fn spend(&mut self) -> Result<(), SocketError> {
        let now = self.clock.now();
        if now - self.second_began >= Duration::from_secs(1) {
            self.second_began = now;
            self.spent = 0;
        }
        self.spent += 1;
        if self.spent > CONTROL_FRAMES_PER_SECOND {
            return Err(SocketError::ControlFlood { limit: CONTROL_FRAMES_PER_SECOND });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts ticks of a second; `heard` tells whether something came before the tick of that number (from 1).
    fn beats(ticks: u32, heard: impl Fn(u32) -> bool) -> Vec<(u32, Beat)> {
        let mut heartbeat = Heartbeat::new(None);
        (1..=ticks)
            .map(|tick| {
                heartbeat.heard = heard(tick);
                (tick, heartbeat.count(Duration::from_secs(1)))
            })
            .filter(|(_, beat)| *beat != Beat::Quiet)
            .collect()
    }

    #[test]
    fn two_unanswered_pings_and_a_grace_are_the_end() {
        let dead = (9, Beat::Dead { silent_for: Duration::from_secs(9) });
        assert_eq!(beats(9, |_| false), [(4, Beat::Ping), (8, Beat::Ping), dead]);
    }

    #[test]
    fn any_sign_of_life_counts_from_the_start_again() {
        let beats = beats(200, |tick| tick % 9 == 0);
        assert_eq!(beats.len(), 50);
        assert!(beats.iter().all(|(_, beat)| *beat == Beat::Ping));
    }
}
