//! Where a call goes and what proves there that it may: signs requests with the time of now and a number nobody guesses. Opens no
//! connection and checks no credential.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ringback_proto::provider::auth::{NoProof, Occasion, PrivateJwk};
use ringback_proto::provider::{App, OutgoingUpgrade, Proof};

use crate::client::WsUrl;
use crate::clock::WallTime;
use crate::config::ListenerConfig;

/// A listener as a caller sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// What is dialled.
    pub url: WsUrl,
    /// What the listener wants to see.
    pub proof: Proof,
    /// The URL that a provider would have been told to dial, if that is another: signatures are computed over it.
    pub public_url: Option<String>,
    /// As whom the bridge must sign where it dials the caller.
    pub app: App,
}

impl From<&WsUrl> for Destination {
    /// Where no credential is asked for.
    fn from(url: &WsUrl) -> Self {
        url.clone().into()
    }
}

impl From<WsUrl> for Destination {
    fn from(url: WsUrl) -> Self {
        Self { url, proof: Proof::None, public_url: None, app: App::default() }
    }
}

impl Destination {
    /// A listener of a bridge on this machine, called with its own secrets, by TLS if it is `secure`. `private` is for those that hold
    /// only public keys.
    ///
    /// # Errors
    /// If its credential cannot be made from what it holds.
    pub fn of(
        listener: &ListenerConfig,
        bind: SocketAddr,
        secure: bool,
        private: Option<&PrivateJwk>,
    ) -> Result<Self, NoProof> {
        let near = match bind.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let authority = SocketAddr::new(near, bind.port()).to_string();
        Ok(Self {
            url: WsUrl { secure, authority, target: listener.endpoint.path.clone() },
            proof: listener.auth.proof(private)?,
            public_url: listener.endpoint.public_url.clone(),
            app: listener.options.app.clone(),
        })
    }

    /// Adds the credential to the request of one call.
    ///
    /// # Errors
    /// Why it cannot be signed.
    pub fn sign(&self, request: &mut OutgoingUpgrade) -> Result<(), String> {
        self.sign_posted(request, "")
    }

    /// [`Self::sign`] of a request that is posted, with this body.
    ///
    /// # Errors
    /// Why it cannot be signed.
    pub fn sign_posted(&self, request: &mut OutgoingUpgrade, body: &str) -> Result<(), String> {
        let occasion = Occasion {
            now: WallTime::now().unix_seconds(),
            nonce: &nonce()?,
            host: self.url.host(),
            secure: self.url.secure,
            public_url: self.public_url.as_deref(),
            body,
        };
        self.proof.sign(request, &occasion).map_err(|error| error.to_string())
    }

    /// What the one who called should look at when a call was refused with this status.
    #[must_use]
    pub const fn what_to_check(&self, status: u16) -> Option<&'static str> {
        Some(match (status, &self.proof) {
            (401, Proof::None) => {
                "the listener wants a credential: give it with --auth, or the bridge's configuration with --config"
            }
            (401, Proof::TwilioSignature { .. } | Proof::PlivoSignature { .. }) => {
                "check that the auth token is the listener's, and that the URL that is signed (--public-url) is its `public_url` to the letter"
            }
            (401, Proof::Jwt(_)) => {
                "check that the secret or key is the listener's, that issuer, audience and claims are those it wants, and that both clocks agree"
            }
            (401, Proof::GenesysSignature { .. }) => {
                "check that API key and client secret are the listener's, that the host of --public-url is that of its `public_url`, and that both clocks agree"
            }
            (401, Proof::ZoomSignature { .. }) => {
                "check that the secret is the app's secret token, which the listener's `auth` has, and that both clocks agree"
            }
            (401, _) => {
                "check that this is the listener's kind of credential, in the place where it looks, and its present secret"
            }
            (403, _) => {
                "check that the listener's `allow` has the address that the call comes from; one without `auth` takes calls to localhost or 127.0.0.1 alone"
            }
            (404, _) => "check the path: `ringback serve` prints those that it takes calls at",
            (503, _) => "the bridge is full or ends: try again later",
            _ => return None,
        })
    }
}

/// 32 hexadecimal digits, never the same again.
pub(crate) fn nonce() -> Result<String, String> {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets)
        .map_err(|error| format!("this system has no random numbers: {error}"))?;
    Ok(octets.iter().fold(String::new(), |mut text, octet| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{octet:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringback_proto::provider::Secret;

    #[test]
    fn every_request_is_signed_anew() {
        let url: WsUrl = "ws://127.0.0.1:8080/plivo".parse().expect("a URL");
        let proof = Proof::PlivoSignature { prefix: "x-plivo".into(), token: Secret::from("t") };
        let destination = Destination { proof, ..Destination::from(url) };
        let signed = || {
            let mut request =
                OutgoingUpgrade { target: "/plivo".into(), ..OutgoingUpgrade::default() };
            destination.sign(&mut request).expect("signed");
            request.headers
        };
        let (first, second) = (signed(), signed());
        assert_eq!(first.len(), 2);
        assert!(first[0].1 != second[0].1 && first[1].1 != second[1].1, "{first:?} {second:?}");
    }

    #[test]
    fn a_refusal_that_can_be_mended_says_what_to_look_at() {
        let none = Destination::from("ws://h/x".parse::<WsUrl>().expect("a URL"));
        let token = Secret::from("s3cret");
        let bearer = Proof::Bearer { token, by_subprotocol: false };
        let some = Destination { proof: bearer, ..none.clone() };
        for (status, word) in [(401, "--auth"), (403, "allow"), (404, "path"), (503, "later")] {
            assert!(none.what_to_check(status).expect("advice").contains(word), "{status}");
        }
        assert!(some.what_to_check(401).expect("advice").contains("kind of credential"));
        assert_eq!(none.what_to_check(400), None, "the bridge's own words say it");
    }
}
