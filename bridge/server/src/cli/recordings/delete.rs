//! `ringback recordings delete`, `hold` and `release`: what must go, and what must not. Says what it cannot reach.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::screen;
use crate::audit::{Audit, Entry};
use crate::config::Config;
use crate::exit::Exit;
use crate::outgoing::Connector;
use crate::recordings::erase::{self, Found, Wanted};
use crate::sink::{self, SinkKind};

/// Where it is noted that something was deleted, in a folder of recordings, if there is no audit log.
const TOMBSTONES: &str = "deleted.log";
/// The key of what is noted.
const TOMBSTONE_KEY: &str = "deleted.key";
/// Who is written down.
const WHO: &str = "command line";

/// Deletes what is wanted wherever the configuration has the bridge keep it.
pub(super) fn delete(config: &Config, wanted: &Wanted) -> Exit {
    let Some(first) = config.recordings.dirs.first() else {
        let help =
            "this configuration names no folder of recordings: add one to `dirs` of [recordings]";
        return screen::failed(Exit::Usage, help);
    };
    let found = match erase::find(&config.recordings.dirs, wanted, &config.recordings.keys) {
        Ok(found) => found,
        Err(error) => return screen::failed(Exit::Failure, error),
    };
    // Recordings alone tell whose a call is: as long as a sink has anything of it, they are needed to find it again.
    let (mut kept, mut well) = match of_sinks(config, &found, |_| true) {
        Ok(done) => done,
        Err(error) => return screen::failed(Exit::Internal, error),
    };
    let (captured, all_captures) = of_captures(config, &found);
    (kept, well) = (kept + captured, well && all_captures);
    let (gone, failed) = if well { erase::delete(&found) } else { (0, Vec::new()) };
    let mut all = tell(&found, &failed) && well && is_findable(config, wanted);
    if gone > 0 {
        // What a bridge that runs stored in between.
        match of_sinks(config, &found, |kind| matches!(kind, SinkKind::Recordings(_))) {
            Ok((more, well)) => (kept, all) = (kept + more, all && well),
            Err(error) => return screen::failed(Exit::Internal, error),
        }
    }
    let calls = found.calls.len();
    screen::line(format!("{gone} recordings deleted, of {calls} calls"));
    if !well {
        screen::problem(
            "no recording was deleted, as something else of their calls is left: do it again",
        );
    }
    beyond_reach(config);
    let outcome = format!(
        "{}: {gone} recordings, {kept} entries of sinks and captures; {} held, {} unfinished, {} unknown, {} failed",
        if all { "all" } else { "part" },
        found.held.len(),
        found.unfinished.len(),
        found.unknown.len(),
        failed.len()
    );
    match entomb(config, first, wanted, outcome) {
        Ok(place) => screen::line(format!("noted in {}", place.display())),
        Err(error) => {
            screen::problem(format!("that this was deleted could not be noted: {error}"));
            all = false;
        }
    }
    if all { Exit::Ok } else { Exit::Failure }
}

/// Says what was not deleted and why; whether there was nothing to say.
fn tell(found: &Found, failed: &[(PathBuf, String)]) -> bool {
    for path in &found.held {
        screen::problem(format!(
            "{}: it is held, and nothing of its call was deleted",
            path.display()
        ));
    }
    for path in &found.unfinished {
        let why = "it is being recorded or looked after, or was cut short and is to be repaired first; nothing of its call was deleted";
        screen::problem(format!("{}: {why}", path.display()));
    }
    for (path, why) in &found.unknown {
        let path = path.display();
        screen::problem(format!("{path}: whose it is cannot be known, and it was left: {why}"));
    }
    for (path, why) in failed {
        screen::problem(format!("{}: {why}", path.display()));
    }
    found.held.is_empty()
        && found.unfinished.is_empty()
        && found.unknown.is_empty()
        && failed.is_empty()
}

/// Deletes what these sinks keep of these calls: how much that was, and whether all went well.
fn of_sinks(
    config: &Config,
    found: &Found,
    these: impl Fn(&SinkKind) -> bool,
) -> std::io::Result<(u64, bool)> {
    if found.calls.is_empty() {
        return Ok((0, true));
    }
    let runtime = super::super::runtime(1)?;
    let connector = Arc::new(Connector::new(config.trust.clone()));
    let of_folder = found.recordings.iter().chain(&found.orphans);
    let names = of_folder.filter_map(|path| path.file_name()?.to_str());
    let names = names.map(str::to_owned).collect();
    let (mut kept, mut well) = (0, true);
    for sink in config.sinks.iter().filter(|sink| these(&sink.kind)) {
        let erased = sink::erase(&sink.kind, &connector, &found.calls, &names);
        match runtime.block_on(erased) {
            Ok(count) => {
                kept += count;
                screen::line(format!("sink {}: {count} deleted", sink.name));
            }
            Err(error) => {
                well = false;
                screen::problem(format!("sink {}: {error}", sink.name));
            }
        }
    }
    Ok((kept, well))
}

/// Deletes the captures of these calls: how many those were, and whether all went well.
fn of_captures(config: &Config, found: &Found) -> (u64, bool) {
    let Some(capture) = config.capture.as_ref().filter(|_| !found.calls.is_empty()) else {
        return (0, true);
    };
    let (gone, failed) = crate::capture::erase(&capture.dir, &found.calls);
    screen::line(format!("captures: {gone} deleted"));
    for (path, why) in &failed {
        screen::problem(format!("{}: a capture that may be theirs: {why}", path.display()));
    }
    (gone, failed.is_empty())
}

/// Whether all recordings of what is wanted can be found; says where not. Of one that is in a store alone nobody knows whose it is.
fn is_findable(config: &Config, wanted: &Wanted) -> bool {
    let mut all = true;
    for sink in &config.sinks {
        if let (SinkKind::Recordings(recordings), Wanted::Subject(_)) = (&sink.kind, wanted)
            && recordings.delete_local
        {
            all = false;
            screen::problem(format!(
                "sink {}: with `delete_local` recordings are in its store alone, where they cannot be found by a number: \
                 name their calls with --call",
                sink.name
            ));
        }
    }
    all
}

/// Says what this could not reach.
fn beyond_reach(config: &Config) {
    let mut beyond = Vec::new();
    for sink in &config.sinks {
        let name = &sink.name;
        match &sink.kind {
            SinkKind::Webhook(_) => beyond.push(format!(
                "what webhook {name} was told, and what a bridge that runs has yet to tell it"
            )),
            SinkKind::Recordings(_) => {
                beyond.push(format!("earlier versions that the store of {name} may keep"));
            }
            SinkKind::Sql(_) => beyond.push(format!(
                "backups of the database of {name}, and rows that a bridge that runs has yet to write: do it again later"
            )),
            SinkKind::JsonLines(_) => beyond.push(format!(
                "lines of {name} that a bridge that runs has yet to write: do it again later"
            )),
        }
    }
    if config.capture.is_some() {
        let whose = "made by an earlier version or cut off at their beginning";
        beyond.push(format!("captures of streams that came back to a call, {whose}"));
    }
    for file in &config.recordings.files {
        let file = file.display();
        beyond.push(format!(
            "{file}, a recording with a name of its own: what it holds is replaced by the next call"
        ));
    }
    beyond.push("captures in folders that were named on the command line, or that somebody copied elsewhere".into());
    beyond.push("calls that have no recording, if a number was named: sinks keep no whole numbers, so name those calls".into());
    beyond.push("logs, backups, and what modules of yours keep".into());
    screen::line("beyond reach:");
    for what in beyond {
        screen::line(format!("  {what}"));
    }
}

/// Notes that something was deleted, without a word of whose it was; where.
fn entomb(
    config: &Config,
    first: &Path,
    wanted: &Wanted,
    outcome: String,
) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(first)?;
    let on = erase::digest(&first.join(TOMBSTONE_KEY), wanted)?;
    let audit = config.operator.as_ref().and_then(|operator| operator.audit.clone());
    let place = audit.unwrap_or_else(|| first.join(TOMBSTONES));
    let (who, act) = (WHO.to_owned(), "recordings.delete".to_owned());
    Audit::open(&place)?.write_now(Entry { who, from: None, act, on, outcome })?;
    Ok(place)
}

/// Holds recordings, or lets go of them.
pub(super) fn hold(files: &[PathBuf], held: bool) -> Exit {
    let mut all_well = true;
    for path in files {
        match ringback_recorder::hold(path, held) {
            Ok(()) if held => screen::line(format!("{}: held", path.display())),
            Ok(()) => screen::line(format!("{}: not held", path.display())),
            Err(error) => {
                all_well = false;
                screen::problem(format!("{}: {error}", path.display()));
            }
        }
    }
    if all_well { Exit::Ok } else { Exit::Failure }
}
