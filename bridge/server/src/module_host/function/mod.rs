//! Functions: programs on the clients of Palantir's compute modules, unmodified, called when something happens on a call. Knows no
//! provider; what the clients say is in `runtime.rs`, what it means to a call in `session.rs`.

mod board;
mod certificate;
mod envelope;
mod log;
mod probe;
mod query;
mod replica;
mod runtime;
mod session;
mod utterance;
mod values;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringback_module::message::Start;
use ringback_proto::Instant;
use ringback_proto::provider::Secret;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Hosted, seat};
use crate::clock::Clock;
use crate::config::{FunctionConfig, Probe, Schemas};
use crate::outgoing::Connector;
use crate::telemetry::PeerText;
use board::{Board, Bounds, Wedged};
use certificate::Identity;
use replica::{Address, Process};
use runtime::Desk;

/// First pause before a program is started again; doubled each time up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// A program that ran for so long has not failed at its start.
const GOOD_RUN: Duration = Duration::from_secs(60);
/// A replica has so long to come back from a job that was given up.
const GRACE: Duration = Duration::from_secs(5);
/// At the end jobs have so long to be done, and programs as long again to leave.
const DRAIN: Duration = Duration::from_secs(5);

/// The replicas of one module and the jobs they do, for all its calls. Dropping it ends them.
#[derive(Debug)]
pub struct FunctionPool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    config: FunctionConfig,
    clock: Clock,
    /// For probes, which ask nobody but the replicas.
    connector: Connector,
    board: Arc<Board>,
    state: watch::Sender<State>,
    is_started: AtomicBool,
    stop: CancellationToken,
    stopped: CancellationToken,
}

/// How a pool does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct State {
    /// Replicas that take jobs.
    ready: usize,
    /// There was one before.
    was_ready: bool,
    /// What went wrong last.
    problem: Option<String>,
}

impl FunctionPool {
    /// A pool that has not begun.
    #[must_use]
    pub fn new(name: String, config: FunctionConfig, clock: Clock) -> Self {
        let bounds = Bounds {
            max_queued: config.max_queued,
            concurrency: config.concurrency,
            job_timeout: config.job_timeout,
            idle_timeout: config.idle_timeout,
            grace: GRACE,
        };
        let board = Arc::new(Board::new(bounds, config.replicas));
        let inner = Inner {
            name,
            config,
            clock,
            connector: Connector::default(),
            board,
            state: watch::Sender::new(State::default()),
            is_started: AtomicBool::new(false),
            stop: CancellationToken::new(),
            stopped: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Whether this is the pool of a module configured so.
    #[must_use]
    pub fn is_of(&self, name: &str, config: &FunctionConfig) -> bool {
        self.inner.name == name && self.inner.config == *config
    }

    /// Starts the replicas, if that was not done before. Must be called within a runtime, which is theirs from then on.
    pub fn start(&self) {
        if !self.inner.is_started.swap(true, Ordering::SeqCst) {
            tokio::spawn(Arc::clone(&self.inner).run());
        }
    }

    /// What is to be said of replicas that are not ready, and whether any has been; `None` if all are.
    #[must_use]
    pub fn missing(&self) -> Option<(String, bool)> {
        let Inner { name, config, state, .. } = &*self.inner;
        let (State { ready, was_ready, .. }, wanted) = (state.borrow().clone(), config.replicas);
        let line =
            || format!("module {name}: {ready} of {wanted} programs with its functions are ready");
        (ready < wanted).then(|| (line(), was_ready))
    }

    /// Lets the replicas finish what they have and ends them; returns when they are gone.
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        if self.inner.is_started.load(Ordering::SeqCst) {
            self.inner.stopped.cancelled().await;
        }
    }
}

impl Drop for FunctionPool {
    fn drop(&mut self) {
        self.inner.stop.cancel();
    }
}

/// A module whose words come from the functions of `pool`. Must be called within a runtime.
#[must_use]
pub fn spawn_function(pool: &Arc<FunctionPool>, start: Start) -> Hosted {
    let (hosted, seat) = seat();
    pool.start();
    tokio::spawn(session::run(Arc::clone(pool), start, seat));
    hosted
}

impl Inner {
    async fn run(self: Arc<Self>) {
        let mut replicas = JoinSet::new();
        if let Some((identity, addresses)) = self.listening().await {
            for (index, (address, token)) in addresses.into_iter().enumerate() {
                let (this, identity) = (Arc::clone(&self), Arc::clone(&identity));
                replicas.spawn(async move { this.replica(index, address, token, identity).await });
            }
        }
        tokio::select! {
            () = self.watch() => {}
            () = self.stop.cancelled() => {}
        }
        while replicas.join_next().await.is_some() {}
        self.board.close("shut_down");
        self.stopped.cancel();
    }

    /// Listens as soon as that is possible: the ports may be those of a pool that a new configuration has replaced and that drains.
    /// `None` if it is stopped before.
    async fn listening(&self) -> Option<(Arc<Identity>, Vec<(Address, Secret)>)> {
        let mut failures = 0;
        loop {
            match self.listen().await {
                Ok(listening) => return Some(listening),
                Err(problem) => {
                    let pause = self.pause(self.clock.now(), &mut failures);
                    self.failed(&format!("{problem}; it is tried again in {pause:?}"));
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.stop.cancelled() => return None,
                    }
                }
            }
        }
    }

    /// Files and ports of all replicas. On a thread for that: files are slow.
    async fn listen(&self) -> Result<(Arc<Identity>, Vec<(Address, Secret)>), String> {
        let config = self.config.clone();
        let made = tokio::task::spawn_blocking(move || {
            let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
            if let Some(listen) = &config.listen {
                names.extend([listen.host.clone(), listen.address.ip().to_string()]);
            }
            names.sort_unstable();
            names.dedup();
            let identity = Identity::new(names)?;
            let replicas = (0..config.replicas).map(|_| {
                let token = replica::random().map_err(|error| format!("no token: {error}"))?;
                let token = Secret::from(token.as_str());
                Ok((Address::take(&config, &identity, &token)?, token))
            });
            let replicas = replicas.collect::<Result<Vec<_>, String>>()?;
            Ok((Arc::new(identity), replicas))
        });
        made.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    fn failed(&self, problem: &str) {
        tracing::warn!(module = self.name, "{}", PeerText(problem));
        self.state.send_modify(|state| state.problem = Some(problem.to_owned()));
    }

    /// Sees to deadlines, and to how many replicas are ready.
    async fn watch(&self) {
        let mut is_checked = false;
        loop {
            let mut changed = std::pin::pin!(self.board.changed.notified());
            // From here on nothing is missed.
            changed.as_mut().enable();
            for Wedged { replica, job } in self.board.expire(self.clock.now()) {
                tracing::warn!(module = self.name, replica, job, "does not come back from a job");
                if !self.config.command.is_empty() {
                    self.board.retire(replica);
                }
                self.board.work.notify_waiters();
            }
            let ready = self.board.ready(self.config.schemas == Schemas::Required);
            self.state.send_if_modified(|state| {
                state.was_ready |= ready > 0;
                std::mem::replace(&mut state.ready, ready) != ready
            });
            if ready > 0 && !is_checked {
                is_checked = true;
                self.check_names();
            }
            tokio::select! {
                () = changed => {}
                () = self.clock.sleep_until(self.board.deadline()) => {}
            }
        }
    }

    /// A function that is not there is a job that fails, or one that is never answered.
    fn check_names(&self) {
        let Some(told) =
            (0..self.config.replicas).find_map(|replica| self.board.functions(replica))
        else {
            return;
        };
        for (trigger, function) in &self.config.on {
            if !told.contains(function) && !told.is_empty() {
                let (on, told) = (trigger.name(), told.join(", "));
                tracing::warn!(
                    module = self.name,
                    on,
                    "calls {function:?}, but the program told only of {told}"
                );
            }
        }
    }

    async fn replica(
        self: Arc<Self>,
        index: usize,
        address: Address,
        token: Secret,
        identity: Arc<Identity>,
    ) {
        let session = format!("{}-{index}", self.name);
        let environment = match address.environment(&token, &session, self.config.concurrency) {
            Ok(environment) => environment,
            Err(problem) => return self.failed(&problem),
        };
        if self.config.listen.is_some()
            && let Err(error) = address.write_environment(&environment)
        {
            self.failed(&format!("its environment cannot be written: {error}"));
        }
        let desk = Desk {
            board: Arc::clone(&self.board),
            replica: index,
            clock: self.clock,
            module: self.name.clone(),
            token,
        };
        let mut connections = JoinSet::new();
        connections.spawn(address.serve(identity, Arc::new(desk)));
        if self.config.command.is_empty() {
            tokio::select! {
                () = self.stop.cancelled() => {}
                never = self.ask_whether_ready(index, &environment) => match never {},
            }
            self.finish().await;
        } else {
            self.supervise(index, &environment).await;
        }
    }

    /// Keeps a program running until the end.
    async fn supervise(&self, index: usize, environment: &[(&'static str, String)]) {
        let mut failures = 0;
        while !self.stop.is_cancelled() {
            let began = self.clock.now();
            self.board.reset(index);
            let problem = match Process::start(&self.name, &self.config, environment) {
                Ok(process) => {
                    tokio::select! {
                        problem = self.look_after(index, process, environment) => problem,
                        never = self.ask_whether_ready(index, environment) => match never {},
                    }
                }
                Err(problem) => Some(problem),
            };
            let Some(problem) = problem else { return };
            self.board.retire(index);
            self.board.lost(index, &problem);
            let pause = self.pause(began, &mut failures);
            self.failed(&format!("{problem}; it is started again in {pause:?}"));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    fn pause(&self, began: Instant, failures: &mut u32) -> Duration {
        if self.clock.now().saturating_since(began) >= GOOD_RUN {
            *failures = 0;
        }
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(*failures));
        *failures += 1;
        pause.min(MAX_PAUSE)
    }

    /// Waits until a program ends or has to; says why, unless it was the end of all.
    async fn look_after(
        &self,
        index: usize,
        mut process: Process,
        environment: &[(&'static str, String)],
    ) -> Option<String> {
        let problem = tokio::select! {
            how = process.exited() => return Some(how),
            () = self.stop.cancelled() => None,
            why = self.dead(index, environment) => Some(why),
            () = self.until(|board| board.is_retired(index)) => {
                // What somebody waits for may still be done.
                let done = self.until(|board| board.wanted_at(index) == 0);
                tokio::select! {
                    how = process.exited() => return Some(how),
                    _ = timeout(self.config.job_timeout, done) => {}
                }
                Some("it did not come back from a job".to_owned())
            }
            () = self.until(|board| self.config.schemas == Schemas::Required && board.functions(index).is_some_and(|told| told.is_empty())) => {
                Some("it tells of no functions; does it fail to import them?".to_owned())
            }
        };
        match problem {
            Some(problem) => {
                process.kill();
                Some(format!("{problem} ({})", process.exited().await))
            }
            None => {
                self.finish().await;
                self.board.retire(index);
                process.ask_to_end();
                if timeout(DRAIN, process.exited()).await.is_err() {
                    process.kill();
                    process.exited().await;
                }
                None
            }
        }
    }

    /// Keeps the board told whether a replica is ready for work, if there is a probe for that.
    async fn ask_whether_ready(
        &self,
        index: usize,
        environment: &[(&'static str, String)],
    ) -> Infallible {
        let Some(ready) = &self.config.readiness else { return std::future::pending().await };
        self.board.found(index, false);
        loop {
            let answer = self.probe(ready, environment).await;
            if self.board.found(index, answer.is_ok())
                && let Err(why) = answer
            {
                let why = PeerText(&why);
                tracing::warn!(module = self.name, replica = index, "is not ready for work: {why}");
            }
            tokio::time::sleep(ready.every).await;
        }
    }

    /// Waits until the liveness probe, if there is one, has failed too often since the program asked for work; says why.
    async fn dead(&self, index: usize, environment: &[(&'static str, String)]) -> String {
        let Some(live) = &self.config.liveness else { return std::future::pending().await };
        let mut failures = 0;
        loop {
            tokio::time::sleep(live.every).await;
            if !self.board.has_polled(index) {
                // It loads, however long that takes.
                continue;
            }
            match self.probe(live, environment).await {
                Ok(()) => failures = 0,
                Err(why) => {
                    failures += 1;
                    if failures == Probe::FAILURES {
                        return format!("its liveness probe failed {failures} times, last: {why}");
                    }
                }
            }
        }
    }

    async fn probe(
        &self,
        probe: &Probe,
        environment: &[(&'static str, String)],
    ) -> Result<(), String> {
        probe::probe(probe, &self.connector, &self.config.surroundings, environment).await
    }

    /// Waits until all jobs are done, but not for ever.
    async fn finish(&self) {
        let _ = timeout(DRAIN, self.until(Board::is_idle)).await;
    }

    async fn until(&self, holds: impl Fn(&Board) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.board.changed.notified());
            changed.as_mut().enable();
            if holds(&self.board) {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
