//! A module that dialled in: a session gets a place with one of its workers and a connection that the worker opened. Who the workers
//! are is known in `roster`; what is said on the connection is in `over_socket.rs`.

use std::sync::Arc;
use std::time::Duration;

use ringback_module::message::Start;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::over_socket::{Held, hold};
use super::restart::{Ground, called_off, shortened, supervise};
use super::roster::{Lease, Line, Roster};
use super::talk::{End, Failure};
use super::{FromHost, Hosted, Inbox, seat};

/// A module whose workers dial in.
#[derive(Clone)]
pub struct WorkerSpec {
    /// Name of the module, for the log.
    pub(crate) name: String,
    /// Its workers.
    pub(crate) roster: Arc<Roster>,
}

/// Gives a session to one of the module's workers: the least busy one, now or as soon as there is one with a place. Must be called
/// within a runtime.
///
/// Deadlines and credit are those of `start`; waiting counts towards `ready_ms`, and when that is over with nobody there, so is the
/// session. A worker that is busy is passed over, and so is one that is not ready in half the time that is left, if there is another.
/// One that breaks later is replaced: 100 ms later, then twice as long each time up to 5 s, up to a quarter less by chance; ten
/// times a minute at most.
#[must_use]
pub fn spawn_worker(spec: WorkerSpec, start: Start) -> Hosted {
    let (hosted, seat) = seat();
    tokio::spawn(supervise(spec, start, seat));
    hosted
}

/// Workers that a session is offered to before it makes a pause.
const TRIES: usize = 16;

/// What came of a session with one worker.
enum Tried {
    Over(End),
    /// Another may do better; why not this one.
    PassedOn(String),
}

impl Ground for WorkerSpec {
    /// As many as of servers that are dialled: workers are replaced as they are.
    const MOST: usize = 10;
    const AGAIN: &str = "given to a worker again";

    fn name(&self) -> &str {
        &self.name
    }

    fn pause(&self, pause: Duration) -> Duration {
        shortened(pause)
    }

    async fn run(&self, start: &Start, to: &mut Inbox, from: &mpsc::Sender<FromHost>) -> End {
        let deadline = Instant::now() + Duration::from_millis(start.limits.ready_ms);
        let mut last = String::new();
        for _ in 0..TRIES {
            let place = tokio::select! {
                place = self.roster.place(deadline) => place,
                end = called_off(to) => return end,
            };
            let lease = match place {
                Ok(lease) => lease,
                Err(none) => return End::Over(Some(format!("{none}{last}"))),
            };
            match self.try_with(&lease, start, deadline, to, from).await {
                Tried::Over(end) => return end,
                Tried::PassedOn(reason) => {
                    let worker = lease.name();
                    tracing::debug!(module = %self.name, worker, reason, "passed on");
                    last = format!("; the last that was asked, {worker}: {reason}");
                }
            }
        }
        End::failed(format!("{TRIES} workers did not take it up{last}"))
    }
}

impl WorkerSpec {
    async fn try_with(
        &self,
        lease: &Lease,
        start: &Start,
        deadline: Instant,
        to: &mut Inbox,
        from: &mpsc::Sender<FromHost>,
    ) -> Tried {
        let left = deadline.saturating_duration_since(Instant::now());
        let is_only = !lease.has_other();
        let limit = if is_only { left } else { left / 2 };
        let until = Instant::now() + limit;
        let line = tokio::select! {
            // Half the time even if nobody else is there: somebody may come meanwhile.
            line = lease.line(Instant::now() + left / 2) => line,
            end = called_off(to) => return Tried::Over(end),
        };
        let Some(Line { socket, in_use }) = line else {
            lease.passed_on();
            return Tried::PassedOn("opened no connection in time".into());
        };
        let left = until.saturating_duration_since(Instant::now());
        let mut start = start.clone();
        start.limits.ready_ms = left.as_millis() as u64;
        let Held { end, was_ready } = hold(&self.name, &start, left, socket, to, from).await;
        drop(in_use);
        match end {
            End::Rejected(reject) if reject.retryable => {
                lease.refused(reject.retry_after_ms.map(Duration::from_millis));
                Tried::PassedOn(format!("{}: {}", reject.code, reject.message))
            }
            End::Failed(failure) if !was_ready && !is_only && Instant::now() < deadline => {
                lease.passed_on();
                Tried::PassedOn(failure.reason)
            }
            End::Failed(failure) => {
                lease.let_down();
                let reason = at(lease, &failure.reason);
                Tried::Over(End::Failed(Failure { reason, ..failure }))
            }
            End::Over(Some(reason)) => Tried::Over(End::Over(Some(at(lease, &reason)))),
            end => Tried::Over(end),
        }
    }
}

/// Says who it was.
fn at(lease: &Lease, reason: &str) -> String {
    format!("worker {}: {reason}", lease.name())
}
