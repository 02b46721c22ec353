//! What lets a stream in, as a document tells it to the provider that shall dial. Checks nothing.

use std::fmt;

use super::super::{Auth, Secret};
use super::template::percent;

/// The credential with which a provider shall dial a listener. Prints as what it is, and nothing of itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// None, or one that the provider has by itself.
    Untold,
    /// A token that Vonage makes if it is told to.
    Vonage,
    /// User and password.
    Basic(&'a str, &'a str),
    /// A bearer token.
    Bearer(&'a str),
    /// A query parameter and its value.
    Query(&'a str, &'a str),
    /// The end of the path.
    Path(&'a str),
    /// A header field and its value.
    Header(&'a str, &'a str),
}

/// [`Credential`] without what it consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Untold,
    Vonage,
    Basic,
    Bearer,
    Query,
    Path,
    Header,
}

impl Kind {
    /// What it is called in a configuration.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Untold => "",
            Self::Vonage => "vonage-jwt",
            Self::Basic => "basic",
            Self::Bearer => "bearer",
            Self::Query => "query",
            Self::Path => "path",
            Self::Header => "header",
        }
    }
}

impl<'a> Credential<'a> {
    /// What a listener demands. Of several secrets the first is told, so put the new one there when you replace one.
    #[must_use]
    pub fn of(auth: &'a Auth) -> Self {
        let first = |secrets: &'a [Secret]| secrets.first().map_or("", |s| s.expose());
        match auth {
            Auth::Bearer { tokens } => Self::Bearer(first(tokens)),
            Auth::Basic { user, passwords } => Self::Basic(user, first(passwords)),
            Auth::Header { name, values } => Self::Header(name, first(values)),
            Auth::Query { name, values } => Self::Query(name, first(values)),
            Auth::Path { tokens } => Self::Path(first(tokens)),
            Auth::Jwt(jwt) if jwt.issuer.as_deref() == Some("Vonage") => Self::Vonage,
            _ => Self::Untold,
        }
    }

    /// Whether the document has it in it, and is as secret as it is.
    #[must_use]
    pub const fn is_told(&self) -> bool {
        !matches!(self, Self::Untold | Self::Vonage)
    }

    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Untold => Kind::Untold,
            Self::Vonage => Kind::Vonage,
            Self::Basic(..) => Kind::Basic,
            Self::Bearer(_) => Kind::Bearer,
            Self::Query(..) => Kind::Query,
            Self::Path(_) => Kind::Path,
            Self::Header(..) => Kind::Header,
        }
    }

    /// User and token, for where the document has places for them.
    pub(super) const fn words(&self) -> (&'a str, &'a str) {
        match *self {
            Self::Untold | Self::Vonage => ("", ""),
            Self::Bearer(token) | Self::Path(token) => ("", token),
            Self::Basic(user, token) | Self::Query(user, token) | Self::Header(user, token) => {
                (user, token)
            }
        }
    }

    /// `url` as it shall be dialled: with the credential in it, if it belongs there, and with `query`.
    pub(super) fn dialled(&self, url: &str, is_in_url: bool, query: &str) -> String {
        let (base, own) = url.split_once('?').unwrap_or((url, ""));
        let (mut base, mut pairs) = (base.to_owned(), vec![own.to_owned(), query.to_owned()]);
        match *self {
            Self::Query(name, token) if is_in_url => {
                pairs.push(format!("{}={}", percent(name), percent(token)));
            }
            Self::Path(token) if is_in_url => {
                base = format!("{}/{}", base.trim_end_matches('/'), percent(token));
            }
            Self::Basic(user, token) if is_in_url => {
                base =
                    base.replacen("://", &format!("://{}:{}@", percent(user), percent(token)), 1);
            }
            _ => {}
        }
        pairs.retain(|pair| !pair.is_empty());
        if pairs.is_empty() { base } else { format!("{base}?{}", pairs.join("&")) }
    }
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}([redacted])", self.kind())
    }
}
