//! The bridge's end of Zoom's wire: dials, signs, answers for life, and dials again what is lost. Opens no socket itself.

use std::time::Duration;

use ringback_codecs::MediaFormat;

use super::super::end::{Turn, Wire};
use super::super::json::{self, Node, Quoted, Reader};
use super::super::participants::Participants;
use super::super::{
    App, Command, Event, Line, LineEvent, Message, Notice, Options, Outbox, ProtocolError, Start,
    StopCause, Track, linear, media_message, scan,
};
use super::{
    CAPABILITIES, EXPECTED, GRACE, INFO, RATES, StreamName, event, keep_alive, kind, media_params,
    rtms, stream, why,
};
use crate::Instant;

/// A server answers a handshake within this.
const PATIENCE: Duration = Duration::from_secs(10);
/// A server that was silent for so long is taken for dead, as Zoom advises.
const SILENCE: Duration = Duration::from_secs(65);
/// What was lost is dialled again after this, then after twice as long, and so on.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// Zoom confirms the end that we ask for within this.
const GOOD_BYE: Duration = Duration::from_secs(2);

pub(super) struct Bridge {
    app: App,
    parameters: Vec<(String, String)>,
    inbound_format: Option<MediaFormat>,
    state: State,
}

enum State {
    AwaitingWebhook,
    Live(Box<Live>),
    /// We asked for the end. With when we close by ourselves.
    Parting(Instant),
    Over,
}

/// A stream that Zoom has for us.
struct Live {
    name: StreamName,
    legs: [Leg; 2],
    /// Handshakes begun.
    sequence: u64,
    /// The sound we ask for.
    wanted: MediaFormat,
    /// The sound we get.
    format: Option<MediaFormat>,
    /// Whom is listened to, where voices come one by one.
    participants: Option<Participants>,
    /// Zoom's clock at the first sound, in milliseconds.
    epoch: Option<u64>,
    /// While there is no way for sound: when Zoom waits no longer.
    give_up_at: Option<Instant>,
    /// Times that something was lost since sound could come last.
    losses: u32,
}

/// A line and where it is dialled.
#[derive(Default)]
struct Leg {
    url: String,
    phase: Phase,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nobody told where it is.
    #[default]
    Unknown,
    /// To be dialled then.
    Waiting(Instant),
    Dialling,
    /// The handshake was sent; an answer is awaited until then.
    Shaking(Instant),
    /// Given up if nothing comes until then.
    Up(Instant),
}

/// A message of sound.
#[derive(Default)]
struct Sound<'a> {
    /// The speaker's number, or the channel's name in a contact centre.
    who: &'a str,
    data: Option<&'a str>,
    timestamp: Option<u64>,
}

impl<'a> Sound<'a> {
    /// Reads a message as it is usually written; `None` if it is anything but sound.
    fn scan(text: &'a str) -> Option<Self> {
        let mut found = Self::default();
        let mut is_sound = false;
        scan::walk(text, |parent, name, value| {
            match (parent, name) {
                ("", "msg_type") => {
                    is_sound = json::whole(value) == Some(kind::AUDIO);
                    return is_sound.then_some(());
                }
                ("content", "channel_id") => found.who = value,
                ("content", "user_id") if found.who.is_empty() => found.who = value,
                ("content", "data") => found.data = Some(value),
                ("content", "timestamp") => found.timestamp = json::whole(value),
                _ => {}
            }
            Some(())
        })?;
        (is_sound && found.data.is_some()).then_some(found)
    }

    /// Reads it however it is written.
    fn read(node: &'a Node<'_>) -> Self {
        Self {
            who: node.first(&["content.channel_id", "content.user_id"]).unwrap_or_default(),
            data: node.text("content.data"),
            timestamp: node.number("content.timestamp"),
        }
    }
}

impl Bridge {
    pub(super) fn new(parameters: Vec<(String, String)>, options: &Options) -> Self {
        Self {
            app: options.app.clone(),
            parameters,
            inbound_format: options.inbound_format,
            state: State::AwaitingWebhook,
        }
    }

    /// A posted request about the stream came.
    fn posted(
        &mut self,
        turn: Turn,
        node: &Node<'_>,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let message = Reader { index: turn.index, kind: "webhook", node };
        let event = message.text("event")?;
        let url = node.first(&["payload.server_urls", "payload.object.server_urls"]);
        match (rtms(event), &mut self.state) {
            (_, State::Parting(_) | State::Over) => Ok(Some(Event::Notice(Notice::late(event)))),
            (Some("started"), State::AwaitingWebhook) => {
                let problem = "names no stream and what it is of";
                let name = StreamName::read(node).ok_or(message.error("payload", problem))?;
                let url = url.ok_or(message.error("payload.server_urls", "is missing"))?;
                let wanted = self.inbound_format.unwrap_or(INFO.formats[0]);
                let mut live = Live::new(name, wanted, turn.now);
                live.legs[0].url = url.to_owned();
                live.dial(Line::Control, out);
                self.state = State::Live(Box::new(live));
                Ok(None)
            }
            (_, State::AwaitingWebhook) => {
                Err(ProtocolError::out_of_turn(turn.index, "webhook", "before rtms_started"))
            }
            // Another server took the place of one that failed, or ours lost sight of us.
            (Some("started" | "interrupted"), State::Live(live)) => {
                let moved = url.is_some_and(|url| url != live.legs[0].url);
                if !moved && !live.is_idle(Line::Control) {
                    return Ok(Some(Event::Notice(Notice::unknown(&format!("{event} again")))));
                }
                if let Some(url) = url {
                    live.legs[0].url = url.to_owned();
                }
                live.give_up_at.get_or_insert(turn.now + GRACE);
                live.dial(Line::Control, out);
                Ok(None)
            }
            (Some("stopped"), State::Live(_)) => {
                let reason = ["payload.stop_reason", "payload.object.stop_reason"];
                let reason = node.first(&reason).and_then(json::whole);
                Ok(Some(self.stop(reason)))
            }
            _ => Ok(Some(Event::Notice(Notice::unknown(event)))),
        }
    }

    /// Zoom ended the stream.
    fn stop(&mut self, reason: Option<u64>) -> Event {
        self.state = State::Over;
        let call_is_over = [why::MEETING_ENDED, why::CUSTOMER_LEFT, why::AGENT_LEFT];
        Event::Stopped(match reason {
            Some(reason) if call_is_over.contains(&reason) => StopCause::Remote,
            _ => StopCause::StreamStopped,
        })
    }

    /// A message came over a line.
    fn told(
        &mut self,
        turn: Turn,
        line: Line,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        if let State::Live(live) = &mut self.state {
            live.hear(line, turn.now);
            if let Some(sound) = Sound::scan(text) {
                return live.sound(turn, line, &sound, out);
            }
        }
        let node = Node::parse(turn.index, EXPECTED, text)?;
        let message = Reader { index: turn.index, kind: line.name(), node: &node };
        let kind = node.number("msg_type").ok_or(message.error("msg_type", "is missing"))?;
        if kind == kind::KEEP_ALIVE_REQUEST && !matches!(self.state, State::Over) {
            let time = node.number("timestamp").unwrap_or_default().to_string();
            keep_alive(kind::KEEP_ALIVE_RESPONSE, line, &time, out);
            return Ok(None);
        }
        let unknown = || Event::Notice(Notice::unknown(&format!("message of type {kind}")));
        match &mut self.state {
            State::Parting(_) if kind == kind::CLOSE_RESPONSE => {
                self.state = State::Over;
                out.close(1000);
                Ok(None)
            }
            State::Live(live) => match kind {
                kind::CONTROL_RESPONSE if line == Line::Control => {
                    live.controlled(turn, message, out)
                }
                kind::MEDIA_RESPONSE if line == Line::Media => {
                    live.media(turn, message, &mut self.parameters, out)
                }
                kind::AUDIO => live.sound(turn, line, &Sound::read(&node), out),
                kind::EVENT => {
                    if node.number("event.event_type") == Some(event::MEDIA_INTERRUPTED) {
                        live.interrupted(turn.now, out);
                    }
                    Ok(None)
                }
                kind::STREAM_STATE => {
                    let reason = node.number("reason").or(node.number("stop_reason"));
                    match node.number("state") {
                        Some(stream::TERMINATED) => return Ok(Some(self.stop(reason))),
                        Some(stream::INTERRUPTED) if reason == Some(why::MEDIA_INTERRUPTED) => {
                            live.interrupted(turn.now, out);
                        }
                        // Pauses show in the times of the sound.
                        _ => {}
                    }
                    Ok(None)
                }
                // A session is one of several within a stream.
                kind::SESSION_STATE => Ok(None),
                _ => Ok(Some(unknown())),
            },
            _ => Ok(Some(Event::Notice(Notice::late(&format!("message of type {kind}"))))),
        }
    }

    /// A line is open: the first word is ours.
    fn opened(&mut self, now: Instant, line: Line, out: &mut Outbox) {
        let State::Live(live) = &mut self.state else { return };
        if live.legs[line.index()].phase != Phase::Dialling {
            return;
        }
        live.legs[line.index()].phase = Phase::Shaking(now + PATIENCE);
        live.sequence += 1;
        let Live { name, sequence, wanted, .. } = &**live;
        let names = format_args!(
            r#""{}":{},"rtms_stream_id":{},"sequence":{sequence},"signature":"{}""#,
            name.member,
            Quoted(&name.of),
            Quoted(&name.stream),
            name.signature(&self.app)
        );
        match line {
            Line::Control => json::send_on(
                out,
                line,
                format_args!(
                    r#"{{"msg_type":{},"protocol_version":1,{names}}}"#,
                    kind::CONTROL_REQUEST
                ),
            ),
            Line::Media => {
                let params = media_params(*wanted);
                json::send_on(
                    out,
                    line,
                    format_args!(
                        r#"{{"msg_type":{},"protocol_version":1,{names},"media_type":1,"payload_encryption":false,"media_params":{params}}}"#,
                        kind::MEDIA_REQUEST
                    ),
                );
            }
        }
    }
}

impl Live {
    fn new(name: StreamName, wanted: MediaFormat, now: Instant) -> Self {
        Self {
            name,
            legs: Default::default(),
            sequence: 0,
            wanted,
            format: None,
            participants: None,
            epoch: None,
            give_up_at: Some(now + GRACE),
            losses: 0,
        }
    }

    fn dial(&mut self, line: Line, out: &mut Outbox) {
        let leg = &mut self.legs[line.index()];
        leg.phase = Phase::Dialling;
        out.dial(line, &leg.url);
    }

    /// Whether nothing goes on there and nothing is tried right now.
    fn is_idle(&self, line: Line) -> bool {
        matches!(self.legs[line.index()].phase, Phase::Unknown | Phase::Waiting(_))
    }

    fn hear(&mut self, line: Line, now: Instant) {
        if let Phase::Up(until) = &mut self.legs[line.index()].phase {
            *until = now + SILENCE;
        }
    }

    /// A line is gone, and is dialled again in a while.
    fn lose(&mut self, now: Instant, line: Line, reason: &str) -> Option<Event> {
        if self.is_idle(line) {
            return None;
        }
        self.give_up_at.get_or_insert(now + GRACE);
        let pause = FIRST_PAUSE.saturating_mul(1 << self.losses.min(8)).min(LONGEST_PAUSE);
        self.losses += 1;
        self.legs[line.index()].phase = match line {
            // Whoever dials the signaling server is told anew where the media server is.
            Line::Media if !matches!(self.legs[0].phase, Phase::Up(_)) => Phase::Unknown,
            _ => Phase::Waiting(now + pause),
        };
        Some(Event::Notice(Notice::LineLost { line, reason: json::excerpt(reason) }))
    }

    /// Zoom says that the media connection is gone, which it may know before we do.
    fn interrupted(&mut self, now: Instant, out: &mut Outbox) {
        if matches!(self.legs[1].phase, Phase::Up(_) | Phase::Waiting(_)) {
            self.give_up_at.get_or_insert(now + GRACE);
            self.dial(Line::Media, out);
        }
    }

    /// What there is to tell of a handshake that was not granted. The first refusal is the end; one of a stream that was there already
    /// is tried again: the server may not have noticed yet that its old connection is dead.
    fn granted(
        &mut self,
        turn: Turn,
        line: Line,
        message: Reader<'_>,
    ) -> Result<Option<Event>, ProtocolError> {
        if !matches!(self.legs[line.index()].phase, Phase::Shaking(_)) {
            return Ok(Some(Event::Notice(Notice::unknown("handshake nobody asked for"))));
        }
        let status = message.node.number("status_code");
        let status = status.ok_or(message.error("status_code", "is missing"))?;
        if status == 0 {
            return Ok(None);
        }
        let reason = json::kind(message.node.text("reason").unwrap_or("no reason given"));
        if self.format.is_some() {
            let reason = format!("refused with status {status} ({reason})");
            return Ok(self.lose(turn.now, line, &reason));
        }
        let what = match line {
            Line::Control => "signaling handshake",
            Line::Media => "media handshake",
        };
        Err(ProtocolError::Refused { index: turn.index, what, status, reason })
    }

    /// The signaling server answered the handshake.
    fn controlled(
        &mut self,
        turn: Turn,
        message: Reader<'_>,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        if let Some(refused) = self.granted(turn, Line::Control, message)? {
            return Ok(Some(refused));
        }
        let urls = ["media_server.server_urls.audio", "media_server.server_urls.all"];
        let url = message.node.first(&urls).filter(|url| !url.is_empty());
        let url = url.ok_or(message.error("media_server.server_urls.audio", "is missing"))?;
        url.clone_into(&mut self.legs[1].url);
        self.legs[0].phase = Phase::Up(turn.now + SILENCE);
        self.dial(Line::Media, out);
        Ok(None)
    }

    /// The media server answered the handshake: sound may come.
    fn media(
        &mut self,
        turn: Turn,
        message: Reader<'_>,
        parameters: &mut Vec<(String, String)>,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        if let Some(refused) = self.granted(turn, Line::Media, message)? {
            return Ok(Some(refused));
        }
        let format = confirmed(turn.index, message.node, self.wanted)?;
        if self.format.is_some_and(|before| before != format) {
            let what = "another format than before the connection was lost".into();
            return Err(ProtocolError::Unsupported { index: turn.index, what });
        }
        let by_voice = message.node.number("media_params.audio.data_opt") == Some(2);
        if by_voice && self.participants.is_none() {
            self.participants = Some(Participants::new(None));
        }
        self.legs[1].phase = Phase::Up(turn.now + SILENCE);
        (self.give_up_at, self.losses) = (None, 0);
        let stream = Quoted(&self.name.stream);
        json::send_on(
            out,
            Line::Control,
            format_args!(r#"{{"msg_type":{},"rtms_stream_id":{stream}}}"#, kind::READY),
        );
        if self.format.replace(format).is_some() {
            return Ok(None);
        }
        Ok(Some(Event::Started(Box::new(Start {
            stream: Some(self.name.stream.clone()),
            call: Some(self.name.of.clone()),
            from: None,
            to: None,
            parameters: std::mem::take(parameters),
            tracks: vec![Track::Inbound],
            inbound: Some(format),
            outbound: None,
            capabilities: CAPABILITIES,
        }))))
    }

    fn sound(
        &mut self,
        turn: Turn,
        line: Line,
        sound: &Sound<'_>,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let (index, kind, field) = (turn.index, "audio", "content.data");
        let missing = ProtocolError::Field { index, kind, field, problem: "is missing" };
        let data = sound.data.ok_or(missing)?;
        if self.format.is_none() || line != Line::Media {
            let octets = data.trim_end_matches('=').len() * 3 / 4;
            return Ok(Some(Event::Notice(Notice::EarlyMedia { octets })));
        }
        if let Some(participants) = &mut self.participants
            && !participants.hears(sound.who)
        {
            return Ok(participants.report(sound.who));
        }
        let event = media_message::sound(index, (kind, field), data, Track::Inbound, out)?;
        let Event::Media(mut media) = event else { return Ok(Some(event)) };
        if let Some(time) = sound.timestamp {
            let epoch = *self.epoch.get_or_insert(time);
            media.timestamp = Some(Duration::from_millis(time.saturating_sub(epoch)));
        }
        Ok(Some(Event::Media(media)))
    }

    fn next_timeout(&self) -> Option<Instant> {
        let of = |leg: &Leg| match leg.phase {
            Phase::Waiting(at) | Phase::Shaking(at) | Phase::Up(at) => Some(at),
            Phase::Unknown | Phase::Dialling => None,
        };
        self.legs.iter().filter_map(of).chain(self.give_up_at).min()
    }

    fn timeout(&mut self, now: Instant, out: &mut Outbox) {
        for line in Line::ALL {
            let lost = match self.legs[line.index()].phase {
                Phase::Waiting(at) if at <= now => {
                    self.dial(line, out);
                    None
                }
                Phase::Shaking(at) if at <= now => {
                    self.lose(now, line, "the handshake was not answered")
                }
                Phase::Up(at) if at <= now => self.lose(now, line, "nothing came for 65 s"),
                _ => None,
            };
            if let Some(lost) = lost {
                out.event(lost);
            }
        }
    }
}

/// The format that the media server settled on: what was asked for, where it tells nothing else.
fn confirmed(
    index: u64,
    node: &Node<'_>,
    wanted: MediaFormat,
) -> Result<MediaFormat, ProtocolError> {
    let of = |member: &str| node.number(&format!("media_params.audio.{member}"));
    let refuse = |what: String| Err(ProtocolError::Unsupported { index, what });
    if of("codec").is_some_and(|codec| codec != 1) {
        return refuse("sound that is not linear".into());
    }
    if of("channel").is_some_and(|channels| channels != 1) {
        return refuse("sound of two channels".into());
    }
    let Some(number) = of("sample_rate") else { return Ok(wanted) };
    let rate = usize::try_from(number).ok().and_then(|number| RATES.get(number));
    match rate {
        Some(hz) => Ok(linear(*hz)),
        None => refuse(format!("sample_rate {number}")),
    }
}

impl Wire for Bridge {
    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let node = Node::parse(turn.index, EXPECTED, text)?;
        self.posted(turn, &node, out)
    }

    fn line(
        &mut self,
        turn: Turn,
        line: Line,
        event: LineEvent<'_>,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        match event {
            LineEvent::Opened => {
                self.opened(turn.now, line, out);
                Ok(None)
            }
            LineEvent::Message(Message::Text(text)) => self.told(turn, line, text, out),
            LineEvent::Message(Message::Binary(_)) => {
                Ok(Some(Event::Notice(Notice::unknown("binary message"))))
            }
            LineEvent::Lost { reason } => Ok(match &mut self.state {
                State::Live(live) => live.lose(turn.now, line, reason),
                State::Parting(_) => {
                    self.state = State::Over;
                    out.close(1000);
                    None
                }
                _ => None,
            }),
        }
    }

    fn command(
        &mut self,
        now: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        if let (Command::Hangup, State::Live(live)) = (command, &self.state) {
            let stream = Quoted(&live.name.stream);
            if matches!(live.legs[0].phase, Phase::Up(_)) {
                let kind = kind::CLOSE_REQUEST;
                let request = format_args!(r#"{{"msg_type":{kind},"rtms_stream_id":{stream}}}"#);
                json::send_on(out, Line::Control, request);
                self.state = State::Parting(now + GOOD_BYE);
            } else {
                self.state = State::Over;
                out.close(1000);
            }
        }
        Ok(())
    }

    fn timeout(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        match &mut self.state {
            State::Live(live) if live.give_up_at.is_some_and(|at| at <= now) => {
                self.state = State::Over;
                out.event(Event::Stopped(StopCause::Lost));
            }
            State::Live(live) => live.timeout(now, out),
            State::Parting(until) if *until <= now => {
                self.state = State::Over;
                out.close(1000);
            }
            _ => {}
        }
        Ok(())
    }

    fn next_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Live(live) => live.next_timeout(),
            State::Parting(until) => Some(*until),
            State::AwaitingWebhook | State::Over => None,
        }
    }

    fn is_parting(&self) -> bool {
        matches!(self.state, State::Parting(_))
    }
}
