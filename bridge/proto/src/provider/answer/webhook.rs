//! The HTTP request by which a provider asks what to do with a call, as far as it is looked at. Speaks no HTTP.

use serde_json::Value;

use super::super::Upgrade;
use super::super::upgrade::pairs_of;

/// What is asked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// What is to be told is in the query.
    Get,
    /// What is to be told is in the body.
    Post,
}

/// A request by which a provider asks what to do with a call.
#[derive(Clone, Copy)]
pub struct Webhook<'a> {
    /// How it asks.
    pub method: Method,
    /// Path and query as received.
    pub target: &'a str,
    /// The URL the provider was told to ask, `https://bridge.example/twilio/answer` say; signatures are computed over it.
    pub public_url: &'a str,
    /// Header fields, names in lower case.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body as received.
    pub body: &'a [u8],
}

impl<'a> Webhook<'a> {
    /// The same without its body, as far as the checks of upgrades look.
    #[must_use]
    pub const fn head(&self) -> Upgrade<'a> {
        Upgrade { target: self.target, public_url: Some(self.public_url), headers: self.headers }
    }

    /// The URL that was asked: the one that was told, with the query of the request, or its own if the request has none.
    #[must_use]
    pub fn asked(&self) -> String {
        self.head().dialled_url().unwrap_or_default()
    }

    /// First value of a header field; `name` in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
    }

    /// What the body is, if it says so and is one of these.
    #[must_use]
    pub fn body_kind(&self) -> Option<BodyKind> {
        let field = self.header("content-type")?;
        let kind = field.split(';').next().unwrap_or_default().trim();
        match () {
            () if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") => {
                Some(BodyKind::Form)
            }
            () if kind.eq_ignore_ascii_case("application/json") => Some(BodyKind::Json),
            () => None,
        }
    }

    /// The pairs of a body that is a form, decoded, in order; else none. A request by GET has no body that anybody vouches for.
    #[must_use]
    pub fn form(&self) -> Vec<(String, String)> {
        match (self.body_kind(), std::str::from_utf8(self.body)) {
            (Some(BodyKind::Form), Ok(body)) if self.method == Method::Post => {
                pairs_of(body).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What it tells of the call: by its body, or, if it has none, by its query. Not by both: some signatures are over one of them.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let has_body = self.method == Method::Post && !self.body.is_empty();
        let pairs = if has_body { self.form() } else { self.head().query_pairs().collect() };
        let is_json = self.method == Method::Post && self.body_kind() == Some(BodyKind::Json);
        let body = is_json.then(|| serde_json::from_slice(self.body).ok()).flatten();
        Facts { pairs, body: body.unwrap_or(Value::Null) }
    }
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// Pairs, as HTML forms send them.
    Form,
    /// JSON.
    Json,
}

/// What a webhook tells of its call.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Of a form or a query.
    pairs: Vec<(String, String)>,
    body: Value,
}

impl Facts {
    /// The first of `paths` that leads to a text or a number. A dot leads into an object of JSON.
    #[must_use]
    pub fn first(&self, paths: &[&str]) -> Option<String> {
        paths.iter().find_map(|path| {
            let found = path.split('.').try_fold(&self.body, |value, name| value.get(name));
            let in_body = match found {
                Some(Value::String(text)) => Some(text.clone()),
                Some(Value::Number(number)) => Some(number.to_string()),
                _ => None,
            };
            let in_pairs = || self.pairs.iter().find(|(name, _)| name == path);
            let found = in_body.or_else(|| in_pairs().map(|(_, value)| value.clone()));
            found.filter(|text| !text.is_empty())
        })
    }
}
