//! Tenants beside each other: what one asks for too much costs the others nothing, and each sees its own.

use std::time::Duration;

use ringback::net::MemoryConnector;
use serde_json::{Value, json};

use super::support::{Caller, Folder, Host, assert_whole};
use super::{Answer, ask_over, call, secret, toml};

/// Tenants with quotas: acme has few, globex as many as it likes.
fn bounded(folder: &Folder) -> String {
    let acme = "[[tenant]]\nname = \"acme\"\n";
    let quotas = "max_calls = 3\ncalls_per_second = 10\nmax_event_listeners = 1\n";
    toml(folder).replace(acme, &format!("{acme}{quotas}"))
}

/// What a stream's request is answered with at a listener; it is not kept.
async fn asked(calls: &MemoryConnector, listener: &str) -> Answer {
    let fields = [
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    ask_over(calls.connect().await.unwrap(), &format!("GET /{listener}"), None, &fields).await
}

async fn told(operators: &MemoryConnector, token: &str) -> Value {
    let io = operators.connect().await.unwrap();
    ask_over(io, "GET /v1/tenants", Some(secret(token)), &[]).await.json()
}

#[tokio::test(start_paused = true)]
async fn ten_times_a_tenants_quota_costs_another_nothing() {
    let folder = Folder::new("tenants-quota");
    let (host, calls, operators) = Host::operated_in_memory(&bounded(&folder));
    let mut theirs = call(&host, calls.connect().await.unwrap(), "globex", "G0").await;
    let mut ours = Vec::new();
    for number in 0..3 {
        let io = calls.connect().await.unwrap();
        ours.push(call(&host, io, "acme", &format!("A{number}")).await);
    }
    // Ten times what it may have, again and again, while others call and speak.
    for round in 0..10 {
        for _ in 0..3 {
            let refused = asked(&calls, "acme").await;
            assert_eq!(
                (refused.status, refused.header("x-ringback-reason")),
                (503, "tenant_calls")
            );
            assert!(!refused.header("retry-after").is_empty());
        }
        theirs.speak(&[1_000; 320]).await;
        let io = calls.connect().await.unwrap();
        let caller: Caller = call(&host, io, "globex", &format!("G1{round}")).await;
        caller.hang_up().await;
        assert_whole(&host.log.ended(&format!("G1{round}")).await, &[]);
    }
    theirs.hang_up().await;
    assert_whole(&host.log.ended("G0").await, &[]);
    let tenants = told(&operators, "reader").await;
    let [acme, globex] = [&tenants["tenants"][0], &tenants["tenants"][1]];
    assert_eq!((&acme["calls"], &acme["refused"]["tenant_calls"]), (&json!(3), &json!(30)));
    assert_eq!((&globex["begun"], &globex["refused"]["tenant_calls"]), (&json!(11), &json!(0)));
    assert_eq!(told(&operators, "globex").await["tenants"], json!([globex]));
    for caller in ours {
        caller.hang_up().await;
    }
    host.stop().await;
}

#[tokio::test(start_paused = true)]
async fn calls_begin_as_fast_as_a_tenant_may_and_strangers_use_up_none_of_it() {
    let folder = Folder::new("tenants-rate");
    let (host, calls, operators) = Host::operated_in_memory(&bounded(&folder));
    // They are refused for other reasons: none of them began.
    for _ in 0..50 {
        let refused = ask_over(calls.connect().await.unwrap(), "GET /acme", None, &[]).await;
        assert_eq!(refused.status, 426);
    }
    let mut begun = 0;
    for second in 0..2 {
        for number in 0..12 {
            let io = calls.connect().await.unwrap();
            if number >= 10 {
                let refused = asked(&calls, "acme").await;
                assert_eq!(
                    refused.header("x-ringback-reason"),
                    "tenant_setups",
                    "{second} {number}"
                );
                continue;
            }
            // One after the other, so that the time they take is nobody's second.
            let caller = call(&host, io, "acme", &format!("A{second}-{number}")).await;
            drop(caller);
            host.log.ended(&format!("A{second}-{number}")).await;
            begun += 1;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let acme = told(&operators, "acme").await["tenants"][0].clone();
    assert_eq!((&acme["begun"], &acme["refused"]["tenant_setups"]), (&json!(begun), &json!(4)));
    host.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_more_listen_to_a_tenants_events_than_may() {
    let folder = Folder::new("tenants-listeners");
    let (host, _calls, operators) = Host::operated_in_memory(&bounded(&folder));
    let listen = async |token: &str| {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut io = operators.connect().await.unwrap();
        let head = format!(
            "GET /events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n",
            secret(token)
        );
        io.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 12];
        io.read_exact(&mut answer).await.unwrap();
        (io, String::from_utf8(answer).unwrap())
    };
    let (first, answer) = listen("acme").await;
    assert_eq!(answer, "HTTP/1.1 200");
    assert_eq!(listen("acme").await.1, "HTTP/1.1 503");
    let (_other, answer) = listen("globex").await;
    assert_eq!(answer, "HTTP/1.1 200");
    drop(first);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let (_again, answer) = listen("acme").await;
    assert_eq!(answer, "HTTP/1.1 200", "who is gone is found by the next word");
    let metrics =
        ask_over(operators.connect().await.unwrap(), "GET /metrics", Some(secret("reader")), &[])
            .await;
    let line = "ringback_tenant_refused_total{tenant=\"acme\",quota=\"tenant_listeners\"} ";
    assert!(metrics.text.contains(line), "{}", metrics.text);
    host.stop().await;
}
