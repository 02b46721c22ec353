//! The highest number of calls that a server carries: doubles until it does not, then halves the distance. Measures nothing itself.

use std::fmt;

use serde_json::json;

use super::Figures;
use super::compare::shown;

/// Where to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Calls to begin with.
    pub first: usize,
    /// The generator has no more.
    pub most: usize,
    /// So close is close enough.
    pub step: usize,
    /// Trials of one number of calls before it is given up, spoiled ones included.
    pub tries: usize,
}

/// A search under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Search {
    range: Range,
    /// Highest number carried.
    carried: usize,
    /// Lowest number not carried.
    too_many: Option<usize>,
}

impl Search {
    fn new(range: Range) -> Self {
        Self { range, carried: 0, too_many: None }
    }

    /// The number to try next; `None` once it is known.
    fn next(&self) -> Option<usize> {
        let Range { first, most, step, .. } = self.range;
        let step = step.max(1);
        let next = match (self.carried, self.too_many) {
            (0, None) => first.min(most),
            (carried, None) => (carried * 2).min(most),
            (carried, Some(too_many)) => carried + (too_many - carried) / 2 / step * step,
        };
        (next > self.carried && Some(next) != self.too_many).then_some(next)
    }

    fn tell(&mut self, calls: usize, carried: bool) {
        if carried {
            self.carried = self.carried.max(calls);
        } else {
            self.too_many = Some(self.too_many.map_or(calls, |least| least.min(calls)));
        }
    }
}

/// How it went with so many calls.
#[derive(Debug, Clone, PartialEq)]
pub enum Trial {
    /// All frames came back, in time.
    Carried(Figures),
    /// The server lost frames, made some up, or was too slow.
    TooMany(Figures),
    /// Something else was in the way: the generator, or the machine.
    Spoiled(Figures),
    /// The run broke.
    Broke(String),
}

impl Trial {
    /// Judges a run by its 99th percentile, in microseconds.
    #[must_use]
    pub fn of(run: Result<Figures, String>, p99_us: u32) -> Self {
        match run {
            Err(error) => Self::Broke(error),
            Ok(figures) if figures.is_spoiled() => Self::Spoiled(figures),
            Ok(figures) if figures.wrong() > 0 || figures.latency.p99 > p99_us => {
                Self::TooMany(figures)
            }
            Ok(figures) => Self::Carried(figures),
        }
    }

    /// What was measured, if anything.
    #[must_use]
    pub fn figures(&self) -> Option<&Figures> {
        match self {
            Self::Carried(figures) | Self::TooMany(figures) | Self::Spoiled(figures) => {
                Some(figures)
            }
            Self::Broke(_) => None,
        }
    }

    const fn is_carried(&self) -> bool {
        matches!(self, Self::Carried(_))
    }

    /// Whether the server is what it tells about.
    const fn is_fair(&self) -> bool {
        !matches!(self, Self::Spoiled(_))
    }

    const fn verdict(&self) -> &'static str {
        match self {
            Self::Carried(_) => "carried",
            Self::TooMany(_) => "too many",
            Self::Spoiled(_) => "spoiled",
            Self::Broke(_) => "broke",
        }
    }
}

/// Trials of one number of calls that nothing else was in the way of. One of them must carry it, because a machine has bad moments.
const FAIR_TRIES: usize = 2;

/// The same for people.
const RULE: &str = "A number of calls counts as carried if one of two trials that nothing spoiled carried it; every trial is told.";

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Highest number of calls carried; 0 if not even the fewest tried.
    pub calls: usize,
    /// All trials, by number of calls; those of the same number in the order in which they were made.
    pub trials: Vec<(usize, Trial)>,
    /// What was asked of the 99th percentile, in microseconds.
    pub p99_us: u32,
}

/// Searches `range`; `attempt` measures so many calls. A number of calls counts as carried if the first or the second trial that
/// nothing spoiled carried it; spoiled ones count for nothing.
pub fn search(
    range: Range,
    p99_us: u32,
    mut attempt: impl FnMut(usize) -> Result<Figures, String>,
) -> Found {
    let (mut search, mut trials) = (Search::new(range), Vec::new());
    while let Some(calls) = search.next() {
        let (mut fair, mut carried) = (0, false);
        for _ in 0..range.tries.max(1) {
            let trial = Trial::of(attempt(calls), p99_us);
            fair += usize::from(trial.is_fair());
            carried = trial.is_carried();
            trials.push((calls, trial));
            if carried || fair == FAIR_TRIES {
                break;
            }
        }
        search.tell(calls, carried);
    }
    trials.sort_by_key(|(calls, _)| *calls);
    Found { calls: search.carried, trials, p99_us }
}

impl Found {
    /// How often the highest number was carried, of its trials that nothing spoiled.
    #[must_use]
    pub fn carried(&self) -> String {
        if self.calls == 0 {
            return "none carried".into();
        }
        let fair = self.of(self.calls).filter(|trial| trial.is_fair());
        let (fair, carried) = fair.fold((0, 0), |(all, carried), trial| {
            (all + 1, carried + u32::from(trial.is_carried()))
        });
        format!("carried in {carried} of {fair} fair trials")
    }

    fn of(&self, calls: usize) -> impl Iterator<Item = &Trial> {
        self.trials.iter().filter(move |(of, _)| *of == calls).map(|(_, trial)| trial)
    }

    /// What ended it: of the lowest number that was not carried the last trial that tells about the server, or the last one.
    fn end(&self) -> Option<(usize, &Trial)> {
        let calls =
            self.trials.iter().map(|(calls, _)| *calls).find(|calls| *calls > self.calls)?;
        let fair = self.of(calls).filter(|trial| trial.is_fair()).last();
        Some((calls, fair.or_else(|| self.of(calls).last())?))
    }

    /// Why it is not more.
    #[must_use]
    pub fn limit(&self) -> String {
        match self.end() {
            None => "the generator has no more".into(),
            Some((calls, Trial::Spoiled(figures))) => {
                format!("with {calls}: {}", figures.spoiled_by().unwrap_or_default())
            }
            Some((calls, Trial::Broke(error))) => format!("with {calls}: {error}"),
            Some((calls, Trial::TooMany(figures) | Trial::Carried(figures))) => {
                let p99 = f64::from(figures.latency.p99) / 1e3;
                format!("with {calls}: p99 {p99:.1} ms, wrong frames: {}", figures.wrong())
            }
        }
    }

    /// Whether the server is what ends it, or the generator has no more.
    #[must_use]
    pub fn is_conclusive(&self) -> bool {
        self.end().is_none_or(|(_, trial)| trial.is_fair())
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let trial = |(calls, trial): &(usize, Trial)| {
            let figures = trial.figures().map(Figures::json);
            json!({ "calls": calls, "verdict": trial.verdict(), "figures": figures })
        };
        json!({
            "calls": self.calls,
            "p99_bound_us": self.p99_us,
            "rule": RULE,
            "carried": self.carried(),
            "limit": self.limit(),
            "trials": self.trials.iter().map(trial).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["calls", "p50 ms", "p99 ms", "wrong", "us/frame", "core %"];
        let line = |cells: [String; 6]| cells.map(|cell| format!("{cell:>9}")).concat();
        writeln!(f, "{}", line(head.map(str::to_owned)))?;
        for (calls, trial) in &self.trials {
            let run = trial.figures();
            let ms = |us: fn(&Figures) -> u32| shown(run.map(|r| f64::from(us(r)) / 1e3), 3);
            let cells = [
                calls.to_string(),
                ms(|run| run.latency.p50),
                ms(|run| run.latency.p99),
                shown(run.map(|run| run.wrong() as f64), 0),
                shown(run.and_then(|run| run.cpu_us_per_frame), 2),
                shown(run.and_then(|run| run.cpu_share).map(|share| share * 100.0), 0),
            ];
            writeln!(f, "{}  {}", line(cells), trial.verdict())?;
        }
        let bound = f64::from(self.p99_us) / 1e3;
        writeln!(
            f,
            "{} calls with p99 within {bound} ms and every frame back once: {} ({})\n{RULE}",
            self.calls,
            self.carried(),
            self.limit()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::compare::made_up;
    use super::*;

    const RANGE: Range = Range { first: 500, most: 4_000, step: 50, tries: 4 };

    /// Searches where so many are carried; also how many runs it took.
    fn carried(limit: usize, range: Range) -> (Found, usize) {
        let mut runs = 0;
        let found = search(range, 20_000, |calls| {
            runs += 1;
            Ok(made_up(calls, if calls <= limit { 1_000 } else { 30_000 }, 0, false))
        });
        (found, runs)
    }

    #[test]
    fn the_highest_number_is_found_to_the_step() {
        for limit in [100, 499, 500, 501, 1_230, 1_999, 3_999] {
            let (found, runs) = carried(limit, RANGE);
            assert!(
                found.calls <= limit && limit - found.calls < 2 * RANGE.step,
                "{limit}: {}",
                found.calls
            );
            assert!(runs <= 20, "{limit}: {runs} runs");
        }
        assert_eq!(carried(9_000, RANGE).0.calls, 4_000);
        assert_eq!(carried(0, RANGE).0.calls, 0);
        assert_eq!(carried(9, Range { first: 1, most: 9, step: 1, tries: 4 }).0.calls, 9);
    }

    #[test]
    fn a_bad_moment_is_forgiven_once() {
        let mut bad = true;
        let found = search(Range { first: 8, most: 8, step: 1, tries: 4 }, 20_000, |calls| {
            let lost = u64::from(std::mem::replace(&mut bad, false));
            Ok(made_up(calls, 900, lost, false))
        });
        assert_eq!(found.calls, 8);
        // Forgiven, not forgotten.
        let verdicts: Vec<_> = found.trials.iter().map(|(_, trial)| trial.verdict()).collect();
        assert_eq!(verdicts, ["too many", "carried"]);
        assert_eq!(found.json()["trials"].as_array().map(Vec::len), Some(2));
        let text = found.to_string();
        assert!(text.contains("too many") && text.contains("carried in 1 of 2 fair"), "{text}");
    }

    #[test]
    fn two_fair_trials_decide_and_spoiled_ones_between_them_do_not() {
        let outcomes = [(0, true), (1, false), (0, true), (1, false), (0, false)];
        let mut outcomes = outcomes.into_iter();
        let found = search(Range { first: 8, most: 8, step: 8, tries: 9 }, 20_000, |calls| {
            let (lost, spoiled) = outcomes.next().ok_or("no more")?;
            Ok(made_up(calls, 900, lost, spoiled))
        });
        let verdicts: Vec<_> = found.trials.iter().map(|(_, trial)| trial.verdict()).collect();
        assert_eq!(verdicts, ["spoiled", "too many", "spoiled", "too many"]);
        assert_eq!((found.calls, found.is_conclusive()), (0, true));
        assert_eq!(found.limit(), "with 8: p99 0.9 ms, wrong frames: 1");
    }

    #[test]
    fn what_was_spoiled_is_tried_again_and_concludes_nothing() {
        let mut runs = 0;
        let found = search(Range { first: 8, most: 8, step: 8, tries: 4 }, 20_000, |calls| {
            runs += 1;
            Ok(made_up(calls, 900, 0, true))
        });
        assert_eq!((found.calls, runs, found.is_conclusive()), (0, 4, false));
        assert!(found.limit().contains("generator"), "{}", found.limit());
        assert!(found.to_string().contains("none carried"), "{found}");
    }

    #[test]
    fn trials_are_judged_by_loss_latency_and_the_generator() {
        let verdict = |latency, lost, spoiled| {
            Trial::of(Ok(made_up(10, latency, lost, spoiled)), 20_000).verdict()
        };
        assert_eq!(verdict(19_000, 0, false), "carried");
        assert_eq!(verdict(25_000, 0, false), "too many");
        assert_eq!(verdict(100, 1, false), "too many");
        assert_eq!(verdict(100, 1, true), "spoiled");
        assert_eq!(Trial::of(Err("cut".into()), 1).verdict(), "broke");
        let whole = made_up(10, 100, 0, false);
        for wrong in
            [Figures { duplicates: 1, ..whole.clone() }, Figures { strangers: 1, ..whole.clone() }]
        {
            assert_eq!(Trial::of(Ok(wrong), 20_000).verdict(), "too many");
        }
    }

    #[test]
    fn the_curve_and_what_ended_it_are_told() {
        let (found, _) = carried(1_230, RANGE);
        assert!(found.trials.is_sorted_by_key(|(calls, _)| *calls));
        let text = found.to_string();
        assert!(
            text.contains("calls with p99 within 20 ms") && text.contains("too many"),
            "{text}"
        );
        assert_eq!(found.json()["calls"], found.calls);
        let all = carried(9_000, RANGE).0;
        assert_eq!(all.limit(), "the generator has no more");
    }
}
