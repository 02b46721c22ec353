//! Every behaviour of every provider against a whole bridge that echoes: each call ends for the right reason, its sound adds up, and
//! what is lost is lost where the behaviour loses it. All of it in virtual time, some of it over sockets.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ringback::client::{CallEvent, Client, ClientError, WsUrl};
use ringback::clock::Clock;
use ringback::net::MemoryConnector;
use ringback_proto::ledger::Drop;
use ringback_proto::provider::behaviour::{self, Act, Behaviour};
use ringback_proto::provider::{self, Dial, PROVIDERS, Provider, Track, Transport};
use ringback_proto::session::{Report, Summary};
use support::{Host, Log, What, known};

/// A caller says so much, and stays as long for the echo.
const SPOKEN: Duration = Duration::from_millis(1_200);
/// Or this, in words.
const WORDS: [&str; 3] = ["Hello?", "A table for two.", "15550100"];
/// How often calls are placed anew that end by themselves.
const TIMES: usize = 2;

type Acted = (&'static dyn Provider, &'static Behaviour);

/// Who shows which behaviour.
fn matrix() -> BTreeMap<&'static str, Vec<Acted>> {
    let mut matrix: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for provider in PROVIDERS {
        for behaviour in behaviour::all(*provider) {
            matrix.entry(behaviour.name).or_default().push((*provider, behaviour));
        }
    }
    matrix
}

/// How the bridge is reached.
#[derive(Clone)]
enum Via {
    /// In virtual time.
    Memory(MemoryConnector),
    /// In real time.
    Loopback(Arc<Host>),
}

impl Via {
    /// The bridge has given up by now who no longer answers its pings.
    const fn patience(&self) -> Duration {
        match self {
            Self::Memory(_) => Duration::from_secs(60),
            Self::Loopback(_) => Duration::from_secs(4),
        }
    }
}

/// Calls; gives how many calls it took.
async fn call(clock: Clock, via: Via, (provider, behaviour): Acted) -> usize {
    let mut dial = Dial {
        call: format!("{}-{}", provider.name(), behaviour.name),
        format: provider.formats().first().copied(),
        behaviours: vec![behaviour],
        seed: 5,
        ..Dial::default()
    };
    for calls in 1..=TIMES {
        let client = place(clock, &via, provider, dial.clone()).await;
        let mut client = client.unwrap_or_else(|error| panic!("{}: {error}", dial.call));
        if client.phone().is_vanished() {
            clock.sleep_until(Some(clock.now() + via.patience())).await;
        }
        if !client.redials() {
            return calls;
        }
        dial.behaviours.clear();
    }
    panic!("{} never ends", dial.call);
}

async fn place(
    clock: Clock,
    via: &Via,
    provider: &'static dyn Provider,
    dial: Dial,
) -> Result<Client, ClientError> {
    let url = WsUrl::plain("bridge.example".into(), format!("/{}", provider.name()));
    let mut client = match via {
        Via::Memory(connector) => {
            let io = connector.connect().await.expect("the bridge listens");
            Client::over(clock, io, &url, provider, dial, false).await?
        }
        Via::Loopback(host) => {
            Client::over(clock, host.connect().await, &url, provider, dial, false).await?
        }
    };
    let (mut spoken, mut leaves) = (false, None);
    loop {
        if let (false, Some(rate)) =
            (spoken, client.phone().start().and_then(|s| s.inbound).map(|f| f.rate))
        {
            client.speak(&(0..rate.samples_in(SPOKEN)).map(known).collect::<Vec<_>>());
            spoken = true;
        }
        let of_words = client.phone().start().is_some_and(|start| start.capabilities.text);
        if of_words && !spoken {
            for words in WORDS {
                client.say(words).await?;
            }
            spoken = true;
        }
        let now = clock.now();
        if leaves.is_none() && spoken && client.phone().unspoken(Track::Inbound) == 0 {
            leaves = Some(now + SPOKEN);
        }
        if leaves.is_some_and(|at| at <= now) {
            client.hang_up().await?;
            return Ok(client);
        }
        let wake = leaves.unwrap_or(now + Duration::from_millis(20));
        tokio::select! {
            biased;
            event = client.next() => match event? {
                Some(CallEvent::Closed { code, reason }) => panic!("closed: {code} {reason}"),
                Some(_) => {}
                None => return Ok(client),
            },
            () = clock.sleep_until(Some(wake)) => {}
        }
    }
}

/// All calls that show one behaviour, on a bridge of their own.
fn act_out(calls: &[Acted]) -> Vec<(Summary, Vec<Report>)> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let (host, connector) = Host::in_memory("");
        let log = host.log.clone();
        let mut placed = tokio::task::JoinSet::new();
        for acted in calls {
            placed.spawn(call(host.clock, Via::Memory(connector.clone()), *acted));
        }
        let expected: usize = placed.join_all().await.into_iter().sum();
        host.stop().await;
        let ends = ends(&log);
        assert_eq!(ends.len(), expected, "calls that ended");
        ends
    })
}

/// Every call that ended, with what was reported of it.
fn ends(log: &Log) -> Vec<(Summary, Vec<Report>)> {
    let entries = log.entries();
    let of = |call: &str| {
        let entries = entries.iter().filter(|entry| entry.call == call);
        let reports = entries.filter_map(|entry| match &entry.what {
            What::Report(report, _) => Some(report.clone()),
            _ => None,
        });
        reports.collect::<Vec<_>>()
    };
    let ends = entries.iter().filter_map(|entry| match &entry.what {
        What::Ended(summary) => Some(((**summary).clone(), of(&entry.call))),
        _ => None,
    });
    ends.collect()
}

/// Why calls end that do so.
fn reasons(act: Act, transport: Transport) -> &'static [&'static str] {
    match act {
        Act::Vanish | Act::Cut => &["socket"],
        Act::Redial => &["socket", "remote"],
        // Where there are no close frames, a connection that ends without a word is a broken one.
        Act::NoGoodbye | Act::EarlyClose if transport == Transport::Records => &["socket"],
        _ => &["remote"],
    }
}

/// Reasons for which messages and samples may be lost.
fn losses(act: Act) -> BTreeSet<&'static str> {
    // An echo that is not played when the caller leaves.
    let mut reasons = BTreeSet::from(["call_ended"]);
    reasons.extend(match act {
        Act::Displace(_) => vec!["late", "trimmed"],
        Act::Duplicate => vec!["duplicate"],
        Act::EarlySound => vec!["early"],
        // What was said of what the caller did not want to hear.
        Act::CutIn(_) => vec!["stale"],
        // An echo that has become too old.
        Act::Stall(_) | Act::Full(_) | Act::Packets(_) | Act::Unread(_) => vec!["trimmed"],
        Act::Vanish | Act::Cut | Act::Redial => vec!["send_failed"],
        _ => vec![],
    });
    reasons
}

fn assert_balanced(summary: &Summary, whose: &str) {
    let unbalanced: Vec<_> = summary.ledger.unbalanced().map(ToString::to_string).collect();
    assert!(unbalanced.is_empty(), "{whose}: {unbalanced:?}");
}

fn check(name: &str, act: Act, summary: &Summary, reports: &[Report]) {
    let whose = format!("{name} of {}", summary.provider);
    assert_balanced(summary, &whose);
    let provider = provider::find(summary.provider).expect("in the table");
    let reason = summary.reason.name();
    let right = reasons(act, provider.transport()).contains(&reason);
    assert!(right, "{whose}: {} ({reason})", summary.reason);
    let allowed = losses(act);
    for hop in &summary.ledger.hops {
        for (reason, count) in &hop.dropped {
            let reason = reason.name();
            assert!(allowed.contains(reason), "{whose}: {count} {reason} in {}", hop.name);
        }
    }
    let notices = reports.iter().filter(|report| matches!(report, Report::Notice(_))).count();
    match act {
        // Words may be followed by what is known.
        Act::Aside(_) if !provider.has_sound() => {}
        Act::Aside(_) => assert!(notices > 0, "{whose}: nobody noticed"),
        Act::OpeningTwice => assert_eq!(notices, 1, "{whose}: {reports:?}"),
        Act::EarlySound => {}
        _ => assert_eq!(notices, 0, "{whose}: {reports:?}"),
    }
}

#[test]
fn every_call_ends_for_its_reason_and_its_sound_adds_up() {
    for (name, calls) in matrix() {
        let act = calls[0].1.act;
        eprintln!("{name}: {} providers", calls.len());
        let ends = act_out(&calls);
        for (summary, reports) in &ends {
            check(name, act, summary, reports);
        }
        let dropped = |reason: Drop| {
            let hops = ends.iter().flat_map(|(summary, _)| &summary.ledger.hops);
            let drops = hops.flat_map(|hop| &hop.dropped);
            drops.filter(|(of, _)| *of == reason).map(|(_, count)| count).sum::<u64>()
        };
        // What comes twice or too late is not heard, and somebody says so.
        let (twice, late) = (dropped(Drop::Duplicate), dropped(Drop::Late));
        assert_eq!(twice > 0, act == Act::Duplicate, "{twice} twice");
        assert_eq!(late > 0, matches!(act, Act::Displace(2..)), "{late} late");
    }
}

/// Every provider, and every behaviour of somebody.
#[tokio::test]
async fn the_same_holds_over_sockets() {
    let host = Arc::new(Host::on_loopback("[limits]\nkeepalive = \"1s\"\n"));
    let (log, clock) = (host.log.clone(), host.clock);
    // Strides that are prime to most lengths, so that all have their turn.
    let one_each = PROVIDERS.iter().enumerate().filter_map(|(index, provider)| {
        let all = behaviour::all(*provider);
        Some((*provider, *all.get(index * 5 % all.len().max(1))?))
    });
    let matrix = matrix();
    let all_once = matrix.values().enumerate().map(|(index, calls)| calls[index * 7 % calls.len()]);
    let mut placed = tokio::task::JoinSet::new();
    for acted in one_each.chain(all_once) {
        placed.spawn(call(clock, Via::Loopback(host.clone()), acted));
    }
    let expected: usize = placed.join_all().await.into_iter().sum();
    Arc::into_inner(host).expect("all calls are over").stop().await;
    let ends = ends(&log);
    assert_eq!(ends.len(), expected, "calls that ended");
    for (summary, _) in ends {
        assert_balanced(&summary, summary.provider);
        let reason = summary.reason.name();
        assert!(["remote", "socket"].contains(&reason), "{}: {reason}", summary.provider);
    }
}
