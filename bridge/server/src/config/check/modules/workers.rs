//! Modules that dial in: where, and by which tokens.

use std::ops::Range;

use ringback_proto::provider::Secret;

use super::super::super::{ModuleConfig, ModuleRun, raw};
use super::super::listeners::{PATH_RULE, is_path};
use super::super::{Checker, span};
use crate::module_host::RosterConfig;

const DEFAULT_PATH: &str = "/modules";
const DEFAULT_WORKERS: usize = 64;
const DEFAULT_WAITING: usize = 100;

/// Keys of such a module.
pub(super) const KEYS: &[&str] = &["tokens", "max_workers", "max_waiting", "insecure"];

/// Where those stand that tell no kind.
pub(super) fn spans(raw: &raw::Module) -> [(&'static str, Option<Range<usize>>); 3] {
    [
        ("max_workers", span(&raw.max_workers)),
        ("max_waiting", span(&raw.max_waiting)),
        ("insecure", span(&raw.insecure)),
    ]
}

impl Checker<'_> {
    /// Below which path modules dial in; from here on no listener may have a path there, if any do.
    pub(in super::super) fn worker_path(
        &mut self,
        raw: &raw::File,
        modules: &[ModuleConfig],
    ) -> String {
        let path = match &raw.server.workers {
            None => DEFAULT_PATH.to_owned(),
            Some(at) => {
                let path = at.get_ref();
                if !is_path(path) || path.ends_with('/') {
                    let rule = "and no `/` at its end";
                    self.problem(at.span(), format!("found {path:?}: {PATH_RULE}, {rule}"));
                }
                path.clone()
            }
        };
        if modules.iter().any(|module| matches!(module.run, ModuleRun::Worker(_))) {
            self.door = Some(path.clone());
        }
        path
    }

    /// Whether modules dial in at a path.
    pub(in super::super) fn is_door(&self, path: &str) -> bool {
        let below = |door: &String| path.strip_prefix(door.as_str());
        self.door
            .as_ref()
            .and_then(below)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// `None` if nobody would be let in.
    pub(super) fn worker(&mut self, raw: &raw::Module) -> Option<ModuleRun> {
        let named: Vec<(String, String)> = match raw.tokens.as_ref().map(|at| at.get_ref()) {
            None => Vec::new(),
            Some(raw::Tokens::List(list)) => {
                let names = (1..).map(|number: usize| number.to_string());
                names.zip(list.iter().cloned()).collect()
            }
            Some(raw::Tokens::Named(table)) => {
                table.iter().map(|(name, place)| (name.clone(), place.clone())).collect()
            }
        };
        let mut tokens = Vec::<(String, Secret)>::new();
        if let Some(at) = &raw.tokens {
            if named.is_empty() {
                self.problem(at.span(), "no token is in it: nobody could dial in");
            }
            for (name, place) in named {
                match self.read_secret(&place) {
                    Ok(token) => tokens.push((name, token)),
                    Err(problem) => self.problem(at.span(), problem),
                }
            }
        }
        let insecure = raw.insecure.as_ref().is_some_and(|at| *at.get_ref());
        if let Some(at) = raw.insecure.as_ref().filter(|_| insecure && raw.tokens.is_some()) {
            self.problem(at.span(), "either `tokens` or `insecure`, found both");
        }
        let max_workers = self.number(raw.max_workers.as_ref(), 1..=1_000, DEFAULT_WORKERS);
        let max_waiting = self.number(raw.max_waiting.as_ref(), 0..=100_000, DEFAULT_WAITING);
        (insecure || raw.tokens.is_some()).then_some(ModuleRun::Worker(RosterConfig {
            tokens,
            max_workers,
            max_waiting,
        }))
    }
}
