//! `ringback call` with credentials: by flags and out of the listener's own configuration, taken and refused.

use std::collections::BTreeMap;
use std::path::Path;

use ringback::connect::credentials;
use ringback_codecs::{SampleRate, wav};
use ringback_proto::provider::Provider;

use crate::support::{Finished, Folder, PATIENCE, Process, ringback, run};
use crate::ways::{NOBODYS, SEEDS, Way, ways};
use crate::{page_of, streaming};

/// Each kind once, with a provider that has it.
fn each_kind(folder: &Folder, seed: &str) -> BTreeMap<String, (&'static dyn Provider, Way)> {
    let mut kinds = BTreeMap::new();
    for provider in streaming().filter(|provider| provider.has_sound()) {
        for kind in credentials(provider.name()) {
            for way in ways(&kind, &page_of(provider), folder, seed) {
                kinds.entry(way.name.clone()).or_insert((provider, way));
            }
        }
    }
    kinds
}

/// A tenth of a second of silence.
fn silence(folder: &Folder) -> String {
    let path = folder.path("silence.wav");
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = wav::Writer::new(file, SampleRate::HZ_8000, 1).unwrap();
    writer.write(&[0; 800]).unwrap();
    writer.finish().unwrap();
    path.display().to_string()
}

/// At `address`, unless the flags say where.
fn call(address: &str, provider: &str, audio: &str, flags: &[&str]) -> Finished {
    let fixed = ["call", "--linger", "0", "--provider", provider, "--audio", audio];
    let mut command = ringback(fixed.iter().chain(flags));
    if !address.is_empty() {
        command.env("RINGBACK_BIND", address);
    }
    run(&mut command, PATIENCE)
}

fn listener(index: usize, provider: &dyn Provider, way: &Way) -> String {
    let name = provider.name();
    format!(
        "[[listener]]\nname = \"l{index}\"\npath = \"/l{index}\"\nprovider = \"{name}\"\npublic_url = \"wss://bridge.example/l{index}\"\nauth = {}\n",
        way.auth
    )
}

fn told(path: &Path, ended: &Finished) -> String {
    format!("{}: {}{}", path.display(), ended.stdout, ended.stderr)
}

#[test]
fn every_kind_is_called_by_flags_and_by_the_listeners_own_configuration() {
    let folder = Folder::new("call-credentials");
    let (kinds, guesses) = (each_kind(&folder, SEEDS[0]), each_kind(&folder, NOBODYS));
    let listeners = kinds.values().enumerate();
    let toml: String = listeners.map(|(index, (p, way))| listener(index, *p, way)).collect();
    let config = folder.write("ringback.toml", &toml);
    let file = config.display().to_string();
    let process = Process::serve(&["--config", &file], &[]);
    let audio = silence(&folder);
    for (index, (name, (provider, way))) in kinds.iter().enumerate() {
        let provider = provider.name();
        let key =
            way.flags.iter().position(|flag| flag == "--key").map(|at| &way.flags[at..at + 2]);
        let key: Vec<_> = key.into_iter().flatten().map(String::as_str).collect();
        let own = format!("l{index}");
        // It needs nothing else; a secret that opens by the first of two ways is the listener's as well.
        let by_config = [&["--config", &file, "--listener", &own][..], &key].concat();
        let ended = call(&process.address, provider, &audio, &by_config);
        assert_eq!(ended.code, Some(0), "{name}: {}", told(&config, &ended));

        let (url, public_url) =
            (format!("ws://{}/{own}", process.address), format!("wss://bridge.example/{own}"));
        let place = ["--url", &url, "--public-url", &public_url];
        let with = |way: &Way| {
            let flags = way.flags.iter().map(String::as_str).chain(place);
            call("", provider, &audio, &flags.collect::<Vec<_>>())
        };
        let ended = with(way);
        assert_eq!(ended.code, Some(0), "{name}: {}", told(&config, &ended));
        let ended = with(&guesses[name].1);
        assert_eq!(ended.code, Some(1), "{name}: {}", told(&config, &ended));
        for part in ["status 401", "authentication failed; the bridge's log says why", "; check "] {
            assert!(ended.stderr.contains(part), "{name}: {}", ended.stderr);
        }
        for secret in [SEEDS[0], NOBODYS] {
            assert!(!told(&config, &ended).contains(secret), "{name}: {}", ended.stderr);
        }
    }
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
}

/// A provider that posts is signed for, and checks what the bridge signs where it dials.
#[test]
fn posts_are_signed_and_what_the_bridge_signs_is_checked() {
    let folder = Folder::new("call-posts");
    let [token, secret, guess] = [("token", SEEDS[0]), ("secret", SEEDS[1]), ("guess", NOBODYS)]
        .map(|(name, text)| format!("file:{}", folder.write(name, text).display()));
    let toml = |dial: &str| {
        format!(
            "[[listener]]\nname = \"z\"\npath = \"/z\"\nprovider = \"zoom-rtms\"\n\
             auth = {{ kind = \"zoom-signature\", secret = \"{token}\" }}\n\
             options = {{ client_id = \"id\", client_secret = \"{secret}\"{dial} }}\n"
        )
    };
    let config = folder.write("ringback.toml", &toml(", dial = [\"ws://127.0.0.1\"]"));
    let file = config.display().to_string();
    let process = Process::serve(&["--config", &file], &[]);
    let (audio, url) = (silence(&folder), format!("ws://{}/z", process.address));
    let called = |code: i32, said: &str, flags: &[&str]| {
        let ended = call(&process.address, "zoom-rtms", &audio, flags);
        assert_eq!(ended.code, Some(code), "{flags:?}: {}", told(&config, &ended));
        assert!(ended.stderr.contains(said), "{flags:?}: {}", ended.stderr);
        for text in [SEEDS[0], SEEDS[1], NOBODYS] {
            assert!(!told(&config, &ended).contains(text), "{}", told(&config, &ended));
        }
    };
    let signed = ["--url", &url, "--auth", "zoom-signature", "--secret", &token];
    let app = |secret: &'static str| ["--client-id", "id", "--client-secret", secret];
    let [right, wrong] = [&secret, &guess].map(|secret| app(secret.clone().leak()));
    called(0, "", &["--config", &file]);
    called(0, "", &[&signed[..], &right].concat());
    called(1, "status 401", &["--url", &url]);
    called(1, "secret token", &["--url", &url, "--auth", "zoom-signature", "--secret", &guess]);
    called(1, "--client-secret", &signed);
    called(1, "--client-secret", &[&signed[..], &wrong].concat());
    let elsewhere = folder.write("elsewhere.toml", &toml("")).display().to_string();
    called(64, "dial = [\"ws://127.0.0.1\"]", &["--config", &elsewhere]);
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
}

#[test]
fn what_cannot_be_a_credential_is_told_before_anybody_is_called() {
    let folder = Folder::new("no-credentials");
    let audio = silence(&folder);
    let one = "name = \"a\"\npath = \"/a\"\nprovider = \"twilio\"\n";
    let two = one.replace("\"a\"", "\"b\"").replace("/a", "/b");
    let config = folder.write("two.toml", &format!("[[listener]]\n{one}[[listener]]\n{two}"));
    let file = config.display().to_string();
    folder.write("key.json", "{\"kty\":\"canary\"}");
    let key = format!("file:{}", folder.path("key.json").display());
    let cases: [(&str, &[&str], &str); 14] = [
        ("twilio", &["--auth", "zoom-signature", "--secret", "env:PATH"], "opens a stream"),
        ("twilio", &["--client-id", "x", "--client-secret", "env:PATH"], "twilio dials the bridge"),
        ("raw", &["--auth", "bearer", "--token", "canary"], "env:NAME"),
        ("raw", &["--auth", "bearer", "--token", "env:RINGBACK_NO_SUCH"], "--secret: environment"),
        ("raw", &["--auth", "bearer"], "needs --secret"),
        ("raw", &["--auth", "magic", "--token", "env:X"], "magic"),
        ("raw", &["--token", "env:X"], "--auth"),
        ("exotel", &["--auth", "basic", "--password", "env:X"], "needs --user"),
        (
            "twilio",
            &["--auth", "twilio-signature", "--secret", "env:X", "--user", "u"],
            "--user is not used",
        ),
        ("azure", &["--auth", "azure-jwt", "--key", &key, "--audience", "a"], "private RSA key"),
        ("audiosocket", &["--auth", "path", "--token", "env:PATH"], "by address who may call"),
        ("twilio", &["--config", &file], "say which with --listener: a, b"),
        (
            "twilio",
            &["--config", &file, "--listener", "c"],
            "no listener of twilio is called \"c\"",
        ),
        ("plivo", &["--config", &file], "no listener takes calls of plivo"),
    ];
    for (provider, flags, said) in cases {
        let ended = call("", provider, &audio, flags);
        assert_eq!(ended.code, Some(64), "{flags:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{flags:?}: {}", ended.stderr);
        assert!(!ended.stderr.contains("canary"), "{flags:?}: {}", ended.stderr);
    }
}

#[test]
fn a_load_test_may_be_of_a_bridge_that_asks_for_credentials() {
    let folder = Folder::new("bench-credentials");
    let (provider, way) = each_kind(&folder, SEEDS[0]).remove("twilio-signature").unwrap();
    let config = folder.write("ringback.toml", &listener(0, provider, &way));
    let file = config.display().to_string();
    let process = Process::serve(&["--config", &file], &[]);
    let bench = |flags: &[&str]| {
        let fixed = ["bench", "--calls", "2", "--seconds", "1", "--json"];
        let mut command = ringback(fixed.iter().chain(flags));
        run(command.env("RINGBACK_BIND", &process.address), PATIENCE)
    };
    let ended = bench(&["--config", &file]);
    assert_eq!(ended.code, Some(0), "{}", told(&config, &ended));
    let url = format!("ws://{}/l0", process.address);
    let ended = bench(&["--url", &url]);
    assert_eq!(ended.code, Some(1), "{}", told(&config, &ended));
    assert!(
        ended.stderr.contains("status 401") && ended.stderr.contains("--auth"),
        "{}",
        ended.stderr
    );
    let ended = bench(&["--find-max", "--config", &file]);
    assert!(ended.stderr.contains("asks for no credential"), "{}", ended.stderr);
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
}
