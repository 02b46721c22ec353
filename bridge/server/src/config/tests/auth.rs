//! How streams and webhooks prove that they may: every kind, and what is said of one that is half.

use super::*;

fn parse_auth(keys: &str) -> Result<Auth, String> {
    parse_auth_of("twilio", keys)
}

fn parse_auth_of(provider: &str, keys: &str) -> Result<Auth, String> {
    let app = match provider {
        "zoom-rtms" => "options = { client_id = \"id\", client_secret = \"env:TOKEN\" }\n",
        _ => "",
    };
    let text = listener(&format!("public_url = \"wss://x/a\"\n{app}[listener.auth]\n{keys}"));
    let text = text.replace("provider = \"twilio\"", &format!("provider = \"{provider}\""));
    parse_with_all(&text).map(|config| config.listeners[0].auth.clone())
}

#[test]
fn every_kind_of_auth_can_be_configured() {
    let token = || vec![Secret::from("s3cret-canary")];
    let both = || vec![Secret::from("s3cret-canary"), Secret::from("n3xt-canary")];
    let claims = vec![("api_key".to_owned(), "abcd".to_owned())];
    let keys = KeySet::parse(&key_set()).unwrap();
    let cases = [
        ("kind = \"none\"", Auth::None),
        ("kind = \"bearer\"\ntoken = \"env:TOKEN\"", Auth::Bearer { tokens: token() }),
        (
            "kind = \"bearer\"\ntokens = [\"env:TOKEN\", \"env:NEXT\"]",
            Auth::Bearer { tokens: both() },
        ),
        (
            "kind = \"basic\"\nuser = \"u\"\npasswords = [\"env:TOKEN\", \"env:NEXT\"]",
            Auth::Basic { user: "u".into(), passwords: both() },
        ),
        (
            "kind = \"header\"\nheader = \"X-Cx-ApiKey\"\ntoken = \"env:TOKEN\"",
            Auth::Header { name: "x-cx-apikey".into(), values: token() },
        ),
        (
            "kind = \"query\"\nparameter = \"t\"\ntokens = [\"env:TOKEN\"]",
            Auth::Query { name: "t".into(), values: token() },
        ),
        ("kind = \"path\"\ntoken = \"env:TOKEN\"", Auth::Path { tokens: token() }),
        (
            "kind = \"twilio-signature\"\nshared_keys = { k = \"env:NEXT\" }",
            Auth::TwilioSignature {
                tokens: Vec::new(),
                shared_keys: vec![("k".into(), "n3xt-canary".into())],
            },
        ),
        (
            "kind = \"plivo-signature\"\ntoken = \"env:TOKEN\"\nprefix = \"X-Vobiz\"",
            Auth::PlivoSignature {
                prefix: "x-vobiz".into(),
                tokens: token(),
                allow_unsigned: false,
            },
        ),
        (
            "kind = \"vonage-jwt\"\nsecret = \"env:TOKEN\"\nclaims = { api_key = \"abcd\" }\nsingle_use = false",
            Auth::Jwt(Jwt { claims: claims.clone(), single_use: false, ..Jwt::vonage(token()) }),
        ),
        (
            "kind = \"avaya-jwt\"\nsecrets = [\"env:TOKEN\", \"env:NEXT\"]",
            Auth::Jwt(Jwt::avaya(both())),
        ),
        (
            "kind = \"azure-jwt\"\njwks = \"env:KEYS\"\naudience = \"id\"",
            Auth::Jwt(Jwt::azure(keys.clone(), "id".into())),
        ),
        (
            "kind = \"jwt\"\njwks = \"env:KEYS\"\nissuer = \"i\"\nclaims = { api_key = \"abcd\" }",
            Auth::Jwt(Jwt { issuer: Some("i".into()), claims, ..Jwt::new(JwtKeys::Public(keys)) }),
        ),
        (
            "kind = \"jwt\"\nsecret = \"env:TOKEN\"\nsingle_use = true",
            Auth::Jwt(Jwt { single_use: true, ..Jwt::new(JwtKeys::Shared(token())) }),
        ),
        (
            "kind = \"genesys-signature\"\napi_key = \"env:TOKEN\"\nsecret = \"env:BASE64\"",
            Auth::GenesysSignature {
                api_key: "s3cret-canary".into(),
                secrets: vec!["czNjcmV0LWNhbmFyeQ==".into()],
            },
        ),
        (
            "kind = \"zoom-signature\"\nsecrets = [\"env:TOKEN\", \"env:NEXT\"]",
            Auth::ZoomSignature { secrets: both() },
        ),
    ];
    for (keys, wanted) in &cases {
        let posted = matches!(wanted, Auth::ZoomSignature { .. });
        let provider = if posted { "zoom-rtms" } else { "twilio" };
        assert_eq!(parse_auth_of(provider, keys).as_ref(), Ok(wanted), "{keys}");
    }
    // Every kind that there is was tried.
    let error = parse_auth("kind = \"zz\"").unwrap_err();
    for kind in error.split('`').skip(3).step_by(2) {
        let line = format!("kind = \"{kind}\"");
        if parse_auth(&line).is_err_and(|error| error.contains("this kind is of webhooks")) {
            let config = parse_with_all(&asked("", &of_webhooks(kind))).unwrap();
            let answer = config.listeners[0].answer.as_ref().unwrap();
            assert_eq!(answer.auth.kind(), kind);
            continue;
        }
        assert!(cases.iter().any(|(keys, _)| keys.lines().next() == Some(&line)), "{kind}");
    }
}

#[test]
fn a_credential_that_no_call_of_the_provider_brings_is_refused() {
    let streams = ["twilio-signature", "plivo-signature"].map(|kind| (kind, "token"));
    let tokens = ["vonage-jwt", "avaya-jwt"].map(|kind| (kind, "secret"));
    for (kind, key) in streams.into_iter().chain(tokens) {
        let keys = format!("kind = \"{kind}\"\n{key} = \"env:TOKEN\"");
        assert!(parse_auth_of("twilio", &keys).is_ok(), "{kind}");
        let error = parse_auth_of("zoom-rtms", &keys).unwrap_err();
        let told = error.contains("listener[0].auth") && error.contains("zoom-rtms posts");
        assert!(told && error.contains("take zoom-signature"), "{error}");
    }
    let keys = "kind = \"zoom-signature\"\nsecret = \"env:TOKEN\"";
    let error = parse_auth_of("twilio", keys).unwrap_err();
    assert!(error.contains("twilio opens a stream") && error.contains("connect twilio"), "{error}");
    for either in ["kind = \"query\"\nparameter = \"t\"", "kind = \"bearer\""] {
        let keys = format!("{either}\ntoken = \"env:TOKEN\"");
        assert!(parse_auth_of("zoom-rtms", &keys).is_ok(), "{keys}");
    }
    let answer = "auth = { kind = \"zoom-signature\", secret = \"env:TOKEN\" }";
    let error = parse(&asked("", answer)).unwrap_err().to_string();
    assert!(error.contains("posts that a call is there"), "{error}");
}

#[test]
fn who_dials_has_something_to_sign_with_unless_it_is_told_insecure() {
    let listener = |keys: &str| {
        let text = listener(keys).replace("provider = \"twilio\"", "provider = \"zoom-rtms\"");
        parse_with_all(&text)
    };
    let error = listener("").unwrap_err();
    for key in ["client_id", "client_secret"] {
        assert!(error.contains(&format!("`options.{key}` is missing")), "{error}");
    }
    assert!(listener("insecure = true").is_ok());
    let app = "options = { client_id = \"id\", client_secret = \"env:TOKEN\" }";
    assert!(listener(app).is_ok());
}

/// A signature that only webhooks have.
fn of_webhooks(kind: &str) -> String {
    let keys = match kind {
        "signalwire-signature" => "tokens = [\"env:TOKEN\", \"env:NEXT\"]",
        "telnyx-signature" => "public_key = \"A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=\"",
        "sinch-signature" => "api_key = \"env:TOKEN\", secrets = [\"env:BASE64\"]",
        "jambonz-signature" => "secret = \"env:TOKEN\"",
        other => panic!("{other} was not tried"),
    };
    format!("auth = {{ kind = \"{kind}\", {keys} }}")
}

#[test]
fn signatures_of_webhooks_that_are_half_are_refused_with_a_remedy() {
    for (keys, said) in [
        ("kind = \"telnyx-signature\"", "`public_key` is missing"),
        (
            "kind = \"telnyx-signature\", public_key = \"AAAA\"",
            "`public_key` is none: write it as Telnyx shows it",
        ),
        (
            "kind = \"telnyx-signature\", token = \"env:TOKEN\"",
            "`token` is not used by this kind, which takes public_key",
        ),
        (
            "kind = \"signalwire-signature\", public_key = \"AAAA\"",
            "`public_key` is not used by this kind, which takes token, tokens",
        ),
        ("kind = \"sinch-signature\", secret = \"env:BASE64\"", "`api_key` is missing"),
        (
            "kind = \"sinch-signature\", api_key = \"env:TOKEN\", secret = \"env:TOKEN\"",
            "not base64: write it as Sinch shows it",
        ),
        ("kind = \"jambonz-signature\"", "`secret` is missing"),
    ] {
        let error = parse_with_all(&asked("", &format!("auth = {{ {keys} }}"))).unwrap_err();
        assert!(error.contains(said) && !error.contains("canary"), "{keys}\n{error}");
    }
}

#[test]
fn auth_that_is_half_or_double_is_refused_with_a_remedy() {
    let cases = [
        ("kind = \"bearer\"\ntokens = []", "`tokens` is empty: nobody could call"),
        (
            "kind = \"bearer\"\ntoken = \"env:TOKEN\"\ntokens = [\"env:NEXT\"]",
            "either `token` or `tokens`, found both",
        ),
        ("kind = \"bearer\"\ntokens = [\"env:TOKEN\", \"env:NONE\"]", "variable NONE is not set"),
        (
            "kind = \"bearer\"\ntoken = \"env:TOKEN\"\nsecret = \"env:TOKEN\"",
            "`secret` is not used by this kind, which takes token, tokens",
        ),
        (
            "kind = \"avaya-jwt\"\nsecret = \"env:TOKEN\"\nallow_unsigned = true",
            "`allow_unsigned` is not used by this kind",
        ),
        (
            "kind = \"header\"\nheader = \"a b\"\ntoken = \"env:TOKEN\"",
            "found \"a b\", expected a header",
        ),
        ("kind = \"header\"\ntoken = \"env:TOKEN\"", "`header` is missing for this kind"),
        ("kind = \"twilio-signature\"", "`token` is missing for this kind"),
        (
            "kind = \"twilio-signature\"\nshared_keys = { k = \"plain-canary\" }",
            "a secret is not written here",
        ),
        ("kind = \"jwt\"\njwks_url = \"http://keys.example/k\"", "go over https:// only"),
        (
            "kind = \"jwt\"\njwks = \"env:KEYS\"\njwks_cache = \"keys.json\"",
            "only what is fetched is kept in a file: `jwks_url` is missing",
        ),
        ("kind = \"azure-jwt\"\njwks = \"env:KEYS\"", "`audience` is missing for this kind"),
        ("kind = \"jwt\"\njwks = \"env:TOKEN\"", "env:TOKEN is not a key set, JSON such as"),
        ("kind = \"jwt\"\njwks = \"file:/does/not/exist\"", "cannot read /does/not/exist"),
        (
            "kind = \"jwt\"\njwks = \"env:KEYS\"\nsecret = \"env:TOKEN\"",
            "a token is signed with secrets or with keys of `jwks` or `jwks_url`, found both",
        ),
        ("kind = \"jwt\"", "`secret` is missing for this kind"),
        (
            "kind = \"genesys-signature\"\napi_key = \"env:TOKEN\"\nsecret = \"env:TOKEN\"",
            "the client secret is not base64: write it as Genesys shows it",
        ),
    ];
    for (keys, said) in cases {
        let errors = parse_auth(keys).unwrap_err();
        assert!(errors.contains(said) && !errors.contains("canary"), "{keys}\n{errors}");
    }
}

#[test]
fn addresses_that_may_call_are_networks() {
    let text = "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n".to_owned()
        + &listener("allow = [\"52.112.0.0/14\"]");
    let config = parse(&text).unwrap();
    let sources = &config.listeners[0].endpoint.sources;
    assert_eq!(sources.allow, Some(vec![network("52.112.0.0/14").unwrap()]));
    assert_eq!(sources.trusted_proxies, ["10.0.0.0/8", "::1"].map(|net| network(net).unwrap()));
    let cases = [
        (
            listener("allow = []"),
            "f.toml:5:9: listener[0].allow: `allow` is empty: nobody could call",
        ),
        (
            listener("allow = [\"52.112.0.0/14\", \"x\"]"),
            "f.toml:5:27: listener[0].allow[1]: found \"x\", expected a network such as",
        ),
        (
            "[server]\ntrusted_proxies = [\"10.0.0.1/8\"]\n".to_owned() + &listener(""),
            "f.toml:2:20: server.trusted_proxies[0]: \"10.0.0.1/8\" has more bits than its prefix; did you mean \"10.0.0.0/8\"?",
        ),
    ];
    for (text, said) in cases {
        let errors = parse(&text).unwrap_err().to_string();
        assert!(errors.starts_with(said), "{text}\nwanted {said}\ngot    {errors}");
    }
}

#[test]
fn secrets_do_not_show_wherever_they_are_written() {
    let config = parse(&listener("auth = { kind = \"bearer\", token = \"env:TOKEN\" }")).unwrap();
    let shown = format!("{config:?} {}", config.summary());
    assert!(!shown.contains("s3cret-canary") && shown.contains("[redacted]"), "{shown}");
    let literal = parse(&listener("auth = { kind = \"bearer\", token = \"s3cret-canary\" }"));
    let errors = literal.unwrap_err().to_string();
    assert!(!errors.contains("s3cret-canary") && errors.contains("use \"env:NAME\""), "{errors}");
}

#[test]
fn keys_of_issuers_are_read_again_from_where_they_change() {
    let folder = std::env::temp_dir().join(format!("ringback-jwks-{}", std::process::id()));
    std::fs::write(&folder, key_set()).unwrap();
    let file = format!("file:{}", folder.display());
    let source = |auth: &str| {
        let auth = auth.replace("FILE", &file);
        let text = format!(
            "[[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n[[listener]]\nname = \"x\"\npath = \"/x\"\nprovider = \"twilio\"\nauth = {{ {auth} }}"
        );
        let config = Config::parse(
            "f.toml",
            &text,
            &Overrides::default(),
            &context(&|name| (name == "KEYS").then(key_set)),
        );
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        let listener = config.listeners.into_iter().next().unwrap();
        let Auth::Jwt(Jwt { keys: JwtKeys::Public(keys), .. }) = listener.auth else {
            panic!("{:?}", listener.auth)
        };
        (listener.keys.map(|source| source.to_string()), keys.len())
    };
    let azure = "https://acscallautomation.communication.azure.com/calling/keys".to_owned();
    assert_eq!(source("kind = \"azure-jwt\", audience = \"a\""), (Some(azure), 0));
    assert_eq!(source("kind = \"azure-jwt\", audience = \"a\", jwks = \"env:KEYS\""), (None, 1));
    let path = Some(folder.display().to_string());
    assert_eq!(source("kind = \"jwt\", jwks = \"FILE\""), (path, 1));
    let url = Some("https://a.example/keys".to_owned());
    let both = "kind = \"jwt\", jwks = \"FILE\", jwks_url = \"https://a.example/keys?k=1\"";
    assert_eq!(source(both), (url, 1));
    std::fs::remove_file(folder).unwrap();
}

#[test]
fn calls_wait_for_another_stream_where_what_proves_it_cannot_be_said_again() {
    for (keys, waits) in [
        ("kind = \"none\"", false),
        ("kind = \"bearer\"\ntoken = \"env:TOKEN\"", true),
        ("kind = \"twilio-signature\"\ntoken = \"env:TOKEN\"", false),
        ("kind = \"plivo-signature\"\ntoken = \"env:TOKEN\"", false),
    ] {
        for (own, expected) in [("", waits), ("reattach_window = \"5s\"\n", true)] {
            let text =
                listener(&format!("public_url = \"wss://x/a\"\n{own}[listener.auth]\n{keys}"));
            let config = parse_with_all(&text).unwrap();
            assert_eq!(config.listeners[0].reattach.is_some(), expected, "{keys} {own}");
        }
    }
}
