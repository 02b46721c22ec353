//! A module as child processes of the bridge: what is to be started, and for whom. What one process says and hears is in
//! `process.rs`, who gets which in `pool.rs`, one session on it in `session.rs`.

mod launch;
mod pool;
mod process;
mod session;
mod slots;
mod watch;

use std::num::NonZeroU16;
use std::path::PathBuf;

use ringback_module::message::Start;

use super::restart::supervise;
use super::{Hosted, seat};
#[cfg(feature = "functions")]
pub(super) use launch::how as exit_text;
pub use launch::{Launch, Limits};
pub use pool::ChildPool;
pub(crate) use pool::ChildPools;
use session::Guest;
#[cfg(test)]
pub(crate) use watch::Watch;
pub(crate) use watch::watch as watch_files;

/// How child processes of a module are started, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildSpec {
    /// Name of the module, for the log.
    pub name: String,
    /// Program and arguments. It gets no descriptor of the bridge's but its three streams.
    pub command: Vec<String>,
    /// What it finds around it.
    pub launch: Launch,
    /// Folders whose files matter to it beside those of its command, where changes are taken up.
    pub watch: Vec<PathBuf>,
    /// Processes started ahead of calls.
    pub warm: usize,
    /// Sessions that may share a process, if it registers for so many; `None` leaves it to the module.
    pub sessions: Option<NonZeroU16>,
    /// Processes at a time; a session that finds them all taken waits until it had to be ready.
    pub max_processes: usize,
}

impl ChildSpec {
    /// None is started ahead, with what is usual of the bridge's surroundings and no limits, and there may be as many as are wanted.
    #[must_use]
    pub fn new(name: impl Into<String>, command: Vec<String>) -> Self {
        let (name, max_processes) = (name.into(), usize::MAX);
        let launch = Launch::default();
        Self { name, command, launch, watch: Vec::new(), warm: 0, sessions: None, max_processes }
    }
}

/// Starts a session of a module in a child process that speaks `ringback.v1` over its stdin and stdout: one of `pool` that has
/// room, or a new one. Must be called within a runtime.
///
/// Deadlines and credit are those of `start`. A process that exits, hangs, or breaks the contract is killed; its sessions begin
/// again, unless they are being stopped, in another one: 100 ms later, then twice as long each time up to 5 s, five times a minute
/// at most.
#[must_use]
pub fn spawn_child(pool: &std::sync::Arc<ChildPool>, start: Start) -> Hosted {
    let (hosted, seat) = seat();
    tokio::spawn(supervise(Guest::of(pool), start, seat));
    hosted
}
