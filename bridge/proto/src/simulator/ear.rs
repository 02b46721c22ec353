//! What a person on the phone hears: a queue that plays in real time, as the provider's does. Decoded sound only; speaks no wire.

use std::collections::VecDeque;
use std::time::Duration;

use ringback_codecs::SampleRate;

use crate::Instant;
use crate::provider::{Capabilities, ClearLaw, PlayoutPolicy};

/// What happened to playback, for the provider's end to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// Sound after silence.
    Began,
    /// The queue ran dry.
    Ended,
    /// Playback reached a mark, or a clear released it.
    Mark(String),
    /// The queue is full.
    Full,
    /// The queue has room again.
    Writable,
}

/// A playback queue, told the time.
#[derive(Debug)]
pub(super) struct Ear {
    rate: SampleRate,
    since: Instant,
    /// Samples of time gone by, heard or silent.
    elapsed: u64,
    queue: VecDeque<i16>,
    /// Samples that ever left the queue, by being heard or cleared; marks are counted on the same line.
    taken: u64,
    marks: VecDeque<(u64, String)>,
    limit: usize,
    /// Silence before sound that comes to an empty queue.
    cushion: usize,
    /// Fill at which it is full, and below which it is writable again.
    flow: Option<(usize, usize)>,
    clear: ClearLaw,
    full: bool,
    playing: bool,
    paused: bool,
    /// All that was heard from the start on, if it is kept.
    recording: Option<Vec<i16>>,
}

impl Ear {
    /// Playback from `since` on, at `rate`, by the laws of the stream.
    pub(super) fn new(rate: SampleRate, since: Instant, can: Capabilities, record: bool) -> Self {
        let samples = |time| usize::try_from(rate.samples_in(time)).unwrap_or(usize::MAX);
        let limit = match can.playout {
            PlayoutPolicy::Ahead { limit } | PlayoutPolicy::Paced { limit } => samples(limit),
            PlayoutPolicy::None => 0,
        };
        Self {
            rate,
            since,
            elapsed: 0,
            queue: VecDeque::new(),
            taken: 0,
            marks: VecDeque::new(),
            limit,
            cushion: 0,
            flow: can.flow.map(|flow| (samples(flow.full), samples(flow.writable))),
            clear: can.clear,
            full: false,
            playing: false,
            paused: false,
            recording: record.then(Vec::new),
        }
    }

    /// From now on, sound that comes to an empty queue waits so long, so that what comes after it may be late by as much.
    pub(super) fn set_cushion(&mut self, cushion: Duration) {
        self.cushion = usize::try_from(self.rate.samples_in(cushion)).unwrap_or(usize::MAX);
    }

    /// All that was heard, silence included, if it is kept.
    pub(super) fn recording(&self) -> &[i16] {
        self.recording.as_deref().unwrap_or_default()
    }

    /// Moves what is kept to the end of `into`.
    pub(super) fn take_recording(&mut self, into: &mut Vec<i16>) {
        if let Some(recording) = &mut self.recording {
            into.append(recording);
        }
    }

    /// Samples to play.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Plays up to `now`.
    pub(super) fn advance(&mut self, now: Instant, heard: &mut Vec<Heard>) {
        let due = self.rate.samples_in(now - self.since).saturating_sub(self.elapsed);
        self.elapsed += due;
        let due = usize::try_from(due).unwrap_or(usize::MAX);
        let voiced = if self.paused { 0 } else { due.min(self.queue.len()) };
        let silent = due - voiced;
        if voiced > 0 && !self.playing {
            self.playing = true;
            heard.push(Heard::Began);
        }
        let sound = self.queue.drain(..voiced);
        match &mut self.recording {
            Some(recording) => recording.extend(sound),
            None => drop(sound),
        }
        if let Some(recording) = &mut self.recording {
            recording.resize(recording.len() + silent, 0);
        }
        self.taken += voiced as u64;
        self.report_marks(heard);
        if self.playing && silent > 0 && !self.paused {
            self.playing = false;
            heard.push(Heard::Ended);
        }
        self.report_room(heard);
    }

    /// Queues sound, or discards all of it if the queue is over its limit already; says whether it was taken.
    pub(super) fn queue(&mut self, samples: &[i16], heard: &mut Vec<Heard>) -> bool {
        if self.queue.len() >= self.limit {
            return false;
        }
        if self.queue.is_empty() && !samples.is_empty() {
            self.queue.resize(self.cushion, 0);
        }
        self.queue.extend(samples);
        if let Some((full, _)) = self.flow
            && !self.full
            && self.queue.len() >= full
        {
            self.full = true;
            heard.push(Heard::Full);
        }
        true
    }

    /// Sets a mark behind what is queued; reports it at once if nothing is.
    pub(super) fn mark(&mut self, name: String, heard: &mut Vec<Heard>) {
        self.marks.push_back((self.taken + self.queue.len() as u64, name));
        self.report_marks(heard);
    }

    /// Drops the queue as the provider does; gives the samples and marks lost.
    pub(super) fn clear(&mut self, heard: &mut Vec<Heard>) -> (usize, usize) {
        if self.clear == ClearLaw::Unsupported {
            return (0, 0);
        }
        let dropped = self.queue.len();
        self.queue.clear();
        self.taken += dropped as u64;
        let mut lost = 0;
        if self.clear == ClearLaw::DropsMarks {
            lost = self.marks.len();
            self.marks.clear();
        }
        self.report_marks(heard);
        self.report_room(heard);
        self.playing = false;
        (dropped, lost)
    }

    /// Holds playback or goes on.
    pub(super) const fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// When something will happen by itself.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.paused {
            return None;
        }
        let mark = self.marks.front().map(|(at, _)| at.saturating_sub(self.taken));
        let room = self.flow.filter(|_| self.full).map(|(_, writable)| {
            self.queue.len().saturating_sub(writable.saturating_sub(1)) as u64
        });
        // One sample after the last, silence is heard.
        let end = self.playing.then_some(self.queue.len() as u64 + 1);
        let begin = (!self.playing && !self.queue.is_empty()).then_some(1);
        let samples = [mark, room, end, begin].into_iter().flatten().min()?;
        Some(self.since + self.rate.duration_of(self.elapsed + samples))
    }

    fn report_marks(&mut self, heard: &mut Vec<Heard>) {
        while self.marks.front().is_some_and(|(at, _)| *at <= self.taken) {
            heard.extend(self.marks.pop_front().map(|(_, name)| Heard::Mark(name)));
        }
    }

    fn report_room(&mut self, heard: &mut Vec<Heard>) {
        if let Some((_, writable)) = self.flow
            && self.full
            && self.queue.len() < writable
        {
            self.full = false;
            heard.push(Heard::Writable);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::FlowControl;

    fn ear(clear: ClearLaw) -> Ear {
        let flow =
            FlowControl { full: Duration::from_millis(30), writable: Duration::from_millis(20) };
        let can = Capabilities {
            playout: PlayoutPolicy::Ahead { limit: Duration::from_millis(40) },
            clear,
            flow: Some(flow),
            ..Capabilities::LISTEN_ONLY
        };
        Ear::new(SampleRate::HZ_8000, Instant::from_millis(100), can, true)
    }

    #[test]
    fn plays_in_real_time_with_silence_where_nothing_is_queued() {
        let mut ear = ear(ClearLaw::DropsMarks);
        let mut heard = Vec::new();
        ear.advance(Instant::from_millis(101), &mut heard);
        assert!(ear.queue(&[7; 12], &mut heard));
        ear.mark("m".into(), &mut heard);
        assert_eq!(heard, []);
        let mark = Instant::from_millis(101) + Duration::from_micros(1500);
        assert_eq!(ear.next(), Some(Instant::from_millis(101) + Duration::from_micros(125)));
        ear.advance(mark, &mut heard);
        assert_eq!(heard, [Heard::Began, Heard::Mark("m".into())]);
        ear.advance(Instant::from_millis(103), &mut heard);
        assert_eq!(heard[2..], [Heard::Ended]);
        let all = [[0; 8].as_slice(), &[7; 12], &[0; 4]].concat();
        assert_eq!(ear.recording(), all);
        let mut taken = Vec::new();
        ear.take_recording(&mut taken);
        assert_eq!((taken, ear.recording()), (all, [].as_slice()));
        ear.mark("at once".into(), &mut heard);
        assert_eq!(heard[3..], [Heard::Mark("at once".into())]);
        assert_eq!(ear.next(), None);
    }

    #[test]
    fn clears_by_law() {
        for (law, reported, lost) in [(ClearLaw::DropsMarks, 0, 1), (ClearLaw::ReturnsMarks, 1, 0)]
        {
            let mut ear = ear(law);
            let mut heard = Vec::new();
            ear.queue(&[1; 80], &mut heard);
            ear.mark("m".into(), &mut heard);
            assert_eq!(ear.clear(&mut heard), (80, lost));
            assert_eq!(heard.len(), reported, "{law:?}");
        }
        let mut ear = ear(ClearLaw::Unsupported);
        ear.queue(&[1; 80], &mut Vec::new());
        assert_eq!((ear.clear(&mut Vec::new()), ear.queued()), ((0, 0), 80));
    }

    #[test]
    fn tells_when_full_and_discards_whole_messages_over_the_limit() {
        let mut ear = ear(ClearLaw::DropsMarks);
        let mut heard = Vec::new();
        assert!(ear.queue(&[1; 239], &mut heard));
        assert_eq!(heard, []);
        assert!(ear.queue(&[1; 160], &mut heard), "a message may overshoot");
        assert_eq!(heard, [Heard::Full]);
        assert!(!ear.queue(&[1; 1], &mut Vec::new()) && ear.queued() == 399, "over 320");
        let room =
            Instant::from_millis(100) + SampleRate::HZ_8000.duration_of(ear.queued() as u64 - 159);
        heard.clear();
        ear.advance(Instant::from_millis(101), &mut heard);
        assert_eq!(ear.next(), Some(room));
        ear.advance(room, &mut heard);
        assert_eq!(heard, [Heard::Began, Heard::Writable]);
    }

    #[test]
    fn a_cushion_goes_before_sound_that_comes_to_silence() {
        let mut ear = ear(ClearLaw::DropsMarks);
        ear.set_cushion(Duration::from_millis(1));
        let mut heard = Vec::new();
        ear.queue(&[3; 8], &mut heard);
        ear.queue(&[4; 8], &mut heard);
        ear.mark("m".into(), &mut heard);
        ear.advance(Instant::from_millis(104), &mut heard);
        assert_eq!(ear.recording(), [[0; 8], [3; 8], [4; 8], [0; 8]].concat());
        assert_eq!(heard, [Heard::Began, Heard::Mark("m".into()), Heard::Ended]);
    }

    #[test]
    fn pause_keeps_the_queue() {
        let mut ear = ear(ClearLaw::DropsMarks);
        let mut heard = Vec::new();
        ear.queue(&[5; 16], &mut heard);
        ear.pause(true);
        assert_eq!(ear.next(), None);
        ear.advance(Instant::from_millis(101), &mut heard);
        ear.pause(false);
        ear.advance(Instant::from_millis(103), &mut heard);
        assert_eq!(ear.recording(), [[0; 8], [5; 8], [5; 8]].concat());
        assert_eq!(heard, [Heard::Began]);
    }
}
