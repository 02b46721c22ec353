//! The operator's event stream: what happens on calls, as JSON objects to whoever listens. Looks on; no call waits for a listener.
//!
//! Every object is an envelope and what happened: `at` (wall clock, RFC 3339), `at_ms` (the call's media clock; of a key or of
//! speech, when it was, and of everything else, when the bridge learnt it), `call` (ours), `provider_call`, `provider`, `route`,
//! `module`, `type`, and then the fields of that type. Results have the types and fields of the module contract (`transcript`, `turn`,
//! `vad`, `dtmf`, `event`, `cleared`, `log`, `metric`, `error`); the bridge adds `call.started`, `call.ended`,
//! `call.detached`, `call.reattached`, `module.ready`, `module.failed`, `dropped` and `notice`. To a listener who is too slow,
//! `{"type":"lagged","missed":N}` stands for what it missed. Behind `call.ended` comes nothing but `event`s of the name
//! `recorder.finished`, of recordings that the call did not wait for.

mod follow;
mod kind;
mod line;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ringback_proto::Instant;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::call::{Seen, Watch};
use crate::clock::WallTime;
use crate::shutdown::Shutdown;

pub use follow::{FollowError, Follower};
pub use kind::{EventKind, EventSet};
pub(crate) use line::{Tag, json};
pub(crate) use stream::routes;

/// Events a listener may be behind; more and the oldest are lost to it.
pub const BACKLOG: usize = 1_024;

/// Something that happened, ready to be told.
#[derive(Debug, PartialEq, Eq)]
struct Happening {
    #[cfg_attr(not(feature = "nats"), allow(dead_code, reason = "told to NATS only"))]
    kind: &'static str,
    call: String,
    provider_call: Option<String>,
    /// Whose call it is.
    tenant: Option<Arc<str>>,
    json: String,
}

impl Happening {
    fn is_of(&self, call: &str) -> bool {
        self.call == call || self.provider_call.as_deref() == Some(call)
    }
}

/// What listeners are told of something seen on `call` now: the type of the event, and its JSON. `None` if it is none.
#[cfg(feature = "nats")]
pub(crate) fn told(call: &str, now: Instant, seen: &Seen<'_>) -> Option<(&'static str, String)> {
    line::happening(WallTime::now(), call, now, seen).map(|told| (told.kind, told.json))
}

/// Tells what happens on calls to its listeners; while there are none, it does nothing at all. Clones share listeners.
#[derive(Debug, Clone)]
pub struct Events {
    sender: broadcast::Sender<Arc<Happening>>,
    shutdown: Shutdown,
}

impl Events {
    /// Nobody listens yet. Subscriptions end when `shutdown` is finished.
    #[must_use]
    pub fn new(shutdown: Shutdown) -> Self {
        Self { sender: broadcast::Sender::new(BACKLOG), shutdown }
    }

    /// All that happens from now on; with `call`, only on the call of that name, ours or the provider's.
    #[must_use]
    pub fn subscribe(&self, call: Option<String>) -> Subscription {
        self.subscribe_as(call, None)
    }

    /// The same for `tenant`, who hears of its own calls alone; `None` is who hears of all.
    #[must_use]
    pub(crate) fn subscribe_as(
        &self,
        call: Option<String>,
        tenant: Option<Arc<str>>,
    ) -> Subscription {
        let (receiver, shutdown) = (self.sender.subscribe(), self.shutdown.clone());
        Subscription { receiver, shutdown, call, tenant }
    }
}

impl Watch for Events {
    fn see(&self, call: &str, now: Instant, seen: &Seen<'_>) {
        if self.sender.receiver_count() == 0 {
            return;
        }
        if let Some(happening) = line::happening(WallTime::now(), call, now, seen) {
            // An error says that the last listener just left.
            let _ = self.sender.send(Arc::new(happening));
        }
    }
}

/// One listener's view of [`Events`].
#[derive(Debug)]
pub struct Subscription {
    receiver: broadcast::Receiver<Arc<Happening>>,
    shutdown: Shutdown,
    call: Option<String>,
    /// Whose calls, if not all.
    tenant: Option<Arc<str>>,
}

impl Subscription {
    /// The next event, a JSON object in one line, or `None` once the server is finished and all was told. Cancel safe.
    ///
    /// A lag counts the events of all calls, whichever this listener asked for: which of them it missed nobody knows any more.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            let received = tokio::select! {
                biased;
                received = self.receiver.recv() => received,
                () = self.shutdown.finished() => return None,
            };
            match received {
                Ok(happening) => {
                    let is_own = self.tenant.is_none() || self.tenant == happening.tenant;
                    if is_own && self.call.as_ref().is_none_or(|call| happening.is_of(call)) {
                        return Some(happening.json.clone());
                    }
                }
                Err(RecvError::Lagged(missed)) => return Some(line::lagged(missed)),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}
