//! Which calls a rule is for, by what is known when their stream starts. Looks at nothing else, and says nothing of what a call gets.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// What is known of a call when its stream starts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// Who calls, as the provider wrote it.
    pub from: Option<&'a str>,
    /// Who is called, as the provider wrote it.
    pub to: Option<&'a str>,
    /// Custom parameters by name, some perhaps more than once.
    pub parameters: &'a [(String, String)],
    /// Header fields of the request that asked for the stream, names in lower case.
    pub headers: &'a [(String, String)],
}

/// A value in which `*` stands for any characters, none included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Box<str>);

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// Who calls.
    From,
    /// Who is called.
    To,
    /// A custom parameter of this name.
    Parameter(String),
    /// A header field of this name, in lower case.
    Header(String),
}

/// Which calls are meant: those of certain listeners for which all conditions hold. Without any it is every call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// Names of listeners; empty is all.
    listeners: Vec<Pattern>,
    conditions: Vec<Condition>,
}

/// One value of those that `key` has must fit one of the patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    key: Key,
    patterns: Vec<Pattern>,
}

impl Pattern {
    /// The pattern as it is written.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The same for a number: what people write between digits means nothing.
    fn number(text: &str) -> Self {
        Self(bare(text).into())
    }

    /// Whether all of `text` fits. Takes time in proportion to its length, for each `*`.
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        let mut pieces = self.0.split('*');
        let first = pieces.next().unwrap_or_default();
        let Some(rest) = text.strip_prefix(first) else { return false };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        let Some(mut rest) = rest.strip_suffix(last) else { return false };
        // Each piece as early as can be leaves most for those behind it.
        pieces.all(|piece| match rest.find(piece) {
            Some(at) => {
                rest = &rest[at + piece.len()..];
                true
            }
            None => false,
        })
    }

    /// Whether all that fits `other` fits this as well.
    fn covers(&self, other: &Self) -> bool {
        // No piece of this has a `*` in it: those of `other` can only lie where this has one, and then stand for anything.
        self.fits(&other.0)
    }
}

impl Rule {
    /// The same rule, for streams of listeners with one of these names only.
    #[must_use]
    pub fn of_listeners(mut self, names: Vec<Pattern>) -> Self {
        self.listeners = names;
        self
    }

    /// The same rule, and one of these values besides.
    #[must_use]
    pub fn and<'p>(mut self, key: Key, values: impl IntoIterator<Item = &'p str>) -> Self {
        let pattern = match key {
            Key::From | Key::To => Pattern::number,
            Key::Parameter(_) | Key::Header(_) => Pattern::new,
        };
        self.conditions
            .push(Condition { key, patterns: values.into_iter().map(pattern).collect() });
        self
    }

    /// Whether it is for streams of the listener of that name at all.
    #[must_use]
    pub fn is_for(&self, listener: &str) -> bool {
        self.listeners.is_empty() || self.listeners.iter().any(|name| name.fits(listener))
    }

    /// Whether it is for a call of a listener that it [is for](Self::is_for).
    #[must_use]
    pub fn takes(&self, facts: &Facts<'_>) -> bool {
        self.conditions.iter().all(|condition| condition.holds(facts))
    }

    /// Whether it takes every call that `other` takes, of listeners that both are for. It may be so and not be seen.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.conditions.iter().all(|mine| other.conditions.iter().any(|their| mine.covers(their)))
    }

    /// Whether it takes every call of listeners that it is for.
    #[must_use]
    pub fn takes_all(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Whether it looks at nothing but the request for the stream.
    #[must_use]
    pub fn needs_only_the_request(&self) -> bool {
        self.conditions.iter().all(|condition| matches!(condition.key, Key::Header(_)))
    }

    /// Names of the header fields that it looks at.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.conditions.iter().filter_map(|condition| match &condition.key {
            Key::Header(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

impl Condition {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        let fits = |value: &str| self.patterns.iter().any(|pattern| pattern.fits(value));
        let named = |pairs: &[(String, String)], wanted: &str| {
            pairs.iter().any(|(name, value)| name == wanted && fits(value))
        };
        let number =
            |value: &str| fits(&bare(value)) || user(value).is_some_and(|user| fits(&bare(&user)));
        match &self.key {
            Key::From => facts.from.is_some_and(number),
            Key::To => facts.to.is_some_and(number),
            Key::Parameter(name) => named(facts.parameters, name),
            Key::Header(name) => named(facts.headers, name),
        }
    }

    fn covers(&self, other: &Self) -> bool {
        let covered = |their: &Pattern| self.patterns.iter().any(|mine| mine.covers(their));
        self.key == other.key && other.patterns.iter().all(covered)
    }
}

/// Whether a header field of that name, in lower case, is one by which callers prove who they are. Rules look at no such field.
#[must_use]
pub fn is_credential(name: &str) -> bool {
    // By the fourth a browser may show a token.
    let whole = ["authorization", "proxy-authorization", "cookie", "sec-websocket-protocol"];
    let parts = ["signature", "token", "secret", "password", "api-key", "apikey", "jwt"];
    whole.contains(&name) || parts.iter().any(|part| name.contains(part))
}

/// A number without what people write into it to read it better.
fn bare(text: &str) -> String {
    let means_nothing = |c: char| c.is_whitespace() || "-()[]".contains(c);
    text.chars().filter(|&c| !means_nothing(c)).collect()
}

/// The user of a `sip:` or `sips:` URI (RFC 3261, 19.1.1), the number of a `tel:` URI (RFC 3966).
fn user(uri: &str) -> Option<Cow<'_, str>> {
    let (scheme, rest) = uri.trim_start().split_once(':')?;
    let user = match scheme.to_ascii_lowercase().as_str() {
        "sip" | "sips" => rest.split_once('@')?.0.split([';', ':']).next()?,
        "tel" => rest.split(';').next()?,
        _ => return None,
    };
    Some(percent_decode_str(user).decode_utf8_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_and_none() {
        for (pattern, text, fits) in [
            ("", "", true),
            ("", "a", false),
            ("acme", "acme", true),
            ("acme", "acme2", false),
            ("acme", "Acme", false),
            ("*", "", true),
            ("*", "anything", true),
            ("+49*", "+4930", true),
            ("+49*", "+49", true),
            ("+49*", "0049", false),
            ("*30", "+4930", true),
            ("*30", "+49301", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*bc*d", "abcbcd", true),
            ("a*bc*d", "abd", false),
            ("*ab*ab*", "ab", false),
            ("*ab*ab*", "xabyab", true),
            ("**", "", true),
            ("ü*ö", "üö", true),
        ] {
            assert_eq!(Pattern::new(pattern).fits(text), fits, "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn numbers_are_compared_as_they_are_dialled() {
        let takes = |pattern: &str, from: &str| {
            let rule = Rule::default().and(Key::From, [pattern]);
            rule.takes(&Facts { from: Some(from), ..Facts::default() })
        };
        for from in [
            "+4930123",
            "+49 30 123",
            "+49 (30) 12-3",
            "tel:+49-30-123",
            "tel:+4930123;phone-context=example.com",
            "sip:+4930123@pbx.example",
            "SIPS:+4930123;user=phone@pbx.example:5061;transport=tls",
            "sip:%2B4930123:secret@pbx.example",
        ] {
            for pattern in ["+4930123", "+49 30-123", "+49*", "*123"] {
                assert!(takes(pattern, from), "{pattern} {from}");
            }
            assert!(!takes("+4940*", from), "{from}");
        }
        assert!(takes("sip:*@pbx.example", "sip:bob@pbx.example"), "a URI fits as a whole, too");
        assert!(takes("bob", "sip:bob@pbx.example"));
        assert!(!takes("pbx.example", "sip:pbx.example"), "a server is no user");
        assert!(takes("anonymous", "anonymous"));
        assert!(!Rule::default().and(Key::To, ["*"]).takes(&Facts::default()), "nobody is called");
    }

    #[test]
    fn all_keys_must_fit_and_of_each_one_value() {
        let rule = Rule::default()
            .and(Key::From, ["+49*", "+43*"])
            .and(Key::Parameter("lang".into()), ["de", "de-*"])
            .and(Key::Header("x-tenant".into()), ["acme"]);
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|&(name, value)| (name.into(), value.into())).collect()
        };
        let takes = |from: &str, parameters: &[(&str, &str)], headers: &[(&str, &str)]| {
            let (parameters, headers) = (pairs(parameters), pairs(headers));
            let facts =
                Facts { from: Some(from), to: None, parameters: &parameters, headers: &headers };
            rule.takes(&facts)
        };
        let acme = [("x-tenant", "acme")];
        assert!(takes("+49301", &[("lang", "de")], &acme));
        assert!(takes("+43301", &[("lang", "fr"), ("lang", "de-AT")], &acme));
        assert!(!takes("+41301", &[("lang", "de")], &acme), "another number");
        assert!(!takes("+49301", &[("Lang", "de")], &acme), "names are as they are written");
        assert!(!takes("+49301", &[], &acme), "no such parameter");
        assert!(!takes("+49301", &[("lang", "de")], &[("x-tenant", "acme2")]));
        assert!(Rule::default().takes(&Facts::default()) && Rule::default().takes_all());
        assert!(rule.headers().eq(["x-tenant"]));
    }

    #[test]
    fn what_proves_who_calls_is_known_by_its_name() {
        for name in [
            "authorization",
            "cookie",
            "x-twilio-signature",
            "telnyx-signature-ed25519",
            "x-cx-apikey",
        ] {
            assert!(is_credential(name), "{name}");
        }
        for name in ["x-tenant", "host", "x-forwarded-host", "user-agent", "x-author"] {
            assert!(!is_credential(name), "{name}");
        }
    }

    #[test]
    fn a_rule_is_for_the_listeners_that_it_names() {
        let names = |names: &[&str]| {
            Rule::default().of_listeners(names.iter().map(|name| Pattern::new(name)).collect())
        };
        assert!(names(&[]).is_for("twilio"));
        assert!(names(&["telnyx", "twi*"]).is_for("twilio"));
        assert!(!names(&["telnyx"]).is_for("twilio"));
    }

    #[test]
    fn a_rule_covers_those_that_take_no_other_call() {
        let rule = |values: &[&str]| Rule::default().and(Key::To, values.iter().copied());
        let more = |values: &[&str]| rule(values).and(Key::From, ["1"]);
        for (first, second, covers) in [
            (Rule::default(), rule(&["1"]), true),
            (rule(&["1"]), Rule::default(), false),
            (rule(&["1"]), rule(&["1"]), true),
            (rule(&["+49*"]), rule(&["+4930*"]), true),
            (rule(&["+4930*"]), rule(&["+49*"]), false),
            (rule(&["+49*"]), rule(&["+4930*", "+43"]), false),
            (rule(&["+49*", "+43"]), rule(&["+4930*", "+43"]), true),
            (rule(&["*"]), rule(&["*1*"]), true),
            (rule(&["*1"]), rule(&["*"]), false),
            (rule(&["1*2"]), rule(&["1*3*2"]), true),
            (rule(&["+49*"]), more(&["+4930*"]), true),
            (more(&["+49*"]), rule(&["+4930*"]), false),
            (rule(&["1"]), Rule::default().and(Key::From, ["1"]), false),
        ] {
            assert_eq!(first.covers(&second), covers, "{first:?} {second:?}");
        }
    }
}
