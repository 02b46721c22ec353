//! Recordings that are deleted, and those that must not be. Chooses none.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::about::{About, part_of};
use crate::disk;
use crate::vault::{self, SEALED};
use crate::wav::{self, HEADER};

/// What became of a recording that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It is gone, and what was known of it.
    Gone,
    /// It is held, and as it was.
    Held,
    /// Somebody makes it or looks after it; it is as it was.
    Busy,
    /// It is no recording of ours, and as it was.
    Foreign,
}

/// The file that says that a recording is held: beside it, whether it is finished or not.
fn hold_of(recording: &Path) -> PathBuf {
    with_end(recording, ".hold")
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Whether a recording is held: neither age nor a wish deletes it. One of which that cannot be known is held.
#[must_use]
pub fn is_held(recording: &Path) -> bool {
    hold_of(recording).try_exists().unwrap_or(true)
}

/// Whether somebody makes a recording or looks after it just now.
///
/// # Errors
/// That cannot be known.
pub fn is_busy(recording: &Path) -> io::Result<bool> {
    if part_of(recording).exists() {
        return Ok(true);
    }
    match File::open(recording) {
        // For a moment only: it is not ours.
        Ok(file) => Ok(!disk::own(&file, false)?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Looks after a finished recording until what this gives is dropped: nobody deletes, repairs or replaces it meanwhile. `None` if somebody
/// else does, or it is gone. Never waits for them.
///
/// # Errors
/// It cannot be opened, or who looks after it cannot be known.
pub fn look_after(recording: &Path) -> io::Result<Option<LookedAfter>> {
    let file = match File::options().read(true).write(true).open(recording) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let is_ours = disk::own(&file, false)? && disk::is_at(&file, recording);
    Ok(is_ours.then_some(LookedAfter(file)))
}

/// A recording that somebody looks after; until it is dropped.
#[derive(Debug)]
pub struct LookedAfter(#[allow(dead_code, reason = "it only has to be open")] File);

/// Holds a recording, or lets go of it; on disk when this returns. From the beginning on nobody deletes it who has not begun to. Waits for
/// who looks after a finished one, and so is never said to hold what is being deleted.
///
/// # Errors
/// There is no such recording, or it cannot be written.
pub fn hold(recording: &Path, held: bool) -> io::Result<()> {
    if !recording.is_file() && !part_of(recording).is_file() {
        return Err(ErrorKind::NotFound.into());
    }
    let hold = hold_of(recording);
    let finished = match File::open(recording) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        file => Some(file?),
    };
    if held {
        disk::private().write(true).create(true).truncate(false).open(&hold)?.sync_all()?;
        disk::sync_dir(&hold)?;
    }
    if let Some(file) = &finished {
        disk::own(file, true)?;
    }
    let is_gone = finished.is_some_and(|file| !disk::is_at(&file, recording));
    if is_gone || !held {
        match fs::remove_file(&hold) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => disk::sync_dir(&hold)?,
        }
    }
    if is_gone { Err(ErrorKind::NotFound.into()) } else { Ok(()) }
}

/// Deletes a finished recording of ours and what is known of it. The key of a sealed one is destroyed first, on disk, so that no block of it
/// that is found later can be read.
///
/// # Errors
/// What is still there cannot be deleted; doing it again goes on.
pub fn remove(recording: &Path) -> io::Result<Removed> {
    if is_held(recording) {
        return Ok(Removed::Held);
    }
    if part_of(recording).exists() {
        return Ok(Removed::Busy);
    }
    match File::options().read(true).write(true).open(recording) {
        Ok(mut file) => {
            if !disk::own(&file, false)? || !disk::is_at(&file, recording) {
                return Ok(Removed::Busy);
            }
            let removed = remove_owned(&mut file, recording)?;
            if removed != Removed::Gone {
                return Ok(removed);
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut beside = vec![with_end(recording, ".stored")];
    // One of that name that tells of no recording is somebody else's.
    if !recording.to_string_lossy().ends_with(SEALED)
        && About::read(recording).is_ok_and(|about| about.is_some())
    {
        beside.push(About::path(recording));
    }
    for path in beside {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    disk::sync_dir(recording)?;
    Ok(Removed::Gone)
}

/// Deletes the sound of one that nobody else owns, if it is ours.
fn remove_owned(file: &mut File, recording: &Path) -> io::Result<Removed> {
    // Somebody may have held it since it was asked for.
    if is_held(recording) {
        return Ok(Removed::Held);
    }
    let length = file.metadata()?.len();
    if vault::walk(file, length)?.is_some() {
        vault::shred(file)?;
    } else if !is_wav_of_ours(file, recording)? {
        return Ok(Removed::Foreign);
    }
    fs::remove_file(recording)?;
    Ok(Removed::Gone)
}

/// Whether a file begins as our WAVs do, or what stands beside it tells of a recording.
fn is_wav_of_ours(file: &mut File, recording: &Path) -> io::Result<bool> {
    let mut header = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(HEADER).read_to_end(&mut header)?;
    let header = <[u8; HEADER as usize]>::try_from(header.as_slice()).ok();
    let begins = header.as_ref().and_then(wav::rate_of).is_some_and(|rate| rate > 0);
    let is_sealed = recording.to_string_lossy().ends_with(SEALED);
    Ok(begins || (!is_sealed && About::read(recording).is_ok_and(|about| about.is_some())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Dir, names};

    fn recorded(dir: &Dir) -> PathBuf {
        for name in ["a", "b"] {
            fs::write(dir.0.join(name).with_extension("wav"), wav::header(8_000, 0)).unwrap();
            let about = r#"{"v":1,"call":"c","provider":"p","began":"","rate":8000,"ms":0,"state":"finished"}"#;
            fs::write(dir.0.join(name).with_extension("json"), about).unwrap();
        }
        fs::write(dir.0.join("a.wav.stored"), "").unwrap();
        dir.0.join("a.wav")
    }

    #[test]
    fn a_recording_goes_with_all_that_is_known_of_it_and_nothing_else() {
        let dir = Dir::new("remove");
        let path = recorded(&dir);
        assert_eq!(remove(&path).unwrap(), Removed::Gone);
        assert_eq!(names(&dir.0), ["b.json", "b.wav"]);
        assert_eq!(remove(&path).unwrap(), Removed::Gone, "again");
        // Interrupted behind the sound, what is left goes the next time.
        recorded(&dir);
        fs::remove_file(&path).unwrap();
        assert_eq!(remove(&path).unwrap(), Removed::Gone);
        assert_eq!(names(&dir.0), ["b.json", "b.wav"]);
    }

    #[test]
    fn what_is_no_recording_of_ours_stays_with_what_stands_beside_it() {
        let dir = Dir::new("remove-foreign");
        let path = recorded(&dir);
        fs::write(&path, "changed").unwrap();
        fs::write(dir.0.join("b.json"), "{}").unwrap();
        for (name, octets) in
            [("c.wav", &b"RIFF"[..]), ("c.json", b"{}"), ("d.wav.sealed", b"sealed by others")]
        {
            fs::write(dir.0.join(name), octets).unwrap();
        }
        for name in ["c.wav", "d.wav.sealed"] {
            assert_eq!(remove(&dir.0.join(name)).unwrap(), Removed::Foreign, "{name}");
        }
        assert_eq!(remove(&path).unwrap(), Removed::Gone, "what is known of it says that it is");
        assert_eq!(remove(&dir.0.join("b.wav")).unwrap(), Removed::Gone, "its header says so");
        assert_eq!(names(&dir.0), ["b.json", "c.json", "c.wav", "d.wav.sealed"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_hold_and_a_deletion_at_once_end_with_one_of_both() {
        let dir = Dir::new("held-at-once");
        let path = recorded(&dir);
        let mut file = File::options().read(true).write(true).open(&path).unwrap();
        // Asked for before it was held, and owned after that.
        hold(&path, true).unwrap();
        assert!(disk::own(&file, false).unwrap());
        assert_eq!(remove_owned(&mut file, &path).unwrap(), Removed::Held);
        assert!(path.exists());
        fs::remove_file(hold_of(&path)).unwrap();
        // Who wants to hold it meanwhile comes in time, or is told that it is gone.
        let theirs = path.clone();
        let holding = std::thread::spawn(move || hold(&theirs, true));
        let removed = remove_owned(&mut file, &path).unwrap();
        drop(file);
        let is_held = holding.join().unwrap().is_ok();
        assert_eq!(is_held, removed == Removed::Held, "{removed:?}");
        assert_eq!((hold_of(&path).exists(), path.exists()), (is_held, is_held));
    }

    #[cfg(unix)]
    #[test]
    fn whoever_looks_after_a_recording_sees_at_once_that_it_is_held() {
        let dir = Dir::new("held-meanwhile");
        let path = recorded(&dir);
        let ours = look_after(&path).unwrap().unwrap();
        let theirs = path.clone();
        let holding = std::thread::spawn(move || hold(&theirs, true));
        while !is_held(&path) {
            assert!(!holding.is_finished(), "it waits for us before it says so");
            std::thread::yield_now();
        }
        drop(ours);
        holding.join().unwrap().unwrap();
        assert!(is_held(&path));
    }

    #[test]
    fn a_recording_that_is_held_or_made_stays() {
        let dir = Dir::new("held");
        let path = recorded(&dir);
        hold(&path, true).unwrap();
        assert_eq!(remove(&path).unwrap(), Removed::Held);
        hold(&path, false).unwrap();
        hold(&path, false).unwrap();
        fs::write(dir.0.join("a.wav.part"), "x").unwrap();
        assert_eq!(remove(&path).unwrap(), Removed::Busy);
        fs::remove_file(dir.0.join("a.wav.part")).unwrap();
        #[cfg(unix)]
        {
            let theirs = File::open(&path).unwrap();
            assert!(disk::own(&theirs, false).unwrap());
            assert_eq!(remove(&path).unwrap(), Removed::Busy);
        }
        assert!(path.exists() && About::path(&path).exists());
        assert_eq!(remove(&path).unwrap(), Removed::Gone);
        assert!(hold(&path, true).is_err(), "there is none");
    }

    #[cfg(all(unix, feature = "encryption"))]
    #[test]
    fn the_key_of_a_sealed_recording_is_destroyed_and_not_only_its_name() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = Dir::new("shredded");
        let config =
            serde_json::json!({"dir": dir.0.join("r"), "encrypt": crate::tests::key_in(&dir.0)});
        let mut recorder = crate::tests::start("s", &config).unwrap();
        crate::tests::give(&mut recorder, 0, 0, &[7; 16_000]).1.unwrap();
        ringback_module::Module::stop(
            &mut recorder,
            ringback_module::message::StopReason::Hangup,
            &mut ringback_module::Outputs::new(),
        );
        let path = dir.0.join("r/s.wav.sealed");
        // Another name of the same file, as a copy of the disk would have it.
        let copy = dir.0.join("copy");
        fs::hard_link(&path, &copy).unwrap();
        assert_eq!(remove(&path).unwrap(), Removed::Gone);
        assert_eq!(names(&dir.0.join("r")), [""; 0]);
        assert_eq!(fs::metadata(&copy).unwrap().nlink(), 1);
        let keys = crate::check(&config, &|_| None).unwrap().keys.unwrap();
        let octets = fs::read(&copy).unwrap();
        let opened = vault::Reader::open(octets.as_slice(), &keys).map(drop);
        assert!(opened.unwrap_err().to_string().contains("destroyed"));
    }
}
