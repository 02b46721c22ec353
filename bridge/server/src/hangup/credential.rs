//! What opens a provider's API: a fixed value, a token fetched and kept until it expires, or one signed by us. Asks for no call's end.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use ringback_proto::Instant;
use ringback_proto::provider::Secret;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::BOUNDS;
use crate::clock::{Clock, WallTime};
use crate::destination::nonce;
use crate::outgoing::http::{self, Ask, Url};
use crate::outgoing::{Connector, RsaKey};

/// A token that we sign lives for so long; it is used at once.
const SIGNED_FOR: u64 = 300;
/// A fetched token is not used for its last moments: it could expire under way.
const SPARE: Duration = Duration::from_secs(30);
/// How long a fetched token is used that does not tell its life (RFC 6749, 5.1, recommends that it does).
const USUAL: Duration = Duration::from_secs(300);

/// What was configured.
#[derive(Debug, Clone)]
pub enum HangupCredential {
    /// The whole value of the `Authorization` field.
    Fixed(Secret),
    /// Fetched from `url` by a client whose name and password make this `Authorization` field.
    Client {
        /// Where tokens are given.
        url: Url,
        /// What opens there.
        basic: Secret,
    },
    /// Signed for an application.
    Application {
        /// Its id.
        id: String,
        /// Its private key.
        key: Arc<RsaKey>,
    },
}

/// What opens, and what was fetched.
#[derive(Debug)]
pub struct Credential {
    configured: HangupCredential,
    clock: Clock,
    /// Held while one is fetched: others wait for that one.
    fetched: Mutex<Option<(Secret, Instant)>>,
}

impl HangupCredential {
    /// HTTP basic authentication (RFC 7617).
    #[must_use]
    pub fn basic(user: &str, password: &Secret) -> Secret {
        let pair = format!("{user}:{}", password.expose());
        let pair = base64_simd::STANDARD.encode_to_string(pair.as_bytes());
        Secret::from(format!("Basic {pair}").as_str())
    }
}

impl Credential {
    pub(super) fn new(configured: HangupCredential, clock: Clock) -> Self {
        Self { configured, clock, fetched: Mutex::default() }
    }

    /// Value of the `Authorization` field.
    pub(super) async fn authorization(&self, connector: &Connector) -> Result<Secret, String> {
        match &self.configured {
            HangupCredential::Fixed(value) => Ok(value.clone()),
            HangupCredential::Application { id, key } => signed(id, key),
            HangupCredential::Client { url, basic } => {
                let mut fetched = self.fetched.lock().await;
                match &*fetched {
                    Some((value, until)) if self.clock.now() < *until => Ok(value.clone()),
                    _ => {
                        let (value, life) = fetch(connector, url, basic).await?;
                        let until = self.clock.now() + life.saturating_sub(SPARE);
                        *fetched = Some((value.clone(), until));
                        Ok(value)
                    }
                }
            }
        }
    }

    /// The API refused it: forgets what can be had anew, and says whether anything can.
    pub(super) async fn renew(&self) -> bool {
        self.fetched.lock().await.take().is_some()
    }
}

async fn fetch(
    connector: &Connector,
    url: &Url,
    basic: &Secret,
) -> Result<(Secret, Duration), String> {
    #[derive(Deserialize)]
    struct Token {
        access_token: String,
        expires_in: Option<u64>,
    }
    let ask = Ask {
        method: Method::POST,
        url,
        authorization: Some(basic),
        headers: &[],
        body: Some((
            "application/x-www-form-urlencoded",
            "grant_type=client_credentials".to_owned(),
        )),
    };
    let answer = http::ask(connector, &ask, BOUNDS).await;
    let answer = answer.map_err(|error| format!("no token from {url}: {error}"))?;
    if answer.status != 200 {
        return Err(format!("no token from {url}: status {}", answer.status));
    }
    // Neither the text nor the parser's error is told: either may hold the token.
    let token: Token = serde_json::from_slice(&answer.body)
        .map_err(|_| format!("no token from {url}: the answer holds none"))?;
    let life = token.expires_in.map_or(USUAL, Duration::from_secs);
    Ok((Secret::from(format!("Bearer {}", token.access_token).as_str()), life))
}

/// A token for an application, as Vonage takes it (RFC 7519, RS256).
fn signed(application: &str, key: &RsaKey) -> Result<Secret, String> {
    let now = WallTime::now().unix_seconds().0;
    let claims = serde_json::json!({
        "application_id": application,
        "iat": now,
        "exp": now + SIGNED_FOR,
        "jti": nonce()?,
    });
    let part = |text: &str| base64_simd::URL_SAFE_NO_PAD.encode_to_string(text.as_bytes());
    let text = format!("{}.{}", part(r#"{"alg":"RS256","typ":"JWT"}"#), part(&claims.to_string()));
    let signature = key.sign(text.as_bytes()).ok_or("the private key signs nothing")?;
    let signature = base64_simd::URL_SAFE_NO_PAD.encode_to_string(&signature);
    Ok(Secret::from(format!("Bearer {text}.{signature}").as_str()))
}
