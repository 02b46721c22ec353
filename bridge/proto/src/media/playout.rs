//! Playback towards the provider: paces, keeps marks and knows what the caller has heard. Neither encodes nor sends.
//!
//! The provider's queue is modelled as a line that drains in real time: what was sent is *heard* when the model, corrected by
//! the provider's own mark reports, says so. Everything is counted in samples since the call began, so that a position means the
//! same before and after a clear, a pause or a stall.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use ringback_codecs::SampleRate;
use ringback_module::message::{Cleared, MarkReport, MarkStatus, Pace, Playback, PlaybackState};

use crate::Instant;
use crate::provider::{Capabilities, ClearLaw, FrameLaw, PlayoutPolicy};

use super::backlog::Backlog;
use crate::scratch::Pcm;

/// Length of a message where the provider takes any.
const FRAME: Duration = Duration::from_millis(20);
/// Where the provider wants frames, a partial one of an utterance that has not ended waits this long for the rest, or for a frame's
/// time if that is longer, once the provider ran dry.
const PARTIAL_PATIENCE: Duration = Duration::from_millis(100);
/// A provider that owes a mark report for longer than this after the modelled time is not believed to send it.
const MARK_PATIENCE: Duration = Duration::from_secs(5);
/// Marks that may be pending; one a second for minutes of queued sound.
const MAX_MARKS: usize = 256;
/// Silence heard in mid-utterance that counts as an underrun.
const UNDERRUN: Duration = Duration::from_millis(20);

/// Times a [`Playout`] keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlayoutLimits {
    /// How far ahead of what is heard a queueing provider is sent.
    pub lead_ahead: Duration,
    /// The same for one whose queue is latency.
    pub lead_paced: Duration,
    /// Backlog a live stream may keep.
    pub live_target: Duration,
    /// Backlog of a live stream that is trimmed at once.
    pub live_max: Duration,
    /// Sound that may wait to be sent.
    pub max_queue: Duration,
}

impl Default for PlayoutLimits {
    fn default() -> Self {
        Self {
            lead_ahead: Duration::from_millis(200),
            lead_paced: Duration::from_millis(60),
            live_target: Duration::from_millis(60),
            live_max: Duration::from_millis(400),
            max_queue: Duration::from_secs(60),
        }
    }
}

/// What is to be done on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emit<'a> {
    /// Encode and send, as one message.
    Samples(&'a [i16]),
    /// Ask for a report when playback gets here.
    Mark(&'a str),
    /// Drop what is queued.
    Clear,
    /// Hold playback.
    Pause,
    /// Go on.
    Resume,
}

/// What the one who speaks is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// A mark of `owner` met its fate.
    Mark {
        /// Who set it.
        owner: usize,
        /// Its fate.
        report: MarkReport,
    },
    /// Playback began, ended or ran dry.
    Playback(Playback),
    /// The same of one of several who speak.
    PlaybackOf {
        /// Whose.
        voice: usize,
        /// What.
        playback: Playback,
    },
}

/// Figures of a playout in samples, for the ledger: `entered = left - resent + queued + dropped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlayoutCounts {
    /// Taken from modules.
    pub entered: u64,
    /// Given to the wire.
    pub left: u64,
    /// Given to the wire and taken back by a pause.
    pub resent: u64,
    /// Waiting.
    pub queued: u64,
    /// Dropped by clear before it was given to the wire.
    pub cleared: u64,
    /// Dropped to get rid of latency.
    pub trimmed: u64,
    /// Refused: the queue was full.
    pub overflow: u64,
    /// Silence added to fill last frames; not part of `entered`.
    pub padding: u64,
    /// Times the caller heard a hole in mid-utterance.
    pub underruns: u64,
}

struct Mark {
    at: u64,
    owner: usize,
    name: String,
    /// What the wire calls it.
    wire: String,
    sent: bool,
}

/// Playback of one stream.
pub struct Playout {
    rate: SampleRate,
    frame: u64,
    /// Short messages are filled up to a frame.
    pads: bool,
    /// How long a short message waits for the rest, once the provider ran dry.
    patience: Duration,
    can: Capabilities,
    limits: PlayoutLimits,
    lead: Duration,
    /// Sound from `base` on: sent but perhaps not heard, then waiting.
    queue: VecDeque<i16>,
    base: u64,
    sent: u64,
    end: u64,
    /// The utterance ends here: a short frame before it is not waited upon.
    boundary: u64,
    /// When all that was sent will have been heard.
    drained: Instant,
    /// Since when there is sound that is not sent yet.
    waiting_since: Instant,
    marks: VecDeque<Mark>,
    next_mark: u64,
    epoch: u32,
    epoch_start: u64,
    paused: Option<Paused>,
    /// There is no stream to play into.
    detached: bool,
    full: bool,
    talking: bool,
    backlog: Backlog,
    counts: PlayoutCounts,
    told: Vec<Told>,
}

#[derive(Debug, Clone, Copy)]
enum Paused {
    /// The provider holds its queue; this much of it is unheard.
    AtProvider(Duration),
    /// The queue came back to us.
    Here,
}

impl Playout {
    /// Playback at `rate` on a stream that can do `can`.
    #[must_use]
    pub fn new(rate: SampleRate, can: Capabilities, limits: PlayoutLimits) -> Self {
        let (frame, pads, patience) = match can.frame {
            FrameLaw::Any => (FRAME, false, Duration::ZERO),
            FrameLaw::UpTo(time) => (time, false, PARTIAL_PATIENCE),
            FrameLaw::Exact(time) | FrameLaw::MultipleOf(time) => (time, true, PARTIAL_PATIENCE),
            FrameLaw::AtLeast { least, .. } => (least, true, PARTIAL_PATIENCE),
        };
        // A live stream has no less backlog than a message is long.
        let limits = PlayoutLimits { live_target: limits.live_target.max(frame), ..limits };
        let (lead, limit) = match can.playout {
            PlayoutPolicy::Ahead { limit } => (limits.lead_ahead, limit),
            PlayoutPolicy::Paced { limit } => (limits.lead_paced, limit),
            PlayoutPolicy::None => (Duration::ZERO, Duration::ZERO),
        };
        Self {
            rate,
            frame: rate.samples_in(frame).max(1),
            pads,
            patience,
            can,
            limits,
            // While one message is heard, the next is under way.
            lead: lead.min(limit).max(frame * 2),
            queue: VecDeque::new(),
            base: 0,
            sent: 0,
            end: 0,
            boundary: 0,
            drained: Instant::ZERO,
            waiting_since: Instant::ZERO,
            marks: VecDeque::new(),
            next_mark: 0,
            epoch: 0,
            epoch_start: 0,
            paused: None,
            detached: false,
            full: false,
            talking: false,
            backlog: Backlog::default(),
            counts: PlayoutCounts::default(),
            told: Vec::new(),
        }
    }

    /// Playback generation; every clear begins a new one.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Samples per second.
    #[must_use]
    pub fn rate(&self) -> SampleRate {
        self.rate
    }

    /// Figures for the ledger.
    #[must_use]
    pub fn counts(&self) -> PlayoutCounts {
        PlayoutCounts { queued: self.end - self.sent, ..self.counts }
    }

    /// Whether anything is queued or unheard.
    #[must_use]
    pub fn is_active(&self, now: Instant) -> bool {
        self.end > self.sent || self.remaining(now) > Duration::ZERO
    }

    /// Sound sent that the caller has not heard yet.
    #[must_use]
    pub fn remaining(&self, now: Instant) -> Duration {
        match self.paused {
            Some(Paused::AtProvider(unheard)) => unheard,
            _ => self.drained - now,
        }
    }

    /// Sound that is queued with us and the provider.
    #[must_use]
    pub fn backlog(&self, now: Instant) -> Duration {
        self.remaining(now) + self.rate.duration_of(self.end - self.sent)
    }

    /// Position heard, in samples since the call began.
    #[must_use]
    pub fn heard(&self, now: Instant) -> u64 {
        let unheard = self.rate.samples_in(self.remaining(now));
        self.sent.saturating_sub(unheard).max(self.base)
    }

    fn heard_ms(&self, position: u64) -> u64 {
        self.rate.millis_of(position.saturating_sub(self.epoch_start))
    }

    /// Takes sound to be played; says how many samples were refused because the queue is full.
    pub fn push(&mut self, now: Instant, samples: &[i16], pace: Pace) -> u64 {
        self.note_underrun(now);
        let room = self.rate.samples_in(self.limits.max_queue).saturating_sub(self.end - self.sent);
        let taken = samples.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let before = self.backlog(now);
        if self.end == self.sent {
            self.waiting_since = now;
        }
        self.queue.extend(samples[..taken].iter().copied());
        self.end += taken as u64;
        self.counts.entered += samples.len() as u64;
        let refused = (samples.len() - taken) as u64;
        self.counts.overflow += refused;
        if pace == Pace::Live {
            let excess = self.backlog.observe(now, before, self.backlog(now), &self.limits);
            self.trim(excess);
        }
        refused
    }

    fn note_underrun(&mut self, now: Instant) {
        let dry = now - self.drained;
        let mid_utterance = self.talking && self.sent == self.end && self.boundary < self.end;
        if mid_utterance && self.paused.is_none() && !self.detached && dry >= UNDERRUN {
            self.counts.underruns += 1;
            self.tell_playback(PlaybackState::Underrun, self.end);
        }
    }

    /// Drops the oldest unsent sound, in whole frames, blending over the seam.
    fn trim(&mut self, excess: Duration) {
        let waiting = self.end - self.sent;
        let drop = self.whole_frames(excess, waiting);
        if drop == 0 {
            return;
        }
        self.backlog.trimmed(self.rate.duration_of(drop));
        cut(&mut self.queue, (self.sent - self.base) as usize, drop as usize, self.rate);
        self.end -= drop;
        self.boundary = self.boundary.saturating_sub(drop).max(self.sent);
        for mark in self.marks.iter_mut().filter(|m| m.at > self.sent) {
            mark.at = mark.at.saturating_sub(drop).max(self.sent);
        }
        self.counts.trimmed += drop;
    }

    /// The utterance is complete: what is left of it goes out however short.
    pub fn end_utterance(&mut self) {
        self.boundary = self.end;
    }

    /// Sets a mark behind all that was pushed; says no if too many are pending.
    #[must_use]
    pub fn mark(&mut self, owner: usize, name: String) -> bool {
        if self.marks.len() >= MAX_MARKS {
            return false;
        }
        self.boundary = self.end;
        let wire = format!("rb{}", self.next_mark);
        self.next_mark += 1;
        self.marks.push_back(Mark { at: self.end, owner, name, wire, sent: false });
        true
    }

    /// The provider says that playback reached a mark. Unknown ones are of an earlier epoch, or not ours.
    pub fn handle_played(&mut self, now: Instant, wire: &str) {
        let Some(index) = self.marks.iter().position(|m| m.sent && m.wire == wire) else {
            return;
        };
        let at = self.marks[index].at;
        self.drained = now + self.rate.duration_of(self.sent - at);
        for _ in 0..=index {
            self.finish_mark(MarkStatus::Played);
        }
    }

    fn finish_mark(&mut self, status: MarkStatus) {
        if let Some(mark) = self.marks.pop_front() {
            let played_ms = self.heard_ms(mark.at);
            let report = MarkReport { name: mark.name, epoch: self.epoch, status, played_ms };
            self.told.push(Told::Mark { owner: mark.owner, report });
        }
    }

    /// The provider's queue is full, or takes sound again.
    pub fn handle_full(&mut self, full: bool) {
        self.full = full;
    }

    /// Drops everything queued, here and at the provider, and begins a new epoch.
    pub fn clear(&mut self, now: Instant, emit: &mut dyn FnMut(Emit<'_>)) -> Cleared {
        let reaches_provider = self.can.clear != ClearLaw::Unsupported;
        let heard = if reaches_provider { self.heard(now) } else { self.sent };
        let report = Cleared {
            epoch: self.epoch,
            played_ms: self.heard_ms(heard),
            discarded_ms: self.rate.millis_of(self.end - heard),
            heard: None,
        };
        self.counts.cleared += self.end - self.sent;
        if reaches_provider {
            emit(Emit::Clear);
            if matches!(self.paused, Some(Paused::AtProvider(_))) {
                emit(Emit::Resume);
            }
            self.drained = now;
        }
        while !self.marks.is_empty() {
            let status =
                if self.marks[0].at <= heard { MarkStatus::Played } else { MarkStatus::Cleared };
            self.marks[0].at = self.marks[0].at.min(heard);
            self.finish_mark(status);
        }
        self.queue.truncate((heard.max(self.base) - self.base) as usize);
        self.end = heard.max(self.base);
        self.sent = self.end;
        (self.boundary, self.epoch_start) = (self.end, self.end);
        self.epoch += 1;
        (self.paused, self.full, self.talking) = (None, false, false);
        report
    }

    /// Holds playback at the sample the caller hears now.
    pub fn pause(&mut self, now: Instant, emit: &mut dyn FnMut(Emit<'_>)) {
        if self.paused.is_some() {
            return;
        }
        self.tell_playback(PlaybackState::Paused, self.heard(now));
        if self.can.pause {
            self.paused = Some(Paused::AtProvider(self.drained - now));
            emit(Emit::Pause);
            return;
        }
        if self.can.clear != ClearLaw::Unsupported {
            self.take_back(now);
            emit(Emit::Clear);
        }
        self.paused = Some(Paused::Here);
    }

    /// What was sent and not heard waits here again.
    fn take_back(&mut self, now: Instant) {
        let heard = self.heard(now);
        self.counts.resent += self.sent - heard;
        self.sent = heard;
        self.drained = now;
        for mark in self.marks.iter_mut().filter(|m| m.at > heard) {
            // Under a new name: the provider may yet return the old one, released by the clear.
            mark.sent = false;
            mark.wire = format!("rb{}", self.next_mark);
            self.next_mark += 1;
        }
    }

    /// The stream is gone, and with it all that the provider had queued. What was not heard is kept, and nothing goes out before
    /// [`Self::attach`].
    pub fn detach(&mut self, now: Instant) {
        self.take_back(now);
        self.paused = self.paused.map(|_| Paused::Here);
        (self.detached, self.full) = (true, false);
    }

    /// There is a stream again.
    pub fn attach(&mut self, now: Instant) {
        self.paused = self.paused.map(|_| Paused::Here);
        self.detached = false;
        (self.drained, self.waiting_since) = (now, now);
    }

    /// Goes on with the sample after the last one heard.
    pub fn resume(&mut self, now: Instant, emit: &mut dyn FnMut(Emit<'_>)) {
        if let Some(Paused::AtProvider(unheard)) = self.paused.take() {
            self.drained = now + unheard;
            emit(Emit::Resume);
        }
    }

    /// Sends all that may go now and settles marks by the model.
    pub fn poll(&mut self, now: Instant, emit: &mut dyn FnMut(Emit<'_>)) {
        loop {
            self.emit_marks(emit);
            let Some(take) = self.next_take(now) else { break };
            self.send(now, take, emit);
        }
        self.settle(now);
    }

    fn emit_marks(&mut self, emit: &mut dyn FnMut(Emit<'_>)) {
        if self.detached {
            return;
        }
        for mark in self.marks.iter_mut().filter(|m| !m.sent && m.at <= self.sent) {
            mark.sent = true;
            if self.can.marks {
                emit(Emit::Mark(&mark.wire));
            }
        }
    }

    /// How many samples the next message takes, or `None` if nothing may go now.
    fn next_take(&self, now: Instant) -> Option<u64> {
        let waiting = self.end - self.sent;
        if waiting == 0
            || self.paused.is_some()
            || self.detached
            || self.full
            || self.can.playout == PlayoutPolicy::None
        {
            return None;
        }
        let stop = self.next_stop();
        let take = self.frame.min(stop.unwrap_or(self.end) - self.sent).min(waiting);
        if take < self.frame && stop != Some(self.sent + take) && now < self.partial_due() {
            return None;
        }
        let remaining = self.remaining(now);
        let fits = remaining.is_zero() || remaining + self.rate.duration_of(take) <= self.lead;
        fits.then_some(take)
    }

    /// Where a message must end because something follows that must not wait for more sound.
    fn next_stop(&self) -> Option<u64> {
        let mark = self.marks.iter().filter(|m| !m.sent).map(|m| m.at).next();
        let stops = [mark, Some(self.boundary)];
        stops.into_iter().flatten().filter(|&at| at > self.sent).min()
    }

    fn partial_due(&self) -> Instant {
        if self.patience.is_zero() {
            return self.drained;
        }
        let frame = self.rate.duration_of(self.frame);
        let patience = if self.pads { self.patience.max(frame) } else { self.patience };
        self.drained.max(self.waiting_since) + patience
    }

    fn send(&mut self, now: Instant, take: u64, emit: &mut dyn FnMut(Emit<'_>)) {
        if !self.talking {
            self.talking = true;
            self.tell_playback(PlaybackState::Started, self.sent);
        }
        let from = (self.sent - self.base) as usize;
        let (first, second) = slices(&self.queue, from..from + take as usize);
        let padding = if self.pads { take.next_multiple_of(self.frame) - take } else { 0 };
        if second.is_empty() && padding == 0 {
            emit(Emit::Samples(first));
        } else {
            let mut samples = Pcm::lend();
            samples.extend_from_slice(first);
            samples.extend_from_slice(second);
            samples.resize((take + padding) as usize, 0);
            emit(Emit::Samples(&samples));
        }
        self.counts.left += take;
        self.counts.padding += padding;
        self.sent += take;
        self.waiting_since = now;
        self.drained = self.drained.max(now) + self.rate.duration_of(take + padding);
    }

    /// Settles marks the provider will not report, and the end of an utterance.
    fn settle(&mut self, now: Instant) {
        if matches!(self.paused, Some(Paused::AtProvider(_))) {
            return;
        }
        let patience = if self.can.marks { MARK_PATIENCE } else { Duration::ZERO };
        while self.marks.front().is_some_and(|m| m.sent && self.modelled(m.at) + patience <= now) {
            self.finish_mark(MarkStatus::Played);
        }
        let finished = self.sent == self.end && self.boundary == self.end;
        if self.talking
            && finished
            && self.marks.is_empty()
            && self.drained <= now
            && self.paused.is_none()
        {
            self.talking = false;
            self.tell_playback(PlaybackState::Idle, self.end);
        }
    }

    /// When the model says that a position already sent is heard.
    fn modelled(&self, at: u64) -> Instant {
        let behind = self.rate.duration_of(self.sent.saturating_sub(at));
        Instant::from_epoch(self.drained.since_epoch().saturating_sub(behind))
    }

    fn tell_playback(&mut self, state: PlaybackState, position: u64) {
        let played_ms = self.heard_ms(position);
        self.told.push(Told::Playback(Playback { epoch: self.epoch, state, played_ms }));
    }

    /// Whether [`Playout::drain_told`] has anything.
    #[must_use]
    pub fn has_told(&self) -> bool {
        !self.told.is_empty()
    }

    /// What is to be told, in order.
    pub fn drain_told(&mut self) -> impl Iterator<Item = Told> + '_ {
        self.told.drain(..)
    }

    /// Sound heard that [`Playout::take_heard`] has not given out yet.
    #[must_use]
    pub fn unclaimed(&self, now: Instant) -> Duration {
        self.rate.duration_of(self.heard(now) - self.base)
    }

    /// Appends what the caller has heard since the last time; without this call the memory of it is let go all the same.
    pub fn take_heard(&mut self, now: Instant, out: Option<&mut Vec<i16>>) -> u64 {
        let count = self.heard(now) - self.base;
        if count > 0 {
            if let Some(out) = out {
                let (first, second) = slices(&self.queue, 0..count as usize);
                out.extend_from_slice(first);
                out.extend_from_slice(second);
            }
            self.queue.drain(..count as usize);
            self.base += count;
        }
        count
    }

    /// When [`Playout::poll`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.paused.is_some() || self.detached {
            return None;
        }
        let patience = if self.can.marks { MARK_PATIENCE } else { Duration::ZERO };
        let mark = self.marks.front().filter(|m| m.sent).map(|m| self.modelled(m.at) + patience);
        let send = (self.end > self.sent && !self.full).then(|| self.next_send());
        let idle = (self.talking
            && self.sent == self.end
            && self.boundary == self.end
            && self.marks.is_empty())
        .then_some(self.drained);
        [mark, send, idle].into_iter().flatten().min()
    }

    fn next_send(&self) -> Instant {
        let stop = self.next_stop();
        let take = self.frame.min(stop.unwrap_or(self.end) - self.sent);
        if take < self.frame && stop != Some(self.sent + take) {
            return self.partial_due();
        }
        let spare = self.lead.saturating_sub(self.rate.duration_of(take));
        Instant::from_epoch(self.drained.since_epoch().saturating_sub(spare))
    }
}

/// What [`Voices`](super::voices::Voices) of several speakers need of playback, which then keeps no sound but the next message's.
impl Playout {
    /// Samples that may be cut out of `waiting` to get rid of `excess`: whole frames, so that what is cut is a frame that was late
    /// and the rest stays as it was framed.
    pub(super) fn whole_frames(&self, excess: Duration, waiting: u64) -> u64 {
        self.rate.samples_in(excess).min(waiting) / self.frame * self.frame
    }

    pub(super) fn limits(&self) -> &PlayoutLimits {
        &self.limits
    }

    /// Position one past the last sample pushed.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Samples that are missing to the next message, if it could go now; else 0.
    pub(super) fn wants(&self, now: Instant) -> u64 {
        match self.wants_at() {
            Some(at) if at <= now => self.frame - (self.end - self.sent),
            _ => 0,
        }
    }

    /// When samples for the next message are wanted, if any are and nothing holds it up.
    pub(super) fn wants_at(&self) -> Option<Instant> {
        let held = self.paused.is_some() || self.detached || self.full;
        if held || self.can.playout == PlayoutPolicy::None || self.end - self.sent >= self.frame {
            return None;
        }
        let spare = self.lead.saturating_sub(self.rate.duration_of(self.frame));
        Some(Instant::from_epoch(self.drained.since_epoch().saturating_sub(spare)))
    }

    /// When all that was pushed will have been heard, if it has all been sent.
    pub(super) fn drains_at(&self) -> Option<Instant> {
        (self.sent == self.end && self.paused.is_none()).then_some(self.drained)
    }

    /// Whether what was sent can be taken back.
    pub(super) fn can_recall(&self) -> bool {
        self.can.clear != ClearLaw::Unsupported
    }

    /// Takes back all that was not heard, for whoever pushes it anew, and forgets all marks. Only if [`Self::can_recall`].
    pub(super) fn recall(&mut self, now: Instant, emit: &mut dyn FnMut(Emit<'_>)) {
        let heard = self.heard(now);
        emit(Emit::Clear);
        self.counts.resent += self.sent - heard;
        self.counts.entered -= self.end - heard;
        self.drained = now;
        self.queue.truncate((heard - self.base) as usize);
        (self.sent, self.end, self.boundary) = (heard, heard, heard);
        self.marks.clear();
        self.full = false;
    }

    /// Sets a mark behind all that was pushed, without ending an utterance there.
    pub(super) fn tag(&mut self, owner: usize, name: String) {
        let wire = format!("rb{}", self.next_mark);
        self.next_mark += 1;
        self.marks.push_back(Mark { at: self.end, owner, name, wire, sent: false });
    }
}

/// Cuts samples out of a queue and blends over the seam.
pub(super) fn cut(queue: &mut VecDeque<i16>, at: usize, count: usize, rate: SampleRate) {
    let cut: Vec<i16> = queue.drain(at..at + count).collect();
    let blend = cut.len().min(rate.hz() as usize / 200).min(queue.len() - at);
    for (i, &old) in cut[..blend].iter().enumerate() {
        let new = &mut queue[at + i];
        let weight = (i + 1) as i32;
        let mixed = i32::from(old) * (blend as i32 - weight) + i32::from(*new) * weight;
        *new = (mixed / blend as i32) as i16;
    }
}

/// A range of a queue as the two slices it lies in; copying those is many times quicker than sample by sample.
pub(super) fn slices(queue: &VecDeque<i16>, range: Range<usize>) -> (&[i16], &[i16]) {
    let (first, second) = queue.as_slices();
    let split = first.len();
    let of = |slice: &'_ [i16], from: usize, to: usize| from.min(slice.len())..to.min(slice.len());
    let (start, end) = (range.start, range.end);
    let front = of(first, start, end);
    let back = of(second, start.saturating_sub(split), end.saturating_sub(split));
    (&first[front], &second[back])
}
