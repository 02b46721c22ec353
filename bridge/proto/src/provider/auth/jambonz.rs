//! jambonz' signature of webhooks, made and checked: HMAC-SHA256 over the time and the body. Of requests without a body it says
//! nothing that was sent, so those are refused.

use subtle::{Choice, ConstantTimeEq};

use super::webhook::fresh;
use super::{Replays, Secret, hmac_sha256, opens, refuse};
use crate::UnixSeconds;
use crate::hex::hex;
use crate::provider::answer::Method;
use crate::provider::{Rejection, Webhook};

/// Webhook secrets that open, old ones included while they are rotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JambonzSecrets(pub Vec<Secret>);

pub(super) fn check(
    webhook: &Webhook<'_>,
    secrets: &JambonzSecrets,
    now: UnixSeconds,
    replays: &mut Replays,
) -> Result<(), Rejection> {
    let field = webhook
        .header("jambonz-signature")
        .ok_or_else(|| refuse("the Jambonz-Signature header field is missing"))?;
    if webhook.method != Method::Post {
        return Err(refuse("jambonz signs bodies only: set the webhook's method to POST"));
    }
    let part = |name: &str| {
        let mut parts = field.split(',').filter_map(|part| part.trim().split_once('='));
        parts.find(|(found, _)| *found == name).map(|(_, value)| value)
    };
    let (Some(time), Some(offered)) = (part("t"), part("v1")) else {
        return Err(refuse("the Jambonz-Signature header field lacks a time or a signature"));
    };
    let made: u64 = time.parse().map_err(|_| refuse("the signature's time is none"))?;
    let signed = [time.as_bytes(), b".", webhook.body].concat();
    let mut matched = Choice::from(0);
    for key in secrets.0.iter().filter_map(Secret::key) {
        matched |= hex(&hmac_sha256(key, &signed)).as_bytes().ct_eq(offered.as_bytes());
    }
    opens(matched, "Jambonz-Signature does not match: wrong webhook secret")?;
    let expiry = fresh(UnixSeconds(made), now)?;
    replays.first_use(&[b"jambonz", offered.as_bytes()], now, expiry)?;
    Ok(())
}

/// The value jambonz puts into `Jambonz-Signature`; for whoever plays jambonz.
#[must_use]
pub fn jambonz_signature(secret: &Secret, made: UnixSeconds, body: &[u8]) -> String {
    let time = made.0.to_string();
    let signed = [time.as_bytes(), b".", body].concat();
    format!("t={time},v1={}", hex(&hmac_sha256(secret.expose().as_bytes(), &signed)))
}
