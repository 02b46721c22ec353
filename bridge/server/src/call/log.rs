//! Turns what is seen on calls into log lines and figures.

use ringback_module::message::{Event, LogLevel};
use ringback_proto::Instant;
use ringback_proto::provider::Notice;
use ringback_proto::session::{EndReason, PortId, Report as Happened, Session, Summary};

use super::watch::{Late, Seen, Watch};
use crate::recordings::Incomplete;
use crate::telemetry::{CallReport, PeerText, Phone, Report, report};

/// Logs the calls of one listener.
pub(crate) struct LogWatch {
    pub(crate) listener: String,
}

impl Watch for LogWatch {
    fn see(&self, call: &str, _now: Instant, seen: &Seen<'_>) {
        match seen {
            Seen::Report { report, session } => self.happened(call, report, session),
            Seen::SocketFailed(error) => tell(call, CallReport::Socket { error }),
            Seen::Ended(summary) => self.ended(call, summary),
            Seen::Late(Late { module, event, .. }) => said(call, module, event),
        }
    }
}

fn tell(call: &str, what: CallReport<'_>) {
    report(&Report::Call { call, what });
}

impl LogWatch {
    fn ended(&self, call: &str, summary: &Summary) {
        if let EndReason::Protocol(error) = &summary.reason {
            tell(call, CallReport::Protocol { error });
        }
        tell(call, CallReport::Ended { listener: &self.listener, summary });
    }

    fn happened(&self, call: &str, happened: &Happened, session: &Session) {
        let name = |port: &PortId| session.port_name(*port).to_owned();
        match happened {
            Happened::Started(start) => tell(
                call,
                CallReport::Started {
                    listener: &self.listener,
                    provider: session.provider(),
                    from: Phone(start.from.as_deref().unwrap_or("-")),
                    to: Phone(start.to.as_deref().unwrap_or("-")),
                    route: session.route(),
                    modules: &modules(session),
                    format: &start.inbound.map_or("words".into(), |format| format.to_string()),
                },
            ),
            Happened::Detached { reason, window } => {
                tell(call, CallReport::Detached { reason, window: *window });
            }
            Happened::Reattached { away, replaced } => {
                tell(call, CallReport::Reattached { away: *away, replaced: *replaced });
            }
            Happened::ModuleReady(port) => {
                tell(call, CallReport::ModuleStarted { module: &name(port) });
            }
            Happened::ModuleFailed { port, reason, retrying } => tell(
                call,
                CallReport::ModuleGone {
                    module: &name(port),
                    reason,
                    call_goes_on: *retrying || !session.is_over(),
                },
            ),
            Happened::Bypassed { port, why, count } => {
                let (why, count) = (*why, *count);
                tell(call, CallReport::Bypassed { module: &name(port), why, count });
            }
            Happened::FellBack { failed, to } => {
                tell(call, CallReport::ModuleReplaced { module: &name(failed), by: &name(to) });
            }
            Happened::Dropped { reason, count } => {
                tell(call, CallReport::Dropped { reason: *reason, count: *count });
            }
            Happened::Private { began, at_ms, by } => {
                tell(call, CallReport::Private { began: *began, at_ms: *at_ms, by: by.name() });
            }
            Happened::Consent(consent) => {
                let (given, by) = (consent.given, consent.by.as_str());
                tell(call, CallReport::Consent { given, by });
            }
            Happened::Notice(notice) => {
                tell(call, CallReport::Notice { text: PeerText(&notice_text(notice)) });
            }
            Happened::Transcript(port, t) if t.is_final => {
                let by = port.as_ref().map_or(session.provider().to_owned(), name);
                result(call, &by, "transcript", &t.text);
            }
            Happened::Dtmf(Some(port), d) => {
                result(call, &name(port), "dtmf", &d.digit.to_string());
            }
            Happened::Event(port, e) => said(call, &name(port), e),
            Happened::Error(port, e) => {
                let reason = format!("{}: {}", e.code, e.message);
                tell(
                    call,
                    CallReport::ModuleGone {
                        module: &name(port),
                        reason: &reason,
                        call_goes_on: !e.fatal,
                    },
                );
            }
            Happened::Log(port, line) => log_line(call, &name(port), line.level, &line.msg),
            _ => {}
        }
    }
}

/// The names of a call's modules, as one text.
fn modules(session: &Session) -> String {
    let names: Vec<_> = (0..session.port_count()).map(|n| session.port_name(PortId(n))).collect();
    names.join(", ")
}

fn said(call: &str, module: &str, event: &Event) {
    result(call, module, &event.name, &event.data.to_string());
    if let Some(lacks) = Incomplete::told_by(&event.name, &event.data) {
        tell(call, CallReport::RecordingIncomplete { module, lacks });
    }
}

fn result(call: &str, module: &str, kind: &str, text: &str) {
    tell(call, CallReport::Result { module, kind, text: PeerText(text) });
}

/// A provider's oddity in a person's words.
pub(crate) fn notice_text(notice: &Notice) -> String {
    match notice {
        Notice::UnknownMessage { kind } => format!("a message of the unknown kind {kind}"),
        Notice::ProviderError { text } => format!("the provider reports an error: {text}"),
        Notice::EarlyMedia { octets } => format!("{octets} octets of sound before the start"),
        Notice::Early { kind } => format!("a message came before the start: {kind}"),
        Notice::Repeated { kind } => format!("a message came twice: {kind}"),
        Notice::LineLost { line, reason } => {
            format!("the {} line was lost and is dialled again: {reason}", line.name())
        }
        Notice::Probe => "the provider only tries whether we answer: no call comes of it".into(),
        other => format!("{other:?}"),
    }
}

/// A module's own words, at the level it chose.
fn log_line(call: &str, module: &str, level: LogLevel, text: &str) {
    let text = PeerText(text);
    match level {
        LogLevel::Debug => tracing::debug!(call, module, %text, "module"),
        LogLevel::Info => tracing::info!(call, module, %text, "module"),
        LogLevel::Warn => tracing::warn!(call, module, %text, "module"),
        LogLevel::Error => tracing::error!(call, module, %text, "module"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::telemetry::METRICS;

    #[test]
    fn recordings_that_failed_are_counted() {
        let say = |name: &str, state: &str| {
            let before = METRICS.recordings_failed.get();
            let data = json!({ "path": "a.wav", "state": state, "missing_ms": 1_500 });
            said("c1", "recorder", &Event { name: name.into(), data });
            METRICS.recordings_failed.get() - before
        };
        assert_eq!(say("recorder.finished", "finished"), 0);
        assert_eq!(say("recorder.paused", "failed"), 0);
        assert_eq!(say("recorder.finished", "failed"), 1);
    }
}
