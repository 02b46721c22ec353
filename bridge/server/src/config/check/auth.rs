//! How a stream proves that it may: which keys each kind takes, and the secrets they name. Verifies no credential.

use std::ops::Range;

use ipnet::IpNet;
use ringback_proto::provider::auth::{
    JambonzSecrets, Jwt, JwtKeys, KeySet, SinchSecrets, TelnyxKey, WebhookAuth,
};
use ringback_proto::provider::{Auth, Secret};

use super::super::raw::{self, At, AuthKind};
use super::super::secret;
use super::{Checker, span};
use crate::keyring::KeySource;
use crate::listener::network;
use crate::outgoing::http::Url;

/// Where Azure Communication Services publish the keys of their tokens.
const AZURE_KEYS: &str = "https://acscallautomation.communication.azure.com/calling/keys";

/// The keys that a kind takes.
const fn keys(kind: AuthKind) -> &'static [&'static str] {
    match kind {
        AuthKind::None => &[],
        AuthKind::Bearer | AuthKind::Path | AuthKind::SignalwireSignature => &["token", "tokens"],
        AuthKind::Basic => &["user", "password", "passwords"],
        AuthKind::Header => &["header", "token", "tokens"],
        AuthKind::Query => &["parameter", "token", "tokens"],
        AuthKind::TwilioSignature => &["token", "tokens", "shared_keys"],
        AuthKind::PlivoSignature => &["token", "tokens", "prefix", "allow_unsigned"],
        AuthKind::VonageJwt | AuthKind::AvayaJwt => &["secret", "secrets", "claims", "single_use"],
        AuthKind::AzureJwt => &["jwks", "jwks_url", "jwks_cache", "audience", "issuer", "claims"],
        AuthKind::Jwt => &[
            "secret",
            "secrets",
            "jwks",
            "jwks_url",
            "jwks_cache",
            "issuer",
            "audience",
            "claims",
            "single_use",
        ],
        AuthKind::GenesysSignature | AuthKind::SinchSignature => &["api_key", "secret", "secrets"],
        AuthKind::TelnyxSignature => &["public_key"],
        AuthKind::JambonzSignature | AuthKind::ZoomSignature => &["secret", "secrets"],
    }
}

impl Checker<'_> {
    pub(super) fn auth(&mut self, auth: Option<&At<raw::Auth>>, has_public_url: bool) -> Auth {
        let Some(at) = auth else { return Auth::None };
        let (span, raw) = (at.span(), at.get_ref());
        self.superfluous_for_kind(raw);
        let signed = matches!(raw.kind, AuthKind::TwilioSignature | AuthKind::PlivoSignature);
        if signed && !has_public_url {
            let help = "the signature is computed over `public_url`, which is missing";
            self.problem(span.clone(), help);
        }
        match raw.kind {
            AuthKind::None => Auth::None,
            AuthKind::Bearer => Auth::Bearer { tokens: self.tokens(span, raw) },
            AuthKind::Basic => Auth::Basic {
                user: self.needed(span.clone(), "user", raw.user.as_ref()),
                passwords: self.secrets(
                    span,
                    ["password", "passwords"],
                    raw.password.as_ref(),
                    raw.passwords.as_ref(),
                ),
            },
            AuthKind::Header => Auth::Header {
                name: self.field(span.clone(), "header", raw.header.as_ref()),
                values: self.tokens(span, raw),
            },
            AuthKind::Query => Auth::Query {
                name: self.needed(span.clone(), "parameter", raw.parameter.as_ref()),
                values: self.tokens(span, raw),
            },
            AuthKind::Path => Auth::Path { tokens: self.tokens(span, raw) },
            AuthKind::TwilioSignature => self.twilio(span, raw),
            AuthKind::PlivoSignature => Auth::PlivoSignature {
                prefix: match &raw.prefix {
                    Some(at) => self.field(span.clone(), "prefix", Some(at)),
                    None => "x-plivo".into(),
                },
                tokens: self.tokens(span, raw),
                allow_unsigned: raw.allow_unsigned.as_ref().is_some_and(|at| *at.get_ref()),
            },
            AuthKind::VonageJwt | AuthKind::AvayaJwt | AuthKind::AzureJwt | AuthKind::Jwt => {
                Auth::Jwt(self.jwt(span, raw))
            }
            AuthKind::GenesysSignature => self.genesys(span, raw),
            AuthKind::ZoomSignature => {
                Auth::ZoomSignature { secrets: self.signing_secrets(span, raw) }
            }
            AuthKind::SignalwireSignature
            | AuthKind::TelnyxSignature
            | AuthKind::SinchSignature
            | AuthKind::JambonzSignature => {
                let help = "this kind is of webhooks, `answer.auth`; streams are not signed so";
                self.problem(span, help);
                Auth::None
            }
        }
    }

    /// What those must bring who ask what to do with a call.
    pub(super) fn webhook_auth(&mut self, at: &At<raw::Auth>) -> WebhookAuth {
        let (span, raw) = (at.span(), at.get_ref());
        match raw.kind {
            AuthKind::SignalwireSignature => {
                self.superfluous_for_kind(raw);
                WebhookAuth::SignalWireSignature { keys: self.tokens(span, raw) }
            }
            AuthKind::TelnyxSignature => {
                self.superfluous_for_kind(raw);
                let text = self.needed(span.clone(), "public_key", raw.public_key.as_ref());
                match TelnyxKey::parse(&text) {
                    Some(key) => WebhookAuth::TelnyxSignature { key },
                    None => {
                        let span = raw.public_key.as_ref().map_or(span, At::span);
                        let help = "`public_key` is none: write it as Telnyx shows it, base64 of 32 octets";
                        self.problem(span, help);
                        WebhookAuth::Common(Auth::None)
                    }
                }
            }
            AuthKind::SinchSignature => {
                self.superfluous_for_kind(raw);
                let application = self.secret(span.clone(), "api_key", raw.api_key.as_ref());
                let secrets = self.signing_secrets(span.clone(), raw);
                self.must_be_base64(span, &secrets, "Sinch");
                WebhookAuth::SinchSignature(SinchSecrets { application, secrets })
            }
            AuthKind::JambonzSignature => {
                self.superfluous_for_kind(raw);
                WebhookAuth::JambonzSignature(JambonzSecrets(self.signing_secrets(span, raw)))
            }
            AuthKind::ZoomSignature => {
                self.superfluous_for_kind(raw);
                let help = "this kind is of listeners whose provider posts that a call is there, `auth`; what asks for an answer is not signed so";
                self.problem(span, help);
                WebhookAuth::Common(Auth::None)
            }
            _ => WebhookAuth::Common(self.auth(Some(at), true)),
        }
    }

    fn must_be_base64(&mut self, table: Range<usize>, secrets: &[Secret], whose: &str) {
        let is_base64 =
            |secret: &Secret| base64_simd::STANDARD.check(secret.expose().as_bytes()).is_ok();
        if !secrets.iter().all(is_base64) {
            let help = format!("the client secret is not base64: write it as {whose} shows it");
            self.problem(table, help);
        }
    }

    fn superfluous_for_kind(&mut self, raw: &raw::Auth) {
        let given = [
            ("token", span(&raw.token)),
            ("tokens", span(&raw.tokens)),
            ("user", span(&raw.user)),
            ("password", span(&raw.password)),
            ("passwords", span(&raw.passwords)),
            ("header", span(&raw.header)),
            ("parameter", span(&raw.parameter)),
            ("shared_keys", span(&raw.shared_keys)),
            ("prefix", span(&raw.prefix)),
            ("allow_unsigned", span(&raw.allow_unsigned)),
            ("secret", span(&raw.secret)),
            ("secrets", span(&raw.secrets)),
            ("jwks", span(&raw.jwks)),
            ("jwks_url", span(&raw.jwks_url)),
            ("jwks_cache", span(&raw.jwks_cache)),
            ("issuer", span(&raw.issuer)),
            ("audience", span(&raw.audience)),
            ("claims", span(&raw.claims)),
            ("single_use", span(&raw.single_use)),
            ("api_key", span(&raw.api_key)),
            ("public_key", span(&raw.public_key)),
        ];
        self.superfluous(given, keys(raw.kind), "this kind");
    }

    fn twilio(&mut self, table: Range<usize>, raw: &raw::Auth) -> Auth {
        let mut shared_keys = Vec::new();
        if let Some(keys) = &raw.shared_keys {
            for (name, at) in keys.get_ref() {
                shared_keys.push((name.clone(), self.resolve(at)));
            }
        }
        let by_token = raw.token.is_some() || raw.tokens.is_some() || shared_keys.is_empty();
        let tokens = if by_token { self.tokens(table, raw) } else { Vec::new() };
        Auth::TwilioSignature { tokens, shared_keys }
    }

    fn genesys(&mut self, table: Range<usize>, raw: &raw::Auth) -> Auth {
        let api_key = self.secret(table.clone(), "api_key", raw.api_key.as_ref());
        let secrets = self.signing_secrets(table.clone(), raw);
        self.must_be_base64(table, &secrets, "Genesys");
        Auth::GenesysSignature { api_key, secrets }
    }

    fn jwt(&mut self, table: Range<usize>, raw: &raw::Auth) -> Jwt {
        let by_url = raw.jwks_url.is_some() || raw.kind == AuthKind::AzureJwt;
        let by_set = raw.jwks.is_some() || by_url;
        if let Some(at) = span(&raw.secret).or(span(&raw.secrets))
            && by_set
        {
            self.problem(
                at,
                "a token is signed with secrets or with keys of `jwks` or `jwks_url`, found both",
            );
        }
        let keys = if by_set {
            match &raw.jwks {
                Some(at) => self.key_set(at).map(JwtKeys::Public),
                None => Some(JwtKeys::Public(KeySet::default())),
            }
        } else {
            Some(JwtKeys::Shared(self.signing_secrets(table.clone(), raw)))
        };
        let keys = keys.unwrap_or(JwtKeys::Shared(Vec::new()));
        let mut jwt = match (raw.kind, keys) {
            (AuthKind::VonageJwt, JwtKeys::Shared(secrets)) => Jwt::vonage(secrets),
            (AuthKind::AvayaJwt, JwtKeys::Shared(secrets)) => Jwt::avaya(secrets),
            (AuthKind::AzureJwt, JwtKeys::Public(keys)) => {
                Jwt::azure(keys, self.needed(table, "audience", raw.audience.as_ref()))
            }
            (_, keys) => Jwt::new(keys),
        };
        for (wanted, at) in [(&mut jwt.issuer, &raw.issuer), (&mut jwt.audience, &raw.audience)] {
            if let Some(at) = at {
                *wanted = Some(at.get_ref().clone());
            }
        }
        if let Some(claims) = &raw.claims {
            jwt.claims = claims.get_ref().clone().into_iter().collect();
        }
        if let Some(single_use) = &raw.single_use {
            jwt.single_use = *single_use.get_ref();
        }
        jwt
    }

    fn key_set(&mut self, at: &At<String>) -> Option<KeySet> {
        let text = self.read_secret(at.get_ref());
        let keys = text.and_then(|text| {
            let place = at.get_ref();
            KeySet::parse(text.expose()).map_err(|error| format!("{place} {error}"))
        });
        keys.map_err(|problem| self.problem(at.span(), problem)).ok()
    }

    /// Where the keys of tokens are read again while the bridge runs: by URL, or else from the file that was named.
    pub(super) fn key_source(&mut self, raw: Option<&At<raw::Auth>>) -> Option<KeySource> {
        let raw = raw?.get_ref();
        if let Some(at) = raw.jwks_cache.as_ref()
            && raw.jwks.is_some()
            && raw.jwks_url.is_none()
        {
            self.problem(
                at.span(),
                "only what is fetched is kept in a file: `jwks_url` is missing",
            );
        }
        let azure = raw.kind == AuthKind::AzureJwt && raw.jwks.is_none();
        let url = match &raw.jwks_url {
            Some(at) => self.url(at),
            None if azure => Some(AZURE_KEYS.parse().expect("a URL of ours")),
            None => {
                let path = raw.jwks.as_ref()?.get_ref().strip_prefix("file:")?;
                return Some(KeySource::File(path.into()));
            }
        };
        let cache = raw.jwks_cache.as_ref().map(|at| at.get_ref().into());
        Some(KeySource::Url { url: url?, cache })
    }

    /// Somebody else's server.
    pub(super) fn url(&mut self, at: &At<String>) -> Option<Url> {
        let text = at.get_ref();
        let url = text.parse().map_err(|problem| format!("{text:?} {problem}"));
        url.map_err(|problem| self.problem(at.span(), problem)).ok()
    }

    fn tokens(&mut self, table: Range<usize>, raw: &raw::Auth) -> Vec<Secret> {
        self.secrets(table, ["token", "tokens"], raw.token.as_ref(), raw.tokens.as_ref())
    }

    fn signing_secrets(&mut self, table: Range<usize>, raw: &raw::Auth) -> Vec<Secret> {
        self.secrets(table, ["secret", "secrets"], raw.secret.as_ref(), raw.secrets.as_ref())
    }

    /// One secret, or several while one is being replaced by another.
    pub(super) fn secrets(
        &mut self,
        table: Range<usize>,
        [key, keys]: [&str; 2],
        one: Option<&At<String>>,
        several: Option<&At<Vec<At<String>>>>,
    ) -> Vec<Secret> {
        match (one, several) {
            (Some(_), Some(at)) => {
                self.problem(at.span(), format!("either `{key}` or `{keys}`, found both"));
                Vec::new()
            }
            (None, Some(at)) => {
                if at.get_ref().is_empty() {
                    self.problem(at.span(), format!("`{keys}` is empty: nobody could call"));
                }
                at.get_ref().iter().map(|at| self.resolve(at)).collect()
            }
            (one, None) => vec![self.secret(table, key, one)],
        }
    }

    pub(super) fn secret(
        &mut self,
        table: Range<usize>,
        key: &str,
        value: Option<&At<String>>,
    ) -> Secret {
        match value {
            Some(at) => self.resolve(at),
            None => {
                let help =
                    format!("`{key}` is missing for this kind: \"env:NAME\" or \"file:/path\"");
                self.problem(table, help);
                Secret::from("")
            }
        }
    }

    /// A secret, whose place is remembered.
    pub(super) fn read_secret(&mut self, place: &str) -> Result<Secret, String> {
        self.kept.extend(place.strip_prefix("env:").map(str::to_owned));
        secret::resolve(place, self.context.variable)
    }

    pub(super) fn resolve(&mut self, at: &At<String>) -> Secret {
        self.read_secret(at.get_ref()).unwrap_or_else(|problem| {
            self.problem(at.span(), problem);
            Secret::from("")
        })
    }

    pub(super) fn needed(
        &mut self,
        table: Range<usize>,
        key: &str,
        value: Option<&At<String>>,
    ) -> String {
        match value {
            Some(at) if !at.get_ref().is_empty() => at.get_ref().clone(),
            Some(at) => {
                self.problem(at.span(), format!("`{key}` is empty"));
                String::new()
            }
            None => {
                self.problem(table, format!("`{key}` is missing for this kind"));
                String::new()
            }
        }
    }

    /// Name of a header field, or the beginning of one.
    fn field(&mut self, table: Range<usize>, key: &str, value: Option<&At<String>>) -> String {
        let name = self.needed(table, key, value).to_ascii_lowercase();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if let Some(at) = value.filter(|_| !name.chars().all(plain)) {
            let found = at.get_ref();
            self.problem(
                at.span(),
                format!("found {found:?}, expected a header field's name such as \"x-api-key\""),
            );
        }
        name
    }

    /// Networks that may call. A list of none is a mistake, and so is nobody's listener.
    pub(super) fn allow(&mut self, allow: Option<&At<Vec<At<String>>>>) -> Option<Vec<IpNet>> {
        let at = allow?;
        if at.get_ref().is_empty() {
            self.problem(
                at.span(),
                "`allow` is empty: nobody could call; leave it out to let everybody",
            );
        }
        Some(self.networks(at.get_ref()))
    }

    pub(super) fn networks(&mut self, texts: &[At<String>]) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for at in texts {
            match network(at.get_ref()) {
                Ok(network) => networks.push(network),
                Err(problem) => self.problem(at.span(), problem),
            }
        }
        networks
    }
}
