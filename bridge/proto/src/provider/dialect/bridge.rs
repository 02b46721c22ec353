//! Our end of every dialect: what the provider says to events, commands to what it is told. Says nothing that its table does not.

use std::time::Duration;

use ringback_codecs::MediaFormat;

use super::super::channels::Splitter;
use super::super::early::Early;
use super::super::end::{Turn, Wire};
use super::super::json::{self, Node, Quoted, Reader};
use super::super::media_message::{Counter, MediaMessage};
use super::super::{
    Command, Event, Notice, Options, Outbox, PlayoutPolicy, ProtocolError, Start, StopCause, Track,
    Upgrade,
};
use super::{
    Carriage, Dialect, Idle, Kind, MediaPaths, Ours, Query, Template, Values, read, template,
};
use crate::Instant;

/// The bridge's end.
pub(super) struct Bridge {
    dialect: &'static Dialect,
    options: Options,
    /// From the query.
    parameters: Vec<(String, String)>,
    early: Early,
    /// Whether our sound goes into text messages.
    writes: bool,
    state: State,
}

enum State {
    AwaitingStart,
    Streaming(Box<Stream>),
    Stopped,
}

/// A stream that has started.
struct Stream {
    samples: Splitter,
    /// Nothing where it is only listened to.
    lines: Option<Lines>,
    /// Where the provider bears no silence.
    quiet: Option<Quiet>,
}

/// Keeps a stream alive on which nothing is said.
struct Quiet {
    /// Octets of a frame of sound.
    frame: usize,
    /// From when on we are quiet unless we speak before.
    at: Option<Instant>,
}

impl Quiet {
    /// Gaps between messages of one utterance are shorter than this.
    const PATIENCE: Duration = Duration::from_millis(60);
    const FRAME: Duration = Duration::from_millis(20);

    fn new(format: MediaFormat) -> Self {
        let frame = format.rate.samples_in(Self::FRAME) as usize;
        Self { frame: format.octets_for(frame).unwrap_or(0), at: None }
    }

    /// Says nothing aloud, if nothing else is said. What comes in a burst is not answered by one: it would be latency for good.
    fn keep_alive(&mut self, now: Instant, out: &mut Outbox) {
        let at = *self.at.get_or_insert(now + Self::PATIENCE);
        if now >= at {
            self.at = Some(now.max(at + Self::FRAME));
            self.say_nothing(out);
        }
    }

    fn say_nothing(&self, out: &mut Outbox) {
        out.binary(|octets| octets.resize(octets.len() + self.frame, 0));
    }
}

/// What we say on one stream.
struct Lines {
    media: Option<Template>,
    mark: Option<Template>,
    clear: Option<Template>,
    dtmf: Option<Template>,
    hangup: Option<Template>,
    sequence: u64,
    /// Where our messages tell numbers or times of sound.
    sent: Option<Counter>,
    tells_track: bool,
}

impl Lines {
    fn new(ours: &Ours, known: &[(&str, String)], format: MediaFormat) -> Self {
        let template = |pattern: &str| (!pattern.is_empty()).then(|| Template::new(pattern, known));
        Self {
            media: template(ours.media),
            mark: template(ours.mark),
            clear: template(ours.clear),
            dtmf: template(ours.dtmf),
            hangup: template(ours.hangup),
            sequence: 0,
            sent: template::counts(ours.media).then(|| Counter::new(format)),
            tells_track: ours.media.contains("$track"),
        }
    }

    fn say(&mut self, dialect: &Dialect, command: Command<'_>, out: &mut Outbox) {
        let mut values = Values::default();
        let template = match command {
            Command::Media { track, payload } => {
                let sent = self.sent.as_mut().map(|sent| sent.next(payload.len()));
                let (chunk, milliseconds) = sent.unwrap_or_default();
                let track = if self.tells_track { dialect.track_name(track) } else { "" };
                values = Values { track, payload, chunk, milliseconds, ..values };
                &self.media
            }
            Command::Mark(name) => {
                values.name = name;
                &self.mark
            }
            Command::Dtmf(digit) => {
                values.digit = digit.as_char();
                &self.dtmf
            }
            Command::Clear => &self.clear,
            Command::Hangup => &self.hangup,
            _ => return,
        };
        if let Some(template) = template {
            self.sequence += 1;
            values.sequence = self.sequence;
            out.text(|text| template.print(&values, text));
        }
    }
}

impl Bridge {
    pub(super) fn new(dialect: &'static Dialect, upgrade: &Upgrade<'_>, options: &Options) -> Self {
        let parameters = match dialect.query {
            Query::Parameters => upgrade.parameters(options),
            Query::Dropped | Query::Kept => Vec::new(),
        };
        let early = Early::new(options.early_media);
        let writes = matches!(dialect.carriage, Carriage::Base64(_));
        let (options, state) = (options.clone(), State::AwaitingStart);
        Self { dialect, options, parameters, early, writes, state }
    }

    fn media(
        &self,
        index: u64,
        message: &MediaMessage<'_>,
        paths: &MediaPaths,
        out: &mut Outbox,
    ) -> Result<Event, ProtocolError> {
        Ok(match self.state {
            State::AwaitingStart => Event::Notice(Notice::EarlyMedia { octets: message.octets() }),
            State::Streaming(_) => {
                Event::Media(message.decode(index, paths, Track::Inbound, out)?)
            }
            State::Stopped => Event::Notice(Notice::late("media")),
        })
    }

    /// Everything but media as it usually comes.
    fn control(
        &mut self,
        index: u64,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let theirs = &self.dialect.theirs;
        let node = Node::parse(index, self.dialect.expected, text)?;
        let named = node.text(theirs.key).or_else(|| node.first(theirs.other_keys));
        let by_name = || theirs.kinds.iter().find(|(name, _)| Some(*name) == named).copied();
        let by_sound = || {
            let nameless = self.dialect.carriage.paths().filter(|paths| paths.kind.is_empty())?;
            node.text(nameless.payload).map(|_| ("media", Kind::Media))
        };
        let known = if theirs.first_starts && matches!(self.state, State::AwaitingStart) {
            Some(("start", Kind::Start))
        } else {
            by_name().or_else(by_sound)
        };
        let told = named.filter(|name| !name.is_empty()).unwrap_or("(no name)");
        let Some((name, kind)) = known else {
            let stopped = matches!(self.state, State::Stopped);
            let notice = if stopped { Notice::late(told) } else { Notice::unknown(told) };
            return Ok(Some(Event::Notice(notice)));
        };
        let reader = Reader { index, kind: name, node: &node };
        Ok(Some(match (kind, &self.state) {
            (Kind::Media, _) => {
                let Some(paths) = self.dialect.carriage.paths() else { return Ok(None) };
                self.writes = true;
                self.media(index, &MediaMessage::read(&reader, paths, "")?, paths, out)?
            }
            (_, State::Stopped) => Event::Notice(Notice::late(told)),
            (Kind::Nothing, _) => return Ok(None),
            (Kind::Start, State::AwaitingStart) => {
                let start = self.start(&reader, out)?;
                out.event(start);
                if let State::Streaming(stream) = &mut self.state {
                    for octets in self.early.release() {
                        let samples = &mut stream.samples;
                        samples.split(&octets, out, |media, out| out.event(Event::Media(media)));
                    }
                }
                return Ok(None);
            }
            (Kind::Start, _) => return Err(ProtocolError::out_of_turn(index, name, "twice")),
            (Kind::Error, _) => {
                let text = node.first(theirs.error).map_or_else(|| node.to_string(), str::to_owned);
                Event::Notice(Notice::ProviderError { text: json::excerpt(&text) })
            }
            (
                Kind::Dtmf | Kind::Played | Kind::Cleared | Kind::Full | Kind::Writable,
                State::AwaitingStart,
            ) => {
                return Err(ProtocolError::out_of_turn(index, name, "before start"));
            }
            (Kind::Dtmf, _) => Event::Dtmf {
                digit: reader.first_digit(theirs.digit)?,
                duration: node.first(theirs.duration).and_then(json::whole).map(theirs.duration_of),
            },
            (Kind::Played, _) => match node.first(theirs.mark) {
                Some(name) => Event::Played(name.to_owned()),
                None => Event::Notice(Notice::unknown("mark without a name")),
            },
            (Kind::Cleared, _) => Event::Cleared,
            (Kind::Full, _) => Event::Full,
            (Kind::Writable, _) => Event::Writable,
            (Kind::Stop, state) => {
                let only_listens =
                    matches!(state, State::Streaming(stream) if stream.lines.is_none());
                let cause = if only_listens { StopCause::StreamStopped } else { StopCause::Remote };
                self.state = State::Stopped;
                Event::Stopped(cause)
            }
        }))
    }

    fn start(&mut self, message: &Reader<'_>, out: &mut Outbox) -> Result<Event, ProtocolError> {
        let (dialect, node, theirs) = (self.dialect, message.node, &self.dialect.theirs);
        let tracks = match dialect.fixed_tracks {
            [] => (dialect.tracks)(message)?,
            fixed => fixed.to_vec(),
        };
        let given = self.options.inbound_format;
        let usual = given.unwrap_or(dialect.info.formats[0]);
        let announced = match (read::announced(dialect, message, usual), given) {
            (Ok(format), _) | (Err(_), Some(format)) => format,
            (Err(error), None) => return Err(error),
        };
        let inbound = given.unwrap_or(announced);
        let outbound = MediaFormat { channels: 1, ..(dialect.outbound)(announced) };
        let outbound = self.options.outbound_format.unwrap_or(outbound);
        let listens = self.options.one_way || (dialect.only_listens)(node);
        let two_way = !listens
            && !tracks.contains(&Track::Outbound)
            && (dialect.two_way)(outbound).playout != PlayoutPolicy::None;

        let mut parameters = std::mem::take(&mut self.parameters);
        parameters.extend((dialect.parameters)(node));
        let found = |paths, names: &[&str]| {
            node.first(paths).map(str::to_owned).or_else(|| json::parameter(&parameters, names))
        };
        let stream = node.first(theirs.stream).map(str::to_owned);
        if stream.is_none() && !dialect.ours.stream.is_empty() {
            let path = theirs.stream.last().copied().unwrap_or(dialect.ours.stream);
            return Err(message.error(path, "is missing or no text"));
        }
        let call = found(theirs.call, &["call", "uuid", "call_uuid"]);
        let from = found(theirs.from, &["from", "From", "caller-id", "caller_id"]);
        let to = found(theirs.to, &["to", "To"]);
        let encoding_name = dialect.content_type.unwrap_or(dialect.encoding_name);
        let quoted = |text: Option<&str>| Quoted(text.unwrap_or_default()).to_string();
        let mut known = vec![
            ("stream", quoted(stream.as_deref())),
            ("call", quoted(call.as_deref())),
            ("encoding", quoted(Some(encoding_name(outbound)))),
            ("rate", outbound.rate.hz().to_string()),
        ];
        let words = dialect.ours.words.iter();
        known.extend(words.map(|(word, paths)| (*word, quoted(node.first(paths)))));
        if !dialect.ours.answer.is_empty() {
            let answer = Template::new(dialect.ours.answer, &known);
            out.text(|text| answer.print(&Values::default(), text));
        }
        let lines = two_way.then(|| Lines::new(&dialect.ours, &known, outbound));
        let samples = Splitter::new(MediaFormat { channels: tracks.len() as u8, ..inbound });
        let samples = samples.beginning(tracks.first().copied().unwrap_or(Track::Inbound));
        let quiet = Quiet::new(outbound);
        if dialect.idle == Idle::Once {
            quiet.say_nothing(out);
        }
        let quiet = (dialect.idle == Idle::Silence).then_some(quiet);
        self.state = State::Streaming(Box::new(Stream { samples, lines, quiet }));
        Ok(Event::Started(Box::new(Start {
            stream,
            call,
            from,
            to,
            parameters,
            tracks,
            inbound: Some(MediaFormat { channels: 1, ..inbound }),
            outbound: two_way.then_some(outbound),
            capabilities: dialect.capabilities(two_way, outbound),
        })))
    }
}

impl Wire for Bridge {
    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        // Tries the quickest way to read a message first, and leaves errors to the slowest.
        if let Some(paths) = self.dialect.carriage.paths() {
            if let Some(usual) = self.dialect.usual_media
                && let Some(message) = usual(text)
                && let Ok(event) = self.media(turn.index, &message, paths, out)
            {
                return Ok(Some(event));
            }
            let message = MediaMessage::scan(text, self.dialect.theirs.key, paths, "");
            if let Some(message) = message {
                self.writes = true;
                return self.media(turn.index, &message, paths, out).map(Some);
            }
        }
        self.early.expire(turn.now, out);
        self.control(turn.index, text, out)
    }

    fn binary(
        &mut self,
        turn: Turn,
        octets: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        if matches!(self.dialect.carriage, Carriage::Base64(_)) {
            return Ok(Some(Event::Notice(Notice::unknown("binary message"))));
        }
        self.writes = false;
        match &mut self.state {
            State::AwaitingStart => self.early.keep(turn.now, octets, out),
            State::Streaming(stream) => {
                stream.samples.split(octets, out, |media, out| out.event(Event::Media(media)));
                if let Some(quiet) = &mut stream.quiet {
                    quiet.keep_alive(turn.now, out);
                }
            }
            State::Stopped => out.event(Event::Notice(Notice::late("binary message"))),
        }
        Ok(None)
    }

    fn command(
        &mut self,
        now: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let (lines, quiet) = match &mut self.state {
            State::Streaming(stream) => (stream.lines.as_mut(), stream.quiet.as_mut()),
            State::AwaitingStart => (None, None),
            State::Stopped => return Ok(()),
        };
        match (command, lines) {
            (Command::Media { track: Track::Inbound, .. }, _) => {}
            (Command::Media { payload, .. }, Some(_)) if !self.writes => {
                if let Some(quiet) = quiet {
                    quiet.at = Some(now + Quiet::PATIENCE);
                }
                out.binary(|octets| octets.extend_from_slice(payload));
            }
            (command, Some(lines)) => lines.say(self.dialect, command, out),
            (_, None) => {}
        }
        if command == Command::Hangup {
            self.state = State::Stopped;
            out.close(1000);
        }
        Ok(())
    }

    fn timeout(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        self.early.expire(now, out);
        Ok(())
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.early.expires()
    }
}
