//! Reads a sealed recording with its key, chunk by chunk, and gives nothing that is not what was written. Writes nothing.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use super::cipher::{Cipher, Octets};
use super::format::{HEAD, HEADER, Head, Header, Kind, Walk, is_free};
use super::key::{KeyId, Keys};
use crate::about::About;
use crate::wav::MAX_FRAMES;

/// Why a sealed recording cannot be read, or not on.
#[derive(Debug)]
pub enum Damage {
    /// It is none.
    Foreign,
    /// Its key cannot be had; the text says why.
    Locked(String),
    /// What stands there is not what was written, or does not belong there.
    Changed {
        /// Number of the chunk, from 0.
        chunk: u64,
        /// Where it begins, in octets.
        at: u64,
        /// Whole frames before it.
        frames: u64,
    },
    /// The file cannot be read.
    Unreadable(io::Error),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("it is no sealed recording"),
            Self::Locked(why) => f.write_str(why),
            Self::Changed { chunk, at, .. } => {
                write!(f, "chunk {chunk}, at octet {at}, is not what was written there")
            }
            Self::Unreadable(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Damage {}

impl From<io::Error> for Damage {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// A piece of a recording's sound.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Interleaved samples of 16 bits, little-endian.
    Sound(&'a [u8]),
    /// So many frames of silence.
    Silence(u64),
}

/// What was in a recording that was read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Samples per second and channel.
    pub rate: u32,
    /// Frames.
    pub frames: u64,
    /// It says that it is whole. If not, its process was killed, or its end was cut off, which cannot be told apart.
    pub ended: bool,
    /// What is known of it, where anything is.
    pub about: Option<About>,
    /// Its key was being replaced when that was interrupted: two open it.
    pub between_keys: bool,
}

impl Contents {
    /// Milliseconds of sound.
    #[must_use]
    pub fn ms(&self) -> u64 {
        self.frames * 1_000 / u64::from(self.rate)
    }
}

/// What is told of a sealed recording beside its sound.
pub(crate) struct Peek {
    /// What wrapped its key, if it has one that can be named.
    pub(crate) key: Option<KeyId>,
    /// What is known of it, if anything is, or why that cannot be had.
    pub(crate) about: Result<Option<About>, Damage>,
}

/// What can be told of a sealed recording without reading its sound: who wrapped its key, and what is known of it, if `keys` open
/// that.
pub(crate) fn peek(file: &mut (impl Read + Seek), walk: &Walk, keys: &Keys) -> io::Result<Peek> {
    file.seek(SeekFrom::Start(0))?;
    let Some(header) = Header::read(file)? else {
        return Ok(Peek { key: None, about: Err(Damage::Foreign) });
    };
    let key = header.slots.iter().find(|slot| !is_free(slot)).and_then(KeyId::of);
    let mut about = || -> Result<Option<About>, Damage> {
        let data = keys.unwrap(&header).map_err(Damage::Locked)?;
        let Some((chunk, at, head)) = walk.told else { return Ok(None) };
        let changed = || Damage::Changed { chunk, at, frames: walk.frames };
        let mut octets = vec![0; head.length as usize];
        file.seek(SeekFrom::Start(at + HEAD as u64))?;
        file.read_exact(&mut octets)?;
        let aad = head.aad(header.rate, chunk);
        let opened = Cipher::new(&data)?.open(head.nonce, &aad, &mut octets);
        let opened = opened.ok_or_else(changed)?;
        serde_json::from_slice(opened).map(Some).map_err(|_| changed())
    };
    let about = about();
    Ok(Peek { key, about })
}

/// A sealed recording being read.
pub struct Reader<R> {
    from: R,
    cipher: Cipher,
    data: Octets,
    contents: Contents,
    number: u64,
    at: u64,
    /// Where the last chunk begins.
    last: u64,
    chunk: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// Begins to read, from the first octet.
    ///
    /// # Errors
    /// It is no sealed recording, or none of these keys is its own.
    pub fn open(mut from: R, keys: &Keys) -> Result<Self, Damage> {
        let header = Header::read(&mut from)?.ok_or(Damage::Foreign)?;
        let data = keys.unwrap(&header).map_err(Damage::Locked)?;
        let cipher = Cipher::new(&data)?;
        let between_keys = header.slots.iter().all(|slot| !is_free(slot));
        let rate = header.rate;
        let contents = Contents { rate, frames: 0, ended: false, about: None, between_keys };
        let at = HEADER as u64;
        Ok(Self { from, cipher, data, contents, number: 0, at, last: at, chunk: Vec::new() })
    }

    /// Samples per second and channel.
    #[must_use]
    pub fn rate(&self) -> u32 {
        self.contents.rate
    }

    /// Gives all its sound to `take`, and says what was in it.
    ///
    /// # Errors
    /// What does not belong there; what came before it was given, and is good.
    pub fn read(
        mut self,
        mut take: impl FnMut(Piece<'_>) -> io::Result<()>,
    ) -> Result<Contents, Damage> {
        while let Some(head) = self.next()? {
            match head.kind {
                Kind::Sound => take(Piece::Sound(&self.chunk))?,
                Kind::Silence => take(Piece::Silence(u64::from(head.frames)))?,
                Kind::About | Kind::End => {}
            }
        }
        Ok(self.contents)
    }

    /// The next chunk, whose octets are in `self.chunk`; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<Head>, Damage> {
        let (chunk, at, frames) = (self.number, self.at, self.contents.frames);
        let changed = || Damage::Changed { chunk, at, frames };
        let mut octets = Vec::with_capacity(HEAD);
        (&mut self.from).take(HEAD as u64).read_to_end(&mut octets)?;
        if octets.is_empty() {
            return Ok(None);
        }
        if self.contents.ended {
            return Err(changed());
        }
        let octets: [u8; HEAD] = octets.try_into().map_err(|_| changed())?;
        let head = Head::parse(&octets).ok_or_else(changed)?;
        self.chunk.clear();
        (&mut self.from).take(u64::from(head.length)).read_to_end(&mut self.chunk)?;
        if self.chunk.len() != head.length as usize {
            return Err(changed());
        }
        let aad = head.aad(self.contents.rate, chunk);
        let opened = self.cipher.open(head.nonce, &aad, &mut self.chunk).ok_or_else(changed)?;
        let inside = opened.len();
        self.chunk.truncate(inside);
        if matches!(head.kind, Kind::About | Kind::End) {
            self.contents.ended = head.kind == Kind::End;
            if !self.chunk.is_empty() {
                let about = serde_json::from_slice(&self.chunk).map_err(|_| changed())?;
                self.contents.about = Some(about);
            }
        }
        self.contents.frames += u64::from(head.frames);
        if self.contents.frames > MAX_FRAMES {
            return Err(changed());
        }
        (self.number, self.at, self.last) = (chunk + 1, at + head.whole(), at);
        Ok(Some(head))
    }

    /// Reads all that is good of a recording that nobody finished, and gives who goes on with it from there, and the octet at which
    /// what is good ends.
    pub(crate) fn resume(mut self) -> Result<(super::Sealer, Contents, u64), Damage> {
        loop {
            match self.next() {
                Ok(Some(_)) => {}
                Ok(None) | Err(Damage::Changed { .. }) => break,
                Err(damage) => return Err(damage),
            }
        }
        let Self { data, contents, number, at: good, last, .. } = self;
        // Killed between its last words and its new name, it goes on in the place of those words.
        let (number, at) = if contents.ended { (number - 1, last) } else { (number, good) };
        Ok((super::Sealer::go_on(&data, contents.rate, number, at)?, contents, good))
    }
}
