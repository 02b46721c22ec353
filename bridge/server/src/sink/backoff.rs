//! How long to wait before something is tried again: longer each time, and never all at once. Waits for whoever asks.

use std::time::Duration;

use super::Intake;
use crate::telemetry::SinkReport;

/// The first pause, more or less.
const FIRST: Duration = Duration::from_secs(1);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(60);

/// The pause after so many failures in a row: doubled with each, and half of it left to chance, so that those who failed together
/// do not come again together.
#[must_use]
pub(super) fn pause(failures: u32) -> Duration {
    let mut chance = [0; 4];
    // Without chance all wait longest, which is right as well.
    let chance = match getrandom::fill(&mut chance) {
        Ok(()) => u32::from_le_bytes(chance),
        Err(_) => u32::MAX,
    };
    let longest = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    longest / 2 + (longest / 2).mul_f64(f64::from(chance) / f64::from(u32::MAX))
}

/// Failures in a row of one who does one thing at a time.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It worked.
    pub(super) fn worked(&mut self, intake: &Intake) {
        if std::mem::take(&mut self.failures) > 0 {
            intake.tell(SinkReport::Recovered);
        }
    }

    /// It failed: tells so, and waits.
    pub(super) async fn wait(&mut self, intake: &Intake, reason: &str) {
        self.failures += 1;
        let (again, is_new) = (pause(self.failures), self.failures == 1);
        intake.retried();
        intake.tell(SinkReport::Failing { reason, again, is_new });
        tokio::time::sleep(again).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_leave_half_to_chance() {
        for (failures, longest) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (1_000, 60)] {
            let longest = Duration::from_secs(longest);
            let pauses: Vec<_> = (0..64).map(|_| pause(failures)).collect();
            for pause in &pauses {
                assert!((longest / 2..=longest).contains(pause), "{failures}: {pause:?}");
            }
            assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{failures}: no chance in it");
        }
    }
}
