//! The stdio runner, spoken to octet by octet as a bridge does.

use std::io::{PipeReader, PipeWriter, pipe};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use super::*;
use crate::message::{Accept, AcceptIn, Framing, Ready, SampleEncoding, Start, StopReason};
use crate::{Input, ModuleError, Outputs};

/// Speaks back what it hears; `config` picks what it does wrong.
#[derive(Default)]
struct Parrot {
    config: Value,
    hold: Option<Receiver<()>>,
}

impl Module for Parrot {
    fn start(&mut self, start: &Start) -> Result<Ready, Reject> {
        self.config = start.config.clone();
        if self.config == "reject" {
            return Err(Reject { code: "bad_config".into(), ..Reject::default() });
        }
        let output = (self.config != "mute").then_some(AcceptOut::pcm(8_000));
        let input = Some(AcceptIn { encoding: SampleEncoding::Pcmu, rate: 8_000, frame_ms: 20 });
        Ok(Ready {
            accept: Accept { input, output, tracks: vec![0], framing: Framing::Raw },
            ..Ready::default()
        })
    }

    fn process(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), ModuleError> {
        match input {
            Input::Audio(frame) => {
                if let Some(hold) = &self.hold {
                    hold.recv().unwrap();
                }
                assert!(self.config != "panic", "as told");
                out.event("heard", json!({"pts": frame.pts, "track": frame.track}));
                out.play(frame.samples);
                if self.config == "fail" {
                    return Err(ModuleError::new("tired", "had enough"));
                }
            }
            Input::Message(ToModule::Dtmf(_)) => {
                out.clear();
                out.play(&[1, 2]);
                out.end_of_audio();
            }
            Input::Message(_) => {}
        }
        Ok(())
    }

    fn stop(&mut self, reason: StopReason, out: &mut Outputs) {
        out.event("stopped", json!(reason));
    }
}

struct Bridge {
    to: Option<PipeWriter>,
    from: PipeReader,
    frames: FrameReader,
    process: Option<JoinHandle<Result<(), StdioError>>>,
}

/// A frame as the bridge reads it.
#[derive(Debug, PartialEq)]
enum Heard {
    Message(u16, Value),
    Audio(u16, Vec<u8>),
}

impl Bridge {
    fn with(make: impl FnMut() -> Box<dyn Module> + Send + 'static, max_sessions: u32) -> Self {
        let (stdin, to) = pipe().unwrap();
        let (from, stdout) = pipe().unwrap();
        let register = Register { module: "parrot".into(), max_sessions, ..Register::default() };
        let process = std::thread::spawn(move || serve(&register, stdin, stdout, make));
        let mut bridge =
            Self { to: Some(to), from, frames: FrameReader::new(), process: Some(process) };
        assert_eq!(bridge.kind(), (0, "register".to_owned()));
        bridge
    }

    fn new() -> Self {
        Self::with(|| Box::new(Parrot::default()), 2)
    }

    fn raw(&mut self, octets: &[u8]) {
        self.to.as_mut().unwrap().write_all(octets).unwrap();
    }

    fn say(&mut self, slot: u16, message: &Value) {
        let mut frame = Vec::new();
        wire::write_json(slot, message, &mut frame).unwrap();
        self.raw(&frame);
    }

    fn start(&mut self, slot: u16, config: &str, framing: &str) {
        self.say(
            slot,
            &json!({
                "type": "start", "v": 1, "session": "s1", "config": config, "future": true,
                "call": {"id": "c1", "provider": "test"},
                "offer": {"tracks": [{"id": 0, "role": "caller"}, {"id": 9, "role": "later"}],
                    "in": [{"encoding": "pcmu", "rate": 8000}, {"encoding": "later", "rate": 1}],
                    "framing": [framing]},
                "resume": {"from_ms": 1000, "epoch": 2},
            }),
        );
    }

    fn audio(&mut self, slot: u16, octets: &[u8]) {
        let [s0, s1] = slot.to_le_bytes();
        self.raw(&[octets.len() as u8, 0, 0, 0, 1, 0, s0, s1]);
        self.raw(octets);
    }

    fn hear(&mut self) -> Heard {
        loop {
            if let Some(frame) = self.frames.next_frame().unwrap() {
                return match frame.kind {
                    FrameKind::Json => {
                        Heard::Message(frame.slot, serde_json::from_slice(frame.body).unwrap())
                    }
                    FrameKind::Audio => Heard::Audio(frame.slot, frame.body.to_vec()),
                };
            }
            let mut piece = [0; 512];
            let len = self.from.read(&mut piece).unwrap();
            assert_ne!(len, 0, "the module process closed its stdout");
            self.frames.push(&piece[..len]);
        }
    }

    fn message(&mut self) -> Value {
        match self.hear() {
            Heard::Message(_, message) => message,
            audio @ Heard::Audio(..) => panic!("expected a message, got {audio:?}"),
        }
    }

    fn kind(&mut self) -> (u16, String) {
        match self.hear() {
            Heard::Message(slot, message) => (slot, message["type"].as_str().unwrap().to_owned()),
            audio @ Heard::Audio(..) => panic!("expected a message, got {audio:?}"),
        }
    }

    fn end(mut self) -> Result<(), StdioError> {
        drop(self.to.take());
        self.process.take().unwrap().join().unwrap()
    }
}

#[test]
fn a_session_from_start_to_done() {
    let mut bridge = Bridge::new();
    bridge.start(1, "", "raw");
    let ready = bridge.message();
    assert_eq!(ready["session"], "s1");
    assert_eq!(ready["accept"]["framing"], "raw");
    bridge.audio(1, &[0xFF; 80]);
    bridge.audio(1, &[0xFF; 80]);
    for pts in [8_000, 8_080] {
        assert_eq!(bridge.message()["data"], json!({"pts": pts, "track": 0}));
        assert_eq!(bridge.hear(), Heard::Audio(1, vec![0; 160]));
    }
    bridge.say(1, &json!({"type": "stop", "reason": "later", "deadline_ms": 9}));
    assert_eq!(bridge.message()["data"], "error", "an unknown reason reads as error");
    assert_eq!(bridge.message(), json!({"type": "done"}));
    bridge.start(1, "", "raw");
    assert_eq!(bridge.kind(), (1, "ready".into()), "the slot is free after done");
    bridge.end().unwrap();
}

#[test]
fn hdr16_is_taken_where_offered() {
    let mut bridge = Bridge::new();
    bridge.start(1, "", "hdr16");
    assert_eq!(bridge.message()["accept"]["framing"], "hdr16");
    let header = AudioHeader { track: 3, pts: 99, ..AudioHeader::default() };
    let mut body = header.encode().to_vec();
    body.push(0xFF);
    bridge.audio(1, &body);
    assert_eq!(bridge.message()["data"], json!({"pts": 99, "track": 3}));
    let Heard::Audio(1, body) = bridge.hear() else { panic!("expected sound") };
    let (header, samples) = AudioHeader::decode(&body).unwrap();
    assert_eq!((header.track, header.epoch, header.pts, samples), (1, 2, 0, &[0, 0][..]));
    bridge.end().unwrap();
}

#[test]
fn epochs_are_kept_for_the_module() {
    let mut bridge = Bridge::new();
    bridge.start(1, "", "raw");
    bridge.message();
    bridge.say(1, &json!({"type": "cleared", "epoch": 4, "played_ms": 0, "discarded_ms": 0}));
    bridge.audio(1, &[0xFF]);
    bridge.message();
    assert_eq!(bridge.message(), json!({"type": "audio.begin", "epoch": 5}));
    assert_eq!(bridge.hear(), Heard::Audio(1, vec![0, 0]));
    bridge.say(1, &json!({"type": "dtmf", "digit": "1"}));
    assert_eq!(bridge.message(), json!({"type": "clear", "epoch": 5}));
    assert_eq!(bridge.message(), json!({"type": "audio.begin", "epoch": 6}));
    assert_eq!(bridge.hear(), Heard::Audio(1, vec![1, 0, 2, 0]));
    assert_eq!(bridge.message(), json!({"type": "audio.end", "epoch": 6}));
    bridge.end().unwrap();
}

#[test]
fn failures_cost_their_session_only() {
    for (config, code, message) in [
        ("panic", "panic", "as told"),
        ("fail", "tired", "had enough"),
        ("mute", "no_output", "the module spoke without `accept.out` in its `ready`"),
    ] {
        let mut bridge = Bridge::new();
        bridge.start(1, config, "raw");
        bridge.start(2, "", "raw");
        bridge.message();
        bridge.message();
        bridge.audio(1, &[0xFF]);
        let error = loop {
            if let Heard::Message(1, message) = bridge.hear()
                && message["type"] == "error"
            {
                break message;
            }
        };
        assert_eq!(error["code"], code);
        assert_eq!(error["message"], message);
        assert_eq!(error["fatal"], true);
        bridge.audio(2, &[0xFF]);
        assert_eq!(bridge.kind(), (2, "event".into()));
        assert_eq!(bridge.hear(), Heard::Audio(2, vec![0, 0]));
        bridge.say(1, &json!({"type": "stop", "reason": "hangup", "deadline_ms": 9}));
        assert_eq!(bridge.kind(), (1, "done".into()), "stop is answered even then");
        bridge.end().unwrap();
    }
}

#[test]
fn no_more_sessions_than_registered() {
    let mut bridge = Bridge::new();
    bridge.start(1, "reject", "raw");
    assert_eq!(bridge.message()["code"], "bad_config");
    bridge.start(1, "", "raw");
    assert_eq!(bridge.kind(), (1, "ready".into()));
    bridge.start(1, "", "raw");
    let reject = bridge.message();
    assert_eq!((&reject["code"], &reject["retryable"]), (&json!("busy"), &json!(false)));
    bridge.start(2, "", "raw");
    assert_eq!(bridge.kind(), (2, "ready".into()));
    bridge.start(3, "", "raw");
    let reject = bridge.message();
    assert_eq!((&reject["code"], &reject["retryable"]), (&json!("busy"), &json!(true)));
    bridge.end().unwrap();
}

#[test]
fn pings_are_answered_while_a_module_is_busy() {
    let (release, hold) = sync_channel::<()>(1);
    let mut hold = Some(hold);
    let make =
        move || -> Box<dyn Module> { Box::new(Parrot { config: Value::Null, hold: hold.take() }) };
    let mut bridge = Bridge::with(make, 1);
    bridge.start(1, "", "raw");
    bridge.message();
    bridge.audio(1, &[0xFF]);
    for t in 0..3 {
        bridge.say(0, &json!({"type": "ping", "t": t}));
        assert_eq!(bridge.hear(), Heard::Message(0, json!({"type": "pong", "t": t})));
        bridge.say(1, &json!({"type": "ping", "t": t}));
        assert_eq!(bridge.hear(), Heard::Message(1, json!({"type": "pong", "t": t})));
    }
    release.send(()).unwrap();
    assert_eq!(bridge.kind(), (1, "event".into()));
    bridge.end().unwrap();
}

#[test]
fn what_is_not_understood_is_named_and_skipped() {
    let mut bridge = Bridge::new();
    bridge.start(1, "", "raw");
    bridge.message();
    bridge.say(1, &json!({"type": "later", "x": 1}));
    bridge.say(1, &json!({"type": "gap", "track": "zero"}));
    let error = bridge.message();
    assert_eq!((&error["code"], &error["fatal"]), (&json!("bad_message"), &json!(false)));
    bridge.say(2, &json!({"type": "start", "v": "one"}));
    assert_eq!(bridge.message()["type"], "reject");
    bridge.end().unwrap();
}

#[test]
fn cut_sound_is_fatal() {
    let mut bridge = Bridge::new();
    bridge.start(1, "", "hdr16");
    bridge.message();
    bridge.audio(1, &[1, 0, 0]);
    let error = bridge.message();
    assert_eq!((&error["code"], &error["fatal"]), (&json!("wire"), &json!(true)));
    bridge.end().unwrap();
}

#[test]
fn end_of_input_stops_all_sessions() {
    let mut bridge = Bridge::new();
    bridge.start(1, "", "raw");
    bridge.message();
    drop(bridge.to.take());
    assert_eq!(bridge.message(), json!({"type": "event", "name": "stopped", "data": "gone"}));
    bridge.end().unwrap();
}

#[test]
fn garbage_ends_the_process() {
    let mut bridge = Bridge::new();
    bridge.raw(b"GET / HTTP/1.1\r\n\r\n");
    assert!(matches!(bridge.end(), Err(StdioError::Wire(WireError::TooLong { at: 0, .. }))));
    let mut bridge = Bridge::new();
    bridge.raw(&[9, 0, 0]);
    assert!(matches!(bridge.end(), Err(StdioError::Wire(WireError::Truncated { .. }))));
}

#[test]
fn finalize_is_answered_for_a_module_that_does_not_know_it() {
    let mut bridge = Bridge::new();
    bridge.start(1, "", "raw");
    assert_eq!(bridge.kind(), (1, "ready".to_owned()));
    bridge.say(1, &json!({"type": "finalize", "id": "f7"}));
    assert_eq!(bridge.message(), json!({"type": "finalized", "id": "f7"}));
    bridge.end().unwrap();
}
