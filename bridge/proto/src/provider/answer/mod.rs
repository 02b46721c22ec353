//! What a provider is answered when it asks over HTTP what to do with a call: a document that tells it to stream the call here.
//! Prints documents; serves none, and checks nobody's right to have one ([`super::auth::WebhookAuth`] does).
//!
//! Each document stands once, in `documents/`; pages that tell people what to paste are filled from the same.

mod credential;
mod table;
mod template;
mod webhook;

pub use credential::Credential;
pub use webhook::{BodyKind, Facts, Method, Webhook};

use self::credential::Kind;
use self::template::{Syntax, fill};

/// Longest custom parameter, name or value, in octets. Providers cut or refuse at 500 for both (Twilio), 512 for all (Plivo, Vonage).
pub const LONGEST: usize = 200;

/// The answer that one provider takes.
#[derive(Debug)]
pub struct Answer {
    /// [`super::Info::name`].
    provider: &'static str,
    syntax: Syntax,
    /// Words: `url`, `credential` and `parameters`.
    document: &'static str,
    /// Said where the webhook is about something else than a call that begins.
    nothing: &'static str,
    /// How one custom parameter is written, if there is a way: the words are `name` and `value`.
    parameter: Option<Parameter>,
    /// Credentials of the stream that the document can carry beside its URL, and how; the words are `user` and `token`.
    credentials: &'static [(Kind, &'static str)],
    /// Which of them may stand in the URL.
    in_url: &'static [Kind],
    /// Added to the URL's query.
    query: &'static str,
    /// What the webhook tells of the call that the stream will not.
    facts: &'static [Fact],
    /// Where the webhook has the call's name.
    call: &'static [&'static str],
    /// Where the webhook says what it is about, and what of that is no call that begins.
    asides: Option<(&'static str, &'static [&'static str])>,
    /// With what a part of a text begins that the provider evaluates: whoever calls must not have a say in that.
    evaluates: &'static [&'static str],
    /// The document in the provider's other language, and where a webhook that wants it has something.
    other: Option<(&'static str, &'static Self)>,
}

/// How custom parameters are written.
#[derive(Debug, Clone, Copy)]
struct Parameter {
    /// Before the first and behind the last, if there are any.
    around: [&'static str; 2],
    pattern: &'static str,
    separator: &'static str,
    letters: Letters,
}

/// What a custom parameter may be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Letters {
    Any,
    /// Letters and digits of ASCII; others are left out, so that `+1555` becomes `1555`.
    Alphanumeric,
    /// Percent-encoded, as in a query.
    Percent,
}

/// Something a webhook tells of its call.
#[derive(Debug, Clone, Copy)]
struct Fact {
    /// What it is called as a custom parameter.
    name: &'static str,
    /// Where it is in the webhook; a dot leads into an object.
    paths: &'static [&'static str],
    /// Stands on pages in its place.
    sample: &'static str,
}

impl Answer {
    /// The answer that this provider takes; `None` for those that do not ask, or whose way of asking is not known well enough.
    #[must_use]
    pub fn of(provider: &str) -> Option<&'static Self> {
        table::ANSWERS.iter().copied().find(|answer| answer.provider == provider)
    }

    /// The answer in the language that the webhook wants.
    #[must_use]
    pub fn fitting(&'static self, told: &Facts) -> &'static Self {
        match self.other {
            Some((path, other)) if told.first(&[path]).is_some() => other,
            _ => self,
        }
    }

    /// The answer in the provider's other language, if it has one.
    #[must_use]
    pub fn other(&self) -> Option<&'static Self> {
        self.other.map(|(_, other)| other)
    }

    /// Media type of its documents.
    #[must_use]
    pub const fn content_type(&self) -> &'static str {
        match self.syntax {
            Syntax::Xml => "application/xml",
            Syntax::Json => "application/json",
        }
    }

    /// The document that has the call streamed to `url`, where `credential` lets it in. `parameters` become the call's custom
    /// parameters; which of them cannot be written is left out.
    #[must_use]
    pub fn document(
        &self,
        url: &str,
        credential: &Credential<'_>,
        parameters: &[(String, String)],
    ) -> String {
        let url = credential.dialled(url, self.in_url.contains(&credential.kind()), self.query);
        let carried = self.credentials.iter().find(|(kind, _)| *kind == credential.kind());
        let carried = carried.map(|(_, pattern)| {
            let (user, token) = credential.words();
            fill(pattern, |word| match word {
                "user" => Some(self.syntax.escape(user)),
                "token" => Some(self.syntax.escape(token)),
                _ => None,
            })
        });
        fill(self.document, |word| match word {
            "url" => Some(self.syntax.escape(&url)),
            "credential" => Some(carried.clone().unwrap_or_default()),
            "parameters" => Some(self.written(parameters)),
            _ => None,
        })
    }

    fn written(&self, parameters: &[(String, String)]) -> String {
        let Some(Parameter { around, pattern, separator, letters }) = self.parameter else {
            return String::new();
        };
        let each = parameters.iter().filter_map(|(name, value)| {
            let (name, value) = (letters.write(name)?, letters.write(value)?);
            Some(fill(pattern, |word| match word {
                "name" => Some(self.syntax.escape(&name)),
                "value" => Some(self.syntax.escape(&value)),
                _ => None,
            }))
        });
        let written = each.collect::<Vec<_>>().join(separator);
        if written.is_empty() { written } else { format!("{}{written}{}", around[0], around[1]) }
    }

    /// What the webhook tells of its call that the stream will not, as custom parameters.
    #[must_use]
    pub fn facts(&self, told: &Facts) -> Vec<(String, String)> {
        let is_text = |value: &String| !self.evaluates.iter().any(|begins| value.contains(begins));
        let fact = |fact: &Fact| {
            let value = told.first(fact.paths).filter(is_text)?;
            Some((fact.name.to_owned(), value))
        };
        self.facts.iter().filter_map(fact).collect()
    }

    /// What stands on a page in the place of [`Self::facts`].
    #[must_use]
    pub fn sample(&self) -> Vec<(String, String)> {
        self.facts.iter().map(|fact| (fact.name.to_owned(), fact.sample.to_owned())).collect()
    }

    /// The provider's name for the call that the webhook is about.
    #[must_use]
    pub fn call(&self, told: &Facts) -> Option<String> {
        told.first(self.call)
    }

    /// What to say to a webhook that is not about a call that begins, if this one is not: some providers tell the end of a call at
    /// the same address.
    #[must_use]
    pub fn aside(&self, told: &Facts) -> Option<&'static str> {
        let (path, names) = self.asides?;
        let what = told.first(&[path])?;
        names.contains(&what.as_str()).then_some(self.nothing)
    }

    /// Why a stream that is let in by `credential` cannot be asked for by this document, if so.
    ///
    /// # Errors
    /// In words for the one who configures it.
    pub fn carries(&self, credential: &Credential<'_>) -> Result<(), String> {
        let kind = credential.kind();
        let possible = self.in_url.contains(&kind) || self.credentials.iter().any(|c| c.0 == kind);
        if possible || kind == Kind::Untold {
            return Ok(());
        }
        let names = self.in_url.iter().chain(self.credentials.iter().map(|(kind, _)| kind));
        let names: Vec<_> = names.map(|kind| kind.name()).filter(|name| !name.is_empty()).collect();
        let names = names.join(", ");
        Err(format!(
            "this provider's answer cannot carry a credential of the kind {}; it can: {names}",
            kind.name()
        ))
    }

    /// Why a custom parameter cannot be passed on, if so.
    ///
    /// # Errors
    /// In words for the one who configures it.
    pub fn takes(&self, name: &str, value: &str) -> Result<(), String> {
        let Some(Parameter { letters, .. }) = self.parameter else {
            return Err("this provider's answer has no place for custom parameters".into());
        };
        for text in [name, value] {
            if letters.write(text).is_none() {
                return Err(format!(
                    "{text:?} is empty, longer than {LONGEST} octets, or has characters that are not printed"
                ));
            }
            if letters == Letters::Alphanumeric && !text.chars().all(|c| c.is_ascii_alphanumeric())
            {
                return Err(format!("{text:?}: this provider takes letters and digits only"));
            }
        }
        Ok(())
    }
}

impl Letters {
    /// The text as it is written, but for escapes; `None` if it cannot be.
    fn write(self, text: &str) -> Option<String> {
        // A text cut short would be another number; XML has no way at all to write most of what is not printed.
        let odd = |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
        if text.is_empty() || text.len() > LONGEST || text.chars().any(odd) {
            return None;
        }
        let written = match self {
            Self::Any => text.to_owned(),
            Self::Alphanumeric => text.chars().filter(char::is_ascii_alphanumeric).collect(),
            Self::Percent => template::percent(text),
        };
        (!written.is_empty()).then_some(written)
    }
}

#[cfg(test)]
mod tests;
