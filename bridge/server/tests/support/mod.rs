//! What the integration tests share: bridges in this process and as processes, a caller in step with its echo, files that go away.
//! Asserts nothing about the bridge itself.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test file uses its part of this"
)]
#![allow(clippy::unwrap_used, reason = "a test whose ground gives way has failed")]

mod beside;
mod caller;
pub mod echo;
mod process;
mod served;
pub mod turn;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringback::bridge::{Bridge, Reload};
use ringback::call::{Seen, Watch};
use ringback::capture::{Capture, Finish};
use ringback::clock::Clock;
use ringback::config::{Config, Context, Overrides};
use ringback::listener::Drained;
use ringback::net::{self, MemoryConnector, MemoryHosts, TcpListener};
use ringback::operator::Reloading;
use ringback::outgoing::Connector;
use ringback::shutdown::Shutdown;
use ringback::workers::Workers;
use ringback_proto::Instant;
use ringback_proto::ledger::Unit;
use ringback_proto::provider::{PROVIDERS, Provider, Transport};
use ringback_proto::session::{PortId, Report, Summary};
use tokio::task::JoinHandle;

pub use beside::beside_a_good_call;
pub use caller::{Caller, FRAME, Goodbye};
pub use process::{Finished, Process, ringback, run, send_signal};
pub use served::{TOKEN, served_ears, worker_ears, worker_ears_in_typescript};

/// No test waits longer than this for anything; long, because the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for `what`, but not for ever.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Providers whose calls are one socket, opened by them.
pub fn over_one_socket() -> Vec<&'static dyn Provider> {
    let one = |p: &&&dyn Provider| !matches!(p.transport(), Transport::Webhook { .. });
    PROVIDERS.iter().filter(one).copied().collect()
}

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A folder of its own for one test, removed at its end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringback-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Text as TOML and JSON write it.
pub fn quoted(text: impl std::fmt::Display) -> String {
    serde_json::Value::from(text.to_string()).to_string()
}

/// A configuration for a free port of this machine; `toml` is everything but `[server]`.
pub fn config(toml: &str) -> Config {
    let toml = format!("[server]\nbind = \"127.0.0.1:0\"\n{toml}");
    let parsed = Config::parse("the test", &toml, &Overrides::default(), &Context::of_process());
    parsed.unwrap_or_else(|error| panic!("{error}\n{toml}"))
}

/// Something a bridge reported about a call.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The bridge's name for the call.
    pub call: String,
    pub at: Instant,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    /// With the name of the module it is about.
    Report(Report, Option<String>),
    SocketFailed(String),
    Ended(Box<Summary>),
}

/// Keeps everything a bridge reports.
#[derive(Default)]
pub struct Log {
    entries: Mutex<Vec<Entry>>,
    changed: tokio::sync::Notify,
}

impl Watch for Log {
    fn see(&self, call: &str, at: Instant, seen: &Seen<'_>) {
        let what = match seen {
            Seen::Report { report, session } => {
                let name = port_of(report).map(|port| session.port_name(port).to_owned());
                What::Report((*report).clone(), name)
            }
            Seen::SocketFailed(error) => What::SocketFailed(error.to_string()),
            Seen::Ended(summary) => What::Ended(Box::new((*summary).clone())),
            _ => return,
        };
        self.entries.lock().unwrap().push(Entry { call: call.to_owned(), at, what });
        self.changed.notify_waiters();
    }
}

fn port_of(report: &Report) -> Option<PortId> {
    match report {
        Report::ModuleReady(port)
        | Report::ModuleFailed { port, .. }
        | Report::Said(port, _)
        | Report::Turn(port, _)
        | Report::Vad(port, _)
        | Report::Event(port, _)
        | Report::Log(port, _)
        | Report::Metric(port, _)
        | Report::Error(port, _) => Some(*port),
        Report::Dtmf(port, _) | Report::Transcript(port, _) => *port,
        _ => None,
    }
}

impl Log {
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().clone()
    }

    /// Waits until `find` finds something in all that was reported so far.
    pub async fn until<T>(&self, what: &str, find: impl Fn(&[Entry]) -> Option<T>) -> T {
        let found = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                if let Some(found) = find(&self.entries.lock().unwrap()) {
                    return found;
                }
                changed.await;
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(found) => found,
            Err(_) => panic!("not reported within {PATIENCE:?}: {what}\n{:#?}", self.entries()),
        }
    }

    /// The summary of the call whose provider calls it `name`.
    pub async fn ended(&self, name: &str) -> Summary {
        self.until(&format!("the end of {name}"), |entries| {
            summaries(entries).find(|s| s.provider_call.as_deref() == Some(name)).cloned()
        })
        .await
    }

    /// The only call's summary.
    pub async fn ended_alone(&self) -> Summary {
        self.until("the end of the call", |entries| summaries(entries).next().cloned()).await
    }

    /// What modules called `module` named `name`, in order.
    pub fn events(&self, module: &str, name: &str) -> Vec<serde_json::Value> {
        let events = self.entries().into_iter().filter_map(|entry| match entry.what {
            What::Report(Report::Event(_, event), Some(of)) if of == module => Some(event),
            _ => None,
        });
        events.filter(|event| event.name == name).map(|event| event.data).collect()
    }

    /// [`Self::events`], once there are `count` of them.
    pub async fn events_of(
        &self,
        module: &str,
        name: &str,
        count: usize,
    ) -> Vec<serde_json::Value> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let events = self.events(module, name);
            if events.len() >= count {
                return events;
            }
            soon(&format!("{count} of {name} from {module}"), changed).await;
        }
    }

    /// Waits for a report of that module.
    pub async fn module(&self, module: &str, what: &str, is: impl Fn(&Report) -> bool) {
        let seen = |entry: &Entry| matches!(&entry.what, What::Report(report, Some(of)) if of == module && is(report));
        self.until(&format!("{module}: {what}"), |entries| entries.iter().any(seen).then_some(()))
            .await;
    }
}

pub fn summaries(entries: &[Entry]) -> impl Iterator<Item = &Summary> {
    entries.iter().filter_map(|entry| match &entry.what {
        What::Ended(summary) => Some(summary.as_ref()),
        _ => None,
    })
}

/// A bridge in this process.
pub struct Host {
    pub clock: Clock,
    pub shutdown: Shutdown,
    pub log: Arc<Log>,
    /// Where it listens, unless in memory.
    pub address: SocketAddr,
    /// Where its operator's side listens, if it has one, unless in memory.
    pub operator: Option<SocketAddr>,
    /// How to reach it, and how it reaches others.
    pub connector: Connector,
    /// To give it another configuration.
    pub reload: Reload,
    serving: JoinHandle<Drained>,
    operating: Option<JoinHandle<()>>,
    captured: Option<Finish>,
}

impl Host {
    /// Over TCP, on a free port.
    pub fn on_loopback(toml: &str) -> Self {
        let config = config(toml);
        let listener = TcpListener::bind(config.bind).unwrap();
        let operator = config.operator.as_ref().map(|o| TcpListener::bind(o.bind).unwrap());
        Self::start(config, listener, operator, Connector::default())
    }

    /// In memory, with its operator's side.
    pub fn operated_in_memory(toml: &str) -> (Self, MemoryConnector, MemoryConnector) {
        let (listener, connector) = net::memory(64 * 1024);
        let (operator, operators) = net::memory(64 * 1024);
        let outside = Connector::within(MemoryHosts::default());
        (Self::start(config(toml), listener, Some(operator), outside), connector, operators)
    }

    /// In memory, for paused time; as `localhost` it is known there, and it finds others there.
    pub fn in_memory(toml: &str) -> (Self, MemoryConnector) {
        Self::among(&MemoryHosts::default(), "localhost:80", toml)
    }

    /// The same, known as `authority` to those who look among `hosts`, where it finds others.
    pub fn among(hosts: &MemoryHosts, authority: &str, toml: &str) -> (Self, MemoryConnector) {
        let (listener, connector) = net::memory(64 * 1024);
        hosts.add(authority, connector.clone());
        let nobody = None::<net::MemoryListener>;
        (Self::start(config(toml), listener, nobody, Connector::within(hosts.clone())), connector)
    }

    fn start(
        config: Config,
        listener: impl net::Listener,
        operator: Option<impl net::Listener>,
        connector: Connector,
    ) -> Self {
        let (clock, shutdown, log) = (Clock::start(), Shutdown::new(), Arc::new(Log::default()));
        let address = listener.local_addr().unwrap();
        let watch: Arc<dyn Watch> = log.clone();
        let capture = config.capture.clone().map(|options| Capture::start(options).unwrap());
        let (capture, captured) = capture.unzip();
        let outside = Arc::new(connector.clone());
        let bridge = Bridge::through(&config, clock, shutdown.clone(), Some(&watch), outside);
        let bridge = bridge.capturing(capture);
        let reload = bridge.reloading();
        let refusing: Reloading = Arc::new(|| Err("line 1: no".into()));
        let side = bridge.operator(&config, Some(refusing)).map(Result::unwrap).zip(operator);
        let operator = side.as_ref().map(|(_, listener)| listener.local_addr().unwrap());
        let operating = side.map(|(side, listener)| tokio::spawn(side.run(listener)));
        let serving =
            tokio::spawn(async move { bridge.run(&config, listener, Workers::here()).await });
        Self {
            clock,
            shutdown,
            log,
            address,
            operator,
            connector,
            reload,
            serving,
            operating,
            captured,
        }
    }

    /// A connection to it.
    pub async fn connect(&self) -> tokio::net::TcpStream {
        let stream = soon("a connection", tokio::net::TcpStream::connect(self.address)).await;
        let stream = stream.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Drains it; no call may have to be cut off. What it captures is written then.
    pub async fn stop(self) {
        self.shutdown.drain();
        let drained = soon("the bridge's end", self.serving).await.unwrap();
        assert_eq!(drained.cut, 0, "calls had to be cut off");
        if let Some(operating) = self.operating {
            soon("the end of the operator's side", operating).await.unwrap();
        }
        if let Some(captured) = self.captured {
            assert!(captured.wait(PATIENCE).await, "captures were not written in time");
        }
    }
}

/// Every hop adds up, and nothing was lost on the way: not one message, not one sample. What a hop may have dropped after all
/// is named: `("playout", "call_ended")` say.
pub fn assert_whole(summary: &Summary, but: &[(&str, &str)]) {
    let unbalanced: Vec<_> = summary.ledger.unbalanced().map(ToString::to_string).collect();
    assert!(unbalanced.is_empty(), "{unbalanced:?}");
    let drops = summary.ledger.hops.iter().flat_map(|hop| {
        let drops = hop.dropped.iter();
        drops.map(move |(reason, count)| (hop.name.as_str(), reason.name(), *count))
    });
    let lost: Vec<_> = drops.filter(|(hop, reason, _)| !but.contains(&(*hop, *reason))).collect();
    assert!(lost.is_empty(), "lost on the way: {lost:?}");
    let wire = summary.ledger.hop("wire.in").expect("every call has a wire");
    assert_eq!(wire.unit, Unit::Messages);
}

/// A WAV file of the repository at another rate.
pub fn sound(name: &str, hz: u32) -> Vec<i16> {
    let wav = read_wav(&root().join("test-audio").join(name));
    let rate = ringback_codecs::SampleRate::new(hz).unwrap();
    let mut resampler = ringback_codecs::Resampler::new(wav.rate, rate);
    let mut samples = Vec::new();
    resampler.process(&wav.samples, &mut samples);
    resampler.finish(&mut samples);
    samples
}

pub fn read_wav(path: &Path) -> ringback_codecs::wav::Wav {
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    ringback_codecs::wav::read(std::io::BufReader::new(file))
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Sample `n` of a sound that never repeats within a test, has no zero in it and says where it comes from.
pub fn known(n: u64) -> i16 {
    match (n.wrapping_mul(7_919) % 30_011) as i16 - 15_006 {
        0 => 1,
        sample => sample,
    }
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

/// The Python that tests run modules with; the standard library is enough.
pub const PYTHON: &str = "python3";

/// A Python that has `package`: the one named by the environment, that of the repository, or the system's.
pub fn python_with(package: &str) -> Option<PathBuf> {
    let named = std::env::var_os("RINGBACK_PYTHON").map(PathBuf::from);
    let candidates = [root().join(".venv/bin/python3"), PathBuf::from(PYTHON)];
    named.into_iter().chain(candidates).find(|python| {
        let import = format!("import {package}");
        let output = std::process::Command::new(python).args(["-c", &import]).output();
        output.is_ok_and(|output| output.status.success())
    })
}

/// Says loudly that a test did not run, for want of a Python that has `package`; fails where it must run.
pub fn skip(package: &str) {
    let why = format!(
        "no Python with {package}: neither RINGBACK_PYTHON, .venv/bin/python3 of the repository nor {PYTHON} has it"
    );
    not_run(&why);
}

/// Says loudly that a test did not run, and why; fails where it must run.
pub fn not_run(why: &str) {
    let demanded =
        ["CI", "RINGBACK_REQUIRE_DEMO"].into_iter().find(|v| std::env::var_os(v).is_some());
    assert_eq!(demanded, None, "this test must run, but there is {why}");
    eprintln!("SKIPPED, NOTHING WAS TESTED: {why}; `bash .ci/test` sets one up");
}

/// Node.js, which runs modules in TypeScript.
pub const NODE: &str = "node";

/// Whether there is a Node.js new enough for the TypeScript SDK; says loudly if not, and fails where it must be.
pub fn has_node() -> bool {
    let new_enough = "process.exit(Number(process.versions.node.split('.')[0]) < 20 ? 1 : 0)";
    let status = std::process::Command::new(NODE).args(["-e", new_enough]).status();
    let found = status.is_ok_and(|status| status.success());
    if !found {
        not_run("no Node.js 20 or later");
    }
    found
}
