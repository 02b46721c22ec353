//! What README and examples show, run as they stand: the first module, and the transcriber. The raw client has a file of its own.

mod support;

use ringback::clock::Clock;
use ringback_proto::provider::{Dial, find};
use support::{
    Caller, Folder, NODE, PATIENCE, PYTHON, Process, has_node, not_run, python_with, root, run,
    skip, soon, sound,
};
use tokio::net::TcpStream;

const HZ: u32 = 16_000;

/// A bridge whose only module is `script`, run by `python` with the SDK of the repository.
fn bridge(python: &str, script: &str) -> Process {
    let sdk = root().join("compute-modules/python/src").display().to_string();
    let module = format!("'{python}' '{script}'");
    Process::serve(
        &["--module", &module],
        &[("PYTHONPATH", &sdk), ("PYTHONDONTWRITEBYTECODE", "1")],
    )
}

/// Speaks, and listens until a result holds `word`; that result.
async fn result(process: &Process, samples: &[i16], word: &str) -> serde_json::Value {
    let provider = find("raw").expect("a provider");
    let linear =
        provider.formats().iter().find(|f| f.rate.hz() == HZ && f.octets_for(1) == Some(2));
    let dial = Dial { target: "/raw".into(), format: linear.copied(), ..Dial::default() };
    let stream =
        soon("a connection", TcpStream::connect(&process.address)).await.expect("it listens");
    let mut caller =
        Caller::dial(Clock::start(), stream, provider, &dial, &[]).await.expect("a call");
    caller.in_step = false;
    caller.speak(samples).await;
    // Silence follows, as on a phone: it is what ends an utterance.
    soon(&format!("a result with {word:?}"), async {
        loop {
            if let Some(result) = caller.results.iter().find(|result| result.contains(word)) {
                let result = serde_json::from_str(result).expect("results are JSON");
                caller.hang_up().await;
                return result;
            }
            caller.pause(1).await;
        }
    })
    .await
}

#[tokio::test]
async fn the_readmes_first_module_works() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, code) = readme.split_once("```python\n").expect("the README shows a module");
    let (code, _) = code.split_once("```").expect("to its end");
    let folder = Folder::new("readme");
    let script = folder.write("loudness.py", code).display().to_string();
    let process = bridge(PYTHON, &script);
    let event = result(&process, &[25_000; HZ as usize / 2], "too.loud").await;
    assert_eq!((&event["type"], &event["data"]["peak"]), (&"event".into(), &25_000.into()));
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
}

#[tokio::test]
async fn the_first_module_in_typescript_works() {
    if !has_node() {
        return;
    }
    let sdk = root().join("compute-modules/typescript");
    let readme = std::fs::read_to_string(sdk.join("README.md")).unwrap();
    let (_, code) = readme.split_once("```ts\n").expect("it shows a module");
    let (code, _) = code.split_once("```").expect("to its end");
    let folder = Folder::new("readme-typescript");
    std::fs::create_dir(folder.path("node_modules")).unwrap();
    std::os::unix::fs::symlink(sdk, folder.path("node_modules/ringback")).unwrap();
    let script = folder.write("loudness.mjs", code).display().to_string();
    let process = bridge(NODE, &script);
    let event = result(&process, &[25_000; HZ as usize / 2], "too.loud").await;
    assert_eq!((&event["type"], &event["data"]["peak"]), (&"event".into(), &25_000.into()));
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
}

#[tokio::test]
async fn the_transcriber_understands_a_sentence() {
    let Some(python) = python_with("pocketsphinx") else { return skip("pocketsphinx") };
    let script = root().join("examples/transcribe-python/my_module.py").display().to_string();
    let process = bridge(&python.display().to_string(), &script);
    let transcript = result(&process, &sound("sentence.wav", HZ), "\"transcript\"").await;
    let text = transcript["text"].as_str().expect("words");
    let said = "what time do you open on saturday".split(' ');
    let understood = said.filter(|word| text.split(' ').any(|other| other == *word)).count();
    assert!(understood >= 6, "of seven words, {understood} are in {text:?}");
    let (start, end) = (&transcript["start_ms"], &transcript["end_ms"]);
    let within = |ms: &serde_json::Value, from, to| (from..=to).contains(&ms.as_u64().unwrap());
    assert!(within(start, 200, 900) && within(end, 2_300, 3_400), "{transcript}");
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
}

/// A worker dies in mid-call, and every second is told all the same: the script itself looks.
#[cfg(feature = "nats")]
#[test]
fn the_workers_on_nats_tell_every_second() {
    let there = |path: &str| {
        let asked = std::process::Command::new(path).arg("--version").output();
        asked.is_ok_and(|output| output.status.success())
    };
    if !there("nats-server") && !there("/usr/sbin/nats-server") {
        return not_run("no nats-server (Debian package nats-server)");
    }
    let mut command = std::process::Command::new("bash");
    command.arg(root().join("examples/nats-workers/run"));
    command.env("RINGBACK", env!("CARGO_BIN_EXE_ringback")).env("PYTHON", PYTHON);
    let finished = run(&mut command, PATIENCE);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.contains("is killed"), "{}", finished.stdout);
}
