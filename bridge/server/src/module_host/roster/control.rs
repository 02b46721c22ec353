//! The connection on which a worker registers: who it is, how busy, and that it is there. Carries no session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringback_module::VERSION;
use ringback_module::message::{FromWorker, Register, Registered, ToWorker};
use ringback_proto::provider::{Message, Secret};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::super::flood::MessageBucket;
use super::super::talk::{BREACH, LATE};
use super::Roster;
use super::state::{Newcomer, Order};
use crate::clock::Clock;
use crate::socket::{Incoming, Outgoing, Socket, SocketOptions, close_code};
use crate::telemetry::{Report, report};

/// A worker has so long to say who it is.
const REGISTER: Duration = Duration::from_secs(5);
/// A ping goes out this often.
const PING: Duration = Duration::from_secs(5);
/// A worker silent for so many pings is gone.
const SILENT: u32 = 3;
/// Orders under way to a worker.
const ORDERS: usize = 64;
/// It has no place here: too many are here already.
const NO_CAPACITY: u16 = 4029;
/// Its token does not open any more.
const UNAUTHORIZED: u16 = 4001;
/// Octets of a message.
const MAX_MESSAGE: usize = 16 * 1024;

/// Bounds of such a connection.
pub(super) fn options() -> SocketOptions {
    SocketOptions {
        max_message: MAX_MESSAGE,
        write_deadline: PING,
        keepalive: None,
        ..SocketOptions::default()
    }
}

/// Who is let in.
pub(super) struct Visitor {
    pub(super) roster: Arc<Roster>,
    /// Name of its token, and the token.
    pub(super) token: String,
    pub(super) secret: Option<Secret>,
    pub(super) peer: SocketAddr,
}

/// Why it is over: the close code, and the reason for the worker and the log.
struct Over(u16, String);

impl Over {
    fn new(code: u16, reason: impl Into<String>) -> Self {
        Self(code, reason.into())
    }

    /// The worker closed, or the line is cut.
    fn gone(reason: impl Into<String>) -> Self {
        Self(close_code::NORMAL, reason.into())
    }
}

/// Takes the worker in, and serves it until it goes.
pub(super) async fn serve(visitor: Visitor, mut socket: Socket) {
    let Over(code, reason) = match timeout(REGISTER, registration(&mut socket)).await {
        Err(_elapsed) => refused(&visitor, Over::new(LATE, "no `register` within 5 s")),
        Ok(Err(over)) => refused(&visitor, over),
        Ok(Ok(register)) => present(&visitor, register, &mut socket).await,
    };
    socket.close(code, &reason).await;
}

fn refused(visitor: &Visitor, over: Over) -> Over {
    let (module, peer) = (&visitor.roster.name, visitor.peer);
    report(&Report::WorkerRefused { module, peer, status: over.0, reason: &over.1 });
    over
}

/// Waits for its first message.
async fn registration(socket: &mut Socket) -> Result<Register, Over> {
    loop {
        let said = said(socket.recv().await, socket)?;
        match said {
            None => {}
            Some(FromWorker::Register(register)) => {
                if !register.v.is_empty() && !register.v.contains(&VERSION) {
                    let v = &register.v;
                    let what = format!("speaks versions {v:?} of the contract, not {VERSION}");
                    return Err(Over::new(BREACH, what));
                }
                return Ok(register);
            }
            Some(_) => return Err(Over::new(BREACH, "`register` comes first")),
        }
    }
}

/// Of a worker that is here, to the end.
async fn present(visitor: &Visitor, register: Register, socket: &mut Socket) -> Over {
    let Visitor { roster, token, secret, peer } = visitor;
    let (orders, mut to_give) = mpsc::channel(ORDERS);
    let max_sessions = register.max_sessions.max(1);
    let (module, version) = (register.module.clone(), register.version.clone());
    let newcomer =
        Newcomer { token: token.clone(), secret: secret.clone(), peer: *peer, register, orders };
    let entered = roster.state().enter(newcomer);
    let (id, worker) = match entered {
        Ok(entered) => entered,
        Err(reason) => return refused(visitor, Over::new(NO_CAPACITY, reason)),
    };
    let came = Report::WorkerCame {
        module: &roster.name,
        worker: &worker,
        peer: *peer,
        program: (&module, &version),
        max_sessions,
    };
    report(&came);
    let registered = Registered {
        worker: worker.to_string(),
        max_sessions,
        ping_ms: PING.as_millis() as u64,
        dead_ms: (PING * SILENT).as_millis() as u64,
    };
    let over = match say(socket, &ToWorker::Registered(registered)).await {
        Ok(()) => attend(roster, id, &worker, socket, &mut to_give).await,
        Err(over) => over,
    };
    let left = roster.state().leave(id);
    let sessions = left.as_ref().map_or(0, |left| left.sessions);
    // Who waited for one of its connections asks another; not while the state is locked.
    drop(left);
    roster.settle();
    let reason = &over.1;
    report(&Report::WorkerWent { module: &roster.name, worker: &worker, reason, sessions });
    over
}

async fn attend(
    roster: &Arc<Roster>,
    id: u64,
    worker: &str,
    socket: &mut Socket,
    orders: &mut mpsc::Receiver<Order>,
) -> Over {
    let mut pings = interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.reset();
    let clock = Clock::start();
    let mut messages = MessageBucket::new(clock.now().since_epoch());
    let (mut unheard, mut t) = (0, 0);
    roster.stir(id);
    loop {
        let done = tokio::select! {
            came = socket.recv() => {
                unheard = 0;
                match said(came, socket) {
                    Ok(said) => {
                        if let Some(said) = said {
                            understood(roster, id, worker, said);
                        }
                        tokio::time::sleep(messages.take(clock.now().since_epoch())).await;
                        Ok(())
                    }
                    Err(over) => Err(over),
                }
            }
            order = orders.recv() => match order {
                Some(Order::Open { ticket }) => say(socket, &ToWorker::Open { ticket }).await,
                None => Err(Over::new(UNAUTHORIZED, "its token opens no more, or the module is gone")),
            },
            _ = pings.tick() => {
                unheard += 1;
                t += 1;
                roster.stir(id);
                if unheard >= SILENT {
                    let silent = PING * SILENT;
                    Err(Over::new(LATE, format!("nothing was heard for {} s", silent.as_secs())))
                } else {
                    say(socket, &ToWorker::Ping { t }).await
                }
            }
            () = roster.shutdown.finished() => {
                Err(Over::new(close_code::GOING_AWAY, "the bridge ends"))
            }
        };
        if let Err(over) = done {
            return over;
        }
    }
}

fn understood(roster: &Arc<Roster>, id: u64, worker: &str, said: FromWorker) {
    match said {
        FromWorker::Load(load) => roster.state().report(id, &load),
        FromWorker::GoingAway { in_ms } => {
            let module = &roster.name;
            report(&Report::WorkerLeaves { module, worker, within: Duration::from_millis(in_ms) });
            roster.state().is_leaving(id);
        }
        FromWorker::Register(_) => {
            tracing::debug!(module = %roster.name, worker, "registered twice; the first counts");
        }
        _ => return,
    }
    roster.stir(id);
}

/// What came, as a message; nothing for what is none or is newer than this bridge.
fn said(
    came: Option<Result<Incoming, crate::socket::SocketError>>,
    socket: &Socket,
) -> Result<Option<FromWorker>, Over> {
    let came = match came {
        None => return Err(Over::gone("the connection was cut")),
        Some(Err(error)) => {
            let code = error.close_code().unwrap_or(close_code::INTERNAL);
            return Err(Over::new(code, error.to_string()));
        }
        Some(Ok(Incoming::Close(closed))) => {
            let why = closed.map_or_else(String::new, |closed| {
                format!(" with {} {}", closed.code, closed.reason.escape_debug())
            });
            return Err(Over::gone(format!("closed the connection{why}")));
        }
        Some(Ok(came)) => came,
    };
    match socket.message(&came) {
        None => Ok(None),
        Some(Message::Binary(_)) => Err(Over::new(BREACH, "sound has a connection of its own")),
        Some(Message::Text(text)) => serde_json::from_str(text)
            .map(|said| Some(said).filter(|said| *said != FromWorker::Unknown))
            .map_err(|error| Over::new(BREACH, format!("message not understood: {error}"))),
    }
}

async fn say(socket: &mut Socket, message: &ToWorker) -> Result<(), Over> {
    // Nothing in it can fail to be JSON.
    let text = serde_json::to_string(message).unwrap_or_default();
    let said = socket.send(Outgoing::Text(&text)).await;
    said.map_err(|error| Over::new(LATE, error.to_string()))
}
