//! Configurations good and bad: what they mean, and what is said about them.

mod answers;
mod auth;
mod example;
mod functions;
mod hangup;
#[cfg(feature = "nats")]
mod nats;
mod operator;
mod places;
mod problems;
mod routes;
mod sinks;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ringback_proto::provider::auth::{Jwt, JwtKeys, KeySet};
use ringback_proto::provider::{self, Secret};
use toml::de::{DeTable, DeValue};

use super::*;
use crate::listener::{Access, network};

const PROVIDER_NAMES: [&str; 4] = ["twilio", "telnyx", "plivo", "asterisk"];

fn context(variable: &dyn Fn(&str) -> Option<String>) -> Context<'_> {
    Context { variable, providers: PROVIDER_NAMES.to_vec() }
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    let variable = |name: &str| (name == "TOKEN").then(|| "s3cret-canary".to_owned());
    Config::parse("f.toml", text, &Overrides::default(), &context(&variable))
}

/// A listener, with more keys behind it.
fn listener(keys: &str) -> String {
    format!("[[listener]]\nname = \"a\"\npath = \"/a\"\nprovider = \"twilio\"\n{keys}\n")
}

#[test]
fn without_a_file_every_provider_is_echoed_on_this_machine() {
    let config = Config::defaults(&Overrides::default(), &context(&|_| None)).unwrap();
    assert_eq!(config.bind.to_string(), "127.0.0.1:8080");
    assert_eq!(config.listeners.len(), PROVIDER_NAMES.len());
    let twilio = config.listener("twilio").unwrap();
    assert_eq!((twilio.endpoint.path.as_str(), twilio.auth.kind()), ("/twilio", "none"));
    assert_eq!(twilio.routes, ["default"]);
    let route = config.route("default").unwrap();
    assert_eq!(
        (route.modules.as_slice(), route.speakers.as_slice()),
        (&["echo".to_owned()][..], &["echo".to_owned()][..])
    );
    assert_eq!(config.module("echo").unwrap().run, ModuleRun::Builtin(Builtin::Echo));
    let summary = config.summary();
    assert!(
        summary.contains("ws://127.0.0.1:8080/twilio    twilio, auth none, route default: echo"),
        "{summary}"
    );
    assert_eq!(summary.lines().count(), 1 + PROVIDER_NAMES.len());
}

#[test]
fn where_calls_come_in_is_told_as_they_do() {
    let providers = vec!["twilio", "audiosocket", "zoom-rtms"];
    let context = Context { variable: &|_| None, providers };
    let summary = Config::defaults(&Overrides::default(), &context).unwrap().summary();
    for line in [
        "  ws://127.0.0.1:8080/twilio       twilio, ",
        "  tcp://127.0.0.1:8080             audiosocket, ",
        "  http://127.0.0.1:8080/zoom-rtms  zoom-rtms, ",
    ] {
        assert!(summary.contains(line), "{summary}");
    }
}

#[test]
fn an_empty_file_means_the_defaults() {
    let config = parse("").unwrap();
    assert_eq!(config.listeners.len(), PROVIDER_NAMES.len());
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.pages, Pages { metrics: Access::Loopback, events: Access::Loopback });
    assert_eq!(config.log, LogOptions::default());
}

#[test]
fn a_whole_file_means_what_it_says() {
    let config = parse(
        r#"
        server = { bind = "[::1]:9000", drain_timeout = "2m", metrics = "off", events = "any" }
        limits = { max_calls = 7, max_message = 4096, write_timeout = "1s", keepalive = "10s" }
        log = { format = "json", level = "debug" }
        [[listener]]
        name = "main"
        path = "/x/y"
        provider = "telnyx"
        public_url = "wss://bridge.example/x/y"
        auth = { kind = "basic", user = "u", password = "env:TOKEN" }
        keepalive = "off"
        origins = ["https://phone.example"]
        options = { one_way = true, inbound_format = "g722/16000" }
        [[module]]
        name = "rec"
        builtin = "player"
        config = { folder = "recordings", since = 2026-11-21, gain = [1, 0.5, true] }
        [[module]]
        name = "bot"
        command = ["python3", "bot.py"]
        on_fail = "hangup"
        ready_timeout = "1s"
        ring = "30s"
        [[route]]
        name = "only"
        modules = ["rec", "bot"]
        speaker = "bot"
        barge_in = { min_speech = "300ms" }
        "#,
    )
    .unwrap();
    assert_eq!(config.bind.to_string(), "[::1]:9000");
    assert_eq!(config.pages, Pages { metrics: Access::Off, events: Access::Any });
    assert_eq!((config.limits.max_streams, config.limits.drain_timeout.as_secs()), (7, 120));
    assert_eq!(config.log, LogOptions { format: LogFormat::Json, filter: "debug".into() });
    let main = config.listener("main").unwrap();
    assert_eq!(
        (main.provider.as_str(), main.routes.as_slice(), main.one_way),
        ("telnyx", &["only".to_owned()][..], true)
    );
    assert_eq!(
        main.auth,
        Auth::Basic { user: "u".into(), passwords: vec!["s3cret-canary".into()] }
    );
    assert_eq!(main.endpoint.socket.keepalive, None);
    assert_eq!(main.endpoint.socket.max_message, 4096);
    assert_eq!(main.endpoint.socket.write_deadline, Duration::from_secs(1));
    assert_eq!(main.options.inbound_format.unwrap().to_string(), "G.722 16000 Hz");
    let wanted =
        serde_json::json!({"folder": "recordings", "since": "2026-11-21", "gain": [1, 0.5, true]});
    assert_eq!(config.module("rec").unwrap().config, wanted);
    let bot = config.module("bot").unwrap();
    let command = vec!["python3".into(), "bot.py".into()];
    let mut spec = ChildSpec { max_processes: 7, ..ChildSpec::new("bot", command) };
    spec.launch.surroundings.withheld = vec!["TOKEN".into()];
    assert_eq!(bot.run, ModuleRun::Child(spec), "no more processes than calls");
    assert_eq!((&bot.on_fail, bot.ring), (&OnFail::Hangup, Some(Duration::from_secs(30))));
    let barge_in = BargeInConfig { on_speech: true, min_speech: Duration::from_millis(300) };
    assert_eq!(config.route("only").unwrap().barge_in, Some(barge_in));
}

#[test]
fn a_module_elsewhere_is_told_by_its_url() {
    let text = "[[module]]\nname = \"gpu\"\nurl = \"wss://gpu.example.com/stt?m=1\"\n\
                token = \"env:TOKEN\"\nca_file = \"ca.pem\"\n";
    let config = parse(text).unwrap();
    let run = &config.module("gpu").unwrap().run;
    let expected = ModuleRun::WebSocket {
        url: "wss://gpu.example.com/stt?m=1".parse().unwrap(),
        token: Some("s3cret-canary".into()),
        trust: Some(Trust::File("ca.pem".into())),
    };
    assert_eq!(run, &expected);
    assert!(!format!("{run:?}").contains("s3cret-canary"));
    assert_eq!(config.trusts(), [Trust::File("ca.pem".into())], "nobody else is dialled by TLS");
    let shared = parse(&text.replace("ca_file = \"ca.pem\"", "")).unwrap();
    assert_eq!(shared.trusts(), [Trust::System]);
    let plain = parse("[[module]]\nname = \"gpu\"\nurl = \"ws://gpu:9000\"\n").unwrap();
    assert_eq!(plain.trusts(), []);
}

#[test]
fn who_is_to_dial_a_provider_looks_for_authorities_at_the_start() {
    let variable = |name: &str| (name == "TOKEN").then(|| "secret".to_owned());
    let context = Context { variable: &variable, providers: vec!["twilio", "zoom-rtms"] };
    let wants_tls = |text: &str| {
        Config::parse("f.toml", text, &Overrides::default(), &context).unwrap().wants_tls()
    };
    let zoom = listener("auth = { kind = \"zoom-signature\", secret = \"env:TOKEN\" }\noptions = { client_id = \"id\", client_secret = \"env:TOKEN\" }")
        .replace("twilio", "zoom-rtms");
    assert!(wants_tls(&zoom));
    assert!(!wants_tls(&listener("")), "a provider that dials us");
    assert!(!wants_tls(""), "listeners for tries");
}

#[test]
fn flags_win_over_the_environment_and_the_environment_over_the_file() {
    let text = "server.bind = \"127.0.0.1:1\"\nserver.drain_timeout = \"1s\"\nlog.level = \"warn\"\nlog.format = \"human\"";
    let variable = |name: &str| match name {
        "RINGBACK_BIND" => Some("127.0.0.1:2".to_owned()),
        "RINGBACK_LOG" => Some("debug".to_owned()),
        "RINGBACK_LOG_FORMAT" => Some("json".to_owned()),
        _ => None,
    };
    let by_environment =
        Config::parse("f.toml", text, &Overrides::default(), &context(&variable)).unwrap();
    assert_eq!(by_environment.bind.port(), 2);
    assert_eq!(by_environment.log, LogOptions { format: LogFormat::Json, filter: "debug".into() });
    let flags = Overrides {
        bind: Some("127.0.0.1:3".parse().unwrap()),
        log: Some("trace".into()),
        log_format: Some(LogFormat::Human),
        drain_timeout: Some(Duration::from_secs(9)),
        threads: Some(3),
        tick: Some(Tick::Always),
        ..Overrides::default()
    };
    let by_flags = Config::parse("f.toml", text, &flags, &context(&variable)).unwrap();
    assert_eq!((by_flags.bind.port(), by_flags.limits.drain_timeout.as_secs()), (3, 9));
    assert_eq!((by_flags.threads, by_flags.tick), (3, Tick::Always));
    assert_eq!(by_flags.log, LogOptions { format: LogFormat::Human, filter: "trace".into() });
}

/// A key set with one key of 2048 bits.
fn key_set() -> String {
    format!(r#"{{"keys":[{{"kty":"RSA","kid":"k","n":"{}w","e":"AQAB"}}]}}"#, "_".repeat(341))
}

fn parse_with_all(text: &str) -> Result<Config, String> {
    let variable = |name: &str| match name {
        "TOKEN" => Some("s3cret-canary".to_owned()),
        "NEXT" => Some("n3xt-canary".to_owned()),
        "BASE64" => Some("czNjcmV0LWNhbmFyeQ==".to_owned()),
        "KEYS" => Some(key_set()),
        _ => None,
    };
    let mut context = context(&variable);
    context.providers.push("zoom-rtms");
    let parsed = Config::parse("f.toml", text, &Overrides::default(), &context);
    let config = parsed.map_err(|errors| errors.to_string())?;
    let shown = format!("{config:?} {}", config.summary());
    assert!(!shown.contains("canary") && !shown.contains("czNj"), "{shown}");
    Ok(config)
}

#[test]
fn a_bridge_that_checks_no_certificates_says_so() {
    let shown = |text: &str| parse(text).unwrap().summary();
    assert!(shown("[outgoing]\ninsecure = true\n").contains("NOT CHECKED"));
    assert!(!shown("[outgoing]\ninsecure = false\n").contains("NOT CHECKED"));
}

#[test]
fn calls_are_captured_where_a_folder_is_named_and_the_flag_wins() {
    let parse = |text, flags: &Overrides| {
        Config::parse("f.toml", text, flags, &context(&|_| None)).map(|config| config.capture)
    };
    let none = Overrides::default();
    assert_eq!(parse("[capture]\nmax_files = 7", &none).unwrap(), None);
    let text = "[capture]\ndir = \"a\"\naudio = true\nmax_files = 7\nmax_file_mib = 2";
    let capture = parse(text, &none).unwrap().unwrap();
    assert_eq!((capture.dir.as_path(), capture.sound), (Path::new("a"), Sound::Keep));
    assert_eq!((capture.max_files, capture.max_file), (7, 2 * 1024 * 1024));
    let flags = Overrides { capture: Some("b".into()), ..Overrides::default() };
    let capture = parse("[capture]\ndir = \"a\"", &flags).unwrap().unwrap();
    assert_eq!((capture.dir.as_path(), capture.sound), (Path::new("b"), Sound::Silence));
    let flags = Overrides { capture_audio: true, ..Overrides::default() };
    let error = parse("", &flags).unwrap_err().to_string();
    assert!(error.starts_with("--capture-audio: nothing is captured"), "{error}");
    let error = parse("[capture]\ndir = \"\"\nmax_files = 0", &none).unwrap_err().to_string();
    assert!(
        error.contains("f.toml:2:7: capture.dir: ") && error.contains("expected 1 to"),
        "{error}"
    );
}

/// A listener that is asked for, with more keys of its `answer`.
fn asked(keys: &str, answer: &str) -> String {
    let url = "wss://b.example:8443/x/a";
    listener(&format!("public_url = \"{url}\"\n{keys}\nanswer = {{ {answer} }}"))
}

#[test]
fn programs_are_kept_from_the_variables_that_secrets_are_in() {
    let text = listener("auth = { kind = \"bearer\", tokens = [\"env:T1\", \"env:T2\"] }")
        + "[[module]]\nname = \"m\"\ncommand = [\"x\"]\nenv = { KEY = \"env:T3\", PLAIN = \"env\" }\n";
    let anything = |name: &str| (!name.starts_with("RINGBACK_")).then(|| "secret".to_owned());
    let flags = Overrides::default();
    let config = Config::parse("f.toml", &text, &flags, &context(&anything)).unwrap();
    let ModuleRun::Child(spec) = &config.module("m").unwrap().run else { panic!("a program") };
    assert_eq!(spec.launch.surroundings.withheld, ["T1", "T2", "T3"]);
}
