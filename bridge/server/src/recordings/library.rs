//! The recordings of a folder, found by their names. Looks into no other folder, and changes nothing.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::SystemTime;

use ringback_recorder::vault::Keys;
use ringback_recorder::{Look, Stage, look, name_of};

/// All recordings of a folder, oldest first, those that are being made as well. What is no recording is passed over; one that cannot be
/// read says why.
///
/// # Errors
/// The folder cannot be read.
pub fn list(dir: &Path, keys: &Keys) -> io::Result<Vec<Look>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let is_named_so = entry.file_name().to_str().is_some_and(|name| name_of(name).is_some());
        if is_named_so
            && entry.file_type()?.is_file()
            && let Some(look) = look_at(&entry.path(), keys)
        {
            found.push(look);
        }
    }
    found.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
    // One that was finished meanwhile may have been found by both of its names.
    let mut files = BTreeSet::new();
    found.retain(|look| files.insert(look.file()));
    Ok(found)
}

/// Looks at one, whatever becomes of it meanwhile: one that cannot be read keeps nobody from the others.
fn look_at(file: &Path, keys: &Keys) -> Option<Look> {
    let path = file.with_file_name(name_of(file.file_name()?.to_str()?)?);
    let mut looked = look(file, keys);
    let is_gone = match &looked {
        Ok(found) => found.is_none() && !file.exists(),
        Err(error) => error.kind() == ErrorKind::NotFound,
    };
    if is_gone && path != file {
        // It was finished between being found and being looked at.
        looked = look(&path, keys);
    }
    match looked {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            let about = file.symlink_metadata().ok();
            let modified = about.as_ref().and_then(|about| about.modified().ok());
            Some(Look {
                stage: if path == file { Stage::Finished } else { Stage::Left },
                path,
                octets: about.map_or(0, |about| about.len()),
                modified: modified.unwrap_or(SystemTime::UNIX_EPOCH),
                ms: 0,
                sealed: None,
                about: None,
                problem: Some(format!("it cannot be read: {error}")),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::testing::Folder;

    #[test]
    fn one_that_cannot_be_read_or_is_damaged_says_so_and_one_that_was_finished_is_found() {
        let folder = Folder::new("library");
        let mut wav = Vec::from(*b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0");
        wav.extend([8_000_u32, 32_000].map(u32::to_le_bytes).concat());
        wav.extend(*b"\x04\0\x10\0data\0\0\0\0");
        for name in ["a.wav", "b.wav.sealed"] {
            std::fs::write(folder.0.join(name), &wav).unwrap();
        }
        std::fs::write(folder.0.join("new.wav.sealed.part"), "").unwrap();
        let keys = Keys::default();
        let found = list(&folder.0, &keys).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        let problem = |name: &str| {
            let path = folder.0.join(name);
            found.iter().find(|look| look.path == path).unwrap().problem.clone()
        };
        assert_eq!(problem("a.wav"), None);
        assert!(problem("b.wav.sealed").unwrap().contains("header is damaged"));
        let finished = look_at(&folder.0.join("a.wav.part"), &keys).unwrap();
        assert_eq!((finished.path, finished.stage), (folder.0.join("a.wav"), Stage::Finished));
        assert_eq!(look_at(&folder.0.join("gone.wav"), &keys), None);
        // A file is no folder.
        let unreadable = look_at(&folder.0.join("a.wav/x.wav"), &keys).unwrap();
        assert!(unreadable.problem.unwrap().contains("cannot be read"));
    }
}
