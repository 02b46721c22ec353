//! From which addresses streams may be opened, seen through the proxies that are trusted. Proves nobody's identity.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

use super::Refusal;

/// The field in which a proxy writes whom it passes on, each one behind the last.
const FORWARDED: &str = "x-forwarded-for";

/// Addresses from which streams may be opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sources {
    /// Networks of callers; `None` is everybody.
    pub allow: Option<Vec<IpNet>>,
    /// Networks of proxies of our own, whose word about whom they pass on is believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl Sources {
    /// Whether there are addresses at all that may not call.
    #[must_use]
    pub fn keeps_strangers_out(&self) -> bool {
        self.allow.as_ref().is_some_and(|nets| nets.iter().all(|net| net.prefix_len() > 0))
    }

    /// Whether addresses of this machine may call, by name.
    #[must_use]
    pub fn takes_this_machine(&self) -> bool {
        let own = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        own.into_iter().any(|own| self.allow.as_ref().is_some_and(|nets| contains(nets, own)))
    }

    /// Who a request is from, through the proxies that are trusted; `headers` by name in lower case. `None` if one of them passes on
    /// what is no address.
    #[must_use]
    pub fn client(&self, peer: SocketAddr, headers: &[(&str, &str)]) -> Option<IpAddr> {
        let passed_on: Vec<_> = headers
            .iter()
            .filter(|(name, _)| *name == FORWARDED)
            .flat_map(|(_, value)| value.split(','))
            .collect();
        client(peer.ip(), &passed_on, &self.trusted_proxies)
    }

    /// Refuses a request from elsewhere.
    pub(super) fn check(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(allowed) = &self.allow else { return Ok(()) };
        let client = passed_on(&self.trusted_proxies, peer, headers);
        if client.is_some_and(|client| contains(allowed, client)) {
            return Ok(());
        }
        let reason = match client {
            None => format!("a trusted proxy passes on what is no address (`{FORWARDED}`)"),
            Some(client)
                if client == peer.ip().to_canonical() && headers.contains_key(FORWARDED) =>
            {
                format!(
                    "{client} is not in `allow`; if it is a proxy of yours, list it in `trusted_proxies`"
                )
            }
            Some(client) => format!("{client} is not in `allow`"),
        };
        Err(Refusal { reason, ..Refusal::new(403, "this address may not open streams here") })
    }
}

/// Who a request is from, through the proxies that are `trusted`. `None` if one of them passes on what is no address.
pub(super) fn passed_on(
    trusted: &[IpNet],
    peer: SocketAddr,
    headers: &HeaderMap,
) -> Option<IpAddr> {
    let fields = headers.get_all(FORWARDED).iter();
    let fields: Vec<_> =
        fields.flat_map(|value| value.to_str().unwrap_or("?").split(',')).collect();
    client(peer.ip(), &fields, trusted)
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// Who a request is from: the peer, or, as long as that is a trusted proxy, whom it passes on. `passed_on` is in the order of the
/// field, so the last one was written by the peer, and what stands before the first stranger is the stranger's own word. `None` if
/// a trusted proxy passes on what is no address.
fn client(peer: IpAddr, passed_on: &[&str], trusted: &[IpNet]) -> Option<IpAddr> {
    let mut client = peer.to_canonical();
    for text in passed_on.iter().rev() {
        if !contains(trusted, client) {
            break;
        }
        client = address(text.trim())?;
    }
    Some(client)
}

/// An address, with or without a port, which some proxies write.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address: IpAddr = text.parse().ok().or_else(with_port).or_else(bracketed)?;
    Some(address.to_canonical())
}

/// A network such as `52.112.0.0/14`, or one address.
///
/// # Errors
/// What is wrong and what works.
pub fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| {
        format!("found {text:?}, expected a network such as \"52.112.0.0/14\" or \"2001:db8::/32\", or an address")
    })?;
    if network.trunc() == network {
        return Ok(network);
    }
    Err(format!("{text:?} has more bits than its prefix; did you mean \"{}\"?", network.trunc()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| network(text).unwrap()).collect()
    }

    #[test]
    fn networks_are_written_as_people_write_them() {
        for (text, meant) in [
            ("52.112.0.0/14", "52.112.0.0/14"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(network(text).unwrap().to_string(), meant);
        }
        for text in ["", "10.0.0.0/33", "10.0.0/8", "example.org", "10.0.0.0/", "/8", "10.0.0.0-1"]
        {
            assert!(network(text).unwrap_err().contains("expected a network"), "{text}");
        }
        let odd = network("10.1.0.0/8").unwrap_err();
        assert!(odd.ends_with("did you mean \"10.0.0.0/8\"?"), "{odd}");
    }

    #[test]
    fn the_client_is_the_rightmost_that_is_no_proxy_of_ours() {
        let trusted = networks(&["10.0.0.0/8", "127.0.0.1", "2001:db8:1::/48"]);
        let cases: [(&str, &[&str], Option<&str>); 14] = [
            ("192.0.2.7", &[], Some("192.0.2.7")),
            ("192.0.2.7", &["52.112.0.1"], Some("192.0.2.7")),
            ("10.0.0.1", &["52.112.0.1"], Some("52.112.0.1")),
            ("10.0.0.1", &["6.6.6.6", " 52.112.0.1 "], Some("52.112.0.1")),
            ("10.0.0.1", &["6.6.6.6", "52.112.0.1", "10.9.9.9"], Some("52.112.0.1")),
            ("10.0.0.1", &["nonsense", "52.112.0.1"], Some("52.112.0.1")),
            ("10.0.0.1", &["52.112.0.1", "nonsense"], None),
            ("10.0.0.1", &["52.112.0.1", ""], None),
            ("10.0.0.1", &["unknown"], None),
            ("10.0.0.1", &[], Some("10.0.0.1")),
            ("10.0.0.1", &["10.0.0.2", "10.0.0.3"], Some("10.0.0.2")),
            ("::ffff:10.0.0.1", &["52.112.0.1:4711"], Some("52.112.0.1")),
            ("2001:db8:1::7", &["[2001:db8:2::7]:443"], Some("2001:db8:2::7")),
            ("127.0.0.1", &["[::ffff:52.112.0.1]"], Some("52.112.0.1")),
        ];
        for (peer, passed_on, wanted) in cases {
            let found = client(peer.parse().unwrap(), passed_on, &trusted);
            assert_eq!(found, wanted.map(|text| text.parse().unwrap()), "{peer} {passed_on:?}");
        }
    }

    #[test]
    fn others_are_refused_and_only_the_log_hears_why() {
        let allow = Some(networks(&["52.112.0.0/14", "2001:db8::/32"]));
        let sources = Sources { allow, trusted_proxies: networks(&["10.0.0.0/8"]) };
        let check = |peer: &str, fields: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in fields {
                headers.append(FORWARDED, HeaderValue::from_static(value));
            }
            sources.check(SocketAddr::new(peer.parse().unwrap(), 4711), &headers)
        };
        for (peer, fields) in [
            ("52.115.255.255", &[][..]),
            ("::ffff:52.112.0.0", &[]),
            ("2001:db8::7", &[]),
            ("10.0.0.1", &["52.112.0.1"]),
            ("10.0.0.1", &["6.6.6.6", "52.112.0.1, 10.0.0.2"]),
        ] {
            assert_eq!(check(peer, fields), Ok(()), "{peer} {fields:?}");
        }
        for (peer, fields, reason) in [
            ("52.116.0.0", &[][..], "52.116.0.0 is not in `allow`"),
            ("2001:db9::7", &[], "2001:db9::7 is not in `allow`"),
            ("10.0.0.1", &[], "10.0.0.1 is not in `allow`"),
            ("10.0.0.1", &["6.6.6.6"], "6.6.6.6 is not in `allow`"),
            ("10.0.0.1", &["52.112.0.1, 6.6.6.6"], "6.6.6.6 is not in `allow`"),
            ("10.0.0.1", &["52.112.0.1", "x"], "a trusted proxy passes on what is no address"),
            ("192.0.2.7", &["52.112.0.1"], "192.0.2.7 is not in `allow`; if it is a proxy"),
        ] {
            let refusal = check(peer, fields).unwrap_err();
            assert_eq!(refusal.status, 403);
            assert_eq!(refusal.public, "this address may not open streams here");
            assert!(refusal.reason.starts_with(reason), "{}", refusal.reason);
        }
    }

    #[test]
    fn a_list_of_everybody_keeps_nobody_out() {
        let of = |texts: &[&str]| Sources { allow: Some(networks(texts)), ..Sources::default() };
        assert!(of(&["10.0.0.0/8"]).keeps_strangers_out());
        assert!(!of(&["10.0.0.0/8", "::/0"]).keeps_strangers_out());
        assert!(!Sources::default().keeps_strangers_out());
    }
}
