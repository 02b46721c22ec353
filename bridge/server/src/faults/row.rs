//! What became of a fault: counts of frames by the far end and by the bridge, and a judgement of both. Measures nothing.

use std::collections::BTreeMap;
use std::time::Duration;

/// What became of a fault.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// Frames that the far ends of the faulted calls sent.
    pub sent: u64,
    /// Of those, frames that came back, each once.
    pub back: u64,
    /// Frames that came back again.
    pub twice: u64,
    /// Frames that came back behind later ones.
    pub disordered: u64,
    /// What the bridge's ledger says it dropped, in frames of 20 ms, rounded up, by hop and reason.
    pub lost: BTreeMap<String, u64>,
    /// From the end of the fault until all was as before.
    pub recovery: Option<Duration>,
    /// Healthy calls beside: the 99th percentile of their latency before the fault and during it, in microseconds.
    pub others: Option<(u32, u32)>,
    /// What disturbed the run so much that times say nothing.
    pub spoiled: Option<&'static str>,
    /// What should be known beside.
    pub notes: Vec<String>,
    /// What is wrong, whatever the machine did.
    pub wrong: Vec<String>,
    /// What is wrong unless the machine is to blame.
    pub late: Vec<String>,
    /// Decided otherwise.
    pub decided: Option<Verdict>,
}

/// A judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As it must be.
    Pass,
    /// Not as it must be: how.
    Fail(Vec<String>),
    /// Nothing is wrong but times, and the machine was busy: what with, and what the times were.
    Spoiled(String),
    /// Cannot be run by this command: why.
    Elsewhere(String),
    /// What it is about is not there.
    NotBuilt(String),
}

impl Verdict {
    /// As a word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail(_) => "FAIL",
            Self::Spoiled(_) => "spoiled",
            Self::Elsewhere(_) => "not here",
            Self::NotBuilt(_) => "not built",
        }
    }

    /// Whether the bridge is not as it should be.
    #[must_use]
    pub const fn is_failure(&self) -> bool {
        matches!(self, Self::Fail(_) | Self::NotBuilt(_))
    }
}

impl Row {
    /// One that needs no more.
    pub(super) fn judged(verdict: Verdict) -> Self {
        Self { decided: Some(verdict), ..Self::default() }
    }

    /// Something must hold on any machine.
    pub(super) fn must(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(otherwise());
        }
    }

    /// The fault must have been felt: a row whose fault was none proves nothing.
    pub(super) fn felt(&mut self, holds: bool, what: impl FnOnce() -> String) {
        self.must(holds, || format!("the fault was not felt: {}", what()));
    }

    /// Something must hold, unless the machine was too busy to tell.
    pub(super) fn should(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.late.push(otherwise());
        }
    }

    /// Of two runs that make one row: both, added up.
    pub(super) fn and(mut self, mut other: Self) -> Self {
        self.sent += other.sent;
        self.back += other.back;
        self.twice += other.twice;
        self.disordered += other.disordered;
        for (reason, frames) in other.lost {
            *self.lost.entry(reason).or_default() += frames;
        }
        self.recovery = self.recovery.max(other.recovery);
        // Of the healthy calls those that were worse off.
        let grew =
            |others: &Option<(u32, u32)>| others.map(|(before, during)| during.abs_diff(before));
        self.others = [self.others, other.others].into_iter().max_by_key(grew).flatten();
        self.spoiled = self.spoiled.or(other.spoiled);
        self.notes.append(&mut other.notes);
        self.wrong.append(&mut other.wrong);
        self.late.append(&mut other.late);
        self.decided = self.decided.or(other.decided);
        self
    }

    /// Frames that did not come back.
    #[must_use]
    pub const fn missing(&self) -> u64 {
        self.sent.saturating_sub(self.back)
    }

    /// Whether nothing is wrong but times, which another run may have otherwise.
    pub(super) fn is_only_late(&self) -> bool {
        self.decided.is_none() && self.wrong.is_empty() && !self.late.is_empty()
    }

    /// The judgement.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if let Some(decided) = &self.decided {
            return decided.clone();
        }
        if !self.wrong.is_empty() {
            return Verdict::Fail([&self.wrong[..], &self.late[..]].concat());
        }
        match (self.late.is_empty(), self.spoiled) {
            (true, _) => Verdict::Pass,
            (false, Some(why)) => Verdict::Spoiled(format!("{}; {why}", self.late.join("; "))),
            (false, None) => Verdict::Fail(self.late.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_machine_excuses_times_and_nothing_else() {
        let mut row = Row::default();
        assert_eq!(row.verdict(), Verdict::Pass);
        row.should(false, || "slow".into());
        assert_eq!(row.verdict(), Verdict::Fail(vec!["slow".into()]));
        row.spoiled = Some("busy");
        assert_eq!(row.verdict(), Verdict::Spoiled("slow; busy".into()));
        assert!(!row.verdict().is_failure());
        row.must(false, || "lost".into());
        assert_eq!(row.verdict(), Verdict::Fail(vec!["lost".into(), "slow".into()]));
        assert!(Verdict::NotBuilt(String::new()).is_failure());
        assert!(!Verdict::Elsewhere(String::new()).is_failure());
    }
}
