//! The other end of `/events`: reads a bridge's event stream. Follows no redirect and does not connect again.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use ringback_proto::provider::with_query;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::listener::EVENTS_PATH;
use crate::net::Io;
use crate::outgoing::{Connector, Peer};

/// Connecting and the head of the answer take no longer than this.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// The longest line taken, in octets; a transcript with all its words is a few kB.
const MAX_LINE: usize = 256 * 1024;

/// Why a bridge's events cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// Nobody answers there.
    #[error("the bridge's events cannot be reached: {0}")]
    Connect(String),
    /// The bridge does not tell, or not to us.
    #[error(
        "the bridge does not tell its events here: {EVENTS_PATH} answers {status} (see `events` under [server])"
    )]
    Refused {
        /// HTTP status.
        status: u16,
    },
    /// The answer is no event stream.
    #[error("the bridge's events cannot be read: {0}")]
    Malformed(String),
    /// The connection broke.
    #[error("the bridge's events break off: {0}")]
    Broken(#[from] io::Error),
}

/// A bridge's event stream being read.
pub struct Follower {
    io: Box<dyn Io>,
    buffer: BytesMut,
}

impl Follower {
    /// Follows the bridge at `peer`; with `call`, only the call of that name, the bridge's or the provider's.
    /// When this returns, the bridge tells everything that happens.
    ///
    /// # Errors
    /// If nobody answers within 2 s or the bridge refuses.
    pub async fn connect(
        connector: &Connector,
        peer: &Peer,
        call: Option<&str>,
    ) -> Result<Self, FollowError> {
        let connecting = tokio::time::timeout(CONNECT_DEADLINE, Self::open(connector, peer, call));
        connecting.await.unwrap_or_else(|_| Err(FollowError::Connect("no answer in 2 s".into())))
    }

    async fn open(
        connector: &Connector,
        peer: &Peer,
        call: Option<&str>,
    ) -> Result<Self, FollowError> {
        let failed = |error: io::Error| FollowError::Connect(error.to_string());
        let io = connector.connect(peer).await;
        let io = io.map_err(|error| FollowError::Connect(error.to_string()))?;
        let authority = &peer.authority;
        let mut follower = Self { io, buffer: BytesMut::new() };
        let target = target(call);
        // HTTP/1.0, because there a body is what comes until the end, and not in chunks.
        let request = format!(
            "GET {target} HTTP/1.0\r\nhost: {authority}\r\naccept: text/event-stream\r\n\r\n"
        );
        follower.io.write_all(request.as_bytes()).await.map_err(failed)?;
        follower.io.flush().await.map_err(failed)?;
        let first = follower.line().await?.unwrap_or_default();
        let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
        match status.and_then(|status| status.parse().ok()) {
            Some(200) => {}
            Some(status) => return Err(FollowError::Refused { status }),
            None => return Err(FollowError::Malformed("this is not HTTP".into())),
        }
        while follower.line().await?.is_some_and(|field| !field.is_empty()) {}
        Ok(follower)
    }

    /// The next event, or `None` once the bridge has ended the stream. Cancel safe.
    ///
    /// # Errors
    /// If the connection breaks or what comes is no event.
    pub async fn next(&mut self) -> Result<Option<Value>, FollowError> {
        while let Some(line) = self.line().await? {
            // Anything else is a comment, or the empty line after an event.
            if let Some(json) = line.strip_prefix("data:") {
                let event = serde_json::from_str(json);
                return event.map(Some).map_err(|e| FollowError::Malformed(e.to_string()));
            }
        }
        Ok(None)
    }

    /// The next line without its end. Cancel safe: what was read of a line stays in the buffer.
    async fn line(&mut self) -> Result<Option<String>, FollowError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|octet| *octet == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
            }
            if self.buffer.len() > MAX_LINE {
                return Err(FollowError::Malformed(format!("a line is over {MAX_LINE} octets")));
            }
            self.buffer.reserve(4 * 1024);
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("buffered", &self.buffer.len()).finish_non_exhaustive()
    }
}

/// Path and query for all calls, or for the one of that name.
fn target(call: Option<&str>) -> String {
    let pair = call.map(|call| ("call".to_owned(), call.to_owned()));
    with_query(EVENTS_PATH, pair.as_slice())
}

#[cfg(test)]
mod tests {
    use ringback_proto::provider::Upgrade;

    use super::target;

    #[test]
    fn names_of_calls_survive_the_query() {
        assert_eq!(target(None), "/events");
        for name in ["CA0123-x_y.z~", "a b&c=ü", "v3:M_x+1="] {
            let target = target(Some(name));
            assert!(target.is_ascii() && !target.contains(' '), "{target}");
            let request = Upgrade { target: &target, public_url: None, headers: &[] };
            assert_eq!(request.query("call").as_deref(), Some(name), "{target}");
        }
    }
}
