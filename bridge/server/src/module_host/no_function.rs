//! What stands in for functions in a build without them: says so. The configuration lets nobody get as far.

use std::sync::Arc;

use ringback_module::message::Start;

use super::{FromHost, Hosted, Seat, seat};
use crate::clock::Clock;
use crate::config::FunctionConfig;

/// Has no replicas.
#[derive(Debug)]
pub struct FunctionPool(());

impl FunctionPool {
    /// One that does nothing.
    #[must_use]
    pub fn new(_name: String, _config: FunctionConfig, _clock: Clock) -> Self {
        Self(())
    }

    /// Any is as good as another.
    #[must_use]
    pub const fn is_of(&self, _name: &str, _config: &FunctionConfig) -> bool {
        true
    }

    /// Does nothing.
    pub const fn start(&self) {}

    /// Nothing is.
    #[must_use]
    pub const fn missing(&self) -> Option<(String, bool)> {
        None
    }

    /// There is nothing to wait for.
    #[expect(clippy::unused_async, reason = "the same shape as with functions")]
    pub async fn stop(&self) {}
}

/// A module that is gone.
#[must_use]
pub fn spawn_function(_pool: &Arc<FunctionPool>, _start: Start) -> Hosted {
    let (hosted, Seat { from, .. }) = seat();
    let reason = "this binary was built without the feature `functions`".to_owned();
    // The queue is new and empty, so there is room.
    let _ = from.try_send(FromHost::Gone { reason: Some(reason) });
    hosted
}
