//! What a module must not miss though it is away for a moment, words and keys: kept for it until it has taken them. Sound is kept by
//! the ring, once for all modules.

use std::collections::VecDeque;

use crate::ledger::{Drop, Hop, Unit};

/// A message is told so often at most: one at which a module breaks each time it hears it must not break it for ever.
const MOST_TELLINGS: u8 = 2;

/// Messages of one sort for one module, the last `MOST` of them. They count as taken once the module has said anything after it was
/// told.
#[derive(Debug)]
pub(super) struct Missed<T, const MOST: usize> {
    kept: VecDeque<Kept<T>>,
    /// Whether the module wants any, once it has agreed to a session.
    wanted: Option<bool>,
    entered: u64,
    told: u64,
    overwritten: u64,
    call_ended: u64,
    module_gone: u64,
}

#[derive(Debug)]
struct Kept<T> {
    message: T,
    tellings: u8,
}

impl<T, const MOST: usize> Default for Missed<T, MOST> {
    fn default() -> Self {
        Self {
            kept: VecDeque::new(),
            wanted: None,
            entered: 0,
            told: 0,
            overwritten: 0,
            call_ended: 0,
            module_gone: 0,
        }
    }
}

impl<T: Clone + PartialEq, const MOST: usize> Missed<T, MOST> {
    /// This came; `told` if the module hears it now. Says how many messages are lost with it.
    pub(super) fn push(&mut self, message: &T, told: bool) -> u64 {
        if self.wanted == Some(false) {
            return 0;
        }
        self.entered += 1;
        self.told += u64::from(told);
        self.kept.push_back(Kept { message: message.clone(), tellings: told.into() });
        let oldest = if self.kept.len() > MOST { self.kept.pop_front() } else { None };
        let lost = u64::from(oldest.is_some_and(|kept| kept.tellings == 0));
        self.overwritten += lost;
        lost
    }

    /// The module said something: what it was told has arrived.
    pub(super) fn taken(&mut self) {
        if !self.kept.is_empty() {
            self.kept.retain(|kept| kept.tellings == 0);
        }
    }

    /// The module was to be told this, and does not read. Says whether it is kept for later.
    pub(super) fn refused(&mut self, message: &T) -> bool {
        let told = self.kept.iter_mut().rev().find(|kept| kept.message == *message);
        let Some(kept) = told.filter(|kept| kept.tellings > 0) else { return false };
        kept.tellings -= 1;
        self.told -= u64::from(kept.tellings == 0);
        true
    }

    /// The module has agreed to a session: gives all that it missed, if it wants any of it.
    pub(super) fn tell(&mut self, wanted: bool) -> Vec<T> {
        self.wanted = Some(wanted);
        if !wanted {
            self.entered -= self.untold();
            self.kept.clear();
        }
        self.kept.retain(|kept| kept.tellings < MOST_TELLINGS);
        self.tell_those(|_| true)
    }

    /// The module reads again: gives what it refused.
    pub(super) fn tell_refused(&mut self) -> Vec<T> {
        self.tell_those(|kept| kept.tellings == 0)
    }

    fn tell_those(&mut self, which: impl Fn(&Kept<T>) -> bool) -> Vec<T> {
        let mut telling = Vec::new();
        for kept in self.kept.iter_mut().filter(|kept| which(kept)) {
            self.told += u64::from(kept.tellings == 0);
            kept.tellings += 1;
            telling.push(kept.message.clone());
        }
        telling
    }

    /// Another module goes on in the place of this one: gives it all that was not taken.
    pub(super) fn hand_over(&mut self) -> Vec<T> {
        self.entered -= self.untold();
        self.kept.drain(..).map(|kept| kept.message).collect()
    }

    /// Goes on in the place of another one.
    pub(super) fn take_over(&mut self, messages: Vec<T>) {
        self.entered += messages.len() as u64;
        self.kept.extend(messages.into_iter().map(|message| Kept { message, tellings: 0 }));
    }

    /// The module will not come back. Says how many messages it was never told, and why they are lost.
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

    /// The account of what is called `what`, if there is one.
    pub(super) fn hop(&self, module: &str, what: &str) -> Option<Hop> {
        (self.entered > 0).then(|| {
            let name = format!("module.{module}.{what}");
            Hop::new(name, Unit::Messages, self.entered, self.told, self.untold())
                .dropping(Drop::Overwritten, self.overwritten)
                .dropping(Drop::CallEnded, self.call_ended)
                .dropping(Drop::ModuleGone, self.module_gone)
        })
    }
}
