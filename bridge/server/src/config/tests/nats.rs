//! What the file says of NATS.

use super::*;

const WORKERS: &str = "[[module]]\nname = \"stt\"\nkind = \"nats\"\ngroup = \"stt\"\n";

fn cluster(keys: &str) -> String {
    format!("[nats]\nurls = [\"nats://a:4222\", \"tls://b\"]\n{keys}\n{WORKERS}")
}

#[test]
fn a_cluster_and_its_workers_are_what_the_file_says() {
    let config = parse(&cluster("token = \"env:TOKEN\"")).unwrap();
    assert_eq!(config.module("stt").unwrap().run, ModuleRun::Nats { group: "stt".into() });
    let expected = NatsConfig {
        urls: vec!["nats://a:4222".into(), "tls://b".into()],
        login: NatsLogin { token: Some("s3cret-canary".into()), ..NatsLogin::default() },
        trust: Trust::System,
        prefix: "ringback".into(),
        events: None,
    };
    assert_eq!(config.nats.as_ref(), Some(&expected));
    assert!(!format!("{config:?}").contains("s3cret-canary"));
    assert!(config.summary().contains("nats://a:4222, tls://b  NATS, ringback.v1.>"));
    assert_eq!(config.trusts(), [Trust::System], "whom to trust is looked up at the start");

    let keys = "user = \"me\"\npassword = \"env:TOKEN\"\nca_file = \"ca.pem\"\nprefix = \"eu.calls\"\n\
                events = \"calls\"\ncreate_stream = true";
    let nats = parse(&cluster(keys)).unwrap().nats.unwrap();
    assert_eq!(nats.login.user, Some(("me".into(), "s3cret-canary".into())));
    assert_eq!((nats.prefix.as_str(), nats.trust), ("eu.calls", Trust::File("ca.pem".into())));
    assert_eq!(nats.events, Some(NatsStream { name: "calls".into(), create: true }));
}

#[test]
fn what_cannot_be_is_told_with_its_place_and_no_secret() {
    for (text, wanted) in [
        (WORKERS.to_owned(), "f.toml:4:9: module[0].group: there is no [nats]"),
        ("[nats]\n".into(), "f.toml:1:1: nats: [nats] needs `urls`"),
        ("[nats]\nurls = [\"localhost:4222\"]".into(), "expected nats:// or tls://"),
        ("[nats]\nurls = [\"nats://me:s3cret-canary@a\"]".into(), "do not stand in the URL"),
        ("[nats]\nurls = [\"nats://a/b\"]".into(), "nothing behind host and port"),
        (cluster("token = \"s3cret-canary\""), "a secret is not written here"),
        (cluster("user = \"me\""), "nats.user: needs `password`"),
        (cluster("password = \"env:TOKEN\""), "nats.password: needs `user`"),
        (cluster("prefix = \"a..b\""), "nats.prefix: found \"a..b\": a prefix is made of"),
        (cluster("events = \"a.b\""), "nats.events: found \"a.b\": a stream is made of"),
        (cluster("create_stream = true"), "nats.create_stream: needs `events`"),
        (cluster("").replace("\"stt\"\n", "\"st t\"\n"), "made of"),
        (
            "[[module]]\nname = \"m\"\nkind = \"nats\"".into(),
            "module[0]: kind \"nats\" needs `group`",
        ),
        (format!("{}url = \"ws://a:1\"", cluster("")), "`url` is not used by kind \"nats\""),
    ] {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(wanted), "{wanted}\n{error}");
        assert!(!error.contains("s3cret-canary"), "{error}");
    }
}
