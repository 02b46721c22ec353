//! Whether a module is worth trying, from what became of it on other calls: one that fails again and again is left alone for a while,
//! and the calls of that while go to its fallback at once. Starts nothing.
//!
//! Closed, it counts. Open, nobody tries. When the pause is over one call tries, and what comes of it decides for all.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringback_proto::Instant;

use crate::config::BreakerConfig;
use crate::module_host::shortened;
use crate::telemetry::{METRICS, Report, report};

/// Outcomes that are remembered; on a busy bridge they are those of less than `within`.
const MOST_OUTCOMES: usize = 256;
/// Each pause is twice the one before it, up to so many times the first.
const LONGEST: u32 = 8;

/// The breaker of one module, for all calls.
pub(crate) struct Breaker {
    module: String,
    state: Mutex<State>,
}

/// The same without a lock, a name or a clock.
#[derive(Debug)]
struct State {
    config: BreakerConfig,
    phase: Phase,
    /// When, and whether it failed.
    outcomes: VecDeque<(Instant, bool)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    Open {
        until: Instant,
        pause: Duration,
    },
    /// One call tries.
    Trying {
        pause: Duration,
    },
}

/// What an outcome changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Nothing,
    Opened(Duration),
    Closed,
}

impl State {
    fn new(config: BreakerConfig) -> Self {
        Self { config, phase: Phase::Closed, outcomes: VecDeque::new() }
    }

    /// Whether the module may be tried; says whether what comes of it decides. The error is how long it is left alone still.
    fn begin(&mut self, now: Instant) -> Result<bool, Duration> {
        match self.phase {
            Phase::Closed => Ok(false),
            Phase::Open { until, pause } if until <= now => {
                self.phase = Phase::Trying { pause };
                Ok(true)
            }
            Phase::Open { until, .. } => Err(until - now),
            // It is known as soon as the one that tries is ready, or is not.
            Phase::Trying { .. } => Err(Duration::ZERO),
        }
    }

    /// It failed, or did not, on a call; `decides` is what [`Self::begin`] said. Of equal pauses many would be over at once, and so
    /// `jitter` shortens them.
    fn outcome(
        &mut self,
        now: Instant,
        decides: bool,
        failed: bool,
        jitter: impl Fn(Duration) -> Duration,
    ) -> Change {
        let BreakerConfig { failures, within, retry } = self.config;
        match self.phase {
            Phase::Trying { pause } if decides && failed => {
                let pause = (pause * 2).min(retry * LONGEST);
                self.open(now, pause, jitter)
            }
            Phase::Trying { .. } if decides => {
                self.phase = Phase::Closed;
                self.outcomes.clear();
                Change::Closed
            }
            Phase::Trying { .. } | Phase::Open { .. } => Change::Nothing,
            Phase::Closed => {
                if self.outcomes.len() == MOST_OUTCOMES {
                    self.outcomes.pop_front();
                }
                self.outcomes.push_back((now, failed));
                while self.outcomes.front().is_some_and(|(at, _)| now - *at > within) {
                    self.outcomes.pop_front();
                }
                let count = self.outcomes.iter().filter(|(_, failed)| *failed).count();
                // A few that fail among many that do not are no reason to give up the many.
                let most_fail = count * 2 >= self.outcomes.len();
                if failed && count >= failures && most_fail {
                    return self.open(now, retry, jitter);
                }
                Change::Nothing
            }
        }
    }

    fn open(
        &mut self,
        now: Instant,
        pause: Duration,
        jitter: impl Fn(Duration) -> Duration,
    ) -> Change {
        let shorter = jitter(pause);
        self.phase = Phase::Open { until: now + shorter, pause };
        Change::Opened(shorter)
    }

    /// The call that tried ended before anything came of it: the next one tries.
    fn undecided(&mut self, now: Instant) {
        if let Phase::Trying { pause } = self.phase {
            self.phase = Phase::Open { until: now, pause };
        }
    }
}

impl Breaker {
    /// For the module of that name; `None` if it has none.
    pub(crate) fn new(module: &str, config: Option<BreakerConfig>) -> Option<Arc<Self>> {
        let state = Mutex::new(State::new(config?));
        Some(Arc::new(Self { module: module.to_owned(), state }))
    }

    /// Whether the module may be tried on a call.
    ///
    /// # Errors
    /// Why not, for the log.
    pub(super) fn begin(self: &Arc<Self>, now: Instant) -> Result<Trial, String> {
        match self.state().begin(now) {
            Ok(decides) => {
                Ok(Trial { breaker: Arc::clone(self), decides, now, is_ready: false, over: false })
            }
            Err(left) => {
                METRICS.breaker_refusals.increment();
                Err(format!("not tried: it failed on too many calls (`breaker`), {}", again(left)))
            }
        }
    }

    /// What is to be said of it, if it is not closed.
    pub(crate) fn line(&self, now: Instant) -> Option<String> {
        let left = match self.state().phase {
            Phase::Closed => return None,
            Phase::Open { until, .. } => until - now,
            Phase::Trying { .. } => Duration::ZERO,
        };
        Some(format!("module {} fails on most calls and is left out, {}", self.module, again(left)))
    }

    fn tell(&self, change: Change, reason: &str) {
        let module = &self.module;
        match change {
            Change::Nothing => {}
            Change::Opened(pause) => report(&Report::BreakerOpened { module, reason, pause }),
            Change::Closed => report(&Report::BreakerClosed { module }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What a thread left behind that panicked is as good as ever.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn again(left: Duration) -> String {
    match left.as_secs() {
        0 => "and is tried again now".into(),
        seconds => format!("and is tried again in {seconds} s"),
    }
}

/// A module that is tried on a call, until it is known what came of it.
pub(super) struct Trial {
    breaker: Arc<Breaker>,
    decides: bool,
    /// When something was heard of it last.
    now: Instant,
    is_ready: bool,
    /// What becomes of it now counts no more.
    over: bool,
}

impl Trial {
    /// It agreed to its session.
    pub(super) fn ready(&mut self, now: Instant) {
        self.now = now;
        if !std::mem::replace(&mut self.is_ready, true) && !self.over {
            self.count(false, "");
        }
    }

    /// It failed. Counts once for a call.
    pub(super) fn failed(&mut self, now: Instant, reason: &str) {
        self.now = now;
        if !std::mem::replace(&mut self.over, true) {
            self.count(true, reason);
        }
    }

    /// It said no or that it is busy, which is no fault; or the call is over.
    pub(super) fn excused(&mut self, now: Instant) {
        (self.now, self.over) = (now, true);
    }

    fn count(&mut self, failed: bool, reason: &str) {
        let decides = std::mem::take(&mut self.decides);
        let mut state = self.breaker.state();
        let was_closed = state.phase == Phase::Closed;
        let change = state.outcome(self.now, decides, failed, shortened);
        let is_closed = state.phase == Phase::Closed;
        drop(state);
        match (was_closed, is_closed) {
            (true, false) => METRICS.breakers_open.increment(),
            (false, true) => METRICS.breakers_open.decrement(),
            _ => {}
        }
        self.breaker.tell(change, reason);
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if self.decides {
            self.breaker.state().undecided(self.now);
        }
    }
}

impl Drop for Breaker {
    fn drop(&mut self) {
        if self.state().phase != Phase::Closed {
            METRICS.breakers_open.decrement();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: BreakerConfig = BreakerConfig {
        failures: 5,
        within: Duration::from_secs(60),
        retry: Duration::from_secs(10),
    };

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    fn outcome(state: &mut State, seconds: u64, failed: bool) -> Change {
        let decides = state.begin(at(seconds)).expect("it may be tried");
        state.outcome(at(seconds), decides, failed, |pause| pause)
    }

    /// Open since the fifth second.
    fn open() -> State {
        let mut state = State::new(CONFIG);
        for second in 1..5 {
            assert_eq!(outcome(&mut state, second, true), Change::Nothing);
        }
        assert_eq!(outcome(&mut state, 5, true), Change::Opened(CONFIG.retry));
        state
    }

    #[test]
    fn a_module_that_fails_on_five_calls_is_left_alone_and_then_tried_by_one() {
        let mut state = open();
        assert_eq!(state.begin(at(5)), Err(Duration::from_secs(10)));
        assert_eq!(state.begin(at(14)), Err(Duration::from_secs(1)));
        assert_eq!(state.begin(at(15)), Ok(true));
        assert_eq!(state.begin(at(15)), Err(Duration::ZERO), "one tries, and no other");
        assert_eq!(state.outcome(at(16), true, false, |pause| pause), Change::Closed);
        assert_eq!(state.begin(at(16)), Ok(false));
        assert_eq!(outcome(&mut state, 17, true), Change::Nothing, "what was is forgotten");
    }

    #[test]
    fn each_try_in_vain_doubles_the_pause_up_to_eight_times() {
        let mut state = open();
        let (mut now, mut pauses) = (15, Vec::new());
        for _ in 0..5 {
            let Change::Opened(pause) = outcome(&mut state, now, true) else { panic!("open") };
            pauses.push(pause.as_secs());
            now += pause.as_secs();
        }
        assert_eq!(pauses, [20, 40, 80, 80, 80]);
    }

    #[test]
    fn failures_far_apart_or_among_many_that_are_none_open_nothing() {
        let mut state = State::new(CONFIG);
        for second in 1..100 {
            assert_eq!(outcome(&mut state, second * 16, true), Change::Nothing);
        }
        let mut state = State::new(CONFIG);
        for second in 0..1_000 {
            assert_eq!(outcome(&mut state, second / 50, second % 3 == 0), Change::Nothing);
        }
        assert!(state.outcomes.len() <= MOST_OUTCOMES);
    }

    #[test]
    fn a_module_that_becomes_ready_and_then_crashes_on_every_call_is_found_out() {
        let mut state = State::new(CONFIG);
        let mut changes = Vec::new();
        for second in 1..6 {
            changes.push(outcome(&mut state, second, false));
            changes.push(state.outcome(at(second), false, true, |pause| pause));
        }
        assert_eq!(changes.pop(), Some(Change::Opened(CONFIG.retry)));
        assert!(changes.iter().all(|change| *change == Change::Nothing));
    }

    #[test]
    fn a_call_that_ends_while_it_tries_leaves_it_to_the_next() {
        let breaker = Breaker::new("stt", Some(CONFIG)).expect("it has one");
        *breaker.state() = open();
        METRICS.breakers_open.increment();
        assert!(breaker.begin(at(6)).is_err_and(|why| why.ends_with("tried again in 9 s")));
        drop(breaker.begin(at(15)).expect("one tries"));
        let mut trial = breaker.begin(at(15)).expect("the next tries");
        assert!(breaker.line(at(15)).is_some_and(|line| line.contains("stt")));
        trial.excused(at(16));
        drop(trial);
        let mut trial = breaker.begin(at(16)).expect("busy is no fault");
        trial.failed(at(17), "crashed");
        trial.failed(at(17), "crashed again");
        let Phase::Open { until, pause } = breaker.state().phase else { panic!("open") };
        assert_eq!(pause, Duration::from_secs(20));
        assert!(until > at(17 + 14) && until <= at(17 + 20), "shortened by a quarter at most");
        let mut trial = breaker.begin(until).expect("one tries");
        trial.ready(until);
        assert!(breaker.line(until).is_none());
        trial.failed(until, "crashed later");
        assert!(breaker.begin(until).is_ok());
    }
}
