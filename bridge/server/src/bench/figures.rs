//! What a run came to: percentiles, losses, cost. Arithmetic and printing only.

use std::fmt;
use std::time::Duration;

use ringback_proto::Instant;
use serde_json::json;

use super::histogram::{Histogram, Percentiles};
use super::stamp::FRAME;
use super::tally::Tally;
use super::{Plan, Usage};

/// A generator later than this for one frame in a hundred spoils the run.
const LATE_US: u32 = 1_500;
/// A generator that stood still for a frame spoils the run: it then sends in heaps, as no telephone does.
const STOOD_STILL: Duration = FRAME;
/// A server that had no core for this share of the time, or a host that took away so much, spoils the run.
const DISTURBED: f64 = 0.05;
/// Of frames in Opus, the codec itself makes at most this share unreadable; measured are 0.006 and less.
const UNREADABLE_SHARE: f64 = 0.02;
/// A frame that takes longer than its own sound lasts is late.
const LATE_FRAME: Duration = FRAME;

/// What the server used while it was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    cpu: Duration,
    over: Duration,
    rss_kib: u64,
    idle_rss_kib: u64,
    waited: Duration,
    stolen: Duration,
}

impl Cost {
    pub(super) fn between(
        before: (Instant, Option<Usage>),
        after: (Instant, Option<Usage>),
        idle_rss_kib: u64,
    ) -> Option<Self> {
        let (first, last) = before.1.zip(after.1)?;
        Some(Self {
            cpu: last.cpu.saturating_sub(first.cpu),
            over: after.0 - before.0,
            rss_kib: last.rss_kib,
            idle_rss_kib,
            waited: last.waited.saturating_sub(first.waited),
            stolen: last.stolen.saturating_sub(first.stolen),
        })
    }
}

/// One part of a run: latencies of the frames that were due in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Its beginning, in seconds of what was measured.
    pub at: f64,
    /// From due to back.
    pub latency: Percentiles,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Name of the provider spoken.
    pub provider: &'static str,
    /// Calls at once.
    pub calls: usize,
    /// Whether calls were open and nobody spoke.
    pub silent: bool,
    /// How long was measured.
    pub duration: Duration,
    /// Frames sent.
    pub sent: u64,
    /// Frames that came back.
    pub received: u64,
    /// Frames that came back and could not be read, where the codec left too little of some. One that came as silence is missing.
    pub unreadable: u64,
    /// Frames that came back while the cost was measured, whenever they were due.
    pub answered: u64,
    /// Of those that came back, frames that took longer than 20 ms.
    pub late: u64,
    /// Frames that came back twice.
    pub duplicates: u64,
    /// What came back and was not sent.
    pub strangers: u64,
    /// From due to back.
    pub latency: Percentiles,
    /// The 99th percentile of each second of the run, and of those the median: what one second that the machine does not steal looks
    /// like. Microseconds.
    pub typical_p99: u32,
    /// Latency over time.
    pub moments: Vec<Moment>,
    /// From due to sent.
    pub lateness: Percentiles,
    /// The longest that the generator did not get round to look.
    pub longest_gap: Duration,
    /// Share of a core that the generator needed, without its spinning.
    pub generator_busy: f64,
    /// CPU time of the server for a frame there and back, in microseconds; by frames that did come back.
    pub cpu_us_per_frame: Option<f64>,
    /// Share of a core that the server used.
    pub cpu_share: Option<f64>,
    /// Memory of the server at the end, in KiB.
    pub rss_kib: Option<u64>,
    /// Memory a call costs, in KiB.
    pub rss_kib_per_call: Option<f64>,
    /// Time that threads of the server were ready and had no core.
    pub waited: Option<Duration>,
    /// Time that the machine's host gave to others, all cores together.
    pub stolen: Option<Duration>,
}

impl Figures {
    pub(super) fn new(plan: &Plan, tally: &Tally, cost: Option<Cost>) -> Self {
        let mut all = Histogram::new();
        tally.latency.iter().for_each(|part| all.add(part));
        let moments = tally.latency.iter().enumerate().filter(|(_, part)| part.count() > 0);
        let moments = moments.map(|(index, part)| Moment {
            at: index as f64 * tally.part.as_secs_f64(),
            latency: part.percentiles(),
        });
        let cpu_share = cost.map(|cost| cost.cpu.as_secs_f64() / cost.over.as_secs_f64().max(1e-9));
        let answered_per_second = tally.answered as f64 / plan.duration.as_secs_f64().max(1e-9);
        let per_frame = |share: f64| share * 1e6 / answered_per_second;
        Self {
            provider: plan.provider.name(),
            calls: plan.calls,
            silent: plan.silent,
            duration: plan.duration,
            sent: tally.sent,
            received: tally.received,
            unreadable: tally.unreadable,
            answered: tally.answered,
            late: all.above(LATE_FRAME.as_micros() as u32),
            duplicates: tally.duplicates,
            strangers: tally.strangers,
            typical_p99: typical_p99(tally),
            moments: moments.collect(),
            latency: all.percentiles(),
            lateness: tally.lateness.percentiles(),
            longest_gap: tally.longest_gap,
            generator_busy: tally.busy.as_secs_f64() / plan.duration.as_secs_f64().max(1e-9),
            cpu_us_per_frame: cpu_share.filter(|_| tally.answered > 0).map(per_frame),
            cpu_share,
            rss_kib: cost.map(|cost| cost.rss_kib),
            rss_kib_per_call: cost.map(|cost| {
                cost.rss_kib.saturating_sub(cost.idle_rss_kib) as f64 / plan.calls.max(1) as f64
            }),
            waited: cost.map(|cost| cost.waited),
            stolen: cost.map(|cost| cost.stolen),
        }
    }

    /// Frames that never came back.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.sent.saturating_sub(self.received + self.unreadable)
    }

    /// Frames that could not be read, of those more than a codec accounts for.
    #[must_use]
    pub fn garbled(&self) -> u64 {
        self.unreadable.saturating_sub((self.sent as f64 * UNREADABLE_SHARE).ceil() as u64)
    }

    /// Frames that are not as they should be: that never came back, that came back twice, that more than a codec made unreadable, and
    /// what came back and was not sent.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.missing() + self.duplicates + self.garbled() + self.strangers
    }

    /// CPU time of the server for a second of one call, in microseconds.
    #[must_use]
    pub fn cpu_us_per_call_second(&self) -> Option<f64> {
        self.cpu_us_per_frame.map(|us| us / FRAME.as_secs_f64())
    }

    /// What the generator needed for a frame there and back, without its spinning, in microseconds.
    #[must_use]
    pub fn generator_us_per_frame(&self) -> f64 {
        let frames = self.sent.max(1) as f64;
        self.generator_busy * self.duration.as_secs_f64() * 1e6 / frames
    }

    /// What disturbed the run so much that it does not tell about the server, if anything did.
    #[must_use]
    pub fn spoiled_by(&self) -> Option<&'static str> {
        let share = |time: Option<Duration>| {
            time.unwrap_or_default().as_secs_f64() / self.duration.as_secs_f64().max(1e-9)
        };
        // Where nobody speaks nobody is late.
        let is_late = self.lateness.p99 > LATE_US || self.longest_gap >= STOOD_STILL;
        if is_late && !self.silent {
            Some("the generator itself was late; use fewer calls or a quieter machine")
        } else if share(self.waited) > DISTURBED {
            Some("the server had to wait for its core; something else runs on this machine")
        } else if share(self.stolen) > DISTURBED {
            Some("the host of this machine gave its time to others")
        } else {
            None
        }
    }

    /// Whether anything disturbed the run so much that it does not tell about the server.
    #[must_use]
    pub fn is_spoiled(&self) -> bool {
        self.spoiled_by().is_some()
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let points =
            |p: &Percentiles| json!({ "p50": p.p50, "p99": p.p99, "p999": p.p999, "max": p.max });
        let moment = |m: &Moment| json!({ "at": m.at, "latency_us": points(&m.latency) });
        json!({
            "provider": self.provider,
            "calls": self.calls,
            "silent": self.silent,
            "seconds": self.duration.as_secs_f64(),
            "sent": self.sent,
            "received": self.received,
            "unreadable": self.unreadable,
            "answered_meanwhile": self.answered,
            "missing": self.missing(),
            "late": self.late,
            "duplicates": self.duplicates,
            "strangers": self.strangers,
            "wrong": self.wrong(),
            "latency_us": points(&self.latency),
            "typical_second_p99_us": self.typical_p99,
            "over_time": self.moments.iter().map(moment).collect::<Vec<_>>(),
            "generator": {
                "lateness_us": points(&self.lateness),
                "longest_gap_us": self.longest_gap.as_micros() as u64,
                "busy": self.generator_busy,
                "cpu_us_per_frame": self.generator_us_per_frame(),
            },
            "spoiled": self.is_spoiled(),
            "server_waited_ms": self.waited.map(|waited| waited.as_millis() as u64),
            "stolen_ms": self.stolen.map(|stolen| stolen.as_millis() as u64),
            "cpu_share": self.cpu_share,
            "cpu_us_per_frame": self.cpu_us_per_frame,
            "cpu_us_per_call_second": self.cpu_us_per_call_second(),
            "rss_kib": self.rss_kib,
            "rss_kib_per_call": self.rss_kib_per_call,
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u32| f64::from(us) / 1_000.0;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, p: &Percentiles| {
            writeln!(
                f,
                "{name:<28} p50 {:.3} ms   p99 {:.3} ms   p99.9 {:.3} ms   max {:.3} ms",
                ms(p.p50),
                ms(p.p99),
                ms(p.p999),
                ms(p.max)
            )
        };
        let seconds = self.duration.as_secs_f64();
        writeln!(f, "{} calls over {}, {seconds:.0} s", self.calls, self.provider)?;
        if self.sent > 0 {
            row(f, "latency, due to back", &self.latency)?;
            writeln!(f, "{:<28} p99 {:.3} ms", "latency, a typical second", ms(self.typical_p99))?;
            row(f, "generator's own lateness", &self.lateness)?;
            write!(
                f,
                "{:<28} {} sent, {} missing, {} late, {} twice, {} unknown",
                "frames",
                self.sent,
                self.missing(),
                self.late,
                self.duplicates,
                self.strangers
            )?;
            match self.unreadable {
                0 => writeln!(f)?,
                frames => writeln!(f, ", {frames} back but not readable")?,
            }
        }
        self.show_cost(f)?;
        if let Some(reason) = self.spoiled_by() {
            writeln!(f, "SPOILED: {reason}")?;
        }
        Ok(())
    }
}

impl Figures {
    fn show_cost(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((share, per_call)) = self.cpu_share.zip(self.cpu_us_per_call_second()) {
            let frame = self.cpu_us_per_frame.unwrap_or_default();
            let percent = share * 100.0;
            writeln!(
                f,
                "{:<28} {per_call:.0} us of CPU a second ({frame:.2} us a frame), {percent:.0} % of a core in all",
                "cost of a call",
            )?;
        } else if let Some(share) = self.cpu_share {
            writeln!(f, "{:<28} {:.2} % of a core", "cost of all calls", share * 100.0)?;
        }
        if let Some((rss, per_call)) = self.rss_kib.zip(self.rss_kib_per_call) {
            let mib = rss as f64 / 1_024.0;
            writeln!(f, "{:<28} {mib:.1} MiB, {per_call:.1} KiB a call", "memory")?;
        }
        if self.sent > 0 {
            writeln!(
                f,
                "{:<28} {:.2} us a frame, {:.0} % of a core, longest gap {:.1} ms",
                "generator's own cost",
                self.generator_us_per_frame(),
                self.generator_busy * 100.0,
                self.longest_gap.as_secs_f64() * 1e3,
            )?;
        }
        for (name, time) in
            [("waited for a core", self.waited), ("stolen by the host", self.stolen)]
        {
            if let Some(time) = time.filter(|time| time.as_millis() > 0) {
                writeln!(f, "{name:<28} {} ms", time.as_millis())?;
            }
        }
        Ok(())
    }
}

/// The median of the seconds' 99th percentiles.
fn typical_p99(tally: &Tally) -> u32 {
    let parts = (1.0 / tally.part.as_secs_f64()).round().max(1.0) as usize;
    let mut seconds = Histogram::new();
    for parts in tally.latency.chunks(parts) {
        let mut second = Histogram::new();
        parts.iter().for_each(|part| second.add(part));
        if second.count() > 0 {
            seconds.record(second.percentiles().p99);
        }
    }
    seconds.percentiles().p50
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_second_does_not_make_a_run_typical() {
        let mut tally = Tally::new(1, 1, Duration::from_secs(10));
        for part in 0..100_u32 {
            for us in 1..=100 {
                let latency = if part < 90 { us } else { 50_000 };
                tally.back(Duration::from_millis(u64::from(part) * 100), latency);
            }
        }
        assert_eq!(typical_p99(&tally), 99);
        assert_eq!(typical_p99(&Tally::new(1, 1, Duration::from_secs(1))), 0);
    }

    fn figures(lateness: u32, gap: Duration, waited: Duration) -> Figures {
        run(false, lateness, gap, waited, Duration::ZERO)
    }

    fn run(
        silent: bool,
        lateness: u32,
        gap: Duration,
        waited: Duration,
        stolen: Duration,
    ) -> Figures {
        let provider = ringback_proto::provider::find("twilio").expect("known");
        let plan = Plan {
            provider,
            format: None,
            calls: 100,
            warm_up: Duration::ZERO,
            duration: Duration::from_secs(2),
            answers: super::super::Answers::Calls,
            silent,
        };
        let mut tally = Tally::new(1, 100, plan.duration);
        (0..if silent { 0 } else { 100 }).for_each(|_| tally.sent(lateness));
        for latency in [300, 19_000, 25_000].into_iter().filter(|_| !silent) {
            tally.back(Duration::ZERO, latency);
        }
        tally.turn(gap, Duration::ZERO, true);
        tally.answered = if silent { 0 } else { 8_000 };
        let cost = Cost {
            cpu: Duration::from_millis(500),
            over: Duration::from_secs(2),
            rss_kib: 3_000,
            idle_rss_kib: 1_000,
            waited,
            stolen,
        };
        Figures::new(&plan, &tally, Some(cost))
    }

    #[test]
    fn a_run_is_spoiled_by_a_late_generator_and_by_a_server_without_a_core() {
        let ms = Duration::from_millis;
        assert_eq!(figures(1_400, ms(19), ms(90)).spoiled_by(), None);
        for (spoiled, word) in [
            (figures(1_600, ms(0), ms(0)), "generator"),
            (figures(0, ms(20), ms(0)), "generator"),
            (figures(0, ms(0), ms(110)), "core"),
        ] {
            let reason = spoiled.spoiled_by().expect("spoiled");
            assert!(reason.contains(word) && spoiled.to_string().contains(reason), "{reason}");
        }
    }

    #[test]
    fn a_silent_run_is_spoiled_by_a_host_that_takes_its_core_but_by_no_lateness() {
        let ms = Duration::from_millis;
        let silent = |gap, waited, stolen| run(true, 0, gap, waited, stolen);
        assert_eq!(silent(ms(500), ms(90), ms(90)).spoiled_by(), None);
        for (spoiled, word) in
            [(silent(ms(0), ms(110), ms(0)), "core"), (silent(ms(0), ms(0), ms(110)), "host")]
        {
            let reason = spoiled.spoiled_by().expect("spoiled");
            assert!(reason.contains(word) && spoiled.to_string().contains(reason), "{reason}");
        }
    }

    #[test]
    fn cost_is_told_per_frame_per_second_and_per_call() {
        let figures = figures(0, Duration::ZERO, Duration::ZERO);
        // A quarter of a core for 4,000 frames a second that came back, of 5,000 sent: those lost make the others no cheaper.
        assert_eq!(figures.cpu_us_per_frame, Some(62.5));
        assert_eq!(figures.cpu_us_per_call_second(), Some(3_125.0));
        assert_eq!(figures.rss_kib_per_call, Some(20.0));
        assert_eq!((figures.missing(), figures.late), (97, 1));
    }

    #[test]
    fn frames_that_cannot_be_read_are_wrong_only_where_they_are_many() {
        let whole = super::super::compare::made_up(10, 900, 0, false);
        let wrong = |unreadable| {
            let received = whole.sent - unreadable;
            Figures { received, unreadable, ..whole.clone() }.wrong()
        };
        let few = whole.sent / 50;
        assert_eq!((wrong(0), wrong(few), wrong(few + 3)), (0, 0, 3));
        let lost = Figures { received: whole.sent - 3, unreadable: 1, ..whole.clone() };
        assert_eq!((lost.missing(), lost.wrong()), (2, 2));
    }
}
