//! The recordings there are: that they can be made, that those of killed processes are made good again, and that
//! they go when it is time. Records nothing.

pub mod erase;
#[cfg(test)]
mod hostile_test;
mod known;
pub mod library;
mod retention;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringback_recorder::Outcome;
use ringback_recorder::vault::Keys;
use serde::Deserialize;
use serde_json::Value;

use crate::telemetry::{Report, report};
use retention::Keep;

/// Where recordings are, and what is done with them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordingsConfig {
    /// Folders of them: those of builtin recorders, those that sinks take from, and those that are named.
    pub dirs: Vec<PathBuf>,
    /// Those of them that sinks take from: nothing goes there for its age before it is stored.
    pub stored: Vec<PathBuf>,
    /// Recordings that are always called the same.
    pub files: Vec<PathBuf>,
    /// What is done where none can be made.
    pub when_unusable: WhenUnusable,
    /// What sealed ones are opened with; the first wraps.
    pub keys: Keys,
    /// Finished ones in `dirs` are deleted when they are older; never, if it is not said.
    pub keep: Option<Duration>,
    /// The same for recordings of these tenants.
    pub keep_of: BTreeMap<String, Duration>,
}

/// What the recorder says last.
pub(crate) const FINISHED: &str = "recorder.finished";

/// What a recording lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incomplete {
    /// The recorder was let go of, and what came last may be missing. If not, it failed.
    pub was_cut: bool,
    /// Sound that it was told and could not keep.
    pub missing_ms: u64,
}

impl Incomplete {
    /// What the last words of a recorder say that is missing, if these are any and something is.
    pub(crate) fn told_by(name: &str, data: &Value) -> Option<Self> {
        if name != FINISHED {
            return None;
        }
        let was_cut = match data["state"].as_str()? {
            "cut" => true,
            "failed" => false,
            _ => return None,
        };
        Some(Self { was_cut, missing_ms: data["missing_ms"].as_u64().unwrap_or_default() })
    }
}

/// What is done where no recording can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenUnusable {
    /// No calls are taken.
    #[default]
    Refuse,
    /// Calls are taken, and not recorded there.
    Continue,
}

impl RecordingsConfig {
    /// Tries whether recordings can be made, and says so in the log where they cannot and calls are to be taken all the same.
    ///
    /// # Errors
    /// Where not and why, and what can be done about it.
    pub fn prepare(&self) -> Result<(), String> {
        let of_files = self.files.iter().filter_map(|file| file.parent());
        let of_files =
            of_files.map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
        for dir in self.dirs.iter().map(PathBuf::as_path).chain(of_files) {
            match ringback_recorder::try_to_write(dir) {
                Ok(()) => {}
                Err(error) if self.when_unusable == WhenUnusable::Continue => {
                    report(&Report::RecordingsUnusable { dir, error: &error });
                }
                Err(error) => {
                    let dir = dir.display();
                    return Err(format!(
                        "no recordings can be made in {dir}: {error}; make it a folder that this process may write to, \
                         or take calls all the same with `when_unusable = \"continue\"` of [recordings]"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Makes good what killed processes left, on a thread of its own: recordings that are being made are not touched.
    pub fn repair_beside(&self) {
        let config = self.clone();
        let repairing = std::thread::Builder::new().name("repair".into());
        if let Err(error) = repairing.spawn(move || config.repair()) {
            let dir = Path::new("all folders");
            report(&Report::RecordingNotRepaired { path: dir, reason: &error.to_string() });
        }
    }

    /// Deletes what is too old, on a thread of its own, for as long as this process lives.
    pub fn expire_beside(&self) {
        let keep = Keep { all: self.keep, of: self.keep_of.clone(), keys: self.keys.clone() };
        if keep.shortest().is_some() {
            retention::begin(self.dirs.clone(), self.stored.clone(), keep);
        }
    }

    fn repair(&self) {
        for dir in &self.dirs {
            match ringback_recorder::repair(dir, &self.keys) {
                Ok(found) => found.iter().for_each(|(path, outcome)| tell(path, outcome)),
                Err(error) => tell(dir, &Err(error)),
            }
        }
        for file in &self.files {
            match ringback_recorder::repair_file(file, &self.keys) {
                Ok(None) => {}
                Ok(Some(outcome)) => tell(file, &Ok(outcome)),
                Err(error) => tell(file, &Err(error)),
            }
        }
    }
}

fn tell(path: &Path, outcome: &io::Result<Outcome>) {
    match outcome {
        Ok(Outcome::Recovered { path, ms }) => {
            report(&Report::RecordingRecovered { path, ms: *ms });
        }
        Ok(Outcome::Damaged { path, at }) => {
            let reason = format!(
                "it is damaged at octet {at} with sound behind that, and nothing was cut off: \
                 `ringback recordings decrypt --up-to-damage` gives what comes before"
            );
            report(&Report::RecordingNotRepaired { path, reason: &reason });
        }
        Ok(Outcome::Unknown) => {
            let reason = "it is no recording of ours, and stays as it is";
            report(&Report::RecordingNotRepaired { path, reason });
        }
        Ok(Outcome::Empty | Outcome::Busy) => {}
        Err(error) => {
            report(&Report::RecordingNotRepaired { path, reason: &error.to_string() });
        }
    }
}
