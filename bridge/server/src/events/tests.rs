//! Events as their listeners get them: the JSON, the filter, the lag, and a connection that outlives every deadline.

use std::time::Duration;

use ringback_module::message::{Dtmf, Transcript, Vad, VadState};
use ringback_proto::provider::{self, Message, Options, Upgrade};
use ringback_proto::session::{Action, PortConfig, PortId, Report, Route, Session, SessionConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::listener::{Limits, Pages, Server, Streams};
use crate::net::memory;
use crate::socket::Socket;
use crate::workers::Workers;

/// A call with one module, whose first 20 ms of sound arrived at 1,020 ms of the clock; and what it reported so far.
fn call() -> (Session, Vec<Report>) {
    let provider = provider::find("raw").unwrap();
    let target = "/raw?call=CA42&from=%2B15550100002&to=sip:bob@pbx.example&token=s3cret";
    let upgrade = Upgrade { target, public_url: None, headers: &[] };
    let accepted = provider.accept(&upgrade, &Options::default()).unwrap();
    let mut config = SessionConfig::new("c1", "raw");
    config.routes = Route::to(vec![PortConfig::listening("stt")]).into();
    let now = Instant::from_millis(1_020);
    let mut session = Session::new(now, config, accepted.protocol);
    session.handle_message(now, Message::Binary(&[0xff; 160]));
    let mut reports = Vec::new();
    while let Some(action) = session.poll_action() {
        if let Action::Report(report) = action {
            reports.push(report);
        }
    }
    (session, reports)
}

/// What is told of `seen` at 3.5 s of the clock.
fn told(seen: &Seen<'_>) -> Value {
    let at = WallTime::from_unix(Duration::from_millis(1_795_244_709_042));
    let happening = line::happening(at, "c1", Instant::from_millis(3_500), seen).unwrap();
    assert!(happening.is_of("c1") && happening.is_of("CA42") && !happening.is_of("c2"));
    let told: Value = serde_json::from_str(&happening.json).unwrap();
    assert_eq!(told["type"], happening.kind);
    told
}

fn transcript(text: &str) -> Report {
    let (id, text) = ("u1".to_owned(), text.to_owned());
    let words = Transcript { id, text, is_final: true, end_ms: 2_100, ..Transcript::default() };
    Report::Transcript(Some(PortId(0)), words)
}

#[test]
fn results_are_told_in_an_envelope_with_the_contracts_fields() {
    let (session, _) = call();
    let report = transcript("fünf \"five\"\n");
    let told = told(&Seen::Report { report: &report, session: &session });
    let wanted = json!({
        "at": "2026-11-21T07:05:09.042Z", "at_ms": 2_500, "call": "c1", "provider_call": "CA42", "provider": "raw",
        "route": "default", "module": "stt", "type": "transcript",
        "id": "u1", "track": 0, "text": "fünf \"five\"\n", "final": true, "start_ms": 0, "end_ms": 2_100,
    });
    assert_eq!(told, wanted);
}

#[test]
fn speech_and_keys_are_told_with_the_time_they_were_at() {
    let (session, _) = call();
    let vad = Vad { track: 0, state: VadState::Speech, at_ms: 700, probability: None };
    let key =
        Dtmf { track: 0, digit: '5', duration_ms: None, source: Default::default(), at_ms: 9 };
    let cases = [
        (Report::Vad(PortId(0), vad), "vad", 700, json!("stt")),
        (Report::Dtmf(None, key), "dtmf", 9, Value::Null),
    ];
    for (report, kind, at_ms, module) in cases {
        let seen = Seen::Report { report: &report, session: &session };
        let at = WallTime::from_unix(Duration::ZERO);
        let line = line::happening(at, "c1", Instant::from_millis(3_500), &seen).unwrap();
        assert_eq!(line.json.matches("\"at_ms\"").count(), 1, "{}", line.json);
        let told = told(&seen);
        assert_eq!((&told["type"], &told["at_ms"]), (&json!(kind), &json!(at_ms)));
        assert_eq!(told["module"], module);
    }
}

#[test]
fn a_call_is_told_from_its_start_to_its_accounts_without_numbers_and_parameters() {
    let (mut session, reports) = call();
    let started = told(&Seen::Report { report: &reports[0], session: &session });
    let wanted = [("type", "call.started"), ("from", "+1555***02"), ("to", "***@pbx.example")];
    for (key, value) in wanted {
        assert_eq!(started[key], value, "{started}");
    }
    assert_eq!((&started["route"], &started["modules"]), (&json!("default"), &json!(["stt"])));
    assert!(!started.to_string().contains("s3cret"), "{started}");

    session.module_gone(Instant::from_millis(1_030), PortId(0), Some("it said 15550100002".into()));
    session.handle_closed(Instant::from_millis(1_040), Ok(()));
    let (mut failed, mut ended) = (Value::Null, Value::Null);
    while let Some(action) = session.poll_action() {
        match action {
            Action::Report(report @ Report::ModuleFailed { .. }) => {
                failed = told(&Seen::Report { report: &report, session: &session });
            }
            Action::Ended(summary) => ended = told(&Seen::Ended(&summary)),
            _ => {}
        }
    }
    assert_eq!((&failed["type"], &failed["module"]), (&json!("module.failed"), &json!("stt")));
    assert_eq!(failed["reason"], "it said ***");
    let wanted = json!({
        "type": "call.ended", "route": "default", "reason": "remote", "balanced": true, "heard_ms": 20,
    });
    for (key, value) in wanted.as_object().unwrap() {
        assert_eq!(&ended[key], value, "{key} in {ended}");
    }
    assert_eq!(ended["modules"][0]["name"], "stt");
}

#[tokio::test]
async fn listeners_hear_the_calls_they_asked_for_and_how_much_they_missed() {
    let (session, _) = call();
    let shutdown = Shutdown::new();
    let events = Events::new(shutdown.clone());
    let tell = |name: &str, text: &str| {
        let report = transcript(text);
        events.see(name, Instant::ZERO, &Seen::Report { report: &report, session: &session });
    };
    let mut all = events.subscribe(None);
    let mut by_our_name = events.subscribe(Some("c2".into()));
    let mut by_theirs = events.subscribe(Some("CA42".into()));
    let mut of_another = events.subscribe(Some("c3".into()));
    tell("c1", "one");
    tell("c2", "two");
    for text in ["one", "two"] {
        assert!(all.next().await.unwrap().contains(text));
        assert!(by_theirs.next().await.unwrap().contains(text));
    }
    assert!(by_our_name.next().await.unwrap().contains("two"));
    for _ in 0..BACKLOG + 5 {
        tell("c1", "flood");
    }
    assert_eq!(all.next().await.unwrap(), r#"{"type":"lagged","missed":5}"#);
    assert!(all.next().await.unwrap().contains("flood"), "it goes on with what is left");
    shutdown.finish();
    let mut left = 1;
    while all.next().await.is_some() {
        left += 1;
    }
    assert_eq!(left, BACKLOG, "the end does not take what was told before it");
    assert_eq!(of_another.next().await.unwrap(), r#"{"type":"lagged","missed":7}"#);
    assert_eq!(of_another.next().await, None);
}

#[test]
fn nothing_is_made_while_nobody_listens() {
    let (session, _) = call();
    let events = Events::new(Shutdown::new());
    let tell = |text: &str| {
        let report = transcript(text);
        events.see("c1", Instant::ZERO, &Seen::Report { report: &report, session: &session });
    };
    tell("unheard");
    assert!(events.sender.is_empty());
    let listener = events.subscribe(None);
    tell("heard");
    assert_eq!(listener.receiver.len(), 1);
}

/// Takes no streams.
struct Closed;

impl Streams for Closed {
    type Admitted = ();

    async fn serve(&self, (): (), socket: Socket) {
        drop(socket);
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_stays_until_the_server_ends_and_hears_the_last_word() {
    let (listener, connector) = memory(64 * 1024);
    let shutdown = Shutdown::new();
    let events = Events::new(shutdown.clone());
    let (limits, pages, routes) = (Limits::default(), Pages::default(), routes(events.clone()));
    let server = Server::new(
        Arc::new(Closed),
        Vec::new(),
        limits,
        pages,
        routes,
        shutdown.clone(),
        Workers::here(),
    );
    let server = tokio::spawn(server.run(listener));

    let mut io = connector.connect().await.unwrap();
    io.write_all(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    // Far longer than any answer may take; only the comments that keep the stream awake come.
    while heard.matches("\n:\n").count() < 20 {
        let read = io.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "{heard}");
        heard.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
    assert!(heard.contains("content-type: text/event-stream\r\n"), "{heard}");

    let (session, _) = call();
    let report = transcript("the last word");
    shutdown.drain();
    events.see("c1", Instant::ZERO, &Seen::Report { report: &report, session: &session });
    let mut rest = String::new();
    io.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("data: {\"at\":\"") && rest.contains("the last word"), "{rest}");
    assert!(rest.ends_with("\r\n0\r\n\r\n"), "the stream is ended and not cut: {rest:?}");
    assert_eq!(server.await.unwrap().cut, 0);
}
