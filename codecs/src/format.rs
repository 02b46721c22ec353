//! Names of what is on the wire: encoding, rate, channels. Converts between octets, samples and time; decodes nothing itself.

use std::fmt;
use std::time::Duration;

use crate::g711::{G711Decoder, G711Encoder, Law};
use crate::g722::{G722Decoder, G722Encoder};
use crate::l16::{L16Decoder, L16Encoder};
use crate::{DecodeError, Decoder, EncodeError, Encoder, UnsupportedFormat};

/// Byte order of 16-bit samples on the wire. RFC 3551 says big for `L16`; nearly every WebSocket provider sends little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endian {
    /// Least significant octet first.
    Little,
    /// Most significant octet first (network order).
    Big,
}

/// How samples are written as octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encoding {
    /// ITU-T G.711 mu-law, one octet a sample.
    Pcmu,
    /// ITU-T G.711 A-law, one octet a sample.
    Pcma,
    /// 16-bit linear PCM.
    L16(Endian),
    /// ITU-T G.722 at 64 kbit/s: 16 kHz sound, one octet for two samples.
    G722,
    /// Opus (RFC 6716), one packet a payload.
    Opus,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::L16(Endian::Little) => "L16 (little-endian)",
            Self::L16(Endian::Big) => "L16 (big-endian)",
            Self::G722 => "G.722",
            Self::Opus => "Opus",
        })
    }
}

/// Nanoseconds of a second.
const NANOS: u64 = 1_000_000_000;

/// Samples per second and channel; always within [`SampleRate::MIN`]..=[`SampleRate::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleRate(u32);

impl SampleRate {
    /// Lowest rate accepted, in Hz.
    pub const MIN: u32 = 4_000;
    /// Highest rate accepted, in Hz.
    pub const MAX: u32 = 192_000;
    /// 8 kHz, the telephone.
    pub const HZ_8000: Self = Self(8_000);
    /// 16 kHz, wide-band speech.
    pub const HZ_16000: Self = Self(16_000);
    /// 24 kHz.
    pub const HZ_24000: Self = Self(24_000);
    /// 48 kHz.
    pub const HZ_48000: Self = Self(48_000);

    /// A rate in Hz, or `None` outside [`Self::MIN`]..=[`Self::MAX`].
    #[must_use]
    pub const fn new(hz: u32) -> Option<Self> {
        if hz >= Self::MIN && hz <= Self::MAX { Some(Self(hz)) } else { None }
    }

    /// The rate in Hz.
    #[must_use]
    pub const fn hz(self) -> u32 {
        self.0
    }

    /// Whole samples in `time`, rounded down.
    #[must_use]
    pub const fn samples_in(self, time: Duration) -> u64 {
        // Whole seconds and the rest apart: neither needs more than 64 bits, whose division costs a tenth of that of 128.
        let rest = time.subsec_nanos() as u64 * self.0 as u64 / NANOS;
        time.as_secs().saturating_mul(self.0 as u64).saturating_add(rest)
    }

    /// How long `samples` samples last, rounded up to the nanosecond so that [`Self::samples_in`] gives `samples` back.
    #[must_use]
    pub const fn duration_of(self, samples: u64) -> Duration {
        let (seconds, rest) = (samples / self.0 as u64, samples % self.0 as u64);
        Duration::new(seconds, (rest * NANOS).div_ceil(self.0 as u64) as u32)
    }

    /// `samples` at this rate in whole milliseconds, rounded down.
    #[must_use]
    pub const fn millis_of(self, samples: u64) -> u64 {
        samples * 1_000 / self.0 as u64
    }
}

impl fmt::Display for SampleRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Hz", self.0)
    }
}

/// What a track carries on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MediaFormat {
    /// How samples are written.
    pub encoding: Encoding,
    /// Samples per second and channel, of the sound (16 kHz for G.722, whatever RTP's clock says).
    pub rate: SampleRate,
    /// Channels, interleaved.
    pub channels: u8,
}

impl MediaFormat {
    /// Mono mu-law at 8 kHz, what most telephony sends.
    pub const PCMU_8000: Self =
        Self { encoding: Encoding::Pcmu, rate: SampleRate::HZ_8000, channels: 1 };

    /// One channel of `encoding` at `rate`.
    #[must_use]
    pub const fn mono(encoding: Encoding, rate: SampleRate) -> Self {
        Self { encoding, rate, channels: 1 }
    }

    /// Samples per channel in a payload of `octets`, or `None` where the length does not tell (Opus, or no channel at all).
    #[must_use]
    pub const fn samples_in(self, octets: usize) -> Option<usize> {
        match self.encoding {
            Encoding::Pcmu | Encoding::Pcma => octets.checked_div(self.channels as usize),
            Encoding::L16(_) => (octets / 2).checked_div(self.channels as usize),
            Encoding::G722 => (octets * 2).checked_div(self.channels as usize),
            Encoding::Opus => None,
        }
    }

    /// Samples per channel in `payload`; an Opus packet says it itself (RFC 6716, 3.1). A payload too corrupt to tell counts as 20 ms.
    #[must_use]
    pub fn samples_of(self, payload: &[u8]) -> usize {
        let frames = || opus_tenth_ms(payload).unwrap_or(200);
        self.samples_in(payload.len())
            .unwrap_or_else(|| frames() * self.rate.hz() as usize / 10_000)
    }

    /// Octets that `samples` samples per channel take, or `None` where it varies (Opus).
    #[must_use]
    pub const fn octets_for(self, samples: usize) -> Option<usize> {
        match self.encoding {
            Encoding::Pcmu | Encoding::Pcma => Some(samples * self.channels as usize),
            Encoding::L16(_) => Some(samples * 2 * self.channels as usize),
            Encoding::G722 => Some(samples * self.channels as usize / 2),
            Encoding::Opus => None,
        }
    }

    /// A decoder of this format; see [`Self::decoder_seeded`].
    pub fn decoder(self) -> Result<Box<dyn Decoder>, UnsupportedFormat> {
        self.decoder_seeded(0)
    }

    /// A decoder of this format whose comfort noise comes from `seed`: give streams that may be mixed different seeds, or their
    /// noise adds up. Only the noise depends on it, never decoded sound.
    pub fn decoder_seeded(self, seed: u64) -> Result<Box<dyn Decoder>, UnsupportedFormat> {
        self.check()?;
        Ok(match self.encoding {
            Encoding::Pcmu => Box::new(G711Decoder::new(Law::Mu, self, seed)),
            Encoding::Pcma => Box::new(G711Decoder::new(Law::A, self, seed)),
            Encoding::L16(endian) => Box::new(L16Decoder::new(endian, self, seed)),
            Encoding::G722 => Box::new(G722Decoder::new(self, seed)),
            Encoding::Opus => return opus_decoder(self),
        })
    }

    /// An encoder of this format, in 20 ms frames where the codec is made of frames.
    pub fn encoder(self) -> Result<Box<dyn Encoder>, UnsupportedFormat> {
        self.check()?;
        Ok(match self.encoding {
            Encoding::Pcmu => Box::new(G711Encoder::new(Law::Mu, self)),
            Encoding::Pcma => Box::new(G711Encoder::new(Law::A, self)),
            Encoding::L16(endian) => Box::new(L16Encoder::new(endian, self)),
            Encoding::G722 => Box::new(G722Encoder::default()),
            Encoding::Opus => return opus_encoder(self),
        })
    }

    /// Whether the combination exists at all; Opus speaks for itself.
    const fn check(self) -> Result<(), UnsupportedFormat> {
        let reason = match self.encoding {
            _ if self.channels == 0 => "it needs at least one channel",
            Encoding::G722 if self.rate.0 != SampleRate::HZ_16000.0 => {
                "G.722 is 16000 Hz (though RTP calls it 8000)"
            }
            Encoding::G722 if self.channels != 1 => "G.722 has one channel",
            _ => return Ok(()),
        };
        Err(UnsupportedFormat { format: self, reason })
    }
}

#[cfg(feature = "opus")]
fn opus_decoder(format: MediaFormat) -> Result<Box<dyn Decoder>, UnsupportedFormat> {
    Ok(Box::new(crate::opus::OpusDecoder::new(format)?))
}

#[cfg(feature = "opus")]
fn opus_encoder(format: MediaFormat) -> Result<Box<dyn Encoder>, UnsupportedFormat> {
    crate::opus::encoder(format, crate::opus::EncoderSettings::default())
}

#[cfg(not(feature = "opus"))]
fn opus_decoder(format: MediaFormat) -> Result<Box<dyn Decoder>, UnsupportedFormat> {
    Err(UnsupportedFormat { format, reason: WITHOUT_OPUS })
}

#[cfg(not(feature = "opus"))]
fn opus_encoder(format: MediaFormat) -> Result<Box<dyn Encoder>, UnsupportedFormat> {
    Err(UnsupportedFormat { format, reason: WITHOUT_OPUS })
}

#[cfg(not(feature = "opus"))]
const WITHOUT_OPUS: &str = "this build has no Opus (cargo feature `opus`)";

impl DecodeError {
    /// That a payload of `len` octets is made of sample groups of `multiple` octets.
    pub(crate) const fn unless_whole_groups(
        encoding: Encoding,
        len: usize,
        multiple: usize,
    ) -> Result<(), Self> {
        if len.is_multiple_of(multiple) {
            Ok(())
        } else {
            Err(Self::Length { encoding, len, multiple })
        }
    }
}

impl EncodeError {
    /// That `got` samples are whole sample groups of `channels`.
    pub(crate) const fn unless_whole_groups(
        encoding: Encoding,
        got: usize,
        channels: usize,
    ) -> Result<(), Self> {
        if got.is_multiple_of(channels) {
            Ok(())
        } else {
            Err(Self::Length { encoding, got, multiple: channels })
        }
    }
}

/// Duration of an Opus packet in tenths of a millisecond, from its table-of-contents octet (RFC 6716, 3.1 and 3.2).
fn opus_tenth_ms(packet: &[u8]) -> Option<usize> {
    let toc = *packet.first()?;
    let config = usize::from(toc >> 3);
    let frame = match config {
        0..12 => [100, 200, 400, 600][config % 4],
        12..16 => [100, 200][config % 2],
        _ => [25, 50, 100, 200][config % 4],
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => usize::from(packet.get(1)? & 0x3f),
    };
    let whole = frame * count;
    (1..=1_200).contains(&whole).then_some(whole)
}

impl fmt::Display for MediaFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.encoding, self.rate)?;
        if self.channels != 1 {
            write!(f, " x{}", self.channels)?;
        }
        Ok(())
    }
}
