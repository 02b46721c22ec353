//! Finds a Python that can transcribe, or makes one: a virtual environment in the user's cache, with PocketSphinx from PyPI.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cli::screen;

/// What the transcription module imports; the wheel brings its model along.
const NEEDED: &str = "pocketsphinx";
const REQUIREMENT: &str = "pocketsphinx==5.*";

/// A Python with PocketSphinx in it.
pub(super) fn find(named: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(named) = named {
        return if can_transcribe(named) {
            Ok(named.to_owned())
        } else {
            Err(format!("{} cannot import {NEEDED}: run `{} -m pip install '{REQUIREMENT}'`", named.display(), named.display()))
        };
    }
    let cached = cache();
    let near = std::env::current_dir().unwrap_or_default();
    let near = near.ancestors().map(|dir| dir.join(".venv/bin/python3"));
    let mut candidates = near.chain(cached.as_deref().map(program)).chain([PathBuf::from("python3")]);
    if let Some(found) = candidates.find(|candidate| can_transcribe(candidate)) {
        return Ok(found);
    }
    let cached = cached.ok_or("no Python with PocketSphinx, and no HOME to set one up in; name one with --python")?;
    set_up(&cached)
}

fn can_transcribe(python: &Path) -> bool {
    let import = Command::new(python)
        .args(["-c", &format!("import {NEEDED}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    import.is_ok_and(|status| status.success())
}

fn cache() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    Some(base.filter(|b| b.is_absolute()).or(home)?.join("ringback/venv"))
}

fn program(venv: &Path) -> PathBuf {
    venv.join("bin/python3")
}

fn set_up(venv: &Path) -> Result<PathBuf, String> {
    screen::line(format!("setting up a Python environment with {REQUIREMENT} in {} (once)", venv.display()));
    run(Command::new("python3").args(["-m", "venv"]).arg(venv), "python3 with its venv module (Debian: apt install python3-venv)")?;
    let python = program(venv);
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", REQUIREMENT];
    run(Command::new(&python).args(install), "PyPI")?;
    Ok(python)
}

fn run(command: &mut Command, needs: &str) -> Result<(), String> {
    let shown = format!("{command:?}");
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{shown} failed ({status}); it needs {needs}")),
        Err(error) => Err(format!("{shown} cannot be run: {error}; it needs {needs}")),
    }
}
