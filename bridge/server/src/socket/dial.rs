//! The client's end of a WebSocket: asks for the upgrade and hands out the same [`Socket`]. Opens no connection and knows no TLS.

use std::time::Duration;

use ringback_proto::provider::OutgoingUpgrade;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::{self, ClientRequestBuilder};

use super::{Socket, SocketOptions};
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
    let uri = format!("ws://{host}{}", request.target)
        .parse()
        .map_err(|error| DialError::Request(format!("{host}{}: {error}", request.target)))?;
    let mut builder = ClientRequestBuilder::new(uri);
    for (name, value) in &request.headers {
        builder = builder.with_header(name, value);
    }
    for subprotocol in &request.subprotocols {
        builder = builder.with_sub_protocol(subprotocol);
    }
    let io: Box<dyn Io> = Box::new(io);
    let handshake = client_async_with_config(builder, io, Some(options.config()));
    let (stream, response) = tokio::time::timeout(HANDSHAKE_DEADLINE, handshake)
        .await
        .map_err(|_elapsed| DialError::Deadline(HANDSHAKE_DEADLINE))?
        .map_err(refusal)?;
    let subprotocol = response
        .headers()
        .get("sec-websocket-protocol")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    Ok(Socket::new(stream, subprotocol, options))
}

fn refusal(error: tungstenite::Error) -> DialError {
    match error {
        tungstenite::Error::Http(response) => DialError::Refused {
            status: response.status().as_u16(),
            retry_after: response
                .headers()
                .get("retry-after")
                .and_then(|value| value.to_str().ok())
                .and_then(|seconds| seconds.parse().ok()),
            body: response
                .body()
                .as_deref()
                .map(|body| String::from_utf8_lossy(body).trim().to_owned())
                .unwrap_or_default(),
        },
        tungstenite::Error::HttpFormat(error) => DialError::Request(error.to_string()),
        other => DialError::Handshake(other.to_string()),
    }
}
