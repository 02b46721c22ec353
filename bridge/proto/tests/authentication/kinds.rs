//! The table: each kind of credential with what must be let in and what refused, by flaw. Judges nothing itself.

use ringback_proto::UnixSeconds;
use ringback_proto::provider::auth::{
    Jwt, JwtKeys, KeySet, KeySetError, Signing, genesys_signature, hs256, plivo_signature,
    twilio_signature, twilio_signature_sha256, zoom_signature,
};
use ringback_proto::provider::{Auth, Secret};

use super::vectors::*;
use super::{Asked, Flaw, NOW, Tally};
use Flaw::{Expired, Missing, NoSecrets, NotYetValid, OtherScheme, Wrong};

/// Kinds whose credentials expire.
pub(super) const TIMED: [&str; 6] =
    ["jwt: Vonage", "jwt: Avaya", "jwt: Azure", "jwt: any", "genesys-signature", "zoom-signature"];
/// Kinds whose credentials open once.
pub(super) const ONCE: [&str; 4] =
    ["jwt: Vonage", "jwt: Avaya", "genesys-signature", "zoom-signature"];

pub(super) fn all() -> Vec<Tally> {
    vec![
        bearer(),
        subprotocol(),
        basic(),
        header(),
        query(),
        path(),
        twilio(),
        plivo(),
        vonage(),
        avaya(),
        azure(),
        any_jwt(),
        genesys(),
        zoom(),
    ]
}

/// Header fields that are parsed.
pub(super) const FIELDS: [&str; 11] = [
    "authorization",
    "sec-websocket-protocol",
    "x-twilio-signature",
    "x-twilio-webhooks-signature-settings",
    "x-plivo-signature-v3",
    "x-plivo-signature-v3-nonce",
    "x-api-key",
    "signature",
    "signature-input",
    "x-zm-signature",
    "x-zm-request-timestamp",
];

/// Each kind that reads more than one value, with a secret that nobody guesses.
pub(super) fn one_of_each() -> Vec<Auth> {
    let secrets = || secrets(&["c2VjcmV0LWNhbmFyeS0wMTIzNDU2Nzg5YWJjZGVm"]);
    vec![
        Auth::Bearer { tokens: secrets() },
        Auth::Basic { user: "u".into(), passwords: secrets() },
        Auth::Path { tokens: secrets() },
        Auth::Query { name: "token".into(), values: secrets() },
        Auth::TwilioSignature {
            tokens: secrets(),
            shared_keys: vec![("k".into(), secrets().remove(0))],
        },
        Auth::PlivoSignature { prefix: "x-plivo".into(), tokens: secrets(), allow_unsigned: false },
        Auth::Jwt(Jwt::vonage(secrets())),
        Auth::Jwt(Jwt::azure(KeySet::parse(JWKS).unwrap(), "a".into())),
        Auth::GenesysSignature { api_key: secrets().remove(0), secrets: secrets() },
        Auth::ZoomSignature { secrets: secrets() },
    ]
}

fn secrets(texts: &[&str]) -> Vec<Secret> {
    texts.iter().copied().map(Secret::from).collect()
}

fn authorized(value: impl Into<String>) -> Asked {
    Asked::at("/").with("authorization", value)
}

fn bearer() -> Tally {
    let mut tally = Tally::of("bearer", &["old-canary", "new-canary"]);
    let auth = Auth::Bearer { tokens: secrets(&["old-canary", "new-canary"]) };
    for value in ["Bearer old-canary", "bearer new-canary", "BEARER  new-canary "] {
        let grant = tally.accept(value, &auth, &authorized(value), NOW);
        assert_eq!(grant.subprotocol, None, "nothing to answer with");
    }
    for value in
        ["Bearer new-canar", "Bearer new-canaryy", "Bearer NEW-CANARY", "Bearer ", "Bearer"]
    {
        tally.refuse(Wrong, value, &auth, &authorized(value), NOW);
    }
    for value in ["Basic bmV3LWNhbmFyeQ==", "new-canary", "Bearernew-canary", ""] {
        tally.refuse(OtherScheme, value, &auth, &authorized(value), NOW);
    }
    tally.refuse(Missing, "no field", &auth, &Asked::at("/"), NOW);
    for tokens in [&[][..], &[""]] {
        let nobody = Auth::Bearer { tokens: secrets(tokens) };
        for value in ["Bearer new-canary", "Bearer ", "Bearer  "] {
            tally.refuse(NoSecrets, value, &nobody, &authorized(value), NOW);
        }
    }
    tally
}

fn subprotocol() -> Tally {
    const FIELD: &str = "sec-websocket-protocol";
    let mut tally = Tally::of("bearer: subprotocol", &["canary.token_1"]);
    let auth = Auth::Bearer { tokens: secrets(&["canary.token_1"]) };
    let offered = |value: &str| Asked::at("/").with(FIELD, value);
    for value in ["Bearer-canary.token_1", "audio.v1, Bearer-canary.token_1"] {
        let grant = tally.accept(value, &auth, &offered(value), NOW);
        assert_eq!(grant.subprotocol.as_ref().unwrap().expose(), "Bearer-canary.token_1");
        assert!(!format!("{grant:?}").contains("canary"), "{grant:?}");
    }
    let by_field = offered("Bearer-other").with("authorization", "Bearer canary.token_1");
    tally.accept("the field counts", &auth, &by_field, NOW);
    for value in
        ["Bearer-canary.token_2", "Bearer-", "Bearer-canary", "Bearer-x, Bearer-canary.token_1"]
    {
        tally.refuse(Wrong, value, &auth, &offered(value), NOW);
    }
    let by_field = offered("Bearer-canary.token_1").with("authorization", "Bearer other");
    tally.refuse(Wrong, "the field counts", &auth, &by_field, NOW);
    for value in ["bearer-canary.token_1", "Basic-canary.token_1", "canary.token_1"] {
        tally.refuse(OtherScheme, value, &auth, &offered(value), NOW);
    }
    tally.refuse(Missing, "no subprotocol", &auth, &Asked::at("/"), NOW);
    let nobody = Auth::Bearer { tokens: Vec::new() };
    tally.refuse(NoSecrets, "", &nobody, &offered("Bearer-canary.token_1"), NOW);
    tally
}

fn basic() -> Tally {
    let mut tally = Tally::of("basic", &["media_pass"]);
    let auth =
        Auth::Basic { user: "media_user".into(), passwords: secrets(&["old", "media_pass"]) };
    let basic =
        |text: &str| authorized(format!("Basic {}", base64_simd::STANDARD.encode_to_string(text)));
    // As Asterisk 23 sends it.
    tally.accept("Asterisk", &auth, &authorized("Basic bWVkaWFfdXNlcjptZWRpYV9wYXNz"), NOW);
    tally.accept("rotated", &auth, &basic("media_user:old"), NOW);
    for text in ["media_user:media_past", "media_usex:media_pass", "media_user", ":", "", "a:b:c"] {
        tally.refuse(Wrong, text, &auth, &basic(text), NOW);
    }
    for value in ["Basic *", "Basic /w==", "Basic "] {
        tally.refuse(Wrong, value, &auth, &authorized(value), NOW);
    }
    tally.refuse(OtherScheme, "", &auth, &authorized("Bearer bWVkaWFfdXNlcjptZWRpYV9wYXNz"), NOW);
    tally.refuse(Missing, "", &auth, &Asked::at("/"), NOW);
    let nobody = Auth::Basic { user: "media_user".into(), passwords: secrets(&[""]) };
    for text in ["media_user:", "media_user:media_pass"] {
        tally.refuse(NoSecrets, text, &nobody, &basic(text), NOW);
    }
    tally
}

fn header() -> Tally {
    const FIELD: &str = "x-telnyx-streaming-auth-token";
    let mut tally = Tally::of("header", &["canary"]);
    let auth = Auth::Header { name: FIELD.into(), values: secrets(&["old", "canary"]) };
    for value in ["old", "canary"] {
        tally.accept(value, &auth, &Asked::at("/").with(FIELD, value), NOW);
    }
    for value in ["Canary", "canary2", "canar", ""] {
        tally.refuse(Wrong, value, &auth, &Asked::at("/").with(FIELD, value), NOW);
    }
    tally.refuse(OtherScheme, "", &auth, &authorized("Bearer canary"), NOW);
    tally.refuse(Missing, "", &auth, &Asked::at("/"), NOW);
    let nobody = Auth::Header { name: FIELD.into(), values: secrets(&[""]) };
    tally.refuse(NoSecrets, "", &nobody, &Asked::at("/").with(FIELD, ""), NOW);
    tally
}

fn query() -> Tally {
    let mut tally = Tally::of("query", &["a b+"]);
    let auth = Auth::Query { name: "token".into(), values: secrets(&["a b+", "new"]) };
    for target in ["/raw?x=1&token=a+b%2B", "/raw?token=new"] {
        tally.accept(target, &auth, &Asked::at(target), NOW);
    }
    for target in ["/raw?token=a", "/raw?token=", "/raw?token", "/raw?token=x&token=new"] {
        tally.refuse(Wrong, target, &auth, &Asked::at(target), NOW);
    }
    tally.refuse(OtherScheme, "", &auth, &Asked::at("/raw?key=new"), NOW);
    tally.refuse(Missing, "", &auth, &Asked::at("/raw"), NOW);
    let nobody = Auth::Query { name: "token".into(), values: secrets(&[""]) };
    tally.refuse(NoSecrets, "", &nobody, &Asked::at("/raw?token="), NOW);
    tally
}

fn path() -> Tally {
    let mut tally = Tally::of("path", &["s3cret"]);
    let auth = Auth::Path { tokens: secrets(&["s3cret", "s4cret"]) };
    for target in ["/twilio/s3cret", "/twilio/s4cret", "/twilio/s3cret/?x=1"] {
        tally.accept(target, &auth, &Asked::at(target), NOW);
    }
    for target in ["/s3cret/twilio", "/twilio/s3crett", "/twilio/S3CRET"] {
        tally.refuse(Wrong, target, &auth, &Asked::at(target), NOW);
    }
    tally.refuse(OtherScheme, "in the query", &auth, &Asked::at("/twilio?s3cret"), NOW);
    for target in ["/twilio", "/"] {
        tally.refuse(Missing, target, &auth, &Asked::at(target), NOW);
    }
    let nobody = Auth::Path { tokens: secrets(&[""]) };
    tally.refuse(NoSecrets, "", &nobody, &Asked::at("/"), NOW);
    tally
}

fn twilio() -> Tally {
    const TOKEN: &str = "12345678901234567890123456789012";
    const SHARED: &str = "shared-key-secret-0123456789abcdef";
    const SIGNATURE: &str = "x-twilio-signature";
    const SETTINGS: &str = "x-twilio-webhooks-signature-settings";
    const URL: &str = "wss://bridge.example.com/v1/twilio/media";
    const RIGHT: &str = "Pc84qW53Xlr3C4rgoiDo5LJy/uU=";
    let mut tally = Tally::of("twilio-signature", &[TOKEN, SHARED]);
    let auth = Auth::TwilioSignature {
        tokens: secrets(&["another", TOKEN]),
        shared_keys: vec![("webhooks_sharedkey_1".into(), SHARED.into())],
    };
    let media =
        |signature: &str| Asked::at("/v1/twilio/media").public(URL).with(SIGNATURE, signature);
    let relay = |target: &str, signature: &str| {
        Asked::at(target).public("wss://bridge.example.com/cr").with(SIGNATURE, signature)
    };
    let shared = |signature: &str, settings: &str| media(signature).with(SETTINGS, settings);
    let right = media(RIGHT);
    tally.accept("as configured", &auth, &right, NOW);
    tally.accept("a slash more", &auth, &media("OI2mzQRMvgBVobfjpb4GStfKo04="), NOW);
    let slashed = right.clone().public("wss://bridge.example.com/v1/twilio/media/");
    tally.accept("a slash less", &auth, &slashed, NOW);
    let query = "/cr?token=abc&foo=bar";
    tally.accept("joined", &auth, &relay(query, "H30yT/YktPFGDx053V86ZikRR9M="), NOW);
    tally.accept("in place", &auth, &relay(query, "EYHtVpvQc6Yb8OwRf0fKYFwzHFo="), NOW);
    let dropped = relay("/cr", "EYHtVpvQc6Yb8OwRf0fKYFwzHFo=")
        .public("wss://bridge.example.com/cr?token=abc&foo=bar");
    tally.accept("signed and not sent", &auth, &dropped, NOW);
    let settings = "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256";
    tally.accept("shared key", &auth, &shared(TWILIO_SHA256, settings), NOW);
    tally.accept("the old way, said", &auth, &shared(RIGHT, "algorithm=HMAC_SHA1"), NOW);
    tally.accept("empty settings", &auth, &shared(RIGHT, ""), NOW);

    let wrong = [
        ("LifR/g+OmuS4vgiXaG6n7hmXVeg=", "https instead of wss"),
        ("H30yT/YktPFGDx053V86ZikRR9M=", "another URL"),
        ("Pc84qW53Xlr3C4rgoiDo5LJy/uQ=", "one bit off"),
        ("Pc84qW53Xlr3C4rgoiDo5LJy", "cut"),
        ("", "empty"),
        ("!", "not base64"),
    ];
    for (signature, why) in wrong {
        tally.refuse(Wrong, why, &auth, &media(signature), NOW);
    }
    let more = Asked { target: "/v1/twilio/media?admin=1".into(), ..right.clone() };
    tally.refuse(Wrong, "a query that was not signed", &auth, &more, NOW);
    for (signature, settings) in [
        (TWILIO_SHA256, "key=webhooks_sharedkey_2,algorithm=HMAC_SHA256"),
        (TWILIO_SHA256_TOKEN, "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"),
        (RIGHT, settings),
    ] {
        tally.refuse(Wrong, settings, &auth, &shared(signature, settings), NOW);
    }
    for (signature, settings) in [
        (TWILIO_SHA256, "key=webhooks_sharedkey_1,algorithm=HMAC_SHA512"),
        (TWILIO_SHA256, "key=webhooks_sharedkey_1"),
        (TWILIO_SHA256_TOKEN, "algorithm=HMAC_SHA256"),
        (TWILIO_SHA1_SHARED, "key=webhooks_sharedkey_1,algorithm=HMAC_SHA1"),
        (RIGHT, "algorithm=none"),
        (TWILIO_SHA256, ""),
    ] {
        tally.refuse(OtherScheme, settings, &auth, &shared(signature, settings), NOW);
    }
    tally.refuse(
        OtherScheme,
        "bearer",
        &auth,
        &authorized(format!("Bearer {TOKEN}")).public(URL),
        NOW,
    );
    tally.refuse(Missing, "signature", &auth, &right.clone().without(SIGNATURE), NOW);
    let told =
        tally.refuse(Missing, "URL", &auth, &Asked { public_url: None, ..right.clone() }, NOW);
    assert!(told.contains("no public URL"), "{told}");
    for tokens in [&[][..], &["", "another"]] {
        let nobody = Auth::TwilioSignature {
            tokens: secrets(tokens),
            shared_keys: vec![("webhooks_sharedkey_1".into(), "".into())],
        };
        let keyless = twilio_signature(&"".into(), URL);
        for asked in [&right, &media(&keyless), &shared(TWILIO_SHA256, settings)] {
            tally.refuse(NoSecrets, "", &nobody, asked, NOW);
        }
    }
    assert_eq!(twilio_signature(&TOKEN.into(), URL), RIGHT);
    assert_eq!(twilio_signature_sha256(&SHARED.into(), URL), TWILIO_SHA256);
    tally
}

fn plivo() -> Tally {
    const TOKEN: &str = "MjU1MDg4YzQ0YWQ0NDZkNzg2ZjA5ZWQ1MmU1MzM2";
    const MAIN: &str = "TWFpbkFjY291bnRUb2tlbjAxMjM0NTY3ODlhYmNkZWY";
    const URL: &str = "wss://bridge.example.com/v1/plivo/media";
    const RIGHT: &str = "Ih0kodXYsUiWmjybuRs/geIBEpvCOLH4pKJgVbKTj80=";
    let mut tally = Tally::of("plivo-signature", &[TOKEN, MAIN]);
    let accepting = |prefix: &str, tokens: &[&str], allow_unsigned| Auth::PlivoSignature {
        prefix: prefix.into(),
        tokens: secrets(tokens),
        allow_unsigned,
    };
    let auth = accepting("x-plivo", &[TOKEN, MAIN], false);
    let bare = Asked::at("/v1/plivo/media").public(URL);
    let with_nonce = bare.clone().with("x-plivo-signature-v3-nonce", "12345");
    let signed = |signature: &str| with_nonce.clone().with("x-plivo-signature-v3", signature);
    let main = |signature: &str| with_nonce.clone().with("x-plivo-signature-ma-v3", signature);
    let right = signed(RIGHT);
    tally.accept("of the account", &auth, &right, NOW);
    tally.accept("of the main account", &auth, &main(PLIVO_MAIN_ACCOUNT), NOW);
    let several = format!("{},{RIGHT}", "A".repeat(44));
    tally.accept("one of several", &auth, &signed(&several), NOW);
    tally.accept(
        "main account, other one wrong",
        &auth,
        &main(RIGHT).with("x-plivo-signature-v3", "AAAA"),
        NOW,
    );
    for (target, signature) in [
        ("/v1/plivo/media?b=2&a=x%20y&flag=", PLIVO_QUERY),
        ("/v1/plivo/media?flag&a=x+y&b=2", PLIVO_QUERY),
        ("/v1/plivo/media?a=2&a=1", PLIVO_REPEATED),
    ] {
        let asked = Asked { target: target.into(), ..signed(signature) };
        tally.accept(target, &auth, &asked, NOW);
    }
    for url in [URL.replace("wss:", "https:"), URL.replace("wss:", "http:")] {
        let signature = plivo_signature(&TOKEN.into(), &url, "12345");
        tally.accept(&url, &auth, &signed(&signature), NOW);
    }
    let vobiz = bare
        .clone()
        .with("x-vobiz-signature-v3", RIGHT)
        .with("x-vobiz-signature-v3-nonce", "12345");
    tally.accept("Vobiz", &accepting("x-vobiz", &[TOKEN], false), &vobiz, NOW);
    let lenient = accepting("x-plivo", &[TOKEN], true);
    tally.accept("unsigned, if allowed", &lenient, &bare, NOW);
    assert!(lenient.opens_for_strangers() && !auth.opens_for_strangers());

    for (signature, why) in [
        (PLIVO_OTHER_NONCE, "another nonce"),
        (PLIVO_QUERY, "another URL"),
        ("Ih0kodXYsUiWmjybuRs/geIBEpvCOLH4pKJgVbKTj8A=", "a bit off"),
        ("", "empty"),
        ("!,,*", "not base64"),
    ] {
        tally.refuse(Wrong, why, &auth, &signed(signature), NOW);
        tally.refuse(Wrong, why, &lenient, &signed(signature), NOW);
    }
    let more = Asked { target: "/v1/plivo/media?admin=1".into(), ..right.clone() };
    tally.refuse(Wrong, "a query that was not signed", &auth, &more, NOW);
    tally.refuse(OtherScheme, "another prefix", &auth, &vobiz, NOW);
    tally.refuse(
        OtherScheme,
        "bearer",
        &auth,
        &authorized(format!("Bearer {TOKEN}")).public(URL),
        NOW,
    );
    tally.refuse(Missing, "signature", &auth, &with_nonce, NOW);
    tally.refuse(Missing, "nonce", &auth, &bare.clone().with("x-plivo-signature-v3", RIGHT), NOW);
    tally.refuse(Missing, "URL", &auth, &Asked { public_url: None, ..right.clone() }, NOW);
    for tokens in [&[][..], &[""]] {
        let nobody = accepting("x-plivo", tokens, false);
        tally.refuse(NoSecrets, "", &nobody, &right, NOW);
        let keyless = plivo_signature(&"".into(), URL, "12345");
        tally.refuse(NoSecrets, "", &nobody, &signed(&keyless), NOW);
    }
    assert_eq!(plivo_signature(&TOKEN.into(), URL, "12345"), RIGHT);
    tally
}

fn token(token: &str) -> Asked {
    authorized(format!("Bearer {token}"))
}

fn vonage() -> Tally {
    const SECRET: &str = "vonage-signature-secret-0123456789abcdef";
    const OF_THE_REFERENCE: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJWb25hZ2UiLCJpYXQiOjE3MDAwMDAwMDAsImp0aSI6IjhhNWMxZjBlLTAwMDAtNDAwMC04MDAwLTAwMDAwMDAwMDAwMSIsImFwaV9rZXkiOiJhYmNkMTIzNCIsImFwcGxpY2F0aW9uX2lkIjoiYWFhYWFhYWEtYmJiYi1jY2NjLWRkZGQtMDEyMzQ1Njc4OWFiIiwicGF5bG9hZF9oYXNoIjoiMDE1YWJkN2Y1Y2M1N2EyZGQ5NGI3NTkwZjA0YWQ4MDg0MjczOTA1ZWUzM2VjNWNlYmVhZTYyMjc2YTk3Zjg2MiJ9.tXLqN7dv3cHngsqhXH25KdLKYPBsfFoa5_VIsXB1tP8";
    let mut tally = Tally::of("jwt: Vonage", &[SECRET]);
    let claims =
        [("api_key", "abcd1234"), ("application_id", "aaaaaaaa-bbbb-cccc-dddd-0123456789ab")];
    let claims = claims.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let with =
        |texts: &[&str]| Auth::Jwt(Jwt { claims: claims.clone(), ..Jwt::vonage(secrets(texts)) });
    let auth = with(&["old", SECRET]);
    let any_account = Auth::Jwt(Jwt::vonage(secrets(&[SECRET])));
    tally.accept("right", &auth, &token(VONAGE_GOOD), NOW);
    tally.accept("at its last second", &auth, &token(VONAGE_GOOD), NOW + 299);
    tally.accept("by a fast clock", &auth, &token(VONAGE_GOOD), NOW - 30);
    tally.accept("the reference's", &auth, &token(OF_THE_REFERENCE), 1_700_000_001);
    tally.accept("another account, if any may", &any_account, &token(VONAGE_OTHER_ACCOUNT), NOW);
    tally.once(&auth, &token(VONAGE_GOOD), NOW);

    let cut = &VONAGE_GOOD[..VONAGE_GOOD.len() - 2];
    let parts: Vec<_> = VONAGE_GOOD.split('.').collect();
    let mixed = [parts[0], OF_THE_REFERENCE.split('.').nth(1).unwrap(), parts[2]].join(".");
    let twice = format!("{VONAGE_GOOD}.{}", parts[2]);
    let padded = format!("{VONAGE_GOOD}=");
    let cases: [(&str, &str); 10] = [
        (cut, "cut signature"),
        (&mixed, "claims of another token"),
        (&twice, "four parts"),
        (&padded, "padding"),
        ("a.b.c", "nothing"),
        ("..", "empty parts"),
        ("", "empty"),
        (VONAGE_WRONG_ISSUER, "issuer"),
        (VONAGE_OTHER_ACCOUNT, "account"),
        (VONAGE_OTHER_APPLICATION, "application"),
    ];
    for (text, why) in cases {
        tally.refuse(Wrong, why, &auth, &token(text), NOW);
    }
    let by_other = hs256(&"other".into(), &format!(r#"{{"iss":"Vonage","iat":{NOW}}}"#));
    tally.refuse(Wrong, "secret", &any_account, &token(&by_other), NOW);
    for time in ["\"1800000000\"", "-1", "1e300", "null", "[]"] {
        let odd = hs256(&SECRET.into(), &format!(r#"{{"iss":"Vonage","iat":{time}}}"#));
        tally.refuse(Wrong, time, &any_account, &token(&odd), NOW);
    }
    for text in ["[]", "1", "", "{"] {
        let odd = hs256(&SECRET.into(), text);
        tally.refuse(Wrong, text, &any_account, &token(&odd), NOW);
    }
    tally.refuse(Expired, "after five minutes", &auth, &token(VONAGE_GOOD), NOW + 300);
    tally.refuse(Expired, "years later", &auth, &token(OF_THE_REFERENCE), NOW);
    tally.refuse(Expired, "no time at all", &auth, &token(VONAGE_NO_TIME), NOW);
    tally.refuse(NotYetValid, "from tomorrow", &auth, &token(VONAGE_GOOD), NOW - 31);
    for text in [VONAGE_HS512, VONAGE_NONE, AZURE_GOOD] {
        tally.refuse(OtherScheme, "algorithm", &auth, &token(text), NOW);
    }
    tally.refuse(OtherScheme, "basic", &auth, &authorized(format!("Basic {VONAGE_GOOD}")), NOW);
    tally.refuse(Missing, "", &auth, &Asked::at("/"), NOW);
    for texts in [&[][..], &[""]] {
        tally.refuse(NoSecrets, "", &with(texts), &token(VONAGE_GOOD), NOW);
    }
    tally
}

fn avaya() -> Tally {
    const PRIMARY: &str = "0123456789abcdef0123456789abcdef";
    const SECONDARY: &str = "fedcba9876543210fedcba9876543210";
    let mut tally = Tally::of("jwt: Avaya", &[PRIMARY, SECONDARY]);
    let auth = Auth::Jwt(Jwt::avaya(secrets(&[PRIMARY, SECONDARY])));
    tally.accept("primary, milliseconds", &auth, &token(AVAYA_PRIMARY_MILLIS), NOW);
    tally.accept("secondary, seconds", &auth, &token(AVAYA_SECONDARY_SECONDS), NOW + 299);
    tally.once(&auth, &token(AVAYA_PRIMARY_MILLIS), NOW);
    tally.once(&auth, &token(AVAYA_SECONDARY_SECONDS), NOW);
    tally.refuse(Wrong, "key decoded", &auth, &token(AVAYA_DECODED_KEY), NOW);
    let primary = Auth::Jwt(Jwt::avaya(secrets(&[PRIMARY])));
    tally.refuse(Wrong, "key withdrawn", &primary, &token(AVAYA_SECONDARY_SECONDS), NOW);
    let long = hs256(&PRIMARY.into(), &format!(r#"{{"iat":{NOW},"exp":{}}}"#, NOW + 86_400));
    tally.refuse(Wrong, "valid for longer than remembered", &auth, &token(&long), NOW);
    for text in [AVAYA_PRIMARY_MILLIS, AVAYA_SECONDARY_SECONDS] {
        tally.refuse(Expired, "after five minutes", &auth, &token(text), NOW + 300);
        tally.refuse(NotYetValid, "a minute early", &auth, &token(text), NOW - 60);
    }
    let endless = hs256(&PRIMARY.into(), &format!(r#"{{"iat":{NOW}}}"#));
    tally.refuse(Expired, "no end", &auth, &token(&endless), NOW);
    tally.refuse(OtherScheme, "", &auth, &token(AZURE_GOOD), NOW);
    tally.refuse(Missing, "", &auth, &Asked::at("/"), NOW);
    let nobody = Auth::Jwt(Jwt::avaya(Vec::new()));
    tally.refuse(NoSecrets, "", &nobody, &token(AVAYA_PRIMARY_MILLIS), NOW);
    tally
}

fn azure() -> Tally {
    const AUDIENCE: &str = "7a6b5c4d-0000-4000-8000-000000000001";
    let mut tally = Tally::of("jwt: Azure", &[]);
    let keys = KeySet::parse(JWKS).unwrap();
    assert_eq!(keys.len(), 2, "the key on an elliptic curve is left out");
    let auth = Auth::Jwt(Jwt::azure(keys.clone(), AUDIENCE.into()));
    for text in [AZURE_GOOD, AZURE_GOOD_KEY_2, AZURE_AUDIENCE_LIST] {
        tally.accept("right", &auth, &token(text), NOW);
        tally.accept("hours later", &auth, &token(text), NOW + 86_399);
    }
    let first = JWKS.replace("\"key-2\"", "\"key-2\",\"use\":\"enc\"");
    assert!(KeySet::parse(&first).is_err(), "a key said twice to be for something");
    let one = Auth::Jwt(Jwt::azure(KeySet::parse(&only_first_key()).unwrap(), AUDIENCE.into()));
    tally.accept("one key needs no name", &one, &token(AZURE_NO_KID), NOW);

    for (text, why) in [
        (AZURE_FORGED, "another key under a known name"),
        (AZURE_NO_KID, "no name"),
        (AZURE_WRONG_AUDIENCE, "audience"),
        (AZURE_WRONG_ISSUER, "issuer"),
        (AZURE_CRITICAL, "extension"),
        ("a.b.c", "nothing"),
    ] {
        tally.refuse(Wrong, why, &auth, &token(text), NOW);
    }
    let (signed, signature) = AZURE_GOOD.rsplit_once('.').unwrap();
    for odd in ["", "AAAA", &signature[..signature.len() - 4], &format!("AAAA{signature}")] {
        tally.refuse(Wrong, "signature", &auth, &token(&format!("{signed}.{odd}")), NOW);
    }
    let told = tally.refuse(Wrong, "unknown key", &auth, &token(AZURE_UNKNOWN_KID), NOW);
    assert!(told.contains("`kid`") && told.contains("present set"), "{told}");
    tally.refuse(Expired, "after a day", &auth, &token(AZURE_GOOD), NOW + 86_400);
    tally.refuse(Expired, "no end", &auth, &token(AZURE_NO_EXPIRY), NOW);
    tally.refuse(NotYetValid, "a minute early", &auth, &token(AZURE_GOOD), NOW - 60);
    for text in [AZURE_NONE, AZURE_HS256_PEM, AZURE_HS256_JWKS, AZURE_RS512, AZURE_PSS, VONAGE_GOOD]
    {
        tally.refuse(OtherScheme, "algorithm", &auth, &token(text), NOW);
    }
    tally.refuse(Missing, "", &auth, &Asked::at("/"), NOW);
    for (set, wanted) in [
        (r#"{"keys":[]}"#, KeySetError::NoKey),
        (r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#, KeySetError::NoKey),
        (r#"{"keys":[{"kty":"oct","k":"AQAB"}]}"#, KeySetError::NoKey),
    ] {
        assert_eq!(KeySet::parse(set), Err(wanted), "{set}");
    }
    let told = KeySet::parse("\"canary\"").unwrap_err();
    assert!(matches!(told, KeySetError::NotJson { line: 1, .. }), "{told}");
    assert!(!format!("{told} {told:?}").contains("canary"), "{told}");
    // There is no empty key set: a listener with one cannot be configured. The next best is one whose keys are all of others.
    let others = Auth::Jwt(Jwt::azure(KeySet::parse(&only_first_key()).unwrap(), AUDIENCE.into()));
    tally.refuse(NoSecrets, "not its key", &others, &token(AZURE_GOOD_KEY_2), NOW);
    tally
}

fn only_first_key() -> String {
    let end = JWKS.find("},{").unwrap();
    format!("{}}}]}}", &JWKS[..end])
}

/// A listener's own demands: no issuer's habits.
fn any_jwt() -> Tally {
    const SECRET: &str = "a-secret-of-our-own-0123456789abcdef";
    let mut tally = Tally::of("jwt: any", &[SECRET]);
    let rules =
        Jwt { audience: Some("bridge".into()), ..Jwt::new(JwtKeys::Shared(secrets(&[SECRET]))) };
    let auth = Auth::Jwt(rules.clone());
    let made = |claims: &str| token(&hs256(&SECRET.into(), claims));
    let right = made(r#"{"aud":"bridge","nbf":1799999990,"exp":1800000060.5}"#);
    tally.accept("right", &auth, &right, NOW);
    let mut subprotocol = Asked::at("/");
    for (_, value) in &right.headers {
        subprotocol = subprotocol.with("sec-websocket-protocol", value.replacen(' ', "-", 1));
    }
    let grant = tally.accept("by a browser", &auth, &subprotocol, NOW);
    assert!(grant.subprotocol.is_some(), "to be answered with");
    tally.refuse(Wrong, "audience", &auth, &made(r#"{"aud":["x"],"exp":1800000060}"#), NOW);
    tally.refuse(Wrong, "no audience", &auth, &made(r#"{"exp":1800000060}"#), NOW);
    tally.refuse(Expired, "", &auth, &right, NOW + 60);
    let early = made(r#"{"aud":"bridge","nbf":1800000031,"exp":1800000060}"#);
    tally.refuse(NotYetValid, "", &auth, &early, NOW);
    tally.refuse(OtherScheme, "", &auth, &token(AZURE_GOOD), NOW);
    tally.refuse(Missing, "", &auth, &Asked::at("/"), NOW);
    let nobody = Auth::Jwt(Jwt { keys: JwtKeys::Shared(Vec::new()), ..rules });
    tally.refuse(NoSecrets, "", &nobody, &right, NOW);
    tally
}

fn genesys() -> Tally {
    const SECRET: &str = "TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU=";
    const KEY: &str = "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh";
    const PARAMS: &str = r#"("@request-target" "@authority" "audiohook-organization-id" "audiohook-session-id" "audiohook-correlation-id" "x-api-key");keyid="SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh";nonce="xTLrN8vkPap5azrOMEGfILI3";alg="hmac-sha256";created=1795210993;expires=1795211023"#;
    const CREATED: u64 = 1_795_210_993;
    let mut tally = Tally::of("genesys-signature", &[SECRET, KEY]);
    let accepting =
        |texts: &[&str]| Auth::GenesysSignature { api_key: KEY.into(), secrets: secrets(texts) };
    let auth = accepting(&["b2xk", SECRET]);
    // Recorded from the reference client.
    let recorded = Asked::at("/api/v1/audiohook/ws?x=1")
        .with("audiohook-organization-id", "3c8777b9-d100-42d6-8fac-16b69763386b")
        .with("audiohook-session-id", "a5688829-2c17-4ad6-85c3-46c5891793b3")
        .with("audiohook-correlation-id", "980f7da1-902d-4bda-bf6d-06acde0ac844")
        .with("x-api-key", KEY)
        .with("signature-input", format!("sig1={PARAMS}"))
        .with("signature", "sig1=:ilJKug2hQU8jAG7Xgc7t89cZQC8i/h/h6+pRvcU3VTc=:")
        .with("host", "127.0.0.1:3100");
    for now in [CREATED - 3, CREATED, CREATED + 1, CREATED + 13] {
        tally.accept("recorded", &auth, &recorded, now);
    }
    for url in ["wss://127.0.0.1:3100/other", "wss://127.0.0.1:3100?x"] {
        let proxied = recorded.clone().but("host", "10.0.0.7:8080").public(url);
        tally.accept("behind a proxy", &auth, &proxied, CREATED);
    }
    let relabelled = recorded
        .clone()
        .but("signature-input", format!("g={PARAMS}, other=(\"x\")"))
        .but("signature", "other=:AAAA:, g=:ilJKug2hQU8jAG7Xgc7t89cZQC8i/h/h6+pRvcU3VTc=:");
    tally.accept("by another label, among others", &auth, &relabelled, CREATED);
    tally.once(&auth, &recorded, CREATED);

    // Made here.
    let sign = |asked: &Asked, nonce: &str, secret: &str| {
        let (created, expires) = (UnixSeconds(NOW), UnixSeconds(NOW + 5));
        let secret = Secret::from(secret);
        let signing = Signing { secret: &secret, nonce, created, expires };
        let signed = asked.upgrade(|upgrade| genesys_signature(upgrade, &signing)).unwrap();
        let [input, signature] = signed;
        asked.clone().but("signature-input", input).but("signature", signature)
    };
    let nonce = "0123456789012345678901";
    for (host, url) in [
        ("Bridge.Example", Some("wss://bridge.example:443/x")),
        ("bridge.example:443", Some("wss://BRIDGE.example")),
        ("bridge.example", Some("ws://bridge.example:80/")),
        ("bridge.example:443", None),
    ] {
        let dialled = sign(&recorded.clone().but("host", host), nonce, SECRET);
        let arrived = Asked { public_url: url, ..dialled.but("host", "bridge.example") };
        let plain = Asked { public_url: url, ..recorded.clone().but("host", "bridge.example") };
        tally.accept(host, &auth, &sign(&plain, nonce, SECRET), NOW);
        tally.accept(host, &auth, &arrived, NOW);
    }

    for (name, value) in [
        ("audiohook-organization-id", "3c8777b9-d100-42d6-8fac-16b69763386c"),
        ("audiohook-session-id", "another"),
        ("audiohook-correlation-id", ""),
        ("x-api-key", "another"),
        ("host", "127.0.0.1:3101"),
        ("signature", "sig1=:ilJKug2hQU8jAG7Xgc7t89cZQC8i/h/h6+pRvcU3VTY=:"),
        ("signature", "sig1=::"),
        ("signature", "sig1=ilJKug2hQU8jAG7Xgc7t89cZQC8i/h/h6+pRvcU3VTc="),
        ("signature", "sig2=:ilJKug2hQU8jAG7Xgc7t89cZQC8i/h/h6+pRvcU3VTc=:"),
    ] {
        tally.refuse(Wrong, name, &auth, &recorded.clone().but(name, value), CREATED);
    }
    let elsewhere = Asked { target: "/api/v1/audiohook/ws?x=2".into(), ..recorded.clone() };
    tally.refuse(Wrong, "target", &auth, &elsewhere, CREATED);
    let doubled = recorded.clone().with("audiohook-session-id", "another");
    tally.refuse(Wrong, "a field twice", &auth, &doubled, CREATED);
    let by_other = sign(&recorded, nonce, "b3RoZXI=");
    tally.refuse(Wrong, "secret", &auth, &by_other, NOW);
    let other_key = sign(&recorded.clone().but("x-api-key", "another"), nonce, SECRET);
    tally.refuse(Wrong, "right secret, another key", &auth, &other_key, NOW);
    tally.refuse(Wrong, "short nonce", &auth, &sign(&recorded, &nonce[1..], SECRET), NOW);
    for (from, to) in [
        (" \"x-api-key\"", ""),
        ("\"@authority\" ", ""),
        ("\"x-api-key\"", "\"x-api-key\" \"x-api-key\""),
        ("\"x-api-key\"", "\"x-api-key\" \"@method\""),
        ("\"x-api-key\"", "\"x-api-key\" \"absent\""),
        ("\"x-api-key\"", "\"x-api-key\";sf"),
        ("\"x-api-key\")", "\"x-api-key\""),
        (";keyid", ";keyid=\"a\";keyid"),
        (";nonce=\"xTLrN8vkPap5azrOMEGfILI3\"", ""),
        ("=1795210993", "=soon"),
        (";created=1795210993", ""),
        ("expires=1795211023", "expires=1795299999"),
        ("\" \"", "\"  \""),
    ] {
        let input = format!("sig1={}", PARAMS.replacen(from, to, 1));
        let asked = recorded.clone().but("signature-input", input);
        tally.refuse(Wrong, to, &auth, &asked, CREATED);
    }
    for input in ["", "sig1", "sig1=", "sig1=()", "=();x", "sig1=(\"a\");b=\""] {
        tally.refuse(Wrong, input, &auth, &recorded.clone().but("signature-input", input), CREATED);
    }
    for alg in ["none", "hmac-sha512", "rsa-pss-sha512"] {
        let input = format!("sig1={}", PARAMS.replace("hmac-sha256", alg));
        let asked = recorded.clone().but("signature-input", input);
        let told = tally.refuse(OtherScheme, alg, &auth, &asked, CREATED);
        assert!(told.contains("algorithm"), "{told}");
    }
    let bearer = recorded.clone().without("signature-input").without("signature");
    tally.refuse(OtherScheme, "", &auth, &bearer.with("authorization", "Bearer x"), CREATED);
    for name in ["x-api-key", "signature", "signature-input", "audiohook-session-id", "host"] {
        tally.refuse(Missing, name, &auth, &recorded.clone().without(name), CREATED);
    }
    tally.refuse(Expired, "14 s old", &auth, &recorded, CREATED + 14);
    tally.refuse(Expired, "`expires` passed", &auth, &sign(&recorded, nonce, SECRET), NOW + 9);
    tally.refuse(NotYetValid, "4 s ahead", &auth, &recorded, CREATED - 4);
    for texts in [&[][..], &[""], &["*"]] {
        tally.refuse(NoSecrets, "", &accepting(texts), &recorded, CREATED);
    }
    let keyless = Auth::GenesysSignature { api_key: "".into(), secrets: secrets(&[SECRET]) };
    let no_key = sign(&recorded.clone().but("x-api-key", ""), nonce, SECRET);
    tally.refuse(NoSecrets, "no API key", &keyless, &no_key, NOW);
    tally
}

fn zoom() -> Tally {
    const SECRET: &str = "zoom-secret-token";
    // By Python's hmac.
    const SIGNED: &str = "v0=ad94652ec2928ca166173726081b128cc47129c82ea29a1765fea3327f4fab39";
    const BODY: &str = r#"{"event":"meeting.rtms_started","payload":{"rtms_stream_id":"st-1"}}"#;
    let mut tally = Tally::of("zoom-signature", &[SECRET]);
    let auth = Auth::ZoomSignature { secrets: secrets(&["old-token", SECRET]) };
    let posted = Asked { body: BODY.into(), ..Asked::at("/zoom-rtms") }
        .with("x-zm-request-timestamp", NOW.to_string())
        .with("x-zm-signature", SIGNED);
    for now in [NOW - 300, NOW, NOW + 300] {
        let grant = tally.accept("by Python", &auth, &posted, now);
        assert_eq!(grant.key, Some(Secret::from(SECRET)), "answers are signed with the same");
    }
    tally.once(&auth, &posted, NOW);
    let signed = |secret: &str, body: &str| {
        let signature = zoom_signature(&Secret::from(secret), NOW, body);
        Asked { body: body.into(), ..posted.clone().but("x-zm-signature", signature) }
    };
    assert_eq!(signed(SECRET, BODY).headers, posted.headers);
    tally.accept("by the token that is being replaced", &auth, &signed("old-token", "{}"), NOW);
    tally.refuse(Wrong, "secret", &auth, &signed("another-token", BODY), NOW);
    let altered = Asked { body: BODY.replace("st-1", "st-2"), ..posted.clone() };
    tally.refuse(Wrong, "body", &auth, &altered, NOW);
    let later = posted.clone().but("x-zm-request-timestamp", (NOW + 1).to_string());
    tally.refuse(Wrong, "time", &auth, &later, NOW);
    tally.refuse(Wrong, "cut", &auth, &posted.clone().but("x-zm-signature", &SIGNED[..60]), NOW);
    tally.refuse(Wrong, "nothing", &auth, &posted.clone().but("x-zm-signature", ""), NOW);
    tally.refuse(OtherScheme, "", &auth, &posted.clone().but("x-zm-signature", &SIGNED[3..]), NOW);
    for name in ["x-zm-signature", "x-zm-request-timestamp"] {
        tally.refuse(Missing, name, &auth, &posted.clone().without(name), NOW);
    }
    tally.refuse(Expired, "five minutes", &auth, &posted, NOW + 301);
    tally.refuse(NotYetValid, "five minutes", &auth, &posted, NOW - 301);
    for texts in [&[][..], &[""]] {
        let nobody = Auth::ZoomSignature { secrets: secrets(texts) };
        tally.refuse(NoSecrets, "", &nobody, &signed("", BODY), NOW);
    }
    tally
}
