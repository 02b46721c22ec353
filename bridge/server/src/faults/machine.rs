//! Rows in which the disk, the wall clock or the processor is not as it should be, by means of other programs. The lines are good.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::bridge::{Bridge, ECHO, Under};
use super::caller::{Call, End, place};
use super::process::cannot;
use super::recording::{self, recorded};
use super::row::Row;
use super::scene::Scene;
use super::{Fault, Ground, Run};

pub(super) static ROWS: &[Fault] = &[
    Fault {
        id: "F35",
        name: "disk-slow",
        what: "the disk takes 2 s to keep what it was given, and another says that it cannot (EIO)",
        how: "strace holds up each fdatasync of one bridge, and has those of another fail",
        run: Run::Here(bad_disk),
    },
    Fault {
        id: "F37",
        name: "clock-jumps",
        what: "the wall clock jumps an hour forth and three back",
        how: "libfaketime in the bridge",
        run: Run::Here(clock_jumps),
    },
    Fault {
        id: "F39",
        name: "no-processor",
        what: "four other programs want the bridge's core for 6 s",
        how: "busy loops, and all threads of the bridge, on one core; the far ends may use the others",
        run: Run::Here(no_processor),
    },
];

const SECOND: Duration = Duration::from_secs(1);

/// Calls that are recorded, on a disk of which each fdatasync is treated so.
fn on_disk(ground: &Ground, injected: &str) -> Result<(Row, Vec<Value>), String> {
    let trace = ground.folder.path("strace");
    let _ = std::fs::remove_file(&trace);
    let words = ["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-e", "trace=fdatasync", "-o"];
    let mut program: Vec<_> = words.map(str::to_owned).to_vec();
    program.push(trace.display().to_string());
    program.extend(["-e".to_owned(), format!("inject=fdatasync:{injected}")]);
    let under = Under { program, ..Under::default() };
    let lasts = 6 * SECOND;
    let bridge = Bridge::start_under(ground, &recorded(), &under)?;
    let scene = Scene::beside(ground, bridge, lasts + 2 * SECOND)?;
    let mut calls = scene.calls(lasts);
    calls.iter_mut().for_each(|call| call.to = scene.bridge.url("recorded"));
    let counted = scene.place(calls);
    let (mut row, _) = scene.row(&counted)?;
    for call in &counted {
        row.must(call.end == End::Left, || format!("{} ended with {:?}", call.name, call.end));
    }
    let missing = row.missing();
    row.should(missing == 0, || format!("{missing} frames are missing"));
    let traced = std::fs::read_to_string(&trace).unwrap_or_default();
    let felt = traced.lines().filter(|line| line.contains("INJECTED") || line.contains("DELAYED"));
    let felt = felt.count();
    row.felt(felt >= counted.len(), || format!("{felt} times the disk was not as it should be"));
    row.notes.push(format!("fdatasync:{injected}: {felt} times"));
    // What is written last may have to wait for the disk more than once.
    let unfinished = |bridge: &Bridge| {
        let files = std::fs::read_dir(bridge.folder.join("recordings")).ok()?;
        let is_part = |path: PathBuf| path.extension().is_some_and(|ending| ending == "part");
        (!files.flatten().any(|file| is_part(file.path()))).then_some(())
    };
    scene.bridge.until(15 * SECOND, unfinished);
    let told = [scene.bridge.events("module.failed"), scene.bridge.events("event")].concat();
    if injected.starts_with("delay") {
        // What the recorder is told last waits for the disk, longer than the call, and is written all the same.
        let said = counted.iter().map(|call| call.sent).min().unwrap_or_default();
        let whole = Some("finished");
        recording::check(&mut row, &scene.bridge.folder, counted.len(), said, whole);
    } else {
        // The first sync of each was good, and what it had kept is there to be played.
        recording::check(&mut row, &scene.bridge.folder, counted.len(), 1, Some("failed"));
    }
    Ok((scene.finish(row)?, told))
}

fn bad_disk(ground: &Ground) -> Result<Row, String> {
    let tried = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    if !tried.is_ok_and(|status| status.success()) {
        return Ok(cannot("it takes strace, and its leave to trace what it starts"));
    }
    let (slow, _) = on_disk(ground, "delay_enter=2000000")?;
    let (mut failing, told) = on_disk(ground, "error=EIO:when=3+")?;
    let recorder = |event: &&Value| event["module"] == "recorder";
    let reasons = told.iter().filter(recorder).filter_map(|event| event["reason"].as_str());
    let reason = reasons.into_iter().find(|reason| reason.contains("os error 5"));
    failing.must(reason.is_some(), || format!("nobody was told of the disk: {told:?}"));
    failing.notes.extend(reason.map(|reason| format!("told: {reason}")));
    Ok(slow.and(failing))
}

/// Where distributions keep it.
fn libfaketime() -> Option<PathBuf> {
    let folders = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    let machines = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let folders = folders.into_iter().chain(machines.map(|entry| entry.path()));
    folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|file| file.is_file())
}

fn clock_jumps(ground: &Ground) -> Result<Row, String> {
    let Some(library) = libfaketime() else {
        return Ok(cannot("it takes libfaketime (Debian's package of that name)"));
    };
    let offset = ground.folder.path("clock");
    let set = |text: &str| std::fs::write(&offset, text).map_err(|error| error.to_string());
    set("+0")?;
    let environment = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", offset.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let under = Under { environment, ..Under::default() };
    let bridge = Bridge::start_under(ground, ECHO, &under)?;
    let scene = Scene::beside(ground, bridge, 9 * SECOND)?;
    let first: Vec<_> = scene.calls(7 * SECOND);
    let under_way: Vec<_> =
        first.into_iter().map(|call| ground.runtime.spawn(place(ground.clock, call))).collect();
    std::thread::sleep(2 * SECOND);
    set("+3600")?;
    std::thread::sleep(SECOND / 2);
    let short = |name| Call { linger: SECOND / 2, ..scene.call(name, SECOND) };
    let mut counted = scene.place(vec![short("faulted-forth")]);
    set("-7200")?;
    std::thread::sleep(SECOND / 2);
    counted.extend(scene.place(vec![short("faulted-back")]));
    for call in under_way {
        counted.push(ground.wait(call).map_err(|error| error.to_string())?);
    }
    let (mut row, ended) = scene.row(&counted)?;
    for call in &counted {
        row.must(call.end == End::Left, || format!("{} ended with {:?}", call.name, call.end));
    }
    let missing = row.missing();
    row.should(missing == 0, || format!("{missing} frames are missing"));
    let started = scene.bridge.events("call.started");
    // The hour as it stands in a time of RFC 3339.
    let hour = |events: &[Value], name: &str| -> Option<String> {
        let event = events.iter().find(|event| event["provider_call"] == name)?;
        event["at"].as_str()?.get(11..13).map(str::to_owned)
    };
    let hours = ["faulted-0", "faulted-forth", "faulted-back"].map(|name| hour(&started, name));
    let differ = hours[0] != hours[1] && hours[1] != hours[2] && hours[0] != hours[2];
    row.felt(differ, || format!("calls began in the hours {hours:?}"));
    // Whose wall clock went back by two hours and forth by one in between lasted as long as it did.
    let lasted = ended.iter().filter_map(|end| end["duration_ms"].as_u64()).max();
    row.must(lasted.is_some_and(|ms| (7_500..12_000).contains(&ms)), || {
        format!("the longest call is said to have lasted {lasted:?} ms")
    });
    row.notes.push(format!("calls began in the hours {hours:?} of the bridge's wall clock"));
    scene.finish(row)
}

fn no_processor(ground: &Ground) -> Result<Row, String> {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return Ok(cannot("the far end that counts would starve as well: it takes a second core"));
    }
    let scene = Scene::alone(ground, ECHO)?;
    let waited = || crate::bench::usage_of(scene.bridge.id()).map(|usage| usage.waited);
    let lasts = 6 * SECOND;
    let hogs = Hogs::beside(&scene.bridge)?;
    let before = waited();
    let counted =
        scene.place((0..10).map(|n| scene.call(&format!("faulted-{n}"), lasts)).collect());
    let waited = waited().zip(before).map(|(after, before)| after.saturating_sub(before));
    let taken = hogs.used();
    drop(hogs);
    let freed = scene.bridge.now();
    let after = scene.place(vec![scene.call("faulted-after", SECOND)]);
    let all = [counted.clone(), after].concat();
    let (mut row, _) = scene.row(&all)?;
    // How long it has to wait is the scheduler's: somebody who sleeps nearly all the time is let before those who never do.
    // On a busy machine others take of the core what these would, and the bridge waits for them.
    let kept_waiting = waited.is_some_and(|waited| waited >= lasts / 10);
    row.felt(taken >= lasts / 2 || kept_waiting, || format!("{taken:?} of its core were taken"));
    row.should(waited.is_some_and(|waited| waited >= lasts / 50), || {
        format!("the fault was not felt: the bridge waited {waited:?} for its core")
    });
    for call in &all {
        row.must(call.end == End::Left, || format!("{} ended with {:?}", call.name, call.end));
    }
    row.recovery = Some(super::scene::recovery(&all, freed));
    let named: u64 = row.lost.values().sum();
    row.notes.push(format!(
        "the bridge had {:.1} s of {:.0} s to wait for its core; {} frames are missing, {named} named",
        waited.unwrap_or_default().as_secs_f64(),
        lasts.as_secs_f64(),
        row.missing()
    ));
    scene.finish(row)
}

/// Programs that do nothing, as fast as they can, where the bridge is; gone with this.
struct Hogs(Vec<Child>);

impl Hogs {
    /// They end by themselves after some seconds of computing, should nobody be left to end them.
    const LOOP: &str = "ulimit -t 15; while :; do :; done";
    const COUNT: usize = 4;

    fn beside(bridge: &Bridge) -> Result<Self, String> {
        let mut hogs = Self(Vec::new());
        let core = last_core();
        pin(bridge.id(), core)?;
        for _ in 0..Self::COUNT {
            let mut command = Command::new("sh");
            command.args(["-c", Self::LOOP]).stdin(Stdio::null());
            let child = command.spawn().map_err(|error| format!("cannot start sh: {error}"))?;
            let id = child.id();
            hogs.0.push(child);
            pin(id, core)?;
        }
        Ok(hogs)
    }
}

impl Hogs {
    /// What they had of the core.
    fn used(&self) -> Duration {
        let ids = self.0.iter().map(Child::id);
        ids.filter_map(crate::bench::usage_of).map(|usage| usage.cpu).sum()
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}

#[cfg(target_os = "linux")]
fn last_core() -> usize {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU).rev().find(|&core| set.is_set(core)).unwrap_or_default()
}

/// Puts all threads of a process on one core.
#[cfg(target_os = "linux")]
fn pin(id: u32, core: usize) -> Result<(), String> {
    use rustix::process::Pid;
    use rustix::thread::{CpuSet, sched_setaffinity};
    let mut set = CpuSet::new();
    set.set(core);
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).map_err(|e| e.to_string())?;
    for thread in threads.flatten() {
        let id = thread.file_name().to_str().and_then(|name| name.parse().ok());
        let id = id.and_then(Pid::from_raw).ok_or("a thread has no number")?;
        sched_setaffinity(Some(id), &set).map_err(|error| format!("cannot pin: {error}"))?;
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn last_core() -> usize {
    0
}

#[cfg(not(target_os = "linux"))]
fn pin(_: u32, _: usize) -> Result<(), String> {
    Err("processes are put on a core on Linux only".into())
}
