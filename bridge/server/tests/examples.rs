//! What README and examples show, run as they stand: first modules, transcribers, a menu and a function. Others have files of their own.

#![allow(clippy::unwrap_used, reason = "a test whose ground gives way has failed")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use ringback::clock::Clock;
use ringback_proto::provider::{Dial, find};
use support::{
    Caller, Folder, NODE, PATIENCE, PYTHON, Process, has_node, not_run, python_with, quoted,
    read_wav, ringback, root, run, skip, soon, sound,
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
    check_sentence(&transcript);
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
}

/// Nearly all words, and where they are.
fn check_sentence(transcript: &serde_json::Value) {
    let text = transcript["text"].as_str().expect("words");
    let said = "what time do you open on saturday".split(' ');
    let understood = said.filter(|word| text.split(' ').any(|other| other == *word)).count();
    assert!(understood >= 6, "of seven words, {understood} are in {text:?}");
    let (start, end) = (&transcript["start_ms"], &transcript["end_ms"]);
    let within = |ms: &serde_json::Value, from, to| (from..=to).contains(&ms.as_u64().unwrap());
    assert!(within(start, 200, 900) && within(end, 2_300, 3_400), "{transcript}");
}

/// The example of this name as this machine's Node can run it, in a folder from which it finds the kit. Older ones leave types alone,
/// and need the compiler that the tests of the kit's types brought along.
fn javascript_of(folder: &Folder, example: &str) -> Option<String> {
    let script = root().join("examples").join(example);
    let sdk = root().join("compute-modules/typescript");
    std::fs::create_dir(folder.path("node_modules")).unwrap();
    std::os::unix::fs::symlink(sdk, folder.path("node_modules/ringback")).unwrap();
    let target =
        Path::new(env!("CARGO_BIN_EXE_ringback")).ancestors().nth(2).expect("a target folder");
    let compiler = target.join("typescript/node_modules/typescript");
    let program = "const [compiler, from, to] = process.argv.slice(1), fs = require('fs'); \
        const strip = require('module').stripTypeScriptTypes ?? ((code) => require(compiler) \
        .transpile(code, { module: 'esnext', target: 'es2022' })); \
        fs.writeFileSync(to, strip(fs.readFileSync(from, 'utf8')))";
    let (out, beside) = (folder.path("module.mjs"), script.with_file_name("engine.sh"));
    std::os::unix::fs::symlink(beside, folder.path("engine.sh")).unwrap();
    let mut node = Command::new(NODE);
    node.args(["-e", program]).args([&compiler, &script, &out]).stderr(Stdio::null());
    let stripped = node.status().is_ok_and(|status| status.success());
    stripped.then(|| out.display().to_string())
}

#[tokio::test]
async fn the_transcriber_in_typescript_understands_a_sentence() {
    if !has_node() {
        return;
    }
    if Command::new("pocketsphinx_continuous").output().is_err() {
        return skip("pocketsphinx_continuous");
    }
    let folder = Folder::new("transcribe-typescript");
    let Some(script) = javascript_of(&folder, "transcribe-typescript/my-module.ts") else {
        return skip("Node.js 22.13, or the TypeScript compiler");
    };
    let process = bridge(NODE, &script);
    let transcript = result(&process, &sound("sentence.wav", HZ), "\"transcript\"").await;
    check_sentence(&transcript);
    let words = transcript["words"].as_array().expect("a list of words");
    let ordered = words.windows(2).all(|pair| pair[0]["e"].as_u64() <= pair[1]["s"].as_u64());
    assert!(words.len() >= 6 && ordered, "{transcript}");
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
}

/// A key as a phone sounds it: two tones for a tenth of a second, and a pause.
fn tone(low: u32, high: u32) -> Vec<i16> {
    let wave = |hz: u32, n: i32| (f64::from(hz) * f64::from(n) * std::f64::consts::TAU / 8e3).sin();
    let tone = (0..800).map(|n| ((wave(low, n) + wave(high, n)) * 8_000.0) as i16);
    tone.chain(std::iter::repeat_n(0, 8_000)).collect()
}

#[test]
fn the_menu_answers_keys_and_lets_itself_be_interrupted() {
    if Command::new("flite").arg("--version").output().is_err() {
        return skip("flite");
    }
    let sdk = root().join("compute-modules/python/src").display().to_string();
    let folder = Folder::new("menu");
    // The example's own file, but with this machine's Python and from wherever the tests run.
    let toml = std::fs::read_to_string(root().join("examples/dtmf-menu/ringback.toml")).unwrap();
    let script = root().join("examples/dtmf-menu/menu.py").display().to_string();
    let toml = toml.replace("\"python3\"", &quoted(PYTHON));
    let toml = toml.replace("\"examples/dtmf-menu/menu.py\"", &quoted(script));
    let config = folder.write("ringback.toml", &toml).display().to_string();
    let process = Process::serve(&["--config", &config], &[("PYTHONPATH", &sdk)]);
    let heard = folder.path("heard.wav").display().to_string();
    let tones = folder.path("tones.wav");
    let file = std::fs::File::create(&tones).unwrap();
    let mut wav =
        ringback_codecs::wav::Writer::new(file, ringback_codecs::SampleRate::HZ_8000, 1).unwrap();
    for key in [tone(697, 1_336), tone(852, 1_209), tone(941, 1_477)] {
        wav.write(&key).unwrap();
    }
    wav.finish().unwrap();
    let silence = root().join("test-audio/tone-1k.wav").display().to_string();
    let tones = tones.display().to_string();
    for (provider, audio, keys) in [("twilio", silence, "27#"), ("bandwidth", tones, "")] {
        let url = format!("ws://{}/{provider}", process.address);
        let call = ["call", "--provider", provider, "--url", &url, "--save", &heard, "--json"];
        let more = ["--audio", &audio, "--dtmf", keys, "--linger", "20"];
        let call = run(&mut ringback(call.iter().chain(&more)), PATIENCE);
        assert_eq!(call.code, Some(0), "{}{}", call.stdout, call.stderr);
        for (key, known) in [("2", true), ("7", false)] {
            let told = format!("{{\"key\":\"{key}\",\"known\":{known}}}");
            assert!(call.stdout.contains(&told), "{provider}, {told}: {}", call.stdout);
        }
        let loud = read_wav(Path::new(&heard)).samples.iter().filter(|s| s.abs() > 1_000).count();
        assert!(loud > 1_000, "{provider}: at least its goodbye is heard, {loud} samples");
    }
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
