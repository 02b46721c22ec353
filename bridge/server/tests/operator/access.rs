//! Who is answered: tokens, pages of browsers, names that resolve to us, and connections that say nothing.

use std::time::Duration;

use ringback::net::Io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::{Folder, Host, PATIENCE, config, soon};
use super::{TOKENS, ask, ask_over, ask_with, parsed, secret, toml};

#[tokio::test]
async fn what_is_for_operators_is_not_where_providers_are() {
    let folder = Folder::new("operator-ports");
    let host = Host::on_loopback(&toml(&folder));
    for (page, status) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/metrics", 404),
        ("/events", 404),
        ("/workers", 404),
        ("/v1/calls", 404),
    ] {
        let found = ask_over(host.connect().await, &format!("GET {page}"), None, &[]).await;
        assert_eq!(found.status, status, "{page}");
    }
    let metrics = ask(&host, "GET /metrics", "reader").await;
    assert!(metrics.text.contains("# TYPE ringback_operator_requests_total counter"));
    assert_eq!(ask(&host, "GET /acme", "admin").await.status, 404, "no stream is taken here");
    host.stop().await;
}

#[tokio::test]
async fn every_answer_is_of_no_use_to_a_browser() {
    let folder = Folder::new("operator-fields");
    let host = Host::on_loopback(&toml(&folder));
    for (target, token) in
        [("GET /v1/calls", Some("reader")), ("GET /nowhere", Some("reader")), ("GET /", None)]
    {
        let answer = ask_with(&host, target, token.map(secret), &[]).await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("referrer-policy", "no-referrer"),
            ("content-type", "application/json"),
        ] {
            assert_eq!(answer.header(name), value, "{target}");
        }
        assert_eq!(answer.headers.get("access-control-allow-origin"), None);
    }
    host.stop().await;
}

#[tokio::test]
async fn no_other_page_acts_or_listens_whatever_it_knows() {
    let folder = Folder::new("operator-origin");
    let text = toml(&folder);
    let text =
        text.replacen("[operator]\n", "[operator]\norigins = [\"https://ops.example\"]\n", 1);
    let host = Host::on_loopback(&text);
    let upgrade = [
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for (origin, may) in [
        ("https://evil.example", false),
        ("null", false),
        ("http://localhost:3000", false),
        ("https://ops.example", true),
        ("http://localhost", true),
    ] {
        let fields = [("origin", origin)];
        let acted = ask_with(&host, "POST /v1/reload", Some(secret("admin")), &fields).await;
        assert_eq!(acted.status, if may { 422 } else { 403 }, "{origin}");
        let fields: Vec<_> = upgrade.iter().copied().chain(fields).collect();
        let token = Some(secret("listener"));
        if !may {
            assert_eq!(ask_with(&host, "GET /events", token, &fields).await.status, 403);
        }
    }
    host.stop().await;
}

#[tokio::test]
async fn a_body_that_is_encoded_is_not_taken() {
    let folder = Folder::new("operator-encoding");
    let host = Host::on_loopback(&toml(&folder));
    for (encoding, status) in
        [("gzip", 415), ("br", 415), ("identity, gzip", 415), ("identity", 422)]
    {
        let fields = [("content-encoding", encoding)];
        let answer = ask_with(&host, "POST /v1/reload", Some(secret("admin")), &fields).await;
        assert_eq!(answer.status, status, "{encoding}");
    }
    host.stop().await;
}

/// What is answered to octets sent behind the head of a request that says how many there are.
async fn post(mut io: impl Io, kind: &str, length: usize, body: &[u8]) -> u16 {
    let token = secret("admin");
    let head = format!(
        "POST /v1/reload HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {token}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
    );
    io.write_all(head.as_bytes()).await.unwrap();
    // It may be refused before it is there.
    let _ = io.write_all(body).await;
    let mut octets = Vec::new();
    let _ = soon("an answer", io.read_to_end(&mut octets)).await;
    parsed(&octets).status
}

#[tokio::test(start_paused = true)]
async fn a_body_is_json_short_and_there_in_time() {
    let folder = Folder::new("operator-bodies");
    let (host, _calls, operators) = Host::operated_in_memory(&toml(&folder));
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(16 * 1024));
    for (kind, length, body, status) in [
        ("application/json", 2, "{}", 422),
        ("Application/JSON; charset=utf-8", 2, "{}", 422),
        ("text/plain", 2, "{}", 415),
        ("application/x-www-form-urlencoded", 2, "{}", 415),
        ("", 2, "{}", 415),
        ("application/json", long.len(), &long, 413),
        ("application/json", 2, "{", 408),
    ] {
        let began = tokio::time::Instant::now();
        let io = operators.connect().await.unwrap();
        assert_eq!(post(io, kind, length, body.as_bytes()).await, status, "{kind} {length}");
        assert!(began.elapsed() < Duration::from_secs(6), "{kind} {length}");
    }
    host.stop().await;
}

#[tokio::test]
async fn a_head_that_is_long_or_has_many_fields_is_not_read() {
    let folder = Folder::new("operator-heads");
    let host = Host::on_loopback(&toml(&folder));
    let long = "x".repeat(20_000);
    for fields in [vec![("x-long", long.as_str())], vec![("x-many", "x"); 80]] {
        let answer = ask_with(&host, "GET /v1/calls", Some(secret("reader")), &fields).await;
        assert_eq!(answer.status, 431, "{}", fields.len());
    }
    host.stop().await;
}

#[tokio::test]
async fn after_five_wrong_tokens_an_address_hears_nothing_for_a_minute() {
    let folder = Folder::new("operator-guesses");
    let host = Host::on_loopback(&toml(&folder));
    for _ in 0..5 {
        let wrong = ask_with(&host, "GET /v1/calls", Some("guess"), &[]).await;
        assert_eq!((wrong.status, wrong.header("www-authenticate")), (401, "Bearer"));
    }
    for token in ["guess", secret("admin")] {
        let locked = ask_with(&host, "GET /v1/calls", Some(token), &[]).await;
        assert_eq!(locked.status, 429);
        let left: u64 = locked.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&left), "{left}");
    }
    host.stop().await;
}

#[tokio::test]
async fn without_tokens_this_machine_looks_and_changes_nothing() {
    let host = Host::on_loopback("[operator]\nbind = \"127.0.0.1:0\"\n");
    for (target, host_name, status) in [
        ("GET /v1/calls", "localhost:9080", 200),
        ("GET /metrics", "127.0.0.1", 200),
        ("GET /v1/calls", "rebound.example", 403),
        ("GET /events", "rebound.example", 403),
        ("GET http://rebound.example/v1/calls", "localhost", 403),
        ("POST /v1/drain", "localhost", 403),
        ("POST /v1/reload", "localhost", 403),
        ("POST /v1/calls/x/hangup", "localhost", 403),
    ] {
        let answer = ask_with(&host, target, None, &[("host", host_name)]).await;
        assert_eq!(answer.status, status, "{target} {host_name}");
    }
    assert!(!host.shutdown.is_draining());
    host.stop().await;
}

#[tokio::test]
async fn tokens_are_replaced_while_the_bridge_runs_unless_that_would_open_it() {
    let folder = Folder::new("operator-rotation");
    let text = toml(&folder);
    let host = Host::on_loopback(&text);
    folder.write("admin", "another-0123456789abcdef");
    assert_eq!(host.reload.apply(config(&text)), Ok(Vec::new()));
    assert_eq!(ask(&host, "GET /v1/calls", "admin").await.status, 401, "it was replaced");
    assert_eq!(
        ask_with(&host, "GET /v1/calls", Some("another-0123456789abcdef"), &[]).await.status,
        200
    );
    let (before, rest) = text.split_once("[[operator.token]]").unwrap();
    let after = &rest[rest.find("[[tenant]]").unwrap()..];
    let without: Vec<_> = after.split("tenant = ").collect();
    assert!(without.len() > 1);
    let open = host.reload.apply(config(&format!("{before}{after}")));
    assert_eq!(open, Ok(vec!["operator.token".to_owned()]));
    assert_eq!(ask_with(&host, "GET /v1/calls", None, &[]).await.status, 401, "it stays guarded");
    host.stop().await;
}

#[tokio::test]
async fn who_asks_by_a_proxy_of_ours_is_counted_by_the_own_address() {
    let folder = Folder::new("operator-proxy");
    let text = toml(&folder);
    let config = support_config(&text);
    let host = Host::on_loopback(&config);
    for _ in 0..5 {
        let fields = [("x-forwarded-for", "192.0.2.1")];
        assert_eq!(ask_with(&host, "GET /v1/calls", Some("guess"), &fields).await.status, 401);
    }
    let from = async |address| {
        let fields = [("x-forwarded-for", address)];
        ask_with(&host, "GET /v1/calls", Some(secret("reader")), &fields).await.status
    };
    assert_eq!((from("192.0.2.1").await, from("192.0.2.2").await), (429, 200));
    host.stop().await;
}

/// The same behind a proxy of this machine; the first table is `[server]`'s already.
fn support_config(text: &str) -> String {
    format!("trusted_proxies = [\"127.0.0.1\"]\n{text}")
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_ask_in_time_is_ended() {
    let folder = Folder::new("operator-silence");
    let (host, _calls, operators) = Host::operated_in_memory(&toml(&folder));
    let began = tokio::time::Instant::now();
    // Finding out which protocol it is has its deadline too, whatever was said of it already.
    for (said, within) in [
        (&b""[..], 6),
        (b"P", 6),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n", 6),
        (b"GET /metrics HTTP/1.1\r\nhost: x\r\n", 6),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 8),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", 8),
    ] {
        let mut io = operators.connect().await.unwrap();
        let began = tokio::time::Instant::now();
        io.write_all(said).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE * 10, io.read_to_end(&mut rest)).await;
        let took = began.elapsed();
        assert!(ended.is_ok() && took <= Duration::from_secs(within), "{said:?}: {took:?}");
    }
    assert!(began.elapsed() >= Duration::from_secs(5));
    host.stop().await;
}

#[tokio::test(start_paused = true)]
async fn silent_connections_have_their_places_back_in_time() {
    let folder = Folder::new("operator-flood");
    let (host, _calls, operators) = Host::operated_in_memory(&toml(&folder));
    let mut held = Vec::new();
    for _ in 0..150 {
        held.push(operators.connect().await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let mut io = operators.connect().await.unwrap();
    let mut octets = Vec::new();
    // One more than may be open is closed without a word.
    let _ = io.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await;
    let read = soon("the end", io.read_to_end(&mut octets)).await;
    assert!(read.is_err() || octets.is_empty(), "{octets:?}");
    tokio::time::sleep(Duration::from_secs(6)).await;
    let io = operators.connect().await.unwrap();
    assert_eq!(ask_over(io, "GET /v1/calls", Some(secret("reader")), &[]).await.status, 200);
    drop(held);
    host.stop().await;
}

#[tokio::test]
async fn no_token_is_in_any_answer() {
    let folder = Folder::new("operator-canary");
    let host = Host::on_loopback(&toml(&folder));
    for (name, secret, _) in TOKENS {
        for target in ["GET /v1/calls", "GET /metrics", "POST /v1/reload", "GET /nowhere"] {
            let answer = ask(&host, target, name).await;
            assert!(!format!("{answer:?}").contains(secret), "{name} {target}");
        }
    }
    host.stop().await;
}

/// A page whose name was made to resolve to this machine asks from its address, and so does one of another origin.
#[tokio::test]
async fn wrong_tokens_of_web_pages_lock_out_nobody_on_this_machine() {
    let folder = Folder::new("operator-pages");
    let host = Host::on_loopback(&toml(&folder));
    let upgrade = [("upgrade", "websocket"), ("connection", "upgrade")];
    for _ in 0..8 {
        let page = [("origin", "https://evil.example")];
        let fields: Vec<_> = upgrade.into_iter().chain(page).collect();
        assert_eq!(ask_with(&host, "GET /events", Some("guess"), &fields).await.status, 403);
        let rebound = [("host", "evil.example:9080")];
        let status = ask_with(&host, "GET /v1/calls", Some("guess"), &rebound).await.status;
        assert!([401, 429].contains(&status), "{status}");
    }
    assert_eq!(ask(&host, "GET /v1/calls", "reader").await.status, 200);
    host.stop().await;
}
