//! What is worth reporting, and the one function that makes a log line and a figure of it. Decides nothing else.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use super::call::{CallReport, report_call};
use super::metrics::{METRICS, Metrics};
use super::redact::PeerText;
use super::sinks::{self, SinkReport};
use crate::passthrough::{PassedOn, PassedOnEnd, Side};
use crate::socket::close_code;

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
    /// A module fails on most calls, and is left out of them for a while.
    BreakerOpened {
        /// Which.
        module: &'a str,
        /// How it failed last.
        reason: &'a str,
        /// The while.
        pause: Duration,
    },
    /// A module that was left out was tried, and is there.
    BreakerClosed {
        /// Which.
        module: &'a str,
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
    /// A stream is passed on as it comes.
    PassingOn {
        /// Our name for the call.
        call: &'a str,
        /// Name of the listener.
        listener: &'a str,
        /// Name of the provider.
        provider: &'a str,
        /// Host and port of the server that it is passed on to.
        server: &'a str,
    },
    /// A stream that was passed on has ended.
    PassedOn {
        /// Our name for the call.
        call: &'a str,
        /// Name of the listener.
        listener: &'a str,
        /// What became of it.
        passed: &'a PassedOn,
    },
    /// A provider asked what to do with a call, and was told.
    WebhookAnswered {
        /// Name of the listener.
        listener: &'a str,
        /// Who asked.
        peer: SocketAddr,
        /// The provider's name for the call, if it told one.
        call: &'a str,
        /// Whether it was told to stream the call, and not about something else.
        begins: bool,
    },
    /// Somebody asked what to do with a call, and was not told.
    WebhookRefused {
        /// Name of the listener.
        listener: &'a str,
        /// Who asked.
        peer: SocketAddr,
        /// HTTP status of the answer.
        status: u16,
        /// The whole reason, more than the peer was told.
        reason: &'a str,
    },
    /// The connection to NATS is there, or is there again.
    NatsConnected {
        /// As the server calls itself.
        server: &'a str,
    },
    /// The connection to NATS broke; it is tried again until it is there.
    NatsLost,
    /// A server of NATS says no to something, or cannot be used.
    NatsRefused {
        /// In its words.
        reason: &'a str,
    },
    /// The stream for what happens on calls is not as it should be.
    NatsStream {
        /// Name of the stream.
        stream: &'a str,
        /// What is wrong.
        reason: &'a str,
    },
    /// A stream ended by a fault of this program.
    StreamPanicked {
        /// Name of the listener.
        listener: &'a str,
        /// Whose.
        peer: SocketAddr,
    },
    /// The keys of a token's issuer were read.
    KeysRead {
        /// Name of the listener.
        listener: &'a str,
        /// Where from.
        source: &'a str,
        /// So many are of use.
        keys: usize,
        /// They are read again after this.
        again: Duration,
        /// Whether they are others than before.
        is_new: bool,
    },
    /// They could not be read or kept; those of before go on to hold.
    KeysNotRead {
        /// Name of the listener.
        listener: &'a str,
        /// Where from.
        source: &'a str,
        /// Why not.
        reason: &'a str,
        /// Tried again after this.
        again: Duration,
    },
    /// Keys that could not be renewed hold no longer.
    KeysExpired {
        /// Name of the listener.
        listener: &'a str,
        /// They were kept so long.
        kept: Duration,
    },
    /// A module dialled in as a worker.
    WorkerCame {
        /// Name of the module in the configuration.
        module: &'a str,
        /// Our name for the worker.
        worker: &'a str,
        /// Its address.
        peer: SocketAddr,
        /// Its own name and version.
        program: (&'a str, &'a str),
        /// Sessions it takes at once.
        max_sessions: u32,
    },
    /// A worker wants no more sessions.
    WorkerLeaves {
        /// Name of the module in the configuration.
        module: &'a str,
        /// Our name for the worker.
        worker: &'a str,
        /// It will be gone then.
        within: Duration,
    },
    /// The connection on which a worker registered has ended.
    WorkerWent {
        /// Name of the module in the configuration.
        module: &'a str,
        /// Our name for the worker.
        worker: &'a str,
        /// Why.
        reason: &'a str,
        /// It has so many sessions, which go on as long as their connections do.
        sessions: usize,
    },
    /// A module that dialled in was not let in.
    WorkerRefused {
        /// Name of the module in the configuration.
        module: &'a str,
        /// Who dialled.
        peer: SocketAddr,
        /// HTTP status of the answer, or the close code.
        status: u16,
        /// The whole reason, more than the peer was told.
        reason: &'a str,
    },
    /// The configuration was read again, and holds for new calls.
    ConfigApplied {
        /// Routes in it.
        routes: usize,
        /// Modules in it.
        modules: usize,
    },
    /// A key of a configuration that was read again has no effect before a restart.
    ConfigNeedsRestart {
        /// Which.
        key: &'a str,
    },
    /// The configuration was read again, and what holds goes on to.
    ConfigRefused {
        /// What is wrong, a line each.
        problems: &'a str,
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
    /// A call is not captured, or no further.
    CaptureFailed {
        /// Where to.
        dir: &'a Path,
        /// Why not.
        error: &'a std::io::Error,
    },
    /// A recording whose process was killed is good again.
    RecordingRecovered {
        /// Its own name.
        path: &'a Path,
        /// Sound in it.
        ms: u64,
    },
    /// Something that may be a recording whose process was killed stays as it is.
    RecordingNotRepaired {
        /// Where.
        path: &'a Path,
        /// Why.
        reason: &'a str,
    },
    /// Folders were looked through for recordings that are too old.
    RecordingsExpired {
        /// Deleted.
        deleted: usize,
        /// Too old, and held.
        held: usize,
    },
    /// A recording that is too old is still there.
    RecordingNotExpired {
        /// Where.
        path: &'a Path,
        /// Why.
        reason: &'a str,
    },
    /// Recordings cannot be made in a folder, and calls are taken all the same.
    RecordingsUnusable {
        /// Which.
        dir: &'a Path,
        /// Why not.
        error: &'a std::io::Error,
    },
    /// Something about one sink.
    Sink {
        /// Its name.
        sink: &'a str,
        /// What.
        what: SinkReport<'a>,
    },
    /// Something about one call.
    Call {
        /// Names the call.
        call: &'a str,
        /// What.
        what: CallReport<'a>,
    },
}

/// Makes a log line and a figure of a report.
pub fn report(report: &Report<'_>) {
    report_to(&METRICS, report);
}

fn report_to(metrics: &Metrics, report: &Report<'_>) {
    match report {
        Report::Listening { address, paths } => info!(%address, ?paths, "listening"),
        Report::BreakerOpened { .. } | Report::BreakerClosed { .. } => {
            report_breaker(metrics, report);
        }
        Report::AcceptFailed { error, pause } => {
            metrics.accept_failures.increment();
            error!(%error, ?pause, "cannot take connections, trying again");
        }
        Report::HttpFailed { peer, reason } => {
            metrics.http_failures.increment();
            debug!(%peer, reason, "connection ended before a whole request");
        }
        Report::UpgradeRefused { .. } | Report::WebhookRefused { .. } => {
            report_refused(metrics, report);
        }
        Report::PassingOn { call, listener, provider, server } => {
            info!(call, listener, provider, server, "stream is passed on");
        }
        Report::PassedOn { call, listener, passed } => {
            report_passed_on(metrics, call, listener, passed);
        }
        Report::WebhookAnswered { listener, peer, call, begins } => {
            let provider_call = PeerText(call);
            if *begins {
                metrics.answered_calls.increment();
                info!(listener, %peer, %provider_call, "asked about a call: told to stream it here");
            } else {
                metrics.answered_asides.increment();
                debug!(listener, %peer, %provider_call, "told something about a call: noted");
            }
        }
        Report::StreamPanicked { listener, peer } => {
            metrics.stream_panics.increment();
            error!(listener, %peer, "a fault of this program ended a stream; please report it");
        }
        Report::KeysRead { .. } | Report::KeysNotRead { .. } | Report::KeysExpired { .. } => {
            report_keys(metrics, report);
        }
        Report::NatsConnected { .. }
        | Report::NatsLost
        | Report::NatsRefused { .. }
        | Report::NatsStream { .. } => report_nats(metrics, report),
        Report::WorkerCame { .. }
        | Report::WorkerLeaves { .. }
        | Report::WorkerWent { .. }
        | Report::WorkerRefused { .. } => report_worker(metrics, report),
        Report::ConfigApplied { .. }
        | Report::ConfigNeedsRestart { .. }
        | Report::ConfigRefused { .. } => report_config(metrics, report),
        Report::Draining { live, timeout } => {
            info!(live, ?timeout, "draining: no new calls, live ones go on");
        }
        Report::Drained { cut } => info!(cut, "drained"),
        Report::CaptureFailed { dir, error } => {
            error!(dir = %dir.display(), %error, "a call is not captured, or no further");
        }
        Report::RecordingRecovered { .. }
        | Report::RecordingNotRepaired { .. }
        | Report::RecordingsExpired { .. }
        | Report::RecordingNotExpired { .. }
        | Report::RecordingsUnusable { .. } => report_recordings(metrics, report),
        Report::Sink { sink, what } => sinks::report(sink, what),
        Report::Call { call, what } => report_call(metrics, call, what),
    }
}

fn report_refused(metrics: &Metrics, report: &Report<'_>) {
    match report {
        Report::UpgradeRefused { listener, peer, status, reason } => {
            match status {
                401 | 403 => &metrics.refused_unauthorized,
                503 => &metrics.refused_overload,
                502 | 504 => &metrics.refused_unreachable,
                _ => &metrics.refused_bad_request,
            }
            .increment();
            warn!(listener, %peer, status, reason = %PeerText(reason), "stream refused");
        }
        Report::WebhookRefused { listener, peer, status, reason } => {
            match status {
                401 | 403 => &metrics.unanswered_unauthorized,
                503 => &metrics.unanswered_overload,
                _ => &metrics.unanswered_bad_request,
            }
            .increment();
            warn!(listener, %peer, status, reason = %PeerText(reason), "asked about a call: not answered");
        }
        _ => {}
    }
}

fn report_breaker(metrics: &Metrics, report: &Report<'_>) {
    match report {
        Report::BreakerOpened { module, reason, pause } => {
            metrics.breakers_opened.increment();
            let reason = PeerText(reason);
            error!(module, %reason, ?pause, "module fails on most calls, and is left out of them");
        }
        Report::BreakerClosed { module } => info!(module, "module is there again, and on calls"),
        _ => {}
    }
}

fn report_passed_on(metrics: &Metrics, call: &str, listener: &str, passed: &PassedOn) {
    let PassedOn { inward, outward, end } = passed;
    for (count, messages, octets) in [
        (inward, &metrics.passed_messages_in, &metrics.passed_octets_in),
        (outward, &metrics.passed_messages_out, &metrics.passed_octets_out),
    ] {
        messages.add(count.came);
        octets.add(count.octets);
        metrics.passed_dropped.add(count.dropped());
    }
    let (code, detail) = match end {
        PassedOnEnd::Closed(_, None) => (None, "closed without a code".to_owned()),
        PassedOnEnd::Closed(_, Some(closed)) => (Some(closed.code), closed.reason.clone()),
        PassedOnEnd::Failed(_, error) => (None, error.to_string()),
        PassedOnEnd::Idle(limit) => (None, format!("nothing was said for {limit:?}")),
        PassedOnEnd::ShutDown => (None, "the bridge ends".to_owned()),
        PassedOnEnd::HungUp => (None, "an operator hung up".to_owned()),
    };
    let by = match end {
        PassedOnEnd::Closed(side, _) | PassedOnEnd::Failed(side, _) => side.name(),
        PassedOnEnd::Idle(_) | PassedOnEnd::ShutDown | PassedOnEnd::HungUp => "bridge",
    };
    let well = matches!(code, None | Some(close_code::NORMAL | close_code::GOING_AWAY));
    match end {
        PassedOnEnd::Closed(Side::Provider, _) if well => &metrics.passed_by_provider,
        PassedOnEnd::Closed(Side::Server, _) if well => &metrics.passed_by_server,
        PassedOnEnd::Closed(Side::Provider, _) => &metrics.passed_error_provider,
        PassedOnEnd::Closed(Side::Server, _) => &metrics.passed_error_server,
        PassedOnEnd::Failed(Side::Provider, _) => &metrics.passed_lost_provider,
        PassedOnEnd::Failed(Side::Server, _) => &metrics.passed_lost_server,
        PassedOnEnd::Idle(_) => &metrics.passed_idle,
        PassedOnEnd::ShutDown => &metrics.passed_shut_down,
        PassedOnEnd::HungUp => &metrics.passed_hung_up,
    }
    .increment();
    info!(
        call,
        listener,
        by,
        code,
        detail = %PeerText(&detail),
        messages_in = inward.came,
        octets_in = inward.octets,
        messages_out = outward.came,
        octets_out = outward.octets,
        "stream that was passed on has ended"
    );
    for (way, count) in [("in", inward), ("out", outward)] {
        if count.dropped() > 0 {
            warn!(
                call,
                way,
                messages = count.dropped(),
                "messages could not be passed on any more"
            );
        }
    }
}

fn report_recordings(metrics: &Metrics, report: &Report<'_>) {
    match report {
        Report::RecordingRecovered { path, ms } => {
            metrics.recordings_recovered.increment();
            warn!(path = %path.display(), ms, "a recording that was cut short is good again");
        }
        Report::RecordingNotRepaired { path, reason } => {
            metrics.recordings_not_repaired.increment();
            error!(path = %path.display(), reason, "a recording that was cut short is not repaired");
        }
        Report::RecordingsExpired { deleted, held } => {
            metrics.recordings_expired.add(*deleted as u64);
            info!(deleted, held, "recordings that were kept long enough are deleted");
        }
        Report::RecordingNotExpired { path, reason } => {
            metrics.recordings_not_expired.increment();
            error!(path = %path.display(), reason, "a recording that was kept long enough cannot be deleted");
        }
        Report::RecordingsUnusable { dir, error } => {
            error!(dir = %dir.display(), %error, "no recordings can be made here, and calls are taken all the same");
        }
        _ => {}
    }
}

fn report_worker(metrics: &Metrics, report: &Report<'_>) {
    match report {
        Report::WorkerCame { module, worker, peer, program: (name, version), max_sessions } => {
            metrics.workers.increment();
            let (name, version) = (PeerText(name), PeerText(version));
            info!(module, worker, %peer, %name, %version, max_sessions, "a worker dialled in");
        }
        Report::WorkerLeaves { module, worker, within } => {
            info!(module, worker, ?within, "a worker takes no more sessions");
        }
        Report::WorkerWent { module, worker, reason, sessions } => {
            metrics.workers.decrement();
            info!(module, worker, reason = %PeerText(reason), sessions, "a worker is gone");
        }
        Report::WorkerRefused { module, peer, status, reason } => {
            match status {
                401 | 403 => &metrics.workers_refused_unauthorized,
                503 | 4029 => &metrics.workers_refused_overload,
                _ => &metrics.workers_refused_bad_request,
            }
            .increment();
            warn!(module, %peer, status, reason = %PeerText(reason), "a module that dialled in was refused");
        }
        _ => {}
    }
}

fn report_config(metrics: &Metrics, report: &Report<'_>) {
    match report {
        Report::ConfigApplied { routes, modules } => {
            metrics.configs_applied.increment();
            info!(routes, modules, "configuration read again: it holds for new calls");
        }
        Report::ConfigNeedsRestart { key } => {
            warn!(key, "needs a restart: until then it stays as it was");
        }
        Report::ConfigRefused { problems } => {
            metrics.configs_refused.increment();
            for problem in problems.lines() {
                error!(problem, "configuration read again and not taken: what held goes on to");
            }
        }
        _ => {}
    }
}

fn report_keys(metrics: &Metrics, report: &Report<'_>) {
    match report {
        Report::KeysRead { listener, source, keys, again, is_new: true } => {
            metrics.keys_read.increment();
            info!(listener, source, keys, ?again, "the issuer's keys are others now");
        }
        Report::KeysRead { listener, source, keys, again, is_new: false } => {
            metrics.keys_read.increment();
            debug!(listener, source, keys, ?again, "the issuer's keys are what they were");
        }
        Report::KeysNotRead { listener, source, reason, again } => {
            metrics.keys_not_read.increment();
            let reason = PeerText(reason);
            warn!(listener, source, %reason, ?again, "the issuer's keys could not be read");
        }
        Report::KeysExpired { listener, kept } => {
            error!(listener, ?kept, "the issuer's keys are too old and hold no longer");
        }
        _ => {}
    }
}

fn report_nats(metrics: &Metrics, report: &Report<'_>) {
    match report {
        Report::NatsConnected { server } => {
            metrics.nats_connects.increment();
            metrics.nats_connected.increment();
            info!(server = %PeerText(server), "connected to NATS");
        }
        Report::NatsLost => {
            metrics.nats_connected.decrement();
            warn!("the connection to NATS is lost, trying again");
        }
        Report::NatsRefused { reason } => error!(reason = %PeerText(reason), "NATS says no"),
        Report::NatsStream { stream, reason } => {
            error!(stream, reason = %PeerText(reason), "events are not stored in JetStream as they should be");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringback_proto::ledger::{Drop, Hop, Ledger, Unit};
    use ringback_proto::provider::ProtocolError;
    use ringback_proto::session::{EndReason, Summary};

    use super::super::redact::Phone;

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
        for status in [400, 403, 405, 408, 413, 415, 503] {
            let refused =
                Report::WebhookRefused { listener: "twilio", peer: peer(), status, reason: "x" };
            report_to(&metrics, &refused);
        }
        assert_eq!(metrics.unanswered_unauthorized.get(), 1);
        assert_eq!(metrics.unanswered_bad_request.get(), 5);
        assert_eq!(metrics.unanswered_overload.get(), 1);
        assert_eq!(metrics.refused_unauthorized.get(), 2);
        assert_eq!(metrics.refused_bad_request.get(), 2);
        assert_eq!(metrics.refused_overload.get(), 1);
    }

    fn summary() -> Summary {
        Summary {
            call: "c1".into(),
            tenant: None,
            provider_call: None,
            provider: "twilio",
            route: None,
            reason: EndReason::NoStart,
            duration: Duration::from_secs(40),
            heard: Duration::from_millis(10_020),
            played: Duration::from_secs(3),
            frames_in: 501,
            frames_out: 150,
            texts_in: 0,
            texts_out: 0,
            underruns: 0,
            drift_ppm: None,
            reattached: 0,
            modules: Vec::new(),
            private: None,
            ledger: Ledger::default(),
        }
    }

    #[test]
    fn drops_are_counted_by_reason_and_ends_with_their_sound() {
        let metrics = Metrics::new();
        report_to(&metrics, &call(CallReport::Dropped { reason: Drop::Late, count: 7 }));
        assert_eq!(metrics.dropped_late.get(), 7);
        let summary = summary();
        report_to(&metrics, &call(CallReport::Ended { listener: "twilio", summary: &summary }));
        assert_eq!(metrics.ended_timeout.get(), 1);
        assert_eq!((metrics.audio_in_ms.get(), metrics.audio_out_ms.get()), (10_020, 3_000));
    }

    #[test]
    fn an_unbalanced_ledger_is_an_error_with_the_hop_that_is_wrong() {
        let metrics = Metrics::new();
        let mut summary = summary();
        summary.ledger.hops.push(Hop::new("playout", Unit::Samples, 10, 7, 1));
        let log = crate::telemetry::capture(|| {
            report_to(&metrics, &call(CallReport::Ended { listener: "twilio", summary: &summary }));
        });
        assert_eq!(metrics.ledgers_unbalanced.get(), 1);
        assert!(log.contains("UNBALANCED by 2"), "{log}");
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
                route: Some("default"),
                modules: "echo",
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
            let (listener, peer) = ("twilio", peer());
            let told = "15550100002\nforged";
            report(&Report::WebhookAnswered { listener, peer, call: told, begins: true });
            report(&Report::WebhookRefused { listener, peer, status: 403, reason: told });
        });
        assert_eq!(log.lines().count(), 6, "{log}");
        assert!(!log.contains("5550100002") && !log.contains("5550100003"), "{log}");
        assert!(log.contains("+1555***02"), "{log}");
    }
}
