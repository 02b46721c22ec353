//! Where recordings go. Opens nothing.

use std::fmt;
use std::path::PathBuf;

use ringback_proto::provider::Secret;

use crate::outgoing::http::Url;

/// Recordings on their way from a folder to a store, where they are put, and deleted if they are deleted here meanwhile: it must be let do
/// both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recordings {
    /// Where to.
    pub store: Store,
    /// Folder that the recorder writes to.
    pub dir: PathBuf,
    /// Whether one is deleted there once it is stored.
    pub delete_local: bool,
}

/// Where recordings are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// In another folder, of a network perhaps.
    Folder(PathBuf),
    /// In a bucket.
    S3(S3),
}

/// A bucket of S3, or of what speaks like it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3 {
    /// Its name.
    pub bucket: String,
    /// What names of objects begin with, without a slash at the end.
    pub prefix: String,
    /// Where it is, if not at Amazon.
    pub endpoint: Option<Url>,
    /// Region; what the environment says without one.
    pub region: Option<String>,
    /// Id and secret of the key; what the environment or the machine has without one.
    pub key: Option<(Secret, Secret)>,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::S3(S3 { bucket, prefix, .. }) => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}
