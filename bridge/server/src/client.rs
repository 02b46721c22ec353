//! A phone call placed over a real socket: drives a simulated phone behind a provider against a bridge. Shows nothing itself.

pub(crate) mod servers;

use std::collections::VecDeque;

use ringback_proto::provider::{
    Dial, Digit, LineEvent, Outbox, Provider, Send as WireSend, Track, Transport,
};
use ringback_proto::simulator::{Counters, PhoneEvent, Simulator, SimulatorError};
use ringback_proto::transcript::{CUT, NO_CODE};

use crate::clock::Clock;
use crate::destination::Destination;
use crate::net::{Io, MemoryHosts};
use crate::outgoing::{self, ConnectError, Connector, Peer};
use crate::socket::{self, DialError, Incoming, Outgoing, Socket, SocketError, SocketOptions};
use servers::{AtServers, Servers, Way};

/// Where a server listens: `ws://host:port/path?query`, or `wss://` for TLS. Prints without its query, which may hold a key.
#[derive(Clone, PartialEq, Eq)]
pub struct WsUrl {
    /// Whether by TLS.
    pub secure: bool,
    /// Host and port.
    pub authority: String,
    /// Path and query.
    pub target: String,
}

impl WsUrl {
    /// `ws://`, without TLS.
    #[must_use]
    pub const fn plain(authority: String, target: String) -> Self {
        Self { secure: false, authority, target }
    }

    /// Whom to connect to.
    #[must_use]
    pub fn peer(&self) -> Peer {
        Peer { authority: self.authority.clone(), secure: self.secure }
    }

    /// What goes into the `Host` field: the port only where it is not the scheme's own.
    #[must_use]
    pub fn host(&self) -> &str {
        outgoing::host_field(&self.authority, self.secure)
    }
}

impl std::fmt::Debug for WsUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.secure { "wss" } else { "ws" };
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "{scheme}://{}{path}", self.authority)
    }
}

impl std::str::FromStr for WsUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (secure, rest, port) = match (text.strip_prefix("wss://"), text.strip_prefix("ws://")) {
            (Some(rest), _) => (true, rest, 443),
            (_, Some(rest)) => (false, rest, 80),
            _ => return Err(format!("`{text}` does not begin with ws:// or wss://")),
        };
        let parts = outgoing::parts(rest, port).map_err(|error| format!("`{text}` {error}"));
        let (authority, target) = parts?;
        Ok(Self { secure, authority, target })
    }
}

/// Why a call could not be placed or broke.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// There is no connection.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        /// Host and port.
        address: String,
        /// Why not.
        error: ConnectError,
    },
    /// The bridge refused the stream.
    #[error("{address}: {error}{}", .check.map(|check| format!("; {check}")).unwrap_or_default())]
    Dial {
        /// Host and port.
        address: String,
        /// What it said.
        error: DialError,
        /// What to look at.
        check: Option<&'static str>,
    },
    /// The bridge took what was posted, and does not dial.
    #[error(
        "the bridge has not dialled {url}: this must run on the bridge's machine, and its listener's `options.dial` must have \"ws://127.0.0.1\"; its log says more"
    )]
    NotDialled {
        /// Where it should have.
        url: String,
    },
    /// The bridge does not answer what is posted, and more was to be.
    #[error(
        "a request of the call was not posted: {waiting} before it wait for the bridge to answer the one before them; its log says what keeps it"
    )]
    NotPosted {
        /// Requests that wait.
        waiting: usize,
    },
    /// The bridge dialled, and closed before the call had begun.
    #[error(
        "the bridge gave the call up before it began (closed with {code} {reason}): its log says why; what it signs must be what is checked here (--client-id and --client-secret, or --config)"
    )]
    NotBegun {
        /// Close code.
        code: u16,
        /// In the bridge's words.
        reason: String,
    },
    /// The request cannot be signed.
    #[error("the call cannot be signed: {0}")]
    Unsigned(String),
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
    /// What is left of a connection that nobody reads or closes any more.
    abandoned: (Option<Socket>, Option<Servers>),
    /// In the place of a socket, where the bridge dials.
    servers: Option<Servers>,
    phone: Simulator,
    out: Outbox,
    /// Messages of `out` that were handed to the socket: a send that was cancelled in between is not repeated.
    fed: usize,
    events: VecDeque<CallEvent>,
}

impl Client {
    /// Calls a bridge as `provider` would. With `record`, all that is heard is kept.
    ///
    /// # Errors
    /// If nobody listens there or the stream is refused.
    pub async fn connect(
        clock: Clock,
        connector: &Connector,
        to: impl Into<Destination>,
        provider: &dyn Provider,
        dial: Dial,
        record: bool,
    ) -> Result<Self, ClientError> {
        let to = to.into();
        if let Transport::Webhook { .. } = provider.transport() {
            let hosts = connector.hosts().cloned();
            let dial = Dial { target: to.url.target.clone(), app: to.app.clone(), ..dial };
            let way = Way { connector: connector.clone(), to, headers: Vec::new() };
            return Self::posting(clock, way, hosts.as_ref(), provider, dial, record).await;
        }
        let stream = connector
            .connect(&to.url.peer())
            .await
            .map_err(|error| ClientError::Connect { address: to.url.authority.clone(), error })?;
        Self::over(clock, stream, to, provider, dial, record).await
    }

    /// [`Self::connect`] over a connection that is there already: one in memory, say.
    ///
    /// # Errors
    /// If the stream is refused.
    pub async fn over(
        clock: Clock,
        stream: impl Io,
        to: impl Into<Destination>,
        provider: &dyn Provider,
        dial: Dial,
        record: bool,
    ) -> Result<Self, ClientError> {
        let to = to.into();
        let dial = Dial { target: to.url.target.clone(), ..dial };
        let (mut request, phone) = Simulator::new(provider, &dial, record);
        let options = SocketOptions::default();
        let socket = match provider.transport() {
            Transport::Records => Socket::records(Box::new(stream), &[], options),
            Transport::WebSocket => {
                to.sign(&mut request).map_err(ClientError::Unsigned)?;
                let socket = socket::dial(stream, to.url.host(), &request, options).await;
                socket.map_err(|error| refused(&to, error))?
            }
            Transport::Webhook { .. } => {
                let error = ConnectError::Io("one connection is not enough for it".into());
                return Err(ClientError::Connect { address: to.url.authority.clone(), error });
            }
        };
        Self::begin(clock, Some(socket), None, phone).await
    }

    /// Acts out a provider that posts that a call is there, and is dialled.
    async fn posting(
        clock: Clock,
        way: Way,
        hosts: Option<&MemoryHosts>,
        provider: &dyn Provider,
        dial: Dial,
        record: bool,
    ) -> Result<Self, ClientError> {
        let servers = Servers::open(provider, way, hosts, &dial.call)?;
        let dial = Dial { servers: servers.urls().to_vec(), ..dial };
        let (_, phone) = Simulator::new(provider, &dial, record);
        Self::begin(clock, None, Some(servers), phone).await
    }

    async fn begin(
        clock: Clock,
        socket: Option<Socket>,
        servers: Option<Servers>,
        phone: Simulator,
    ) -> Result<Self, ClientError> {
        let (out, events) = (Outbox::new(), VecDeque::new());
        let mut client =
            Self { clock, socket, abandoned: (None, None), servers, phone, out, fed: 0, events };
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

    /// Says this to a provider that recognises speech; see [`Simulator::say`].
    ///
    /// # Errors
    /// If the connection broke.
    pub async fn say(&mut self, text: &str) -> Result<(), ClientError> {
        self.phone.say(self.clock.now(), text, &mut self.out)?;
        self.flush().await
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
        let (socket, servers) = (self.socket.take(), self.servers.take());
        if self.phone.is_vanished() {
            self.abandoned = (socket, servers);
            return Ok(());
        }
        if let Some(socket) = socket {
            socket.close(socket::close_code::NORMAL, "").await;
        }
        if let Some(servers) = servers {
            servers.close(socket::close_code::NORMAL).await;
        }
        Ok(())
    }

    /// Whether the phone ended the call by itself and would place it again.
    #[must_use]
    pub fn redials(&self) -> bool {
        self.phone.redials()
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
            if let Some(servers) = &mut self.servers {
                let unread = self.phone.unread_until(self.clock.now());
                let wake = self.phone.poll_timeout().into_iter().chain(unread).min();
                tokio::select! {
                    biased;
                    happened = servers.next(), if unread.is_none() => self.serve(happened).await?,
                    () = self.clock.sleep_until(wake) => {
                        self.phone.handle_timeout(self.clock.now(), &mut self.out)?;
                        self.flush().await?;
                    }
                }
                continue;
            }
            let Some(socket) = &mut self.socket else { return Ok(None) };
            let unread = self.phone.unread_until(self.clock.now());
            let wake = self.phone.poll_timeout().into_iter().chain(unread).min();
            tokio::select! {
                biased;
                message = socket.recv(), if unread.is_none() => self.take(message).await?,
                () = self.clock.sleep_until(wake) => {
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
                closed.map_or((NO_CODE, String::new()), |closed| (closed.code, closed.reason))
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
            None => (CUT, "the line was cut".into()),
        };
        self.phone.handle_close(now, &mut self.out)?;
        if let Some(socket) = self.socket.take() {
            socket.close(socket::close_code::NORMAL, "").await;
        }
        self.events.push_back(CallEvent::Closed { code, reason });
        Ok(())
    }

    /// Takes in what happened at the provider's servers.
    async fn serve(&mut self, happened: AtServers) -> Result<(), ClientError> {
        let now = self.clock.now();
        let Some(servers) = &mut self.servers else { return Ok(()) };
        match happened {
            AtServers::NotTaken(error) => return Err(error),
            AtServers::Opened(line) => {
                self.phone.handle_line(now, line, LineEvent::Opened, &mut self.out)?;
            }
            AtServers::Came(line, Incoming::Close(closed)) => {
                let others = servers.hang_up(line).await;
                let (code, reason) =
                    closed.map_or((NO_CODE, String::new()), |c| (c.code, c.reason));
                let lost = LineEvent::Lost { reason: &reason };
                self.phone.handle_line(now, line, lost, &mut self.out)?;
                if !others {
                    // The bridge closes all its lines when it wants no more of the call.
                    self.phone.handle_close(now, &mut self.out)?;
                    if let Some(servers) = self.servers.take() {
                        servers.close(code).await;
                    }
                    if self.phone.start().is_none() {
                        return Err(ClientError::NotBegun { code, reason });
                    }
                    self.events.push_back(CallEvent::Closed { code, reason });
                }
            }
            AtServers::Came(line, incoming) => {
                if let Some(message) = servers.message(line, &incoming) {
                    let event = LineEvent::Message(message);
                    self.phone.handle_line(now, line, event, &mut self.out)?;
                }
            }
            AtServers::Lost(line, reason) => {
                let lost = LineEvent::Lost { reason: &reason };
                self.phone.handle_line(now, line, lost, &mut self.out)?;
            }
        }
        self.flush().await
    }

    /// [`Self::flush`] of what goes over lines and is posted.
    async fn flush_servers(&mut self) -> Result<(), ClientError> {
        let Some(servers) = &mut self.servers else { return Ok(()) };
        let mut close = None;
        while let Some(send) = self.out.sends().get(self.fed) {
            self.fed += 1;
            match send {
                WireSend::Text(span) => servers.post(self.out.text_of(span))?,
                WireSend::TextOn(line, span) => servers.feed(*line, self.out.text_of(span))?,
                WireSend::Close(code) => close = Some(*code),
                WireSend::Drop(line) => servers.cut(*line),
                WireSend::Binary(_) | WireSend::Dial(..) => {}
            }
        }
        servers.flush().await?;
        if let (Some(code), Some(servers)) = (close, close.and_then(|_| self.servers.take())) {
            servers.close(code).await;
        }
        Ok(())
    }

    /// Sends all that the phone has for the wire.
    async fn flush(&mut self) -> Result<(), ClientError> {
        self.flush_servers().await?;
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
                    // Only of providers that have servers in the place of a socket.
                    WireSend::Dial(..) | WireSend::TextOn(..) | WireSend::Drop(_) => {}
                }
            }
            socket.flush().await?;
            if let (Some(code), Some(socket)) = (close, close.and_then(|_| self.socket.take()))
                && code != CUT
            {
                socket.close(code, "").await;
            }
        }
        self.out.reset();
        self.fed = 0;
        Ok(())
    }
}

/// A refusal, and what to look at.
pub(crate) fn refused(to: &Destination, error: DialError) -> ClientError {
    let check = match &error {
        DialError::Refused { status, .. } => to.what_to_check(*status),
        _ => None,
    };
    ClientError::Dial { address: to.url.authority.clone(), error, check }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_refused_with_reasons() {
        let read = |text: &str| {
            let url: WsUrl = text.parse().expect("a url");
            (url.secure, url.authority.clone(), url.target.clone(), url.host().to_owned())
        };
        let expected = |secure, authority: &str, target: &str, host: &str| {
            (secure, authority.to_owned(), target.to_owned(), host.to_owned())
        };
        assert_eq!(
            read("ws://127.0.0.1:8080/raw?rate=8000"),
            expected(false, "127.0.0.1:8080", "/raw?rate=8000", "127.0.0.1:8080")
        );
        assert_eq!(read("ws://[::1]"), expected(false, "[::1]:80", "/", "[::1]"));
        assert_eq!(
            read("wss://rtms.example?a=/b"),
            expected(true, "rtms.example:443", "/?a=/b", "rtms.example")
        );
        assert_eq!(
            read("wss://[::1]:80/x"),
            expected(true, "[::1]:80", "/x", "[::1]:80"),
            "80 is not the port of wss://"
        );
        for (wrong, why) in [
            ("http://x", "ws://"),
            ("ws:///x", "no host"),
            ("wss://:443/x", "no host"),
            ("wss://::1/x", "brackets"),
            ("wss://user@host/x", "is no host"),
            ("wss://host:0/x", "no port"),
            ("wss://host:66000/x", "no port"),
        ] {
            let error = wrong.parse::<WsUrl>().expect_err("not a url");
            assert!(error.contains(why), "{error}");
        }
    }
}
