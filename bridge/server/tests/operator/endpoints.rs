//! Endpoints of a listener: made, used, rotated, put off and revoked while calls go on; by the API and by the command line.

use std::path::Path;
use std::time::Duration;

use ringback::socket::DialError;
use ringback_proto::provider::{Dial, find};
use serde_json::{Value, json};

use super::support::{Caller, Folder, Host, PATIENCE, quoted, ringback, run, soon};
use super::{Answer, ask_over, secret, toml};

/// The same bridge with a listener that is called at endpoints, and an audit log.
fn with_endpoints(folder: &Folder) -> String {
    let (state, audit) = (folder.path("state.json"), folder.path("audit.jsonl"));
    let [state, audit] = [&state, &audit].map(|path| quoted(path.display()));
    let text = toml(folder).replacen("[operator]\n", &format!("[operator]\naudit = {audit}\n"), 1);
    text.replacen(
        "path = \"/acme\"\n",
        &format!(
            "path = \"/acme\"\nendpoints = {state}\npublic_url = \"wss://bridge.example/acme\"\n"
        ),
        1,
    )
}

/// Posts a body.
async fn post(host: &Host, path: &str, token: &str, body: &str) -> Answer {
    let io = tokio::net::TcpStream::connect(host.operator.unwrap()).await.unwrap();
    let length = body.len().to_string();
    // The last field ends the head, and the body comes behind it.
    let fields = [("content-type", "application/json"), ("content-length", &*length)];
    ask_over(Trailing::new(io, body), &format!("POST {path}"), Some(secret(token)), &fields).await
}

/// A connection that sends something more behind the first that is written.
struct Trailing {
    io: tokio::net::TcpStream,
    rest: Vec<u8>,
}

impl Trailing {
    fn new(io: tokio::net::TcpStream, rest: &str) -> Self {
        Self { io, rest: rest.as_bytes().to_vec() }
    }
}

impl tokio::io::AsyncRead for Trailing {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl tokio::io::AsyncWrite for Trailing {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        octets: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        let whole = [octets, &self.rest].concat();
        let wrote = std::pin::Pin::new(&mut self.io).poll_write(cx, &whole);
        wrote.map_ok(|wrote| {
            assert_eq!(wrote, whole.len(), "a fresh connection takes it all");
            self.rest.clear();
            octets.len()
        })
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

async fn dial(host: &Host, path: &str, name: &str) -> Result<Caller, DialError> {
    let dial = Dial { target: path.into(), call: name.into(), ..Dial::default() };
    Caller::dial(host.clock, host.connect().await, find("raw").unwrap(), &dial, &[]).await
}

/// The status that a stream at this path is refused with.
async fn refused(host: &Host, path: &str) -> u16 {
    match dial(host, path, "x").await.map(drop) {
        Err(DialError::Refused { status, .. }) => status,
        other => panic!("{path}: {other:?}"),
    }
}

const LIST: &str = "/v1/listeners/acme/endpoints";

#[tokio::test]
async fn an_endpoint_takes_the_place_of_another_and_no_call_is_lost() {
    let folder = Folder::new("endpoints-api");
    let host = Host::on_loopback(&with_endpoints(&folder));
    for path in ["/acme", "/acme/", "/acme/x", "/acme/x/y"] {
        assert_eq!(refused(&host, path).await, 404, "{path}");
    }
    let made = post(&host, LIST, "acme", "").await.json();
    let first = made["made"]["path"].as_str().unwrap().to_owned();
    assert_eq!(made["made"]["url"].as_str().unwrap(), format!("wss://bridge.example{first}"));
    let mut caller = dial(&host, &first, "CA1").await.unwrap();
    let rotated =
        post(&host, &format!("{LIST}/rotate"), "acme", "{\"old_expires_in\": 3600}").await;
    let second = rotated.json()["made"]["path"].as_str().unwrap().to_owned();
    for path in [&first, &second] {
        drop(dial(&host, path, "again").await.unwrap());
    }
    let listed = |answer: &Value| -> Vec<(String, u64)> {
        let endpoints = answer["endpoints"].as_array().unwrap().iter();
        let state = |e: &Value| (e["state"].as_str().unwrap().into(), e["used"].as_u64().unwrap());
        endpoints.map(state).collect()
    };
    let now = super::ask(&host, &format!("GET {LIST}"), "acme").await.json();
    assert_eq!(listed(&now), [("expiring".into(), 2), ("active".into(), 1)]);
    let old = now["endpoints"][0]["endpoint"].as_str().unwrap();
    for (what, body, status, message) in [
        ("rotate", "{\"old_expires_in\": 60}", 409, "there are two endpoints"),
        ("rotate", "{}", 400, "say what becomes of the old endpoint"),
        ("rotate", "{\"old_expires_in\": 60, \"revoke_old\": true}", 400, "say what becomes"),
        ("rotate", "{\"older\": 1}", 400, "unknown field"),
        ("rotate", "[", 400, "EOF"),
        ("none/revoke", "", 404, "no such thing"),
        (&format!("{old}/extend"), "{\"expires_in\": 1}", 409, "ends later than that already"),
        (&format!("{old}/extend"), "{\"expires_in\": 7200}", 200, "expiring"),
        (&format!("{old}/revoke"), "{\"really\": true}", 400, "nothing is to be said"),
        (&format!("{old}/revoke"), "", 200, "active"),
    ] {
        let answer = post(&host, &format!("{LIST}/{what}"), "acme", body).await;
        assert_eq!(answer.status, status, "{what} {body}: {}", answer.text);
        assert!(answer.text.contains(message), "{what} {body}: {}", answer.text);
    }
    assert_eq!(refused(&host, &first).await, 404);
    // A call that has begun goes on, whatever becomes of where it was called.
    caller.format().await;
    caller.speak(&[1_000; 800]).await;
    caller.hang_up().await;
    // Nobody else's business: the listener is another tenant's.
    for token in ["globex", "admin"] {
        let status = super::ask(&host, &format!("GET {LIST}"), token).await.status;
        assert_eq!(status, if token == "admin" { 200 } else { 404 }, "{token}");
    }
    host.stop().await;
    let kept = std::fs::read_to_string(folder.path("state.json")).unwrap();
    let log = std::fs::read_to_string(folder.path("audit.jsonl")).unwrap();
    for path in [&first, &second] {
        let segment = path.strip_prefix("/acme/").unwrap();
        assert!(!kept.contains(segment) && !log.contains(segment), "it is told once");
    }
}

/// Runs `ringback endpoint`.
fn command(config: &Path, args: &[&str]) -> (Option<i32>, String) {
    let config = config.to_str().unwrap();
    let fixed = ["endpoint", "--config", config];
    let ended = run(&mut ringback(fixed.iter().chain(args)), PATIENCE);
    (ended.code, ended.stdout + &ended.stderr)
}

#[tokio::test]
async fn what_the_command_line_changes_a_running_bridge_takes_up() {
    let folder = Folder::new("endpoints-command");
    let text = with_endpoints(&folder);
    let file = folder.write("ringback.toml", &format!("[server]\nbind = \"127.0.0.1:1\"\n{text}"));
    let host = Host::on_loopback(&text);
    let (code, told) = command(&file, &["list", "acme"]);
    assert_eq!(
        (code, told.as_str()),
        (Some(0), "listener acme has no endpoint: nobody can call it\n")
    );
    let (code, told) = command(&file, &["new", "acme"]);
    assert_eq!(code, Some(0), "{told}");
    let path = told.split_once("wss://bridge.example").unwrap().1.lines().next().unwrap();
    soon("the new endpoint", async {
        while dial(&host, path, "CA1").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    soon("that its use is written down", async {
        while !command(&file, &["list", "acme"]).1.contains("used 1 times, last at") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let (code, told) = command(&file, &["new", "acme"]);
    assert!(code == Some(1) && told.contains("there is an active endpoint already"), "{told}");
    let (code, told) = command(&file, &["rotate", "acme"]);
    assert!(
        code == Some(2) || code == Some(64),
        "what becomes of the old one is to be said: {told}"
    );
    assert_eq!(command(&file, &["rotate", "acme", "--revoke-old"]).0, Some(0));
    let (code, told) = command(&file, &["list", "globex"]);
    assert!(code == Some(64) && told.contains("has no `endpoints`"), "{told}");
    let audit = folder.path("audit.jsonl");
    let audit = audit.to_str().unwrap();
    let ended = run(&mut ringback(["audit", "verify", audit]), PATIENCE);
    assert!(
        ended.code == Some(0) && ended.stdout.contains("3 entries, the chain is whole"),
        "{ended:?}"
    );
    host.stop().await;
}

#[tokio::test]
async fn what_operators_do_and_hear_is_in_the_audit_log_before_they_are_answered() {
    let folder = Folder::new("endpoints-audit");
    let host = Host::on_loopback(&with_endpoints(&folder));
    let path = folder.path("audit.jsonl");
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let mut wanted = Vec::new();
    for (target, token, act, status) in [
        ("POST /v1/calls/none/hangup", "controller", "hangup", 404),
        ("POST /v1/reload", "admin", "reload", 422),
        ("POST /v1/listeners/acme/endpoints", "acme", "endpoint.new", 200),
        ("GET /v1/audit", "admin", "audit", 200),
    ] {
        assert_eq!(super::ask(&host, target, token).await.status, status, "{target}");
        if target.starts_with("POST") {
            wanted.push((act, token, "begun".to_owned()));
        }
        wanted.push((act, token, status.to_string()));
        assert_eq!(lines().len(), wanted.len(), "{target}");
    }
    // Looking at figures is nobody's business, and what a token may not do is not done.
    assert_eq!(super::ask(&host, "GET /v1/calls", "reader").await.status, 200);
    assert_eq!(super::ask(&host, "POST /v1/drain", "reader").await.status, 403);
    // Whoever puts a token where a path belongs has no path of ours.
    for target in ["GET /v1/calls", "GET /s3cret-path", "POST /v1/calls/s3cret/hangup"].repeat(3) {
        let guess = super::ask_with(&host, target, Some("s3cret-guess"), &[]).await;
        assert!([401, 429].contains(&guess.status));
    }
    wanted.extend((0..5).map(|_| ("authenticate", "-", "401".to_owned())));
    let lines = lines();
    let told = lines.iter().map(|line| {
        let text = |key: &str| line[key].as_str().unwrap();
        assert_eq!(text("from"), "127.0.0.1");
        (text("act"), text("who"), text("outcome").to_owned())
    });
    assert_eq!(told.collect::<Vec<_>>(), wanted);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("s3cret"), "{text}");
    host.stop().await;
}

#[tokio::test]
async fn wrong_tokens_from_everywhere_fill_no_disk() {
    let folder = Folder::new("endpoints-guesses");
    let text = format!("trusted_proxies = [\"127.0.0.1\"]\n{}", with_endpoints(&folder));
    let host = Host::on_loopback(&text);
    for n in 0..70 {
        let from = format!("192.0.2.{n}");
        let fields = [("x-forwarded-for", from.as_str())];
        let guess = super::ask_with(&host, "GET /v1/calls", Some("guess"), &fields).await;
        assert_eq!(guess.status, 401);
    }
    let text = std::fs::read_to_string(folder.path("audit.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 60, "in a minute");
    host.stop().await;
}

#[tokio::test]
async fn who_listens_is_written_down_and_read_page_by_page() {
    let folder = Folder::new("endpoints-listen");
    let host = Host::on_loopback(&with_endpoints(&folder));
    for token in ["listener", "acme"] {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut io = tokio::net::TcpStream::connect(host.operator.unwrap()).await.unwrap();
        let head = format!(
            "GET /events?call=CA1 HTTP/1.0\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n",
            secret(token)
        );
        io.write_all(head.as_bytes()).await.unwrap();
        soon("an answer", io.read_u8()).await.unwrap();
    }
    let asked = async |token: &str, query: &str| {
        // Of an address that has not guessed.
        super::ask(&host, &format!("GET /v1/audit{query}"), token).await
    };
    let page = asked("admin", "?after=0&limit=1").await.json();
    assert_eq!(
        (&page["entries"][0]["act"], &page["entries"][0]["who"]),
        (&json!("events"), &json!("listener"))
    );
    assert_eq!((page["entries"].as_array().unwrap().len(), &page["more"]), (1, &json!(true)));
    let page = asked("admin", "?after=1").await.json();
    let acts: Vec<_> =
        page["entries"].as_array().unwrap().iter().map(|e| e["act"].clone()).collect();
    assert_eq!((acts, &page["more"]), (vec![json!("events"), json!("audit")], &json!(false)));
    assert_eq!(asked("admin", "?after=x").await.status, 400);
    assert_eq!(asked("acme", "").await.status, 404, "it is about everybody");
    host.stop().await;
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_done() {
    let folder = Folder::new("endpoints-disk");
    let host = Host::on_loopback(&with_endpoints(&folder));
    let path = folder.path("audit.jsonl");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let drain = super::ask(&host, "POST /v1/drain", "admin").await;
    assert_eq!((drain.status, host.shutdown.is_draining()), (503, false));
    assert_eq!(drain.header("x-ringback-reason"), "audit_failed");
    assert_eq!(super::ask(&host, "GET /events", "admin").await.status, 503);
    assert_eq!(super::ask(&host, "GET /v1/calls", "admin").await.status, 200);
    std::fs::remove_dir(&path).unwrap();
    assert_eq!(super::ask(&host, "POST /v1/reload", "admin").await.status, 422);
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    host.stop().await;
}

#[tokio::test]
async fn who_hangs_up_after_asking_ends_neither_what_is_done_nor_the_line_about_it() {
    use tokio::io::AsyncWriteExt as _;
    let folder = Folder::new("endpoints-gone");
    let host = Host::on_loopback(&with_endpoints(&folder));
    let mut io = tokio::net::TcpStream::connect(host.operator.unwrap()).await.unwrap();
    // It begins, and waits for what is sent with it.
    let head = format!(
        "POST /v1/reload HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\nauthorization: Bearer {}\r\n\r\n",
        secret("admin")
    );
    io.write_all(head.as_bytes()).await.unwrap();
    let told = async |outcome: &str| {
        let outcome = format!("\"outcome\":\"{outcome}\"");
        let lines = || std::fs::read_to_string(folder.path("audit.jsonl")).unwrap_or_default();
        while !lines().contains(&outcome) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        lines().lines().count()
    };
    assert_eq!(soon("its beginning", told("begun")).await, 1);
    drop(io);
    assert_eq!(soon("what came of it", told("400")).await, 2);
    host.stop().await;
}
