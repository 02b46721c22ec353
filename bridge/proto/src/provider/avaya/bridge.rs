//! The bridge's end of Avaya's protocol: chooses from what is offered, holds its sound back until the line is ready, and says how a
//! bot ended on every path. Plays nothing itself.

use std::time::Duration;

use ringback_codecs::MediaFormat;

use super::super::end::{Turn, Wire};
use super::super::json::{self, Node, Reader};
use super::super::{
    Command, Digit, Event, Media, Notice, Options, Outbox, ProtocolError, Span, Start, StopCause,
    Track,
};
use super::sound::{self, Flow, Frame, Source};
use super::{Envelope, FORMATS, capabilities};
use crate::Instant;

/// Avaya ends the session once its bot has ended, and is waited for so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Sound sent before the first frame of the caller's is thrown away without a word. Where that frame does not come, because a silent
/// caller is not transmitted, the call begins all the same after this.
const LINE_READY: Duration = Duration::from_secs(1);

/// Messages with a meaning, for errors.
const KINDS: [&str; 6] =
    ["session.start", "bot.start", "bot.end", "session.end", "session.dtmf", "media"];

pub(super) struct Bridge {
    parameters: Vec<(String, String)>,
    inbound_format: Option<MediaFormat>,
    one_way: bool,
    envelope: Envelope,
    /// What Avaya's clock said last; we have none.
    time: String,
    agreed: Option<Agreed>,
    state: State,
}

enum State {
    AwaitingSession,
    AwaitingBot,
    /// The bot has started, no sound has come. With what is announced then, or at that time.
    AwaitingSound(Box<Start>, Instant),
    Streaming,
    /// The bot has ended. With when we close the socket ourselves.
    Parting(Instant),
    Over,
}

/// What was agreed on about media.
struct Agreed {
    endpoint: String,
    format: MediaFormat,
    /// Number of the flow that comes from Avaya.
    egress: u64,
    /// Whether both voices come on it.
    two_voices: bool,
    /// What we send, where we may.
    flow: Option<Flow>,
    /// Avaya's time of the first frame.
    since: Option<u64>,
    /// Whether something of another flow has been told of.
    strayed: bool,
}

impl Bridge {
    pub(super) fn new(parameters: Vec<(String, String)>, options: &Options) -> Self {
        Self {
            parameters,
            inbound_format: options.inbound_format,
            one_way: options.one_way,
            envelope: Envelope { session: String::new(), sent: 0 },
            time: "1970-01-01T00:00:00.000Z".into(),
            agreed: None,
            state: State::AwaitingSession,
        }
    }

    fn send(&mut self, out: &mut Outbox, kind: &str, payload: std::fmt::Arguments<'_>) {
        self.envelope.send(out, kind, &self.time, Some(payload));
    }

    fn object(
        &mut self,
        turn: Turn,
        node: &Node<'_>,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let kind = node.text("type").unwrap_or("(no type)");
        let known = KINDS.iter().copied().find(|known| *known == kind).unwrap_or("message");
        let message = Reader { index: turn.index, kind: known, node };
        if let Some(time) = node.text("timestamp") {
            time.clone_into(&mut self.time);
        }
        let early = |when| Err(ProtocolError::out_of_turn(turn.index, known, when));
        Ok(Some(match (kind, &self.state) {
            (kind, State::Over) => Event::Notice(Notice::late(kind)),
            ("session.ping", _) => {
                self.envelope.send(out, "session.pong", &self.time, None);
                return Ok(None);
            }
            ("session.end", _) => return Ok(self.session_end(out)),
            (kind, State::Parting(_)) => Event::Notice(Notice::late(kind)),
            ("media", _) => {
                let (frame, payload) = sound::read_object(message, out)?;
                return Ok(self.sound(frame, payload, out));
            }
            ("session.start", State::AwaitingSession) => {
                self.session_start(message, out)?;
                return Ok(None);
            }
            ("session.start", _) => return early("twice"),
            ("bot.start" | "bot.end" | "session.dtmf", State::AwaitingSession) => {
                return early("before session.start");
            }
            ("bot.start", State::AwaitingBot) => {
                self.bot_start(turn.now, message, out);
                return Ok(None);
            }
            ("bot.start", _) => return early("twice"),
            ("bot.end", _) => {
                self.bot_ended(200, "ENDPOINT_RELEASED", out);
                self.state = State::Parting(turn.now + PATIENCE);
                Event::Stopped(StopCause::Remote)
            }
            ("session.dtmf", State::Streaming | State::AwaitingSound(..)) => {
                // Whoever presses keys is there.
                self.begin(out);
                return keys(message, out).map(|()| None);
            }
            // Said before `session.end`, by one page.
            ("session.ending", _) => return Ok(None),
            (kind, _) => Event::Notice(Notice::unknown(kind)),
        }))
    }

    fn session_start(
        &mut self,
        message: Reader<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        message.text("sessionId")?.clone_into(&mut self.envelope.session);
        let (codec, format, binary) = choose(message)?;
        let endpoint = endpoint(message.node).ok_or_else(|| {
            message.error("payload.mediaEndpoints", "has no endpoint with an endpointId")
        })?;
        let bid = |path| endpoint.number(path).unwrap_or(0);
        let sources = endpoint.list("flows.audio.egress.sources");
        let plays = !self.one_way
            && endpoint.get("flows.audio.ingress").is_some()
            && endpoint.list("flows.audio.ingress.target").all(|target| target != "none");
        self.agreed = Some(Agreed {
            endpoint: endpoint.text("endpointId").unwrap_or_default().to_owned(),
            format,
            egress: bid("flows.audio.egress.bid"),
            two_voices: sources.count() > 1,
            flow: plays.then(|| Flow {
                format,
                binary,
                bid: u8::try_from(bid("flows.audio.ingress.bid")).unwrap_or(0),
                source: Source::None,
                sequence: 0,
                micros: 0,
            }),
            since: None,
            strayed: false,
        });
        self.state = State::AwaitingBot;
        let encoding = if binary { "binary" } else { "base64" };
        let media = format_args!(r#""mediaCodecs":[{codec}],"transportEncoding":"{encoding}""#);
        let transport =
            format_args!(r#""type":"avaya-wss","preferredPTimeMs":20,"dtx":"auto",{media}"#);
        self.send(
            out,
            "session.started",
            format_args!(r#""services":["bot"],"mediaTransport":{{{transport}}}"#),
        );
        Ok(())
    }

    fn bot_start(&mut self, now: Instant, message: Reader<'_>, out: &mut Outbox) {
        let Some(agreed) = &mut self.agreed else { return };
        let text = |path| message.node.text(path).filter(|text| !text.is_empty());
        if let Some(endpoint) = text("payload.endpointId") {
            endpoint.clone_into(&mut agreed.endpoint);
        }
        let mut parameters = std::mem::take(&mut self.parameters);
        parameters.extend(told(message.node));
        let tracks: &[_] =
            if agreed.two_voices { &[Track::Inbound, Track::Outbound] } else { &[Track::Inbound] };
        let start = Start {
            stream: Some(self.envelope.session.clone()),
            call: text("payload.ucid").map(str::to_owned),
            from: text("payload.from").map(str::to_owned),
            to: text("payload.to").map(str::to_owned),
            parameters,
            tracks: tracks.to_vec(),
            inbound: Some(self.inbound_format.unwrap_or(agreed.format)),
            outbound: agreed.flow.as_ref().map(|flow| flow.format),
            capabilities: capabilities(agreed.flow.is_some()),
        };
        self.state = State::AwaitingSound(Box::new(start), now + LINE_READY);
        let endpoint = json::Quoted(&agreed.endpoint).to_string();
        self.send(out, "bot.started", format_args!(r#""endpointId":{endpoint}"#));
    }

    /// Every bot that was started is said to have ended, once.
    fn bot_ended(&mut self, code: u16, reason: &str, out: &mut Outbox) {
        if let (Some(agreed), State::AwaitingSound(..) | State::Streaming) =
            (&self.agreed, &self.state)
        {
            let endpoint = json::Quoted(&agreed.endpoint).to_string();
            let status = format_args!(r#""status":{{"code":{code},"reason":"{reason}"}}"#);
            self.send(
                out,
                "bot.ended",
                format_args!(r#""endpointId":{endpoint},"context":{{{status}}}"#),
            );
        }
    }

    /// The protocol is broken.
    fn fail(&mut self, out: &mut Outbox) {
        self.bot_ended(400, "INVALID_FIELD", out);
        self.state = State::Over;
    }

    fn session_end(&mut self, out: &mut Outbox) -> Option<Event> {
        self.bot_ended(200, "ENDPOINT_RELEASED", out);
        self.send(
            out,
            "session.ended",
            format_args!(r#""status":{{"code":200,"reason":"NORMAL"}}"#),
        );
        out.close(1000);
        let told = matches!(self.state, State::Parting(_));
        self.state = State::Over;
        (!told).then_some(Event::Stopped(StopCause::Remote))
    }

    /// The line is ready: the call begins.
    fn begin(&mut self, out: &mut Outbox) {
        if let State::AwaitingSound(..) = self.state
            && let State::AwaitingSound(start, _) =
                std::mem::replace(&mut self.state, State::Streaming)
        {
            out.event(Event::Started(start));
        }
    }

    fn sound(&mut self, frame: Frame, payload: Span, out: &mut Outbox) -> Option<Event> {
        let agreed = match (&mut self.agreed, &self.state) {
            (_, State::Parting(_) | State::Over) => {
                return Some(Event::Notice(Notice::late("media")));
            }
            (Some(agreed), State::AwaitingSound(..) | State::Streaming) => agreed,
            _ => {
                let octets = out.octets(&payload).len();
                return Some(Event::Notice(Notice::EarlyMedia { octets }));
            }
        };
        if frame.bid != agreed.egress {
            let told = std::mem::replace(&mut agreed.strayed, true);
            return (!told).then(|| Event::Notice(Notice::unknown("media of another flow")));
        }
        let since = *agreed.since.get_or_insert(frame.micros);
        if let Some(flow) = agreed.flow.as_mut().filter(|flow| flow.sequence == 0) {
            flow.micros = frame.micros;
        }
        let both = agreed.two_voices;
        let track = match frame.source {
            Source::Rx if both => Track::Outbound,
            _ => Track::Inbound,
        };
        self.begin(out);
        // The end of an utterance, and nothing in it.
        if payload.0.is_empty() {
            return None;
        }
        // Whether each voice is counted on its own is not told.
        let sequence = (!both).then_some(frame.sequence);
        let timestamp = Some(Duration::from_micros(frame.micros.saturating_sub(since)));
        Some(Event::Media(Media { track, payload, sequence, timestamp }))
    }
}

/// The codec we like best of those offered, and whether binary messages are: as JSON, as a format.
fn choose<'n>(message: Reader<'n>) -> Result<(&'n Node<'n>, MediaFormat, bool), ProtocolError> {
    let unsupported =
        |what: &str| ProtocolError::Unsupported { index: message.index, what: what.to_owned() };
    let transports = match message.node.get("payload.mediaTransports") {
        Some(Node::List(transports)) => transports.as_slice(),
        _ => &[],
    };
    let transport = transports
        .iter()
        .find(|transport| transport.text("type") == Some("avaya-wss"))
        .ok_or_else(|| unsupported("an offer without the transport avaya-wss"))?;
    let codecs = match transport.get("mediaCodecs") {
        Some(Node::List(codecs)) => codecs.as_slice(),
        _ => &[],
    };
    let wanted = |format: &MediaFormat| {
        codecs.iter().find(|codec| super::format(codec) == Some(*format)).map(|c| (c, *format))
    };
    let (codec, format) = FORMATS
        .iter()
        .find_map(wanted)
        .ok_or_else(|| unsupported("an offer without PCMU, PCMA, G722 and L16 of 8 or 16 kHz"))?;
    let encodings: Vec<_> = transport.list("transportEncodings").collect();
    let binary = encodings.is_empty() || encodings.contains(&"binary");
    if !binary && !encodings.contains(&"base64") {
        return Err(unsupported("an offer of neither binary nor base64 messages"));
    }
    Ok((codec, format, binary))
}

/// The caller's endpoint, or the first if nobody is called so.
fn endpoint<'n>(node: &'n Node<'n>) -> Option<&'n Node<'n>> {
    let Some(Node::List(endpoints)) = node.get("payload.mediaEndpoints") else { return None };
    let named: Vec<_> = endpoints.iter().filter(|e| e.text("endpointId").is_some()).collect();
    let customer = named.iter().find(|endpoint| endpoint.text("tag") == Some("customer"));
    customer.or(named.first()).copied()
}

/// What `bot.start` tells beside the parties, and what the workflow passes on by its own names. Credentials are not for everyone who
/// may read parameters.
fn told(node: &Node<'_>) -> Vec<(String, String)> {
    let fixed = ["botId", "language", "domain", "direction"].into_iter().filter_map(|name| {
        let value = node.get("payload")?.text(name).filter(|value| !value.is_empty())?;
        Some((name.to_owned(), value.to_owned()))
    });
    let given = node.get("payload.context").map(|context| context.pairs(&[]));
    fixed.chain(given.into_iter().flatten()).collect()
}

fn keys(message: Reader<'_>, out: &mut Outbox) -> Result<(), ProtocolError> {
    for key in message.text("payload.digits")?.chars() {
        out.event(match Digit::new(key) {
            Some(digit) => Event::Dtmf { digit, duration: None },
            None => Event::Notice(Notice::unknown("session.dtmf of no key")),
        });
    }
    Ok(())
}

impl Wire for Bridge {
    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let text = text.trim_start_matches('\u{feff}');
        if let Some((frame, payload)) = sound::read_text(text, out) {
            return Ok(self.sound(frame, payload, out));
        }
        for node in Node::parse_all(turn.index, "Avaya JSON", text) {
            let handled = node.and_then(|node| self.object(turn, &node, out));
            if handled.is_err() {
                self.fail(out);
            }
            if let Some(event) = handled? {
                out.event(event);
            }
        }
        Ok(None)
    }

    fn binary(
        &mut self,
        turn: Turn,
        octets: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let read = sound::read_binary(turn.index, octets);
        if read.is_err() {
            self.fail(out);
        }
        let (frame, payload) = read?;
        let payload = out.store(|arena| arena.extend_from_slice(payload));
        Ok(self.sound(frame, payload, out))
    }

    fn command(
        &mut self,
        now: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let flow = self.agreed.as_mut().and_then(|agreed| agreed.flow.as_mut());
        match (command, &self.state, flow) {
            (Command::Hangup, State::AwaitingSession | State::AwaitingBot, _) => {
                self.state = State::Over;
                out.close(1000);
            }
            (Command::Hangup, State::AwaitingSound(..) | State::Streaming, _) => {
                self.bot_ended(200, "ENDPOINT_RELEASED", out);
                self.state = State::Parting(now + PATIENCE);
            }
            (Command::Media { track: Track::Outbound, payload }, State::Streaming, Some(flow)) => {
                flow.send(payload, false, out);
            }
            (Command::Clear, State::Streaming, Some(flow)) => flow.send(&[], true, out),
            _ => {}
        }
        Ok(())
    }

    fn timeout(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        match self.state {
            State::AwaitingSound(_, until) if until <= now => self.begin(out),
            State::Parting(until) if until <= now => {
                self.state = State::Over;
                out.close(1000);
            }
            _ => {}
        }
        Ok(())
    }

    fn next_timeout(&self) -> Option<Instant> {
        match self.state {
            State::AwaitingSound(_, until) | State::Parting(until) => Some(until),
            _ => None,
        }
    }

    fn is_parting(&self) -> bool {
        matches!(self.state, State::Parting(_))
    }
}
