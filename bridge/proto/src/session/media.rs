//! A started call's media: wire tracks in, playback out. Knows no module.

use std::time::Duration;

use ringback_codecs::{Encoder, SampleRate};

use crate::Instant;
use crate::ledger::{Drop, Hop, Unit};
use crate::media::filter::Filter;
use crate::media::playout::{Emit, Playout};
use crate::media::ring::Ring;
use crate::media::voices::Voices;
use crate::provider::{Command, Media, Outbox, Protocol, ProtocolError, Start, Track};
use crate::scratch::{Octets, Pcm};

use super::port::{AGENT, CALLER, Port, PortId};
use super::track::{HeardTrack, WireTrack};
use super::{Report, Route, Session, SessionConfig};

/// A track's timestamps may place its begin this much later than our own clock does; more is a clock gone wrong.
const MAX_LEAD: Duration = Duration::from_secs(10);

/// Tracks and playback of a call.
pub(super) struct MediaPath {
    pub(super) caller: Option<WireTrack>,
    /// What stands between the caller's sound and everybody else, in this order.
    pub(super) filters: Vec<Filter>,
    pub(super) agent: Agent,
    pub(super) speaker: Option<Out>,
    /// When the first sound began, and its timestamp.
    origin: Option<(Instant, Option<Duration>)>,
    pub(super) other: u64,
    pub(super) undecodable: u64,
    /// What comes now is not for everybody.
    hidden: bool,
}

/// Where the agent's side of the call comes from.
pub(super) enum Agent {
    /// The provider sends it.
    Wire(Box<WireTrack>),
    /// What was played, once somebody listens to it.
    Heard(Option<Box<HeardTrack>>),
}

/// Playback and its encoder.
pub(super) struct Out {
    pub(super) voices: Voices,
    encoder: Box<dyn Encoder>,
    pub(super) encode_failed: u64,
}

impl MediaPath {
    /// The way of a call with these modules.
    pub(super) fn new(
        start: &Start,
        config: &SessionConfig,
        route: &Route,
        ports: &[Port],
    ) -> Result<Self, String> {
        let configs = || ports.iter().map(|port| &port.config);
        let voices = configs().filter(|port| port.is_voice()).map(|port| port.name.as_str());
        let track = |wanted: Track| {
            if !start.tracks.contains(&wanted) {
                return Ok(None);
            }
            let format = start.inbound.ok_or("a track without a format")?;
            let track = WireTrack::new(format, route.keep, config.timeline);
            track.map(Some).map_err(|error| error.to_string())
        };
        let speaker = match start.outbound {
            Some(format) => Some(Out {
                voices: Voices::new(
                    format.rate,
                    start.capabilities,
                    config.playout,
                    &voices.collect::<Vec<_>>(),
                    route.when_both,
                ),
                encoder: format.encoder().map_err(|e| e.to_string())?,
                encode_failed: 0,
            }),
            None => None,
        };
        let agent = match track(Track::Outbound)? {
            Some(track) => Agent::Wire(Box::new(track)),
            None => Agent::Heard(None),
        };
        let caller = track(Track::Inbound)?;
        let filters = configs().filter(|port| port.is_filter());
        let filters = filters.filter_map(|port| {
            Some(Filter::new(caller.as_ref()?.ring.rate(), route.keep, port.budget))
        });
        Ok(Self {
            filters: filters.collect(),
            caller,
            agent,
            speaker,
            origin: None,
            other: 0,
            undecodable: 0,
            hidden: false,
        })
    }

    /// Takes sound off the wire.
    fn push(&mut self, now: Instant, media: &Media, payload: &[u8]) {
        let track = match media.track {
            Track::Inbound => self.caller.as_mut(),
            Track::Outbound => match &mut self.agent {
                Agent::Wire(track) => Some(track.as_mut()),
                Agent::Heard(_) => None,
            },
        };
        let Some(track) = track else {
            self.other += 1;
            return;
        };
        track.ring.begin_message();
        let lasted = track.duration_of(payload);
        // What arrives has been spoken: it began its own length ago.
        let began = Instant::from_epoch(now.since_epoch().saturating_sub(lasted));
        let origin = *self.origin.get_or_insert((began, media.timestamp));
        if track.reopens() {
            self.undecodable += track.reopen(now, began);
        } else if track.is_silent() {
            let ours = began - origin.0;
            track.begin_at(offset(began, media.timestamp, origin).min(ours + MAX_LEAD));
        }
        self.undecodable += track.push(now, media, payload);
    }

    fn wire_tracks(&mut self) -> impl Iterator<Item = &mut WireTrack> {
        let agent = match &mut self.agent {
            Agent::Wire(track) => Some(track.as_mut()),
            Agent::Heard(_) => None,
        };
        self.caller.as_mut().into_iter().chain(agent)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let refused: u64 = self.wire_tracks().map(|t| t.handle_timeout(now)).sum();
        self.undecodable += refused;
    }

    /// The stream is over: what is held back is handed on.
    pub(super) fn finish(&mut self, now: Instant) {
        let refused: u64 = self.wire_tracks().map(|t| t.finish(now)).sum();
        self.undecodable += refused;
    }

    /// The stream is gone, and another one may go on with the call.
    pub(super) fn detach(&mut self, now: Instant) {
        self.finish(now);
        self.wire_tracks().for_each(WireTrack::detach);
        if let Some(out) = &mut self.speaker {
            out.voices.detach(now);
        }
    }

    /// Another stream of the same shape goes on with the call.
    pub(super) fn attach(&mut self, now: Instant) {
        if let Some(out) = &mut self.speaker {
            out.encoder.reset();
            out.voices.attach(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let caller = self.caller.as_ref().and_then(|t| t.timeline.poll_timeout());
        let agent = match &self.agent {
            Agent::Wire(track) => track.timeline.poll_timeout(),
            Agent::Heard(_) => None,
        };
        let speaker = self.speaker.as_ref().and_then(|s| s.voices.poll_timeout());
        let filters = self.filters.iter().filter_map(Filter::poll_timeout).min();
        [caller, agent, speaker, filters].into_iter().flatten().min()
    }

    /// The ring of a track, if it is kept.
    pub(super) fn ring(&self, track: u16) -> Option<&Ring> {
        match (track, &self.agent) {
            (CALLER, _) => match self.filters.last() {
                None => self.caller.as_ref().map(|t| &t.ring),
                Some(filter) => Some(filter.ring()),
            },
            (AGENT, Agent::Wire(track)) => Some(&track.ring),
            (AGENT, Agent::Heard(Some(track))) => Some(&track.ring),
            _ => None,
        }
    }

    /// The ring of a track, to read from.
    pub(super) fn ring_mut(&mut self, track: u16) -> Option<&mut Ring> {
        match (track, &mut self.agent) {
            (CALLER, _) => match self.filters.last_mut() {
                None => self.caller.as_mut().map(|t| &mut t.ring),
                Some(filter) => Some(filter.ring_mut()),
            },
            (AGENT, Agent::Wire(track)) => Some(&mut track.ring),
            (AGENT, Agent::Heard(Some(track))) => Some(&mut track.ring),
            _ => None,
        }
    }

    /// Rate of a track, whether or not it is kept yet.
    pub(super) fn rate(&self, track: u16) -> Option<SampleRate> {
        let played = || (track == AGENT).then(|| Some(self.playout()?.rate())).flatten();
        self.ring(track).map(Ring::rate).or_else(played)
    }

    /// What plays, if the stream does.
    pub(super) fn playout(&self) -> Option<&Playout> {
        self.speaker.as_ref().map(|out| out.voices.playout())
    }

    /// Begins to keep what is played.
    pub(super) fn listen_to_agent(&mut self, format: ringback_codecs::MediaFormat, keep: Duration) {
        if let Agent::Heard(track @ None) = &mut self.agent {
            let mut heard = HeardTrack::new(format, keep);
            if self.hidden {
                heard.ring.hide_from(0);
            }
            *track = Some(Box::new(heard));
        }
    }

    /// What comes from now on is not for everybody. What was heard before must be laid out.
    pub(super) fn hide(&mut self, now: Instant) {
        let elapsed = self.elapsed(now);
        self.hidden = true;
        // Sound has its place by the provider's clock, which may go behind ours: none that is yet to come may be before this.
        self.for_rings(|ring, end| ring.hide_from(end.min(ring.rate().samples_in(elapsed))));
    }

    /// What comes from now on is for everybody again; what is late and was said before is not.
    pub(super) fn show(&mut self, now: Instant) {
        let elapsed = self.elapsed(now);
        self.hidden = false;
        self.for_rings(|ring, end| ring.hide_until(end.max(ring.rate().samples_in(elapsed))));
    }

    /// Every ring, with the end of what it is filled from: filters are behind the caller's track.
    fn for_rings(&mut self, mut act: impl FnMut(&mut Ring, u64)) {
        if let Some(caller) = &mut self.caller {
            let end = caller.ring.end();
            act(&mut caller.ring, end);
            self.filters.iter_mut().for_each(|filter| act(filter.ring_mut(), end));
        }
        let agent = match &mut self.agent {
            Agent::Wire(track) => Some(&mut track.ring),
            Agent::Heard(track) => track.as_mut().map(|track| &mut track.ring),
        };
        if let Some(ring) = agent {
            let end = ring.end();
            act(ring, end);
        }
    }

    /// The call's clock begins now, whether or not there is sound.
    pub(super) fn begin(&mut self, now: Instant) {
        self.origin.get_or_insert((now, None));
    }

    /// When the first sound began.
    pub(super) fn origin(&self) -> Option<Instant> {
        self.origin.map(|(at, _)| at)
    }

    /// Time on the call's clock.
    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        self.origin.map_or(Duration::ZERO, |(origin, _)| now - origin)
    }

    /// Moves what was heard since the last time to the agent's track.
    fn lay_out_heard(&mut self, now: Instant) {
        if let (None, Some(out)) = (self.origin, &self.speaker) {
            // A greeting may be heard before the caller's first packet comes: the call begins with it.
            let heard = out.voices.playout().unclaimed(now);
            if heard > Duration::ZERO {
                self.origin =
                    Some((Instant::from_epoch(now.since_epoch().saturating_sub(heard)), None));
            }
        }
        let elapsed = self.elapsed(now);
        let Some(out) = &mut self.speaker else { return };
        match &mut self.agent {
            Agent::Heard(Some(track)) if self.origin.is_some() => {
                let mut heard = Pcm::lend();
                out.voices.playout_mut().take_heard(now, Some(&mut heard));
                track.push(elapsed, &heard);
            }
            _ => {
                out.voices.playout_mut().take_heard(now, None);
            }
        }
    }

    /// Sound of the caller so far.
    pub(super) fn heard(&self) -> Duration {
        self.caller.as_ref().map_or(Duration::ZERO, |t| t.ring.rate().duration_of(t.ring.end()))
    }

    /// Sound given to the wire so far.
    pub(super) fn played(&self) -> Duration {
        let played = |playout: &Playout| playout.rate().duration_of(playout.counts().left);
        self.playout().map_or(Duration::ZERO, played)
    }

    pub(super) fn hops(&self) -> Vec<Hop> {
        let mut hops = Vec::new();
        hops.extend(self.caller.iter().flat_map(|t| t.hops("caller")));
        if let Agent::Wire(track) = &self.agent {
            hops.extend(track.hops("agent"));
        }
        if let Some(out) = &self.speaker {
            hops.extend(out.voices.counts().map(|(name, c)| {
                let name = format!("voice.{name}");
                Hop::new(name, Unit::Samples, c.entered, c.left, 0)
                    .dropping(Drop::Cleared, c.cleared)
                    .dropping(Drop::Trimmed, c.trimmed)
                    .dropping(Drop::Overflow, c.overflow)
                    .dropping(Drop::CallEnded, c.queued)
            }));
            let c = out.voices.playout().counts();
            hops.push(
                Hop::new(
                    "playout",
                    Unit::Samples,
                    c.entered,
                    c.left - c.resent - out.encode_failed,
                    0,
                )
                .dropping(Drop::Unencodable, out.encode_failed)
                .dropping(Drop::Cleared, c.cleared)
                .dropping(Drop::Trimmed, c.trimmed)
                .dropping(Drop::Overflow, c.overflow)
                .dropping(Drop::CallEnded, c.queued),
            );
        }
        hops
    }
}

/// Where a track begins on the call's clock: by the provider's clock where it tells, else by ours.
fn offset(
    began: Instant,
    timestamp: Option<Duration>,
    origin: (Instant, Option<Duration>),
) -> Duration {
    match (timestamp, origin.1) {
        (Some(timestamp), Some(first)) => timestamp.saturating_sub(first),
        _ => began - origin.0,
    }
}

impl Out {
    /// Sends what playback says may go now.
    fn run(
        &mut self,
        now: Instant,
        protocol: &mut dyn Protocol,
        outbox: &mut Outbox,
        act: impl FnOnce(&mut Voices, &mut dyn FnMut(Emit<'_>)),
    ) -> Result<u64, ProtocolError> {
        let Self { voices, encoder, encode_failed } = self;
        let mut lent = None;
        let mut result = Ok(());
        let mut media = 0;
        act(voices, &mut |emit| {
            let before = outbox.sends().len();
            let command = match emit {
                Emit::Samples(samples) => {
                    let payload: &mut Octets = lent.get_or_insert_default();
                    payload.clear();
                    if encoder.encode(samples, payload).is_err() {
                        *encode_failed += samples.len() as u64;
                        return;
                    }
                    Command::Media { track: Track::Outbound, payload }
                }
                Emit::Mark(name) => Command::Mark(name),
                Emit::Clear => Command::Clear,
                Emit::Pause => Command::Pause,
                Emit::Resume => Command::Resume,
            };
            let is_media = matches!(command, Command::Media { .. });
            if result.is_ok() {
                result = protocol.handle_command(now, command, outbox);
            }
            if is_media {
                media += (outbox.sends().len() - before) as u64;
            }
        });
        result.map(|()| media)
    }
}

impl Session {
    pub(super) fn voices(&mut self) -> Option<&mut Voices> {
        self.media.as_mut().and_then(|m| m.speaker.as_mut()).map(|s| &mut s.voices)
    }

    pub(super) fn playout(&mut self) -> Option<&mut Playout> {
        self.voices().map(Voices::playout_mut)
    }

    /// The present playback generation of a module, 0 on a stream that plays nothing.
    pub(super) fn epoch(&self, id: PortId) -> u32 {
        if let Some(words) = &self.words {
            return words.epoch();
        }
        let voice = self.ports.get(id.0).and_then(|port| port.voice);
        let speaker = self.media.as_ref().and_then(|media| media.speaker.as_ref());
        speaker.map_or(0, |out| out.voices.epoch(voice))
    }

    /// Time on the call's clock.
    pub(super) fn elapsed_ms(&self, now: Instant) -> u64 {
        self.media.as_ref().map_or(0, |media| media.elapsed(now).as_millis() as u64)
    }

    /// Runs playback, or anything that makes it emit.
    pub(super) fn with_voices(
        &mut self,
        now: Instant,
        act: impl FnOnce(&mut Voices, &mut dyn FnMut(Emit<'_>)),
    ) {
        let Self { media, protocol, outbox, .. } = self;
        let Some(out) = media.as_mut().and_then(|m| m.speaker.as_mut()) else { return };
        match out.run(now, protocol.as_mut(), outbox, act) {
            Ok(count) => {
                self.wire.emitted += count;
                self.wire.pending += count;
            }
            Err(error) => self.end(now, super::EndReason::Protocol(error)),
        }
    }

    pub(super) fn run_playout(&mut self, now: Instant) {
        self.with_voices(now, |voices, emit| voices.poll(now, emit));
        if let Some(media) = &mut self.media {
            media.lay_out_heard(now);
        }
        self.tell_playback();
    }

    pub(super) fn handle_media(&mut self, now: Instant, media: &Media, payload: &[u8]) {
        self.wire.arrived += 1;
        let live = self.phase.is_live();
        let Some(path) = self.media.as_mut().filter(|_| live) else {
            self.wire.early += 1;
            return self.report(Report::Dropped { reason: Drop::Early, count: 1 });
        };
        let (other, undecodable) = (path.other, path.undecodable);
        path.push(now, media, payload);
        let dropped = [
            (Drop::Early, path.other - other),
            (Drop::Undecodable, path.undecodable - undecodable),
        ];
        self.wire.taken += 1 - dropped[0].1;
        self.wire.early += dropped[0].1;
        for (reason, count) in dropped.into_iter().filter(|(_, count)| *count > 0) {
            self.report(Report::Dropped { reason, count });
        }
        self.run_filters(now);
    }
}
