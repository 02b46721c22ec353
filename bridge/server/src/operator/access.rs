//! Who asks on the operator's side, and what they may: tokens, their scopes, and whose calls they are for. Answers nothing itself.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use ipnet::IpNet;
use ringback_proto::provider::Secret;
use serde::Deserialize;
use tokio::sync::watch;

use super::attempts::Attempts;
use crate::clock::Clock;
use crate::listener::{Pages, Sources, is_near, text_headers};

/// How a subprotocol begins that is a token: what a web page can send with a WebSocket.
const SUBPROTOCOL: &str = "Bearer-";
/// The name of whoever needs no token.
const NOBODY: &str = "anonymous";

/// What a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Figures, the list of calls, workers.
    Read,
    /// What is said on calls.
    Listen,
    /// Ends calls, and drains the bridge.
    Control,
    /// Endpoints, the audit log, another configuration.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Listen, Self::Control, Self::Admin];

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Listen => "listen",
            Self::Control => "control",
            Self::Admin => "admin",
        }
    }
}

/// Several scopes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// Whether this one is among them.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | 1 << scope as u8))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = Scope::ALL.into_iter().filter(|scope| self.contains(*scope));
        f.debug_set().entries(all.map(Scope::name)).finish()
    }
}

/// A token of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Name, which is written down wherever it is used.
    pub name: String,
    /// Any of them opens, so that one can be replaced.
    pub secrets: Vec<Secret>,
    /// What it opens.
    pub scopes: Scopes,
    /// Whose calls it is for; `None` is for all.
    pub tenant: Option<Arc<str>>,
}

/// The tokens that hold now. Clones share them.
#[derive(Debug, Clone)]
pub struct Tokens(watch::Sender<Arc<[Token]>>);

impl Tokens {
    /// These.
    #[must_use]
    pub fn new(tokens: &[Token]) -> Self {
        Self(watch::Sender::new(tokens.into()))
    }

    /// From now on these: whoever listens by one that is not among them is cut off.
    pub fn replace(&self, tokens: &[Token]) {
        self.0.send_replace(tokens.into());
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Principal {
    /// Name of the token.
    pub(super) name: String,
    pub(super) scopes: Scopes,
    /// Whose calls are to be seen; `None` is all.
    pub(super) tenant: Option<Arc<str>>,
    /// From where, if that is an address.
    pub(super) address: Option<IpAddr>,
    /// What to answer an upgrade with whose token came as a subprotocol.
    pub(super) subprotocol: Option<Secret>,
    /// The token as it is configured; none if none is needed.
    token: Option<Token>,
    /// What it was shown.
    secret: Option<Secret>,
}

/// Why nothing is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// No token.
    Missing,
    /// A token that is none of ours.
    Wrong,
    /// Too many wrong ones came from there: asked again before this, the answer is the same.
    Locked(Duration),
    /// Without tokens only this machine is told anything, and this came from elsewhere or by another name.
    Far,
}

/// Decides who asks.
pub(super) struct Access {
    clock: Clock,
    tokens: Tokens,
    /// What may be seen where there are no tokens.
    pages: Pages,
    /// Whose word about an address is believed.
    sources: Sources,
    attempts: Mutex<Attempts>,
}

impl Access {
    pub(super) fn new(clock: Clock, tokens: Tokens, pages: Pages, proxies: Vec<IpNet>) -> Self {
        let sources = Sources { allow: None, trusted_proxies: proxies };
        Self { clock, tokens, pages, sources, attempts: Mutex::default() }
    }

    /// Who asks this. A wrong token is counted against the address that it came from.
    pub(super) fn who(&self, parts: &Parts, peer: SocketAddr) -> Result<Principal, Denied> {
        let address = self.address(parts, peer);
        let tokens = Arc::clone(&self.tokens.0.borrow());
        if tokens.is_empty() {
            return self.nobody(parts, peer, address);
        }
        let now = self.clock.now();
        let counted = guessers(parts, address.unwrap_or(peer.ip()));
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the token is looked at: a right one among many guesses is a guess.
        if let Some(left) = attempts.locked(counted, now) {
            return Err(Denied::Locked(left));
        }
        let Some((given, subprotocol)) = bearer(&parts.headers) else {
            return Err(Denied::Missing);
        };
        match matching(&tokens, &given) {
            Some(token) => Ok(Principal {
                name: token.name.clone(),
                scopes: token.scopes,
                tenant: token.tenant.clone(),
                address,
                subprotocol,
                token: Some(token.clone()),
                secret: Some(given),
            }),
            None => {
                attempts.wrong(counted, now);
                Err(Denied::Wrong)
            }
        }
    }

    /// From where somebody asks, through the proxies that are believed.
    pub(super) fn address(&self, parts: &Parts, peer: SocketAddr) -> Option<IpAddr> {
        let headers = text_headers(parts).ok();
        let client = headers.and_then(|headers| self.sources.client(peer, &headers));
        Some(client.unwrap_or_else(|| peer.ip().to_canonical()))
    }

    /// Without tokens those on this machine see what they may see without this listener, and change nothing.
    fn nobody(
        &self,
        parts: &Parts,
        peer: SocketAddr,
        address: Option<IpAddr>,
    ) -> Result<Principal, Denied> {
        if !peer.ip().to_canonical().is_loopback() || !is_near(parts) {
            return Err(Denied::Far);
        }
        let may = [(Scope::Read, self.pages.metrics), (Scope::Listen, self.pages.events)];
        let may = may.into_iter().filter(|(_, access)| access.allows(peer));
        Ok(Principal {
            name: NOBODY.into(),
            scopes: may.map(|(scope, _)| scope).collect(),
            tenant: None,
            address,
            subprotocol: None,
            token: None,
            secret: None,
        })
    }

    /// Waits until what `who` came with opens no longer what it did.
    pub(super) fn revoked(&self, who: &Principal) -> impl Future<Output = ()> + Send + 'static {
        let (mut tokens, who) = (self.tokens.0.subscribe(), who.clone());
        async move {
            loop {
                let still = match (&who.token, &who.secret) {
                    (Some(token), Some(secret)) => {
                        let now = tokens.borrow_and_update();
                        matching(&now, secret).is_some_and(|found| {
                            (found.scopes, &found.tenant) == (token.scopes, &token.tenant)
                        })
                    }
                    _ => tokens.borrow_and_update().is_empty(),
                };
                // Without whoever replaces them, they stay as they are.
                if !still || tokens.changed().await.is_err() {
                    break;
                }
            }
        }
    }
}

/// Whom a wrong token is counted against. A page whose name was made to resolve to this machine (DNS rebinding) asks from its address, by
/// that name: all such are counted as one, and lock out none who call this machine what it is.
fn guessers(parts: &Parts, address: IpAddr) -> IpAddr {
    let is_near = !address.to_canonical().is_loopback() || is_near(parts);
    if is_near { address } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// The token that has this secret. All are compared, each in constant time, whichever it is.
fn matching<'t>(tokens: &'t [Token], given: &Secret) -> Option<&'t Token> {
    let mut found = None;
    for token in tokens {
        for secret in &token.secrets {
            if secret == given {
                found = Some(token);
            }
        }
    }
    found.filter(|_| !given.expose().is_empty())
}

/// The token of a request, and the subprotocol that it came as, if it did.
fn bearer(headers: &HeaderMap) -> Option<(Secret, Option<Secret>)> {
    if headers.contains_key(header::AUTHORIZATION) {
        let mut fields = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else { return None };
        let (scheme, token) = field.to_str().ok()?.trim().split_once(' ')?;
        let is_bearer = scheme.eq_ignore_ascii_case("bearer");
        return is_bearer.then(|| (Secret::from(token.trim()), None));
    }
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut offered = offered.filter_map(|field| field.to_str().ok()).flat_map(|f| f.split(','));
    let name = offered.find(|name| name.trim().starts_with(SUBPROTOCOL))?.trim();
    Some((Secret::from(&name[SUBPROTOCOL.len()..]), Some(Secret::from(name))))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;
    use crate::listener::Access as PageAccess;

    const ALICE: &str = "alice-0123456789abcdef";
    const BOB: &str = "bob-0123456789abcdef";

    fn token(name: &str, secret: &str, scopes: &[Scope]) -> Token {
        let scopes = scopes.iter().copied().collect();
        Token { name: name.into(), secrets: vec![secret.into()], scopes, tenant: None }
    }

    fn access(tokens: &[Token]) -> Access {
        let proxies = vec!["10.0.0.0/8".parse().unwrap()];
        Access::new(Clock::start(), Tokens::new(tokens), Pages::default(), proxies)
    }

    #[tokio::test]
    async fn an_empty_token_is_nobodys() {
        let access = access(&[token("alice", "", &[Scope::Read])]);
        for fields in [("authorization", "Bearer "), ("sec-websocket-protocol", "Bearer-")] {
            assert!(asked(&access, "192.0.2.1", &[fields]).is_err(), "{fields:?}");
        }
    }

    fn asked(access: &Access, from: &str, fields: &[(&str, &str)]) -> Result<Principal, Denied> {
        let mut request = Request::get("/v1/calls");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        access.who(&parts, SocketAddr::new(from.parse().unwrap(), 4711))
    }

    #[test]
    fn a_token_says_who_asks_and_all_that_is_wrong_looks_alike() {
        let tokens = [token("alice", ALICE, &[Scope::Read]), token("bob", BOB, &[Scope::Admin])];
        let access = access(&tokens);
        let bearer = format!("Bearer {BOB}");
        let who = asked(&access, "192.0.2.1", &[("authorization", &bearer)]).unwrap();
        assert_eq!((who.name.as_str(), who.scopes.contains(Scope::Admin)), ("bob", true));
        assert!(!who.scopes.contains(Scope::Read) && who.subprotocol.is_none());
        let offered = format!("ringback, Bearer-{ALICE}");
        let who = asked(&access, "::1", &[("sec-websocket-protocol", &offered)]).unwrap();
        assert_eq!(who.name, "alice");
        assert_eq!(who.subprotocol, Some(Secret::from(format!("Bearer-{ALICE}"))));
        let (longer, basic) = (format!("{bearer}x"), format!("Basic {BOB}"));
        for (fields, denied) in [
            (&[][..], Denied::Missing),
            (&[("authorization", "Bearer wrong")], Denied::Wrong),
            (&[("authorization", "Bearer  ")], Denied::Missing),
            (&[("authorization", longer.as_str())], Denied::Wrong),
            (&[("authorization", basic.as_str())], Denied::Missing),
            (&[("authorization", &bearer), ("authorization", &bearer)], Denied::Missing),
            (&[("sec-websocket-protocol", "Bearer-")], Denied::Wrong),
        ] {
            assert_eq!(asked(&access, "192.0.2.2", fields).unwrap_err(), denied, "{fields:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_sixth_try_of_a_minute_is_not_looked_at_even_if_it_is_right() {
        let access = access(&[token("alice", ALICE, &[Scope::Read])]);
        let right = format!("Bearer {ALICE}");
        let try_one = |from: &str, token: &str, proxied: Option<&str>| {
            let mut fields = vec![("authorization", token)];
            fields.extend(proxied.map(|of| ("x-forwarded-for", of)));
            asked(&access, from, &fields).map(|who| who.name)
        };
        for _ in 0..5 {
            assert_eq!(try_one("192.0.2.1", "Bearer guess", None), Err(Denied::Wrong));
            // A request without a token guesses nothing.
            assert_eq!(asked(&access, "192.0.2.9", &[]).unwrap_err(), Denied::Missing);
        }
        let locked = try_one("192.0.2.1", &right, None);
        assert!(matches!(locked, Err(Denied::Locked(_))), "{locked:?}");
        assert_eq!(try_one("192.0.2.9", &right, None).as_deref(), Ok("alice"));
        // Seen through a proxy of ours it is that address, and through a stranger's it is the stranger.
        let locked = try_one("10.0.0.1", &right, Some("192.0.2.1"));
        assert!(matches!(locked, Err(Denied::Locked(_))), "{locked:?}");
        assert_eq!(try_one("192.0.2.7", &right, Some("192.0.2.1")).as_deref(), Ok("alice"));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(try_one("192.0.2.1", &right, None).as_deref(), Ok("alice"));
    }

    #[test]
    fn without_tokens_this_machine_alone_sees_what_its_pages_say() {
        let access = access(&[]);
        let who = asked(&access, "127.0.0.1", &[("host", "localhost:9080")]).unwrap();
        let may: Vec<_> = Scope::ALL.into_iter().filter(|s| who.scopes.contains(*s)).collect();
        assert_eq!(may, [Scope::Read, Scope::Listen]);
        for (from, fields) in [
            ("192.0.2.1", &[("host", "localhost")][..]),
            ("127.0.0.1", &[("host", "evil.example")]),
            ("127.0.0.1", &[("host", "localhost"), ("x-forwarded-for", "192.0.2.1")]),
        ] {
            assert_eq!(asked(&access, from, fields).unwrap_err(), Denied::Far, "{from}");
        }
        let off = Pages { metrics: PageAccess::Off, events: PageAccess::Loopback };
        let access = Access::new(Clock::start(), Tokens::new(&[]), off, Vec::new());
        let who = asked(&access, "127.0.0.1", &[]).unwrap();
        assert!(!who.scopes.contains(Scope::Read) && who.scopes.contains(Scope::Listen));
    }

    #[tokio::test]
    async fn who_listens_is_cut_off_with_the_token() {
        let (alice, bob) = (token("alice", ALICE, &[Scope::Listen]), token("bob", BOB, &[]));
        let access = access(&[alice.clone(), bob.clone()]);
        let bearer = format!("Bearer {ALICE}");
        let who = asked(&access, "::1", &[("authorization", &bearer)]).unwrap();
        let mut revoked = std::pin::pin!(access.revoked(&who));
        let mut is_revoked = async || {
            tokio::select! {
                biased;
                () = &mut revoked => true,
                () = tokio::task::yield_now() => false,
            }
        };
        assert!(!is_revoked().await);
        access.tokens.replace(std::slice::from_ref(&alice));
        assert!(!is_revoked().await, "another one is gone");
        access.tokens.replace(&[Token { scopes: Scopes::default(), ..alice }, bob]);
        assert!(is_revoked().await, "it opens this no longer");
    }
}
