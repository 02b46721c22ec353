//! Sound that comes before its stream has started, kept for a while. Media and control take different ways through some
//! providers and have been seen to arrive in either order.

use std::collections::VecDeque;

use super::{EarlyMedia, Event, Notice, Outbox};
use crate::Instant;

/// What came too early, with its message boundaries.
pub(super) struct Early {
    policy: EarlyMedia,
    since: Option<Instant>,
    messages: VecDeque<Vec<u8>>,
    octets: usize,
}

impl Early {
    /// A second of the highest usual rate.
    const MOST_OCTETS: usize = 48_000;

    pub(super) const fn new(policy: EarlyMedia) -> Self {
        Self { policy, since: None, messages: VecDeque::new(), octets: 0 }
    }

    /// Keeps a message or says that it is dropped.
    pub(super) fn keep(&mut self, now: Instant, octets: &[u8], out: &mut Outbox) {
        let fits = self.octets + octets.len() <= Self::MOST_OCTETS;
        if self.policy == EarlyMedia::Drop || !fits {
            let octets = octets.len();
            out.event(Event::Notice(Notice::EarlyMedia { octets }));
            return;
        }
        self.since.get_or_insert(now);
        self.octets += octets.len();
        self.messages.push_back(octets.to_vec());
    }

    /// When what is kept becomes worthless.
    pub(super) fn expires(&self) -> Option<Instant> {
        match self.policy {
            EarlyMedia::Hold(time) => self.since.map(|since| since + time),
            EarlyMedia::Drop => None,
        }
    }

    /// Drops what has become worthless.
    pub(super) fn expire(&mut self, now: Instant, out: &mut Outbox) {
        if self.expires().is_some_and(|at| at <= now) {
            out.event(Event::Notice(Notice::EarlyMedia { octets: self.octets }));
            *self = Self::new(self.policy);
        }
    }

    /// The stream has started: what is kept is sound of it.
    pub(super) fn release(&mut self) -> VecDeque<Vec<u8>> {
        std::mem::replace(self, Self::new(self.policy)).messages
    }
}
