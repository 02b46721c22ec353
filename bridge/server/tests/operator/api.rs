//! What the API tells of live calls and does to them, and for whom.

use ringback_proto::session::{EndReason, Report};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::{Folder, Host, assert_whole};
use super::{ask, ask_over, call, path_of, secret, toml};

/// The document, as it is served.
async fn document(host: &Host) -> Value {
    ask(host, "GET /v1/openapi.json", "reader").await.json()
}

/// Whether a value is as a schema of the document says, as far as the schemas of this document go.
fn is_as(value: &Value, schema: &Value, document: &Value) -> Result<(), String> {
    if let Some(target) = schema["$ref"].as_str() {
        return is_as(value, document.pointer(&target[1..]).unwrap(), document);
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !kinds.is_empty() && !kinds.contains(&kind) {
        return Err(format!("{value} is no {kinds:?}"));
    }
    if schema.get("const").is_some_and(|only| only != value) {
        return Err(format!("{value} is not {}", schema["const"]));
    }
    if schema["enum"].as_array().is_some_and(|known| !known.contains(value)) {
        return Err(format!("{value} is none of {}", schema["enum"]));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        value.get(name).ok_or_else(|| format!("{name} is missing in {value}"))?;
    }
    if let (Some(known), Some(found)) = (schema["properties"].as_object(), value.as_object()) {
        for (name, value) in found {
            let schema = known.get(name).ok_or_else(|| format!("{name} is not documented"))?;
            is_as(value, schema, document)?;
        }
    }
    let mut items = value.as_array().into_iter().flatten();
    items.try_for_each(|item| is_as(item, &schema["items"], document))
}

#[tokio::test]
async fn a_live_call_is_listed_and_ended_and_its_sound_adds_up() {
    let folder = Folder::new("operator-calls");
    let host = Host::on_loopback(&toml(&folder));
    assert_eq!(ask(&host, "GET /v1/calls", "reader").await.json()["calls"], json!([]));
    let mut caller = call(&host, host.connect().await, "acme", "CA1").await;
    caller.speak(&[1_000; 1_600]).await;
    let listed = ask(&host, "GET /v1/calls", "reader").await.json();
    let told = &listed["calls"][0];
    for (key, value) in [
        ("state", json!("live")),
        ("listener", json!("acme")),
        ("tenant", json!("acme")),
        ("provider", json!("raw")),
        ("provider_call", json!("CA1")),
        ("route", json!("default")),
        ("modules", json!(["echo"])),
    ] {
        assert_eq!(told[key], value, "{key} in {told}");
    }
    let name = told["call"].as_str().unwrap();
    assert_eq!(ask(&host, &format!("GET /v1/calls/{name}"), "reader").await.json()["call"], name);
    let ended = ask(&host, &format!("POST /v1/calls/{name}/hangup"), "controller").await;
    assert_eq!((ended.status, ended.json()), (202, json!({"call": name, "state": "ending"})));
    let goodbye = caller.closed().await;
    assert_eq!((goodbye.code, goodbye.reason.as_str()), (1000, "operator"));
    let summary = host.log.ended("CA1").await;
    assert_eq!(summary.reason, EndReason::Operator { name: "controller".into() });
    assert_eq!(summary.tenant.as_deref(), Some("acme"));
    assert_whole(&summary, &[("playout", "call_ended"), ("echo.out", "call_ended")]);
    let gone = ask(&host, &format!("GET /v1/calls/{name}"), "reader").await;
    assert_eq!((gone.status, gone.json()["error"].as_str()), (404, Some("not_found")));
    host.stop().await;
}

#[tokio::test]
async fn answers_are_as_the_document_says() {
    let folder = Folder::new("operator-document");
    let host = Host::on_loopback(&toml(&folder));
    let document = document(&host).await;
    let caller = call(&host, host.connect().await, "raw", "CA1").await;
    let calls = ask(&host, "GET /v1/calls", "reader").await.json();
    let name = calls["calls"][0]["call"].as_str().unwrap().to_owned();
    let mut checked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        // Events go on; and to drain is the last that a bridge does.
        if path == "/events" || path == "/v1/drain" {
            continue;
        }
        for (method, operation) in item.as_object().unwrap() {
            let target = path_of(path, &name);
            let answer = ask(&host, &format!("{} {target}", method.to_uppercase()), "admin").await;
            let status = answer.status.to_string();
            let responses = &operation["responses"];
            let mut response = responses.get(&status).unwrap_or(&responses["default"]);
            if let Some(target) = response["$ref"].as_str() {
                response = document.pointer(&target[1..]).unwrap();
            }
            assert!(response.is_object(), "{path} answers {status}, which is not documented");
            let kind = answer.header("content-type").split(';').next().unwrap().to_owned();
            let content = response["content"].get(&kind).expect(path);
            if kind == "application/json" {
                let schema = content.get("schema").expect(path);
                is_as(&answer.json(), schema, &document).unwrap_or_else(|e| panic!("{path}: {e}"));
            }
            checked += 1;
        }
    }
    assert!(checked >= 14, "{checked}");
    drop(caller);
    host.stop().await;
}

#[tokio::test]
async fn of_another_tenants_nothing_is_there_on_any_route() {
    let folder = Folder::new("operator-tenants");
    let host = Host::on_loopback(&toml(&folder));
    let document = document(&host).await;
    let caller = call(&host, host.connect().await, "acme", "CA-ACME").await;
    let calls = ask(&host, "GET /v1/calls", "acme").await.json();
    let name = calls["calls"][0]["call"].as_str().unwrap().to_owned();
    let (mut tried, mut not_there) = (0, 0);
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let target = path_of(path, &name);
            let target = format!("{} {target}", method.to_uppercase());
            let names_something = path.contains('{');
            if path == "/events" {
                continue;
            }
            let answer = ask(&host, &target, "globex").await;
            tried += 1;
            if names_something || operation["x-tenants"] == "none" {
                assert_eq!(answer.status, 404, "{target}: {}", answer.text);
                // It is the same answer as for what nobody has.
                let nothing = target.replace(&name, "20000101T000000Z-000001");
                let nothing = nothing.replace("doors", "windows");
                assert_eq!(ask(&host, &nothing, "globex").await.text, answer.text);
                not_there += 1;
            } else {
                assert_eq!(answer.status, 200, "{target}");
                assert!(!answer.text.contains(&name) && !answer.text.contains("CA-ACME"));
            }
        }
    }
    assert!(tried >= 15 && not_there >= 12, "{tried} tried, {not_there} were not there");
    assert_eq!(ask(&host, &format!("GET /v1/calls/{name}"), "acme").await.status, 200);
    caller.hang_up().await;
    let summary = host.log.ended("CA-ACME").await;
    assert_eq!(summary.reason, EndReason::Remote, "nobody hung up on it");
    host.stop().await;
}

#[tokio::test]
async fn every_route_takes_its_own_scope_and_no_other_will_do() {
    let folder = Folder::new("operator-scopes");
    let host = Host::on_loopback(&toml(&folder));
    let document = document(&host).await;
    let mut refused = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let target = format!("{} {}", method.to_uppercase(), path_of(path, "x"));
            for (token, scope) in
                [("reader", "read"), ("listener", "listen"), ("controller", "control")]
            {
                if operation["x-scope"] != scope {
                    let answer = ask(&host, &target, token).await;
                    assert_eq!(
                        (answer.status, answer.json()["error"].as_str()),
                        (403, Some("scope")),
                        "{target}"
                    );
                    refused += 1;
                }
            }
            let nobody = super::ask_with(&host, &target, None, &[]).await;
            assert_eq!(nobody.status, 401, "{target}");
        }
    }
    assert!(refused >= 36, "{refused}");
    assert!(!host.shutdown.is_draining());
    host.stop().await;
}

#[tokio::test]
async fn draining_is_asked_for_as_by_a_signal_and_says_until_when() {
    let folder = Folder::new("operator-drain");
    let (host, calls, operators) = Host::operated_in_memory(&toml(&folder));
    let mut caller = call(&host, calls.connect().await.unwrap(), "raw", "CA1").await;
    let token = Some(secret("controller"));
    let drained = ask_over(operators.connect().await.unwrap(), "POST /v1/drain", token, &[]).await;
    assert_eq!((drained.status, &drained.json()["calls"]), (202, &json!(1)));
    let again = ask_over(operators.connect().await.unwrap(), "POST /v1/drain", token, &[]).await;
    assert_eq!(again.json()["until"], drained.json()["until"], "it does not begin anew");
    assert!(host.shutdown.is_draining());
    caller.speak(&[1_000; 800]).await;
    caller.hang_up().await;
    assert_whole(&host.log.ended("CA1").await, &[]);
    host.stop().await;
}

#[tokio::test]
async fn a_configuration_that_is_refused_is_told_line_by_line() {
    let folder = Folder::new("operator-reload");
    let host = Host::on_loopback(&toml(&folder));
    let refused = ask(&host, "POST /v1/reload", "admin").await;
    assert_eq!(refused.status, 422);
    assert_eq!(refused.json()["message"], "line 1: no");
    host.stop().await;
}

#[tokio::test]
async fn a_live_call_is_made_private_and_its_callers_consent_is_told() {
    let folder = Folder::new("operator-private");
    let audit = super::support::quoted(folder.path("audit.jsonl").display());
    let text = toml(&folder).replacen("[operator]\n", &format!("[operator]\naudit = {audit}\n"), 1);
    let host = Host::on_loopback(&text);
    let mut caller = call(&host, host.connect().await, "acme", "CA1").await;
    caller.speak(&[1_000; 1_600]).await;
    let calls = ask(&host, "GET /v1/calls", "reader").await.json();
    let name = calls["calls"][0]["call"].as_str().unwrap().to_owned();
    assert_eq!(
        (&calls["calls"][0]["private"], &calls["calls"][0]["consent"]),
        (&json!(false), &Value::Null)
    );
    let told = async |what: &str| {
        let answer = ask(&host, &format!("POST /v1/calls/{name}/{what}"), "controller").await;
        (answer.status, answer.json())
    };
    let private = |is: bool| (200, json!({ "call": name, "private": is }));
    let consent = |is: bool| (200, json!({ "call": name, "consent": is }));
    assert_eq!(told("private/end").await, private(false), "it is not, and stays so");
    assert_eq!(told("private/begin").await, private(true));
    assert_eq!(told("private/begin").await, private(true), "once more");
    let now = ask(&host, &format!("GET /v1/calls/{name}"), "reader").await.json();
    assert_eq!(now["private"], json!(true));
    assert_eq!(told("private/end").await, private(false));
    assert_eq!(told("consent/give").await, consent(true));
    assert_eq!(told("consent/withdraw").await, consent(false));
    assert_eq!(told("consent/withdraw").await, consent(false), "said again");
    let now = ask(&host, &format!("GET /v1/calls/{name}"), "reader").await.json();
    assert_eq!((&now["private"], &now["consent"]), (&json!(false), &json!(false)));

    let entries = host.log.entries();
    let reports = entries.iter().filter_map(|entry| match &entry.what {
        super::support::What::Report(report, _) => Some(report),
        _ => None,
    });
    let mut words = Vec::new();
    for report in reports {
        match report {
            Report::Private { began, by, .. } => words.push(format!("{began} {}", by.name())),
            Report::Consent(told) => words.push(format!("{} {} {}", told.given, told.by, told.how)),
            _ => {}
        }
    }
    assert_eq!(
        words,
        [
            "true operator",
            "false operator",
            "true operator told by controller",
            "false operator told by controller",
            "false operator told by controller",
        ]
    );
    let lines = ask(&host, "GET /v1/audit", "admin").await.text;
    for done in ["private.begin", "private.end", "consent.give", "consent.withdraw"] {
        assert!(lines.contains(done), "{done} is in the audit log: {lines}");
    }
    caller.hang_up().await;
    let summary = host.log.ended("CA1").await;
    assert_eq!(summary.private.map(|counts| counts.times), Some(1));
    assert_eq!(told("private/begin").await.0, 404, "it is over");
    host.stop().await;
}

/// With a body, over a connection of its own.
async fn say(host: &Host, target: &str, body: &str) -> (u16, String) {
    let fields =
        [("content-type", "application/json"), ("content-length", &body.len().to_string())];
    let mut request = format!(
        "POST {target} HTTP/1.1\r\nconnection: close\r\nhost: localhost\r\nauthorization: Bearer {}\r\n",
        secret("controller")
    );
    for (name, value) in fields {
        request += &format!("{name}: {value}\r\n");
    }
    let mut io = tokio::net::TcpStream::connect(host.operator.unwrap()).await.unwrap();
    io.write_all((request + "\r\n" + body).as_bytes()).await.unwrap();
    let mut octets = Vec::new();
    super::soon("an answer", io.read_to_end(&mut octets)).await.unwrap();
    let answer = super::parsed(&octets);
    (answer.status, answer.text)
}

#[tokio::test]
async fn what_is_said_of_a_private_part_or_a_consent_is_kept_or_refused() {
    let folder = Folder::new("operator-said");
    let host = Host::on_loopback(&toml(&folder));
    let caller = call(&host, host.connect().await, "acme", "CA1").await;
    let calls = ask(&host, "GET /v1/calls", "reader").await.json();
    let name = calls["calls"][0]["call"].as_str().unwrap().to_owned();
    for (what, body, status) in [
        ("consent/give", r#"{"how":"pressed 1"}"#, 200),
        ("consent/give", r#"{"how":1}"#, 400),
        ("consent/give", r#"{"given":false}"#, 400),
        ("private/begin", r#"{"limit_seconds":0}"#, 400),
        ("private/begin", r#"{"limit_seconds":-1}"#, 400),
        ("private/begin", r#"{"limit":3}"#, 400),
        ("private/end", r#"{"limit_seconds":3}"#, 400),
        ("private/begin", r#"{"limit_seconds":1}"#, 200),
    ] {
        let (found, text) = say(&host, &format!("/v1/calls/{name}/{what}"), body).await;
        assert_eq!(found, status, "{what} {body}: {text}");
    }
    let how = host.log.until("consent, and the end of the part by itself", |entries| {
        let reports = entries.iter().filter_map(|entry| match &entry.what {
            super::support::What::Report(report, _) => Some(report),
            _ => None,
        });
        let mut how = None;
        let mut ended = false;
        for report in reports {
            match report {
                Report::Consent(told) => how = Some(told.how.clone()),
                Report::Private { began: false, by, .. } => ended = by.name() == "limit",
                _ => {}
            }
        }
        how.filter(|_| ended)
    });
    assert_eq!(how.await, "pressed 1");
    caller.hang_up().await;
    host.stop().await;
}
