//! Sinks: where transcripts, events and recordings of calls go to stay. A call never waits for one: it puts events into bounded
//! queues, and tasks of their own take them from there. Delivery is at least once, and an event has the same name every time.

mod backoff;
mod event;
mod jsonl;
mod queue;
#[cfg_attr(not(feature = "object-store"), path = "no_recordings.rs")]
mod recordings;
#[cfg_attr(not(feature = "sql"), path = "no_sql.rs")]
mod sql;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringback_proto::Instant;
use tokio::task::JoinSet;

use crate::call::{Seen, Watch};
use crate::clock::WallTime;
use crate::events::{self, EventKind, EventSet, Tag};
use crate::outgoing::Connector;
use crate::telemetry::{Lost, Report, SinkFigures, SinkReport, report, sink_figures};

pub use event::Event;
pub(crate) use jsonl::private;
#[cfg(test)]
pub(crate) use jsonl::run as run_lines;
pub use jsonl::{JsonLines, Template};
use queue::Queue;
pub(crate) use recordings::check as check_store;
pub(crate) use recordings::is_stored;
pub use recordings::{Recordings, S3, Store};
pub(crate) use sql::check as check_database;
pub use sql::{Database, Sql};
pub use webhook::{SigningKey, Webhook};

/// Where the events of calls go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkConfig {
    /// Name, as routes know it.
    pub name: String,
    /// What takes them.
    pub kind: SinkKind,
    /// Those it wants.
    pub events: EventSet,
    /// So many may wait; with one more the oldest is lost.
    pub queue: usize,
}

impl SinkConfig {
    /// Whether it keeps what it has not delivered in a folder.
    pub(crate) fn spools(&self) -> bool {
        matches!(&self.kind, SinkKind::Webhook(webhook) if webhook.spool.is_some())
    }

    /// What a sink gets that names no events: what was said and done, and what went wrong.
    #[must_use]
    pub fn default_events() -> EventSet {
        use EventKind::{
            CallEnded, CallStarted, Dtmf, Error, Event, ModuleFailed, Say, TranscriptFinal, Turn,
        };
        let wanted =
            [CallStarted, CallEnded, TranscriptFinal, Say, Turn, Dtmf, Event, Error, ModuleFailed];
        wanted.into_iter().collect()
    }
}

/// What takes events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkKind {
    /// Files of lines.
    JsonLines(JsonLines),
    /// A server that is told by HTTP.
    Webhook(Webhook),
    /// Tables of a database.
    Sql(Sql),
    /// A store for recordings, which takes no other events.
    Recordings(Recordings),
}

/// The end of a queue that a sink takes events from, and what it says of them.
#[derive(Debug)]
pub(crate) struct Intake {
    name: String,
    queue: Arc<Queue>,
    figures: Arc<SinkFigures>,
}

impl Intake {
    /// The next events, at least one and at most `most`, or `None` once no more will come. Cancel safe.
    async fn take(&self, most: usize) -> Option<Vec<Arc<Event>>> {
        self.queue.take(most).await
    }

    /// Those that wait now, at most `most`.
    fn take_now(&self, most: usize) -> Vec<Arc<Event>> {
        self.queue.take_now(most)
    }

    /// Waits until no more will come.
    async fn closed(&self) {
        self.queue.closed().await;
    }

    fn delivered(&self, count: u64) {
        self.figures.deliver(count);
    }

    fn retried(&self) {
        self.figures.retry();
    }

    fn lost(&self, why: Lost, reason: &str, count: u64) {
        self.figures.lose(why, count);
        self.tell(SinkReport::Lost { why, reason, count });
    }

    fn tell(&self, what: SinkReport<'_>) {
        report(&Report::Sink { sink: &self.name, what });
    }
}

/// A sink as calls see it. The last one to let go of it closes its queue.
#[derive(Debug)]
struct Outlet {
    account: Arc<Account>,
    /// It overflows, and that was told.
    overflowing: AtomicU64,
}

/// What is known of a sink for as long as it has anything to deliver, whether calls still have it or not.
#[derive(Debug)]
struct Account {
    config: SinkConfig,
    queue: Arc<Queue>,
    figures: Arc<SinkFigures>,
}

impl Outlet {
    fn put(&self, event: Arc<Event>) {
        let Account { config, queue, figures } = &*self.account;
        if !config.kind.takes(&event) {
            return;
        }
        figures.take(1);
        let lost = queue.push(event);
        if lost == 0 {
            return;
        }
        figures.lose(Lost::Overflow, lost);
        // The first is told, and then every so often: a sink that is away must not fill the log.
        let before = self.overflowing.fetch_add(lost, Relaxed);
        if before == 0 || before / 1_000 != (before + lost) / 1_000 {
            let (reason, count) = ("its queue is full", before + lost);
            let what = SinkReport::Lost { why: Lost::Overflow, reason, count };
            report(&Report::Sink { sink: &config.name, what });
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.account.queue.close();
    }
}

/// All sinks of a bridge, at work.
#[derive(Debug, Default)]
pub struct Sinks {
    outlets: Mutex<Vec<Arc<Outlet>>>,
    /// Those that have anything to account for, of earlier configurations as well.
    accounts: Mutex<Vec<Arc<Account>>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Sinks {
    /// Starts those of `configs`, which reach others through `connector`.
    ///
    /// # Panics
    /// If there are any, outside a tokio runtime.
    #[must_use]
    pub fn start(configs: &[SinkConfig], connector: &Arc<Connector>) -> Self {
        let sinks = Self::default();
        sinks.apply(configs, connector);
        sinks
    }

    /// From now on there are those of `configs` and no others: one that is as it was goes on, another one is started, and one that
    /// is gone or changed ends when the last call that uses it does.
    ///
    /// # Panics
    /// If one has to be started, outside a tokio runtime.
    pub fn apply(&self, configs: &[SinkConfig], connector: &Arc<Connector>) {
        let mut outlets = lock(&self.outlets);
        let mut accounts = lock(&self.accounts);
        let mut tasks = lock(&self.tasks);
        let before = std::mem::take(&mut *outlets);
        for config in configs {
            let same = before.iter().find(|outlet| outlet.account.config == *config);
            outlets.push(match same {
                Some(outlet) => Arc::clone(outlet),
                None => {
                    let outlet = open(config, connector, &mut tasks);
                    accounts.push(Arc::clone(&outlet.account));
                    outlet
                }
            });
        }
        drop(before);
        // One that calls still have may yet be given something.
        accounts.retain(|account| Arc::strong_count(account) > 1 || account.figures.waiting() > 0);
    }

    /// What looks on at a call of that listener, which may take one of these routes, each with the names of its sinks; `None` if there
    /// are no sinks on any.
    #[must_use]
    pub fn watch(
        &self,
        routes: &[(String, Vec<String>)],
        listener: &str,
    ) -> Option<Arc<dyn Watch>> {
        if routes.iter().all(|(_, names)| names.is_empty()) {
            return None;
        }
        let outlets = lock(&self.outlets);
        let routes = routes.iter().map(|(route, names)| {
            let wanted = |outlet: &&Arc<Outlet>| names.contains(&outlet.account.config.name);
            (route.clone(), outlets.iter().filter(wanted).cloned().collect())
        });
        let (routes, listener) = (routes.collect(), listener.to_owned());
        Some(Arc::new(CallWatch { routes, listener, seen: AtomicU64::new(0) }))
    }

    /// Ends all sinks once they have delivered what they have, but no later than `deadline` is ready. What is not delivered by
    /// then and not on disk is lost, and told. No call may be running any more.
    pub async fn finish(&self, deadline: impl Future<Output = ()>) {
        lock(&self.outlets).clear();
        let accounts = std::mem::take(&mut *lock(&self.accounts));
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        for account in &accounts {
            account.queue.close();
        }
        let all = async { while tasks.join_next().await.is_some() {} };
        tokio::select! {
            biased;
            () = all => {}
            () = deadline => tasks.shutdown().await,
        }
        settle(&accounts);
    }
}

/// What a thread left behind that panicked is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells what was not delivered when all is over. Sinks that had one name after each other have one account, and what it keeps is the
/// newest one's to say.
fn settle(accounts: &[Arc<Account>]) {
    let mut by_name = BTreeMap::<&str, (&Account, u64)>::new();
    for account in accounts {
        let (newest, queued) = by_name.entry(&account.config.name).or_insert((account, 0));
        *newest = account;
        *queued += account.queue.len() as u64;
    }
    for (sink, (account, queued)) in by_name {
        let (figures, waiting) = (&account.figures, account.figures.waiting());
        let lost = account.config.kind.forgets(waiting, queued);
        if lost > 0 {
            figures.lose(Lost::Shutdown, lost);
            let (why, reason) = (Lost::Shutdown, "the bridge ends");
            report(&Report::Sink { sink, what: SinkReport::Lost { why, reason, count: lost } });
        }
        if waiting > lost {
            report(&Report::Sink { sink, what: SinkReport::Kept { count: waiting - lost } });
        }
    }
}

/// Deletes what a sink keeps of these calls, and of their recordings by name: lines, rows, objects, or events that it has not delivered.
/// Says how many. A bridge that runs may write to it meanwhile.
///
/// # Errors
/// Why not all of it is gone; doing it again goes on.
pub(crate) async fn erase(
    kind: &SinkKind,
    connector: &Arc<Connector>,
    calls: &BTreeSet<String>,
    names: &BTreeSet<String>,
) -> Result<u64, String> {
    let calls = calls.clone();
    let blocking = match kind.clone() {
        SinkKind::Sql(sql) => return sql::erase(&sql, &calls).await,
        SinkKind::Recordings(store) => {
            return recordings::erase(&store, connector, &calls, names).await;
        }
        SinkKind::JsonLines(lines) => {
            tokio::task::spawn_blocking(move || jsonl::erase(&lines, &calls))
        }
        SinkKind::Webhook(hook) => {
            tokio::task::spawn_blocking(move || webhook::erase(&hook, &calls))
        }
    };
    let erased = blocking.await.map_err(|error| error.to_string())?;
    erased.map_err(|error| error.to_string())
}

/// What and where, for people.
impl fmt::Display for SinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JsonLines(lines) => write!(f, "lines in {}", lines.path),
            Self::Webhook(hook) => write!(f, "told to {}", hook.url),
            Self::Sql(Sql { database: Database::Sqlite { path }, .. }) => {
                write!(f, "SQLite in {}", path.display())
            }
            Self::Recordings(Recordings { store, dir, .. }) => {
                write!(f, "recordings of {} to {store}", dir.display())
            }
            // Its URL is a secret.
            Self::Sql(Sql { database: Database::Postgres { .. }, .. }) => f.write_str("PostgreSQL"),
        }
    }
}

impl SinkKind {
    /// Whether it asks others by TLS, trusting as all do. A database trusts as its URL says.
    pub(crate) fn wants_tls(&self) -> bool {
        match self {
            Self::JsonLines(_) | Self::Sql(_) => false,
            Self::Webhook(hook) => hook.url.peer().secure,
            Self::Recordings(Recordings { store: Store::Folder(_), .. }) => false,
            Self::Recordings(Recordings { store: Store::S3(bucket), .. }) => {
                bucket.endpoint.as_ref().is_none_or(|endpoint| endpoint.peer().secure)
            }
        }
    }

    /// Whether it takes that event, which is one that its configuration wants.
    fn takes(&self, event: &Event) -> bool {
        match self {
            Self::Recordings(_) => recordings::is_finished(event),
            _ => true,
        }
    }

    /// How many of those it has not delivered a new process will not find, `queued` of which it has not even taken.
    const fn forgets(&self, waiting: u64, queued: u64) -> u64 {
        match self {
            Self::JsonLines(_) | Self::Sql(_) => waiting,
            Self::Webhook(hook) if hook.spool.is_none() => waiting,
            Self::Webhook(_) => queued,
            Self::Recordings(_) => 0,
        }
    }
}

fn open(config: &SinkConfig, connector: &Arc<Connector>, tasks: &mut JoinSet<()>) -> Arc<Outlet> {
    let queue = Arc::new(Queue::new(config.queue));
    let figures = sink_figures(&config.name);
    let name = config.name.clone();
    let intake = Intake { name, queue: Arc::clone(&queue), figures: Arc::clone(&figures) };
    match config.kind.clone() {
        SinkKind::JsonLines(lines) => tasks.spawn(jsonl::run(lines, intake)),
        SinkKind::Sql(sql) => tasks.spawn(sql::run(sql, intake)),
        SinkKind::Recordings(recordings) => {
            tasks.spawn(recordings::run(recordings, Arc::clone(connector), intake))
        }
        SinkKind::Webhook(hook) => {
            tasks.spawn(webhook::run(hook, config.queue, Arc::clone(connector), intake))
        }
    };
    let account = Arc::new(Account { config: config.clone(), queue, figures });
    Arc::new(Outlet { account, overflowing: AtomicU64::new(0) })
}

/// Looks on at one call and gives its events to the sinks of its route.
struct CallWatch {
    /// The routes that it may take, with the sinks of each.
    routes: Vec<(String, Vec<Arc<Outlet>>)>,
    listener: String,
    /// Events so far, of any kind.
    seen: AtomicU64,
}

impl CallWatch {
    /// The sinks of a route. What happens before a call has one, or on a call that gets none, is for those that all routes have.
    fn outlets(&self, route: Option<&str>) -> impl Iterator<Item = &Arc<Outlet>> {
        let taken = self.routes.iter().find(|(name, _)| Some(name.as_str()) == route);
        let is_told = move |outlet: &&Arc<Outlet>| {
            let has = |(_, outlets): &(String, Vec<Arc<Outlet>>)| {
                outlets.iter().any(|other| Arc::ptr_eq(other, outlet))
            };
            taken.is_some() || self.routes.iter().all(has)
        };
        taken.or(self.routes.first()).into_iter().flat_map(|(_, all)| all).filter(is_told)
    }
}

impl Watch for CallWatch {
    fn see(&self, call: &str, now: Instant, seen: &Seen<'_>) {
        let Some(kind) = EventKind::of(seen) else { return };
        let number = self.seen.fetch_add(1, Relaxed) + 1;
        let route = match seen {
            Seen::Report { session, .. } => session.route(),
            Seen::Ended(summary) => summary.route.as_deref(),
            Seen::Late(late) => late.route.as_deref(),
            Seen::SocketFailed(_) => None,
        };
        let wanted = |outlet: &&Arc<Outlet>| outlet.account.config.events.contains(kind);
        let mut outlets = self.outlets(route).filter(wanted).peekable();
        if outlets.peek().is_none() {
            return;
        }
        let (at, id) = (WallTime::now(), format!("{call}-{number}"));
        let tag = Tag { event_id: &id, listener: &self.listener };
        let Some((_, json, _)) = events::json(at, call, now, seen, Some(tag)) else { return };
        let (listener, route) = (self.listener.clone(), route.unwrap_or_default().to_owned());
        let (call, at) = (call.to_owned(), at.to_string());
        let event = Arc::new(Event { id, call, kind, at, listener, route, json });
        outlets.for_each(|outlet| outlet.put(Arc::clone(&event)));
    }
}

impl fmt::Debug for CallWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallWatch").field("listener", &self.listener).finish_non_exhaustive()
    }
}
