//! What modules and clients are told beside sound: results, texts, keys, and what was wrong with an answer.

use super::*;

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
fn keys_reach_modules_that_want_them() {
    let mut rig = Rig::new("twilio", vec![port("menu", false)]);
    rig.ready(0, &Ready { want: vec!["dtmf".into()], ..listens(8_000) });
    rig.speak(&ramp(0));
    rig.command(Command::Dtmf(provider::Digit::new('5').expect("a key")));
    assert!(matches!(&rig.told[..], [(0, ToModule::Dtmf(d))] if d.digit == '5'));
    rig.command(Command::Hangup);
    rig.finish();
}

fn keys(rig: &Rig) -> String {
    let digit = |told: &(usize, ToModule)| match told {
        (0, ToModule::Dtmf(dtmf)) => Some(dtmf.digit),
        _ => None,
    };
    rig.told.iter().filter_map(digit).collect()
}

fn press(rig: &mut Rig, keys: &str) {
    for key in keys.chars() {
        rig.command(Command::Dtmf(provider::Digit::new(key).expect("a key")));
    }
}

fn wants(what: &str) -> Ready {
    Ready { want: vec![what.into()], ..listens(8_000) }
}

#[test]
fn keys_pressed_while_a_module_is_away_are_told_when_it_is_there() {
    let mut rig = Rig::new("twilio", vec![port("menu", false), port("deaf", false)]);
    press(&mut rig, "12");
    rig.ready(0, &wants("dtmf"));
    rig.ready(1, &listens(8_000));
    assert_eq!(keys(&rig), "12");
    rig.say(0, &transcript("one, two"));
    press(&mut rig, "3");
    rig.session.module_down(rig.at(), PortId(0), "killed");
    press(&mut rig, "4");
    rig.session.restart_module(rig.at(), PortId(0));
    rig.told.clear();
    rig.ready(0, &wants("dtmf"));
    assert_eq!(keys(&rig), "34", "what it said nothing about, and what it missed");
    rig.play(0, &[0; 160]);
    press(&mut rig, "5");
    rig.command(Command::Hangup);
    let summary = rig.finish();
    let hop = summary.ledger.hop("module.menu.keys").expect("accounted").clone();
    assert_eq!((hop.entered, hop.left, hop.queued), (5, 5, 0));
    assert!(summary.ledger.hop("module.deaf.keys").is_none(), "it wanted none");
}

#[test]
fn of_more_keys_than_anybody_presses_the_last_are_kept_and_the_others_counted() {
    let mut rig = Rig::new("twilio", vec![port("menu", false)]);
    press(&mut rig, &"1234567890".repeat(4));
    rig.ready(0, &wants("dtmf"));
    assert_eq!(keys(&rig), format!("90{}", "1234567890".repeat(3)));
    rig.command(Command::Hangup);
    let hop = rig.finish().ledger.hop("module.menu.keys").expect("accounted").clone();
    assert_eq!(hop.dropped, [(Reason::Overwritten, 8)]);
}

#[test]
fn what_a_module_does_not_read_is_told_later_or_counted() {
    let mut rig = Rig::new("twilio", vec![port("menu", false), port("stt", false)]);
    rig.ready(0, &Ready { want: vec!["dtmf".into(), "vad".into()], ..listens(8_000) });
    rig.ready(1, &listens(8_000));
    press(&mut rig, "1");
    let vad = Vad { track: 0, state: VadState::Speech, at_ms: 5, probability: None };
    rig.say(1, &FromModule::Vad(vad));
    for (port, message) in std::mem::take(&mut rig.told) {
        rig.session.message_refused(rig.at(), PortId(port), &message);
    }
    rig.exchange();
    assert!(rig.told.is_empty(), "nothing is told to who does not read");
    rig.session.module_reads(rig.at(), PortId(0));
    rig.exchange();
    assert_eq!(keys(&rig), "1");
    let lost = Report::Dropped { reason: Reason::Unread, count: 1 };
    assert_eq!(rig.reports.iter().filter(|report| **report == lost).count(), 1);
    rig.command(Command::Hangup);
    let summary = rig.finish();
    let told = summary.ledger.hop("module.menu.told").expect("accounted").clone();
    assert_eq!((told.entered, told.left), (2, 1), "the vad, and the key once");
    assert_eq!(told.dropped, [(Reason::Unread, 1)]);
}

#[test]
fn words_of_one_module_wait_for_another_that_is_away() {
    let mut rig = Rig::new("twilio", vec![port("notes", false), port("stt", false)]);
    rig.ready(1, &listens(8_000));
    rig.say(1, &transcript("before it was there"));
    rig.ready(0, &wants("text"));
    let told: Vec<_> = rig.told.iter().map(|(port, message)| (*port, message.clone())).collect();
    assert!(
        matches!(&told[..], [(0, ToModule::Text(words))] if words.text == "before it was there"),
        "{told:?}"
    );
    rig.command(Command::Hangup);
    let summary = rig.finish();
    assert!(summary.ledger.hop("module.stt.text").is_none(), "nobody is told his own words");
}
