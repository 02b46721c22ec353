//! Calls that come and go as fast as the machine lets them, for long, and what the bridge has left of them. No fault is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::bridge::{Bridge, ECHO, PATIENCE};
use super::caller::{Call, End, place};
use super::row::Row;
use super::scene::Scene;
use super::{Fault, Ground, Run};
use crate::clock::Clock;

pub(super) static ROWS: &[Fault] = &[Fault {
    id: "F44",
    name: "soak",
    what: "calls are set up and end without a pause for 10 min (quick: 30 s; or --seconds)",
    how: "40 callers who call again and again; memory is sampled, and a line laid through the samples",
    run: Run::Here(soak),
}];

/// Callers at a time: fewer than those of whom a bridge on a slow machine would refuse some.
const CALLERS: usize = 40;
/// Before a caller calls again who was not served.
const BREATH: Duration = Duration::from_millis(200);
/// What each says before it hangs up, and how long it listens then: short, for it is beginning and ending that may leave something.
const SAYS: Duration = Duration::from_millis(40);
/// One call of so many is a long one.
const LONG_OF: u64 = 500;
/// It fills its ring and writes over it.
const LONG: Duration = Duration::from_secs(12);
/// Between two samples of the memory.
const SAMPLED_EVERY: Duration = Duration::from_millis(250);
/// The share of the time in which memory may grow as it likes: buffers find their size.
const WARM_UP: f64 = 0.4;
/// Less than this may be a single step, in KiB, where what is looked at is shorter than so many seconds.
const STEP_KIB: f64 = 512.0;
const LONG_ENOUGH_S: f64 = 300.0;
/// What memory may grow by in the rest of the time.
const MOST_GROWTH: f64 = 0.01;
/// Descriptors that may be open beside those that were before the first call.
const SPARE_DESCRIPTORS: usize = 3;

/// What callers counted.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    calls: u64,
    sent: u64,
    back: u64,
    twice: u64,
    /// Calls that did not end by their caller's hanging up.
    ended_otherwise: u64,
}

fn soak(ground: &Ground) -> Result<Row, String> {
    let lasts = ground.seconds.unwrap_or_else(|| ground.time(600, 30));
    let scene = Scene::around(ground, Bridge::start_silent(ground, ECHO)?);
    let descriptors = descriptors(&scene.bridge);
    let over = Arc::new(AtomicBool::new(false));
    let to = scene.bridge.url("twilio");
    let callers: Vec<_> = (0..CALLERS)
        .map(|at| {
            let (to, over) = (to.clone(), Arc::clone(&over));
            let call = move |turn| {
                let name = format!("faulted-{at}-{turn}");
                // Not all callers at the same time.
                let first = at as u64 * LONG_OF / CALLERS as u64;
                let is_long = (turn + first) % LONG_OF == LONG_OF - 1;
                let says = if is_long { LONG } else { SAYS };
                Call { linger: SAYS, ..Call::new(to.clone(), &name, says) }
            };
            ground.runtime.spawn(again_and_again(ground.clock, call, over))
        })
        .collect();
    let samples = sample(&scene.bridge, lasts);
    over.store(true, Ordering::Relaxed);
    let mut tally = Tally::default();
    for caller in callers {
        let one = ground.wait(caller).map_err(|error| error.to_string())?;
        tally.calls += one.calls;
        tally.sent += one.sent;
        tally.back += one.back;
        tally.twice += one.twice;
        tally.ended_otherwise += one.ended_otherwise;
    }
    let mut row = Row { sent: tally.sent, back: tally.back, twice: tally.twice, ..Row::default() };
    judge_calls(&mut row, &scene.bridge, tally, lasts);
    judge_memory(&mut row, &samples, tally.calls as f64 / lasts.as_secs_f64());
    let freed = scene.bridge.until(PATIENCE, |bridge| {
        let streams = bridge.figure("ringback_streams")?;
        let open = self::descriptors(bridge);
        (streams == 0 && open <= descriptors + SPARE_DESCRIPTORS).then_some(())
    });
    row.must(freed.is_some(), || {
        let open = self::descriptors(&scene.bridge);
        format!("{open} descriptors are open, and {descriptors} were before the first call")
    });
    scene.finish(row)
}

async fn again_and_again(clock: Clock, call: impl Fn(u64) -> Call, over: Arc<AtomicBool>) -> Tally {
    let mut tally = Tally::default();
    while !over.load(Ordering::Relaxed) {
        let counted = place(clock, call(tally.calls)).await;
        tally.calls += 1;
        tally.sent += counted.sent;
        tally.back += counted.back();
        tally.twice += counted.twice;
        if counted.end != End::Left {
            tally.ended_otherwise += 1;
            tokio::time::sleep(BREATH).await;
        }
    }
    tally
}

/// Seconds and KiB.
fn sample(bridge: &Bridge, lasts: Duration) -> Vec<(f64, f64)> {
    let began = bridge.now();
    let mut samples = Vec::new();
    while bridge.now() - began < lasts {
        std::thread::sleep(SAMPLED_EVERY);
        let memory = bridge.rss_kib();
        samples.extend(memory.map(|kib| ((bridge.now() - began).as_secs_f64(), kib as f64)));
    }
    samples
}

fn judge_calls(row: &mut Row, bridge: &Bridge, tally: Tally, lasts: Duration) {
    let Tally { calls, ended_otherwise, twice, .. } = tally;
    let rate = calls as f64 / lasts.as_secs_f64();
    row.notes.push(format!(
        "{calls} calls were set up and ended, {rate:.0} a second, {:.2} % of a million",
        calls as f64 / 1e4
    ));
    row.felt(rate >= 10.0, || format!("{rate:.0} calls a second"));
    row.must(ended_otherwise == 0, || format!("{ended_otherwise} calls were cut or refused"));
    row.must(twice == 0, || format!("{twice} frames came twice"));
    let missing = row.missing();
    row.should(missing == 0, || format!("{missing} frames are missing"));
    let known = bridge.figure("ringback_calls_started_total");
    row.must(known == Some(calls), || format!("the bridge knows of {known:?} of {calls} calls"));
    for defect in ["ringback_ledgers_unbalanced_total", "ringback_stream_panics_total"] {
        let count = bridge.figure(defect);
        row.must(count == Some(0), || format!("{defect} is {count:?}"));
    }
}

fn judge_memory(row: &mut Row, samples: &[(f64, f64)], rate: f64) {
    let warm = (samples.len() as f64 * WARM_UP) as usize;
    let Some((slope, mean)) = line_through(&samples[warm..]) else {
        return row.wrong.push("this system does not tell how much memory is used".into());
    };
    let over = samples.last().map_or(0.0, |last| last.0) - samples[warm].0;
    let growth = slope * over / mean;
    row.notes.push(format!(
        "memory {mean:.0} KiB; the line through {} samples of {over:.0} s rises by {slope:.2} KiB a second, {:.2} % in that time \
         (at most {:.0} %), {:.1} octets a call",
        samples.len() - warm,
        100.0 * growth,
        100.0 * MOST_GROWTH,
        1_024.0 * slope / rate.max(1e-9)
    ));
    // In a short time one step of the allocator looks like a slope.
    let is_step = over < LONG_ENOUGH_S && slope * over <= STEP_KIB;
    let is_leak = growth > MOST_GROWTH && !is_step;
    row.must(!is_leak, || format!("memory grew by {:.2} % after the warm-up", 100.0 * growth));
}

/// The slope of the line that is nearest to these points by least squares, and their mean height.
fn line_through(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / count, y / count);
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let common: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    (points.len() >= 2 && spread > 0.0).then(|| (common / spread, y))
}

fn descriptors(bridge: &Bridge) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", bridge.id())).map_or(0, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_shows_in_the_line_through_noisy_samples() {
        let noisy = |leak: f64| -> Vec<_> {
            let noise = |at: usize| if at.is_multiple_of(2) { 20.0 } else { -20.0 };
            (0..100)
                .map(|at| (at as f64 / 4.0, 10_000.0 + leak * at as f64 / 4.0 + noise(at)))
                .collect()
        };
        for (leak, fails) in [(0.0, false), (1.0, false), (60.0, true), (-50.0, false)] {
            let mut row = Row::default();
            judge_memory(&mut row, &noisy(leak), 100.0);
            assert_eq!(!row.wrong.is_empty(), fails, "{leak}: {row:?}");
        }
        // Over minutes, one percent is one percent.
        for (growth_kib, fails) in [(90.0, false), (110.0, true)] {
            let samples: Vec<_> = (0..2_401_u32)
                .map(|at| (f64::from(at) / 4.0, 10_000.0 + growth_kib * f64::from(at) / 1_440.0))
                .collect();
            let mut row = Row::default();
            judge_memory(&mut row, &samples, 100.0);
            assert_eq!(!row.wrong.is_empty(), fails, "{growth_kib}: {row:?}");
        }
        let (slope, mean) = line_through(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]).expect("a line");
        assert!((slope - 2.0).abs() < 1e-9 && (mean - 3.0).abs() < 1e-9);
        assert_eq!((line_through(&[]), line_through(&[(1.0, 1.0)])), (None, None));
    }
}
