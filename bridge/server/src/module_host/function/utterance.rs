//! Whole utterances cut out of the caller's sound, by voice activity detection. Decides no turns and sends nothing.

use std::collections::VecDeque;

use ringback_module::message::{FromModule, Reject, Start, StopReason, Vad as Change, VadState};
use ringback_module::{AudioFrame, FrameFlags, Input, Module as _, ModuleError, Outputs};
use ringback_vad::{RATE, Vad};
use serde_json::json;

const PER_MS: u64 = RATE as u64 / 1_000;
/// Sound given before what is known to be speech: detection finds vowels, and words begin with less.
const LEAD: u64 = 200 * PER_MS;
/// And behind it.
const TAIL: u64 = 100 * PER_MS;
/// Sound kept while nobody speaks. Speech is told late, and dated back by less than this.
const KEPT: usize = 2 * RATE as usize;
/// An utterance that lasts longer is given in pieces.
const LONGEST: u64 = 30_000 * PER_MS;

/// What somebody said, as sound at [`RATE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Utterance {
    /// On the call's clock.
    pub(super) start_ms: u64,
    pub(super) end_ms: u64,
    pub(super) samples: Vec<i16>,
    /// Not a piece that another follows.
    pub(super) is_last: bool,
}

/// Listens to one track.
#[derive(Debug)]
pub(super) struct Ears {
    vad: Vad,
    outputs: Outputs,
    sound: VecDeque<i16>,
    /// Position of the first sample of `sound`.
    from: u64,
    /// Where what is being said begins.
    speech: Option<u64>,
}

/// What listening comes to.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// Speech begins or ends.
    Change(Change),
    Utterance(Utterance),
}

impl Ears {
    /// For a call that `start` describes; an utterance ends with this much silence.
    pub(super) fn new(start: &Start, end_of_utterance_ms: u64) -> Result<Self, Reject> {
        let config = json!({"min_silence_ms": end_of_utterance_ms});
        let mut vad = Vad::new();
        vad.start(&Start { config, ..start.clone() })?;
        Ok(Self { vad, outputs: Outputs::new(), sound: VecDeque::new(), from: 0, speech: None })
    }

    /// Takes sound, in order and at [`RATE`]; what is missing is silence.
    pub(super) fn hear(
        &mut self,
        pts: u64,
        flags: FrameFlags,
        samples: &[i16],
        heard: &mut Vec<Heard>,
    ) -> Result<(), ModuleError> {
        let end = self.end();
        if self.sound.is_empty() {
            self.from = pts;
        } else if pts > end {
            let hole = (pts - end).min(LONGEST);
            self.sound.extend(std::iter::repeat_n(0, hole as usize));
            self.from = pts - self.sound.len() as u64;
        }
        let known = (self.end().saturating_sub(pts) as usize).min(samples.len());
        self.sound.extend(&samples[known..]);
        let frame = AudioFrame { track: 0, rate: RATE, pts, flags, samples };
        self.vad.process(Input::Audio(frame), &mut self.outputs)?;
        self.take_changes(heard);
        self.forget(heard);
        Ok(())
    }

    /// No more sound comes: what is being said ends here.
    pub(super) fn finish(&mut self, heard: &mut Vec<Heard>) {
        self.vad.stop(StopReason::Hangup, &mut self.outputs);
        self.take_changes(heard);
    }

    fn end(&self) -> u64 {
        self.from + self.sound.len() as u64
    }

    fn take_changes(&mut self, heard: &mut Vec<Heard>) {
        let mut outputs = std::mem::take(&mut self.outputs);
        for output in outputs.iter() {
            let ringback_module::Output::Message(FromModule::Vad(change)) = output else {
                continue;
            };
            let at = change.at_ms * PER_MS;
            heard.push(Heard::Change(change.clone()));
            match change.state {
                VadState::Speech => self.speech = Some(at.saturating_sub(LEAD)),
                VadState::Silence => {
                    let Some(from) = self.speech.take() else { continue };
                    heard.extend(self.cut(from, at + TAIL, true));
                }
            }
        }
        outputs.reset();
        self.outputs = outputs;
    }

    /// The sound of an utterance, as far as it is there.
    fn cut(&self, from: u64, to: u64, is_last: bool) -> Option<Heard> {
        let (from, to) = (from.max(self.from), to.min(self.end()));
        let samples: Vec<i16> = self
            .sound
            .iter()
            .skip((from - self.from) as usize)
            .take(to.saturating_sub(from) as usize)
            .copied()
            .collect();
        let (start_ms, end_ms) = (from / PER_MS, to / PER_MS);
        (!samples.is_empty()).then_some(Heard::Utterance(Utterance {
            start_ms,
            end_ms,
            samples,
            is_last,
        }))
    }

    /// Lets go of sound that nobody will ask for.
    fn forget(&mut self, heard: &mut Vec<Heard>) {
        let end = self.end();
        if let Some(from) = self.speech.filter(|from| end.saturating_sub(*from) >= LONGEST) {
            heard.extend(self.cut(from, end, false));
            self.speech = Some(end);
        }
        let wanted = match self.speech {
            Some(from) => end.saturating_sub(from) as usize,
            None => KEPT,
        };
        let gone = self.sound.len().saturating_sub(wanted.max(KEPT));
        self.sound.drain(..gone);
        self.from += gone as u64;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn ears() -> Ears {
        let start = serde_json::from_value(json!({
            "v": 1, "session": "s", "call": {"id": "c", "provider": "p"},
            "offer": {"tracks": [{"id": 0, "role": "caller"}], "in": [{"encoding": "pcm_s16le", "rate": 16000}],
                "framing": ["hdr16"]},
        }));
        Ears::new(&start.unwrap(), 500).unwrap()
    }

    /// A sentence of the project's test sounds, at [`RATE`].
    pub(in super::super) fn sentence() -> Vec<i16> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../test-audio/sentence.wav");
        let wav = ringback_codecs::wav::read(std::fs::File::open(path).unwrap()).unwrap();
        let mut samples = Vec::new();
        let to = ringback_codecs::SampleRate::new(RATE).unwrap();
        ringback_codecs::Resampler::new(wav.rate, to).process(&wav.samples, &mut samples);
        samples
    }

    fn heard(ears: &mut Ears, from: u64, samples: &[i16]) -> Vec<Heard> {
        let (mut heard, mut pts) = (Vec::new(), from);
        for frame in samples.chunks(320) {
            ears.hear(pts, FrameFlags::default(), frame, &mut heard).unwrap();
            pts += frame.len() as u64;
        }
        heard
    }

    #[test]
    fn a_sentence_is_one_utterance_with_its_own_times() {
        let (mut ears, mut sound) = (ears(), vec![0; 48_000]);
        sound.extend(sentence());
        sound.extend([0; 16_000]);
        let all = heard(&mut ears, 0, &sound);
        let [Heard::Change(begin), Heard::Change(end), Heard::Utterance(utterance)] = &all[..]
        else {
            panic!("{all:?}")
        };
        assert_eq!((begin.state, end.state), (VadState::Speech, VadState::Silence));
        assert!(utterance.start_ms >= 3_000 - 200 && utterance.end_ms < 3_000 + 5_000);
        let from = (utterance.start_ms * PER_MS) as usize;
        assert_eq!(utterance.samples, sound[from..from + utterance.samples.len()]);
        assert!(ears.sound.len() <= KEPT);
    }

    #[test]
    fn what_is_being_said_at_the_end_is_an_utterance_too() {
        let mut ears = ears();
        let mut all = heard(&mut ears, 0, &sentence()[..24_000]);
        ears.finish(&mut all);
        assert!(
            matches!(all.last(), Some(Heard::Utterance(Utterance { is_last: true, .. }))),
            "{all:?}"
        );
    }

    #[test]
    fn who_speaks_for_ever_is_heard_in_pieces() {
        let mut ears = ears();
        ears.speech = Some(0);
        let all = heard(&mut ears, 0, &vec![0; LONGEST as usize]);
        let pieces: Vec<_> = all
            .iter()
            .filter_map(|heard| match heard {
                Heard::Utterance(utterance) => {
                    Some((utterance.samples.len() as u64, utterance.is_last))
                }
                Heard::Change(_) => None,
            })
            .collect();
        assert_eq!(pieces[0], (LONGEST, false));
    }

    #[test]
    fn a_hole_is_silence() {
        let mut ears = ears();
        heard(&mut ears, 0, &[1; 320]);
        heard(&mut ears, 640, &[2; 320]);
        assert_eq!(ears.sound.len(), 960);
        assert_eq!((ears.sound[319], ears.sound[320], ears.sound[640]), (1, 0, 2));
    }
}
