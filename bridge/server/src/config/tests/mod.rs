//! Configurations good and bad: what they mean, and what is said about them.

use super::*;
#[cfg(feature = "tls")]
use crate::hangup::{RECIPES, Scheme};
use crate::listener::{Access, network};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ringback_proto::provider::auth::{Jwt, JwtKeys, KeySet};
use ringback_proto::provider::{self, Secret};
use toml::de::{DeTable, DeValue};

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
    let route = config.route(&twilio.route).unwrap();
    assert_eq!(
        (route.modules.as_slice(), route.speaker.as_deref()),
        (&["echo".to_owned()][..], Some("echo"))
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
        builtin = "recorder"
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
        (main.provider.as_str(), main.route.as_str(), main.one_way),
        ("telnyx", "only", true)
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
    assert_eq!(bot.run, ModuleRun::Child { command: vec!["python3".into(), "bot.py".into()] });
    assert_eq!((bot.on_fail, bot.ring), (OnFail::Hangup, Some(Duration::from_secs(30))));
    let barge_in = BargeInConfig { on_speech: true, min_speech: Duration::from_millis(300) };
    assert_eq!(config.route("only").unwrap().barge_in, Some(barge_in));
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

/// What is wrong, and the whole line that is said about it.
#[test]
fn every_complaint_names_place_key_finding_and_remedy() {
    let cases = [
        ("[server", "f.toml:1:8: "),
        (
            "[sever]\n",
            "f.toml:1:2: sever: unknown field `sever`, expected one of `server`, `limits`, `log`, `outgoing`, `capture`, `listener`, `module`, `route`; did you mean \"server\"?",
        ),
        (
            "[server]\nbnid = \"x\"",
            "f.toml:2:1: server.bnid: unknown field `bnid`, expected one of `bind`, `drain_timeout`, `metrics`, `events`, `trusted_proxies`, `threads`, `tick`; did you mean \"bind\"?",
        ),
        (
            "[server]\nbind = 8080",
            "f.toml:2:8: server.bind: invalid type: integer `8080`, expected a string",
        ),
        (
            "[server]\nbind = \"localhost\"",
            "f.toml:2:8: server.bind: found \"localhost\", expected an address and a port such as \"127.0.0.1:8080\"",
        ),
        (
            "[server]\ndrain_timeout = \"30\"",
            "f.toml:2:17: server.drain_timeout: found \"30\", expected a whole number and a unit such as \"20ms\"",
        ),
        (
            "[server]\nmetrics = \"on\"",
            "f.toml:2:11: server.metrics: unknown variant `on`, expected one of `off`, `loopback`, `any`",
        ),
        (
            "[server]\nevents = \"all\"",
            "f.toml:2:10: server.events: unknown variant `all`, expected one of `off`, `loopback`, `any`",
        ),
        (
            "[server]\nbind = \"0.0.0.0:80\"",
            "f.toml:2:8: server.bind: found 0.0.0.0:80: without a [[listener]] anybody",
        ),
        (
            "[limits]\nmax_calls = 0",
            "f.toml:2:13: limits.max_calls: found 0, expected 1 to 1000000",
        ),
        (
            "[limits]\nheader_timeout = \"2h\"",
            "f.toml:2:18: limits.header_timeout: found 7200s, expected 100ms to 60s",
        ),
        ("[limits]\nkeepalive = \"10ms\"", "f.toml:2:13: limits.keepalive: a keepalive below 1s"),
        (
            "[log]\nlevel = \"ringback=loud\"",
            "f.toml:2:9: log.level: \"ringback=loud\" is not a log filter",
        ),
        (
            "[[listener]]\nname = \"a\"",
            "f.toml:1:1: listener[0]: `path` is missing, such as \"/twilio\"",
        ),
        (
            "[[listener]]\nname = \"A b\"",
            "f.toml:2:8: listener[0].name: found \"A b\": a name is made of",
        ),
        (
            "[[listener]]\nname = \"a\"\npath = \"twilio\"",
            "f.toml:3:8: listener[0].path: found \"twilio\": a path begins with `/`",
        ),
        (
            "[[listener]]\nname = \"a\"\npath = \"/metrics\"",
            "f.toml:3:8: listener[0].path: \"/metrics\" is taken by the bridge itself",
        ),
        (
            "[[listener]]\nname = \"a\"\npath = \"/a\"\nprovider = \"twillio\"",
            "f.toml:4:12: listener[0].provider: there is no provider \"twillio\" (known: twilio, telnyx, plivo, asterisk); did you mean \"twilio\"?",
        ),
        (
            "[[module]]\nname = \"m\"",
            "f.toml:1:1: module[0]: a module needs `builtin` (echo, recorder, player, vad, dtmf) or `command`",
        ),
        (
            "[[module]]\nname = \"m\"\nbuiltin = \"ehco\"",
            "f.toml:3:11: module[0].builtin: unknown variant `ehco`, expected one of `echo`, `recorder`, `player`, `vad`, `dtmf`; did you mean \"echo\"?",
        ),
        (
            "[[module]]\nname = \"m\"\nbuiltin = \"echo\"\ncommand = [\"x\"]",
            "f.toml:4:11: module[0].command: a module has either `builtin` or `command`, found both",
        ),
        (
            "[[module]]\nname = \"m\"\nkind = \"child\"",
            "f.toml:1:1: module[0]: kind \"child\" needs `command`",
        ),
        (
            "[[module]]\nname = \"m\"\nkind = \"builtin\"",
            "f.toml:1:1: module[0]: kind \"builtin\" needs `builtin`",
        ),
        (
            "[[module]]\nname = \"m\"\ncommand = []",
            "f.toml:3:11: module[0].command: found no program",
        ),
        (
            "[[module]]\nname = \"m\"\nbuiltin = \"echo\"\non_fail = \"hang\"",
            "f.toml:4:11: module[0].on_fail: unknown variant `hang`, expected `continue` or `hangup`",
        ),
        (
            "[[module]]\nname = \"m\"\nbuiltin = \"vad\"\n[[module]]\nname = \"m\"\nbuiltin = \"echo\"",
            "f.toml:5:8: module[1].name: \"m\" is the name of another one",
        ),
        (
            "[[module]]\nname = \"m\"\nbuiltin = \"vad\"\n[[module]]\nname = \"n\"\nbuiltin = \"echo\"",
            "f.toml:4:1: module[1]: several modules and no [[route]]",
        ),
        ("[[route]]\nname = \"r\"\nmodules = []", "f.toml:1:1: route[0]: a route needs `modules`"),
        (
            "[[route]]\nname = \"r\"\nmodules = [\"x\"]",
            "f.toml:3:12: route[0].modules[0]: there is no [[module]] \"x\" (known: there is none)",
        ),
    ];
    for (text, said) in cases {
        let errors = parse(text).unwrap_err().to_string();
        assert!(
            errors.lines().any(|line| line.starts_with(said)),
            "{text}\nwanted {said}\ngot    {errors}"
        );
    }
}

#[test]
fn listeners_are_checked_against_each_other_and_their_surroundings() {
    let open = "[server]\nbind = \"0.0.0.0:8080\"\n";
    let secret = "auth = { kind = \"bearer\", token = \"env:TOKEN\" }";
    let cases = [
        (
            listener("") + &listener(""),
            "f.toml:8:8: listener[1].path: \"/a\" is the path of listener \"a\" already",
        ),
        (
            listener("route = \"x\""),
            "f.toml:5:9: listener[0].route: there is no [[route]] \"x\" (known: default)",
        ),
        (
            open.to_owned() + &listener(""),
            "f.toml:3:1: listener[0]: anybody who reaches 0.0.0.0:8080 could call: set `auth` or `allow`, or `insecure = true`",
        ),
        (
            listener("public_url = \"https://x/a\""),
            "f.toml:5:14: listener[0].public_url: found \"https://x/a\", expected the URL the provider dials",
        ),
        (
            listener("origins = [\"phone.example\"]"),
            "f.toml:5:12: listener[0].origins[0]: found \"phone.example\", expected scheme and host",
        ),
        (
            listener("options = { inbound_format = \"mp3\" }"),
            "f.toml:5:30: listener[0].options.inbound_format: found \"mp3\", expected encoding and rate: pcmu/8000",
        ),
        (
            listener("auth = { kind = \"bearr\" }"),
            "f.toml:5:17: listener[0].auth.kind: unknown variant `bearr`, expected one of `none`, `bearer`, `basic`, `header`, `query`, `path`, `twilio-signature`, `plivo-signature`, `vonage-jwt`, `avaya-jwt`, `azure-jwt`, `jwt`, `genesys-signature`, `zoom-signature`, `signalwire-signature`, `telnyx-signature`, `sinch-signature`, `jambonz-signature`; did you mean \"bearer\"?",
        ),
        (
            listener("auth = { kind = \"bearer\" }"),
            "f.toml:5:8: listener[0].auth: `token` is missing for this kind: \"env:NAME\" or \"file:/path\"",
        ),
        (
            listener("auth = { kind = \"bearer\", token = \"env:NONE\" }"),
            "f.toml:5:35: listener[0].auth.token: environment variable NONE is not set",
        ),
        (
            listener("auth = { kind = \"basic\", user = \"\", password = \"env:TOKEN\" }"),
            "f.toml:5:33: listener[0].auth.user: `user` is empty",
        ),
        (
            listener("auth = { kind = \"none\", token = \"env:TOKEN\" }"),
            "f.toml:5:33: listener[0].auth.token: `token` is not used by this kind, which takes nothing",
        ),
        (
            listener("auth = { kind = \"twilio-signature\", token = \"env:TOKEN\" }"),
            "f.toml:5:8: listener[0].auth: the signature is computed over `public_url`, which is missing",
        ),
        (
            listener("options = { client_id = \"x\" }"),
            "f.toml:5:25: listener[0].options.client_id: is for providers that we dial, and this one dials us",
        ),
        (listener("max_calls = 0"), "f.toml:5:13: listener[0].max_calls: found 0"),
    ];
    for (text, said) in cases {
        let errors = parse(&text).unwrap_err().to_string();
        assert!(
            errors.lines().any(|line| line.starts_with(said)),
            "{text}\nwanted {said}\ngot    {errors}"
        );
    }
    assert!(parse(&(open.to_owned() + &listener("insecure = true"))).is_ok());
    assert!(parse(&(open.to_owned() + &listener(secret))).is_ok());
    assert!(parse(&(open.to_owned() + &listener("allow = [\"192.0.2.0/24\"]"))).is_ok());
    for keys in [
        "allow = [\"0.0.0.0/0\"]",
        "public_url = \"wss://x/a\"\nauth = { kind = \"plivo-signature\", token = \"env:TOKEN\", allow_unsigned = true }",
    ] {
        let errors = parse(&(open.to_owned() + &listener(keys))).unwrap_err().to_string();
        assert!(errors.contains("anybody who reaches 0.0.0.0:8080 could call"), "{errors}");
    }
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
    let parsed = Config::parse("f.toml", text, &Overrides::default(), &context(&variable));
    let config = parsed.map_err(|errors| errors.to_string())?;
    let shown = format!("{config:?} {}", config.summary());
    assert!(!shown.contains("canary") && !shown.contains("czNj"), "{shown}");
    Ok(config)
}

fn parse_auth(keys: &str) -> Result<Auth, String> {
    let text = listener(&format!("public_url = \"wss://x/a\"\n[listener.auth]\n{keys}"));
    parse_with_all(&text).map(|config| config.listeners[0].auth.clone())
}

#[test]
fn every_kind_of_auth_can_be_configured() {
    let token = || vec![Secret::from("s3cret-canary")];
    let both = || vec![Secret::from("s3cret-canary"), Secret::from("n3xt-canary")];
    let claims = vec![("api_key".to_owned(), "abcd".to_owned())];
    let keys = KeySet::parse(&key_set()).unwrap();
    let cases = [
        ("kind = \"none\"", Auth::None),
        ("kind = \"bearer\"\ntoken = \"env:TOKEN\"", Auth::Bearer { tokens: token() }),
        (
            "kind = \"bearer\"\ntokens = [\"env:TOKEN\", \"env:NEXT\"]",
            Auth::Bearer { tokens: both() },
        ),
        (
            "kind = \"basic\"\nuser = \"u\"\npasswords = [\"env:TOKEN\", \"env:NEXT\"]",
            Auth::Basic { user: "u".into(), passwords: both() },
        ),
        (
            "kind = \"header\"\nheader = \"X-Cx-ApiKey\"\ntoken = \"env:TOKEN\"",
            Auth::Header { name: "x-cx-apikey".into(), values: token() },
        ),
        (
            "kind = \"query\"\nparameter = \"t\"\ntokens = [\"env:TOKEN\"]",
            Auth::Query { name: "t".into(), values: token() },
        ),
        ("kind = \"path\"\ntoken = \"env:TOKEN\"", Auth::Path { tokens: token() }),
        (
            "kind = \"twilio-signature\"\nshared_keys = { k = \"env:NEXT\" }",
            Auth::TwilioSignature {
                tokens: Vec::new(),
                shared_keys: vec![("k".into(), "n3xt-canary".into())],
            },
        ),
        (
            "kind = \"plivo-signature\"\ntoken = \"env:TOKEN\"\nprefix = \"X-Vobiz\"",
            Auth::PlivoSignature {
                prefix: "x-vobiz".into(),
                tokens: token(),
                allow_unsigned: false,
            },
        ),
        (
            "kind = \"vonage-jwt\"\nsecret = \"env:TOKEN\"\nclaims = { api_key = \"abcd\" }\nsingle_use = false",
            Auth::Jwt(Jwt { claims: claims.clone(), single_use: false, ..Jwt::vonage(token()) }),
        ),
        (
            "kind = \"avaya-jwt\"\nsecrets = [\"env:TOKEN\", \"env:NEXT\"]",
            Auth::Jwt(Jwt::avaya(both())),
        ),
        (
            "kind = \"azure-jwt\"\njwks = \"env:KEYS\"\naudience = \"id\"",
            Auth::Jwt(Jwt::azure(keys.clone(), "id".into())),
        ),
        (
            "kind = \"jwt\"\njwks = \"env:KEYS\"\nissuer = \"i\"\nclaims = { api_key = \"abcd\" }",
            Auth::Jwt(Jwt { issuer: Some("i".into()), claims, ..Jwt::new(JwtKeys::Public(keys)) }),
        ),
        (
            "kind = \"jwt\"\nsecret = \"env:TOKEN\"\nsingle_use = true",
            Auth::Jwt(Jwt { single_use: true, ..Jwt::new(JwtKeys::Shared(token())) }),
        ),
        (
            "kind = \"genesys-signature\"\napi_key = \"env:TOKEN\"\nsecret = \"env:BASE64\"",
            Auth::GenesysSignature {
                api_key: "s3cret-canary".into(),
                secrets: vec!["czNjcmV0LWNhbmFyeQ==".into()],
            },
        ),
        (
            "kind = \"zoom-signature\"\nsecrets = [\"env:TOKEN\", \"env:NEXT\"]",
            Auth::ZoomSignature { secrets: both() },
        ),
    ];
    for (keys, wanted) in &cases {
        assert_eq!(parse_auth(keys).as_ref(), Ok(wanted), "{keys}");
    }
    // Every kind that there is was tried.
    let error = parse_auth("kind = \"zz\"").unwrap_err();
    for kind in error.split('`').skip(3).step_by(2) {
        let line = format!("kind = \"{kind}\"");
        if parse_auth(&line).is_err_and(|error| error.contains("this kind is of webhooks")) {
            let config = parse_with_all(&asked("", &of_webhooks(kind))).unwrap();
            let answer = config.listeners[0].answer.as_ref().unwrap();
            assert_eq!(answer.auth.kind(), kind);
            continue;
        }
        assert!(cases.iter().any(|(keys, _)| keys.lines().next() == Some(&line)), "{kind}");
    }
}

/// A signature that only webhooks have.
fn of_webhooks(kind: &str) -> String {
    let keys = match kind {
        "signalwire-signature" => "tokens = [\"env:TOKEN\", \"env:NEXT\"]",
        "telnyx-signature" => "public_key = \"A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=\"",
        "sinch-signature" => "api_key = \"env:TOKEN\", secrets = [\"env:BASE64\"]",
        "jambonz-signature" => "secret = \"env:TOKEN\"",
        other => panic!("{other} was not tried"),
    };
    format!("auth = {{ kind = \"{kind}\", {keys} }}")
}

#[test]
fn signatures_of_webhooks_that_are_half_are_refused_with_a_remedy() {
    for (keys, said) in [
        ("kind = \"telnyx-signature\"", "`public_key` is missing"),
        (
            "kind = \"telnyx-signature\", public_key = \"AAAA\"",
            "`public_key` is none: write it as Telnyx shows it",
        ),
        (
            "kind = \"telnyx-signature\", token = \"env:TOKEN\"",
            "`token` is not used by this kind, which takes public_key",
        ),
        (
            "kind = \"signalwire-signature\", public_key = \"AAAA\"",
            "`public_key` is not used by this kind, which takes token, tokens",
        ),
        ("kind = \"sinch-signature\", secret = \"env:BASE64\"", "`api_key` is missing"),
        (
            "kind = \"sinch-signature\", api_key = \"env:TOKEN\", secret = \"env:TOKEN\"",
            "not base64: write it as Sinch shows it",
        ),
        ("kind = \"jambonz-signature\"", "`secret` is missing"),
    ] {
        let error = parse_with_all(&asked("", &format!("auth = {{ {keys} }}"))).unwrap_err();
        assert!(error.contains(said) && !error.contains("canary"), "{keys}\n{error}");
    }
}

#[test]
fn auth_that_is_half_or_double_is_refused_with_a_remedy() {
    let cases = [
        ("kind = \"bearer\"\ntokens = []", "`tokens` is empty: nobody could call"),
        (
            "kind = \"bearer\"\ntoken = \"env:TOKEN\"\ntokens = [\"env:NEXT\"]",
            "either `token` or `tokens`, found both",
        ),
        ("kind = \"bearer\"\ntokens = [\"env:TOKEN\", \"env:NONE\"]", "variable NONE is not set"),
        (
            "kind = \"bearer\"\ntoken = \"env:TOKEN\"\nsecret = \"env:TOKEN\"",
            "`secret` is not used by this kind, which takes token, tokens",
        ),
        (
            "kind = \"avaya-jwt\"\nsecret = \"env:TOKEN\"\nallow_unsigned = true",
            "`allow_unsigned` is not used by this kind",
        ),
        (
            "kind = \"header\"\nheader = \"a b\"\ntoken = \"env:TOKEN\"",
            "found \"a b\", expected a header",
        ),
        ("kind = \"header\"\ntoken = \"env:TOKEN\"", "`header` is missing for this kind"),
        ("kind = \"twilio-signature\"", "`token` is missing for this kind"),
        (
            "kind = \"twilio-signature\"\nshared_keys = { k = \"plain-canary\" }",
            "a secret is not written here",
        ),
        ("kind = \"jwt\"\njwks_url = \"http://keys.example/k\"", "go over https:// only"),
        (
            "kind = \"jwt\"\njwks = \"env:KEYS\"\njwks_cache = \"keys.json\"",
            "only what is fetched is kept in a file: `jwks_url` is missing",
        ),
        ("kind = \"azure-jwt\"\njwks = \"env:KEYS\"", "`audience` is missing for this kind"),
        ("kind = \"jwt\"\njwks = \"env:TOKEN\"", "env:TOKEN is not a key set, JSON such as"),
        ("kind = \"jwt\"\njwks = \"file:/does/not/exist\"", "cannot read /does/not/exist"),
        (
            "kind = \"jwt\"\njwks = \"env:KEYS\"\nsecret = \"env:TOKEN\"",
            "a token is signed with secrets or with keys of `jwks` or `jwks_url`, found both",
        ),
        ("kind = \"jwt\"", "`secret` is missing for this kind"),
        (
            "kind = \"genesys-signature\"\napi_key = \"env:TOKEN\"\nsecret = \"env:TOKEN\"",
            "the client secret is not base64: write it as Genesys shows it",
        ),
    ];
    for (keys, said) in cases {
        let errors = parse_auth(keys).unwrap_err();
        assert!(errors.contains(said) && !errors.contains("canary"), "{keys}\n{errors}");
    }
}

#[test]
fn addresses_that_may_call_are_networks() {
    let text = "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n".to_owned()
        + &listener("allow = [\"52.112.0.0/14\"]");
    let config = parse(&text).unwrap();
    let sources = &config.listeners[0].endpoint.sources;
    assert_eq!(sources.allow, Some(vec![network("52.112.0.0/14").unwrap()]));
    assert_eq!(sources.trusted_proxies, ["10.0.0.0/8", "::1"].map(|net| network(net).unwrap()));
    let cases = [
        (
            listener("allow = []"),
            "f.toml:5:9: listener[0].allow: `allow` is empty: nobody could call",
        ),
        (
            listener("allow = [\"52.112.0.0/14\", \"x\"]"),
            "f.toml:5:27: listener[0].allow[1]: found \"x\", expected a network such as",
        ),
        (
            "[server]\ntrusted_proxies = [\"10.0.0.1/8\"]\n".to_owned() + &listener(""),
            "f.toml:2:20: server.trusted_proxies[0]: \"10.0.0.1/8\" has more bits than its prefix; did you mean \"10.0.0.0/8\"?",
        ),
    ];
    for (text, said) in cases {
        let errors = parse(&text).unwrap_err().to_string();
        assert!(errors.starts_with(said), "{text}\nwanted {said}\ngot    {errors}");
    }
}

#[test]
fn routes_have_one_speaker_which_is_in_them() {
    let modules = "[[module]]\nname = \"a\"\nbuiltin = \"echo\"\n[[module]]\nname = \"b\"\nbuiltin = \"vad\"\n";
    let route = |keys: &str| format!("{modules}[[route]]\nname = \"r\"\n{keys}");
    let cases = [
        (
            "modules = [\"a\"]\nspeaker = \"b\"",
            "f.toml:10:11: route[0].speaker: there is no module of this route called \"b\" (known: a)",
        ),
        (
            "modules = [\"a\", \"b\"]\nspeaker = [\"a\", \"b\"]",
            "f.toml:10:11: route[0].speaker: invalid type: sequence, expected a string",
        ),
        (
            "modules = [\"a\", \"a\"]",
            "f.toml:9:17: route[0].modules[1]: \"a\" is in the list twice",
        ),
        (
            "modules = [\"a\"]\nbarge_in = { min_speech = \"1m\" }",
            "f.toml:10:27: route[0].barge_in.min_speech: found 60s, expected 20ms to 5s",
        ),
    ];
    for (keys, said) in cases {
        let errors = parse(&route(keys)).unwrap_err().to_string();
        assert!(errors.starts_with(said), "{keys}\nwanted {said}\ngot    {errors}");
    }
    let silent = parse(&route("modules = [\"a\", \"b\"]")).unwrap();
    assert_eq!(silent.routes[0].speaker, None);
    let alone = parse(&route("modules = [\"b\"]")).unwrap();
    assert_eq!(alone.routes[0].speaker.as_deref(), Some("b"));
    let two =
        route("modules = [\"a\"]\n[[route]]\nname = \"s\"\nmodules = [\"b\"]\n") + &listener("");
    let errors = parse(&two).unwrap_err().to_string();
    assert!(
        errors.contains("`route` is missing and none is called \"default\" (known: r, s)"),
        "{errors}"
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let errors =
        parse("[server]\nbind = \"x\"\n[limits]\nmax_calls = 0\n[log]\nlevel = \"a=b=c\"\n")
            .unwrap_err();
    assert_eq!(errors.problems().len(), 3, "{errors}");
    assert_eq!(errors.exit().code(), 64);
}

#[test]
fn problems_of_environment_and_flags_name_them() {
    let variable = |name: &str| match name {
        "RINGBACK_BIND" => Some("everywhere".to_owned()),
        "RINGBACK_LOG_FORMAT" => Some("xml".to_owned()),
        _ => None,
    };
    let errors =
        Config::defaults(&Overrides::default(), &context(&variable)).unwrap_err().to_string();
    assert!(
        errors.contains("environment variable RINGBACK_BIND: found \"everywhere\""),
        "{errors}"
    );
    assert!(
        errors.contains(
            "environment variable RINGBACK_LOG_FORMAT: found \"xml\", expected human or json"
        ),
        "{errors}"
    );
    let flags =
        Overrides { bind: "0.0.0.0:1".parse().ok(), log: Some("=".into()), ..Overrides::default() };
    let errors = Config::defaults(&flags, &context(&|_| None)).unwrap_err().to_string();
    assert!(errors.contains("--bind: found 0.0.0.0:1: without a [[listener]] anybody"), "{errors}");
}

#[test]
fn secrets_do_not_show_wherever_they_are_written() {
    let config = parse(&listener("auth = { kind = \"bearer\", token = \"env:TOKEN\" }")).unwrap();
    let shown = format!("{config:?} {}", config.summary());
    assert!(!shown.contains("s3cret-canary") && shown.contains("[redacted]"), "{shown}");
    let literal = parse(&listener("auth = { kind = \"bearer\", token = \"s3cret-canary\" }"));
    let errors = literal.unwrap_err().to_string();
    assert!(!errors.contains("s3cret-canary") && errors.contains("use \"env:NAME\""), "{errors}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let path = Path::new("does/not/exist.toml");
    let loaded = Config::load(Some(path), &Overrides::default(), &context(&|_| None));
    let errors = loaded.unwrap_err().to_string();
    assert!(errors.starts_with("does/not/exist.toml: cannot be read: "), "{errors}");
}

fn example() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/ringback.toml");
    std::fs::read_to_string(path).unwrap()
}

/// The example with everything switched on that is switched off by a `#`.
fn example_in_full() -> String {
    let switched_on = |line: &str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
            setting.to_owned()
        }
        _ => line.to_owned(),
    };
    example().lines().map(switched_on).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_works_as_it_stands_and_with_everything_switched_on() {
    let nothing = |_: &str| None;
    let flags = Overrides::default();
    let config = Config::parse("ringback.toml", &example(), &flags, &context(&nothing)).unwrap();
    let defaults = Config::defaults(&flags, &context(&nothing)).unwrap();
    assert_eq!(config.limits, defaults.limits, "the example shows the defaults");
    assert_eq!(config.listeners[0].endpoint.socket, defaults.listeners[0].endpoint.socket);
    assert_eq!(config.log, defaults.log);
    assert_eq!(config.bind, defaults.bind);
    assert_eq!((config.threads, config.tick), (defaults.threads, defaults.tick));
    let (shown, meant) = (config.module("echo").unwrap(), defaults.module("echo").unwrap());
    assert_eq!((shown.ready_timeout, shown.ring), (meant.ready_timeout, meant.ring));

    // "none" is base64, as one of the secrets must be.
    let anything = |name: &str| match name {
        "KEYS" => Some(key_set()),
        "PEM" => Some(crate::outgoing::mock::TEST_KEY.to_owned()),
        name => (!name.starts_with("RINGBACK_")).then(|| "none".to_owned()),
    };
    let mut context = context(&anything);
    context.providers.extend(["vonage", "avaya", "bandwidth", "azure", "genesys-connector", "raw"]);
    context.providers.extend(["signalwire", "sinch", "jambonz", "zoom-rtms"]);
    // What the example keeps in files.
    let mut text = example_in_full().replace("file:/run/secrets/asterisk", "env:ASTERISK");
    for (file, variable) in [("keys.json", "KEYS"), ("vonage.pem", "PEM")] {
        text = text.replace(&format!("file:/etc/ringback/{file}"), &format!("env:{variable}"));
    }
    let config = Config::parse("ringback.toml", &text, &flags, &context).unwrap();
    let kinds: BTreeSet<_> = config.listeners.iter().map(|l| l.auth.kind()).collect();
    assert_eq!((config.listeners.len(), kinds.len()), (20, 14), "{kinds:?}");
    assert_eq!(config.modules.len(), 2);
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

/// The keys a table knows, as serde tells them when it meets one that it does not know.
fn known_keys(table: &str) -> BTreeSet<String> {
    let text = match table {
        "" => "zz = 1".to_owned(),
        "listener" | "module" | "route" => format!("[[{table}]]\nzz = 1"),
        "listener.auth" => "[[listener]]\nauth = { kind = \"none\", zz = 1 }".to_owned(),
        "listener.hangup" => "[[listener]]\nhangup = { kind = \"rest\", zz = 1 }".to_owned(),
        "listener.options" | "listener.answer" | "route.barge_in" => {
            let (outer, inner) = table.split_once('.').unwrap();
            format!("[[{outer}]]\n{inner} = {{ zz = 1 }}")
        }
        plain => format!("[{plain}]\nzz = 1"),
    };
    let error = toml::from_str::<raw::File>(&text).unwrap_err();
    assert!(error.message().starts_with("unknown field `zz`"), "{table}: {error}");
    error.message().split('`').skip(1).step_by(2).skip(1).map(str::to_owned).collect()
}

/// The keys of a document by table, items of one array together.
fn used_keys(path: &str, value: &DeValue<'_>, keys: &mut BTreeSet<(String, String)>) {
    match value {
        DeValue::Table(table) => {
            for (key, value) in table {
                // What proves that one may ask is written as what proves that one may call.
                let of = if path == "listener.answer.auth" { "listener.auth" } else { path };
                keys.insert((of.to_owned(), key.get_ref().to_string()));
                let below = if path.is_empty() { String::new() } else { format!("{path}.") };
                used_keys(&format!("{below}{}", key.get_ref()), value.get_ref(), keys);
            }
        }
        DeValue::Array(items) => {
            items.iter().for_each(|item| used_keys(path, item.get_ref(), keys));
        }
        _ => {}
    }
}

/// Tables whose keys are the user's own.
const FREE: [&str; 4] = [
    "module.config",
    "listener.auth.shared_keys",
    "listener.auth.claims",
    "listener.answer.parameters",
];

#[test]
fn the_example_shows_every_key_there_is() {
    let text = example_in_full();
    let document = DeTable::parse(&text).unwrap().into_inner();
    let mut used = BTreeSet::new();
    used_keys("", &DeValue::Table(document), &mut used);
    let tables: BTreeSet<_> = used.iter().map(|(table, _)| table.as_str()).collect();
    for table in tables.into_iter().filter(|table| !FREE.contains(table)) {
        let shown: BTreeSet<_> =
            used.iter().filter(|(t, _)| t == table).map(|(_, key)| key.clone()).collect();
        assert_eq!(shown, known_keys(table), "keys of [{table}]");
    }
    assert_eq!(known_keys("").len(), 8);
}

/// A listener of `provider` with these keys of `hangup`.
fn hung_up_by(provider: &str, keys: &str) -> Result<Config, String> {
    let text = format!(
        "[[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n[[listener]]\nname = \"x\"\npath = \"/x\"\nprovider = \"{provider}\"\n[listener.hangup]\nkind = \"rest\"\n{keys}"
    );
    let variable = |name: &str| match name {
        "KEY" => Some("s3cret".to_owned()),
        "PEM" => Some(crate::outgoing::mock::TEST_KEY.to_owned()),
        _ => None,
    };
    let mut context = context(&variable);
    context.providers = provider::PROVIDERS.iter().map(|provider| provider.name()).collect();
    Config::parse("f.toml", &text, &Overrides::default(), &context)
        .map_err(|error| error.to_string())
}

#[test]
#[cfg(feature = "tls")]
fn every_way_to_hang_up_takes_its_keys_and_hides_its_secrets() {
    for recipe in &RECIPES {
        let mut keys = match recipe.scheme {
            Scheme::Basic => "password = \"env:KEY\"\n",
            Scheme::Token(_) => "token = \"env:KEY\"\n",
            Scheme::Client(_) => "user = \"u\"\npassword = \"env:KEY\"\n",
            Scheme::Application => "application = \"a\"\nprivate_key = \"env:PEM\"\n",
        }
        .to_owned();
        if recipe.wants_account() {
            keys.push_str("account = \"AC1\"\n");
        }
        if recipe.base.is_none() {
            let missing = hung_up_by(recipe.provider, &keys).unwrap_err();
            assert!(missing.contains("`base_url` is missing"), "{missing}");
            keys.push_str("base_url = \"https://api.example\"\n");
        }
        let config = hung_up_by(recipe.provider, &keys).unwrap();
        let hangup = config.listeners[0].hangup.as_ref().expect("it was asked for");
        assert_eq!((hangup.recipe.provider, hangup.deadline.as_secs()), (recipe.provider, 5));
        assert!(config.wants_tls());
        let said = format!("{config:?}");
        assert!(!said.contains("s3cret") && !said.contains("PRIVATE"), "{said}");
        // Each of its keys is needed.
        for line in keys.lines().filter(|line| !line.starts_with("base_url")) {
            let error = hung_up_by(recipe.provider, &keys.replace(line, "")).unwrap_err();
            let key = line.split(' ').next().unwrap();
            assert!(error.contains(&format!("`{key}` is missing")), "{error}");
        }
    }
}

#[test]
fn hang_ups_that_cannot_be_are_refused_with_a_remedy() {
    for (provider, keys, why) in [
        ("asterisk", "", "asterisk is hung up over its own wire: leave `hangup` out"),
        ("exotel", "", "how to hang up \"exotel\" by its API is not known (known: twilio, "),
        ("telnyx", "token = \"s3cret\"", "a secret is not written here"),
        (
            "telnyx",
            "token = \"env:KEY\"\naccount = \"a\"",
            "`account` is not used by telnyx, which takes token",
        ),
        (
            "telnyx",
            "token = \"env:KEY\"\nbase_url = \"http://api.telnyx.com\"",
            "over https:// only",
        ),
        ("telnyx", "token = \"env:KEY\"\ndeadline = \"1ms\"", "expected 500ms to 30s"),
        ("vonage", "application = \"a\"\nprivate_key = \"env:KEY\"", "env:KEY "),
    ] {
        let error = hung_up_by(provider, keys).unwrap_err();
        assert!(error.contains(why), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn keys_of_issuers_are_read_again_from_where_they_change() {
    let folder = std::env::temp_dir().join(format!("ringback-jwks-{}", std::process::id()));
    std::fs::write(&folder, key_set()).unwrap();
    let file = format!("file:{}", folder.display());
    let source = |auth: &str| {
        let auth = auth.replace("FILE", &file);
        let text = format!(
            "[[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n[[listener]]\nname = \"x\"\npath = \"/x\"\nprovider = \"twilio\"\nauth = {{ {auth} }}"
        );
        let config = Config::parse(
            "f.toml",
            &text,
            &Overrides::default(),
            &context(&|name| (name == "KEYS").then(key_set)),
        );
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        let listener = config.listeners.into_iter().next().unwrap();
        let Auth::Jwt(Jwt { keys: JwtKeys::Public(keys), .. }) = listener.auth else {
            panic!("{:?}", listener.auth)
        };
        (listener.keys.map(|source| source.to_string()), keys.len())
    };
    let azure = "https://acscallautomation.communication.azure.com/calling/keys".to_owned();
    assert_eq!(source("kind = \"azure-jwt\", audience = \"a\""), (Some(azure), 0));
    assert_eq!(source("kind = \"azure-jwt\", audience = \"a\", jwks = \"env:KEYS\""), (None, 1));
    let path = Some(folder.display().to_string());
    assert_eq!(source("kind = \"jwt\", jwks = \"FILE\""), (path, 1));
    let url = Some("https://a.example/keys".to_owned());
    let both = "kind = \"jwt\", jwks = \"FILE\", jwks_url = \"https://a.example/keys?k=1\"";
    assert_eq!(source(both), (url, 1));
    std::fs::remove_file(folder).unwrap();
}

/// A listener that is asked for, with more keys of its `answer`.
fn asked(keys: &str, answer: &str) -> String {
    let url = "wss://b.example:8443/x/a";
    listener(&format!("public_url = \"{url}\"\n{keys}\nanswer = {{ {answer} }}"))
}

#[test]
fn answers_are_given_below_the_listener_unless_told_where() {
    let basic = "auth = { kind = \"basic\", user = \"u\", password = \"env:TOKEN\" }";
    let config = parse(&asked("", basic)).unwrap();
    let point = config.listeners[0].endpoint.answer.clone().unwrap();
    assert_eq!((point.path.as_str(), point.challenges), ("/a/answer", true));
    assert_eq!(point.public_url, "https://b.example:8443/a/answer");
    let summary = config.summary();
    assert!(
        summary.contains("answers calls at https://b.example:8443/a/answer, auth basic"),
        "{summary}"
    );
    let told = "path = \"/ask\", public_url = \"http://other.example/x/ask\", parameters = { b = \"2\", a = \"1\" }, auth = { kind = \"bearer\", token = \"env:TOKEN\" }";
    let config = parse(&asked("", told)).unwrap();
    let ListenerConfig { endpoint, answer, .. } = &config.listeners[0];
    let (point, answer) = endpoint.answer.as_ref().zip(answer.as_ref()).unwrap();
    assert_eq!((point.path.as_str(), point.challenges), ("/ask", false));
    assert_eq!(point.public_url, "http://other.example/x/ask");
    let parameters = [("a", "1"), ("b", "2")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!((answer.parameters.as_slice(), answer.auth.kind()), (&parameters[..], "bearer"));
}

#[test]
fn answers_that_could_not_be_right_are_refused_with_their_place() {
    let header = "auth = { kind = \"header\", header = \"x-token\", token = \"env:TOKEN\" }";
    let path = "auth = { kind = \"path\", token = \"env:TOKEN\" }";
    let genesys =
        "auth = { kind = \"genesys-signature\", api_key = \"env:TOKEN\", secret = \"env:TOKEN\" }";
    let none = "auth = { kind = \"none\" }";
    for (text, what) in [
        (listener("answer = {}"), "dial `public_url`, which is missing"),
        (asked("", "").replace("twilio", "asterisk"), "does not ask over HTTP"),
        (asked(header, none), "cannot carry a credential of the kind header; it can: path"),
        (asked(path, ""), "`answer.auth` says how"),
        (asked("", path), "`answer.auth` says how"),
        (asked("", genesys), "`answer.auth` says how"),
        (asked("", "path = \"/a\""), "need a path of their own"),
        (
            asked("", "auth = { kind = \"jwt\", jwks_url = \"https://a.example/keys\" }"),
            "keys are fetched for streams only",
        ),
        (asked("", "path = \"/metrics\""), "need a path of their own"),
        (asked("", "path = \"a?b\""), "a path begins with `/`"),
        (asked("", "public_url = \"wss://b.example/a\""), "expected the URL the provider asks"),
        (asked("", "parameters = { tenant = \"\" }"), "is empty, longer than"),
        (asked("options = { one_way = true }", ""), "speak and listen"),
        (asked("", "unknown = 1"), "unknown"),
    ] {
        let problem = parse(&text).expect_err(what).to_string();
        assert!(problem.contains(what) && problem.contains("f.toml:"), "{what}:\n{problem}");
    }
    let second = "[[listener]]\nname = \"b\"\npath = \"/a/answer\"\nprovider = \"twilio\"";
    let problem = parse(&format!("{}{second}", asked("", ""))).unwrap_err().to_string();
    assert!(problem.contains("is the path of listener \"a\" already"), "{problem}");
}

#[test]
fn strangers_beyond_this_machine_are_not_answered_unless_that_is_said() {
    let beyond = "[server]\nbind = \"0.0.0.0:1\"\n";
    let path = "auth = { kind = \"path\", token = \"env:TOKEN\" }";
    let open = "auth = { kind = \"none\" }";
    let problem_of = |keys: &str| {
        parse(&format!("{beyond}{}", asked(keys, open))).err().map(|error| error.to_string())
    };
    let problem = problem_of(&format!("insecure = true\n{path}")).unwrap();
    assert!(problem.contains("the stream's credential stands in it"), "{problem}");
    let problem = problem_of(open).unwrap();
    assert!(problem.contains("anybody could ask for the answer"), "{problem}");
    assert_eq!(problem_of(&format!("allow = [\"192.0.2.0/24\"]\n{path}")), None);
    assert_eq!(problem_of(&format!("insecure = true\n{open}")), None);
    assert!(parse(&asked(open, open)).is_ok(), "on this machine");
    let problem = parse(&asked(path, open)).unwrap_err().to_string();
    assert!(problem.contains("the stream's credential stands in it"), "not even there: {problem}");
}
