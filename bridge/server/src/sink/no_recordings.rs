//! Stores for recordings in a build without them: none can be configured.

#[path = "recordings/config.rs"]
mod config;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Event, Intake};
use crate::outgoing::Connector;

pub use config::{Recordings, S3, Store};

/// No store is one here.
///
/// # Errors
/// Always.
pub(crate) fn check(_: &Store) -> Result<(), String> {
    Err("this build has no object stores: build it with the feature `object-store`".into())
}

/// Never.
pub(super) fn is_finished(_: &Event) -> bool {
    false
}

/// Never.
pub(crate) fn is_stored(_: &std::path::Path) -> bool {
    false
}

/// Never: no configuration gets this far.
pub(super) async fn run(_: Recordings, _: Arc<Connector>, _: Intake) {}

/// Never.
pub(super) async fn erase(
    _: &Recordings,
    _: &Arc<Connector>,
    _: &BTreeSet<String>,
    _: &BTreeSet<String>,
) -> Result<u64, String> {
    Ok(0)
}
