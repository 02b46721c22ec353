//! Credentials that print as nothing of themselves. Keeps them from logs, not from whoever reads this process's memory.

use std::fmt;

use subtle::{Choice, ConstantTimeEq};

/// A credential. Prints as `[redacted]`, whichever way it is printed; [`Secret::expose`] is the only way to it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The credential itself, to compare or to sign with; never for a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// An empty secret matches nothing: it is a mistake in a configuration, not an open door. Takes the same time for all that is
    /// as long as the secret; how long it is can be told.
    pub(super) fn matches(&self, offered: &str) -> Choice {
        self.0.as_bytes().ct_eq(offered.as_bytes()) & !Choice::from(u8::from(self.0.is_empty()))
    }

    /// What it signs with; an empty one signs nothing.
    pub(super) fn key(&self) -> Option<&[u8]> {
        (!self.0.is_empty()).then_some(self.0.as_bytes())
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self(secret)
    }
}

impl From<&str> for Secret {
    fn from(secret: &str) -> Self {
        Self(secret.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
