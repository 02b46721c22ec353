//! Asterisk's chan_websocket, plain-text control, where Asterisk dials: binary messages of the channel's codec, and lines such as
//! `DTMF_END digit:1 channel_id:17.2`. Both ends of the wire; the JSON control format (`f(json)`) is not spoken.
//!
//! What is queued at Asterisk stays ahead of the call for good, so playback is paced. A flush drops queued marks without a word.

use std::time::Duration;

use ringback_codecs::{Encoding, Endian, MediaFormat, SampleRate};

use super::end::{End, Turn, Wire};
use super::json;
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
/// Longest name of a mark that surely fits.
const LONGEST_MARK: usize = 59;
/// Asterisk closes with 1009 when a frame and its header are longer than 65,535 octets.
const LONGEST_BINARY: usize = 60_000;
const PTIME: Duration = Duration::from_millis(20);
const LINEAR: Encoding = Encoding::L16(Endian::Little);

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

impl Provider for Asterisk {
    fn info(&self) -> &'static Info {
        &INFO
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

    fn dial(&self, call: &Dial) -> (OutgoingUpgrade, Box<dyn Protocol>) {
        let mut parameters = call.described();
        parameters.push(("call".into(), call.call.clone()));
        let upgrade = OutgoingUpgrade {
            target: with_query(&call.target, &parameters),
            headers: Vec::new(),
            subprotocols: vec![SUBPROTOCOL.into()],
        };
        (upgrade, End::boxed(Phone::new(call, parameters)))
    }
}

/// A line of control: `EVENT key:value key:value`, or `EVENT word`. No quoting; fields differ from version to version, so they are
/// looked up by name.
#[derive(Clone, Copy)]
struct Line<'a> {
    event: &'a str,
    rest: &'a str,
}

impl<'a> Line<'a> {
    fn new(text: &'a str) -> Self {
        let (event, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        Self { event, rest }
    }

    fn field(self, name: &str) -> Option<&'a str> {
        let named = |word: &'a str| word.strip_prefix(name)?.strip_prefix(':');
        self.rest.split_ascii_whitespace().find_map(named)
    }

    /// What a mark is called: the first word.
    fn id(self) -> Option<&'a str> {
        self.rest.split_ascii_whitespace().next()
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
    /// With the most octets of a binary message.
    Streaming {
        can: Capabilities,
        most: usize,
    },
    Stopped,
}

impl Bridge {
    fn line(&mut self, index: u64, line: Line<'_>) -> Result<Option<Event>, ProtocolError> {
        Ok(Some(match (line.event, &self.state) {
            (kind, State::Stopped) => Event::Notice(Notice::late(kind)),
            ("MEDIA_START", State::AwaitingStart) => self.start(index, line)?,
            ("MEDIA_START", _) => {
                return Err(ProtocolError::out_of_turn(index, "MEDIA_START", "twice"));
            }
            ("DTMF_END", State::Streaming { .. }) => {
                let digit = line.field("digit").and_then(json::digit).ok_or({
                    let problem = "is missing or no key of a telephone";
                    ProtocolError::Field { index, kind: "DTMF_END", field: "digit", problem }
                })?;
                Event::Dtmf { digit, duration: None }
            }
            ("MEDIA_MARK_PROCESSED", _) => match line.id().and_then(|id| self.marks.name(id)) {
                Some(name) => Event::Played(name),
                None => Event::Notice(Notice::unknown("mark that is not pending")),
            },
            ("MEDIA_XOFF", _) => Event::Full,
            ("MEDIA_XON", _) => Event::Writable,
            ("ERROR", _) => Event::Notice(Notice::ProviderError { text: json::excerpt(line.rest) }),
            // Answers to commands we do not give; another application on the channel may.
            ("STATUS" | "QUEUE_DRAINED" | "MEDIA_BUFFERING_COMPLETED", _) => return Ok(None),
            (kind, _) => Event::Notice(Notice::unknown(kind)),
        }))
    }

    fn start(&mut self, index: u64, line: Line<'_>) -> Result<Event, ProtocolError> {
        let name = line.field("format").ok_or(ProtocolError::Field {
            index,
            kind: "MEDIA_START",
            field: "format",
            problem: "is missing",
        })?;
        let announced = format(name).or(self.inbound_format).ok_or_else(|| {
            ProtocolError::Unsupported { index, what: format!("format {}", json::kind(name)) }
        })?;
        let number = |name| line.field(name).and_then(json::whole);
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
        self.state = State::Streaming { can, most };
        let parameters = std::mem::take(&mut self.parameters);
        Ok(Event::Started(Box::new(Start {
            stream: line.field("channel_id").or_else(|| line.field("channel")).map(str::to_owned),
            call: json::parameter(&parameters, &["call", "uniqueid", "linkedid"]),
            from: json::parameter(&parameters, &["from", "callerid"]),
            to: json::parameter(&parameters, &["to", "exten", "did"]),
            parameters,
            tracks: vec![Track::Inbound],
            inbound: self.inbound_format.unwrap_or(announced),
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
        if text.starts_with('{') {
            return Err(ProtocolError::Malformed {
                index: turn.index,
                expected: "plain-text control (without f(json) in the dial string)",
                reason: "it is JSON".into(),
                excerpt: json::excerpt(text),
            });
        }
        self.line(turn.index, Line::new(text))
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
        let State::Streaming { can, most } = self.state else { return Ok(()) };
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
                json::send(out, format_args!("MARK_MEDIA {name}"));
            }
            Command::Clear if can.clear != ClearLaw::Unsupported => {
                self.marks.clear();
                json::send(out, format_args!("FLUSH_MEDIA"));
            }
            Command::Pause if can.pause => json::send(out, format_args!("PAUSE_MEDIA")),
            Command::Resume if can.pause => json::send(out, format_args!("CONTINUE_MEDIA")),
            Command::Hangup => {
                self.state = State::Stopped;
                json::send(out, format_args!("HANGUP"));
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
    format: MediaFormat,
    closed: bool,
}

impl Phone {
    fn new(call: &Dial, parameters: Vec<(String, String)>) -> Self {
        let format = call.format.unwrap_or(INFO.formats[0]);
        Self { call: call.clone(), parameters, format, closed: false }
    }

    /// Octets of a frame; nothing where packets are passed through.
    fn frame(&self) -> usize {
        self.format.octets_for(self.format.rate.samples_in(PTIME) as usize).unwrap_or(0)
    }

    fn line(&self, text: &str) -> Event {
        if text.len() > LONGEST_TEXT {
            let text = format!("text of {} octets dropped, 128 are taken", text.len());
            return Event::Notice(Notice::ProviderError { text });
        }
        let line = Line::new(text);
        match line.event {
            "HANGUP" => Event::HangupRequested,
            kind if self.frame() == 0 => Event::Notice(Notice::unknown(kind)),
            "MARK_MEDIA" => Event::MarkRequested(line.id().unwrap_or_default().to_owned()),
            "FLUSH_MEDIA" => Event::ClearRequested,
            "PAUSE_MEDIA" => Event::PauseRequested,
            "CONTINUE_MEDIA" => Event::ResumeRequested,
            kind => Event::Notice(Notice::unknown(kind)),
        }
    }
}

impl Wire for Phone {
    fn open(&mut self, _: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        let (call, frame, name) = (&self.call.call, self.frame(), format_name(self.format));
        let who =
            format_args!("connection_id:ringback channel:WebSocket/ringback/0x1 channel_id:{call}");
        let what = format_args!("format:{name} optimal_frame_size:{frame} ptime:20");
        json::send(out, format_args!("MEDIA_START {who} {what}"));
        let can = match (self.call.two_way, frame) {
            (false, _) => LISTEN_ONLY,
            (true, 0) => PASSTHROUGH,
            (true, _) => INFO.capabilities,
        };
        let parameters = std::mem::take(&mut self.parameters);
        let start = self.call.started(Some(call.clone()), parameters, self.format, can);
        out.event(Event::Started(Box::new(start)));
        Ok(())
    }

    fn text(
        &mut self,
        _: Turn,
        text: &str,
        _: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        Ok(Some(self.line(text)))
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
        let call = &self.call.call;
        match command {
            _ if self.closed => {}
            Command::Media { track: Track::Inbound, payload } => {
                out.binary(|octets| octets.extend_from_slice(payload));
            }
            Command::Dtmf(digit) => {
                let key = digit.as_char();
                json::send(out, format_args!("DTMF_END digit:{key} channel_id:{call}"));
            }
            Command::Played(name) => json::send(out, format_args!("MEDIA_MARK_PROCESSED {name}")),
            Command::Full => json::send(out, format_args!("MEDIA_XOFF")),
            Command::Writable => json::send(out, format_args!("MEDIA_XON")),
            Command::Hangup => {
                self.closed = true;
                out.close(1000);
            }
            _ => {}
        }
        Ok(())
    }
}
