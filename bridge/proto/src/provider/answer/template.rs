//! Texts with `{{words}}` in them, filled in once, and how values are written so that they stay values. Knows no provider.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What a URL's parts may hold as it stands (RFC 3986, 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A language of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    Xml,
    Json,
}

impl Syntax {
    /// `text` as it stands between the quotes of this language, or between XML tags.
    pub(super) fn escape(self, text: &str) -> String {
        let mut escaped = String::with_capacity(text.len());
        for c in text.chars() {
            match (self, c) {
                (Self::Xml, '&') => escaped.push_str("&amp;"),
                (Self::Xml, '<') => escaped.push_str("&lt;"),
                (Self::Xml, '>') => escaped.push_str("&gt;"),
                (Self::Xml, '"') => escaped.push_str("&quot;"),
                (Self::Xml, '\'') => escaped.push_str("&apos;"),
                (Self::Json, '"' | '\\') => escaped.extend(['\\', c]),
                (Self::Json, c) if c.is_control() => {
                    // Writing to a string cannot fail.
                    let _ = write!(escaped, "\\u{:04x}", u32::from(c));
                }
                _ => escaped.push(c),
            }
        }
        escaped
    }
}

/// `template` with `value` of each of its words; a word that has none stays as it is. What was filled in is not looked at again.
pub(super) fn fill(template: &str, mut value: impl FnMut(&str) -> Option<String>) -> String {
    let mut whole = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        whole.push_str(before);
        let word = after.split_once("}}").and_then(|(word, left)| Some((value(word)?, left)));
        match word {
            Some((value, left)) => {
                whole.push_str(&value);
                rest = left;
            }
            None => {
                whole.push_str("{{");
                rest = after;
            }
        }
    }
    whole + rest
}

/// Percent-encoded, for a query or a segment of a path.
pub(super) fn percent(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}
