//! Several who speak on one stream: mixed, or each in its turn. Neither paces nor sends: it fills playback as late as that can bear,
//! so that what one of them clears was given away by none.

use std::time::Duration;

use ringback_codecs::SampleRate;
use ringback_module::message::{Cleared, Pace, PlaybackState};

use super::playout::{Emit, Playout, Told};
use super::voice::Voice;
use crate::Instant;
use crate::scratch::Pcm;

/// Whose turn it is keeps it so long without a sound in mid-utterance.
const PATIENCE: Duration = Duration::from_millis(500);

/// What happens when several have something to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenBoth {
    /// They are heard at the same time.
    #[default]
    Mix,
    /// An utterance waits until those that came before it were played.
    Queue,
}

/// Figures of one who speaks, in samples, for the ledger: `entered = left + queued + dropped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VoiceCounts {
    /// Taken from its module.
    pub entered: u64,
    /// Given to playback, and not taken back.
    pub left: u64,
    /// Waiting.
    pub queued: u64,
    /// Dropped by clear.
    pub cleared: u64,
    /// Dropped to get rid of latency.
    pub trimmed: u64,
    /// Refused: its queue was full.
    pub overflow: u64,
}

/// Several voices in front of one playback.
pub(super) struct Mixer {
    voices: Vec<Voice>,
    when_both: WhenBoth,
    /// Whose turn it is.
    floor: Option<usize>,
    /// Times that all were cleared.
    pub(super) epoch: u32,
    pub(super) told: Vec<Told>,
}

impl Mixer {
    pub(super) fn new(names: &[&str], when_both: WhenBoth, rate: SampleRate) -> Self {
        let voice = |(index, name): (usize, &&str)| Voice::new(index, name, rate);
        let voices = names.iter().enumerate().map(voice).collect();
        Self { voices, when_both, floor: None, epoch: 0, told: Vec::new() }
    }

    pub(super) fn epoch_of(&self, voice: usize) -> u32 {
        self.voices.get(voice).map_or(0, |voice| voice.epoch)
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (&str, VoiceCounts)> {
        self.voices.iter().map(|voice| (&*voice.name, voice.counts()))
    }

    /// Whether anything waits.
    pub(super) fn is_active(&self) -> bool {
        self.voices.iter().any(|voice| voice.waiting() > 0)
    }

    pub(super) fn push(
        &mut self,
        now: Instant,
        voice: usize,
        samples: &[i16],
        pace: Pace,
        playout: &Playout,
    ) -> (u64, u64) {
        let voice = self.voices.get_mut(voice);
        voice.map_or((0, 0), |voice| voice.push(now, samples, pace, playout))
    }

    /// The utterance of one, or of all, is complete.
    pub(super) fn end_utterance(&mut self, voice: Option<usize>) {
        self.chosen(voice).for_each(Voice::end_utterance);
    }

    fn chosen(&mut self, voice: Option<usize>) -> impl Iterator<Item = &mut Voice> {
        let voices = self.voices.iter_mut().enumerate();
        voices.filter(move |(index, _)| voice.is_none_or(|v| v == *index)).map(|(_, voice)| voice)
    }

    pub(super) fn mark(
        &mut self,
        now: Instant,
        voice: usize,
        owner: usize,
        name: String,
        playout: &mut Playout,
    ) -> bool {
        self.settle(now, playout);
        let Some(voice) = self.voices.get_mut(voice) else { return false };
        let taken = voice.mark(owner, name, &mut self.told);
        voice.tag(playout);
        taken
    }

    /// Mixes what playback wants for its next message; says whether there was anything.
    pub(super) fn fill(&mut self, now: Instant, playout: &mut Playout) -> bool {
        let mut mixed = Pcm::lend();
        let room = playout.wants(now);
        if room > 0 {
            match self.when_both {
                WhenBoth::Mix => self.mix(now, room, playout.end(), &mut mixed),
                WhenBoth::Queue => self.take_turn(now, room, playout.end(), &mut mixed),
            }
        }
        if !mixed.is_empty() {
            playout.push(now, &mixed, Pace::Clip);
            self.voices.iter_mut().for_each(|voice| voice.tag(playout));
        }
        if self.voices.iter().all(|voice| voice.waiting() == 0 && voice.is_flushed()) {
            playout.end_utterance();
        }
        !mixed.is_empty()
    }

    fn take_turn(&mut self, now: Instant, room: u64, at: u64, mixed: &mut Vec<i16>) {
        if let Some(floor) = self.take_floor(now) {
            let voice = &mut self.voices[floor];
            voice.take(now, at, room.min(voice.of_utterance()), mixed, &mut self.told);
        }
    }

    fn mix(&mut self, now: Instant, room: u64, at: u64, mixed: &mut Vec<i16>) {
        let full = |voice: &Voice| voice.waiting() >= room || voice.is_flushed();
        // Beside others that fill the message, a voice has time until the next one for what is missing of its own.
        let others = self.voices.iter().any(|voice| voice.is_ready() && full(voice));
        for voice in self.voices.iter_mut().filter(|voice| voice.is_ready()) {
            if full(voice) || !others {
                let count = room.min(voice.waiting());
                voice.take(now, at, count, mixed, &mut self.told);
            }
        }
    }

    /// Whose turn it is, if there is something to be said now.
    fn take_floor(&mut self, now: Instant) -> Option<usize> {
        if let Some(voice) = self.floor.map(|floor| &self.voices[floor])
            && voice.is_in_utterance()
        {
            if voice.paused {
                return None;
            }
            if voice.waiting() > 0 {
                return self.floor;
            }
            if now < voice.dry_since + PATIENCE {
                return None;
            }
        }
        let waits = |(index, voice): (usize, &Voice)| Some((voice.next_since()?, index));
        self.floor = self.voices.iter().enumerate().filter_map(waits).min().map(|(_, index)| index);
        self.floor
    }

    /// When [`Self::fill`] has something to do.
    pub(super) fn poll_timeout(&self, playout: &Playout) -> Option<Instant> {
        let ends = self.voices.iter().any(Voice::is_ending).then(|| playout.drains_at()).flatten();
        let wanted = playout.wants_at().filter(|_| self.voices.iter().any(Voice::is_ready));
        let holder = self.floor.filter(|_| self.when_both == WhenBoth::Queue);
        let holder =
            holder.map(|floor| &self.voices[floor]).filter(|voice| voice.is_in_utterance());
        let wanted = match holder {
            Some(voice) if voice.paused => None,
            Some(voice) if voice.waiting() == 0 => {
                wanted.map(|wanted| wanted.max(voice.dry_since + PATIENCE))
            }
            _ => wanted,
        };
        [ends, wanted].into_iter().flatten().min()
    }

    /// Takes in what playback has to tell and what was heard.
    pub(super) fn settle(&mut self, now: Instant, playout: &mut Playout) {
        let Self { voices, told, .. } = self;
        for news in playout.drain_told() {
            match news {
                Told::Mark { owner, report } => voices[owner].reached(&report.name, told),
                Told::Playback(playback) if playback.state == PlaybackState::Underrun => {
                    voices.iter().for_each(|voice| voice.ran_dry(told));
                }
                Told::Playback(_) | Told::PlaybackOf { .. } => {}
            }
        }
        let heard = playout.heard(now);
        for voice in voices {
            voice.forget(heard);
            voice.settle(told);
        }
    }

    /// The stream is gone: what was not heard is mixed anew.
    pub(super) fn detach(&mut self, now: Instant, playout: &mut Playout) {
        self.settle(now, playout);
        playout.recall(now, &mut |_| {});
        let told = &mut self.told;
        self.voices.iter_mut().for_each(|voice| voice.rewind(told));
        playout.detach(now);
    }

    /// Takes all back that can be and was not heard, to be mixed anew.
    fn recall(&mut self, now: Instant, playout: &mut Playout, emit: &mut dyn FnMut(Emit<'_>)) {
        if playout.can_recall() {
            playout.recall(now, emit);
            let told = &mut self.told;
            self.voices.iter_mut().for_each(|voice| voice.rewind(told));
        }
    }

    /// Drops all that one of them has queued, or all of them have, and begins a new epoch of it.
    pub(super) fn clear(
        &mut self,
        now: Instant,
        whose: Option<usize>,
        playout: &mut Playout,
        emit: &mut dyn FnMut(Emit<'_>),
    ) -> Vec<(usize, Cleared)> {
        self.settle(now, playout);
        if whose.is_none() || self.chosen(whose).any(|voice| voice.is_placed()) {
            self.recall(now, playout, emit);
        }
        self.epoch += u32::from(whose.is_none());
        let told = &mut self.told;
        let voices = self.voices.iter_mut().enumerate();
        let chosen = voices.filter(|(index, _)| whose.is_none_or(|whose| whose == *index));
        chosen.map(|(index, voice)| (index, voice.clear(told))).collect()
    }

    pub(super) fn pause(
        &mut self,
        now: Instant,
        voice: usize,
        playout: &mut Playout,
        emit: &mut dyn FnMut(Emit<'_>),
    ) {
        if self.voices.get(voice).is_none_or(|voice| voice.paused) {
            return;
        }
        self.settle(now, playout);
        if self.voices[voice].is_placed() {
            self.recall(now, playout, emit);
        }
        self.voices[voice].pause(&mut self.told);
    }

    pub(super) fn resume(&mut self, voice: usize) {
        if let Some(voice) = self.voices.get_mut(voice) {
            voice.paused = false;
        }
    }
}
