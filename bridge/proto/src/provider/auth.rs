//! Whether an upgrade may come in: credentials compared in constant time, as pure functions. Keeps no state and reads no
//! configuration; the listener checks before it asks the provider to accept.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use subtle::{Choice, ConstantTimeEq};

use super::{Rejection, Upgrade};

/// A credential. Prints as `[redacted]`; [`Secret::expose`] is the only way to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The credential itself; never for a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// An empty secret matches nothing: it is a mistake in a configuration, not an open door.
    fn matches(&self, offered: &str) -> Choice {
        self.0.as_bytes().ct_eq(offered.as_bytes()) & !Choice::from(u8::from(self.0.is_empty()))
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self(secret)
    }
}

impl From<&str> for Secret {
    fn from(secret: &str) -> Self {
        Self(secret.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What a listener demands of those who dial it. Where several secrets are given any of them opens, so that one can be rotated
/// without losing calls; an empty list opens for nobody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Auth {
    /// Everybody is let in.
    #[default]
    None,
    /// `Authorization: Bearer <token>` (RFC 6750, 2.1).
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
    /// A header field with a fixed value.
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
    /// `X-Twilio-Signature`: HMAC-SHA1 over [`Upgrade::public_url`], keyed with the account's auth token.
    TwilioSignature {
        /// Auth tokens of the accounts that may call, old ones included while they are rotated.
        tokens: Vec<Secret>,
    },
}

impl Auth {
    /// Lets the upgrade in or says why not.
    pub fn check(&self, upgrade: &Upgrade<'_>) -> Result<(), Rejection> {
        match self {
            Self::None => Ok(()),
            Self::Bearer { tokens } => {
                let token = authorization(upgrade, "bearer")?;
                any(tokens, token, "the bearer token is not one of this listener's")
            }
            Self::Basic { user, passwords } => basic(upgrade, user, passwords),
            Self::Header { name, values } => {
                let value = upgrade
                    .header(name)
                    .ok_or_else(|| refuse("the header field with the credential is missing"))?;
                any(values, value, "the credential in the header field is wrong")
            }
            Self::Query { name, values } => {
                let value = upgrade
                    .query(name)
                    .ok_or_else(|| refuse("the query parameter with the credential is missing"))?;
                any(values, &value, "the credential in the query is wrong")
            }
            Self::Path { tokens } => {
                let path = upgrade.path().trim_end_matches('/');
                let segment = path.rsplit('/').next().unwrap_or_default();
                any(tokens, segment, "the last segment of the path is not this listener's token")
            }
            Self::TwilioSignature { tokens } => twilio(upgrade, tokens),
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

const fn refuse(reason: &'static str) -> Rejection {
    Rejection::Unauthorized { reason }
}

/// Compares with every secret, also after a match: how long it takes tells nothing but how many there are.
fn any(secrets: &[Secret], offered: &str, otherwise: &'static str) -> Result<(), Rejection> {
    let matched = secrets.iter().fold(Choice::from(0), |hit, secret| hit | secret.matches(offered));
    if bool::from(matched) { Ok(()) } else { Err(refuse(otherwise)) }
}

/// The credentials of an `Authorization` field of this scheme (RFC 9110, 11.6.2; schemes have no case).
fn authorization<'a>(upgrade: &'a Upgrade<'_>, scheme: &str) -> Result<&'a str, Rejection> {
    let field = upgrade
        .header("authorization")
        .ok_or_else(|| refuse("the Authorization header field is missing"))?;
    match field.trim().split_once(' ') {
        Some((found, credentials)) if found.eq_ignore_ascii_case(scheme) => Ok(credentials.trim()),
        _ => Err(refuse("the Authorization header field is of another scheme")),
    }
}

fn basic(upgrade: &Upgrade<'_>, user: &str, passwords: &[Secret]) -> Result<(), Rejection> {
    const WRONG: &str = "user or password is wrong";
    let credentials = authorization(upgrade, "basic")?;
    let mut decoded = Vec::new();
    super::base64::decode(credentials, &mut decoded)
        .map_err(|_| refuse("the Basic credentials are not base64"))?;
    let decoded =
        String::from_utf8(decoded).map_err(|_| refuse("the Basic credentials are not UTF-8"))?;
    let (offered, password) =
        decoded.split_once(':').ok_or_else(|| refuse("the Basic credentials lack a colon"))?;
    let right_user = bool::from(user.as_bytes().ct_eq(offered.as_bytes()));
    // The password is compared in any case, so that a wrong user takes as long as a wrong password.
    let right_password = any(passwords, password, WRONG);
    if right_user { right_password } else { Err(refuse(WRONG)) }
}

fn twilio(upgrade: &Upgrade<'_>, tokens: &[Secret]) -> Result<(), Rejection> {
    let url = upgrade.public_url.ok_or_else(|| {
        refuse("this listener has no public URL, and the signature is computed over it; set one")
    })?;
    let signature = upgrade
        .header("x-twilio-signature")
        .ok_or_else(|| refuse("the X-Twilio-Signature header field is missing"))?;
    let mut offered = Vec::new();
    super::base64::decode(signature, &mut offered)
        .map_err(|_| refuse("the X-Twilio-Signature header field is not base64"))?;
    let query = upgrade.target.split_once('?').map_or("", |(_, query)| query);
    let mut matched = Choice::from(0);
    for signed in signed_texts(url, query, upgrade) {
        for token in tokens.iter().filter(|token| !token.0.is_empty()) {
            matched |= hmac_sha1(token, &signed).as_slice().ct_eq(&offered);
        }
    }
    if bool::from(matched) {
        Ok(())
    } else {
        Err(refuse(
            "X-Twilio-Signature does not match: wrong auth token, or the public URL is not exactly what Twilio dials",
        ))
    }
}

/// What Twilio may have signed: the URL, with and without a slash at its end, and, where the request has a query, the URL with
/// the query as it stands or with its parameters sorted and joined (Twilio's own libraries differ in this).
fn signed_texts(url: &str, query: &str, upgrade: &Upgrade<'_>) -> Vec<String> {
    let bare = url.split_once('?').map_or(url, |(bare, _)| bare);
    let slashed = bare.strip_suffix('/').map_or_else(|| format!("{bare}/"), str::to_owned);
    let mut texts = vec![url.to_owned(), slashed];
    if !query.is_empty() {
        let mut pairs: Vec<_> = upgrade.query_pairs().collect();
        pairs.sort();
        let joined: String = pairs.into_iter().flat_map(|(key, value)| [key, value]).collect();
        texts.push(format!("{bare}?{query}"));
        texts.push(format!("{bare}{joined}"));
    }
    texts
}

fn hmac_sha1(key: &Secret, text: &str) -> [u8; 20] {
    let mut mac = Hmac::<Sha1>::new_from_slice(key.0.as_bytes())
        .expect("HMAC takes keys of every length (RFC 2104, 2)");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

/// The value Twilio puts into `X-Twilio-Signature` for this URL; for whoever plays Twilio.
#[must_use]
pub fn twilio_signature(token: &Secret, url: &str) -> String {
    base64_simd::STANDARD.encode_to_string(hmac_sha1(token, url))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "12345678901234567890123456789012";

    fn check(auth: &Auth, target: &str, headers: &[(&str, &str)]) -> Result<(), Rejection> {
        let public_url = Some("wss://bridge.example.com/v1/twilio/media");
        auth.check(&Upgrade { target, public_url, headers })
    }

    fn twilio(url: Option<&str>, target: &str, signature: &str) -> bool {
        let auth = Auth::TwilioSignature { tokens: vec!["another".into(), TOKEN.into()] };
        let headers = [("x-twilio-signature", signature)];
        auth.check(&Upgrade { target, public_url: url, headers: &headers }).is_ok()
    }

    #[test]
    fn twilio_signatures_made_by_its_own_library_are_accepted() {
        let url = Some("wss://bridge.example.com/v1/twilio/media");
        assert!(twilio(url, "/v1/twilio/media", "Pc84qW53Xlr3C4rgoiDo5LJy/uU="));
        // The slash variant, both ways round.
        assert!(twilio(url, "/v1/twilio/media/", "OI2mzQRMvgBVobfjpb4GStfKo04="));
        let slashed = Some("wss://bridge.example.com/v1/twilio/media/");
        assert!(twilio(slashed, "/v1/twilio/media", "Pc84qW53Xlr3C4rgoiDo5LJy/uU="));
        // Parameters sorted and joined, and left in place.
        let relay = Some("wss://bridge.example.com/cr");
        assert!(twilio(relay, "/cr?token=abc&foo=bar", "H30yT/YktPFGDx053V86ZikRR9M="));
        assert!(twilio(relay, "/cr?token=abc&foo=bar", "EYHtVpvQc6Yb8OwRf0fKYFwzHFo="));
    }

    #[test]
    fn twilio_signatures_of_anything_else_are_refused() {
        let url = Some("wss://bridge.example.com/v1/twilio/media");
        let refused = [
            (url, "/v1/twilio/media", "LifR/g+OmuS4vgiXaG6n7hmXVeg=", "https instead of wss"),
            (url, "/v1/twilio/media", "H30yT/YktPFGDx053V86ZikRR9M=", "another URL"),
            (url, "/v1/twilio/media", "Pc84qW53Xlr3C4rgoiDo5LJy/uQ=", "one bit off"),
            (url, "/v1/twilio/media", "Pc84qW53Xlr3C4rgoiDo5LJy", "cut"),
            (url, "/v1/twilio/media", "", "empty"),
            (url, "/v1/twilio/media", "!", "not base64"),
            (None, "/v1/twilio/media", "Pc84qW53Xlr3C4rgoiDo5LJy/uU=", "no URL configured"),
        ];
        for (url, target, signature, why) in refused {
            assert!(!twilio(url, target, signature), "{why}");
        }
        let other_token = Auth::TwilioSignature { tokens: vec!["another".into()] };
        let headers = [("x-twilio-signature", "Pc84qW53Xlr3C4rgoiDo5LJy/uU=")];
        assert!(check(&other_token, "/v1/twilio/media", &headers).is_err());
        let nobody = Auth::TwilioSignature { tokens: vec![] };
        assert!(check(&nobody, "/v1/twilio/media", &headers).is_err());
    }

    #[test]
    fn signature_made_here_is_the_one_twilio_makes() {
        let url = "wss://bridge.example.com/v1/twilio/media";
        assert_eq!(twilio_signature(&TOKEN.into(), url), "Pc84qW53Xlr3C4rgoiDo5LJy/uU=");
    }

    #[test]
    fn bearer_tokens_rotate_and_schemes_have_no_case() {
        let auth = Auth::Bearer { tokens: vec!["old".into(), "new".into()] };
        for value in ["Bearer old", "bearer new", "BEARER  new "] {
            assert_eq!(check(&auth, "/", &[("authorization", value)]), Ok(()), "{value}");
        }
        for value in ["Bearer ne", "Bearer newer", "Basic new", "new", "Bearer", ""] {
            assert!(check(&auth, "/", &[("authorization", value)]).is_err(), "{value}");
        }
        assert!(check(&auth, "/", &[]).is_err());
    }

    #[test]
    fn basic_credentials_are_user_colon_password() {
        // As Asterisk 23 sends it for media_user, media_pass.
        let auth = Auth::Basic { user: "media_user".into(), passwords: vec!["media_pass".into()] };
        let good = "Basic bWVkaWFfdXNlcjptZWRpYV9wYXNz";
        assert_eq!(check(&auth, "/", &[("authorization", good)]), Ok(()));
        let wrong = ["media_user:media_past", "media_usex:media_pass", "media_user", ":", ""];
        for text in wrong {
            let value = format!("Basic {}", base64_simd::STANDARD.encode_to_string(text));
            assert!(check(&auth, "/", &[("authorization", &value)]).is_err(), "{text}");
        }
        assert!(check(&auth, "/", &[("authorization", "Basic *")]).is_err());
        assert!(check(&auth, "/", &[("authorization", "Basic /w==")]).is_err(), "not UTF-8");
    }

    #[test]
    fn header_query_and_path_carry_static_credentials() {
        let header = Auth::Header { name: "x-api-key".into(), values: vec!["k".into()] };
        assert_eq!(check(&header, "/", &[("x-api-key", "k")]), Ok(()));
        assert!(check(&header, "/", &[("x-api-key", "K")]).is_err());
        assert!(check(&header, "/", &[("other", "k")]).is_err());

        let query = Auth::Query { name: "token".into(), values: vec!["a b+".into()] };
        assert_eq!(check(&query, "/raw?x=1&token=a+b%2B", &[]), Ok(()));
        assert!(check(&query, "/raw?token=a", &[]).is_err());
        assert!(check(&query, "/raw", &[]).is_err());

        let path = Auth::Path { tokens: vec!["s3".into()] };
        assert_eq!(check(&path, "/twilio/s3", &[]), Ok(()));
        assert_eq!(check(&path, "/twilio/s3/?x=1", &[]), Ok(()));
        let empty = Auth::Path { tokens: vec!["".into()] };
        assert!(check(&empty, "/", &[]).is_err());
        for target in ["/s3/twilio", "/twilio/s33", "/twilio?s3", "/"] {
            assert!(check(&path, target, &[]).is_err(), "{target}");
        }
        assert_eq!(check(&Auth::None, "/", &[]), Ok(()));
    }

    #[test]
    fn secrets_and_refusals_show_no_credential() {
        let auth = Auth::Bearer { tokens: vec!["hunter2".into()] };
        assert!(!format!("{auth:?}").contains("hunter2"));
        assert_eq!(Secret::from("hunter2").to_string(), "[redacted]");
        let refusal = check(&auth, "/", &[("authorization", "Bearer hunter3")]).unwrap_err();
        assert!(!refusal.to_string().contains("hunter"));
        assert_eq!((refusal.status(), refusal.public()), (401, "authentication failed"));
    }
}
