//! Rows in which the bridge's process is told to end, killed or made to stand still. The lines are good.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ringback_codecs::wav;

use super::bridge::{Bridge, ECHO, Signal};
use super::caller::{Call, Counted, End, Leave, place};
use super::row::{Row, Verdict};
use super::scene::{Scene, recovery, row_of};
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
        id: "F31",
        name: "rolling-restart",
        what: "three bridges behind a load balancer are replaced one after the other",
        how: "HAProxy",
        run: Run::Elsewhere("it takes HAProxy and three addresses; the drain it rests on is F29"),
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

const RECORDED: &str = "[[module]]\nname = \"recorder\"\nbuiltin = \"recorder\"\nconfig = { dir = \"recordings\" }\n\
                        [[route]]\nname = \"default\"\nmodules = [\"echo\", \"recorder\"]\nspeaker = \"echo\"\n";

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
fn spoil_if_late(row: &mut Row, counted: &[Counted]) {
    let gaps = counted.iter().flat_map(|call| call.frames.windows(2));
    let longest = gaps.map(|pair| pair[1].0 - pair[0].0).max().unwrap_or_default();
    if longest > Duration::from_millis(60) {
        row.spoiled = Some("the far end itself was late; use a quieter machine");
    }
}

fn cut(ground: &Ground) -> Result<Row, String> {
    let toml = format!("[server]\ndrain_timeout = \"3s\"\n{ECHO}{RECORDED}");
    let mut scene = Scene::alone(ground, &toml)?;
    let count = if ground.quick { 10 } else { 50 };
    let call = |n| scene.call(&format!("faulted-{n}"), 30 * SECOND);
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
    row.wrong.retain(|wrong| !wrong.contains("are missing"));
    row.recovery = Some(took);
    row.must(status.is_some(), || "it did not end".into());
    row.should(took <= 5 * SECOND, || {
        format!("it ended after {took:?}, and must within the window and 2 s")
    });
    let closed = counted.iter().filter(|call| call.end == End::Closed(1001)).count();
    row.must(closed == count, || format!("{closed} of {count} calls were closed with 1001"));
    check_recordings(&mut row, &scene.bridge.folder, count, 3 * SECOND);
    Ok(row)
}

/// Each of so many recordings can be played and is no shorter than that.
fn check_recordings(row: &mut Row, folder: &Path, count: usize, least: Duration) {
    let files = recordings(folder);
    row.must(files.len() == count, || format!("{} recordings of {count} calls", files.len()));
    let mut shortest = Duration::MAX;
    for file in &files {
        match length(file) {
            Ok(length) => shortest = shortest.min(length),
            Err(error) => row.wrong.push(format!("{}: {error}", file.display())),
        }
    }
    if !files.is_empty() {
        row.notes.push(format!("{} recordings, the shortest {shortest:?}", files.len()));
    }
    row.must(files.is_empty() || shortest >= least, || {
        format!("a recording has {shortest:?}, and should have {least:?}")
    });
}

fn recordings(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("recordings")).into_iter().flatten().flatten();
    let is_sound = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "wav");
    entries.map(|entry| entry.path()).filter(is_sound).collect()
}

fn length(file: &Path) -> Result<Duration, String> {
    let reader = std::fs::File::open(file).map_err(|error| error.to_string())?;
    let wav = wav::read(std::io::BufReader::new(reader)).map_err(|error| error.to_string())?;
    let samples = wav.samples.len() as u64 / u64::from(wav.channels.max(1));
    Ok(wav.rate.duration_of(samples))
}

fn killed(ground: &Ground) -> Result<Row, String> {
    let (times, count) = if ground.quick { (3, 8) } else { (10, 20) };
    kill_again_and_again(ground, times, count, 30 * SECOND, |turn| {
        Duration::from_millis(2_500 + 170 * turn)
    })
}

fn killed_at_end(ground: &Ground) -> Result<Row, String> {
    let (times, count) = if ground.quick { (3, 8) } else { (10, 20) };
    // The callers hang up after 1.5 s, and the bridge is gone at about that time.
    kill_again_and_again(ground, times, count, SECOND / 2, |turn| {
        Duration::from_millis(1_480 + 15 * turn)
    })
}

fn kill_again_and_again(
    ground: &Ground,
    times: u64,
    count: usize,
    lasts: Duration,
    after: impl Fn(u64) -> Duration,
) -> Result<Row, String> {
    let toml = format!("{ECHO}{RECORDED}");
    let folder = ground.folder.path(&format!("killed-{}", lasts.as_millis()));
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let mut row = Row::default();
    for turn in 0..times {
        let bridge = Bridge::start_in(ground, &folder, &toml)?;
        let begun = bridge.events("call.started").len();
        let scene = Scene::around(ground, bridge);
        let call =
            |n| Call { leave: Leave::HangUp, ..scene.call(&format!("faulted-{turn}-{n}"), lasts) };
        let under_way = placed(ground, (0..count).map(call).collect());
        started(&scene.bridge, begun + count)?;
        std::thread::sleep(after(turn));
        scene.bridge.signal(Signal::Kill)?;
        let counted = counted(ground, under_way);
        row.sent += counted.iter().map(|call| call.sent).sum::<u64>();
        row.back += counted.iter().map(Counted::back).sum::<u64>();
    }
    let again = ground.clock.now();
    let bridge = Bridge::start_in(ground, &folder, &toml)?;
    row.recovery = Some(ground.clock.now() - again);
    std::thread::sleep(SECOND / 2);
    let least = after(0).min(lasts).saturating_sub(SECOND);
    check_recordings(&mut row, &bridge.folder, count * times as usize, least);
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
