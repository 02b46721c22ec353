//! A bridge as a process with few descriptors: it refuses in time and says why, goes on when there are none, and recovers.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test whose ground gives way has failed")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use ringback::socket::{DialError, Incoming, Outgoing, Socket, SocketOptions, dial};
use ringback_proto::provider::OutgoingUpgrade;
use support::{Folder, PATIENCE, Process, soon};

const DESCRIPTORS: usize = 100;

/// A bridge that may open so many descriptors, where one address may have all connections.
fn serve(folder: &Folder) -> Process {
    let toml = "[limits]\nmax_connections_per_address = 5000\n\
        [[listener]]\nname = \"raw\"\npath = \"/raw\"\nprovider = \"raw\"\n[[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n\
        [[route]]\nname = \"default\"\nmodules = [\"echo\"]\nspeaker = \"echo\"\n";
    let file = folder.write("ringback.toml", toml);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {DESCRIPTORS} && exec \"$0\" \"$@\"")]);
    command.arg(env!("CARGO_BIN_EXE_ringback"));
    command.args(["serve", "--threads", "1", "--bind", "127.0.0.1:0", "--config"]).arg(file);
    command.env_remove("RINGBACK_LOG").env_remove("RINGBACK_BIND");
    Process::start(&mut command)
}

/// What a page says; nothing if no connection is to be had.
fn page(process: &Process, path: &str) -> String {
    let mut text = String::new();
    if let Ok(mut stream) = TcpStream::connect(&process.address) {
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let _ = write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let _ = stream.read_to_string(&mut text);
    }
    text
}

/// Waits until a page says `what`.
fn until(process: &Process, path: &str, what: &str) -> String {
    let tries = PATIENCE.as_millis() / 100;
    for _ in 0..tries {
        let text = page(process, path);
        if text.contains(what) {
            return text;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{path} never said {what:?}: {}", page(process, path));
}

fn figure(text: &str, name: &str) -> usize {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap().parse().unwrap()
}

fn connections(process: &Process, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(&process.address).unwrap()).collect()
}

async fn call(process: &Process) -> Result<Socket, DialError> {
    let io = tokio::net::TcpStream::connect(&process.address).await.unwrap();
    let request = OutgoingUpgrade { target: "/raw".into(), ..OutgoingUpgrade::default() };
    dial(io, "localhost", &request, SocketOptions::default()).await
}

/// Speaks, and waits until something comes back.
async fn is_alive(socket: &mut Socket) {
    socket.send(Outgoing::Binary(&[0; 640])).await.unwrap();
    while !matches!(soon("the echo", socket.recv()).await, Some(Ok(Incoming::Message(_)))) {}
}

#[tokio::test]
async fn calls_are_refused_with_the_reason_before_descriptors_run_out() {
    let folder = Folder::new("overload-reserve");
    let process = serve(&folder);
    let text = until(&process, "/metrics", &format!("ringback_descriptors_limit {DESCRIPTORS}"));
    let used = figure(&text, "ringback_descriptors");
    let mut live = call(&process).await.unwrap();
    // Silent ones are closed after five seconds, which is long enough to be seen.
    let held = connections(&process, DESCRIPTORS * 94 / 100 - used - 1);
    let ready = until(&process, "/readyz", "busy\n");
    assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
    assert!(ready.contains("new calls are refused (descriptors): "), "{ready}");
    match call(&process).await.unwrap_err() {
        DialError::Refused { status: 503, retry_after: Some(5), .. } => {}
        other => panic!("{other}"),
    }
    let mut stream = TcpStream::connect(&process.address).unwrap();
    let upgrade = "GET /raw HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).unwrap();
    let mut refused = String::new();
    stream.read_to_string(&mut refused).unwrap();
    assert!(refused.contains("x-ringback-reason: descriptors\r\n"), "{refused}");
    is_alive(&mut live).await;
    drop(held);
    until(&process, "/readyz", "HTTP/1.1 200 ");
    let mut next = call(&process).await.unwrap();
    is_alive(&mut next).await;
    process.signal("TERM");
    drop((live, next));
    process.finish();
}

#[tokio::test]
async fn a_bridge_without_a_descriptor_left_goes_on_and_recovers() {
    let folder = Folder::new("overload-none");
    let process = serve(&folder);
    let mut live = call(&process).await.unwrap();
    let held = connections(&process, 2 * DESCRIPTORS);
    process.logged("cannot take connections");
    is_alive(&mut live).await;
    drop(held);
    until(&process, "/readyz", "HTTP/1.1 200 ");
    let mut next = call(&process).await.unwrap();
    is_alive(&mut next).await;
    is_alive(&mut live).await;
    process.signal("TERM");
    drop((live, next));
    process.finish();
}
