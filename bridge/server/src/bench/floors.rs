//! The least that any server of such streams must do: send back what comes, over bare TCP or over WebSockets. Knows no calls.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use ringback_proto::provider::{Message, Transport, Upgrade};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Builder;

use crate::listener::{Admission, Endpoint, Limits, Pages, Refusal, Server, Sources, Streams};
use crate::net::{Listener as _, TcpListener};
use crate::shutdown::Shutdown;
use crate::socket::{Incoming, Outgoing, Socket, SocketOptions, close_code};
use crate::workers::{Tick, Workers};

/// What a connection is read into; as much as a call of ours has.
const BUFFER: usize = 4 * 1024;
/// Where WebSockets are taken.
pub(super) const PATH: &str = "/echo";
/// Connections at a time.
pub(super) const MAX: usize = 100_000;

/// A floor to stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Floor {
    /// Octets come back as they went, over bare TCP.
    TcpEcho,
    /// Messages come back as they went, over a WebSocket.
    WsEcho,
}

impl Floor {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TcpEcho => "tcp-echo",
            Self::WsEcho => "ws-echo",
        }
    }

    /// Serves on a free port of this machine until the process is ended, on one thread: bare TCP on this one, WebSockets on one like
    /// those of a bridge. `listening` is told the address.
    ///
    /// # Errors
    /// If the system gives no runtime or no port.
    pub fn serve(self, tick: Tick, listening: impl FnOnce(SocketAddr)) -> Result<(), String> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start: {error}"))?;
        runtime.block_on(async {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let failed = |error| format!("cannot listen: {error}");
            match self {
                Self::TcpEcho => {
                    let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
                    listening(listener.local_addr().map_err(failed)?);
                    tcp_echo(listener).await;
                }
                Self::WsEcho => {
                    let listener = TcpListener::bind(address).map_err(failed)?;
                    listening(listener.local_addr().map_err(failed)?);
                    let workers = Workers::start(1, tick).map_err(failed)?;
                    ws_echo(listener, workers).await;
                }
            }
            Ok(())
        })
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

async fn tcp_echo(listener: tokio::net::TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(echo_octets(stream));
    }
}

async fn echo_octets(mut stream: TcpStream) {
    let mut buffer = vec![0; BUFFER];
    if stream.set_nodelay(true).is_err() {
        return;
    }
    while let Ok(octets @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..octets]).await.is_err() {
            return;
        }
    }
}

async fn ws_echo(listener: TcpListener, workers: Workers) {
    let limits = Limits { max_connections: MAX, max_streams: MAX, ..Limits::default() };
    let shutdown = Shutdown::new();
    let routes = Router::new();
    let server = Server::new(
        Arc::new(Echo),
        vec![endpoint()],
        limits,
        Pages::default(),
        routes,
        shutdown,
        workers,
    );
    server.run(listener).await;
}

/// Where WebSockets are taken from anybody.
pub(super) fn endpoint() -> Endpoint {
    Endpoint {
        name: "echo".into(),
        transport: Transport::WebSocket,
        path: PATH.into(),
        public_url: None,
        max_streams: None,
        token_in_path: false,
        tenant: None,
        answer: None,
        origins: Vec::new(),
        sources: Sources::default(),
        socket: SocketOptions::default(),
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

    async fn serve(&self, (): (), mut socket: Socket) {
        let mut octets = Vec::new();
        while let Some(Ok(incoming)) = socket.recv().await {
            let is_text = match socket.message(&incoming) {
                Some(Message::Text(text)) => {
                    octets.extend_from_slice(text.as_bytes());
                    true
                }
                Some(Message::Binary(binary)) => {
                    octets.extend_from_slice(binary);
                    false
                }
                None if matches!(incoming, Incoming::Close(_)) => break,
                None => continue,
            };
            let message = match std::str::from_utf8(&octets) {
                Ok(text) if is_text => Outgoing::Text(text),
                _ => Outgoing::Binary(&octets),
            };
            if socket.send(message).await.is_err() {
                return;
            }
            octets.clear();
        }
        socket.close(close_code::NORMAL, "").await;
    }
}
