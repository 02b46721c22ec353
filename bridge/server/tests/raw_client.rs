//! The Python client of the examples, a real client of the raw protocol with a WebSocket library of its own, against the binary.

mod support;

use std::process::Command;

use ringback_codecs::wav::Writer;
use support::{Folder, PATIENCE, Process, known, python_with, quoted, read_wav, root, run, skip};

const SAMPLES: u64 = 16_000;

#[test]
fn it_hears_what_it_said_and_gets_results() {
    let Some(python) = python_with("websockets") else { return skip("websockets") };
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
