//! Which calls of a listener were posted, and how what else is posted about them reaches them. Runs none of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::call::MOST_POSTED;
use crate::listener::{Refusal, Shortage};

type Queues = HashMap<String, mpsc::Sender<String>>;

/// Calls of a listener that were posted, by the provider's names for them.
#[derive(Clone, Default)]
pub(super) struct Running(Arc<Mutex<Queues>>);

/// What is posted about a call. While it listens, no other call of that name begins.
pub(super) struct Posts {
    name: String,
    running: Running,
    /// In the order in which it was posted, beginning with what began the call.
    pub(super) incoming: Option<mpsc::Receiver<String>>,
}

impl Running {
    /// Gives what was posted to the call that it is about. That may have ended or never begun: the last that a provider posts is
    /// often that a call is over which is over here already.
    pub(super) fn tell(&self, name: &str, body: &str) -> Result<(), Refusal> {
        match self.queues().get(name).map(|call| call.try_send(body.to_owned())) {
            Some(Err(TrySendError::Full(_))) => Err(too_much()),
            Some(Ok(()) | Err(TrySendError::Closed(_))) | None => Ok(()),
        }
    }

    /// A call of that name, with what began it; `None` if there is one, which is given it instead.
    pub(super) fn begin(&self, name: String, body: &str) -> Result<Option<Posts>, Refusal> {
        let mut queues = self.queues();
        match queues.get(&name).map(|call| call.try_send(body.to_owned())) {
            Some(Ok(())) => return Ok(None),
            Some(Err(TrySendError::Full(_))) => return Err(too_much()),
            // One that listens no longer has lost its lines and only waits for its modules.
            Some(Err(TrySendError::Closed(_))) | None => {}
        }
        let (sender, incoming) = mpsc::channel(MOST_POSTED);
        sender.try_send(body.to_owned()).expect("a new queue has room");
        queues.insert(name.clone(), sender);
        Ok(Some(Posts { name, running: self.clone(), incoming: Some(incoming) }))
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        // What a thread left behind that panicked is as good as ever: entries are whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Posts {
    fn drop(&mut self) {
        self.incoming = None;
        let mut queues = self.running.queues();
        // Another call may have taken the name over.
        if queues.get(&self.name).is_some_and(mpsc::Sender::is_closed) {
            queues.remove(&self.name);
        }
    }
}

fn too_much() -> Refusal {
    Refusal::overloaded(Shortage::Posts, "too much is posted about one call at a time")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(running: &Running, body: &str) -> Option<Posts> {
        running.begin("a".into(), body).expect("there is room")
    }

    fn heard(posts: &mut Posts) -> Vec<String> {
        let incoming = posts.incoming.as_mut().expect("it listens");
        std::iter::from_fn(|| incoming.try_recv().ok()).collect()
    }

    #[test]
    fn a_name_is_one_call_and_what_is_posted_again_goes_to_it() {
        let running = Running::default();
        let mut first = begun(&running, "started").expect("the first");
        assert!(begun(&running, "started again").is_none());
        assert!(running.tell("a", "interrupted").is_ok());
        assert!(running.tell("b", "of another").is_ok());
        assert_eq!(heard(&mut first), ["started", "started again", "interrupted"]);
        drop(first);
        assert!(begun(&running, "later").is_some());
        assert!(running.queues().is_empty(), "what is over takes no room");
    }

    #[test]
    fn more_than_a_call_takes_is_refused() {
        let running = Running::default();
        let _call = begun(&running, "started");
        assert!((1..MOST_POSTED).all(|_| running.tell("a", "x").is_ok()));
        assert_eq!(running.tell("a", "x").map_err(|refusal| refusal.status), Err(503));
        let again = running.begin("a".into(), "x").map(drop);
        assert_eq!(again.map_err(|refusal| refusal.status), Err(503));
    }

    #[test]
    fn a_call_that_only_waits_for_its_modules_refuses_nothing_and_leaves_its_name_to_the_next() {
        let running = Running::default();
        let mut old = begun(&running, "started").expect("the first");
        drop(old.incoming.take());
        assert!(running.tell("a", "stopped").is_ok());
        let mut new = begun(&running, "moved").expect("another");
        drop(old);
        assert!(running.tell("a", "stopped").is_ok());
        assert_eq!(heard(&mut new), ["moved", "stopped"]);
    }
}
