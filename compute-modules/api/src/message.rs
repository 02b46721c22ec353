//! Everything bridge and module say to each other besides sound: one JSON object a message, told apart by `type`.
//!
//! All times are whole milliseconds on the session's media clock: 0 is the caller's first sample. Unknown types and fields are
//! ignored on both sides, so minor versions only add.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What the bridge tells a module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ToModule {
    /// A session begins: who calls, what is offered. Answer with [`FromModule::Ready`] or [`FromModule::Reject`].
    Start(Box<Start>),
    /// A key was pressed.
    Dtmf(Dtmf),
    /// Speech began or ended on a track, as a voice activity detector on this call sees it.
    Vad(Vad),
    /// A mark set by this module was reached, or cleared before it was.
    Mark(MarkReport),
    /// All queued playback was dropped; the new epoch is `epoch + 1`.
    Cleared(Cleared),
    /// Playback of this module's sound began, ran dry or ended.
    Playback(Playback),
    /// Sound of a track that this module will not get.
    Gap(Gap),
    /// Make all that was heard final now, then answer [`FromModule::Finalized`] with the same id.
    Finalize {
        /// Echoed in the answer.
        id: String,
    },
    /// A transcript made by another module of the call, for modules that want text.
    Text(Transcript),
    /// New configuration for a running session.
    Update {
        /// Replaces the `config` of `start`.
        config: Value,
    },
    /// The module may have this much sound queued with the bridge.
    Credit {
        /// Milliseconds of playback.
        out_ms: u64,
    },
    /// Are you there? Answer [`FromModule::Pong`] with the same `t`.
    Ping {
        /// Echoed in the answer.
        t: u64,
    },
    /// Something named by the user or another module.
    Event(Event),
    /// The session is over: flush finals, then answer [`FromModule::Done`] before the deadline.
    Stop {
        /// Why.
        reason: StopReason,
        /// After this many milliseconds the module is cut off.
        deadline_ms: u64,
    },
    /// A type newer than this crate.
    #[serde(other)]
    Unknown,
}

/// What a module tells the bridge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FromModule {
    /// Once per process or connection, before any session: who I am.
    Register(Register),
    /// Answer to `start`: the offer taken.
    Ready(Ready),
    /// Answer to `start`: no.
    Reject(Reject),
    /// Words heard; the same `id` replaces an earlier one that was not final.
    Transcript(Transcript),
    /// The caller's turn began, changed or ended.
    Turn(Turn),
    /// Speech began or ended on a track.
    Vad(Vad),
    /// A key heard in the sound of a track.
    Dtmf(Dtmf),
    /// The binary audio that follows belongs to this epoch.
    #[serde(rename = "audio.begin")]
    AudioBegin {
        /// Playback generation the sound is for.
        epoch: u32,
    },
    /// The utterance is complete: play the rest, however short.
    #[serde(rename = "audio.end")]
    AudioEnd {
        /// Playback generation the sound was for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<u32>,
    },
    /// Drop all queued playback, here and at the provider (barge-in). Answered by [`ToModule::Cleared`].
    Clear {
        /// Clear only if this is still the epoch; absent = whatever it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<u32>,
    },
    /// Tell me when all that I sent before this has been played.
    Mark {
        /// Echoed in the report.
        name: String,
    },
    /// Hold playback at this very sample.
    Pause,
    /// Go on playing where [`FromModule::Pause`] held.
    Resume,
    /// Press keys on the call.
    #[serde(rename = "dtmf.send")]
    DtmfSend(DtmfSend),
    /// End the call.
    Hangup(Hangup),
    /// Move the call elsewhere.
    Transfer {
        /// Where, as the provider spells it.
        to: String,
    },
    /// Something named by the module, kept with the call's events.
    Event(Event),
    /// All sound up to here was used and need not be replayed after a crash.
    Ack {
        /// Milliseconds of sound taken in.
        in_ms: u64,
        /// How far behind the module is, if it knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lag_ms: Option<u64>,
    },
    /// The bridge may send this much more sound.
    Credit {
        /// Milliseconds.
        in_ms: u64,
    },
    /// Answer to `finalize`.
    Finalized {
        /// Of the question.
        id: String,
    },
    /// Answer to `ping`.
    Pong {
        /// Of the question.
        t: u64,
    },
    /// A line for the bridge's log.
    Log(Log),
    /// A figure for the bridge's metrics.
    Metric(Metric),
    /// Something went wrong; the session ends if `fatal`.
    Error(ErrorReport),
    /// The module will stop soon; open the session elsewhere.
    GoingAway {
        /// Until when.
        in_ms: u64,
        /// Names the session state to take up again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resume_token: Option<String>,
    },
    /// Answer to `stop`: all is said.
    Done {
        /// Figures of the session, free in form.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        stats: Map<String, Value>,
    },
    /// A type newer than this crate.
    #[serde(other)]
    Unknown,
}

/// What a module is for; decides what its slowness may cost (see `CONTRACT.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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

/// The call a session belongs to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
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
    /// Custom parameters the provider passed on.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub meta: Map<String, Value>,
}

/// What the bridge can give and take.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
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
    T: serde::de::DeserializeOwned,
{
    let all = Vec::<Value>::deserialize(deserializer)?;
    Ok(all.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect())
}

/// One track of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Track {
    /// Number used everywhere else.
    pub id: u16,
    /// Whose voice it is.
    pub role: Role,
}

/// Whose voice a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The person on the phone.
    Caller,
    /// What the person on the phone hears.
    Agent,
}

/// How samples are written between bridge and module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
pub struct ReadyCredit {
    /// Milliseconds.
    pub in_ms: u64,
}

/// What to do when a module cannot keep up with the sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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

/// Words heard.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
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
#[serde(rename_all = "snake_case")]
pub enum VadState {
    /// Somebody does.
    Speech,
    /// Nobody does.
    Silence,
}

/// A key pressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[serde(rename_all = "snake_case")]
pub enum MarkStatus {
    /// The caller heard everything before it.
    Played,
    /// It was cleared first.
    Cleared,
}

/// Playback was dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleared {
    /// Playback generation that ended.
    pub epoch: u32,
    /// Sound of it the caller heard.
    pub played_ms: u64,
    /// Sound of it the caller will never hear.
    pub discarded_ms: u64,
}

/// How playback goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// Keys to press.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
pub struct Hangup {
    /// When.
    #[serde(default)]
    pub after: HangupAfter,
    /// For the log.
    #[serde(default)]
    pub reason: String,
}

/// When to hang up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HangupAfter {
    /// At once.
    #[default]
    Now,
    /// When all queued sound was played.
    Playback,
}

/// Something with a name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Event {
    /// Dotted, lower case.
    pub name: String,
    /// Anything.
    #[serde(default)]
    pub data: Value,
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    /// Something broke, or a reason newer than this crate.
    #[serde(other)]
    Error,
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
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
