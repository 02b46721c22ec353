//! JSON values that follow each other without a separator, put together from pieces as they come. Pure; gives the values no meaning.

use serde_json::Value;

/// Takes octets and gives values as soon as each is complete.
///
/// Texts, lists and objects end by themselves. A bare number or word ends where something else begins, or at the [`Self::edge`] of
/// a piece: clients send one value at a time, and `1` and `23` would be `123` otherwise.
#[derive(Debug)]
pub(super) struct Values {
    value: Vec<u8>,
    state: State,
    limit: usize,
}

/// Where the next octet belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    /// A number, `true`, `false` or `null`.
    Bare,
    /// A text at the top.
    Text {
        escaped: bool,
    },
    /// A list or object, so many deep; perhaps within a text.
    Nested {
        depth: usize,
        text: Option<bool>,
    },
}

/// Why what came is no sequence of values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadValue {
    /// It is not JSON.
    #[error("it sent what is not JSON ({reason}): {quote}")]
    NotJson {
        /// What the parser says.
        reason: String,
        /// How it begins.
        quote: String,
    },
    /// It has no end in sight.
    #[error("it sent a value of more than {limit} octets")]
    TooLong {
        /// Octets that a value may have.
        limit: usize,
    },
    /// It ends within a value.
    #[error("its answer ends within a value")]
    CutShort,
}

/// Characters of what is not JSON that are quoted.
const MAX_QUOTE: usize = 200;

impl Values {
    /// For values of up to `limit` octets.
    pub(super) const fn new(limit: usize) -> Self {
        Self { value: Vec::new(), state: State::Between, limit }
    }

    /// Takes what came and appends what it completes.
    pub(super) fn push(&mut self, octets: &[u8], out: &mut Vec<Value>) -> Result<(), BadValue> {
        for &octet in octets {
            if self.state == State::Bare && !is_bare(octet) {
                self.complete(out)?;
            }
            if self.state == State::Between {
                if octet.is_ascii_whitespace() {
                    continue;
                }
                self.state = begin(octet);
            } else {
                self.state = next(self.state, octet);
            }
            if self.value.len() == self.limit {
                return Err(BadValue::TooLong { limit: self.limit });
            }
            self.value.push(octet);
            if self.state == State::Between {
                self.complete(out)?;
            }
        }
        Ok(())
    }

    /// What came last came as a piece of its own: a bare number or word is complete.
    pub(super) fn edge(&mut self, out: &mut Vec<Value>) -> Result<(), BadValue> {
        if self.state == State::Bare { self.complete(out) } else { Ok(()) }
    }

    /// Nothing more comes.
    pub(super) fn finish(mut self, out: &mut Vec<Value>) -> Result<(), BadValue> {
        self.edge(out)?;
        if self.value.is_empty() { Ok(()) } else { Err(BadValue::CutShort) }
    }

    fn complete(&mut self, out: &mut Vec<Value>) -> Result<(), BadValue> {
        self.state = State::Between;
        let value = whole(&self.value);
        self.value.clear();
        out.push(value?);
        Ok(())
    }
}

/// The one value that `octets` are.
pub(super) fn whole(octets: &[u8]) -> Result<Value, BadValue> {
    serde_json::from_slice(octets).map_err(|error| BadValue::NotJson {
        reason: error.to_string(),
        quote: String::from_utf8_lossy(octets).escape_debug().take(MAX_QUOTE).collect(),
    })
}

const fn is_bare(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.')
}

/// What the first octet of a value says of it. What can begin none is left to the parser to name.
const fn begin(octet: u8) -> State {
    match octet {
        b'"' => State::Text { escaped: false },
        b'{' | b'[' => State::Nested { depth: 1, text: None },
        octet if is_bare(octet) => State::Bare,
        _ => State::Between,
    }
}

const fn next(state: State, octet: u8) -> State {
    match (state, octet) {
        (State::Text { escaped: false }, b'"') => State::Between,
        (State::Text { escaped }, octet) => State::Text { escaped: !escaped && octet == b'\\' },
        (State::Nested { depth, text: Some(false) }, b'"') => State::Nested { depth, text: None },
        (State::Nested { depth, text: Some(escaped) }, octet) => {
            State::Nested { depth, text: Some(!escaped && octet == b'\\') }
        }
        (State::Nested { depth, text: None }, b'"') => State::Nested { depth, text: Some(false) },
        (State::Nested { depth, text: None }, b'{' | b'[') => {
            State::Nested { depth: depth + 1, text: None }
        }
        (State::Nested { depth: 1, text: None }, b'}' | b']') => State::Between,
        (State::Nested { depth, text: None }, b'}' | b']') => {
            State::Nested { depth: depth - 1, text: None }
        }
        (state, _) => state,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Values out of pieces, each with an edge behind it.
    fn read(pieces: &[&str]) -> Result<Vec<Value>, BadValue> {
        let (mut values, mut out) = (Values::new(64), Vec::new());
        for piece in pieces {
            values.push(piece.as_bytes(), &mut out)?;
            values.edge(&mut out)?;
        }
        values.finish(&mut out)?;
        Ok(out)
    }

    #[test]
    fn values_without_a_separator_are_told_apart() {
        assert_eq!(read(&["\"real\"\"time\""]), Ok(vec![json!("real"), json!("time")]));
        assert_eq!(
            read(&["{\"a\":[1,{}]}{\"b\":\"}\\\"\"}[]"]),
            Ok(vec![json!({"a": [1, {}]}), json!({"b": "}\""}), json!([])])
        );
        assert_eq!(read(&["1 2\n3\"x\"true{}"]).unwrap().len(), 6);
    }

    #[test]
    fn the_edge_of_a_piece_ends_a_number() {
        assert_eq!(
            read(&["1", "23", "4", "true"]).unwrap(),
            [1, 23, 4].map(Value::from).into_iter().chain([json!(true)]).collect::<Vec<_>>()
        );
        assert_eq!(
            read(&["{\"a\":", "1", "2}"]),
            Ok(vec![json!({"a": 12})]),
            "not within an object"
        );
    }

    #[test]
    fn what_is_no_value_is_said() {
        assert!(matches!(read(&["nonsense "]), Err(BadValue::NotJson { .. })));
        assert!(matches!(read(&["}"]), Err(BadValue::NotJson { .. })));
        assert_eq!(read(&["\"half"]), Err(BadValue::CutShort));
        assert_eq!(read(&[&"[".repeat(65)]), Err(BadValue::TooLong { limit: 64 }));
        assert_eq!(read(&[" \n"]), Ok(vec![]));
    }

    proptest! {
        /// Wherever objects are cut, the same come out.
        #[test]
        fn cuts_do_not_matter(texts in proptest::collection::vec(".{0,9}", 1..6), cut in 1_usize..9) {
            let values: Vec<_> = texts.iter().map(|text| json!({"t": text, "l": [text]})).collect();
            let octets: Vec<u8> = values.iter().flat_map(|value| value.to_string().into_bytes()).collect();
            let (mut reader, mut out) = (Values::new(1_024), Vec::new());
            for piece in octets.chunks(cut) {
                reader.push(piece, &mut out).unwrap();
                reader.edge(&mut out).unwrap();
            }
            reader.finish(&mut out).unwrap();
            prop_assert_eq!(out, values);
        }
    }
}
