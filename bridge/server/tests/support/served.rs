//! A module of the Python kit elsewhere: a server, which bridges dial, or a worker, which dials a bridge. What it hears, it tells; see
//! `served_ears.py`.

use std::net::SocketAddr;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::{NODE, PYTHON, root, soon};

/// The token it wants.
pub const TOKEN: &str = "t0ken";

/// Serves on `address`; the process, which is killed with this, and where it is.
pub async fn served_ears(address: &str) -> (Child, String) {
    let mut command = Command::new(PYTHON);
    command.arg(root().join("bridge/server/tests/support/served_ears.py"));
    command.args(["--serve", address]).env("RINGBACK_TOKEN", TOKEN);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut server = command.spawn().unwrap();
    let mut told = BufReader::new(server.stdout.take().unwrap()).lines();
    let told = soon("that it listens", told.next_line()).await.unwrap().expect("a line");
    let authority = told.split_once("ws://").expect("its URL").1.trim_end_matches('/');
    (server, authority.to_owned())
}

/// A worker that has registered with the bridge at `address`, for its module `ears`; killed with this.
pub async fn worker_ears(address: SocketAddr) -> Child {
    worker(PYTHON, "served_ears.py", address).await
}

/// The same in TypeScript.
pub async fn worker_ears_in_typescript(address: SocketAddr) -> Child {
    worker(NODE, "ears.mjs", address).await
}

async fn worker(interpreter: &str, script: &str, address: SocketAddr) -> Child {
    let mut command = Command::new(interpreter);
    command.arg(root().join("bridge/server/tests/support").join(script));
    command.args(["--connect", &format!("ws://{address}/modules/ears")]);
    command.env("RINGBACK_TOKEN", TOKEN);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut worker = command.spawn().unwrap();
    let mut told = BufReader::new(worker.stdout.take().unwrap()).lines();
    let told = soon("that it is registered", told.next_line()).await.unwrap().expect("a line");
    assert!(told.starts_with("ears, ") && told.contains("at a time: ws://"), "{told}");
    worker
}
