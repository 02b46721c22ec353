//! What every place that a module can run in does alike, whatever the module does: the same situations for each of them.

use super::dial_in::Bridge;
use super::served::serve;
#[cfg(feature = "nats")]
use super::worked::Cluster;
use super::*;

/// Where a module runs.
enum Place {
    Child,
    /// A child process that has a session that behaves.
    Shared,
    WebSocket,
    #[cfg(feature = "nats")]
    Nats(Box<Cluster>),
    Worker,
}

/// The module, and who shares a process with it.
struct Tested {
    hosted: Hosted,
    _neighbour: Option<Hosted>,
}

impl std::ops::Deref for Tested {
    type Target = Hosted;

    fn deref(&self) -> &Hosted {
        &self.hosted
    }
}

impl std::ops::DerefMut for Tested {
    fn deref_mut(&mut self) -> &mut Hosted {
        &mut self.hosted
    }
}

impl Place {
    async fn host(&self, mode: &'static str, start: Start) -> Tested {
        let (hosted, neighbour) = match self {
            Self::Child => (child(mode, start), None),
            Self::Shared => {
                let pool = shared::pool(|_| {});
                let neighbour = shared::joined(&pool, "good").await;
                (spawn_child(&pool, shared::behaving(mode, start)), Some(neighbour))
            }
            Self::WebSocket => (spawn_websocket(serve(mode).spec, start), None),
            #[cfg(feature = "nats")]
            Self::Nats(cluster) => (spawn_nats(cluster.work(mode).await, start), None),
            Self::Worker => {
                let bridge = Bridge::new();
                bridge.worker(mode, 8);
                (spawn_worker(bridge.spec(), start), None)
            }
        };
        Tested { hosted, _neighbour: neighbour }
    }

    /// Whether a real network lies between: a flood may take longer than what it is made of takes to play, and of a module that is
    /// gone without a word nothing tells but its silence.
    const fn is_far(&self) -> bool {
        #[cfg(feature = "nats")]
        if let Self::Nats(_) = self {
            return true;
        }
        false
    }

    /// For a module that will be gone without a word.
    fn short_wait(&self) -> Start {
        let mut start = start();
        if self.is_far() {
            start.limits.dead_ms = 1_000;
        }
        start
    }
}

/// Deadlines that a busy machine keeps, and that are nothing in virtual time.
fn quick_to_bury() -> Start {
    let mut start = start();
    start.limits.dead_ms = 200;
    start
}

async fn happy_path(place: &Place) {
    let mut hosted = place.host("good", start()).await;
    ready(&mut hosted, Value::Null).await;
    hosted.try_send(audio(2, &[1, 2])).unwrap();
    let silence = FromHost::Audio { epoch: None, samples: vec![0, 0] };
    assert_eq!(next(&mut hosted).await, silence, "raw framing has no holes");
    assert_eq!(next(&mut hosted).await, FromHost::Audio { epoch: None, samples: vec![1, 2] });
    let told = json!({"type": "dtmf", "track": 0, "digit": "5", "source": "provider", "at_ms": 7});
    let dtmf: ToModule = serde_json::from_value(told).unwrap();
    let told = serde_json::to_value(&dtmf).unwrap();
    hosted.try_send(ToHost::Message(dtmf)).unwrap();
    assert_eq!(next(&mut hosted).await, event("told", told));
    hosted.try_send(stop(PATIENCE)).unwrap();
    assert_eq!(next(&mut hosted).await, event("stopping", json!("hangup")));
    let done = next(&mut hosted).await;
    assert!(matches!(done, FromHost::Message(FromModule::Done { .. })), "{done:?}");
    assert_eq!(next(&mut hosted).await, FromHost::Gone { reason: None });
    assert_eq!(hosted.try_send(audio(0, &[1])), Ok(()), "a module that is gone takes anything");
}

async fn headers_carry_the_epoch(place: &Place) {
    let mut hosted = place.host("hdr16", start()).await;
    ready(&mut hosted, Value::Null).await;
    hosted.try_send(audio(70, &[5])).unwrap();
    assert_eq!(next(&mut hosted).await, FromHost::Audio { epoch: Some(0), samples: vec![5] });
}

/// What a filter answers comes with the position of the first sample, if it tells one.
async fn a_filters_answers_have_positions(place: &Place) {
    for (mode, pts) in [("hdr16", Some(70)), ("good", None)] {
        let mut hosted = place.host(mode, Start { kind: Kind::Filter, ..start() }).await;
        ready(&mut hosted, Value::Null).await;
        hosted.try_send(audio(if pts.is_some() { 70 } else { 0 }, &[5])).unwrap();
        assert_eq!(next(&mut hosted).await, FromHost::Frame { pts, samples: vec![5] });
    }
}

async fn late_start(place: &Place) {
    let mut start = start();
    start.limits.ready_ms = 100;
    let mut hosted = place.host("late", start).await;
    assert!(restarting(&mut hosted).await.ends_with("not ready within 100 ms"));
}

async fn crash_and_replay(place: &Place) {
    let mut hosted = place.host("crash", place.short_wait()).await;
    ready(&mut hosted, Value::Null).await;
    hosted.try_send(audio(0, &[1])).unwrap();
    hosted.try_send(audio(1, &[2])).unwrap();
    restarting(&mut hosted).await;
    assert_eq!(next(&mut hosted).await, FromHost::NeedStart);
    let mut again = start();
    again.resume = Some(Resume { token: None, from_ms: 40, epoch: 3 });
    hosted.try_send(ToHost::Start(Box::new(again))).unwrap();
    ready(&mut hosted, json!({"from_ms": 40, "epoch": 3})).await;
    hosted.try_send(stop(PATIENCE)).unwrap();
    assert_eq!(next(&mut hosted).await, event("stopping", json!("hangup")));
}

async fn hang(place: &Place) {
    let mut hosted = place.host("hang", quick_to_bury()).await;
    ready(&mut hosted, Value::Null).await;
    assert!(restarting(&mut hosted).await.ends_with("no sign of life for 200 ms"));
}

async fn wrong_offer(place: &Place) {
    let mut hosted = place.host("reject", start()).await;
    let FromHost::Rejected(reject) = next(&mut hosted).await else { panic!() };
    assert_eq!((reject.code.as_str(), reject.message.as_str()), ("bad_config", "as told"));
}

/// Sound far faster than the rate it was said to have.
async fn lying_about_its_rate(place: &Place) {
    let mut start = start();
    start.credit = StartCredit { out_ms: 2_000 };
    let mut hosted = place.host("flood", start).await;
    ready(&mut hosted, Value::Null).await;
    let (mut passed, mut dropped) = (0, 0);
    let reason = loop {
        match next(&mut hosted).await {
            FromHost::Audio { samples, .. } => passed += samples.len() as u64,
            FromHost::Dropped { samples, .. } => dropped += samples,
            FromHost::Restarting { reason, .. } => break reason,
            other => panic!("unexpected {other:?}"),
        }
        // Over a network, on a slow machine, it takes so long that some of it has been played by then, and that is forgiven.
        if place.is_far() && passed + dropped == 8_000 * 330 {
            break "far beyond its credit, but slowly".into();
        }
    };
    assert!(reason.contains("far beyond its credit"), "{reason}");
    // Two seconds at once and then, on however slow a machine, little more than real time.
    assert!((16_000..8_000 * 60).contains(&passed), "{passed} samples passed");
    let least = if place.is_far() { 200 } else { 290 };
    assert!(dropped >= 8_000 * least, "{dropped} samples dropped");
}

async fn broken_contracts(place: &Place) {
    for (mode, word) in [
        ("garbage", "ringback.v1|not understood"),
        ("oversize", "over the limit|bigger than the limit"),
        ("odd", "audio of 3 octets"),
        ("mute", "`accept.out`"),
        ("nonsense", "message not understood: invalid type"),
        ("twice", "was ready twice"),
    ] {
        let mut hosted = place.host(mode, start()).await;
        let reason = restarting(&mut hosted).await;
        assert!(word.split('|').any(|word| reason.contains(word)), "{mode}: {reason}");
    }
}

/// It takes nothing, though there is more for it than lines and queues hold.
async fn slow_reader(place: &Place) {
    let mut hosted = place.host("hang", quick_to_bury()).await;
    ready(&mut hosted, Value::Null).await;
    let mut sent = 0;
    while hosted.try_send(audio(sent, &[0; 4_000])).is_ok() {
        sent += 4_000;
        tokio::task::yield_now().await;
    }
    assert!(sent < 8_000 * 120, "{sent} samples are under way, which nobody could count");
    assert!(restarting(&mut hosted).await.ends_with("no sign of life for 200 ms"));
}

async fn babble(place: &Place) {
    let mut hosted = place.host("babble", start()).await;
    ready(&mut hosted, Value::Null).await;
    for n in 0..1_200 {
        assert_eq!(next(&mut hosted).await, event("babble", json!(n)));
    }
}

async fn fatal_error(place: &Place) {
    let mut hosted = place.host("fatal", start()).await;
    ready(&mut hosted, Value::Null).await;
    assert!(matches!(next(&mut hosted).await, FromHost::Message(FromModule::Error(_))));
    let FromHost::Gone { reason: Some(reason) } = next(&mut hosted).await else { panic!() };
    assert!(reason.ends_with("vendor: no key"), "{reason}");
}

async fn stop_not_heeded(place: &Place) {
    for (mode, deadline, word) in [
        ("deaf", Duration::from_millis(50), "no `done` within 50 ms"),
        ("leave", PATIENCE, "`done`"),
    ] {
        let mut hosted = place.host(mode, start()).await;
        ready(&mut hosted, Value::Null).await;
        hosted.try_send(stop(deadline)).unwrap();
        let FromHost::Gone { reason: Some(reason) } = next(&mut hosted).await else { panic!() };
        assert!(reason.ends_with(word), "{mode}: {reason}");
    }
}

async fn every_situation(place: &Place) {
    happy_path(place).await;
    headers_carry_the_epoch(place).await;
    a_filters_answers_have_positions(place).await;
    late_start(place).await;
    crash_and_replay(place).await;
    hang(place).await;
    wrong_offer(place).await;
    lying_about_its_rate(place).await;
    broken_contracts(place).await;
    slow_reader(place).await;
    babble(place).await;
    fatal_error(place).await;
    stop_not_heeded(place).await;
}

#[tokio::test]
async fn every_situation_of_a_child() {
    every_situation(&Place::Child).await;
}

#[tokio::test]
async fn every_situation_of_a_shared_child() {
    every_situation(&Place::Shared).await;
}

#[tokio::test(start_paused = true)]
async fn every_situation_of_a_websocket() {
    every_situation(&Place::WebSocket).await;
}

#[cfg(feature = "nats")]
#[tokio::test]
async fn every_situation_of_a_worker_on_nats() {
    let Some(cluster) = Cluster::start("table", &[]).await else { return };
    every_situation(&Place::Nats(Box::new(cluster))).await;
}

#[tokio::test(start_paused = true)]
async fn every_situation_of_a_worker() {
    every_situation(&Place::Worker).await;
}

/// Functions are asked and answer; they have no sound that flows both ways. For them it is the job that fails and not the module, which
/// is why there is no restart here, nor a last word of theirs. Of the situations these are not theirs: a wrong offer (a function
/// takes what there is, and an utterance comes only where there is sound), epochs in headers (the bridge keeps them), babble (they
/// are read as fast as the call takes it), fatal errors, and a stop that is not heeded (they are not told).
#[cfg(feature = "functions")]
#[tokio::test(start_paused = true)]
async fn every_situation_of_functions() {
    use super::super::function::tests::situations;
    situations::happy_path().await;
    situations::late_start().await;
    situations::crash_and_replay().await;
    situations::hang().await;
    situations::flood().await;
    situations::lying_about_its_rate().await;
    situations::oversize_message().await;
    situations::slow_reader().await;
}

/// A bot speaks its provider's protocol: it has no words for an epoch, a last answer or an error, and none for life. It is dialled once
/// for a call.
#[tokio::test(start_paused = true)]
async fn every_situation_of_a_bot() {
    use super::bots;
    bots::happy_path().await;
    bots::late_start().await;
    bots::crash_without_replay().await;
    bots::hang_and_slow_reader().await;
    bots::flood_and_lying_about_its_rate().await;
    bots::wrong_offer().await;
    bots::oversize_message().await;
}
