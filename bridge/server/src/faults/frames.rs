//! Frames by the million, over real sockets in real time: the far end's count against the ledgers of the bridge. No fault is done.

use std::fmt;
use std::time::Duration;

use ringback_proto::provider;
use serde_json::{Value, json};

use super::bridge::{Bridge, ECHO, PATIENCE};
use super::scene::{hop, lost, named_of};
use super::{Ground, Options};
use crate::bench::{Answers, FRAME, Plan, Server, attend};

/// What was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// Calls at once.
    pub calls: usize,
    /// Frames said by the far end.
    pub said: u64,
    /// Messages of sound that the bridge says came.
    pub came: u64,
    /// Messages of sound that the bridge says it sent.
    pub went: u64,
    /// Frames heard by the far end, each once.
    pub heard: u64,
    /// Frames heard again.
    pub twice: u64,
    /// Frames that the bridge says it dropped.
    pub named: u64,
    /// Frames that were not heard and that the ledger of their call does not name.
    pub unnamed: u64,
    /// Calls whose ledger does not balance.
    pub unbalanced: usize,
    /// What disturbed the run, if anything did.
    pub spoiled: Option<&'static str>,
}

impl Count {
    /// Frames of which nobody knows where they are.
    #[must_use]
    pub const fn unaccounted(&self) -> u64 {
        self.said.abs_diff(self.came) + self.unnamed
    }

    /// Whether all is accounted for.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.unaccounted() == 0 && self.twice == 0 && self.unbalanced == 0
    }

    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "calls": self.calls, "said": self.said, "came": self.came, "went": self.went, "heard": self.heard, "twice": self.twice,
            "dropped_by_name": self.named, "unbalanced": self.unbalanced, "unaccounted": self.unaccounted(), "spoiled": self.spoiled,
        })
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} calls over twilio, in real time over sockets", self.calls)?;
        writeln!(f, "said by the far end      {:>12}", self.said)?;
        writeln!(f, "came, says the ledger    {:>12}", self.came)?;
        writeln!(f, "went, says the ledger    {:>12}", self.went)?;
        writeln!(f, "heard by the far end     {:>12}", self.heard)?;
        writeln!(f, "heard again              {:>12}", self.twice)?;
        writeln!(f, "dropped, by a name       {:>12}", self.named)?;
        writeln!(f, "ledgers out of balance   {:>12}", self.unbalanced)?;
        writeln!(f, "unaccounted              {:>12}", self.unaccounted())?;
        match self.spoiled {
            Some(why) => writeln!(f, "the machine was busy: {why}"),
            None => Ok(()),
        }
    }
}

/// Sends at least so many frames over `calls` calls at once, and counts.
///
/// # Errors
/// If the bridge cannot be started or a call breaks.
pub fn count_frames(frames: u64, calls: usize, progress: &dyn Fn(f64)) -> Result<Count, String> {
    let ground = Ground::new(&Options::default())?;
    let room = calls + 10;
    let toml = format!("[limits]\nmax_calls = {room}\nmax_connections = {}\n{ECHO}", room + 10);
    let bridge = Bridge::start(&ground, &toml)?;
    let each = frames.div_ceil(calls as u64).max(50);
    let plan = Plan {
        provider: provider::find("twilio").ok_or("there is no Twilio")?,
        format: None,
        calls,
        warm_up: Duration::ZERO,
        duration: FRAME * u32::try_from(each).map_err(|_| "so many frames take too long")?,
        answers: Answers::Calls,
        silent: false,
    };
    let server = Server::running(bridge.authority.clone(), bridge.id());
    let attended = attend(&plan, &server, progress)?;
    let ended = bridge.ended_within("bench-", calls, PATIENCE)?;
    let missing = attended.missing.iter().enumerate();
    let unnamed =
        missing.map(|(at, missing)| missing.unnamed(named_of(&format!("bench-{at}"), &ended)));
    let unnamed = unnamed.sum();
    let sum = |name: &str, figure: &str| ended.iter().map(|end| hop(end, name, figure)).sum();
    Ok(Count {
        calls,
        said: attended.said,
        came: sum("wire.in", "entered"),
        went: sum("wire.out", "left"),
        heard: attended.heard,
        twice: attended.figures.duplicates,
        named: ended.iter().flat_map(lost).map(|(_, frames)| frames).sum(),
        unnamed,
        unbalanced: ended.iter().filter(|end| end["balanced"] != true).count(),
        spoiled: attended.figures.spoiled_by(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_heard_nor_named_is_unaccounted() {
        let whole = Count {
            calls: 1,
            said: 100,
            came: 100,
            went: 100,
            heard: 100,
            twice: 0,
            named: 0,
            unnamed: 0,
            unbalanced: 0,
            spoiled: None,
        };
        assert!(whole.is_whole());
        let gone = Count { heard: 99, unnamed: 1, ..whole.clone() };
        assert_eq!((gone.unaccounted(), gone.is_whole()), (1, false));
        assert!(Count { named: 1, unnamed: 0, ..gone }.is_whole());
        assert_eq!(Count { came: 98, ..whole.clone() }.unaccounted(), 2);
        assert!(!Count { twice: 1, ..whole.clone() }.is_whole());
        assert!(!Count { unbalanced: 1, ..whole }.is_whole());
    }
}
