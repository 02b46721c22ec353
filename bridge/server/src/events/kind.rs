//! The kinds of events there are, as they are asked for by name. Tells nothing of what happened.

use std::fmt;
use std::str::FromStr;

use ringback_proto::session::Report;

use crate::call::Seen;

macro_rules! kinds {
    ($($kind:ident $name:literal $help:literal,)+) => {
        /// What kind of thing happened on a call.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum EventKind {
            $(#[doc = $help] $kind,)+
        }

        impl EventKind {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// Its name where kinds are chosen.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }
        }
    };
}

kinds! {
    CallStarted "call.started" "The stream told that it started.",
    CallEnded "call.ended" "The call is over; with all its accounts.",
    CallDetached "call.detached" "The stream was lost; another may go on with the call.",
    CallReattached "call.reattached" "Another stream goes on with the call.",
    ModuleReady "module.ready" "A module began to work for the call.",
    ModuleFailed "module.failed" "A module crashed, hung or broke the contract.",
    TranscriptFinal "transcript.final" "Words that stay as they are.",
    TranscriptPartial "transcript.partial" "Words that may still change.",
    Say "say" "Words that a module had the provider speak.",
    Turn "turn" "Somebody's turn to speak began or ended.",
    Vad "vad" "Speech or silence.",
    Dtmf "dtmf" "A key was pressed.",
    Event "event" "Something that a module gave a name.",
    Log "log" "A module's own log.",
    Metric "metric" "A module's own figure.",
    Error "error" "A module reports trouble.",
    Cleared "cleared" "What was being played was dropped.",
    Dropped "dropped" "Sound was dropped.",
    Notice "notice" "An oddity of the provider's messages.",
    Private "private" "A private part of the call began or ended.",
    Consent "consent" "The caller agreed to be recorded, or no longer does.",
}

impl EventKind {
    /// The kind of something seen, or `None` if it is no event.
    #[must_use]
    pub(crate) fn of(seen: &Seen<'_>) -> Option<Self> {
        let report = match seen {
            Seen::SocketFailed(_) => return None,
            Seen::Ended(_) => return Some(Self::CallEnded),
            Seen::Late(_) => return Some(Self::Event),
            Seen::Report { report, .. } => report,
        };
        Some(match report {
            Report::Started(_) => Self::CallStarted,
            Report::Detached { .. } => Self::CallDetached,
            Report::Reattached { .. } => Self::CallReattached,
            Report::ModuleReady(_) => Self::ModuleReady,
            Report::ModuleFailed { .. } => Self::ModuleFailed,
            Report::Transcript(_, words) if words.is_final => Self::TranscriptFinal,
            Report::Transcript(..) => Self::TranscriptPartial,
            Report::Said(..) => Self::Say,
            Report::Turn(..) => Self::Turn,
            Report::Vad(..) => Self::Vad,
            Report::Dtmf(..) => Self::Dtmf,
            Report::Event(..) => Self::Event,
            Report::Log(..) => Self::Log,
            Report::Metric(..) => Self::Metric,
            Report::Error(..) => Self::Error,
            Report::Cleared { .. } => Self::Cleared,
            Report::Dropped { .. } => Self::Dropped,
            Report::Notice(_) => Self::Notice,
            Report::Private { .. } => Self::Private,
            Report::Consent(_) => Self::Consent,
            _ => return None,
        })
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EventKind {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name).ok_or(())
    }
}

/// Kinds of events that somebody wants.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct EventSet(u32);

impl EventSet {
    /// Whether this kind is wanted.
    #[must_use]
    pub const fn contains(self, kind: EventKind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// What either wants.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The kinds in it.
    pub fn kinds(self) -> impl Iterator<Item = EventKind> {
        EventKind::ALL.iter().copied().filter(move |kind| self.contains(*kind))
    }
}

impl FromIterator<EventKind> for EventSet {
    fn from_iter<T: IntoIterator<Item = EventKind>>(kinds: T) -> Self {
        Self(kinds.into_iter().fold(0, |bits, kind| bits | kind.bit()))
    }
}

impl fmt::Debug for EventSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.kinds().map(EventKind::name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_and_a_place_of_its_own() {
        let mut all = EventSet::default();
        for kind in EventKind::ALL {
            assert_eq!(kind.name().parse(), Ok(*kind));
            assert!(!all.contains(*kind), "{kind}");
            all = all.and([*kind].into_iter().collect());
        }
        assert_eq!(all.kinds().count(), EventKind::ALL.len());
        assert!("transcript".parse::<EventKind>().is_err());
    }
}
