//! The seam to WebSockets: messages in and out, deadlines, keep-alive and closing; knows nothing of calls or providers.
//!
//! What stands on the wire is [`wire`]'s business. A message is read, unmasked and handed out in one buffer, and messages are
//! written together from another: no allocation, no lock and one system call each way for a frame of sound.

mod dial;
mod error;
mod heartbeat;
mod meter;
pub(crate) mod upgrade;
pub mod wire;

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ringback_proto::provider::Message;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::Sleep;

use crate::clock::{Alarm, Clock};
use crate::net::Io;

pub use dial::{DialError, answer, dial};
pub use error::SocketError;
use heartbeat::{Beat, ControlBudget, Heartbeat};
use meter::Meter;
pub(crate) use upgrade::accept_key;
pub use upgrade::{Agreed, Asking};
use wire::{Arrival, Kind, Reader, Role, Writer};

/// Close codes of RFC 6455, section 7.4.1, and of its IANA registry.
pub mod close_code {
    /// The purpose is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// This end goes away: drained or shutting down.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer broke the protocol.
    pub const PROTOCOL: u16 = 1002;
    /// Data of a kind that cannot be taken.
    pub const UNSUPPORTED: u16 = 1003;
    /// Data that is not what its kind says, such as text that is not UTF-8.
    pub const INVALID_DATA: u16 = 1007;
    /// A rule was broken for which there is no other code.
    pub const POLICY: u16 = 1008;
    /// A message too big to take.
    pub const TOO_BIG: u16 = 1009;
    /// A fault of this end.
    pub const INTERNAL: u16 = 1011;
    /// Overloaded: come back later.
    pub const TRY_AGAIN: u16 = 1013;
}

/// A close frame waits so long for the peer to take it; then the connection is dropped.
const LINGER: Duration = Duration::from_millis(200);
/// A message that we send may be so much bigger than one that we take: sound is sent ahead in larger pieces.
const OUTGOING_FACTOR: usize = 8;
/// Octets of small messages that may wait to be written, whatever [`SocketOptions::max_message`] is.
const WRITE_BUFFER: usize = 4 * 1024;
/// A message must be whole so long after its first octet, whatever comes in between: octets one by one, fragments without end.
const WHOLE_WITHIN: Duration = Duration::from_secs(10);

/// Bounds of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
    /// Largest frame and largest message taken, in octets of payload; one more ends the stream with 1009.
    pub max_message: usize,
    /// Longest that any write may wait for the peer to read, control frames included.
    pub write_deadline: Duration,
    /// A ping goes out this often, and a peer silent for two of them is given up. `None` sends no pings and waits for ever,
    /// for peers that mistake a ping for a hang-up (Asterisk before 22.8).
    pub keepalive: Option<Duration>,
    /// Octets that may come at once; what comes on and on is held to 512 KiB a second.
    pub burst: u64,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            max_message: 64 * 1024,
            write_deadline: Duration::from_secs(5),
            keepalive: Some(Duration::from_secs(20)),
            burst: meter::BURST,
        }
    }
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A message, reassembled: [`Socket::message`] reads it, until the next [`Socket::recv`].
    Message(Arrival),
    /// The peer asked for life; the answer is on its way already.
    Ping,
    /// The peer answered a ping.
    Pong,
    /// The peer closes. Answer with [`Socket::close`]; nothing else comes.
    Close(Option<Closed>),
}

/// Why the peer closed. The reason is the peer's text: quote it in logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Close code, as in [`close_code`].
    pub code: u16,
    /// At most 123 octets.
    pub reason: String,
}

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outgoing<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping, with at most 125 octets.
    Ping(&'a [u8]),
}

/// One WebSocket, either end of it. Every end of a stream goes through [`Socket::close`]; dropping it cuts the line.
pub struct Socket {
    io: Box<dyn Io>,
    reader: Reader,
    writer: Writer,
    /// Runs while a write waits for the peer to read.
    stalled: Option<Pin<Box<Sleep>>>,
    unfinished: Unfinished,
    options: SocketOptions,
    subprotocol: Option<String>,
    heartbeat: Heartbeat,
    control: ControlBudget,
    meter: Meter,
    ended: bool,
    /// The code of the peer's close frame, once it came.
    closed_by_peer: Option<Option<u16>>,
}

impl Socket {
    /// Our end of a stream whose upgrade was answered; `read_ahead` is what came behind the request.
    pub(crate) fn accepted(
        io: Box<dyn Io>,
        read_ahead: &[u8],
        subprotocol: Option<String>,
        options: SocketOptions,
    ) -> Self {
        Self::new(io, Role::Server, read_ahead, subprotocol, options)
    }

    /// Either end of a connection that carries records and no WebSocket ([`Role::Records`]); `read_ahead` was read from it already.
    /// There is no ping on it, so silence is never the end.
    #[must_use]
    pub fn records(io: Box<dyn Io>, read_ahead: &[u8], options: SocketOptions) -> Self {
        let options = SocketOptions { keepalive: None, ..options };
        Self::new(io, Role::Records, read_ahead, None, options)
    }

    fn new(
        io: Box<dyn Io>,
        role: Role,
        read_ahead: &[u8],
        subprotocol: Option<String>,
        options: SocketOptions,
    ) -> Self {
        let mut reader = Reader::new(role, options.max_message);
        reader.push(read_ahead);
        Self {
            io,
            reader,
            writer: Writer::new(role),
            stalled: None,
            unfinished: Unfinished::default(),
            options,
            subprotocol,
            heartbeat: Heartbeat::new(options.keepalive),
            control: ControlBudget::new(),
            meter: Meter::new(options.burst),
            ended: false,
            closed_by_peer: None,
        }
    }

    /// The subprotocol both ends agreed on.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The next message, or `None` once the stream is over. Sends the keep-alive pings while it waits. Cancel safe.
    ///
    /// # Errors
    /// The first error ends the stream: close it with [`SocketError::close_code`].
    pub async fn recv(&mut self) -> Option<Result<Incoming, SocketError>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// [`Socket::recv`] for those who poll.
    pub fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Incoming, SocketError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let outcome = match ready!(self.poll_incoming(cx)) {
            Err(SocketError::Cut) if self.closed_by_peer.is_some() => None,
            outcome => Some(outcome),
        };
        self.ended = !matches!(outcome, Some(Ok(_)));
        Poll::Ready(outcome)
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, SocketError>> {
        if self.closed_by_peer.is_some() {
            return Poll::Ready(Err(SocketError::Cut));
        }
        loop {
            let arrival = self.reader.next_message();
            let arrival = arrival.map_err(|error| SocketError::from_wire(error, &self.options))?;
            if let Some(arrival) = arrival {
                if !self.reader.is_assembling() {
                    self.unfinished.is_running = false;
                }
                return Poll::Ready(self.take(cx, arrival));
            }
            match self.poll_read(cx)? {
                Poll::Ready(()) => self.heartbeat.heard(),
                Poll::Pending => {
                    self.reader.rest();
                    if self.reader.has_begun() && self.unfinished.poll(cx).is_ready() {
                        let waited = WHOLE_WITHIN;
                        return Poll::Ready(Err(SocketError::Unfinished { waited }));
                    }
                    ready!(self.poll_heartbeat(cx))?;
                }
            }
        }
    }

    fn take(&mut self, cx: &mut Context<'_>, arrival: Arrival) -> Result<Incoming, SocketError> {
        if matches!(arrival.kind, Kind::Ping | Kind::Pong) {
            self.control.spend()?;
        }
        let octets = self.reader.octets(&arrival);
        Ok(match arrival.kind {
            Kind::Text | Kind::Binary => {
                self.meter.spend_on_message(octets.len() as u64)?;
                Incoming::Message(arrival)
            }
            Kind::Ping => {
                self.writer.push(Kind::Pong, octets);
                // What cannot be written now goes out with what is written next.
                if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                    return Err(error);
                }
                Incoming::Ping
            }
            Kind::Pong => Incoming::Pong,
            Kind::Close => {
                let closed = octets.split_first_chunk().map(|(code, reason)| Closed {
                    code: u16::from_be_bytes(*code),
                    reason: String::from_utf8_lossy(reason).into_owned(),
                });
                self.closed_by_peer = Some(closed.as_ref().map(|closed| closed.code));
                Incoming::Close(closed)
            }
        })
    }

    /// Reads once.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        let mut buffer = ReadBuf::new(self.reader.space());
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer));
        let octets = buffer.filled().len();
        self.reader.filled(octets);
        Poll::Ready(match read {
            Ok(()) if octets == 0 => Err(SocketError::Cut),
            Ok(()) => self.meter.spend(octets as u64),
            Err(error) => Err(SocketError::from_io(error)),
        })
    }

    /// Waits for the next tick of the keep-alive; an error is the end.
    fn poll_heartbeat(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        if (self.stalled.is_some() || !self.writer.pending().is_empty())
            && let Poll::Ready(Err(error)) = self.poll_flush(cx)
        {
            return Poll::Ready(Err(error));
        }
        loop {
            match ready!(self.heartbeat.poll_next(cx)) {
                Beat::Quiet => {}
                Beat::Ping => {
                    self.writer.push(Kind::Ping, b"");
                    if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                        return Poll::Ready(Err(error));
                    }
                }
                Beat::Dead { silent_for } => {
                    return Poll::Ready(Err(SocketError::Silent { silent_for }));
                }
            }
        }
    }

    /// The octets of a message that [`Socket::recv`] gave; `None` for what is no message.
    #[must_use]
    pub fn message(&self, incoming: &Incoming) -> Option<Message<'_>> {
        match incoming {
            Incoming::Message(arrival) => Some(match arrival.kind {
                Kind::Text => Message::Text(self.reader.text(arrival)),
                _ => Message::Binary(self.reader.octets(arrival)),
            }),
            Incoming::Ping | Incoming::Pong | Incoming::Close(_) => None,
        }
    }

    /// Sends a message and waits until the system has taken it.
    ///
    /// # Errors
    /// [`SocketError::WriteDeadline`] if the peer does not read; the stream is then beyond use.
    pub async fn send(&mut self, message: Outgoing<'_>) -> Result<(), SocketError> {
        self.feed(message)?;
        self.flush().await
    }

    /// Puts a message into the write buffer; [`Socket::flush`] sends it. Several messages then cost one system call.
    ///
    /// # Errors
    /// [`SocketError::OutgoingTooBig`] if it does not fit.
    pub fn feed(&mut self, message: Outgoing<'_>) -> Result<(), SocketError> {
        match message {
            Outgoing::Text(text) => self.feed_octets(Kind::Text, text.as_bytes()),
            Outgoing::Binary(octets) => self.feed_octets(Kind::Binary, octets),
            Outgoing::Ping(octets) => self.feed_octets(Kind::Ping, octets),
        }
    }

    /// [`Socket::feed`] of octets that are known to be right: UTF-8 for a text, at most 125 for a ping. A peer ends the stream
    /// over wrong ones.
    ///
    /// # Errors
    /// As [`Socket::feed`].
    pub fn feed_octets(&mut self, kind: Kind, octets: &[u8]) -> Result<(), SocketError> {
        let limit = WRITE_BUFFER + self.options.max_message.saturating_mul(OUTGOING_FACTOR);
        if self.writer.pending().len() + octets.len() > limit {
            return Err(SocketError::OutgoingTooBig);
        }
        self.writer.push(kind, octets);
        Ok(())
    }

    /// Writes all that was fed.
    ///
    /// # Errors
    /// As [`Socket::send`].
    pub async fn flush(&mut self) -> Result<(), SocketError> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// [`Socket::flush`] for those who poll.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        let written = match self.poll_write_out(cx) {
            Poll::Ready(written) => written,
            Poll::Pending => {
                let waited = self.options.write_deadline;
                let deadline =
                    self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(waited)));
                ready!(deadline.as_mut().poll(cx));
                return Poll::Ready(Err(SocketError::WriteDeadline { waited }));
            }
        };
        self.stalled = None;
        Poll::Ready(written)
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        while !self.writer.pending().is_empty() {
            let write = Pin::new(&mut self.io).poll_write(cx, self.writer.pending());
            match ready!(write).map_err(SocketError::from_io)? {
                0 => return Poll::Ready(Err(SocketError::Cut)),
                octets => self.writer.wrote(octets),
            }
        }
        // Nothing to do for TCP; TLS may still hold what the system did not take.
        Pin::new(&mut self.io).poll_flush(cx).map_err(SocketError::from_io)
    }

    /// Closes the stream and lets go of it: sends the close frame (or answers the peer's with its own code), then reads what is still under way
    /// into nothing for at most 200 ms, so that the frame is not overtaken by a reset. A `code` that may not be sent, such as
    /// 1006, sends a close frame without one; of `reason`, 123 octets are sent.
    pub fn close(mut self, code: u16, reason: &str) -> impl Future<Output = ()> + Send + use<> {
        match self.closed_by_peer {
            Some(Some(theirs)) => self.writer.push_close(theirs, ""),
            Some(None) => self.writer.push(Kind::Close, b""),
            None => self.writer.push_close(code, reason),
        }
        // Boxed: a call lives in a future that would otherwise keep room for its farewell all the time.
        Box::pin(async move {
            let farewell = async {
                // A line that is already down cannot be told anything; there is nobody to report this to.
                if self.flush().await.is_ok() {
                    drain(self.io).await;
                }
            };
            let _ = tokio::time::timeout(LINGER, farewell).await;
        })
    }
}

/// Runs from the beginning of a message to its end. Most are whole with the read that brings them; for the others the same alarm
/// is set anew.
#[derive(Default)]
struct Unfinished {
    alarm: Option<(Clock, Pin<Box<Alarm>>)>,
    is_running: bool,
}

impl Unfinished {
    /// Ready if the message that has begun is late.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (clock, alarm) = self.alarm.get_or_insert_with(|| {
            let clock = Clock::start();
            (clock, Box::pin(clock.alarm()))
        });
        if !std::mem::replace(&mut self.is_running, true) {
            alarm.as_mut().set(Some(clock.now() + WHOLE_WITHIN));
        }
        alarm.as_mut().poll(cx)
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("options", &self.options)
            .field("subprotocol", &self.subprotocol)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// The longest beginning of `text` that is whole characters and at most `octets` long.
pub(crate) fn cut(text: &str, octets: usize) -> &str {
    let mut end = octets.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Says that no more will be sent and reads until the peer says the same, for [`LINGER`] at most. Closing a TCP connection with
/// octets unread makes the system send a reset, which can destroy the last words before the peer reads them.
pub(crate) async fn linger(io: impl Io) {
    let _ = tokio::time::timeout(LINGER, drain(io)).await;
}

async fn drain(mut io: impl Io) {
    if io.shutdown().await.is_err() {
        return;
    }
    let mut unheard = [0; 2048];
    while io.read(&mut unheard).await.is_ok_and(|octets| octets > 0) {}
}

#[cfg(test)]
mod tests;
