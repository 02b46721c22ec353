//! A sealed recording as the WAV file that it would have been. Chooses no names and deletes nothing.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::unseal::{Contents, Damage, Piece, Reader};
use crate::wav::{self, FRAME};

/// Silence written at a time.
const SILENCE: [u8; 4096] = [0; 4096];

/// Writes all sound that `reader` gives to `out`, with a header that tells of it.
///
/// # Errors
/// As of [`Reader::read`]: then the sound before that place is in `out`, as a WAV file that is whole. Or `out` cannot be written.
pub fn write_wav<R: Read>(
    reader: Reader<R>,
    out: &mut (impl Write + Seek),
) -> Result<Contents, Damage> {
    let rate = reader.rate();
    out.write_all(&wav::header(rate, 0))?;
    let mut frames = 0;
    let read = reader.read(|piece| match piece {
        Piece::Sound(octets) => {
            frames += octets.len() as u64 / FRAME;
            out.write_all(octets)
        }
        Piece::Silence(count) => {
            frames += count;
            be_silent(out, count * FRAME)
        }
    });
    if !matches!(read, Err(Damage::Unreadable(_))) {
        out.seek(SeekFrom::Start(0))?;
        out.write_all(&wav::header(rate, frames))?;
        out.flush()?;
    }
    read
}

fn be_silent(out: &mut impl Write, mut octets: u64) -> io::Result<()> {
    while octets > 0 {
        let piece = octets.min(SILENCE.len() as u64);
        out.write_all(&SILENCE[..piece as usize])?;
        octets -= piece;
    }
    Ok(())
}
