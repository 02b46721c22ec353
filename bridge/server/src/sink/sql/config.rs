//! Which database a sink writes to. Opens none.

use std::path::PathBuf;

use ringback_proto::provider::Secret;

/// Where tables are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sql {
    /// Which database.
    pub database: Database,
    /// Who the events are from: bridges that share a database have different ones.
    pub source: String,
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// A file of SQLite.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// A server of PostgreSQL.
    Postgres {
        /// Where it is and as whom; a password is in it.
        url: Secret,
    },
}
