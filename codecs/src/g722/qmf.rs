//! The two quadrature mirror filters of G.722: 16 kHz sound to two 8 kHz bands and back. Knows nothing of codes.

/// Sample pairs done at a time: a 20 ms frame.
pub(super) const CHUNK: usize = 160;
/// Pairs a filter looks back, without the newest: 11, and 4 that count for nothing.
const PAST: usize = 15;

/// Every second coefficient of the 24-tap filter, newest pair last; the others are the same backwards. The zeros make 16 of 12,
/// which is what vector instructions like.
const TAPS: [i16; 16] = [0, 0, 0, 0, 3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];
const TAPS_BACKWARDS: [i16; 16] =
    [0, 0, 0, 0, -11, 53, -156, 362, -805, 3876, 951, -210, 32, 12, -11, 3];

/// A delay line of up to [`CHUNK`] new samples after the [`PAST`] before them.
#[derive(Clone)]
struct Line([i16; PAST + CHUNK]);

impl Default for Line {
    fn default() -> Self {
        Self([0; PAST + CHUNK])
    }
}

impl Line {
    /// The new samples of a call, to be written.
    fn new_mut(&mut self) -> &mut [i16] {
        &mut self.0[PAST..]
    }

    /// Filter output at each new sample.
    fn filter(&self, taps: &[i16; 16], output: &mut [i32]) {
        for (output, window) in output.iter_mut().zip(self.0.windows(taps.len())) {
            let products = window.iter().zip(taps).map(|(&x, &tap)| i32::from(x) * i32::from(tap));
            *output = products.sum();
        }
    }

    /// Keeps what the next call looks back at, after `new` new samples.
    fn age(&mut self, new: usize) {
        self.0.copy_within(new..new + PAST, 0);
    }
}

/// Sound to bands.
#[derive(Default)]
pub(super) struct Analysis {
    first: Line,
    second: Line,
}

impl Analysis {
    /// Splits up to [`CHUNK`] pairs into as many samples of the low and the high band.
    pub(super) fn split(&mut self, pairs: &[[i16; 2]], low: &mut [i32], high: &mut [i32]) {
        let lines = self.first.new_mut().iter_mut().zip(self.second.new_mut());
        for (pair, (first, second)) in pairs.iter().zip(lines) {
            [*first, *second] = *pair;
        }
        let (mut first, mut second) = ([0; CHUNK], [0; CHUNK]);
        self.first.filter(&TAPS, &mut first[..pairs.len()]);
        self.second.filter(&TAPS_BACKWARDS, &mut second[..pairs.len()]);
        let bands = low.iter_mut().zip(high).take(pairs.len());
        for ((first, second), (low, high)) in first.iter().zip(&second).zip(bands) {
            *low = limit((second + first) >> 14);
            *high = limit((second - first) >> 14);
        }
        self.first.age(pairs.len());
        self.second.age(pairs.len());
    }
}

/// Bands to sound.
#[derive(Default)]
pub(super) struct Synthesis {
    sums: Line,
    differences: Line,
}

impl Synthesis {
    /// Appends the sound of up to [`CHUNK`] samples of each band: twice as many samples.
    pub(super) fn join(&mut self, low: &[i32], high: &[i32], pcm: &mut Vec<i16>) {
        let lines = self.sums.new_mut().iter_mut().zip(self.differences.new_mut());
        for ((low, high), (sum, difference)) in low.iter().zip(high).zip(lines) {
            // Both bands are limited to 15 bits, so these fit 16.
            *sum = (low + high) as i16;
            *difference = (low - high) as i16;
        }
        let (mut first, mut second) = ([0; CHUNK], [0; CHUNK]);
        self.differences.filter(&TAPS_BACKWARDS, &mut first[..low.len()]);
        self.sums.filter(&TAPS, &mut second[..low.len()]);
        let pairs = first.iter().zip(&second).take(low.len());
        pcm.extend(
            pairs.flat_map(|(first, second)| [saturate(first >> 11), saturate(second >> 11)]),
        );
        self.sums.age(low.len());
        self.differences.age(low.len());
    }
}

/// To the 15 bits of a band sample (block LIMIT).
pub(super) fn limit(value: i32) -> i32 {
    value.clamp(-16_384, 16_383)
}

fn saturate(value: i32) -> i16 {
    value.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}
