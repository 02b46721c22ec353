//! Faults done on purpose to a bridge that runs as its users run it, with healthy calls beside, and what became of both, in a table.
//!
//! Every row starts this program as a bridge of its own. Calls are placed as a provider would place them; each frame says its number in
//! its sound, so that what got lost, came twice or out of order is counted by the far end, and held against the bridge's own ledger.
//! Healthy calls are the generator's of `ringback bench`: their latency before the fault and during it is the table's, and a run
//! that the machine spoiled is told apart from one that the bridge did.

mod beside;
mod bridge;
mod caller;
mod capacity;
mod ear;
mod frames;
mod link;
mod load;
mod machine;
mod modules;
mod process;
mod protocol;
mod recording;
mod rolling;
mod row;
mod scene;
mod soak;
mod strangers;
mod table;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub use ear::{Acts, be_module};
pub use frames::{Count, count_frames};
pub use row::{Row, Verdict};
pub use table::{json, markdown, text};

/// How often a row is run whose times alone are not as they must be.
const RUNS: usize = 3;
const BUSY: &str = "this machine is said to be busy";
/// Until when rows begin once more, from the beginning on: `--quick` is to be over within ten minutes, and its longest row takes one and
/// a half.
const AGAIN_UNTIL_QUICK: Duration = Duration::from_secs(8 * 60);
/// The same of the whole, which is to be over within an hour, and whose longest row takes ten minutes.
const AGAIN_UNTIL: Duration = Duration::from_secs(48 * 60);
/// Rows at once: most of their time they wait.
const AT_ONCE: usize = 3;
/// Rows that need the machine for themselves: they fill it, or count on what is left of it.
const ALONE: [&str; 6] = ["F39", "F41", "F42", "F44", "F45", "F46"];

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Short forms of the longer rows.
    pub quick: bool,
    /// Rows by id or name; all, if there are none.
    pub only: Vec<String>,
    /// Calls that a fault is done to at once, each with another seed.
    pub seeds: u32,
    /// How long the soak lasts, whatever else is said.
    pub seconds: Option<u32>,
    /// The machine does other work meanwhile: what that may spoil is told, and fails no row.
    pub busy: bool,
}

/// A fault.
#[derive(Debug)]
pub struct Fault {
    /// `F1` to `F46`.
    pub id: &'static str,
    /// Lower case, hyphens.
    pub name: &'static str,
    /// What goes wrong.
    pub what: &'static str,
    /// How that is done.
    pub how: &'static str,
    run: Run,
}

/// How a row is run.
#[derive(Debug)]
enum Run {
    /// Now.
    Here(fn(&Ground) -> Result<Row, String>),
    /// Not by this command: why, and where it is proven instead, if it is.
    Elsewhere(&'static str),
}

/// All faults, by group.
pub static FAULTS: &[&[Fault]] = &[
    link::ROWS,
    protocol::ROWS,
    modules::ROWS,
    process::ROWS,
    rolling::ROWS,
    load::ROWS,
    machine::ROWS,
    soak::ROWS,
    capacity::ROWS,
    strangers::ROWS,
];

/// All faults, in order.
pub fn all() -> impl Iterator<Item = &'static Fault> {
    let mut all: Vec<_> = FAULTS.iter().flat_map(|group| group.iter()).collect();
    all.sort_by_key(|fault| fault.number());
    all.into_iter()
}

impl Fault {
    /// Whether one of `names` is its id or its name.
    fn is_named(&self, names: &[String]) -> bool {
        let is = |name: &String| name.eq_ignore_ascii_case(self.id) || name == self.name;
        names.is_empty() || names.iter().any(is)
    }

    /// 1 to 46.
    fn number(&self) -> u32 {
        self.id[1..].parse().unwrap_or(u32::MAX)
    }

    fn run(&self, ground: &Ground) -> Row {
        match self.run {
            Run::Here(run) => {
                run(ground).unwrap_or_else(|error| Row::judged(Verdict::Fail(vec![error])))
            }
            Run::Elsewhere(why) => Row::judged(Verdict::Elsewhere(why.to_owned())),
        }
    }
}

/// Runs the rows that are asked for; `told` is told each before it begins, with how many have begun.
///
/// Several run at once: what passes beside others passes. What has failed by nothing but times is run again by itself, three times in
/// all at most: what the machine did once is gone the next time, and what the bridge does is there each time.
///
/// # Errors
/// If a name is no row's, or the machine gives no runtime or folder to work with.
pub fn run(
    options: &Options,
    told: &(dyn Fn(usize, usize, &Fault) + Sync),
) -> Result<Vec<(&'static Fault, Row)>, String> {
    let unknown =
        options.only.iter().find(|name| !all().any(|fault| fault.is_named(&[(*name).clone()])));
    if let Some(name) = unknown {
        return Err(format!("there is no fault {name:?}; `ringback faults --list` tells all"));
    }
    let ground = Ground::new(options)?;
    let wanted: Vec<_> = all().filter(|fault| fault.is_named(&options.only)).collect();
    let (alone, beside): (Vec<_>, Vec<_>) =
        wanted.iter().copied().partition(|fault| ALONE.contains(&fault.id));
    let begun = AtomicUsize::new(0);
    let row = |fault: &&'static Fault| {
        told(begun.fetch_add(1, Ordering::Relaxed), wanted.len(), fault);
        (*fault, fault.run(&ground))
    };
    let mut rows = at_once(AT_ONCE, &beside, row);
    rows.extend(at_once(1, &alone, row));
    if options.busy {
        rows.iter_mut().for_each(|(_, row)| row.spoiled = row.spoiled.or(Some(BUSY)));
    } else {
        let time = if options.quick { AGAIN_UNTIL_QUICK } else { AGAIN_UNTIL };
        let is_time_left = || ground.clock.now().since_epoch() < time;
        let again = |fault: &&'static Fault| {
            told(wanted.len(), wanted.len(), fault);
            fault.run(&ground)
        };
        run_late_again(&mut rows, is_time_left, again);
    }
    rows.sort_by_key(|(fault, _)| fault.number());
    Ok(rows)
}

/// Runs those again that are not as they must be by nothing but times, as long as there is time; first those that no machine excuses.
/// The last run of a row counts, and what earlier ones said is noted.
fn run_late_again<T>(
    rows: &mut [(T, Row)],
    is_time_left: impl Fn() -> bool,
    run: impl Fn(&T) -> Row,
) {
    let mut earlier = vec![Vec::new(); rows.len()];
    'turns: for turn in 1..RUNS {
        let mut due: Vec<_> = (0..rows.len()).filter(|at| rows[*at].1.is_only_late()).collect();
        due.sort_by_key(|at| rows[*at].1.spoiled.is_some());
        for at in due {
            if !is_time_left() {
                break 'turns;
            }
            let (fault, row) = &mut rows[at];
            earlier[at].push(format!("run {turn}: {}", row.late.join("; ")));
            *row = run(fault);
        }
    }
    for ((_, row), mut said) in rows.iter_mut().zip(earlier) {
        row.notes.append(&mut said);
    }
}

/// What `run` makes of each of `these`, so many at a time, in any order.
fn at_once<T: Sync, R: Send>(most: usize, these: &[T], run: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let work = || {
        std::iter::from_fn(|| these.get(next.fetch_add(1, Ordering::Relaxed)).map(&run)).collect()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..most.min(these.len())).map(|_| scope.spawn(work)).collect();
        let done = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        done.flat_map(|rows: Vec<R>| rows).collect()
    })
}

/// What rows work with.
struct Ground {
    quick: bool,
    seeds: u32,
    seconds: Option<Duration>,
    runtime: tokio::runtime::Runtime,
    clock: crate::clock::Clock,
    folder: Folder,
}

impl Ground {
    fn new(options: &Options) -> Result<Self, String> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
        let clock = {
            let _entered = runtime.enter();
            crate::clock::Clock::start()
        };
        let seeds = options.seeds.max(1);
        let seconds = options.seconds.map(|seconds| Duration::from_secs(seconds.into()));
        let quick = options.quick;
        Ok(Self { quick, seeds, seconds, runtime, clock, folder: Folder::new()? })
    }

    /// Runs something that waits.
    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The long time, or the short one.
    const fn time(&self, long: u64, short: u64) -> Duration {
        Duration::from_secs(if self.quick { short } else { long })
    }
}

/// A folder that is there as long as this is.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("ringback-faults-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        Ok(Self(path))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left behind, they are small files among temporary ones.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_forty_six_faults_have_a_row_and_a_name_of_their_own() {
        let ids: Vec<_> = all().map(|fault| fault.id.to_owned()).collect();
        assert_eq!(ids, (1..=46).map(|number| format!("F{number}")).collect::<Vec<_>>());
        let names: BTreeSet<_> = all().map(|fault| fault.name).collect();
        assert_eq!(names.len(), 46);
        let whole = |fault: &Fault| !fault.what.is_empty() && !fault.how.is_empty();
        assert!(all().all(whole));
    }

    fn late(spoiled: Option<&'static str>) -> Row {
        Row { late: vec!["late".into()], spoiled, ..Row::default() }
    }

    #[test]
    fn what_is_late_once_is_run_again_and_what_is_late_each_time_fails() {
        for (runs_late, spoiled, runs_expected, verdict) in [
            (0, None, 1, "pass"),
            (1, None, 2, "pass"),
            (1, Some("busy"), 2, "pass"),
            (2, None, 3, "pass"),
            (9, None, RUNS, "FAIL"),
            (9, Some("busy"), RUNS, "spoiled"),
        ] {
            let runs = AtomicUsize::new(0);
            let run = |(): &()| {
                let is_late = runs.fetch_add(1, Ordering::Relaxed) < runs_late;
                if is_late { late(spoiled) } else { Row::default() }
            };
            let mut rows = [((), run(&()))];
            run_late_again(&mut rows, || true, run);
            let [((), row)] = rows;
            assert_eq!((runs.into_inner(), row.verdict().name()), (runs_expected, verdict));
            assert_eq!(row.notes.len(), runs_expected - 1, "{row:?}");
        }
        let wrong = Row { wrong: vec!["lost".into()], ..late(None) };
        let mut rows = [((), wrong.clone())];
        run_late_again(&mut rows, || true, |()| unreachable!("what is lost is lost"));
        assert_eq!(rows, [((), wrong)]);
    }

    #[test]
    fn what_no_machine_excuses_is_run_again_first_and_nothing_when_time_is_up() {
        let ran = std::cell::RefCell::new(String::new());
        let run = |name: &char| {
            ran.borrow_mut().push(*name);
            late(Some("busy"))
        };
        let mut rows = [('a', late(Some("busy"))), ('b', late(None)), ('c', Row::default())];
        run_late_again(&mut rows, || ran.borrow().len() < 3, run);
        assert_eq!(*ran.borrow(), "baa");
        assert_eq!(rows.each_ref().map(|(_, row)| row.notes.len()), [2, 1, 0]);
        assert_eq!(
            rows.each_ref().map(|(_, row)| row.verdict().name()),
            ["spoiled", "spoiled", "pass"]
        );
    }

    #[test]
    fn several_at_once_are_each_done_once_and_never_more_than_may_be() {
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let numbers: Vec<u32> = (0..50).collect();
        let mut done = at_once(3, &numbers, |number| {
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            std::thread::yield_now();
            running.fetch_sub(1, Ordering::SeqCst);
            *number
        });
        done.sort_unstable();
        assert_eq!(done, numbers);
        assert!((1..=3).contains(&most.into_inner()));
        assert!(at_once(3, &[0; 0], |number: &i32| *number).is_empty());
        assert!(ALONE.iter().all(|id| all().any(|fault| fault.id == *id)));
    }

    #[test]
    fn rows_are_chosen_by_id_or_by_name() {
        let named = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            all().filter(|fault| fault.is_named(&names)).count()
        };
        assert_eq!((named(&[]), named(&["f1", "F44"]), named(&["jitter"])), (46, 2, 1));
        let only = vec!["F99".to_owned()];
        assert!(run(&Options { only, ..Options::default() }, &|_, _, _| {}).is_err());
    }
}
