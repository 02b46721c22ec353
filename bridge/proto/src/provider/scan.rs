//! Walks small JSON objects of scalars without a tree and without copies, for messages that come 50 times a second and track.
//! Gives up on anything unusual (escapes, arrays, deep nesting); the caller then asks `serde_json`, which is the judge.

/// Calls `visit(parent, key, value)` for every scalar of the object `text`, at the top (`parent` is empty) and one level down.
/// `value` is what stands between the quotes, or the bare number or word. `None` if the text is not such an object or `visit`
/// said so; what was visited by then means nothing.
pub(super) fn walk<'a>(
    text: &'a str,
    mut visit: impl FnMut(&'a str, &'a str, &'a str) -> Option<()>,
) -> Option<()> {
    let mut cursor = Cursor { text, at: 0 };
    cursor.members(|cursor, key| {
        if cursor.peek()? == b'{' {
            cursor.members(|cursor, inner| visit(key, inner, cursor.scalar()?))
        } else {
            visit("", key, cursor.scalar()?)
        }
    })?;
    cursor.peek().is_none().then_some(())
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
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
    const STEP: usize = 32;
    let mut at = 0;
    // Most strings are short: only what is longer than a stream's name is worth whole steps.
    while at < STEP {
        match *octets.get(at)? {
            b'"' => return Some(at),
            b'\\' | 0..0x20 => return None,
            _ => at += 1,
        }
    }
    while let Some(step) = octets.get(at..at + STEP) {
        let ends = |b: &u8| *b == b'"' || *b == b'\\' || *b < 0x20;
        if step.iter().fold(false, |hit, b| hit | ends(b)) {
            break;
        }
        at += STEP;
    }
    loop {
        match *octets.get(at)? {
            b'"' => return Some(at),
            b'\\' | 0..0x20 => return None,
            _ => at += 1,
        }
    }
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
