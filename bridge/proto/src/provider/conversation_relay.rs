//! Twilio ConversationRelay: JSON about words, on a wire that carries no sound. Both ends of it; signatures are checked in `auth`.
//!
//! Twilio recognises what the caller says and speaks what it is told to. Partial results come only if the TwiML asks for them, keys
//! too. A barge-in is Twilio's: when it is reported, what was to be spoken has been dropped. There is no way to drop it from here, and
//! nobody tells when something has been spoken to its end, so there are neither clears nor marks. A message Twilio cannot read is
//! answered by an error (64107) and changes nothing. What it tells of itself where the TwiML asks for it (`info`) is in none of its pages
//! but in programs of its people: of that only the words it has spoken are of use (`tokensPlayed`, `events="tokens-played"`).

use std::fmt;
use std::time::Duration;

use super::behaviour::{self, Act, Aside, Behaviour};
use super::end::{End, Turn, Wire};
use super::json::{self, Members, Node, Quoted, Reader};
use super::{
    Accepted, Capabilities, Command, Dial, Event, HangupLaw, Info, Notice, Options, Outbox,
    OutgoingUpgrade, Protocol, ProtocolError, Provider, Rejection, Start, Status, Upgrade,
};
use crate::Instant;

const EXPECTED: &str = "ConversationRelay JSON";
/// What Twilio speaks and recognises if the TwiML says nothing else.
const LANGUAGE: &str = "en-US";
const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";

static INFO: Info = Info {
    name: "conversation-relay",
    title: "Twilio ConversationRelay",
    reference: "https://www.twilio.com/docs/voice/conversationrelay/websocket-messages",
    status: Status::Documentation,
    capabilities: Capabilities {
        dtmf_in: true,
        dtmf_out: true,
        files: true,
        hangup: HangupLaw::Message,
        handoff: true,
        ..Capabilities::TEXT_ONLY
    },
    formats: &[],
};

/// What Twilio does beside.
static BEHAVIOURS: &[Behaviour] = &[
    Behaviour::unknown(Aside::Text(r#"{"type":"never-heard-of","value":{"a":[1,null]}}"#)),
    Behaviour {
        name: "errors",
        summary: "behind every prompt Twilio says that something was wrong",
        source: "a message that fails its validation: error 64107, the session goes on",
        act: Act::Aside(Aside::Text(
            r#"{"type":"error","description":"Invalid message received: { \"foo\" : \"bar\" }"}"#,
        )),
    },
    Behaviour {
        name: "speaker-events",
        summary: "behind every prompt Twilio tells who speaks",
        source: "Twilio does so where the TwiML says events=\"speaker-events\"",
        act: Act::Aside(Aside::Text(
            r#"{"type":"info","name":"clientSpeaking","value":"off","ts":1763733600000}"#,
        )),
    },
    Behaviour {
        name: "tokens-played",
        summary: "Twilio tells which words it has spoken",
        source: "Twilio does so where the TwiML says events=\"tokens-played\"",
        act: Act::TellSpoken,
    },
    Behaviour {
        name: "interrupts-of-nothing",
        summary: "behind every prompt the caller is said to have cut in, though nothing was being spoken",
        source: "an interruption that is told twice, or when the last word was just over; decimals were seen",
        act: Act::Aside(Aside::Text(
            r#"{"type":"interrupt","utteranceUntilInterrupt":"","durationUntilInterruptMs":0.0}"#,
        )),
    },
];

/// The provider.
pub(super) struct ConversationRelay;

impl Provider for ConversationRelay {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn behaviours(&self) -> Vec<&'static Behaviour> {
        BEHAVIOURS.iter().chain(behaviour::WORDS).collect()
    }

    fn accept(&self, upgrade: &Upgrade<'_>, options: &Options) -> Result<Accepted, Rejection> {
        let state = State::AwaitingSetup { parameters: upgrade.parameters(options) };
        Ok(Accepted { protocol: End::boxed(Bridge { state }), subprotocol: None })
    }

    fn dial(&self, call: &Dial) -> (OutgoingUpgrade, Box<dyn Protocol>) {
        let upgrade = OutgoingUpgrade { target: call.target.clone(), ..OutgoingUpgrade::default() };
        (upgrade, End::boxed(Phone { call: call.clone(), closed: false }))
    }
}

/// The bridge's end.
struct Bridge {
    state: State,
}

enum State {
    /// With what the URL's query says.
    AwaitingSetup { parameters: Vec<(String, String)> },
    /// In the session of that name.
    Talking { session: Option<String> },
    /// We ended it.
    Ended,
}

impl Bridge {
    fn setup(&mut self, node: &Node<'_>) -> Option<Event> {
        let State::AwaitingSetup { parameters } = &mut self.state else { return None };
        let mut parameters = std::mem::take(parameters);
        parameters
            .extend(node.get("customParameters").map(|own| own.pairs(&[])).unwrap_or_default());
        let text = |path| node.text(path).filter(|text| !text.is_empty()).map(str::to_owned);
        let session = text("sessionId");
        self.state = State::Talking { session: session.clone() };
        Some(Event::Started(Box::new(Start {
            stream: session,
            call: text("callSid"),
            from: text("from"),
            to: text("to"),
            parameters,
            tracks: Vec::new(),
            inbound: None,
            outbound: None,
            capabilities: INFO.capabilities,
        })))
    }

    fn read(&mut self, index: u64, text: &str) -> Result<Option<Event>, ProtocolError> {
        let node = Node::parse(index, EXPECTED, text)?;
        let told = node.text("type").unwrap_or("(no type)");
        let kind = KINDS.iter().find(|kind| **kind == told).copied();
        match (&self.state, kind) {
            (State::Ended, _) => return Ok(Some(Event::Notice(Notice::late(told)))),
            (_, None) => return Ok(Some(Event::Notice(Notice::unknown(told)))),
            // Of the same session it says nothing new.
            (State::Talking { session }, Some("setup")) => {
                let again = node.text("sessionId").filter(|name| !name.is_empty());
                if again != session.as_deref() {
                    return Err(ProtocolError::out_of_turn(index, "setup", "twice"));
                }
                return Ok(Some(Event::Notice(Notice::repeated("setup"))));
            }
            (State::AwaitingSetup { .. }, Some(kind @ ("prompt" | "interrupt" | "dtmf"))) => {
                return Ok(Some(Event::Notice(Notice::early(kind))));
            }
            _ => {}
        }
        let reader = |kind| Reader { index, kind, node: &node };
        let owned = |path| node.text(path).map(str::to_owned);
        Ok(match told {
            "setup" => self.setup(&node),
            "prompt" => Some(Event::Heard {
                text: reader("prompt").text("voicePrompt")?.to_owned(),
                language: owned("lang"),
                last: node.text("last") != Some("false"),
            }),
            "interrupt" => Some(Event::Interrupted {
                heard: owned("utteranceUntilInterrupt"),
                // Documented as text and as a number, seen with decimals.
                after: node.number("durationUntilInterruptMs").map(Duration::from_millis),
            }),
            "dtmf" => Some(Event::Dtmf { digit: reader("dtmf").digit("digit")?, duration: None }),
            "error" => {
                let text = node.text("description").unwrap_or("(no description)");
                Some(Event::Notice(Notice::ProviderError { text: json::excerpt(text) }))
            }
            "info" if node.text("name") == Some("tokensPlayed") => {
                owned("value").filter(|words| !words.is_empty()).map(Event::Spoken)
            }
            _ => None,
        })
    }
}

/// What Twilio says.
const KINDS: &[&str] = &["setup", "prompt", "interrupt", "dtmf", "error", "info", "debug"];

impl Wire for Bridge {
    fn text(
        &mut self,
        turn: Turn,
        text: &str,
        _: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        self.read(turn.index, text)
    }

    fn command(
        &mut self,
        _: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        if !matches!(self.state, State::Talking { .. }) {
            return Ok(());
        }
        match command {
            Command::Say { text, language, last } => {
                let (token, language) = (Quoted(text), Member("lang", language));
                let head = format_args!(r#""type":"text","token":{token},"last":{last}"#);
                json::send(out, format_args!("{{{head}{language}}}"));
            }
            Command::PlayFile { url, times, preemptible, interruptible } => {
                let head = format_args!(r#""type":"play","source":{},"loop":{times}"#, Quoted(url));
                let rest = interruptible.map_or("", |may| {
                    if may { r#","interruptible":true"# } else { r#","interruptible":false"# }
                });
                json::send(out, format_args!(r#"{{{head},"preemptible":{preemptible}{rest}}}"#));
            }
            Command::Language { speech, recognition } => {
                let speech = Member("ttsLanguage", speech);
                let recognition = Member("transcriptionLanguage", recognition);
                json::send(out, format_args!(r#"{{"type":"language"{speech}{recognition}}}"#));
            }
            Command::Dtmf(digit) => {
                let key = digit.as_char();
                json::send(out, format_args!(r#"{{"type":"sendDigits","digits":"{key}"}}"#));
            }
            Command::Hangup => self.end(None, out),
            Command::Handoff(data) => self.end(Some(data), out),
            _ => {}
        }
        Ok(())
    }
}

impl Bridge {
    fn end(&mut self, handoff: Option<&str>, out: &mut Outbox) {
        self.state = State::Ended;
        let handoff = Member("handoffData", handoff);
        json::send(out, format_args!(r#"{{"type":"end"{handoff}}}"#));
    }
}

/// A member of an object behind others, if it has a value.
struct Member<'a>(&'static str, Option<&'a str>);

impl fmt::Display for Member<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name, value) = self;
        value.map_or(Ok(()), |value| write!(f, r#","{name}":{}"#, Quoted(value)))
    }
}

/// Twilio's end.
struct Phone {
    call: Dial,
    closed: bool,
}

impl Phone {
    /// What a message asks for; `None` where it is none that Twilio can read.
    fn read(text: &str, out: &mut Outbox) -> Option<Option<Event>> {
        let node: Node<'_> = serde_json::from_str(text).ok()?;
        let owned = |path| node.text(path).map(str::to_owned);
        Some(match node.text("type")? {
            "text" => Some(Event::SayRequested {
                text: owned("token")?,
                language: owned("lang"),
                last: node.text("last") == Some("true"),
            }),
            "language" => Some(Event::LanguageRequested {
                speech: owned("ttsLanguage"),
                recognition: owned("transcriptionLanguage"),
            }),
            "sendDigits" => {
                let reader = Reader { index: 0, kind: "sendDigits", node: &node };
                // `w` waits half a second; here all keys come at once.
                let keys = reader.text("digits").ok()?.chars().filter(|key| *key != 'w');
                for digit in keys.map(super::Digit::new).collect::<Option<Vec<_>>>()? {
                    out.event(Event::Dtmf { digit, duration: None });
                }
                None
            }
            "play" => {
                let times = node.number("loop").and_then(|times| u32::try_from(times).ok());
                Some(Event::FileRequested { url: owned("source")?, times: times.unwrap_or(1) })
            }
            "end" => {
                if let Some(data) = owned("handoffData") {
                    out.event(Event::HandoffRequested(data));
                }
                Some(Event::HangupRequested)
            }
            _ => return None,
        })
    }
}

impl Wire for Phone {
    fn open(&mut self, _: Instant, out: &mut Outbox) -> Result<(), ProtocolError> {
        let call = &self.call;
        let session = format!("VX{}", call.call);
        let ids = format_args!(
            r#""sessionId":{},"accountSid":"{ACCOUNT}","parentCallSid":"","callSid":{}"#,
            Quoted(&session),
            Quoted(&call.call),
        );
        let parties = format_args!(
            r#""from":{},"to":{},"forwardedFrom":"","callType":"PSTN","callerName":"""#,
            Quoted(&call.from),
            Quoted(&call.to),
        );
        let rest = format_args!(
            r#""direction":"inbound","callStatus":"RINGING","customParameters":{}"#,
            Members(&call.parameters)
        );
        json::send(out, format_args!(r#"{{"type":"setup",{ids},{parties},{rest}}}"#));
        let start = call.started(Some(session), call.parameters.clone(), None, INFO.capabilities);
        out.event(Event::Started(Box::new(start)));
        Ok(())
    }

    fn text(
        &mut self,
        _: Turn,
        text: &str,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        if self.closed {
            return Ok(None);
        }
        if let Some(asked) = Self::read(text, out) {
            return Ok(asked);
        }
        let description = format!("Invalid message received: {text}");
        let error = Quoted(&description);
        json::send(out, format_args!(r#"{{"type":"error","description":{error}}}"#));
        Ok(Some(Event::Notice(Notice::ProviderError { text: json::excerpt(&description) })))
    }

    fn command(
        &mut self,
        _: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        match command {
            _ if self.closed => {}
            Command::Heard { text, language, last } => {
                let (prompt, lang) = (Quoted(text), Quoted(language.unwrap_or(LANGUAGE)));
                let rest = format_args!(r#""lang":{lang},"last":{last}"#);
                json::send(
                    out,
                    format_args!(r#"{{"type":"prompt","voicePrompt":{prompt},{rest}}}"#),
                );
            }
            Command::Interrupted { heard, after } => {
                let (heard, ms) = (Quoted(heard), after.as_millis());
                let heard = format_args!(r#""utteranceUntilInterrupt":{heard}"#);
                let after = format_args!(r#""durationUntilInterruptMs":{ms}"#);
                json::send(out, format_args!(r#"{{"type":"interrupt",{heard},{after}}}"#));
            }
            Command::Spoken(words) => {
                let value = Quoted(words);
                let head = r#""type":"info","name":"tokensPlayed""#;
                json::send(out, format_args!(r#"{{{head},"value":{value}}}"#));
            }
            Command::Dtmf(digit) => {
                let key = digit.as_char();
                json::send(out, format_args!(r#"{{"type":"dtmf","digit":"{key}"}}"#));
            }
            Command::Hangup => {
                self.closed = true;
                out.close(1000);
            }
            _ => {}
        }
        Ok(())
    }
}
