//! A bad line, made on purpose: octets between two ends come late, slowly, in pieces, damaged, or not at all. Understands none of them.
//!
//! What happens, and when, follows from the seed alone: from the number of the connection, the way, the time since it was opened and
//! the position in it, never from how the octets happened to arrive. So the same seed is the same line again, in the time of this
//! machine between sockets ([`Proxy`]) and in simulated time between streams in memory ([`line()`]).
//!
//! Each way holds a bounded number of octets. Beyond them it does not read, so that whoever sends feels the line as it is.

mod pipe;
mod proxy;
mod schedule;

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

pub use pipe::line;
pub use proxy::{Proxy, Record};

/// What is wrong with a line. Nothing, by default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Faults {
    /// Every octet comes so much later.
    pub latency: Duration,
    /// And up to so much later still, another time every 10 ms; nothing overtakes.
    pub jitter: Duration,
    /// Most octets a second.
    pub rate: Option<u64>,
    /// Again and again nothing passes.
    pub stall: Option<Stall>,
    /// Both ends are cut off so long after the connection was opened: TCP RST.
    pub reset: Option<Duration>,
    /// After so long the receiver is told that no more will come; what is sent all the same is thrown away.
    pub half_close: Option<Duration>,
    /// Octets are passed on in pieces of at most so many.
    pub slice: Option<NonZeroUsize>,
    /// The probability with which a bit is turned over, 0 to 1.
    pub flip: f64,
    /// Another seed is another line.
    pub seed: u64,
    /// Which way it is bad; a reset is both.
    pub way: Way,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Way {
    /// From whoever connects to whoever is connected to.
    In,
    /// The way back.
    Out,
    /// Either.
    #[default]
    Both,
}

impl Way {
    /// Whether that way is meant.
    pub(super) const fn has(self, inward: bool) -> bool {
        matches!((self, inward), (Self::Both, _) | (Self::In, true) | (Self::Out, false))
    }
}

/// A line on which nothing passes for a while, once or again and again: what was sent meanwhile comes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// How long.
    pub lasts: Duration,
    /// From the opening to the first.
    pub first: Duration,
    /// From the beginning of one to the beginning of the next, if there is another.
    pub every: Option<Duration>,
}

impl Stall {
    /// One, after so long.
    #[must_use]
    pub const fn once(after: Duration, lasts: Duration) -> Self {
        Self { lasts, first: after, every: None }
    }

    /// Nothing passes any more after so long, and the connection stays open: a host that lost power.
    #[must_use]
    pub const fn for_ever(after: Duration) -> Self {
        Self::once(after, Duration::MAX)
    }

    /// So long, so often; the first after one period.
    #[must_use]
    pub const fn again(lasts: Duration, every: Duration) -> Self {
        Self { lasts, first: every, every: Some(every) }
    }

    /// Which stall this is, 1 being the first, and when it ends; `None` between two.
    fn at(self, since: Duration) -> Option<(u64, Duration)> {
        let after = since.checked_sub(self.first)?;
        let every = self.every.unwrap_or(Duration::MAX);
        let number = u32::try_from(after.as_nanos() / every.as_nanos().max(1)).unwrap_or(u32::MAX);
        let began = self.first.saturating_add(every.saturating_mul(number));
        let ends = began.saturating_add(self.lasts);
        (since < ends).then_some((u64::from(number) + 1, ends))
    }
}

impl FromStr for Stall {
    type Err = String;

    /// `2s@10s`: two seconds, every ten. `for-ever@5s` begins after five and never ends.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "found {text:?}, expected how long and how often, such as \"2s@10s\", or \"for-ever@5s\""
            )
        };
        let (lasts, every) = text.split_once('@').ok_or_else(wrong)?;
        let every = crate::config::parse_time(every).filter(|every| !every.is_zero());
        let every = every.ok_or_else(wrong)?;
        if lasts == "for-ever" {
            return Ok(Self::for_ever(every));
        }
        let lasts = crate::config::parse_time(lasts).ok_or_else(wrong)?;
        if lasts >= every {
            return Err(format!("{text:?} leaves no time in which anything passes"));
        }
        Ok(Self::again(lasts, every))
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Both ends said that no more will come.
    Closed,
    /// It was reset, as was asked for.
    Reset,
    /// One end was gone; the other was cut off.
    Broken,
    /// Whom it was for was not there.
    Refused,
    /// This program ended.
    Stopped,
}

impl End {
    /// As a word for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Broken => "broken by an end",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
        }
    }
}

/// What was done to one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Its number, from 0.
    pub connection: u64,
    /// How it ended.
    pub ended: End,
    /// After how long.
    pub lasted_ms: u64,
    /// From whoever connected.
    #[serde(rename = "in")]
    pub inward: Done,
    /// To whoever connected.
    #[serde(rename = "out")]
    pub outward: Done,
}

/// What was done on one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Done {
    /// Octets passed on.
    pub octets: u64,
    /// Writes they were passed on in.
    pub pieces: u64,
    /// Octets that came and were not passed on: after a half-close, or because the connection ended.
    pub discarded: u64,
    /// Bits turned over.
    pub flipped: u64,
    /// Stalls in which something had to wait.
    pub stalls: u64,
    /// The longest that anything took from one end to the other.
    pub longest_ms: u64,
    /// Whether the receiver was told that no more comes while the sender was still there.
    pub half_closed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_are_how_long_and_how_often() {
        let stall: Stall = "2s@10s".parse().unwrap();
        let at = |ms| stall.at(Duration::from_millis(ms));
        assert_eq!((at(0), at(1_999), at(9_999)), (None, None, None), "the first is yet to come");
        assert_eq!(at(10_000), Some((1, Duration::from_secs(12))));
        assert_eq!(at(21_999), Some((2, Duration::from_secs(22))));
        assert_eq!(at(12_000), None);
        let once = Stall::once(Duration::from_secs(1), Duration::from_secs(3));
        assert_eq!(once.at(Duration::from_secs(3)), Some((1, Duration::from_secs(4))));
        assert_eq!(
            (once.at(Duration::from_secs(4)), once.at(Duration::from_secs(9))),
            (None, None)
        );
        let dead: Stall = "for-ever@5s".parse().unwrap();
        assert_eq!(dead.at(Duration::from_secs(4)), None);
        assert_eq!(dead.at(Duration::from_secs(86_400)), Some((1, Duration::MAX)));
        for wrong in ["", "2s", "@", "2s@", "2@10", "10s@10s", "2s@0s", "ever@1s"] {
            assert!(wrong.parse::<Stall>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn ways_are_seen_from_whoever_connects() {
        let has = |way: Way| (way.has(true), way.has(false));
        assert_eq!(has(Way::In), (true, false));
        assert_eq!(has(Way::Out), (false, true));
        assert_eq!(has(Way::Both), (true, true));
    }
}
