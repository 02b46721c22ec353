//! One run of a child process, from spawn to its end: the contract over its standard streams. Starts nothing again.

use std::process::Stdio;

use ringback_module::message::Start;
use ringback_module::wire::{FrameKind, FrameReader};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::listen::Listener;
use super::stderr::{LastLine, log_lines};
use super::talk::{Broken, Carry, End, GRACE, Talk};
use super::{ChildSpec, FromHost, Inbox};

/// Octets read at once.
const PIECE: usize = 16 * 1024;

/// Starts the process and its session and serves both until either ends.
pub(super) async fn run(
    spec: &ChildSpec,
    start: &Start,
    to: &mut Inbox,
    from: &mpsc::Sender<FromHost>,
) -> End {
    let mut child = match spawn(spec) {
        Ok(child) => child,
        Err(end) => return end,
    };
    let last_line = LastLine::default();
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return End::Over(Some("the process has no streams; a fault of the bridge".into()));
    };
    let log = tokio::spawn(log_lines(spec.name.clone(), stderr, last_line.clone()));
    let talk = Talk::new(&spec.name, start, from);
    // All streams are closed after this.
    match serve(&talk, stdin, stdout, to).await {
        Some(End::Failed(failure)) => {
            let _ = child.start_kill();
            talk.failed(failure)
        }
        Some(end) => {
            let name = spec.name.clone();
            tokio::spawn(async move { leave(&name, child).await });
            end
        }
        None => {
            let status = leave(&spec.name, child).await;
            // What it printed last often says why; a grandchild may keep stderr open, so do not wait for ever.
            let _ = timeout(GRACE, log).await;
            let quote = last_line.quote().map(|line| format!(": {line}")).unwrap_or_default();
            talk.failed(format!("{status}{quote}").into())
        }
    }
}

/// `None` if the process closed its stdout; most likely it is no more.
async fn serve(
    talk: &Talk<'_>,
    stdin: ChildStdin,
    stdout: ChildStdout,
    to: &mut Inbox,
) -> Option<End> {
    // Unbiased: whoever is always ready must not keep the others from their turn.
    tokio::select! {
        end = listen(talk, stdout) => end,
        end = talk.write(Stdin(stdin), to) => Some(end),
        end = talk.watch() => Some(end),
    }
}

async fn listen(talk: &Talk<'_>, mut stdout: ChildStdout) -> Option<End> {
    let mut listener = Listener::new(talk);
    let mut frames = FrameReader::new();
    let mut piece = vec![0; PIECE];
    loop {
        let len = match stdout.read(&mut piece).await {
            Ok(0) => return None,
            Ok(len) => len,
            Err(error) => {
                return Some(End::failed(format!("its stdout cannot be read: {error}")));
            }
        };
        talk.seen_alive();
        frames.push(&piece[..len]);
        loop {
            let heard = match frames.next_frame() {
                Ok(Some(frame)) => listener.frame(frame),
                Ok(None) => break,
                Err(error) => {
                    return Some(End::failed(format!("does not speak ringback.v1: {error}")));
                }
            };
            let passed = match heard {
                Ok(heard) => listener.pass_on(heard).await,
                Err(end) => Err(end),
            };
            if let Err(end) = passed {
                return Some(end);
            }
        }
    }
}

struct Stdin(ChildStdin);

impl Carry for Stdin {
    const BROKEN: &'static str = "it closed its stdin";

    async fn write(&mut self, _: FrameKind, frame: &[u8]) -> Result<(), Broken> {
        self.0.write_all(frame).await.map_err(|_| Broken)
    }
}

fn spawn(spec: &ChildSpec) -> Result<Child, End> {
    let Some((program, arguments)) = spec.command.split_first() else {
        return Err(End::Over(Some("its command is empty; name a program".into())));
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Tells an SDK that standard output is the contract's from the first octet, imports included.
        .env("RINGBACK_STDIO", "1")
        .kill_on_drop(true);
    // Ctrl-C at a terminal goes to the whole group; the bridge drains then, and needs its modules for that.
    #[cfg(unix)]
    command.process_group(0);
    command.spawn().map_err(|error| {
        let reason = format!("cannot start {program}: {error}");
        match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => {
                End::Over(Some(reason))
            }
            _ => End::failed(reason),
        }
    })
}

/// Sees a process out whose streams are closed, and says how it went.
async fn leave(name: &str, mut child: Child) -> String {
    match timeout(GRACE, child.wait()).await {
        Ok(Ok(status)) => exit_text(status),
        Ok(Err(error)) => format!("its end is not known: {error}"),
        Err(_) => {
            tracing::warn!(module = name, "still running after its session; killed");
            let _ = child.kill().await;
            "it closed its stdout and stayed".to_owned()
        }
    }
}

fn exit_text(status: std::process::ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("killed by signal {signal}");
    }
    match status.code() {
        Some(code) => format!("exited with status {code}"),
        None => "exited".to_owned(),
    }
}
