//! Every behaviour of every provider against a whole bridge that echoes, in virtual time: each call ends for the right reason, its
//! sound adds up, and what is lost is lost where the behaviour loses it.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ringback::client::{CallEvent, Client, ClientError, WsUrl};
use ringback::clock::Clock;
use ringback::net::MemoryConnector;
use ringback_proto::provider::behaviour::{self, Act, Behaviour};
use ringback_proto::provider::{Dial, PROVIDERS, Provider, Track};
use ringback_proto::session::{Report, Summary};
use support::{Host, What, known, summaries};

/// A caller says so much, and stays as long for the echo.
const SPOKEN: Duration = Duration::from_millis(1_200);
/// The bridge has given up by now who no longer answers its pings.
const GIVEN_UP: Duration = Duration::from_secs(60);
/// How often calls are placed anew that end by themselves.
const TIMES: usize = 2;

/// Providers by what they do.
fn matrix() -> BTreeMap<&'static str, Vec<(&'static dyn Provider, &'static Behaviour)>> {
    let mut matrix: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for provider in PROVIDERS {
        for behaviour in behaviour::all(*provider) {
            matrix.entry(behaviour.name).or_default().push((*provider, behaviour));
        }
    }
    matrix
}

/// Calls; gives how many calls it took.
async fn call(
    clock: Clock,
    connector: MemoryConnector,
    provider: &'static dyn Provider,
    behaviour: &'static Behaviour,
) -> usize {
    let mut dial = Dial {
        call: format!("{}-{}", provider.name(), behaviour.name),
        format: Some(provider.formats()[0]),
        behaviours: vec![behaviour],
        seed: 5,
        ..Dial::default()
    };
    for calls in 1..=TIMES {
        let client = place(clock, &connector, provider, dial.clone()).await;
        let mut client = client.unwrap_or_else(|error| panic!("{}: {error}", dial.call));
        if client.phone().is_vanished() {
            clock.sleep_until(Some(clock.now() + GIVEN_UP)).await;
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
    connector: &MemoryConnector,
    provider: &'static dyn Provider,
    dial: Dial,
) -> Result<Client, ClientError> {
    let url = WsUrl { authority: "bridge.example".into(), target: format!("/{}", provider.name()) };
    let io = connector.connect().await.expect("the bridge listens");
    let mut client = Client::over(clock, io, &url, provider, dial, false).await?;
    let (mut spoken, mut leaves) = (false, None);
    loop {
        if let (false, Some(rate)) = (spoken, client.phone().start().map(|s| s.inbound.rate)) {
            client.speak(&(0..rate.samples_in(SPOKEN)).map(known).collect::<Vec<_>>());
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
fn act_out(calls: &[(&'static dyn Provider, &'static Behaviour)]) -> Vec<(Summary, Vec<Report>)> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let listener = |(p, _): &(&'static dyn Provider, _)| {
            format!("[[listener]]\nname = \"{0}\"\npath = \"/{0}\"\nprovider = \"{0}\"\n", p.name())
        };
        let (host, connector) = Host::in_memory(&calls.iter().map(listener).collect::<String>());
        let mut placed = tokio::task::JoinSet::new();
        for (provider, behaviour) in calls {
            placed.spawn(call(host.clock, connector.clone(), *provider, behaviour));
        }
        let mut expected = 0;
        while let Some(done) = placed.join_next().await {
            expected += done.expect("a call failed");
        }
        let log = host.log.clone();
        host.stop().await;
        let entries = log.entries();
        assert_eq!(summaries(&entries).count(), expected, "calls that ended");
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
    })
}

/// Why calls end that do so; none where they may end before they were calls.
fn reasons(act: Act) -> &'static [&'static str] {
    match act {
        Act::Vanish | Act::Cut => &["socket"],
        Act::Redial => &["socket", "remote"],
        // Where there are no close frames, a connection that ends without a word is a broken one.
        Act::NoGoodbye | Act::EarlyClose => &["remote", "socket"],
        _ => &["remote"],
    }
}

/// Reasons for which messages and samples may be lost.
fn losses(act: Act) -> BTreeSet<&'static str> {
    // An echo that comes too late, or is not played when the caller leaves.
    let mut reasons = BTreeSet::from(["call_ended"]);
    reasons.extend(match act {
        Act::Displace(_) => vec!["late", "trimmed"],
        Act::Duplicate => vec!["duplicate"],
        Act::EarlySound => vec!["early"],
        Act::Stall(_) | Act::Full(_) | Act::Packets(_) | Act::Unread(_) => vec!["trimmed"],
        Act::Vanish | Act::Cut | Act::Redial => vec!["send_failed"],
        _ => vec![],
    });
    reasons
}

fn check(name: &str, act: Act, summary: &Summary, reports: &[Report]) {
    let whose = format!("{name} of {}", summary.provider_call.as_deref().unwrap_or("somebody"));
    let unbalanced: Vec<_> = summary.ledger.unbalanced().map(ToString::to_string).collect();
    assert!(unbalanced.is_empty(), "{whose}: {unbalanced:?}");
    let reason = summary.reason.name();
    assert!(reasons(act).contains(&reason), "{whose}: {} ({reason})", summary.reason);
    let allowed = losses(act);
    for hop in &summary.ledger.hops {
        for (reason, count) in &hop.dropped {
            let reason = reason.name();
            assert!(allowed.contains(reason), "{whose}: {count} {reason} in {}", hop.name);
        }
    }
    let notices = reports.iter().filter(|report| matches!(report, Report::Notice(_))).count();
    match act {
        Act::Aside(_) => assert!(notices > 0, "{whose}: nobody noticed"),
        Act::EarlySound => {}
        _ => assert_eq!(notices, 0, "{whose}: {reports:?}"),
    }
}

#[test]
fn every_call_ends_for_its_reason_and_its_sound_adds_up() {
    for (name, calls) in matrix() {
        let act = calls[0].1.act;
        eprintln!("{name}: {} providers", calls.len());
        for (summary, reports) in act_out(&calls) {
            check(name, act, &summary, &reports);
        }
    }
}
