//! Whoever speaks on a stream, one or several, in front of its playback. Decides nothing: one has playback for itself, several are mixed.

use ringback_codecs::SampleRate;
use ringback_module::message::{Cleared, Pace};

use super::mixer::{Mixer, VoiceCounts, WhenBoth};
use super::playout::{Emit, Playout, PlayoutLimits, Told};
use crate::Instant;
use crate::provider::Capabilities;

/// Playback of a stream and those who speak on it. A voice is named by its place in the list it was made of; a single one is 0.
pub struct Voices {
    playout: Playout,
    mixer: Option<Box<Mixer>>,
}

impl Voices {
    /// Those called `names` on a stream that can do `can`, at `rate`.
    #[must_use]
    pub fn new(
        rate: SampleRate,
        can: Capabilities,
        limits: PlayoutLimits,
        names: &[&str],
        when_both: WhenBoth,
    ) -> Self {
        let several = names.len() > 1;
        Self {
            playout: Playout::new(rate, can, limits),
            mixer: several.then(|| Box::new(Mixer::new(names, when_both, rate))),
        }
    }

    /// What they are played by.
    #[must_use]
    pub fn playout(&self) -> &Playout {
        &self.playout
    }

    /// The same, for what is no voice's own: reports of the provider and what was heard.
    pub fn playout_mut(&mut self) -> &mut Playout {
        &mut self.playout
    }

    /// Figures of each, if there are several.
    pub fn counts(&self) -> impl Iterator<Item = (&str, VoiceCounts)> {
        self.mixer.iter().flat_map(|mixer| mixer.counts())
    }

    /// Generation of a voice's playback; for `None` of what clears them all.
    #[must_use]
    pub fn epoch(&self, voice: Option<usize>) -> u32 {
        match (&self.mixer, voice) {
            (None, _) => self.playout.epoch(),
            (Some(mixer), Some(voice)) => mixer.epoch_of(voice),
            (Some(mixer), None) => mixer.epoch,
        }
    }

    /// Whether anything is queued or unheard.
    #[must_use]
    pub fn is_active(&self, now: Instant) -> bool {
        self.playout.is_active(now) || self.mixer.as_ref().is_some_and(|mixer| mixer.is_active())
    }

    /// Takes sound to be played; says how many samples were refused because the queue is full, and how many were trimmed.
    pub fn push(&mut self, now: Instant, voice: usize, samples: &[i16], pace: Pace) -> (u64, u64) {
        if let Some(mixer) = &mut self.mixer {
            return mixer.push(now, voice, samples, pace, &self.playout);
        }
        let trimmed = self.playout.counts().trimmed;
        let refused = self.playout.push(now, samples, pace);
        (refused, self.playout.counts().trimmed - trimmed)
    }

    /// The utterance of a voice, or of all, is complete.
    pub fn end_utterance(&mut self, voice: Option<usize>) {
        match &mut self.mixer {
            None => self.playout.end_utterance(),
            Some(mixer) => mixer.end_utterance(voice),
        }
    }

    /// Sets a mark of `owner` behind all that was pushed; says no if too many are pending.
    #[must_use]
    pub fn mark(&mut self, now: Instant, voice: usize, owner: usize, name: String) -> bool {
        match &mut self.mixer {
            None => self.playout.mark(owner, name),
            Some(mixer) => mixer.mark(now, voice, owner, name, &mut self.playout),
        }
    }

    /// Drops everything queued of a voice, or of all, here and at the provider, and begins a new epoch of it. Others that were cut
    /// off with it are sent anew.
    pub fn clear(
        &mut self,
        now: Instant,
        voice: Option<usize>,
        emit: &mut dyn FnMut(Emit<'_>),
    ) -> Vec<(usize, Cleared)> {
        match &mut self.mixer {
            None => vec![(0, self.playout.clear(now, emit))],
            Some(mixer) => mixer.clear(now, voice, &mut self.playout, emit),
        }
    }

    /// Holds a voice at the sample the caller hears now.
    pub fn pause(&mut self, now: Instant, voice: usize, emit: &mut dyn FnMut(Emit<'_>)) {
        match &mut self.mixer {
            None => self.playout.pause(now, emit),
            Some(mixer) => mixer.pause(now, voice, &mut self.playout, emit),
        }
    }

    /// Goes on with a voice after the last sample heard.
    pub fn resume(&mut self, now: Instant, voice: usize, emit: &mut dyn FnMut(Emit<'_>)) {
        match &mut self.mixer {
            None => self.playout.resume(now, emit),
            Some(mixer) => mixer.resume(voice),
        }
    }

    /// The stream is gone, and with it all that the provider had queued: what was not heard is to be played anew, once there is a stream.
    pub fn detach(&mut self, now: Instant) {
        match &mut self.mixer {
            None => self.playout.detach(now),
            Some(mixer) => mixer.detach(now, &mut self.playout),
        }
    }

    /// There is a stream again.
    pub fn attach(&mut self, now: Instant) {
        self.playout.attach(now);
    }

    /// Sends all that may go now and settles marks by the model.
    pub fn poll(&mut self, now: Instant, emit: &mut dyn FnMut(Emit<'_>)) {
        let Some(mixer) = &mut self.mixer else { return self.playout.poll(now, emit) };
        loop {
            let filled = mixer.fill(now, &mut self.playout);
            self.playout.poll(now, emit);
            if !filled {
                break;
            }
        }
        mixer.settle(now, &mut self.playout);
    }

    /// When [`Self::poll`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let playout = self.playout.poll_timeout();
        let Some(mixer) = &self.mixer else { return playout };
        [playout, mixer.poll_timeout(&self.playout)].into_iter().flatten().min()
    }

    /// Whether [`Self::take_told`] has anything.
    #[must_use]
    pub fn has_told(&self) -> bool {
        match &self.mixer {
            None => self.playout.has_told(),
            Some(mixer) => !mixer.told.is_empty(),
        }
    }

    /// What is to be told, in order.
    pub fn take_told(&mut self) -> Vec<Told> {
        match &mut self.mixer {
            None => self.playout.drain_told().collect(),
            Some(mixer) => std::mem::take(&mut mixer.told),
        }
    }
}
