//! How fast another clock runs against ours, from when its timestamps arrive. An estimate only; corrects nothing.

use std::time::Duration;

use crate::Instant;

/// Arrivals are late by queues, never early: the least delay within a window tells the clock.
const WINDOW: Duration = Duration::from_secs(30);

/// Estimates the drift of a media clock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Drift {
    window: Option<Window>,
    first: Option<Window>,
    last: Option<Window>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    since: Instant,
    /// When the least delay was seen.
    at: Instant,
    /// Arrival minus media time, nanoseconds.
    delay: i128,
}

impl Drift {
    /// Sound of `media` time arrived at `now`.
    pub(super) fn observe(&mut self, now: Instant, media: Duration) {
        let delay = now.since_epoch().as_nanos() as i128 - media.as_nanos() as i128;
        let window = self.window.get_or_insert(Window { since: now, at: now, delay });
        if now - window.since >= WINDOW {
            self.first.get_or_insert(*window);
            self.last = Some(*window);
            *window = Window { since: now, at: now, delay };
        } else if delay < window.delay {
            (window.at, window.delay) = (now, delay);
        }
    }

    /// Parts per million by which the media clock is faster than ours; `None` before two windows of 30 s have passed.
    #[must_use]
    pub(super) fn ppm(&self) -> Option<f64> {
        let (first, last) = (self.first?, self.last?);
        let elapsed = (last.at - first.at).as_nanos();
        (elapsed > 0).then(|| (first.delay - last.delay) as f64 * 1e6 / elapsed as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_200_ppm_fast_is_found_under_jitter() {
        for ppm in [-200_i64, 0, 200] {
            let mut drift = Drift::default();
            let mut seed = 7_u64;
            for frame in 0..30_000_u64 {
                let media = frame * 20_000_000;
                let sent = (media as i128 * 1_000_000 / i128::from(1_000_000 + ppm)) as u64;
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let jitter = (seed >> 40) % 40_000_000;
                let now = Instant::from_epoch(Duration::from_nanos(sent + jitter));
                drift.observe(now, Duration::from_nanos(media));
            }
            let found = drift.ppm().expect("ten minutes are enough");
            assert!((found - ppm as f64).abs() < 20.0, "{ppm} ppm taken for {found}");
        }
    }
}
