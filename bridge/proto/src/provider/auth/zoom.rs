//! Zoom's signature of a posted request, made and checked over its time and its body. Reads nothing of what the body says.

use subtle::ConstantTimeEq;

use super::webhook::fresh;
use super::{Replays, Secret, Used, hmac_sha256_hex, refuse};
use crate::UnixSeconds;
use crate::provider::{Rejection, Upgrade};

/// Gives the secret that the request was signed with.
pub(super) fn check(
    request: &Upgrade<'_>,
    body: &[u8],
    secrets: &[Secret],
    now: UnixSeconds,
    replays: &mut Replays,
) -> Result<(Secret, Used), Rejection> {
    let field = |name: &str| request.header(name).filter(|value| !value.is_empty());
    let offered = field("x-zm-signature")
        .ok_or_else(|| refuse("the x-zm-signature header field is missing"))?;
    let time = field("x-zm-request-timestamp")
        .ok_or_else(|| refuse("the x-zm-request-timestamp header field is missing"))?;
    let mut signer = None;
    for secret in secrets.iter().filter(|secret| secret.key().is_some()) {
        let wanted = signature(secret, time, body);
        if bool::from(wanted.as_bytes().ct_eq(offered.as_bytes())) {
            signer = Some(secret);
        }
    }
    let signer = signer.ok_or_else(|| {
        refuse("the signature does not match: another secret token, or the body was changed on its way")
    })?;
    let signed_at: u64 =
        time.parse().map_err(|_| refuse("x-zm-request-timestamp is no number of seconds"))?;
    let expiry = fresh(UnixSeconds(signed_at), now)?;
    let used = replays.first_use(&[b"x-zm-signature", offered.as_bytes()], now, expiry)?;
    Ok((signer.clone(), used))
}

fn signature(secret: &Secret, time: &str, body: &[u8]) -> String {
    let text = [b"v0:", time.as_bytes(), b":", body].concat();
    format!("v0={}", hmac_sha256_hex(secret, &text))
}

/// The value of `x-zm-signature` for this body and this value of `x-zm-request-timestamp`; for whoever plays Zoom.
#[must_use]
pub fn zoom_signature(secret: &Secret, timestamp: u64, body: &str) -> String {
    signature(secret, &timestamp.to_string(), body.as_bytes())
}
