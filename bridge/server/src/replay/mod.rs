//! Replays of transcripts: says over a real connection what the provider said, at its times, and listens. Shows nothing itself.

mod compare;
mod lines;

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use ringback_proto::Instant;
use ringback_proto::provider::{Message, OutgoingUpgrade, Provider, Transport};
use ringback_proto::transcript::{CUT, Direction, Line, NO_CODE, Transcript, Wire};

use crate::client::servers::{Servers, Way};
use crate::client::{ClientError, refused};
use crate::clock::Clock;
use crate::destination::Destination;
use crate::outgoing::Connector;
use crate::socket::{self, Incoming, Outgoing, Socket, SocketError, SocketOptions};

pub use compare::{Comparison, Count, Difference, Heard, Kinds, compare};

/// Once all was said, the bridge has so long to go on; and it has stopped when it said nothing for [`QUIET`].
const LAST_WORDS: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_millis(500);
/// Answers that are kept to be compared; more are only counted.
const MOST_HEARD: usize = 1_000_000;

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// So many times as fast as it was.
    Times(f64),
    /// Without waiting for anything.
    Max,
}

impl std::str::FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let times = text.parse().ok().filter(|times| (0.01..=1_000.0).contains(times));
        times.map(Self::Times).ok_or_else(|| "0.01 to 1000 times as fast as it was, or max".into())
    }
}

impl Speed {
    /// When a line is due.
    fn due(self, start: Instant, at: Instant) -> Instant {
        match self {
            Self::Times(times) => start + at.since_epoch().div_f64(times),
            Self::Max => start,
        }
    }
}

/// Whom to tell what.
pub struct Replay<'a> {
    /// What was said.
    pub transcript: &'a Transcript,
    /// By which provider.
    pub provider: &'static dyn Provider,
    /// To whom, and with what proof.
    pub to: Destination,
    /// Header fields beside those of the transcript.
    pub headers: Vec<(String, String)>,
    /// How fast.
    pub speed: Speed,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was said.
    pub sent: Kinds,
    /// What came back.
    pub heard: Vec<Heard>,
    /// Answers that were not kept.
    pub unkept: u64,
    /// Who ended the stream, and with which code.
    pub closed: Option<(Direction, u16)>,
    /// The line at which it was over, where that was before the last one was said.
    pub unsaid: Option<usize>,
    /// How long it took.
    pub lasted: Duration,
}

impl Replay<'_> {
    /// The request for the stream.
    fn request(&self) -> OutgoingUpgrade {
        let is_offer = |(name, _): &&(String, String)| name == "sec-websocket-protocol";
        let (offers, fields): (Vec<_>, Vec<_>) = self.transcript.headers.iter().partition(is_offer);
        let offers = offers.into_iter().flat_map(|(_, value)| value.split(','));
        OutgoingUpgrade {
            target: self.to.url.target.clone(),
            headers: fields.into_iter().chain(&self.headers).cloned().collect(),
            subprotocols: offers.map(|offer| offer.trim().to_owned()).collect(),
        }
    }

    /// Opens the stream, says everything and listens to the end.
    ///
    /// # Errors
    /// If nobody listens there or the stream is refused. A stream that ends early is no error, but an [`Outcome`].
    pub async fn run(&self, clock: Clock, connector: &Connector) -> Result<Outcome, ClientError> {
        let url = &self.to.url;
        let address = || url.authority.clone();
        if let Transport::Webhook { .. } = self.provider.transport() {
            return self.over_lines(clock, connector).await;
        }
        let mut request = self.request();
        self.to.sign(&mut request).map_err(ClientError::Unsigned)?;
        let stream = connector.connect(&url.peer()).await;
        let stream = stream.map_err(|error| ClientError::Connect { address: address(), error })?;
        // Answers of this size are nothing to be afraid of; the bridge's own limits are for strangers.
        let options = SocketOptions { max_message: 16 * 1024 * 1024, ..SocketOptions::default() };
        let socket = match self.provider.transport() {
            Transport::Records => Socket::records(stream, &[], options),
            Transport::WebSocket | Transport::Webhook { .. } => {
                let socket = socket::dial(stream, url.host(), &request, options).await;
                socket.map_err(|error| refused(&self.to, error))?
            }
        };
        let mut playing = Playing {
            clock,
            provider: self.provider,
            start: clock.now(),
            socket: Some(socket),
            outcome: Outcome::default(),
        };
        playing.play(self.transcript, self.speed).await;
        playing.outcome.lasted = clock.now() - playing.start;
        Ok(playing.outcome)
    }

    /// [`Self::run`] of a call whose lines the bridge dials: at ports of this machine, which stand for the provider's servers.
    async fn over_lines(
        &self,
        clock: Clock,
        connector: &Connector,
    ) -> Result<Outcome, ClientError> {
        let headers = self.transcript.headers.iter().chain(&self.headers).cloned().collect();
        let way = Way { connector: connector.clone(), to: self.to.clone(), headers };
        let servers = Servers::open(self.provider, way, connector.hosts(), "replay")?;
        let outcome = Outcome::default();
        let playing = lines::Playing::new(clock, self.provider, servers, self.transcript, outcome);
        playing.play(self.transcript, self.speed).await
    }
}

impl Outcome {
    /// Notes something that came back.
    fn keep(&mut self, heard: Heard) {
        if self.heard.len() < MOST_HEARD {
            self.heard.push(heard);
        } else {
            self.unkept += 1;
        }
    }
}

/// A replay in progress.
struct Playing<'a> {
    clock: Clock,
    provider: &'a dyn Provider,
    start: Instant,
    socket: Option<Socket>,
    outcome: Outcome,
}

/// What happened first.
enum Turn {
    Flushed(bool),
    Came(Option<Result<Incoming, SocketError>>),
    Late,
}

impl Playing<'_> {
    async fn play(&mut self, transcript: &Transcript, speed: Speed) {
        // Who had closed already was not listening any more: what is said behind it need not be heard.
        let mut parted = false;
        for line in &transcript.lines {
            if line.direction == Direction::Out {
                parted |= matches!(line.wire, Wire::Close(_));
                continue;
            }
            self.listen_until(speed.due(self.start, line.at)).await;
            if let Wire::Close(code) = line.wire {
                // What is on its way to us comes before our close gets there.
                self.listen_out().await;
                return self.close(code).await;
            }
            if !self.say(line).await {
                self.outcome.unsaid = (!parted).then_some(line.number);
                return;
            }
        }
        if let (Some(last), Speed::Times(_)) = (transcript.lines.last(), speed) {
            self.listen_until(speed.due(self.start, last.at)).await;
        }
        self.listen_out().await;
        self.close(socket::close_code::NORMAL).await;
    }

    /// Says a line; whether it could be said.
    async fn say(&mut self, line: &Line) -> bool {
        let message = match line.wire.message() {
            Some(Message::Text(text)) => Outgoing::Text(text),
            Some(Message::Binary(octets)) => Outgoing::Binary(octets),
            None => return true,
        };
        let Some(socket) = self.socket.as_mut() else { return false };
        if socket.feed(message).is_err() {
            return false;
        }
        let deadline = self.clock.now() + LAST_WORDS;
        loop {
            match self.turn(deadline, true).await {
                Turn::Flushed(true) => {
                    self.outcome.sent.count(self.provider, &line.wire);
                    return true;
                }
                Turn::Came(incoming) => self.take(incoming).await,
                Turn::Flushed(false) | Turn::Late => {
                    // What it said last may tell why.
                    self.listen_out().await;
                    return false;
                }
            }
            if self.socket.is_none() {
                return false;
            }
        }
    }

    /// Waits for what comes, for what was fed to be written, or until a moment.
    async fn turn(&mut self, until: Instant, flush: bool) -> Turn {
        let Some(socket) = self.socket.as_mut() else { return Turn::Late };
        let acts = poll_fn(|cx| {
            if flush && let Poll::Ready(flushed) = socket.poll_flush(cx) {
                return Poll::Ready(Turn::Flushed(flushed.is_ok()));
            }
            // Also while it is written: a bridge that waits for us to read does not read us.
            socket.poll_recv(cx).map(Turn::Came)
        });
        tokio::select! {
            biased;
            turn = acts => turn,
            () = self.clock.sleep_until(Some(until)) => Turn::Late,
        }
    }

    async fn listen_until(&mut self, moment: Instant) {
        while let Turn::Came(incoming) = self.turn(moment, false).await {
            self.take(incoming).await;
        }
    }

    /// Listens until the bridge has nothing more to say.
    async fn listen_out(&mut self) {
        let deadline = self.clock.now() + LAST_WORDS;
        loop {
            let quiet = deadline.min(self.clock.now() + QUIET);
            match self.turn(quiet, false).await {
                Turn::Came(incoming) if self.clock.now() < deadline => self.take(incoming).await,
                _ => return,
            }
        }
    }

    async fn take(&mut self, incoming: Option<Result<Incoming, SocketError>>) {
        let code = match &incoming {
            Some(Ok(Incoming::Close(closed))) => {
                closed.as_ref().map_or(NO_CODE, |closed| closed.code)
            }
            Some(Ok(incoming)) => {
                let message = self.socket.as_ref().and_then(|socket| socket.message(incoming));
                if let Some(message) = message {
                    let heard = Heard::new(self.provider, &message.into());
                    self.outcome.keep(heard);
                }
                return;
            }
            Some(Err(_)) | None => CUT,
        };
        self.outcome.closed = Some((Direction::Out, code));
        if let Some(socket) = self.socket.take() {
            socket.close(socket::close_code::NORMAL, "").await;
        }
    }

    async fn close(&mut self, code: u16) {
        let Some(socket) = self.socket.take() else { return };
        self.outcome.closed = Some((Direction::In, code));
        if code != CUT {
            socket.close(code, "").await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_due_at_their_times_or_at_once() {
        let (start, at) = (Instant::from_millis(1_000), Instant::from_millis(600));
        for (speed, due) in [("1", 1_600), ("4", 1_150), ("0.5", 2_200), ("max", 1_000)] {
            let speed: Speed = speed.parse().unwrap();
            assert_eq!(speed.due(start, at), Instant::from_millis(due), "{speed:?}");
        }
        for wrong in ["", "0", "-1", "fast", "nan", "inf", "1001"] {
            assert!(wrong.parse::<Speed>().is_err(), "{wrong}");
        }
    }
}
