//! A whole bridge in simulated time and in memory, with callers, lines and modules most of which are up to no good. The same seed is the
//! same story, to the nanosecond and to the octet, so whatever goes wrong in one can be told again.
//!
//! A seed decides who calls over which provider, what its end does beside what it promises, how bad its line is, which modules are on
//! the calls and what ails them, and when the bridge is told to go. At the end of every story it is asked whether each call ended, in
//! time and once, with accounts that add up and agree with those of the far end, whether those with whom nothing was wrong lost
//! nothing, and whether anything is left running. Nothing here takes part in calls of the world.

mod caller;
mod cast;
mod check;
mod modules;
mod panics;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringback_proto::Instant;
use ringback_proto::provider::PROVIDERS;
use ringback_proto::session::{Report, Summary};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use crate::bridge::Bridge;
use crate::call::{Seen, Watch};
use crate::chance::seeded;
use crate::clock::Clock;
use crate::config::{Config, Context, Overrides};
use crate::listener::Drained;
use crate::net::{self, MemoryHosts};
use crate::outgoing::Connector;
use crate::shutdown::Shutdown;
use crate::workers::Workers;
use caller::{Outcome, Place};
use cast::{Call, Cast};

/// Where the bridge is.
const BRIDGE: &str = "localhost:80";
/// A story that lasts longer hangs.
const LONGEST: Duration = Duration::from_secs(900);
/// What is left running ends within.
const SETTLES: Duration = Duration::from_secs(120);

/// What happened, and what was wrong with it.
#[derive(Debug, Clone)]
pub struct Story {
    /// What decided it.
    pub seed: u64,
    /// What was reported of calls and by callers, in order, each line with its simulated time.
    pub lines: Vec<String>,
    /// SHA-256 of the lines, the first 16 digits: two runs with the same are the same.
    pub hash: String,
    /// Calls that the bridge took.
    pub calls: usize,
    /// Calls that it refused, because it was told to go.
    pub refused: usize,
    /// Media messages that came off the wires, and that went out over them.
    pub frames: [u64; 2],
    /// Messages and samples that were dropped, by hop and reason.
    pub dropped: BTreeMap<String, u64>,
    /// Why calls ended.
    pub ends: BTreeMap<&'static str, usize>,
    /// Simulated time from the beginning to the end of everything.
    pub lasted: Duration,
    /// What must not be: each is a defect of the bridge, or of the story.
    pub problems: Vec<String>,
}

/// Tells the story of a seed.
///
/// # Panics
/// If there is no runtime to be had, or the story's own configuration is refused.
#[must_use]
pub fn simulate(seed: u64) -> Story {
    let _chance = seeded::from(seed);
    let panics = panics::count();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime =
        runtime.expect("a runtime without threads needs nothing of the system but a poll");
    let mut story = runtime.block_on(tell(seed));
    let panics = panics::count() - panics;
    if panics > 0 {
        story.problems.push(format!("{panics} panics"));
    }
    story
}

/// Everything that is seen on a bridge's calls.
#[derive(Default)]
struct Log(Mutex<Vec<Entry>>);

struct Entry {
    at: Instant,
    line: String,
    ended: Option<Box<Summary>>,
}

impl Watch for Log {
    fn see(&self, call: &str, at: Instant, seen: &Seen<'_>) {
        // Names of calls begin with the wall clock, which is no part of the story.
        let call = call.rsplit('-').next().unwrap_or_default();
        let mut line = format!("{:?} {call} ", at.since_epoch());
        let mut ended = None;
        let _ = match seen {
            Seen::Report { report: Report::Started(start), .. } => {
                write!(line, "started {:?} {:?}", start.call, start.inbound)
            }
            Seen::Report { report, .. } => write!(line, "{report:?}"),
            Seen::SocketFailed(error) => write!(line, "socket failed: {error}"),
            Seen::Late(late) => write!(line, "late {:?}", late.event),
            Seen::Ended(summary) => {
                ended = Some(Box::new((*summary).clone()));
                write!(
                    line,
                    "ended {}: {} in {} out {:?} {:?} {:?}",
                    summary.reason,
                    summary.frames_in,
                    summary.frames_out,
                    summary.duration,
                    summary.modules,
                    summary.ledger
                )
            }
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Entry { at, line, ended });
    }
}

/// A bridge, its callers and their end, as they were.
struct Told {
    cast: Cast,
    /// By the name that the bridge has for each call, in the order in which they ended.
    ended: Vec<(Instant, Box<Summary>)>,
    outcomes: Vec<(Call, Outcome)>,
    /// `None` if it never ended.
    drained: Option<Drained>,
    left_running: usize,
}

async fn tell(seed: u64) -> Story {
    let cast = cast::cast(seed);
    let hosts = MemoryHosts::default();
    let servers = modules(&cast, &hosts);
    let (listener, bridge_at) = net::memory(64 * 1024);
    hosts.add(BRIDGE, bridge_at.clone());
    let connector = Connector::within(hosts);
    let (clock, shutdown, log) = (Clock::start(), Shutdown::new(), Arc::new(Log::default()));
    let config = config(&cast);
    let watch: Arc<dyn Watch> = log.clone();
    let outside = Arc::new(connector.clone());
    let bridge = Bridge::through(&config, clock, shutdown.clone(), Some(&watch), outside);
    let serving = tokio::spawn(async move { bridge.run(&config, listener, Workers::here()).await });
    let lines = Arc::new(Mutex::new(JoinSet::new()));
    let place =
        Place { clock, bridge: bridge_at, connector, authority: BRIDGE, lines: Arc::clone(&lines) };
    let leaving = cast.leave.map(|leave| tokio::spawn(leave_at(clock, shutdown.clone(), leave.at)));
    let mut playing = JoinSet::new();
    for call in cast.calls.clone() {
        playing.spawn(caller::play(place.clone(), call));
    }
    drop(place);
    let mut outcomes = Vec::new();
    let all = async {
        while let Some(played) = playing.join_next().await {
            outcomes.extend(played.ok());
        }
        shutdown.drain();
        serving.await.ok()
    };
    let drained = tokio::time::timeout(LONGEST, all).await.ok().flatten();
    drop((leaving, playing, servers));
    let lines = std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner));
    drop(lines);
    let left_running = settled(clock).await;
    let entries = std::mem::take(&mut *log.0.lock().unwrap_or_else(PoisonError::into_inner));
    let mut lines: Vec<String> = entries.iter().map(|entry| entry.line.clone()).collect();
    outcomes.sort_by_key(|(call, _)| call.index);
    lines.extend(outcomes.iter().map(|(call, outcome)| {
        format!("{} over {}: {outcome:?}", call.name(), call.provider.name())
    }));
    let ended = entries.into_iter().filter_map(|entry| Some((entry.at, entry.ended?))).collect();
    let told = Told { cast, ended, outcomes, drained, left_running };
    story(seed, lines, clock.now().since_epoch(), &told)
}

async fn leave_at(clock: Clock, shutdown: Shutdown, at: Duration) {
    clock.sleep_until(Some(Instant::ZERO + at)).await;
    shutdown.drain();
}

/// How many tasks are left once all had time to end.
async fn settled(clock: Clock) -> usize {
    let until = clock.now() + SETTLES;
    loop {
        let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        if alive == 0 || clock.now() >= until {
            return alive;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The modules that are servers, until they are dropped.
fn modules(cast: &Cast, hosts: &MemoryHosts) -> JoinSet<()> {
    let mut servers = JoinSet::new();
    for (name, part) in [("agent", cast.agent), ("tap", cast.tap), ("filter", cast.filter)] {
        if let Some(part) = part {
            let (listener, connector) = net::memory(64 * 1024);
            hosts.add(&format!("{name}.example:80"), connector);
            servers.spawn(modules::serve(listener, part));
        }
    }
    servers
}

/// Every provider at a path of its name, and the cast's modules on all calls.
fn config(cast: &Cast) -> Config {
    let mut toml = String::from("[server]\nbind = \"127.0.0.1:0\"\n");
    let time = if cast.leave.is_some_and(|leave| leave.hurried) { "1s" } else { "10m" };
    let _ = writeln!(toml, "drain_timeout = \"{time}\"");
    for name in PROVIDERS.iter().map(|provider| provider.name()) {
        let _ = writeln!(
            toml,
            "[[listener]]\nname = \"{name}\"\npath = \"/{name}\"\nprovider = \"{name}\"\ninsecure = true"
        );
    }
    let mut on_calls = Vec::new();
    let mut module = |name: &str, what: String| {
        let _ = writeln!(toml, "[[module]]\nname = \"{name}\"\n{what}");
        on_calls.push(format!("\"{name}\""));
    };
    let server = |name: &str, more: &str| format!("url = \"ws://{name}.example\"\n{more}");
    if cast.filter.is_some() {
        module("filter", server("filter", "role = \"filter\""));
    }
    match cast.agent {
        Some(_) if cast.hangs_up => module("agent", server("agent", "on_fail = \"hangup\"")),
        Some(_) => module("agent", server("agent", "")),
        None => module("agent", "builtin = \"echo\"".into()),
    }
    module("vad", "builtin = \"vad\"".into());
    module("dtmf", "builtin = \"dtmf\"".into());
    if cast.tap.is_some() {
        module("tap", server("tap", ""));
    }
    let _ = writeln!(
        toml,
        "[[route]]\nname = \"default\"\nmodules = [{}]\nspeaker = \"agent\"",
        on_calls.join(", ")
    );
    let parsed = Config::parse("the story", &toml, &Overrides::default(), &Context::of_process());
    parsed.unwrap_or_else(|error| panic!("{error}\n{toml}"))
}

fn story(seed: u64, lines: Vec<String>, lasted: Duration, told: &Told) -> Story {
    let mut hash = Sha256::new();
    for line in &lines {
        hash.update(line.as_bytes());
        hash.update(b"\n");
    }
    let hash: String = hash.finalize().iter().take(8).fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    });
    let (mut ends, mut dropped) = (BTreeMap::new(), BTreeMap::new());
    for (_, summary) in &told.ended {
        *ends.entry(summary.reason.name()).or_insert(0) += 1;
        for hop in &summary.ledger.hops {
            for (reason, count) in &hop.dropped {
                *dropped.entry(format!("{} {}", hop.name, reason.name())).or_insert(0) += count;
            }
        }
    }
    let sum = |of: fn(&Summary) -> u64| told.ended.iter().map(|(_, summary)| of(summary)).sum();
    Story {
        seed,
        hash,
        calls: told.ended.len(),
        refused: told.outcomes.iter().filter(|(_, outcome)| outcome.refused).count(),
        frames: [sum(|summary| summary.frames_in), sum(|summary| summary.frames_out)],
        dropped,
        ends,
        lasted,
        problems: check::problems(told),
        lines,
    }
}
