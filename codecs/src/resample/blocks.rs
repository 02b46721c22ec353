//! Any other ratio: `rubato`, which takes blocks of a length it names, behind a stream of any lengths. Filters nothing itself.

use std::time::Duration;

use audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Async, Fft, FixedAsync, FixedSync, Resampler as Engine, SincInterpolationParameters,
    WindowFunction, calculate_cutoff,
};

use super::{kernel::to_sample, lowest_terms};
use crate::SampleRate;

/// Filter length in samples of the lower rate, at least: flat to 0.43 of that rate, 80 dB down from its half on.
const FILTER: usize = 80;
/// Longest block an FFT may work on: a telephony frame. Ratios of larger numbers are interpolated instead.
const LONGEST_BLOCK_MS: usize = 20;
/// Points the interpolated filter is tabulated at, per sample of the lower rate.
const POINTS: usize = 128;

/// How `rubato` changes the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// In the frequency domain, by the exact ratio.
    Fft,
    /// By interpolating between tabulated points of a filter, for ratios of large numbers.
    Sinc,
}

/// A `rubato` engine, the block being filled, and how many samples went in and out.
pub(super) struct Blocks {
    engine: Box<dyn Engine<f32>>,
    method: Method,
    delay: Duration,
    /// Input samples of a block.
    block: usize,
    rates: [u64; 2],
    pending: Vec<f32>,
    made: Vec<f32>,
    samples_in: u64,
    samples_out: u64,
}

impl Blocks {
    pub(super) fn new(from: SampleRate, to: SampleRate) -> Self {
        let [up, down] = lowest_terms(from, to);
        let block = down * FILTER.div_ceil(up.min(down));
        let (engine, method, block) = if block * 1_000 <= LONGEST_BLOCK_MS * from.hz() as usize {
            (fft(from, to, block), Method::Fft, block)
        } else {
            let block = from.hz() as usize / 400;
            (sinc(from, to, block), Method::Sinc, block)
        };
        Self {
            method,
            delay: delay(method, from, to, block),
            block,
            rates: [u64::from(from.hz()), u64::from(to.hz())],
            pending: Vec::with_capacity(block),
            made: vec![0.0; engine.output_frames_max()],
            engine,
            samples_in: 0,
            samples_out: 0,
        }
    }

    pub(super) fn method(&self) -> Method {
        self.method
    }

    pub(super) fn block(&self) -> usize {
        self.block
    }

    pub(super) fn delay(&self) -> Duration {
        self.delay
    }

    /// Takes all of `input` and appends the output of the blocks it completes.
    pub(super) fn process(&mut self, mut input: &[i16], output: &mut Vec<i16>) {
        self.samples_in += input.len() as u64;
        while !input.is_empty() {
            let (now, later) = input.split_at(input.len().min(self.block - self.pending.len()));
            self.pending.extend(now.iter().map(|&sample| f32::from(sample)));
            input = later;
            if self.pending.len() == self.block {
                self.run_block(output);
            }
        }
    }

    /// Appends what is missing to the length that all input comes to, rounded up, and forgets all input.
    pub(super) fn finish(&mut self, output: &mut Vec<i16>) {
        let [from, to] = self.rates.map(u128::from);
        let total = (u128::from(self.samples_in) * to).div_ceil(from);
        let end = output.len() + total.saturating_sub(u128::from(self.samples_out)) as usize;
        while output.len() < end {
            self.pending.resize(self.block, 0.0);
            self.run_block(output);
        }
        output.truncate(end);
        self.reset();
    }

    /// Forgets all input.
    pub(super) fn reset(&mut self) {
        self.engine.reset();
        self.pending.clear();
        (self.samples_in, self.samples_out) = (0, 0);
    }

    fn run_block(&mut self, output: &mut Vec<i16>) {
        let frames = self.made.len();
        let input = InterleavedSlice::new(&self.pending, 1, self.block)
            .expect("one channel of a whole block");
        let mut made = InterleavedSlice::new_mut(&mut self.made, 1, frames)
            .expect("one channel as long as the buffer");
        let (_, count) = self
            .engine
            .process_into_buffer(&input, &mut made, None)
            .expect("input is a whole block and output holds the most a block makes");
        self.pending.clear();
        self.samples_out += count as u64;
        output.extend(self.made[..count].iter().map(|&sum| to_sample(sum)));
    }
}

fn fft(from: SampleRate, to: SampleRate, block: usize) -> Box<dyn Engine<f32>> {
    let engine = Fft::new_custom(
        from.hz() as usize,
        to.hz() as usize,
        block,
        1,
        1,
        WindowFunction::Hann2,
        FixedSync::Input,
    );
    Box::new(engine.expect("neither rate nor block is zero"))
}

fn sinc(from: SampleRate, to: SampleRate, block: usize) -> Box<dyn Engine<f32>> {
    let window = WindowFunction::Hann2;
    // Left to itself, rubato derives the cut-off from the length at the input rate, and so puts it too high to keep
    // aliases out where the output rate is much lower.
    let parameters = SincInterpolationParameters::new(sinc_length(from, to), window)
        .f_cutoff(calculate_cutoff(FILTER, window))
        .oversampling_factor((POINTS * to.hz() as usize).div_ceil(from.hz() as usize).min(POINTS));
    let ratio = f64::from(to.hz()) / f64::from(from.hz());
    let engine = Async::new_sinc(ratio, 1.0, &parameters, block, 1, FixedAsync::Input);
    Box::new(engine.expect("the ratio is finite and the block is not empty"))
}

/// Taps at the input rate, in the multiples of eight that `rubato` rounds to.
fn sinc_length(from: SampleRate, to: SampleRate) -> usize {
    let lower = from.min(to).hz() as usize;
    (FILTER * from.hz() as usize).div_ceil(lower).next_multiple_of(8)
}

/// Half the filter; the interpolating engine's first output also lies one output sample later in its input.
fn delay(method: Method, from: SampleRate, to: SampleRate, block: usize) -> Duration {
    let half = |length: usize| (length / 2) as u64 * 1_000_000_000 / u64::from(from.hz());
    Duration::from_nanos(match method {
        Method::Fft => half(block),
        Method::Sinc => half(sinc_length(from, to)) - 1_000_000_000 / u64::from(to.hz()),
    })
}
