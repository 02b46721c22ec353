//! When the bridge has too much to do for new calls, and what it gives up before any sound: decided from figures that are read once
//! a second. Costs a call nothing, and refuses nobody by itself.
//!
//! A call that is refused in time is taken by the provider's fallback; one that is taken and then stutters is lost, and the others with
//! it. So new calls are refused first, then captures have gaps, and live sound is never touched.

mod figures;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

pub(crate) use figures::raise_descriptors;

use crate::listener::{Refusal, Shortage};
use crate::telemetry::{EdgeReport, METRICS, report_edge};
use crate::workers::Lags;

/// With fewer calls than that it is not they who keep a machine busy, and refusing one more would help nobody.
const FEW_CALLS: u64 = 50;
/// How often the figures are read.
const PERIOD: Duration = Duration::from_secs(1);

/// What may be used up before new calls are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How late a thread that serves calls may come to them, 99 times of 100 in five seconds; `None` is as late as it likes.
    pub max_lag: Option<Duration>,
    /// Octets of memory that this process may take; `None` leaves what the system allows.
    pub max_memory: Option<u64>,
}

impl Default for Bounds {
    fn default() -> Self {
        // A frame of sound: later than that, calls would be heard to stutter.
        Self { max_lag: Some(Duration::from_millis(20)), max_memory: None }
    }
}

/// So much of so much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) used: u64,
    pub(crate) of: u64,
}

impl Share {
    fn ratio(self) -> f64 {
        self.used as f64 / self.of.max(1) as f64
    }
}

/// What is used, as far as the system tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Calls, and streams that are passed on.
    pub(crate) calls: u64,
    /// Of the thread that is latest.
    pub(crate) lag: Option<Duration>,
    pub(crate) memory: Option<Share>,
    pub(crate) descriptors: Option<Share>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    #[default]
    Calm,
    /// No new calls.
    Refusing,
    /// Nor what is for looking at calls later.
    Shedding,
}

/// Shares of a bound at which something is done. What has begun goes on until there is room again, not until there is just enough: the
/// next call would use that up.
struct Steps {
    calm: f64,
    refuse: f64,
    shed: f64,
}

const LAG: Steps = Steps { calm: 0.5, refuse: 1.0, shed: 2.0 };
const MEMORY: Steps = Steps { calm: 0.80, refuse: 0.85, shed: 0.92 };
/// A capture has one file for each call, so that shedding would bring none back.
const DESCRIPTORS: Steps = Steps { calm: 0.85, refuse: 0.90, shed: f64::INFINITY };

impl Level {
    /// What follows on `self` where this share of a bound is used. What the system does not tell is no reason.
    fn next(self, share: Option<f64>, steps: &Steps) -> Self {
        match share {
            Some(share) if share >= steps.shed => Self::Shedding,
            Some(share) if share >= steps.refuse => Self::Refusing,
            Some(share) if share >= steps.calm => self.min(Self::Refusing),
            _ => Self::Calm,
        }
    }
}

/// What there is too little of, and how bad it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Strain {
    lag: Level,
    memory: Level,
    descriptors: Level,
}

impl Strain {
    /// What follows on `self` with this load.
    fn next(self, load: &Load, bounds: &Bounds) -> Self {
        let lag = load.lag.filter(|_| load.calls >= FEW_CALLS).zip(bounds.max_lag);
        let lag = lag.map(|(lag, most)| lag.as_secs_f64() / most.as_secs_f64());
        Self {
            lag: self.lag.next(lag, &LAG),
            memory: self.memory.next(load.memory.map(Share::ratio), &MEMORY),
            descriptors: self.descriptors.next(load.descriptors.map(Share::ratio), &DESCRIPTORS),
        }
    }

    /// For what new calls are refused. Where it is several things, the one that takes longest to be over.
    fn shortage(&self) -> Option<Shortage> {
        let strained = [
            (self.memory, Shortage::Memory),
            (self.descriptors, Shortage::Descriptors),
            (self.lag, Shortage::Lag),
        ];
        strained.into_iter().find(|(level, _)| *level > Level::Calm).map(|(_, shortage)| shortage)
    }

    fn worst(&self) -> Level {
        self.lag.max(self.memory).max(self.descriptors)
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1024 * 1024;
        let mut told = Vec::new();
        if let Some(lag) = self.lag {
            told.push(format!("calls are served up to {} ms late", lag.as_millis()));
        }
        if let Some(Share { used, of }) = self.memory {
            told.push(format!("{} of {} MiB of memory are used", used / MIB, of / MIB));
        }
        if let Some(Share { used, of }) = self.descriptors {
            told.push(format!("{used} of {of} descriptors are used"));
        }
        f.write_str(&told.join(", "))
    }
}

/// What holds now. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Overload(Arc<Now>);

#[derive(Debug, Default)]
struct Now {
    /// Locked once for each call that wants in, and once a second.
    strain: Mutex<(Strain, Load)>,
    sheds: AtomicBool,
}

impl Overload {
    /// No to one more call, if there is too little of something.
    ///
    /// # Errors
    /// The refusal becomes the HTTP answer.
    pub fn room(&self) -> Result<(), Refusal> {
        let now = self.now();
        match now.0.shortage() {
            None => Ok(()),
            Some(shortage) => Err(Refusal::overloaded(shortage, now.1.to_string())),
        }
    }

    /// Whether what is for looking at calls later should be left out. Costs next to nothing.
    #[must_use]
    pub fn sheds(&self) -> bool {
        self.0.sheds.load(Ordering::Relaxed)
    }

    /// What there is too little of, in a sentence.
    #[must_use]
    pub fn line(&self) -> Option<String> {
        let now = self.now();
        let shortage = now.0.shortage()?.name();
        let sheds = if self.sheds() { "; captures have gaps" } else { "" };
        Some(format!("new calls are refused ({shortage}): {}{sheds}", now.1))
    }

    /// Looks at the load once a second and decides anew. Goes on for as long as it is polled.
    pub(crate) async fn watch(self, bounds: Bounds, lags: Lags) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let lags = lags.clone();
            // Reads files that the kernel makes up, which takes it some microseconds, and milliseconds with many descriptors.
            let read = tokio::task::spawn_blocking(move || figures::read(&bounds, &lags)).await;
            if let Ok(load) = read {
                self.take(load, &bounds);
            }
        }
    }

    /// Has captures left out or not, whatever the load is.
    #[cfg(test)]
    pub(crate) fn pretend(&self, sheds: bool) {
        self.0.sheds.store(sheds, Ordering::Relaxed);
    }

    fn take(&self, load: Load, bounds: &Bounds) {
        let before = {
            let mut now = self.now();
            let before = now.0;
            *now = (before.next(&load, bounds), load);
            before
        };
        let after = self.now().0;
        self.0.sheds.store(after.worst() == Level::Shedding, Ordering::Relaxed);
        METRICS.worker_lag_us.set(load.lag.unwrap_or_default().as_micros() as u64);
        for (share, used, of) in [
            (load.memory, &METRICS.memory_used, &METRICS.memory_limit),
            (load.descriptors, &METRICS.descriptors_used, &METRICS.descriptors_limit),
        ] {
            let Share { used: now, of: most } = share.unwrap_or(Share { used: 0, of: 0 });
            used.set(now);
            of.set(most);
        }
        METRICS.overload_level.set(after.worst() as u64);
        if before.worst() != after.worst() {
            let load = load.to_string();
            report_edge(&EdgeReport::Strained {
                refuses: after.shortage().map(Shortage::name),
                sheds: after.worst() == Level::Shedding,
                load: &load,
            });
        }
    }

    fn now(&self) -> MutexGuard<'_, (Strain, Load)> {
        // What is in it is whole, whatever became of who put it there.
        self.0.strain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { max_lag: Some(Duration::from_millis(20)), max_memory: None };

    fn late(ms: u64) -> Load {
        Load { calls: FEW_CALLS, lag: Some(Duration::from_millis(ms)), ..Load::default() }
    }

    fn share(percent: u64) -> Option<Share> {
        Some(Share { used: percent, of: 100 })
    }

    /// What is refused and shed, one load after the other.
    fn told(loads: impl IntoIterator<Item = Load>) -> Vec<(Option<&'static str>, bool)> {
        let mut strain = Strain::default();
        let tell = |load| {
            strain = strain.next(&load, &BOUNDS);
            (strain.shortage().map(Shortage::name), strain.worst() == Level::Shedding)
        };
        loads.into_iter().map(tell).collect()
    }

    #[test]
    fn new_calls_are_refused_before_anything_is_shed_and_until_there_is_room_again() {
        let lag = |sheds| (Some("lag"), sheds);
        let calm = (None, false);
        let found = told([0, 10, 19, 20, 19, 39, 40, 39, 10, 9, 10, 19].map(late));
        let expected = [
            calm,
            calm,
            calm,
            lag(false),
            lag(false),
            lag(false),
            lag(true),
            lag(false),
            lag(false),
            calm,
            calm,
            calm,
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn memory_and_descriptors_are_kept_in_reserve() {
        let memory = |percent| Load { memory: share(percent), ..Load::default() };
        let found = told([84, 85, 91, 92, 91, 80, 79].map(memory));
        let refused = |sheds| (Some("memory"), sheds);
        let calm = (None, false);
        assert_eq!(
            found,
            [
                calm,
                refused(false),
                refused(false),
                refused(true),
                refused(false),
                refused(false),
                calm
            ]
        );
        let descriptors = |percent| Load { descriptors: share(percent), ..Load::default() };
        let refused = (Some("descriptors"), false);
        let found = told([89, 90, 100, 85, 84].map(descriptors));
        assert_eq!(found, [calm, refused, refused, refused, calm]);
    }

    #[test]
    fn what_takes_longest_is_told_and_what_nobody_knows_is_no_reason() {
        let all = Load { memory: share(90), descriptors: share(95), ..late(50) };
        assert_eq!(told([all]), [(Some("memory"), true)]);
        assert_eq!(told([all, Load::default()])[1], (None, false));
        let anything = Bounds { max_lag: None, max_memory: None };
        assert_eq!(Strain::default().next(&late(5_000), &anything).shortage(), None);
    }

    #[test]
    fn whoever_asks_is_told_why_and_sooner_or_later_taken() {
        let overload = Overload::default();
        assert_eq!((overload.room(), overload.line()), (Ok(()), None));
        overload.take(Load { descriptors: share(95), ..late(45) }, &BOUNDS);
        let refusal = overload.room().unwrap_err();
        assert_eq!((refusal.status, refusal.code), (503, Some("descriptors")));
        let why = "calls are served up to 45 ms late, 95 of 100 descriptors are used";
        assert_eq!(refusal.reason, why);
        assert!(!refusal.public.contains("descriptors"), "that is nobody's business");
        let line = format!("new calls are refused (descriptors): {why}; captures have gaps");
        assert_eq!(overload.line(), Some(line));
        assert!(overload.sheds());
        overload.take(late(1), &BOUNDS);
        assert_eq!((overload.room(), overload.line(), overload.sheds()), (Ok(()), None, false));
    }
}
