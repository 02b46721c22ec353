//! Files as recordings need them: private, owned by one process at a time, with room kept for the last words. Knows no format.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

/// Room that a recording keeps for the moment at which there is no other: what waits to be written, and what is known of it.
const RESERVE: usize = 64 * 1024;
/// The part of it that is kept until the recording ends, for what is known of it then: its longest lists, 64 octets a line, and a sector
/// for each file. The rest takes a tenth of a second of sound, 19,200 octets at 48 kHz.
const LAST_WORDS: u64 = 40 * 1024;

/// How files are opened that hold what people say: for nobody else's eyes.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes a folder and those above it, for nobody else's eyes.
pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Whether files can be made in a folder, which is made if it is not there. That it is full is no reason against it: that may change.
///
/// # Errors
/// Why not.
pub fn try_to_write(dir: &Path) -> io::Result<()> {
    let tried = dir.join(format!(".ringback-{}.try", std::process::id()));
    let made =
        make_dir(dir).and_then(|()| private().write(true).create(true).truncate(true).open(&tried));
    match made {
        Ok(_) => std::fs::remove_file(&tried),
        Err(error) if is_full(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Has the names in a folder on disk.
pub(crate) fn sync_dir(of: &Path) -> io::Result<()> {
    match of.parent() {
        Some(dir) if dir.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Whether an error says that there is no room, which may change.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Owns a file until it is closed, by whatever: the system takes the lock back from a process that is killed. `Ok(false)` if somebody
/// else does and `wait` is not said.
pub(crate) fn own(file: &File, wait: bool) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use rustix::fs::{FlockOperation, flock};
        let how = if wait {
            FlockOperation::LockExclusive
        } else {
            FlockOperation::NonBlockingLockExclusive
        };
        match flock(file, how) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
    #[cfg(not(unix))]
    {
        let _ = (file, wait);
        Ok(true)
    }
}

/// Whether `path` still names this file: whoever owned it before may have renamed or deleted it.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let id = |about: std::fs::Metadata| (about.dev(), about.ino());
        let ids = (file.metadata().map(id), std::fs::symlink_metadata(path).map(id));
        matches!(ids, (Ok(ours), Ok(found)) if ours == found)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

/// Room on disk that is given back when this is dropped, or its process dies.
#[derive(Debug)]
pub(crate) struct Reserve(File);

impl Reserve {
    /// Takes it where `part` is. The file has no name after that, so that nobody has to clear it away.
    pub(crate) fn take(part: &Path) -> io::Result<Self> {
        let path = part.with_extension("reserve");
        let mut file = private().write(true).create_new(true).open(&path)?;
        let taken = file.write_all(&[0; RESERVE]);
        // Whoever repairs recordings may have done so before us.
        let _ = std::fs::remove_file(&path);
        taken.map(|()| Self(file))
    }

    /// Gives back all but what the end of the recording needs.
    pub(crate) fn shrink(self) -> Option<Self> {
        self.0.set_len(LAST_WORDS).is_ok().then_some(self)
    }
}
