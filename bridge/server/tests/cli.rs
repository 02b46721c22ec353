//! The command line as its users meet it: help, tables, exit codes, signals, and what the README says of it.

mod support;

use ringback::clock::Clock;
use ringback::socket::DialError;
use ringback_proto::provider::{Dial, PROVIDERS, behaviour, find};
use support::{
    Caller, Finished, Folder, PATIENCE, PYTHON, Process, known, read_wav, ringback, root, run, soon,
};
use tokio::net::TcpStream;

fn ask(args: &[&str]) -> Finished {
    run(&mut ringback(args), PATIENCE)
}

#[test]
fn every_command_explains_itself() {
    let all = ask(&["--help"]);
    assert_eq!(all.code, Some(0));
    let commands = ["serve", "call", "module", "providers", "demo", "bench", "completions"];
    for command in commands {
        assert!(all.stdout.contains(&format!("\n  {command} ")), "{command}:\n{}", all.stdout);
        for flag in ["--help", "-h"] {
            let help = ask(&[command, flag]);
            assert_eq!(help.code, Some(0), "{command} {flag}");
            assert!(help.stdout.contains("Usage: ringback"), "{}", help.stdout);
            assert!(!help.stdout.contains("[`"), "marks of rustdoc: {}", help.stdout);
            assert!(help.stderr.is_empty(), "{}", help.stderr);
        }
    }
    for shown in ["Exit codes", "ringback demo"] {
        assert!(all.stdout.contains(shown), "{}", all.stdout);
    }
    let version = ask(&["--version"]);
    assert_eq!(version.stdout, format!("ringback {}\n", env!("CARGO_PKG_VERSION")));
}

/// Who answers a call may be anybody, and what it says is text and one line.
#[test]
fn what_a_server_answers_forges_no_line_and_moves_no_cursor() {
    use std::io::{Read as _, Write as _};
    let server = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let url = format!("ws://{}/", server.local_addr().expect("bound"));
    // It ends with the process: it is asked for the call, and for what the call's modules find.
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.expect("somebody asks");
            let _ = stream.read(&mut [0; 4096]).expect("a request");
            let body = "no\nringback: forged\x1b[2J";
            let head = format!("HTTP/1.1 403 Forbidden\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + body).as_bytes()).expect("an answer");
        }
    });
    let ended = ask(&["call", "--provider", "conversation-relay", "--url", &url]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("no\\u000aringback: forged\\u001b[2J"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("\nringback: forged"), "{}", ended.stderr);
}

#[test]
fn what_is_not_understood_ends_with_64() {
    for (args, said) in [
        (&[][..], "Usage"),
        (&["telephone"][..], "telephone"),
        (&["serve", "--no-such-flag"][..], "--no-such-flag"),
        (&["call", "--provider", "bell", "--audio", "x.wav"][..], "no such provider"),
        (&["call", "--audio", "/no/such/file.wav"][..], "/no/such/file.wav"),
        (&["call", "--audio", "Cargo.toml"][..], "Cargo.toml"),
        (&["call"][..], "--audio"),
        (&["call", "--say", "hello"][..], "no words: give a sound file"),
        (
            &["call", "--provider", "conversation-relay", "--audio", "x.wav"][..],
            "type it with --words -",
        ),
        (&["call", "--provider", "conversation-relay", "--rate", "8000"][..], "no sound"),
        (
            &["call", "--provider", "conversation-relay", "--words", "/dev/null"][..],
            "no words in it",
        ),
        (&["serve", "--module", "python3 'half a quote"][..], "quote is not closed"),
        (&["serve", "--module", "  "][..], "the command is empty"),
        (&["serve", "--no-config", "--bind", "0.0.0.0:0"][..], "anybody who reaches it"),
        (&["serve", "--no-config", "--log", "loud=very"][..], "loud=very"),
    ] {
        let ended = ask(args);
        assert_eq!(ended.code, Some(64), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{args:?}: {}", ended.stderr);
        assert!(ended.stdout.is_empty(), "{args:?}: {}", ended.stdout);
    }
}

#[test]
fn a_bad_configuration_is_told_with_file_line_and_key() {
    let folder = Folder::new("bad-config");
    for (text, line, key) in [
        ("[server]\nbind = \"127.0.0.1:0\"\nbnid = 1\n", 3, "bnid"),
        ("[limits]\nmax_calls = -4\n", 2, "-4"),
        ("[[listener]]\nname = \"a\"\npath = \"/a\"\nprovider = \"bell\"\n", 4, "bell"),
        ("\n\n[log]\nlevel = \"info\"\nformat = \"xml\"\n", 5, "xml"),
        ("[[module]]\nname = \"m\"\nbuiltin = \"echo\"\nready_timeout = \"5\"\n", 4, "\"5\""),
    ] {
        let file = folder.write("bad.toml", text).display().to_string();
        let ended = ask(&["serve", "--config", &file]);
        assert_eq!(ended.code, Some(64), "{}", ended.stderr);
        let place = format!("{file}:{line}");
        assert!(ended.stderr.contains(&place), "not at {place}: {}", ended.stderr);
        assert!(ended.stderr.contains(key), "nothing of {key}: {}", ended.stderr);
    }
    let missing = ask(&["serve", "--config", "/no/such.toml"]);
    assert_eq!(missing.code, Some(64), "{}", missing.stderr);
}

#[test]
fn what_is_not_there_ends_with_69() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = ask(&["serve", "--no-config", "--bind", &address]);
    assert_eq!(ended.code, Some(69), "{}", ended.stderr);
    assert!(ended.stderr.contains(&address), "{}", ended.stderr);
    drop(taken);
    let audio = root().join("test-audio/sentence.wav").display().to_string();
    let nobody = format!("ws://{address}/twilio");
    let ended = ask(&["call", "--audio", &audio, "--url", &nobody]);
    assert_eq!(ended.code, Some(69), "{}", ended.stderr);
}

#[test]
fn providers_are_listed_for_people_and_programs() {
    let (text, json) = (ask(&["providers"]).stdout, ask(&["providers", "--json"]).stdout);
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    let names: Vec<_> = rows.as_array().unwrap().iter().map(|row| &row["name"]).collect();
    assert_eq!(names, PROVIDERS.iter().map(|p| p.name()).collect::<Vec<_>>());
    for (provider, row) in PROVIDERS.iter().zip(rows.as_array().unwrap()) {
        assert_eq!(row["formats"].as_array().unwrap().len(), provider.formats().len());
        let behaviours = behaviour::all(*provider);
        let told = row["behaviours"].as_array().unwrap();
        assert!(behaviours.iter().zip(told).all(|(b, told)| told["name"] == b.name));
        assert_eq!(told.len(), behaviours.len());
        assert!(text.contains(provider.name()) && text.contains(provider.title()), "{text}");
    }
    assert_eq!(ask(&["providers", "--json", "--markdown"]).code, Some(64));
}

#[test]
fn behaviours_are_told_to_who_asks_and_who_asks_for_none_there_is() {
    for provider in PROVIDERS {
        let help = ask(&["call", "--provider", provider.name(), "--behaviour", "help"]);
        assert_eq!(help.code, Some(0), "{}", help.stderr);
        assert!(!help.stdout.is_empty(), "{} has none and nobody says so", provider.name());
        for behaviour in behaviour::all(*provider) {
            assert!(help.stdout.contains(behaviour.name), "{}", help.stdout);
            assert!(help.stdout.contains(behaviour.summary), "{}", help.stdout);
        }
    }
    let audio = root().join("test-audio/sentence.wav").display().to_string();
    let wrong = ["call", "--audio", &audio, "--behaviour", "burst", "--behaviour", "politeness"];
    let ended = ask(&wrong);
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
    assert!(ended.stderr.contains("politeness") && ended.stderr.contains("out-of-order"));
    let mute = ask(&["call", "--behaviour", "burst"]);
    assert_eq!(mute.code, Some(64), "{}", mute.stderr);
    assert!(mute.stderr.contains("--audio"), "{}", mute.stderr);
}

#[test]
fn a_call_that_comes_back_says_the_rest() {
    let process = Process::serve(&["--no-config"], &[]);
    let audio = root().join("test-audio/sentence.wav").display().to_string();
    let url = format!("ws://{}/siphon-ai", process.address);
    let fixed = ["call", "--json", "--linger", "0.2", "--provider", "siphon-ai"];
    let asked = ["--audio", &audio, "--url", &url, "--behaviour", "redial", "--behaviour", "hold"];
    let ended = ask(&[&fixed[..], &asked].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let started = ended.stdout.matches("\"started\"").count();
    assert_eq!(started, 2, "{}", ended.stdout);
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
}

#[test]
fn the_readme_shows_the_providers_there_are() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, block) =
        readme.split_once("<!-- providers: `ringback providers --markdown` -->\n").unwrap();
    let (block, _) = block.split_once("<!-- /providers -->").unwrap();
    assert_eq!(block, ask(&["providers", "--markdown"]).stdout, "copy it into README.md");
}

#[test]
fn the_readme_names_commands_and_files_that_exist() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local = links.filter(|link| !link.contains("://") && !link.starts_with('#'));
    let file = |link: &&str| root().join(link.split('#').next().unwrap_or_default());
    let missing: Vec<_> = local.filter(|link| !file(link).exists()).collect();
    assert!(missing.is_empty(), "README.md links to what is not there: {missing:?}");
    let help = ask(&["--help"]).stdout;
    for command in readme.split("`ringback ").skip(1).filter_map(|c| c.split(['`', ' ']).next()) {
        let known = help.contains(&format!("\n  {command} ")) || command == "mic";
        assert!(known, "README.md speaks of `ringback {command}`");
    }
}

#[test]
fn shells_can_complete() {
    for shell in ["bash", "zsh", "fish"] {
        let script = ask(&["completions", shell]);
        assert_eq!(script.code, Some(0), "{shell}");
        assert!(
            script.stdout.contains("providers") && script.stdout.contains("ringback"),
            "{shell}"
        );
    }
    assert_eq!(ask(&["completions", "cobol"]).code, Some(64));
}

async fn caller(address: &str, call: &str) -> Result<Caller, DialError> {
    let provider = find("raw").expect("a provider");
    let linear =
        provider.formats().iter().find(|f| f.rate.hz() == 8_000 && f.octets_for(1) == Some(2));
    let dial = Dial {
        target: "/raw".into(),
        call: call.into(),
        format: linear.copied(),
        ..Dial::default()
    };
    let stream = soon("a connection", TcpStream::connect(address)).await.expect("it listens");
    Caller::dial(Clock::start(), stream, provider, &dial, &[]).await
}

async fn talk(caller: &mut Caller, frames: u64) {
    let from = caller.samples_sent;
    let samples: Vec<i16> = (from..from + 160 * frames).map(known).collect();
    caller.speak(&samples).await;
}

fn assert_echoed(caller: &Caller) {
    let said: Vec<u8> = (0..caller.samples_sent).flat_map(|n| known(n).to_le_bytes()).collect();
    assert!(caller.heard.concat() == said, "the echo is not what was said");
}

#[tokio::test]
async fn a_live_call_ends_by_itself_while_the_bridge_drains() {
    live_call_ends_by_itself(&[]).await;
}

#[tokio::test]
async fn a_live_call_ends_by_itself_on_threads_that_wake_in_batches() {
    live_call_ends_by_itself(&["--threads", "2", "--tick", "always"]).await;
}

async fn live_call_ends_by_itself(args: &[&str]) {
    let process = Process::serve(&[&["--no-config"], args].concat(), &[]);
    let mut live = caller(&process.address, "live").await.expect("a call");
    talk(&mut live, 10).await;
    process.signal("TERM");
    // Draining has begun once a new call is refused.
    let refused = soon("a refusal", async {
        loop {
            match caller(&process.address, "late").await {
                Err(DialError::Refused { status, retry_after, .. }) => {
                    return (status, retry_after);
                }
                Err(other) => panic!("{other}"),
                Ok(early) => drop(early.hang_up().await),
            }
        }
    });
    assert_eq!(refused.await, (503, Some(5)));
    talk(&mut live, 10).await;
    let live = live.hang_up().await;
    assert_echoed(&live);
    let ended = process.finish();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("draining") && ended.stderr.contains("drained"));
}

#[tokio::test]
async fn a_second_signal_ends_live_calls_with_1001() {
    let process = Process::serve(&["--no-config"], &[]);
    let mut live = caller(&process.address, "live").await.expect("a call");
    talk(&mut live, 5).await;
    process.signal("INT");
    // Two signals at once are one; the second goes out when the first was seen.
    soon("draining", async {
        while let Ok(early) = caller(&process.address, "late").await {
            early.hang_up().await;
        }
    })
    .await;
    process.signal("TERM");
    assert_eq!(live.closed().await.code, 1001);
    let ended = process.finish();
    assert_eq!(ended.code, Some(1), "a call was cut off: {}", ended.stderr);
}

/// Speaks back what it hears; says how it was started.
const MODULE: &str = r#"
import json, os, struct, sys
stdin, stdout = os.fdopen(0, "rb", 0), os.fdopen(1, "wb", 0)
def send(kind, body, slot=1):
    stdout.write(struct.pack("<IBBH", len(body), kind, 0, slot) + body)
def say(type, slot=1, **fields):
    send(0, json.dumps({"type": type, **fields}).encode(), slot)
def read(count):
    octets = b""
    while len(octets) < count:
        piece = stdin.read(count - len(octets))
        if not piece:
            sys.exit(0)
        octets += piece
    return octets
say("register", slot=0, module="words", v=[1])
while True:
    length, kind, _, slot = struct.unpack("<IBBH", read(8))
    body = read(length)
    if kind == 1:
        send(1, body)
        continue
    message = json.loads(body)
    if message["type"] == "ping":
        say("pong", slot=slot, t=message["t"])
    elif message["type"] == "start":
        pcm = {"encoding": "pcm_s16le", "rate": 8000}
        say("ready", accept={"in": pcm, "out": pcm, "tracks": [0], "framing": "raw"})
        say("event", name="words", data=sys.argv[1:])
    elif message["type"] == "stop":
        say("done")
"#;

#[tokio::test]
async fn a_module_is_named_on_the_command_line_with_its_words() {
    let folder = Folder::new("words");
    let script = folder.write("a folder/my module.py", MODULE).display().to_string();
    let module = format!("{PYTHON} '{script}' \"two words\" it's\\ 'one' ''");
    // An odd quote is refused, a whole one holds words together; no shell is asked.
    let ended = ask(&["serve", "--bind", "127.0.0.1:0", "--module", &module]);
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
    let module = format!("{PYTHON} '{script}' \"two words\" $HOME 'it\"s' ''");
    let recordings = folder.path("recordings").display().to_string();
    let process = Process::serve(&["--module", &module, "--record", &recordings], &[]);
    let mut caller = caller(&process.address, "words").await.expect("a call");
    caller.in_step = false;
    talk(&mut caller, 20).await;
    caller.until("the module's words", |c| c.results.iter().any(|r| r.contains("\"words\""))).await;
    let words = caller.results.iter().find(|r| r.contains("\"words\"")).unwrap().clone();
    let words: serde_json::Value = serde_json::from_str(&words).unwrap();
    assert_eq!(words["data"], serde_json::json!(["two words", "$HOME", "it\"s", ""]));
    caller.until("the module's echo", |c| c.samples_heard > 0).await;
    caller.hang_up().await;
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
    let mut files = std::fs::read_dir(&recordings).unwrap().map(|entry| entry.unwrap().path());
    let wav = read_wav(&files.find(|path| path.extension().is_some_and(|e| e == "wav")).unwrap());
    assert_eq!((wav.channels, wav.rate.hz()), (2, 8_000));
    let left: Vec<i16> = wav.samples.iter().step_by(2).take(160 * 20).copied().collect();
    assert!(left == (0..160 * 20).map(known).collect::<Vec<_>>(), "left is what the caller said");
}

#[test]
fn a_call_of_words_is_acted_out_and_shown_at_both_ends() {
    let process = Process::serve(&["--no-config", "--show"], &[]);
    let url = format!("ws://{}/conversation-relay", process.address);
    let said = ["A table for two, please.", "Tonight, at \"eight\"."];
    let fixed = ["call", "--provider", "conversation-relay", "--linger", "3", "--url", &url];
    let words = ["--json", "--say", said[0], "--say", said[1], "--dtmf", "1"];
    let ended = ask(&[&fixed[..], &words].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let lines = ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON lines"));
    let lines: Vec<serde_json::Value> = lines.collect();
    let of = |kind: &str, name: &str, what: &str| {
        let lines = lines.iter().filter(|line| line[kind] == name);
        lines.filter_map(|line| line[what].as_str()).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of("event", "says", "detail"), said);
    assert_eq!(of("event", "hears", "detail"), said, "the echo says it back: {lines:?}");
    assert_eq!(of("event", "interrupts", "detail"), [""; 0], "answers are heard to their end");
    assert_eq!(of("type", "transcript", "text"), said, "the bridge tells what was heard");
    assert_eq!(of("type", "say", "text"), said, "and what was answered");
    assert_eq!(of("type", "dtmf", "digit"), ["1"]);
    let ended = lines.iter().find(|line| line["type"] == "call.ended").expect("the accounts");
    assert_eq!((&ended["balanced"], &ended["texts_in"]), (&true.into(), &2.into()), "{ended}");
    let summary = lines.iter().find(|line| line["event"] == "summary").expect("the last line");
    assert_eq!((&summary["texts_sent"], &summary["texts_received"]), (&2.into(), &2.into()));
    process.signal("TERM");
    let shown = process.finish().stdout;
    for words in said {
        assert!(shown.contains(&format!("conversation-relay: {words}")), "{shown}");
        assert!(shown.contains(&format!("echo says: {words}")), "{shown}");
    }
}

#[test]
fn a_call_from_the_command_line_is_heard_and_kept() {
    let folder = Folder::new("call");
    let process = Process::serve(&["--no-config"], &[]);
    let audio = root().join("test-audio/sentence.wav").display().to_string();
    let kept = folder.path("heard.wav").display().to_string();
    let calls = ["twilio", "asterisk"].map(|provider| {
        let url = format!("ws://{}/{provider}", process.address);
        let fixed = ["call", "--json", "--dtmf", "1#", "--linger", "0.2", "--provider", provider];
        let ended =
            ask(&[&fixed[..], &["--audio", &audio, "--url", &url, "--save", &kept]].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let lines =
            ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON lines"));
        (provider, lines.collect::<Vec<serde_json::Value>>())
    });
    for (provider, events) in calls {
        let of = |name: &str| events.iter().find(|event| event["event"] == name);
        assert!(
            of("started").is_some() && of("playback-began").is_some(),
            "{provider}: {events:?}"
        );
        let summary = of("summary").expect("the last line");
        let heard = summary["samples_received"].as_u64().unwrap();
        assert!(summary["frames_sent"].as_u64().unwrap() >= 173, "{provider}: {summary}");
        assert!(heard >= 20_000, "{provider}: {summary}");
        let wav = read_wav(&folder.path("heard.wav"));
        assert_eq!((wav.channels, wav.rate.hz()), (1, 8_000));
        assert!(
            wav.samples.iter().any(|sample| sample.unsigned_abs() > 5_000),
            "{provider}: silence"
        );
    }
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
}
