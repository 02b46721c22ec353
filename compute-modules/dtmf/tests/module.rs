//! The module as the bridge drives it: offers, frames, holes, and what is reported when.

use std::f64::consts::TAU;

use ringback_dtmf::Dtmf;
use ringback_module::message::{
    AcceptIn, DtmfSource, Framing, Ready, Reject, StopReason, ToModule,
};
use ringback_module::{AudioFrame, FrameFlags, FromModule, Input, Module, Output, Outputs};
use serde_json::{Value, json};

const FRAME: usize = 160;
const PER_MS: usize = 8;

/// Offers a caller (track 0) and an agent (track 1).
fn start_with(config: &Value, framing: &[Framing]) -> (Dtmf, Result<Ready, Reject>) {
    let start = json!({"v": 1, "session": "s", "call": {"id": "c", "provider": "p"}, "config": config,
        "offer": {"tracks": [{"id": 0, "role": "caller"}, {"id": 1, "role": "agent"}], "in": [], "framing": framing}});
    let mut module = Dtmf::new();
    let answer = module.start(&serde_json::from_value(start).expect("a start message"));
    (module, answer)
}

fn started() -> Dtmf {
    let (module, answer) = start_with(&Value::Null, &[]);
    answer.expect("a good offer");
    module
}

/// A key 5 of so many milliseconds, and silence around it.
fn five(before_ms: usize, tone_ms: usize, after_ms: usize) -> Vec<i16> {
    let tone = |n: usize| {
        let sines = [770.0, 1_336.0].map(|hertz: f64| (TAU * hertz * n as f64 / 8_000.0).sin());
        (sines.iter().sum::<f64>() * 5_000.0) as i16
    };
    let mut samples = vec![0; before_ms * PER_MS];
    samples.extend((0..tone_ms * PER_MS).map(tone));
    samples.resize(samples.len() + after_ms * PER_MS, 0);
    samples
}

fn frame(track: u16, pts: usize, samples: &[i16]) -> AudioFrame<'_> {
    let flags = FrameFlags::default();
    AudioFrame { track, rate: 8_000, pts: pts as u64, flags, samples }
}

fn hear(module: &mut Dtmf, frame: AudioFrame<'_>, out: &mut Outputs) {
    module.process(Input::Audio(frame), out).expect("accepted sound");
}

/// Track, key, begin and length of each press.
fn reports(out: &Outputs) -> Vec<(u16, char, u64, u64)> {
    let report = |output| match output {
        Output::Message(FromModule::Dtmf(dtmf)) => {
            assert_eq!(dtmf.source, DtmfSource::Inband);
            Some((dtmf.track, dtmf.digit, dtmf.at_ms, dtmf.duration_ms.unwrap_or_default()))
        }
        _ => None,
    };
    out.iter().filter_map(report).collect()
}

fn check_near((track, key, at, duration): (u16, char, u64, u64), expected: (u16, u64, u64)) {
    assert_eq!((track, key), (expected.0, '5'));
    assert!(at.abs_diff(expected.1) <= 4, "begin {at}, not {}", expected.1);
    assert!(duration.abs_diff(expected.2) <= 8, "length {duration}, not {}", expected.2);
}

#[test]
fn a_press_is_reported_once_with_its_place_on_the_media_clock() {
    let (mut module, mut out) = (started(), Outputs::new());
    for (n, piece) in five(200, 100, 200).chunks(FRAME).enumerate() {
        hear(&mut module, frame(0, 80_000 + n * FRAME, piece), &mut out);
    }
    module.stop(StopReason::Hangup, &mut out);
    let reports = reports(&out);
    assert_eq!(reports.len(), 1);
    check_near(reports[0], (0, 10_200, 100));
}

#[test]
fn a_key_still_down_at_the_end_is_reported() {
    let (mut module, mut out) = (started(), Outputs::new());
    hear(&mut module, frame(0, 0, &five(40, 500, 0)), &mut out);
    assert!(out.is_empty());
    module.stop(StopReason::Hangup, &mut out);
    check_near(reports(&out)[0], (0, 40, 500));
}

#[test]
fn concealed_and_missing_sound_does_not_split_a_press() {
    let sound = five(100, 200, 100);
    for missing in [9, 10, 11] {
        for concealed in [false, true] {
            let (mut module, mut out) = (started(), Outputs::new());
            for (n, piece) in sound.chunks(FRAME).enumerate() {
                let whole = frame(0, n * FRAME, piece);
                if n != missing {
                    hear(&mut module, whole, &mut out);
                } else if concealed {
                    let made_up = AudioFrame { samples: &[0; FRAME], ..whole };
                    let flags = FrameFlags::SYNTHESIZED;
                    hear(&mut module, AudioFrame { flags, ..made_up }, &mut out);
                }
            }
            let reports = reports(&out);
            assert_eq!(reports.len(), 1, "frame {missing}, concealed: {concealed}");
            check_near(reports[0], (0, 100, 200));
        }
    }
}

#[test]
fn a_flag_alone_breaks_no_press_and_a_clock_that_jumps_back_ends_it() {
    let (mut module, mut out) = (started(), Outputs::new());
    let tone = five(20, 200, 0);
    hear(&mut module, frame(0, 8_000, &tone[..800]), &mut out);
    let flags = FrameFlags::DISCONTINUITY;
    hear(&mut module, AudioFrame { flags, ..frame(0, 8_800, &tone[800..]) }, &mut out);
    assert!(out.is_empty());
    hear(&mut module, frame(0, 0, &tone), &mut out);
    check_near(reports(&out)[0], (0, 1_020, 200));
    hear(&mut module, frame(0, usize::MAX - 10, &tone), &mut out);
    check_near(reports(&out)[1], (0, 20, 200));
}

#[test]
fn tracks_are_heard_apart() {
    let (mut module, answer) = start_with(&json!({"tracks": ["caller", "agent"]}), &[]);
    let accept = answer.unwrap().accept;
    assert_eq!((accept.tracks, accept.framing), (vec![0, 1], Framing::Hdr16));
    let mut out = Outputs::new();
    for (n, (caller, agent)) in
        five(20, 60, 120).chunks(FRAME).zip(five(80, 60, 60).chunks(FRAME)).enumerate()
    {
        hear(&mut module, frame(0, n * FRAME, caller), &mut out);
        hear(&mut module, frame(1, n * FRAME, agent), &mut out);
    }
    let reports = reports(&out);
    assert_eq!(reports.len(), 2);
    check_near(reports[0], (0, 20, 60));
    check_near(reports[1], (1, 80, 60));
}

#[test]
fn the_offer_is_answered() {
    let (_, answer) = start_with(&Value::Null, &[Framing::Raw, Framing::Hdr16]);
    let ready = answer.unwrap();
    assert_eq!(ready.session, "s");
    assert_eq!(ready.accept.input, Some(AcceptIn::pcm(8_000)));
    assert_eq!((ready.accept.tracks, ready.accept.framing), (vec![0], Framing::Hdr16));
    let (_, answer) = start_with(&json!({"tracks": ["agent"]}), &[Framing::Raw]);
    let accept = answer.unwrap().accept;
    assert_eq!((accept.tracks, accept.framing), (vec![1], Framing::Raw));
}

#[test]
fn what_cannot_be_is_refused() {
    let (_, answer) = start_with(&json!({"digits": 4}), &[]);
    let reject = answer.unwrap_err();
    assert_eq!(reject.code, "bad_config");
    assert!(reject.message.contains("digits"), "{}", reject.message);

    let start = json!({"v": 1, "session": "s", "call": {"id": "c", "provider": "p"},
        "offer": {"tracks": [{"id": 1, "role": "agent"}], "in": []}});
    let start = serde_json::from_value(start).unwrap();
    assert_eq!(Dtmf::new().start(&start).unwrap_err().code, "unsupported_format");

    let (mut module, mut out) = (started(), Outputs::new());
    let wide = AudioFrame { rate: 16_000, ..frame(0, 0, &[0; 320]) };
    assert_eq!(module.process(Input::Audio(wide), &mut out).unwrap_err().code, "wrong_rate");
    let other = Input::Audio(frame(7, 0, &[0; FRAME]));
    assert_eq!(module.process(other, &mut out).unwrap_err().code, "unknown_track");
}

#[test]
fn an_update_that_changes_something_is_answered_by_an_error() {
    for (config, complaint) in [
        (json!({}), None),
        (json!({"tracks": ["agent"]}), Some("cannot change")),
        (json!({"tracks": "all"}), Some("dtmf config")),
    ] {
        let (mut module, mut out) = (started(), Outputs::new());
        module.process(Input::Message(&ToModule::Update { config }), &mut out).unwrap();
        let message = out.iter().next().map(|output| match output {
            Output::Message(FromModule::Error(error)) => error.message.as_str(),
            other => panic!("{other:?}"),
        });
        assert_eq!(message.is_some(), complaint.is_some());
        assert!(message.unwrap_or_default().contains(complaint.unwrap_or_default()));
    }
}

#[test]
fn finalize_is_answered() {
    let (mut module, mut out) = (started(), Outputs::new());
    let finalize = ToModule::Finalize { id: "f1".into() };
    module.process(Input::Message(&finalize), &mut out).unwrap();
    let answer = out.iter().next();
    assert!(matches!(answer, Some(Output::Message(FromModule::Finalized { id })) if id == "f1"));
}
