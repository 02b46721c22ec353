//! One sample rate to another, for mono streams cut in any pieces. Does not mix channels, and knows nothing of time but rates.
//!
//! # Which filter
//! With `low` the lower of the two rates:
//! - Equal rates: a copy.
//! - Ratios of small numbers (2, 3, 4, 6, 3:2 and 4:3, either way), so all pairs of 8, 16, 24, 32 and 48 kHz and those among
//!   11.025, 22.05 and 44.1 kHz: a short linear-phase polyphase filter of our own. Tones up to 0.425 `low` pass within 0.01 dB;
//!   their images, and aliases of tones from 0.575 `low` on, are 80 dB down; half of `low` itself is 6 dB down. Between 8 and
//!   16 kHz that is: flat to 3.4 kHz, clean from 4.6 kHz. Delay is 17 to 18 samples of `low`: 2.2 ms where that is 8 kHz.
//!   Samples are the same on every machine.
//! - Everything else (44.1 to 8 kHz, say): [`rubato`], by FFT in blocks of at most 20 ms, or by interpolation where the ratio
//!   would need longer ones. Flat to 0.425 `low` as well, and clean from 0.52 `low`, at 1.7 to 10 ms of delay.
//!
//! `tests/quality.rs` measures and enforces these figures for every pair, and prints them as a table.
//!
//! # Length and delay
//! Output starts with the first sample: nothing is cut off in front, and sound appears [`Resampler::delay`] later in the
//! output than in the input. Frames therefore come out as regularly as they go in.

mod blocks;
mod design;
mod kernel;

use std::fmt;
use std::time::Duration;

use blocks::{Blocks, Method};
use kernel::{Kernel, Past};

use crate::SampleRate;

/// Changes the sample rate of one mono stream; state is carried from call to call.
///
/// However the input is cut into calls, the output is the same, sample for sample. After every call, output so far counts
/// `floor(input * to / from)` samples; pairs left to [`rubato`] come in whole blocks and so may lag behind that by a block.
/// [`Self::finish`] makes it `ceil(input * to / from)` for all pairs.
///
/// Coefficients are shared by the whole process. A resampler is 40 octets; on the heap, our own filters hold 74 octets (8 to
/// 16 kHz) to 444 (48 to 8 kHz) of past input, `rubato`'s 15 to 50 kB with tables of their own. [`Self::process`] allocates
/// nothing but what `output` lacks in capacity.
///
/// ```
/// use ringback_codecs::{Resampler, SampleRate};
///
/// let mut resampler = Resampler::new(SampleRate::HZ_8000, SampleRate::HZ_16000);
/// let mut wide = Vec::new();
/// resampler.process(&[0; 160], &mut wide);
/// assert_eq!(wide.len(), 320);
/// ```
pub struct Resampler {
    from: SampleRate,
    to: SampleRate,
    way: Way,
}

enum Way {
    Copy,
    Filter { kernel: &'static Kernel, past: Past },
    Blocks(Box<Blocks>),
}

impl Resampler {
    /// A resampler that has heard silence so far. Any two rates will do; equal ones cost a copy.
    #[must_use]
    pub fn new(from: SampleRate, to: SampleRate) -> Self {
        let [up, down] = lowest_terms(from, to);
        let way = if up == down {
            Way::Copy
        } else if let Some(kernel) = Kernel::find(up, down) {
            Way::Filter { kernel, past: kernel.past() }
        } else {
            Way::Blocks(Box::new(Blocks::new(from, to)))
        };
        Self { from, to, way }
    }

    /// Takes all of `input`, of any length, and appends to `output` what it completes.
    pub fn process(&mut self, input: &[i16], output: &mut Vec<i16>) {
        match &mut self.way {
            Way::Copy => output.extend_from_slice(input),
            Way::Filter { kernel, past } => kernel.process(past, input, output),
            Way::Blocks(blocks) => blocks.process(input, output),
        }
    }

    /// Ends the stream: appends what is missing to `ceil(input * to / from)` samples, input ending in silence, and is then
    /// as new.
    ///
    /// As output lags by [`Self::delay`], that much of the input's end is not in it. Where the end matters (a file rather
    /// than a call), [`Self::process`] that much silence before, and leave out as much of the output's beginning.
    pub fn finish(&mut self, output: &mut Vec<i16>) {
        match &mut self.way {
            Way::Copy => {}
            Way::Filter { kernel, past } => kernel.finish(past, output),
            Way::Blocks(blocks) => blocks.finish(output),
        }
    }

    /// Forgets all input: as new.
    pub fn reset(&mut self) {
        match &mut self.way {
            Way::Copy => {}
            Way::Filter { kernel, past } => kernel.reset(past),
            Way::Blocks(blocks) => blocks.reset(),
        }
    }

    /// How much later a sound is in the output than in the input (group delay, equal for all pitches).
    ///
    /// Where [`rubato`] works in blocks, a sample may wait up to a block before that.
    #[must_use]
    pub fn delay(&self) -> Duration {
        match &self.way {
            Way::Copy => Duration::ZERO,
            Way::Filter { kernel, .. } => kernel.delay(self.from),
            Way::Blocks(blocks) => blocks.delay(),
        }
    }

    /// Rate of the input.
    #[must_use]
    pub fn from(&self) -> SampleRate {
        self.from
    }

    /// Rate of the output.
    #[must_use]
    pub fn to(&self) -> SampleRate {
        self.to
    }
}

/// One line for a log: `8000 Hz > 16000 Hz, 71-tap half-band, 2.19 ms`.
impl fmt::Display for Resampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}, ", self.from, self.to)?;
        match &self.way {
            Way::Copy => return f.write_str("copy"),
            Way::Filter { kernel, .. } => {
                let kind = if kernel.is_half_band() { "half-band" } else { "polyphase" };
                write!(f, "{}-tap {kind}", kernel.taps())?;
            }
            Way::Blocks(blocks) => {
                let method = match blocks.method() {
                    Method::Fft => "FFT",
                    Method::Sinc => "sinc",
                };
                write!(f, "{method} in blocks of {}", blocks.block())?;
            }
        }
        write!(f, ", {:.2} ms", self.delay().as_secs_f64() * 1_000.0)
    }
}

impl fmt::Debug for Resampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resampler({self})")
    }
}

/// Output and input samples after which both grids meet again: `to / from` in lowest terms, as `[up, down]`.
fn lowest_terms(from: SampleRate, to: SampleRate) -> [usize; 2] {
    let (from, to) = (from.hz() as usize, to.hz() as usize);
    let (mut divisor, mut rest) = (from, to);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    [to / divisor, from / divisor]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_small_and_may_move_between_threads() {
        fn assert_send<T: Send>() {}
        assert_send::<Resampler>();
        assert!(size_of::<Resampler>() <= 40);
    }
}
