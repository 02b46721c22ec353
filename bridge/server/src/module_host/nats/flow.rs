//! The numbers of one session's messages over NATS, which may lose some and holds nobody back: what is missing shows at once, and no
//! more is under way than a window. Pure.

use std::collections::VecDeque;

/// Messages of one direction that may be under way. Half of them is confirmed in one go if nothing else is said.
pub(super) const WINDOW: u64 = 256;
/// So may octets, and one message more.
pub(super) const WINDOW_OCTETS: usize = 256 * 1024;

/// What goes out.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Number of the next one; as many were sent.
    next: u64,
    /// Sizes of those that were not confirmed.
    under_way: VecDeque<usize>,
    octets: usize,
}

impl Sent {
    /// Whether another message may go.
    pub(crate) fn has_room(&self) -> bool {
        (self.under_way.len() as u64) < WINDOW && self.octets < WINDOW_OCTETS
    }

    /// The number of a message that goes now.
    pub(crate) fn number(&mut self, octets: usize) -> u64 {
        self.under_way.push_back(octets);
        self.octets += octets;
        self.next += 1;
        self.next - 1
    }

    /// The other end has taken so many since the session began. False if that is more than were sent.
    pub(crate) fn confirmed(&mut self, taken: u64) -> bool {
        let first = self.next - self.under_way.len() as u64;
        if taken > self.next {
            return false;
        }
        // Less than was confirmed before is what overtook it.
        for _ in first..taken {
            self.octets -= self.under_way.pop_front().unwrap_or(0);
        }
        true
    }
}

/// What comes in.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// So many came.
    count: u64,
    octets: usize,
    /// So many were confirmed, and so many octets.
    told: u64,
    told_octets: usize,
}

impl Taken {
    /// A message came. An error is how many are missing before it.
    pub(crate) fn take(&mut self, number: u64, octets: usize) -> Result<(), u64> {
        // One that came before comes again only if somebody else sends it.
        if number != self.count {
            return Err(number.abs_diff(self.count));
        }
        self.count += 1;
        self.octets += octets;
        Ok(())
    }

    /// The count to confirm with what is said anyway.
    pub(crate) fn tell(&mut self) -> u64 {
        (self.told, self.told_octets) = (self.count, self.octets);
        self.count
    }

    /// Whether it is time to say it if nothing else is said.
    pub(crate) fn is_due(&self) -> bool {
        self.count - self.told >= WINDOW / 2 || self.octets - self.told_octets >= WINDOW_OCTETS / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_under_way_than_the_window() {
        let mut sent = Sent::default();
        for n in 0..WINDOW {
            assert!(sent.has_room());
            assert_eq!(sent.number(1), n);
        }
        assert!(!sent.has_room());
        assert!(sent.confirmed(1));
        assert!(sent.has_room());
        sent.number(WINDOW_OCTETS);
        assert!(sent.confirmed(WINDOW));
        assert!(!sent.has_room(), "the one that is left is as big as the window");
        assert!(sent.confirmed(WINDOW + 1));
        assert!(sent.has_room());
    }

    #[test]
    fn confirmations_may_overtake_each_other_and_may_not_invent_anything() {
        let mut sent = Sent::default();
        sent.number(5);
        sent.number(5);
        assert!(sent.confirmed(2));
        assert!(sent.confirmed(1));
        assert!(!sent.confirmed(3));
    }

    #[test]
    fn what_is_missing_or_comes_twice_shows_at_once() {
        let mut taken = Taken::default();
        assert_eq!(taken.take(0, 1), Ok(()));
        assert_eq!(taken.take(3, 1), Err(2));
        assert_eq!(taken.take(0, 1), Err(1));
        assert_eq!(taken.take(1, 1), Ok(()));
    }

    #[test]
    fn half_a_window_is_confirmed_even_if_nothing_is_said() {
        let mut taken = Taken::default();
        for n in 0..WINDOW / 2 {
            assert!(!taken.is_due());
            taken.take(n, 1).unwrap();
        }
        assert!(taken.is_due());
        assert_eq!(taken.tell(), WINDOW / 2);
        assert!(!taken.is_due());
        taken.take(WINDOW / 2, WINDOW_OCTETS / 2).unwrap();
        assert!(taken.is_due());
    }
}
