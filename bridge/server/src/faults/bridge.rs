//! The bridge that faults are done to: this program as a process of its own, with the events of its calls in a file. Judges nothing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use ringback_proto::Instant;
use serde_json::Value;

use super::Ground;
use crate::bench::listening;
use crate::client::WsUrl;
use crate::clock::Clock;

/// Nothing is waited for longer than this without a reason.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take to answer a question.
const ASKED: Duration = Duration::from_secs(2);
/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// The modules of a bridge whose row is not about modules.
pub(super) const ECHO: &str = "[[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n";

/// A bridge under test; killed when this is dropped.
pub(super) struct Bridge {
    clock: Clock,
    child: Child,
    /// Host and port.
    pub(super) authority: String,
    /// Its folder: configuration, events, log.
    pub(super) folder: PathBuf,
    told: Telling,
}

/// What of its calls a bridge writes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Telling {
    /// All that rows look at.
    Calls,
    /// Nothing: there will be too many.
    Nothing,
}

/// How a bridge is started that is not started as users do.
#[derive(Debug, Clone, Default)]
pub(super) struct Under {
    /// A program and its arguments that become the bridge.
    pub(super) program: Vec<String>,
    /// More of the environment.
    pub(super) environment: Vec<(String, String)>,
}

impl Bridge {
    /// Starts one with this configuration, which has neither `[server] bind` nor sinks.
    pub(super) fn start(ground: &Ground, toml: &str) -> Result<Self, String> {
        Self::start_in(ground, &new_folder(ground)?, toml)
    }

    /// The same in a folder that is there, as a bridge is started again.
    pub(super) fn start_in(ground: &Ground, folder: &Path, toml: &str) -> Result<Self, String> {
        Self::start_as(ground, folder, toml, Telling::Calls, &Under::default())
    }

    /// One that writes nothing of its calls down; [`Self::figure`] tells of them.
    pub(super) fn start_silent(ground: &Ground, toml: &str) -> Result<Self, String> {
        Self::start_as(ground, &new_folder(ground)?, toml, Telling::Nothing, &Under::default())
    }

    /// One that is started by another program.
    pub(super) fn start_under(ground: &Ground, toml: &str, under: &Under) -> Result<Self, String> {
        Self::start_as(ground, &new_folder(ground)?, toml, Telling::Calls, under)
    }

    fn start_as(
        ground: &Ground,
        folder: &Path,
        toml: &str,
        told: Telling,
        under: &Under,
    ) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("cannot start a bridge: {error}");
        configure(folder, toml, told).map_err(failed)?;
        let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log"));
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = match under.program.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        command
            .args(["serve", "--bind", "127.0.0.1:0", "--log", "info", "--threads", "1"])
            .arg("--config")
            .arg(folder.join("ringback.toml"))
            .current_dir(folder)
            .envs(under.environment.iter().map(|(name, value)| (name, value)))
            .env_remove("RINGBACK_BIND")
            .env_remove("RINGBACK_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.map_err(failed)?);
        let mut child = command.spawn().map_err(failed)?;
        let authority = listening(&mut child).map_err(|error| {
            let _ = child.kill();
            let _ = child.wait();
            format!("{error}: {}", last_lines(&folder.join("log")))
        })?;
        Ok(Self { clock: ground.clock, child, authority, folder: folder.to_owned(), told })
    }

    /// What it answers to a GET, status line and all.
    pub(super) fn get(&self, path: &str) -> Option<String> {
        get(&self.authority, path)
    }

    /// A figure at `/metrics`, all lines of its name added up.
    pub(super) fn figure(&self, name: &str) -> Option<u64> {
        let text = self.get("/metrics")?;
        let its = text.lines().filter_map(|line| line.strip_prefix(name));
        let its = its.filter(|rest| rest.starts_with([' ', '{']));
        let values: Vec<u64> =
            its.filter_map(|rest| rest.rsplit_once(' ')?.1.parse().ok()).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Gives it another configuration, which it reads when it is told to.
    pub(super) fn configure(&self, toml: &str) -> Result<(), String> {
        configure(&self.folder, toml, self.told).map_err(|error| error.to_string())
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where a provider's calls go.
    pub(super) fn url(&self, provider: &str) -> WsUrl {
        WsUrl::plain(self.authority.clone(), format!("/{provider}"))
    }

    /// All events so far whose type is `kind`.
    pub(super) fn events(&self, kind: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.join("events.jsonl")).unwrap_or_default();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["type"] == kind).collect()
    }

    /// Waits until `find` finds something, but not for ever.
    pub(super) fn until<T>(
        &self,
        within: Duration,
        find: impl Fn(&Self) -> Option<T>,
    ) -> Option<T> {
        let until = self.clock.now() + within;
        loop {
            if let Some(found) = find(self) {
                return Some(found);
            }
            if self.clock.now() >= until {
                return None;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The ends of calls whose names begin so, once there are `count` of them.
    pub(super) fn ended(&self, prefix: &str, count: usize) -> Result<Vec<Value>, String> {
        self.ended_within(prefix, count, PATIENCE)
    }

    /// [`Self::ended`], for what may take long.
    pub(super) fn ended_within(
        &self,
        prefix: &str,
        count: usize,
        within: Duration,
    ) -> Result<Vec<Value>, String> {
        let of = |this: &Self| {
            let mut ended = this.events("call.ended");
            ended.retain(|e| {
                e["provider_call"].as_str().is_some_and(|name| name.starts_with(prefix))
            });
            ended
        };
        let found = self.until(within, |this| Some(of(this)).filter(|ended| ended.len() >= count));
        found.ok_or_else(|| {
            let there = of(self).len();
            format!("{there} of {count} calls were told to have ended within {within:?}")
        })
    }

    /// The ends of all calls that started, but for those whose names begin so: each must have ended.
    pub(super) fn ended_of_all_but(&self, prefix: &str) -> Result<Vec<Value>, String> {
        let of = |kind: &str| {
            let mut events = self.events(kind);
            let begins = |name: &str| name.starts_with(prefix);
            events.retain(|event| !event["provider_call"].as_str().is_some_and(begins));
            events
        };
        let all = |_: &Self| {
            let (started, ended) = (of("call.started"), of("call.ended"));
            let has_ended = |start: &Value| ended.iter().any(|end| end["call"] == start["call"]);
            started.iter().all(has_ended).then_some(ended)
        };
        self.until(PATIENCE, all)
            .ok_or_else(|| format!("not all calls were told to have ended within {PATIENCE:?}"))
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), String> {
        send(self.child.id(), signal)
    }

    /// Waits for its end.
    pub(super) fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        let until = self.clock.now() + within;
        loop {
            match self.child.try_wait() {
                Ok(None) if self.clock.now() < until => std::thread::sleep(LOOK),
                Ok(status) => return status,
                Err(_) => return None,
            }
        }
    }

    /// Whether it still runs.
    pub(super) fn is_up(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Lines of its log in which `what` stands.
    pub(super) fn logged(&self, what: &str) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        text.lines().filter(|line| line.contains(what)).map(str::to_owned).collect()
    }

    /// Resident memory in KiB, where the system tells.
    pub(super) fn rss_kib(&self) -> Option<u64> {
        crate::bench::usage_of(self.child.id()).map(|usage| usage.rss_kib)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is at a path of a bridge, status line and all; nothing, if it is not there or does not answer.
pub(super) fn get(authority: &str, path: &str) -> Option<String> {
    let address = authority.parse().ok()?;
    let mut stream = TcpStream::connect_timeout(&address, ASKED).ok()?;
    stream.set_read_timeout(Some(ASKED)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn new_folder(ground: &Ground) -> Result<PathBuf, String> {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = ground.folder.path(&format!("bridge-{number}"));
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    Ok(folder)
}

fn configure(folder: &Path, toml: &str, told: Telling) -> std::io::Result<()> {
    let events = "[\"call.started\", \"call.ended\", \"module.ready\", \"module.failed\", \"event\", \"error\", \"notice\"]";
    let sink = match told {
        Telling::Nothing => String::new(),
        Telling::Calls => format!(
            "[[sink]]\nname = \"events\"\nkind = \"jsonl\"\nall = true\npath = \"events.jsonl\"\nevents = {events}\n"
        ),
    };
    fs::write(folder.join("ringback.toml"), format!("{toml}\n{sink}"))
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
}

/// A signal to a process.
#[derive(Debug, Clone, Copy)]
pub(super) enum Signal {
    /// To end.
    Term,
    /// To be gone.
    Kill,
    /// To stand still.
    Stop,
    /// To go on.
    Continue,
    /// To read its configuration again.
    Hangup,
}

#[cfg(target_os = "linux")]
pub(super) fn send(id: u32, signal: Signal) -> Result<(), String> {
    use rustix::process::{Pid, Signal as System, kill_process};
    let system = match signal {
        Signal::Term => System::TERM,
        Signal::Kill => System::KILL,
        Signal::Stop => System::STOP,
        Signal::Continue => System::CONT,
        Signal::Hangup => System::HUP,
    };
    let id = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or("there is no such process")?;
    kill_process(id, system).map_err(|error| format!("cannot send {signal:?}: {error}"))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn send(_: u32, signal: Signal) -> Result<(), String> {
    Err(format!("{signal:?} is sent on Linux only"))
}
