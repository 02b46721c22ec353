//! Ten thousand names that want out of their folder, wherever a name of a call comes near a file: each is accounted for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ringback_module::message::{Start, StopReason};
use ringback_module::{AudioFrame, FrameFlags, Input, Module as _, Outputs};
use ringback_recorder::Recorder;
use ringback_recorder::vault::Keys;
use serde_json::json;

use crate::events::EventKind;
use crate::recordings::erase::{self, Wanted};
use crate::sink::testing::{Feed, Folder, event};
use crate::sink::{JsonLines, run_lines};

const COUNT: usize = 10_000;
/// What they are made of.
const PIECES: [&str; 40] = [
    "..",
    "../",
    "..\\",
    "/",
    "\\",
    "//",
    "%2e%2e%2f",
    "%00",
    "\0",
    "\n",
    "\r\n",
    "\t",
    " ",
    ".",
    "~",
    "~root",
    "$HOME",
    "`id`",
    "-rf",
    "--",
    "CON",
    "NUL",
    "COM1",
    "aux.txt",
    "C:",
    "C:\\x",
    "\\\\?\\",
    "file://",
    "/etc/passwd",
    "\u{202e}",
    "\u{feff}",
    "．．／",
    "é",
    "e\u{301}",
    ":stream",
    "*",
    ".wav",
    ".part",
    ".hold",
    "{call}",
];

/// The `n`-th name: a few pieces, scattered by a multiplicative hash, so that it can be had again.
fn name(n: usize) -> String {
    let mut dice = (n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut roll = |below: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize % below
    };
    let mut name = String::new();
    for _ in 0..=roll(5) {
        match roll(12) {
            0 => name.push_str("call-1"),
            1 => name.push_str(&"x".repeat(300)),
            _ => name.push_str(PIECES[roll(PIECES.len())]),
        }
    }
    name
}

fn start(session: &str, dir: &Path, hostile: &str) -> Start {
    let start = json!({
        "v": 1, "session": session,
        "call": {"id": hostile, "provider": hostile, "from": hostile, "to": hostile, "custom": {hostile: hostile}},
        "config": {"dir": dir, "sync": false}, "offer": {"tracks": [{"id": 0, "role": "caller"}], "in": []},
    });
    serde_json::from_value(start).unwrap()
}

/// Records a tenth of a second, if such a session may be recorded.
fn record(start: &Start) -> bool {
    let mut recorder = Recorder::new();
    if recorder.start(start).is_err() {
        return false;
    }
    let (track, rate, pts, flags) = (0, 8_000, 0, FrameFlags::default());
    let frame = AudioFrame { track, rate, pts, flags, samples: &[1; 800] };
    recorder.process(Input::Audio(frame), &mut Outputs::new()).unwrap();
    recorder.stop(StopReason::Hangup, &mut Outputs::new());
    true
}

/// All files below a folder, by the folder of the first level that they are in.
fn files(dir: &Path) -> BTreeMap<String, usize> {
    fn count(dir: &Path) -> usize {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
    }
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let counted = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, if entry.path().is_dir() { count(&entry.path()) } else { 1 })
    };
    entries.map(counted).collect()
}

#[tokio::test]
async fn ten_thousand_hostile_names_make_no_file_outside_of_their_folders() {
    let folder = Folder::new("hostile");
    let [sessions, calls] = ["sessions", "calls"].map(|name| folder.0.join(name));
    let (mut refused, mut recorded, mut whole) = (0, 0, 0);
    let (feed, intake) = Feed::new(COUNT);
    for n in 0..COUNT {
        let name = name(n);
        // As the name of a session, which becomes that of a file.
        match record(&start(&name, &sessions, "x")) {
            true => recorded += 1,
            false => refused += 1,
        }
        // As what a provider says of a call, which does not.
        if n % 100 == 0 {
            assert!(record(&start(&format!("c{n}-1"), &calls, &name)), "{name:?}");
            whole += 1;
        }
        let mut event = event("c", n as u64, EventKind::Dtmf);
        (event.call, event.listener, event.route) = (name.clone(), name.clone(), name);
        feed.put(event);
    }
    feed.close();
    let path = folder.path("lines/{date}/{listener}/{route}-{call}.jsonl").parse().unwrap();
    run_lines(JsonLines { path, max_file: None, flush_every: std::time::Duration::ZERO }, intake)
        .await;
    assert_eq!(feed.figures().delivered(), COUNT as u64);
    let found = files(&folder.0);
    assert_eq!(
        found.keys().map(String::as_str).collect::<Vec<_>>(),
        ["calls", "lines", "sessions"]
    );
    // A recording and what is known of it.
    let twice = |name: &str| found[name] / 2;
    assert!(twice("sessions") <= recorded && twice("calls") == whole, "{found:?}");
    assert_eq!(refused + recorded, COUNT);

    // As what is to be deleted: it finds what has that name.
    let (mut gone, dirs) = (0, [calls]);
    for n in (0..COUNT).step_by(500) {
        for wanted in [Wanted::Subject(name(n)), Wanted::Call(name(n))] {
            let found = erase::find(&dirs, &wanted, &Keys::default()).unwrap();
            let had = found.recordings.len() as u64;
            assert_eq!(erase::delete(&found), (had, Vec::new()));
            gone += had;
        }
    }
    let asked: BTreeSet<_> = (0..COUNT).step_by(500).map(name).collect();
    let theirs = (0..COUNT).step_by(100).filter(|n| asked.contains(&name(*n))).count() as u64;
    assert_eq!(gone, theirs, "each has gone with its name");
    assert_eq!(files(&folder.0)["calls"] as u64, 2 * (whole as u64 - gone));
    let different = (0..COUNT).map(name).collect::<BTreeSet<_>>().len();
    eprintln!(
        "{COUNT} hostile names, {different} of them different: {refused} refused as sessions, {recorded} recorded; {whole} calls of such names recorded, {gone} of them deleted; \
         {COUNT} lines in {} files; 0 files outside",
        found["lines"]
    );
}
