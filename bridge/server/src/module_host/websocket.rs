//! A module at the other end of a WebSocket that the bridge dials, one connection for each session. Accepts no connection.

use std::sync::Arc;
use std::time::Duration;

use ringback_module::CONTRACT;
use ringback_module::message::Start;
use ringback_proto::provider::{OutgoingUpgrade, Secret};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::over_socket::{hold, options};
use super::restart::{Ground, called_off, shortened, supervise};
use super::talk::{BREACH, End, Failure, not_ready};
use super::{FromHost, Hosted, Inbox, seat};
use crate::client::WsUrl;
use crate::outgoing::{ConnectError, Connector};
use crate::socket::{self, DialError, Socket};

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
        let began = Instant::now();
        let limit = Duration::from_millis(start.limits.ready_ms);
        let dialled = tokio::select! {
            biased;
            dialled = timeout(limit, self.dial()) => dialled,
            end = called_off(to) => return end,
        };
        let end = match dialled {
            Ok(Ok(socket)) => {
                let left = limit.saturating_sub(began.elapsed());
                hold(&self.name, start, left, socket, to, from).await.end
            }
            Ok(Err(end)) => return end,
            Err(_elapsed) => not_ready(start),
        };
        self.placed(end.unless_retryable())
    }
}

impl WebSocketSpec {
    /// A connection for one session, or why there is none.
    pub(crate) async fn open(&self) -> Result<Socket, String> {
        self.dial().await.map_err(|end| match end {
            End::Failed(failure) => failure.reason,
            End::Over(reason) => reason.unwrap_or_default(),
            End::Rejected(reject) => reject.message,
            End::Abandoned => String::new(),
        })
    }

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
        let dialled = socket::dial(io, self.url.host(), &request, options()).await;
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
                let Failure { reason, .. } = failure;
                End::Failed(Failure { reason: place(reason), ..failure })
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
