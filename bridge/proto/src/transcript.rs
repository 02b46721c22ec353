//! Transcripts of a wire as lines of JSON: what the tests replay, what `serve --capture` writes and `replay` reads. Opens no file.
//!
//! The first line is the request for the stream, `{"dir":"in","type":"upgrade","data":"/path?query"}`, with `headers` (only those
//! that matter) and the listener's `options` where there are any, and in a capture with `capture`: what was captured and what was
//! left out. Each line behind it is one message, `{"dir":"in"|"out","type":"text"|"binary"|"close","data":..}`: text as it was,
//! binary as hex, of a close its code. `"at"` is when, in milliseconds since the stream began, with up to three decimals; a line
//! without it comes 20 ms after the one before. Lines of type `note` say what else happened, in words. Where the bridge
//! dials, lines say on which `"line"` they are, `control` or `media`, and may be of type `dial` (with the URL), `opened` or `lost`.

mod head;

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::Instant;
use crate::hex::{hex, unhex};
use crate::provider::{
    Line as Dialled, LineEvent, Message, Options, Outbox, Protocol, ProtocolError,
};

pub use head::{About, Head};

/// Close code for a connection that ended without a close (RFC 6455, 7.4.1); never sent.
pub const CUT: u16 = 1006;

/// Close code for a close that gave none (RFC 6455, 7.4.1); never sent.
pub const NO_CODE: u16 = 1005;

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The provider.
    In,
    /// The bridge.
    Out,
}

impl Direction {
    const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// A message with its octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wire {
    /// A text message.
    Text(String),
    /// A binary message, or a record of a wire without WebSocket, head included.
    Binary(Vec<u8>),
    /// The stream was closed with this code; [`CUT`] if the connection just ended.
    Close(u16),
    /// A text message over a line that the bridge dialled.
    On(Dialled, String),
    /// The bridge dials this URL as that line.
    Dial(Dialled, String),
    /// A line that was dialled is open.
    Opened(Dialled),
    /// A line is gone, or could not be had, and why.
    Lost(Dialled, String),
}

impl From<Message<'_>> for Wire {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.to_owned()),
            Message::Binary(octets) => Self::Binary(octets.to_vec()),
        }
    }
}

impl Wire {
    /// The message, if it is one of the stream's own.
    #[must_use]
    pub fn message(&self) -> Option<Message<'_>> {
        match self {
            Self::Text(text) => Some(Message::Text(text)),
            Self::Binary(octets) => Some(Message::Binary(octets)),
            _ => None,
        }
    }

    /// Whether it is a message, of the stream's own or over a line.
    #[must_use]
    pub const fn is_said(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Binary(_) | Self::On(..))
    }

    /// Tells it to an end; a close is nobody's to take, nor is what is dialled.
    ///
    /// # Errors
    /// What the end has against it.
    pub fn tell(
        &self,
        now: Instant,
        end: &mut dyn Protocol,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        match self {
            Self::Text(text) => end.handle_message(now, Message::Text(text), out),
            Self::Binary(octets) => end.handle_message(now, Message::Binary(octets), out),
            Self::On(line, text) => {
                end.handle_line(now, *line, LineEvent::Message(Message::Text(text)), out)
            }
            Self::Opened(line) => end.handle_line(now, *line, LineEvent::Opened, out),
            Self::Lost(line, reason) => {
                end.handle_line(now, *line, LineEvent::Lost { reason }, out)
            }
            Self::Close(_) | Self::Dial(..) => Ok(()),
        }
    }

    const fn line(&self) -> Option<&'static str> {
        match self {
            Self::Text(_) | Self::Binary(_) | Self::Close(_) => None,
            Self::On(line, _) | Self::Dial(line, _) | Self::Opened(line) | Self::Lost(line, _) => {
                Some(line.name())
            }
        }
    }

    /// What stays the same from call to call: kinds of values and names of members, words of a line, lengths.
    #[must_use]
    pub fn shape(&self) -> String {
        match self {
            Self::Binary(octets) => format!("binary of {}", octets.len()),
            Self::Close(code) => format!("close {code}"),
            Self::Text(text) => text_shape(text),
            Self::On(line, text) => format!("{} {}", line.name(), text_shape(text)),
            Self::Dial(line, _) => format!("{} dial", line.name()),
            Self::Opened(line) => format!("{} opened", line.name()),
            Self::Lost(line, _) => format!("{} lost", line.name()),
        }
    }

    /// Its line of a transcript, without the end of line.
    #[must_use]
    pub fn to_line(&self, direction: Direction, at: Instant) -> String {
        let (kind, data) = match self {
            Self::Text(text) => ("text", text.clone()),
            Self::Binary(octets) => ("binary", hex(octets)),
            Self::Close(code) => ("close", code.to_string()),
            Self::On(_, text) => ("text", text.clone()),
            Self::Dial(_, url) => ("dial", url.clone()),
            Self::Opened(_) => ("opened", String::new()),
            Self::Lost(_, reason) => ("lost", reason.clone()),
        };
        let (dir, line) = (Some(direction.name()), self.line());
        to_json(&Written { dir, kind, line, data, at: millis(at) })
    }
}

/// The line for something that is no message, in words.
#[must_use]
pub fn note_line(at: Instant, words: &str) -> String {
    to_json(&Written {
        dir: None,
        kind: "note",
        line: None,
        data: words.to_owned(),
        at: millis(at),
    })
}

#[derive(Serialize)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    dir: Option<&'static str>,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<&'static str>,
    data: String,
    at: f64,
}

fn to_json(line: &impl Serialize) -> String {
    serde_json::to_string(line).expect("texts and numbers are JSON")
}

/// Milliseconds, cut off at three decimals: what is due after whole milliseconds from a line is never written before them.
fn millis(at: Instant) -> f64 {
    let micros = u64::try_from(at.since_epoch().as_micros()).unwrap_or(u64::MAX);
    micros as f64 / 1_000.0
}

fn text_shape(text: &str) -> String {
    // There may be several values in it.
    let values = serde_json::Deserializer::from_str(text).into_iter();
    let shapes = values.map(|value| value.map(|value| json_shape(&value)));
    match shapes.collect::<Result<Vec<_>, _>>() {
        Ok(shapes) if !shapes.is_empty() => shapes.join(" "),
        _ => line_shape(text),
    }
}

fn json_shape(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| format!("{key}:{}", json_shape(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.first().map(json_shape).unwrap_or_default()),
        Value::String(_) => "text".into(),
        Value::Number(_) => "number".into(),
        Value::Bool(_) => "truth".into(),
        Value::Null => "null".into(),
    }
}

fn line_shape(line: &str) -> String {
    let mut words = line.split(' ');
    let event = words.next().unwrap_or_default();
    let fields = words.map(|word| word.split_once(':').map_or("word", |(name, _)| name));
    format!("{event} {}", fields.collect::<Vec<_>>().join(" "))
}

/// A message of a transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Number of its line, from 1.
    pub number: usize,
    /// When, since the stream began.
    pub at: Instant,
    /// Who said it.
    pub direction: Direction,
    /// What.
    pub wire: Wire,
}

/// A transcript that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// Path and query of the request.
    pub target: String,
    /// Header fields of the request that matter, names in lower case.
    pub headers: Vec<(String, String)>,
    /// What the listener was told beside.
    pub options: Options,
    /// Whether our own provider's end says the same.
    pub backwards: bool,
    /// Where it is from, if it is a capture.
    pub about: Option<About>,
    /// All messages and closes.
    pub lines: Vec<Line>,
    /// What else happened: number of the line and words.
    pub notes: Vec<(usize, String)>,
}

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct TranscriptError {
    /// Its number, from 1.
    pub line: usize,
    /// What was expected.
    pub problem: String,
}

/// Time between lines that do not say when.
const STEP: Duration = Duration::from_millis(20);

impl Transcript {
    /// Reads a transcript. A last line that was torn off in the middle of writing is noted and left out.
    ///
    /// # Errors
    /// The first line that is none of a transcript.
    pub fn parse(text: &str) -> Result<Self, TranscriptError> {
        let mut lines = text.lines().enumerate();
        let first = lines.next().map(|(_, line)| line).unwrap_or_default();
        let mut transcript =
            head::parse(first).map_err(|problem| TranscriptError { line: 1, problem })?;
        let (mut now, total) = (Instant::ZERO, text.lines().count());
        for (index, line) in lines {
            let number = index + 1;
            match transcript.take(number, &mut now, line) {
                Ok(()) => {}
                Err(_) if number == total && !text.ends_with('\n') => {
                    transcript.notes.push((number, "the last line was torn off".into()));
                }
                Err(problem) => return Err(TranscriptError { line: number, problem }),
            }
        }
        Ok(transcript)
    }

    fn take(&mut self, number: usize, now: &mut Instant, line: &str) -> Result<(), String> {
        let line: Value =
            serde_json::from_str(line).map_err(|error| format!("no JSON: {error}"))?;
        *now = match &line["at"] {
            Value::Null => *now + STEP,
            at => instant(at).ok_or("`at` must be milliseconds since the stream began")?,
        };
        let data = line["data"].as_str().ok_or("`data` must be there, and be text")?;
        let dialled = Dialled::ALL.into_iter().find(|known| line["line"] == known.name());
        let wire = match (line["type"].as_str(), dialled) {
            (Some("text"), Some(line)) => Wire::On(line, data.to_owned()),
            (Some("dial"), Some(line)) => Wire::Dial(line, data.to_owned()),
            (Some("opened"), Some(line)) => Wire::Opened(line),
            (Some("lost"), Some(line)) => Wire::Lost(line, data.to_owned()),
            (Some("text"), None) => Wire::Text(data.to_owned()),
            (Some("binary"), None) => {
                Wire::Binary(unhex(data).ok_or("`data` of a binary message is hex")?)
            }
            (Some("close"), None) => {
                Wire::Close(data.parse().map_err(|_| "`data` of a close is its code")?)
            }
            (Some("note"), None) => {
                self.notes.push((number, data.to_owned()));
                return Ok(());
            }
            (_, Some(_)) => return Err("`type` on a line is text, dial, opened or lost".into()),
            _ => return Err("`type` is text, binary, close or note".into()),
        };
        let direction = match line["dir"].as_str() {
            Some("in") => Direction::In,
            Some("out") => Direction::Out,
            _ => return Err("`dir` is in or out".into()),
        };
        self.lines.push(Line { number, at: *now, direction, wire });
        Ok(())
    }
}

fn instant(at: &Value) -> Option<Instant> {
    let millis = at.as_f64().filter(|millis| (0.0..=1e12).contains(millis))?;
    Some(Instant::from_epoch(Duration::from_micros((millis * 1_000.0).round() as u64)))
}

#[cfg(test)]
mod tests;
