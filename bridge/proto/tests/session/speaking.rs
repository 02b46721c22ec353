//! What modules say: played, cleared, marked, and heard by those who listen to the agent.

use super::*;

#[test]
fn barge_in_clears_provider_and_queue_and_says_what_was_heard() {
    let mut rig = Rig::with("twilio", |config| {
        let barge_in = Some(BargeIn { min_speech: Duration::from_millis(100) });
        let ports = vec![port("agent", true), port("vad", false)];
        config.routes = Route { barge_in, ..Route::to(ports) }.into();
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
    rig.say(0, &FromModule::AudioBegin { epoch: 0 });
    send(&mut rig, Epoch::Unnumbered);
    rig.say(0, &FromModule::AudioBegin { epoch: 1 });
    send(&mut rig, Epoch::Unnumbered);
    send(&mut rig, Epoch::Numbered(1));
    rig.run(1_000);
    rig.command(Command::Hangup);
    let summary = rig.finish();
    let hop = summary.ledger.hop("module.agent.out").expect("accounted").clone();
    assert_eq!((hop.entered, hop.left, hop.dropped), (4_800, 2_400, vec![(Reason::Stale, 2_400)]));
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
fn a_module_that_missed_a_clear_learns_of_it() {
    let other = PortConfig { kind: Kind::Text, ..PortConfig::listening("other") };
    let mut rig = Rig::new("twilio", vec![port("agent", true), other]);
    rig.ready(0, &speaks(Pace::Clip));
    rig.ready(1, &Ready::default());
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
fn a_mark_behind_cleared_sound_is_never_told_as_played() {
    let other = PortConfig { kind: Kind::Text, ..PortConfig::listening("other") };
    let mut rig = Rig::new("twilio", vec![port("agent", true), other]);
    rig.ready(0, &speaks(Pace::Clip));
    rig.ready(1, &Ready::default());
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
fn speech_of_long_ago_interrupts_nothing() {
    let mut rig = Rig::with("twilio", |config| {
        let barge_in = Some(BargeIn { min_speech: Duration::from_millis(100) });
        let ports = vec![port("agent", true), port("vad", false)];
        config.routes = Route { barge_in, ..Route::to(ports) }.into();
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
