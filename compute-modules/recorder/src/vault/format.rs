//! The octets of a sealed recording: a header with its key, wrapped, and chunks. Encrypts nothing; `SEALED.md` says it in words.

use std::io::{self, Read, Seek, SeekFrom};

use super::cipher::{KEY, NONCE, TAG};
use crate::wav::{FRAME, MAX_FRAMES};

/// What a sealed recording begins with: name and version of the format.
pub(crate) const MAGIC: [u8; 8] = *b"RBSEAL\0\x01";
/// Octets of a key's id, the one that tells its length included.
pub(super) const ID: usize = 56;
/// Octets of a wrapped key with what wrapped it.
pub(super) const SLOT: usize = ID + NONCE + KEY + TAG;
/// Where the slots begin.
pub(super) const SLOTS_AT: usize = MAGIC.len() + 4;
/// Slots of a header: one is used, and the other one while a key is replaced.
pub(super) const SLOTS: usize = 2;
/// Octets of the header.
pub(super) const HEADER: usize = SLOTS_AT + SLOTS * SLOT;
/// A file that begins like a sealed recording and is shorter never became one.
pub(crate) const SHORTEST: u64 = HEADER as u64;
/// Octets before each chunk.
pub(super) const HEAD: usize = 4 + 1 + 4 + NONCE;
/// Most octets of a chunk behind its head.
pub(super) const MAX_CHUNK: usize = 1024 * 1024;

/// A wrapped key and what wrapped it; all zeros where there is none.
pub(super) type Slot = [u8; SLOT];

/// What stands before the chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) rate: u32,
    pub(super) slots: [Slot; SLOTS],
}

impl Header {
    pub(super) fn to_octets(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(HEADER);
        octets.extend(MAGIC);
        octets.extend(self.rate.to_le_bytes());
        self.slots.iter().for_each(|slot| octets.extend(slot));
        octets
    }

    /// Reads one; `None` if it is none of ours.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut octets = Vec::with_capacity(HEADER);
        from.take(HEADER as u64).read_to_end(&mut octets)?;
        if octets.len() < HEADER || !octets.starts_with(&MAGIC) {
            return Ok(None);
        }
        let (head, slots) = octets.split_at(SLOTS_AT);
        let rate = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        let mut found = [[0; SLOT]; SLOTS];
        found.iter_mut().zip(slots.chunks(SLOT)).for_each(|(slot, of)| slot.copy_from_slice(of));
        Ok((rate > 0).then_some(Self { rate, slots: found }))
    }

    /// What a wrapped key is bound to.
    pub(super) fn wrap_aad(rate: u32, id: &[u8]) -> Vec<u8> {
        [&MAGIC[..], &rate.to_le_bytes(), id].concat()
    }
}

/// Whether a slot has no key.
pub(super) fn is_free(slot: &Slot) -> bool {
    slot.iter().all(|octet| *octet == 0)
}

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Frames.
    Sound,
    /// As many frames of silence as its head says, and nothing.
    Silence,
    /// What is known of the recording, as JSON, or nothing. The last one counts.
    About,
    /// The same, and nothing comes after it.
    End,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Sound, Self::Silence, Self::About, Self::End];
}

/// What stands before a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Octets behind it, the tag included.
    pub(super) length: u32,
    pub(super) kind: Kind,
    /// Frames of the recording that it stands for.
    pub(super) frames: u32,
    pub(super) nonce: [u8; NONCE],
}

impl Head {
    pub(super) fn to_octets(self) -> [u8; HEAD] {
        let mut octets = [0; HEAD];
        octets[..4].copy_from_slice(&self.length.to_le_bytes());
        octets[4] = self.kind as u8 + 1;
        octets[5..9].copy_from_slice(&self.frames.to_le_bytes());
        octets[9..].copy_from_slice(&self.nonce);
        octets
    }

    /// From octets; `None` if no chunk of ours begins so.
    pub(super) fn parse(octets: &[u8; HEAD]) -> Option<Self> {
        let number = |at: usize| {
            u32::from_le_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
        };
        let kind = *Kind::ALL.get(usize::from(octets[4]).checked_sub(1)?)?;
        let (length, frames) = (number(0), number(5));
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&octets[9..]);
        let inside = (length as usize).checked_sub(TAG).filter(|_| length as usize <= MAX_CHUNK)?;
        let fits = match kind {
            Kind::Sound => inside as u64 == u64::from(frames) * FRAME,
            Kind::Silence => inside == 0,
            Kind::About | Kind::End => frames == 0,
        };
        fits.then_some(Self { length, kind, frames, nonce })
    }

    /// What a chunk is bound to beside its nonce and the key of its recording: all that its head says, and its place.
    pub(super) fn aad(self, rate: u32, number: u64) -> Vec<u8> {
        let head = self.to_octets();
        [&MAGIC[..], &rate.to_le_bytes(), &number.to_le_bytes(), &head[..9]].concat()
    }

    /// Octets of the whole chunk.
    pub(super) fn whole(self) -> u64 {
        HEAD as u64 + u64::from(self.length)
    }
}

/// What can be told of a sealed recording without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Walk {
    /// Samples per second and channel.
    pub(crate) rate: u32,
    /// Frames in whole chunks.
    pub(crate) frames: u64,
    /// Where the last whole chunk ends.
    pub(crate) end: u64,
    /// It says that it is whole.
    pub(crate) ended: bool,
    /// The last chunk that tells what is known: its number, where it begins, what stands before it.
    pub(super) told: Option<(u64, u64, Head)>,
}

/// Walks over the chunks that are whole, from where `file` stands at its beginning; `None` if it is no sealed recording.
pub(crate) fn walk(file: &mut (impl Read + Seek), length: u64) -> io::Result<Option<Walk>> {
    let Some(Header { rate, .. }) = Header::read(file)? else { return Ok(None) };
    let mut walk = Walk { rate, frames: 0, end: HEADER as u64, ended: false, told: None };
    let mut octets = [0; HEAD];
    let mut number = 0;
    while walk.end + HEAD as u64 <= length && !walk.ended {
        file.seek(SeekFrom::Start(walk.end))?;
        file.read_exact(&mut octets)?;
        let Some(head) = Head::parse(&octets) else { break };
        let frames = walk.frames + u64::from(head.frames);
        if walk.end + head.whole() > length || frames > MAX_FRAMES {
            break;
        }
        if matches!(head.kind, Kind::About | Kind::End) && head.length as usize > TAG {
            walk.told = Some((number, walk.end, head));
        }
        number += 1;
        walk.end += head.whole();
        walk.frames = frames;
        walk.ended = head.kind == Kind::End;
    }
    Ok(Some(walk))
}

/// Whether more than one whole chunk stands behind a damage that begins at octet `at`: then not the end of a file is lost, but a
/// piece of it. Octets that look like two chunks in a row and are none come by chance once in 2^64 places.
pub(crate) fn more_behind(file: &mut (impl Read + Seek), at: u64) -> io::Result<bool> {
    // A chunk that cannot be told from what stands around it is no longer than this.
    let most = HEAD + MAX_CHUNK;
    let mut octets = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.take((most + HEAD) as u64).read_to_end(&mut octets)?;
    let length = file.seek(SeekFrom::End(0))?;
    for (from, octets) in octets.windows(HEAD).enumerate().skip(1) {
        let first = <&[u8; HEAD]>::try_from(octets).ok().and_then(Head::parse);
        let Some(first) = first else { continue };
        let second_at = at + from as u64 + first.whole();
        if second_at + HEAD as u64 > length {
            continue;
        }
        let mut second = [0; HEAD];
        file.seek(SeekFrom::Start(second_at))?;
        file.read_exact(&mut second)?;
        if Head::parse(&second).is_some_and(|second| second_at + second.whole() <= length) {
            return Ok(true);
        }
    }
    Ok(false)
}
