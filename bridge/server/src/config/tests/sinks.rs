//! Sinks: what they mean, whose calls they get, and what is said of mistakes.

use super::*;
use crate::events::EventKind;

fn with_key(text: &str) -> Result<Config, ConfigError> {
    let variable = |name: &str| match name {
        "KEY" => Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
        "SHORT" => Some("whsec_c2VjcmV0".to_owned()),
        _ => None,
    };
    Config::parse("f.toml", text, &Overrides::default(), &context(&variable))
}

#[test]
fn a_sink_gets_the_calls_of_routes_that_name_it_or_all() {
    let config = with_key(
        "[[module]]\nname = \"m\"\nbuiltin = \"echo\"\n\
         [[route]]\nname = \"default\"\nmodules = [\"m\"]\nsinks = [\"lines\"]\n\
         [[route]]\nname = \"other\"\nmodules = [\"m\"]\n\
         [[sink]]\nname = \"lines\"\nkind = \"jsonl\"\npath = \"x/{date}.jsonl\"\nevents = [\"dtmf\"]\n\
         [[sink]]\nname = \"crm\"\nkind = \"webhook\"\nall = true\nurl = \"https://crm.example/calls\"\nsecret = \"env:KEY\"\n",
    )
    .unwrap();
    let sinks: Vec<_> = config.routes.iter().map(|route| route.sinks.join(" ")).collect();
    assert_eq!(sinks, ["lines crm", "crm"]);
    assert_eq!(config.sinks[0].events, [EventKind::Dtmf].into_iter().collect());
    assert!(config.wants_tls(), "the webhook goes by TLS");
    let summary = config.summary();
    for line in [
        "sink lines: lines in x/{date}.jsonl, of route default\n",
        "sink crm: told to https://crm.example/calls, of route default, other\n",
    ] {
        assert!(summary.contains(line), "{summary}");
    }
    assert!(!format!("{config:?}").contains("MfKQ9r8G"), "the key is printed");
}

#[test]
fn without_a_route_a_sink_for_all_gets_the_calls_of_the_default_one() {
    let config =
        with_key("[[sink]]\nname = \"a\"\nkind = \"jsonl\"\npath = \"x.jsonl\"\nall = true\n")
            .unwrap();
    assert_eq!(config.routes[0].sinks, ["a"]);
    assert_eq!(config.sinks[0].events, SinkConfig::default_events());
}

#[cfg(feature = "sql")]
#[test]
fn a_database_is_named_without_its_secret() {
    let variable = |name: &str| match name {
        "GOOD" => Some("postgres://u:c2VjcmV0@db.example/calls".to_owned()),
        "BAD" => Some("mysql://u:c2VjcmV0@db.example/calls".to_owned()),
        _ => None,
    };
    let parse = |url: &str| {
        let text =
            format!("[[sink]]\nname = \"a\"\nkind = \"postgres\"\nall = true\nurl = \"{url}\"\n");
        Config::parse("f.toml", &text, &Overrides::default(), &context(&variable))
    };
    let config = parse("env:GOOD").unwrap();
    assert!(config.summary().contains("sink a: PostgreSQL, of route default\n"));
    assert!(!format!("{config:?}").contains("c2VjcmV0"));
    let told = parse("env:BAD").unwrap_err().to_string();
    assert!(
        told.starts_with("f.toml:5:7: sink[0].url: is no URL of a PostgreSQL database"),
        "{told}"
    );
    assert!(!told.contains("c2VjcmV0"), "{told}");
}

#[test]
fn mistakes_are_told_with_place_and_remedy() {
    let sink = |keys: &str| format!("[[sink]]\nname = \"a\"\nall = true\n{keys}");
    let hook = |keys: &str| sink(&format!("kind = \"webhook\"\nurl = \"https://x/a\"\n{keys}"));
    let cases = [
        (sink(""), "f.toml:1:1: sink[0]: `kind` is missing: "),
        (sink("kind = \"josnl\""), "f.toml:4:8: sink[0].kind: unknown variant `josnl`"),
        (sink("kind = \"jsonl\""), "f.toml:1:1: sink[0]: kind \"jsonl\" needs `path`"),
        (
            sink("kind = \"jsonl\"\npath = \"{from}.jsonl\""),
            "f.toml:5:8: sink[0].path: there is no {from}: {date}, {call}, {listener} and {route} are",
        ),
        (
            sink("kind = \"jsonl\"\npath = \"a\"\nurl = \"https://x/a\""),
            "f.toml:6:7: sink[0].url: `url` is not used by kind \"jsonl\", which takes path, max_file_mib, flush_every",
        ),
        (
            sink("kind = \"jsonl\"\npath = \"a\"\nevents = [\"dtmf\", \"transcript\"]"),
            "f.toml:6:19: sink[0].events[1]: there is no kind of event \"transcript\" (known: call.started, ",
        ),
        (
            sink("kind = \"jsonl\"\npath = \"a\"\nevents = []"),
            "f.toml:6:10: sink[0].events: `events` is empty",
        ),
        (
            sink("kind = \"jsonl\"\npath = \"a\"\nqueue = 0"),
            "f.toml:6:9: sink[0].queue: found 0, expected 1 to 1000000",
        ),
        (sink("kind = \"webhook\""), "f.toml:1:1: sink[0]: kind \"webhook\" needs `url`"),
        (
            sink("kind = \"webhook\"\nurl = \"http://x/a\"\nsecret = \"env:KEY\""),
            "f.toml:5:7: sink[0].url: \"http://x/a\" begins with http://",
        ),
        (hook(""), "f.toml:1:1: sink[0]: `secret` is missing, by which the receiver"),
        (
            hook("secret = \"whsec_abc\""),
            "f.toml:6:10: sink[0].secret: a secret is not written here",
        ),
        (
            hook("secret = \"env:SHORT\""),
            "f.toml:6:10: sink[0].secret: is no signing secret: `whsec_` and 24 to 64 octets in base64",
        ),
        (
            hook("secrets = [\"env:KEY\", \"env:SHORT\"]"),
            "f.toml:6:23: sink[0].secrets[1]: is no signing secret",
        ),
        (
            hook("secret = \"env:KEY\"\ninsecure = true"),
            "f.toml:6:10: sink[0].secret: either a secret or `insecure = true`, found both",
        ),
        (
            hook("secret = \"env:KEY\"\nallow = [\"10.0.0.1/8\"]"),
            "f.toml:7:10: sink[0].allow[0]: \"10.0.0.1/8\" has more bits than its prefix",
        ),
        (
            hook("secret = \"env:KEY\"\nsource = \"a b\""),
            "f.toml:7:10: sink[0].source: found \"a b\", expected a URI or a path such as \"/ringback\"",
        ),
        (
            "[[sink]]\nname = \"a\"\nkind = \"jsonl\"\npath = \"a\"".to_owned(),
            "f.toml:1:1: sink[0]: no [[route]] names this sink: add it to `sinks` of one, or say `all = true`",
        ),
        (
            "[[module]]\nname = \"m\"\nbuiltin = \"echo\"\n[[route]]\nname = \"r\"\nmodules = [\"m\"]\nsinks = [\"crn\"]\n".to_owned()
                + &sink("kind = \"jsonl\"\npath = \"a\"").replace("\"a\"\nall", "\"crm\"\nall"),
            "f.toml:7:10: route[0].sinks[0]: there is no [[sink]] \"crn\" (known: crm); did you mean \"crm\"?",
        ),
        (sink("kind = \"sqlite\""), "f.toml:1:1: sink[0]: kind \"sqlite\" needs `path`"),
        (sink("kind = \"postgres\""), "f.toml:1:1: sink[0]: kind \"postgres\" needs `url`, where it is kept"),
        (
            sink("kind = \"postgres\"\nurl = \"postgres://u:c2VjcmV0@db/x\""),
            "f.toml:5:7: sink[0].url: a secret is not written here",
        ),
        (sink("kind = \"object_store\"\nurl = \"s3://b/p\""), "f.toml:1:1: sink[0]: kind \"object_store\" needs `url`"),
        (
            sink("kind = \"object_store\"\ndir = \"r\"\nurl = \"gs://b/p\""),
            "f.toml:6:7: sink[0].url: found \"gs://b/p\", expected \"s3://bucket/prefix\" or \"file:///folder\"",
        ),
        (
            sink("kind = \"object_store\"\ndir = \"r\"\nurl = \"s3://b\"\naccess_key = \"env:KEY\""),
            "f.toml:7:14: sink[0].access_key: `access_key` and `secret_key` go together",
        ),
        (
            sink("kind = \"object_store\"\ndir = \"r\"\nurl = \"file:///r\"\nregion = \"x\"\nevents = [\"event\"]"),
            "f.toml:8:10: sink[0].events: `events` is not used by kind \"object_store\"",
        ),
        (
            sink("kind = \"object_store\"\ndir = \"r\"\nurl = \"file:///r\"\nregion = \"x\""),
            "f.toml:7:10: sink[0].region: `region` is not used by a file:// store, which takes nothing",
        ),
        (
            sink("kind = \"object_store\"\ndir = \"r\"\nurl = \"s3://b\"\nendpoint = \"http://minio:9000\""),
            "f.toml:7:12: sink[0].endpoint: \"http://minio:9000\" begins with http://",
        ),
        (
            "[[route]]\nname = \"r\"\npassthrough = {}\nsinks = [\"a\"]\n".to_owned()
                + &sink("kind = \"jsonl\"\npath = \"a\""),
            "f.toml:4:10: route[0].sinks[0]: a route that passes streams on tells no events",
        ),
    ];
    for (text, said) in cases {
        let errors = with_key(&text).unwrap_err().to_string();
        assert!(
            errors.lines().any(|line| line.starts_with(said)),
            "{text}\nwanted {said}\ngot    {errors}"
        );
        assert!(!errors.contains("c2VjcmV0"), "{errors}");
    }
}

#[test]
fn a_sink_with_a_folder_of_its_own_changes_with_a_restart_and_others_at_once() {
    let config = |host: &str| {
        let toml = format!(
            "[[sink]]\nname = \"kept\"\nkind = \"webhook\"\nall = true\nurl = \"https://{host}/calls\"\nsecret = \"env:KEY\"\nspool = \"s\"\n\
             [[sink]]\nname = \"light\"\nkind = \"webhook\"\nall = true\nurl = \"https://{host}/calls\"\nsecret = \"env:KEY\"\n"
        );
        with_key(&toml).unwrap()
    };
    let (running, wanted) = (config("one.example"), config("two.example"));
    let (kept, light) = (running.sinks[0].clone(), wanted.sinks[1].clone());
    let succession = running.succeeded_by(wanted).unwrap();
    assert_eq!(succession.restart, ["sink.kept"]);
    assert_eq!(succession.config.sinks, [kept, light]);
}
