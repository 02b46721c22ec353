//! What FreeSWITCH's two modules that fork a call to a WebSocket have in common, both ends of it: linear PCM in binary messages, and
//! whatever text the dialplan's application likes to send. What the modules themselves take is in their own files.
//!
//! Neither the format nor anything about the call is on the wire, so it is read from the query of the URL that the dialplan gives:
//! `rate` (8000 unless told), `mix` (`mono`, `mixed`, or `stereo` for two tracks) and `playback=yes` where something at the other end
//! plays what is sent; without it the stream only listens. A listener's `inbound_format` counts more. The metadata of the `start`
//! command is the first text; where none was given, the stream starts with its first sound.

use std::time::Duration;

use ringback_codecs::{MediaFormat, SampleRate};

use super::behaviour::{Aside, Behaviour};
use super::channels::{Joiner, Splitter};
use super::dialect::{MediaPaths, Template, Values};
use super::end::{End, Turn, Wire};
use super::json::{self, Members, Node, Reader};
use super::media_message::MediaMessage;
use super::upgrade::with_query;
use super::{
    Accepted, Capabilities, ClearLaw, Command, Dial, Event, Info, Notice, Options, Outbox,
    OutgoingUpgrade, PlayoutPolicy, Protocol, ProtocolError, Provider, Rejection, Start, StopCause,
    Track, Upgrade, linear,
};
use crate::Instant;

/// What one of the modules takes; both ends are made of it here.
pub(super) struct Module {
    pub(super) info: &'static Info,
    /// Name of the subprotocol that is offered, and wanted back.
    pub(super) subprotocol: Option<&'static str>,
    /// Message with sound: its type, where the sound is in it, and its pattern with the words `rate` and `payload`.
    pub(super) sound: [&'static str; 3],
    /// Type of the message that ends playback, or nothing.
    pub(super) clear: &'static str,
    /// Type of the message that asks to end the stream, or nothing.
    pub(super) hangup: &'static str,
    /// Type of the message around what a module of ours found; nothing where it may be sent as it is.
    pub(super) result: &'static str,
    /// Whether an empty binary message says that no more sound comes.
    pub(super) empty_is_end: bool,
}

const KNOWN: [&str; 3] = ["rate", "mix", "playback"];

impl Module {
    /// What is left where nobody plays what is sent.
    const fn one_way(&self) -> Capabilities {
        let best = self.info.capabilities;
        Capabilities { hangup: best.hangup, results: best.results, ..Capabilities::LISTEN_ONLY }
    }

    /// The format the query tells of.
    fn requested(&self, upgrade: &Upgrade<'_>) -> Result<MediaFormat, Rejection> {
        let rates = self.info.formats.iter().map(|format| format.rate);
        let rate = match upgrade.query("rate") {
            None => SampleRate::HZ_8000,
            Some(told) => {
                rates.clone().find(|rate| rate.hz().to_string() == told).ok_or_else(|| {
                    let rates: Vec<_> = rates.map(|rate| rate.hz().to_string()).collect();
                    Rejection::query("rate", &told, &rates.join(", "))
                })?
            }
        };
        let channels = match upgrade.query("mix").as_deref() {
            None | Some("mono" | "mixed") => 1,
            Some("stereo") => 2,
            Some(told) => return Err(Rejection::query("mix", told, "mono, mixed, stereo")),
        };
        Ok(MediaFormat { channels, ..linear(rate.hz()) })
    }
}

/// A module and both ends of it.
pub(super) struct FreeSwitch(pub(super) &'static Module);

static BEHAVIOURS: &[Behaviour] = &[
    Behaviour::together("texts that the application sends may arrive run together"),
    Behaviour::unknown(Aside::Text("whatever the application says")),
];

impl Provider for FreeSwitch {
    fn info(&self) -> &'static Info {
        self.0.info
    }

    fn behaviours(&self) -> Vec<&'static Behaviour> {
        BEHAVIOURS.iter().collect()
    }

    fn accept(&self, upgrade: &Upgrade<'_>, options: &Options) -> Result<Accepted, Rejection> {
        let module = self.0;
        let wire = match options.inbound_format {
            Some(format) => format,
            None => module.requested(upgrade)?,
        };
        let plays = match upgrade.query("playback").as_deref() {
            Some("yes") => true,
            None | Some("no") => false,
            Some(told) => return Err(Rejection::query("playback", told, "yes, no")),
        };
        let two_way = plays && wire.channels == 1 && !options.one_way;
        let mut parameters = upgrade.parameters(options);
        parameters.retain(|(name, _)| !KNOWN.contains(&name.as_str()));
        let track = MediaFormat { channels: 1, ..wire };
        let outbound = options.outbound_format.unwrap_or_else(|| linear(wire.rate.hz()));
        let start = Start {
            stream: None,
            call: None,
            from: None,
            to: None,
            parameters,
            tracks: [Track::Inbound, Track::Outbound][..usize::from(wire.channels).clamp(1, 2)]
                .to_vec(),
            inbound: Some(track),
            outbound: two_way.then_some(outbound),
            capabilities: if two_way { module.info.capabilities } else { module.one_way() },
        };
        let rate = [("rate", outbound.rate.hz().to_string())];
        let bridge = Bridge {
            module,
            sound: two_way.then(|| Template::new(module.sound[2], &rate)),
            samples: Splitter::new(wire),
            state: State::AwaitingStart(Box::new(start)),
        };
        // The name can be changed by a variable of FreeSWITCH's environment.
        let offered = module.subprotocol.and_then(|_| upgrade.subprotocols().next());
        let subprotocol = offered.map(str::to_owned);
        Ok(Accepted { protocol: End::boxed(bridge), subprotocol })
    }

    fn dial(&self, call: &Dial) -> (OutgoingUpgrade, Box<dyn Protocol>) {
        let module = self.0;
        let format = call.format.unwrap_or(module.info.formats[0]);
        let stereo = call.tracks.len() > 1;
        let two_way = call.two_way && !stereo;
        let told = [
            ("rate", format.rate.hz().to_string()),
            ("mix", if stereo { "stereo" } else { "mono" }.to_owned()),
            ("playback", if two_way { "yes" } else { "no" }.to_owned()),
        ];
        let upgrade = OutgoingUpgrade {
            target: with_query(&call.target, &told.map(|(name, value)| (name.to_owned(), value))),
            headers: Vec::new(),
            subprotocols: module.subprotocol.iter().map(|name| (*name).to_owned()).collect(),
        };
        let phone = Phone {
            module,
            call: call.clone(),
            format,
            can: if two_way { module.info.capabilities } else { module.one_way() },
            joiner: stereo.then(|| Joiner::new(2)),
            stopped: false,
        };
        (upgrade, End::boxed(phone))
    }
}

/// The bridge's end.
struct Bridge {
    module: &'static Module,
    /// Nothing where it is only listened to.
    sound: Option<Template>,
    samples: Splitter,
    state: State,
}

enum State {
    /// With all that is known of the stream but its metadata.
    AwaitingStart(Box<Start>),
    Streaming,
    Stopped,
}

impl Bridge {
    /// The stream starts, unless it has.
    fn start(&mut self, metadata: Vec<(String, String)>, out: &mut Outbox) {
        match std::mem::replace(&mut self.state, State::Streaming) {
            State::AwaitingStart(mut start) => {
                start.parameters.extend(metadata);
                let found = |names: &[&str]| json::parameter(&start.parameters, names);
                let call = found(&["call", "callId", "call_id", "callSid", "uuid", "call_uuid"]);
                let from = found(&["from", "caller", "callerId", "caller_id"]);
                let to = found(&["to", "callee", "destination"]);
                (start.call, start.from, start.to) = (call, from, to);
                out.event(Event::Started(start));
            }
            other => self.state = other,
        }
    }

    /// What one text meant; `node` where it is JSON.
    fn said(&mut self, text: &str, node: Option<&Node<'_>>, out: &mut Outbox) {
        let kind = node.and_then(|node| node.first(&["event", "type"]));
        let key = match (kind, node) {
            // As applications forward it, if they do; jambonz writes it so.
            (Some("dtmf"), Some(node)) => node.first(&["dtmf", "digit"]).and_then(json::digit),
            _ => None,
        };
        match (key, &self.state) {
            (_, State::Stopped) => out.event(Event::Notice(Notice::late("text"))),
            (None, State::AwaitingStart(_)) => {
                let whole = || vec![("metadata".to_owned(), text.to_owned())];
                let members = node.filter(|node| matches!(node, Node::Object(_)));
                self.start(members.map_or_else(whole, |node| node.pairs(&[])), out);
            }
            (None, State::Streaming) => {
                let kind = kind.unwrap_or("text of the application");
                out.event(Event::Notice(Notice::unknown(kind)));
            }
            (Some(digit), _) => {
                self.start(Vec::new(), out);
                let duration = node.and_then(|node| node.number("duration")).map(rtp_time);
                out.event(Event::Dtmf { digit, duration });
            }
        }
    }
}

/// Ticks of the clock that telephone events have (RFC 4733), 8 kHz.
pub(super) fn rtp_time(ticks: u64) -> Duration {
    SampleRate::HZ_8000.duration_of(ticks)
}

impl Wire for Bridge {
    /// Texts that were sent in quick succession come as one.
    fn text(
        &mut self,
        _: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let mut nodes = serde_json::Deserializer::from_str(text).into_iter::<Node<'_>>();
        let mut read = 0;
        while let Some(Ok(node)) = nodes.next() {
            let whole = &text[read..nodes.byte_offset()];
            read = nodes.byte_offset();
            self.said(whole.trim(), Some(&node), out);
        }
        let rest = text[read..].trim();
        if !rest.is_empty() {
            self.said(rest, None, out);
        }
        Ok(None)
    }

    fn binary(
        &mut self,
        _: Turn,
        octets: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        if matches!(self.state, State::Stopped) {
            return Ok(Some(Event::Notice(Notice::late("binary message"))));
        }
        if octets.is_empty() {
            if self.module.empty_is_end {
                self.state = State::Stopped;
                return Ok(Some(Event::Stopped(StopCause::StreamStopped)));
            }
            return Ok(None);
        }
        self.start(Vec::new(), out);
        self.samples.split(octets, out, |media, out| out.event(Event::Media(media)));
        Ok(None)
    }

    fn command(
        &mut self,
        _: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let Module { clear, hangup, result: around, .. } = *self.module;
        let streaming = matches!(self.state, State::Streaming);
        match (command, &self.sound) {
            _ if matches!(self.state, State::Stopped) => {}
            (Command::Hangup, _) => {
                self.state = State::Stopped;
                if streaming && !hangup.is_empty() {
                    json::send(out, format_args!(r#"{{"type":"{hangup}"}}"#));
                }
                out.close(1000);
            }
            _ if !streaming => {}
            (Command::Media { track: Track::Outbound, payload }, Some(sound)) => {
                let values = Values { payload, ..Values::default() };
                out.text(|text| sound.print(&values, text));
            }
            (Command::Clear, Some(_)) if !clear.is_empty() => {
                json::send(out, format_args!(r#"{{"type":"{clear}"}}"#));
            }
            (Command::Result(result), _) if around.is_empty() => {
                json::send(out, format_args!("{result}"));
            }
            (Command::Result(result), _) => {
                json::send(out, format_args!(r#"{{"type":"{around}","data":{result}}}"#));
            }
            _ => {}
        }
        Ok(())
    }
}

/// FreeSWITCH's end.
struct Phone {
    module: &'static Module,
    call: Dial,
    format: MediaFormat,
    can: Capabilities,
    /// Where there are two channels.
    joiner: Option<Joiner>,
    stopped: bool,
}

impl Wire for Phone {
    fn open(&mut self, _: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        let name = ("call".to_owned(), self.call.call.clone());
        let metadata: Vec<_> = std::iter::once(name).chain(self.call.described()).collect();
        json::send(out, format_args!("{}", Members(&metadata)));
        let start = self.call.started(None, metadata, self.format, self.can);
        out.event(Event::Started(Box::new(start)));
        Ok(())
    }

    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let Module { sound: [sound, payload, _], clear, hangup, result, .. } = *self.module;
        let plays = self.can.playout != PlayoutPolicy::None;
        let paths = MediaPaths { kind: sound, payload, ..MediaPaths::UNTOLD };
        if plays && let Some(message) = MediaMessage::scan(text, "type", &paths, "") {
            return Ok(Some(Event::Media(message.decode(
                turn.index,
                &paths,
                Track::Outbound,
                out,
            )?)));
        }
        let node = Node::parse(turn.index, "FreeSWITCH JSON", text)?;
        let kind = node.text("type").unwrap_or("(no type)");
        Ok(Some(match kind {
            _ if kind == sound && plays => {
                let reader = Reader { index: turn.index, kind: sound, node: &node };
                let message = MediaMessage::read(&reader, &paths, "")?;
                Event::Media(message.decode(turn.index, &paths, Track::Outbound, out)?)
            }
            _ if kind == clear && self.can.clear != ClearLaw::Unsupported => Event::ClearRequested,
            _ if kind == hangup => Event::HangupRequested,
            _ if kind == result => {
                Event::Result(node.get("data").map(Node::to_string).unwrap_or_default())
            }
            _ if result.is_empty() && kind != sound => Event::Result(text.to_owned()),
            _ => Event::Notice(Notice::unknown(kind)),
        }))
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
            (Command::Hangup, _) => {
                self.stopped = true;
                out.close(1000);
            }
            _ => {}
        }
        Ok(())
    }
}
