//! Files of captures: for nobody else's eyes, within limits, and whole up to their last line. Knows no transcript.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use super::CaptureOptions;

/// Room that is kept in a file for the note that it is full.
const NOTE: u64 = 256;

/// What a folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Held {
    pub(super) files: usize,
    pub(super) octets: u64,
}

impl Held {
    /// Counts the captures in a folder and in those of its providers.
    pub(super) fn count(dir: &Path) -> io::Result<Self> {
        let mut held = Self::default();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                // One that may not be looked into is not ours.
                for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
                    held.add(&entry.path());
                }
            } else {
                held.add(&path);
            }
        }
        Ok(held)
    }

    fn add(&mut self, path: &Path) {
        if is_capture(path) {
            self.files += 1;
            self.octets += fs::metadata(path).map_or(0, |about| about.len());
        }
    }
}

/// Whether a file is called as captures are.
pub(super) fn is_capture(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jsonl")
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    File,
    Total,
}

/// A file being written.
#[derive(Debug)]
pub(super) struct File {
    file: fs::File,
    octets: u64,
}

impl File {
    /// Begins a new file of that name, unless there are enough.
    pub(super) fn begin(
        dir: &Path,
        name: &str,
        options: &CaptureOptions,
        held: &mut Held,
    ) -> io::Result<Self> {
        if held.files >= options.max_files || held.octets + NOTE >= options.max_total {
            let why = format!(
                "there are {} files of {} octets: move some away, or raise the limits in [capture], and restart",
                held.files, held.octets
            );
            return Err(io::Error::other(why));
        }
        make_dir(dir)?;
        let file = create(&dir.join(name))?;
        held.files += 1;
        Ok(Self { file, octets: 0 })
    }

    /// Writes a line, in one go: whatever happens next, it is there whole. The inner error is a limit.
    pub(super) fn line(
        &mut self,
        line: &str,
        options: &CaptureOptions,
        held: &mut Held,
    ) -> io::Result<Result<(), Full>> {
        let octets = line.len() as u64 + 1 + NOTE;
        if self.octets + octets > options.max_file {
            return Ok(Err(Full::File));
        }
        if held.octets + octets > options.max_total {
            return Ok(Err(Full::Total));
        }
        self.last_line(line, held).map(Ok)
    }

    /// Writes a line whatever the limits.
    pub(super) fn last_line(&mut self, line: &str, held: &mut Held) -> io::Result<()> {
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.octets += line.len() as u64 + 1;
        held.octets += line.len() as u64 + 1;
        Ok(())
    }
}

/// Makes a folder for this user alone, unless it is there.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// A new file for this user alone.
pub(super) fn create(path: &Path) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
