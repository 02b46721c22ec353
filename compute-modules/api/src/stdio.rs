//! Makes a child process of any [`Module`]: reads stdin, writes stdout, one thread a session. Blocking; knows no async runtime.
//!
//! A module is a library plus a `main.rs` of one call to [`run`]. Whatever a module wants to print must go to stderr, which the
//! bridge keeps as log lines; stdout belongs to the contract.

mod session;

use std::collections::HashMap;
use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use session::{Session, Work};

use crate::message::{
    AcceptOut, ErrorReport, FromModule, Kind, Limits, Register, Reject, ToModule,
};
use crate::wire::{self, AudioHeader, FrameKind, FrameReader, WireError};
use crate::{Module, VERSION};

/// Frames a session may be behind before the process stops reading: about 10 s of one track. Pings wait behind what is not
/// read, so a module that is stuck for longer than that is found dead by the bridge.
const QUEUE: usize = 512;
/// Sessions one process takes: each has a thread.
const MAX_SESSIONS: u32 = 64;
/// Slot of the process itself.
const PROCESS: u16 = 0;

/// Why a module process ended before its stdin did.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StdioError {
    /// Stdin could not be read.
    #[error("reading from the bridge: {0}")]
    Read(#[source] std::io::Error),
    /// Stdout could not be written.
    #[error("writing to the bridge: {0}")]
    Write(#[source] std::io::Error),
    /// Stdin does not carry `ringback.v1`.
    #[error("the bridge does not speak ringback.v1 on stdin: {0}")]
    Wire(#[from] WireError),
}

/// Runs a module named `name` on stdin and stdout until the bridge closes stdin. `make` is called once per session and should
/// be quick; what takes long (loading a model) belongs into [`Module::start`], which has its own thread.
pub fn run(name: &str, make: impl FnMut() -> Box<dyn Module>) -> ExitCode {
    let register = Register {
        module: name.to_owned(),
        v: vec![VERSION],
        kinds: vec![Kind::Tap, Kind::Agent],
        max_sessions: MAX_SESSIONS,
        ..Register::default()
    };
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprintln!(
            "{name} is a Ringback module: it speaks {} over stdin and stdout and is started by the bridge, \
             as `command` of a module in ringback.toml",
            crate::CONTRACT
        );
        return ExitCode::from(64);
    }
    match serve(&register, stdin.lock(), std::io::stdout(), make) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What [`run`] does, over any pair of streams: says `register`, then serves sessions until `input` ends and waits up to 3 s for
/// those still open to say their last words.
///
/// # Errors
/// [`StdioError`] if a stream breaks or `input` is not `ringback.v1`.
pub fn serve<W: Write + Send + 'static>(
    register: &Register,
    mut input: impl Read,
    output: W,
    make: impl FnMut() -> Box<dyn Module>,
) -> Result<(), StdioError> {
    let (alive, ended) = channel();
    let mut server = Server {
        out: Output::new(output),
        make,
        max_sessions: register.max_sessions.max(1) as usize,
        sessions: HashMap::new(),
        alive,
    };
    let served = server
        .out
        .message(PROCESS, &FromModule::Register(register.clone()))
        .and_then(|()| server.read(&mut input));
    drop(server);
    wait_for_sessions(&ended);
    served
}

/// Returns when every session thread dropped its sender, or when their time is up.
fn wait_for_sessions(ended: &Receiver<()>) {
    let deadline = Duration::from_millis(Limits::default().stop_ms);
    if ended.recv_timeout(deadline) == Err(RecvTimeoutError::Timeout) {
        eprintln!(
            "sessions still busy {} ms after the bridge closed stdin; leaving",
            deadline.as_millis()
        );
    }
}

/// The reading half: hands each frame to its session and answers pings itself, so that a busy module is not taken for a dead one.
struct Server<W, F> {
    out: Output<W>,
    make: F,
    max_sessions: usize,
    sessions: HashMap<u16, Handle>,
    /// Cloned into each session's thread; never sent on.
    alive: Sender<()>,
}

struct Handle {
    work: SyncSender<Work>,
    over: Arc<AtomicBool>,
}

impl<W, F> Server<W, F>
where
    W: Write + Send + 'static,
    F: FnMut() -> Box<dyn Module>,
{
    fn read(&mut self, input: &mut impl Read) -> Result<(), StdioError> {
        let mut frames = FrameReader::new();
        let mut piece = vec![0; 16 * 1024];
        loop {
            let len = match input.read(&mut piece) {
                Ok(0) => return frames.finish().map_err(StdioError::from),
                Ok(len) => len,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(StdioError::Read(error)),
            };
            frames.push(&piece[..len]);
            while let Some(frame) = frames.next_frame()? {
                match frame.kind {
                    FrameKind::Json => self.message(frame.slot, frame.body)?,
                    FrameKind::Audio => self.pass(frame.slot, Work::Audio(frame.body.to_vec()))?,
                }
            }
        }
    }

    fn message(&mut self, slot: u16, body: &[u8]) -> Result<(), StdioError> {
        let message = match serde_json::from_slice(body) {
            Ok(message) => message,
            Err(error) => return self.unreadable(slot, body, &error),
        };
        match message {
            ToModule::Ping { t } => self.out.message(slot, &FromModule::Pong { t }),
            ToModule::Start(start) if slot != PROCESS => match self.may_start(slot) {
                Ok(()) => {
                    self.start(slot, *start);
                    Ok(())
                }
                Err(reject) => self.out.message(slot, &FromModule::Reject(reject)),
            },
            ToModule::Stop { reason, .. } => self.pass(slot, Work::Stop(reason)),
            ToModule::Unknown => Ok(()),
            message => self.pass(slot, Work::Message(message)),
        }
    }

    /// A message of a known type that does not parse is named and skipped; the bridge must not wait for `ready` though.
    fn unreadable(
        &self,
        slot: u16,
        body: &[u8],
        error: &serde_json::Error,
    ) -> Result<(), StdioError> {
        #[derive(serde::Deserialize)]
        struct Type<'a> {
            r#type: &'a str,
        }
        let message = format!("message not understood: {error}");
        let is_start = serde_json::from_slice::<Type<'_>>(body).is_ok_and(|t| t.r#type == "start");
        let answer = if is_start {
            FromModule::Reject(Reject { code: "bad_message".into(), message, ..Reject::default() })
        } else {
            let code = "bad_message".into();
            FromModule::Error(ErrorReport { code, message, ..ErrorReport::default() })
        };
        self.out.message(slot, &answer)
    }

    fn may_start(&mut self, slot: u16) -> Result<(), Reject> {
        self.sessions.retain(|_, handle| !handle.over.load(Ordering::Acquire));
        if self.sessions.contains_key(&slot) {
            let message = format!("slot {slot} has a session already; stop it first");
            return Err(Reject { code: "busy".into(), message, ..Reject::default() });
        }
        if self.sessions.len() >= self.max_sessions {
            let message = format!("{} sessions are all this process takes", self.max_sessions);
            return Err(Reject {
                code: "busy".into(),
                retryable: true,
                message,
                ..Reject::default()
            });
        }
        Ok(())
    }

    fn start(&mut self, slot: u16, start: crate::message::Start) {
        let (work, todo) = sync_channel(QUEUE);
        let over = Arc::new(AtomicBool::new(false));
        let session = Session::new(slot, (self.make)(), self.out.clone(), Arc::clone(&over));
        let alive = self.alive.clone();
        std::thread::spawn(move || {
            session.run(&start, &todo);
            drop(alive);
        });
        self.sessions.insert(slot, Handle { work, over });
    }

    /// Blocks while the session is [`QUEUE`] frames behind.
    fn pass(&mut self, slot: u16, work: Work) -> Result<(), StdioError> {
        let is_stop = matches!(work, Work::Stop(_));
        let passed = match self.sessions.get(&slot) {
            Some(handle) if !handle.over.load(Ordering::Acquire) => handle.work.send(work).is_ok(),
            _ => false,
        };
        if !passed {
            self.sessions.remove(&slot);
            if is_stop {
                return self.out.message(slot, &FromModule::Done { stats: serde_json::Map::new() });
            }
        }
        Ok(())
    }
}

/// Stdout, shared by the reader and all sessions; each frame is written whole and flushed.
struct Output<W> {
    shared: Arc<Mutex<(W, Vec<u8>)>>,
}

impl<W> Clone for Output<W> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<W: Write> Output<W> {
    fn new(output: W) -> Self {
        Self { shared: Arc::new(Mutex::new((output, Vec::new()))) }
    }

    fn message(&self, slot: u16, message: &impl Serialize) -> Result<(), StdioError> {
        self.write(|frame| wire::write_json(slot, message, frame))
    }

    fn audio(
        &self,
        slot: u16,
        header: Option<&AudioHeader>,
        format: &AcceptOut,
        samples: &[i16],
    ) -> Result<(), StdioError> {
        self.write(|frame| wire::write_audio(slot, header, format.encoding, samples, frame))
    }

    fn write(
        &self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
    ) -> Result<(), StdioError> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let (output, frame) = &mut *shared;
        frame.clear();
        encode(frame)?;
        output.write_all(frame).and_then(|()| output.flush()).map_err(StdioError::Write)
    }
}

#[cfg(test)]
mod tests;
