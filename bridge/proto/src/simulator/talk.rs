//! What a person hears whose provider speaks by itself: words at the pace of speech, cut off when the person speaks. Makes no sound.

use std::time::Duration;

use crate::Instant;

/// Speech takes about so long for each character.
const PER_CHARACTER: Duration = Duration::from_millis(75);
/// An utterance that gets longer than this many octets is told in pieces.
const MOST_OCTETS: usize = 16 * 1024;

/// Words given to the provider, to be spoken.
#[derive(Debug, Default)]
pub(super) struct Talk {
    /// Of the utterance that is not complete.
    open: String,
    speaking: Option<Speaking>,
}

#[derive(Debug)]
struct Speaking {
    words: String,
    since: Instant,
}

impl Talk {
    /// Takes words; gives the utterance that is complete with them.
    pub(super) fn give(&mut self, now: Instant, words: &str, last: bool) -> Option<String> {
        match self.speaking.as_mut().filter(|speaking| speaking.ends() > now) {
            Some(speaking) => speaking.words.push_str(words),
            None => self.speaking = Some(Speaking { words: words.to_owned(), since: now }),
        }
        self.open.push_str(words);
        let whole = last || self.open.len() > MOST_OCTETS;
        whole.then(|| std::mem::take(&mut self.open)).filter(|whole| !whole.is_empty())
    }

    /// When all words will have been spoken, if that is still to come.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.speaking.as_ref().map(Speaking::ends).filter(|end| *end > now)
    }

    /// When all words will have been spoken, or were.
    pub(super) fn ends(&self) -> Option<Instant> {
        self.speaking.as_ref().map(Speaking::ends)
    }

    /// Words that were spoken to their end, once.
    pub(super) fn take_spoken(&mut self, now: Instant) -> Option<String> {
        let over = self.speaking.as_ref().is_some_and(|speaking| speaking.ends() <= now);
        self.speaking.take_if(|_| over).map(|speaking| speaking.words)
    }

    /// The person speaks: the rest is dropped. Gives the words that were heard, in whole words, and for how long they were.
    pub(super) fn interrupt(&mut self, now: Instant) -> Option<(String, Duration)> {
        let speaking = self.speaking.take().filter(|speaking| speaking.ends() > now)?;
        self.open.clear();
        let after = now - speaking.since;
        let characters = (after.as_millis() / PER_CHARACTER.as_millis()) as usize;
        let spoken = speaking.words.char_indices().nth(characters);
        let spoken = &speaking.words[..spoken.map_or(speaking.words.len(), |(at, _)| at)];
        let heard = spoken.rsplit_once(char::is_whitespace).map_or("", |(heard, _)| heard);
        Some((heard.to_owned(), after))
    }
}

impl Speaking {
    fn ends(&self) -> Instant {
        let characters = u32::try_from(self.words.chars().count()).unwrap_or(u32::MAX);
        self.since + PER_CHARACTER.saturating_mul(characters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_utterance_is_told_when_it_is_complete() {
        let mut talk = Talk::default();
        assert_eq!(talk.give(Instant::ZERO, "Life is ", false), None);
        assert_eq!(talk.give(Instant::ZERO, "complex.", true).as_deref(), Some("Life is complex."));
        assert_eq!(talk.give(Instant::ZERO, "", true), None);
        let long = "x".repeat(MOST_OCTETS + 1);
        assert_eq!(talk.give(Instant::ZERO, &long, false), Some(long));
    }

    #[test]
    fn whoever_speaks_while_words_are_spoken_has_heard_the_first_of_them() {
        let mut talk = Talk::default();
        talk.give(Instant::from_millis(100), "Life is a complex", false);
        talk.give(Instant::from_millis(200), " set of processes", true);
        let after = PER_CHARACTER * 12;
        let heard = talk.interrupt(Instant::from_millis(100) + after);
        assert_eq!(heard, Some(("Life is a".to_owned(), after)));
        assert_eq!(talk.interrupt(Instant::from_millis(1_100)), None, "nothing is left");
        talk.give(Instant::from_millis(2_000), "so", true);
        let spoken = Instant::from_millis(2_000) + PER_CHARACTER * 2;
        assert_eq!(talk.until(Instant::from_millis(2_000)), Some(spoken));
        assert_eq!(talk.until(spoken), None);
        assert_eq!(talk.interrupt(spoken), None, "it was spoken to its end");
    }
}
