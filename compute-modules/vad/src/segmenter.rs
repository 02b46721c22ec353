//! From probabilities to speech and silence that last. Hears no sound; positions are samples on the media clock.

use ringback_module::message::VadState;

use crate::config::Config;
use crate::silero::RATE;

/// Samples of a millisecond.
const PER_MS: u64 = RATE as u64 / 1_000;

/// The state changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) state: VadState,
    /// Since when, which is before it was noticed.
    pub(crate) at: u64,
}

/// What is known about one track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segmenter {
    /// Nobody speaks; perhaps somebody began to.
    Silence { onset: Option<u64> },
    /// Somebody speaks; perhaps they stopped.
    Speech { ending: Option<u64> },
}

impl Segmenter {
    pub(crate) const fn new() -> Self {
        Self::Silence { onset: None }
    }

    /// Takes the probability of the window from `start` to `end`.
    pub(crate) fn window(
        &mut self,
        config: &Config,
        start: u64,
        end: u64,
        probability: f64,
    ) -> Option<Change> {
        let loud = probability >= config.threshold;
        let quiet = probability < config.stop_threshold;
        match self {
            Self::Silence { onset } => {
                if quiet {
                    *onset = None;
                } else if loud {
                    onset.get_or_insert(start);
                }
                let at = (*onset)?;
                lasted(at, end, config.min_speech_ms).then(|| self.become_speech(at))
            }
            Self::Speech { ending } => {
                if loud {
                    *ending = None;
                } else if quiet {
                    ending.get_or_insert(start);
                }
                let at = (*ending)?;
                lasted(at, end, config.min_silence_ms).then(|| self.become_silence(at))
            }
        }
    }

    /// Nothing is known of the sound between `from` and `to`, which counts as silence.
    pub(crate) fn hole(&mut self, config: &Config, from: u64, to: u64) -> Option<Change> {
        match self {
            Self::Silence { onset } => {
                *onset = None;
                None
            }
            Self::Speech { ending } => {
                // A clock that jumped back must not leave an ending in the future.
                let at = ending.map_or(from, |at| at.min(from));
                *ending = Some(at);
                lasted(at, to, config.min_silence_ms).then(|| self.become_silence(at))
            }
        }
    }

    /// No more sound after `end`: closes open speech.
    pub(crate) fn finish(&mut self, end: u64) -> Option<Change> {
        match *self {
            Self::Silence { .. } => None,
            Self::Speech { ending } => Some(self.become_silence(ending.unwrap_or(end))),
        }
    }

    fn become_speech(&mut self, at: u64) -> Change {
        *self = Self::Speech { ending: None };
        Change { state: VadState::Speech, at }
    }

    fn become_silence(&mut self, at: u64) -> Change {
        *self = Self::Silence { onset: None };
        Change { state: VadState::Silence, at }
    }
}

/// Whether at least `ms` passed between two positions.
const fn lasted(from: u64, to: u64, ms: u64) -> bool {
    to.saturating_sub(from) >= ms * PER_MS
}

/// A position in milliseconds.
pub(crate) const fn milliseconds(position: u64) -> u64 {
    position / PER_MS
}

#[cfg(test)]
mod tests {
    use VadState::{Silence, Speech};

    use super::*;

    const WINDOW: u64 = 512;

    /// States and the windows since when, for one probability a window.
    fn changes(config: &Config, probabilities: &[f64]) -> Vec<(VadState, u64)> {
        let mut segmenter = Segmenter::new();
        let mut seen = Vec::new();
        for (start, probability) in (0..).step_by(WINDOW as usize).zip(probabilities) {
            let change = segmenter.window(config, start, start + WINDOW, *probability);
            seen.extend(change.map(|change| (change.state, change.at / WINDOW)));
        }
        seen
    }

    #[test]
    fn speech_is_told_late_and_dated_back() {
        let config = Config { min_speech_ms: 96, min_silence_ms: 64, ..Config::default() };
        let probabilities = [0.0, 0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1];
        assert_eq!(changes(&config, &probabilities[..3]), []);
        assert_eq!(changes(&config, &probabilities[..4]), [(Speech, 1)]);
        assert_eq!(changes(&config, &probabilities), [(Speech, 1), (Silence, 5)]);
    }

    #[test]
    fn a_click_is_no_speech_and_a_breath_no_silence() {
        let config = Config { min_speech_ms: 96, min_silence_ms: 96, ..Config::default() };
        assert_eq!(changes(&config, &[0.9, 0.9, 0.1, 0.9, 0.9, 0.1]), []);
        assert_eq!(changes(&config, &[0.9, 0.9, 0.9, 0.1, 0.1, 0.9, 0.1, 0.1]), [(Speech, 0)]);
    }

    #[test]
    fn between_the_thresholds_nothing_changes() {
        let config = Config { min_speech_ms: 96, min_silence_ms: 96, ..Config::default() };
        assert_eq!(changes(&config, &[0.4; 20]), []);
        assert_eq!(changes(&config, &[0.9, 0.4, 0.4, 0.4, 0.4]), [(Speech, 0)]);
        assert_eq!(
            changes(&config, &[0.9, 0.9, 0.9, 0.1, 0.4, 0.4]),
            [(Speech, 0), (Silence, 3)],
            "silence that began goes on"
        );
    }

    #[test]
    fn a_hole_counts_as_silence() {
        let config = Config::default();
        let mut segmenter = Segmenter::Speech { ending: None };
        assert_eq!(segmenter.hole(&config, 16_000, 16_320), None);
        assert_eq!(segmenter, Segmenter::Speech { ending: Some(16_000) });
        assert_eq!(segmenter.window(&config, 16_320, 16_832, 0.9), None);
        assert_eq!(segmenter, Segmenter::Speech { ending: None }, "speech on the other side");
        let long = segmenter.hole(&config, 20_000, 28_000);
        assert_eq!(long, Some(Change { state: Silence, at: 20_000 }));

        let mut segmenter = Segmenter::Silence { onset: Some(0) };
        assert_eq!(segmenter.hole(&config, 512, 9_000), None);
        assert_eq!(segmenter, Segmenter::new(), "an onset does not reach over a hole");
    }

    #[test]
    fn the_end_closes_open_speech() {
        assert_eq!(Segmenter::new().finish(99), None);
        assert_eq!(Segmenter::Silence { onset: Some(5) }.finish(99), None);
        let at = |ending| Segmenter::Speech { ending }.finish(99).map(|change| change.at);
        assert_eq!((at(None), at(Some(50))), (Some(99), Some(50)));
    }
}
