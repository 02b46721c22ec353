//! Modules coming and going: what they are offered, what they agree to, the frames they get, and the call's last account.

use std::ops::Range;
use std::time::Duration;

use ringback_codecs::SampleRate;
use ringback_module::message::{
    Call, Cleared, Dtmf, DtmfSource, Gap, GapReason, Kind, Overflow, Ready, Reject, Resume,
    Start as ModuleStart, StopReason,
};
use ringback_module::{AudioFrame, ToModule, VERSION};

use crate::Instant;
use crate::ledger::{Drop, Hop, Ledger, Unit};
use crate::media::playout::Playout;
use crate::media::ring::Ring;
use crate::media::tap::{Next, Tap};
use crate::provider::{Digit, Start};
use crate::rule::Facts;
use crate::scratch::Pcm;

use super::media::MediaPath;
use super::offer::offer;
use super::port::{self, AGENT, Agreed, CALLER, Credit, OnFail, Port, PortId, PortPhase, Speaker};
use super::state::Phase;
use super::telling::Audience;
use super::words::Words;
use super::{Action, EndReason, ModuleSummary, Report, Session, Summary, barge_in};

/// What a module is given next.
#[derive(Debug)]
pub enum Given<'a> {
    /// Sound.
    Sound(AudioFrame<'a>),
    /// Sound that is lost: tell the module before what follows.
    Gap(ToModule),
}

/// A frame for a module.
#[derive(Debug, Default)]
pub struct FrameBuf {
    samples: Pcm,
}

impl Session {
    pub(super) fn handle_started(&mut self, now: Instant, start: &Start) {
        if !matches!(self.phase, Phase::AwaitingStart { .. }) {
            return;
        }
        self.take_route(start);
        let Some(route) = self.chosen() else {
            self.begin(start);
            return self.end(now, EndReason::NoRoute);
        };
        let mut media = match MediaPath::new(start, &self.config, route, &self.ports) {
            Ok(media) => media,
            Err(what) => {
                let error = crate::provider::ProtocolError::Unsupported { index: 0, what };
                return self.end(now, EndReason::Protocol(error));
            }
        };
        if start.capabilities.text {
            media.begin(now);
            self.words = Some(Box::new(Words::new(now)));
        }
        self.media = Some(media);
        self.begin(start);
        self.phase = Phase::Streaming { since: now, deadline: now + self.config.max_duration };
        for index in 0..self.ports.len() {
            if !self.ports[index].config.standby {
                self.start_port(PortId(index), None);
            }
        }
    }

    /// Finds the route of a call that starts, if there is one, and makes its ports.
    fn take_route(&mut self, start: &Start) {
        let facts = Facts {
            from: start.from.as_deref(),
            to: start.to.as_deref(),
            parameters: &start.parameters,
            headers: &self.config.headers,
        };
        self.route = self.config.routes.find(&facts);
        if let Some(index) = self.route {
            let (ports, sources) = self.config.routes.ports(index, &self.config.call);
            self.ports = ports.into_iter().map(Port::new).collect();
            let voices = self.ports.iter_mut().filter(|port| port.config.is_voice());
            voices.enumerate().for_each(|(voice, port)| port.voice = Some(voice));
            let filters = self.ports.iter_mut().filter(|port| port.config.is_filter());
            filters.enumerate().for_each(|(filter, port)| port.filter = Some(filter));
            self.barge_in = barge_in::State::new(self.chosen().and_then(|route| route.barge_in));
            self.actions.push_back(Action::Routed { ports: self.ports.len(), sources });
        }
    }

    fn begin(&mut self, start: &Start) {
        self.start = Some(Box::new(start.clone()));
        self.report(Report::Started(Box::new(start.clone())));
    }

    pub(super) fn start_port(&mut self, id: PortId, resume: Option<Resume>) {
        let Some(start) = self.module_start(id, resume) else { return };
        let told_epoch = start.resume.as_ref().map_or(0, |resume| resume.epoch);
        let port = &mut self.ports[id.0];
        port.phase = PortPhase::Starting;
        port.starts += 1;
        port.told_epoch = told_epoch;
        port.resumed = start.resume.is_some();
        let (source, start) = (port.config.source, Box::new(start));
        self.actions.push_back(Action::StartModule { port: id, source, start });
    }

    fn module_start(&self, id: PortId, resume: Option<Resume>) -> Option<ModuleStart> {
        let (start, port) = (self.start.as_ref()?, self.ports.get(id.0)?);
        let meta = start.parameters.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        let call = Call {
            id: self.config.call.clone(),
            from: start.from.clone(),
            to: start.to.clone(),
            direction: None,
            provider: self.config.provider.into(),
            tenant: self.config.tenant.as_deref().map(str::to_owned),
            meta,
        };
        Some(ModuleStart {
            v: VERSION,
            session: format!("{}-{}", self.config.call, id.0),
            wall: self.config.wall.clone(),
            kind: port.config.kind,
            call,
            config: port.config.config.clone(),
            offer: offer(start, &port.config),
            limits: ringback_module::message::Limits {
                ready_ms: port.config.ready_timeout.as_millis() as u64,
                pre_roll_ms: self.kept().as_millis() as u64,
                ..self.config.limits
            },
            credit: ringback_module::message::StartCredit {
                out_ms: self.config.playout.max_queue.as_millis() as u64,
            },
            resume,
        })
    }

    /// A module agreed to its session.
    pub fn module_ready(&mut self, now: Instant, id: PortId, ready: &Ready) {
        self.now = now;
        if self.ports.get(id.0).is_none_or(|p| p.phase != PortPhase::Starting) {
            return;
        }
        match self.agree(id, ready) {
            Ok(agreed) => {
                let port = &mut self.ports[id.0];
                port.agreed = Some(agreed);
                port.resume_token.clone_from(&ready.resume_token);
                port.phase = PortPhase::Live;
                self.report(Report::ModuleReady(id));
                self.tell_missed_clear(id);
                self.tell_missed(id);
                self.tell_private_parts(id);
                self.tell_consent(id);
                if let Phase::Draining { reason, .. } = &self.phase {
                    let reason = super::state::stop_reason(reason);
                    let deadline = Duration::from_millis(self.config.limits.stop_ms);
                    self.stop_port(id, reason, deadline);
                }
            }
            Err(reason) => {
                self.actions.push_back(Action::DropModule { port: id });
                self.module_failed(now, id, &reason);
            }
        }
        self.settle(now);
    }

    fn agree(&mut self, id: PortId, ready: &Ready) -> Result<Agreed, String> {
        let start = self.start.as_ref().ok_or("the call has not started")?;
        let config = &self.ports[id.0].config;
        let (kind, speaks, outbound) = (config.kind, config.speaks, start.outbound);
        let offered: Vec<u16> = offer(start, config).tracks.iter().map(|t| t.id).collect();
        if self.words.is_some() {
            port::check_soundless(ready, port::NO_SOUND)?;
        } else if kind == Kind::Text {
            port::check_soundless(ready, port::NO_SOUND_FOR_TEXT)?;
        } else {
            port::check(ready, &offered)?;
        }
        let filter = self.ports[id.0].filter;
        let caller = self.media.as_ref().and_then(|media| media.heard_by(filter, CALLER));
        if filter.is_some() {
            port::check_filter(ready, caller.map(Ring::rate))?;
        }
        let input = ready.accept.input;
        let tracks = match (&ready.accept.tracks, input) {
            (_, None) => Vec::new(),
            (tracks, Some(_)) if tracks.is_empty() => {
                vec![offered.first().copied().unwrap_or(CALLER)]
            }
            (tracks, Some(_)) => tracks.clone(),
        };
        let (budget, acked_ms) = (self.ports[id.0].config.budget, self.ports[id.0].acked_ms);
        let hears_private = self.ports[id.0].config.hears_private;
        let resuming = self.ports[id.0].resumed;
        // A filter that was not ready at once goes on where the call is, as one does that was away.
        let from_ms = match filter {
            Some(_) if !resuming => self.resume_at(id),
            _ => self.ports[id.0].from_ms,
        };
        let keep = self.kept();
        let media = self.media.as_mut().ok_or("the call has no sound")?;
        if let (true, Some(format)) = (tracks.contains(&AGENT), outbound) {
            media.listen_to_agent(format, keep);
        }
        let mut taps = Vec::new();
        for track in tracks {
            if let (Some(input), Some(from)) = (input, media.rate(track)) {
                let to = SampleRate::new(input.rate).ok_or("accept.in.rate is out of range")?;
                let end = media.heard_by(filter, track).map_or(0, Ring::end);
                let position = port::position_of(from_ms, from).min(end);
                if let Some((filter, _)) = filter.and_then(|filter| media.filter(filter)) {
                    let frame = u64::from(from.hz()) * u64::from(input.frame_ms) / 1_000;
                    filter.begin(position, frame, budget);
                }
                let tap = Tap::new(position, from, to, input.frame_ms);
                let before = self.ports[id.0].heard_before.iter().find(|(t, _)| *t == track);
                let tap = match before {
                    None => tap,
                    Some((_, past)) if filter.is_some() => tap.following_elsewhere(*past),
                    // One that never says what it has is owed what it was not given.
                    Some((_, past)) if acked_ms == 0 => tap.following(*past, past.end),
                    Some((_, past)) => tap.following(*past, port::position_of(acked_ms, from)),
                };
                taps.push((track, tap.hearing_all(hears_private)));
            }
        }
        let output = ready.accept.output.filter(|_| speaks).zip(outbound);
        Ok(Agreed {
            input,
            output: output.and_then(|(accept, wire)| Speaker::new(accept, wire.rate)),
            taps,
            want: wanted(kind, ready),
            credit: ready.credit.map(|c| Credit {
                window_ms: c.in_ms,
                // What it is not given costs none.
                granted_ms: from_ms.saturating_sub(acked_ms),
                given_ms: from_ms,
            }),
            fail_on_gap: ready.overflow == Overflow::Fail,
            resuming,
            turn: 0,
            filter,
        })
    }

    /// A module will not take the session.
    pub fn module_rejected(&mut self, now: Instant, id: PortId, reject: &Reject) {
        self.now = now;
        let reason = format!("rejected the session: {} {}", reject.code, reject.message);
        self.module_failed(now, id, reason.trim_end());
        self.settle(now);
    }

    /// A module went away and its host will start it again; its sound is kept as far as the ring reaches.
    pub fn module_down(&mut self, now: Instant, id: PortId, reason: &str) {
        self.now = now;
        let reason = self.reason_for_all(id, reason);
        let Some(port) = self.ports.get_mut(id.0) else { return };
        if matches!(port.phase, PortPhase::Stopping | PortPhase::Gone) {
            return self.module_gone(now, id, Some(reason.to_owned()));
        }
        port.phase = PortPhase::Down;
        port.last_error = Some(reason.to_owned());
        port.went_away();
        self.filter_gone(id);
        self.report(Report::ModuleFailed { port: id, reason: reason.to_owned(), retrying: true });
        self.settle(now);
    }

    /// The host has a fresh process for a module that was down.
    pub fn restart_module(&mut self, now: Instant, id: PortId) {
        self.now = now;
        if self.ports.get(id.0).is_none_or(|p| p.phase != PortPhase::Down) {
            return;
        }
        let from_ms = self.resume_at(id);
        let port = &mut self.ports[id.0];
        port.from_ms = from_ms;
        let (from_ms, token) = (port.from_ms, port.resume_token.clone());
        let epoch = self.epoch(id);
        self.start_port(id, Some(Resume { token, from_ms, epoch }));
        self.settle(now);
    }

    /// A module ended for good: after `done`, or with a reason when it failed.
    pub fn module_gone(&mut self, now: Instant, id: PortId, failed: Option<String>) {
        self.now = now;
        let finished = self.ports.get(id.0).is_some_and(|p| p.phase == PortPhase::Stopping);
        let failed = failed.map(|reason| self.reason_for_all(id, &reason).to_owned());
        match failed {
            Some(reason) if !finished => self.module_failed(now, id, &reason),
            failed => self.port_gone(id, failed),
        }
        self.settle(now);
    }

    pub(super) fn port_gone(&mut self, id: PortId, error: Option<String>) {
        if let Some(port) = self.ports.get_mut(id.0) {
            port.phase = PortPhase::Gone;
            port.last_error = error.or(port.last_error.take());
        }
        self.filter_gone(id);
        self.forget_missed(id);
    }

    pub(super) fn module_failed(&mut self, now: Instant, id: PortId, reason: &str) {
        let Some(port) = self.ports.get(id.0) else { return };
        let (required, name) = (port.config.on_fail == OnFail::Hangup, port.config.name.clone());
        self.report(Report::ModuleFailed { port: id, reason: reason.to_owned(), retrying: false });
        self.fall_back(id);
        self.port_gone(id, Some(reason.to_owned()));
        if required {
            self.end(now, EndReason::Module { module: name, reason: reason.to_owned() });
        }
    }

    pub(super) fn stop_ports(&mut self, reason: StopReason, deadline: Duration) {
        for index in 0..self.ports.len() {
            match self.ports[index].phase {
                PortPhase::Live => self.stop_port(PortId(index), reason, deadline),
                PortPhase::Idle => self.ports[index].phase = PortPhase::Gone,
                PortPhase::Starting | PortPhase::Down | PortPhase::Stopping | PortPhase::Gone => {}
            }
        }
    }

    fn stop_port(&mut self, port: PortId, reason: StopReason, deadline: Duration) {
        self.ports[port.0].phase = PortPhase::Stopping;
        self.actions.push_back(Action::StopModule { port, reason, deadline });
    }

    /// Fills `frame` with the next sound for a module, if there is any and the module has credit for it. Sound that was lost is
    /// told in its place.
    pub fn next_frame<'f>(&mut self, id: PortId, frame: &'f mut FrameBuf) -> Option<Given<'f>> {
        let port = self.ports.get_mut(id.0)?;
        let flowing = matches!(port.phase, PortPhase::Live | PortPhase::Stopping);
        if !flowing || !port.has_credit() {
            return None;
        }
        let (media, agreed) = (self.media.as_mut()?, port.agreed.as_mut()?);
        match agreed.next(media, &mut frame.samples)? {
            Took::Frame { track, pts, flags, rate } => {
                if let Some(credit) = &mut agreed.credit {
                    let end = (pts + frame.samples.len() as u64) * 1_000 / u64::from(rate);
                    credit.given_ms = credit.given_ms.max(end);
                }
                Some(Given::Sound(AudioFrame { track, rate, pts, flags, samples: &frame.samples }))
            }
            Took::Lag { track, missing, lost, fresh, rate } => {
                if lost > 0 {
                    self.report(Report::Dropped { reason: Drop::Overwritten, count: lost });
                }
                self.lag(id, track, &missing, rate, fresh).map(Given::Gap)
            }
            Took::Gap { track, from, to, rate } => {
                Some(Given::Gap(self.gap(id, track, &(from..to), rate, GapReason::Provider)))
            }
        }
    }

    /// What was overwritten before a module read it; `None` if the module cannot bear that and is let go.
    fn lag(
        &mut self,
        id: PortId,
        track: u16,
        missing: &Range<u64>,
        rate: SampleRate,
        fresh: bool,
    ) -> Option<ToModule> {
        let agreed = self.ports[id.0].agreed.as_ref()?;
        let resuming = agreed.resuming && fresh;
        if agreed.fail_on_gap && !resuming {
            self.actions.push_back(Action::DropModule { port: id });
            self.module_failed(self.now, id, "fell behind further than the ring reaches");
            // It may be the last one that the call has waited for, and reading is no event that anything else follows on.
            self.settle(self.now);
            return None;
        }
        let reason = if resuming { GapReason::Resume } else { GapReason::Backpressure };
        Some(self.gap(id, track, missing, rate, reason))
    }

    /// A module goes on behind sound that it will not get.
    fn gap(
        &mut self,
        id: PortId,
        track: u16,
        missing: &Range<u64>,
        rate: SampleRate,
        reason: GapReason,
    ) -> ToModule {
        let (from_ms, to_ms) = (rate.millis_of(missing.start), rate.millis_of(missing.end));
        if let Some(credit) = self.ports[id.0].agreed.as_mut().and_then(|a| a.credit.as_mut()) {
            // Sound that never came costs no credit, or a module that waits for sound to use would wait for ever.
            credit.granted_ms =
                credit.granted_ms.saturating_add(to_ms.saturating_sub(credit.given_ms));
            credit.given_ms = credit.given_ms.max(to_ms);
        }
        self.filter_skips(id, missing);
        ToModule::Gap(Gap { track, from_ms, to_ms, reason })
    }

    /// A module that was away while playback was cleared believes in an epoch that is over.
    fn tell_missed_clear(&mut self, id: PortId) {
        let current = self.epoch(id);
        let port = &mut self.ports[id.0];
        let words = self.words.is_some() && port.config.speaks;
        let speaks = words
            || port.config.kind == Kind::Text
            || port.agreed.as_ref().is_some_and(|a| a.output.is_some());
        if speaks && current > port.told_epoch {
            port.told_epoch = current;
            let cleared = Cleared { epoch: current - 1, ..Cleared::default() };
            self.tell(id, ToModule::Cleared(cleared));
        }
    }

    pub(super) fn handle_digit(&mut self, now: Instant, digit: Digit, duration: Option<Duration>) {
        let dtmf = Dtmf {
            track: CALLER,
            digit: digit.as_char(),
            duration_ms: duration.map(|d| d.as_millis() as u64),
            source: DtmfSource::Provider,
            at_ms: self.elapsed_ms(now),
        };
        if self.is_private() {
            self.tell_key(None, &dtmf, Audience::Private);
            self.count_private_key();
        } else {
            self.tell_key(None, &dtmf, Audience::All);
            self.report(Report::Dtmf(None, dtmf));
        }
        self.follow_keys(now, digit);
    }

    pub(super) fn summary(&self) -> Summary {
        let reason = match &self.phase {
            Phase::Draining { reason, .. } | Phase::Finishing { reason, .. } => reason.clone(),
            _ => EndReason::Remote,
        };
        let counts = self.media.as_ref().and_then(MediaPath::playout).map(Playout::counts);
        Summary {
            call: self.config.call.clone(),
            provider_call: self.start.as_ref().and_then(|s| s.call.clone()),
            tenant: self.config.tenant.clone(),
            provider: self.config.provider,
            route: self.route().map(str::to_owned),
            reason,
            duration: self.ended_after,
            heard: self.media.as_ref().map_or(Duration::ZERO, MediaPath::heard),
            played: self.media.as_ref().map_or(Duration::ZERO, MediaPath::played),
            frames_in: self.wire.arrived,
            frames_out: self.wire.sent,
            texts_in: self.words.as_ref().map_or(0, |words| words.arrived),
            texts_out: self.words.as_ref().map_or(0, |words| words.sent),
            underruns: counts.map_or(0, |c| c.underruns),
            reattached: self.reattached,
            drift_ppm: self.media.as_ref().and_then(|m| m.caller.as_ref()?.timeline.drift_ppm()),
            modules: self.module_summaries(),
            private: self.private_counts(),
            ledger: self.ledger(),
        }
    }

    fn module_summaries(&self) -> Vec<ModuleSummary> {
        let summary = |port: &port::Port| ModuleSummary {
            replaces: port.config.replaces.clone(),
            name: port.config.name.clone(),
            starts: port.starts,
            results: port.results,
            overran: port.overran,
            error: port.last_error.clone(),
            replaced: port.replaced,
            bypassed: self.bypassed(port),
        };
        self.ports.iter().filter(|port| port.took_part()).map(summary).collect()
    }

    /// Every hop's accounts as they stand.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let wire = &self.wire;
        let mut hops = vec![
            Hop::new("wire.in", Unit::Messages, wire.arrived, wire.taken, 0)
                .dropping(Drop::Early, wire.early)
                .dropping(Drop::AfterEnd, wire.after_end),
        ];
        hops.extend(self.media.iter().flat_map(MediaPath::hops));
        for port in &self.ports {
            hops.extend(self.port_hops(port));
        }
        hops.push(
            Hop::new("wire.out", Unit::Messages, wire.emitted, wire.sent, wire.pending)
                .dropping(Drop::SendFailed, wire.send_failed),
        );
        Ledger { hops }
    }

    fn port_hops(&self, port: &port::Port) -> Vec<Hop> {
        let mut hops = Vec::new();
        let name = &port.config.name;
        for (track, heard) in port.hearings() {
            let ring = self.media.as_ref().and_then(|m| m.heard_by(port.filter, track));
            let Some(ring) = ring else { continue };
            // What a filter is not there for passes it, and is nothing that it misses.
            let is_passed = port.filter.is_some() && port.agreed.is_none();
            let end = if is_passed { heard.end } else { ring.end() };
            let (entered, held) = (end - heard.origin, heard.end.max(ring.start()).min(end));
            // Of one that is away or does not read, what the ring no longer holds.
            let gone = held - heard.end;
            let name = format!("module.{name}.in.{track}");
            let queued = end - held;
            hops.push(
                Hop::new(name, Unit::Samples, entered, heard.read, queued)
                    .dropping(Drop::Overwritten, heard.lagged + gone),
            );
        }
        let out = [("out", Unit::Samples, port.spoken), ("say", Unit::Messages, port.said)];
        for (way, unit, spoken) in out.into_iter().filter(|(.., spoken)| spoken.entered > 0) {
            hops.push(
                Hop::new(format!("module.{name}.{way}"), unit, spoken.entered, spoken.left, 0)
                    .dropping(Drop::NotSpeaker, spoken.not_speaker)
                    .dropping(Drop::Stale, spoken.stale)
                    .dropping(Drop::AfterEnd, spoken.after_end)
                    .dropping(Drop::Overflow, spoken.flooded)
                    .dropping(Drop::Cleared, spoken.cleared)
                    .dropping(Drop::CallEnded, spoken.call_ended)
                    .dropping(Drop::ModuleGone, spoken.module_gone),
            );
        }
        hops.extend(port.heard.hop(name, "text"));
        hops.extend(port.keys.hop(name, "keys"));
        hops.extend(self.filter_hops(port));
        if port.unread > 0 {
            let name = format!("module.{name}.told");
            let read = port.told - port.unread;
            hops.push(
                Hop::new(name, Unit::Messages, port.told, read, 0)
                    .dropping(Drop::Unread, port.unread),
            );
        }
        hops
    }
}

/// Messages a module gets: those it asked for, and words if they are what it is there for.
fn wanted(kind: Kind, ready: &Ready) -> Vec<String> {
    let mut want = ready.want.clone();
    if kind == Kind::Text && !want.iter().any(|what| what == "text") {
        want.push("text".into());
    }
    want
}

/// What [`Agreed::next`] brought.
enum Took {
    Frame {
        track: u16,
        pts: u64,
        flags: ringback_module::FrameFlags,
        rate: u32,
    },
    /// It was lost to this module.
    Lag {
        track: u16,
        missing: Range<u64>,
        /// Of that, what it was never given before.
        lost: u64,
        fresh: bool,
        rate: SampleRate,
    },
    /// There was no stream.
    Gap {
        track: u16,
        from: u64,
        to: u64,
        rate: SampleRate,
    },
}

impl Agreed {
    /// The next frame of any track, each track in its turn.
    fn next(&mut self, media: &mut MediaPath, samples: &mut Vec<i16>) -> Option<Took> {
        let rate = self.input?.rate;
        for _ in 0..self.taps.len() {
            self.turn = (self.turn + 1) % self.taps.len();
            let (track, tap) = &mut self.taps[self.turn];
            let Some(ring) = media.ring_for(self.filter, *track) else { continue };
            match tap.next(ring, samples) {
                Next::Frame { pts, flags } => {
                    return Some(Took::Frame { track: *track, pts, flags, rate });
                }
                Next::Lagged { from, to, lost, fresh } => {
                    let (track, missing, rate) = (*track, from..to, ring.rate());
                    return Some(Took::Lag { track, missing, lost, fresh, rate });
                }
                Next::Gap { from, to } => {
                    return Some(Took::Gap { track: *track, from, to, rate: ring.rate() });
                }
                Next::Empty => {}
            }
        }
        None
    }
}
