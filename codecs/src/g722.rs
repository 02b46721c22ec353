//! ITU-T G.722 at 64 kbit/s (mode 1): 16 kHz sound, one octet for two samples. Does not do modes 2 and 3 (56 and 48 kbit/s), whose
//! data channel no voice provider uses.
//!
//! Each octet holds the two high-band bits above the six low-band bits. All arithmetic is that of the Recommendation, bit for
//! bit. From sample in to sample out takes [`DELAY_SAMPLES`].

mod band;
mod qmf;

use std::num::NonZeroUsize;

use crate::conceal::Concealer;
use crate::{DecodeError, Decoder, EncodeError, Encoder, MediaFormat, SampleRate};
use band::{HighBand, LowBand};
use qmf::{Analysis, CHUNK, Synthesis};

/// Delay of encoder and decoder together, in samples at 16 kHz (1.4 ms): the two filters of 24 taps.
pub const DELAY_SAMPLES: usize = 22;

/// Octets to samples, with concealment.
///
/// The state of the bands stands still during a loss. Carrying it on with what was made up comes out worse: as that fades, the
/// scale factors shrink, and the first real sound after a long loss is far too soft for them.
pub(crate) struct G722Decoder {
    core: DecoderCore,
    concealer: Concealer,
}

#[derive(Default)]
struct DecoderCore {
    low: LowBand,
    high: HighBand,
    synthesis: Synthesis,
}

impl DecoderCore {
    fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) {
        pcm.reserve(2 * payload.len());
        for octets in payload.chunks(CHUNK) {
            let (mut low, mut high) = ([0; CHUNK], [0; CHUNK]);
            let bands = low.iter_mut().zip(&mut high);
            for (&octet, (low, high)) in octets.iter().zip(bands) {
                *low = self.low.decode(octet & 0x3F);
                *high = self.high.decode(octet >> 6);
            }
            self.synthesis.join(&low[..octets.len()], &high[..octets.len()], pcm);
        }
    }
}

impl G722Decoder {
    pub(crate) fn new(format: MediaFormat, seed: u64) -> Self {
        let concealer = Concealer::new(SampleRate::HZ_16000, format.channels, seed);
        Self { core: DecoderCore::default(), concealer }
    }
}

impl Decoder for G722Decoder {
    fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) -> Result<(), DecodeError> {
        let start = pcm.len();
        self.core.decode(payload, pcm);
        self.concealer.heard(&mut pcm[start..]);
        Ok(())
    }

    fn conceal(&mut self, samples: usize, pcm: &mut Vec<i16>) {
        self.concealer.conceal(samples, pcm);
    }

    fn reset(&mut self) {
        self.core = DecoderCore::default();
        self.concealer.reset();
    }
}

/// Samples to octets. An odd sample waits for its partner in the next call.
#[derive(Default)]
pub(crate) struct G722Encoder {
    low: LowBand,
    high: HighBand,
    analysis: Analysis,
    odd: Option<i16>,
}

impl G722Encoder {
    fn encode_pairs(&mut self, pairs: &[[i16; 2]], payload: &mut Vec<u8>) {
        for pairs in pairs.chunks(CHUNK) {
            let (mut low, mut high) = ([0; CHUNK], [0; CHUNK]);
            self.analysis.split(pairs, &mut low, &mut high);
            let bands = low.iter().zip(&high).take(pairs.len());
            let octets =
                bands.map(|(&low, &high)| self.high.encode(high) << 6 | self.low.encode(low));
            payload.extend(octets);
        }
    }
}

impl Encoder for G722Encoder {
    fn frame_samples(&self) -> Option<NonZeroUsize> {
        None
    }

    fn encode(&mut self, mut pcm: &[i16], payload: &mut Vec<u8>) -> Result<(), EncodeError> {
        if let (Some(first), [second, rest @ ..]) = (self.odd, pcm) {
            self.encode_pairs(&[[first, *second]], payload);
            self.odd = None;
            pcm = rest;
        }
        let (pairs, odd) = pcm.as_chunks::<2>();
        self.encode_pairs(pairs, payload);
        self.odd = odd.first().copied().or(self.odd);
        Ok(())
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}
