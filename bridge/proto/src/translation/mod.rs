//! Somebody's existing bot as a module: the provider's end of a stream on one side, a module's session on the other. Opens no socket.
//!
//! A bot written for a provider is a server that this provider dials. The [`Translator`] says to it what the provider would say about the
//! call, whoever the call comes from, and makes of what it answers what a module says. The queue that providers keep for a bot, with
//! marks and a clear, is kept here in front of the call's own; what one side has and the other has not is left out as the
//! documentation of [`Translator`] says, and never done by half.

mod speech;
mod voice;

use std::collections::VecDeque;

use ringback_codecs::MediaFormat;
use ringback_module::message::{
    Accept, AcceptIn, AcceptOut, DtmfSend, Event as NamedEvent, Framing, Hangup, HangupAfter, Kind,
    Languages, Log, LogLevel, MarkStatus, Play, Ready, Reject, Say, Start as ModuleStart,
};
use ringback_module::{AudioFrame, FromModule, ToModule};
use serde_json::Value;

use crate::Instant;
use crate::ledger::Drop;
use crate::provider::{
    ClearLaw, Command, Dial, Digit, Event, Message, Outbox, OutgoingUpgrade, PlayoutPolicy,
    Protocol, ProtocolError, Provider, Start, StopCause, Track, Transport,
};
use speech::{Fate, Speech};
use voice::Voice;

/// A bot as the configuration has it.
#[derive(Clone)]
pub struct Bot {
    /// Whose streams it takes.
    pub provider: &'static dyn Provider,
    /// Path and query at the bot.
    pub target: String,
    /// Custom parameters, beside the call's own, which they win over.
    pub parameters: Vec<(String, String)>,
    /// The format it takes, where its provider has a choice; `None` is the usual one.
    pub format: Option<MediaFormat>,
}

/// What a bot says, as a module says it.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// It is there, and this is what it hears and speaks.
    Ready(Ready),
    /// Sound to be played, at the rate of [`Ready`], for this playback generation.
    Audio {
        /// The generation.
        epoch: u32,
        /// One channel.
        samples: Vec<i16>,
    },
    /// So much sound of the bot comes no more: its provider would have discarded it, because its queue was full
    /// ([`Drop::Overflow`]), or it waited here for a call that cleared it or is over.
    Dropped {
        /// Why.
        reason: Drop,
        /// Samples.
        samples: u64,
    },
    /// Anything else.
    Message(FromModule),
}

/// Why there can be no more of a bot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TranslationError {
    /// It broke its provider's protocol.
    #[error("the bot broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// There is no codec for its format.
    #[error(transparent)]
    Format(#[from] ringback_codecs::UnsupportedFormat),
    /// It sent sound that cannot be decoded.
    #[error("sound of the bot: {0}")]
    Decode(#[from] ringback_codecs::DecodeError),
    /// The caller's sound cannot be encoded.
    #[error("sound for the bot: {0}")]
    Encode(#[from] ringback_codecs::EncodeError),
}

impl TranslationError {
    /// What the bot's stream is closed with.
    #[must_use]
    pub const fn close_code(&self) -> u16 {
        match self {
            Self::Protocol(error) => error.close_code(),
            Self::Decode(_) => 1007,
            Self::Format(_) | Self::Encode(_) => 1011,
        }
    }
}

/// One session with a bot.
///
/// - The caller's sound is sent in the provider's frames as it comes; what was said before the bot was there follows at twice the pace.
/// - The bot's sound is queued as its provider would, up to two minutes, and played in order. What is beyond the provider's limit is
///   discarded as there, and counted.
/// - A mark is reported when the caller has heard what was sent before it, however the call's own provider tells that. A clear
///   empties the queue, and gives marks back if the bot's provider does. If the call was cleared by somebody else, the bot's queue is
///   gone as well, which no provider tells.
/// - Keys go both ways where the ends have them. Words go both ways on calls of words only.
/// - A bot that closes its stream or says that it hangs up ends the call; one that closes, after all it has sent was played.
pub struct Translator {
    protocol: Box<dyn Protocol>,
    session: Box<ModuleStart>,
    /// What the bot was told of the stream, once it has started.
    start: Option<Box<Start>>,
    voice: Option<Voice>,
    speech: Option<Speech>,
    out: Outbox,
    said: VecDeque<Said>,
    /// What whoever goes on with the call is to get.
    handoff: Option<String>,
    state: State,
    events: Vec<Event>,
    told: Vec<Fate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Live,
    /// The bot has closed its stream; what it sent is still to be played.
    Left,
    /// It has hung up, and nothing of it counts any more.
    HungUp,
    /// The call is over, and the bot was told.
    Stopped,
}

impl Translator {
    /// The request that opens the stream, still to be signed, and the bot's end of the session.
    ///
    /// # Errors
    /// If call and bot have nothing in common.
    pub fn new(bot: &Bot, start: &ModuleStart) -> Result<(OutgoingUpgrade, Self), Reject> {
        check(bot.provider, start)?;
        let speaks = start.kind == Kind::Agent || start.kind == Kind::Text;
        let call = Dial {
            target: bot.target.clone(),
            call: start.call.id.clone(),
            from: start.call.from.clone().unwrap_or_default(),
            to: start.call.to.clone().unwrap_or_default(),
            parameters: parameters(bot, start),
            format: bot.format,
            two_way: speaks,
            ..Dial::default()
        };
        let (request, protocol) = bot.provider.dial(&call);
        let translator = Self {
            protocol,
            session: Box::new(start.clone()),
            start: None,
            voice: None,
            speech: None,
            out: Outbox::new(),
            said: VecDeque::new(),
            handoff: None,
            state: State::Live,
            events: Vec::new(),
            told: Vec::new(),
        };
        Ok((request, translator))
    }

    /// What the bot was told of the stream, once it has started.
    #[must_use]
    pub fn start(&self) -> Option<&Start> {
        self.start.as_deref()
    }

    /// What is to be sent to the bot, in order, since the last [`Translator::sent`].
    #[must_use]
    pub const fn sends(&self) -> &Outbox {
        &self.out
    }

    /// It was sent.
    pub fn sent(&mut self) {
        self.out.reset();
    }

    /// What the bot says next.
    pub fn poll_said(&mut self) -> Option<Said> {
        self.said.pop_front()
    }

    /// Whether the bot has hung up, or closed its stream.
    #[must_use]
    pub fn has_hung_up(&self) -> bool {
        matches!(self.state, State::HungUp | State::Left)
    }

    /// Whether the bot has been told that the call is over and has nothing more to answer, so that its stream can be closed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state == State::Stopped && !self.protocol.is_parting()
    }

    /// The stream is open.
    ///
    /// # Errors
    /// The first is the last: close the stream.
    pub fn handle_open(&mut self, now: Instant) -> Result<(), TranslationError> {
        self.protocol.handle_open(now, &mut self.out)?;
        self.react(now)
    }

    /// A message came from the bot.
    ///
    /// # Errors
    /// As [`Translator::handle_open`].
    pub fn handle_message(
        &mut self,
        now: Instant,
        message: Message<'_>,
    ) -> Result<(), TranslationError> {
        self.protocol.handle_message(now, message, &mut self.out)?;
        self.react(now)
    }

    /// The bot has closed its stream.
    pub fn handle_closed(&mut self, now: Instant) {
        if self.state == State::Live {
            self.state = State::Left;
            // Nothing goes to it any more; what it has said goes on.
            self.with_speech(|speech, said, told| {
                // Nobody is left who could resume it.
                speech.pause(now, false, said);
                speech.handle_timeout(now, said, told);
            });
            self.told.clear();
            self.leave_when_given();
        }
    }

    /// The call's sound, on the caller's track, at the rate that was accepted.
    ///
    /// # Errors
    /// As [`Translator::handle_open`].
    pub fn handle_sound(
        &mut self,
        now: Instant,
        frame: &AudioFrame<'_>,
    ) -> Result<(), TranslationError> {
        if self.state != State::Live {
            return Ok(());
        }
        if let Some(voice) = &mut self.voice {
            voice.hear(frame.pts, frame.samples);
        }
        self.tell_sound(now)
    }

    /// The call tells its module something.
    ///
    /// # Errors
    /// As [`Translator::handle_open`].
    pub fn handle_told(
        &mut self,
        now: Instant,
        message: &ToModule,
    ) -> Result<(), TranslationError> {
        match message {
            ToModule::Mark(report) => {
                // One that was dropped is told where the provider tells it of a clear.
                let tells = report.status == MarkStatus::Played || self.returns_marks();
                self.with_speech(|speech, said, told| {
                    speech.reached(now, &report.name, tells, said, told);
                });
                self.tell_fates(now)?;
                self.leave_when_given();
                return Ok(());
            }
            ToModule::Cleared(_) if self.speech.is_some() => {
                self.with_speech(|speech, said, told| speech.cleared(now, message, said, told));
                return self.tell_fates(now);
            }
            _ => {}
        }
        if self.state != State::Live || self.start.is_none() {
            return Ok(());
        }
        match message {
            ToModule::Dtmf(dtmf) => {
                if let Some(digit) = Digit::new(dtmf.digit) {
                    self.command(now, Command::Dtmf(digit))?;
                }
            }
            ToModule::Text(words) => {
                let (text, language) = (words.text.as_str(), words.language.as_deref());
                self.command(now, Command::Heard { text, language, last: words.is_final })?;
            }
            ToModule::Cleared(cleared) => {
                let heard = cleared.heard.as_deref().unwrap_or_default();
                let after = std::time::Duration::from_millis(cleared.played_ms);
                self.command(now, Command::Interrupted { heard, after })?;
            }
            ToModule::Spoken(spoken) => self.command(now, Command::Spoken(&spoken.text))?,
            _ => {}
        }
        self.react(now)
    }

    /// Time passed; call at or after [`Translator::poll_timeout`].
    ///
    /// # Errors
    /// As [`Translator::handle_open`].
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), TranslationError> {
        if self.state != State::Left && self.protocol.poll_timeout().is_some_and(|at| at <= now) {
            self.protocol.handle_timeout(now, &mut self.out)?;
            self.react(now)?;
        }
        if matches!(self.state, State::Live | State::Left) {
            self.with_speech(|speech, said, told| speech.handle_timeout(now, said, told));
            self.tell_fates(now)?;
            self.leave_when_given();
        }
        self.tell_sound(now)
    }

    /// When to call [`Translator::handle_timeout`], if nothing else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let plays = matches!(self.state, State::Live | State::Left);
        let live = self.state == State::Live;
        let protocol = self.protocol.poll_timeout().filter(|_| self.state != State::Left);
        let speech = self.speech.as_ref().filter(|_| plays).and_then(Speech::due);
        let voice = self.voice.as_ref().filter(|_| live).and_then(Voice::due);
        [protocol, speech, voice].into_iter().flatten().min()
    }

    /// The call is over: says so to the bot, as the provider would.
    ///
    /// # Errors
    /// As [`Translator::handle_open`].
    pub fn stop(&mut self, now: Instant) -> Result<(), TranslationError> {
        let before = std::mem::replace(&mut self.state, State::Stopped);
        self.let_go(Drop::CallEnded);
        if matches!(before, State::Live | State::HungUp) {
            self.command(now, Command::Hangup)?;
        }
        Ok(())
    }

    /// The call is given no more of what the bot said.
    pub fn let_go(&mut self, reason: Drop) {
        self.with_speech(|speech, said, _| speech.let_go(reason, said));
    }

    fn command(&mut self, now: Instant, command: Command<'_>) -> Result<(), TranslationError> {
        Ok(self.protocol.handle_command(now, command, &mut self.out)?)
    }

    /// Sends the caller's sound that is due.
    fn tell_sound(&mut self, now: Instant) -> Result<(), TranslationError> {
        let Some(voice) = self.voice.as_mut().filter(|_| self.state == State::Live) else {
            return Ok(());
        };
        while let Some(payload) = voice.frame(now)? {
            let command = Command::Media { track: Track::Inbound, payload };
            self.protocol.handle_command(now, command, &mut self.out)?;
        }
        self.react(now)
    }

    fn with_speech(&mut self, act: impl FnOnce(&mut Speech, &mut VecDeque<Said>, &mut Vec<Fate>)) {
        if let Some(speech) = &mut self.speech {
            act(speech, &mut self.said, &mut self.told);
        }
    }

    /// Tells the bot what became of its marks and its queue, unless it is gone.
    fn tell_fates(&mut self, now: Instant) -> Result<(), TranslationError> {
        let mut told = std::mem::take(&mut self.told);
        for fate in told.drain(..).filter(|_| self.state == State::Live) {
            let command = match &fate {
                Fate::Mark(name) => Command::Played(name),
                Fate::Full => Command::Full,
                Fate::Writable => Command::Writable,
            };
            self.protocol.handle_command(now, command, &mut self.out)?;
        }
        self.told = told;
        Ok(())
    }

    fn returns_marks(&self) -> bool {
        let law = self.start.as_ref().map(|start| start.capabilities.clear);
        law == Some(ClearLaw::ReturnsMarks)
    }

    /// Acts on what the protocol made of what came; only messages to send stay in the outbox.
    fn react(&mut self, now: Instant) -> Result<(), TranslationError> {
        let mut events = std::mem::take(&mut self.events);
        self.out.swap_events(&mut events);
        let mut reacted = Ok(());
        for event in events.drain(..) {
            reacted = self.react_to(now, event);
            if reacted.is_err() {
                break;
            }
        }
        events.clear();
        self.events = events;
        reacted
    }

    fn react_to(&mut self, now: Instant, event: Event) -> Result<(), TranslationError> {
        if self.state != State::Live {
            return Ok(());
        }
        match event {
            Event::Started(start) => return self.begin(start),
            Event::Media(media) => {
                let payload = self.out.octets(&media.payload).to_vec();
                if let Some(speech) = &mut self.speech {
                    speech.play(now, &payload, &mut self.said, &mut self.told)?;
                }
                return self.tell_fates(now);
            }
            Event::MarkRequested(name) => {
                self.with_speech(|speech, said, told| speech.mark(now, name, said, told));
                return self.tell_fates(now);
            }
            Event::ClearRequested => {
                self.with_speech(|speech, said, told| speech.clear(now, said, told));
                self.tell_fates(now)?;
                return self.command(now, Command::Cleared);
            }
            Event::PauseRequested | Event::ResumeRequested => {
                let hold = event == Event::PauseRequested;
                self.with_speech(|speech, said, _| speech.pause(now, hold, said));
            }
            Event::Dtmf { digit, .. } => {
                let digits = digit.as_char().to_string();
                self.say(FromModule::DtmfSend(DtmfSend { digits, ..DtmfSend::default() }));
            }
            Event::HandoffRequested(data) => self.handoff = Some(data),
            Event::HangupRequested => self.hang_up(HangupAfter::Now, "the bot hung up"),
            Event::Stopped(StopCause::Lost) => {
                self.hang_up(HangupAfter::Now, "the bot's stream was lost");
            }
            Event::Stopped(_) => self.hang_up(HangupAfter::Now, "the bot ended the stream"),
            Event::SayRequested { text, language, last } => {
                self.say(FromModule::Say(Say { text, last, language, epoch: None }));
            }
            Event::FileRequested { url, times } => {
                self.say(FromModule::Play(Play { times, ..Play::new(url) }));
            }
            Event::LanguageRequested { speech, recognition } => {
                self.say(FromModule::Language(Languages { speech, recognition }));
            }
            Event::Result(json) => self.pass_result(&json),
            Event::Notice(notice) => {
                let (level, msg) = (LogLevel::Warn, format!("{notice:?}"));
                self.say(FromModule::Log(Log { level, msg, ..Log::default() }));
            }
            // The bridge's own affairs.
            Event::Heard { .. }
            | Event::Interrupted { .. }
            | Event::Spoken(_)
            | Event::Played(_)
            | Event::Cleared
            | Event::Full
            | Event::Writable => {}
        }
        Ok(())
    }

    /// The stream has started, and with it the session.
    fn begin(&mut self, start: Box<Start>) -> Result<(), TranslationError> {
        let can = &start.capabilities;
        let (mut accept, mut want) = (Accept::default(), Vec::new());
        if let Some(format) = start.inbound {
            self.voice = Some(Voice::new(format)?);
            accept.input = Some(AcceptIn::pcm(format.rate.hz()));
            accept.framing = Framing::Hdr16;
        }
        if let Some(format) = start.outbound.filter(|_| !self.session.offer.output.is_empty()) {
            self.speech = Some(Speech::new(format, can, &self.session)?);
            accept.output = Some(AcceptOut::pcm(format.rate.hz()));
        }
        want.extend(can.dtmf_in.then_some("dtmf"));
        want.extend(can.text.then_some("text"));
        want.extend(can.files.then_some("spoken"));
        self.start = Some(start);
        let want = want.into_iter().map(str::to_owned).collect();
        let session = self.session.session.clone();
        self.said.push_back(Said::Ready(Ready { session, accept, want, ..Ready::default() }));
        Ok(())
    }

    fn say(&mut self, message: FromModule) {
        self.said.push_back(Said::Message(message));
    }

    fn hang_up(&mut self, after: HangupAfter, reason: &str) {
        let data = self.handoff.take().map(Value::String);
        self.state = State::HungUp;
        self.say(FromModule::Hangup(Hangup { after, reason: reason.into(), data }));
    }

    /// A bot that has closed its stream hangs up once the call has all that it said.
    fn leave_when_given(&mut self) {
        if self.state == State::Left && self.speech.as_ref().is_none_or(Speech::is_given) {
            self.hang_up(HangupAfter::Playback, "the bot closed its stream");
        }
    }

    /// What a bot found, where its provider takes that: as a module's own words if they are, and by a name of ours if not.
    fn pass_result(&mut self, json: &str) {
        let known = match serde_json::from_str(json) {
            Ok(
                known @ (FromModule::Transcript(_)
                | FromModule::Turn(_)
                | FromModule::Vad(_)
                | FromModule::Dtmf(_)
                | FromModule::Event(_)),
            ) => Some(known),
            _ => None,
        };
        let message = known.unwrap_or_else(|| {
            let data = serde_json::from_str(json).unwrap_or_else(|_| Value::String(json.into()));
            FromModule::Event(NamedEvent { name: "bot.result".into(), data })
        });
        self.say(message);
    }
}

/// Whether a bot of that provider can answer such a call.
fn check(provider: &dyn Provider, start: &ModuleStart) -> Result<(), Reject> {
    let name = provider.name();
    if let Transport::Webhook { .. } = provider.transport() {
        return Err(Reject::unsupported_format(format!(
            "{name} is dialled by its bots, so none of them can be dialled"
        )));
    }
    if provider.has_sound() && start.offer.tracks.is_empty() {
        return Err(Reject::unsupported_format(format!(
            "a bot of {name} speaks and hears sound, and this call carries words"
        )));
    }
    if !provider.has_sound() && !start.carries_text() {
        return Err(Reject::unsupported_format(format!(
            "a bot of {name} speaks and hears words, and this call carries sound"
        )));
    }
    Ok(())
}

/// The configured custom parameters, and of the call's own those that have no such name. Who calls whom is told by other means, and by
/// parameters again where a provider's users would.
fn parameters(bot: &Bot, start: &ModuleStart) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let own = start.call.meta.iter().map(|(name, value)| (name.clone(), text(value)));
    let own = own.filter(|(name, value)| {
        let party = match name.as_str() {
            "from" => &start.call.from,
            "to" => &start.call.to,
            _ => &None,
        };
        let configured = bot.parameters.iter().any(|(configured, _)| configured == name);
        !configured && party.as_ref() != Some(value)
    });
    own.chain(bot.parameters.iter().cloned()).collect()
}

/// Whether a bot of that provider can be dialled at all.
#[must_use]
pub fn can_dial(provider: &dyn Provider) -> bool {
    !matches!(provider.transport(), Transport::Webhook { .. })
}

/// Whether a bot of that provider can speak, and not only listen.
#[must_use]
pub fn can_speak(provider: &dyn Provider) -> bool {
    let can = provider.capabilities();
    can_dial(provider) && (can.text || can.playout != PlayoutPolicy::None)
}
