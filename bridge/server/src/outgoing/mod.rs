//! Connections that the bridge opens to others: a name, TCP, TLS where it is asked, and one deadline for it all. Speaks nothing over them.

pub mod http;
#[cfg(test)]
pub(crate) mod mock;
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
mod tls;

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::net::{self, Io, MemoryHosts};
use crate::reach::Addresses;

pub use tls::RsaKey;
#[cfg(feature = "tls")]
pub(crate) use tls::roots_of;
#[cfg(feature = "nats")]
pub(crate) use tls::unchecked;

/// Looking up the name, connecting and agreeing on keys take no longer than this together.
const DEADLINE: Duration = Duration::from_secs(5);

/// Whom to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Host and port; a certificate must be for this host.
    pub authority: String,
    /// Whether the connection is by TLS.
    pub secure: bool,
}

impl Peer {
    /// The host: a name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let host =
            self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _)| host);
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }
}

/// `host:port`; a port is added where there is none, and a host that cannot be one is refused.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn authority(text: &str, port: u16) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    if text.is_empty() {
        return Err("names no host".into());
    }
    if !text.chars().all(plain) {
        return Err(format!("{text:?} is no host: letters, digits, '-', '.' and ':' are"));
    }
    let (host, given) = match text.rsplit_once(':') {
        Some((host, given)) if !host.contains(':') || host.ends_with(']') => (host, Some(given)),
        _ => (text, None),
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if address.map_or(host.contains([':', '[', ']']), |ip| ip.parse::<Ipv6Addr>().is_err()) {
        return Err(format!("{text:?} is no host: an IPv6 address stands in brackets"));
    }
    if host.starts_with('.') || host.contains("..") {
        return Err(format!("{text:?} is no host: a part of its name is empty"));
    }
    match given {
        None => Ok(format!("{host}:{port}")),
        Some(_) if host.is_empty() => Err("names no host".into()),
        Some(given) => match given.parse::<u16>() {
            Ok(1..) => Ok(text.to_owned()),
            _ => Err(format!("{given:?} is no port")),
        },
    }
}

/// A URL behind its scheme: `host:port`, and path and query, which begin with a slash.
///
/// # Errors
/// What is wrong with the host or the rest.
pub(crate) fn parts(rest: &str, port: u16) -> Result<(String, String), String> {
    let (host, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if !target.chars().all(|c| c.is_ascii_graphic() && !"#\"<>\\^`{|}".contains(c)) {
        return Err("has a path that is none: a URL has no spaces, quotes or `#`".into());
    }
    let slash = if target.starts_with('/') { "" } else { "/" };
    Ok((authority(host, port)?, format!("{slash}{target}")))
}

/// What goes into the `Host` field: the port only where it is not the scheme's own.
pub(crate) fn host_field(authority: &str, secure: bool) -> &str {
    let own = if secure { ":443" } else { ":80" };
    authority.strip_suffix(own).unwrap_or(authority)
}

/// By whom a server's certificate must be signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// An authority that this system trusts. `SSL_CERT_FILE` and `SSL_CERT_DIR` name others, as elsewhere.
    #[default]
    System,
    /// An authority in this file of PEM certificates, and none else.
    File(PathBuf),
    /// Nobody: whoever answers is taken for whom was meant. For tests.
    Anybody,
}

impl Trust {
    /// As options say it: a file of authorities, or no check at all.
    #[must_use]
    pub fn from_options(ca_file: Option<PathBuf>, insecure: bool) -> Self {
        match ca_file {
            _ if insecure => Self::Anybody,
            Some(path) => Self::File(path),
            None => Self::System,
        }
    }
}

/// Why nobody can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// This program was built without TLS.
    #[error("this build has no TLS: build it with the feature `tls`")]
    Absent,
    /// The system names no authority.
    #[error(
        "this system has no certificate authorities{reason}: install its `ca-certificates`, or name a file of them"
    )]
    NoRoots {
        /// What stood in the way, if anything did, after a colon.
        reason: String,
    },
    /// The file is of no use.
    #[error("{path} {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No such name, nobody listens there, or the way there is cut.
    #[error("{0}")]
    Io(String),
    /// No answer in time.
    #[error("no answer in {0:?}")]
    Deadline(Duration),
    /// There is nobody to trust, so none can be asked.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The server's certificate does not prove that it is who was meant.
    #[error("its certificate {0}")]
    Certificate(String),
    /// TLS was not agreed on.
    #[error("no TLS there: {0}")]
    Tls(String),
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// Opens connections. Authorities are read once, when the first secure connection is asked for or [`Connector::prepare`] is.
#[derive(Clone, Default)]
pub struct Connector {
    trust: Trust,
    tls: Arc<OnceLock<Result<tls::Client, TrustError>>>,
    memory: Option<MemoryHosts>,
    /// Addresses that may be connected to, if not all.
    addresses: Option<Arc<Addresses>>,
    /// In the place of the system's.
    #[cfg(test)]
    names: Option<Names>,
}

/// Where names lead.
#[cfg(test)]
pub(crate) type Names = Arc<dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

impl Connector {
    /// One that trusts as `trust` says.
    #[must_use]
    pub fn new(trust: Trust) -> Self {
        Self { trust, ..Self::default() }
    }

    /// One that finds everybody within this process, TLS or not; for tests and simulation.
    #[must_use]
    pub fn within(hosts: MemoryHosts) -> Self {
        Self { memory: Some(hosts), ..Self::default() }
    }

    /// One that finds the same listener under every name.
    #[cfg(test)]
    pub(crate) fn in_memory(memory: crate::net::MemoryConnector) -> Self {
        let hosts = MemoryHosts::default();
        hosts.add(MemoryHosts::ANY, memory);
        Self::within(hosts)
    }

    /// Whom it finds within this process, if it looks there.
    #[must_use]
    pub const fn hosts(&self) -> Option<&MemoryHosts> {
        self.memory.as_ref()
    }

    /// One that finds the same listeners and trusts as `trust` says.
    #[must_use]
    pub fn trusting(&self, trust: Trust) -> Self {
        Self { trust, tls: Arc::default(), ..self.clone() }
    }

    /// One that is the same, but connects only to what `addresses` allows, whatever a name leads to.
    #[must_use]
    pub fn within_reach(&self, addresses: Addresses) -> Self {
        Self { addresses: Some(Arc::new(addresses)), ..self.clone() }
    }

    /// Reads whom to trust, so that a mistake there shows now and not when the first connection is wanted.
    ///
    /// # Errors
    /// If there is nobody to trust.
    pub fn prepare(&self) -> Result<(), TrustError> {
        self.tls().map(|_| ())
    }

    fn tls(&self) -> Result<&tls::Client, TrustError> {
        self.tls.get_or_init(|| tls::Client::new(&self.trust)).as_ref().map_err(Clone::clone)
    }

    /// All addresses of a name. It is asked once for a connection: whoever answers otherwise the next time has gained nothing.
    async fn look_up(&self, authority: &str) -> io::Result<Vec<SocketAddr>> {
        #[cfg(test)]
        if let Some(names) = &self.names {
            return names(authority);
        }
        Ok(tokio::net::lookup_host(authority).await?.collect())
    }

    /// One that finds names where `names` says.
    #[cfg(test)]
    pub(crate) fn knowing(names: Names) -> Self {
        Self { names: Some(names), ..Self::default() }
    }

    /// Connects to `peer`.
    ///
    /// # Errors
    /// If it cannot be reached, is not who was meant, or takes longer than 5 s.
    pub async fn connect(&self, peer: &Peer) -> Result<Box<dyn Io>, ConnectError> {
        let connecting = tokio::time::timeout(DEADLINE, async {
            if let Some(hosts) = &self.memory {
                return Ok(Box::new(hosts.connect(&peer.authority).await?) as Box<dyn Io>);
            }
            let tls = if peer.secure { Some(self.tls()?) } else { None };
            let allowed = |ip| match &self.addresses {
                None => Ok(()),
                Some(addresses) => addresses.check(peer.host(), ip).map_err(io::Error::other),
            };
            let found = self.look_up(&peer.authority).await?;
            let stream = net::connect_where(found, allowed).await?;
            match tls {
                Some(tls) => tls.connect(peer.host(), stream).await,
                None => Ok(Box::new(stream) as Box<dyn Io>),
            }
        });
        connecting.await.unwrap_or(Err(ConnectError::Deadline(DEADLINE)))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("trust", &self.trust).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(feature = "tls")]
mod tests;
