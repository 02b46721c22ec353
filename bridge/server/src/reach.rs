//! Whom a URL that came from outside may have us dial, and into which networks a name may lead. Dials nobody.
//!
//! What is dialled is of two kinds. Modules, bots, sinks, key sets, ends of calls, NATS and databases are where the operator wrote that they
//! are: they may be on any network, as most are. What others write is what [`Reach`] is for: the servers that are named by who posts that
//! a call is there, and by the first of these. Of both, no redirect is followed, and no server has us dial another.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::client::WsUrl;
use crate::outgoing;

/// Servers that may be dialled; all others are not, whoever asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    hosts: Vec<Host>,
    addresses: Addresses,
}

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
        let host = name.trim_start_matches('.');
        let is_host = |authority: &str| authority.strip_suffix(":1") == Some(host);
        // Below a name of nothing is everybody.
        if host.is_empty() || !outgoing::authority(host, 1).is_ok_and(|text| is_host(&text)) {
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
    /// These and no others. What is written as an address is dialled there; a name must lead to a public address, or into one of
    /// `networks`.
    #[must_use]
    pub const fn new(hosts: Vec<Host>, networks: Vec<IpNet>) -> Self {
        Self { hosts, addresses: Addresses::new(networks, "dial") }
    }

    /// Where the servers may be, whatever their names lead to.
    #[must_use]
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The URL, if it may be dialled.
    ///
    /// # Errors
    /// What is wrong with it, for the log.
    pub fn url(&self, text: &str) -> Result<WsUrl, String> {
        let url: WsUrl = text.parse()?;
        let (host, _) = url.authority.rsplit_once(':').unwrap_or((&url.authority, ""));
        if self.hosts.iter().any(|known| known.allows(host, url.secure)) {
            return Ok(url);
        }
        let scheme = if url.secure { "wss" } else { "ws" };
        Err(format!("{scheme}://{host} is none of those that may be dialled (`dial`: {self})"))
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Host { name, plain }) in self.hosts.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{}{name}", if *plain { "ws://" } else { "" })?;
        }
        Ok(())
    }
}

/// Addresses that may be connected to: public ones, those of networks that are named, and whichever is written in the place of a
/// name. A name is another's to point somewhere; an address is what the operator wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses {
    allowed: Vec<IpNet>,
    /// Where networks are named.
    key: &'static str,
}

impl Addresses {
    /// Public ones, and these networks, which are named by `key` of the configuration.
    #[must_use]
    pub const fn new(allowed: Vec<IpNet>, key: &'static str) -> Self {
        Self { allowed, key }
    }

    /// Whether `host`, whose address is `ip`, may be connected to.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn check(&self, host: &str, ip: IpAddr) -> Result<(), String> {
        let written = host == "localhost" || host.parse::<IpAddr>().is_ok();
        let ip = ip.to_canonical();
        if written || is_public(ip) || self.allowed.iter().any(|network| network.contains(&ip)) {
            return Ok(());
        }
        Err(format!("its address {ip} is not a public one: name its network in `{}`", self.key))
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
            | (192, 88, 99)
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
mod tests;
