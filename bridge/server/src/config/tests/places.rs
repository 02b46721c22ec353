//! Who speaks on a route and who follows whom: what is meant without saying, and what cannot be.

use super::*;

const MODULES: &str = "[[module]]\nname = \"a\"\nbuiltin = \"vad\"\nrole = \"tap\"\n[[module]]\nname = \"b\"\ncommand = [\"b\"]\nrole = \"agent\"\n[[module]]\nname = \"c\"\ncommand = [\"c\"]\nrole = \"agent\"\n[[module]]\nname = \"d\"\ncommand = [\"d\"]\nrole = \"text\"\n";

fn route(keys: &str) -> String {
    format!("{MODULES}[[route]]\nname = \"r\"\n{keys}")
}

#[test]
fn the_only_module_or_the_only_agent_of_a_route_speaks_unless_it_only_listens() {
    for (keys, speakers) in [
        ("modules = [\"a\"]", &[][..]),
        ("modules = [\"a\", \"b\"]", &["b"]),
        ("modules = [\"a\", \"d\"]", &[]),
        ("modules = [\"d\"]", &["d"]),
    ] {
        let config = parse(&route(keys)).unwrap();
        assert_eq!(config.routes[0].speakers, speakers, "{keys}");
    }
    let alone = parse("[[module]]\nname = \"a\"\nbuiltin = \"vad\"\nrole = \"tap\"\n").unwrap();
    assert_eq!(alone.routes[0].speakers, Vec::<String>::new());
}

#[test]
fn several_speak_mixed_or_in_turns() {
    for (keys, when_both) in [
        ("", WhenBoth::Mix),
        (", when_both = \"mix\"", WhenBoth::Mix),
        (", when_both = \"queue\"", WhenBoth::Queue),
    ] {
        let keys = format!(
            "modules = [\"a\", \"b\", \"c\"]\nspeakers = {{ modules = [\"b\", \"c\"]{keys} }}"
        );
        let config = parse(&route(&keys)).unwrap();
        let RouteConfig { speakers, when_both: both, .. } = &config.routes[0];
        assert_eq!((speakers.as_slice(), *both), (&["b".to_owned(), "c".into()][..], when_both));
    }
}

#[test]
fn a_place_that_does_not_fit_is_told_with_what_to_do() {
    let module = |on_fail: &str| format!("[[module]]\nname = \"m\"\nbuiltin = \"vad\"\n{on_fail}");
    let second = "\n[[module]]\nname = \"n\"\nbuiltin = \"vad\"\non_fail = \"fallback:m\"\n";
    let cases = [
        (
            route("modules = [\"a\", \"b\"]\nspeaker = \"a\""),
            "f.toml:20:11: route[0].speaker: \"a\" has role \"tap\" or \"filter\" and says nothing",
        ),
        (
            route("modules = [\"b\", \"c\"]"),
            "f.toml:17:1: route[0]: \"b\" has role \"agent\" and would not be heard: `speaker` or `speakers` says who is",
        ),
        (
            route("modules = [\"b\", \"c\"]\nspeaker = \"b\""),
            "f.toml:20:11: route[0].speaker: \"c\" has role \"agent\" and would not be heard",
        ),
        (
            route(
                "modules = [\"b\", \"c\"]\nspeaker = \"b\"\nspeakers = { modules = [\"b\", \"c\"] }",
            ),
            "f.toml:20:11: route[0].speaker: either `speaker` or `speakers`, found both",
        ),
        (
            route("modules = [\"b\", \"c\"]\nspeakers = { modules = [\"b\", \"b\"] }"),
            "f.toml:20:30: route[0].speakers.modules[1]: \"b\" is in the list twice",
        ),
        (
            route("modules = [\"b\"]\nspeakers = { modules = [\"b\"] }"),
            "f.toml:20:12: route[0].speakers: `modules` is a list of two names or more",
        ),
        (
            route(
                "modules = [\"b\"]\nspeakers = { modules = [\"x\", \"b\"], when_both = \"sing\" }",
            ),
            "f.toml:20:48: route[0].speakers.when_both: unknown variant `sing`, expected `mix` or `queue`",
        ),
        (
            module("role = \"singer\""),
            "f.toml:4:8: module[0].role: unknown variant `singer`, expected one of `tap`, `agent`, `filter`, `text`",
        ),
        (
            module("budget = \"10ms\"").replace("vad", "recorder"),
            "f.toml:4:10: module[0].budget: is for modules with role \"filter\", and for echo, vad and dtmf",
        ),
        (
            module("role = \"filter\""),
            "f.toml:3:11: module[0].builtin: vad answers no sound with sound and is no filter",
        ),
        (
            module("role = \"filter\"\nbudget = \"1s\""),
            "f.toml:5:10: module[0].budget: found 1s, expected 1ms to 200ms",
        ),
        (
            module("on_fail = \"hang\""),
            "f.toml:4:11: module[0].on_fail: found \"hang\", expected \"continue\", \"hangup\" or \"fallback:NAME\"",
        ),
        (
            module("on_fail = \"fallback:x\""),
            "f.toml:4:11: module[0].on_fail: there is no [[module]] \"x\" (known: m)",
        ),
        (
            module("on_fail = \"fallback:m\""),
            "f.toml:4:11: module[0].on_fail: \"m\" would follow itself: first m",
        ),
        (
            module("on_fail = \"fallback:n\"") + second,
            "f.toml:4:11: module[0].on_fail: \"m\" would follow itself: first n, then m",
        ),
        (
            module("role = \"tap\"\non_fail = \"fallback:d\"\n") + MODULES,
            "f.toml:5:11: module[0].on_fail: \"d\" takes the place of \"m\", but has another `role`",
        ),
    ];
    for (text, said) in cases {
        let errors = parse(&text).unwrap_err().to_string();
        assert!(
            errors.lines().any(|line| line.starts_with(said)),
            "{text}\nwanted {said}\ngot    {errors}"
        );
    }
}
