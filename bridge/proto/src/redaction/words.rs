//! Which words are the protocols' own and may stay: by the name of the field they stand in, or by what they are. Makes no stand-ins.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::json::{self, Context};
use super::{Sound, silence};
use crate::provider::{Digit, base64};

/// What every key pressed becomes.
pub(super) const KEY: char = '5';

/// What the values of a field are, as far as its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    /// Kinds of messages and states: words of the protocol.
    Kind,
    /// Encodings, rates, tracks.
    Format,
    /// Counts, times, positions.
    Count,
    /// Codes of errors and causes.
    Code,
    /// Names that either end gives to pieces of sound.
    Label,
    /// Keys pressed.
    Keys,
    /// Sound in base64 or as numbers.
    Sound,
    /// What proves who said it: left out, as everything that opens something.
    Proof,
    /// What a customer passes on; everything in it is.
    Custom,
    /// Anything.
    Other,
}

/// Fields by name, as [`key`] gives it.
const FIELDS: [(Means, &str); 9] = [
    (
        Means::Kind,
        "action callstatus cause command event eventtype inputmode kind method protocol reason reasoncode responsetype result \
         resultstatus state status title type",
    ),
    (
        Means::Format,
        "audiocontenttype audiodatatype codec contenttype direction dtx encoding format lang mediacodecs mediaformat mixtype \
         perspective streamperspective streamtype supportedmediaformats track tracks transcriptionlanguage transportencoding \
         transportencodings ttslanguage",
    ),
    (
        Means::Count,
        "asn bid bitdepth bitrate bitspersample channelcount channels chunk clientseq confidence discarded \
         duration durationuntilinterruptms eventtime eventts length mediawebsocketoptimalframesize numberofframes occurredat offset optimalframesize \
         payloadtype playbackmilliseconds position preferredptimems ptime queuelength rate retryafter rtt samplerate \
         sampleratehertz seq sequence sequencenum sequencenumber serverseq start timestamp ts xofflevel \
         xonlevel",
    ),
    (Means::Code, "causecode code count level sipstatus version"),
    (Means::Proof, "signature"),
    (Means::Label, "correlationid mark seqid"),
    (Means::Keys, "digit digits dtmf dtmfdigits dtmfevents signal tone"),
    (
        Means::Sound,
        "audio audiochunk audiocontent audiocontentb64 audiodata calleraudiob64 data media payload samples",
    ),
    (
        Means::Custom,
        "customconfig customparameters extraheaders inputvariables outputvariables streamparams variables \
         vendorspecificconfig xheaders",
    ),
];

/// Words that mean something to a protocol wherever they stand, in lower case, and sentences of our own.
const VOCABULARY: &str = "abortprompts agent auto base64 binary both bot call callee caller conference customer dtmf external false from hangup inbound inbound_track \
     internal media mix mixed mono none outbound outbound_track participant rx senddtmf start stereo stop supervisor to tokensplayed true tx up";
const SENTENCES: [&str; 3] = [
    "none of the media formats is supported; raw/lpcm16 or raw/mulaw is needed",
    "protocol error",
    "the conversation is not known any more",
];

/// Fields of whoever calls or is called, where a number of few digits is that of a desk.
const PARTIES: [&str; 10] =
    ["ani", "called", "caller", "callerid", "cli", "dnis", "extension", "from", "number", "to"];

/// How a field is compared: letters and digits, in lower case.
pub(super) fn key(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn is_ours(value: &str) -> bool {
    static KNOWN: LazyLock<HashSet<&str>> =
        LazyLock::new(|| VOCABULARY.split_whitespace().chain(SENTENCES).collect());
    KNOWN.contains(value) || KNOWN.contains(value.to_ascii_lowercase().as_str())
}

fn field_of(key: &str) -> Means {
    static KNOWN: LazyLock<HashMap<&str, Means>> = LazyLock::new(|| {
        let of = |(means, keys): &(Means, &'static str)| {
            let means = *means;
            keys.split_whitespace().map(move |key| (key, means))
        };
        FIELDS.iter().flat_map(of).collect()
    });
    KNOWN.get(key).copied().unwrap_or(Means::Other)
}

/// Whether all below this field is a customer's.
pub(super) fn is_custom(key: &str) -> bool {
    field_of(key) == Means::Custom
}

/// Whether numbers in a list of this field are sound.
pub(super) fn is_sound(key: &str) -> bool {
    field_of(key) == Means::Sound
}

/// What a text in the field `key` is shown as; `None` if as it is.
pub(super) fn shown(
    key: &str,
    value: &str,
    custom: bool,
    context: &mut Context<'_>,
) -> Option<String> {
    let field = field_of(key);
    if value.is_empty() {
        return None;
    }
    if field == Means::Proof {
        return Some(String::new());
    }
    if field == Means::Sound
        && let Some(sound) = sound(value, context)
    {
        return sound;
    }
    if !matches!(field, Means::Count | Means::Code)
        && let Some(keys) = keys(field, value, context)
    {
        return Some(keys);
    }
    if context.facts.marks.iter().any(|mark| mark == value) && is_label(value) {
        return None;
    }
    if value.starts_with(['{', '[']) {
        return Some(json::redact(value, true, context));
    }
    let keep = match field {
        _ if custom => false,
        _ if is_ours(value) => true,
        Means::Kind => is_kind(value),
        Means::Format => is_format(value),
        Means::Count => is_count(value),
        Means::Code => is_kind(value) || (value.len() <= 6 && is_count(value)),
        Means::Label => is_label(value),
        // However few its digits are, it may be the number of a desk; identifiers that short only count.
        _ => !value.contains(char::is_alphanumeric) || is_counted(key, value),
    };
    (!keep).then(|| context.stand_ins.text(value))
}

/// What a number in the field `key` is shown as; `None` if as it is.
pub(super) fn shown_number(
    key: &str,
    number: &str,
    custom: bool,
    context: &mut Context<'_>,
) -> Option<String> {
    let field = field_of(key);
    let whole = number.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let keep = match field {
        _ if custom => false,
        Means::Keys => return Some(KEY.into()),
        Means::Count => true,
        Means::Format | Means::Code => !super::stand_in::is_telling(number),
        _ if PARTIES.contains(&key) => false,
        _ if !whole => !super::stand_in::is_telling(number),
        _ => is_small(number),
    };
    (!keep).then(|| context.stand_ins.number(number))
}

/// Silence for what is base64, `Some(None)` where sound is kept.
fn sound(value: &str, context: &Context<'_>) -> Option<Option<String>> {
    let mut octets = Vec::new();
    base64::decode(value, &mut octets).ok()?;
    if context.sound == Sound::Keep {
        return Some(None);
    }
    let mut text = Vec::with_capacity(value.len());
    base64::encode(&silence::of(context.format, &octets), &mut text);
    let text = String::from_utf8(text).unwrap_or_default();
    let padded = value.ends_with('=') || octets.len().is_multiple_of(3);
    Some(Some(if padded { text } else { text.trim_end_matches('=').to_owned() }))
}

/// What tells keys pressed, with each of them replaced.
fn keys(field: Means, value: &str, context: &Context<'_>) -> Option<String> {
    const NAMED: &str = "DTMF_DIGIT_";
    const WRITTEN: [&str; 14] = [
        "ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE", "A", "B",
        "C", "D",
    ];
    const ENDS: [&str; 2] = ["STAR", "POUND"];
    let pressed = context.facts.keys.len();
    let is_key = |c: char| Digit::new(c).is_some();
    match value.strip_prefix(NAMED) {
        Some(key) if ENDS.contains(&key) => return Some(value.to_owned()),
        // What is no key at all may be anything.
        Some(key) if WRITTEN.contains(&key) => return Some(format!("{NAMED}FIVE")),
        _ => {}
    }
    let named = field == Means::Keys;
    let length = value.chars().count();
    if !(named || pressed > 0 && length == pressed) || !value.chars().any(is_key) {
        return None;
    }
    // Words beside keys are somebody's.
    let only = |c: char| is_key(c) || named && !c.is_alphanumeric();
    value.chars().all(only).then(|| value.chars().map(hidden_key).collect())
}

/// A key in the place of this one. Those that end an entry stay: they tell nothing, and ends of a wire listen for them.
fn hidden_key(key: char) -> char {
    if Digit::new(key).is_some() && !"*#".contains(key) { KEY } else { key }
}

/// Replaces octets that are keys.
pub(super) fn hide_keys(octets: &mut [u8]) {
    octets.iter_mut().filter(|octet| octet.is_ascii()).for_each(|octet| {
        *octet = hidden_key(char::from(*octet)) as u8;
    });
}

/// A word as kinds of messages are: no long one, and no number.
fn is_kind(value: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.:/-".contains(&b);
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    value.len() <= 40 && digits <= 4 && value.bytes().all(plain)
}

fn is_format(value: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.:/-;= ".contains(&b);
    let letters = value.bytes().any(|b| b.is_ascii_alphabetic());
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    // Rates have six digits at most; more in a row are somebody's number.
    let runs = value.split(|c: char| !c.is_ascii_digit());
    let run = runs.map(str::len).max().unwrap_or(0);
    value.len() <= 80
        && digits <= 12
        && run <= 6
        && (letters || digits <= 6)
        && value.bytes().all(plain)
}

/// Numbers, times, durations, versions.
fn is_count(value: &str) -> bool {
    let plain = |b: u8| b.is_ascii_digit() || b".:-TZPHMSW".contains(&b);
    value.len() <= 32 && value.bytes().all(plain) && value.bytes().any(|b| b.is_ascii_digit())
}

fn is_label(value: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.:~-".contains(&b);
    value.len() <= 64 && !super::stand_in::is_telling(value) && value.bytes().all(plain)
}

/// A name that either end gives by counting.
fn is_counted(key: &str, value: &str) -> bool {
    let is_number = value.bytes().all(|b| b.is_ascii_digit());
    key.ends_with("id") && !PARTIES.contains(&key) && is_number && is_small(value)
}

/// So small a number says nothing of anybody, unless it is somebody's own.
fn is_small(number: &str) -> bool {
    number.bytes().filter(u8::is_ascii_digit).count() <= 3
}

/// A line that is no JSON: a command in capitals with its fields, or somebody's own words.
pub(super) fn redact_line(line: &str, context: &mut Context<'_>) -> String {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    let is_command = |b: u8| b.is_ascii_uppercase() || b == b'_';
    if command.len() < 3 || !command.bytes().all(is_command) {
        return context.stand_ins.text(line);
    }
    let mut text = command.to_owned();
    if command.len() < line.len() {
        text.push(' ');
    }
    let words = rest.split(' ').map(|word| match word.split_once(':') {
        Some((name, value)) if name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => {
            let value =
                shown(&key(name), value, false, context).unwrap_or_else(|| value.to_owned());
            format!("{name}:{value}")
        }
        _ => shown("", word, false, context).unwrap_or_else(|| word.to_owned()),
    });
    text + &words.collect::<Vec<_>>().join(" ")
}

/// Whether a parameter of the query sets the stream up.
pub(super) fn is_setting(name: &str, value: &str) -> bool {
    const SETTINGS: [&str; 6] = ["channels", "encoding", "mix", "playback", "rate", "samplerate"];
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    SETTINGS.contains(&key(name).as_str())
        && value.len() <= 8
        && value.bytes().all(plain)
        && !super::stand_in::is_telling(value)
}

/// What to do with a field of the request's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// Every request has it.
    Handshake,
    /// Those that are the protocol's stay.
    Subprotocols,
    /// The program at the other end: stays if it names no more than that.
    Program,
    /// Names the call or its account.
    Identifier,
    /// Whatever else, credentials above all.
    Other,
}

/// Of a name in lower case.
pub(super) fn field(name: &str) -> Field {
    match name {
        "host" | "connection" | "upgrade" | "sec-websocket-key" | "sec-websocket-version" => {
            Field::Handshake
        }
        "sec-websocket-protocol" => Field::Subprotocols,
        "user-agent" => Field::Program,
        name if name.starts_with("x-ms-call-") || name.starts_with("audiohook-") => {
            Field::Identifier
        }
        _ => Field::Other,
    }
}

/// A program's name and version.
pub(super) fn is_program(value: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b" ./_-()".contains(&b);
    value.len() <= 80 && value.bytes().all(plain) && !super::stand_in::is_telling(value)
}
