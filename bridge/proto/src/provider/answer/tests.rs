//! Documents with anything filled in, facts found wherever providers put them, and what is left out. Serves none.

use super::*;
use crate::provider::{Auth, PROVIDERS, Secret};
use serde_json::Value;

/// Nothing that may be in a value can end it.
const NASTY: &str = r#"<&>"'\ {{token}} {{url}} é"#;

fn all() -> impl Iterator<Item = &'static Answer> {
    table::ANSWERS.iter().copied()
}

/// Every document of theirs.
fn documents() -> impl Iterator<Item = &'static Answer> {
    all().chain(all().filter_map(Answer::other))
}

/// The credentials that a document can carry.
fn credentials(answer: &Answer) -> Vec<Credential<'static>> {
    let known = [
        Credential::Untold,
        Credential::Vonage,
        Credential::Basic("us:er", "p&ss<\"'>/?"),
        Credential::Bearer("t&ken<\"'>"),
        Credential::Query("tok&n", "t&ken<\"'>/?#"),
        Credential::Path("t&ken<\"'>/?#"),
        Credential::Header("x-token", "t"),
    ];
    known.into_iter().filter(|credential| answer.carries(credential).is_ok()).collect()
}

/// Every text in the document, decoded.
fn texts(answer: &Answer, document: &str) -> Vec<String> {
    fn collect(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::String(text) => into.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
            Value::Object(members) => members.iter().for_each(|(name, member)| {
                into.push(name.clone());
                collect(member, into);
            }),
            _ => {}
        }
    }
    let mut texts = Vec::new();
    match answer.syntax {
        Syntax::Json => collect(&serde_json::from_str(document).expect(document), &mut texts),
        Syntax::Xml => {
            let parsed = roxmltree::Document::parse(document)
                .unwrap_or_else(|error| panic!("{error}:\n{document}"));
            for node in parsed.descendants() {
                texts.extend(node.attributes().map(|a| a.value().to_owned()));
                texts.extend(node.text().map(str::to_owned));
            }
        }
    }
    texts
}

#[test]
fn every_answer_is_of_a_provider_and_stands_once() {
    let names: Vec<_> = all().map(|answer| answer.provider).collect();
    for (i, name) in names.iter().enumerate() {
        assert!(PROVIDERS.iter().any(|provider| provider.name() == *name), "{name}");
        assert!(!names[..i].contains(name), "{name} twice");
    }
    assert!(Answer::of("nobody").is_none());
    assert!(names.len() >= 12, "{names:?}");
}

#[test]
fn documents_parse_and_hold_the_url_whatever_is_filled_in() {
    for answer in documents() {
        let name = answer.provider;
        for credential in credentials(answer) {
            for parameters in [vec![], vec![(NASTY.to_owned(), NASTY.to_owned()); 2]] {
                let document =
                    answer.document("wss://bridge.example/a&b?c=d", &credential, &parameters);
                let texts = texts(answer, &document);
                let urls = texts.iter().map(|text| text.strip_prefix("stream:").unwrap_or(text));
                let url = urls.clone().find(|text| text.starts_with("wss://"));
                let url = url.unwrap_or_else(|| panic!("{name}: no URL in\n{document}"));
                assert!(
                    url.contains("@bridge.example/a&b") || url.contains("//bridge.example/a&b"),
                    "{name}: {url}"
                );
                assert!(url.contains("?c=d"), "{name}: {url}");
                let words =
                    ["{{credential}}", "{{parameters}}", "{{user}}", "{{name}}", "{{value}}"];
                for word in words {
                    assert!(!document.contains(word), "{name}: {word} is left in\n{document}");
                }
                let whole = texts.iter().filter(|text| *text == NASTY).count();
                let any = answer.parameter.is_some_and(|p| p.letters == Letters::Any);
                if any && !parameters.is_empty() {
                    assert!(whole >= 2, "{name}: the value is not what it was in\n{document}");
                } else {
                    assert_eq!(whole, 0, "{name}\n{document}");
                }
            }
        }
        texts(answer, answer.nothing);
    }
}

#[test]
fn credentials_are_told_where_they_belong() {
    let url = |name: &str, credential: Credential<'_>| {
        let answer = Answer::of(name).expect(name);
        let texts = texts(answer, &answer.document("wss://b.example/p", &credential, &[]));
        texts.into_iter().find(|text| text.starts_with("wss://")).expect("a URL")
    };
    assert_eq!(url("plivo", Credential::Query("t k", "a/b")), "wss://b.example/p?t%20k=a%2Fb");
    assert_eq!(url("twilio", Credential::Path("a/b?")), "wss://b.example/p/a%2Fb%3F");
    assert_eq!(
        url("exotel", Credential::Basic("u:1", "p@")),
        "wss://u%3A1:p%40@b.example/p?sample-rate=16000"
    );
    let document = |name: &str, credential: Credential<'_>| {
        Answer::of(name).expect(name).document("wss://b.example/p", &credential, &[])
    };
    let bandwidth = document("bandwidth", Credential::Basic("u", "<p>"));
    assert!(
        bandwidth.contains(r#"destinationUsername="u" destinationPassword="&lt;p&gt;""#),
        "{bandwidth}"
    );
    let signalwire = document("signalwire", Credential::Bearer("t\"k"));
    assert!(signalwire.contains(r#" authBearerToken="t&quot;k">"#), "{signalwire}");
    let vonage: Value =
        serde_json::from_str(&document("vonage", Credential::Bearer("t\"k"))).expect("JSON");
    assert_eq!(vonage[0]["endpoint"][0]["authorization"]["value"], "Bearer t\"k");
    let vonage: Value =
        serde_json::from_str(&document("vonage", Credential::Vonage)).expect("JSON");
    assert_eq!(vonage[0]["endpoint"][0]["authorization"]["type"], "vonage");
    for (name, credential) in [
        ("twilio", Credential::Query("t", "k")),
        ("twilio", Credential::Header("t", "k")),
        ("signalwire", Credential::Query("t", "k")),
        ("telnyx", Credential::Header("t", "k")),
        ("bandwidth", Credential::Bearer("t")),
    ] {
        let why = Answer::of(name).expect(name).carries(&credential).expect_err(name);
        assert!(
            why.contains("cannot carry a credential of the kind") && why.contains("path"),
            "{why}"
        );
    }
}

#[test]
fn the_first_secret_is_the_one_that_is_told() {
    let auth = Auth::Bearer { tokens: vec![Secret::from("new"), Secret::from("old")] };
    assert_eq!(Credential::of(&auth), Credential::Bearer("new"));
    assert!(Credential::of(&auth).is_told() && !Credential::of(&Auth::None).is_told());
}

fn webhook<'a>(
    method: Method,
    target: &'a str,
    kind: &'a [(&'a str, &'a str)],
    body: &'a str,
) -> Webhook<'a> {
    Webhook {
        method,
        target,
        public_url: "https://b.example/a",
        headers: kind,
        body: body.as_bytes(),
    }
}

const FORM: &[(&str, &str)] =
    &[("content-type", "application/x-www-form-urlencoded; charset=UTF-8")];
const JSON: &[(&str, &str)] = &[("content-type", "Application/JSON")];

#[test]
fn facts_are_found_in_forms_queries_and_json() {
    let pairs =
        |name: &str, webhook: Webhook<'_>| Answer::of(name).expect(name).facts(&webhook.facts());
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    };
    let form =
        webhook(Method::Post, "/a?From=no", FORM, "From=%2B1555+01&To=sip%3Ab%40c&CallSid=CA1");
    assert_eq!(pairs("twilio", form), owned(&[("from", "+1555 01"), ("to", "sip:b@c")]));
    assert_eq!(Answer::of("twilio").expect("twilio").call(&form.facts()).as_deref(), Some("CA1"));
    let query = webhook(Method::Post, "/a?From=1&To=2", &[], "");
    assert_eq!(pairs("twilio", query), owned(&[("from", "1"), ("to", "2")]));
    let both = webhook(Method::Post, "/a?From=1", FORM, "To=2");
    assert_eq!(pairs("twilio", both), owned(&[("to", "2")]), "not of what may not be signed");
    let by_get = webhook(Method::Get, "/a?From=1", FORM, "To=2");
    assert_eq!(pairs("twilio", by_get), owned(&[("from", "1")]), "nor of a body by GET");
    let query = webhook(Method::Get, "/a?from=1&to=2&uuid=u", &[], "");
    assert_eq!(pairs("vonage", query), owned(&[("from", "1"), ("to", "2"), ("uuid", "u")]));
    let json = webhook(
        Method::Post,
        "/a",
        JSON,
        r#"{"event":"ice","cli":15550100001,"to":{"endpoint":"x"},"callid":"c"}"#,
    );
    assert_eq!(pairs("sinch", json), owned(&[("from", "15550100001"), ("to", "x")]));
    assert_eq!(pairs("jambonz", json), []);
    for (headers, body) in
        [(JSON, "From=1"), (FORM, r#"{"From":"1"}"#), (&[][..], "From=1"), (JSON, "{\"From\":[1]}")]
    {
        assert_eq!(pairs("twilio", webhook(Method::Post, "/a", headers, body)), [], "{body}");
    }
}

#[test]
fn whoever_asks_in_another_language_is_answered_in_it() {
    let signalwire = Answer::of("signalwire").expect("signalwire");
    let asked = |from: &str| {
        let body = format!(r#"{{"call":{{"call_id":"c-1","from":"{from}","to":"+15550100002"}}}}"#);
        webhook(Method::Post, "/a", JSON, &body).facts()
    };
    let facts = asked("sip:a@b");
    let answer = signalwire.fitting(&facts);
    assert_eq!(
        (answer.content_type(), answer.call(&facts).as_deref()),
        ("application/json", Some("c-1"))
    );
    let document =
        answer.document("wss://b.example/p", &Credential::Bearer("t\"k"), &answer.facts(&facts));
    let swml: Value = serde_json::from_str(&document).expect("JSON");
    let connect = &swml["sections"]["main"][1]["connect"];
    assert_eq!(connect["to"], "stream:wss://b.example/p");
    assert_eq!(connect["authorization_bearer_token"], "t\"k");
    let told = serde_json::json!({ "from": "sip:a@b", "to": "+15550100002" });
    assert_eq!(connect["custom_parameters"], told);
    // SignalWire would evaluate it.
    for from in ["%{call.headers}@b", "sip:${call.headers}@b"] {
        let to = ("to".to_owned(), "+15550100002".to_owned());
        assert_eq!(answer.facts(&asked(from)), [to], "{from}");
    }
    let form = webhook(Method::Post, "/a", FORM, "From=1&CallSid=c").facts();
    assert_eq!(signalwire.fitting(&form).content_type(), "application/xml");
}

#[test]
fn the_end_of_a_call_is_not_answered_with_a_stream() {
    let aside = |name: &str, headers, body| {
        Answer::of(name).expect(name).aside(&webhook(Method::Post, "/a", headers, body).facts())
    };
    assert!(
        aside("plivo", FORM, "Event=Hangup&From=1")
            .is_some_and(|text| text.contains("<Response/>"))
    );
    assert_eq!(aside("plivo", FORM, "Event=StartApp&From=1"), None);
    assert_eq!(aside("plivo", FORM, "From=1"), None);
    assert!(
        aside("sinch", JSON, r#"{"event":"dice"}"#).is_some_and(|text| text.contains("continue"))
    );
    assert_eq!(aside("sinch", JSON, r#"{"event":"ice"}"#), None);
    assert!(aside("bandwidth", JSON, r#"{"eventType":"disconnect"}"#).is_some());
    assert_eq!(aside("bandwidth", JSON, r#"{"eventType":"initiate"}"#), None);
}

#[test]
fn parameters_that_cannot_be_written_are_left_out_whole() {
    let plivo = Answer::of("plivo").expect("plivo");
    let parameters = [
        ("from", "+1 (555) 01"),
        ("to", "***"),
        ("long", &*"9".repeat(LONGEST + 1)),
        ("odd", "1\n2"),
    ];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let document = plivo.document("wss://b.example/p", &Credential::Untold, &parameters);
    assert!(document.contains(r#"extraHeaders="from=155501">"#), "{document}");
    let none = plivo.document("wss://b.example/p", &Credential::Untold, &[]);
    assert!(!none.contains("extraHeaders"), "{none}");
    let twilio = Answer::of("twilio").expect("twilio");
    let document = twilio.document("wss://b.example/p", &Credential::Untold, &parameters);
    assert!(
        document.contains("***") && !document.contains("99999") && !document.contains("odd"),
        "{document}"
    );
    assert!(plivo.takes("tenant", "a-b").is_err() && plivo.takes("tenant", "ab").is_ok());
    assert!(twilio.takes("tenant", "a-b").is_ok() && twilio.takes("tenant", "").is_err());
    assert!(Answer::of("kazoo").expect("kazoo").takes("tenant", "t1").is_err());
}
