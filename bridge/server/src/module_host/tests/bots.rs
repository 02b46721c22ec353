//! A bot for Twilio acted out in memory; a mode says how it misbehaves. The situations of every place, as far as they are a bot's.

use ringback_codecs::g711::{linear_to_mu, mu_to_linear};
use ringback_proto::provider::{Message, find};
use ringback_proto::translation::Bot;

use super::*;
use crate::client::WsUrl;
use crate::net::{self, Listener as _, MemoryListener};
use crate::outgoing::Connector;
use crate::socket::{self, Incoming, Outgoing, Socket, SocketOptions};

/// Octets under way to a bot, as the system holds them.
const BUFFER: usize = 64 * 1024;
/// Samples of a frame.
const FRAME: usize = 160;

fn bot(mode: &'static str, start: Start) -> Hosted {
    bot_of("twilio", mode, start)
}

fn bot_of(provider: &str, mode: &'static str, start: Start) -> Hosted {
    let (listener, connector) = net::memory(BUFFER);
    tokio::spawn(attend(mode, listener));
    let bot = Bot {
        provider: find(provider).unwrap(),
        target: "/media".into(),
        parameters: Vec::new(),
        format: None,
    };
    let spec = BotSpec {
        name: mode.to_owned(),
        bot,
        to: WsUrl::plain("bot:80".into(), "/media?key=hidden".into()).into(),
        headers: Vec::new(),
        connector: Connector::in_memory(connector),
    };
    spawn_bot(spec, start)
}

/// It may speak.
fn agent() -> Start {
    Start { kind: Kind::Agent, ..start() }
}

async fn attend(mode: &'static str, mut listener: MemoryListener) {
    while let Ok((io, _)) = listener.accept().await {
        if mode == "late" {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        let options =
            SocketOptions { keepalive: None, max_message: 1 << 20, ..SocketOptions::default() };
        let Ok(socket) = socket::answer(io, options).await else { continue };
        tokio::spawn(act(mode, socket));
    }
}

/// One stream, until either end of it goes.
async fn act(mode: &'static str, mut socket: Socket) {
    while let Some(Ok(came)) = socket.recv().await {
        if let Incoming::Close(_) = came {
            return socket.close(1000, "").await;
        }
        let Some(Message::Text(text)) = socket.message(&came) else { continue };
        let told: Value = serde_json::from_str(text).unwrap();
        let answer = match (told["event"].as_str().unwrap(), mode) {
            ("start", "hang") => return tokio::time::sleep(Duration::from_secs(600)).await,
            ("start", "flood") => return flood(&mut socket, &told["streamSid"]).await,
            ("start", "oversize") => media(&told["streamSid"], &"f".repeat(1 << 20)),
            ("media", "crash") => return,
            ("media", _) => media(&told["streamSid"], told["media"]["payload"].as_str().unwrap()),
            ("dtmf", _) => {
                let name = format!("key {}", told["dtmf"]["digit"].as_str().unwrap());
                json!({"event": "mark", "streamSid": told["streamSid"], "mark": {"name": name}})
            }
            _ => continue,
        };
        if socket.send(Outgoing::Text(&answer.to_string())).await.is_err() {
            return;
        }
    }
}

fn media(stream: &Value, payload: &str) -> Value {
    json!({"event": "media", "streamSid": stream, "media": {"payload": payload}})
}

/// Three minutes of sound at once.
async fn flood(socket: &mut Socket, stream: &Value) {
    let second = media(stream, &"f".repeat(8_000 / 3 * 4)).to_string();
    for _ in 0..180 {
        if socket.send(Outgoing::Text(&second)).await.is_err() {
            return;
        }
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
}

async fn is_ready(hosted: &mut Hosted) {
    let first = next(hosted).await;
    assert!(matches!(first, FromHost::Ready(_)), "{first:?}");
}

/// Frame `n` of what the caller says, and what is left of it behind a telephone.
fn said(n: usize) -> (ToHost, Vec<i16>) {
    let samples: Vec<_> = (0..FRAME).map(|i| ((n * FRAME + i) % 251 * 64) as i16).collect();
    let heard = samples.iter().map(|&sample| mu_to_linear(linear_to_mu(sample)));
    (audio((n * FRAME) as u64, &samples), heard.collect())
}

async fn is_echoed(hosted: &mut Hosted, frames: std::ops::Range<usize>) {
    let mut expected = Vec::new();
    for n in frames {
        let (frame, heard) = said(n);
        hosted.try_send(frame).unwrap();
        expected.extend(heard);
    }
    let mut echoed = Vec::new();
    while echoed.len() < expected.len() {
        match next(hosted).await {
            FromHost::Audio { samples, .. } => echoed.extend(samples),
            // That an utterance is over.
            FromHost::Message(FromModule::AudioEnd { .. }) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(echoed == expected, "other sound than what was said");
}

async fn gone(hosted: &mut Hosted) -> Option<String> {
    loop {
        match next(hosted).await {
            FromHost::Gone { reason } => return reason,
            FromHost::Restarting { reason, .. } => panic!("no provider dials again: {reason}"),
            _ => {}
        }
    }
}

async fn is_stopped(hosted: &mut Hosted) {
    hosted.try_send(stop(PATIENCE)).unwrap();
    assert_eq!(gone(hosted).await, None);
}

pub(super) async fn happy_path() {
    let mut hosted = bot("echo", agent());
    is_ready(&mut hosted).await;
    is_echoed(&mut hosted, 0..5).await;
    let key = json!({"type": "dtmf", "track": 0, "digit": "5", "source": "provider", "at_ms": 7});
    hosted.try_send(ToHost::Message(serde_json::from_value(key).unwrap())).unwrap();
    let marked = loop {
        if let FromHost::Message(FromModule::Mark { name }) = next(&mut hosted).await {
            break name;
        }
    };
    assert_eq!(
        marked, "bot-0",
        "the translation's name for the mark that the key was answered with"
    );
    is_stopped(&mut hosted).await;
}

/// The sound that the call kept comes with `ready`.
pub(super) async fn late_start() {
    let mut hosted = bot("late", agent());
    is_ready(&mut hosted).await;
    is_echoed(&mut hosted, 0..50).await;
    is_stopped(&mut hosted).await;
    let mut start = agent();
    start.limits.ready_ms = 100;
    let late = gone(&mut bot("late", start)).await.unwrap();
    assert!(late.ends_with("not ready within 100 ms"), "{late}");
}

/// What it knew of the call is lost with it, so nothing is replayed; what that means for the call is `on_fail`'s to say.
pub(super) async fn crash_without_replay() {
    let mut hosted = bot("crash", agent());
    is_ready(&mut hosted).await;
    hosted.try_send(said(0).0).unwrap();
    let reason = gone(&mut hosted).await.unwrap();
    assert!(reason.starts_with("ws://bot:80/media: ") && !reason.contains("hidden"), "{reason}");
    assert_eq!(hosted.try_send(said(1).0), Ok(()), "a module that is gone takes anything");
}

/// There is no ping that all bots answer; one that hangs takes nothing.
pub(super) async fn hang_and_slow_reader() {
    let mut hosted = bot("hang", agent());
    is_ready(&mut hosted).await;
    let mut sent = 0;
    let reason = loop {
        tokio::select! {
            biased;
            event = hosted.recv() => match event {
                FromHost::Gone { reason } => break reason.unwrap(),
                other => panic!("unexpected {other:?}"),
            },
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        let _ = hosted.try_send(said(sent).0);
        sent += 1;
        assert!(sent < 30 * 50, "nobody notices");
    };
    assert!(reason.contains("took nothing for 5s"), "{reason}");
}

/// Its provider would keep so much and discard the rest.
pub(super) async fn flood_and_lying_about_its_rate() {
    let mut hosted = bot("flood", agent());
    is_ready(&mut hosted).await;
    let (mut passed, mut dropped) = (0, 0);
    while passed + dropped < 50 * 8_000 {
        match next(&mut hosted).await {
            FromHost::Audio { samples, .. } => passed += samples.len(),
            FromHost::Dropped { reason: Drop::Overflow, samples } => dropped += samples as usize,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!((5 * 8_000..8 * 8_000).contains(&passed), "{passed} samples passed, a lead of 5 s");
    assert!(dropped > 40 * 8_000, "{dropped} samples dropped");
    // What waits is let go with the call.
    hosted.try_send(stop(PATIENCE)).unwrap();
    let waited = loop {
        match next(&mut hosted).await {
            FromHost::Dropped { reason: Drop::CallEnded, samples } => break samples,
            FromHost::Gone { reason } => panic!("gone without a word: {reason:?}"),
            _ => {}
        }
    };
    assert!((100 * 8_000..125 * 8_000).contains(&waited), "{waited}");
}

pub(super) async fn wrong_offer() {
    let mut hosted = bot_of("conversation-relay", "echo", agent());
    let FromHost::Rejected(reject) = next(&mut hosted).await else { panic!() };
    assert_eq!(reject.code, "unsupported_format");
}

pub(super) async fn oversize_message() {
    let mut hosted = bot("oversize", agent());
    is_ready(&mut hosted).await;
    let reason = gone(&mut hosted).await.unwrap();
    assert!(reason.contains("bigger than the limit"), "{reason}");
}
