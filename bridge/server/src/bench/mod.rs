//! Measures a bridge from outside, as providers would load it: many calls, an open schedule, every frame known by its content.
//!
//! *Open schedule*: a frame is due when its time comes, whether or not the last one came back, and its latency counts from then.
//! A bridge that stalls is charged for every frame that became due meanwhile, and so is a generator that is late itself; its
//! lateness is measured and told, and a run that it spoiled says so.
//!
//! *Floors*: how long a frame takes and what it costs depends on the machine first. So the same frames are sent to servers that
//! only send them back, in turns with the bridge, and the ratio is what is worth quoting.

mod caller;
mod compare;
mod cores;
mod engine;
mod figures;
mod floors;
mod histogram;
mod hops;
mod melody;
mod place;
mod plot;
mod schedule;
mod search;
mod server;
mod stages;
mod stamp;
mod survey;
mod table;
mod tally;
mod tones;
mod usage;
mod voice;
#[cfg(feature = "nats")]
mod worker;

use std::time::Duration;

use ringback_codecs::MediaFormat;
use ringback_proto::Instant;
use ringback_proto::provider::Provider;

use caller::{Caller, Pen};
use engine::Engine;
use schedule::Schedule;
use tally::Tally;
use voice::Voice;

use crate::clock::Clock;

pub use compare::{Comparison, Contender, Standing, in_turns, measure};
pub use figures::{Figures, Moment};
pub use floors::Floor;
pub use histogram::Percentiles;
pub use hops::{Hops, hops};
pub use place::Place;
pub use plot::{Line, Panel, svg};
pub use search::{Found, Range, Trial, search};
pub(crate) use server::listening;
pub use server::{Server, Setup};
pub(crate) use stamp::{FRAME, Heard, Hearing, Stamp};
pub use survey::{P99_US, Scale, Survey, survey};
pub use table::{Bound, Row, Table, Verdict};
pub(crate) use tally::Missing;
pub use usage::Usage;
pub(crate) use usage::of as usage_of;

/// How long frames may still come back after the last one was sent.
const COOL_DOWN: Duration = Duration::from_millis(500);
/// From the last call placed to the first frame.
const BREATH: Duration = Duration::from_millis(50);
/// Codecs with a memory keep the last sound until more comes: so much is said after what is counted.
const ENVOI: Duration = FRAME.saturating_mul(4);
/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_millis(100);

/// Who answers, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// A bridge: with calls.
    Calls,
    /// A WebSocket echo: with the messages that it was sent.
    Messages,
    /// A TCP echo: with the octets that it was sent.
    Octets,
}

impl Answers {
    /// How a server answers.
    #[must_use]
    pub const fn of(setup: &Setup) -> Self {
        match setup {
            Setup::Bridge { .. } => Self::Calls,
            Setup::Floor { floor: Floor::WsEcho, .. } => Self::Messages,
            Setup::Floor { floor: Floor::TcpEcho, .. } => Self::Octets,
        }
    }
}

/// What to measure.
#[derive(Clone)]
pub struct Plan {
    /// Whose protocol is spoken.
    pub provider: &'static dyn Provider,
    /// What is spoken, where the provider has a choice.
    pub format: Option<MediaFormat>,
    /// Calls at once.
    pub calls: usize,
    /// How long frames are sent before anything is measured.
    pub warm_up: Duration,
    /// How long is measured.
    pub duration: Duration,
    /// Who answers.
    pub answers: Answers,
    /// Whether calls are open and nobody speaks.
    pub silent: bool,
}

/// Runs the plan against a server; `progress` is told the share done, 0 to 1.
///
/// # Errors
/// If a call cannot be placed or breaks: the run would measure something else than was asked.
pub fn run(plan: &Plan, server: &Server, progress: &dyn Fn(f64)) -> Result<Figures, String> {
    attend(plan, server, progress).map(|attended| attended.figures)
}

/// A run, and what its figures leave out.
pub(crate) struct Attended {
    pub(crate) figures: Figures,
    /// Frames sent in all, warm-up included.
    pub(crate) said: u64,
    /// Of those, frames that came back.
    pub(crate) heard: u64,
    /// What is missing of each caller, warm-up included.
    pub(crate) missing: Vec<Missing>,
    parts: Vec<histogram::Histogram>,
    part: Duration,
}

impl Attended {
    /// Latencies of the frames that were due between two moments, counted from the end of the warm-up.
    pub(crate) fn between(&self, from: Duration, until: Duration) -> Percentiles {
        let number = |at: Duration| (at.as_nanos() / self.part.as_nanos()) as usize;
        let mut all = histogram::Histogram::new();
        let parts = self.parts.iter().take(number(until)).skip(number(from));
        parts.for_each(|part| all.add(part));
        all.percentiles()
    }
}

/// [`run`], with all that came of it.
///
/// # Errors
/// As [`run`].
pub(crate) fn attend(
    plan: &Plan,
    server: &Server,
    progress: &dyn Fn(f64),
) -> Result<Attended, String> {
    let clock = Clock::start();
    cores::raise_open_files();
    let idle_rss_kib = server.idle_rss_kib();
    let (callers, stamp, pen) = place_all(clock, plan, server)?;
    let start = clock.now() + BREATH;
    let (measure_from, until) = (start + plan.warm_up, start + plan.warm_up + plan.duration);
    let speaking = if plan.silent { 0 } else { plan.calls };
    let mut schedule = Schedule::new(speaking, start, measure_from, until);
    if stamp.is_none() {
        schedule.go_on_for(ENVOI);
    }
    let tally = Tally::new(plan.calls, schedule.frames(), plan.duration);
    let core = server.generator_core();
    let engine = Engine {
        clock,
        callers,
        stamp,
        schedule,
        answers: plan.answers,
        tally,
        cool_down: if plan.silent { Duration::ZERO } else { COOL_DOWN },
        pen,
        spins: core.is_some() || cores::count() > 2,
    };
    std::thread::scope(|scope| {
        let generator = scope.spawn(move || cores::with_cores(core.as_slice(), || engine.run()));
        let sample = || (clock.now(), server.usage());
        let running = || !generator.is_finished();
        sleep_until(clock, measure_from, running, |_| {});
        let before = sample();
        let share =
            |left: Duration| 1.0 - left.as_secs_f64() / plan.duration.as_secs_f64().max(1e-9);
        sleep_until(clock, until, running, |left| progress(share(left)));
        let after = sample();
        let tally = generator
            .join()
            .map_err(|_| "the generator failed; this is a fault of this program")??;
        let figures =
            Figures::new(plan, &tally, figures::Cost::between(before, after, idle_rss_kib));
        let (said, heard, missing) = (tally.said(), tally.heard(), tally.missing());
        Ok(Attended { figures, said, heard, missing, parts: tally.latency, part: tally.part })
    })
}

/// Places all calls, one after the other: a herd at the door is another measurement.
fn place_all(
    clock: Clock,
    plan: &Plan,
    server: &Server,
) -> Result<(Vec<Caller>, Option<Stamp>, Pen), String> {
    let to = server.destination(plan.provider.name());
    let mut pen = Pen::new(plan.provider.transport());
    let mut callers = Vec::with_capacity(plan.calls);
    let mut spoken = None;
    for index in 0..plan.calls {
        let (caller, format) = Caller::place(clock, plan, &to, index, &mut pen)
            .map_err(|error| format!("call {} of {}: {error}", index + 1, plan.calls))?;
        callers.push(caller);
        spoken.get_or_insert(format);
    }
    let format = spoken.ok_or("no calls to measure with")?;
    let stamp = Stamp::new(format);
    if stamp.is_none() {
        for (index, caller) in callers.iter_mut().enumerate() {
            let voice = Voice::new(format, index as u32).map(Box::new);
            caller.voice =
                Some(voice.ok_or_else(|| format!("{format} cannot carry numbered frames"))?);
        }
    }
    Ok((callers, stamp, pen))
}

/// Sleeps in short pieces, as long as something is `running`.
fn sleep_until(clock: Clock, until: Instant, running: impl Fn() -> bool, told: impl Fn(Duration)) {
    loop {
        let left = until - clock.now();
        if left.is_zero() || !running() {
            return;
        }
        std::thread::sleep(left.min(TOLD_EVERY));
        told(until - clock.now());
    }
}
