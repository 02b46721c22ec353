//! Webhooks: what other people's libraries sign is answered, and nothing that differs from it in any part.
//!
//! Signatures by twilio 9.13.0, signalwire 2.1.1, plivo 4.63.0, PyJWT 2.15.1 (as vonage-jwt 1.1.5 verifies it) and cryptography 50.0.2
//! (as telnyx 4.189.0 verifies it), all from Python; Sinch's is the example of its documentation, and one of SignalWire's that of its
//! SDK for PHP. jambonz has no library: made with Python's own `hmac`, as its server does. Every key was made for tests.

use ringback_proto::UnixSeconds;
use ringback_proto::provider::answer::Method;
use ringback_proto::provider::auth::{
    JambonzSecrets, Jwt, JwtKeys, SECONDS_REMEMBERED, SinchSecrets, TelnyxKey, jambonz_signature,
    plivo_webhook_text, signalwire_signature, sinch_signature, twilio_signature,
};
use ringback_proto::provider::{Auth, Rejection, Replays, Secret, Webhook, WebhookAuth};

use super::NOW;

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded; charset=UTF-8");
const JSON: (&str, &str) = ("content-type", "application/json");

/// A request and what it must bring.
#[derive(Clone)]
struct Case {
    name: &'static str,
    auth: WebhookAuth,
    method: Method,
    target: &'static str,
    url: &'static str,
    fields: Vec<(&'static str, String)>,
    body: &'static str,
    /// When it was signed, if that is told.
    made: Option<u64>,
    /// Whether the query is signed.
    query: bool,
    /// Whether the URL is.
    covers_url: bool,
}

impl Case {
    fn ask(&self, now: u64, replays: &mut Replays) -> Result<(), Rejection> {
        let fields: Vec<_> = self.fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let webhook = Webhook {
            method: self.method,
            target: self.target,
            public_url: self.url,
            headers: &fields,
            body: self.body.as_bytes(),
        };
        self.auth.check(&webhook, UnixSeconds(now), replays)
    }

    fn now(&self) -> u64 {
        self.made.unwrap_or(NOW)
    }

    #[track_caller]
    fn accept(&self, why: &str) {
        let asked = self.ask(self.now(), &mut Replays::default());
        asked.unwrap_or_else(|refusal| panic!("{}, {why}: {refusal}", self.name));
    }

    /// Must not be answered; what the peer is told is the same for all, and nothing it sent is repeated.
    #[track_caller]
    fn refuse(&self, why: &str) -> String {
        self.refuse_at(self.now(), &mut Replays::default(), why)
    }

    #[track_caller]
    fn refuse_at(&self, now: u64, replays: &mut Replays, why: &str) -> String {
        let refusal = self.ask(now, replays).expect_err(&format!("{}, {why}: answered", self.name));
        assert_eq!(
            (refusal.status(), refusal.public()),
            (401, "authentication failed; the bridge's log says why")
        );
        let reason = refusal.to_string();
        for (_, value) in self.fields.iter().filter(|(_, value)| !value.is_empty()) {
            assert!(!reason.contains(value.as_str()), "{}: {reason}", self.name);
        }
        reason
    }

    fn but(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut other = self.clone();
        change(&mut other);
        other
    }

    fn set(&mut self, name: &str, value: String) {
        let field = self.fields.iter_mut().find(|(found, _)| *found == name).expect("a field");
        field.1 = value;
    }
}

/// The same but for one letter in the middle.
fn changed(text: &str) -> String {
    let (before, rest) = text.split_at(text.len() / 2);
    let other = if rest.starts_with('x') { 'y' } else { 'x' };
    format!("{before}{other}{}", &rest[1..])
}

fn fields(fields: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

fn secrets(texts: &[&str]) -> Vec<Secret> {
    texts.iter().map(|text| Secret::from(*text)).collect()
}

const TWILIO: &str = "12345678901234567890123456789012";
const TWILIO_FORM: &str = "CallSid=CA0123&From=%2B15550100001&To=%2B15550100002&CallerName=Jos%C3%A9+%26+%E2%80%9Cco%E2%80%9D&Empty=";

fn twilio(name: &'static str, target: &'static str, signature: &str, body: &'static str) -> Case {
    Case {
        name,
        auth: WebhookAuth::Common(Auth::TwilioSignature {
            tokens: secrets(&["of-another-account-while-it-is-rotated", TWILIO]),
            shared_keys: vec![("key_1".into(), Secret::from(TWILIO))],
        }),
        method: if body.is_empty() { Method::Get } else { Method::Post },
        target,
        url: "https://bridge.example.com/twilio/answer",
        fields: fields(&[FORM, ("x-twilio-signature", signature)]),
        body,
        made: None,
        query: true,
        covers_url: true,
    }
}

const SIGNALWIRE: &str = "PSKtest1234567890abcdef";
const SIGNALWIRE_FORM: &str = "CallSid=7d56&From=%2B15550100001&To=%2B15550100002";

fn signalwire(name: &'static str, field: &'static str, signature: &str) -> Case {
    Case {
        name,
        auth: WebhookAuth::SignalWireSignature { keys: secrets(&["old", SIGNALWIRE]) },
        method: Method::Post,
        target: "/signalwire/answer",
        url: "https://bridge.example.com/signalwire/answer",
        fields: fields(&[FORM, (field, signature)]),
        body: SIGNALWIRE_FORM,
        made: None,
        query: true,
        covers_url: true,
    }
}

const PLIVO: &str = "MjU1MDg4YzQ0YWQ0NDZkNzg2ZjA5ZWQ1MmU1MzM2";

fn plivo(name: &'static str, target: &'static str, signature: &str, body: &'static str) -> Case {
    Case {
        name,
        auth: WebhookAuth::Common(Auth::PlivoSignature {
            prefix: "x-plivo".into(),
            tokens: secrets(&["old", PLIVO]),
            allow_unsigned: false,
        }),
        method: if body.is_empty() { Method::Get } else { Method::Post },
        target,
        url: "https://bridge.example.com/v1/plivo/answer",
        fields: fields(&[
            FORM,
            ("x-plivo-signature-v3", signature),
            ("x-plivo-signature-v3-nonce", "12345"),
        ]),
        body,
        made: None,
        query: true,
        covers_url: true,
    }
}

const VONAGE: &str = "vonage-signature-secret-0123456789abcdef";
const VONAGE_BODY: &str = r#"{"from":"447700900001","to":"447700900002","uuid":"u"}"#;
const VONAGE_POST: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJWb25hZ2UiLCJpYXQiOjE4MDAwMDAwMDAsImp0aSI6IjhhNWMxZjBlLTAwMDAtNDAwMC04MDAwLTAwMDAwMDAwMDAwMyIsImFwaV9rZXkiOiJhYmNkMTIzNCIsImFwcGxpY2F0aW9uX2lkIjoiYWFhYWFhYWEtYmJiYi1jY2NjLWRkZGQtMDEyMzQ1Njc4OWFiIiwicGF5bG9hZF9oYXNoIjoiNzBiZmI5MTUzNDRlOGVmYmExN2Y1OGE4MWMzZDYxODk1OTgyMjUzYWE3N2YwMTU5Mjc4OWYwYjg5YzkxOGUzYiJ9.Y8m2yN7E4O50XmK07ecvXGrGy8rXl28cK0xj4mzPUhQ";
const VONAGE_GET: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJWb25hZ2UiLCJpYXQiOjE4MDAwMDAwMDAsImp0aSI6IjhhNWMxZjBlLTAwMDAtNDAwMC04MDAwLTAwMDAwMDAwMDAwMyIsImFwaV9rZXkiOiJhYmNkMTIzNCIsImFwcGxpY2F0aW9uX2lkIjoiYWFhYWFhYWEtYmJiYi1jY2NjLWRkZGQtMDEyMzQ1Njc4OWFiIiwicGF5bG9hZF9oYXNoIjoiOWJmMWFjODJmMWVhZmUxNzZiNGY0NWY3ZDc1NTI2YzUxMDY3ZDZmYWQ3ZDhkZjMzNDI1NGQ0OGJiZGIyNGU5NSJ9.duP98GtbNvmY5m7oMZnsS94kJD4xXOkv8pZS0oJkFw0";
const VONAGE_NO_HASH: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJWb25hZ2UiLCJpYXQiOjE4MDAwMDAwMDAsImp0aSI6IjhhNWMxZjBlLTAwMDAtNDAwMC04MDAwLTAwMDAwMDAwMDAwMyIsImFwaV9rZXkiOiJhYmNkMTIzNCIsImFwcGxpY2F0aW9uX2lkIjoiYWFhYWFhYWEtYmJiYi1jY2NjLWRkZGQtMDEyMzQ1Njc4OWFiIn0.VtMLBGuJWZbf5aezfuYVcmj3vLz3FwzVVIBdVbCJqps";

fn vonage(name: &'static str, target: &'static str, token: &str, body: &'static str) -> Case {
    Case {
        name,
        auth: WebhookAuth::Common(Auth::Jwt(Jwt::vonage(secrets(&["old", VONAGE])))),
        method: if body.is_empty() { Method::Get } else { Method::Post },
        target,
        url: "https://bridge.example.com/vonage/answer",
        fields: fields(&[JSON, ("authorization", &format!("Bearer {token}"))]),
        body,
        made: Some(NOW),
        query: body.is_empty(),
        covers_url: false,
    }
}

fn telnyx() -> Case {
    Case {
        name: "telnyx",
        auth: WebhookAuth::TelnyxSignature {
            key: TelnyxKey::parse("A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=").expect("a key"),
        },
        method: Method::Post,
        target: "/telnyx/answer",
        url: "https://bridge.example.com/telnyx/answer",
        fields: fields(&[
            FORM,
            (
                "telnyx-signature-ed25519",
                "Z0MHEkmnvfQiEFEMJ8Q+hdQG9bA7zikd7IT8L4jN3FeSnFx0riTJ5itI60ZGJsvDUwr9GNw52mL2OGzT7Jb0AA==",
            ),
            ("telnyx-timestamp", "1800000000"),
        ]),
        body: "CallSid=v3%3Aabc&From=%2B15550100001",
        made: Some(NOW),
        query: false,
        covers_url: false,
    }
}

fn sinch() -> Case {
    Case {
        name: "sinch",
        auth: WebhookAuth::SinchSignature(SinchSecrets {
            application: "669E367E-6BBA-48AB-AF15-266871C28135".into(),
            secrets: secrets(&["b2xk", "BeIukql3pTKJ8RGL5zo0DA=="]),
        }),
        method: Method::Post,
        target: "/other/path/behind/a/proxy",
        url: "https://callbacks.yourdomain.com/sinch/callback/ace",
        fields: fields(&[
            JSON,
            (
                "authorization",
                "application 669E367E-6BBA-48AB-AF15-266871C28135:Tg6fMyo8mj9pYfWQ9ssbx3Tc1BNC87IEygAfLbJqZb4=",
            ),
            ("x-timestamp", "2014-09-24T10:59:41Z"),
        ]),
        body: r#"{"event":"ace","callid":"822aa4b7-05b4-4d83-87c7-1f835ee0b6f6_257","timestamp":"2014-09-24T10:59:41Z","version":1}"#,
        made: Some(1_411_556_381),
        query: false,
        covers_url: true,
    }
}

fn jambonz() -> Case {
    let signature =
        "t=1800000000,v1=4a0cd85b118d2f3dddaeedef1945f2b73cb593a6a9513d5bf0ef45b6670c948f";
    Case {
        name: "jambonz",
        auth: WebhookAuth::JambonzSignature(JambonzSecrets(secrets(&[
            "old",
            "jambonz-webhook-secret",
        ]))),
        method: Method::Post,
        target: "/jambonz/answer",
        url: "https://bridge.example.com/jambonz/answer",
        fields: fields(&[JSON, ("jambonz-signature", signature)]),
        body: r#"{"call_sid":"c-1","from":"+15550100001"}"#,
        made: Some(NOW),
        query: false,
        covers_url: false,
    }
}

fn all() -> Vec<Case> {
    let query = "/twilio/answer?b=2&a=1%20x";
    let plivo_query = "/v1/plivo/answer?b=2&a=1";
    let compat = "aOrKKbz5tS+fXZ06FSe//WLu+7Q=";
    let hex = "30bedc1244bcb00c4111d937b6e2dbaea9df0e2e";
    let sha256 = "65d22c361a2dddb90ef090e015d933fe63c5fbf1b9ed869b693c437a8cbb72ee";
    let digested = "/twilio/answer?bodySHA256=5a994ffff9bd17828d4717f70397d6db6f1df9d62d93d378ce7d437869200db8";
    vec![
        twilio("twilio, form", "/twilio/answer", "OQg9AyH73hLL/jgJjvOudQZ9OP0=", TWILIO_FORM),
        twilio("twilio, port", "/twilio/answer", "fZvCjt6YZHVvfsWLqYQ9c/VZHQE=", TWILIO_FORM),
        twilio("twilio, query and form", query, "nQ98L8GVN5hni9xI9VYzDjE+OJk=", TWILIO_FORM),
        twilio("twilio, GET", query, "5+3EcZ1H+4lZBSI3kCZy2QCI9LE=", ""),
        twilio(
            "twilio, twice",
            "/twilio/answer",
            "rwsiFqIwPQh0GJ6QfwHw4Ewvl2U=",
            "A=2&A=1&A=2&B=x",
        ),
        twilio(
            "twilio, JSON",
            digested,
            "nTp01pvCWPBdL5J2k/D6m4qblf0=",
            r#"{"CallSid":"CA1","From":"+15550100001"}"#,
        )
        .but(|case| case.set("content-type", "application/json".into())),
        twilio(
            "twilio, shared key",
            "/twilio/answer",
            "6ggkP7gm4JrrcnFbmeG7LDpMANkT1qKSwV/rqPK0+vg=",
            TWILIO_FORM,
        )
        .but(|case| {
            case.fields.push((
                "x-twilio-webhooks-signature-settings",
                "key=key_1,algorithm=HMAC_SHA256".into(),
            ));
        }),
        signalwire("signalwire, as Twilio", "x-signalwire-signature", compat),
        signalwire("signalwire, port", "x-signalwire-signature", "uQWD62WNqSJ5a8IpUqAcU5vyVs8="),
        signalwire("signalwire, alias", "x-twilio-signature", compat),
        signalwire("signalwire, raw body", "x-signalwire-signature", hex),
        signalwire("signalwire, SHA-256", "x-signalwire-sha256-signature", sha256),
        signalwire(
            "signalwire, PHP",
            "x-signalwire-signature",
            "c3c08c1fefaf9ee198a100d5906765a6f394bf0f",
        )
        .but(|case| {
            case.url = "https://example.ngrok.io/webhook";
            case.body =
                r#"{"event":"call.state","params":{"call_id":"abc-123","state":"answered"}}"#;
            case.set("content-type", "application/json".into());
        }),
        plivo("plivo, GET", plivo_query, "CYuvSnIH/nzXNZZ8p3c+aVx+srHd7MBdz+TcVMdjK/o=", ""),
        plivo(
            "plivo, query and form",
            plivo_query,
            "x,Pva8sKLyF5Wt83h5bxlU+4aD3pLG0soigkbGmkumAPM=",
            "CallUUID=abc&From=15551230000",
        ),
        plivo(
            "plivo, form",
            "/v1/plivo/answer",
            "jAktmaH0PyDdT+8kU9CLNsTv33YktucquoHK1KoFUGs=",
            "CallUUID=abc&From=15551230000&To=%2B1555+%26+co&Empty=",
        ),
        plivo(
            "plivo, twice",
            "/v1/plivo/answer",
            "8bhkXwniBbhMYh6/Kq0/Pg22l2ysT5RQruAfeZVdMcQ=",
            "A=2&A=1&B=x",
        ),
        vonage("vonage, POST", "/vonage/answer", VONAGE_POST, VONAGE_BODY),
        vonage(
            "vonage, GET",
            "/vonage/answer?from=447700900001&to=447700900002&uuid=a+b",
            VONAGE_GET,
            "",
        ),
        telnyx(),
        sinch(),
        jambonz(),
    ]
}

#[test]
fn what_other_libraries_sign_is_answered() {
    for case in all() {
        case.accept("as it is");
    }
}

#[test]
fn nothing_is_answered_that_was_changed_in_any_part() {
    let mut refused = 0;
    for case in all() {
        let mut refuse = |why: &str, change: &dyn Fn(&mut Case)| {
            case.but(change).refuse(why);
            refused += 1;
        };
        for (name, value) in &case.fields {
            // Twilio's field that says with which key, and the kind of body, are no signatures.
            let is_signed =
                !["content-type", "x-twilio-webhooks-signature-settings"].contains(name);
            if is_signed {
                refuse("without a field", &|case| case.fields.retain(|(found, _)| found != name));
                refuse("an empty field", &|case| case.set(name, String::new()));
                refuse("another field", &|case| case.set(name, changed(value)));
                for (at, other) in [(0, "another"), (1, "another"), (0, value)] {
                    refuse("a field twice", &|case| {
                        let found = case.fields.iter().position(|(found, _)| found == name);
                        let index = found.expect("it is there") + at;
                        case.fields.insert(index, (name, other.to_owned()));
                    });
                }
                refuse("a field cut short", &|case| {
                    case.set(name, value[..value.len() / 2].to_owned());
                });
            }
        }
        if !case.body.is_empty() {
            refuse("another body", &|case| case.body = "From=%2B19990000000&CallSid=CA0123");
            refuse("no body", &|case| case.body = "");
        }
        if case.covers_url {
            refuse("another host", &|case| case.url = "https://evil.example/twilio/answer");
            refuse("another scheme", &|case| case.url = "wss://bridge.example.com/twilio/answer");
        }
        if case.query {
            refuse("more in the query", &|case| case.target = "/x?b=2&a=1%20x&From=%2B1999");
        }
        if case.body.is_empty() {
            for (kind, body) in
                [(FORM, "From=%2B19990000000"), (JSON, r#"{"From":"+19990000000"}"#)]
            {
                refuse("a body by GET", &|case| {
                    case.body = body;
                    case.set("content-type", kind.1.into());
                    case.method = Method::Post;
                });
            }
        }
    }
    assert!(refused > 200, "{refused}");
    println!("webhooks: answered {0} of {0}, refused {refused} of {refused}", all().len());
}

#[test]
fn nobody_is_answered_where_there_are_no_secrets() {
    let none = [
        (
            0,
            WebhookAuth::Common(Auth::TwilioSignature {
                tokens: secrets(&[""]),
                shared_keys: vec![],
            }),
        ),
        (7, WebhookAuth::SignalWireSignature { keys: secrets(&[""]) }),
        (
            13,
            WebhookAuth::Common(Auth::PlivoSignature {
                prefix: "x-plivo".into(),
                tokens: vec![],
                allow_unsigned: false,
            }),
        ),
        (17, WebhookAuth::Common(Auth::Jwt(Jwt::vonage(vec![])))),
        (
            20,
            WebhookAuth::SinchSignature(SinchSecrets {
                application: "669E367E-6BBA-48AB-AF15-266871C28135".into(),
                secrets: secrets(&[""]),
            }),
        ),
        (21, WebhookAuth::JambonzSignature(JambonzSecrets(vec![]))),
        (0, WebhookAuth::Common(Auth::Path { tokens: secrets(&["answer"]) })),
    ];
    for (index, auth) in none {
        all()[index].but(|case| case.auth = auth).refuse("no secrets");
    }
    for text in ["", "AAAA", "!", "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="] {
        // The last is a point by which one signature fits many messages.
        assert_eq!(TelnyxKey::parse(text), None, "{text}");
    }
}

#[test]
fn signatures_with_a_time_count_for_minutes_and_once() {
    let mut timed = 0;
    for case in all() {
        let Some(made) = case.made else { continue };
        timed += 1;
        let mut replays = Replays::default();
        case.refuse_at(made + 302, &mut replays, "too late");
        case.refuse_at(made - 302, &mut replays, "too early");
        case.ask(made + 20, &mut replays).expect(case.name);
        for after in [20, 21, 299] {
            let reason = case.refuse_at(made + after, &mut replays, "again");
            assert!(reason.contains("once") || reason.contains("only one"), "{reason}");
        }
        case.refuse_at(made + SECONDS_REMEMBERED, &mut replays, "when it is forgotten");
    }
    assert_eq!(timed, 5);
}

#[test]
fn a_signature_over_the_url_alone_vouches_for_no_body() {
    let url = "https://bridge.example.com/signalwire/answer";
    let signature = twilio_signature(&Secret::from(SIGNALWIRE), url);
    let get = signalwire("signalwire, GET", "x-signalwire-signature", &signature).but(|case| {
        case.method = Method::Get;
        case.body = "";
    });
    get.accept("nothing but the URL was sent");
    for (kind, body) in [(FORM, SIGNALWIRE_FORM), (JSON, r#"{"From":"+15550100001"}"#)] {
        get.but(|case| {
            case.method = Method::Post;
            case.body = body;
            case.set(kind.0, kind.1.into());
        })
        .refuse("a body behind it");
    }
}

#[test]
fn who_signs_bodies_alone_is_heard_by_post_alone() {
    for case in [sinch(), jambonz()] {
        case.accept("by POST");
        let reason = case.but(|case| case.method = Method::Get).refuse("by GET");
        assert!(reason.contains("POST"), "{reason}");
    }
}

#[test]
fn a_token_that_does_not_vouch_for_the_body_is_refused() {
    let body = vonage("no hash, POST", "/vonage/answer", VONAGE_NO_HASH, VONAGE_BODY);
    assert!(body.refuse("no hash").contains("does not vouch for the body"));
    // Nothing is told by a query that matters to more than one call; the token is signed, of this minute, and used up.
    vonage("no hash, GET", "/vonage/answer", VONAGE_NO_HASH, "").accept("no body");
    let any = WebhookAuth::Common(Auth::Jwt(Jwt {
        max_age: Some(300),
        ..Jwt::new(JwtKeys::Shared(secrets(&[VONAGE])))
    }));
    body.but(|case| case.auth = any).accept("of others that is not known to be so");
}

#[test]
fn a_token_answers_a_webhook_or_opens_a_stream() {
    let case = vonage("vonage", "/vonage/answer", VONAGE_NO_HASH, "");
    let mut replays = Replays::default();
    case.ask(NOW, &mut replays).expect("the webhook");
    let fields: Vec<_> = case.fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let webhook = Webhook {
        method: Method::Get,
        target: "/vonage",
        public_url: "wss://b/vonage",
        headers: &fields,
        body: b"",
    };
    let WebhookAuth::Common(auth) = &case.auth else { panic!("a token") };
    assert!(auth.check(&webhook.head(), UnixSeconds(NOW), &mut replays).is_err());
}

#[test]
fn whoever_plays_a_provider_signs_as_it_does() {
    let sinch = sinch();
    let fields: Vec<_> = sinch.fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let webhook = Webhook {
        method: Method::Post,
        target: "/",
        public_url: sinch.url,
        headers: &fields,
        body: sinch.body.as_bytes(),
    };
    let secret = Secret::from("BeIukql3pTKJ8RGL5zo0DA==");
    let made = sinch_signature("669E367E-6BBA-48AB-AF15-266871C28135", &secret, &webhook);
    assert_eq!(made.as_deref(), Some(sinch.fields[1].1.as_str()));
    let jambonz = jambonz();
    let secret = Secret::from("jambonz-webhook-secret");
    let made = jambonz_signature(&secret, UnixSeconds(NOW), jambonz.body.as_bytes());
    assert_eq!(made, jambonz.fields[1].1);
    let url = "https://bridge.example.com/signalwire/answer";
    let made = signalwire_signature(&Secret::from(SIGNALWIRE), url, SIGNALWIRE_FORM.as_bytes());
    assert_eq!(made, "30bedc1244bcb00c4111d937b6e2dbaea9df0e2e");
    let form = Webhook {
        method: Method::Post,
        target: "/?b=2&a=1",
        public_url: "https://b/a",
        headers: &[FORM],
        body: b"z=1&c=2",
    };
    assert_eq!(plivo_webhook_text(&form).as_deref(), Some("https://b/a?a=1&b=2.c2z1"));
}
