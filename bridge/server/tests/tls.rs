//! Calls by TLS to the bridge as a process, and its certificate exchanged while they go on.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "a test whose ground gives way has failed")]

mod support;

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use ringback::client::WsUrl;
use ringback::clock::Clock;
use ringback::outgoing::{ConnectError, Connector, Peer, Trust};
use ringback::socket::{Incoming, Outgoing, SocketOptions, dial};
use ringback_proto::provider::{Message, OutgoingUpgrade};
use support::{Folder, Process, quoted, ringback, run, soon};

/// An authority of that name, its certificate in `<name>.pem`.
fn authority(folder: &Folder, name: &str) -> Issuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    folder.write(&format!("{name}.pem"), &params.self_signed(&key).unwrap().pem());
    Issuer::new(params, key)
}

/// A certificate for this machine, where the bridge looks for it.
fn certify(folder: &Folder, by: &Issuer<'static, KeyPair>) {
    let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    folder.write("cert.pem", &params.signed_by(&key, by).unwrap().pem());
    folder.write("key.pem", &key.serialize_pem());
}

fn serve(folder: &Folder) -> Process {
    let file = |name: &str| quoted(folder.path(name).display());
    let toml = format!(
        "[server]\ntls = {{ cert = {}, key = {} }}\n[[listener]]\nname = \"raw\"\npath = \"/raw\"\nprovider = \"raw\"\n\
         [[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n[[route]]\nname = \"default\"\nmodules = [\"echo\"]\nspeaker = \"echo\"\n",
        file("cert.pem"),
        file("key.pem")
    );
    let path = folder.write("ringback.toml", &toml).display().to_string();
    Process::serve(&["--config", &path], &[])
}

fn connector(ca: &Path) -> Connector {
    Connector::new(Trust::File(ca.to_owned()))
}

fn peer(process: &Process) -> Peer {
    Peer { authority: process.address.clone(), secure: true }
}

#[tokio::test]
async fn calls_come_by_tls_and_a_new_certificate_is_shown_on_sighup() {
    let folder = Folder::new("tls-served");
    let (old, new) = (authority(&folder, "old"), authority(&folder, "new"));
    certify(&folder, &old);
    let process = serve(&folder);
    let url = format!("wss://{}/raw", process.address);
    assert!(process.greeting.contains("  wss://"), "{}", process.greeting);
    assert!(process.greeting.contains("listening on https://"), "{}", process.greeting);

    let to: WsUrl = url.parse().unwrap();
    let io = soon("TLS", connector(&folder.path("old.pem")).connect(&to.peer())).await.unwrap();
    let request = OutgoingUpgrade { target: "/raw".into(), ..OutgoingUpgrade::default() };
    let mut live = dial(io, to.host(), &request, SocketOptions::default()).await.unwrap();

    certify(&folder, &new);
    process.signal("HUP");
    process.logged("certificate read again: new connections are shown it");
    let refused = connector(&folder.path("old.pem")).connect(&peer(&process)).await;
    assert!(
        matches!(refused, Err(ConnectError::Certificate(_))),
        "the new one is not the old one's"
    );
    connector(&folder.path("new.pem")).connect(&peer(&process)).await.unwrap();

    std::fs::write(folder.path("key.pem"), "nothing of use").unwrap();
    process.signal("HUP");
    let log = process.logged("certificate read again and not taken");
    assert!(log.contains("holds no private key in PEM"), "{log}");
    connector(&folder.path("new.pem")).connect(&peer(&process)).await.unwrap();

    // The call that began with the first certificate goes on.
    let clock = Clock::start();
    live.send(Outgoing::Binary(&[1; 640])).await.unwrap();
    loop {
        let incoming = soon("the echo", live.recv()).await.unwrap().unwrap();
        if let (Incoming::Message(_), Some(Message::Binary(octets))) =
            (&incoming, live.message(&incoming))
        {
            assert!(!octets.is_empty(), "after {:?}", clock.now());
            break;
        }
    }
    live.close(1000, "").await;
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
}

#[test]
fn a_certificate_of_no_use_is_said_before_anything_starts() {
    let folder = Folder::new("tls-nothing");
    certify(&folder, &authority(&folder, "old"));
    std::fs::write(folder.path("cert.pem"), "").unwrap();
    let file = |name: &str| quoted(folder.path(name).display());
    let toml =
        format!("[server]\ntls = {{ cert = {}, key = {} }}\n", file("cert.pem"), file("key.pem"));
    let path = folder.write("ringback.toml", &toml);
    let mut command = ringback(["serve".as_ref(), "--config".as_ref(), path.as_os_str()]);
    let finished = run(&mut command, support::PATIENCE);
    assert_eq!(finished.code, Some(64));
    let expected =
        format!("`tls` of [server]: {} holds no certificate", folder.path("cert.pem").display());
    assert!(finished.stderr.contains(&expected), "{}", finished.stderr);
}
