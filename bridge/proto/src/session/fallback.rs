//! A module that is given up is followed by another in its place, which goes on where the first was. Decides nothing about when.

use ringback_module::message::Resume;

use super::port::{CALLER, OnFail, PortId, PortPhase, position_of};
use super::{Report, Session};

impl Session {
    /// Starts the module that stands by for one that is gone, if there is one and there is still something to do for it.
    pub(super) fn fall_back(&mut self, failed: PortId) {
        let Some(OnFail::Fallback(to)) = self.ports.get(failed.0).map(|p| p.config.on_fail) else {
            return;
        };
        let waits = self.ports.get(to.0).is_some_and(|port| port.phase == PortPhase::Idle);
        if !waits || self.phase.is_over() {
            return;
        }
        self.report(Report::FellBack { failed, to });
        self.ports[failed.0].replaced = true;
        if self.ports[failed.0].config.hears_private && !self.ports[to.0].config.hears_private {
            // What it was told in private parts of the call is not for who comes after it.
            self.forget_missed(failed);
        }
        let from = &mut self.ports[failed.0];
        let (heard, keys) = (from.heard.hand_over(), from.keys.hand_over());
        self.ports[to.0].heard.take_over(heard);
        self.ports[to.0].keys.take_over(keys);
        let from_ms = self.resume_at(failed);
        self.ports[to.0].voice = self.ports[failed.0].voice;
        self.ports[to.0].filter = self.ports[failed.0].filter;
        let epoch = self.epoch(to);
        let port = &mut self.ports[to.0];
        (port.from_ms, port.acked_ms) = (from_ms, from_ms);
        // From the very beginning it is a session like any other.
        let begun = from_ms > 0 || epoch > 0;
        self.start_port(to, begun.then_some(Resume { token: None, from_ms, epoch }));
    }

    /// Where a module goes on that comes back, or another in its place, in ms of the call: what it acknowledged is not replayed, nor what
    /// the ring no longer holds, nor anything to a filter, whose answers would come too late.
    pub(super) fn resume_at(&self, id: PortId) -> u64 {
        let port = &self.ports[id.0];
        let Some(ring) = self.media.as_ref().and_then(|m| m.heard_by(port.filter, CALLER)) else {
            return port.acked_ms;
        };
        if port.filter.is_some() {
            return ring.rate().millis_of(ring.end());
        }
        let whole = ring.rate().millis_of(ring.start());
        let oldest = whole + u64::from(position_of(whole, ring.rate()) < ring.start());
        port.acked_ms.max(oldest)
    }
}
