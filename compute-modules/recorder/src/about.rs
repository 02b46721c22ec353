//! What is known of a recording beside its sound: a JSON file of the same name beside it. Holds numbers of people, and is as private as
//! the sound.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use ringback_module::message::{ConsentGiven, Start};
use serde::{Deserialize, Serialize};

use crate::disk;

/// Gaps that are listed one by one; what comes after them is only counted in the last.
const MOST_GAPS: usize = 256;

/// What is known of a recording. Times are milliseconds from its beginning, which is that of the call's sound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Version of this form, 1.
    pub v: u32,
    /// The bridge's name for the call.
    pub call: String,
    /// Name of the provider.
    pub provider: String,
    /// Whose call it is, where a bridge has calls of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Who called, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Who was called, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Wall clock when the call began, RFC 3339.
    pub began: String,
    /// Samples per second and channel.
    pub rate: u32,
    /// Sound in the file; of one that is being recorded, when this was last written.
    pub ms: u64,
    /// Sound behind that, which the recorder was told and could not keep.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing_ms: u64,
    /// What became of it.
    pub state: State,
    /// Where silence stands for sound that could not be written, or that the recorder came too late for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// The caller's consent, where it was waited for: nothing before it is in the recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<ConsentGiven>,
    /// Where it stands for what was said in private parts of the call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<Gap>,
}

/// What became of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is being made, or whoever made it was killed and it was not repaired yet.
    Recording,
    /// It is whole.
    Finished,
    /// The recorder was let go of before the call was over, or was not told that it is: what came last may be missing.
    Cut,
    /// Whoever made it was killed; what was on disk by then is in it.
    Recovered,
    /// The disk failed, or had no room to its end; what it is known to hold is in it.
    Failed,
}

/// Silence in the place of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Its beginning.
    pub from_ms: u64,
    /// Its end.
    pub to_ms: u64,
}

impl About {
    pub(crate) fn new(start: &Start, rate: u32) -> Self {
        Self {
            v: 1,
            call: start.call.id.clone(),
            provider: start.call.provider.clone(),
            tenant: start.call.tenant.clone(),
            from: start.call.from.clone(),
            to: start.call.to.clone(),
            began: start.wall.clone(),
            rate,
            ms: 0,
            missing_ms: 0,
            state: State::Recording,
            gaps: Vec::new(),
            consent: None,
            pauses: Vec::new(),
        }
    }

    /// Where that of a recording is: `x.json` beside `x.wav`.
    #[must_use]
    pub fn path(recording: &Path) -> PathBuf {
        recording.with_extension("json")
    }

    /// That of a recording, if it has one.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn read(recording: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(Self::path(recording)) {
            Ok(json) => Ok(Some(serde_json::from_slice(&json)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn add_gap(&mut self, gap: Gap) {
        add(&mut self.gaps, gap);
    }

    pub(crate) fn add_pause(&mut self, pause: Gap) {
        add(&mut self.pauses, pause);
    }

    /// Writes it in the place of what was there, all or nothing, and has it on disk.
    pub(crate) fn write(&self, recording: &Path) -> io::Result<()> {
        let path = Self::path(recording);
        let part = part_of(&path);
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        let mut file = disk::private().write(true).create(true).truncate(true).open(&part)?;
        let written = file.write_all(&json).and_then(|()| file.sync_all());
        let moved = written.and_then(|()| std::fs::rename(&part, &path));
        if moved.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        moved
    }
}

/// Puts it in its place, as one with all that it touches: what is told again is listed once.
fn add(gaps: &mut Vec<Gap>, mut gap: Gap) {
    let join = |gap: &mut Gap, other: &Gap| {
        gap.from_ms = gap.from_ms.min(other.from_ms);
        gap.to_ms = gap.to_ms.max(other.to_ms);
    };
    gaps.retain(|other| {
        let apart = other.to_ms < gap.from_ms || gap.to_ms < other.from_ms;
        if !apart {
            join(&mut gap, other);
        }
        apart
    });
    let place = gaps.partition_point(|other| other.from_ms < gap.from_ms);
    gaps.insert(place, gap);
    if gaps.len() > MOST_GAPS
        && let (Some(last), Some(before)) = (gaps.pop(), gaps.last_mut())
    {
        join(before, &last);
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_zero(ms: &u64) -> bool {
    *ms == 0
}

/// What a file is called until it is finished.
pub(crate) fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(told: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        for &(from_ms, to_ms) in told {
            add(&mut gaps, Gap { from_ms, to_ms });
        }
        gaps.iter().map(|gap| (gap.from_ms, gap.to_ms)).collect()
    }

    #[test]
    fn what_is_told_again_or_touches_others_is_listed_once_and_in_its_place() {
        let once = [(100, 200), (500, 600), (900, 950)];
        assert_eq!(added(&[once, once].concat()), once);
        assert_eq!(added(&[(500, 600), (100, 200), (900, 950), (500, 550)]), once);
        assert_eq!(added(&[&once[..], &[(150, 920)]].concat()), [(100, 950)]);
        assert_eq!(added(&[&once[..], &[(200, 500)]].concat()), [(100, 600), (900, 950)]);
    }

    #[test]
    fn no_more_are_listed_than_are_bearable_and_the_last_has_what_comes_behind() {
        let told: Vec<_> = (0..300).map(|n| (n * 10, n * 10 + 5)).collect();
        let listed = added(&told);
        assert_eq!(listed[..MOST_GAPS - 1], told[..MOST_GAPS - 1]);
        assert_eq!(listed[MOST_GAPS - 1..], [((MOST_GAPS as u64 - 1) * 10, 2_995)]);
    }
}
