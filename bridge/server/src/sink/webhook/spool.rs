//! Events on disk until they are delivered: a file for each, whole or not there. Outlives a process that is killed; of a power cut
//! only what the system had written.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::Event;
use super::super::jsonl::{make_dir, private};

/// Largest file that is read.
const MOST_OCTETS: u64 = 16 * 1024 * 1024;

/// A folder of events that are not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spool {
    dir: PathBuf,
}

/// What was left by the last run.
#[derive(Debug, Default)]
pub(super) struct LeftOver {
    /// Events by number, oldest first.
    pub(super) events: Vec<(u64, Event)>,
    /// Files that are none; they are put aside.
    pub(super) broken: u64,
}

impl Spool {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn file(&self, number: u64) -> PathBuf {
        // Sorted by name is sorted by number.
        self.dir.join(format!("{number:020}.event"))
    }

    /// Reads what there is. May block.
    pub(super) fn read(&self) -> io::Result<LeftOver> {
        make_dir(&self.dir)?;
        let mut left = LeftOver::default();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "part") {
                // Its event was never taken for kept.
                fs::remove_file(&path)?;
            }
            if path.extension().is_none_or(|extension| extension != "event") {
                continue;
            }
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            match number.zip(read(&path)) {
                Some((number, event)) => left.events.push((number, event)),
                None => {
                    left.broken += 1;
                    fs::rename(&path, path.with_extension("broken"))?;
                }
            }
        }
        left.events.sort_unstable_by_key(|(number, _)| *number);
        Ok(left)
    }

    /// Keeps events, in order. May block.
    pub(super) fn write(&self, events: &[(u64, Arc<Event>)]) -> io::Result<()> {
        for (number, event) in events {
            let path = self.file(*number);
            let part = path.with_extension("part");
            let mut file = private().write(true).create(true).truncate(true).open(&part)?;
            file.write_all(event.to_kept().as_bytes())?;
            fs::rename(&part, &path)?;
        }
        Ok(())
    }

    /// Deletes what is kept of these calls, and says how much that was. May block.
    pub(super) fn erase(&self, calls: &BTreeSet<String>) -> io::Result<u64> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries?,
        };
        let mut gone = 0;
        for entry in entries {
            let path = entry?.path();
            let ours = |end| path.extension().is_some_and(|extension| extension == end);
            if (ours("event") || ours("part"))
                && read(&path).is_some_and(|event| calls.contains(&event.call))
            {
                fs::remove_file(&path)?;
                gone += 1;
            }
        }
        Ok(gone)
    }

    /// Forgets events, those it never kept as well. May block.
    pub(super) fn forget(&self, numbers: &[u64]) -> io::Result<()> {
        for number in numbers {
            match fs::remove_file(self.file(*number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn read(path: &Path) -> Option<Event> {
    if fs::metadata(path).ok()?.len() > MOST_OCTETS {
        return None;
    }
    Event::from_kept(&fs::read_to_string(path).ok()?)
}

#[cfg(test)]
mod tests {
    use crate::events::EventKind;
    use crate::sink::testing::{Folder, event};

    use super::*;

    #[test]
    fn events_are_had_again_in_order_and_what_is_broken_is_put_aside() {
        let folder = Folder::new("spool");
        let spool = Spool::new(&folder.0.join("a/b"));
        assert!(spool.read().unwrap().events.is_empty(), "the folder is made");
        let kept = |n| (n, Arc::new(event("c1", n, EventKind::Dtmf)));
        spool.write(&[kept(9), kept(10), kept(100)]).unwrap();
        spool.forget(&[10, 11]).unwrap();
        let dir = spool.dir();
        fs::write(dir.join("00000000000000000050.event"), "{\"id\":").unwrap();
        fs::write(dir.join("00000000000000000051.part"), "{\"id\":").unwrap();
        fs::write(dir.join("note.txt"), "not ours").unwrap();
        for broken in [1, 0] {
            let left = spool.read().unwrap();
            let numbers: Vec<_> = left.events.iter().map(|(number, _)| *number).collect();
            assert_eq!((numbers.as_slice(), left.broken), (&[9, 100][..], broken));
            assert_eq!(left.events[0].1, *kept(9).1);
        }
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        let names: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
        let wanted = [
            "00000000000000000009.event",
            "00000000000000000050.broken",
            "00000000000000000100.event",
            "note.txt",
        ];
        assert_eq!(names, wanted);
    }

    #[test]
    fn what_is_kept_of_a_call_goes_and_of_others_stays() {
        let folder = Folder::new("spool-erase");
        let spool = Spool::new(&folder.0.join("s"));
        let calls = BTreeSet::from(["c1".to_owned()]);
        assert_eq!(spool.erase(&calls).unwrap(), 0, "there is none yet");
        spool.read().unwrap();
        let event = |call, n| (n, Arc::new(event(call, n, EventKind::Dtmf)));
        spool.write(&[event("c1", 1), event("c2", 2), event("c1", 3)]).unwrap();
        assert_eq!(spool.erase(&calls).unwrap(), 2);
        let left = spool.read().unwrap();
        assert_eq!(left.events.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [2]);
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_them() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = Folder::new("spool-mode");
        let spool = Spool::new(&folder.0.join("s"));
        spool.read().unwrap();
        spool.write(&[(1, Arc::new(event("c1", 1, EventKind::Dtmf)))]).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(spool.dir()), mode(&spool.file(1))), (0o700, 0o600));
    }
}
