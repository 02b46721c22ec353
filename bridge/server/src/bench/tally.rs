//! What the generator takes down while it runs, in memory laid out before. Judges nothing.

use std::time::Duration;

use super::histogram::Histogram;

/// Latencies are kept by the part of the run in which the frame was due; a long run has longer parts.
const PART: Duration = Duration::from_millis(100);
const LONG_RUN: Duration = Duration::from_secs(60);
const LONG_PART: Duration = Duration::from_secs(1);

/// Frames of one caller that never came back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) frames: u64,
    /// In so many places.
    pub(crate) holes: u64,
}

impl Missing {
    /// What is missing of frames of which it is known, in order, whether they came back.
    pub(crate) fn of(came: impl Iterator<Item = bool>) -> Self {
        let (mut missing, mut before) = (Self::default(), true);
        for came in came {
            missing.frames += u64::from(!came);
            missing.holes += u64::from(before && !came);
            before = came;
        }
        missing
    }

    /// How many of them nobody names who says that he dropped `named`. A hole that is cut in the middle of two frames costs both their
    /// numbers, one more than it names.
    pub(crate) const fn unnamed(self, named: u64) -> u64 {
        self.frames.saturating_sub(if named == 0 { 0 } else { named + self.holes })
    }
}

/// Counts and times of one run.
#[derive(Debug)]
pub(super) struct Tally {
    /// From due to back, by part of the run.
    pub(super) latency: Vec<Histogram>,
    /// How long a part is.
    pub(super) part: Duration,
    /// From due to sent: the generator's own fault.
    pub(super) lateness: Histogram,
    /// Frames sent of each caller, warm-up included.
    said: Vec<u32>,
    /// Frames sent and counted.
    pub(super) sent: u64,
    /// Of those, frames that came back.
    pub(super) received: u64,
    /// And frames that came back and could not be read.
    pub(super) unreadable: u64,
    /// Frames that came back while it was measured, whenever they were due: what the server was at work for.
    pub(super) answered: u64,
    /// Frames that came back again.
    pub(super) duplicates: u64,
    /// What came back and was not sent.
    pub(super) strangers: u64,
    /// The longest that the generator did not get round to look.
    pub(super) longest_gap: Duration,
    /// Time of turns in which there was something to do: what the generator costs, without its spinning.
    pub(super) busy: Duration,
    /// One bit for each frame that came back, callers one after the other.
    seen: Vec<u64>,
    /// Words of `seen` for each caller.
    stride: usize,
}

impl Tally {
    /// Room for a run of `duration` with so many callers and frames of each.
    pub(super) fn new(callers: usize, frames: usize, duration: Duration) -> Self {
        let part = if duration > LONG_RUN { LONG_PART } else { PART };
        let parts = duration.as_micros().div_ceil(part.as_micros()).max(1) as usize;
        let stride = frames.div_ceil(64);
        Self {
            latency: vec![Histogram::new(); parts],
            part,
            lateness: Histogram::new(),
            said: vec![0; callers],
            sent: 0,
            received: 0,
            unreadable: 0,
            answered: 0,
            duplicates: 0,
            strangers: 0,
            longest_gap: Duration::ZERO,
            busy: Duration::ZERO,
            seen: vec![0; callers * stride],
            stride,
        }
    }

    /// A caller's frame was said, whether it is counted or not.
    pub(super) fn said_one(&mut self, caller: usize) {
        if let Some(said) = self.said.get_mut(caller) {
            *said += 1;
        }
    }

    /// Frames said in all, warm-up included.
    pub(super) fn said(&self) -> u64 {
        self.said.iter().copied().map(u64::from).sum()
    }

    /// A frame went out, so late.
    pub(super) fn sent(&mut self, lateness: u32) {
        self.sent += 1;
        self.lateness.record(lateness);
    }

    /// A frame came back that was due so long after the beginning of what is counted.
    pub(super) fn back(&mut self, counted: Duration, latency: u32) {
        self.received += 1;
        let part = (counted.as_nanos() as u64 / self.part.as_nanos() as u64) as usize;
        if let Some(histogram) = self.latency.get_mut(part) {
            histogram.record(latency);
        }
    }

    /// Notes that a frame came back and says whether it had before.
    pub(super) fn is_repeated(&mut self, caller: usize, number: u32) -> bool {
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        let Some(word) = self.seen.get_mut(caller * self.stride + word) else { return false };
        let repeated = *word & bit != 0;
        *word |= bit;
        repeated
    }

    /// A turn took so long, of which it meant to wait for `allowed`.
    pub(super) fn turn(&mut self, took: Duration, allowed: Duration, worked: bool) {
        self.longest_gap = self.longest_gap.max(took.saturating_sub(allowed));
        if worked {
            self.busy += took.saturating_sub(allowed);
        }
    }

    /// Frames that came back in all, warm-up included; each once.
    pub(super) fn heard(&self) -> u64 {
        self.seen.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// What is missing of each caller, warm-up included.
    pub(super) fn missing(&self) -> Vec<Missing> {
        let seen = |caller: usize, number: usize| {
            let word = self.seen.get(caller * self.stride + number / 64);
            word.is_some_and(|word| word & 1 << (number % 64) != 0)
        };
        let of = |(caller, &said): (usize, &u32)| {
            Missing::of((0..said as usize).map(|number| seen(caller, number)))
        };
        self.said.iter().enumerate().map(of).collect()
    }

    /// Whether all that was counted came back.
    pub(super) fn is_complete(&self) -> bool {
        self.received + self.unreadable == self.sent
    }
}

pub(super) fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_once_and_by_the_part_in_which_they_were_due() {
        let mut tally = Tally::new(2, 100, Duration::from_secs(1));
        assert_eq!(tally.latency.len(), 10);
        for caller in [0, 1] {
            assert!(!tally.is_repeated(caller, 99));
            assert!(tally.is_repeated(caller, 99));
        }
        tally.sent(3);
        tally.back(Duration::from_millis(250), 700);
        assert!(tally.is_complete());
        assert_eq!(tally.latency[2].percentiles().max, 700);
    }

    #[test]
    fn what_is_missing_is_told_by_caller_and_by_hole() {
        let mut tally = Tally::new(2, 100, Duration::from_secs(1));
        for number in 0..70 {
            tally.said_one(1);
            if ![3, 4, 63, 64, 69].contains(&number) {
                assert!(!tally.is_repeated(1, number));
            }
        }
        let missing = Missing { frames: 5, holes: 3 };
        assert_eq!((tally.said(), tally.missing()), (70, vec![Missing::default(), missing]));
        assert_eq!([0, 1, 2, 9].map(|named| missing.unnamed(named)), [5, 1, 0, 0]);
    }

    #[test]
    fn the_longest_gap_and_the_work_are_told_from_what_was_waited_for() {
        let mut tally = Tally::new(0, 0, Duration::ZERO);
        let ms = Duration::from_millis;
        for (took, allowed, worked) in [(1, 0, true), (34, 4, false), (50, 50, false), (2, 0, true)]
        {
            tally.turn(ms(took), ms(allowed), worked);
        }
        assert_eq!((tally.longest_gap, tally.busy), (ms(30), ms(3)));
    }
}
