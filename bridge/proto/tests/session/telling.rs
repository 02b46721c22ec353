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
