//! Modules that run as child processes: what is started, and how many.

use std::num::NonZeroU16;

use ringback_proto::provider::Secret;

use super::super::super::raw::{self, At};
use super::super::{Checker, span};
use crate::module_host::{ChildSpec, Launch, Limits, Surroundings};

const LEAST_MEMORY: u64 = 16 << 20;

/// Keys that only child processes have.
pub(super) const KEYS: &[&str] = &[
    "command",
    "warm",
    "sessions",
    "max_processes",
    "env",
    "inherit_env",
    "dir",
    "watch",
    "memory_limit",
    "max_files",
    "nice",
];

/// Where they stand, if they are there; but for `command`.
pub(super) fn spans(raw: &raw::Module) -> [(&'static str, Option<std::ops::Range<usize>>); 10] {
    [
        ("warm", span(&raw.warm)),
        ("sessions", span(&raw.sessions)),
        ("max_processes", span(&raw.max_processes)),
        ("env", raw.env.values().next().map(At::span)),
        ("inherit_env", raw.inherit_env.first().map(At::span)),
        ("dir", span(&raw.dir)),
        ("watch", raw.watch.first().map(At::span)),
        ("memory_limit", span(&raw.memory_limit)),
        ("max_files", span(&raw.max_files)),
        ("nice", span(&raw.nice)),
    ]
}

impl Checker<'_> {
    /// `most` is how many processes there may be if nothing is said.
    pub(super) fn child(
        &mut self,
        command: &At<Vec<String>>,
        raw: &raw::Module,
        most: usize,
    ) -> ChildSpec {
        if command.get_ref().first().is_none_or(String::is_empty) {
            let help = "found no program, expected a list such as [\"python3\", \"module.py\"]";
            self.problem(command.span(), help);
        }
        let name = raw.name.as_ref().map(|at| at.get_ref().clone()).unwrap_or_default();
        let warm = self.number(raw.warm.as_ref(), 0..=1_000, 0);
        let sessions = raw.sessions.as_ref().map(|at| self.number(Some(at), 1..=1_000, 1));
        let most = most.saturating_add(warm);
        let max_processes = self.number(raw.max_processes.as_ref(), 1..=100_000, most);
        if let Some(at) = raw.warm.as_ref().filter(|_| warm > max_processes) {
            let more = format!("{warm} processes are more than `max_processes`, {max_processes}");
            self.problem(at.span(), more);
        }
        ChildSpec {
            warm,
            sessions: sessions.and_then(|n| NonZeroU16::new(n.min(1_000) as u16)),
            max_processes,
            launch: self.launch(raw),
            watch: raw.watch.iter().map(|at| at.get_ref().into()).collect(),
            ..ChildSpec::new(name, command.get_ref().clone())
        }
    }

    fn launch(&mut self, raw: &raw::Module) -> Launch {
        let env = raw.env.iter().map(|(name, at)| {
            if name.is_empty() || name.contains(['=', '\0']) || name == "RINGBACK_STDIO" {
                self.problem(at.span(), format!("{name:?} is no name for a variable of a module"));
            }
            (name.clone(), self.variable(at))
        });
        let env = env.collect();
        if let Some(at) = raw.dir.as_ref().filter(|at| at.get_ref().is_empty()) {
            self.problem(at.span(), "expected a folder, such as \"/srv/stt\"");
        }
        Launch {
            env,
            surroundings: self.surroundings(raw),
            dir: raw.dir.as_ref().map(|at| at.get_ref().into()),
            limits: self.process_limits(raw),
        }
    }

    /// Which variables of the bridge's a program gets; what is withheld of them is known when all of the file was read.
    pub(super) fn surroundings(&mut self, raw: &raw::Module) -> Surroundings {
        for at in &raw.inherit_env {
            let name = at.get_ref().strip_suffix('*').unwrap_or(at.get_ref());
            if at.get_ref().is_empty() || name.contains(['=', '\0', '*']) {
                let help =
                    "is no name of a variable; a `*` at its end stands for all that begin so";
                self.problem(at.span(), format!("{:?} {help}", at.get_ref()));
            }
        }
        let inherited = raw.inherit_env.iter().map(|at| at.get_ref().clone()).collect();
        Surroundings { inherited, withheld: Vec::new() }
    }

    /// Written here, or, where it is secret, where it is kept.
    fn variable(&mut self, at: &At<String>) -> Secret {
        let is_kept = |place: &str| at.get_ref().starts_with(place);
        if is_kept("env:") || is_kept("file:") {
            self.resolve(at)
        } else {
            Secret::from(at.get_ref().as_str())
        }
    }

    fn process_limits(&mut self, raw: &raw::Module) -> Limits {
        let given = [
            ("memory_limit", span(&raw.memory_limit)),
            ("max_files", span(&raw.max_files)),
            ("nice", span(&raw.nice)),
        ];
        if !cfg!(target_os = "linux") {
            for (key, at) in given {
                let why = format!(
                    "`{key}` works on Linux only: other systems limit no process that runs"
                );
                at.into_iter().for_each(|at| self.problem(at, &*why));
            }
        }
        let memory = raw.memory_limit.as_ref().map(|at| {
            let raw::Size(octets) = *at.get_ref();
            if octets < LEAST_MEMORY {
                self.problem(at.span(), "no program starts within less than \"16MiB\"");
            }
            octets
        });
        let files = raw.max_files.as_ref().map(|at| self.number(Some(at), 16..=1 << 20, 16) as u64);
        let nice = raw.nice.as_ref().map(|at| self.number(Some(at), 0..=19, 0).min(19) as u8);
        Limits { memory, files, nice }
    }
}
