//! The Python client of the examples, a real client of the raw protocol with a WebSocket library of its own, against the binary.

mod support;

use std::path::PathBuf;
use std::process::Command;

use ringback_codecs::wav::Writer;
use support::{Folder, PATIENCE, PYTHON, Process, known, quoted, read_wav, root, run};

const SAMPLES: u64 = 16_000;

/// A Python with the `websockets` package: the one named by the environment, that of the repository, or the system's.
fn python() -> Option<PathBuf> {
    let named = std::env::var_os("RINGBACK_PYTHON").map(PathBuf::from);
    let candidates = [root().join(".venv/bin/python3"), PathBuf::from(PYTHON)];
    named.into_iter().chain(candidates).find(|python| {
        let import = Command::new(python).args(["-c", "import websockets"]).output();
        import.is_ok_and(|output| output.status.success())
    })
}

#[test]
fn it_hears_what_it_said_and_gets_results() {
    let Some(python) = python() else {
        let required =
            ["CI", "RINGBACK_REQUIRE_DEMO"].into_iter().find(|v| std::env::var_os(v).is_some());
        let why = "no Python with the package `websockets`: neither RINGBACK_PYTHON, .venv/bin/python3 of the repository nor python3 has it";
        assert_eq!(required, None, "{why}");
        eprintln!("SKIPPED, NOTHING WAS TESTED: {why}; run `bash .ci/test` to set it up");
        return;
    };
    let folder = Folder::new("raw-client");
    let said: Vec<i16> = (0..SAMPLES).map(known).collect();
    let rate = ringback_codecs::SampleRate::HZ_8000;
    let file = std::fs::File::create(folder.path("said.wav")).expect("a file");
    let mut wav = Writer::new(file, rate, 1).expect("a WAV file");
    wav.write(&said).expect("written");
    wav.finish().expect("finished");
    let recordings = quoted(folder.path("recordings").display());
    let toml = format!(
        "[[listener]]\nname = \"raw\"\npath = \"/raw\"\nprovider = \"raw\"\n\
         [[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n\
         [[module]]\nname = \"recorder\"\nbuiltin = \"recorder\"\nconfig = {{ dir = {recordings} }}\n\
         [[route]]\nname = \"default\"\nmodules = [\"echo\", \"recorder\"]\nspeaker = \"echo\"\n"
    );
    let config = folder.write("ringback.toml", &toml).display().to_string();
    let process = Process::serve(&["--config", &config], &[]);
    let url = format!("ws://{}/raw?encoding=l16&rate={{rate}}", process.address);
    let mut client = Command::new(python);
    client.arg(root().join("examples/raw-client-python/client.py"));
    client.arg(folder.path("said.wav")).args(["--wait", "0.5", "--url", &url]);
    client.arg("--reply").arg(folder.path("heard.wav"));
    let ended = run(&mut client, PATIENCE);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);

    let heard = read_wav(&folder.path("heard.wav"));
    assert_eq!((heard.rate, heard.channels), (rate, 1));
    assert!(heard.samples == said, "it heard {} samples, not what it said", heard.samples.len());
    let messages: Vec<serde_json::Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let start = messages.iter().find(|m| m["type"] == "start").expect("the bridge's first message");
    assert_eq!((&start["encoding"], &start["rate"]), (&"l16".into(), &8_000.into()));
    let result = messages.iter().find(|m| m["type"] == "event").expect("a result of the recorder");
    assert_eq!(result["name"], "recorder.started");
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
}
