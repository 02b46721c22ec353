//! A recording in its file: good at every moment, on disk every second (less often where that takes longer), under its own name when it
//! is finished. Knows nothing of tracks or clocks.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringback_module::ModuleError;

use crate::about::{About, Gap, State, part_of};
use crate::body::{Body, Resumed};
use crate::disk::{self, Reserve};
use crate::repair::{self, Outcome};
use crate::vault::Keys;
use crate::wav::{CHANNELS, MAX_FRAMES};

/// Sound is given to the system every tenth of a second: so much a killed process has not written, beside what waits for the other track.
const PIECES: u32 = 10;

/// How a recording is made.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// One that is there already is replaced.
    pub(crate) overwrite: bool,
    /// What was written is forced to disk, every second if that takes no longer.
    pub(crate) sync: bool,
    /// Once there is no room the recording has failed, and does not wait for room.
    pub(crate) fail_when_full: bool,
    /// It is sealed, with a key that the first of these wraps.
    pub(crate) keys: Option<Keys>,
}

/// Something that people are to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// What was there of an interrupted recording is damaged at that octet, with sound behind it: it is called so now, and as it was.
    /// This one begins where the session goes on.
    Damaged(PathBuf, u64),
    /// There is no room from this frame on.
    Full(u64),
    /// There is room again; silence stands for the frames between.
    Room(u64, u64),
}

pub(crate) struct Recording {
    /// What it will be called.
    path: PathBuf,
    part: PathBuf,
    body: Body,
    options: Options,
    rate: u32,
    /// Frames taken so far.
    frames: u64,
    /// Octets that are not written yet.
    pending: Vec<u8>,
    reserve: Option<Reserve>,
    /// There is no room; it is tried again at this frame.
    full: Option<u64>,
    /// Writing to disk failed: what came since it was last saved may be there or not.
    broken: bool,
    /// At so many frames the disk is asked again to keep them.
    due: u64,
    changes: Vec<Change>,
    about: Option<About>,
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording").field("path", &self.path).finish_non_exhaustive()
    }
}

fn failed(path: &Path, error: &impl std::fmt::Display) -> ModuleError {
    ModuleError::new("disk", format!("recording {}: {error}", path.display()))
}

impl Recording {
    /// A new file.
    pub(crate) fn create(
        path: PathBuf,
        rate: u32,
        options: Options,
        about: Option<About>,
    ) -> Result<Self, ModuleError> {
        let part = part_of(&path);
        let file = create(&path, &part, &options).map_err(|e| failed(&path, &e))?;
        let begun = Body::begin(file, rate, options.keys.as_ref());
        let forget = || {
            let _ = std::fs::remove_file(&part);
        };
        let body = begun.inspect_err(|_| forget()).map_err(|e| failed(&path, &e))?;
        let mut recording = Self::of(path, body, rate, options, about);
        recording.begin().inspect_err(|_| forget())?;
        Ok(recording)
    }

    fn of(path: PathBuf, body: Body, rate: u32, options: Options, about: Option<About>) -> Self {
        Self {
            part: part_of(&path),
            path,
            frames: body.written(),
            due: body.saved() + u64::from(rate),
            body,
            options,
            rate,
            pending: Vec::new(),
            reserve: None,
            full: None,
            broken: false,
            changes: Vec::new(),
            about,
        }
    }

    /// What is known and the reserve: without room for those nothing begins.
    fn begin(&mut self) -> Result<(), ModuleError> {
        self.tell().map_err(|e| failed(&self.path, &e))?;
        match Reserve::take(&self.part) {
            Ok(reserve) => self.reserve = Some(reserve),
            Err(error) if disk::is_full(&error) => self.fill_up()?,
            Err(error) => return Err(failed(&self.path, &error)),
        }
        Ok(())
    }

    /// A new file of a recording that begins at this frame of the call: silence stands before it, and takes no room.
    pub(crate) fn create_at(
        path: PathBuf,
        rate: u32,
        options: Options,
        about: Option<About>,
        frames: u64,
    ) -> Result<Self, ModuleError> {
        let mut recording = Self::create(path, rate, options, about)?;
        let frames = frames.min(MAX_FRAMES);
        recording.frames = frames;
        if recording.full.is_none() && frames > 0 {
            let silent = recording.body.be_silent_until(frames);
            silent.map_err(|e| failed(&recording.path, &e))?;
        }
        Ok(recording)
    }

    /// Goes on with the file of a session that was interrupted, if there is one, or behind it, from frame `from` of the call, if that
    /// is damaged.
    pub(crate) fn resume(
        path: PathBuf,
        rate: u32,
        options: Options,
        about: Option<About>,
        from: u64,
    ) -> Result<Self, ModuleError> {
        let part = part_of(&path);
        let file = match disk::private().read(true).write(true).open(&part) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Self::create(path, rate, options, about);
            }
            Err(error) => return Err(failed(&path, &error)),
        };
        let owned = disk::own(&file, false).map_err(|e| failed(&path, &e))?;
        if !owned || !disk::is_at(&file, &part) {
            return Err(failed(&path, &"somebody else has it"));
        }
        let resumed = Body::resume(file, rate, options.keys.as_ref());
        let (body, found) = match resumed.map_err(|e| failed(&path, &e))? {
            Resumed::Good(body, found) => (*body, found),
            Resumed::Damaged { file, at, about: found } => {
                let aside = repair::put_aside(&part).map_err(|e| failed(&path, &e))?;
                drop(file);
                let found = found.map(|about| About { gaps: vec![], pauses: vec![], ..about });
                let mut recording = Self::create_at(path, rate, options, found.or(about), from)?;
                recording.note_gap(0, from);
                recording.changes.push(Change::Damaged(aside, at));
                return Ok(recording);
            }
        };
        let beside = || About::read(&path).ok().flatten();
        let about = found.or_else(beside).or(about);
        let mut recording = Self::of(path, body, rate, options, about);
        recording.reserve = Reserve::take(&recording.part).ok();
        Ok(recording)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Frames taken so far.
    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }

    /// Frames that a reader of the file finds.
    pub(crate) fn saved(&self) -> u64 {
        self.body.saved()
    }

    /// What happened since this was last asked.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Appends interleaved samples.
    pub(crate) fn write(&mut self, interleaved: &[i16]) -> Result<(), ModuleError> {
        let frames = (interleaved.len() / CHANNELS) as u64;
        if self.frames + frames > MAX_FRAMES {
            let hours = MAX_FRAMES / u64::from(self.rate) / 3_600;
            return Err(failed(&self.path, &format!("a WAV file ends after {hours} hours")));
        }
        // Before this sound: where there is room it stands behind the silence, so that no recording ends with that.
        let is_due = self.full.is_some_and(|again| again <= self.frames);
        let looked = if is_due { self.look_for_room() } else { Ok(()) };
        self.frames += frames;
        looked?;
        if self.full.is_some() {
            return Ok(());
        }
        self.pending.extend(interleaved.iter().flat_map(|sample| sample.to_le_bytes()));
        let piece = u64::from(self.rate / PIECES);
        if self.frames - self.body.written() < piece { Ok(()) } else { self.put_out() }
    }

    /// [`Self::save`] if a second came together since the last time, or more where that takes long; the frames that need not be given
    /// again.
    pub(crate) fn save_if_due(&mut self) -> Result<Option<u64>, ModuleError> {
        if self.frames < self.due {
            return Ok(None);
        }
        let began = now();
        self.save()?;
        // Where there is no room nothing is saved, and what comes need not be given again either.
        let kept = if self.full.is_some() { self.frames } else { self.saved() };
        self.due = kept + next_save(self.rate, now().saturating_duration_since(began));
        Ok(Some(kept))
    }

    /// Has all that was taken on disk, and then the sizes in the header: a header never tells of sound that is not there.
    pub(crate) fn save(&mut self) -> Result<(), ModuleError> {
        self.put_out()?;
        if self.body.saved() == self.body.written() {
            return Ok(());
        }
        let synced = if self.options.sync { self.body.sync() } else { Ok(()) };
        // The system forgets what it could not write once it has said so: trying again would succeed and mean nothing.
        self.broken = synced.is_err();
        synced.and_then(|()| self.body.settle()).map_err(|e| failed(&self.path, &e))
    }

    /// Ends it under its own name, with all that can be had of it; `waiting` frames could not be written. Says what became of it, and
    /// how many frames that were told are behind its end.
    pub(crate) fn finish(
        &mut self,
        state: State,
        waiting: u64,
    ) -> (State, u64, Result<(), ModuleError>) {
        let saved = if self.broken { Ok(()) } else { self.save() };
        self.reserve = None;
        let missing = self.frames.saturating_sub(self.saved()) + waiting;
        // Where there is no room to its end, that is missing as it is where the disk fails.
        let lacks = saved.is_err() || (state == State::Finished && missing > 0);
        let state = if lacks { State::Failed } else { state };
        let (ms, missing_ms) = (self.millis(self.saved()), self.millis(missing));
        if let Some(about) = &mut self.about {
            (about.state, about.ms, about.missing_ms) = (state, ms, missing_ms);
        }
        let closed = self.body.end(self.about.as_ref(), &self.path);
        let published = closed
            .and_then(|()| std::fs::rename(&self.part, &self.path))
            .and_then(|()| disk::sync_dir(&self.path));
        (state, missing, saved.and(published.map_err(|e| failed(&self.path, &e))))
    }

    /// Notes what the recorder came too late for.
    pub(crate) fn note_lost(&mut self, gap: Gap) {
        if let Some(about) = &mut self.about {
            about.add_gap(gap);
        }
    }

    /// Notes what was private. That it was is on disk before it is over: what is on disk of its sound is silence.
    pub(crate) fn note_pause(&mut self, pause: Gap) {
        if let Some(about) = &mut self.about {
            about.add_pause(pause);
            // It is written again at the end, if it cannot be now.
            let _ = self.tell();
        }
    }

    /// What the end of a process does.
    #[cfg(all(test, unix))]
    pub(crate) fn let_go(&self) {
        self.body.let_go();
    }

    fn millis(&self, frames: u64) -> u64 {
        frames * 1_000 / u64::from(self.rate)
    }

    fn tell(&mut self) -> io::Result<()> {
        self.body.tell(self.about.as_ref(), &self.path)
    }

    /// Gives what waits to the system, all or nothing.
    fn put_out(&mut self) -> Result<(), ModuleError> {
        match self.try_put_out() {
            Err(error) if disk::is_full(&error) => self.fill_up(),
            tried => tried.map_err(|e| failed(&self.path, &e)),
        }
    }

    fn try_put_out(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.body.append(&self.pending)?;
        self.pending.clear();
        Ok(())
    }

    /// There is no room: writes the last words into what was kept for them, and waits for room.
    fn fill_up(&mut self) -> Result<(), ModuleError> {
        self.reserve = self.reserve.take().and_then(Reserve::shrink);
        let last = self.try_put_out();
        self.pending.clear();
        self.full = Some(self.frames + u64::from(self.rate));
        self.changes.push(Change::Full(self.body.written()));
        match last {
            Err(error) if !disk::is_full(&error) => return Err(failed(&self.path, &error)),
            _ => self.save()?,
        }
        if self.options.fail_when_full {
            return Err(failed(&self.path, &"there is no room on the disk"));
        }
        Ok(())
    }

    /// Goes on if there is room again. Silence fills what was missed; it takes no room.
    fn look_for_room(&mut self) -> Result<(), ModuleError> {
        self.full = Some(self.frames + u64::from(self.rate));
        let Ok(reserve) = Reserve::take(&self.part) else { return Ok(()) };
        let (from, to) = (self.body.written(), self.frames);
        if let Err(error) = self.body.be_silent_until(to) {
            return if disk::is_full(&error) { Ok(()) } else { Err(failed(&self.path, &error)) };
        }
        (self.reserve, self.full) = (Some(reserve), None);
        self.note_gap(from, to);
        self.changes.push(Change::Room(from, to));
        // What is known is written again at the end, if it cannot be now.
        let _ = self.tell();
        Ok(())
    }

    fn note_gap(&mut self, from: u64, to: u64) {
        let (from_ms, to_ms) = (self.millis(from), self.millis(to));
        if let Some(about) = self.about.as_mut().filter(|_| from < to) {
            about.add_gap(Gap { from_ms, to_ms });
        }
    }
}

/// However long a disk took, it is asked again after so many seconds: what was not kept is lost with the power.
const LONGEST_UNSAVED: u64 = 20;

/// Frames after which a disk is asked again to keep what it was given, where it took so long the last time: every second; one that takes
/// longer is asked for more at once, so that whoever waits for it keeps up with the call all the same.
fn next_save(rate: u32, took: Duration) -> u64 {
    let second = u64::from(rate);
    let seconds = took.as_millis() as u64 / 500;
    if took <= Duration::from_secs(1) { second } else { second * seconds.min(LONGEST_UNSAVED) }
}

#[allow(clippy::disallowed_methods, reason = "how long the disk takes is what is asked")]
fn now() -> Instant {
    Instant::now()
}

/// Makes the file of a recording that begins, and owns it.
fn create(path: &Path, part: &Path, options: &Options) -> io::Result<File> {
    let is_free = || {
        if !options.overwrite && path.exists() {
            let why = "it is there already; `overwrite = true` replaces it";
            return Err(io::Error::new(ErrorKind::AlreadyExists, why));
        }
        Ok(())
    };
    loop {
        is_free()?;
        match disk::private().read(true).write(true).create_new(true).open(part) {
            Ok(file) => {
                // Whoever looks for recordings to repair may have been quicker, and then it is gone again.
                disk::own(&file, true)?;
                if disk::is_at(&file, part) {
                    return Ok(file);
                }
            }
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            // Left by a process that was killed: it is a recording of its own, and not this one.
            Err(_) => {
                match repair::repair_one(part, options.keys.as_ref().unwrap_or(&Keys::default()))? {
                    Outcome::Busy => {
                        return Err(io::Error::other("it is being recorded by somebody else"));
                    }
                    Outcome::Unknown => {
                        let why = format!("{} is in the way, and no recording", part.display());
                        return Err(io::Error::other(why));
                    }
                    Outcome::Recovered { .. } | Outcome::Damaged { .. } | Outcome::Empty => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_asked_no_more_than_it_can_keep_up_with() {
        let after = |ms| next_save(8_000, Duration::from_millis(ms)) / 8;
        assert_eq!([after(0), after(3), after(1_000)], [1_000; 3], "it keeps up");
        assert_eq!((after(2_000), after(9_000)), (4_000, 18_000), "half of the time is left");
    }
}
