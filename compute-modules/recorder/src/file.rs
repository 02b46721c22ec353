//! A two-channel WAV file that is valid at every moment. Knows nothing of tracks or clocks.

use std::fs::{File, OpenOptions};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavSpec, WavWriter};
use ringback_module::ModuleError;

/// Written to the system in blocks of this many octets: a second of 16 kHz stereo.
const BLOCK: usize = 64 * 1024;
/// Channels of the file.
pub(crate) const CHANNELS: usize = 2;
/// A WAV file counts its octets in 32 bits; this many frames leave room for the header.
const MAX_FRAMES: u64 = (u32::MAX as u64 - 1_024) / (2 * CHANNELS as u64);

pub(crate) struct Recording {
    path: PathBuf,
    wav: WavWriter<BufWriter<File>>,
    rate: u32,
    frames: u64,
    saved: u64,
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording").field("path", &self.path).finish_non_exhaustive()
    }
}

fn disk(path: &Path, error: &impl std::fmt::Display) -> ModuleError {
    ModuleError::new("disk", format!("recording {}: {error}", path.display()))
}

impl Recording {
    /// A new file; one that is there already is replaced only if `overwrite`.
    pub(crate) fn create(path: PathBuf, rate: u32, overwrite: bool) -> Result<Self, ModuleError> {
        let mut options = OpenOptions::new();
        options.write(true);
        if overwrite {
            options.create(true).truncate(true);
        } else {
            options.create_new(true);
        }
        let file = options.open(&path).map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::AlreadyExists => "; `overwrite = true` replaces it",
                _ => "",
            };
            disk(&path, &format!("{error}{hint}"))
        })?;
        let spec = WavSpec {
            channels: CHANNELS as u16,
            sample_rate: rate,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let mut wav = WavWriter::new(BufWriter::with_capacity(BLOCK, file), spec)
            .map_err(|e| disk(&path, &e))?;
        wav.flush().map_err(|e| disk(&path, &e))?;
        Ok(Self { path, wav, rate, frames: 0, saved: 0 })
    }

    /// Goes on with the file of a session that was interrupted.
    pub(crate) fn append(path: PathBuf, rate: u32) -> Result<Self, ModuleError> {
        let wav = WavWriter::append(&path).map_err(|e| disk(&path, &e))?;
        let spec = wav.spec();
        if (usize::from(spec.channels), spec.sample_rate) != (CHANNELS, rate) {
            let (channels, found) = (spec.channels, spec.sample_rate);
            let what = format!("has {channels} channels at {found} Hz, not 2 at {rate} Hz");
            return Err(disk(&path, &what));
        }
        let frames = u64::from(wav.duration());
        Ok(Self { path, wav, rate, frames, saved: frames })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Frames taken so far.
    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }

    /// Frames that a reader of the file finds.
    pub(crate) fn saved(&self) -> u64 {
        self.saved
    }

    /// Appends interleaved samples.
    pub(crate) fn write(&mut self, interleaved: &[i16]) -> Result<(), ModuleError> {
        let frames = (interleaved.len() / CHANNELS) as u64;
        if self.frames + frames > MAX_FRAMES {
            let hours = MAX_FRAMES / u64::from(self.rate) / 3_600;
            return Err(disk(&self.path, &format!("a WAV file ends after {hours} hours")));
        }
        // Fits: MAX_FRAMES keeps it under 4 GiB.
        let mut block = self.wav.get_i16_writer(interleaved.len() as u32);
        interleaved.iter().for_each(|&sample| block.write_sample(sample));
        block.flush().map_err(|e| disk(&self.path, &e))?;
        self.frames += frames;
        Ok(())
    }

    /// [`Self::save`] if a second came together since the last time; frames saved then.
    pub(crate) fn save_if_due(&mut self) -> Result<Option<u64>, ModuleError> {
        if self.frames < self.saved + u64::from(self.rate) {
            return Ok(None);
        }
        self.save().map(|()| Some(self.saved))
    }

    /// Writes out data, then the sizes in the header.
    pub(crate) fn save(&mut self) -> Result<(), ModuleError> {
        self.wav.flush().map_err(|e| disk(&self.path, &e))?;
        self.saved = self.frames;
        Ok(())
    }
}
