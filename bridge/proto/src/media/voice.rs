//! One of several who speak on a stream: its queue, its epoch, its marks, and what of it the caller has heard. Mixes nothing.
//!
//! A voice counts its own samples. Where they came to lie in the mixed sound is remembered until they were heard, so that what was
//! heard of it, and what of it is to be mixed anew after others were cleared, is known to the sample.

use std::collections::VecDeque;
use std::time::Duration;

use ringback_codecs::SampleRate;
use ringback_module::message::{Cleared, MarkReport, MarkStatus, Pace, Playback, PlaybackState};

use super::backlog::Backlog;
use super::mixer::VoiceCounts;
use super::playout::{Playout, Told, cut, slices};
use crate::Instant;

/// Marks that may be pending.
const MAX_MARKS: usize = 256;
/// Utterances that may wait; more are joined to the last.
const MAX_UTTERANCES: usize = 256;

pub(super) struct Voice {
    pub(super) name: Box<str>,
    index: usize,
    rate: SampleRate,
    /// Sound from `base` on: mixed but perhaps not heard, then waiting.
    queue: VecDeque<i16>,
    /// Heard up to here.
    base: u64,
    /// Mixed up to here.
    taken: u64,
    end: u64,
    /// What is before this waits for nothing that comes after it.
    boundary: u64,
    placed: VecDeque<Placed>,
    utterances: VecDeque<Utterance>,
    marks: VecDeque<Mark>,
    next_mark: u64,
    pub(super) epoch: u32,
    epoch_start: u64,
    pub(super) paused: bool,
    talking: bool,
    /// Since when nothing of it waits.
    pub(super) dry_since: Instant,
    backlog: Backlog,
    counts: VoiceCounts,
}

/// Where samples of a voice lie in the mixed sound.
struct Placed {
    at: u64,
    from: u64,
    len: u64,
}

struct Utterance {
    /// Since when it waits.
    since: Instant,
    start: u64,
    end: Option<u64>,
}

struct Mark {
    at: u64,
    owner: usize,
    name: String,
    /// What playback calls it, once it was told of it.
    tag: Option<u64>,
}

impl Voice {
    pub(super) fn new(index: usize, name: &str, rate: SampleRate) -> Self {
        Self {
            name: name.into(),
            index,
            rate,
            queue: VecDeque::new(),
            base: 0,
            taken: 0,
            end: 0,
            boundary: 0,
            placed: VecDeque::new(),
            utterances: VecDeque::new(),
            marks: VecDeque::new(),
            next_mark: 0,
            epoch: 0,
            epoch_start: 0,
            paused: false,
            talking: false,
            dry_since: Instant::ZERO,
            backlog: Backlog::default(),
            counts: VoiceCounts::default(),
        }
    }

    pub(super) fn counts(&self) -> VoiceCounts {
        VoiceCounts { queued: self.waiting(), ..self.counts }
    }

    pub(super) fn waiting(&self) -> u64 {
        self.end - self.taken
    }

    /// Whether it has something to say, and is not held.
    pub(super) fn is_ready(&self) -> bool {
        !self.paused && self.waiting() > 0
    }

    /// Whether some of it was mixed and is not heard.
    pub(super) fn is_placed(&self) -> bool {
        !self.placed.is_empty()
    }

    /// Whether what waits is to go out however short it is.
    pub(super) fn is_flushed(&self) -> bool {
        self.boundary == self.end
    }

    /// Since when the utterance waits that would be next.
    pub(super) fn next_since(&self) -> Option<Instant> {
        self.is_ready().then(|| self.next_utterance().map_or(Instant::ZERO, |next| next.since))
    }

    /// Samples of the utterance that is next, up to its end.
    pub(super) fn of_utterance(&self) -> u64 {
        let end = self.next_utterance().and_then(|next| next.end).unwrap_or(self.end);
        end.min(self.end) - self.taken
    }

    /// Whether it is in the middle of an utterance: it began, and more of it waits, or is to come.
    pub(super) fn is_in_utterance(&self) -> bool {
        self.next_utterance().is_some_and(|utterance| utterance.start < self.taken)
    }

    fn next_utterance(&self) -> Option<&Utterance> {
        self.utterances.iter().find(|utterance| utterance.end.is_none_or(|end| end > self.taken))
    }

    fn heard_ms(&self, position: u64) -> u64 {
        self.rate.millis_of(position.saturating_sub(self.epoch_start))
    }

    fn mark_report(&self, mark: Mark, status: MarkStatus) -> Told {
        let played_ms = self.heard_ms(mark.at);
        let report = MarkReport { name: mark.name, epoch: self.epoch, status, played_ms };
        Told::Mark { owner: mark.owner, report }
    }

    fn playback(&self, state: PlaybackState, position: u64) -> Told {
        let playback = Playback { epoch: self.epoch, state, played_ms: self.heard_ms(position) };
        Told::PlaybackOf { voice: self.index, playback }
    }

    /// Takes sound; says how many samples were refused because its queue is full, and how many were trimmed.
    pub(super) fn push(
        &mut self,
        now: Instant,
        samples: &[i16],
        pace: Pace,
        playout: &Playout,
    ) -> (u64, u64) {
        let room = self.rate.samples_in(playout.limits().max_queue).saturating_sub(self.waiting());
        let taken = samples.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let before = self.backlog_of(now, playout);
        let refused = (samples.len() - taken) as u64;
        self.counts.entered += samples.len() as u64;
        self.counts.overflow += refused;
        if taken == 0 {
            return (refused, 0);
        }
        self.begin_utterance(now);
        self.queue.extend(&samples[..taken]);
        self.end += taken as u64;
        if pace != Pace::Live {
            return (refused, 0);
        }
        let after = self.backlog_of(now, playout);
        let excess = self.backlog.observe(now, before, after, playout.limits());
        (refused, self.trim(playout.whole_frames(excess, self.waiting())))
    }

    fn backlog_of(&self, now: Instant, playout: &Playout) -> Duration {
        playout.remaining(now) + self.rate.duration_of(self.waiting())
    }

    fn begin_utterance(&mut self, now: Instant) {
        let (start, full) = (self.end, self.utterances.len() >= MAX_UTTERANCES);
        match self.utterances.back_mut() {
            Some(last) if last.end.is_none() || full => last.end = None,
            _ => self.utterances.push_back(Utterance { since: now, start, end: None }),
        }
    }

    fn trim(&mut self, count: u64) -> u64 {
        if count == 0 {
            return 0;
        }
        self.backlog.trimmed(self.rate.duration_of(count));
        cut(&mut self.queue, (self.taken - self.base) as usize, count as usize, self.rate);
        let taken = self.taken;
        let moved = |at: u64| if at > taken { at.saturating_sub(count).max(taken) } else { at };
        (self.end, self.boundary) = (moved(self.end), moved(self.boundary));
        self.marks.iter_mut().for_each(|mark| mark.at = moved(mark.at));
        for utterance in &mut self.utterances {
            utterance.start = moved(utterance.start);
            utterance.end = utterance.end.map(moved);
        }
        self.counts.trimmed += count;
        count
    }

    pub(super) fn end_utterance(&mut self) {
        self.boundary = self.end;
        if let Some(last) = self.utterances.back_mut() {
            last.end.get_or_insert(self.end);
        }
    }

    /// Adds its next samples to what is to be mixed at `at`.
    pub(super) fn take(
        &mut self,
        now: Instant,
        at: u64,
        count: u64,
        mixed: &mut Vec<i16>,
        told: &mut Vec<Told>,
    ) {
        if !std::mem::replace(&mut self.talking, true) {
            told.push(self.playback(PlaybackState::Started, self.taken));
        }
        let from = (self.taken - self.base) as usize;
        let (first, second) = slices(&self.queue, from..from + count as usize);
        add(mixed, 0, first);
        add(mixed, first.len(), second);
        match self.placed.back_mut() {
            Some(last) if last.at + last.len == at && last.from + last.len == self.taken => {
                last.len += count;
            }
            _ => self.placed.push_back(Placed { at, from: self.taken, len: count }),
        }
        self.counts.left += count;
        self.taken += count;
        if self.waiting() == 0 {
            self.dry_since = now;
        }
    }

    /// Has playback tell of the marks that it has come to.
    pub(super) fn tag(&mut self, playout: &mut Playout) {
        let Self { marks, taken, next_mark, index, .. } = self;
        for mark in marks.iter_mut().filter(|mark| mark.tag.is_none() && mark.at <= *taken) {
            playout.tag(*index, next_mark.to_string());
            mark.tag = Some(*next_mark);
            *next_mark += 1;
        }
    }

    /// Sets a mark behind all that was pushed; says no if too many are pending.
    pub(super) fn mark(&mut self, owner: usize, name: String, told: &mut Vec<Told>) -> bool {
        if self.marks.len() >= MAX_MARKS {
            return false;
        }
        self.boundary = self.end;
        let mark = Mark { at: self.end, owner, name, tag: None };
        if self.base == self.end && self.marks.is_empty() {
            told.push(self.mark_report(mark, MarkStatus::Played));
        } else {
            self.marks.push_back(mark);
        }
        true
    }

    /// Playback says that it reached a mark, and so all before it.
    pub(super) fn reached(&mut self, tag: &str, told: &mut Vec<Told>) {
        let tag: Option<u64> = tag.parse().ok();
        let Some(index) = self.marks.iter().position(|mark| mark.tag.is_some() && mark.tag == tag)
        else {
            return;
        };
        for mark in self.marks.drain(..=index).collect::<Vec<_>>() {
            told.push(self.mark_report(mark, MarkStatus::Played));
        }
    }

    /// Playback ran dry.
    pub(super) fn ran_dry(&self, told: &mut Vec<Told>) {
        if self.talking && self.waiting() == 0 && !self.is_flushed() {
            told.push(self.playback(PlaybackState::Underrun, self.end));
        }
    }

    /// The mixed sound was heard up to `heard`: forgets its own part of that.
    pub(super) fn forget(&mut self, heard: u64) {
        while let Some(first) = self.placed.front_mut() {
            let done = heard.saturating_sub(first.at).min(first.len);
            first.at += done;
            first.from += done;
            first.len -= done;
            if first.len > 0 {
                break;
            }
            self.placed.pop_front();
        }
        let base = self.placed.front().map_or(self.taken, |first| first.from);
        self.queue.drain(..(base - self.base) as usize);
        self.base = base;
        while self.utterances.front().is_some_and(|u| u.end.is_some_and(|end| end <= base)) {
            self.utterances.pop_front();
        }
    }

    /// Whether it is silent once playback has drained, and nobody was told.
    pub(super) fn is_ending(&self) -> bool {
        self.talking && self.waiting() == 0 && self.is_flushed() && self.marks.is_empty()
    }

    /// Tells, once, that all of it was heard.
    pub(super) fn settle(&mut self, told: &mut Vec<Told>) {
        if self.is_ending() && self.base == self.end {
            self.talking = false;
            told.push(self.playback(PlaybackState::Idle, self.end));
        }
    }

    /// All that was mixed and not heard was taken back, and waits again. What is heard was told before, see [`Self::forget`].
    pub(super) fn rewind(&mut self, told: &mut Vec<Told>) {
        self.counts.left -= self.taken - self.base;
        self.taken = self.base;
        self.placed.clear();
        while self.marks.front().is_some_and(|mark| mark.tag.is_some() && mark.at <= self.base) {
            if let Some(mark) = self.marks.pop_front() {
                told.push(self.mark_report(mark, MarkStatus::Played));
            }
        }
        self.marks.iter_mut().for_each(|mark| mark.tag = None);
    }

    pub(super) fn pause(&mut self, told: &mut Vec<Told>) {
        self.paused = true;
        told.push(self.playback(PlaybackState::Paused, self.taken));
    }

    /// Drops all that waits and begins a new epoch.
    pub(super) fn clear(&mut self, told: &mut Vec<Told>) -> Cleared {
        let report = Cleared {
            epoch: self.epoch,
            played_ms: self.heard_ms(self.taken),
            discarded_ms: self.rate.millis_of(self.waiting()),
            heard: None,
        };
        self.counts.cleared += self.waiting();
        while let Some(mut mark) = self.marks.pop_front() {
            let reached = mark.at <= self.taken;
            mark.at = mark.at.min(self.taken);
            let status = if reached { MarkStatus::Played } else { MarkStatus::Cleared };
            told.push(self.mark_report(mark, status));
        }
        self.queue.truncate((self.taken - self.base) as usize);
        self.end = self.taken;
        (self.boundary, self.epoch_start) = (self.end, self.end);
        self.epoch += 1;
        self.utterances.clear();
        (self.paused, self.talking) = (false, false);
        report
    }
}

/// Adds samples to those from `at` on, as loud as samples can be.
fn add(mixed: &mut Vec<i16>, at: usize, samples: &[i16]) {
    let both = (mixed.len() - at).min(samples.len());
    for (sum, sample) in mixed[at..at + both].iter_mut().zip(samples) {
        *sum = sum.saturating_add(*sample);
    }
    mixed.extend_from_slice(&samples[both..]);
}
