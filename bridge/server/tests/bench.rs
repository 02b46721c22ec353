//! `ringback bench` as its users run it: every frame comes back, once. Asserts no times; machines differ.

mod support;

use support::{PATIENCE, ringback, run};

#[test]
fn every_frame_comes_back_once() {
    for provider in ["twilio", "raw"] {
        let args = ["bench", "--calls", "5", "--seconds", "2", "--json", "--provider", provider];
        let ended = run(&mut ringback(args), PATIENCE);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let figures: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
        // 100 frames of each call are due within the two seconds.
        assert_eq!(figures["sent"], 500, "{figures}");
        assert_eq!((&figures["calls"], &figures["provider"]), (&5.into(), &provider.into()));
        // A generator that stood still sends in heaps, which the bridge trims by design.
        if figures["spoiled"] == false {
            for none in ["missing", "duplicates", "strangers"] {
                assert_eq!(figures[none], 0, "{figures}");
            }
        }
        assert!(figures["received"].as_u64() > Some(400), "{figures}");
        assert!(figures["latency_us"]["p50"].as_u64() > Some(0), "{figures}");
        assert!(
            figures["cpu_us_per_call_second"].as_f64() > Some(0.0)
                || cfg!(not(target_os = "linux"))
        );
    }
}

#[test]
fn it_shows_figures_to_people() {
    let ended = run(&mut ringback(["bench", "--calls", "1", "--seconds", "1"]), PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for word in ["latency", "p99.9", "missing", "cost of a call"] {
        assert!(ended.stdout.contains(word), "{}", ended.stdout);
    }
    let wrong = run(&mut ringback(["bench", "--provider", "bell"]), PATIENCE);
    assert!(wrong.stderr.contains("bell") && wrong.code == Some(1), "{}", wrong.stderr);
}
