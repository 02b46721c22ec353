//! TLS on listeners: which certificate we prove ourselves with, read anew when it changes, and keys agreed on before a connection is
//! handed out. Opens no port and speaks nothing above it.

#[cfg_attr(not(feature = "tls"), path = "absent.rs")]
mod identity;

use std::path::PathBuf;

pub use identity::{Identity, TlsListener};

/// Where a listener's certificate is kept, all of it in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and behind it those that lead to an authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities of which one must have signed the certificate that a client shows; without it clients show none.
    pub client_ca: Option<PathBuf>,
}

/// Why there is no certificate to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// This program was built without TLS.
    #[error("this build has no TLS: build it with the feature `tls`")]
    Absent,
    /// A file is of no use.
    #[error("{path} {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

#[cfg(test)]
#[cfg(feature = "tls")]
mod tests;
