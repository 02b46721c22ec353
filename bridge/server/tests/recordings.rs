//! Bridges as processes that are killed while they record, and what is on disk after that. Looks into no recorder.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its call has failed")]

mod support;

use std::path::Path;
use std::time::Duration;

use ringback::clock::Clock;
use ringback_proto::provider::{Dial, find};
use ringback_recorder::{About, State};
use serde_json::Value;
use support::{Caller, Folder, PATIENCE, Process, quoted, read_wav, ringback, run, soon};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Calls at a time, and what each of them says.
const CALLS: i16 = 8;

/// A recorder into that folder, beside an echo.
fn configuration(dir: &Path) -> String {
    configured(&format!("dir = {}", quoted(dir.display())))
}

/// A recorder that is told this, beside an echo.
fn configured(recorder: &str) -> String {
    format!(
        "[[listener]]\nname = \"phone\"\npath = \"/raw\"\nprovider = \"raw\"\n\
         [[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n\
         [[module]]\nname = \"recorder\"\nbuiltin = \"recorder\"\nconfig = {{ {recorder} }}\n\
         [[route]]\nname = \"default\"\nmodules = [\"echo\", \"recorder\"]\nspeaker = \"echo\"\n"
    )
}

fn serve(file: &Path) -> Process {
    Process::serve(&["--config", &file.display().to_string()], &[])
}

/// A call that says its number for so many frames, each of which has come back.
async fn call(address: String, number: i16, frames: usize) -> Caller {
    let stream = soon("a connection", TcpStream::connect(&address)).await.unwrap();
    let dial = Dial { target: format!("/raw?call=c{number}"), ..Dial::default() };
    let provider = find("raw").unwrap();
    let mut caller = Caller::dial(Clock::start(), stream, provider, &dial, &[]).await.unwrap();
    let format = caller.format().await;
    caller.speak(&vec![number * 100; format.rate.hz() as usize / 50 * frames]).await;
    caller
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Times that a bridge is killed: once, or as the environment says.
fn kills() -> usize {
    std::env::var("RINGBACK_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// Checks a recording and gives what of its call was said, in ms.
fn recorded(path: &Path) -> (i16, u64) {
    let wav = read_wav(path);
    let about = About::read(path).unwrap().unwrap();
    let left: Vec<i16> = wav.samples.iter().step_by(2).copied().collect();
    let number = left.iter().copied().max().unwrap_or_default();
    assert!(left.iter().all(|&sample| sample == number || sample == 0), "{}", path.display());
    let ms = left.len() as u64 * 1_000 / u64::from(wav.rate.hz());
    assert_eq!((about.ms, about.state), (ms, State::Recovered), "{about:?}");
    (number / 100, ms)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_bridge_recorded_is_good_again() {
    let mut most_lost = 0;
    for round in 0..kills() {
        let folder = Folder::new("killed-bridge");
        let dir = folder.path("recordings");
        let process = serve(&folder.write("ringback.toml", &configuration(&dir)));
        let mut calls = JoinSet::new();
        for number in 1..=CALLS {
            // Different from call to call and from round to round.
            let frames = 40 + (number as usize * 17 + round * 7) % 60;
            let address = process.address.clone();
            calls.spawn(async move { (number, call(address, number, frames).await) });
        }
        let callers = calls.join_all().await;
        process.signal("KILL");
        assert_eq!(process.finish().code, None);
        let before = names(&dir);
        assert_eq!(
            before.iter().filter(|name| name.ends_with(".wav.part")).count(),
            8,
            "{before:?}"
        );
        if round == 0 {
            // A bridge that starts in the same folder makes them good by itself.
            let again = serve(&folder.path("ringback.toml"));
            for _ in 0..CALLS {
                again.logged("a recording that was cut short is good again");
            }
            again.signal("TERM");
            assert_eq!(again.finish().code, Some(0));
        }
        let dir_name = dir.display().to_string();
        let mut command = ringback(["recordings", "repair", "--json", &dir_name]);
        let ended = run(&mut command, PATIENCE);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let repaired =
            ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        assert_eq!(repaired.count(), if round == 0 { 0 } else { 8 });
        let wavs: Vec<_> = names(&dir).into_iter().filter(|name| name.ends_with(".wav")).collect();
        assert_eq!((wavs.len(), names(&dir).len()), (8, 16), "{:?}", names(&dir));
        let found: Vec<_> = wavs.iter().map(|name| recorded(&dir.join(name))).collect();
        for (number, ms) in found {
            let (_, caller) = callers.iter().find(|(of, _)| *of == number).unwrap();
            let rate = u64::from(caller.outbound().unwrap().rate.hz());
            most_lost = most_lost.max((caller.samples_sent * 1_000 / rate).saturating_sub(ms));
        }
    }
    eprintln!("{} bridges killed, {most_lost} ms of a call lost at most", kills());
    // By the clock, so only where it is asked for: a busy machine holds up who writes as well.
    assert!(kills() == 1 || most_lost <= 1_000, "{most_lost} ms");
}

/// A command on recordings, which ends well, and what it says.
fn recordings<const N: usize>(args: [&str; N]) -> String {
    let ended = run(&mut ringback(["recordings"].into_iter().chain(args)), PATIENCE);
    assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
    ended.stdout
}

#[cfg(feature = "encryption")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypted_recordings_of_a_killed_bridge_are_good_again_and_open_with_their_key_alone() {
    let folder = Folder::new("sealed-bridge");
    let dir = folder.path("recordings");
    let place = dir.display().to_string();
    let [old, new] = [("old", "a7"), ("new", "b8")].map(|(id, octet)| {
        let key = folder.write(&format!("{id}.key"), &octet.repeat(32));
        (id, format!("file:{}", key.display()))
    });
    let told = |(id, key): &(&str, String)| {
        let key = quoted(key);
        format!("dir = {}, encrypt = {{ key = {key}, key_id = \"{id}\" }}", quoted(&place))
    };
    let file = folder.write("ringback.toml", &configured(&told(&old)));
    let process = serve(&file);
    let mut callers = Vec::new();
    for number in 1..=2_i16 {
        callers.push(call(process.address.clone(), number, 60).await);
    }
    process.signal("KILL");
    assert_eq!(process.finish().code, None);
    let parts = names(&dir);
    assert!(parts.len() == 2 && parts.iter().all(|p| p.ends_with(".wav.sealed.part")), "{parts:?}");
    // One is made good by a command without a key, the other one by a bridge that has it.
    let away = folder.path(&parts[1]);
    std::fs::rename(dir.join(&parts[1]), &away).unwrap();
    recordings(["repair", &place, "--key", &format!("{}={}", new.0, new.1)]);
    std::fs::rename(&away, dir.join(&parts[1])).unwrap();
    let again = serve(&file);
    again.logged("a recording that was cut short is good again");
    again.signal("TERM");
    assert_eq!(again.finish().code, Some(0));
    let sealed = names(&dir);
    assert!(sealed.len() == 2 && sealed.iter().all(|p| p.ends_with(".wav.sealed")), "{sealed:?}");
    for name in &sealed {
        let octets = std::fs::read(dir.join(name)).unwrap();
        let sound = [100_i16, 100, 100].map(i16::to_le_bytes).concat();
        let calls = ["\"c1\"", "\"c2\"", "provider"].map(str::as_bytes);
        for plain in calls.into_iter().chain([&sound[..]]) {
            assert!(!octets.windows(plain.len()).any(|found| found == plain), "{plain:?}");
        }
    }
    let config = ["--config", &file.display().to_string()].map(String::from);
    let outcomes = |keys: &[String; 2]| -> Vec<String> {
        let mut verify = ringback(["recordings", "verify", &place, "--json", &keys[0], &keys[1]]);
        let ended = run(&mut verify, PATIENCE);
        assert_eq!(ended.code, Some(1), "one was cut short: {}", ended.stderr);
        let lines = ended.stdout;
        let line = |line: &str| serde_json::from_str::<Value>(line).unwrap()["outcome"].clone();
        let mut words: Vec<_> =
            lines.lines().map(|l| line(l).as_str().unwrap().to_owned()).collect();
        words.sort();
        words
    };
    assert_eq!(outcomes(&config), ["cut_short", "whole"]);

    // The new key takes the place of the old one, and then the old one opens nothing.
    let key = |(id, place): &(&str, String)| format!("{id}={place}");
    let both = ["--key", &key(&new), "--key", &key(&old)];
    let rewrapped = recordings(["rewrap", &place, both[0], both[1], both[2], both[3]]);
    assert!(rewrapped.starts_with("key new opens 2 more recordings; 0 had it"), "{rewrapped}");
    let mut locked = ringback(["recordings", "verify", &place, "--key", &key(&old)]);
    let locked = run(&mut locked, PATIENCE);
    assert_eq!(locked.code, Some(1));
    assert_eq!(locked.stdout.matches("it needs key new, which is not given").count(), 2);
    assert_eq!(outcomes(&["--key".into(), key(&new)]), ["cut_short", "whole"]);

    for (index, name) in sealed.iter().enumerate() {
        let wav = folder.path(&format!("{index}.wav"));
        let from = dir.join(name).display().to_string();
        recordings(["decrypt", &from, "-o", &wav.display().to_string(), "--key", &key(&new)]);
        let (number, ms) = recorded(&wav);
        assert!((1..=2).contains(&number) && ms >= 100, "{number}, {ms} ms");
    }
    let listed = recordings(["list", &place, "--json", "--key", &key(&new)]);
    for line in listed.lines() {
        let look: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&look["encrypted"], &look["key"]), (&true.into(), &"new".into()), "{look}");
        assert_eq!(look["about"]["provider"], "raw", "{look}");
    }
    assert_eq!(listed.lines().count(), 2);

    // One whose header is damaged is no less one that is to be read.
    let damaged = dir.join(&sealed[0]);
    let mut octets = std::fs::read(&damaged).unwrap();
    octets[0] ^= 1;
    std::fs::write(&damaged, octets).unwrap();
    let words = outcomes(&["--key".into(), key(&new)]);
    assert!(words.len() == 2 && words.contains(&"damaged".to_owned()), "{words:?}");
}

/// Files below a folder that have one of these texts in them or in their names.
#[cfg(all(feature = "sql", feature = "object-store", feature = "encryption"))]
fn having(dir: &Path, texts: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(having(&path, texts));
            continue;
        }
        let octets = std::fs::read(&path).unwrap();
        let name = path.display().to_string();
        let has = |text: &&str| {
            octets.windows(text.len()).any(|found| found == text.as_bytes()) || name.contains(*text)
        };
        if texts.iter().any(has) {
            // When SQLite puts what it has beside its file into it is its own affair.
            found.push(name.trim_end_matches("-wal").to_owned());
        }
    }
    found.sort();
    found.dedup();
    found
}

/// A bridge that keeps all it can of calls: recordings, encrypted if they can be, and every kind of sink.
#[cfg(all(feature = "sql", feature = "object-store", feature = "encryption"))]
fn keeping(folder: &Folder) -> String {
    let key = folder.write("recordings.key", &"a7".repeat(32));
    let key = quoted(format!("file:{}", key.display()));
    let place = |name: &str| quoted(folder.path(&format!("kept/{name}")).display());
    let archive = quoted(format!("file://{}", folder.path("kept/archive").display()));
    let encrypt = format!("encrypt = {{ key = {key}, key_id = \"2026\" }}");
    configured(&format!("dir = {}, {encrypt}", place("recordings")))
        + &format!(
            "[[sink]]\nname = \"lines\"\nkind = \"jsonl\"\nall = true\npath = {}\n\
             [[sink]]\nname = \"of-calls\"\nkind = \"jsonl\"\nall = true\npath = {}\n\
             [[sink]]\nname = \"db\"\nkind = \"sqlite\"\nall = true\npath = {}\n\
             [[sink]]\nname = \"archive\"\nkind = \"object_store\"\nall = true\nurl = {archive}\ndir = {}\n\
             [[sink]]\nname = \"hook\"\nkind = \"webhook\"\nall = true\nurl = \"http://127.0.0.1:1/\"\ninsecure = true\nspool = {}\n\
             [capture]\ndir = {}\n\
             [operator]\nbind = \"127.0.0.1:0\"\naudit = {}\n",
            place("all.jsonl"),
            place("{call}.jsonl"),
            place("calls.db"),
            place("recordings"),
            place("spool"),
            place("captures"),
            quoted(folder.path("audit.log").display()),
        )
}

#[cfg(all(feature = "sql", feature = "object-store", feature = "encryption"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_of_somebody_goes_everywhere_and_of_others_nowhere() {
    let folder = Folder::new("deletion");
    let file = folder.write("ringback.toml", &keeping(&folder));
    let process = serve(&file);
    let numbers = ["4930555001", "4930555002"];
    let mut calls = Vec::new();
    for number in numbers {
        let stream = soon("a connection", TcpStream::connect(&process.address)).await.unwrap();
        let target = format!("/raw?call=c{number}&from=%2B{number}&to=bot");
        let dial = Dial { target, ..Dial::default() };
        let provider = find("raw").unwrap();
        let mut caller = Caller::dial(Clock::start(), stream, provider, &dial, &[]).await.unwrap();
        caller.speak(&[100; 8_000]).await;
        caller.hang_up().await;
    }
    let (kept, config) = (folder.path("kept"), file.display().to_string());
    // Killed as soon as all have it, so that what databases keep beside themselves is there as well.
    let all_have_it = || {
        let lines = std::fs::read_to_string(kept.join("all.jsonl")).unwrap_or_default();
        let ended = lines.matches("\"call.ended\"").count();
        let stored =
            names(&kept.join("recordings")).iter().filter(|n| n.ends_with(".stored")).count();
        let is_in_database = || {
            let wal = std::fs::read(kept.join("calls.db-wal")).unwrap_or_default();
            wal.windows(10).filter(|found| found == b"call.ended").count() >= 2
        };
        ended == 2 && stored == 2 && is_in_database()
    };
    soon("all sinks", async {
        while !all_have_it() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    process.signal("KILL");
    process.finish();
    let recordings_dir = kept.join("recordings").display().to_string();
    let listed = recordings(["list", &recordings_dir, "--json", "--config", &config]);
    for line in listed.lines() {
        let about: Value = serde_json::from_str::<Value>(line).unwrap()["about"].clone();
        calls.push((
            about["from"].as_str().unwrap().to_owned(),
            about["call"].as_str().unwrap().to_owned(),
        ));
    }
    calls.sort();
    let [theirs, other] = [0, 1].map(|n| calls[n].1.as_str());
    assert_eq!(calls[0].0, format!("+{}", numbers[0]));
    // In lines twice, in the database, on its way to the server, captured and, as a name, in the folder and in the archive.
    assert!(having(&kept, &[theirs]).len() >= 7, "{:?}", having(&kept, &[theirs]));
    let others = having(&kept, &[other]);

    // A sink that fails leaves what is needed to find the rest.
    let subject = ["recordings", "delete", "--subject", "0049 30 555001", "-c", &config];
    let (database, away) = (kept.join("calls.db"), kept.join("calls.away"));
    std::fs::rename(&database, &away).unwrap();
    std::fs::create_dir(&database).unwrap();
    let ended = run(&mut ringback(subject), PATIENCE);
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stderr.contains("no recording was deleted"), "{}", ended.stderr);
    std::fs::remove_dir(&database).unwrap();
    std::fs::rename(&away, &database).unwrap();
    let ended = run(&mut ringback(subject), PATIENCE);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    for says in
        ["1 recordings deleted, of 1 calls", "what webhook hook was told", "earlier versions"]
    {
        assert!(ended.stdout.contains(says), "{says}: {}", ended.stdout);
    }
    let asked = [theirs, numbers[0], "555001", "c4930555001"];
    assert_eq!(having(&kept, &asked), [""; 0]);
    assert_eq!(having(&kept, &[other]), others, "all of the other one is there");
    let log = std::fs::read_to_string(folder.path("audit.log")).unwrap();
    assert!(log.contains("recordings.delete") && log.contains("all: 1 recordings"), "{log}");
    assert!(!asked.iter().any(|text| log.contains(text)), "{log}");
    assert!(
        run(
            &mut ringback(["audit", "verify", &folder.path("audit.log").display().to_string()]),
            PATIENCE
        )
        .code
            == Some(0)
    );

    // The other one is held, and so are all traces of its call.
    let name =
        names(&kept.join("recordings")).into_iter().find(|n| n.ends_with(".sealed")).unwrap();
    let held = kept.join("recordings").join(name).display().to_string();
    recordings(["hold", &held]);
    for whose in [["--call", other], ["--subject", numbers[1]]] {
        let mut command = ringback(["recordings", "delete", whose[0], whose[1], "-c", &config]);
        let ended = run(&mut command, PATIENCE);
        assert_eq!(ended.code, Some(1), "{}", ended.stdout);
        assert!(ended.stderr.contains("it is held, and nothing of its call was deleted"));
        assert!(having(&kept, &[other]).len() >= others.len());
    }
    recordings(["release", &held]);
    // In the store alone: a number does not find it, and that is said; its call does.
    let text = std::fs::read_to_string(&file).unwrap();
    let text =
        text.replace("kind = \"object_store\"", "kind = \"object_store\"\ndelete_local = true");
    std::fs::write(&file, text).unwrap();
    std::fs::remove_file(&held).unwrap();
    let mut command = ringback(["recordings", "delete", "--subject", numbers[1], "-c", &config]);
    let ended = run(&mut command, PATIENCE);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stderr.contains("sink archive: with `delete_local`"), "{}", ended.stderr);
    recordings(["delete", "--call", other, "-c", &config]);
    std::fs::remove_file(format!("{held}.stored")).unwrap();
    assert_eq!(having(&kept, &[other, numbers[1]]), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_deleted_of_a_call_that_is_being_recorded() {
    let folder = Folder::new("deletion-live");
    let dir = folder.path("recordings");
    let file = folder.write("ringback.toml", &configuration(&dir));
    let process = serve(&file);
    let stream = soon("a connection", TcpStream::connect(&process.address)).await.unwrap();
    let dial = Dial { target: "/raw?call=c1&from=%2B4930555001".into(), ..Dial::default() };
    let provider = find("raw").unwrap();
    let mut caller = Caller::dial(Clock::start(), stream, provider, &dial, &[]).await.unwrap();
    caller.speak(&[100; 1_600]).await;
    let config = file.display().to_string();
    let subject = ["recordings", "delete", "--subject", "+4930555001", "--config", &config];
    let ended = run(&mut ringback(subject), PATIENCE);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stderr.contains("it is being recorded"), "{}", ended.stderr);
    caller.hang_up().await;
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
    let wavs =
        || names(&dir).into_iter().filter(|n| n.ends_with(".wav") || n.ends_with(".json")).count();
    assert_eq!(wavs(), 2, "{:?}", names(&dir));
    recordings(["delete", "--subject", "+4930555001", "--config", &config]);
    assert_eq!(wavs(), 0, "{:?}", names(&dir));
    assert_eq!(names(&dir), ["deleted.key", "deleted.log"]);
}

#[test]
fn where_no_recording_can_be_made_no_calls_are_taken_unless_it_is_said() {
    let folder = Folder::new("unusable");
    let file = folder.write("file", "not a folder");
    let mut text = configuration(&file.join("recordings"));
    let path = folder.write("ringback.toml", &text).display().to_string();
    let ended = run(&mut ringback(["serve", "--bind", "127.0.0.1:0", "--config", &path]), PATIENCE);
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
    for part in ["no recordings can be made in ", "file/recordings", "when_unusable"] {
        assert!(ended.stderr.contains(part), "{part:?} in {}", ended.stderr);
    }
    text.push_str("[recordings]\nwhen_unusable = \"continue\"\n");
    let process = serve(&folder.write("ringback.toml", &text));
    process.logged("no recordings can be made here, and calls are taken all the same");
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
}
