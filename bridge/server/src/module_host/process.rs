//! One run of a child process, from spawn to its end: a reader, a writer and a watchdog over its pipes. Starts nothing again.

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use ringback_module::message::{Ready, Reject, Start, ToModule};
use ringback_module::wire;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::feed::{Fed, Feed};
use super::flood::SoundBucket;
use super::listen::Listener;
use super::stderr::{LastLine, log_lines};
use super::{ChildSpec, FromHost, Inbox, ToHost};
use crate::clock::Clock;

/// The one session a process gets; slot 0 is the process itself.
pub(super) const SLOT: u16 = 1;
/// The watchdog looks this many times within the deadline, so it is late by an eighth of it at most.
const LOOKS: u32 = 8;
/// A process whose streams ended has so long to exit before it is killed.
const GRACE: Duration = Duration::from_secs(1);

/// Why a run ended.
#[derive(Debug)]
pub(super) enum End {
    /// The session is over; with a reason if it was not said to be by `done`.
    Over(Option<String>),
    /// The module said no.
    Rejected(Reject),
    /// The process died or must; another may do better.
    Failed(String),
    /// Nobody listens any more.
    Abandoned,
}

/// What reader, writer and watchdog know of each other.
pub(super) struct Process<'a> {
    pub(super) spec: &'a ChildSpec,
    pub(super) start: &'a Start,
    pub(super) from: &'a mpsc::Sender<FromHost>,
    pub(super) clock: Clock,
    pub(super) ready: OnceLock<Ready>,
    pub(super) sound: Mutex<Option<SoundBucket>>,
    /// A sign of life since the watchdog last looked.
    alive: AtomicBool,
    /// It is the call that lets the process wait.
    pub(super) held_up: AtomicBool,
    stopping: AtomicBool,
}

impl<'a> Process<'a> {
    /// Starts the process and its session and serves both until either ends.
    pub(super) async fn run(
        spec: &'a ChildSpec,
        start: &'a Start,
        to: &mut Inbox,
        from: &'a mpsc::Sender<FromHost>,
    ) -> End {
        let mut child = match spawn(spec) {
            Ok(child) => child,
            Err(end) => return end,
        };
        let last_line = LastLine::default();
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return End::Over(Some("the process has no streams; a fault of the bridge".into()));
        };
        let log = tokio::spawn(log_lines(spec.name.clone(), stderr, last_line.clone()));
        let process = Self {
            spec,
            start,
            from,
            clock: Clock::start(),
            ready: OnceLock::new(),
            sound: Mutex::new(None),
            alive: AtomicBool::new(true),
            held_up: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        };
        let end = process.serve(stdin, stdout, to).await;
        match end {
            Outcome::End(End::Failed(reason)) => {
                let _ = child.start_kill();
                process.failed(reason)
            }
            Outcome::End(end) => {
                let name = spec.name.clone();
                tokio::spawn(async move { leave(&name, child).await });
                end
            }
            Outcome::Exited => {
                let status = leave(&spec.name, child).await;
                // What it printed last often says why; a grandchild may keep stderr open, so do not wait for ever.
                let _ = timeout(GRACE, log).await;
                let quote = last_line.quote().map(|line| format!(": {line}")).unwrap_or_default();
                process.failed(format!("{status}{quote}"))
            }
        }
    }

    /// A session that was to end anyway is not worth another process.
    fn failed(&self, reason: String) -> End {
        if self.stopping.load(Ordering::Relaxed) {
            End::Over(Some(format!("{reason}, without `done`")))
        } else {
            End::Failed(reason)
        }
    }

    /// All streams are closed when this returns.
    async fn serve(&self, stdin: ChildStdin, stdout: ChildStdout, to: &mut Inbox) -> Outcome {
        // Unbiased: whoever is always ready must not keep the others from their turn.
        tokio::select! {
            outcome = Listener::new(self, stdout).run() => outcome,
            end = self.write(stdin, to) => Outcome::End(end),
            end = self.watch() => Outcome::End(end),
        }
    }

    pub(super) fn seen_alive(&self) {
        self.alive.store(true, Ordering::Relaxed);
    }

    /// Ends when the module did not get ready in time or gave no sign of life for too long.
    ///
    /// Looks are counted, not time: if the bridge itself stood still, that was one look, and no reason to kill anybody.
    async fn watch(&self) -> End {
        let limits = &self.start.limits;
        let mut looks =
            interval((Duration::from_millis(limits.dead_ms) / LOOKS).max(Duration::from_millis(1)));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let deadline = self.clock.now() + Duration::from_millis(limits.ready_ms);
        let mut silent = 0;
        loop {
            looks.tick().await;
            let alive = self.alive.swap(false, Ordering::Relaxed);
            if self.ready.get().is_none() {
                if self.clock.now() >= deadline {
                    return End::Failed(format!("not ready within {} ms", limits.ready_ms));
                }
                continue;
            }
            let excused =
                self.held_up.load(Ordering::Relaxed) || self.stopping.load(Ordering::Relaxed);
            silent = if alive || excused { 0 } else { silent + 1 };
            if silent >= LOOKS {
                return End::Failed(format!("no sign of life for {} ms", limits.dead_ms));
            }
        }
    }

    /// Sends the start, then what the call says, and pings in between.
    async fn write(&self, stdin: ChildStdin, to: &mut Inbox) -> End {
        let writer = Writer { process: self, stdin, feed: None, frames: Vec::new() };
        match writer.run(to).await {
            Ok(end) => end,
            // The reader will find out why.
            Err(Broken) => {
                tokio::time::sleep(GRACE).await;
                End::Failed("it closed its stdin".into())
            }
        }
    }
}

/// How serving ended.
pub(super) enum Outcome {
    End(End),
    /// The process closed its stdout; most likely it is no more.
    Exited,
}

/// The process does not read any more.
struct Broken;

struct Writer<'a> {
    process: &'a Process<'a>,
    stdin: ChildStdin,
    feed: Option<Feed>,
    frames: Vec<u8>,
}

impl Writer<'_> {
    async fn run(mut self, to: &mut Inbox) -> Result<End, Broken> {
        let process = self.process;
        self.message(SLOT, &ToModule::Start(Box::new(process.start.clone()))).await?;
        let mut pings = interval(Duration::from_millis(process.start.limits.ping_ms.max(1)));
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut t = 0;
        loop {
            let item = tokio::select! {
                biased;
                _ = pings.tick() => {
                    self.message(0, &ToModule::Ping { t }).await?;
                    t += 1;
                    continue;
                }
                item = to.recv() => item,
            };
            match item {
                None => return Ok(End::Abandoned),
                Some(ToHost::Audio { track, pts, flags, samples, .. }) => {
                    self.audio(track, pts, flags, &samples).await?;
                }
                Some(ToHost::Message(message)) => {
                    self.account(&message);
                    self.message(SLOT, &message).await?;
                }
                Some(ToHost::Stop { reason, deadline }) => {
                    process.stopping.store(true, Ordering::Relaxed);
                    let deadline_ms = deadline.as_millis() as u64;
                    let stop = ToModule::Stop { reason, deadline_ms };
                    let stopped = timeout(deadline, async {
                        self.message(SLOT, &stop).await?;
                        // The reader hears `done`.
                        pending::<Result<(), Broken>>().await
                    });
                    if let Ok(Err(broken)) = stopped.await {
                        return Err(broken);
                    }
                    return Ok(End::Over(Some(format!("no `done` within {deadline_ms} ms"))));
                }
                // Only a process that died is started again, and this one did not.
                Some(ToHost::Start(_)) => {}
            }
        }
    }

    /// Keeps the credit of a module right.
    fn account(&self, message: &ToModule) {
        let mut sound = self.process.sound.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sound) = &mut *sound {
            match message {
                ToModule::Cleared(cleared) => sound.discarded(cleared.discarded_ms),
                ToModule::Credit { out_ms } => sound.set_room(*out_ms),
                _ => {}
            }
        }
    }

    async fn message(&mut self, slot: u16, message: &ToModule) -> Result<(), Broken> {
        self.frames.clear();
        if let Err(error) = wire::write_json(slot, message, &mut self.frames) {
            // A transcript of another module, say, beyond what one message holds.
            tracing::warn!(module = %self.process.spec.name, "message not sent: {error}");
            return Ok(());
        }
        self.flush().await
    }

    async fn audio(
        &mut self,
        track: u16,
        pts: u64,
        flags: ringback_module::FrameFlags,
        samples: &[i16],
    ) -> Result<(), Broken> {
        if self.feed.is_none() {
            let ready = self.process.ready.get();
            self.feed = ready.and_then(|ready| Feed::new(SLOT, self.process.start, ready));
        }
        loop {
            let Some(feed) = &mut self.feed else { return Ok(()) };
            self.frames.clear();
            let fed = feed.audio(track, pts, flags, samples, &mut self.frames);
            self.flush().await?;
            match fed {
                Ok(Fed::Again) => {}
                Ok(Fed::All) => return Ok(()),
                Err(error) => {
                    tracing::warn!(module = %self.process.spec.name, "sound not sent: {error}");
                    return Ok(());
                }
            }
        }
    }

    /// A pipe that was full and then took more was read from: a sign of life. One that had room proves nothing.
    async fn flush(&mut self) -> Result<(), Broken> {
        let mut write = pin!(self.stdin.write_all(&self.frames));
        let written = match poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await {
            Poll::Ready(written) => written,
            Poll::Pending => {
                let written = write.await;
                self.process.seen_alive();
                written
            }
        };
        written.map_err(|_| Broken)
    }
}

fn spawn(spec: &ChildSpec) -> Result<Child, End> {
    let Some((program, arguments)) = spec.command.split_first() else {
        return Err(End::Over(Some("its command is empty; name a program".into())));
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Tells an SDK that standard output is the contract's from the first octet, imports included.
        .env("RINGBACK_STDIO", "1")
        .kill_on_drop(true);
    // Ctrl-C at a terminal goes to the whole group; the bridge drains then, and needs its modules for that.
    #[cfg(unix)]
    command.process_group(0);
    command.spawn().map_err(|error| {
        let reason = format!("cannot start {program}: {error}");
        match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => {
                End::Over(Some(reason))
            }
            _ => End::Failed(reason),
        }
    })
}

/// Sees a process out whose streams are closed, and says how it went.
async fn leave(name: &str, mut child: Child) -> String {
    match timeout(GRACE, child.wait()).await {
        Ok(Ok(status)) => exit_text(status),
        Ok(Err(error)) => format!("its end is not known: {error}"),
        Err(_) => {
            tracing::warn!(module = name, "still running after its session; killed");
            let _ = child.kill().await;
            "it closed its stdout and stayed".to_owned()
        }
    }
}

fn exit_text(status: std::process::ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("killed by signal {signal}");
    }
    match status.code() {
        Some(code) => format!("exited with status {code}"),
        None => "exited".to_owned(),
    }
}
