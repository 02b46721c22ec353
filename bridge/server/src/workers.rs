//! Threads that serve calls, a runtime each: a call stays on the thread it began on, and busy threads wake up in batches. Knows
//! nothing of what it runs.
//!
//! # Why a runtime per thread
//! Not for its cost. 1,000 Twilio calls, each frame served at once, medians of 8 interleaved runs, CPU time per frame:
//!
//! | | runtime per thread | tokio's multi-thread runtime |
//! |---|---|---|
//! | one thread on one core | 12.8 us | 13.0 us |
//! | two threads on two cores | 15.5 us | 15.0 us |
//!
//! The noise is 10 % either way, so these are the same. What decides: nothing of a call ever crosses threads, memory is lent by
//! the thread, and only a thread of its own can sleep to a grid.
//!
//! One thread accepts, and new connections go to the thread that serves fewest: each gets its fair share. The kernel could spread
//! them as well (`SO_REUSEPORT`), but by a hash, and calls last for minutes: what the hash piles up stays piled up. The fullest
//! listener against a fair share, in 20 tries each:
//!
//! | calls | listeners | median | worst |
//! |---|---|---|---|
//! | 1,000 | 8 | 1.11 | 1.22 |
//! | 200 | 8 | 1.28 | 1.44 |
//! | 2,000 | 32 | 1.26 | 1.44 |
//!
//! A single accepting thread is no limit for calls that last minutes.
//!
//! Two things of a call may be on another of these threads: a worker's socket, which is on the one that its connection came to, and a
//! child process that calls share, which is on that of the call that it was started for. One that is started ahead of calls is on the
//! thread that accepts: nobody knows yet whose it will be. tokio watches a pipe or socket where it was opened, and a process that
//! several calls share, or a socket under TLS, cannot be taken off there and put elsewhere.
//!
//! # Why batches
//! Waking up for a frame costs more than its whole way through the bridge. A thread with many calls therefore goes on sleeping
//! until the next point of a grid of [`GRID`] and serves what has arrived by then: a frame waits half that long at the median.
//! With few calls a core has time to spare, and each frame is served at once; so it is where many calls are open and little
//! happens on them.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Deserialize;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// Grid on which a busy thread wakes up.
pub const GRID: Duration = Duration::from_millis(1);
/// Connections from which on a thread may count as busy, where [`Tick::Auto`] decides.
pub const BUSY: usize = 200;
/// It does if it works for one part in so many of the time.
const BUSY_SHARE: u64 = 10;
/// Over so long.
const WINDOW: Duration = Duration::from_millis(100);
/// Tasks run before the kernel is asked for more; the usual 61 would ask several times within a batch.
const BATCH_TASKS: u32 = 512;

/// When threads wake up in batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Tick {
    /// Where a thread has 200 connections or more and works a tenth of its time.
    #[default]
    Auto,
    /// Never: least latency.
    Off,
    /// Always: least work.
    Always,
}

/// Where connections are served.
#[derive(Debug, Default)]
pub struct Workers {
    /// None: on the runtime that calls.
    threads: Vec<Worker>,
}

/// How late the threads come to what they have to do. Clones look at the same.
#[derive(Debug, Clone)]
pub(crate) struct Lags(Arc<[Arc<Lag>]>);

/// A thread is asked to do nothing this often, and how late it does it is noted.
const PROBE: Duration = Duration::from_millis(50);
/// So many times are kept: those of five seconds.
const PROBES: usize = 100;

/// How late a thread was lately.
#[derive(Debug)]
struct Lag {
    clock: Clock,
    /// When it was to do nothing next, in microseconds of its clock.
    due: AtomicU64,
    /// In microseconds; of the last [`PROBES`], in no order.
    late: [AtomicU32; PROBES],
}

impl Lag {
    fn new() -> Arc<Self> {
        let late = std::array::from_fn(|_| AtomicU32::new(0));
        Arc::new(Self { clock: Clock::start(), due: AtomicU64::new(u64::MAX), late })
    }

    fn now(&self) -> u64 {
        self.clock.now().since_epoch().as_micros() as u64
    }

    /// Notes how late it is, for ever.
    async fn probe(self: Arc<Self>) {
        for late in self.late.iter().cycle() {
            let due = self.clock.now() + PROBE;
            self.due.store(due.since_epoch().as_micros() as u64, Relaxed);
            self.clock.sleep_until(Some(due)).await;
            let micros = (self.clock.now() - due).as_micros();
            late.store(u32::try_from(micros).unwrap_or(u32::MAX), Relaxed);
        }
    }

    /// As late as it was 99 times of 100, or as it is now, if it has not come yet.
    fn worst(&self) -> Duration {
        let mut late: Vec<_> = self.late.iter().map(|late| late.load(Relaxed)).collect();
        late.sort_unstable();
        let usual = u64::from(late[PROBES * 99 / 100 - 1]);
        let waiting = self.now().saturating_sub(self.due.load(Relaxed));
        Duration::from_micros(usual.max(waiting))
    }
}

impl Lags {
    /// How late the latest of them is: 99 times of 100 in the last five seconds, or now.
    pub(crate) fn worst(&self) -> Option<Duration> {
        self.0.iter().map(|lag| lag.worst()).max()
    }
}

#[derive(Debug)]
struct Worker {
    handle: Handle,
    lag: Arc<Lag>,
    load: Arc<AtomicUsize>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// A place at a thread, taken as long as this lives.
#[derive(Debug)]
pub(crate) struct Desk {
    handle: Option<Handle>,
    load: Arc<AtomicUsize>,
}

impl Workers {
    /// No threads: everything runs on the runtime that calls, as tests with a clock of their own need it.
    #[must_use]
    pub fn here() -> Self {
        Self::default()
    }

    /// So many threads; 0 is one for each core.
    ///
    /// # Errors
    /// If the system gives no thread or no way to wait for sockets.
    pub fn start(threads: usize, tick: Tick) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = if threads == 0 { cores } else { threads };
        let threads = (0..threads).map(|index| Worker::start(index, tick));
        Ok(Self { threads: threads.collect::<io::Result<_>>()? })
    }

    /// How late they are; `None` without threads.
    pub(crate) fn lags(&self) -> Option<Lags> {
        let lags = self.threads.iter().map(|worker| Arc::clone(&worker.lag));
        (!self.threads.is_empty()).then(|| Lags(lags.collect()))
    }

    /// A place at the thread that serves fewest.
    pub(crate) fn desk(&self) -> Desk {
        let least = self.threads.iter().min_by_key(|worker| worker.load.load(Relaxed));
        let desk = match least {
            Some(worker) => {
                Desk { handle: Some(worker.handle.clone()), load: Arc::clone(&worker.load) }
            }
            None => Desk { handle: None, load: Arc::default() },
        };
        desk.load.fetch_add(1, Relaxed);
        desk
    }
}

impl Desk {
    /// Runs a task where this place is.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match &self.handle {
            Some(handle) => drop(handle.spawn(task)),
            None => drop(tokio::spawn(task)),
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Relaxed);
    }
}

impl Worker {
    fn start(index: usize, tick: Tick) -> io::Result<Self> {
        let (load, stop) = (Arc::<AtomicUsize>::default(), CancellationToken::new());
        let grid = Arc::new(Grid::new(tick, Arc::clone(&load)));
        let waking = Arc::clone(&grid);
        let mut builder = Builder::new_current_thread();
        builder
            .enable_all()
            .on_thread_park(move || grid.wait())
            .on_thread_unpark(move || waking.wake());
        if tick != Tick::Off {
            builder.event_interval(BATCH_TASKS);
        }
        let runtime = builder.build()?;
        let (handle, stopped) = (runtime.handle().clone(), stop.clone());
        let lag = Lag::new();
        runtime.spawn(Arc::clone(&lag).probe());
        let thread =
            std::thread::Builder::new().name(format!("calls-{index}")).spawn(move || {
                sleep_precisely();
                runtime.block_on(stopped.cancelled());
                // What was left running is dropped with the runtime; blocking helpers are not waited for.
                runtime.shutdown_background();
            })?;
        Ok(Self { handle, lag, load, stop, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // It can only fail by a panic, which was told where it happened.
            let _ = thread.join();
        }
    }
}

/// The points in time at which a busy thread wakes up.
struct Grid {
    tick: Tick,
    load: Arc<AtomicUsize>,
    clock: Clock,
    pulse: Pulse,
}

/// How busy a thread is, times in nanoseconds of its clock. Atomics, because the runtime asks for what may be shared, though only
/// that thread ever looks at them.
#[derive(Debug, Default)]
struct Pulse {
    woke: AtomicU64,
    since: AtomicU64,
    worked: AtomicU64,
    is_busy: AtomicBool,
}

impl Pulse {
    /// The thread wakes at `now`.
    fn wake(&self, now: u64) {
        self.woke.store(now, Relaxed);
    }

    /// The thread has worked since it woke and has nothing to do at `now`; says whether it is busy.
    fn rest(&self, now: u64) -> bool {
        let worked = self.worked.load(Relaxed) + now.saturating_sub(self.woke.load(Relaxed));
        let window = now.saturating_sub(self.since.load(Relaxed));
        if window < WINDOW.as_nanos() as u64 {
            self.worked.store(worked, Relaxed);
        } else {
            self.is_busy.store(worked * BUSY_SHARE >= window, Relaxed);
            self.since.store(now, Relaxed);
            self.worked.store(0, Relaxed);
        }
        self.is_busy.load(Relaxed)
    }
}

impl Grid {
    fn new(tick: Tick, load: Arc<AtomicUsize>) -> Self {
        Self { tick, load, clock: Clock::start(), pulse: Pulse::default() }
    }

    fn now(&self) -> u64 {
        self.clock.now().since_epoch().as_nanos() as u64
    }

    /// Called when a thread has nothing to do, before it asks the kernel what has arrived.
    fn wait(&self) {
        if self.tick == Tick::Off {
            return;
        }
        let now = self.now();
        if self.is_on(self.pulse.rest(now)) {
            let grid = GRID.as_nanos() as u64;
            std::thread::sleep(Duration::from_nanos(grid - now % grid));
        }
    }

    /// Called when the kernel has something for the thread.
    fn wake(&self) {
        if self.tick != Tick::Off {
            self.pulse.wake(self.now());
        }
    }

    fn is_on(&self, is_busy: bool) -> bool {
        match self.tick {
            Tick::Auto => is_busy && self.load.load(Relaxed) >= BUSY,
            Tick::Off => false,
            Tick::Always => true,
        }
    }
}

/// The system may let a thread oversleep by 50 us, to wake up for several at once; the grid is that already.
fn sleep_precisely() {
    #[cfg(target_os = "linux")]
    // A kernel that refuses only lets us sleep longer.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_to_the_thread_that_serves_fewest() {
        let workers = Workers::start(3, Tick::Auto).expect("threads");
        let mut desks: Vec<_> = (0..9).map(|_| workers.desk()).collect();
        let loads = |workers: &Workers| -> Vec<usize> {
            workers.threads.iter().map(|worker| worker.load.load(Relaxed)).collect()
        };
        assert_eq!(loads(&workers), [3, 3, 3]);
        desks.retain(|desk| !Arc::ptr_eq(&desk.load, &workers.threads[1].load));
        assert_eq!(loads(&workers), [3, 0, 3]);
        desks.extend((0..3).map(|_| workers.desk()));
        assert_eq!(loads(&workers), [3, 3, 3]);
    }

    #[test]
    fn work_is_done_on_threads_of_its_own() {
        let workers = Workers::start(1, Tick::Always).expect("a thread");
        let (sender, receiver) = std::sync::mpsc::channel();
        workers.desk().spawn(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let _ = sender.send(std::thread::current().name().map(str::to_owned));
        });
        assert_eq!(receiver.recv().expect("it ran").as_deref(), Some("calls-0"));
    }

    #[test]
    fn how_late_a_thread_comes_is_known_while_it_is_late_and_after() {
        let workers = Workers::start(2, Tick::Off).expect("threads");
        let lags = workers.lags().expect("there are threads");
        let until = |what: &str, is_so: &dyn Fn(Duration) -> bool| {
            for _ in 0..3_000 {
                if is_so(lags.worst().expect("threads")) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            panic!("never {what}: {:?}", lags.worst());
        };
        let (held, hold) = std::sync::mpsc::channel::<()>();
        workers.desk().spawn(async move {
            let _ = hold.recv();
        });
        until("late", &|lag| lag > Duration::from_millis(200));
        drop(held);
        until("on time again", &|lag| lag < Duration::from_millis(150));
        assert!(Workers::here().lags().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_worst_of_a_hundred_times_is_left_out() {
        let lag = Lag::new();
        assert_eq!(lag.worst(), Duration::ZERO);
        lag.late[17].store(90_000, Relaxed);
        assert_eq!(lag.worst(), Duration::ZERO, "once may be the machine's");
        lag.late[18].store(40_000, Relaxed);
        assert_eq!(lag.worst(), Duration::from_millis(40));
        lag.due.store(lag.now(), Relaxed);
        tokio::time::advance(Duration::from_millis(70)).await;
        assert_eq!(lag.worst(), Duration::from_millis(70), "it has still not come");
    }

    #[test]
    fn a_thread_is_busy_with_so_many_connections_and_so_much_to_do() {
        let load = Arc::<AtomicUsize>::default();
        let grid = |tick| Grid::new(tick, Arc::clone(&load));
        let is_on = |busy| [Tick::Auto, Tick::Off, Tick::Always].map(|tick| grid(tick).is_on(busy));
        assert_eq!(is_on(true), [false, false, true]);
        load.store(BUSY, Relaxed);
        assert_eq!(is_on(true), [true, false, true]);
        assert_eq!(is_on(false), [false, false, true]);
    }

    #[test]
    fn the_help_tells_how_many_connections_are_many() {
        use clap::ValueEnum as _;
        let auto = Tick::Auto.to_possible_value().expect("a value");
        let help = auto.get_help().expect("help").to_string();
        assert!(help.contains(&format!("{BUSY} connections")), "{help}");
    }

    #[test]
    fn a_tenth_of_the_time_is_much_to_do() {
        const MS: u64 = 1_000_000;
        for (work, busy) in [(MS / 20, false), (MS / 5, true)] {
            let pulse = Pulse::default();
            let rests = (0..250).map(|ms| ms * MS).map(|wake| {
                pulse.wake(wake);
                pulse.rest(wake + work)
            });
            assert_eq!(rests.last(), Some(busy), "{work} ns of every millisecond");
        }
    }
}
