//! What sound is: payload octets to samples and back, from one rate to another, and what to play when sound is missing.
//!
//! No I/O, no clock, nothing of Ringback below it. Samples are 16-bit signed linear PCM (`i16`), interleaved where there is more
//! than one channel; callers own all buffers and every function appends.

pub mod conceal;
pub mod format;
pub mod g711;
pub mod g722;
mod history;
mod l16;
pub mod noise;
#[cfg(feature = "opus")]
pub mod opus;
mod pitch;
#[cfg(feature = "resample")]
pub mod resample;
#[cfg(feature = "wav")]
pub mod wav;

pub use format::{Encoding, Endian, MediaFormat, SampleRate};
#[cfg(feature = "resample")]
pub use resample::Resampler;

/// Why a payload could not be decoded. The stream goes on: the next payload may be fine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The payload's length cannot hold whole samples of this encoding.
    #[error(
        "{encoding} payload of {len} octets does not hold whole samples (multiple of {multiple})"
    )]
    Length {
        /// Encoding of the payload.
        encoding: Encoding,
        /// Length found.
        len: usize,
        /// Length must be a multiple of this.
        multiple: usize,
    },
    /// The codec library refused the payload.
    #[error("{encoding} payload of {len} octets is corrupt: {reason}")]
    Corrupt {
        /// Encoding of the payload.
        encoding: Encoding,
        /// Length of the payload.
        len: usize,
        /// What the codec said.
        reason: String,
    },
}

/// Why samples could not be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The codec takes whole frames only.
    #[error("{encoding} encodes frames of {expected} samples, got {got}")]
    FrameLength {
        /// Encoding asked for.
        encoding: Encoding,
        /// Samples given.
        got: usize,
        /// Samples the encoder takes.
        expected: usize,
    },
    /// The samples are not whole sample groups, one sample a channel.
    #[error("{got} samples are not whole {encoding} sample groups (multiple of {multiple})")]
    Length {
        /// Encoding asked for.
        encoding: Encoding,
        /// Samples given.
        got: usize,
        /// Count must be a multiple of this, the number of channels.
        multiple: usize,
    },
    /// The codec library refused the samples.
    #[error("{encoding} encoder failed: {reason}")]
    Codec {
        /// Encoding asked for.
        encoding: Encoding,
        /// What the codec said.
        reason: String,
    },
}

/// A format this build has no codec for, or a combination that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{format} is not supported: {reason}")]
pub struct UnsupportedFormat {
    /// The format asked for.
    pub format: MediaFormat,
    /// Why not.
    pub reason: &'static str,
}

/// Payload octets to samples, one per track and direction; keeps codec state from payload to payload.
pub trait Decoder: Send {
    /// Appends the samples of `payload` to `pcm`. On error nothing is appended and the decoder stays usable.
    fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) -> Result<(), DecodeError>;
    /// Appends exactly `samples` samples (per channel, times channels) in place of sound that never came.
    fn conceal(&mut self, samples: usize, pcm: &mut Vec<i16>);
    /// Like [`conceal`](Self::conceal), knowing the payload that follows the gap: codecs whose payloads carry a coarse copy of
    /// the one before (Opus in-band FEC) restore the end of the gap from it. `next` is not consumed: decode it afterwards.
    fn recover(&mut self, next: &[u8], samples: usize, pcm: &mut Vec<i16>) {
        let _ = next;
        self.conceal(samples, pcm);
    }
    /// Forgets all that was heard: the next payload starts a new stream.
    fn reset(&mut self);
}

/// Samples to payload octets.
pub trait Encoder: Send {
    /// How many samples (all channels) one call must bring, or `None` if any number does.
    fn frame_samples(&self) -> Option<std::num::NonZeroUsize>;
    /// Appends the payload of `pcm` to `payload`. On error nothing is appended.
    fn encode(&mut self, pcm: &[i16], payload: &mut Vec<u8>) -> Result<(), EncodeError>;
    /// Starts a new stream.
    fn reset(&mut self);
}
