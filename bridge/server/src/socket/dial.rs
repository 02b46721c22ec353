//! The client's end of a WebSocket: asks for the upgrade and hands out the same [`Socket`]. Opens no connection and knows no TLS.

use std::io;
use std::time::Duration;

use ringback_proto::provider::OutgoingUpgrade;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::wire::Role;
use super::{Agreed, Asking, Socket, SocketOptions, accept_key};
use crate::net::Io;

/// A server that takes longer to answer the upgrade is taken for dead.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// Octets of a request that is answered.
const MAX_ASKED: usize = 16 * 1024;

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

/// Answers whoever asks for a stream at the other end of `io`, whatever path and fields it asks with, and takes the first subprotocol
/// it offers; for servers that are acted out.
///
/// # Errors
/// If what is asked is no WebSocket, or not asked in time.
pub async fn answer(io: impl Io, options: SocketOptions) -> Result<Socket, DialError> {
    let mut io: Box<dyn Io> = Box::new(io);
    let answered = tokio::time::timeout(HANDSHAKE_DEADLINE, async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() > MAX_ASKED {
                return Err(DialError::Handshake("the request is too long".into()));
            }
            head.push(io.read_u8().await.map_err(|error| failed(&error))?);
        }
        let head = String::from_utf8_lossy(&head);
        let value = |name: &str| {
            let mut fields = head.lines().filter_map(|line| line.split_once(':'));
            fields
                .find(|(field, _)| field.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim())
        };
        let key = value("sec-websocket-key");
        let key = key.ok_or_else(|| DialError::Handshake("no key".into()))?;
        let offered = value("sec-websocket-protocol").and_then(|names| names.split(',').next());
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {}\r\n",
            accept_key(key.as_bytes())
        );
        if let Some(name) = offered {
            answer += &format!("sec-websocket-protocol: {name}\r\n");
        }
        answer += "\r\n";
        send(&mut io, answer.as_bytes()).await.map_err(|error| failed(&error))?;
        Ok(offered.map(str::to_owned))
    });
    let subprotocol = answered.await.unwrap_or(Err(DialError::Deadline(HANDSHAKE_DEADLINE)))?;
    Ok(Socket::accepted(io, &[], subprotocol, options))
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
