//! What a module is left with that is told to stop and has no room for what comes before that, and who hears it then. Waits for nobody.

use ringback_module::message::{Event, FromModule};
use ringback_proto::session::{FrameBuf, PortId};

use super::breaker::Trial;
use super::watch::{Late, Seen};
use super::{Call, Host, owned};
use crate::module_host::ToHost;
use crate::recordings::FINISHED;

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

    /// Lets go of a module, and gives back whether it is worth trying on other calls. One that goes on, with a slow disk say, is heard no
    /// more; but whoever looks on is told once the recording that it makes is finished, for nobody else ever says so.
    pub(super) fn let_go(&mut self, port: PortId) -> Option<Box<Trial>> {
        let host = std::mem::replace(&mut self.hosts[port.0], Host::None);
        let Host::Hosted { hosted, trial, .. } = host else { return None };
        if !hosted.goes_on() {
            return trial;
        }
        let session = &self.session;
        let late = Late {
            provider: session.provider(),
            provider_call: session.provider_call().map(str::to_owned),
            tenant: session.tenant().cloned(),
            route: session.route().map(str::to_owned),
            module: session.port_name(port).to_owned(),
            event: Event::default(),
        };
        let (watchers, call, clock) = (self.watchers.clone(), self.name.clone(), self.clock);
        hosted.bequeath(move |message| match message {
            FromModule::Event(event) if event.name == FINISHED => {
                watchers.see(&call, clock.now(), &Seen::Late(&Late { event, ..late.clone() }));
            }
            _ => {}
        });
        trial
    }
}
