//! Names of formats as configurations and transcripts write them: `pcmu/8000`. Knows one channel only; parses no wire.

use ringback_codecs::{Encoding, Endian, MediaFormat, SampleRate};

const ENCODINGS: [(&str, Encoding); 6] = [
    ("pcmu", Encoding::Pcmu),
    ("pcma", Encoding::Pcma),
    ("l16le", Encoding::L16(Endian::Little)),
    ("l16be", Encoding::L16(Endian::Big)),
    ("g722", Encoding::G722),
    ("opus", Encoding::Opus),
];

/// The format of one channel that is written so: `l16le/16000`.
#[must_use]
pub fn format_named(name: &str) -> Option<MediaFormat> {
    let (encoding, rate) = name.split_once('/')?;
    let (_, encoding) = ENCODINGS.into_iter().find(|(name, _)| *name == encoding)?;
    Some(MediaFormat::mono(encoding, SampleRate::new(rate.parse().ok()?)?))
}

/// How a format is written; `None` for encodings that have no name here.
#[must_use]
pub fn format_name(format: MediaFormat) -> Option<String> {
    let (name, _) = ENCODINGS.into_iter().find(|(_, encoding)| *encoding == format.encoding)?;
    Some(format!("{name}/{}", format.rate.hz()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_encoding_and_rate() {
        assert_eq!(format_named("pcmu/8000"), Some(MediaFormat::PCMU_8000));
        let l16 = MediaFormat::mono(Encoding::L16(Endian::Little), SampleRate::HZ_16000);
        assert_eq!(format_named("l16le/16000"), Some(l16));
        for text in ["", "pcmu", "pcmu/", "pcmu/8k", "pcmu/1", "mp3/8000", "PCMU/8000"] {
            assert_eq!(format_named(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for (_, encoding) in ENCODINGS {
            let format = MediaFormat::mono(encoding, SampleRate::HZ_48000);
            assert_eq!(format_name(format).and_then(|name| format_named(&name)), Some(format));
        }
    }
}
