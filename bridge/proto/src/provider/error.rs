//! How a stream's messages can break its protocol, as evidence; ends no stream itself.

/// A message of a stream broke the protocol; the stream ends with [`ProtocolError::close_code`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Text that is not the JSON (or line) the protocol demands.
    #[error("message {index} is not valid {expected}: {reason}; it begins {excerpt:?}")]
    Malformed {
        /// Counts messages of the stream from 0.
        index: u64,
        /// What was expected.
        expected: &'static str,
        /// What the parser said, without the text.
        reason: String,
        /// First characters, cut and redacted.
        excerpt: String,
    },
    /// A field that must be there is missing or of the wrong kind.
    #[error("message {index} ({kind}): field `{field}` {problem}")]
    Field {
        /// Counts messages of the stream from 0.
        index: u64,
        /// What the message calls itself.
        kind: &'static str,
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A format the bridge cannot decode.
    #[error("message {index}: {what} is not supported")]
    Unsupported {
        /// Counts messages of the stream from 0.
        index: u64,
        /// What was asked for.
        what: String,
    },
    /// A message that may not come now.
    #[error("message {index} ({kind}) may not come {when}")]
    OutOfTurn {
        /// Counts messages of the stream from 0.
        index: u64,
        /// What the message calls itself.
        kind: &'static str,
        /// In which state.
        when: &'static str,
    },
    /// The other end said no to a request without which there is no stream.
    #[error("message {index}: the {what} was refused with status {status} ({reason})")]
    Refused {
        /// Counts messages of the stream from 0.
        index: u64,
        /// What was asked for.
        what: &'static str,
        /// The provider's number for why.
        status: u64,
        /// The provider's words for it, cut and redacted.
        reason: String,
    },
    /// The other end answers no longer.
    #[error("nobody answered {what}")]
    Unanswered {
        /// What was asked.
        what: &'static str,
    },
}

impl ProtocolError {
    /// That message `index` may not come now.
    #[must_use]
    pub const fn out_of_turn(index: u64, kind: &'static str, when: &'static str) -> Self {
        Self::OutOfTurn { index, kind, when }
    }

    /// WebSocket close code (RFC 6455, 7.4.1) that tells the other end.
    #[must_use]
    pub const fn close_code(&self) -> u16 {
        match self {
            Self::Malformed { .. } => 1007,
            Self::Field { .. }
            | Self::OutOfTurn { .. }
            | Self::Refused { .. }
            | Self::Unanswered { .. } => 1002,
            Self::Unsupported { .. } => 1003,
        }
    }
}
