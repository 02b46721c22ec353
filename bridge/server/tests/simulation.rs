//! A whole bridge in virtual time, in memory: many calls at once on a schedule of chance. The same seed is the same story to the
//! nanosecond, so latency is asserted exactly, and whatever fails can be told again.

mod support;

use std::time::Duration;

use ringback::client::{CallEvent, Client, WsUrl};
use ringback::clock::Clock;
use ringback::net::MemoryConnector;
use ringback::outgoing::Connector;
use ringback_codecs::{Encoding, MediaFormat};
use ringback_proto::Instant;
use ringback_proto::provider::{
    Dial, Digit, Event, FrameLaw, Outbox, PROVIDERS, PlayoutPolicy, Provider, Track, Transport,
};
use ringback_proto::simulator::PhoneEvent;
use support::{Dice, Entry, Host, What, assert_whole, known};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};

/// Every provider calls, some twice.
const CALLS: u64 = PROVIDERS.len() as u64 + 4;
/// A phone has said its first frame when 20 ms of it are over.
const FRAME: Duration = Duration::from_millis(20);

/// What one caller does, and when.
#[derive(Clone, Copy)]
struct Part {
    index: u64,
    provider: &'static dyn Provider,
    begins: Duration,
    frames: u64,
    stays: Duration,
    key: Option<char>,
    /// Octets take up to so many milliseconds each way.
    jitter: u64,
    seed: u64,
}

fn cast(seed: u64) -> Vec<Part> {
    let mut dice = Dice(seed);
    let mut part = |index: u64| Part {
        index,
        provider: PROVIDERS[(index % PROVIDERS.len() as u64) as usize],
        begins: Duration::from_micros(dice.roll(700_000)),
        frames: 10 + dice.roll(90),
        stays: Duration::from_millis(300 + dice.roll(500)),
        key: "0123456789*#".chars().nth(dice.roll(20) as usize),
        jitter: if index.is_multiple_of(2) { 0 } else { dice.roll(20) },
        seed: dice.roll(u64::MAX),
    };
    (0..CALLS).map(&mut part).collect()
}

/// Said where words are carried instead of sound.
const WORDS: &str = "Is anybody there?";

/// Linear sound where the provider speaks it and is answered in it, so that nothing has to be forgiven.
fn format(provider: &dyn Provider) -> MediaFormat {
    let mut linear = provider.formats().iter().filter(|f| matches!(f.encoding, Encoding::L16(_)));
    let alike = |format: &&MediaFormat| {
        let (_, mut phone) = provider.dial(&Dial { format: Some(**format), ..Dial::default() });
        let mut out = Outbox::new();
        phone.handle_open(Instant::ZERO, &mut out).expect("opens");
        out.events().iter().all(|event| match event {
            Event::Started(start) => start.outbound.is_none_or(|outbound| outbound == **format),
            _ => true,
        })
    };
    linear.find(alike).copied().unwrap_or(provider.formats()[0])
}

/// What comes out where `samples` are sent in this format.
fn as_sent(format: MediaFormat, samples: &[i16]) -> Vec<i16> {
    let (mut octets, mut sent) = (Vec::new(), Vec::new());
    format.encoder().expect("a codec").encode(samples, &mut octets).expect("whole frames");
    format.decoder().expect("a codec").decode(&octets, &mut sent).expect("its own octets");
    sent
}

/// A line on which everything takes a while, though nothing overtakes.
async fn delay(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    part: Part,
    way: u64,
) {
    let mut dice = Dice(part.seed ^ way);
    let mut piece = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        tokio::time::sleep(Duration::from_micros(dice.roll(part.jitter * 1_000 + 1))).await;
        if to.write_all(&piece[..read]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

async fn line(connector: &MemoryConnector, part: Part) -> DuplexStream {
    let far = connector.connect().await.expect("the bridge listens");
    if part.jitter == 0 {
        return far;
    }
    let (near, middle) = tokio::io::duplex(64 * 1024);
    let (far_read, far_write) = tokio::io::split(far);
    let (middle_read, middle_write) = tokio::io::split(middle);
    tokio::spawn(delay(far_read, middle_write, part, 1));
    tokio::spawn(delay(middle_read, far_write, part, 2));
    near
}

/// What a phone heard.
#[derive(PartialEq)]
struct Heard {
    sound: Vec<i16>,
    words: Vec<String>,
}

/// Everything the phone heard.
async fn call(
    clock: Clock,
    connector: MemoryConnector,
    within: Connector,
    part: Part,
) -> (Part, Heard) {
    clock.sleep_until(Some(Instant::ZERO + part.begins)).await;
    let format = part.provider.has_sound().then(|| format(part.provider));
    let target = format!("/{}", part.provider.name());
    let url = WsUrl::plain("localhost:80".into(), target);
    let dial = Dial { call: format!("call-{}", part.index), format, ..Dial::default() };
    let client = match part.provider.transport() {
        // It has lines of its own, on which nothing takes any time.
        Transport::Webhook { .. } => {
            Client::connect(clock, &within, &url, part.provider, dial, true).await
        }
        _ => {
            let io = line(&connector, part).await;
            Client::over(clock, io, &url, part.provider, dial, true).await
        }
    };
    let mut client = client.unwrap_or_else(|error| panic!("{}: {error}", part.provider.name()));
    if let Some(format) = format {
        let length = part.frames * format.rate.samples_in(FRAME);
        client.speak(&(0..length).map(known).collect::<Vec<_>>());
    } else {
        client.say(WORDS).await.expect("says");
    }
    let (mut leaves, mut words) = (None, Vec::new());
    loop {
        let wake = leaves.unwrap_or(clock.now() + FRAME);
        tokio::select! {
            biased;
            event = client.next() => match event.expect("the call goes on") {
                Some(CallEvent::Closed { code, reason }) => panic!("closed: {code} {reason}"),
                Some(CallEvent::Phone(PhoneEvent::Said(said))) => words.push(said),
                Some(_) => {}
                None => panic!("over before its time"),
            },
            () = clock.sleep_until(Some(wake)) => {}
        }
        if leaves.is_none()
            && client.phone().start().is_some()
            && client.phone().unspoken(Track::Inbound) == 0
        {
            if let Some(digit) = part.key.and_then(Digit::new) {
                client.press(digit).await.expect("a key");
            }
            leaves = Some(clock.now() + part.stays);
        }
        if leaves.is_some_and(|at| at <= clock.now()) {
            client.hang_up().await.expect("a goodbye");
            return (part, Heard { sound: client.phone().heard().to_vec(), words });
        }
    }
}

/// What a run came to: what every phone heard, and the story as the bridge tells it.
struct Run {
    heard: Vec<(Part, Heard)>,
    entries: Vec<Entry>,
    story: Vec<String>,
}

const ROUTE: &str = "
[[listener]]
name = \"{p}\"
path = \"/{p}\"
provider = \"{p}\"
insecure = true
";
const MODULES: &str = "
[[module]]
name = \"echo\"
builtin = \"echo\"
[[module]]
name = \"vad\"
builtin = \"vad\"
[[module]]
name = \"dtmf\"
builtin = \"dtmf\"
[[route]]
name = \"default\"
modules = [\"echo\", \"vad\", \"dtmf\"]
speaker = \"echo\"
";

fn simulate(seed: u64) -> Run {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let listeners = PROVIDERS.iter().map(|p| ROUTE.replace("{p}", p.name()));
        let toml = listeners.chain([MODULES.to_owned()]).collect::<String>();
        let (host, connector) = Host::in_memory(&toml);
        let mut calls = tokio::task::JoinSet::new();
        for part in cast(seed) {
            calls.spawn(call(host.clock, connector.clone(), host.connector.clone(), part));
        }
        let mut heard = Vec::new();
        while let Some(done) = calls.join_next().await {
            heard.push(done.expect("a call failed"));
        }
        let log = host.log.clone();
        host.stop().await;
        let entries = log.entries();
        let story = entries.iter().map(told).collect();
        Run { heard, entries, story }
    })
}

/// A line of the story. The names of calls begin with the wall clock, which is no part of it.
fn told(entry: &Entry) -> String {
    let call = entry.call.rsplit('-').next().unwrap_or_default();
    let what = match &entry.what {
        What::Report(report, module) => format!("{module:?} {report:?}"),
        What::SocketFailed(error) => format!("socket failed: {error}"),
        What::Ended(s) => format!(
            "ended {:?}: {} {} in {} out {:?} {:?} {:?}",
            s.provider_call, s.reason, s.frames_in, s.frames_out, s.duration, s.modules, s.ledger
        ),
    };
    format!("{:?} {call} {what}", entry.at)
}

#[test]
fn the_same_seed_is_the_same_story() {
    let (first, again, other) = (simulate(7), simulate(7), simulate(8));
    let differs = first.story.iter().zip(&again.story).find(|(a, b)| a != b);
    assert_eq!(differs, None);
    assert_eq!(first.story.len(), again.story.len());
    assert_ne!(first.story, other.story, "chance has nothing to say");
    for (one, two) in first.heard.iter().zip(&again.heard) {
        assert!(
            one.0.index == two.0.index && one.1 == two.1,
            "call {} sounded different",
            one.0.index
        );
    }
}

#[test]
fn nothing_is_lost_and_nothing_waits() {
    for seed in 1..=4 {
        let run = simulate(seed);
        let ended: Vec<_> = support::summaries(&run.entries).collect();
        assert_eq!(ended.len() as u64, CALLS);
        for summary in ended {
            let name = summary.provider_call.as_deref().unwrap_or_default();
            assert_eq!(summary.reason.name(), "remote", "seed {seed}, {name}: {}", summary.reason);
            assert_whole(summary, &[("playout", "call_ended")]);
        }
        for (part, heard) in &run.heard {
            if part.provider.capabilities().playout != PlayoutPolicy::None {
                check_heard(seed, *part, &heard.sound);
            }
            let words = if part.provider.has_sound() { vec![] } else { vec![WORDS] };
            assert_eq!(heard.words, words, "seed {seed}, call {}", part.index);
        }
    }
}

fn check_heard(seed: u64, part: Part, heard: &[i16]) {
    let format = format(part.provider);
    let whose = format!("seed {seed}, call {} over {}", part.index, part.provider.name());
    let length = part.frames * format.rate.samples_in(FRAME);
    let said = as_sent(format, &(0..length).map(known).collect::<Vec<_>>());
    let begins = heard.iter().position(|&s| s != 0).unwrap_or_else(|| panic!("{whose}: silence"));
    let gathers = match part.provider.capabilities().frame {
        FrameLaw::UpTo(time) => time,
        FrameLaw::AtLeast { least: time, .. }
        | FrameLaw::Exact(time)
        | FrameLaw::MultipleOf(time) => time.saturating_sub(FRAME),
        FrameLaw::Any => Duration::ZERO,
    };
    if part.jitter == 0 && gathers.is_zero() {
        // Heard in the very moment at which the last sample of the first frame was said.
        assert_eq!(begins as u64, format.rate.samples_in(FRAME), "{whose}: the echo is late");
        assert!(heard[begins..].starts_with(&said), "{whose}: it heard something else");
    } else {
        let late = format.rate.duration_of(begins as u64) - FRAME;
        let most = Duration::from_millis(2 * part.jitter + 1) + gathers;
        assert!(late <= most, "{whose}: {late:?} late where the line takes {most:?}");
        let mut sounds = heard.iter().filter(|&&sample| sample != 0);
        let mut words = said.iter().filter(|&&sample| sample != 0);
        let right = if gathers > part.stays {
            // The last words may be waiting for more when the caller hangs up.
            sounds.all(|s| words.next() == Some(s))
        } else {
            words.all(|s| sounds.next() == Some(s))
        };
        assert!(right, "{whose}: it heard something else");
    }
}
