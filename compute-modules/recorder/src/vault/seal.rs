//! Writes a sealed recording: whole chunks, one behind the other. Reads nothing back.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};

use super::cipher::TAG;
use super::cipher::{Cipher, Octets, random};
use super::format::{HEAD, HEADER, Head, Header, Kind, MAX_CHUNK, SLOT, SLOTS};
use super::key::Keys;
use crate::wav::FRAME;

/// A recording that is being encrypted.
pub(crate) struct Sealer {
    cipher: Cipher,
    rate: u32,
    /// Chunks so far, and where the last of them ends.
    at: Place,
    /// The same, of what is known to be on disk.
    saved: Place,
    chunk: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    number: u64,
    end: u64,
}

impl Sealer {
    /// Begins a recording, with a key of its own that nothing else has.
    pub(crate) fn begin(file: &mut File, rate: u32, keys: &Keys) -> io::Result<Self> {
        let mut data = Octets::default();
        data.copy_from_slice(&random::<{ super::cipher::KEY }>()?);
        let header = Header { rate, slots: [keys.wrap(rate, &data)?, [0; SLOT]] };
        const { assert!(SLOTS == 2) };
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header.to_octets())?;
        Self::go_on(&data, rate, 0, HEADER as u64)
    }

    /// Goes on behind `number` chunks, which end at `end`.
    pub(super) fn go_on(data: &Octets, rate: u32, number: u64, end: u64) -> io::Result<Self> {
        let at = Place { number, end };
        Ok(Self { cipher: Cipher::new(data)?, rate, at, saved: at, chunk: Vec::new() })
    }

    /// Interleaved samples as octets; all of them or none.
    pub(crate) fn sound(&mut self, file: &mut File, octets: &[u8]) -> io::Result<()> {
        // A chunk is a tenth of a second; only what waited for another track can be more.
        for piece in octets.chunks((MAX_CHUNK - TAG) / FRAME as usize * FRAME as usize) {
            self.put(file, Kind::Sound, piece.len() as u64 / FRAME, piece)?;
        }
        Ok(())
    }

    /// So many frames of silence.
    pub(crate) fn silence(&mut self, file: &mut File, frames: u64) -> io::Result<()> {
        self.put(file, Kind::Silence, frames, &[])
    }

    /// What is known of the recording; with `end` it is whole.
    pub(crate) fn about(&mut self, file: &mut File, json: &[u8], end: bool) -> io::Result<()> {
        self.put(file, if end { Kind::End } else { Kind::About }, 0, json)
    }

    /// All so far is on disk.
    pub(crate) fn settle(&mut self) {
        self.saved = self.at;
    }

    /// What is not known to be on disk is taken back.
    pub(crate) fn take_back(&mut self, file: &mut File) -> io::Result<()> {
        self.at = self.saved;
        self.cut(file)
    }

    /// Leaves nothing behind the last whole chunk.
    pub(crate) fn cut(&self, file: &mut File) -> io::Result<()> {
        file.set_len(self.at.end)?;
        file.seek(SeekFrom::Start(self.at.end)).map(drop)
    }

    fn put(&mut self, file: &mut File, kind: Kind, frames: u64, inside: &[u8]) -> io::Result<()> {
        let length = inside.len() + TAG;
        if length > MAX_CHUNK {
            return Err(io::Error::other("what is known of the recording is too long to be kept"));
        }
        // Fits: a recording has no more frames than its octets can be counted in 32 bits.
        let (length, frames, nonce) = (length as u32, frames as u32, random()?);
        let head = Head { length, kind, frames, nonce };
        self.chunk.clear();
        self.chunk.extend(head.to_octets());
        self.chunk.extend_from_slice(inside);
        let aad = head.aad(self.rate, self.at.number);
        self.cipher.seal(nonce, &aad, &mut self.chunk, HEAD)?;
        if let Err(error) = file.write_all(&self.chunk) {
            let _ = self.cut(file);
            return Err(error);
        }
        self.at = Place { number: self.at.number + 1, end: self.at.end + head.whole() };
        Ok(())
    }
}
