//! Modules in a call's own task that do what they must not, and what that costs the call: themselves.

use std::cell::Cell;

use ringback_module::message::{Kind, Ready, Reject, Start};
use ringback_module::{Input, Module, ModuleError, Outputs};
use ringback_proto::provider::{self, Options, OutgoingUpgrade, Upgrade};
use ringback_proto::session::{PortConfig, Route, SessionConfig};

use super::*;
use crate::recordings::FINISHED;
use crate::sink::testing::Folder;
#[cfg(feature = "object-store")]
use crate::sink::{Recordings, SinkConfig, SinkKind, Sinks, Store};
use crate::socket::{Outgoing, SocketOptions, answer, dial};

const TARGET: &str = "/raw?encoding=l16&rate=8000";
/// Octets of 20 ms.
const FRAME: usize = 320;
const FRAMES: u64 = 100;

thread_local! {
    /// Samples that whoever only listens has heard. A test has a thread to itself.
    static HEARD: Cell<u64> = const { Cell::new(0) };
}

/// Takes what is offered, and does something with each frame.
struct Acted(fn(u64));

impl Module for Acted {
    fn start(&mut self, start: &Start) -> Result<Ready, Reject> {
        ringback_dtmf::Dtmf::new().start(start)
    }

    fn process(&mut self, input: Input<'_>, _: &mut Outputs) -> Result<(), ModuleError> {
        if let Input::Audio(frame) = input {
            (self.0)(frame.samples.len() as u64);
        }
        Ok(())
    }
}

fn source(make: fn() -> Box<dyn Module>) -> Arc<ModuleSource> {
    let budget = Duration::from_millis(1);
    let (ring, place) = (Duration::from_secs(1), Place::Inline(make));
    Arc::new(ModuleSource { ready_ms: 1_000, budget, ring, breaker: None, place })
}

/// A call over raw, of an echo that speaks and of two that listen, of which `victim` is one; and its caller's end.
async fn begun(victim: Arc<ModuleSource>, watchers: Watchers) -> (Box<Call>, Socket) {
    let (near, far) = tokio::io::duplex(1 << 20);
    let request = OutgoingUpgrade { target: TARGET.into(), headers: vec![], subprotocols: vec![] };
    let options = SocketOptions { burst: u64::MAX, ..SocketOptions::default() };
    let (phone, socket) =
        tokio::join!(dial(near, "bridge", &request, options), answer(far, options));
    let (phone, Ok(socket)) = (phone.unwrap(), socket) else { panic!("no connection") };
    let raw = provider::find("raw").unwrap();
    let upgrade = Upgrade { target: TARGET, public_url: None, headers: &[] };
    let protocol = raw.accept(&upgrade, &Options::default()).unwrap().protocol;
    let clock = Clock::start();
    let mut config = SessionConfig::new("c1", raw.name());
    let named =
        |name: &str, source| PortConfig { in_step: true, source, ..PortConfig::listening(name) };
    let echo = PortConfig { speaks: true, kind: Kind::Agent, ..named("echo", 1) };
    config.routes = Route::to(vec![named("victim", 0), echo, named("ears", 2)]).into();
    let sources: Sources = Arc::new([
        victim,
        source(|| Box::new(ringback_echo::Echo::new())),
        source(|| Box::new(Acted(|len| HEARD.set(HEARD.get() + len)))),
    ]);
    let session = Session::new(clock.now(), config, protocol);
    let wire = Wire::Socket(Box::new(socket));
    let call = Call::new(clock, "c1".into(), session, wire, sources, watchers, None);
    (Box::new(call), phone)
}

/// A call whose caller says a frame every so often and hangs up when it has heard `echoed` octets; an echo speaks, and `victim` is
/// one of two that listen.
async fn call(victim: fn() -> Box<dyn Module>, every: Duration, echoed: usize) -> Box<Summary> {
    call_with(source(victim), Watchers::new(), every, echoed).await
}

async fn call_with(
    victim: Arc<ModuleSource>,
    watchers: Watchers,
    every: Duration,
    echoed: usize,
) -> Box<Summary> {
    let (call, mut phone) = begun(victim, watchers).await;
    let caller = async {
        for _ in 0..FRAMES {
            phone.send(Outgoing::Binary(&[7; FRAME])).await.unwrap();
            tokio::time::sleep(every).await;
        }
        let mut heard = 0;
        while heard < echoed
            && let Some(Ok(came)) = phone.recv().await
        {
            if let Some(Message::Binary(octets)) = phone.message(&came) {
                heard += octets.len();
            }
        }
        let _ = phone.send(Outgoing::Text("{\"type\":\"stop\"}")).await;
        while let Some(Ok(_)) = phone.recv().await {}
    };
    let shutdown = Shutdown::new();
    let (summary, ()) = tokio::join!(call.run(&shutdown), caller);
    summary.expect("every call ends with one")
}

fn assert_cost_only_itself(summary: &Summary, reason: &str) {
    assert_eq!(summary.reason.name(), "remote", "{}", summary.reason);
    let unbalanced: Vec<_> = summary.ledger.unbalanced().map(ToString::to_string).collect();
    assert!(unbalanced.is_empty(), "{unbalanced:?}");
    for module in &summary.modules {
        let error = module.error.as_deref();
        match module.name.as_str() {
            "victim" => assert!(error.is_some_and(|error| error.contains(reason)), "{error:?}"),
            name => assert_eq!(error, None, "{name}"),
        }
    }
}

/// The ends that were told.
#[derive(Default)]
struct Ends(std::sync::Mutex<Vec<(String, bool)>>);

impl Watch for Ends {
    fn see(&self, _: &str, _: Instant, seen: &Seen<'_>) {
        if let Seen::Ended(summary) = seen {
            let balanced = summary.ledger.unbalanced().next().is_none();
            self.0.lock().unwrap().push((summary.reason.name().to_owned(), balanced));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_while_it_hangs_has_a_summary_all_the_same() {
    let ends = Arc::new(Ends::default());
    let watchers = Watchers::new().with(Arc::clone(&ends) as Arc<dyn Watch>);
    let (call, mut phone) = begun(source(|| Box::new(Acted(|_| {}))), watchers).await;
    phone.send(Outgoing::Binary(&[7; FRAME])).await.unwrap();
    let shutdown = Shutdown::new();
    let long = Duration::from_secs(3);
    let ended = tokio::time::timeout(long, call.run(&shutdown)).await;
    assert!(ended.is_err(), "it goes on");
    assert_eq!(*ends.0.lock().unwrap(), [("drain".to_owned(), true)]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_calls_own_task_costs_the_module_that_panicked() {
    let summary = call(
        || Box::new(Acted(|_| panic!("as told"))),
        Duration::from_millis(20),
        FRAMES as usize * FRAME,
    )
    .await;
    assert_cost_only_itself(&summary, "panicked: as told");
    assert_eq!(HEARD.get(), FRAMES * FRAME as u64 / 2);
    assert_eq!(summary.modules[0].overran, 0);
}

/// In real time, which is what the module takes.
#[tokio::test]
async fn a_module_that_is_always_too_slow_for_a_calls_own_task_is_let_go() {
    let slow =
        || -> Box<dyn Module> { Box::new(Acted(|_| std::thread::sleep(Duration::from_millis(2)))) };
    let summary = call(slow, Duration::ZERO, 0).await;
    assert_cost_only_itself(&summary, "longer than its budget of 1ms for a frame");
    assert_eq!(summary.modules[0].overran, 25);
}

/// What a module on a thread is told of a call; the first frame is held up until somebody opens the gate.
struct HeldUp(u64);

static GATE: std::sync::Mutex<()> = std::sync::Mutex::new(());
static BEGUN: std::sync::OnceLock<std::sync::mpsc::Sender<()>> = std::sync::OnceLock::new();
static TOLD: std::sync::OnceLock<std::sync::mpsc::Sender<(u64, StopReason)>> =
    std::sync::OnceLock::new();

impl Module for HeldUp {
    fn start(&mut self, start: &Start) -> Result<Ready, Reject> {
        ringback_dtmf::Dtmf::new().start(start)
    }

    fn process(&mut self, input: Input<'_>, _: &mut Outputs) -> Result<(), ModuleError> {
        if let Input::Audio(frame) = input {
            let _ = BEGUN.get().unwrap().send(());
            drop(GATE.lock());
            self.0 += frame.samples.len() as u64;
        }
        Ok(())
    }

    fn stop(&mut self, reason: StopReason, out: &mut Outputs) {
        TOLD.get().unwrap().send((self.0, reason)).unwrap();
        out.event("recorder.resumed", serde_json::json!({}));
        let data = serde_json::json!({"path": "made/c1-1.wav", "state": "cut", "missing_ms": 20});
        out.event(FINISHED, data);
    }
}

/// What comes of a call when it is over, to whoever waits for it.
struct Lates(std::sync::mpsc::Sender<Late>);

impl Watch for Lates {
    fn see(&self, _: &str, _: Instant, seen: &Seen<'_>) {
        if let Seen::Late(late) = seen {
            self.0.send((*late).clone()).unwrap();
        }
    }
}

/// What takes recordings out of `made` of a folder, into `kept`.
#[cfg(feature = "object-store")]
fn store(folder: &Folder) -> (Sinks, Arc<dyn Watch>) {
    std::fs::create_dir(folder.0.join("made")).unwrap();
    std::fs::write(folder.0.join("made/c1-1.wav"), "x").unwrap();
    let store = Store::Folder(folder.0.join("kept"));
    let kind =
        SinkKind::Recordings(Recordings { store, dir: folder.0.join("made"), delete_local: false });
    let (name, events) = ("store".to_owned(), SinkConfig::default_events());
    let sinks = Sinks::start(&[SinkConfig { name, kind, events, queue: 10 }], &Arc::default());
    let watch = sinks.watch(&[("default".into(), vec!["store".into()])], "raw").unwrap();
    (sinks, watch)
}

/// A recorder on a disk that holds it up, say. The call waits in time that is not real, and so not at all.
#[allow(clippy::await_holding_lock, reason = "who waits for it has a thread of its own")]
#[tokio::test(start_paused = true)]
async fn a_thread_that_is_held_up_until_the_call_is_over_is_left_with_all_that_it_is_owed_and_heard()
 {
    let (told, hears) = std::sync::mpsc::channel();
    TOLD.set(told).unwrap();
    let (begun, begins) = std::sync::mpsc::channel();
    BEGUN.set(begun).unwrap();
    // Paused time does not jump while this waits: however late the thread gets its core, it has heard something by then.
    let heard = tokio::task::spawn_blocking(move || {
        let _ = begins.recv_timeout(Duration::from_secs(20));
    });
    let closed = GATE.lock().unwrap();
    let place = Place::Thread { name: "held-up".into(), make: || Box::new(HeldUp(0)) };
    let ring = Duration::from_secs(10);
    let victim =
        ModuleSource { ready_ms: 60_000, budget: Duration::ZERO, ring, breaker: None, place };
    let folder = Folder::new("held-up");
    let (finished, finishes) = std::sync::mpsc::channel();
    let watchers = Watchers::new().with(Arc::new(LogWatch { listener: "raw".into() }));
    #[cfg(feature = "object-store")]
    let (sinks, stores) = store(&folder);
    #[cfg(feature = "object-store")]
    let watchers = watchers.with(stores);
    let watchers = watchers.with(Arc::new(Lates(finished)));
    let (cut, every) = (METRICS.recordings_cut.get(), Duration::from_millis(20));
    let summary = call_with(Arc::new(victim), watchers, every, FRAMES as usize * FRAME).await;
    heard.await.unwrap();
    assert_cost_only_itself(&summary, "did not finish in time");
    assert!(finishes.try_recv().is_err(), "it is at work");
    drop(closed);
    let told = hears.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(told, (FRAMES * FRAME as u64 / 2, StopReason::Hangup));
    // Whoever looked on at the call hears of the end of its recording, and of nothing else.
    let late = finishes.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!((late.event.name.as_str(), late.module.as_str()), (FINISHED, "victim"));
    assert_eq!(METRICS.recordings_cut.get(), cut + 1);
    #[cfg(feature = "object-store")]
    {
        sinks.finish(std::future::pending()).await;
        assert_eq!(folder.read("kept/c1-1.wav"), "x");
    }
    assert!(finishes.recv().is_err(), "nobody looks on any more");
}
