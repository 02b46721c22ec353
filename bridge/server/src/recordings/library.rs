//! The recordings of a folder, found by their names. Looks into no other folder, and changes nothing.

use std::io;
use std::path::Path;

use ringback_recorder::vault::Keys;
use ringback_recorder::{Look, look, name_of};

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
            && let Some(look) = look(&entry.path(), keys)?
        {
            found.push(look);
        }
    }
    found.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
    Ok(found)
}
