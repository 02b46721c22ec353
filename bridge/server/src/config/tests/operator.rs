//! What the file says of the operator's side, and of whose calls are whose.

use super::*;
use crate::operator::Scope;

fn parse(text: &str) -> Result<Config, ConfigError> {
    let variable = |name: &str| match name {
        "SHORT" => Some("s3cret-canary".to_owned()),
        name => name.strip_prefix("T_").map(|name| format!("{name}-s3cret-canary-0123")),
    };
    Config::parse("f.toml", text, &Overrides::default(), &context(&variable))
}

fn token(name: &str, keys: &str) -> String {
    format!("[[operator.token]]\nname = \"{name}\"\n{keys}\n")
}

#[test]
fn its_own_side_is_on_this_machine_unless_it_is_told_otherwise() {
    assert_eq!(parse("").unwrap().operator, None, "without the table all stays on one port");
    let bare = parse("[operator]\n").unwrap();
    let operator = bare.operator.as_ref().unwrap();
    assert_eq!((operator.bind.to_string(), operator.tokens.len()), ("127.0.0.1:9080".into(), 0));
    assert!(bare.summary().contains("http://127.0.0.1:9080  figures, events and API"));
    let text = "[[tenant]]\nname = \"acme\"\n".to_owned()
        + "[operator]\nbind = \"[::]:9\"\ninsecure = true\n"
        + &token("alice", "token = \"env:T_A\"\nscopes = [\"read\", \"admin\"]")
        + &token(
            "bob",
            "tokens = [\"env:T_B\", \"env:T_C\"]\nscopes = [\"listen\"]\ntenant = \"acme\"",
        )
        + &listener("tenant = \"acme\"");
    let config = parse(&text).unwrap();
    let operator = config.operator.as_ref().unwrap();
    let [alice, bob] = operator.tokens.as_slice() else { panic!("{operator:?}") };
    assert!(alice.scopes.contains(Scope::Admin) && !alice.scopes.contains(Scope::Control));
    assert_eq!((bob.secrets.len(), bob.tenant.as_deref()), (2, Some("acme")));
    assert_eq!(config.listeners[0].endpoint.tenant.as_deref(), Some("acme"));
    assert!(!format!("{config:?}{}", config.summary()).contains("canary"));
}

#[test]
fn what_would_open_it_to_strangers_or_to_nobody_is_a_mistake() {
    let good = "token = \"env:T_A\"\nscopes = [\"read\"]";
    for (text, wanted) in [
        (
            "[operator]\nbind = \"0.0.0.0:9\"".into(),
            "f.toml:2:8: operator.bind: anybody who reaches",
        ),
        (
            "[operator]\nbind = \"0.0.0.0:9\"\n".to_owned() + &token("a", good),
            "f.toml:2:8: operator.bind: whoever listens on the way to 0.0.0.0:9 reads the tokens",
        ),
        (
            "[operator]\nbind = \"9080\"".into(),
            "operator.bind: found \"9080\", expected an address",
        ),
        ("[operator]\nbind = \"127.0.0.1:8080\"".into(), "is where providers are taken"),
        (token("a", "scopes = [\"read\"]"), "operator.token[0]: `token` is missing"),
        (token("a", "token = \"env:T_A\""), "operator.token[0]: `scopes` is missing or empty"),
        (token("a", "token = \"env:T_A\"\nscopes = []"), "`scopes` is missing or empty"),
        (
            token("a", "token = \"env:T_A\"\nscopes = [\"write\"]"),
            "operator.token[0].scopes[0]: unknown variant `write`, expected one of `read`",
        ),
        (token("a", "token = \"env:SHORT\"\nscopes = [\"read\"]"), "fewer than 16 characters"),
        (token("a", "token = \"s3cret-canary-0123\"\nscopes = [\"read\"]"), "not written here"),
        (token("a", good) + &token("a", "token = \"env:T_B\"\nscopes = [\"read\"]"), "another one"),
        (token("a", good) + &token("b", good), "operator.token[1].token: it is the token of \"a\""),
        (token("a", &format!("{good}\ntenant = \"acme\"")), "there is no [[tenant]] \"acme\""),
        (listener("tenant = \"acme\""), "listener[0].tenant: there is no [[tenant]] \"acme\""),
        ("[[tenant]]\nname = \"a\"\n[[tenant]]\nname = \"a\"".into(), "the name of another one"),
        (
            "[[tenant]]\nname = \"a\"\ncalls_per_second = 0".into(),
            "tenant[0].calls_per_second: found 0, expected 1 to 1000000",
        ),
        (
            listener("endpoints = \"e.json\"\nauth = { kind = \"path\", token = \"env:T_A\" }"),
            "listener[0].endpoints: an endpoint is a secret in the path already",
        ),
        (
            listener("endpoints = \"Cargo.toml\""),
            "listener[0].endpoints: Cargo.toml: is no file of endpoints",
        ),
        (
            listener("endpoints = \"e.json\"")
                + &listener("endpoints = \"e.json\"")
                    .replace("\"a\"\n", "\"b\"\n")
                    .replace("/a", "/b"),
            "listener[1].endpoints: those of listener \"a\" are kept there already",
        ),
    ] {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(wanted), "{wanted}\n{error}");
        assert!(!error.contains("canary"), "{error}");
    }
}

#[test]
fn an_endpoint_guards_a_listener_as_a_credential_does() {
    let beyond =
        |keys: &str| parse(&format!("[server]\nbind = \"0.0.0.0:80\"\n{}", listener(keys)));
    assert!(beyond("").is_err());
    let config = beyond("endpoints = \"e.json\"").unwrap();
    assert!(config.listeners[0].endpoint.token_in_path);
    let bare = parse(&listener("")).unwrap();
    let next = parse(&listener("endpoints = \"e.json\"")).unwrap();
    let restart = bare.succeeded_by(next).unwrap().restart;
    assert_eq!(restart, ["listener.a.endpoints"]);
}

#[test]
fn a_listener_that_asks_nobody_is_for_this_machine_and_what_guards_it_changes_with_it() {
    let is_near = |keys: &str| parse(&listener(keys)).unwrap().listeners[0].only_near;
    let token = "auth = { kind = \"bearer\", token = \"env:T_A\" }";
    for (keys, near) in [
        ("", true),
        ("auth = { kind = \"none\" }", true),
        ("insecure = true", false),
        (token, false),
        ("endpoints = \"e.json\"", false),
        ("allow = [\"192.0.2.0/24\"]", false),
        ("allow = [\"192.0.2.0/24\", \"127.0.0.1\"]", true),
        ("allow = [\"::/0\"]", true),
    ] {
        assert_eq!(is_near(keys), near, "{keys}");
    }
    assert!(parse("").unwrap().listeners.iter().all(|listener| listener.only_near));
    let next = |running: &str, wanted: &str| {
        let wanted = parse(&listener(wanted)).unwrap();
        let next = parse(&listener(running)).unwrap().succeeded_by(wanted).unwrap();
        let kept = &next.config.listeners[0];
        (kept.only_near, kept.auth.kind().to_owned(), next.restart.join(" "))
    };
    let changes = |near, auth: &str, restart: &str| (near, auth.to_owned(), restart.to_owned());
    assert_eq!(next("", token), changes(false, "bearer", ""));
    assert_eq!(next(token, ""), changes(true, "none", ""));
    assert_eq!(next("", "insecure = true"), changes(false, "none", ""));
    // What guards the door stays where anything of the door does.
    let moved = "public_url = \"wss://b.example/a\"\ninsecure = true";
    let restart = "listener.a.public_url listener.a.insecure";
    assert_eq!(next("", moved), changes(true, "none", restart));
}

#[test]
fn tokens_are_taken_up_while_it_runs_and_the_rest_needs_a_restart() {
    let alice = token("alice", "token = \"env:T_A\"\nscopes = [\"read\"]");
    let bob = token("bob", "token = \"env:T_B\"\nscopes = [\"read\"]");
    let next = |running: &str, wanted: &str| {
        let next = parse(running).unwrap().succeeded_by(parse(wanted).unwrap()).unwrap();
        let names = next.config.operator.map(|operator| {
            operator.tokens.into_iter().map(|token| token.name).collect::<Vec<_>>().join(" ")
        });
        (names.unwrap_or_default(), next.restart.join(" "))
    };
    let both = alice.clone() + &bob;
    assert_eq!(next(&alice, &both), ("alice bob".into(), String::new()));
    assert_eq!(next(&both, &bob), ("bob".into(), String::new()));
    assert_eq!(next(&alice, "[operator]"), ("alice".into(), "operator.token".into()));
    assert_eq!(next("[operator]", &alice), (String::new(), "operator.token".into()));
    assert_eq!(next(&alice, ""), ("alice".into(), "operator".into()));
    let elsewhere = format!(
        "[operator]\nbind = \"127.0.0.1:1\"\norigins = [\"http://a\"]\nmax_connections = 9\naudit = \"a\"\n{bob}"
    );
    let keys =
        "operator.audit operator.bind operator.origins operator.max_connections operator.token";
    assert_eq!(next(&alice, &elsewhere), ("alice".into(), keys.into()));
    assert_eq!(next("", "[[tenant]]\nname = \"a\"").1, "tenant");
}
