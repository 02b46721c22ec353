//! The opening handshake of RFC 6455, section 4, as octets: the client's request and what answers it. Opens no connection.

use std::fmt::Write as _;

use ringback_proto::provider::OutgoingUpgrade;
use sha1::{Digest as _, Sha1};

use super::{DialError, cut};

/// Appended to a key before it is hashed (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Octets of an answer's head; no server needs a tenth of it.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// Octets of a refusal's body that are kept to be told.
const MAX_BODY: usize = 2 * 1024;
/// Octets of a wrong field that are told.
const MAX_QUOTED: usize = 100;

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
    /// Subprotocols.
    offered: Vec<String>,
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
        crate::chance::fill(&mut nonce).map_err(|error| DialError::Request(error.to_string()))?;
        let key = base64_simd::STANDARD.encode_to_string(nonce);
        let mut text = begin("GET", host, &request.target)?;
        let _ = write!(
            text,
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        );
        let names = &request.subprotocols;
        for (index, name) in names.iter().enumerate() {
            if name.is_empty() || !name.bytes().all(is_token) || names[..index].contains(name) {
                let what = format!("{name:?} cannot be offered as a subprotocol");
                return Err(DialError::Request(what));
            }
        }
        let offered = names.join(", ");
        let offered = (!offered.is_empty()).then_some(("Sec-WebSocket-Protocol", offered.as_str()));
        let fields = request.headers.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
        put_fields(&mut text, fields.chain(offered))?;
        text.push_str("\r\n");
        Ok(Self {
            request: text.into_bytes(),
            accept: accept_key(key.as_bytes()),
            offered: request.subprotocols.clone(),
            answer: Vec::new(),
        })
    }

    /// What to send.
    #[must_use]
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Takes what came, an empty slice once nothing more will; `None` until the answer is whole. A refusal that does not say how
    /// long its body is counts as whole with its head: it may come on a connection that stays open.
    ///
    /// # Errors
    /// [`DialError::Refused`] tells what the server said, [`DialError::Handshake`] what is wrong with a yes.
    pub fn take(&mut self, octets: &[u8]) -> Result<Option<Agreed>, DialError> {
        self.answer.extend_from_slice(octets);
        let failed = |problem: &str| Err(DialError::Handshake(problem.to_owned()));
        loop {
            let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut head = httparse::Response::new(&mut headers);
            let end = match head.parse(&self.answer) {
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
            let (fields, body) = (Fields(head.headers), &self.answer[end..]);
            match head.code.unwrap_or(0) {
                101 => {
                    let subprotocol = self.check(&fields)?;
                    return Ok(Some(Agreed { subprotocol, read_ahead: body.to_vec() }));
                }
                // The answer is still to come (RFC 9110, 15.2).
                100..=199 => drop(self.answer.drain(..end)),
                status => {
                    let whole = octets.is_empty() || body.len() >= fields.body_length();
                    return if whole { Err(refused(status, &fields, body)) } else { Ok(None) };
                }
            }
        }
    }

    /// Nothing more is waited for: gives the refusal of which at least the head came, or else `otherwise`.
    #[must_use]
    pub fn give_up(&mut self, otherwise: DialError) -> DialError {
        match self.take(&[]) {
            Err(refused @ DialError::Refused { .. }) => refused,
            _ => otherwise,
        }
    }

    /// Checks a yes as RFC 6455, 4.1, demands, and gives the subprotocol.
    fn check(&self, fields: &Fields<'_>) -> Result<Option<String>, DialError> {
        let wrong = |name: &str, expected: &str| {
            let found = match fields.value(name) {
                Some(value) => format!("{:?}", cut(&value, MAX_QUOTED)),
                None => "missing".into(),
            };
            let problem = format!("`{name}` of the answer is {found}, expected was {expected}");
            Err(DialError::Handshake(problem))
        };
        let value = |name: &str| fields.value(name).unwrap_or_default();
        if !value("Upgrade").eq_ignore_ascii_case("websocket") {
            return wrong("Upgrade", "\"websocket\"");
        }
        let connection = value("Connection");
        if !connection.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade")) {
            return wrong("Connection", "a list with \"Upgrade\"");
        }
        if value("Sec-WebSocket-Accept") != self.accept {
            return wrong("Sec-WebSocket-Accept", &format!("{:?}", self.accept));
        }
        if fields.value("Sec-WebSocket-Extensions").is_some() {
            return wrong("Sec-WebSocket-Extensions", "none, for none was offered");
        }
        let subprotocol = fields.value("Sec-WebSocket-Protocol");
        match &subprotocol {
            Some(chosen) if !self.offered.contains(chosen) => {
                let expected = if self.offered.is_empty() {
                    "none, for none was offered".into()
                } else {
                    format!("one of {:?}", self.offered)
                };
                wrong("Sec-WebSocket-Protocol", &expected)
            }
            _ => Ok(subprotocol),
        }
    }
}

/// Header fields of an answer.
struct Fields<'a>(&'a [httparse::Header<'a>]);

impl Fields<'_> {
    /// The value of a field; of one that is there several times, all of them as a list (RFC 9110, 5.3).
    fn value(&self, name: &str) -> Option<String> {
        let found = self.0.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        let values: Vec<_> = found.map(|field| String::from_utf8_lossy(field.value)).collect();
        (!values.is_empty()).then(|| values.join(", ").trim().to_owned())
    }

    /// Octets of a refusal's body to wait for; none if the head does not say how many there are.
    fn body_length(&self) -> usize {
        let is_chunked = self.value("Transfer-Encoding").is_some();
        let length = self.value("Content-Length").filter(|_| !is_chunked);
        length.and_then(|length| length.parse().ok()).unwrap_or(0).min(MAX_BODY)
    }
}

fn refused(status: u16, fields: &Fields<'_>, body: &[u8]) -> DialError {
    // Of a body in chunks the first one is told, without its length.
    let chunk =
        fields.value("Transfer-Encoding").and_then(|_| match httparse::parse_chunk_size(body) {
            Ok(httparse::Status::Complete((start, length))) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                Some(&body[start..][..length.min(body.len() - start)])
            }
            _ => None,
        });
    let body = chunk.unwrap_or(body);
    DialError::Refused {
        status,
        retry_after: fields.value("Retry-After").and_then(|seconds| seconds.parse().ok()),
        body: String::from_utf8_lossy(&body[..body.len().min(MAX_BODY)]).trim().to_owned(),
    }
}

/// The first two lines of a request.
///
/// # Errors
/// [`DialError::Request`] if host or target would break the request apart.
pub(crate) fn begin(method: &str, host: &str, target: &str) -> Result<String, DialError> {
    if !target.starts_with('/') || !is_word(target) || !is_word(host) {
        return Err(DialError::Request(format!("{host}{target} is no URL")));
    }
    Ok(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n"))
}

/// Appends header fields to a request.
///
/// # Errors
/// [`DialError::Request`] if one would break the request apart.
pub(crate) fn put_fields<'a>(
    text: &mut String,
    fields: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<(), DialError> {
    for (name, value) in fields {
        if name.is_empty() || !name.bytes().all(is_token) || value.contains(['\r', '\n', '\0']) {
            return Err(DialError::Request(format!("`{name}` is no header field")));
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{name}: {value}\r\n");
    }
    Ok(())
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

    fn asking(subprotocols: &[&'static str]) -> Asking {
        let subprotocols = subprotocols.iter().map(|name| (*name).into()).collect();
        let request =
            OutgoingUpgrade { target: "/x?a=1".into(), subprotocols, ..OutgoingUpgrade::default() };
        Asking::new("host:1", &request).expect("a request")
    }

    /// A yes with these fields beside the right `Sec-WebSocket-Accept`.
    fn yes(asking: &Asking, fields: &str) -> Vec<u8> {
        let accept = &asking.accept;
        format!("HTTP/1.1 101 X\r\nsec-websocket-accept: {accept}\r\n{fields}\r\n").into_bytes()
    }

    const UPGRADED: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";

    #[test]
    fn the_key_of_the_standard_is_answered_as_the_standard_says() {
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_is_asked_has_all_that_the_standard_wants() {
        let keys = [asking(&["audio"]), asking(&[])].map(|asking| {
            let text = String::from_utf8(asking.request().to_vec()).expect("a request is text");
            let (head, rest) = text.split_once("\r\n\r\n").expect("it ends");
            assert_eq!(rest, "", "nothing follows before it is answered");
            let mut lines = head.lines();
            assert_eq!(lines.next(), Some("GET /x?a=1 HTTP/1.1"));
            let mut fields: Vec<_> = lines.filter_map(|line| line.split_once(": ")).collect();
            fields.sort_unstable();
            let key = fields.iter().position(|(name, _)| *name == "Sec-WebSocket-Key");
            let (_, key) = fields.remove(key.expect("there is a key"));
            let offered = ("Sec-WebSocket-Protocol", "audio");
            fields.retain(|field| *field != offered);
            let wanted = [
                ("Connection", "Upgrade"),
                ("Host", "host:1"),
                ("Sec-WebSocket-Version", "13"),
                ("Upgrade", "websocket"),
            ];
            assert_eq!(fields, wanted);
            let nonce = base64_simd::STANDARD.decode_to_vec(key).expect("base64");
            assert_eq!(nonce.len(), 16);
            nonce
        });
        assert_ne!(keys[0], keys[1]);
    }

    #[test]
    fn an_answer_in_pieces_is_understood_and_what_follows_it_kept() {
        let mut asking = asking(&["audio", "media"]);
        assert!(asking.request().starts_with(b"GET /x?a=1 HTTP/1.1\r\nHost: host:1\r\n"));
        let mut answer = yes(&asking, &format!("{UPGRADED}Sec-WebSocket-Protocol: media\r\n"));
        answer.extend_from_slice(b"more");
        let (first, last) = answer.split_at(60);
        assert_eq!(asking.take(first).unwrap(), None);
        let agreed = asking.take(last).unwrap().unwrap();
        assert_eq!(agreed.subprotocol.as_deref(), Some("media"));
        assert_eq!(agreed.read_ahead, b"more");
    }

    #[test]
    fn an_answer_whose_head_does_not_end_is_not_waited_for() {
        let mut asking = asking(&[]);
        assert_eq!(asking.take(b"HTTP/1.1 101 X\r\nX-Long: ").unwrap(), None);
        let pieces = (0..20).map(|_| asking.take(&[b'x'; 1024]));
        let refused: Vec<_> = pieces.filter_map(Result::err).collect();
        let told = refused.first().expect("20 KiB of it").to_string();
        assert!(told.contains("the answer's head does not end"), "{told}");
    }

    #[test]
    fn a_yes_may_be_written_in_any_case_and_as_a_list() {
        for fields in [
            "UPGRADE: WebSocket\r\nCONNECTION: keep-alive, UPGRADE\r\n",
            "Connection: keep-alive\r\nConnection: upgrade,\r\nUpgrade:  websocket \r\n",
        ] {
            let mut asking = asking(&["audio"]);
            let agreed = asking.take(&yes(&asking, fields)).unwrap().expect("the whole answer");
            assert_eq!(agreed.subprotocol, None, "nobody has to choose one");
        }
    }

    #[test]
    fn a_yes_to_something_else_is_refused() {
        let with = |fields: &str| format!("{UPGRADED}{fields}\r\n");
        let cases = [
            ("Connection: Upgrade\r\n".into(), "`Upgrade` of the answer is missing"),
            (
                "Connection: Upgrade\r\nUpgrade: h2c\r\n".into(),
                "\"h2c\", expected was \"websocket\"",
            ),
            ("Upgrade: websocket\r\n".into(), "`Connection` of the answer is missing"),
            (
                "Upgrade: websocket\r\nConnection: keep-alive, upgraded\r\n".into(),
                "\"keep-alive, upgraded\", expected was a list with \"Upgrade\"",
            ),
            (with("Sec-WebSocket-Protocol: video"), "\"video\", expected was one of [\"audio\"]"),
            (with("Sec-WebSocket-Protocol: AUDIO"), "\"AUDIO\", expected was one of [\"audio\"]"),
            (
                with("Sec-WebSocket-Protocol: audio\r\nSec-WebSocket-Protocol: audio"),
                "\"audio, audio\"",
            ),
            (with("Sec-WebSocket-Accept: AAAA"), "`Sec-WebSocket-Accept` of the answer is"),
            (
                with("Sec-WebSocket-Extensions: permessage-deflate"),
                "`Sec-WebSocket-Extensions` of the answer is \"permessage-deflate\", expected was none",
            ),
        ];
        for (fields, told) in cases {
            let mut asking = asking(&["audio"]);
            let error = asking.take(&yes(&asking, &fields)).expect_err(&fields);
            assert!(matches!(error, DialError::Handshake(_)), "{error}");
            assert!(error.to_string().contains(told), "{error}");
        }
        for (field, told) in [
            ("Sec-WebSocket-Protocol: audio", "\"audio\", expected was none"),
            ("Sec-WebSocket-Extensions: ?", "`Sec-WebSocket-Extensions` of the answer is"),
        ] {
            let mut asking = asking(&[]);
            let mut answer = yes(&asking, &with(field));
            // Not UTF-8, and there all the same.
            answer.iter_mut().filter(|octet| **octet == b'?').for_each(|octet| *octet = 0xFF);
            let error = asking.take(&answer).expect_err(field).to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    fn told(refused: DialError) -> (u16, Option<u64>, String) {
        match refused {
            DialError::Refused { status, retry_after, body } => (status, retry_after, body),
            other => panic!("{other}"),
        }
    }

    const FULL: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 6\r\n\r\n";

    #[test]
    fn a_refusal_is_told_with_its_body() {
        let mut asking = asking(&[]);
        assert_eq!(asking.take(FULL).unwrap(), None);
        let refused = asking.take(b"full\r\n").unwrap_err();
        assert_eq!(told(refused), (503, Some(7), "full".into()));
    }

    #[test]
    fn a_refusal_that_does_not_say_its_length_is_told_at_once() {
        for (rest, body) in [
            ("\r\n", ""),
            ("\r\nwho are you?", "who are you?"),
            ("Transfer-Encoding: chunked\r\n\r\n", ""),
            ("Transfer-Encoding: chunked\r\n\r\nc\r\nwho are you?\r\n0\r\n\r\n", "who are you?"),
            ("Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nwho", "who"),
            ("Transfer-Encoding: chunked\r\nContent-Length: 99\r\n\r\nc\r\nwho", "who"),
            ("Content-Length: many\r\n\r\n", ""),
            ("Content-Length: 0\r\n\r\n", ""),
        ] {
            let answer = format!("HTTP/1.1 401 X\r\nRetry-After: 3\r\n{rest}");
            let refused = asking(&[]).take(answer.as_bytes()).expect_err(rest);
            assert_eq!(told(refused), (401, Some(3), body.into()), "{rest}");
        }
    }

    #[test]
    fn what_came_of_a_refusal_is_told_when_no_more_does() {
        let late = || DialError::Deadline(std::time::Duration::ZERO);
        let mut cut = asking(&[]);
        assert_eq!(cut.take(&[FULL, b"fu"].concat()).unwrap(), None);
        assert_eq!(told(cut.take(b"").unwrap_err()), (503, Some(7), "fu".into()));
        let mut slow = asking(&[]);
        assert_eq!(slow.take(FULL).unwrap(), None);
        assert_eq!(told(slow.give_up(late())), (503, Some(7), String::new()));
        let mut silent = asking(&[]);
        assert_eq!(silent.take(&FULL[..20]).unwrap(), None);
        assert!(matches!(silent.give_up(late()), DialError::Deadline(_)));
    }

    #[test]
    fn word_that_an_answer_will_come_is_not_the_answer() {
        let mut asking = asking(&[]);
        let hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
        assert_eq!(asking.take(hints).unwrap(), None);
        assert!(asking.take(&yes(&asking, UPGRADED)).unwrap().is_some());
    }

    #[test]
    fn wrong_answers_are_errors() {
        let wrong_key = format!("HTTP/1.1 101 X\r\n{UPGRADED}Sec-WebSocket-Accept: AAAA\r\n\r\n");
        for answer in [wrong_key.as_bytes(), b"SSH-2.0-x\r\n", b"", &[b'a'; 20_000]] {
            assert!(matches!(asking(&[]).take(answer), Err(DialError::Handshake(_))));
        }
    }

    #[test]
    fn requests_cannot_be_broken_apart() {
        for target in ["", "x", "/a b", "/a\r\nX: y"] {
            let request = OutgoingUpgrade { target: target.into(), ..OutgoingUpgrade::default() };
            assert!(matches!(Asking::new("host", &request), Err(DialError::Request(_))));
        }
        for names in [&[""][..], &["a b"], &["a,b"], &["a\r\nX: y"], &["a", "b", "a"]] {
            let subprotocols = names.iter().map(|name| (*name).into()).collect();
            let request =
                OutgoingUpgrade { target: "/".into(), subprotocols, ..OutgoingUpgrade::default() };
            let refused = Asking::new("host", &request);
            assert!(matches!(refused, Err(DialError::Request(_))), "{names:?}");
        }
        for (name, value) in [("", "x"), ("a b", "x"), ("X", "a\r\nY: b")] {
            let headers = vec![(name.into(), value.into())];
            let request =
                OutgoingUpgrade { target: "/".into(), headers, ..OutgoingUpgrade::default() };
            assert!(matches!(Asking::new("host", &request), Err(DialError::Request(_))));
        }
    }
}
