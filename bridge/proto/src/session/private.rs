//! Private parts of a call, in which a card's number is said or pressed, say: what is said and pressed then is for the modules that are
//! named for it and for nobody else. Rings and taps keep the sound from others; this keeps the words and the keys.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use ringback_module::message::{PrivatePart, PrivateState};
use ringback_module::{FromModule, ToModule};

use crate::Instant;
use crate::provider::Digit;

use super::port::PortId;
use super::telling::Audience;
use super::{Action, Report, Session};

/// Parts that are remembered one by one.
const MOST_PARTS: usize = 64;
/// What a module that was given a private part says so long after it may still be about it, where it does not say when that was.
const SETTLE: Duration = Duration::from_secs(2);
/// In the place of a reason that may hold what was said.
const UNTOLD: &str = "not told: in a private part of the call";

/// Who began or ended a private part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrivateBy {
    /// A module.
    Module(PortId),
    /// The caller, by keys.
    Keys,
    /// An operator.
    Operator,
    /// It lasted as long as it may.
    Limit,
    /// The call ended.
    End,
}

impl PrivateBy {
    /// One word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Module(_) => "module",
            Self::Keys => "keys",
            Self::Operator => "operator",
            Self::Limit => "limit",
            Self::End => "end",
        }
    }
}

/// How private parts begin and end, beside by modules and operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateRule {
    /// One begins when the caller presses these; never if there are none.
    pub begin: Vec<Digit>,
    /// One ends when the caller presses these.
    pub end: Vec<Digit>,
    /// One ends by itself after this time.
    pub limit: Duration,
}

impl Default for PrivateRule {
    fn default() -> Self {
        Self { begin: Vec::new(), end: Vec::new(), limit: Duration::from_secs(600) }
    }
}

/// What is left of private parts: nothing but how much there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrivateCounts {
    /// How many there were.
    pub times: u32,
    /// How long they lasted together.
    pub lasted: Duration,
    /// Keys pressed in them.
    pub keys: u64,
    /// Results of modules, and words, that were told to nobody else.
    pub results: u64,
}

#[derive(Debug, Default)]
pub(super) struct Private {
    open: Option<Open>,
    /// What is said without a time may be about the last part until then.
    settled: Instant,
    /// In ms of the call, the last `MOST_PARTS`.
    parts: VecDeque<Range<u64>>,
    /// Keys of the caller, the last of them.
    typed: VecDeque<Digit>,
    counts: PrivateCounts,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    until: Instant,
}

impl Session {
    /// From now on the call is private: sound of both sides, words and keys go to the modules that are named for it; others are given
    /// silence as long, and nothing. Who speaks to the caller goes on speaking. Ends by itself after `limit`, or what the route allows;
    /// begun once more, it lasts so long from now. Nothing happens on a call that is not live.
    pub fn begin_private(&mut self, now: Instant, by: PrivateBy, limit: Option<Duration>) {
        self.now = now;
        if !self.phase.is_live() {
            return;
        }
        let most = self.chosen().map_or(SETTLE, |route| route.private.limit);
        let until = now + limit.unwrap_or(most).min(most);
        if let Some(open) = self.private.as_mut().and_then(|private| private.open.as_mut()) {
            open.until = until;
            return self.report(Report::PrivateAgain(by));
        }
        // What the caller heard so far was for everybody.
        self.run_playout(now);
        let at_ms = self.elapsed_ms(now);
        if let Some(media) = &mut self.media {
            media.hide(now);
        }
        self.protocol.set_private(true);
        let private = self.private.get_or_insert_default();
        private.open = Some(Open { since: now, until });
        private.counts.times += 1;
        if private.parts.len() == MOST_PARTS {
            // Rather one that is too long than one that is forgotten.
            let first = private.parts.pop_front().map_or(0, |part| part.start);
            if let Some(second) = private.parts.front_mut() {
                second.start = first;
            }
        }
        private.parts.push_back(at_ms..u64::MAX);
        self.tell_private(true, at_ms, by);
        self.settle(now);
    }

    /// The call is for everybody again.
    pub fn end_private(&mut self, now: Instant, by: PrivateBy) {
        self.now = now;
        if !self.is_private() {
            return;
        }
        self.run_playout(now);
        if let Some(media) = &mut self.media {
            media.show(now);
        }
        self.protocol.set_private(false);
        self.count_private_part(now, by);
        self.settle(now);
    }

    /// The call is over, and its last part with it. What comes late is for nobody else all the same.
    pub(super) fn close_private(&mut self, now: Instant) {
        if self.is_private() {
            self.count_private_part(now, PrivateBy::End);
        }
    }

    fn count_private_part(&mut self, now: Instant, by: PrivateBy) {
        let at_ms = self.elapsed_ms(now);
        let Some(private) = &mut self.private else { return };
        if let Some(open) = private.open.take() {
            private.counts.lasted += now - open.since;
        }
        if let Some(part) = private.parts.back_mut() {
            part.end = at_ms;
        }
        private.settled = now + SETTLE;
        self.tell_private(false, at_ms, by);
    }

    fn tell_private(&mut self, began: bool, at_ms: u64, by: PrivateBy) {
        let state = if began { PrivateState::Began } else { PrivateState::Ended };
        self.tell_wanting("private", None, &ToModule::Private(PrivatePart { state, at_ms }));
        self.report(Report::Private { began, at_ms, by });
    }

    /// A module that has just begun, or begun again, is told of the parts that end behind where it hears the call from.
    pub(super) fn tell_private_parts(&mut self, id: PortId) {
        let Some(port) = self.ports.get(id.0).filter(|port| port.wants("private")) else { return };
        let from_ms = port.from_ms;
        let parts = self.private.iter().flat_map(|private| private.parts.iter().cloned());
        let parts: Vec<_> = parts.filter(|part| from_ms < part.end).collect();
        for Range { start, end } in parts {
            let began = PrivatePart { state: PrivateState::Began, at_ms: start };
            self.tell(id, ToModule::Private(began));
            if end < u64::MAX {
                let ended = PrivatePart { state: PrivateState::Ended, at_ms: end };
                self.tell(id, ToModule::Private(ended));
            }
        }
    }

    /// Whether the call is private now.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.private.as_ref().is_some_and(|private| private.open.is_some())
    }

    pub(super) fn private_deadline(&self) -> Option<Instant> {
        self.private.as_ref()?.open.as_ref().map(|open| open.until)
    }

    pub(super) fn end_private_when_due(&mut self, now: Instant) {
        if self.private_deadline().is_some_and(|until| until <= now) {
            self.end_private(now, PrivateBy::Limit);
        }
    }

    /// Whether any of that time, in ms of the call, was private, or is.
    pub(super) fn was_private(&self, from_ms: u64, to_ms: u64) -> bool {
        let Some(private) = &self.private else { return false };
        private.open.is_some()
            || private.parts.iter().any(|part| from_ms < part.end && part.start <= to_ms)
    }

    /// Whether what is told now may still be of what was private.
    pub(super) fn is_settling(&self) -> bool {
        self.private.as_ref().is_some_and(|p| p.open.is_some() || self.now < p.settled)
    }

    /// Whether what a module says is not for others: it was given what is private, and may speak of it.
    pub(super) fn keeps_to_itself(&self, id: PortId) -> bool {
        self.ports.get(id.0).is_some_and(|port| port.config.hears_private) && self.is_settling()
    }

    /// Whether a result is about what was private.
    pub(super) fn is_of_private(&self, id: PortId, message: &FromModule) -> bool {
        if self.private.is_none() || !self.ports[id.0].config.hears_private {
            return false;
        }
        let time = match message {
            FromModule::Transcript(words) if words.end_ms > 0 => {
                Some((words.start_ms, words.end_ms))
            }
            FromModule::Dtmf(key) if key.at_ms > 0 => Some((key.at_ms, key.at_ms)),
            FromModule::Vad(vad) if vad.at_ms > 0 => Some((vad.at_ms, vad.at_ms)),
            _ => None,
        };
        match time {
            Some((from, to)) => self.was_private(from, to),
            None => self.keeps_to_itself(id),
        }
    }

    /// Does with a result what has to be done, and tells it to those who may know; says whether `message` was one.
    pub(super) fn handle_private_result(
        &mut self,
        now: Instant,
        id: PortId,
        message: &FromModule,
    ) -> bool {
        match message {
            FromModule::Transcript(words) => self.tell_words(Some(id), words, Audience::Private),
            FromModule::Dtmf(key) => self.tell_key(Some(id), key, Audience::Private),
            FromModule::Vad(vad) => {
                let told = ToModule::Vad(vad.clone());
                self.tell_audience("vad", Some(id), &told, Audience::Private);
                self.barge_in_by(now, vad);
            }
            FromModule::Error(error) if error.fatal => {
                self.actions.push_back(Action::DropModule { port: id });
                self.module_failed(now, id, UNTOLD);
            }
            FromModule::Turn(_)
            | FromModule::Event(_)
            | FromModule::Log(_)
            | FromModule::Metric(_)
            | FromModule::Error(_) => {}
            _ => return false,
        }
        self.ports[id.0].results += 1;
        self.count_private_result();
        true
    }

    /// A module's words as a reason that others may read.
    pub(super) fn reason_for_all<'r>(&self, id: PortId, reason: &'r str) -> &'r str {
        if self.keeps_to_itself(id) { UNTOLD } else { reason }
    }

    pub(super) fn count_private_result(&mut self) {
        if let Some(private) = &mut self.private {
            private.counts.results += 1;
        }
    }

    pub(super) fn count_private_key(&mut self) {
        if let Some(private) = &mut self.private {
            private.counts.keys += 1;
        }
    }

    /// The caller pressed a key: it may be the last of those that begin a private part, or end one.
    pub(super) fn follow_keys(&mut self, now: Instant, key: Digit) {
        let Some(rule) = self.chosen().map(|route| &route.private) else { return };
        let longest = rule.begin.len().max(rule.end.len());
        if longest == 0 {
            return;
        }
        let wanted = if self.is_private() { rule.end.clone() } else { rule.begin.clone() };
        let typed = &mut self.private.get_or_insert_default().typed;
        typed.push_back(key);
        if typed.len() > longest {
            typed.pop_front();
        }
        let last = typed.iter().rev().take(wanted.len());
        if wanted.is_empty() || !last.eq(wanted.iter().rev()) {
            return;
        }
        typed.clear();
        if self.is_private() {
            self.end_private(now, PrivateBy::Keys);
        } else {
            self.begin_private(now, PrivateBy::Keys, None);
        }
    }

    /// What there was of it, if there was any.
    pub(super) fn private_counts(&self) -> Option<PrivateCounts> {
        let counts = self.private.as_ref()?.counts;
        (counts.times > 0).then_some(counts)
    }
}
