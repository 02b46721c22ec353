//! Fresh credentials by the vendors' own code: ours opens for them, and not if a bit is another; and theirs opens for ours.

use base64_simd::{STANDARD, URL_SAFE_NO_PAD};
use ringback_proto::UnixSeconds;
use ringback_proto::provider::auth::{
    Jwt, KeySet, Signing, genesys_signature, hs256, plivo_signature, twilio_signature,
    twilio_signature_sha256,
};
use ringback_proto::provider::{Auth, Replays, Secret, Upgrade};
use serde_json::{Value, json};

use super::python::Opinions;

const TOKEN: &str = "a-token-of-32-octets-0123456789ab";
const URL: &str = "wss://bridge.example.com/media?tenant=blue&a=1";
const TARGET: &str = "/media?tenant=blue&a=1";

/// A request, and the header field of it that holds the signature.
struct Asked {
    headers: Vec<(String, String)>,
    signed_in: &'static str,
}

impl Asked {
    fn new(signed_in: &'static str, headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self { headers: headers.collect(), signed_in }
    }

    fn upgrade<T>(&self, look: impl FnOnce(&Upgrade<'_>) -> T) -> T {
        let headers: Vec<_> = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        look(&Upgrade { target: TARGET, public_url: Some(URL), headers: &headers })
    }

    fn opens(&self, auth: &Auth, now: u64) -> bool {
        self.upgrade(|upgrade| auth.check(upgrade, UnixSeconds(now), &mut Replays::default()))
            .is_ok()
    }

    /// With the last bit of the signature's first octet turned round.
    fn flipped(mut self) -> Self {
        let (_, value) = self.headers.iter_mut().find(|(name, _)| name == self.signed_in).unwrap();
        *value = match value.rsplit_once('.') {
            Some((token, signature)) => format!("{token}.{}", flipped(&URL_SAFE_NO_PAD, signature)),
            None => match value.strip_prefix("sig1=:").and_then(|value| value.strip_suffix(':')) {
                Some(signature) => format!("sig1=:{}:", flipped(&STANDARD, signature)),
                None => flipped(&STANDARD, value),
            },
        };
        self
    }
}

fn flipped(base64: &base64_simd::Base64, signature: &str) -> String {
    let mut octets = base64.decode_to_vec(signature).unwrap();
    octets[0] ^= 1;
    base64.encode_to_string(octets)
}

/// One line of what comes out: what was tried, and by whose code.
struct Trial<'a> {
    opinions: &'a mut Opinions,
    packages: Value,
    now: u64,
}

impl Trial<'_> {
    fn sign(&mut self, kind: &str, how: Value) -> Value {
        self.opinions.ask(&with(json!({ "do": "sign", "kind": kind }), how))
    }

    /// Ours opens for theirs, and not with a bit turned.
    fn opens(&self, what: &str, kind: &str, auth: &Auth, asked: Asked) {
        assert!(asked.opens(auth, self.now), "{what}: theirs does not open ours");
        assert!(!asked.flipped().opens(auth, self.now), "{what}: opens though a bit is another");
        let [package, version] =
            [&self.packages[kind][0], &self.packages[kind][1]].map(|t| t.as_str().unwrap());
        println!("{what:30}{package} {version}: 1 opens, 1 with a bit turned does not");
    }

    /// Theirs opens for ours.
    fn verifies(&mut self, what: &str, kind: &str, how: Value) {
        let verified = self.opinions.ask(&with(json!({ "do": "verify", "kind": kind }), how));
        assert_eq!(verified, true, "{what}: ours does not open theirs");
    }
}

fn with(mut question: Value, how: Value) -> Value {
    let Value::Object(how) = how else { panic!("{how}") };
    question.as_object_mut().unwrap().extend(how);
    question
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn credentials_of_vendors_code_open_and_turned_bits_do_not() {
    let Some(mut opinions) = Opinions::ask_for() else { return };
    let packages = opinions.ask(&json!({ "do": "introduce" }))["credentials"].take();
    let now = opinions.ask(&json!({ "do": "now" })).as_u64().unwrap();
    let mut trial = Trial { opinions: &mut opinions, packages, now };
    twilio(&mut trial);
    plivo(&mut trial);
    tokens(&mut trial);
    genesys(&mut trial);
}

fn twilio(trial: &mut Trial<'_>) {
    let auth = Auth::TwilioSignature {
        tokens: vec![TOKEN.into()],
        shared_keys: vec![("key-1".into(), TOKEN.into())],
    };
    let key = TOKEN.into();
    let ours = [
        ("HMAC_SHA1", twilio_signature(&key, URL)),
        ("HMAC_SHA256", twilio_signature_sha256(&key, URL)),
    ];
    for (algorithm, ours) in ours {
        let how = json!({ "token": TOKEN, "url": URL, "algorithm": algorithm });
        let signature = trial.sign("twilio", how.clone());
        let settings = format!("key=key-1,algorithm={algorithm}");
        let settings = if algorithm == "HMAC_SHA1" { "" } else { settings.as_str() };
        let asked = Asked::new(
            "x-twilio-signature",
            &[
                ("x-twilio-signature", text(&signature)),
                ("x-twilio-webhooks-signature-settings", settings),
            ],
        );
        let what = format!("twilio-signature {algorithm}");
        trial.opens(&what, "twilio", &auth, asked);
        trial.verifies(&what, "twilio", with(how, json!({ "signature": ours })));
    }
}

fn plivo(trial: &mut Trial<'_>) {
    const NONCE: &str = "9c1f0ab7";
    let auth = Auth::PlivoSignature {
        prefix: "x-plivo".into(),
        tokens: vec![TOKEN.into()],
        allow_unsigned: false,
    };
    // Theirs makes signatures over the URL of a WebSocket, but checks none over it.
    for scheme in ["wss", "https", "http"] {
        let what = format!("plivo-signature {scheme}:");
        let url = URL.replace("wss", scheme);
        let how = json!({ "token": TOKEN, "url": url, "nonce": NONCE });
        let signature = trial.sign("plivo", how.clone());
        let asked = Asked::new(
            "x-plivo-signature-v3",
            &[("x-plivo-signature-v3", text(&signature)), ("x-plivo-signature-v3-nonce", NONCE)],
        );
        trial.opens(&what, "plivo", &auth, asked);
        if scheme != "wss" {
            let sorted = format!("{scheme}://bridge.example.com/media?a=1&tenant=blue");
            let ours = plivo_signature(&TOKEN.into(), &sorted, NONCE);
            trial.verifies(&what, "plivo", with(how, json!({ "signature": ours })));
        }
    }
}

fn tokens(trial: &mut Trial<'_>) {
    let now = trial.now;
    let bearer =
        |token: &str| Asked::new("authorization", &[("authorization", &format!("Bearer {token}"))]);
    let vonage = json!({ "iss": "Vonage", "iat": now, "jti": "j-1", "api_key": "abcd1234", "application_id": "a-1" });
    let avaya = json!({ "sub": "account-1", "iat": now, "exp": now + 300, "jti": "n-1" });
    for (what, auth, claims) in [
        ("jwt of Vonage", Jwt::vonage(vec![TOKEN.into()]), vonage),
        ("jwt of Avaya", Jwt::avaya(vec![TOKEN.into()]), avaya),
    ] {
        let token = trial.sign("hs256", json!({ "secret": TOKEN, "claims": claims }));
        trial.opens(what, "hs256", &Auth::Jwt(auth), bearer(text(&token)));
        let ours = hs256(&TOKEN.into(), &claims.to_string());
        trial.verifies(what, "hs256", json!({ "secret": TOKEN, "token": ours }));
    }
    let azure = json!({
        "iss": "https://acscallautomation.communication.azure.com", "aud": "resource-1", "iat": now, "nbf": now,
        "exp": now + 3600, "jti": "j-1",
    });
    let made = trial.sign("rs256", json!({ "claims": azure }));
    let keys = KeySet::parse(text(&made["keys"])).unwrap();
    let auth = Auth::Jwt(Jwt::azure(keys, "resource-1".into()));
    trial.opens("jwt of Azure", "rs256", &auth, bearer(text(&made["token"])));
}

fn genesys(trial: &mut Trial<'_>) {
    const SECRET: &str = "TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU=";
    const KEY: &str = "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh";
    const NONCE: &str = "xTLrN8vkPap5azrOMEGfILI3";
    const COMPONENTS: [&str; 6] = [
        "@request-target",
        "@authority",
        "audiohook-organization-id",
        "audiohook-session-id",
        "audiohook-correlation-id",
        "x-api-key",
    ];
    let auth = Auth::GenesysSignature { api_key: KEY.into(), secrets: vec![SECRET.into()] };
    let plain = [
        ("host", "bridge.example.com"),
        ("audiohook-organization-id", "o-1"),
        ("audiohook-session-id", "s-1"),
        ("audiohook-correlation-id", "c-1"),
        ("x-api-key", KEY),
    ];
    let url = URL.replace("wss:", "https:");
    let headers: serde_json::Map<_, _> =
        plain.iter().map(|(n, v)| ((*n).to_owned(), Value::from(*v))).collect();
    let how = json!({
        "secret": SECRET, "key_id": KEY, "nonce": NONCE, "created": trial.now, "expires": trial.now + 5,
        "url": url, "headers": headers, "components": COMPONENTS,
    });
    let signed = trial.sign("genesys", how);
    let fields = [("signature-input", text(&signed[0])), ("signature", text(&signed[1]))];
    let asked = Asked::new("signature", &[&plain[..], &fields].concat());
    trial.opens("genesys-signature", "genesys", &auth, asked);

    let secret = Secret::from(SECRET);
    let (created, expires) = (UnixSeconds(trial.now), UnixSeconds(trial.now + 30));
    let signing = Signing { secret: &secret, nonce: NONCE, created, expires };
    let ours =
        Asked::new("", &plain).upgrade(|upgrade| genesys_signature(upgrade, &signing)).unwrap();
    let [input, signature] = ours.map(Value::from);
    let signed =
        with(Value::Object(headers), json!({ "Signature-Input": input, "Signature": signature }));
    trial.verifies(
        "genesys-signature",
        "genesys",
        json!({ "secret": SECRET, "url": url, "headers": signed }),
    );
}
