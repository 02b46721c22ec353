//! What has been used once and must not be used again, bounded in number and time. Reads no clock.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use super::refuse;
use crate::UnixSeconds;
use crate::provider::Rejection;

/// Nothing is remembered longer: what opens once must have expired by then.
pub const SECONDS_REMEMBERED: u64 = 15 * 60;

/// Credentials that have opened, until they expire by themselves.
///
/// Only what passed every other check is written down, so a stranger can neither fill it nor use up somebody else's credential. It
/// is full only if so many streams began within the life of a credential; then it refuses rather than forgets.
#[derive(Debug, Clone)]
pub struct Replays {
    /// A digest of what was used, so that the size of each entry is known, and the second from which it is refused anyway.
    used: BTreeMap<[u8; 32], UnixSeconds>,
    /// The same by the second, so that whoever is let in while it is full does not have all of it looked through.
    ends: BTreeSet<(UnixSeconds, [u8; 32])>,
    capacity: usize,
}

/// A credential that was written down, for [`Replays::give_back`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used([u8; 32]);

impl Replays {
    /// Remembers so many at a time. An entry takes about 100 octets.
    #[must_use]
    pub const fn new(capacity: usize) -> Self {
        Self { used: BTreeMap::new(), ends: BTreeSet::new(), capacity }
    }

    /// Writes down that the credential made of `parts` has opened; it expires before `expiry`.
    pub(super) fn first_use(
        &mut self,
        parts: &[&[u8]],
        now: UnixSeconds,
        expiry: UnixSeconds,
    ) -> Result<Used, Rejection> {
        if expiry.0 > now.0.saturating_add(SECONDS_REMEMBERED) {
            return Err(refuse("what opens once may be valid for 15 minutes at most"));
        }
        let mut hash = Sha256::new();
        for part in parts {
            // The length keeps ("a", "bc") apart from ("ab", "c").
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        if self.used.get(&digest).is_some_and(|expiry| *expiry > now) {
            return Err(refuse("this credential has opened a stream already and opens only one"));
        }
        if self.used.len() >= self.capacity {
            self.forget(now);
        }
        if self.used.len() >= self.capacity {
            return Err(refuse("too many credentials are in use to tell whether this one is new"));
        }
        if let Some(before) = self.used.insert(digest, expiry) {
            self.ends.remove(&(before, digest));
        }
        self.ends.insert((expiry, digest));
        Ok(Used(digest))
    }

    /// The credential did not open after all, for a reason that will pass: whoever has it may come again with it.
    pub fn give_back(&mut self, used: &Used) {
        if let Some(expiry) = self.used.remove(&used.0) {
            self.ends.remove(&(expiry, used.0));
        }
    }

    /// Forgets what has expired. Not before there is need of room: a clock may be set back.
    fn forget(&mut self, now: UnixSeconds) {
        while let Some((expiry, digest)) = self.ends.first().copied().filter(|(at, _)| *at <= now) {
            self.ends.remove(&(expiry, digest));
            self.used.remove(&digest);
        }
    }
}

impl Default for Replays {
    /// Enough for 400 streams a second whose credentials live for five minutes, as most do. 13 MB, if ever so many come.
    fn default() -> Self {
        Self::new(128 * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn at(seconds: u64) -> UnixSeconds {
        UnixSeconds(NOW.0 + seconds)
    }

    #[test]
    fn a_credential_opens_once_until_it_expires() {
        let mut replays = Replays::new(10);
        assert!(replays.first_use(&[b"a", b"bc"], NOW, at(20)).is_ok());
        assert!(replays.first_use(&[b"ab", b"c"], NOW, at(20)).is_ok(), "another one");
        for second in [0, 1, 19] {
            assert!(replays.first_use(&[b"a", b"bc"], at(second), at(40)).is_err(), "{second}");
        }
        assert!(replays.first_use(&[b"a", b"bc"], at(20), at(40)).is_ok());
        assert!(replays.first_use(&[b"a", b"bc"], NOW, at(40)).is_err(), "a clock set back");
    }

    #[test]
    fn a_credential_that_was_given_back_opens_once_more() {
        let mut replays = Replays::new(1);
        let used = replays.first_use(&[b"a"], NOW, at(20)).expect("new");
        assert!(replays.first_use(&[b"a"], NOW, at(20)).is_err());
        replays.give_back(&used);
        assert_eq!((replays.used.len(), replays.ends.len()), (0, 0));
        assert!(replays.first_use(&[b"a"], NOW, at(20)).is_ok());
        assert!(replays.first_use(&[b"a"], NOW, at(20)).is_err());
    }

    #[test]
    fn four_hundred_calls_a_second_that_are_signed_for_five_minutes_are_all_let_in() {
        let mut replays = Replays::default();
        for call in 0_u64..400 * 340 {
            let now = at(call / 400);
            let taken = replays.first_use(&[&call.to_be_bytes()], now, UnixSeconds(now.0 + 301));
            assert!(taken.is_ok(), "call {call}");
        }
        assert!(replays.used.len() <= 128 * 1024);
    }

    #[test]
    fn memory_is_bounded_and_a_full_one_refuses() {
        let mut replays = Replays::new(3);
        for octet in 0..3_u8 {
            assert!(replays.first_use(&[&[octet]], NOW, at(u64::from(octet) + 1)).is_ok());
        }
        let full = replays.first_use(&[b"x"], NOW, at(20)).unwrap_err().to_string();
        assert!(full.contains("too many"), "{full}");
        assert!(replays.first_use(&[b"x"], at(1), at(20)).is_ok(), "the first has expired");
        assert!(replays.first_use(&[&[1]], at(1), at(20)).is_err(), "the second has not");
        assert_eq!((replays.used.len(), replays.ends.len()), (3, 3));
        assert!(replays.first_use(&[&[1]], at(2), at(20)).is_ok(), "now it has");
        assert_eq!((replays.used.len(), replays.ends.len()), (3, 3));
        let long = replays.first_use(&[b"y"], NOW, at(SECONDS_REMEMBERED + 1));
        assert!(long.is_err(), "remembered for ever otherwise");
    }
}
