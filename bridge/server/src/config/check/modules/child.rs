//! Modules that run as child processes: what is started, and how many.

use std::num::NonZeroU16;

use super::super::super::raw::{self, At};
use super::super::{Checker, span};
use crate::module_host::ChildSpec;

/// Keys that only child processes have.
pub(super) const KEYS: &[&str] = &["command", "warm", "sessions", "max_processes"];

/// Where they stand, if they are there; but for `command`.
pub(super) fn spans(raw: &raw::Module) -> [(&'static str, Option<std::ops::Range<usize>>); 3] {
    [
        ("warm", span(&raw.warm)),
        ("sessions", span(&raw.sessions)),
        ("max_processes", span(&raw.max_processes)),
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
            ..ChildSpec::new(name, command.get_ref().clone())
        }
    }
}
