//! What is reported of the operator's side: a log line and a figure each. Decides nothing; the audit log is not this.

use std::net::{IpAddr, SocketAddr};

use tracing::{debug, error, info, warn};

use super::metrics::METRICS;
use super::redact::PeerText;

/// Something that happened on the operator's side.
#[derive(Debug)]
#[non_exhaustive]
pub enum OperatorReport<'a> {
    /// It takes connections.
    Listening {
        /// Where.
        address: SocketAddr,
    },
    /// A request was answered.
    Answered {
        /// HTTP status.
        status: u16,
    },
    /// Somebody asked without a token of ours.
    Unauthorized {
        /// Whose connection.
        peer: SocketAddr,
    },
    /// Somebody was not listened to after too many wrong tokens.
    LockedOut {
        /// Whose connection.
        peer: SocketAddr,
    },
    /// Without tokens there is nothing for whoever asks from elsewhere.
    Far {
        /// Whose connection.
        peer: SocketAddr,
    },
    /// Endpoints of a listener cannot be read or written down; what was known holds.
    EndpointsNotKept {
        /// Which, and why not.
        reason: &'a str,
    },
    /// The audit log cannot be written: nothing is done until it can.
    AuditFailed {
        /// Why not.
        reason: &'a str,
    },
    /// Something was asked that changes something.
    Acted {
        /// Name of the token.
        name: &'a str,
        /// From where.
        address: Option<IpAddr>,
        /// What was asked.
        path: &'a str,
        /// HTTP status of the answer.
        status: u16,
    },
}

/// Makes a log line and a figure of a report.
pub(crate) fn operator_report(report: &OperatorReport<'_>) {
    match report {
        OperatorReport::Listening { address } => info!(%address, "listening for operators"),
        OperatorReport::Answered { status: 500.. } => METRICS.operator_failed.increment(),
        OperatorReport::Answered { status: 400.. } => METRICS.operator_refused.increment(),
        OperatorReport::Answered { .. } => METRICS.operator_answered.increment(),
        OperatorReport::Unauthorized { peer } => {
            METRICS.operator_unauthorized.increment();
            warn!(%peer, "an operator's request was refused: no token of ours");
        }
        OperatorReport::LockedOut { peer } => {
            METRICS.operator_locked_out.increment();
            debug!(%peer, "an operator's request was refused: too many wrong tokens came from there");
        }
        OperatorReport::Far { peer } => {
            METRICS.operator_far.increment();
            warn!(%peer, "an operator's request was refused: without tokens only this machine is answered");
        }
        OperatorReport::EndpointsNotKept { reason } => {
            METRICS.endpoint_failures.increment();
            error!(reason, "endpoints cannot be kept, trying again");
        }
        OperatorReport::AuditFailed { reason } => {
            METRICS.audit_failures.increment();
            error!(reason, "the audit log cannot be written: operators are refused");
        }
        OperatorReport::Acted { name, address, path, status } => {
            let address = address.map(tracing::field::display);
            info!(name, address, path = %PeerText(path), status, "an operator asked for a change");
        }
    }
}
