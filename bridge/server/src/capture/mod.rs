//! Captures: redacted transcripts of the wires of real calls, one file for each. Off, it is not there: a call that is captured has
//! another protocol around its own, and a call that is not has none.
//!
//! A call never waits for its capture. It copies its messages into a bounded queue, and a thread of its own redacts and writes
//! them; what does not fit is counted, in the figures and in the file.

mod budget;
mod erase;
mod file;
mod tape;
mod writer;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ringback_proto::Instant;
use ringback_proto::provider::{Options, Provider, Upgrade};
use ringback_proto::redaction::{Facts, Sound};
use ringback_proto::transcript::{Direction, Wire};

use tokio::sync::oneshot;

use crate::clock::WallTime;
use crate::overload::Overload;
use crate::socket::wire::Kind;
use budget::Budget;

pub use erase::erase;
pub use tape::{Captured, Tape};

/// Messages that may wait to be written.
const QUEUE: usize = 8 * 1024;
/// Octets of them.
const QUEUE_OCTETS: usize = 32 * 1024 * 1024;

/// What is captured, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureOptions {
    /// Folder of the files; there is one in it for each provider.
    pub dir: PathBuf,
    /// What becomes of the sound.
    pub sound: Sound,
    /// Octets of a file; what would come behind is left out.
    pub max_file: u64,
    /// Octets of all files of the folder, older ones included. Once reached, no more is captured: nothing is ever deleted.
    pub max_total: u64,
    /// Files in the folder.
    pub max_files: usize,
}

/// Captures cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot capture into {}: {reason}", dir.display())]
pub struct CaptureError {
    /// Where to.
    pub dir: PathBuf,
    /// Why not.
    pub reason: io::Error,
}

/// Where calls are captured. Cheap to copy.
#[derive(Clone)]
pub struct Capture {
    inner: Arc<Inner>,
}

struct Inner {
    queue: SyncSender<Item>,
    /// Octets in the queue.
    octets: Arc<Budget>,
    tapes: AtomicU64,
    /// Says when there is no time for captures.
    overload: OnceLock<Overload>,
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture").finish_non_exhaustive()
    }
}

/// What the two ends of a queue know of one capture.
#[derive(Debug, Default)]
struct State {
    id: u64,
    /// Messages that did not fit and were not yet told.
    missing: AtomicU64,
    /// No more is wanted.
    off: AtomicBool,
    /// The call is over, and there was no room to say so.
    ended: AtomicBool,
    /// The call that the stream goes on with, if it is not its own: to be told in the file.
    goes_on_with: OnceLock<String>,
}

/// How a note begins of a stream that goes on with a call which has another capture; that call's name follows.
const GOES_ON_WITH: &str = "this stream goes on with the call ";

/// Something to write.
struct Item {
    state: Arc<State>,
    /// Since the stream began.
    at: Instant,
    /// Messages that are missing before it.
    missing: u64,
    what: What,
}

enum What {
    Begun(Box<Opening>),
    Said {
        direction: Direction,
        kind: Kind,
        octets: Vec<u8>,
        facts: Facts,
    },
    /// Whatever else is a line of a transcript.
    Happened {
        direction: Direction,
        wire: Wire,
        facts: Facts,
    },
    Ended,
}

impl Item {
    fn octets(&self) -> usize {
        match &self.what {
            What::Said { octets, .. } => octets.len(),
            What::Happened { wire: Wire::On(_, text), .. } => text.len(),
            What::Happened { wire: Wire::Lost(_, text) | Wire::Dial(_, text), .. } => text.len(),
            _ => 0,
        }
    }
}

/// How a stream began. Never printed: credentials are in it.
pub struct Opening {
    provider: &'static dyn Provider,
    listener: String,
    /// Path of the listener.
    path: String,
    options: Options,
    target: String,
    headers: Vec<(String, String)>,
    /// The subprotocol that the provider took.
    subprotocol: Option<String>,
    /// The bridge's name for the call.
    call: String,
    began: String,
}

impl Opening {
    /// Of a stream at a listener of `path`. `subprotocol` is the one the provider took, and no credential.
    #[must_use]
    pub fn new(
        provider: &'static dyn Provider,
        listener: &str,
        path: &str,
        options: &Options,
        upgrade: &Upgrade<'_>,
        subprotocol: Option<&str>,
    ) -> Self {
        let text = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            provider,
            listener: listener.to_owned(),
            path: path.to_owned(),
            options: options.clone(),
            target: upgrade.target.to_owned(),
            headers: upgrade.headers.iter().map(text).collect(),
            subprotocol: subprotocol.map(str::to_owned),
            call: String::new(),
            began: WallTime::now().to_string(),
        }
    }
}

impl Capture {
    /// Starts to write captures into a folder, which is made if it is not there.
    ///
    /// # Errors
    /// If nothing can be written there.
    pub fn start(options: CaptureOptions) -> Result<(Self, Finish), CaptureError> {
        let dir = options.dir.clone();
        Self::open(options).map_err(|reason| CaptureError { dir, reason })
    }

    fn open(options: CaptureOptions) -> io::Result<(Self, Finish)> {
        file::make_dir(&options.dir)?;
        try_out(&options.dir)?;
        let held = file::Held::count(&options.dir)?;
        let (queue, items) = sync_channel(QUEUE);
        let (over, finished) = oneshot::channel();
        let octets = Arc::new(Budget::new(QUEUE_OCTETS));
        let taken = Arc::clone(&octets);
        std::thread::Builder::new().name("capture".into()).spawn(move || {
            writer::run(&options, held, &items, &taken);
            // Nobody may be waiting any more.
            let _ = over.send(());
        })?;
        let inner =
            Arc::new(Inner { queue, octets, tapes: AtomicU64::new(0), overload: OnceLock::new() });
        Ok((Self { inner }, Finish { finished }))
    }

    /// The same, leaving out what is said while `overload` has no time for it.
    #[must_use]
    pub fn yielding_to(self, overload: Overload) -> Self {
        // Whom it yields to already, it goes on to yield to.
        let _ = self.inner.overload.set(overload);
        self
    }

    /// A tape for the call of that name, whose stream begins at `now`.
    #[must_use]
    pub fn tape(&self, now: Instant, call: &str, opening: Opening) -> Tape {
        let id = self.inner.tapes.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(State { id, ..State::default() });
        let opening = Opening { call: call.to_owned(), ..opening };
        Tape::new(Arc::clone(&self.inner), state, now, opening)
    }
}

impl Inner {
    /// Queues something, unless there is no room.
    fn send(&self, item: Item) -> bool {
        let octets = item.octets();
        if !self.octets.take(octets) {
            return false;
        }
        let sent = self.queue.try_send(item).is_ok();
        if !sent {
            self.octets.give_back(octets);
        }
        sent
    }
}

/// The end of all captures, to wait for once the last call is over.
#[derive(Debug)]
pub struct Finish {
    finished: oneshot::Receiver<()>,
}

impl Finish {
    /// Waits until everything is written, but no longer than `patience`: says whether it was. There must be no [`Capture`] left.
    pub async fn wait(self, patience: Duration) -> bool {
        // A thread that is gone without a word has nothing left to write either.
        tokio::time::timeout(patience, self.finished).await.is_ok()
    }
}

/// Writes a file and takes it away again.
fn try_out(dir: &Path) -> io::Result<()> {
    let probe = dir.join(format!(".ringback-{}", std::process::id()));
    file::create(&probe)?;
    std::fs::remove_file(&probe)
}

#[cfg(test)]
mod tests;
