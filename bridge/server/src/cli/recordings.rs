//! `ringback recordings`: what can be done with recordings when no call is on.

use std::path::{Path, PathBuf};

use ringback_recorder::{Outcome, repair};
use serde_json::json;

use super::screen;
use crate::exit::Exit;

/// Options of `ringback recordings`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make good what killed processes left in a folder: whole frames, right sizes, their own names. `ringback serve` does so at its
    /// start. Recordings that are being made are not touched, whoever makes them; doing it again finds nothing to do.
    Repair {
        /// The folder that a recorder wrote to.
        dir: PathBuf,
        /// A JSON object a line for each.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(args: &Args) -> Exit {
    match &args.what {
        What::Repair { dir, json } => repaired(dir, *json),
    }
}

fn repaired(dir: &Path, json: bool) -> Exit {
    if !dir.is_dir() {
        return screen::failed(Exit::Usage, format!("{} is no folder", dir.display()));
    }
    let found = match repair(dir) {
        Ok(found) => found,
        Err(error) => return screen::failed(Exit::Failure, format!("{}: {error}", dir.display())),
    };
    let mut all_well = true;
    for (part, outcome) in found {
        let (word, path, ms, text) = match outcome {
            Ok(Outcome::Recovered { path, ms }) => {
                let seconds = ms as f64 / 1_000.0;
                ("recovered", path, Some(ms), format!("recovered, {seconds:.1} s"))
            }
            Ok(Outcome::Empty) => ("empty", part, None, "had not begun, deleted".into()),
            Ok(Outcome::Busy) => ("busy", part, None, "is being recorded".into()),
            Ok(Outcome::Unknown) => {
                ("unknown", part, None, "no recording of ours, left alone".into())
            }
            Err(error) => {
                all_well = false;
                ("failed", part, None, error.to_string())
            }
        };
        if json {
            let path = path.display().to_string();
            screen::line(json!({"outcome": word, "path": path, "ms": ms, "text": text}));
        } else {
            screen::line(format!("{}: {text}", path.display()));
        }
    }
    if all_well { Exit::Ok } else { Exit::Failure }
}
