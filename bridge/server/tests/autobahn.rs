//! The Autobahn test suite against our WebSocket wire, as a server and as a client: 301 cases each way, without compression, which is
//! not spoken here. Needs `wstest`, which `.ci/autobahn` installs, and half a minute.
#![allow(clippy::unwrap_used, reason = "a test whose ground gives way has failed")]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use ringback::listener::{Admission, Endpoint, Limits, Pages, Refusal, Server, Sources, Streams};
use ringback::net::{Listener as _, TcpListener};
use ringback::shutdown::Shutdown;
use ringback::socket::{Incoming, Outgoing, Socket, SocketOptions, close_code, dial};
use ringback::workers::Workers;
use ringback_proto::provider::{Message, OutgoingUpgrade, Transport, Upgrade};
use serde_json::{Value, json};
use support::Folder;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// The suite takes so long at most, on a machine with much else to do.
const WHOLE: Duration = Duration::from_secs(600);
const CASES: usize = 301;

/// What the suite sends is larger and quicker than any call.
const OPTIONS: SocketOptions = SocketOptions {
    max_message: 17 * 1024 * 1024,
    write_deadline: Duration::from_secs(30),
    keepalive: None,
    burst: u64::MAX,
};

/// Sends all messages back until the other end closes or fails.
async fn echo(mut socket: Socket) {
    loop {
        let incoming = match socket.recv().await {
            Some(Ok(Incoming::Close(_))) => return socket.close(close_code::NORMAL, "").await,
            Some(Ok(incoming)) => incoming,
            Some(Err(error)) => {
                if let Some(code) = error.close_code() {
                    socket.close(code, &error.to_string()).await;
                }
                return;
            }
            None => return,
        };
        let kind = match socket.message(&incoming) {
            None => continue,
            Some(Message::Text(text)) => (true, text.as_bytes().to_vec()),
            Some(Message::Binary(octets)) => (false, octets.to_vec()),
        };
        let sent = match &kind {
            (true, text) => socket.send(Outgoing::Text(std::str::from_utf8(text).unwrap())).await,
            (false, octets) => socket.send(Outgoing::Binary(octets)).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

struct Echo;

impl Streams for Echo {
    type Admitted = ();

    fn admit(
        &self,
        _: &Endpoint,
        _: &Upgrade<'_>,
        _: SocketAddr,
    ) -> Result<Admission<()>, Refusal> {
        Ok(Admission { state: (), subprotocol: None })
    }

    async fn serve(&self, (): (), socket: Socket) {
        echo(socket).await;
    }
}

fn serve_echoes() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = Endpoint {
        name: "echo".into(),
        tenant: None,
        transport: Transport::WebSocket,
        path: "/".into(),
        token_in_path: false,
        public_url: None,
        answer: None,
        max_streams: None,
        origins: Vec::new(),
        sources: Sources::default(),
        socket: OPTIONS,
    };
    let (streams, pages) = (Arc::new(Echo), Pages::default());
    let (limits, routes) = (Limits::default(), Router::new());
    let server = Server::new(
        streams,
        vec![endpoint],
        limits,
        pages,
        routes,
        Shutdown::new(),
        Workers::here(),
    );
    tokio::spawn(server.run(listener));
    address
}

/// `wstest`, where it is.
fn wstest(mode: &str, folder: &Folder, spec: &Value) -> Option<Command> {
    let program = std::env::var_os("RINGBACK_WSTEST")?;
    let spec = folder.write(&format!("{mode}.json"), &spec.to_string());
    let mut command = Command::new(program);
    command.args(["--mode", mode, "--webport", "0", "--spec"]).arg(spec);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    Some(command)
}

/// Counts verdicts of a report, prints them, and gives those that are no good.
fn verdicts(folder: &Folder, agent: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder.path("report/index.json")).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    let cases = report[agent].as_object().unwrap();
    assert_eq!(cases.len(), CASES, "{agent}: cases that were run");
    let mut by_verdict = BTreeMap::<&str, Vec<&str>>::new();
    let mut wrong = Vec::new();
    for (case, result) in cases {
        let [behavior, close] =
            ["behavior", "behaviorClose"].map(|key| result[key].as_str().unwrap());
        by_verdict.entry(behavior).or_default().push(case);
        let is_good = matches!(behavior, "OK" | "NON-STRICT" | "INFORMATIONAL");
        if !is_good || !matches!(close, "OK" | "INFORMATIONAL") {
            wrong.push(format!("{agent} {case}: {behavior}, closing {close}"));
        }
    }
    eprintln!("Autobahn, {agent}: {} cases", cases.len());
    for (verdict, cases) in by_verdict {
        let named = if verdict == "OK" { String::new() } else { format!(": {}", cases.join(", ")) };
        eprintln!("  {:>3} {verdict}{named}", cases.len());
    }
    wrong
}

const ABSENT: &str =
    "AUTOBAHN WAS NOT RUN: RINGBACK_WSTEST names no wstest; .ci/autobahn installs and names one";

#[tokio::test]
#[ignore = "needs wstest: .ci/autobahn installs it and runs this"]
async fn the_server_passes_the_autobahn_test_suite() {
    let folder = Folder::new("autobahn-server");
    let spec = json!({
        "outdir": folder.path("report"),
        "servers": [{"agent": "server", "url": format!("ws://{}", serve_echoes())}],
        "cases": ["*"],
        "exclude-cases": ["12.*", "13.*"],
        "exclude-agent-cases": {},
    });
    let mut command = wstest("fuzzingclient", &folder, &spec).expect(ABSENT);
    let status = tokio::time::timeout(WHOLE, command.status()).await.expect("it ends").unwrap();
    assert!(status.success(), "{status}");
    let wrong = verdicts(&folder, "server");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn ask(address: SocketAddr, target: String) -> Socket {
    let request = OutgoingUpgrade { target, ..OutgoingUpgrade::default() };
    let io = TcpStream::connect(address).await.unwrap();
    dial(io, &address.to_string(), &request, OPTIONS).await.unwrap()
}

/// Starts the suite's server at a free port, and waits until it listens.
async fn fuzzing_server(folder: &Folder) -> (Child, SocketAddr) {
    // It takes no port 0; what is free now is free soon.
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let spec = json!({
        "outdir": folder.path("report"),
        "url": format!("ws://{address}"),
        "cases": ["*"],
        "exclude-cases": ["12.*", "13.*"],
        "exclude-agent-cases": {},
    });
    let mut server = wstest("fuzzingserver", folder, &spec).expect(ABSENT).spawn().unwrap();
    let listening = async {
        while TcpStream::connect(address).await.is_err() {
            assert!(server.try_wait().unwrap().is_none(), "the suite's server has ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(support::PATIENCE, listening).await.expect("it listens");
    (server, address)
}

#[tokio::test]
#[ignore = "needs wstest: .ci/autobahn installs it and runs this"]
async fn the_client_passes_the_autobahn_test_suite() {
    let folder = Folder::new("autobahn-client");
    let (_server, address) = fuzzing_server(&folder).await;
    let mut socket = ask(address, "/getCaseCount".into()).await;
    let count = socket.recv().await.unwrap().unwrap();
    let Some(Message::Text(count)) = socket.message(&count) else { panic!("{count:?}") };
    let count: usize = count.parse().unwrap();
    assert_eq!(count, CASES);
    let cases = async {
        for case in 1..=count {
            echo(ask(address, format!("/runCase?case={case}&agent=client")).await).await;
        }
        echo(ask(address, "/updateReports?agent=client".into()).await).await;
    };
    tokio::time::timeout(WHOLE, cases).await.expect("it ends");
    let wrong = verdicts(&folder, "client");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
