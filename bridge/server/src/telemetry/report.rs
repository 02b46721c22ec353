//! What is worth reporting, and the one function that makes a log line and a figure of it. Decides nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use ringback_proto::provider::ProtocolError;
use tracing::{debug, error, info, warn};

use super::metrics::{METRICS, Metrics};
use super::redact::{PeerText, Phone};
use crate::socket::SocketError;

/// Something worth a log line and a figure. Everything the bridge logs at `info` or above is one of these.
#[derive(Debug)]
#[non_exhaustive]
pub enum Report<'a> {
    /// The bridge takes connections.
    Listening {
        /// Where.
        address: SocketAddr,
        /// Paths of the listeners.
        paths: &'a [&'a str],
    },
    /// A connection was refused before a request was read.
    ConnectionRefused {
        /// Whose.
        peer: SocketAddr,
        /// So many are open already.
        limit: usize,
    },
    /// The system gave no connection.
    AcceptFailed {
        /// Its reason.
        error: &'a std::io::Error,
        /// Tried again after this.
        pause: Duration,
    },
    /// A connection ended before a whole request.
    HttpFailed {
        /// Whose.
        peer: SocketAddr,
        /// How.
        reason: &'a str,
    },
    /// A stream was refused.
    UpgradeRefused {
        /// Name of the listener.
        listener: &'a str,
        /// Whose.
        peer: SocketAddr,
        /// HTTP status of the answer.
        status: u16,
        /// The whole reason, more than the peer was told.
        reason: &'a str,
    },
    /// A stream ended by a fault of this program.
    StreamPanicked {
        /// Name of the listener.
        listener: &'a str,
        /// Whose.
        peer: SocketAddr,
    },
    /// No new calls are taken, live ones go on.
    Draining {
        /// Live streams.
        live: usize,
        /// They have so long.
        timeout: Duration,
    },
    /// All streams have ended.
    Drained {
        /// So many had to be cut off.
        cut: usize,
    },
    /// Something about one call.
    Call {
        /// Names the call.
        call: &'a str,
        /// What.
        what: CallReport<'a>,
    },
}

/// Something worth reporting about one call.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallReport<'a> {
    /// The stream told that it started.
    Started {
        /// Name of the listener.
        listener: &'a str,
        /// Name of the provider.
        provider: &'a str,
        /// Who calls.
        from: Phone<'a>,
        /// Who is called.
        to: Phone<'a>,
        /// What arrives, in words.
        format: &'a str,
    },
    /// The call is over. Exactly one for each [`CallReport::Started`].
    Ended(CallSummary<'a>),
    /// Frames of sound were dropped.
    Dropped {
        /// Why.
        reason: DropReason,
        /// How many.
        frames: u64,
    },
    /// A module began to work for the call.
    ModuleStarted {
        /// Its name.
        module: &'a str,
    },
    /// A module crashed, hung or broke the contract.
    ModuleGone {
        /// Its name.
        module: &'a str,
        /// What happened.
        reason: &'a str,
        /// Whether the call goes on without it.
        call_goes_on: bool,
    },
    /// An oddity of the provider's messages.
    Notice {
        /// In the provider's words, or about them.
        text: PeerText<'a>,
    },
    /// The stream broke the provider's protocol.
    Protocol {
        /// Where and how.
        error: &'a ProtocolError,
    },
    /// The socket failed.
    Socket {
        /// How.
        error: &'a SocketError,
    },
}

/// The one line every call ends in.
#[derive(Debug, Clone, Copy)]
pub struct CallSummary<'a> {
    /// Name of the listener.
    pub listener: &'a str,
    /// Name of the provider.
    pub provider: &'a str,
    /// Who or what ended it.
    pub end: EndKind,
    /// The same in words.
    pub detail: &'a str,
    /// From upgrade to end.
    pub lasted: Duration,
    /// Sound that came in, by its own clock.
    pub heard: Duration,
    /// Sound that went out.
    pub played: Duration,
    /// Sound that never came and was concealed.
    pub concealed: Duration,
    /// Frames dropped for any reason; each was reported with its own.
    pub dropped: u64,
}

/// Who or what ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndKind {
    /// The person at the other end, or the provider.
    Remote,
    /// A module or the bridge's user hung up.
    Local,
    /// The bridge was shut down before the call was over.
    Shutdown,
    /// Something did not come in time.
    Timeout,
    /// The peer broke a protocol.
    Protocol,
    /// The connection failed.
    Network,
    /// A module failed whose failure ends the call.
    Module,
}

impl EndKind {
    const fn metric(self, metrics: &Metrics) -> &super::Metric {
        match self {
            Self::Remote => &metrics.ended_remote,
            Self::Local => &metrics.ended_local,
            Self::Shutdown => &metrics.ended_shutdown,
            Self::Timeout => &metrics.ended_timeout,
            Self::Protocol => &metrics.ended_protocol,
            Self::Network => &metrics.ended_network,
            Self::Module => &metrics.ended_module,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Remote => "remote",
            Self::Local => "local",
            Self::Shutdown => "shutdown",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Network => "network",
            Self::Module => "module",
        }
    }
}

/// Why frames of sound were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// They came after their time.
    Late,
    /// They had come before.
    Duplicate,
    /// The payload is corrupt.
    Undecodable,
    /// They came before the stream started.
    BeforeStart,
    /// A module was too slow, and its ring was full.
    ModuleLagged,
    /// A module sent more sound than may be queued.
    PlayoutFull,
    /// A module's sound belongs to a queue that was cleared meanwhile.
    StaleEpoch,
}

impl DropReason {
    const fn metric(self, metrics: &Metrics) -> &super::Metric {
        match self {
            Self::Late => &metrics.dropped_late,
            Self::Duplicate => &metrics.dropped_duplicate,
            Self::Undecodable => &metrics.dropped_undecodable,
            Self::BeforeStart => &metrics.dropped_early,
            Self::ModuleLagged => &metrics.dropped_lagged,
            Self::PlayoutFull => &metrics.dropped_full,
            Self::StaleEpoch => &metrics.dropped_stale,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Duplicate => "duplicate",
            Self::Undecodable => "undecodable",
            Self::BeforeStart => "before start",
            Self::ModuleLagged => "module lagged",
            Self::PlayoutFull => "playout full",
            Self::StaleEpoch => "stale epoch",
        }
    }
}

/// Makes a log line and a figure of a report.
pub fn report(report: &Report<'_>) {
    report_to(&METRICS, report);
}

fn report_to(metrics: &Metrics, report: &Report<'_>) {
    match report {
        Report::Listening { address, paths } => info!(%address, ?paths, "listening"),
        Report::ConnectionRefused { peer, limit } => {
            metrics.connections_refused.increment();
            warn!(%peer, limit, "connection refused: too many are open");
        }
        Report::AcceptFailed { error, pause } => {
            metrics.accept_failures.increment();
            error!(%error, ?pause, "cannot take connections, trying again");
        }
        Report::HttpFailed { peer, reason } => {
            metrics.http_failures.increment();
            debug!(%peer, reason, "connection ended before a whole request");
        }
        Report::UpgradeRefused { listener, peer, status, reason } => {
            match status {
                401 | 403 => &metrics.refused_unauthorized,
                503 => &metrics.refused_overload,
                _ => &metrics.refused_bad_request,
            }
            .increment();
            warn!(listener, %peer, status, reason = %PeerText(reason), "stream refused");
        }
        Report::StreamPanicked { listener, peer } => {
            metrics.stream_panics.increment();
            error!(listener, %peer, "a fault of this program ended a stream; please report it");
        }
        Report::Draining { live, timeout } => {
            info!(live, ?timeout, "draining: no new calls, live ones go on");
        }
        Report::Drained { cut } => info!(cut, "drained"),
        Report::Call { call, what } => report_call(metrics, call, what),
    }
}

fn report_call(metrics: &Metrics, call: &str, what: &CallReport<'_>) {
    match what {
        CallReport::Started { listener, provider, from, to, format } => {
            metrics.calls_started.increment();
            info!(call, listener, provider, %from, %to, format, "call started");
        }
        CallReport::Ended(summary) => report_end(metrics, call, summary),
        CallReport::Dropped { reason, frames } => {
            reason.metric(metrics).add(*frames);
            warn!(call, reason = reason.name(), frames, "sound dropped");
        }
        CallReport::ModuleStarted { module } => {
            metrics.modules_started.increment();
            info!(call, module, "module started");
        }
        CallReport::ModuleGone { module, reason, call_goes_on } => {
            metrics.modules_gone.increment();
            error!(call, module, reason = %PeerText(reason), call_goes_on, "module gone");
        }
        CallReport::Notice { text } => {
            metrics.notices.increment();
            warn!(call, %text, "odd message from the provider");
        }
        CallReport::Protocol { error } => {
            metrics.protocol_errors.increment();
            let close_code = error.close_code();
            let error = error.to_string();
            warn!(call, error = %PeerText(&error), close_code, "the stream broke the protocol");
        }
        CallReport::Socket { error } => {
            let error = error.to_string();
            warn!(call, error = %PeerText(&error), "the stream's socket failed");
        }
    }
}

fn report_end(metrics: &Metrics, call: &str, summary: &CallSummary<'_>) {
    let CallSummary { listener, provider, end, detail, lasted, .. } = *summary;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (heard_ms, played_ms) = (millis(summary.heard), millis(summary.played));
    end.metric(metrics).increment();
    metrics.audio_in_ms.add(heard_ms);
    metrics.audio_out_ms.add(played_ms);
    info!(
        call,
        listener,
        provider,
        end = end.name(),
        detail = %PeerText(detail),
        lasted_ms = millis(lasted),
        heard_ms,
        played_ms,
        concealed_ms = millis(summary.concealed),
        dropped = summary.dropped,
        "call ended"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> SocketAddr {
        "192.0.2.7:4711".parse().unwrap()
    }

    fn call(what: CallReport<'_>) -> Report<'_> {
        Report::Call { call: "c1", what }
    }

    #[test]
    fn refusals_are_counted_by_kind() {
        let metrics = Metrics::new();
        for status in [400, 401, 403, 426, 503] {
            let refused =
                Report::UpgradeRefused { listener: "twilio", peer: peer(), status, reason: "x" };
            report_to(&metrics, &refused);
        }
        assert_eq!(metrics.refused_unauthorized.get(), 2);
        assert_eq!(metrics.refused_bad_request.get(), 2);
        assert_eq!(metrics.refused_overload.get(), 1);
    }

    #[test]
    fn drops_are_counted_in_frames_and_ends_with_their_sound() {
        let metrics = Metrics::new();
        report_to(&metrics, &call(CallReport::Dropped { reason: DropReason::Late, frames: 7 }));
        assert_eq!(metrics.dropped_late.get(), 7);
        let summary = CallSummary {
            listener: "twilio",
            provider: "twilio",
            end: EndKind::Timeout,
            detail: "no media for 30 s",
            lasted: Duration::from_secs(40),
            heard: Duration::from_millis(10_020),
            played: Duration::from_secs(3),
            concealed: Duration::ZERO,
            dropped: 7,
        };
        report_to(&metrics, &call(CallReport::Ended(summary)));
        assert_eq!(metrics.ended_timeout.get(), 1);
        assert_eq!((metrics.audio_in_ms.get(), metrics.audio_out_ms.get()), (10_020, 3_000));
    }

    #[test]
    fn no_line_carries_a_whole_number() {
        let number = "+15550100002";
        let log = crate::telemetry::capture(|| {
            report(&call(CallReport::Started {
                listener: "twilio",
                provider: "twilio",
                from: Phone(number),
                to: Phone("sip:+15550100003@pbx.example"),
                format: "PCMU 8000 Hz",
            }));
            report(&call(CallReport::Notice {
                text: PeerText("cannot reach 15550100002\nforged"),
            }));
            let reason = "caller 15550100002 said no";
            report(&call(CallReport::ModuleGone { module: "bot", reason, call_goes_on: true }));
            let error = ProtocolError::Malformed {
                index: 3,
                expected: "JSON",
                reason: "expected value".into(),
                excerpt: "{\"from\":\"15550100003\"".into(),
            };
            report(&call(CallReport::Protocol { error: &error }));
        });
        assert_eq!(log.lines().count(), 4, "{log}");
        assert!(!log.contains("5550100002") && !log.contains("5550100003"), "{log}");
        assert!(log.contains("+1555***02"), "{log}");
    }
}
