//! Whether the caller agrees to be recorded: kept for who comes later, and told to who wants to know. Records nothing.

use ringback_module::ToModule;
use ringback_module::message::{Consent, ConsentGiven};

use crate::Instant;

use super::port::PortId;
use super::{Report, Session};

/// Characters of a reason that are kept.
const MOST_WORDS: usize = 200;

impl Session {
    /// The caller agreed to be recorded, or no longer does, as a module says or, without one, an operator. What was said last holds;
    /// nothing happens on a call that is not live.
    pub fn consent(&mut self, now: Instant, by: Option<PortId>, consent: &Consent) {
        self.now = now;
        if !self.phase.is_live() {
            return;
        }
        let by = by.map_or("operator", |id| self.port_name(id)).to_owned();
        let how = consent.how.chars().take(MOST_WORDS).collect();
        let given = ConsentGiven { given: consent.given, at_ms: self.elapsed_ms(now), by, how };
        self.consent = Some(Box::new(given.clone()));
        self.tell_wanting("consent", None, &ToModule::Consent(given.clone()));
        self.report(Report::Consent(given));
        self.settle(now);
    }

    /// A module that has just begun, or begun again, is told what holds.
    pub(super) fn tell_consent(&mut self, id: PortId) {
        let wants = self.ports.get(id.0).is_some_and(|port| port.wants("consent"));
        if let Some(consent) = self.consent.clone().filter(|_| wants) {
            self.tell(id, ToModule::Consent(*consent));
        }
    }
}
