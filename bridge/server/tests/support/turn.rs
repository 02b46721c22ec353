//! A call without a socket: frames of a provider go into a session, through an echo at 16 kHz, and out again. Measures nothing.

use std::time::Duration;

use ringback_echo::Echo;
use ringback_module::message::Kind;
use ringback_module::{Input, Module as _, Output, Outputs};
use ringback_proto::Instant;
use ringback_proto::provider::{
    self, Command, Dial, Line, LineEvent, Message, Options, Outbox, PlayoutPolicy, Protocol,
    Provider, Send, Track,
};
use ringback_proto::session::{
    Action, Epoch, FrameBuf, Given, PortConfig, PortId, Route, Session, SessionConfig,
};

const FRAME: Duration = Duration::from_millis(20);
const ECHO: PortId = PortId(0);

/// A message of the wire, kept.
#[derive(Debug)]
pub(crate) enum Kept {
    Text(String),
    Binary(Vec<u8>),
    /// Over a line that the bridge dialled.
    On(Line, String),
    /// A line that the bridge dials, or that is open.
    Dialled(Line),
}

impl Kept {
    /// Tells it to an end, which must understand it.
    pub(crate) fn tell(&self, end: &mut dyn Protocol, out: &mut Outbox) {
        let now = Instant::ZERO;
        let heard = match self {
            Self::Text(text) => end.handle_message(now, Message::Text(text), out),
            Self::Binary(octets) => end.handle_message(now, Message::Binary(octets), out),
            Self::On(line, _) | Self::Dialled(line) => {
                end.handle_line(now, *line, self.line_event(), out)
            }
        };
        heard.expect("parses");
    }

    fn hear(&self, session: &mut Session, now: Instant) {
        match self {
            Self::Text(text) => session.handle_message(now, Message::Text(text)),
            Self::Binary(octets) => session.handle_message(now, Message::Binary(octets)),
            Self::On(line, _) | Self::Dialled(line) => {
                session.handle_line(now, *line, self.line_event());
            }
        }
    }

    fn line_event(&self) -> LineEvent<'_> {
        match self {
            Self::On(_, text) => LineEvent::Message(Message::Text(text)),
            _ => LineEvent::Opened,
        }
    }
}

/// The messages of an outbox.
pub(crate) fn kept(out: &Outbox) -> impl Iterator<Item = Kept> {
    out.sends().iter().filter_map(|send| match send {
        Send::Text(span) => Some(Kept::Text(out.text_of(span).to_owned())),
        Send::Binary(span) => Some(Kept::Binary(out.octets(span).to_vec())),
        Send::Close(_) | Send::Drop(_) => None,
        Send::Dial(line, _) => Some(Kept::Dialled(*line)),
        Send::TextOn(line, span) => Some(Kept::On(*line, out.text_of(span).to_owned())),
    })
}

/// Both ends of a stream, the bridge's first, and what the provider's end says at once. Neither was told that it is open.
pub(crate) fn ends(provider: &dyn Provider) -> (Box<dyn Protocol>, Box<dyn Protocol>) {
    let (request, phone) = provider.dial(&Dial::default());
    let accepted = request.arrives(|upgrade| provider.accept(upgrade, &Options::default()));
    (accepted.expect("accepts what it dials itself").protocol, phone)
}

/// What the provider's end sends to begin with: all that it says until a bridge has nothing to answer any more.
pub(crate) fn opening(provider: &dyn Provider, phone: &mut dyn Protocol) -> Vec<Kept> {
    let (mut bridge, _) = ends(provider);
    let mut out = Outbox::new();
    bridge.handle_open(Instant::ZERO, &mut out).expect("opens");
    out.reset();
    phone.handle_open(Instant::ZERO, &mut out).expect("opens");
    let mut opening: Vec<Kept> = kept(&out).collect();
    let mut heard = 0;
    while heard < opening.len() {
        let mut answer = Outbox::new();
        for message in &opening[heard..] {
            message.tell(&mut *bridge, &mut answer);
        }
        heard = opening.len();
        out.reset();
        for message in kept(&answer) {
            message.tell(phone, &mut out);
            if let Kept::Dialled(line) = message {
                opening.push(Kept::Dialled(line));
            }
        }
        opening.extend(kept(&out));
    }
    opening
}

/// 20 ms of the provider's usual format, `n`-th of a sound that goes on.
pub(crate) fn payload(provider: &dyn Provider, n: usize) -> Vec<u8> {
    let format = provider.formats()[0];
    let samples = format.rate.hz() as usize / 50;
    let pcm: Vec<i16> = (n * samples..(n + 1) * samples).map(|at| (at * 37) as i16 / 4).collect();
    let mut payload = Vec::new();
    let mut encoder = format.encoder().expect("a format of the provider has a codec");
    encoder.encode(&pcm, &mut payload).expect("whole frames");
    payload
}

/// `count` frames as the provider's end sends them.
pub(crate) fn frames(provider: &dyn Provider, phone: &mut dyn Protocol, count: usize) -> Vec<Kept> {
    let mut out = Outbox::new();
    for n in 0..count {
        let payload = payload(provider, n);
        let media = Command::Media { track: Track::Inbound, payload: &payload };
        phone.handle_command(Instant::ZERO, media, &mut out).expect("says it");
    }
    kept(&out).collect()
}

/// A call that has started, its echo agreed.
pub(crate) struct Turn {
    session: Session,
    echo: Echo,
    outputs: Outputs,
    frame: FrameBuf,
    /// Frames to come, in turn and again from the first.
    frames: Vec<Kept>,
    next: usize,
    now: Instant,
}

impl Turn {
    /// A call of `provider` with `count` different frames.
    pub(crate) fn new(provider: &str, count: usize) -> Self {
        let provider = provider::find(provider).expect("a provider of the table");
        let (bridge, mut phone) = ends(provider);
        let mut config = SessionConfig::new("call", provider.name());
        // Where nothing can be played there is nobody to echo to.
        if provider.capabilities().playout != PlayoutPolicy::None {
            let echo = PortConfig {
                kind: Kind::Agent,
                speaks: true,
                in_step: true,
                config: serde_json::json!({ "rate": 16_000 }),
                ..PortConfig::listening("echo")
            };
            config.routes = Route::to(vec![echo]).into();
        }
        let opening = opening(provider, phone.as_mut());
        let mut turn = Self {
            session: Session::new(Instant::ZERO, config, bridge),
            echo: Echo::new(),
            outputs: Outputs::new(),
            frame: FrameBuf::default(),
            frames: frames(provider, phone.as_mut(), count),
            next: 0,
            now: Instant::ZERO + FRAME,
        };
        for message in opening {
            message.hear(&mut turn.session, Instant::ZERO);
            turn.pump();
            turn.session.sent(true);
        }
        turn
    }

    /// Hears the next frame, 20 ms later; gives the octets sent in answer.
    pub(crate) fn turn(&mut self) -> usize {
        self.frames[self.next].hear(&mut self.session, self.now);
        self.next = (self.next + 1) % self.frames.len();
        self.pump();
        let out = self.session.sends();
        let octets = out.sends().iter().map(|send| match send {
            Send::Text(span) => out.text_of(span).len(),
            Send::Binary(span) => out.octets(span).len(),
            other => panic!("sent {other:?}"),
        });
        let octets = octets.sum();
        self.session.sent(true);
        assert!(self.session.poll_timeout().is_some());
        self.now += FRAME;
        octets
    }

    fn pump(&mut self) {
        loop {
            let mut busy = false;
            while let Some(action) = self.session.poll_action() {
                if let Action::StartModule { port, start, .. } = action {
                    let ready = self.echo.start(&start).expect("agrees");
                    self.session.module_ready(self.now, port, &ready);
                }
                busy = true;
            }
            while let Some(Given::Sound(frame)) = self.session.next_frame(ECHO, &mut self.frame) {
                self.echo.process(Input::Audio(frame), &mut self.outputs).expect("never fails");
                for output in self.outputs.iter() {
                    match output {
                        Output::Audio(samples) => {
                            self.session.module_audio(self.now, ECHO, Epoch::Current, samples);
                        }
                        Output::Message(message) => {
                            self.session.module_message(self.now, ECHO, message);
                        }
                    }
                }
                self.outputs.reset();
                busy = true;
            }
            if !busy {
                return;
            }
        }
    }
}
