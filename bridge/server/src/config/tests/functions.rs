//! Modules whose functions are called: what is meant without saying, and what cannot be.

use super::*;

fn module(keys: &str) -> String {
    format!("[[module]]\nname = \"f\"\nkind = \"function\"\n{keys}")
}

fn errors(keys: &str) -> String {
    parse(&module(keys)).unwrap_err().to_string()
}

const WHOLE: &str = "command = [\"python3\", \"app.py\"]\non = { dtmf = \"on_key\" }\n";

#[test]
#[cfg(feature = "functions")]
fn a_function_needs_little_saying() {
    for text in [module(WHOLE), module(WHOLE).replace("kind = \"function\"\n", "")] {
        let config = parse(&text).unwrap();
        let ModuleRun::Function(function) = &config.module("f").unwrap().run else {
            panic!("{text}")
        };
        assert_eq!(
            function.on,
            std::collections::BTreeMap::from([(Trigger::Dtmf, "on_key".into())])
        );
        assert_eq!((function.replicas, function.concurrency, function.max_queued), (1, 1, 100));
        assert_eq!((function.result, function.schemas), (TextResult::Say, Schemas::Required));
        assert_eq!(
            (function.job_timeout, function.listen.is_none()),
            (Duration::from_secs(30), true)
        );
    }
    let keys = "on = { end = \"e\" }\nlisten = { address = \"127.0.0.1:8945\", dir = \"d\" }";
    let config = parse(&module(keys)).unwrap();
    let ModuleRun::Function(function) = &config.module("f").unwrap().run else { panic!() };
    let listen = function.listen.as_ref().unwrap();
    assert_eq!((listen.host.as_str(), function.command.is_empty()), ("localhost", true));
}

#[test]
fn a_function_that_cannot_be_is_told_with_what_to_do() {
    for (keys, said) in [
        ("command = [\"x\"]", "kind \"function\" needs `on`"),
        ("on = {}\ncommand = [\"x\"]", "names no function; it may have start, transcript"),
        ("on = { dtmf = \" \" }\ncommand = [\"x\"]", "expected the name of a function"),
        ("on = { key = \"f\" }\ncommand = [\"x\"]", "unknown field `key`"),
        ("on = { dtmf = \"f\" }", "needs `command`"),
        ("on = { dtmf = \"f\" }\ncommand = []", "found no program"),
        ("on = { dtmf = \"f\" }\nlisten = { dir = \"d\" }", "needs `address`"),
        ("on = { dtmf = \"f\" }\nlisten = { address = \"x\", dir = \"d\" }", "is no address"),
        ("on = { dtmf = \"f\" }\nlisten = { address = \"127.0.0.1:1\" }", "needs `dir`"),
        (
            "on = { dtmf = \"f\" }\nreplicas = 2\nlisten = { address = \"127.0.0.1:1\", dir = \"d\" }",
            "one replica",
        ),
        (&format!("{WHOLE}url = \"ws://x\""), "`url` is not used by kind \"function\""),
        (&format!("{WHOLE}concurrency = 0"), "expected 1 to 256"),
        (&format!("{WHOLE}readiness = {{}}"), "a probe has either `exec`"),
        (&format!("{WHOLE}readiness = {{ exec = [] }}"), "found no program"),
        (&format!("{WHOLE}readiness = {{ http = \"ftp://x\" }}"), "http"),
        (
            &format!("{WHOLE}replicas = 2\nreadiness = {{ http = \"http://127.0.0.1:1/\" }}"),
            "one page for all `replicas`",
        ),
        (
            "on = { dtmf = \"f\" }\nlisten = { address = \"127.0.0.1:1\", dir = \"d\" }\nliveness = { exec = [\"true\"] }",
            "needs `command`",
        ),
    ] {
        let errors = errors(keys);
        assert!(errors.contains(said), "{keys}\nwanted {said}\ngot    {errors}");
    }
}

#[test]
#[cfg(not(feature = "functions"))]
fn a_binary_without_functions_says_so() {
    assert!(errors(WHOLE).contains("built without the feature `functions`"));
}
