//! A call that loses its stream and goes on with another: what is kept meanwhile, and how the next stream takes over. Knows no socket,
//! and not which streams may.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Instant;
use crate::provider::{Command, Event, Message, Outbox, Protocol, ProtocolError, Start};

use super::state::Phase;
use super::{Action, EndReason, Report, Session, absorb};

/// What the start of a stream is asked about ([`Action::Claim`]), and all that came with it.
pub(super) struct Claim {
    inbox: Outbox,
    /// Which of the events in it is the start.
    at: usize,
}

impl Claim {
    fn start(&self) -> Option<&Start> {
        match self.inbox.events().get(self.at) {
            Some(Event::Started(start)) => Some(start),
            _ => None,
        }
    }
}

/// A stream that has started, without the session that it came to: for [`Session::reattach`].
pub struct Takeover {
    protocol: Box<dyn Protocol>,
    outbox: Outbox,
    claim: Box<Claim>,
    actions: VecDeque<Action>,
    arrived: u64,
    early: u64,
}

/// A wire that is not there: takes whatever it is told, and nothing comes of it.
struct Nowhere;

impl Protocol for Nowhere {
    fn handle_message(
        &mut self,
        _: Instant,
        _: Message<'_>,
        _: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        Ok(())
    }

    fn handle_command(
        &mut self,
        _: Instant,
        _: Command<'_>,
        _: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        Ok(())
    }
}

/// Whether a call that started so can go on with another stream. One of words cannot: what was being spoken is the provider's to know.
fn is_kept(start: &Start) -> bool {
    start.call.is_some() && !start.capabilities.text
}

impl Session {
    /// Takes in what happened, from event `from` on. A start that may be that of a call which lost its stream is asked about first:
    /// gives its number, and nothing behind it was taken in.
    pub(super) fn take_events(
        &mut self,
        now: Instant,
        inbox: &Outbox,
        from: usize,
    ) -> Option<usize> {
        for (index, event) in inbox.events().iter().enumerate().skip(from) {
            if let (Event::Started(start), Phase::AwaitingStart { .. }) = (event, &self.phase)
                && self.config.reattach.is_some()
                && (is_kept(start) || self.config.guest)
                && self.claim.is_none()
            {
                return Some(index);
            }
            self.handle_event(now, event, inbox);
        }
        None
    }

    /// Asks whose the stream is that started with event `at`.
    pub(super) fn ask(&mut self, inbox: Outbox, at: usize) {
        self.claim = Some(Box::new(Claim { inbox, at }));
        self.actions.push_back(Action::Claim);
    }

    /// What is known of the stream that [`Action::Claim`] asks about.
    #[must_use]
    pub fn claiming(&self) -> Option<&Start> {
        self.claim.as_ref()?.start()
    }

    /// The stream that [`Action::Claim`] asked about is a call of its own. Assumed if anything else happens before an answer.
    pub fn begin_call(&mut self, now: Instant) {
        let Some(claim) = self.claim.take() else { return };
        let Claim { mut inbox, at } = *claim;
        if let Some(Event::Started(start)) = inbox.events().get(at) {
            self.handle_started(now, start);
        }
        self.take_events(now, &inbox, at + 1);
        inbox.reset();
        self.inbox = inbox;
        self.settle(now);
    }

    /// The stream that [`Action::Claim`] asked about is another session's, which goes on with what this gives. Nothing is left of this
    /// one: it has ended, without a summary.
    pub fn hand_over(&mut self) -> Option<Box<Takeover>> {
        let claim = self.claim.take()?;
        self.phase = Phase::Ended;
        Some(Box::new(Takeover {
            protocol: std::mem::replace(&mut self.protocol, Box::new(Nowhere)),
            outbox: std::mem::take(&mut self.outbox),
            claim,
            actions: std::mem::take(&mut self.actions),
            arrived: self.wire.arrived,
            early: self.wire.early,
        }))
    }

    /// The socket was lost, which says nothing about the call: it waits for another stream where [`SessionConfig::reattach`] allows,
    /// and ends where it does not.
    ///
    /// [`SessionConfig::reattach`]: super::SessionConfig::reattach
    pub fn handle_lost(&mut self, now: Instant, reason: String) {
        let kept = self.start.as_deref().is_some_and(is_kept);
        let (Phase::Streaming { since, deadline }, Some(window), true) =
            (&self.phase, self.config.reattach, kept)
        else {
            return self.handle_closed(now, Err(reason));
        };
        let (since, deadline) = (*since, *deadline);
        self.now = now;
        self.detach(now);
        self.report(Report::Detached { reason: reason.clone(), window });
        self.phase = Phase::Detached { since, deadline, at: now, until: now + window, reason };
        self.settle(now);
    }

    /// Lets go of the stream.
    fn detach(&mut self, now: Instant) {
        // What is not sent now never is, and what would be sent waits.
        self.sent(false);
        self.protocol = Box::new(Nowhere);
        self.run_playout(now);
        if let Some(media) = &mut self.media {
            media.detach(now);
        }
        self.run_filters(now);
    }

    /// Whether it has no stream, and waits for another.
    #[must_use]
    pub fn is_detached(&self) -> bool {
        matches!(self.phase, Phase::Detached { .. })
    }

    /// Goes on with another stream of the same call, which must be of the same shape ([`Start`]'s formats, tracks and capabilities),
    /// in the place of one that was lost or is replaced now. Says no if the call is over.
    pub fn reattach(&mut self, now: Instant, stream: Takeover) -> bool {
        if !self.phase.is_live() {
            return false;
        }
        self.now = now;
        let Takeover { protocol, outbox, claim, actions, arrived, early } = stream;
        let lost_at = match self.phase {
            Phase::Detached { since, deadline, at, .. } => {
                self.phase = Phase::Streaming { since, deadline };
                Some(at)
            }
            _ => {
                self.detach(now);
                None
            }
        };
        self.protocol = protocol;
        self.protocol.set_private(self.is_private());
        self.actions.extend(actions);
        self.wire.arrived += arrived;
        self.wire.early += early;
        self.reattached += 1;
        self.start = claim.start().cloned().map(Box::new).or(self.start.take());
        if let Some(media) = &mut self.media {
            media.attach(now);
        }
        let away = lost_at.map_or(Duration::ZERO, |at| now - at);
        self.report(Report::Reattached { away, replaced: lost_at.is_none() });
        // Answers to the start come before whatever is played.
        absorb(&mut self.outbox, &outbox);
        self.take_events(now, &claim.inbox, claim.at + 1);
        self.settle(now);
        true
    }

    /// No other stream came in time.
    pub(super) fn give_up_waiting(&mut self, now: Instant) {
        let Phase::Detached { until, reason, .. } = &self.phase else { return };
        let reason = if *until <= now {
            EndReason::Socket { reason: reason.clone() }
        } else {
            EndReason::TooLong
        };
        self.closed = true;
        self.end(now, reason);
    }

    /// How long the stream lasted, to now or to when it was lost for good.
    pub(super) fn lasted(&self, now: Instant) -> Duration {
        match &self.phase {
            Phase::Streaming { since, .. } | Phase::Finishing { since, .. } => now - *since,
            Phase::Detached { since, at, .. } => *at - *since,
            _ => Duration::ZERO,
        }
    }
}
