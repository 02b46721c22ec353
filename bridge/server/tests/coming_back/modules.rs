//! A module that fails on call after call is left out of the next ones, which lose no time over it.

use std::time::Duration;

use ringback::net::{self, MemoryHosts};
use ringback::telemetry::METRICS;
use ringback_proto::provider::{Dial, find};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Caller, Host, known, soon};

/// A module at a server that takes connections and says nothing, and the echo that follows it.
const SILENT: &str = r#"
    [[listener]]
    name = "main"
    path = "/"
    provider = "raw"
    [[module]]
    name = "silent"
    url = "ws://silent.example:80"
    ready_timeout = "1s"
    on_fail = "fallback:echo"
    breaker = { failures = 3, within = "600s", retry = "60s" }
    [[module]]
    name = "echo"
    builtin = "echo"
    [[route]]
    name = "default"
    modules = ["silent"]
    speaker = "silent"
"#;

async fn page(connector: &net::MemoryConnector, path: &str) -> String {
    let mut io = connector.connect().await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    io.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    soon("a page", io.read_to_string(&mut answer)).await.expect("text");
    answer
}

#[tokio::test(start_paused = true)]
async fn calls_lose_no_time_over_a_module_that_fails_on_all_of_them() {
    let hosts = MemoryHosts::default();
    let (_silent, connector) = net::memory(1024);
    hosts.add("silent.example:80", connector);
    let (host, connector) = Host::among(&hosts, "localhost:80", SILENT);
    let (clock, raw) = (host.clock, find("raw").expect("a provider"));
    let call = async |name: &str| {
        let began = clock.now();
        let dial = Dial { target: "/".into(), call: name.into(), ..Dial::default() };
        let io = connector.connect().await.expect("it listens");
        let mut caller = Caller::dial(clock, io, raw, &dial, &[]).await.expect("let in");
        // As long as it takes until somebody answers.
        caller.in_step = false;
        while caller.samples_heard == 0 {
            caller.speak(&(0..320).map(known).collect::<Vec<_>>()).await;
        }
        let waited = clock.now() - began;
        caller.hang_up().await;
        (waited, host.log.ended(name).await)
    };
    let refused = METRICS.breaker_refusals.get();
    for name in ["CA1", "CA2", "CA3"] {
        let (waited, summary) = call(name).await;
        assert!(waited >= Duration::from_secs(1), "{waited:?}");
        assert!(summary.modules[0].replaced);
    }
    let (waited, summary) = call("CA4").await;
    assert!(waited <= Duration::from_millis(100), "{waited:?}");
    let silent = summary.modules.iter().find(|module| module.name == "silent").expect("its end");
    assert!(silent.error.as_ref().is_some_and(|why| why.contains("too many calls")), "{silent:?}");
    let ready = page(&connector, "/readyz").await;
    assert!(
        ready.starts_with("HTTP/1.1 200")
            && ready.contains("module silent fails on most calls and is left out"),
        "{ready}"
    );
    assert!(page(&connector, "/metrics").await.contains("ringback_module_breakers_open 1\n"));
    assert_eq!(METRICS.breaker_refusals.get() - refused, 1);
    clock.sleep_until(Some(clock.now() + Duration::from_secs(60))).await;
    let (waited, _) = call("CA5").await;
    assert!(waited >= Duration::from_secs(1), "one tries: {waited:?}");
    let (waited, _) = call("CA6").await;
    assert!(waited <= Duration::from_millis(100), "{waited:?}");
    host.stop().await;
    assert!(METRICS.exposition().contains("ringback_module_breakers_open 0\n"), "it is no more");
}
