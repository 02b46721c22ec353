//! A module as a child process of the bridge. What one process says and hears is in `process.rs`, how it is started again in
//! `restart.rs`.

use std::time::Duration;

use ringback_module::message::Start;
use tokio::sync::mpsc;

use super::restart::{Ground, supervise};
use super::talk::End;
use super::{FromHost, Hosted, Inbox, process, seat};

/// How to start a child process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildSpec {
    /// Name of the module, for the log.
    pub name: String,
    /// Program and arguments. It gets the bridge's environment and directory, and no descriptor but its three streams.
    pub command: Vec<String>,
}

impl Ground for ChildSpec {
    const MOST: usize = 5;
    const AGAIN: &str = "started again";

    fn name(&self) -> &str {
        &self.name
    }

    fn pause(&self, pause: Duration) -> Duration {
        pause
    }

    async fn run(&self, start: &Start, to: &mut Inbox, from: &mpsc::Sender<FromHost>) -> End {
        process::run(self, start, to, from).await
    }
}

/// Starts a module as a child process that speaks `ringback.v1` over its stdin and stdout. Must be called within a runtime.
///
/// Deadlines and credit are those of `start`. A process that exits, hangs, or breaks the contract is killed and, unless the
/// session is being stopped, started again: 100 ms later, then twice as long each time up to 5 s, five times a minute at most.
#[must_use]
pub fn spawn_child(spec: ChildSpec, start: Start) -> Hosted {
    let (hosted, seat) = seat();
    tokio::spawn(supervise(spec, start, seat));
    hosted
}
