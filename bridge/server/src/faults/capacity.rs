//! As many calls as the machine can serve, found by the bridge's own judgement, and then as many again: what it costs those that are
//! there. The lines are good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringback_proto::Instant;
use tokio::task::JoinHandle;

use super::bridge::{Bridge, ECHO};
use super::caller::{Call, Counted, End, place};
use super::process::spoil_if_late;
use super::row::Row;
use super::scene::Scene;
use super::{Fault, Ground, Run};

pub(super) static ROWS: &[Fault] = &[Fault {
    id: "F45",
    name: "twice-capacity",
    what: "the machine serves as many calls as it can, and as many again come",
    how: "calls are added until the bridge refuses one because its thread is late, then as many again are offered several times, with calm in between; each call has a voice detector to cost something",
    run: Run::Here(twice),
}];

/// What makes a call so dear that this program can act out as many as a core serves.
const COSTLY: &str = "[[module]]\nname = \"vad\"\nbuiltin = \"vad\"\n\
                      [[route]]\nname = \"default\"\nmodules = [\"echo\", \"vad\"]\nspeaker = \"echo\"\n";
/// More calls than that this program could not act out.
const MOST: usize = 600;
/// The bridge judges by the last five seconds: for so long it finds its new pace.
const SETTLES: Duration = Duration::from_secs(5);
/// From there on the bridge's thread is near its end, and calls are added slowly.
const NEARLY: f64 = 0.6;
/// Times that as many again are offered: this machine has moods that last some seconds, and the middle one of several counts.
const ROUNDS: usize = 3;
/// What the admitted calls' 99th percentile may grow by.
const GROWS: f64 = 1.2;
/// A difference of less is not one on a machine that others use.
const NOISE: Duration = Duration::from_millis(1);
/// A refusal must not take longer.
const REFUSED_WITHIN: Duration = Duration::from_millis(50);

fn twice(ground: &Ground) -> Result<Row, String> {
    // Without optimisation an echo costs enough by itself.
    let costly = if cfg!(debug_assertions) { "" } else { COSTLY };
    let (calls, connections) = (4 * MOST, 4 * MOST + 10);
    let limits = format!("[limits]\nmax_calls = {calls}\nmax_connections = {connections}\n");
    let toml = format!("{limits}{ECHO}{costly}");
    let scene = Scene::alone(ground, &toml)?;
    let enough = Arc::new(AtomicBool::new(false));
    let crowd = Crowd { ground, bridge: &scene.bridge, enough: &enough };
    let mut placed = crowd.fill();
    std::thread::sleep(SETTLES);
    let (refused, admitted) = finished_first(&mut placed);
    let mut refusals = counted(ground, refused);
    let capacity = admitted.len();
    let window = ground.time(10, 5);
    let (mut taken, mut rounds) = (0, Vec::new());
    for round in 0..ROUNDS {
        let calm = scene.bridge.now();
        std::thread::sleep(window);
        let offered = scene.bridge.now();
        let over = Arc::new(AtomicBool::new(false));
        let more = Crowd { enough: &over, ..crowd };
        let mut more = more.offer(round, capacity, window);
        rounds.push([(calm, offered), (offered, scene.bridge.now())]);
        let (turned_away, others) = finished_first(&mut more);
        over.store(true, Ordering::Relaxed);
        refusals.extend(counted(ground, turned_away));
        // These leave again, so that the next calm is that of the admitted.
        taken += counted(ground, others).len();
    }
    enough.store(true, Ordering::Relaxed);
    let admitted = counted(ground, admitted);
    let (mut row, _) = scene.row(&admitted)?;
    row.notes.push(format!(
        "{capacity} calls were served when the first was refused; of as many again, {ROUNDS} times, {taken} were taken and {} refused",
        refusals.len()
    ));
    let late = scene.bridge.logged("refused reason=\"lag\"").len();
    row.should(late > 0 && !refusals.is_empty(), || {
        format!("the fault was not felt: {capacity} calls did not make the bridge's thread late")
    });
    judge_refusals(&mut row, &refusals);
    for call in &admitted {
        row.must(call.end == End::Left, || format!("{} ended with {:?}", call.name, call.end));
    }
    judge_growth(&mut row, rounds.iter().map(|round| round.map(|window| p99(&admitted, window))));
    spoil_if_late(&mut row, &admitted);
    scene.finish(row)
}

/// By the round in the middle, whatever the machine did in the others.
fn judge_growth(row: &mut Row, rounds: impl Iterator<Item = [Duration; 2]>) {
    let mut rounds: Vec<_> = rounds.collect();
    let growth =
        |[before, during]: &[Duration; 2]| during.as_secs_f64() / before.as_secs_f64().max(1e-6);
    rounds.sort_by(|a, b| growth(a).total_cmp(&growth(b)));
    let all: Vec<_> =
        rounds.iter().map(|[before, during]| format!("{before:.1?} > {during:.1?}")).collect();
    row.notes
        .push(format!("the admitted calls' p99, calm and with as many again: {}", all.join(", ")));
    let [before, during] = rounds[rounds.len() / 2];
    row.others = Some((micros(before), micros(during)));
    row.should(during <= before.mul_f64(GROWS) + NOISE, || {
        format!("admitted calls: p99 {during:?}, before {before:?}: at most {GROWS} times")
    });
}

/// Calls to one bridge.
#[derive(Clone, Copy)]
struct Crowd<'a> {
    ground: &'a Ground,
    bridge: &'a Bridge,
    enough: &'a Arc<AtomicBool>,
}

impl Crowd<'_> {
    fn call(&self, name: &str) -> JoinHandle<Counted> {
        let mut call = Call::new(self.bridge.url("twilio"), name, Duration::from_secs(3_600));
        call.enough = Some(Arc::clone(self.enough));
        self.ground.runtime.spawn(place(self.ground.clock, call))
    }

    /// Adds calls until one is refused, slowly where it cannot be long until then.
    fn fill(&self) -> Vec<JoinHandle<Counted>> {
        let mut placed: Vec<JoinHandle<Counted>> = Vec::new();
        let usage = || crate::bench::usage_of(self.bridge.id()).map(|usage| usage.cpu);
        let (mut looked, mut used, mut share) = (self.bridge.now(), usage(), 0.0);
        while placed.len() < MOST && !placed.iter().any(JoinHandle::is_finished) {
            placed.push(self.call(&format!("faulted-{:04}", placed.len())));
            std::thread::sleep(Duration::from_millis(if share < NEARLY { 40 } else { 250 }));
            let now = self.bridge.now();
            if now - looked >= Duration::from_millis(400) {
                let since = used.zip(usage()).map(|(before, after)| after.saturating_sub(before));
                share = since.map_or(1.0, |cpu| cpu.as_secs_f64() / (now - looked).as_secs_f64());
                (looked, used) = (now, usage());
            }
        }
        placed
    }

    /// Offers so many within a time.
    fn offer(&self, round: usize, count: usize, within: Duration) -> Vec<JoinHandle<Counted>> {
        let began = self.bridge.now();
        let mut placed = Vec::new();
        for at in 0..count {
            let due = began + within.mul_f64(at as f64 / count as f64);
            std::thread::sleep(due - self.bridge.now());
            placed.push(self.call(&format!("more-{round}-{at:04}")));
        }
        std::thread::sleep((began + within) - self.bridge.now());
        placed
    }
}

/// Those that are over, and those that go on.
fn finished_first(
    placed: &mut Vec<JoinHandle<Counted>>,
) -> (Vec<JoinHandle<Counted>>, Vec<JoinHandle<Counted>>) {
    std::mem::take(placed).into_iter().partition(JoinHandle::is_finished)
}

fn counted(ground: &Ground, placed: Vec<JoinHandle<Counted>>) -> Vec<Counted> {
    placed.into_iter().filter_map(|call| ground.wait(call).ok()).collect()
}

fn judge_refusals(row: &mut Row, refusals: &[Counted]) {
    for call in refusals {
        row.must(call.end == End::Refused(Some(503)), || {
            format!("{} ended with {:?}", call.name, call.end)
        });
    }
    let mut took: Vec<_> = refusals.iter().map(|call| call.times[2] - call.times[0]).collect();
    took.sort_unstable();
    let slowest = took.get(took.len() * 99 / 100).copied().unwrap_or_default();
    row.notes.push(format!("the 99th percentile of the refusals took {slowest:?}"));
    row.should(slowest <= REFUSED_WITHIN, || format!("refusals took {slowest:?}"));
}

/// From said to heard, of the frames that were said between two moments; what was never heard is in the ledgers.
fn p99(calls: &[Counted], (from, until): (Instant, Instant)) -> Duration {
    let frames = calls.iter().flat_map(|call| &call.frames);
    let took = frames
        .filter(|(said, _)| *said >= from && *said < until)
        .filter_map(|(said, heard)| heard.map(|heard| heard - *said));
    let mut took: Vec<_> = took.collect();
    took.sort_unstable();
    took.get(took.len() * 99 / 100).copied().unwrap_or_default()
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_round_in_the_middle_decides_what_calls_may_grow_by() {
        let ms = Duration::from_millis;
        for (rounds, is_late) in [
            ([[ms(30), ms(30)], [ms(30), ms(36)], [ms(30), ms(300)]], false),
            ([[ms(300), ms(30)], [ms(30), ms(38)], [ms(30), ms(38)]], true),
            ([[ms(2), ms(3)], [ms(2), ms(3)], [ms(2), ms(3)]], false),
        ] {
            let mut row = Row::default();
            judge_growth(&mut row, rounds.into_iter());
            assert_eq!(!row.late.is_empty(), is_late, "{row:?}");
        }
    }
}
