//! One session with a module, whatever carries it: what is said to it, and the watch over its deadlines. Opens and closes nothing.

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use ringback_module::message::{Ready, Reject, Start, ToModule};
use ringback_module::wire::{self, FrameKind};
use ringback_proto::Instant;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::feed::{Fed, Feed};
use super::flood::SoundBucket;
use super::{FromHost, Inbox, ToHost};
use crate::clock::Clock;

/// The session of what carries but one; slot 0 is what carries it.
const SLOT: u16 = 1;
/// The watchdog looks this many times within the deadline. The sign of life before the first look that finds none may be as old as a look
/// is long, so one look less is the deadline: it is early by a sixteenth of it at most, and late by nothing.
pub(super) const LOOKS: u32 = 16;
/// What a connection is closed with when the module did not keep to the contract.
pub(super) const BREACH: u16 = 4002;
/// What it is closed with when a deadline passed.
pub(super) const LATE: u16 = 4008;
/// What it is closed with when a message was lost on the way.
#[cfg(feature = "nats")]
pub(super) const LOST: u16 = 4009;
/// A module whose streams ended has so long to say why before it is cut off.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// Why a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// The session is over; with a reason if it was not said to be by `done`.
    Over(Option<String>),
    /// The module said no.
    Rejected(Reject),
    /// The module died or must; another may do better.
    Failed(Failure),
    /// Nobody listens any more.
    Abandoned,
}

impl End {
    pub(super) fn failed(reason: impl Into<String>) -> Self {
        Self::Failed(Failure::from(reason.into()))
    }

    /// A module that says no for now may say yes the next time.
    pub(super) fn unless_retryable(self) -> Self {
        match self {
            Self::Rejected(reject) if reject.retryable => Self::Failed(Failure {
                not_before: Duration::from_millis(reject.retry_after_ms.unwrap_or(0)),
                busy: true,
                ..Failure::from(format!("{}: {}", reject.code, reject.message))
            }),
            end => end,
        }
    }

    fn late(reason: String) -> Self {
        Self::Failed(Failure { code: LATE, ..Failure::from(reason) })
    }
}

/// What a module comes to that has not answered in time.
pub(super) fn not_ready(start: &Start) -> End {
    End::late(format!("not ready within {} ms", start.limits.ready_ms))
}

/// What went wrong with a module that may be started again.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reason: String,
    /// What a connection to it is closed with, if there is one.
    pub(super) code: u16,
    /// It asked to be left alone for so long.
    pub(super) not_before: Duration,
    /// It has too much to do, and nothing is wrong with it.
    pub(super) busy: bool,
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self { reason, code: BREACH, not_before: Duration::ZERO, busy: false }
    }
}

/// What carries frames to a module.
pub(super) trait Carry {
    /// What is said of a module that takes no more frames and does not end either.
    const BROKEN: &'static str;
    /// Whether frames of others go the same way: that one had to wait says nothing of the module then.
    const SHARED: bool = false;

    /// Whether a ping is due where one is due every so often; another session may have asked already.
    fn is_ping_due(&self, every: Duration) -> bool {
        let _ = every;
        true
    }

    /// Writes one frame of this kind, as it goes over stdio.
    fn write(
        &mut self,
        kind: FrameKind,
        frame: &[u8],
    ) -> impl Future<Output = Result<(), Broken>> + Send;
}

/// The module does not read any more.
pub(super) struct Broken;

/// Signs of life of what several sessions are on.
#[derive(Debug, Default)]
pub(super) struct Pulse(AtomicU64);

impl Pulse {
    pub(super) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it beat since `last`, which is brought up to date.
    pub(super) fn has_moved(&self, last: &mut u64) -> bool {
        let beats = self.0.load(Ordering::Relaxed);
        std::mem::replace(last, beats) != beats
    }
}

/// What reader, writer and watchdog know of each other.
pub(super) struct Talk<'a> {
    /// Of the module.
    pub(super) name: &'a str,
    pub(super) start: &'a Start,
    pub(super) from: &'a mpsc::Sender<FromHost>,
    /// Its frames say so.
    pub(super) slot: u16,
    /// Of what it shares with others.
    pulse: Option<&'a Pulse>,
    pub(super) clock: Clock,
    /// When it has to be ready.
    due: Instant,
    pub(super) ready: OnceLock<Ready>,
    pub(super) sound: Mutex<Option<SoundBucket>>,
    /// A sign of life since the watchdog last looked.
    alive: AtomicBool,
    /// It is the call that lets the module wait.
    pub(super) held_up: AtomicBool,
    stopping: AtomicBool,
}

impl<'a> Talk<'a> {
    /// A session that begins now.
    pub(super) fn new(name: &'a str, start: &'a Start, from: &'a mpsc::Sender<FromHost>) -> Self {
        Self::with_left(name, start, from, Duration::from_millis(start.limits.ready_ms))
    }

    /// The same, of whose `ready_ms` only so much is left.
    pub(super) fn with_left(
        name: &'a str,
        start: &'a Start,
        from: &'a mpsc::Sender<FromHost>,
        left: Duration,
    ) -> Self {
        let clock = Clock::start();
        Self {
            name,
            start,
            from,
            slot: SLOT,
            pulse: None,
            clock,
            due: clock.now() + left,
            ready: OnceLock::new(),
            sound: Mutex::new(None),
            alive: AtomicBool::new(true),
            held_up: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    /// The same in a slot of what it shares with others, of which any sign of life is one of its own.
    pub(super) fn sharing(self, slot: u16, pulse: &'a Pulse) -> Self {
        Self { slot, pulse: Some(pulse), ..self }
    }

    /// A session that was to end anyway is not worth another start.
    pub(super) fn failed(&self, failure: Failure) -> End {
        if self.is_stopping() {
            End::Over(Some(format!("{}, without `done`", failure.reason)))
        } else {
            End::Failed(failure)
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub(super) fn seen_alive(&self) {
        self.alive.store(true, Ordering::Relaxed);
    }

    /// Ends when the module did not get ready in time or gave no sign of life for too long.
    ///
    /// Looks are counted, not time: if the bridge itself stood still, that was one look, and no reason to kill anybody.
    pub(super) async fn watch(&self) -> End {
        let limits = &self.start.limits;
        let mut looks =
            interval((Duration::from_millis(limits.dead_ms) / LOOKS).max(Duration::from_millis(1)));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut silent, mut beats) = (0, 0);
        loop {
            looks.tick().await;
            let mut alive = self.alive.swap(false, Ordering::Relaxed);
            alive |= self.pulse.is_some_and(|pulse| pulse.has_moved(&mut beats));
            if self.ready.get().is_none() {
                if self.clock.now() >= self.due {
                    return not_ready(self.start);
                }
                continue;
            }
            let excused = self.held_up.load(Ordering::Relaxed) || self.is_stopping();
            silent = if alive || excused { 0 } else { silent + 1 };
            if silent >= LOOKS - 1 {
                return End::late(format!("no sign of life for {} ms", limits.dead_ms));
            }
        }
    }

    /// Sends the start, then what the call says, and pings in between.
    pub(super) async fn write<C: Carry>(&self, carry: C, to: &mut Inbox) -> End {
        let writer = Writer { talk: self, carry, feed: None, frame: Vec::new() };
        match writer.run(to).await {
            Ok(end) => end,
            // The reader will find out why.
            Err(Broken) => {
                tokio::time::sleep(GRACE).await;
                End::failed(C::BROKEN)
            }
        }
    }

    /// Keeps the credit of a module right.
    fn account(&self, message: &ToModule) {
        let mut sound = self.sound.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sound) = &mut *sound {
            match message {
                ToModule::Cleared(cleared) => sound.discarded(cleared.discarded_ms),
                ToModule::Credit { out_ms } => sound.set_room(*out_ms),
                _ => {}
            }
        }
    }
}

struct Writer<'a, C> {
    talk: &'a Talk<'a>,
    carry: C,
    feed: Option<Feed>,
    /// The one being written.
    frame: Vec<u8>,
}

impl<C: Carry> Writer<'_, C> {
    async fn run(mut self, to: &mut Inbox) -> Result<End, Broken> {
        let talk = self.talk;
        self.message(talk.slot, &ToModule::Start(Box::new(talk.start.clone()))).await?;
        let every = Duration::from_millis(talk.start.limits.ping_ms.max(1));
        let mut pings = interval(every);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut t = 0;
        loop {
            let item = tokio::select! {
                biased;
                _ = pings.tick() => {
                    if self.carry.is_ping_due(every) {
                        self.message(0, &ToModule::Ping { t }).await?;
                        t += 1;
                    }
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
                    talk.account(&message);
                    self.message(talk.slot, &message).await?;
                }
                Some(ToHost::Stop { reason, deadline }) => {
                    talk.stopping.store(true, Ordering::Relaxed);
                    let deadline_ms = deadline.as_millis() as u64;
                    let stop = ToModule::Stop { reason, deadline_ms };
                    let stopped = timeout(deadline, async {
                        self.message(talk.slot, &stop).await?;
                        // The reader hears `done`.
                        pending::<Result<(), Broken>>().await
                    });
                    if let Ok(Err(broken)) = stopped.await {
                        return Err(broken);
                    }
                    return Ok(End::Over(Some(format!("no `done` within {deadline_ms} ms"))));
                }
                // Only a module that died is started again, and this one did not.
                Some(ToHost::Start(_)) => {}
            }
        }
    }

    async fn message(&mut self, slot: u16, message: &ToModule) -> Result<(), Broken> {
        self.frame.clear();
        if let Err(error) = wire::write_json(slot, message, &mut self.frame) {
            // A transcript of another module, say, beyond what one message holds.
            tracing::warn!(module = %self.talk.name, "message not sent: {error}");
            return Ok(());
        }
        self.flush(FrameKind::Json).await
    }

    async fn audio(
        &mut self,
        track: u16,
        pts: u64,
        flags: ringback_module::FrameFlags,
        samples: &[i16],
    ) -> Result<(), Broken> {
        if self.feed.is_none() {
            let ready = self.talk.ready.get();
            self.feed = ready.and_then(|ready| Feed::new(self.talk.slot, self.talk.start, ready));
        }
        loop {
            let Some(feed) = &mut self.feed else { return Ok(()) };
            self.frame.clear();
            let fed = feed.audio(track, pts, flags, samples, &mut self.frame);
            self.flush(FrameKind::Audio).await?;
            match fed {
                Ok(Fed::Again) => {}
                Ok(Fed::All) => return Ok(()),
                Err(error) => {
                    tracing::warn!(module = %self.talk.name, "sound not sent: {error}");
                    return Ok(());
                }
            }
        }
    }

    /// What was full and then took more was read from: a sign of life. What had room proves nothing.
    async fn flush(&mut self, kind: FrameKind) -> Result<(), Broken> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let mut write = pin!(self.carry.write(kind, &self.frame));
        match poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await {
            Poll::Ready(written) => written,
            Poll::Pending => {
                let written = write.await;
                if !C::SHARED {
                    self.talk.seen_alive();
                }
                written
            }
        }
    }
}
