//! What the caller said, kept for one module until it has taken it: a module that is being started again is told what it missed.
//! Words only; sound is kept by the ring, once for all modules.

use std::collections::VecDeque;

use ringback_module::message::Transcript;

use crate::ledger::{Drop, Hop, Unit};

/// Utterances kept for a module. One more, and the oldest is forgotten.
const MOST: usize = 16;
/// An utterance is told so often at most: one at which a module breaks each time it hears it must not break it for ever.
const MOST_TELLINGS: u8 = 2;

/// The caller's utterances for one module. They count as taken once the module has said anything after it was told.
#[derive(Debug, Default)]
pub(super) struct Utterances {
    kept: VecDeque<Kept>,
    /// Whether the module wants any, once it has agreed to a session.
    wanted: Option<bool>,
    entered: u64,
    told: u64,
    overwritten: u64,
    call_ended: u64,
    module_gone: u64,
}

#[derive(Debug)]
struct Kept {
    transcript: Transcript,
    tellings: u8,
}

impl Utterances {
    /// The caller said this; `told` if the module hears it now. Says how many utterances are lost with it.
    pub(super) fn push(&mut self, transcript: &Transcript, told: bool) -> u64 {
        if self.wanted == Some(false) {
            return 0;
        }
        self.entered += 1;
        self.told += u64::from(told);
        self.kept.push_back(Kept { transcript: transcript.clone(), tellings: told.into() });
        let oldest = if self.kept.len() > MOST { self.kept.pop_front() } else { None };
        let lost = u64::from(oldest.is_some_and(|kept| kept.tellings == 0));
        self.overwritten += lost;
        lost
    }

    /// The module said something: what it was told has arrived.
    pub(super) fn taken(&mut self) {
        self.kept.retain(|kept| kept.tellings == 0);
    }

    /// The module has agreed to a session: gives all that it missed, if it wants any of it.
    pub(super) fn tell(&mut self, wanted: bool) -> Vec<Transcript> {
        self.wanted = Some(wanted);
        if !wanted {
            self.entered -= self.untold();
            self.kept.clear();
        }
        self.kept.retain(|kept| kept.tellings < MOST_TELLINGS);
        self.told += self.untold();
        let telling = self.kept.iter_mut().map(|kept| {
            kept.tellings += 1;
            kept.transcript.clone()
        });
        telling.collect()
    }

    /// Another module goes on in the place of this one: gives it all that was not taken.
    pub(super) fn hand_over(&mut self) -> Vec<Transcript> {
        self.entered -= self.untold();
        self.kept.drain(..).map(|kept| kept.transcript).collect()
    }

    /// Goes on in the place of another one.
    pub(super) fn take_over(&mut self, heard: Vec<Transcript>) {
        self.entered += heard.len() as u64;
        self.kept.extend(heard.into_iter().map(|transcript| Kept { transcript, tellings: 0 }));
    }

    /// The module will not come back. Says how many utterances it was never told, and why they are lost.
    pub(super) fn give_up(&mut self, call_ended: bool) -> (Drop, u64) {
        let lost = self.untold();
        self.kept.clear();
        let (counter, reason) = if call_ended {
            (&mut self.call_ended, Drop::CallEnded)
        } else {
            (&mut self.module_gone, Drop::ModuleGone)
        };
        *counter += lost;
        (reason, lost)
    }

    fn untold(&self) -> u64 {
        self.kept.iter().filter(|kept| kept.tellings == 0).count() as u64
    }

    /// The account, if there is one.
    pub(super) fn hop(&self, module: &str) -> Option<Hop> {
        let name = format!("module.{module}.text");
        let hop = || Hop::new(name, Unit::Messages, self.entered, self.told, self.untold());
        (self.entered > 0).then(|| {
            hop()
                .dropping(Drop::Overwritten, self.overwritten)
                .dropping(Drop::CallEnded, self.call_ended)
                .dropping(Drop::ModuleGone, self.module_gone)
        })
    }
}
