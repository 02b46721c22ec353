//! How a session begins: what is offered, what is taken, and the formats sound may have. Types only.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a module is for; decides what its slowness may cost (see `CONTRACT.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Listens only.
    #[default]
    Tap,
    /// Listens and speaks.
    Agent,
    /// Frame in, frame out within a deadline.
    Filter,
    /// Gets transcripts instead of sound.
    Text,
}

/// Begin of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Start {
    /// Version of the contract spoken, 1.
    pub v: u32,
    /// Names the session: one call, one module.
    pub session: String,
    /// Wall clock at time 0, RFC 3339; a label, nothing is computed from it.
    #[serde(default)]
    pub wall: String,
    /// What the module is used as.
    #[serde(default)]
    pub kind: Kind,
    /// Who calls whom.
    pub call: Call,
    /// The module's own configuration, as in the route.
    #[serde(default)]
    pub config: Value,
    /// What can be had.
    pub offer: Offer,
    /// Deadlines and sizes.
    #[serde(default)]
    pub limits: Limits,
    /// How much playback the module may queue.
    #[serde(default)]
    pub credit: StartCredit,
    /// Only after a reconnect or crash: where the sound goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
}

impl Start {
    /// `config` as a module's own type; none at all is that type's default.
    ///
    /// # Errors
    /// [`Reject`] `bad_config` with the place and what was expected there.
    pub fn parse_config<T: DeserializeOwned + Default>(&self) -> Result<T, Reject> {
        if self.config.is_null() {
            return Ok(T::default());
        }
        T::deserialize(&self.config).map_err(|error| Reject::bad_config(error.to_string()))
    }

    /// Whether the call carries words: [`crate::FromModule::Say`] works, and what the caller says comes as text.
    #[must_use]
    pub fn carries_text(&self) -> bool {
        self.offer.features.iter().any(|feature| feature == "say")
    }

    /// Rate of the caller's own sound: that of the first format offered, 8000 if none is.
    #[must_use]
    pub fn native_rate(&self) -> u32 {
        self.offer.input.first().map_or(8_000, |format| format.rate)
    }
}

/// The call a session belongs to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Call {
    /// Ours, unique.
    pub id: String,
    /// Calling number or name, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Called number or name, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// `inbound` or `outbound`, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
    /// Name of the provider, as in `ringback providers`.
    pub provider: String,
    /// Whose call it is, where a bridge has calls of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Custom parameters the provider passed on.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub meta: Map<String, Value>,
}

/// What the bridge can give and take.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Offer {
    /// Tracks to listen to.
    #[serde(deserialize_with = "known")]
    pub tracks: Vec<Track>,
    /// Formats a module can hear; the first is the track's own. Any other [`AudioFormat`] rate works too.
    #[serde(rename = "in", deserialize_with = "known")]
    pub input: Vec<AudioFormat>,
    /// Formats a module can speak in; empty if nobody may speak on this call.
    #[serde(rename = "out", default, deserialize_with = "known")]
    pub output: Vec<AudioFormat>,
    /// Frame lengths, in milliseconds.
    #[serde(default)]
    pub frame_ms: Vec<u32>,
    /// Audio framings.
    #[serde(default, deserialize_with = "known")]
    pub framing: Vec<Framing>,
    /// Verbs that work on this call.
    #[serde(default)]
    pub features: Vec<String>,
}

/// The entries of a list this crate understands: a newer side may offer what an older one has no word for.
fn known<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: DeserializeOwned,
{
    let all = Vec::<Value>::deserialize(deserializer)?;
    Ok(all.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect())
}

/// One track of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Track {
    /// Number used everywhere else.
    pub id: u16,
    /// Whose voice it is.
    pub role: Role,
}

/// Whose voice a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The person on the phone.
    Caller,
    /// What the person on the phone hears.
    Agent,
}

/// How samples are written between bridge and module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SampleEncoding {
    /// Signed 16-bit little-endian.
    PcmS16le,
    /// 32-bit float little-endian, full scale +-1.
    PcmF32le,
    /// G.711 mu-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
}

impl SampleEncoding {
    /// Octets of one sample.
    #[must_use]
    pub const fn octets(self) -> usize {
        match self {
            Self::PcmS16le => 2,
            Self::PcmF32le => 4,
            Self::Pcmu | Self::Pcma => 1,
        }
    }
}

/// Encoding and rate of mono sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AudioFormat {
    /// How samples are written.
    pub encoding: SampleEncoding,
    /// Samples per second.
    pub rate: u32,
}

impl AudioFormat {
    /// Signed 16-bit little-endian at `rate`.
    #[must_use]
    pub const fn pcm(rate: u32) -> Self {
        Self { encoding: SampleEncoding::PcmS16le, rate }
    }
}

/// How sound is wrapped in binary messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// Bare samples of the one accepted track; lost time is filled with silence, so octets count time.
    #[default]
    Raw,
    /// A header of 16 octets with track, epoch and position in front, see [`crate::wire::AudioHeader`].
    Hdr16,
}

/// Deadlines and sizes the bridge holds a module to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Limits {
    /// `ready` must come within.
    pub ready_ms: u64,
    /// `done` must come this soon after `stop`.
    pub stop_ms: u64,
    /// A ping is sent this often.
    pub ping_ms: u64,
    /// A module that says nothing at all for so long is taken for dead.
    pub dead_ms: u64,
    /// Largest message in octets, either way.
    pub max_msg: u64,
    /// Sound kept from before `ready`.
    pub pre_roll_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ready_ms: 10_000,
            stop_ms: 3_000,
            ping_ms: 500,
            dead_ms: 2_000,
            max_msg: 262_144,
            pre_roll_ms: 10_000,
        }
    }
}

/// Playback credit at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StartCredit {
    /// Milliseconds of playback the module may have queued.
    pub out_ms: u64,
}

impl Default for StartCredit {
    fn default() -> Self {
        Self { out_ms: 30_000 }
    }
}

/// Where the sound goes on after a reconnect or crash.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Resume {
    /// What the module gave in `ready` or `going_away`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// First millisecond that is replayed.
    pub from_ms: u64,
    /// Playback generation that is current; a first `start` begins with 0.
    #[serde(default)]
    pub epoch: u32,
}

/// Who a module is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Register {
    /// Name, for logs and routes.
    pub module: String,
    /// Its own version.
    #[serde(default)]
    pub version: String,
    /// Contract versions it speaks.
    #[serde(default)]
    pub v: Vec<u32>,
    /// What it can be used as.
    #[serde(default, deserialize_with = "known")]
    pub kinds: Vec<Kind>,
    /// Sessions it takes at once in one process; 0 or absent = 1.
    #[serde(default)]
    pub max_sessions: u32,
    /// Formats it prefers.
    #[serde(rename = "in", default, deserialize_with = "known")]
    pub input: Vec<AudioFormat>,
}

/// The offer taken.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Ready {
    /// The `session` of `start`.
    #[serde(default)]
    pub session: String,
    /// What was picked.
    pub accept: Accept,
    /// Messages asked for: `dtmf`, `vad`, `text`, `playback`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub want: Vec<String>,
    /// How much sound the bridge may send ahead of `ack`; absent = no limit but the bridge's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit: Option<ReadyCredit>,
    /// What to do when the module cannot keep up.
    #[serde(default)]
    pub overflow: Overflow,
    /// Names the session state to take up again after a reconnect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_token: Option<String>,
}

/// Formats and tracks picked from the offer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Accept {
    /// What to hear, or nothing.
    #[serde(rename = "in", default)]
    pub input: Option<AcceptIn>,
    /// What it will speak, or nothing.
    #[serde(rename = "out", default)]
    pub output: Option<AcceptOut>,
    /// Tracks to hear; empty = the caller's.
    #[serde(default)]
    pub tracks: Vec<u16>,
    /// How sound is wrapped.
    #[serde(default)]
    pub framing: Framing,
}

/// Sound towards the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AcceptIn {
    /// How samples are written.
    pub encoding: SampleEncoding,
    /// Samples per second.
    pub rate: u32,
    /// Length of every frame.
    #[serde(default = "default_frame_ms")]
    pub frame_ms: u32,
}

fn default_frame_ms() -> u32 {
    20
}

impl AcceptIn {
    /// 20 ms frames of signed 16-bit samples at `rate`.
    #[must_use]
    pub const fn pcm(rate: u32) -> Self {
        Self { encoding: SampleEncoding::PcmS16le, rate, frame_ms: 20 }
    }
}

/// Sound from the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AcceptOut {
    /// How samples are written.
    pub encoding: SampleEncoding,
    /// Samples per second.
    pub rate: u32,
    /// Whether backlog is latency or a queue to be played.
    #[serde(default)]
    pub pace: Pace,
}

impl AcceptOut {
    /// Signed 16-bit samples at `rate`, played to the end.
    #[must_use]
    pub const fn pcm(rate: u32) -> Self {
        Self { encoding: SampleEncoding::PcmS16le, rate, pace: Pace::Clip }
    }
}

/// What a backlog of playback means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// Utterances, sent as fast as they are made: all of it is to be played.
    #[default]
    Clip,
    /// A continuous stream that stands for now: what piles up in a stall is trimmed, never kept as latency.
    Live,
}

/// How much sound the bridge may send ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReadyCredit {
    /// Milliseconds.
    pub in_ms: u64,
}

/// What to do when a module cannot keep up with the sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// Keep the newest; the rest becomes a gap.
    #[default]
    DropOldest,
    /// Keep what is queued; new sound becomes a gap.
    DropNewest,
    /// Lag as far as the ring reaches, then catch up.
    Spool,
    /// End the session.
    Fail,
}

/// Why a module will not take a session.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reject {
    /// `busy`, `unsupported_format`, `bad_config` or `unauthorized`.
    pub code: String,
    /// Whether asking again may help.
    #[serde(default)]
    pub retryable: bool,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// For a person.
    #[serde(default)]
    pub message: String,
}

impl Reject {
    /// The configuration is at fault; `message` says where and what to do.
    pub fn bad_config(message: impl Into<String>) -> Self {
        Self { code: "bad_config".into(), message: message.into(), ..Self::default() }
    }

    /// Nothing offered fits; `message` says what is missing.
    pub fn unsupported_format(message: impl Into<String>) -> Self {
        Self { code: "unsupported_format".into(), message: message.into(), ..Self::default() }
    }
}

/// Rates the bridge converts to and from, in samples per second.
pub const RATES: std::ops::RangeInclusive<u32> = 8_000..=48_000;
