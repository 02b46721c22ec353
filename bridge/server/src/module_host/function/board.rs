//! The jobs of one module: which wait, which replica has which, and what became of them. Told the time; speaks to nobody.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ringback_proto::Instant;
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// Values of one result on their way to the call: beyond that, the function has to wait.
const QUEUE: usize = 8;
/// A job whose replica went away before it said anything is given to another, so often in all.
const ATTEMPTS: u32 = 2;

/// What jobs are held to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Jobs that may wait, over all calls.
    pub(super) max_queued: usize,
    /// Jobs a replica has at a time.
    pub(super) concurrency: usize,
    /// To the answer, or to the first value of a stream.
    pub(super) job_timeout: Duration,
    /// Between values of a stream.
    pub(super) idle_timeout: Duration,
    /// To come back from a job that was given up, before the replica is.
    pub(super) grace: Duration,
}

/// A job, as everybody who has to do with it sees it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) function: String,
    /// Whose it is, for logs.
    pub(super) call: String,
    /// A newer one may take its place while it waits.
    pub(super) is_partial: bool,
    /// What the function is asked, until a replica has it.
    query: Mutex<Value>,
    is_leased: AtomicBool,
    /// Its result comes piece by piece.
    is_streamed: AtomicBool,
    /// Nobody waits for the answer any more.
    abandoned: CancellationToken,
    outcome: OnceLock<Outcome>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    Failed(String),
    /// It was never done: for this reason.
    Dropped(&'static str),
}

impl Job {
    pub(super) fn new(
        id: String,
        function: String,
        call: String,
        query: Value,
        is_partial: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            function,
            call,
            is_partial,
            query: Mutex::new(query),
            is_leased: AtomicBool::new(false),
            is_streamed: AtomicBool::new(false),
            abandoned: CancellationToken::new(),
            outcome: OnceLock::new(),
        })
    }

    /// Whether a replica has or had it.
    pub(super) fn is_leased(&self) -> bool {
        self.is_leased.load(Ordering::Acquire)
    }

    /// Whether its result comes piece by piece; right for every value of it.
    pub(super) fn is_streamed(&self) -> bool {
        self.is_streamed.load(Ordering::Acquire)
    }

    pub(super) fn streams(&self) {
        self.is_streamed.store(true, Ordering::Release);
    }

    /// How it ended; known once its values are all taken.
    pub(super) fn outcome(&self) -> Outcome {
        let lost = || Outcome::Failed("it was lost; this is a fault of the bridge".into());
        self.outcome.get().cloned().unwrap_or_else(lost)
    }

    /// Waits until nobody waits for it.
    pub(super) async fn abandoned(&self) {
        self.abandoned.cancelled().await;
    }

    pub(super) fn query(&self) -> MutexGuard<'_, Value> {
        locked(&self.query)
    }

    fn end(&self, outcome: Outcome) {
        // The first word counts.
        let _ = self.outcome.set(outcome);
    }
}

/// Values of a job's result, as they come; ends when the job has.
pub(super) type Values = mpsc::Receiver<Value>;

/// All jobs of a module.
#[derive(Debug)]
pub(super) struct Board {
    bounds: Bounds,
    state: Mutex<State>,
    /// There is work, or a place to do it.
    pub(super) work: Notify,
    /// Deadlines or replicas changed.
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    open: BTreeMap<String, Lease>,
    replicas: Vec<Replica>,
}

#[derive(Debug)]
struct Waiting {
    job: Arc<Job>,
    values: mpsc::Sender<Value>,
    attempt: u32,
}

/// What is known of a replica.
#[derive(Debug, Default)]
struct Replica {
    has_polled: bool,
    schemas: Option<Vec<String>>,
    is_retired: bool,
    /// It was said to be unable to work for now.
    is_unwell: bool,
    /// Polls that wait for work.
    polls: usize,
}

#[derive(Debug)]
struct Lease {
    job: Arc<Job>,
    replica: usize,
    attempt: u32,
    phase: Phase,
    deadline: Instant,
}

#[derive(Debug)]
enum Phase {
    /// Nothing was said of it.
    Leased(mpsc::Sender<Value>),
    /// Values come, or came until the connection was cut.
    Streaming { values: mpsc::Sender<Value>, was_cut: bool, is_held_up: bool },
    /// Nobody waits for it; its place is taken all the same.
    Abandoned,
}

/// What to do with a result that comes in.
#[derive(Debug)]
pub(super) enum Post {
    /// Nobody asked for it, or not any more: take it and say nothing.
    Late,
    /// Of a job that nobody waits for any more.
    Abandoned,
    /// Pass it on.
    Wanted {
        job: Arc<Job>,
        values: mpsc::Sender<Value>,
        /// A stream before it was cut.
        was_cut: bool,
    },
}

/// What a deadline that passed comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wedged {
    pub(super) replica: usize,
    pub(super) job: String,
}

impl Board {
    /// For so many replicas.
    pub(super) fn new(bounds: Bounds, replicas: usize) -> Self {
        let replicas = (0..replicas).map(|_| Replica::default()).collect();
        Self {
            bounds,
            state: Mutex::new(State { replicas, ..State::default() }),
            work: Notify::new(),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Takes a job. If too many wait, the oldest guess of words makes room, or this is not taken.
    pub(super) fn submit(&self, job: Arc<Job>) -> Values {
        let (values, receiver) = mpsc::channel(QUEUE);
        let mut state = self.state();
        if state.waiting.len() >= self.bounds.max_queued {
            match state.waiting.iter().position(|waiting| waiting.job.is_partial) {
                Some(oldest) if !job.is_partial => {
                    let gone = state.waiting.remove(oldest);
                    gone.into_iter().for_each(|gone| gone.job.end(Outcome::Dropped("queue_full")));
                }
                _ => {
                    job.end(Outcome::Dropped("queue_full"));
                    return receiver;
                }
            }
        }
        state.waiting.push_back(Waiting { job, values, attempt: 1 });
        drop(state);
        self.work.notify_waiters();
        receiver
    }

    /// Asks something newer, if no replica has the job yet; says whether that was so.
    pub(super) fn ask_instead(&self, job: &Job, query: Value) -> bool {
        // Jobs are handed out under this lock.
        let state = self.state();
        let is_waiting =
            state.waiting.iter().any(|waiting| waiting.job.id == job.id) && !job.is_leased();
        if is_waiting {
            *job.query() = query;
        }
        is_waiting
    }

    /// Nobody waits for this job any more. One that waits is dropped for `reason`; the replica that has it learns as it can.
    pub(super) fn abandon(&self, now: Instant, job: &Job, reason: &'static str) {
        let mut state = self.state();
        if let Some(place) = state.waiting.iter().position(|waiting| waiting.job.id == job.id) {
            state.waiting.remove(place);
            job.end(Outcome::Dropped(reason));
        } else if let Some(lease) = state.open.get_mut(&job.id) {
            job.end(Outcome::Dropped(reason));
            lease.abandon(lease.deadline.max(now + self.bounds.idle_timeout));
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// A poll begins or ends to wait at this replica.
    pub(super) fn polling(self: &Arc<Self>, replica: usize) -> Polling {
        if let Some(replica) = self.state().replicas.get_mut(replica) {
            replica.polls += 1;
        }
        Polling { board: Arc::clone(self), replica }
    }

    /// A job for this replica, if it may have one and there is one.
    pub(super) fn lease(&self, now: Instant, replica: usize) -> Option<Arc<Job>> {
        let mut state = self.state();
        let open = state.open_at(replica);
        let has_room = open < self.bounds.concurrency && state.replicas.get(replica)?.may_work();
        if !has_room || state.waiting.is_empty() {
            return None;
        }
        // Whoever has less to do goes first; it was woken as well.
        let others = 0..state.replicas.len();
        let mut idler = others.filter(|&other| other != replica && state.replicas[other].polls > 0);
        if idler.any(|other| state.replicas[other].may_work() && state.open_at(other) < open) {
            return None;
        }
        let Waiting { job, values, attempt } = state.waiting.pop_front()?;
        job.is_leased.store(true, Ordering::Release);
        let deadline = now + self.bounds.job_timeout;
        let lease = Lease {
            job: Arc::clone(&job),
            replica,
            attempt,
            phase: Phase::Leased(values),
            deadline,
        };
        state.open.insert(job.id.clone(), lease);
        drop(state);
        self.changed.notify_waiters();
        Some(job)
    }

    /// A result begins to come in from this replica.
    pub(super) fn posted(&self, replica: usize, id: &str) -> Post {
        let mut state = self.state();
        let Some(lease) = state.open.get_mut(id).filter(|lease| lease.replica == replica) else {
            return Post::Late;
        };
        let (values, was_cut) = match &lease.phase {
            Phase::Abandoned => return Post::Abandoned,
            Phase::Leased(values) => (values.clone(), false),
            Phase::Streaming { values, was_cut, .. } => (values.clone(), *was_cut),
        };
        Post::Wanted { job: Arc::clone(&lease.job), values, was_cut }
    }

    /// A value of a stream came; while it cannot be passed on, the function is not to blame for silence.
    pub(super) fn came(&self, now: Instant, id: &str, is_held_up: bool) {
        let mut state = self.state();
        let Some(lease) = state.open.get_mut(id) else { return };
        let deadline = now + self.bounds.idle_timeout;
        match &mut lease.phase {
            Phase::Streaming { is_held_up: held, .. } => {
                *held = is_held_up;
                lease.deadline = deadline;
            }
            Phase::Leased(values) => {
                let values = values.clone();
                lease.phase = Phase::Streaming { values, was_cut: false, is_held_up };
                lease.deadline = deadline;
                // It may be earlier than what was waited for.
                self.changed.notify_waiters();
            }
            Phase::Abandoned => {}
        }
    }

    /// The connection ended within a stream; the client may go on with the next value.
    pub(super) fn was_cut(&self, now: Instant, id: &str) {
        self.came(now, id, false);
        if let Some(lease) = self.state().open.get_mut(id)
            && let Phase::Streaming { was_cut, .. } = &mut lease.phase
        {
            *was_cut = true;
        }
    }

    /// A replica has done with a job.
    pub(super) fn settle(&self, id: &str, outcome: Outcome) {
        if let Some(lease) = self.state().open.remove(id) {
            lease.job.end(outcome);
        }
        self.work.notify_waiters();
        self.changed.notify_waiters();
    }

    /// A replica has lost all its jobs: those it said nothing of are given to another once, the others fail. Their names.
    pub(super) fn lost(&self, replica: usize, reason: &str) -> Vec<String> {
        let mut state = self.state();
        let ids: Vec<_> = state
            .open
            .values()
            .filter(|lease| lease.replica == replica)
            .map(|lease| lease.job.id.clone())
            .collect();
        for id in ids.iter().rev() {
            let Some(Lease { job, attempt, phase, .. }) = state.open.remove(id) else { continue };
            match phase {
                Phase::Leased(values) if attempt < ATTEMPTS => {
                    job.is_leased.store(false, Ordering::Release);
                    state.waiting.push_front(Waiting { job, values, attempt: attempt + 1 });
                }
                _ => {
                    job.end(Outcome::Failed(reason.to_owned()));
                    // A connection may be open still.
                    job.abandoned.cancel();
                }
            }
        }
        drop(state);
        self.work.notify_waiters();
        self.changed.notify_waiters();
        ids
    }

    /// The next deadline.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.state().open.values().map(|lease| lease.deadline).min()
    }

    /// Fails jobs whose time is over; gives those whose replica does not even come back from them.
    pub(super) fn expire(&self, now: Instant) -> Vec<Wedged> {
        let Bounds { job_timeout, idle_timeout, grace, .. } = self.bounds;
        let mut state = self.state();
        let mut wedged = Vec::new();
        for lease in state.open.values_mut().filter(|lease| lease.deadline <= now) {
            match &lease.phase {
                Phase::Leased(_) => {
                    lease
                        .job
                        .end(Outcome::Failed(format!("it did not answer within {job_timeout:?}")));
                    lease.abandon(now + grace);
                }
                Phase::Streaming { is_held_up: true, .. } => lease.deadline = now + idle_timeout,
                Phase::Streaming { .. } => {
                    lease.job.end(Outcome::Failed(format!(
                        "its stream was silent for {idle_timeout:?}"
                    )));
                    lease.abandon(now + grace);
                }
                Phase::Abandoned => {
                    wedged.push(Wedged { replica: lease.replica, job: lease.job.id.clone() });
                }
            }
        }
        for Wedged { job, .. } in &wedged {
            state.open.remove(job);
        }
        wedged
    }

    /// A replica asked for work for the first time, or told its functions.
    pub(super) fn seen(&self, replica: usize, schemas: Option<Vec<String>>) {
        if let Some(replica) = self.state().replicas.get_mut(replica) {
            replica.has_polled |= schemas.is_none();
            replica.schemas = schemas.or(replica.schemas.take());
        }
        self.changed.notify_waiters();
    }

    /// Whether this replica has asked for work before.
    pub(super) fn has_polled(&self, replica: usize) -> bool {
        self.state().replicas.get(replica).is_some_and(|replica| replica.has_polled)
    }

    /// The functions of a replica that asks for work, if it told them.
    pub(super) fn functions(&self, replica: usize) -> Option<Vec<String>> {
        self.state().replicas.get(replica)?.schemas.clone()
    }

    /// How many replicas ask for work and have told their functions, or need not.
    pub(super) fn ready(&self, need_schemas: bool) -> usize {
        let told =
            |replica: &Replica| replica.schemas.as_ref().is_some_and(|told| !told.is_empty());
        let state = self.state();
        let ready = |replica: &&Replica| {
            replica.may_work() && replica.has_polled && (!need_schemas || told(replica))
        };
        state.replicas.iter().filter(ready).count()
    }

    /// This replica begins anew, and nothing is known of it.
    pub(super) fn reset(&self, replica: usize) {
        if let Some(replica) = self.state().replicas.get_mut(replica) {
            let polls = replica.polls;
            *replica = Replica { polls, ..Replica::default() };
        }
        self.changed.notify_waiters();
    }

    /// Whether this replica can work, as a probe has found; says whether that is new.
    pub(super) fn found(&self, replica: usize, is_well: bool) -> bool {
        let mut state = self.state();
        let Some(replica) = state.replicas.get_mut(replica) else { return false };
        let is_new = std::mem::replace(&mut replica.is_unwell, !is_well) == is_well;
        drop(state);
        if is_new {
            self.work.notify_waiters();
            self.changed.notify_waiters();
        }
        is_new
    }

    /// This replica is given nothing more.
    pub(super) fn retire(&self, replica: usize) {
        if let Some(replica) = self.state().replicas.get_mut(replica) {
            replica.is_retired = true;
        }
        self.changed.notify_waiters();
    }

    /// Whether this replica is to be given nothing more.
    pub(super) fn is_retired(&self, replica: usize) -> bool {
        self.state().replicas.get(replica).is_some_and(|replica| replica.is_retired)
    }

    /// Whether nothing waits, and nobody waits for anything.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state();
        let mut open = state.open.values();
        state.waiting.is_empty() && open.all(|lease| matches!(lease.phase, Phase::Abandoned))
    }

    /// Jobs that this replica has and that somebody waits for.
    pub(super) fn wanted_at(&self, replica: usize) -> usize {
        let state = self.state();
        let wanted =
            |lease: &&Lease| lease.replica == replica && !matches!(lease.phase, Phase::Abandoned);
        state.open.values().filter(wanted).count()
    }

    /// Ends all that waits: no replica will come for it.
    pub(super) fn close(&self, reason: &'static str) {
        let waiting = std::mem::take(&mut self.state().waiting);
        waiting.into_iter().for_each(|waiting| waiting.job.end(Outcome::Dropped(reason)));
    }
}

impl Replica {
    const fn may_work(&self) -> bool {
        !self.is_retired && !self.is_unwell
    }
}

impl State {
    fn open_at(&self, replica: usize) -> usize {
        self.open.values().filter(|lease| lease.replica == replica).count()
    }
}

impl Lease {
    fn abandon(&mut self, deadline: Instant) {
        self.phase = Phase::Abandoned;
        self.deadline = deadline;
        self.job.abandoned.cancel();
    }
}

/// A poll that waits for work, as long as this lives.
#[derive(Debug)]
pub(super) struct Polling {
    board: Arc<Board>,
    replica: usize,
}

impl Drop for Polling {
    fn drop(&mut self) {
        if let Some(replica) = self.board.state().replicas.get_mut(self.replica) {
            replica.polls = replica.polls.saturating_sub(1);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind it is whole after every line that could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
