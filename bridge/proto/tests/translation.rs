//! Any provider in, any bot out: a phone behind every provider, a session, and a bot that is our own end of every provider's wire, in
//! virtual time. What is said, played, marked, cleared, pressed and hung up at one end is what it is at the other.

#![allow(clippy::unwrap_used, reason = "a test whose ground gives way has failed")]

use std::time::Duration;

use ringback_codecs::{Encoding, MediaFormat};
use ringback_module::message::{Hangup, Start as ModuleStart, StopReason};
use ringback_module::{AudioFrame, FromModule};
use ringback_proto::Instant;
use ringback_proto::provider::{
    ClearLaw, Command, Dial, Digit, Event, FrameLaw, HangupLaw, Message, Options, Outbox,
    PROVIDERS, PlayoutPolicy, Protocol, Provider, Send, Start, Track, Transport, find,
};
use ringback_proto::session::{
    Action, EndReason, Epoch, FrameBuf, Given, PortConfig, PortId, Route, Session, SessionConfig,
    Summary,
};
use ringback_proto::simulator::{PhoneEvent, Simulator};
use ringback_proto::translation::{Bot, Said, Translator, can_speak};

const FRAME: Duration = Duration::from_millis(20);
const PORT: PortId = PortId(0);

/// A phone, the call, the translator and a bot, connected without delay.
struct World {
    now: Instant,
    phone: Simulator,
    session: Session,
    bot: Bot,
    translator: Option<Translator>,
    /// What was rejected, if it was.
    rejected: Option<String>,
    end: Option<Box<dyn Protocol>>,
    start: Option<Start>,
    /// Payloads that the bot heard.
    heard: Vec<Vec<u8>>,
    events: Vec<(Instant, Event)>,
    /// Sound at the phone when the bot was last told of a mark.
    heard_at_mark: usize,
    bot_closed: bool,
    phone_closed: bool,
    hung_up: Option<Hangup>,
    summary: Option<Summary>,
    dropped: u64,
}

impl World {
    fn connect(caller: &dyn Provider, dial: &Dial, bot: Bot) -> Self {
        let (request, phone) = Simulator::new(caller, dial, true);
        let accepted = request.arrives(|upgrade| caller.accept(upgrade, &Options::default()));
        let mut config = SessionConfig::new("our-call", caller.name());
        let bot_port = PortConfig {
            kind: ringback_module::message::Kind::Agent,
            speaks: true,
            ..PortConfig::listening("bot")
        };
        config.routes = Route::to(vec![bot_port]).into();
        let now = Instant::from_millis(1);
        let session = Session::new(now, config, accepted.expect("accepts").protocol);
        let mut world = Self {
            now,
            phone,
            session,
            bot,
            translator: None,
            rejected: None,
            end: None,
            start: None,
            heard: Vec::new(),
            events: Vec::new(),
            heard_at_mark: 0,
            bot_closed: false,
            phone_closed: false,
            hung_up: None,
            summary: None,
            dropped: 0,
        };
        let mut out = Outbox::new();
        world.phone.handle_open(now, &mut out).expect("opens");
        world.tell_session(&mut out);
        world.exchange();
        world
    }

    fn tell_session(&mut self, out: &mut Outbox) {
        for send in out.sends() {
            match send {
                Send::Text(span) => {
                    self.session.handle_message(self.now, Message::Text(out.text_of(span)));
                }
                Send::Binary(span) => {
                    self.session.handle_message(self.now, Message::Binary(out.octets(span)));
                }
                Send::Close(_) => self.session.handle_closed(self.now, Ok(())),
                other => panic!("nobody dials here: {other:?}"),
            }
        }
        out.reset();
    }

    /// Carries everything that waits anywhere, until nothing does.
    fn exchange(&mut self) {
        loop {
            let mut busy = false;
            while let Some(action) = self.session.poll_action() {
                self.act(action);
                busy = true;
            }
            busy |= self.hear_session();
            busy |= self.sound();
            busy |= self.hear_bot();
            busy |= self.tell_bot();
            if !busy {
                return;
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::StartModule { start, .. } => self.start_bot(&start),
            Action::TellModule { message, .. } => {
                if let Some(translator) = &mut self.translator {
                    translator.handle_told(self.now, &message).expect("may be told");
                }
            }
            Action::StopModule { reason, .. } => {
                assert!(matches!(reason, StopReason::Hangup), "{reason:?}");
                if let Some(translator) = &mut self.translator {
                    translator.stop(self.now).expect("may stop");
                }
                self.tell_bot();
                self.session.module_gone(self.now, PORT, None);
            }
            Action::Ended(summary) => self.summary = Some(*summary),
            _ => {}
        }
    }

    fn start_bot(&mut self, start: &ModuleStart) {
        let provider = self.bot.provider;
        let (request, mut translator) = match Translator::new(&self.bot, start) {
            Ok(translated) => translated,
            Err(reject) => {
                self.rejected = Some(format!("{}: {}", reject.code, reject.message));
                return self.session.module_rejected(self.now, PORT, &reject);
            }
        };
        let accepted = request.arrives(|upgrade| provider.accept(upgrade, &Options::default()));
        self.end = Some(accepted.expect("the bot takes the stream").protocol);
        translator.handle_open(self.now).expect("opens");
        self.translator = Some(translator);
        self.at_bot(|end, now, out| end.handle_open(now, out));
    }

    fn hear_session(&mut self) -> bool {
        if self.session.sends().sends().is_empty() {
            return false;
        }
        let (mut out, outbox) = (Outbox::new(), self.session.sends());
        for send in outbox.sends() {
            let message = match send {
                Send::Text(span) => Message::Text(outbox.text_of(span)),
                Send::Binary(span) => Message::Binary(outbox.octets(span)),
                Send::Close(_) => {
                    self.phone_closed = true;
                    continue;
                }
                other => panic!("nobody dials here: {other:?}"),
            };
            self.phone.handle_message(self.now, message, &mut out).expect("the bridge speaks it");
        }
        self.session.sent(true);
        self.tell_session(&mut out);
        true
    }

    fn sound(&mut self) -> bool {
        let (mut buffer, mut busy) = (FrameBuf::default(), false);
        let Some(translator) = &mut self.translator else { return false };
        while let Some(given) = self.session.next_frame(PORT, &mut buffer) {
            busy = true;
            if let Given::Sound(AudioFrame { track, rate, pts, flags, samples }) = given {
                let frame = AudioFrame { track, rate, pts, flags, samples };
                translator.handle_sound(self.now, &frame).expect("takes sound");
            }
        }
        busy
    }

    /// What the bot said, as the session takes it.
    fn hear_bot(&mut self) -> bool {
        let mut busy = false;
        while let Some(said) = self.translator.as_mut().and_then(Translator::poll_said) {
            busy = true;
            match said {
                Said::Ready(ready) => self.session.module_ready(self.now, PORT, &ready),
                Said::Audio { epoch, samples } => {
                    let epoch = Epoch::Numbered(epoch);
                    self.session.module_audio(self.now, PORT, epoch, &samples);
                }
                Said::Dropped { samples } => {
                    self.dropped += samples;
                    self.session.module_flooded(self.now, PORT, samples);
                }
                Said::Message(message) => {
                    if let FromModule::Hangup(hangup) = &message {
                        self.hung_up = Some(hangup.clone());
                    }
                    self.session.module_message(self.now, PORT, &message);
                }
            }
        }
        busy
    }

    /// What the translator sends, as the bot takes it.
    fn tell_bot(&mut self) -> bool {
        let Some(translator) = &mut self.translator else { return false };
        let outbox = translator.sends();
        let messages: Vec<_> = outbox
            .sends()
            .iter()
            .map(|send| match send {
                Send::Text(span) => (true, outbox.octets(span).to_vec()),
                Send::Binary(span) => (false, outbox.octets(span).to_vec()),
                Send::Close(_) => (true, Vec::new()),
                other => panic!("nobody dials here: {other:?}"),
            })
            .collect();
        translator.sent();
        let busy = !messages.is_empty();
        for (is_text, octets) in messages {
            if octets.is_empty() {
                self.bot_closed = true;
                continue;
            }
            let text = String::from_utf8(octets.clone()).unwrap_or_default();
            self.at_bot(|end, now, out| {
                let message = if is_text { Message::Text(&text) } else { Message::Binary(&octets) };
                end.handle_message(now, message, out)
            });
        }
        busy
    }

    /// Lets the bot's end do something, and takes in what it saw and says.
    fn at_bot(
        &mut self,
        act: impl FnOnce(
            &mut dyn Protocol,
            Instant,
            &mut Outbox,
        ) -> Result<(), ringback_proto::provider::ProtocolError>,
    ) {
        let mut out = Outbox::new();
        let end = self.end.as_mut().expect("a bot");
        act(end.as_mut(), self.now, &mut out).expect("the translator speaks the protocol");
        for event in out.events() {
            match event {
                Event::Started(start) => self.start = Some((**start).clone()),
                Event::Media(media) => self.heard.push(out.octets(&media.payload).to_vec()),
                event => {
                    if matches!(event, Event::Played(_)) {
                        self.heard_at_mark = voiced(self.phone.heard()).len();
                    }
                    self.events.push((self.now, event.clone()));
                }
            }
        }
        let Some(translator) = &mut self.translator else { return };
        for send in out.sends() {
            let message = match send {
                Send::Text(span) => Message::Text(out.text_of(span)),
                Send::Binary(span) => Message::Binary(out.octets(span)),
                Send::Close(_) => {
                    translator.handle_closed(self.now);
                    continue;
                }
                other => panic!("nobody dials here: {other:?}"),
            };
            translator.handle_message(self.now, message).expect("the bot speaks the protocol");
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let bot = self.end.as_ref().and_then(|end| end.poll_timeout());
            let translator = self.translator.as_ref().and_then(Translator::poll_timeout);
            let next = [self.phone.poll_timeout(), self.session.poll_timeout(), bot, translator];
            let Some(next) = next.into_iter().flatten().min().filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            let (now, mut out) = (self.now, Outbox::new());
            self.phone.handle_timeout(now, &mut out).expect("time may pass");
            self.tell_session(&mut out);
            if self.session.poll_timeout().is_some_and(|at| at <= now) {
                self.session.handle_timeout(now);
            }
            if translator.is_some_and(|at| at <= now) {
                let translator = self.translator.as_mut().expect("it is there");
                translator.handle_timeout(now).expect("time may pass");
                let next = translator.poll_timeout();
                assert!(next.is_none_or(|at| at > now), "is to be woken at {next:?}, at {now:?}");
            }
            if bot.is_some_and(|at| at <= now) {
                self.at_bot(|end, now, out| end.handle_timeout(now, out));
            }
            self.exchange();
        }
        self.now = end;
    }

    fn command(&mut self, command: Command<'_>) {
        self.at_bot(|end, now, out| end.handle_command(now, command, out));
        self.exchange();
    }

    fn press(&mut self, key: char) {
        let mut out = Outbox::new();
        self.phone.press(self.now, Digit::new(key).expect("a key"), &mut out).expect("may press");
        self.tell_session(&mut out);
        self.exchange();
    }

    /// The bot plays this, in messages as its provider takes them.
    fn play(&mut self, samples: &[i16]) {
        let start = self.start.as_ref().expect("started");
        let format = start.outbound.expect("two-way");
        let time = match start.capabilities.frame {
            FrameLaw::Exact(time) | FrameLaw::MultipleOf(time) => time,
            FrameLaw::AtLeast { least, .. } => least.max(FRAME),
            FrameLaw::Any | FrameLaw::UpTo(_) => FRAME,
        };
        let mut encoder = format.encoder().expect("a codec");
        let length = format.rate.samples_in(time) as usize;
        for frame in samples.chunks(length) {
            let (mut frame, mut payload) = (frame.to_vec(), Vec::new());
            frame.resize(length, 0);
            encoder.encode(&frame, &mut payload).expect("whole frames");
            self.command(Command::Media { track: Track::Outbound, payload: &payload });
        }
    }

    fn played(&self) -> Vec<&str> {
        let played = self.events.iter().filter_map(|(_, event)| match event {
            Event::Played(name) => Some(name.as_str()),
            _ => None,
        });
        played.collect()
    }

    fn keys_at_bot(&self) -> String {
        let keys = self.events.iter().filter_map(|(_, event)| match event {
            Event::Dtmf { digit, .. } => Some(digit.as_char()),
            _ => None,
        });
        keys.collect()
    }

    fn at_phone(&mut self) -> Vec<PhoneEvent> {
        std::iter::from_fn(|| self.phone.poll_event()).collect()
    }
}

/// All but silence.
fn voiced(samples: &[i16]) -> Vec<i16> {
    samples.iter().copied().filter(|sample| *sample != 0).collect()
}

/// A tone that rises from 300 to 2,000 Hz within 200 ms: no two pieces of it are alike, and every telephone carries it.
fn chirp(format: MediaFormat, length: Duration) -> Vec<i16> {
    let hz = f64::from(format.rate.hz());
    let samples = format.rate.samples_in(length);
    let sample = |n: u64| {
        let t = n as f64 / hz;
        let turns = 300.0 * t + 8_500.0 * t * t / 2.0;
        let value = (8_000.0 * (turns * std::f64::consts::TAU).sin()) as i16;
        if value == 0 { 1 } else { value }
    };
    (0..samples).map(sample).collect()
}

fn decoded(format: MediaFormat, payloads: &[Vec<u8>]) -> Vec<i16> {
    let (mut decoder, mut samples) = (format.decoder().expect("a codec"), Vec::new());
    for payload in payloads {
        decoder.decode(payload, &mut samples).expect("can be decoded");
    }
    samples
}

/// What is left of samples that go through this format once.
fn through(format: MediaFormat, samples: &[i16]) -> Vec<i16> {
    let mut payload = Vec::new();
    format.encoder().expect("a codec").encode(samples, &mut payload).expect("whole frames");
    decoded(format, &[payload])
}

/// Sound over error, in dB, at the best of all delays near the first sound.
fn likeness(said: &[i16], heard: &[i16]) -> f64 {
    let loud = |samples: &[i16]| samples.iter().position(|sample| sample.abs() > 500);
    let (Some(begin), Some(begins)) = (loud(said), loud(heard)) else { return f64::MIN };
    let mut best = f64::MIN;
    for shift in 0..24 {
        let Some(from) = (begins + 12).checked_sub(begin + shift) else { continue };
        let (mut signal, mut noise, mut length) = (0.0, 0.0, 0);
        for (&a, &b) in said.iter().zip(&heard[from..]) {
            let (a, b) = (f64::from(a), f64::from(b));
            signal += a * a;
            noise += (a - b) * (a - b);
            length += 1;
        }
        // All of it, but for the tail that a resampler keeps until it knows that nothing follows.
        if length + 64 >= said.len() {
            best = f64::max(best, 10.0 * (signal / noise.max(1e-9)).log10());
        }
    }
    best
}

/// Compares what was said in one format with what was heard in another.
fn same(about: &str, spoken: MediaFormat, said: &[i16], in_format: MediaFormat, heard: &[i16]) {
    if spoken == in_format {
        let (said, heard) = (voiced(said), voiced(heard));
        let first = said.iter().zip(&heard).position(|(a, b)| a != b);
        let counts = (said.len(), heard.len());
        assert!(said == heard, "{about}: {counts:?}, other from {first:?} on");
        return;
    }
    // As it would have been said in the other format, had it been made there.
    let length = spoken.rate.duration_of(said.len() as u64);
    let wanted = through(in_format, &chirp(in_format, length));
    let likeness = likeness(&wanted, heard);
    assert!(likeness > 15.0, "{about}: {spoken} as {in_format}: {likeness:.1} dB");
}

/// Whether samples are as they were after a codec.
fn is_exact(format: &MediaFormat) -> bool {
    matches!(format.encoding, Encoding::Pcmu | Encoding::Pcma | Encoding::L16(_))
}

/// Providers that carry sound both ways over one connection.
fn two_way() -> Vec<&'static dyn Provider> {
    let speaks = |p: &&&'static dyn Provider| {
        let carried = !matches!(p.transport(), Transport::Webhook { .. });
        carried && p.has_sound() && p.capabilities().playout != PlayoutPolicy::None
    };
    PROVIDERS.iter().filter(speaks).copied().collect()
}

fn dial(caller: &dyn Provider, format: Option<MediaFormat>) -> Dial {
    Dial {
        target: format!("/{}", caller.name()),
        call: "CA-17.4".into(),
        from: "+15550100011".into(),
        to: "+15550100022".into(),
        parameters: vec![("tenant".into(), "t 1&=?\"é".into()), ("both".into(), "call".into())],
        format,
        ..Dial::default()
    }
}

fn bot(provider: &'static dyn Provider, format: Option<MediaFormat>) -> Bot {
    let parameters = vec![("both".into(), "bot".into()), ("prompt".into(), "Be brief.".into())];
    Bot { provider, target: "/media".into(), parameters, format }
}

/// A format that both have, in which nothing has to be forgiven.
fn common(caller: &dyn Provider, bot: &dyn Provider) -> Option<MediaFormat> {
    let shared = caller.formats().iter().filter(|format| bot.formats().contains(format));
    shared.copied().find(is_exact)
}

/// What one pair does: everything once, at the same time where that can be.
fn try_pair(
    caller: &'static dyn Provider,
    provider: &'static dyn Provider,
    bot_ends: bool,
) -> bool {
    let format = common(caller, provider);
    let about = format!("{} in, bot of {}", caller.name(), provider.name());
    eprintln!("{about}");
    let mut world = World::connect(caller, &dial(caller, format), bot(provider, format));
    let mut out = Outbox::new();
    while world.start.is_none() || world.phone.start().is_none() {
        world.run(FRAME);
        assert!(world.now < Instant::from_millis(2_000), "{about}: it does not start");
    }
    let (far, near) = (world.start.clone().unwrap(), world.phone.start().unwrap().clone());
    let told = world.translator.as_ref().and_then(Translator::start).expect("started");
    // Some callers' providers have parameters of their own by a name that some bots' providers mean something else by.
    let known = |start: &Start| {
        let named =
            |(name, _): &(String, String)| ["tenant", "both", "prompt"].contains(&name.as_str());
        let parameters: Vec<_> = start.parameters.iter().filter(|p| named(p)).cloned().collect();
        // The phone's end has no word for a number that is not known.
        let [from, to] = [&start.from, &start.to].map(|n| n.clone().filter(|n| !n.is_empty()));
        Start { call: None, from, to, parameters, ..start.clone() }
    };
    assert_eq!(known(told), known(&far), "{about}");
    let (caller_says, bot_hears) = (near.inbound.unwrap(), far.inbound.unwrap());
    let (bot_says, caller_hears) = (far.outbound.unwrap(), near.outbound.unwrap());

    // Both speak at once.
    let length = FRAME * 10;
    let said = chirp(caller_says, length);
    world.phone.speak(Track::Inbound, &said);
    world.run(FRAME);
    let answer = chirp(bot_says, length);
    world.play(&answer);
    let can = far.capabilities;
    if can.marks {
        world.command(Command::Mark("the end"));
        world.command(Command::Mark("the end"));
    }
    world.run(Duration::from_millis(500));
    // Some want half a second in a message, and wait for it.
    for _ in 0..6 {
        if (voiced(world.phone.heard()).len() as u64)
            < caller_hears.rate.samples_in(length) * 95 / 100
        {
            world.run(FRAME * 8);
        }
    }
    let heard = decoded(bot_hears, &world.heard);
    same(&about, caller_says, &through(caller_says, &said), bot_hears, &heard);
    let at_phone = world.phone.heard().to_vec();
    same(&about, bot_says, &through(bot_says, &answer), caller_hears, &at_phone);
    let marks = if can.marks { 2 } else { 0 };
    assert_eq!(world.played(), vec!["the end"; marks], "{about}");
    if can.marks {
        let whole = voiced(&at_phone).len();
        // Resampled sound has an end that comes with the next.
        let missing = whole - world.heard_at_mark.min(whole);
        let forgiven = if bot_says == caller_hears { 0 } else { whole / 10 };
        assert!(missing <= forgiven, "{about}: {missing} of {whole} samples behind the mark");
    }

    // Keys both ways.
    world.events.clear();
    world.at_phone();
    world.press('5');
    world.press('#');
    let keys = if near.capabilities.dtmf_in && can.dtmf_in { "5#" } else { "" };
    assert_eq!(world.keys_at_bot(), keys, "{about}");
    world.command(Command::Dtmf(Digit::STAR));
    let pressed = world.at_phone().contains(&PhoneEvent::Dtmf(Digit::STAR));
    assert_eq!(pressed, can.dtmf_out && near.capabilities.dtmf_out, "{about}");

    try_clear(&mut world, &about, &can, caller_hears, bot_says);

    if bot_ends {
        match can.hangup {
            HangupLaw::Message => world.command(Command::Hangup),
            HangupLaw::Close => {
                let now = world.now;
                world.translator.as_mut().unwrap().handle_closed(now);
                world.exchange();
            }
        }
        world.run(FRAME * 20);
        for _ in 0..10 {
            if !world.phone_closed && !world.phone.is_over() {
                world.run(FRAME * 8);
            }
        }
        let is_over = world.phone_closed || world.phone.is_over();
        assert!(world.hung_up.is_some() && is_over, "{about}");
    } else {
        world.phone.hang_up(world.now, &mut out).expect("may hang up");
        world.tell_session(&mut out);
        // What is left of the call is that its connection ends.
        world.session.handle_closed(world.now, Ok(()));
        world.exchange();
        let stopped = world.events.iter().any(|(_, event)| matches!(event, Event::Stopped(_)));
        assert!(world.bot_closed || stopped, "{about}: the bot was not told");
    }
    world.run(FRAME * 10);
    let summary = world.summary.as_ref().unwrap_or_else(|| panic!("{about}: it does not end"));
    let by_bot = matches!(summary.reason, EndReason::Hangup { .. });
    assert_eq!(by_bot, bot_ends, "{about}: {}", summary.reason);
    let unbalanced: Vec<_> = summary.ledger.unbalanced().map(ToString::to_string).collect();
    assert!(unbalanced.is_empty(), "{about}: {unbalanced:?}");
    assert_eq!(world.dropped, 0, "{about}");
    format.is_some()
}

fn try_clear(
    world: &mut World,
    about: &str,
    can: &ringback_proto::provider::Capabilities,
    caller_hears: MediaFormat,
    bot_says: MediaFormat,
) {
    if can.clear == ClearLaw::Unsupported {
        return;
    }
    world.events.clear();
    let before = voiced(world.phone.heard()).len() as u64;
    // What a queue of the bot's provider holds, and longer than anybody is sent ahead.
    let limit = match can.playout {
        PlayoutPolicy::Ahead { limit } | PlayoutPolicy::Paced { limit } => limit,
        PlayoutPolicy::None => Duration::ZERO,
    };
    let length = (limit / 2).min(FRAME * 50);
    world.play(&chirp(bot_says, length));
    world.command(Command::Mark("never"));
    world.run(FRAME * 2);
    assert_eq!(world.played(), Vec::<&str>::new(), "{about}");
    world.command(Command::Clear);
    let returned = can.marks && can.clear == ClearLaw::ReturnsMarks;
    assert_eq!(world.played(), vec!["never"; usize::from(returned)], "{about}");
    world.run(FRAME * 12);
    let heard = voiced(world.phone.heard()).len() as u64 - before;
    let all = caller_hears.rate.samples_in(length);
    if length > FRAME * 20 {
        assert!(heard < all * 3 / 4, "{about}: {heard} of {all} samples heard after a clear");
    }
    // It works as before.
    let again = chirp(bot_says, FRAME * 5);
    world.play(&again);
    world.command(Command::Mark("after"));
    let silent = voiced(world.phone.heard()).len() as u64;
    world.run(FRAME * 16);
    for _ in 0..4 {
        if can.marks && !world.played().contains(&"after") {
            world.run(FRAME * 16);
        }
    }
    let heard = voiced(world.phone.heard()).len() as u64 - silent;
    let all = caller_hears.rate.samples_in(FRAME * 5);
    assert!(heard * 10 >= all * 9, "{about}: {heard} of {all} samples heard behind the clear");
    let after = world.played().iter().filter(|name| **name == "after").count();
    assert_eq!(after, usize::from(can.marks), "{about}: {:?}", world.played());
}

#[test]
fn every_bot_answers_the_calls_of_every_provider() {
    let providers = two_way();
    assert!(providers.len() > 25 && providers.iter().all(|provider| can_speak(*provider)));
    let (mut pairs, mut exact) = (0, 0);
    for (index, caller) in providers.iter().enumerate() {
        for (other, bot) in providers.iter().enumerate() {
            exact += u32::from(try_pair(*caller, *bot, (index + other) % 2 == 0));
            pairs += 1;
        }
    }
    assert!(exact * 3 > pairs, "{exact} of {pairs} pairs have a format in common");
}

fn provider(name: &str) -> &'static dyn Provider {
    find(name).expect("in the table")
}

#[test]
fn a_bot_hears_who_calls_and_its_own_parameters_win() {
    let caller = provider("asterisk");
    let mut world =
        World::connect(provider("jambonz"), &dial(caller, None), bot(provider("twilio"), None));
    world.run(FRAME * 5);
    let start = world.start.clone().expect("started");
    let value = |name: &str| {
        let found = start.parameters.iter().filter(|(key, _)| key == name);
        let found: Vec<_> = found.map(|(_, value)| value.as_str()).collect();
        assert!(found.len() <= 1, "{name} is told twice: {found:?}");
        found.first().copied()
    };
    assert_eq!(start.call.as_deref(), Some("our-call"));
    assert_eq!(value("tenant"), Some("t 1&=?\"é"));
    assert_eq!(value("both"), Some("bot"));
    assert_eq!(value("prompt"), Some("Be brief."));
    assert_eq!(value("from"), Some("+15550100011"));
    assert_eq!(value("to"), Some("+15550100022"));
}

#[test]
fn words_and_sound_do_not_meet_and_say_so() {
    for (caller, to, expected) in [
        ("twilio", "conversation-relay", "speaks and hears words, and this call carries sound"),
        ("conversation-relay", "twilio", "speaks and hears sound, and this call carries words"),
        ("twilio", "zoom-rtms", "dialled by its bots"),
    ] {
        let (caller, to) = (provider(caller), provider(to));
        let mut world = World::connect(caller, &dial(caller, None), bot(to, None));
        world.run(FRAME * 5);
        let rejected = world.rejected.expect("rejected");
        assert!(rejected.starts_with("unsupported_format: "), "{rejected}");
        assert!(rejected.contains(expected), "{rejected}");
    }
}

#[test]
fn a_bot_of_words_answers_a_call_of_words() {
    let relay = provider("conversation-relay");
    let mut world = World::connect(relay, &dial(relay, None), bot(relay, None));
    world.run(FRAME * 5);
    assert!(world.start.is_some());
    let mut out = Outbox::new();
    world.phone.say(world.now, "A table for two.", &mut out).expect("says");
    world.tell_session(&mut out);
    world.exchange();
    let heard = |world: &World| {
        let heard = world.events.iter().filter_map(|(_, event)| match event {
            Event::Heard { text, last: true, .. } => Some(text.clone()),
            _ => None,
        });
        heard.collect::<Vec<_>>()
    };
    assert_eq!(heard(&world), ["A table for two."]);
    let words = "It is booked for eight in the evening, and we look forward to seeing you.";
    world.command(Command::Say { text: words, language: None, last: true });
    world.command(Command::Language { speech: Some("sv-SE"), recognition: None });
    world.press('7');
    assert_eq!(world.keys_at_bot(), "7");
    world.run(Duration::from_millis(900));
    world.phone.say(world.now, "Wait!", &mut out).expect("says");
    world.tell_session(&mut out);
    world.exchange();
    let interrupted = world.events.iter().find_map(|(_, event)| match event {
        Event::Interrupted { heard: Some(heard), .. } => Some(heard.clone()),
        _ => None,
    });
    let interrupted = interrupted.expect("the bot is told what was heard");
    assert!(words.starts_with(&interrupted) && !interrupted.is_empty(), "{interrupted:?}");
    assert_eq!(heard(&world), ["A table for two.", "Wait!"]);
    world.command(Command::Handoff(r#"{"queue":"billing"}"#));
    world.run(Duration::from_secs(1));
    let at_phone = world.at_phone();
    let handed = PhoneEvent::HandedOn(r#"{"queue":"billing"}"#.into());
    let language = PhoneEvent::Language { speech: Some("sv-SE".into()), recognition: None };
    for expected in [PhoneEvent::Said(words.into()), language, handed, PhoneEvent::HungUp] {
        assert!(at_phone.contains(&expected), "{expected:?} is not in {at_phone:?}");
    }
    assert!(world.summary.is_some());
}

/// Twilio's bots send a whole reply at once. It waits in front of the call and comes out whole, with its marks where they were.
#[test]
fn a_minute_of_sound_at_once_is_played_whole_and_more_than_two_are_not_kept() {
    let twilio = provider("twilio");
    let mut world = World::connect(twilio, &dial(twilio, None), bot(twilio, None));
    world.run(FRAME * 5);
    let format = world.start.as_ref().and_then(|start| start.outbound).unwrap();
    let second = chirp(format, Duration::from_secs(1));
    let began = world.now;
    for n in 0..70 {
        world.play(&second);
        world.command(Command::Mark(&format!("{n}")));
    }
    world.run(Duration::from_secs(75));
    let names: Vec<_> = (0..70).map(|n| n.to_string()).collect();
    assert_eq!(world.played(), names);
    for (n, (at, _)) in world.events.iter().enumerate() {
        let played = *at - began;
        let due = Duration::from_secs(n as u64 + 1);
        assert!(played >= due && played < due + FRAME * 20, "{n}: {played:?}");
    }
    let expected = through(format, &second).repeat(70);
    assert!(voiced(world.phone.heard()) == voiced(&expected));
    for _ in 0..140 {
        world.play(&second);
    }
    let dropped = format.rate.duration_of(world.dropped);
    assert!((15..25).contains(&dropped.as_secs()), "{dropped:?} of 140 s");
}

#[test]
fn a_bot_that_closes_after_its_last_words_is_heard_to_the_end() {
    let (asterisk, twilio) = (provider("asterisk"), provider("twilio"));
    let format = common(asterisk, twilio);
    let mut world = World::connect(asterisk, &dial(asterisk, format), bot(twilio, format));
    world.run(FRAME * 5);
    let format = world.start.as_ref().and_then(|start| start.outbound).unwrap();
    let goodbye = chirp(format, Duration::from_secs(8));
    world.play(&goodbye);
    let now = world.now;
    world.translator.as_mut().unwrap().handle_closed(now);
    world.exchange();
    world.run(Duration::from_secs(7));
    assert!(!world.phone_closed, "it is still being heard");
    world.run(Duration::from_secs(2));
    assert!(world.phone_closed);
    assert!(voiced(world.phone.heard()) == voiced(&through(format, &goodbye)));
    let hangup = world.hung_up.as_ref().expect("hung up");
    assert_eq!(hangup.reason, "the bot closed its stream");
}

#[test]
fn a_barge_in_of_the_bridge_empties_the_bots_queue_and_gives_its_marks_back() {
    let twilio = provider("twilio");
    let mut world = World::connect(twilio, &dial(twilio, None), bot(twilio, None));
    world.run(FRAME * 5);
    let format = world.start.as_ref().and_then(|start| start.outbound).unwrap();
    world.play(&chirp(format, Duration::from_secs(20)));
    world.command(Command::Mark("far"));
    world.run(Duration::from_secs(1));
    // As another module of the call would.
    world.session.module_message(world.now, PORT, &FromModule::Clear { epoch: None });
    world.exchange();
    assert_eq!(world.played(), ["far"]);
    let before = voiced(world.phone.heard()).len();
    let second = chirp(format, Duration::from_secs(1));
    world.play(&second);
    world.command(Command::Mark("new"));
    world.run(Duration::from_secs(2));
    assert_eq!(world.played(), ["far", "new"]);
    let heard = voiced(world.phone.heard()).split_off(before);
    assert!(heard == voiced(&through(format, &second)), "{} samples", heard.len());
}
