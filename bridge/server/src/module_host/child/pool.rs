//! The child processes of one module: which session gets a place in which, and which of them are started ahead. Speaks to none.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ringback_module::message::Reject;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::ChildSpec;
use super::process::Process;
use super::slots::{Ear, Left};
use crate::clock::Clock;
use crate::module_host::restart::{Restarts, WINDOW};
use crate::module_host::talk::End;
use crate::telemetry::{METRICS, PeerText};

/// Processes that die while they wait for a session are started again this many times within a minute, and then after one.
const MOST: usize = 5;

/// The processes of a module, for all calls that it is on. With the last who holds it they are ended; sessions hold it too.
///
/// Sessions are packed: a process that has one gets more, up to as many as it takes, before an idle one does, and an idle one
/// before one that is still starting. Only then another is started. What was started ahead stays in reserve that way.
pub struct ChildPool {
    spec: Arc<ChildSpec>,
    state: Mutex<State>,
    /// Told whenever a session may find a place that it did not find before, and when a process may be missing.
    changed: Arc<Notify>,
}

#[derive(Default)]
struct State {
    processes: Vec<Arc<Process>>,
    /// Sessions a process takes, as the last one that registered said: those that start will say the same.
    takes: Option<u16>,
    /// Processes that died with no session on them, since their keeper last looked.
    died: usize,
    /// As many as are to be started ahead have been ready at a time.
    was_warm: bool,
}

/// How far a pool is with what it starts ahead of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Warmth {
    /// Of the module.
    pub(crate) name: String,
    /// Processes that are ready for a session.
    pub(crate) ready: usize,
    /// Those that should be.
    pub(crate) wanted: usize,
    /// Whether there have been as many before.
    pub(crate) was_warm: bool,
}

impl std::fmt::Display for Warmth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, ready, wanted, .. } = self;
        write!(f, "module {name}: {ready} of {wanted} processes started ahead of calls are ready")
    }
}

/// A session's place in a process. Given back when it is dropped, as `left` says.
pub(super) struct Place {
    pool: Arc<ChildPool>,
    pub(super) process: Arc<Process>,
    pub(super) slot: u16,
    pub(super) ear: Ear,
    pub(super) left: Left,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.leave(&self.process, self.slot, self.left);
    }
}

impl std::fmt::Debug for ChildPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChildPool").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl ChildPool {
    /// No process yet. Where some are to be started ahead it must be called within a runtime, which they are kept on.
    #[must_use]
    pub fn new(spec: ChildSpec) -> Arc<Self> {
        let warm = spec.warm;
        let pool = Arc::new(Self {
            spec: Arc::new(spec),
            state: Mutex::default(),
            changed: Arc::default(),
        });
        if warm > 0 {
            tokio::spawn(keep_warm(Arc::downgrade(&pool)));
        }
        pool
    }

    /// How its processes are started.
    #[must_use]
    pub fn spec(&self) -> &ChildSpec {
        &self.spec
    }

    /// How far it is with what it starts ahead of calls; nothing if that is nothing.
    pub(crate) fn warmth(&self) -> Option<Warmth> {
        let wanted = Some(self.spec.warm).filter(|warm| *warm > 0)?;
        let state = self.state();
        let ready = state.idle().count();
        Some(Warmth { name: self.spec.name.clone(), ready, wanted, was_warm: state.was_warm })
    }

    /// Waits until it is as far as that.
    #[cfg(test)]
    pub(crate) async fn until(&self, is: impl Fn(&Warmth) -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.warmth().as_ref().is_some_and(&is) {
                return;
            }
            changed.await;
        }
    }

    /// New sessions get new processes; those that there are end with their last session.
    pub fn renew(&self) {
        let mut state = self.state();
        state.takes = None;
        state.processes.retain(|process| {
            let mut slots = process.slots();
            slots.is_retired = true;
            let is_busy = slots.live() > 0;
            drop(slots);
            if !is_busy {
                process.close();
            }
            is_busy
        });
        drop(state);
        self.changed.notify_waiters();
    }

    /// A place for a session, as soon as there is one.
    pub(super) async fn place(self: &Arc<Self>, limit: Duration) -> Result<Place, End> {
        let deadline = Instant::now() + limit;
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(place) = self.try_place()? {
                return Ok(place);
            }
            if timeout_at(deadline, changed).await.is_err() {
                METRICS.sessions_without_process.increment();
                return Err(End::Rejected(self.busy()));
            }
        }
    }

    /// That it found no place.
    fn busy(&self) -> Reject {
        let most = self.spec.max_processes;
        let message = format!(
            "all processes are taken: `max_processes` is {most}, and none of them had room for another session in time"
        );
        Reject { code: "busy".into(), message, ..Reject::default() }
    }

    fn try_place(self: &Arc<Self>) -> Result<Option<Place>, End> {
        let mut state = self.state();
        let process = match self.best(&state) {
            Some(process) => Arc::clone(process),
            None if state.processes.len() < self.spec.max_processes => {
                let process = Process::start(&self.spec, Arc::downgrade(self), false)?;
                state.processes.push(Arc::clone(&process));
                process
            }
            None => return Ok(None),
        };
        // Under the lock: two that found room for one would both take it.
        let (slot, ear) = process.take();
        drop(state);
        self.changed.notify_waiters();
        Ok(Some(Place { pool: Arc::clone(self), process, slot, ear, left: Left::Lost }))
    }

    /// Where the next session goes of those there are.
    fn best<'a>(&self, state: &'a State) -> Option<&'a Arc<Process>> {
        let most = self.spec.sessions.map_or(u16::MAX, std::num::NonZeroU16::get);
        let rank = |process: &Arc<Process>| {
            let slots = process.slots();
            let takes = slots.takes.or(state.takes).unwrap_or(1).min(most);
            let has_room = !slots.is_retired && !slots.is_held && slots.used() < takes;
            (has_room && process.death().is_none()).then(|| (slots.live(), slots.takes.is_some()))
        };
        let ranked = state.processes.iter().filter_map(|process| Some((rank(process)?, process)));
        ranked.max_by_key(|(rank, _)| *rank).map(|(_, process)| process)
    }

    /// A session is over. Its process may be of no more use.
    fn leave(&self, process: &Arc<Process>, slot: u16, left: Left) {
        let mut state = self.state();
        process.leave(slot, left);
        let (live, lost, takes, is_retired) = {
            let slots = process.slots();
            (slots.live(), slots.lost(), slots.takes, slots.is_retired)
        };
        let is_spare = match takes {
            Some(_) => lost > 0 || state.idle().count() > self.spec.warm,
            None => state.unused().count() > self.spec.warm,
        };
        let is_needed = process.death().is_none() && (live > 0 || !(is_retired || is_spare));
        if !is_needed {
            state.processes.retain(|other| !Arc::ptr_eq(other, process));
            match left {
                Left::Broke => process.kill("its last session broke the contract"),
                Left::Clean | Left::Lost => process.close(),
            }
        }
        drop(state);
        if is_needed
            && left != Left::Clean
            && let Ok(runtime) = Handle::try_current()
        {
            let process = Arc::clone(process);
            runtime.spawn(async move { process.stop(slot).await });
        }
        self.changed.notify_waiters();
    }

    /// A process has room for a session that it had not before.
    pub(super) fn has_room(&self) {
        self.changed.notify_waiters();
    }

    /// A process has said how many sessions it takes.
    pub(super) fn registered(&self, process: &Process, takes: u16) {
        let mut state = self.state();
        state.takes = Some(takes);
        let ready = state.processes.iter().filter(|process| process.slots().takes.is_some());
        state.was_warm |= ready.count() >= self.spec.warm;
        // One that came back from its last session may have taken the place that this one was started for.
        let is_idle = process.slots().live() == 0;
        if is_idle && state.idle().count() > self.spec.warm {
            state.processes.retain(|other| !std::ptr::eq(Arc::as_ptr(other), process));
            process.close();
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// A process is no more.
    pub(super) fn gone(&self, process: &Arc<Process>) {
        let mut state = self.state();
        let there_were = state.processes.len();
        state.processes.retain(|other| !Arc::ptr_eq(other, process));
        if state.processes.len() < there_were {
            METRICS.processes_lost.increment();
            if process.slots().live() == 0 {
                self.mourn(&mut state, process.death().map_or("", |death| &death.reason));
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// A process died that nobody was on, or could not be started at all.
    fn mourn(&self, state: &mut State, reason: &str) {
        let text = PeerText(reason);
        tracing::warn!(module = self.spec.name, "a process ended that was started ahead: {text}");
        state.died += 1;
    }

    /// Starts what is missing of those that are to be ahead of calls, unless some died: then after a while.
    fn top_up(self: &Arc<Self>, restarts: &mut Restarts) -> Option<Duration> {
        let mut state = self.state();
        loop {
            if std::mem::take(&mut state.died) > 0 {
                return Some(restarts.next().unwrap_or(WINDOW));
            }
            if state.unused().count() >= self.spec.warm
                || state.processes.len() >= self.spec.max_processes
            {
                return None;
            }
            match Process::start(&self.spec, Arc::downgrade(self), true) {
                Ok(process) => state.processes.push(process),
                Err(End::Over(reason)) => self.mourn(&mut state, &reason.unwrap_or_default()),
                Err(End::Failed(failure)) => self.mourn(&mut state, &failure.reason),
                Err(_) => return None,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ChildPool {
    fn drop(&mut self) {
        for process in &self.state().processes {
            process.close();
        }
        // Its keeper finds that there is nothing left to keep.
        self.changed.notify_waiters();
    }
}

impl State {
    /// Processes without a session, registered or not.
    fn unused(&self) -> impl Iterator<Item = &Arc<Process>> {
        self.processes.iter().filter(|process| {
            let slots = process.slots();
            slots.live() == 0 && !slots.is_retired && process.death().is_none()
        })
    }

    /// Those that are ready for one.
    fn idle(&self) -> impl Iterator<Item = &Arc<Process>> {
        self.unused().filter(|process| {
            let slots = process.slots();
            slots.takes.is_some() && slots.lost() == 0
        })
    }
}

/// Keeps as many processes ready as are to be started ahead, until the pool is dropped.
async fn keep_warm(pool: Weak<ChildPool>) {
    let mut restarts = Restarts::new(Clock::start(), MOST);
    loop {
        let Some(kept) = pool.upgrade() else { return };
        let changed = Arc::clone(&kept.changed);
        let mut changed = pin!(changed.notified());
        changed.as_mut().enable();
        let pause = kept.top_up(&mut restarts);
        // Held over a wait it would never be dropped.
        drop(kept);
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => changed.await,
        }
    }
}

/// The pools of a bridge. A module whose configuration did not change keeps its processes over a reload.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChildPools(Arc<Mutex<Vec<Weak<ChildPool>>>>);

impl ChildPools {
    /// The one of these processes.
    pub(crate) fn of(&self, spec: &ChildSpec) -> Arc<ChildPool> {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        let same = pools.iter().filter_map(Weak::upgrade).find(|pool| pool.spec() == spec);
        same.unwrap_or_else(|| {
            let pool = ChildPool::new(spec.clone());
            pools.push(Arc::downgrade(&pool));
            pool
        })
    }

    /// Those that are in use.
    pub(crate) fn all(&self) -> Vec<Arc<ChildPool>> {
        let pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pools.iter().filter_map(Weak::upgrade).collect()
    }
}
