//! Walks JSON as it is written and replaces values in place, so that order, spaces and mistakes stay. Knows no field; takes what is
//! no JSON at all as well.

use std::collections::BTreeSet;

use ringback_codecs::MediaFormat;
use serde_json::Value;

use super::stand_in::StandIns;
use super::{Facts, Sound, words};

/// What values are judged and replaced with.
pub(super) struct Context<'a> {
    pub(super) stand_ins: &'a mut StandIns,
    /// Custom parameters seen on the stream.
    pub(super) parameters: &'a BTreeSet<String>,
    /// What is known of the message.
    pub(super) facts: &'a Facts,
    /// What its sound is.
    pub(super) format: MediaFormat,
    pub(super) sound: Sound,
}

/// An object or a list that is open.
struct Open {
    is_list: bool,
    /// The field its values stand in; in a list, that of the list.
    key: String,
    custom: bool,
}

/// `text` with every value replaced that is not a protocol's own; all of them if it is `custom`.
pub(super) fn redact(text: &str, custom: bool, context: &mut Context<'_>) -> String {
    let outermost = Open { is_list: true, key: String::new(), custom };
    let mut walk =
        Walk { context, open: vec![outermost], shown: String::with_capacity(text.len()) };
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' => walk.text(rest),
            '{' | '[' => walk.enter(first),
            '}' | ']' => walk.leave(first),
            '-' | '0'..='9' => walk.number(rest),
            c if c.is_alphabetic() => walk.word(rest),
            c => {
                walk.shown.push(c);
                c.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    walk.shown
}

struct Walk<'w, 'c> {
    context: &'w mut Context<'c>,
    open: Vec<Open>,
    shown: String,
}

impl Walk<'_, '_> {
    fn innermost(&mut self) -> &mut Open {
        self.open.last_mut().expect("the outermost is never left")
    }

    /// Whether the value in this field, here, is a customer's.
    fn is_custom(&mut self, key: &str) -> bool {
        self.innermost().custom || self.context.parameters.contains(key)
    }

    fn enter(&mut self, bracket: char) -> usize {
        self.shown.push(bracket);
        let key = self.innermost().key.clone();
        let custom = words::is_custom(&key) || self.is_custom(&key);
        self.open.push(Open { is_list: bracket == '[', key, custom });
        1
    }

    fn leave(&mut self, bracket: char) -> usize {
        self.shown.push(bracket);
        if self.open.len() > 1 {
            self.open.pop();
        }
        self.valued();
        1
    }

    /// A field has had its value: what stands behind it without a name, which no JSON has, is none of it.
    fn valued(&mut self) {
        let innermost = self.innermost();
        if !innermost.is_list {
            innermost.key.clear();
        }
    }

    /// A text from its quote on: the name of a field, or a value.
    fn text(&mut self, rest: &str) -> usize {
        let token = &rest[..end_of_text(rest)];
        let decoded: Option<String> = serde_json::from_str(token).ok();
        let behind = rest[token.len()..].trim_start();
        if let Some(name) = &decoded
            && !self.innermost().is_list
            && behind.starts_with(':')
        {
            let shown = self.context.stand_ins.name(name);
            self.innermost().key = words::key(name);
            if shown == *name {
                self.shown.push_str(token);
            } else {
                self.quoted(&shown);
            }
            return token.len();
        }
        let Some(value) = decoded else {
            let shown = self.context.stand_ins.text(token);
            self.shown.push_str(&shown);
            self.valued();
            return token.len();
        };
        let key = self.innermost().key.clone();
        let custom = self.is_custom(&key);
        match words::shown(&key, &value, custom, self.context) {
            Some(shown) => self.quoted(&shown),
            None => self.shown.push_str(token),
        }
        self.valued();
        token.len()
    }

    fn quoted(&mut self, text: &str) {
        self.shown.push_str(&serde_json::to_string(text).expect("text is JSON"));
    }

    fn number(&mut self, rest: &str) -> usize {
        let is_number = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let token = &rest[..rest.find(|c| !is_number(c)).unwrap_or(rest.len())];
        let (is_list, key) = (self.innermost().is_list, self.innermost().key.clone());
        let custom = self.is_custom(&key);
        let is_sound = is_list && words::is_sound(&key);
        let shown = if serde_json::from_str::<serde_json::Number>(token).is_err() {
            Some(self.context.stand_ins.text(token))
        } else if is_sound {
            (self.context.sound == Sound::Silence).then(|| "0".to_owned())
        } else {
            words::shown_number(&key, token, custom, self.context)
        };
        self.shown.push_str(shown.as_deref().unwrap_or(token));
        self.valued();
        token.len()
    }

    /// A word outside of quotes: a value of JSON's own, or a mistake.
    fn word(&mut self, rest: &str) -> usize {
        let token = &rest[..rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len())];
        match token {
            "true" | "false" | "null" => self.shown.push_str(token),
            _ => {
                let shown = self.context.stand_ins.text(token);
                self.shown.push_str(&shown);
            }
        }
        self.valued();
        token.len()
    }
}

/// Whether a field of sound holds some: base64 that is no word, or numbers.
pub(super) fn holds_sound(value: &Value) -> bool {
    const LONGEST_WORD: usize = 16;
    match value {
        Value::Object(members) => members.iter().any(|(name, value)| {
            let sound = match value {
                Value::String(text) => text.len() >= LONGEST_WORD,
                Value::Array(items) => items.first().is_some_and(Value::is_number),
                _ => false,
            };
            sound && words::is_sound(&words::key(name)) || holds_sound(value)
        }),
        Value::Array(items) => items.iter().any(holds_sound),
        _ => false,
    }
}

/// Length of a text with its quotes, or of all that is left if it does not end.
fn end_of_text(rest: &str) -> usize {
    let mut escaped = false;
    for (at, octet) in rest.bytes().enumerate().skip(1) {
        match octet {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}
