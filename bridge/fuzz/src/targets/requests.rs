//! Requests of strangers: credentials of every kind, key sets, and webhooks with the documents that answer them.

use ringback_proto::UnixSeconds;
use ringback_proto::provider::answer::Method;
use ringback_proto::provider::auth::{
    JambonzSecrets, Jwt, JwtKeys, KeySet, Occasion, PrivateJwk, SinchSecrets, TelnyxKey,
};
use ringback_proto::provider::{
    Answer, Auth, Credential, OutgoingUpgrade, Provider, Replays, Secret, Upgrade, Webhook,
    WebhookAuth,
};

use crate::script::{Draft, Script};
use crate::seeds;

const NOW: UnixSeconds = UnixSeconds(1_795_244_709);
const URL: &str = "https://bridge.example/call?x=1";

/// A secret that no request can hold by chance or by search: it follows from every octet of the input.
fn secret(octets: &[u8], which: u64) -> Secret {
    let mix = |hash: u64, octet: u8| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
    };
    let half = |seed: u64| octets.iter().copied().fold(seed ^ 0xcbf2_9ce4_8422_2325, mix);
    Secret::from(format!("{:016x}{:016x}", half(which), half(which + 77)))
}

/// Every kind of credential that streams can have.
fn kinds(octets: &[u8]) -> Vec<Auth> {
    let one = |which| vec![secret(octets, which)];
    let base64 = |which| {
        let text = base64_simd::STANDARD.encode_to_string(secret(octets, which).expose());
        vec![Secret::from(text)]
    };
    vec![
        Auth::Bearer { tokens: one(1) },
        Auth::Basic { user: "user".into(), passwords: one(2) },
        Auth::Header { name: "x-telnyx-streaming-auth-token".into(), values: one(3) },
        Auth::Query { name: "token".into(), values: one(4) },
        Auth::Path { tokens: one(5) },
        Auth::TwilioSignature {
            tokens: one(6),
            shared_keys: vec![("k".into(), secret(octets, 7))],
        },
        Auth::PlivoSignature { prefix: "x-plivo".into(), tokens: one(8), allow_unsigned: false },
        Auth::Jwt(Jwt::vonage(one(9))),
        Auth::Jwt(Jwt::avaya(one(10))),
        Auth::Jwt(Jwt { audience: Some("bridge".into()), ..Jwt::new(JwtKeys::Shared(one(11))) }),
        Auth::GenesysSignature { api_key: secret(octets, 12), secrets: base64(13) },
        Auth::ZoomSignature { secrets: one(14) },
    ]
}

/// A request as it comes: nothing of it opens anything, whatever is checked. Signed as it should be it opens, and with one bit of
/// the credential turned over it does not.
pub(super) fn credentials(octets: &[u8]) {
    let mut script = Script::new(octets);
    let (kind, turn, place) = (script.octet(), script.octet(), usize::from(script.number()));
    let (target, body) = (script.text(), script.piece());
    let fields: Vec<(String, String)> = std::iter::from_fn(|| {
        (!script.is_over()).then(|| (script.text().to_ascii_lowercase(), script.text()))
    })
    .take(32)
    .collect();
    let headers: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let request = Upgrade { target: &target, public_url: Some(URL), headers: &headers };
    let kinds = kinds(octets);
    for auth in &kinds {
        let checked = auth.check_posted(&request, body, NOW, &mut Replays::new(4));
        let Err(rejection) = checked else { panic!("{} lets a stranger in", auth.kind()) };
        assert!(matches!(rejection.status(), 400 | 401));
        assert!(rejection.to_string().len() < 400, "{rejection}");
    }
    let auth = &kinds[usize::from(kind) % kinds.len()];
    signed(auth, octets, turn, place);
    for auth in webhook_kinds(octets) {
        let webhook = Webhook {
            method: Method::Post,
            target: &target,
            public_url: URL,
            headers: &headers,
            body,
        };
        let checked = auth.check(&webhook, NOW, &mut Replays::new(4));
        assert!(checked.is_err(), "{} answers a stranger", auth.kind());
    }
}

fn webhook_kinds(octets: &[u8]) -> Vec<WebhookAuth> {
    let one = |which| vec![secret(octets, which)];
    let base64 = base64_simd::STANDARD.encode_to_string(secret(octets, 23).expose());
    // The point that RFC 8032 gives in its first example.
    let key = TelnyxKey::parse("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=").expect("a key");
    vec![
        WebhookAuth::SignalWireSignature { keys: one(21) },
        WebhookAuth::TelnyxSignature { key },
        WebhookAuth::SinchSignature(SinchSecrets {
            application: secret(octets, 22),
            secrets: vec![Secret::from(base64)],
        }),
        WebhookAuth::JambonzSignature(JambonzSecrets(one(24))),
        WebhookAuth::Common(Auth::TwilioSignature { tokens: one(25), shared_keys: vec![] }),
        WebhookAuth::Common(Auth::Jwt(Jwt::vonage(one(26)))),
    ]
}

/// A request that is signed opens; one that was signed and turned over somewhere does not.
fn signed(auth: &Auth, octets: &[u8], turn: u8, place: usize) {
    let Ok(proof) = auth.proof(None) else { return };
    let occasion = Occasion {
        now: NOW,
        nonce: "0123456789abcdefghijklmnop",
        host: "bridge.example",
        secure: true,
        public_url: Some(URL),
        body: "a body",
    };
    let mut request = OutgoingUpgrade { target: "/call?x=1".into(), ..OutgoingUpgrade::default() };
    if let Auth::GenesysSignature { .. } = auth {
        let id = secret(octets, 40).expose().to_owned();
        let own = ["audiohook-organization-id", "audiohook-session-id", "audiohook-correlation-id"];
        request.headers.extend(own.map(|name| (name.to_owned(), id.clone())));
    }
    let before = request.clone();
    proof.sign(&mut request, &occasion).expect("it can be signed");
    let opens = |request: &OutgoingUpgrade| {
        let own = request.headers.iter().map(|(n, v)| (n.to_ascii_lowercase(), v.as_str()));
        let own = own.chain([("host".to_owned(), "bridge.example")]);
        let fields: Vec<_> = own.collect();
        let headers: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        let upgrade = Upgrade { target: &request.target, public_url: Some(URL), headers: &headers };
        auth.check_posted(&upgrade, b"a body", NOW, &mut Replays::new(4)).is_ok()
    };
    assert!(opens(&request), "{} refuses what it signed itself: {request:?}", auth.kind());
    assert!(!opens(&before), "{} opens for what is not signed", auth.kind());
    // One bit of the secret part of what was added; scheme names may be written as one likes.
    let added = request.headers.len() - before.headers.len();
    if added == 0 {
        return;
    }
    let index = before.headers.len() + usize::from(turn >> 3) % added;
    let value = &mut request.headers[index].1;
    let begin = value.find(' ').map_or(0, |space| space + 1);
    let at = begin + place % (value.len() - begin).max(1);
    let mut turned = value.clone().into_bytes();
    turned[at] ^= 1 << (turn % 7);
    let Ok(turned) = String::from_utf8(turned) else { return };
    let blank = turned.trim() == value.trim();
    *value = turned;
    assert!(blank || !opens(&request), "{} opens with a bit turned over: {request:?}", auth.kind());
}

pub(super) fn credential_seeds() -> Vec<Vec<u8>> {
    let fields = [
        (
            "authorization",
            "Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJWb25hZ2UiLCJpYXQiOjE3OTUyNDQ3MDl9.c2ln",
        ),
        ("authorization", "Bearer eyJhbGciOiJub25lIn0.e30."),
        ("authorization", "Basic dXNlcjpwYXNz"),
        ("sec-websocket-protocol", "audio, Bearer-abc"),
        ("x-twilio-signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        ("x-twilio-webhooks-signature-settings", "key=k,algorithm=HMAC_SHA256"),
        ("x-plivo-signature-v3", "Zm9vYmFy,Zm9v"),
        ("x-plivo-signature-v3-nonce", "05429567804466091622"),
        (
            "signature-input",
            "sig1=(\"@request-target\" \"audiohook-session-id\");keyid=\"k\";nonce=\"n\";alg=\"hmac-sha256\";created=1;expires=2",
        ),
        ("signature", "sig1=:NZBwyBHRRyRoeLqy1IzOa9VYBuI8TgMFt2GRDkDuJh4=:"),
        ("x-zm-request-timestamp", "1795244709"),
        ("x-zm-signature", "v0=a2b1"),
        ("telnyx-timestamp", "1795244709"),
        ("telnyx-signature-ed25519", "AAAA"),
        ("jambonz-signature", "t=1795244709,v1=00"),
        ("x-timestamp", "2026-11-21T07:05:09Z"),
    ];
    let each = (0..12_u8).map(|kind| {
        let draft =
            Draft::new().octet(kind).octet(kind).number(9).piece(b"/call?token=abc").piece(b"{}");
        let own = fields.iter().skip(usize::from(kind)).chain(&fields).take(8);
        own.fold(draft, |draft, (name, value)| draft.piece(name.as_bytes()).piece(value.as_bytes()))
            .done()
    });
    each.collect()
}

/// A text as a key set, as a private key and as a public one: read or refused, and never told.
pub(super) fn keys(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    if let Ok(set) = KeySet::parse(&text) {
        assert!(!set.is_empty() && set.clone().and(&set).len() <= set.len());
    }
    if let Err(error) = PrivateJwk::parse(&text) {
        assert!(error.to_string().len() < 300, "{error}");
    }
    let _ = TelnyxKey::parse(&text);
}

pub(super) fn key_seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"keys":[{"kty":"RSA","kid":"a","use":"sig","alg":"RS256","n":"AQAB","e":"AQAB"}]}"#,
        r#"{"kty":"RSA","n":"AQAB","e":"AQAB","d":"AQAB"}"#,
        "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    ];
    let own = seeds::root().join("bridge/proto/tests/authentication/private_key.json");
    let own =
        std::fs::read(own).into_iter().map(|key| [br#"{"keys":["#, key.as_slice(), b"]}"].concat());
    texts.iter().map(|text| text.as_bytes().to_vec()).chain(own).collect()
}

/// Every credential that a document can carry.
fn told() -> [Credential<'static>; 7] {
    [
        Credential::Untold,
        Credential::Vonage,
        Credential::Basic("us:er", "p&ss<\"'>/?"),
        Credential::Bearer("t&ken<\"'>"),
        Credential::Query("tok&n", "t&ken<\"'>/?#"),
        Credential::Path("t&ken<\"'>/?#"),
        Credential::Header("x-token", "t"),
    ]
}

/// A webhook of `provider` as it comes is answered with a document that is one, holds our URL, and takes nothing of what the webhook
/// said for a part of itself: it has the shape that it has without.
pub(super) fn webhook(provider: &'static dyn Provider, octets: &[u8]) {
    let mut script = Script::new(octets);
    let (flags, target, kind) = (script.octet(), script.text(), script.text());
    let body = script.rest();
    let method = if flags & 1 == 0 { Method::Post } else { Method::Get };
    let fields = [("content-type", kind.as_str())];
    let webhook = Webhook { method, target: &target, public_url: URL, headers: &fields, body };
    assert!(webhook.asked().starts_with("https://bridge.example/call"));
    if method == Method::Get {
        assert!(webhook.form().is_empty());
    }
    let told_facts = webhook.facts();
    let Some(answer) = Answer::of(provider.name()) else { return };
    let answer = answer.fitting(&told_facts);
    let _ = (answer.call(&told_facts), answer.aside(&told_facts));
    let parameters = answer.facts(&told_facts);
    assert!(parameters.len() <= 16);
    let credential = told()[usize::from(flags >> 1) % 7];
    if answer.carries(&credential).is_err() {
        return;
    }
    let stream = "wss://bridge.example/stream?a=1&b=2";
    let document = answer.document(stream, &credential, &parameters);
    let plain: Vec<_> = parameters.iter().map(|(name, _)| (name.clone(), "x".to_owned())).collect();
    // Which of them can be written at all; of those it matters not what they say.
    let without = answer.document(stream, &credential, &[]);
    let is_written = |told: &(String, String)| {
        answer.document(stream, &credential, std::slice::from_ref(told)) != without
    };
    let plain: Vec<_> = parameters
        .iter()
        .zip(plain)
        .filter_map(|(told, plain)| is_written(told).then_some(plain))
        .collect();
    let alike = answer.document(stream, &credential, &plain);
    assert_eq!(shape(&document), shape(&alike), "{document}");
    assert!(document.len() < 64 * 1024);
}

/// What a document is but for its texts. Of text in XML that is no XML, or in JSON that is none, there is no shape.
fn shape(document: &str) -> String {
    if document.trim_start().starts_with('<') {
        let parsed = roxmltree::Document::parse(document)
            .unwrap_or_else(|error| panic!("{error}: {document}"));
        let element = |node: roxmltree::Node<'_, '_>| {
            let names: Vec<_> =
                node.attributes().map(|attribute| attribute.name().to_owned()).collect();
            format!("{}{names:?}", node.tag_name().name())
        };
        return parsed.descendants().filter(roxmltree::Node::is_element).map(element).collect();
    }
    let value: serde_json::Value =
        serde_json::from_str(document).unwrap_or_else(|error| panic!("{error}: {document}"));
    json_shape(&value)
}

fn json_shape(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Object(members) => {
            members.iter().map(|(name, value)| format!("{name:?}:{},", json_shape(value))).collect()
        }
        serde_json::Value::Array(items) => {
            format!("[{}]", items.iter().map(json_shape).collect::<String>())
        }
        serde_json::Value::String(_) => "text".into(),
        other => other.to_string(),
    }
}

pub(super) fn webhook_seeds(_: &'static dyn Provider) -> Vec<Vec<u8>> {
    let nasty = "%3C%26%3E%22%27%5C%7B%7Btoken%7D%7D";
    let form = format!(
        "CallSid=CA1&From=%2B15550100001&To={nasty}&CallUUID=u&Direction=inbound&CallStatus=in-progress&Event=StartApp"
    );
    let json = r#"{"from":"+15550100001","to":"<&>\"'\\{{url}}","uuid":"u","call_sid":"c","conversation_uuid":"v","data":{"event_type":"call.initiated","payload":{"from":"1","to":"2","call_control_id":"i"}},"event":"ice","callid":"x","cli":{"endpoint":"+1"}}"#;
    let begin = |flags: u8, target: &str, kind: &str| {
        Draft::new().octet(flags).piece(target.as_bytes()).piece(kind.as_bytes()).done()
    };
    let mut seeds = Vec::new();
    for flags in 0..14 {
        let form_kind = "application/x-www-form-urlencoded";
        seeds.push([begin(flags & !1, "/call", form_kind), form.clone().into_bytes()].concat());
        seeds.push(
            [begin(flags & !1, "/call", "application/json"), json.as_bytes().to_vec()].concat(),
        );
        seeds.push(begin(flags | 1, &format!("/call?{form}"), ""));
    }
    seeds
}

/// Whether the provider asks what to do with a call.
pub(super) fn asks(provider: &dyn Provider) -> bool {
    Answer::of(provider.name()).is_some()
}
