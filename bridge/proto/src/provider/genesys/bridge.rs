//! The bridge's end of Genesys' protocol: answers `open`, counts the sound, and leaves the last word to Genesys. Plays nothing itself.

use std::time::Duration;

use ringback_codecs::MediaFormat;

use super::super::channels::Splitter;
use super::super::end::{Turn, Wire};
use super::super::json::{self, Node, Reader};
use super::super::{
    Command, Event, Notice, Options, Outbox, ProtocolError, Start, StopCause, Track,
};
use super::Product;
use super::envelope::{Envelope, period};
use crate::Instant;

/// Genesys closes the socket, and is waited for so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// A session that only tries us ends within this, or we ask for its end: well before a stream that does not start is given up.
const PROBE: Duration = Duration::from_secs(4);
/// 200 ms, what Genesys itself sends at a time.
const LONGEST_BINARY: usize = 1_600;

/// Messages with a meaning, for errors.
const KINDS: [&str; 11] = [
    "open",
    "close",
    "ping",
    "error",
    "paused",
    "resumed",
    "discarded",
    "update",
    "dtmf",
    "playback_started",
    "playback_completed",
];

pub(super) struct Bridge {
    product: Product,
    parameters: Vec<(String, String)>,
    inbound_format: Option<MediaFormat>,
    two_way: bool,
    envelope: Envelope,
    state: State,
}

enum State {
    AwaitingOpen,
    /// Genesys tries whether we answer; no call comes of it. With when to lose patience.
    Probed(Instant),
    Streaming(Sound),
    /// The end is said, by either side. With when we close the socket ourselves.
    Parting(Instant),
    Over,
}

/// Sound that comes in.
struct Sound {
    splitter: Splitter,
    track: MediaFormat,
    /// Where there is one channel, whose it is.
    only: Option<Track>,
    /// When the next sample is, on Genesys' clock, which goes on while sound is held back or thrown away.
    position: Duration,
}

impl Bridge {
    pub(super) fn new(
        product: Product,
        parameters: Vec<(String, String)>,
        options: &Options,
    ) -> Self {
        Self {
            product,
            parameters,
            inbound_format: options.inbound_format,
            two_way: product == Product::Connector && !options.one_way,
            envelope: Envelope::of_server(),
            state: State::AwaitingOpen,
        }
    }

    fn send(&mut self, out: &mut Outbox, kind: &str, parameters: std::fmt::Arguments<'_>) {
        self.envelope.send(out, kind, None, parameters);
    }

    fn read(
        &mut self,
        turn: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let node = Node::parse(turn.index, "Genesys JSON", text)?;
        let kind = node.text("type").unwrap_or("(no type)");
        if matches!(self.state, State::Over) {
            return Ok(Some(Event::Notice(Notice::late(kind))));
        }
        let known = KINDS.iter().copied().find(|known| *known == kind).unwrap_or("message");
        let message = Reader { index: turn.index, kind: known, node: &node };
        self.envelope.check(message)?;
        Ok(Some(match (kind, &mut self.state) {
            ("open", State::AwaitingOpen) => return self.open(turn, message, out).map(Some),
            ("open", _) => {
                return Err(ProtocolError::out_of_turn(turn.index, "open", "twice"));
            }
            ("close", _) => self.close(turn, message, out),
            ("ping", _) => {
                self.send(out, "pong", format_args!(""));
                return Ok(None);
            }
            ("error", _) => Event::Notice(provider_error(&node)),
            (kind, State::Parting(_)) => Event::Notice(Notice::late(kind)),
            (kind, _) if known == "message" => Event::Notice(Notice::unknown(kind)),
            (_, State::AwaitingOpen) => {
                return Err(ProtocolError::out_of_turn(turn.index, known, "before open"));
            }
            ("update", _) => {
                self.send(out, "updated", format_args!(""));
                return Ok(None);
            }
            ("dtmf", State::Streaming(_)) => {
                Event::Dtmf { digit: message.digit("parameters.digit")?, duration: None }
            }
            ("resumed" | "discarded", State::Streaming(sound)) => {
                sound.skip(&node);
                return Ok(None);
            }
            _ => return Ok(None),
        }))
    }

    fn open(
        &mut self,
        turn: Turn,
        message: Reader<'_>,
        out: &mut Outbox,
    ) -> Result<Event, ProtocolError> {
        let (offer, channels) =
            choose(self.product, message.node).ok_or_else(|| ProtocolError::Unsupported {
                index: turn.index,
                what: "an offer without PCMU at 8000 Hz, of one or two channels,".into(),
            })?;
        self.send(out, "opened", format_args!(r#""media":[{offer}],"startPaused":false"#));
        if is_probe(message.node) {
            self.state = State::Probed(turn.now + PROBE);
            return Ok(Event::Notice(Notice::Probe));
        }
        let track = self.inbound_format.unwrap_or(MediaFormat::PCMU_8000);
        let wire = MediaFormat { channels: channels.len() as u8, ..track };
        let tracks: Vec<_> = channels.iter().map(|channel| track_of(channel)).collect();
        self.state = State::Streaming(Sound {
            splitter: Splitter::new(wire),
            track,
            only: (tracks.len() == 1).then(|| tracks[0]),
            position: Duration::ZERO,
        });
        let text = |path| message.node.text(path).filter(|text| !text.is_empty());
        let mut parameters = std::mem::take(&mut self.parameters);
        parameters.extend(told(message.node));
        Ok(Event::Started(Box::new(Start {
            stream: self.envelope.id().map(str::to_owned),
            call: text("parameters.conversationId").map(str::to_owned),
            from: text("parameters.participant.ani").map(str::to_owned),
            to: text("parameters.participant.dnis").map(str::to_owned),
            parameters,
            tracks,
            inbound: Some(track),
            outbound: self.two_way.then_some(MediaFormat::PCMU_8000),
            capabilities: self.product.capabilities(self.two_way),
        })))
    }

    fn close(&mut self, turn: Turn, message: Reader<'_>, out: &mut Outbox) -> Event {
        self.send(out, "closed", format_args!(""));
        self.state = State::Parting(turn.now + PATIENCE);
        Event::Stopped(match message.node.text("parameters.reason") {
            Some("reconnect") => StopCause::StreamStopped,
            _ => StopCause::Remote,
        })
    }

    /// Asks for the end; it is Genesys' to say.
    fn disconnect(&mut self, now: Instant, out: &mut Outbox) {
        self.send(out, "disconnect", format_args!(r#""reason":"completed""#));
        self.state = State::Parting(now + PATIENCE);
    }
}

impl Sound {
    fn take(&mut self, octets: &[u8], out: &mut Outbox) {
        let Self { splitter, track, only, position } = self;
        let mut lasted = Duration::ZERO;
        splitter.split(octets, out, |mut media, out| {
            let samples = track.samples_of(out.octets(&media.payload));
            lasted = track.rate.duration_of(samples as u64);
            media.timestamp = Some(*position);
            media.track = only.unwrap_or(media.track);
            out.event(Event::Media(media));
        });
        *position += lasted;
    }

    /// Sound was not sent, by will or by need; the clock went on.
    fn skip(&mut self, node: &Node<'_>) {
        let start = period(node, "parameters.start");
        let discarded = period(node, "parameters.discarded");
        let told = start.zip(discarded).map(|(start, discarded)| start + discarded);
        let position = told.or_else(|| period(node, "position"));
        self.position = self.position.max(position.unwrap_or_default());
    }
}

/// The medium we like best of those offered, and its channels.
fn choose<'n>(
    product: Product,
    open: &'n Node<'n>,
) -> Option<(&'n Node<'n>, &'static [&'static str])> {
    let Some(Node::List(offers)) = open.get("parameters.media") else { return None };
    let fits = |offer: &Node<'_>, channels: &[&str]| {
        offer.text("format").is_some_and(|format| format.eq_ignore_ascii_case("PCMU"))
            && offer.number("rate").is_none_or(|hz| hz == 8_000)
            && offer.list("channels").eq(channels.iter().copied())
    };
    product.preferred().into_iter().find_map(|channels| {
        offers.iter().find(|offer| fits(offer, channels)).map(|offer| (offer, channels))
    })
}

fn track_of(channel: &str) -> Track {
    if channel == "internal" { Track::Outbound } else { Track::Inbound }
}

/// What `open` tells beside the parties: what the operator configured and what the flow passes on, by their own names.
fn told(open: &Node<'_>) -> Vec<(String, String)> {
    let fixed = [
        ("organizationId", "parameters.organizationId"),
        ("aniName", "parameters.participant.aniName"),
        ("language", "parameters.language"),
    ];
    let fixed = fixed.into_iter().filter_map(|(name, path)| {
        let value = open.text(path).filter(|value| !value.is_empty())?;
        Some((name.to_owned(), value.to_owned()))
    });
    let given = ["parameters.customConfig", "parameters.inputVariables"];
    let given = given.into_iter().filter_map(|path| open.get(path));
    fixed.chain(given.flat_map(|node| node.pairs(&[]))).collect()
}

/// Whether Genesys only tries us, as it does when the integration is switched on: there is no conversation.
fn is_probe(open: &Node<'_>) -> bool {
    let conversation = open.text("parameters.conversationId").unwrap_or_default();
    conversation.contains('0') && conversation.chars().all(|c| matches!(c, '0' | '-'))
}

fn provider_error(node: &Node<'_>) -> Notice {
    let code = node.text("parameters.code").unwrap_or("no code");
    let text = format!("{code} {}", node.text("parameters.message").unwrap_or_default());
    Notice::ProviderError { text: json::excerpt(&text) }
}

impl Wire for Bridge {
    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let read = self.read(turn, text, out);
        if read.is_err() && self.envelope.id().is_some() {
            let reason = r#""reason":"error","info":"protocol error""#;
            self.send(out, "disconnect", format_args!("{reason}"));
            self.state = State::Over;
        }
        read
    }

    fn binary(
        &mut self,
        _: Turn,
        octets: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        Ok(match &mut self.state {
            // Sent to try us.
            _ if octets.is_empty() => None,
            State::Streaming(sound) => {
                sound.take(octets, out);
                None
            }
            State::AwaitingOpen | State::Probed(_) => {
                Some(Event::Notice(Notice::EarlyMedia { octets: octets.len() }))
            }
            State::Parting(_) | State::Over => Some(Event::Notice(Notice::late("binary message"))),
        })
    }

    fn command(
        &mut self,
        now: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        match (command, &self.state) {
            (Command::Hangup, State::AwaitingOpen) => {
                self.state = State::Over;
                out.close(1000);
            }
            (Command::Hangup, State::Streaming(_) | State::Probed(_)) => self.disconnect(now, out),
            (Command::Media { track: Track::Outbound, payload }, State::Streaming(_))
                if self.two_way =>
            {
                for piece in payload.chunks(LONGEST_BINARY) {
                    out.binary(|octets| octets.extend_from_slice(piece));
                }
            }
            (Command::Clear, State::Streaming(_)) if self.two_way => {
                let barge_in = r#""entities":[{"type":"barge_in","data":{}}]"#;
                self.send(out, "event", format_args!("{barge_in}"));
            }
            _ => {}
        }
        Ok(())
    }

    fn timeout(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        match self.state {
            State::Probed(until) if until <= now => {
                self.disconnect(now, out);
                out.event(Event::Stopped(StopCause::StreamStopped));
            }
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
            State::Probed(until) | State::Parting(until) => Some(until),
            _ => None,
        }
    }

    fn is_parting(&self) -> bool {
        matches!(self.state, State::Parting(_))
    }
}
