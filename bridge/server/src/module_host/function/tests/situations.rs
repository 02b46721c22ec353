//! The situations of the table of places, as they are for functions. What the others are not is in the tests of the protocol.

use ringback_module::message::{FromModule, StopReason};

use super::sessions::{call, key, message, next, sound, start, words};
use super::*;
use crate::module_host::{FromHost, ToHost};

pub(in super::super::super) async fn happy_path() {
    let (_rig, client, mut hosted) = call(&[Trigger::Dtmf], true).await;
    hosted.try_send(key('1')).unwrap();
    let id = client.take().await;
    client.answer(&id, &json!("one")).await;
    assert_eq!(message(&mut hosted).await["text"], "one");
    hosted.try_send(ToHost::Stop { reason: StopReason::Hangup, deadline: PATIENCE }).unwrap();
    let done = next(&mut hosted).await;
    assert!(matches!(done, FromHost::Message(FromModule::Done { .. })), "{done:?}");
    assert_eq!(next(&mut hosted).await, FromHost::Gone { reason: None });
    assert_eq!(hosted.try_send(key('2')), Ok(()), "a module that is gone takes anything");
}

pub(in super::super::super) async fn late_start() {
    let rig = Rig::new(config());
    let mut start = start(true);
    start.limits.ready_ms = 100;
    let mut hosted = spawn_function(&rig.pool, start);
    let FromHost::Gone { reason: Some(reason) } = next(&mut hosted).await else { panic!() };
    assert!(reason.starts_with("no replica is ready within 100 ms"), "{reason}");
}

/// The module lives on: it is its job that is done again, if nothing was heard of it.
pub(in super::super::super) async fn crash_and_replay() {
    let (rig, client, mut hosted) = call(&[Trigger::Dtmf], true).await;
    hosted.try_send(key('1')).unwrap();
    let id = client.take().await;
    assert_eq!(rig.board().lost(0, "killed").as_slice(), std::slice::from_ref(&id));
    assert_eq!(client.take().await, id);
    client.answer(&id, &json!("one")).await;
    assert_eq!(message(&mut hosted).await["text"], "one");
}

pub(in super::super::super) async fn hang() {
    let (_rig, client, mut hosted) = call(&[Trigger::Dtmf], true).await;
    hosted.try_send(key('1')).unwrap();
    client.take().await;
    let told = message(&mut hosted).await;
    assert_eq!(told["message"], "on_dtmf: it did not answer within 30s");
}

/// It is read no faster than what it says is played, so that nothing of it is dropped.
pub(in super::super::super) async fn flood() {
    let (_rig, client, mut hosted) = call(&[Trigger::Dtmf], false).await;
    hosted.try_send(key('1')).unwrap();
    let id = client.take().await;
    let mut wire = client.stream(&id, NODE).await;
    let flood = tokio::spawn(async move {
        for _ in 0..90 {
            wire.chunk(&sound(1).to_string()).await;
        }
        wire.end().await
    });
    let (began, mut samples) = (tokio::time::Instant::now(), 0);
    loop {
        match next(&mut hosted).await {
            FromHost::Audio { samples: some, .. } => samples += some.len(),
            FromHost::Message(FromModule::AudioEnd { .. }) => break,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!((samples, began.elapsed().as_secs()), (90 * 8_000, 60), "30 s may be queued");
    assert_eq!(flood.await.unwrap(), Some((204, String::new())));
}

pub(in super::super::super) async fn lying_about_its_rate() {
    let (_rig, client, mut hosted) = call(&[Trigger::Dtmf], false).await;
    hosted.try_send(key('1')).unwrap();
    let id = client.take().await;
    client.answer(&id, &json!({"type": "audio", "pcm16": "AAAA", "rate": 1_000_000})).await;
    assert_eq!(message(&mut hosted).await["name"], "function.bad_result");
}

pub(in super::super::super) async fn oversize_message() {
    let (_rig, client, mut hosted) = call(&[Trigger::Dtmf], true).await;
    hosted.try_send(key('1')).unwrap();
    let id = client.take().await;
    let mut wire = client.stream(&id, NODE).await;
    wire.chunk(&format!("\"{}", "x".repeat(16 * 1024 * 1024))).await;
    assert_eq!(wire.end().await, Some((204, String::new())));
    let told = message(&mut hosted).await;
    assert!(told["message"].as_str().unwrap().contains("octets"), "{told}");
}

/// It asks for no work; what waits for it is bounded, and what is not done is counted by name.
pub(in super::super::super) async fn slow_reader() {
    let (_rig, _client, mut hosted) = call(&[Trigger::Transcript], true).await;
    for n in 0..40 {
        while hosted.try_send(words(&format!("u{n}"), "words", true)).is_err() {
            tokio::task::yield_now().await;
        }
        assert!(matches!(next(&mut hosted).await, FromHost::Message(FromModule::Ack { .. })));
    }
    hosted
        .try_send(ToHost::Stop { reason: StopReason::Hangup, deadline: Duration::from_secs(1) })
        .unwrap();
    let done = message(&mut hosted).await;
    assert_eq!(done["stats"]["jobs"]["dropped"], json!({"too_slow": 23, "call_ended": 17}));
}
