//! What a recorder is told: where, at which rate, and what it does where a disk is full. Touches no disk.

use std::path::PathBuf;

use ringback_module::message::RATES;
use serde::Deserialize;

use crate::file::Options;
use crate::vault::{Encrypt, Keys};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) path: Option<PathBuf>,
    pub(crate) dir: Option<PathBuf>,
    pub(crate) rate: Option<u32>,
    overwrite: bool,
    sync: Option<bool>,
    when_full: WhenFull,
    pub(crate) record: Record,
    encrypt: Option<Encrypt>,
}

/// From when on is recorded.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    /// From the beginning.
    #[default]
    Always,
    /// Once the caller agrees, for as long as he does.
    OnConsent,
}

/// What happens to a recording when there is no room.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WhenFull {
    /// It goes on when there is room again.
    #[default]
    Gap,
    /// It ends, and the recorder has failed.
    Fail,
}

/// Where recordings go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file for each session, in this folder.
    Folder(PathBuf),
    /// This file.
    File(PathBuf),
}

impl Config {
    /// Finds what cannot be meant.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(rate) = self.rate.filter(|rate| !RATES.contains(rate)) {
            return Err(format!("rate {rate} is not within {RATES:?}"));
        }
        match (&self.path, &self.dir) {
            (Some(_), None) | (None, Some(_)) => Ok(()),
            _ => Err("exactly one of `path` (a file) and `dir` is needed".into()),
        }
    }

    /// # Errors
    /// A key that it names cannot be had.
    pub(crate) fn options(&self) -> Result<Options, String> {
        Ok(Options {
            overwrite: self.overwrite,
            sync: self.sync.unwrap_or(true),
            fail_when_full: self.when_full == WhenFull::Fail,
            keys: self.keys(&|name| std::env::var(name).ok())?,
        })
    }

    fn keys(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Keys>, String> {
        let keys = self.encrypt.as_ref().map(|encrypt| encrypt.keys(variable)).transpose();
        keys.map_err(|error| format!("`encrypt`: {error}"))
    }

    /// Whether recordings are sealed.
    pub(crate) fn is_sealed(&self) -> bool {
        self.encrypt.is_some()
    }
}

/// What a recorder is told by its `config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where its recordings go.
    pub place: Place,
    /// What they are encrypted with, if they are.
    pub keys: Option<Keys>,
}

/// What a recorder with this `config` does; `variable` reads the environment.
///
/// # Errors
/// What is wrong with it, in a person's words.
pub fn check(
    config: &serde_json::Value,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, String> {
    let config = Config::deserialize(config).map_err(|error| error.to_string())?;
    config.check()?;
    let keys = config.keys(variable)?;
    let Config { path, dir, .. } = config;
    let place = dir.map(Place::Folder).or(path.map(Place::File));
    Ok(Settings { place: place.ok_or("it has neither `path` nor `dir`")?, keys })
}
