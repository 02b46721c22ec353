//! Events that a webhook has still to deliver: which may go next, in order within each call, and when to try again. Pure; sends nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ringback_proto::Instant;

use super::super::Event;

/// An event and what was tried with it.
#[derive(Debug)]
struct Item {
    event: Arc<Event>,
    tries: u32,
    first_tried: Option<Instant>,
}

/// The events of one call: the first of them is the only one that may be under way.
#[derive(Debug, Default)]
struct Line {
    numbers: VecDeque<u64>,
    under_way: bool,
}

/// Events by number, which is the order they came in.
#[derive(Debug)]
pub(super) struct Held {
    items: BTreeMap<u64, Item>,
    calls: HashMap<String, Line>,
    /// Firsts of their calls that may go at once.
    ready: BTreeSet<u64>,
    /// Firsts of their calls that are to be tried again, and when.
    later: BTreeSet<(Instant, u64)>,
    /// Until then nothing goes: the other end said so.
    paused_until: Option<Instant>,
    most: usize,
    next: u64,
}

/// What is to be sent next.
#[derive(Debug, Clone)]
pub(super) struct Sending {
    pub(super) number: u64,
    pub(super) event: Arc<Event>,
    /// Tries so far, this one included.
    pub(super) tries: u32,
    /// Since it was first tried.
    pub(super) tried_for: Duration,
}

impl Held {
    /// Nothing yet, and never more than `most`.
    pub(super) fn new(most: usize) -> Self {
        Self {
            items: BTreeMap::new(),
            calls: HashMap::new(),
            ready: BTreeSet::new(),
            later: BTreeSet::new(),
            paused_until: None,
            most,
            next: 1,
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether this one was not given up meanwhile.
    pub(super) fn holds(&self, number: u64) -> bool {
        self.items.contains_key(&number)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The number that the next event gets.
    pub(super) const fn next_number(&self) -> u64 {
        self.next
    }

    /// Takes an event in, and gives the number of the oldest that had to go for it.
    pub(super) fn add(&mut self, event: Arc<Event>) -> Option<u64> {
        self.add_as(self.next, event)
    }

    /// The same for an event that has a number already, which no other has.
    pub(super) fn add_as(&mut self, number: u64, event: Arc<Event>) -> Option<u64> {
        self.next = self.next.max(number + 1);
        let line = self.calls.entry(event.call.clone()).or_default();
        line.numbers.push_back(number);
        if line.numbers.len() == 1 {
            self.ready.insert(number);
        }
        self.items.insert(number, Item { event, tries: 0, first_tried: None });
        if self.items.len() <= self.most {
            return None;
        }
        // What is under way stays; whoever gets it would get it anyway.
        let calls = &self.calls;
        let at_rest = |(number, item): &(&u64, &Item)| {
            let line = calls.get(&item.event.call);
            !line.is_some_and(|line| line.under_way && line.numbers.front() == Some(*number))
        };
        let oldest = self.items.iter().find(at_rest).map(|(number, _)| *number)?;
        self.remove(oldest);
        Some(oldest)
    }

    /// What may be sent at `now`; it is under way from here on.
    pub(super) fn next(&mut self, now: Instant) -> Option<Sending> {
        if self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        self.paused_until = None;
        while let Some(&(at, number)) = self.later.first().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, number));
            self.ready.insert(number);
        }
        let number = self.ready.pop_first()?;
        let item = self.items.get_mut(&number)?;
        self.calls.get_mut(&item.event.call)?.under_way = true;
        item.tries += 1;
        let first = *item.first_tried.get_or_insert(now);
        let (event, tries) = (Arc::clone(&item.event), item.tries);
        Some(Sending { number, event, tries, tried_for: now - first })
    }

    /// When something may be sent that [`Held::next`] does not give now, if nothing else happens.
    pub(super) fn wake(&self) -> Option<Instant> {
        if !self.ready.is_empty() {
            return self.paused_until;
        }
        let (at, _) = *self.later.first()?;
        Some(self.paused_until.map_or(at, |until| until.max(at)))
    }

    /// What was under way is done with: the next one of its call may go.
    pub(super) fn done(&mut self, number: u64) {
        self.remove(number);
    }

    /// What was under way did not arrive, and is tried again at `at`.
    pub(super) fn again(&mut self, number: u64, at: Instant) {
        let Some(item) = self.items.get(&number) else { return };
        if let Some(line) = self.calls.get_mut(&item.event.call) {
            line.under_way = false;
        }
        self.later.insert((at, number));
    }

    /// Sends nothing until then.
    pub(super) fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    /// Gives up all that is held.
    pub(super) fn clear(&mut self) -> Vec<u64> {
        self.calls.clear();
        self.ready.clear();
        self.later.clear();
        std::mem::take(&mut self.items).into_keys().collect()
    }

    fn remove(&mut self, number: u64) {
        let Some(item) = self.items.remove(&number) else { return };
        self.ready.remove(&number);
        self.later.retain(|(_, later)| *later != number);
        let Some(line) = self.calls.get_mut(&item.event.call) else { return };
        let was_first = line.numbers.front() == Some(&number);
        line.numbers.retain(|of_call| *of_call != number);
        if was_first {
            line.under_way = false;
            if let Some(first) = line.numbers.front() {
                self.ready.insert(*first);
            }
        }
        if line.numbers.is_empty() {
            self.calls.remove(&item.event.call);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::events::EventKind;
    use crate::sink::testing::event;

    use super::*;

    const NOW: Instant = Instant::ZERO;

    fn add(held: &mut Held, call: &str, n: u64) -> Option<u64> {
        held.add(Arc::new(event(call, n, EventKind::Turn)))
    }

    fn next(held: &mut Held, at: u64) -> Option<String> {
        held.next(Instant::from_millis(at)).map(|sending| sending.event.id.clone())
    }

    #[test]
    fn calls_go_side_by_side_and_each_in_its_order() {
        let mut held = Held::new(9);
        for (call, n) in [("a", 1), ("a", 2), ("b", 1), ("a", 3), ("b", 2)] {
            assert_eq!(add(&mut held, call, n), None);
        }
        assert_eq!(next(&mut held, 0).as_deref(), Some("a-1"));
        assert_eq!(next(&mut held, 0).as_deref(), Some("b-1"));
        assert_eq!(next(&mut held, 0), None, "the others wait for their calls' first");
        held.done(3);
        assert_eq!(next(&mut held, 0).as_deref(), Some("b-2"));
        held.again(1, Instant::from_millis(500));
        assert_eq!(next(&mut held, 499), None, "what comes behind a failure waits for it");
        assert_eq!(held.wake(), Some(Instant::from_millis(500)));
        let sending = held.next(Instant::from_millis(500)).unwrap();
        assert_eq!((sending.number, sending.tries), (1, 2));
        assert_eq!(sending.tried_for, Duration::from_millis(500));
        held.done(1);
        held.done(5);
        assert_eq!(next(&mut held, 500).as_deref(), Some("a-2"));
        held.done(2);
        assert_eq!(next(&mut held, 500).as_deref(), Some("a-3"));
        held.done(4);
        assert!(held.is_empty() && held.calls.is_empty() && held.ready.is_empty());
        assert_eq!(held.wake(), None);
    }

    #[test]
    fn a_pause_holds_for_all() {
        let mut held = Held::new(9);
        add(&mut held, "a", 1);
        add(&mut held, "b", 1);
        held.next(NOW).unwrap();
        held.again(1, Instant::from_millis(100));
        held.pause(Instant::from_millis(700));
        held.pause(Instant::from_millis(300));
        assert_eq!(next(&mut held, 699), None);
        assert_eq!(held.wake(), Some(Instant::from_millis(700)));
        assert_eq!(next(&mut held, 700).as_deref(), Some("a-1"), "the older one first");
        assert_eq!(next(&mut held, 700).as_deref(), Some("b-1"));
    }

    #[test]
    fn with_too_many_the_oldest_at_rest_goes() {
        let mut held = Held::new(3);
        add(&mut held, "a", 1);
        add(&mut held, "a", 2);
        add(&mut held, "b", 1);
        held.next(NOW).unwrap();
        assert_eq!(add(&mut held, "c", 1), Some(2), "a-1 is under way");
        held.again(1, Instant::from_millis(5));
        assert_eq!(add(&mut held, "c", 2), Some(1));
        assert_eq!(held.len(), 3);
        assert_eq!(next(&mut held, 0).as_deref(), Some("b-1"));
        assert_eq!(next(&mut held, 0).as_deref(), Some("c-1"));
        assert_eq!(next(&mut held, 9), None);
        assert_eq!(held.clear(), [3, 4, 5]);
        assert_eq!(next(&mut held, 9), None);
    }
}
