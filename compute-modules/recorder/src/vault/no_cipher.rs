//! What a build has that cannot encrypt: the shape of a cipher, and a reason why there is none.

use std::io;

pub(super) const KEY: usize = 32;
pub(super) const NONCE: usize = 12;
pub(super) const TAG: usize = 16;

pub(super) type Octets = Box<[u8; KEY]>;

/// There is none of it.
pub(super) enum Cipher {}

impl Cipher {
    pub(super) fn new(_: &Octets) -> io::Result<Self> {
        Err(none())
    }

    pub(super) fn seal(
        &self,
        _: [u8; NONCE],
        _: &[u8],
        _: &mut Vec<u8>,
        _: usize,
    ) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn open<'a>(
        &self,
        _: [u8; NONCE],
        _: &[u8],
        _: &'a mut [u8],
    ) -> Option<&'a mut [u8]> {
        match *self {}
    }
}

pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    Err(none())
}

fn none() -> io::Error {
    io::Error::other("this build does not encrypt: build it with `--features encryption`")
}
