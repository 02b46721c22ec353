//! Events as lines of files: whole lines, appended, in files named by date, call, listener or route. Deletes none unasked.

mod erase;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::backoff::Backoff;
use super::{Event, Intake};
use crate::lockfile;

pub(crate) use erase::erase;

/// Events written at a time.
const BATCH: usize = 256;
/// Files kept open; with more, all are closed and those that are needed opened again.
const MOST_OPEN: usize = 32;

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonLines {
    /// Path of the file.
    pub path: Template,
    /// A file ends at so many octets, and another one with a number in its name begins.
    pub max_file: Option<u64>,
    /// Lines are gathered for so long before they are written; zero writes them as they come.
    pub flush_every: Duration,
}

/// A path with places for what differs between events: `transcripts/{date}/{call}.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Date,
    Call,
    Listener,
    Route,
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, after) = behind.split_once('}').ok_or("a `{` is not closed")?;
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(match name {
                "date" => Piece::Date,
                "call" => Piece::Call,
                "listener" => Piece::Listener,
                "route" => Piece::Route,
                _ => {
                    return Err(format!(
                        "there is no {{{name}}}: {{date}}, {{call}}, {{listener}} and {{route}} are"
                    ));
                }
            });
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        if text.is_empty() || text.ends_with('/') {
            return Err("is no file: name one, such as \"transcripts/{date}.jsonl\"".into());
        }
        Ok(Self(pieces))
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Date => f.write_str("{date}"),
            Piece::Call => f.write_str("{call}"),
            Piece::Listener => f.write_str("{listener}"),
            Piece::Route => f.write_str("{route}"),
        })
    }
}

impl Template {
    /// The file of an event.
    #[must_use]
    pub fn path(&self, event: &Event) -> PathBuf {
        let mut path = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => path.push_str(text),
                Piece::Date => path.push_str(&harmless(event.at.split('T').next().unwrap_or(""))),
                Piece::Call => path.push_str(&harmless(&event.call)),
                Piece::Listener => path.push_str(&harmless(&event.listener)),
                Piece::Route => path.push_str(&harmless(&event.route)),
            }
        }
        path.into()
    }
}

/// A value as part of a file's name: nothing in it means anything to a file system.
fn harmless(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
    let text: String = text.chars().take(100).map(plain).collect();
    if text.is_empty() { "_".into() } else { text }
}

/// Writes what `intake` gives until there is no more.
pub(crate) async fn run(config: JsonLines, intake: Intake) {
    let flush_every = config.flush_every;
    let mut writer = Writer { config, open: BTreeMap::new() };
    let mut backoff = Backoff::default();
    while let Some(mut events) = intake.take(BATCH).await {
        if !flush_every.is_zero() {
            // What comes in the meantime is written with it; at the end nothing waits.
            let _ = tokio::time::timeout(flush_every, intake.closed()).await;
            events.extend(intake.take_now(BATCH));
        }
        while !events.is_empty() {
            let writing = tokio::task::spawn_blocking(move || {
                let outcome = writer.write(&events);
                (writer, events, outcome)
            });
            let Ok((back, mut batch, (written, failed))) = writing.await else { return };
            intake.delivered(written as u64);
            events = batch.split_off(written);
            writer = back;
            match failed {
                None => backoff.worked(&intake),
                Some(error) => backoff.wait(&intake, &error.to_string()).await,
            }
        }
    }
}

struct Writer {
    config: JsonLines,
    open: BTreeMap<PathBuf, Open>,
}

/// A file being written.
struct Open {
    file: fs::File,
    path: PathBuf,
    octets: u64,
    /// It is the one with this number in its name.
    number: u32,
}

impl Writer {
    /// Writes events in order, and says how many of them are written and what stopped it.
    fn write(&mut self, events: &[Arc<Event>]) -> (usize, Option<io::Error>) {
        let mut written = 0;
        while let Some(first) = events.get(written) {
            let path = self.config.path.path(first);
            let mut lines = String::new();
            let mut count = 0;
            for event in &events[written..] {
                let fits = self.config.max_file.is_none_or(|most| (lines.len() as u64) < most);
                if count > 0 && (!fits || self.config.path.path(event) != path) {
                    break;
                }
                lines.push_str(&event.json);
                lines.push('\n');
                count += 1;
            }
            if let Err(error) = self.append(&path, lines.as_bytes()) {
                // Whatever is wrong with it may be mended by others: it is looked at anew.
                self.open.remove(&path);
                let path = path.display();
                return (written, Some(io::Error::new(error.kind(), format!("{path}: {error}"))));
            }
            written += count;
        }
        (written, None)
    }

    /// Appends whole lines, or nothing.
    fn append(&mut self, path: &Path, lines: &[u8]) -> io::Result<()> {
        let max_file = self.config.max_file.unwrap_or(u64::MAX);
        if self.open.len() >= MOST_OPEN && !self.open.contains_key(path) {
            self.open.clear();
        }
        let full = |open: &Open| open.octets > 0 && open.octets + lines.len() as u64 > max_file;
        let known = self.open.remove(path);
        let mut open = known.map_or_else(|| Open::last(path), Ok)?;
        let mut tries = 0;
        loop {
            tries += 1;
            if tries > lockfile::TRIES {
                return Err(lockfile::never_still());
            }
            lockfile::acquire(&open.file)?;
            if !lockfile::is_at(&open.file, &open.path) {
                // Somebody moved it away, as programs do that rotate logs, or put it there anew without calls that are deleted.
                open = Open::last(path)?;
            } else if full(&open) {
                open = Open::numbered(path, open.number + 1)?;
            } else {
                break;
            }
        }
        let written = open.file.write_all(lines);
        if written.is_err() {
            // Half a line is taken back.
            let _ = open.file.set_len(open.octets);
        }
        lockfile::release(&open.file);
        written?;
        open.octets += lines.len() as u64;
        self.open.insert(path.to_owned(), open);
        Ok(())
    }
}

impl Open {
    /// The last of the files of that path.
    fn last(path: &Path) -> io::Result<Self> {
        let mut number = 0;
        while numbered(path, number + 1).exists() {
            number += 1;
        }
        Self::numbered(path, number)
    }

    fn numbered(path: &Path, number: u32) -> io::Result<Self> {
        let path = numbered(path, number);
        if let Some(folder) = path.parent() {
            make_dir(folder)?;
        }
        let mut file = private().read(true).append(true).create(true).open(&path)?;
        let mut octets = file.seek(SeekFrom::End(0))?;
        if octets > 0 {
            // A line that was cut off by the end of a process is ended, so that the next one stands alone.
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                octets += 1;
            }
        }
        Ok(Self { file, path, octets, number })
    }
}

/// `x.jsonl`, `x.1.jsonl`, `x.2.jsonl` ...
fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let text = |part: Option<&std::ffi::OsStr>| {
        part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let stem = text(path.file_stem());
    match path.extension() {
        Some(extension) => {
            path.with_file_name(format!("{stem}.{number}.{}", text(Some(extension))))
        }
        None => path.with_file_name(format!("{stem}.{number}")),
    }
}

/// How files are opened that hold what people say: for nobody else's eyes.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes a folder and those above it, for nobody else's eyes.
pub(super) fn make_dir(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests;
