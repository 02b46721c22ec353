//! Figures of the running process: a static table of atomics and its Prometheus text. Measures nothing itself.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a figure may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One figure. All operations are relaxed: figures are read one by one and promise nothing about each other.
#[derive(Debug)]
pub struct Metric {
    kind: Kind,
    family: &'static str,
    labels: &'static str,
    help: &'static str,
    value: AtomicU64,
}

impl Metric {
    const fn new(
        kind: Kind,
        family: &'static str,
        labels: &'static str,
        help: &'static str,
    ) -> Self {
        Self { kind, family, labels, help, value: AtomicU64::new(0) }
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.value.fetch_add(amount, Ordering::Relaxed);
    }

    /// Takes one away; only for gauges, and only what was added before.
    pub fn decrement(&self) {
        debug_assert!(self.kind == Kind::Gauge);
        self.value.fetch_sub(1, Ordering::Relaxed);
    }

    /// The figure is this now; only for gauges that are nobody else's.
    pub fn set(&self, value: u64) {
        debug_assert!(self.kind == Kind::Gauge);
        self.value.store(value, Ordering::Relaxed);
    }

    /// The figure now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

macro_rules! metrics {
    ($($name:ident: $kind:ident $family:literal $labels:literal, $help:literal;)+) => {
        /// All figures of the process.
        #[derive(Debug)]
        pub struct Metrics {
            $(#[doc = $help] pub $name: Metric,)+
        }

        impl Metrics {
            /// All at zero.
            #[must_use]
            pub const fn new() -> Self {
                Self { $($name: Metric::new(Kind::$kind, $family, $labels, $help),)+ }
            }

            /// All figures; those of one family stand together.
            pub fn iter(&self) -> impl Iterator<Item = &Metric> {
                [$(&self.$name,)+].into_iter()
            }
        }
    };
}

metrics! {
    connections: Gauge "ringback_connections" "", "Connections open, streams included.";
    connections_refused: Counter "ringback_connections_refused_total" "reason=\"connections\"", "Connections refused because too many are open, in all or from one address.";
    connections_refused_address: Counter "ringback_connections_refused_total" "reason=\"address\"", "Connections refused because too many are open, in all or from one address.";
    accept_failures: Counter "ringback_accept_failures_total" "", "Times the system gave no connection, out of descriptors for example.";
    http_failures: Counter "ringback_http_failures_total" "", "Connections that ended before a whole request, slow and malformed ones.";
    refused_unauthorized: Counter "ringback_upgrades_refused_total" "reason=\"unauthorized\"", "Streams refused before they began.";
    refused_bad_request: Counter "ringback_upgrades_refused_total" "reason=\"bad_request\"", "Streams refused before they began.";
    refused_overload: Counter "ringback_upgrades_refused_total" "reason=\"overload\"", "Streams refused before they began.";
    refused_unreachable: Counter "ringback_upgrades_refused_total" "reason=\"unreachable\"", "Streams refused before they began.";
    passed_messages_in: Counter "ringback_passthrough_messages_total" "direction=\"in\"", "Messages of streams that were passed on, once they have ended.";
    passed_messages_out: Counter "ringback_passthrough_messages_total" "direction=\"out\"", "Messages of streams that were passed on, once they have ended.";
    passed_octets_in: Counter "ringback_passthrough_octets_total" "direction=\"in\"", "Octets of messages that were passed on.";
    passed_octets_out: Counter "ringback_passthrough_octets_total" "direction=\"out\"", "Octets of messages that were passed on.";
    passed_dropped: Counter "ringback_passthrough_dropped_messages_total" "", "Messages that came and could not be passed on any more when their stream ended.";
    passed_by_provider: Counter "ringback_passthrough_ended_total" "by=\"provider\",end=\"closed\"", "Streams that were passed on, by who or what ended them and how: with a good close code, with another, or without a close.";
    passed_error_provider: Counter "ringback_passthrough_ended_total" "by=\"provider\",end=\"error\"", "Streams that were passed on, by who or what ended them and how: with a good close code, with another, or without a close.";
    passed_lost_provider: Counter "ringback_passthrough_ended_total" "by=\"provider\",end=\"lost\"", "Streams that were passed on, by who or what ended them and how: with a good close code, with another, or without a close.";
    passed_by_server: Counter "ringback_passthrough_ended_total" "by=\"server\",end=\"closed\"", "Streams that were passed on, by who or what ended them and how: with a good close code, with another, or without a close.";
    passed_error_server: Counter "ringback_passthrough_ended_total" "by=\"server\",end=\"error\"", "Streams that were passed on, by who or what ended them and how: with a good close code, with another, or without a close.";
    passed_lost_server: Counter "ringback_passthrough_ended_total" "by=\"server\",end=\"lost\"", "Streams that were passed on, by who or what ended them and how: with a good close code, with another, or without a close.";
    passed_idle: Counter "ringback_passthrough_ended_total" "by=\"bridge\",end=\"idle\"", "Streams that were passed on, by who or what ended them and how: with a good close code, with another, or without a close.";
    passed_shut_down: Counter "ringback_passthrough_ended_total" "by=\"bridge\",end=\"shutdown\"", "Streams that were passed on, by who or what ended them and how: with a good close code, with another, or without a close.";
    passed_hung_up: Counter "ringback_passthrough_ended_total" "by=\"bridge\",end=\"hangup\"", "Streams that were passed on, by who or what ended them and how: with a good close code, with another, or without a close.";
    answered_calls: Counter "ringback_webhooks_total" "answer=\"stream\"", "Times a provider asked what to do with a call, by what it was told.";
    answered_asides: Counter "ringback_webhooks_total" "answer=\"noted\"", "Times a provider asked what to do with a call, by what it was told.";
    unanswered_unauthorized: Counter "ringback_webhooks_total" "answer=\"unauthorized\"", "Times a provider asked what to do with a call, by what it was told.";
    unanswered_bad_request: Counter "ringback_webhooks_total" "answer=\"bad_request\"", "Times a provider asked what to do with a call, by what it was told.";
    unanswered_overload: Counter "ringback_webhooks_total" "answer=\"overload\"", "Times a provider asked what to do with a call, by what it was told.";
    configs_applied: Counter "ringback_config_reloads_total" "outcome=\"applied\"", "Times the configuration was read again while calls were taken.";
    configs_refused: Counter "ringback_config_reloads_total" "outcome=\"refused\"", "Times the configuration was read again while calls were taken.";
    certificates_renewed: Counter "ringback_certificate_reloads_total" "outcome=\"applied\"", "Times the certificate of a listener was read again.";
    certificates_refused: Counter "ringback_certificate_reloads_total" "outcome=\"refused\"", "Times the certificate of a listener was read again.";
    operator_answered: Counter "ringback_operator_requests_total" "outcome=\"answered\"", "Requests on the operator's side.";
    operator_refused: Counter "ringback_operator_requests_total" "outcome=\"refused\"", "Requests on the operator's side.";
    operator_failed: Counter "ringback_operator_requests_total" "outcome=\"failed\"", "Requests on the operator's side.";
    operator_unauthorized: Counter "ringback_operator_denied_total" "reason=\"unauthorized\"", "Requests on the operator's side by whom nobody knows.";
    operator_locked_out: Counter "ringback_operator_denied_total" "reason=\"locked_out\"", "Requests on the operator's side by whom nobody knows.";
    operator_far: Counter "ringback_operator_denied_total" "reason=\"far\"", "Requests on the operator's side by whom nobody knows.";
    audit_failures: Counter "ringback_audit_failures_total" "", "Entries of the audit log that could not be written.";
    audit_skipped: Counter "ringback_audit_skipped_total" "", "Refused authentications of which there were too many to be in the audit log.";
    endpoint_failures: Counter "ringback_endpoint_failures_total" "", "Times endpoints of a listener could not be read or written down.";
    operator_listeners: Gauge "ringback_operator_listeners" "", "Operators who listen to events.";
    overload_level: Gauge "ringback_overload_level" "", "0: calls are taken; 1: new ones are refused; 2: captures have gaps as well.";
    worker_lag_us: Gauge "ringback_worker_lag_microseconds" "", "How late the latest thread comes to its calls, 99 times of 100 within five seconds.";
    memory_used: Gauge "ringback_memory_bytes" "", "Memory used of what is limited, by this process or its control group; 0 if nothing is.";
    memory_limit: Gauge "ringback_memory_limit_bytes" "", "Limit of that memory.";
    descriptors_used: Gauge "ringback_descriptors" "", "Descriptors open: connections, files, pipes.";
    descriptors_limit: Gauge "ringback_descriptors_limit" "", "Descriptors that may be open.";
    streams: Gauge "ringback_streams" "", "Streams open.";
    stream_panics: Counter "ringback_stream_panics_total" "", "Streams that ended by a fault of this program.";
    calls_started: Counter "ringback_calls_started_total" "", "Calls whose stream told that it started.";
    calls_detached: Counter "ringback_calls_detached_total" "", "Times a call lost its stream and waited for another.";
    calls_reattached: Counter "ringback_calls_reattached_total" "after=\"loss\"", "Times another stream went on with a call, after the one before it was lost or in the place of one that was still there.";
    calls_replaced: Counter "ringback_calls_reattached_total" "after=\"replacement\"", "Times another stream went on with a call, after the one before it was lost or in the place of one that was still there.";
    ended_remote: Counter "ringback_calls_ended_total" "reason=\"remote\"", "Calls ended, by who or what ended them.";
    ended_local: Counter "ringback_calls_ended_total" "reason=\"local\"", "Calls ended, by who or what ended them.";
    ended_shutdown: Counter "ringback_calls_ended_total" "reason=\"shutdown\"", "Calls ended, by who or what ended them.";
    ended_timeout: Counter "ringback_calls_ended_total" "reason=\"timeout\"", "Calls ended, by who or what ended them.";
    ended_no_route: Counter "ringback_calls_ended_total" "reason=\"no_route\"", "Calls ended, by who or what ended them.";
    ended_protocol: Counter "ringback_calls_ended_total" "reason=\"protocol\"", "Calls ended, by who or what ended them.";
    ended_network: Counter "ringback_calls_ended_total" "reason=\"network\"", "Calls ended, by who or what ended them.";
    ended_module: Counter "ringback_calls_ended_total" "reason=\"module\"", "Calls ended, by who or what ended them.";
    audio_in_ms: Counter "ringback_audio_in_milliseconds_total" "", "Sound heard, from summaries of ended calls.";
    audio_out_ms: Counter "ringback_audio_out_milliseconds_total" "", "Sound played, from summaries of ended calls.";
    dropped_early: Counter "ringback_sound_dropped_total" "reason=\"early\"", "Sound dropped, by reason, in the unit of the hop: messages at the wire, samples behind it.";
    dropped_after_end: Counter "ringback_sound_dropped_total" "reason=\"after_end\"", "Sound dropped, by reason, in the unit of the hop: messages at the wire, samples behind it.";
    dropped_duplicate: Counter "ringback_sound_dropped_total" "reason=\"duplicate\"", "Sound dropped, by reason, in the unit of the hop: messages at the wire, samples behind it.";
    dropped_late: Counter "ringback_sound_dropped_total" "reason=\"late\"", "Sound dropped, by reason, in the unit of the hop: messages at the wire, samples behind it.";
    dropped_undecodable: Counter "ringback_sound_dropped_total" "reason=\"undecodable\"", "Sound dropped, by reason, in the unit of the hop: messages at the wire, samples behind it.";
    dropped_overwritten: Counter "ringback_sound_dropped_total" "reason=\"overwritten\"", "Sound dropped, by reason, in the unit of the hop: messages at the wire, samples behind it.";
    dropped_cleared: Counter "ringback_sound_dropped_total" "reason=\"cleared\"", "Sound dropped, by reason, in the unit of the hop: messages at the wire, samples behind it.";
    dropped_trimmed: Counter "ringback_sound_dropped_total" "reason=\"trimmed\"", "Sound dropped, by reason, in the unit of the hop: messages at the wire, samples behind it.";
    dropped_overflow: Counter "ringback_sound_dropped_total" "reason=\"overflow\"", "Sound dropped, by reason, in the unit of the hop: messages at the wire, samples behind it.";
    dropped_not_speaker: Counter "ringback_sound_dropped_total" "reason=\"not_speaker\"", "Sound dropped, by reason, in the unit of the hop: messages at the wire, samples behind it.";
    dropped_stale: Counter "ringback_sound_dropped_total" "reason=\"stale\"", "Sound dropped, by reason, in the unit of the hop: messages at the wire, samples behind it.";
    dropped_call_ended: Counter "ringback_sound_dropped_total" "reason=\"call_ended\"", "Sound dropped, by reason, in the unit of the hop: messages at the wire, samples behind it.";
    dropped_module_gone: Counter "ringback_sound_dropped_total" "reason=\"module_gone\"", "Sound dropped, by reason, in the unit of the hop: messages at the wire, samples behind it.";
    dropped_unread: Counter "ringback_sound_dropped_total" "reason=\"unread\"", "Sound dropped, by reason, in the unit of the hop: messages at the wire, samples behind it.";
    dropped_unencodable: Counter "ringback_sound_dropped_total" "reason=\"unencodable\"", "Sound dropped, by reason, in the unit of the hop: messages at the wire, samples behind it.";
    dropped_send_failed: Counter "ringback_sound_dropped_total" "reason=\"send_failed\"", "Sound dropped, by reason, in the unit of the hop: messages at the wire, samples behind it.";
    private_parts: Counter "ringback_private_parts_total" "", "Private parts of calls begun.";
    modules_started: Counter "ringback_modules_started_total" "", "Modules started for a call.";
    modules_gone: Counter "ringback_modules_gone_total" "", "Modules that crashed, hung or broke the contract.";
    bypassed_late: Counter "ringback_filter_bypassed_samples_total" "reason=\"late\"", "Samples of callers' sound that passed a filter as it was, by reason.";
    bypassed_failed: Counter "ringback_filter_bypassed_samples_total" "reason=\"failed\"", "Samples of callers' sound that passed a filter as it was, by reason.";
    bypassed_down: Counter "ringback_filter_bypassed_samples_total" "reason=\"down\"", "Samples of callers' sound that passed a filter as it was, by reason.";
    bypassed_ended: Counter "ringback_filter_bypassed_samples_total" "reason=\"ended\"", "Samples of callers' sound that passed a filter as it was, by reason.";
    breakers_open: Gauge "ringback_module_breakers_open" "", "Modules that failed on most calls and are left out of calls for a while.";
    breakers_opened: Counter "ringback_module_breakers_opened_total" "", "Times a module was left out of calls for a while, or for longer.";
    breaker_refusals: Counter "ringback_module_breaker_refusals_total" "", "Times a module was not tried on a call, because it failed on most.";
    modules_replaced: Counter "ringback_modules_replaced_total" "", "Modules that failed and whose fallback was started in their place.";
    frames_overrun: Counter "ringback_module_frames_overrun_total" "", "Frames that modules in calls' own tasks were found to take too long for, from summaries of ended calls; one of fifty is timed, and all that follow a slow one.";
    processes_starting: Gauge "ringback_module_processes" "state=\"starting\"", "Processes of modules: started and not heard of yet, waiting for a session, with one or more.";
    processes_idle: Gauge "ringback_module_processes" "state=\"idle\"", "Processes of modules: started and not heard of yet, waiting for a session, with one or more.";
    processes_busy: Gauge "ringback_module_processes" "state=\"busy\"", "Processes of modules: started and not heard of yet, waiting for a session, with one or more.";
    processes_started: Counter "ringback_module_processes_started_total" "", "Processes of modules started, ahead of calls or for one.";
    processes_lost: Counter "ringback_module_processes_lost_total" "", "Processes of modules that ended, or had to be ended, before nobody needed them any more.";
    sessions_without_process: Counter "ringback_module_sessions_refused_total" "", "Sessions of modules that found all processes taken until it was too late.";
    workers: Gauge "ringback_module_workers" "", "Modules that have dialled in and take sessions.";
    worker_sessions: Gauge "ringback_module_worker_sessions" "", "Sessions that have a place with a worker.";
    worker_sessions_waiting: Gauge "ringback_module_worker_sessions_waiting" "", "Sessions that wait for a worker with a place.";
    worker_sessions_passed_on: Counter "ringback_module_worker_failures_total" "reason=\"passed_on\"", "Times a session was passed on to another worker, or got none.";
    worker_sessions_unserved: Counter "ringback_module_worker_failures_total" "reason=\"no_place\"", "Times a session was passed on to another worker, or got none.";
    worker_sessions_refused: Counter "ringback_module_worker_failures_total" "reason=\"too_many_wait\"", "Times a session was passed on to another worker, or got none.";
    workers_refused_unauthorized: Counter "ringback_module_workers_refused_total" "reason=\"unauthorized\"", "Connections of modules that dial in, refused.";
    workers_refused_overload: Counter "ringback_module_workers_refused_total" "reason=\"overload\"", "Connections of modules that dial in, refused.";
    workers_refused_bad_request: Counter "ringback_module_workers_refused_total" "reason=\"bad_request\"", "Connections of modules that dial in, refused.";
    results: Counter "ringback_results_total" "", "Results streamed by modules.";
    ledgers_unbalanced: Counter "ringback_ledgers_unbalanced_total" "", "Calls whose sound does not add up: a fault of this program.";
    keys_read: Counter "ringback_key_reads_total" "outcome=\"read\"", "Times the keys of a token's issuer were fetched or read again.";
    keys_not_read: Counter "ringback_key_reads_total" "outcome=\"failed\"", "Times the keys of a token's issuer were fetched or read again.";
    hangups_done: Counter "ringback_api_hangups_total" "outcome=\"done\"", "Calls that a provider's API was asked to end.";
    hangups_over: Counter "ringback_api_hangups_total" "outcome=\"over\"", "Calls that a provider's API was asked to end.";
    hangups_failed: Counter "ringback_api_hangups_total" "outcome=\"failed\"", "Calls that a provider's API was asked to end.";
    hangups_overload: Counter "ringback_api_hangups_total" "outcome=\"overload\"", "Calls that a provider's API was asked to end.";
    nats_connected: Gauge "ringback_nats_connected" "", "Connections to NATS that are there; one for each bridge.";
    nats_connects: Counter "ringback_nats_connects_total" "", "Times the connection to NATS came or came back.";
    nats_gaps: Counter "ringback_nats_gaps_total" "", "Times a worker's messages were lost between it and the bridge; its session was offered again.";
    nats_overflows: Counter "ringback_nats_overflows_total" "", "Messages of workers that came faster than they were taken, and were lost.";
    nats_events_stored: Counter "ringback_nats_events_total" "outcome=\"stored\"", "What happened on calls, by what became of it on its way to JetStream.";
    nats_events_overflow: Counter "ringback_nats_events_total" "outcome=\"overflow\"", "What happened on calls, by what became of it on its way to JetStream.";
    nats_events_expired: Counter "ringback_nats_events_total" "outcome=\"expired\"", "What happened on calls, by what became of it on its way to JetStream.";
    nats_events_refused: Counter "ringback_nats_events_total" "outcome=\"refused\"", "What happened on calls, by what became of it on its way to JetStream.";
    nats_events_shutdown: Counter "ringback_nats_events_total" "outcome=\"shutdown\"", "What happened on calls, by what became of it on its way to JetStream.";
    notices: Counter "ringback_notices_total" "", "Oddities of a provider's messages.";
    recordings_recovered: Counter "ringback_recordings_repaired_total" "outcome=\"recovered\"", "Recordings found that killed processes had not finished.";
    recordings_not_repaired: Counter "ringback_recordings_repaired_total" "outcome=\"failed\"", "Recordings found that killed processes had not finished.";
    recordings_cut: Counter "ringback_recordings_incomplete_total" "outcome=\"cut\"", "Recordings that lack an end: the recorder was let go of, or its disk failed.";
    recordings_failed: Counter "ringback_recordings_incomplete_total" "outcome=\"failed\"", "Recordings that lack an end: the recorder was let go of, or its disk failed.";
    recordings_expired: Counter "ringback_recordings_expired_total" "outcome=\"deleted\"", "Recordings that were kept long enough.";
    recordings_not_expired: Counter "ringback_recordings_expired_total" "outcome=\"failed\"", "Recordings that were kept long enough.";
    captures: Counter "ringback_captures_total" "", "Captures of calls begun.";
    captures_skipped: Counter "ringback_captures_skipped_total" "", "Calls not captured: a limit is reached, or there was no room.";
    captures_cut: Counter "ringback_captures_cut_total" "", "Captures that reached a limit, or could not be written on.";
    capture_messages_dropped: Counter "ringback_capture_messages_dropped_total" "", "Messages missing in captures: they came faster than they could be written.";
    protocol_errors: Counter "ringback_protocol_errors_total" "", "Streams whose messages broke the provider's protocol.";
}

/// The figures of this process.
pub static METRICS: Metrics = Metrics::new();

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All figures in Prometheus' text format, version 0.0.4, those of sinks and tenants behind them.
    #[must_use]
    pub fn exposition(&self) -> String {
        let mut text = String::with_capacity(4 * 1024);
        let mut family = "";
        for metric in self.iter() {
            let Metric { family: name, labels, help, .. } = metric;
            if *name != family {
                let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
                let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
                family = name;
            }
            // Writing to a string cannot fail.
            let _ = match *labels {
                "" => writeln!(text, "{name} {}", metric.get()),
                labels => writeln!(text, "{name}{{{labels}}} {}", metric.get()),
            };
        }
        super::sinks::exposition(&mut text);
        crate::tenants::exposition(&mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let metrics = Metrics::new();
        metrics.streams.add(3);
        metrics.streams.decrement();
        metrics.dropped_late.add(41);
        metrics.dropped_late.increment();
        let text = metrics.exposition();
        assert!(text.contains("# TYPE ringback_streams gauge\nringback_streams 2\n"), "{text}");
        assert!(text.contains("ringback_sound_dropped_total{reason=\"late\"} 42\n"), "{text}");
        assert_eq!(text.matches("# TYPE ringback_sound_dropped_total counter\n").count(), 1);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (_, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<u64>().is_ok(), "{line}");
        }
    }

    #[test]
    fn families_stand_together_and_every_series_is_named_once() {
        let metrics = Metrics::new();
        let mut families = Vec::new();
        let mut series = HashSet::new();
        for metric in metrics.iter() {
            assert!(series.insert((metric.family, metric.labels)), "{metric:?} twice");
            assert_eq!(metric.kind == Kind::Counter, metric.family.ends_with("_total"));
            if families.last() != Some(&metric.family) {
                assert!(!families.contains(&metric.family), "{} stands apart", metric.family);
                families.push(metric.family);
            }
        }
    }
}
