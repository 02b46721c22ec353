//! Twilio Media Streams: JSON with base64 mu-law in text messages. Both ends of the wire; signatures are checked in `auth`.
//!
//! Two kinds of stream share the wire. `<Connect><Stream>` is two-way; `<Start><Stream>` forks one or both tracks, and every message
//! sent on it is an error (31924). Nothing in the handshake tells them apart, only a fork has the outbound track: set
//! [`Options::one_way`] for forks of the inbound track alone.

use std::io::Write as _;
use std::time::Duration;

use ringback_codecs::MediaFormat;

use super::json::{self, Members, Node, Quoted, Reader};
use super::media_message::{self, Counter, MediaMessage, track_name};
use super::{
    Accepted, Capabilities, ClearLaw, Command, Dial, Event, Info, Message, Notice, Options, Outbox,
    OutgoingUpgrade, PlayoutPolicy, Protocol, ProtocolError, Provider, Rejection, Start, Status,
    StopCause, Track, Upgrade, base64,
};
use crate::Instant;

/// Both ends of Twilio's wire.
pub(super) struct Twilio;

static INFO: Info = Info {
    name: "twilio",
    title: "Twilio Media Streams",
    reference: "https://www.twilio.com/docs/voice/media-streams/websocket-messages",
    status: Status::Documentation,
    capabilities: TWO_WAY,
    formats: &[MediaFormat::PCMU_8000],
};

const TWO_WAY: Capabilities = Capabilities {
    // More than ten minutes of queued sound is discarded (warning 31931).
    playout: PlayoutPolicy::Ahead { limit: Duration::from_secs(600) },
    clear: ClearLaw::ReturnsMarks,
    marks: true,
    dtmf_in: true,
    ..Capabilities::LISTEN_ONLY
};

/// Member that names the stream.
const SID: &str = "streamSid";

impl Provider for Twilio {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn accept(&self, _: &Upgrade<'_>, options: &Options) -> Result<Accepted, Rejection> {
        let bridge = Bridge {
            index: 0,
            one_way: options.one_way,
            inbound_format: options.inbound_format,
            state: State::AwaitingStart,
        };
        Ok(Accepted { protocol: Box::new(bridge), subprotocol: None })
    }

    fn dial(&self, call: &Dial) -> (OutgoingUpgrade, Box<dyn Protocol>) {
        // Twilio drops the query of the stream's URL before it dials.
        let target = call.target.split('?').next().unwrap_or("/").to_owned();
        (OutgoingUpgrade { target, ..OutgoingUpgrade::default() }, Box::new(Phone::new(call)))
    }
}

/// The bridge's end.
struct Bridge {
    index: u64,
    one_way: bool,
    inbound_format: Option<MediaFormat>,
    state: State,
}

enum State {
    AwaitingStart,
    /// With what our messages begin with, or nothing on a one-way stream.
    Streaming(Option<Heads>),
    Stopped,
}

/// Messages of ours up to where they differ, the stream's name quoted once.
struct Heads {
    media: Vec<u8>,
    mark: Vec<u8>,
    clear: Vec<u8>,
}

impl Heads {
    fn new(sid: &str) -> Self {
        let head = |event, rest| {
            format!(r#"{{"event":"{event}","{SID}":{}{rest}"#, Quoted(sid)).into_bytes()
        };
        Self {
            media: head("media", r#","media":{"payload":""#),
            mark: head("mark", r#","mark":{"name":"#),
            clear: head("clear", "}"),
        }
    }
}

impl Bridge {
    fn media(&self, message: &MediaMessage<'_>, out: &mut Outbox) -> Result<Event, ProtocolError> {
        Ok(match self.state {
            State::AwaitingStart => Event::Notice(Notice::EarlyMedia { octets: message.octets() }),
            State::Streaming(_) => Event::Media(message.decode(self.index, Track::Inbound, out)?),
            State::Stopped => Event::Notice(Notice::late("media")),
        })
    }

    /// Tries the quickest way to read a message first, and leaves errors to the slowest.
    fn text(&mut self, text: &str, out: &mut Outbox) -> Result<Option<Event>, ProtocolError> {
        if let Some(message) = MediaMessage::scan_twilio(text)
            && let Ok(event) = self.media(&message, out)
        {
            return Ok(Some(event));
        }
        match MediaMessage::scan(text, SID) {
            Some(message) => self.media(&message, out).map(Some),
            None => self.control(text, out),
        }
    }

    /// Everything else, and media that the scanner did not take.
    fn control(&mut self, text: &str, out: &mut Outbox) -> Result<Option<Event>, ProtocolError> {
        let node = Node::parse(self.index, "Twilio JSON", text)?;
        let reader = |kind| Reader { index: self.index, kind, node: &node };
        let early = |kind| Err(ProtocolError::out_of_turn(self.index, kind, "before start"));
        let event = match (node.text("event").unwrap_or("(no event)"), &self.state) {
            ("media", _) => self.media(&MediaMessage::read(&reader("media"), SID)?, out)?,
            (kind, State::Stopped) => Event::Notice(Notice::late(kind)),
            ("connected", State::AwaitingStart) => return Ok(None),
            ("start", State::AwaitingStart) => {
                self.start(Reader { index: self.index, kind: "start", node: &node })?
            }
            ("start", _) => return Err(ProtocolError::out_of_turn(self.index, "start", "twice")),
            ("dtmf", State::AwaitingStart) => return early("dtmf"),
            ("mark", State::AwaitingStart) => return early("mark"),
            ("dtmf", _) => Event::Dtmf {
                digit: reader("dtmf").digit("dtmf.digit")?,
                duration: node.number("dtmf.duration").map(Duration::from_millis),
            },
            ("mark", _) => match node.text("mark.name") {
                Some(name) => Event::Played(name.to_owned()),
                None => Event::Notice(Notice::unknown("mark without a name")),
            },
            ("stop", State::Streaming(None)) => self.stop(StopCause::StreamStopped),
            ("stop", _) => self.stop(StopCause::Remote),
            (kind, _) => Event::Notice(Notice::unknown(kind)),
        };
        Ok(Some(event))
    }

    fn stop(&mut self, cause: StopCause) -> Event {
        self.state = State::Stopped;
        Event::Stopped(cause)
    }

    fn start(&mut self, message: Reader<'_>) -> Result<Event, ProtocolError> {
        let node = message.node;
        let sid = match node.text(SID) {
            Some(sid) => sid,
            None => message.text("start.streamSid")?,
        };
        let tracks = media_message::tracks(&message, "start.tracks")?;
        let inbound = match self.inbound_format {
            Some(format) => format,
            None => announced(message)?,
        };
        let two_way = !self.one_way && !tracks.contains(&Track::Outbound);
        let parameters = node.get("start.customParameters").map(|given| given.pairs(&[]));
        let parameters = parameters.unwrap_or_default();
        self.state = State::Streaming(two_way.then(|| Heads::new(sid)));
        Ok(Event::Started(Box::new(Start {
            stream: Some(sid.to_owned()),
            call: node.text("start.callSid").map(str::to_owned),
            from: json::parameter(&parameters, &["from", "From"]),
            to: json::parameter(&parameters, &["to", "To"]),
            parameters,
            tracks,
            inbound,
            outbound: two_way.then_some(MediaFormat::PCMU_8000),
            capabilities: if two_way { TWO_WAY } else { Capabilities::LISTEN_ONLY },
        })))
    }
}

/// The format a start message announces; Twilio has only ever announced mu-law.
fn announced(message: Reader<'_>) -> Result<MediaFormat, ProtocolError> {
    let node = message.node;
    let encoding = node.text("start.mediaFormat.encoding").unwrap_or("audio/x-mulaw");
    let rate = node.number("start.mediaFormat.sampleRate").unwrap_or(8000);
    let channels = node.number("start.mediaFormat.channels").unwrap_or(1);
    match (encoding, rate, channels) {
        ("audio/x-mulaw", 8000, 1) => Ok(MediaFormat::PCMU_8000),
        _ => Err(ProtocolError::Unsupported {
            index: message.index,
            what: format!("{} at {rate} Hz with {channels} channels", json::kind(encoding)),
        }),
    }
}

impl Protocol for Bridge {
    fn handle_message(
        &mut self,
        _: Instant,
        message: Message<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let handled = match message {
            Message::Text(text) => self.text(text, out),
            Message::Binary(_) => Ok(Some(Event::Notice(Notice::unknown("binary message")))),
        };
        self.index += 1;
        if let Some(event) = handled? {
            out.event(event);
        }
        Ok(())
    }

    fn handle_command(
        &mut self,
        _: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        match (command, &self.state) {
            (Command::Hangup, State::AwaitingStart | State::Streaming(_)) => {
                self.state = State::Stopped;
                out.close(1000);
            }
            (Command::Media { track: Track::Outbound, payload }, State::Streaming(Some(heads))) => {
                out.text(|text| {
                    text.extend_from_slice(&heads.media);
                    base64::encode(payload, text);
                    text.extend_from_slice(br#""}}"#);
                });
            }
            (Command::Mark(name), State::Streaming(Some(heads))) => out.text(|text| {
                text.extend_from_slice(&heads.mark);
                json::quote(name, text);
                text.extend_from_slice(b"}}");
            }),
            (Command::Clear, State::Streaming(Some(heads))) => {
                out.text(|text| text.extend_from_slice(&heads.clear));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Twilio's end.
struct Phone {
    call: Dial,
    index: u64,
    sid: String,
    /// Messages sent, beside `connected`.
    sequence: u64,
    inbound: Counter,
    outbound: Counter,
    stopped: bool,
}

impl Phone {
    fn new(call: &Dial) -> Self {
        Self {
            sid: format!("MZ{}", call.call),
            call: call.clone(),
            index: 0,
            sequence: 0,
            inbound: Counter::default(),
            outbound: Counter::default(),
            stopped: false,
        }
    }

    fn two_way(&self) -> bool {
        self.call.two_way && !self.call.tracks.contains(&Track::Outbound)
    }

    /// Sends `{"event":..,"sequenceNumber":..,<body>,"streamSid":..}`.
    fn send(&mut self, event: &str, out: &mut Outbox, body: impl FnOnce(&mut Vec<u8>)) {
        self.sequence += 1;
        out.text(|text| {
            text.extend_from_slice(br#"{"event":""#);
            text.extend_from_slice(event.as_bytes());
            text.extend_from_slice(br#"","sequenceNumber":""#);
            json::digits(self.sequence, text);
            text.extend_from_slice(br#"","#);
            body(text);
            text.extend_from_slice(br#","streamSid":"#);
            json::quote(&self.sid, text);
            text.push(b'}');
        });
    }

    /// [`Phone::send`] of a body that is not media.
    fn send_control(&mut self, event: &str, out: &mut Outbox, body: std::fmt::Arguments<'_>) {
        self.send(event, out, |text| {
            write!(text, r#""{event}":{body}"#).expect("writing to memory cannot fail");
        });
    }

    fn media(&mut self, track: Track, payload: &[u8], out: &mut Outbox) {
        let counter = match track {
            Track::Inbound => &mut self.inbound,
            Track::Outbound => &mut self.outbound,
        };
        let counted = counter.next(payload.len(), 8);
        self.send("media", out, |text| media_message::print(track, counted, payload, text));
    }

    /// Twilio reports anything but these three messages as an error, and any at all on a one-way stream.
    fn read(&self, text: &str, out: &mut Outbox) -> Result<Event, ProtocolError> {
        let index = self.index;
        if !self.two_way() {
            return Err(ProtocolError::out_of_turn(index, "message", "on a one-way stream"));
        }
        if let Some(message) = MediaMessage::scan(text, SID)
            && message.stream == Some(&self.sid)
        {
            return Ok(Event::Media(message.decode(index, Track::Outbound, out)?));
        }
        let node = Node::parse(index, "Twilio JSON", text)?;
        let reader = |kind| Reader { index, kind, node: &node };
        if node.text(SID) != Some(&self.sid) {
            return Err(reader("message").error(SID, "does not name this stream"));
        }
        Ok(match node.text("event").unwrap_or_default() {
            "media" => {
                let message = MediaMessage::read(&reader("media"), SID)?;
                Event::Media(message.decode(index, Track::Outbound, out)?)
            }
            "mark" => Event::MarkRequested(reader("mark").text("mark.name")?.to_owned()),
            "clear" => Event::ClearRequested,
            kind => Event::Notice(Notice::unknown(kind)),
        })
    }
}

impl Protocol for Phone {
    fn handle_open(&mut self, _: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        out.text(|text| {
            text.extend_from_slice(br#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#);
        });
        let can = if self.two_way() { TWO_WAY } else { Capabilities::LISTEN_ONLY };
        let format = MediaFormat::PCMU_8000;
        let parameters = self.call.described();
        let started = self.call.started(Some(self.sid.clone()), parameters, format, can);
        let tracks: Vec<_> = started.tracks.iter().map(|track| track_name(*track)).collect();
        let body = format!(
            r#"{{"accountSid":"AC0123456789abcdef0123456789abcdef","streamSid":{},"callSid":{},"tracks":{tracks:?},"#,
            Quoted(&self.sid),
            Quoted(&self.call.call),
        );
        let format = r#""mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1}"#;
        let parameters = Members(&started.parameters);
        let body = format_args!(r#"{body}{format},"customParameters":{parameters}}}"#);
        self.send_control("start", out, body);
        out.event(Event::Started(Box::new(started)));
        Ok(())
    }

    fn handle_message(
        &mut self,
        _: Instant,
        message: Message<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let event = match message {
            Message::Text(text) => self.read(text, out),
            Message::Binary(_) => Ok(Event::Notice(Notice::unknown("binary message"))),
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
            _ if self.stopped => {}
            Command::Media { track, payload } => self.media(track, payload, out),
            Command::Played(name) if self.two_way() => {
                self.send_control("mark", out, format_args!(r#"{{"name":{}}}"#, Quoted(name)));
            }
            Command::Dtmf(digit) if self.two_way() => {
                let digit = digit.as_char();
                let body = format_args!(r#"{{"track":"inbound_track","digit":"{digit}"}}"#);
                self.send_control("dtmf", out, body);
            }
            Command::Hangup => {
                self.stopped = true;
                let call = self.call.call.clone();
                let account = "AC0123456789abcdef0123456789abcdef";
                let call = Quoted(&call);
                let body = format_args!(r#"{{"accountSid":"{account}","callSid":{call}}}"#);
                self.send_control("stop", out, body);
                out.close(1000);
            }
            _ => {}
        }
        Ok(())
    }
}
