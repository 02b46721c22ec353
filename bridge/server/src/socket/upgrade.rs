//! The opening handshake of RFC 6455, section 4, as octets: the client's request and what answers it. Opens no connection.

use std::fmt::Write as _;

use ringback_proto::provider::OutgoingUpgrade;
use sha1::{Digest as _, Sha1};

use super::DialError;

/// Appended to a key before it is hashed (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Octets of an answer's head; no server needs a tenth of it.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// Octets of a refusal's body that are kept to be told.
const MAX_BODY: usize = 2 * 1024;

/// The value of `Sec-WebSocket-Accept` for the value of `Sec-WebSocket-Key`.
pub(crate) fn accept_key(key: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(GUID);
    base64_simd::STANDARD.encode_to_string(hash.finalize())
}

/// A request for a stream, and the reading of its answer.
#[derive(Debug)]
pub struct Asking {
    request: Vec<u8>,
    accept: String,
    answer: Vec<u8>,
}

/// The server said yes.
#[derive(Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The subprotocol it chose.
    pub subprotocol: Option<String>,
    /// What it sent behind its answer.
    pub read_ahead: Vec<u8>,
}

impl Asking {
    /// Asks `host` (`bridge.example:8080`) for `request`.
    ///
    /// # Errors
    /// [`DialError::Request`] if the target or a field would break the request apart.
    pub fn new(host: &str, request: &OutgoingUpgrade) -> Result<Self, DialError> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| DialError::Request(error.to_string()))?;
        let key = base64_simd::STANDARD.encode_to_string(nonce);
        let target = &request.target;
        if !target.starts_with('/') || !is_word(target) || !is_word(host) {
            return Err(DialError::Request(format!("{host}{target} is no URL")));
        }
        let mut text = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        );
        let offered = request.subprotocols.join(", ");
        let offered = (!offered.is_empty()).then_some(("Sec-WebSocket-Protocol", offered.as_str()));
        let fields = request.headers.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
        for (name, value) in fields.chain(offered) {
            if name.is_empty() || !name.bytes().all(is_token) || value.contains(['\r', '\n', '\0'])
            {
                return Err(DialError::Request(format!("`{name}` is no header field")));
            }
            let _ = write!(text, "{name}: {value}\r\n");
        }
        text.push_str("\r\n");
        Ok(Self {
            request: text.into_bytes(),
            accept: accept_key(key.as_bytes()),
            answer: Vec::new(),
        })
    }

    /// What to send.
    #[must_use]
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Takes what came, an empty slice once nothing more will; `None` until the answer is whole.
    ///
    /// # Errors
    /// [`DialError::Refused`] tells what the server said.
    pub fn take(&mut self, octets: &[u8]) -> Result<Option<Agreed>, DialError> {
        self.answer.extend_from_slice(octets);
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let parsed = head.parse(&self.answer);
        let failed = |problem: &str| Err(DialError::Handshake(problem.to_owned()));
        let end = match parsed {
            Ok(httparse::Status::Complete(end)) => end,
            Ok(httparse::Status::Partial) if self.answer.len() > MAX_HEAD => {
                return failed("the answer's head does not end");
            }
            Ok(httparse::Status::Partial) if octets.is_empty() => {
                return failed("the connection ended before the answer did");
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return failed(&format!("the answer is not HTTP: {error}")),
        };
        let field = |name: &str| {
            let found = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(found.value).ok()
        };
        let body = &self.answer[end..];
        if head.code != Some(101) {
            let length = field("content-length").and_then(|length| length.parse().ok());
            let whole = octets.is_empty() || body.len() >= length.unwrap_or(MAX_BODY).min(MAX_BODY);
            let refused = DialError::Refused {
                status: head.code.unwrap_or(0),
                retry_after: field("retry-after").and_then(|seconds| seconds.parse().ok()),
                body: String::from_utf8_lossy(&body[..body.len().min(MAX_BODY)]).trim().to_owned(),
            };
            return if whole { Err(refused) } else { Ok(None) };
        }
        if field("sec-websocket-accept") != Some(self.accept.as_str()) {
            return failed("the answer's `Sec-WebSocket-Accept` does not match");
        }
        if field("sec-websocket-extensions").is_some() {
            return failed("the answer agrees to an extension that was not offered");
        }
        let subprotocol = field("sec-websocket-protocol").map(str::to_owned);
        Ok(Some(Agreed { subprotocol, read_ahead: body.to_vec() }))
    }
}

/// Whether a text can stand in a request line.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_graphic())
}

/// Characters of a field's name (RFC 9110, 5.6.2).
const fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(octet, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking() -> Asking {
        let request = OutgoingUpgrade { target: "/x?a=1".into(), ..OutgoingUpgrade::default() };
        Asking::new("host:1", &request).expect("a request")
    }

    #[test]
    fn the_key_of_the_standard_is_answered_as_the_standard_says() {
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn an_answer_in_pieces_is_understood_and_what_follows_it_kept() {
        let mut asking = asking();
        assert!(asking.request().starts_with(b"GET /x?a=1 HTTP/1.1\r\nHost: host:1\r\n"));
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             sec-websocket-accept: {}\r\nSec-WebSocket-Protocol: audio\r\n\r\nmore",
            asking.accept
        );
        let (first, last) = answer.as_bytes().split_at(60);
        assert_eq!(asking.take(first).unwrap(), None);
        let agreed = asking.take(last).unwrap().unwrap();
        assert_eq!(agreed.subprotocol.as_deref(), Some("audio"));
        assert_eq!(agreed.read_ahead, b"more");
    }

    #[test]
    fn a_refusal_is_told_with_its_body() {
        let mut asking = asking();
        let head =
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 6\r\n\r\n";
        assert_eq!(asking.take(head).unwrap(), None);
        let refused = asking.take(b"full\r\n").unwrap_err();
        let DialError::Refused { status, retry_after, body } = refused else { panic!("{refused}") };
        assert_eq!((status, retry_after, body.as_str()), (503, Some(7), "full"));
    }

    #[test]
    fn wrong_answers_are_errors() {
        let wrong_key = b"HTTP/1.1 101 X\r\nSec-WebSocket-Accept: AAAA\r\n\r\n".as_slice();
        for answer in [wrong_key, b"SSH-2.0-x\r\n", b"", &[b'a'; 20_000]] {
            assert!(matches!(asking().take(answer), Err(DialError::Handshake(_))));
        }
    }

    #[test]
    fn requests_cannot_be_broken_apart() {
        for target in ["", "x", "/a b", "/a\r\nX: y"] {
            let request = OutgoingUpgrade { target: target.into(), ..OutgoingUpgrade::default() };
            assert!(matches!(Asking::new("host", &request), Err(DialError::Request(_))));
        }
        for (name, value) in [("", "x"), ("a b", "x"), ("X", "a\r\nY: b")] {
            let headers = vec![(name.into(), value.into())];
            let request =
                OutgoingUpgrade { target: "/".into(), headers, ..OutgoingUpgrade::default() };
            assert!(matches!(Asking::new("host", &request), Err(DialError::Request(_))));
        }
    }
}
