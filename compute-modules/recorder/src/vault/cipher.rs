//! AES-256-GCM and chance, as ring has them. Knows no format.

use std::io;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

/// Octets of a key.
pub(super) const KEY: usize = 32;
/// Octets of a nonce, of which each is used once: by chance, so that a chunk that is written anew after its disk was full does not
/// use one again.
pub(super) const NONCE: usize = 12;
/// Octets that authentication adds.
pub(super) const TAG: usize = 16;

/// A key as it is kept in memory, which is wiped when it goes.
pub(super) type Octets = Zeroizing<[u8; KEY]>;

/// A key at work. Its schedule is ring's, which does not wipe it.
pub(super) struct Cipher(LessSafeKey);

impl Cipher {
    pub(super) fn new(key: &Octets) -> io::Result<Self> {
        // It can only fail by a wrong length.
        let key = UnboundKey::new(&AES_256_GCM, key.as_slice()).map_err(failed)?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Encrypts what stands in `data` from `from` on, and puts the tag behind it.
    pub(super) fn seal(
        &self,
        nonce: [u8; NONCE],
        aad: &[u8],
        data: &mut Vec<u8>,
        from: usize,
    ) -> io::Result<()> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), &mut data[from..]);
        data.extend_from_slice(sealed.map_err(failed)?.as_ref());
        Ok(())
    }

    /// What was encrypted; `None` if this is not it.
    pub(super) fn open<'a>(
        &self,
        nonce: [u8; NONCE],
        aad: &[u8],
        sealed: &'a mut [u8],
    ) -> Option<&'a mut [u8]> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_in_place(nonce, Aad::from(aad), sealed).ok()
    }
}

/// Octets that nobody can foretell.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut octets = [0; N];
    SystemRandom::new().fill(&mut octets).map_err(failed)?;
    Ok(octets)
}

/// ring gives no reasons; there are none but a system without chance.
fn failed(_: Unspecified) -> io::Error {
    io::Error::other("the system gives no random octets, or a cipher failed")
}
