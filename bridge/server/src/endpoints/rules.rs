//! The endpoints of a listener as values: which may be at a time, and how one takes the place of another. Reads no clock and no file.
//!
//! An endpoint is a path that cannot be guessed. There are two at most, one of which is active: it has no end. To rotate makes a new
//! active one and gives the old one an end, or none of it is left at once. An end can be put off until it has passed, and not after.

use serde::{Deserialize, Serialize};

/// Endpoints at a time.
const MOST: usize = 2;
/// The longest that an old one may stay.
const LONGEST: u64 = 366 * 24 * 3_600;

/// An endpoint. Times are in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// What it is called; says nothing about its path.
    pub id: String,
    /// SHA-256 of the last segment of its path, which is kept nowhere.
    pub hash: String,
    /// When it was made.
    pub made: u64,
    /// When it ends; `None` is active.
    pub expires: Option<u64>,
    /// Streams that it has let in.
    pub used: u64,
    /// When it let in the last one.
    pub last_used: Option<u64>,
}

/// The endpoints of a listener, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Endpoints(Vec<Endpoint>);

/// What becomes of the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old {
    /// It goes on for so many seconds.
    Stays(u64),
    /// It ends now.
    Goes,
}

/// Why something cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rule {
    /// There is an active one.
    #[error("there is an active endpoint already: rotate it")]
    ActiveAlready,
    /// There is no active one.
    #[error("there is no active endpoint to rotate: make a new one")]
    NoneActive,
    /// There are two.
    #[error(
        "there are two endpoints, and may be no more: wait until the old one has ended, or revoke it"
    )]
    Two,
    /// There is none of that name.
    #[error("there is no such endpoint")]
    Unknown,
    /// It has ended.
    #[error("the endpoint has ended, and what has ended stays so: revoke it to be rid of it")]
    Passed,
    /// It has no end.
    #[error("the endpoint is active and has no end that could be put off")]
    Active,
    /// Its end is later already.
    #[error(
        "the endpoint ends later than that already: an end is put off, or the endpoint is revoked"
    )]
    Earlier,
    /// It would stay too long.
    #[error("an old endpoint may stay for 1 second to 366 days")]
    TooLong,
}

impl Endpoint {
    /// A new active one, whose path ends with what has this hash.
    #[must_use]
    pub const fn new(id: String, hash: String, now: u64) -> Self {
        Self { id, hash, made: now, expires: None, used: 0, last_used: None }
    }

    /// In a word.
    #[must_use]
    pub const fn state(&self, now: u64) -> &'static str {
        match self.expires {
            None => "active",
            Some(at) if at > now => "expiring",
            Some(_) => "expired",
        }
    }
}

impl Endpoints {
    /// All of them, what has ended included until it is revoked or another takes its place.
    #[must_use]
    pub fn all(&self) -> &[Endpoint] {
        &self.0
    }

    /// The first one, or one after the active one was revoked.
    ///
    /// # Errors
    /// [`Rule::ActiveAlready`], [`Rule::Two`].
    pub fn add(&mut self, new: Endpoint, now: u64) -> Result<(), Rule> {
        if self.active().is_some() {
            return Err(Rule::ActiveAlready);
        }
        self.make_room(now)?;
        self.0.push(new);
        Ok(())
    }

    /// Puts `new` in the place of the active one.
    ///
    /// # Errors
    /// [`Rule::NoneActive`], [`Rule::Two`], [`Rule::TooLong`].
    pub fn rotate(&mut self, new: Endpoint, old: Old, now: u64) -> Result<(), Rule> {
        let id = self.active().ok_or(Rule::NoneActive)?.id.clone();
        match old {
            Old::Goes => self.0.retain(|endpoint| endpoint.id != id),
            Old::Stays(seconds) => {
                let expires = end(now, seconds)?;
                self.make_room(now)?;
                self.0.iter_mut().filter(|e| e.id == id).for_each(|e| e.expires = Some(expires));
            }
        }
        self.0.push(new);
        Ok(())
    }

    /// Puts an end off, to so many seconds from now.
    ///
    /// # Errors
    /// [`Rule::Unknown`], [`Rule::Active`], [`Rule::Passed`], [`Rule::Earlier`], [`Rule::TooLong`].
    pub fn extend(&mut self, id: &str, seconds: u64, now: u64) -> Result<(), Rule> {
        let found = self.0.iter_mut().find(|endpoint| endpoint.id == id).ok_or(Rule::Unknown)?;
        let expires = found.expires.ok_or(Rule::Active)?;
        if expires <= now {
            return Err(Rule::Passed);
        }
        let later = end(now, seconds)?;
        if later <= expires {
            return Err(Rule::Earlier);
        }
        found.expires = Some(later);
        Ok(())
    }

    /// Is rid of one, whatever its state.
    ///
    /// # Errors
    /// [`Rule::Unknown`].
    pub fn revoke(&mut self, id: &str) -> Result<(), Rule> {
        let before = self.0.len();
        self.0.retain(|endpoint| endpoint.id != id);
        if self.0.len() == before { Err(Rule::Unknown) } else { Ok(()) }
    }

    /// The one that lets in whoever comes with what has this hash, or why it does not.
    ///
    /// # Errors
    /// [`Rule::Unknown`], [`Rule::Passed`].
    pub fn opens(&self, hash: &str, now: u64) -> Result<&Endpoint, Rule> {
        let found = self.0.iter().find(|endpoint| endpoint.hash == hash).ok_or(Rule::Unknown)?;
        if found.state(now) == "expired" { Err(Rule::Passed) } else { Ok(found) }
    }

    /// One has let in `count` streams more, the last at `now`.
    pub fn used(&mut self, id: &str, count: u64, now: u64) {
        for endpoint in self.0.iter_mut().filter(|endpoint| endpoint.id == id) {
            endpoint.used += count;
            endpoint.last_used = endpoint.last_used.max(Some(now));
        }
    }

    fn active(&self) -> Option<&Endpoint> {
        self.0.iter().find(|endpoint| endpoint.expires.is_none())
    }

    /// What has ended makes room for another.
    fn make_room(&mut self, now: u64) -> Result<(), Rule> {
        if self.0.len() >= MOST {
            self.0.retain(|endpoint| endpoint.state(now) != "expired");
        }
        if self.0.len() >= MOST { Err(Rule::Two) } else { Ok(()) }
    }
}

fn end(now: u64, seconds: u64) -> Result<u64, Rule> {
    (1..=LONGEST).contains(&seconds).then(|| now + seconds).ok_or(Rule::TooLong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str, now: u64) -> Endpoint {
        Endpoint::new(name.into(), format!("hash of {name}"), now)
    }

    /// An active one, and an old one that ends at 100.
    fn rotated() -> Endpoints {
        let mut endpoints = Endpoints::default();
        endpoints.add(new("old", 0), 0).unwrap();
        endpoints.rotate(new("new", 0), Old::Stays(100), 0).unwrap();
        endpoints
    }

    fn states(endpoints: &Endpoints, now: u64) -> Vec<(&str, &str)> {
        endpoints.all().iter().map(|e| (e.id.as_str(), e.state(now))).collect()
    }

    #[test]
    fn at_most_one_is_active() {
        let mut endpoints = Endpoints::default();
        assert_eq!(endpoints.rotate(new("a", 0), Old::Goes, 0), Err(Rule::NoneActive));
        endpoints.add(new("a", 0), 0).unwrap();
        assert_eq!(endpoints.add(new("b", 0), 0), Err(Rule::ActiveAlready));
        assert_eq!(states(&endpoints, 0), [("a", "active")]);
    }

    #[test]
    fn there_are_two_at_most() {
        let mut endpoints = rotated();
        assert_eq!(endpoints.rotate(new("c", 50), Old::Stays(10), 50), Err(Rule::Two));
        assert_eq!(states(&endpoints, 50), [("old", "expiring"), ("new", "active")]);
        endpoints.revoke("new").unwrap();
        endpoints.add(new("c", 50), 50).unwrap();
        assert_eq!(states(&endpoints, 50), [("old", "expiring"), ("c", "active")]);
    }

    #[test]
    fn rotating_gives_the_old_one_an_end_or_none_of_it_is_left() {
        let mut endpoints = rotated();
        assert_eq!(states(&endpoints, 99), [("old", "expiring"), ("new", "active")]);
        assert_eq!(states(&endpoints, 100), [("old", "expired"), ("new", "active")]);
        for seconds in [0, LONGEST + 1, u64::MAX] {
            let rotated = endpoints.rotate(new("c", 200), Old::Stays(seconds), 200);
            assert_eq!(rotated, Err(Rule::TooLong));
        }
        endpoints.rotate(new("c", 200), Old::Goes, 200).unwrap();
        assert_eq!(states(&endpoints, 200), [("old", "expired"), ("c", "active")]);
        endpoints.rotate(new("d", 200), Old::Stays(1), 200).unwrap();
        assert_eq!(states(&endpoints, 200), [("c", "expiring"), ("d", "active")]);
    }

    #[test]
    fn an_end_is_put_off_until_it_has_passed_and_not_after() {
        let mut endpoints = rotated();
        assert_eq!(endpoints.extend("old", 50, 10), Err(Rule::Earlier));
        assert_eq!(endpoints.extend("old", 90, 10), Err(Rule::Earlier));
        endpoints.extend("old", 300, 99).unwrap();
        assert_eq!(endpoints.all()[0].expires, Some(399));
        assert_eq!(endpoints.extend("old", 300, 399), Err(Rule::Passed));
        assert_eq!(endpoints.extend("new", 300, 10), Err(Rule::Active));
        assert_eq!(endpoints.extend("none", 300, 10), Err(Rule::Unknown));
        assert_eq!(endpoints.extend("old", LONGEST + 1, 10), Err(Rule::TooLong));
    }

    #[test]
    fn any_can_be_revoked_once() {
        let mut endpoints = rotated();
        endpoints.revoke("old").unwrap();
        assert_eq!(endpoints.revoke("old"), Err(Rule::Unknown));
        endpoints.revoke("new").unwrap();
        assert!(endpoints.all().is_empty());
        assert_eq!(endpoints.opens("hash of new", 0), Err(Rule::Unknown));
    }

    #[test]
    fn each_lets_in_until_its_end_and_is_counted_by_itself() {
        let mut endpoints = rotated();
        for (name, now, opens) in [
            ("hash of old", 99, Ok("old")),
            ("hash of old", 100, Err(Rule::Passed)),
            ("hash of new", 100, Ok("new")),
            ("hash of none", 0, Err(Rule::Unknown)),
            ("", 0, Err(Rule::Unknown)),
        ] {
            let opened = endpoints.opens(name, now).map(|endpoint| endpoint.id.as_str());
            assert_eq!(opened, opens, "{name} at {now}");
        }
        endpoints.used("new", 2, 7);
        endpoints.used("new", 1, 5);
        let counts: Vec<_> = endpoints.all().iter().map(|e| (e.used, e.last_used)).collect();
        assert_eq!(counts, [(0, None), (3, Some(7))]);
    }
}
