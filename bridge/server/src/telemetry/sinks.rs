//! What becomes of events on their way to sinks: figures by sink, and what is logged about them. Counts; keeps no event.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::{debug, error, info, warn};

use super::redact::PeerText;

/// Why an event does not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// The queue was full, and this was the oldest in it.
    Overflow,
    /// The other end will not have it.
    Refused,
    /// It could not be delivered for too long.
    Expired,
    /// The other end wants no more of any.
    Disabled,
    /// The bridge ended before it was delivered.
    Shutdown,
    /// It was kept on disk, and is unreadable there.
    Unreadable,
    /// It was deleted before it was delivered.
    Deleted,
}

impl Lost {
    const ALL: [Self; 7] = [
        Self::Overflow,
        Self::Refused,
        Self::Expired,
        Self::Disabled,
        Self::Shutdown,
        Self::Unreadable,
        Self::Deleted,
    ];

    /// Its name in figures and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Disabled => "disabled",
            Self::Shutdown => "shutdown",
            Self::Unreadable => "unreadable",
            Self::Deleted => "deleted",
        }
    }
}

/// One sink's figures: what it took is what it delivered, lost and still has.
#[derive(Debug, Default)]
pub struct SinkFigures {
    taken: AtomicU64,
    delivered: AtomicU64,
    retries: AtomicU64,
    lost: [AtomicU64; Lost::ALL.len()],
}

impl SinkFigures {
    /// So many events came.
    pub fn take(&self, count: u64) {
        self.taken.fetch_add(count, Relaxed);
    }

    /// So many are where they belong.
    pub fn deliver(&self, count: u64) {
        self.delivered.fetch_add(count, Relaxed);
    }

    /// A delivery failed and is tried again.
    pub fn retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    /// So many will never arrive.
    pub fn lose(&self, why: Lost, count: u64) {
        self.lost[why as usize].fetch_add(count, Relaxed);
    }

    /// Events that came.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// Events delivered.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Relaxed)
    }

    /// Deliveries tried again.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries.load(Relaxed)
    }

    /// Events lost for this reason.
    #[must_use]
    pub fn lost(&self, why: Lost) -> u64 {
        self.lost[why as usize].load(Relaxed)
    }

    /// Events that are neither delivered nor lost.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let lost: u64 = Lost::ALL.iter().map(|why| self.lost(*why)).sum();
        self.taken().saturating_sub(self.delivered() + lost)
    }
}

/// The figures of all sinks by name. As many as a configuration has names, and those stay: a counter does not go back.
static SINKS: Mutex<BTreeMap<String, Arc<SinkFigures>>> = Mutex::new(BTreeMap::new());

/// The figures of the sink of that name, whichever configuration it is from.
#[must_use]
pub fn sink_figures(name: &str) -> Arc<SinkFigures> {
    let mut sinks = SINKS.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(sinks.entry(name.to_owned()).or_default())
}

/// All sinks' figures in Prometheus' text format; nothing where there are no sinks.
pub(super) fn exposition(text: &mut String) {
    let sinks = SINKS.lock().unwrap_or_else(PoisonError::into_inner);
    write_exposition(&sinks, text);
}

fn write_exposition(sinks: &BTreeMap<String, Arc<SinkFigures>>, text: &mut String) {
    type Figure = fn(&SinkFigures) -> u64;
    let families: [(&str, &str, &str, Figure); 4] = [
        ("events_total", "counter", "Events for a sink.", SinkFigures::taken),
        ("delivered_total", "counter", "Events that a sink delivered.", SinkFigures::delivered),
        ("retries_total", "counter", "Deliveries that were tried again.", SinkFigures::retries),
        ("waiting", "gauge", "Events that wait for delivery.", SinkFigures::waiting),
    ];
    if sinks.is_empty() {
        return;
    }
    // Writing to a string cannot fail.
    for (family, kind, help, figure) in families {
        let _ = writeln!(text, "# HELP ringback_sink_{family} {help}");
        let _ = writeln!(text, "# TYPE ringback_sink_{family} {kind}");
        for (name, sink) in sinks {
            let _ = writeln!(text, "ringback_sink_{family}{{sink=\"{name}\"}} {}", figure(sink));
        }
    }
    let family = "ringback_sink_dropped_total";
    let _ = writeln!(text, "# HELP {family} Events that never arrive, by reason.");
    let _ = writeln!(text, "# TYPE {family} counter");
    for (name, sink) in sinks {
        for why in Lost::ALL {
            let (reason, count) = (why.name(), sink.lost(why));
            let _ = writeln!(text, "{family}{{sink=\"{name}\",reason=\"{reason}\"}} {count}");
        }
    }
}

/// Something worth a log line about a sink.
#[derive(Debug)]
#[non_exhaustive]
pub enum SinkReport<'a> {
    /// A delivery failed, and is tried again.
    Failing {
        /// Why.
        reason: &'a str,
        /// After this.
        again: Duration,
        /// Whether it worked until now.
        is_new: bool,
    },
    /// It works again.
    Recovered,
    /// Events will never arrive.
    Lost {
        /// Why, for the figures.
        why: Lost,
        /// Why, in words.
        reason: &'a str,
        /// How many.
        count: u64,
    },
    /// Events of the last run are delivered first.
    Resumed {
        /// How many.
        count: usize,
    },
    /// Events wait on disk for the next run.
    Kept {
        /// How many.
        count: u64,
    },
    /// They cannot be kept on disk, and would not outlive this process.
    NotKept {
        /// Where.
        dir: &'a Path,
        /// Why not.
        reason: &'a str,
    },
}

pub(super) fn report(sink: &str, what: &SinkReport<'_>) {
    match what {
        SinkReport::Failing { reason, again, is_new: true } => {
            warn!(sink, reason = %PeerText(reason), ?again, "the sink takes nothing, trying again");
        }
        SinkReport::Failing { reason, again, is_new: false } => {
            debug!(sink, reason = %PeerText(reason), ?again, "the sink still takes nothing");
        }
        SinkReport::Recovered => info!(sink, "the sink takes events again"),
        SinkReport::Lost { why, reason, count } => {
            let (cause, reason) = (why.name(), PeerText(reason));
            error!(sink, cause, %reason, count, "events are lost to the sink");
        }
        SinkReport::Resumed { count } => info!(sink, count, "events of the last run go first"),
        SinkReport::Kept { count } => warn!(sink, count, "events wait on disk for the next run"),
        SinkReport::NotKept { dir, reason } => {
            let (dir, reason) = (dir.display(), PeerText(reason));
            error!(sink, %dir, %reason, "events cannot be kept on disk: a restart would lose them");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_delivered_nor_lost_is_waiting() {
        let figures = SinkFigures::default();
        figures.take(10);
        figures.deliver(4);
        figures.lose(Lost::Overflow, 2);
        figures.lose(Lost::Refused, 1);
        figures.retry();
        assert_eq!(figures.waiting(), 3);
        let mut text = String::new();
        let sinks = BTreeMap::from([("crm".to_owned(), Arc::new(figures))]);
        write_exposition(&sinks, &mut text);
        for line in [
            "# TYPE ringback_sink_waiting gauge\nringback_sink_waiting{sink=\"crm\"} 3\n",
            "ringback_sink_delivered_total{sink=\"crm\"} 4\n",
            "ringback_sink_retries_total{sink=\"crm\"} 1\n",
            "ringback_sink_dropped_total{sink=\"crm\",reason=\"overflow\"} 2\n",
            "ringback_sink_dropped_total{sink=\"crm\",reason=\"expired\"} 0\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let mut nothing = String::new();
        write_exposition(&BTreeMap::new(), &mut nothing);
        assert_eq!(nothing, "");
    }

    #[test]
    fn reasons_stand_where_they_are_counted() {
        for (index, why) in Lost::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, index, "{}", why.name());
        }
    }
}
