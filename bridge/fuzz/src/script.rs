//! Octets as a script: numbers and pieces one after another, read from whatever there is and written for seeds. Knows no target.
//!
//! Every sequence of octets is a script: what is missing reads as zero and empty, and a piece ends where the octets do. So whatever
//! a fuzzer does to one, something happens.

use std::time::Duration;

/// One length of so many is of a script that is about time.
const LONG_EVERY: usize = 32;

/// Time that may pass in a script of so many octets: one length in 32 is about time and has `longest`, the others are about what is said
/// and have a second at most. It hangs on the length alone, so that an input means the same wherever it is run.
#[must_use]
pub fn time(length: usize, longest: Duration) -> Duration {
    const SHORT: [u64; 8] = [60, 20, 120, 500, 40, 250, 1_000, 60];
    if length.is_multiple_of(LONG_EVERY) {
        longest
    } else {
        longest.min(Duration::from_millis(SHORT[length % SHORT.len()]))
    }
}

/// Reads a script.
#[derive(Debug, Clone, Copy)]
pub struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    /// All of it is still to come.
    #[must_use]
    pub const fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next octet, 0 behind the end.
    pub fn octet(&mut self) -> u8 {
        let Some((&first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        first
    }

    /// The next number of two octets, little-endian.
    pub fn number(&mut self) -> u16 {
        u16::from_le_bytes([self.octet(), self.octet()])
    }

    /// The next piece: its length as a number, and so many octets, or as many as there are.
    pub fn piece(&mut self) -> &'a [u8] {
        let length = usize::from(self.number()).min(self.rest.len());
        let (piece, rest) = self.rest.split_at(length);
        self.rest = rest;
        piece
    }

    /// The next piece as text; what is not UTF-8 becomes U+FFFD.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.piece()).into_owned()
    }

    /// All that is left.
    pub const fn rest(&mut self) -> &'a [u8] {
        let rest = self.rest;
        self.rest = &[];
        rest
    }
}

/// Writes a script.
#[derive(Debug, Clone, Default)]
pub struct Draft(Vec<u8>);

impl Draft {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An octet.
    #[must_use]
    pub fn octet(mut self, octet: u8) -> Self {
        self.0.push(octet);
        self
    }

    /// A number.
    #[must_use]
    pub fn number(mut self, number: u16) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    /// A piece; what is beyond 65,535 octets is left out.
    #[must_use]
    pub fn piece(self, octets: &[u8]) -> Self {
        let length = u16::try_from(octets.len()).unwrap_or(u16::MAX);
        let mut draft = self.number(length);
        draft.0.extend(&octets[..usize::from(length)]);
        draft
    }

    /// The octets.
    #[must_use]
    pub fn done(self) -> Vec<u8> {
        self.0
    }

    /// The octets, with `idle` behind them until [`time`] gives such a script all it can.
    #[must_use]
    pub fn done_with_time(mut self, idle: [u8; 3]) -> Vec<u8> {
        while !self.0.len().is_multiple_of(LONG_EVERY) {
            self.0.extend(idle);
        }
        self.0
    }
}
