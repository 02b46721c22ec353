//! The client's end of TLS, by rustls: whom to trust, and what is wrong with a certificate in plain words. Opens no connection.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::sign::SigningKey;
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureAlgorithm,
    SignatureScheme,
};

use super::{ConnectError, Trust, TrustError};
use crate::net::Io;

/// Octets that may wait within TLS for a peer that does not read: what waits in front of it is counted and can be taken back.
const SEND_BUFFER: usize = 16 * 1024;

/// Agrees on keys with servers that prove who they are.
pub(super) struct Client {
    inner: TlsConnector,
}

impl Client {
    /// A client that trusts as `trust` says. Reads files.
    pub(super) fn new(trust: &Trust) -> Result<Self, TrustError> {
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match trust {
            Trust::Anybody => Arc::new(Unchecked(Arc::clone(&provider))),
            Trust::System => by_roots(system_roots()?, &provider),
            Trust::File(path) => by_roots(roots_of(path)?, &provider),
        };
        let mut config = config(verifier, provider);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { inner: TlsConnector::from(Arc::new(config)) })
    }

    /// Agrees on keys with the server at the other end of `io`, which must be `host`.
    pub(super) async fn connect(
        &self,
        host: &str,
        io: impl Io,
    ) -> Result<Box<dyn Io>, ConnectError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            ConnectError::Tls(format!("{host:?} is no host that a certificate can be for"))
        })?;
        let limit = |session: &mut rustls::ClientConnection| {
            session.set_buffer_limit(Some(SEND_BUFFER));
        };
        match self.inner.connect_with(name, io, limit).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(explained(&error, host)),
        }
    }
}

/// What takes whoever answers for whom was meant, for a client that is not ours.
#[cfg(feature = "nats")]
pub(crate) fn unchecked() -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    config(Arc::new(Unchecked(Arc::clone(&provider))), provider)
}

fn config(verifier: Arc<dyn ServerCertVerifier>, provider: Arc<CryptoProvider>) -> ClientConfig {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has suites for TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth()
}

/// A private RSA key, to sign tokens with.
pub struct RsaKey(Arc<dyn SigningKey>);

impl RsaKey {
    /// Reads a key from PEM, as PKCS#8 or PKCS#1.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| "is no private key in PEM".to_owned())?;
        let key = ring::sign::any_supported_type(&key)
            .map_err(|_| "is no private key that can be used".to_owned())?;
        if key.algorithm() != SignatureAlgorithm::RSA {
            return Err("is not an RSA key".into());
        }
        Ok(Self(key))
    }

    /// RSASSA-PKCS1-v1_5 with SHA-256 over `message`.
    pub(crate) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.0.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256])?.sign(message).ok()
    }
}

impl std::fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

fn by_roots(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .expect("there are roots, and no revocation lists that could be malformed")
}

fn system_roots() -> Result<RootCertStore, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems carry certificates that this library does not take; one that is left out cannot vouch, and that is all.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(TrustError::NoRoots { reason });
    }
    Ok(roots)
}

pub(crate) fn roots_of(path: &Path) -> Result<RootCertStore, TrustError> {
    let failed = |reason: String| TrustError::File { path: path.display().to_string(), reason };
    let text = std::fs::read(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| failed(format!("is not PEM: {error}")))?;
        roots.add(certificate).map_err(|error| {
            failed(format!("holds a certificate that is no authority's: {error}"))
        })?;
    }
    if roots.is_empty() {
        return Err(failed("holds no certificate in PEM".into()));
    }
    Ok(roots)
}

/// What went wrong, in the words of whoever has to mend it.
fn explained(error: &io::Error, host: &str) -> ConnectError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(inner) = inner else { return ConnectError::Tls(error.to_string()) };
    let rustls::Error::InvalidCertificate(wrong) = inner else {
        return ConnectError::Tls(match inner {
            rustls::Error::InvalidMessage(_) => "what answers does not speak it".into(),
            other => other.to_string(),
        });
    };
    ConnectError::Certificate(match wrong {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has expired".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet: is the clock of this machine right?".into()
        }
        // The second: by somebody who bears the name of a trusted one.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "is signed by nobody who is trusted here (name the authority's file if it is a private one)".into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("is not for {host}")
        }
        other => format!("is refused: {other}"),
    })
}

/// Takes any certificate, but not a server that does not even hold the key to its own.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
