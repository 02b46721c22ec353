//! Keeps `CONTRACT.md` in step with the types: every example parses, prints back as it stands, and no message is missing.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::message::{FromModule, FromWorker, ToModule, ToWorker};

const CONTRACT: &str = include_str!("../CONTRACT.md");

/// JSON examples of the section with this heading.
pub(crate) fn examples(section: &str) -> Vec<&'static str> {
    let (_, rest) = CONTRACT.split_once(&format!("\n## {section}\n")).expect("no such section");
    let section = rest.split_once("\n## ").map_or(rest, |(section, _)| section);
    let fences = section.split("```json\n").skip(1);
    fences.map(|fence| fence.split_once("```").expect("fence is not closed").0).collect()
}

/// Everything the example says must be printed; what is printed beyond it is a default.
fn covers(printed: &Value, example: &Value) -> bool {
    match (printed, example) {
        (Value::Object(printed), Value::Object(example)) => example
            .iter()
            .all(|(key, value)| printed.get(key).is_some_and(|printed| covers(printed, value))),
        (Value::Array(printed), Value::Array(example)) => {
            printed.len() == example.len()
                && printed.iter().zip(example).all(|(printed, example)| covers(printed, example))
        }
        _ => printed == example,
    }
}

fn check<T>(section: &str, tag: impl Fn(&T) -> &'static str, all: &[&str])
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let mut seen = BTreeSet::new();
    for text in examples(section) {
        let example: Value =
            serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in example:\n{text}"));
        let message: T =
            serde_json::from_value(example.clone()).unwrap_or_else(|e| panic!("{e}: {text}"));
        let printed = serde_json::to_value(&message).unwrap();
        assert!(covers(&printed, &example), "printed\n{printed}\nfor\n{text}");
        assert_eq!(printed["type"], tag(&message), "{text}");
        assert_eq!(serde_json::from_value::<T>(printed).unwrap(), message);
        assert!(seen.insert(tag(&message)), "two examples of {}", tag(&message));
    }
    assert_eq!(seen, all.iter().copied().collect(), "in {section}");
}

#[test]
fn bridge_to_module_is_documented() {
    let all = [
        "start", "dtmf", "vad", "mark", "cleared", "playback", "gap", "finalize", "text", "spoken",
        "private", "consent", "update", "credit", "ping", "event", "stop",
    ];
    // No wildcard: a new message does not compile until it is named here and, by the list above, in the document.
    let tag = |message: &ToModule| match message {
        ToModule::Start(_) => "start",
        ToModule::Dtmf(_) => "dtmf",
        ToModule::Vad(_) => "vad",
        ToModule::Mark(_) => "mark",
        ToModule::Cleared(_) => "cleared",
        ToModule::Playback(_) => "playback",
        ToModule::Gap(_) => "gap",
        ToModule::Finalize { .. } => "finalize",
        ToModule::Text(_) => "text",
        ToModule::Spoken(_) => "spoken",
        ToModule::Private(_) => "private",
        ToModule::Consent(_) => "consent",
        ToModule::Update { .. } => "update",
        ToModule::Credit { .. } => "credit",
        ToModule::Ping { .. } => "ping",
        ToModule::Event(_) => "event",
        ToModule::Stop { .. } => "stop",
        ToModule::Unknown => "not a message of the contract",
    };
    check("Bridge to module", tag, &all);
}

#[test]
fn module_to_bridge_is_documented() {
    let all = [
        "register",
        "ready",
        "reject",
        "transcript",
        "turn",
        "vad",
        "dtmf",
        "audio.begin",
        "audio.end",
        "clear",
        "mark",
        "say",
        "play",
        "language",
        "pause",
        "resume",
        "private.begin",
        "private.end",
        "consent",
        "dtmf.send",
        "hangup",
        "transfer",
        "event",
        "ack",
        "credit",
        "finalized",
        "pong",
        "log",
        "metric",
        "error",
        "going_away",
        "done",
    ];
    let tag = |message: &FromModule| match message {
        FromModule::Register(_) => "register",
        FromModule::Ready(_) => "ready",
        FromModule::Reject(_) => "reject",
        FromModule::Transcript(_) => "transcript",
        FromModule::Turn(_) => "turn",
        FromModule::Vad(_) => "vad",
        FromModule::Dtmf(_) => "dtmf",
        FromModule::AudioBegin { .. } => "audio.begin",
        FromModule::AudioEnd { .. } => "audio.end",
        FromModule::Clear { .. } => "clear",
        FromModule::Mark { .. } => "mark",
        FromModule::Say(_) => "say",
        FromModule::Play(_) => "play",
        FromModule::Language(_) => "language",
        FromModule::Pause => "pause",
        FromModule::Resume => "resume",
        FromModule::PrivateBegin { .. } => "private.begin",
        FromModule::PrivateEnd => "private.end",
        FromModule::Consent(_) => "consent",
        FromModule::DtmfSend(_) => "dtmf.send",
        FromModule::Hangup(_) => "hangup",
        FromModule::Transfer { .. } => "transfer",
        FromModule::Event(_) => "event",
        FromModule::Ack { .. } => "ack",
        FromModule::Credit { .. } => "credit",
        FromModule::Finalized { .. } => "finalized",
        FromModule::Pong { .. } => "pong",
        FromModule::Log(_) => "log",
        FromModule::Metric(_) => "metric",
        FromModule::Error(_) => "error",
        FromModule::GoingAway { .. } => "going_away",
        FromModule::Done { .. } => "done",
        FromModule::Unknown => "not a message of the contract",
    };
    check("Module to bridge", tag, &all);
}

#[test]
fn sizes_and_limits_are_the_documented_ones() {
    let limits = crate::message::Limits::default();
    for text in [
        format!("at most {}", crate::wire::MAX_BODY),
        format!("Subprotocol `{}`", crate::CONTRACT),
        format!("\"ready_ms\": {}", limits.ready_ms),
        format!("\"stop_ms\": {}", limits.stop_ms),
        format!("\"ping_ms\": {}", limits.ping_ms),
        format!("\"dead_ms\": {}", limits.dead_ms),
        format!("\"max_msg\": {}", limits.max_msg),
        format!("\"pre_roll_ms\": {}", limits.pre_roll_ms),
        format!("\"out_ms\": {}", crate::message::StartCredit::default().out_ms),
    ] {
        assert!(CONTRACT.contains(&text), "CONTRACT.md does not say {text:?}");
    }
}

/// Fields of a newer minor version change nothing.
#[test]
fn documented_examples_with_unknown_fields_mean_the_same() {
    for section in ["Bridge to module", "Module to bridge"] {
        for text in examples(section) {
            let mut example: Value = serde_json::from_str(text).unwrap();
            let parse = |value: &Value| match section {
                "Bridge to module" => {
                    format!("{:?}", serde_json::from_value::<ToModule>(value.clone()).unwrap())
                }
                _ => format!("{:?}", serde_json::from_value::<FromModule>(value.clone()).unwrap()),
            };
            let before = parse(&example);
            add_unknown_fields(&mut example);
            assert_eq!(parse(&example), before);
        }
    }
}

/// Into every object of the contract's own, not into those whose form is the user's.
fn add_unknown_fields(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let free = ["config", "meta", "data", "fields", "stats", "vendor"];
            for (_, field) in fields.iter_mut().filter(|(key, _)| !free.contains(&key.as_str())) {
                add_unknown_fields(field);
            }
            fields.insert("zz_later".into(), Value::from(1));
        }
        Value::Array(items) => items.iter_mut().for_each(add_unknown_fields),
        _ => {}
    }
}

#[test]
fn bridge_to_worker_is_documented() {
    let tag = |message: &ToWorker| match message {
        ToWorker::Registered(_) => "registered",
        ToWorker::Open { .. } => "open",
        ToWorker::Ping { .. } => "ping",
        ToWorker::Unknown => "not a message of the contract",
    };
    check("Bridge to worker", tag, &["registered", "open", "ping"]);
}

#[test]
fn worker_to_bridge_is_documented() {
    let tag = |message: &FromWorker| match message {
        FromWorker::Register(_) => "register",
        FromWorker::Load(_) => "load",
        FromWorker::Pong { .. } => "pong",
        FromWorker::GoingAway { .. } => "going_away",
        FromWorker::Unknown => "not a message of the contract",
    };
    check("Worker to bridge", tag, &["register", "load", "pong", "going_away"]);
}
