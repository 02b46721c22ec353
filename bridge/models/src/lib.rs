//! Files of the server whose atomics carry an invariant, compiled with loom's, and models that take every order of their threads' steps
//! (`.ci/deep loom`). Holds no copy: the files are the server's own.
#![cfg(test)]

mod sync {
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
}

#[path = "../../server/src/capture/budget.rs"]
mod budget;
#[path = "../../server/src/module_host/waiting.rs"]
mod waiting;

use std::collections::VecDeque;

use loom::sync::Mutex;
use loom::thread;

use budget::Budget;
use sync::{Arc, AtomicUsize, Ordering};
use waiting::Waiting;

/// A queue of one place, as the one that both ends have.
#[derive(Default)]
struct Queue(Mutex<VecDeque<u8>>);

impl Queue {
    fn offer(&self, item: u8) -> Result<(), u8> {
        let mut items = self.0.lock().expect("nobody panics with it");
        if items.is_empty() {
            items.push_back(item);
            return Ok(());
        }
        Err(item)
    }

    fn take(&self) -> Option<u8> {
        self.0.lock().expect("nobody panics with it").pop_front()
    }
}

/// Takes all that is there, and calls back after each.
fn drain(queue: &Queue, waiting: &Waiting, told: &AtomicUsize, fails: usize) {
    let mut fails = fails;
    while queue.take().is_some() {
        waiting.call_back(|| {
            if fails > 0 {
                fails -= 1;
                return false;
            }
            told.fetch_add(1, Ordering::SeqCst);
            true
        });
    }
}

#[test]
fn a_sender_who_was_refused_is_told_of_room_in_every_order() {
    loom::model(|| {
        let (queue, waiting) = (Arc::new(Queue::default()), Waiting::default());
        let told = Arc::new(AtomicUsize::new(0));
        queue.offer(0).expect("it is empty");
        let taker = {
            let (queue, waiting, told) = (Arc::clone(&queue), waiting.clone(), Arc::clone(&told));
            thread::spawn(move || drain(&queue, &waiting, &told, 0))
        };
        let refused = waiting.hand_over(1, |item| queue.offer(item)).is_err();
        taker.join().expect("it only takes");
        // What was taken in after the taker had looked for the last time is there for the next look.
        drain(&queue, &waiting, &told, 0);
        assert!(!refused || told.load(Ordering::SeqCst) > 0, "refused, and never told");
        assert!(told.load(Ordering::SeqCst) <= 1, "told twice of one refusal");
    });
}

#[test]
fn who_cannot_be_told_now_is_told_the_next_time_in_every_order() {
    loom::model(|| {
        let (queue, waiting) = (Arc::new(Queue::default()), Waiting::default());
        let told = Arc::new(AtomicUsize::new(0));
        queue.offer(0).expect("it is empty");
        let taker = {
            let (queue, waiting, told) = (Arc::clone(&queue), waiting.clone(), Arc::clone(&told));
            thread::spawn(move || drain(&queue, &waiting, &told, 1))
        };
        let refused = waiting.hand_over(1, |item| queue.offer(item)).is_err();
        taker.join().expect("it only takes");
        // Whatever is taken next brings it.
        let _ = queue.offer(2);
        drain(&queue, &waiting, &told, 0);
        assert!(!refused || told.load(Ordering::SeqCst) == 1, "refused, and never told");
    });
}

#[test]
fn two_senders_are_refused_and_one_of_them_is_told_in_every_order() {
    loom::model(|| {
        let (queue, waiting) = (Arc::new(Queue::default()), Waiting::default());
        let told = Arc::new(AtomicUsize::new(0));
        queue.offer(0).expect("it is empty");
        let sender = {
            let (queue, waiting) = (Arc::clone(&queue), waiting.clone());
            thread::spawn(move || waiting.hand_over(1, |item| queue.offer(item)).is_err())
        };
        let refused = waiting.hand_over(2, |item| queue.offer(item)).is_err();
        let both = refused & sender.join().expect("it only offers");
        assert!(both, "there was no room for either");
        drain(&queue, &waiting, &told, 0);
        assert_eq!(told.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn never_more_waits_than_may_and_nothing_is_left_of_it_in_every_order() {
    const MOST: usize = 5;
    loom::model(|| {
        let budget = Arc::new(Budget::new(MOST));
        let held = Arc::new(AtomicUsize::new(0));
        let takers = [3, 4].map(|octets| {
            let (budget, held) = (Arc::clone(&budget), Arc::clone(&held));
            thread::spawn(move || {
                if budget.take(octets) {
                    let before = held.fetch_add(octets, Ordering::SeqCst);
                    assert!(before + octets <= MOST, "{} octets wait", before + octets);
                    held.fetch_sub(octets, Ordering::SeqCst);
                    budget.give_back(octets);
                }
            })
        });
        for taker in takers {
            taker.join().expect("it keeps to the budget");
        }
        assert!(budget.take(MOST), "something was not given back");
    });
}
