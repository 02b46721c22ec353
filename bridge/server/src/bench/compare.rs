//! Servers measured in turns, so that what the machine does meanwhile meets all of them; what is typical of each, and ratios.

use std::fmt;

use serde_json::json;

use super::server::{Server, Setup};
use super::{Answers, Figures, Plan};

/// What is measured against others.
#[derive(Clone)]
pub struct Contender {
    /// What it is called in the results.
    pub name: String,
    /// The server.
    pub setup: Setup,
    /// The load; who answers is the setup's.
    pub plan: Plan,
}

/// All runs of one contender.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// What it is called.
    pub name: String,
    /// In the order in which they were measured.
    pub runs: Vec<Figures>,
}

/// Starts and measures one contender.
///
/// # Errors
/// If it cannot be started, or a call breaks.
pub fn measure(
    setup: &Setup,
    plan: &Plan,
    pinned: bool,
    progress: &dyn Fn(f64),
) -> Result<Figures, String> {
    let plan = Plan { answers: Answers::of(setup), ..plan.clone() };
    let server = Server::start(setup, pinned)?;
    super::run(&plan, &server, progress)
}

/// Measures all contenders, one after the other, so many times over; `progress` is told the share done and who is at it.
///
/// # Errors
/// If one cannot be started, or a call breaks.
pub fn in_turns(
    contenders: &[Contender],
    rounds: usize,
    pinned: bool,
    progress: &dyn Fn(f64, &str),
) -> Result<Vec<Standing>, String> {
    let standing =
        |contender: &Contender| Standing { name: contender.name.clone(), runs: Vec::new() };
    let mut standings: Vec<_> = contenders.iter().map(standing).collect();
    let turns = (rounds * contenders.len()).max(1) as f64;
    for round in 0..rounds {
        for (index, contender) in contenders.iter().enumerate() {
            let Contender { name, setup, plan } = contender;
            let turn = (round * contenders.len() + index) as f64;
            let told = |share: f64| progress((turn + share) / turns, name);
            let figures =
                measure(setup, plan, pinned, &told).map_err(|error| format!("{name}: {error}"))?;
            standings[index].runs.push(figures);
        }
    }
    Ok(standings)
}

impl Standing {
    /// Adds runs until one is fair, but no more than `tries`: a machine has bad moments. What there is stays.
    pub(super) fn try_for_a_fair_run(
        &mut self,
        tries: usize,
        mut measure: impl FnMut() -> Result<Figures, String>,
    ) -> Result<(), String> {
        for _ in 0..tries {
            if self.is_conclusive() {
                break;
            }
            self.runs.push(measure()?);
        }
        Ok(())
    }

    /// Runs that nothing spoiled, or all if all are.
    fn fair(&self) -> impl Iterator<Item = &Figures> {
        let any = self.is_conclusive();
        self.runs.iter().filter(move |run| !any || !run.is_spoiled())
    }

    fn typical(&self, figure: impl Fn(&Figures) -> Option<f64>) -> Option<f64> {
        median(self.fair().filter_map(figure).collect())
    }

    /// Median of the runs' CPU time for a frame there and back, in microseconds.
    #[must_use]
    pub fn cpu_us_per_frame(&self) -> Option<f64> {
        self.typical(|run| run.cpu_us_per_frame)
    }

    /// Median of the runs' median latencies, in microseconds.
    #[must_use]
    pub fn p50(&self) -> Option<f64> {
        self.typical(|run| Some(f64::from(run.latency.p50)))
    }

    /// Median of the runs' 99th percentiles of latency, in microseconds.
    #[must_use]
    pub fn p99(&self) -> Option<f64> {
        self.typical(|run| Some(f64::from(run.latency.p99)))
    }

    /// Median of the runs' memory per call, in KiB.
    #[must_use]
    pub fn rss_kib_per_call(&self) -> Option<f64> {
        self.typical(|run| run.rss_kib_per_call)
    }

    /// Frames lost, twice or unknown in all runs that nothing spoiled; `None` if there is no such run, which is no evidence.
    #[must_use]
    pub fn wrong(&self) -> Option<u64> {
        self.is_conclusive().then(|| self.fair().map(Figures::wrong).sum())
    }

    /// Whether any run is not spoiled.
    #[must_use]
    pub fn is_conclusive(&self) -> bool {
        self.runs.iter().any(|run| !run.is_spoiled())
    }

    /// Runs that are spoiled.
    #[must_use]
    pub fn spoiled(&self) -> usize {
        self.runs.iter().filter(|run| run.is_spoiled()).count()
    }

    /// What is typical, for programs.
    pub(super) fn brief(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "cpu_us_per_frame": self.cpu_us_per_frame(),
            "p50_us": self.p50(),
            "p99_us": self.p99(),
            "rss_kib_per_call": self.rss_kib_per_call(),
            "wrong": self.wrong(),
            "spoiled_runs": self.spoiled(),
        })
    }

    /// The same with all runs.
    fn json(&self) -> serde_json::Value {
        let mut json = self.brief();
        json["runs"] = self.runs.iter().map(Figures::json).collect();
        json
    }
}

/// Standings side by side: the first against each of the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Who was measured; the first is what this is about.
    pub standings: Vec<Standing>,
}

impl Comparison {
    /// How many times as much as `floor` the first one needs: CPU per frame, p50 and p99 of latency.
    #[must_use]
    pub fn against(&self, floor: &Standing) -> [Option<f64>; 3] {
        let first = self.standings.first();
        [Standing::cpu_us_per_frame, Standing::p50, Standing::p99]
            .map(|figure| ratio(first.and_then(figure), figure(floor)))
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let ratios = self.standings.iter().skip(1).map(|floor| {
            let [cpu, p50, p99] = self.against(floor);
            json!({ "against": floor.name, "cpu_per_frame": cpu, "p50": p50, "p99": p99 })
        });
        json!({
            "standings": self.standings.iter().map(Standing::json).collect::<Vec<_>>(),
            "ratios": ratios.collect::<Vec<_>>(),
        })
    }
}

impl Comparison {
    /// Everybody's figures, without holding them against each other.
    pub(super) fn write_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.standings.first().map_or(0, |standing| standing.runs.len());
        let calls = self.standings.first().and_then(|s| s.runs.first()).map_or(0, |run| run.calls);
        writeln!(f, "{calls} calls; medians of {runs} runs each, in turns")?;
        let (cpu, kib) = ("us/frame", "KiB/call");
        let head = ["", cpu, "p50 ms", "p99 ms", kib, "wrong", "spoiled"];
        writeln!(f, "{}", columns(&head.map(str::to_owned)))?;
        for standing in &self.standings {
            let ms = |us: Option<f64>| shown(us.map(|us| us / 1e3), 3);
            let row = [
                standing.name.clone(),
                shown(standing.cpu_us_per_frame(), 2),
                ms(standing.p50()),
                ms(standing.p99()),
                shown(standing.rss_kib_per_call(), 1),
                shown(standing.wrong().map(|wrong| wrong as f64), 0),
                standing.spoiled().to_string(),
            ];
            writeln!(f, "{}", columns(&row))?;
        }
        for standing in self.standings.iter().filter(|standing| !standing.is_conclusive()) {
            let reason = standing.runs.last().and_then(Figures::spoiled_by).unwrap_or_default();
            writeln!(f, "SPOILED, all runs of {}: {reason}", standing.name)?;
        }
        Ok(())
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_table(f)?;
        for floor in self.standings.iter().skip(1) {
            let [cpu, p50, p99] = self.against(floor).map(|ratio| shown(ratio, 2));
            let name = &self.standings[0].name;
            writeln!(
                f,
                "{name} against {}: {cpu}x the CPU per frame, {p50}x the p50, {p99}x the p99",
                floor.name
            )?;
        }
        Ok(())
    }
}

fn columns(cells: &[String; 7]) -> String {
    let [name, rest @ ..] = cells;
    rest.iter().fold(format!("{name:<28}"), |line, cell| format!("{line}{cell:>10}"))
}

/// A figure, or a dash where there is none.
pub(super) fn shown(figure: Option<f64>, digits: usize) -> String {
    figure.map_or_else(|| "-".into(), |figure| format!("{figure:.digits$}"))
}

/// The middle one, or the mean of the two middle ones; `None` of none.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

/// How many times `floor` a figure is.
pub(super) fn ratio(figure: Option<f64>, floor: Option<f64>) -> Option<f64> {
    let (figure, floor) = figure.zip(floor)?;
    (floor > 0.0).then(|| figure / floor)
}

/// A plan of a second for tests of arithmetic.
#[cfg(test)]
pub(super) fn plan(calls: usize) -> Plan {
    use std::time::Duration;

    Plan {
        provider: ringback_proto::provider::find("twilio").expect("known"),
        format: None,
        calls,
        warm_up: Duration::ZERO,
        duration: Duration::from_secs(1),
        answers: Answers::Calls,
        silent: false,
    }
}

/// A run of a second in which every frame took `latency`, so many were lost, and the generator was late or not.
#[cfg(test)]
pub(super) fn made_up(calls: usize, latency: u32, lost: u64, spoiled: bool) -> Figures {
    let plan = plan(calls);
    let sent = calls as u64 * 50;
    let mut tally = super::tally::Tally::new(calls, 50, plan.duration);
    (0..sent).for_each(|_| tally.sent(if spoiled { 5_000 } else { 10 }));
    (lost..sent).for_each(|_| tally.back(std::time::Duration::ZERO, latency));
    Figures {
        cpu_us_per_frame: Some(f64::from(latency) / 10.0),
        ..Figures::new(&plan, &tally, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios_are_what_they_are() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
        assert_eq!(ratio(Some(9.0), Some(6.0)), Some(1.5));
        assert_eq!(ratio(Some(9.0), Some(0.0)), None);
        assert_eq!(ratio(None, Some(1.0)), None);
    }

    fn standing(name: &str, runs: Vec<Figures>) -> Standing {
        Standing { name: name.into(), runs }
    }

    #[test]
    fn spoiled_runs_count_only_where_there_are_no_others() {
        let runs = vec![
            made_up(10, 90, 0, false),
            made_up(10, 8_000, 7, true),
            made_up(10, 100, 1, false),
        ];
        let some = standing("a", runs.clone());
        assert_eq!((some.p50(), some.cpu_us_per_frame()), (Some(95.0), Some(9.5)));
        assert_eq!((some.wrong(), some.spoiled()), (Some(1), 1));
        let none = standing("b", vec![runs[1].clone()]);
        assert_eq!(none.p50(), Some(8_000.0));
        assert_eq!(none.wrong(), None);
    }

    #[test]
    fn a_fair_run_is_tried_for_some_times_and_no_run_is_thrown_away() {
        let spoiled = made_up(10, 90, 3, true);
        let mut hopeless = standing("a", vec![spoiled.clone()]);
        assert_eq!(hopeless.try_for_a_fair_run(3, || Ok(spoiled.clone())), Ok(()));
        assert_eq!((hopeless.runs.len(), hopeless.wrong()), (4, None));

        let mut late = standing("b", vec![spoiled]);
        let mut runs = [made_up(10, 90, 2, true), made_up(10, 90, 1, false)].into_iter();
        assert_eq!(late.try_for_a_fair_run(3, || runs.next().ok_or("no more".into())), Ok(()));
        assert_eq!((late.runs.len(), late.wrong()), (3, Some(1)));
        // A loss stands: it is not measured again until it is gone.
        assert_eq!(late.try_for_a_fair_run(3, || Err("not asked for".into())), Ok(()));
    }

    #[test]
    fn the_first_is_held_against_each_of_the_others() {
        let comparison = Comparison {
            standings: vec![
                standing("bridge", vec![made_up(10, 120, 0, false)]),
                standing("tcp-echo", vec![made_up(10, 80, 0, false)]),
            ],
        };
        let [cpu, p50, p99] = comparison.against(&comparison.standings[1]);
        assert_eq!((cpu, p50, p99), (Some(1.5), Some(1.5), Some(1.5)));
        let shown = comparison.to_string();
        assert!(shown.contains("bridge against tcp-echo: 1.50x the CPU per frame"), "{shown}");
        assert_eq!(comparison.json()["ratios"][0]["cpu_per_frame"], 1.5);
    }
}
