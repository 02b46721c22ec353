//! The sound of a WAV file in memory, handed out in pieces. Knows neither calls nor clocks.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use ringback_codecs::wav::Reader;
use ringback_module::Outputs;

/// Longest sound that is read: 32 Mi samples (64 MiB), 70 minutes at 8 kHz.
const MAX_SAMPLES: usize = 32 << 20;
/// Samples read at once.
const PIECE: usize = 8 * 1024;

/// Mono sound at the rate of its file.
#[derive(Debug, Default)]
pub(crate) struct Clip {
    rate: u32,
    samples: Vec<i16>,
}

impl Clip {
    /// Reads a WAV file of any form [`ringback_codecs::wav`] knows; two channels are mixed into one. The error is text for a person.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let place = |what: String| format!("{}: {what}", path.display());
        let file = File::open(path).map_err(|e| place(e.to_string()))?;
        let mut reader = Reader::new(BufReader::new(file)).map_err(|e| place(e.to_string()))?;
        let channels = usize::from(reader.channels().max(1));
        let (mut samples, mut piece) = (Vec::new(), Vec::new());
        while reader.read(PIECE, &mut piece).map_err(|e| place(e.to_string()))? > 0 {
            samples.extend(piece.chunks_exact(channels).map(mean));
            piece.clear();
            if samples.len() > MAX_SAMPLES {
                return Err(place(format!(
                    "longer than {MAX_SAMPLES} samples, which is the most that can be played"
                )));
            }
        }
        if samples.is_empty() {
            return Err(place("there is no sound in it".into()));
        }
        Ok(Self { rate: reader.rate().hz(), samples })
    }

    pub(crate) fn rate(&self) -> u32 {
        self.rate
    }

    pub(crate) fn samples_in(&self, ms: u64) -> u64 {
        ms.saturating_mul(u64::from(self.rate)) / 1_000
    }

    /// Plays up to `len` samples from `from` on, round and round if `repeat`; returns how many there were.
    pub(crate) fn play(&self, from: u64, len: u64, repeat: bool, out: &mut Outputs) -> u64 {
        let size = self.samples.len() as u64;
        let mut done = 0;
        while done < len && (repeat || from + done < size) {
            // Below `size`, which is the length of a Vec.
            let begin = ((from + done) % size) as usize;
            let end = begin.saturating_add((len - done) as usize).min(self.samples.len());
            out.play(&self.samples[begin..end]);
            done += (end - begin) as u64;
        }
        done
    }
}

/// One sample for all channels.
fn mean(group: &[i16]) -> i16 {
    let sum: i32 = group.iter().map(|&s| i32::from(s)).sum();
    // The mean of i16 values is one.
    (sum / group.len().max(1) as i32) as i16
}
