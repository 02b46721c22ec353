//! Whom a URL that came from outside may have us dial. Dials nobody.

use std::fmt;
use std::str::FromStr;

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

#[cfg(test)]
mod tests {
    use super::*;

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
