//! What stands in for TLS in a build without it: says so, and connects nobody.

use super::{ConnectError, Trust, TrustError};
use crate::net::Io;

/// Cannot be made.
pub(super) enum Client {}

/// Cannot be made either.
pub enum RsaKey {}

impl RsaKey {
    /// There is none.
    ///
    /// # Errors
    /// Always.
    pub fn from_pem(_pem: &str) -> Result<Self, String> {
        Err(TrustError::Absent.to_string())
    }

    pub(crate) fn sign(&self, _message: &[u8]) -> Option<Vec<u8>> {
        match *self {}
    }
}

impl std::fmt::Debug for RsaKey {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {}
    }
}

impl Client {
    pub(super) const fn new(_trust: &Trust) -> Result<Self, TrustError> {
        Err(TrustError::Absent)
    }

    #[expect(clippy::unused_async, reason = "the same shape as with TLS")]
    pub(super) async fn connect(
        &self,
        _host: &str,
        _io: impl Io,
    ) -> Result<Box<dyn Io>, ConnectError> {
        match *self {}
    }
}
