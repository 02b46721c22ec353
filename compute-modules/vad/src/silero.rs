//! Silero VAD's forward pass at 16 kHz: a window of sound in, the probability of speech out. Decides nothing and knows no time.
//!
//! The network: 64 samples of the past and 512 new ones, mirrored by 64 at the end; magnitudes of a 256-sample Hann-windowed Fourier
//! transform at four places 128 apart; four convolutions of width 3 over these places (129 to 128, then to 64 and to 64 with every
//! second place, then to 128), each cut off at zero; one LSTM cell of 128; cut off at zero, weighed, sigmoid.

use crate::weights::{BINS, FOURIER, HIDDEN, Layer, WEIGHTS, Weights};

/// Samples per second the network was trained on.
pub const RATE: u32 = 16_000;
/// Samples the network takes at a time: 32 ms.
pub const WINDOW: usize = 512;
/// Samples of the window before that the network sees again.
const CONTEXT: usize = 64;
/// Samples of the window's end that are mirrored behind it.
const MIRROR: usize = 64;
const PADDED: usize = CONTEXT + WINDOW + MIRROR;
/// Samples between two Fourier transforms.
const HOP: usize = 128;

/// The network with its memory of one track.
#[derive(Debug, Clone)]
pub struct Silero {
    context: [f32; CONTEXT],
    hidden: [f32; HIDDEN],
    cell: [f32; HIDDEN],
}

impl Default for Silero {
    fn default() -> Self {
        Self::new()
    }
}

impl Silero {
    /// A network that has heard nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { context: [0.0; CONTEXT], hidden: [0.0; HIDDEN], cell: [0.0; HIDDEN] }
    }

    /// Takes the next 32 ms (16 kHz, full scale +-1) and tells how likely somebody speaks in them, 0 to 1.
    #[must_use]
    pub fn process(&mut self, window: &[f32; WINDOW]) -> f32 {
        let weights: &Weights = &WEIGHTS;
        let [first, second, third, fourth] = &weights.encoder;
        let x = magnitudes(&weights.fourier, &self.padded(window));
        let x: [[f32; 4]; 128] = convolve::<{ 3 * BINS }, _, _, _, _>(first, &x, 1);
        let x: [[f32; 2]; 64] = convolve::<{ 3 * 128 }, _, _, _, _>(second, &x, 2);
        let x: [[f32; 1]; 64] = convolve::<{ 3 * 64 }, _, _, _, _>(third, &x, 2);
        let x: [[f32; 1]; HIDDEN] = convolve::<{ 3 * 64 }, _, _, _, _>(fourth, &x, 1);
        self.remember(&weights.gates, &x);
        let seen = self.hidden.iter().zip(&weights.output).map(|(h, weight)| h.max(0.0) * weight);
        sigmoid(weights.output_bias + seen.sum::<f32>())
    }

    /// The next window does not follow the last one: forgets the last samples, keeps what was made of all before.
    ///
    /// Forgetting all would cost more: a fresh network misses up to 0.4 s of speech that is already going on.
    pub const fn forget_context(&mut self) {
        self.context = [0.0; CONTEXT];
    }

    /// Puts the context in front of the window and the mirror image behind it; the window's end is the next context.
    fn padded(&mut self, window: &[f32; WINDOW]) -> [f32; PADDED] {
        let mut padded = [0.0; PADDED];
        padded[..CONTEXT].copy_from_slice(&self.context);
        padded[CONTEXT..CONTEXT + WINDOW].copy_from_slice(window);
        // The mirror stands on the last sample, which is not doubled.
        let mirrored = window[WINDOW - 1 - MIRROR..WINDOW - 1].iter().rev();
        for (to, from) in padded[CONTEXT + WINDOW..].iter_mut().zip(mirrored) {
            *to = *from;
        }
        self.context.copy_from_slice(&window[WINDOW - CONTEXT..]);
        padded
    }

    /// One step of the LSTM cell.
    fn remember(&mut self, layer: &Layer<32>, x: &[[f32; 1]; HIDDEN]) {
        let mut input = [[0.0]; 2 * HIDDEN];
        input[..HIDDEN].copy_from_slice(x);
        for (to, hidden) in input[HIDDEN..].iter_mut().zip(&self.hidden) {
            *to = [*hidden];
        }
        let mut gates = [[0.0]; 4 * HIDDEN];
        layer.apply(&input, &mut gates);
        for n in 0..HIDDEN {
            let [input, forget, candidate, output] =
                std::array::from_fn(|gate| gates[gate * HIDDEN + n][0]);
            self.cell[n] = sigmoid(forget) * self.cell[n] + sigmoid(input) * candidate.tanh();
            self.hidden[n] = sigmoid(output) * self.cell[n].tanh();
        }
    }
}

/// Strength of every frequency at four places.
fn magnitudes(fourier: &Layer<8>, sound: &[f32; PADDED]) -> [[f32; 4]; BINS] {
    let pieces: [[f32; 4]; FOURIER] =
        std::array::from_fn(|n| std::array::from_fn(|place| sound[place * HOP + n]));
    let mut parts = [[0.0; 4]; 2 * BINS];
    fourier.apply(&pieces, &mut parts);
    let (cosines, sines) = parts.split_at(BINS);
    std::array::from_fn(|bin| {
        std::array::from_fn(|place| {
            let (re, im) = (cosines[bin][place], sines[bin][place]);
            (re * re + im * im).sqrt()
        })
    })
}

/// Every `stride`-th place with its two neighbours (zeros past either end), negative results cut off. `TAPS` is three times `IN`.
fn convolve<
    const TAPS: usize,
    const IN: usize,
    const FROM: usize,
    const OUT: usize,
    const TO: usize,
>(
    layer: &Layer<8>,
    input: &[[f32; FROM]; IN],
    stride: usize,
) -> [[f32; TO]; OUT] {
    const { assert!(TAPS == 3 * IN) };
    let taps: [[f32; TO]; TAPS] = std::array::from_fn(|at| {
        let (channel, tap) = (at / 3, at % 3);
        std::array::from_fn(|place| {
            let from = (place * stride + tap).checked_sub(1);
            from.and_then(|from| input[channel].get(from)).copied().unwrap_or(0.0)
        })
    });
    let mut output = [[0.0; TO]; OUT];
    layer.apply(&taps, &mut output);
    output.map(|places| places.map(|x| x.max(0.0)))
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
