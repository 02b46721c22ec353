//! Where a call is in its life, and why it ended. Values only.

use std::fmt;

use ringback_module::message::StopReason;

use crate::Instant;
use crate::provider::ProtocolError;

/// Why a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// The other end hung up or stopped the stream.
    Remote,
    /// A module hung up.
    Hangup {
        /// Which.
        module: String,
        /// What it said.
        reason: String,
    },
    /// An operator hung up.
    Operator {
        /// The name that the operator is known by.
        name: String,
    },
    /// The other end broke the protocol.
    Protocol(ProtocolError),
    /// The stream never started.
    NoStart,
    /// No route of the listener takes the call.
    NoRoute,
    /// The call lasted longer than is allowed.
    TooLong,
    /// A module that the call cannot do without failed.
    Module {
        /// Which.
        module: String,
        /// Why.
        reason: String,
    },
    /// The bridge shuts down.
    Drain,
    /// The socket broke, or the other end no longer answers.
    Socket {
        /// What was seen.
        reason: String,
    },
}

impl EndReason {
    /// WebSocket close code that tells the other end.
    #[must_use]
    pub const fn close_code(&self) -> u16 {
        match self {
            Self::Remote | Self::Hangup { .. } | Self::Operator { .. } => 1000,
            Self::Protocol(error) => error.close_code(),
            Self::NoStart | Self::NoRoute | Self::TooLong => 1008,
            Self::Module { .. } => 1011,
            Self::Drain => 1001,
            Self::Socket { .. } => 1002,
        }
    }

    /// Whether the call is to be ended at the provider's, and not only here.
    pub(super) const fn is_ours(&self) -> bool {
        matches!(self, Self::Hangup { .. } | Self::Operator { .. })
    }

    /// One word for metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Remote => "remote",
            Self::Hangup { .. } => "hangup",
            Self::Operator { .. } => "operator",
            Self::Protocol(_) => "protocol",
            Self::NoStart => "no_start",
            Self::NoRoute => "no_route",
            Self::TooLong => "too_long",
            Self::Module { .. } => "module",
            Self::Drain => "drain",
            Self::Socket { .. } => "socket",
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote => f.write_str("the other end hung up"),
            Self::Hangup { module, reason } if reason.is_empty() => {
                write!(f, "module {module} hung up")
            }
            Self::Hangup { module, reason } => write!(f, "module {module} hung up: {reason}"),
            Self::Operator { name } => write!(f, "operator {name} hung up"),
            Self::Protocol(error) => write!(f, "protocol error: {error}"),
            Self::NoStart => f.write_str("the stream was opened but never started"),
            Self::NoRoute => f.write_str(
                "no route of the listener takes this call; a [[route]] without `when` at the end of its `routes` takes every call",
            ),
            Self::TooLong => f.write_str("the call reached its longest allowed duration"),
            Self::Module { module, reason } => {
                write!(f, "module {module} failed and is required: {reason}")
            }
            Self::Drain => f.write_str("the bridge is shutting down"),
            Self::Socket { reason } => write!(f, "connection lost: {reason}"),
        }
    }
}

/// Where a call is in its life.
#[derive(Debug)]
pub(super) enum Phase {
    /// Upgraded; the provider has not said who calls.
    AwaitingStart { deadline: Instant },
    /// Sound flows.
    Streaming { since: Instant, deadline: Instant },
    /// The stream was lost `at`; another one may go on with the call.
    Detached { since: Instant, deadline: Instant, at: Instant, until: Instant, reason: String },
    /// A module asked to hang up once playback is over.
    Finishing { since: Instant, deadline: Instant, reason: EndReason },
    /// The stream is over; modules say their last words.
    Draining { deadline: Instant, reason: EndReason },
    /// Nothing more happens.
    Ended,
}

impl Phase {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::AwaitingStart { deadline }
            | Self::Streaming { deadline, .. }
            | Self::Finishing { deadline, .. }
            | Self::Draining { deadline, .. } => Some(*deadline),
            Self::Detached { deadline, until, .. } => Some(*deadline.min(until)),
            Self::Ended => None,
        }
    }

    /// Whether modules hear and speak.
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Streaming { .. } | Self::Detached { .. } | Self::Finishing { .. })
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Draining { .. } | Self::Ended)
    }
}

/// The same end as modules are told it.
pub(super) fn stop_reason(reason: &EndReason) -> StopReason {
    match reason {
        EndReason::Remote | EndReason::Hangup { .. } | EndReason::Operator { .. } => {
            StopReason::Hangup
        }
        EndReason::Drain => StopReason::Drain,
        EndReason::NoStart | EndReason::TooLong => StopReason::Timeout,
        EndReason::Protocol(_)
        | EndReason::NoRoute
        | EndReason::Module { .. }
        | EndReason::Socket { .. } => StopReason::Error,
    }
}
