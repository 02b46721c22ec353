//! The bridge as a client, over real sockets: calls through TLS, and calls that a provider's API is asked to end. Each way a request can go
//! wrong is tested beside its code.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "a test whose ground gives way has failed")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use ringback::client::{CallEvent, Client, ClientError, WsUrl};
use ringback::outgoing::{ConnectError, Connector, Trust};
use ringback_proto::provider::{self, Dial};
use ringback_proto::session::{EndReason, Report};
use support::{Folder, Host, TOKEN, quoted, served_ears, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

const ECHO: &str = "[[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n";

/// TLS in front of `behind`, as a proxy would end it: its port, and a file with the only authority to trust.
async fn behind_tls(behind: SocketAddr, folder: &Folder) -> (u16, std::path::PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut outside) = acceptor.accept(stream).await else { return };
                let mut inside = TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    (port, folder.write("ca.pem", &made.cert.pem()))
}

#[tokio::test]
async fn a_call_through_tls_is_a_call_like_any_other() {
    let folder = Folder::new("wss");
    let host = Host::on_loopback(ECHO);
    let (port, ca) = behind_tls(host.address, &folder).await;
    let url: WsUrl = format!("wss://localhost:{port}/telnyx").parse().unwrap();
    let telnyx = provider::find("telnyx").unwrap();
    let (clock, dial) = (host.clock, Dial { call: "v3:tls".into(), ..Dial::default() });

    let connector = Connector::new(Trust::File(ca));
    let client = Client::connect(clock, &connector, &url, telnyx, dial.clone(), true).await;
    let mut client = client.unwrap();
    client.speak(&[1_000; 8_000]);
    soon("the echo", async {
        // Not all of it: with nothing to wait for, a busy machine makes the bridge catch up.
        while client.counters().samples_received < 160 {
            client.next().await.unwrap();
        }
    })
    .await;
    client.hang_up().await.unwrap();
    assert_eq!(host.log.ended("v3:tls").await.reason, EndReason::Remote);

    // Who does not trust its authority is told so, and says nothing to it.
    let strangers = Connector::default();
    let refused = Client::connect(clock, &strangers, &url, telnyx, dial, true).await;
    let error = refused.map(drop).unwrap_err();
    let told = matches!(
        &error,
        ClientError::Connect { error: ConnectError::Certificate(_) | ConnectError::Trust(_), .. }
    );
    assert!(told, "{error}");
    host.stop().await;
}

#[tokio::test]
async fn a_module_by_tls_must_be_vouched_for_by_whom_it_is_said_to_be() {
    let folder = Folder::new("module-wss");
    let token = folder.write("token", TOKEN);
    let (_server, authority) = served_ears("127.0.0.1:0").await;
    let (port, ca) = behind_tls(authority.parse().unwrap(), &folder).await;
    let module = |name: &str, keys: &str| {
        format!(
            "[[module]]\nname = \"{name}\"\nurl = \"wss://localhost:{port}/ears\"\ntoken = {}\nready_timeout = \"20s\"\n{keys}\n",
            quoted(format!("file:{}", token.display()))
        )
    };
    let toml = [
        module("vouched", &format!("ca_file = {}", quoted(ca.display()))),
        module("stranger", ""),
        "[[route]]\nname = \"default\"\nmodules = [\"vouched\", \"stranger\"]\n".into(),
    ];
    let host = Host::on_loopback(&toml.concat());
    let url: WsUrl = format!("ws://{}/telnyx", host.address).parse().unwrap();
    let telnyx = provider::find("telnyx").unwrap();
    let dial = Dial { call: "v3:module".into(), ..Dial::default() };
    let connector = Connector::default();
    let client = Client::connect(host.clock, &connector, &url, telnyx, dial, false).await;
    let mut client = client.unwrap();
    let ready = |report: &Report| matches!(report, Report::ModuleReady(_));
    let refused = |report: &Report| matches!(report, Report::ModuleFailed { reason, .. } if reason.contains("cannot connect"));
    {
        let mut told = std::pin::pin!(async {
            host.log.module("vouched", "ready", ready).await;
            host.log.module("stranger", "refused", refused).await;
        });
        loop {
            tokio::select! {
                () = &mut told => break,
                event = client.next() => drop(event.unwrap()),
            }
        }
    }
    client.hang_up().await.unwrap();
    let summary = host.log.ended("v3:module").await;
    let starts = |name: &str| summary.modules.iter().find(|m| m.name == name).unwrap().starts;
    assert_eq!((starts("vouched"), starts("stranger")), (1, 1), "trust does not come by waiting");
    host.stop().await;
}

/// What a request was, and how to answer it.
type Asked = (String, oneshot::Sender<&'static str>);

/// A provider's API whose answers the test gives.
async fn api() -> (String, mpsc::Receiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, asked) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = String::new();
            while !request.contains("\r\n\r\n{}") {
                let mut octets = [0; 1024];
                let count = stream.read(&mut octets).await.unwrap();
                request.push_str(std::str::from_utf8(&octets[..count]).unwrap());
            }
            let (answer, given) = oneshot::channel();
            sender.send((request, answer)).await.unwrap();
            let status = given.await.unwrap();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, asked)
}

/// A bridge whose only module says a word and hangs up.
fn brief(api: &str, folder: &Folder) -> Host {
    let key = folder.write("key", "s3cret\n");
    let word = folder.path("word.wav");
    let rate = ringback_codecs::SampleRate::new(8_000).unwrap();
    let file = std::io::BufWriter::new(std::fs::File::create(&word).unwrap());
    let mut writer = ringback_codecs::wav::Writer::new(file, rate, 1).unwrap();
    writer.write(&[1_000; 800]).unwrap();
    writer.finish().unwrap();
    let (word, key) = (quoted(word.display()), quoted(format!("file:{}", key.display())));
    Host::on_loopback(&format!(
        "[[listener]]
name = \"telnyx\"
path = \"/telnyx\"
provider = \"telnyx\"
hangup = {{ kind = \"rest\", token = {key}, base_url = \"{api}\" }}
[[module]]
name = \"player\"
builtin = \"player\"
config = {{ path = {word}, hangup = true }}
[[route]]
name = \"default\"
modules = [\"player\"]
speaker = \"player\"
"
    ))
}

async fn caller(host: &Host) -> Client {
    let url = WsUrl::plain(host.address.to_string(), "/telnyx".into());
    let dial = Dial { call: "v3:brief".into(), ..Dial::default() };
    let telnyx = provider::find("telnyx").unwrap();
    let connector = Connector::default();
    let client = Client::connect(host.clock, &connector, &url, telnyx, dial, false).await;
    let mut client = client.unwrap();
    client.speak(&[1_000; 80_000]);
    client
}

/// What the bridge asks the API, while the caller goes on to speak and the stream stays open.
async fn next(asked: &mut mpsc::Receiver<Asked>, client: &mut Client) -> Asked {
    soon("a request to the API", async {
        loop {
            tokio::select! {
                asked = asked.recv() => return asked.unwrap(),
                event = client.next() => {
                    let event = event.unwrap();
                    assert!(!matches!(event, Some(CallEvent::Closed { .. }) | None), "{event:?}");
                }
            }
        }
    })
    .await
}

async fn closed(client: &mut Client) -> u16 {
    soon("the end of the stream", async {
        loop {
            if let Some(CallEvent::Closed { code, .. }) = client.next().await.unwrap() {
                return code;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_module_that_hangs_up_ends_the_call_at_the_provider_and_then_the_stream() {
    let folder = Folder::new("hangup-api");
    let (url, mut asked) = api().await;
    let host = brief(&url, &folder);
    let mut client = caller(&host).await;
    let (request, answer) = next(&mut asked, &mut client).await;
    assert!(
        request.starts_with("POST /v2/calls/v3%3Abrief/actions/hangup HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(request.contains("\r\nauthorization: Bearer s3cret\r\n"), "{request}");
    answer.send("200 OK").unwrap();
    assert_eq!(closed(&mut client).await, 1000);
    let summary = host.log.ended("v3:brief").await;
    assert!(matches!(summary.reason, EndReason::Hangup { .. }), "{:?}", summary.reason);
    let unbalanced: Vec<_> = summary.ledger.unbalanced().map(ToString::to_string).collect();
    assert!(unbalanced.is_empty(), "{unbalanced:?}");
    host.stop().await;
}

#[tokio::test]
async fn a_call_that_the_api_will_not_end_loses_its_stream_all_the_same() {
    let folder = Folder::new("hangup-refused");
    let (url, mut asked) = api().await;
    let host = brief(&url, &folder);
    let mut client = caller(&host).await;
    let (_, answer) = next(&mut asked, &mut client).await;
    answer.send("403 Forbidden").unwrap();
    assert_eq!(closed(&mut client).await, 1000);
    host.log.ended("v3:brief").await;
    host.stop().await;
}

#[tokio::test]
async fn a_provider_that_closes_before_its_api_has_answered_ends_the_call() {
    let folder = Folder::new("hangup-early");
    let (url, mut asked) = api().await;
    let host = brief(&url, &folder);
    let mut client = caller(&host).await;
    let (_, answer) = next(&mut asked, &mut client).await;
    client.hang_up().await.unwrap();
    let summary = host.log.ended("v3:brief").await;
    assert!(matches!(summary.reason, EndReason::Hangup { .. }), "{:?}", summary.reason);
    answer.send("200 OK").unwrap();
    host.stop().await;
}
