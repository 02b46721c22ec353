//! Who speaks on a route and who follows whom: what is meant without saying, and what cannot be.

use super::*;

const MODULES: &str = "[[module]]\nname = \"a\"\nbuiltin = \"vad\"\nrole = \"tap\"\n[[module]]\nname = \"b\"\ncommand = [\"b\"]\nrole = \"agent\"\n[[module]]\nname = \"c\"\ncommand = [\"c\"]\nrole = \"agent\"\n[[module]]\nname = \"d\"\ncommand = [\"d\"]\nrole = \"text\"\n";

fn route(keys: &str) -> String {
    format!("{MODULES}[[route]]\nname = \"r\"\n{keys}")
}

#[test]
fn the_only_module_or_the_only_agent_of_a_route_speaks_unless_it_only_listens() {
    for (keys, speaker) in [
        ("modules = [\"a\"]", None),
        ("modules = [\"a\", \"b\"]", Some("b")),
        ("modules = [\"a\", \"d\"]", None),
        ("modules = [\"d\"]", Some("d")),
    ] {
        let config = parse(&route(keys)).unwrap();
        assert_eq!(config.routes[0].speaker.as_deref(), speaker, "{keys}");
    }
    let alone = parse("[[module]]\nname = \"a\"\nbuiltin = \"vad\"\nrole = \"tap\"\n").unwrap();
    assert_eq!(alone.routes[0].speaker, None);
}

#[test]
fn a_place_that_does_not_fit_is_told_with_what_to_do() {
    let module = |on_fail: &str| format!("[[module]]\nname = \"m\"\nbuiltin = \"vad\"\n{on_fail}");
    let second = "\n[[module]]\nname = \"n\"\nbuiltin = \"vad\"\non_fail = \"fallback:m\"\n";
    let cases = [
        (
            route("modules = [\"a\", \"b\"]\nspeaker = \"a\""),
            "f.toml:20:11: route[0].speaker: \"a\" has role \"tap\" and only listens",
        ),
        (
            route("modules = [\"b\", \"c\"]"),
            "f.toml:17:1: route[0]: \"b\" has role \"agent\" and would not be heard: one module speaks",
        ),
        (
            route("modules = [\"b\", \"c\"]\nspeaker = \"b\""),
            "f.toml:20:11: route[0].speaker: \"c\" has role \"agent\" and would not be heard",
        ),
        (
            module("role = \"singer\""),
            "f.toml:4:8: module[0].role: unknown variant `singer`, expected one of `tap`, `agent`, `text`",
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
