//! Whether an upgrade may come in: credentials compared in constant time, as pure functions; and, for whoever plays a provider, made.
//! Reads no configuration and no clock and rolls no dice; the listener checks before it asks the provider to accept.
//!
//! What the refused are told is [`Rejection::public`], the same for all; the operator's log gets the reason. No reason repeats
//! what a stranger sent.

mod genesys;
mod issue;
mod jambonz;
mod jwt;
mod plivo;
mod proof;
mod replays;
mod rsa;
mod secret;
mod signalwire;
mod sinch;
mod telnyx;
mod tokens;
mod twilio;
mod webhook;
mod zoom;

use std::fmt;

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;
use subtle::Choice;

use super::{Rejection, Transport, Upgrade};
use crate::UnixSeconds;
use crate::hex::hex;

pub use genesys::{Signing, genesys_signature};
pub use issue::{Issuer, JwtKey, hs256, rs256};
pub use jambonz::{JambonzSecrets, jambonz_signature};
pub use jwt::{Jwt, JwtKeys, JwtMaker, KeySet, KeySetError, PrivateJwk};
pub use plivo::{plivo_signature, plivo_webhook_text};
pub use proof::{NoProof, Occasion, Proof, Unsigned};
pub use replays::{Replays, SECONDS_REMEMBERED, Used};
pub use secret::Secret;
pub use signalwire::signalwire_signature;
pub use sinch::{SinchSecrets, sinch_signature};
pub use telnyx::TelnyxKey;
pub use twilio::{twilio_signature, twilio_signature_sha256};
pub use webhook::WebhookAuth;
pub use zoom::zoom_signature;

/// What a listener demands of those who dial it. Where several secrets are given any of them opens, so that one can be rotated
/// without losing calls; an empty list opens for nobody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Auth {
    /// Everybody is let in.
    #[default]
    None,
    /// `Authorization: Bearer <token>` (RFC 6750, 2.1), or the subprotocol `Bearer-<token>`, which is what a browser can send.
    Bearer {
        /// Tokens that open.
        tokens: Vec<Secret>,
    },
    /// `Authorization: Basic <base64 of user:password>` (RFC 7617).
    Basic {
        /// User name, without a colon.
        user: String,
        /// Passwords that open.
        passwords: Vec<Secret>,
    },
    /// A header field with a fixed value (Telnyx's `x-telnyx-streaming-auth-token`, API keys of contact centres).
    Header {
        /// Name of the field, in lower case.
        name: String,
        /// Values that open.
        values: Vec<Secret>,
    },
    /// A query parameter with a fixed value.
    Query {
        /// Name of the parameter.
        name: String,
        /// Values that open.
        values: Vec<Secret>,
    },
    /// The last segment of the path; for providers that drop the query and send no header.
    Path {
        /// Segments that open.
        tokens: Vec<Secret>,
    },
    /// `X-Twilio-Signature` over [`Upgrade::public_url`]: HMAC-SHA1 keyed with the account's auth token, or, where
    /// `X-Twilio-Webhooks-Signature-Settings` names a shared key, HMAC-SHA256 keyed with that.
    TwilioSignature {
        /// Auth tokens of the accounts that may call, old ones included while they are rotated.
        tokens: Vec<Secret>,
        /// Shared keys by the name the header calls them.
        shared_keys: Vec<(String, Secret)>,
    },
    /// `X-Plivo-Signature-V3`, or `-Ma-V3` of the main account: HMAC-SHA256 over [`Upgrade::public_url`] and a nonce. The nonce
    /// makes signatures differ and is not remembered: nothing tells how old a request is, so there is no time to forget it by.
    PlivoSignature {
        /// What the header fields begin with, in lower case: `x-plivo`, or `x-vobiz` of the provider that copied it.
        prefix: String,
        /// Auth tokens that open.
        tokens: Vec<Secret>,
        /// Whether a request without any signature is let in. A wrong signature is refused in any case.
        allow_unsigned: bool,
    },
    /// A signed token (RFC 7519) in the place of a bearer token.
    Jwt(Jwt),
    /// HTTP message signature as Genesys AudioHook makes it (draft-ietf-httpbis-message-signatures-11), each nonce once.
    GenesysSignature {
        /// The API key, which `X-API-KEY` and `keyid` must both be.
        api_key: Secret,
        /// Client secrets as Genesys takes them: base64 of the key.
        secrets: Vec<Secret>,
    },
    /// `x-zm-signature` of a posted request: HMAC-SHA256 over `x-zm-request-timestamp` and the body, five minutes old at most, each
    /// once.
    ZoomSignature {
        /// Secret tokens of the applications that may post.
        secrets: Vec<Secret>,
    },
}

/// Yes to an upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grant {
    /// The subprotocol that carried the credential. The answer must name it unless it names another: a browser that offered any
    /// takes no answer without one.
    pub subprotocol: Option<Secret>,
    /// What a posted request was signed with, where its answer must be signed with the same.
    pub key: Option<Secret>,
    /// What was written down of a credential that opens once. If what it came with cannot be served now, [`Replays::give_back`] lets
    /// the provider come again with the same.
    pub used: Option<Used>,
    /// Whom a token is about (`sub`), where it says so: one listener may let in many who are not the same party.
    pub subject: Option<Box<str>>,
}

impl Auth {
    /// Lets the upgrade in or says why not. `replays` remembers, where a credential opens only once, what has opened; the same
    /// one is to be given for all upgrades of a listener.
    pub fn check(
        &self,
        upgrade: &Upgrade<'_>,
        now: UnixSeconds,
        replays: &mut Replays,
    ) -> Result<Grant, Rejection> {
        self.check_posted(upgrade, &[], now, replays)
    }

    /// [`Auth::check`] of a request that has a body.
    pub fn check_posted(
        &self,
        upgrade: &Upgrade<'_>,
        body: &[u8],
        now: UnixSeconds,
        replays: &mut Replays,
    ) -> Result<Grant, Rejection> {
        sole(upgrade.headers, |field| self.is_credential(field))?;
        match self {
            Self::None => {}
            Self::Bearer { tokens } => return tokens::bearer(upgrade, tokens),
            Self::Jwt(jwt) => return jwt.check(upgrade, now, replays),
            Self::Basic { user, passwords } => tokens::basic(upgrade, user, passwords)?,
            Self::Header { name, values } => tokens::header(upgrade, name, values)?,
            Self::Query { name, values } => tokens::query(upgrade, name, values)?,
            Self::Path { tokens } => tokens::path(upgrade, tokens)?,
            Self::TwilioSignature { tokens, shared_keys } => {
                twilio::check(upgrade, tokens, shared_keys)?;
            }
            Self::PlivoSignature { prefix, tokens, allow_unsigned } => {
                plivo::check(upgrade, prefix, tokens, *allow_unsigned)?;
            }
            Self::GenesysSignature { api_key, secrets } => {
                let used = genesys::check(upgrade, api_key, secrets, now, replays)?;
                return Ok(Grant { used: Some(used), ..Grant::default() });
            }
            Self::ZoomSignature { secrets } => {
                let (key, used) = zoom::check(upgrade, body, secrets, now, replays)?;
                return Ok(Grant { key: Some(key), used: Some(used), ..Grant::default() });
            }
        }
        Ok(Grant::default())
    }

    /// Whether somebody without any credential is let in.
    #[must_use]
    pub const fn opens_for_strangers(&self) -> bool {
        matches!(self, Self::None | Self::PlivoSignature { allow_unsigned: true, .. })
    }

    /// Whether it proves no more than that somebody has seen it before: a signature over what is the same for every stream, which is good
    /// for the next one as well.
    #[must_use]
    pub const fn can_be_said_again(&self) -> bool {
        matches!(self, Self::TwilioSignature { .. } | Self::PlivoSignature { .. })
    }

    /// Whether calls over such a transport can bring it: some signatures are of a stream's request, and one is of what is posted.
    #[must_use]
    pub const fn fits(&self, transport: Transport) -> bool {
        let posted = matches!(transport, Transport::Webhook { .. });
        match self {
            Self::None => true,
            Self::ZoomSignature { .. } => posted,
            Self::TwilioSignature { .. }
            | Self::PlivoSignature { .. }
            | Self::GenesysSignature { .. } => matches!(transport, Transport::WebSocket),
            Self::Jwt(jwt) if posted => matches!(jwt.maker, JwtMaker::Any),
            _ => !matches!(transport, Transport::Records),
        }
    }

    /// What it is called in a configuration.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bearer { .. } => "bearer",
            Self::Basic { .. } => "basic",
            Self::Header { .. } => "header",
            Self::Query { .. } => "query",
            Self::Path { .. } => "path",
            Self::TwilioSignature { .. } => "twilio-signature",
            Self::PlivoSignature { .. } => "plivo-signature",
            Self::Jwt(jwt) => match jwt.maker {
                JwtMaker::Any => "jwt",
                JwtMaker::Vonage => "vonage-jwt",
                JwtMaker::Avaya => "avaya-jwt",
                JwtMaker::Azure => "azure-jwt",
            },
            Self::GenesysSignature { .. } => "genesys-signature",
            Self::ZoomSignature { .. } => "zoom-signature",
        }
    }

    /// Whether a header field is the credential, or says how it is to be taken, and may be there once.
    fn is_credential(&self, field: &str) -> bool {
        match self {
            Self::Bearer { .. } | Self::Basic { .. } | Self::Jwt(_) => field == "authorization",
            Self::Header { name, .. } => field == name,
            Self::TwilioSignature { .. } => twilio::FIELDS.contains(&field),
            Self::PlivoSignature { prefix, .. } => {
                field.strip_prefix(prefix.as_str()).is_some_and(|of| of.starts_with("-signature-"))
            }
            Self::ZoomSignature { .. } => field.starts_with("x-zm-"),
            Self::GenesysSignature { .. } => {
                ["x-api-key", "signature", "signature-input", "host"].contains(&field)
            }
            Self::None | Self::Query { .. } | Self::Path { .. } => false,
        }
    }

    /// Name of the query parameter that holds the credential, for [`super::Options::credential_query`].
    #[must_use]
    pub fn query_parameter(&self) -> Option<&str> {
        match self {
            Self::Query { name, .. } => Some(name),
            _ => None,
        }
    }
}

/// A credential that is there twice is none: whoever looked at the request before us, such as a proxy, may have looked at the other.
fn sole(headers: &[(&str, &str)], is_credential: impl Fn(&str) -> bool) -> Result<(), Rejection> {
    let is_again = |(at, (name, _)): (usize, &(&str, &str))| {
        is_credential(name) && headers[..at].iter().any(|(before, _)| before == name)
    };
    if headers.iter().enumerate().any(is_again) { Err(refuse(TWICE)) } else { Ok(()) }
}

const TWICE: &str = "the credential is there more than once";

const fn refuse(reason: &'static str) -> Rejection {
    Rejection::Unauthorized { reason }
}

const NO_PUBLIC_URL: &str =
    "this listener has no public URL, and the signature is computed over it; set one";

/// Compares with every secret, also after a match: how long it takes tells nothing but how many there are.
fn any(secrets: &[Secret], offered: &str, otherwise: &'static str) -> Result<(), Rejection> {
    let matched = secrets.iter().fold(Choice::from(0), |hit, secret| hit | secret.matches(offered));
    opens(matched, otherwise)
}

/// What comparisons in constant time came to.
fn opens(matched: Choice, otherwise: &'static str) -> Result<(), Rejection> {
    if bool::from(matched) { Ok(()) } else { Err(refuse(otherwise)) }
}

/// HMAC-SHA256 (RFC 2104, FIPS 180-4) by a key that many texts are signed with: half the work, for short ones.
pub(crate) struct HmacSha256(Hmac<Sha256>);

impl HmacSha256 {
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect(ANY_LENGTH))
    }

    /// Of these pieces, one behind the other.
    pub(crate) fn of(&self, text: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        text.iter().for_each(|piece| mac.update(piece));
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for HmacSha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacSha256(..)")
    }
}

/// HMAC-SHA256 (RFC 2104, FIPS 180-4).
pub(crate) fn hmac_sha256(key: &[u8], text: &[u8]) -> [u8; 32] {
    HmacSha256::new(key).of(&[text])
}

/// HMAC-SHA256 in lower-case hexadecimal; nothing by an empty key, which signs nothing.
pub(super) fn hmac_sha256_hex(key: &Secret, text: &[u8]) -> String {
    key.key().map(|key| hex(&hmac_sha256(key, text))).unwrap_or_default()
}

fn hmac_sha1(key: &[u8], text: &[u8]) -> [u8; 20] {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect(ANY_LENGTH);
    mac.update(text);
    mac.finalize().into_bytes().into()
}

const ANY_LENGTH: &str = "HMAC takes keys of every length (RFC 2104, 2)";

/// Standard base64 of one value of a header field, to the letter: one credential has one form, with its padding.
fn base64_of(text: &str) -> Option<Vec<u8>> {
    base64_simd::STANDARD.decode_to_vec(text.trim()).ok()
}
