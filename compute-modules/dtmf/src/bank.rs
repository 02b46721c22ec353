//! Measures one block of sound at the DTMF frequencies and judges whether it is a key's tone. Remembers nothing but the block before.
//!
//! A block is 128 samples under a Hann window: 16 ms is short enough to see a pause of 40 ms between two presses, and the window's
//! side lobes are low enough that the two tones of a key do not disturb each other. Its main lobe is 250 Hz wide and could not tell
//! 697 Hz from 721 Hz; but the phase of a tone turns from block to block as fast as its frequency says, which is exact to about 1 Hz.

use std::f64::consts::{PI, TAU};
use std::sync::LazyLock;

/// Samples per second.
pub(crate) const RATE: u32 = 8_000;
/// Samples measured at a time.
pub(crate) const BLOCK: usize = 128;
/// Samples from one block to the next.
pub(crate) const HOP: usize = 40;

/// Tones of ITU-T Q.23, rows then columns.
const TONES: [f64; 8] = [697.0, 770.0, 852.0, 941.0, 1_209.0, 1_336.0, 1_477.0, 1_633.0];
const KEYS: [[char; 4]; 4] =
    [['1', '2', '3', 'A'], ['4', '5', '6', 'B'], ['7', '8', '9', 'C'], ['*', '0', '#', 'D']];

/// Largest difference from the nominal frequency: above the 1.5 % that must work, and below the 2.1 % from which on a voice's first
/// two harmonics (682 and 1364 Hz, say) could be a row and a column tone. Beyond 3.5 % nothing may work.
const DETUNE: f64 = 0.02;
/// How much stronger than the column tone the row tone may be: 8 dB, as lines dampen high tones, and 1.5 dB for noise.
const ROW_STRONGER: f64 = 8.912_5;
/// How much stronger than the row tone the column tone may be: 4 dB, and 1.5 dB for noise.
const COLUMN_STRONGER: f64 = 3.548_1;
/// Share of a block's energy that the two tones must have: noise may be 6 dB below them, a voice's other harmonics may not be above.
const PURITY: f64 = 0.8;
/// Power of the weakest tone, of full scale squared: an amplitude of -46 dBFS.
const WEAKEST: f64 = 2.5e-5;
/// Largest second harmonic of the column tone, of its own power (-10 dB). That of a row tone lies within 5 % of a column tone or far
/// from both, so that detuning and purity see to it.
const HARMONIC: f64 = 0.1;

static BANK: LazyLock<Bank> = LazyLock::new(Bank::new);

/// A windowed cosine and sine.
type Wave = [[f32; BLOCK]; 2];

struct Bank {
    window: [f32; BLOCK],
    tones: [Wave; 8],
    /// At twice the frequency of each column.
    harmonics: [Wave; 4],
    /// Sum of the window, and of its squares.
    sum: f64,
    sum_of_squares: f64,
}

impl Bank {
    fn new() -> Self {
        let window: [f64; BLOCK] =
            std::array::from_fn(|n| 0.5 - 0.5 * (TAU * (n as f64 + 0.5) / BLOCK as f64).cos());
        let wave = |hertz: f64| {
            let angle = |n: usize| TAU * hertz * n as f64 / f64::from(RATE);
            [
                std::array::from_fn(|n| (window[n] * angle(n).cos()) as f32),
                std::array::from_fn(|n| -(window[n] * angle(n).sin()) as f32),
            ]
        };
        Self {
            window: window.map(|weight| weight as f32),
            tones: TONES.map(wave),
            harmonics: std::array::from_fn(|column| wave(2.0 * TONES[4 + column])),
            sum: window.iter().sum(),
            sum_of_squares: window.iter().map(|weight| weight * weight).sum(),
        }
    }

    /// Squared amplitude of a tone from its measured power.
    fn squared_amplitude(&self, power: f64) -> f64 {
        power * 4.0 / (self.sum * self.sum)
    }

    /// Share of the block's energy that two tones have.
    fn purity(&self, lines: [Line; 2], block: &[f32; BLOCK]) -> f64 {
        let energy = |(sample, weight): (&f32, &f32)| f64::from(sample * weight).powi(2);
        let total: f64 = block.iter().zip(&self.window).map(energy).sum();
        let energies = lines.map(|line| {
            let damping = off_centre(line.off * BLOCK as f64 / f64::from(RATE));
            self.squared_amplitude(line.power) / 2.0 * self.sum_of_squares / damping
        });
        energies.iter().sum::<f64>() / total.max(f64::MIN_POSITIVE)
    }
}

/// Amplitude and phase at one frequency.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Phasor {
    re: f64,
    im: f64,
}

impl Phasor {
    fn measure(block: &[f32; BLOCK], [cos, sin]: &Wave) -> Self {
        Self { re: product(block, cos), im: product(block, sin) }
    }

    fn power(self) -> f64 {
        self.re * self.re + self.im * self.im
    }

    /// Angle from `before` to `self`, -pi to pi.
    fn turned(self, before: Self) -> f64 {
        let re = self.re * before.re + self.im * before.im;
        let im = self.im * before.re - self.re * before.im;
        im.atan2(re)
    }
}

/// The eight tones of one block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spectrum([Phasor; 8]);

impl Spectrum {
    /// Measures a block of samples, full scale +-1.
    pub(crate) fn measure(block: &[f32; BLOCK]) -> Self {
        Self(BANK.tones.each_ref().map(|wave| Phasor::measure(block, wave)))
    }

    /// The key whose tone fills `block`, of which this is the spectrum; `before` is that of the block [`HOP`] samples earlier.
    pub(crate) fn key(&self, before: &Self, block: &[f32; BLOCK]) -> Option<char> {
        let bank: &Bank = &BANK;
        let row = self.strongest(before, 0)?;
        let column = self.strongest(before, 4)?;
        let harmonic = || Phasor::measure(block, &bank.harmonics[column.tone - 4]).power();
        let fits = bank.squared_amplitude(row.power.min(column.power)) >= WEAKEST
            && row.power <= column.power * ROW_STRONGER
            && column.power <= row.power * COLUMN_STRONGER
            && bank.purity([row, column], block) >= PURITY
            && harmonic() <= column.power * HARMONIC;
        fits.then(|| KEYS[row.tone][column.tone - 4])
    }

    /// The strongest of four tones from `first` on, unless it is too far from its nominal frequency.
    fn strongest(&self, before: &Self, first: usize) -> Option<Line> {
        let louder = |a: &usize, b: &usize| self.0[*a].power().total_cmp(&self.0[*b].power());
        let tone = (first..first + 4).max_by(louder)?;
        let seconds = HOP as f64 / f64::from(RATE);
        let turned = self.0[tone].turned(before.0[tone]) - TAU * TONES[tone] * seconds;
        let off = (turned - TAU * (turned / TAU).round()) / (TAU * seconds);
        let near = off.abs() <= TONES[tone] * DETUNE;
        near.then(|| Line { tone, power: self.0[tone].power(), off })
    }
}

/// A tone as found.
#[derive(Debug, Clone, Copy)]
struct Line {
    /// Index into [`TONES`].
    tone: usize,
    power: f64,
    /// Hertz above nominal.
    off: f64,
}

/// Power that a Hann window shows of a tone so many bins beside the frequency measured, for less than one bin.
fn off_centre(bins: f64) -> f64 {
    let x = PI * bins;
    let sinc = if x.abs() < 1e-6 { 1.0 } else { x.sin() / x };
    (sinc / (1.0 - bins * bins)).powi(2)
}

/// Sum of products, in eight partial sums for the sake of vector registers.
fn product(a: &[f32; BLOCK], b: &[f32; BLOCK]) -> f64 {
    let mut sums = [0.0; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    f64::from(sums.iter().sum::<f32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two blocks [`HOP`] samples apart of a sum of sines: hertz and amplitude.
    fn key_of(sines: &[(f64, f64)]) -> Option<char> {
        let sample = |n: usize| {
            let at = |(hertz, amplitude): &(f64, f64)| {
                amplitude * (TAU * hertz * n as f64 / f64::from(RATE) + hertz).sin()
            };
            sines.iter().map(at).sum::<f64>() as f32
        };
        let [before, block]: [[f32; BLOCK]; 2] =
            [0, HOP].map(|at| std::array::from_fn(|n| sample(at + n)));
        Spectrum::measure(&block).key(&Spectrum::measure(&before), &block)
    }

    #[test]
    fn each_pair_of_tones_is_its_key() {
        for (row, keys) in KEYS.iter().enumerate() {
            for (column, key) in keys.iter().enumerate() {
                let found = key_of(&[(TONES[row], 0.25), (TONES[4 + column], 0.25)]);
                assert_eq!(found, Some(*key));
            }
        }
    }

    #[test]
    fn detuning_is_accepted_to_one_and_a_half_percent_and_refused_from_three_and_a_half() {
        for row in &TONES[..4] {
            for column in &TONES[4..] {
                for (off, works) in [(0.0, true), (0.015, true), (0.035, false), (0.06, false)] {
                    for (up, across) in [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)] {
                        let hertz = row * (1.0 + off * up);
                        let other = column * (1.0 + off * across);
                        let found = key_of(&[(hertz, 0.25), (other, 0.25)]);
                        assert_eq!(found.is_some(), works, "{hertz} Hz with {other} Hz");
                    }
                }
            }
        }
    }

    #[test]
    fn twist_has_its_limits() {
        let twisted = |decibels: f64| {
            key_of(&[(770.0, 0.2), (1_477.0, 0.2 * 10f64.powf(-decibels / 20.0))]).is_some()
        };
        assert!(twisted(8.0) && !twisted(11.0), "row tone stronger");
        assert!(twisted(-4.0) && !twisted(-7.0), "column tone stronger");
    }

    #[test]
    fn level_has_its_limit() {
        let at = |decibels: f64| {
            let amplitude = 10f64.powf(decibels / 20.0);
            key_of(&[(852.0, amplitude), (1_209.0, amplitude)]).is_some()
        };
        assert!(at(-6.1) && at(-45.0) && !at(-48.0));
    }

    #[test]
    fn a_voice_is_no_key() {
        let tones = [(770.0, 0.2), (1_336.0, 0.2)];
        let with = |hertz, amplitude| key_of(&[tones[0], tones[1], (hertz, amplitude)]);
        assert_eq!(with(2_672.0, 0.03), Some('5'), "a little distortion");
        assert_eq!(with(2_672.0, 0.08), None, "second harmonic of the column");
        assert_eq!(with(300.0, 0.2), None, "something lower beside it");
        assert_eq!(with(3_000.0, 0.2), None, "something higher beside it");
        assert_eq!(key_of(&tones[..1]), None, "one tone alone");
        assert_eq!(key_of(&[(697.0, 0.2), (1_394.0, 0.2)]), None, "an octave");
    }

    #[test]
    fn silence_is_no_key() {
        assert_eq!(key_of(&[]), None);
    }
}
