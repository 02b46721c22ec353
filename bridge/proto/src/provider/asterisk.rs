//! Asterisk's chan_websocket, where Asterisk dials: binary messages of the channel's codec, and for control lines such as
//! `DTMF_END digit:1 channel_id:17.2` or, with `f(json)` in the dial string, the same as JSON. Both ends of the wire.
//!
//! The first message shows which of the two formats Asterisk speaks, and it is answered in that. Only JSON tells of variables of
//! the channel; they are custom parameters. What is queued at Asterisk stays ahead of the call for good, so playback is paced. A
//! flush drops queued marks without a word.

use std::time::Duration;

use ringback_codecs::{Encoding, Endian, MediaFormat, SampleRate};

use super::behaviour::{Aside, Behaviour};
use super::end::{End, Turn, Wire};
use super::json::{self, Members, Node, Quoted};
use super::short_marks::ShortMarks;
use super::upgrade::with_query;
use super::{
    Accepted, Capabilities, ClearLaw, Command, Dial, Event, FlowControl, FrameLaw, HangupLaw, Info,
    Notice, Options, Outbox, OutgoingUpgrade, PlayoutPolicy, Protocol, ProtocolError, Provider,
    Rejection, Start, Status, Track, Upgrade,
};
use crate::Instant;

/// Both ends of Asterisk's wire.
pub(super) struct Asterisk;

const SUBPROTOCOL: &str = "media";
/// Asterisk drops longer text without a word.
const LONGEST_TEXT: usize = 128;
/// Longest name of a mark that surely fits, even as JSON with every character escaped.
const LONGEST_MARK: usize = 42;
/// Asterisk closes with 1009 when a frame and its header are longer than 65,535 octets.
const LONGEST_BINARY: usize = 60_000;
const PTIME: Duration = Duration::from_millis(20);
const LINEAR: Encoding = Encoding::L16(Endian::Little);
/// Query parameter that asks our provider's end for JSON; named like the setting of Asterisk, which is told nowhere on the wire.
const FORMAT_PARAMETER: &str = "control_message_format";
/// What the names of variables begin with that Asterisk tells of itself, and tells elsewhere too.
const OWN_VARIABLES: &str = "MEDIA_WEBSOCKET_";

static INFO: Info = Info {
    name: "asterisk",
    title: "Asterisk chan_websocket",
    reference: "https://docs.asterisk.org/Configuration/Channel-Drivers/WebSocket/",
    status: Status::Documentation,
    capabilities: capabilities(PTIME),
    formats: &[
        MediaFormat::PCMU_8000,
        MediaFormat::mono(Encoding::Pcma, SampleRate::HZ_8000),
        MediaFormat::mono(LINEAR, SampleRate::HZ_8000),
        MediaFormat::mono(LINEAR, SampleRate::HZ_16000),
        MediaFormat::mono(LINEAR, SampleRate::HZ_24000),
        MediaFormat::mono(LINEAR, SampleRate::HZ_48000),
        MediaFormat::mono(Encoding::G722, SampleRate::HZ_16000),
        MediaFormat::mono(Encoding::Opus, SampleRate::HZ_48000),
    ],
};

/// What can be done where Asterisk frames and queues; its limits are counted in frames.
const fn capabilities(ptime: Duration) -> Capabilities {
    Capabilities {
        playout: PlayoutPolicy::Paced { limit: ptime.saturating_mul(1000) },
        frame: FrameLaw::MultipleOf(ptime),
        clear: ClearLaw::DropsMarks,
        marks: true,
        pause: true,
        dtmf_in: true,
        hangup: HangupLaw::Message,
        flow: Some(FlowControl {
            full: ptime.saturating_mul(900),
            writable: ptime.saturating_mul(800),
        }),
        ..Capabilities::LISTEN_ONLY
    }
}

/// What is left where packets are passed through (Opus): every command about media is an error.
const PASSTHROUGH: Capabilities = Capabilities {
    playout: PlayoutPolicy::Paced { limit: PTIME.saturating_mul(1000) },
    frame: FrameLaw::Exact(PTIME),
    clear: ClearLaw::Unsupported,
    marks: false,
    pause: false,
    flow: None,
    ..capabilities(PTIME)
};

/// What is left where only the caller is listened to.
const LISTEN_ONLY: Capabilities =
    Capabilities { playout: PlayoutPolicy::None, frame: FrameLaw::Any, ..PASSTHROUGH };

/// The format Asterisk calls `name`.
fn format(name: &str) -> Option<MediaFormat> {
    let hz = match name {
        "ulaw" => return Some(MediaFormat::PCMU_8000),
        "alaw" => return Some(MediaFormat::mono(Encoding::Pcma, SampleRate::HZ_8000)),
        "g722" => return Some(MediaFormat::mono(Encoding::G722, SampleRate::HZ_16000)),
        "opus" => return Some(MediaFormat::mono(Encoding::Opus, SampleRate::HZ_48000)),
        "slin" => 8_000,
        "slin44" => 44_100,
        _ => match name.strip_prefix("slin")?.parse().ok()? {
            khz @ (12 | 16 | 24 | 32 | 48 | 96 | 192) => khz * 1_000,
            _ => return None,
        },
    };
    SampleRate::new(hz).map(|rate| MediaFormat::mono(LINEAR, rate))
}

/// What Asterisk calls `format`.
fn format_name(format: MediaFormat) -> String {
    match (format.encoding, format.rate.hz()) {
        (Encoding::Pcma, _) => "alaw".into(),
        (Encoding::G722, _) => "g722".into(),
        (Encoding::Opus, _) => "opus".into(),
        (Encoding::L16(_), 8_000) => "slin".into(),
        (Encoding::L16(_), hz) => format!("slin{}", hz / 1_000),
        _ => "ulaw".into(),
    }
}

static BEHAVIOURS: &[Behaviour] = &[
    Behaviour::full(
        "xoff",
        "Asterisk says MEDIA_XOFF at 900 queued frames and MEDIA_XON below 800",
    ),
    Behaviour::unknown(Aside::Text("NEVER_HEARD_OF channel_id:17.2")),
];

impl Provider for Asterisk {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn behaviours(&self) -> Vec<&'static Behaviour> {
        BEHAVIOURS.iter().collect()
    }

    fn accept(&self, upgrade: &Upgrade<'_>, options: &Options) -> Result<Accepted, Rejection> {
        let subprotocol = upgrade.subprotocols().find(|offered| *offered == SUBPROTOCOL);
        let bridge = Bridge {
            parameters: upgrade.parameters(options),
            inbound_format: options.inbound_format,
            one_way: options.one_way,
            marks: ShortMarks::new(LONGEST_MARK),
            state: State::AwaitingStart,
        };
        Ok(Accepted { protocol: End::boxed(bridge), subprotocol: subprotocol.map(str::to_owned) })
    }

    /// Where JSON is asked for, by a query parameter, custom parameters come as variables of the channel.
    fn dial(&self, call: &Dial) -> (OutgoingUpgrade, Box<dyn Protocol>) {
        let mut query = call.described();
        query.push(("call".into(), call.call.clone()));
        let upgrade = |target| OutgoingUpgrade {
            target,
            headers: vec![],
            subprotocols: vec![SUBPROTOCOL.into()],
        };
        let whole = with_query(&call.target, &query);
        let asked = Upgrade { target: &whole, public_url: None, headers: &[] };
        let format = asked.query(FORMAT_PARAMETER);
        if format.as_deref() != Some("json") {
            return (upgrade(whole), End::boxed(Phone::new(call, query, None)));
        }
        let custom = |(name, _): &(String, String)| call.parameters.iter().any(|(n, _)| n == name);
        let (variables, query): (Vec<_>, Vec<_>) = query
            .into_iter()
            .partition(|parameter| custom(parameter) && parameter.0 != FORMAT_PARAMETER);
        let target = with_query(&call.target, &query);
        let asked = Upgrade { target: &target, ..asked };
        let parameters = asked.query_pairs().chain(variables.iter().cloned()).collect();
        (upgrade(target.clone()), End::boxed(Phone::new(call, parameters, Some(variables))))
    }
}

/// A message of control. Fields differ from version to version, and so does their order: they are looked up by name.
enum Control<'a> {
    /// `EVENT key:value key:value`, or `EVENT word`. No quoting.
    Line { event: &'a str, rest: &'a str },
    /// `{"event":"EVENT","key":value}`, or `command` in place of `event`.
    Json(Node<'a>),
}

impl<'a> Control<'a> {
    fn new(index: u64, text: &'a str) -> Result<Self, ProtocolError> {
        let text = text.trim();
        if text.starts_with('{') {
            return Ok(Self::Json(Node::parse(index, "JSON control", text)?));
        }
        let (event, rest) = text.split_once(' ').unwrap_or((text, ""));
        Ok(Self::Line { event, rest })
    }

    /// What it calls itself.
    fn name(&self) -> &str {
        match self {
            Self::Line { event, .. } => event,
            Self::Json(node) => node.first(&["event", "command"]).unwrap_or("(no event)"),
        }
    }

    fn field(&self, name: &str) -> Option<&str> {
        match self {
            Self::Line { rest, .. } => {
                let named = |word: &'a str| word.strip_prefix(name)?.strip_prefix(':');
                rest.split_ascii_whitespace().find_map(named)
            }
            Self::Json(node) => node.text(name),
        }
    }

    /// What a mark is called.
    fn id(&self) -> Option<&str> {
        match self {
            Self::Line { rest, .. } => rest.split_ascii_whitespace().next(),
            Self::Json(node) => node.text("correlation_id"),
        }
    }

    /// What is wrong, as it says.
    fn problem(&self) -> &str {
        match self {
            Self::Line { rest, .. } => rest,
            Self::Json(node) => node.text("error_text").unwrap_or_default(),
        }
    }

    /// The variables of the channel but Asterisk's own. Those that other channels inherit have `_` or `__` before their name,
    /// which is no part of it.
    fn variables(&self) -> Vec<(String, String)> {
        let Self::Json(node) = self else { return Vec::new() };
        let variables = node.get("channel_variables");
        let variables = variables.map(|variables| variables.pairs(&[])).unwrap_or_default();
        let told = variables.into_iter().filter(|(name, _)| !name.starts_with(OWN_VARIABLES));
        told.map(|(name, value)| (name.trim_start_matches('_').to_owned(), value)).collect()
    }
}

/// Says a command without anything to it.
fn order(json: bool, command: &str, out: &mut Outbox) {
    if json {
        json::send(out, format_args!(r#"{{"command":"{command}"}}"#));
    } else {
        json::send(out, format_args!("{command}"));
    }
}

/// The bridge's end.
struct Bridge {
    parameters: Vec<(String, String)>,
    inbound_format: Option<MediaFormat>,
    one_way: bool,
    marks: ShortMarks,
    state: State,
}

enum State {
    AwaitingStart,
    Streaming {
        can: Capabilities,
        /// Octets of a binary message.
        most: usize,
        /// Whether control is JSON.
        json: bool,
    },
    Stopped,
}

impl Bridge {
    fn control(&mut self, index: u64, told: &Control<'_>) -> Result<Option<Event>, ProtocolError> {
        Ok(Some(match (told.name(), &self.state) {
            (kind, State::Stopped) => Event::Notice(Notice::late(kind)),
            ("MEDIA_START", State::AwaitingStart) => self.start(index, told)?,
            ("MEDIA_START", _) => {
                return Err(ProtocolError::out_of_turn(index, "MEDIA_START", "twice"));
            }
            ("DTMF_END", State::Streaming { .. }) => {
                let digit = told.field("digit").and_then(json::digit).ok_or({
                    let problem = "is missing or no key of a telephone";
                    ProtocolError::Field { index, kind: "DTMF_END", field: "digit", problem }
                })?;
                Event::Dtmf { digit, duration: None }
            }
            ("MEDIA_MARK_PROCESSED", _) => match told.id().and_then(|id| self.marks.name(id)) {
                Some(name) => Event::Played(name),
                None => Event::Notice(Notice::unknown("mark that is not pending")),
            },
            ("MEDIA_XOFF", _) => Event::Full,
            ("MEDIA_XON", _) => Event::Writable,
            ("ERROR", _) => {
                Event::Notice(Notice::ProviderError { text: json::excerpt(told.problem()) })
            }
            // Answers to commands we do not give; another application on the channel may.
            ("STATUS" | "QUEUE_DRAINED" | "MEDIA_BUFFERING_COMPLETED", _) => return Ok(None),
            (kind, _) => Event::Notice(Notice::unknown(kind)),
        }))
    }

    fn start(&mut self, index: u64, told: &Control<'_>) -> Result<Event, ProtocolError> {
        let name = told.field("format").ok_or(ProtocolError::Field {
            index,
            kind: "MEDIA_START",
            field: "format",
            problem: "is missing",
        })?;
        let announced = format(name).or(self.inbound_format).ok_or_else(|| {
            ProtocolError::Unsupported { index, what: format!("format {}", json::kind(name)) }
        })?;
        let number = |name| told.field(name).and_then(json::whole);
        let ptime = number("ptime").filter(|ms| (1..=1_000).contains(ms));
        let ptime = ptime.map_or(PTIME, Duration::from_millis);
        // Packets are passed through where their codec cannot be cut into frames, and the frame's size says so.
        let passthrough = number("optimal_frame_size") == Some(0);
        let can = match (self.one_way, passthrough) {
            (true, _) => LISTEN_ONLY,
            (false, true) => PASSTHROUGH,
            (false, false) => capabilities(ptime),
        };
        let frame = announced.octets_for(announced.rate.samples_in(ptime) as usize).unwrap_or(1);
        let most = LONGEST_BINARY / frame.max(1) * frame.max(1);
        self.state = State::Streaming { can, most, json: matches!(told, Control::Json(_)) };
        let mut parameters = std::mem::take(&mut self.parameters);
        parameters.extend(told.variables());
        Ok(Event::Started(Box::new(Start {
            stream: told.field("channel_id").or_else(|| told.field("channel")).map(str::to_owned),
            call: json::parameter(&parameters, &["call", "uniqueid", "linkedid"]),
            from: json::parameter(&parameters, &["from", "callerid"]),
            to: json::parameter(&parameters, &["to", "exten", "did"]),
            parameters,
            tracks: vec![Track::Inbound],
            inbound: Some(self.inbound_format.unwrap_or(announced)),
            outbound: (!self.one_way).then_some(announced),
            capabilities: can,
        })))
    }
}

impl Wire for Bridge {
    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        _: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        self.control(turn.index, &Control::new(turn.index, text)?)
    }

    fn binary(
        &mut self,
        _: Turn,
        octets: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        Ok(Some(match self.state {
            State::Streaming { .. } => out.media(Track::Inbound, octets),
            State::AwaitingStart => Event::Notice(Notice::EarlyMedia { octets: octets.len() }),
            State::Stopped => Event::Notice(Notice::late("binary message")),
        }))
    }

    fn command(
        &mut self,
        _: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        if matches!((command, &self.state), (Command::Hangup, State::AwaitingStart)) {
            self.state = State::Stopped;
            out.close(1000);
        }
        let State::Streaming { can, most, json } = self.state else { return Ok(()) };
        match command {
            Command::Media { track: Track::Outbound, payload }
                if can.playout != PlayoutPolicy::None =>
            {
                for piece in payload.chunks(most) {
                    out.binary(|octets| octets.extend_from_slice(piece));
                }
            }
            Command::Mark(name) if can.marks => {
                let name = self.marks.wire_name(name);
                if json {
                    let name = Quoted(&name);
                    let mark =
                        format_args!(r#"{{"command":"MARK_MEDIA","correlation_id":{name}}}"#);
                    json::send(out, mark);
                } else {
                    json::send(out, format_args!("MARK_MEDIA {name}"));
                }
            }
            Command::Clear if can.clear != ClearLaw::Unsupported => {
                self.marks.clear();
                order(json, "FLUSH_MEDIA", out);
            }
            Command::Pause if can.pause => order(json, "PAUSE_MEDIA", out),
            Command::Resume if can.pause => order(json, "CONTINUE_MEDIA", out),
            Command::Hangup => {
                self.state = State::Stopped;
                order(json, "HANGUP", out);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Asterisk's end.
struct Phone {
    call: Dial,
    parameters: Vec<(String, String)>,
    /// Of the channel, where control is JSON.
    variables: Option<Vec<(String, String)>>,
    format: MediaFormat,
    closed: bool,
}

impl Phone {
    fn new(
        call: &Dial,
        parameters: Vec<(String, String)>,
        variables: Option<Vec<(String, String)>>,
    ) -> Self {
        let format = call.format.unwrap_or(INFO.formats[0]);
        Self { call: call.clone(), parameters, variables, format, closed: false }
    }

    /// Octets of a frame; nothing where packets are passed through.
    fn frame(&self) -> usize {
        self.format.octets_for(self.format.rate.samples_in(PTIME) as usize).unwrap_or(0)
    }

    /// The first message.
    fn announce(&self, out: &mut Outbox) {
        let (call, frame, name) = (&self.call.call, self.frame(), format_name(self.format));
        let (connection, channel) = ("ringback", "WebSocket/ringback/0x1");
        let Some(variables) = &self.variables else {
            let who =
                format_args!("connection_id:{connection} channel:{channel} channel_id:{call}");
            let what = format_args!("format:{name} optimal_frame_size:{frame} ptime:20");
            return json::send(out, format_args!("MEDIA_START {who} {what}"));
        };
        let own = [("CONNECTION_ID", connection.into()), ("OPTIMAL_FRAME_SIZE", frame.to_string())];
        let own = own.map(|(name, value)| (format!("{OWN_VARIABLES}{name}"), value));
        let inherited = variables.iter().map(|(name, value)| (format!("__{name}"), value.clone()));
        let variables: Vec<_> = own.into_iter().chain(inherited).collect();
        let variables = Members(&variables);
        let who = format_args!(
            r#""connection_id":"{connection}","channel":"{channel}","channel_id":{}"#,
            Quoted(call)
        );
        let what = format_args!(r#""format":"{name}","optimal_frame_size":{frame},"ptime":20"#);
        json::send(
            out,
            format_args!(
                r#"{{"event":"MEDIA_START",{who},{what},"channel_variables":{variables}}}"#
            ),
        );
    }

    /// Says an event with one field or none. Plain text has a mark's name without the field's, and the channel beside keys only.
    fn say(&self, event: &str, field: Option<(&str, &str)>, out: &mut Outbox) {
        let call = &self.call.call;
        if self.variables.is_some() {
            let call = Quoted(call);
            match field {
                Some((name, value)) => {
                    let value = Quoted(value);
                    let field = format_args!(r#""{name}":{value}"#);
                    json::send(
                        out,
                        format_args!(r#"{{"event":"{event}","channel_id":{call},{field}}}"#),
                    );
                }
                None => {
                    json::send(out, format_args!(r#"{{"event":"{event}","channel_id":{call}}}"#));
                }
            }
            return;
        }
        match field {
            Some(("correlation_id", name)) => json::send(out, format_args!("{event} {name}")),
            Some((name, value)) => {
                json::send(out, format_args!("{event} {name}:{value} channel_id:{call}"));
            }
            None => json::send(out, format_args!("{event}")),
        }
    }

    fn obey(&self, index: u64, text: &str, out: &mut Outbox) -> Result<Event, ProtocolError> {
        if text.len() > LONGEST_TEXT {
            let text = format!("text of {} octets dropped, 128 are taken", text.len());
            return Ok(Event::Notice(Notice::ProviderError { text }));
        }
        let asked = Control::new(index, text)?;
        // Each format is read only where it was agreed on.
        if matches!(asked, Control::Json(_)) != self.variables.is_some() {
            if self.variables.is_some() {
                self.say("ERROR", Some(("error_text", "Unable to parse JSON command")), out);
            }
            return Ok(Event::Notice(Notice::unknown("control of the other format")));
        }
        Ok(match asked.name() {
            "HANGUP" => Event::HangupRequested,
            kind if self.frame() == 0 => Event::Notice(Notice::unknown(kind)),
            "MARK_MEDIA" => Event::MarkRequested(asked.id().unwrap_or_default().to_owned()),
            "FLUSH_MEDIA" => Event::ClearRequested,
            "PAUSE_MEDIA" => Event::PauseRequested,
            "CONTINUE_MEDIA" => Event::ResumeRequested,
            kind => Event::Notice(Notice::unknown(kind)),
        })
    }
}

impl Wire for Phone {
    fn open(&mut self, _: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        self.announce(out);
        let can = match (self.call.two_way, self.frame()) {
            (false, _) => LISTEN_ONLY,
            (true, 0) => PASSTHROUGH,
            (true, _) => INFO.capabilities,
        };
        let parameters = std::mem::take(&mut self.parameters);
        let stream = Some(self.call.call.clone());
        let start = self.call.started(stream, parameters, self.format, can);
        out.event(Event::Started(Box::new(start)));
        Ok(())
    }

    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        self.obey(turn.index, text, out).map(Some)
    }

    /// Outside of its bulk mode Asterisk throws away what does not fill a frame.
    fn binary(
        &mut self,
        turn: Turn,
        octets: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        if octets.len() > LONGEST_BINARY {
            let what = format!("a binary message of {} octets", octets.len());
            return Err(ProtocolError::Unsupported { index: turn.index, what });
        }
        let tail = octets.len().checked_rem(self.frame()).unwrap_or(0);
        if tail > 0 {
            let text = format!("tail of {tail} octets thrown away");
            out.event(Event::Notice(Notice::ProviderError { text }));
        }
        Ok(Some(out.media(Track::Outbound, &octets[..octets.len() - tail])))
    }

    fn command(
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
            Command::Dtmf(digit) => {
                let key = digit.as_char();
                self.say("DTMF_END", Some(("digit", key.encode_utf8(&mut [0; 4]))), out);
            }
            Command::Played(name) => {
                self.say("MEDIA_MARK_PROCESSED", Some(("correlation_id", name)), out);
            }
            Command::Full => self.say("MEDIA_XOFF", None, out),
            Command::Writable => self.say("MEDIA_XON", None, out),
            Command::Hangup => {
                self.closed = true;
                out.close(1000);
            }
            _ => {}
        }
        Ok(())
    }
}
