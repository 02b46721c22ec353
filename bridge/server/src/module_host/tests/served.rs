//! A module acted out behind a WebSocket in memory; a mode says how it misbehaves. What `test_module.py` is to child processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringback_proto::provider::{Message, Secret};

use super::*;
use crate::client::WsUrl;
use crate::net::{self, Listener as _, MemoryListener};
use crate::outgoing::Connector;
use crate::socket::{self, Incoming, Outgoing, Socket, SocketOptions};

/// Octets under way to a module, as the system holds them.
const BUFFER: usize = 64 * 1024;

/// Servers in memory, one for each module; knows how often one was dialled.
pub(super) struct Served {
    pub(super) spec: WebSocketSpec,
    pub(super) dialled: Arc<AtomicUsize>,
}

/// Serves one kind of module.
pub(super) fn serve(mode: &'static str) -> Served {
    let (listener, connector) = net::memory(BUFFER);
    let dialled = Arc::new(AtomicUsize::new(0));
    tokio::spawn(attend(mode, listener, Arc::clone(&dialled)));
    let spec = WebSocketSpec {
        name: mode.to_owned(),
        url: WsUrl::plain("module:80".into(), "/m?key=hidden".into()),
        token: Some(Secret::from("t0ken")),
        connector: Arc::new(Connector::in_memory(connector)),
    };
    Served { spec, dialled }
}

async fn attend(mode: &'static str, mut listener: MemoryListener, dialled: Arc<AtomicUsize>) {
    while let Ok((io, _)) = listener.accept().await {
        dialled.fetch_add(1, Ordering::SeqCst);
        let options = SocketOptions {
            max_message: 1 << 20,
            keepalive: None,
            burst: u64::MAX,
            ..SocketOptions::default()
        };
        let Ok(socket) = socket::answer(io, options).await else { continue };
        tokio::spawn(Acted { mode, side: socket }.run());
    }
}

/// One session of a module, whatever carries it.
pub(super) struct Acted<S> {
    pub(super) mode: &'static str,
    pub(super) side: S,
}

/// The session is over.
pub(super) struct Over;

/// What came from the bridge.
pub(super) enum Came {
    Text(Value),
    Sound(Vec<u8>),
}

/// The module's end of what carries a session.
pub(super) trait Side: Send {
    fn next(&mut self) -> impl Future<Output = Result<Came, Over>> + Send;
    fn text(&mut self, text: &str) -> impl Future<Output = Result<(), Over>> + Send;
    fn sound(&mut self, octets: &[u8]) -> impl Future<Output = Result<(), Over>> + Send;
    /// Goodbye, where dropping it says nothing.
    fn leave(&mut self) -> impl Future<Output = ()> + Send;
}

impl Side for Socket {
    async fn next(&mut self) -> Result<Came, Over> {
        loop {
            let Some(Ok(came)) = self.recv().await else { return Err(Over) };
            if let Incoming::Close(_) = came {
                return Err(Over);
            }
            match self.message(&came) {
                Some(Message::Text(text)) => {
                    return Ok(Came::Text(serde_json::from_str(text).unwrap()));
                }
                Some(Message::Binary(octets)) => return Ok(Came::Sound(octets.to_vec())),
                None => {}
            }
        }
    }

    async fn text(&mut self, text: &str) -> Result<(), Over> {
        self.send(Outgoing::Text(text)).await.map_err(|_| Over)
    }

    async fn sound(&mut self, octets: &[u8]) -> Result<(), Over> {
        self.send(Outgoing::Binary(octets)).await.map_err(|_| Over)
    }

    async fn leave(&mut self) {}
}

impl<S: Side> Acted<S> {
    pub(super) async fn run(mut self) {
        while let Ok(()) = self.once().await {}
        match self.mode {
            // Some hold the connection and do nothing.
            "hang" | "late" | "slow" => tokio::time::sleep(Duration::from_secs(600)).await,
            "crash" => {}
            _ => self.side.leave().await,
        }
    }

    async fn say(&mut self, message: Value) -> Result<(), Over> {
        self.side.text(&message.to_string()).await
    }

    async fn event(&mut self, name: &str, data: Value) -> Result<(), Over> {
        self.say(json!({"type": "event", "name": name, "data": data})).await
    }

    async fn sound(&mut self, octets: &[u8]) -> Result<(), Over> {
        self.side.sound(octets).await
    }

    /// Takes one message.
    async fn once(&mut self) -> Result<(), Over> {
        let message = match self.side.next().await? {
            Came::Text(message) => message,
            Came::Sound(_) if self.mode == "crash" => return Err(Over),
            Came::Sound(octets) => return self.sound(&octets).await,
        };
        match message["type"].as_str().unwrap() {
            "ping" => self.say(json!({"type": "pong", "t": message["t"]})).await,
            "start" => self.start(&message).await,
            "stop" if self.mode == "deaf" => Ok(()),
            "stop" if self.mode == "leave" => Err(Over),
            "stop" => {
                self.event("stopping", message["reason"].clone()).await?;
                self.say(json!({"type": "done", "stats": {"n": 1}})).await
            }
            _ => self.event("told", message).await,
        }
    }

    async fn start(&mut self, start: &Value) -> Result<(), Over> {
        match self.mode {
            "reject" => {
                let no = json!({"type": "reject", "code": "bad_config", "message": "as told"});
                return self.say(no).await;
            }
            "busy" => {
                let no = json!({"type": "reject", "code": "busy", "message": "8 of 8",
                    "retryable": true, "retry_after_ms": 7_000});
                return self.say(no).await;
            }
            "late" => return Err(Over),
            "mute" => self.sound(&[0; 4]).await?,
            "nonsense" => self.say(json!({"type": "transcript", "id": 5, "text": null})).await?,
            _ => {}
        }
        let framing = if self.mode == "hdr16" { "hdr16" } else { "raw" };
        let pcm = json!({"encoding": "pcm_s16le", "rate": 8000});
        let ready = json!({"type": "ready",
            "accept": {"in": pcm, "out": pcm, "tracks": [0], "framing": framing}});
        self.say(ready.clone()).await?;
        let started = json!({"resume": start["resume"], "session": start["session"]});
        self.event("started", started).await?;
        match self.mode {
            "hang" | "slow" => Err(Over),
            "twice" => self.say(ready).await,
            "flood" => {
                // Not for ever: what never pauses lets no virtual time pass.
                for _ in 0..330 {
                    self.sound(&[0; 16_000]).await?;
                }
                Ok(())
            }
            "babble" => {
                for n in 0..1_200 {
                    self.event("babble", json!(n)).await?;
                }
                Ok(())
            }
            "garbage" => self.side.text("hello").await,
            "oversize" => self.sound(&[0; 262_146]).await,
            "odd" => self.sound(&[0; 3]).await,
            "fatal" => {
                let error = json!({"type": "error", "code": "vendor", "message": "no key",
                    "fatal": true});
                self.say(error).await
            }
            _ => Ok(()),
        }
    }
}
