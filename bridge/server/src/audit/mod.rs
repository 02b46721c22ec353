//! The audit log: who did what, when, on what and with which outcome, in a file that is only ever added to. Decides nothing.
//!
//! An entry is on disk before whoever did it is answered. Several processes may write to one file, a bridge and a command line: each
//! takes a lock, looks where the file ends now, and goes on from there.

mod chain;

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::clock::WallTime;

pub use chain::{Break, Entry, Head, Line, verify};

/// An audit log. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Audit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// Held while an entry is written: one at a time, in the order in which they are asked for.
    writing: Mutex<()>,
}

/// Lines of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In their order.
    pub lines: Vec<Line>,
    /// Whether there are more behind them.
    pub more: bool,
}

impl Audit {
    /// The log at `path`, which is made if it is not there, for its owner alone to read.
    ///
    /// # Errors
    /// If it cannot be written to, or what it ends with is no line of an audit log.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = Locked::open(path)?;
        file.head()?;
        Ok(Self(Arc::new(Inner { path: path.to_owned(), writing: Mutex::default() })))
    }

    /// Adds an entry; when this returns, it is on disk.
    ///
    /// # Errors
    /// If it is not.
    pub async fn write(&self, entry: Entry) -> io::Result<()> {
        let _writing = self.0.writing.lock().await;
        let this = self.clone();
        let written = tokio::task::spawn_blocking(move || this.write_now(entry)).await;
        written.unwrap_or_else(|_panicked| Err(io::Error::other("a fault of this program")))
    }

    /// The same for who may wait for a disk.
    ///
    /// # Errors
    /// If it is not on disk.
    pub fn write_now(&self, entry: Entry) -> io::Result<()> {
        let mut file = Locked::open(&self.0.path)?;
        let head = file.head()?;
        let (line, _) = head.next(WallTime::now().to_string(), entry);
        file.append(line)
    }

    /// At most `most` lines from behind number `after`. Reads the file from its beginning.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, after: u64, most: usize) -> io::Result<Page> {
        let mut page = Page { lines: Vec::new(), more: false };
        for line in BufReader::new(File::open(&self.0.path)?).lines() {
            // What is no line of ours, or is being written just now, is for `verify` to tell.
            let Ok(line) = serde_json::from_str::<Line>(&line?) else { continue };
            if line.seq <= after {
                continue;
            }
            if page.lines.len() >= most {
                page.more = true;
                break;
            }
            page.lines.push(line);
        }
        Ok(page)
    }
}

/// What every line begins with.
const BEGIN: &[u8] = b"{\"seq\":";

/// The file, which nobody else writes to as long as this lives.
struct Locked(File);

impl Locked {
    fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        #[cfg(target_os = "linux")]
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
        Ok(Self(file))
    }

    /// Where the log ends now. A line that was never finished, and so never counted on, is taken away.
    fn head(&mut self) -> io::Result<Head> {
        let length = self.0.seek(SeekFrom::End(0))?;
        let begin = length.saturating_sub(2 * chain::MAX_LINE as u64 + 2);
        self.0.seek(SeekFrom::Start(begin))?;
        let mut tail = Vec::new();
        (&self.0).take(length - begin).read_to_end(&mut tail)?;
        let whole = tail.iter().rposition(|octet| *octet == b'\n').map_or(0, |end| end + 1);
        let torn = &tail[whole..];
        if !(torn.starts_with(BEGIN) || BEGIN.starts_with(torn)) || torn.len() > chain::MAX_LINE {
            return Err(io::Error::other(
                "this is no audit log: what it ends with is no line of one",
            ));
        }
        if !torn.is_empty() {
            self.0.set_len(begin + whole as u64)?;
            self.0.sync_data()?;
        }
        let Some(lines) = tail[..whole].strip_suffix(b"\n") else {
            let is_new = begin == 0;
            let no_log = || io::Error::other("this is no audit log: its lines have no end");
            return if is_new { Ok(Head::none()) } else { Err(no_log()) };
        };
        let last = lines.rsplit(|octet| *octet == b'\n').next().unwrap_or_default();
        let last = std::str::from_utf8(last).map_err(io::Error::other)?;
        let no_log =
            |why| io::Error::other(format!("its last line is none of an audit log: {why}"));
        Head::after(last).map_err(no_log)
    }

    fn append(mut self, line: String) -> io::Result<()> {
        // In one piece, so that another who reads sees all of it or nothing.
        self.0.write_all((line + "\n").as_bytes())?;
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(act: &str) -> Entry {
        let text = String::from;
        Entry { who: text("a"), from: None, act: text(act), on: text("x"), outcome: text("200") }
    }

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("ringback-audit-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = std::fs::remove_file(&path);
            Self(path)
        }

        fn check(&self) -> Result<Head, Break> {
            verify(BufReader::new(File::open(&self.0).unwrap()), None)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[tokio::test]
    async fn several_writers_make_one_chain_that_only_the_owner_reads() {
        let scratch = Scratch::new("writers");
        let logs = [Audit::open(&scratch.0).unwrap(), Audit::open(&scratch.0).unwrap()];
        let mut writing = tokio::task::JoinSet::new();
        for number in 0..40 {
            let log = logs[number % 2].clone();
            writing.spawn(async move { log.write(entry(&number.to_string())).await });
        }
        while let Some(written) = writing.join_next().await {
            written.unwrap().unwrap();
        }
        assert_eq!(scratch.check().unwrap().seq, 40);
        let page = logs[0].read(10, 5).unwrap();
        let numbers: Vec<_> = page.lines.iter().map(|line| line.seq).collect();
        assert_eq!((numbers, page.more), (vec![11, 12, 13, 14, 15], true));
        assert!(!logs[0].read(35, 5).unwrap().more);
        #[cfg(unix)]
        {
            let mode = std::fs::metadata(&scratch.0).unwrap();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
        }
    }

    #[test]
    fn a_line_that_was_never_finished_is_taken_away_and_the_chain_goes_on() {
        let scratch = Scratch::new("torn");
        let log = Audit::open(&scratch.0).unwrap();
        log.write_now(entry("one")).unwrap();
        let mut file = OpenOptions::new().append(true).open(&scratch.0).unwrap();
        file.write_all(b"{\"seq\":2,\"at\":\"20").unwrap();
        assert!(scratch.check().is_err());
        log.write_now(entry("two")).unwrap();
        assert_eq!(scratch.check().unwrap().seq, 2);
    }

    #[test]
    fn what_is_no_audit_log_is_left_alone() {
        let scratch = Scratch::new("other");
        for text in ["hello\n".to_owned(), "x".repeat(20_000)] {
            std::fs::write(&scratch.0, &text).unwrap();
            assert!(Audit::open(&scratch.0).is_err(), "{}", text.len());
            assert_eq!(std::fs::read_to_string(&scratch.0).unwrap(), text);
        }
        assert!(Audit::open(Path::new("/nowhere/at/all")).is_err());
    }
}
