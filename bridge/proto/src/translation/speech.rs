//! A bot's sound on its way to the caller: the provider's queue as the bot knows it, in front of the call's own. Speaks no wire.
//!
//! A provider takes minutes of sound at once, and marks and a clear in between. The call takes less, so the rest waits here; what it
//! took is heard when the call says so, and marks are returned then.

use std::collections::VecDeque;
use std::time::Duration;

use ringback_codecs::{DecodeError, Decoder, MediaFormat, SampleRate, UnsupportedFormat};
use ringback_module::FromModule;
use ringback_module::epoch::Epochs;
use ringback_module::message::Start;

use super::Said;
use crate::Instant;
use crate::ledger::Drop;
use crate::provider::{Capabilities, ClearLaw, FlowControl, PlayoutPolicy};

/// So far ahead of what is heard the call is given sound.
const LEAD: Duration = Duration::from_secs(5);
/// What waits here is never more, whatever the provider would queue.
const MOST: Duration = Duration::from_secs(120);
/// Sound behind which nothing came for so long was the end of an utterance.
const PAUSE: Duration = Duration::from_millis(40);
/// Marks that the call is given at a time; it tells of no more than it keeps.
const MOST_MARKS: usize = 128;
/// Marks that wait; who sets more and plays nothing gets the oldest back.
const MOST_WAITING: usize = 4_096;

/// What waits to be given to the call.
enum Waiting {
    Sound(Vec<i16>),
    Mark(String),
}

/// What the bot is to be told of its playback.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// This mark was reached, or given back by a clear.
    Mark(String),
    /// The queue is full.
    Full,
    /// It takes sound again.
    Writable,
}

/// A bot's voice.
pub(super) struct Speech {
    decoder: Box<dyn Decoder>,
    rate: SampleRate,
    waiting: VecDeque<Waiting>,
    /// Samples of it.
    samples: u64,
    /// What the bot named them, by number, of marks the call has.
    marks: VecDeque<(u64, String)>,
    next_mark: u64,
    epochs: Epochs,
    /// When all that the call was given will have been heard, by estimate.
    until: Instant,
    paused: Option<Instant>,
    limit: Duration,
    flow: Option<FlowControl>,
    is_full: bool,
    law: ClearLaw,
    /// Nothing told the call yet that the utterance is over.
    is_open: bool,
}

impl Speech {
    /// What a bot says in this format to a provider that can do `can`.
    pub(super) fn new(
        format: MediaFormat,
        can: &Capabilities,
        start: &Start,
    ) -> Result<Self, UnsupportedFormat> {
        let limit = match can.playout {
            PlayoutPolicy::Ahead { limit } | PlayoutPolicy::Paced { limit } => limit,
            PlayoutPolicy::None => Duration::ZERO,
        };
        Ok(Self {
            decoder: format.decoder()?,
            rate: format.rate,
            waiting: VecDeque::new(),
            samples: 0,
            marks: VecDeque::new(),
            next_mark: 0,
            epochs: Epochs::new(start),
            until: Instant::ZERO,
            paused: None,
            limit: limit.min(MOST),
            flow: can.flow,
            is_full: false,
            law: can.clear,
            is_open: false,
        })
    }

    /// Sound that the caller has not heard, by estimate.
    fn queued(&self, now: Instant) -> Duration {
        (self.until - self.paused.unwrap_or(now)) + self.rate.duration_of(self.samples)
    }

    /// The bot plays this. Beyond what its provider queues a message is discarded, as there.
    pub(super) fn play(
        &mut self,
        now: Instant,
        payload: &[u8],
        said: &mut VecDeque<Said>,
        told: &mut Vec<Fate>,
    ) -> Result<(), DecodeError> {
        let mut samples = Vec::new();
        self.decoder.decode(payload, &mut samples)?;
        if samples.is_empty() {
            return Ok(());
        }
        if self.queued(now) > self.limit {
            let (reason, samples) = (Drop::Overflow, samples.len() as u64);
            said.push_back(Said::Dropped { reason, samples });
            return Ok(());
        }
        self.samples += samples.len() as u64;
        self.waiting.push_back(Waiting::Sound(samples));
        self.give(now, said, told);
        let queued = self.queued(now);
        if self.flow.is_some_and(|flow| queued >= flow.full) && !self.is_full {
            self.is_full = true;
            told.push(Fate::Full);
        }
        Ok(())
    }

    /// The bot wants to know when playback gets here.
    pub(super) fn mark(
        &mut self,
        now: Instant,
        name: String,
        said: &mut VecDeque<Said>,
        told: &mut Vec<Fate>,
    ) {
        let waiting = |item: &&Waiting| matches!(item, Waiting::Mark(_));
        if self.waiting.iter().filter(waiting).count() >= MOST_WAITING {
            let oldest = self.waiting.iter().position(|item| matches!(item, Waiting::Mark(_)));
            if let Some(Waiting::Mark(name)) = oldest.and_then(|at| self.waiting.remove(at)) {
                told.push(Fate::Mark(name));
            }
        }
        self.waiting.push_back(Waiting::Mark(name));
        self.give(now, said, told);
    }

    /// The bot drops its queue; gives the marks back if that is the provider's way.
    pub(super) fn clear(&mut self, now: Instant, said: &mut VecDeque<Said>, told: &mut Vec<Fate>) {
        let clear = self.epochs.said(&FromModule::Clear { epoch: None }).into_owned();
        said.push_back(Said::Message(clear));
        self.forget(now, said, told);
    }

    /// The call tells that its queue was dropped, by the bot or by somebody else; only the latter is news.
    pub(super) fn cleared(
        &mut self,
        now: Instant,
        message: &ringback_module::ToModule,
        said: &mut VecDeque<Said>,
        told: &mut Vec<Fate>,
    ) {
        let before = self.epochs.current();
        self.epochs.told(message);
        if self.epochs.current() != before {
            self.forget(now, said, told);
        }
    }

    fn forget(&mut self, now: Instant, said: &mut VecDeque<Said>, told: &mut Vec<Fate>) {
        let pending = self.marks.drain(..).map(|(_, name)| name);
        let waiting = self.waiting.drain(..).filter_map(|item| match item {
            Waiting::Mark(name) => Some(name),
            Waiting::Sound(_) => None,
        });
        let marks: Vec<_> = pending.chain(waiting).collect();
        if self.law == ClearLaw::ReturnsMarks {
            told.extend(marks.into_iter().map(Fate::Mark));
        }
        if self.samples > 0 {
            said.push_back(Said::Dropped { reason: Drop::Cleared, samples: self.samples });
        }
        self.samples = 0;
        self.until = now;
        self.paused = self.paused.map(|_| now);
        self.is_open = false;
        // Marks that follow without sound belong to what comes.
        let epoch = self.epochs.current();
        said.push_back(Said::Message(FromModule::AudioBegin { epoch }));
        self.make_room(now, told);
    }

    /// What waits is not given to the call any more, for nobody would hear it.
    pub(super) fn let_go(&mut self, reason: Drop, said: &mut VecDeque<Said>) {
        self.waiting.clear();
        let samples = std::mem::take(&mut self.samples);
        if samples > 0 {
            said.push_back(Said::Dropped { reason, samples });
        }
    }

    /// The call tells what became of a mark; the bot is told if `tells`.
    pub(super) fn reached(
        &mut self,
        now: Instant,
        name: &str,
        tells: bool,
        said: &mut VecDeque<Said>,
        told: &mut Vec<Fate>,
    ) {
        let number = name.strip_prefix(MARK).and_then(|number| number.parse::<u64>().ok());
        let at = self.marks.iter().position(|(of, _)| Some(*of) == number);
        // One that a clear gave back is not there any more.
        if let Some((_, name)) = at.and_then(|at| self.marks.remove(at)) {
            told.extend(tells.then_some(Fate::Mark(name)));
        }
        self.give(now, said, told);
    }

    /// Holds the queue, or lets it go on.
    pub(super) fn pause(&mut self, now: Instant, hold: bool, said: &mut VecDeque<Said>) {
        match (hold, self.paused) {
            (true, None) => {
                self.paused = Some(now);
                said.push_back(Said::Message(FromModule::Pause));
            }
            (false, Some(since)) => {
                self.until += now - since;
                self.paused = None;
                said.push_back(Said::Message(FromModule::Resume));
            }
            _ => {}
        }
    }

    /// Whether the call was given everything.
    pub(super) fn is_given(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When something is to be done, if nothing else happens.
    pub(super) fn due(&self) -> Option<Instant> {
        // While it is held, and while the call has as many marks as it may, what happens next makes room.
        let is_held = matches!(self.waiting.front(), Some(Waiting::Mark(_)));
        if self.paused.is_some() || is_held {
            return None;
        }
        let next = match self.waiting.front() {
            Some(_) => Some(Instant::from_epoch(self.until.since_epoch().saturating_sub(LEAD))),
            None => self.is_open.then(|| self.until + PAUSE),
        };
        let room = self.flow.filter(|_| self.is_full).map(|flow| {
            let waiting = self.rate.duration_of(self.samples);
            let writable = flow.writable.saturating_sub(waiting);
            Instant::from_epoch(self.until.since_epoch().saturating_sub(writable))
                + Duration::from_millis(1)
        });
        next.into_iter().chain(room).min()
    }

    /// Does what is due.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        said: &mut VecDeque<Said>,
        told: &mut Vec<Fate>,
    ) {
        self.give(now, said, told);
        if self.is_open && self.waiting.is_empty() && self.until + PAUSE <= now {
            self.is_open = false;
            let epoch = Some(self.epochs.current());
            said.push_back(Said::Message(FromModule::AudioEnd { epoch }));
        }
        self.make_room(now, told);
    }

    fn make_room(&mut self, now: Instant, told: &mut Vec<Fate>) {
        let queued = self.queued(now);
        if self.is_full && self.flow.is_some_and(|flow| queued < flow.writable) {
            self.is_full = false;
            told.push(Fate::Writable);
        }
    }

    /// Gives the call as much as it may have.
    fn give(&mut self, now: Instant, said: &mut VecDeque<Said>, told: &mut Vec<Fate>) {
        loop {
            let may = match self.waiting.front() {
                Some(Waiting::Sound(_)) => self.until - self.paused.unwrap_or(now) <= LEAD,
                Some(Waiting::Mark(_)) => self.marks.len() < MOST_MARKS,
                None => false,
            };
            if !may {
                break;
            }
            match self.waiting.pop_front() {
                Some(Waiting::Sound(samples)) => {
                    self.samples -= samples.len() as u64;
                    let from = self.until.max(self.paused.unwrap_or(now));
                    self.until = from + self.rate.duration_of(samples.len() as u64);
                    self.is_open = true;
                    said.push_back(Said::Audio { epoch: self.epochs.current(), samples });
                }
                Some(Waiting::Mark(name)) => {
                    let number = self.next_mark;
                    self.next_mark += 1;
                    self.marks.push_back((number, name));
                    let name = format!("{MARK}{number}");
                    said.push_back(Said::Message(FromModule::Mark { name }));
                }
                None => break,
            }
        }
        self.make_room(now, told);
    }
}

/// What the call knows a bot's marks by: bots use a name again.
const MARK: &str = "bot-";
