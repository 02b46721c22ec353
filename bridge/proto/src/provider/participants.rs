//! Who of several speakers on one stream is heard, where a call has one caller and nothing is mixed. Knows no wire.

use super::{Event, Notice};

/// The speakers of a stream.
pub(super) struct Participants {
    heard: Option<String>,
    /// Who is not heard, as far as that was said.
    others: Vec<String>,
}

impl Participants {
    /// Others reported; a conference with more has told enough.
    const MOST_OTHERS: usize = 16;

    /// The one to be heard, or else whoever speaks first.
    pub(super) const fn new(heard: Option<String>) -> Self {
        Self { heard, others: Vec::new() }
    }

    /// Whether that one is heard.
    pub(super) fn hears(&mut self, who: &str) -> bool {
        self.heard.get_or_insert_with(|| who.to_owned()) == who
    }

    /// That one spoke and is not heard: something to report, once.
    pub(super) fn report(&mut self, who: &str) -> Option<Event> {
        if self.others.len() == Self::MOST_OTHERS || self.others.iter().any(|other| other == who) {
            return None;
        }
        self.others.push(who.to_owned());
        Some(Event::Notice(Notice::unknown("sound of one more caller")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_or_the_named_one_is_heard_and_others_are_reported_once() {
        let mut first = Participants::new(None);
        assert!(first.hears("a") && !first.hears("b") && first.hears("a"));
        assert!(first.report("b").is_some() && first.report("b").is_none());
        assert!(first.report("c").is_some());
        let mut named = Participants::new(Some("b".into()));
        assert!(!named.hears("a") && named.hears("b"));
        let reported = (0..100).filter_map(|i| named.report(&i.to_string())).count();
        assert_eq!(reported, Participants::MOST_OTHERS);
    }
}
