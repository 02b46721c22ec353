//! `ringback-fuzz`: runs targets on a stable compiler, over their corpus and what chance makes of it, and keeps what breaks one.
//! What guides by coverage is in `coverage/`.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use ringback_fuzz::mutate::{Dice, mutated};
use ringback_fuzz::{Target, all, corpus};

/// An input that takes longer is told of: whoever may send it may send many.
const SLOW: Duration = Duration::from_millis(500);
/// The clock is read once for so many inputs.
const BATCH: u64 = 16;

/// Runs functions that read what strangers send, over octets that nobody would.
#[derive(Debug, Parser)]
#[command(name = "ringback-fuzz")]
enum Command {
    /// Names of targets.
    List {
        /// Those whose names begin so; all without any.
        targets: Vec<String>,
    },
    /// Runs targets over their corpus, then over what chance makes of it.
    Run {
        /// Those whose names begin so; all without any.
        targets: Vec<String>,
        /// Seconds for each.
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
        /// Executions at most, for each.
        #[arg(long, default_value_t = u64::MAX)]
        executions: u64,
        /// Decides what chance makes.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Where inputs are put that break a target.
        #[arg(long, default_value = "fuzz-findings")]
        findings: PathBuf,
    },
    /// Runs a target over files, one input each.
    Replay {
        /// Its name.
        target: String,
        /// The files.
        files: Vec<PathBuf>,
    },
    /// Writes seeds and corpus of a target as files into a folder, as libFuzzer wants them.
    Unpack {
        /// Its name.
        target: String,
        /// The folder.
        folder: PathBuf,
    },
    /// Adds the files of a folder to the corpus of a target.
    Pack {
        /// Its name.
        target: String,
        /// The folder.
        folder: PathBuf,
        /// Octets of the longest that is kept.
        #[arg(long, default_value_t = 1024)]
        longest: usize,
    },
}

fn main() -> ExitCode {
    match obey(Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error);
            ExitCode::FAILURE
        }
    }
}

/// A line on standard output; that nobody reads it is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn obey(command: Command) -> Result<(), String> {
    let find = |name: &str| ringback_fuzz::find(name).ok_or(format!("there is no target {name}"));
    let failed = |error: std::io::Error| error.to_string();
    match command {
        Command::List { targets } => {
            wanted(&targets).for_each(|target| say(&target.name));
        }
        Command::Run { targets, seconds, executions, seed, findings } => {
            let mut broken = 0;
            for target in wanted(&targets) {
                let inputs = [target.seeds(), corpus::read(&target).map_err(failed)?].concat();
                let bounds = Bounds { time: Duration::from_secs_f64(seconds), executions };
                broken += u32::from(!run(&target, &inputs, &bounds, seed, &findings));
            }
            if broken > 0 {
                return Err(format!("{broken} targets broke; `replay` shows why"));
            }
        }
        Command::Replay { target, files } => {
            let target = find(&target)?;
            for path in files {
                target.run(&std::fs::read(path).map_err(failed)?);
            }
        }
        Command::Unpack { target, folder } => {
            let count = corpus::unpack(&find(&target)?, &folder).map_err(failed)?;
            say(&format!("{target}: {count} inputs"));
        }
        Command::Pack { target, folder, longest } => {
            let added = corpus::pack(&find(&target)?, &folder, longest).map_err(failed)?;
            say(&format!("{target}: {added} inputs added"));
        }
    }
    Ok(())
}

/// Targets whose names begin with one of these; all without any.
fn wanted(names: &[String]) -> impl Iterator<Item = Target> {
    let is = |target: &Target| {
        names.is_empty() || names.iter().any(|name| target.name.starts_with(name))
    };
    all().into_iter().filter(is)
}

struct Bounds {
    time: Duration,
    executions: u64,
}

/// Runs one target; whether it held. A panic ends it, and its input is written down.
#[allow(clippy::disallowed_methods, reason = "how long it ran is what is told")]
fn run(
    target: &Target,
    inputs: &[Vec<u8>],
    bounds: &Bounds,
    seed: u64,
    findings: &std::path::Path,
) -> bool {
    let present = Arc::new(Mutex::new(Vec::new()));
    keep_what_breaks(target.name.clone(), Arc::clone(&present), findings.to_owned());
    let (began, mut done, mut dice) = (Instant::now(), 0_u64, Dice(seed));
    let (mut slowest, mut batch_began) = (Duration::ZERO, began);
    while done < bounds.executions {
        let input = match inputs.get(usize::try_from(done).unwrap_or(usize::MAX)) {
            Some(input) => input.clone(),
            None => mutated(inputs, &mut dice),
        };
        present.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&input);
        if catch_unwind(AssertUnwindSafe(|| target.run(&input))).is_err() {
            let _ = std::panic::take_hook();
            return false;
        }
        done += 1;
        if done.is_multiple_of(BATCH) {
            let now = Instant::now();
            let took = (now - batch_began) / BATCH as u32;
            batch_began = now;
            slowest = slowest.max(took);
            if took > SLOW {
                say(&format!("{}: {took:?} for each of {BATCH} inputs", target.name));
            }
            if now - began > bounds.time {
                break;
            }
        }
    }
    let _ = std::panic::take_hook();
    let time = began.elapsed();
    let rate = done as f64 / time.as_secs_f64().max(1e-9);
    say(&format!(
        "{}: {done} executions in {:.1} s, {rate:.0}/s, clean; slowest {BATCH} took {slowest:?} each",
        target.name,
        time.as_secs_f64()
    ));
    true
}

fn keep_what_breaks(name: String, present: Arc<Mutex<Vec<u8>>>, findings: PathBuf) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let input = present.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let hash = input
            .iter()
            .fold(0_u64, |hash, octet| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3));
        let path = findings.join(format!("{name}-{hash:016x}"));
        let kept = std::fs::create_dir_all(&findings).and_then(|()| std::fs::write(&path, &input));
        say(&format!(
            "{name}: BROKEN by {} octets, kept ({kept:?}) as {}",
            input.len(),
            path.display()
        ));
        usual(info);
    }));
}
