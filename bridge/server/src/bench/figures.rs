//! What a run came to: percentiles, losses, cost. Arithmetic and printing only.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::caller::Taken;
use super::{Plan, Usage};

/// A generator later than this for one frame in a hundred spoils the run.
const LATE_US: u32 = 1_500;

/// Points of a distribution, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Percentiles {
    /// Median.
    pub p50: u32,
    /// 99 of 100 are not above.
    pub p99: u32,
    /// 999 of 1,000 are not above.
    pub p999: u32,
    /// Highest.
    pub max: u32,
}

impl Percentiles {
    /// Of any number of values; all zero for none.
    #[must_use]
    pub fn of(mut values: Vec<u32>) -> Self {
        values.sort_unstable();
        let at = |share: f64| {
            let rank = (values.len() as f64 * share).ceil() as usize;
            values.get(rank.clamp(1, values.len().max(1)) - 1).copied().unwrap_or(0)
        };
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) }
    }
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Name of the provider spoken.
    pub provider: &'static str,
    /// Calls at once.
    pub calls: usize,
    /// How long was measured.
    pub duration: Duration,
    /// Frames sent.
    pub sent: u64,
    /// Frames that came back.
    pub received: u64,
    /// Frames that came back twice.
    pub duplicates: u64,
    /// Frames that came back with a number nobody sent.
    pub strangers: u64,
    /// From due to back.
    pub latency: Percentiles,
    /// The 99th percentile of each second of the run, and of those the median: what one second that the machine does not steal looks
    /// like. Microseconds.
    pub typical_p99: u32,
    /// From due to sent.
    pub lateness: Percentiles,
    /// CPU time of the bridge for a second of one call, in microseconds.
    pub cpu_us_per_call_second: Option<f64>,
    /// Memory of the bridge at the end, in KiB.
    pub rss_kib: Option<u64>,
    /// Memory a call costs, in KiB.
    pub rss_kib_per_call: Option<f64>,
}

impl Figures {
    pub(super) fn new(plan: &Plan, taken: Taken, usage: Option<(Usage, Usage)>) -> Self {
        let call_seconds = plan.calls as f64 * plan.duration.as_secs_f64();
        Self {
            provider: plan.provider.name(),
            calls: plan.calls,
            duration: plan.duration,
            sent: taken.sent,
            received: taken.latencies.len() as u64,
            duplicates: taken.duplicates,
            strangers: taken.strangers,
            typical_p99: typical_p99(&taken.latencies),
            latency: Percentiles::of(taken.latencies.into_iter().map(|(_, us)| us).collect()),
            lateness: Percentiles::of(taken.lateness),
            cpu_us_per_call_second: usage.map(|(before, after)| {
                after.cpu.saturating_sub(before.cpu).as_micros() as f64 / call_seconds
            }),
            rss_kib: usage.map(|(_, after)| after.rss_kib),
            rss_kib_per_call: usage.map(|(_, after)| {
                after.rss_kib.saturating_sub(after.idle_rss_kib) as f64 / plan.calls.max(1) as f64
            }),
        }
    }

    /// Frames that never came back.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }

    /// Whether the generator was so late itself that the latencies are not the bridge's.
    #[must_use]
    pub fn is_spoiled(&self) -> bool {
        self.lateness.p99 > LATE_US
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let points = |p: &Percentiles| serde_json::json!({ "p50": p.p50, "p99": p.p99, "p999": p.p999, "max": p.max });
        serde_json::json!({
            "provider": self.provider,
            "calls": self.calls,
            "seconds": self.duration.as_secs_f64(),
            "sent": self.sent,
            "received": self.received,
            "missing": self.missing(),
            "duplicates": self.duplicates,
            "strangers": self.strangers,
            "latency_us": points(&self.latency),
            "typical_second_p99_us": self.typical_p99,
            "generator_lateness_us": points(&self.lateness),
            "spoiled": self.is_spoiled(),
            "cpu_us_per_call_second": self.cpu_us_per_call_second,
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
        writeln!(
            f,
            "{} calls over {}, {:.0} s",
            self.calls,
            self.provider,
            self.duration.as_secs_f64()
        )?;
        row(f, "latency, from due to back", &self.latency)?;
        writeln!(f, "{:<28} p99 {:.3} ms", "the same, a typical second", ms(self.typical_p99))?;
        row(f, "lateness of the generator", &self.lateness)?;
        writeln!(
            f,
            "{:<28} {} sent, {} back, {} missing, {} twice, {} unknown",
            "frames",
            self.sent,
            self.received,
            self.missing(),
            self.duplicates,
            self.strangers
        )?;
        if let (Some(cpu), Some(rss), Some(per_call)) =
            (self.cpu_us_per_call_second, self.rss_kib, self.rss_kib_per_call)
        {
            writeln!(
                f,
                "{:<28} {cpu:.0} us of CPU a second ({:.1} us a frame)",
                "cost of a call",
                cpu / 50.0
            )?;
            writeln!(
                f,
                "{:<28} {:.1} MiB, {per_call:.1} KiB a call",
                "memory",
                rss as f64 / 1_024.0
            )?;
        }
        if self.is_spoiled() {
            writeln!(
                f,
                "SPOILED: the generator itself was late; use fewer calls or a quieter machine"
            )?;
        }
        Ok(())
    }
}

/// The median of the seconds' 99th percentiles.
fn typical_p99(latencies: &[(u32, u32)]) -> u32 {
    let mut seconds: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for &(second, us) in latencies {
        seconds.entry(second).or_default().push(us);
    }
    Percentiles::of(seconds.into_values().map(|of| Percentiles::of(of).p99).collect()).p50
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks_not_averages() {
        let values: Vec<u32> = (1..=1_000).rev().collect();
        let p = Percentiles::of(values);
        assert_eq!((p.p50, p.p99, p.p999, p.max), (500, 990, 999, 1_000));
        assert_eq!(Percentiles::of(vec![7]), Percentiles { p50: 7, p99: 7, p999: 7, max: 7 });
        assert_eq!(Percentiles::of(Vec::new()), Percentiles::default());
    }

    #[test]
    fn one_bad_second_does_not_make_a_run_typical() {
        let good = (0..9_u32).flat_map(|second| (1..=100).map(move |us| (second, us)));
        let bad = (0..100).map(|_| (9, 50_000));
        let latencies: Vec<(u32, u32)> = good.chain(bad).collect();
        assert_eq!(typical_p99(&latencies), 99);
        assert_eq!(typical_p99(&[]), 0);
    }
}
