//! The least that a module can be, at each place where one can run: it sends back the sound that it hears. Measures nothing.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Child;
use std::sync::Arc;

use axum::Router;
use ringback_echo::Echo;
use ringback_module::message::{Accept, AcceptIn, AcceptOut, Pace, Ready, Start};
use ringback_module::{CONTRACT, FromModule, ToModule};
use ringback_proto::provider::{Message, Upgrade};
use tokio::runtime::Builder;

use super::floors;
#[cfg(feature = "nats")]
use super::worker;
use crate::exit::Exit;
use crate::listener::{Admission, Endpoint, Limits, Pages, Refusal, Server, Streams};
use crate::net::{Listener as _, TcpListener};
use crate::shutdown::Shutdown;
use crate::socket::{Incoming, Outgoing, Socket, close_code};
use crate::workers::{Tick, Workers};

/// What the module hears and says, as the one in the bridge does that it is held against.
const RATE: u32 = 16_000;

/// Where a module runs that is not in the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Place {
    /// A child process of the bridge, over its standard streams.
    Stdio,
    /// A server on this machine that the bridge dials, over one WebSocket for each call.
    Websocket,
    /// A worker on a NATS server of this machine, started for it: `nats-server` must be installed.
    #[cfg(feature = "nats")]
    Nats,
}

impl Place {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdio => "stdio",
            Self::Websocket => "websocket",
            #[cfg(feature = "nats")]
            Self::Nats => "nats",
        }
    }

    /// Milliseconds that the way to such a module and back may add to the latency of a frame, at 100 calls, in the median.
    #[must_use]
    pub const fn bound_ms(self) -> f64 {
        match self {
            Self::Stdio => 0.3,
            Self::Websocket => 0.4,
            #[cfg(feature = "nats")]
            Self::Nats => 0.8,
        }
    }

    /// Starts what the bridge does not start itself; `itself` starts this very program with such arguments and tells where it listens.
    pub(super) fn prepare(
        self,
        itself: impl FnOnce(&[&str]) -> Result<(Child, String), String>,
    ) -> Result<Prepared, String> {
        let serve = ["bench", "--serve-module", self.name()];
        match self {
            Self::Stdio => Ok(Prepared::default()),
            Self::Websocket => {
                let (module, authority) = itself(&serve)?;
                Ok(Prepared { processes: Processes(vec![module]), authority })
            }
            #[cfg(feature = "nats")]
            Self::Nats => {
                let (server, authority) = worker::start_server()?;
                let mut processes = Processes(vec![server]);
                let (module, _) = itself(&[&serve[..], &["--at", &authority]].concat())?;
                processes.0.push(module);
                Ok(Prepared { processes, authority })
            }
        }
    }

    /// What is beside the module in the configuration of a bridge whose module runs there; `server` is where its server is.
    #[cfg_attr(not(feature = "nats"), expect(unused_variables, reason = "no other has any"))]
    pub(super) fn tables(self, server: &str) -> String {
        match self {
            Self::Stdio | Self::Websocket => String::new(),
            #[cfg(feature = "nats")]
            Self::Nats => format!("[nats]\nurls = [\"nats://{server}\"]\n"),
        }
    }

    /// The keys of a `[[module]]` that runs there; `server` is where, if it is a server.
    pub(super) fn keys(self, server: &str) -> String {
        match self {
            Self::Stdio => {
                let program = std::env::current_exe().unwrap_or_default();
                let program = serde_json::Value::from(program.to_string_lossy());
                format!("command = [{program}, \"bench\", \"--serve-module\", \"stdio\"]\n")
            }
            Self::Websocket => format!("url = \"ws://{server}{}\"\n", floors::PATH),
            #[cfg(feature = "nats")]
            Self::Nats => format!("kind = \"nats\"\ngroup = \"{}\"\n", worker::GROUP),
        }
    }

    /// Is the module, until whoever started it ends it; `listening` is told where, if it is a server. `at` is the server that it
    /// works on, if it does.
    ///
    /// # Errors
    /// If the system gives no runtime or no port.
    pub fn serve(
        self,
        #[cfg_attr(not(feature = "nats"), expect(unused_variables))] at: Option<SocketAddr>,
        listening: impl FnOnce(SocketAddr),
    ) -> Result<Exit, String> {
        match self {
            Self::Stdio => {
                let code = ringback_module::stdio::run("echo", || Box::new(Echo::new()));
                Ok(if code == std::process::ExitCode::SUCCESS { Exit::Ok } else { Exit::Failure })
            }
            Self::Websocket => {
                let runtime = Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
                runtime.block_on(serve_sockets(listening))?;
                Ok(Exit::Ok)
            }
            #[cfg(feature = "nats")]
            Self::Nats => {
                let runtime = Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
                let at = at.ok_or("no NATS server to work on")?;
                runtime.block_on(worker::work(at, listening))?;
                Ok(Exit::Ok)
            }
        }
    }
}

/// What a place needs beside the bridge, running.
#[derive(Default)]
pub(super) struct Prepared {
    pub(super) processes: Processes,
    /// Where the bridge finds it.
    pub(super) authority: String,
}

/// Processes that end with this.
#[derive(Default)]
pub(super) struct Processes(Vec<Child>);

impl Drop for Processes {
    fn drop(&mut self) {
        for process in self.0.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

async fn serve_sockets(listening: impl FnOnce(SocketAddr)) -> Result<(), String> {
    let failed = |error| format!("cannot listen: {error}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into()).map_err(failed)?;
    listening(listener.local_addr().map_err(failed)?);
    let limits =
        Limits { max_connections: floors::MAX, max_streams: floors::MAX, ..Limits::default() };
    let workers = Workers::start(1, Tick::Off).map_err(failed)?;
    let (shutdown, pages) = (Shutdown::new(), Pages::default());
    let sessions = Arc::new(Sessions);
    Server::new(
        sessions,
        vec![floors::endpoint()],
        limits,
        pages,
        Router::new(),
        shutdown,
        workers,
    )
    .run(listener)
    .await;
    Ok(())
}

/// Each connection is a session.
struct Sessions;

impl Streams for Sessions {
    type Admitted = ();

    fn admit(
        &self,
        _: &Endpoint,
        _: &Upgrade<'_>,
        _: SocketAddr,
    ) -> Result<Admission<()>, Refusal> {
        Ok(Admission { state: (), subprotocol: Some(CONTRACT.into()) })
    }

    async fn serve(&self, (): (), mut socket: Socket) {
        let mut sound = Vec::new();
        while let Some(Ok(incoming)) = socket.recv().await {
            let answer = match socket.message(&incoming) {
                Some(Message::Binary(octets)) => {
                    sound.clear();
                    sound.extend_from_slice(octets);
                    None
                }
                Some(Message::Text(text)) => match answer(text) {
                    Some(answer) => serde_json::to_string(&answer).ok(),
                    None => continue,
                },
                None if matches!(incoming, Incoming::Close(_)) => break,
                None => continue,
            };
            let answer = answer.as_deref().map_or(Outgoing::Binary(&sound), Outgoing::Text);
            if socket.send(answer).await.is_err() {
                return;
            }
        }
        socket.close(close_code::NORMAL, "").await;
    }
}

/// What the module says to a message, if anything.
pub(super) fn answer(text: &str) -> Option<FromModule> {
    match serde_json::from_str(text).ok()? {
        ToModule::Start(start) => Some(FromModule::Ready(ready(&start))),
        ToModule::Ping { t } => Some(FromModule::Pong { t }),
        ToModule::Stop { .. } => Some(FromModule::Done { stats: serde_json::Map::new() }),
        _ => None,
    }
}

/// Bare sound both ways, so that what comes can go back as it is.
fn ready(start: &Start) -> Ready {
    let output = AcceptOut { pace: Pace::Live, ..AcceptOut::pcm(RATE) };
    let accept =
        Accept { input: Some(AcceptIn::pcm(RATE)), output: Some(output), ..Accept::default() };
    Ready { session: start.session.clone(), accept, ..Ready::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_to_what_the_module_in_the_bridge_does() {
        let start = r#"{"type": "start", "v": 1, "session": "s", "call": {"id": "c", "provider": "raw"},
            "offer": {"tracks": [{"id": 0, "role": "caller"}], "in": [], "out": []}}"#;
        let Some(FromModule::Ready(ready)) = answer(start) else { panic!("it must be ready") };
        assert_eq!(ready.session, "s");
        assert_eq!(ready.accept.input.map(|input| input.rate), Some(RATE));
        assert_eq!(answer(r#"{"type": "ping", "t": 7}"#), Some(FromModule::Pong { t: 7 }));
        assert_eq!(answer(r#"{"type": "vad"}"#), None);
    }
}
