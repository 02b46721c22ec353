//! Healthy calls beside a fault: the generator of `ringback bench` against the same bridge, for as long as the row takes. Faults
//! nothing.

use std::thread::JoinHandle;
use std::time::Duration;

use ringback_proto::provider;

use super::bridge::Bridge;
use super::row::Row;
use crate::bench::{Answers, Attended, Missing, Percentiles, Plan, Server, attend};

/// Before anything is measured.
pub(super) const WARM_UP: Duration = Duration::from_secs(1);
/// Measured before the fault.
pub(super) const BEFORE: Duration = Duration::from_secs(2);
/// A difference of less is not one: the resolution of a machine that others use.
const NOISE_US: u32 = 1_000;
/// Where one healthy frame in a hundred takes longer than this before any fault, nothing can be said about five percent of it.
const BUSY_US: u32 = 3_000;
const BUSY: &str = "the healthy calls were late before the fault already; use a quieter machine";
/// What the 99th percentile may grow by.
const GROWS: f64 = 1.05;

/// Calls under way.
pub(super) struct Beside {
    running: JoinHandle<Result<Attended, String>>,
    calls: usize,
    lasts: Duration,
}

impl Beside {
    /// Places them; `lasts` is how long the fault will take.
    pub(super) fn start(bridge: &Bridge, calls: usize, lasts: Duration) -> Result<Self, String> {
        let plan = Plan {
            provider: provider::find("twilio").ok_or("there is no Twilio")?,
            format: None,
            calls,
            warm_up: WARM_UP,
            duration: BEFORE + lasts,
            answers: Answers::Calls,
            silent: false,
        };
        let server = Server::running(bridge.authority.clone(), bridge.id());
        let running = std::thread::spawn(move || attend(&plan, &server, &|_| {}));
        Ok(Self { running, calls, lasts })
    }

    pub(super) const fn calls(&self) -> usize {
        self.calls
    }

    /// Waits for their end, and holds them to what must be so; what is missing of each of them.
    pub(super) fn finish(self, row: &mut Row) -> Vec<Missing> {
        let outcome = self.running.join().unwrap_or_else(|_| Err("the generator failed".into()));
        let attended = match outcome {
            Ok(attended) => attended,
            Err(error) => {
                row.wrong.push(format!("healthy calls: {error}"));
                return Vec::new();
            }
        };
        let figures = &attended.figures;
        let Percentiles { p99: before, .. } = attended.between(Duration::ZERO, BEFORE);
        let Percentiles { p99: during, .. } = attended.between(BEFORE, BEFORE + self.lasts);
        row.others = Some((before, during));
        row.spoiled = figures.spoiled_by().or_else(|| (before > BUSY_US).then_some(BUSY));
        let most = (f64::from(before) * GROWS) as u32 + NOISE_US;
        row.should(during <= most, || {
            format!("healthy calls: p99 {:.2} ms, before {:.2} ms", ms(during), ms(before))
        });
        row.must(figures.duplicates == 0, || {
            format!("healthy calls: {} frames came twice", figures.duplicates)
        });
        // A machine that stood still says frames in heaps, and of those the bridge trims what would be late for ever; where it cuts, a
        // frame is no more what it was.
        let (missing, strangers) = (figures.missing(), figures.strangers);
        row.should(missing + strangers == 0, || {
            format!("healthy calls: {missing} frames missing, {strangers} unknown")
        });
        attended.missing
    }
}

fn ms(micros: u32) -> f64 {
    f64::from(micros) / 1e3
}
