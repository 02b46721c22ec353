//! Plivo's signature of version 3, and of those who copied it, made and checked: over the URL, and over a webhook's parameters. Knows
//! no other bodies than forms.
//!
//! Nothing of Plivo's says which scheme a stream's URL is signed with. Its SDK for streams (plivo-stream-sdk 0.1.1) checks over
//! `http:` and its check of signatures takes no `wss:` at all, so the URL may be signed with a web page's scheme as well. That SDK
//! also appends `/websocket` to the path, which is its server's own affair.

use subtle::{Choice, ConstantTimeEq};

use super::{NO_PUBLIC_URL, Secret, base64_of, hmac_sha256, opens, refuse};
use crate::provider::answer::BodyKind;
use crate::provider::{Rejection, Upgrade, Webhook};

pub(super) fn check(
    upgrade: &Upgrade<'_>,
    prefix: &str,
    tokens: &[Secret],
    allow_unsigned: bool,
) -> Result<(), Rejection> {
    signed(upgrade, signed_urls(upgrade), prefix, tokens, allow_unsigned)
}

pub(super) fn check_webhook(
    webhook: &Webhook<'_>,
    prefix: &str,
    tokens: &[Secret],
    allow_unsigned: bool,
) -> Result<(), Rejection> {
    if !webhook.body.is_empty() && webhook.body_kind() != Some(BodyKind::Form) {
        return Err(refuse("the body is no form, and no other is signed"));
    }
    let texts = plivo_webhook_text(webhook).map(|text| vec![text]);
    signed(&webhook.head(), texts, prefix, tokens, allow_unsigned)
}

/// The text that Plivo signs of a webhook, but for the nonce: the URL, and what is in the form, sorted; for whoever plays Plivo.
#[must_use]
pub fn plivo_webhook_text(webhook: &Webhook<'_>) -> Option<String> {
    let url = signed_url(&webhook.head())?;
    let mut pairs = webhook.form();
    if pairs.is_empty() {
        return Some(url);
    }
    pairs.sort();
    let between = if url.contains('?') { "." } else { "?" };
    let pairs: String = pairs.into_iter().flat_map(|(key, value)| [key, value]).collect();
    Some(format!("{url}{between}{pairs}"))
}

fn signed(
    upgrade: &Upgrade<'_>,
    urls: Option<Vec<String>>,
    prefix: &str,
    tokens: &[Secret],
    allow_unsigned: bool,
) -> Result<(), Rejection> {
    // Of the account that made the call, and of the main account above it.
    let fields = ["signature-v3", "signature-ma-v3"]
        .map(|field| upgrade.header(&format!("{prefix}-{field}")));
    if fields == [None, None] {
        let unsigned = Err(refuse("the header field with the signature is missing"));
        return if allow_unsigned { Ok(()) } else { unsigned };
    }
    let nonce = upgrade
        .header(&format!("{prefix}-signature-v3-nonce"))
        .filter(|nonce| !nonce.is_empty())
        .ok_or_else(|| refuse("the header field with the signature's nonce is missing"))?;
    let urls = urls.ok_or_else(|| refuse(NO_PUBLIC_URL))?;
    let offered: Vec<_> = fields
        .into_iter()
        .flatten()
        .flat_map(|list| list.split(','))
        .filter_map(base64_of)
        .collect();
    let mut matched = Choice::from(0);
    for key in tokens.iter().filter_map(Secret::key) {
        for url in &urls {
            let wanted = hmac_sha256(key, format!("{url}.{nonce}").as_bytes());
            for signature in &offered {
                matched |= wanted.ct_eq(signature);
            }
        }
    }
    opens(
        matched,
        "the signature does not match: wrong auth token, or the public URL is not exactly what the provider dials",
    )
}

/// The URL with its parameters decoded and sorted.
pub(super) fn signed_url(upgrade: &Upgrade<'_>) -> Option<String> {
    let (base, query) = upgrade.dialled()?;
    let target = format!("?{query}");
    let parsed = Upgrade { target: &target, public_url: None, headers: &[] };
    let mut pairs: Vec<_> = parsed.query_pairs().collect();
    pairs.sort();
    let pairs: Vec<_> = pairs.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    Some(if pairs.is_empty() { base.to_owned() } else { format!("{base}?{}", pairs.join("&")) })
}

/// The same in the schemes that an upgrade may be signed with.
fn signed_urls(upgrade: &Upgrade<'_>) -> Option<Vec<String>> {
    let url = signed_url(upgrade)?;
    let pages = url.split_once("://").map_or([None, None], |(_, rest)| {
        ["https", "http"].map(|scheme| Some(format!("{scheme}://{rest}")))
    });
    Some([Some(url)].into_iter().chain(pages).flatten().collect())
}

/// The value Plivo puts into `X-Plivo-Signature-V3` for this URL, whose query is sorted already; for whoever plays Plivo.
#[must_use]
pub fn plivo_signature(token: &Secret, url: &str, nonce: &str) -> String {
    let mac = hmac_sha256(token.expose().as_bytes(), format!("{url}.{nonce}").as_bytes());
    base64_simd::STANDARD.encode_to_string(mac)
}
