//! TLS against a server in this process, with authorities and certificates made for the occasion.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion, version};

use super::*;

/// An authority, and the file that names it.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    fn new(test: &str) -> Self {
        Self::named(test, test)
    }

    fn named(test: &str, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = std::env::temp_dir().join(format!("ringback-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("ca.pem"), certificate.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), folder }
    }

    fn trusted(&self) -> Connector {
        Connector::new(Trust::File(self.folder.join("ca.pem")))
    }

    /// A server for `name` whose certificate is valid until the first day of `until`. It answers a connection with what it reads.
    async fn server(
        &self,
        name: &str,
        until: i32,
        only: &[&'static SupportedProtocolVersion],
    ) -> Peer {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(only)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that refuses the certificate is gone before anything is read.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut octets = [0; 5];
                stream.read_exact(&mut octets).await.unwrap();
                stream.write_all(&octets).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        Peer { authority: format!("localhost:{port}"), secure: true }
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS12, &version::TLS13];

async fn echoes(connector: &Connector, peer: &Peer) -> Result<(), ConnectError> {
    let mut io = connector.connect(peer).await?;
    io.write_all(b"frame").await.unwrap();
    io.flush().await.unwrap();
    let mut octets = Vec::new();
    io.read_to_end(&mut octets).await.unwrap();
    assert_eq!(octets, b"frame");
    Ok(())
}

#[tokio::test]
async fn a_server_with_a_certificate_of_its_own_name_by_a_trusted_authority_is_spoken_to() {
    let authority = Authority::new("tls-right");
    for versions in [BOTH, &[&version::TLS12], &[&version::TLS13]] {
        let peer = authority.server("localhost", 2100, versions).await;
        assert_eq!(echoes(&authority.trusted(), &peer).await, Ok(()));
    }
    // A certificate can be for an address as well.
    let named = authority.server("127.0.0.1", 2100, BOTH).await;
    let authority_part = named.authority.replace("localhost", "127.0.0.1");
    let peer = Peer { authority: authority_part, secure: true };
    assert_eq!(echoes(&authority.trusted(), &peer).await, Ok(()));
}

#[tokio::test]
async fn a_wrong_name_an_expired_certificate_and_an_unknown_authority_are_told_apart() {
    let (authority, other) = (Authority::new("tls-wrong"), Authority::new("tls-other"));
    let wrong_name = authority.server("elsewhere.example", 2100, BOTH).await;
    let expired = authority.server("localhost", 2024, BOTH).await;
    let unknown = other.server("localhost", 2100, BOTH).await;
    let posing = Authority::named("tls-posing", "tls-wrong").server("localhost", 2100, BOTH).await;
    for (peer, why) in [
        (wrong_name, "is not for localhost"),
        (expired, "has expired"),
        (unknown, "is signed by nobody who is trusted here"),
        (posing, "is signed by nobody who is trusted here"),
    ] {
        let error = echoes(&authority.trusted(), &peer).await.unwrap_err();
        assert!(matches!(error, ConnectError::Certificate(_)), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
        // Only whoever asks for it in so many words speaks to these.
        let careless = Connector::new(Trust::from_options(None, true));
        assert_eq!(echoes(&careless, &peer).await, Ok(()));
    }
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_or_is_not_there_is_an_error_that_says_so() {
    let authority = Authority::new("tls-none");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = Peer { authority: listener.local_addr().unwrap().to_string(), secure: true };
    let plain = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        crate::socket::linger(stream).await;
    });
    let error = echoes(&authority.trusted(), &peer).await.unwrap_err();
    assert_eq!(error, ConnectError::Tls("what answers does not speak it".into()));
    plain.await.unwrap();
    let error = echoes(&authority.trusted(), &peer).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Io(text) if text.contains("refused")), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up() {
    let authority = Authority::new("tls-silent");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = Peer { authority: listener.local_addr().unwrap().to_string(), secure: true };
    let connector = authority.trusted();
    connector.prepare().unwrap();
    let began = tokio::time::Instant::now();
    let error = echoes(&connector, &peer).await.unwrap_err();
    assert_eq!(error, ConnectError::Deadline(DEADLINE));
    assert_eq!(began.elapsed().as_secs(), DEADLINE.as_secs());
}

#[test]
fn files_that_name_no_authority_are_errors_with_the_file_and_the_reason() {
    let authority = Authority::new("tls-files");
    let path = |name: &str| authority.folder.join(name);
    std::fs::write(path("empty.pem"), "nothing here\n").unwrap();
    std::fs::write(
        path("broken.pem"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    for (name, why) in [
        ("ca.pem", None),
        ("empty.pem", Some("holds no certificate")),
        ("broken.pem", Some("no authority's")),
        ("absent.pem", Some("cannot be read")),
    ] {
        let prepared = Connector::new(Trust::File(path(name))).prepare();
        match (prepared, why) {
            (Ok(()), None) => {}
            (Err(error), Some(why)) => {
                let error = error.to_string();
                assert!(error.contains(name) && error.contains(why), "{error}");
            }
            (other, _) => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_file_of_authorities_and_no_check_at_all_are_different_wishes() {
    assert_eq!(Trust::from_options(None, false), Trust::System);
    let file = PathBuf::from("ca.pem");
    assert_eq!(Trust::from_options(Some(file.clone()), false), Trust::File(file.clone()));
    assert_eq!(Trust::from_options(Some(file), true), Trust::Anybody);
}

#[test]
fn the_name_to_check_is_the_host_without_brackets_and_port() {
    for (authority, host) in
        [("a.example:443", "a.example"), ("[::1]:443", "::1"), ("10.0.0.1:1", "10.0.0.1")]
    {
        assert_eq!(Peer { authority: authority.into(), secure: true }.host(), host);
    }
}
