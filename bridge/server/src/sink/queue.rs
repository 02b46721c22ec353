//! The queue between calls and one sink: bounded, never waited for by a call, oldest out first when it is full. Knows no sink.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Event;

/// Octets of events that may wait, whatever their number.
const MOST_OCTETS: usize = 32 * 1024 * 1024;

/// Events that wait for one sink.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Notify,
    most: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Arc<Event>>,
    octets: usize,
    closed: bool,
}

impl Queue {
    /// One that holds so many events.
    pub(super) fn new(most: usize) -> Self {
        Self { waiting: Mutex::default(), changed: Notify::new(), most }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // What a thread left behind that panicked is whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an event in, and says how many of the oldest had to go for it.
    pub(super) fn push(&self, event: Arc<Event>) -> u64 {
        let mut gone = 0;
        {
            let mut waiting = self.waiting();
            waiting.octets += event.octets();
            waiting.events.push_back(event);
            while waiting.events.len() > self.most || waiting.octets > MOST_OCTETS {
                let Some(oldest) = waiting.events.pop_front() else { break };
                waiting.octets -= oldest.octets();
                gone += 1;
            }
        }
        self.changed.notify_one();
        gone
    }

    /// No more will come.
    pub(super) fn close(&self) {
        self.waiting().closed = true;
        self.changed.notify_one();
    }

    /// Events that nobody has taken.
    pub(super) fn len(&self) -> usize {
        self.waiting().events.len()
    }

    /// The oldest events, at least one and at most `most`, or `None` once no more will come. For one taker; cancel safe.
    pub(super) async fn take(&self, most: usize) -> Option<Vec<Arc<Event>>> {
        loop {
            let changed = self.changed.notified();
            let (taken, closed) = self.look(most);
            if !taken.is_empty() {
                return Some(taken);
            }
            if closed {
                return None;
            }
            changed.await;
        }
    }

    /// The oldest events there are now, at most `most`.
    pub(super) fn take_now(&self, most: usize) -> Vec<Arc<Event>> {
        self.look(most).0
    }

    fn look(&self, most: usize) -> (Vec<Arc<Event>>, bool) {
        let mut waiting = self.waiting();
        let count = waiting.events.len().min(most);
        let taken: Vec<_> = waiting.events.drain(..count).collect();
        waiting.octets -= taken.iter().map(|event| event.octets()).sum::<usize>();
        (taken, waiting.closed)
    }

    /// Waits until no more will come.
    pub(super) async fn closed(&self) {
        loop {
            let changed = self.changed.notified();
            if self.waiting().closed {
                // Whoever takes next is to find out as well.
                self.changed.notify_one();
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::events::EventKind;
    use crate::sink::testing::event;

    use super::*;

    fn ids(events: &[Arc<Event>]) -> Vec<&str> {
        events.iter().map(|event| event.id.as_str()).collect()
    }

    #[tokio::test]
    async fn the_oldest_go_when_it_is_full_and_what_is_left_comes_in_order() {
        let queue = Queue::new(3);
        let gone: Vec<_> =
            (1..=5).map(|n| queue.push(Arc::new(event("c1", n, EventKind::Turn)))).collect();
        assert_eq!(gone, [0, 0, 0, 1, 1]);
        assert_eq!(ids(&queue.take(2).await.unwrap()), ["c1-3", "c1-4"]);
        queue.close();
        assert_eq!(ids(&queue.take(2).await.unwrap()), ["c1-5"], "what was there is still had");
        assert!(queue.take(2).await.is_none());
    }

    #[tokio::test]
    async fn octets_are_bounded_as_well() {
        let queue = Queue::new(usize::MAX);
        let mut long = event("c1", 1, EventKind::Event);
        long.json = "x".repeat(MOST_OCTETS / 2);
        let long = Arc::new(long);
        assert_eq!([0, 1, 2].map(|_| queue.push(Arc::clone(&long))), [0, 1, 1]);
        assert_eq!(queue.take_now(9).len(), 1);
        assert_eq!(queue.push(long), 0, "what was taken counts no longer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_taker_waits_for_the_next_or_for_the_end() {
        let queue = Arc::new(Queue::new(3));
        let taker = Arc::clone(&queue);
        let taker = tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Some(events) = taker.take(1).await {
                taken.extend(ids(&events).iter().map(|id| (*id).to_owned()));
            }
            taken
        });
        for n in 1..=2 {
            tokio::task::yield_now().await;
            queue.push(Arc::new(event("c1", n, EventKind::Turn)));
        }
        queue.close();
        queue.closed().await;
        assert_eq!(taker.await.unwrap(), ["c1-1", "c1-2"]);
    }
}
