//! WAV files as streams of 16-bit samples: reads every common PCM form and G.711, writes 16-bit PCM. Opens no files and does not
//! resample; takes memory for the sound that is there, never for what a header claims.

use std::io::{self, Read, Seek, Write};

use crate::SampleRate;
use crate::g711::Law;

/// Octets read at a time: a multiple of every sample group, 1 to 8 octets.
const PIECE: usize = 6_144;
/// Samples written at a time.
const WRITE_PIECE: usize = 16_384;
/// Octets of sound a WAV file can hold: its length fields have 32 bits, and headers need some of it.
const MAX_DATA: u64 = u32::MAX as u64 - 1_024;

/// Why a WAV file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WavError {
    /// The source or sink failed.
    #[error("WAV: {0}")]
    Io(#[from] io::Error),
    /// The file does not begin like a WAV file.
    #[error("not a WAV file: it begins with {found:?} where \"RIFF\" and \"WAVE\" belong")]
    NotWav {
        /// The first 12 octets, as text.
        found: String,
    },
    /// The file ends, or its sound begins, before all of the header was seen.
    #[error("WAV header is incomplete: no {missing} found")]
    Incomplete {
        /// The chunk or field that is missing.
        missing: &'static str,
    },
    /// A form of WAV that is not read.
    #[error(
        "WAV with {found} is not supported; what works is PCM of 8, 16, 24 or 32 bits, 32-bit float, mu-law and A-law, with one or \
         two channels at {} to {} Hz",
        SampleRate::MIN,
        SampleRate::MAX
    )]
    Unsupported {
        /// What was found.
        found: String,
    },
    /// Samples to write that are not whole sample groups.
    #[error("{got} samples are not whole groups of {channels} channels")]
    Length {
        /// Samples given.
        got: usize,
        /// Channels of the file.
        channels: u8,
    },
    /// The file would exceed the 4 GiB a WAV file can hold. What was written before is a good file once finished.
    #[error("WAV file is full: it cannot hold more than 4 GiB; begin another")]
    Full,
}

/// How samples are written in a file.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Layout {
    Unsigned8,
    Signed16,
    Signed24,
    Signed32,
    Float32,
    G711(Law),
}

impl Layout {
    /// By format tag and bits a sample.
    const fn of(tag: u16, bits: u16) -> Option<Self> {
        match (tag, bits) {
            (1, 8) => Some(Self::Unsigned8),
            (1, 16) => Some(Self::Signed16),
            (1, 24) => Some(Self::Signed24),
            (1, 32) => Some(Self::Signed32),
            (3, 32) => Some(Self::Float32),
            (6, 8) => Some(Self::G711(Law::A)),
            (7, 8) => Some(Self::G711(Law::Mu)),
            _ => None,
        }
    }

    const fn octets(self) -> usize {
        match self {
            Self::Unsigned8 | Self::G711(_) => 1,
            Self::Signed16 => 2,
            Self::Signed24 => 3,
            Self::Signed32 | Self::Float32 => 4,
        }
    }

    /// Appends the samples of `octets`, rounded to 16 bits.
    fn convert(self, octets: &[u8], pcm: &mut Vec<i16>) {
        let (pairs, triples) = (octets.as_chunks::<2>().0, octets.as_chunks::<3>().0);
        let quads = octets.as_chunks::<4>().0;
        match self {
            Self::Unsigned8 => pcm.extend(octets.iter().map(|&o| (i16::from(o) - 128) << 8)),
            Self::Signed16 => pcm.extend(pairs.iter().map(|&o| i16::from_le_bytes(o))),
            Self::Signed24 => pcm.extend(triples.iter().map(|&[a, b, c]| rounded([0, a, b, c]))),
            Self::Signed32 => pcm.extend(quads.iter().map(|&o| rounded(o))),
            // The cast saturates, and takes what is not a number for 0.
            Self::Float32 => {
                let scaled = |&o| (f32::from_le_bytes(o) * 32_768.0).round() as i16;
                pcm.extend(quads.iter().map(scaled));
            }
            Self::G711(law) => law.decode(octets, pcm),
        }
    }
}

fn rounded(octets: [u8; 4]) -> i16 {
    (i32::from_le_bytes(octets).saturating_add(1 << 15) >> 16) as i16
}

/// A WAV file being read, a piece at a time.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    layout: Layout,
    rate: SampleRate,
    channels: u8,
    /// Octets of sound still to come, if the header is to be believed.
    left: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the header, up to the first sample. `source` is read in small pieces: give a buffered one.
    pub fn new(mut source: R) -> Result<Self, WavError> {
        let mut begin = [0; 12];
        let len = read_full(&mut source, &mut begin)?;
        if len < 12 || &begin[..4] != b"RIFF" || &begin[8..] != b"WAVE" {
            return Err(WavError::NotWav { found: String::from_utf8_lossy(&begin[..len]).into() });
        }
        let mut format = None;
        loop {
            let mut chunk = [0; 8];
            if read_full(&mut source, &mut chunk)? < chunk.len() {
                let missing = if format.is_some() { "data chunk" } else { "fmt chunk" };
                return Err(WavError::Incomplete { missing });
            }
            let [id @ .., a, b, c, d] = chunk;
            let len = u32::from_le_bytes([a, b, c, d]);
            match &id {
                b"fmt " => format = Some(read_format(&mut source, len)?),
                b"data" => {
                    let (layout, rate, channels) = format
                        .ok_or(WavError::Incomplete { missing: "fmt chunk before the data" })?;
                    return Ok(Self { source, layout, rate, channels, left: len.into() });
                }
                _ => skip(&mut source, padded(len))?,
            }
        }
    }

    /// Samples per second and channel.
    #[must_use]
    pub const fn rate(&self) -> SampleRate {
        self.rate
    }

    /// Channels, 1 or 2.
    #[must_use]
    pub const fn channels(&self) -> u8 {
        self.channels
    }

    /// Appends up to `samples` samples per channel, interleaved, and returns how many; fewer only at the end, 0 after it.
    ///
    /// The sound ends where the header says or where the file does, so files cut short and files piped from a program that could
    /// not know their length are read as far as they go. Half a sample group at such an end is no sound and is left out.
    pub fn read(&mut self, samples: usize, pcm: &mut Vec<i16>) -> Result<usize, WavError> {
        let group = self.layout.octets() * usize::from(self.channels);
        let mut piece = [0; PIECE];
        let mut done = 0;
        while done < samples {
            let there = usize::try_from(self.left).unwrap_or(usize::MAX) / group;
            let groups = (samples - done).min(PIECE / group).min(there);
            let len = read_full(&mut self.source, &mut piece[..groups * group])?;
            let got = len / group;
            self.layout.convert(&piece[..got * group], pcm);
            self.left -= (got * group) as u64;
            done += got;
            if got < groups || groups == 0 {
                self.left = 0;
                break;
            }
        }
        Ok(done)
    }
}

/// A whole WAV file in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wav {
    /// Samples per second and channel.
    pub rate: SampleRate,
    /// Channels, 1 or 2.
    pub channels: u8,
    /// Interleaved samples.
    pub samples: Vec<i16>,
}

/// Reads a whole WAV file. For files that may be long use a [`Reader`].
pub fn read(source: impl Read) -> Result<Wav, WavError> {
    let mut reader = Reader::new(source)?;
    let mut samples = Vec::new();
    reader.read(usize::MAX, &mut samples)?;
    Ok(Wav { rate: reader.rate(), channels: reader.channels(), samples })
}

/// A 16-bit PCM WAV file being written. Call [`finish`](Self::finish): errors of a writer that is only dropped are lost.
pub struct Writer<W: Write + Seek> {
    file: hound::WavWriter<W>,
    channels: u8,
    written: u64,
}

impl<W: Write + Seek> Writer<W> {
    /// Writes the header. `sink` is written in pieces of up to 32 KiB and rewound to set lengths.
    pub fn new(sink: W, rate: SampleRate, channels: u8) -> Result<Self, WavError> {
        if !matches!(channels, 1 | 2) {
            return Err(WavError::Unsupported { found: format!("{channels} channels") });
        }
        let spec = hound::WavSpec {
            channels: channels.into(),
            sample_rate: rate.hz(),
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        Ok(Self { file: hound::WavWriter::new(sink, spec)?, channels, written: 0 })
    }

    /// Writes interleaved samples, whole sample groups. On [`WavError::Length`] and [`WavError::Full`] nothing is written.
    pub fn write(&mut self, pcm: &[i16]) -> Result<(), WavError> {
        if !pcm.len().is_multiple_of(self.channels.into()) {
            return Err(WavError::Length { got: pcm.len(), channels: self.channels });
        }
        let written = self.written + 2 * pcm.len() as u64;
        if written > MAX_DATA {
            return Err(WavError::Full);
        }
        for piece in pcm.chunks(WRITE_PIECE) {
            let mut samples = self.file.get_i16_writer(piece.len() as u32);
            piece.iter().for_each(|&sample| samples.write_sample(sample));
            samples.flush()?;
        }
        self.written = written;
        Ok(())
    }

    /// Makes what was written so far a good file, should nothing follow.
    pub fn flush(&mut self) -> Result<(), WavError> {
        Ok(self.file.flush()?)
    }

    /// Sets the lengths in the header and flushes the sink.
    pub fn finish(self) -> Result<(), WavError> {
        Ok(self.file.finalize()?)
    }
}

impl From<hound::Error> for WavError {
    fn from(error: hound::Error) -> Self {
        match error {
            hound::Error::IoError(error) => Self::Io(error),
            other => Self::Io(io::Error::other(other)),
        }
    }
}

type Format = (Layout, SampleRate, u8);

/// Reads a `fmt ` chunk of `len` octets.
fn read_format(source: &mut impl Read, len: u32) -> Result<Format, WavError> {
    let mut chunk = [0; 40];
    let kept = chunk.len().min(len as usize);
    if kept < 16 || read_full(source, &mut chunk[..kept])? < kept {
        return Err(WavError::Incomplete { missing: "whole fmt chunk" });
    }
    skip(source, padded(len) - kept as u64)?;
    let field = |at: usize| u16::from_le_bytes([chunk[at], chunk[at + 1]]);
    // Extensible files (0xFFFE) keep the tag in the first octets of a longer identifier.
    let tag = if field(0) == 0xFFFE && kept == 40 { field(24) } else { field(0) };
    let (channels, align, bits) = (field(2), field(12), field(14));
    let hz = u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]);
    let unsupported = |found| Err(WavError::Unsupported { found });
    let Some(layout) = Layout::of(tag, bits) else {
        return unsupported(format!("format tag {tag:#06x} and {bits} bits a sample"));
    };
    let channels = match channels {
        1 => 1,
        2 => 2,
        _ => return unsupported(format!("{channels} channels")),
    };
    if usize::from(align) != layout.octets() * usize::from(channels) {
        return unsupported(format!("{bits} bits a sample in sample groups of {align} octets"));
    }
    match SampleRate::new(hz) {
        Some(rate) => Ok((layout, rate, channels)),
        None => unsupported(format!("{hz} Hz")),
    }
}

/// Chunks begin at even places.
fn padded(len: u32) -> u64 {
    u64::from(len).next_multiple_of(2)
}

fn skip(source: &mut impl Read, octets: u64) -> io::Result<()> {
    io::copy(&mut source.take(octets), &mut io::sink()).map(drop)
}

/// Fills as much of `buffer` as there is; returns how much.
fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match source.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::{MAX_DATA, WavError, Writer};
    use crate::SampleRate;

    #[test]
    fn a_full_file_takes_no_more_and_stays_good() {
        let sink = std::io::Cursor::new(Vec::new());
        let mut writer = Writer::new(sink, SampleRate::HZ_8000, 1).unwrap();
        writer.written = MAX_DATA - 5;
        assert!(matches!(writer.write(&[1, 2, 3]), Err(WavError::Full)));
        writer.write(&[1, 2]).unwrap();
        assert!(matches!(writer.write(&[1]), Err(WavError::Full)));
        assert_eq!(writer.file.len(), 2);
        writer.finish().unwrap();
    }
}
