//! Everything bridge and module say to each other besides sound: one JSON object a message, told apart by `type`.
//!
//! All times are whole milliseconds on the session's media clock: 0 is the caller's first sample. Unknown types and fields are
//! ignored on both sides, so minor versions only add.

mod report;
mod session;
mod worker;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use report::*;
pub use session::*;
pub use worker::*;

/// What the bridge tells a module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    /// A transcript made by another module of the call, or by the provider, for modules that want text.
    Text(Transcript),
    /// Words that a provider which speaks by itself has spoken, for modules that want to know.
    Spoken(Spoken),
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
    /// A private part of the call began or ended, for modules that want to know. One that is not named for it is given silence and
    /// no keys meanwhile.
    Private(PrivatePart),
    /// The caller agreed to be recorded, or no longer does, for modules that want to know.
    Consent(ConsentGiven),
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
    #[cfg_attr(test, schemars(skip))]
    Unknown,
}

/// What a module tells the bridge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    /// Words for the provider to speak, on calls that carry words instead of sound.
    Say(Say),
    /// A file for the provider to fetch and play, on such calls.
    Play(Play),
    /// Other languages to speak and recognise, on such calls.
    Language(Languages),
    /// Hold playback at this very sample.
    Pause,
    /// Go on playing where [`FromModule::Pause`] held.
    Resume,
    /// A private part of the call begins: a card's number will be said or pressed, say. Sound, words and keys go to modules that are
    /// named for it, and to nobody else, until it ends or has lasted as long as it may.
    #[serde(rename = "private.begin")]
    PrivateBegin {
        /// It lasts no longer than so many milliseconds; absent = as the bridge is configured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_ms: Option<u64>,
    },
    /// The private part of the call is over.
    #[serde(rename = "private.end")]
    PrivateEnd,
    /// The caller agreed to be recorded, or does not agree any longer.
    Consent(Consent),
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
    #[cfg_attr(test, schemars(skip))]
    Unknown,
}
