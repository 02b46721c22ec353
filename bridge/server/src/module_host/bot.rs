//! Somebody's existing bot as a module: dials it as its provider would and carries what the translator says. Understands no wire itself.
//!
//! No provider dials a bot again that has gone away, for what it knew of the call is lost; what that means is `on_fail`'s to say.

use std::time::Duration;

use ringback_module::AudioFrame;
use ringback_module::message::{Reject, Start};
use ringback_proto::Instant;
use ringback_proto::ledger::Drop;
use ringback_proto::provider::{OutgoingUpgrade, Send as WireSend, Transport};
use ringback_proto::translation::{Bot, Said, TranslationError, Translator};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::restart::called_off;
use super::{FromHost, Hosted, Inbox, Seat, ToHost, seat, talk};
use crate::clock::Clock;
use crate::destination::Destination;
use crate::outgoing::Connector;
use crate::socket::wire::Kind;
use crate::socket::{self, Closed, Incoming, Socket, SocketOptions, close_code};

/// A bot that has taken nothing for so long is given up.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// A bot of words may have nothing to say for minutes; this is how it shows that it is there.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Bots send whole replies in one message.
const MAX_MESSAGE: usize = 1024 * 1024;
/// And several of them at once.
const BURST: u64 = 16 * 1024 * 1024;

/// Where a bot is dialled, and as whom.
#[derive(Clone)]
pub struct BotSpec {
    /// Name of the module, for the log.
    pub name: String,
    /// What it is.
    pub bot: Bot,
    /// Where it is, and how its provider proves that it is the one who calls.
    pub to: Destination,
    /// Header fields beside those of the provider.
    pub headers: Vec<(String, String)>,
    /// Opens the connection, and knows whom to trust.
    pub connector: Connector,
}

/// Dials a bot for one call. Must be called within a runtime.
#[must_use]
pub fn spawn_bot(spec: BotSpec, start: Start) -> Hosted {
    let (hosted, Seat { mut to, from }) = seat();
    tokio::spawn(async move {
        let last = match run(&spec, &start, &mut to, &from).await {
            End::Over => FromHost::Gone { reason: None },
            End::Failed(reason) => FromHost::Gone { reason: Some(spec.placed(&reason)) },
            End::Rejected(reject) => FromHost::Rejected(reject),
            End::Abandoned => return,
        };
        // The call may be gone, and then does not need to know.
        let _ = from.send(last).await;
    });
    hosted
}

/// How a session with a bot ended.
enum End {
    Over,
    Failed(String),
    Rejected(Reject),
    /// Nobody listens any more.
    Abandoned,
}

impl BotSpec {
    async fn dial(&self, mut request: OutgoingUpgrade) -> Result<Socket, String> {
        let connected = self.connector.connect(&self.to.url.peer()).await;
        let io = connected.map_err(|error| format!("cannot connect: {error}"))?;
        let provider = self.bot.provider;
        let options = SocketOptions {
            max_message: MAX_MESSAGE,
            write_deadline: WRITE_DEADLINE,
            // Where sound is sent all the time, a bot that is gone does not take it.
            keepalive: (!provider.has_sound()).then_some(KEEPALIVE),
            burst: BURST,
        };
        if provider.transport() == Transport::Records {
            return Ok(Socket::records(io, &[], options));
        }
        request.headers.extend(self.headers.iter().cloned());
        self.to.sign(&mut request).map_err(|error| format!("cannot be signed: {error}"))?;
        let dialled = socket::dial(io, self.to.url.host(), &request, options).await;
        dialled.map_err(|error| error.to_string())
    }

    /// Says where it was. A query may hold what nobody else should know.
    fn placed(&self, reason: &str) -> String {
        let url = &self.to.url;
        let scheme = match (self.bot.provider.transport(), url.secure) {
            (Transport::Records, _) => "tcp",
            (_, true) => "wss",
            (_, false) => "ws",
        };
        let path = url.target.split('?').next().unwrap_or_default();
        format!("{scheme}://{}{path}: {reason}", url.authority)
    }
}

async fn run(spec: &BotSpec, start: &Start, to: &mut Inbox, from: &mpsc::Sender<FromHost>) -> End {
    let (request, translator) = match Translator::new(&spec.bot, start) {
        Ok(translated) => translated,
        Err(reject) => return End::Rejected(reject),
    };
    let (clock, limit) = (Clock::start(), Duration::from_millis(start.limits.ready_ms));
    let late = || End::Failed(format!("not ready within {} ms", start.limits.ready_ms));
    let socket = tokio::select! {
        dialled = timeout(limit, spec.dial(request)) => match dialled {
            Ok(Ok(socket)) => socket,
            Ok(Err(reason)) => return End::Failed(reason),
            Err(_elapsed) => return late(),
        },
        end = called_off(to) => return match end {
            talk::End::Abandoned => End::Abandoned,
            _ => End::Over,
        },
    };
    let mut session = Session {
        translator,
        socket: Some(socket),
        clock,
        from,
        ready_by: Some(clock.now() + limit),
        stop_by: None,
        is_records: spec.bot.provider.transport() == Transport::Records,
    };
    match session.serve(to).await {
        // What it is told in the end must not hold up the call.
        End::Over => {
            session.close(close_code::NORMAL, "");
            End::Over
        }
        End::Abandoned => {
            session.close(close_code::GOING_AWAY, "the call is gone");
            End::Abandoned
        }
        end => {
            session.translator.let_go(Drop::ModuleGone);
            match session.tell().await {
                Ok(()) => end,
                Err(abandoned) => abandoned,
            }
        }
    }
}

/// A session with a bot that was dialled.
struct Session<'a> {
    translator: Translator,
    /// Until one of the two has closed it.
    socket: Option<Socket>,
    clock: Clock,
    from: &'a mpsc::Sender<FromHost>,
    /// It must have begun by then.
    ready_by: Option<Instant>,
    /// It must have ended by then.
    stop_by: Option<Instant>,
    /// There is no close but the end of the connection.
    is_records: bool,
}

/// What woke a session.
enum Woken {
    Came(Option<Result<Incoming, socket::SocketError>>),
    Item(Option<ToHost>),
    Time,
}

impl Session<'_> {
    async fn serve(&mut self, to: &mut Inbox) -> End {
        if let Err(error) = self.translator.handle_open(self.clock.now()) {
            return self.broken(&error);
        }
        loop {
            if let Err(end) = self.flush().await {
                return end;
            }
            if self.translator.is_over() {
                return End::Over;
            }
            let wake = [self.translator.poll_timeout(), self.ready_by, self.stop_by];
            let wake = wake.into_iter().flatten().min();
            let woken = tokio::select! {
                came = received(&mut self.socket) => Woken::Came(came),
                item = to.recv() => Woken::Item(item),
                () = self.clock.sleep_until(wake) => Woken::Time,
            };
            let happened = match woken {
                Woken::Came(came) => self.came(came),
                Woken::Item(None) => return End::Abandoned,
                Woken::Item(Some(item)) => self.told(item),
                Woken::Time => self.time_passed(),
            };
            if let Err(end) = happened {
                return end;
            }
        }
    }

    fn came(&mut self, came: Option<Result<Incoming, socket::SocketError>>) -> Result<(), End> {
        let now = self.clock.now();
        let lost = match came {
            Some(Ok(Incoming::Close(closed))) => return self.left(now, closed),
            Some(Ok(incoming)) => {
                let message = self.socket.as_ref().and_then(|socket| socket.message(&incoming));
                let Some(message) = message else { return Ok(()) };
                let taken = self.translator.handle_message(now, message);
                return taken.map_err(|error| self.broken(&error));
            }
            Some(Err(error)) => error,
            None => socket::SocketError::Cut,
        };
        // The end of a record stream is how its bots hang up; and after the end of a call every end will do.
        let code = lost.close_code().unwrap_or(close_code::GOING_AWAY);
        self.close(code, &lost.to_string());
        if self.stop_by.is_some() {
            return Err(End::Over);
        }
        let hangs_up = self.is_records && matches!(lost, socket::SocketError::Cut);
        if hangs_up || self.translator.has_hung_up() {
            self.translator.handle_closed(now);
            return Ok(());
        }
        Err(End::Failed(lost.to_string()))
    }

    /// The bot has closed its stream; only what says that all is well is a hang-up.
    fn left(&mut self, now: Instant, closed: Option<Closed>) -> Result<(), End> {
        self.close(close_code::NORMAL, "");
        if self.stop_by.is_some() {
            return Err(End::Over);
        }
        match closed {
            Some(Closed { code, reason })
                if code != close_code::NORMAL && !self.translator.has_hung_up() =>
            {
                let colon = if reason.is_empty() { "" } else { ": " };
                let reason = reason.escape_debug();
                Err(End::Failed(format!("closed the stream with {code}{colon}{reason}")))
            }
            _ => {
                self.translator.handle_closed(now);
                Ok(())
            }
        }
    }

    fn told(&mut self, item: ToHost) -> Result<(), End> {
        let now = self.clock.now();
        let done = match item {
            ToHost::Audio { track, pts, rate, flags, samples } => {
                let frame = AudioFrame { track, rate, pts, flags, samples: &samples };
                self.translator.handle_sound(now, &frame)
            }
            ToHost::Message(message) => self.translator.handle_told(now, &message),
            ToHost::Stop { deadline, .. } => {
                self.stop_by = Some(now + deadline);
                self.translator.stop(now)
            }
            // Only what died is started again, and this is not.
            ToHost::Start(_) => Ok(()),
        };
        done.map_err(|error| self.broken(&error))
    }

    fn time_passed(&mut self) -> Result<(), End> {
        let now = self.clock.now();
        if self.ready_by.is_some_and(|by| by <= now) {
            let reason = "it did not answer as a bot that takes the stream";
            self.close(close_code::POLICY, reason);
            return Err(End::Failed(format!("not ready in time: {reason}")));
        }
        if self.stop_by.is_some_and(|by| by <= now) {
            return Err(End::Over);
        }
        let due = self.translator.poll_timeout().is_some_and(|at| at <= now);
        let done = if due { self.translator.handle_timeout(now) } else { Ok(()) };
        done.map_err(|error| self.broken(&error))
    }

    /// Sends what is to be sent, both ways, and waits for either if it has to.
    async fn flush(&mut self) -> Result<(), End> {
        if let Some(socket) = &mut self.socket {
            let out = self.translator.sends();
            let mut fed = Ok(());
            for send in out.sends() {
                fed = fed.and(match send {
                    WireSend::Text(span) => socket.feed_octets(Kind::Text, out.octets(span)),
                    WireSend::Binary(span) => socket.feed_octets(Kind::Binary, out.octets(span)),
                    // Its time comes when nothing more is waited for.
                    WireSend::Close(_) => Ok(()),
                    // Only of calls that have lines in the place of a socket.
                    WireSend::Dial(..) | WireSend::TextOn(..) | WireSend::Drop(_) => Ok(()),
                });
            }
            let sent = match fed {
                Ok(()) => socket.flush().await,
                fed => fed,
            };
            if let Err(error) = sent {
                self.socket = None;
                if self.stop_by.is_some() {
                    return Err(End::Over);
                }
                return Err(End::Failed(error.to_string()));
            }
        }
        self.translator.sent();
        self.tell().await
    }

    /// Tells the call what the bot said.
    async fn tell(&mut self) -> Result<(), End> {
        while let Some(said) = self.translator.poll_said() {
            let event = match said {
                Said::Ready(ready) => {
                    self.ready_by = None;
                    FromHost::Ready(ready)
                }
                Said::Audio { epoch, samples } => FromHost::Audio { epoch: Some(epoch), samples },
                Said::Dropped { reason, samples } => FromHost::Dropped { reason, samples },
                Said::Message(message) => FromHost::Message(message),
            };
            self.from.send(event).await.map_err(|_| End::Abandoned)?;
        }
        Ok(())
    }

    fn broken(&mut self, error: &TranslationError) -> End {
        self.close(error.close_code(), &error.to_string());
        End::Failed(error.to_string())
    }

    fn close(&mut self, code: u16, reason: &str) {
        if let Some(socket) = self.socket.take() {
            tokio::spawn(socket.close(code, reason));
        }
    }
}

/// What comes next, if anything can.
async fn received(socket: &mut Option<Socket>) -> Option<Result<Incoming, socket::SocketError>> {
    match socket {
        Some(socket) => socket.recv().await,
        None => std::future::pending().await,
    }
}
