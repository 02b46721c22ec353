//! Recordings that are older than they are to become are deleted, little by little, on a thread of their own. Reads no sound.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ringback_recorder::vault::Keys;
use ringback_recorder::{Removed, look, name_of, remove};

use super::known::Known;
use crate::clock::WallTime;
use crate::sink::is_stored;
use crate::telemetry::{Report, report};

/// How often folders are looked through.
const EVERY: Duration = Duration::from_secs(5 * 60);
/// Recordings deleted at a time; where there are more, or more to be looked into, it goes on soon.
const AT_A_TIME: usize = 200;
/// How soon that is.
const SOON: Duration = Duration::from_secs(1);

/// What does not tell whose it is, and what is due and stays all the same, is looked into again after so long.
const AGAIN: Duration = Duration::from_secs(60 * 60);

/// What came of looking through.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Deleted.
    pub(crate) deleted: usize,
    /// Old enough, and held.
    pub(crate) held: usize,
    /// Old enough, and not deleted for another reason.
    pub(crate) failed: Vec<(PathBuf, String)>,
    /// There are more.
    pub(crate) more: bool,
}

/// How old recordings become.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keep {
    /// All but those of the tenants below; for ever, if it is not said.
    pub(crate) all: Option<Duration>,
    /// Those of these tenants.
    pub(crate) of: BTreeMap<String, Duration>,
    /// What sealed ones, which tell inside whose they are, are opened with.
    pub(crate) keys: Keys,
}

/// What is to be done with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Older than this, which is how old it may become.
    Due(Duration),
    Young,
    /// It would be due were it not for a tenant whose it may be.
    Unknown,
}

impl Keep {
    /// What is younger than this is nobody's to delete; `None` if nothing ever is.
    pub(super) fn shortest(&self) -> Option<Duration> {
        self.all.into_iter().chain(self.of.values().copied()).min()
    }

    /// What is to be done with a recording that is old enough for somebody. Whose it is is looked up only where that makes a difference,
    /// and once; what does not tell is kept as long as anybody's. `None` if it was to be looked up, and so many were already.
    fn fate(
        &self,
        path: &Path,
        modified: SystemTime,
        now: WallTime,
        known: &mut Known,
    ) -> Option<Fate> {
        let age = now.since(modified);
        let is_due = |keep: Option<Duration>| keep.is_some_and(|keep| keep <= age);
        if is_due(self.all) && self.of.values().all(|keep| *keep <= age) {
            return Some(Fate::Due(age));
        }
        let fate = known.fate(path, modified, now, || {
            let looked = look(path, &self.keys).ok().flatten();
            let Some(about) = looked.and_then(|look| look.about) else {
                return (Fate::Unknown, now.after(AGAIN));
            };
            let theirs = about.tenant.and_then(|tenant| self.of.get(&tenant).copied());
            match theirs.or(self.all) {
                Some(keep) if keep > age => (Fate::Young, WallTime::of_file(modified).after(keep)),
                Some(keep) => (Fate::Due(keep), now.after(AGAIN)),
                None => (Fate::Young, now.after(Duration::MAX)),
            }
        });
        // The clock may have been ahead when it was looked into.
        fate.map(
            |fate| if matches!(fate, Fate::Due(keep) if keep > age) { Fate::Young } else { fate },
        )
    }
}

/// Begins to delete what is older than `keep` in these folders, for as long as this process lives; in those that are `stored` by sinks,
/// what they have.
pub(super) fn begin(dirs: Vec<PathBuf>, stored: Vec<PathBuf>, keep: Keep) {
    let sweeping = std::thread::Builder::new().name("retention".into()).spawn(move || {
        let (mut before, mut known) = (Swept::default(), Known::default());
        loop {
            let swept = sweep(&dirs, &stored, &keep, WallTime::now(), AT_A_TIME, &mut known);
            if swept.deleted > 0 || swept != before {
                let Swept { deleted, held, failed, .. } = &swept;
                report(&Report::RecordingsExpired { deleted: *deleted, held: *held });
                for (path, reason) in failed {
                    report(&Report::RecordingNotExpired { path, reason });
                }
            }
            std::thread::sleep(if swept.more { SOON } else { EVERY });
            before = swept;
        }
    });
    if let Err(error) = sweeping {
        let path = Path::new("all folders");
        report(&Report::RecordingNotExpired { path, reason: &error.to_string() });
    }
}

/// Deletes at most `most` finished recordings that were last written to longer before `now` than they are kept.
pub(crate) fn sweep(
    dirs: &[PathBuf],
    stored: &[PathBuf],
    keep: &Keep,
    now: WallTime,
    most: usize,
    known: &mut Known,
) -> Swept {
    let mut swept = Swept::default();
    known.begin(now);
    // One folder may be written in two ways.
    let real = |dir: &PathBuf| std::fs::canonicalize(dir).unwrap_or_else(|_| dir.clone());
    let stored: Vec<_> = stored.iter().map(real).collect();
    for dir in dirs {
        let to_be_stored = stored.contains(&real(dir));
        if let Err(error) = sweep_one(dir, to_be_stored, keep, now, most, known, &mut swept) {
            // Before the first recording there may be no folder.
            if error.kind() != io::ErrorKind::NotFound {
                swept.failed.push((dir.clone(), error.to_string()));
            }
        }
    }
    swept
}

fn sweep_one(
    dir: &Path,
    to_be_stored: bool,
    keep: &Keep,
    now: WallTime,
    most: usize,
    known: &mut Known,
    swept: &mut Swept,
) -> io::Result<()> {
    let (mut waiting, mut foreign, mut unknown) = (0, 0, 0);
    let Some(shortest) = keep.shortest() else { return Ok(()) };
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let is_finished =
            entry.file_name().to_str().is_some_and(|name| name_of(name) == Some(name));
        if !is_finished {
            continue;
        }
        let about = match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            about => about?,
        };
        let modified = about.modified()?;
        if !about.is_file() || now.since(modified) < shortest {
            continue;
        }
        let path = entry.path();
        match keep.fate(&path, modified, now, known) {
            Some(Fate::Due(_)) => {}
            Some(Fate::Young) => continue,
            Some(Fate::Unknown) => {
                unknown += 1;
                continue;
            }
            None => {
                swept.more |= known.has_room();
                continue;
            }
        }
        if swept.deleted >= most {
            swept.more = true;
            known.cut_short();
            break;
        }
        if to_be_stored && !is_stored(&path) {
            waiting += 1;
            continue;
        }
        match remove(&path) {
            Ok(Removed::Gone) => swept.deleted += 1,
            Ok(Removed::Held) => swept.held += 1,
            Ok(Removed::Busy) => {}
            Ok(Removed::Foreign) => foreign += 1,
            Err(error) => swept.failed.push((path, error.to_string())),
        }
    }
    for (count, why) in [
        (waiting, "not stored yet by their sink"),
        (foreign, "no recordings of ours"),
        (unknown, "of nobody knows which tenant, kept as long as any tenant's"),
    ] {
        if count > 0 {
            swept.failed.push((dir.to_owned(), format!("{count} are {why}, and stay")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::testing::Folder;

    /// A recording of no sound.
    fn wav() -> Vec<u8> {
        let mut octets = Vec::from(*b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0");
        octets.extend([8_000_u32, 32_000].map(u32::to_le_bytes).concat());
        octets.extend(*b"\x04\0\x10\0data\0\0\0\0");
        octets
    }

    fn file(folder: &Folder, name: &str, age_s: u64) {
        let path = folder.0.join(name);
        let recording: &[u8] = if name.ends_with(".wav") { &wav() } else { b"x" };
        std::fs::write(&path, recording).unwrap();
        let at = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000 - age_s);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
    }

    /// Says whose a recording is; nobody's, if that is empty.
    fn tell(folder: &Folder, name: &str, tenant: &str) {
        let mut about = serde_json::json!({
            "v": 1, "call": "c", "provider": "p", "began": "", "rate": 8000, "ms": 0,
            "state": "finished",
        });
        if !tenant.is_empty() {
            about["tenant"] = tenant.into();
        }
        std::fs::write(folder.0.join(format!("{name}.json")), about.to_string()).unwrap();
    }

    fn for_all(seconds: u64) -> Keep {
        Keep { all: Some(Duration::from_secs(seconds)), ..Keep::default() }
    }

    fn names(folder: &Folder) -> Vec<String> {
        let entries = std::fs::read_dir(&folder.0).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_too_old_goes_and_nothing_that_is_held_made_young_or_no_recording() {
        let folder = Folder::new("retention");
        for (name, age_s) in [
            ("old.wav", 101),
            ("old2.wav", 500),
            ("theirs.wav.sealed", 500),
            ("young.wav", 99),
            ("held.wav", 500),
            ("held.wav.hold", 500),
            ("live.wav.part", 500),
            ("note.txt", 500),
            ("ahead.wav", 0),
        ] {
            file(&folder, name, age_s);
        }
        std::fs::create_dir(folder.0.join("folder.wav")).unwrap();
        let dirs = [folder.0.clone(), folder.0.join("not/there")];
        let (keep, now) = (for_all(100), WallTime::from_unix(Duration::from_secs(1_000_000)));
        let swept = sweep(&dirs, &[], &keep, now, 10, &mut Known::default());
        assert_eq!((swept.deleted, swept.held, swept.more), (2, 1, false), "{swept:?}");
        let why = "1 are no recordings of ours, and stay".to_owned();
        assert_eq!(swept.failed, [(folder.0.clone(), why)]);
        let left = [
            "ahead.wav",
            "folder.wav",
            "held.wav",
            "held.wav.hold",
            "live.wav.part",
            "note.txt",
            "theirs.wav.sealed",
            "young.wav",
        ];
        assert_eq!(names(&folder), left);
        assert_eq!(sweep(&dirs, &[], &keep, now, 10, &mut Known::default()).deleted, 0);
    }

    #[test]
    fn recordings_of_a_tenant_are_kept_as_long_as_that_tenant_says() {
        let folder = Folder::new("retention-tenants");
        for (name, age_s, about) in [
            ("brief-50", 50, Some("brief")),
            ("brief-5", 5, Some("brief")),
            ("long-500", 500, Some("long")),
            ("long-5000", 5_000, Some("long")),
            ("other-99", 99, Some("other")),
            ("other-500", 500, Some("other")),
            ("nobody-500", 500, Some("")),
            ("unknown-500", 500, None),
            ("unknown-5000", 5_000, None),
        ] {
            file(&folder, &format!("{name}.wav"), age_s);
            if let Some(tenant) = about {
                tell(&folder, name, tenant);
            }
        }
        let of = [("brief", 10), ("long", 1_000)];
        let of = of.map(|(tenant, seconds)| (tenant.to_owned(), Duration::from_secs(seconds)));
        let keep = Keep { of: of.into(), ..for_all(100) };
        let now = WallTime::from_unix(Duration::from_secs(1_000_000));
        let dirs = std::slice::from_ref(&folder.0);
        let swept = sweep(dirs, &[], &keep, now, 10, &mut Known::default());
        let left: Vec<_> = names(&folder).into_iter().filter(|n| n.ends_with(".wav")).collect();
        assert_eq!(left, ["brief-5.wav", "long-500.wav", "other-99.wav", "unknown-500.wav"]);
        assert_eq!(swept.deleted, 5);
        let why = "1 are of nobody knows which tenant, kept as long as any tenant's, and stay";
        assert_eq!(swept.failed, [(folder.0.clone(), why.to_owned())]);
        // Said for a tenant alone, all others stay.
        let keep = Keep { all: None, ..keep };
        assert_eq!(sweep(dirs, &[], &keep, now, 10, &mut Known::default()).deleted, 0);
        file(&folder, "long-500.wav", 1_001);
        assert_eq!(sweep(dirs, &[], &keep, now, 10, &mut Known::default()).deleted, 1);
    }

    #[cfg(feature = "object-store")]
    #[test]
    fn where_a_sink_takes_recordings_only_those_go_that_it_has() {
        let folder = Folder::new("retention-stored");
        for name in ["a.wav", "a.wav.stored", "b.wav"] {
            file(&folder, name, 200);
        }
        let now = WallTime::from_unix(Duration::from_secs(1_000_000));
        let stored = [folder.0.join(".")];
        let dirs = std::slice::from_ref(&folder.0);
        let swept = sweep(dirs, &stored, &for_all(100), now, 10, &mut Known::default());
        let why = "1 are not stored yet by their sink, and stay".to_owned();
        assert_eq!((swept.deleted, swept.failed), (1, vec![(folder.0.clone(), why)]));
        assert_eq!(names(&folder), ["b.wav"]);
    }

    #[test]
    fn a_turn_deletes_so_many_and_says_that_there_are_more() {
        let folder = Folder::new("retention-turns");
        for n in 0..7 {
            file(&folder, &format!("{n}.wav"), 200);
        }
        let now = WallTime::from_unix(Duration::from_secs(1_000_000));
        let turn = || {
            let dirs = std::slice::from_ref(&folder.0);
            sweep(dirs, &[], &for_all(100), now, 3, &mut Known::default())
        };
        let turns = [turn(), turn(), turn()].map(|swept| (swept.deleted, swept.more));
        assert_eq!(turns, [(3, true), (3, true), (1, false)]);
        assert_eq!(names(&folder), [""; 0]);
    }

    #[test]
    fn so_many_are_looked_into_at_a_time_each_once_and_again_when_it_may_be_due() {
        let folder = Folder::new("retention-looks");
        for n in 0..7 {
            file(&folder, &format!("{n}.wav"), 200);
            tell(&folder, &n.to_string(), "long");
        }
        let of = [("longest", 9_000), ("long", 1_000), ("brief", 10)];
        let of = of.map(|(tenant, seconds)| (tenant.to_owned(), Duration::from_secs(seconds)));
        let keep = Keep { of: of.into(), ..for_all(100) };
        let mut known = Known::of(10, 3);
        let mut turn = |at_s| {
            let now = WallTime::from_unix(Duration::from_secs(at_s));
            let dirs = std::slice::from_ref(&folder.0);
            let swept = sweep(dirs, &[], &keep, now, 10, &mut known);
            (swept.deleted, swept.more)
        };
        assert_eq!(
            [turn(1_000_000), turn(1_000_000), turn(1_000_000)],
            [(0, true), (0, true), (0, false)]
        );
        // What is known of them changes, and nobody looks: they cannot be due.
        (0..7).for_each(|n| tell(&folder, &n.to_string(), "brief"));
        assert_eq!(turn(1_000_799), (0, false));
        let then = 1_000_800;
        assert_eq!([turn(then), turn(then), turn(then)], [(3, true), (3, true), (1, false)]);
    }

    #[test]
    fn what_was_due_by_a_clock_that_was_ahead_is_kept_once_it_goes_right() {
        let folder = Folder::new("retention-ahead");
        file(&folder, "a.wav", 200);
        tell(&folder, "a", "long");
        let hold = folder.0.join("a.wav.hold");
        std::fs::write(&hold, "").unwrap();
        let of = [("long", 1_000), ("brief", 10), ("longest", 9_000)];
        let of = of.map(|(tenant, seconds)| (tenant.to_owned(), Duration::from_secs(seconds)));
        let keep = Keep { of: of.into(), ..for_all(100) };
        let mut known = Known::default();
        let mut turn = |at_s| {
            let now = WallTime::from_unix(Duration::from_secs(at_s));
            let swept = sweep(std::slice::from_ref(&folder.0), &[], &keep, now, 10, &mut known);
            (swept.deleted, swept.held)
        };
        assert_eq!(turn(1_000_900), (0, 1), "it is old enough, and held");
        std::fs::remove_file(hold).unwrap();
        assert_eq!(turn(1_000_000), (0, 0), "it is 200 seconds old");
        assert_eq!(turn(1_000_800), (1, 0));
    }
}
