//! A phone call placed over a real socket: drives a simulated phone behind a provider against a bridge. Shows nothing itself.

use std::collections::VecDeque;
use std::time::Duration;

use ringback_proto::provider::{Dial, Digit, Outbox, Provider, Send as WireSend, Track, Transport};
use ringback_proto::simulator::{Counters, PhoneEvent, Simulator, SimulatorError};
use tokio::net::TcpStream;

use crate::clock::Clock;
use crate::net::Io;
use crate::socket::{self, DialError, Incoming, Outgoing, Socket, SocketError, SocketOptions};

/// Connecting takes no longer than this.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Where a bridge listens: `ws://host:port/path?query`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WsUrl {
    /// Host and port.
    pub authority: String,
    /// Path and query.
    pub target: String,
}

impl std::str::FromStr for WsUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("ws://") else {
            return Err(format!(
                "`{text}` does not begin with ws:// (a plain WebSocket; put a TLS proxy in front for wss://)"
            ));
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if host.is_empty() {
            return Err(format!("`{text}` names no host"));
        }
        let authority = if has_port(host) { host.to_owned() } else { format!("{host}:80") };
        let target = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
        Ok(Self { authority, target })
    }
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(name, port)| {
        (!name.contains(':') || name.ends_with(']')) && port.parse::<u16>().is_ok()
    })
}

/// Why a call could not be placed or broke.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens there.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// Host and port.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The bridge refused the stream.
    #[error("{address} {error}")]
    Dial {
        /// Host and port.
        address: String,
        /// What it said.
        error: DialError,
    },
    /// The bridge or the sound broke a rule.
    #[error(transparent)]
    Phone(#[from] SimulatorError),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Socket(#[from] SocketError),
}

/// What happens on the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallEvent {
    /// Something at the phone.
    Phone(PhoneEvent),
    /// The bridge closed the stream, with this code and reason.
    Closed {
        /// Close code; 1005 if it gave none, 1006 if the line was cut.
        code: u16,
        /// In the bridge's words.
        reason: String,
    },
}

/// A phone call in progress.
pub struct Client {
    clock: Clock,
    socket: Option<Socket>,
    phone: Simulator,
    out: Outbox,
    /// Messages of `out` that were handed to the socket: a send that was cancelled in between is not repeated.
    fed: usize,
    events: VecDeque<CallEvent>,
}

impl Client {
    /// Calls the bridge at `url` as `provider` would. With `record`, all that is heard is kept.
    ///
    /// # Errors
    /// If nobody listens there or the stream is refused.
    pub async fn connect(
        clock: Clock,
        url: &WsUrl,
        provider: &dyn Provider,
        dial: Dial,
        record: bool,
    ) -> Result<Self, ClientError> {
        let address = url.authority.clone();
        let failed = |reason: String| ClientError::Connect { address: address.clone(), reason };
        let stream = tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect(&url.authority))
            .await
            .map_err(|_elapsed| failed("no answer in 5 s".into()))?
            .map_err(|error| failed(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
        Self::over(clock, stream, url, provider, dial, record).await
    }

    /// [`Self::connect`] over a connection that is there already: one in memory, say.
    ///
    /// # Errors
    /// If the stream is refused.
    pub async fn over(
        clock: Clock,
        stream: impl Io,
        url: &WsUrl,
        provider: &dyn Provider,
        dial: Dial,
        record: bool,
    ) -> Result<Self, ClientError> {
        let dial = Dial { target: url.target.clone(), ..dial };
        let (request, phone) = Simulator::new(provider, &dial, record);
        let options = SocketOptions::default();
        let socket =
            match provider.transport() {
                Transport::Records => Socket::records(Box::new(stream), &[], options),
                Transport::WebSocket => socket::dial(stream, &url.authority, &request, options)
                    .await
                    .map_err(|error| ClientError::Dial { address: url.authority.clone(), error })?,
            };
        let mut client = Self {
            clock,
            socket: Some(socket),
            phone,
            out: Outbox::new(),
            fed: 0,
            events: VecDeque::new(),
        };
        client.phone.handle_open(clock.now(), &mut client.out)?;
        client.flush().await?;
        Ok(client)
    }

    /// The phone, to speak into and to read what was heard.
    pub fn phone(&mut self) -> &mut Simulator {
        &mut self.phone
    }

    /// Figures so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.phone.counters()
    }

    /// Says this after what is being said.
    pub fn speak(&mut self, samples: &[i16]) {
        self.phone.speak(Track::Inbound, samples);
    }

    /// Presses a key.
    ///
    /// # Errors
    /// If the connection broke.
    pub async fn press(&mut self, digit: Digit) -> Result<(), ClientError> {
        self.phone.press(self.clock.now(), digit, &mut self.out)?;
        self.flush().await
    }

    /// Hangs up and says goodbye to the socket.
    ///
    /// # Errors
    /// If the connection broke.
    pub async fn hang_up(&mut self) -> Result<(), ClientError> {
        self.phone.hang_up(self.clock.now(), &mut self.out)?;
        self.flush().await?;
        if let Some(socket) = self.socket.take() {
            socket.close(socket::close_code::NORMAL, "").await;
        }
        Ok(())
    }

    /// What happens next, or `None` once the call is over and all was told. Keeps speaking and listening meanwhile. Cancel safe.
    ///
    /// # Errors
    /// If the connection broke or the bridge broke the protocol.
    pub async fn next(&mut self) -> Result<Option<CallEvent>, ClientError> {
        loop {
            while let Some(event) = self.phone.poll_event() {
                self.events.push_back(CallEvent::Phone(event));
            }
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let Some(socket) = &mut self.socket else { return Ok(None) };
            tokio::select! {
                biased;
                message = socket.recv() => self.take(message).await?,
                () = self.clock.sleep_until(self.phone.poll_timeout()) => {
                    self.phone.handle_timeout(self.clock.now(), &mut self.out)?;
                    self.flush().await?;
                }
            }
        }
    }

    async fn take(
        &mut self,
        message: Option<Result<Incoming, SocketError>>,
    ) -> Result<(), ClientError> {
        let now = self.clock.now();
        let (code, reason) = match message {
            Some(Ok(Incoming::Close(closed))) => {
                closed.map_or((1005, String::new()), |closed| (closed.code, closed.reason))
            }
            Some(Ok(incoming)) => {
                let message = self.socket.as_ref().and_then(|socket| socket.message(&incoming));
                if let Some(message) = message {
                    self.phone.handle_message(now, message, &mut self.out)?;
                    self.flush().await?;
                }
                return Ok(());
            }
            Some(Err(error)) => return Err(error.into()),
            None => (1006, "the line was cut".into()),
        };
        self.phone.handle_close(now, &mut self.out)?;
        if let Some(socket) = self.socket.take() {
            socket.close(socket::close_code::NORMAL, "").await;
        }
        self.events.push_back(CallEvent::Closed { code, reason });
        Ok(())
    }

    /// Sends all that the phone has for the wire.
    async fn flush(&mut self) -> Result<(), ClientError> {
        if let Some(socket) = &mut self.socket {
            let mut close = None;
            while let Some(send) = self.out.sends().get(self.fed) {
                self.fed += 1;
                match send {
                    WireSend::Text(span) => socket.feed(Outgoing::Text(self.out.text_of(span)))?,
                    WireSend::Binary(span) => {
                        socket.feed(Outgoing::Binary(self.out.octets(span)))?;
                    }
                    WireSend::Close(code) => close = Some(*code),
                }
            }
            socket.flush().await?;
            if let (Some(code), Some(socket)) = (close, close.and_then(|_| self.socket.take())) {
                socket.close(code, "").await;
            }
        }
        self.out.reset();
        self.fed = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_refused_with_reasons() {
        let url: WsUrl = "ws://127.0.0.1:8080/raw?rate=8000".parse().expect("a url");
        assert_eq!(
            (url.authority.as_str(), url.target.as_str()),
            ("127.0.0.1:8080", "/raw?rate=8000")
        );
        let bare: WsUrl = "ws://[::1]".parse().expect("a url");
        assert_eq!((bare.authority.as_str(), bare.target.as_str()), ("[::1]:80", "/"));
        for (wrong, why) in [("http://x", "ws://"), ("wss://x/", "TLS"), ("ws:///x", "no host")] {
            let error = wrong.parse::<WsUrl>().expect_err("not a url");
            assert!(error.contains(why), "{error}");
        }
    }
}
