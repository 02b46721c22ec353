//! Who looks on as calls go by: logs, counters, the demo's screen. Looks only; changes nothing.

use std::sync::Arc;

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
}

/// Looks on. Called in the call's task: must not block.
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
