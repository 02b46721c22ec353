//! A track of the call: payloads become samples in a ring. For the caller's wire and, where nobody sends it, the agent's side.

use std::time::Duration;

use ringback_codecs::{Decoder, MediaFormat, SampleRate, UnsupportedFormat};

use crate::Instant;
use crate::ledger::{Drop, Hop, Unit};
use crate::media::ring::Ring;
use crate::media::timeline::{Arrival, Step, Timeline, TimelinePolicy};
use crate::provider::Media;
use crate::scratch::Pcm;

/// An outage shorter than this is silence and not worth a word.
const SHORT_GAP: Duration = Duration::from_millis(40);
/// Two tracks may be apart this much before silence aligns them.
const ALIGN_TOLERANCE: Duration = Duration::from_millis(40);
/// Playback may begin this much off its place on the call's clock; less would cut hairs in continuous sound.
const HEARD_TOLERANCE: Duration = Duration::from_millis(5);

/// A track that comes off the wire.
pub(super) struct WireTrack {
    pub(super) ring: Ring,
    pub(super) timeline: Timeline,
    format: MediaFormat,
    decoder: Box<dyn Decoder>,
    counts: Counts,
    /// When the last payload came.
    heard_until: Instant,
    /// The stream was lost, and of the next one nothing was heard yet.
    reopens: bool,
}

#[derive(Default)]
struct Counts {
    payloads: u64,
    decoded: u64,
    undecodable: u64,
}

impl WireTrack {
    pub(super) fn new(
        format: MediaFormat,
        keep: Duration,
        policy: TimelinePolicy,
    ) -> Result<Self, UnsupportedFormat> {
        if format.channels != 1 {
            let reason = "a track has one channel; protocols take channels apart";
            return Err(UnsupportedFormat { format, reason });
        }
        Ok(Self {
            ring: Ring::new(format.encoding, format.rate, keep),
            timeline: Timeline::new(format.rate, policy),
            format,
            decoder: format.decoder()?,
            counts: Counts::default(),
            heard_until: Instant::ZERO,
            reopens: false,
        })
    }

    /// Whether nothing was heard on it yet.
    pub(super) fn is_silent(&self) -> bool {
        self.ring.end() == 0
    }

    /// How long a payload lasts.
    pub(super) fn duration_of(&self, payload: &[u8]) -> Duration {
        self.format.rate.duration_of(self.format.samples_of(payload) as u64)
    }

    /// Puts silence in front, so that position 0 is the call's first sample.
    pub(super) fn begin_at(&mut self, offset: Duration) {
        if offset > ALIGN_TOLERANCE {
            self.ring.push_silence(self.format.rate.samples_in(offset));
        }
    }

    /// The stream is gone; what comes next is another's.
    pub(super) fn detach(&mut self) {
        self.reopens = !self.is_silent();
    }

    /// Whether another stream goes on with it whose first sound this would be.
    pub(super) fn reopens(&self) -> bool {
        self.reopens
    }

    /// The first sound of another stream began at `began`: what nobody sent until then is a gap.
    pub(super) fn reopen(&mut self, now: Instant, began: Instant) -> u64 {
        self.reopens = false;
        let away = began - self.heard_until;
        let missing = self.format.rate.samples_in(away);
        let refused = self.step(|timeline, sink| timeline.reopen(now, missing, sink));
        self.decoder.reset();
        if away > SHORT_GAP {
            self.ring.push_gap(missing);
        } else {
            self.ring.push_silence(missing);
        }
        refused
    }

    /// Takes a payload; says how many payloads the decoder refused.
    pub(super) fn push(&mut self, now: Instant, media: &Media, payload: &[u8]) -> u64 {
        self.heard_until = now;
        let samples = self.format.samples_of(payload) as u64;
        let arrival =
            Arrival { payload, samples, sequence: media.sequence, timestamp: media.timestamp };
        self.step(|timeline, sink| timeline.push(now, arrival, sink))
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> u64 {
        self.ring.begin_message();
        self.step(|timeline, sink| timeline.handle_timeout(now, sink))
    }

    pub(super) fn finish(&mut self, now: Instant) -> u64 {
        self.ring.begin_message();
        self.step(|timeline, sink| timeline.finish(now, sink))
    }

    fn step(&mut self, act: impl FnOnce(&mut Timeline, &mut dyn FnMut(Step<'_>))) -> u64 {
        let Self { ring, timeline, decoder, counts, format, .. } = self;
        let mut pcm = Pcm::lend();
        let refused = counts.undecodable;
        act(timeline, &mut |step| apply(step, *format, decoder.as_mut(), ring, &mut pcm, counts));
        counts.undecodable - refused
    }

    /// The track's hops in the ledger.
    pub(super) fn hops(&self, name: &str) -> [Hop; 2] {
        let c = self.timeline.counts();
        let order = Hop::new(
            format!("{name}.order"),
            Unit::Messages,
            c.arrived,
            self.counts.payloads,
            self.timeline.queued(),
        )
        .dropping(Drop::Duplicate, c.duplicate)
        .dropping(Drop::Late, c.late);
        let decode = Hop::new(
            format!("{name}.decode"),
            Unit::Messages,
            self.counts.payloads,
            self.counts.decoded,
            0,
        )
        .dropping(Drop::Undecodable, self.counts.undecodable);
        [order, decode]
    }
}

fn apply(
    step: Step<'_>,
    format: MediaFormat,
    decoder: &mut dyn Decoder,
    ring: &mut Ring,
    pcm: &mut Vec<i16>,
    counts: &mut Counts,
) {
    pcm.clear();
    match step {
        Step::Payload(payload) => {
            counts.payloads += 1;
            if decoder.decode(payload, pcm).is_ok() {
                counts.decoded += 1;
                ring.push(pcm);
            } else {
                counts.undecodable += 1;
                decoder.conceal(format.samples_of(payload), pcm);
                ring.push_synthesized(pcm);
            }
        }
        Step::Lost { samples, next } => {
            match next {
                Some(next) => decoder.recover(next, samples as usize, pcm),
                None => decoder.conceal(samples as usize, pcm),
            }
            ring.push_synthesized(pcm);
        }
        Step::Silence { samples } => {
            decoder.conceal(samples as usize, pcm);
            ring.push_synthesized(pcm);
        }
    }
}

/// What the caller hears, laid out on the call's clock from what playback says was heard.
pub(super) struct HeardTrack {
    pub(super) ring: Ring,
    rate: SampleRate,
}

impl HeardTrack {
    pub(super) fn new(format: MediaFormat, keep: Duration) -> Self {
        let ring = Ring::new(format.encoding, format.rate, keep);
        Self { ring, rate: format.rate }
    }

    /// `heard` ends now, `elapsed` after the call's first sample; silence fills what came before it.
    pub(super) fn push(&mut self, elapsed: Duration, heard: &[i16]) {
        self.ring.begin_message();
        let due = self.rate.samples_in(elapsed);
        let have = self.ring.end() + heard.len() as u64;
        let idle = due.saturating_sub(have);
        if idle > self.rate.samples_in(HEARD_TOLERANCE) || (heard.is_empty() && idle > 0) {
            self.ring.push_silence(idle);
        }
        self.ring.push(heard);
    }
}
