//! The other end of every kind of [`Auth`]: a request signed as the provider would sign it, for whoever plays one. Knows neither what
//! time it is nor a number nobody can guess; it is told both.

use super::genesys::{Signing, genesys_signature};
use super::issue::{Issuer, JwtKey};
use super::plivo::{plivo_signature, signed_url};
use super::twilio::{twilio_signature, twilio_signature_sha256};
use super::zoom::zoom_signature;
use super::{Auth, JwtKeys, PrivateJwk, Secret};
use crate::UnixSeconds;
use crate::provider::upgrade::with_query;
use crate::provider::{OutgoingUpgrade, Upgrade};

/// What Genesys gives its signatures.
const GENESYS_LIFE: u64 = 30;
const SHORTEST_NONCE: usize = 22;

/// What a caller proves by that it may call, by the kind of [`Auth`] that asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Proof {
    /// Nothing.
    #[default]
    None,
    /// A bearer token.
    Bearer {
        /// The token.
        token: Secret,
        /// Sent as the subprotocol `Bearer-<token>`, as browsers have to, and not in `Authorization`.
        by_subprotocol: bool,
    },
    /// `Authorization: Basic`.
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: Secret,
    },
    /// A header field.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: Secret,
    },
    /// A query parameter.
    Query {
        /// Its name.
        name: String,
        /// Its value.
        value: Secret,
    },
    /// One more segment of the path.
    Path {
        /// The segment.
        token: Secret,
    },
    /// `X-Twilio-Signature`.
    TwilioSignature {
        /// The auth token, or the shared key.
        key: Secret,
        /// Name of the shared key, if it is one.
        shared_key: Option<String>,
    },
    /// `X-Plivo-Signature-V3` with its nonce.
    PlivoSignature {
        /// What the header fields begin with.
        prefix: String,
        /// The auth token.
        token: Secret,
    },
    /// A signed token as bearer token.
    Jwt(Issuer),
    /// `Signature-Input`, `Signature` and `X-API-KEY` of Genesys.
    GenesysSignature {
        /// The API key.
        api_key: Secret,
        /// The client secret, base64.
        secret: Secret,
    },
    /// `x-zm-signature` over what is posted.
    ZoomSignature {
        /// The secret token.
        secret: Secret,
    },
}

/// When and for what a request is signed.
#[derive(Debug, Clone, Copy)]
pub struct Occasion<'a> {
    /// When it is made.
    pub now: UnixSeconds,
    /// At least 22 letters, digits or the like, never the same again.
    pub nonce: &'a str,
    /// Host and port that are dialled, as the `Host` field will have them.
    pub host: &'a str,
    /// Whether that is by TLS.
    pub secure: bool,
    /// The URL that the provider was told to dial, if a proxy stands between it and `host`.
    pub public_url: Option<&'a str>,
    /// The body of a request that is posted; of a stream's there is none.
    pub body: &'a str,
}

/// Why a request cannot be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsigned {
    /// An empty secret signs nothing and opens nothing.
    #[error("the secret is empty")]
    Empty,
    /// The token would not be one segment.
    #[error("a token in the path may hold letters, digits, `-`, `.`, `_` and `~` only")]
    NoSegment,
    /// Genesys signs header fields that other providers do not send.
    #[error(
        "what is signed is missing: the `audiohook-...` header fields, which only Genesys sends"
    )]
    NothingToSign,
    /// Genesys' client secrets are base64.
    #[error("the client secret is not base64: write it as Genesys shows it")]
    NotBase64,
    /// What makes a signature differ from all others cannot do so.
    #[error("the nonce must have at least 22 letters or digits")]
    Nonce,
}

/// Why nobody can sign as a listener wants it signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoProof {
    /// It opens for nobody.
    #[error("the listener has no secret of its kind")]
    NoSecret,
    /// It knows only the public halves of the keys, as it should.
    #[error(
        "the listener has only the issuer's public keys: a private key is needed, and its public half in the listener's `jwks`"
    )]
    NoPrivateKey,
    /// What is signed is the question what to do with a call, and no call.
    #[error("this signs what asks for an answer document, and calls are placed without asking")]
    Asked,
}

impl Proof {
    /// Adds itself to the request, which is otherwise as the provider makes it.
    ///
    /// # Errors
    /// If what it is made of cannot be signed with, or the request cannot be signed so.
    pub fn sign(&self, request: &mut OutgoingUpgrade, at: &Occasion<'_>) -> Result<(), Unsigned> {
        match self {
            Self::None => {}
            Self::Bearer { token, by_subprotocol: true } => {
                request.subprotocols.push(format!("Bearer-{}", given(token)?));
            }
            Self::Bearer { token, .. } => authorize(request, "Bearer", given(token)?),
            Self::Basic { user, password } => {
                let pair = format!("{user}:{}", given(password)?);
                authorize(request, "Basic", &base64_simd::STANDARD.encode_to_string(pair));
            }
            Self::Header { name, value } => add(request, name, given(value)?),
            Self::Query { name, value } => {
                let pair = (name.clone(), given(value)?.to_owned());
                request.target = with_query(&request.target, &[pair]);
            }
            Self::Path { token } => request.target = below(&request.target, given(token)?)?,
            Self::TwilioSignature { key, shared_key } => {
                given(key)?;
                let url = url_as_dialled(&request.target, at);
                match shared_key {
                    None => add(request, "X-Twilio-Signature", &twilio_signature(key, &url)),
                    Some(name) => {
                        let signature = twilio_signature_sha256(key, &url);
                        add(request, "X-Twilio-Signature", &signature);
                        let settings = format!("key={name},algorithm=HMAC_SHA256");
                        add(request, "X-Twilio-Webhooks-Signature-Settings", &settings);
                    }
                }
            }
            Self::PlivoSignature { prefix, token } => {
                given(token)?;
                let nonce = at.nonce()?;
                let url = with_url(&request.target, at, signed_url).unwrap_or_default();
                add(
                    request,
                    &format!("{prefix}-signature-v3"),
                    &plivo_signature(token, &url, nonce),
                );
                add(request, &format!("{prefix}-signature-v3-nonce"), nonce);
            }
            Self::Jwt(issuer) => {
                if let JwtKey::Shared(secret) = &issuer.key {
                    given(secret)?;
                }
                authorize(request, "Bearer", &issuer.token(at.now, at.nonce()?));
            }
            Self::GenesysSignature { api_key, secret } => {
                add(request, "X-API-KEY", given(api_key)?);
                genesys(request, secret, at)?;
            }
            Self::ZoomSignature { secret } => {
                given(secret)?;
                add(request, "x-zm-request-timestamp", &at.now.0.to_string());
                add(request, "x-zm-signature", &zoom_signature(secret, at.now.0, at.body));
            }
        }
        Ok(())
    }
}

impl Auth {
    /// A credential that opens, made with the first secret. `private` is for those who check with public keys only.
    ///
    /// # Errors
    /// If there is nothing to make one of.
    pub fn proof(&self, private: Option<&PrivateJwk>) -> Result<Proof, NoProof> {
        let first = |secrets: &[Secret]| secrets.first().cloned().ok_or(NoProof::NoSecret);
        Ok(match self {
            Self::None => Proof::None,
            Self::Bearer { tokens } => {
                Proof::Bearer { token: first(tokens)?, by_subprotocol: false }
            }
            Self::Basic { user, passwords } => {
                Proof::Basic { user: user.clone(), password: first(passwords)? }
            }
            Self::Header { name, values } => {
                Proof::Header { name: name.clone(), value: first(values)? }
            }
            Self::Query { name, values } => {
                Proof::Query { name: name.clone(), value: first(values)? }
            }
            Self::Path { tokens } => Proof::Path { token: first(tokens)? },
            Self::TwilioSignature { tokens, shared_keys } => {
                let by_token = first(tokens).map(|key| (None, key));
                let by_key =
                    || shared_keys.first().map(|(name, key)| (Some(name.clone()), key.clone()));
                let (shared_key, key) = by_token.or_else(|none| by_key().ok_or(none))?;
                Proof::TwilioSignature { key, shared_key }
            }
            Self::PlivoSignature { prefix, tokens, .. } => {
                Proof::PlivoSignature { prefix: prefix.clone(), token: first(tokens)? }
            }
            Self::Jwt(jwt) => Proof::Jwt(Issuer {
                maker: jwt.maker,
                key: match (&jwt.keys, private) {
                    (JwtKeys::Shared(secrets), _) => JwtKey::Shared(first(secrets)?),
                    (JwtKeys::Public(_), Some(key)) => JwtKey::Private(key.clone()),
                    (JwtKeys::Public(_), None) => return Err(NoProof::NoPrivateKey),
                },
                issuer: jwt.issuer.clone(),
                audience: jwt.audience.clone(),
                claims: jwt.claims.clone(),
            }),
            Self::ZoomSignature { secrets } => Proof::ZoomSignature { secret: first(secrets)? },
            Self::GenesysSignature { api_key, secrets } => {
                Proof::GenesysSignature { api_key: api_key.clone(), secret: first(secrets)? }
            }
        })
    }
}

impl<'a> Occasion<'a> {
    fn nonce(&self) -> Result<&'a str, Unsigned> {
        if self.nonce.len() >= SHORTEST_NONCE && is_unreserved(self.nonce) {
            Ok(self.nonce)
        } else {
            Err(Unsigned::Nonce)
        }
    }
}

/// Whether it stands in a URL as it is (RFC 3986, 2.3).
fn is_unreserved(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "-._~".contains(c))
}

fn given(secret: &Secret) -> Result<&str, Unsigned> {
    secret.key().map(|_| secret.expose()).ok_or(Unsigned::Empty)
}

fn add(request: &mut OutgoingUpgrade, name: &str, value: &str) {
    request.headers.push((name.to_owned(), value.to_owned()));
}

fn authorize(request: &mut OutgoingUpgrade, scheme: &str, credentials: &str) {
    add(request, "Authorization", &format!("{scheme} {credentials}"));
}

/// `target` with one more segment of its path.
fn below(target: &str, segment: &str) -> Result<String, Unsigned> {
    // What would be percent-encoded would not be compared as it is.
    if !is_unreserved(segment) {
        return Err(Unsigned::NoSegment);
    }
    let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    Ok(format!("{}/{segment}{query}", path.trim_end_matches('/')))
}

/// What `look` makes of the request as far as its URL goes.
fn with_url<T>(target: &str, at: &Occasion<'_>, look: impl FnOnce(&Upgrade<'_>) -> T) -> T {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let here = format!("{}://{}{path}", if at.secure { "wss" } else { "ws" }, at.host);
    look(&Upgrade { target, public_url: Some(at.public_url.unwrap_or(&here)), headers: &[] })
}

/// The URL with its query as it stands, which is what Twilio signs.
fn url_as_dialled(target: &str, at: &Occasion<'_>) -> String {
    with_url(target, at, |upgrade| upgrade.dialled_url()).unwrap_or_default()
}

fn genesys(
    request: &mut OutgoingUpgrade,
    secret: &Secret,
    at: &Occasion<'_>,
) -> Result<(), Unsigned> {
    given(secret)?;
    super::base64_of(secret.expose()).ok_or(Unsigned::NotBase64)?;
    let lower = |(name, value): &(String, String)| (name.to_ascii_lowercase(), value.clone());
    let fields: Vec<_> = request.headers.iter().map(lower).collect();
    let mut headers: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    headers.push(("host", at.host));
    let upgrade = Upgrade { target: &request.target, public_url: at.public_url, headers: &headers };
    let expires = UnixSeconds(at.now.0.saturating_add(GENESYS_LIFE));
    let signing = Signing { secret, nonce: at.nonce()?, created: at.now, expires };
    let signed = genesys_signature(&upgrade, &signing).ok_or(Unsigned::NothingToSign)?;
    let [input, signature] = signed;
    add(request, "Signature-Input", &input);
    add(request, "Signature", &signature);
    Ok(())
}
