//! How answers compare with those of a transcript: by kind and number, and message by message but for the sound, which is cut
//! differently each time. Judges nothing.

use std::collections::BTreeMap;

use ringback_proto::provider::{Provider, Transport};
use ringback_proto::redaction::is_sound;
use ringback_proto::transcript::{Direction, Transcript, Wire};
use serde_json::Value;

use super::Outcome;
use super::lines::is_answer;

/// Members that tell a message's kind, the one that tells most first.
const KINDS: [&str; 10] = [
    "event",
    "eventType",
    "event_type",
    "type",
    "kind",
    "Kind",
    "command",
    "action",
    "method",
    "name",
];
/// Of somebody else's words, so much is told.
const LONGEST: usize = 40;

/// Messages by kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kinds(pub BTreeMap<String, u64>);

impl Kinds {
    pub(super) fn count(&mut self, provider: &dyn Provider, wire: &Wire) {
        *self.0.entry(kind_of(provider, wire)).or_default() += 1;
    }
}

/// Something that came back, or should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Its kind, by its own name.
    pub kind: String,
    /// Its shape.
    pub shape: String,
    /// Whether there is sound in it.
    pub is_sound: bool,
}

impl Heard {
    pub(super) fn new(provider: &dyn Provider, wire: &Wire) -> Self {
        let is_sound = wire.message().is_some_and(|message| is_sound(provider, message));
        Self { kind: kind_of(provider, wire), shape: wire.shape(), is_sound }
    }
}

/// Messages of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// Their kind.
    pub kind: String,
    /// In the transcript.
    pub captured: u64,
    /// In the replay.
    pub replayed: u64,
}

/// The first message that is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where it stands in the transcript, and its kind and shape; `None` if the transcript has no more.
    pub captured: Option<(usize, Heard)>,
    /// What came in its place; `None` if nothing more came.
    pub replayed: Option<Heard>,
}

/// Answers of the transcript and of the replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// By kind.
    pub counts: Vec<Count>,
    /// The first difference, sound left out.
    pub first: Option<Difference>,
    /// How the stream ended in the transcript.
    pub closed: Option<(Direction, u16)>,
}

impl Comparison {
    /// Whether all but the sound is as it was, the end of the stream included.
    #[must_use]
    pub fn is_same(&self, outcome: &Outcome) -> bool {
        self.first.is_none() && outcome.unsaid.is_none() && self.closed == outcome.closed
    }
}

/// Compares what was heard with what the bridge says in the transcript.
#[must_use]
pub fn compare(provider: &dyn Provider, transcript: &Transcript, outcome: &Outcome) -> Comparison {
    let answers = transcript.lines.iter().filter(|line| line.direction == Direction::Out);
    let answers = answers.filter(|line| is_answer(&line.wire));
    let captured: Vec<_> =
        answers.map(|line| (line.number, Heard::new(provider, &line.wire))).collect();
    let mut counts = BTreeMap::<&str, (u64, u64)>::new();
    for (_, heard) in &captured {
        counts.entry(&heard.kind).or_default().0 += 1;
    }
    for heard in &outcome.heard {
        counts.entry(&heard.kind).or_default().1 += 1;
    }
    let counts = counts.into_iter().map(|(kind, (captured, replayed))| Count {
        kind: kind.to_owned(),
        captured,
        replayed,
    });
    let counts = counts.collect();
    let mut wanted = captured.iter().filter(|(_, heard)| !heard.is_sound);
    let mut came = outcome.heard.iter().filter(|heard| !heard.is_sound);
    let first = loop {
        match (wanted.next(), came.next()) {
            (None, None) => break None,
            (Some((_, wanted)), Some(came)) if wanted == came => {}
            (captured, replayed) => {
                let (captured, replayed) = (captured.cloned(), replayed.cloned());
                break Some(Difference { captured, replayed });
            }
        }
    };
    let close = transcript.lines.iter().find_map(|line| match line.wire {
        Wire::Close(code) => Some((line.direction, code)),
        _ => None,
    });
    Comparison { counts, first, closed: close }
}

fn kind_of(provider: &dyn Provider, wire: &Wire) -> String {
    let text = match wire {
        Wire::Close(code) => return format!("close {code}"),
        Wire::Binary(octets) if provider.transport() == Transport::Records => {
            return octets.first().map_or("record".into(), |kind| format!("record 0x{kind:02x}"));
        }
        Wire::Binary(_) => return "binary".into(),
        Wire::Text(text) => text,
        Wire::On(line, text) => {
            return format!("{} {}", line.name(), kind_of(provider, &Wire::Text(text.clone())));
        }
        Wire::Dial(..) | Wire::Opened(_) | Wire::Lost(..) => return wire.shape(),
    };
    let first = serde_json::Deserializer::from_str(text).into_iter::<Value>().next();
    let kind = match first {
        Some(Ok(Value::Object(members))) => {
            let named = KINDS.iter().find_map(|name| members.get(*name).and_then(Value::as_str));
            // Some number their kinds.
            let numbered = members.get("msg_type").map(|number| format!("type {number}"));
            named.map(str::to_owned).or(numbered).unwrap_or("object".into())
        }
        Some(Ok(_)) => "JSON".into(),
        _ => text.split(' ').next().unwrap_or_default().to_owned(),
    };
    kind.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
