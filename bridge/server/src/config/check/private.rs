//! Private parts of a route's calls: who is given what is said in them, and by which keys they begin and end.

use std::time::Duration;

use ringback_proto::provider::Digit;
use ringback_proto::session::PrivateRule;

use super::super::raw::{self, At};
use super::super::{CanaryConfig, ModuleConfig, OnFail};
use super::Checker;

/// Keys that can be asked for in a row.
const MOST_KEYS: usize = 16;

impl Checker<'_> {
    /// The rule, and the names of those who are given all: who stands in for one, or follows it, has to be named as well.
    pub(super) fn private(
        &mut self,
        raw: &raw::Private,
        members: &[String],
        canaries: &[CanaryConfig],
        modules: &[ModuleConfig],
    ) -> (PrivateRule, Vec<String>) {
        let mut known: Vec<&str> = members.iter().map(String::as_str).collect();
        known.extend(canaries.iter().map(|canary| canary.with.as_str()));
        let mut place = 0;
        while let Some(name) = known.get(place) {
            let module = modules.iter().find(|module| module.name == *name);
            if let Some(OnFail::Fallback(next)) = module.map(|module| &module.on_fail)
                && !known.contains(&next.as_str())
            {
                known.push(next);
            }
            place += 1;
        }
        let mut exempt = Vec::new();
        for at in &raw.exempt {
            if !known.contains(&at.get_ref().as_str()) {
                self.unknown(at, "module of this route", known.iter().copied());
            }
            exempt.push(at.get_ref().clone());
        }
        let begin = self.keys(raw.begin.as_ref());
        let end = self.keys(raw.end.as_ref());
        if let (Some(at), None) = (&raw.end, &raw.begin) {
            self.problem(at.span(), "is for what `begin` began: name those keys as well");
        }
        let range = Duration::from_secs(1)..=Duration::from_secs(4 * 3_600);
        let usual = PrivateRule::default().limit;
        let limit = self.time(raw.limit.as_ref(), range, usual);
        (PrivateRule { begin, end, limit }, exempt)
    }

    fn keys(&mut self, at: Option<&At<String>>) -> Vec<Digit> {
        let Some(at) = at else { return Vec::new() };
        let text = at.get_ref();
        let keys: Vec<_> = text.chars().filter_map(Digit::new).collect();
        if keys.is_empty() || keys.len() > MOST_KEYS || keys.len() != text.chars().count() {
            let help =
                format!("found {text:?}, expected 1 to {MOST_KEYS} keys of 0-9, *, # and A-D");
            self.problem(at.span(), help);
        }
        keys
    }
}
