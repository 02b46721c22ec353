//! What is worth reporting about one call: a log line and a figure each. Decides nothing else.

use std::time::Duration;

use ringback_proto::ledger::Drop;
use ringback_proto::media::filter::Bypass;
use ringback_proto::provider::ProtocolError;
use ringback_proto::session::{EndReason, Summary};
use tracing::{debug, error, info, warn};

use super::metrics::{Metric, Metrics};
use super::redact::{PeerText, Phone};
use crate::hangup::HangupOutcome;
use crate::recordings::Incomplete;
use crate::socket::SocketError;

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
        /// Name of the route that takes it, if one does.
        route: Option<&'a str>,
        /// Names of the modules that it gets.
        modules: &'a str,
        /// What arrives, in words.
        format: &'a str,
    },
    /// The stream was lost; another may go on with the call.
    Detached {
        /// What was seen.
        reason: &'a str,
        /// For so long.
        window: Duration,
    },
    /// Another stream goes on with the call.
    Reattached {
        /// Since the other was lost.
        away: Duration,
        /// Whether the other was still there.
        replaced: bool,
    },
    /// The call is over.
    Ended {
        /// Name of the listener.
        listener: &'a str,
        /// Its last account.
        summary: &'a Summary,
    },
    /// Sound was dropped.
    Dropped {
        /// Why.
        reason: Drop,
        /// How many messages or samples.
        count: u64,
    },
    /// A module streamed a result.
    Result {
        /// Its name; the provider's, of words it heard by itself.
        module: &'a str,
        /// What kind of result.
        kind: &'a str,
        /// What it said, in words.
        text: PeerText<'a>,
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
    /// Sound passed a filter as it was.
    Bypassed {
        /// Name of the filter.
        module: &'a str,
        /// Why.
        why: Bypass,
        /// How many samples.
        count: u64,
    },
    /// A module that is gone is followed by another.
    ModuleReplaced {
        /// Its name.
        module: &'a str,
        /// Who takes its place.
        by: &'a str,
    },
    /// The provider's API was asked to end the call.
    HungUpByApi {
        /// Name of the provider.
        provider: &'a str,
        /// What came of it.
        outcome: &'a HangupOutcome,
        /// How often it was asked.
        tries: u32,
    },
    /// A private part of the call began or ended.
    Private {
        /// Whether it began.
        began: bool,
        /// When, in ms of the call.
        at_ms: u64,
        /// By whom, in one word.
        by: &'a str,
    },
    /// The caller agreed to be recorded, or no longer does.
    Consent {
        /// Whether.
        given: bool,
        /// Who says so.
        by: &'a str,
    },
    /// A recording of the call lacks its end.
    RecordingIncomplete {
        /// Who made it.
        module: &'a str,
        /// What it says of itself.
        lacks: Incomplete,
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

const fn end_metric<'m>(reason: &EndReason, metrics: &'m Metrics) -> &'m Metric {
    match reason {
        EndReason::Remote => &metrics.ended_remote,
        EndReason::Hangup { .. } | EndReason::Operator { .. } => &metrics.ended_local,
        EndReason::Drain => &metrics.ended_shutdown,
        EndReason::NoStart | EndReason::TooLong => &metrics.ended_timeout,
        EndReason::NoRoute => &metrics.ended_no_route,
        EndReason::Protocol(_) => &metrics.ended_protocol,
        EndReason::Module { .. } => &metrics.ended_module,
        _ => &metrics.ended_network,
    }
}

const fn drop_metric(reason: Drop, metrics: &Metrics) -> &Metric {
    match reason {
        Drop::Early => &metrics.dropped_early,
        Drop::AfterEnd => &metrics.dropped_after_end,
        Drop::Duplicate => &metrics.dropped_duplicate,
        Drop::Late => &metrics.dropped_late,
        Drop::Undecodable => &metrics.dropped_undecodable,
        Drop::Overwritten => &metrics.dropped_overwritten,
        Drop::Cleared => &metrics.dropped_cleared,
        Drop::Trimmed => &metrics.dropped_trimmed,
        Drop::Overflow => &metrics.dropped_overflow,
        Drop::NotSpeaker => &metrics.dropped_not_speaker,
        Drop::Stale => &metrics.dropped_stale,
        Drop::CallEnded => &metrics.dropped_call_ended,
        Drop::ModuleGone => &metrics.dropped_module_gone,
        Drop::Unread => &metrics.dropped_unread,
        Drop::Unencodable => &metrics.dropped_unencodable,
        _ => &metrics.dropped_send_failed,
    }
}

const fn bypass_metric(why: Bypass, metrics: &Metrics) -> &Metric {
    match why {
        Bypass::Late => &metrics.bypassed_late,
        Bypass::Failed => &metrics.bypassed_failed,
        Bypass::Down => &metrics.bypassed_down,
        Bypass::Ended => &metrics.bypassed_ended,
    }
}

fn report_hangup(
    metrics: &Metrics,
    call: &str,
    provider: &str,
    outcome: &HangupOutcome,
    tries: u32,
) {
    match outcome {
        HangupOutcome::Done => {
            metrics.hangups_done.increment();
            info!(call, provider, tries, "call ended by the provider's API");
        }
        HangupOutcome::Over => {
            metrics.hangups_over.increment();
            info!(
                call,
                provider,
                tries,
                "the provider's API does not know the call: it is over, or not of this account"
            );
        }
        HangupOutcome::Failed(reason) => {
            metrics.hangups_failed.increment();
            let reason = PeerText(reason);
            error!(call, provider, tries, %reason, "call not ended by the provider's API, only its stream");
        }
        HangupOutcome::Overload => {
            metrics.hangups_overload.increment();
            error!(call, provider, "too many calls are to be ended at once: only the stream is");
        }
    }
}

pub(super) fn report_call(metrics: &Metrics, call: &str, what: &CallReport<'_>) {
    match what {
        CallReport::Started { listener, provider, from, to, route, modules, format } => {
            metrics.calls_started.increment();
            info!(call, listener, provider, %from, %to, route, modules, format, "call started");
        }
        CallReport::Detached { reason, window } => {
            metrics.calls_detached.increment();
            warn!(call, reason = %PeerText(reason), ?window, "stream lost, call waits for another");
        }
        CallReport::Reattached { away, replaced } => {
            let metric =
                if *replaced { &metrics.calls_replaced } else { &metrics.calls_reattached };
            metric.increment();
            info!(call, ?away, replaced, "call goes on with another stream");
        }
        CallReport::Ended { listener, summary } => report_end(metrics, call, listener, summary),
        CallReport::Dropped { reason, count } => {
            drop_metric(*reason, metrics).add(*count);
            debug!(call, reason = reason.name(), count, "sound dropped");
        }
        CallReport::Result { module, kind, text } => {
            metrics.results.increment();
            info!(call, module, kind, %text, "result");
        }
        CallReport::ModuleStarted { module } => {
            metrics.modules_started.increment();
            info!(call, module, "module started");
        }
        CallReport::ModuleGone { module, reason, call_goes_on } => {
            metrics.modules_gone.increment();
            error!(call, module, reason = %PeerText(reason), call_goes_on, "module gone");
        }
        CallReport::Bypassed { module, why, count } => {
            bypass_metric(*why, metrics).add(*count);
            debug!(call, module, why = why.name(), count, "sound passed a filter as it was");
        }
        CallReport::ModuleReplaced { module, by } => {
            metrics.modules_replaced.increment();
            warn!(call, module, by, "another module takes its place");
        }
        CallReport::HungUpByApi { provider, outcome, tries } => {
            report_hangup(metrics, call, provider, outcome, *tries);
        }
        CallReport::Private { began, at_ms, by } => {
            metrics.private_parts.add(u64::from(*began));
            let state = if *began { "began" } else { "ended" };
            info!(call, state, at_ms, by, "private part of the call");
        }
        CallReport::Consent { given, by } => {
            info!(call, given, by, "the caller's consent to be recorded");
        }
        CallReport::RecordingIncomplete { module, lacks: Incomplete { was_cut, missing_ms } } => {
            let metric =
                if *was_cut { &metrics.recordings_cut } else { &metrics.recordings_failed };
            metric.increment();
            error!(call, module, was_cut, missing_ms, "a recording lacks its end");
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

fn report_end(metrics: &Metrics, call: &str, listener: &str, summary: &Summary) {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (heard_ms, played_ms) = (millis(summary.heard), millis(summary.played));
    end_metric(&summary.reason, metrics).increment();
    metrics.audio_in_ms.add(heard_ms);
    metrics.audio_out_ms.add(played_ms);
    let detail = summary.reason.to_string();
    info!(
        call,
        listener,
        provider = summary.provider,
        route = summary.route,
        end = summary.reason.name(),
        detail = %PeerText(&detail),
        lasted_ms = millis(summary.duration),
        heard_ms,
        played_ms,
        frames_in = summary.frames_in,
        frames_out = summary.frames_out,
        texts_in = summary.texts_in,
        texts_out = summary.texts_out,
        underruns = summary.underruns,
        reattached = summary.reattached,
        "call ended"
    );
    for module in summary.modules.iter().filter(|module| module.overran > 0) {
        metrics.frames_overrun.add(module.overran);
        let (module, overran) = (&module.name, module.overran);
        warn!(call, module, overran, "a module in the call's own task took too long for frames");
    }
    for hop in &summary.ledger.hops {
        for (reason, count) in &hop.dropped {
            let (wanted, bypass) = (reason.is_wanted(), reason.is_bypass());
            let (hop, reason) = (&hop.name, reason.name());
            if bypass {
                warn!(call, hop, reason, count, "sound passed a filter of this call as it was");
            } else if wanted {
                debug!(call, hop, reason, count, "sound was dropped on this call, as asked");
            } else {
                warn!(call, hop, reason, count, "sound was dropped on this call");
            }
        }
    }
    for hop in summary.ledger.unbalanced() {
        metrics.ledgers_unbalanced.increment();
        error!(call, %hop, "the sound of this call does not add up; please report this");
    }
}
