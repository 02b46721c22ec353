//! How a child process is started: its surroundings, and what of the machine it may use. Speaks to none.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use ringback_proto::provider::Secret;
use tokio::process::{Child, Command};

use super::ChildSpec;
use crate::module_host::surroundings::Surroundings;
use crate::module_host::talk::End;

/// What a process finds around it, and what it may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Launch {
    /// Variables beside or in the place of the bridge's.
    pub env: Vec<(String, Secret)>,
    /// What it gets of the bridge's.
    pub surroundings: Surroundings,
    /// Its working directory, in the place of the bridge's.
    pub dir: Option<PathBuf>,
    /// Its limits.
    pub limits: Limits,
}

/// What a process may use of the machine. Only Linux can limit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Octets of memory of its own (`RLIMIT_DATA`): it is refused more than that.
    pub memory: Option<u64>,
    /// Descriptors.
    pub files: Option<u64>,
    /// How much it stands back when others want the processor, 0 to 19.
    pub nice: Option<u8>,
}

pub(super) fn spawn(spec: &ChildSpec) -> Result<Child, End> {
    let Some((program, arguments)) = spec.command.split_first() else {
        return Err(End::Over(Some("its command is empty; name a program".into())));
    };
    let launch = &spec.launch;
    let mut command = Command::new(program);
    launch.surroundings.enclose(&mut command);
    if let Some(dir) = &launch.dir {
        command.current_dir(dir);
    }
    command
        .args(arguments)
        .envs(launch.env.iter().map(|(name, value)| (name, value.expose())))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Tells an SDK that standard output is the contract's from the first octet, imports included.
        .env("RINGBACK_STDIO", "1")
        .kill_on_drop(true);
    // Ctrl-C at a terminal goes to the whole group; the bridge drains then, and needs its modules for that.
    #[cfg(unix)]
    command.process_group(0);
    let child = command.spawn().map_err(|error| cannot(spec, program, &error))?;
    limit(&child, launch.limits)?;
    Ok(child)
}

fn cannot(spec: &ChildSpec, program: &str, error: &std::io::Error) -> End {
    if let Some(dir) = spec.launch.dir.as_ref().filter(|dir| !dir.is_dir()) {
        let dir = dir.display();
        return End::Over(Some(format!("cannot start {program}: its `dir`, {dir}, is no folder")));
    }
    let reason = format!("cannot start {program}: {error}");
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => {
            End::Over(Some(reason))
        }
        _ => End::failed(reason),
    }
}

/// Limits a process that runs already: to do it in between takes code that runs after a fork, which is not safe. So it has its
/// first moment without them, too short for an interpreter to start in; what it got then stays its own, and counts.
#[cfg(target_os = "linux")]
fn limit(child: &Child, limits: Limits) -> Result<(), End> {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setpriority_process};
    let Some(pid) = child.id().and_then(|id| Pid::from_raw(id as i32)) else { return Ok(()) };
    let failed = |what: &str, error: rustix::io::Errno| {
        End::Over(Some(format!("cannot limit its {what}: {error}")))
    };
    let resources =
        [("memory", Resource::Data, limits.memory), ("files", Resource::Nofile, limits.files)];
    for (what, resource, most) in resources {
        let Some(most) = most else { continue };
        // Only who has the privilege may raise what the system says; it then holds as it is.
        let most = Some(getrlimit(resource).maximum.map_or(most, |system| system.min(most)));
        let limited = prlimit(Some(pid), resource, Rlimit { current: most, maximum: most });
        limited.map_err(|error| failed(what, error))?;
    }
    if let Some(nice) = limits.nice {
        setpriority_process(Some(pid), nice.into()).map_err(|error| failed("priority", error))?;
    }
    Ok(())
}

/// The configuration is refused before it comes to that.
#[cfg(not(target_os = "linux"))]
fn limit(_: &Child, limits: Limits) -> Result<(), End> {
    if limits == Limits::default() {
        return Ok(());
    }
    Err(End::Over(Some("processes are limited on Linux only".into())))
}

/// How a process ended. `last_line` is what it printed last; whoever was refused memory often says so.
pub(super) fn exit_text(status: ExitStatus, last_line: Option<&str>, limits: Limits) -> String {
    let quote = last_line.map(|line| format!(": {line}")).unwrap_or_default();
    let text = format!("{}{quote}", how(status));
    match (limits.memory, memory(status, last_line)) {
        (_, Memory::Enough) => text,
        (Some(limit), Memory::Refused) => {
            format!("{text}; its memory is limited to {} MiB", limit >> 20)
        }
        (None, Memory::Refused) => format!("{text}; it ran out of memory"),
        (_, Memory::Killed) => {
            format!("{text}, and not by the bridge; the system does so when it runs out of memory")
        }
    }
}

/// What the end of a process has to do with memory, as far as can be told.
enum Memory {
    Enough,
    Refused,
    Killed,
}

fn memory(status: ExitStatus, last_line: Option<&str>) -> Memory {
    /// What runtimes say that are refused memory: Python, C++, Rust, Node.js and Go, and the C library.
    const WORDS: [&str; 6] = [
        "MemoryError",
        "std::bad_alloc",
        "memory allocation of",
        "heap out of memory",
        "out of memory",
        "Cannot allocate memory",
    ];
    #[cfg(unix)]
    if std::os::unix::process::ExitStatusExt::signal(&status) == Some(9) {
        return Memory::Killed;
    }
    let says = |line: &str| WORDS.iter().any(|word| line.contains(word));
    if !status.success() && last_line.is_some_and(says) { Memory::Refused } else { Memory::Enough }
}

/// In a few words.
pub(in super::super) fn how(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("killed by signal {signal}");
    }
    match status.code() {
        Some(code) => format!("exited with status {code}"),
        None => "exited".to_owned(),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn the_end_of_a_process_says_what_it_has_to_do_with_memory() {
        let limited = Limits { memory: Some(512 << 20), ..Limits::default() };
        let (signal, code) = (ExitStatus::from_raw, |code: i32| ExitStatus::from_raw(code << 8));
        for (status, line, limits, text) in [
            (code(3), None, limited, "exited with status 3"),
            (code(0), Some("MemoryError"), limited, "exited with status 0: MemoryError"),
            (
                code(1),
                Some("MemoryError"),
                limited,
                "exited with status 1: MemoryError; its memory is limited to 512 MiB",
            ),
            (
                signal(6),
                Some("memory allocation of 7 bytes failed"),
                Limits::default(),
                "killed by signal 6: memory allocation of 7 bytes failed; it ran out of memory",
            ),
            (signal(11), Some("x"), limited, "killed by signal 11: x"),
            (
                signal(9),
                None,
                limited,
                "killed by signal 9, and not by the bridge; the system does so when it runs out of memory",
            ),
        ] {
            assert_eq!(exit_text(status, line, limits), text);
        }
    }
}
