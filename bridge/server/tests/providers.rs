//! Every provider in every format it speaks, over sockets against an echoing bridge: what comes back, and that the sound adds up.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ringback::client::{CallEvent, Client, WsUrl};
use ringback_codecs::{MediaFormat, SampleRate};
use ringback_proto::provider::{Dial, FrameLaw, PROVIDERS, PlayoutPolicy, Provider};
use ringback_proto::simulator::PhoneEvent;
use support::{Caller, Host, assert_whole, echo, over_one_socket, soon, sound};

/// Length of a caller's messages.
const FRAME: Duration = Duration::from_millis(20);
/// Spoken by every caller: the first words of the sentence.
const SPOKEN_MS: u64 = 1_200;
/// Every format of every provider that there is a codec for.
fn matrix() -> Vec<(&'static dyn Provider, MediaFormat)> {
    let formats = |provider: &&'static dyn Provider| {
        let provider = *provider;
        provider.formats().iter().map(move |format| (provider, *format)).collect::<Vec<_>>()
    };
    over_one_socket().iter().flat_map(formats).filter(|(_, f)| f.decoder().is_ok()).collect()
}

fn name(provider: &dyn Provider, format: MediaFormat) -> String {
    format!("{}-{}", provider.name(), format).replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

fn dial(provider: &dyn Provider, format: MediaFormat) -> Dial {
    let (target, call) = (format!("/{}", provider.name()), name(provider, format));
    Dial { target, call, format: Some(format), ..Dial::default() }
}

/// Whether anything may come back.
fn plays(provider: &dyn Provider) -> bool {
    provider.capabilities().playout != PlayoutPolicy::None
}

fn words(format: MediaFormat) -> Vec<i16> {
    let hz = format.rate.hz();
    let sound = sound("sentence.wav", hz);
    let length = (u64::from(hz) * SPOKEN_MS / 1_000) as usize;
    // The file begins with silence; the words come after it.
    sound[hz as usize * 45 / 100..][..length].to_vec()
}

/// Whether every message is answered by one as long, so that a caller can wait for it. Modules take no more than 48 kHz: what is
/// sent faster comes back through two resamplers, never to the last sample.
fn answers_in_step(provider: &dyn Provider) -> bool {
    plays(provider)
        && match provider.capabilities().frame {
            FrameLaw::Any => true,
            FrameLaw::Exact(time)
            | FrameLaw::MultipleOf(time)
            | FrameLaw::UpTo(time)
            | FrameLaw::AtLeast { least: time, .. } => time <= FRAME,
        }
}

fn check_sound(provider: &dyn Provider, format: MediaFormat, said: &[i16], caller: &Caller) {
    if echo::is_exact(format, format) {
        let (sent, heard) = (caller.sent.concat(), caller.heard.concat());
        echo::came_back(provider, format, &sent, 0..sent.len(), &heard);
    } else {
        echo::near(format, said, &caller.heard);
    }
}

/// Where words are carried instead of sound, they come back as such, and modules that want sound are let go.
#[tokio::test]
async fn words_that_are_said_come_back() {
    let silent = || PROVIDERS.iter().filter(|provider| !provider.has_sound());
    let listeners = silent().map(|provider| {
        let name = provider.name();
        format!("[[listener]]\nname = \"{name}\"\npath = \"/{name}\"\nprovider = \"{name}\"\n")
    });
    let host = Host::on_loopback(&format!(
        "{}[[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n\
         [[module]]\nname = \"vad\"\nbuiltin = \"vad\"\n\
         [[route]]\nname = \"default\"\nmodules = [\"echo\", \"vad\"]\nspeaker = \"echo\"\n",
        listeners.collect::<String>()
    ));
    for provider in silent() {
        let target = format!("/{}", provider.name());
        let url = WsUrl::plain("localhost".into(), target);
        let call = format!("{}-words", provider.name());
        let dial = Dial { call: call.clone(), ..Dial::default() };
        let stream = host.connect().await;
        let client = Client::over(host.clock, stream, &url, *provider, dial, false).await;
        let mut client = client.unwrap_or_else(|error| panic!("{}: {error}", provider.name()));
        for words in ["Is anybody there?", "Grüße, \"anybody\"."] {
            client.say(words).await.expect("says");
            let answer = soon("the echo of words", async {
                loop {
                    match client.next().await.expect("the call goes on") {
                        Some(CallEvent::Phone(PhoneEvent::Said(said))) => return said,
                        Some(CallEvent::Closed { code, reason }) => panic!("{code} {reason}"),
                        Some(_) => {}
                        None => panic!("over before its time"),
                    }
                }
            });
            assert_eq!(answer.await, words, "{}", provider.name());
        }
        client.hang_up().await.expect("a goodbye");
        let summary = host.log.ended(&call).await;
        assert_whole(&summary, &[]);
        assert_eq!(summary.reason.name(), "remote", "{}", summary.reason);
        // The second was said while the first was spoken.
        assert_eq!((summary.texts_in, summary.texts_out), (2, 2), "{}", provider.name());
        assert_eq!((summary.frames_in, summary.frames_out), (0, 0), "{}", provider.name());
        let errors = summary.modules.iter().map(|module| module.error.as_deref());
        let errors: Vec<_> = errors.collect();
        assert!(matches!(errors[..], [None, Some(why)] if why.contains("rejected")), "{errors:?}");
    }
    host.stop().await;
}

/// In step with its echo, so that every octet can be asked for however busy the machine is.
#[tokio::test]
async fn what_is_said_comes_back() {
    let host = Arc::new(Host::on_loopback(""));
    let mut calls = tokio::task::JoinSet::new();
    for (provider, format) in matrix() {
        let host = host.clone();
        calls.spawn(async move {
            let stream = host.connect().await;
            let mut caller =
                Caller::dial(host.clock, stream, provider, &dial(provider, format), &[])
                    .await
                    .unwrap_or_else(|error| panic!("{}: {error}", name(provider, format)));
            assert_eq!(
                caller.format().await,
                format,
                "{} speaks what it was told",
                provider.name()
            );
            let said = words(format);
            let same = caller.outbound() == Some(format) && format.rate <= SampleRate::HZ_48000;
            caller.in_step = answers_in_step(provider) && same;
            caller.speak(&said).await;
            caller.pause(if caller.in_step { 3 } else { 40 }).await;
            let caller = caller.hang_up().await;
            // `None` where it is the provider's part to close.
            let code = caller.goodbye.as_ref().map_or(1000, |goodbye| goodbye.code);
            assert_eq!(code, 1000, "{}: {:?}", provider.name(), caller.goodbye);
            if caller.in_step {
                check_sound(provider, format, &said, &caller);
            } else {
                // Not to the octet: with nothing to wait for, a machine that stands still makes the bridge catch up.
                assert_eq!(caller.heard.is_empty(), !plays(provider), "{}", provider.name());
            }
            (provider, format, caller)
        });
    }
    let mut done = BTreeMap::new();
    while let Some(call) = calls.join_next().await {
        let (provider, format, caller) = call.expect("a call failed");
        let usual = name(provider, format);
        let summary = host.log.ended(caller.call().unwrap_or(&usual)).await;
        // Who gathers longer messages hangs up before the last one is whole; who waits for nothing may be caught up with.
        let ends = [("playout", "call_ended"), ("playout", "trimmed"), ("playout", "stale")];
        assert_whole(&summary, if plays(provider) && !caller.in_step { &ends } else { &[] });
        let frames = caller.sent.len() as u64;
        assert_eq!(summary.frames_in, frames, "{} {format}", provider.name());
        match (plays(provider), caller.in_step) {
            // Some say that sound begins, in a message of its own.
            (true, true) => {
                let beginnings = summary.frames_out - frames;
                assert!(beginnings <= 2, "{} {format}: {beginnings} more", provider.name());
            }
            (plays, _) => assert_eq!(summary.frames_out > 0, plays, "{}", provider.name()),
        }
        assert_eq!(summary.reason.name(), "remote", "{}", summary.reason);
        *done.entry(provider.name()).or_insert(0) += 1;
    }
    let sound = over_one_socket().into_iter().filter(|provider| provider.has_sound());
    assert_eq!(done.len(), sound.count(), "a provider without a format of its own: {done:?}");
    Arc::into_inner(host).expect("all calls are over").stop().await;
}
