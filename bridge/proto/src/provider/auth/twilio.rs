//! `X-Twilio-Signature` of upgrades and webhooks, made and checked, in its old form (SHA-1, auth token) and its new one (SHA-256,
//! shared key). Reads no other kinds of body than Twilio signs: forms, and JSON by its digest.

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::{NO_PUBLIC_URL, Secret, base64_of, hmac_sha1, hmac_sha256, opens, refuse};
use crate::hex::hex;
use crate::provider::answer::BodyKind;
use crate::provider::{Rejection, Upgrade, Webhook};

const SIGNATURE: &str = "x-twilio-signature";
const SETTINGS: &str = "x-twilio-webhooks-signature-settings";
/// Of both there may be one.
pub(super) const FIELDS: [&str; 2] = [SIGNATURE, SETTINGS];

pub(super) fn check(
    upgrade: &Upgrade<'_>,
    tokens: &[Secret],
    shared_keys: &[(String, Secret)],
) -> Result<(), Rejection> {
    let texts = signed_texts(upgrade).ok_or_else(|| refuse(NO_PUBLIC_URL))?;
    signed(upgrade, &texts, tokens, shared_keys)
}

/// The same for a webhook: its parameters are signed with the URL, or, of JSON, a digest that is in the URL.
pub(super) fn check_webhook(
    webhook: &Webhook<'_>,
    tokens: &[Secret],
    shared_keys: &[(String, Secret)],
) -> Result<(), Rejection> {
    let digest = webhook.head().query("bodySHA256");
    let is_form = webhook.body_kind() == Some(BodyKind::Form);
    if !is_form && (digest.is_some() || !webhook.body.is_empty()) {
        let digest = digest.ok_or_else(|| refuse("nothing in the URL vouches for the body"))?;
        let found = hex(&Sha256::digest(webhook.body));
        if !bool::from(found.as_bytes().ct_eq(digest.to_ascii_lowercase().as_bytes())) {
            return Err(refuse("the body is not the one that was signed"));
        }
    }
    let pairs = sorted_pairs(webhook);
    let texts: Vec<_> =
        ported(&webhook.asked()).into_iter().map(|url| format!("{url}{pairs}")).collect();
    signed(&webhook.head(), &texts, tokens, shared_keys)
}

/// The parameters of a form, sorted and joined, each once.
pub(super) fn sorted_pairs(webhook: &Webhook<'_>) -> String {
    let mut pairs = webhook.form();
    pairs.sort();
    pairs.dedup();
    pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()
}

/// A URL with and without its port: which of them is signed differs from case to case (Twilio's own libraries try both).
pub(super) fn ported(url: &str) -> Vec<String> {
    let mut forms = vec![url.to_owned()];
    let Some((scheme, rest)) = url.split_once("://") else { return forms };
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    // Of an address of version 6 the last colon may be its own.
    let port = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|o| o.is_ascii_digit()));
    forms.push(match port {
        Some((name, _)) => format!("{scheme}://{name}{path}"),
        None => {
            let port = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
            format!("{scheme}://{host}:{port}{path}")
        }
    });
    forms
}

/// Whether one of `texts` is what was signed.
fn signed(
    head: &Upgrade<'_>,
    texts: &[String],
    tokens: &[Secret],
    shared_keys: &[(String, Secret)],
) -> Result<(), Rejection> {
    let signature = head
        .header(SIGNATURE)
        .ok_or_else(|| refuse("the X-Twilio-Signature header field is missing"))?;
    let offered = base64_of(signature)
        .ok_or_else(|| refuse("the X-Twilio-Signature header field is not base64"))?;
    let settings = Settings::read(head.header(SETTINGS).unwrap_or_default())?;
    let mut matched = Choice::from(0);
    match settings {
        Settings::AuthToken => {
            for key in tokens.iter().filter_map(Secret::key) {
                for text in texts {
                    matched |= hmac_sha1(key, text.as_bytes()).ct_eq(&offered);
                }
            }
        }
        Settings::SharedKey(name) => {
            let mut named = shared_keys.iter().filter(|(known, _)| known == name).peekable();
            if named.peek().is_none() {
                return Err(refuse(
                    "X-Twilio-Webhooks-Signature-Settings names a key that is not in `shared_keys`",
                ));
            }
            for key in named.filter_map(|(_, secret)| secret.key()) {
                for text in texts {
                    matched |= hmac_sha256(key, text.as_bytes()).ct_eq(&offered);
                }
            }
        }
    }
    opens(
        matched,
        "X-Twilio-Signature does not match: wrong auth token, or the public URL is not exactly what Twilio dials",
    )
}

/// With what the signature was made.
enum Settings<'a> {
    /// HMAC-SHA1 with the account's auth token, as ever.
    AuthToken,
    /// HMAC-SHA256 with the shared key of this name.
    SharedKey(&'a str),
}

impl<'a> Settings<'a> {
    /// `key=webhooks_sharedkey_...,algorithm=HMAC_SHA256`; without a key and an algorithm nothing has changed.
    fn read(header: &'a str) -> Result<Self, Rejection> {
        let part = |wanted: &str| {
            let mut parts = header.split(',').filter_map(|part| part.split_once('='));
            let value = parts.find(|(name, _)| name.trim() == wanted)?.1.trim();
            (!value.is_empty()).then_some(value)
        };
        match (part("key"), part("algorithm")) {
            (None, None | Some("HMAC_SHA1")) => Ok(Self::AuthToken),
            (Some(key), Some("HMAC_SHA256")) => Ok(Self::SharedKey(key)),
            (None, Some("HMAC_SHA256")) => {
                Err(refuse("X-Twilio-Webhooks-Signature-Settings names no key"))
            }
            _ => Err(refuse(
                "X-Twilio-Webhooks-Signature-Settings names an algorithm that is not taken for its key",
            )),
        }
    }
}

/// What Twilio may have signed: the URL, with and without a slash at its end, or, where it has a query, the URL with the query as
/// it stands or with its parameters sorted and joined (Twilio's own libraries differ in this). A request with a query never passes
/// by a signature of the URL without.
fn signed_texts(upgrade: &Upgrade<'_>) -> Option<Vec<String>> {
    let (base, query) = upgrade.dialled()?;
    let slashed = base.strip_suffix('/').map_or_else(|| format!("{base}/"), str::to_owned);
    if !upgrade.target.contains('?') {
        let mut texts = vec![base.to_owned(), slashed];
        if !query.is_empty() {
            texts.push(format!("{base}?{query}"));
        }
        return Some(texts);
    }
    let mut pairs: Vec<_> = upgrade.query_pairs().collect();
    pairs.sort();
    pairs.dedup();
    let joined: String = pairs.into_iter().flat_map(|(key, value)| [key, value]).collect();
    Some(vec![format!("{base}?{query}"), format!("{base}{joined}")])
}

/// The value Twilio puts into `X-Twilio-Signature` for this URL, with the sorted parameters of a form behind it; for whoever plays
/// Twilio.
#[must_use]
pub fn twilio_signature(token: &Secret, url: &str) -> String {
    base64_simd::STANDARD.encode_to_string(hmac_sha1(token.expose().as_bytes(), url.as_bytes()))
}

/// The same made with a shared key, which `X-Twilio-Webhooks-Signature-Settings` then has to name.
#[must_use]
pub fn twilio_signature_sha256(shared_key: &Secret, url: &str) -> String {
    let mac = hmac_sha256(shared_key.expose().as_bytes(), url.as_bytes());
    base64_simd::STANDARD.encode_to_string(mac)
}
