//! What is said of mistakes, and where: place, key, finding and remedy.

use super::*;

/// What is wrong, and the whole line that is said about it.
#[test]
fn every_complaint_names_place_key_finding_and_remedy() {
    let cases = [
        ("[server", "f.toml:1:8: "),
        (
            "[sever]\n",
            "f.toml:1:2: sever: unknown field `sever`, expected one of `server`, `limits`, `log`, `outgoing`, `capture`, `recordings`, `nats`, `operator`, `tenant`, `listener`, `module`, `route`, `sink`; did you mean \"server\"?",
        ),
        (
            "[server]\nbnid = \"x\"",
            "f.toml:2:1: server.bnid: unknown field `bnid`, expected one of `bind`, `drain_timeout`, `metrics`, `events`, `workers`, `trusted_proxies`, `threads`, `tick`, `tls`; did you mean \"bind\"?",
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
        (
            "[server]\ntls = { key = \"key.pem\" }",
            "f.toml:2:7: server.tls: `cert` is missing: `tls` takes `cert` and `key`, files in PEM",
        ),
        (
            "[server]\ntls = { cert = \"cert.pem\", key = \"\" }",
            "f.toml:2:34: server.tls.key: expected a file, such as \"/etc/ringback/cert.pem\"",
        ),
        (
            "[limits]\nreattach_window = \"10m\"",
            "f.toml:2:19: limits.reattach_window: found 600s, expected 0ns to 120s",
        ),
        (
            "[[module]]\nname = \"m\"\ncommand = [\"x\"]\nbreaker = { retry = \"1ms\" }",
            "f.toml:4:21: module[0].breaker.retry: found 1ms, expected 1s to 600s",
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
            "f.toml:1:1: module[0]: a module needs `builtin` (echo, recorder, player, vad, dtmf), `command`, `url`, `tokens` or `group`",
        ),
        (
            "[[module]]\nname = \"m\"\nbuiltin = \"ehco\"",
            "f.toml:3:11: module[0].builtin: unknown variant `ehco`, expected one of `echo`, `recorder`, `player`, `vad`, `dtmf`; did you mean \"echo\"?",
        ),
        (
            "[[module]]\nname = \"m\"\nbuiltin = \"echo\"\ncommand = [\"x\"]",
            "f.toml:4:11: module[0].command: `command` is not used by kind \"builtin\", which takes builtin",
        ),
        (
            "[[module]]\nname = \"m\"\nbuiltin = \"recorder\"",
            "f.toml:1:1: module[0]: `config`: exactly one of `path` (a file) and `dir` is needed",
        ),
        (
            "[[module]]\nname = \"m\"\nbuiltin = \"recorder\"\nconfig = { dri = \"x\" }",
            "f.toml:1:1: module[0]: `config`: unknown field `dri`, expected one of `path`, `dir`,",
        ),
        (
            "[[module]]\nname = \"m\"\nbuiltin = \"echo\"\n[[route]]\nname = \"r\"\nmodules = [\"m\"]\nprivate = { exempt = [\"n\"] }",
            "f.toml:7:23: route[0].private.exempt[0]: there is no module of this route \"n\" (known: m)",
        ),
        (
            "[[module]]\nname = \"m\"\nbuiltin = \"echo\"\n[[route]]\nname = \"r\"\nmodules = [\"m\"]\nprivate = { begin = \"*x\" }",
            "f.toml:7:21: route[0].private.begin: found \"*x\", expected 1 to 16 keys of 0-9, *, # and A-D",
        ),
        (
            "[[module]]\nname = \"m\"\nbuiltin = \"echo\"\n[[route]]\nname = \"r\"\nmodules = [\"m\"]\nprivate = { end = \"#\" }",
            "f.toml:7:19: route[0].private.end: is for what `begin` began: name those keys as well",
        ),
        (
            "[[module]]\nname = \"m\"\nbuiltin = \"recorder\"\nconfig = { dir = \"x\", encrypt = { key = \"5c5c5c\", key_id = \"a\" } }",
            "f.toml:1:1: module[0]: `config`: `encrypt`: a key is not written here: use \"env:NAME\" or \"file:/path\"",
        ),
        (
            "[[module]]\nname = \"m\"\nbuiltin = \"recorder\"\nconfig = { dir = \"x\", encrypt = { key = \"env:NO_SUCH_KEY\", key_id = \"a\" } }",
            "f.toml:1:1: module[0]: `config`: `encrypt`: environment variable NO_SUCH_KEY is not set",
        ),
        (
            "[recordings]\nkeep = \"10m\"",
            "f.toml:2:8: recordings.keep: expected at least \"1h\", such as \"30d\": what is younger may still be needed",
        ),
        (
            "[[tenant]]\nname = \"a\"\nkeep = \"59m\"",
            "f.toml:3:8: tenant[0].keep: expected at least \"1h\", such as \"30d\": what is younger may still be needed",
        ),
        (
            "[recordings]\nkeep = \"month\"",
            "f.toml:2:8: recordings.keep: found \"month\", expected a whole number and a unit",
        ),
        (
            "[recordings]\ndirs = [\"\"]",
            "f.toml:2:9: recordings.dirs[0]: expected a folder, such as \"recordings\"",
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
            "[[module]]\nname = \"m\"\nkind = \"websocket\"",
            "f.toml:1:1: module[0]: kind \"websocket\" needs `url`, such as \"ws://127.0.0.1:9000\"",
        ),
        (
            "[[module]]\nname = \"m\"\nurl = \"http://gpu\"",
            "f.toml:3:7: module[0].url: `http://gpu` does not begin with ws:// or wss://",
        ),
        (
            "[[module]]\nname = \"m\"\nurl = \"ws://gpu\"\ntoken = \"s3cret\"",
            "f.toml:4:9: module[0].token: a secret is not written here: use \"env:NAME\" or \"file:/path\"",
        ),
        (
            "[[module]]\nname = \"m\"\nurl = \"ws://gpu\"\nca_file = \"ca.pem\"",
            "f.toml:4:11: module[0].ca_file: is for wss:// only",
        ),
        (
            "[[module]]\nname = \"m\"\ncommand = [\"x\"]\ntoken = \"env:TOKEN\"",
            "f.toml:4:9: module[0].token: `token` is not used by kind \"child\", which takes command",
        ),
        (
            "[[module]]\nname = \"m\"\nkind = \"worker\"",
            "f.toml:1:1: module[0]: kind \"worker\" needs `tokens`, such as { gpu1 = \"env:GPU1_TOKEN\" }",
        ),
        (
            "[[module]]\nname = \"m\"\ntokens = []",
            "f.toml:3:10: module[0].tokens: no token is in it: nobody could dial in",
        ),
        (
            "[[module]]\nname = \"m\"\ntokens = \"env:TOKEN\"",
            "f.toml:3:10: module[0].tokens: expected a list such as [\"env:TOKEN\"]",
        ),
        (
            "[[module]]\nname = \"m\"\ntokens = { gpu = \"s3cret\" }",
            "f.toml:3:10: module[0].tokens: a secret is not written here",
        ),
        (
            "[[module]]\nname = \"m\"\ntokens = [\"env:TOKEN\"]\ninsecure = true",
            "f.toml:4:12: module[0].insecure: either `tokens` or `insecure`, found both",
        ),
        (
            "[server]\nworkers = \"/modules/\"",
            "f.toml:2:11: server.workers: found \"/modules/\": a path begins with `/`",
        ),
        (
            "[[module]]\nname = \"m\"\nkind = \"worker\"\ninsecure = true\n[[listener]]\nname = \"a\"\npath = \"/modules/m\"",
            "f.toml:7:8: listener[0].path: \"/modules/m\" is where modules dial in",
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
    assert_eq!(silent.routes[0].speakers, Vec::<String>::new());
    let alone = parse(&route("modules = [\"b\"]")).unwrap();
    assert_eq!(alone.routes[0].speakers, ["b"]);
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
fn a_file_that_is_not_there_is_named() {
    let path = Path::new("does/not/exist.toml");
    let loaded = Config::load(Some(path), &Overrides::default(), &context(&|_| None));
    let errors = loaded.unwrap_err().to_string();
    assert!(errors.starts_with("does/not/exist.toml: cannot be read: "), "{errors}");
}
