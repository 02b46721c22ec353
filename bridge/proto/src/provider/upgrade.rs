//! The HTTP request that asks for a stream and the answer to it, as far as providers look; speaks no HTTP.

use super::Protocol;

/// Name of the field that offers subprotocols (RFC 6455, 11.3.4).
const SUBPROTOCOLS: &str = "sec-websocket-protocol";

/// The HTTP request that asks for the stream, as far as protocols look at it.
#[derive(Clone, Copy)]
pub struct Upgrade<'a> {
    /// Path and query as received.
    pub target: &'a str,
    /// The URL the provider was told to dial, as configured; signatures are computed over it.
    pub public_url: Option<&'a str>,
    /// Header fields, names in lower case.
    pub headers: &'a [(&'a str, &'a str)],
}

impl Upgrade<'_> {
    /// First value of a header field; `name` in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
    }

    /// The path without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    /// First value of a query parameter, percent-decoded.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<String> {
        self.query_pairs().find_map(|(key, value)| (key == name).then_some(value))
    }

    /// All query parameters in order, percent-decoded; `+` stands for a space.
    pub fn query_pairs(&self) -> impl Iterator<Item = (String, String)> + '_ {
        pairs_of(self.target.split_once('?').map_or("", |(_, query)| query))
    }

    /// All query parameters but the credential's, as custom parameters.
    #[must_use]
    pub fn parameters(&self, options: &super::Options) -> Vec<(String, String)> {
        let secret = options.credential_query.as_deref();
        self.query_pairs().filter(|(name, _)| Some(name.as_str()) != secret).collect()
    }

    /// The URL that was dialled as far as it is known: the configured one without its query, and the query of the request, or the
    /// configured one if the request has none (some providers sign a query that they do not send).
    pub(super) fn dialled(&self) -> Option<(&str, &str)> {
        let url = self.public_url?;
        let (base, configured) = url.split_once('?').unwrap_or((url, ""));
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        Some((base, if query.is_empty() { configured } else { query }))
    }

    /// [`Self::dialled`] in one, as it stands.
    pub(super) fn dialled_url(&self) -> Option<String> {
        let (base, query) = self.dialled()?;
        Some(if query.is_empty() { base.to_owned() } else { format!("{base}?{query}") })
    }

    /// Subprotocols offered.
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(|(name, _)| *name == SUBPROTOCOLS)
            .flat_map(|(_, value)| value.split(','))
            .map(str::trim)
    }
}

/// The pairs of a query or of a form, decoded, in order.
pub(super) fn pairs_of(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    })
}

/// Percent-decoding as HTML forms do it (URL Standard, 5.1); octets that are not UTF-8 become U+FFFD.
fn decode(text: &str) -> String {
    let text = text.replace('+', " ");
    percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

/// `target` with `pairs` added to its query, percent-encoded.
#[must_use]
pub fn with_query(target: &str, pairs: &[(String, String)]) -> String {
    let encode =
        |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
    let mut whole = target.to_owned();
    for (name, value) in pairs {
        whole.push(if whole.contains('?') { '&' } else { '?' });
        whole.extend(encode(name));
        whole.push('=');
        whole.extend(encode(value));
    }
    whole
}

/// A stream accepted: the bridge's end of it.
pub struct Accepted {
    /// Speaks the wire.
    pub protocol: Box<dyn Protocol>,
    /// Subprotocol to answer the upgrade with.
    pub subprotocol: Option<String>,
}

/// What a posted request means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Posted {
    /// It is about no call and wants this JSON for an answer.
    Answer(String),
    /// A call begins, or is to be dialled anew: the one of this name, which no other of the provider has.
    Begins(String),
    /// Something about the call of this name.
    About(String),
    /// Nothing that concerns us; what it calls itself, cut.
    Other(String),
}

/// Why an upgrade is refused. What the other end is told is the status and [`Rejection::public`]; the log gets all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// No credential, or a wrong one.
    #[error("authentication failed: {reason}")]
    Unauthorized {
        /// For the operator's log; never the credential.
        reason: &'static str,
    },
    /// The credential is signed with a key that is not known, and might be if the issuer's keys were read anew.
    #[error(
        "authentication failed: the token names a key (`kid`) that the key set does not hold: is it the issuer's present set?"
    )]
    UnknownKey,
    /// The request asks for something that cannot be.
    #[error("bad request: {reason}")]
    BadRequest {
        /// What, and what to do about it.
        reason: String,
    },
}

impl Rejection {
    /// That a query parameter has a value it may not have.
    pub(super) fn query(name: &str, value: &str, allowed: &str) -> Self {
        let value: String = value.chars().take(20).flat_map(char::escape_debug).collect();
        let reason = format!("{name}={value} is not possible; allowed: {allowed}");
        Self::BadRequest { reason }
    }

    /// HTTP status of the answer.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Unauthorized { .. } | Self::UnknownKey => 401,
            Self::BadRequest { .. } => 400,
        }
    }

    /// What the other end is told.
    #[must_use]
    pub fn public(&self) -> &str {
        match self {
            // Which part of it failed would help who guesses, and is told to nobody.
            Self::Unauthorized { .. } | Self::UnknownKey => {
                "authentication failed; the bridge's log says why"
            }
            Self::BadRequest { reason } => reason,
        }
    }
}

/// The request with which the provider's end opens a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutgoingUpgrade {
    /// Path and query.
    pub target: String,
    /// Header fields beside those of every WebSocket handshake.
    pub headers: Vec<(String, String)>,
    /// Subprotocols offered.
    pub subprotocols: Vec<String>,
}

impl OutgoingUpgrade {
    /// What `look` makes of the request as it arrives, at a listener that was told no public URL.
    pub fn arrives<T>(&self, look: impl FnOnce(&Upgrade<'_>) -> T) -> T {
        let own = self.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
        let offers = self.subprotocols.iter().map(|offer| (SUBPROTOCOLS.to_owned(), offer));
        let headers: Vec<_> = own.chain(offers).collect();
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        look(&Upgrade { target: &self.target, public_url: None, headers: &headers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgrade(target: &str) -> Upgrade<'_> {
        Upgrade { target, public_url: None, headers: &[] }
    }

    #[test]
    fn query_pairs_are_decoded_in_order() {
        let upgrade = upgrade("/raw?to=%2B1555&name=Jane+Doe&flag&&x=a=b");
        let pairs: Vec<_> = upgrade.query_pairs().collect();
        let expected = [("to", "+1555"), ("name", "Jane Doe"), ("flag", ""), ("x", "a=b")];
        assert_eq!(pairs, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(upgrade.query("name").as_deref(), Some("Jane Doe"));
        assert_eq!(upgrade.path(), "/raw");
    }

    #[test]
    fn query_made_is_the_query_read() {
        let pairs = vec![("a b".to_owned(), "+1&=%\u{e9}".to_owned()), ("c".into(), String::new())];
        let target = with_query("/raw?x=1", &pairs);
        let read: Vec<_> = upgrade(&target).query_pairs().skip(1).collect();
        assert_eq!(read, pairs);
        let options = super::super::Options {
            credential_query: Some("x".into()),
            ..super::super::Options::default()
        };
        assert_eq!(upgrade(&target).parameters(&options), pairs);
    }

    #[test]
    fn subprotocols_come_from_every_header_of_that_name() {
        let headers = [("sec-websocket-protocol", "a, media"), ("sec-websocket-protocol", "b")];
        let upgrade = Upgrade { target: "/", public_url: None, headers: &headers };
        assert_eq!(upgrade.subprotocols().collect::<Vec<_>>(), ["a", "media", "b"]);
    }
}
