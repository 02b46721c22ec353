//! Recorders as processes that are killed and whose disks are full or fail: what is left on disk, and that it is good. Unix only: so
//! are the ways to fail.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test whose ground gives way has failed")]

mod recorders;

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;

use recorders::{PIECE, Recorders};
use ringback_recorder::vault::{Keys, Reader, write_wav};
use ringback_recorder::{About, Outcome, State, repair};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};

const RECORDER: &str = env!("CARGO_BIN_EXE_ringback-recorder");
/// Recordings that one process makes at a time.
const AT_ONCE: u16 = 20;

/// A directory and a key for what is in it, which are gone with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("recorders-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.with_extension("key"), "c3".repeat(32)).unwrap();
        Self(dir)
    }

    /// What a recorder is told that writes there.
    fn config(&self, dir: &Path, sealed: bool) -> Value {
        if !sealed {
            return json!({"dir": dir});
        }
        let key = format!("file:{}", self.0.with_extension("key").display());
        json!({"dir": dir, "encrypt": {"key": key, "key_id": "test"}})
    }

    fn keys(&self) -> Keys {
        let config = self.config(&self.0, true);
        ringback_recorder::check(&config, &|_| None).unwrap().keys.unwrap()
    }

    /// What is known of a recording and both its channels, one after the other, if it is there; sealed or not, finished or not.
    fn find(&self, path: &Path) -> Option<(About, [Vec<i16>; 2])> {
        let finished = PathBuf::from(path.display().to_string().replace(".part", ""));
        let (about, wav) = match std::fs::read(path) {
            Ok(wav) => (About::read(&finished).unwrap().unwrap(), wav),
            Err(_) => {
                let sealed = path.display().to_string().replace(".wav", ".wav.sealed");
                let sealed = std::fs::read(sealed).ok()?;
                let reader = Reader::open(sealed.as_slice(), &self.keys()).unwrap();
                let mut wav = Cursor::new(Vec::new());
                let contents = write_wav(reader, &mut wav).unwrap();
                let about = contents.about.clone().unwrap();
                assert_eq!(contents.ended, about.state != State::Recording);
                (about, wav.into_inner())
            }
        };
        let mut wav = hound::WavReader::new(Cursor::new(wav)).unwrap();
        assert_eq!((wav.spec().channels, wav.spec().sample_rate), (2, 8_000));
        let samples: Vec<i16> = wav.samples().collect::<Result<_, _>>().unwrap();
        let channel = |channel| samples.iter().skip(channel).step_by(2).copied().collect();
        Some((about, [channel(0), channel(1)]))
    }

    fn read(&self, path: &Path) -> (About, [Vec<i16>; 2]) {
        self.find(path).unwrap_or_else(|| panic!("{} is gone", path.display()))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0.with_extension("key"));
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether recordings are sealed: both, where this build can.
fn forms() -> impl Iterator<Item = bool> {
    std::iter::once(false).chain(cfg!(feature = "encryption").then_some(true))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
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
fn record(dir: &Dir, round: u64) -> (Recorders, Vec<String>) {
    let mut process = Recorders::run(&[RECORDER]);
    let mut sessions = Vec::new();
    for slot in 1..=AT_ONCE {
        let session = format!("{round}-{slot}");
        let sealed = cfg!(feature = "encryption") && slot % 2 == 0;
        process.start(slot, &session, &dir.config(&dir.0, sealed));
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
        let (mut process, sessions) = record(&dir, round);
        if round == 0 {
            // Another bridge that starts in the same folder takes none of them away.
            let found = repair(&dir.0, &Keys::default()).unwrap();
            let theirs = |outcome: &Outcome| *outcome == Outcome::Busy;
            assert!(found.iter().all(|(_, outcome)| theirs(outcome.as_ref().unwrap())));
        }
        process.kill();
        let found = repair(&dir.0, &dir.keys()).unwrap();
        recovered += found.len();
        assert!(found.iter().all(|(_, outcome)| outcome.is_ok()), "{found:?}");
        assert!(repair(&dir.0, &Keys::default()).unwrap().is_empty(), "once is enough");
        for (slot, session) in (1..).zip(&sessions) {
            let path = dir.0.join(format!("{session}.wav"));
            let acked = process.acked.get(&slot).copied().unwrap_or_default();
            let (about, channels) = dir.read(&path);
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
    let unfinished = names(&dir.0)
        .into_iter()
        .filter(|name| ![".wav", ".json", ".wav.sealed"].iter().any(|end| name.ends_with(end)));
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
fn gaps(dir: &Dir, path: &Path) -> Vec<(u64, u64)> {
    let (about, channels) = dir.read(path);
    let gaps: Vec<_> = about.gaps.iter().map(|gap| (gap.from_ms, gap.to_ms)).collect();
    for channel in channels {
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
    forms().for_each(goes_on_where_there_is_room_again);
}

fn goes_on_where_there_is_room_again(sealed: bool) {
    let dir = Dir::new("limited");
    // The signal that comes with it ends a process that does not know of it; whoever sets the limit sees to that.
    let mut process = Recorders::run(&["sh", "-c", "trap '' XFSZ; exec \"$0\"", RECORDER]);
    process.start(1, "s", &dir.config(&dir.0, sealed));
    process.give_a_second(1);
    // Sealed, a tenth of a second has 37 octets more, and only a whole one counts. Less than what a recording keeps for its end: as on a
    // full disk, that cannot be had again.
    let (most, fits) = if sealed { (47_130, 1_400) } else { (44 + 32_000 + 16_001, 1_500) };
    limit(&process, Some(most));
    let stopped = process.give_until(1, "recorder.stopped");
    assert_eq!(stopped["reason"], "no_space");
    assert_eq!(stopped["ms"], fits, "what fits is there");
    process.give_a_second(1);
    limit(&process, None);
    let resumed = process.give_until(1, "recorder.resumed");
    process.give_a_second(1);
    process.stop(1);
    let finished = process.until(1, "recorder.finished");
    let path = dir.0.join("s.wav");
    let gaps = gaps(&dir, &path);
    assert_eq!(gaps, [(fits, resumed["gap"]["to_ms"].as_u64().unwrap())]);
    assert!(finished["error"].is_null(), "{finished}");
    assert_eq!(
        dir.read(&path).1[0].len() as u64,
        process.given[&1] * PIECE,
        "its timeline is whole"
    );
    let left = names(&dir.0);
    assert!(if sealed { left == ["s.wav.sealed"] } else { left == ["s.json", "s.wav"] });
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
    assert_eq!(gaps(&dir, &dir.0.join("s.wav")), [], "it ends with what fits");
    let (about, channels) = dir.read(&dir.0.join("s.wav"));
    let end = channels[0].len() as u64 / 8;
    assert_eq!((about.state, about.ms), (State::Failed, end));
    assert!(about.missing_ms > 0, "{about:?}");
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

/// A shell with mounts of its own.
#[cfg(target_os = "linux")]
const OWN: [&str; 3] = ["unshare", "-rm", "sh"];

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full_costs_what_did_not_fit_and_leaves_the_file_good() {
    if !can("a disk of one's own", &[&OWN[..], &["-c", "mount -t tmpfs tmpfs /mnt"]].concat()) {
        return;
    }
    forms().for_each(costs_what_did_not_fit);
}

#[cfg(target_os = "linux")]
fn costs_what_did_not_fit(sealed: bool) {
    let dir = Dir::new("tmpfs");
    let place = dir.0.display().to_string();
    let script = "mount -t tmpfs -o size=512k tmpfs \"$1\" && exec \"$0\"";
    let mut process = Recorders::run(&[&OWN[..], &["-c", script, RECORDER, &place]].concat());
    process.start(1, "s", &dir.config(&dir.0, sealed));
    process.start(2, "over", &dir.config(&dir.0, sealed));
    process.start(3, "end", &dir.config(&dir.0, sealed));
    (1..=3).for_each(|slot| process.give_a_second(slot));
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
    assert_eq!(dir.read(&inside.join("over.wav")).0.state, State::Finished, "{over}");
    fill(&more);
    // It is good now: a killed process or a reader loses nothing of what is told.
    assert_eq!(dir.read(&inside.join("s.wav.part")).1[0].len() as u64, stopped_at * 8);
    // A call ends for which there is no room any more: what its recording lacks is said, in room that was kept for that.
    let fits = process.give_until(3, "recorder.stopped")["ms"].as_u64().unwrap();
    fill(&inside.join("last"));
    process.give_a_second(3);
    process.stop(3);
    let end = process.until(3, "recorder.finished");
    let given = process.given[&3] * PIECE / 8;
    assert!(end["error"].is_null() && given >= fits + 1_000, "{end}");
    assert_eq!((&end["state"], &end["ms"]), (&json!("failed"), &json!(fits)), "{end}");
    assert_eq!(end["missing_ms"], given - fits, "{end}");
    assert_eq!(gaps(&dir, &inside.join("end.wav")), [], "nothing stands for what is missing");
    let about = dir.read(&inside.join("end.wav")).0;
    assert_eq!((about.state, about.ms, about.missing_ms), (State::Failed, fits, given - fits));
    std::fs::remove_file(inside.join("last")).unwrap();
    for _ in 0..3 {
        process.give_a_second(1);
    }
    std::fs::remove_file(&filler).unwrap();
    std::fs::remove_file(&more).unwrap();
    process.give_until(1, "recorder.resumed");
    process.give_a_second(1);
    process.stop(1);
    process.until(1, "recorder.finished");
    let gaps = gaps(&dir, &inside.join("s.wav"));
    let missed: u64 = gaps.iter().map(|(from, to)| to - from).sum();
    assert!(gaps[0].0 == stopped_at && missed >= 3_000, "{gaps:?}");
    let length = dir.read(&inside.join("s.wav")).1[0].len() as u64;
    assert_eq!(length, process.given[&1] * PIECE, "its timeline is whole");
    let plain = ["end.json", "end.wav", "over.json", "over.wav", "s.json", "s.wav"];
    let in_one = ["end.wav.sealed", "over.wav.sealed", "s.wav.sealed"];
    let left = names(&inside);
    assert!(if sealed { left == in_one } else { left == plain }, "{left:?}");
    process.end();
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fails_is_told_and_not_asked_again() {
    if !can("strace", &["strace", "-qq", "-o", "/dev/null", "true"]) {
        return;
    }
    forms().for_each(is_not_asked_again);
}

#[cfg(target_os = "linux")]
fn is_not_asked_again(sealed: bool) {
    let dir = Dir::new("eio");
    let trace = dir.0.join("trace").display().to_string();
    let inject = "inject=fdatasync:error=EIO:when=2";
    let strace = ["strace", "-f", "-qq", "-o", &trace, "-e", "trace=fdatasync", "-e", inject];
    let mut process = Recorders::run(&[&strace[..], &[RECORDER]].concat());
    process.start(1, "s", &dir.config(&dir.0.join("r"), sealed));
    process.give_a_second(1);
    let error = process.give_until(1, "error");
    assert!(error.as_str().unwrap().contains("Input/output error"), "{error}");
    let finished = process.until(1, "recorder.finished");
    assert_eq!(finished["ms"], 1_000, "only what is known to be there is told");
    let path = dir.0.join("r/s.wav");
    let (about, channels) = dir.read(&path);
    assert_eq!((channels[0].len(), about.state), (8_000, State::Failed));
    process.end();
    let calls = std::fs::read_to_string(&trace).unwrap();
    assert_eq!(calls.matches("fdatasync(").count(), 2, "not tried again:\n{calls}");
}
