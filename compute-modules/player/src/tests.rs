//! The player against a clock made of frames: when it plays, what, and how it stops.

use std::path::PathBuf;

use ringback_module::message::{Cleared, FromModule, Transcript};
use ringback_module::{AudioFrame, FrameFlags, Output};
use serde_json::Value;

use super::*;

/// A WAV file that is gone with the test.
struct Wav(PathBuf);

impl Wav {
    fn new(name: &str, spec: hound::WavSpec, samples: impl IntoIterator<Item = i16>) -> Self {
        let path = std::env::temp_dir().join(format!("player-{}-{name}.wav", std::process::id()));
        let mut wav = hound::WavWriter::create(&path, spec).unwrap();
        samples.into_iter().for_each(|s| wav.write_sample(s).unwrap());
        wav.finalize().unwrap();
        Self(path)
    }

    fn mono(name: &str, samples: impl IntoIterator<Item = i16>) -> Self {
        Self::new(name, spec(1), samples)
    }
}

impl Drop for Wav {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn spec(channels: u16) -> hound::WavSpec {
    hound::WavSpec {
        channels,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    }
}
use hound::SampleFormat;

fn start(config: &Value, resume: Option<u64>) -> Result<(Player, Ready), Reject> {
    let start = json!({
        "v": 1, "session": "s", "call": {"id": "c", "provider": "test"}, "config": config,
        "offer": {"tracks": [{"id": 0, "role": "caller"}],
            "in": [{"encoding": "pcmu", "rate": 8000}],
            "out": [{"encoding": "pcm_s16le", "rate": 8000}]},
        "resume": resume.map(|from_ms| json!({"from_ms": from_ms})),
    });
    let mut player = Player::new();
    let ready = player.start(&serde_json::from_value(start).unwrap())?;
    Ok((player, ready))
}

/// What the player says to frames of 20 ms from `from_ms` to `to_ms`; no call may bring more than a second.
fn run(player: &mut Player, from_ms: u64, to_ms: u64) -> (Vec<i16>, Vec<FromModule>) {
    let (mut played, mut said) = (Vec::new(), Vec::new());
    for ms in (from_ms..to_ms).step_by(20) {
        let mut out = Outputs::new();
        let frame = AudioFrame {
            track: 0,
            rate: 8_000,
            pts: ms * 8,
            flags: FrameFlags::default(),
            samples: &[0; 160],
        };
        player.process(Input::Audio(frame), &mut out).unwrap();
        let before = played.len();
        collect(&out, &mut played, &mut said);
        assert!(played.len() - before <= 8_000, "more than a second at once");
    }
    (played, said)
}

fn tell(player: &mut Player, message: &ToModule) -> Vec<FromModule> {
    let (mut out, mut said) = (Outputs::new(), Vec::new());
    player.process(Input::Message(message), &mut out).unwrap();
    collect(&out, &mut Vec::new(), &mut said);
    said
}

fn collect(out: &Outputs, played: &mut Vec<i16>, said: &mut Vec<FromModule>) {
    for answer in out.iter() {
        match answer {
            Output::Audio(samples) => played.extend_from_slice(samples),
            Output::Message(FromModule::Ack { .. }) => {}
            Output::Message(message) => said.push(message.clone()),
        }
    }
}

fn finished_event(status: &str, played_ms: u64) -> FromModule {
    FromModule::Event(ringback_module::message::Event {
        name: "player.finished".into(),
        data: json!({"status": status, "played_ms": played_ms}),
    })
}

fn mark_played(played_ms: u64) -> ToModule {
    let (name, status) = (MARK.to_owned(), MarkStatus::Played);
    ToModule::Mark(MarkReport { name, epoch: 0, status, played_ms })
}

fn speech() -> ToModule {
    ToModule::Vad(Vad { track: 0, state: VadState::Speech, at_ms: 0, probability: None })
}

fn end() -> Vec<FromModule> {
    vec![FromModule::AudioEnd { epoch: None }, FromModule::Mark { name: MARK.into() }]
}

#[test]
fn plays_once_a_second_ahead() {
    let wav = Wav::mono("once", (0..20_000).map(|s| s as i16));
    let (mut player, ready) = start(&json!({"path": wav.0, "after_ms": 40}), None).unwrap();
    assert_eq!(ready.accept.output.unwrap().rate, 8_000);
    assert!(ready.want.is_empty());
    assert!(run(&mut player, 0, 40).0.is_empty(), "not before after_ms");
    let (mut played, said) = run(&mut player, 40, 60);
    assert_eq!((played.len(), said.len()), (8_000, 0));
    let (more, said) = run(&mut player, 60, 1_500);
    played.extend(more);
    assert!(said.is_empty() && played.len() < 20_000);
    let (more, said) = run(&mut player, 1_500, 1_600);
    played.extend(more);
    assert_eq!(said, end());
    assert_eq!(played, (0..20_000).map(|s| s as i16).collect::<Vec<_>>());
    assert_eq!(tell(&mut player, &mark_played(2_500)), [finished_event("played", 2_500)]);
    assert!(run(&mut player, 1_600, 5_000).0.is_empty(), "played once");
}

#[test]
fn hangs_up_when_heard_to_the_end() {
    let wav = Wav::mono("hangup", [7; 80]);
    let (mut player, _) = start(&json!({"path": wav.0, "hangup": true}), None).unwrap();
    assert_eq!(run(&mut player, 0, 20), (vec![7; 80], end()));
    let said = tell(&mut player, &mark_played(10));
    assert_eq!(said[0], finished_event("played", 10));
    assert!(matches!(&said[1], FromModule::Hangup(h) if h.after == HangupAfter::Now));
}

#[test]
fn speech_interrupts() {
    let wav = Wav::mono("barge", [7; 16_000]);
    let (mut player, ready) = start(&json!({"path": wav.0, "barge_in": true}), None).unwrap();
    assert_eq!(ready.want, ["vad"]);
    run(&mut player, 0, 100);
    assert_eq!(tell(&mut player, &speech()), [FromModule::Clear { epoch: None }]);
    assert!(run(&mut player, 100, 3_000).0.is_empty(), "nothing is played after the clear");
    assert!(tell(&mut player, &speech()).is_empty(), "cleared once");
    let cleared =
        ToModule::Cleared(Cleared { epoch: 0, played_ms: 90, discarded_ms: 900, heard: None });
    assert_eq!(tell(&mut player, &cleared), [finished_event("cleared", 90)]);
}

#[test]
fn clear_by_others_ends_playback() {
    let wav = Wav::mono("other", [7; 16_000]);
    let (mut player, _) = start(&json!({"path": wav.0}), None).unwrap();
    run(&mut player, 0, 100);
    assert!(tell(&mut player, &speech()).is_empty(), "barge_in was not asked for");
    let cleared =
        ToModule::Cleared(Cleared { epoch: 0, played_ms: 90, discarded_ms: 900, heard: None });
    assert_eq!(tell(&mut player, &cleared), [finished_event("cleared", 90)]);
    assert!(run(&mut player, 100, 3_000).0.is_empty());
}

#[test]
fn repeats_without_a_seam() {
    let wav = Wav::mono("loop", [1, 2, 3]);
    let (mut player, _) = start(&json!({"path": wav.0, "loop": true}), None).unwrap();
    let (played, said) = run(&mut player, 0, 520);
    assert_eq!(played.len(), 8_000 + 500 * 8);
    assert!(played.iter().enumerate().all(|(n, &s)| s == (n % 3) as i16 + 1));
    assert!(said.is_empty());
}

#[test]
fn answers_each_final_transcript() {
    let wav = Wav::mono("transcript", [5; 160]);
    let config = json!({"path": wav.0, "on": "transcript", "after_ms": 20});
    let (mut player, ready) = start(&config, None).unwrap();
    assert_eq!(ready.want, ["text"]);
    assert!(run(&mut player, 0, 1_000).0.is_empty());
    let text = |is_final| ToModule::Text(Transcript { is_final, ..Transcript::default() });
    tell(&mut player, &text(false));
    assert!(run(&mut player, 1_000, 1_100).0.is_empty(), "not final yet");
    for from in [1_100, 2_000] {
        tell(&mut player, &text(true));
        assert_eq!(run(&mut player, from, from + 100), (vec![5; 160], end()));
        tell(&mut player, &mark_played(20));
    }
}

#[test]
fn goes_on_where_the_clock_says_after_a_crash() {
    let wav = Wav::mono("resume", (0..24_000).map(|s| s as i16));
    let config = json!({"path": wav.0, "after_ms": 500});
    let (mut player, _) = start(&config, Some(1_500)).unwrap();
    let (played, _) = run(&mut player, 1_500, 1_520);
    assert_eq!(played, (8_000..16_000).map(|s| s as i16).collect::<Vec<_>>());
}

#[test]
fn channels_are_mixed() {
    let wav = Wav::new("stereo", spec(2), [100, 300, -32_768, -32_768]);
    let (mut player, _) = start(&json!({"path": wav.0}), None).unwrap();
    assert_eq!(run(&mut player, 0, 20).0, [200, -32_768]);
}

#[test]
fn any_form_of_wav_is_played() {
    let float =
        hound::WavSpec { bits_per_sample: 32, sample_format: SampleFormat::Float, ..spec(1) };
    let path = std::env::temp_dir().join(format!("player-{}-float.wav", std::process::id()));
    hound::WavWriter::create(&path, float).unwrap().write_sample(0.5f32).unwrap();
    let float = Wav(path);
    let (mut player, _) = start(&json!({"path": float.0}), None).unwrap();
    assert_eq!(run(&mut player, 0, 20).0, [16_384]);
}

#[test]
fn unplayable_files_are_refused() {
    let empty = Wav::mono("empty", []);
    let path = std::env::temp_dir().join(format!("player-{}-text.wav", std::process::id()));
    std::fs::write(&path, "this is no sound").unwrap();
    let text = Wav(path);
    for (config, word) in [
        (json!({"path": text.0}), "RIFF"),
        (json!({"path": empty.0}), "no sound"),
        (json!({"path": "/no/such.wav"}), "/no/such.wav"),
        (json!({}), "path"),
        (Value::Null, "path"),
        (json!({"path": empty.0, "on": "whim"}), "whim"),
    ] {
        let reject = start(&config, None).unwrap_err();
        assert_eq!(reject.code, "bad_config");
        assert!(reject.message.contains(word), "{}", reject.message);
    }
}
