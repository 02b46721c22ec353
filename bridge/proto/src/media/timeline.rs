//! One track's payloads in order: reorders, drops duplicates, finds gaps, by what the provider counts. Decodes nothing.
//!
//! It stands in front of the decoder, because decoders with memory (G.722, Opus) need their payloads in order and a loss told
//! before what follows it. Time is counted in samples, never in messages: a provider may send 20, 30 or 100 ms at a time.

use std::time::Duration;

use ringback_codecs::SampleRate;

use super::drift::Drift;
use crate::Instant;

/// A sequence this far ahead or behind is a restart of the counter, not loss.
const RESTART: u64 = 500;
/// A gap longer than this is not filled: a timestamp so far ahead is a jump of the clock, and of loss no more is made up.
const MAX_GAP: Duration = Duration::from_secs(10);

/// How a provider's order is repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimelinePolicy {
    /// Payloads held back to wait for one that is missing.
    pub window: usize,
    /// How long a payload is held back.
    pub patience: Duration,
    /// A timestamp may deviate this much before it counts as a gap.
    pub tolerance: Duration,
}

impl Default for TimelinePolicy {
    fn default() -> Self {
        Self {
            window: 3,
            patience: Duration::from_millis(60),
            tolerance: Duration::from_millis(45),
        }
    }
}

/// A payload as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The octets.
    pub payload: &'a [u8],
    /// Samples in it.
    pub samples: u64,
    /// Its number, where the provider counts.
    pub sequence: Option<u64>,
    /// Its presentation time, where the provider tells it.
    pub timestamp: Option<Duration>,
}

/// What comes next on the track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Decode this.
    Payload(&'a [u8]),
    /// `samples` are missing and `next` follows, if it is here already.
    Lost {
        /// How much.
        samples: u64,
        /// The payload after the loss.
        next: Option<&'a [u8]>,
    },
    /// The provider sent nothing for `samples` on purpose or by a stall of its source: the timestamps say so.
    Silence {
        /// How much.
        samples: u64,
    },
}

/// What became of payloads, in payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimelineCounts {
    /// Arrived.
    pub arrived: u64,
    /// Handed on.
    pub delivered: u64,
    /// Dropped: came before.
    pub duplicate: u64,
    /// Dropped: came after its gap was given up.
    pub late: u64,
    /// Never came.
    pub lost: u64,
    /// The provider's counter or clock began anew.
    pub restarts: u64,
}

struct Held {
    sequence: u64,
    samples: u64,
    timestamp: Option<Duration>,
    payload: Vec<u8>,
    since: Instant,
}

/// Order and gaps of one track.
pub struct Timeline {
    policy: TimelinePolicy,
    rate: SampleRate,
    next: Option<u64>,
    /// Bit `i`: sequence `next - 1 - i` arrived.
    seen: u64,
    held: Vec<Held>,
    spare: Vec<Vec<u8>>,
    /// Timestamp that position 0 would have.
    base: Option<i128>,
    position: u64,
    nominal: u64,
    /// When the first payload arrived.
    first: Option<Instant>,
    counts: TimelineCounts,
    drift: Drift,
}

impl Timeline {
    /// A timeline for a track at `rate`.
    #[must_use]
    pub fn new(rate: SampleRate, policy: TimelinePolicy) -> Self {
        Self {
            policy,
            rate,
            next: None,
            seen: 0,
            held: Vec::new(),
            spare: Vec::new(),
            base: None,
            position: 0,
            nominal: 0,
            first: None,
            counts: TimelineCounts::default(),
            drift: Drift::default(),
        }
    }

    /// What became of all payloads.
    #[must_use]
    pub fn counts(&self) -> TimelineCounts {
        self.counts
    }

    /// Payloads held back.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.held.len() as u64
    }

    /// Samples handed on, made-up ones included: where the track's clock stands.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How much faster the provider's clock runs than ours, in parts per million, once it can be told.
    #[must_use]
    pub fn drift_ppm(&self) -> Option<f64> {
        self.drift.ppm()
    }

    /// A payload arrived; calls `sink` for what can go on.
    pub fn push(&mut self, now: Instant, arrival: Arrival<'_>, sink: &mut dyn FnMut(Step<'_>)) {
        self.counts.arrived += 1;
        self.first.get_or_insert(now);
        if self.nominal == 0 {
            self.nominal = arrival.samples;
        }
        let Some(sequence) = arrival.sequence else {
            return self.deliver(now, &arrival, sink);
        };
        let next = self.next.unwrap_or(sequence);
        if sequence.abs_diff(next) > RESTART {
            self.restart(now, sequence, sink);
        } else if sequence < next {
            return self.behind(next - 1 - sequence);
        } else if sequence > next {
            self.hold(now, sequence, &arrival);
            return self.give_up(now, false, sink);
        }
        self.advance(sequence);
        self.deliver(now, &arrival, sink);
        self.release(now, sink);
    }

    /// When [`Timeline::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.held.iter().map(|h| h.since + self.policy.patience).min()
    }

    /// Time passed: what was waited for long enough is given up.
    pub fn handle_timeout(&mut self, now: Instant, sink: &mut dyn FnMut(Step<'_>)) {
        self.give_up(now, false, sink);
    }

    /// The track ended: hands on all that is held.
    pub fn finish(&mut self, now: Instant, sink: &mut dyn FnMut(Step<'_>)) {
        self.give_up(now, true, sink);
    }

    /// Another stream goes on with the track, `samples` after the last one: nothing of what the old one counted means anything to it.
    pub fn reopen(&mut self, now: Instant, samples: u64, sink: &mut dyn FnMut(Step<'_>)) {
        self.give_up(now, true, sink);
        self.position += samples;
        (self.seen, self.next, self.base) = (0, None, None);
        self.drift = Drift::default();
    }

    fn behind(&mut self, age: u64) {
        let bit = u32::try_from(age).ok().and_then(|age| 1_u64.checked_shl(age)).unwrap_or(0);
        if bit != 0 && self.seen & bit == 0 {
            self.seen |= bit;
            self.counts.late += 1;
        } else {
            self.counts.duplicate += 1;
        }
    }

    fn restart(&mut self, now: Instant, sequence: u64, sink: &mut dyn FnMut(Step<'_>)) {
        self.give_up(now, true, sink);
        self.counts.restarts += 1;
        self.seen = 0;
        self.base = None;
        self.next = Some(sequence);
    }

    fn advance(&mut self, sequence: u64) {
        let by = sequence.wrapping_sub(self.next.unwrap_or(sequence)).wrapping_add(1);
        self.seen =
            u32::try_from(by).ok().and_then(|by| self.seen.checked_shl(by)).unwrap_or(0) | 1;
        self.next = Some(sequence.wrapping_add(1));
    }

    fn hold(&mut self, now: Instant, sequence: u64, arrival: &Arrival<'_>) {
        if self.held.iter().any(|h| h.sequence == sequence) {
            self.counts.duplicate += 1;
            return;
        }
        let mut payload = self.spare.pop().unwrap_or_default();
        payload.clear();
        payload.extend_from_slice(arrival.payload);
        let at = self.held.partition_point(|h| h.sequence < sequence);
        let held = Held {
            sequence,
            samples: arrival.samples,
            timestamp: arrival.timestamp,
            payload,
            since: now,
        };
        self.held.insert(at, held);
    }

    /// Hands on what follows without a gap.
    fn release(&mut self, now: Instant, sink: &mut dyn FnMut(Step<'_>)) {
        while self.held.first().is_some_and(|h| Some(h.sequence) == self.next) {
            let held = self.held.remove(0);
            self.advance(held.sequence);
            let arrival = Arrival {
                payload: &held.payload,
                samples: held.samples,
                sequence: Some(held.sequence),
                timestamp: held.timestamp,
            };
            self.deliver(now, &arrival, sink);
            self.spare.push(held.payload);
        }
    }

    /// Declares lost what was waited for too long (or at all, if `all`).
    fn give_up(&mut self, now: Instant, all: bool, sink: &mut dyn FnMut(Step<'_>)) {
        while let Some(first) = self.held.first() {
            let oldest = self.held.iter().map(|h| h.since).min().unwrap_or(now);
            let patient = now.saturating_since(oldest) < self.policy.patience;
            if !all && patient && self.held.len() <= self.policy.window {
                return;
            }
            let allowance = self.allowance(now);
            let lost = first.sequence - self.next.unwrap_or(first.sequence);
            let samples = lost.saturating_mul(self.nominal).min(allowance);
            self.counts.lost += lost;
            if samples > 0 {
                sink(Step::Lost { samples, next: Some(&first.payload) });
                self.position += samples;
            }
            let sequence = first.sequence;
            if lost > 0 {
                self.advance(sequence - 1);
                self.seen &= !((1_u64.checked_shl(lost as u32).unwrap_or(0)).wrapping_sub(1));
            }
            self.release(now, sink);
        }
    }

    /// How much may be made up: never more than [`MAX_GAP`] at a time, and never so much that the track runs further ahead of our
    /// clock than that. A peer cannot have hours made up for it by writing large numbers.
    fn allowance(&self, now: Instant) -> u64 {
        let elapsed = self.first.map_or(Duration::ZERO, |first| now - first);
        let ahead = self.rate.samples_in(elapsed + MAX_GAP).saturating_sub(self.position);
        ahead.min(self.rate.samples_in(MAX_GAP))
    }

    fn deliver(&mut self, now: Instant, arrival: &Arrival<'_>, sink: &mut dyn FnMut(Step<'_>)) {
        if let Some(timestamp) = arrival.timestamp {
            self.check_time(now, timestamp, sink);
        } else {
            self.drift.observe(now, self.rate.duration_of(self.position));
        }
        self.counts.delivered += 1;
        self.position += arrival.samples;
        sink(Step::Payload(arrival.payload));
    }

    /// Compares the provider's clock with the samples counted; a sudden lead of the clock is a gap, a slow one is drift.
    fn check_time(&mut self, now: Instant, timestamp: Duration, sink: &mut dyn FnMut(Step<'_>)) {
        self.drift.observe(now, timestamp);
        let stamp = timestamp.as_nanos() as i128;
        let counted = self.rate.duration_of(self.position).as_nanos() as i128;
        let base = *self.base.get_or_insert(stamp - counted);
        let ahead = stamp - counted - base;
        let tolerance = self.policy.tolerance.as_nanos() as i128;
        if ahead.abs() <= tolerance {
            self.base = Some(base + ahead / 256);
        } else if ahead > 0
            && ahead <= self.rate.duration_of(self.allowance(now)).as_nanos() as i128
        {
            let samples = self.rate.samples_in(Duration::from_nanos(ahead as u64));
            sink(Step::Silence { samples });
            self.position += samples;
        } else {
            self.counts.restarts += 1;
            self.base = Some(stamp - counted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS20: u64 = 160;

    struct Bench {
        timeline: Timeline,
        out: Vec<String>,
    }

    impl Bench {
        fn new() -> Self {
            let timeline = Timeline::new(SampleRate::HZ_8000, TimelinePolicy::default());
            Self { timeline, out: Vec::new() }
        }

        fn push(&mut self, at_ms: u64, sequence: Option<u64>, timestamp_ms: Option<u64>) {
            let name = sequence.unwrap_or(at_ms).to_string();
            let arrival = Arrival {
                payload: name.as_bytes(),
                samples: MS20,
                sequence,
                timestamp: timestamp_ms.map(Duration::from_millis),
            };
            let out = &mut self.out;
            self.timeline.push(Instant::from_millis(at_ms), arrival, &mut |s| out.push(show(s)));
        }

        fn balance(&self) {
            let c = self.timeline.counts();
            assert_eq!(
                c.arrived,
                c.delivered + c.duplicate + c.late + self.timeline.queued(),
                "{c:?}"
            );
        }
    }

    fn show(step: Step<'_>) -> String {
        match step {
            Step::Payload(p) => String::from_utf8_lossy(p).into_owned(),
            Step::Lost { samples, next } => format!("lost {samples} before {}", next.is_some()),
            Step::Silence { samples } => format!("silence {samples}"),
        }
    }

    #[test]
    fn swapped_payloads_come_out_in_order() {
        let mut b = Bench::new();
        for (i, sequence) in [1, 2, 4, 3, 5, 7, 8, 6].into_iter().enumerate() {
            b.push(i as u64 * 20, Some(sequence), None);
        }
        assert_eq!(b.out, ["1", "2", "3", "4", "5", "6", "7", "8"]);
        b.balance();
    }

    #[test]
    fn a_gap_is_given_up_after_the_window_and_told_before_what_follows() {
        let mut b = Bench::new();
        for sequence in [1, 2, 5, 6, 7, 8] {
            b.push(sequence * 20, Some(sequence), None);
        }
        assert_eq!(b.out, ["1", "2", "lost 320 before true", "5", "6", "7", "8"]);
        b.push(200, Some(3), None);
        b.push(200, Some(6), None);
        let counts = b.timeline.counts();
        assert_eq!((counts.lost, counts.late, counts.duplicate), (2, 1, 1));
        b.balance();
    }

    #[test]
    fn a_gap_is_given_up_after_the_window_though_no_time_has_passed() {
        let mut b = Bench::new();
        for sequence in [1, 2, 5, 6, 7, 8] {
            b.push(20, Some(sequence), None);
        }
        assert_eq!(b.out, ["1", "2", "lost 320 before true", "5", "6", "7", "8"]);
        b.balance();
    }

    #[test]
    fn what_comes_again_while_it_waits_is_a_duplicate() {
        let mut b = Bench::new();
        for sequence in [1, 3, 3, 2] {
            b.push(20, Some(sequence), None);
        }
        assert_eq!(b.out, ["1", "2", "3"]);
        assert_eq!((b.timeline.counts().duplicate, b.timeline.queued()), (1, 0));
        b.balance();
    }

    #[test]
    fn a_gap_is_given_up_after_the_patience() {
        let mut b = Bench::new();
        b.push(0, Some(1), None);
        b.push(40, Some(3), None);
        assert_eq!(b.timeline.poll_timeout(), Some(Instant::from_millis(100)));
        let out = &mut b.out;
        b.timeline.handle_timeout(Instant::from_millis(100), &mut |s| out.push(show(s)));
        assert_eq!(b.out, ["1", "lost 160 before true", "3"]);
        b.balance();
    }

    #[test]
    fn duplicates_are_dropped_and_counted() {
        let mut b = Bench::new();
        for sequence in [1, 2, 2, 1, 3, 3] {
            b.push(sequence * 20, Some(sequence), None);
        }
        assert_eq!(b.out, ["1", "2", "3"]);
        assert_eq!(b.timeline.counts().duplicate, 3);
        b.balance();
    }

    #[test]
    fn a_counter_that_begins_anew_stops_nothing() {
        let mut b = Bench::new();
        for sequence in [9_000, 9_001, 1, 2, 3, u64::MAX - 1, u64::MAX, 0, 1] {
            b.push(20, Some(sequence), None);
        }
        assert_eq!(
            b.out,
            [
                "9000",
                "9001",
                "1",
                "2",
                "3",
                "18446744073709551614",
                "18446744073709551615",
                "0",
                "1"
            ]
        );
        assert_eq!(b.timeline.counts().restarts, 2);
        b.balance();
    }

    #[test]
    fn a_pause_in_the_timestamps_is_silence_of_that_length() {
        let mut b = Bench::new();
        b.push(0, Some(1), Some(65));
        b.push(20, Some(2), Some(85));
        b.push(520, Some(3), Some(585));
        assert_eq!(b.out, ["1", "2", "silence 3840", "3"]);
    }

    #[test]
    fn a_clock_far_ahead_or_at_its_end_is_a_jump_and_not_hours_of_silence() {
        let mut b = Bench::new();
        b.push(0, Some(1), Some(0));
        b.push(20, Some(2), Some(3_600_000));
        b.push(40, Some(3), Some(u64::MAX));
        b.push(60, Some(4), Some(0));
        assert_eq!(b.out, ["1", "2", "3", "4"]);
        assert_eq!(b.timeline.position(), 4 * MS20);
    }

    #[test]
    fn a_clock_that_runs_away_step_by_step_is_not_believed_further_than_ours_goes() {
        let mut b = Bench::new();
        for i in 0..100_u64 {
            b.push(i, None, Some(i * 9_000));
        }
        assert!(b.timeline.position() <= 8 * 10_100 + 100 * MS20, "{}", b.timeline.position());
        assert_eq!(b.timeline.counts().delivered, 100);
    }

    #[test]
    fn waiting_never_asks_to_be_woken_in_the_past() {
        let mut b = Bench::new();
        for (at, sequence) in [(0, 1), (20, 5), (60, 3)] {
            b.push(at, Some(sequence), None);
        }
        let due = b.timeline.poll_timeout().expect("something is held");
        let out = &mut b.out;
        b.timeline.handle_timeout(due, &mut |s| out.push(show(s)));
        assert!(b.timeline.poll_timeout().is_none_or(|at| at > due));
        b.balance();
    }

    #[test]
    fn a_stall_with_steady_timestamps_is_not_a_gap() {
        let mut b = Bench::new();
        for i in 0..100_u64 {
            let at = if i < 50 { i * 20 } else { 2_000 };
            b.push(at, Some(i + 1), Some(i * 20));
        }
        assert_eq!(b.out.len(), 100);
        assert!(b.out.iter().all(|s| !s.contains("s")));
    }

    #[test]
    fn a_clock_set_back_or_frozen_loses_nothing() {
        let mut b = Bench::new();
        for i in 0..50_u64 {
            b.push(i * 20, None, Some(if i < 25 { 10_000 + i * 20 } else { 5 }));
        }
        assert_eq!(b.timeline.counts().delivered, 50);
        assert!(b.timeline.counts().restarts >= 1);
    }
}
