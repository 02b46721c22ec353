//! Where what we say begins and ends, for wires that want to be told both. Sound comes without an end of its own, so a pause is
//! taken for one. Knows no wire.

use std::time::Duration;

use crate::Instant;

/// What we are saying, if anything.
#[derive(Debug, Default)]
pub(super) struct Utterance {
    over_at: Option<Instant>,
}

impl Utterance {
    /// As long without sound, and it is over. Longer than what a network or a busy machine holds back, shorter than anybody waits.
    const PAUSE: Duration = Duration::from_millis(400);

    /// Sound is said; whether it is the first of an utterance.
    pub(super) fn say(&mut self, now: Instant) -> bool {
        self.over_at.replace(now + Self::PAUSE).is_none()
    }

    /// Ends it; whether there was one.
    pub(super) fn end(&mut self) -> bool {
        self.over_at.take().is_some()
    }

    /// Ends it if there was no sound for long enough; whether that is so.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        self.over_at.is_some_and(|at| at <= now) && self.end()
    }

    /// Whether there is one.
    pub(super) const fn is_under_way(&self) -> bool {
        self.over_at.is_some()
    }

    /// When it is over if nothing more is said.
    pub(super) const fn over_at(&self) -> Option<Instant> {
        self.over_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_it() {
        let at = Instant::from_millis;
        let mut utterance = Utterance::default();
        assert!(utterance.say(at(0)) && !utterance.say(at(300)) && utterance.is_under_way());
        assert_eq!(utterance.over_at(), Some(at(700)));
        assert!(
            !utterance.expire(at(699)) && utterance.expire(at(700)) && !utterance.expire(at(701))
        );
        assert!(utterance.say(at(800)) && utterance.end() && !utterance.end());
    }
}
