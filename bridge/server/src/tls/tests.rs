//! A listener with a certificate, against clients of every kind; certificates and their authorities are made for the occasion.
#![allow(clippy::unwrap_used, reason = "a test whose ground gives way has failed")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};

use super::*;
use crate::clock::Clock;
use crate::net::{Listener, MemoryConnector, memory};

/// Files of its own for one test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringback-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn files(&self) -> TlsFiles {
        TlsFiles { cert: self.0.join("cert.pem"), key: self.0.join("key.pem"), client_ca: None }
    }

    fn identity(&self) -> Identity {
        Identity::load(&self.files()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for `bridge` and its key.
    fn signed(&self) -> (String, String) {
        let params = CertificateParams::new(["bridge".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// Puts a new certificate of its into the folder.
    fn write(&self, folder: &Folder) {
        let (cert, key) = self.signed();
        let files = folder.files();
        std::fs::write(files.cert, cert).unwrap();
        std::fs::write(files.key, key).unwrap();
    }
}

/// Who connects: whom it trusts, and what it shows and speaks.
struct Client<'a> {
    trusts: &'a Authority,
    shows: Option<(String, String)>,
    versions: &'a [&'static SupportedProtocolVersion],
    alpn: &'a [&'a str],
}

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS12, &version::TLS13];

impl<'a> Client<'a> {
    fn of(trusts: &'a Authority) -> Self {
        Self { trusts, shows: None, versions: BOTH, alpn: &[] }
    }

    async fn connect<I: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: I,
    ) -> std::io::Result<TlsStream<I>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.trusts.pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.shows {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("bridge").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, io).await
    }

    /// Whether a word goes there and back; a client hears only after its handshake that its certificate is refused.
    async fn is_heard(&self, connector: &MemoryConnector) -> bool {
        let heard = async {
            let mut io = self.connect(connector.connect().await?).await?;
            io.write_all(b"frame").await?;
            let mut octets = [0; 5];
            io.read_exact(&mut octets).await?;
            std::io::Result::Ok(octets == *b"frame")
        };
        heard.await.unwrap_or(false)
    }
}

/// Echoes whatever comes by TLS; gives what was wrong with what did not.
fn echo(identity: &Identity) -> (MemoryConnector, mpsc::Receiver<String>) {
    let (listener, connector) = memory(64 * 1024);
    let mut listener = TlsListener::new(listener, identity.clone());
    let (tell, told) = mpsc::channel(1024);
    tokio::spawn(async move {
        while let Ok((parcel, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                match <TlsListener<crate::net::MemoryListener> as Listener>::open(parcel).await {
                    Ok(io) => {
                        let (mut from, mut to) = tokio::io::split(io);
                        let _ = tokio::io::copy(&mut from, &mut to).await;
                    }
                    Err(error) => drop(tell.send(error.to_string()).await),
                }
            });
        }
    });
    (connector, told)
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken_and_nothing_but_http_1_on_top() {
    let (folder, authority) = (Folder::new("tls-versions"), Authority::new("ours"));
    authority.write(&folder);
    let (connector, _told) = echo(&folder.identity());
    for versions in [BOTH, &[&version::TLS12], &[&version::TLS13]] {
        for (alpn, agreed) in [
            (&[][..], Some(None)),
            (&["http/1.1"], Some(Some("http/1.1"))),
            (&["h2", "http/1.1"], Some(Some("http/1.1"))),
            (&["h2"], None),
        ] {
            let client = Client { versions, alpn, ..Client::of(&authority) };
            let io = client.connect(connector.connect().await.unwrap()).await;
            let spoken = io.ok().map(|io| {
                io.get_ref()
                    .1
                    .alpn_protocol()
                    .map(|name| String::from_utf8_lossy(name).into_owned())
            });
            assert_eq!(spoken.as_ref().map(Option::as_deref), agreed, "{alpn:?} {versions:?}");
            assert_eq!(client.is_heard(&connector).await, agreed.is_some(), "{alpn:?}");
        }
    }
}

#[tokio::test]
async fn a_client_names_the_server_that_it_means() {
    let (folder, authority) = (Folder::new("tls-named"), Authority::new("ours"));
    authority.write(&folder);
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let files = folder.files();
    std::fs::write(&files.cert, params.signed_by(&key, &authority.issuer).unwrap().pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    let trusted = folder.0.join("ca.pem");
    std::fs::write(&trusted, &authority.pem).unwrap();
    let listener = crate::net::TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut listener = TlsListener::new(listener, folder.identity());
    // The bridge's own way to others.
    let ours = crate::outgoing::Connector::new(crate::outgoing::Trust::File(trusted));
    let to = crate::outgoing::Peer { authority: format!("localhost:{port}"), secure: true };
    let asking = tokio::spawn(async move { ours.connect(&to).await.map(drop) });
    let (parcel, _) = listener.accept().await.unwrap();
    let io = <TlsListener<crate::net::TcpListener> as Listener>::open(parcel).await.unwrap();
    assert_eq!(io.get_ref().1.server_name(), Some("localhost"));
    asking.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_no_tls_is_named() {
    let (folder, authority) = (Folder::new("tls-none"), Authority::new("ours"));
    authority.write(&folder);
    let (connector, mut told) = echo(&folder.identity());
    let mut plain = connector.connect().await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: bridge\r\n\r\n").await.unwrap();
    assert_eq!(told.recv().await.unwrap(), "TLS: what came is none");
    let stranger = Authority::new("not ours");
    assert!(!Client::of(&stranger).is_heard(&connector).await);
    let why = told.recv().await.unwrap();
    assert!(why.starts_with("TLS: the client does not want to go on: "), "{why}");
}

/// Opens a connection and says nothing, or the beginning of a handshake; gives when it was closed.
fn stall(connector: &MemoryConnector, says: &'static [u8]) -> JoinHandle<Duration> {
    let connector = connector.clone();
    tokio::spawn(async move {
        let clock = Clock::start();
        let mut io = connector.connect().await.unwrap();
        io.write_all(says).await.unwrap();
        assert_eq!(io.read(&mut [0; 64]).await.unwrap(), 0);
        clock.now().since_epoch()
    })
}

#[tokio::test(start_paused = true)]
async fn five_hundred_stalled_handshakes_end_after_five_seconds_and_hold_up_nobody() {
    let (folder, authority) = (Folder::new("tls-stall"), Authority::new("ours"));
    authority.write(&folder);
    let (connector, mut told) = echo(&folder.identity());
    let begun: &[u8] = &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01];
    let stalled: Vec<_> =
        (0..500).map(|n| stall(&connector, if n % 2 == 0 { b"" } else { begun })).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let clock = Clock::start();
    assert!(Client::of(&authority).is_heard(&connector).await);
    assert_eq!(clock.now().since_epoch(), Duration::ZERO, "nobody was waited for");
    for stalled in stalled {
        assert_eq!(stalled.await.unwrap().as_secs(), 5);
        assert_eq!(told.recv().await.unwrap(), "TLS: no keys agreed on within 5s");
    }
}

#[tokio::test(start_paused = true)]
async fn so_many_handshakes_go_on_at_once_and_the_next_ones_wait_their_turn() {
    let (folder, authority) = (Folder::new("tls-many"), Authority::new("ours"));
    authority.write(&folder);
    let (connector, _told) = echo(&folder.identity());
    let stalled: Vec<_> = (0..1024).map(|_| stall(&connector, b"")).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let clock = Clock::start();
    assert!(Client::of(&authority).is_heard(&connector).await);
    assert_eq!(clock.now().since_epoch().as_secs(), 4, "until the others had ended");
    for stalled in stalled {
        assert_eq!(stalled.await.unwrap().as_secs(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_leaves_little_with_tls() {
    let (folder, authority) = (Folder::new("tls-full"), Authority::new("ours"));
    authority.write(&folder);
    let (listener, connector) = memory(1024);
    let mut listener = TlsListener::new(listener, folder.identity());
    let dialled = tokio::spawn(async move {
        Client::of(&authority).connect(connector.connect().await.unwrap()).await.unwrap()
    });
    let (parcel, _) = listener.accept().await.unwrap();
    let mut io = <TlsListener<crate::net::MemoryListener> as Listener>::open(parcel).await.unwrap();
    let _client = dialled.await.unwrap();
    let mut octets = 0;
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(1), io.write(&[0; 320])).await
    {
        octets += written.unwrap();
        assert!(octets < 1 << 20, "it takes all of it");
    }
    assert!(octets <= 32 * 1024, "{octets} octets wait");
}

#[tokio::test]
async fn clients_must_show_a_certificate_where_their_authority_is_named() {
    let (folder, ours, callers) =
        (Folder::new("tls-clients"), Authority::new("ours"), Authority::new("callers"));
    ours.write(&folder);
    let client_ca = folder.0.join("callers.pem");
    std::fs::write(&client_ca, &callers.pem).unwrap();
    let files = TlsFiles { client_ca: Some(client_ca), ..folder.files() };
    let (connector, mut told) = echo(&Identity::load(&files).unwrap());
    for versions in [&[&version::TLS12], &[&version::TLS13]] {
        let client = |shows| Client { versions, shows, ..Client::of(&ours) };
        assert!(client(Some(callers.signed())).is_heard(&connector).await);
        assert!(!client(None).is_heard(&connector).await);
        let why = told.recv().await.unwrap();
        assert_eq!(why, "TLS: the client has shown no certificate, which `client_ca` wants");
        assert!(!client(Some(ours.signed())).is_heard(&connector).await, "signed by another");
        assert!(told.recv().await.unwrap().contains("certificate"));
    }
}

async fn trusted(connector: &MemoryConnector, authorities: [&Authority; 2]) -> [bool; 2] {
    [
        Client::of(authorities[0]).is_heard(connector).await,
        Client::of(authorities[1]).is_heard(connector).await,
    ]
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_changes_is_shown_and_a_bad_one_is_not() {
    let (folder, old, new) =
        (Folder::new("tls-renewed"), Authority::new("old"), Authority::new("new"));
    old.write(&folder);
    let identity = folder.identity();
    let (connector, _told) = echo(&identity);
    let kept = identity.clone();
    tokio::spawn(async move { kept.keep_fresh("the test's").await });
    let mut live = Client::of(&old).connect(connector.connect().await.unwrap()).await.unwrap();
    assert_eq!(trusted(&connector, [&old, &new]).await, [true, false]);

    let some_looks = Duration::from_secs(5);
    let before = crate::telemetry::METRICS.certificates_refused.get();
    std::fs::write(folder.files().cert, "-----BEGIN CERTIFICATE-----\nnonsense\n").unwrap();
    tokio::time::sleep(some_looks).await;
    assert!(crate::telemetry::METRICS.certificates_refused.get() > before, "it was looked at");
    assert_eq!(trusted(&connector, [&old, &new]).await, [true, false], "the old one goes on");

    new.write(&folder);
    tokio::time::sleep(some_looks).await;
    assert_eq!(trusted(&connector, [&old, &new]).await, [false, true]);
    live.write_all(b"still here").await.unwrap();
    let mut octets = [0; 10];
    live.read_exact(&mut octets).await.unwrap();
    assert_eq!(&octets, b"still here", "who is connected notices nothing");
}

#[test]
fn files_that_are_of_no_use_are_named() {
    let (folder, authority) = (Folder::new("tls-useless"), Authority::new("ours"));
    let files = folder.files();
    let wrong = |files: &TlsFiles| Identity::load(files).unwrap_err().to_string();
    let shown = |path: &Path| path.display().to_string();
    assert!(wrong(&files).starts_with(&format!("{} cannot be read: ", shown(&files.cert))));
    authority.write(&folder);
    std::fs::write(&files.cert, "").unwrap();
    assert_eq!(wrong(&files), format!("{} holds no certificate in PEM", shown(&files.cert)));
    authority.write(&folder);
    std::fs::write(&files.key, "s3cret").unwrap();
    assert_eq!(wrong(&files), format!("{} holds no private key in PEM", shown(&files.key)));
    authority.write(&folder);
    std::fs::write(&files.key, authority.signed().1).unwrap();
    let other = format!("is not the key of the certificate in {}", shown(&files.cert));
    assert_eq!(wrong(&files), format!("{} {other}", shown(&files.key)));
    authority.write(&folder);
    let mutual = TlsFiles { client_ca: Some(files.key.clone()), ..files.clone() };
    assert_eq!(wrong(&mutual), format!("{} holds no certificate in PEM", shown(&files.key)));
    assert!(Identity::load(&files).is_ok());
}
