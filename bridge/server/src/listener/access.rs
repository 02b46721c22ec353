//! Who may read the pages that are not for everybody: figures and events. Authenticates nobody; streams have their own rules.

use std::net::{IpAddr, SocketAddr};

use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, header};
use serde::Deserialize;

use super::Refusal;
use super::routes::{EVENTS_PATH, METRICS_PATH, WORKERS_PATH};

/// Who may read a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Nobody.
    Off,
    /// Peers on this machine.
    #[default]
    Loopback,
    /// Everybody who reaches the port.
    Any,
}

impl Access {
    /// Whether `peer` may read it.
    #[must_use]
    pub fn allows(self, peer: SocketAddr) -> bool {
        match self {
            Self::Off => false,
            Self::Loopback => peer.ip().to_canonical().is_loopback(),
            Self::Any => true,
        }
    }

    /// Whether a request of `peer` may be answered.
    fn shows(self, peer: SocketAddr, headers: &HeaderMap) -> bool {
        self.allows(peer) && (self == Self::Any || is_direct(headers))
    }
}

/// The pages that are not for everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pages {
    /// The figures at `/metrics`.
    pub metrics: Access,
    /// The live events of all calls at `/events`.
    pub events: Access,
}

impl Pages {
    /// Nobody reads any of them.
    pub(crate) const OFF: Self = Self { metrics: Access::Off, events: Access::Off };

    /// Whether a request for `path` may be answered; of paths that are no such pages, always.
    pub(super) fn may_see(&self, path: &str, peer: SocketAddr, headers: &HeaderMap) -> bool {
        match path {
            METRICS_PATH | WORKERS_PATH => self.metrics.shows(peer, headers),
            EVENTS_PATH => self.events.shows(peer, headers),
            _ => true,
        }
    }
}

/// Header fields by which a proxy says that it passes a request on.
const PASSED_ON: [&str; 5] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

/// Whether a proxy says of a request that it passes it on.
fn is_passed_on(headers: &[(&str, &str)]) -> bool {
    headers.iter().any(|(name, _)| PASSED_ON.iter().any(|of| name.eq_ignore_ascii_case(of)))
}

/// Whether a request from this machine was meant for this machine. Through a proxy or tunnel that runs here, strangers have a
/// local address, and so has a web page whose name was made to resolve to us (DNS rebinding); both are given away by their fields.
fn is_direct(headers: &HeaderMap) -> bool {
    let passed_on = PASSED_ON.iter().any(|name| headers.contains_key(*name));
    !passed_on && headers.get_all(header::HOST).iter().all(|host| names_us(host.as_bytes()))
}

/// Refuses an upgrade that was not, by the same signs; the peer is on this machine.
pub(crate) fn check_near(headers: &[(&str, &str)]) -> Result<(), Refusal> {
    let mut hosts = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host"));
    if !is_passed_on(headers) && hosts.all(|(_, host)| names_us(host.as_bytes())) {
        return Ok(());
    }
    let reason = "it came through a proxy or by another name than this machine's, and nobody is asked here who calls: set `auth`, or `insecure = true` if something in front checks";
    let public = "streams may be opened here from this machine alone";
    Err(Refusal { reason: reason.into(), ..Refusal::new(403, public) })
}

/// The same of a whole request, which may name its host in its target as well.
pub(crate) fn is_near(parts: &Parts) -> bool {
    let target = parts.uri.authority().map(|authority| authority.as_str());
    is_direct(&parts.headers) && target.is_none_or(|host| names_us(host.as_bytes()))
}

/// Whether a `Host` is this machine by its own name for itself.
fn names_us(host: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(host) else { return false };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match address {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn peers_are_near_or_far() {
        let cases = [
            ("127.0.0.1:1", true),
            ("127.8.9.10:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("192.0.2.7:1", false),
            ("10.0.0.1:1", false),
            ("[::ffff:192.0.2.7]:1", false),
            ("[2001:db8::1]:1", false),
        ];
        for (peer, near) in cases {
            let peer = peer.parse().unwrap();
            assert_eq!(Access::Loopback.allows(peer), near, "{peer}");
            assert!(Access::Any.allows(peer) && !Access::Off.allows(peer), "{peer}");
        }
    }

    fn may_see(access: Access, peer: &str, fields: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let peer = peer.parse().unwrap();
        let pages = Pages { metrics: Access::Off, events: access };
        assert!(!pages.may_see("/metrics", peer, &headers) && pages.may_see("/", peer, &headers));
        let both = Pages { metrics: access, ..pages };
        let seen =
            ["/events", "/metrics", "/workers"].map(|page| both.may_see(page, peer, &headers));
        assert!(seen == [seen[0]; 3], "{seen:?}");
        seen[0]
    }

    #[test]
    fn where_nobody_is_asked_who_calls_only_this_machine_does() {
        for fields in [&[][..], &[("host", "127.0.0.1:8080")], &[("host", "localhost")]] {
            assert_eq!(check_near(fields), Ok(()), "{fields:?}");
        }
        for fields in [
            &[("host", "abc.tunnel.example")][..],
            &[("host", "localhost"), ("x-forwarded-for", "192.0.2.7")],
            &[("host", "localhost"), ("forwarded", "for=192.0.2.7")],
            &[("host", "evil.example:8080"), ("origin", "http://evil.example:8080")],
        ] {
            let refusal = check_near(fields).unwrap_err();
            assert_eq!(refusal.status, 403, "{fields:?}");
            assert!(refusal.reason.contains("insecure = true"), "{}", refusal.reason);
        }
    }

    #[test]
    fn events_and_figures_are_told_to_this_machine_and_not_to_whom_it_passes_on() {
        let near = "127.0.0.1:4711";
        for host in ["127.0.0.1:8080", "[::1]:8080", "localhost", "LOCALHOST:1"] {
            assert!(may_see(Access::Loopback, near, &[("host", host)]), "{host}");
        }
        assert!(may_see(Access::Loopback, near, &[]), "HTTP/1.0 may name no host");
        for host in ["bridge.example", "192.0.2.7:8080", "localhost.example", "", "a b"] {
            assert!(!may_see(Access::Loopback, near, &[("host", host)]), "{host:?}");
        }
        for name in PASSED_ON {
            let fields = [("host", "localhost"), (name, "192.0.2.9")];
            assert!(!may_see(Access::Loopback, near, &fields), "{name}");
            assert!(may_see(Access::Any, near, &fields), "{name}");
        }
        let local = [("host", "localhost")];
        assert!(!may_see(Access::Loopback, "192.0.2.7:4711", &local));
        assert!(may_see(Access::Any, "192.0.2.7:4711", &local));
        assert!(!may_see(Access::Off, near, &local));
    }
}
