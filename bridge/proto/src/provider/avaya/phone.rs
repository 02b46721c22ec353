//! Avaya's end of its protocol: offers, starts a bot, ends the session, and throws away what comes before its line is ready. Plays no
//! sound itself.

use std::fmt::Write as _;
use std::time::Duration;

use ringback_codecs::MediaFormat;

use super::super::end::{Turn, Wire};
use super::super::json::{self, Members, Node, Quoted, Reader};
use super::super::{Command, Dial, Event, Notice, Outbox, ProtocolError, Span, Start, Track};
use super::sound::{self, Flow, Frame, Source};
use super::{Envelope, FORMATS, capabilities};
use crate::Instant;

const ENDPOINT: &str = "7d9f2b1c-4e3a-4b58-9c6d-0f1e2d3c4b5a";
/// Numbers of the flows, from Avaya and to it.
const EGRESS: u8 = 0;
const INGRESS: u8 = 1;
const PING: Duration = Duration::from_secs(10);
/// What its clock shows when a stream begins: the year 2000, in microseconds.
const EPOCH: u64 = 946_684_800_000_000;

pub(super) struct Phone {
    call: Dial,
    envelope: Envelope,
    opened: Instant,
    state: State,
    /// What it sends, for each voice.
    flows: Vec<(Track, Flow)>,
    /// Its line is ready: it has sent sound.
    ready: bool,
    next_ping: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// With what was agreed on, once it is.
    Opening(Option<(MediaFormat, bool)>),
    Open,
    /// `bot.end` or `session.end` is said.
    Closing,
    Closed,
}

impl Phone {
    pub(super) fn new(call: &Dial) -> Self {
        Self {
            call: call.clone(),
            envelope: Envelope { session: call.call.clone(), sent: 0 },
            opened: Instant::ZERO,
            state: State::Opening(None),
            flows: Vec::new(),
            ready: false,
            next_ping: Instant::ZERO,
        }
    }

    /// Its clock's time of the day.
    fn time(&self, now: Instant) -> String {
        let millis = (now - self.opened).as_millis();
        let (seconds, millis) = (millis / 1_000, millis % 1_000);
        let (hours, minutes, seconds) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        format!("2000-01-01T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z")
    }

    fn send(
        &mut self,
        now: Instant,
        out: &mut Outbox,
        kind: &str,
        payload: Option<std::fmt::Arguments<'_>>,
    ) {
        let time = self.time(now);
        self.envelope.send(out, kind, &time, payload);
    }

    /// The voices it sends, and their names.
    fn voices(&self) -> &'static [(Track, Source)] {
        const BOTH: [(Track, Source); 2] =
            [(Track::Inbound, Source::Tx), (Track::Outbound, Source::Rx)];
        &BOTH[..self.call.tracks.len().clamp(1, 2)]
    }

    /// Whether the bridge may play sound: not where it is sent both voices.
    fn plays(&self) -> bool {
        self.call.two_way && self.voices().len() == 1
    }

    fn session_start(&mut self, now: Instant) -> String {
        let mut codecs = String::new();
        let offered = self.call.format;
        for format in FORMATS.iter().filter(|f| offered.is_none_or(|offered| offered == **f)) {
            let (name, hz) = (super::name(*format), format.rate.hz());
            let comma = if codecs.is_empty() { "" } else { "," };
            let _ = write!(codecs, r#"{comma}["audio","{name}",{hz},1]"#);
        }
        let sources: Vec<_> =
            self.voices().iter().map(|(_, source)| format!("\"{}\"", source.name())).collect();
        let sources = sources.join(",");
        let target = if self.plays() { "auto" } else { "none" };
        let flows = format_args!(
            r#""egress":{{"sources":[{sources}],"bid":{EGRESS}}},"ingress":{{"target":["{target}"],"bid":{INGRESS}}}"#
        );
        let endpoint = format_args!(
            r#"{{"endpointId":"{ENDPOINT}","tag":"customer","flows":{{"audio":{{{flows}}}}}}}"#
        );
        let transport = format_args!(
            r#"{{"type":"avaya-wss","transportEncodings":["binary","base64"],"mediaCodecs":[{codecs}]}}"#
        );
        let payload = format_args!(
            r#""services":["bot"],"mediaTransports":[{transport}],"mediaEndpoints":[{endpoint}]"#
        );
        let time = self.time(now);
        self.envelope.message("session.start", &time, Some(payload))
    }

    fn bot_start(&mut self, now: Instant) -> String {
        let Dial { call, from, to, .. } = self.call.clone();
        let (call, from, to) = (Quoted(&call), Quoted(&from), Quoted(&to));
        let fixed = self.fixed().map(|(_, value)| value);
        let [bot, language, domain, direction] = fixed.each_ref().map(|value| Quoted(value));
        let rest = self.rest();
        let context = Members(&rest);
        let bot = format_args!(
            r#""botId":{bot},"botCredentials":"","language":{language},"domain":{domain}"#
        );
        let parties =
            format_args!(r#""to":{to},"from":{from},"ucid":{call},"direction":{direction}"#);
        let payload =
            format_args!(r#""endpointId":"{ENDPOINT}",{bot},{parties},"context":{context}"#);
        let time = self.time(now);
        self.envelope.message("bot.start", &time, Some(payload))
    }

    /// What has a place of its own in `bot.start`.
    fn fixed(&self) -> [(String, String); 4] {
        let usual = [
            ("botId", "ringback"),
            ("language", "en-US"),
            ("domain", "ringback.example"),
            ("direction", "INBOUND"),
        ];
        usual.map(|(name, usual)| {
            let given = self.call.parameters.iter().find(|(given, _)| given == name);
            (name.to_owned(), given.map_or(usual, |(_, value)| value).to_owned())
        })
    }

    /// The rest of the call's parameters.
    fn rest(&self) -> Vec<(String, String)> {
        let fixed = self.fixed();
        let is_rest = |(name, _): &&(String, String)| fixed.iter().all(|(fixed, _)| fixed != name);
        self.call.parameters.iter().filter(is_rest).cloned().collect()
    }

    fn session_started(&mut self, message: Reader<'_>) -> Result<(), ProtocolError> {
        const CODECS: &str = "payload.mediaTransport.mediaCodecs";
        const ENCODING: &str = "payload.mediaTransport.transportEncoding";
        let codec = match message.node.get(CODECS) {
            Some(Node::List(codecs)) if codecs.len() == 1 => super::format(&codecs[0]),
            _ => None,
        };
        let offered = |format: &MediaFormat| self.call.format.is_none_or(|o| o == *format);
        let format = codec.filter(offered);
        let format = format.ok_or_else(|| message.error(CODECS, "is not one of those offered"))?;
        let binary = match message.text(ENCODING)? {
            "binary" => true,
            "base64" => false,
            _ => return Err(message.error(ENCODING, "is neither binary nor base64")),
        };
        self.state = State::Opening(Some((format, binary)));
        Ok(())
    }

    fn bot_started(&mut self, now: Instant, format: MediaFormat, binary: bool) -> Event {
        self.state = State::Open;
        self.next_ping = now + PING;
        let flow = |&(track, source): &(Track, Source)| {
            let micros = EPOCH + sound::micros_of(now - self.opened);
            (track, Flow { format, binary, bid: EGRESS, source, sequence: 0, micros })
        };
        self.flows = self.voices().iter().map(flow).collect();
        let mut told: Vec<_> = self.fixed().into();
        told.extend(self.rest());
        let session = Some(self.envelope.session.clone());
        let start = self.call.started(session, told, format, capabilities(self.plays()));
        let tracks = self.voices().iter().map(|(track, _)| *track).collect();
        Event::Started(Box::new(Start { tracks, ..start }))
    }

    fn sound(
        &self,
        turn: Turn,
        frame: Frame,
        payload: Span,
        out: &Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let wrong = |problem| {
            let (index, kind) = (turn.index, "media");
            Err(ProtocolError::Field { index, kind, field: "bid", problem })
        };
        Ok(Some(match self.state {
            _ if frame.bid != u64::from(INGRESS) => return wrong("is not that of the ingress"),
            _ if !self.plays() => return wrong("is of a flow that nothing may be sent on"),
            State::Closing | State::Closed => Event::Notice(Notice::late("media")),
            State::Open if !self.ready => {
                let octets = out.octets(&payload).len();
                let text = format!("{octets} octets thrown away: the line is not ready");
                Event::Notice(Notice::ProviderError { text })
            }
            _ if payload.0.is_empty() && frame.last => Event::ClearRequested,
            _ => {
                let (track, sequence) = (Track::Outbound, Some(frame.sequence));
                Event::Media(super::super::Media { track, payload, sequence, timestamp: None })
            }
        }))
    }

    fn read(
        &mut self,
        turn: Turn,
        message: Reader<'_>,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let kind = message.node.text("type").unwrap_or("(no type)");
        Ok(Some(match (kind, self.state) {
            ("session.ended", State::Closing) => {
                self.state = State::Closed;
                out.close(1000);
                return Ok(None);
            }
            ("bot.ended", state) => {
                self.state = State::Closing;
                self.send(turn.now, out, "session.end", None);
                return Ok((state != State::Closing).then_some(Event::HangupRequested));
            }
            (kind, State::Closing | State::Closed) => Event::Notice(Notice::late(kind)),
            ("media", _) => {
                let (frame, payload) = sound::read_object(message, out)?;
                return self.sound(turn, frame, payload, out);
            }
            ("session.started", State::Opening(None)) => {
                return self.session_started(message).map(|()| None);
            }
            ("bot.started", State::Opening(Some((format, binary)))) => {
                self.bot_started(turn.now, format, binary)
            }
            ("session.started" | "bot.started", _) => {
                return Err(message.error("type", "may not come now"));
            }
            ("session.pong", _) => return Ok(None),
            (kind, _) => Event::Notice(Notice::unknown(kind)),
        }))
    }
}

impl Wire for Phone {
    /// Both in one message, as it has been seen.
    fn open(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        self.opened = now;
        let session = self.session_start(now);
        let bot = self.bot_start(now);
        json::send(out, format_args!("{session}\n{bot}"));
        Ok(())
    }

    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        if let Some((frame, payload)) = sound::read_text(text, out) {
            return self.sound(turn, frame, payload, out);
        }
        let node = Node::parse(turn.index, "Avaya JSON", text)?;
        self.read(turn, Reader { index: turn.index, kind: "message", node: &node }, out)
    }

    fn binary(
        &mut self,
        turn: Turn,
        octets: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let (frame, payload) = sound::read_binary(turn.index, octets)?;
        let payload = out.store(|arena| arena.extend_from_slice(payload));
        self.sound(turn, frame, payload, out)
    }

    fn command(
        &mut self,
        now: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        match (command, self.state) {
            (Command::Media { track, payload }, State::Open) => {
                if let Some((_, flow)) = self.flows.iter_mut().find(|(of, _)| *of == track) {
                    flow.send(payload, false, out);
                    self.ready = true;
                }
            }
            (Command::Dtmf(digit), State::Open) => {
                let key = digit.as_char();
                let payload = format_args!(r#""digits":"{key}""#);
                self.send(now, out, "session.dtmf", Some(payload));
            }
            (Command::Hangup, State::Open) => {
                let payload = format_args!(r#""endpointId":"{ENDPOINT}""#);
                self.send(now, out, "bot.end", Some(payload));
                self.state = State::Closing;
            }
            (Command::Hangup, State::Opening(_)) => {
                self.send(now, out, "session.end", None);
                self.state = State::Closing;
            }
            _ => {}
        }
        Ok(())
    }

    fn timeout(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        if self.next_timeout().is_some_and(|at| at <= now) {
            self.next_ping = now + PING;
            self.send(now, out, "session.ping", None);
        }
        Ok(())
    }

    fn next_timeout(&self) -> Option<Instant> {
        (self.state == State::Open).then_some(self.next_ping)
    }
}
