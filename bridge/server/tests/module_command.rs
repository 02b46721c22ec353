//! `ringback module` as its users meet it: what it writes runs, what it plays is answered, and what it finds wrong is told in words.

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use support::{
    Finished, Folder, NODE, PATIENCE, PYTHON, TOKEN, has_node, not_run, quoted, ringback, root,
    run, served_ears,
};

/// Compilers take their time.
const COMPILED: Duration = Duration::from_secs(300);

fn module(folder: &Path, args: &[&str]) -> Finished {
    let sdk = root().join("compute-modules/python/src");
    let mut command = ringback(["module"].iter().chain(args));
    command.current_dir(folder).env("PYTHONPATH", sdk).env("PYTHONDONTWRITEBYTECODE", "1");
    run(&mut command, PATIENCE)
}

/// A new module in a folder of its own.
fn new(folder: &Folder, lang: &str) -> PathBuf {
    let source = root().display().to_string();
    let made = module(&folder.path(""), &["new", "loud-one", "--lang", lang, "--source", &source]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(made.stdout.contains("loud-one/README.md"), "{}", made.stdout);
    folder.path("loud-one")
}

/// Where everything is that is built.
fn built() -> &'static Path {
    let program = Path::new(env!("CARGO_BIN_EXE_ringback"));
    program.parent().and_then(Path::parent).expect("a program lies in a profile's folder")
}

fn call() -> String {
    root().join("test-audio/call-appointment.wav").display().to_string()
}

/// It passes its own test, keeps to the contract, and tells what it heard.
fn assert_works(folder: &Path, test: &mut Command, command: &str) {
    let tested = run(test.current_dir(folder), COMPILED);
    assert_eq!(tested.code, Some(0), "{}\n{}", tested.stdout, tested.stderr);
    let checked = module(folder, &["check", command]);
    assert_eq!(checked.code, Some(0), "{}\n{}", checked.stdout, checked.stderr);
    let config = r#"{"limit": 9000}"#;
    let played =
        module(folder, &["test", command, &call(), "--speed", "50", "--config", config, "--json"]);
    assert_eq!(played.code, Some(0), "{}", played.stderr);
    assert!(played.stdout.contains("too.loud"), "{}", played.stdout);
}

#[test]
fn a_new_module_in_python_is_whole() {
    let folder = Folder::new("new-python");
    let made = new(&folder, "python");
    let mut test = Command::new(PYTHON);
    test.args(["-m", "unittest"])
        .env("PYTHONPATH", root().join("compute-modules/python/src"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    assert_works(&made, &mut test, &format!("{PYTHON} loud_one.py"));
}

#[test]
fn a_new_module_in_typescript_is_whole() {
    if !has_node() {
        return;
    }
    // Where `.ci/test` puts the compiler: beside what is built.
    let packages = built().join("typescript/node_modules");
    if !packages.join("typescript").is_dir() {
        return not_run("no TypeScript compiler beside what is built");
    }
    let folder = Folder::new("new-typescript");
    let made = new(&folder, "typescript");
    let installed = made.join("node_modules");
    std::fs::create_dir(&installed).unwrap();
    let link = |from: &Path, name: &str| std::os::unix::fs::symlink(from, installed.join(name));
    for name in ["typescript", "@types", "undici-types"] {
        link(&packages.join(name).canonicalize().unwrap(), name).unwrap();
    }
    link(&root().join("compute-modules/typescript"), "ringback").unwrap();
    let mut test = Command::new("sh");
    test.args(["-c", "node node_modules/typescript/bin/tsc && node --test dist/"]);
    assert_works(&made, &mut test, &format!("{NODE} dist/loud-one.js"));
}

#[test]
fn a_new_module_in_rust_is_whole() {
    let folder = Folder::new("new-rust");
    let made = new(&folder, "rust");
    // Beside what is built already: the packages it stands on are the same.
    let target = built().join("new-module");
    let mut test = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    test.args(["test", "--offline", "--quiet"]).env("CARGO_TARGET_DIR", &target);
    let mut build = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    build.args(["build", "--offline", "--quiet"]).env("CARGO_TARGET_DIR", &target);
    let built = run(build.current_dir(&made), COMPILED);
    assert_eq!(built.code, Some(0), "{}", built.stderr);
    assert_works(&made, &mut test, &quoted(target.join("debug/loud-one").display()));
}

#[test]
fn nothing_is_written_over_and_no_folder_is_left_half_made() {
    let folder = Folder::new("new-twice");
    let made = new(&folder, "python");
    std::fs::write(made.join("loud_one.py"), "mine").unwrap();
    let source = root().display().to_string();
    let again =
        module(&folder.path(""), &["new", "loud-one", "--lang", "rust", "--source", &source]);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);
    assert_eq!(std::fs::read_to_string(made.join("loud_one.py")).unwrap(), "mine");
    assert!(!made.join("Cargo.toml").exists());
    for args in [
        &["new", "other", "--lang", "python"][..],
        &["new", "other", "--lang", "python", "--source", "."][..],
        &["new", "../other", "--lang", "python", "--source", &source][..],
        &["new", "other", "--lang", "cobol", "--source", &source][..],
    ] {
        let refused = module(&folder.path(""), args);
        assert_eq!(refused.code, Some(64), "{args:?}");
        assert!(!folder.path("other").exists(), "{args:?}");
    }
}

/// A module that does to its host what `mode` says.
fn bad(mode: &str) -> String {
    let script = root().join("bridge/server/src/module_host/test_module.py");
    format!("{PYTHON} '{}' {mode}", script.display())
}

#[test]
fn a_recording_is_played_to_a_module_and_what_it_says_is_printed() {
    let folder = Folder::new("module-test");
    let saved = folder.path("heard.wav");
    let saved = saved.to_str().unwrap();
    let args = ["test", &bad("echo"), &call(), "--speed", "50", "--save", saved, "--silence", "0"];
    let played = module(&folder.path(""), &args);
    assert_eq!(played.code, Some(0), "{}", played.stderr);
    assert!(played.stdout.contains("started"), "{}", played.stdout);
    assert!(played.stdout.contains("said aloud"), "{}", played.stdout);
    let (said, heard) =
        (support::read_wav(Path::new(&call())), support::read_wav(Path::new(saved)));
    assert_eq!(heard.rate.hz(), 8_000);
    let seconds = |wav: &ringback_codecs::wav::Wav| {
        wav.samples.len() as f64 / f64::from(wav.channels) / f64::from(wav.rate.hz())
    };
    assert!((seconds(&said) - seconds(&heard)).abs() < 0.05, "an echo is as long as what was said");
}

#[test]
fn a_module_that_fails_over_a_recording_ends_with_1_and_says_why() {
    let folder = Folder::new("module-test-fails");
    for (mode, why) in [
        ("crash", "exited with status 3: boom"),
        ("reject", "bad_config as told"),
        ("garbage", "does not speak ringback.v1"),
        ("leave", "without `done`"),
    ] {
        let played = module(&folder.path(""), &["test", &bad(mode), &call(), "--speed", "50"]);
        assert_eq!(played.code, Some(1), "{mode}: {}", played.stderr);
        assert!(played.stderr.contains(why), "{mode}: {}", played.stderr);
    }
    let no_file = module(&folder.path(""), &["test", &bad("echo"), "no.wav"]);
    assert_eq!(no_file.code, Some(64), "{}", no_file.stderr);
    let no_program = module(&folder.path(""), &["test", "no-such-program", &call()]);
    assert_eq!(no_program.code, Some(1), "{}", no_program.stderr);
}

#[tokio::test]
async fn a_recording_is_played_to_a_server_whose_token_is_known() {
    let folder = Folder::new("module-test-served");
    let token = format!("file:{}", folder.write("token", TOKEN).display());
    let (_server, authority) = served_ears("127.0.0.1:0").await;
    let url = format!("ws://{authority}/ears");
    let args = ["test", &url, &call(), "--speed", "50", "--token", &token, "--json"];
    let played = module(&folder.path(""), &args);
    assert_eq!(played.code, Some(0), "{}", played.stderr);
    assert!(played.stdout.contains("\"heard\""), "{}", played.stdout);
    let refused = module(&folder.path(""), &["test", &url, &call()]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("check `token`"), "{}", refused.stderr);
}

#[test]
fn what_a_module_does_wrong_is_told_in_words() {
    let folder = Folder::new("module-check");
    let folder = &folder.path("");
    // At once: most of it is waiting for answers that do not come.
    std::thread::scope(|all| {
        for (mode, whys) in [
            (
                "echo",
                &["accepts sound on a call that offers none", "no `finalized` with the id"][..],
            ),
            ("mute", &["plays into slot 1, which has no session that is ready"]),
            ("garbage", &["print nothing to stdout but frames"]),
            ("oversize", &["body of 262145 octets is over the limit"]),
            ("slot", &["says something in slot 7"]),
            ("odd", &["plays 3 octets, which are no whole samples of 2"]),
            ("fatal", &["reports an error: vendor no key"]),
            (
                "unclear",
                &["`transcript` cannot be understood", "`later` is no word of the contract"],
            ),
            ("version", &["says versions [9]"]),
            ("hang", &["no `pong`"]),
            ("deaf", &["no `done` in answer to `stop` within 3000 ms"]),
            ("crash", &["ended before it said `pong`"]),
            ("reject", &["rejects it: bad_config as told"]),
            ("mixed 2", &["`ready` comes twice"]),
        ] {
            all.spawn(move || {
                let checked = module(folder, &["check", &bad(mode)]);
                assert_eq!(checked.code, Some(1), "{mode}: {}", checked.stdout);
                for why in whys {
                    assert!(checked.stdout.contains(why), "{mode}, {why}: {}", checked.stdout);
                }
                assert!(checked.stderr.contains(" wrong; "), "{mode}: {}", checked.stderr);
            });
        }
    });
}

#[test]
fn modules_of_our_own_keep_to_the_contract() {
    let folder = Folder::new("module-check-own");
    let parrot = "import ringback\n\
        class Parrot(ringback.Module):\n    rate = speaks = 16000\n    max_sessions = 2\n    framing = 'hdr16'\n    \
        def on_audio(self, s, pcm): s.play(pcm)\n    \
        def on_text(self, s, text): s.say(text.text)\n    \
        def on_finalize(self, s): s.transcript('so far')\n\
        ringback.run(Parrot)\n";
    folder.write("parrot.py", parrot);
    let checked = module(&folder.path(""), &["check", &format!("{PYTHON} parrot.py")]);
    assert_eq!(checked.code, Some(0), "{}", checked.stdout);
    for session in ["A call", "taken up again", "A call of words", "Two calls at once", "vanishes"]
    {
        assert!(checked.stdout.contains(session), "{}", checked.stdout);
    }
    assert!(!checked.stdout.contains("filters"), "{}", checked.stdout);
}

#[tokio::test]
async fn a_server_is_checked_as_a_program_is() {
    let folder = Folder::new("module-check-served");
    let token = format!("file:{}", folder.write("token", TOKEN).display());
    let (server, authority) = served_ears("127.0.0.1:0").await;
    let url = format!("ws://{authority}/ears");
    let checked = module(&folder.path(""), &["check", &url, "--token", &token]);
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
    for said in ["A call of words", "Two calls at once", "vanishes", "can be dialled again"] {
        assert!(checked.stdout.contains(said), "{}", checked.stdout);
    }
    let refused = module(&folder.path(""), &["check", &url]);
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    assert!(refused.stdout.contains("check `token`"), "{}", refused.stdout);
    drop(server);
}

#[test]
fn what_a_server_does_wrong_is_told_in_words() {
    let folder = Folder::new("module-check-bad-server");
    let deaf = "import ringback\n\
        class Deaf(ringback.Module):\n    \
        def on_audio(self, s, pcm): raise ValueError('no ears')\n\
        ringback.run(Deaf)\n";
    let checked = checked_as_a_server(&folder, deaf);
    assert_eq!(checked.code, Some(1), "{}", checked.stdout);
    assert!(checked.stdout.contains("reports an error: exception"), "{}", checked.stdout);
}

#[test]
fn a_server_that_takes_one_call_at_a_time_does_nothing_wrong() {
    let folder = Folder::new("module-check-one-call");
    let alone = "import ringback\n\
        class Alone(ringback.Module):\n    \
        def on_audio(self, s, pcm): pass\n\
        ringback.run(Alone)\n";
    let checked = checked_as_a_server(&folder, alone);
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
    assert!(checked.stdout.contains("Two calls at once"), "{}", checked.stdout);
}

/// What `ringback module check` says of a module that serves by itself, with whatever it does by default.
fn checked_as_a_server(folder: &Folder, module_py: &str) -> Finished {
    folder.write("module.py", module_py);
    let sdk = root().join("compute-modules/python/src");
    let mut served = Command::new(PYTHON);
    served.args(["module.py", "--serve", "127.0.0.1:0"]).current_dir(folder.path(""));
    served.env("PYTHONPATH", sdk).env("PYTHONDONTWRITEBYTECODE", "1");
    let mut server =
        served.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("Python runs");
    let mut told = String::new();
    BufReader::new(server.stdout.take().expect("piped"))
        .read_line(&mut told)
        .expect("it says where");
    let url = told[told.find("ws://").expect("its URL")..].trim();
    let checked = module(&folder.path(""), &["check", url]);
    server.kill().expect("it runs");
    server.wait().expect("it ends");
    checked
}

#[test]
fn a_filter_is_checked_for_its_answers() {
    let folder = Folder::new("module-check-filter");
    let filter = |name: &str, answer: &str| {
        let body = format!(
            "import ringback\n\
            class Filter(ringback.Module):\n    \
            def on_filter(self, s, pcm): {answer}\n\
            ringback.run(Filter)\n"
        );
        folder.write(name, &body);
        module(&folder.path(""), &["check", &format!("{PYTHON} {name}")])
    };
    let good = filter("good.py", "return bytes(255 - octet for octet in pcm)");
    for said in ["A call whose sound it filters", "answers a frame after"] {
        assert!(good.stdout.contains(said), "{}", good.stdout);
    }
    let failing = filter("failing.py", "return pcm[2:]");
    for said in ["reports an error: exception on_filter", "answers 0 of 8000 samples"] {
        assert!(failing.stdout.contains(said), "{}", failing.stdout);
    }
}
