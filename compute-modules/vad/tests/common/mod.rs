//! Sounds for the tests: the speech file, noise and tones by formula, and a doubling of the sample rate. Asserts nothing.

use std::f64::consts::TAU;

/// Where the sentences of the speech file lie, in milliseconds (printed by `tests/data/make-speech.sh`).
pub(crate) const SENTENCES: [(u64, u64); 4] =
    [(750, 3119), (3869, 6653), (7403, 10594), (11344, 11763)];

/// Half of a symmetric half-band filter in 1/32768; the same numbers stand in tests/data/make-parity.py.
const HALF_BAND: [i32; 16] =
    [20798, -6759, 3854, -2548, 1785, -1279, 920, -656, 459, -314, 207, -130, 77, -42, 20, -8];

/// Four sentences as they come off a telephone line, at 8 kHz.
pub(crate) fn speech_8k() -> Vec<i16> {
    let octets = include_bytes!("../data/speech-8k.ulaw");
    octets.iter().map(|code| ringback_codecs::g711::mu_to_linear(*code)).collect()
}

/// Four sentences as the module gets them, at 16 kHz.
pub(crate) fn speech() -> Vec<i16> {
    upsample(&speech_8k())
}

/// Doubles the sample rate, in whole numbers so that every machine gets the same.
pub(crate) fn upsample(samples: &[i16]) -> Vec<i16> {
    let at = |n: usize| n.checked_sub(16).and_then(|n| samples.get(n)).map_or(0, |s| i32::from(*s));
    let mut doubled = Vec::with_capacity(2 * samples.len());
    for (n, sample) in samples.iter().enumerate() {
        let taps = HALF_BAND.iter().enumerate();
        let sum: i32 = taps.map(|(k, weight)| weight * (at(n + 16 - k) + at(n + 17 + k))).sum();
        doubled.push(*sample);
        doubled.push(saturate((sum + (1 << 14)) >> 15));
    }
    doubled
}

/// White noise at full scale, in whole numbers.
pub(crate) fn noise(length: usize) -> Vec<i16> {
    let mut seed = 1u32;
    let step = |_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        saturate((seed >> 16) as i32 - 32_768)
    };
    (0..length).map(step).collect()
}

/// Noise of equal power in every octave: white noise through one-pole filters (1/f within 0.5 dB), about -20 dBFS.
pub(crate) fn pink_noise(length: usize) -> Vec<i16> {
    let poles = [(0.99765, 0.099_046), (0.963, 0.296_516_4), (0.57, 1.052_691_3)];
    let mut memory = [0.0; 3];
    let shape = |white: i16| {
        let white = f64::from(white) / 32_768.0;
        for (value, (pole, gain)) in memory.iter_mut().zip(poles) {
            *value = pole * *value + gain * white;
        }
        let pink = memory.iter().sum::<f64>() + 0.1848 * white;
        saturate((pink * 2_000.0) as i32)
    };
    noise(length).into_iter().map(shape).collect()
}

/// A sum of sines at 8 kHz, each of the given amplitude.
pub(crate) fn tones(frequencies: &[f64], amplitude: f64, length: usize) -> Vec<i16> {
    let sample = |n: usize| {
        let sines = frequencies.iter().map(|hertz| (TAU * hertz * n as f64 / 8_000.0).sin());
        saturate((sines.sum::<f64>() * amplitude) as i32)
    };
    (0..length).map(sample).collect()
}

/// Sample by sample, cut off at full scale.
pub(crate) fn mix(a: &[i16], b: &[i16]) -> Vec<i16> {
    a.iter().zip(b).map(|(a, b)| saturate(i32::from(*a) + i32::from(*b))).collect()
}

/// Loudness as the root of the mean square.
pub(crate) fn rms(samples: &[i16]) -> f64 {
    let sum: f64 = samples.iter().map(|s| f64::from(*s).powi(2)).sum();
    (sum / samples.len() as f64).sqrt()
}

/// As loud as asked for.
pub(crate) fn scaled(samples: &[i16], to_rms: f64) -> Vec<i16> {
    let factor = to_rms / rms(samples);
    samples.iter().map(|s| saturate((f64::from(*s) * factor) as i32)).collect()
}

fn saturate(sample: i32) -> i16 {
    sample.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
}
