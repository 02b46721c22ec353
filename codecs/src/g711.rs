//! ITU-T G.711 mu-law and A-law: single samples, whole payloads, and the codec built on them. Knows no rate but for concealment.
//!
//! The standard speaks of 14-bit (mu-law) and 13-bit (A-law) values; here they are left-aligned in 16 bits, so one step of the
//! standard is 4 or 8 and the lowest bits of a sample do not matter. The magnitude of a negative sample is its one's complement
//! (`-1` has magnitude 0, as in the ITU-T G.191 software tool library), which is what makes the low bits not matter on the
//! negative side too. Both laws are symmetric under it: codes of `x` and `!x` differ in the sign bit only. Other implementations
//! negate instead and then differ for negative samples that lie exactly on a decision value.
//!
//! Mu-law has two codes for zero: `0xFF` (+0) and `0x7F` (-0). Both decode to 0; 0 encodes to `0xFF`, and `-4..=-1` to `0x7F`.
//! A-law has no zero at all: its smallest values are +8 (`0xD5`) and -8 (`0x55`).

use std::num::NonZeroUsize;

use multiversion::{multiversion, target::match_target};

use crate::conceal::Concealer;
use crate::{DecodeError, Decoder, EncodeError, Encoder, Encoding, MediaFormat};

/// Which of the two companding laws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// North America and Japan.
    Mu,
    /// The rest of the world.
    A,
}

/// Added to a mu-law magnitude so that every segment begins at a power of two.
const MU_BIAS: i16 = 0x84;
/// Largest mu-law magnitude; what is louder is clipped.
const MU_CLIP: i16 = 32_635;

static MU_TO_LINEAR: [i16; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = expand_mu(code as u8);
        code += 1;
    }
    table
};

static A_TO_LINEAR: [i16; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = expand_a(code as u8);
        code += 1;
    }
    table
};

/// By the 14 bits of a sample that mu-law looks at: 16 KiB, of which speech touches the ends.
static LINEAR_TO_MU: [u8; 1 << 14] = {
    let mut table = [0; 1 << 14];
    let mut index = 0;
    while index < table.len() {
        table[index] = compress_mu(((index as u16) << 2) as i16);
        index += 1;
    }
    table
};

/// By the 12 bits of a sample that A-law can tell apart.
static LINEAR_TO_A: [u8; 1 << 12] = {
    let mut table = [0; 1 << 12];
    let mut index = 0;
    while index < table.len() {
        table[index] = compress_a(((index as u16) << 4) as i16);
        index += 1;
    }
    table
};

const fn expand_mu(code: u8) -> i16 {
    let code = !code;
    let magnitude = ((((code & 0x0F) as i16) << 3) + MU_BIAS) << ((code & 0x70) >> 4);
    if code & 0x80 == 0 { magnitude - MU_BIAS } else { MU_BIAS - magnitude }
}

const fn compress_mu(sample: i16) -> u8 {
    let (sign, magnitude) = if sample < 0 { (0x80, !sample) } else { (0, sample) };
    let biased = (if magnitude > MU_CLIP { MU_CLIP } else { magnitude }) + MU_BIAS;
    // As a float, the segment is in its exponent and the step in the highest bits of its fraction.
    let float = (biased as f32).to_bits() >> 19;
    !(sign | (float as u16).wrapping_sub((127 + 7) << 4) as u8)
}

const fn expand_a(code: u8) -> i16 {
    let code = code ^ 0x55;
    let segment = (code & 0x70) >> 4;
    let mantissa = ((code & 0x0F) as i16) << 4;
    let magnitude = if segment == 0 { mantissa + 8 } else { (mantissa + 0x108) << (segment - 1) };
    if code & 0x80 == 0 { -magnitude } else { magnitude }
}

const fn compress_a(sample: i16) -> u8 {
    let (sign, magnitude) = if sample < 0 { (0, !sample) } else { (0x80, sample) };
    let float = (magnitude as f32).to_bits() >> 19;
    let curved = (float as u16).wrapping_sub((127 + 7) << 4);
    let straight = (magnitude >> 4) as u16;
    (sign | (if magnitude < 256 { straight } else { curved }) as u8) ^ 0x55
}

/// One mu-law code to a 16-bit sample (14-bit value of the standard, left-aligned).
#[must_use]
pub fn mu_to_linear(code: u8) -> i16 {
    MU_TO_LINEAR[code as usize]
}

/// One 16-bit sample to its mu-law code; louder than 32,635 is clipped.
#[must_use]
pub fn linear_to_mu(sample: i16) -> u8 {
    LINEAR_TO_MU[(sample as u16 >> 2) as usize]
}

/// One A-law code to a 16-bit sample (13-bit value of the standard, left-aligned).
#[must_use]
pub fn a_to_linear(code: u8) -> i16 {
    A_TO_LINEAR[code as usize]
}

/// One 16-bit sample to its A-law code.
#[must_use]
pub fn linear_to_a(sample: i16) -> u8 {
    LINEAR_TO_A[(sample as u16 >> 4) as usize]
}

impl Law {
    /// Appends the samples of `codes` to `pcm`, one a code.
    pub fn decode(self, codes: &[u8], pcm: &mut Vec<i16>) {
        let start = pcm.len();
        pcm.resize(start + codes.len(), 0);
        expand(self, codes, &mut pcm[start..]);
    }

    /// Appends the codes of `pcm` to `codes`, one a sample.
    pub fn encode(self, pcm: &[i16], codes: &mut Vec<u8>) {
        let start = codes.len();
        codes.resize(start + pcm.len(), 0);
        compress(self, pcm, &mut codes[start..]);
    }

    const fn encoding(self) -> Encoding {
        match self {
            Self::Mu => Encoding::Pcmu,
            Self::A => Encoding::Pcma,
        }
    }
}

/// Where vectors have a shift for each of their lanes, working samples out is quicker than looking them up.
#[multiversion(targets("x86_64+avx2"))]
fn expand(law: Law, codes: &[u8], pcm: &mut [i16]) {
    match (law, match_target! { "x86_64+avx2" => true, _ => false }) {
        (Law::Mu, true) => each(codes, pcm, expand_mu),
        (Law::Mu, false) => each(codes, pcm, mu_to_linear),
        (Law::A, true) => each(codes, pcm, expand_a),
        (Law::A, false) => each(codes, pcm, a_to_linear),
    }
}

/// As [`expand`].
#[multiversion(targets("x86_64+avx2"))]
fn compress(law: Law, pcm: &[i16], codes: &mut [u8]) {
    match (law, match_target! { "x86_64+avx2" => true, _ => false }) {
        (Law::Mu, true) => each(pcm, codes, compress_mu),
        (Law::Mu, false) => each(pcm, codes, linear_to_mu),
        (Law::A, true) => each(pcm, codes, compress_a),
        (Law::A, false) => each(pcm, codes, linear_to_a),
    }
}

#[inline(always)]
fn each<From: Copy, To>(from: &[From], to: &mut [To], convert: impl Fn(From) -> To) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = convert(*from);
    }
}

/// Codes to samples, with concealment.
pub(crate) struct G711Decoder {
    law: Law,
    channels: usize,
    concealer: Concealer,
}

impl G711Decoder {
    pub(crate) fn new(law: Law, format: MediaFormat, seed: u64) -> Self {
        let concealer = Concealer::new(format.rate, format.channels, seed);
        Self { law, channels: format.channels.into(), concealer }
    }
}

impl Decoder for G711Decoder {
    fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) -> Result<(), DecodeError> {
        DecodeError::unless_whole_groups(self.law.encoding(), payload.len(), self.channels)?;
        let start = pcm.len();
        self.law.decode(payload, pcm);
        self.concealer.heard(&mut pcm[start..]);
        Ok(())
    }

    fn conceal(&mut self, samples: usize, pcm: &mut Vec<i16>) {
        self.concealer.conceal(samples, pcm);
    }

    fn reset(&mut self) {
        self.concealer.reset();
    }
}

/// Samples to codes; keeps nothing from call to call.
pub(crate) struct G711Encoder {
    law: Law,
    channels: usize,
}

impl G711Encoder {
    pub(crate) fn new(law: Law, format: MediaFormat) -> Self {
        Self { law, channels: format.channels.into() }
    }
}

impl Encoder for G711Encoder {
    fn frame_samples(&self) -> Option<NonZeroUsize> {
        None
    }

    fn encode(&mut self, pcm: &[i16], payload: &mut Vec<u8>) -> Result<(), EncodeError> {
        EncodeError::unless_whole_groups(self.law.encoding(), pcm.len(), self.channels)?;
        self.law.encode(pcm, payload);
        Ok(())
    }

    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_and_single_samples_are_converted_alike() {
        let all: Vec<i16> = (i16::MIN..=i16::MAX).collect();
        let codes: Vec<u8> = (0..=u8::MAX).collect();
        type Single = (fn(i16) -> u8, fn(u8) -> i16);
        let laws: [(Law, Single); 2] =
            [(Law::Mu, (linear_to_mu, mu_to_linear)), (Law::A, (linear_to_a, a_to_linear))];
        for (law, (compress, expand)) in laws {
            let (mut compressed, mut expanded) = (Vec::new(), Vec::new());
            law.encode(&all, &mut compressed);
            law.decode(&codes, &mut expanded);
            assert!(compressed.iter().copied().eq(all.iter().map(|&sample| compress(sample))));
            assert!(expanded.iter().copied().eq(codes.iter().map(|&code| expand(code))));
        }
    }
}
