//! Programs on the clients of Palantir's compute modules, as they are configured. Checks nothing and runs nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::module_host::Surroundings;
use crate::outgoing::http::Url;

/// Functions that are called when something happens on a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionConfig {
    /// Program and arguments, run once for each replica; empty for programs that are started by somebody else.
    pub command: Vec<String>,
    /// What the program gets of the bridge's environment.
    pub surroundings: Surroundings,
    /// Which function is called when; never empty.
    pub on: BTreeMap<Trigger, String>,
    /// How many run the program at a time.
    pub replicas: usize,
    /// Jobs that each of them has at a time.
    pub concurrency: usize,
    /// Jobs that wait for one of them, over all calls.
    pub max_queued: usize,
    /// A function has so long to answer, or to begin a stream.
    pub job_timeout: Duration,
    /// A stream may be silent for so long.
    pub idle_timeout: Duration,
    /// Silence of this length ends an utterance of the caller.
    pub end_of_utterance: Duration,
    /// What a result is that is a bare text.
    pub result: TextResult,
    /// Whether the program tells its functions.
    pub schemas: Schemas,
    /// Where a program that is started by somebody else finds the bridge.
    pub listen: Option<FunctionListen>,
    /// While it fails, the replica is given no work.
    pub readiness: Option<Probe>,
    /// When it has failed [`Probe::FAILURES`] times in a row, the program is started again.
    pub liveness: Option<Probe>,
}

/// What is asked again and again whether all is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What is done.
    pub kind: ProbeKind,
    /// From one answer to the next question.
    pub every: Duration,
    /// It has so long to answer.
    pub timeout: Duration,
}

impl Probe {
    /// Failures in a row of a liveness probe that end a program.
    pub const FAILURES: u32 = 3;
}

/// How a replica is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeKind {
    /// A program, which ends with 0 if all is well; it has the environment that the replica was given.
    Exec(Vec<String>),
    /// A page, which is answered with 200 to 399.
    Http(Url),
}

/// Where programs that are started by somebody else find the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionListen {
    /// Address for HTTPS; on this machine, plain HTTP is at the port above it.
    pub address: SocketAddr,
    /// The name by which they know this machine.
    pub host: String,
    /// Folder into which token, certificate and environment are written for them.
    pub dir: PathBuf,
}

/// What happens on a call that a function can be called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trigger {
    /// The call has begun.
    Start,
    /// Words that will not change any more.
    Transcript,
    /// Words that may still change.
    Partial,
    /// The sound of an utterance.
    Utterance,
    /// A key.
    Dtmf,
    /// The call has ended.
    End,
}

impl Trigger {
    /// All of them, in the order of the configuration's keys.
    pub const ALL: [Self; 6] =
        [Self::Start, Self::Transcript, Self::Partial, Self::Utterance, Self::Dtmf, Self::End];

    /// Its key in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Transcript => "transcript",
            Self::Partial => "partial",
            Self::Utterance => "utterance",
            Self::Dtmf => "dtmf",
            Self::End => "end",
        }
    }
}

/// What a result is that is a bare text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextResult {
    /// Words to be spoken.
    #[default]
    Say,
    /// A transcript.
    Transcript,
    /// An event of the call.
    Event,
}

/// Whether the program tells its functions before it is given work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schemas {
    /// It does, and is not ready before it has.
    #[default]
    Required,
    /// It need not.
    Optional,
}
