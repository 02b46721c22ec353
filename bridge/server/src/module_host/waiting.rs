//! A sender who was refused for want of room is told when there is some. Holds no queue, and wakes nobody by itself.

use crate::sync::{Arc, AtomicBool, Ordering};

/// That somebody was refused and waits to be told. Both ends of a queue have it; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting(Arc<AtomicBool>);

impl Waiting {
    /// Hands an item over by `offer`, which gives it back where there is no room. An item that comes back is waited for: whoever takes
    /// something out will [`Waiting::call_back`].
    pub(crate) fn hand_over<T>(
        &self,
        item: T,
        offer: impl Fn(T) -> Result<(), T>,
    ) -> Result<(), T> {
        let Err(item) = offer(item) else { return Ok(()) };
        // Tried again with the flag up: a taker that emptied the queue in between saw no flag and will not call back.
        self.0.store(true, Ordering::SeqCst);
        // Taken after all, the flag stays: somebody who was refused before may wait for it.
        offer(item)
    }

    /// Something was taken out: whoever was refused is told, once, by `tell`. If that fails, the next time.
    pub(crate) fn call_back(&self, tell: impl FnOnce() -> bool) {
        if self.0.swap(false, Ordering::SeqCst) && !tell() {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}
