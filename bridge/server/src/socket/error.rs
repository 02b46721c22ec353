//! Why a socket ended, and what its peer is told. Decides nothing about the call.

use std::io;
use std::time::Duration;

use super::wire::WireError;
use super::{SocketOptions, close_code};

/// A socket is of no more use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The peer broke RFC 6455.
    #[error("the peer broke the WebSocket protocol: {reason}")]
    Protocol {
        /// How.
        reason: &'static str,
    },
    /// A text message is not UTF-8.
    #[error("a text message is not UTF-8 after {valid_up_to} octets")]
    NotUtf8 {
        /// Octets that are.
        valid_up_to: usize,
    },
    /// A frame or message is bigger than [`SocketOptions::max_message`].
    #[error("a message is bigger than the limit of {limit} octets")]
    TooBig {
        /// The limit.
        limit: usize,
    },
    /// Pings or pongs without measure.
    #[error("more than {limit} control frames within a second")]
    ControlFlood {
        /// The limit.
        limit: u32,
    },
    /// More octets than any stream needs.
    #[error("more than {limit} octets within a second")]
    Flood {
        /// The limit.
        limit: u64,
    },
    /// The peer sent nothing, not even answers to our pings.
    #[error("the peer has been silent for {silent_for:?} and answers no ping")]
    Silent {
        /// At least so long.
        silent_for: Duration,
    },
    /// The peer began a message and does not end it.
    #[error("a message that began {waited:?} ago is not whole")]
    Unfinished {
        /// The deadline.
        waited: Duration,
    },
    /// The peer does not read.
    #[error("the peer took nothing for {waited:?} while there was something to send")]
    WriteDeadline {
        /// The deadline.
        waited: Duration,
    },
    /// A message of ours does not fit into the write buffer.
    #[error("an outgoing message is bigger than the write buffer")]
    OutgoingTooBig,
    /// The connection ended without a close frame.
    #[error("the connection was cut without a close frame")]
    Cut,
    /// The system reported an error.
    #[error("the connection failed: {0}")]
    Io(#[source] io::Error),
}

impl SocketError {
    /// What to close with ([`super::Socket::close`]); `None` if the line is down and nobody would hear it.
    #[must_use]
    pub const fn close_code(&self) -> Option<u16> {
        match self {
            Self::Protocol { .. } => Some(close_code::PROTOCOL),
            Self::NotUtf8 { .. } => Some(close_code::INVALID_DATA),
            Self::TooBig { .. } => Some(close_code::TOO_BIG),
            Self::ControlFlood { .. } | Self::Flood { .. } | Self::Unfinished { .. } => {
                Some(close_code::POLICY)
            }
            Self::OutgoingTooBig => Some(close_code::INTERNAL),
            Self::Silent { .. } | Self::WriteDeadline { .. } | Self::Cut | Self::Io(_) => None,
        }
    }

    /// Whether only the connection is gone, which says nothing about the call.
    #[must_use]
    pub const fn is_loss(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::WriteDeadline { .. } | Self::Cut | Self::Io(_))
    }

    /// Whether the peer, not this end or the network, is to blame.
    #[must_use]
    pub const fn is_peers_fault(&self) -> bool {
        matches!(
            self,
            Self::Protocol { .. }
                | Self::NotUtf8 { .. }
                | Self::TooBig { .. }
                | Self::ControlFlood { .. }
                | Self::Flood { .. }
                | Self::Unfinished { .. }
        )
    }

    pub(super) fn from_wire(error: WireError, options: &SocketOptions) -> Self {
        match error {
            WireError::TooBig => Self::TooBig { limit: options.max_message },
            WireError::NotUtf8 { valid_up_to } => Self::NotUtf8 { valid_up_to },
            WireError::Protocol(reason) => Self::Protocol { reason },
        }
    }

    pub(super) fn from_io(error: io::Error) -> Self {
        match error.kind() {
            // The last is what a peer does that ends TCP without ending TLS.
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Self::Cut,
            _ => Self::Io(error),
        }
    }
}
