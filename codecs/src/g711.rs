//! ITU-T G.711 mu-law and A-law. Pure functions and a stateless codec; knows no rate.

use std::num::NonZeroUsize;

use crate::{DecodeError, Decoder, EncodeError, Encoder, MediaFormat};

/// Which of the two companding laws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// North America and Japan.
    Mu,
    /// The rest of the world.
    A,
}

/// One mu-law code to a 16-bit sample (14-bit value of the standard, left-aligned).
#[must_use]
pub const fn mu_to_linear(code: u8) -> i16 {
    let code = !code;
    let magnitude = ((((code & 0x0F) as i16) << 3) + 0x84) << ((code & 0x70) >> 4);
    if code & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }
}

/// One 16-bit sample to its mu-law code.
#[must_use]
pub const fn linear_to_mu(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let wide = sample as i32;
    let magnitude = if wide < 0 { -wide } else { wide };
    let clipped = (if magnitude > 32_635 { 32_635 } else { magnitude }) + 0x84;
    let segment = (clipped as u32).ilog2() - 7;
    !(sign | (segment as u8) << 4 | ((clipped >> (segment + 3)) & 0x0F) as u8)
}

/// One A-law code to a 16-bit sample (13-bit value of the standard, left-aligned).
#[must_use]
pub const fn a_to_linear(code: u8) -> i16 {
    let code = code ^ 0x55;
    let segment = (code & 0x70) >> 4;
    let mantissa = ((code & 0x0F) as i16) << 4;
    let magnitude = if segment == 0 { mantissa + 8 } else { (mantissa + 0x108) << (segment - 1) };
    if code & 0x80 == 0 { -magnitude } else { magnitude }
}

/// One 16-bit sample to its A-law code.
#[must_use]
pub const fn linear_to_a(sample: i16) -> u8 {
    let (sign, magnitude) = if sample < 0 { (0, !sample) } else { (0x80, sample) };
    let segment = if magnitude < 256 { 0 } else { (magnitude as u32).ilog2() - 7 };
    let mantissa = magnitude >> if segment == 0 { 4 } else { segment + 3 };
    (sign | (segment as u8) << 4 | (mantissa & 0x0F) as u8) ^ 0x55
}

pub(crate) struct Codec {
    law: Law,
}

impl Codec {
    pub(crate) fn new(law: Law, _format: MediaFormat) -> Self {
        Self { law }
    }
}

impl Decoder for Codec {
    fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) -> Result<(), DecodeError> {
        match self.law {
            Law::Mu => pcm.extend(payload.iter().map(|&c| mu_to_linear(c))),
            Law::A => pcm.extend(payload.iter().map(|&c| a_to_linear(c))),
        }
        Ok(())
    }

    fn conceal(&mut self, samples: usize, pcm: &mut Vec<i16>) {
        pcm.resize(pcm.len() + samples, 0);
    }

    fn reset(&mut self) {}
}

impl Encoder for Codec {
    fn frame_samples(&self) -> Option<NonZeroUsize> {
        None
    }

    fn encode(&mut self, pcm: &[i16], payload: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self.law {
            Law::Mu => payload.extend(pcm.iter().map(|&s| linear_to_mu(s))),
            Law::A => payload.extend(pcm.iter().map(|&s| linear_to_a(s))),
        }
        Ok(())
    }

    fn reset(&mut self) {}
}
