//! The workers of a module: modules that dial in, of which each session gets the least busy one. Speaks to no call, and runs no
//! session itself.

mod control;
mod door;
mod idle;
mod state;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringback_proto::provider::Secret;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::shutdown::Shutdown;
use crate::telemetry::METRICS;
pub use door::Rosters;
pub(super) use state::Line;
use state::State;

/// A worker that says it is busy, and not for how long, is asked again after this, and at the latest after [`MAX_BUSY`].
const BUSY: Duration = Duration::from_millis(500);
const MAX_BUSY: Duration = Duration::from_secs(10);

/// Who may dial in as a worker of a module, and how many.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RosterConfig {
    /// Bearer tokens by name. Without any, everybody on this machine may.
    pub tokens: Vec<(String, Secret)>,
    /// Workers at a time.
    pub max_workers: usize,
    /// Sessions that wait for a worker at a time.
    pub max_waiting: usize,
}

/// The workers of one module.
pub(crate) struct Roster {
    /// Of the module.
    name: String,
    shutdown: Shutdown,
    state: Mutex<State>,
}

/// Why a session got no worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoWorker {
    /// As many sessions wait as may.
    TooMany(usize),
    /// Nobody had a place in time; so many workers are here.
    Late(usize),
}

impl fmt::Display for NoWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany(most) => write!(
                f,
                "no worker has a place, and {most} sessions wait for one already (`max_waiting`)"
            ),
            Self::Late(0) => f.write_str("no worker has dialled in"),
            Self::Late(1) => f.write_str("its one worker has no place"),
            Self::Late(workers) => write!(f, "none of its {workers} workers has a place"),
        }
    }
}

/// A place with a worker, taken until this is dropped.
pub(super) struct Lease {
    roster: Arc<Roster>,
    worker: u64,
    name: Arc<str>,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("worker", &self.name).finish_non_exhaustive()
    }
}

/// A session waits as long as this lives.
struct Waits;

impl Waits {
    fn begin() -> Self {
        METRICS.worker_sessions_waiting.increment();
        Self
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        METRICS.worker_sessions_waiting.decrement();
    }
}

impl Roster {
    fn new(name: String, shutdown: Shutdown) -> Arc<Self> {
        Arc::new(Self { name, shutdown, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What a thread left behind that panicked is counts, at worst off by one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place with the worker that is least busy, once there is one: first come, first served.
    pub(super) async fn place(self: &Arc<Self>, deadline: Instant) -> Result<Lease, NoWorker> {
        let mut granted = {
            let mut state = self.state();
            state.waiting.retain(|waiting| !waiting.is_closed());
            if state.waiting.is_empty()
                && let Some((worker, name)) = state.take_place(Instant::now())
            {
                return Ok(self.lease(worker, name));
            }
            let most = state.config.max_waiting;
            if state.waiting.len() >= most {
                METRICS.worker_sessions_refused.increment();
                return Err(NoWorker::TooMany(most));
            }
            let (sender, granted) = oneshot::channel();
            state.waiting.push_back(sender);
            granted
        };
        let _waits = Waits::begin();
        loop {
            let chance = self.state().next_chance(Instant::now());
            let wake = chance.map_or(deadline, |at| at.min(deadline));
            tokio::select! {
                biased;
                lease = &mut granted => match lease {
                    Ok(lease) => return Ok(lease),
                    Err(_) => break,
                },
                () = sleep_until(wake) => {
                    if Instant::now() >= deadline {
                        break;
                    }
                    self.settle();
                }
            }
        }
        METRICS.worker_sessions_unserved.increment();
        Err(NoWorker::Late(self.state().workers.len()))
    }

    fn lease(self: &Arc<Self>, worker: u64, name: Arc<str>) -> Lease {
        METRICS.worker_sessions.increment();
        Lease { roster: Arc::clone(self), worker, name }
    }

    /// Gives places that are free to those who wait.
    fn settle(self: &Arc<Self>) {
        let mut granted = Vec::new();
        {
            let mut state = self.state();
            state.waiting.retain(|waiting| !waiting.is_closed());
            while !state.waiting.is_empty()
                && let Some((worker, name)) = state.take_place(Instant::now())
                && let Some(waiting) = state.waiting.pop_front()
            {
                granted.push((waiting, self.lease(worker, name)));
            }
        }
        // Unlocked: one that nobody takes gives its place back.
        for (waiting, lease) in granted {
            drop(waiting.send(lease));
        }
    }

    /// Something about a worker is another: its connections and those who wait are looked after.
    fn stir(self: &Arc<Self>, worker: u64) {
        self.state().top_up(worker, Instant::now());
        self.settle();
    }
}

impl Lease {
    /// What the log calls the worker.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A connection to it; nothing if none comes before `deadline`.
    pub(super) async fn line(&self, deadline: Instant) -> Option<Line> {
        loop {
            let (handover, line) = oneshot::channel();
            if !self.roster.state().want_line(self.worker, handover, Instant::now()) {
                return None;
            }
            match timeout_at(deadline, line).await {
                Ok(Ok(line)) => return Some(line),
                // It was cut just when it was taken, or its worker left.
                Ok(Err(_)) => {}
                Err(_elapsed) => return None,
            }
        }
    }

    /// Whether another worker could take the session.
    pub(super) fn has_other(&self) -> bool {
        self.roster.state().has_other(self.worker, Instant::now())
    }

    /// It said that it is busy.
    pub(super) fn refused(&self, retry_after: Option<Duration>) {
        METRICS.worker_sessions_passed_on.increment();
        let until = Instant::now() + retry_after.unwrap_or(BUSY).clamp(BUSY / 10, MAX_BUSY);
        self.roster.state().refused(self.worker, until);
    }

    /// It did not take the session up, or broke: others come first for a while.
    pub(super) fn let_down(&self) {
        self.roster.state().let_down(self.worker, Instant::now());
    }

    /// The same, and the session goes to another.
    pub(super) fn passed_on(&self) {
        METRICS.worker_sessions_passed_on.increment();
        self.let_down();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        METRICS.worker_sessions.decrement();
        self.roster.state().give_back(self.worker);
        self.roster.stir(self.worker);
    }
}
