//! `ringback faults`: does to bridges of its own what goes wrong in the field, and prints what became of it.

use std::path::PathBuf;

use super::bench::show::Bar;
use super::{LogArgs, screen};
use crate::exit::Exit;
use crate::faults::{self, Options, count_frames};

const MORE: &str = "\
Each row starts this program as a bridge, with ten healthy calls beside; in and out are frames as the far ends of the faulted calls
count them, and what is lost is named by the bridge's ledger. A row passes if its fault was felt, both agree, nothing came twice, the bridge
is well, and the healthy calls' 99th percentile grew by no more than 5 % and 1 ms. Several rows run at once; what fails by times alone is
run again by itself, up to twice: the machine has moods, the bridge has none. Times that a busy machine may have spoiled fail no row: it
is \"spoiled\" then. \"not built\" is a failure, \"not here\" says what it takes: strace, libfaketime, the right to mount. The whole
takes less than an hour, --quick less than ten minutes, and --busy runs nothing again. --frames is in real time, for a bridge sends
sound as fast as it is heard and no faster: more calls are more frames a second.";

/// Options of `ringback faults`.
#[derive(Debug, clap::Args)]
#[command(after_help = MORE)]
pub(super) struct Args {
    /// Shorter forms of the rows that take long.
    #[arg(long)]
    quick: bool,
    /// Only these rows, by id or name: F1,F17,drain.
    #[arg(long, value_name = "ROWS", value_delimiter = ',')]
    only: Vec<String>,
    /// Calls that each fault is done to at once, each another way.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=200))]
    seeds: u32,
    /// How long the soak lasts.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(5..=86_400))]
    seconds: Option<u32>,
    /// This machine does other work meanwhile: times, and frames that came too late to be played, are told and fail no row.
    #[arg(long)]
    busy: bool,
    /// Write the table there as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print the table as Markdown.
    #[arg(long)]
    markdown: bool,
    /// Name the rows, and run none.
    #[arg(long, conflicts_with_all = ["only", "json", "markdown"])]
    list: bool,
    /// Be a module that does so; started by the bridge that such a row is about.
    #[arg(long, hide = true)]
    be_module: Option<faults::Acts>,
    /// In the place of faults, send so many frames there and back and account for each of them.
    #[arg(long, value_name = "N", conflicts_with_all = ["quick", "only", "seeds", "seconds", "busy", "markdown", "list"], value_parser = clap::value_parser!(u64).range(1..))]
    frames: Option<u64>,
    /// Calls at once for --frames.
    #[arg(long, value_name = "N", default_value_t = 1_000, requires = "frames", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    calls: u32,
}

pub(super) fn run(args: &Args, log: &LogArgs) -> Exit {
    if let Some(acts) = args.be_module {
        let well = faults::be_module(acts) == std::process::ExitCode::SUCCESS;
        return if well { Exit::Ok } else { Exit::Failure };
    }
    log.init("error");
    let outcome = match args.frames {
        _ if args.list => Ok(list()),
        Some(frames) => frames_of(args, frames),
        None => table(args),
    };
    outcome.unwrap_or_else(|error| screen::failed(Exit::Failure, error))
}

fn list() -> Exit {
    let line = |fault: &faults::Fault| {
        format!("{:<4} {:<24} {}; {}\n", fault.id, fault.name, fault.what, fault.how)
    };
    screen::print(&faults::all().map(line).collect::<String>())
}

fn table(args: &Args) -> Result<Exit, String> {
    let Args { quick, seeds, seconds, busy, .. } = *args;
    let options = Options { quick, only: args.only.clone(), seeds, seconds, busy };
    let bar = Bar::new(false, "");
    let rows = faults::run(&options, &|at, of, fault| {
        bar.at(at as f64 / of.max(1) as f64, Some(&format!("{} {}", fault.id, fault.name)));
    })?;
    bar.done();
    write(args, &faults::json(&rows))?;
    let text = if args.markdown { faults::markdown(&rows) } else { faults::text(&rows) };
    let printed = screen::print(&text);
    let failed = rows.iter().any(|(_, row)| row.verdict().is_failure());
    Ok(if failed { Exit::Failure } else { printed })
}

fn frames_of(args: &Args, frames: u64) -> Result<Exit, String> {
    let bar = Bar::new(false, &format!("{} calls", args.calls));
    let count = count_frames(frames, args.calls as usize, &|share| bar.at(share, None))?;
    bar.done();
    write(args, &count.json())?;
    let printed = screen::print(&count.to_string());
    Ok(if count.is_whole() { printed } else { Exit::Failure })
}

fn write(args: &Args, json: &serde_json::Value) -> Result<(), String> {
    let Some(path) = &args.json else { return Ok(()) };
    std::fs::write(path, format!("{json:#}\n"))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}
