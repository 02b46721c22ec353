//! Whether a webhook may be answered: fixed credentials as streams have them, and signatures over the whole request. Answers none.
//!
//! Signatures that tell when they were made count for five minutes and once. Those that do not (Twilio, SignalWire, Plivo) could be
//! played back by whoever has read them, and would be told the same again.

use super::{Auth, JambonzSecrets, Replays, SinchSecrets, TelnyxKey, refuse, sole};
use super::{Secret, jambonz, plivo, signalwire, sinch, telnyx, tokens, twilio};
use crate::UnixSeconds;
use crate::provider::{Rejection, Webhook};

/// What is demanded of those who ask what to do with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WebhookAuth {
    /// What streams can have too, where it is not bound to a stream: nothing, a fixed credential, Twilio's and Plivo's signatures,
    /// signed tokens.
    Common(Auth),
    /// `X-SignalWire-Signature`, keyed with the project's signing key.
    SignalWireSignature {
        /// Signing keys that open, old ones included while they are rotated.
        keys: Vec<Secret>,
    },
    /// `Telnyx-Signature-Ed25519`, by the account's key pair.
    TelnyxSignature {
        /// The public one.
        key: TelnyxKey,
    },
    /// `Authorization: Application <key>:<signature>`.
    SinchSignature(SinchSecrets),
    /// `Jambonz-Signature`, keyed with the account's webhook secret.
    JambonzSignature(JambonzSecrets),
}

impl WebhookAuth {
    /// Lets the webhook be answered or says why not. `replays` remembers, where a signature counts only once, what has counted; the
    /// same one is to be given for everything that is signed with the same secret.
    ///
    /// # Errors
    /// [`Rejection::Unauthorized`], with the reason for the log.
    pub fn check(
        &self,
        webhook: &Webhook<'_>,
        now: UnixSeconds,
        replays: &mut Replays,
    ) -> Result<(), Rejection> {
        sole(webhook.headers, |field| self.is_credential(field))?;
        match self {
            Self::Common(auth) => common(auth, webhook, now, replays),
            Self::SignalWireSignature { keys } => signalwire::check(webhook, keys),
            Self::TelnyxSignature { key } => telnyx::check(webhook, key, now, replays),
            Self::SinchSignature(secrets) => sinch::check(webhook, secrets, now, replays),
            Self::JambonzSignature(secrets) => jambonz::check(webhook, secrets, now, replays),
        }
    }

    /// Whether a header field is the credential, or says how it is to be taken, and may be there once.
    fn is_credential(&self, field: &str) -> bool {
        match self {
            Self::Common(auth) => auth.is_credential(field),
            Self::SignalWireSignature { .. } => {
                field.starts_with("x-signalwire-") || twilio::FIELDS.contains(&field)
            }
            Self::TelnyxSignature { .. } => field.starts_with("telnyx-"),
            Self::SinchSignature(_) => ["authorization", "x-timestamp"].contains(&field),
            Self::JambonzSignature(_) => field == "jambonz-signature",
        }
    }

    /// Whether this can be checked of a webhook at all.
    #[must_use]
    pub const fn is_of_webhooks(&self) -> bool {
        !matches!(
            self,
            Self::Common(
                Auth::Path { .. } | Auth::GenesysSignature { .. } | Auth::ZoomSignature { .. }
            )
        )
    }

    /// Whether somebody without any credential is answered.
    #[must_use]
    pub const fn opens_for_strangers(&self) -> bool {
        match self {
            Self::Common(auth) => auth.opens_for_strangers(),
            _ => false,
        }
    }

    /// Whether a request without credentials shall be told to bring them: many clients send user and password only then (RFC 7235).
    #[must_use]
    pub const fn challenges(&self) -> bool {
        matches!(self, Self::Common(Auth::Basic { .. }))
    }

    /// What it is called in a configuration.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Common(auth) => auth.kind(),
            Self::SignalWireSignature { .. } => "signalwire-signature",
            Self::TelnyxSignature { .. } => "telnyx-signature",
            Self::SinchSignature(_) => "sinch-signature",
            Self::JambonzSignature(_) => "jambonz-signature",
        }
    }
}

fn common(
    auth: &Auth,
    webhook: &Webhook<'_>,
    now: UnixSeconds,
    replays: &mut Replays,
) -> Result<(), Rejection> {
    let head = &webhook.head();
    match auth {
        Auth::None => Ok(()),
        Auth::Bearer { tokens } => tokens::bearer(head, tokens).map(drop),
        Auth::Basic { user, passwords } => tokens::basic(head, user, passwords),
        Auth::Header { name, values } => tokens::header(head, name, values),
        Auth::Query { name, values } => tokens::query(head, name, values),
        Auth::TwilioSignature { tokens, shared_keys } => {
            twilio::check_webhook(webhook, tokens, shared_keys)
        }
        Auth::PlivoSignature { prefix, tokens, allow_unsigned } => {
            plivo::check_webhook(webhook, prefix, tokens, *allow_unsigned)
        }
        Auth::Jwt(jwt) => jwt.check_webhook(webhook, now, replays),
        Auth::Path { .. } | Auth::GenesysSignature { .. } | Auth::ZoomSignature { .. } => {
            Err(refuse("this kind of credential is for streams only"))
        }
    }
}

/// Seconds for which a signature counts, in both directions: clocks differ. What Telnyx' own libraries take.
const TOLERANCE: u64 = 300;

/// Checks when a signature was made, and returns the second from which it is refused.
pub(super) fn fresh(made: UnixSeconds, now: UnixSeconds) -> Result<UnixSeconds, Rejection> {
    if made.0 > now.0.saturating_add(TOLERANCE) {
        return Err(refuse("the signature is of a later time; is this machine's clock slow?"));
    }
    let expiry = made.0.saturating_add(TOLERANCE);
    if expiry < now.0 {
        return Err(refuse(
            "the signature is over five minutes old; is this machine's clock fast?",
        ));
    }
    Ok(UnixSeconds(expiry + 1))
}
