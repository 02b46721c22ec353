//! Sealed recordings: encrypted where they are written, with a key of their own each. Knows neither calls nor folders; `SEALED.md`
//! of this module has the format.

#[cfg_attr(not(feature = "encryption"), path = "no_cipher.rs")]
mod cipher;
mod export;
mod format;
mod keep;
mod key;
mod seal;
#[cfg(test)]
mod tests;
mod unseal;

pub use export::write_wav;
pub(crate) use format::{MAGIC, SHORTEST, Walk, more_behind, walk};
pub use keep::{Rewrapped, rewrap, shred};
pub(crate) use key::Encrypt;
pub use key::{KeyId, Keys};
pub(crate) use seal::Sealer;
pub use unseal::{Contents, Damage, Piece, Reader};
pub(crate) use unseal::{Peek, peek};

/// What the names of sealed recordings end with.
pub const SEALED: &str = ".sealed";
