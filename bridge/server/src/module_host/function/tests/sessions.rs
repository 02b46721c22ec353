//! A call and its functions: what is asked when, and what comes of the answers.

use base64_simd::STANDARD;
use ringback_module::message::{AudioFormat, Cleared, FromModule, StopReason, Transcript};
use ringback_module::{FrameFlags, ToModule};

use super::*;
use crate::module_host::{FromHost, ToHost};

pub(super) fn start(text: bool) -> Start {
    let features: &[&str] = if text { &["say"] } else { &[] };
    let mut start: Start = serde_json::from_value(json!({
        "v": 1, "session": "c.1-0", "call": {"id": "c.1", "provider": "p", "from": "+15550100"},
        "config": {"tone": "warm"},
        "offer": {"tracks": [{"id": 0, "role": "caller"}], "in": [{"encoding": "pcm_s16le", "rate": 8000}],
            "out": [], "framing": ["hdr16"], "features": features},
    }))
    .unwrap();
    if text {
        start.offer.tracks.clear();
        start.offer.input.clear();
    } else {
        start.offer.output = vec![AudioFormat::pcm(8_000)];
    }
    start
}

/// A call with functions for these, and a replica that waits for work.
pub(super) async fn call(triggers: &[Trigger], text: bool) -> (Rig, Client, Hosted) {
    let mut config = config();
    config.on.retain(|trigger, _| triggers.contains(trigger));
    let rig = Rig::new(config);
    let client = rig.ready_client(0).await;
    let mut hosted = spawn_function(&rig.pool, start(text));
    let FromHost::Ready(ready) = next(&mut hosted).await else { panic!() };
    assert_eq!(ready.session, "c.1-0");
    (rig, client, hosted)
}

pub(super) async fn next(hosted: &mut Hosted) -> FromHost {
    timeout(PATIENCE, hosted.recv()).await.expect("the host says something")
}

/// The next message that is not just an acknowledgement.
pub(super) async fn message(hosted: &mut Hosted) -> Value {
    loop {
        match next(hosted).await {
            FromHost::Message(FromModule::Ack { .. } | FromModule::Vad(_)) => {}
            FromHost::Message(message) => return serde_json::to_value(message).unwrap(),
            other => panic!("unexpected {other:?}"),
        }
    }
}

pub(super) fn words(id: &str, text: &str, is_final: bool) -> ToHost {
    let transcript =
        Transcript { id: id.into(), text: text.into(), is_final, ..Transcript::default() };
    ToHost::Message(ToModule::Text(transcript))
}

pub(super) fn key(digit: char) -> ToHost {
    let told = json!({"type": "dtmf", "digit": digit, "at_ms": 7});
    ToHost::Message(serde_json::from_value(told).unwrap())
}

fn stop(seconds: u64) -> ToHost {
    ToHost::Stop { reason: StopReason::Hangup, deadline: Duration::from_secs(seconds) }
}

#[tokio::test(start_paused = true)]
async fn what_happens_is_asked_and_answers_are_carried_out() {
    let (_rig, client, mut hosted) = call(&Trigger::ALL, true).await;
    let job = client.job().await;
    assert_eq!(
        (job["queryType"].as_str(), job["jobId"].as_str()),
        (Some("on_start"), Some("c-1-0-1"))
    );
    assert_eq!(job["query"]["call"]["from"], "+15550100");
    client.answer("c-1-0-1", &json!("Welcome.")).await;
    assert_eq!(
        message(&mut hosted).await,
        json!({"type": "say", "text": "Welcome.", "last": true, "epoch": 0})
    );
    hosted.try_send(words("u1", "good morning", true)).unwrap();
    let job = client.job().await;
    assert_eq!(job["queryType"], "on_transcript");
    let query = &job["query"];
    assert_eq!(
        (&query["text"], &query["turn"], &query["config"]["tone"]),
        (&json!("good morning"), &json!(1), &json!("warm"))
    );
    assert_eq!(query["history"], json!([{"speaker": "agent", "text": "Welcome."}]));
    client
        .answer(
            "c-1-0-2",
            &json!([{"type": "say", "text": "Bye."}, {"type": "hangup", "after": "playback"}]),
        )
        .await;
    assert_eq!(message(&mut hosted).await["text"], "Bye.");
    assert_eq!(
        message(&mut hosted).await,
        json!({"type": "hangup", "after": "playback", "reason": ""})
    );
    hosted.try_send(key('5')).unwrap();
    let job = client.job().await;
    assert_eq!((&job["queryType"], &job["query"]["digit"]), (&json!("on_dtmf"), &json!("5")));
    client.answer("c-1-0-3", &json!({"intent": "five"})).await;
    let data = json!({"function": "on_dtmf", "value": {"intent": "five"}});
    assert_eq!(
        message(&mut hosted).await,
        json!({"type": "event", "name": "function.result", "data": data})
    );
    hosted.try_send(stop(3)).unwrap();
    let job = client.job().await;
    assert_eq!((&job["queryType"], &job["query"]["reason"]), (&json!("on_end"), &json!("hangup")));
    client.answer("c-1-0-4", &Value::Null).await;
    let jobs = json!({"asked": 4, "answered": 4, "failed": 0, "dropped": {}});
    assert_eq!(message(&mut hosted).await, json!({"type": "done", "stats": {"jobs": jobs}}));
    assert_eq!(next(&mut hosted).await, FromHost::Gone { reason: None });
}

#[tokio::test(start_paused = true)]
async fn words_of_a_stream_are_one_utterance_said_as_they_come() {
    let (_rig, client, mut hosted) = call(&[Trigger::Transcript], true).await;
    hosted.try_send(words("u1", "hi", true)).unwrap();
    let id = client.take().await;
    let mut wire = client.stream(&id, PYTHON).await;
    for word in ["real ", "time"] {
        wire.chunk(&json!(word).to_string()).await;
        assert_eq!(
            message(&mut hosted).await,
            json!({"type": "say", "text": word, "last": false, "epoch": 0})
        );
    }
    wire.end().await;
    assert_eq!(
        message(&mut hosted).await,
        json!({"type": "say", "text": "", "last": true, "epoch": 0})
    );
    hosted.try_send(words("u2", "more", true)).unwrap();
    let history =
        json!([{"speaker": "caller", "text": "hi"}, {"speaker": "agent", "text": "real time"}]);
    assert_eq!(client.job().await["query"]["history"], history);
}

#[tokio::test(start_paused = true)]
async fn of_guesses_one_is_asked_at_a_time_and_the_newest_next() {
    let (_rig, client, mut hosted) =
        call(&[Trigger::Partial, Trigger::Transcript, Trigger::End], true).await;
    hosted.try_send(words("u1", "a", false)).unwrap();
    let id = client.take().await;
    for text in ["a b", "a b c", "a b c d"] {
        hosted.try_send(words("u1", text, false)).unwrap();
    }
    client.answer(&id, &Value::Null).await;
    let job = client.job().await;
    assert_eq!(job["query"]["text"], "a b c d");
    hosted.try_send(words("u1", "a b c d e", false)).unwrap();
    hosted.try_send(words("u1", "all of it", true)).unwrap();
    client.answer(job["jobId"].as_str().unwrap(), &Value::Null).await;
    let job = client.job().await;
    assert_eq!(
        (&job["queryType"], &job["query"]["text"]),
        (&json!("on_transcript"), &json!("all of it"))
    );
    // While the only replica is busy a guess waits at the pool, and a newer one is asked in its place.
    hosted.try_send(words("u2", "x", false)).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    hosted.try_send(words("u2", "x y", false)).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    client.answer(job["jobId"].as_str().unwrap(), &Value::Null).await;
    let job = client.job().await;
    assert_eq!(job["query"]["text"], "x y");
    client.answer(job["jobId"].as_str().unwrap(), &Value::Null).await;
    hosted.try_send(stop(3)).unwrap();
    let id = client.take().await;
    client.answer(&id, &Value::Null).await;
    let done = message(&mut hosted).await;
    assert_eq!(done["stats"]["jobs"]["dropped"], json!({"superseded": 4}), "{done}");
}

#[tokio::test(start_paused = true)]
async fn a_key_does_not_wait_for_the_answer_to_a_question() {
    let rig = Rig::new(FunctionConfig { concurrency: 2, ..config() });
    let client = rig.ready_client(0).await;
    let mut hosted = spawn_function(&rig.pool, start(true));
    let id = client.take().await;
    client.answer(&id, &Value::Null).await;
    assert!(matches!(next(&mut hosted).await, FromHost::Ready(_)));
    hosted.try_send(words("u1", "hi", true)).unwrap();
    hosted.try_send(words("u2", "there", true)).unwrap();
    hosted.try_send(key('1')).unwrap();
    let kinds = [client.job().await, client.job().await]
        .map(|job| job["queryType"].as_str().unwrap().to_owned());
    assert_eq!(kinds, ["on_transcript", "on_dtmf"], "the second question waits for the first");
}

/// `seconds` of sound at 16 kHz, as a function gives it.
pub(super) fn sound(seconds: usize) -> Value {
    let octets = vec![1_u8; seconds * 32_000];
    json!({"type": "audio", "pcm16": STANDARD.encode_to_string(octets), "rate": 16_000})
}

#[tokio::test(start_paused = true)]
async fn sound_is_played_at_the_rate_of_the_call_and_no_faster_than_it_may_be_queued() {
    let (_rig, client, mut hosted) = call(&[Trigger::Transcript], false).await;
    hosted.try_send(ToHost::Message(ToModule::Credit { out_ms: 2_000 })).unwrap();
    hosted.try_send(words("u1", "hi", true)).unwrap();
    let id = client.take().await;
    let began = tokio::time::Instant::now();
    client.answer(&id, &json!([sound(1), sound(1), sound(1), sound(1)])).await;
    let mut samples = 0;
    let mut at = Vec::new();
    loop {
        match next(&mut hosted).await {
            FromHost::Audio { epoch, samples: some } => {
                assert_eq!(epoch, Some(0));
                samples += some.len();
                at.push(began.elapsed().as_secs());
            }
            FromHost::Message(FromModule::AudioEnd { epoch: Some(0) }) => break,
            FromHost::Message(FromModule::Ack { .. }) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(
        (samples, at),
        (4 * 8_000, vec![0, 0, 1, 2, 2]),
        "the last is what the resampler held"
    );
}

#[tokio::test(start_paused = true)]
async fn a_clear_stops_who_was_heard_and_not_who_thinks() {
    let (rig, client, mut hosted) = call(&[Trigger::Transcript, Trigger::Dtmf], false).await;
    hosted.try_send(words("u1", "hi", true)).unwrap();
    let id = client.take().await;
    let mut wire = client.stream(&id, PYTHON).await;
    wire.chunk(&sound(1).to_string()).await;
    loop {
        if let FromHost::Audio { .. } = next(&mut hosted).await {
            break;
        }
    }
    let cleared = Cleared { epoch: 0, ..Cleared::default() };
    hosted.try_send(key('1')).unwrap();
    hosted.try_send(ToHost::Message(ToModule::Cleared(cleared))).unwrap();
    assert_eq!(wire.answer().await, None, "it is cut");
    client.answer(&id, &json!({"error": "Unable to post"})).await;
    let job = client.job().await;
    assert_eq!(job["queryType"], "on_dtmf");
    client.answer(job["jobId"].as_str().unwrap(), &sound(1)).await;
    let FromHost::Audio { epoch, .. } = next(&mut hosted).await else { panic!() };
    assert_eq!(epoch, Some(1), "it had not begun, so it speaks for what is now");
    assert_eq!(rig.board().wanted_at(0), 0);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_clears_speaks_for_what_follows() {
    let (_rig, client, mut hosted) = call(&[Trigger::Dtmf], false).await;
    hosted.try_send(key('1')).unwrap();
    let id = client.take().await;
    client.answer(&id, &json!([{"type": "clear"}, sound(1)])).await;
    assert_eq!(message(&mut hosted).await, json!({"type": "clear", "epoch": 0}));
    let FromHost::Audio { epoch, .. } = next(&mut hosted).await else { panic!() };
    assert_eq!(epoch, Some(1));
}

#[tokio::test(start_paused = true)]
async fn who_answers_for_playback_that_is_over_is_counted_there_and_stopped() {
    let (rig, client, mut hosted) = call(&[Trigger::Transcript], false).await;
    hosted.try_send(words("u1", "hi", true)).unwrap();
    let id = client.take().await;
    let cleared = Cleared { epoch: 0, ..Cleared::default() };
    hosted.try_send(ToHost::Message(ToModule::Cleared(cleared))).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut wire = client.stream(&id, NODE).await;
    wire.chunk(&sound(1).to_string()).await;
    loop {
        match next(&mut hosted).await {
            FromHost::Audio { epoch, .. } => {
                break assert_eq!(epoch, Some(0), "the call drops it by name");
            }
            FromHost::Message(FromModule::Ack { .. }) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    wire.chunk(&sound(1).to_string()).await;
    assert_eq!(wire.end().await, Some((204, String::new())));
    assert_eq!(rig.board().wanted_at(0), 0);
}

#[tokio::test(start_paused = true)]
async fn an_utterance_is_asked_as_sound() {
    let (_rig, client, mut hosted) = call(&[Trigger::Utterance], false).await;
    let mut samples = super::super::utterance::tests::sentence();
    samples.extend([0; 16_000]);
    let asked = tokio::spawn(async move { client.job().await });
    let mut pts = 0;
    for frame in samples.chunks(320) {
        let item = ToHost::Audio {
            track: 0,
            pts,
            rate: 16_000,
            flags: FrameFlags::default(),
            samples: frame.to_vec(),
        };
        pts += frame.len() as u64;
        hosted.try_send(item).unwrap();
        tokio::task::yield_now().await;
    }
    let job = asked.await.unwrap();
    let query = &job["query"];
    assert_eq!(
        (&job["queryType"], &query["sample_rate"], &query["turn"]),
        (&json!("on_utterance"), &json!(16_000), &json!(1))
    );
    let octets = STANDARD.decode_to_vec(query["audio_b64"].as_str().unwrap()).unwrap();
    let length = query["end_ms"].as_u64().unwrap() - query["start_ms"].as_u64().unwrap();
    assert!((octets.len() as u64 / 32).abs_diff(length) <= 1, "{length} ms");
    let FromHost::Message(FromModule::Vad(vad)) = next(&mut hosted).await else { panic!() };
    assert_eq!(vad.track, 0, "barge-in hears of speech, too");
}

#[tokio::test(start_paused = true)]
async fn failures_are_errors_of_the_call_and_end_nothing() {
    let (_rig, client, mut hosted) = call(&[Trigger::Dtmf], false).await;
    hosted.try_send(key('1')).unwrap();
    let id = client.take().await;
    client.answer(&id, &json!({"exception": "boom: Traceback"})).await;
    let told = message(&mut hosted).await;
    assert_eq!((&told["code"], &told["fatal"]), (&json!("function_failed"), &json!(false)));
    assert_eq!(told["message"], "on_dtmf: boom: Traceback");
    hosted.try_send(key('2')).unwrap();
    let id = client.take().await;
    client.answer(&id, &json!("words on a call of sound")).await;
    let data = json!({"text": "words on a call of sound", "last": true});
    assert_eq!(
        message(&mut hosted).await,
        json!({"type": "event", "name": "function.say", "data": data})
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_job_waits_for_others_but_the_call_does_not_wait_for_ever() {
    let (rig, client, mut hosted) = call(&[Trigger::Transcript, Trigger::End], true).await;
    hosted.try_send(words("u1", "bye", true)).unwrap();
    let id = client.take().await;
    let began = tokio::time::Instant::now();
    hosted.try_send(stop(4)).unwrap();
    let done = message(&mut hosted).await;
    assert_eq!(done["stats"]["jobs"]["dropped"], json!({"call_ended": 1}), "{done}");
    assert_eq!(began.elapsed(), Duration::from_millis(3_500), "before the deadline");
    assert_eq!(next(&mut hosted).await, FromHost::Gone { reason: None });
    drop(hosted);
    client.answer(&id, &json!("too late")).await;
    assert_eq!(client.job().await["queryType"], "on_end", "it is done all the same");
    assert!(!rig.board().is_idle());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_gone_leaves_no_work_behind() {
    let (rig, client, hosted) = call(&[Trigger::Transcript, Trigger::Dtmf], true).await;
    hosted.try_send(words("u1", "hi", true)).unwrap();
    let id = client.take().await;
    hosted.try_send(key('1')).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    drop(hosted);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(rig.board().is_idle());
    assert_eq!(client.stream(&id, PYTHON).await.end().await, None, "it is told to stop");
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_not_ready_in_time_is_a_module_that_failed() {
    let rig = Rig::new(config());
    rig.pool.inner.failed("exited with status 1: no module named app");
    let mut start = start(true);
    start.limits.ready_ms = 500;
    let mut hosted = spawn_function(&rig.pool, start);
    let FromHost::Gone { reason: Some(reason) } = next(&mut hosted).await else { panic!() };
    assert_eq!(
        reason,
        "no replica is ready within 500 ms; last: exited with status 1: no module named app"
    );
}
