//! Names of marks for wires that take short words only: what does not fit gets a number. Knows no wire.

use std::collections::VecDeque;

/// Marks under way on a stream, as far as their names had to be replaced.
#[derive(Debug)]
pub(super) struct ShortMarks {
    longest: usize,
    next: u64,
    numbered: VecDeque<(String, String)>,
}

impl ShortMarks {
    /// Numbered marks remembered; the oldest is forgotten beyond that.
    const MOST: usize = 1024;

    /// For wires that take words of up to `longest` printable ASCII characters.
    pub(super) const fn new(longest: usize) -> Self {
        Self { longest, next: 0, numbered: VecDeque::new() }
    }

    /// What to call the mark on the wire.
    pub(super) fn wire_name(&mut self, name: &str) -> String {
        let fits = (1..=self.longest).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_graphic())
            && !name.starts_with('~');
        if fits {
            return name.to_owned();
        }
        if self.numbered.len() == Self::MOST {
            self.numbered.pop_front();
        }
        self.next += 1;
        let number = format!("~{}", self.next);
        self.numbered.push_back((number.clone(), name.to_owned()));
        number
    }

    /// What the mark was called by who set it; nothing if it is not under way.
    pub(super) fn name(&mut self, wire: &str) -> Option<String> {
        if !wire.starts_with('~') {
            return Some(wire.to_owned());
        }
        let at = self.numbered.iter().position(|(number, _)| number == wire)?;
        self.numbered.remove(at).map(|(_, name)| name)
    }

    /// Forgets all marks, none will be reported any more.
    pub(super) fn clear(&mut self) {
        self.numbered.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_whatever_they_are() {
        let mut marks = ShortMarks::new(8);
        assert_eq!(marks.wire_name("utt-1:80"), "utt-1:80");
        let names = ["utt-1:800", "", "two words", "caf\u{e9}", "~1"];
        let wire: Vec<_> = names.iter().map(|name| marks.wire_name(name)).collect();
        assert!(wire.iter().all(|name| name.len() <= 8 && name.is_ascii()), "{wire:?}");
        for (name, wire) in names.iter().zip(&wire).rev() {
            assert_eq!(marks.name(wire).as_deref(), Some(*name));
            assert_eq!(marks.name(wire), None, "reported twice");
        }
    }

    #[test]
    fn memory_is_bounded_and_cleared() {
        let mut marks = ShortMarks::new(8);
        let first = marks.wire_name("two words");
        for _ in 0..ShortMarks::MOST {
            marks.wire_name("two words");
        }
        assert_eq!((marks.numbered.len(), marks.name(&first)), (ShortMarks::MOST, None));
        marks.clear();
        assert_eq!(marks.name("~5"), None);
    }
}
