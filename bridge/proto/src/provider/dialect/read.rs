//! What start messages say of formats, tracks and parameters, in all the spellings there are. Decides nothing.

use ringback_codecs::{Encoding, MediaFormat, SampleRate};

use super::super::json::{self, Node, Reader};
use super::super::media_message;
use super::super::{ProtocolError, Track};
use super::{Carriage, Dialect};

/// The format a start message announces; `otherwise` where it says nothing.
pub(super) fn announced(
    dialect: &Dialect,
    message: &Reader<'_>,
    otherwise: MediaFormat,
) -> Result<MediaFormat, ProtocolError> {
    let (node, theirs) = (message.node, &dialect.theirs);
    let name = node.first(theirs.encoding);
    let hz = node.first(theirs.rate).and_then(json::whole);
    let channels = node.first(theirs.channels).and_then(json::whole).unwrap_or(1);
    let format = match (name, hz) {
        (None, None) => Some(otherwise),
        (None, hz) => (dialect.format)(dialect, (dialect.encoding_name)(otherwise), hz),
        (Some(name), hz) => (dialect.format)(dialect, name, hz)
            .filter(|format| dialect.info.formats.contains(format)),
    };
    // Base64 messages are of one track each.
    let most = if dialect.carriage == Carriage::Binary { 2 } else { 1 };
    match (format, channels) {
        (Some(format), 1..) if channels <= most => {
            Ok(MediaFormat { channels: channels as u8, ..format })
        }
        _ => {
            let name = json::kind(name.unwrap_or("sound"));
            let rate = hz.map(|hz| format!(" at {hz} Hz")).unwrap_or_default();
            let plural = if channels == 1 { "" } else { "s" };
            let what = format!("{name}{rate} with {channels} channel{plural}");
            Err(ProtocolError::Unsupported { index: message.index, what })
        }
    }
}

/// A format by any of the names that encodings have on wires: `PCMU`, `audio/x-mulaw`, `audio/l16;rate=16000`, `slin16`.
pub(in super::super) fn usual_format(
    dialect: &Dialect,
    name: &str,
    hz: Option<u64>,
) -> Option<MediaFormat> {
    let mut parts = name.split(';').map(str::trim);
    let kind = parts.next()?.to_ascii_lowercase();
    let told = parts.find_map(|part| part.strip_prefix("rate=")).and_then(json::whole);
    let kind = kind.strip_prefix("audio/").unwrap_or(&kind);
    let kind = kind.strip_prefix("x-").unwrap_or(kind);
    let linear = Encoding::L16(dialect.endian);
    let (encoding, usual) = match kind {
        "mulaw" | "ulaw" | "pcmu" | "mu-law" | "raw/mulaw" => (Encoding::Pcmu, 8_000),
        "alaw" | "pcma" | "a-law" => (Encoding::Pcma, 8_000),
        "l16" | "pcm" | "pcm16" | "pcm16le" | "linear16" | "slin" | "raw" | "raw/slin" => {
            (linear, 8_000)
        }
        "slin16" => (linear, 16_000),
        // RFC 3551, 4.5.2: the clock of G.722 is told as 8 kHz, its sound has 16.
        "g722" => return Some(MediaFormat::mono(Encoding::G722, SampleRate::HZ_16000)),
        "opus" => (Encoding::Opus, 48_000),
        _ => return None,
    };
    let hz = hz.or(told).unwrap_or(usual);
    let rate = SampleRate::new(u32::try_from(hz).ok()?)?;
    Some(MediaFormat::mono(encoding, rate))
}

/// The tracks a list of names tells of; none means the inbound one.
pub(in super::super) fn listed_tracks(
    message: &Reader<'_>,
    path: &'static str,
) -> Result<Vec<Track>, ProtocolError> {
    media_message::tracks(message, path)
}

/// For wires that only ever carry the caller.
pub(in super::super) fn only_inbound(_: &Reader<'_>) -> Result<Vec<Track>, ProtocolError> {
    Ok(vec![Track::Inbound])
}

/// The members of the object at a path as parameters.
pub(in super::super) fn members_of(message: &Node<'_>, path: &str) -> Vec<(String, String)> {
    message.get(path).map(|given| given.pairs(&[])).unwrap_or_default()
}
