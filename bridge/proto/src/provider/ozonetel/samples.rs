//! Sound as a JSON list of whole numbers: read straight into the outbox and printed without a tree. Knows no message but that.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::super::json::{self, Key};
use super::super::{Event, Media, Outbox, Span, Track};

/// A message that carries sound.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Samples<'a> {
    /// Its `type`.
    pub(super) kind: Option<&'a str>,
    /// Its `seqid`.
    pub(super) name: Option<Cow<'a, str>>,
    /// Its `data.sampleRate`, in Hz.
    pub(super) rate: Option<u64>,
    /// Its `data.samples`, linear PCM of two octets each, little-endian.
    pub(super) payload: Span,
}

impl<'a> Samples<'a> {
    /// Reads a message; `None`, and nothing in the outbox, if it carries no sound.
    pub(super) fn read(text: &'a str, out: &mut Outbox) -> Option<Self> {
        let mut found = Self::default();
        let payload = out.try_store(|arena| {
            let mut json = serde_json::Deserializer::from_str(text);
            let mut message = Message { found: &mut found, arena, has_samples: false };
            let read = (&mut message).deserialize(&mut json).and_then(|()| json.end());
            (read.is_ok() && message.has_samples).then_some(()).ok_or(())
        });
        found.payload = payload.ok()?;
        Some(found)
    }

    /// The sound as an event; this wire neither counts nor times it.
    pub(super) fn event(&self, track: Track) -> Event {
        let payload = self.payload.clone();
        Event::Media(Media { track, payload, sequence: None, timestamp: None })
    }
}

/// Appends little-endian samples as a list.
pub(super) fn print_samples(payload: &[u8], text: &mut Vec<u8>) {
    text.push(b'[');
    for (at, sample) in payload.as_chunks().0.iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        let sample = i16::from_le_bytes(*sample);
        if sample < 0 {
            text.push(b'-');
        }
        json::digits(u64::from(sample.unsigned_abs()), text);
    }
    text.push(b']');
}

/// The message, being read.
struct Message<'m, 'a> {
    found: &'m mut Samples<'a>,
    arena: &'m mut Vec<u8>,
    has_samples: bool,
}

impl<'de> DeserializeSeed<'de> for &mut Message<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Message<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            match key.as_ref() {
                "type" => self.found.kind = map.next_value::<Option<&'de str>>()?,
                "seqid" => self.found.name = Some(map.next_value::<Key<'de>>()?.0),
                "data" => map.next_value_seed(Data(self))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// What is in `data`.
struct Data<'d, 'm, 'a>(&'d mut Message<'m, 'a>);

impl<'de> DeserializeSeed<'de> for Data<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Data<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with samples")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(message) = self;
        while let Some(Key(key)) = map.next_key()? {
            match key.as_ref() {
                "samples" => {
                    map.next_value_seed(List(message.arena))?;
                    message.has_samples = true;
                }
                "sampleRate" => message.found.rate = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Where the samples go.
struct List<'v>(&'v mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(sample) = list.next_element::<f64>()? {
            // Whole numbers of 16 bits pass unharmed; what is beyond them is clipped.
            self.0.extend_from_slice(&(sample as i16).to_le_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Vec<u8>> {
        let mut out = Outbox::new();
        let found = Samples::read(text, &mut out);
        found.map(|found| out.octets(&found.payload).to_vec())
    }

    #[test]
    fn what_is_printed_is_read() {
        let samples = [0_i16, -1, 1, i16::MIN, i16::MAX, 255, -256];
        let octets: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let mut text = br#"{"data":{"sampleRate":8000,"samples":"#.to_vec();
        print_samples(&octets, &mut text);
        text.extend_from_slice(br#"},"seqid":"a\"b","type":"media"}"#);
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("[0,-1,1,-32768,32767,255,-256]"));
        let mut out = Outbox::new();
        let found = Samples::read(&text, &mut out).unwrap();
        assert_eq!(out.octets(&found.payload), octets);
        assert_eq!(
            (found.rate, found.kind, found.name),
            (Some(8000), Some("media"), Some("a\"b".into()))
        );
    }

    #[test]
    fn fractions_are_cut_and_what_is_too_loud_is_clipped() {
        let octets = read(r#"{"data":{"samples":[1.9,-1.9,40000,-1e9]}}"#).unwrap();
        let samples: Vec<_> = octets.as_chunks().0.iter().map(|s| i16::from_le_bytes(*s)).collect();
        assert_eq!(samples, [1, -1, i16::MAX, i16::MIN]);
    }

    #[test]
    fn what_carries_no_sound_leaves_nothing() {
        for text in [
            "",
            "[]",
            r#"{"data":{}}"#,
            r#"{"samples":[1]}"#,
            r#"{"data":{"samples":[1,"2"]}}"#,
            r#"{"data":{"samples":[1]}"#,
            r#"{"data":{"samples":[1]}} x"#,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read(r#"{"data":{"samples":[]}}"#), Some(Vec::new()));
    }
}
