//! What one 32 ms window costs, from samples to probability.

use ringback_vad::{Silero, WINDOW};

fn main() {
    divan::main();
}

/// Noise, so that no layer is fed zeros.
fn noise() -> [f32; WINDOW] {
    let mut seed = 1u32;
    std::array::from_fn(|_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed as f32 / u32::MAX as f32 - 0.5) * 0.2
    })
}

#[divan::bench]
fn window(bencher: divan::Bencher<'_, '_>) {
    let (mut network, window) = (Silero::new(), noise());
    bencher.bench_local(|| network.process(divan::black_box(&window)));
}
