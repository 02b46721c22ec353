//! Whole calls in virtual time: a provider's end on one side, modules as values on the other, the session between.

mod accounting;
mod detaching;
mod ending;
mod filtering;
mod hearing;
mod places;
mod private;
mod routing;
mod speakers;
mod speaking;
mod telling;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ringback_module::message::{
    Accept, AcceptIn, AcceptOut, Framing, GapReason, Hangup, HangupAfter, Kind, MarkStatus,
    Overflow, Pace, Ready, ReadyCredit, Start as ModuleStart, Transcript, Vad, VadState,
};
use ringback_module::{FromModule, ToModule};
use ringback_proto::Instant;
use ringback_proto::ledger::Drop as Reason;
use ringback_proto::provider::{
    self, Command, Dial, Event, Message, Notice, Options, Outbox, Protocol, Send, Track, Upgrade,
};
use ringback_proto::session::{
    Action, BargeIn, EndReason, Epoch, FrameBuf, Given, OnFail, PortConfig, PortId, Report, Route,
    RouteTable, Session, SessionConfig, Summary,
};

/// A call between a provider's end and a session, with every answer of either kept.
struct Rig {
    now: u64,
    session: Session,
    far: Box<dyn Protocol>,
    /// What the provider's end saw.
    far_events: Vec<Event>,
    /// Octets the provider's end was sent to play.
    played: Vec<u8>,
    /// When the caller will have heard all of it, and marks that are reached by then.
    line_busy_until: u64,
    marks: Vec<(u64, String)>,
    started: HashMap<usize, ModuleStart>,
    told: Vec<(usize, ToModule)>,
    stopped: Vec<usize>,
    /// Times the session wanted the call ended by other means than the wire.
    hang_ups: usize,
    dropped_modules: Vec<usize>,
    /// What the shell keeps to run modules, by its own numbers.
    sources: Option<Vec<usize>>,
    reports: Vec<Report>,
    closed: Option<u16>,
    summary: Option<Summary>,
    /// A stream that starts is not said to be a call of its own.
    holds_claims: bool,
}

fn port(name: &str, speaks: bool) -> PortConfig {
    let kind = if speaks { Kind::Agent } else { Kind::Tap };
    PortConfig { kind, speaks, ..PortConfig::listening(name) }
}

impl Rig {
    fn new(provider: &str, ports: Vec<PortConfig>) -> Self {
        Self::with(provider, |config| config.routes = Route::to(ports).into())
    }

    fn with(provider: &str, set: impl FnOnce(&mut SessionConfig)) -> Self {
        Self::dialled(provider, Dial::default(), set)
    }

    fn dialled(provider: &str, dial: Dial, set: impl FnOnce(&mut SessionConfig)) -> Self {
        let mut rig = Self::connected(provider, dial, set);
        rig.open();
        rig
    }

    /// Before the provider's end says its first word.
    fn connected(provider: &str, dial: Dial, set: impl FnOnce(&mut SessionConfig)) -> Self {
        Self::by(provider, dial, |protocol| protocol, set)
    }

    /// The same over a wire that is made of the provider's.
    fn by(
        provider: &str,
        dial: Dial,
        wire: impl FnOnce(Box<dyn Protocol>) -> Box<dyn Protocol>,
        set: impl FnOnce(&mut SessionConfig),
    ) -> Self {
        let provider = provider::find(provider).expect("a provider of the table");
        let dial = Dial { target: format!("/{}", provider.name()), ..dial };
        let (request, far) = provider.dial(&dial);
        let accepted = request.arrives(|upgrade| provider.accept(upgrade, &Options::default()));
        let accepted = accepted.expect("accepted");
        let mut config = SessionConfig::new("call-1", provider.name());
        set(&mut config);
        let session = Session::new(Instant::ZERO, config, wire(accepted.protocol));
        Self {
            now: 0,
            session,
            far,
            far_events: Vec::new(),
            played: Vec::new(),
            line_busy_until: 0,
            marks: Vec::new(),
            started: HashMap::new(),
            told: Vec::new(),
            stopped: Vec::new(),
            hang_ups: 0,
            dropped_modules: Vec::new(),
            sources: None,
            reports: Vec::new(),
            closed: None,
            summary: None,
            holds_claims: false,
        }
    }

    fn open(&mut self) {
        let mut out = Outbox::new();
        self.far.handle_open(self.at(), &mut out).expect("opens");
        self.carry(&out);
        self.exchange();
    }

    fn at(&self) -> Instant {
        Instant::from_millis(self.now)
    }

    fn carry(&mut self, out: &Outbox) {
        let now = self.at();
        for send in out.sends() {
            match send {
                Send::Text(span) => {
                    self.session.handle_message(now, Message::Text(out.text_of(span)));
                }
                Send::Binary(span) => {
                    self.session.handle_message(now, Message::Binary(out.octets(span)));
                }
                Send::Close(_) => self.session.handle_closed(now, Ok(())),
                other => panic!("nobody dials here: {other:?}"),
            }
        }
    }

    /// Carries everything that waits, both ways, until nothing does.
    fn exchange(&mut self) {
        loop {
            self.actions();
            if self.session.sends().sends().is_empty() {
                return;
            }
            let mut far_out = Outbox::new();
            let now = self.at();
            for send in self.session.sends().sends() {
                let outbox = self.session.sends();
                let message = match send {
                    Send::Text(span) => Message::Text(outbox.text_of(span)),
                    Send::Binary(span) => Message::Binary(outbox.octets(span)),
                    Send::Close(code) => {
                        self.closed = self.closed.or(Some(*code));
                        continue;
                    }
                    other => panic!("nobody dials here: {other:?}"),
                };
                self.far.handle_message(now, message, &mut far_out).expect("far end understands");
            }
            for event in far_out.events() {
                match event {
                    Event::Media(media) => {
                        let octets = far_out.octets(&media.payload);
                        self.line_busy_until =
                            self.line_busy_until.max(self.now) + octets.len() as u64 / 8;
                        self.played.extend(octets);
                    }
                    Event::MarkRequested(name) => {
                        self.marks.push((self.line_busy_until, name.clone()));
                    }
                    other => self.far_events.push(other.clone()),
                }
            }
            self.session.sent(true);
            self.carry(&far_out);
        }
    }

    fn actions(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Claim if self.holds_claims => {}
                Action::Claim => self.session.begin_call(self.at()),
                Action::HangUp => self.hang_ups += 1,
                Action::Routed { ports, sources } => self.routed(ports, sources),
                Action::StartModule { port, source, start } => {
                    let kept = self.sources.as_ref().expect("it is routed first");
                    assert!(kept.contains(&source), "{source} is not among {kept:?}");
                    self.started.insert(port.0, *start);
                }
                Action::TellModule { port, message } => self.told.push((port.0, message)),
                Action::StopModule { port, .. } => self.stopped.push(port.0),
                Action::DropModule { port } => self.dropped_modules.push(port.0),
                Action::Report(report) => self.reports.push(report),
                Action::Ended(summary) => self.summary = Some(*summary),
                other => panic!("unknown action {other:?}"),
            }
        }
    }

    fn routed(&mut self, ports: usize, sources: Vec<usize>) {
        assert!(self.sources.is_none() && self.started.is_empty(), "once, and before any module");
        assert!(ports >= self.session.port_count(), "some may stand by");
        self.sources = Some(sources);
    }

    fn command(&mut self, command: Command<'_>) {
        let mut out = Outbox::new();
        self.far.handle_command(self.at(), command, &mut out).expect("far end can");
        self.carry(&out);
        self.exchange();
    }

    /// A caller's frame of 20 ms.
    fn speak(&mut self, payload: &[u8]) {
        self.command(Command::Media { track: Track::Inbound, payload });
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += 1;
            let now = self.at();
            let due: Vec<(u64, String)> = self
                .marks
                .extract_if(.., |mark| mark.0 <= now.since_epoch().as_millis() as u64)
                .collect();
            for (_, name) in due {
                self.command(Command::Played(&name));
            }
            if self.session.poll_timeout().is_some_and(|at| at <= now) {
                self.session.handle_timeout(now);
                let next = self.session.poll_timeout();
                assert!(
                    next.is_none_or(|at| at > now),
                    "asks to be woken at {next:?}, which is over"
                );
            }
            self.exchange();
        }
    }

    fn ready(&mut self, port: usize, ready: &Ready) {
        self.session.module_ready(self.at(), PortId(port), ready);
        self.exchange();
    }

    fn say(&mut self, port: usize, message: &FromModule) {
        self.session.module_message(self.at(), PortId(port), message);
        self.exchange();
    }

    fn play(&mut self, port: usize, samples: &[i16]) {
        self.session.module_audio(self.at(), PortId(port), Epoch::Current, samples);
        self.exchange();
    }

    /// All frames that wait for a module: positions, samples.
    fn frames(&mut self, port: usize) -> Vec<(u64, Vec<i16>)> {
        let mut frames = Vec::new();
        let mut buffer = FrameBuf::default();
        while let Some(given) = self.session.next_frame(PortId(port), &mut buffer) {
            match given {
                Given::Sound(frame) => frames.push((frame.pts, frame.samples.to_vec())),
                Given::Gap(gap) => self.told.push((port, gap)),
            }
        }
        frames
    }

    /// Lets all modules finish and checks the call's last account.
    fn finish(&mut self) -> Summary {
        for port in std::mem::take(&mut self.stopped) {
            while !self.frames(port).is_empty() {}
            self.session.module_message(
                self.at(),
                PortId(port),
                &FromModule::Done { stats: Default::default() },
            );
        }
        self.exchange();
        self.run(4_000);
        let summary = self.summary.clone().expect("the call ended");
        let unbalanced: Vec<String> =
            summary.ledger.unbalanced().map(ToString::to_string).collect();
        assert!(unbalanced.is_empty(), "{unbalanced:#?}");
        summary
    }
}

fn listens(rate: u32) -> Ready {
    Ready {
        accept: Accept { input: Some(AcceptIn::pcm(rate)), ..Accept::default() },
        ..Ready::default()
    }
}

fn speaks(pace: Pace) -> Ready {
    let output = AcceptOut { pace, ..AcceptOut::pcm(8_000) };
    Ready {
        accept: Accept {
            input: Some(AcceptIn::pcm(8_000)),
            output: Some(output),
            ..Accept::default()
        },
        ..Ready::default()
    }
}

fn ramp(frame: usize) -> Vec<u8> {
    (0..160).map(|i| 0x80 | ((frame * 7 + i) % 0x7f) as u8).collect()
}

fn transcript(text: &str) -> FromModule {
    FromModule::Transcript(Transcript {
        id: "u1".into(),
        text: text.into(),
        is_final: true,
        ..Default::default()
    })
}
