//! What to play when sound of a waveform codec is missing, in the spirit of ITU-T G.711 Appendix I: the last pitch periods again,
//! fading into comfort noise. Does not know why sound is missing, nor how long it will be.
//!
//! Unlike the appendix it adds no delay: sound that came is never held back nor altered, so with no loss a stream is bit-exact.
//! The price is that the last real samples cannot be blended into the first made-up ones; the step between them, if any, is
//! spread over a quarter of a pitch period instead.

use crate::SampleRate;
use crate::history::History;
use crate::noise::{ComfortNoise, Floor};
use crate::pitch;

/// Real sound after a loss is blended with the made-up sound for this long.
const JOIN_MS: usize = 5;
/// Made-up sound keeps its level this long,
const FULL_LEVEL_MS: usize = 10;
/// and is noise only from here.
const GONE_MS: usize = 60;
/// Periods repeated at most: one in the first 10 ms, one more in each following 10 ms, which keeps repetition from buzzing.
const MAX_PERIODS: usize = 3;

/// Conceals losses of one stream of interleaved 16-bit samples.
///
/// Tell it all sound that came with [`heard`](Self::heard), ask for what did not come with [`conceal`](Self::conceal).
pub struct Concealer {
    /// Samples per channel in 1 ms.
    per_ms: f32,
    channels: usize,
    history: History,
    floors: Vec<Floor>,
    noises: Vec<ComfortNoise>,
    synthesis: Synthesis,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Sound comes as it should.
    Intact,
    /// The last samples were made up.
    Lost,
    /// Sound came back; this many sample groups are still to be blended.
    Returning { left: usize },
}

impl Concealer {
    /// A concealer that has heard nothing. `seed` makes the noise of streams that may be mixed differ.
    #[must_use]
    pub fn new(rate: SampleRate, channels: u8, seed: u64) -> Self {
        let noise = |channel| ComfortNoise::new(seed.wrapping_mul(256).wrapping_add(channel));
        Self {
            per_ms: rate.hz() as f32 / 1_000.0,
            channels: channels.into(),
            history: History::new(rate.hz() as usize / 100, channels.into()),
            floors: vec![Floor::default(); channels.into()],
            noises: (0..u64::from(channels)).map(noise).collect(),
            synthesis: Synthesis::default(),
            state: State::Intact,
        }
    }

    /// Takes in real sound, whole sample groups. Alters it only within 5 ms after a loss, to blend it in.
    pub fn heard(&mut self, pcm: &mut [i16]) {
        if self.state == State::Intact {
            self.history.push_heard(pcm, &mut self.floors);
            return;
        }
        let blended = self.blend(pcm);
        self.history.push_made(&pcm[..blended]);
        self.history.push_heard(&pcm[blended..], &mut self.floors);
    }

    /// Appends exactly `samples` samples per channel in place of sound that did not come.
    ///
    /// Calls in a row continue one loss: level falls from 10 ms after its beginning to nothing at 60 ms, and noise rises to the
    /// measured floor of the background.
    pub fn conceal(&mut self, samples: usize, pcm: &mut Vec<i16>) {
        if samples == 0 {
            return;
        }
        if self.state != State::Lost {
            self.synthesis.begin(&self.history, self.channels, self.per_ms);
            self.state = State::Lost;
        }
        let start = pcm.len();
        pcm.reserve(samples * self.channels);
        for _ in 0..samples {
            for channel in 0..self.channels {
                let made = self.made_up(channel);
                pcm.push(made.round() as i16);
            }
            self.synthesis.advance();
        }
        self.history.push_made(&pcm[start..]);
    }

    /// Forgets all that was heard.
    pub fn reset(&mut self) {
        self.history.clear();
        self.floors.fill(Floor::default());
        self.noises.iter_mut().for_each(ComfortNoise::reset);
        self.state = State::Intact;
    }

    /// Blends the beginning of `pcm` with what would have been made up; returns how many samples it touched.
    fn blend(&mut self, pcm: &mut [i16]) -> usize {
        let join = (JOIN_MS as f32 * self.per_ms) as usize;
        let mut left = match self.state {
            State::Returning { left } => left,
            State::Lost => join,
            State::Intact => 0,
        };
        let mut touched = 0;
        for group in pcm.chunks_exact_mut(self.channels).take(left) {
            let real = 1.0 - left as f32 / (join + 1) as f32;
            for (channel, sample) in group.iter_mut().enumerate() {
                let made = self.made_up(channel);
                *sample = (made + real * (f32::from(*sample) - made)).round() as i16;
            }
            self.synthesis.advance();
            left -= 1;
            touched += self.channels;
        }
        self.state = if left == 0 { State::Intact } else { State::Returning { left } };
        touched
    }

    fn made_up(&mut self, channel: usize) -> f32 {
        let noise = self.noises[channel].sample(self.floors[channel].level());
        let gain = self.synthesis.gain();
        if gain == 0.0 { noise } else { noise + gain * (self.synthesis.sample(channel) - noise) }
    }
}

/// The repetition of the last pitch periods of one loss, a sample group at a time.
#[derive(Default)]
struct Synthesis {
    /// What was heard before the loss, one channel after the other, oldest sample first.
    past: Vec<f32>,
    /// Samples of `past` per channel.
    len: usize,
    /// Pitch period in samples, or 0 if too little was heard to tell; then the last sample is held and faded.
    period: usize,
    /// Length of every overlap-add: a quarter of a period.
    overlap: usize,
    reader: Reader,
    /// The reader before the last change of the number of periods, and for how many samples it is still blended in.
    previous: Option<(Reader, usize)>,
    /// Per channel, the step from the real sound to the repeated one that repetition itself does not explain.
    steps: Vec<f32>,
    /// Sample groups since the loss began.
    elapsed: usize,
    per_ms: f32,
}

/// A position in the last `periods` pitch periods.
#[derive(Clone, Copy, Default)]
struct Reader {
    periods: usize,
    at: usize,
}

impl Synthesis {
    fn begin(&mut self, history: &History, channels: usize, per_ms: f32) {
        let (old, new) = history.parts();
        self.len = (old.len() + new.len()) / channels;
        self.past.clear();
        for channel in 0..channels {
            let samples = old.iter().skip(channel).step_by(channels);
            let samples = samples.chain(new.iter().skip(channel).step_by(channels));
            self.past.extend(samples.map(|&s| f32::from(s)));
        }
        self.per_ms = per_ms;
        self.elapsed = 0;
        self.previous = None;
        self.reader = Reader { periods: 1, at: 0 };
        self.period = pitch::period(&self.mix(channels), per_ms).unwrap_or(0);
        self.overlap = (self.period / 4).max(1);
        self.steps.clear();
        if self.period > 0 {
            let (last, before) = (self.len - 1, self.len - 1 - self.period);
            let step = |past: &[f32]| past[last] - past[before];
            self.steps.extend(self.past.chunks_exact(self.len).map(step));
        }
    }

    /// All channels as one, so that they share a pitch and keep their places.
    fn mix(&self, channels: usize) -> Vec<f32> {
        let sum = |at| (0..channels).map(|channel| self.past[channel * self.len + at]).sum();
        (0..self.len).map(sum).collect()
    }

    /// Level of the repetition now, 0 to 1.
    fn gain(&self) -> f32 {
        let elapsed = self.elapsed as f32 / self.per_ms;
        let (full, gone) = match self.period {
            0 => (0, JOIN_MS),
            _ => (FULL_LEVEL_MS, GONE_MS),
        };
        (1.0 - (elapsed - full as f32) / (gone - full) as f32).clamp(0.0, 1.0)
    }

    fn sample(&self, channel: usize) -> f32 {
        let past = &self.past[channel * self.len..][..self.len];
        if self.period == 0 {
            return past.last().copied().unwrap_or(0.0);
        }
        let mut sample = self.read(self.reader, past);
        if let Some((reader, left)) = self.previous {
            let weight = left as f32 / (self.overlap + 1) as f32;
            sample += weight * (self.read(reader, past) - sample);
        }
        if self.elapsed < self.overlap {
            sample += self.steps[channel] * (1.0 - self.elapsed as f32 / self.overlap as f32);
        }
        sample
    }

    /// The last quarter of the last period is blended into what came before the first one, so that the end meets the beginning.
    fn read(&self, reader: Reader, past: &[f32]) -> f32 {
        let span = reader.periods * self.period;
        let end = past[self.len - span + reader.at];
        let Some(into) = (reader.at + self.overlap).checked_sub(span) else {
            return end;
        };
        let weight = (into + 1) as f32 / (self.overlap + 1) as f32;
        end + weight * (past[self.len + reader.at - 2 * span] - end)
    }

    fn advance(&mut self) {
        self.elapsed += 1;
        if self.period == 0 {
            return;
        }
        self.reader.advance(self.period);
        self.previous = match self.previous.take() {
            Some((mut reader, left)) if left > 1 => {
                reader.advance(self.period);
                Some((reader, left - 1))
            }
            _ => None,
        };
        let more = self.reader.periods + 1;
        let due = (self.reader.periods * FULL_LEVEL_MS) as f32 * self.per_ms;
        if self.elapsed == due as usize
            && more <= MAX_PERIODS
            && more * self.period + self.overlap <= self.len
        {
            self.previous = Some((self.reader, self.overlap));
            self.reader = Reader { periods: more, at: self.reader.at % self.period };
        }
    }
}

impl Reader {
    fn advance(&mut self, period: usize) {
        self.at += 1;
        if self.at == self.periods * period {
            self.at = 0;
        }
    }
}
