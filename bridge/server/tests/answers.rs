//! Providers that ask over HTTP what to do with a call: who is told, what, and what everybody else hears. Over sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot make its case has failed")]

mod support;

use base64_simd::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use ringback::clock::WallTime;
use ringback::connect::{PublicUrl, page};
use ringback_proto::UnixSeconds;
use ringback_proto::provider::answer::Method;
use ringback_proto::provider::auth::{
    hs256, jambonz_signature, plivo_signature, plivo_webhook_text, signalwire_signature,
    sinch_signature, twilio_signature,
};
use ringback_proto::provider::{Answer, Auth, Credential, PROVIDERS, Secret, Webhook, WebhookAuth};
use support::{Folder, Host, quoted, soon};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const ROUTE: &str = "[[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n[[route]]\nname = \"default\"\nmodules = [\"echo\"]\n";
const BASIC: &str = "authorization: Basic cmluZ2JhY2s6czNjcmV0\r\n";
const FORM: &str = "application/x-www-form-urlencoded";

/// What came back.
#[derive(Debug)]
struct Response {
    status: u16,
    head: String,
    body: String,
}

impl Response {
    fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

async fn exchange(mut io: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> Response {
    // Who is refused early may not have read all of it.
    let _ = io.write_all(request).await;
    let mut octets = Vec::new();
    let _ = soon("the answer", io.read_to_end(&mut octets)).await;
    let text = String::from_utf8(octets).expect("answers are text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("cut short: {text}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.expect("an answer begins with its status");
    Response { status, head: head.to_owned(), body: body.to_owned() }
}

fn request(method: &str, target: &str, fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let length =
        if body.is_empty() { String::new() } else { format!("content-length: {length}\r\n") };
    format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\n{fields}{length}\r\n{body}")
        .into_bytes()
}

async fn ask(host: &Host, method: &str, target: &str, fields: &str, body: &str) -> Response {
    exchange(host.connect().await, &request(method, target, fields, body)).await
}

fn form(fields: &str) -> String {
    format!("content-type: {FORM}\r\n{fields}")
}

/// A secret in a file of its own.
fn secret() -> (Folder, String) {
    let folder = Folder::new("answers");
    let path = folder.write("secret", "s3cret\n");
    (folder, quoted(format!("file:{}", path.display())))
}

fn listener(provider: &str, rest: &str) -> String {
    format!(
        "{ROUTE}[[listener]]\nname = \"{provider}\"\npath = \"/in/{provider}\"\nprovider = \"{provider}\"\npublic_url = \"wss://bridge.example/in/{provider}\"\n{rest}\n"
    )
}

/// Every way in which a provider's answer can carry the stream's credential, as configuration.
fn stream_auth(answer: &Answer, secret: &str) -> Vec<String> {
    let known = [
        (Credential::Untold, "{ kind = \"none\" }".to_owned()),
        (
            Credential::Basic("u", "p"),
            format!("{{ kind = \"basic\", user = \"ring\", password = {secret} }}"),
        ),
        (Credential::Bearer("t"), format!("{{ kind = \"bearer\", token = {secret} }}")),
        (
            Credential::Query("n", "t"),
            format!("{{ kind = \"query\", parameter = \"key\", token = {secret} }}"),
        ),
        (Credential::Path("t"), format!("{{ kind = \"path\", token = {secret} }}")),
    ];
    known.into_iter().filter(|(c, _)| answer.carries(c).is_ok()).map(|(_, toml)| toml).collect()
}

/// The document is whole and tells where to stream.
fn assert_told(provider: &str, response: &Response) {
    let Response { status, body, .. } = response;
    assert_eq!(*status, 200, "{provider}: {response:?}");
    assert_eq!(response.field("cache-control"), Some("no-store"), "{provider}");
    assert_eq!(response.field("connection"), Some("close"), "{provider}");
    match response.field("content-type") {
        Some("application/xml") => {
            roxmltree::Document::parse(body).unwrap_or_else(|error| panic!("{error}: {body}"));
        }
        Some("application/json") => {
            serde_json::from_str::<serde_json::Value>(body)
                .unwrap_or_else(|error| panic!("{error}: {body}"));
        }
        other => panic!("{provider}: {other:?}"),
    }
    assert!(body.contains(&format!("bridge.example/in/{provider}")), "{provider}: {body}");
    assert!(!body.contains("{{"), "{provider}: {body}");
}

/// Nothing of what only the provider may know.
fn assert_untold(what: &str, status: u16, response: &Response) {
    assert_eq!(response.status, status, "{what}: {response:?}");
    for word in ["bridge.example", "s3cret", "Stream", "ring"] {
        assert!(!response.body.contains(word), "{what}: {}", response.body);
    }
}

#[tokio::test]
async fn whoever_asks_with_the_right_credential_is_told_to_stream_here() {
    let (_folder, secret) = secret();
    let mut told = 0;
    for provider in PROVIDERS.iter().map(|provider| provider.name()) {
        let Some(answer) = Answer::of(provider) else { continue };
        for auth in stream_auth(answer, &secret) {
            let toml = listener(
                provider,
                &format!(
                    "auth = {auth}\nanswer = {{ auth = {{ kind = \"basic\", user = \"ringback\", password = {secret} }} }}"
                ),
            );
            let host = Host::on_loopback(&toml);
            let target = format!("/in/{provider}/answer");
            let body = "From=%2B15550100001&To=%2B15550100002&CallSid=CA1";
            assert_told(provider, &ask(&host, "POST", &target, &form(BASIC), body).await);
            assert_told(provider, &ask(&host, "GET", &format!("{target}?{body}"), BASIC, "").await);
            let json = format!("content-type: application/json\r\n{BASIC}");
            assert_told(provider, &ask(&host, "POST", &target, &json, r#"{"from":"1"}"#).await);
            let wrong = "authorization: Basic cmluZ2JhY2s6d3Jvbmc=\r\n";
            for (what, fields) in
                [("wrong", wrong), ("missing", ""), ("scheme", "authorization: Bearer s3cret\r\n")]
            {
                let response = ask(&host, "POST", &target, &form(fields), body).await;
                assert_untold(&format!("{provider}, {what}"), 401, &response);
                let challenge = response.field("www-authenticate");
                assert_eq!(challenge, Some("Basic realm=\"ringback\""), "{provider}");
            }
            host.stop().await;
            told += 1;
        }
    }
    assert!(told > PROVIDERS.len(), "{told}");
}

#[tokio::test]
async fn the_numbers_and_the_listener_s_own_parameters_are_passed_on() {
    let (_folder, secret) = secret();
    let toml = listener(
        "twilio",
        &format!(
            "auth = {{ kind = \"path\", token = {secret} }}\n[listener.answer]\npath = \"/asked\"\nauth = {{ kind = \"query\", parameter = \"key\", token = {secret} }}\nparameters = {{ tenant = \"<t&1>\", to = \"the desk\" }}"
        ),
    );
    let host = Host::on_loopback(&toml);
    let body = "From=%2B1555%3C%22%26%7B%7Burl%7D%7D&To=%2B15550100002&CallSid=CA1";
    let response = ask(&host, "POST", "/asked?key=s3cret", &form(""), body).await;
    let document = roxmltree::Document::parse(&response.body).unwrap();
    let attribute =
        |node: roxmltree::Node<'_, '_>, name: &str| node.attribute(name).unwrap().to_owned();
    let named =
        |name: &'static str| document.descendants().filter(move |node| node.has_tag_name(name));
    let stream = named("Stream").next().unwrap();
    assert_eq!(attribute(stream, "url"), "wss://bridge.example/in/twilio/s3cret");
    let parameters: Vec<_> = named("Parameter")
        .map(|node| (attribute(node, "name"), attribute(node, "value")))
        .collect();
    let expected = [("from", "+1555<\"&{{url}}"), ("tenant", "<t&1>"), ("to", "the desk")];
    assert_eq!(parameters, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    // Not where it is by default, and nothing but there.
    assert_eq!(
        ask(&host, "POST", "/in/twilio/answer?key=s3cret", &form(""), body).await.status,
        405
    );
    assert_eq!(ask(&host, "POST", "/asked/?key=s3cret", &form(""), body).await.status, 404);
    assert_untold("wrong", 403, &ask(&host, "POST", "/asked?key=wrong", &form(""), body).await);
    assert_untold("missing", 403, &ask(&host, "POST", "/asked", &form(""), body).await);
    host.stop().await;
}

#[tokio::test]
async fn a_provider_with_two_languages_is_answered_in_its_own() {
    let (_folder, secret) = secret();
    let auth = format!("auth = {{ kind = \"bearer\", token = {secret} }}\nanswer = {{ {BY_KEY} }}");
    let host = Host::on_loopback(&listener("signalwire", &auth.replace("{secret}", &secret)));
    let body = r#"{"call":{"call_id":"c-1","from":"+15550100001","to":"+15550100002"}}"#;
    let fields = "content-type: application/json\r\n";
    let response = ask(&host, "POST", "/in/signalwire/answer?key=s3cret", fields, body).await;
    assert_told("signalwire", &response);
    assert_eq!(response.field("content-type"), Some("application/json"));
    assert!(
        response.body.contains("\"stream:wss://bridge.example/in/signalwire\""),
        "{response:?}"
    );
    assert!(response.body.contains("s3cret") && response.body.contains("+15550100001"));
    let (fields, body) = (form(""), "From=%2B15550100001&CallSid=c");
    let response = ask(&host, "POST", "/in/signalwire/answer?key=s3cret", &fields, body).await;
    assert_eq!(response.field("content-type"), Some("application/xml"));
    host.stop().await;
}

/// Whoever knows the word may ask.
const BY_KEY: &str = r#"auth = { kind = "query", parameter = "key", token = {secret} }"#;

#[tokio::test]
async fn a_webhook_about_something_else_is_noted_and_no_stream_asked_for() {
    let host = Host::on_loopback(&listener("plivo", "answer = {}"));
    let response = ask(&host, "POST", "/in/plivo/answer", &form(""), "Event=Hangup&From=1").await;
    assert_eq!((response.status, response.field("content-type")), (200, Some("application/xml")));
    assert!(
        response.body.contains("<Response/>") && !response.body.contains("Stream"),
        "{}",
        response.body
    );
    host.stop().await;
}

#[tokio::test]
async fn methods_bodies_and_kinds_that_are_not_read_are_refused_by_name() {
    let host = Host::on_loopback(&listener("twilio", "answer = {}"));
    let target = "/in/twilio/answer";
    for method in ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let response = ask(&host, method, target, "", "").await;
        assert_eq!(
            (response.status, response.field("allow")),
            (405, Some("GET, POST")),
            "{method}"
        );
    }
    for kind in [
        "multipart/form-data; boundary=x",
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded-not",
    ] {
        let fields = format!("content-type: {kind}\r\n");
        assert_untold(kind, 415, &ask(&host, "POST", target, &fields, "From=1").await);
    }
    assert_untold("no kind", 415, &ask(&host, "POST", target, "", "From=1").await);
    assert_told("twilio", &ask(&host, "POST", target, "", "").await);
    let most = "x".repeat(64 * 1024);
    assert_told("twilio", &ask(&host, "POST", target, &form(""), &most).await);
    assert_untold(
        "too long",
        413,
        &ask(&host, "POST", target, &form(""), &format!("{most}x")).await,
    );
    // Without a length said before, the octets are counted.
    let mut chunks = request("POST", target, &form("transfer-encoding: chunked\r\n"), "");
    for _ in 0..9 {
        chunks.extend(format!("2000\r\n{}\r\n", "x".repeat(0x2000)).bytes());
    }
    chunks.extend(b"0\r\n\r\n");
    assert_untold("chunks", 413, &exchange(host.connect().await, &chunks).await);
    let odd = ask(&host, "POST", target, &form(""), "From=%00%ff&To=%&=&&&CallSid=%2").await;
    assert_told("twilio", &odd);
    let json = "content-type: application/json\r\n";
    assert_told("twilio", &ask(&host, "POST", target, json, "{not json").await);
    host.stop().await;
}

#[tokio::test]
async fn addresses_and_proxies_count_as_they_do_for_streams() {
    let toml = listener("twilio", "allow = [\"192.0.2.0/24\"]\nanswer = {}");
    let toml = format!("trusted_proxies = [\"127.0.0.0/8\"]\n{toml}");
    let host = Host::on_loopback(&toml);
    let target = "/in/twilio/answer";
    assert_untold("peer", 403, &ask(&host, "GET", target, "", "").await);
    assert_untold(
        "passed on",
        403,
        &ask(&host, "GET", target, "x-forwarded-for: 198.51.100.7\r\n", "").await,
    );
    assert_told("twilio", &ask(&host, "GET", target, "x-forwarded-for: 192.0.2.7\r\n", "").await);
    host.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let (host, connector) = Host::in_memory(&listener("twilio", "answer = {}"));
    let io = connector.connect().await.expect("the bridge listens");
    let half = format!(
        "POST /in/twilio/answer HTTP/1.1\r\nhost: localhost\r\ncontent-type: {FORM}\r\ncontent-length: 9\r\n\r\nFrom"
    );
    assert_untold("half a body", 408, &exchange(io, half.as_bytes()).await);
    host.stop().await;
}

#[tokio::test]
async fn a_bridge_that_would_refuse_the_stream_asks_for_none() {
    let host = Host::on_loopback(&listener("plivo", "max_calls = 1\nanswer = {}"));
    let target = "/in/plivo/answer";
    assert_told("plivo", &ask(&host, "GET", target, "", "").await);
    let mut stream = host.connect().await;
    let upgrade = "GET /in/plivo HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut octets = [0; 12];
    soon("the upgrade", stream.read_exact(&mut octets)).await.unwrap();
    assert_eq!(&octets, b"HTTP/1.1 101");
    let full = ask(&host, "GET", target, "", "").await;
    assert_untold("full", 503, &full);
    assert_eq!(full.field("retry-after"), Some("5"));
    assert_noted(&ask(&host, "GET", &format!("{target}?Event=Hangup"), "", "").await);
    host.shutdown.drain();
    let draining = ask(&host, "GET", target, "", "").await;
    assert_untold("draining", 503, &draining);
    assert_eq!(draining.field("retry-after"), Some("5"));
    assert_noted(&ask(&host, "GET", &format!("{target}?Event=Hangup"), "", "").await);
    drop(stream);
    host.stop().await;
}

/// The end of a call is heard by a bridge that takes no more of them.
fn assert_noted(response: &Response) {
    assert_eq!(response.status, 200, "{response:?}");
    assert!(response.body.contains("<Response/>"), "{response:?}");
}

#[tokio::test]
async fn a_webhook_that_is_told_to_come_again_may_come_with_the_same_signature() {
    let (_folder, secret) = secret();
    let toml = format!(
        "{ROUTE}[[listener]]\nname = \"one\"\npath = \"/in/jambonz\"\nprovider = \"jambonz\"\nmax_calls = 1\npublic_url = \"wss://bridge.example/in/jambonz\"\nauth = {{ kind = \"none\" }}\nanswer = {{ auth = {{ kind = \"jambonz-signature\", secret = {secret} }} }}\n"
    );
    let host = Host::on_loopback(&toml);
    let mut stream = host.connect().await;
    let upgrade = "GET /in/jambonz HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: audio.jambonz.org\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut octets = [0; 12];
    soon("the upgrade", stream.read_exact(&mut octets)).await.unwrap();
    assert_eq!(&octets, b"HTTP/1.1 101");
    let target = "/in/jambonz/answer";
    let body = r#"{"call_sid":"c-1"}"#;
    let signature = jambonz_signature(&Secret::from("s3cret"), UnixSeconds(now()), body.as_bytes());
    let fields = format!("content-type: application/json\r\njambonz-signature: {signature}\r\n");
    assert_untold("full", 503, &ask(&host, "POST", target, &fields, body).await);
    drop(stream);
    let told = async {
        loop {
            let response = ask(&host, "POST", target, &fields, body).await;
            if response.status != 503 {
                return response;
            }
        }
    };
    assert_told("jambonz", &soon("a free place", told).await);
    assert_untold("used", 403, &ask(&host, "POST", target, &fields, body).await);
    host.stop().await;
}

#[tokio::test]
async fn every_answer_is_counted_by_what_was_said() {
    let (_folder, secret) = secret();
    let toml = listener(
        "plivo",
        &format!(
            "auth = {{ kind = \"none\" }}\nanswer = {{ auth = {{ kind = \"bearer\", token = {secret} }} }}"
        ),
    );
    let host = Host::on_loopback(&toml);
    let token = "authorization: Bearer s3cret\r\n";
    let target = "/in/plivo/answer";
    let count = async |answer: &str| -> u64 {
        let text = ask(&host, "GET", "/metrics", "", "").await.body;
        let series = format!("ringback_webhooks_total{{answer=\"{answer}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&series));
        value.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
    };
    for (answer, fields, target) in [
        ("stream", token, target.to_owned()),
        ("noted", token, format!("{target}?Event=Hangup")),
        ("unauthorized", "", target.to_owned()),
    ] {
        let before = count(answer).await;
        ask(&host, "GET", &target, fields, "").await;
        assert!(count(answer).await > before, "{answer}");
    }
    let before = count("bad_request").await;
    ask(&host, "PUT", target, token, "").await;
    assert!(count("bad_request").await > before);
    host.stop().await;
}

#[tokio::test]
async fn a_signature_that_counts_once_counts_once_for_all_listeners_of_its_secret() {
    let (_folder, secret) = secret();
    let listener = |name: &str| {
        format!(
            "[[listener]]\nname = \"{name}\"\npath = \"/{name}\"\nprovider = \"jambonz\"\npublic_url = \"wss://bridge.example/{name}\"\nauth = {{ kind = \"none\" }}\nanswer = {{ auth = {{ kind = \"jambonz-signature\", secret = {secret} }} }}\n"
        )
    };
    let host = Host::on_loopback(&format!("{ROUTE}{}{}", listener("one"), listener("two")));
    let (body, present) = (r#"{"call_sid":"c-1"}"#, now());
    for (second, path, status) in
        [(0, "/one/answer", 200), (0, "/two/answer", 403), (1, "/two/answer", 200)]
    {
        // A second ago: the signature is over the time, and there are two.
        let made = UnixSeconds(present - second);
        let signature = jambonz_signature(&Secret::from("s3cret"), made, body.as_bytes());
        let fields =
            format!("content-type: application/json\r\njambonz-signature: {signature}\r\n");
        let response = ask(&host, "POST", path, &fields, body).await;
        assert_eq!(response.status, status, "{path}: {response:?}");
    }
    host.stop().await;
}

/// The key pair of an account at Telnyx, and a secret that is base64, as some must be.
const SEED: [u8; 32] = [7; 32];
const SECRET: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQ=";

/// A webhook as a provider would send it.
#[derive(Clone)]
struct Asking {
    method: Method,
    /// Path, as the page tells it.
    path: String,
    query: String,
    body: String,
    made: u64,
}

impl Asking {
    fn url(&self) -> String {
        format!("https://bridge.example.com{}", self.path)
    }

    fn target(&self) -> String {
        let between = if self.query.is_empty() { "" } else { "?" };
        format!("{}{between}{}", self.path, self.query)
    }

    /// With what proves that the provider sent it; a credential of the query is added there.
    fn proven(&self, auth: &WebhookAuth) -> (Self, String) {
        let secret = &Secret::from(SECRET);
        let kind = self.content_type();
        let time = format!("{:?}", self.made);
        let iso = "2026-01-01T00:00:00Z";
        let fields = [("content-type", kind), ("x-timestamp", iso)];
        let (url, target) = (self.url(), self.target());
        let webhook = Webhook {
            method: self.method,
            target: &target,
            public_url: &url,
            headers: &fields,
            body: self.body.as_bytes(),
        };
        let signed = [time.as_bytes(), b"|", self.body.as_bytes()].concat();
        let mut asking = self.clone();
        let fields = match auth {
            WebhookAuth::Common(Auth::TwilioSignature { .. }) => {
                let mut pairs = webhook.form();
                pairs.sort();
                let pairs: String =
                    pairs.into_iter().flat_map(|(name, value)| [name, value]).collect();
                let text = format!("{}{pairs}", webhook.asked());
                format!("x-twilio-signature: {}\r\n", twilio_signature(secret, &text))
            }
            WebhookAuth::Common(Auth::PlivoSignature { prefix, .. }) => {
                let text = plivo_webhook_text(&webhook).unwrap();
                let signature = plivo_signature(secret, &text, "nonce-1");
                format!(
                    "{prefix}-signature-v3: {signature}\r\n{prefix}-signature-v3-nonce: nonce-1\r\n"
                )
            }
            WebhookAuth::Common(Auth::Jwt(_)) => {
                format!("authorization: Bearer {}\r\n", hs256(secret, &self.claims()))
            }
            WebhookAuth::Common(Auth::Basic { user, .. }) => {
                let credentials = STANDARD.encode_to_string(format!("{user}:{SECRET}"));
                format!("authorization: Basic {credentials}\r\n")
            }
            WebhookAuth::Common(Auth::Header { name, .. }) => format!("{name}: {SECRET}\r\n"),
            WebhookAuth::Common(Auth::Query { name, .. }) => {
                asking.query = format!("{}&{name}={}", self.query, SECRET.replace('=', "%3D"));
                String::new()
            }
            WebhookAuth::SignalWireSignature { .. } => {
                let signature =
                    signalwire_signature(secret, &webhook.asked(), self.body.as_bytes());
                format!("x-signalwire-signature: {signature}\r\n")
            }
            WebhookAuth::TelnyxSignature { .. } => {
                let signature = SigningKey::from_bytes(&SEED).sign(&signed).to_bytes();
                let signature = STANDARD.encode_to_string(signature);
                format!("telnyx-signature-ed25519: {signature}\r\ntelnyx-timestamp: {time}\r\n")
            }
            WebhookAuth::SinchSignature(_) => {
                let iso = iso_8601(self.made);
                let fields = [("content-type", kind), ("x-timestamp", iso.as_str())];
                let webhook = Webhook { headers: &fields, ..webhook };
                let signature = sinch_signature(SECRET, secret, &webhook).unwrap();
                format!("authorization: {signature}\r\nx-timestamp: {iso}\r\n")
            }
            WebhookAuth::JambonzSignature(_) => {
                let signature =
                    jambonz_signature(secret, UnixSeconds(self.made), self.body.as_bytes());
                format!("jambonz-signature: {signature}\r\n")
            }
            other => panic!("nobody signs so: {}", other.kind()),
        };
        (asking, fields)
    }

    /// Claims of Vonage's token.
    fn claims(&self) -> String {
        use sha2::Digest as _;
        let payload = match self.method {
            Method::Post => self.body.clone(),
            Method::Get => {
                let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
                let members: Vec<_> =
                    pairs.map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect();
                format!("{{{}}}", members.join(","))
            }
        };
        let hash = sha2::Sha256::digest(payload);
        let hash: String = hash.iter().map(|octet| format!("{octet:02x}")).collect();
        format!("{{\"iss\":\"Vonage\",\"iat\":{},\"payload_hash\":\"{hash}\"}}", self.made)
    }

    fn content_type(&self) -> &'static str {
        if self.body.starts_with('{') { "application/json" } else { FORM }
    }

    async fn send(&self, host: &Host, fields: &str) -> Response {
        let kind = self.content_type();
        match self.method {
            Method::Get => ask(host, "GET", &self.target(), fields, "").await,
            Method::Post => {
                let fields = format!("content-type: {kind}\r\n{fields}");
                ask(host, "POST", &self.target(), &fields, &self.body).await
            }
        }
    }
}

fn iso_8601(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Of a month of 31 days or less, counted from a day that is known: 2026-01-01 is day 20454.
    let lengths = |year: u64| {
        let leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    };
    let (mut year, mut month, mut day) = (2026, 0, days - 20_454);
    while day >= lengths(year)[month] {
        day -= lengths(year)[month];
        (year, month) = if month == 11 { (year + 1, 0) } else { (year, month + 1) };
    }
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", month + 1, day + 1)
}

/// What the listener on a provider's page is configured with, and how it is asked.
fn as_the_page_tells(provider: &str, folder: &Folder) -> String {
    let page = page(provider, &PublicUrl::example(provider)).unwrap();
    let toml = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let secret = folder.write("secret", SECRET);
    let secret = format!("file:{}", secret.display());
    let mut text = String::new();
    for (i, part) in toml.split("\"env:").enumerate() {
        match part.split_once('"') {
            Some((_, rest)) if i > 0 => text.push_str(&format!("{}{rest}", quoted(&secret))),
            _ => text.push_str(part),
        }
    }
    let key = STANDARD.encode_to_string(SigningKey::from_bytes(&SEED).verifying_key().to_bytes());
    format!("{ROUTE}{}", text.replace("THE-PUBLIC-KEY", &key))
}

fn now() -> u64 {
    WallTime::now().unix_seconds().0
}

#[tokio::test]
async fn whoever_follows_the_page_is_answered_and_nobody_else() {
    let folder = Folder::new("answer-pages");
    let mut timed = 0;
    for provider in PROVIDERS.iter().map(|provider| provider.name()) {
        if Answer::of(provider).is_none() {
            continue;
        }
        let toml = as_the_page_tells(provider, &folder);
        let config = support::config(&toml);
        let auth = config.listeners[0].answer.clone().unwrap().auth;
        let host = Host::on_loopback(&toml);
        let is_json = matches!(provider, "vonage" | "sinch" | "jambonz");
        let pairs = "From=15550100001&To=15550100002&from=15550100001&to=15550100002&CallSid=CA1";
        let json = r#"{"from":"15550100001","to":"15550100002","cli":"15550100001","event":"ice"}"#;
        let post = Asking {
            method: Method::Post,
            path: format!("/{provider}/answer"),
            query: String::new(),
            body: if is_json { json.into() } else { pairs.into() },
            made: now(),
        };
        let get = Asking {
            method: Method::Get,
            query: pairs.into(),
            body: String::new(),
            ..post.clone()
        };
        // Those two sign no query.
        let by_post_only = ["sinch-signature", "jambonz-signature"].contains(&auth.kind());
        let methods = if by_post_only { vec![post] } else { vec![post, get] };
        for asking in methods {
            let challenged = if auth.challenges() { 401 } else { 403 };
            let refuse = async |what: &str, asking: &Asking, fields: &str| {
                let response = asking.send(&host, fields).await;
                assert_untold(&format!("{provider}, {what}"), challenged, &response);
            };
            refuse("nothing", &asking, "").await;
            let (proven, fields) = asking.proven(&auth);
            let response = proven.send(&host, &fields).await;
            assert_eq!(response.status, 200, "{provider}: {response:?}");
            assert!(
                response.body.contains(&format!("bridge.example.com/{provider}")),
                "{provider}"
            );
            if !Answer::of(provider).unwrap().sample().is_empty() {
                assert!(response.body.contains("15550100001"), "{provider}: {}", response.body);
            }
            let is_signed = auth.kind().ends_with("-signature") || auth.kind() == "jwt";
            if is_signed {
                let mut other = proven.clone();
                match other.method {
                    Method::Post => other.body = other.body.replace("15550100001", "19990000000"),
                    Method::Get => other.query = other.query.replace("15550100001", "19990000000"),
                }
                // Telnyx signs no URL.
                if auth.kind() != "telnyx-signature" || other.method == Method::Post {
                    refuse("another number", &other, &fields).await;
                }
            }
            let late = Asking { made: asking.made - 3_600, ..asking.clone() };
            let (late, late_fields) = late.proven(&auth);
            if late_fields != fields {
                refuse("an hour late", &late, &late_fields).await;
                refuse("played back", &proven, &fields).await;
                timed += 1;
            }
        }
        host.stop().await;
    }
    assert!(timed >= 6, "{timed}");
}
