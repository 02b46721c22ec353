//! Signed tokens at their bounds: when they begin and end, to the second; by which algorithm and key; and which claims they must have.
//! What other kinds there are and whose tokens they take is not looked at.

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use ringback_proto::UnixSeconds;
use ringback_proto::provider::auth::{Jwt, JwtKeys, KeySet, KeySetError, PrivateJwk, hs256, rs256};
use ringback_proto::provider::{Auth, Replays, Secret, Upgrade};
use sha2::Sha256;

use super::NOW;
use super::vectors::{JWKS, PRIVATE_JWK};

const SECRET: &str = "a-secret-of-our-own-0123456789abcdef";

fn shared() -> Jwt {
    Jwt::new(JwtKeys::Shared(vec![SECRET.into()]))
}

/// The reason why a token is refused, or nothing if it is taken.
fn refused_at(now: u64, jwt: &Jwt, token: &str) -> Option<String> {
    let value = format!("Bearer {token}");
    let headers = [("authorization", value.as_str())];
    let upgrade = Upgrade { target: "/", public_url: None, headers: &headers };
    let checked = Auth::Jwt(jwt.clone()).check(&upgrade, UnixSeconds(now), &mut Replays::default());
    checked.err().map(|refusal| refusal.to_string())
}

fn refused(jwt: &Jwt, claims: &str) -> Option<String> {
    refused_at(NOW, jwt, &hs256(&SECRET.into(), claims))
}

fn assert_refused(jwt: &Jwt, token: &str, why: &str) {
    let told = refused_at(NOW, jwt, token).unwrap_or_else(|| panic!("let in: {token}"));
    assert!(told.contains(why), "{token}: {told}");
}

/// A token with any header, signed by HMAC-SHA256 whatever it says.
fn headed(header: &str, key: &[u8]) -> String {
    let part = |octets: &[u8]| base64_simd::URL_SAFE_NO_PAD.encode_to_string(octets);
    let claims = format!(r#"{{"exp":{}}}"#, NOW + 60);
    let text = format!("{}.{}", part(header.as_bytes()), part(claims.as_bytes()));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    format!("{text}.{}", part(&mac.finalize().into_bytes()))
}

#[test]
fn a_token_ends_at_its_second_and_may_begin_half_a_minute_early() {
    let jwt = shared();
    // How far from now each time lies, and whether the token is taken.
    let cases = [
        ("exp", 1, true),
        ("exp", 0, false),
        ("exp", -1, false),
        ("exp", -30, false),
        ("nbf", 0, true),
        ("nbf", 30, true),
        ("nbf", 31, false),
        ("iat", 30, true),
        ("iat", 31, false),
        ("iat", -86_400, true),
    ];
    for (name, distance, taken) in cases {
        let time = NOW.checked_add_signed(distance).unwrap();
        let end = if name == "exp" { String::new() } else { format!(r#","exp":{}"#, NOW + 60) };
        for unit in [1, 1_000] {
            let told = refused(&jwt, &format!(r#"{{"{name}":{}{end}}}"#, time * unit));
            assert_eq!(told.is_none(), taken, "{name} in {distance} s, times {unit}: {told:?}");
        }
    }
}

#[test]
fn an_age_counts_where_there_is_no_end_and_an_end_goes_before_it() {
    let aged = Jwt { max_age: Some(300), ..shared() };
    for (claims, taken) in [
        (format!(r#"{{"iat":{}}}"#, NOW - 299), true),
        (format!(r#"{{"iat":{}}}"#, NOW - 300), false),
        (format!(r#"{{"iat":{},"exp":{}}}"#, NOW - 299, NOW), false),
        (format!(r#"{{"iat":{},"exp":{}}}"#, NOW - 301, NOW + 1), true),
        ("{}".into(), false),
        (format!(r#"{{"nbf":{NOW}}}"#), false),
    ] {
        let told = refused(&aged, &claims);
        assert_eq!(told.is_none(), taken, "{claims}: {told:?}");
    }
    // What opens once is not remembered for ever, whoever says how long it lives.
    let vonage = Jwt::vonage(vec![SECRET.into()]);
    let lasting = |seconds| format!(r#"{{"iss":"Vonage","iat":{NOW},"exp":{}}}"#, NOW + seconds);
    assert_eq!(refused(&vonage, &lasting(900)), None);
    assert!(refused(&vonage, &lasting(901)).unwrap().contains("15 minutes at most"));
}

#[test]
fn a_time_that_is_none_is_refused_wherever_it_stands() {
    for name in ["exp", "nbf", "iat"] {
        for time in ["\"1800000060\"", "null", "true", "[]", "{}", "-1", "1e15", "1e300"] {
            let end = if name == "exp" { String::new() } else { format!(r#","exp":{}"#, NOW + 60) };
            let told = refused(&shared(), &format!(r#"{{"{name}":{time}{end}}}"#));
            assert!(told.is_some_and(|told| told.contains("not a number")), "{name}: {time}");
        }
    }
}

#[test]
fn the_listener_says_the_algorithm_and_no_token_does() {
    let jwt = shared();
    let right = headed(r#"{"alg":"HS256"}"#, SECRET.as_bytes());
    assert_eq!(refused_at(NOW, &jwt, &right), None);
    for alg in
        ["none", "None", "NONE", "nOnE", "", "hs256", "HS256 ", "HS384", "HS512", "RS256", "ES256"]
    {
        let token = headed(&format!(r#"{{"alg":"{alg}"}}"#), SECRET.as_bytes());
        assert_refused(&jwt, &token, "another algorithm than HS256");
        let (unsigned, _) = token.rsplit_once('.').unwrap();
        assert_refused(&jwt, &format!("{unsigned}."), "another algorithm than HS256");
    }
    for header in [
        "{}",
        r#"{"typ":"JWT"}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        "[]",
        "",
        r#"{"alg":"HS256","kid":1}"#,
    ] {
        assert_refused(&jwt, &headed(header, SECRET.as_bytes()), "header is not the JSON");
    }
    let critical = headed(r#"{"alg":"HS256","crit":[]}"#, SECRET.as_bytes());
    assert_refused(&jwt, &critical, "extensions");
    let (unsigned, signature) = right.rsplit_once('.').unwrap();
    assert_refused(&jwt, &format!("{unsigned}."), "none of this listener's secrets");
    assert_refused(&jwt, &format!("{unsigned}.{signature}="), "not base64url");
    for odd in [unsigned.to_owned(), format!("{right}."), format!(".{right}"), format!("{right}.a")]
    {
        assert_refused(&jwt, &odd, "token");
    }
}

#[test]
fn a_public_key_is_no_shared_secret() {
    let set = KeySet::parse(JWKS).unwrap();
    let jwt = Jwt::new(JwtKeys::Public(set));
    let modulus = JWKS.split_once("\"n\":\"").unwrap().1.split_once('"').unwrap().0;
    let octets = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(modulus).unwrap();
    for key in [&b""[..], modulus.as_bytes(), &octets, JWKS.as_bytes(), b"AQAB", b"key-1"] {
        for alg in ["HS256", "none"] {
            let header = format!(r#"{{"alg":"{alg}","kid":"key-1"}}"#);
            assert_refused(&jwt, &headed(&header, key), "another algorithm than RS256");
        }
        // The right name, and what it signs by it is no signature of that key.
        let posing = headed(r#"{"alg":"RS256","kid":"key-1"}"#, key);
        assert_refused(&jwt, &posing, "not by the key that it names");
    }
}

#[test]
fn only_a_key_of_the_set_verifies_and_only_under_its_name() {
    let own = KeySet::parse(&format!(r#"{{"keys":[{PRIVATE_JWK}]}}"#)).unwrap();
    let (own, theirs) =
        (Jwt::new(JwtKeys::Public(own)), Jwt::new(JwtKeys::Public(KeySet::parse(JWKS).unwrap())));
    let claims = format!(r#"{{"exp":{}}}"#, NOW + 60);
    let by = |text: &str| rs256(&PrivateJwk::parse(text).unwrap(), &claims);
    let token = by(PRIVATE_JWK);
    assert_eq!(refused_at(NOW, &own, &token), None);
    assert_refused(&theirs, &token, "key set does not hold");
    for (kid, why) in [
        ("key-1", "not by the key"),
        ("ec", "does not hold"),
        ("../key-1", "does not hold"),
        ("", "does not hold"),
    ] {
        let renamed = by(&PRIVATE_JWK.replace("test-1", kid));
        assert_refused(&theirs, &renamed, why);
    }
    let nameless = by(&PRIVATE_JWK.replace(r#""kid":"test-1","#, ""));
    assert_eq!(refused_at(NOW, &own, &nameless), None, "the only one");
    assert_refused(&theirs, &nameless, "there are several");
    // A key that a token brings along, or tells where to get, is a stranger's word.
    for brought in [
        format!(r#""jwk":{}"#, PRIVATE_JWK.trim()),
        r#""jku":"https://x.example/keys""#.into(),
        r#""x5u":"https://x.example/c""#.into(),
    ] {
        let header = format!(r#"{{"alg":"RS256","kid":"test-2",{brought}}}"#);
        assert_refused(&theirs, &headed(&header, b"x"), "does not hold");
    }
}

#[test]
fn what_a_listener_demands_must_be_there_and_be_that_text() {
    let end = NOW + 60;
    let issuer = Jwt { issuer: Some("me".into()), ..shared() };
    let audience = Jwt { audience: Some("bridge".into()), ..shared() };
    let claim = Jwt { claims: vec![("account".into(), "7".into())], ..shared() };
    let cases = [
        (&issuer, "iss", "me", "another issuer"),
        (&audience, "aud", "bridge", "another audience"),
        (&claim, "account", "7", "another account"),
    ];
    for (jwt, name, value, why) in cases {
        assert_eq!(refused(jwt, &format!(r#"{{"exp":{end},"{name}":"{value}"}}"#)), None);
        let others = [
            String::new(),
            format!(r#","{name}":null"#),
            format!(r#","{name}":7"#),
            format!(r#","{name}":true"#),
            format!(r#","{name}":"{value} ""#),
            format!(r#","{name}":"{}""#, value.replace(['m', 'b', '7'], "X")),
            format!(r#","{name}":[]"#),
            format!(r#","{name}":["X",7]"#),
            format!(r#","{name}":[["{value}"]]"#),
            format!(r#","{name}":{{"{value}":"{value}"}}"#),
            format!(r#","{}":"{value}""#, name.to_uppercase()),
        ];
        for other in others {
            let told = refused(jwt, &format!(r#"{{"exp":{end}{other}}}"#));
            assert!(told.as_ref().is_some_and(|told| told.contains(why)), "{other}: {told:?}");
        }
    }
    // A list of one is as good as that one, for an audience and for nothing else (RFC 7519, 4.1.3).
    assert_eq!(refused(&audience, &format!(r#"{{"exp":{end},"aud":["x","bridge"]}}"#)), None);
    assert!(refused(&issuer, &format!(r#"{{"exp":{end},"iss":["me"]}}"#)).is_some());
}

#[test]
fn a_key_that_is_for_something_else_is_none_of_a_set() {
    for (from, to) in [("\"use\":\"sig\"", "\"use\":\"enc\""), ("RS256", "RS512"), ("RSA", "EC")] {
        let set = format!(r#"{{"keys":[{}]}}"#, PRIVATE_JWK.replacen(from, to, 1));
        assert!(set.contains(to), "{to}");
        assert!(matches!(KeySet::parse(&set), Err(KeySetError::NoKey)), "{to}");
    }
}

/// A request of Genesys' whose signature is right, over what `params` says: the reason why it is refused, if it is.
fn refused_over(params: &str) -> Option<String> {
    const HEADERS: [(&str, &str); 5] = [
        ("host", "bridge.example"),
        ("audiohook-organization-id", "o-1"),
        ("audiohook-session-id", "s-1"),
        ("audiohook-correlation-id", "c-1"),
        ("x-api-key", "key-1"),
    ];
    let listed = params.trim_start_matches('(').split(')').next().unwrap();
    let mut base = String::new();
    for name in listed.split(' ').map(|name| name.trim_matches('"')) {
        let value = match name {
            "@request-target" => "/x",
            "@authority" => "bridge.example",
            name => HEADERS.iter().find(|(known, _)| *known == name).unwrap().1,
        };
        base += &format!("\"{name}\": {value}\n");
    }
    base += &format!("\"@signature-params\": {params}");
    let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").unwrap();
    mac.update(base.as_bytes());
    let mac = base64_simd::STANDARD.encode_to_string(mac.finalize().into_bytes());
    let (input, signature) = (format!("sig1={params}"), format!("sig1=:{mac}:"));
    let mut headers = HEADERS.to_vec();
    headers.extend([("signature-input", input.as_str()), ("signature", signature.as_str())]);
    let upgrade = Upgrade { target: "/x", public_url: None, headers: &headers };
    let auth = Auth::GenesysSignature { api_key: "key-1".into(), secrets: vec!["c2VjcmV0".into()] };
    let checked = auth.check(&upgrade, UnixSeconds(NOW), &mut Replays::default());
    checked.err().map(|refusal| refusal.to_string())
}

#[test]
fn a_right_signature_of_genesys_covers_all_that_it_must_and_each_once() {
    let all = [
        "@request-target",
        "@authority",
        "audiohook-organization-id",
        "audiohook-session-id",
        "audiohook-correlation-id",
        "x-api-key",
    ];
    let nonce = r#";nonce="0123456789012345678901""#;
    let params = |names: &[&str], more: &str| {
        let names = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" ");
        let (created, expires) = (NOW, NOW + 5);
        format!(
            r#"({names});keyid="key-1"{more};alg="hmac-sha256";created={created};expires={expires}"#
        )
    };
    assert_eq!(refused_over(&params(&all, nonce)), None);
    for without in 0..all.len() {
        let mut less = all.to_vec();
        less.remove(without);
        let told = refused_over(&params(&less, nonce));
        assert!(told.is_some_and(|told| told.contains("does not cover")), "{}", all[without]);
    }
    let doubled = [&all[..], &["audiohook-session-id"]].concat();
    assert!(refused_over(&params(&doubled, nonce)).is_some(), "a component twice");
    for twice in [nonce, r#";keyid="key-1""#] {
        let told = refused_over(&params(&all, &format!("{nonce}{twice}")));
        assert!(told.is_some(), "{twice} twice");
    }
}

#[test]
fn a_secret_is_printed_as_none() {
    let secret = Secret::from(SECRET);
    assert_eq!(
        format!("{secret} {secret:?} {:?}", [&secret]),
        "[redacted] [redacted] [[redacted]]"
    );
}

#[test]
fn an_empty_secret_verifies_nothing() {
    let jwt = Jwt::new(JwtKeys::Shared(vec![Secret::from(""), SECRET.into()]));
    assert_eq!(refused_at(NOW, &jwt, &headed(r#"{"alg":"HS256"}"#, SECRET.as_bytes())), None);
    assert_refused(&jwt, &headed(r#"{"alg":"HS256"}"#, b""), "none of this listener's secrets");
}
