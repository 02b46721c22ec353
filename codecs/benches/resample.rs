//! Cost of 20 ms of sound for every pair of rates. Says nothing about quality; `tests/quality.rs` does.

use divan::{AllocProfiler, Bencher, black_box, counter::ItemsCount};
use ringback_codecs::{Resampler, SampleRate};

// Shows in every row that a resampler at work does not allocate.
#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const RATES: [u32; 8] = [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];

struct Pair(u32, u32);

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} > {}", self.0, self.1)
    }
}

fn pairs() -> impl Iterator<Item = Pair> {
    RATES
        .into_iter()
        .flat_map(|from| RATES.into_iter().map(move |to| Pair(from, to)))
        .filter(|p| p.0 != p.1)
}

fn frame(rate: SampleRate) -> Vec<i16> {
    let samples = rate.hz().div_ceil(50);
    (0..samples).map(|n| (n.wrapping_mul(2_654_435_761) >> 16) as i16).collect()
}

#[divan::bench(args = pairs())]
fn frame_20_ms(bencher: Bencher<'_, '_>, pair: &Pair) {
    let from = SampleRate::new(pair.0).expect("a rate of the list");
    let to = SampleRate::new(pair.1).expect("a rate of the list");
    let input = frame(from);
    let mut output = Vec::with_capacity(8_192);
    let mut resampler = Resampler::new(from, to);
    bencher.counter(ItemsCount::new(input.len())).bench_local(move || {
        output.clear();
        resampler.process(black_box(&input), &mut output);
        black_box(output.last().copied())
    });
}

// Its `alloc` rows are the memory a resampler holds, beside its own size.
#[divan::bench(args = pairs())]
fn construction(pair: &Pair) -> Resampler {
    let from = SampleRate::new(pair.0).expect("a rate of the list");
    let to = SampleRate::new(pair.1).expect("a rate of the list");
    Resampler::new(from, to)
}

fn main() {
    divan::main();
}
