//! Recordings whose process was killed, made good again: whole frames, right sizes, their own names. Touches none that is being made,
//! by whichever process, and nothing that is no recording.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::about::{About, State, part_of};
use crate::disk;
use crate::vault::{self, Damage, Keys, Reader, SEALED, Walk};
use crate::wav::{self, HEADER, MAX_FRAMES};

/// What was found in the place of a recording that is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is good again, and finished.
    Recovered {
        /// Its own name.
        path: PathBuf,
        /// Sound in it.
        ms: u64,
    },
    /// It is encrypted, and damaged with sound behind that: it is finished, and nothing of it was cut off.
    Damaged {
        /// Its own name.
        path: PathBuf,
        /// Where the damage begins, in octets.
        at: u64,
    },
    /// It had not begun, and is gone.
    Empty,
    /// Somebody is recording it, or was quicker.
    Busy,
    /// It is no recording of ours; it was left as it is.
    Unknown,
}

/// Repairs all recordings of a folder whose process is no more. Says what became of each that was not finished; doing it again finds
/// nothing to do. Sealed ones need none of `keys`, but are better off with theirs. May take as long as it takes to write to disk, twice for each.
///
/// # Errors
/// The folder cannot be read. One that is not there has nothing in it.
pub fn repair(dir: &Path, keys: &Keys) -> io::Result<Vec<(PathBuf, io::Result<Outcome>)>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    let ends_with = |path: &Path, end: &str| {
        path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.ends_with(end))
    };
    let is_ours = |path: &&PathBuf| {
        ends_with(path, ".wav.part") || ends_with(path, &format!(".wav{SEALED}.part"))
    };
    let parts = found.iter().filter(is_ours);
    let outcomes = parts.map(|part| (part.clone(), repair_one(part, keys))).collect();
    for path in &found {
        // What was being written when its process was killed, and is nobody's now. Whoever makes a reserve takes its name away at once.
        let json = path.with_extension("");
        let is_told = ends_with(path, ".json.part");
        let orphaned = is_told && !part_of(&json.with_extension("wav")).exists();
        let reserve = format!(".wav{SEALED}.reserve");
        if orphaned || ends_with(path, ".wav.reserve") || ends_with(path, &reserve) {
            let _ = fs::remove_file(path);
        }
    }
    Ok(outcomes)
}

/// Repairs the recording of that name, if it is not finished, as [`repair`] does.
///
/// # Errors
/// What cannot be read or written.
pub fn repair_file(recording: &Path, keys: &Keys) -> io::Result<Option<Outcome>> {
    let part = part_of(recording);
    if part.is_file() { repair_one(&part, keys).map(Some) } else { Ok(None) }
}

/// Repairs one, `x.wav.part`.
pub(crate) fn repair_one(part: &Path, keys: &Keys) -> io::Result<Outcome> {
    let mut file = match disk::private().read(true).write(true).open(part) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Outcome::Busy),
        file => file?,
    };
    if !disk::own(&file, false)? || !disk::is_at(&file, part) {
        return Ok(Outcome::Busy);
    }
    let about = file.metadata()?;
    if let Some(walk) = vault::walk(&mut file, about.len())? {
        return repair_sealed(&mut file, part, &walk, keys);
    }
    file.seek(SeekFrom::Start(0))?;
    let mut header = Vec::new();
    io::Read::by_ref(&mut file).take(HEADER).read_to_end(&mut header)?;
    let begins = |with: &[u8]| with.starts_with(&header[..header.len().min(with.len())]);
    let whole = <[u8; HEADER as usize]>::try_from(header.as_slice());
    let Some(whole) = whole.ok().filter(|_| !begins(&vault::MAGIC)) else {
        let half = about.len() < vault::SHORTEST && (begins(b"RIFF") || begins(&vault::MAGIC));
        if !half {
            return Ok(Outcome::Unknown);
        }
        let _ = fs::remove_file(About::path(&named(part)));
        fs::remove_file(part)?;
        return Ok(Outcome::Empty);
    };
    let Some(rate) = wav::rate_of(&whole).filter(|rate| *rate > 0) else {
        return Ok(Outcome::Unknown);
    };
    let frames = wav::frames_in(about.len()).min(MAX_FRAMES);
    file.set_len(wav::offset(frames))?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&wav::header(rate, frames))?;
    // It is as old as its last sound: by that others tell that nobody writes to it.
    file.set_modified(about.modified()?)?;
    file.sync_all()?;
    let (path, ms) = (free_name(&named(part)), frames * 1_000 / u64::from(rate));
    tell(part, &path, ms)?;
    fs::rename(part, &path)?;
    disk::sync_dir(&path)?;
    Ok(Outcome::Recovered { path, ms })
}

/// Repairs one that is sealed: what is not a whole chunk goes. With its key, what is not authentic goes as well, and it says that it is
/// whole from now on; without, whoever reads it finds that it has no end, and cannot know why. Only an end is cut off: where more than
/// one whole chunk stands behind what is damaged, it stays as it is.
fn repair_sealed(
    file: &mut fs::File,
    part: &Path,
    walk: &Walk,
    keys: &Keys,
) -> io::Result<Outcome> {
    let age = file.metadata()?.modified()?;
    file.seek(SeekFrom::Start(0))?;
    let read = Reader::open(io::BufReader::new(&*file), keys).and_then(Reader::resume);
    let at = read.as_ref().map_or(walk.end, |(_, _, good)| *good);
    if vault::more_behind(file, at)? {
        let path = free_name(&named(part));
        fs::rename(part, &path)?;
        disk::sync_dir(&path)?;
        return Ok(Outcome::Damaged { path, at });
    }
    file.set_len(walk.end)?;
    let mut frames = walk.frames;
    match read {
        Ok((_, contents, _)) if contents.ended => {}
        Ok((mut sealer, contents, _)) => {
            frames = contents.frames;
            let about = contents.about.clone();
            let about = about.map(|about| serde_json::to_vec(&recovered(about, contents.ms())));
            sealer.cut(file)?;
            sealer.about(file, &about.transpose()?.unwrap_or_default(), true)?;
        }
        Err(Damage::Unreadable(error)) => return Err(error),
        Err(_) => {}
    }
    // It is as old as its last sound.
    file.set_modified(age)?;
    file.sync_all()?;
    let path = free_name(&named(part));
    fs::rename(part, &path)?;
    disk::sync_dir(&path)?;
    Ok(Outcome::Recovered { path, ms: frames * 1_000 / u64::from(walk.rate) })
}

/// Gives a recording that is damaged, and made by somebody who cannot go on with it, a finished name that is not its own, as it is.
pub(crate) fn put_aside(part: &Path) -> io::Result<PathBuf> {
    let path = another_name(&named(part));
    fs::rename(part, &path)?;
    disk::sync_dir(&path)?;
    Ok(path)
}

/// Says what became of it where what is known of it is told.
fn tell(part: &Path, path: &Path, ms: u64) -> io::Result<()> {
    let of = named(part);
    // One that cannot be read tells nothing, and its recording is good all the same.
    let Some(about) = About::read(&of).ok().flatten() else { return Ok(()) };
    recovered(about, ms).write(path)
}

/// What is known of a recording that has so much sound. One whose maker was killed between the last word and the new name has been told
/// of: that it lacks something stays said, and one that is whole has lost nothing.
fn recovered(about: About, ms: u64) -> About {
    let said = match about.state {
        State::Cut | State::Failed => true,
        State::Finished => about.ms == ms,
        State::Recording | State::Recovered => false,
    };
    let state = if said { about.state } else { State::Recovered };
    About { state, ms, ..about }
}

/// `x.wav` of `x.wav.part`.
fn named(part: &Path) -> PathBuf {
    part.with_extension("")
}

/// The name itself, or one like it that nothing has.
fn free_name(path: &Path) -> PathBuf {
    if path.exists() { another_name(path) } else { path.to_owned() }
}

/// A name like it that nothing has: `x.recovered.wav`, `x.recovered-2.wav` ...
fn another_name(path: &Path) -> PathBuf {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or("recording");
    let (name, sealed) = name.strip_suffix(SEALED).map_or((name, ""), |name| (name, SEALED));
    let stem = name.strip_suffix(".wav").unwrap_or(name);
    let mut number = 1;
    loop {
        let number_of = if number == 1 { String::new() } else { format!("-{number}") };
        let free = path.with_file_name(format!("{stem}.recovered{number_of}.wav{sealed}"));
        if !free.exists() {
            return free;
        }
        number += 1;
    }
}

#[cfg(test)]
#[path = "repair_test.rs"]
mod tests;
