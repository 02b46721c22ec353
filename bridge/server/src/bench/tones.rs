//! Sound that says its own number through any codec: two tones at once for as long as a frame lasts, which low bit rates keep and
//! filters only delay. For codecs with a memory (G.722), where `stamp` cannot go; not for Opus, see `melody`. Knows no call and no codec.
//!
//! There are 30 tones, 80 Hz apart and within what a telephone passes, in two groups of fifteen. A frame has one tone of each group,
//! which makes 225 letters: 75 numbers, and three that tell a frame of this call from one of another. A window of 12.5 ms holds
//! whole periods of every tone, so that none disturbs another; it is moved over the sound until it lies within a frame, however late
//! that came. What is read must be little else than two tones of about the same strength, which neither noise nor speech is.

use std::f64::consts::TAU;
use std::time::Duration;

use ringback_codecs::SampleRate;

use super::stamp::{FRAME, check};

/// Of a call's frames, those whose numbers differ by this sound alike: a second and a half.
pub(super) const ALIKE: u32 = LETTERS / CHECKS;
const CHECKS: u32 = 3;
const LETTERS: u32 = (OF_A_GROUP as u32).pow(GROUPS as u32);

const GROUPS: usize = 2;
const OF_A_GROUP: usize = 15;
const TONES: usize = GROUPS * OF_A_GROUP;
const LOWEST_HZ: f64 = 480.0;
const APART_HZ: f64 = 80.0;

/// What is looked at, at once: a period of the distance between two tones.
const WINDOW: Duration = Duration::from_micros(12_500);
/// How far the window moves while it finds nothing.
const STEP: Duration = Duration::from_micros(1_250);
/// How far it moves over a frame that was read: to where nothing of it can be read any more, and the next one can.
const PAST: Duration = Duration::from_micros(15_500);
/// A frame begins and ends softly, lest codecs hear clicks.
const RAMP: Duration = Duration::from_micros(1_250);

/// Strength of one tone.
const LOUD: f64 = 8_000.0;
/// Weaker sound is none.
const QUIET: f64 = 700.0;
/// Of what is in the window, the two tones are at least this share.
const PURE: f64 = 0.85;
/// The tone of a group is so much stronger, in power, than the next one.
const CLEAR: f64 = 5.0;
/// The stronger of the two has no more power than so many times the weaker.
const EVEN: f64 = 20.0;

fn hz(tone: usize) -> f64 {
    LOWEST_HZ + APART_HZ * tone as f64
}

/// What a frame is written as.
fn letter(number: u32, caller: u32) -> u32 {
    let rest = number % ALIKE;
    rest + check(rest, caller) % CHECKS * ALIKE
}

/// The tones at one rate.
pub(super) struct Bank {
    frame: usize,
    window: usize,
    step: usize,
    past: usize,
    ramp: usize,
    /// Radians from a sample to the next, by tone.
    turns: [f64; TONES],
    /// What Goertzel's recursion multiplies by, by tone.
    factors: [f32; TONES],
}

impl Bank {
    pub(super) fn new(rate: SampleRate) -> Self {
        let samples = |time| rate.samples_in(time) as usize;
        let turns = std::array::from_fn(|tone| TAU * hz(tone) / f64::from(rate.hz()));
        Self {
            frame: samples(FRAME),
            window: samples(WINDOW),
            step: samples(STEP),
            past: samples(PAST),
            ramp: samples(RAMP),
            turns,
            factors: turns.map(|turn| (2.0 * turn.cos()) as f32),
        }
    }

    /// Appends a caller's frame.
    pub(super) fn write(&self, number: u32, caller: u32, pcm: &mut Vec<i16>) {
        let letter = letter(number, caller);
        let tones: [f64; GROUPS] = std::array::from_fn(|group| {
            let symbol = letter as usize / OF_A_GROUP.pow(group as u32) % OF_A_GROUP;
            self.turns[group * OF_A_GROUP + symbol]
        });
        pcm.extend((0..self.frame).map(|at| {
            let edge = (at + 1).min(self.frame - at).min(self.ramp) as f64 / self.ramp as f64;
            // Each group begins elsewhere, or all would peak together.
            let wave = |(group, turn): (usize, &f64)| (turn * at as f64 + group as f64).sin();
            (tones.iter().enumerate().map(wave).sum::<f64>() * LOUD * edge) as i16
        }));
    }

    /// Looks for frames and tells the rests of their numbers divided by [`ALIKE`], or `None` for a frame of another call; says how many
    /// samples need not be looked at again, of which some may be yet to come.
    pub(super) fn read_all(
        &self,
        caller: u32,
        pcm: &[i16],
        mut tell: impl FnMut(Option<u32>),
    ) -> usize {
        let mut at = 0;
        while at + self.window <= pcm.len() {
            let Some(letter) = self.read(&pcm[at..at + self.window]) else {
                at += self.step;
                continue;
            };
            let number = letter % ALIKE;
            tell(Some(number).filter(|&number| self::letter(number, caller) == letter));
            at += self.past;
        }
        at
    }

    /// The letter that fills this window, if one does.
    fn read(&self, window: &[i16]) -> Option<u32> {
        let energy: f64 = window.iter().map(|&sample| f64::from(sample).powi(2)).sum();
        if energy < QUIET.powi(2) * window.len() as f64 {
            return None;
        }
        let (mut letter, mut strong) = (0, [0.0; GROUPS]);
        for (group, strongest) in strong.iter_mut().enumerate() {
            let (mut best, mut power, mut next) = (0, 0.0, 0.0);
            for symbol in 0..OF_A_GROUP {
                let found = goertzel(self.factors[group * OF_A_GROUP + symbol], window);
                if found > power {
                    (best, power, next) = (symbol, found, power);
                } else if found > next {
                    next = found;
                }
            }
            if power < CLEAR * next {
                return None;
            }
            letter += (best * OF_A_GROUP.pow(group as u32)) as u32;
            *strongest = power;
        }
        let (weakest, strongest) =
            strong.iter().fold((f64::MAX, 0.0f64), |(least, most), &p| (least.min(p), most.max(p)));
        let share = 2.0 * strong.iter().sum::<f64>() / (window.len() as f64 * energy);
        (share >= PURE && strongest <= EVEN * weakest).then_some(letter)
    }
}

/// The power of one tone in a window (Goertzel 1958).
pub(super) fn goertzel(factor: f32, window: &[i16]) -> f64 {
    let (mut last, mut before) = (0.0f32, 0.0f32);
    for &sample in window {
        (last, before) = (f32::from(sample) + factor * last - before, last);
    }
    let (factor, last, before) = (f64::from(factor), f64::from(last), f64::from(before));
    last * last + before * before - factor * last * before
}

/// Sound in which nothing may be read.
#[cfg(test)]
pub(super) mod testing {
    use ringback_codecs::SampleRate;

    /// Noise, always the same.
    pub(in super::super) fn noise(samples: u32) -> Vec<i16> {
        let mut state = 7u32;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 17) as i16 - 16_384
        };
        (0..samples).map(next).collect()
    }

    /// The repository's recordings, one channel of each: name, rate, samples.
    pub(in super::super) fn recordings() -> Vec<(String, SampleRate, Vec<i16>)> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test-audio");
        let files = std::fs::read_dir(folder).expect("the recordings").flatten();
        let paths = files.map(|file| file.path());
        let wavs = paths.filter(|path| path.extension().is_some_and(|ending| ending == "wav"));
        let read = |path: std::path::PathBuf| {
            let file = std::io::BufReader::new(std::fs::File::open(&path).expect("a file"));
            let wav = ringback_codecs::wav::read(file).expect("a recording");
            let pcm = wav.samples.iter().step_by(usize::from(wav.channels)).copied();
            (path.display().to_string(), wav.rate, pcm.collect())
        };
        wavs.map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use ringback_codecs::{Encoding, Endian, MediaFormat, Resampler};

    use super::super::voice::{Told, Voice};
    use super::*;

    const NUMBERS: std::ops::Range<u32> = 30..170;

    fn formats() -> Vec<MediaFormat> {
        let of = |encoding, rates: &[u32]| {
            let rate =
                |&hz: &u32| MediaFormat::mono(encoding, SampleRate::new(hz).expect("a rate"));
            rates.iter().map(rate).collect::<Vec<_>>()
        };
        [
            of(Encoding::Pcmu, &[8_000, 16_000]),
            of(Encoding::Pcma, &[8_000]),
            of(Encoding::L16(Endian::Little), &[8_000, 11_025, 16_000, 24_000, 44_100, 48_000]),
            of(Encoding::G722, &[16_000]),
        ]
        .concat()
    }

    fn rest(told: Told) -> Option<u32> {
        match told {
            Told::Frame(rest, _) => Some(rest),
            Told::Unreadable(_) | Told::Stranger => None,
        }
    }

    /// All that was read of what was said, encoded, decoded, resampled to `middle` and back, encoded and decoded again.
    fn there_and_back(format: MediaFormat, middle: u32) -> Vec<Option<u32>> {
        let (mut near, mut far) =
            (Voice::new(format, 7).expect("a codec"), Voice::new(format, 7).expect("a codec"));
        let middle = SampleRate::new(middle).expect("a rate");
        let mut there = Resampler::new(format.rate, middle);
        let mut back = Resampler::new(middle, format.rate);
        let (mut payload, mut waiting, mut all) = (Vec::new(), Vec::new(), Vec::new());
        let frame = format.rate.samples_in(FRAME) as usize;
        for number in NUMBERS {
            near.write(number, &mut payload).expect("a frame");
            let (mut pcm, mut wide) = (Vec::new(), Vec::new());
            far.decoder.decode(&payload, &mut pcm).expect("its own octets");
            there.process(&pcm, &mut wide);
            back.process(&wide, &mut waiting);
            while waiting.len() >= frame {
                let piece: Vec<_> = waiting.drain(..frame).collect();
                payload.clear();
                far.encoder.encode(&piece, &mut payload).expect("a frame");
                near.hear(&payload, |told| all.push(rest(told))).expect("its own octets");
            }
        }
        all
    }

    #[test]
    fn numbers_survive_every_codec_and_every_resampling() {
        for format in formats() {
            // What modules may hear, 8 to 48 kHz; the others are between.
            for middle in [8_000, 16_000, 24_000, 48_000] {
                let read = there_and_back(format, middle);
                let said: Vec<_> = NUMBERS.map(|number| Some(number % ALIKE)).collect();
                // The last ones may be on their way yet; a codec that has just begun is not at its best.
                let missing_first = said.iter().position(|n| read.first() == Some(n));
                let first =
                    missing_first.unwrap_or_else(|| panic!("{format} by {middle}: {read:?}"));
                assert!(first <= 2, "{format} by {middle}: the first {first} were not read");
                assert!(read.len() + first + 4 >= said.len(), "{format} by {middle}: {read:?}");
                assert_eq!(read, said[first..first + read.len()], "{format} by {middle}");
            }
        }
    }

    #[test]
    fn frames_that_are_lost_come_twice_or_in_another_order_are_read_as_they_are() {
        for format in
            [MediaFormat::PCMU_8000, MediaFormat::mono(Encoding::G722, SampleRate::HZ_16000)]
        {
            let mut voice = Voice::new(format, 3).expect("a codec");
            let (mut payload, mut read) = (Vec::new(), Vec::new());
            for number in [5, 6, 6, 7, 9, 8, 20, 21, 22] {
                voice.write(number, &mut payload).expect("a frame");
                voice.hear(&payload, |told| read.extend(rest(told))).expect("its own octets");
            }
            // The last one is not through yet.
            assert!(read.starts_with(&[5, 6, 6, 7, 9, 8, 20, 21]), "{format}: {read:?}");
        }
    }

    #[test]
    fn pieces_are_cut_anywhere_and_other_calls_are_told_apart() {
        let bank = Bank::new(SampleRate::HZ_8000);
        let mut pcm = vec![0; 333];
        (0..40).for_each(|number| bank.write(number, 1, &mut pcm));
        let (mut whole, mut others) = (Vec::new(), 0);
        bank.read_all(1, &pcm, |number| whole.extend(number));
        assert_eq!(whole, (0..40).collect::<Vec<_>>());
        bank.read_all(2, &pcm, |number| others += u32::from(number.is_none()));
        assert!(others >= 20, "{others} of 40 were seen to be of another call");
        for cut in [1, 77, 160, 500] {
            let format = MediaFormat::mono(Encoding::L16(Endian::Little), SampleRate::HZ_8000);
            let (mut voice, mut read) = (Voice::new(format, 1).expect("a codec"), Vec::new());
            for piece in pcm.chunks(cut) {
                let octets: Vec<_> = piece.iter().flat_map(|sample| sample.to_le_bytes()).collect();
                voice.hear(&octets, |told| read.extend(rest(told))).expect("whole samples");
            }
            assert_eq!(read, whole, "cut by {cut}");
        }
    }

    #[test]
    fn nothing_is_read_in_noise_in_speech_and_in_silence() {
        let mut windows = 0;
        let mut none = |bank: &Bank, what: &str, pcm: &[i16]| {
            windows += pcm.len() / bank.step;
            let mut read = Vec::new();
            bank.read_all(0, pcm, |number| read.push(number));
            assert_eq!(read, [], "{what}");
        };
        for hz in [8_000, 16_000] {
            let bank = Bank::new(SampleRate::new(hz).expect("a rate"));
            none(&bank, "noise", &testing::noise(hz * 15));
            none(&bank, "silence", &vec![0; hz as usize]);
        }
        for (name, rate, pcm) in testing::recordings() {
            none(&Bank::new(rate), &name, &pcm);
        }
        assert!(windows > 40_000, "{windows} windows were looked at");
    }
}
