//! Opus (RFC 6716) through libopus: 20 ms voice frames with in-band FEC out, any packet in. Does no Ogg and no RTP.

use std::num::NonZeroUsize;

use audiopus::coder::{Decoder as LibDecoder, Encoder as LibEncoder, GenericCtl};
use audiopus::packet::{self, Packet};
use audiopus::{Application, Bitrate, Channels, SampleRate as LibRate, Signal};

use crate::{DecodeError, Decoder, EncodeError, Encoder, Encoding, MediaFormat, UnsupportedFormat};

/// A packet of one frame is at most this long (RFC 6716, section 3.4), with its table-of-contents octet.
const MAX_PACKET: usize = 1_276;
/// Frames a second: 20 ms each.
const FRAMES_PER_SECOND: usize = 50;
/// The library conceals in multiples of 2.5 ms.
const STEPS_PER_SECOND: usize = 400;

/// What an encoder spends on sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderSettings {
    /// 0 (cheapest) to 10 (best); higher counts as 10. 10 costs twice as much as 5.
    pub complexity: u8,
    /// Target of the variable bit rate in bit/s, or `None` for one that suits the format: 16,000 at 8 kHz to 32,000 at 48 kHz a
    /// channel.
    pub bitrate: Option<u32>,
    /// Loss to prepare for, in percent; higher than 100 counts as 100. Above 0, packets carry a coarse copy of the one before.
    pub expected_loss: u8,
}

impl Default for EncoderSettings {
    fn default() -> Self {
        Self { complexity: 5, bitrate: None, expected_loss: 10 }
    }
}

/// An encoder of `format` with other than the default settings; 20 ms a frame.
pub fn encoder(
    format: MediaFormat,
    settings: EncoderSettings,
) -> Result<Box<dyn Encoder>, UnsupportedFormat> {
    Ok(Box::new(OpusEncoder::new(format, settings)?))
}

/// The library's words for a format.
fn library_format(format: MediaFormat) -> Result<(LibRate, Channels), UnsupportedFormat> {
    let rate = match format.rate.hz() {
        8_000 => LibRate::Hz8000,
        12_000 => LibRate::Hz12000,
        16_000 => LibRate::Hz16000,
        24_000 => LibRate::Hz24000,
        48_000 => LibRate::Hz48000,
        _ => {
            let reason = "Opus works at 8000, 12000, 16000, 24000 and 48000 Hz";
            return Err(UnsupportedFormat { format, reason });
        }
    };
    match format.channels {
        1 => Ok((rate, Channels::Mono)),
        2 => Ok((rate, Channels::Stereo)),
        _ => Err(UnsupportedFormat { format, reason: "Opus has one or two channels" }),
    }
}

/// Packets to samples.
pub(crate) struct OpusDecoder {
    library: LibDecoder,
    rate: LibRate,
    channels: usize,
    /// Concealed sound beyond what was asked for, less than 2.5 ms: the beginning of the next concealment.
    spare: Vec<i16>,
}

impl OpusDecoder {
    pub(crate) fn new(format: MediaFormat) -> Result<Self, UnsupportedFormat> {
        let (rate, channels) = library_format(format)?;
        let library = LibDecoder::new(rate, channels)
            .map_err(|_| UnsupportedFormat { format, reason: "libopus gave no decoder" })?;
        Ok(Self { library, rate, channels: format.channels.into(), spare: Vec::new() })
    }

    const fn per_second(&self) -> usize {
        self.rate as i32 as usize
    }

    /// Appends exactly `groups` samples per channel of what the library makes of `input`, or nothing.
    fn append(
        &mut self,
        input: Option<Packet<'_>>,
        groups: usize,
        fec: bool,
        pcm: &mut Vec<i16>,
    ) -> Result<(), audiopus::Error> {
        let start = pcm.len();
        pcm.resize(start + groups * self.channels, 0);
        let made =
            (&mut pcm[start..]).try_into().and_then(|out| self.library.decode(input, out, fec));
        match made {
            Ok(made) if made == groups => Ok(()),
            Ok(_) => {
                pcm.truncate(start);
                Err(audiopus::Error::Opus(audiopus::ErrorCode::InternalError))
            }
            Err(error) => {
                pcm.truncate(start);
                Err(error)
            }
        }
    }

    /// Appends up to `groups` samples per channel of `spare`; returns how many are still missing.
    fn take_spare(&mut self, groups: usize, pcm: &mut Vec<i16>) -> usize {
        let taken = (groups * self.channels).min(self.spare.len());
        pcm.extend(self.spare.drain(..taken));
        groups - taken / self.channels
    }
}

impl Decoder for OpusDecoder {
    fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) -> Result<(), DecodeError> {
        let packet = || Packet::try_from(payload);
        let result = packet()
            // Bounded by the library to 120 ms, and wrong headers are refused here.
            .and_then(|packet| packet::nb_samples(packet, self.rate))
            .and_then(|groups| self.append(Some(packet()?), groups, false, pcm));
        result.map_err(|error| corrupt(payload, error))?;
        self.spare.clear();
        Ok(())
    }

    fn conceal(&mut self, samples: usize, pcm: &mut Vec<i16>) {
        let mut missing = self.take_spare(samples, pcm);
        let frame = self.per_second() / FRAMES_PER_SECOND;
        let step = self.per_second() / STEPS_PER_SECOND;
        while missing > 0 {
            let groups = missing.next_multiple_of(step).min(frame);
            let start = pcm.len();
            if self.append(None, groups, false, pcm).is_err() {
                // The library refuses nothing of this; if it did, the count must hold all the same.
                pcm.resize(start + groups * self.channels, 0);
            }
            let wanted = groups.min(missing);
            self.spare.extend(pcm.drain(start + wanted * self.channels..));
            missing -= wanted;
        }
    }

    fn recover(&mut self, next: &[u8], samples: usize, pcm: &mut Vec<i16>) {
        let packet = || Packet::try_from(next);
        // The copy is of the frame right before `next` and as long as the frames in it.
        let frame = packet().and_then(|p| packet::samples_per_frame(p, self.rate)).unwrap_or(0);
        let known = packet().and_then(|p| packet::nb_samples(p, self.rate)).is_ok();
        if !known || frame == 0 || frame > samples {
            return self.conceal(samples, pcm);
        }
        self.conceal(samples - frame, pcm);
        // What concealment made beyond its end is the worse guess at the frame that can be restored.
        self.spare.clear();
        let restored = packet().and_then(|packet| self.append(Some(packet), frame, true, pcm));
        if restored.is_err() {
            self.conceal(frame, pcm);
        }
    }

    fn reset(&mut self) {
        self.spare.clear();
        self.library.reset_state().expect("libopus resets every live decoder");
    }
}

fn corrupt(payload: &[u8], error: audiopus::Error) -> DecodeError {
    let (encoding, len) = (Encoding::Opus, payload.len());
    DecodeError::Corrupt { encoding, len, reason: error.to_string() }
}

/// Samples to packets.
struct OpusEncoder {
    library: LibEncoder,
    frame_samples: NonZeroUsize,
}

impl OpusEncoder {
    fn new(format: MediaFormat, settings: EncoderSettings) -> Result<Self, UnsupportedFormat> {
        let (rate, channels) = library_format(format)?;
        let library = Self::library(rate, channels, format, settings)
            .map_err(|_| UnsupportedFormat { format, reason: "libopus gave no encoder" })?;
        let samples = format.rate.hz() as usize / FRAMES_PER_SECOND * usize::from(format.channels);
        let frame_samples = NonZeroUsize::new(samples).expect("rate and channels are not zero");
        Ok(Self { library, frame_samples })
    }

    fn library(
        rate: LibRate,
        channels: Channels,
        format: MediaFormat,
        settings: EncoderSettings,
    ) -> Result<LibEncoder, audiopus::Error> {
        let mut library = LibEncoder::new(rate, channels, Application::Voip)?;
        let loss = settings.expected_loss.min(100);
        let bitrate = settings.bitrate.unwrap_or_else(|| default_bitrate(format));
        library.set_complexity(settings.complexity.min(10))?;
        library.set_signal(Signal::Voice)?;
        // Both limits are the library's own.
        library.set_bitrate(Bitrate::BitsPerSecond(bitrate.clamp(500, 512_000) as i32))?;
        library.set_inband_fec(loss > 0)?;
        library.set_packet_loss_perc(loss)?;
        Ok(library)
    }
}

/// Enough for the format's bandwidth and the coarse copy that FEC adds.
fn default_bitrate(format: MediaFormat) -> u32 {
    let mono = match format.rate.hz() {
        8_000 => 16_000,
        12_000 | 16_000 => 24_000,
        24_000 => 28_000,
        _ => 32_000,
    };
    mono * u32::from(format.channels)
}

impl Encoder for OpusEncoder {
    fn frame_samples(&self) -> Option<NonZeroUsize> {
        Some(self.frame_samples)
    }

    fn encode(&mut self, pcm: &[i16], payload: &mut Vec<u8>) -> Result<(), EncodeError> {
        let (encoding, expected) = (Encoding::Opus, self.frame_samples.get());
        if pcm.len() != expected {
            return Err(EncodeError::FrameLength { encoding, got: pcm.len(), expected });
        }
        let start = payload.len();
        payload.resize(start + MAX_PACKET, 0);
        let result = self.library.encode(pcm, &mut payload[start..]);
        payload.truncate(start + result.as_ref().copied().unwrap_or(0));
        result.map_err(|error| EncodeError::Codec { encoding, reason: error.to_string() })?;
        Ok(())
    }

    fn reset(&mut self) {
        self.library.reset_state().expect("libopus resets every live encoder");
    }
}
