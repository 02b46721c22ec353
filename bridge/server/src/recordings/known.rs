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
    found: HashMap<Key, (Fate, WallTime)>,
    keyed: [RandomState; 2],
    most: usize,
    looks: usize,
    /// Looks that are left this time.
    left: usize,
    /// Of those that nothing is known of, so many were passed by this time, to be looked into or not.
    passed: usize,
    /// So many of them had their turn before.
    had: usize,
}

impl Default for Known {
    fn default() -> Self {
        Self::of(MOST, LOOKS)
    }
}

impl Known {
    /// Of so many recordings, so many of which are looked into at a time.
    pub(super) fn of(most: usize, looks: usize) -> Self {
        let (found, keyed) = (HashMap::new(), Default::default());
        Self { found, keyed, most, looks, left: looks, passed: 0, had: 0 }
    }

    /// Another time begins.
    pub(super) fn begin(&mut self, now: WallTime) {
        if !self.has_room() {
            self.found.retain(|_, (_, until)| now < *until);
        }
        let had = self.had + self.looks;
        self.had = if self.has_room() || had >= self.passed { 0 } else { had };
        (self.left, self.passed) = (self.looks, 0);
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
        if let Some((fate, until)) = self.found.get(&key)
            && now < *until
        {
            return Some(*fate);
        }
        self.passed += 1;
        if self.passed <= self.had {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        let found = look();
        if self.has_room() || self.found.contains_key(&key) {
            self.found.insert(key, found);
        }
        Some(found.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;

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
        // What holds no longer makes room.
        let later = now.after(Duration::from_secs(10));
        known.begin(later);
        assert!(known.has_room());
    }
}
