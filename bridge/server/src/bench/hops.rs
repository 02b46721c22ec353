//! What the way to a module and back adds to the latency of a frame: bridges that differ in nothing but where their module runs, in turns.

use std::fmt;

use serde_json::json;

use super::compare::{Comparison, Contender, Standing, in_turns, shown};
use super::place::Place;
use super::server::Setup;
use super::{Figures, Plan};

/// The bridge whose module runs in its process, and bridges whose modules do not.
#[derive(Debug, Clone, PartialEq)]
pub struct Hops {
    /// The first is the one in process; the others are the places, in their order.
    pub comparison: Comparison,
    /// Where the modules ran.
    pub places: Vec<Place>,
}

/// Measures the bridge of `setup` with its module in its process and at each of `places`, `rounds` times in turns.
///
/// # Errors
/// If a server cannot be started, or a call breaks.
pub fn hops(
    setup: &Setup,
    plan: &Plan,
    places: &[Place],
    rounds: usize,
    pinned: bool,
    progress: &dyn Fn(f64, &str),
) -> Result<Hops, String> {
    let contender =
        |name: &str, setup| Contender { name: name.to_owned(), setup, plan: plan.clone() };
    let mut contenders = vec![contender("in process", setup.clone())];
    contenders
        .extend(places.iter().map(|place| contender(place.name(), setup.with_module(*place))));
    let standings = in_turns(&contenders, rounds, pinned, progress)?;
    Ok(Hops { comparison: Comparison { standings }, places: places.to_vec() })
}

impl Hops {
    /// Each place with what it adds to the median and to the 99th percentile, in milliseconds.
    pub fn added_ms(&self) -> impl Iterator<Item = (Place, [Option<f64>; 2])> {
        let [near, away @ ..] = &self.comparison.standings[..] else {
            unreachable!("there is always the one in process")
        };
        self.places.iter().copied().zip(away).map(move |(place, away)| {
            let added = [Standing::p50, Standing::p99]
                .map(|figure| Some((figure(away)? - figure(near)?) / 1e3));
            (place, added)
        })
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let hops = self.added_ms().map(|(place, [p50, p99])| {
            json!({
                "place": place.name(),
                "p50_ms": p50,
                "p99_ms": p99,
                "bound_p50_ms": place.bound_ms(),
            })
        });
        let mut json = self.comparison.json();
        json["hops"] = hops.collect();
        json
    }

    /// The last run of each, with its name.
    pub fn last_runs(&self) -> impl Iterator<Item = (&str, &Figures)> {
        let standings = self.comparison.standings.iter();
        standings.filter_map(|standing| Some((standing.name.as_str(), standing.runs.last()?)))
    }
}

impl fmt::Display for Hops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.comparison.write_table(f)?;
        for (place, [p50, p99]) in self.added_ms() {
            let ([p50, p99], bound) = ([p50, p99].map(|ms| shown(ms, 3)), place.bound_ms());
            writeln!(
                f,
                "the way to {place} and back adds {p50} ms to the p50 (bound at 100 calls: {bound}), {p99} ms to the p99"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::compare::made_up;
    use super::*;

    #[test]
    fn what_a_hop_adds_is_the_difference() {
        let standing = |name: &str, latency| Standing {
            name: name.into(),
            runs: vec![made_up(100, latency, 0, false)],
        };
        let hops = Hops {
            comparison: Comparison {
                standings: vec![standing("in process", 100), standing("stdio", 350)],
            },
            places: vec![Place::Stdio],
        };
        assert_eq!(hops.added_ms().collect::<Vec<_>>(), [(Place::Stdio, [Some(0.25); 2])]);
        let shown = hops.to_string();
        assert!(shown.contains("the way to stdio and back adds 0.250 ms to the p50"), "{shown}");
        assert_eq!(hops.json()["hops"][0]["p50_ms"], 0.25);
    }
}
