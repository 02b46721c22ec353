//! Bounds how fast a peer may send, below the WebSocket layer: floods of empty fragments and the like never become messages that
//! anybody above could count. Looks at amounts only.

use ringback_proto::Instant;

use super::SocketError;
use crate::clock::Clock;

/// Octets a second; the widest stream, 48 kHz L16 in base64, needs a quarter of it.
const RATE: u64 = 512 * 1024;
/// What a message counts as at least: what a small frame of sound is. So there can be 3,276 a second of the smallest.
const LEAST: u64 = 160;
/// Octets at once, usually: two seconds' worth, for a peer that makes up for a stall.
pub(super) const BURST: u64 = 1024 * 1024;

/// What a peer may still send: [`RATE`] octets a second and so many at once. Looks at the clock only when that is used up.
#[derive(Debug)]
pub(super) struct Meter {
    clock: Clock,
    burst: u64,
    left: u64,
    filled: Instant,
}

impl Meter {
    pub(super) fn new(burst: u64) -> Self {
        Self { clock: Clock::start(), burst, left: burst, filled: Instant::ZERO }
    }

    /// A message has come whose octets were spent when they were read.
    pub(super) fn spend_on_message(&mut self, octets: u64) -> Result<(), SocketError> {
        if octets < LEAST { self.spend(LEAST - octets) } else { Ok(()) }
    }

    pub(super) fn spend(&mut self, octets: u64) -> Result<(), SocketError> {
        if octets > self.left {
            let now = self.clock.now();
            let earned = (now - self.filled).as_micros() as u64 * RATE / 1_000_000;
            self.left = (self.left + earned).min(self.burst);
            self.filled = now;
        }
        match self.left.checked_sub(octets) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(SocketError::Flood { limit: RATE }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_steady_stream_and_a_burst_pass_and_a_flood_does_not() {
        const PIECE: u64 = 32 * 1024;
        let mut meter = Meter::new(BURST);
        for _ in 0..100 {
            meter.spend(PIECE).expect("within the rate");
            tokio::time::advance(Duration::from_millis(63)).await;
        }
        let passed = (0..1_000).take_while(|_| meter.spend(PIECE).is_ok()).count() as u64 * PIECE;
        assert!((900 * 1024..=1100 * 1024).contains(&passed), "{passed} octets at once");
    }

    #[tokio::test(start_paused = true)]
    async fn the_smallest_messages_count_as_much_as_frames_of_sound() {
        let mut meter = Meter::new(BURST);
        let burst = (0..100_000).take_while(|_| meter.spend_on_message(1).is_ok()).count();
        assert_eq!(burst as u64, BURST / (LEAST - 1));
        for _ in 0..30 {
            tokio::time::advance(Duration::from_secs(1)).await;
            (0..3_000).for_each(|_| meter.spend_on_message(1).expect("within the rate"));
        }
        for _ in 0..100_000 {
            meter.spend_on_message(LEAST).expect("large ones were counted when they were read");
        }
    }
}
