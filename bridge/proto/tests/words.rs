//! Whole calls that carry words instead of sound, in virtual time: a simulated phone on one side, modules as values on the other, the
//! session between.

use std::time::Duration;

use ringback_module::message::{
    Accept, AcceptIn, AcceptOut, Cleared, Hangup, HangupAfter, Languages, MarkReport, MarkStatus,
    Play, Ready, Say, Spoken, Start as ModuleStart, Transcript,
};
use ringback_module::{FromModule, ToModule};
use ringback_proto::Instant;
use ringback_proto::ledger::{Drop as Reason, Unit};
use ringback_proto::provider::{
    self, Dial, Digit, Message, Options, Outbox, PROVIDERS, Provider, Send,
};
use ringback_proto::session::{
    Action, EndReason, OnFail, PortConfig, PortId, Report, Route, Session, SessionConfig, Summary,
};
use ringback_proto::simulator::{PhoneEvent, Simulator};

/// A phone that talks to a session, with all that modules were told.
struct Talk {
    now: Instant,
    session: Session,
    phone: Simulator,
    starts: Vec<ModuleStart>,
    told: Vec<(usize, ToModule)>,
    stopped: Vec<usize>,
    dropped: Vec<usize>,
    reports: Vec<Report>,
    summary: Option<Summary>,
}

/// A provider whose streams carry words.
fn of_words() -> &'static dyn Provider {
    let mut words = PROVIDERS.iter().filter(|provider| provider.capabilities().text);
    *words.next().expect("there is one")
}

fn port(name: &str, speaks: bool) -> PortConfig {
    PortConfig { speaks, ..PortConfig::listening(name) }
}

/// Takes words and no sound.
fn wants_text() -> Ready {
    Ready { want: vec!["text".into(), "dtmf".into()], ..Ready::default() }
}

impl Talk {
    /// A call with these modules on it, which have been offered their sessions.
    fn new(provider: &dyn Provider, ports: Vec<PortConfig>) -> Self {
        let (request, mut phone) = Simulator::new(provider, &Dial::default(), false);
        let accepted = request.arrives(|upgrade| provider.accept(upgrade, &Options::default()));
        let accepted = accepted.expect("accepts");
        let mut config = SessionConfig::new("call-1", provider.name());
        config.routes = Route::to(ports).into();
        let now = Instant::from_millis(500);
        let session = Session::new(now, config, accepted.protocol);
        let mut out = Outbox::new();
        phone.handle_open(now, &mut out).expect("opens");
        let mut talk = Self {
            now,
            session,
            phone,
            starts: Vec::new(),
            told: Vec::new(),
            stopped: Vec::new(),
            dropped: Vec::new(),
            reports: Vec::new(),
            summary: None,
        };
        talk.deliver(&mut out);
        talk
    }

    /// A call with one module that wants words and may speak.
    fn with_agent() -> Self {
        let mut talk = Self::new(of_words(), vec![port("agent", true)]);
        talk.session.module_ready(talk.now, PortId(0), &wants_text());
        talk.settle();
        talk
    }

    fn deliver(&mut self, out: &mut Outbox) {
        for send in out.sends() {
            match send {
                Send::Text(span) => {
                    self.session.handle_message(self.now, Message::Text(out.text_of(span)));
                }
                Send::Binary(span) => {
                    self.session.handle_message(self.now, Message::Binary(out.octets(span)));
                }
                Send::Dial(..) | Send::TextOn(..) | Send::Drop(_) => {
                    panic!("nobody dials here: {send:?}")
                }
                Send::Close(_) => self.session.handle_closed(self.now, Ok(())),
            }
        }
        out.reset();
        self.settle();
    }

    /// Carries what the session has to say, and notes what it wants done.
    fn settle(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Routed { .. } => {}
                Action::StartModule { start, .. } => self.starts.push(*start),
                Action::TellModule { port, message } => self.told.push((port.0, message)),
                Action::StopModule { port, .. } => self.stopped.push(port.0),
                Action::DropModule { port } => self.dropped.push(port.0),
                Action::Report(report) => self.reports.push(report),
                Action::Ended(summary) => self.summary = Some(*summary),
                other => panic!("{other:?}"),
            }
        }
        let mut answers = Outbox::new();
        let sends = self.session.sends();
        let closed = sends.sends().iter().any(|send| matches!(send, Send::Close(_)));
        for send in sends.sends() {
            if let Send::Text(span) = send {
                let text = Message::Text(sends.text_of(span));
                self.phone.handle_message(self.now, text, &mut answers).expect("is understood");
            }
        }
        let any = !sends.sends().is_empty();
        self.session.sent(true);
        if any && !closed {
            self.deliver(&mut answers);
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.session.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    fn says(&mut self, text: &str) {
        let mut out = Outbox::new();
        self.phone.say(self.now, text, &mut out).expect("says");
        self.deliver(&mut out);
    }

    fn module(&mut self, port: usize, message: &FromModule) {
        self.session.module_message(self.now, PortId(port), message);
        self.settle();
    }

    fn say(&mut self, text: &str, last: bool, epoch: Option<u32>) {
        let say = Say { text: text.into(), last, language: None, epoch };
        self.module(0, &FromModule::Say(say));
    }

    fn hang_up(&mut self) -> &Summary {
        let mut out = Outbox::new();
        self.phone.hang_up(self.now, &mut out).expect("hangs up");
        self.deliver(&mut out);
        self.done()
    }

    /// All modules say that they are done.
    fn done(&mut self) -> &Summary {
        for port in std::mem::take(&mut self.stopped) {
            self.module(port, &FromModule::Done { stats: serde_json::Map::default() });
        }
        let summary = self.summary.as_ref().expect("ended");
        assert!(summary.ledger.is_balanced(), "{:?}", summary.ledger);
        summary
    }

    fn at_phone(&mut self) -> Vec<PhoneEvent> {
        let events = std::iter::from_fn(|| self.phone.poll_event());
        events.filter(|event| !matches!(event, PhoneEvent::Started(_))).collect()
    }

    fn transcripts(&self, of: usize) -> Vec<Transcript> {
        let told = self.told.iter().filter(|(port, _)| *port == of);
        let texts = told.filter_map(|(_, message)| match message {
            ToModule::Text(transcript) => Some(transcript.clone()),
            _ => None,
        });
        texts.collect()
    }

    fn last_error(&self) -> &str {
        let mut errors = self.reports.iter().rev().filter_map(|report| match report {
            Report::Error(_, error) => Some(error.message.as_str()),
            _ => None,
        });
        errors.next().expect("an error")
    }
}

#[test]
fn a_call_of_words_offers_no_sound_and_says_what_it_has() {
    let talk = Talk::new(of_words(), vec![port("agent", true), port("log", false)]);
    let [agent, log] = talk.starts.as_slice() else { panic!("{:?}", talk.starts) };
    let offer = &agent.offer;
    assert!(offer.tracks.is_empty() && offer.input.is_empty() && offer.output.is_empty());
    let verbs = ["text", "dtmf", "say", "language", "hangup", "dtmf.send"];
    for verb in verbs {
        assert!(offer.features.iter().any(|feature| feature == verb), "{verb}");
    }
    for verb in ["playback", "mark", "clear", "pause"] {
        assert!(!offer.features.iter().any(|feature| feature == verb), "{verb}");
    }
    assert!(agent.carries_text());
    assert!(!log.offer.features.iter().any(|feature| feature == "say"), "it may not speak");
}

#[test]
fn what_the_caller_says_is_a_transcript_for_who_wants_text() {
    let ports = vec![port("agent", true), port("log", false), port("deaf", false)];
    let mut talk = Talk::new(of_words(), ports);
    // Kits name the caller's track whether or not they hear it.
    let named = Accept { tracks: vec![0], ..Accept::default() };
    let named = Ready { accept: named, ..wants_text() };
    for (id, ready) in [wants_text(), named, Ready::default()].iter().enumerate() {
        talk.session.module_ready(talk.now, PortId(id), ready);
    }
    talk.wait(Duration::from_millis(700));
    talk.says("Hello?");
    talk.wait(Duration::from_millis(300));
    talk.says("Anybody there?");
    let transcript = |id: &str, text: &str, at_ms| Transcript {
        id: id.into(),
        text: text.into(),
        is_final: true,
        start_ms: at_ms,
        end_ms: at_ms,
        language: Some("en-US".into()),
        ..Transcript::default()
    };
    let expected = [transcript("p1", "Hello?", 700), transcript("p2", "Anybody there?", 1_000)];
    assert_eq!(talk.transcripts(0), expected);
    assert_eq!(talk.transcripts(1), expected);
    assert_eq!(talk.transcripts(2), []);
    let reported = talk.reports.iter().filter_map(|report| match report {
        Report::Transcript(None, transcript) => Some(transcript.clone()),
        _ => None,
    });
    assert_eq!(reported.collect::<Vec<_>>(), expected);
    let summary = talk.hang_up();
    assert_eq!(summary.reason, EndReason::Remote);
    assert_eq!((summary.texts_in, summary.texts_out, summary.frames_in), (2, 0, 0));
    assert_eq!(summary.duration, Duration::from_secs(1));
    assert_eq!((summary.heard, summary.played), (Duration::ZERO, Duration::ZERO));
}

#[test]
fn words_that_may_change_keep_their_name_until_they_are_final() {
    let mut talk = Talk::with_agent();
    let prompt = |text: &str, last: bool| {
        format!(r#"{{"type":"prompt","voicePrompt":"{text}","lang":"en-US","last":{last}}}"#)
    };
    for (text, last) in
        [("can", false), ("can you", false), ("Can you?", true), ("", true), ("So", true)]
    {
        talk.wait(Duration::from_millis(100));
        talk.session.handle_message(talk.now, Message::Text(&prompt(text, last)));
        talk.settle();
    }
    let told: Vec<_> = talk
        .transcripts(0)
        .into_iter()
        .map(|t| (t.id, t.text, t.is_final, t.start_ms, t.end_ms))
        .collect();
    let expected = [
        ("p1", "can", false, 100, 100),
        ("p1", "can you", false, 100, 200),
        ("p1", "Can you?", true, 100, 300),
        ("p2", "So", true, 500, 500),
    ];
    assert_eq!(told, expected.map(|(id, text, last, s, e)| (id.into(), text.into(), last, s, e)));
}

#[test]
fn who_wants_sound_is_told_that_there_is_none_and_the_others_go_on() {
    let ports = vec![port("recorder", false), port("player", true), port("agent", false)];
    let mut talk = Talk::new(of_words(), ports);
    let hears = Accept { input: Some(AcceptIn::pcm(8_000)), ..Accept::default() };
    let plays = Accept { output: Some(AcceptOut::pcm(8_000)), ..Accept::default() };
    for (id, accept) in [hears, plays].into_iter().enumerate() {
        talk.session.module_ready(talk.now, PortId(id), &Ready { accept, ..wants_text() });
    }
    talk.session.module_ready(talk.now, PortId(2), &wants_text());
    talk.settle();
    assert_eq!(talk.dropped, [0, 1]);
    let failed: Vec<_> = talk
        .reports
        .iter()
        .filter_map(|report| match report {
            Report::ModuleFailed { port, reason, retrying: false } => {
                Some((port.0, reason.as_str()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(failed.iter().map(|(port, _)| *port).collect::<Vec<_>>(), [0, 1]);
    assert!(
        failed[0].1.contains("no sound") && failed[0].1.contains("want \"text\""),
        "{failed:?}"
    );
    assert!(failed[1].1.contains("no sound") && failed[1].1.contains("`say`"), "{failed:?}");
    talk.says("Still there?");
    assert_eq!(talk.transcripts(2).len(), 1);
    let summary = talk.hang_up();
    assert_eq!(summary.modules[0].error.as_deref().map(|e| e.contains("no sound")), Some(true));
    assert_eq!(summary.modules[2].error, None);
}

#[test]
fn a_call_that_cannot_do_without_such_a_module_ends() {
    let required = PortConfig { on_fail: OnFail::Hangup, ..port("recorder", false) };
    let mut talk = Talk::new(of_words(), vec![required]);
    let accept = Accept { input: Some(AcceptIn::pcm(8_000)), ..Accept::default() };
    talk.session.module_ready(talk.now, PortId(0), &Ready { accept, ..Ready::default() });
    talk.settle();
    let summary = talk.summary.as_ref().expect("ended");
    assert!(matches!(&summary.reason, EndReason::Module { module, .. } if module == "recorder"));
}

#[test]
fn what_a_module_says_is_spoken_and_told() {
    let mut talk = Talk::with_agent();
    talk.say("Good ", false, None);
    talk.say("morning.", true, Some(0));
    assert_eq!(talk.at_phone(), [PhoneEvent::Said("Good morning.".into())]);
    let said = talk.reports.iter().filter(|report| matches!(report, Report::Said(PortId(0), _)));
    assert_eq!(said.count(), 2);
    let summary = talk.hang_up();
    assert_eq!((summary.texts_in, summary.texts_out), (0, 2));
    let hop = summary.ledger.hop("module.agent.say").expect("counted");
    assert_eq!((hop.unit, hop.entered, hop.left), (Unit::Messages, 2, 2));
}

#[test]
fn a_barge_in_at_the_provider_is_told_like_a_clear_and_words_of_before_are_dropped() {
    let mut talk = Talk::with_agent();
    talk.say("Life is a complex set of processes and events.", true, Some(0));
    talk.wait(Duration::from_secs(1));
    talk.says("Wait!");
    let cleared =
        Cleared { epoch: 0, played_ms: 1_000, discarded_ms: 0, heard: Some("Life is a".into()) };
    assert!(talk.told.contains(&(0, ToModule::Cleared(cleared.clone()))), "{:?}", talk.told);
    assert!(talk.reports.contains(&Report::Cleared { cleared, by: None }));
    talk.say("It was said before the module knew.", true, Some(0));
    talk.say("Yes?", true, Some(1));
    let said: Vec<_> =
        talk.at_phone().into_iter().filter(|e| matches!(e, PhoneEvent::Said(_))).collect();
    let life = "Life is a complex set of processes and events.";
    assert_eq!(said, [life, "Yes?"].map(|words| PhoneEvent::Said(words.into())));
    let summary = talk.hang_up();
    let hop = summary.ledger.hop("module.agent.say").expect("counted");
    assert_eq!(hop.dropped, [(Reason::Stale, 1)]);
}

#[test]
fn a_clear_begins_an_epoch_and_ends_what_was_begun() {
    let mut talk = Talk::with_agent();
    talk.say("Let me see, ", false, Some(0));
    talk.module(0, &FromModule::Clear { epoch: Some(0) });
    let cleared = Cleared { epoch: 0, ..Cleared::default() };
    assert_eq!(talk.told, [(0, ToModule::Cleared(cleared))]);
    talk.say("never mind.", true, Some(1));
    let said = ["Let me see, ", "never mind."].map(|words| PhoneEvent::Said(words.into()));
    assert_eq!(talk.at_phone(), said);
    talk.module(0, &FromModule::Clear { epoch: Some(0) });
    assert_eq!(talk.told.len(), 1, "that epoch is long over");
    talk.hang_up();
}

#[test]
fn what_nobody_can_tell_is_answered_at_once() {
    let mut talk = Talk::with_agent();
    talk.say("One.", true, None);
    talk.module(0, &FromModule::Mark { name: "said".into() });
    let report =
        MarkReport { name: "said".into(), epoch: 0, status: MarkStatus::Cleared, played_ms: 0 };
    assert_eq!(talk.told, [(0, ToModule::Mark(report))]);
    talk.module(0, &FromModule::Pause);
    assert!(talk.last_error().contains("cannot be held"), "{}", talk.last_error());
    talk.hang_up();
}

#[test]
fn keys_and_languages_go_both_their_ways() {
    let mut talk = Talk::with_agent();
    let mut out = Outbox::new();
    talk.phone.press(talk.now, Digit::new('7').expect("a key"), &mut out).expect("presses");
    talk.deliver(&mut out);
    assert!(matches!(&talk.told[..], [(0, ToModule::Dtmf(dtmf))] if dtmf.digit == '7'));
    let send = ringback_module::message::DtmfSend { digits: "4#".into(), ..Default::default() };
    talk.module(0, &FromModule::DtmfSend(send));
    let languages = Languages { speech: Some("sv-SE".into()), recognition: None };
    talk.module(0, &FromModule::Language(languages));
    let keys = ['4', '#'].map(|key| PhoneEvent::Dtmf(Digit::new(key).expect("a key")));
    let language = PhoneEvent::Language { speech: Some("sv-SE".into()), recognition: None };
    let [four, hash] = keys;
    assert_eq!(talk.at_phone(), [four, hash, language]);
    talk.module(0, &FromModule::Language(Languages::default()));
    assert!(talk.last_error().contains("neither"), "{}", talk.last_error());
    talk.hang_up();
}

fn hangup(after: HangupAfter) -> FromModule {
    let data = Some(serde_json::json!({"reasonCode": "live-agent"}));
    FromModule::Hangup(Hangup { after, reason: "a person is wanted".into(), data })
}

#[test]
fn a_module_that_wants_to_know_is_told_what_was_spoken() {
    let ports = vec![port("agent", true), port("log", false)];
    let mut talk = Talk::new(of_words(), ports);
    let want = vec!["text".into(), "spoken".into()];
    talk.session.module_ready(talk.now, PortId(0), &Ready { want, ..Ready::default() });
    talk.session.module_ready(talk.now, PortId(1), &wants_text());
    talk.settle();
    assert!(talk.starts[1].offer.features.iter().any(|feature| feature == "spoken"));
    talk.say("Good morning.", true, None);
    let mut out = Outbox::new();
    let (_, mut twilio) = of_words().dial(&Dial::default());
    let told = ringback_proto::provider::Command::Spoken("Good morning.");
    twilio.handle_command(talk.now, told, &mut out).expect("tells");
    talk.deliver(&mut out);
    let spoken = Spoken { epoch: 0, text: "Good morning.".into() };
    assert_eq!(talk.told, [(0, ToModule::Spoken(spoken))]);
    talk.hang_up();
}

#[test]
fn a_file_is_for_the_provider_to_play() {
    let mut talk = Talk::with_agent();
    assert!(talk.starts[0].offer.features.iter().any(|feature| feature == "play"));
    let url = "https://files.example/hold.mp3";
    let hold = Play { times: 0, preemptible: true, interruptible: Some(false), ..Play::new(url) };
    talk.module(0, &FromModule::Play(hold));
    talk.module(0, &FromModule::Play(Play { epoch: Some(7), ..Play::new(url) }));
    assert_eq!(talk.at_phone(), [PhoneEvent::Plays(url.into())]);
    for url in ["/etc/passwd", "file:///etc/passwd", ""] {
        talk.module(0, &FromModule::Play(Play::new(url)));
        assert!(talk.last_error().contains("`play`"), "{}", talk.last_error());
    }
    let summary = talk.hang_up();
    let hop = summary.ledger.hop("module.agent.say").expect("counted");
    assert_eq!((hop.entered, hop.left), (2, 1));
    assert_eq!((summary.texts_out, &hop.dropped[..]), (1, &[(Reason::Stale, 1)][..]));
    let mut sound =
        Talk::new(provider::find("twilio").expect("in the table"), vec![port("agent", true)]);
    sound.session.module_ready(sound.now, PortId(0), &Ready::default());
    sound.module(0, &FromModule::Play(Play::new(url)));
    assert!(sound.last_error().contains("carries sound"), "{}", sound.last_error());
}

#[test]
fn a_hang_up_hands_its_data_on() {
    let mut talk = Talk::with_agent();
    talk.module(0, &hangup(HangupAfter::Now));
    let handed = PhoneEvent::HandedOn(r#"{"reasonCode":"live-agent"}"#.into());
    assert_eq!(talk.at_phone(), [handed, PhoneEvent::HungUp]);
    let summary = talk.done();
    assert_eq!(summary.reason.name(), "hangup");
}

#[test]
fn a_hang_up_after_playback_lets_the_words_be_spoken() {
    let mut talk = Talk::with_agent();
    let goodbye = "Thank you for calling, and goodbye.";
    talk.say(goodbye, true, None);
    let began = talk.now;
    talk.module(0, &hangup(HangupAfter::Playback));
    talk.wait(Duration::from_millis(75) * goodbye.len() as u32);
    assert!(!talk.phone.is_over(), "cut off after {:?}", talk.now - began);
    talk.wait(Duration::from_secs(3));
    assert!(talk.phone.is_over());
    assert_eq!(talk.done().reason.name(), "hangup");

    let mut silent = Talk::with_agent();
    silent.module(0, &hangup(HangupAfter::Playback));
    assert!(silent.phone.is_over(), "there is nothing to wait for");
}

#[test]
fn who_may_not_speak_is_not_spoken_for() {
    let mut talk = Talk::new(of_words(), vec![port("log", false)]);
    talk.session.module_ready(talk.now, PortId(0), &wants_text());
    talk.say("Me too!", true, None);
    assert_eq!(talk.at_phone(), []);
    assert!(talk.reports.contains(&Report::Dropped { reason: Reason::NotSpeaker, count: 1 }));
    let summary = talk.hang_up();
    let hop = summary.ledger.hop("module.log.say").expect("counted");
    assert_eq!(hop.dropped, [(Reason::NotSpeaker, 1)]);
}

#[test]
fn words_are_refused_on_a_call_of_sound() {
    let sound = provider::find("twilio").expect("in the table");
    let mut talk = Talk::new(sound, vec![port("agent", true)]);
    assert!(!talk.starts[0].carries_text());
    talk.session.module_ready(talk.now, PortId(0), &wants_text());
    talk.say("Hello?", true, None);
    assert!(talk.last_error().contains("carries sound"), "{}", talk.last_error());
    let languages = Languages { speech: Some("sv-SE".into()), recognition: None };
    talk.module(0, &FromModule::Language(languages));
    assert!(talk.last_error().contains("`language`"), "{}", talk.last_error());
    talk.module(0, &hangup(HangupAfter::Now));
    assert!(talk.last_error().contains("hands nothing on"), "{}", talk.last_error());
}

#[test]
fn what_the_caller_says_before_a_module_is_ready_is_told_once_it_is() {
    let mut talk = Talk::new(of_words(), vec![port("agent", true), port("deaf", false)]);
    let half = r#"{"type":"prompt","voicePrompt":"Hel","lang":"en-US","last":false}"#;
    talk.session.handle_message(talk.now, Message::Text(half));
    talk.says("Hello?");
    talk.says("Anybody there?");
    assert_eq!(talk.told, []);
    talk.session.module_ready(talk.now, PortId(0), &wants_text());
    talk.session.module_ready(talk.now, PortId(1), &Ready::default());
    talk.settle();
    talk.says("At last.");
    let texts = |of| talk.transcripts(of).into_iter().map(|t| t.text).collect::<Vec<_>>();
    assert_eq!(texts(0), ["Hello?", "Anybody there?", "At last."]);
    assert_eq!(texts(1), [""; 0]);
}

fn texts(talk: &Talk, of: usize) -> Vec<String> {
    talk.transcripts(of).into_iter().map(|transcript| transcript.text).collect()
}

/// What a module takes what it was told by.
const TAKEN: FromModule = FromModule::Ack { in_ms: 0, lag_ms: None };

impl Talk {
    fn restart(&mut self, port: usize) {
        self.session.restart_module(self.now, PortId(port));
        self.session.module_ready(self.now, PortId(port), &wants_text());
        self.settle();
    }

    fn dropped_words(&self, of: Reason) -> u64 {
        let counts = self.reports.iter().filter_map(|report| match report {
            Report::Dropped { reason, count } if *reason == of => Some(*count),
            _ => None,
        });
        counts.sum()
    }
}

#[test]
fn what_the_caller_says_while_a_module_is_away_is_told_when_it_is_back() {
    let mut talk = Talk::with_agent();
    talk.says("Taken.");
    talk.module(0, &TAKEN);
    talk.session.module_down(talk.now, PortId(0), "crashed");
    talk.says("Hello again?");
    talk.session.restart_module(talk.now, PortId(0));
    talk.says("Are you there?");
    talk.restart(0);
    assert_eq!(texts(&talk, 0), ["Taken.", "Hello again?", "Are you there?"]);
    let summary = talk.hang_up();
    let hop = summary.ledger.hop("module.agent.text").expect("counted");
    assert_eq!((hop.unit, hop.entered, hop.left, hop.queued), (Unit::Messages, 3, 3, 0));
    assert_eq!(hop.dropped, []);
}

#[test]
fn a_module_that_went_away_before_it_answered_is_told_again_but_not_for_ever() {
    let mut talk = Talk::with_agent();
    talk.says("What broke it?");
    let log = ringback_module::message::Log::default();
    talk.module(0, &FromModule::Log(log));
    for expected in [2, 2, 2] {
        talk.session.module_down(talk.now, PortId(0), "crashed");
        talk.restart(0);
        assert_eq!(talk.transcripts(0).len(), expected);
    }
    talk.says("Another.");
    talk.say("An answer.", true, None);
    talk.session.module_down(talk.now, PortId(0), "crashed");
    talk.restart(0);
    assert_eq!(texts(&talk, 0), ["What broke it?", "What broke it?", "Another."]);
    let summary = talk.hang_up();
    let hop = summary.ledger.hop("module.agent.text").expect("counted");
    assert_eq!((hop.entered, hop.left), (2, 2), "told twice, and one message all the same");
}

#[test]
fn of_what_a_module_misses_the_last_words_are_kept_and_the_others_counted() {
    let mut talk = Talk::new(of_words(), vec![port("agent", true), port("deaf", false)]);
    talk.session.module_ready(talk.now, PortId(1), &Ready::default());
    talk.session.module_down(talk.now, PortId(1), "crashed");
    for number in 0..20 {
        talk.says(&format!("Number {number}."));
    }
    assert_eq!(talk.dropped_words(Reason::Overwritten), 4);
    talk.restart(1);
    talk.session.module_ready(talk.now, PortId(0), &wants_text());
    talk.settle();
    assert_eq!(texts(&talk, 0).first().map(String::as_str), Some("Number 4."));
    assert_eq!((texts(&talk, 0).len(), texts(&talk, 1).len()), (16, 0));
    let summary = talk.hang_up();
    let hop = summary.ledger.hop("module.agent.text").expect("counted");
    assert_eq!((hop.entered, hop.left), (20, 16));
    assert_eq!(hop.dropped, [(Reason::Overwritten, 4)]);
    assert!(summary.ledger.hop("module.deaf.text").is_none(), "it missed nothing it wanted");
}

#[test]
fn words_for_a_module_that_never_comes_back_are_counted() {
    let mut talk = Talk::with_agent();
    talk.session.module_down(talk.now, PortId(0), "crashed");
    talk.says("Hello?");
    talk.says("Hello!");
    talk.session.module_gone(talk.now, PortId(0), Some("crashed too often".into()));
    talk.settle();
    assert_eq!(talk.dropped_words(Reason::ModuleGone), 2);
    talk.says("To nobody.");
    let summary = talk.hang_up();
    let hop = summary.ledger.hop("module.agent.text").expect("counted");
    assert_eq!((hop.entered, hop.left), (2, 0));
    assert_eq!(hop.dropped, [(Reason::ModuleGone, 2)]);
    let mut talk = Talk::with_agent();
    talk.session.module_down(talk.now, PortId(0), "crashed");
    talk.says("Goodbye.");
    let mut out = Outbox::new();
    talk.phone.hang_up(talk.now, &mut out).expect("hangs up");
    talk.deliver(&mut out);
    talk.wait(Duration::from_secs(5));
    let summary = talk.done();
    assert_eq!(summary.ledger.unbalanced().count(), 0);
    assert_eq!(talk.dropped_words(Reason::CallEnded), 1);
}

#[test]
fn a_module_that_was_away_is_told_which_epoch_it_is() {
    let mut talk = Talk::with_agent();
    talk.say("A long story that is cut off in its middle.", true, None);
    talk.session.module_down(talk.now, PortId(0), "crashed");
    talk.wait(Duration::from_millis(800));
    talk.says("Stop.");
    talk.session.restart_module(talk.now, PortId(0));
    talk.settle();
    let resume = talk.starts[1].resume.as_ref().expect("it comes back");
    assert_eq!((resume.epoch, resume.from_ms), (1, 0));
    talk.session.module_ready(talk.now, PortId(0), &wants_text());
    talk.settle();
    let cleared = talk.told.iter().any(|(_, message)| matches!(message, ToModule::Cleared(_)));
    assert!(!cleared, "it knows by `resume`: {:?}", talk.told);
    assert_eq!(texts(&talk, 0), ["Stop."]);
    talk.hang_up();
}
