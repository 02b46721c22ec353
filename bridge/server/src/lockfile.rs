//! Files that a bridge adds to and a command rewrites: one at a time, and nobody adds to what has another's name. Reads and writes
//! nothing. Where there are no such locks, on other systems than Linux, a bridge must not run meanwhile.

use std::fs::File;
use std::io;
use std::path::Path;

/// Waits until nobody else has the file; it is given back when it is closed or [`release`]d.
pub(crate) fn acquire(file: &File) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::fs::flock(file, rustix::fs::FlockOperation::LockExclusive)?;
    let _ = file;
    Ok(())
}

/// Gives it back.
pub(crate) fn release(file: &File) {
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::flock(file, rustix::fs::FlockOperation::Unlock);
    let _ = file;
}

/// How often another file may have been put in the place of one before that is an error.
pub(crate) const TRIES: usize = 100;

/// What is said then.
pub(crate) fn never_still() -> io::Error {
    io::Error::other("another file is put in its place again and again")
}

/// Whether `path`, which may be a link, still names this file: whoever had it before may have put another in its place.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let id = |about: std::fs::Metadata| (about.dev(), about.ino());
        let ids = (file.metadata().map(id), std::fs::metadata(path).map(id));
        matches!(ids, (Ok(ours), Ok(found)) if ours == found)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}
