//! Who looks on as calls go by: logs, counters, the demo's screen. Looks only; changes nothing.

use std::sync::Arc;

use ringback_module::message::Event;
use ringback_proto::Instant;
use ringback_proto::session::{Report, Session, Summary};

use crate::socket::SocketError;

/// Something seen on a call.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Seen<'a> {
    /// The session reports.
    Report {
        /// What.
        report: &'a Report,
        /// On which session, for names of modules.
        session: &'a Session,
    },
    /// The socket failed.
    SocketFailed(&'a SocketError),
    /// The call is over.
    Ended(&'a Summary),
    /// A recording is finished that the call did not wait for; it may be over by then.
    Late(&'a Late),
}

/// What is said of a call by a module that it has let go of.
#[derive(Debug, Clone)]
pub struct Late {
    /// Name of the call's provider.
    pub provider: &'static str,
    /// The provider's name for the call.
    pub provider_call: Option<String>,
    /// Whose call it is.
    pub tenant: Option<Arc<str>>,
    /// Which route it took.
    pub route: Option<String>,
    /// Who says it.
    pub module: String,
    /// What.
    pub event: Event,
}

/// Looks on. Called in the call's task, and by a module's thread for what comes [late](Seen::Late): must not block, and needs no runtime.
pub trait Watch: Send + Sync {
    /// Something happened on `call` at `now`.
    fn see(&self, call: &str, now: Instant, seen: &Seen<'_>);
}

/// Everybody who looks on.
#[derive(Clone, Default)]
pub struct Watchers(Vec<Arc<dyn Watch>>);

impl Watchers {
    /// Nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more.
    #[must_use]
    pub fn with(mut self, watch: Arc<dyn Watch>) -> Self {
        self.0.push(watch);
        self
    }

    pub(crate) fn see(&self, call: &str, now: Instant, seen: &Seen<'_>) {
        for watch in &self.0 {
            watch.see(call, now, seen);
        }
    }
}
