//! Who plays in a story: calls, their lines and oddities, the modules and what ails them, the end of it all. Drawn from the seed alone.

use std::num::NonZeroUsize;
use std::time::Duration;

use ringback_proto::provider::behaviour::{self, Act, Behaviour};
use ringback_proto::provider::{PROVIDERS, Provider, Transport};

use super::modules::Part as Acted;
use crate::chance::seeded;
use crate::chaos::{Faults, Stall, Way};

/// Draws.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, below: u64) -> u64 {
        seeded::next(&mut self.0) % below.max(1)
    }

    /// True so many times of a hundred.
    fn percent(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }

    fn ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from * 1_000 + self.roll((to - from) * 1_000 + 1))
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len() as u64) as usize]
    }
}

/// One caller.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) index: u64,
    pub(super) provider: &'static dyn Provider,
    pub(super) behaviour: Option<&'static Behaviour>,
    pub(super) line: Option<Faults>,
    pub(super) begins: Duration,
    /// Says so many frames of 20 ms, and stays so long after.
    pub(super) frames: u64,
    pub(super) stays: Duration,
    pub(super) key: Option<char>,
    pub(super) seed: u64,
    /// Which of the provider's formats.
    pub(super) format: u64,
}

impl Call {
    /// What the provider calls it.
    pub(super) fn name(&self) -> String {
        format!("call-{}", self.index)
    }

    /// Whether the line loses and ends nothing: it is only late, or cuts what is sent into pieces.
    pub(super) fn is_gentle(&self) -> bool {
        let gentle = |line: &Faults| {
            let late = Faults {
                latency: line.latency,
                jitter: line.jitter,
                slice: line.slice,
                seed: line.seed,
                way: line.way,
                ..Faults::default()
            };
            late == *line
        };
        self.line.as_ref().is_none_or(gentle)
    }

    /// Whether nothing at all is wrong with it.
    pub(super) fn is_clean(&self) -> bool {
        self.line.is_none() && self.behaviour.is_none()
    }

    /// Whether the caller is gone without the bridge being told, which dials again where it dials at all.
    pub(super) fn outlives(&self) -> bool {
        let silent = [Act::Vanish, Act::Cut, Act::NoGoodbye, Act::EarlyClose];
        let is_silent = self.behaviour.is_some_and(|behaviour| silent.contains(&behaviour.act));
        matches!(self.provider.transport(), Transport::Webhook { .. }) && is_silent
    }
}

/// When and how the bridge is told to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leave {
    pub(super) at: Duration,
    /// Whether calls are given no time to end by themselves.
    pub(super) hurried: bool,
}

/// Everybody.
pub(super) struct Cast {
    pub(super) calls: Vec<Call>,
    /// Who speaks; `None` is the echo of the bridge.
    pub(super) agent: Option<Acted>,
    /// Who listens, apart from the bridge's own detectors.
    pub(super) tap: Option<Acted>,
    /// Who stands between the caller and everybody else.
    pub(super) filter: Option<Acted>,
    /// Whether a failing agent ends the call.
    pub(super) hangs_up: bool,
    pub(super) leave: Option<Leave>,
}

/// The cast of a seed.
pub(super) fn cast(seed: u64) -> Cast {
    let dice = &mut Dice(seed ^ 0x5157_1a9e);
    let count = 6 + dice.roll(7);
    let calls = (0..count).map(|index| call(index, dice)).collect();
    let agent = dice.percent(45).then(|| dice.one_of(&Acted::ALL));
    let tap = dice.percent(50).then(|| dice.one_of(&Acted::ALL));
    let filter = dice.percent(20).then(|| dice.one_of(&Acted::ALL));
    let hangs_up = dice.percent(30);
    let leave =
        dice.percent(50).then(|| Leave { at: dice.ms(0, 4_000), hurried: dice.percent(30) });
    Cast { calls, agent, tap, filter, hangs_up, leave }
}

fn call(index: u64, dice: &mut Dice) -> Call {
    let provider = dice.one_of(PROVIDERS);
    let behaviours = behaviour::all(provider);
    let one_socket = !matches!(provider.transport(), Transport::Webhook { .. });
    let (odd, bad) = (dice.percent(35), dice.percent(45));
    Call {
        index,
        provider,
        behaviour: odd.then(|| dice.one_of(&behaviours)),
        line: (bad && one_socket).then(|| line(dice)),
        begins: dice.ms(0, 1_500),
        frames: 10 + dice.roll(150),
        stays: dice.ms(200, 1_500),
        key: "0123456789*#".chars().nth(dice.roll(20) as usize),
        seed: dice.roll(u64::MAX),
        format: dice.roll(8),
    }
}

/// A bad line; half of them are only late.
fn line(dice: &mut Dice) -> Faults {
    let mut faults = Faults {
        latency: if dice.percent(50) { dice.ms(0, 80) } else { Duration::ZERO },
        jitter: if dice.percent(70) { dice.ms(1, 100) } else { Duration::ZERO },
        slice: dice.percent(30).then(|| NonZeroUsize::MIN.saturating_add(dice.roll(300) as usize)),
        seed: dice.roll(u64::MAX),
        way: dice.one_of(&[Way::Both, Way::Both, Way::In, Way::Out]),
        ..Faults::default()
    };
    match dice.roll(10) {
        0 => faults.reset = Some(dice.ms(1, 3_000)),
        1 => faults.half_close = Some(dice.ms(1, 3_000)),
        2 => faults.stall = Some(Stall::again(dice.ms(100, 1_500), dice.ms(1_600, 4_000))),
        3 => faults.stall = Some(Stall::for_ever(dice.ms(1, 3_000))),
        4 => faults.flip = 1e-7 * (1 + dice.roll(1_000)) as f64,
        5 => faults.rate = Some(24_000 + dice.roll(100_000)),
        _ => {}
    }
    faults
}
