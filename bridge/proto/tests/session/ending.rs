//! How calls end, by whom, and how long anybody is waited for.

use super::*;

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
        config.routes = Route::to(vec![port("agent", true)]).into();
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
    config.routes = Route::to(vec![port("stt", false)]).into();
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
        config.routes =
            Route::to(vec![PortConfig { on_fail: OnFail::Hangup, ..port("agent", true) }]).into();
    });
    let now = rig.at();
    rig.session.module_gone(now, PortId(0), Some("exit status 1".into()));
    rig.exchange();
    assert_eq!(rig.closed, Some(1011));
    let reason = rig.finish().reason;
    assert!(matches!(reason, EndReason::Module { reason, .. } if reason == "exit status 1"));
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
fn a_call_ends_when_the_last_module_that_it_waits_for_has_missed_too_much() {
    let mut rig = Rig::with("twilio", |config| {
        let keep = Duration::from_secs(1);
        config.routes = Route { keep, ..Route::to(vec![port("strict", false)]) }.into();
    });
    rig.ready(0, &Ready { overflow: Overflow::Fail, ..listens(8_000) });
    for frame in 0..100 {
        rig.speak(&ramp(frame));
        rig.run(20);
    }
    rig.command(Command::Hangup);
    assert!(rig.session.is_over() && !rig.session.is_ended(), "it may have last words");
    assert!(rig.frames(0).is_empty());
    assert!(rig.session.is_ended(), "nobody would wake it any more");
    rig.exchange();
    assert_eq!(rig.dropped_modules, [0]);
}

#[test]
fn a_call_lasts_no_longer_than_it_may() {
    let mut rig = Rig::with("twilio", |config| {
        config.routes = Route::to(vec![port("tap", false)]).into();
        config.max_duration = Duration::from_secs(2);
    });
    rig.ready(0, &listens(8_000));
    rig.speak(&ramp(0));
    rig.run(1_900);
    assert!(rig.closed.is_none());
    rig.run(200);
    assert_eq!(rig.closed, Some(1008));
    assert_eq!(rig.finish().reason, EndReason::TooLong);
}

#[test]
fn a_last_word_that_does_not_end_is_waited_for_two_minutes() {
    let mut rig = Rig::new("twilio", vec![port("agent", true)]);
    rig.ready(0, &speaks(Pace::Clip));
    rig.speak(&ramp(0));
    rig.play(0, &[1_000; 8_000]);
    rig.say(0, &FromModule::Pause);
    let hangup = Hangup { after: HangupAfter::Playback, ..Hangup::default() };
    rig.say(0, &FromModule::Hangup(hangup));
    rig.run(1_000);
    rig.now += 118_000;
    rig.run(900);
    assert!(rig.closed.is_none(), "it is still paused");
    rig.run(200);
    assert_eq!(rig.closed, Some(1000));
    assert!(matches!(rig.finish().reason, EndReason::Hangup { .. }));
}

#[test]
fn a_module_that_was_given_up_is_not_listened_to() {
    let mut rig = Rig::new("twilio", vec![port("agent", true), port("tap", false)]);
    rig.ready(0, &speaks(Pace::Clip));
    rig.ready(1, &listens(8_000));
    rig.speak(&ramp(0));
    rig.session.module_gone(rig.at(), PortId(0), Some("failed for good".into()));
    rig.exchange();
    rig.say(0, &transcript("late"));
    rig.say(0, &FromModule::Hangup(Hangup::default()));
    assert!(rig.closed.is_none(), "it may not end the call");
    let told = |report: &Report| matches!(report, Report::Transcript(..));
    assert!(!rig.reports.iter().any(told), "{:?}", rig.reports);
    rig.command(Command::Hangup);
    rig.finish();
}
