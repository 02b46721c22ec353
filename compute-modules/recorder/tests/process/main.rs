//! Recorders as processes that are killed and whose disks are full or fail: what is left on disk, and that it is good. Unix only: so
//! are the ways to fail.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test whose ground gives way has failed")]

mod recorders;

use std::path::{Path, PathBuf};
use std::process::Command;

use recorders::{PIECE, Recorders};
use ringback_recorder::{About, Outcome, State, repair};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::json;

const RECORDER: &str = env!("CARGO_BIN_EXE_ringback-recorder");
/// Recordings that one process makes at a time.
const AT_ONCE: u16 = 20;

/// A directory that is gone with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("recorders-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Both channels of a recording, one after the other.
fn read(path: &Path) -> [Vec<i16>; 2] {
    let mut wav = hound::WavReader::open(path).unwrap();
    assert_eq!((wav.spec().channels, wav.spec().sample_rate), (2, 8_000));
    let samples: Vec<i16> = wav.samples().collect::<Result<_, _>>().unwrap();
    [0, 1].map(|channel| samples.iter().skip(channel).step_by(2).copied().collect())
}

/// What was given at a position.
fn known(at: usize) -> i16 {
    (at as u64 / PIECE) as i16
}

/// Times that processes are killed: few, or as the environment says.
fn kills() -> u64 {
    std::env::var("RINGBACK_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(3)
}

/// Gives all recordings sound and ends some of them, until the process is killed at a time that differs from round to round.
fn record(dir: &Path, round: u64) -> (Recorders, Vec<String>) {
    let mut process = Recorders::run(&[RECORDER]);
    let mut sessions = Vec::new();
    for slot in 1..=AT_ONCE {
        let session = format!("{round}-{slot}");
        process.start(slot, &session, &json!({"dir": dir}));
        sessions.push(session);
    }
    // Scattered by a multiplicative hash, so that a round can be had again.
    let mut stopped = Vec::new();
    let enough = 20 + (round.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58);
    while process.acked.values().sum::<u64>() < enough * 1_000 {
        for slot in 1..=AT_ONCE {
            // Every third ends after a while, so that the kill meets some at their last words.
            if slot % 3 == 0 && process.given.get(&slot).is_some_and(|given| *given >= 100) {
                if !stopped.contains(&slot) {
                    process.stop(slot);
                    stopped.push(slot);
                }
                continue;
            }
            while process.open(slot) <= 1_000 {
                process.give(slot);
            }
        }
        process.listen();
    }
    (process, sessions)
}

#[test]
fn what_killed_processes_recorded_is_good_again_up_to_a_second() {
    let dir = Dir::new("killed");
    let (mut good, mut recovered) = (0, 0);
    for round in 0..kills() {
        let (mut process, sessions) = record(&dir.0, round);
        if round == 0 {
            // Another bridge that starts in the same folder takes none of them away.
            let found = repair(&dir.0).unwrap();
            let theirs = |outcome: &Outcome| *outcome == Outcome::Busy;
            assert!(found.iter().all(|(_, outcome)| theirs(outcome.as_ref().unwrap())));
        }
        process.kill();
        let found = repair(&dir.0).unwrap();
        recovered += found.len();
        assert!(found.iter().all(|(_, outcome)| outcome.is_ok()), "{found:?}");
        assert!(repair(&dir.0).unwrap().is_empty(), "once is enough");
        for (slot, session) in (1..).zip(&sessions) {
            let path = dir.0.join(format!("{session}.wav"));
            let acked = process.acked.get(&slot).copied().unwrap_or_default();
            let Ok(about) = About::read(&path).map(Option::unwrap) else {
                panic!("{session} is gone")
            };
            let channels = read(&path);
            for channel in &channels {
                assert!(channel.iter().enumerate().all(|(at, &s)| s == known(at)), "{session}");
            }
            let ms = channels[0].len() as u64 / 8;
            assert!(ms >= acked && about.ms == ms, "{session}: {ms} of {acked} ms: {about:?}");
            assert!(matches!(about.state, State::Recovered | State::Finished), "{about:?}");
            good += 1;
        }
    }
    assert_eq!(good, kills() * u64::from(AT_ONCE));
    assert!(0 < recovered && recovered < good as usize, "{recovered} of {good} were not finished");
    let unfinished =
        names(&dir.0).into_iter().filter(|name| !name.ends_with("wav") && !name.ends_with("json"));
    assert_eq!(unfinished.count(), 0);
    eprintln!(
        "{good} recordings of {} processes that were killed are good, {recovered} of them repaired",
        kills()
    );
}

fn limit(process: &Recorders, octets: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(process.child.id()).unwrap());
    let Rlimit { maximum, .. } = getrlimit(Resource::Fsize);
    prlimit(pid, Resource::Fsize, Rlimit { current: octets, maximum }).unwrap();
}

/// Checks that a recording is what was given but in its gaps, which are silent, and gives those.
fn gaps(path: &Path) -> Vec<(u64, u64)> {
    let about = About::read(path).unwrap().unwrap();
    let gaps: Vec<_> = about.gaps.iter().map(|gap| (gap.from_ms, gap.to_ms)).collect();
    for channel in read(path) {
        for (at, &sample) in channel.iter().enumerate() {
            let ms = at as u64 / 8;
            let silent = gaps.iter().any(|(from, to)| (*from..*to).contains(&ms));
            assert_eq!(sample, if silent { 0 } else { known(at) }, "at {ms} ms, gaps {gaps:?}");
        }
    }
    gaps
}

#[test]
fn a_recording_goes_on_behind_silence_when_there_is_room_again() {
    let dir = Dir::new("limited");
    // The signal that comes with it ends a process that does not know of it; whoever sets the limit sees to that.
    let mut process = Recorders::run(&["sh", "-c", "trap '' XFSZ; exec \"$0\"", RECORDER]);
    process.start(1, "s", &json!({"dir": dir.0}));
    process.give_a_second(1);
    process.give_a_second(1);
    limit(&process, Some(44 + 2 * 32_000 + 16_001));
    let stopped = process.give_until(1, "recorder.stopped");
    assert_eq!(stopped["reason"], "no_space");
    assert_eq!(stopped["ms"], 2_500, "what fits is there");
    process.give_a_second(1);
    limit(&process, None);
    let resumed = process.give_until(1, "recorder.resumed");
    process.give_a_second(1);
    process.stop(1);
    let finished = process.until(1, "recorder.finished");
    let path = dir.0.join("s.wav");
    let gaps = gaps(&path);
    assert_eq!(gaps, [(2_500, resumed["gap"]["to_ms"].as_u64().unwrap())]);
    assert!(finished["error"].is_null(), "{finished}");
    assert_eq!(read(&path)[0].len() as u64, process.given[&1] * PIECE, "its timeline is whole");
    assert_eq!(names(&dir.0), ["s.json", "s.wav"]);
    process.end();
}

#[test]
fn a_recorder_that_may_not_miss_anything_fails_where_there_is_no_room() {
    let dir = Dir::new("required");
    let mut process = Recorders::run(&["sh", "-c", "trap '' XFSZ; exec \"$0\"", RECORDER]);
    process.start(1, "s", &json!({"dir": dir.0, "when_full": "fail"}));
    process.give_a_second(1);
    limit(&process, Some(44 + 40_000));
    let error = process.give_until(1, "error");
    assert!(error.as_str().unwrap().contains("no room"), "{error}");
    let finished = process.until(1, "recorder.finished");
    assert!(finished["error"].as_str().unwrap().contains("no room"), "{finished}");
    let gaps = gaps(&dir.0.join("s.wav"));
    let end = read(&dir.0.join("s.wav"))[0].len() as u64 / 8;
    assert!(matches!(gaps[..], [(from, _)] if from == end), "it ends with what fits: {gaps:?}");
    assert_eq!(About::read(&dir.0.join("s.wav")).unwrap().unwrap().state, State::Failed);
}

/// Whether this can be tried here; where tests must run, that it cannot be is a failure.
fn can(what: &str, command: &[&str]) -> bool {
    let tried = Command::new(command[0]).args(&command[1..]).output();
    let works = tried.is_ok_and(|output| output.status.success());
    let must = std::env::var_os("CI").is_some();
    assert!(works || !must, "{what} does not work here, and tests must run");
    if !works {
        eprintln!("NOT TESTED: {what} does not work here");
    }
    works
}

/// Takes all the room there is.
#[cfg(target_os = "linux")]
fn fill(filler: &Path) {
    let mut room = vec![0; 400 * 1024];
    while std::fs::write(filler, &room).is_err() {
        room.truncate(room.len() - 4_096);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full_costs_what_did_not_fit_and_leaves_the_file_good() {
    const OWN: [&str; 3] = ["unshare", "-rm", "sh"];
    if !can("a disk of one's own", &[&OWN[..], &["-c", "mount -t tmpfs tmpfs /mnt"]].concat()) {
        return;
    }
    let dir = Dir::new("tmpfs");
    let place = dir.0.display().to_string();
    let script = "mount -t tmpfs -o size=512k tmpfs \"$1\" && exec \"$0\"";
    let mut process = Recorders::run(&[&OWN[..], &["-c", script, RECORDER, &place]].concat());
    process.start(1, "s", &json!({"dir": dir.0}));
    process.start(2, "over", &json!({"dir": dir.0}));
    process.give_a_second(1);
    process.give_a_second(2);
    // Its disk, as it sees it.
    let inside = PathBuf::from(format!("/proc/{}/root{place}", process.child.id()));
    let (filler, more) = (inside.join("filler"), inside.join("more"));
    fill(&filler);
    let stopped = process.give_until(1, "recorder.stopped");
    let stopped_at = stopped["ms"].as_u64().unwrap();
    // Another call ends, and its recording has kept the room for that.
    process.stop(2);
    let over = process.until(2, "recorder.finished");
    assert!(over["error"].is_null(), "{over}");
    assert_eq!(About::read(&inside.join("over.wav")).unwrap().unwrap().state, State::Finished);
    fill(&more);
    // It is good now: a killed process or a reader loses nothing of what is told.
    assert_eq!(read(&inside.join("s.wav.part"))[0].len() as u64, stopped_at * 8);
    for _ in 0..3 {
        process.give_a_second(1);
    }
    std::fs::remove_file(&filler).unwrap();
    std::fs::remove_file(&more).unwrap();
    process.give_until(1, "recorder.resumed");
    process.give_a_second(1);
    process.stop(1);
    process.until(1, "recorder.finished");
    let gaps = gaps(&inside.join("s.wav"));
    let missed: u64 = gaps.iter().map(|(from, to)| to - from).sum();
    assert!(gaps[0].0 == stopped_at && missed >= 3_000, "{gaps:?}");
    let length = read(&inside.join("s.wav"))[0].len() as u64;
    assert_eq!(length, process.given[&1] * PIECE, "its timeline is whole");
    assert_eq!(names(&inside), ["over.json", "over.wav", "s.json", "s.wav"]);
    process.end();
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fails_is_told_and_not_asked_again() {
    if !can("strace", &["strace", "-qq", "-o", "/dev/null", "true"]) {
        return;
    }
    let dir = Dir::new("eio");
    let trace = dir.0.join("trace").display().to_string();
    let inject = "inject=fdatasync:error=EIO:when=2";
    let strace = ["strace", "-f", "-qq", "-o", &trace, "-e", "trace=fdatasync", "-e", inject];
    let mut process = Recorders::run(&[&strace[..], &[RECORDER]].concat());
    process.start(1, "s", &json!({"dir": dir.0.join("r")}));
    process.give_a_second(1);
    let error = process.give_until(1, "error");
    assert!(error.as_str().unwrap().contains("Input/output error"), "{error}");
    let finished = process.until(1, "recorder.finished");
    assert_eq!(finished["ms"], 1_000, "only what is known to be there is told");
    let path = dir.0.join("r/s.wav");
    assert_eq!(read(&path)[0].len(), 8_000);
    assert_eq!(About::read(&path).unwrap().unwrap().state, State::Failed);
    assert_eq!(names(&dir.0.join("r")), ["s.json", "s.wav"]);
    process.end();
    let calls = std::fs::read_to_string(&trace).unwrap();
    assert_eq!(calls.matches("fdatasync(").count(), 2, "not tried again:\n{calls}");
}
