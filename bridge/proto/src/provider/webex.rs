//! Webex Contact Center, bring your own virtual agent over WebSocket: JSON with base64 sound in text messages. Both ends of the wire
//! but for the list of virtual agents, which is a request of its own; signatures are checked elsewhere.
//!
//! The wire thinks in turns: each request of theirs ends with exactly one response of type `FINAL`, and a long one has `CHUNK`s of
//! sound before it. Sound here flows both ways all the time, so an utterance of ours is a row of chunks that a pause makes final, and
//! a turn in which we say nothing is made final at once. What the caller's sound is coded in is told by every piece of it and not
//! before; until then it is taken for mu-law. There is no calendar here: messages of ours bear the time of their last one.

use std::time::Duration;

use ringback_codecs::{Encoding, Endian, MediaFormat};

use super::behaviour::{self, Behaviour};
use super::end::{End, Turn, Wire};
use super::json::{self, Members, Node, Quoted, Reader, Stamp};
use super::utterance::Utterance;
use super::{
    Accepted, Capabilities, ClearLaw, Command, Dial, Digit, Event, HangupLaw, Info, Notice,
    Options, Outbox, OutgoingUpgrade, PlayoutPolicy, Protocol, ProtocolError, Provider, Rejection,
    Start, Status, StopCause, Track, Upgrade, media_message, scan,
};
use crate::Instant;

/// Both ends of Webex' wire.
pub(super) struct Webex;

const EXPECTED: &str = "Webex virtual agent JSON";

static INFO: Info = Info {
    name: "webex",
    title: "Webex Contact Center",
    reference: "https://github.com/webex/dataSourceSchemas",
    // Turns are told for agents that answer when the caller is silent; how Webex takes one that speaks at any time, and what its
    // prompts may be coded in, is not.
    status: Status::Experimental,
    capabilities: TWO_WAY,
    formats: &[MediaFormat::PCMU_8000],
};

const TWO_WAY: Capabilities = Capabilities {
    // Sound is to be sent as it is made; how much is kept is not told.
    playout: PlayoutPolicy::Ahead { limit: Duration::from_secs(60) },
    clear: ClearLaw::DropsMarks,
    ..ONE_WAY
};

const ONE_WAY: Capabilities =
    Capabilities { dtmf_in: true, hangup: HangupLaw::Message, ..Capabilities::LISTEN_ONLY };

/// Encodings by the beginning of their names.
const ENCODINGS: [(&str, Encoding); 3] = [
    ("MULAW", Encoding::Pcmu),
    ("ALAW", Encoding::Pcma),
    ("LINEAR16", Encoding::L16(Endian::Little)),
];

/// Keys by the end of their names.
const KEYS: [(&str, char); 16] = [
    ("ZERO", '0'),
    ("ONE", '1'),
    ("TWO", '2'),
    ("THREE", '3'),
    ("FOUR", '4'),
    ("FIVE", '5'),
    ("SIX", '6'),
    ("SEVEN", '7'),
    ("EIGHT", '8'),
    ("NINE", '9'),
    ("STAR", '*'),
    ("POUND", '#'),
    ("A", 'A'),
    ("B", 'B'),
    ("C", 'C'),
    ("D", 'D'),
];

/// The key that is called so, or by its own sign.
fn key(name: &str) -> Option<Digit> {
    let name = name.strip_prefix("DTMF_DIGIT_").unwrap_or(name);
    let named = KEYS.iter().find(|(known, _)| *known == name);
    named.and_then(|(_, key)| Digit::new(*key)).or_else(|| json::digit(name))
}

fn key_name(digit: Digit) -> &'static str {
    KEYS.iter().find(|(_, key)| *key == digit.as_char()).map_or("ZERO", |(name, _)| name)
}

impl Provider for Webex {
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
            voice: Voice {
                conversation: r#""""#.into(),
                time: "1970-01-01T00:00:00Z".into(),
                responses: 0,
                utterance: Utterance::default(),
            },
            inbound: options.inbound_format.unwrap_or(INFO.formats[0]),
            state: State::AwaitingStart,
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
    inbound: MediaFormat,
    voice: Voice,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    AwaitingStart,
    Streaming,
    Stopped,
}

/// What we say.
struct Voice {
    /// The conversation's name as JSON.
    conversation: String,
    /// What their last message said of the time.
    time: String,
    responses: u64,
    utterance: Utterance,
}

impl Voice {
    /// Keeps their time, if it is one.
    fn learn(&mut self, time: &str) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-+:.".contains(&b);
        if (1..=40).contains(&time.len()) && time.bytes().all(plain) {
            self.time.clear();
            self.time.push_str(time);
        }
    }

    /// Sound; more of it may follow.
    fn say(&mut self, now: Instant, sound: &[u8], out: &mut Outbox) {
        self.utterance.say(now);
        self.responses += 1;
        let Self { conversation, time, responses, .. } = self;
        let before = format_args!(
            r#"{{"type":"VOICE_VA_RESPONSE","seq":{responses},"ts":"{time}","conversation_id":{conversation},"payload":{{"prompts":[{{"audio_content_b64":""#
        );
        let after = r#"","is_barge_in_enabled":true}],"input_mode":"INPUT_VOICE_DTMF","response_type":"CHUNK"}}"#;
        media_message::send(out, before, sound, after);
    }

    /// Something other than sound; `event` is nothing or one of theirs.
    fn respond(&mut self, event: &str, kind: &str, out: &mut Outbox) {
        self.responses += 1;
        let Self { conversation, time, responses, .. } = self;
        let head =
            format_args!(r#""seq":{responses},"ts":"{time}","conversation_id":{conversation}"#);
        let events = match event {
            "" => String::new(),
            event => {
                let event = format_args!(r#"{{"event_type":"{event}","name":"","metadata":{{}}}}"#);
                format!(r#","output_events":[{event}]"#)
            }
        };
        let payload = format_args!(
            r#"{{"prompts":[]{events},"input_mode":"INPUT_VOICE_DTMF","response_type":"{kind}"}}"#
        );
        json::send(
            out,
            format_args!(r#"{{"type":"VOICE_VA_RESPONSE",{head},"payload":{payload}}}"#),
        );
    }

    /// A turn of theirs wants its end. What is being said will have one.
    fn finish_turn(&mut self, out: &mut Outbox) {
        if !self.utterance.is_under_way() {
            self.respond("", "FINAL", out);
        }
    }
}

/// A piece of the caller's sound, and what is told of it.
#[derive(Debug, Clone, Copy, Default)]
struct Sound<'a> {
    time: Option<&'a str>,
    payload: Option<&'a str>,
    encoding: Option<&'a str>,
    hz: Option<u64>,
}

impl<'a> Sound<'a> {
    /// Reads a sound message as it is usually written; `None` if it is anything else.
    fn scan(text: &'a str) -> Option<Self> {
        let mut found = Self::default();
        scan::walk_deep(text, |path, value| {
            match path {
                ["type"] => return (value == "VOICE_VA_REQUEST").then_some(()),
                ["ts"] => found.time = Some(value),
                ["payload", "voice_va_input_type", "audio_input", name] => match *name {
                    "caller_audio_b64" => found.payload = Some(value),
                    "encoding" => found.encoding = Some(value),
                    "sample_rate_hertz" => found.hz = Some(json::whole(value)?),
                    _ => {}
                },
                _ => {}
            }
            Some(())
        })?;
        found.payload.is_some().then_some(found)
    }

    /// Reads it however it is written.
    fn read(input: &'a Node<'_>) -> Self {
        Self {
            time: None,
            payload: input.text("caller_audio_b64"),
            encoding: input.text("encoding"),
            hz: input.number("sample_rate_hertz"),
        }
    }

    /// Whether it is coded like that, as far as it tells.
    fn is(&self, format: MediaFormat) -> bool {
        let of = |name: &str| ENCODINGS.iter().find(|(known, _)| name.starts_with(known));
        self.encoding.is_none_or(|name| of(name).is_some_and(|(_, is)| *is == format.encoding))
            && self.hz.is_none_or(|hz| hz == u64::from(format.rate.hz()))
    }
}

impl Bridge {
    fn sound(
        &mut self,
        index: u64,
        sound: &Sound<'_>,
        out: &mut Outbox,
    ) -> Result<Event, ProtocolError> {
        let (kind, field) = ("audio_input", "caller_audio_b64");
        let missing = ProtocolError::Field { index, kind, field, problem: "is missing" };
        let text = sound.payload.ok_or(missing)?;
        match self.state {
            State::AwaitingStart => {
                let octets = text.trim_end_matches('=').len() * 3 / 4;
                return Ok(Event::Notice(Notice::EarlyMedia { octets }));
            }
            State::Stopped => return Ok(Event::Notice(Notice::late(kind))),
            State::Streaming => {}
        }
        if self.options.inbound_format.is_none() && !sound.is(self.inbound) {
            let name = json::kind(sound.encoding.unwrap_or("sound"));
            let rate = sound.hz.map(|hz| format!(" at {hz} Hz")).unwrap_or_default();
            let what = format!("{name}{rate}, unless configured as inbound format,");
            return Err(ProtocolError::Unsupported { index, what });
        }
        media_message::sound(index, (kind, field), text, Track::Inbound, out)
    }

    fn start(&mut self, node: &Node<'_>, event: &Node<'_>) -> Event {
        let call = node.first(&["conversation_id", "payload.conversation_id"]);
        self.voice.conversation = Quoted(call.unwrap_or_default()).to_string();
        let mut parameters = std::mem::take(&mut self.parameters);
        let told = [event.get("parameters"), node.get("payload.additional_info")];
        parameters.extend(told.into_iter().flatten().flat_map(|told| told.pairs(&[])));
        for name in ["customer_org_id", "virtual_agent_id", "vendor_specific_config"] {
            let told = node.get("payload").and_then(|payload| payload.text(name));
            let told = told.filter(|value| !value.is_empty());
            parameters.extend(told.map(|value| (name.to_owned(), value.to_owned())));
        }
        self.state = State::Streaming;
        let two_way = !self.options.one_way;
        let outbound = self.options.outbound_format.unwrap_or(self.inbound);
        Event::Started(Box::new(Start {
            stream: None,
            call: call.map(str::to_owned),
            from: json::parameter(&parameters, &["caller", "from", "ani", "ANI"]),
            to: json::parameter(&parameters, &["callee", "to", "dnis", "DNIS"]),
            parameters,
            tracks: vec![Track::Inbound],
            inbound: Some(self.inbound),
            outbound: two_way.then_some(outbound),
            capabilities: if two_way { TWO_WAY } else { ONE_WAY },
        }))
    }

    /// Something happened that is neither sound nor a key.
    fn happened(
        &mut self,
        index: u64,
        node: &Node<'_>,
        event: &Node<'_>,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let told = event.text("event_type").unwrap_or("event without a type");
        match (told, self.state) {
            ("SESSION_START", State::AwaitingStart) => {
                let start = self.start(node, event);
                out.event(start);
                self.voice.finish_turn(out);
            }
            ("SESSION_START", State::Streaming) => {
                return Err(ProtocolError::out_of_turn(index, "SESSION_START", "twice"));
            }
            ("SESSION_END", State::Stopped) => {}
            ("SESSION_END", _) => {
                self.state = State::Stopped;
                return Ok(Some(Event::Stopped(StopCause::Remote)));
            }
            (_, State::Stopped) => return Ok(Some(Event::Notice(Notice::late(told)))),
            (_, State::AwaitingStart) => return Ok(Some(Event::Notice(Notice::unknown(told)))),
            // The keys will follow.
            ("START_OF_DTMF", State::Streaming) => {}
            ("NO_INPUT", State::Streaming) => self.voice.finish_turn(out),
            _ => {
                self.voice.finish_turn(out);
                return Ok(Some(Event::Notice(Notice::unknown(told))));
            }
        }
        Ok(None)
    }

    fn keys(
        &mut self,
        message: &Reader<'_>,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        match self.state {
            State::Streaming => {}
            State::Stopped => return Ok(Some(Event::Notice(Notice::late("dtmf_input")))),
            State::AwaitingStart => {
                let when = "before SESSION_START";
                return Err(ProtocolError::out_of_turn(message.index, "dtmf_input", when));
            }
        }
        let problem = "has what is no key of a telephone";
        for name in message.node.list("dtmf_events") {
            let digit = key(name).ok_or_else(|| message.error("dtmf_events", problem))?;
            out.event(Event::Dtmf { digit, duration: None });
        }
        self.voice.finish_turn(out);
        Ok(None)
    }

    fn request(
        &mut self,
        index: u64,
        node: &Node<'_>,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let input = |name| node.get("payload.voice_va_input_type").and_then(|i| i.get(name));
        if let Some(event) = input("event_input") {
            self.happened(index, node, event, out)
        } else if let Some(sound) = input("audio_input") {
            self.sound(index, &Sound::read(sound), out).map(Some)
        } else if let Some(node) = input("dtmf_input") {
            self.keys(&Reader { index, kind: "dtmf_input", node }, out)
        } else {
            Ok(Some(Event::Notice(Notice::unknown("request without an input"))))
        }
    }

    fn read(
        &mut self,
        index: u64,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let node = Node::parse(index, EXPECTED, text)?;
        if let Some(time) = node.text("ts") {
            self.voice.learn(time);
        }
        Ok(Some(match node.text("type").unwrap_or("(no type)") {
            "VOICE_VA_REQUEST" => return self.request(index, &node, out),
            "PING" => {
                let seq = node.number("seq").unwrap_or(1);
                let time = &self.voice.time;
                let name = Quoted(node.text("conversation_id").unwrap_or_default());
                let head = format_args!(r#""seq":{seq},"ts":"{time}","conversation_id":{name}"#);
                json::send(out, format_args!(r#"{{"type":"PONG",{head}}}"#));
                return Ok(None);
            }
            "PONG" => return Ok(None),
            "ERROR" => {
                let text = node.first(&["detail", "code"]).unwrap_or("no detail");
                Event::Notice(Notice::ProviderError { text: json::excerpt(text) })
            }
            told if self.state == State::Stopped => Event::Notice(Notice::late(told)),
            told => Event::Notice(Notice::unknown(told)),
        }))
    }
}

impl Wire for Bridge {
    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let Some(sound) = Sound::scan(text) else { return self.read(turn.index, text, out) };
        if let Some(time) = sound.time {
            self.voice.learn(time);
        }
        self.sound(turn.index, &sound, out).map(Some)
    }

    fn command(
        &mut self,
        now: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let two_way = !self.options.one_way;
        match (command, self.state) {
            (_, State::Stopped) => {}
            (Command::Hangup, State::AwaitingStart) => {
                self.state = State::Stopped;
                out.close(1000);
            }
            (_, State::AwaitingStart) => {}
            (Command::Media { track: Track::Outbound, payload }, _) if two_way => {
                self.voice.say(now, payload, out);
            }
            (Command::Clear, _) if two_way => self.voice.respond("START_OF_INPUT", "PARTIAL", out),
            (Command::Hangup, _) => {
                self.state = State::Stopped;
                self.voice.utterance.end();
                self.voice.respond("SESSION_END", "FINAL", out);
            }
            _ => {}
        }
        Ok(())
    }

    fn timeout(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        if self.voice.utterance.expire(now) && self.state == State::Streaming {
            self.voice.respond("", "FINAL", out);
        }
        Ok(())
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.voice.utterance.over_at()
    }
}

/// Webex' end.
struct Phone {
    call: Dial,
    format: MediaFormat,
    /// The conversation's name as JSON.
    conversation: String,
    /// The payload up to what the input is, and without its end.
    payload: String,
    /// What tells of the sound, behind it.
    sound: String,
    requests: u64,
    closed: bool,
}

impl Phone {
    fn new(call: &Dial) -> Self {
        let format = call.format.unwrap_or(INFO.formats[0]);
        let [org, agent] = own_parameters(call).map(|(_, value)| value);
        let conversation = Quoted(&call.call).to_string();
        let payload = format!(
            r#""payload":{{"conversation_id":{conversation},"customer_org_id":{},"virtual_agent_id":{},"allow_partial_responses":true,"vendor_specific_config":"","voice_va_input_type":{{"#,
            Quoted(&org),
            Quoted(&agent),
        );
        let encoding = ENCODINGS.iter().find(|(_, encoding)| *encoding == format.encoding);
        let (encoding, hz) = (encoding.map_or("MULAW", |(name, _)| name), format.rate.hz());
        let sound = format!(
            r#"","encoding":"{encoding}_FORMAT","sample_rate_hertz":{hz},"language_code":"en-US","is_single_utterance":false}}}}}}}}"#
        );
        let call = call.clone();
        Self { call, format, conversation, payload, sound, requests: 0, closed: false }
    }

    /// A request with that input.
    fn request(&mut self, now: Instant, input: std::fmt::Arguments<'_>, out: &mut Outbox) {
        self.requests += 1;
        let Self { requests, conversation, payload, .. } = self;
        let now = Stamp(now);
        let head =
            format_args!(r#""seq":{requests},"ts":"{now}","conversation_id":{conversation}"#);
        json::send(
            out,
            format_args!(r#"{{"type":"VOICE_VA_REQUEST",{head},{payload}{input}}}}}}}"#),
        );
    }

    fn event(
        &mut self,
        now: Instant,
        kind: &str,
        parameters: &[(String, String)],
        out: &mut Outbox,
    ) {
        let parameters = Members(parameters);
        let event =
            format_args!(r#"{{"event_type":"{kind}","name":"","parameters":{parameters}}}"#);
        self.request(now, format_args!(r#""event_input":{event}"#), out);
    }

    fn response(&self, message: &Reader<'_>, out: &mut Outbox) -> Result<(), ProtocolError> {
        let (index, node) = (message.index, message.node);
        if message.text("conversation_id")? != self.call.call {
            return Err(message.error("conversation_id", "does not name this conversation"));
        }
        if !["FINAL", "PARTIAL", "CHUNK"].contains(&message.text("payload.response_type")?) {
            return Err(message.error("payload.response_type", "is none that is known"));
        }
        for prompt in node.items("payload.prompts") {
            let (kind, field) = ("prompt", "audio_content_b64");
            let Some(text) = prompt.text(field).filter(|text| !text.is_empty()) else {
                out.event(Event::Notice(Notice::unknown("prompt without sound")));
                continue;
            };
            let sound = media_message::sound(index, (kind, field), text, Track::Outbound, out)?;
            out.event(sound);
        }
        for event in node.items("payload.output_events") {
            out.event(match event.text("event_type").unwrap_or("event without a type") {
                "START_OF_INPUT" => Event::ClearRequested,
                "SESSION_END" => Event::HangupRequested,
                told => Event::Notice(Notice::unknown(told)),
            });
        }
        Ok(())
    }
}

/// What identifies the agent: custom parameters of these names, or something.
fn own_parameters(call: &Dial) -> [(String, String); 2] {
    [("customer_org_id", "org-1"), ("virtual_agent_id", "va-1")].map(|(name, usual)| {
        let given = json::parameter(&call.parameters, &[name]);
        (name.to_owned(), given.unwrap_or_else(|| usual.to_owned()))
    })
}

impl Wire for Phone {
    fn open(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        let own = own_parameters(&self.call);
        let mut parameters = self.call.with_parties(&own.each_ref().map(|(name, _)| name.as_str()));
        self.event(now, "SESSION_START", &parameters, out);
        parameters.extend(own);
        let can = if self.call.two_way { TWO_WAY } else { ONE_WAY };
        let mut start = self.call.started(None, parameters, self.format, can);
        start.tracks = vec![Track::Inbound];
        out.event(Event::Started(Box::new(start)));
        Ok(())
    }

    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let node = Node::parse(turn.index, EXPECTED, text)?;
        match node.text("type").unwrap_or("(no type)") {
            "VOICE_VA_RESPONSE" => {
                let kind = "VOICE_VA_RESPONSE";
                self.response(&Reader { index: turn.index, kind, node: &node }, out)?;
            }
            "PONG" => {}
            told => return Ok(Some(Event::Notice(Notice::unknown(told)))),
        }
        Ok(None)
    }

    fn command(
        &mut self,
        now: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        match command {
            _ if self.closed => {}
            Command::Media { track: Track::Inbound, payload: sound } => {
                self.requests += 1;
                let Self { requests, conversation, payload, .. } = self;
                let now = Stamp(now);
                let before = format_args!(
                    r#"{{"type":"VOICE_VA_REQUEST","seq":{requests},"ts":"{now}","conversation_id":{conversation},{payload}"audio_input":{{"caller_audio_b64":""#
                );
                media_message::send(out, before, sound, &self.sound);
            }
            Command::Dtmf(digit) => {
                let name = key_name(digit);
                let keys = format_args!(r#"{{"dtmf_events":["DTMF_DIGIT_{name}"]}}"#);
                self.request(now, format_args!(r#""dtmf_input":{keys}"#), out);
            }
            Command::Hangup => {
                self.closed = true;
                self.event(now, "SESSION_END", &[], out);
                out.close(1000);
            }
            _ => {}
        }
        Ok(())
    }
}
