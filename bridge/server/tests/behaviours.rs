//! Every behaviour of every provider against a whole bridge that echoes: each call ends for the right reason, its sound adds up, and
//! what is lost is lost where the behaviour loses it. All of it in virtual time, some of it over sockets.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringback::client::{CallEvent, Client, ClientError, WsUrl};
use ringback::clock::Clock;
use ringback::outgoing::Connector;
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
struct Via {
    connector: Connector,
    authority: String,
    /// The bridge has given up by now who no longer answers its pings.
    patience: Duration,
}

impl Via {
    /// In virtual time.
    fn memory(host: &Host) -> Self {
        let authority = "localhost:80".into();
        Self { connector: host.connector.clone(), authority, patience: Duration::from_secs(60) }
    }

    /// In real time.
    fn loopback(host: &Host) -> Self {
        let authority = host.address.to_string();
        Self { connector: host.connector.clone(), authority, patience: Duration::from_secs(4) }
    }
}

/// A bridge that dials who is gone without a word takes that for a loss, and tries for a minute; for two, if the lines stay.
const DIALS_AGAIN: Duration = Duration::from_secs(150);

/// Whether a call goes on at the bridge when its caller is gone.
fn outlives(transport: Transport, act: Act) -> bool {
    let silent = [Act::Vanish, Act::Cut, Act::NoGoodbye, Act::EarlyClose];
    matches!(transport, Transport::Webhook { .. }) && silent.contains(&act)
}

/// Calls; gives how many calls it took.
async fn call(clock: Clock, via: Via, (provider, behaviour): Acted) -> usize {
    // Where calls are posted, those of one name are one call.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut dial = Dial {
        call: format!("{}-{}-{count}", provider.name(), behaviour.name),
        format: provider.formats().first().copied(),
        behaviours: vec![behaviour],
        seed: 5,
        ..Dial::default()
    };
    for calls in 1..=TIMES {
        let client = place(clock, &via, provider, dial.clone()).await;
        let mut client = client.unwrap_or_else(|error| panic!("{}: {error}", dial.call));
        if outlives(provider.transport(), behaviour.act) {
            clock.sleep_until(Some(clock.now() + DIALS_AGAIN)).await;
        } else if client.phone().is_vanished() {
            clock.sleep_until(Some(clock.now() + via.patience)).await;
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
    let url = WsUrl::plain(via.authority.clone(), format!("/{}", provider.name()));
    let mut client = Client::connect(clock, &via.connector, &url, provider, dial, false).await?;
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
        let (host, _connector) = Host::in_memory("");
        let log = host.log.clone();
        let mut placed = tokio::task::JoinSet::new();
        for acted in calls {
            placed.spawn(call(host.clock, Via::memory(&host), *acted));
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
    let dialled = matches!(transport, Transport::Webhook { .. });
    match act {
        Act::NoGoodbye | Act::EarlyClose if dialled => &["socket"],
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
        // The bridge may be told before it sees that a line is gone, and dials at once; of others it loses both.
        Act::EarlySound | Act::DropLine(_) => {}
        _ if outlives(provider.transport(), act) => {
            assert!(notices > 0, "{whose}: nothing was lost");
        }
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
    // In real time nobody waits for those.
    let in_time = |acted: &Acted| !outlives(acted.0.transport(), acted.1.act);
    // Strides that are prime to most lengths, so that all have their turn.
    let one_each = PROVIDERS.iter().enumerate().filter_map(|(index, provider)| {
        let all = behaviour::all(*provider).into_iter().map(|behaviour| (*provider, behaviour));
        let all: Vec<Acted> = all.filter(in_time).collect();
        all.get(index * 5 % all.len().max(1)).copied()
    });
    let matrix = matrix();
    let all_once = matrix.values().enumerate().map(|(index, calls)| {
        let calls: Vec<_> = calls.iter().copied().filter(in_time).collect();
        calls[index * 7 % calls.len()]
    });
    let mut placed = tokio::task::JoinSet::new();
    for acted in one_each.chain(all_once) {
        placed.spawn(call(clock, Via::loopback(&host), acted));
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
