//! Sound that says its own number: written into frames, read from what comes back, whatever resampled it on the way. Knows no call.
//!
//! A frame is written like a letter on a serial line: low is silence, a high symbol begins, bits follow, and low is what is left.
//! Symbols of half a millisecond pass any telephone's band, and a reader that waits for the beginning needs no alignment: the delay
//! of a filter or a frame cut in two does not disturb it. A frame counts as back once its number can be read, which is before its
//! last milliseconds are there.

use std::time::Duration;

use ringback_codecs::g711::{a_to_linear, linear_to_a, linear_to_mu, mu_to_linear};
use ringback_codecs::{Encoding, Endian, MediaFormat};

/// What one frame lasts.
pub(crate) const FRAME: Duration = Duration::from_millis(20);

/// Symbols in a frame.
const SYMBOLS: usize = 40;
/// Bits of a frame's number: five hours.
const NUMBER_BITS: u32 = 20;
/// Bits that tell a frame of this call from one of another, and from noise.
const CHECK_BITS: u32 = 8;
const BITS: usize = (NUMBER_BITS + CHECK_BITS) as usize;
/// Frames that can be told apart in one call.
pub(super) const MAX_FRAMES: u32 = 1 << NUMBER_BITS;

/// Both octets of a sample are the same, so octet order does not matter.
const HIGH: i16 = 0x2020;
const LOW: i16 = !HIGH;

/// What an octet of a sample tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Low,
    /// Above the middle, but not so far that it could begin a frame.
    Above,
    High,
}

impl Level {
    fn of(sample: i16) -> Self {
        match sample {
            ..0 => Self::Low,
            sample if sample < HIGH / 2 => Self::Above,
            _ => Self::High,
        }
    }
}

/// How numbers are written in a format.
pub(crate) struct Stamp {
    low: u8,
    high: u8,
    /// Octets of a sample.
    width: usize,
    /// Which of them tells its level.
    telling: usize,
    levels: [Level; 256],
    octets: usize,
    /// Where symbols begin, in octets.
    begins: [usize; BITS + 2],
    /// Samples from the beginning to the first bit, from each bit to the next, and from the last one to where low is certain.
    steps: [usize; BITS + 1],
}

impl Stamp {
    /// Numbers in `format`, or `None` if it cannot carry them.
    pub(crate) fn new(format: MediaFormat) -> Option<Self> {
        let encode = |sample: i16| match format.encoding {
            Encoding::Pcmu => Some(linear_to_mu(sample)),
            Encoding::Pcma => Some(linear_to_a(sample)),
            Encoding::L16(_) => Some(sample.to_be_bytes()[0]),
            _ => None,
        };
        let decode = |octet| match format.encoding {
            Encoding::Pcmu => mu_to_linear(octet),
            Encoding::Pcma => a_to_linear(octet),
            _ => i16::from_be_bytes([octet, 0]),
        };
        let width = format.octets_for(1).filter(|_| format.channels == 1)?;
        let samples = usize::try_from(format.rate.samples_in(FRAME)).ok()?;
        let telling = usize::from(format.encoding == Encoding::L16(Endian::Little));
        // A quarter of a symbol before a bit's middle, because an edge that was smoothed is seen late.
        let middle = |bit: usize| (4 * bit + 5) * samples / (4 * SYMBOLS);
        let mut levels = [Level::Low; 256];
        for octet in 0..=255 {
            levels[usize::from(octet)] = Level::of(decode(octet));
        }
        let step = |bit: usize| match bit {
            0 => middle(0),
            bit => middle(bit) - middle(bit - 1),
        };
        Some(Self {
            low: encode(LOW)?,
            high: encode(HIGH)?,
            width,
            telling,
            levels,
            octets: samples * width,
            begins: std::array::from_fn(|symbol| symbol * samples / SYMBOLS * width),
            steps: std::array::from_fn(step),
        })
    }

    /// Writes the frame `number` of `caller` into `payload`, in place of what is there.
    pub(crate) fn write(&self, number: u32, caller: u32, payload: &mut Vec<u8>) {
        payload.clear();
        payload.resize(self.octets, self.low);
        let letter = 1 | (number | check(number, caller) << NUMBER_BITS) << 1;
        for (symbol, span) in self.begins.windows(2).enumerate() {
            if letter >> symbol & 1 == 1 {
                payload[span[0]..span[1]].fill(self.high);
            }
        }
    }

    fn level(&self, payload: &[u8], sample: usize) -> Level {
        payload
            .get(sample * self.width + self.telling)
            .map_or(Level::Low, |&octet| self.levels[usize::from(octet)])
    }
}

/// Octets that differ between neighbours in number and in caller.
pub(super) fn check(number: u32, caller: u32) -> u32 {
    let mixed = number.wrapping_mul(0x9E37_79B1) ^ caller.wrapping_add(1).wrapping_mul(0x85EB_CA6B);
    mixed >> (32 - CHECK_BITS)
}

/// What was heard of a caller's stream so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Hearing {
    /// Samples until there is something to look at.
    skip: usize,
    /// Bits read, and which they are; `None` waits for the beginning.
    letter: Option<(u8, u32)>,
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A frame of this caller.
    Frame(u32),
    /// Something that looks like a frame and is none of this caller.
    Stranger,
}

impl Hearing {
    /// Hears the next piece of a stream, cut anywhere between samples.
    pub(crate) fn hear(
        &mut self,
        stamp: &Stamp,
        caller: u32,
        payload: &[u8],
        mut tell: impl FnMut(Heard),
    ) {
        let samples = payload.len() / stamp.width;
        let mut at = self.skip;
        while at < samples {
            let level = stamp.level(payload, at);
            match &mut self.letter {
                None if level < Level::High => at += 1,
                None => {
                    self.letter = Some((0, 0));
                    at += stamp.steps[0];
                }
                Some((bit, letter)) => {
                    *letter |= u32::from(level > Level::Low) << *bit;
                    *bit += 1;
                    at += stamp.steps[usize::from(*bit)];
                    if usize::from(*bit) == BITS {
                        tell(read(*letter, caller));
                        self.letter = None;
                        // Past the last symbol.
                        at += stamp.steps[0];
                    }
                }
            }
        }
        self.skip = at - samples;
    }
}

fn read(letter: u32, caller: u32) -> Heard {
    let number = letter & (MAX_FRAMES - 1);
    if letter >> NUMBER_BITS == check(number, caller) {
        Heard::Frame(number)
    } else {
        Heard::Stranger
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringback_codecs::{Resampler, SampleRate};

    const NUMBERS: [u32; 8] = [0, 1, 127, 128, 4_321, 65_535, 699_050, MAX_FRAMES - 1];

    fn heard(stamp: &Stamp, caller: u32, pieces: &[&[u8]]) -> Vec<Heard> {
        let (mut hearing, mut all) = (Hearing::default(), Vec::new());
        for piece in pieces {
            hearing.hear(stamp, caller, piece, |heard| all.push(heard));
        }
        all
    }

    fn formats() -> impl Iterator<Item = MediaFormat> {
        let encodings = [
            Encoding::Pcmu,
            Encoding::Pcma,
            Encoding::L16(Endian::Little),
            Encoding::L16(Endian::Big),
        ];
        let rates = [8_000, 11_025, 16_000, 24_000, 44_100, 48_000];
        encodings.into_iter().flat_map(move |encoding| {
            rates.map(|hz| MediaFormat::mono(encoding, SampleRate::new(hz).expect("a rate")))
        })
    }

    #[test]
    fn frames_say_their_numbers_in_every_format_and_however_they_are_cut() {
        for format in formats() {
            let stamp = Stamp::new(format).expect("this format can");
            let (mut stream, mut frame) = (Vec::new(), Vec::new());
            for number in NUMBERS {
                stamp.write(number, 7, &mut frame);
                stream.extend_from_slice(&frame);
            }
            let expected = NUMBERS.map(Heard::Frame);
            let width = format.octets_for(1).expect("fixed");
            for cut in [1, 7, 100, 160, 333, stream.len()] {
                let pieces: Vec<_> = stream.chunks(cut * width).collect();
                assert_eq!(heard(&stamp, 7, &pieces), expected, "{format} cut by {cut}");
            }
        }
    }

    #[test]
    fn numbers_survive_resampling_to_what_modules_hear_and_back() {
        for format in formats() {
            let stamp = Stamp::new(format).expect("this format can");
            let mut decoder = format.decoder().expect("a codec");
            let mut encoder = format.encoder().expect("a codec");
            let mut there = Resampler::new(format.rate, SampleRate::HZ_16000);
            let mut back = Resampler::new(SampleRate::HZ_16000, format.rate);
            let (mut frame, mut stream) = (Vec::new(), Vec::new());
            for number in NUMBERS {
                stamp.write(number, 3, &mut frame);
                let (mut pcm, mut wide, mut narrow) = (Vec::new(), Vec::new(), Vec::new());
                decoder.decode(&frame, &mut pcm).expect("decodes");
                there.process(&pcm, &mut wide);
                back.process(&wide, &mut narrow);
                encoder.encode(&narrow, &mut stream).expect("encodes");
            }
            // The last one may be on its way yet.
            let heard = heard(&stamp, 3, &[&stream]);
            let expected = NUMBERS.map(Heard::Frame);
            assert!(heard.len() >= NUMBERS.len() - 1, "{format}: {heard:?}");
            assert_eq!(heard, expected[..heard.len()], "{format}");
        }
    }

    #[test]
    fn telephone_frames_are_back_within_the_frame_that_answers_them() {
        let stamp = Stamp::new(MediaFormat::PCMU_8000).expect("this format can");
        let mut frame = Vec::new();
        stamp.write(MAX_FRAMES - 1, 0, &mut frame);
        // Two filters between 8 and 16 kHz delay by 35 samples.
        let mut late = vec![0xff; 35];
        late.extend_from_slice(&frame);
        assert_eq!(heard(&stamp, 0, &[&late[..160]]), [Heard::Frame(MAX_FRAMES - 1)]);
    }

    #[test]
    fn frames_of_other_calls_are_strangers_and_silence_is_nothing() {
        let stamp = Stamp::new(MediaFormat::PCMU_8000).expect("this format can");
        let mut frame = Vec::new();
        stamp.write(5, 1, &mut frame);
        assert_eq!(heard(&stamp, 2, &[&frame]), [Heard::Stranger]);
        assert_eq!(heard(&stamp, 2, &[&[0xff; 800]]), []);
    }

    #[test]
    fn packets_cannot_carry_numbers() {
        let opus = MediaFormat::mono(Encoding::Opus, SampleRate::HZ_48000);
        assert!(Stamp::new(opus).is_none());
    }
}
