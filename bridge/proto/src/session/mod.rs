//! A call as a value: told messages, module answers and the time, it says what to send, what to tell modules and when to wake it.
//!
//! It owns the protocol's end of the wire and everything between wire and modules. It runs no module and opens no socket: the
//! shell moves octets, hands [`Session::next_frame`] to whoever hosts a module, and reads the clock once per wake-up.

mod barge_in;
mod consent;
mod detach;
mod fallback;
mod filters;
mod media;
mod missed;
mod modules;
mod offer;
mod port;
mod private;
mod route;
mod speech;
mod state;
mod summary;
mod telling;
mod track;
mod words;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ringback_module::ToModule;
use ringback_module::message::{
    ConsentGiven, Dtmf, ErrorReport, Event as NamedEvent, Limits, Log, Metric, Say, StopReason,
    Transcript, Turn, Vad,
};

use crate::Instant;
use crate::ledger::Drop;
use crate::media::filter::Bypass;
use crate::media::playout::PlayoutLimits;
use crate::media::timeline::TimelinePolicy;
use crate::provider::{
    Command, Event, HangupLaw, Line, LineEvent, Message, Notice, Outbox, Protocol, ProtocolError,
    Send, Start, StopCause,
};

pub use barge_in::BargeIn;
pub use detach::Takeover;
pub use modules::{FrameBuf, Given};
pub use port::{OnFail, PortConfig, PortId};
pub use private::{PrivateBy, PrivateCounts, PrivateRule};
pub use route::{Canary, Route, RouteTable, Share};
pub use speech::Epoch;
pub use state::EndReason;
pub use summary::{ModuleSummary, Summary};

use media::MediaPath;
use port::{BUSY, Port, PortPhase};
use state::Phase;

/// Room for things to do that is kept while there are none.
const ACTIONS_KEPT: usize = 2;

/// What a call keeps to.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionConfig {
    /// Our name for the call, unique.
    pub call: String,
    /// Name of the provider.
    pub provider: &'static str,
    /// Wall clock at the beginning, RFC 3339; a label.
    pub wall: String,
    /// How order is repaired.
    pub timeline: TimelinePolicy,
    /// How playback is paced.
    pub playout: PlayoutLimits,
    /// What modules are held to.
    pub limits: Limits,
    /// The stream must start within.
    pub start_timeout: Duration,
    /// A call may last this long.
    pub max_duration: Duration,
    /// A call that lost its stream waits so long for another ([`Session::reattach`]), and [`Action::Claim`] asks about each that starts.
    pub reattach: Option<Duration>,
    /// There is no place for another call: the shell is asked whatever starts, and [`Session::begin_call`] is not its answer.
    pub guest: bool,
    /// A hang-up for which the wire has no message is the shell's, who has so long; `None` only closes the stream.
    pub hang_up_within: Option<Duration>,
    /// Routes of the listener; the first that takes the call says which modules it gets.
    pub routes: Arc<RouteTable>,
    /// Header fields of the request for the stream, as [`RouteTable::headers_of`] keeps them.
    pub headers: Vec<(String, String)>,
    /// Whose call it is; a label.
    pub tenant: Option<Arc<str>>,
}

impl SessionConfig {
    /// Sensible limits for a call without modules.
    #[must_use]
    pub fn new(call: impl Into<String>, provider: &'static str) -> Self {
        Self {
            call: call.into(),
            provider,
            wall: String::new(),
            timeline: TimelinePolicy::default(),
            playout: PlayoutLimits::default(),
            limits: Limits::default(),
            start_timeout: Duration::from_secs(5),
            max_duration: Duration::from_secs(4 * 3_600),
            reattach: None,
            guest: false,
            hang_up_within: None,
            routes: Route::default().into(),
            headers: Vec::new(),
            tenant: None,
        }
    }
}

/// What the shell is to do, beside sending [`Session::sends`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// The stream started as [`Session::claiming`] says. If another session has that call, give it what [`Session::hand_over`] gives
    /// ([`Session::reattach`]); else say [`Session::begin_call`].
    Claim,
    /// The call has so many ports, and only these of the shell's numbers will be asked for: what runs the modules of other routes
    /// can be let go. At most once, before any module is started.
    Routed {
        /// How many ports.
        ports: usize,
        /// [`PortConfig::source`] of all that may run on them.
        sources: Vec<usize>,
    },
    /// Start a module's session, or start it again after it went down.
    StartModule {
        /// Which.
        port: PortId,
        /// What runs it.
        source: usize,
        /// What to tell it.
        start: Box<ringback_module::message::Start>,
    },
    /// Tell a module.
    TellModule {
        /// Which.
        port: PortId,
        /// What.
        message: ToModule,
    },
    /// End a module's session: give it the sound that [`Session::next_frame`] still has, then this.
    StopModule {
        /// Which.
        port: PortId,
        /// Why.
        reason: StopReason,
        /// How long it may take.
        deadline: Duration,
    },
    /// Tear a module down at once; it did not answer in time or failed for good.
    DropModule {
        /// Which.
        port: PortId,
    },
    /// A module or an operator hung up, and the wire has no message for it: end the call by other means, then say [`Session::hung_up`].
    /// The stream stays open until then, for [`SessionConfig::hang_up_within`].
    HangUp,
    /// Worth telling people.
    Report(Report),
    /// The call is over; the last action.
    Ended(Box<Summary>),
}

/// What happens on a call, for logs, counters and whoever watches.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Report {
    /// The stream started.
    Started(Box<Start>),
    /// The stream was lost; another one may go on with the call for so long.
    Detached {
        /// What was seen.
        reason: String,
        /// How long.
        window: Duration,
    },
    /// Another stream goes on with the call.
    Reattached {
        /// Since the other one was lost; zero if it was not.
        away: Duration,
        /// Whether the other one was still there.
        replaced: bool,
    },
    /// A module agreed to the session.
    ModuleReady(PortId),
    /// A module failed; the call goes on.
    ModuleFailed {
        /// Which.
        port: PortId,
        /// Why.
        reason: String,
        /// Whether it may come back.
        retrying: bool,
    },
    /// A module that failed is followed by another.
    FellBack {
        /// Which failed.
        failed: PortId,
        /// Which takes its place.
        to: PortId,
    },
    /// Words heard, by a module or by the provider (`None`).
    Transcript(Option<PortId>, Transcript),
    /// Words a module had the provider speak.
    Said(PortId, Say),
    /// A turn.
    Turn(PortId, Turn),
    /// Speech or silence.
    Vad(PortId, Vad),
    /// A key, from the provider (`None`) or heard by a module.
    Dtmf(Option<PortId>, Dtmf),
    /// Something a module named.
    Event(PortId, NamedEvent),
    /// A log line of a module.
    Log(PortId, Log),
    /// A figure of a module.
    Metric(PortId, Metric),
    /// A module reports trouble.
    Error(PortId, ErrorReport),
    /// Playback was cleared.
    Cleared {
        /// What the caller heard and what not.
        cleared: ringback_module::message::Cleared,
        /// Who did it; `None` is the barge-in policy, ours or the provider's.
        by: Option<PortId>,
    },
    /// Sound was dropped.
    Dropped {
        /// Why.
        reason: Drop,
        /// How many messages or samples.
        count: u64,
    },
    /// Sound passed a filter as it was. Told once it is filtered again, or of each second.
    Bypassed {
        /// Which filter.
        port: PortId,
        /// Why.
        why: Bypass,
        /// How many samples.
        count: u64,
    },
    /// A private part of the call began or ended.
    Private {
        /// Whether it began.
        began: bool,
        /// When, in ms of the call.
        at_ms: u64,
        /// By whom.
        by: PrivateBy,
    },
    /// A private part was begun that had begun: it lasts as long as it may from now on.
    PrivateAgain(PrivateBy),
    /// The caller agreed to be recorded, or no longer does.
    Consent(ConsentGiven),
    /// An oddity of the wire.
    Notice(Notice),
}

/// One call.
pub struct Session {
    config: SessionConfig,
    protocol: Box<dyn Protocol>,
    phase: Phase,
    /// The route that takes the call, once it started.
    route: Option<usize>,
    ports: Vec<Port>,
    media: Option<MediaPath>,
    /// Where the provider recognises speech and speaks by itself.
    words: Option<Box<words::Words>>,
    /// What whoever goes on with the call is to get.
    handoff: Option<Box<str>>,
    start: Option<Box<Start>>,
    /// The stream has started, and is perhaps another call's.
    claim: Option<Box<detach::Claim>>,
    /// Times another stream went on.
    reattached: u32,
    /// Events and replies of the message being handled.
    inbox: Outbox,
    outbox: Outbox,
    actions: VecDeque<Action>,
    barge_in: barge_in::State,
    /// Of a call with private parts, or keys that begin them.
    private: Option<Box<private::Private>>,
    /// What is known of the caller's consent to be recorded.
    consent: Option<Box<ConsentGiven>>,
    wire: WireCounts,
    closed: bool,
    /// The stream is over, and the wire's good-byes are being said.
    parting: bool,
    /// The stream is over, and so long the shell may take to hang up.
    hanging_up: Option<Instant>,
    now: Instant,
    ended_after: Duration,
    ended_by: &'static str,
}

/// Media messages at the wire.
#[derive(Debug, Default)]
struct WireCounts {
    arrived: u64,
    taken: u64,
    early: u64,
    after_end: u64,
    emitted: u64,
    /// Of those in the outbox now.
    pending: u64,
    sent: u64,
    send_failed: u64,
}

impl Session {
    /// A call whose stream was just accepted.
    #[must_use]
    pub fn new(now: Instant, config: SessionConfig, protocol: Box<dyn Protocol>) -> Self {
        let phase = Phase::AwaitingStart { deadline: now + config.start_timeout };
        let mut session = Self {
            config,
            protocol,
            phase,
            route: None,
            ports: Vec::new(),
            media: None,
            words: None,
            handoff: None,
            start: None,
            claim: None,
            reattached: 0,
            inbox: Outbox::new(),
            outbox: Outbox::new(),
            actions: VecDeque::new(),
            barge_in: barge_in::State::new(None),
            private: None,
            consent: None,
            wire: WireCounts::default(),
            closed: false,
            parting: false,
            hanging_up: None,
            now,
            ended_after: Duration::ZERO,
            ended_by: "",
        };
        session.with_protocol(now, |protocol, inbox| protocol.handle_open(now, inbox));
        session
    }

    /// A message came off the wire.
    pub fn handle_message(&mut self, now: Instant, message: Message<'_>) {
        self.take(now, true, |protocol, inbox| protocol.handle_message(now, message, inbox));
    }

    /// Something happened on a line that was dialled for the stream ([`Send::Dial`]).
    pub fn handle_line(&mut self, now: Instant, line: Line, event: LineEvent<'_>) {
        let is_message = matches!(event, LineEvent::Message(_));
        self.take(now, is_message, |protocol, inbox| protocol.handle_line(now, line, event, inbox));
    }

    /// Hands on what came, as long as somebody listens to it.
    fn take(
        &mut self,
        now: Instant,
        is_message: bool,
        act: impl FnOnce(&mut dyn Protocol, &mut Outbox) -> Result<(), ProtocolError>,
    ) {
        self.begin_call(now);
        if self.parting {
            return self.part(now, act);
        }
        if self.phase.is_over() {
            return self.came_late(u64::from(is_message));
        }
        self.with_protocol(now, act);
    }

    /// The socket is gone: closed by the other end (`Ok`) or broken.
    pub fn handle_closed(&mut self, now: Instant, how: Result<(), String>) {
        self.now = now;
        self.closed = true;
        self.parting = false;
        self.hanging_up = None;
        let reason = match how {
            Ok(()) => EndReason::Remote,
            Err(reason) => EndReason::Socket { reason },
        };
        self.end(now, reason);
        self.settle(now);
    }

    /// The shell wants the call to end `within` this time: the bridge shuts down.
    pub fn shut_down(&mut self, now: Instant, within: Duration) {
        self.now = now;
        let within = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.config.limits.stop_ms = self.config.limits.stop_ms.min(within);
        if let Phase::Draining { deadline, .. } = &mut self.phase {
            *deadline = (*deadline).min(now + Duration::from_millis(within));
        }
        if std::mem::take(&mut self.parting) || self.hanging_up.take().is_some() {
            self.outbox.close(EndReason::Drain.close_code());
        }
        self.end(now, EndReason::Drain);
        self.settle(now);
    }

    /// Time passed; call at or after [`Session::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.protocol_timeout().is_some_and(|at| at <= now) {
            if self.parting {
                self.part(now, |protocol, inbox| protocol.handle_timeout(now, inbox));
            } else {
                self.with_protocol(now, |protocol, inbox| protocol.handle_timeout(now, inbox));
            }
        }
        if let Some(media) = &mut self.media {
            media.handle_timeout(now);
        }
        if self.phase.is_live() {
            self.run_filters(now);
            self.end_private_when_due(now);
        }
        if self.hanging_up.is_some_and(|at| at <= now) {
            self.close_after_hanging_up();
        }
        if self.phase_deadline().is_some_and(|at| at <= now) {
            self.deadline_passed(now);
        }
        self.settle(now);
    }

    fn protocol_timeout(&self) -> Option<Instant> {
        let tells = self.parting || !self.phase.is_over();
        self.protocol.poll_timeout().filter(|_| tells)
    }

    /// Once all modules have said their last words, only the wire is waited for, and that has its own patience.
    fn phase_deadline(&self) -> Option<Instant> {
        let waits = !self.phase.is_over() || !self.ports_in(&BUSY).is_empty();
        self.phase.deadline().filter(|_| waits)
    }

    fn deadline_passed(&mut self, now: Instant) {
        match &self.phase {
            Phase::AwaitingStart { .. } => self.end(now, EndReason::NoStart),
            Phase::Streaming { .. } => self.end(now, EndReason::TooLong),
            Phase::Detached { .. } => self.give_up_waiting(now),
            Phase::Finishing { reason, .. } => {
                let reason = reason.clone();
                self.end(now, reason);
            }
            Phase::Draining { .. } => {
                for port in self.ports_in(&BUSY) {
                    self.port_gone(port, Some("did not finish in time".into()));
                    self.actions.push_back(Action::DropModule { port });
                }
            }
            Phase::Ended => {}
        }
    }

    /// When to call [`Session::handle_timeout`] if nothing else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let over = self.phase.is_over();
        let protocol = self.protocol_timeout();
        let media = if over { None } else { self.media.as_ref().and_then(MediaPath::poll_timeout) };
        let barge_in = if self.phase.is_live() { self.barge_in.poll_timeout() } else { None };
        let spoken =
            if let Phase::Finishing { .. } = self.phase { self.speaking_until() } else { None };
        let private = if self.phase.is_live() { self.private_deadline() } else { None };
        [protocol, media, self.phase_deadline(), barge_in, spoken, self.hanging_up, private]
            .into_iter()
            .flatten()
            .min()
    }

    /// What is to be sent, in order, since the last [`Session::sent`].
    #[must_use]
    pub fn sends(&self) -> &Outbox {
        &self.outbox
    }

    /// Everything in [`Session::sends`] went out, or could not.
    pub fn sent(&mut self, delivered: bool) {
        let pending = std::mem::take(&mut self.wire.pending);
        if delivered {
            self.wire.sent += pending;
        } else {
            self.wire.send_failed += pending;
        }
        self.outbox.reset();
    }

    /// What else is to be done, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if action.is_none() {
            // A call begins with more at once than it ever has later.
            self.actions.shrink_to(ACTIONS_KEPT);
        }
        action
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// Whether the stream is over and modules say their last words.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase.is_over()
    }

    /// Lets the protocol act and takes in what it saw.
    fn with_protocol(
        &mut self,
        now: Instant,
        act: impl FnOnce(&mut dyn Protocol, &mut Outbox) -> Result<(), ProtocolError>,
    ) {
        self.now = now;
        let mut inbox = std::mem::take(&mut self.inbox);
        let result = act(self.protocol.as_mut(), &mut inbox);
        let claim = self.take_events(now, &inbox, 0);
        absorb(&mut self.outbox, &inbox);
        if let Some(at) = claim {
            self.ask(inbox, at);
        } else {
            inbox.reset();
            self.inbox = inbox;
        }
        if let Err(error) = result {
            self.end(now, EndReason::Protocol(error));
        }
        self.settle(now);
    }

    /// Lets the protocol say its good-byes: what it hears now is nobody's any more, what it answers is sent.
    fn part(
        &mut self,
        now: Instant,
        act: impl FnOnce(&mut dyn Protocol, &mut Outbox) -> Result<(), ProtocolError>,
    ) {
        let mut inbox = std::mem::take(&mut self.inbox);
        let result = act(self.protocol.as_mut(), &mut inbox);
        let late = |event: &&Event| matches!(event, Event::Notice(Notice::Late { .. }));
        self.came_late(inbox.events().iter().filter(late).count() as u64);
        absorb(&mut self.outbox, &inbox);
        inbox.reset();
        self.inbox = inbox;
        if let Err(error) = &result {
            self.outbox.close(error.close_code());
        }
        self.parting = result.is_ok() && self.protocol.is_parting();
        self.settle(now);
    }

    fn handle_event(&mut self, now: Instant, event: &Event, inbox: &Outbox) {
        match event {
            Event::Media(media) => self.handle_media(now, media, inbox.octets(&media.payload)),
            Event::Started(start) => self.handle_started(now, start),
            Event::Dtmf { digit, duration } => self.handle_digit(now, *digit, *duration),
            Event::Played(mark) => {
                if let Some(playout) = self.playout() {
                    playout.handle_played(now, mark);
                }
            }
            Event::Full | Event::Writable => {
                if let Some(playout) = self.playout() {
                    playout.handle_full(matches!(event, Event::Full));
                }
            }
            Event::Heard { text, language, last } => {
                self.handle_words(now, text, language.as_deref(), *last);
            }
            Event::Interrupted { heard, after } => {
                self.handle_interrupted(now, heard.as_deref(), *after);
            }
            Event::Spoken(text) => self.handle_spoken(text),
            Event::Stopped(StopCause::Lost) => {
                let reason = "a line was lost and could not be dialled again in time".into();
                self.end(now, EndReason::Socket { reason });
            }
            Event::Stopped(_) => self.end(now, EndReason::Remote),
            Event::Notice(notice) => self.handle_notice(notice),
            Event::Cleared
            | Event::MarkRequested(_)
            | Event::ClearRequested
            | Event::PauseRequested
            | Event::ResumeRequested
            | Event::HangupRequested
            | Event::SayRequested { .. }
            | Event::FileRequested { .. }
            | Event::LanguageRequested { .. }
            | Event::HandoffRequested(_)
            | Event::Result(_) => {}
        }
    }

    fn handle_notice(&mut self, notice: &Notice) {
        if matches!(notice, Notice::EarlyMedia { .. } | Notice::Early { .. }) {
            self.wire.arrived += 1;
            self.wire.early += 1;
        }
        // Behind the stop, in the same message.
        self.came_late(u64::from(matches!(notice, Notice::Late { .. })));
        self.report(Report::Notice(notice.clone()));
    }

    fn came_late(&mut self, messages: u64) {
        self.wire.arrived += messages;
        self.wire.after_end += messages;
    }

    fn report(&mut self, report: Report) {
        self.actions.push_back(Action::Report(report));
    }

    /// Ends the stream, once: closes the wire, stops modules.
    fn end(&mut self, now: Instant, reason: EndReason) {
        if self.phase.is_over() {
            return;
        }
        self.claim = None;
        self.ended_after = self.lasted(now);
        self.close_private(now);
        if let Some(media) = &mut self.media {
            media.finish(now);
        }
        self.run_filters(now);
        self.end_filters();
        if !self.closed {
            self.hanging_up = self.hang_up_elsewhere(&reason).map(|within| now + within);
            if self.hanging_up.is_some() {
                self.actions.push_back(Action::HangUp);
            } else {
                if reason.is_ours() {
                    let handoff = self.handoff.take();
                    let hangup = handoff.as_deref().map_or(Command::Hangup, Command::Handoff);
                    self.command_quietly(now, hangup);
                }
                self.parting = self.protocol.is_parting();
                if !self.parting {
                    self.outbox.close(reason.close_code());
                }
            }
        }
        self.ended_by = reason.name();
        let stop = state::stop_reason(&reason);
        let deadline = Duration::from_millis(self.config.limits.stop_ms);
        self.phase = Phase::Draining { deadline: now + deadline, reason };
        self.stop_ports(stop, deadline);
    }

    /// How long the shell has to end the call by other means than the wire, if it is to.
    fn hang_up_elsewhere(&self, reason: &EndReason) -> Option<Duration> {
        let started = self.start.as_ref()?;
        let silent = started.capabilities.hangup == HangupLaw::Close;
        self.config.hang_up_within.filter(|_| reason.is_ours() && silent)
    }

    /// The call was ended by other means, or could not be: closes the stream. For [`Action::HangUp`].
    pub fn hung_up(&mut self, now: Instant) {
        self.close_after_hanging_up();
        self.settle(now);
    }

    fn close_after_hanging_up(&mut self) {
        if self.hanging_up.take().is_some()
            && let Phase::Draining { reason, .. } = &self.phase
        {
            self.outbox.close(reason.close_code());
        }
    }

    /// Sends a command whose failure no longer matters.
    fn command_quietly(&mut self, now: Instant, command: Command<'_>) {
        let _ = self.protocol.handle_command(now, command, &mut self.outbox);
    }

    /// Runs what follows from anything that happened: playback, barge-in, the end.
    fn settle(&mut self, now: Instant) {
        self.now = now;
        if self.phase.is_live() {
            self.run_barge_in(now);
            self.run_playout(now);
            self.finish_when_played(now);
        }
        let waits = self.parting || self.hanging_up.is_some();
        let said_all = matches!(self.phase, Phase::Draining { .. }) && !waits;
        if said_all && self.ports_in(&BUSY).is_empty() {
            let summary = self.summary();
            self.phase = Phase::Ended;
            self.actions.push_back(Action::Ended(Box::new(summary)));
        }
    }

    fn finish_when_played(&mut self, now: Instant) {
        let Phase::Finishing { reason, .. } = &self.phase else { return };
        let reason = reason.clone();
        let speaking = self.speaking_until().is_some();
        if !speaking && !self.voices().is_some_and(|voices| voices.is_active(now)) {
            self.end(now, reason);
        }
    }

    /// When the provider will have spoken what it was given, by estimate.
    fn speaking_until(&self) -> Option<Instant> {
        self.words.as_ref()?.speaking_until(self.now)
    }

    fn ports_in(&self, phases: &[PortPhase]) -> Vec<PortId> {
        let matching = self.ports.iter().enumerate().filter(|(_, p)| phases.contains(&p.phase));
        matching.map(|(index, _)| PortId(index)).collect()
    }

    /// When the call's first sample began, once it came: time 0 of the media clock.
    #[must_use]
    pub fn origin(&self) -> Option<Instant> {
        self.media.as_ref().and_then(MediaPath::origin)
    }

    /// Why the stream is being closed, in one word for the other end.
    #[must_use]
    pub fn close_reason(&self) -> &'static str {
        self.ended_by
    }

    /// How many modules are on the call, those left out that only stand by.
    #[must_use]
    pub fn port_count(&self) -> usize {
        self.ports.iter().filter(|port| port.took_part()).count()
    }

    /// Name of the route that took the call, once it started and one did.
    #[must_use]
    pub fn route(&self) -> Option<&str> {
        self.chosen().map(|route| &*route.name)
    }

    fn chosen(&self) -> Option<&Route> {
        self.config.routes.get(self.route?)
    }

    /// Sound kept for modules that are late or come back.
    fn kept(&self) -> Duration {
        self.chosen().map_or(Duration::ZERO, |route| route.keep)
    }

    /// Whose call it is.
    #[must_use]
    pub fn tenant(&self) -> Option<&Arc<str>> {
        self.config.tenant.as_ref()
    }

    /// Name of the provider.
    #[must_use]
    pub fn provider(&self) -> &'static str {
        self.config.provider
    }

    /// The provider's name for the call, once it told one.
    #[must_use]
    pub fn provider_call(&self) -> Option<&str> {
        self.start.as_ref().and_then(|start| start.call.as_deref())
    }

    /// Name of a port's module.
    #[must_use]
    pub fn port_name(&self, port: PortId) -> &str {
        self.ports.get(port.0).map_or("", |p| &p.config.name)
    }
}

/// Queues what the protocol answered by itself behind what is queued already.
fn absorb(outbox: &mut Outbox, from: &Outbox) {
    for send in from.sends() {
        match send {
            Send::Text(span) => outbox.text(|out| out.extend_from_slice(from.octets(span))),
            Send::Binary(span) => outbox.binary(|out| out.extend_from_slice(from.octets(span))),
            Send::Close(code) => outbox.close(*code),
            Send::Dial(line, url) => outbox.dial(*line, from.text_of(url)),
            Send::Drop(line) => outbox.drop_line(*line),
            Send::TextOn(line, span) => {
                outbox.text_on(*line, |out| out.extend_from_slice(from.octets(span)));
            }
        }
    }
}
