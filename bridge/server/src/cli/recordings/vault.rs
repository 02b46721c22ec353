//! `ringback recordings verify`, `decrypt` and `rewrap`: encrypted recordings and their keys. Deletes no recording.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use ringback_recorder::vault::{
    self, Contents, Damage, Keys, Reader, Rewrapped, SEALED, write_wav,
};
use ringback_recorder::{About, Look, Stage, State, look};
use serde_json::json;

use crate::cli::screen;
use crate::exit::Exit;
use crate::recordings::library;
use crate::sink::private;

/// The encrypted recordings of a folder that nobody makes, or the one of that name.
fn sealed(place: &Path, keys: &Keys) -> io::Result<Vec<PathBuf>> {
    if !place.is_dir() {
        return Ok(vec![place.to_owned()]);
    }
    let found = library::list(place, keys)?.into_iter();
    // By its name as well: of one whose header was changed nothing else tells it.
    let is_sealed =
        |look: &Look| look.sealed.is_some() || look.path.to_string_lossy().ends_with(SEALED);
    let sealed = found.filter(|look| look.stage == Stage::Finished && is_sealed(look));
    Ok(sealed.map(|look| look.path).collect())
}

fn reader(path: &Path, keys: &Keys) -> Result<Reader<BufReader<File>>, Damage> {
    Reader::open(BufReader::new(File::open(path)?), keys)
}

pub(super) fn verify(place: &Path, keys: &Keys, as_json: bool) -> Exit {
    let found = match sealed(place, keys) {
        Ok(found) => found,
        Err(error) => {
            return screen::failed(Exit::Failure, format!("{}: {error}", place.display()));
        }
    };
    let mut all_well = true;
    for path in &found {
        let read = reader(path, keys).and_then(|reader| reader.read(|_| Ok(())));
        let (word, text) = match &read {
            Ok(contents) if contents.between_keys => {
                let text = "its key was being replaced when that was interrupted, or its header was changed: rewrap it again";
                ("between_keys", text.to_owned())
            }
            Ok(contents) if !contents.ended => {
                let seconds = contents.ms() as f64 / 1_000.0;
                (
                    "cut_short",
                    format!("cut short behind {seconds:.1} s, which are what was written"),
                )
            }
            Ok(contents) => ("whole", format!("whole, {:.1} s", contents.ms() as f64 / 1_000.0)),
            Err(damage @ Damage::Locked(_)) => ("locked", damage.to_string()),
            Err(damage) => ("damaged", damage.to_string()),
        };
        let is_made = || look(path, keys).ok().flatten().is_some_and(|l| l.stage == Stage::Live);
        all_well &= word == "whole" || (word == "cut_short" && is_made());
        let shown = path.display();
        if as_json {
            let ms = read.ok().map(|contents| contents.ms());
            screen::line(
                json!({"path": shown.to_string(), "outcome": word, "ms": ms, "text": text}),
            );
        } else {
            screen::line(format!("{shown}: {text}"));
        }
    }
    if !as_json {
        screen::line(format!("{} encrypted recordings read", found.len()));
    }
    if all_well { Exit::Ok } else { Exit::Failure }
}

pub(super) fn decrypt(file: &Path, output: &Path, up_to_damage: bool, keys: &Keys) -> Exit {
    let failed = |what: String| screen::failed(Exit::Failure, what);
    let reader = match reader(file, keys) {
        Ok(reader) => reader,
        Err(damage) => return failed(format!("{}: {damage}", file.display())),
    };
    let made = match private().write(true).create_new(true).open(output) {
        Ok(made) => made,
        Err(error) => return failed(format!("{}: {error}", output.display())),
    };
    let mut out = BufWriter::new(made);
    let read = write_wav(reader, &mut out);
    let written = out.flush().and_then(|()| out.get_ref().sync_all());
    let outcome = match (&read, written) {
        (Ok(contents), Ok(())) => return told(contents, output),
        (Err(damage), _) => format!("{}: {damage}", file.display()),
        (_, Err(error)) => format!("{}: {error}", output.display()),
    };
    if let (Err(Damage::Changed { frames, .. }), true) = (read, up_to_damage) {
        return failed(format!(
            "{outcome}; {} has the {frames} frames before that",
            output.display()
        ));
    }
    let _ = std::fs::remove_file(output);
    failed(outcome)
}

/// Says what was decrypted, and writes what is known of it beside it.
fn told(contents: &Contents, output: &Path) -> Exit {
    if let Some(about) = &contents.about {
        // One that was cut short does not know it.
        let state = if contents.ended { about.state } else { State::Recovered };
        let about = About { state, ms: contents.ms(), ..about.clone() };
        let path = About::path(output);
        let written = private().write(true).create_new(true).open(&path).and_then(|mut file| {
            serde_json::to_writer_pretty(&mut file, &about)?;
            file.write_all(b"\n")
        });
        if let Err(error) = written {
            screen::problem(format!("{}: {error}", path.display()));
            return Exit::Failure;
        }
    }
    let cut = if contents.ended { "" } else { ", cut short" };
    screen::line(format!("{}: {:.1} s{cut}", output.display(), contents.ms() as f64 / 1_000.0));
    Exit::Ok
}

pub(super) fn rewrap(dir: &Path, keys: &Keys, stores: &[String]) -> Exit {
    let Some(wanted) = keys.ids().next() else {
        let help = "there is no key to wrap with: name one with --key, or a configuration whose recorder has `encrypt`";
        return screen::failed(Exit::Usage, help);
    };
    let found = match sealed(dir, keys) {
        Ok(found) => found,
        Err(error) => return screen::failed(Exit::Failure, format!("{}: {error}", dir.display())),
    };
    let (mut changed, mut same, mut failed) = (0, 0, 0);
    for path in found {
        match vault::rewrap(&path, keys) {
            Ok(Rewrapped::From(_)) => changed += 1,
            Ok(Rewrapped::Same) => same += 1,
            Ok(Rewrapped::Busy) => {
                failed += 1;
                screen::problem(format!("{}: somebody else is at it; do it again", path.display()));
            }
            Err(error) => {
                failed += 1;
                screen::problem(format!("{}: {error}", path.display()));
            }
        }
    }
    screen::line(format!(
        "key {wanted} opens {changed} more recordings; {same} had it already, {failed} could not be changed"
    ));
    for store in stores {
        screen::line(format!(
            "sink {store} has copies that the old key opens: keep it secret, or delete them"
        ));
    }
    let parts = library::list(dir, keys).unwrap_or_default();
    let unfinished = parts.iter().filter(|look| look.stage != Stage::Finished);
    let unfinished =
        unfinished.filter(|look| look.path.to_string_lossy().ends_with(SEALED)).count();
    if unfinished > 0 {
        screen::line(format!(
            "{unfinished} are not finished and keep the key they have: do it again later"
        ));
    }
    if failed == 0 { Exit::Ok } else { Exit::Failure }
}
