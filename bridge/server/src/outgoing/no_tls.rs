//! What stands in for TLS in a build without it: says so, and connects nobody.

use super::{ConnectError, Trust, TrustError};
use crate::net::Io;

/// Cannot be made.
pub(super) enum Client {}

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
