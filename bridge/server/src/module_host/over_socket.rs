//! One session with a module over a WebSocket, whoever of the two opened it. Opens none itself.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use ringback_module::message::Start;
use ringback_module::wire::{FrameKind, MAX_BODY, STDIO_HEADER};
use ringback_proto::provider::Message;
use tokio::sync::mpsc;

use super::close::{farewell, left};
use super::listen::{Heard, Listener};
use super::talk::{Broken, Carry, End, Failure, Talk};
use super::{FromHost, Inbox};
use crate::socket::wire::Kind;
use crate::socket::{Incoming, Socket, SocketError, SocketOptions, close_code};

/// A module that has taken nothing for so long is given up, even if it is the call that holds it up.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// Bounds of a connection to a module.
pub(super) const fn options() -> SocketOptions {
    SocketOptions {
        max_message: MAX_BODY,
        write_deadline: WRITE_DEADLINE,
        // The contract has pings of its own, and a measure of its own for sound.
        keepalive: None,
        burst: u64::MAX,
    }
}

/// A session that was held.
pub(super) struct Held {
    pub(super) end: End,
    /// Whether the module had taken it up.
    pub(super) was_ready: bool,
}

/// Holds the session over `socket`, which is closed behind it. The module has `left` of `ready_ms` to be ready.
pub(super) async fn hold(
    name: &str,
    start: &Start,
    left: Duration,
    socket: Socket,
    to: &mut Inbox,
    from: &mpsc::Sender<FromHost>,
) -> Held {
    let talk = Talk::with_left(name, start, from, left);
    let socket = Mutex::new(socket);
    let end = first_of(listen(&talk, &socket), talk.write(Mouth(&socket), to), talk.watch()).await;
    let (code, reason) = farewell(&end, talk.is_stopping());
    let socket = socket.into_inner().unwrap_or_else(PoisonError::into_inner);
    tokio::spawn(socket.close(code, &reason));
    let end = match end {
        End::Failed(failure) => talk.failed(failure),
        end => end,
    };
    Held { end, was_ready: talk.ready.get().is_some() }
}

/// Whichever ends first. Another one begins each time: whoever is always ready must not keep the others from their turn. In turns, and
/// not by chance, so that a simulation can be told again.
async fn first_of<T>(
    one: impl Future<Output = T>,
    two: impl Future<Output = T>,
    three: impl Future<Output = T>,
) -> T {
    let (mut one, mut two, mut three) = (pin!(one), pin!(two), pin!(three));
    let mut turn = 0_usize;
    poll_fn(|cx| {
        turn = (turn + 1) % 3;
        for which in turn..turn + 3 {
            let polled = match which % 3 {
                0 => one.as_mut().poll(cx),
                1 => two.as_mut().poll(cx),
                _ => three.as_mut().poll(cx),
            };
            if polled.is_ready() {
                return polled;
            }
        }
        Poll::Pending
    })
    .await
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
        Some(Message::Text(text)) => listener.frame(FrameKind::Json, text.as_bytes()),
        Some(Message::Binary(body)) => listener.frame(FrameKind::Audio, body),
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
