//! Walks small JSON objects of scalars without a tree and without copies, for messages that come 50 times a second and track.
//! Gives up on anything unusual (escapes, arrays, deep nesting); the caller then asks `serde_json`, which is the judge.

/// Calls `visit(parent, key, value)` for every scalar of the object `text`, at the top (`parent` is empty) and one level down.
/// `value` is what stands between the quotes, or the bare number or word. `None` if the text is not such an object or `visit`
/// said so; what was visited by then means nothing.
pub(super) fn walk<'a>(
    text: &'a str,
    mut visit: impl FnMut(&'a str, &'a str, &'a str) -> Option<()>,
) -> Option<()> {
    let mut cursor = Cursor::new(text);
    cursor.members(|cursor, key| {
        if cursor.peek()? == b'{' {
            cursor.members(|cursor, inner| visit(key, inner, cursor.scalar()?))
        } else {
            visit("", key, cursor.scalar()?)
        }
    })?;
    cursor.peek().is_none().then_some(())
}

/// Like [`walk`], but down to six levels, for envelopes within envelopes: `visit(path, value)` gets the names of all members that
/// lead to the scalar.
pub(super) fn walk_deep<'a>(
    text: &'a str,
    mut visit: impl FnMut(&[&'a str], &'a str) -> Option<()>,
) -> Option<()> {
    let mut cursor = Cursor::new(text);
    descend(&mut cursor, &mut [""; DEEPEST], 0, &mut visit)?;
    cursor.peek().is_none().then_some(())
}

const DEEPEST: usize = 6;

fn descend<'a>(
    cursor: &mut Cursor<'a>,
    path: &mut [&'a str; DEEPEST],
    depth: usize,
    visit: &mut impl FnMut(&[&'a str], &'a str) -> Option<()>,
) -> Option<()> {
    cursor.members(|cursor, key| {
        *path.get_mut(depth)? = key;
        if cursor.peek()? == b'{' {
            descend(cursor, path, depth + 1, visit)
        } else {
            visit(&path[..=depth], cursor.scalar()?)
        }
    })
}

/// A place in a text. Every step that does not find what it looks for gives `None`.
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the beginning of `text`.
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Over exactly these characters.
    #[inline(always)]
    pub(super) fn literal(&mut self, expected: &'static str) -> Option<()> {
        let found = self.text.as_bytes()[self.at..].starts_with(expected.as_bytes());
        found.then(|| self.at += expected.len())
    }

    /// Over a number of up to 19 digits.
    #[inline]
    pub(super) fn digits(&mut self) -> Option<u64> {
        let start = self.at;
        let mut number = 0;
        while let Some(digit @ b'0'..=b'9') = self.text.as_bytes().get(self.at) {
            number = u64::wrapping_add(u64::wrapping_mul(number, 10), u64::from(digit - b'0'));
            self.at += 1;
        }
        (1..20).contains(&(self.at - start)).then_some(number)
    }

    /// What is left.
    #[inline]
    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next octet that is not white space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.text.as_bytes().get(self.at)? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                octet => return Some(octet),
            }
        }
    }

    #[inline]
    fn expect(&mut self, octet: u8) -> Option<()> {
        (self.peek()? == octet).then(|| self.at += 1)
    }

    #[inline]
    fn members(&mut self, mut member: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            member(self, key)?;
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    #[inline]
    fn scalar(&mut self) -> Option<&'a str> {
        if self.peek()? == b'"' { self.string() } else { self.bare() }
    }

    #[inline]
    fn string(&mut self) -> Option<&'a str> {
        self.expect(b'"')?;
        self.rest_of_string()
    }

    /// Over what is left of a string without escapes, and its closing quote.
    #[inline]
    fn rest_of_string(&mut self) -> Option<&'a str> {
        let start = self.at;
        let end = start + string_end(&self.text.as_bytes()[start..])?;
        self.at = end + 1;
        self.text.get(start..end)
    }

    fn bare(&mut self) -> Option<&'a str> {
        let rest = &self.text.as_bytes()[self.at..];
        let len = rest
            .iter()
            .position(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'z' | b'+' | b'-' | b'.' | b'E'))?;
        let start = self.at;
        self.at += len;
        (len > 0).then(|| &self.text[start..self.at])
    }
}

/// Octets up to the closing quote, or `None` where an escape or control character comes first.
#[inline]
fn string_end(octets: &[u8]) -> Option<usize> {
    // Most strings are shorter than this; a payload is worth longer steps.
    const SHORT: usize = 16;
    const STEP: usize = 32;
    let mut at = 0;
    if let Some(end) = special(octets.get(..SHORT).unwrap_or(octets)) {
        return (octets[end] == b'"').then_some(end);
    }
    while let Some(step) = octets.get(at..).and_then(|rest| rest.first_chunk::<STEP>()) {
        let hits = |hits, octet: &u8| hits | u8::from(is_special(*octet));
        if step.iter().fold(0, hits) != 0 {
            break;
        }
        at += STEP;
    }
    let end = at + special(octets.get(at..)?)?;
    (octets[end] == b'"').then_some(end)
}

/// Without branches, so that many are compared at once.
const fn is_special(octet: u8) -> bool {
    (octet == b'"') | (octet == b'\\') | (octet < 0x20)
}

/// Where the first quote, backslash or control character is; looks at eight octets at a time.
#[inline]
fn special(octets: &[u8]) -> Option<usize> {
    let (words, rest) = octets.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let special = special_octets(u64::from_le_bytes(*word));
        if special != 0 {
            return Some(at * 8 + special.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|octet| is_special(*octet))?;
    Some(words.len() * 8 + at)
}

/// The highest bit of the first octet that is a quote, a backslash or a control character, if there is one; bits above it mean
/// nothing. (Subtracting borrows from the octet above only where this one is found.)
#[inline]
const fn special_octets(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    const fn zero(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word
    }
    let quote = zero(word ^ (ONES * b'"' as u64));
    let backslash = zero(word ^ (ONES * b'\\' as u64));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (quote | backslash | control) & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Option<Vec<(&str, &str, &str)>> {
        let mut found = Vec::new();
        walk(text, |parent, key, value| {
            found.push((parent, key, value));
            Some(())
        })?;
        Some(found)
    }

    #[test]
    fn finds_scalars_of_two_levels_in_any_order() {
        let text = r#" { "a" : {"b":"1", "c": 2.5}, "d":null,"e":"" , "f":{}} "#;
        let expected = vec![("a", "b", "1"), ("a", "c", "2.5"), ("", "d", "null"), ("", "e", "")];
        assert_eq!(all(text), Some(expected));
        assert_eq!(all("{}"), Some(vec![]));
    }

    #[test]
    fn finds_scalars_of_six_levels() {
        let all = |text: &str| {
            let mut found = Vec::new();
            walk_deep(text, |path, value| {
                found.push(format!("{}={value}", path.join(".")));
                Some(())
            })?;
            Some(found)
        };
        let text = r#"{"a":{"b":{"c":1},"d":"x"},"e":{},"f":null}"#;
        assert_eq!(all(text), Some(vec!["a.b.c=1".into(), "a.d=x".into(), "f=null".into()]));
        let nested =
            |levels: usize| format!("{}1{}", r#"{"k":"#.repeat(levels), "}".repeat(levels));
        assert_eq!(all(&nested(6)), Some(vec!["k.k.k.k.k.k=1".into()]));
        assert_eq!((all(&nested(7)), all(r#"{"a":{"b":[]}}"#), all("{}x")), (None, None, None));
    }

    #[test]
    fn strings_of_every_length_end_where_they_end() {
        for len in 0..200 {
            let value = "x".repeat(len);
            assert_eq!(all(&format!(r#"{{"k":"{value}"}}"#)), Some(vec![("", "k", &*value)]));
            assert_eq!(all(&format!(r#"{{"k":"{value}\n"}}"#)), None, "an escape");
            assert_eq!(all(&format!("{{\"k\":\"{value}\n\"}}")), None, "a control character");
        }
    }

    #[test]
    fn gives_up_on_everything_else() {
        for text in [
            "",
            "[]",
            "{",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":[1]}"#,
            r#"{"a":{"b":{}}}"#,
            r#"{"a":1}x"#,
            r#"{"a":1,}"#,
            r#"{"a":1 "b":2}"#,
            r#"{"a":"1}"#,
            r#"{a:1}"#,
        ] {
            assert_eq!(all(text), None, "{text}");
        }
    }
}
