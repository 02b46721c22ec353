//! The binary as a process: started, listened to, signalled, waited for. Knows nothing of calls.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::PATIENCE;

/// How a process ended and what it printed.
#[derive(Debug)]
pub struct Finished {
    /// `None` after a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The command line of the binary under test, without anything of the environment that it would heed.
pub fn ringback<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringback"));
    command.args(args).env_remove("RINGBACK_LOG").env_remove("RINGBACK_BIND");
    command
}

/// Runs a command to its end.
pub fn run(command: &mut Command, within: Duration) -> Finished {
    let running = Running::start(command);
    running.finish(within)
}

struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = lines(child.stdout.take().expect("piped"));
        let stderr = lines(child.stderr.take().expect("piped"));
        Self { child, stdout, stderr }
    }

    fn finish(mut self, within: Duration) -> Finished {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let mut ended = true;
        for (lines, text) in [(&self.stdout, &mut stdout), (&self.stderr, &mut stderr)] {
            loop {
                match lines.recv_timeout(within) {
                    Ok(line) => text.push_str(&line),
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                        ended = false;
                        break;
                    }
                }
            }
        }
        if !ended {
            let _ = self.child.kill();
        }
        let status = self.child.wait().expect("a child can be waited for");
        assert!(ended, "silent for {within:?} and not over\nstdout: {stdout}\nstderr: {stderr}");
        Finished { code: status.code(), stdout, stderr }
    }
}

/// What a pipe brings, line by line, until it is closed.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(pipe.read_until(b'\n', &mut line), Ok(1..)) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
            line.clear();
        }
    });
    receiver
}

/// Sends a process a signal by name; by the shell, which has `kill` built in.
pub fn send_signal(name: &str, id: u32) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status();
    assert!(status.expect("there is a shell").success(), "process {id} is there to be signalled");
}

/// `ringback serve` on a free port.
pub struct Process {
    running: Option<Running>,
    /// Host and port.
    pub address: String,
    /// What it printed before it listened.
    pub greeting: String,
}

impl Process {
    /// Starts it and waits until it listens.
    pub fn serve(args: &[&str], environment: &[(&str, &str)]) -> Self {
        let fixed = ["serve", "--bind", "127.0.0.1:0"];
        let mut command = ringback(fixed.iter().chain(args));
        command.envs(environment.iter().copied());
        Self::start(&mut command)
    }

    /// Starts what comes to `ringback serve`, and waits until it listens.
    pub fn start(command: &mut Command) -> Self {
        let running = Running::start(command);
        let mut greeting = String::new();
        let address = loop {
            match running.stdout.recv_timeout(PATIENCE) {
                Ok(line) => {
                    greeting.push_str(&line);
                    let at = line.split_once("listening on http");
                    if let Some((_, address)) = at.and_then(|(_, url)| url.split_once("://")) {
                        break address.trim().to_owned();
                    }
                }
                Err(_) => {
                    let Finished { stdout, stderr, .. } = running.finish(Duration::ZERO);
                    panic!("it does not listen: {greeting}{stdout}{stderr}");
                }
            }
        };
        Self { running: Some(running), address, greeting }
    }

    /// Sends a signal by name: `TERM`, `INT`.
    pub fn signal(&self, name: &str) {
        let id = self.running.as_ref().expect("running").child.id();
        send_signal(name, id);
    }

    /// Waits until it logs a line with `what` in it; gives all that it logged up to there.
    pub fn logged(&self, what: &str) -> String {
        let running = self.running.as_ref().expect("running");
        let mut log = String::new();
        while !log.lines().any(|line| line.contains(what)) {
            match running.stderr.recv_timeout(PATIENCE) {
                Ok(line) => log.push_str(&line),
                Err(_) => panic!("{what:?} was not logged:\n{log}"),
            }
        }
        log
    }

    /// Waits for its end. What it printed before it listened is in [`Self::greeting`].
    pub fn finish(mut self) -> Finished {
        self.running.take().expect("running").finish(PATIENCE)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}
