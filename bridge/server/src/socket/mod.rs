//! The seam to WebSockets: messages in and out, deadlines, keep-alive and closing; knows nothing of calls or providers.
//!
//! Behind it stands tungstenite. Nothing of it shows, so that the layer can be changed without its users.

mod dial;
mod error;
mod heartbeat;
mod meter;

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use ringback_proto::provider::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Utf8Bytes};

use crate::net::Io;

pub use dial::{DialError, dial};
pub use error::SocketError;
use heartbeat::{Beat, ControlBudget, Heartbeat};

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
/// A close frame has room for so many octets of reason (RFC 6455, 5.5: 125 less the code).
const MAX_REASON: usize = 123;
/// Read buffer of a connection. The library's default of 128 KiB costs six times the memory per call and gains nothing.
const READ_BUFFER: usize = 4 * 1024;
/// Octets gathered before they are written without a flush.
const WRITE_BUFFER: usize = 4 * 1024;
/// A message that we send may be so much bigger than one that we take: sound is sent ahead in larger pieces.
const OUTGOING_FACTOR: usize = 8;

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
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            max_message: 64 * 1024,
            write_deadline: Duration::from_secs(5),
            keepalive: Some(Duration::from_secs(20)),
        }
    }
}

impl SocketOptions {
    fn config(&self) -> WebSocketConfig {
        WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_write_buffer_size(WRITE_BUFFER + self.max_message.saturating_mul(OUTGOING_FACTOR))
            .max_message_size(Some(self.max_message))
            .max_frame_size(Some(self.max_message))
    }
}

/// Text of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(Utf8Bytes);

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.as_str()
    }
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A text message, reassembled.
    Text(Text),
    /// A binary message, reassembled.
    Binary(Bytes),
    /// The peer asked for life; the answer is on its way already.
    Ping(Bytes),
    /// The peer answered a ping.
    Pong(Bytes),
    /// The peer closes. Answer with [`Socket::close`]; nothing else comes.
    Close(Option<Closed>),
}

impl Incoming {
    /// The message for a protocol, if it is one.
    #[must_use]
    pub fn message(&self) -> Option<Message<'_>> {
        match self {
            Self::Text(text) => Some(Message::Text(text)),
            Self::Binary(octets) => Some(Message::Binary(octets)),
            Self::Ping(_) | Self::Pong(_) | Self::Close(_) => None,
        }
    }
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
    inner: WebSocketStream<Box<dyn Io>>,
    options: SocketOptions,
    subprotocol: Option<String>,
    heartbeat: Heartbeat,
    control: ControlBudget,
    ended: bool,
    /// The peer's close frame came, and the library's answer to it waits to be written.
    closed_by_peer: bool,
}

impl Socket {
    /// Our end of a stream whose upgrade was answered; `read_ahead` is what came behind the request.
    pub(crate) async fn accepted(
        io: Box<dyn Io>,
        read_ahead: Bytes,
        subprotocol: Option<String>,
        options: SocketOptions,
    ) -> Self {
        let config = Some(options.config());
        let inner = WebSocketStream::from_partially_read(
            Box::new(meter::Metered::new(io)) as Box<dyn Io>,
            read_ahead.into(),
            Role::Server,
            config,
        )
        .await;
        Self::new(inner, subprotocol, options)
    }

    fn new(
        inner: WebSocketStream<Box<dyn Io>>,
        subprotocol: Option<String>,
        options: SocketOptions,
    ) -> Self {
        Self {
            inner,
            options,
            subprotocol,
            heartbeat: Heartbeat::new(options.keepalive),
            control: ControlBudget::new(),
            ended: false,
            closed_by_peer: false,
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
        if self.ended {
            return None;
        }
        let outcome = self.next().await;
        self.ended = !matches!(outcome, Some(Ok(_)));
        outcome
    }

    async fn next(&mut self) -> Option<Result<Incoming, SocketError>> {
        loop {
            tokio::select! {
                biased;
                message = self.inner.next() => {
                    self.heartbeat.heard();
                    return message.map(|message| self.take(message));
                }
                beat = self.heartbeat.next() => match beat {
                    Beat::Quiet => {}
                    Beat::Ping => if let Err(error) = self.send(Outgoing::Ping(b"")).await {
                        return Some(Err(error));
                    }
                    Beat::Dead { silent_for } => {
                        return Some(Err(SocketError::Silent { silent_for }));
                    }
                }
            }
        }
    }

    fn take(
        &mut self,
        message: Result<tungstenite::Message, tungstenite::Error>,
    ) -> Result<Incoming, SocketError> {
        use tungstenite::Message as Raw;
        let message = message.map_err(|error| SocketError::from_wire(error, &self.options))?;
        if matches!(message, Raw::Ping(_) | Raw::Pong(_)) {
            self.control.spend()?;
        }
        self.closed_by_peer |= matches!(message, Raw::Close(_));
        Ok(match message {
            Raw::Text(text) => Incoming::Text(Text(text)),
            Raw::Binary(octets) => Incoming::Binary(octets),
            Raw::Ping(octets) => Incoming::Ping(octets),
            Raw::Pong(octets) => Incoming::Pong(octets),
            Raw::Close(frame) => Incoming::Close(frame.map(|frame| Closed {
                code: frame.code.into(),
                reason: frame.reason.as_str().to_owned(),
            })),
            // Single frames are only ever written by this library, never read.
            Raw::Frame(frame) => Incoming::Binary(frame.into_payload()),
        })
    }

    /// Sends a message and waits until the system has taken it.
    ///
    /// # Errors
    /// [`SocketError::WriteDeadline`] if the peer does not read; the stream is then beyond use.
    pub async fn send(&mut self, message: Outgoing<'_>) -> Result<(), SocketError> {
        self.feed(message).await?;
        self.flush().await
    }

    /// Puts a message into the write buffer; [`Socket::flush`] sends it. Several messages then cost one system call.
    ///
    /// # Errors
    /// As [`Socket::send`], where the buffer is full and has to be written first.
    pub async fn feed(&mut self, message: Outgoing<'_>) -> Result<(), SocketError> {
        let message = match message {
            Outgoing::Text(text) => tungstenite::Message::Text(text.into()),
            Outgoing::Binary(octets) => {
                tungstenite::Message::Binary(Bytes::copy_from_slice(octets))
            }
            Outgoing::Ping(octets) => tungstenite::Message::Ping(Bytes::copy_from_slice(octets)),
        };
        let write = self.inner.feed(message);
        within(&self.options, write).await
    }

    /// Writes all that was fed.
    ///
    /// # Errors
    /// As [`Socket::send`].
    pub async fn flush(&mut self) -> Result<(), SocketError> {
        let write = self.inner.flush();
        within(&self.options, write).await
    }

    /// Closes the stream and lets go of it: sends the close frame (or answers the peer's with its own code), then reads what is still under way
    /// into nothing for at most 200 ms, so that the frame is not overtaken by a reset. A `code` that may not be sent, such as
    /// 1006, sends a close frame without one; of `reason`, 123 octets are sent.
    pub async fn close(mut self, code: u16, reason: &str) {
        let code = tungstenite::protocol::frame::coding::CloseCode::from(code);
        let reason = cut(reason, MAX_REASON);
        let frame = code.is_allowed().then(|| CloseFrame { code, reason: reason.into() });
        let farewell = async {
            let written = if self.closed_by_peer {
                // After the peer's close frame the library takes no frame of ours, and answers only when it is flushed or read
                // from; an error says that it had answered before.
                let _ = self.inner.flush().await;
                true
            } else {
                self.inner.close(frame).await.is_ok()
            };
            // A line that is already down cannot be told anything; there is nobody to report this to.
            if written {
                drain(self.inner.into_inner()).await;
            }
        };
        let _ = tokio::time::timeout(LINGER, farewell).await;
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

async fn within(
    options: &SocketOptions,
    write: impl Future<Output = Result<(), tungstenite::Error>>,
) -> Result<(), SocketError> {
    match tokio::time::timeout(options.write_deadline, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(SocketError::from_wire(error, options)),
        Err(_elapsed) => Err(SocketError::WriteDeadline { waited: options.write_deadline }),
    }
}

#[cfg(test)]
mod tests;
