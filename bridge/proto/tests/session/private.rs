//! Private parts of calls: what is said and pressed in them is for named modules alone, to the sample and to the key.

use std::sync::atomic::{AtomicBool, Ordering};

use ringback_module::message::{Dtmf, ErrorReport, PrivatePart, PrivateState};
use ringback_proto::provider::{Digit, ProtocolError};
use ringback_proto::session::{PrivateBy, PrivateCounts, PrivateRule};

use super::*;

/// Sound that is neither silence nor anything else here.
const SECRET: [u8; 160] = [0x10; 160];

/// An agent that hears what is private, and a recorder and a tap that do not.
fn rig(rule: PrivateRule) -> Rig {
    let agent = PortConfig { hears_private: true, ..port("agent", true) };
    let ports = vec![agent, port("recorder", false), port("tap", false)];
    let routes = Route { private: rule, ..Route::to(ports) };
    let mut rig = Rig::with("twilio", |config| config.routes = routes.into());
    let both = |ready: Ready| Ready {
        accept: Accept { tracks: vec![0, 1], framing: Framing::Hdr16, ..ready.accept.clone() },
        want: ["dtmf", "text", "private"].map(String::from).to_vec(),
        ..ready
    };
    rig.ready(0, &both(speaks(Pace::Live)));
    rig.ready(1, &both(listens(8_000)));
    rig.ready(2, &both(listens(8_000)));
    rig
}

fn digits(keys: &str) -> Vec<Digit> {
    keys.chars().filter_map(Digit::new).collect()
}

impl Rig {
    /// A call that may return, of an agent that hears what is private, whose wire tells what it is told.
    fn watched(told: &Arc<AtomicBool>) -> Self {
        let wire = |protocol| Box::new(Watched(protocol, Arc::clone(told))) as Box<dyn Protocol>;
        Self::by("twilio", Dial::default(), wire, |config| {
            let agent = PortConfig { hears_private: true, ..port("agent", true) };
            config.routes = Route::to(vec![agent]).into();
            config.reattach = Some(Duration::from_secs(10));
        })
    }

    fn press(&mut self, keys: &str) {
        for digit in digits(keys) {
            self.command(Command::Dtmf(digit));
        }
    }

    /// A second of this sound, with as much of the agent's.
    fn talk(&mut self, payload: &[u8; 160]) {
        for _ in 0..50 {
            self.speak(payload);
            self.play(0, &[7_000; 160]);
            self.run(20);
        }
    }

    /// So many frames of it.
    fn pass(&mut self, frames: usize) {
        for _ in 0..frames {
            self.speak(&SECRET);
            self.run(20);
        }
    }

    /// Samples of the caller's track given to a module, from where it left off.
    fn caller_heard(&mut self, port: usize) -> Vec<i16> {
        let mut buffer = FrameBuf::default();
        let mut heard = Vec::new();
        while let Some(given) = self.session.next_frame(PortId(port), &mut buffer) {
            match given {
                Given::Sound(frame) if frame.track == 0 => heard.extend(frame.samples),
                _ => {}
            }
        }
        heard
    }

    fn keys_of(&self, port: usize) -> String {
        let keys = self.told.iter().filter_map(|(to, message)| match message {
            ToModule::Dtmf(Dtmf { digit, .. }) if *to == port => Some(*digit),
            _ => None,
        });
        keys.collect()
    }

    fn reported_keys(&self) -> String {
        let keys = self.reports.iter().filter_map(|report| match report {
            Report::Dtmf(_, key) => Some(key.digit),
            _ => None,
        });
        keys.collect()
    }

    fn texts_of(&self, port: usize) -> Vec<&str> {
        let texts = self.told.iter().filter_map(|(to, message)| match message {
            ToModule::Text(words) if *to == port => Some(words.text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    fn parts_told(&self, port: usize) -> Vec<PrivatePart> {
        let parts = self.told.iter().filter_map(|(to, message)| match message {
            ToModule::Private(part) if *to == port => Some(part.clone()),
            _ => None,
        });
        parts.collect()
    }
}

#[test]
fn sound_of_a_private_part_is_silence_of_the_same_length_to_who_is_not_named() {
    let mut rig = rig(PrivateRule::default());
    rig.talk(&[0x80; 160]);
    rig.say(0, &FromModule::PrivateBegin { max_ms: None });
    rig.talk(&SECRET);
    rig.say(0, &FromModule::PrivateEnd);
    rig.talk(&[0x80; 160]);
    let (agent, recorder) = (rig.caller_heard(0), rig.caller_heard(1));
    assert_eq!(agent.len(), 24_000);
    let public = agent[0];
    let secret = agent[8_000];
    assert_ne!(public, secret);
    assert!(agent[8_000..16_000].iter().all(|&sample| sample == secret), "the agent hears all");
    let wanted = [vec![public; 8_000], vec![0; 8_000], vec![public; 8_000]].concat();
    assert!(recorder == wanted, "silence from the very frame to the very frame");
    // The caller goes on hearing the agent, and those who come late hear no more than those who were there.
    assert!(rig.played.len() >= 23_000, "{}", rig.played.len());
    let now = rig.at();
    rig.session.module_down(now, PortId(2), "killed");
    rig.session.restart_module(now, PortId(2));
    rig.exchange();
    rig.ready(2, &listens(8_000));
    let replayed = rig.caller_heard(2);
    assert!(replayed == wanted, "replayed from the ring, it is as silent");
    let counts = PrivateCounts { times: 1, lasted: Duration::from_secs(1), ..Default::default() };
    rig.command(Command::Hangup);
    assert_eq!(rig.finish().private, Some(counts));
}

#[test]
fn the_agents_own_words_in_it_are_not_recorded_either() {
    let mut rig = rig(PrivateRule::default());
    rig.talk(&[0x80; 160]);
    rig.say(0, &FromModule::PrivateBegin { max_ms: None });
    rig.talk(&SECRET);
    rig.say(0, &FromModule::PrivateEnd);
    rig.talk(&[0x80; 160]);
    let mut buffer = FrameBuf::default();
    let mut agent_track = Vec::new();
    while let Some(given) = rig.session.next_frame(PortId(1), &mut buffer) {
        if let Given::Sound(frame) = given
            && frame.track == 1
        {
            agent_track.resize(frame.pts as usize, 0);
            agent_track.extend(frame.samples);
        }
    }
    let loud = |range: std::ops::Range<usize>| {
        let end = range.end.min(agent_track.len());
        agent_track[range.start..end].iter().filter(|sample| sample.abs() > 5_000).count()
    };
    assert!(loud(0..8_000) > 7_000 && loud(16_000..24_000) > 7_000);
    assert_eq!(loud(8_000..16_000), 0, "what was played in the private part");
}

#[test]
fn sound_that_comes_late_is_as_private_as_when_it_was_said() {
    let mut rig = rig(PrivateRule::default());
    rig.talk(&[0x80; 160]);
    rig.say(0, &FromModule::PrivateBegin { max_ms: None });
    // The line stands still for the whole part, and all of it comes after its end.
    rig.run(1_000);
    rig.say(0, &FromModule::PrivateEnd);
    for _ in 0..50 {
        rig.speak(&SECRET);
    }
    rig.run(20);
    rig.talk(&[0x80; 160]);
    let secret = rig.caller_heard(0)[8_500];
    let heard = rig.caller_heard(1);
    assert_eq!(heard.iter().filter(|sample| **sample == secret).count(), 0);
}

#[test]
fn keys_and_words_of_a_private_part_are_told_to_nobody_else() {
    let mut rig = rig(PrivateRule::default());
    rig.press("12");
    rig.say(1, &transcript("before"));
    rig.pass(5);
    rig.session.begin_private(rig.at(), PrivateBy::Operator, None);
    rig.exchange();
    rig.press("4111");
    rig.say(0, &transcript("four one one one"));
    rig.say(
        0,
        &FromModule::Log(ringback_module::message::Log {
            msg: "4111".into(),
            ..Default::default()
        }),
    );
    rig.pass(5);
    rig.session.end_private(rig.at(), PrivateBy::Operator);
    rig.exchange();
    // What was said then is told of later, by who takes his time.
    let late =
        Transcript { text: "4111".into(), start_ms: 150, end_ms: 190, ..Transcript::default() };
    rig.run(5_000);
    rig.say(0, &FromModule::Transcript(late));
    rig.press("3");
    rig.say(0, &transcript("after"));
    assert_eq!(rig.keys_of(0), "1241113", "the agent hears all");
    assert_eq!((rig.keys_of(1), rig.keys_of(2)), ("123".into(), "123".into()));
    assert_eq!(rig.reported_keys(), "123");
    assert_eq!(rig.texts_of(1), ["after"]);
    assert_eq!(rig.texts_of(2), ["before", "after"]);
    let text = format!("{:?}", rig.reports);
    assert!(!text.contains("4111") && !text.contains("four one"), "{text}");
    let told = [(PrivateState::Began, 100), (PrivateState::Ended, 200)];
    let told = told.map(|(state, at_ms)| PrivatePart { state, at_ms });
    for port in [0, 1, 2] {
        let times: Vec<_> = rig.parts_told(port).iter().map(|part| part.state).collect();
        assert_eq!(times, told.clone().map(|part| part.state));
    }
    rig.command(Command::Hangup);
    let counts = rig.finish().private.unwrap();
    assert_eq!((counts.keys, counts.results), (4, 3));
}

#[test]
fn words_that_a_provider_tells_just_after_a_part_are_private_too() {
    let agent = PortConfig { hears_private: true, ..PortConfig::listening("agent") };
    let text = PortConfig { kind: Kind::Text, ..PortConfig::listening("tap") };
    let routes = Route::to(vec![agent, text]);
    let mut rig = Rig::with("conversation-relay", |config| config.routes = routes.into());
    let ready = Ready { want: vec!["text".into()], ..Ready::default() };
    rig.ready(0, &ready);
    rig.ready(1, &ready);
    rig.session.begin_private(rig.at(), PrivateBy::Operator, None);
    rig.run(3_000);
    rig.session.end_private(rig.at(), PrivateBy::Operator);
    rig.exchange();
    rig.run(300);
    // Whole utterances only, which are told when they are over.
    rig.command(Command::Heard { text: "four one one one", language: None, last: true });
    rig.run(5_000);
    rig.command(Command::Heard { text: "thank you", language: None, last: true });
    assert_eq!(rig.texts_of(0), ["four one one one", "thank you"]);
    assert_eq!(rig.texts_of(1), ["thank you"]);
    assert!(!format!("{:?}", rig.reports).contains("four one"));
}

/// A provider that speaks by itself says with an interruption which words the caller had heard.
#[test]
fn words_heard_within_a_clear_are_told_to_nobody_else_in_a_private_part() {
    let agent = PortConfig { hears_private: true, ..port("agent", true) };
    let routes = Route::to(vec![agent, port("other", true)]);
    let mut rig = Rig::with("conversation-relay", |config| config.routes = routes.into());
    rig.ready(0, &Ready::default());
    rig.ready(1, &Ready::default());
    let heard = |rig: &mut Rig, words: &str| {
        rig.told.clear();
        rig.reports.clear();
        let interrupt = format!(
            r#"{{"type":"interrupt","utteranceUntilInterrupt":"{words}","durationUntilInterruptMs":460}}"#
        );
        rig.session.handle_message(rig.at(), Message::Text(&interrupt));
        rig.exchange();
        let told = |(_, message): &(usize, ToModule)| match message {
            ToModule::Cleared(cleared) => cleared.heard.clone(),
            other => panic!("{other:?}"),
        };
        let reported = rig.reports.iter().find_map(|report| match report {
            Report::Cleared { cleared, .. } => Some(cleared.heard.clone()),
            _ => None,
        });
        let mut all: Vec<_> = rig.told.iter().map(told).collect();
        all.push(reported.expect("a clear is reported"));
        all
    };
    let words = |text: &str| Some(text.to_owned());
    assert_eq!(heard(&mut rig, "Good morning"), vec![words("Good morning"); 3]);
    rig.session.begin_private(rig.at(), PrivateBy::Operator, None);
    rig.exchange();
    let secret = "Your number is four one";
    assert_eq!(heard(&mut rig, secret), [words(secret), None, None]);
    rig.session.end_private(rig.at(), PrivateBy::Operator);
    rig.exchange();
    rig.run(300);
    assert_eq!(heard(&mut rig, secret), [words(secret), None, None], "it may be of just before");
    rig.run(5_000);
    assert_eq!(heard(&mut rig, "Goodbye"), vec![words("Goodbye"); 3]);
}

#[test]
fn a_part_ends_when_it_has_lasted_long_enough() {
    let mut rig = rig(PrivateRule { limit: Duration::from_secs(3), ..PrivateRule::default() });
    rig.say(0, &FromModule::PrivateBegin { max_ms: Some(500) });
    assert!(rig.session.is_private());
    rig.run(499);
    assert!(rig.session.is_private());
    rig.run(1);
    assert!(!rig.session.is_private());
    rig.say(0, &FromModule::PrivateBegin { max_ms: Some(60_000) });
    rig.run(2_000);
    rig.say(0, &FromModule::PrivateBegin { max_ms: None });
    rig.run(2_999);
    assert!(rig.session.is_private(), "begun once more");
    rig.run(1);
    assert!(!rig.session.is_private(), "no longer than the route allows");
    let by: Vec<_> = rig
        .reports
        .iter()
        .filter_map(|report| match report {
            Report::Private { began: false, by, .. } => Some(*by),
            _ => None,
        })
        .collect();
    assert_eq!(by, [PrivateBy::Limit, PrivateBy::Limit]);
    rig.say(0, &FromModule::PrivateBegin { max_ms: Some(60_000) });
    rig.run(2_999);
    assert!(rig.session.is_private());
    rig.run(1);
    assert!(!rig.session.is_private(), "whatever a module asks for");
}

#[test]
fn what_the_agent_says_as_it_goes_in_a_private_part_is_not_told() {
    let mut rig = rig(PrivateRule::default());
    rig.say(0, &FromModule::PrivateBegin { max_ms: None });
    let mut stats = serde_json::Map::new();
    stats.insert("card".into(), "4111".into());
    let error = ErrorReport { code: "card".into(), message: "4111".into(), ..Default::default() };
    rig.say(0, &FromModule::Error(error));
    rig.say(0, &FromModule::Hangup(Hangup { reason: "4111".into(), ..Hangup::default() }));
    rig.say(0, &FromModule::Done { stats });
    let reports = format!("{:?}", rig.reports);
    assert!(!reports.contains("4111"), "{reports}");
    let summary = format!("{:?}", rig.finish());
    assert!(!summary.contains("4111"), "{summary}");
    assert!(summary.contains("in a private part of the call"), "{summary}");
}

#[test]
fn who_begins_to_hear_the_agent_in_a_private_part_hears_silence() {
    let agent = PortConfig { hears_private: true, ..port("agent", true) };
    let mut rig = Rig::new("twilio", vec![agent, port("recorder", false)]);
    rig.ready(0, &speaks(Pace::Live));
    rig.say(0, &FromModule::PrivateBegin { max_ms: None });
    let both = listens(8_000);
    let accept = Accept { tracks: vec![0, 1], framing: Framing::Hdr16, ..both.accept };
    rig.ready(1, &Ready { accept, ..Ready::default() });
    rig.talk(&SECRET);
    let frames = rig.frames(1);
    assert!(frames.len() > 80, "{} frames of both", frames.len());
    assert!(frames.iter().all(|(_, samples)| samples.iter().all(|&sample| sample == 0)));
    rig.command(Command::Hangup);
    rig.finish();
}

/// A protocol that tells whether it was told that the call is private.
struct Watched(Box<dyn Protocol>, Arc<AtomicBool>);

impl Protocol for Watched {
    fn handle_message(
        &mut self,
        now: Instant,
        message: Message<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        self.0.handle_message(now, message, out)
    }

    fn handle_command(
        &mut self,
        now: Instant,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        self.0.handle_command(now, command, out)
    }

    fn set_private(&mut self, private: bool) {
        self.1.store(private, Ordering::Relaxed);
    }
}

/// Whoever copies what goes over the wire stands where the protocol does.
#[test]
fn the_wire_is_told_of_a_private_part_and_the_next_one_of_the_call_too() {
    let connected = || {
        let told = Arc::new(AtomicBool::new(false));
        let mut rig = Rig::watched(&told);
        rig.holds_claims = true;
        rig.open();
        (rig, told)
    };
    let (mut rig, told) = connected();
    rig.session.begin_call(rig.at());
    rig.exchange();
    rig.ready(0, &speaks(Pace::Clip));
    rig.say(0, &FromModule::PrivateBegin { max_ms: None });
    assert!(told.load(Ordering::Relaxed));
    rig.session.handle_lost(rig.at(), "cut".into());
    rig.exchange();
    let (mut next, told) = connected();
    assert!(!told.load(Ordering::Relaxed));
    let stream = next.session.hand_over().expect("it has started");
    assert!(rig.session.reattach(rig.at(), *stream));
    assert!(told.load(Ordering::Relaxed), "the part goes on");
    rig.far = next.far;
    rig.say(0, &FromModule::PrivateEnd);
    assert!(!told.load(Ordering::Relaxed));
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn the_caller_begins_and_ends_it_by_keys_and_who_only_listens_cannot() {
    let rule = PrivateRule { begin: digits("*7"), end: digits("*8"), ..PrivateRule::default() };
    let mut rig = rig(rule);
    rig.say(1, &FromModule::PrivateBegin { max_ms: None });
    assert!(!rig.session.is_private(), "a tap may not");
    rig.press("7*17");
    assert!(!rig.session.is_private());
    rig.press("*7");
    assert!(rig.session.is_private());
    rig.press("4111*8");
    assert!(!rig.session.is_private());
    rig.press("9");
    assert_eq!((rig.keys_of(1), rig.reported_keys()), ("7*17*79".into(), "7*17*79".into()));
    rig.press("*7");
    rig.command(Command::Hangup);
    let summary = rig.finish();
    assert_eq!(summary.private.unwrap().times, 2);
    let last = rig.reports.iter().rev().find_map(|report| match report {
        Report::Private { by, .. } => Some(*by),
        _ => None,
    });
    assert_eq!(last, Some(PrivateBy::End));
}

#[test]
fn who_comes_in_the_middle_of_a_part_or_after_one_is_told_of_it() {
    let mut rig = rig(PrivateRule::default());
    rig.pass(50);
    rig.say(0, &FromModule::PrivateBegin { max_ms: None });
    rig.pass(50);
    rig.say(0, &FromModule::PrivateEnd);
    rig.pass(50);
    rig.say(0, &FromModule::PrivateBegin { max_ms: None });
    let began = |at_ms| PrivatePart { state: PrivateState::Began, at_ms };
    let ended = |at_ms| PrivatePart { state: PrivateState::Ended, at_ms };
    let all = [began(1_000), ended(2_000), began(3_000)];
    assert_eq!(rig.parts_told(1), all);
    rig.told.clear();
    // Nothing of what it heard is safe with it: it hears all from the beginning.
    let now = rig.at();
    rig.session.module_down(now, PortId(1), "killed");
    rig.session.restart_module(now, PortId(1));
    rig.exchange();
    rig.ready(1, &Ready { want: vec!["private".into()], ..listens(8_000) });
    assert_eq!(rig.parts_told(1), all);
    assert_eq!(rig.parts_told(2), [], "it was there");
}

#[test]
fn consent_is_told_to_who_wants_to_know_and_to_who_comes_later() {
    use ringback_module::message::{Consent, ConsentGiven};
    let mut rig =
        Rig::new("twilio", vec![port("ivr", true), port("recorder", false), port("late", false)]);
    let wants = |ready: Ready| Ready { want: vec!["consent".into()], ..ready };
    rig.ready(0, &speaks(Pace::Live));
    rig.ready(1, &wants(listens(8_000)));
    rig.speak(&SECRET);
    rig.run(20);
    let given = FromModule::Consent(Consent { given: true, how: "pressed 1".into() });
    rig.say(1, &given);
    assert!(rig.told.is_empty(), "a tap cannot say so");
    rig.say(0, &given);
    rig.ready(2, &wants(listens(8_000)));
    let wanted = ConsentGiven { given: true, at_ms: 20, by: "ivr".into(), how: "pressed 1".into() };
    let told: Vec<_> = rig.told.iter().map(|(port, message)| (*port, message.clone())).collect();
    assert_eq!(told, [1, 2].map(|port| (port, ToModule::Consent(wanted.clone()))));
    assert!(rig.reports.contains(&Report::Consent(wanted)));
}
