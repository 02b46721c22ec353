//! The module on telephone sound: what it must hear, what it must not, and how it keeps time.

#[allow(dead_code, reason = "shared by several test binaries")]
mod common;

use common::{SENTENCES, mix, noise, pink_noise, rms, scaled, speech, speech_8k, tones, upsample};
use ringback_module::message::{
    self, AcceptIn, Call, Framing, Limits, Offer, Ready, Reject, Role, Start, StartCredit,
    StopReason, ToModule, Track, VadState,
};
use ringback_module::{AudioFrame, FrameFlags, FromModule, Input, Module, Output, Outputs};
use ringback_vad::Vad;
use serde_json::{Value, json};

const PER_MS: usize = 16;

fn start_with(config: Value, framing: Vec<Framing>) -> (Vad, Result<Ready, Reject>) {
    let tracks = [(0, Role::Caller), (1, Role::Agent)].map(|(id, role)| Track { id, role });
    let offer = Offer { tracks: tracks.into(), framing, ..Offer::default() };
    let mut module = Vad::new();
    let ready = module.start(&Start {
        v: 1,
        session: "s".into(),
        wall: String::new(),
        kind: message::Kind::Tap,
        call: Call::default(),
        config,
        offer,
        limits: Limits::default(),
        credit: StartCredit::default(),
        resume: None,
    });
    (module, ready)
}

fn started(config: Value) -> Vad {
    let (module, ready) = start_with(config, vec![]);
    ready.expect("a good configuration");
    module
}

fn frame(track: u16, pts: usize, samples: &[i16]) -> AudioFrame<'_> {
    let flags = FrameFlags::default();
    AudioFrame { track, rate: 16_000, pts: pts as u64, flags, samples }
}

fn hear(module: &mut Vad, frame: AudioFrame<'_>, out: &mut Outputs) {
    module.process(Input::Audio(frame), out).expect("accepted sound");
}

/// All `vad` messages: track, state, time.
fn reports(out: &Outputs) -> Vec<(u16, VadState, u64)> {
    let report = |output| match output {
        Output::Message(FromModule::Vad(vad)) => Some((vad.track, vad.state, vad.at_ms)),
        _ => None,
    };
    out.iter().filter_map(report).collect()
}

/// A whole session over `samples` of the caller's track, in frames of `frame_samples`.
fn session(config: Value, samples: &[i16], frame_samples: usize) -> Vec<(u16, VadState, u64)> {
    let (mut module, mut out) = (started(config), Outputs::new());
    for (n, piece) in samples.chunks(frame_samples).enumerate() {
        hear(&mut module, frame(0, n * frame_samples, piece), &mut out);
    }
    module.stop(StopReason::Hangup, &mut out);
    reports(&out)
}

/// Begin and end of each speech reported.
fn stretches(samples: &[i16]) -> Vec<(u64, u64)> {
    let reports = session(Value::Null, samples, 320);
    let pairs = reports.chunks(2).map(|pair| match pair {
        [(_, VadState::Speech, from), (_, VadState::Silence, to)] => (*from, *to),
        other => panic!("speech and silence must alternate: {other:?}"),
    });
    pairs.collect()
}

/// Share of speech that was reported as speech, and of silence that was, in percent of milliseconds.
///
/// What lies within two windows behind a sentence is neither: the network sees each window with its past, and sound fades away.
fn rates(samples: &[i16]) -> (f64, f64) {
    let found = stretches(samples);
    let within = |spans: &[(u64, u64)], ms| spans.iter().any(|(a, b)| (*a..*b).contains(&ms));
    let faded = SENTENCES.map(|(_, end)| (end, end + 64));
    let all = (0..(samples.len() / PER_MS) as u64).filter(|ms| !within(&faded, *ms));
    let (spoken, silent): (Vec<u64>, Vec<u64>) = all.partition(|ms| within(&SENTENCES, *ms));
    let share = |times: &[u64]| {
        let fired = times.iter().filter(|ms| within(&found, **ms)).count();
        100.0 * fired as f64 / times.len() as f64
    };
    (share(&spoken), share(&silent))
}

/// The speech file with noise so many decibels below the loudness of its sentences.
fn speech_with(noise: &[i16], decibels: f64) -> Vec<i16> {
    let clean = speech_8k();
    let spoken: Vec<i16> = SENTENCES
        .iter()
        .flat_map(|(a, b)| &clean[*a as usize * 8..*b as usize * 8])
        .copied()
        .collect();
    let loudness = rms(&spoken) * 10f64.powf(-decibels / 20.0);
    upsample(&mix(&clean, &scaled(&noise[..clean.len()], loudness)))
}

fn check_rates(name: &str, samples: &[i16], most_false: f64) {
    let (hit, false_alarm) = rates(samples);
    eprintln!("{name}: {hit:.1} % of speech, {false_alarm:.1} % of silence");
    assert!(hit >= 85.0, "{name}: only {hit:.1} % of speech was heard");
    assert!(
        false_alarm <= most_false,
        "{name}: {false_alarm:.1} % of silence was taken for speech"
    );
}

#[test]
fn speech_on_a_clean_line_is_heard() {
    check_rates("clean", &speech(), 2.0);
    assert_eq!(stretches(&speech()).len(), SENTENCES.len(), "one speech for each sentence");
}

#[test]
fn speech_is_heard_through_noise() {
    check_rates("pink noise at 15 dB", &speech_with(&pink_noise(200_000), 15.0), 5.0);
    check_rates("white noise at 10 dB", &speech_with(&noise(200_000), 10.0), 5.0);
    // So close to the noise, words fade for another two windows or so.
    check_rates("pink noise at 5 dB", &speech_with(&pink_noise(200_000), 5.0), 8.0);
}

#[test]
fn quiet_speech_is_heard() {
    let quiet: Vec<i16> = speech().iter().map(|sample| sample / 16).collect();
    check_rates("24 dB down", &quiet, 3.0);
}

#[test]
fn onsets_are_dated_back_to_where_speech_began() {
    for ((from, to), (sentence_from, sentence_to)) in
        stretches(&speech()).into_iter().zip(SENTENCES)
    {
        assert!(from.abs_diff(sentence_from) <= 128, "begin {sentence_from} was told as {from}");
        assert!(to.abs_diff(sentence_to) <= 160, "end {sentence_to} was told as {to}");
    }
}

#[test]
fn what_else_is_on_a_line_is_not_speech() {
    const LENGTH: usize = 24_000;
    let on_off = |samples: Vec<i16>, on: usize, off: usize| -> Vec<i16> {
        let gated = samples.into_iter().enumerate();
        gated.map(|(n, sample)| if n % (on + off) < on { sample } else { 0 }).collect()
    };
    let chord = |amplitude: f64| -> Vec<i16> {
        let held = tones(&[261.63, 329.63, 392.0, 523.25, 659.26], amplitude / 2.0, LENGTH);
        let swell = |n: usize| 0.7 + 0.3 * (n as f64 * std::f64::consts::TAU / 16_000.0).sin();
        held.iter().enumerate().map(|(n, s)| (f64::from(*s) * swell(n)) as i16).collect()
    };
    for amplitude in [600.0, 2_000.0, 6_000.0] {
        for (name, samples) in [
            ("ringback", on_off(tones(&[440.0, 480.0], amplitude, LENGTH), 16_000, 32_000)),
            ("dial tone", tones(&[350.0, 440.0], amplitude, LENGTH)),
            ("busy tone", on_off(tones(&[480.0, 620.0], amplitude, LENGTH), 4_000, 4_000)),
            ("European busy tone", on_off(tones(&[425.0], amplitude, LENGTH), 4_000, 4_000)),
            ("fax tone", tones(&[2_100.0], amplitude, LENGTH)),
            ("beep", on_off(tones(&[1_000.0], amplitude, LENGTH), 2_400, 16_000)),
            ("chord", chord(amplitude)),
            ("white noise", scaled(&noise(LENGTH), amplitude)),
            ("pink noise", scaled(&pink_noise(LENGTH), amplitude)),
        ] {
            check_silent(&format!("{name} at {amplitude}"), &samples);
        }
    }
    check_silent("silence", &vec![0; LENGTH]);
}

#[test]
fn keys_are_not_speech() {
    const DIGITS: [[f64; 2]; 4] =
        [[697.0, 1_209.0], [770.0, 1_336.0], [852.0, 1_477.0], [941.0, 1_633.0]];
    for amplitude in [600.0, 2_000.0, 8_000.0] {
        for (on, off) in [(400, 400), (800, 800), (1_600, 800), (800, 3_200), (8_000, 2_000)] {
            let press = |n: usize| {
                let mut samples = tones(&DIGITS[n % 4], amplitude, on);
                samples.resize(on + off, 0);
                samples
            };
            let samples: Vec<i16> = (0..8).flat_map(press).collect();
            check_silent(&format!("keys of {on} and {off} samples at {amplitude}"), &samples);
        }
    }
}

/// Nothing may be reported, be it from the very start or after silence, on a dead line or one with a little noise.
///
/// The one exception found: a quiet busy tone 32 ms after the very start of a dead line is taken for speech for 0.6 s.
fn check_silent(name: &str, samples: &[i16]) {
    for before in [0, 2_000, 8_000] {
        for floor in [0, 30] {
            let mut line = vec![0; before];
            line.extend_from_slice(samples);
            let hiss: Vec<i16> =
                noise(line.len()).iter().map(|s| (i32::from(*s) * floor / 32_768) as i16).collect();
            let found = session(Value::Null, &upsample(&mix(&line, &hiss)), 320);
            assert_eq!(found, [], "{name}, {before} samples of silence, noise of {floor}");
        }
    }
}

#[test]
fn the_length_of_frames_does_not_matter() {
    let samples = speech();
    let expected = session(Value::Null, &samples, 320);
    assert!(!expected.is_empty());
    for frame_samples in [1, 37, 160, 480, 512, 960, samples.len()] {
        assert_eq!(session(Value::Null, &samples, frame_samples), expected, "{frame_samples}");
    }
}

#[test]
fn times_are_those_of_the_media_clock() {
    let (mut module, mut out) = (started(Value::Null), Outputs::new());
    const LATE: usize = 3_600_000 * PER_MS;
    for (n, piece) in speech().chunks(320).enumerate() {
        hear(&mut module, frame(0, LATE + n * 320, piece), &mut out);
    }
    let shifted = session(Value::Null, &speech(), 320).into_iter();
    let shifted: Vec<_> =
        shifted.map(|(track, state, at)| (track, state, at + 3_600_000)).collect();
    assert_eq!(reports(&out)[..7], shifted[..7]);
}

#[test]
fn a_short_hole_does_not_end_speech_and_a_long_one_does() {
    let samples = speech();
    let sentence = &samples[SENTENCES[1].0 as usize * PER_MS..SENTENCES[1].1 as usize * PER_MS];
    // The cut is in mid-word, so that speech is going on behind the hole, too.
    let (before, after) = sentence.split_at(1_200 * PER_MS);
    for (hole_ms, expected) in [(200, 1), (900, 3)] {
        let (mut module, mut out) = (started(Value::Null), Outputs::new());
        hear(&mut module, frame(0, 0, before), &mut out);
        hear(&mut module, frame(0, (1_200 + hole_ms) * PER_MS, after), &mut out);
        let reports = reports(&out);
        assert_eq!(reports.len(), expected, "{hole_ms} ms: {reports:?}");
        if let [_, (_, state, at), (_, VadState::Speech, again)] = reports[..] {
            assert_eq!(state, VadState::Silence);
            assert!(
                (1_168..=1_200).contains(&at),
                "speech ends where the hole begins, not at {at}"
            );
            assert!((2_100..2_170).contains(&again), "and begins again behind it, not at {again}");
        }
    }
}

#[test]
fn a_clock_that_jumps_back_does_no_harm() {
    let samples = speech();
    let sentence = &samples[SENTENCES[0].0 as usize * PER_MS..SENTENCES[0].1 as usize * PER_MS];
    let (mut module, mut out) = (started(Value::Null), Outputs::new());
    hear(&mut module, frame(0, 1_000_000, sentence), &mut out);
    hear(&mut module, frame(0, 0, sentence), &mut out);
    hear(&mut module, frame(0, sentence.len(), &[0; 16_000]), &mut out);
    let last = reports(&out).pop().unwrap();
    assert_eq!(last.1, VadState::Silence, "speech before the jump ends after it");
    hear(&mut module, frame(0, usize::MAX - 100, &[0; 16_000]), &mut out);
}

#[test]
fn tracks_are_heard_apart() {
    let (mut module, ready) = start_with(json!({"tracks": ["caller", "agent"]}), vec![]);
    let accept = ready.unwrap().accept;
    assert_eq!((accept.tracks, accept.framing), (vec![0, 1], Framing::Hdr16));
    let mut out = Outputs::new();
    for (n, piece) in speech().chunks(320).enumerate() {
        hear(&mut module, frame(1, n * 320, piece), &mut out);
        hear(&mut module, frame(0, n * 320, &vec![0; piece.len()]), &mut out);
    }
    let alone = session(Value::Null, &speech(), 320);
    let expected: Vec<_> = alone.into_iter().map(|(_, state, at)| (1, state, at)).collect();
    module.stop(StopReason::Hangup, &mut out);
    assert_eq!(reports(&out), expected);
}

#[test]
fn the_offer_is_answered() {
    let (_, ready) = start_with(Value::Null, vec![Framing::Raw, Framing::Hdr16]);
    let ready = ready.unwrap();
    assert_eq!(ready.session, "s");
    assert_eq!(ready.accept.input, Some(AcceptIn::pcm(16_000)));
    assert_eq!((ready.accept.tracks, ready.accept.framing), (vec![0], Framing::Hdr16));
    let (_, plain) = start_with(json!({"tracks": ["agent"]}), vec![Framing::Raw]);
    let accept = plain.unwrap().accept;
    assert_eq!((accept.tracks, accept.framing), (vec![1], Framing::Raw));
}

#[test]
fn a_bad_configuration_is_refused() {
    let (_, answer) = start_with(json!({"treshold": 0.5}), vec![]);
    let reject = answer.unwrap_err();
    assert_eq!(reject.code, "bad_config");
    assert!(reject.message.contains("treshold"), "{}", reject.message);
}

#[test]
fn an_offer_without_the_track_is_refused() {
    let mut module = Vad::new();
    let start = json!({"v": 1, "session": "s", "call": {"id": "c", "provider": "p"},
        "offer": {"tracks": [{"id": 1, "role": "agent"}], "in": []}});
    let reject = module.start(&serde_json::from_value(start).unwrap()).unwrap_err();
    assert_eq!(reject.code, "unsupported_format");
}

#[test]
fn sound_that_was_not_accepted_is_an_error() {
    let (mut module, mut out) = (started(Value::Null), Outputs::new());
    let narrow = AudioFrame { rate: 8_000, ..frame(0, 0, &[0; 160]) };
    assert_eq!(module.process(Input::Audio(narrow), &mut out).unwrap_err().code, "wrong_rate");
    let other = Input::Audio(frame(7, 0, &[0; 320]));
    assert_eq!(module.process(other, &mut out).unwrap_err().code, "unknown_track");
}

#[test]
fn an_update_changes_a_running_session_or_says_why_not() {
    let (mut module, mut out) = (started(Value::Null), Outputs::new());
    for config in [json!({"threshold": 7}), json!({"tracks": ["agent"]})] {
        out.reset();
        module.process(Input::Message(&ToModule::Update { config }), &mut out).unwrap();
        let Some(Output::Message(FromModule::Error(error))) = out.iter().next() else {
            panic!("no error was sent");
        };
        assert_eq!((error.code.as_str(), error.fatal), ("bad_config", false));
    }
    let deaf = ToModule::Update { config: json!({"min_speech_ms": 60_000}) };
    out.reset();
    module.process(Input::Message(&deaf), &mut out).unwrap();
    hear(&mut module, frame(0, 0, &speech()), &mut out);
    assert!(out.is_empty(), "nobody speaks for a minute here");
}

#[test]
fn every_probability_can_be_had() {
    let mut module = started(json!({"probability_events": true}));
    let mut out = Outputs::new();
    hear(&mut module, frame(0, 32_000, &[0; 1_100]), &mut out);
    let events: Vec<_> = out
        .iter()
        .filter_map(|output| match output {
            Output::Message(FromModule::Event(event)) => Some(event),
            _ => None,
        })
        .collect();
    assert_eq!(events.len(), 2);
    assert_eq!(events[1].name, "vad.probability");
    assert_eq!((&events[1].data["track"], &events[1].data["at_ms"]), (&json!(0), &json!(2_032)));
    assert!(events[1].data["probability"].as_f64().unwrap() < 0.1);
}

#[test]
fn finalize_is_answered() {
    let (mut module, mut out) = (started(Value::Null), Outputs::new());
    let finalize = ToModule::Finalize { id: "f1".into() };
    module.process(Input::Message(&finalize), &mut out).unwrap();
    let answer = out.iter().next();
    assert!(matches!(answer, Some(Output::Message(FromModule::Finalized { id })) if id == "f1"));
}
