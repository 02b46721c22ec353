//! A call with a bot, all of it values in virtual time: a phone, the bridge's end, a session, the translator and the bot's end.

use super::*;

/// A phone, the call, the translator and a bot, connected without delay.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) phone: Simulator,
    pub(super) session: Session,
    pub(super) bot: Bot,
    pub(super) translator: Option<Translator>,
    /// What was rejected, if it was.
    pub(super) rejected: Option<String>,
    pub(super) end: Option<Box<dyn Protocol>>,
    pub(super) start: Option<Start>,
    /// Payloads that the bot heard.
    pub(super) heard: Vec<Vec<u8>>,
    pub(super) events: Vec<(Instant, Event)>,
    /// Sound at the phone when the bot was last told of a mark.
    pub(super) heard_at_mark: usize,
    pub(super) bot_closed: bool,
    pub(super) phone_closed: bool,
    pub(super) hung_up: Option<Hangup>,
    pub(super) summary: Option<Summary>,
    pub(super) dropped: u64,
}

impl World {
    pub(super) fn connect(caller: &dyn Provider, dial: &Dial, bot: Bot) -> Self {
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

    pub(super) fn tell_session(&mut self, out: &mut Outbox) {
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
    pub(super) fn exchange(&mut self) {
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

    pub(super) fn act(&mut self, action: Action) {
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
                self.hear_bot();
                self.session.module_gone(self.now, PORT, None);
            }
            Action::Ended(summary) => self.summary = Some(*summary),
            _ => {}
        }
    }

    pub(super) fn start_bot(&mut self, start: &ModuleStart) {
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

    pub(super) fn hear_session(&mut self) -> bool {
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

    pub(super) fn sound(&mut self) -> bool {
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
    pub(super) fn hear_bot(&mut self) -> bool {
        let mut busy = false;
        while let Some(said) = self.translator.as_mut().and_then(Translator::poll_said) {
            busy = true;
            match said {
                Said::Ready(ready) => self.session.module_ready(self.now, PORT, &ready),
                Said::Audio { epoch, samples } => {
                    let epoch = Epoch::Numbered(epoch);
                    self.session.module_audio(self.now, PORT, epoch, &samples);
                }
                Said::Dropped { reason, samples } => {
                    self.dropped += samples;
                    self.session.module_dropped(self.now, PORT, reason, samples);
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
    pub(super) fn tell_bot(&mut self) -> bool {
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
    pub(super) fn at_bot(
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

    pub(super) fn run(&mut self, time: Duration) {
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

    pub(super) fn command(&mut self, command: Command<'_>) {
        self.at_bot(|end, now, out| end.handle_command(now, command, out));
        self.exchange();
    }

    pub(super) fn press(&mut self, key: char) {
        let mut out = Outbox::new();
        self.phone.press(self.now, Digit::new(key).expect("a key"), &mut out).expect("may press");
        self.tell_session(&mut out);
        self.exchange();
    }

    /// The bot plays this, in messages as its provider takes them.
    pub(super) fn play(&mut self, samples: &[i16]) {
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

    pub(super) fn played(&self) -> Vec<&str> {
        let played = self.events.iter().filter_map(|(_, event)| match event {
            Event::Played(name) => Some(name.as_str()),
            _ => None,
        });
        played.collect()
    }

    pub(super) fn keys_at_bot(&self) -> String {
        let keys = self.events.iter().filter_map(|(_, event)| match event {
            Event::Dtmf { digit, .. } => Some(digit.as_char()),
            _ => None,
        });
        keys.collect()
    }

    pub(super) fn at_phone(&mut self) -> Vec<PhoneEvent> {
        std::iter::from_fn(|| self.phone.poll_event()).collect()
    }
}
