//! AudioCodes VoiceAI Connect and Live Hub, streaming mode of the Bot API: JSON with base64 sound in text messages. Both ends of the
//! wire.
//!
//! The platform offers formats and we choose one: the first without a WAV header. Who was called is told only by the `start` activity,
//! so the stream starts with that, or with sound if it comes first. What we play is a row of play streams with names, each of which
//! must be stopped for what follows it, a hang-up say, to happen; a pause ends one. `session.resume` is refused: a call ends here with
//! its connection. Where participants are named (agent assist), the first to speak is heard and each other one reported once.

use std::time::Duration;

use ringback_codecs::{MediaFormat, SampleRate};

use super::behaviour::{self, Behaviour};
use super::dialect::MediaPaths;
use super::end::{End, Turn, Wire};
use super::json::{self, Members, Node, Quoted, Reader, Stamp};
use super::media_message::{self, MediaMessage};
use super::participants::Participants;
use super::utterance::Utterance;
use super::{
    Accepted, Capabilities, ClearLaw, Command, Dial, Event, FrameLaw, HangupLaw, Info, Notice,
    Options, Outbox, OutgoingUpgrade, PlayoutPolicy, Protocol, ProtocolError, Provider, Rejection,
    Start, Status, StopCause, Track, Upgrade, linear_at,
};
use crate::Instant;

/// Both ends of AudioCodes' wire.
pub(super) struct AudioCodes;

const EXPECTED: &str = "AudioCodes Bot API JSON";

/// Formats by their names; those beginning with `wav/` have a header, and are not taken.
static FORMATS: [(&str, MediaFormat); 4] = [
    ("raw/lpcm16", linear_at(SampleRate::HZ_16000)),
    ("raw/lpcm16_8", linear_at(SampleRate::HZ_8000)),
    ("raw/lpcm16_24", linear_at(SampleRate::HZ_24000)),
    ("raw/mulaw", MediaFormat::PCMU_8000),
];

static INFO: Info = Info {
    name: "audiocodes",
    title: "AudioCodes VoiceAI Connect",
    reference: "https://techdocs.audiocodes.com/voice-ai-connect/Content/Bot-API/ac-bot-api-streaming.htm",
    status: Status::Documentation,
    capabilities: TWO_WAY,
    formats: &[FORMATS[0].1, FORMATS[1].1, FORMATS[2].1, FORMATS[3].1],
};

const TWO_WAY: Capabilities = Capabilities {
    // It queues, but how much is not told.
    playout: PlayoutPolicy::Paced { limit: Duration::from_secs(10) },
    frame: FrameLaw::Any,
    clear: ClearLaw::DropsMarks,
    ..ONE_WAY
};

const ONE_WAY: Capabilities = Capabilities {
    dtmf_in: true,
    dtmf_out: true,
    hangup: HangupLaw::Message,
    ..Capabilities::LISTEN_ONLY
};

/// Sound of the caller; the track is who speaks.
const THEIR_SOUND: MediaPaths = MediaPaths {
    kind: "userStream.chunk",
    track: "participant",
    payload: "audioChunk",
    ..MediaPaths::UNTOLD
};

/// Sound for the caller.
const OUR_SOUND: MediaPaths = MediaPaths { kind: "playStream.chunk", track: "", ..THEIR_SOUND };

fn format(name: &str) -> Option<MediaFormat> {
    FORMATS.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
}

fn format_name(format: MediaFormat) -> &'static str {
    FORMATS.iter().find(|(_, known)| *known == format).map_or(FORMATS[0].0, |(name, _)| name)
}

impl Provider for AudioCodes {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn behaviours(&self) -> Vec<&'static Behaviour> {
        behaviour::JSON.iter().collect()
    }

    fn accept(&self, upgrade: &Upgrade<'_>, options: &Options) -> Result<Accepted, Rejection> {
        let bridge = Bridge {
            parameters: upgrade.parameters(options),
            options: options.clone(),
            participants: Participants::new(None),
            state: State::AwaitingSession,
        };
        Ok(Accepted { protocol: End::boxed(bridge), subprotocol: None })
    }

    fn dial(&self, call: &Dial) -> (OutgoingUpgrade, Box<dyn Protocol>) {
        let upgrade = OutgoingUpgrade { target: call.target.clone(), ..OutgoingUpgrade::default() };
        (upgrade, End::boxed(Phone::new(call)))
    }
}

/// The bridge's end.
struct Bridge {
    parameters: Vec<(String, String)>,
    options: Options,
    participants: Participants,
    state: State,
}

enum State {
    AwaitingSession,
    /// The session is accepted; who was called may still be told.
    AwaitingStart(Box<Start>),
    Streaming(Playing),
    Stopped,
}

/// What we play.
struct Playing {
    /// Nothing where nothing can be played.
    format: Option<MediaFormat>,
    utterance: Utterance,
    /// Names play streams.
    streams: u64,
}

impl Playing {
    fn say(&mut self, now: Instant, sound: &[u8], out: &mut Outbox) {
        let Some(format) = self.format else { return };
        if self.utterance.say(now) {
            self.streams += 1;
            let (id, format) = (self.streams, format_name(format));
            let stream = format_args!(r#""streamId":"{id}","mediaFormat":"{format}""#);
            json::send(out, format_args!(r#"{{"type":"playStream.start",{stream}}}"#));
        }
        let id = self.streams;
        let before =
            format_args!(r#"{{"type":"playStream.chunk","streamId":"{id}","audioChunk":""#);
        media_message::send(out, before, sound, r#""}"#);
    }

    /// The stream under way is over.
    fn stopped(&self, out: &mut Outbox) {
        let id = self.streams;
        json::send(out, format_args!(r#"{{"type":"playStream.stop","streamId":"{id}"}}"#));
    }

    /// Ends the stream under way, if there is one.
    fn stop(&mut self, out: &mut Outbox) {
        if self.utterance.end() {
            self.stopped(out);
        }
    }
}

/// Says an activity; `more` begins with a comma.
fn activity(name: &str, more: std::fmt::Arguments<'_>, out: &mut Outbox) {
    let event = format_args!(r#"{{"type":"event","name":"{name}"{more}}}"#);
    json::send(out, format_args!(r#"{{"type":"activities","activities":[{event}]}}"#));
}

impl Bridge {
    fn initiate(&mut self, message: &Reader<'_>, out: &mut Outbox) -> Result<(), ProtocolError> {
        let node = message.node;
        let offered: Vec<_> = node.list("supportedMediaFormats").collect();
        let known = || offered.iter().filter_map(|name| format(name));
        let wanted = [self.options.inbound_format, self.options.outbound_format];
        let wanted = known().find(|format| wanted.contains(&Some(*format)));
        let usual = offered.is_empty().then_some(INFO.formats[0]);
        let Some(chosen) = wanted.or_else(|| known().next()).or(usual) else {
            let reason =
                "none of the media formats is supported; raw/lpcm16 or raw/mulaw is needed";
            json::send(out, format_args!(r#"{{"type":"session.error","reason":"{reason}"}}"#));
            let what = format!("a choice of {}", json::kind(&offered.join(", ")));
            return Err(ProtocolError::Unsupported { index: message.index, what });
        };
        let name = format_name(chosen);
        json::send(out, format_args!(r#"{{"type":"session.accepted","mediaFormat":"{name}"}}"#));
        let mut parameters = std::mem::take(&mut self.parameters);
        parameters.extend(node.text("botName").map(|name| ("botName".into(), name.to_owned())));
        let heard = node.text("expectAudioMessages") != Some("false");
        let two_way = heard && !self.options.one_way;
        self.state = State::AwaitingStart(Box::new(Start {
            stream: None,
            call: node.text("conversationId").map(str::to_owned),
            from: node.text("caller").map(str::to_owned),
            to: None,
            parameters,
            tracks: vec![Track::Inbound],
            inbound: Some(self.options.inbound_format.unwrap_or(chosen)),
            outbound: two_way.then_some(chosen),
            capabilities: if two_way { TWO_WAY } else { ONE_WAY },
        }));
        Ok(())
    }

    /// The stream starts, unless it has.
    fn start(&mut self, told: Vec<(String, String)>, out: &mut Outbox) {
        let State::AwaitingStart(start) = &mut self.state else { return };
        start.parameters.extend(told);
        if start.from.is_none() {
            start.from = json::parameter(&start.parameters, &["caller", "from"]);
        }
        start.to = json::parameter(&start.parameters, &["callee", "to"]);
        let (format, utterance) = (start.outbound, Utterance::default());
        let playing = State::Streaming(Playing { format, utterance, streams: 0 });
        if let State::AwaitingStart(start) = std::mem::replace(&mut self.state, playing) {
            out.event(Event::Started(start));
        }
    }

    fn media(
        &mut self,
        index: u64,
        message: &MediaMessage<'_>,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        match self.state {
            State::AwaitingSession => {
                return Ok(Some(Event::Notice(Notice::EarlyMedia { octets: message.octets() })));
            }
            State::Stopped => return Ok(Some(Event::Notice(Notice::late("userStream.chunk")))),
            State::AwaitingStart(_) => self.start(Vec::new(), out),
            State::Streaming(_) => {}
        }
        if let Some(who) = message.track
            && !self.participants.hears(who)
        {
            return Ok(self.participants.report(who));
        }
        sound(index, Track::Inbound, &THEIR_SOUND, message, out).map(Some)
    }

    fn activities(&mut self, message: &Reader<'_>, out: &mut Outbox) -> Result<(), ProtocolError> {
        for node in message.node.items("activities") {
            let reader = Reader { kind: "activity", node, ..*message };
            let name = node.text("name").or(node.text("type")).unwrap_or("activity without a name");
            match name.to_ascii_lowercase().as_str() {
                "start" => {
                    let told = node.get("parameters").map(|given| given.pairs(&[]));
                    self.start(told.unwrap_or_default(), out);
                }
                "dtmf" => {
                    self.start(Vec::new(), out);
                    reader.press("value", out)?;
                }
                "hangup" => self.stop(out),
                _ => out.event(Event::Notice(Notice::unknown(name))),
            }
        }
        Ok(())
    }

    fn stop(&mut self, out: &mut Outbox) {
        if !matches!(self.state, State::Stopped) {
            self.state = State::Stopped;
            out.event(Event::Stopped(StopCause::Remote));
        }
    }

    fn read(
        &mut self,
        index: u64,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let node = Node::parse(index, EXPECTED, text)?;
        let told = node.text("type").unwrap_or("(no type)");
        let reader = |kind| Reader { index, kind, node: &node };
        match (told, &self.state) {
            ("connection.validate", _) => {
                let answer = r#"{"type":"connection.validated","success":true}"#;
                json::send(out, format_args!("{answer}"));
            }
            ("userStream.stop", _) => acknowledge("userStream.stopped", &node, out),
            ("session.end", _) => self.stop(out),
            (_, State::Stopped) => return Ok(Some(Event::Notice(Notice::late(told)))),
            ("session.initiate", State::AwaitingSession) => {
                self.initiate(&reader("session.initiate"), out)?;
            }
            ("session.initiate", _) => {
                return Err(ProtocolError::out_of_turn(index, "session.initiate", "twice"));
            }
            ("session.resume", _) => {
                self.state = State::Stopped;
                let reason = "the conversation is not known any more";
                json::send(out, format_args!(r#"{{"type":"session.error","reason":"{reason}"}}"#));
                return Ok(Some(Event::Notice(Notice::unknown(told))));
            }
            ("userStream.chunk", _) => {
                let message = MediaMessage::read(&reader("userStream.chunk"), &THEIR_SOUND, "")?;
                return self.media(index, &message, out);
            }
            ("userStream.start" | "activities", State::AwaitingSession) => {
                let kind = if told == "activities" { "activities" } else { "userStream.start" };
                return Err(ProtocolError::out_of_turn(index, kind, "before session.initiate"));
            }
            ("userStream.start", _) => {
                self.start(Vec::new(), out);
                acknowledge("userStream.started", &node, out);
            }
            ("activities", _) => self.activities(&reader("activities"), out)?,
            _ => return Ok(Some(Event::Notice(Notice::unknown(told)))),
        }
        Ok(None)
    }
}

/// Says that a message about a participant's sound was taken.
fn acknowledge(kind: &str, node: &Node<'_>, out: &mut Outbox) {
    match node.text("participant").map(Quoted) {
        Some(who) => {
            json::send(out, format_args!(r#"{{"type":"{kind}","participant":{who}}}"#));
        }
        None => json::send(out, format_args!(r#"{{"type":"{kind}"}}"#)),
    }
}

/// The sound in a message.
fn sound(
    index: u64,
    track: Track,
    paths: &MediaPaths,
    message: &MediaMessage<'_>,
    out: &mut Outbox,
) -> Result<Event, ProtocolError> {
    media_message::sound(index, (paths.kind, paths.payload), message.payload, track, out)
}

impl Wire for Bridge {
    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        match MediaMessage::scan(text, "type", &THEIR_SOUND, "") {
            Some(message) => self.media(turn.index, &message, out),
            None => self.read(turn.index, text, out),
        }
    }

    fn command(
        &mut self,
        now: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let playing = match &mut self.state {
            State::Streaming(playing) => playing,
            State::AwaitingSession | State::AwaitingStart(_) if command == Command::Hangup => {
                self.state = State::Stopped;
                out.close(1000);
                return Ok(());
            }
            _ => return Ok(()),
        };
        match command {
            Command::Media { track: Track::Outbound, payload } => playing.say(now, payload, out),
            Command::Clear if playing.format.is_some() => {
                playing.stop(out);
                activity("abortPrompts", format_args!(""), out);
            }
            // An activity with anything but digits, `*` and `#` is ignored as a whole.
            Command::Dtmf(digit) if !digit.as_char().is_alphabetic() => {
                let key = digit.as_char();
                let more = format_args!(r#","activityParams":{{"dtmfDigits":"{key}"}}"#);
                activity("sendDtmf", more, out);
            }
            Command::Hangup => {
                playing.stop(out);
                activity("hangup", format_args!(""), out);
                self.state = State::Stopped;
            }
            _ => {}
        }
        Ok(())
    }

    fn timeout(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        if let State::Streaming(playing) = &mut self.state
            && playing.utterance.expire(now)
        {
            playing.stopped(out);
        }
        Ok(())
    }

    fn next_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Streaming(playing) => playing.utterance.over_at(),
            _ => None,
        }
    }
}

/// The platform's end.
struct Phone {
    call: Dial,
    /// The call's name as JSON.
    conversation: String,
    format: MediaFormat,
    bot: String,
    /// Custom parameters, those that describe the call first.
    parameters: Vec<(String, String)>,
    /// Whether the session was accepted.
    started: bool,
    /// The play stream under way.
    stream: Option<String>,
    closed: bool,
}

impl Phone {
    fn new(call: &Dial) -> Self {
        Self {
            call: call.clone(),
            conversation: Quoted(&call.call).to_string(),
            format: call.format.unwrap_or(INFO.formats[0]),
            bot: json::parameter(&call.parameters, &["botName"]).unwrap_or("ringback".into()),
            parameters: call.with_parties(&["botName"]),
            started: false,
            stream: None,
            closed: false,
        }
    }

    /// Says a message; `more` begins with a comma, as all of them name the conversation.
    fn say(&self, kind: &str, more: std::fmt::Arguments<'_>, out: &mut Outbox) {
        let call = &self.conversation;
        json::send(out, format_args!(r#"{{"type":"{kind}","conversationId":{call}{more}}}"#));
    }

    fn activity(&self, now: Instant, name: &str, more: std::fmt::Arguments<'_>, out: &mut Outbox) {
        let (id, now) = ("7d4d9c52-0000-4000-8000-000000000001", Stamp(now));
        let event = format_args!(
            r#"{{"type":"event","name":"{name}","id":"{id}","timestamp":"{now}","language":"en-US",{more}}}"#
        );
        self.say("activities", format_args!(r#","activities":[{event}]"#), out);
    }

    fn accepted(
        &mut self,
        turn: Turn,
        message: &Reader<'_>,
        out: &mut Outbox,
    ) -> Result<Event, ProtocolError> {
        if message.text("mediaFormat")? != format_name(self.format) {
            return Err(message.error("mediaFormat", "is none that was offered"));
        }
        if std::mem::replace(&mut self.started, true) {
            return Err(ProtocolError::out_of_turn(turn.index, "session.accepted", "twice"));
        }
        let parameters = Members(&self.parameters);
        self.activity(turn.now, "start", format_args!(r#""parameters":{parameters}"#), out);
        self.say("userStream.start", format_args!(""), out);
        let can = if self.call.two_way { TWO_WAY } else { ONE_WAY };
        let mut parameters = vec![("botName".to_owned(), self.bot.clone())];
        parameters.append(&mut self.parameters);
        let mut start = self.call.started(None, parameters, self.format, can);
        start.tracks = vec![Track::Inbound];
        Ok(Event::Started(Box::new(start)))
    }

    /// Sound belongs to a stream that was started and not stopped.
    fn play(&self, message: &Reader<'_>) -> Result<(), ProtocolError> {
        let named = message.text("streamId")?;
        if self.stream.as_deref() != Some(named) {
            return Err(message.error("streamId", "does not name the stream under way"));
        }
        Ok(())
    }

    fn asked(&self, message: &Reader<'_>, out: &mut Outbox) -> Result<(), ProtocolError> {
        for node in message.node.items("activities") {
            let reader = Reader { kind: "activity", node, ..*message };
            match node.first(&["name", "type"]).unwrap_or("activity without a name") {
                "hangup" => out.event(Event::HangupRequested),
                "abortPrompts" => out.event(Event::ClearRequested),
                "sendDtmf" => reader.press("activityParams.dtmfDigits", out)?,
                name => out.event(Event::Notice(Notice::unknown(name))),
            }
        }
        Ok(())
    }

    fn read(
        &mut self,
        turn: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let index = turn.index;
        let node = Node::parse(index, EXPECTED, text)?;
        let told = node.text("type").unwrap_or("(no type)");
        let reader = |kind| Reader { index, kind, node: &node };
        match told {
            "session.accepted" => {
                return self.accepted(turn, &reader("session.accepted"), out).map(Some);
            }
            "session.error" => return Ok(Some(Event::HangupRequested)),
            "playStream.start" => {
                let message = reader("playStream.start");
                if message.text("mediaFormat")? != format_name(self.format) {
                    return Err(message.error("mediaFormat", "is not that of the session"));
                }
                if self.stream.is_some() {
                    let when = "while a stream is under way";
                    return Err(ProtocolError::out_of_turn(index, "playStream.start", when));
                }
                self.stream = Some(message.text("streamId")?.to_owned());
            }
            "playStream.chunk" => {
                let message = reader("playStream.chunk");
                self.play(&message)?;
                let message = MediaMessage::read(&message, &OUR_SOUND, "")?;
                return sound(index, Track::Outbound, &OUR_SOUND, &message, out).map(Some);
            }
            "playStream.stop" => {
                self.play(&reader("playStream.stop"))?;
                self.stream = None;
            }
            "activities" => self.asked(&reader("activities"), out)?,
            "userStream.started" | "userStream.stopped" => {}
            // What a bot found out by listening.
            _ if told.starts_with("userStream.speech.") => {}
            _ => return Ok(Some(Event::Notice(Notice::unknown(told)))),
        }
        Ok(None)
    }
}

impl Wire for Phone {
    fn open(&mut self, _: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        let (two_way, format) = (self.call.two_way, format_name(self.format));
        let (bot, caller) = (Quoted(&self.bot), Quoted(&self.call.from));
        let who = format_args!(r#""botName":{bot},"caller":{caller}"#);
        let formats = format_args!(r#""supportedMediaFormats":["{format}","wav/lpcm16"]"#);
        let more = format_args!(r#","expectAudioMessages":{two_way},{who},{formats}"#);
        self.say("session.initiate", more, out);
        Ok(())
    }

    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        if let Some(message) = MediaMessage::scan(text, "type", &OUR_SOUND, "streamId")
            && message.stream.is_some()
            && message.stream == self.stream.as_deref()
        {
            return sound(turn.index, Track::Outbound, &OUR_SOUND, &message, out).map(Some);
        }
        self.read(turn, text, out)
    }

    fn command(
        &mut self,
        now: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        match command {
            _ if self.closed => {}
            Command::Media { track: Track::Inbound, payload } if self.started => {
                let call = &self.conversation;
                let before = format_args!(
                    r#"{{"type":"userStream.chunk","conversationId":{call},"audioChunk":""#
                );
                media_message::send(out, before, payload, r#""}"#);
            }
            Command::Dtmf(digit) if self.started => {
                let key = digit.as_char();
                self.activity(now, "dtmf", format_args!(r#""value":"{key}""#), out);
            }
            Command::Hangup => {
                self.closed = true;
                let more =
                    format_args!(r#","reasonCode":"client-disconnected","reason":"Client Side""#);
                self.say("session.end", more, out);
                out.close(1000);
            }
            _ => {}
        }
        Ok(())
    }
}
