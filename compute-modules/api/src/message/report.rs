//! What is reported while a session runs: words, speech, keys, playback, faults. Types only.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Words heard.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Transcript {
    /// Names the utterance.
    pub id: String,
    /// Track it was heard on.
    #[serde(default)]
    pub track: u16,
    /// The words.
    pub text: String,
    /// Will not change any more.
    #[serde(default, rename = "final")]
    pub is_final: bool,
    /// Begin of the speech.
    #[serde(default)]
    pub start_ms: u64,
    /// End of the speech.
    #[serde(default)]
    pub end_ms: u64,
    /// 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// BCP 47 tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Who spoke, where a module tells voices apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speaker: Option<String>,
    /// Word by word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<Word>,
    /// Set on what a `finalize` brought out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finalize_id: Option<String>,
}

/// One word of a transcript.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Word {
    /// The word.
    pub w: String,
    /// Begin, ms.
    pub s: u64,
    /// End, ms.
    pub e: u64,
    /// Confidence, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub c: Option<f64>,
}

/// A change in whose turn it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Turn {
    /// What happened.
    pub event: TurnEvent,
    /// Counts turns.
    #[serde(default)]
    pub turn: u64,
    /// 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// What decided: `model`, `manual` or `timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// The turn's words so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What happened to a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TurnEvent {
    /// It began.
    Start,
    /// Its words changed.
    Update,
    /// It has probably ended.
    EagerEnd,
    /// It had not ended after all.
    Resumed,
    /// It ended.
    End,
}

/// Speech began or ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Vad {
    /// Track it was seen on.
    #[serde(default)]
    pub track: u16,
    /// What it is now.
    pub state: VadState,
    /// Since when.
    pub at_ms: u64,
    /// 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
}

/// Whether somebody speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum VadState {
    /// Somebody does.
    Speech,
    /// Nobody does.
    Silence,
}

/// A key pressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Dtmf {
    /// Track it came on.
    #[serde(default)]
    pub track: u16,
    /// `0`-`9`, `*`, `#`, `A`-`D`.
    pub digit: char,
    /// How long, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// How it was learnt.
    #[serde(default)]
    pub source: DtmfSource,
    /// When.
    #[serde(default)]
    pub at_ms: u64,
}

/// How a key press was learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DtmfSource {
    /// The provider said so.
    #[default]
    Provider,
    /// Heard in the sound.
    Inband,
    /// RTP telephone events (RFC 4733).
    Rfc4733,
}

/// Fate of a mark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MarkReport {
    /// As the module named it.
    pub name: String,
    /// Playback generation it was set in.
    pub epoch: u32,
    /// What became of it.
    pub status: MarkStatus,
    /// Sound of this epoch heard by the caller when it was reached.
    pub played_ms: u64,
}

/// What became of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MarkStatus {
    /// The caller heard everything before it.
    Played,
    /// It was cleared first.
    Cleared,
}

/// Playback was dropped.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Cleared {
    /// Playback generation that ended.
    pub epoch: u32,
    /// Sound of it the caller heard.
    pub played_ms: u64,
    /// Sound of it the caller will never hear; 0 where the provider speaks by itself and does not tell.
    pub discarded_ms: u64,
    /// Words of it the caller heard, where the provider speaks by itself and tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<String>,
}

/// Words that were spoken to the caller.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Spoken {
    /// Playback generation in which the provider told of them.
    pub epoch: u32,
    /// The words since those told before.
    pub text: String,
}

/// How playback goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Playback {
    /// Playback generation.
    pub epoch: u32,
    /// What happened.
    pub state: PlaybackState,
    /// Sound of the epoch heard so far.
    pub played_ms: u64,
}

/// What happened to playback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PlaybackState {
    /// First sound went out.
    Started,
    /// All was played.
    Idle,
    /// It ran dry in mid-utterance.
    Underrun,
    /// Held by `pause`.
    Paused,
}

/// Sound that will not come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Gap {
    /// Of this track.
    pub track: u16,
    /// From here.
    pub from_ms: u64,
    /// To here.
    pub to_ms: u64,
    /// Why.
    pub reason: GapReason,
}

/// Why sound is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The module was too slow and the ring overwrote it.
    Backpressure,
    /// The provider never sent it.
    Provider,
    /// The call was paused.
    Paused,
    /// It was lost while the module was away.
    Resume,
}

/// A private part of the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PrivatePart {
    /// What happened.
    pub state: PrivateState,
    /// When.
    pub at_ms: u64,
}

/// What happened to a private part of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PrivateState {
    /// It began.
    Began,
    /// It ended.
    Ended,
}

/// Whether the caller agrees to be recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Consent {
    /// Whether.
    pub given: bool,
    /// How that is known, to be kept with the recording: `announcement`, `pressed 1`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub how: String,
}

/// What is known of the caller's consent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConsentGiven {
    /// Whether the caller agrees.
    pub given: bool,
    /// Since when.
    pub at_ms: u64,
    /// Who says so: the name of a module, or `operator`.
    pub by: String,
    /// How that is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub how: String,
}

/// Keys to press.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DtmfSend {
    /// Which, in order.
    pub digits: String,
    /// Length of each tone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tone_ms: Option<u64>,
    /// Silence after each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_ms: Option<u64>,
}

/// How to end the call.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Hangup {
    /// When.
    #[serde(default)]
    pub after: HangupAfter,
    /// For the log.
    #[serde(default)]
    pub reason: String,
    /// For whoever goes on with the call, where the provider hands it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// When to hang up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HangupAfter {
    /// At once.
    #[default]
    Now,
    /// When all queued sound was played.
    Playback,
}

/// Words for the provider to speak.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Say {
    /// The words; they are joined to those before as they are.
    pub text: String,
    /// Whether the utterance ends with them.
    #[serde(default = "yes")]
    pub last: bool,
    /// BCP 47 tag, if it is not the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Playback generation they are for; absent = whatever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
}

const fn yes() -> bool {
    true
}

/// A file for the provider to play.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Play {
    /// Where the provider fetches it, `http://` or `https://`.
    pub url: String,
    /// Times it is played; 0 for as often as the provider will.
    #[serde(default = "once", rename = "loop")]
    pub times: u32,
    /// Whether what is said or played next takes its place at once.
    #[serde(default)]
    pub preemptible: bool,
    /// Whether the caller can cut it off; absent = as the provider is set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interruptible: Option<bool>,
    /// Playback generation it is for; absent = whatever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
}

const fn once() -> u32 {
    1
}

impl Play {
    /// Once, and in its turn.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), times: 1, ..Self::default() }
    }
}

impl Say {
    /// A whole utterance in the usual language.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), last: true, ..Self::default() }
    }
}

/// Languages the provider speaks and recognises from now on; what is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Languages {
    /// What is spoken to the caller, a BCP 47 tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speech: Option<String>,
    /// What the caller speaks, a BCP 47 tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recognition: Option<String>,
}

/// Something with a name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Event {
    /// Dotted, lower case.
    pub name: String,
    /// Anything.
    #[serde(default)]
    pub data: Value,
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The call ended.
    #[default]
    Hangup,
    /// Another module takes over.
    Replaced,
    /// The bridge shuts down.
    Drain,
    /// A deadline passed.
    Timeout,
    /// Nobody said that the session is over: the bridge let go of it, or is gone. What came last may be missing.
    Gone,
    /// Something broke, or a reason newer than this crate.
    #[serde(other)]
    Error,
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Log {
    /// How loud.
    #[serde(default)]
    pub level: LogLevel,
    /// What.
    pub msg: String,
    /// More.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
}

/// How loud a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// For the module's author.
    Debug,
    /// Worth knowing.
    #[default]
    Info,
    /// Not right.
    Warn,
    /// Broken.
    Error,
}

/// A figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Metric {
    /// Dotted, lower case.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its unit, `ms` say.
    #[serde(default)]
    pub unit: String,
}

/// Something that went wrong in a module.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ErrorReport {
    /// Short, for programs.
    pub code: String,
    /// For a person.
    #[serde(default)]
    pub message: String,
    /// The session ends.
    #[serde(default)]
    pub fatal: bool,
    /// Asking again may help.
    #[serde(default)]
    pub retryable: bool,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What a vendor behind the module said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<Value>,
}
