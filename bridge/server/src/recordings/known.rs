//! What was found out of recordings by looking into them, so that few are looked into at a time, and none before that may tell anything
//! new. Looks at nothing itself.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::path::Path;
use std::time::SystemTime;

use super::retention::Fate;
use crate::clock::WallTime;

/// Recordings looked into at a time.
const LOOKS: usize = 1_000;
/// Recordings of which anything is remembered: some 10 MB.
const MOST: usize = 100_000;

/// A recording by its name and age, in 128 bits: no two are taken for one.
type Key = [u64; 2];

/// What is known of recordings. Where there are more than it holds, the others are looked into again and again, each in its turn.
#[derive(Debug)]
pub(crate) struct Known {
    found: HashMap<Key, Found>,
    keyed: [RandomState; 2],
    most: usize,
    looks: usize,
    /// Looks that are left this time.
    left: usize,
    /// Of those that nothing is known of, so many were passed by this time, to be looked into or not.
    passed: usize,
    /// So many of them had their turn before.
    had: usize,
    /// How often it was begun.
    time: u64,
    /// This time not all were passed by.
    is_cut_short: bool,
}

/// What was found out, until when that holds, and at which time it was last asked for.
type Found = (Fate, WallTime, u64);

impl Default for Known {
    fn default() -> Self {
        Self::of(MOST, LOOKS)
    }
}

impl Known {
    /// Of so many recordings, so many of which are looked into at a time.
    pub(super) fn of(most: usize, looks: usize) -> Self {
        let (found, keyed) = (HashMap::new(), Default::default());
        let (left, passed, had, time, is_cut_short) = (looks, 0, 0, 0, false);
        Self { found, keyed, most, looks, left, passed, had, time, is_cut_short }
    }

    /// Another time begins.
    pub(super) fn begin(&mut self, now: WallTime) {
        let is_cut_short = std::mem::take(&mut self.is_cut_short);
        if !self.has_room() {
            // Of those that nobody asked for when all were, the recordings are gone.
            let time = self.time;
            self.found
                .retain(|_, (_, until, asked)| now < *until && (is_cut_short || *asked == time));
        }
        let had = self.had + self.looks;
        if self.has_room() {
            self.had = 0;
        } else if !is_cut_short {
            self.had = if had >= self.passed { 0 } else { had };
        }
        (self.left, self.passed) = (self.looks, 0);
        self.time += 1;
    }

    /// This time ends before all were passed by: those whose turn it is have it the next time.
    pub(super) const fn cut_short(&mut self) {
        self.is_cut_short = true;
    }

    /// Whether it holds more than it does: where it does not, those that are passed over can wait for their turn.
    pub(super) fn has_room(&self) -> bool {
        self.found.len() < self.most
    }

    /// What is to be done at `now` with a recording of which that was found out before, or is by `look`, which says as well until when
    /// it holds. `None` if it is not its turn, or no more are looked into this time.
    pub(super) fn fate(
        &mut self,
        path: &Path,
        modified: SystemTime,
        now: WallTime,
        look: impl FnOnce() -> (Fate, WallTime),
    ) -> Option<Fate> {
        let key = self.keyed.each_ref().map(|state| state.hash_one((path, modified)));
        let time = self.time;
        if let Some((fate, until, asked)) = self.found.get_mut(&key)
            && now < *until
        {
            *asked = time;
            return Some(*fate);
        }
        self.passed += 1;
        if self.passed <= self.had {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        let (fate, until) = look();
        if self.has_room() || self.found.contains_key(&key) {
            self.found.insert(key, (fate, until, time));
        }
        Some(fate)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ops::Range;
    use std::time::Duration;

    use super::*;

    /// The recordings of these names are asked for, and those given back that are looked into.
    fn asked_for(known: &mut Known, names: Range<u32>, now: WallTime) -> Vec<u32> {
        known.begin(now);
        let mut looked = Vec::new();
        for n in names {
            known.fate(Path::new(&n.to_string()), SystemTime::UNIX_EPOCH, now, || {
                looked.push(n);
                (Fate::Young, now.after(Duration::from_secs(10)))
            });
        }
        looked
    }

    #[test]
    fn a_time_that_was_cut_short_takes_nobodys_turn() {
        let (mut known, now) = (Known::of(3, 2), WallTime::from_unix(Duration::from_secs(1_000)));
        while asked_for(&mut known, 0..9, now) != [3, 4] {}
        assert_eq!(asked_for(&mut known, 0..4, now), [0; 0], "it has had its turn");
        known.cut_short();
        assert_eq!(asked_for(&mut known, 0..9, now), [5, 6]);
    }

    #[test]
    fn what_is_gone_makes_room_as_does_what_holds_no_longer() {
        let (mut known, now) = (Known::of(3, 3), WallTime::from_unix(Duration::from_secs(1_000)));
        assert_eq!(asked_for(&mut known, 0..3, now), [0, 1, 2]);
        assert_eq!(asked_for(&mut known, 1..3, now), [0; 0]);
        assert_eq!(asked_for(&mut known, 1..4, now), [3]);
        known.cut_short();
        assert_eq!(asked_for(&mut known, 1..1, now), [0; 0], "what nobody came to may be there");
        assert!(!known.has_room());
        known.begin(now.after(Duration::from_secs(10)));
        assert!(known.has_room());
    }

    #[test]
    fn where_there_are_more_than_can_be_remembered_each_has_its_turn() {
        let mut known = Known::of(3, 2);
        let now = WallTime::from_unix(Duration::from_secs(1_000));
        let mut looked = BTreeMap::<u32, u32>::new();
        for _ in 0..30 {
            known.begin(now);
            for n in 0..9 {
                known.fate(Path::new(&n.to_string()), SystemTime::UNIX_EPOCH, now, || {
                    *looked.entry(n).or_default() += 1;
                    (Fate::Young, now.after(Duration::from_secs(10)))
                });
            }
        }
        let looked: Vec<_> = (0..9).map(|n| looked.get(&n).copied().unwrap_or_default()).collect();
        assert_eq!(looked[..3], [1; 3], "what is known is not looked into");
        assert!(looked[3..].iter().all(|times| *times > 5), "{looked:?}");
    }
}
