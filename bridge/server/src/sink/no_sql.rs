//! Databases in a build without them: none can be configured.

#[path = "sql/config.rs"]
mod config;

use std::collections::BTreeSet;

use super::Intake;

pub use config::{Database, Sql};

/// No database is one here.
///
/// # Errors
/// Always.
pub(crate) fn check(_: &Database) -> Result<(), String> {
    Err("this build has no databases: build it with the feature `sql`".into())
}

/// Never: no configuration gets this far.
pub(super) async fn run(_: Sql, _: Intake) {}

/// Never.
pub(crate) async fn erase(_: &Sql, _: &BTreeSet<String>) -> Result<u64, String> {
    Ok(0)
}
