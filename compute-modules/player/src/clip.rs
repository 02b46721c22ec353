//! The sound of a WAV file in memory, handed out in pieces. Knows neither calls nor clocks.

use std::path::Path;

use hound::{SampleFormat, WavReader};
use ringback_module::Outputs;
use ringback_module::message::RATES;

/// Longest sound that is read: 32 Mi samples (64 MiB), 70 minutes at 8 kHz.
const MAX_SAMPLES: u32 = 32 << 20;

/// Mono sound at the rate of its file.
#[derive(Debug, Default)]
pub(crate) struct Clip {
    rate: u32,
    samples: Vec<i16>,
}

impl Clip {
    /// Reads a WAV file of 16-bit PCM; more channels are mixed into one. The error is text for a person.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let place = |what: String| format!("{}: {what}", path.display());
        let wav = WavReader::open(path).map_err(|e| place(e.to_string()))?;
        let spec = wav.spec();
        if (spec.sample_format, spec.bits_per_sample) != (SampleFormat::Int, 16) {
            let found = format!("{} bits {:?}", spec.bits_per_sample, spec.sample_format);
            return Err(place(format!("{found} is not supported; convert it to 16-bit PCM")));
        }
        if !RATES.contains(&spec.sample_rate) {
            return Err(place(format!("{} Hz is not within {RATES:?}", spec.sample_rate)));
        }
        if wav.duration() == 0 || wav.duration() > MAX_SAMPLES {
            let len = wav.duration();
            return Err(place(format!("{len} samples; 1 to {MAX_SAMPLES} can be played")));
        }
        let mut samples = Vec::with_capacity(wav.duration() as usize);
        let (mut sum, mut channel) = (0, 0);
        for sample in wav.into_samples::<i16>() {
            sum += i32::from(sample.map_err(|e| place(e.to_string()))?);
            channel += 1;
            if channel == spec.channels {
                // The mean of i16 values is one.
                samples.push((sum / i32::from(channel)) as i16);
                (sum, channel) = (0, 0);
            }
        }
        Ok(Self { rate: spec.sample_rate, samples })
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
