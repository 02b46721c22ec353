//! What a file of a recorder's folder is, sealed or not, finished or not. Reads no sound and changes nothing.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::about::{About, part_of};
use crate::disk;
use crate::vault::{self, KeyId, Keys, SEALED};
use crate::wav::{self, HEADER};

/// A recording as it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// What it is or will be called.
    pub path: PathBuf,
    /// Whether somebody makes it.
    pub stage: Stage,
    /// Octets.
    pub octets: u64,
    /// When it was last written to.
    pub modified: SystemTime,
    /// Milliseconds of sound.
    pub ms: u64,
    /// What it is sealed with, if it is.
    pub sealed: Option<Seal>,
    /// What is known of it, where that can be read.
    pub about: Option<About>,
    /// Why that cannot be read.
    pub problem: Option<String>,
}

/// What a recording is sealed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// Its key, if it has one that can be named.
    pub key: Option<KeyId>,
    /// It says that it is whole.
    pub ended: bool,
}

/// How far a recording is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Somebody makes it.
    Live,
    /// Whoever made it was killed; it is to be repaired.
    Left,
    /// It is finished.
    Finished,
}

impl Look {
    /// The file that it is now.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        if self.stage == Stage::Finished { self.path.clone() } else { part_of(&self.path) }
    }
}

/// The name of the recording that a file is, or will be: `x.wav` of `x.wav.part`. `None` for what is none.
#[must_use]
pub fn name_of(file: &str) -> Option<&str> {
    let name = file.strip_suffix(".part").unwrap_or(file);
    name.strip_suffix(SEALED).unwrap_or(name).ends_with(".wav").then_some(name)
}

/// Looks at one, of which `file` is the name that it has now; `None` if that is no recording of ours, or gone.
///
/// # Errors
/// It cannot be read.
pub fn look(file: &Path, keys: &Keys) -> io::Result<Option<Look>> {
    let name = file.file_name().and_then(|name| name.to_str()).and_then(name_of);
    let Some(path) = name.map(|name| file.with_file_name(name)) else { return Ok(None) };
    let mut opened = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let found = opened.metadata()?;
    if !found.is_file() {
        return Ok(None);
    }
    let stage = if path == file {
        Stage::Finished
    } else if disk::own(&File::open(file)?, false)? {
        // For a moment only: it is not ours.
        Stage::Left
    } else {
        Stage::Live
    };
    let (octets, modified) = (found.len(), found.modified()?);
    let mut look =
        Look { path, stage, octets, modified, ms: 0, sealed: None, about: None, problem: None };
    if let Some(walk) = vault::walk(&mut opened, octets)? {
        let vault::Peek { key, about } = vault::peek(&mut opened, &walk, keys)?;
        look.ms = walk.frames * 1_000 / u64::from(walk.rate);
        look.sealed = Some(Seal { key, ended: walk.ended });
        match about {
            Ok(about) => look.about = about,
            Err(damage) => look.problem = Some(damage.to_string()),
        }
        return Ok(Some(look));
    }
    if look.path.to_string_lossy().ends_with(SEALED) {
        // One that is being made, or was left, may not have begun.
        let has_begun = look.stage == Stage::Finished || octets >= vault::SHORTEST;
        look.problem = Some("its header is damaged, or it is no sealed recording".into());
        return Ok(has_begun.then_some(look));
    }
    let mut header = [0; HEADER as usize];
    opened.seek(SeekFrom::Start(0))?;
    let whole = opened.read_exact(&mut header).is_ok();
    let Some(rate) = wav::rate_of(&header).filter(|rate| whole && *rate > 0) else {
        return Ok(None);
    };
    look.ms = wav::frames_in(octets) * 1_000 / u64::from(rate);
    match About::read(&look.path) {
        Ok(about) => look.about = about,
        Err(error) => look.problem = Some(error.to_string()),
    }
    Ok(Some(look))
}
