//! Vonage Voice WebSockets: linear PCM in binary messages, JSON for control. Both ends of the wire.
//!
//! There is no stop message, no call name, no count and no time on this wire: closing is the end, and the custom headers of the
//! NCCO, flattened into the first message, are all that is told about the call.

use std::collections::VecDeque;
use std::time::Duration;

use ringback_codecs::{Encoding, Endian, MediaFormat, SampleRate};

use super::json::{self, Members, Node, Quoted, Reader};
use super::{
    Accepted, Capabilities, ClearLaw, Command, Dial, EarlyMedia, Event, FrameLaw, Info, Message,
    Notice, Options, Outbox, OutgoingUpgrade, PlayoutPolicy, Protocol, ProtocolError, Provider,
    Rejection, Start, Status, Track, Upgrade,
};
use crate::Instant;

/// Both ends of Vonage's wire.
pub(super) struct Vonage;

const fn linear(rate: SampleRate) -> MediaFormat {
    MediaFormat::mono(Encoding::L16(Endian::Little), rate)
}

const FRAME: Duration = Duration::from_millis(20);

static INFO: Info = Info {
    name: "vonage",
    title: "Vonage Voice API",
    reference: "https://developer.vonage.com/en/voice/voice-api/concepts/websockets",
    status: Status::Documentation,
    capabilities: CAPABILITIES,
    formats: &[
        linear(SampleRate::HZ_16000),
        linear(SampleRate::HZ_8000),
        linear(SampleRate::HZ_24000),
    ],
};

const CAPABILITIES: Capabilities = Capabilities {
    // 3072 messages are buffered; what happens beyond that is not told, so keep clear of it.
    playout: PlayoutPolicy::Ahead { limit: Duration::from_secs(50) },
    frame: FrameLaw::Exact(FRAME),
    // Whether a clear answers pending notifications is not told; late ones do no harm.
    clear: ClearLaw::DropsMarks,
    marks: true,
    dtmf_in: true,
    ..Capabilities::LISTEN_ONLY
};

impl Provider for Vonage {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn accept(&self, _: &Upgrade<'_>, options: &Options) -> Result<Accepted, Rejection> {
        let bridge = Bridge {
            index: 0,
            early: Early::new(options.early_media),
            inbound_format: options.inbound_format,
            one_way: options.one_way,
            state: State::AwaitingConnected,
        };
        Ok(Accepted { protocol: Box::new(bridge), subprotocol: None })
    }

    fn dial(&self, call: &Dial) -> (OutgoingUpgrade, Box<dyn Protocol>) {
        let upgrade = OutgoingUpgrade { target: call.target.clone(), ..Default::default() };
        let format = call.format.unwrap_or(INFO.formats[0]);
        (upgrade, Box::new(Phone { call: call.clone(), format, index: 0, closed: false }))
    }
}

/// Sound that came before the first message, kept with its message boundaries. Media and control take different ways through
/// Vonage and have been seen to arrive in either order.
struct Early {
    policy: EarlyMedia,
    since: Option<Instant>,
    messages: VecDeque<Vec<u8>>,
    octets: usize,
}

impl Early {
    /// A second of the highest rate.
    const MOST_OCTETS: usize = 48_000;

    const fn new(policy: EarlyMedia) -> Self {
        Self { policy, since: None, messages: VecDeque::new(), octets: 0 }
    }

    fn keep(&mut self, now: Instant, octets: &[u8], out: &mut Outbox) {
        let fits = self.octets + octets.len() <= Self::MOST_OCTETS;
        if self.policy == EarlyMedia::Drop || !fits {
            let octets = octets.len();
            out.event(Event::Notice(Notice::EarlyMedia { octets }));
            return;
        }
        self.since.get_or_insert(now);
        self.octets += octets.len();
        self.messages.push_back(octets.to_vec());
    }

    fn expires(&self) -> Option<Instant> {
        match self.policy {
            EarlyMedia::Hold(time) => self.since.map(|since| since + time),
            EarlyMedia::Drop => None,
        }
    }

    fn expire(&mut self, now: Instant, out: &mut Outbox) {
        if self.expires().is_some_and(|at| at <= now) {
            out.event(Event::Notice(Notice::EarlyMedia { octets: self.octets }));
            *self = Self::new(self.policy);
        }
    }
}

/// The bridge's end.
struct Bridge {
    index: u64,
    early: Early,
    inbound_format: Option<MediaFormat>,
    one_way: bool,
    state: State,
}

enum State {
    AwaitingConnected,
    Streaming { two_way: bool },
    Closed,
}

impl Bridge {
    fn text(&mut self, text: &str, out: &mut Outbox) -> Result<(), ProtocolError> {
        let index = self.index;
        let node = Node::parse(index, "Vonage JSON", text)?;
        let reader = |kind| Reader { index, kind, node: &node };
        let early =
            |kind| Err(ProtocolError::out_of_turn(index, kind, "before websocket:connected"));
        let event = match (node.text("event").unwrap_or("(no event)"), &self.state) {
            (kind, State::Closed) => Event::Notice(Notice::late(kind)),
            ("websocket:connected", State::AwaitingConnected) => {
                return self
                    .connected(Reader { index, kind: "websocket:connected", node: &node }, out);
            }
            ("websocket:connected", _) => {
                return Err(ProtocolError::out_of_turn(index, "websocket:connected", "twice"));
            }
            ("websocket:dtmf", State::AwaitingConnected) => return early("websocket:dtmf"),
            ("websocket:notify", State::AwaitingConnected) => return early("websocket:notify"),
            ("websocket:dtmf", _) => Event::Dtmf {
                digit: reader("websocket:dtmf").digit("digit")?,
                duration: node.number("duration").map(Duration::from_millis),
            },
            ("websocket:notify", _) => match node.text("payload.mark") {
                Some(name) => Event::Played(name.to_owned()),
                None => Event::Notice(Notice::unknown("notification without a mark")),
            },
            ("websocket:cleared", _) => Event::Cleared,
            (kind, _) => Event::Notice(Notice::unknown(kind)),
        };
        out.event(event);
        Ok(())
    }

    fn connected(&mut self, message: Reader<'_>, out: &mut Outbox) -> Result<(), ProtocolError> {
        let announced = match (
            message.text("content-type").and_then(|t| announced(message.index, t)),
            self.inbound_format,
        ) {
            (Ok(format), _) | (Err(_), Some(format)) => format,
            (Err(error), None) => return Err(error),
        };
        let two_way = !self.one_way;
        let parameters = message.node.pairs(&["event", "content-type"]);
        self.state = State::Streaming { two_way };
        out.event(Event::Started(Box::new(Start {
            stream: None,
            call: json::parameter(&parameters, &["uuid", "call_uuid", "call"]),
            from: json::parameter(&parameters, &["from", "caller-id"]),
            to: json::parameter(&parameters, &["to"]),
            parameters,
            tracks: vec![Track::Inbound],
            inbound: self.inbound_format.unwrap_or(announced),
            outbound: two_way.then_some(announced),
            capabilities: if two_way { CAPABILITIES } else { LISTEN_ONLY },
        })));
        for octets in std::mem::take(&mut self.early.messages) {
            let event = out.media(Track::Inbound, &octets);
            out.event(event);
        }
        self.early = Early::new(self.early.policy);
        Ok(())
    }
}

/// What can be done on a stream that is only listened to.
const LISTEN_ONLY: Capabilities = Capabilities { dtmf_in: true, ..Capabilities::LISTEN_ONLY };

/// The format of `audio/l16;rate=16000`.
fn announced(index: u64, content_type: &str) -> Result<MediaFormat, ProtocolError> {
    let mut parts = content_type.split(';').map(str::trim);
    let is_linear = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("audio/l16"));
    let rate = parts.find_map(|part| part.strip_prefix("rate=")).and_then(|hz| hz.parse().ok());
    let format = rate.and_then(SampleRate::new).map(linear);
    format.filter(|format| is_linear && INFO.formats.contains(format)).ok_or_else(|| {
        ProtocolError::Unsupported {
            index,
            what: format!("content-type {}", json::kind(content_type)),
        }
    })
}

impl Protocol for Bridge {
    fn handle_message(
        &mut self,
        now: Instant,
        message: Message<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let handled = match (message, &self.state) {
            (Message::Text(text), _) => {
                self.early.expire(now, out);
                self.text(text, out)
            }
            (Message::Binary(octets), State::AwaitingConnected) => {
                self.early.keep(now, octets, out);
                Ok(())
            }
            (Message::Binary(octets), State::Streaming { .. }) => {
                let event = out.media(Track::Inbound, octets);
                out.event(event);
                Ok(())
            }
            (Message::Binary(_), State::Closed) => {
                out.event(Event::Notice(Notice::late("binary message")));
                Ok(())
            }
        };
        self.index += 1;
        handled
    }

    fn handle_command(
        &mut self,
        _: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        match (command, &self.state) {
            (Command::Hangup, State::AwaitingConnected | State::Streaming { .. }) => {
                self.state = State::Closed;
                out.close(1000);
            }
            (
                Command::Media { track: Track::Outbound, payload },
                State::Streaming { two_way: true },
            ) => {
                out.binary(|octets| octets.extend_from_slice(payload));
            }
            (Command::Mark(name), State::Streaming { two_way: true }) => {
                let name = Quoted(name);
                json::send(
                    out,
                    format_args!(r#"{{"action":"notify","payload":{{"mark":{name}}}}}"#),
                );
            }
            (Command::Clear, State::Streaming { two_way: true }) => {
                json::send(out, format_args!(r#"{{"action":"clear"}}"#));
            }
            _ => {}
        }
        Ok(())
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        self.early.expire(now, out);
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.early.expires()
    }
}

/// Vonage's end.
struct Phone {
    call: Dial,
    format: MediaFormat,
    index: u64,
    closed: bool,
}

impl Phone {
    fn text(&self, text: &str) -> Result<Event, ProtocolError> {
        let index = self.index;
        let node = Node::parse(index, "Vonage JSON", text)?;
        Ok(match node.text("action").unwrap_or("(no action)") {
            "notify" => {
                let reader = Reader { index, kind: "notify", node: &node };
                Event::MarkRequested(reader.text("payload.mark")?.to_owned())
            }
            "clear" => Event::ClearRequested,
            kind => Event::Notice(Notice::unknown(kind)),
        })
    }
}

impl Protocol for Phone {
    fn handle_open(&mut self, _: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        let mut parameters = vec![("uuid".to_owned(), self.call.call.clone())];
        parameters.extend(self.call.described());
        let content_type = format!("audio/l16;rate={}", self.format.rate.hz());
        let mut members = vec![
            ("event".to_owned(), "websocket:connected".to_owned()),
            ("content-type".to_owned(), content_type),
        ];
        members.extend(parameters.iter().cloned());
        json::send(out, format_args!("{}", Members(&members)));
        let can = if self.call.two_way { CAPABILITIES } else { LISTEN_ONLY };
        let start = self.call.started(None, parameters, self.format, can);
        out.event(Event::Started(Box::new(start)));
        Ok(())
    }

    fn handle_message(
        &mut self,
        _: Instant,
        message: Message<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let index = self.index;
        let frame = self.format.octets_for(self.format.rate.samples_in(FRAME) as usize);
        let event = match message {
            Message::Text(text) => self.text(text),
            Message::Binary(octets) if Some(octets.len()) != frame => Err(ProtocolError::Field {
                index,
                kind: "binary message",
                field: "length",
                problem: "is not that of one 20 ms frame",
            }),
            Message::Binary(octets) => Ok(out.media(Track::Outbound, octets)),
        };
        self.index += 1;
        out.event(event?);
        Ok(())
    }

    fn handle_command(
        &mut self,
        _: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        match command {
            _ if self.closed => {}
            Command::Media { track: Track::Inbound, payload } => {
                out.binary(|octets| octets.extend_from_slice(payload));
            }
            Command::Played(name) => {
                let name = Quoted(name);
                let payload = format_args!(r#""payload":{{"mark":{name}}}"#);
                json::send(out, format_args!(r#"{{"event":"websocket:notify",{payload}}}"#));
            }
            Command::Cleared => json::send(out, format_args!(r#"{{"event":"websocket:cleared"}}"#)),
            Command::Dtmf(digit) => {
                let key = digit.as_char();
                let body = format_args!(r#""digit":"{key}","duration":260"#);
                json::send(out, format_args!(r#"{{"event":"websocket:dtmf",{body}}}"#));
            }
            Command::Hangup => {
                self.closed = true;
                out.close(1000);
            }
            _ => {}
        }
        Ok(())
    }
}
