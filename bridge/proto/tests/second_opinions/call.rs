//! Calls in virtual time: a provider's end with a package in the bridge's place and our bridge's end beside it, and our bridge's end
//! with a package in the provider's place. The packages' answers are compared with what was meant.

use std::time::Duration;

use ringback_codecs::MediaFormat;
use ringback_proto::Instant;
use ringback_proto::provider::{
    ClearLaw, Command, Dial, Digit, Event, FrameLaw, HangupLaw, Message, Options, Outbox, Protocol,
    Provider, Send, Start, Track,
};
use serde_json::{Value, json};

use super::Package;
use super::python::{Opinions, base64, octets};
use super::wording::{Wording, differences};

const FRAME: Duration = Duration::from_millis(20);
const FRAMES: usize = 10;
const KEYS: &str = "0123456789*#";

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Text(String),
    Binary(Vec<u8>),
}

impl Said {
    /// What is sent but closes: the packages leave those to their sockets.
    fn all(out: &Outbox) -> Vec<Self> {
        let said = out.sends().iter().filter_map(|send| match send {
            Send::Text(span) => Some(Self::Text(out.text_of(span).to_owned())),
            Send::Binary(span) => Some(Self::Binary(out.octets(span).to_vec())),
            Send::Close(_) | Send::Dial(..) | Send::TextOn(..) | Send::Drop(_) => None,
        });
        said.collect()
    }

    fn of(told: &Value) -> Self {
        match told["text"].as_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Binary(octets(&told["binary"])),
        }
    }

    fn told(&self) -> Value {
        match self {
            Self::Text(text) => json!({ "text": text }),
            Self::Binary(octets) => json!({ "binary": base64(octets) }),
        }
    }

    fn message(&self) -> Message<'_> {
        match self {
            Self::Text(text) => Message::Text(text),
            Self::Binary(octets) => Message::Binary(octets),
        }
    }
}

/// Encoded sound that every coder gives back as it was: of the two zeros of mu-law only the usual one.
fn payload(format: MediaFormat, time: Duration, seed: usize) -> Vec<u8> {
    let len = format.octets_for(format.rate.samples_in(time) as usize).unwrap();
    let octet = |n: usize| ((n * 151 + seed * 97) >> 1) as u8;
    (0..len).map(octet).map(|octet| if octet == 0x7f { 0xff } else { octet }).collect()
}

/// As 16-bit samples, little-endian.
fn decoded(format: MediaFormat, payload: &[u8]) -> Vec<u8> {
    let mut samples = Vec::new();
    format.decoder().unwrap().decode(payload, &mut samples).unwrap();
    samples.into_iter().flat_map(i16::to_le_bytes).collect()
}

fn dial(format: MediaFormat, target: &str) -> Dial {
    Dial {
        target: target.into(),
        call: "CA-17".into(),
        parameters: vec![("tenant".into(), "blue".into())],
        format: Some(format),
        ..Dial::default()
    }
}

fn accept(provider: &dyn Provider, dial: &Dial) -> Box<dyn Protocol> {
    let (request, _) = provider.dial(dial);
    let accepted = request.arrives(|upgrade| provider.accept(upgrade, &Options::default()));
    accepted.unwrap().protocol
}

/// What an end was told, with the octets of sound.
fn events(out: &Outbox) -> Vec<(Event, Vec<u8>)> {
    let with_octets = |event: &Event| match event {
        Event::Media(media) => (event.clone(), out.octets(&media.payload).to_vec()),
        _ => (event.clone(), Vec::new()),
    };
    out.events().iter().map(with_octets).collect()
}

/// Our caller, and both who answer it: the package, whose answers count, and our bridge, whose answers are compared with them.
pub(crate) struct Call<'a> {
    now: Instant,
    opinions: &'a mut Opinions,
    wording: &'a mut Wording,
    package: &'a Package,
    format: MediaFormat,
    phone: Box<dyn Protocol>,
    bridge: Box<dyn Protocol>,
    start: Option<Start>,
    /// What the package understood, and what the phone did.
    heard: Vec<Value>,
    told: Vec<(Event, Vec<u8>)>,
    understood: usize,
    said: usize,
}

impl<'a> Call<'a> {
    pub(crate) fn connect(
        opinions: &'a mut Opinions,
        wording: &'a mut Wording,
        package: &'a Package,
        format: &(String, MediaFormat),
        target: &str,
    ) -> Self {
        opinions.ask(&package.asked("open", format));
        let dial = dial(format.1, target);
        let (_, phone) = package.provider.dial(&dial);
        let bridge = accept(package.provider, &dial);
        let mut call = Self {
            now: Instant::from_millis(1),
            opinions,
            wording,
            package,
            format: format.1,
            phone,
            bridge,
            start: None,
            heard: Vec::new(),
            told: Vec::new(),
            understood: 0,
            said: 0,
        };
        call.phone(|phone, now, out| phone.handle_open(now, out).unwrap());
        let start = call.told.iter().find_map(|(event, _)| match event {
            Event::Started(start) => Some((**start).clone()),
            _ => None,
        });
        assert!(start.is_some(), "{} does not start", call.about());
        call.start = start;
        call
    }

    fn about(&self) -> String {
        let Package { provider, name, .. } = self.package;
        format!("{} {} by {name}", provider.name(), self.format)
    }

    /// Has the phone do something, and delivers what it sends.
    fn phone(&mut self, act: impl FnOnce(&mut dyn Protocol, Instant, &mut Outbox)) {
        let mut out = Outbox::new();
        act(self.phone.as_mut(), self.now, &mut out);
        self.told.extend(events(&out));
        for said in Said::all(&out) {
            self.deliver(&said);
        }
    }

    fn phone_does(&mut self, command: Command<'_>) {
        self.phone(|phone, now, out| phone.handle_command(now, command, out).unwrap());
    }

    /// A message of the phone, to both; what they answer by themselves must be the same.
    fn deliver(&mut self, said: &Said) {
        let mut out = Outbox::new();
        self.bridge.handle_message(self.now, said.message(), &mut out).unwrap();
        let ours = Said::all(&out);
        let heard = self.opinions.ask(&json!({ "do": "hear", "message": said.told() }));
        let mut theirs = Vec::new();
        for event in heard.as_array().unwrap() {
            assert!(event.get("error").is_none(), "{}: {event} of {said:?}", self.about());
            match event.get("reply") {
                Some(reply) => theirs.push(Said::of(reply)),
                None => self.heard.push(event.clone()),
            }
        }
        self.understood += usize::from(!heard.as_array().unwrap().is_empty());
        self.compare("a reply", &ours, &theirs);
        self.answer(&theirs);
    }

    /// What the package sends, to the phone.
    fn answer(&mut self, theirs: &[Said]) {
        for said in theirs {
            let message = said.message();
            self.phone(|phone, now, out| {
                phone
                    .handle_message(now, message, out)
                    .unwrap_or_else(|error| panic!("{said:?}: {error}"));
            });
        }
    }

    /// Whether the phone is to heed what the package says in the place of our bridge.
    fn compare(&mut self, what: &str, ours: &[Said], theirs: &[Said]) -> bool {
        let (provider, package) = (self.package.provider.name(), self.package.name.as_str());
        let mut heeded = true;
        for index in 0..ours.len().max(theirs.len()) {
            let found = differences(ours.get(index), theirs.get(index));
            self.said += usize::from(found.is_empty());
            let heeds = self.wording.heeds(provider, package, &found).unwrap_or_else(|member| {
                panic!("{}: {what}: {member:?}: we say {ours:?}, they {theirs:?}", self.about())
            });
            heeded &= heeds;
        }
        heeded
    }

    fn take_heard(&mut self, kind: &str) -> Vec<Value> {
        let heard = self.heard.extract_if(.., |event| event.get(kind).is_some());
        heard.map(|event| event[kind].clone()).collect()
    }

    fn hears(&self, kind: &str) -> bool {
        self.package.hears.iter().any(|hears| hears == kind)
    }

    /// The phone speaks and presses keys.
    pub(crate) fn listen(&mut self) {
        let start = self.start.clone().unwrap();
        let mut sent = Vec::new();
        for seed in 0..FRAMES {
            let frame = payload(self.format, FRAME, seed);
            self.phone_does(Command::Media { track: Track::Inbound, payload: &frame });
            sent.extend(frame);
            self.now += FRAME;
        }
        for key in KEYS.chars() {
            self.phone_does(Command::Dtmf(Digit::new(key).unwrap()));
            self.now += FRAME;
        }
        let started = self.take_heard("started");
        assert!(started.len() == 1 || !self.hears("started"), "{}: {started:?}", self.about());
        for told in started {
            self.is_the_stream(&start, &told);
        }
        let whole = |heard: Vec<Value>| heard.iter().flat_map(octets).collect::<Vec<_>>();
        let (sound, payloads) =
            (whole(self.take_heard("sound")), whole(self.take_heard("payload")));
        assert!(
            sound == decoded(self.format, &sent) || payloads == sent,
            "{}: sound",
            self.about()
        );
        let keys = self.take_heard("key");
        let pressed = if start.capabilities.dtmf_in && self.hears("key") { KEYS } else { "" };
        assert_eq!(
            keys.iter().filter_map(Value::as_str).collect::<String>(),
            pressed,
            "{}",
            self.about()
        );
        assert_eq!(self.heard, [] as [Value; 0], "{}", self.about());
    }

    fn is_the_stream(&self, start: &Start, told: &Value) {
        for (name, value) in told.as_object().unwrap() {
            let ours = match name.as_str() {
                "stream" => start.stream.as_deref().map(Value::from),
                "call" => start.call.as_deref().map(Value::from),
                "from" => start.from.as_deref().map(Value::from),
                "to" => start.to.as_deref().map(Value::from),
                _ => {
                    let pairs = start.parameters.iter();
                    Some(
                        pairs
                            .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
                            .collect(),
                    )
                }
            };
            assert_eq!(ours.as_ref(), Some(value), "{}: {name}", self.about());
        }
    }

    /// The package and our bridge carry out the same orders.
    pub(crate) fn speak(&mut self) {
        let can = self.start.as_ref().unwrap().capabilities;
        let time = match can.frame {
            FrameLaw::AtLeast { least, .. } => least.max(FRAME),
            _ => FRAME,
        };
        for order in self.package.says.clone() {
            self.told.clear();
            match order.as_str() {
                "sound" => self.say_sound(time),
                "clear" => {
                    assert_ne!(can.clear, ClearLaw::Unsupported, "{}", self.about());
                    self.order(&order, Command::Clear, &json!({ "clear": true }));
                    assert_eq!(
                        self.told,
                        [(Event::ClearRequested, Vec::new())],
                        "{}",
                        self.about()
                    );
                    self.phone_does(Command::Cleared);
                    let cleared = self.take_heard("cleared").len();
                    assert_eq!(cleared, usize::from(self.hears("cleared")), "{}", self.about());
                }
                "mark" => self.say_mark("greeting"),
                "hangup" => {
                    assert_eq!(can.hangup, HangupLaw::Message, "{}", self.about());
                    self.order(&order, Command::Hangup, &json!({ "hangup": true }));
                    let over = |(event, _): &(Event, _)| {
                        matches!(event, Event::HangupRequested | Event::Stopped(_))
                    };
                    assert!(self.told.iter().any(over), "{}: {:?}", self.about(), self.told);
                }
                other => panic!("no such order: {other}"),
            }
        }
    }

    fn say_sound(&mut self, time: Duration) {
        let mut sent = Vec::new();
        for seed in FRAMES..FRAMES * 2 {
            let sound = payload(self.format, time, seed);
            let order = json!({ "sound": base64(&decoded(self.format, &sound)), "payload": base64(&sound) });
            self.order("sound", Command::Media { track: Track::Outbound, payload: &sound }, &order);
            sent.extend(sound);
        }
        let media = self.told.iter().filter(|(event, _)| matches!(event, Event::Media(_)));
        let heard: Vec<u8> = media.flat_map(|(_, octets)| octets.clone()).collect();
        assert!(heard == sent, "{}: the phone heard something else", self.about());
    }

    fn say_mark(&mut self, name: &str) {
        let heeded = self.order("mark", Command::Mark(name), &json!({ "mark": name }));
        let marks = heeded.then(|| (Event::MarkRequested(name.into()), Vec::new()));
        assert_eq!(self.told, Vec::from_iter(marks), "{}", self.about());
        self.phone_does(Command::Played(name));
        let played = self.take_heard("played");
        let expected = self.hears("played").then(|| Value::from(name));
        assert_eq!(played, Vec::from_iter(expected), "{}", self.about());
    }

    fn order(&mut self, what: &str, command: Command<'_>, order: &Value) -> bool {
        let mut out = Outbox::new();
        self.bridge.handle_command(self.now, command, &mut out).unwrap();
        let ours = Said::all(&out);
        let theirs = self.opinions.ask(&json!({ "do": "say", "order": order }));
        let theirs: Vec<_> = theirs.as_array().unwrap().iter().map(Said::of).collect();
        let heeded = self.compare(what, &ours, &theirs);
        if heeded {
            self.answer(&theirs);
        }
        heeded
    }

    /// The phone hangs up; how many of its messages meant something to the package, and how many of the package's were ours too.
    pub(crate) fn end(mut self) -> (usize, usize) {
        self.phone_does(Command::Hangup);
        assert_eq!(self.heard, [] as [Value; 0], "{}", self.about());
        (self.understood, self.said)
    }
}

/// A package in the provider's place, and our bridge.
pub(crate) struct Client<'a> {
    now: Instant,
    opinions: &'a mut Opinions,
    package: &'a Package,
    format: MediaFormat,
    bridge: Box<dyn Protocol>,
    messages: usize,
}

impl<'a> Client<'a> {
    pub(crate) fn new(
        opinions: &'a mut Opinions,
        package: &'a Package,
        format: &(String, MediaFormat),
    ) -> Self {
        opinions.ask(&package.asked("open", format));
        let bridge = accept(package.provider, &dial(format.1, "/"));
        let now = Instant::from_millis(1);
        Self { now, opinions, package, format: format.1, bridge, messages: 0 }
    }

    /// The provider's whole vocabulary, once; the number of messages.
    pub(crate) fn act(mut self) -> usize {
        let about =
            format!("{} {} by {}", self.package.provider.name(), self.format, self.package.name);
        let started = self.write(&json!({ "started": { "stream": "stream-1", "call": "call-1" } }));
        let [(Event::Started(start), _)] = started.as_slice() else {
            panic!("{about}: {started:?}")
        };
        let ids = (start.stream.as_deref(), start.call.as_deref(), start.inbound);
        assert_eq!(ids, (Some("stream-1"), Some("call-1"), Some(self.format)), "{about}");
        let sound = payload(self.format, FRAME, 1);
        let heard = self.write(&json!({ "payload": base64(&sound) }));
        assert!(
            matches!(heard.as_slice(), [(Event::Media(_), heard)] if *heard == sound),
            "{about}: {heard:?}"
        );
        for key in KEYS.chars() {
            let pressed = self.write(&json!({ "key": key }));
            let [(Event::Dtmf { digit, .. }, _)] = pressed.as_slice() else {
                panic!("{about}: {pressed:?}")
            };
            assert_eq!(digit.as_char(), key, "{about}");
        }
        let mut out = Outbox::new();
        self.bridge.handle_command(self.now, Command::Mark("greeting"), &mut out).unwrap();
        let played = self.write(&json!({ "played": "greeting" }));
        assert_eq!(played, [(Event::Played("greeting".into()), Vec::new())], "{about}");
        self.bridge.handle_command(self.now, Command::Clear, &mut out).unwrap();
        let cleared = self.write(&json!({ "cleared": true }));
        assert_eq!(cleared, [(Event::Cleared, Vec::new())], "{about}");
        self.messages
    }

    fn write(&mut self, event: &Value) -> Vec<(Event, Vec<u8>)> {
        let said = Said::of(&self.opinions.ask(&json!({ "do": "write", "event": event })));
        let mut out = Outbox::new();
        self.bridge.handle_message(self.now, said.message(), &mut out).unwrap();
        self.now += FRAME;
        self.messages += 1;
        events(&out)
    }
}
