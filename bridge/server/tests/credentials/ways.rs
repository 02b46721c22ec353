//! Every kind of credential as a listener is configured to ask for it, as a caller makes it, and as the command line is told to.

use std::sync::LazyLock;

use ringback_proto::provider::auth::{Issuer, JwtKey, JwtMaker, PrivateJwk, Proof};

use crate::support::{Folder, quoted};

/// Letters of which none turns into something else than a letter if its last bit is changed, so that a URL stays one.
pub(crate) const SEEDS: [&str; 2] = ["firstsecretbcdefg", "othersecretbcdefg"];
/// Of no listener.
pub(crate) const NOBODYS: &str = "guesssecretbcdefg";

pub(crate) const KEY: &str = include_str!("../../../proto/tests/authentication/private_key.json");
/// By the name of the other.
const FORGED_KEY: &str = include_str!("forged_key.json");
static PRIVATE: LazyLock<[PrivateJwk; 2]> =
    LazyLock::new(|| [KEY, FORGED_KEY].map(|text| PrivateJwk::parse(text).unwrap()));

const PARAMETER: &str = "token";
const USER: &str = "ringback";

/// One kind of credential, made of one secret.
pub(crate) struct Way {
    /// The kind, and what sets it apart from others of its kind.
    pub(crate) name: String,
    /// `auth` of a listener.
    pub(crate) auth: String,
    /// The same for `ringback call`.
    pub(crate) flags: Vec<String>,
    pub(crate) proof: Proof,
    /// Whether it expires.
    pub(crate) timed: bool,
    /// Whether it opens once.
    pub(crate) once: bool,
    /// Whether it is made for one URL.
    pub(crate) by_url: bool,
}

impl Way {
    /// Whether it is a signed token.
    pub(crate) fn is_jwt(&self) -> bool {
        matches!(self.proof, Proof::Jwt(_))
    }

    /// Whether it is a part of the path.
    pub(crate) fn is_path(&self) -> bool {
        matches!(self.proof, Proof::Path { .. })
    }
}

/// All ways of a kind that the page of a provider names, made of `seed`.
pub(crate) fn ways(kind: &str, page: &str, folder: &Folder, seed: &str) -> Vec<Way> {
    let maker = Maker { kind, folder, seed };
    match kind {
        "bearer" => vec![maker.bearer(false), maker.bearer(true)],
        "basic" => {
            let proof = Proof::Basic { user: USER.into(), password: seed.into() };
            let auth = format!("user = {}, password = {}", quoted(USER), maker.at());
            vec![maker.way("", &auth, &["--user", USER, "--password", &maker.place()], proof)]
        }
        "header" => {
            let name = page.split_once("header = \"").and_then(|(_, rest)| rest.split_once('"'));
            let name = name.map_or("x-ringback-token", |(name, _)| name);
            let proof = Proof::Header { name: name.into(), value: seed.into() };
            let auth = format!("header = {}, token = {}", quoted(name), maker.at());
            vec![maker.way("", &auth, &["--header", name, "--token", &maker.place()], proof)]
        }
        "query" => {
            let proof = Proof::Query { name: PARAMETER.into(), value: seed.into() };
            let auth = format!("parameter = {}, token = {}", quoted(PARAMETER), maker.at());
            let flags = ["--parameter", PARAMETER, "--token", &maker.place()];
            vec![maker.way("", &auth, &flags, proof)]
        }
        "path" => {
            let proof = Proof::Path { token: seed.into() };
            vec![maker.way("", &maker.token(), &["--token", &maker.place()], proof)]
        }
        "twilio-signature" => vec![maker.twilio(None), maker.twilio(Some("webhooks_sharedkey_1"))],
        "plivo-signature" => {
            let proof = Proof::PlivoSignature { prefix: "x-plivo".into(), token: seed.into() };
            let way = maker.way("", &maker.token(), &["--secret", &maker.place()], proof);
            vec![Way { by_url: true, ..way }]
        }
        "vonage-jwt" => vec![maker.shared_jwt(JwtMaker::Vonage, true)],
        "avaya-jwt" => vec![maker.shared_jwt(JwtMaker::Avaya, true)],
        "azure-jwt" => vec![maker.public_jwt(JwtMaker::Azure)],
        "jwt" => vec![maker.shared_jwt(JwtMaker::Any, false), maker.public_jwt(JwtMaker::Any)],
        "genesys-signature" => vec![maker.genesys()],
        other => panic!("no way to make a credential of the kind {other:?}"),
    }
}

/// What opens nothing: the same way with somebody else's secret, or key where the rest is no secret.
pub(crate) fn forged(way: &Way) -> Proof {
    match &way.proof {
        Proof::Jwt(issuer) if matches!(issuer.key, JwtKey::Private(_)) => {
            Proof::Jwt(Issuer { key: JwtKey::Private(PRIVATE[1].clone()), ..issuer.clone() })
        }
        _ => panic!("{} is made of its secret alone", way.name),
    }
}

struct Maker<'a> {
    kind: &'a str,
    folder: &'a Folder,
    seed: &'a str,
}

impl Maker<'_> {
    /// Where the secret is kept.
    fn place(&self) -> String {
        self.keep("secret", self.seed)
    }

    fn keep(&self, name: &str, text: &str) -> String {
        let file = self.folder.write(&format!("{}-{name}-{}", self.kind, self.seed), text);
        format!("file:{}", file.display())
    }

    fn at(&self) -> String {
        quoted(self.place())
    }

    fn token(&self) -> String {
        format!("token = {}", self.at())
    }

    fn way(&self, variant: &str, auth: &str, flags: &[&str], proof: Proof) -> Way {
        let kind = self.kind;
        let flags = ["--auth", kind].into_iter().chain(flags.iter().copied()).map(str::to_owned);
        Way {
            name: if variant.is_empty() { kind.into() } else { format!("{kind}, {variant}") },
            auth: format!("{{ kind = {}, {auth} }}", quoted(kind)),
            flags: flags.collect(),
            proof,
            timed: false,
            once: false,
            by_url: false,
        }
    }

    fn bearer(&self, by_subprotocol: bool) -> Way {
        let proof = Proof::Bearer { token: self.seed.into(), by_subprotocol };
        let place = self.place();
        let flags = ["--token", &place, "--subprotocol"];
        let (variant, flags) =
            if by_subprotocol { ("subprotocol", &flags[..]) } else { ("", &flags[..2]) };
        self.way(variant, &self.token(), flags, proof)
    }

    fn twilio(&self, shared_key: Option<&str>) -> Way {
        let key = shared_key.map(str::to_owned);
        let proof = Proof::TwilioSignature { key: self.seed.into(), shared_key: key };
        let place = self.place();
        let way = match shared_key {
            None => self.way("", &self.token(), &["--secret", &place], proof),
            Some(name) => {
                let auth = format!("shared_keys = {{ {name} = {} }}", self.at());
                let flags = ["--secret", &place, "--shared-key", name];
                self.way("shared key", &auth, &flags, proof)
            }
        };
        Way { by_url: true, ..way }
    }

    fn shared_jwt(&self, maker: JwtMaker, once: bool) -> Way {
        let issuer = Issuer::new(maker, JwtKey::Shared(self.seed.into()));
        let auth = format!("secret = {}", self.at());
        let flags = ["--secret", &self.place()];
        Way { timed: true, once, ..self.way("", &auth, &flags, Proof::Jwt(issuer)) }
    }

    fn public_jwt(&self, maker: JwtMaker) -> Way {
        let issuer = Issuer {
            audience: Some(self.seed.into()),
            ..Issuer::new(maker, JwtKey::Private(PRIVATE[0].clone()))
        };
        let set = self.keep("set", &format!("{{\"keys\":[{KEY}]}}"));
        let auth = format!("jwks = {}, audience = {}", quoted(set), quoted(self.seed));
        let key = self.keep("key", KEY);
        let flags = ["--key", &key, "--audience", self.seed];
        let variant = if self.kind == "jwt" { "by a public key" } else { "" };
        Way { timed: true, ..self.way(variant, &auth, &flags, Proof::Jwt(issuer)) }
    }

    fn genesys(&self) -> Way {
        let secret = base64_simd::STANDARD.encode_to_string(self.seed);
        let (place, api_key) =
            (self.keep("client-secret", &secret), self.keep("api-key", self.seed));
        let auth = format!("api_key = {}, secret = {}", quoted(&api_key), quoted(&place));
        let flags = ["--api-key", &api_key, "--secret", &place];
        let proof = Proof::GenesysSignature { api_key: self.seed.into(), secret: secret.into() };
        let way = self.way("", &auth, &flags, proof);
        Way { timed: true, once: true, by_url: true, ..way }
    }
}
