//! Modules that do not run in the call's own task: behind bounded queues, on a thread, in a process of their own or at the
//! other end of a connection. Knows nothing of calls, and keeps no sound: what is replayed after a crash comes from the call's ring.

mod bot;
mod child;
mod close;
mod feed;
mod flood;
#[cfg_attr(not(feature = "functions"), path = "no_function.rs")]
mod function;
mod listen;
#[cfg(feature = "nats")]
mod nats;
mod over_socket;
mod restart;
mod roster;
mod stderr;
mod surroundings;
mod talk;
mod thread;
mod waiting;
mod websocket;
mod worker;

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use ringback_module::FrameFlags;
use ringback_module::message::{FromModule, Ready, Reject, Start, StopReason, ToModule};
use ringback_proto::ledger::Drop;
use tokio::sync::{mpsc, oneshot};
use waiting::Waiting;

pub use bot::{BotSpec, spawn_bot};
#[cfg(test)]
pub(crate) use child::Watch;
pub use child::{ChildPool, ChildSpec, Launch, Limits, spawn_child};
pub(crate) use child::{ChildPools, watch_files};
pub use function::{FunctionPool, spawn_function};
#[cfg(feature = "nats")]
pub use nats::{NatsSpec, spawn_nats};
#[cfg(feature = "nats")]
pub(crate) use nats::{
    flow::{Sent, Taken},
    head::Head,
};
pub(crate) use restart::shortened;
pub use roster::{RosterConfig, Rosters};
pub use surroundings::Surroundings;
pub use thread::spawn_thread;
pub use websocket::{WebSocketSpec, spawn_websocket};
pub use worker::{WorkerSpec, spawn_worker};

/// Items each way between call and host: about a second of one track.
const QUEUE: usize = 64;

/// What the call tells a hosted module.
#[derive(Debug, Clone, PartialEq)]
pub enum ToHost {
    /// Begin again, in answer to [`FromHost::NeedStart`]; carries `resume`. The first start is given at spawn.
    Start(Box<Start>),
    /// Sound in the rate the module accepted.
    Audio {
        /// Which track.
        track: u16,
        /// Position of the first sample on the media clock, in samples.
        pts: u64,
        /// Samples per second.
        rate: u32,
        /// What is special about it.
        flags: FrameFlags,
        /// Mono.
        samples: Vec<i16>,
    },
    /// Anything else but `start`, `stop` and `ping`.
    Message(ToModule),
    /// Say your last words; answered by [`FromHost::Gone`].
    Stop {
        /// Why.
        reason: StopReason,
        /// The module is cut off after this.
        deadline: Duration,
    },
}

/// What a hosted module tells the call.
#[derive(Debug, Clone, PartialEq)]
pub enum FromHost {
    /// The offer was taken; sound may flow.
    Ready(Ready),
    /// The offer was not taken; nothing follows.
    Rejected(Reject),
    /// Anything the module says; `register`, `pong` and the two above are dealt with here.
    Message(FromModule),
    /// Sound to be played, at the rate of `accept.out`.
    Audio {
        /// The playback generation it is for. `None` is bare sound: good unless a clear came that was not answered with
        /// `audio.begin`, which comes as a message of its own.
        epoch: Option<u32>,
        /// Mono.
        samples: Vec<i16>,
    },
    /// The answer of a filter, at the rate of the track.
    Frame {
        /// Position of the first sample. `None` is bare sound, which goes on where the last ended.
        pts: Option<u64>,
        /// Mono.
        samples: Vec<i16>,
    },
    /// Sound of the module that is not let through: it sends more than its credit, or what it said waited for a call that wants it no
    /// more. Follows the sound before it.
    Dropped {
        /// Why.
        reason: Drop,
        /// How many, at the rate of `accept.out`.
        samples: u64,
    },
    /// The module died and is started again after a while; what was sent and not acknowledged is lost. Send nothing until
    /// [`FromHost::NeedStart`].
    Restarting {
        /// What happened.
        reason: String,
        /// The while.
        after: Duration,
        /// Whether it only has too much to do.
        busy: bool,
    },
    /// The module is about to be started again: send [`ToHost::Start`], with `resume`.
    NeedStart,
    /// [`Hosted::try_send`], which had given something back, works again. May come when that is known already.
    Writable,
    /// Nothing follows.
    Gone {
        /// What went wrong; `None` after `done`.
        reason: Option<String>,
    },
}

/// A module somewhere else, as the call holds it. Dropping it ends the module: its input is closed, a process that does not
/// leave within a second is killed, and a connection is closed.
#[derive(Debug)]
pub struct Hosted {
    /// `None` once it was left with the rest.
    to: Option<mpsc::Sender<ToHost>>,
    from: mpsc::Receiver<FromHost>,
    /// Takes what is left when its queue is full and its call over, if it is one that goes on without its call.
    rest: Option<oneshot::Sender<Vec<ToHost>>>,
    /// Who hears what it says when nobody else does, if it is such a one.
    heir: Option<Arc<Heir>>,
    /// Whether the call was refused and waits for [`FromHost::Writable`].
    waiting: Waiting,
    gone: bool,
}

/// Hears what a module says that its call has let go of, on that module's thread or in a task; nobody, if nobody is to.
#[derive(Default)]
struct Heir(OnceLock<Box<dyn Fn(FromModule) + Send + Sync>>);

impl Heir {
    /// Hears it; gives it back if there is nobody to hear it.
    fn hear(&self, said: FromHost) -> Option<FromHost> {
        let Some(hear) = self.0.get() else { return Some(said) };
        if let FromHost::Message(message) = said {
            hear(message);
        }
        None
    }
}

impl fmt::Debug for Heir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heir").finish_non_exhaustive()
    }
}

impl Hosted {
    /// Hands over an item; never waits. To a module that is gone (the call will hear or has heard so) this does nothing.
    ///
    /// # Errors
    /// Gives the item back if the queue is full: keep it and all that follow, and wait for [`FromHost::Writable`].
    #[allow(clippy::result_large_err, reason = "it is no error but the item on its way back")]
    pub fn try_send(&self, item: ToHost) -> Result<(), ToHost> {
        let Some(to) = &self.to else { return Ok(()) };
        self.waiting.hand_over(item, |item| match to.try_send(item) {
            Err(mpsc::error::TrySendError::Full(item)) => Err(item),
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        })
    }

    /// Whether it is one that goes on when its call is over, as only a thread does.
    #[must_use]
    pub const fn goes_on(&self) -> bool {
        self.heir.is_some()
    }

    /// Whether [`Self::leave`] does anything.
    #[must_use]
    pub fn can_be_left(&self) -> bool {
        self.rest.is_some()
    }

    /// Leaves it with all that is left, whatever room its queue has: it is given that behind what it has, [`ToHost::Stop`] included, and
    /// nothing follows. What it says until then is heard as before; dropped, it keeps what it was left with.
    pub fn leave(&mut self, rest: Vec<ToHost>) {
        if let Some(to) = self.rest.take() {
            // A thread that is gone needs none of it.
            let _ = to.send(rest);
            self.to = None;
        }
    }

    /// Drops it; of one that goes on without its call, `hear` is told what it says from now on, and what it said that was not received
    /// yet. Must be called within a runtime.
    pub fn bequeath(self, hear: impl Fn(FromModule) + Send + Sync + 'static) {
        let Self { mut from, heir: Some(heir), .. } = self else { return };
        // Nobody else sets it.
        let _ = heir.0.set(Box::new(hear));
        // From here on it is refused, and tells the heir itself.
        from.close();
        tokio::spawn(async move {
            while let Some(said) = from.recv().await {
                // It hears: it was told whom to tell.
                drop(heir.hear(said));
            }
        });
    }

    /// The next thing the module has to say. After [`FromHost::Gone`] and [`FromHost::Rejected`] it never returns. Cancel safe.
    pub async fn recv(&mut self) -> FromHost {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// [`Self::recv`] for a caller that polls several.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<FromHost> {
        if self.gone {
            return Poll::Pending;
        }
        self.from.poll_recv(cx).map(|event| {
            let event = event.unwrap_or_else(|| FromHost::Gone {
                reason: Some("its host ended without a word; this is a fault of the bridge".into()),
            });
            self.gone = matches!(event, FromHost::Gone { .. } | FromHost::Rejected(_));
            event
        })
    }
}

/// The host's end of a [`Hosted`].
struct Seat {
    to: Inbox,
    from: mpsc::Sender<FromHost>,
}

/// What the call sends, as the host takes it.
struct Inbox {
    items: mpsc::Receiver<ToHost>,
    events: mpsc::Sender<FromHost>,
    waiting: Waiting,
}

impl Inbox {
    /// The next item, or `None` once the call dropped its end. Cancel safe.
    async fn recv(&mut self) -> Option<ToHost> {
        let item = self.items.recv().await;
        self.call_back();
        item
    }

    /// [`Self::recv`] for a thread.
    fn blocking_recv(&mut self) -> Option<ToHost> {
        let item = self.items.blocking_recv();
        self.call_back();
        item
    }

    /// Tells a call that was refused that there is room, once half the queue is free. If the call has a full queue of events
    /// to read, it is told later.
    fn call_back(&self) {
        if self.items.len() <= QUEUE / 2 {
            self.waiting.call_back(|| self.events.try_send(FromHost::Writable).is_ok());
        }
    }
}

fn seat() -> (Hosted, Seat) {
    let (to, items) = mpsc::channel(QUEUE);
    let (events, from) = mpsc::channel(QUEUE);
    let waiting = Waiting::default();
    let inbox = Inbox { items, events: events.clone(), waiting: waiting.clone() };
    let hosted = Hosted { to: Some(to), from, rest: None, heir: None, waiting, gone: false };
    (hosted, Seat { to: inbox, from: events })
}

#[cfg(test)]
mod tests;
