//! `ringback recordings`: what can be done with recordings beside the calls that make them. Makes none.

mod delete;
mod show;
mod vault;

use std::path::{Path, PathBuf};

use ringback_recorder::vault::Keys;
use ringback_recorder::{Outcome, repair};
use serde_json::json;

use super::{LogArgs, screen};
use crate::config::{Config, Context};
use crate::exit::Exit;
use crate::recordings::erase::Wanted;
use crate::sink::SinkKind;

/// Options of `ringback recordings`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration, whose recorders have the keys; the default is ringback.toml in this folder.
    #[arg(long, short, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// A key, in the place of those of the configuration: what it is called and where it is, such as `2026=file:/etc/ringback/2026.key`
    /// or `2026=env:RECORDINGS_KEY`, 64 hexadecimal digits. The first one wraps.
    #[arg(long = "key", value_name = "ID=PLACE", global = true)]
    keys: Vec<String>,
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
    /// List the recordings of a folder, oldest first: calls, lengths, and what they are encrypted with.
    List {
        /// The folder that a recorder writes to.
        dir: PathBuf,
        /// A JSON object a line for each.
        #[arg(long)]
        json: bool,
    },
    /// Read encrypted recordings from end to end and say whether they are what was written.
    ///
    /// Of a WAV that is not encrypted nobody can tell, and it is passed over. One without an end was cut short: its process was killed
    /// and it was repaired without its key, or its end was cut off; these cannot be told apart, and both end this with 1.
    Verify {
        /// A folder, or one recording.
        place: PathBuf,
        /// A JSON object a line for each.
        #[arg(long)]
        json: bool,
    },
    /// Write an encrypted recording as a WAV file, and what is known of it beside that as JSON.
    Decrypt {
        /// The recording.
        file: PathBuf,
        /// The WAV file to make; it must not be there yet.
        #[arg(long, short, value_name = "WAV")]
        output: PathBuf,
        /// Keep what comes before a damage, if there is one.
        #[arg(long)]
        up_to_damage: bool,
    },
    /// Delete all that is kept of a call, or of the calls of somebody: recordings, what is known of them, and what sinks keep.
    ///
    /// Folders, sinks and keys are those of the configuration. The key of an encrypted recording is destroyed first. Nothing is deleted
    /// of a call whose recording is held or not finished, and no recording where a sink failed: then do it again. What was deleted is
    /// noted in the audit log, or in `deleted.log` of the first folder, by a keyed digest: whoever has `deleted.key` of that folder can
    /// show what was asked for, and nobody can read it back. What this cannot reach is printed.
    #[command(group(clap::ArgGroup::new("whose").required(true).args(["call", "subject"])))]
    Delete {
        /// The call, by the bridge's name for it.
        #[arg(long, value_name = "ID")]
        call: Option<String>,
        /// All calls of this number, of whichever side, that were recorded; `-` reads it from standard input.
        #[arg(long, value_name = "NUMBER")]
        subject: Option<String>,
    },
    /// Hold recordings: neither their age nor a wish deletes them, until they are released.
    Hold {
        /// The recordings.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Let go of recordings that were held.
    Release {
        /// The recordings.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Have another key open the encrypted recordings of a folder: the first of those given, or of the first recorder that encrypts.
    ///
    /// Only the wrapped key of each is written anew, never its sound. The old key must be given as well. Whenever this is interrupted,
    /// one of both keys opens a recording; doing it again goes on. Copies in stores and backups keep the old key.
    Rewrap {
        /// The folder that a recorder writes to.
        dir: PathBuf,
    },
}

pub(super) fn run(args: &Args, log: &LogArgs) -> Exit {
    match &args.what {
        What::Delete { call, subject } => {
            return args.delete(call.as_deref(), subject.as_deref(), log);
        }
        What::Hold { files } => return delete::hold(files, true),
        What::Release { files } => return delete::hold(files, false),
        _ => {}
    }
    let keys = match args.keys(log) {
        Ok(keys) => keys,
        Err(error) => return screen::failed(Exit::Usage, error),
    };
    match &args.what {
        What::Repair { dir, json } => repaired(dir, &keys, *json),
        What::List { dir, json } => show::list(dir, &keys, *json),
        What::Verify { place, json } => vault::verify(place, &keys, *json),
        What::Decrypt { file, output, up_to_damage } => {
            vault::decrypt(file, output, *up_to_damage, &keys)
        }
        What::Rewrap { dir } => vault::rewrap(dir, &keys, &args.stores(log)),
        What::Delete { .. } | What::Hold { .. } | What::Release { .. } => Exit::Internal,
    }
}

impl Args {
    /// What is wanted, of a configuration that must be right.
    fn delete(&self, call: Option<&str>, subject: Option<&str>, log: &LogArgs) -> Exit {
        let context = Context::of_process();
        let config = Config::load(self.config.as_deref(), &log.overrides(), &context);
        let mut config = match config {
            Ok(config) => config,
            Err(error) => return screen::failed(Exit::Usage, error),
        };
        if !self.keys.is_empty() {
            match self.keys(log) {
                Ok(keys) => config.recordings.keys.extend(&keys),
                Err(error) => return screen::failed(Exit::Usage, error),
            }
        }
        let subject = match subject {
            Some("-") => {
                let mut line = String::new();
                if let Err(error) = std::io::stdin().read_line(&mut line) {
                    return screen::failed(Exit::Usage, format!("standard input: {error}"));
                }
                Some(line.trim().to_owned())
            }
            subject => subject.map(str::to_owned),
        };
        let wanted = subject.map(Wanted::Subject).or(call.map(|call| Wanted::Call(call.into())));
        match wanted {
            Some(Wanted::Subject(text) | Wanted::Call(text)) if text.trim().is_empty() => {
                screen::failed(Exit::Usage, "whose calls? the name or number is empty")
            }
            Some(wanted) => delete::delete(&config, &wanted),
            None => Exit::Internal,
        }
    }

    /// The sinks that have copies of recordings, if there is a configuration.
    fn stores(&self, log: &LogArgs) -> Vec<String> {
        let context = Context::of_process();
        let config = Config::load(self.config.as_deref(), &log.overrides(), &context);
        let sinks = config.map(|config| config.sinks).unwrap_or_default().into_iter();
        let stores = sinks.filter(|sink| matches!(sink.kind, SinkKind::Recordings(_)));
        stores.map(|sink| sink.name.to_string()).collect()
    }

    /// The keys that are named, or those of the configuration.
    fn keys(&self, log: &LogArgs) -> Result<Keys, String> {
        if self.keys.is_empty() {
            let context = Context::of_process();
            let config = Config::load(self.config.as_deref(), &log.overrides(), &context);
            return match config {
                Ok(config) => Ok(config.recordings.keys),
                // Nobody asked for it, and much can be done without keys.
                Err(error) if self.config.is_none() => {
                    screen::problem(format!("no keys of a configuration: {error}"));
                    Ok(Keys::default())
                }
                Err(error) => Err(error.to_string()),
            };
        }
        let named = self.keys.iter().map(|named| {
            let wrong = "--key: expected what it is called and where it is, such as 2026=env:KEY";
            named.split_once('=').ok_or_else(|| wrong.to_owned())
        });
        let named: Vec<_> = named.collect::<Result<_, _>>()?;
        Keys::read(named, &|name| std::env::var(name).ok()).map_err(|e| format!("--key: {e}"))
    }
}

fn repaired(dir: &Path, keys: &Keys, json: bool) -> Exit {
    if !dir.is_dir() {
        return screen::failed(Exit::Usage, format!("{} is no folder", dir.display()));
    }
    let found = match repair(dir, keys) {
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
            Ok(Outcome::Damaged { path, at }) => {
                all_well = false;
                let text =
                    format!("damaged at octet {at} with sound behind that; nothing was cut off");
                ("damaged", path, None, text)
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
