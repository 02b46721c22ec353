//! Counts panics of this thread: a task's is caught by the runtime, and whoever spawned it may not look. Prevents none.

use std::cell::Cell;
use std::sync::Once;

thread_local! { static COUNT: Cell<usize> = const { Cell::new(0) } }

/// How many there were on this thread since it was asked first.
pub(super) fn count() -> usize {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            COUNT.set(COUNT.get() + 1);
            usual(info);
        }));
    });
    COUNT.get()
}
