//! `ringback simulate`: tells stories of chance in simulated time, and says what was wrong in which. Knows nothing of what is in them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::screen;
use crate::clock::Clock;
use crate::exit::Exit;
use crate::simulation::{Story, simulate};

const EXAMPLE: &str = "\
Example: a thousand stories, then one of them line by line:

  ringback simulate --seeds 1000
  ringback simulate --from 17 --seeds 1 --story";

/// Options of `ringback simulate`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// How many stories.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    seeds: u64,
    /// Seed of the first.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    from: u64,
    /// Tell each twice, and compare.
    #[arg(long)]
    twice: bool,
    /// Print all that happens, with simulated times.
    #[arg(long)]
    story: bool,
}

/// What all of them came to.
#[derive(Default)]
struct Tally {
    calls: usize,
    refused: usize,
    frames: [u64; 2],
    lasted: Duration,
    ends: BTreeMap<&'static str, usize>,
    wrong: Vec<u64>,
}

/// Tells the stories and what they came to; fails if there is a problem in one.
pub(super) fn run(args: &Args) -> Exit {
    // Read outside of the stories' own runtimes, it is the clock of this machine.
    let (clock, mut tally) = (Clock::start(), Tally::default());
    for seed in args.from..args.from.saturating_add(args.seeds) {
        let mut story = simulate(seed);
        if args.twice {
            compare(&mut story);
        }
        if args.story {
            story.lines.iter().for_each(screen::line);
        }
        tell(&story, args.story, &mut tally);
    }
    let took = clock.now().since_epoch();
    let ends: Vec<_> = tally.ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
    screen::line(format!(
        "{} stories, {} calls ({}), {} refused, {} messages in and {} out in {:.0} s of simulated time, which took {:.1} s",
        args.seeds,
        tally.calls,
        ends.join(", "),
        tally.refused,
        tally.frames[0],
        tally.frames[1],
        tally.lasted.as_secs_f64(),
        took.as_secs_f64()
    ));
    if tally.wrong.is_empty() {
        screen::line("nothing went wrong");
        return Exit::Ok;
    }
    screen::failed(Exit::Failure, format!("something went wrong in {:?}", tally.wrong))
}

fn tell(story: &Story, always: bool, tally: &mut Tally) {
    tally.calls += story.calls;
    tally.refused += story.refused;
    tally.frames[0] += story.frames[0];
    tally.frames[1] += story.frames[1];
    tally.lasted += story.lasted;
    for (end, count) in &story.ends {
        *tally.ends.entry(end).or_default() += count;
    }
    if always {
        screen::line(format!(
            "seed {}: {} ({:?} of simulated time)",
            story.seed, story.hash, story.lasted
        ));
        story
            .dropped
            .iter()
            .for_each(|(what, count)| screen::line(format!("dropped {what}: {count}")));
    }
    if !story.problems.is_empty() {
        tally.wrong.push(story.seed);
        for problem in &story.problems {
            screen::problem(format!("seed {}: {problem}", story.seed));
        }
    }
}

/// Tells it again, which must be the same.
fn compare(story: &mut Story) {
    let again = simulate(story.seed);
    if again.hash != story.hash {
        let differs = story.lines.iter().zip(&again.lines).find(|(one, two)| one != two);
        story.problems.push(format!("told again it is another: {differs:?}"));
    }
}
