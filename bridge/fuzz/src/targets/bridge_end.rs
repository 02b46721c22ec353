//! The bridge's end of every provider under a whole session: scripts of messages, module answers, time and endings. Whatever they
//! say, the call ends in time and every hop of its ledger adds up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use ringback_module::FromModule;
use ringback_module::message::{
    Accept, AcceptIn, AcceptOut, Kind, Overflow, Pace, Ready, ReadyCredit, Reject,
};
use ringback_proto::Instant;
use ringback_proto::ledger::Drop;
use ringback_proto::media::mixer::WhenBoth;
use ringback_proto::provider::{
    App, EarlyMedia, Line, LineEvent, Message, Options, Provider, Secret, Send, Transport, Upgrade,
};
use ringback_proto::session::{
    Action, BargeIn, Epoch, FrameBuf, OnFail, PortConfig, PortId, Route, Session, SessionConfig,
    Summary,
};
use ringback_proto::transcript::{Direction, Wire};

use crate::lawful::{Heard, Lawful};
use crate::script::{self, Draft, Script};
use crate::seeds;

/// Steps of a script that are taken; what is behind them tells nothing new.
const MOST_STEPS: usize = 400;
/// Time that may pass in a script, all waits together, where it is about time.
const LONGEST: Duration = Duration::from_secs(30);
/// Wake-ups within which a call that ends has ended.
const MOST_WAKES: usize = 20_000;
/// Sound that a module plays at once, in samples.
const MOST_SAMPLES: usize = 8_000;

/// Kinds of steps, by their numbers.
mod step {
    pub(super) const TEXT: u8 = 0;
    pub(super) const BINARY: u8 = 1;
    pub(super) const WAIT: u8 = 2;
    pub(super) const ON_LINE: u8 = 3;
    pub(super) const LINE: u8 = 4;
    pub(super) const MODULE: u8 = 5;
    pub(super) const FRAMES: u8 = 6;
    pub(super) const HUNG_UP: u8 = 7;
    pub(super) const COUNT: u8 = 9;
}

/// Runs a script against `provider`.
pub(super) fn run(provider: &'static dyn Provider, octets: &[u8]) {
    let mut script = Script::new(octets);
    let most = script::time(octets.len(), LONGEST);
    let begun = Rig::begin(provider, &mut script, Instant::ZERO + most);
    let Some(mut call) = begun else { return };
    for _ in 0..MOST_STEPS {
        if script.is_over() || call.ended.is_some() {
            break;
        }
        call.step(&mut script);
        call.settle();
    }
    call.finish();
}

/// A call with nobody at its other end, and modules that say what the script says.
struct Rig {
    session: Session,
    now: Instant,
    /// No time passes behind it, but what the end takes.
    end: Instant,
    /// What the script wants of the end: bit 0 a broken line, bit 1 writes that fail.
    manners: u8,
    heard: Heard,
    /// Messages delivered behind the end, each of which is counted.
    after: u64,
    ports: usize,
    stopping: BTreeSet<usize>,
    ended: Option<Box<Summary>>,
}

impl Rig {
    fn begin(
        provider: &'static dyn Provider,
        script: &mut Script<'_>,
        end: Instant,
    ) -> Option<Self> {
        let (flags, manners, target) = (script.octet(), script.octet(), script.text());
        let options = options(provider, flags);
        let protocol = accept(provider, &target, &options)?;
        let heard = Heard::default();
        let protocol = Lawful::new(protocol, Arc::clone(&heard));
        let mut config = SessionConfig::new("call-1", provider.name());
        let ports = ports(manners);
        let count = ports.len();
        config.routes = Route {
            barge_in: (manners & 4 != 0)
                .then_some(BargeIn { min_speech: Duration::from_millis(100) }),
            when_both: if manners & 8 != 0 { WhenBoth::Mix } else { WhenBoth::default() },
            ..Route::to(ports)
        }
        .into();
        config.hang_up_within = (flags & 32 != 0).then_some(Duration::from_secs(3));
        let session = Session::new(Instant::ZERO, config, Box::new(protocol));
        let mut rig = Self {
            session,
            now: Instant::ZERO,
            end,
            manners,
            heard,
            after: 0,
            ports: count,
            stopping: BTreeSet::new(),
            ended: None,
        };
        rig.settle();
        Some(rig)
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.octet() % step::COUNT {
            step::TEXT => {
                let text = script.text();
                self.count_late();
                self.session.handle_message(self.now, Message::Text(&text));
            }
            step::BINARY => {
                self.count_late();
                self.session.handle_message(self.now, Message::Binary(script.piece()));
            }
            step::WAIT => self.wait(Duration::from_millis(script.number().into())),
            step::ON_LINE => {
                let (line, text) = (line(script), script.text());
                self.count_late();
                let event = LineEvent::Message(Message::Text(&text));
                self.session.handle_line(self.now, line, event);
            }
            step::LINE => {
                let (line, lost) = (line(script), script.octet() % 2 == 1);
                let event =
                    if lost { LineEvent::Lost { reason: "cut" } } else { LineEvent::Opened };
                self.session.handle_line(self.now, line, event);
            }
            step::MODULE => self.module(script),
            step::FRAMES => self.frames(usize::from(script.octet()), 50),
            step::HUNG_UP => self.session.hung_up(self.now),
            _ => self.session.shut_down(self.now, Duration::from_millis(script.number().into())),
        }
    }

    /// Messages that come behind the end are told of by nobody, and counted all the same.
    fn count_late(&mut self) {
        self.after += u64::from(self.session.is_over());
    }

    fn module(&mut self, script: &mut Script<'_>) {
        let id = PortId(usize::from(script.octet()) % (self.ports + 1));
        let (now, session) = (self.now, &mut self.session);
        match script.octet() % 13 {
            0 => session.module_ready(now, id, &ready(script)),
            1 | 2 => {
                let samples = samples(script);
                let epoch = match script.octet() % 4 {
                    0 => Epoch::Unnumbered,
                    1 => Epoch::Numbered(script.octet().into()),
                    _ => Epoch::Current,
                };
                session.module_audio(now, id, epoch, &samples);
            }
            3 => {
                let at = Some(u64::from(script.number())).filter(|at| at % 7 != 0);
                session.filter_audio(now, id, at, &samples(script));
            }
            4 => session.module_down(now, id, "it crashed"),
            5 => session.restart_module(now, id),
            6 => session.module_gone(now, id, Some("it is gone".into())),
            7 => session.module_gone(now, id, None),
            8 => session.module_rejected(now, id, &Reject::bad_config("no")),
            9 => session.module_dropped(now, id, Drop::Overflow, script.number().into()),
            10 => session.module_reads(now, id),
            11 => session.module_message(now, id, &FromModule::Mark { name: script.text() }),
            _ => {
                if let Ok(message) = serde_json::from_slice(script.piece()) {
                    session.module_message(now, id, &message);
                }
            }
        }
    }

    /// Lets a module read.
    fn frames(&mut self, port: usize, most: usize) {
        let (port, mut frame) = (PortId(port % (self.ports + 1)), FrameBuf::default());
        for _ in 0..most {
            if self.session.next_frame(port, &mut frame).is_none() {
                return;
            }
        }
    }

    /// Lets time pass, and wakes the session whenever it wants to be woken.
    fn wait(&mut self, time: Duration) {
        let until = (self.now + time).min(self.end);
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= until) {
            self.wake(at);
            if self.ended.is_some() {
                break;
            }
        }
        self.now = self.now.max(until);
    }

    fn wake(&mut self, at: Instant) {
        self.now = self.now.max(at);
        self.session.handle_timeout(self.now);
        let next = self.session.poll_timeout();
        let rests = next.is_none_or(|next| next > self.now);
        assert!(rests, "told that it is {:?}, the session asks for {next:?}", self.now);
        self.settle();
    }

    /// Does what the session asks for.
    fn settle(&mut self) {
        while let Some(action) = self.session.poll_action() {
            assert!(self.ended.is_none(), "after the end comes {action:?}");
            match action {
                Action::Routed { ports, .. } => assert_eq!(ports, self.ports),
                Action::StopModule { port, .. } => drop(self.stopping.insert(port.0)),
                Action::TellModule { port, message } if port.0 == 1 => {
                    self.session.message_refused(self.now, port, &message);
                }
                Action::Ended(summary) => self.ended = Some(summary),
                _ => {}
            }
        }
        if !self.session.sends().sends().is_empty() {
            let out = self.session.sends();
            for send in out.sends() {
                if let Send::Text(span) | Send::TextOn(_, span) = send {
                    assert_eq!(out.text_of(span).as_bytes(), out.octets(span));
                }
            }
            self.session.sent(self.manners & 2 == 0);
        }
    }

    /// Ends the call, and looks at its last account.
    fn finish(mut self) {
        let how = if self.manners & 1 == 0 { Ok(()) } else { Err("cut".into()) };
        self.session.handle_closed(self.now, how);
        self.settle();
        for port in std::mem::take(&mut self.stopping) {
            self.frames(port, 1_000);
            let done = FromModule::Done { stats: serde_json::Map::default() };
            self.session.module_message(self.now, PortId(port), &done);
            self.settle();
        }
        for _ in 0..MOST_WAKES {
            if self.ended.is_some() {
                break;
            }
            let at = self.session.poll_timeout();
            self.wake(at.expect("a call that has to end wants to be woken"));
        }
        let summary = self.ended.expect("a call that has to end has ended");
        assert!(self.session.is_ended());
        let unbalanced: Vec<_> = summary.ledger.unbalanced().map(ToString::to_string).collect();
        assert!(unbalanced.is_empty(), "{unbalanced:?}");
        let heard = self.heard.load(Relaxed);
        let counted = summary.frames_in;
        assert!(
            (heard..=heard + self.after).contains(&counted),
            "{heard} messages of sound came, {counted} are in the account, {} came late",
            self.after
        );
    }
}

/// The listener's settings by the bits of `flags`.
fn options(provider: &dyn Provider, flags: u8) -> Options {
    let format = provider.formats().get(usize::from(flags >> 6)).copied();
    Options {
        inbound_format: format.filter(|_| flags & 1 != 0),
        outbound_format: format.filter(|_| flags & 2 != 0),
        one_way: flags & 4 != 0,
        early_media: if flags & 8 != 0 { EarlyMedia::Drop } else { EarlyMedia::default() },
        credential_query: (flags & 16 != 0).then(|| "token".into()),
        app: App { client_id: "app".into(), client_secret: Secret::from("k") },
    }
}

/// The bridge's end for a request: the provider's own if `target` is empty, else one for `target`, whose lines are header fields.
fn accept(
    provider: &dyn Provider,
    target: &str,
    options: &Options,
) -> Option<Box<dyn ringback_proto::provider::Protocol>> {
    let accepted = if target.is_empty() {
        let (request, _) = provider.dial(&ringback_proto::provider::Dial::default());
        request.arrives(|upgrade| provider.accept(upgrade, options))
    } else {
        let mut lines = target.split('\n');
        let target = lines.next().unwrap_or_default();
        let headers: Vec<_> = lines.filter_map(|line| line.split_once(": ")).collect();
        provider.accept(&Upgrade { target, public_url: None, headers: &headers }, options)
    };
    if let Transport::Webhook { .. } = provider.transport() {
        let posted = provider.posted(target, Some(&Secret::from("k")));
        assert!(posted.is_ok() || posted.is_err_and(|error| error.to_string().len() < 600));
    }
    match accepted {
        Ok(accepted) => Some(accepted.protocol),
        Err(rejection) => {
            assert!((400..500).contains(&rejection.status()));
            assert!(rejection.to_string().len() < 600, "{rejection}");
            None
        }
    }
}

/// The modules of a call: one that speaks, one that reads no messages and listens, a filter, one for words that stands by.
fn ports(manners: u8) -> Vec<PortConfig> {
    let port = |name: &str, kind| PortConfig { kind, ..PortConfig::listening(name) };
    let in_step = manners & 16 != 0;
    let mut ports = vec![
        PortConfig {
            speaks: true,
            in_step,
            on_fail: OnFail::Fallback(PortId(2)),
            ..port("agent", Kind::Agent)
        },
        port("tap", Kind::Tap),
        PortConfig {
            speaks: true,
            standby: true,
            on_fail: OnFail::Hangup,
            ..port("next", Kind::Agent)
        },
    ];
    if manners & 32 != 0 {
        ports.push(port("filter", Kind::Filter));
    }
    if manners & 64 != 0 {
        ports.push(PortConfig { speaks: true, ..port("second", Kind::Agent) });
    }
    if manners & 128 != 0 {
        ports.push(port("words", Kind::Text));
    }
    ports
}

fn line(script: &mut Script<'_>) -> Line {
    Line::ALL[usize::from(script.octet()) % Line::ALL.len()]
}

fn samples(script: &mut Script<'_>) -> Vec<i16> {
    let (count, first) = (usize::from(script.number()) % MOST_SAMPLES, script.octet());
    (0..count).map(|n| (n as i16).wrapping_mul(257).wrapping_add(i16::from(first) << 7)).collect()
}

/// What a module agrees to, by the bits of two octets.
fn ready(script: &mut Script<'_>) -> Ready {
    let (flags, rate) = (script.octet(), script.octet());
    let rates = [8_000, 16_000, 24_000, 48_000, 11_025, 44_100, 4_000, 1];
    let rate_of = |index: u8| rates[usize::from(index) % rates.len()];
    let frame_ms = [20, 10, 60, 1, 100, 0, 200, 20][usize::from(flags >> 5)];
    let tracks = match flags & 3 {
        0 => vec![],
        1 => vec![0],
        2 => vec![0, 1],
        _ => vec![1],
    };
    Ready {
        accept: Accept {
            input: (flags & 4 == 0).then(|| AcceptIn { frame_ms, ..AcceptIn::pcm(rate_of(rate)) }),
            output: (flags & 8 == 0).then(|| AcceptOut {
                pace: if flags & 16 == 0 { Pace::Clip } else { Pace::Live },
                ..AcceptOut::pcm(rate_of(rate >> 4))
            }),
            tracks,
            ..Accept::default()
        },
        credit: (rate & 8 != 0).then_some(ReadyCredit { in_ms: 400 }),
        overflow: if rate & 128 == 0 { Overflow::default() } else { Overflow::Fail },
        ..Ready::default()
    }
}

/// Scripts to begin with: what the provider's transcripts say, with modules that agree and speak in between.
pub(super) fn seeds(provider: &'static dyn Provider) -> Vec<Vec<u8>> {
    let transcripts = seeds::transcripts(provider);
    let scripts = transcripts.iter().map(|transcript| {
        let head = Draft::new().octet(0).octet(0).piece(request(transcript).as_bytes());
        let mut draft = head;
        for (index, line) in transcript.lines.iter().enumerate() {
            if line.direction == Direction::In {
                draft = match &line.wire {
                    Wire::Text(text) => draft.octet(step::TEXT).piece(text.as_bytes()),
                    Wire::Binary(octets) => draft.octet(step::BINARY).piece(octets),
                    Wire::On(of, text) => {
                        draft.octet(step::ON_LINE).octet(of.index() as u8).piece(text.as_bytes())
                    }
                    Wire::Opened(of) => draft.octet(step::LINE).octet(of.index() as u8).octet(0),
                    Wire::Lost(of, _) => draft.octet(step::LINE).octet(of.index() as u8).octet(1),
                    Wire::Close(_) | Wire::Dial(..) => draft,
                };
                draft = draft.octet(step::WAIT).number(20);
            }
            if index == 2 {
                draft = speaking(draft);
            }
        }
        draft.done_with_time([step::WAIT, 0, 0])
    });
    scripts.collect()
}

/// The agent agrees, plays a second, asks for a mark and reads; the tap agrees.
fn speaking(draft: Draft) -> Draft {
    let agent = |draft: Draft| draft.octet(step::MODULE).octet(0);
    let draft = agent(draft).octet(0).octet(1).octet(0);
    let draft = draft.octet(step::MODULE).octet(1).octet(0).octet(1).octet(1);
    let draft = agent(draft).octet(1).number(4_000).octet(3).octet(2);
    let draft = agent(draft).octet(11).piece(b"there");
    let draft = agent(draft).octet(12).piece(br#"{"type":"say","text":"Good morning."}"#);
    draft.octet(step::FRAMES).octet(0).octet(step::FRAMES).octet(1)
}

/// The request of a transcript as a script has it.
fn request(transcript: &ringback_proto::transcript::Transcript) -> String {
    let mut text = transcript.target.clone();
    for (name, value) in &transcript.headers {
        text += &format!("\n{name}: {value}");
    }
    text
}
