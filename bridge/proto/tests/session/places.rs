//! The places of modules on a call: who gets words in the place of sound, and who follows whom that fails.

use super::*;

fn text(name: &str) -> PortConfig {
    PortConfig { kind: Kind::Text, ..PortConfig::listening(name) }
}

/// Takes neither sound nor anything else by name.
fn nothing() -> Ready {
    Ready::default()
}

/// A second module that stands by for the first.
fn with_follower(first: PortConfig) -> Vec<PortConfig> {
    let first = PortConfig { on_fail: OnFail::Fallback(PortId(1)), ..first };
    let second = PortConfig { name: "second".into(), on_fail: OnFail::Continue, ..first.clone() };
    vec![first, PortConfig { standby: true, ..second }]
}

fn texts(rig: &Rig, port: usize) -> Vec<&str> {
    let told = rig.told.iter().filter(|(to, _)| *to == port);
    let texts = told.filter_map(|(_, message)| match message {
        ToModule::Text(transcript) => Some(transcript.text.as_str()),
        _ => None,
    });
    texts.collect()
}

#[test]
fn a_text_module_is_offered_no_sound_and_gets_words_without_asking() {
    let mut rig = Rig::new("twilio", vec![port("stt", false), text("words")]);
    let start = &rig.started[&1];
    assert_eq!(start.kind, Kind::Text);
    let offer = &start.offer;
    assert!(offer.tracks.is_empty() && offer.input.is_empty() && offer.output.is_empty());
    assert_eq!(offer.features, ["resume", "text", "vad", "dtmf", "clear", "hangup", "private"]);
    rig.ready(0, &listens(8_000));
    rig.ready(1, &nothing());
    rig.speak(&ramp(0));
    rig.say(0, &transcript("hello"));
    assert_eq!(texts(&rig, 1), ["hello"]);
    assert!(rig.frames(1).is_empty());
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn a_text_module_that_takes_sound_is_told_so_and_let_go() {
    for ready in [listens(8_000), speaks(Pace::Clip)] {
        let mut rig = Rig::new("twilio", vec![text("words")]);
        rig.ready(0, &ready);
        assert_eq!(rig.dropped_modules, [0]);
        let why = "a module of the kind `text` gets words and no sound; accept no `in`";
        assert!(rig.reports.iter().any(|report| matches!(
            report,
            Report::ModuleFailed { reason, retrying: false, .. } if reason.starts_with(why)
        )));
        rig.command(Command::Hangup);
        rig.finish();
    }
}

#[test]
fn words_heard_before_a_text_module_is_there_are_told_when_it_is() {
    let mut rig = Rig::new("twilio", vec![port("stt", false), text("words")]);
    rig.ready(0, &listens(8_000));
    rig.say(0, &transcript("before"));
    rig.ready(1, &nothing());
    assert_eq!(texts(&rig, 1), ["before"]);
    rig.say(1, &FromModule::Ack { in_ms: 0, lag_ms: None });
    rig.session.module_down(rig.at(), PortId(1), "killed");
    rig.say(0, &transcript("meanwhile"));
    rig.session.restart_module(rig.at(), PortId(1));
    rig.exchange();
    rig.ready(1, &nothing());
    assert_eq!(texts(&rig, 1), ["before", "meanwhile"]);
    rig.command(Command::Hangup);
    let summary = rig.finish();
    let hop = summary.ledger.hop("module.words.text").expect("accounted");
    assert_eq!((hop.entered, hop.left, hop.lost()), (2, 2, 0));
}

#[test]
fn a_text_module_clears_hangs_up_and_plays_nothing() {
    let mut rig = Rig::new("twilio", vec![port("agent", true), text("words")]);
    rig.ready(0, &speaks(Pace::Clip));
    rig.ready(1, &nothing());
    rig.play(0, &[500; 8_000]);
    rig.run(100);
    rig.play(1, &[7; 160]);
    rig.say(1, &FromModule::Mark { name: "m".into() });
    rig.say(1, &FromModule::Clear { epoch: Some(0) });
    let cleared = |port: usize| {
        let mut told = rig.told.iter().filter(|(to, _)| *to == port);
        told.any(|(_, message)| matches!(message, ToModule::Cleared(c) if c.epoch == 0))
    };
    assert!(cleared(0) && cleared(1), "both know the epoch that is over");
    let by = Some(PortId(1));
    assert!(rig.reports.iter().any(|r| matches!(r, Report::Cleared { by: b, .. } if *b == by)));
    rig.say(1, &FromModule::Clear { epoch: Some(0) });
    let clears = rig.reports.iter().filter(|r| matches!(r, Report::Cleared { .. })).count();
    assert_eq!(clears, 1, "a clear of an epoch that is over does nothing");
    rig.say(1, &FromModule::Hangup(Hangup { after: HangupAfter::Now, ..Hangup::default() }));
    let summary = rig.finish();
    assert!(matches!(&summary.reason, EndReason::Hangup { module, .. } if module == "words"));
    let hop = summary.ledger.hop("module.words.out").expect("accounted");
    assert_eq!(hop.dropped, [(Reason::NotSpeaker, 160)]);
}

#[test]
fn a_module_that_fails_is_followed_where_it_was_and_the_follower_speaks() {
    let mut rig = Rig::new("twilio", with_follower(port("first", true)));
    assert!(!rig.started.contains_key(&1), "it only stands by");
    assert_eq!(rig.session.port_count(), 1);
    rig.ready(0, &speaks(Pace::Clip));
    for frame in 0..100 {
        rig.speak(&ramp(frame));
        rig.run(20);
    }
    let heard = rig.frames(0);
    rig.say(0, &FromModule::Ack { in_ms: 1_200, lag_ms: None });
    rig.play(0, &[500; 1_600]);
    rig.say(0, &FromModule::Clear { epoch: None });
    rig.session.module_gone(rig.at(), PortId(0), Some("died too often".into()));
    rig.exchange();
    let (failed, to) = (PortId(0), PortId(1));
    assert!(rig.reports.contains(&Report::FellBack { failed, to }));
    let start = &rig.started[&1];
    let resume = start.resume.as_ref().expect("it is told where it goes on");
    assert_eq!((resume.from_ms, resume.epoch, &resume.token), (1_200, 1, &None));
    assert_eq!((start.kind, start.offer.output.is_empty()), (Kind::Agent, false));
    rig.ready(1, &speaks(Pace::Clip));
    assert_eq!(rig.frames(1), heard[60..]);
    rig.play(1, &[600; 1_600]);
    rig.run(500);
    rig.command(Command::Hangup);
    let summary = rig.finish();
    let names: Vec<_> =
        summary.modules.iter().map(|m| (m.name.as_str(), m.starts, m.replaced)).collect();
    assert_eq!(names, [("first", 1, true), ("second", 1, false)]);
    let hop = summary.ledger.hop("module.second.out").expect("accounted");
    assert_eq!((hop.left, hop.lost()), (1_600, 0));
}

#[test]
fn a_module_that_will_not_begin_is_followed_from_the_first_sample_on() {
    let mut rig = Rig::new("twilio", with_follower(port("first", true)));
    for frame in 0..10 {
        rig.speak(&ramp(frame));
        rig.run(20);
    }
    let reject = ringback_module::message::Reject { code: "busy".into(), ..Default::default() };
    rig.session.module_rejected(rig.at(), PortId(0), &reject);
    rig.exchange();
    assert_eq!(rig.started[&1].resume, None, "a session like any other");
    rig.ready(1, &speaks(Pace::Clip));
    let frames = rig.frames(1);
    assert_eq!((frames.len(), frames[0].0), (10, 0));
    rig.command(Command::Hangup);
    rig.finish();
}

#[test]
fn a_follower_that_fails_too_is_followed_by_what_was_said_of_it() {
    let mut ports = with_follower(port("first", false));
    ports[1].on_fail = OnFail::Fallback(PortId(2));
    ports.push(PortConfig { name: "last".into(), on_fail: OnFail::Hangup, ..ports[1].clone() });
    let mut rig = Rig::new("twilio", ports);
    for failed in 0..3 {
        assert_eq!(rig.started.len(), failed + 1);
        rig.session.module_gone(rig.at(), PortId(failed), Some("broken".into()));
        rig.exchange();
    }
    let summary = rig.finish();
    assert!(matches!(&summary.reason, EndReason::Module { module, .. } if module == "last"));
}

#[test]
fn nobody_follows_once_the_call_is_over() {
    let mut rig = Rig::new("twilio", with_follower(port("first", false)));
    rig.ready(0, &listens(8_000));
    rig.speak(&ramp(0));
    rig.command(Command::Hangup);
    rig.session.module_gone(rig.at(), PortId(0), Some("crashed at the end".into()));
    rig.exchange();
    let summary = rig.finish();
    assert_eq!(rig.started.len(), 1);
    assert_eq!(summary.modules.len(), 1, "who only stood by is no part of the account");
}

#[test]
fn words_the_first_had_not_taken_are_told_to_the_second() {
    let mut ports = with_follower(text("first"));
    ports.push(port("stt", false));
    let mut rig = Rig::new("twilio", ports);
    rig.ready(2, &listens(8_000));
    rig.ready(0, &nothing());
    rig.say(2, &transcript("taken"));
    rig.say(0, &FromModule::Ack { in_ms: 0, lag_ms: None });
    rig.say(2, &transcript("told"));
    rig.session.module_down(rig.at(), PortId(0), "killed");
    rig.say(2, &transcript("missed"));
    rig.session.module_gone(rig.at(), PortId(0), Some("died too often".into()));
    rig.exchange();
    rig.ready(1, &nothing());
    assert_eq!(texts(&rig, 1), ["told", "missed"]);
    rig.command(Command::Hangup);
    rig.finish();
}
