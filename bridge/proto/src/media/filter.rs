//! The place of a filter on a track: sound waits here for the filtered one as long as is bearable, and else passes as it was. Filters
//! nothing itself.
//!
//! Positions are those of the track: what comes out is as long as what came in, and nothing in it moves. Answers are placed by their
//! position, not by when they come.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use ringback_codecs::{Encoding, Endian, SampleRate};

use super::ring::Ring;
use crate::Instant;
use crate::scratch::Pcm;

/// Sound that passed as it was is told of when it was so much, or when it is filtered again.
const REPORT: Duration = Duration::from_secs(1);

/// Why sound passed as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bypass {
    /// The answer did not come in time.
    Late,
    /// The filter failed before it answered.
    Failed,
    /// The filter is not there: it is starting, or starting again, or is no more.
    Down,
    /// The call ended first.
    Ended,
}

impl Bypass {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Late, Self::Failed, Self::Down, Self::Ended];

    /// Name in metrics and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Failed => "failed",
            Self::Down => "down",
            Self::Ended => "ended",
        }
    }
}

/// Figures of a filter, in samples. `entered = filtered + bypassed + queued`, and `answered = placed + late + early + twice`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FilterCounts {
    /// Came in; of a time without a stream nothing does.
    pub entered: u64,
    /// Came out filtered.
    pub filtered: u64,
    /// Came out as it was, by the reason's place in [`Bypass::ALL`].
    pub bypassed: [u64; 4],
    /// Waits.
    pub queued: u64,
    /// Samples of answers.
    pub answered: u64,
    /// Taken.
    pub placed: u64,
    /// Of sound that had passed.
    pub late: u64,
    /// Of sound that has not been.
    pub early: u64,
    /// Of sound that was answered already.
    pub twice: u64,
}

/// One filter of a track.
pub struct Filter {
    /// What came out.
    ring: Ring,
    budget: Duration,
    live: Option<Live>,
    counts: FilterCounts,
    /// What came out last was filtered.
    filters: bool,
    unreported: [u64; 4],
    /// Samples for which there was no stream, and so nothing to filter.
    gaps: u64,
}

/// What a filter that is there has been given.
#[derive(Default)]
struct Live {
    /// Its frames begin here, and are so long.
    origin: u64,
    frame: u64,
    /// Sound up to here was seen.
    seen: u64,
    /// Ends of frames it has, and until when they wait.
    due: VecDeque<(u64, Instant)>,
    /// The same of a frame that is not complete.
    partial: Option<(u64, Instant)>,
    /// Answers that wait for one before them.
    answers: VecDeque<(u64, Vec<i16>)>,
    /// Bare sound goes on here.
    next: u64,
}

impl Filter {
    /// A place for a filter on a track at `rate`, whose answers are waited for as long as `budget`, with `keep` of what came out.
    #[must_use]
    pub fn new(rate: SampleRate, keep: Duration, budget: Duration) -> Self {
        Self {
            ring: Ring::new(Encoding::L16(Endian::Little), rate, keep),
            budget,
            live: None,
            counts: FilterCounts::default(),
            filters: false,
            unreported: [0; 4],
            gaps: 0,
        }
    }

    /// What came out.
    #[must_use]
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// What came out, to read from.
    pub fn ring_mut(&mut self) -> &mut Ring {
        &mut self.ring
    }

    /// Figures for the ledger; `input` is what it filters.
    #[must_use]
    pub fn counts(&self, input: &Ring) -> FilterCounts {
        let (end, done) = (input.end(), self.ring.end());
        FilterCounts { entered: end - self.gaps, queued: end - done, ..self.counts }
    }

    /// The filter is there: it is given sound from `origin` on in pieces of `frame` samples.
    pub fn begin(&mut self, origin: u64, frame: u64, budget: Duration) {
        self.budget = budget;
        let (seen, frame) = (self.ring.end(), frame.max(1));
        self.live = Some(Live { origin, frame, seen, next: origin, ..Live::default() });
    }

    /// The filter is not there any more. What waits for it passes at once.
    pub fn end(&mut self, input: &mut Ring, why: Bypass) {
        if self.live.is_some() {
            self.pass(input, input.end(), why);
            self.live = None;
        }
    }

    /// The filter missed sound, and goes on at `to`; in `step` if it does not count what it missed.
    pub fn skip(&mut self, lost: u64, to: u64, in_step: bool) {
        if let Some(live) = &mut self.live {
            live.origin = to;
            live.next = live.next.saturating_add(if in_step { lost } else { 0 });
        }
    }

    /// So much of its answers was lost on the way.
    pub fn lose(&mut self, samples: u64) {
        if let Some(live) = &mut self.live {
            live.next = live.next.saturating_add(samples);
        }
    }

    /// There is more sound, or time has passed: lets pass what has waited long enough.
    pub fn run(&mut self, now: Instant, input: &mut Ring) {
        self.ring.begin_message();
        let Some(live) = &mut self.live else {
            return self.pass(input, input.end(), Bypass::Down);
        };
        let end = input.end();
        if end > live.seen {
            live.seen = end;
            let whole = end - end.saturating_sub(live.origin) % live.frame;
            if live.due.back().map_or(self.ring.end(), |due| due.0) < whole {
                live.due.push_back((whole, now + self.budget));
            }
            let rest = input.rate().duration_of(live.frame);
            live.partial = (end > whole).then_some((end, now + rest + self.budget));
        }
        while let Some((until, _)) = self.next_due().filter(|(_, at)| *at <= now) {
            self.pass(input, until, Bypass::Late);
        }
        self.put_answers(input, input.end());
    }

    /// Nothing is filtered of a time without a stream, and nobody waits for it.
    fn follow_gaps(&mut self, input: &Ring) {
        while let Some(end) = input.gap_at(self.ring.end()) {
            let gap = end - self.ring.end();
            self.ring.push_gap(gap);
            self.gaps += gap;
        }
    }

    /// What has to pass next, and when. Forgets what has passed.
    fn next_due(&mut self) -> Option<(u64, Instant)> {
        let done = self.ring.end();
        let live = self.live.as_mut()?;
        while live.due.front().is_some_and(|due| due.0 <= done) {
            live.due.pop_front();
        }
        live.partial.take_if(|partial| partial.0 <= done);
        [live.due.front().copied(), live.partial].into_iter().flatten().min_by_key(|due| due.1)
    }

    /// When [`Self::run`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (live, done) = (self.live.as_ref()?, self.ring.end());
        let due = live.due.iter().find(|due| due.0 > done);
        let partial = live.partial.as_ref().filter(|partial| partial.0 > done);
        [due, partial].into_iter().flatten().map(|due| due.1).min()
    }

    /// The filter's answer for the sound from `at` on, or from where its last answer ended.
    pub fn answer(&mut self, at: Option<u64>, samples: &[i16], input: &Ring) {
        let (done, end) = (self.ring.end(), input.end());
        let length = samples.len() as u64;
        self.counts.answered += length;
        let Some(live) = &mut self.live else {
            self.counts.late += length;
            return;
        };
        // A position is whatever the filter says: none is so far out that its end is no number.
        let at = at.unwrap_or(live.next).min(u64::MAX - length);
        live.next = at + length;
        let late = done.saturating_sub(at).min(length);
        let early = live.next.saturating_sub(end.max(at)).min(length - late);
        self.counts.late += late;
        self.counts.early += early;
        let mut taken = &samples[late as usize..(length - early) as usize];
        let mut from = at + late;
        while !taken.is_empty() {
            let left = from + taken.len() as u64;
            let (to, is_gap) = match input.gap_at(from) {
                Some(end) => (end.min(left), true),
                None => (input.next_gap(from).map_or(left, |gap| gap.min(left)), false),
            };
            let (piece, rest) = taken.split_at((to - from) as usize);
            if is_gap {
                // Sound that has never been: a stream was away.
                self.counts.early += to - from;
            } else {
                self.place(input, from..to, piece);
            }
            (from, taken) = (to, rest);
        }
    }

    /// An answer for sound that is waiting, all of it.
    fn place(&mut self, input: &Ring, mut range: Range<u64>, taken: &[i16]) {
        let done = self.ring.end();
        let Some(live) = &mut self.live else { return };
        // What waited for the piece before this one may have answered for it, and is out already.
        let answered = done.saturating_sub(range.start).min(taken.len() as u64);
        self.counts.twice += answered;
        range.start += answered;
        let taken = &taken[answered as usize..];
        if taken.is_empty() {
            return;
        }
        let overlaps = |(from, answer): &(u64, Vec<i16>)| {
            *from < range.end && range.start < *from + answer.len() as u64
        };
        if live.answers.iter().any(overlaps) {
            self.counts.twice += taken.len() as u64;
            return;
        }
        self.counts.placed += taken.len() as u64;
        if range.start == done {
            // As nearly always: nothing before it is missing.
            self.put(input, range, taken);
            self.put_answers(input, input.end());
        } else {
            let place = live.answers.partition_point(|(from, _)| *from < range.start);
            live.answers.insert(place, (range.start, taken.to_vec()));
        }
    }

    /// Hands out filtered sound.
    fn put(&mut self, input: &Ring, range: Range<u64>, samples: &[i16]) {
        self.counts.filtered += samples.len() as u64;
        self.filters = true;
        self.push(input, range, samples);
    }

    /// Hands out what was answered as far as it goes without a hole; says where the next answer begins, `end` if none waits.
    fn put_answers(&mut self, input: &Ring, end: u64) -> u64 {
        loop {
            self.follow_gaps(input);
            let done = self.ring.end();
            let Some(live) = &mut self.live else { return end };
            match live.answers.front() {
                Some((from, _)) if *from > done => return *from,
                Some(_) => {}
                None => return end,
            }
            if let Some((from, answer)) = live.answers.pop_front() {
                self.put(input, from..from + answer.len() as u64, &answer);
            }
        }
    }

    /// Hands out all up to `until`, filtered where it was.
    fn pass(&mut self, input: &mut Ring, until: u64, why: Bypass) {
        while self.ring.end() < until {
            let hole = self.put_answers(input, until).min(until);
            let done = self.ring.end();
            if done >= hole {
                continue;
            }
            let hole = input.next_gap(done).map_or(hole, |gap| gap.min(hole));
            let mut samples = Pcm::lend();
            let passed = match input.read(done, (hole - done) as usize, &mut samples) {
                Ok(count) => {
                    self.push(input, done..done + count as u64, &samples);
                    count as u64
                }
                // A silence longer than the ring of what came in.
                Err(lagged) => {
                    let silence = lagged.samples.min(hole - done);
                    self.ring.push_silence(silence);
                    silence
                }
            };
            self.filters = false;
            self.counts.bypassed[why as usize] += passed;
            self.unreported[why as usize] += passed;
        }
    }

    fn push(&mut self, input: &Ring, range: Range<u64>, samples: &[i16]) {
        if input.is_synthesized(&range) {
            self.ring.push_synthesized(samples);
        } else {
            self.ring.push(samples);
        }
    }

    /// What is to be told of sound that passed as it was: samples by reason, from time to time.
    pub fn take_report(&mut self) -> Option<[u64; 4]> {
        let sum: u64 = self.unreported.iter().sum();
        let due = sum >= self.ring.rate().samples_in(REPORT) || self.filters;
        (sum > 0 && due).then(|| std::mem::take(&mut self.unreported))
    }

    /// The same, whatever it is.
    pub fn take_last_report(&mut self) -> Option<[u64; 4]> {
        let report = std::mem::take(&mut self.unreported);
        report.iter().any(|count| *count > 0).then_some(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_millis(60);

    /// A track of 160 samples, so many without a stream, and 160 samples again, with a filter that is there from its beginning.
    fn interrupted(gap: u64) -> (Ring, Filter) {
        let rate = SampleRate::HZ_8000;
        let mut input = Ring::new(Encoding::L16(Endian::Little), rate, Duration::from_secs(1));
        let mut filter = Filter::new(rate, Duration::from_secs(1), BUDGET);
        filter.begin(0, 160, BUDGET);
        input.push(&[1; 160]);
        input.push_gap(gap);
        input.push(&[2; 160]);
        filter.run(Instant::from_millis(0), &mut input);
        (input, filter)
    }

    fn check_balance(filter: &Filter, input: &Ring) -> FilterCounts {
        let counts = filter.counts(input);
        let passed: u64 = counts.bypassed.iter().sum();
        assert_eq!(counts.entered, counts.filtered + passed + counts.queued, "{counts:?}");
        let answers = counts.placed + counts.late + counts.early + counts.twice;
        assert_eq!(counts.answered, answers, "{counts:?}");
        counts
    }

    #[test]
    fn answers_for_a_time_without_a_stream_are_no_sound_and_move_nothing() {
        let whole = [(0, 480)];
        let in_their_own_order = [(200, 280), (0, 200)];
        let more_than_once = [(320, 160), (0, 480)];
        let with_a_hole = [(100, 380)];
        for answers in [&whole[..], &in_their_own_order, &more_than_once, &with_a_hole] {
            let (mut input, mut filter) = interrupted(160);
            for &(at, samples) in answers {
                filter.answer(Some(at), &vec![9; samples], &input);
                check_balance(&filter, &input);
            }
            filter.run(Instant::from_millis(1_000), &mut input);
            let counts = check_balance(&filter, &input);
            assert_eq!((filter.ring().end(), counts.queued, counts.early), (480, 0, 160));
            assert_eq!(filter.ring().gap_at(160), Some(320), "{answers:?}");
            let mut last = Pcm::lend();
            let read = filter.ring_mut().read(320, 160, &mut last);
            assert!(read.is_ok() && last.iter().all(|&sample| sample == 9), "{answers:?}");
        }
    }

    #[test]
    fn what_was_answered_behind_a_gap_waits_for_nothing_more() {
        let (input, mut filter) = interrupted(1_600);
        filter.answer(Some(1_760), &[9; 160], &input);
        filter.answer(Some(0), &[9; 160], &input);
        assert_eq!((filter.ring().end(), check_balance(&filter, &input).queued), (1_920, 0));
    }
}
