//! The two ADPCM bands of G.722 at 64 kbit/s, bit for bit as the Recommendation's blocks compute them. Knows nothing of filters.
//!
//! A band decodes a code to a sample or finds the code of a sample; both leave the same state. Values are 16 bits wide in the
//! Recommendation and held in 32 here; the blocks named are its own.

use super::qmf::limit;

/// Decision levels of the low band's 60 intervals, one sign, in units of 1/4096 of the scale.
const LOW_DECISIONS: [i32; 29] = [
    35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023,
    1121, 1219, 1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
];
/// Codes of those intervals for negative values; codes for positive ones count down from 61.
const LOW_NEGATIVE: [u8; 30] = [
    63, 62, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10,
    9, 8, 7, 6, 5, 4,
];
/// Output of the low band's 6-bit inverse quantiser, by code, in units of 1/32768 of the scale. The first four codes
/// are never sent at 64 kbit/s.
const LOW_OUTPUT: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232,
    -9360, -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776,
    -2400, -2032, -1688, -1360, -1040, -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280,
    11192, 10232, 9360, 8576, 7856, 7192, 6576, 6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776,
    2400, 2032, 1688, 1360, 1040, 728, 432, 136, -432, -136,
];
/// Output of the 4-bit inverse quantiser that the low band adapts by.
const LOW_ADAPTATION: [i32; 16] = [
    0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584,
    1200, 0,
];
/// Step of the low band's log scale factor by the four upper bits of a code.
const LOW_LOG_STEP: [i32; 16] =
    [-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60];
/// Decision level of the high band.
const HIGH_DECISION: i32 = 564;
/// Output of the high band's inverse quantiser.
const HIGH_OUTPUT: [i32; 4] = [-7408, -1616, 7408, 1616];
/// Step of the high band's log scale factor.
const HIGH_LOG_STEP: [i32; 4] = [798, -214, 798, -214];
/// 2048 times two to the power of i/32: log to linear scale factor.
const EXPONENTIAL: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834,
    2896, 2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

/// 0 to 4 kHz, 6 bits a sample.
pub(super) struct LowBand {
    predictor: Predictor,
    log_scale: i32,
    scale: i32,
}

impl Default for LowBand {
    fn default() -> Self {
        Self { predictor: Predictor::default(), log_scale: 0, scale: 32 }
    }
}

impl LowBand {
    /// A code of 6 bits to a sample of 15.
    #[inline]
    pub(super) fn decode(&mut self, code: u8) -> i32 {
        let difference = (self.scale * LOW_OUTPUT[usize::from(code & 0x3F)]) >> 15;
        let sample = limit(self.predictor.prediction + difference);
        self.adapt(code);
        sample
    }

    /// A sample of 15 bits to its code of 6 (block QUANTL).
    #[inline]
    pub(super) fn encode(&mut self, sample: i32) -> u8 {
        let (negative, magnitude) = sign_magnitude(sample - self.predictor.prediction);
        let interval = LOW_DECISIONS.partition_point(|d| (d * self.scale) >> 12 <= magnitude);
        let code = if negative { LOW_NEGATIVE[interval] } else { 61 - interval as u8 };
        self.adapt(code);
        code
    }

    /// Blocks INVQAL, LOGSCL, SCALEL and the predictor.
    #[inline]
    fn adapt(&mut self, code: u8) {
        let upper = usize::from(code >> 2) & 0x0F;
        let difference = (self.scale * LOW_ADAPTATION[upper]) >> 15;
        self.log_scale = (((self.log_scale * 127) >> 7) + LOW_LOG_STEP[upper]).clamp(0, 18_432);
        self.scale = linear_scale(self.log_scale, 8);
        self.predictor.adapt(difference);
    }
}

/// 4 to 8 kHz, 2 bits a sample.
pub(super) struct HighBand {
    predictor: Predictor,
    log_scale: i32,
    scale: i32,
}

impl Default for HighBand {
    fn default() -> Self {
        Self { predictor: Predictor::default(), log_scale: 0, scale: 8 }
    }
}

impl HighBand {
    /// A code of 2 bits to a sample of 15.
    #[inline]
    pub(super) fn decode(&mut self, code: u8) -> i32 {
        let prediction = self.predictor.prediction;
        limit(prediction + self.adapt(code))
    }

    /// A sample of 15 bits to its code of 2 (block QUANTH).
    #[inline]
    pub(super) fn encode(&mut self, sample: i32) -> u8 {
        let (negative, magnitude) = sign_magnitude(sample - self.predictor.prediction);
        let inner = magnitude < (HIGH_DECISION * self.scale) >> 12;
        let code = u8::from(!negative) << 1 | u8::from(inner);
        self.adapt(code);
        code
    }

    /// Returns the difference the code stands for (blocks INVQAH, LOGSCH, SCALEH and the predictor).
    #[inline]
    fn adapt(&mut self, code: u8) -> i32 {
        let code = usize::from(code & 3);
        let difference = (self.scale * HIGH_OUTPUT[code]) >> 15;
        self.log_scale = (((self.log_scale * 127) >> 7) + HIGH_LOG_STEP[code]).clamp(0, 22_528);
        self.scale = linear_scale(self.log_scale, 10);
        self.predictor.adapt(difference);
        difference
    }
}

/// Two poles and six zeros, adapted by sign (blocks RECONS to PREDIC); the same for both bands.
#[derive(Default)]
struct Predictor {
    /// What the next sample is expected to be.
    prediction: i32,
    /// The zeros' part of it.
    from_zeros: i32,
    poles: [i32; 2],
    zeros: [i32; 6],
    /// The last two reconstructed samples, newest first, doubled as the filter wants them.
    doubled: [i32; 2],
    /// The last two samples reconstructed without the poles.
    partial: [i32; 2],
    /// The last six differences, newest first, doubled.
    differences: [i32; 6],
    /// Sum of their magnitudes.
    magnitudes: i32,
}

impl Predictor {
    #[inline]
    fn adapt(&mut self, difference: i32) {
        let reconstructed = saturate(self.prediction + difference);
        let partial = saturate(self.from_zeros + difference);
        self.move_poles(partial);
        self.move_zeros(difference);
        self.partial = [partial, self.partial[0]];
        self.doubled = [saturate(2 * reconstructed), self.doubled[0]];
        let [first, second, third, fourth, fifth, oldest] = self.differences;
        let newest = saturate(2 * difference);
        self.differences = [newest, first, second, third, fourth, fifth];
        self.magnitudes += newest.abs() - oldest.abs();

        let zeros = self.zeros.iter().zip(&self.differences).map(|(b, d)| (b * d) >> 15);
        self.from_zeros = if self.magnitudes <= 32_767 {
            zeros.sum()
        } else {
            // Block FILTEZ saturates after each addition, oldest first. No part is larger than its difference, so this can
            // matter only here.
            zeros.rev().fold(0, |sum, part| saturate(sum + part))
        };
        let poles = self.poles.iter().zip(&self.doubled).map(|(a, r)| (a * r) >> 15);
        self.prediction = saturate(saturate(poles.sum()) + self.from_zeros);
    }

    /// Blocks UPPOL2 and UPPOL1.
    #[inline]
    fn move_poles(&mut self, partial: i32) {
        let [first, second] = self.poles;
        let alike = self.partial.map(|before| (before ^ partial) >= 0);
        let lead = saturate(first << 2);
        let lead = if alike[0] { (-lead).min(32_767) } else { lead } >> 7;
        let drift = if alike[1] { 128 } else { -128 };
        let second = (lead + drift + ((second * 32_512) >> 15)).clamp(-12_288, 12_288);
        let drift = if alike[0] { 192 } else { -192 };
        let bound = 15_360 - second;
        let first = (((first * 32_640) >> 15) + drift).clamp(-bound, bound);
        self.poles = [first, second];
    }

    /// Block UPZERO. Leaking by 1/256 holds a coefficient within 16 bits, so it never saturates.
    #[inline]
    fn move_zeros(&mut self, difference: i32) {
        let push = if difference == 0 { 0 } else { 128 };
        for (zero, before) in self.zeros.iter_mut().zip(&self.differences) {
            // -1 where the signs differ: turns the push round.
            let differs = (before ^ difference) >> 31;
            *zero = ((*zero * 255) >> 8) + ((push ^ differs) - differs);
        }
    }
}

/// Whether a prediction error is negative, and its one's complement magnitude.
fn sign_magnitude(error: i32) -> (bool, i32) {
    let error = saturate(error);
    (error < 0, error ^ (error >> 31))
}

/// Blocks SCALEL and SCALEH. `whole` is the power of two that stands for 1.
#[inline]
fn linear_scale(log_scale: i32, whole: i32) -> i32 {
    let mantissa = EXPONENTIAL[((log_scale >> 6) & 31) as usize];
    ((mantissa << (log_scale >> 11)) >> whole) << 2
}

fn saturate(value: i32) -> i32 {
    value.clamp(i16::MIN.into(), i16::MAX.into())
}
