//! Two sockets joined: each message of one is sent by the other, in order and whole, and nobody is read from faster than the other
//! takes it. Knows no protocol and dials nobody.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ringback_proto::provider::Message;
use tokio::time::{Interval, MissedTickBehavior};

use crate::registry::{Entered, Order};
use crate::shutdown::Shutdown;
use crate::socket::{Closed, Incoming, Outgoing, Socket, SocketError, close_code};

/// Messages passed on before the other way and the clock get their turn.
const BURST: usize = 32;
/// An idle limit is counted in so many ticks, so that a message costs no look at the clock.
const TICKS: u32 = 4;
/// Once one end has said goodbye, the other is given so long to take what came before it.
const LAST_WRITE: Duration = Duration::from_millis(1_500);

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who opened the stream.
    Provider,
    /// Whom it is passed on to.
    Server,
}

impl Side {
    /// In a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Server => "server",
        }
    }
}

/// What was passed on one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Messages that came.
    pub came: u64,
    /// Octets of payload in them.
    pub octets: u64,
    /// Messages that the other end's connection has taken.
    pub sent: u64,
}

impl Count {
    /// Messages that came and could not be sent any more.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.came - self.sent
    }
}

/// How it ended.
#[derive(Debug)]
pub enum PassedOnEnd {
    /// One closed, with this code and reason if it gave any.
    Closed(Side, Option<Closed>),
    /// One's connection failed or it broke the rules of WebSockets.
    Failed(Side, SocketError),
    /// Neither said anything for this long.
    Idle(Duration),
    /// The bridge ended.
    ShutDown,
    /// An operator hung up.
    HungUp,
}

/// What became of a stream that was passed on.
#[derive(Debug)]
pub struct PassedOn {
    /// From the provider to the server.
    pub inward: Count,
    /// From the server to the provider.
    pub outward: Count,
    /// How it ended.
    pub end: PassedOnEnd,
}

/// One way of the two.
#[derive(Default)]
struct Way {
    count: Count,
    /// Whether the last message is not yet taken.
    is_waiting: bool,
}

impl Way {
    /// Passes on until there is nothing to read, or the other end takes no more. Ready when it ends.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (from, from_side): (&mut Socket, Side),
        (to, to_side): (&mut Socket, Side),
    ) -> Poll<PassedOnEnd> {
        for _ in 0..BURST {
            if self.is_waiting {
                if let Err(error) = ready!(to.poll_flush(cx)) {
                    return Poll::Ready(PassedOnEnd::Failed(to_side, error));
                }
                self.is_waiting = false;
                self.count.sent += 1;
            }
            let incoming = match ready!(from.poll_recv(cx)) {
                Some(Ok(Incoming::Close(closed))) => {
                    return Poll::Ready(PassedOnEnd::Closed(from_side, closed));
                }
                Some(Ok(incoming)) => incoming,
                Some(Err(error)) => return Poll::Ready(PassedOnEnd::Failed(from_side, error)),
                None => return Poll::Ready(PassedOnEnd::Failed(from_side, SocketError::Cut)),
            };
            // Pings and pongs are each end's own, and answered here.
            let Some(message) = from.message(&incoming) else { continue };
            let (message, octets) = match message {
                Message::Text(text) => (Outgoing::Text(text), text.len()),
                Message::Binary(octets) => (Outgoing::Binary(octets), octets.len()),
            };
            self.count.came += 1;
            self.count.octets += octets as u64;
            if let Err(error) = to.feed(message) {
                return Poll::Ready(PassedOnEnd::Failed(to_side, error));
            }
            self.is_waiting = true;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Notices that nobody has said anything for long.
struct Idle {
    timer: Interval,
    limit: Duration,
    seen: u64,
    ticks: u32,
}

impl Idle {
    fn new(limit: Duration) -> Self {
        let mut timer = tokio::time::interval(limit / TICKS);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        timer.reset();
        Self { timer, limit, seen: 0, ticks: 0 }
    }

    /// Ready once `came`, the number of all messages so far, has stayed the same for the limit and at most a tick more.
    fn poll(&mut self, cx: &mut Context<'_>, came: u64) -> Poll<Duration> {
        loop {
            ready!(self.timer.poll_tick(cx));
            self.ticks = if came == self.seen { self.ticks + 1 } else { 0 };
            self.seen = came;
            if self.ticks >= TICKS {
                return Poll::Ready(self.limit);
            }
        }
    }
}

/// Passes on everything both ways until it ends, and closes both.
pub(super) async fn run(
    mut provider: Socket,
    mut server: Socket,
    idle: Duration,
    shutdown: &Shutdown,
    entered: &mut Entered,
) -> PassedOn {
    let (mut inward, mut outward) = (Way::default(), Way::default());
    let mut idle = Idle::new(idle);
    let mut cut_off = pin!(shutdown.cut_off());
    let end = poll_fn(|cx| {
        let (near, far) = ((&mut provider, Side::Provider), (&mut server, Side::Server));
        if let Poll::Ready(end) = inward.poll(cx, near, far) {
            return Poll::Ready(end);
        }
        let (near, far) = ((&mut provider, Side::Provider), (&mut server, Side::Server));
        if let Poll::Ready(end) = outward.poll(cx, far, near) {
            return Poll::Ready(end);
        }
        if Pin::new(&mut cut_off).poll(cx).is_ready() {
            return Poll::Ready(PassedOnEnd::ShutDown);
        }
        // Of a stream that is passed on there is nothing else to be ordered.
        while let Poll::Ready(order) = entered.poll_order(cx) {
            if let Order::HangUp { .. } = order {
                return Poll::Ready(PassedOnEnd::HungUp);
            }
        }
        idle.poll(cx, inward.count.came + outward.count.came).map(PassedOnEnd::Idle)
    })
    .await;
    // What one said before its goodbye is heard by the other before that.
    tokio::join!(
        last(&mut server, &mut inward, may_still_hear(&end, Side::Server)),
        last(&mut provider, &mut outward, may_still_hear(&end, Side::Provider)),
    );
    let [to_provider, to_server] = farewells(&end);
    tokio::join!(say(provider, to_provider), say(server, to_server));
    PassedOn { inward: inward.count, outward: outward.count, end }
}

/// Sends what was not yet taken, for a while.
async fn last(to: &mut Socket, way: &mut Way, can_hear: bool) {
    if way.is_waiting && can_hear {
        let flushed = tokio::time::timeout(LAST_WRITE, to.flush()).await;
        if matches!(flushed, Ok(Ok(()))) {
            way.count.sent += 1;
        }
    }
}

/// Whether one is still there to be told anything.
fn may_still_hear(end: &PassedOnEnd, whom: Side) -> bool {
    match end {
        PassedOnEnd::Closed(side, _) | PassedOnEnd::Failed(side, _) => *side != whom,
        PassedOnEnd::Idle(_) | PassedOnEnd::ShutDown | PassedOnEnd::HungUp => true,
    }
}

/// A close code and its reason; `None` drops the connection.
type Farewell = Option<(u16, String)>;

/// What the provider and the server are told at the end. A code that one gave is the other's, too, and the one's own answer is the
/// code it gave. A provider that is lost goes away, as the server hears it; a server that is lost is a fault of this side.
fn farewells(end: &PassedOnEnd) -> [Farewell; 2] {
    let (side, own, others) = match end {
        PassedOnEnd::Closed(side, Some(Closed { code, reason })) => {
            (*side, Some((*code, String::new())), (*code, reason.clone()))
        }
        // No code is none for the other one, either.
        PassedOnEnd::Closed(side, None) => {
            (*side, Some((NONE, String::new())), (NONE, String::new()))
        }
        PassedOnEnd::Failed(side, error) => {
            let own = error.close_code().map(|code| (code, error.to_string()));
            let others = match side {
                Side::Provider => (close_code::GOING_AWAY, "the provider's stream was lost"),
                Side::Server => (close_code::INTERNAL, "the server behind this one was lost"),
            };
            (*side, own, (others.0, others.1.to_owned()))
        }
        PassedOnEnd::Idle(limit) => {
            let told = (close_code::GOING_AWAY, format!("nothing was said for {limit:?}"));
            (Side::Provider, Some(told.clone()), told)
        }
        PassedOnEnd::ShutDown => {
            let told = (close_code::GOING_AWAY, "the bridge ends".to_owned());
            (Side::Provider, Some(told.clone()), told)
        }
        PassedOnEnd::HungUp => {
            let told = (close_code::NORMAL, "an operator hung up".to_owned());
            (Side::Provider, Some(told.clone()), told)
        }
    };
    match side {
        Side::Provider => [own, Some(others)],
        Side::Server => [Some(others), own],
    }
}

/// Stands for no code and may not be sent (RFC 6455, 7.4.1), so that a close frame without one goes out.
const NONE: u16 = 1005;

async fn say(socket: Socket, farewell: Farewell) {
    if let Some((code, reason)) = farewell {
        socket.close(code, &reason).await;
    }
}
