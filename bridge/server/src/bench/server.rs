//! The bridge under test as a process of its own, so that its cost can be told from the generator's.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::client::WsUrl;

/// What a process has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, user and system.
    pub cpu: Duration,
    /// Resident memory.
    pub rss_kib: u64,
    /// Resident memory before the first call.
    pub idle_rss_kib: u64,
}

/// A bridge that echoes, in a process of its own; ended when dropped.
pub struct BenchServer {
    child: Child,
    authority: String,
    idle_rss_kib: u64,
}

impl BenchServer {
    /// Starts this very program as a bridge on a free port.
    ///
    /// # Errors
    /// If it cannot be started or does not say where it listens.
    pub fn start() -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
        let mut child = Command::new(program)
            .args(["serve", "--no-config", "--bind", "127.0.0.1:0", "--max-calls", "20000", "--log", "warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot start the bridge: {e}"))?;
        let stdout = child.stdout.take().ok_or("the bridge has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let told = lines.find_map(|line| {
            let line = line.ok()?;
            line.split_once("listening on http://").map(|(_, rest)| rest.trim().to_owned())
        });
        let Some(authority) = told else {
            let _ = child.kill();
            return Err("the bridge did not say where it listens".into());
        };
        // What else it prints is read away, lest the pipe fill up.
        std::thread::spawn(move || lines.for_each(drop));
        let mut server = Self { child, authority, idle_rss_kib: 0 };
        server.idle_rss_kib = server.usage().map_or(0, |u| u.rss_kib);
        Ok(server)
    }

    /// Its listener for a provider.
    #[must_use]
    pub fn url(&self, provider: &str) -> WsUrl {
        WsUrl { authority: self.authority.clone(), target: format!("/{provider}") }
    }

    /// What it has used so far; `None` where the system does not tell.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        let pid = self.child.id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in brackets may hold spaces; the fields are counted behind it (proc(5)).
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let rss_kib = rss.trim().trim_end_matches(" kB").parse().ok()?;
        // Linux counts in hundredths of a second for user space on every architecture (USER_HZ).
        Some(Usage { cpu: Duration::from_millis(ticks * 10), rss_kib, idle_rss_kib: self.idle_rss_kib })
    }
}

impl Drop for BenchServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
