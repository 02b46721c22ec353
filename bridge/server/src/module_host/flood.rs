//! How much a module may send: a bucket of sound that empties as it is played, and one of messages. Told the time; waits for nobody.

use std::time::Duration;

/// A module plays in real time; a tenth more forgives its clock.
const PACE_PERCENT: u64 = 110;
/// A module that had this much sound dropped in one go has been told often enough.
const PATIENCE: Duration = Duration::from_secs(300);
/// Messages a module may send in a burst, and per second.
const MESSAGES: f64 = 500.0;

/// What is to be done with a piece of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Let it through.
    Pass,
    /// Leave it out.
    Drop,
    /// Leave it out, and its module too.
    Kill,
}

/// Sound queued with the bridge, as far as the host can tell: what was let through less what must have been played by now.
#[derive(Debug)]
pub(super) struct SoundBucket {
    rate: u32,
    /// Samples that may be queued.
    room: u64,
    queued: u64,
    /// Dropped since the last piece that was let through.
    dropped: u64,
    at: Duration,
}

impl SoundBucket {
    /// For sound at `rate`, of which `out_ms` may be queued.
    pub(super) fn new(rate: u32, out_ms: u64, now: Duration) -> Self {
        Self { rate, room: samples(rate, out_ms), queued: 0, dropped: 0, at: now }
    }

    /// Judges `len` samples and counts them.
    pub(super) fn take(&mut self, len: u64, now: Duration) -> Verdict {
        let elapsed_ms = now.saturating_sub(self.at).as_millis() as u64;
        let played = samples(self.rate, elapsed_ms.saturating_mul(PACE_PERCENT) / 100);
        if played > 0 {
            self.queued = self.queued.saturating_sub(played);
            // What is left of a millisecond counts the next time.
            self.at += Duration::from_millis(elapsed_ms);
        }
        if self.queued + len <= self.room {
            self.queued += len;
            self.dropped = 0;
            return Verdict::Pass;
        }
        self.dropped += len;
        let patience = samples(self.rate, PATIENCE.as_millis() as u64);
        if self.dropped > patience { Verdict::Kill } else { Verdict::Drop }
    }

    /// Sound the caller will never hear is not queued any more.
    pub(super) fn discarded(&mut self, ms: u64) {
        self.queued = self.queued.saturating_sub(samples(self.rate, ms));
    }

    /// New credit.
    pub(super) fn set_room(&mut self, out_ms: u64) {
        self.room = samples(self.rate, out_ms);
    }
}

fn samples(rate: u32, ms: u64) -> u64 {
    (u128::from(rate) * u128::from(ms) / 1_000).min(u128::from(u64::MAX / 4)) as u64
}

/// Messages that may still be sent now.
#[derive(Debug)]
pub(super) struct MessageBucket {
    left: f64,
    at: Duration,
}

impl MessageBucket {
    pub(super) fn new(now: Duration) -> Self {
        Self { left: MESSAGES, at: now }
    }

    /// How long to leave the module's output unread before this message may pass.
    pub(super) fn take(&mut self, now: Duration) -> Duration {
        let earned = now.saturating_sub(self.at).as_secs_f64() * MESSAGES;
        self.left = (self.left + earned).min(MESSAGES) - 1.0;
        self.at = now;
        Duration::from_secs_f64((-self.left / MESSAGES).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_within_the_credit_passes() {
        let mut bucket = SoundBucket::new(8_000, 1_000, ms(0));
        assert_eq!(bucket.take(8_000, ms(0)), Verdict::Pass);
        assert_eq!(bucket.take(1, ms(0)), Verdict::Drop);
        assert_eq!(bucket.take(800, ms(99)), Verdict::Pass, "a tenth over real time is played");
    }

    #[test]
    fn real_time_passes_for_ever_however_it_is_cut() {
        for step in [1, 20, 333] {
            let mut bucket = SoundBucket::new(8_000, 100.max(step), ms(0));
            for n in 0..20_000 {
                assert_eq!(bucket.take(8 * step, ms(n * step)), Verdict::Pass, "{n} of {step} ms");
            }
        }
    }

    #[test]
    fn what_is_cleared_frees_its_credit() {
        let mut bucket = SoundBucket::new(8_000, 1_000, ms(0));
        bucket.take(8_000, ms(0));
        bucket.discarded(500);
        assert_eq!(bucket.take(4_000, ms(0)), Verdict::Pass);
        bucket.set_room(2_000);
        assert_eq!(bucket.take(8_000, ms(0)), Verdict::Pass);
        bucket.discarded(u64::MAX);
        assert_eq!(bucket.take(16_000, ms(0)), Verdict::Pass);
    }

    #[test]
    fn patience_ends() {
        let mut bucket = SoundBucket::new(8_000, 1_000, ms(0));
        bucket.take(8_000, ms(0));
        for _ in 0..300 {
            assert_eq!(bucket.take(8_000, ms(0)), Verdict::Drop);
        }
        assert_eq!(bucket.take(8_000, ms(0)), Verdict::Kill);
        assert_eq!(bucket.take(8_000, ms(10_000)), Verdict::Pass, "counted anew");
        assert_eq!(bucket.take(8_000, ms(10_000)), Verdict::Drop);
    }

    #[test]
    fn messages_are_held_to_their_rate() {
        let mut bucket = MessageBucket::new(ms(0));
        for _ in 0..500 {
            assert_eq!(bucket.take(ms(0)), Duration::ZERO);
        }
        assert_eq!(bucket.take(ms(0)), ms(2));
        assert_eq!(bucket.take(ms(0)), ms(4));
        assert_eq!(bucket.take(ms(1_000)), Duration::ZERO);
    }
}
