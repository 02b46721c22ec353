//! `ringback bench` as its users run it: every frame comes back, once, from bridges and from floors. Asserts no times; machines
//! differ.

mod support;
#[path = "../benches/stages/written.rs"]
mod written;

use std::collections::BTreeSet;
use std::process::Command;

use ringback_proto::provider::{PROVIDERS, PlayoutPolicy, Provider};
use serde_json::Value;
use support::{PATIENCE, ringback, run};

fn json(args: &[&str]) -> Value {
    let ended = run(&mut ringback([&["bench", "--json"], args].concat()), PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("JSON")
}

/// A machine that others use has bad moments; so often something is measured until none of them is in it.
const TRIES: usize = 3;

/// Runs `ringback bench` until each of the runs that `pick` finds in the answer was fair once, and gives the last answer. A fair run
/// brings all that was sent back, once. One that the machine spoiled may have lost frames: a generator that stood still sends in
/// heaps, which the bridge trims by design, and where it cuts a frame that nobody sent may be heard; the bridge that could tell of
/// it is gone with the run. But no machine makes frames come twice, so that fails in every run.
fn json_of_whole_runs(args: &[&str], sent: u64, pick: fn(&Value) -> Vec<&Value>) -> Value {
    let (mut fair, mut told) = (BTreeSet::new(), Value::Null);
    for _ in 0..TRIES {
        told = json(args);
        let runs = pick(&told);
        for (nth, run) in runs.iter().enumerate() {
            assert_eq!(run["duplicates"], 0, "{run}");
            if run["spoiled"] == false {
                assert_eq!((&run["sent"], &run["wrong"]), (&sent.into(), &0.into()), "{run}");
                fair.insert(nth);
            }
        }
        if fair.len() == runs.len() {
            return told;
        }
    }
    eprintln!("NOT JUDGED: {TRIES} runs of {args:?} were spoiled; frames may be missing");
    told
}

#[test]
fn every_frame_comes_back_once() {
    for (provider, rate) in [("twilio", "8000"), ("raw", "16000")] {
        let load = ["--calls", "5", "--seconds", "1", "--provider", provider, "--rate", rate];
        // 50 frames of each call are due within the second.
        let figures = json_of_whole_runs(&load, 250, |figures| vec![figures]);
        assert_eq!((&figures["calls"], &figures["provider"]), (&5.into(), &provider.into()));
        assert!(figures["latency_us"]["p50"].as_u64() > Some(0), "{figures}");
        let cost = figures["cpu_us_per_call_second"].as_f64();
        assert!(cost > Some(0.0) || cfg!(not(target_os = "linux")), "{figures}");
    }
}

/// Encoded and decoded twice on their way, and resampled where the rate is not the module's. Of frames that the codec made unreadable
/// it is known that they came back.
#[test]
fn every_frame_in_opus_comes_back_once() {
    for (provider, rate) in [("raw", "48000"), ("asterisk", "48000")] {
        let load = ["--calls", "2", "--seconds", "2", "--provider", provider, "--rate", rate];
        let load = [&load[..], &["--codec", "opus"]].concat();
        let figures = json_of_whole_runs(&load, 200, |figures| vec![figures]);
        if figures["spoiled"] == false {
            let back = figures["received"].as_u64().zip(figures["unreadable"].as_u64());
            assert_eq!(back.map(|(read, not)| read + not), Some(200), "{figures}");
        }
    }
}

#[test]
fn every_frame_comes_back_once_from_a_module_that_is_elsewhere() {
    let is_there = |program| Command::new(program).arg("--version").output().is_ok();
    let on_nats = is_there("nats-server") || is_there("/usr/sbin/nats-server");
    if !on_nats {
        support::not_run("no nats-server");
    }
    let names = if on_nats { "stdio,websocket,nats" } else { "stdio,websocket" };
    let load = ["--calls", "5", "--seconds", "1", "--rounds", "1", "--module", names];
    let told = json_of_whole_runs(&load, 250, |told| {
        let standings = told["standings"].as_array().expect("a list");
        standings.iter().flat_map(|standing| standing["runs"].as_array().expect("runs")).collect()
    });
    let places: Vec<_> =
        told["hops"].as_array().expect("a list").iter().map(|hop| &hop["place"]).collect();
    assert!(names.split(',').eq(places.iter().map(|place| place.as_str().expect("a name"))));
    assert_eq!(told["standings"][0]["name"], "in process");
}

/// There is no echo whose latency could be measured; the sentence says so before anything is started.
#[test]
fn who_only_listens_is_not_measured() {
    let silent = |p: &&&dyn Provider| p.capabilities().playout == PlayoutPolicy::None;
    let silent: Vec<_> = PROVIDERS.iter().filter(silent).filter(|p| p.has_sound()).collect();
    assert!(!silent.is_empty());
    for provider in silent {
        let ended = run(&mut ringback(["bench", "--provider", provider.name()]), PATIENCE);
        assert_eq!(ended.code, Some(1), "{}", provider.name());
        let said = format!("{} only listens", provider.title());
        assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    }
}

#[test]
fn floors_are_measured_in_turns_with_the_bridge() {
    let load = ["--calls", "3", "--seconds", "1", "--rounds", "1"];
    let load = [&load[..], &["--against", "tcp-echo,ws-echo"]].concat();
    let compared = json_of_whole_runs(&load, 150, |compared| {
        let standings = compared["standings"].as_array().expect("a list");
        standings.iter().map(|standing| &standing["runs"][0]).collect()
    });
    let standings = compared["standings"].as_array().expect("a list");
    let names: Vec<_> = standings.iter().map(|standing| standing["name"].as_str()).collect();
    assert_eq!(names, [Some("twilio"), Some("tcp-echo"), Some("ws-echo")]);
    assert!(compared["ratios"][0]["p50"].as_f64() > Some(0.0), "{compared}");
}

#[test]
fn stages_that_got_worse_are_new_or_are_gone_are_bad() {
    let table = |rows: &str| {
        written::Table::parse(&format!("# Counted with a machine\n{rows}")).expect("a table")
    };
    let old = table("      100  small\n    10000  large\n      700  gone\n");
    assert_eq!(old.machine, "a machine");
    // Fifty more, or a tenth more, is not both.
    let same = table("      150  small\n    11000  large\n      700  gone\n");
    assert_eq!(same.against(&old).1, 0);
    let (text, bad) = table("      151  small\n    11001  large\n        1  new\n").against(&old);
    assert_eq!(bad, 4, "{text}");
    assert!(text.contains("WORSE") && text.contains("new  ") && text.contains("gone  "), "{text}");
    let again = written::Table::parse(&old.print()).expect("what is printed can be read");
    assert_eq!((again.machine, again.rows), (old.machine, old.rows));
}

#[test]
fn idle_calls_are_open_and_silent() {
    let figures = json(&["--calls", "5", "--seconds", "1", "--idle"]);
    assert_eq!((&figures["sent"], &figures["received"]), (&0.into(), &0.into()));
    assert!(figures["cpu_share"].is_number() || cfg!(not(target_os = "linux")), "{figures}");
}

#[test]
fn it_shows_figures_to_people_and_draws_them() {
    let plot = std::env::temp_dir().join(format!("ringback-plot-{}.svg", std::process::id()));
    let mut command = ringback(["bench", "--calls", "1", "--seconds", "1", "--plot"]);
    let ended = run(command.arg(&plot), PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for word in ["latency", "p99.9", "missing", "cost of a call"] {
        assert!(ended.stdout.contains(word), "{}", ended.stdout);
    }
    let drawn = std::fs::read_to_string(&plot).expect("a plot");
    assert!(drawn.contains("latency over time"));
    std::fs::remove_file(&plot).expect("removed");
}

#[test]
fn what_cannot_be_measured_is_said() {
    for (args, word) in [
        (&["--provider", "bell"][..], "bell"),
        (&["--rate", "44100"], "44100 Hz"),
        (&["--url", "ws://127.0.0.1:1/x"], "cannot connect"),
        (&["--provider", "raw", "--rate", "48000", "--plot", "/"], "cannot write"),
    ] {
        let args = [&["bench", "--calls", "1", "--seconds", "1"], args].concat();
        let wrong = run(&mut ringback(&args), PATIENCE);
        assert!(wrong.stderr.contains(word) && wrong.code == Some(1), "{}", wrong.stderr);
    }
}
