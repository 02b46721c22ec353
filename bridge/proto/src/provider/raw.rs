//! Ringback's own minimal protocol, `ringback.raw.v1`, for clients that are no telephone provider: a browser, a script, `websocat`.
//! Both ends of the wire.
//!
#![doc = include_str!("../../RAW.md")]

use std::time::Duration;

use ringback_codecs::{Encoding, Endian, MediaFormat, SampleRate};

use super::behaviour::{self, Behaviour};
use super::channels::{Joiner, Splitter, sample_octets};
use super::end::{End, Turn, Wire};
use super::json::{self, Node, Quoted, Reader};
use super::upgrade::with_query;
use super::{
    Accepted, Capabilities, ClearLaw, Command, Dial, Event, HangupLaw, Info, Notice, Options,
    Outbox, OutgoingUpgrade, PlayoutPolicy, Protocol, ProtocolError, Provider, Rejection, Start,
    Status, StopCause, Track, Upgrade,
};
use crate::Instant;

/// Both ends of the raw wire.
pub(super) struct Raw;

const SUBPROTOCOL: &str = "ringback.raw.v1";
/// Sound a client should be able to queue.
const QUEUE: Duration = Duration::from_secs(5);
const LITTLE: Encoding = Encoding::L16(Endian::Little);

static INFO: Info = Info {
    name: "raw",
    title: "Raw WebSocket audio",
    reference: "bridge/proto/RAW.md",
    status: Status::Documentation,
    capabilities: TWO_WAY,
    formats: &[
        MediaFormat::PCMU_8000,
        MediaFormat::mono(Encoding::Pcma, SampleRate::HZ_8000),
        MediaFormat::mono(LITTLE, SampleRate::HZ_8000),
        MediaFormat::mono(LITTLE, SampleRate::HZ_16000),
        MediaFormat::mono(LITTLE, SampleRate::HZ_24000),
        MediaFormat::mono(LITTLE, SampleRate::HZ_48000),
        MediaFormat::mono(Encoding::L16(Endian::Big), SampleRate::HZ_16000),
        MediaFormat::mono(Encoding::G722, SampleRate::HZ_16000),
        MediaFormat::mono(Encoding::Opus, SampleRate::HZ_48000),
    ],
};

const TWO_WAY: Capabilities = Capabilities {
    playout: PlayoutPolicy::Paced { limit: QUEUE },
    clear: ClearLaw::DropsMarks,
    marks: true,
    ..TWO_CHANNELS
};

const TWO_CHANNELS: Capabilities = Capabilities {
    dtmf_in: true,
    hangup: HangupLaw::Message,
    results: true,
    ..Capabilities::LISTEN_ONLY
};

/// An encoding by the name it has here, with the rates it may have, the usual one first.
struct Choice {
    name: &'static str,
    encoding: Encoding,
    rates: &'static [u32],
}

const LINEAR_RATES: &[u32] =
    &[16_000, 8_000, 11_025, 12_000, 22_050, 24_000, 32_000, 44_100, 48_000];

static CHOICES: [Choice; 6] = [
    Choice { name: "pcmu", encoding: Encoding::Pcmu, rates: &[8_000, 16_000] },
    Choice { name: "pcma", encoding: Encoding::Pcma, rates: &[8_000, 16_000] },
    Choice { name: "l16", encoding: LITTLE, rates: LINEAR_RATES },
    Choice { name: "l16be", encoding: Encoding::L16(Endian::Big), rates: LINEAR_RATES },
    Choice { name: "g722", encoding: Encoding::G722, rates: &[16_000] },
    Choice {
        name: "opus",
        encoding: Encoding::Opus,
        rates: &[48_000, 8_000, 12_000, 16_000, 24_000],
    },
];

/// The name an encoding has here.
fn encoding_name(encoding: Encoding) -> &'static str {
    CHOICES.iter().find(|choice| choice.encoding == encoding).map_or("pcmu", |choice| choice.name)
}

/// The format the query asks for.
fn requested(upgrade: &Upgrade<'_>) -> Result<MediaFormat, Rejection> {
    let name = upgrade.query("encoding").unwrap_or_else(|| "pcmu".into());
    let choice = CHOICES.iter().find(|choice| choice.name == name).ok_or_else(|| {
        Rejection::query(
            "encoding",
            &name,
            &CHOICES.each_ref().map(|choice| choice.name).join(", "),
        )
    })?;
    let rate = match upgrade.query("rate") {
        None => Some(choice.rates[0]),
        Some(hz) => hz.parse().ok().filter(|hz| choice.rates.contains(hz)),
    };
    let rate = rate.and_then(SampleRate::new).ok_or_else(|| {
        let mut rates = choice.rates.to_vec();
        rates.sort_unstable();
        let rates: Vec<_> = rates.iter().map(u32::to_string).collect();
        let given = upgrade.query("rate").unwrap_or_default();
        Rejection::query("rate", &given, &format!("{} for encoding={name}", rates.join(", ")))
    })?;
    let two = sample_octets(choice.encoding).is_some();
    let channels = match upgrade.query("channels").as_deref() {
        None | Some("1") => 1,
        Some("2") if two => 2,
        Some(other) => {
            let allowed = if two { "1, 2" } else { "1" };
            return Err(Rejection::query(
                "channels",
                other,
                &format!("{allowed} for encoding={name}"),
            ));
        }
    };
    Ok(MediaFormat { encoding: choice.encoding, rate, channels })
}

impl Provider for Raw {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn behaviours(&self) -> Vec<&'static Behaviour> {
        behaviour::JSON.iter().collect()
    }

    fn accept(&self, upgrade: &Upgrade<'_>, options: &Options) -> Result<Accepted, Rejection> {
        let wire = requested(upgrade)?;
        let mut parameters = upgrade.parameters(options);
        let known = ["encoding", "rate", "channels", "stream", "call", "from", "to"];
        parameters.retain(|(name, _)| !known.contains(&name.as_str()));
        let track = MediaFormat { channels: 1, ..wire };
        let two_way = wire.channels == 1 && !options.one_way;
        let start = Start {
            stream: upgrade.query("stream"),
            call: upgrade.query("call"),
            from: upgrade.query("from"),
            to: upgrade.query("to"),
            parameters,
            tracks: [Track::Inbound, Track::Outbound][..usize::from(wire.channels)].to_vec(),
            inbound: Some(options.inbound_format.unwrap_or(track)),
            outbound: two_way.then_some(track),
            capabilities: if two_way { TWO_WAY } else { TWO_CHANNELS },
        };
        let bridge = Bridge {
            two_way,
            state: State::Opening { start: Box::new(start), wire },
            samples: Splitter::new(wire),
        };
        let subprotocol = upgrade.subprotocols().find(|offered| *offered == SUBPROTOCOL);
        Ok(Accepted { protocol: End::boxed(bridge), subprotocol: subprotocol.map(str::to_owned) })
    }

    fn dial(&self, call: &Dial) -> (OutgoingUpgrade, Box<dyn Protocol>) {
        let format = call.format.unwrap_or(INFO.formats[0]);
        let two = call.tracks.len() > 1 && sample_octets(format.encoding).is_some();
        let wire = MediaFormat { channels: if two { 2 } else { 1 }, ..format };
        let fixed = [
            ("encoding", encoding_name(wire.encoding).to_owned()),
            ("rate", wire.rate.hz().to_string()),
            ("channels", wire.channels.to_string()),
            ("stream", call.call.clone()),
            ("call", call.call.clone()),
        ];
        let mut query: Vec<_> = fixed.map(|(name, value)| (name.to_owned(), value)).into();
        query.extend(call.described());
        let upgrade = OutgoingUpgrade {
            target: with_query(&call.target, &query),
            headers: Vec::new(),
            subprotocols: vec![SUBPROTOCOL.into()],
        };
        (upgrade, End::boxed(Phone::new(call, wire)))
    }
}

/// The bridge's end.
struct Bridge {
    two_way: bool,
    state: State,
    samples: Splitter,
}

enum State {
    /// With what is announced once the socket is open.
    Opening {
        start: Box<Start>,
        wire: MediaFormat,
    },
    Streaming,
    Stopped,
}

impl Bridge {
    fn read(&mut self, index: u64, text: &str) -> Result<Event, ProtocolError> {
        let node = Node::parse(index, "ringback.raw.v1 JSON", text)?;
        let reader = |kind| Reader { index, kind, node: &node };
        let kind = node.text("type").unwrap_or("(no type)");
        if matches!(self.state, State::Stopped) {
            return Ok(Event::Notice(Notice::late(kind)));
        }
        Ok(match kind {
            "dtmf" => Event::Dtmf {
                digit: reader("dtmf").digit("digit")?,
                duration: node.number("duration").map(Duration::from_millis),
            },
            "mark" => Event::Played(reader("mark").text("name")?.to_owned()),
            "cleared" => Event::Cleared,
            "stop" => {
                self.state = State::Stopped;
                Event::Stopped(StopCause::Remote)
            }
            kind => Event::Notice(Notice::unknown(kind)),
        })
    }
}

/// `"encoding":..,"rate":..,"channels":..`
fn describe(wire: MediaFormat) -> String {
    let (name, hz, channels) = (encoding_name(wire.encoding), wire.rate.hz(), wire.channels);
    format!(r#""encoding":"{name}","rate":{hz},"channels":{channels}"#)
}

impl Wire for Bridge {
    fn open(&mut self, _: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        if let State::Opening { start, wire } = std::mem::replace(&mut self.state, State::Streaming)
        {
            let stream = start.stream.as_deref();
            let stream = stream.map(|stream| format!(r#""stream":{},"#, Quoted(stream)));
            let (stream, format) = (stream.unwrap_or_default(), describe(wire));
            let head = format_args!(r#""type":"start","protocol":"{SUBPROTOCOL}""#);
            json::send(out, format_args!("{{{head},{stream}{format}}}"));
            out.event(Event::Started(start));
        }
        Ok(())
    }

    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        _: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        self.read(turn.index, text).map(Some)
    }

    fn binary(
        &mut self,
        _: Turn,
        octets: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        Ok(Some(match self.state {
            State::Streaming => {
                self.samples.split(octets, out, |media, out| out.event(Event::Media(media)));
                return Ok(None);
            }
            State::Opening { .. } => Event::Notice(Notice::EarlyMedia { octets: octets.len() }),
            State::Stopped => Event::Notice(Notice::late("binary message")),
        }))
    }

    fn command(
        &mut self,
        _: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        match command {
            _ if matches!(self.state, State::Stopped) => {}
            Command::Media { track: Track::Outbound, payload } if self.two_way => {
                out.binary(|octets| octets.extend_from_slice(payload));
            }
            Command::Mark(name) if self.two_way => {
                json::send(out, format_args!(r#"{{"type":"mark","name":{}}}"#, Quoted(name)));
            }
            Command::Clear if self.two_way => {
                json::send(out, format_args!(r#"{{"type":"clear"}}"#));
            }
            Command::Result(result) => json::send(out, format_args!("{result}")),
            Command::Hangup => {
                self.state = State::Stopped;
                json::send(out, format_args!(r#"{{"type":"hangup"}}"#));
                out.close(1000);
            }
            _ => {}
        }
        Ok(())
    }
}

/// The client's end.
struct Phone {
    call: Dial,
    wire: MediaFormat,
    /// Where there are two channels.
    joiner: Option<Joiner>,
    stopped: bool,
}

impl Phone {
    fn new(call: &Dial, wire: MediaFormat) -> Self {
        let joiner = match sample_octets(wire.encoding) {
            Some(octets) if wire.channels == 2 => Some(Joiner::new(octets)),
            _ => None,
        };
        Self { call: call.clone(), wire, joiner, stopped: false }
    }

    fn read(&self, index: u64, text: &str) -> Result<Option<Event>, ProtocolError> {
        let node = Node::parse(index, "ringback.raw.v1 JSON", text)?;
        let reader = |kind| Reader { index, kind, node: &node };
        Ok(Some(match node.text("type") {
            Some("start") => {
                let reader = reader("start");
                if reader.text("encoding")? != encoding_name(self.wire.encoding) {
                    return Err(reader.error("encoding", "is not what was asked for"));
                }
                return Ok(None);
            }
            Some("mark") => Event::MarkRequested(reader("mark").text("name")?.to_owned()),
            Some("clear") => Event::ClearRequested,
            Some("hangup") => Event::HangupRequested,
            Some(_) => Event::Result(text.to_owned()),
            None => return Err(reader("message").error("type", "is missing")),
        }))
    }
}

impl Wire for Phone {
    fn open(&mut self, _: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        let can = if self.joiner.is_some() || !self.call.two_way { TWO_CHANNELS } else { TWO_WAY };
        let track = MediaFormat { channels: 1, ..self.wire };
        let parameters = self.call.parameters.clone();
        let start = self.call.started(Some(self.call.call.clone()), parameters, track, can);
        out.event(Event::Started(Box::new(start)));
        Ok(())
    }

    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        _: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        self.read(turn.index, text)
    }

    fn binary(
        &mut self,
        _: Turn,
        octets: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        Ok(Some(out.media(Track::Outbound, octets)))
    }

    fn command(
        &mut self,
        _: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        match (command, &mut self.joiner) {
            _ if self.stopped => {}
            (Command::Media { track, payload }, Some(joiner)) => joiner.join(track, payload, out),
            (Command::Media { track: Track::Inbound, payload }, None) => {
                out.binary(|octets| octets.extend_from_slice(payload));
            }
            (Command::Dtmf(digit), _) => {
                let key = digit.as_char();
                json::send(out, format_args!(r#"{{"type":"dtmf","digit":"{key}"}}"#));
            }
            (Command::Played(name), _) => {
                json::send(out, format_args!(r#"{{"type":"mark","name":{}}}"#, Quoted(name)));
            }
            (Command::Cleared, _) => json::send(out, format_args!(r#"{{"type":"cleared"}}"#)),
            (Command::Hangup, _) => {
                self.stopped = true;
                json::send(out, format_args!(r#"{{"type":"stop"}}"#));
                out.close(1000);
            }
            _ => {}
        }
        Ok(())
    }
}
