//! Sinks with calls: what a call's events become, that no sink is waited for, and how the end is accounted for.

use std::time::Duration;

use ringback_module::message::{Dtmf, Transcript};
use ringback_proto::provider::{self, Message, Options, Upgrade};
use ringback_proto::session::{Action, Report as Happened, Session, SessionConfig};
use serde_json::Value;

use super::testing::Folder;
use super::*;
use crate::outgoing::mock::{Mock, Reply, reply};

fn lines(name: &str, folder: &Folder, file: &str, events: EventSet) -> SinkConfig {
    let path = folder.path(file).parse().unwrap();
    let lines = JsonLines { path, max_file: None, flush_every: Duration::ZERO };
    SinkConfig { name: name.into(), kind: SinkKind::JsonLines(lines), events, queue: 100 }
}

fn hook(name: &str, mock: &Mock, queue: usize) -> SinkConfig {
    let hook = Webhook {
        url: mock.url.parse().unwrap(),
        keys: Vec::new(),
        source: "/ringback".into(),
        addresses: Default::default(),
        timeout: Duration::from_secs(10),
        retry_for: Duration::from_secs(3600),
        concurrency: 1,
        spool: None,
    };
    let events = SinkConfig::default_events();
    SinkConfig { name: name.into(), kind: SinkKind::Webhook(hook), events, queue }
}

fn call() -> Session {
    let provider = provider::find("raw").unwrap();
    let target = "/raw?call=CA42&from=%2B15550100002";
    let upgrade = Upgrade { target, public_url: None, headers: &[] };
    let accepted = provider.accept(&upgrade, &Options::default()).unwrap();
    let mut session =
        Session::new(Instant::ZERO, SessionConfig::new("c1", "raw"), accepted.protocol);
    session.handle_message(Instant::ZERO, Message::Binary(&[0xff; 160]));
    session
}

/// Shows a watcher a call of two keys and three transcripts, one of which may change, from its start to its end.
fn live(name: &str, watch: &dyn Watch) {
    let mut session = call();
    let words = |text: &str, is_final| {
        let words = Transcript { text: text.into(), is_final, ..Transcript::default() };
        Happened::Transcript(None, words)
    };
    let key = |digit| {
        let (track, duration_ms, source, at_ms) = (0, None, Default::default(), 9);
        Happened::Dtmf(None, Dtmf { track, digit, duration_ms, source, at_ms })
    };
    let results = [key('1'), words("one", true), words("tw", false), words("two", true), key('#')];
    let mut reports: Vec<_> = std::iter::from_fn(|| session.poll_action())
        .filter_map(|action| match action {
            Action::Report(report @ Happened::Started(_)) => Some(report),
            _ => None,
        })
        .collect();
    reports.extend(results);
    for report in &reports {
        watch.see(name, Instant::ZERO, &Seen::Report { report, session: &session });
    }
    session.handle_closed(Instant::ZERO, Ok(()));
    while let Some(action) = session.poll_action() {
        if let Action::Ended(summary) = action {
            watch.see(name, Instant::ZERO, &Seen::Ended(&summary));
        }
    }
}

fn values(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The one route that calls here take, with its sinks.
fn on_route(names: &[&str]) -> [(String, Vec<String>); 1] {
    [("default".to_owned(), names.iter().map(|name| (*name).to_owned()).collect())]
}

#[tokio::test]
async fn each_sink_gets_the_events_it_asked_for_under_the_same_names() {
    let folder = Folder::new("sinks");
    let keys = [EventKind::Dtmf].into_iter().collect();
    let configs = [
        lines("all", &folder, "all.jsonl", SinkConfig::default_events()),
        lines("keys", &folder, "keys.jsonl", keys),
        lines("nobodys", &folder, "nobodys.jsonl", SinkConfig::default_events()),
    ];
    let sinks = Sinks::start(&configs, &Arc::default());
    assert!(sinks.watch(&on_route(&[]), "twilio").is_none(), "a call without sinks pays nothing");
    let watch = sinks.watch(&on_route(&["all", "keys"]), "twilio").unwrap();
    live("c1", &*watch);
    drop(watch);
    sinks.finish(std::future::pending()).await;

    let all = values(&folder.read("all.jsonl"));
    let told: Vec<_> = all
        .iter()
        .map(|e| (e["event_id"].as_str().unwrap(), e["type"].as_str().unwrap()))
        .collect();
    let wanted = [
        ("c1-1", "call.started"),
        ("c1-2", "dtmf"),
        ("c1-3", "transcript"),
        ("c1-5", "transcript"),
        ("c1-6", "dtmf"),
        ("c1-7", "call.ended"),
    ];
    assert_eq!(told, wanted, "the fourth may still change, and nobody asked for it");
    for event in &all {
        assert_eq!((&event["listener"], &event["route"]), (&"twilio".into(), &"default".into()));
        assert_eq!((&event["call"], &event["provider_call"]), (&"c1".into(), &"CA42".into()));
    }
    assert_eq!(all[0]["from"], "+1555***02", "numbers are redacted");
    let ledger = all[5]["ledger"].as_array().unwrap();
    let wire = ledger.iter().find(|hop| hop["hop"] == "wire.in").expect("a ledger of the wire");
    assert_eq!((&wire["entered"], &wire["unit"]), (&1.into(), &"messages".into()), "{wire}");

    let keys = values(&folder.read("keys.jsonl"));
    assert_eq!(keys, [all[1].clone(), all[4].clone()], "what two sinks get is the same");
    assert_eq!(folder.read("nobodys.jsonl"), "");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_takes_nothing_is_not_waited_for_and_its_oldest_events_are_lost_by_name() {
    let mock = Mock::new(vec![Reply::Silence]);
    let configs = [hook("stuck", &mock, 4)];
    let sinks = Sinks::start(&configs, &Arc::new(mock.connector()));
    let before = tokio::time::Instant::now();
    for call in 0..10 {
        let watch = sinks.watch(&on_route(&["stuck"]), "twilio").unwrap();
        live(&format!("c{call}"), &*watch);
    }
    assert_eq!(before.elapsed(), Duration::ZERO, "calls go on as if there were no sink");
    let figures = sink_figures("stuck");
    assert_eq!((figures.taken(), figures.lost(Lost::Overflow)), (60, 56));
    let deadline = tokio::time::sleep(Duration::from_secs(5));
    sinks.finish(deadline).await;
    assert_eq!(before.elapsed(), Duration::from_secs(5), "and the end waits so long and no longer");
    assert_eq!((figures.lost(Lost::Shutdown), figures.waiting()), (4, 0));
    let text = crate::telemetry::METRICS.exposition();
    assert!(text.contains("ringback_sink_dropped_total{sink=\"stuck\",reason=\"overflow\"} 56\n"));
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_what_can_still_be_delivered() {
    let mock = Mock::new(vec![reply("503 Busy", "", ""), reply("200 OK", "", "")]);
    let sinks = Sinks::start(&[hook("late", &mock, 100)], &Arc::new(mock.connector()));
    live("c1", &*sinks.watch(&on_route(&["late"]), "twilio").unwrap());
    sinks.finish(tokio::time::sleep(Duration::from_secs(30))).await;
    let figures = sink_figures("late");
    assert_eq!((figures.delivered(), figures.retries(), figures.waiting()), (6, 1, 0));
}

#[tokio::test]
async fn a_new_configuration_keeps_what_is_the_same_and_ends_the_rest_with_their_calls() {
    let folder = Folder::new("sinks-apply");
    let same = lines("same", &folder, "same.jsonl", SinkConfig::default_events());
    let old = lines("moved", &folder, "old.jsonl", SinkConfig::default_events());
    let new = lines("moved", &folder, "new.jsonl", SinkConfig::default_events());
    let (both, connector) = (on_route(&["same", "moved"]), Arc::default());
    let sinks = Sinks::start(&[same.clone(), old], &connector);
    let before = sinks.watch(&both, "twilio").unwrap();
    sinks.apply(&[same, new], &connector);
    let after = sinks.watch(&both, "twilio").unwrap();
    live("c1", &*before);
    live("c2", &*after);
    drop((before, after));
    sinks.finish(std::future::pending()).await;
    let calls = |file: &str| {
        let mut calls: Vec<_> = values(&folder.read(file))
            .iter()
            .map(|event| event["call"].as_str().unwrap().to_owned())
            .collect();
        calls.dedup();
        calls
    };
    assert_eq!(calls("old.jsonl"), ["c1"], "a live call keeps what it began with");
    assert_eq!(calls("new.jsonl"), ["c2"]);
    assert_eq!(calls("same.jsonl"), ["c1", "c2"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_sink_has_that_a_new_configuration_left_out_is_counted_in_the_end() {
    let mock = Mock::new(vec![reply("503 Busy", "", "")]);
    let connector = Arc::new(mock.connector());
    let sinks = Sinks::start(&[hook("left-out", &mock, 100)], &connector);
    live("c1", &*sinks.watch(&on_route(&["left-out"]), "twilio").unwrap());
    sinks.apply(&[], &connector);
    sinks.finish(tokio::time::sleep(Duration::from_secs(30))).await;
    let figures = sink_figures("left-out");
    assert!(figures.retries() > 0);
    assert_eq!((figures.lost(Lost::Shutdown), figures.waiting()), (6, 0));
}
