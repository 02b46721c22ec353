//! Signed tokens as their issuers make them, for whoever plays one. Checks none, and is told the time and what makes each differ.

use serde_json::{Map, Value};

use super::jwt::AZURE_ISSUER;
use super::{JwtMaker, PrivateJwk, Secret, hmac_sha256};
use crate::UnixSeconds;

/// How long tokens live whose maker has no habit of its own, and Avaya's.
const FIVE_MINUTES: u64 = 300;
const A_DAY: u64 = 24 * 60 * 60;

/// What a token is signed with, and by that the algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKey {
    /// HS256.
    Shared(Secret),
    /// RS256.
    Private(PrivateJwk),
}

/// Somebody who makes tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Whose habits the tokens have.
    pub maker: JwtMaker,
    /// What they are signed with.
    pub key: JwtKey,
    /// `iss`, where it is another than the maker's.
    pub issuer: Option<String>,
    /// `aud`.
    pub audience: Option<String>,
    /// Further claims.
    pub claims: Vec<(String, String)>,
}

impl Issuer {
    /// Makes tokens as `maker` does, with no claims of its own.
    #[must_use]
    pub const fn new(maker: JwtMaker, key: JwtKey) -> Self {
        Self { maker, key, issuer: None, audience: None, claims: Vec::new() }
    }

    /// A token made at `now`, of which `id` is the `jti`.
    ///
    /// Vonage's tokens for requests with a body also hold its digest (`payload_hash`); an upgrade has none.
    #[must_use]
    pub fn token(&self, now: UnixSeconds, id: &str) -> String {
        let claims = Value::from(self.claims(now, id)).to_string();
        match &self.key {
            JwtKey::Shared(secret) => hs256(secret, &claims),
            JwtKey::Private(key) => rs256(key, &claims),
        }
    }

    fn claims(&self, now: UnixSeconds, id: &str) -> Map<String, Value> {
        let UnixSeconds(now) = now;
        let lasting = |seconds: u64| now.saturating_add(seconds);
        let usual: Vec<(&str, Value)> = match self.maker {
            JwtMaker::Any => vec![("iat", now.into()), ("exp", lasting(FIVE_MINUTES).into())],
            JwtMaker::Vonage => vec![
                ("iss", "Vonage".into()),
                ("iat", now.into()),
                ("api_key", "00000000".into()),
                ("application_id", "00000000-0000-0000-0000-000000000000".into()),
            ],
            JwtMaker::Avaya => vec![
                ("sub", "account".into()),
                ("iat", now.saturating_mul(1000).into()),
                ("exp", lasting(FIVE_MINUTES).saturating_mul(1000).into()),
            ],
            JwtMaker::Azure => vec![
                ("iss", AZURE_ISSUER.into()),
                ("iat", now.into()),
                ("nbf", now.into()),
                ("exp", lasting(A_DAY).into()),
            ],
        };
        let own = self.claims.iter().map(|(name, value)| (name.as_str(), value));
        let registered = [("iss", &self.issuer), ("aud", &self.audience)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let usual = usual.into_iter().chain([("jti", id.into())]);
        // Of a name that is there twice, the last value stays.
        usual
            .chain(own.chain(registered).map(|(name, value)| (name, value.as_str().into())))
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

/// A token with these claims, JSON, signed by HS256.
#[must_use]
pub fn hs256(secret: &Secret, claims: &str) -> String {
    let sign = |text: &str| hmac_sha256(secret.expose().as_bytes(), text.as_bytes()).to_vec();
    signed(r#"{"alg":"HS256","typ":"JWT"}"#, claims, sign)
}

/// A token with these claims, JSON, signed by RS256. Names its key if the key has a name.
#[must_use]
pub fn rs256(key: &PrivateJwk, claims: &str) -> String {
    let kid = key.kid.as_deref().map(|kid| format!(r#","kid":{}"#, Value::from(kid)));
    let header = format!(r#"{{"alg":"RS256"{},"typ":"JWT"}}"#, kid.unwrap_or_default());
    signed(&header, claims, |text| key.key.sign(text.as_bytes()))
}

fn signed(header: &str, claims: &str, sign: impl FnOnce(&str) -> Vec<u8>) -> String {
    let part = |octets: &[u8]| base64_simd::URL_SAFE_NO_PAD.encode_to_string(octets);
    let text = format!("{}.{}", part(header.as_bytes()), part(claims.as_bytes()));
    let signature = part(&sign(&text));
    format!("{text}.{signature}")
}
