//! Makes the contract's JSON Schema and AsyncAPI document from the types and compares them with the files beside `CONTRACT.md`.
//! `RINGBACK_WRITE=1 cargo test -p ringback-module schema` writes the files instead. Nothing of this is in the built crate.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::contract_test::examples;
use crate::message::{FromModule, FromWorker, ToModule, ToWorker};
use crate::wire;

const SCHEMA: &str = "ringback.v1.schema.json";
const ASYNCAPI: &str = "ringback.v1.asyncapi.json";

/// What is asked and how it is answered: who asks, with what, the answers that may come, and the operation's name.
const QUESTIONS: [(Side, &str, &[&str], &str); 7] = [
    (Side::Bridge, "start", &["ready", "reject"], "start"),
    (Side::Bridge, "finalize", &["finalized"], "finalize"),
    (Side::Bridge, "ping", &["pong"], "ping"),
    (Side::Bridge, "stop", &["done"], "stop"),
    (Side::Module, "clear", &["cleared"], "clear"),
    (Side::Worker, "register", &["registered"], "worker.register"),
    (Side::Host, "ping", &["pong"], "worker.ping"),
];

/// Where messages are said: a session, or the connection on which a worker registers.
struct Channel {
    name: &'static str,
    sides: [Side; 2],
    /// Operations of messages that are just said, by the first and the second side.
    just_said: [&'static str; 2],
    title: &'static str,
    description: &'static str,
}

const CHANNELS: [Channel; 2] = [
    Channel {
        name: "session",
        sides: [Side::Bridge, Side::Module],
        just_said: ["hear", "say"],
        title: "One session: a call heard by a module",
        description: "Over stdio a slot of the process's streams (slot 0: register, ping, pong), over WebSocket a connection.",
    },
    Channel {
        name: "worker",
        sides: [Side::Host, Side::Worker],
        just_said: ["worker.hear", "worker.say"],
        title: "The connection on which a module that dials in registers",
        description: "A WebSocket with the subprotocol ringback.v1.worker. Its sessions have connections of their own.",
    },
];

/// Who says a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Bridge,
    Module,
    /// The bridge, to a worker.
    Host,
    /// A module that dialled in, beside its sessions.
    Worker,
}

impl Side {
    const ALL: [Self; 4] = [Self::Bridge, Self::Module, Self::Host, Self::Worker];

    const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Module => "module",
            Self::Host => "host",
            Self::Worker => "worker",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Bridge => Self::Module,
            Self::Module => Self::Bridge,
            Self::Host => Self::Worker,
            Self::Worker => Self::Host,
        }
    }

    const fn section(self) -> &'static str {
        match self {
            Self::Bridge => "Bridge to module",
            Self::Module => "Module to bridge",
            Self::Host => "Bridge to worker",
            Self::Worker => "Worker to bridge",
        }
    }

    /// Name of its type.
    const fn of_type(self) -> &'static str {
        match self {
            Self::Bridge => "ToModule",
            Self::Module => "FromModule",
            Self::Host => "ToWorker",
            Self::Worker => "FromWorker",
        }
    }

    const fn is_bridge(self) -> bool {
        matches!(self, Self::Bridge | Self::Host)
    }

    /// Whether the types know what this says.
    fn parses(self, message: &Value) -> bool {
        fn known<T: serde::de::DeserializeOwned + PartialEq>(value: &Value, unknown: &T) -> bool {
            serde_json::from_value::<T>(value.clone()).is_ok_and(|message| message != *unknown)
        }
        match self {
            Self::Bridge => known(message, &ToModule::Unknown),
            Self::Module => known(message, &FromModule::Unknown),
            Self::Host => known(message, &ToWorker::Unknown),
            Self::Worker => known(message, &FromWorker::Unknown),
        }
    }
}

/// The schema of all messages; its root will do for any, `$defs/ToModule` and so on for one side's.
fn schema() -> Value {
    let mut generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
    let sides = [
        generator.subschema_for::<ToModule>(),
        generator.subschema_for::<FromModule>(),
        generator.subschema_for::<ToWorker>(),
        generator.subschema_for::<FromWorker>(),
    ];
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": crate::CONTRACT,
        "description": "A JSON message between the Ringback bridge and a compute module. \
            What the fields mean is told in CONTRACT.md. Unknown types and fields are to be ignored.",
        "anyOf": sides,
        "$defs": generator.take_definitions(true),
    });
    plain_descriptions(&mut schema);
    schema
}

/// The same contract from the side of the module, as AsyncAPI 3 has it.
fn asyncapi() -> Value {
    let settings =
        SchemaSettings::draft07().with(|s| s.definitions_path = "/components/schemas".into());
    let mut generator = SchemaGenerator::new(settings);
    let mut messages = Map::new();
    let (mut channels, mut all_operations) = (Map::new(), Map::new());
    for channel in &CHANNELS {
        let own = messages_of(channel, &mut generator);
        channels.insert(
            channel.name.to_owned(),
            json!({
                "address": null,
                "title": channel.title,
                "description": channel.description,
                "bindings": { "ws": { "method": "GET" } },
                "messages": refs_by_key(&own, "#/components/messages/"),
            }),
        );
        all_operations.extend(operations(channel, &own));
        messages.extend(own);
    }
    let mut document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": crate::CONTRACT,
            "version": format!("{}.0.0", crate::VERSION),
            "description": "What a Ringback bridge and a compute module say to each other, from the side of the module. \
                CONTRACT.md is the prose: framing, time, playback, deadlines.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": all_operations,
        "components": { "messages": messages, "schemas": generator.take_definitions(true) },
    });
    plain_descriptions(&mut document);
    document
}

/// The messages of both sides, by key.
fn messages_of(channel: &Channel, generator: &mut SchemaGenerator) -> Map<String, Value> {
    let mut messages = Map::new();
    for side in channel.sides {
        let all = match side {
            Side::Bridge => variants::<ToModule>(generator),
            Side::Module => variants::<FromModule>(generator),
            Side::Host => variants::<ToWorker>(generator),
            Side::Worker => variants::<FromWorker>(generator),
        };
        let examples = examples_by_type(side);
        for (name, payload) in all {
            let message = json!({
                "name": name,
                "title": format!("{name} ({} to {})", side.name(), side.other().name()),
                "contentType": "application/json",
                "payload": { "schemaFormat": "application/schema+json;version=draft-07", "schema": payload },
                "examples": [{ "payload": examples.get(&name) }],
            });
            messages.insert(key(side, &name), message);
        }
        if channel.name == "session" {
            messages.insert(key(side, "sound"), sound(side));
        }
    }
    messages
}

fn key(side: Side, name: &str) -> String {
    format!("{}.{name}", side.name())
}

fn reference(path: &str, key: &str) -> Value {
    json!({ "$ref": format!("{path}{key}") })
}

fn refs_by_key(messages: &Map<String, Value>, path: &str) -> Map<String, Value> {
    messages.keys().map(|key| (key.clone(), reference(path, key))).collect()
}

/// Every message stands in one operation: as a question, as an answer, or among those that are just said.
fn operations(of: &Channel, messages: &Map<String, Value>) -> Map<String, Value> {
    let channel = reference("#/channels/", of.name);
    let of_channel = |key: &String| reference(&format!("#/channels/{}/messages/", of.name), key);
    let action = |side: Side| if side.is_bridge() { "receive" } else { "send" };
    let mut operations = Map::new();
    let mut dealt_with = Vec::new();
    for (side, question, answers, name) in QUESTIONS {
        if !of.sides.contains(&side) {
            continue;
        }
        let question_key = key(side, question);
        let answers: Vec<_> = answers.iter().map(|answer| key(side.other(), answer)).collect();
        assert!(answers.iter().chain([&question_key]).all(|key| messages.contains_key(key)));
        let operation = json!({
            "action": action(side),
            "channel": channel,
            "messages": [of_channel(&question_key)],
            "reply": { "channel": channel, "messages": answers.iter().map(of_channel).collect::<Vec<_>>() },
        });
        operations.insert(name.to_owned(), operation);
        dealt_with.push(question_key);
        dealt_with.extend(answers);
    }
    for (side, name) in of.sides.into_iter().zip(of.just_said) {
        let rest = messages.keys().filter(|key| {
            key.starts_with(&format!("{}.", side.name())) && !dealt_with.contains(key)
        });
        let messages: Vec<_> = rest.map(of_channel).collect();
        let operation = json!({ "action": action(side), "channel": channel, "messages": messages });
        operations.insert(name.to_owned(), operation);
    }
    operations
}

/// Sound is no JSON; over stdio it is a frame of kind 1, over WebSocket a binary message.
fn sound(side: Side) -> Value {
    json!({
        "name": "sound",
        "title": format!("sound ({} to {})", side.name(), side.other().name()),
        "summary": "Mono samples in the encoding and rate of `accept`; with framing `hdr16` behind a header of 16 octets.",
        "contentType": "application/octet-stream",
        "payload": { "type": "string", "format": "binary", "maxLength": wire::MAX_BODY },
    })
}

/// The schemas of a side's messages, by their `type`.
fn variants<T: JsonSchema>(generator: &mut SchemaGenerator) -> BTreeMap<String, Value> {
    let mut root: Schema = T::json_schema(generator);
    for transform in generator.transforms_mut() {
        transform.transform(&mut root);
    }
    let all = root.get("oneOf").and_then(Value::as_array).expect("one schema for each message");
    all.iter().map(|variant| (type_of(variant), variant.clone())).collect()
}

fn type_of(variant: &Value) -> String {
    let constant = variant.pointer("/properties/type/const").and_then(Value::as_str);
    constant.expect("messages are told apart by type").to_owned()
}

fn examples_by_type(side: Side) -> BTreeMap<String, Value> {
    let parse = |text: &str| {
        let example: Value = serde_json::from_str(text).expect("examples are JSON");
        (example["type"].as_str().expect("a type").to_owned(), example)
    };
    examples(side.section()).into_iter().map(parse).collect()
}

/// Turns rustdoc's links into words: what is linked to has no page here.
fn plain_descriptions(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                match field {
                    Value::String(text) if key == "description" => *text = plain(text),
                    field => plain_descriptions(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(plain_descriptions),
        _ => {}
    }
}

/// `[`crate::FromModule::GoingAway`]` is the message `going_away`, anything else the last part of its path.
fn plain(text: &str) -> String {
    let mut pieces = text.split("[`");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (link, rest) = piece.split_once("`]").expect("a link ends");
        let (path, name) = link.rsplit_once("::").unwrap_or(("", link));
        plain.push('`');
        for (at, letter) in name.char_indices() {
            if (path.ends_with("Module") || path.ends_with("Worker")) && letter.is_uppercase() {
                plain.extend((at > 0).then_some('_'));
                plain.extend(letter.to_lowercase());
            } else {
                plain.push(letter);
            }
        }
        plain.push('`');
        plain.push_str(rest);
    }
    plain
}

/// Compares with the file, or writes it if that is asked for.
fn assert_current(file: &str, made: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = serde_json::to_string_pretty(made).unwrap() + "\n";
    if std::env::var_os("RINGBACK_WRITE").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "{file} is not what the types say; RINGBACK_WRITE=1 cargo test -p ringback-module schema"
    );
}

#[test]
fn json_schema_is_that_of_the_types() {
    assert_current(SCHEMA, &schema());
}

#[test]
fn asyncapi_document_is_that_of_the_types() {
    assert_current(ASYNCAPI, &asyncapi());
}

/// Where `value` is not what `schema` says; knows the keywords that are in use, and no others.
fn fault(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    let Value::Object(keywords) = schema else { return (*schema != true).then(|| "never".into()) };
    keywords.iter().find_map(|(keyword, says)| {
        let holds = match keyword.as_str() {
            "$ref" => {
                let path = says.as_str().and_then(|path| path.strip_prefix('#')).expect("of ours");
                return fault(root, root.pointer(path).expect("it is defined"), value);
            }
            "anyOf" => says.as_array()?.iter().any(|one| fault(root, one, value).is_none()),
            "oneOf" => {
                says.as_array()?.iter().filter(|one| fault(root, one, value).is_none()).count() == 1
            }
            "properties" => {
                let fields = value.as_object()?;
                return says.as_object()?.iter().find_map(|(name, schema)| {
                    let fault = fault(root, schema, fields.get(name)?)?;
                    Some(format!("{name}: {fault}"))
                });
            }
            "items" => {
                return value.as_array()?.iter().find_map(|item| fault(root, says, item));
            }
            "required" => {
                let is_there = |name: &Value| value.get(name.as_str().expect("a name")).is_some();
                !value.is_object() || says.as_array()?.iter().all(is_there)
            }
            "type" => has_type(says, value),
            "const" => says == value,
            "minimum" => value.as_f64()? >= says.as_f64()?,
            "maximum" => value.as_f64()? <= says.as_f64()?,
            "minLength" => value.as_str()?.chars().count() as u64 >= says.as_u64()?,
            "maxLength" => value.as_str()?.chars().count() as u64 <= says.as_u64()?,
            "additionalProperties" => *says == true,
            "$schema" | "$defs" | "title" | "description" | "default" | "format" => true,
            other => panic!("{other} is new; check it here too"),
        };
        (!holds).then(|| format!("{keyword} {says} does not hold for {value}"))
    })
}

fn has_type(says: &Value, value: &Value) -> bool {
    let is = |name: &Value| match name.as_str().expect("a name") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("no type {other}"),
    };
    says.as_array().map_or_else(|| is(says), |all| all.iter().any(is))
}

/// The schema's root, and what it says of a side's messages.
fn of_side(side: Side) -> (Value, Value) {
    (schema(), reference("#/$defs/", side.of_type()))
}

#[test]
fn documented_examples_are_valid_on_their_side() {
    for side in Side::ALL {
        let (root, schema) = of_side(side);
        for example in examples_by_type(side).into_values() {
            assert_eq!(fault(&root, &schema, &example), None, "{example}");
        }
    }
}

/// What the types refuse the schema refuses too, and the other way round: each example with one field taken away, or of another kind.
#[test]
fn the_schema_refuses_what_the_types_refuse() {
    let (mut refused, mut taken) = (0, 0);
    for side in Side::ALL {
        let (root, schema) = of_side(side);
        for example in examples_by_type(side).into_values() {
            for broken in broken(&example) {
                let parsed = side.parses(&broken);
                let fault = fault(&root, &schema, &broken);
                assert_eq!(fault.is_none(), parsed, "{fault:?}: {broken}");
                *(if parsed { &mut taken } else { &mut refused }) += 1;
            }
        }
    }
    assert!(refused > 100 && taken > 50, "{refused} refused, {taken} taken");
}

/// One change each. Lists are left alone: entries that a reader has no word for are passed over where the contract grows by them.
fn broken(example: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    let fields = example.as_object().expect("messages are objects");
    for (key, value) in fields {
        let mut without = fields.clone();
        without.remove(key);
        all.push(Value::Object(without));
        let mut changed = |value| {
            let mut fields = fields.clone();
            fields.insert(key.clone(), value);
            all.push(Value::Object(fields));
        };
        match value {
            Value::Object(_) => broken(value).into_iter().for_each(&mut changed),
            Value::String(_) => changed(json!(17)),
            Value::Number(_) => changed(json!(-1.5)),
            Value::Bool(_) => changed(json!("yes")),
            Value::Array(_) | Value::Null => {}
        }
    }
    all
}

#[test]
fn links_of_rustdoc_become_words() {
    assert_eq!(plain("Answer [`FromModule::GoingAway`]."), "Answer `going_away`.");
    assert_eq!(plain("See [`crate::wire::AudioHeader`]"), "See `AudioHeader`");
    assert_eq!(plain("no link"), "no link");
}
