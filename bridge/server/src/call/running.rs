//! A call that is dropped in its middle: it has its summary all the same. Runs none.

use std::time::Duration;

use super::Call;

/// A call that runs. Nobody waits for one that hangs when everything is to end; its summary is due then, too.
pub(super) struct Running(pub(super) Box<Call>);

impl Drop for Running {
    fn drop(&mut self) {
        let call = &mut *self.0;
        // After a panic nothing of a call is sure, and modules need a runtime to be let go of.
        if call.session.is_ended()
            || std::thread::panicking()
            || tokio::runtime::Handle::try_current().is_err()
        {
            return;
        }
        let now = call.clock.now();
        call.session.shut_down(now, Duration::ZERO);
        call.session.sent(false);
        call.pump(now);
        call.session.handle_timeout(now);
        call.pump(now);
    }
}
