//! Sound on Avaya's wire: the header of 16 octets, the JSON with base64, and the counts of one direction. Knows no call.

use std::time::Duration;

use ringback_codecs::MediaFormat;
use serde::Deserialize;

use super::super::json::{self, Reader};
use super::super::{Outbox, ProtocolError, Span, base64};

const HEADER: usize = 16;
const LAST: u16 = 0x0001;
const EXTENSION: u16 = 0x0002;
/// How the header of 52 octets began that was used before.
const OBSOLETE: [u8; 2] = *b"AV";

/// Whose sound it is, by Avaya's names. Which of them is the caller, its pages disagree about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    None,
    Tx,
    Rx,
}

impl Source {
    pub(super) fn named(name: &str) -> Self {
        match name {
            "tx" => Self::Tx,
            "rx" => Self::Rx,
            _ => Self::None,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Tx => "tx",
            Self::Rx => "rx",
        }
    }
}

/// A frame that came, without its octets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) bid: u64,
    pub(super) source: Source,
    pub(super) sequence: u64,
    pub(super) micros: u64,
    pub(super) last: bool,
}

/// Reads a binary message: what it says, and the octets of its sound.
pub(super) fn read_binary(index: u64, octets: &[u8]) -> Result<(Frame, &[u8]), ProtocolError> {
    let wrong =
        |field, problem| ProtocolError::Field { index, kind: "binary message", field, problem };
    if octets.starts_with(&OBSOLETE) {
        let what = "the old media header of 52 octets".into();
        return Err(ProtocolError::Unsupported { index, what });
    }
    let (header, mut payload) = octets
        .split_first_chunk::<HEADER>()
        .ok_or_else(|| wrong("header", "is shorter than 16 octets"))?;
    let [f0, f1, bid, source, s0, s1, s2, s3, time @ ..] = *header;
    let flags = u16::from_be_bytes([f0, f1]);
    if flags & EXTENSION != 0 {
        payload = behind_extension(payload)
            .ok_or_else(|| wrong("extension", "is longer than the message"))?;
    }
    let frame = Frame {
        bid: bid.into(),
        source: match source {
            1 => Source::Tx,
            2 => Source::Rx,
            _ => Source::None,
        },
        sequence: u32::from_be_bytes([s0, s1, s2, s3]).into(),
        micros: u64::from_be_bytes(time),
        last: flags & LAST != 0,
    };
    Ok((frame, payload))
}

/// Where the sound is: behind the header and, if there is an extension, its length. What is in an extension is hidden with the sound.
pub(super) fn sound_in(octets: &[u8]) -> Span {
    const LONGEST_LENGTH: usize = 4;
    let flags = octets.first_chunk().map_or(0, |flags| u16::from_be_bytes(*flags));
    let head = if flags & EXTENSION == 0 { HEADER } else { HEADER + LONGEST_LENGTH };
    Span(head.min(octets.len())..octets.len())
}

/// Skips a length and so many octets. The length is of four octets in one server that is known to work and of two in another: a
/// short one of two octets read as four is far too long, so that whichever fits is meant.
fn behind_extension(octets: &[u8]) -> Option<&[u8]> {
    let long = octets
        .split_first_chunk()
        .and_then(|(len, rest)| rest.get(usize::try_from(u32::from_be_bytes(*len)).ok()?..));
    long.or_else(|| {
        let (len, rest) = octets.split_first_chunk()?;
        rest.get(usize::from(u16::from_be_bytes(*len))..)
    })
}

/// A media message as it usually is.
#[derive(Deserialize)]
struct Media<'a> {
    r#type: &'a str,
    #[serde(default)]
    bid: u64,
    #[serde(default)]
    src: Option<&'a str>,
    #[serde(default)]
    asn: u64,
    #[serde(default)]
    ts: u64,
    audio: &'a str,
    #[serde(default)]
    lastf: bool,
}

/// Reads a text message that is nothing but one media object in its usual form; anything else is left to [`read_object`].
pub(super) fn read_text(text: &str, out: &mut Outbox) -> Option<(Frame, Span)> {
    let media: Media<'_> = serde_json::from_str(text).ok()?;
    let frame = Frame {
        bid: media.bid,
        source: media.src.map_or(Source::None, Source::named),
        sequence: media.asn,
        micros: media.ts,
        last: media.lastf,
    };
    let payload = out.try_store(|octets| base64::decode(media.audio, octets)).ok()?;
    (media.r#type == "media").then_some((frame, payload))
}

/// Reads a media object in any form.
pub(super) fn read_object(
    media: Reader<'_>,
    out: &mut Outbox,
) -> Result<(Frame, Span), ProtocolError> {
    let number = |path| media.node.number(path).unwrap_or(0);
    let frame = Frame {
        bid: number("bid"),
        source: media.node.text("src").map_or(Source::None, Source::named),
        sequence: number("asn"),
        micros: number("ts"),
        last: media.node.text("lastf") == Some("true"),
    };
    let audio = media.text("audio")?;
    let payload = out.try_store(|octets| base64::decode(audio, octets));
    Ok((frame, payload.map_err(|_| media.error("audio", "is not base64"))?))
}

/// What one end sends of one voice.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) format: MediaFormat,
    /// In binary messages, else as base64.
    pub(super) binary: bool,
    pub(super) bid: u8,
    pub(super) source: Source,
    /// Count of the next frame.
    pub(super) sequence: u32,
    /// Time of the next frame, in microseconds of Avaya's clock.
    pub(super) micros: u64,
}

impl Flow {
    /// Sends a frame.
    pub(super) fn send(&mut self, payload: &[u8], last: bool, out: &mut Outbox) {
        let Self { bid, source, sequence, micros, .. } = *self;
        if self.binary {
            out.binary(|octets| {
                octets.extend(if last { LAST } else { 0 }.to_be_bytes());
                octets.extend([bid, source as u8]);
                octets.extend(sequence.to_be_bytes());
                octets.extend(micros.to_be_bytes());
                octets.extend_from_slice(payload);
            });
        } else {
            out.text(|text| {
                text.extend_from_slice(br#"{"type":"media","bid":"#);
                json::digits(bid.into(), text);
                if source != Source::None {
                    text.extend_from_slice(br#","src":""#);
                    text.extend_from_slice(source.name().as_bytes());
                    text.push(b'"');
                }
                text.extend_from_slice(br#","asn":"#);
                json::digits(sequence.into(), text);
                text.extend_from_slice(br#","ts":"#);
                json::digits(micros, text);
                text.extend_from_slice(br#","audio":""#);
                base64::encode(payload, text);
                text.extend_from_slice(if last { br#"","lastf":true}"# } else { b"\"}" });
            });
        }
        self.sequence = sequence.wrapping_add(1);
        let samples = self.format.samples_of(payload) as u64;
        self.micros = micros.saturating_add(micros_of(self.format.rate.duration_of(samples)));
    }
}

pub(super) fn micros_of(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(flags: u8) -> Vec<u8> {
        [&[0, flags, 7, 2, 0, 0, 1, 0], 1_000_000_u64.to_be_bytes().as_slice()].concat()
    }

    #[test]
    fn headers_are_read_with_extensions_of_either_kind() {
        let message = header(1);
        let (frame, payload) = read_binary(0, &message).unwrap();
        assert_eq!((frame.bid, frame.source, frame.sequence), (7, Source::Rx, 256));
        assert_eq!((frame.micros, frame.last, payload), (1_000_000, true, [].as_slice()));
        for extension in
            [[0, 0, 0, 3, 9, 9, 9].as_slice(), &[0, 3, 9, 9, 9], &[0, 0, 0, 0], &[0, 0]]
        {
            let message = [header(2).as_slice(), extension, &[0xFF, 0x7F]].concat();
            let (frame, payload) = read_binary(0, &message).unwrap();
            assert_eq!((frame.last, payload), (false, [0xFF, 0x7F].as_slice()), "{extension:?}");
        }
    }

    #[test]
    fn what_is_no_header_is_an_error_that_says_so() {
        for (message, says) in [
            (b"AV".repeat(30), "the old media header"),
            (vec![0; 15], "`header` is shorter than 16 octets"),
            (header(2), "`extension` is longer"),
            ([header(2), vec![0, 9, 1]].concat(), "`extension` is longer"),
        ] {
            let error = read_binary(3, &message).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("message 3"), "{error}");
        }
    }

    #[test]
    fn what_is_sent_is_read() {
        for binary in [true, false] {
            let mut flow = Flow {
                format: MediaFormat::PCMU_8000,
                binary,
                bid: 3,
                source: Source::Tx,
                sequence: u32::MAX,
                micros: 5,
            };
            let mut out = Outbox::new();
            flow.send(&[1, 2, 3, 4, 5, 6, 7, 8], true, &mut out);
            assert_eq!((flow.sequence, flow.micros), (0, 1_005));
            let mut read = Outbox::new();
            let (frame, payload) = match &out.sends()[0] {
                super::super::super::Send::Binary(span) => {
                    let (frame, payload) = read_binary(0, out.octets(span)).unwrap();
                    (frame, payload.to_vec())
                }
                super::super::super::Send::Text(span) => {
                    let (frame, payload) = read_text(out.text_of(span), &mut read).unwrap();
                    (frame, read.octets(&payload).to_vec())
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(
                (frame.bid, frame.source, frame.micros, frame.last),
                (3, Source::Tx, 5, true)
            );
            assert_eq!((frame.sequence, payload), (u64::from(u32::MAX), (1..=8).collect()));
        }
    }
}
