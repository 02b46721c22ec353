//! Telnyx' signature of webhooks: Ed25519 over the time and the body. Verifies; signs nothing.

use ed25519_dalek::{Signature, VerifyingKey};

use super::webhook::fresh;
use super::{Replays, base64_of, refuse};
use crate::UnixSeconds;
use crate::provider::{Rejection, Webhook};

/// The public key of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelnyxKey(VerifyingKey);

impl TelnyxKey {
    /// Reads it as Telnyx shows it: base64 of 32 octets. `None` if it is none, or one by which anything is signed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let octets = base64_of(text)?.try_into().ok()?;
        let key = VerifyingKey::from_bytes(&octets).ok()?;
        (!key.is_weak()).then_some(Self(key))
    }
}

pub(super) fn check(
    webhook: &Webhook<'_>,
    key: &TelnyxKey,
    now: UnixSeconds,
    replays: &mut Replays,
) -> Result<(), Rejection> {
    let signature = webhook
        .header("telnyx-signature-ed25519")
        .ok_or_else(|| refuse("the Telnyx-Signature-Ed25519 header field is missing"))?;
    let signature: [u8; 64] = base64_of(signature)
        .and_then(|octets| octets.try_into().ok())
        .ok_or_else(|| refuse("the Telnyx-Signature-Ed25519 header field is no signature"))?;
    let time = webhook
        .header("telnyx-timestamp")
        .ok_or_else(|| refuse("the Telnyx-Timestamp header field is missing"))?;
    let made: u64 =
        time.parse().map_err(|_| refuse("the Telnyx-Timestamp header field is no time"))?;
    let signed = [time.as_bytes(), b"|", webhook.body].concat();
    let verified = key.0.verify_strict(&signed, &Signature::from_bytes(&signature));
    verified.map_err(|_| refuse("the signature is not by the account's key (`public_key`)"))?;
    let expiry = fresh(UnixSeconds(made), now)?;
    replays.first_use(&[b"telnyx", &signature], now, expiry)?;
    Ok(())
}
