//! What JSON wires share: an ordered tree read by path, tolerant of quoted numbers, quoting, and errors that show where without
//! showing secrets. For control messages; media messages have `scan`.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Digit, Event, Line, Outbox, ProtocolError};
use crate::Instant;

/// A JSON value. Numbers and truth values are kept as written: providers, and even pages of one provider's documentation,
/// disagree on which fields are quoted, so [`Node::text`] and [`Node::number`] read either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node<'a> {
    /// `null`.
    Null,
    /// Text without its quotes.
    Text(Cow<'a, str>),
    /// A number or truth value.
    Bare(String),
    /// An array.
    List(Vec<Self>),
    /// An object, in the sender's order.
    Object(Vec<(Cow<'a, str>, Self)>),
}

impl<'a> Node<'a> {
    /// Parses `text`, or says that message `index` of the stream is not `expected`.
    pub(super) fn parse(
        index: u64,
        expected: &'static str,
        text: &'a str,
    ) -> Result<Self, ProtocolError> {
        serde_json::from_str(text).map_err(|error| malformed(index, expected, text, &error))
    }

    /// Parses one value after the other, with or without space between them; nothing follows one that is wrong.
    pub(super) fn parse_all(
        index: u64,
        expected: &'static str,
        text: &'a str,
    ) -> impl Iterator<Item = Result<Self, ProtocolError>> {
        let values = serde_json::Deserializer::from_str(text).into_iter();
        values.map(move |value| value.map_err(|error| malformed(index, expected, text, &error)))
    }

    /// The value at a path of member names joined by dots, items of lists by their number; `null` counts as absent.
    pub(super) fn get(&self, path: &str) -> Option<&Self> {
        let found = path.split('.').try_fold(self, |node, name| match node {
            Self::Object(members) => {
                members.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
            }
            Self::List(items) => items.get(name.parse::<usize>().ok()?),
            _ => None,
        })?;
        (*found != Self::Null).then_some(found)
    }

    /// The scalar at a path.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        match self.get(path)? {
            Self::Text(text) => Some(text),
            Self::Bare(text) => Some(text),
            _ => None,
        }
    }

    /// The scalar at the first of these paths that leads to one.
    pub(super) fn first(&self, paths: &[&str]) -> Option<&str> {
        paths.iter().find_map(|path| self.text(path))
    }

    /// The whole number at a path, quoted or not; fractions are cut, signs refused.
    pub(super) fn number(&self, path: &str) -> Option<u64> {
        whole(self.text(path)?)
    }

    /// The scalars of the array at a path; what is no scalar is left out.
    pub(super) fn list(&self, path: &str) -> impl Iterator<Item = &str> {
        self.items(path).iter().filter_map(|item| match item {
            Self::Text(text) => Some(text.as_ref()),
            Self::Bare(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The objects and other values of the array at a path.
    pub(super) fn items(&self, path: &str) -> &[Self] {
        match self.get(path) {
            Some(Self::List(items)) => items,
            _ => &[],
        }
    }

    /// The same with the names of all members in lower case, for wires on which case does not count.
    pub(super) fn in_lower_case(self) -> Self {
        match self {
            Self::List(items) => Self::List(items.into_iter().map(Self::in_lower_case).collect()),
            Self::Object(members) => {
                let lower = |key: Cow<'a, str>| match key.chars().any(char::is_uppercase) {
                    true => Cow::Owned(key.to_lowercase()),
                    false => key,
                };
                let members = members.into_iter();
                Self::Object(members.map(|(k, v)| (lower(k), v.in_lower_case())).collect())
            }
            scalar => scalar,
        }
    }

    /// The members of this object in their order but those named: text as it is, anything else as its JSON.
    pub(super) fn pairs(&self, but: &[&str]) -> Vec<(String, String)> {
        let Self::Object(members) = self else { return Vec::new() };
        let kept = members.iter().filter(|(key, _)| !but.contains(&key.as_ref()));
        kept.map(|(key, value)| match value {
            Self::Text(text) => (key.to_string(), text.to_string()),
            other => (key.to_string(), other.to_string()),
        })
        .collect()
    }
}

/// Prints JSON.
impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| serde_json::to_string(text).map_err(|_| fmt::Error);
        match self {
            Self::Null => f.write_str("null"),
            Self::Text(text) => f.write_str(&quoted(text)?),
            Self::Bare(text) => f.write_str(text),
            Self::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                for (i, (key, value)) in members.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    write!(f, "{comma}{}:{value}", quoted(key)?)?;
                }
                f.write_str("}")
            }
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Node<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Node::Null)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Node::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Node::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Node::Bare(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Node::Bare(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Node::Bare(number.to_string()))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Self::Value, E> {
        Ok(Node::Bare(truth.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((Key(key), value)) = map.next_entry()? {
            members.push((key, value));
        }
        Ok(Node::Object(members))
    }
}

/// A member's name; borrowed where it holds no escapes, which `Cow` does not do by itself.
pub(super) struct Key<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_str(NodeVisitor)? {
            Node::Text(text) => Ok(Self(text)),
            other => Ok(Self(Cow::Owned(other.to_string()))),
        }
    }
}

/// A message being read: its tree, and what errors about it say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'n> {
    /// Counts messages of the stream from 0.
    pub(super) index: u64,
    /// What the message calls itself.
    pub(super) kind: &'static str,
    /// What it says.
    pub(super) node: &'n Node<'n>,
}

impl<'n> Reader<'n> {
    /// That field `path` is wrong.
    pub(super) const fn error(&self, path: &'static str, problem: &'static str) -> ProtocolError {
        ProtocolError::Field { index: self.index, kind: self.kind, field: path, problem }
    }

    /// The scalar at `path`, which must be there.
    pub(super) fn text(&self, path: &'static str) -> Result<&'n str, ProtocolError> {
        self.node.text(path).ok_or_else(|| self.error(path, "is missing or no text"))
    }

    /// The telephone key at the first of these paths that leads to something; one must.
    pub(super) fn first_digit(&self, paths: &[&'static str]) -> Result<Digit, ProtocolError> {
        let there = paths.iter().find(|path| self.node.text(path).is_some()).or(paths.first());
        self.digit(there.copied().unwrap_or("digit"))
    }

    /// Notes the telephone keys at `path`, one after the other; some must be there.
    pub(super) fn press(&self, path: &'static str, out: &mut Outbox) -> Result<(), ProtocolError> {
        let text = self.text(path)?;
        if text.is_empty() {
            return Err(self.error(path, "is empty"));
        }
        for key in text.chars() {
            let problem = "has what is no key of a telephone";
            let digit = Digit::new(key).ok_or_else(|| self.error(path, problem))?;
            out.event(Event::Dtmf { digit, duration: None });
        }
        Ok(())
    }

    /// The telephone key at `path`, which must be there.
    pub(super) fn digit(&self, path: &'static str) -> Result<Digit, ProtocolError> {
        digit(self.text(path)?).ok_or_else(|| self.error(path, "is no key of a telephone"))
    }
}

/// The telephone key that `text` is.
pub(super) fn digit(text: &str) -> Option<Digit> {
    let mut keys = text.chars();
    let digit = keys.next().and_then(Digit::new)?;
    keys.next().is_none().then_some(digit)
}

/// A number or decimal string as a whole number; fractions are cut, signs refused.
pub(super) fn whole(text: &str) -> Option<u64> {
    text.parse().ok().or_else(|| {
        let value: f64 = text.parse().ok()?;
        (value >= 0.0 && value < u64::MAX as f64).then_some(value as u64)
    })
}

/// The first parameter that has one of these names; calls are described by custom parameters where the wire does not do it.
pub(super) fn parameter(parameters: &[(String, String)], names: &[&str]) -> Option<String> {
    let of = |name| parameters.iter().find(|(key, value)| key == name && !value.is_empty());
    names.iter().find_map(of).map(|(_, value)| value.clone())
}

fn malformed(
    index: u64,
    expected: &'static str,
    text: &str,
    error: &serde_json::Error,
) -> ProtocolError {
    ProtocolError::Malformed { index, expected, reason: reason(error), excerpt: excerpt(text) }
}

/// What the parser said, without any of the text it said it about.
fn reason(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Syntax => "syntax error",
        serde_json::error::Category::Eof => "ends early",
        serde_json::error::Category::Data => "value of the wrong kind",
        serde_json::error::Category::Io => "unreadable",
    };
    format!("{what} at line {} column {}", error.line(), error.column())
}

/// Appends `text` as a JSON string, quotes included.
pub(super) fn quote(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("writing text to memory cannot fail");
}

/// Queues a text message.
pub(super) fn send(out: &mut Outbox, message: fmt::Arguments<'_>) {
    out.text(|text| text.write_fmt(message).expect("writing to memory cannot fail"));
}

/// Queues a text message for a line that was dialled.
pub(super) fn send_on(out: &mut Outbox, line: Line, message: fmt::Arguments<'_>) {
    out.text_on(line, |text| text.write_fmt(message).expect("writing to memory cannot fail"));
}

/// Appends `number` in decimal.
pub(super) fn digits(number: u64, out: &mut Vec<u8>) {
    let mut buffer = [0; 20];
    let mut at = buffer.len();
    let mut rest = number;
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&buffer[at..]);
}

/// Parameters printed as an object in their order.
pub(super) struct Members<'a>(pub(super) &'a [(String, String)]);

impl fmt::Display for Members<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &'_ str| Node::Text(Cow::Owned(text.to_owned()));
        let members = self.0.iter().map(|(key, value)| (Cow::Borrowed(key.as_str()), text(value)));
        Node::Object(members.collect()).fmt(f)
    }
}

/// Text printed as JSON, quotes included.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Node::Text(Cow::Borrowed(self.0)).fmt(f)
    }
}

/// A moment as wires write them (RFC 3339), for ends that act a provider out and know no date: the epoch is the year 2000.
pub(super) struct Stamp(pub(super) Instant);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.since_epoch();
        let (seconds, millis) = (since.as_secs() % 86_400, since.subsec_millis());
        let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        write!(f, "2000-01-01T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z")
    }
}

/// The first characters of `text` for a log, with what could be a number to call, a token or a payload masked.
pub(super) fn excerpt(text: &str) -> String {
    masked(text, 80, 20)
}

/// The first characters of a message's name for a log, masked like [`excerpt`] but for its length.
pub(super) fn kind(text: &str) -> String {
    masked(text, 32, 32)
}

/// The first `shown` characters of `text`, words masked that are longer than `longest` or have more than five digits.
fn masked(text: &str, shown: usize, longest: usize) -> String {
    const MOST_DIGITS: usize = 5;
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    let cut: String = text.chars().take(shown).map(visible).collect();
    let is_word = |c: char| c.is_alphanumeric() || "+-_=.".contains(c);
    let mut masked = String::with_capacity(cut.len());
    let mut rest = cut.as_str();
    while let Some(first) = rest.chars().next() {
        let len = rest.find(|c| is_word(c) != is_word(first)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(len);
        let digits = piece.chars().filter(char::is_ascii_digit).count();
        let secret = is_word(first) && (piece.len() > longest || digits > MOST_DIGITS);
        masked.push_str(if secret { "***" } else { piece });
        rest = after;
    }
    if text.chars().nth(shown).is_some() {
        masked.push('…');
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Node<'_> {
        Node::parse(0, "JSON", text).unwrap()
    }

    #[test]
    fn scalars_are_read_quoted_or_not() {
        let node = parse(r#"{"a":"12","b":12,"c":{"d":12.9,"e":"1e1"},"f":-1,"g":null,"h":true}"#);
        let numbers = ["a", "b", "c.d", "c.e", "f", "g", "h", "c", "z", "a.b"];
        assert_eq!(
            numbers.map(|path| node.number(path)),
            [Some(12), Some(12), Some(12), Some(10), None, None, None, None, None, None]
        );
        assert_eq!(node.text("h"), Some("true"));
        assert_eq!(node.get("g"), None);
        assert_eq!((whole("1e400"), whole("NaN"), whole("")), (None, None, None));
    }

    #[test]
    fn text_is_borrowed_unless_escaped_and_the_last_member_counts() {
        let node = parse(r#"{"a":"x","a":"y","b":"\u0041"}"#);
        assert!(matches!(node.get("a"), Some(Node::Text(Cow::Borrowed("y")))));
        assert_eq!(node.text("b"), Some("A"));
    }

    #[test]
    fn pairs_keep_order_and_nested_values() {
        let text = r#"{"z":"1","skip":0,"a":2,"o":{"k":[true,"\"",null]}}"#;
        let node = parse(text);
        let pairs = node.pairs(&["skip"]);
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("z", "1"), ("a", "2"), ("o", r#"{"k":[true,"\"",null]}"#)]);
        assert_eq!(node.to_string(), text);
        assert_eq!(node.list("o.k").collect::<Vec<_>>(), ["true", "\""]);
        assert_eq!(node.list("a").count(), 0);
        assert_eq!(
            (node.text("o.k.1"), node.text("o.k.2"), node.get("o.k.3")),
            (Some("\""), None, None)
        );
    }

    #[test]
    fn case_of_names_can_be_forgotten() {
        let node = parse(r#"{"Kind":"AudioData","audioDATA":{"Data":"Aa","list":[{"X":1}]}}"#);
        let expected = r#"{"kind":"AudioData","audiodata":{"data":"Aa","list":[{"x":1}]}}"#;
        assert_eq!(node.in_lower_case().to_string(), expected);
    }

    #[test]
    fn keys_are_pressed_one_after_the_other() {
        let press = |text| {
            let (node, mut out) = (parse(text), Outbox::new());
            let reader = Reader { index: 0, kind: "dtmf", node: &node };
            let pressed = reader.press("digits", &mut out);
            let keys = out.events().iter().map(|event| match event {
                Event::Dtmf { digit, .. } => digit.as_char(),
                other => panic!("{other:?}"),
            });
            (pressed.is_ok(), keys.collect::<String>())
        };
        assert_eq!(press(r#"{"digits":"12#"}"#), (true, "12#".into()));
        assert_eq!(press(r#"{"digits":7}"#), (true, "7".into()));
        assert_eq!(press(r#"{"digits":"1x"}"#), (false, "1".into()));
        assert_eq!((press(r#"{"digits":""}"#).0, press("{}").0), (false, false));
    }

    #[test]
    fn stamps_are_times_of_a_day() {
        let stamp = |millis| Stamp(Instant::from_millis(millis)).to_string();
        assert_eq!(stamp(0), "2000-01-01T00:00:00.000Z");
        assert_eq!(stamp(86_400_000 + 3_723_045), "2000-01-01T01:02:03.045Z");
    }

    #[test]
    fn errors_do_not_quote_the_text() {
        let error = Node::parse(3, "JSON", "{\"a\":my-secret}").unwrap_err();
        let ProtocolError::Malformed { index: 3, reason, .. } = error else { panic!("{error}") };
        assert_eq!(reason, "syntax error at line 1 column 6");
        let deep = "[".repeat(10_000);
        assert!(Node::parse(0, "JSON", &deep).is_err());
    }

    #[test]
    fn values_may_follow_each_other() {
        let all = |text| Node::parse_all(0, "JSON", text).collect::<Vec<_>>();
        let found: Vec<_> = all("{\"a\":1}{\"b\":2}\n \n[3]").into_iter().flatten().collect();
        assert_eq!(
            found.iter().map(Node::to_string).collect::<Vec<_>>(),
            ["{\"a\":1}", "{\"b\":2}", "[3]"]
        );
        assert!(all(" ").is_empty());
        let broken = all("{} {\"a\" {}");
        assert!(matches!(broken.as_slice(), [Ok(_), Err(_)]), "{broken:?}");
    }

    #[test]
    fn excerpts_are_cut_and_masked() {
        assert_eq!(excerpt(r#"{"from":"+15550100001"}"#), r#"{"from":"***"}"#);
        assert_eq!(excerpt("t=abcdefghijklmnopqrstuvwxyz"), "***");
        assert_eq!(excerpt("event: start\n"), "event: start ");
        assert_eq!(excerpt(&"é ".repeat(100)).chars().count(), 81);
    }

    #[test]
    fn quoting_escapes() {
        let mut out = Vec::new();
        quote("a\"b\\\n", &mut out);
        assert_eq!(out, br#""a\"b\\\n""#);
        let pairs = [("b\"".to_owned(), "1".to_owned()), ("a".to_owned(), String::new())];
        assert_eq!(Members(&pairs).to_string(), r#"{"b\"":"1","a":""}"#);
        assert_eq!(Quoted("\u{1}").to_string(), r#""\u0001""#);
    }

    #[test]
    fn digits_are_those_of_the_number() {
        for number in [0, 9, 10, 12_345, u64::MAX] {
            let mut out = Vec::new();
            digits(number, &mut out);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
