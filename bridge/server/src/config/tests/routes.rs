//! Which routes a listener has, what their rules mean, and what is said of those that no call can take.

use ringback_proto::rule::Facts;
use ringback_proto::session::Share;

use super::*;

const MODULES: &str =
    "[[module]]\nname = \"a\"\nbuiltin = \"echo\"\n[[module]]\nname = \"b\"\nbuiltin = \"vad\"\n";

/// A route to the first module, with more keys.
fn route(name: &str, keys: &str) -> String {
    format!("[[route]]\nname = \"{name}\"\nmodules = [\"a\"]\n{keys}\n")
}

fn file(parts: &[String]) -> String {
    MODULES.to_owned() + &parts.concat()
}

#[test]
fn a_rule_looks_at_all_that_it_names() {
    let keys = "when = { from = \"+49 30*\", to = [\"100\", \"sip:*@b.example\"], listener = \"a\", parameters = { lang = [\"de\"] }, headers = { X-Tenant = \"acme\" } }";
    let config = parse(&file(&[route("r", keys), listener("route = \"r\"")])).unwrap();
    let rule = &config.route("r").unwrap().when;
    assert!(rule.is_for("a") && !rule.is_for("b"));
    let pair = |name: &str, value: &str| [(name.to_owned(), value.to_owned())];
    let (lang, tenant) = (pair("lang", "de"), pair("x-tenant", "acme"));
    let facts =
        Facts { from: Some("+4930-1"), to: Some("100"), parameters: &lang, headers: &tenant };
    assert!(rule.takes(&facts));
    assert!(rule.takes(&Facts { to: Some("sip:x@b.example"), ..facts }));
    for other in [
        Facts { from: Some("+43"), ..facts },
        Facts { to: None, ..facts },
        Facts { parameters: &[], ..facts },
        Facts { headers: &lang, ..facts },
    ] {
        assert!(!rule.takes(&other), "{other:?}");
    }
}

#[test]
fn a_listener_tries_its_routes_in_order_or_all_that_have_a_rule_and_the_default() {
    let routes = [
        route("default", ""),
        route("german", "when = { from = \"+49*\" }"),
        route("elsewhere", "when = { listener = \"b\", to = \"1\" }"),
        route("french", "when = { from = \"+33*\" }"),
    ];
    let with = |keys: &str| {
        let elsewhere = listener("").replace("\"a\"", "\"b\"").replace("\"/a\"", "\"/b\"");
        let text = file(&routes) + &listener(keys) + &elsewhere;
        parse(&text).unwrap_or_else(|error| panic!("{error}"))
    };
    let config = with("");
    assert_eq!(config.listener("a").unwrap().routes, ["german", "french", "default"]);
    assert_eq!(config.listener("b").unwrap().routes, ["german", "elsewhere", "french", "default"]);
    let config = with("routes = [\"french\", \"default\"]");
    assert_eq!(config.listener("a").unwrap().routes, ["french", "default"]);
    let summary = config.summary();
    assert!(summary.contains("auth none, routes french: a; default: a\n"), "{summary}");
    assert_eq!(with("route = \"german\"").listener("a").unwrap().routes, ["german"]);
}

#[test]
fn a_route_that_no_call_can_take_is_told() {
    let german = || route("german", "when = { from = \"+49*\" }");
    let berlin = || route("berlin", "when = { from = [\"+4930*\"], to = \"100\" }");
    let cases = [
        (
            vec![german(), route("default", ""), listener("routes = [\"default\", \"german\"]")],
            "f.toml:19:22: listener[0].routes[1]: \"german\" is never reached: \"default\" is tried before it and takes all of its calls",
        ),
        (
            vec![german(), berlin(), listener("routes = [\"german\", \"berlin\"]")],
            "f.toml:19:21: listener[0].routes[1]: \"berlin\" is never reached: \"german\" is tried before it",
        ),
        (
            vec![german(), berlin()],
            "f.toml:11:1: route[1]: \"berlin\" is never reached: \"german\" is tried before it",
        ),
        (
            vec![route("default", ""), german(), listener("route = \"default\"")],
            "f.toml:11:1: route[1]: no listener sends calls to it: name it in the `routes` of one",
        ),
        (
            vec![route("default", ""), route("x", "when = { listener = \"nobody\" }")],
            "f.toml:11:1: route[1]: its `when.listener` is the name of no listener",
        ),
        (
            vec![route("x", "when = { listener = \"b\" }"), listener("route = \"x\"")],
            "f.toml:15:9: listener[0].route: \"x\" is never taken here",
        ),
    ];
    for (parts, said) in cases {
        let errors = parse(&file(&parts)).unwrap_err().to_string();
        assert!(errors.starts_with(said), "wanted {said}\ngot    {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
    let fine = [berlin(), german(), route("default", "")];
    assert!(parse(&file(&fine)).is_ok(), "what is narrower comes first");
    let spare = [route("default", ""), route("spare", "")];
    assert!(parse(&file(&spare)).is_ok(), "one without a rule may lie ready");
}

#[test]
fn what_is_wrong_with_rules_and_lists_of_routes_is_told() {
    let when = |when: &str| vec![route("r", &format!("when = {{ {when} }}"))];
    let canary = |canary: &str| vec![route("r", &format!("canary = {canary}"))];
    let on = |keys: &str| vec![route("default", ""), listener(keys)];
    let cases = [
        (
            when("form = \"1\""),
            "route[0].when.form: unknown field `form`, expected one of `listener`, `from`, `to`, `parameters`, `headers`; did you mean \"from\"?",
        ),
        (
            when("from = 49"),
            "route[0].when.from: invalid type: integer `49`, expected a string or a list of strings",
        ),
        (when("from = []"), "route[0].when.from: an empty list takes no call"),
        (
            when("headers = { Authorization = \"x\" }"),
            "route[0].when.headers.Authorization: `authorization` carries credentials",
        ),
        (
            when("headers = { cookie = \"x\" }"),
            "route[0].when.headers.cookie: `cookie` carries credentials",
        ),
        (
            when("headers = { x-twilio-signature = \"x\" }"),
            "route[0].when.headers.x-twilio-signature: `x-twilio-signature` carries",
        ),
        (
            when("headers = { \"x y\" = \"x\" }"),
            "route[0].when.headers.x y: found \"x y\", expected the name of a header field",
        ),
        (
            [
                when("headers = { x-door = \"x\" }"),
                vec![listener(
                    "auth = { kind = \"header\", header = \"X-Door\", token = \"env:TOKEN\" }",
                )],
            ]
            .concat(),
            "route[0].when.headers.x-door: `x-door` carries credentials",
        ),
        (
            canary("{ module = \"b\", with = \"b\", percent = 1 }"),
            "route[0].canary.module: there is no module of this route called \"b\" (known: a)",
        ),
        (
            canary("{ module = \"a\", with = \"c\", percent = 1 }"),
            "route[0].canary.with: there is no [[module]] \"c\" (known: a, b)",
        ),
        (
            canary("{ module = \"a\", with = \"a\", percent = 1 }"),
            "route[0].canary.with: \"a\" is on the route already",
        ),
        (
            canary("{ module = \"a\", with = \"b\", percent = 101 }"),
            "route[0].canary.percent: found 101, expected 0 to 100",
        ),
        (canary("{ module = \"a\", percent = 101 }"), "route[0].canary: missing field `with`"),
        (
            canary("\"b\""),
            "route[0].canary: invalid type: string \"b\", expected a table or a list of tables",
        ),
        (
            on("route = \"default\"\nroutes = [\"default\"]"),
            "listener[0].routes: either `route` or `routes`, found both",
        ),
        (on("routes = []"), "listener[0]: `routes` is empty"),
        (
            on("routes = [\"default\", \"default\"]"),
            "listener[0].routes[1]: \"default\" is in the list twice",
        ),
        (
            on("routes = [\"defualt\"]"),
            "listener[0].routes[0]: there is no [[route]] \"defualt\" (known: default); did you mean \"default\"?",
        ),
    ];
    for (parts, said) in cases {
        let errors = parse(&file(&parts)).unwrap_err().to_string();
        let mut problems =
            errors.lines().filter_map(|line| line.split_once(": ")).map(|(_, problem)| problem);
        let found = problems.any(|problem| problem.starts_with(said));
        assert!(found, "wanted {said}\ngot    {errors}");
    }
}

#[test]
fn canaries_are_one_table_or_several_and_have_no_more_than_all_calls() {
    let third = "[[module]]\nname = \"c\"\nbuiltin = \"echo\"\n".to_owned();
    let canaries = |keys: &str| {
        let text = file(&[third.clone(), route("r", keys)]);
        parse(&text).map(|config| config.route("r").unwrap().canaries.clone())
    };
    let one = canaries("canary = { module = \"a\", with = \"b\", percent = 2.5 }").unwrap();
    let share = Share::percent(2.5).unwrap();
    assert_eq!(one, [CanaryConfig { module: "a".into(), with: "b".into(), share }]);
    let both = |first: u32, second: u32| {
        canaries(&format!(
            "canary = [{{ module = \"a\", with = \"b\", percent = {first} }}, {{ module = \"a\", with = \"c\", percent = {second} }}]"
        ))
    };
    assert_eq!(both(60, 40).unwrap().len(), 2);
    let errors = both(60, 41).unwrap_err().to_string();
    assert!(errors.contains("canary[1].percent: the canaries of \"a\" have over 100"), "{errors}");
}
