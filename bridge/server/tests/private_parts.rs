//! A call with a private part through a whole bridge: what was said and pressed in it is searched for in everything that the bridge
//! writes. Covers no module's own files.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its call has failed")]

mod support;

use ringback::clock::Clock;
use ringback_proto::provider::{Dial, Digit, find};
use ringback_recorder::About;
use serde_json::Value;
use support::{Caller, Folder, PYTHON, Process, quoted, read_wav, root, soon};
use tokio::net::TcpStream;

/// Hears everything, and tells of each key.
const BOT: &str = r#"
import sys
sys.path.insert(0, sys.argv[1])
import ringback

class Bot(ringback.Module):
    name, rate = "bot", 8000

    def on_audio(self, s, pcm):
        pass

    def on_dtmf(self, s, key):
        s.transcript("canary-" + key.digit)
        s.event("key", {"pressed": "canary-" + key.digit})
        s.log("canary-" + key.digit)

ringback.run(Bot)
"#;

fn configuration(folder: &Folder) -> String {
    let script = quoted(folder.write("bot.py", BOT).display());
    let sdk = quoted(root().join("compute-modules/python/src").display());
    let path = |name: &str| quoted(folder.path(name).display());
    format!(
        "[capture]\ndir = {}\naudio = true\n\
         [[listener]]\nname = \"phone\"\npath = \"/twilio\"\nprovider = \"twilio\"\n\
         [[module]]\nname = \"bot\"\ncommand = [\"{PYTHON}\", {script}, {sdk}]\nready_timeout = \"20s\"\n\
         [[module]]\nname = \"recorder\"\nbuiltin = \"recorder\"\nconfig = {{ dir = {} }}\n\
         [[route]]\nname = \"default\"\nmodules = [\"bot\", \"recorder\"]\nspeaker = \"bot\"\n\
         private = {{ exempt = [\"bot\"], begin = \"*7\", end = \"*8\" }}\n\
         [[sink]]\nname = \"lines\"\nkind = \"jsonl\"\nall = true\npath = {}\n",
        path("captures"),
        path("recordings"),
        path("events.jsonl"),
    )
}

async fn press(caller: &mut Caller, keys: &str) {
    for key in keys.chars().filter_map(Digit::new) {
        caller.press(key).await;
    }
}

/// All files below a folder.
fn files(dir: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// So many frames of 20 ms of one sample.
fn frames(sample: i16, count: usize) -> Vec<i16> {
    vec![sample; 160 * count]
}

#[tokio::test]
async fn nothing_of_a_private_part_is_in_what_the_bridge_writes() {
    let folder = Folder::new("private-part");
    let file = folder.write("ringback.toml", &configuration(&folder)).display().to_string();
    let process = Process::serve(&["--config", &file], &[("RINGBACK_LOG", "trace")]);
    let stream = soon("a connection", TcpStream::connect(&process.address)).await.unwrap();
    let dial = Dial { target: "/twilio".into(), ..Dial::default() };
    let provider = find("twilio").unwrap();
    let mut caller = Caller::dial(Clock::start(), stream, provider, &dial, &[]).await.unwrap();
    caller.in_step = false;
    let (public, secret) = (1_116, 8_316);
    process.logged("module=\"bot\"");
    caller.speak(&frames(public, 40)).await;
    press(&mut caller, "5").await;
    caller.speak(&frames(public, 50)).await;
    press(&mut caller, "*7").await;
    caller.speak(&frames(secret, 60)).await;
    press(&mut caller, "6666").await;
    caller.speak(&frames(secret, 20)).await;
    press(&mut caller, "*8").await;
    // Until the bot cannot mean it any more.
    caller.speak(&frames(public, 130)).await;
    press(&mut caller, "9").await;
    caller.speak(&frames(public, 30)).await;
    caller.hang_up().await;
    process.logged("call ended");
    process.signal("TERM");
    let ended = process.finish();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let mut found = Vec::new();
    files(&folder.path(""), &mut found);
    found.retain(|path| !path.ends_with("bot.py"));
    let recording = found.iter().find(|path| path.extension().is_some_and(|e| e == "wav")).unwrap();
    let left: Vec<i16> = read_wav(recording).samples.iter().step_by(2).copied().collect();
    let of = |wanted: i16| left.iter().filter(|&&s| (s - wanted).abs() < 300).count();
    assert_eq!(of(secret), 0, "said in private");
    // A caller who is behind the clock, as on a busy machine, loses a little behind the end.
    assert!(of(public) >= 160 * 120, "{} of the rest", of(public));
    let about = About::read(recording).unwrap().unwrap();
    let [pause] = about.pauses[..] else { panic!("{about:?}") };
    assert!(pause.to_ms - pause.from_ms >= 1_500, "{about:?}");
    assert!(of(0) >= 160 * 80, "silence in its place");

    let mut texts = vec![("log".to_owned(), ended.stderr), ("screen".to_owned(), ended.stdout)];
    for path in found.iter().filter(|path| *path != recording) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        texts.push((name, std::fs::read_to_string(path).unwrap()));
    }
    assert!(texts.iter().any(|(name, _)| name.starts_with("events")) && texts.len() >= 5);
    // An octet of sound, repeated, as base64 has it.
    let sounding = |sample: i16| {
        let octet = ringback_codecs::g711::linear_to_mu(sample);
        base64_simd::STANDARD.encode_to_string([octet; 30])
    };
    let secrets = ["canary-6", "canary-*7", "\"6\"", "digit=6", "\"6666\"", &sounding(secret)];
    for (name, text) in &texts {
        for secret in secrets {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret} is in {name}");
        }
    }
    // What is not private is there, or all this would prove nothing.
    let events = &texts.iter().find(|(name, _)| name.starts_with("events")).unwrap().1;
    let events: Vec<Value> =
        events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let keys: String = events.iter().filter_map(|event| event["digit"].as_str()).collect();
    assert_eq!(keys, "5*79");
    let said: Vec<_> = events.iter().filter_map(|event| event["text"].as_str()).collect();
    assert_eq!(said.first().zip(said.last()), Some((&"canary-5", &"canary-9")));
    let ended = events.last().unwrap();
    assert_eq!((&ended["private"]["times"], &ended["private"]["keys"]), (&1.into(), &6.into()));
    let captured = texts.iter().find(|(_, text)| text.contains(&sounding(public)));
    assert!(captured.is_some(), "the capture holds what is not private");
}
