//! How soon the caller's speech stops what is being played, on every provider that can be told to: a whole bridge in virtual time, with
//! its own detector and real speech.

mod support;

use std::time::Duration;

use ringback::client::{CallEvent, Client, WsUrl};
use ringback::clock::Clock;
use ringback::net::MemoryConnector;
use ringback_module::message::VadState;
use ringback_proto::Instant;
use ringback_proto::provider::{ClearLaw, Dial, PROVIDERS, Provider, Track, Transport};
use ringback_proto::session::Report;
use ringback_proto::simulator::PhoneEvent;
use support::{Entry, Host, What, sound};

/// Speech must last so long.
const MIN_SPEECH: Duration = Duration::from_millis(200);
/// Beyond that, so much may pass from the sample with which speech begins to the clear on the wire.
const MOST: Duration = Duration::from_millis(40);
/// What is said comes back so much later: it is being played when the caller speaks again.
const ECHO_MS: u64 = 3_000;

const ROUTE: &str = "
[[listener]]
name = \"{p}\"
path = \"/{p}\"
provider = \"{p}\"
insecure = true
";

/// Providers that are told to drop what they have queued.
fn told_to_clear() -> impl Iterator<Item = &'static dyn Provider> {
    let told = |provider: &&&dyn Provider| {
        provider.capabilities().clear != ClearLaw::Unsupported
            && provider.has_sound()
            && !matches!(provider.transport(), Transport::Webhook { .. })
    };
    PROVIDERS.iter().filter(told).copied()
}

/// A sentence, a pause in which its echo begins, and a sentence.
fn speech(hz: u32) -> Vec<i16> {
    let sentence = sound("sentence.wav", hz);
    let pause = vec![0; (u64::from(hz) * ECHO_MS / 1_000) as usize];
    [&sentence[..], &pause, &sentence, &pause].concat()
}

/// Speaks, and hangs up at the first clear; when the phone spoke its first sample, and when it was told to clear. `None` where this
/// call is one of those of its provider that cannot be told.
async fn call(
    clock: Clock,
    connector: MemoryConnector,
    provider: &dyn Provider,
) -> Option<(Instant, Option<Instant>)> {
    let format = provider.formats()[0];
    let url = WsUrl::plain("localhost:80".into(), format!("/{}", provider.name()));
    let dial = Dial { call: provider.name().into(), format: Some(format), ..Dial::default() };
    let io = connector.connect().await.expect("the bridge listens");
    let mut client = Client::over(clock, io, &url, provider, dial, false).await.expect("a call");
    let began = clock.now();
    client.speak(&speech(format.rate.hz()));
    let mut cleared = None;
    while cleared.is_none() && client.phone().unspoken(Track::Inbound) > 0 {
        tokio::select! {
            biased;
            event = client.next() => {
                if let Some(CallEvent::Phone(PhoneEvent::Cleared { .. })) = event.expect("goes on") {
                    cleared = Some(clock.now());
                }
            },
            () = clock.sleep_until(Some(clock.now() + Duration::from_millis(20))) => {}
        }
    }
    let can = client.phone().start().map(|start| start.capabilities.clear);
    client.hang_up().await.expect("a goodbye");
    (can != Some(ClearLaw::Unsupported)).then_some((began, cleared))
}

/// When speech began that lasted until the clear, on the caller's clock.
fn began_at(entries: &[Entry], call: &str) -> Option<Duration> {
    let mut began = None;
    for entry in entries.iter().filter(|entry| entry.call == call) {
        match &entry.what {
            What::Report(Report::Vad(_, vad), _) if vad.state == VadState::Speech => {
                began = Some(Duration::from_millis(vad.at_ms));
            }
            What::Report(Report::Cleared { .. }, _) => return began,
            _ => {}
        }
    }
    None
}

/// The bridge's name for a provider's call.
fn name_of(entries: &[Entry], provider: &str) -> String {
    let is = |entry: &&Entry| match &entry.what {
        What::Ended(summary) => summary.provider == provider,
        _ => false,
    };
    entries.iter().find(is).expect("it ended").call.clone()
}

#[test]
fn speech_clears_what_is_played_as_soon_as_it_has_lasted_long_enough() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let (heard, entries) = runtime.expect("a runtime").block_on(async {
        let listeners = told_to_clear().map(|p| ROUTE.replace("{p}", p.name()));
        let modules = format!(
            "[[module]]\nname = \"echo\"\nbuiltin = \"echo\"\nconfig = {{ delay_ms = {ECHO_MS} }}\n\
             [[module]]\nname = \"vad\"\nbuiltin = \"vad\"\n\
             [[route]]\nname = \"default\"\nmodules = [\"echo\", \"vad\"]\nspeaker = \"echo\"\n\
             barge_in = {{ min_speech = \"{}ms\" }}\n",
            MIN_SPEECH.as_millis()
        );
        let (host, connector) = Host::in_memory(&listeners.chain([modules]).collect::<String>());
        let mut heard = Vec::new();
        for provider in told_to_clear() {
            let told = call(host.clock, connector.clone(), provider).await;
            heard.extend(told.map(|(began, cleared)| (provider, began, cleared)));
        }
        let log = host.log.clone();
        host.stop().await;
        (heard, log.entries())
    });
    assert!(heard.len() > 15, "{} providers", heard.len());
    for (provider, began, cleared) in heard {
        let name = provider.name();
        let cleared = cleared.unwrap_or_else(|| panic!("{name}: nothing was cleared"));
        let spoke = began_at(&entries, &name_of(&entries, name)).expect("a detector saw speech");
        let late = cleared.saturating_since(began + spoke + MIN_SPEECH);
        // What gathers more sound before it tells any is that much later.
        let gathers = provider.capabilities().frame;
        assert!(late <= MOST, "{name} ({gathers:?}): {late:?} after {spoke:?} + {MIN_SPEECH:?}");
    }
}
