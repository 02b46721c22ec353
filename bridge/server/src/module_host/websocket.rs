//! A module at the other end of a WebSocket that the bridge dials, one connection for each session. Accepts no connection.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use ringback_module::CONTRACT;
use ringback_module::message::Start;
use ringback_module::wire::{Frame, FrameKind, MAX_BODY, STDIO_HEADER};
use ringback_proto::provider::{Message, OutgoingUpgrade, Secret};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::close::{farewell, left};
use super::listen::{Heard, Listener};
use super::restart::{Ground, called_off, shortened, supervise};
use super::talk::{BREACH, Broken, Carry, End, Failure, SLOT, Talk};
use super::{FromHost, Hosted, Inbox, seat};
use crate::client::WsUrl;
use crate::outgoing::{ConnectError, Connector};
use crate::socket::wire::Kind;
use crate::socket::{self, DialError, Incoming, Socket, SocketError, SocketOptions, close_code};

/// A module that has taken nothing for so long is given up, even if it is the call that holds it up.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// Where a module is dialled.
#[derive(Debug, Clone)]
pub struct WebSocketSpec {
    /// Name of the module, for the log.
    pub name: String,
    /// The server.
    pub url: WsUrl,
    /// Sent as `Authorization: Bearer`.
    pub token: Option<Secret>,
    /// Opens the connection, and knows whom to trust.
    pub connector: Arc<Connector>,
}

/// Dials a module that speaks `ringback.v1`. Must be called within a runtime.
///
/// Deadlines and credit are those of `start`; connecting counts towards `ready_ms`. A connection that is refused or cut, and one
/// whose module hangs, breaks the contract, or is busy for now, is dialled again unless the session is being stopped: 100 ms later,
/// then twice as long each time up to 5 s, up to a quarter less by chance, or when the module asked for; ten times a minute at most.
#[must_use]
pub fn spawn_websocket(spec: WebSocketSpec, start: Start) -> Hosted {
    let (hosted, seat) = seat();
    tokio::spawn(supervise(spec, start, seat));
    hosted
}

impl Ground for WebSocketSpec {
    /// Servers are replaced in half a minute: that is how far these reach.
    const MOST: usize = 10;
    const AGAIN: &str = "dialled again";

    fn name(&self) -> &str {
        &self.name
    }

    fn pause(&self, pause: Duration) -> Duration {
        shortened(pause)
    }

    async fn run(&self, start: &Start, to: &mut Inbox, from: &mpsc::Sender<FromHost>) -> End {
        let talk = Talk::new(&self.name, start, from);
        let limit = Duration::from_millis(start.limits.ready_ms);
        let dialled = tokio::select! {
            dialled = timeout(limit, self.dial()) => dialled,
            end = called_off(to) => return end,
        };
        let socket = match dialled {
            Ok(Ok(socket)) => Mutex::new(socket),
            Ok(Err(end)) => return end,
            Err(_elapsed) => return self.placed(talk.not_ready()),
        };
        // Unbiased: whoever is always ready must not keep the others from their turn.
        let end = tokio::select! {
            end = listen(&talk, &socket) => end,
            end = talk.write(Mouth(&socket), to) => end,
            end = talk.watch() => end,
        };
        let (code, reason) = farewell(&end, talk.is_stopping());
        let socket = socket.into_inner().unwrap_or_else(PoisonError::into_inner);
        tokio::spawn(socket.close(code, &reason));
        self.placed(match end {
            End::Failed(failure) => talk.failed(failure),
            end => end.unless_retryable(),
        })
    }
}

impl WebSocketSpec {
    async fn dial(&self) -> Result<Socket, End> {
        let connected = self.connector.connect(&self.url.peer()).await;
        let io = connected.map_err(|error| self.placed(unconnected(&error)))?;
        let token = self.token.as_ref();
        let bearer = token.map(|token| format!("Bearer {}", token.expose()));
        let request = OutgoingUpgrade {
            target: self.url.target.clone(),
            headers: bearer.map(|value| ("Authorization".into(), value)).into_iter().collect(),
            subprotocols: vec![CONTRACT.into()],
        };
        let options = SocketOptions {
            max_message: MAX_BODY,
            write_deadline: WRITE_DEADLINE,
            // The contract has pings of its own, and a measure of its own for sound.
            keepalive: None,
            burst: u64::MAX,
        };
        let dialled = socket::dial(io, self.url.host(), &request, options).await;
        let socket = dialled.map_err(|error| self.placed(refused(&error)))?;
        if socket.subprotocol().is_none() {
            tokio::spawn(socket.close(BREACH, "the subprotocol is ringback.v1"));
            let reason = "it is a WebSocket server that does not know ringback.v1: check `url`";
            return Err(self.placed(End::Over(Some(reason.into()))));
        }
        Ok(socket)
    }

    /// Says where it was. A query may hold what nobody else should know.
    fn placed(&self, end: End) -> End {
        let WsUrl { secure, authority, target } = &self.url;
        let scheme = if *secure { "wss" } else { "ws" };
        let path = target.split('?').next().unwrap_or_default();
        let place = |reason: String| format!("{scheme}://{authority}{path}: {reason}");
        match end {
            End::Over(reason) => End::Over(reason.map(place)),
            End::Failed(failure) => {
                let Failure { reason, code, not_before } = failure;
                End::Failed(Failure { reason: place(reason), code, not_before })
            }
            end => end,
        }
    }
}

fn unconnected(error: &ConnectError) -> End {
    let reason = format!("cannot connect: {error}");
    match error {
        ConnectError::Trust(_) | ConnectError::Certificate(_) => End::Over(Some(reason)),
        _ => End::failed(reason),
    }
}

fn refused(error: &DialError) -> End {
    let DialError::Refused { status, retry_after, .. } = error else {
        return End::failed(error.to_string());
    };
    let not_before = Duration::from_secs(retry_after.unwrap_or(0));
    let check = match *status {
        401 | 403 => "; check `token`, which it does not take",
        404 => "; check the path of `url`",
        408 | 425 | 429 | 500.. => {
            return End::Failed(Failure { not_before, ..Failure::from(error.to_string()) });
        }
        _ => "; check `url`",
    };
    End::Over(Some(format!("{error}{check}")))
}

async fn listen(talk: &Talk<'_>, socket: &Mutex<Socket>) -> End {
    let mut listener = Listener::new(talk);
    loop {
        let heard = poll_fn(|cx| {
            let mut socket = locked(socket);
            let came = ready!(socket.poll_recv(cx));
            Poll::Ready(understood(&mut listener, &socket, came))
        });
        let heard = match heard.await {
            Ok(heard) => heard,
            Err(end) => return end,
        };
        talk.seen_alive();
        if let Err(end) = listener.pass_on(heard).await {
            return end;
        }
    }
}

fn understood(
    listener: &mut Listener<'_>,
    socket: &Socket,
    came: Option<Result<Incoming, SocketError>>,
) -> Result<Heard, End> {
    let came = match came {
        Some(Ok(Incoming::Close(closed))) => return Err(left(closed)),
        Some(Ok(came)) => came,
        Some(Err(error)) => {
            let code = error.close_code().unwrap_or(close_code::INTERNAL);
            return Err(End::Failed(Failure { code, ..Failure::from(error.to_string()) }));
        }
        None => return Err(End::failed("the connection was cut")),
    };
    match socket.message(&came) {
        Some(Message::Text(text)) => {
            listener.frame(Frame { slot: SLOT, kind: FrameKind::Json, body: text.as_bytes() })
        }
        Some(Message::Binary(body)) => {
            listener.frame(Frame { slot: SLOT, kind: FrameKind::Audio, body })
        }
        None => Ok(Heard::Nothing),
    }
}

/// The way to the module. Reader and writer live in one task, so neither ever waits for the lock, and what wakes one wakes both.
struct Mouth<'a>(&'a Mutex<Socket>);

impl Carry for Mouth<'_> {
    const BROKEN: &'static str = "the connection takes nothing more";

    /// A message is a frame without its header: there is one session, and the WebSocket says what kind it is.
    async fn write(&mut self, kind: FrameKind, frame: &[u8]) -> Result<(), Broken> {
        let kind = match kind {
            FrameKind::Json => Kind::Text,
            FrameKind::Audio => Kind::Binary,
        };
        locked(self.0).feed_octets(kind, &frame[STDIO_HEADER..]).map_err(|_| Broken)?;
        poll_fn(|cx| locked(self.0).poll_flush(cx)).await.map_err(|_| Broken)
    }
}

fn locked(socket: &Mutex<Socket>) -> MutexGuard<'_, Socket> {
    socket.lock().unwrap_or_else(PoisonError::into_inner)
}
