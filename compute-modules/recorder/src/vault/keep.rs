//! Keys of recordings in their files, replaced or destroyed. Touches no sound.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use super::format::{Header, SLOT, SLOTS, SLOTS_AT, Slot, is_free};
use super::key::{KeyId, Keys};
use crate::disk;

/// What became of a recording whose key was to be wrapped anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrapped {
    /// Another key opens it from now on.
    From(KeyId),
    /// It had that key already.
    Same,
    /// It is being made, or somebody else looks after it.
    Busy,
}

/// Wraps the key of a finished recording with the first of `keys`. The sound stays as it is. Whenever it is interrupted, one of both
/// keys opens the recording, and doing it again ends it.
///
/// # Errors
/// It is no sealed recording, none of `keys` is its own, or it cannot be written.
pub fn rewrap(path: &Path, keys: &Keys) -> io::Result<Rewrapped> {
    let mut file = File::options().read(true).write(true).open(path)?;
    if !disk::own(&file, false)? || !disk::is_at(&file, path) {
        return Ok(Rewrapped::Busy);
    }
    let none = || io::Error::other("it is no sealed recording");
    let Header { rate, slots } = Header::read(&mut file)?.ok_or_else(none)?;
    let wanted = keys.ids().next().ok_or_else(|| io::Error::other("there is no key"))?;
    // Only a slot that this key really opens counts as done.
    let opens = |slot: &Slot| {
        let header = Header { rate, slots: [*slot, [0; SLOT]] };
        !is_free(slot) && keys.unwrap(&header).is_ok()
    };
    let done =
        slots.iter().position(|slot| KeyId::of(slot).as_ref() == Some(wanted) && opens(slot));
    let others = |but: usize| slots.iter().enumerate().filter(move |(at, _)| *at != but);
    if let Some(done) = done {
        let old = others(done).find(|(_, slot)| !is_free(slot));
        let Some((at, slot)) = old else { return Ok(Rewrapped::Same) };
        let before = KeyId::of(slot).unwrap_or_else(|| wanted.clone());
        keeping_its_age(&mut file, |file| put(file, at, &[0; SLOT]))?;
        return Ok(Rewrapped::From(before));
    }
    let old = slots.iter().position(opens);
    let Some(old) = old else {
        let why = keys.unwrap(&Header { rate, slots }).err().unwrap_or_default();
        return Err(io::Error::other(why));
    };
    let data = keys.unwrap(&Header { rate, slots: [slots[old], [0; SLOT]] });
    let wrapped = keys.wrap(rate, &data.map_err(io::Error::other)?)?;
    keeping_its_age(&mut file, |file| {
        put(file, (old + 1) % SLOTS, &wrapped)?;
        put(file, old, &[0; SLOT])
    })?;
    Ok(Rewrapped::From(KeyId::of(&slots[old]).unwrap_or_else(|| wanted.clone())))
}

/// Destroys the key of a sealed recording, on disk when this returns: what it held cannot be had any more, from no copy of its
/// sound either. The caller owns the file.
///
/// # Errors
/// It cannot be written.
pub fn shred(file: &mut File) -> io::Result<()> {
    for _ in 0..2 {
        for at in 0..SLOTS {
            put(file, at, &[0; SLOT])?;
        }
    }
    file.sync_all()
}

/// Writes a slot and has it on disk.
fn put(file: &mut File, at: usize, slot: &Slot) -> io::Result<()> {
    file.seek(SeekFrom::Start((SLOTS_AT + at * SLOT) as u64))?;
    file.write_all(slot)?;
    file.sync_data()
}

/// A recording is as old as its last sound, whatever is done with its key.
fn keeping_its_age(
    file: &mut File,
    change: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let age = file.metadata()?.modified()?;
    change(file)?;
    file.set_modified(age)?;
    file.sync_all()
}
