//! One call's end of sound that says its own numbers, for codecs with a memory: chords, or for Opus a melody. Sends nothing and counts
//! nothing.

use std::time::Duration;

use ringback_codecs::{DecodeError, Decoder, EncodeError, Encoder, Encoding, MediaFormat};

use super::melody::{self, HEARD_AT, Listener, Read, Singer};
use super::stamp::check;
use super::tones::{self, Bank};

/// Of a melody's places, those at which a caller may begin: as far apart as [`Voice::believed`].
const BEGINNINGS: u32 = 3;

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// A frame, known as far as the rest of its number divided by [`Voice::alike`], so long ago.
    Frame(u32, Duration),
    /// There was sound where this frame is due, and nothing could be read in it.
    Unreadable(u32),
    /// A frame of another call, or what is none.
    Stranger,
}

/// Encodes what a caller says and decodes what it hears.
pub(super) struct Voice {
    code: Code,
    pub(super) encoder: Box<dyn Encoder>,
    pub(super) decoder: Box<dyn Decoder>,
    said: Vec<i16>,
    /// Heard and not looked at yet.
    heard: Vec<i16>,
}

enum Code {
    Chords {
        bank: Box<Bank>,
        caller: u32,
        /// Samples of what comes next that need no look.
        skip: usize,
    },
    Melody {
        singer: Singer,
        listener: Box<Listener>,
        /// The place of the first frame.
        begin: u32,
    },
}

impl Voice {
    /// A voice in `format`, or `None` if there is no codec for it or it has more than one channel.
    pub(super) fn new(format: MediaFormat, caller: u32) -> Option<Self> {
        if format.channels != 1 {
            return None;
        }
        let (code, heard) = if format.encoding == Encoding::Opus {
            let begin = check(0, caller) % BEGINNINGS * (melody::ALIKE / BEGINNINGS);
            let (singer, listener) = (Singer::new(format.rate), Box::new(Listener::new()));
            (Code::Melody { singer, listener, begin }, MediaFormat { rate: HEARD_AT, ..format })
        } else {
            (Code::Chords { bank: Box::new(Bank::new(format.rate)), caller, skip: 0 }, format)
        };
        let (encoder, decoder) = (format.encoder().ok()?, heard.decoder().ok()?);
        Some(Self { code, encoder, decoder, said: Vec::new(), heard: Vec::new() })
    }

    /// Frames whose numbers differ by this sound alike.
    pub(super) const fn alike(&self) -> u32 {
        match self.code {
            Code::Chords { .. } => tones::ALIKE,
            Code::Melody { .. } => melody::ALIKE,
        }
    }

    /// What sounds like a frame that was due longer ago than so many is one of another call.
    pub(super) const fn believed(&self) -> u32 {
        match self.code {
            Code::Chords { .. } => tones::ALIKE,
            Code::Melody { .. } => melody::ALIKE / BEGINNINGS,
        }
    }

    /// Writes a frame into `payload`, in place of what is there.
    pub(super) fn write(&mut self, number: u32, payload: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.said.clear();
        match &self.code {
            Code::Chords { bank, caller, .. } => bank.write(number, *caller, &mut self.said),
            Code::Melody { singer, begin, .. } => {
                singer.write((begin + number % melody::ALIKE) % melody::ALIKE, &mut self.said);
            }
        }
        payload.clear();
        self.encoder.encode(&self.said, payload)
    }

    /// Hears the next piece of the stream and tells what is in it.
    pub(super) fn hear(
        &mut self,
        payload: &[u8],
        mut tell: impl FnMut(Told),
    ) -> Result<(), DecodeError> {
        self.decoder.decode(payload, &mut self.heard)?;
        let heard = self.heard.len();
        let done = match &mut self.code {
            Code::Chords { bank, caller, skip } => {
                let skipped = (*skip).min(heard);
                let done = skipped
                    + bank.read_all(*caller, &self.heard[skipped..], |rest| {
                        tell(rest.map_or(Told::Stranger, |rest| Told::Frame(rest, Duration::ZERO)));
                    });
                *skip = *skip - skipped + done.saturating_sub(heard);
                done.min(heard)
            }
            Code::Melody { listener, begin, .. } => listener.hear(&self.heard, |read| {
                let rest = |place| (place + melody::ALIKE - *begin) % melody::ALIKE;
                tell(match read {
                    Read::Frame(place, ago) => Told::Frame(rest(place), ago),
                    Read::Unreadable(place) => Told::Unreadable(rest(place)),
                    Read::Stranger => Told::Stranger,
                });
            }),
        };
        self.heard.drain(..done);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ringback_codecs::SampleRate;

    use super::*;

    #[test]
    fn two_channels_carry_no_numbers() {
        let opus = MediaFormat::mono(Encoding::Opus, SampleRate::HZ_48000);
        for format in [MediaFormat::PCMU_8000, opus] {
            assert!(Voice::new(format, 0).is_some(), "{format}");
            assert!(Voice::new(MediaFormat { channels: 2, ..format }, 0).is_none(), "{format}");
        }
    }
}
