//! Wakes callers when their frames are due, to within tens of microseconds: an async timer rounds up to a millisecond, which would
//! be measured as the bridge's latency. Sends nothing itself.

use std::sync::Arc;
use std::time::Duration;

use ringback_proto::Instant;
use tokio::sync::Notify;

use crate::clock::Clock;

/// Shorter waits than the system wakes up from in time are not slept through.
const SHORTEST_SLEEP: Duration = Duration::from_micros(20);

/// Who is woken, and when for the first time.
pub(super) struct Beat {
    pub(super) first: Instant,
    pub(super) wake: Arc<Notify>,
}

/// Wakes every caller at `first` and each `interval` after it, until `until`, from a thread of its own.
pub(super) fn start(clock: Clock, mut beats: Vec<Beat>, interval: Duration, until: Instant) {
    beats.sort_by_key(|beat| beat.first);
    std::thread::spawn(move || {
        for round in 0_u32.. {
            for beat in &beats {
                let due = beat.first + interval * round;
                if due >= until {
                    return;
                }
                let wait = due - clock.now();
                if wait > SHORTEST_SLEEP {
                    std::thread::sleep(wait - SHORTEST_SLEEP);
                }
                beat.wake.notify_one();
            }
        }
    });
}
