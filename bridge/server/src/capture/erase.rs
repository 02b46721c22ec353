//! Captures of calls, found by their names and by what stands in them, and deleted. Deletes nothing that is no capture.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use ringback_proto::transcript::Transcript;
use serde::Deserialize;

use super::GOES_ON_WITH;
use super::file::is_capture;

/// Octets of a line that is looked at; one that is longer is none of ours.
const LONGEST: u64 = 1024 * 1024;

/// Deletes the captures of these calls in a folder of captures: how many there were, and which cannot be looked into or deleted, and why.
#[must_use]
pub fn erase(dir: &Path, calls: &BTreeSet<String>) -> (u64, Vec<(PathBuf, String)>) {
    let (mut gone, mut failed) = (0, Vec::new());
    for path in captures(dir, &mut failed) {
        let erased = match is_of(&path, calls) {
            Ok(true) => fs::remove_file(&path).map(|()| gone += 1),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        match erased {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                failed.push((path, error.to_string()));
            }
            _ => {}
        }
    }
    (gone, failed)
}

/// All files of the folder, and of those in it, that may be captures.
fn captures(dir: &Path, failed: &mut Vec<(PathBuf, String)>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>),
        };
        match entries {
            Ok(entries) => {
                for path in entries.iter().map(fs::DirEntry::path) {
                    if is_capture(&path) {
                        found.push(path);
                    } else if folder == dir && path.is_dir() {
                        folders.push(path);
                    }
                }
            }
            Err(error) => failed.push((folder, error.to_string())),
        }
    }
    found
}

/// Whether a file is a capture of one of these calls, whatever somebody called it since: it begins with one, or a note says that its stream
/// goes on with one.
fn is_of(path: &Path, calls: &BTreeSet<String>) -> io::Result<bool> {
    let mut file = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    file.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
    let head = Transcript::parse(&String::from_utf8_lossy(&line)).ok();
    let call = head.and_then(|head| head.about).map(|about| about.call);
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    // One whose first line was torn off tells nothing, and is called what it was called when it began.
    if call.map_or(calls.contains(name), |call| calls.contains(&call)) {
        return Ok(true);
    }
    loop {
        line.clear();
        if file.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(false);
        }
        if goes_on_with(&line).is_some_and(|call| calls.contains(&call)) {
            return Ok(true);
        }
    }
}

/// The call that a line says its stream goes on with. What a provider says cannot look like it: that stands in a line of another type.
fn goes_on_with(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Note {
        #[serde(rename = "type")]
        kind: String,
        data: String,
    }
    // Most lines are long, and no notes.
    if !line.starts_with(br#"{"type":"note""#) {
        return None;
    }
    let note: Note = serde_json::from_slice(line).ok().filter(|note: &Note| note.kind == "note")?;
    note.data.strip_prefix(GOES_ON_WITH).map(str::to_owned)
}
