//! A real `nats-server` (Debian package of that name) for one test: on a free port, with JetStream, in a folder of its own.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of this")]
#![allow(clippy::unwrap_used, reason = "a test whose ground gives way has failed")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Looked for so often, so long apart, it listens; in a few milliseconds, on a machine that is not busy.
const LOOKS: u32 = 4_000;
const PAUSE: Duration = Duration::from_millis(5);
/// Where Debian puts it is not in everybody's path.
const NAMES: [&str; 2] = ["nats-server", "/usr/sbin/nats-server"];

/// A server, and its folder; both are gone when this is.
pub struct NatsServer {
    child: Option<Child>,
    program: &'static str,
    folder: PathBuf,
    arguments: Vec<String>,
    pub port: u16,
}

impl NatsServer {
    /// Starts one for the test of this name; `None` if there is no such program.
    pub fn start(name: &str, arguments: &[&str]) -> Option<Self> {
        let is_there = |program: &&&str| {
            let asked = Command::new(program).arg("--version").stdout(Stdio::null()).status();
            asked.is_ok_and(|status| status.success())
        };
        let program = *NAMES.iter().find(is_there)?;
        let folder =
            std::env::temp_dir().join(format!("ringback-bus-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let mut server = Self { child: None, program, folder, arguments, port: 0 };
        server.run();
        Some(server)
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Kills it and starts it anew on the same port, with what it had stored.
    pub fn restart(&mut self) {
        self.kill();
        self.run();
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it; after a kill, where it was.
    pub fn run(&mut self) {
        let port = if self.port == 0 { "-1".to_owned() } else { self.port.to_string() };
        let ports = self.folder.join("ports");
        let _ = std::fs::remove_dir_all(&ports);
        std::fs::create_dir_all(&ports).unwrap();
        let mut command = Command::new(self.program);
        command.args(["-a", "127.0.0.1", "-p", &port, "--js", "-sd"]).arg(&self.folder);
        command.arg("--ports_file_dir").arg(&ports).args(&self.arguments);
        command.arg("-l").arg(self.folder.join("log")).stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut looks = 0..LOOKS;
        self.port = loop {
            if let Some(port) = told(&ports) {
                break port;
            }
            let log = || std::fs::read_to_string(self.folder.join("log"));
            assert!(child.try_wait().unwrap().is_none(), "it ended: {:?}", log());
            assert!(looks.next().is_some(), "it does not listen: {:?}", log());
            std::thread::sleep(PAUSE);
        };
        self.child = Some(child);
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The port, once the server has written it down.
fn told(folder: &Path) -> Option<u16> {
    let entry = std::fs::read_dir(folder).ok()?.next()?.ok()?;
    let text = std::fs::read_to_string(entry.path()).ok()?;
    let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
    ports["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
}
