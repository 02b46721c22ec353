//! 16-bit linear PCM in either byte order. Knows no rate but for concealment.

use std::num::NonZeroUsize;

use crate::conceal::Concealer;
use crate::{DecodeError, Decoder, EncodeError, Encoder, Encoding, Endian, MediaFormat};

/// Octets to samples, with concealment.
pub(crate) struct L16Decoder {
    endian: Endian,
    channels: usize,
    concealer: Concealer,
}

impl L16Decoder {
    pub(crate) fn new(endian: Endian, format: MediaFormat, seed: u64) -> Self {
        let concealer = Concealer::new(format.rate, format.channels, seed);
        Self { endian, channels: format.channels.into(), concealer }
    }
}

impl Decoder for L16Decoder {
    fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) -> Result<(), DecodeError> {
        DecodeError::unless_whole_groups(
            Encoding::L16(self.endian),
            payload.len(),
            2 * self.channels,
        )?;
        let start = pcm.len();
        let (pairs, _) = payload.as_chunks::<2>();
        match self.endian {
            Endian::Little => pcm.extend(pairs.iter().map(|&b| i16::from_le_bytes(b))),
            Endian::Big => pcm.extend(pairs.iter().map(|&b| i16::from_be_bytes(b))),
        }
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

/// Samples to octets; keeps nothing from call to call.
pub(crate) struct L16Encoder {
    endian: Endian,
    channels: usize,
}

impl L16Encoder {
    pub(crate) fn new(endian: Endian, format: MediaFormat) -> Self {
        Self { endian, channels: format.channels.into() }
    }
}

impl Encoder for L16Encoder {
    fn frame_samples(&self) -> Option<NonZeroUsize> {
        None
    }

    fn encode(&mut self, pcm: &[i16], payload: &mut Vec<u8>) -> Result<(), EncodeError> {
        let encoding = Encoding::L16(self.endian);
        EncodeError::unless_whole_groups(encoding, pcm.len(), self.channels)?;
        match self.endian {
            Endian::Little => payload.extend(pcm.iter().flat_map(|s| s.to_le_bytes())),
            Endian::Big => payload.extend(pcm.iter().flat_map(|s| s.to_be_bytes())),
        }
        Ok(())
    }

    fn reset(&mut self) {}
}
