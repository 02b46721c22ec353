//! Hosts against modules that behave and modules that do not; processes are real ones.

mod bots;
mod dial_in;
mod dialled;
mod launch;
#[cfg(feature = "nats")]
#[path = "../../tests/support/nats_server.rs"]
mod nats_server;
#[cfg(feature = "nats")]
mod on_nats;
mod served;
mod shared;
mod table;
mod watchdog;
#[cfg(feature = "nats")]
mod worked;

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use ringback_module::message::{self, Event, Kind, Resume, StartCredit};
use ringback_module::{Input, Module, ModuleError, Outputs};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::*;

const SCRIPT: &str = include_str!("test_module.py");

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(30);

fn start() -> Start {
    let mut start: Start = serde_json::from_value(json!({
        "v": 1, "session": "s1", "call": {"id": "c", "provider": "p"},
        "offer": {"tracks": [{"id": 0, "role": "caller"}],
            "in": [{"encoding": "pcm_s16le", "rate": 8000}],
            "out": [{"encoding": "pcm_s16le", "rate": 8000}], "framing": ["raw", "hdr16"]},
    }))
    .unwrap();
    // Generous where a deadline is not what is tested: the machine may be busy.
    start.limits = message::Limits {
        ready_ms: 20_000,
        ping_ms: 20,
        dead_ms: 20_000,
        ..message::Limits::default()
    };
    start
}

/// The process and what it said before it was ready to be spoken to.
fn child(mode: &str, start: Start) -> Hosted {
    let command = ["python3", "-c", SCRIPT, mode].map(str::to_owned).to_vec();
    spawn_child(&ChildPool::new(ChildSpec::new(mode, command)), start)
}

async fn next(hosted: &mut Hosted) -> FromHost {
    timeout(PATIENCE, hosted.recv()).await.expect("the host says nothing")
}

fn event(name: &str, data: Value) -> FromHost {
    FromHost::Message(FromModule::Event(Event { name: name.into(), data }))
}

async fn ready(hosted: &mut Hosted, resume: Value) {
    let first = next(hosted).await;
    assert!(matches!(first, FromHost::Ready(_)), "{first:?}");
    let started = json!({"resume": resume, "session": "s1"});
    assert_eq!(next(hosted).await, event("started", started));
}

fn audio(pts: u64, samples: &[i16]) -> ToHost {
    let (flags, samples) = (FrameFlags::default(), samples.to_vec());
    ToHost::Audio { track: 0, pts, rate: 8_000, flags, samples }
}

fn stop(deadline: Duration) -> ToHost {
    ToHost::Stop { reason: StopReason::Hangup, deadline }
}

async fn restarting(hosted: &mut Hosted) -> String {
    loop {
        match next(hosted).await {
            FromHost::Restarting { reason, .. } => return reason,
            FromHost::Gone { reason } => panic!("given up at once: {reason:?}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_crash_is_survived() {
    let mut hosted = child("crash", start());
    ready(&mut hosted, Value::Null).await;
    hosted.try_send(audio(0, &[1])).unwrap();
    hosted.try_send(audio(1, &[2])).unwrap();
    assert_eq!(restarting(&mut hosted).await, "exited with status 3: boom");
    assert_eq!(next(&mut hosted).await, FromHost::NeedStart);
    let mut again = start();
    again.resume = Some(Resume { token: None, from_ms: 40, epoch: 3 });
    hosted.try_send(ToHost::Start(Box::new(again))).unwrap();
    ready(&mut hosted, json!({"from_ms": 40, "epoch": 3})).await;
    hosted.try_send(stop(PATIENCE)).unwrap();
    assert_eq!(next(&mut hosted).await, event("stopping", json!("hangup")));
}

#[tokio::test]
async fn breaking_the_contract_is_fatal_to_the_process() {
    for (mode, word) in [
        ("garbage", "does not speak ringback.v1: frame at octet"),
        ("oversize", "body of 262145 octets is over the limit"),
        ("slot", "slot 7"),
        ("nobody", "sent sound in slot 0"),
        ("astray", "said in slot 0, which is the process, what belongs into the slot of a session"),
        ("muddled", "message not understood"),
    ] {
        let mut hosted = child(mode, start());
        let reason = restarting(&mut hosted).await;
        assert!(reason.contains(word), "{mode}: {reason}");
    }
}

#[tokio::test]
async fn what_another_process_would_not_do_better_is_final() {
    let mut hosted = child("version", start());
    let FromHost::Gone { reason: Some(reason) } = next(&mut hosted).await else { panic!() };
    assert!(reason.contains("[9]"), "{reason}");
    let mut hosted = child("fatal", start());
    ready(&mut hosted, Value::Null).await;
    assert!(matches!(next(&mut hosted).await, FromHost::Message(FromModule::Error(_))));
    let reason = Some("vendor: no key".to_owned());
    assert_eq!(next(&mut hosted).await, FromHost::Gone { reason });
    let mut hosted = child("reject", start());
    let FromHost::Rejected(reject) = next(&mut hosted).await else { panic!() };
    assert_eq!((reject.code.as_str(), reject.message.as_str()), ("bad_config", "as told"));
    for (command, word) in [(vec!["/no/such/program".into()], "cannot start"), (vec![], "empty")] {
        let mut hosted = spawn_child(&ChildPool::new(ChildSpec::new("x", command)), start());
        let FromHost::Gone { reason: Some(reason) } = next(&mut hosted).await else { panic!() };
        assert!(reason.contains(word), "{reason}");
    }
}

#[tokio::test]
async fn a_crash_loop_ends() {
    let command = ["sh", "-c", "echo no luck >&2; exit 7"].map(str::to_owned).to_vec();
    let mut hosted = spawn_child(&ChildPool::new(ChildSpec::new("loop", command)), start());
    let mut restarts = 0;
    loop {
        match next(&mut hosted).await {
            FromHost::Restarting { reason, .. } => {
                assert_eq!(reason, "exited with status 7: no luck");
                restarts += 1;
            }
            FromHost::NeedStart => hosted.try_send(ToHost::Start(Box::new(start()))).unwrap(),
            FromHost::Gone { reason: Some(reason) } => {
                assert!(reason.contains("given up"), "{reason}");
                break;
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(restarts, 5);
}

#[tokio::test]
async fn messages_that_are_not_understood_are_passed_over() {
    let mut hosted = child("unclear", start());
    ready(&mut hosted, Value::Null).await;
    hosted.try_send(audio(0, &[9])).unwrap();
    assert_eq!(next(&mut hosted).await, FromHost::Audio { epoch: None, samples: vec![9] });
}

#[tokio::test]
async fn a_stop_that_is_not_heeded() {
    let mut hosted = child("deaf", start());
    ready(&mut hosted, Value::Null).await;
    hosted.try_send(stop(Duration::from_millis(50))).unwrap();
    let reason = Some("no `done` within 50 ms".to_owned());
    assert_eq!(next(&mut hosted).await, FromHost::Gone { reason });

    let mut hosted = child("leave", start());
    ready(&mut hosted, Value::Null).await;
    hosted.try_send(stop(PATIENCE)).unwrap();
    let reason = Some("exited with status 4, without `done`".to_owned());
    assert_eq!(next(&mut hosted).await, FromHost::Gone { reason });
}

#[tokio::test]
async fn a_dropped_module_does_not_live_on() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let command = ["python3", "-c", SCRIPT, "stay", &port].map(str::to_owned).to_vec();
    let mut hosted = spawn_child(&ChildPool::new(ChildSpec::new("stay", command)), start());
    ready(&mut hosted, Value::Null).await;
    let (mut line, _) = listener.accept().await.unwrap();
    let mut greeting = [0; 4];
    line.read_exact(&mut greeting).await.unwrap();
    drop(hosted);
    // Its connection closes when it dies; it would not leave by itself for ten minutes.
    let end = timeout(PATIENCE, line.read(&mut greeting)).await.expect("still running");
    assert!(matches!(end, Ok(0) | Err(_)));
}

#[test]
fn a_process_does_not_outlive_the_runtime_that_its_bridge_runs_on() {
    use std::io::Read as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let command = ["python3", "-c", SCRIPT, "stay", &port].map(str::to_owned).to_vec();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let hosted = runtime.block_on(async {
        let mut hosted = spawn_child(&ChildPool::new(ChildSpec::new("stay", command)), start());
        ready(&mut hosted, Value::Null).await;
        hosted
    });
    let (mut line, _) = listener.accept().unwrap();
    line.read_exact(&mut [0; 4]).unwrap();
    // Nothing is there any more that could end it in good order, as when the bridge panics.
    drop(runtime);
    line.set_read_timeout(Some(PATIENCE)).unwrap();
    let end = line.read(&mut [0]).map_err(|error| error.kind());
    assert!(matches!(end, Ok(0) | Err(std::io::ErrorKind::ConnectionReset)), "{end:?}");
    drop(hosted);
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_process_does_not_inherit_what_is_open() {
    let path = std::env::temp_dir().join(format!("module-host-secret-{}", std::process::id()));
    let secret = std::fs::File::create(&path).unwrap();
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = |fd: i32| std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
    let ours = [ours(secret.as_raw_fd()), ours(socket.as_raw_fd())];
    let mut hosted = child("files", start());
    ready(&mut hosted, Value::Null).await;
    let FromHost::Message(FromModule::Event(files)) = next(&mut hosted).await else { panic!() };
    std::fs::remove_file(path).unwrap();
    let theirs = files.data.as_array().unwrap();
    assert!(theirs.len() >= 3, "its three streams at least: {theirs:?}");
    for file in ours {
        assert!(!theirs.contains(&json!(file)), "{} in {theirs:?}", file.display());
    }
}

/// Echoes; its configuration says what else it does.
struct Parrot {
    hold: Option<Receiver<()>>,
    stopped: std::sync::mpsc::Sender<StopReason>,
    config: Value,
}

impl Module for Parrot {
    fn start(&mut self, start: &Start) -> Result<Ready, Reject> {
        self.config = start.config.clone();
        if self.config == "reject" {
            return Err(Reject::bad_config("as told"));
        }
        Ok(Ready { session: start.session.clone(), ..Ready::default() })
    }

    fn process(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), ModuleError> {
        match input {
            Input::Audio(frame) => {
                if let Some(hold) = &self.hold {
                    hold.recv().unwrap();
                }
                assert!(self.config != "panic", "as told");
                out.play(frame.samples);
            }
            Input::Message(ToModule::Dtmf(_)) => {
                out.clear();
                out.play(&[7]);
            }
            _ => return Err(ModuleError::new("tired", "had enough")),
        }
        Ok(())
    }

    fn stop(&mut self, reason: StopReason, out: &mut Outputs) {
        out.event("stopping", json!(reason));
        self.stopped.send(reason).unwrap();
    }
}

fn thread(config: &str, hold: Option<Receiver<()>>) -> (Hosted, Receiver<StopReason>) {
    let (stopped, stops) = channel();
    let start = Start { config: json!(config), ..start() };
    let make = || -> Box<dyn Module> { Box::new(Parrot { hold, stopped, config: Value::Null }) };
    (spawn_thread("parrot", make, start), stops)
}

#[tokio::test]
async fn a_session_on_a_thread() {
    let (mut hosted, _stops) = thread("", None);
    assert!(matches!(next(&mut hosted).await, FromHost::Ready(ready) if ready.session == "s1"));
    hosted.try_send(audio(0, &[1, 2])).unwrap();
    assert_eq!(next(&mut hosted).await, FromHost::Audio { epoch: Some(0), samples: vec![1, 2] });
    let cleared = ToModule::Dtmf(serde_json::from_value(json!({"digit": "1"})).unwrap());
    hosted.try_send(ToHost::Message(cleared)).unwrap();
    let clear = FromHost::Message(FromModule::Clear { epoch: Some(0) });
    assert_eq!(next(&mut hosted).await, clear);
    assert_eq!(next(&mut hosted).await, FromHost::Audio { epoch: Some(1), samples: vec![7] });
    hosted.try_send(stop(PATIENCE)).unwrap();
    assert_eq!(next(&mut hosted).await, event("stopping", json!("hangup")));
    assert_eq!(next(&mut hosted).await, FromHost::Gone { reason: None });
}

#[tokio::test]
async fn what_a_thread_said_that_nobody_received_is_told_to_who_comes_after() {
    let (mut hosted, _stops) = thread("", None);
    assert!(matches!(next(&mut hosted).await, FromHost::Ready(_)));
    hosted.try_send(stop(PATIENCE)).unwrap();
    // Its last word, and that it is gone.
    let said = async {
        while hosted.from.len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, said).await.unwrap();
    let (tell, mut told) = mpsc::channel(QUEUE);
    hosted.bequeath(move |message| tell.try_send(FromHost::Message(message)).unwrap());
    let heard = timeout(PATIENCE, told.recv()).await.unwrap();
    assert_eq!(heard, Some(event("stopping", json!("hangup"))));
    assert_eq!(timeout(PATIENCE, told.recv()).await.unwrap(), None, "nothing follows");
}

#[tokio::test]
async fn a_thread_that_fails_is_gone() {
    let (mut hosted, _stops) = thread("reject", None);
    assert!(matches!(next(&mut hosted).await, FromHost::Rejected(r) if r.message == "as told"));
    let (mut hosted, _stops) = thread("panic", None);
    assert!(matches!(next(&mut hosted).await, FromHost::Ready(_)));
    hosted.try_send(audio(0, &[1])).unwrap();
    let reason = Some("panicked: as told".to_owned());
    assert_eq!(next(&mut hosted).await, FromHost::Gone { reason });
    let (mut hosted, _stops) = thread("", None);
    assert!(matches!(next(&mut hosted).await, FromHost::Ready(_)));
    hosted.try_send(ToHost::Message(ToModule::Ping { t: 1 })).unwrap();
    let reason = Some("tired: had enough".to_owned());
    assert_eq!(next(&mut hosted).await, FromHost::Gone { reason });
}

#[tokio::test]
async fn a_thread_must_get_ready() {
    let (release, hold) = channel::<()>();
    let mut start = start();
    start.limits.ready_ms = 10;
    let make = move || -> Box<dyn Module> {
        let _ = hold.recv();
        Box::new(Parrot { hold: None, stopped: channel().0, config: Value::Null })
    };
    let mut hosted = spawn_thread("late", make, start);
    let reason = Some("not ready within 10 ms".to_owned());
    assert_eq!(next(&mut hosted).await, FromHost::Gone { reason });
    drop(release);
    assert!(timeout(Duration::ZERO, hosted.recv()).await.is_err(), "nothing follows");
}

#[tokio::test]
async fn a_full_queue_gives_back_and_calls_back() {
    let (release, hold) = channel();
    let (mut hosted, _stops) = thread("", Some(hold));
    assert!(matches!(next(&mut hosted).await, FromHost::Ready(_)));
    let mut sent = 0;
    let refused = loop {
        match hosted.try_send(audio(sent, &[sent as i16])) {
            Ok(()) => sent += 1,
            Err(item) => break item,
        }
    };
    assert_eq!(refused, audio(sent, &[sent as i16]));
    assert!((QUEUE as u64..=QUEUE as u64 + 1).contains(&sent), "{sent}");
    for _ in 0..=sent {
        release.send(()).unwrap();
    }
    let mut expected = 0;
    loop {
        match next(&mut hosted).await {
            FromHost::Audio { samples, .. } => {
                assert_eq!(samples, [expected]);
                expected += 1;
            }
            FromHost::Writable => break,
            other => panic!("unexpected {other:?}"),
        }
    }
    hosted.try_send(refused).unwrap();
    while expected <= sent as i16 {
        let samples = vec![expected];
        assert_eq!(next(&mut hosted).await, FromHost::Audio { epoch: Some(0), samples });
        expected += 1;
    }
}

#[tokio::test]
async fn a_dropped_thread_is_told_to_stop() {
    let (mut hosted, stops) = thread("", None);
    assert!(matches!(next(&mut hosted).await, FromHost::Ready(_)));
    drop(hosted);
    assert_eq!(stops.recv_timeout(PATIENCE), Ok(StopReason::Gone));
}
