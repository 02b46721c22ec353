//! What a module is left with that is told to stop and has no room for what comes before that. Waits for nobody.

use ringback_proto::session::{FrameBuf, PortId};

use super::{Call, Host, owned};
use crate::module_host::ToHost;

impl Call {
    /// A module that is held up, by a slow disk say, and goes on when the call is over is left with all that it is owed, so that it
    /// loses nothing to the deadline of its stop: as much as the call's ring holds at most. Says whether it was.
    pub(super) fn leave(&mut self, port: PortId) -> bool {
        let Host::Hosted { hosted, stopping, backlog, .. } = &mut self.hosts[port.0] else {
            return false;
        };
        if !hosted.can_be_left() {
            return false;
        }
        let Some((reason, deadline)) = stopping.take() else { return false };
        let mut rest: Vec<_> = backlog.drain(..).collect();
        let mut frame = FrameBuf::default();
        while let Some(given) = self.session.next_frame(port, &mut frame) {
            rest.push(owned(given));
        }
        rest.push(ToHost::Stop { reason, deadline });
        hosted.leave(rest);
        true
    }
}
