//! Whom a URL that came from outside may have us dial, and into which networks a name may lead. Dials nobody.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::client::WsUrl;
use crate::outgoing;

/// Servers that may be dialled; all others are not, whoever asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach(Vec<Host>);

/// A host and all whose names end with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// In lower case.
    name: String,
    /// Whether without TLS, too.
    plain: bool,
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, plain) = match text.split_once("://") {
            None => (text, false),
            Some(("wss", name)) => (name, false),
            Some(("ws", name)) => (name, true),
            Some((scheme, _)) => return Err(format!("{scheme}:// is no WebSocket")),
        };
        let is_host = |authority: &str| authority.strip_suffix(":1") == Some(name);
        let host = name.trim_start_matches('.');
        // Below a name of nothing is everybody.
        if host.is_empty() || !outgoing::authority(name, 1).is_ok_and(|text| is_host(&text)) {
            return Err(format!("{name:?} is no host: write it without port and path"));
        }
        Ok(Self { name: host.to_ascii_lowercase(), plain })
    }
}

impl Host {
    fn allows(&self, host: &str, secure: bool) -> bool {
        let host = host.to_ascii_lowercase();
        let below = || host.strip_suffix(&self.name).is_some_and(|rest| rest.ends_with('.'));
        (secure || self.plain) && (host == self.name || below())
    }
}

impl Reach {
    /// These and no others.
    #[must_use]
    pub const fn new(hosts: Vec<Host>) -> Self {
        Self(hosts)
    }

    /// The URL, if it may be dialled.
    ///
    /// # Errors
    /// What is wrong with it, for the log.
    pub fn url(&self, text: &str) -> Result<WsUrl, String> {
        let url: WsUrl = text.parse()?;
        let (host, _) = url.authority.rsplit_once(':').unwrap_or((&url.authority, ""));
        if self.0.iter().any(|known| known.allows(host, url.secure)) {
            return Ok(url);
        }
        let scheme = if url.secure { "wss" } else { "ws" };
        Err(format!("{scheme}://{host} is none of those that may be dialled (`dial`: {self})"))
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Host { name, plain }) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{}{name}", if *plain { "ws://" } else { "" })?;
        }
        Ok(())
    }
}

/// Addresses that may be connected to: public ones, those of networks that are named, and whichever is written in the place of a
/// name. A name is another's to point somewhere; an address is what the operator wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses(Vec<IpNet>);

impl Addresses {
    /// Public ones, and these networks.
    #[must_use]
    pub const fn new(allowed: Vec<IpNet>) -> Self {
        Self(allowed)
    }

    /// Whether `host`, whose address is `ip`, may be connected to.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn check(&self, host: &str, ip: IpAddr) -> Result<(), String> {
        let written = host == "localhost" || host.parse::<IpAddr>().is_ok();
        let ip = ip.to_canonical();
        if written || is_public(ip) || self.0.iter().any(|network| network.contains(&ip)) {
            return Ok(());
        }
        Err(format!("its address {ip} is not a public one: name its network in `allow`"))
    }
}

/// Whether an address is one of the internet, and not of a house, a machine or a protocol (IANA's registries of special purposes).
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 240..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !special && !ip.is_multicast()
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    // Only 2000::/3 is given out; of it, 2001::/23 is for protocols, 2001:db8::/32 and 3fff::/20 for documents, and 2002::/16
    // stands for addresses of the old kind, as 64:ff9b::/96 does outside of it.
    let given_out = s[0] & 0xe000 == 0x2000;
    let special = (s[0] == 0x2001 && (s[1] < 0x0200 || s[1] == 0x0db8))
        || s[0] == 0x2002
        || (s[0] == 0x3fff && s[1] < 0x1000);
    given_out && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_into_no_network_that_is_not_named() {
        let house: Addresses = Addresses::new(vec!["10.1.0.0/16".parse().expect("a network")]);
        let check = |host: &str, ip: &str| house.check(host, ip.parse().expect(ip));
        for ip in ["8.8.8.8", "2606:4700::1111", "10.1.2.3", "::ffff:10.1.2.3", "192.0.1.1"] {
            assert_eq!(check("crm.example", ip), Ok(()), "{ip}");
        }
        for ip in [
            "127.0.0.1",
            "10.2.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00::1",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "2001:db8::1",
        ] {
            let told = check("crm.example", ip).expect_err(ip);
            assert!(told.contains("`allow`"), "{told}");
        }
        assert_eq!(check("192.168.1.1", "192.168.1.1"), Ok(()), "written as such");
        assert_eq!(check("localhost", "127.0.0.1"), Ok(()));
        assert!(check("localhost.evil.example", "127.0.0.1").is_err());
    }

    fn reach(hosts: &[&str]) -> Reach {
        Reach::new(hosts.iter().map(|host| host.parse().expect(host)).collect())
    }

    #[test]
    fn hosts_and_what_is_below_them_are_within_reach_by_tls() {
        let zoom = reach(&["zoom.us"]);
        for url in ["wss://zoom.us", "wss://a.b.Zoom.US:443/x?y", "wss://rtms.zoom.us/"] {
            assert!(zoom.url(url).is_ok(), "{url}");
        }
        for url in [
            "ws://rtms.zoom.us/",
            "wss://evilzoom.us/",
            "wss://zoom.us.evil.example/",
            "wss://evil.example/zoom.us",
            "wss://evil.example#.zoom.us",
            "wss://evil.example\\@zoom.us/",
            "wss://user@zoom.us/",
            "wss://169.254.169.254/",
            "wss://[::1]/",
            "https://zoom.us/",
            "wss://",
            "",
        ] {
            assert!(zoom.url(url).is_err(), "{url}");
        }
        assert!(Reach::default().url("wss://zoom.us/").is_err(), "nobody");
    }

    #[test]
    fn without_tls_only_where_it_is_said() {
        let near = reach(&["ws://127.0.0.1", "ws://[::1]", "zoom.us"]);
        for url in ["ws://127.0.0.1:5/x", "wss://127.0.0.1/", "ws://[::1]:9/"] {
            assert!(near.url(url).is_ok(), "{url}");
        }
        let told = near.url("ws://zoom.us/").expect_err("not without TLS");
        assert!(told.contains("ws://zoom.us") && told.contains("ws://127.0.0.1, "), "{told}");
        for wrong in ["", "https://a", "a/b", "a:80", "a b", "ws://", ".", ".."] {
            assert!(wrong.parse::<Host>().is_err(), "{wrong}");
        }
    }
}
