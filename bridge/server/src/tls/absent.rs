//! What stands in for TLS on listeners in a build without it: says so, and takes nobody.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use super::{TlsError, TlsFiles};
use crate::net::Listener;

/// Cannot be made.
#[derive(Debug, Clone)]
pub struct Identity {
    never: Infallible,
}

impl Identity {
    /// There is none.
    ///
    /// # Errors
    /// Always.
    pub const fn load(_files: &TlsFiles) -> Result<Self, TlsError> {
        Err(TlsError::Absent)
    }

    /// There is none.
    ///
    /// # Errors
    /// Always.
    pub const fn speaking(
        _protocols: &'static [&'static str],
        _files: &TlsFiles,
    ) -> Result<Self, TlsError> {
        Err(TlsError::Absent)
    }

    /// Never called.
    #[expect(clippy::unused_async, reason = "the same shape as with TLS")]
    pub async fn keep_fresh(&self, _whose: &str) {
        match self.never {}
    }
}

/// Cannot be made either.
#[derive(Debug)]
pub struct TlsListener<L> {
    inner: L,
    identity: Identity,
}

impl<L> TlsListener<L> {
    /// Never called.
    pub const fn new(inner: L, identity: Identity) -> Self {
        Self { inner, identity }
    }
}

impl<L: Listener> Listener for TlsListener<L> {
    type Io = L::Io;
    type Parcel = L::Parcel;

    async fn accept(&mut self) -> io::Result<(Self::Parcel, SocketAddr)> {
        match self.identity.never {}
    }

    async fn open(parcel: Self::Parcel) -> io::Result<Self::Io> {
        L::open(parcel).await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}
