//! What a module that dialled in and the bridge say to each other beside sessions: who it is, how busy, and when to open one.

use serde::{Deserialize, Serialize};

use super::Register;

/// What the bridge tells a worker, on the connection on which it registered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ToWorker {
    /// Answer to [`FromWorker::Register`]: sessions may come.
    Registered(Registered),
    /// Open a connection for a session, with this ticket in the place of the token.
    Open {
        /// Good for one connection, and for a few seconds.
        ticket: String,
    },
    /// Are you there? Answer [`FromWorker::Pong`] with the same `t`.
    Ping {
        /// Echoed in the answer.
        t: u64,
    },
    /// A type newer than this crate.
    #[serde(other)]
    #[cfg_attr(test, schemars(skip))]
    Unknown,
}

/// What a worker tells the bridge, on the connection on which it registered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FromWorker {
    /// First of all: who I am, and how many sessions I take.
    Register(Register),
    /// How busy I am.
    Load(Load),
    /// Answer to `ping`.
    Pong {
        /// Of the question.
        t: u64,
    },
    /// Give me no more sessions; those I have go on until they end or I am gone.
    GoingAway {
        /// Until when, in milliseconds from now.
        in_ms: u64,
    },
    /// A type newer than this crate.
    #[serde(other)]
    #[cfg_attr(test, schemars(skip))]
    Unknown,
}

/// What the bridge took of a registration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Registered {
    /// The bridge's name for this worker, as in its log.
    pub worker: String,
    /// Sessions it is given at once.
    #[serde(default)]
    pub max_sessions: u32,
    /// A ping comes this often.
    #[serde(default)]
    pub ping_ms: u64,
    /// Whoever hears nothing for so long gives the connection up.
    #[serde(default)]
    pub dead_ms: u64,
}

/// How busy a worker is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Load {
    /// 0 (idle) to 1 (not one session more, please); absent: as its sessions say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// Sessions it has, of all bridges and registrations; absent: those this bridge gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u32>,
}
