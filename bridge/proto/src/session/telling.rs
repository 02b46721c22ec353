//! What modules are told in messages, and that each is accounted for: told, kept for one that is away, or counted as lost. Makes no
//! message and knows no sound.

use ringback_module::ToModule;
use ringback_module::message::{Dtmf, Transcript};

use crate::Instant;
use crate::ledger::Drop;

use super::port::{Port, PortId, PortPhase};
use super::{Action, Report, Session};

/// Whom something is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// Every module that wants it.
    All,
    /// Of those, the ones that are given what is said and pressed in private parts of the call.
    Private,
}

impl Audience {
    fn has(self, port: &Port) -> bool {
        self == Self::All || port.config.hears_private
    }
}

impl Session {
    pub(super) fn tell(&mut self, id: PortId, message: ToModule) {
        if let Some(port) = self.ports.get_mut(id.0) {
            port.told += 1;
            self.actions.push_back(Action::TellModule { port: id, message });
        }
    }

    /// Tells every module that asked for it, but the one it comes from.
    pub(super) fn tell_wanting(&mut self, what: &str, from: Option<PortId>, message: &ToModule) {
        self.tell_audience(what, from, message, Audience::All);
    }

    /// Tells those who asked for it and are of the audience, but the one it comes from.
    pub(super) fn tell_audience(
        &mut self,
        what: &str,
        from: Option<PortId>,
        message: &ToModule,
        audience: Audience,
    ) {
        for index in 0..self.ports.len() {
            let port = &self.ports[index];
            if port.wants(what) && audience.has(port) && Some(PortId(index)) != from {
                self.tell(PortId(index), message.clone());
            }
        }
    }

    /// Tells words that were heard, by a module or by the provider. What will not change any more is kept for who is away.
    pub(super) fn tell_words(
        &mut self,
        from: Option<PortId>,
        transcript: &Transcript,
        audience: Audience,
    ) {
        self.tell_audience("text", from, &ToModule::Text(transcript.clone()), audience);
        if transcript.is_final {
            self.keep("text", from, audience, |port, told| port.heard.push(transcript, told));
        }
    }

    /// Tells a key, from the provider or heard by a module.
    pub(super) fn tell_key(&mut self, from: Option<PortId>, key: &Dtmf, audience: Audience) {
        self.tell_audience("dtmf", from, &ToModule::Dtmf(key.clone()), audience);
        self.keep("dtmf", from, audience, |port, told| port.keys.push(key, told));
    }

    /// Keeps a message for each module that wants it, or may when it is here.
    fn keep(
        &mut self,
        what: &str,
        from: Option<PortId>,
        audience: Audience,
        mut push: impl FnMut(&mut Port, bool) -> u64,
    ) {
        let mut count = 0;
        for (index, port) in self.ports.iter_mut().enumerate() {
            let told = port.wants(what);
            let away = matches!(port.phase, PortPhase::Starting | PortPhase::Down);
            if (told || away) && audience.has(port) && Some(PortId(index)) != from {
                count += push(port, told);
            }
        }
        self.dropped(Drop::Overwritten, count);
    }

    /// A module was to be told `message` and does not read; the shell keeps no more for it. What may not be missed is told when it
    /// reads again.
    pub fn message_refused(&mut self, now: Instant, id: PortId, message: &ToModule) {
        self.now = now;
        let Some(port) = self.ports.get_mut(id.0) else { return };
        let kept = match message {
            ToModule::Text(transcript) => port.heard.refused(transcript),
            ToModule::Dtmf(key) => port.keys.refused(key),
            _ => false,
        };
        if kept {
            port.told -= 1;
        } else {
            port.unread += 1;
            self.dropped(Drop::Unread, 1);
        }
    }

    /// A module that refused messages reads again.
    pub fn module_reads(&mut self, now: Instant, id: PortId) {
        self.now = now;
        let Some(port) = self.ports.get_mut(id.0).filter(|p| p.phase == PortPhase::Live) else {
            return;
        };
        let (words, keys) = (port.heard.tell_refused(), port.keys.tell_refused());
        self.tell_late(id, words, keys);
    }

    /// Tells a module that has just begun, or begun again, what it missed.
    pub(super) fn tell_missed(&mut self, id: PortId) {
        let port = &mut self.ports[id.0];
        let (text, dtmf) = (port.wants("text"), port.wants("dtmf"));
        let (words, keys) = (port.heard.tell(text), port.keys.tell(dtmf));
        self.tell_late(id, words, keys);
    }

    fn tell_late(&mut self, id: PortId, words: Vec<Transcript>, keys: Vec<Dtmf>) {
        let messages = words.into_iter().map(ToModule::Text);
        for message in messages.chain(keys.into_iter().map(ToModule::Dtmf)) {
            self.tell(id, message);
        }
    }

    /// A module will not come back: what it missed is lost.
    pub(super) fn forget_missed(&mut self, id: PortId) {
        let call_ended = self.phase.is_over();
        let Some(port) = self.ports.get_mut(id.0) else { return };
        for (reason, count) in [port.heard.give_up(call_ended), port.keys.give_up(call_ended)] {
            self.dropped(reason, count);
        }
    }

    fn dropped(&mut self, reason: Drop, count: u64) {
        if count > 0 {
            self.report(Report::Dropped { reason, count });
        }
    }
}
