//! The media message that half the industry copied from Twilio: `{"event":"media","media":{"track","chunk","timestamp","payload"}}`
//! with base64 inside. Reads it fast; says nothing about the rest of those wires.

use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use ringback_codecs::MediaFormat;

use super::dialect::MediaPaths;
use super::json::Reader;
use super::scan::Cursor;
use super::{Event, Media, Outbox, ProtocolError, Span, Track, base64, scan};

/// The members of a media message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct MediaMessage<'a> {
    /// The stream's name, where the message has it at the top.
    pub(super) stream: Option<&'a str>,
    /// Whose voice.
    pub(super) track: Option<&'a str>,
    /// Counts the messages of the track.
    pub(super) chunk: Option<u64>,
    /// Milliseconds since the stream's start.
    pub(super) timestamp: Option<u64>,
    /// The sound in base64.
    pub(super) payload: &'a str,
}

impl<'a> MediaMessage<'a> {
    /// Reads a media message as known senders write it, members in any order; `None` if it is anything else or has an escape.
    /// `name` is the member that names messages, `stream` the one that names the stream.
    pub(super) fn scan(
        text: &'a str,
        name: &str,
        paths: &MediaPaths,
        stream: &str,
    ) -> Option<Self> {
        let mut found = Self::default();
        let (mut is_media, mut has_payload) = (paths.kind.is_empty(), false);
        scan::walk(text, |parent, key, value| {
            let is = |path| is_path(path, parent, key);
            if is(name) {
                is_media = value == paths.kind;
                return is_media.then_some(());
            } else if is(paths.payload) {
                (found.payload, has_payload) = (value, true);
            } else if is(stream) {
                found.stream = Some(value);
            } else if is(paths.track) {
                found.track = Some(value);
            } else if is(paths.chunk) {
                found.chunk = Some(value.parse().ok()?);
            } else if is(paths.timestamp) {
                found.timestamp = Some(value.parse().ok()?);
            }
            Some(())
        })?;
        (is_media && has_payload).then_some(found)
    }

    /// Reads a media message exactly as Twilio writes it, which it has done for years; `None` if a character is different. The
    /// payload is found from both sides and not looked at: if it is not base64, this may have been another message altogether.
    /// Does not read the stream's name.
    pub(super) fn scan_twilio(text: &'a str) -> Option<Self> {
        let mut cursor = Cursor::new(text);
        cursor.literal(r#"{"event":"media","sequenceNumber":""#)?;
        cursor.digits()?;
        cursor.literal(r#"","media":{"track":""#)?;
        let track = match cursor.literal("inbound") {
            Some(()) => "inbound",
            None => cursor.literal("outbound").map(|()| "outbound")?,
        };
        cursor.literal(r#"","chunk":""#)?;
        let chunk = cursor.digits()?;
        cursor.literal(r#"","timestamp":""#)?;
        let timestamp = cursor.digits()?;
        cursor.literal(r#"","payload":""#)?;
        let (rest, _) = cursor.rest().strip_suffix(r#""}"#)?.rsplit_once('"')?;
        let payload = rest.strip_suffix(r#""},"streamSid":"#)?;
        Some(Self {
            stream: None,
            track: Some(track),
            chunk: Some(chunk),
            timestamp: Some(timestamp),
            payload,
        })
    }

    /// Reads a media message however it is written.
    pub(super) fn read(
        message: &Reader<'a>,
        paths: &MediaPaths,
        stream: &str,
    ) -> Result<Self, ProtocolError> {
        let node = message.node;
        Ok(Self {
            stream: node.text(stream),
            track: node.text(paths.track),
            chunk: node.number(paths.chunk),
            timestamp: node.number(paths.timestamp),
            payload: message.text(paths.payload)?,
        })
    }

    /// Octets of sound, if the payload is base64.
    pub(super) fn octets(&self) -> usize {
        self.payload.trim_end_matches('=').len() * 3 / 4
    }

    /// Decodes the payload into the outbox; without a track it is `usual`'s.
    pub(super) fn decode(
        &self,
        index: u64,
        paths: &MediaPaths,
        usual: Track,
        out: &mut Outbox,
    ) -> Result<Media, ProtocolError> {
        let wrong = |field, problem| ProtocolError::Field { index, kind: "media", field, problem };
        let track = match self.track {
            Some(name) => {
                track_of(paths.names, name).ok_or_else(|| wrong(paths.track, "names no track"))?
            }
            None => usual,
        };
        let payload = payload(index, "media", paths.payload, self.payload, out)?;
        let timestamp = self.timestamp.map(Duration::from_millis);
        Ok(Media { track, payload, sequence: self.chunk, timestamp })
    }
}

/// What tracks are called by Twilio and whoever copied it.
pub(super) const TRACK_NAMES: &[(&str, Track)] = &[
    ("inbound", Track::Inbound),
    ("outbound", Track::Outbound),
    ("inbound_track", Track::Inbound),
    ("outbound_track", Track::Outbound),
];
/// Decodes a payload in base64 into the outbox, or says that `field` of message `kind` is none.
fn payload(
    index: u64,
    kind: &'static str,
    field: &'static str,
    text: &str,
    out: &mut Outbox,
) -> Result<Span, ProtocolError> {
    let problem = "is not base64";
    out.try_store(|arena| base64::decode(text, arena)).map_err(|_| ProtocolError::Field {
        index,
        kind,
        field,
        problem,
    })
}

/// Decodes a payload in base64 as sound that is neither counted nor timed; errors as of [`payload`].
pub(super) fn sound(
    index: u64,
    (kind, field): (&'static str, &'static str),
    text: &str,
    track: Track,
    out: &mut Outbox,
) -> Result<Event, ProtocolError> {
    let payload = payload(index, kind, field, text, out)?;
    Ok(Event::Media(Media { track, payload, sequence: None, timestamp: None }))
}

/// Queues a text message: `before`, sound in base64, `after`.
pub(super) fn send(out: &mut Outbox, before: fmt::Arguments<'_>, sound: &[u8], after: &str) {
    out.text(|text| {
        text.write_fmt(before).expect("writing to memory cannot fail");
        base64::encode(sound, text);
        text.extend_from_slice(after.as_bytes());
    });
}

/// The track of that name.
pub(super) fn track_of(names: &[(&str, Track)], name: &str) -> Option<Track> {
    names.iter().find(|(of, _)| *of == name).map(|(_, track)| *track)
}

/// The tracks a start message lists; none means the inbound one.
pub(super) fn tracks(
    message: &Reader<'_>,
    path: &'static str,
) -> Result<Vec<Track>, ProtocolError> {
    let unknown = || message.error(path, "names an unknown track");
    let named = message.node.list(path).map(|name| track_of(TRACK_NAMES, name).ok_or_else(unknown));
    let tracks = named.collect::<Result<Vec<_>, _>>()?;
    Ok(if tracks.is_empty() { vec![Track::Inbound] } else { tracks })
}

/// Counts what is sent on a track, to number and time its messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counter {
    format: MediaFormat,
    messages: u64,
    samples: u64,
}

impl Counter {
    /// For sound of this format.
    pub(super) const fn new(format: MediaFormat) -> Self {
        Self { format, messages: 0, samples: 0 }
    }

    /// Number (from 1) and timestamp in milliseconds of the next message. Where octets do not tell how long a message lasts, it
    /// is taken for 20 ms.
    pub(super) fn next(&mut self, octets: usize) -> (u64, u64) {
        let timestamp = self.format.rate.millis_of(self.samples);
        let usual = self.format.rate.samples_in(Duration::from_millis(20));
        self.messages += 1;
        self.samples += self.format.samples_in(octets).map_or(usual, |samples| samples as u64);
        (self.messages, timestamp)
    }
}

/// Whether `path` is `parent.key`, or `key` where there is no parent. Lengths tell nearly always, and it is asked for every path and
/// member of every message.
#[inline]
fn is_path(path: &str, parent: &str, key: &str) -> bool {
    if parent.is_empty() {
        return path == key;
    }
    path.len() == parent.len() + 1 + key.len()
        && path.as_bytes()[parent.len()] == b'.'
        && path.ends_with(key)
        && path.starts_with(parent)
}

#[cfg(test)]
mod tests {
    use super::super::json::Node;
    use super::*;

    fn both(text: &str) -> (Option<MediaMessage<'_>>, bool) {
        let scanned = MediaMessage::scan(text, "event", &MediaPaths::USUAL, "streamSid");
        let node = Node::parse(0, "JSON", text).unwrap();
        let reader = Reader { index: 0, kind: "media", node: &node };
        let read = MediaMessage::read(&reader, &MediaPaths::USUAL, "streamSid").ok();
        (scanned, scanned.is_none_or(|scanned| Some(scanned) == read))
    }

    #[test]
    fn scanner_and_reader_agree() {
        let scanned = [
            r#"{"event":"media","media":{"payload":"AA=="}}"#,
            r#"{"media":{"timestamp":5,"chunk":"1","payload":"AA==","track":"outbound"},"event":"media"}"#,
            r#"{"event":"media","sequenceNumber":3,"streamSid":"MZ","media":{"payload":"","x":[]}}"#,
        ];
        for (text, takes) in scanned.into_iter().zip([true, true, false]) {
            let (scanned, agrees) = both(text);
            assert_eq!((scanned.is_some(), agrees), (takes, true), "{text}");
        }
        let usual = r#"{"event":"media","sequenceNumber":"12","media":{"track":"inbound","chunk":"11","timestamp":"220","payload":"AA=="},"streamSid":"MZ1"}"#;
        let scanned = MediaMessage::scan(usual, "event", &MediaPaths::USUAL, "none");
        assert_eq!((scanned.is_some(), MediaMessage::scan_twilio(usual)), (true, scanned));
        for cut in 0..usual.len() {
            assert_eq!(MediaMessage::scan_twilio(&usual[..cut]), None);
        }
        let left = [
            r#"{"event":"media","media":{"payload":"\/\/8="}}"#,
            r#"{"event":"media","media":{"payload":"AA==","chunk":null}}"#,
            r#"{"event":"media","media":{"payload":"AA==","timestamp":20.5}}"#,
            r#"{"event":"start","media":{"payload":"AA=="}}"#,
            r#"{"event":"media","media":{}}"#,
        ];
        for text in left {
            assert_eq!(both(text), (None, true), "{text}");
        }
    }

    #[test]
    fn a_message_may_have_no_name() {
        let paths = MediaPaths { kind: "", payload: "audio", ..MediaPaths::USUAL };
        let scan = |text| MediaMessage::scan(text, "event", &paths, "none");
        let found = scan(r#"{"room":"r","audio":"AA=="}"#).map(|message| message.payload);
        assert_eq!(found, Some("AA=="));
        assert_eq!(scan(r#"{"room":"r"}"#), None);
        assert_eq!(scan(r#"{"event":"other","audio":"AA=="}"#), None);
    }
}
