//! What is measured, as a process of its own, so that its cost can be told from the generator's. Sends it nothing.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clap::ValueEnum as _;

use super::cores::{self, Cores};
use super::floors::{self, Floor};
use super::place::{Place, Prepared, Processes};
use super::usage::{self, Usage};
use crate::client::WsUrl;
use crate::destination::Destination;
use crate::workers::Tick;

/// Calls the bridge may have; the generator has fewer.
const MAX_CALLS: usize = 50_000;

/// A server to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setup {
    /// This program as a bridge that echoes, at 16 kHz and within its process.
    Bridge {
        /// Threads that serve calls.
        threads: usize,
        /// When they serve frames in batches.
        tick: Tick,
        /// Sound kept for a module that comes back, if that is said.
        ring: Option<Duration>,
        /// Where the echo runs, if not in its process.
        module: Option<Place>,
    },
    /// The least that any server must do.
    Floor {
        /// What that is.
        floor: Floor,
        /// When it serves in batches; bare TCP never does.
        tick: Tick,
    },
}

impl Setup {
    /// The smallest ring that the configuration allows.
    pub const NO_RING: Duration = Duration::from_millis(200);

    /// A bridge with one thread, without a replay ring.
    #[must_use]
    pub const fn bridge(tick: Tick) -> Self {
        Self::Bridge { threads: 1, tick, ring: Some(Self::NO_RING), module: None }
    }

    /// The same bridge, but with its module there.
    #[must_use]
    pub const fn with_module(&self, place: Place) -> Self {
        match *self {
            Self::Bridge { threads, tick, ring, .. } => {
                Self::Bridge { threads, tick, ring, module: Some(place) }
            }
            Self::Floor { floor, tick } => Self::Floor { floor, tick },
        }
    }

    const fn module(&self) -> Option<Place> {
        match self {
            Self::Bridge { module, .. } => *module,
            Self::Floor { .. } => None,
        }
    }

    const fn threads(&self) -> usize {
        match self {
            Self::Bridge { threads, .. } => *threads,
            Self::Floor { .. } => 1,
        }
    }

    fn command_line(&self, config: Option<&Scratch>) -> Vec<OsString> {
        let (Self::Bridge { tick, .. } | Self::Floor { tick, .. }) = self;
        let mut line = match self {
            Self::Bridge { threads, .. } => {
                let threads = threads.to_string();
                ["serve", "--bind", "127.0.0.1:0", "--log", "error", "--threads", &threads]
                    .map(OsString::from)
                    .to_vec()
            }
            Self::Floor { floor, .. } => {
                ["bench", "--serve-floor", floor.name()].map(OsString::from).to_vec()
            }
        };
        if let Some(config) = config {
            line.extend(["--config".into(), config.path.clone().into()]);
        }
        let tick = tick.to_possible_value().map(|value| value.get_name().to_owned());
        line.extend(tick.into_iter().flat_map(|tick| ["--tick".into(), tick.into()]));
        line
    }

    /// The configuration of a bridge; `server` is where the module is, if it is at a server.
    fn config(&self, server: &str) -> Option<String> {
        let Self::Bridge { ring, module, .. } = self else { return None };
        let ring = ring.map(|ring| format!("ring = \"{}ms\"\n", ring.as_millis()));
        Some(format!(
            "[limits]\nmax_calls = {MAX_CALLS}\nmax_connections = {}\n\n{}\
             [[module]]\nname = \"echo\"\n{}config = {{ rate = 16000 }}\n{}",
            MAX_CALLS + 100,
            module.map(|place| place.tables(server)).unwrap_or_default(),
            module.map_or_else(|| "builtin = \"echo\"\n".into(), |place| place.keys(server)),
            ring.unwrap_or_default(),
        ))
    }
}

/// A file that is there as long as this is.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn write(text: &str) -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringback-bench-{}-{number}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind, it is a small file among temporary ones.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A server under test; one that was started for it ends when this is dropped.
pub struct Server {
    child: Option<Child>,
    /// Whose cost is looked at, where somebody else started it.
    watched: Option<u32>,
    /// What its module runs on; ends when the bridge has.
    _beside: Processes,
    authority: String,
    /// Asked for instead of the provider's own path.
    target: Option<&'static str>,
    /// What is called, of a bridge that was not started for it.
    elsewhere: Option<Destination>,
    generator: Option<usize>,
    idle_rss_kib: u64,
}

impl Server {
    /// Starts this very program as `setup` says, on a free port; with `pinned`, on cores of its own if there are enough.
    ///
    /// # Errors
    /// If it cannot be started or does not say where it listens.
    pub fn start(setup: &Setup, pinned: bool) -> Result<Self, String> {
        let program =
            std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
        let itself = |args: &[&str]| start_itself(&program, args);
        let beside = setup.module().map(|place| place.prepare(itself)).transpose()?;
        let Prepared { processes, authority } = beside.unwrap_or_default();
        let config = setup.config(&authority);
        let config = config.map(|text| Scratch::write(&text)).transpose()?;
        let mut command = Command::new(program);
        command
            .args(setup.command_line(config.as_ref()))
            .env_remove("RINGBACK_BIND")
            .env_remove("RINGBACK_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        cores::raise_open_files();
        let cores = if pinned { Cores::split(setup.threads()) } else { None };
        let its_own = cores.as_ref().map_or(&[][..], |cores| &cores.server);
        let child = cores::with_cores(its_own, || command.spawn())
            .map_err(|error| format!("cannot start the server: {error}"))?;
        let target = match setup {
            Setup::Bridge { .. } => None,
            Setup::Floor { .. } => Some(floors::PATH),
        };
        let generator = cores.map(|cores| cores.generator);
        let mut server = Self {
            child: Some(child),
            watched: None,
            _beside: processes,
            authority: String::new(),
            target,
            elsewhere: None,
            generator,
            idle_rss_kib: 0,
        };
        server.authority = server.listen()?;
        server.idle_rss_kib = server.usage().map_or(0, |usage| usage.rss_kib);
        Ok(server)
    }

    /// A bridge that runs already and echoes.
    #[must_use]
    pub fn elsewhere(destination: Destination) -> Self {
        Self {
            child: None,
            watched: None,
            _beside: Processes::default(),
            authority: String::new(),
            target: None,
            elsewhere: Some(destination),
            generator: None,
            idle_rss_kib: 0,
        }
    }

    /// A bridge that somebody else started on this machine, and ends.
    pub(crate) fn running(authority: String, id: u32) -> Self {
        let url = WsUrl::plain(authority.clone(), String::new());
        let mut server = Self::elsewhere(Destination::from(url));
        (server.authority, server.elsewhere, server.watched) = (authority, None, Some(id));
        server
    }

    /// Waits until it says where it listens.
    fn listen(&mut self) -> Result<String, String> {
        listening(self.child.as_mut().ok_or("there is no server")?)
    }

    /// Where calls of a provider go.
    #[must_use]
    pub fn destination(&self, provider: &str) -> Destination {
        if let Some(destination) = &self.elsewhere {
            return destination.clone();
        }
        let target = self.target.map_or_else(|| format!("/{provider}"), str::to_owned);
        Destination::from(WsUrl::plain(self.authority.clone(), target))
    }

    /// The core that the generator has for itself.
    pub(super) fn generator_core(&self) -> Option<usize> {
        self.generator
    }

    /// Resident memory before the first call.
    pub(super) fn idle_rss_kib(&self) -> u64 {
        self.idle_rss_kib
    }

    /// What it has used so far; `None` where the system does not tell, or it is not ours.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        usage::of(self.watched.or(self.child.as_ref().map(Child::id))?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts this very program as something that listens, on whichever core is free, and gives where it is.
fn start_itself(program: &Path, args: &[&str]) -> Result<(Child, String), String> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped());
    let failed = |error| format!("cannot start {}: {error}", args.join(" "));
    let mut child = command.spawn().map_err(failed)?;
    let authority = listening(&mut child)?;
    Ok((child, authority))
}

/// Waits until a server says where it listens.
pub(crate) fn listening(server: &mut Child) -> Result<String, String> {
    let stdout = server.stdout.take().ok_or("the server has no standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    let told = lines.find_map(|line| {
        let line = line.ok()?;
        line.split_once("listening on http://").map(|(_, rest)| rest.trim().to_owned())
    });
    let told = told.ok_or("the server did not say where it listens");
    // What else it prints is read away, lest the pipe fill up.
    std::thread::spawn(move || lines.for_each(drop));
    Ok(told?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Context, Overrides};

    #[test]
    fn the_bridge_under_test_is_configured_as_the_run_needs_it() {
        for ring in [None, Some(Setup::NO_RING), Some(Duration::from_secs(10))] {
            let setup = Setup::Bridge { threads: 1, tick: Tick::Always, ring, module: None };
            let text = setup.config("").expect("a bridge has a configuration");
            let config =
                Config::parse("bench", &text, &Overrides::default(), &Context::of_process())
                    .expect("valid");
            assert_eq!((config.modules[0].ring, config.limits.max_streams), (ring, MAX_CALLS));
        }
    }

    #[test]
    fn servers_are_told_what_the_run_needs() {
        let scratch = Scratch::write("").expect("a temporary file");
        let line = Setup::bridge(Tick::Off).command_line(Some(&scratch));
        for pair in [["--threads", "1"], ["--tick", "off"], ["--bind", "127.0.0.1:0"]] {
            assert!(line.windows(2).any(|words| words == pair), "{line:?}");
        }
        let floor = Setup::Floor { floor: Floor::WsEcho, tick: Tick::Always };
        let line = ["bench", "--serve-floor", "ws-echo", "--tick", "always"];
        assert_eq!(floor.command_line(None), line);
        assert_eq!(floor.config(""), None);
    }
}
