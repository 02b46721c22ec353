//! Genesys' end of its protocol: offers, pings, counts what it sends and refuses what the real one refuses. Plays no sound itself.
//!
//! It sends sound as it is given it; the real one sends 200 ms at a time.

use std::time::Duration;

use ringback_codecs::MediaFormat;

use super::super::channels::Joiner;
use super::super::end::{Turn, Wire};
use super::super::json::{Members, Node, Quoted, Reader};
use super::super::{Command, Dial, Event, Notice, Outbox, ProtocolError, Start, Track};
use super::Product;
use super::envelope::{Envelope, Period};
use crate::Instant;

/// Who it says it is, where nobody says otherwise.
pub(super) const ORGANIZATION: &str = "6a1f0c52-93f4-4b0e-9d57-2f8a4c0b7e11";
/// What its own log would be searched for.
pub(super) const CORRELATION: &str = "0b7c3c7e-5f0e-4f3c-8a59-7e1d2a90c6d4";
const PARTICIPANT: &str = "c3d9e8a4-7b21-4e6f-8c35-1a0f5b6d7e92";

/// `opened` and `pong` must come within this.
const PATIENCE: Duration = Duration::from_secs(5);
const FIRST_PING: Duration = Duration::from_secs(1);
/// Longest binary message that is taken.
const LONGEST_BINARY: usize = 64_000;

pub(super) struct Phone {
    product: Product,
    call: Dial,
    envelope: Envelope,
    state: State,
    /// Channels that are sent, once it is agreed.
    tracks: Vec<Track>,
    /// Where there are two.
    joiner: Option<Joiner>,
    /// Sound sent so far.
    position: Duration,
    ping: Ping,
    /// When what was sent to be played will have been.
    playing: Option<Instant>,
    /// The bridge wants the end.
    asked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// With when `opened` is no longer waited for.
    Opening(Instant),
    Open,
    /// `close` is said.
    Closing,
    Closed,
}

/// Whether the bridge is still there.
#[derive(Clone, Copy)]
struct Ping {
    next: Instant,
    /// The one that is not answered yet: when, and its count.
    pending: Option<(Instant, u64)>,
    rtt: Option<Duration>,
}

impl Phone {
    pub(super) fn new(product: Product, call: &Dial) -> Self {
        Self {
            product,
            call: call.clone(),
            envelope: Envelope::of_client(call.call.clone()),
            state: State::Opening(Instant::ZERO + PATIENCE),
            tracks: Vec::new(),
            joiner: None,
            position: Duration::ZERO,
            ping: Ping { next: Instant::ZERO, pending: None, rtt: None },
            playing: None,
            asked: false,
        }
    }

    fn send(&mut self, out: &mut Outbox, kind: &str, parameters: std::fmt::Arguments<'_>) {
        self.envelope.send(out, kind, Some(self.position), parameters);
    }

    /// What the bridge will find in `open` under the names that have a place of their own there.
    fn fixed(&self) -> [(String, String); 3] {
        let usual = [("organizationId", ORGANIZATION), ("aniName", ""), ("language", "en-US")];
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

    /// The channels of what is offered, the dearest first, as each would be agreed on.
    fn offers(&self) -> Vec<Vec<Track>> {
        match (self.product, self.call.tracks.as_slice()) {
            (Product::Monitor, [Track::Outbound]) => vec![vec![Track::Outbound]],
            (Product::Monitor, [_, _, ..]) => vec![
                vec![Track::Inbound, Track::Outbound],
                vec![Track::Inbound],
                vec![Track::Outbound],
            ],
            _ => vec![vec![Track::Inbound]],
        }
    }

    fn close(&mut self, reason: &str, out: &mut Outbox) {
        self.send(out, "close", format_args!(r#""reason":"{reason}""#));
        self.state = State::Closing;
    }

    fn opened(&mut self, now: Instant, message: Reader<'_>) -> Result<Event, ProtocolError> {
        const FIELD: &str = "parameters.media";
        let agreed = match message.node.get(FIELD) {
            Some(Node::List(media)) if media.len() == 1 => &media[0],
            _ => return Err(message.error(FIELD, "is not one of the media offered")),
        };
        let is_agreed = |tracks: &Vec<Track>| {
            agreed.text("format") == Some("PCMU")
                && agreed.list("channels").eq(tracks.iter().map(|track| channel(*track)))
        };
        self.tracks = self
            .offers()
            .into_iter()
            .find(is_agreed)
            .ok_or_else(|| message.error(FIELD, "is none of the media offered"))?;
        self.joiner = (self.tracks.len() == 2).then(|| Joiner::new(1));
        self.state = State::Open;
        self.ping.next = now + FIRST_PING;
        let can = self.product.capabilities(self.call.two_way);
        let stream = self.envelope.id().map(str::to_owned);
        let fixed = self.fixed().into_iter().filter(|(_, value)| !value.is_empty());
        let told = fixed.chain(self.rest()).collect();
        let start = self.call.started(stream, told, MediaFormat::PCMU_8000, can);
        Ok(Event::Started(Box::new(Start { tracks: self.tracks.clone(), ..start })))
    }

    fn pong(&mut self, now: Instant, out: &mut Outbox) {
        let Some((at, _)) = self.ping.pending.take() else {
            let error = r#""code":409,"message":"Unexpected pong""#;
            return self.send(out, "error", format_args!("{error}"));
        };
        // The first is followed by another at once, so that the bridge learns how far away it is.
        if self.ping.rtt.replace(now - at).is_none() {
            self.send_ping(now, out);
        }
    }

    fn send_ping(&mut self, now: Instant, out: &mut Outbox) {
        match self.ping.rtt.map(Period) {
            Some(rtt) => self.send(out, "ping", format_args!(r#""rtt":"{rtt}""#)),
            None => self.send(out, "ping", format_args!("")),
        }
        self.ping.pending = Some((now, self.envelope.sent()));
        self.ping.next = now + PATIENCE;
    }

    fn gave_up(&mut self, waiting_for: &str, out: &mut Outbox) {
        self.send(out, "error", format_args!(r#""code":408,"message":"{waiting_for}""#));
        self.close("error", out);
    }

    fn events(&mut self, node: &Node<'_>, out: &mut Outbox) -> Event {
        let entities = match node.get("parameters.entities") {
            Some(Node::List(entities)) => entities.as_slice(),
            _ => &[],
        };
        let kind = entities.first().and_then(|entity| entity.text("type"));
        if self.product != Product::Connector || kind != Some("barge_in") {
            return Event::Notice(Notice::unknown(kind.unwrap_or("event without an entity")));
        }
        if self.playing.take().is_some() {
            self.send(out, "playback_completed", format_args!(""));
        }
        Event::ClearRequested
    }

    fn read(
        &mut self,
        turn: Turn,
        message: Reader<'_>,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let kind = message.node.text("type").unwrap_or("(no type)");
        match self.state {
            State::Opening(_) => self.envelope.begin(message),
            _ => self.envelope.check(message)?,
        }
        Ok(Some(match (kind, self.state) {
            ("closed", State::Closing) => {
                self.state = State::Closed;
                out.close(1000);
                return Ok(None);
            }
            (kind, State::Closing | State::Closed) => Event::Notice(Notice::late(kind)),
            ("opened", State::Opening(_)) => self.opened(turn.now, message)?,
            ("opened", _) => return Err(ProtocolError::out_of_turn(turn.index, "opened", "twice")),
            ("pong", _) => {
                let acknowledged = message.node.number("clientseq");
                if self.ping.pending.is_some_and(|(_, seq)| acknowledged != Some(seq)) {
                    return Err(message.error("clientseq", "is not that of the ping"));
                }
                self.pong(turn.now, out);
                return Ok(None);
            }
            ("disconnect", _) => {
                self.asked = true;
                Event::HangupRequested
            }
            ("event", _) => self.events(message.node, out),
            ("updated", _) => return Ok(None),
            (kind, _) => Event::Notice(Notice::unknown(kind)),
        }))
    }
}

const fn channel(track: Track) -> &'static str {
    match track {
        Track::Inbound => "external",
        Track::Outbound => "internal",
    }
}

impl Wire for Phone {
    fn open(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        self.state = State::Opening(now + PATIENCE);
        let media: Vec<_> = self.offers().iter().map(|tracks| medium(tracks)).collect();
        let media = media.join(",");
        let ([(_, organization), (_, name), (_, language)], rest) = (self.fixed(), self.rest());
        let (organization, name, language) =
            (Quoted(&organization), Quoted(&name), Quoted(&language));
        let Dial { call, from, to, .. } = self.call.clone();
        let (call, from, to, given) = (Quoted(&call), Quoted(&from), Quoted(&to), Members(&rest));
        let given_as = match self.product {
            Product::Monitor => "customConfig",
            Product::Connector => "inputVariables",
        };
        let party = format_args!(
            r#""participant":{{"id":"{PARTICIPANT}","ani":{from},"aniName":{name},"dnis":{to}}}"#
        );
        let head =
            format_args!(r#""organizationId":{organization},"conversationId":{call},{party}"#);
        let tail = format_args!(r#""{given_as}":{given},"language":{language}"#);
        self.send(out, "open", format_args!(r#"{head},"media":[{media}],{tail}"#));
        Ok(())
    }

    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let node = Node::parse(turn.index, "Genesys JSON", text)?;
        self.read(turn, Reader { index: turn.index, kind: "message", node: &node }, out)
    }

    fn binary(
        &mut self,
        turn: Turn,
        octets: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let what = match (self.product, self.state) {
            (Product::Monitor, _) => "sound on a stream that is only listened to",
            _ if octets.len() > LONGEST_BINARY => "a binary message of more than 64,000 octets",
            (_, State::Closing | State::Closed) => {
                return Ok(Some(Event::Notice(Notice::late("binary message"))));
            }
            (_, state) => {
                let began = self.playing.unwrap_or(turn.now);
                if self.playing.is_none() && state == State::Open {
                    self.send(out, "playback_started", format_args!(""));
                }
                let lasts = MediaFormat::PCMU_8000.rate.duration_of(octets.len() as u64);
                self.playing = Some(began.max(turn.now) + lasts);
                return Ok(Some(out.media(Track::Outbound, octets)));
            }
        };
        Err(ProtocolError::Unsupported { index: turn.index, what: what.into() })
    }

    fn command(
        &mut self,
        _: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        match (command, self.state) {
            (Command::Media { track, payload }, State::Open) if self.tracks.contains(&track) => {
                match &mut self.joiner {
                    Some(joiner) => joiner.join(track, payload, out),
                    None => out.binary(|octets| octets.extend_from_slice(payload)),
                }
                if track == self.tracks[0] {
                    let lasts = MediaFormat::PCMU_8000.rate.duration_of(payload.len() as u64);
                    self.position += lasts;
                }
            }
            (Command::Dtmf(digit), State::Open) if self.product == Product::Connector => {
                let key = digit.as_char();
                self.send(out, "dtmf", format_args!(r#""digit":"{key}""#));
            }
            (Command::Hangup, State::Opening(_) | State::Open) => {
                self.close(if self.asked { "disconnect" } else { "end" }, out);
            }
            _ => {}
        }
        Ok(())
    }

    fn timeout(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        if self.playing.is_some_and(|until| until <= now) && self.state == State::Open {
            self.playing = None;
            self.send(out, "playback_completed", format_args!(""));
        }
        match self.state {
            State::Opening(until) if until <= now => {
                self.gave_up("Open transaction timeout", out);
            }
            State::Open if self.ping.next <= now && self.ping.pending.is_some() => {
                self.gave_up("Timeout waiting for pong", out);
            }
            State::Open if self.ping.next <= now => self.send_ping(now, out),
            _ => {}
        }
        Ok(())
    }

    fn next_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Opening(until) => Some(until),
            State::Open => Some(self.playing.map_or(self.ping.next, |at| at.min(self.ping.next))),
            State::Closing | State::Closed => None,
        }
    }
}

/// What is offered of these tracks.
fn medium(tracks: &[Track]) -> String {
    let names: Vec<_> = tracks.iter().map(|track| format!("\"{}\"", channel(*track))).collect();
    let names = names.join(",");
    format!(r#"{{"type":"audio","format":"PCMU","channels":[{names}],"rate":8000}}"#)
}
