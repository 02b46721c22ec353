//! The provider's end of every dialect, acted out from its table, with what it refuses. For the simulator, the load generator and
//! tests.

use ringback_codecs::MediaFormat;

use super::super::channels::{Joiner, sample_octets};
use super::super::end::{Turn, Wire};
use super::super::json::{Members, Node, Quoted, Reader};
use super::super::media_message::{Counter, MediaMessage};
use super::super::{
    Capabilities, Command, Dial, Event, FrameLaw, Notice, Outbox, PlayoutPolicy, ProtocolError,
    Track,
};
use super::{Carriage, Dialect, MediaPaths, Request, Template, Values, template};
use crate::Instant;

/// The provider's end.
pub(super) struct Phone {
    dialect: &'static Dialect,
    call: Dial,
    stream: Option<String>,
    inbound: MediaFormat,
    /// What it is sent; the same unless the provider takes something else.
    outbound: MediaFormat,
    can: Capabilities,
    media: Template,
    /// Messages sent that tell their number.
    sequence: u64,
    sent: [Counter; 2],
    /// Where there are two channels.
    joiner: Option<Joiner>,
    /// A clear was asked for and is not confirmed yet.
    clearing: bool,
    stopped: bool,
}

impl Phone {
    pub(super) fn new(dialect: &'static Dialect, call: &Dial) -> Self {
        let mut call = call.clone();
        if !dialect.fixed_tracks.is_empty() {
            call.tracks = dialect.fixed_tracks.to_vec();
        }
        let inbound = call.format.unwrap_or(dialect.info.formats[0]);
        let outbound = (dialect.outbound)(inbound);
        let two_way = call.two_way && !call.tracks.contains(&Track::Outbound);
        let named = !dialect.theirs.stream.is_empty();
        let stream = named.then(|| format!("{}{}", dialect.theirs.stream_prefix, call.call));
        let joiner = match sample_octets(inbound.encoding) {
            Some(octets) if dialect.carriage == Carriage::Binary && call.tracks.len() > 1 => {
                Some(Joiner::new(octets))
            }
            _ => None,
        };
        let mut phone = Self {
            dialect,
            call,
            stream,
            inbound,
            outbound,
            can: dialect.capabilities(two_way, outbound),
            media: Template::new("", &[]),
            sequence: 0,
            sent: [Counter::new(inbound); 2],
            joiner,
            clearing: false,
            stopped: false,
        };
        phone.media = phone.template(dialect.theirs.media);
        phone
    }

    /// What is known of the stream, filled in.
    fn template(&self, pattern: &str) -> Template {
        let parameters = described(self.dialect, &self.call);
        let members = Members(&parameters).to_string();
        let inner = members.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let inner = inner.unwrap_or_default();
        let comma = if inner.is_empty() { "" } else { "," };
        let pairs: Vec<_> =
            parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut known = vec![
            ("stream", Quoted(self.stream.as_deref().unwrap_or_default()).to_string()),
            ("call", Quoted(&self.call.call).to_string()),
            ("from", Quoted(&self.call.from).to_string()),
            ("to", Quoted(&self.call.to).to_string()),
            ("members", format!("{comma}{inner}")),
            ("heard", Quoted((self.dialect.tracks_name)(&self.call.tracks)).to_string()),
            ("encoding", Quoted((self.dialect.encoding_name)(self.inbound)).to_string()),
            ("rate", self.inbound.rate.hz().to_string()),
            ("channels", if self.joiner.is_some() { "2" } else { "1" }.to_owned()),
            ("parameters", members),
            ("pairs", Quoted(&pairs.join(";")).to_string()),
        ];
        let track = Template::new(self.dialect.theirs.track, &known);
        let name = |track: &Track| self.dialect.track_name(*track);
        let tracks =
            self.call.tracks.iter().map(|track| Values { track: name(track), ..Values::default() });
        known.push(("tracks", template::list(&track, tracks)));
        known.extend((self.dialect.theirs.words)(&self.call));
        Template::new(pattern, &known)
    }

    fn say(&mut self, pattern: &str, values: Values<'_>, out: &mut Outbox) {
        if pattern.is_empty() {
            return;
        }
        let template = self.template(pattern);
        self.sequence += u64::from(template.counts);
        out.text(|text| template.print(&Values { sequence: self.sequence, ..values }, text));
    }

    fn media(&mut self, track: Track, payload: &[u8], out: &mut Outbox) {
        if let Some(joiner) = &mut self.joiner {
            return joiner.join(track, payload, out);
        }
        if !self.call.tracks.contains(&track) {
            return;
        }
        if self.dialect.carriage == Carriage::Binary {
            return out.binary(|octets| octets.extend_from_slice(payload));
        }
        self.sequence += u64::from(self.media.counts);
        let (chunk, milliseconds) =
            self.sent[usize::from(track == Track::Outbound)].next(payload.len());
        let (sequence, track) = (self.sequence, self.dialect.track_name(track));
        let values = Values { payload, sequence, chunk, milliseconds, track, ..Values::default() };
        out.text(|text| self.media.print(&values, text));
    }

    /// What was sent to be played, if it is cut as the provider wants it.
    fn heard(&self, index: u64, event: Event, octets: usize) -> Result<Event, ProtocolError> {
        if self.can.playout == PlayoutPolicy::None {
            return Err(ProtocolError::out_of_turn(index, "media", "on a one-way stream"));
        }
        let of = |time| self.outbound.octets_for(self.outbound.rate.samples_in(time) as usize);
        let problem = match self.can.frame {
            FrameLaw::Exact(time) if of(time).is_some_and(|frame| frame != octets) => {
                "is not that of one frame"
            }
            FrameLaw::MultipleOf(time)
                if of(time).is_some_and(|frame| !octets.is_multiple_of(frame)) =>
            {
                "is not that of whole frames"
            }
            FrameLaw::AtLeast { least, .. } if of(least).is_some_and(|least| octets < least) => {
                "is less than the provider takes"
            }
            FrameLaw::AtLeast { step, .. }
                if of(step).is_some_and(|step| step > 0 && !octets.is_multiple_of(step)) =>
            {
                "is not that of whole steps"
            }
            _ => return Ok(event),
        };
        Err(ProtocolError::Field { index, kind: "media", field: "length", problem })
    }

    fn request(
        &self,
        index: u64,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let ours = &self.dialect.ours;
        let named = ours.kinds.iter().find(|(_, request)| *request == Request::Media);
        let paths = MediaPaths {
            kind: named.map_or("", |(name, _)| *name),
            track: "",
            chunk: "",
            timestamp: "",
            payload: ours.payload,
            ..MediaPaths::USUAL
        };
        if named.is_some()
            && let Some(message) = MediaMessage::scan(text, ours.key, &paths, ours.stream)
            && (ours.stream.is_empty() || message.stream == self.stream.as_deref())
        {
            let event = Event::Media(message.decode(index, &paths, Track::Outbound, out)?);
            return self.heard(index, event, message.octets()).map(Some);
        }
        let node = Node::parse(index, self.dialect.expected, text)?;
        let told = node.text(ours.key).unwrap_or_default();
        let known = ours.kinds.iter().find(|(name, _)| *name == told);
        let told = if told.is_empty() { "(no name)" } else { told };
        let Some((name, request)) = known.copied() else {
            return Ok(Some(Event::Notice(Notice::unknown(told))));
        };
        let reader = Reader { index, kind: name, node: &node };
        if !ours.stream.is_empty() && node.text(ours.stream) != self.stream.as_deref() {
            return Err(reader.error(ours.stream, "does not name this stream"));
        }
        Ok(Some(match request {
            Request::Nothing => return Ok(None),
            Request::Media => {
                let message = MediaMessage::read(&reader, &paths, ours.stream)?;
                let event = Event::Media(message.decode(index, &paths, Track::Outbound, out)?);
                return self.heard(index, event, message.octets()).map(Some);
            }
            Request::Mark => Event::MarkRequested(reader.text(ours.name)?.to_owned()),
            Request::Clear => Event::ClearRequested,
            Request::Dtmf => Event::Dtmf { digit: reader.digit(ours.digit)?, duration: None },
            Request::Hangup => Event::HangupRequested,
        }))
    }
}

/// Everything that users of this wire would tell by custom parameters: the numbers only where the wire has no place for them.
pub(super) fn described(dialect: &Dialect, call: &Dial) -> Vec<(String, String)> {
    let name = dialect.theirs.call_parameter.map(|name| (name.to_owned(), call.call.clone()));
    let theirs = &dialect.theirs;
    let told = theirs.tells_parties || theirs.open.iter().any(|pattern| pattern.contains("$from"));
    let rest = if told { call.parameters.clone() } else { call.described() };
    name.into_iter().chain(rest).collect()
}

impl Wire for Phone {
    fn open(&mut self, _: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        let described = described(self.dialect, &self.call);
        for pattern in self.dialect.theirs.open {
            let template = self.template(pattern);
            self.sequence += u64::from(template.counts);
            let values = Values { sequence: self.sequence, ..Values::default() };
            out.text(|text| template.print(&values, text));
        }
        let mut start = self.call.started(self.stream.clone(), described, self.inbound, self.can);
        start.outbound = start.outbound.map(|_| self.outbound);
        out.event(Event::Started(Box::new(start)));
        Ok(())
    }

    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        // An answer to the start may be said on every stream.
        let ours = &self.dialect.ours;
        if self.can.playout == PlayoutPolicy::None && ours.answer.is_empty() {
            let when = "on a one-way stream";
            return Err(ProtocolError::out_of_turn(turn.index, "message", when));
        }
        if !ours.answer.is_empty() && text == ours.answer {
            return Ok(None);
        }
        let event = self.request(turn.index, text, out)?;
        self.clearing |= event == Some(Event::ClearRequested);
        Ok(event)
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
        let event = out.media(Track::Outbound, octets);
        self.heard(turn.index, event, octets.len()).map(Some)
    }

    fn command(
        &mut self,
        _: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let theirs = &self.dialect.theirs;
        match command {
            _ if self.stopped => {}
            Command::Media { track, payload } => self.media(track, payload, out),
            Command::Played(name) if self.can.marks => {
                let released = self.clearing && !theirs.released.is_empty();
                let pattern = if released { theirs.released } else { theirs.played };
                self.say(pattern, Values { name, ..Values::default() }, out);
            }
            Command::Cleared => {
                self.clearing = false;
                self.say(theirs.cleared, Values::default(), out);
            }
            Command::Full => self.say(theirs.full, Values::default(), out),
            Command::Writable => self.say(theirs.writable, Values::default(), out),
            Command::Dtmf(digit) if self.can.dtmf_in => {
                let digit = digit.as_char();
                self.say(theirs.dtmf, Values { digit, ..Values::default() }, out);
            }
            Command::Hangup => {
                self.stopped = true;
                self.say(theirs.stop, Values::default(), out);
                out.close(1000);
            }
            _ => {}
        }
        Ok(())
    }
}
