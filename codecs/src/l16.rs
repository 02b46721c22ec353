//! 16-bit linear PCM in either byte order. Knows no rate and keeps no state but what concealment needs.

use std::num::NonZeroUsize;

use crate::{DecodeError, Decoder, EncodeError, Encoder, Encoding, Endian, MediaFormat};

pub(crate) struct Codec {
    endian: Endian,
}

impl Codec {
    pub(crate) fn new(endian: Endian, _format: MediaFormat) -> Self {
        Self { endian }
    }
}

impl Decoder for Codec {
    fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) -> Result<(), DecodeError> {
        let (pairs, rest) = payload.as_chunks::<2>();
        if !rest.is_empty() {
            let encoding = Encoding::L16(self.endian);
            return Err(DecodeError::Length { encoding, len: payload.len(), multiple: 2 });
        }
        match self.endian {
            Endian::Little => pcm.extend(pairs.iter().map(|&b| i16::from_le_bytes(b))),
            Endian::Big => pcm.extend(pairs.iter().map(|&b| i16::from_be_bytes(b))),
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
        match self.endian {
            Endian::Little => payload.extend(pcm.iter().flat_map(|s| s.to_le_bytes())),
            Endian::Big => payload.extend(pcm.iter().flat_map(|s| s.to_be_bytes())),
        }
        Ok(())
    }

    fn reset(&mut self) {}
}
