//! The one header field of a session's messages over NATS: what kind of message it is, its number, and how many of the other end's were
//! taken. The payload is the contract's message and nothing else, as a WebSocket would carry it.

use async_nats::HeaderMap;
use async_nats::header::HeaderName;
use ringback_module::wire::FrameKind;

use crate::socket::Closed;

const JSON: HeaderName = HeaderName::from_static("Ringback-Json");
const SOUND: HeaderName = HeaderName::from_static("Ringback-Sound");
const TAKEN: HeaderName = HeaderName::from_static("Ringback-Taken");
const CLOSE: HeaderName = HeaderName::from_static("Ringback-Close");
/// Octets of a reason; it stands in one line.
const MAX_REASON: usize = 120;

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Head {
    /// A message or sound of the contract: the how manieth, counted from 0, and how many were taken.
    Frame { kind: FrameKind, number: u64, taken: u64 },
    /// Nothing but how many were taken.
    Taken(u64),
    /// The session is over.
    Close(Closed),
}

impl Head {
    /// As it is read; `None` if it is none of ours.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &HeaderName| headers.get(name.clone()).map(|value| value.as_str());
        let frame = |kind, text: &str| {
            let (number, taken) = text.split_once(' ')?;
            Some(Self::Frame { kind, number: number.parse().ok()?, taken: taken.parse().ok()? })
        };
        if let Some(text) = text(&SOUND) {
            return frame(FrameKind::Audio, text);
        }
        if let Some(text) = text(&JSON) {
            return frame(FrameKind::Json, text);
        }
        if let Some(text) = text(&TAKEN) {
            return text.parse().ok().map(Self::Taken);
        }
        let (code, reason) = text(&CLOSE).map(|text| text.split_once(' ').unwrap_or((text, "")))?;
        Some(Self::Close(Closed { code: code.parse().ok()?, reason: reason.into() }))
    }

    /// As it is written.
    pub(crate) fn headers(&self) -> HeaderMap {
        let (name, value) = match self {
            Self::Frame { kind, number, taken } => {
                let name = match kind {
                    FrameKind::Json => JSON,
                    FrameKind::Audio => SOUND,
                };
                (name, format!("{number} {taken}"))
            }
            Self::Taken(taken) => (TAKEN, taken.to_string()),
            Self::Close(Closed { code, reason }) => {
                let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
                let reason: String = reason.chars().take(MAX_REASON).map(plain).collect();
                (CLOSE, format!("{code} {reason}").trim_end().to_owned())
            }
        };
        let mut headers = HeaderMap::new();
        headers.insert(name, value);
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: u16, reason: &str) -> Head {
        Head::Close(Closed { code, reason: reason.into() })
    }

    #[test]
    fn heads_are_read_as_they_are_written() {
        for head in [
            Head::Frame { kind: FrameKind::Json, number: 0, taken: 0 },
            Head::Frame { kind: FrameKind::Audio, number: 17, taken: u64::MAX },
            Head::Taken(128),
            closed(1000, ""),
            closed(4008, "no sign of life for 2000 ms"),
        ] {
            assert_eq!(Head::of(&head.headers()), Some(head));
        }
    }

    #[test]
    fn a_reason_cannot_be_a_field_of_its_own() {
        let written = closed(4002, "said \"\r\nRingback-Json: 0 0\" and more").headers();
        assert_eq!(written.len(), 1);
        let read = closed(4002, "said \"??Ringback-Json: 0 0\" and more");
        assert_eq!(Head::of(&written), Some(read));
    }

    #[test]
    fn what_is_none_of_ours_is_none() {
        for (name, value) in [
            ("Other", "1 2"),
            ("Ringback-Json", "1"),
            ("Ringback-Sound", "one 2"),
            ("Ringback-Close", "soon"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value);
            assert_eq!(Head::of(&headers), None, "{name}: {value}");
        }
    }
}
