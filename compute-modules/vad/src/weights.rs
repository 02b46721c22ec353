//! The network's weights as laid out for the forward pass, read once from the data file built into this crate. Knows no sound.

use std::sync::LazyLock;

/// Octets of `data/silero-vad-16k.f32`; the file's layout is in `data/README.md`.
static FILE: &[u8] = include_bytes!("../data/silero-vad-16k.f32");

/// Read at first use and shared by every session of the process (1.2 MB).
pub(crate) static WEIGHTS: LazyLock<Weights> = LazyLock::new(|| {
    Weights::parse(FILE).expect("the data file is part of the crate and its tests parse it")
});

/// Frequencies of the short-time Fourier transform, 0 to 8 kHz.
pub(crate) const BINS: usize = 129;
/// Width of the recurrent layer.
pub(crate) const HIDDEN: usize = 128;
/// Samples under one window of the Fourier transform.
pub(crate) const FOURIER: usize = 256;

const MAGIC: &[u8; 8] = b"SILERO16";
const VERSION: u32 = 1;
const HEADER: usize = 16;

/// A matrix and what is added to its product.
///
/// `BLOCK` rows lie side by side, column by column, so that a product runs down all columns with its sums in vector registers.
/// Rows are filled up with zeros to whole blocks.
pub(crate) struct Layer<const BLOCK: usize> {
    columns: usize,
    weights: Vec<[f32; BLOCK]>,
    bias: Vec<[f32; BLOCK]>,
}

impl<const BLOCK: usize> Layer<BLOCK> {
    /// `rows` as in the file, row after row.
    fn new(columns: usize, rows: &[f32], bias: &[f32]) -> Self {
        let mut blocks = Vec::with_capacity(rows.len().div_ceil(BLOCK));
        for group in rows.chunks(columns * BLOCK) {
            blocks.extend((0..columns).map(|column| {
                std::array::from_fn(|row| group.get(row * columns + column).copied().unwrap_or(0.0))
            }));
        }
        let bias = bias
            .chunks(BLOCK)
            .map(|group| std::array::from_fn(|row| group.get(row).copied().unwrap_or(0.0)))
            .collect();
        Self { columns, weights: blocks, bias }
    }

    /// Multiplies with `PLACES` vectors at once: `input` has one entry a column, `output` one a row.
    pub(crate) fn apply<const PLACES: usize>(
        &self,
        input: &[[f32; PLACES]],
        output: &mut [[f32; PLACES]],
    ) {
        debug_assert_eq!(input.len(), self.columns);
        let blocks = self.weights.chunks_exact(self.columns).zip(&self.bias);
        for ((weights, bias), output) in blocks.zip(output.chunks_mut(BLOCK)) {
            let mut sums = [*bias; PLACES];
            for (weights, input) in weights.iter().zip(input) {
                for (sums, x) in sums.iter_mut().zip(input) {
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum += weight * x;
                    }
                }
            }
            for (row, output) in output.iter_mut().enumerate() {
                *output = std::array::from_fn(|place| sums[place][row]);
            }
        }
    }
}

/// All weights.
pub(crate) struct Weights {
    /// A cosine row for each frequency, then a sine row for each, under a Hann window.
    pub(crate) fourier: Layer<8>,
    /// Four convolutions; columns are input channels, each with its three taps.
    pub(crate) encoder: [Layer<8>; 4],
    /// Rows of the gates input, forget, cell, output; columns are the encoder's output, then the last hidden state.
    pub(crate) gates: Layer<32>,
    pub(crate) output: Vec<f32>,
    pub(crate) output_bias: f32,
}

impl Weights {
    fn parse(file: &[u8]) -> Result<Self, String> {
        let mut tensors = Tensors::open(file)?;
        let basis = tensors.take(2 * BINS * FOURIER)?;
        let fourier = Layer::new(FOURIER, &basis, &[0.0; 2 * BINS]);
        let encoder = [
            tensors.convolution(BINS, 128)?,
            tensors.convolution(128, 64)?,
            tensors.convolution(64, 64)?,
            tensors.convolution(64, HIDDEN)?,
        ];
        let gates = tensors.gates()?;
        let output = tensors.take(HIDDEN)?;
        let output_bias = tensors.take(1)?[0];
        tensors.close()?;
        Ok(Self { fourier, encoder, gates, output, output_bias })
    }
}

/// Reads the file's numbers front to back.
struct Tensors<'a> {
    rest: &'a [[u8; 4]],
}

impl<'a> Tensors<'a> {
    fn open(file: &'a [u8]) -> Result<Self, String> {
        let Some((header, body)) = file.split_at_checked(HEADER) else {
            return Err(format!("{} octets do not hold the header of {HEADER}", file.len()));
        };
        let number =
            |at| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if !header.starts_with(MAGIC) || number(8) != VERSION {
            return Err("not a SILERO16 file of version 1".into());
        }
        let (rest, odd) = body.as_chunks();
        if !odd.is_empty() || rest.len() != number(12) as usize {
            return Err(format!("{} numbers promised in {} octets", number(12), body.len()));
        }
        Ok(Self { rest })
    }

    fn take(&mut self, count: usize) -> Result<Vec<f32>, String> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(format!("{count} numbers wanted, {} left", self.rest.len()));
        };
        self.rest = rest;
        Ok(taken.iter().copied().map(f32::from_le_bytes).collect())
    }

    fn convolution(&mut self, inputs: usize, outputs: usize) -> Result<Layer<8>, String> {
        let rows = self.take(outputs * inputs * 3)?;
        let bias = self.take(outputs)?;
        Ok(Layer::new(inputs * 3, &rows, &bias))
    }

    /// The file keeps apart what comes from the encoder and what from the last hidden state; both are summed, so one layer does.
    fn gates(&mut self) -> Result<Layer<32>, String> {
        let from_encoder = self.take(4 * HIDDEN * HIDDEN)?;
        let from_hidden = self.take(4 * HIDDEN * HIDDEN)?;
        let bias_encoder = self.take(4 * HIDDEN)?;
        let bias_hidden = self.take(4 * HIDDEN)?;
        let rows = from_encoder.chunks_exact(HIDDEN).zip(from_hidden.chunks_exact(HIDDEN));
        let rows: Vec<f32> = rows.flat_map(|(x, h)| x.iter().chain(h)).copied().collect();
        let bias: Vec<f32> = bias_encoder.iter().zip(&bias_hidden).map(|(x, h)| x + h).collect();
        Ok(Layer::new(2 * HIDDEN, &rows, &bias))
    }

    fn close(self) -> Result<(), String> {
        let left = self.rest.len();
        if left == 0 { Ok(()) } else { Err(format!("{left} numbers too many")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fourier_rows_are_the_hann_windowed_transform() {
        let turn = |bin: usize, n: usize| {
            std::f64::consts::TAU * (bin * n % FOURIER) as f64 / FOURIER as f64
        };
        for n in 0..FOURIER {
            let mut impulse = [[0.0]; FOURIER];
            impulse[n] = [1.0];
            let mut rows = [[0.0]; 2 * BINS];
            WEIGHTS.fourier.apply(&impulse, &mut rows);
            let hann = 0.5 - 0.5 * turn(1, n).cos();
            for bin in 0..BINS {
                let (cos, sin) = (f64::from(rows[bin][0]), f64::from(rows[BINS + bin][0]));
                assert!((cos - hann * turn(bin, n).cos()).abs() < 1e-6, "cosine {bin} at {n}");
                assert!((sin + hann * turn(bin, n).sin()).abs() < 1e-6, "sine {bin} at {n}");
            }
        }
    }

    #[test]
    fn a_layer_multiplies_and_adds_its_bias() {
        let layer = Layer::<2>::new(2, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[0.5, 0.25, 0.125]);
        let mut output = [[0.0; 2]; 3];
        layer.apply(&[[1.0, 0.0], [10.0, 1.0]], &mut output);
        assert_eq!(output, [[21.5, 2.5], [43.25, 4.25], [65.125, 6.125]]);
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let error = |file: &[u8]| Weights::parse(file).err().unwrap_or_default();
        assert_eq!(error(&FILE[..10]), "10 octets do not hold the header of 16");
        assert_eq!(error(&FILE[..FILE.len() - 4]), "309633 numbers promised in 1238528 octets");
        let mut other = FILE.to_vec();
        other[0] ^= 1;
        assert_eq!(error(&other), "not a SILERO16 file of version 1");
        let mut longer = FILE.to_vec();
        longer[12..16].copy_from_slice(&309_634u32.to_le_bytes());
        longer.extend([0; 4]);
        assert_eq!(error(&longer), "1 numbers too many");
        let shorter = [b"SILERO16".as_slice(), &[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(error(&shorter), "66048 numbers wanted, 1 left");
    }
}
