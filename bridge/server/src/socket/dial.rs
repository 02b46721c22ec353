//! The client's end of a WebSocket: asks for the upgrade and hands out the same [`Socket`]. Opens no connection and knows no TLS.

use std::io;
use std::time::Duration;

use ringback_proto::provider::OutgoingUpgrade;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::wire::Role;
use super::{Agreed, Asking, Socket, SocketOptions};
use crate::net::Io;

/// A server that takes longer to answer the upgrade is taken for dead.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Host or path do not make a URL, or a header field is none.
    #[error("the request cannot be written: {0}")]
    Request(String),
    /// The server answered with another status than 101.
    #[error("the server refused the stream with status {status}: {body}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Seconds of the `Retry-After` field.
        retry_after: Option<u64>,
        /// First part of the body.
        body: String,
    },
    /// The server answered wrongly, or the connection failed.
    #[error("the upgrade failed: {0}")]
    Handshake(String),
    /// No answer in time.
    #[error("no answer to the upgrade within {0:?}")]
    Deadline(Duration),
}

/// Asks the server at the other end of `io` for a stream. `host` goes into the `Host` field: `bridge.example:8080`.
///
/// # Errors
/// [`DialError::Refused`] tells what the server said.
pub async fn dial(
    io: impl Io,
    host: &str,
    request: &OutgoingUpgrade,
    options: SocketOptions,
) -> Result<Socket, DialError> {
    let mut asking = Asking::new(host, request)?;
    let mut io: Box<dyn Io> = Box::new(io);
    let asked = tokio::time::timeout(HANDSHAKE_DEADLINE, ask(&mut io, &mut asking)).await;
    let agreed =
        asked.map_err(|_elapsed| asking.give_up(DialError::Deadline(HANDSHAKE_DEADLINE)))??;
    Ok(Socket::new(io, Role::Client, &agreed.read_ahead, agreed.subprotocol, options))
}

async fn ask(io: &mut Box<dyn Io>, asking: &mut Asking) -> Result<Agreed, DialError> {
    // A server that is full may refuse and close before it has read anything: it is heard even if it does not hear.
    let sent = send(io, asking.request()).await;
    match (sent, hear(io, asking).await) {
        (Err(error), Err(DialError::Handshake(_))) => Err(failed(&error)),
        (_, answer) => answer,
    }
}

async fn send(io: &mut Box<dyn Io>, request: &[u8]) -> io::Result<()> {
    io.write_all(request).await?;
    io.flush().await
}

async fn hear(io: &mut Box<dyn Io>, asking: &mut Asking) -> Result<Agreed, DialError> {
    let mut octets = [0; 1024];
    loop {
        let count = match io.read(&mut octets).await {
            Ok(count) => count,
            Err(error) => return Err(asking.give_up(failed(&error))),
        };
        if let Some(agreed) = asking.take(&octets[..count])? {
            return Ok(agreed);
        }
    }
}

fn failed(error: &io::Error) -> DialError {
    DialError::Handshake(error.to_string())
}
