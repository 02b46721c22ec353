//! SignalWire's signature of webhooks, made and checked, in both its ways: over the raw body, in hexadecimal, and as Twilio's, in
//! base64. Streams have none.

use subtle::{Choice, ConstantTimeEq};

use super::twilio::{ported, sorted_pairs};
use super::{Secret, base64_of, hmac_sha1, hmac_sha256, opens, refuse};
use crate::hex::hex;
use crate::provider::answer::BodyKind;
use crate::provider::{Rejection, Webhook};

const SIGNATURE: &str = "x-signalwire-signature";
const SIGNATURE_SHA256: &str = "x-signalwire-sha256-signature";
/// By which name cXML requests have it too.
const ALIAS: &str = "x-twilio-signature";

pub(super) fn check(webhook: &Webhook<'_>, keys: &[Secret]) -> Result<(), Rejection> {
    let by_sha1 = webhook.header(SIGNATURE).or_else(|| webhook.header(ALIAS));
    let by_sha256 = webhook.header(SIGNATURE_SHA256).map(str::trim);
    if by_sha1.or(by_sha256).is_none() {
        return Err(refuse("the X-SignalWire-Signature header field is missing"));
    }
    let by_sha1 = by_sha1.unwrap_or_default().trim();
    // The second way is over the URL and what is in a form: it vouches for no other body.
    let is_covered = webhook.body.is_empty() || webhook.body_kind() == Some(BodyKind::Form);
    let in_base64 = base64_of(by_sha1).filter(|_| is_covered).unwrap_or_default();
    let pairs = sorted_pairs(webhook);
    let mut matched = Choice::from(0);
    for key in keys.iter().filter_map(Secret::key) {
        for url in ported(&webhook.asked()) {
            let whole = [url.as_bytes(), webhook.body].concat();
            matched |= hex(&hmac_sha1(key, &whole)).as_bytes().ct_eq(by_sha1.as_bytes());
            matched |= hmac_sha1(key, format!("{url}{pairs}").as_bytes()).ct_eq(&in_base64);
            if let Some(offered) = by_sha256 {
                matched |= hex(&hmac_sha256(key, &whole)).as_bytes().ct_eq(offered.as_bytes());
            }
        }
    }
    opens(
        matched,
        "X-SignalWire-Signature does not match: wrong signing key, or the public URL is not exactly what SignalWire asks",
    )
}

/// The value SignalWire puts into `X-SignalWire-Signature` for this URL and body; for whoever plays SignalWire.
#[must_use]
pub fn signalwire_signature(key: &Secret, url: &str, body: &[u8]) -> String {
    hex(&hmac_sha1(key.expose().as_bytes(), &[url.as_bytes(), body].concat()))
}
