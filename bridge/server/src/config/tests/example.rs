//! The example: valid as it stands and with everything switched on, and without a key left out.

use super::*;

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

/// The providers that the example has.
const WIDELY: [&str; 14] = [
    "twilio",
    "asterisk",
    "telnyx",
    "plivo",
    "vonage",
    "avaya",
    "bandwidth",
    "azure",
    "genesys-connector",
    "raw",
    "signalwire",
    "sinch",
    "jambonz",
    "zoom-rtms",
];

/// All of the example, with what it keeps in files in variables.
fn with_variables() -> String {
    let mut text = example_in_full().replace("file:/run/secrets/asterisk", "env:ASTERISK");
    for (file, variable) in
        [("keys.json", "KEYS"), ("vonage.pem", "PEM"), ("bridge.creds", "CREDS")]
    {
        text = text.replace(&format!("file:/etc/ringback/{file}"), &format!("env:{variable}"));
    }
    text
}

/// What is kept in a variable of the example, in the form that it must have; what nothing else has is in each.
fn secret(name: &str) -> Option<String> {
    let canary = format!("{name}-0123456789abcdef-canary");
    Some(match name {
        "KEYS" => key_set(),
        "PEM" => crate::outgoing::mock::TEST_KEY.to_owned(),
        "DATABASE_URL" => format!("postgres://ringback:{canary}@db.example.com/calls"),
        "GENESYS_CLIENT_SECRET" | "SINCH_APPLICATION_SECRET" => in_base64(&canary),
        name if name.starts_with("RECORDINGS_") => "5c".repeat(32),
        name if name.ends_with("SIGNING_SECRET") => format!("whsec_{}", in_base64(&canary)),
        name if name.starts_with("RINGBACK_") => return None,
        _ => canary,
    })
}

fn in_base64(text: &str) -> String {
    base64_simd::STANDARD.encode_to_string(text)
}

#[test]
#[cfg_attr(not(all(feature = "functions", feature = "nats")), ignore = "as the other")]
fn a_configuration_that_is_printed_shows_no_secret() {
    let mut context = context(&secret);
    context.providers = WIDELY.to_vec();
    let mut text = with_variables();
    let urls =
        ["gpu.example.com/stt", "localhost:5000/", "crm.example.com/calls", "login.example/keys"];
    for url in urls {
        assert!(text.contains(url), "{url}");
        text = text.replace(url, &format!("{url}?key=in-a-url-canary"));
    }
    let parse = |text: &str| Config::parse("f.toml", text, &Overrides::default(), &context);
    let printed = format!("{:?}", parse(&text).unwrap());
    let names: BTreeSet<_> =
        text.split("\"env:").skip(1).filter_map(|rest| rest.split_once('"')).collect();
    let names = names.into_iter().map(|(name, _)| name);
    let pem = crate::outgoing::mock::TEST_KEY.lines().nth(5).unwrap().to_owned();
    let mut needles = vec!["canary".to_owned(), "5c5c5c5c".into(), pem];
    needles
        .extend(names.flat_map(|name| [secret(name).unwrap(), in_base64(&secret(name).unwrap())]));
    assert!(needles.len() > 80 && printed.len() > 10_000, "{}", needles.len());
    for needle in &needles {
        let at = printed.find(needle.as_str());
        let around = at.map(|at| &printed[at.saturating_sub(200)..at]);
        assert!(at.is_none(), "{needle} behind {around:?}");
    }
    assert!(printed.contains("genesys-connector") && printed.contains("crm.example.com/calls"));
    // Written where the place belongs, and misspelt: told without what was found there.
    let literal = text.replace("\"env:", "\"");
    for wrong in [literal.as_str(), &text.replace("env:", "enf:")] {
        let problems = parse(wrong).unwrap_err().to_string();
        assert!(problems.lines().count() > 30, "{problems}");
        assert!(!problems.contains("TWILIO_PATH_TOKEN"), "{problems}");
    }
}

#[test]
#[cfg_attr(not(feature = "functions"), ignore = "it shows what only a whole build has")]
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

    if !cfg!(feature = "nats") {
        // What this binary was built without cannot be switched on.
        return;
    }
    let (text, secrets) = (with_variables(), secret);
    let mut context = context(&secrets);
    context.providers = WIDELY.to_vec();
    let config = Config::parse("ringback.toml", &text, &flags, &context).unwrap();
    let kinds: BTreeSet<_> = config.listeners.iter().map(|l| l.auth.kind()).collect();
    assert_eq!((config.listeners.len(), kinds.len()), (20, 14), "{kinds:?}");
    let modules = text.lines().filter(|line| *line == "[[module]]").count();
    assert_eq!(config.modules.len(), modules);
    let operator = config.operator.as_ref().unwrap();
    assert_eq!((operator.tokens.len(), config.tenants.len()), (3, 1));
    assert_eq!(operator.bind.to_string(), crate::operator::DEFAULT_BIND);
    assert_eq!((config.sinks.len(), config.routes[0].sinks.len()), (7, 7));
    let lines = &config.sinks[0];
    assert_eq!((lines.events, lines.queue), (SinkConfig::default_events(), 10_000));
    assert_eq!(config.listener("azure").unwrap().routes, ["default"], "the other is not for it");
    assert_eq!(config.listener("twilio-path").unwrap().routes, ["german", "default"]);
}

/// The keys a table knows, as serde tells them when it meets one that it does not know.
fn known_keys(table: &str) -> BTreeSet<String> {
    let text = match table {
        "" => "zz = 1".to_owned(),
        "listener" | "module" | "route" | "sink" | "tenant" | "operator.token" => {
            format!("[[{table}]]\nzz = 1")
        }
        "listener.auth" => "[[listener]]\nauth = { kind = \"none\", zz = 1 }".to_owned(),
        "listener.hangup" => "[[listener]]\nhangup = { kind = \"rest\", zz = 1 }".to_owned(),
        "listener.options" | "listener.answer" | "module.on" | "module.listen"
        | "module.breaker" | "module.readiness" | "route.barge_in" | "route.speakers"
        | "route.passthrough" | "route.when" | "route.canary" | "route.private" => {
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
                // Some tables are written alike, and one has what another cannot have beside it.
                let of = match path {
                    "listener.answer.auth" | "module.auth" => "listener.auth",
                    "module.liveness" => "module.readiness",
                    path => path,
                };
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
const FREE: [&str; 12] = [
    "module.config",
    "module.config.encrypt",
    "module.config.encrypt.old",
    "module.tokens",
    "module.parameters",
    "module.headers",
    "module.env",
    "listener.auth.shared_keys",
    "listener.auth.claims",
    "listener.answer.parameters",
    "route.when.parameters",
    "route.when.headers",
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
    assert_eq!(known_keys("").len(), 13);
}
