//! Messages by their pattern: JSON as it goes over the wire, with `$words` where it differs from message to message. Reads nothing.

use std::fmt::Write as _;

use super::super::{base64, json};

/// What a pattern's words stand for that change with every message. A word that is none of these is given when the pattern is
/// made a [`Template`], once for a stream.
const SLOTS: [(&str, Slot); 8] = [
    ("payload", Slot::Payload),
    ("sequence", Slot::Sequence),
    ("chunk", Slot::Chunk),
    ("ms", Slot::Milliseconds),
    ("track", Slot::Track),
    ("name", Slot::Name),
    ("digit", Slot::Digit),
    ("octets", Slot::Octets),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// The sound in base64, without quotes.
    Payload,
    /// Counts all messages from 1.
    Sequence,
    /// Counts the messages of the track from 1.
    Chunk,
    /// Time of the sound on its track.
    Milliseconds,
    /// The track's name, without quotes.
    Track,
    /// A mark's name as JSON, quotes included.
    Name,
    /// A key, without quotes.
    Digit,
    /// Octets of sound before it is base64.
    Octets,
}

/// What goes into the slots of a message.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Values<'a> {
    pub(in super::super) payload: &'a [u8],
    pub(in super::super) sequence: u64,
    pub(in super::super) chunk: u64,
    pub(in super::super) milliseconds: u64,
    pub(in super::super) track: &'static str,
    pub(in super::super) name: &'a str,
    pub(in super::super) digit: char,
}

impl Default for Values<'_> {
    fn default() -> Self {
        Self {
            payload: &[],
            sequence: 0,
            chunk: 0,
            milliseconds: 0,
            track: "inbound",
            name: "",
            digit: '0',
        }
    }
}

/// A message of one stream, ready but for its slots.
#[derive(Debug, Clone)]
pub(in super::super) struct Template {
    /// UTF-8, in which [`MARKER`] cannot occur, and a marker before the number of each slot.
    pieces: Box<[u8]>,
    /// Whether it tells its number among all messages.
    pub(super) counts: bool,
}

/// Octet that no UTF-8 has.
const MARKER: u8 = 0xFF;

impl Template {
    /// Makes `pattern` a template of a stream of which these words, JSON as it stands, are known.
    pub(in super::super) fn new(pattern: &str, known: &[(&str, String)]) -> Self {
        let mut pieces = Vec::with_capacity(pattern.len() + 32);
        let mut rest = pattern;
        let mut counts = false;
        while let Some((before, after)) = rest.split_once('$') {
            pieces.extend_from_slice(before.as_bytes());
            let len = after.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(after.len());
            let (word, behind) = after.split_at(len);
            if let Some(slot) = SLOTS.iter().position(|(name, _)| *name == word) {
                pieces.extend([MARKER, slot as u8]);
                counts |= SLOTS[slot].1 == Slot::Sequence;
            } else {
                let value = known.iter().find(|(name, _)| *name == word).map(|(_, value)| value);
                debug_assert!(value.is_some(), "${word} of {pattern} is not known");
                pieces.extend_from_slice(value.map_or("null", String::as_str).as_bytes());
            }
            rest = behind;
        }
        pieces.extend_from_slice(rest.as_bytes());
        Self { pieces: pieces.into(), counts }
    }

    /// Appends the message.
    pub(in super::super) fn print(&self, values: &Values<'_>, text: &mut Vec<u8>) {
        let mut pieces = self.pieces.split(|octet| *octet == MARKER);
        text.extend_from_slice(pieces.next().unwrap_or_default());
        for piece in pieces {
            let Some((slot, literal)) = piece.split_first() else { continue };
            if let Some((_, slot)) = SLOTS.get(usize::from(*slot)) {
                slot.print(values, text);
            }
            text.extend_from_slice(literal);
        }
    }
}

impl Slot {
    fn print(self, values: &Values<'_>, text: &mut Vec<u8>) {
        match self {
            Self::Payload => base64::encode(values.payload, text),
            Self::Sequence => json::digits(values.sequence, text),
            Self::Chunk => json::digits(values.chunk, text),
            Self::Milliseconds => json::digits(values.milliseconds, text),
            Self::Track => text.extend_from_slice(values.track.as_bytes()),
            Self::Name => json::quote(values.name, text),
            Self::Digit => text.extend_from_slice(values.digit.encode_utf8(&mut [0; 4]).as_bytes()),
            Self::Octets => json::digits(values.payload.len() as u64, text),
        }
    }
}

/// Texts as a JSON list.
pub(super) fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let mut list = String::from("[");
    for (i, item) in items.enumerate() {
        let comma = if i == 0 { "" } else { "," };
        write!(list, "{comma}{}", json::Quoted(item)).expect("writing to memory cannot fail");
    }
    list.push(']');
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_and_known_words_are_filled_in() {
        let pattern =
            r#"{"e":"media","id":$stream,"n":"$sequence","m":{"p":"$payload","o":$octets}}"#;
        let template = Template::new(pattern, &[("stream", "\"é$\"".into())]);
        let values = Values { payload: &[255, 0], sequence: 7, ..Values::default() };
        let mut text = b"before ".to_vec();
        template.print(&values, &mut text);
        let expected = r#"before {"e":"media","id":"é$","n":"7","m":{"p":"/wA=","o":2}}"#;
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn every_slot_prints() {
        let words: Vec<_> = SLOTS.iter().map(|(name, _)| format!("${name}")).collect();
        let template = Template::new(&words.join(" "), &[]);
        let values =
            Values { name: "a\"", digit: '#', chunk: 3, milliseconds: 40, ..Values::default() };
        let mut text = Vec::new();
        template.print(&values, &mut text);
        assert_eq!(String::from_utf8(text).unwrap(), r#" 0 3 40 inbound "a\"" # 0"#);
    }

    #[test]
    fn lists_are_json() {
        assert_eq!(list(["a", "\""].into_iter()), r#"["a","\""]"#);
        assert_eq!(list(std::iter::empty()), "[]");
    }
}
