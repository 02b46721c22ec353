//! Double-entry accounts of sound: at every hop, what came in went out, waits, or was dropped for a named reason.

use std::fmt;

/// Why sound was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Drop {
    /// Came before the stream started, for a track the stream does not have, or in answer to sound that has not been.
    Early,
    /// Came after the stream ended.
    AfterEnd,
    /// Came before.
    Duplicate,
    /// Came after its gap was given up, or after what it was to replace.
    Late,
    /// The decoder could not read it.
    Undecodable,
    /// Overwritten before a module read it.
    Overwritten,
    /// Dropped by a clear.
    Cleared,
    /// Dropped to get rid of latency.
    Trimmed,
    /// The queue was full.
    Overflow,
    /// The module may not speak on this call.
    NotSpeaker,
    /// Meant for playback that was cleared since.
    Stale,
    /// The call ended first.
    CallEnded,
    /// The module it was for failed for good.
    ModuleGone,
    /// The module it was for does not read.
    Unread,
    /// The encoder could not write it.
    Unencodable,
    /// The socket failed.
    SendFailed,
    /// Passed a filter as it was: it was not answered in time.
    BypassedLate,
    /// Passed a filter as it was: the filter failed.
    BypassedFailed,
    /// Passed a filter as it was: the filter was not there.
    BypassedDown,
}

impl Drop {
    /// Name in metrics and summaries.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Early => "early",
            Self::AfterEnd => "after_end",
            Self::Duplicate => "duplicate",
            Self::Late => "late",
            Self::Undecodable => "undecodable",
            Self::Overwritten => "overwritten",
            Self::Cleared => "cleared",
            Self::Trimmed => "trimmed",
            Self::Overflow => "overflow",
            Self::NotSpeaker => "not_speaker",
            Self::Stale => "stale",
            Self::CallEnded => "call_ended",
            Self::ModuleGone => "module_gone",
            Self::Unread => "unread",
            Self::Unencodable => "unencodable",
            Self::SendFailed => "send_failed",
            Self::BypassedLate => "bypassed_late",
            Self::BypassedFailed => "bypassed_failed",
            Self::BypassedDown => "bypassed_down",
        }
    }

    /// Whether nothing was lost: the sound took another way.
    #[must_use]
    pub const fn is_bypass(self) -> bool {
        matches!(self, Self::BypassedLate | Self::BypassedFailed | Self::BypassedDown)
    }
}

impl Drop {
    /// Whether somebody asked for it: a clear, or the end of the call.
    #[must_use]
    pub const fn is_wanted(self) -> bool {
        matches!(self, Self::Cleared | Self::CallEnded)
    }
}

/// What is counted at a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Media messages of the provider.
    Messages,
    /// Samples per channel.
    Samples,
}

/// One hop of a call. `entered` and what became of it are counted at different places, which is what makes the sum a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// Name, `wire.in` say.
    pub name: String,
    /// What is counted.
    pub unit: Unit,
    /// Came in.
    pub entered: u64,
    /// Went out.
    pub left: u64,
    /// Still there.
    pub queued: u64,
    /// Dropped, by reason; reasons that never happened are left out.
    pub dropped: Vec<(Drop, u64)>,
}

impl Hop {
    /// A hop with nothing dropped yet.
    #[must_use]
    pub fn new(name: impl Into<String>, unit: Unit, entered: u64, left: u64, queued: u64) -> Self {
        Self { name: name.into(), unit, entered, left, queued, dropped: Vec::new() }
    }

    /// Adds drops, if there were any.
    #[must_use]
    pub fn dropping(mut self, reason: Drop, count: u64) -> Self {
        if count > 0 {
            self.dropped.push((reason, count));
        }
        self
    }

    /// All that was dropped.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.dropped.iter().map(|(_, count)| count).sum()
    }

    /// What came in less what is accounted for; zero in a right program.
    #[must_use]
    pub fn imbalance(&self) -> i128 {
        i128::from(self.entered)
            - i128::from(self.left)
            - i128::from(self.queued)
            - i128::from(self.lost())
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Messages => "messages",
            Unit::Samples => "samples",
        };
        write!(
            f,
            "{}: {} {unit} in, {} out, {} queued",
            self.name, self.entered, self.left, self.queued
        )?;
        for (reason, count) in &self.dropped {
            write!(f, ", {count} {}", reason.name())?;
        }
        match self.imbalance() {
            0 => Ok(()),
            off => write!(f, ", UNBALANCED by {off}"),
        }
    }
}

/// All hops of a call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// In the order the sound takes.
    pub hops: Vec<Hop>,
}

impl Ledger {
    /// Hops whose sums do not come out; each is a defect of the bridge.
    pub fn unbalanced(&self) -> impl Iterator<Item = &Hop> {
        self.hops.iter().filter(|hop| hop.imbalance() != 0)
    }

    /// Whether every hop's sum comes out.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.unbalanced().next().is_none()
    }

    /// The hop of that name.
    #[must_use]
    pub fn hop(&self, name: &str) -> Option<&Hop> {
        self.hops.iter().find(|hop| hop.name == name)
    }
}
