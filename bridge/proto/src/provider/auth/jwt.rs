//! Signed tokens (RFC 7515, 7519): HS256 with shared secrets, RS256 with a key set given as text. Fetches no keys, reads no clock,
//! and knows no other algorithm.
//!
//! Which algorithm holds is the listener's to say, never the token's: that closes the door to `none` and to an HS256 token keyed
//! with a public key.

use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::rsa::{PrivateKey, PublicKey};
use super::tokens::bearer_token;
use super::{Grant, Replays, Secret, hmac_sha256, opens, refuse};
use crate::UnixSeconds;
use crate::hex::hex;
use crate::provider::answer::Method;
use crate::provider::{Rejection, Upgrade, Webhook};

/// A token may be dated so far into the future: clocks differ, and one dated by a fast clock arrives at once. None is taken after
/// its end, since no clock is as slow as tokens are long.
const LEEWAY: u64 = 30;
/// Above this a time is in milliseconds (Avaya writes some so); in seconds it would be the year 5138.
const MILLISECONDS: f64 = 1e11;

/// Who signs for Azure Communication Services.
pub(super) const AZURE_ISSUER: &str = "https://acscallautomation.communication.azure.com";

/// What a token must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwt {
    /// Whose habits its tokens have. What is checked stands in the other fields.
    pub maker: JwtMaker,
    /// What it is signed with.
    pub keys: JwtKeys,
    /// Its `iss`, if one is demanded.
    pub issuer: Option<String>,
    /// Its `aud`, or one of several, if one is demanded.
    pub audience: Option<String>,
    /// Further claims that must have these values.
    pub claims: Vec<(String, String)>,
    /// One without `exp` expires so many seconds after its `iat`; without this it is refused.
    pub max_age: Option<u64>,
    /// Whether it opens only one stream. Such a token may live for [`super::SECONDS_REMEMBERED`] at most.
    pub single_use: bool,
    /// Whether the body of a webhook must be vouched for by a claim, `payload_hash`.
    pub hashes_body: bool,
}

/// Whose habits a token has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum JwtMaker {
    /// Nobody's in particular.
    #[default]
    Any,
    /// Vonage: times in seconds, no `exp`.
    Vonage,
    /// Avaya Infinity: times in milliseconds, five minutes long.
    Avaya,
    /// Azure Communication Services: a day long.
    Azure,
}

/// What tokens are signed with, and by that the algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKeys {
    /// HS256; any of these.
    Shared(Vec<Secret>),
    /// RS256; the key that the token names.
    Public(KeySet),
}

impl Jwt {
    /// Any token with an expiry that is signed with one of `keys`.
    #[must_use]
    pub const fn new(keys: JwtKeys) -> Self {
        Self {
            maker: JwtMaker::Any,
            keys,
            issuer: None,
            audience: None,
            claims: Vec::new(),
            max_age: None,
            single_use: false,
            hashes_body: false,
        }
    }

    /// As Vonage signs with the account's signature secret. Its tokens tell when they were made and not when they expire: five
    /// minutes are taken, once.
    #[must_use]
    pub fn vonage(secrets: Vec<Secret>) -> Self {
        Self {
            maker: JwtMaker::Vonage,
            issuer: Some("Vonage".into()),
            max_age: Some(300),
            single_use: true,
            hashes_body: true,
            ..Self::new(JwtKeys::Shared(secrets))
        }
    }

    /// As Avaya Infinity signs with one of two keys, each used as the octets of its hexadecimal digits; a token lives for five
    /// minutes.
    #[must_use]
    pub fn avaya(keys: Vec<Secret>) -> Self {
        let maker = JwtMaker::Avaya;
        Self { maker, single_use: true, ..Self::new(JwtKeys::Shared(keys)) }
    }

    /// As Azure Communication Services sign for one resource, which is the audience. A token lives for a day, too long to be
    /// remembered.
    #[must_use]
    pub fn azure(keys: KeySet, audience: String) -> Self {
        Self {
            maker: JwtMaker::Azure,
            issuer: Some(AZURE_ISSUER.into()),
            audience: Some(audience),
            ..Self::new(JwtKeys::Public(keys))
        }
    }

    pub(super) fn check(
        &self,
        upgrade: &Upgrade<'_>,
        now: UnixSeconds,
        replays: &mut Replays,
    ) -> Result<Grant, Rejection> {
        self.verified(upgrade, now, replays, |_| Ok(()))
    }

    /// The same for a webhook, whose body a claim may vouch for.
    pub(super) fn check_webhook(
        &self,
        webhook: &Webhook<'_>,
        now: UnixSeconds,
        replays: &mut Replays,
    ) -> Result<(), Rejection> {
        let vouched = |claims: &Map<String, Value>| match claims.get("payload_hash") {
            Some(hash) => {
                let found = hex(&Sha256::digest(payload(webhook)));
                let same = found.as_bytes().ct_eq(hash.as_str().unwrap_or_default().as_bytes());
                let otherwise = "the token vouches for another payload (`payload_hash`)";
                if bool::from(same) { Ok(()) } else { Err(refuse(otherwise)) }
            }
            None if self.hashes_body && !webhook.body.is_empty() => {
                Err(refuse("the token does not vouch for the body (`payload_hash`)"))
            }
            None => Ok(()),
        };
        self.verified(&webhook.head(), now, replays, vouched).map(drop)
    }

    /// Checks everything of a token; `vouched` what is particular about where it was found.
    fn verified(
        &self,
        upgrade: &Upgrade<'_>,
        now: UnixSeconds,
        replays: &mut Replays,
        vouched: impl FnOnce(&Map<String, Value>) -> Result<(), Rejection>,
    ) -> Result<Grant, Rejection> {
        let (token, mut grant) = bearer_token(upgrade)?;
        let signature = self.verify(token)?;
        // Verified before, so it has two dots and a body.
        let body = token.split('.').nth(1).unwrap_or_default();
        let claims: Map<String, Value> =
            json(body).ok_or_else(|| refuse("the token's claims are not a JSON object"))?;
        let expiry = self.times(&claims, now)?;
        self.claims(&claims)?;
        vouched(&claims)?;
        grant.subject = claims.get("sub").and_then(Value::as_str).map(Into::into);
        if self.single_use {
            // What identifies a token is its signature: a `jti` may be missing, and this cannot be varied (both algorithms are
            // deterministic, and compared as octets).
            grant.used = Some(replays.first_use(&[b"jwt", &signature], now, expiry)?);
        }
        Ok(grant)
    }

    /// Verifies the signature and returns it.
    fn verify(&self, token: &str) -> Result<Vec<u8>, Rejection> {
        let parts = token.rsplit_once('.').and_then(|(signed, signature)| {
            let (header, body) = signed.split_once('.')?;
            (!body.contains('.')).then_some((signed, header, signature))
        });
        let (signed, header, signature) =
            parts.ok_or_else(|| refuse("the bearer token is no signed JSON web token"))?;
        let header: Header = json(header)
            .ok_or_else(|| refuse("the token's header is not the JSON of a signed token"))?;
        if header.crit.is_some() {
            return Err(refuse("the token has extensions that must be understood, and are not"));
        }
        let signature =
            base64url(signature).ok_or_else(|| refuse("the token's signature is not base64url"))?;
        match (&self.keys, header.alg.as_str()) {
            (JwtKeys::Shared(secrets), "HS256") => shared(secrets, signed, &signature)?,
            (JwtKeys::Public(keys), "RS256") => {
                if !keys.find(header.kid.as_deref())?.signed(signed.as_bytes(), &signature) {
                    return Err(refuse("the token's signature is not by the key that it names"));
                }
            }
            (JwtKeys::Shared(_), _) => {
                return Err(refuse("the token is signed by another algorithm than HS256"));
            }
            (JwtKeys::Public(_), _) => {
                return Err(refuse("the token is signed by another algorithm than RS256"));
            }
        }
        Ok(signature)
    }

    /// Checks all times and returns the one from which the token is refused.
    fn times(
        &self,
        claims: &Map<String, Value>,
        now: UnixSeconds,
    ) -> Result<UnixSeconds, Rejection> {
        let (issued, begins) = (time(claims, "iat")?, time(claims, "nbf")?);
        let latest = UnixSeconds(now.0.saturating_add(LEEWAY));
        if issued.is_some_and(|at| at > latest) || begins.is_some_and(|at| at > latest) {
            return Err(refuse("the token is not valid yet; is this machine's clock slow?"));
        }
        let by_age =
            issued.zip(self.max_age).map(|(at, age)| UnixSeconds(at.0.saturating_add(age)));
        let expiry = time(claims, "exp")?
            .or(by_age)
            .ok_or_else(|| refuse("the token does not tell when it expires"))?;
        if expiry <= now {
            return Err(refuse("the token has expired; is this machine's clock fast?"));
        }
        Ok(expiry)
    }

    fn claims(&self, claims: &Map<String, Value>) -> Result<(), Rejection> {
        let is =
            |name: &str, wanted: &str| claims.get(name).and_then(Value::as_str) == Some(wanted);
        if self.issuer.as_deref().is_some_and(|issuer| !is("iss", issuer)) {
            return Err(refuse("the token is by another issuer (`iss`)"));
        }
        let meant_for = |audience: &str| match claims.get("aud") {
            Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(audience)),
            _ => is("aud", audience),
        };
        if self.audience.as_deref().is_some_and(|audience| !meant_for(audience)) {
            return Err(refuse("the token is meant for another audience (`aud`)"));
        }
        if self.claims.iter().any(|(name, wanted)| !is(name, wanted)) {
            return Err(refuse("the token is of another account or application"));
        }
        Ok(())
    }
}

/// What Vonage hashes: the body, or, of a request without one, the parameters of its query in order as an object of JSON.
fn payload(webhook: &Webhook<'_>) -> Vec<u8> {
    if webhook.method == Method::Post {
        return webhook.body.to_vec();
    }
    let head = webhook.head();
    let text = |text: String| Value::String(text).to_string();
    let members = head.query_pairs().map(|(name, value)| format!("{}:{}", text(name), text(value)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(",")).into_bytes()
}

/// Tries every secret, also after a match.
fn shared(secrets: &[Secret], signed: &str, signature: &[u8]) -> Result<(), Rejection> {
    let mut matched = Choice::from(0);
    for key in secrets.iter().filter_map(Secret::key) {
        matched |= hmac_sha256(key, signed.as_bytes()).ct_eq(signature);
    }
    opens(matched, "the token's signature is by none of this listener's secrets")
}

/// A header as far as it is looked at (RFC 7515, 4.1).
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

fn json<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    serde_json::from_slice(&base64url(part)?).ok()
}

pub(super) fn base64url(text: &str) -> Option<Vec<u8>> {
    base64_simd::URL_SAFE_NO_PAD.decode_to_vec(text).ok()
}

/// A time, in seconds or milliseconds, whole or not; a claim that is there and no time is an error.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<UnixSeconds>, Rejection> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    match value.as_f64().filter(|number| (0.0..1e15).contains(number)) {
        Some(number) => {
            let seconds = if number > MILLISECONDS { number / 1000.0 } else { number };
            Ok(Some(UnixSeconds(seconds as u64)))
        }
        None => Err(refuse("a time in the token is not a number that can be one")),
    }
}

/// The public keys of an issuer, out of its key set (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeySet {
    keys: Vec<(Option<String>, PublicKey)>,
}

/// A text is no key set of use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// Not the JSON of a key set.
    #[error(
        "is not a key set, JSON such as {{\"keys\": [...]}}, from line {line}, column {column} on"
    )]
    NotJson {
        /// Line, from 1.
        line: usize,
        /// Column, from 1; nothing of the text is told, which may be another file than was meant.
        column: usize,
    },
    /// None of the keys can verify RS256.
    #[error("holds no RSA key of 2048, 3072 or 4096 bits for signatures (RS256)")]
    NoKey,
    /// None of the keys can make RS256.
    #[error(
        "holds no private RSA key of 2048, 3072 or 4096 bits, with `n`, `e` and `d` that belong together"
    )]
    NoPrivateKey,
}

fn not_json(error: &serde_json::Error) -> KeySetError {
    KeySetError::NotJson { line: error.line(), column: error.column() }
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<Key>,
}

/// A key as far as it is looked at (RFC 7517, 4; RFC 7518, 6.3).
#[derive(Deserialize)]
struct Key {
    kty: String,
    kid: Option<String>,
    r#use: Option<String>,
    alg: Option<String>,
    n: Option<String>,
    e: Option<String>,
    d: Option<String>,
}

impl Key {
    /// If it can verify RS256.
    fn public(&self) -> Option<PublicKey> {
        let signs = self.kty == "RSA"
            && self.r#use.as_ref().is_none_or(|r#use| r#use == "sig")
            && self.alg.as_ref().is_none_or(|alg| alg == "RS256");
        let numbers =
            self.n.as_deref().and_then(base64url).zip(self.e.as_deref().and_then(base64url));
        let (n, e) = numbers.filter(|_| signs)?;
        PublicKey::new(&n, &e)
    }
}

/// A private key with its name, out of a key of an issuer's own (RFC 7517): for whoever plays one. Prints as nothing of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateJwk {
    pub(super) kid: Option<String>,
    pub(super) key: PrivateKey,
}

impl PrivateJwk {
    /// Reads a key, or a set of them of which the first that is private and can sign RS256 counts.
    pub fn parse(text: &str) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum OneOrMore {
            More(Keys),
            One(Box<Key>),
        }
        // Untagged says nothing about where a text stops to be JSON.
        let _: serde::de::IgnoredAny =
            serde_json::from_str(text).map_err(|error| not_json(&error))?;
        let keys = match serde_json::from_str(text) {
            Ok(OneOrMore::More(set)) => set.keys,
            Ok(OneOrMore::One(key)) => vec![*key],
            Err(_) => return Err(KeySetError::NoPrivateKey),
        };
        let mut private = keys.into_iter().filter_map(|key| {
            let exponent = base64url(key.d.as_deref()?)?;
            Some(Self { key: PrivateKey::new(key.public()?, &exponent)?, kid: key.kid })
        });
        private.next().ok_or(KeySetError::NoPrivateKey)
    }
}

impl KeySet {
    /// Reads a key set as issuers publish it. Keys of other kinds and for other uses are left out.
    pub fn parse(text: &str) -> Result<Self, KeySetError> {
        let set: Keys = serde_json::from_str(text).map_err(|error| not_json(&error))?;
        let usable = set.keys.into_iter().filter_map(|key| key.public().zip(Some(key.kid)));
        let keys: Vec<_> = usable.map(|(public, kid)| (kid, public)).collect();
        if keys.is_empty() { Err(KeySetError::NoKey) } else { Ok(Self { keys }) }
    }

    /// These keys and those of `other`, each once; for issuers whose keys come from two places.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        for key in &other.keys {
            if !self.keys.contains(key) {
                self.keys.push(key.clone());
            }
        }
        self
    }

    /// How many keys are of use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is: the default set, before any was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key of that name; of a token that names none, the only one.
    fn find(&self, kid: Option<&str>) -> Result<&PublicKey, Rejection> {
        match (kid, self.keys.as_slice()) {
            (None, [(_, only)]) => Ok(only),
            (None, _) => {
                Err(refuse("the token does not name its key (`kid`), and there are several"))
            }
            (Some(kid), keys) => {
                let found = keys.iter().find(|(known, _)| known.as_deref() == Some(kid));
                found.map(|(_, key)| key).ok_or(Rejection::UnknownKey)
            }
        }
    }
}
