//! Whole calls in virtual time: a provider's end on one side, modules as values on the other, the session between.

use std::collections::HashMap;
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
    Action, BargeIn, EndReason, Epoch, FrameBuf, Given, OnFail, PortConfig, PortId, Report,
    Session, SessionConfig, Summary,
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
    reports: Vec<Report>,
    closed: Option<u16>,
    summary: Option<Summary>,
}

fn port(name: &str, speaks: bool) -> PortConfig {
    let kind = if speaks { Kind::Agent } else { Kind::Tap };
    PortConfig { kind, speaks, ..PortConfig::listening(name) }
}

impl Rig {
    fn new(provider: &str, ports: Vec<PortConfig>) -> Self {
        Self::with(provider, |config| config.ports = ports)
    }

    fn with(provider: &str, set: impl FnOnce(&mut SessionConfig)) -> Self {
        let provider = provider::find(provider).expect("a provider of the table");
        let dial = Dial { target: format!("/{}", provider.name()), ..Dial::default() };
        let (request, far) = provider.dial(&dial);
        let headers: Vec<(&str, &str)> = request
            .headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .chain(request.subprotocols.iter().map(|p| ("sec-websocket-protocol", p.as_str())))
            .collect();
        let upgrade = Upgrade { target: &request.target, public_url: None, headers: &headers };
        let accepted = provider.accept(&upgrade, &Options::default()).expect("accepted");
        let mut config = SessionConfig::new("call-1", provider.name());
        set(&mut config);
        let session = Session::new(Instant::ZERO, config, accepted.protocol);
        let mut rig = Self {
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
            reports: Vec::new(),
            closed: None,
            summary: None,
        };
        let mut out = Outbox::new();
        rig.far.handle_open(Instant::ZERO, &mut out).expect("opens");
        rig.carry(&out);
        rig.exchange();
        rig
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
                Action::HangUp => self.hang_ups += 1,
                Action::StartModule { port, start } => drop(self.started.insert(port.0, *start)),
                Action::TellModule { port, message } => self.told.push((port.0, message)),
                Action::StopModule { port, .. } => self.stopped.push(port.0),
                Action::DropModule { port } => self.dropped_modules.push(port.0),
                Action::Report(report) => self.reports.push(report),
                Action::Ended(summary) => self.summary = Some(*summary),
                other => panic!("unknown action {other:?}"),
            }
        }
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

#[test]
fn every_frame_is_heard_and_echoed_bit_exact() {
    let mut rig = Rig::new("twilio", vec![port("echo", true)]);
    rig.ready(0, &speaks(Pace::Live));
    let mut sent: Vec<u8> = Vec::new();
    for frame in 0..200 {
        let payload = ramp(frame);
        sent.extend(&payload);
        rig.speak(&payload);
        for (_, samples) in rig.frames(0) {
            rig.play(0, &samples);
        }
        rig.run(20);
    }
    assert_eq!(rig.played, sent);
    rig.command(Command::Hangup);
    let summary = rig.finish();
    assert_eq!(summary.reason, EndReason::Remote);
    assert_eq!((summary.frames_in, summary.frames_out), (200, 200));
}

#[test]
fn a_module_that_is_late_hears_the_call_from_its_first_sample() {
    let mut rig = Rig::new("twilio", vec![port("stt", false)]);
    for frame in 0..150 {
        rig.speak(&ramp(frame));
        rig.run(20);
    }
    assert!(rig.frames(0).is_empty(), "nothing before ready");
    rig.ready(0, &listens(8_000));
    let frames = rig.frames(0);
    assert_eq!(frames.len(), 150);
    assert_eq!((frames[0].0, frames[149].0), (0, 149 * 160));
    rig.command(Command::Hangup);
    assert_eq!(rig.finish().ledger.hop("module.stt.in.0").expect("accounted").lost(), 0);
}

#[test]
fn a_module_that_comes_back_is_replayed_what_it_had_not_acknowledged() {
    let mut rig = Rig::new("twilio", vec![port("stt", false)]);
    rig.ready(0, &listens(8_000));
    for frame in 0..100 {
        rig.speak(&ramp(frame));
        rig.run(20);
    }
    assert_eq!(rig.frames(0).len(), 100);
    rig.say(0, &FromModule::Ack { in_ms: 1_200, lag_ms: None });
    let now = rig.at();
    rig.session.module_down(now, PortId(0), "killed");
    for frame in 100..120 {
        rig.speak(&ramp(frame));
        rig.run(20);
    }
    rig.session.restart_module(rig.at(), PortId(0));
    rig.exchange();
    let resume = rig.started[&0].resume.clone().expect("told where it goes on");
    assert_eq!(resume.from_ms, 1_200);
    rig.ready(0, &listens(8_000));
    let frames = rig.frames(0);
    assert_eq!(frames.first().map(|f| f.0), Some(60 * 160));
    assert_eq!(frames.len(), 60);
    rig.command(Command::Hangup);
    assert_eq!(rig.finish().modules[0].starts, 2);
}

#[test]
fn what_the_ring_no_longer_holds_is_told_as_a_gap_with_its_bounds() {
    let mut rig = Rig::with("twilio", |config| {
        config.ports = vec![port("slow", false), port("quick", false)];
        config.keep = Duration::from_secs(1);
    });
    rig.ready(0, &listens(8_000));
    rig.ready(1, &listens(8_000));
    let mut quick = 0;
    for frame in 0..100 {
        rig.speak(&ramp(frame));
        quick += rig.frames(1).len();
        rig.run(20);
    }
    assert_eq!(quick, 100, "a slow module costs the other nothing");
    let slow = rig.frames(0);
    rig.exchange();
    let gap = rig.told.iter().find_map(|(p, m)| match m {
        ToModule::Gap(gap) if *p == 0 => Some(gap.clone()),
        _ => None,
    });
    let gap = gap.expect("the gap is told");
    assert_eq!((gap.from_ms, gap.to_ms), (0, 1_100));
    assert_eq!(slow.len(), 45);
    rig.command(Command::Hangup);
    let summary = rig.finish();
    let hop = summary.ledger.hop("module.slow.in.0").expect("accounted").clone();
    assert_eq!(hop.dropped, [(Reason::Overwritten, 1_100 * 8)]);
}

#[test]
fn a_module_that_cannot_bear_gaps_is_let_go() {
    let mut rig = Rig::with("twilio", |config| {
        config.ports = vec![port("strict", false)];
        config.keep = Duration::from_millis(200);
    });
    rig.ready(0, &Ready { overflow: Overflow::Fail, ..listens(8_000) });
    for frame in 0..50 {
        rig.speak(&ramp(frame));
        rig.run(20);
    }
    rig.frames(0);
    rig.exchange();
    assert_eq!(rig.dropped_modules, [0]);
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn credit_bounds_what_a_module_is_given() {
    let mut rig = Rig::new("twilio", vec![port("stt", false)]);
    rig.ready(0, &Ready { credit: Some(ReadyCredit { in_ms: 500 }), ..listens(8_000) });
    for frame in 0..100 {
        rig.speak(&ramp(frame));
    }
    assert_eq!(rig.frames(0).len(), 25);
    rig.say(0, &FromModule::Ack { in_ms: 300, lag_ms: None });
    assert_eq!(rig.frames(0).len(), 15);
    rig.say(0, &FromModule::Credit { in_ms: 100 });
    assert_eq!(rig.frames(0).len(), 5);
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn wide_band_modules_get_the_same_time_at_their_own_rate() {
    let mut rig = Rig::new("twilio", vec![port("a", false), port("b", false)]);
    rig.ready(0, &listens(16_000));
    let odd = AcceptIn { rate: 44_100, frame_ms: 60, ..AcceptIn::pcm(8_000) };
    rig.ready(
        1,
        &Ready { accept: Accept { input: Some(odd), ..Accept::default() }, ..Ready::default() },
    );
    for frame in 0..300 {
        rig.speak(&ramp(frame));
    }
    let wide = rig.frames(0);
    assert!(wide.len() >= 299 && wide.iter().all(|f| f.1.len() == 320));
    assert!(wide.windows(2).all(|w| w[1].0 == w[0].0 + 320));
    let odd = rig.frames(1);
    assert!(odd.len() >= 98 && odd.iter().all(|f| f.1.len() == 2_646), "{}", odd.len());
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn barge_in_clears_provider_and_queue_and_says_what_was_heard() {
    let mut rig = Rig::with("twilio", |config| {
        config.ports = vec![port("agent", true), port("vad", false)];
        config.barge_in = Some(BargeIn { min_speech: Duration::from_millis(100) });
    });
    rig.ready(0, &speaks(Pace::Clip));
    rig.ready(1, &listens(16_000));
    rig.speak(&ramp(0));
    rig.play(0, &vec![1_000; 8_000 * 5]);
    rig.run(1_000);
    let at_ms = 1_000;
    rig.say(
        1,
        &FromModule::Vad(Vad { track: 0, state: VadState::Speech, at_ms, probability: None }),
    );
    rig.run(99);
    assert!(!rig.far_events.contains(&Event::ClearRequested), "a cough does not interrupt");
    rig.run(22);
    assert!(rig.far_events.contains(&Event::ClearRequested));
    let cleared = rig.told.iter().find_map(|(p, m)| match m {
        ToModule::Cleared(cleared) if *p == 0 => Some(cleared.clone()),
        _ => None,
    });
    let cleared = cleared.expect("the speaker is told");
    assert!((1_080..=1_130).contains(&cleared.played_ms), "{cleared:?}");
    assert!((cleared.played_ms + cleared.discarded_ms).abs_diff(5_000) <= 1, "{cleared:?}");
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn sound_made_before_a_clear_is_stale_until_the_module_begins_anew() {
    let mut rig = Rig::new("twilio", vec![port("agent", true)]);
    rig.ready(0, &speaks(Pace::Clip));
    rig.speak(&ramp(0));
    let send = |rig: &mut Rig, epoch| {
        rig.session.module_audio(rig.at(), PortId(0), epoch, &[500; 800]);
        rig.exchange();
    };
    send(&mut rig, Epoch::Unnumbered);
    rig.say(0, &FromModule::Clear { epoch: None });
    send(&mut rig, Epoch::Unnumbered);
    send(&mut rig, Epoch::Numbered(0));
    rig.say(0, &FromModule::AudioBegin { epoch: 1 });
    send(&mut rig, Epoch::Unnumbered);
    send(&mut rig, Epoch::Numbered(1));
    rig.run(1_000);
    rig.command(Command::Hangup);
    let summary = rig.finish();
    let hop = summary.ledger.hop("module.agent.out").expect("accounted").clone();
    assert_eq!((hop.entered, hop.left, hop.dropped), (4_000, 2_400, vec![(Reason::Stale, 1_600)]));
}

#[test]
fn a_listener_may_not_speak_and_is_counted() {
    let mut rig = Rig::new("twilio", vec![port("tap", false)]);
    rig.ready(0, &speaks(Pace::Clip));
    rig.speak(&ramp(0));
    rig.play(0, &[1; 160]);
    rig.say(0, &FromModule::Hangup(Hangup::default()));
    rig.run(500);
    assert!(rig.played.is_empty() && rig.closed.is_none());
    rig.command(Command::Hangup);
    let summary = rig.finish();
    assert_eq!(
        summary.ledger.hop("module.tap.out").expect("accounted").dropped,
        [(Reason::NotSpeaker, 160)]
    );
}

#[test]
fn marks_come_back_to_who_set_them() {
    let mut rig = Rig::new("twilio", vec![port("agent", true)]);
    rig.ready(0, &speaks(Pace::Clip));
    rig.speak(&ramp(0));
    rig.play(0, &[1_000; 1_600]);
    rig.say(0, &FromModule::Mark { name: "greeting".into() });
    assert!(!rig.told.iter().any(|(_, m)| matches!(m, ToModule::Mark(_))), "nothing was heard yet");
    rig.run(400);
    let mark = rig.told.iter().find_map(|(_, m)| match m {
        ToModule::Mark(mark) => Some((mark.name.clone(), mark.played_ms)),
        _ => None,
    });
    assert_eq!(mark, Some(("greeting".into(), 200)));
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn a_module_hangs_up_after_its_last_word() {
    let mut rig = Rig::new("twilio", vec![port("agent", true)]);
    rig.ready(0, &speaks(Pace::Clip));
    rig.speak(&ramp(0));
    rig.play(0, &[1_000; 8_000]);
    let hangup = Hangup { after: HangupAfter::Playback, reason: "bye".into(), data: None };
    rig.say(0, &FromModule::Hangup(hangup));
    rig.run(900);
    assert!(rig.closed.is_none(), "still talking");
    rig.run(300);
    assert_eq!(rig.closed, Some(1000));
    assert_eq!(rig.played.len(), 8_000);
    let summary = rig.finish();
    assert_eq!(summary.reason, EndReason::Hangup { module: "agent".into(), reason: "bye".into() });
}

/// A module hangs up on a provider that has the last word.
fn hung_up_politely() -> Rig {
    let mut rig = Rig::new("genesys-connector", vec![port("agent", true)]);
    rig.ready(0, &speaks(Pace::Clip));
    rig.speak(&ramp(0));
    let hangup = Hangup { after: HangupAfter::Now, reason: "bye".into(), data: None };
    rig.say(0, &FromModule::Hangup(hangup));
    assert!(rig.far_events.contains(&Event::HangupRequested));
    assert!(rig.closed.is_none(), "it is theirs to close");
    assert_eq!(rig.stopped, [0], "modules are not kept waiting");
    rig
}

#[test]
fn a_provider_that_has_the_last_word_is_given_the_time() {
    let mut rig = hung_up_politely();
    rig.run(1_000);
    rig.command(Command::Hangup);
    assert!(rig.closed.is_none(), "the other end closed the socket");
    let summary = rig.finish();
    assert_eq!(summary.reason, EndReason::Hangup { module: "agent".into(), reason: "bye".into() });
}

#[test]
fn a_provider_that_does_not_use_its_last_word_is_closed_upon() {
    let mut rig = hung_up_politely();
    rig.run(4_900);
    assert!(rig.closed.is_none() && !rig.session.is_ended());
    rig.run(200);
    assert_eq!(rig.closed, Some(1000));
    rig.finish();
    let mut rig = hung_up_politely();
    rig.session.shut_down(rig.at(), Duration::from_secs(1));
    rig.exchange();
    assert_eq!(rig.closed, Some(1001), "there is no time for manners");
    rig.finish();
}

/// A module hangs up on a provider whose wire has no message for it, and somebody else may do it within 3 s.
fn hung_up_elsewhere(provider: &str) -> Rig {
    let mut rig = Rig::with(provider, |config| {
        config.ports = vec![port("agent", true)];
        config.hang_up_within = Some(Duration::from_secs(3));
    });
    rig.ready(0, &speaks(Pace::Clip));
    rig.speak(&ramp(0));
    let hangup = Hangup { after: HangupAfter::Now, reason: "bye".into(), data: None };
    rig.say(0, &FromModule::Hangup(hangup));
    assert_eq!(rig.stopped, [0], "modules are not kept waiting");
    rig
}

#[test]
fn a_call_that_the_wire_cannot_end_keeps_its_stream_until_it_was_ended_otherwise() {
    let mut rig = hung_up_elsewhere("twilio");
    assert_eq!(rig.hang_ups, 1);
    rig.run(1_000);
    assert!(rig.closed.is_none() && !rig.session.is_ended());
    rig.session.hung_up(rig.at());
    rig.exchange();
    assert_eq!(rig.closed, Some(1000));
    // Said twice by mistake it means nothing.
    rig.session.hung_up(rig.at());
    rig.exchange();
    let summary = rig.finish();
    assert_eq!(summary.reason, EndReason::Hangup { module: "agent".into(), reason: "bye".into() });
    assert_eq!(rig.hang_ups, 1);
}

#[test]
fn a_hang_up_elsewhere_is_waited_for_no_longer_than_it_may_take() {
    let mut rig = hung_up_elsewhere("twilio");
    rig.run(2_900);
    assert!(rig.closed.is_none());
    rig.run(200);
    assert_eq!(rig.closed, Some(1000));
    rig.finish();
    let mut rig = hung_up_elsewhere("twilio");
    rig.session.shut_down(rig.at(), Duration::from_secs(1));
    rig.exchange();
    assert_eq!(rig.closed, Some(1001), "the bridge goes");
    rig.finish();
}

#[test]
fn a_provider_that_closes_when_the_call_was_ended_elsewhere_ends_the_wait() {
    let mut rig = hung_up_elsewhere("twilio");
    rig.session.handle_closed(rig.at(), Ok(()));
    rig.exchange();
    assert_eq!(rig.closed, None);
    rig.finish();
}

#[test]
fn a_wire_with_a_message_to_hang_up_needs_nobody_else() {
    let mut rig = hung_up_elsewhere("asterisk");
    assert_eq!((rig.hang_ups, rig.closed), (0, Some(1000)));
    assert!(rig.far_events.contains(&Event::HangupRequested));
    rig.finish();
}

#[test]
fn a_stream_that_is_only_tried_starts_no_module() {
    let provider = provider::find("genesys-audiohook").expect("in the table");
    let upgrade = Upgrade { target: "/", public_url: None, headers: &[] };
    let accepted = provider.accept(&upgrade, &Options::default()).expect("accepted");
    let mut config = SessionConfig::new("call-1", "genesys-audiohook");
    config.ports = vec![port("stt", false)];
    let mut session = Session::new(Instant::ZERO, config, accepted.protocol);
    let open = r#"{"version":"2","type":"open","id":"s","seq":1,"serverseq":0,"position":"PT0S","parameters":{
        "conversationId":"00000000-0000-0000-0000-000000000000",
        "media":[{"type":"audio","format":"PCMU","channels":["external"],"rate":8000}]}}"#;
    session.handle_message(Instant::ZERO, Message::Text(open));
    assert!(matches!(session.sends().sends(), [Send::Text(_)]), "answered");
    session.sent(true);
    let close = r#"{"version":"2","type":"close","id":"s","seq":2,"serverseq":1,"position":"PT0S","parameters":{"reason":"end"}}"#;
    session.handle_message(Instant::from_millis(100), Message::Text(close));
    session.handle_closed(Instant::from_millis(120), Ok(()));
    let actions: Vec<_> = std::iter::from_fn(|| session.poll_action()).collect();
    let [Action::Report(Report::Notice(notice)), Action::Ended(summary)] = actions.as_slice()
    else {
        panic!("{actions:?}");
    };
    assert_eq!((notice, &summary.reason), (&Notice::Probe, &EndReason::Remote));
}

#[test]
fn results_reach_clients_that_take_them() {
    let mut rig = Rig::new("raw", vec![port("stt", false)]);
    rig.ready(0, &listens(16_000));
    rig.say(0, &transcript("hello there"));
    let results: Vec<&String> = rig
        .far_events
        .iter()
        .filter_map(|e| match e {
            Event::Result(json) => Some(json),
            _ => None,
        })
        .collect();
    assert_eq!(results.len(), 1);
    assert!(results[0].contains("hello there") && results[0].contains("\"type\":\"transcript\""));
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn text_and_speech_reach_the_modules_that_want_them() {
    let mut rig =
        Rig::new("twilio", vec![port("stt", false), port("agent", true), port("log", false)]);
    rig.ready(0, &listens(16_000));
    rig.ready(1, &Ready { want: vec!["text".into(), "vad".into()], ..speaks(Pace::Clip) });
    rig.ready(2, &listens(8_000));
    rig.say(0, &transcript("yes"));
    let vad = Vad { track: 0, state: VadState::Speech, at_ms: 5, probability: None };
    rig.say(2, &FromModule::Vad(vad));
    let told: Vec<usize> = rig.told.iter().map(|(port, _)| *port).collect();
    assert_eq!(told, [1, 1]);
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn the_agents_side_is_what_the_caller_heard_in_its_place() {
    let mut rig = Rig::new("twilio", vec![port("agent", true), port("recorder", false)]);
    rig.ready(0, &speaks(Pace::Clip));
    let accept = Accept {
        input: Some(AcceptIn::pcm(8_000)),
        tracks: vec![0, 1],
        framing: Framing::Hdr16,
        ..Accept::default()
    };
    rig.ready(1, &Ready { accept, ..Ready::default() });
    let mut agent: Vec<i16> = Vec::new();
    let mut buffer = FrameBuf::default();
    for frame in 0..200 {
        rig.speak(&ramp(frame));
        if frame == 50 {
            rig.play(0, &vec![4_000; 8_000]);
            rig.say(0, &FromModule::AudioEnd { epoch: None });
        }
        rig.run(20);
        while let Some(Given::Sound(heard)) = rig.session.next_frame(PortId(1), &mut buffer) {
            if heard.track == 1 {
                assert_eq!(heard.pts as usize, agent.len(), "no hole in the positions");
                agent.extend(heard.samples);
            }
        }
    }
    let first = agent.iter().position(|s| s.abs() > 3_000).expect("heard") / 8;
    let last = agent.iter().rposition(|s| s.abs() > 3_000).expect("heard") / 8;
    assert!(first.abs_diff(1_020) <= 25, "begins at {first} ms");
    assert!((last - first).abs_diff(1_000) <= 5, "lasts {} ms", last - first);
    assert!((agent.len() / 8).abs_diff(4_000) <= 60, "{} ms in all", agent.len() / 8);
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn a_first_message_of_any_length_begins_at_zero() {
    let mut rig = Rig::new("raw", vec![port("stt", false)]);
    rig.ready(0, &listens(8_000));
    rig.run(500);
    let rate = match &rig.reports[..] {
        [Report::Started(start), ..] => start.inbound.expect("of sound").rate.hz() as usize,
        other => panic!("started first, not {other:?}"),
    };
    let octets = match &rig.reports[0] {
        Report::Started(start) => {
            start.inbound.expect("of sound").octets_for(rate).expect("a plain encoding")
        }
        _ => 0,
    };
    rig.speak(&vec![0x55; octets]);
    let frames = rig.frames(0);
    assert_eq!((frames.len(), frames[0].0), (50, 0), "one second, and not a sample more");
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn a_module_that_missed_a_clear_learns_of_it() {
    let mut rig = Rig::new("twilio", vec![port("agent", true), port("other", true)]);
    rig.ready(0, &speaks(Pace::Clip));
    rig.ready(1, &speaks(Pace::Clip));
    rig.speak(&ramp(0));
    rig.session.module_down(rig.at(), PortId(0), "killed");
    rig.session.restart_module(rig.at(), PortId(0));
    rig.exchange();
    let known = rig.started[&0].resume.clone().expect("resumes").epoch;
    rig.say(1, &FromModule::Clear { epoch: None });
    rig.told.clear();
    rig.ready(0, &speaks(Pace::Clip));
    let told = rig
        .told
        .iter()
        .any(|(p, m)| *p == 0 && matches!(m, ToModule::Cleared(c) if c.epoch == known));
    assert!(told, "{:?}", rig.told);
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn a_module_that_never_acknowledged_resumes_where_the_ring_begins() {
    let mut rig = Rig::with("twilio", |config| {
        config.ports = vec![port("stt", false)];
        config.keep = Duration::from_secs(1);
    });
    rig.ready(0, &Ready { overflow: Overflow::Fail, ..listens(8_000) });
    for frame in 0..500 {
        rig.speak(&ramp(frame));
        rig.frames(0);
        rig.run(20);
    }
    rig.session.module_down(rig.at(), PortId(0), "killed");
    rig.session.restart_module(rig.at(), PortId(0));
    rig.exchange();
    assert_eq!(rig.started[&0].resume.clone().expect("resumes").from_ms, 9_000);
    for frame in 500..510 {
        rig.speak(&ramp(frame));
        rig.run(20);
    }
    rig.ready(0, &Ready { overflow: Overflow::Fail, ..listens(8_000) });
    rig.told.clear();
    let frames = rig.frames(0);
    assert!(
        matches!(&rig.told[..], [(0, ToModule::Gap(gap))] if gap.reason == GapReason::Resume),
        "{:?}",
        rig.told
    );
    assert!(frames.len() >= 44, "{} frames", frames.len());
    assert!(rig.dropped_modules.is_empty(), "what it missed while away is not held against it");
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn a_gap_does_not_eat_the_credit_of_a_module_that_waits() {
    let mut rig = Rig::with("twilio", |config| {
        config.ports = vec![port("slow", false)];
        config.keep = Duration::from_secs(1);
    });
    rig.ready(0, &Ready { credit: Some(ReadyCredit { in_ms: 100 }), ..listens(8_000) });
    for frame in 0..200 {
        rig.speak(&ramp(frame));
    }
    let first = rig.frames(0).len();
    assert_eq!(first, 5);
    for _ in 0..20 {
        rig.say(0, &FromModule::Credit { in_ms: 20 });
        assert_eq!(rig.frames(0).len(), 1, "a grant of 20 ms brings 20 ms");
    }
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn a_mark_behind_cleared_sound_is_never_told_as_played() {
    let mut rig = Rig::new("twilio", vec![port("agent", true), port("other", true)]);
    rig.ready(0, &speaks(Pace::Clip));
    rig.ready(1, &speaks(Pace::Clip));
    rig.speak(&ramp(0));
    rig.say(1, &FromModule::Clear { epoch: None });
    rig.session.module_audio(rig.at(), PortId(0), Epoch::Unnumbered, &[900; 800]);
    rig.say(0, &FromModule::Mark { name: "old".into() });
    rig.run(300);
    let fate = rig.told.iter().find_map(|(_, m)| match m {
        ToModule::Mark(mark) => Some((mark.status, mark.epoch)),
        _ => None,
    });
    assert_eq!(fate, Some((MarkStatus::Cleared, 0)));
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn a_module_that_is_down_when_the_call_ends_holds_it_up_no_longer_than_the_deadline() {
    let mut rig = Rig::new("twilio", vec![port("stt", false)]);
    rig.ready(0, &listens(8_000));
    rig.speak(&ramp(0));
    rig.session.module_down(rig.at(), PortId(0), "killed");
    rig.command(Command::Hangup);
    rig.run(3_100);
    assert!(rig.summary.is_some());
    assert_eq!(rig.dropped_modules, [0]);
}

#[test]
fn speech_of_long_ago_interrupts_nothing() {
    let mut rig = Rig::with("twilio", |config| {
        config.ports = vec![port("agent", true), port("vad", false)];
        config.barge_in = Some(BargeIn { min_speech: Duration::from_millis(100) });
    });
    rig.ready(0, &speaks(Pace::Clip));
    rig.speak(&ramp(0));
    rig.run(5_000);
    rig.play(0, &vec![1_000; 16_000]);
    rig.ready(1, &listens(16_000));
    rig.say(
        1,
        &FromModule::Vad(Vad { track: 0, state: VadState::Speech, at_ms: 500, probability: None }),
    );
    rig.run(500);
    assert!(!rig.far_events.contains(&Event::ClearRequested));
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn a_stream_that_never_starts_is_closed_in_time() {
    let provider = provider::find("twilio").expect("in the table");
    let upgrade = Upgrade { target: "/twilio", public_url: None, headers: &[] };
    let accepted = provider.accept(&upgrade, &Options::default()).expect("accepted");
    let config = SessionConfig::new("call-1", "twilio");
    let mut session = Session::new(Instant::ZERO, config, accepted.protocol);
    assert_eq!(session.poll_timeout(), Some(Instant::from_millis(5_000)));
    session.handle_timeout(Instant::from_millis(5_000));
    assert_eq!(session.sends().sends(), [Send::Close(1008)]);
    let ended = std::iter::from_fn(|| session.poll_action())
        .any(|a| matches!(a, Action::Ended(s) if s.reason == EndReason::NoStart));
    assert!(ended && session.is_ended());
}

#[test]
fn garbage_ends_the_one_call_with_evidence() {
    for (provider, message, code) in [
        ("twilio", Message::Text("{\"event\":"), 1007),
        ("twilio", Message::Text("[1,2"), 1007),
        ("vonage", Message::Text("not json"), 1007),
    ] {
        let mut rig = Rig::new(provider, vec![port("stt", false)]);
        rig.ready(0, &listens(16_000));
        let now = rig.at();
        rig.session.handle_message(now, message);
        rig.exchange();
        assert_eq!(rig.closed, Some(code), "{provider}");
        let summary = rig.finish();
        assert!(
            matches!(&summary.reason, EndReason::Protocol(e) if e.to_string().contains("message")),
            "{provider}"
        );
    }
}

#[test]
fn a_required_module_that_fails_ends_the_call() {
    let mut rig = Rig::with("twilio", |config| {
        config.ports = vec![PortConfig { on_fail: OnFail::Hangup, ..port("agent", true) }];
    });
    let now = rig.at();
    rig.session.module_gone(now, PortId(0), Some("exit status 1".into()));
    rig.exchange();
    assert_eq!(rig.closed, Some(1011));
    let reason = rig.finish().reason;
    assert!(matches!(reason, EndReason::Module { reason, .. } if reason == "exit status 1"));
}

#[test]
fn an_answer_that_asks_for_the_impossible_is_told_what_is_wrong() {
    for (ready, wrong) in [
        (listens(1), "accept.in.rate is 1 Hz"),
        (
            Ready {
                accept: Accept { tracks: vec![9], ..listens(8_000).accept },
                ..Ready::default()
            },
            "track 9",
        ),
        (
            Ready {
                accept: Accept { tracks: vec![0, 1], ..listens(8_000).accept },
                ..Ready::default()
            },
            "hdr16",
        ),
    ] {
        let mut rig = Rig::new("twilio", vec![port("odd", false)]);
        rig.ready(0, &ready);
        let told = rig
            .reports
            .iter()
            .any(|r| matches!(r, Report::ModuleFailed { reason, .. } if reason.contains(wrong)));
        assert!(told, "{wrong}: {:?}", rig.reports);
        assert_eq!(rig.dropped_modules, [0]);
        rig.command(Command::Hangup);
        rig.finish();
    }
}

#[test]
fn a_module_that_never_says_done_is_cut_off() {
    let mut rig = Rig::new("twilio", vec![port("hung", false)]);
    rig.ready(0, &listens(8_000));
    rig.speak(&ramp(0));
    rig.command(Command::Hangup);
    rig.run(2_900);
    assert!(rig.summary.is_none());
    rig.run(200);
    assert_eq!(rig.dropped_modules, [0]);
    assert!(rig.summary.is_some());
}

#[test]
fn keys_reach_modules_that_want_them() {
    let mut rig = Rig::new("twilio", vec![port("menu", false)]);
    rig.ready(0, &Ready { want: vec!["dtmf".into()], ..listens(8_000) });
    rig.speak(&ramp(0));
    rig.command(Command::Dtmf(provider::Digit::new('5').expect("a key")));
    assert!(matches!(&rig.told[..], [(0, ToModule::Dtmf(d))] if d.digit == '5'));
    rig.command(Command::Hangup);
    rig.finish();
}
