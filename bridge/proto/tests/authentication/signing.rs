//! What is signed as a provider would sign it opens what asks for it, once where that is the rule, and nothing else. Opens no socket.

use ringback_proto::UnixSeconds;
use ringback_proto::provider::auth::{
    Issuer, Jwt, JwtKey, JwtKeys, JwtMaker, KeySet, KeySetError, NoProof, Occasion, PrivateJwk,
    Proof, Unsigned, rs256,
};
use ringback_proto::provider::{
    Auth, Dial, Grant, OutgoingUpgrade, Replays, Secret, Upgrade, find,
};

use super::NOW;
use super::vectors::{JWKS, PRIVATE_JWK, SIGNED_BY_IT};

const HOST: &str = "127.0.0.1:8080";
const PUBLIC: &str = "wss://bridge.example.com/in/here";

fn secrets(text: &str) -> Vec<Secret> {
    vec![text.into(), "another-one".into()]
}

fn private() -> PrivateJwk {
    PrivateJwk::parse(PRIVATE_JWK).unwrap()
}

fn public_half() -> KeySet {
    // A private key holds its public half.
    KeySet::parse(&format!(r#"{{"keys":[{PRIVATE_JWK}]}}"#)).unwrap()
}

/// Every kind, asking for something made of `seed`; and by which provider it is asked for.
fn kinds(seed: &str) -> Vec<(&'static str, Auth)> {
    let hex = seed.repeat(4);
    let base64 = base64_simd::STANDARD.encode_to_string(seed);
    let shared_keys = vec![("webhooks_sharedkey_1".to_owned(), Secret::from(seed))];
    let by_url =
        |tokens| Auth::PlivoSignature { prefix: "x-plivo".into(), tokens, allow_unsigned: false };
    let audience = Some(seed.to_owned());
    let any = Jwt { audience, single_use: true, ..Jwt::new(JwtKeys::Shared(secrets(seed))) };
    let by_key = Jwt { issuer: Some(seed.into()), ..Jwt::new(JwtKeys::Public(public_half())) };
    vec![
        ("raw", Auth::Bearer { tokens: secrets(seed) }),
        ("exotel", Auth::Basic { user: "u".into(), passwords: secrets(seed) }),
        (
            "telnyx",
            Auth::Header { name: "x-telnyx-streaming-auth-token".into(), values: secrets(seed) },
        ),
        ("infobip", Auth::Query { name: "token".into(), values: secrets(&format!("{seed} +&=%")) }),
        ("sinch", Auth::Path { tokens: secrets(seed) }),
        ("twilio", Auth::TwilioSignature { tokens: secrets(seed), shared_keys: Vec::new() }),
        ("twilio", Auth::TwilioSignature { tokens: Vec::new(), shared_keys }),
        ("plivo", by_url(secrets(seed))),
        ("vonage", Auth::Jwt(Jwt::vonage(secrets(seed)))),
        ("avaya", Auth::Jwt(Jwt::avaya(secrets(&hex)))),
        ("azure", Auth::Jwt(Jwt::azure(public_half(), seed.into()))),
        ("raw", Auth::Jwt(any)),
        ("webex", Auth::Jwt(by_key)),
        (
            "genesys-connector",
            Auth::GenesysSignature { api_key: seed.into(), secrets: secrets(&base64) },
        ),
    ]
}

/// A request as the provider makes it, with a query of its own.
fn request(provider: &str) -> OutgoingUpgrade {
    let parameters = vec![("name".to_owned(), "J\u{f6} & co".to_owned())];
    let dial = Dial {
        target: "/in/here?b=2&a=1".into(),
        call: "c1".into(),
        parameters,
        ..Dial::default()
    };
    find(provider).unwrap().dial(&dial).0
}

fn occasion(nonce: &str) -> Occasion<'_> {
    Occasion {
        now: UnixSeconds(NOW),
        nonce,
        host: HOST,
        secure: false,
        public_url: Some(PUBLIC),
        body: "",
    }
}

/// As it arrives at a listener with that public URL.
fn arrives(
    request: &OutgoingUpgrade,
    public_url: Option<&str>,
    auth: &Auth,
    now: u64,
    replays: &mut Replays,
) -> Option<Grant> {
    let protocols = request.subprotocols.join(", ");
    let mut headers: Vec<_> =
        request.headers.iter().map(|(n, v)| (n.to_ascii_lowercase(), v.clone())).collect();
    headers.push(("host".into(), HOST.into()));
    headers.push(("sec-websocket-protocol".into(), protocols));
    let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let upgrade = Upgrade { target: &request.target, public_url, headers: &headers };
    auth.check(&upgrade, UnixSeconds(now), replays).ok()
}

fn opens(request: &OutgoingUpgrade, auth: &Auth, now: u64) -> bool {
    arrives(request, Some(PUBLIC), auth, now, &mut Replays::default()).is_some()
}

const NONCE: &str = "0123456789abcdefghijkl";

#[test]
fn what_is_signed_for_a_listener_opens_it_and_no_other() {
    for ((provider, auth), (_, other)) in kinds("s3cret").into_iter().zip(kinds("an0ther")) {
        let kind = auth.kind();
        let bare = request(provider);
        assert!(!opens(&bare, &auth, NOW), "{kind}: unsigned");
        let sign = |auth: &Auth, nonce: &str| {
            let mut signed = bare.clone();
            let proof = auth.proof(Some(&private())).unwrap();
            proof.sign(&mut signed, &occasion(nonce)).unwrap();
            signed
        };
        let signed = sign(&auth, NONCE);
        assert!(opens(&signed, &auth, NOW), "{kind}: {signed:?}");
        assert!(!opens(&signed, &other, NOW), "{kind}: opens another listener");
        assert!(!opens(&sign(&other, NONCE), &auth, NOW), "{kind}: another's opens it");

        let mut replays = Replays::default();
        let mut again = |signed| arrives(signed, Some(PUBLIC), &auth, NOW, &mut replays);
        let first = again(&signed).expect("it opens");
        let once = matches!(&auth, Auth::GenesysSignature { .. })
            || matches!(&auth, Auth::Jwt(jwt) if jwt.single_use);
        assert_eq!(again(&signed).is_none(), once, "{kind}: the same again");
        assert!(again(&sign(&auth, "another-nonce-of-22-letters")).is_some(), "{kind}: a new one");
        assert_eq!(first.used.is_some(), once, "{kind}: can be given back");
        if let Some(used) = first.used {
            replays.give_back(&used);
            let again = arrives(&signed, Some(PUBLIC), &auth, NOW, &mut replays);
            assert!(again.is_some(), "{kind}: it was told to come again");
        }

        let timed = matches!(auth, Auth::Jwt(_) | Auth::GenesysSignature { .. });
        for now in [NOW - 86_400, NOW + 86_400] {
            assert_eq!(opens(&signed, &auth, now), !timed, "{kind} at {now}");
        }
        let told = format!("{:?}", auth.proof(Some(&private())).unwrap());
        // Where an audience or issuer is made of it, it is no secret.
        let public = matches!(&auth, Auth::Jwt(jwt) if jwt.audience.is_some() || jwt.issuer.as_deref() == Some("s3cret"));
        assert!(public || !told.contains("s3cret"), "{kind}: {told}");
    }
}

#[test]
fn without_a_public_url_the_one_that_is_dialled_is_signed() {
    let here = format!("ws://{HOST}/in/here");
    for (provider, auth) in kinds("s3cret") {
        let mut signed = request(provider);
        let at = Occasion { public_url: None, ..occasion(NONCE) };
        auth.proof(Some(&private())).unwrap().sign(&mut signed, &at).unwrap();
        let taken = |url| arrives(&signed, url, &auth, NOW, &mut Replays::default()).is_some();
        assert!(taken(Some(&here)), "{}", auth.kind());
        let by_url = matches!(auth, Auth::TwilioSignature { .. } | Auth::PlivoSignature { .. });
        assert_eq!(taken(None), !by_url, "{}", auth.kind());
    }
}

#[test]
fn a_bearer_token_may_go_as_a_subprotocol() {
    let auth = Auth::Bearer { tokens: secrets("s3cret") };
    let mut signed = request("asterisk");
    let proof = Proof::Bearer { token: "s3cret".into(), by_subprotocol: true };
    proof.sign(&mut signed, &occasion(NONCE)).unwrap();
    assert!(signed.headers.iter().all(|(name, _)| name != "Authorization"));
    assert!(signed.subprotocols.len() > 1, "beside the provider's own");
    assert!(opens(&signed, &auth, NOW));
}

#[test]
fn tokens_have_the_habits_of_their_makers() {
    let claims = |maker, key| {
        let token = Issuer::new(maker, key).token(UnixSeconds(NOW), "id-1");
        let body = token.split('.').nth(1).unwrap();
        let octets = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(body).unwrap();
        String::from_utf8(octets).unwrap()
    };
    let shared = || JwtKey::Shared("s".into());
    assert_eq!(
        claims(JwtMaker::Any, shared()),
        r#"{"exp":1800000300,"iat":1800000000,"jti":"id-1"}"#
    );
    assert_eq!(
        claims(JwtMaker::Vonage, shared()),
        r#"{"api_key":"00000000","application_id":"00000000-0000-0000-0000-000000000000","iat":1800000000,"iss":"Vonage","jti":"id-1"}"#
    );
    assert_eq!(
        claims(JwtMaker::Avaya, shared()),
        r#"{"exp":1800000300000,"iat":1800000000000,"jti":"id-1","sub":"account"}"#
    );
    assert_eq!(
        claims(JwtMaker::Azure, JwtKey::Private(private())),
        r#"{"exp":1800086400,"iat":1800000000,"iss":"https://acscallautomation.communication.azure.com","jti":"id-1","nbf":1800000000}"#
    );
    let issuer = Issuer {
        issuer: Some("me".into()),
        audience: Some("you".into()),
        claims: vec![("api_key".into(), "abcd".into()), ("jti".into(), "mine".into())],
        ..Issuer::new(JwtMaker::Vonage, shared())
    };
    let token = issuer.token(UnixSeconds(NOW), "id-1");
    let jwt = Jwt {
        issuer: Some("me".into()),
        audience: Some("you".into()),
        claims: vec![("api_key".into(), "abcd".into()), ("jti".into(), "mine".into())],
        ..Jwt::vonage(secrets("s"))
    };
    let mut request = OutgoingUpgrade { target: "/".into(), ..OutgoingUpgrade::default() };
    request.headers.push(("Authorization".into(), format!("Bearer {token}")));
    assert!(
        opens(&request, &Auth::Jwt(jwt), NOW),
        "the listener's claims go before the usual ones"
    );
}

#[test]
fn rs256_is_as_others_make_it() {
    let claims =
        r#"{"aud":"bridge","exp":1800000300,"iat":1800000000,"iss":"tester","jti":"0001"}"#;
    assert_eq!(rs256(&private(), claims), SIGNED_BY_IT);
    assert_eq!(
        format!("{:?}", private()),
        r#"PrivateJwk { kid: Some("test-1"), key: [redacted] }"#
    );
}

#[test]
fn a_private_key_is_found_in_a_set_and_must_fit_its_public_half() {
    let set = JWKS.replacen("{\"keys\":[", &format!("{{\"keys\":[{PRIVATE_JWK},"), 1);
    assert_eq!(PrivateJwk::parse(&set).unwrap(), private());
    let modulus = |text: &str| {
        let (_, rest) = text.split_once("\"n\":\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    let other_half = PRIVATE_JWK.replace(&modulus(PRIVATE_JWK), &modulus(JWKS));
    for wrong in [JWKS, "[]", "1", "{}", r#"{"kty":"RSA"}"#, &other_half] {
        assert_eq!(PrivateJwk::parse(wrong), Err(KeySetError::NoPrivateKey), "{wrong}");
    }
    let told = PrivateJwk::parse("-----BEGIN canary").unwrap_err();
    assert!(matches!(told, KeySetError::NotJson { line: 1, .. }), "{told}");
    assert!(!format!("{told} {told:?}").contains("canary"));
}

#[test]
fn what_cannot_be_signed_says_why() {
    let mut any = request("raw");
    let bearer = |token: &str| Proof::Bearer { token: token.into(), by_subprotocol: false };
    let genesys =
        |secret: &str| Proof::GenesysSignature { api_key: "k".into(), secret: secret.into() };
    let plivo = Proof::PlivoSignature { prefix: "x-plivo".into(), token: "t".into() };
    let cases = [
        (bearer(""), NONCE, Unsigned::Empty),
        (Proof::Path { token: "a/b".into() }, NONCE, Unsigned::NoSegment),
        (Proof::Path { token: "a b".into() }, NONCE, Unsigned::NoSegment),
        (genesys("c2VjcmV0"), NONCE, Unsigned::NothingToSign),
        (genesys("*"), NONCE, Unsigned::NotBase64),
        (plivo.clone(), "short", Unsigned::Nonce),
        (plivo, "\"23456789012345678901234567890\"", Unsigned::Nonce),
    ];
    for (proof, nonce, wanted) in cases {
        let refused = proof.sign(&mut any, &occasion(nonce));
        assert_eq!(refused, Err(wanted), "{proof:?}");
    }
    let nobody = Auth::Bearer { tokens: Vec::new() };
    assert_eq!(nobody.proof(None), Err(NoProof::NoSecret));
    let public = Auth::Jwt(Jwt::azure(public_half(), "a".into()));
    assert_eq!(public.proof(None), Err(NoProof::NoPrivateKey));
    assert_eq!(Auth::None.proof(None), Ok(Proof::None));
}
