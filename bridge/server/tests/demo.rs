//! `ringback demo` as its users run it: a call with its transcript, reply, recording and picture. Needs a Python with PocketSphinx.

mod support;

use std::time::Duration;

use support::{Folder, python_with, read_wav, ringback, run, skip};

/// More words wrong than these and the demo has failed, in percent.
const MOST_WRONG: u32 = 20;
/// The longest the demo is silent: it waits for its modules to load and for the last words.
const SILENCE: Duration = Duration::from_secs(60);

#[test]
fn a_call_is_understood_answered_recorded_and_drawn() {
    let Some(python) = python_with("pocketsphinx") else { return skip("pocketsphinx") };
    let folder = Folder::new("demo");
    let out = folder.path("out").display().to_string();
    let python = python.display().to_string();
    let ended = run(&mut ringback(["demo", "--out", &out, "--python", &python]), SILENCE);
    let (stdout, stderr) = (&ended.stdout, &ended.stderr);
    assert_eq!(ended.code, Some(0), "stdout:\n{stdout}\nstderr:\n{stderr}");

    let line = |name: &str| {
        let line = stdout.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no line {name:?} in:\n{stdout}"))
    };
    let words = line("words");
    let (_, percent) = words.split_once('(').expect("a share");
    let percent: u32 = percent.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(percent < MOST_WRONG, "{words}");
    let sound = line("sound");
    assert!(sound.contains("every hop adds up") && sound.contains(" 0 lost"), "{sound}");

    let wav = read_wav(&folder.path("out/recording.wav"));
    assert_eq!(wav.channels, 2);
    let seconds = wav.samples.len() as f64 / 2.0 / f64::from(wav.rate.hz());
    assert!(seconds > 14.0, "the caller alone speaks for 14 s, recorded were {seconds:.1} s");
    for (side, loud) in [("caller", 0), ("agent", 1)] {
        let peak = wav.samples.iter().skip(loud).step_by(2).map(|s| s.unsigned_abs()).max();
        assert!(peak > Some(1_000), "the {side}'s channel is silent");
    }
    let picture = std::fs::read_to_string(folder.path("out/call.svg")).expect("a picture");
    assert!(picture.starts_with("<svg") || picture.starts_with("<?xml"), "{}", &picture[..80]);
    let transcript = line("transcript");
    let spoken = transcript.split_whitespace().skip(1).find(|word| word.len() > 6);
    let word = spoken.expect("a long word was understood");
    assert!(picture.contains(word), "{word} is not in the picture");
}
