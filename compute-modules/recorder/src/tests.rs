//! Recordings as other programs read them: placed by position, and valid at every moment.

use std::path::Path;

use ringback_module::{FrameFlags, Output};
use serde_json::Value;

use super::*;

/// A directory that is gone with the test.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("recorder-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start_message(session: &str, config: &Value, resumed: bool) -> Start {
    let mut start = json!({
        "v": 1, "session": session, "call": {"id": "c", "provider": "test"}, "config": config,
        "offer": {"tracks": [{"id": 0, "role": "caller"}, {"id": 1, "role": "agent"}],
            "in": [{"encoding": "pcmu", "rate": 8000}]},
    });
    if resumed {
        start["resume"] = json!({"from_ms": 0});
    }
    serde_json::from_value(start).unwrap()
}

pub(crate) fn start(session: &str, config: &Value) -> Result<Recorder, Reject> {
    let mut recorder = Recorder::new();
    recorder.start(&start_message(session, config, false)).map(|_| recorder)
}

/// Gives samples of one track and returns what the recorder says.
pub(crate) fn give(
    recorder: &mut Recorder,
    track: u16,
    pts: u64,
    samples: &[i16],
) -> (Vec<FromModule>, Result<(), ModuleError>) {
    let mut out = Outputs::new();
    let frame = AudioFrame { track, rate: 8_000, pts, flags: FrameFlags::default(), samples };
    let taken = recorder.process(Input::Audio(frame), &mut out);
    (messages(&out), taken)
}

fn messages(out: &Outputs) -> Vec<FromModule> {
    out.iter()
        .map(|answer| match answer {
            Output::Message(message) => message.clone(),
            Output::Audio(_) => panic!("a recorder does not speak"),
        })
        .collect()
}

/// A key in a file of that folder, as a recorder is told of it.
#[cfg(feature = "encryption")]
pub(crate) fn key_in(dir: &Path) -> Value {
    let file = dir.join("recordings.key");
    std::fs::write(&file, "5c".repeat(32)).unwrap();
    json!({"key": format!("file:{}", file.display()), "key_id": "2026"})
}

/// A sealed recording as a WAV file, and what is known of it.
#[cfg(feature = "encryption")]
pub(crate) fn unseal(octets: &[u8], keys: &vault::Keys) -> (Vec<u8>, vault::Contents) {
    let mut wav = std::io::Cursor::new(Vec::new());
    let contents = vault::write_wav(vault::Reader::open(octets, keys).unwrap(), &mut wav).unwrap();
    (wav.into_inner(), contents)
}

/// What kill -9 leaves: nothing runs any more, no destructor either. But the system closes its files.
#[cfg(unix)]
pub(crate) fn left_by_a_kill(recorder: Recorder) {
    recorder.open.as_ref().unwrap().file.let_go();
    std::mem::forget(recorder);
}

fn stop(recorder: &mut Recorder) -> Value {
    stop_for(recorder, StopReason::Hangup)
}

fn stop_for(recorder: &mut Recorder, reason: StopReason) -> Value {
    let mut out = Outputs::new();
    recorder.stop(reason, &mut out);
    finished(&messages(&out))
}

fn tell(recorder: &mut Recorder, message: &ToModule) {
    recorder.process(Input::Message(message), &mut Outputs::new()).unwrap();
}

fn private(recorder: &mut Recorder, state: PrivateState, at_ms: u64) {
    tell(recorder, &ToModule::Private(PrivatePart { state, at_ms }));
}

fn finished(said: &[FromModule]) -> Value {
    match said.last() {
        Some(FromModule::Event(event)) if event.name == "recorder.finished" => event.data.clone(),
        other => panic!("expected recorder.finished, got {other:?}"),
    }
}

/// What a recording is called while it is made.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Left and right of the file, as any reader finds it now.
fn read(path: &Path) -> (Vec<i16>, Vec<i16>) {
    let mut wav = hound::WavReader::open(path).unwrap();
    assert_eq!((wav.spec().channels, wav.spec().sample_rate), (2, 8_000));
    let samples: Vec<i16> = wav.samples().collect::<Result<_, _>>().unwrap();
    let channel = |n| samples.iter().skip(n).step_by(2).copied().collect();
    (channel(0), channel(1))
}

#[test]
fn both_sides_in_their_places() {
    let dir = Dir::new("places");
    let mut recorder = start("01JD-5_x", &json!({"dir": dir.0.join("new/deep")})).unwrap();
    let path = dir.0.join("new/deep/01JD-5_x.wav");
    let (said, _) = give(&mut recorder, 0, 0, &[1, 2, 3, 4]);
    let started = json!({"path": path.display().to_string(), "rate": 8000});
    assert!(
        matches!(&said[..], [FromModule::Event(e)] if e.name == "recorder.started" && e.data == started)
    );
    give(&mut recorder, 1, 2, &[-1, -2]).1.unwrap();
    give(&mut recorder, 7, 0, &[99; 80]).1.unwrap();
    give(&mut recorder, 0, 6, &[5, 6]).1.unwrap();
    let end = stop(&mut recorder);
    assert_eq!(
        end,
        json!({"path": path.display().to_string(), "state": "finished", "ms": 1, "late_ms": 0})
    );
    assert_eq!(read(&path), (vec![1, 2, 3, 4, 0, 0, 5, 6], vec![0, 0, -1, -2, 0, 0, 0, 0]));
}

#[test]
fn one_side_alone_is_written_a_second_late_and_what_comes_later_is_kept() {
    let dir = Dir::new("alone");
    let mut recorder = start("s", &json!({"dir": dir.0})).unwrap();
    for n in 0..150 {
        give(&mut recorder, 0, n * 160, &[7; 160]).1.unwrap();
    }
    // The other side's first two seconds were written as silence; this piece begins 100 ms earlier and is kept.
    let mut said = 0;
    for pts in [15_200, 16_800, 40_000] {
        let samples: Vec<i16> = (said..said + 1_600).map(|n| n + 1).collect();
        give(&mut recorder, 1, pts, &samples).1.unwrap();
        said += 1_600;
    }
    // Once more, and nothing new.
    give(&mut recorder, 1, 40_000, &[9; 1_600]).1.unwrap();
    let end = stop(&mut recorder);
    assert_eq!((&end["ms"], &end["late_ms"]), (&json!(5_200), &json!(100)));
    let (left, right) = read(&dir.0.join("s.wav"));
    assert_eq!(left[..24_000], vec![7; 24_000]);
    let sound: Vec<i16> = right.iter().copied().filter(|&sample| sample != 0).collect();
    assert_eq!(sound, (1..=4_800).collect::<Vec<i16>>(), "all of it, in order");
    // Silence of its own has brought it back to its place.
    let place = |sample| right.iter().position(|&s| s == sample);
    assert_eq!((place(1), place(1_601), place(3_201)), (Some(16_000), Some(17_600), Some(40_000)));
}

#[test]
fn a_killed_recorder_loses_a_second_at_most() {
    let dir = Dir::new("killed");
    let path = unfinished(&dir.0.join("s.wav"));
    let mut recorder = start("s", &json!({"dir": dir.0})).unwrap();
    assert_eq!(read(&path).0.len(), 0, "valid from the start");
    let mut acked = Vec::new();
    for n in 0..225_u64 {
        let samples = [n as i16; 160];
        give(&mut recorder, 1, n * 160, &samples).1.unwrap();
        for message in give(&mut recorder, 0, n * 160, &samples).0 {
            if let FromModule::Ack { in_ms, .. } = message {
                acked.push(in_ms);
            }
        }
        if n % 8 != 0 {
            continue;
        }
        let (left, right) = read(&path);
        assert!(left.len() + 8_000 >= n as usize * 160, "{} after frame {n}", left.len());
        assert!(left.iter().enumerate().all(|(at, &s)| s == (at / 160) as i16));
        assert_eq!(left, right);
        // Beyond what the header tells of, a tenth of a second is not in the file at most.
        let written = std::fs::metadata(&path).unwrap().len();
        assert!(written + 100 * 32 >= 44 + (n + 1) * 640, "{written} after frame {n}");
    }
    assert_eq!(acked, [1_000, 2_000, 3_000, 4_000]);
    assert_eq!(names(&dir.0), ["s.json", "s.wav.part"]);
    left_by_a_kill(recorder);
    assert_eq!(read(&path).0.len(), 32_000);

    let mut again = Recorder::new();
    again.start(&start_message("s", &json!({"dir": dir.0}), true)).unwrap();
    for n in 100..250_u64 {
        let samples = [n as i16; 160];
        let (said, _) = give(&mut again, 0, n * 160, &samples);
        assert!(!said.iter().any(|m| matches!(m, FromModule::Event(_))), "started once");
        give(&mut again, 1, n * 160, &samples).1.unwrap();
    }
    let end = stop(&mut again);
    assert_eq!((&end["ms"], &end["late_ms"]), (&json!(5_000), &json!(0)));
    let (left, right) = read(&dir.0.join("s.wav"));
    assert!(left.iter().enumerate().all(|(at, &s)| s == (at / 160) as i16));
    assert_eq!(left, right);
    assert_eq!(names(&dir.0), ["s.json", "s.wav"]);
}

#[test]
fn what_is_known_of_a_recording_stands_beside_it() {
    let dir = Dir::new("about");
    let mut message = start_message("s", &json!({"dir": dir.0}), false);
    message.wall = "2026-11-21T07:05:09Z".into();
    (message.call.from, message.call.to) = (Some("+4930123".into()), Some("+4930456".into()));
    let mut recorder = Recorder::new();
    recorder.start(&message).unwrap();
    let path = dir.0.join("s.wav");
    let about = About::read(&path).unwrap().unwrap();
    assert_eq!((about.state, about.ms), (State::Recording, 0));
    give(&mut recorder, 0, 0, &[1; 8_000]).1.unwrap();
    stop(&mut recorder);
    let about = About::read(&path).unwrap().unwrap();
    let wanted = json!({
        "v": 1, "call": "c", "provider": "test", "from": "+4930123", "to": "+4930456",
        "began": "2026-11-21T07:05:09Z", "rate": 8000, "ms": 1000, "state": "finished",
    });
    assert_eq!(serde_json::to_value(&about).unwrap(), wanted);
    #[cfg(unix)]
    for path in [path.clone(), About::path(&path)] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
}

#[test]
fn pieces_longer_than_the_limit_stay_whole() {
    let dir = Dir::new("long");
    let mut recorder = start("s", &json!({"dir": dir.0})).unwrap();
    let samples: Vec<i16> = (0..30_000).map(|s| (s % 30_000) as i16).collect();
    give(&mut recorder, 0, 5, &samples).1.unwrap();
    stop(&mut recorder);
    let (left, right) = read(&dir.0.join("s.wav"));
    assert_eq!((&left[..5], &left[5..]), (&[0; 5][..], &samples[..]));
    assert_eq!(right, vec![0; 30_005]);
}

#[test]
fn an_hour_of_silence_at_most() {
    let dir = Dir::new("jump");
    let mut recorder = start("s", &json!({"dir": dir.0})).unwrap();
    give(&mut recorder, 0, 0, &[1; 80]).1.unwrap();
    let (said, taken) = give(&mut recorder, 0, u64::MAX - 10, &[1; 80]);
    assert_eq!(taken.unwrap_err().code, "clock_jump");
    assert!(finished(&said)["error"].as_str().unwrap().contains("clock_jump"));
    assert_eq!(give(&mut recorder, 0, 80, &[1; 80]), (vec![], Ok(())), "it is over");
}

#[test]
fn files_are_not_replaced_unasked() {
    let dir = Dir::new("replace");
    let path = dir.0.join("a.wav");
    let config = json!({"path": path});
    let mut first = start("s", &config).unwrap();
    give(&mut first, 0, 0, &[1; 80]).1.unwrap();
    stop(&mut first);
    let reject = start("s", &config).unwrap_err();
    assert!(reject.message.contains("overwrite"), "{}", reject.message);
    assert_eq!(read(&path).0.len(), 80);
    let mut second = start("s", &json!({"path": path, "overwrite": true})).unwrap();
    stop(&mut second);
    assert_eq!(read(&path).0.len(), 0);
}

#[test]
fn no_session_id_leaves_the_directory() {
    let dir = Dir::new("names");
    let long = "x".repeat(MAX_NAME + 1);
    for session in
        ["", ".", "..", "../x", "a/b", "a\\b", "/etc/x", "a\0b", "a.b", "a b", "%2e", "é", &long]
    {
        let reject = start(session, &json!({"dir": dir.0})).unwrap_err();
        assert_eq!(reject.code, "bad_config", "{session:?}");
    }
    assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 0);
}

#[test]
fn bad_configuration_is_refused() {
    for (config, word) in [
        (Value::Null, "exactly one"),
        (json!({"path": "a.wav", "dir": "b"}), "exactly one"),
        (json!({"dir": "x", "rate": 7}), "rate 7"),
        (json!({"dri": "x"}), "dri"),
        (json!({"path": "/no/such/dir/a.wav"}), "/no/such/dir/a.wav"),
    ] {
        let reject = start("s", &config).unwrap_err();
        assert_eq!(reject.code, "bad_config");
        assert!(reject.message.contains(word), "{}", reject.message);
    }
}

#[test]
fn sound_of_another_rate_is_refused() {
    let dir = Dir::new("rate");
    let mut recorder = start("s", &json!({"dir": dir.0, "rate": 16000})).unwrap();
    let (said, taken) = give(&mut recorder, 0, 0, &[1; 80]);
    assert_eq!(taken.unwrap_err().code, "format");
    assert_eq!(finished(&said)["ms"], 0);
}

/// Tells whether the caller agrees, and returns what the recorder says to that.
fn consent(recorder: &mut Recorder, given: bool, at_ms: u64) -> Vec<FromModule> {
    let (by, how) = ("ivr".into(), "pressed 1".into());
    let told = ToModule::Consent(ConsentGiven { given, at_ms, by, how });
    let mut out = Outputs::new();
    recorder.process(Input::Message(&told), &mut out).unwrap();
    messages(&out)
}

#[test]
fn nothing_is_written_before_the_caller_agrees() {
    let dir = Dir::new("consent");
    let config = json!({"dir": dir.0.join("r"), "record": "on_consent"});
    let mut never = start("never", &config).unwrap();
    give(&mut never, 0, 0, &[1; 16_000]).1.unwrap();
    assert_eq!(consent(&mut never, false, 10), []);
    give(&mut never, 0, 16_000, &[1; 16_000]).1.unwrap();
    let mut out = Outputs::new();
    never.stop(StopReason::Hangup, &mut out);
    assert!(
        matches!(&messages(&out)[..], [FromModule::Event(e)] if e.name == "recorder.skipped" && e.data == json!({"reason": "no_consent"}))
    );
    assert_eq!(names(&dir.0.join("r")), [""; 0]);

    let mut once = start("once", &config).unwrap();
    give(&mut once, 0, 0, &[1; 8_000]).1.unwrap();
    assert_eq!(names(&dir.0.join("r")), [""; 0]);
    let said = consent(&mut once, true, 900);
    assert!(
        matches!(&said[..], [FromModule::Event(e)] if e.name == "recorder.started"),
        "{said:?}"
    );
    // Said before it, and come after it.
    give(&mut once, 1, 6_000, &[2; 2_000]).1.unwrap();
    give(&mut once, 0, 8_000, &[3; 8_000]).1.unwrap();
    give(&mut once, 1, 8_000, &[4; 8_000]).1.unwrap();
    let end = finished(&consent(&mut once, false, 2_000));
    assert_eq!(end["ms"], 2_000);
    give(&mut once, 0, 16_000, &[5; 8_000]).1.unwrap();
    once.stop(StopReason::Hangup, &mut Outputs::new());
    let (left, right) = read(&dir.0.join("r/once.wav"));
    assert!(left == [vec![0; 8_000], vec![3; 8_000]].concat());
    assert!(right == [vec![0; 7_200], vec![2; 800], vec![4; 8_000]].concat());
    let about = About::read(&dir.0.join("r/once.wav")).unwrap().unwrap().consent.unwrap();
    assert_eq!((about.at_ms, about.by.as_str(), about.how.as_str()), (900, "ivr", "pressed 1"));
}

#[test]
fn a_recording_of_which_nobody_said_that_it_is_over_says_so() {
    let dir = Dir::new("cut");
    let config = json!({"dir": dir.0.join("r")});
    for (session, reason, state) in
        [("over", StopReason::Error, State::Finished), ("cut", StopReason::Gone, State::Cut)]
    {
        let mut recorder = start(session, &config).unwrap();
        give(&mut recorder, 0, 0, &[1; 8_000]).1.unwrap();
        let end = stop_for(&mut recorder, reason);
        assert_eq!((&end["state"], &end["ms"]), (&json!(state), &json!(1_000)), "{end}");
        let about = About::read(&dir.0.join(format!("r/{session}.wav"))).unwrap().unwrap();
        assert_eq!((about.state, about.missing_ms), (state, 0));
    }
}

#[test]
fn what_a_recording_that_failed_was_told_and_does_not_hold_is_counted() {
    let dir = Dir::new("missing");
    let mut recorder = start("s", &json!({"dir": dir.0.join("r")})).unwrap();
    give(&mut recorder, 0, 0, &[1; 8_000]).1.unwrap();
    // The other track did not come: half a second waits for it.
    give(&mut recorder, 0, 8_000, &[1; 4_000]).1.unwrap();
    let mut out = Outputs::new();
    let frame =
        AudioFrame { track: 0, rate: 16_000, pts: 0, flags: FrameFlags::default(), samples: &[1] };
    recorder.process(Input::Audio(frame), &mut out).unwrap_err();
    let end = finished(&messages(&out));
    assert_eq!(
        (&end["state"], &end["ms"], &end["missing_ms"]),
        (&json!("failed"), &json!(500), &json!(1_000)),
        "{end}"
    );
    let about = About::read(&dir.0.join("r/s.wav")).unwrap().unwrap();
    assert_eq!((about.state, about.ms, about.missing_ms), (State::Failed, 500, 1_000));
}

#[test]
fn sound_that_a_recorder_came_too_late_for_is_a_gap_and_what_was_never_sent_is_none() {
    use ringback_module::message::Gap as Missing;
    let dir = Dir::new("late");
    let mut recorder = start("s", &json!({"dir": dir.0.join("r")})).unwrap();
    for (track, from_ms, to_ms, reason) in [
        (0, 100, 200, GapReason::Provider),
        (0, 1_000, 3_000, GapReason::Backpressure),
        (1, 1_100, 3_100, GapReason::Backpressure),
        (7, 3_500, 3_600, GapReason::Backpressure),
        (0, 5_000, 6_000, GapReason::Resume),
    ] {
        tell(&mut recorder, &ToModule::Gap(Missing { track, from_ms, to_ms, reason }));
    }
    give(&mut recorder, 0, 48_000, &[1; 800]).1.unwrap();
    stop(&mut recorder);
    let gaps = About::read(&dir.0.join("r/s.wav")).unwrap().unwrap().gaps;
    let gap = |from_ms, to_ms| Gap { from_ms, to_ms };
    assert_eq!(gaps, [gap(1_000, 3_100), gap(5_000, 6_000)]);
}

#[test]
fn what_was_private_before_the_caller_agreed_is_noted_from_where_the_recording_begins() {
    use PrivateState::{Began, Ended};
    let dir = Dir::new("private-consent");
    let config = json!({"dir": dir.0.join("r"), "record": "on_consent"});
    let mut recorder = start("s", &config).unwrap();
    // One is over by then, and one is not.
    private(&mut recorder, Began, 100);
    private(&mut recorder, Ended, 200);
    private(&mut recorder, Began, 500);
    consent(&mut recorder, true, 1_000);
    private(&mut recorder, Ended, 1_500);
    private(&mut recorder, Began, 1_700);
    private(&mut recorder, Ended, 1_800);
    give(&mut recorder, 0, 8_000, &[1; 8_000]).1.unwrap();
    stop(&mut recorder);
    let pauses = About::read(&dir.0.join("r/s.wav")).unwrap().unwrap().pauses;
    let pause = |from_ms, to_ms| Gap { from_ms, to_ms };
    assert_eq!(pauses, [pause(1_000, 1_500), pause(1_700, 1_800)]);
}

#[cfg(feature = "encryption")]
mod sealed {
    use super::*;

    fn keys(config: &Value) -> vault::Keys {
        check(config, &|_| None).unwrap().keys.unwrap()
    }

    #[test]
    fn a_sealed_recording_has_all_in_it_and_nothing_beside_it() {
        let dir = Dir::new("sealed");
        let config = json!({"dir": dir.0.join("r"), "encrypt": key_in(&dir.0)});
        let mut message = start_message("s", &config, false);
        message.call.from = Some("+4930123".into());
        let mut recorder = Recorder::new();
        recorder.start(&message).unwrap();
        for n in 0..120_u64 {
            give(&mut recorder, 0, n * 160, &[n as i16; 160]).1.unwrap();
            give(&mut recorder, 1, n * 160, &[-(n as i16); 160]).1.unwrap();
        }
        let pause = PrivatePart { state: PrivateState::Began, at_ms: 100 };
        let ended = PrivatePart { state: PrivateState::Ended, at_ms: 300 };
        for part in [pause, ended] {
            let told = ToModule::Private(part);
            recorder.process(Input::Message(&told), &mut Outputs::new()).unwrap();
        }
        let end = stop(&mut recorder);
        let path = dir.0.join("r/s.wav.sealed");
        assert_eq!((&end["ms"], &end["path"]), (&json!(2_400), &json!(path.display().to_string())));
        assert_eq!(names(&dir.0.join("r")), ["s.wav.sealed"]);
        let (wav, contents) = unseal(&std::fs::read(&path).unwrap(), &keys(&config));
        let about = contents.about.unwrap();
        assert_eq!((about.state, about.ms), (State::Finished, 2_400));
        assert_eq!(about.from.as_deref(), Some("+4930123"));
        assert_eq!(about.pauses, [Gap { from_ms: 100, to_ms: 300 }]);
        let plain = dir.0.join("plain.wav");
        std::fs::write(&plain, wav).unwrap();
        let (left, right) = read(&plain);
        assert_eq!(left.len(), 19_200);
        assert!(left.iter().enumerate().all(|(at, &s)| s == (at / 160) as i16));
        assert!(right.iter().zip(&left).all(|(right, left)| *right == -left));
        // A chunk a tenth of a second, and what is known: 37 octets each.
        let octets = std::fs::metadata(&path).unwrap().len();
        assert!(octets < 44 + 19_200 * 4 * 102 / 100 + 1_500, "{octets}");
    }

    #[test]
    fn a_sealed_recording_is_gone_on_with_after_a_kill() {
        let dir = Dir::new("sealed-killed");
        let encrypt = key_in(&dir.0);
        let config = json!({"dir": dir.0.join("r"), "encrypt": encrypt, "record": "on_consent"});
        let mut recorder = start("s", &config).unwrap();
        assert_eq!(
            names(&dir.0),
            ["recordings.key", "r"].map(String::from).into_iter().rev().collect::<Vec<_>>()
        );
        consent(&mut recorder, true, 500);
        for n in 25..175_u64 {
            give(&mut recorder, 0, n * 160, &[n as i16; 160]).1.unwrap();
            give(&mut recorder, 1, n * 160, &[n as i16; 160]).1.unwrap();
        }
        left_by_a_kill(recorder);
        let other = dir.0.join("other.key");
        std::fs::write(&other, "5d".repeat(32)).unwrap();
        let wrong = format!("file:{}", other.display());
        let wrong = json!({"dir": dir.0.join("r"), "encrypt": {"key": wrong, "key_id": "2026"}});
        let refused = Recorder::new().start(&start_message("s", &wrong, true)).unwrap_err();
        assert!(refused.message.contains("does not open it"), "{}", refused.message);
        let mut again = Recorder::new();
        again.start(&start_message("s", &config, true)).unwrap();
        for n in 170..250_u64 {
            give(&mut again, 0, n * 160, &[n as i16; 160]).1.unwrap();
            give(&mut again, 1, n * 160, &[n as i16; 160]).1.unwrap();
        }
        assert_eq!(stop(&mut again)["ms"], 5_000);
        let path = dir.0.join("r/s.wav.sealed");
        let (wav, contents) = unseal(&std::fs::read(&path).unwrap(), &keys(&config));
        assert_eq!(contents.about.unwrap().consent.unwrap().at_ms, 500);
        let samples: Vec<_> =
            wav[44..].chunks(4).map(|frame| i16::from_le_bytes([frame[0], frame[1]])).collect();
        assert_eq!(samples[..4_000], [0; 4_000]);
        assert!(samples.iter().enumerate().skip(4_000).all(|(at, &s)| s == (at / 160) as i16));
    }

    #[test]
    fn a_session_goes_on_behind_a_recording_that_is_damaged_and_nothing_of_that_is_lost() {
        let dir = Dir::new("sealed-damaged");
        let config = json!({"dir": dir.0.join("r"), "encrypt": key_in(&dir.0)});
        let mut recorder = start("s", &config).unwrap();
        for n in 0..150_u64 {
            give(&mut recorder, 0, n * 160, &[1; 160]).1.unwrap();
            give(&mut recorder, 1, n * 160, &[1; 160]).1.unwrap();
        }
        left_by_a_kill(recorder);
        let (path, part) = (dir.0.join("r/s.wav.sealed"), dir.0.join("r/s.wav.sealed.part"));
        let mut octets = std::fs::read(&part).unwrap();
        // In the sound of the second chunk: the first tells what is known.
        octets[1_500] ^= 1;
        std::fs::write(&part, &octets).unwrap();
        let mut message = start_message("s", &config, true);
        message.resume.as_mut().unwrap().from_ms = 2_900;
        let mut again = Recorder::new();
        again.start(&message).unwrap();
        let (said, _) = give(&mut again, 0, 2_900 * 8, &[2; 8_000]);
        let damaged = dir.0.join("r/s.recovered.wav.sealed");
        assert!(
            said.iter()
                .any(|said| matches!(said, FromModule::Event(e) if e.name == "recorder.damaged"
                && e.data["damaged"] == damaged.display().to_string())),
            "{said:?}"
        );
        assert_eq!(stop(&mut again)["ms"], 3_900);
        assert!(std::fs::read(&damaged).unwrap() == octets, "it is as it was");
        let outcome = vault::Reader::open(&octets[..], &keys(&config)).unwrap().read(|_| Ok(()));
        assert!(matches!(outcome, Err(vault::Damage::Changed { .. })), "{outcome:?}");
        let (wav, contents) = unseal(&std::fs::read(&path).unwrap(), &keys(&config));
        let about = contents.about.unwrap();
        assert_eq!(
            (about.state, about.gaps),
            (State::Finished, vec![Gap { from_ms: 0, to_ms: 2_900 }])
        );
        assert!(wav[44..44 + 2_900 * 32].iter().all(|octet| *octet == 0));
        assert!(wav[44 + 2_900 * 32..].chunks(4).all(|frame| frame == [2, 0, 0, 0]));
        assert_eq!(names(&dir.0.join("r")), ["s.recovered.wav.sealed", "s.wav.sealed"]);
    }

    #[test]
    fn a_recording_whose_key_cannot_be_had_is_not_made() {
        let dir = Dir::new("sealed-keyless");
        for (encrypt, word) in [
            (json!({"key": "env:RINGBACK_NO_SUCH_KEY", "key_id": "a"}), "is not set"),
            (json!({"key": "5c".repeat(32), "key_id": "a"}), "not written here"),
            (json!({"key": "env:A"}), "key_id"),
            (json!({"key": "env:A", "key_id": "a", "kez": 1}), "kez"),
        ] {
            let refused = start("s", &json!({"dir": dir.0, "encrypt": encrypt})).unwrap_err();
            assert_eq!(refused.code, "bad_config");
            assert!(refused.message.contains(word), "{}", refused.message);
            assert!(!refused.message.contains("5c5c"), "{}", refused.message);
        }
        assert_eq!(names(&dir.0), [""; 0]);
    }
}
