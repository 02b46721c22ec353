//! One child process, from spawn to its end: the contract over its standard streams, for as many sessions as are on it. Starts
//! nothing again, and does not choose whose sessions it gets.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use ringback_module::message::{FromModule, Limits, StopReason, ToModule};
use ringback_module::wire::{self, Frame, FrameKind, FrameReader};
use ringback_proto::Instant;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::ChildSpec;
use super::launch::{exit_text, spawn};
use super::pool::ChildPool;
use super::slots::{Ear, Heard, Left, Said, Slots};
use crate::clock::Clock;
use crate::module_host::listen;
use crate::module_host::stderr::{LastLine, log_lines};
use crate::module_host::talk::{Broken, End, GRACE, LOOKS, Pulse};
use crate::telemetry::{METRICS, Metric, ModuleLine};

/// Octets read at once.
const PIECE: usize = 16 * 1024;
/// One session that does not listen keeps the others of its process waiting for so long, and then hears no more.
const HOLD_UP: Duration = Duration::from_millis(100);
/// A process that was started ahead has so long to register: models are large.
const REGISTER: Duration = Duration::from_secs(120);

/// Why a process is no more.
#[derive(Debug, Clone)]
pub(super) struct Death {
    pub(super) reason: String,
    /// Another one would do no better.
    pub(super) is_final: bool,
}

impl Death {
    fn of(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_final: false }
    }
}

/// What a process is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Standing {
    Starting = 1,
    Idle = 2,
    Busy = 3,
}

impl Standing {
    fn gauge(standing: u8) -> Option<&'static Metric> {
        match standing {
            1 => Some(&METRICS.processes_starting),
            2 => Some(&METRICS.processes_idle),
            3 => Some(&METRICS.processes_busy),
            _ => None,
        }
    }
}

/// A running process.
pub(super) struct Process {
    spec: Arc<ChildSpec>,
    is_ahead: bool,
    clock: Clock,
    began: Instant,
    pub(super) pulse: Pulse,
    /// Milliseconds after the clock's epoch; the next is not due before.
    pinged: AtomicU64,
    slots: Mutex<Slots>,
    stdin: tokio::sync::Mutex<Stdin>,
    death: OnceLock<Death>,
    killed: CancellationToken,
    closed: CancellationToken,
    standing: AtomicU8,
}

impl Process {
    /// Starts it, ahead of calls or for one. It ends by itself when it is closed or killed.
    pub(super) fn start(
        spec: &Arc<ChildSpec>,
        pool: Weak<ChildPool>,
        is_ahead: bool,
    ) -> Result<Arc<Self>, End> {
        let mut child = spawn(spec)?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(End::Over(Some(
                "the process has no streams; a fault of the bridge".into(),
            )));
        };
        let clock = Clock::start();
        let process = Arc::new(Self {
            spec: Arc::clone(spec),
            is_ahead,
            clock,
            began: clock.now(),
            pulse: Pulse::default(),
            pinged: AtomicU64::new(0),
            slots: Mutex::default(),
            stdin: tokio::sync::Mutex::new(Stdin { pipe: Some(stdin), ..Stdin::default() }),
            death: OnceLock::new(),
            killed: CancellationToken::new(),
            closed: CancellationToken::new(),
            standing: AtomicU8::new(0),
        });
        METRICS.processes_started.increment();
        process.count();
        tokio::spawn(Arc::clone(&process).live(child, stdout, stderr, pool));
        Ok(process)
    }

    pub(super) fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place in it for one more session.
    pub(super) fn take(&self) -> (u16, Ear) {
        let place = self.slots().take();
        self.count();
        place
    }

    /// A session leaves its slot.
    pub(super) fn leave(&self, slot: u16, left: Left) {
        self.slots().leave(slot, left);
        self.count();
    }

    /// Whether it was started ahead and has not registered: a call that comes too early does not end it.
    pub(super) fn is_loading(&self) -> bool {
        self.is_ahead && self.slots().takes.is_none()
    }

    /// Why it is no more, if so.
    pub(super) fn death(&self) -> Option<&Death> {
        self.death.get()
    }

    /// It has to end now, and with it all sessions on it.
    pub(super) fn kill(&self, reason: impl Into<String>) {
        let _ = self.death.set(Death::of(reason));
        self.killed.cancel();
    }

    /// Nobody needs it any more: its input ends, and it has a second to go.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    /// Writes a frame, in turn with others. What was begun and given up half-way is written to its end before the next.
    pub(super) async fn write(&self, frame: &[u8]) -> Result<(), Broken> {
        let mut stdin = self.stdin.lock().await;
        stdin.flush(&self.pulse).await?;
        stdin.rest.extend_from_slice(frame);
        stdin.flush(&self.pulse).await
    }

    /// Says `stop` to a session that the bridge has let go of.
    pub(super) async fn stop(&self, slot: u16) {
        let deadline_ms = Limits::default().stop_ms;
        let stop = ToModule::Stop { reason: StopReason::Gone, deadline_ms };
        let mut frame = Vec::new();
        if wire::write_json(slot, &stop, &mut frame).is_ok() {
            // One that does not read is found by whoever is on it, or by its keeper.
            let _ = timeout(Duration::from_millis(deadline_ms), self.write(&frame)).await;
        }
    }

    /// Whether a ping is due where one is due every so often; the next who asks hears no.
    pub(super) fn is_ping_due(&self, every: Duration) -> bool {
        let now = self.clock.now().since_epoch().as_millis() as u64;
        let next = now + every.as_millis() as u64;
        // A little early is in time: whoever waits for it looks just as often.
        let due = |at: u64| now + every.as_millis() as u64 / 4 >= at;
        let asked = self
            .pinged
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| due(at).then_some(next));
        asked.is_ok()
    }

    /// Keeps the figures right.
    fn count(&self) {
        let slots = self.slots();
        let standing = match (slots.live(), slots.takes) {
            (0, None) => Standing::Starting,
            (0, Some(_)) => Standing::Idle,
            _ => Standing::Busy,
        };
        // With the slots locked: what was found a moment ago must not overwrite what somebody else has found since.
        self.count_as(standing as u8);
    }

    fn count_as(&self, standing: u8) {
        let was = self.standing.swap(standing, Ordering::Relaxed);
        if was != standing {
            Standing::gauge(standing).into_iter().for_each(Metric::increment);
            Standing::gauge(was).into_iter().for_each(Metric::decrement);
        }
    }

    async fn live(
        self: Arc<Self>,
        mut child: Child,
        stdout: ChildStdout,
        stderr: ChildStderr,
        pool: Weak<ChildPool>,
    ) {
        let last_line = LastLine::default();
        let log = tokio::spawn(log_lines(self.spec.name.clone(), stderr, last_line.clone()));
        // Unbiased: a process that always has something to say must not keep the others from their turn.
        let end = tokio::select! {
            end = self.read(stdout, &pool) => end,
            end = self.look_after() => Some(end),
            () = self.killed.cancelled() => Some(Death::of("killed")),
            () = self.overstays() => {
                tracing::warn!(module = self.spec.name, "still running after its sessions; killed");
                Some(Death::of("still running after its sessions"))
            }
        };
        let death = match end {
            Some(death) => {
                let _ = child.start_kill();
                let _ = self.death.set(death);
                None
            }
            None => Some(Box::pin(self.see_out(&mut child, log, &last_line)).await),
        };
        if let Some(death) = death {
            let _ = self.death.set(death);
        }
        self.slots().silence_all();
        self.count_as(0);
        if let Some(pool) = pool.upgrade() {
            pool.gone(&self);
        }
        // Seen out by whoever waits for it, which nobody else does.
        let _ = child.wait().await;
    }

    /// It closed its stdout: most likely it is no more. Says how it went.
    async fn see_out(
        &self,
        child: &mut Child,
        log: tokio::task::JoinHandle<()>,
        last_line: &LastLine,
    ) -> Death {
        // Whoever waits for something on its input waits in vain.
        self.close();
        let ended = timeout(GRACE, async {
            tokio::join!(child.wait(), async { self.stdin.lock().await.pipe = None }).0
        });
        let ended = ended.await;
        if ended.is_err() {
            let _ = child.start_kill();
        }
        // What it printed last often says why; a grandchild may keep stderr open, so do not wait for ever.
        let _ = timeout(GRACE, log).await;
        let line = last_line.quote();
        let quote = line.as_ref().map(|line| format!(": {line}")).unwrap_or_default();
        Death::of(match ended {
            Ok(Ok(status)) => exit_text(status, line.as_deref(), self.spec.launch.limits),
            Ok(Err(error)) => format!("its end is not known: {error}{quote}"),
            Err(_) => format!("it closed its stdout and stayed{quote}"),
        })
    }

    /// Returns when it should have gone after it was closed.
    async fn overstays(&self) {
        self.closed.cancelled().await;
        let closed = async {
            self.stdin.lock().await.pipe = None;
            std::future::pending::<()>().await;
        };
        let _ = timeout(GRACE, closed).await;
    }

    /// While nobody is on it, sees that it registers and stays alive; those who are on it see to that themselves.
    async fn look_after(&self) -> Death {
        let Limits { ping_ms, dead_ms, .. } = Limits::default();
        let mut looks = interval(Duration::from_millis(dead_ms) / LOOKS);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut silent, mut beats, mut t) = (0, 0, 0);
        loop {
            looks.tick().await;
            let (is_free, takes) = {
                let slots = self.slots();
                (slots.live() == 0, slots.takes)
            };
            let is_alive = self.pulse.has_moved(&mut beats);
            if !is_free || takes.is_none() {
                silent = 0;
                let late = self.clock.now().saturating_since(self.began) >= REGISTER;
                if is_free && late {
                    return Death::of(format!(
                        "said no `register` within {} s",
                        REGISTER.as_secs()
                    ));
                }
                continue;
            }
            silent = if is_alive { 0 } else { silent + 1 };
            if silent >= LOOKS - 1 {
                return Death::of(format!("no sign of life for {dead_ms} ms"));
            }
            if self.is_ping_due(Duration::from_millis(ping_ms)) {
                let mut frame = Vec::new();
                t += 1;
                if wire::write_json(0, &ToModule::Ping { t }, &mut frame).is_ok() {
                    let _ = timeout(looks.period(), self.write(&frame)).await;
                }
            }
        }
    }

    /// Hands what it says to its sessions; nothing at its end, unless that was its fault.
    async fn read(&self, mut stdout: ChildStdout, pool: &Weak<ChildPool>) -> Option<Death> {
        let mut frames = FrameReader::new();
        let mut piece = vec![0; PIECE];
        loop {
            let len = match stdout.read(&mut piece).await {
                Ok(0) => return None,
                Ok(len) => len,
                Err(error) => {
                    return Some(Death::of(format!("its stdout cannot be read: {error}")));
                }
            };
            self.pulse.beat();
            frames.push(&piece[..len]);
            loop {
                let passed = match frames.next_frame() {
                    Ok(Some(frame)) if frame.slot == 0 => self.hear(frame, pool),
                    Ok(Some(frame)) => self.pass_on(frame, pool).await,
                    Ok(None) => break,
                    Err(error) => Err(Death::of(format!("does not speak ringback.v1: {error}"))),
                };
                if let Err(death) = passed {
                    return Some(death);
                }
            }
        }
    }

    /// What it says for itself.
    fn hear(&self, frame: Frame<'_>, pool: &Weak<ChildPool>) -> Result<(), Death> {
        let Frame { kind: FrameKind::Json, body, .. } = frame else {
            return Err(Death::of("sent sound in slot 0, which is the process and no session"));
        };
        let name = self.spec.name.as_str();
        match serde_json::from_slice(body) {
            Ok(FromModule::Register(register)) => {
                if let Err(End::Over(Some(reason))) = listen::registered(&register) {
                    return Err(Death { reason, is_final: true });
                }
                let takes = self.slots().register(register.max_sessions);
                self.count();
                if let Some(pool) = pool.upgrade() {
                    pool.registered(self, takes);
                }
            }
            Ok(FromModule::Pong { .. } | FromModule::Metric(_) | FromModule::Unknown) => {}
            Ok(FromModule::Log(log)) => tracing::info!(module = name, "{}", ModuleLine(&log.msg)),
            Ok(FromModule::Error(error)) => {
                let reason = format!("{}: {}", error.code, error.message);
                if error.fatal {
                    return Err(Death { reason, is_final: true });
                }
                tracing::warn!(module = name, "{}", ModuleLine(&reason));
            }
            Ok(_) => {
                let what = listen::quote(body);
                return Err(Death::of(format!(
                    "said in slot 0, which is the process, what belongs into the slot of a session: {what}"
                )));
            }
            Err(error) => {
                let what = listen::quote(body);
                return Err(Death::of(format!("message not understood: {error}: {what}")));
            }
        }
        Ok(())
    }

    /// What it says in a session. One that is behind holds up the process if it is alone, as a full pipe would; if not, not for
    /// long.
    async fn pass_on(&self, frame: Frame<'_>, pool: &Weak<ChildPool>) -> Result<(), Death> {
        let heard = self.slots().heard(&frame).map_err(Death::of)?;
        let Frame { slot, kind, body } = frame;
        let voice = match heard {
            Heard::By(voice) => voice,
            Heard::ByNobody => return Ok(()),
            Heard::Last => {
                pool.upgrade().iter().for_each(|pool| pool.has_room());
                return Ok(());
            }
        };
        let said = Said { kind, body: body.to_vec() };
        let Err(said) = voice.try_say(said) else { return Ok(()) };
        let mut waits = pin!(voice.say(said));
        while timeout(HOLD_UP, waits.as_mut()).await.is_err() {
            let mut slots = self.slots();
            if voice.is_deaf() {
                slots.is_held = false;
                return Ok(());
            }
            if slots.live() > 1 {
                slots.silence(slot);
                return Ok(());
            }
            // Its session may leave; nobody else comes meanwhile.
            slots.is_held = slots.live() == 1;
            if !slots.is_held {
                return Ok(());
            }
        }
        self.slots().is_held = false;
        Ok(())
    }
}

/// The way to a process.
#[derive(Default)]
struct Stdin {
    pipe: Option<ChildStdin>,
    /// What has to be written before anything else.
    rest: Vec<u8>,
    written: usize,
}

impl Stdin {
    /// Cancel safe: what is left is written by whoever comes next.
    async fn flush(&mut self, pulse: &Pulse) -> Result<(), Broken> {
        let Some(pipe) = &mut self.pipe else { return Err(Broken) };
        while self.written < self.rest.len() {
            let mut write = pin!(pipe.write(&self.rest[self.written..]));
            let written = match poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await {
                Poll::Ready(written) => written,
                Poll::Pending => {
                    let written = write.await;
                    // What was full and then took more was read from. What had room proves nothing.
                    pulse.beat();
                    written
                }
            };
            match written {
                Ok(len @ 1..) => self.written += len,
                _ => {
                    self.pipe = None;
                    return Err(Broken);
                }
            }
        }
        self.rest.clear();
        self.written = 0;
        Ok(())
    }
}
