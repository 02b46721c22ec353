//! Measures a bridge from outside, as providers would load it: many calls, an open schedule, every frame known by its content.
//!
//! *Open schedule*: a frame is due when its time comes, whether or not the last one came back, and its latency counts from then.
//! A bridge that stalls is charged for every frame that became due meanwhile, and so is a generator that is late itself; its
//! lateness is measured and told.

mod caller;
mod figures;
mod metronome;
mod server;

use std::sync::Arc;
use std::time::Duration;

use ringback_proto::provider::Provider;
use tokio::sync::Notify;

use crate::client::WsUrl;
use crate::clock::Clock;

pub use figures::{Figures, Percentiles};
pub use server::{BenchServer, Usage};

/// Frames every caller sends before anything is measured.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long frames may still come back after the last one was sent.
const COOL_DOWN: Duration = Duration::from_millis(500);

/// What to measure.
#[derive(Clone)]
pub struct Plan {
    /// Whose protocol is spoken.
    pub provider: &'static dyn Provider,
    /// Calls at once.
    pub calls: usize,
    /// How long, without the warm-up.
    pub duration: Duration,
}

/// Runs the plan against an echoing bridge at `url`; `tick` is told the share done, 0 to 1.
///
/// # Errors
/// If a call cannot be placed: the run would measure something else than was asked.
pub async fn run(
    clock: Clock,
    plan: &Plan,
    url: &WsUrl,
    usage: impl Fn() -> Option<Usage>,
    tick: impl Fn(f64),
) -> Result<Figures, String> {
    let mut callers = tokio::task::JoinSet::new();
    let start = clock.now() + Duration::from_millis(200);
    let (measure_from, until) = (start + WARM_UP, start + WARM_UP + plan.duration);
    let mut beats = Vec::with_capacity(plan.calls);
    for index in 0..plan.calls {
        let phase = Duration::from_micros(20_000 * index as u64 / plan.calls as u64);
        let schedule = caller::Schedule { first: start + phase, measure_from, until };
        let wake = Arc::new(Notify::new());
        beats.push(metronome::Beat { first: schedule.first, wake: Arc::clone(&wake) });
        callers.spawn(caller::run(clock, plan.provider, url.clone(), index, schedule, wake));
    }
    metronome::start(clock, beats, caller::FRAME, until);
    clock.sleep_until(Some(measure_from)).await;
    let before = usage();
    while clock.now() < until {
        let left = until - clock.now();
        tokio::select! {
            // No caller ends before its time but by failing, and then the run is not what was asked for.
            Some(joined) = callers.join_next() => drop(joined.map_err(|error| error.to_string())??),
            () = clock.sleep_until(Some(clock.now() + left.min(Duration::from_millis(100)))) => {}
        }
        tick(1.0 - (until - clock.now()).as_secs_f64() / plan.duration.as_secs_f64().max(1e-9));
    }
    let after = usage();
    let mut taken = caller::Taken::default();
    while let Some(joined) = callers.join_next().await {
        taken.add(joined.map_err(|error| error.to_string())??);
    }
    Ok(Figures::new(plan, taken, before.zip(after)))
}
