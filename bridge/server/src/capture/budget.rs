//! How many octets may wait in a queue, whoever puts them there. Holds none of them.

use crate::sync::{AtomicUsize, Ordering};

/// Octets that wait, and how many may.
#[derive(Debug)]
pub(crate) struct Budget {
    taken: AtomicUsize,
    most: usize,
}

impl Budget {
    pub(crate) fn new(most: usize) -> Self {
        Self { taken: AtomicUsize::new(0), most }
    }

    /// Takes room for so many octets, unless there is none.
    pub(crate) fn take(&self, octets: usize) -> bool {
        // Taken first and looked at then: two at once may both be refused, and never both let in.
        if self.taken.fetch_add(octets, Ordering::Relaxed) + octets <= self.most {
            return true;
        }
        self.give_back(octets);
        false
    }

    /// Those octets wait no longer.
    pub(crate) fn give_back(&self, octets: usize) {
        self.taken.fetch_sub(octets, Ordering::Relaxed);
    }
}
