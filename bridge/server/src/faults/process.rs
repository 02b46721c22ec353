//! Rows in which the bridge's process is told to end, killed or made to stand still. The lines are good.

use std::time::Duration;

use super::bridge::{Bridge, ECHO, Signal};
use super::caller::{Call, Counted, End, place};
use super::recording::{self, recorded};
use super::row::{Row, Verdict};
use super::scene::{Scene, forgive_missing, recovery, row_of};
use super::{Fault, Ground, Run};

pub(super) static ROWS: &[Fault] = &[
    Fault {
        id: "F29",
        name: "drain",
        what: "SIGTERM with 200 calls of 1 to 60 s (quick: 50 of 1 to 8 s)",
        how: "SIGTERM, a window of 90 s",
        run: Run::Here(drain),
    },
    Fault {
        id: "F30",
        name: "drain-cut",
        what: "SIGTERM with calls longer than the window",
        how: "SIGTERM, a window of 3 s, calls that are recorded",
        run: Run::Here(cut),
    },
    Fault {
        id: "F32",
        name: "kill-recordings",
        what: "killed while it records 20 calls, 10 times (quick: 8 calls, 3 times)",
        how: "SIGKILL, started again in its folder",
        run: Run::Here(killed),
    },
    Fault {
        id: "F33",
        name: "kill-at-hang-up",
        what: "killed as calls end and their recordings are finished, 10 times (quick: 3)",
        how: "SIGKILL, started again in its folder",
        run: Run::Here(killed_at_end),
    },
    Fault {
        id: "F38",
        name: "paused",
        what: "the bridge stands still for 3 s",
        how: "SIGSTOP, SIGCONT",
        run: Run::Here(paused),
    },
];

const SECOND: Duration = Duration::from_secs(1);

/// Places calls and goes on.
fn placed(ground: &Ground, calls: Vec<Call>) -> Vec<tokio::task::JoinHandle<Counted>> {
    calls.into_iter().map(|call| ground.runtime.spawn(place(ground.clock, call))).collect()
}

fn counted(ground: &Ground, placed: Vec<tokio::task::JoinHandle<Counted>>) -> Vec<Counted> {
    ground.wait(async {
        let mut all = Vec::new();
        for call in placed {
            all.extend(call.await.ok());
        }
        all
    })
}

fn started(bridge: &Bridge, count: usize) -> Result<(), String> {
    let all = |bridge: &Bridge| (bridge.events("call.started").len() >= count).then_some(());
    bridge.until(20 * SECOND, all).ok_or_else(|| format!("{count} calls did not start"))
}

fn drain(ground: &Ground) -> Result<Row, String> {
    let (count, longest) = if ground.quick { (50, 8) } else { (200, 60) };
    let toml = format!("[server]\ndrain_timeout = \"90s\"\n{ECHO}");
    let mut scene = Scene::alone(ground, &toml)?;
    let calls = (0..count).map(|n| {
        let lasts = SECOND * (2 + n % longest);
        Call { linger: SECOND / 2, ..scene.call(&format!("faulted-{n}"), lasts) }
    });
    let calls = calls.collect();
    let under_way = placed(ground, calls);
    started(&scene.bridge, count as usize)?;
    scene.bridge.signal(Signal::Term)?;
    std::thread::sleep(SECOND / 5);
    let late = scene.place(vec![scene.call("late", SECOND)]);
    let counted = counted(ground, under_way);
    let last = scene.bridge.now();
    let status = scene.bridge.wait(10 * SECOND);
    let took = scene.bridge.now() - last;
    let mut row = row_of(&counted, &scene.bridge.ended("faulted-", count as usize)?);
    row.recovery = Some(took);
    let cut = counted.iter().filter(|call| call.end != End::Left).count();
    row.must(cut == 0, || format!("{cut} calls were cut"));
    let missing = row.missing();
    row.should(missing == 0, || format!("{missing} frames are missing"));
    row.must(status.is_some_and(|status| status.success()), || format!("it ended with {status:?}"));
    row.should(took <= 2 * SECOND, || format!("it ended {took:?} after the last call"));
    let refused = matches!(late[0].end, End::Refused(Some(503)));
    row.must(refused, || format!("a call that came meanwhile: {:?}", late[0].end));
    row.notes.push(format!("{count} calls, 0 cut; one that came meanwhile was answered 503"));
    scene.check_panics(&mut row);
    spoil_if_late(&mut row, &counted);
    Ok(row)
}

/// Callers that were late themselves spoil a row without healthy calls: they send in heaps, which are trimmed.
pub(super) fn spoil_if_late(row: &mut Row, counted: &[Counted]) {
    let gaps = counted.iter().flat_map(|call| call.frames.windows(2));
    let longest = gaps.map(|pair| pair[1].0 - pair[0].0).max().unwrap_or_default();
    if longest > Duration::from_millis(60) {
        row.spoiled = Some("the far end itself was late; use a quieter machine");
    }
}

fn cut(ground: &Ground) -> Result<Row, String> {
    let toml = format!("[server]\ndrain_timeout = \"3s\"\n{}", recorded());
    let mut scene = Scene::alone(ground, &toml)?;
    let count = if ground.quick { 10 } else { 50 };
    let call = |n| Call {
        to: scene.bridge.url("recorded"),
        ..scene.call(&format!("faulted-{n}"), 30 * SECOND)
    };
    let under_way = placed(ground, (0..count).map(call).collect());
    started(&scene.bridge, count)?;
    std::thread::sleep(SECOND);
    scene.bridge.signal(Signal::Term)?;
    let told = scene.bridge.now();
    let status = scene.bridge.wait(15 * SECOND);
    let took = scene.bridge.now() - told;
    let counted = counted(ground, under_way);
    let mut row = row_of(&counted, &scene.bridge.ended("faulted-", count)?);
    // What was on its way when the bridge closed is nobody's.
    forgive_missing(&mut row);
    row.recovery = Some(took);
    row.must(status.is_some(), || "it did not end".into());
    row.should(took <= 5 * SECOND, || {
        format!("it ended after {took:?}, and must within the window and 2 s")
    });
    let closed = counted.iter().filter(|call| call.end == End::Closed(1001)).count();
    row.must(closed == count, || format!("{closed} of {count} calls were closed with 1001"));
    // A bridge that ends by itself finishes what it records: all but what the last fifth of a second brought.
    let said = counted.iter().map(|call| call.sent).min().unwrap_or_default();
    recording::check(&mut row, &scene.bridge.folder, count, said.saturating_sub(10), None);
    Ok(row)
}

fn killed(ground: &Ground) -> Result<Row, String> {
    let at = |_: &Bridge, turn| std::thread::sleep(Duration::from_millis(2_500 + 170 * turn));
    let broken = |row: &mut Row, counted: &[Counted], _| {
        let broken = counted.iter().filter(|call| matches!(call.end, End::Broken(_))).count();
        row.felt(broken == counted.len(), || format!("{broken} calls were cut"));
    };
    kill_again_and_again(ground, 30 * SECOND, at, broken)
}

fn killed_at_end(ground: &Ground) -> Result<Row, String> {
    // The callers hang up one after the other, and the bridge is gone in the midst of that.
    let at = |bridge: &Bridge, turn: u64| {
        let before = bridge.events("call.ended").len();
        let some = |bridge: &Bridge| bridge.events("call.ended").len() > before + turn as usize % 3;
        bridge.until(10 * SECOND, |bridge| some(bridge).then_some(()));
    };
    let halfway = |row: &mut Row, counted: &[Counted], unfinished| {
        let all = counted.len();
        row.should((1..all).contains(&unfinished), || {
            format!("of {all} recordings {unfinished} were not finished when the kill came")
        });
    };
    kill_again_and_again(ground, 2 * SECOND, at, halfway)
}

/// Between the ends of two calls that are killed.
const STAGGER: Duration = Duration::from_millis(60);

/// Recordings of the folder that are not finished.
fn unfinished(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder.join("recordings")).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "part")).count()
}

/// Recorded calls of so long, and a kill after `wait`; whether it came when it should is up to `judge`, who is told how many recordings
/// were not finished then.
fn kill_again_and_again(
    ground: &Ground,
    lasts: Duration,
    wait: impl Fn(&Bridge, u64),
    judge: impl Fn(&mut Row, &[Counted], usize),
) -> Result<Row, String> {
    let (times, count) = if ground.quick { (3, 8) } else { (10, 20) };
    let toml = recorded();
    let folder = ground.folder.path(&format!("killed-{}", lasts.as_millis()));
    // A row may be run again, and what was recorded then is none of this.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let (mut row, mut shortest) = (Row::default(), u64::MAX);
    for turn in 0..times {
        let bridge = Bridge::start_in(ground, &folder, &toml)?;
        let begun = bridge.events("call.started").len();
        let mut scene = Scene::around(ground, bridge);
        let call = |n| Call {
            to: scene.bridge.url("recorded"),
            linger: SECOND / 5,
            ..scene.call(&format!("faulted-{turn}-{n}"), lasts + STAGGER * n as u32)
        };
        let under_way = placed(ground, (0..count).map(call).collect());
        started(&scene.bridge, begun + count)?;
        wait(&scene.bridge, turn);
        scene.bridge.signal(Signal::Kill)?;
        let status = scene.bridge.wait(SECOND);
        row.felt(status.is_some_and(|status| status.code().is_none()), || {
            format!("the bridge was killed and ended with {status:?}")
        });
        let counted = counted(ground, under_way);
        judge(&mut row, &counted, unfinished(&folder));
        shortest = counted.iter().map(|call| call.sent).fold(shortest, u64::min);
        row.sent += counted.iter().map(|call| call.sent).sum::<u64>();
        row.back += counted.iter().map(Counted::back).sum::<u64>();
    }
    let again = ground.clock.now();
    let bridge = Bridge::start_in(ground, &folder, &toml)?;
    row.recovery = Some(ground.clock.now() - again);
    std::thread::sleep(SECOND / 2);
    // A second may be lost, and what was on its way.
    let least = shortest.saturating_sub(50 + 5);
    recording::check(&mut row, &bridge.folder, count * times as usize, least, None);
    row.notes.push(format!("killed {times} times; frames are the far ends' count, and the ledgers died with the process"));
    Ok(row)
}

fn paused(ground: &Ground) -> Result<Row, String> {
    let scene = Scene::alone(ground, ECHO)?;
    let lasts = 14 * SECOND;
    let calls: Vec<_> = (0..20).map(|n| scene.call(&format!("faulted-{n}"), lasts)).collect();
    let count = calls.len();
    let under_way = placed(ground, calls);
    started(&scene.bridge, count)?;
    std::thread::sleep(2 * SECOND);
    scene.bridge.signal(Signal::Stop)?;
    std::thread::sleep(3 * SECOND);
    scene.bridge.signal(Signal::Continue)?;
    let resumed = scene.bridge.now();
    let counted = counted(ground, under_way);
    let (mut row, _) = scene.row(&counted)?;
    let silence = counted.iter().map(Counted::longest_silence).min().unwrap_or_default();
    row.felt(silence >= 5 * SECOND / 2, || format!("a call heard nothing for {silence:?} only"));
    let cut = counted.iter().filter(|call| call.end != End::Left).count();
    row.must(cut == 0, || format!("{cut} calls were cut"));
    let back = recovery(&counted, resumed);
    row.recovery = Some(back);
    row.should(back <= 6 * SECOND, || {
        format!("latency was back after {back:?}, and should be within 6 s")
    });
    spoil_if_late(&mut row, &counted);
    scene.finish(row)
}

/// A row that this machine does not let us run.
pub(super) fn cannot(why: impl Into<String>) -> Row {
    Row::judged(Verdict::Elsewhere(why.into()))
}
