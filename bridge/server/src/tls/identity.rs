//! A certificate that is read from files, and a listener that shows it, by rustls. Trusts nobody but whom its files name.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, ServerConfig, ServerConnection};
use tokio_rustls::server::TlsStream;

use super::{TlsError, TlsFiles};
use crate::net::{Io, Listener};
use crate::outgoing::{TrustError, roots_of};
use crate::reload::{Signal, Watched};
use crate::telemetry::{EdgeReport, report_edge};

/// A client has so long to agree on keys with us, from its first moment, a place among those that do included.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Connections that agree on keys at a time; more wait for a place. Bounds what half-made connections take of memory; how many of
/// one address there may be is the server's business.
const MAX_HANDSHAKES: usize = 1024;
/// Octets that may wait within TLS for a peer that does not read: what waits in front of it is counted and can be taken back.
const SEND_BUFFER: usize = 16 * 1024;

/// What a listener proves itself by. Clones are the same one: what renews one renews all.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    files: TlsFiles,
    /// What is spoken behind it, the best first.
    protocols: &'static [&'static str],
    /// Locked for as long as it takes to copy or replace a pointer, once for each connection.
    config: RwLock<Arc<ServerConfig>>,
    handshakes: Semaphore,
}

impl Identity {
    /// Reads a certificate, its key and whom clients must be known by.
    ///
    /// # Errors
    /// Which file is of no use, and why.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        // Calls come by HTTP/1.1; whoever asks for nothing gets the same.
        Self::speaking(&["http/1.1"], files)
    }

    /// The same for who speaks other protocols behind it, by their names of RFC 7301, the best first.
    ///
    /// # Errors
    /// As [`Identity::load`].
    pub fn speaking(
        protocols: &'static [&'static str],
        files: &TlsFiles,
    ) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(Inner {
            config: RwLock::new(read(files, protocols)?),
            protocols,
            files: files.clone(),
            handshakes: Semaphore::new(MAX_HANDSHAKES),
        })))
    }

    /// Reads its files again: connections from now on get what is in them. What is wrong in any of them changes nothing.
    ///
    /// # Errors
    /// Which file is of no use, and why.
    pub fn renew(&self) -> Result<(), TlsError> {
        let config = read(&self.0.files, self.0.protocols)?;
        *self.0.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Reads its files again on SIGHUP and whenever one of them has changed, and reports what came of it; `whose` says in the log
    /// which listener's they are. Goes on for as long as it is polled.
    pub async fn keep_fresh(&self, whose: &str) {
        let TlsFiles { cert, key, client_ca } = &self.0.files;
        let files = [cert, key].into_iter().chain(client_ca).cloned().collect();
        let mut watched = Watched::new(files).await;
        // Where there is no such signal, the files are watched all the same.
        let mut signal = Signal::install().ok();
        // What has changed since it was read and before it was watched.
        self.take_up(whose, true).await;
        loop {
            let told = async {
                match &mut signal {
                    Some(signal) => signal.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = told => {}
                () = watched.changed() => {}
            }
            self.take_up(whose, false).await;
        }
    }

    /// Reads its files again and says what came of it; of nothing wrong, nothing if `quietly`.
    async fn take_up(&self, whose: &str, quietly: bool) {
        let identity = self.clone();
        // A disk that is held up must not hold up the taking of calls.
        match tokio::task::spawn_blocking(move || identity.renew()).await {
            Ok(Ok(())) if quietly => {}
            Ok(Ok(())) => report_edge(&EdgeReport::CertificateRenewed { whose }),
            Ok(Err(error)) => {
                let reason = error.to_string();
                report_edge(&EdgeReport::CertificateNotRenewed { whose, reason: &reason });
            }
            Err(_) => {
                let reason = "a fault of this program: please report it";
                report_edge(&EdgeReport::CertificateNotRenewed { whose, reason });
            }
        }
    }

    /// Agrees on keys with the client at the other end of `io`.
    async fn accept<I: Io>(&self, io: I) -> io::Result<Box<TlsStream<I>>> {
        let agreeing = async {
            let _place = self.0.handshakes.acquire().await.map_err(io::Error::other)?;
            let config = Arc::clone(&self.0.config.read().unwrap_or_else(PoisonError::into_inner));
            let limit = |session: &mut ServerConnection| {
                session.set_buffer_limit(Some(SEND_BUFFER));
            };
            TlsAcceptor::from(config).accept_with(io, limit).await
        };
        match tokio::time::timeout(HANDSHAKE_DEADLINE, agreeing).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(explained(&error)),
            Err(_elapsed) => {
                let what = format!("TLS: no keys agreed on within {HANDSHAKE_DEADLINE:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, what))
            }
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("files", &self.0.files).finish_non_exhaustive()
    }
}

/// The connections of another listener, by TLS 1.2 or 1.3.
#[derive(Debug)]
pub struct TlsListener<L> {
    inner: L,
    identity: Identity,
}

impl<L> TlsListener<L> {
    /// Proves to whoever connects to `inner` that it is `identity`.
    pub const fn new(inner: L, identity: Identity) -> Self {
        Self { inner, identity }
    }
}

impl<L: Listener> Listener for TlsListener<L> {
    /// Boxed: the state of a session is over a kilobyte, and is moved from hand to hand.
    type Io = Box<TlsStream<L::Io>>;
    type Parcel = (L::Parcel, Identity);

    async fn accept(&mut self) -> io::Result<(Self::Parcel, SocketAddr)> {
        let (parcel, peer) = self.inner.accept().await?;
        Ok(((parcel, self.identity.clone()), peer))
    }

    async fn open((parcel, identity): Self::Parcel) -> io::Result<Self::Io> {
        identity.accept(L::open(parcel).await?).await
    }

    /// Keys would have to be agreed on first, which costs more than a refusal is worth.
    fn hears_at_once() -> bool {
        false
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// All that connections are made from, as the files say it now.
fn read(files: &TlsFiles, protocols: &[&str]) -> Result<Arc<ServerConfig>, TlsError> {
    let TlsFiles { cert, key, client_ca } = files;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring has suites for TLS 1.2 and 1.3");
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = roots_of(path).map_err(|error| match error {
                TrustError::File { path, reason } => TlsError::File { path, reason },
                other => useless(path, other.to_string()),
            })?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.build().map_err(|error| useless(path, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let (chain, key_der) = (chain(cert)?, private_key(key)?);
    let mut config = builder.with_single_cert(chain, key_der).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            useless(key, format!("is not the key of the certificate in {}", cert.display()))
        }
        other => useless(cert, format!("holds what cannot be shown to clients: {other}")),
    })?;
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = octets(path)?;
    let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| useless(path, format!("is not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(useless(path, "holds no certificate in PEM"));
    }
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    // What exactly is wrong with it is nobody's business: it would quote a secret.
    PrivateKeyDer::from_pem_slice(&octets(path)?)
        .map_err(|_| useless(path, "holds no private key in PEM"))
}

fn octets(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| useless(path, format!("cannot be read: {error}")))
}

fn useless(path: &Path, reason: impl Into<String>) -> TlsError {
    TlsError::File { path: path.display().to_string(), reason: reason.into() }
}

/// What went wrong, in the words of whoever reads the log.
fn explained(error: &io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let what = match inner {
        Some(rustls::Error::InvalidMessage(_)) => "TLS: what came is none".into(),
        Some(rustls::Error::NoCertificatesPresented) => {
            "TLS: the client has shown no certificate, which `client_ca` wants".into()
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            format!("TLS: the client does not want to go on: {alert:?}")
        }
        Some(other) => format!("TLS: {other}"),
        None => format!("TLS: {error}"),
    };
    io::Error::new(error.kind(), what)
}
