//! `ringback bench` as its users run it: every frame comes back, once, from bridges and from floors. Asserts no times; machines
//! differ.

mod support;
#[path = "../benches/stages/written.rs"]
mod written;

use serde_json::Value;
use support::{PATIENCE, ringback, run};

fn json(args: &[&str]) -> Value {
    let ended = run(&mut ringback([&["bench", "--json"], args].concat()), PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("JSON")
}

/// All that was sent came back once, unless the generator stood still: it then sends in heaps, which the bridge trims by design.
fn assert_whole(figures: &Value, sent: u64) {
    assert_eq!(figures["sent"], sent, "{figures}");
    if figures["spoiled"] == false {
        for none in ["missing", "duplicates", "strangers"] {
            assert_eq!(figures[none], 0, "{figures}");
        }
    }
    assert!(figures["received"].as_u64() > Some(sent / 2), "{figures}");
}

#[test]
fn every_frame_comes_back_once() {
    for (provider, rate) in [("twilio", "8000"), ("raw", "16000")] {
        let load = ["--calls", "5", "--seconds", "1", "--provider", provider, "--rate", rate];
        let figures = json(&load);
        // 50 frames of each call are due within the second.
        assert_whole(&figures, 250);
        assert_eq!((&figures["calls"], &figures["provider"]), (&5.into(), &provider.into()));
        assert!(figures["latency_us"]["p50"].as_u64() > Some(0), "{figures}");
        let cost = figures["cpu_us_per_call_second"].as_f64();
        assert!(cost > Some(0.0) || cfg!(not(target_os = "linux")), "{figures}");
    }
}

#[test]
fn floors_are_measured_in_turns_with_the_bridge() {
    let load = ["--calls", "3", "--seconds", "1", "--rounds", "1"];
    let compared = json(&[&load[..], &["--against", "tcp-echo,ws-echo"]].concat());
    let standings = compared["standings"].as_array().expect("a list");
    let names: Vec<_> = standings.iter().map(|standing| standing["name"].as_str()).collect();
    assert_eq!(names, [Some("twilio"), Some("tcp-echo"), Some("ws-echo")]);
    for standing in standings {
        assert_whole(&standing["runs"][0], 150);
    }
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
