//! Messages by their pattern: JSON as it goes over the wire, with `$words` where it differs from message to message. Reads nothing.

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
    /// The literal pieces, end to end.
    text: Box<str>,
    /// Where each slot is among them.
    slots: Box<[(usize, Slot)]>,
    /// Whether it tells its number among all messages.
    pub(super) counts: bool,
}

impl Template {
    /// Makes `pattern` a template of a stream of which these words, JSON as it stands, are known.
    pub(in super::super) fn new(pattern: &str, known: &[(&str, String)]) -> Self {
        let (mut text, mut slots) = (String::with_capacity(pattern.len() + 32), Vec::new());
        let mut rest = pattern;
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            let len = after.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(after.len());
            let (word, behind) = after.split_at(len);
            if let Some((_, slot)) = SLOTS.iter().find(|(name, _)| *name == word) {
                slots.push((text.len(), *slot));
            } else {
                let value = known.iter().find(|(name, _)| *name == word).map(|(_, value)| value);
                debug_assert!(value.is_some(), "${word} of {pattern} is not known");
                text.push_str(value.map_or("null", String::as_str));
            }
            rest = behind;
        }
        text.push_str(rest);
        let counts = slots.iter().any(|(_, slot)| *slot == Slot::Sequence);
        Self { text: text.into(), slots: slots.into(), counts }
    }

    /// Appends the message.
    pub(in super::super) fn print(&self, values: &Values<'_>, text: &mut Vec<u8>) {
        let mut from = 0;
        for (at, slot) in &self.slots {
            text.extend_from_slice(&self.text.as_bytes()[from..*at]);
            slot.print(values, text);
            from = *at;
        }
        text.extend_from_slice(&self.text.as_bytes()[from..]);
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

/// Whether messages of this pattern tell numbers or times of sound.
pub(super) fn counts(pattern: &str) -> bool {
    ["$chunk", "$ms"].iter().any(|word| pattern.contains(word))
}

/// A JSON list of what `item` is with each of these values.
pub(super) fn list<'a>(item: &Template, values: impl Iterator<Item = Values<'a>>) -> String {
    let mut list = vec![b'['];
    for (i, values) in values.enumerate() {
        list.extend_from_slice(if i == 0 { b"" } else { b"," });
        item.print(&values, &mut list);
    }
    list.push(b']');
    String::from_utf8(list).expect("patterns and what fills them are UTF-8")
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
        let item = Template::new(r#"{"n":$name}"#, &[]);
        let named = |name| Values { name, ..Values::default() };
        let items = ["a", "\""].into_iter().map(named);
        assert_eq!(list(&item, items), r#"[{"n":"a"},{"n":"\""}]"#);
        assert_eq!(list(&item, std::iter::empty()), "[]");
    }
}
