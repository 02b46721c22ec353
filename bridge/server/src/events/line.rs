//! What an event looks like: the JSON of everything that is seen on a call. Numbers of people are redacted; what they say is not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ringback_module::message::{
    Cleared, ConsentGiven, Dtmf, ErrorReport, Event, Log, Metric, Say, Transcript, Turn, Vad,
};
use ringback_proto::Instant;
use ringback_proto::ledger::{Drop, Hop, Unit};
use ringback_proto::provider::{Notice, Start};
use ringback_proto::session::{PortId, PrivateBy, Report, Session, Summary};
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

use super::Happening;
use crate::call::{Late, Seen};
use crate::clock::WallTime;
use crate::telemetry::{PeerText, Phone};

/// The envelope around what happened.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    tag: Option<Tag<'a>>,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_ms: Option<u64>,
    call: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_call: Option<&'a str>,
    provider: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<&'a str>,
    #[serde(flatten)]
    body: Body<'a>,
}

/// What an event is known by, where it is kept: the fields that `/events` does without.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Tag<'a> {
    /// The event's own name, the same wherever it goes and however often.
    pub(crate) event_id: &'a str,
    /// Name of the listener.
    pub(crate) listener: &'a str,
}

/// What happened. No field may be called as one of the envelope, `at_ms` excepted: see [`Body::tells_its_time`].
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Body<'a> {
    #[serde(rename = "call.started")]
    Started(Started<'a>),
    #[serde(rename = "call.ended")]
    Ended(Ended<'a>),
    #[serde(rename = "call.detached")]
    Detached {
        reason: String,
        window_ms: u64,
    },
    #[serde(rename = "call.reattached")]
    Reattached {
        away_ms: u64,
        /// Whether the other stream was still there.
        replaced: bool,
    },
    #[serde(rename = "module.ready")]
    ModuleReady,
    #[serde(rename = "module.failed")]
    ModuleFailed {
        reason: String,
        retrying: bool,
    },
    /// Sound passed the module, a filter, as it was.
    #[serde(rename = "filter.bypassed")]
    Bypassed {
        reason: &'static str,
        /// In samples.
        count: u64,
    },
    /// The envelope names who failed.
    #[serde(rename = "module.replaced")]
    ModuleReplaced {
        by: &'a str,
    },
    Transcript(&'a Transcript),
    Say(&'a Say),
    Turn(&'a Turn),
    Vad(&'a Vad),
    Dtmf(&'a Dtmf),
    Event(&'a Event),
    Log(&'a Log),
    Metric(&'a Metric),
    Error(&'a ErrorReport),
    Cleared(&'a Cleared),
    Dropped {
        reason: &'static str,
        count: u64,
    },
    Notice {
        text: String,
    },
    Private {
        state: &'static str,
        by: &'static str,
        at_ms: u64,
    },
    Consent(&'a ConsentGiven),
    Lagged {
        missed: u64,
    },
}

impl Body<'_> {
    /// Its type.
    const fn kind(&self) -> &'static str {
        match self {
            Self::Started(_) => "call.started",
            Self::Ended(_) => "call.ended",
            Self::Detached { .. } => "call.detached",
            Self::Reattached { .. } => "call.reattached",
            Self::ModuleReady => "module.ready",
            Self::ModuleFailed { .. } => "module.failed",
            Self::ModuleReplaced { .. } => "module.replaced",
            Self::Bypassed { .. } => "filter.bypassed",
            Self::Transcript(_) => "transcript",
            Self::Say(_) => "say",
            Self::Turn(_) => "turn",
            Self::Vad(_) => "vad",
            Self::Dtmf(_) => "dtmf",
            Self::Event(_) => "event",
            Self::Log(_) => "log",
            Self::Metric(_) => "metric",
            Self::Error(_) => "error",
            Self::Cleared(_) => "cleared",
            Self::Dropped { .. } => "dropped",
            Self::Notice { .. } => "notice",
            Self::Private { .. } => "private",
            Self::Consent(_) => "consent",
            Self::Lagged { .. } => "lagged",
        }
    }

    /// Whether the contract gives it an `at_ms` of its own.
    const fn tells_its_time(&self) -> bool {
        matches!(self, Self::Vad(_) | Self::Dtmf(_) | Self::Private { .. } | Self::Consent(_))
    }
}

#[derive(Serialize)]
struct Started<'a> {
    modules: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inbound: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outbound: Option<String>,
}

impl<'a> Started<'a> {
    /// Custom parameters stay untold: operators put tokens and numbers into them.
    fn of(start: &Start, session: &'a Session) -> Self {
        let redacted = |number: &Option<String>| number.as_deref().map(|n| Phone(n).to_string());
        let ports = (0..session.port_count()).map(PortId);
        Self {
            modules: ports.map(|port| name(session, port)).collect(),
            from: redacted(&start.from),
            to: redacted(&start.to),
            inbound: start.inbound.map(|format| format.to_string()),
            outbound: start.outbound.map(|format| format.to_string()),
        }
    }
}

#[derive(Serialize)]
struct Ended<'a> {
    reason: &'static str,
    detail: String,
    duration_ms: u64,
    heard_ms: u64,
    played_ms: u64,
    frames_in: u64,
    frames_out: u64,
    texts_in: u64,
    texts_out: u64,
    underruns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    drift_ppm: Option<f64>,
    /// Times another stream went on with the call.
    #[serde(skip_serializing_if = "is_never")]
    reattached: u32,
    /// Whether every hop's sound adds up.
    balanced: bool,
    /// The hops whose sound does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unbalanced: Vec<String>,
    modules: Vec<ModuleEnd<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    private: Option<PrivateEnd>,
    ledger: Vec<HopLine<'a>>,
}

/// What is left of private parts.
#[derive(Serialize)]
struct PrivateEnd {
    times: u32,
    ms: u64,
    keys: u64,
    results: u64,
}

/// What became of the sound at one hop.
#[derive(Serialize)]
struct HopLine<'a> {
    hop: &'a str,
    unit: &'static str,
    entered: u64,
    left: u64,
    queued: u64,
    #[serde(serialize_with = "by_reason", skip_serializing_if = "<[_]>::is_empty")]
    dropped: &'a [(Drop, u64)],
}

impl<'a> HopLine<'a> {
    fn of(hop: &'a Hop) -> Self {
        let unit = match hop.unit {
            Unit::Messages => "messages",
            Unit::Samples => "samples",
        };
        let Hop { name, entered, left, queued, dropped, .. } = hop;
        Self { hop: name, unit, entered: *entered, left: *left, queued: *queued, dropped }
    }
}

fn by_reason<S: Serializer>(dropped: &[(Drop, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(dropped.len()))?;
    for (reason, count) in dropped {
        map.serialize_entry(reason.name(), count)?;
    }
    map.end()
}

#[derive(Serialize)]
struct ModuleEnd<'a> {
    name: &'a str,
    /// Of a canary, in whose place it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<&'a str>,
    starts: u32,
    results: u64,
    #[serde(skip_serializing_if = "is_none")]
    overran: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Another was started in its place.
    #[serde(skip_serializing_if = "is_false")]
    replaced: bool,
    /// Of a filter, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    bypassed_ms: BTreeMap<&'static str, u64>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives it so")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives it so")]
fn is_never(times: &u32) -> bool {
    *times == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives it so")]
fn is_false(value: &bool) -> bool {
    !value
}

impl<'a> Ended<'a> {
    fn of(summary: &'a Summary) -> Self {
        let modules = summary.modules.iter().map(|module| ModuleEnd {
            name: &module.name,
            replaces: module.replaces.as_deref(),
            starts: module.starts,
            results: module.results,
            overran: module.overran,
            error: module.error.as_deref().map(peer_text),
            replaced: module.replaced,
            bypassed_ms: module.bypassed.iter().map(|(why, ms)| (why.name(), *ms)).collect(),
        });
        Self {
            reason: summary.reason.name(),
            detail: peer_text(&summary.reason.to_string()),
            duration_ms: millis(summary.duration),
            heard_ms: millis(summary.heard),
            played_ms: millis(summary.played),
            frames_in: summary.frames_in,
            frames_out: summary.frames_out,
            texts_in: summary.texts_in,
            texts_out: summary.texts_out,
            underruns: summary.underruns,
            drift_ppm: summary.drift_ppm,
            reattached: summary.reattached,
            balanced: summary.ledger.is_balanced(),
            unbalanced: summary.ledger.unbalanced().map(ToString::to_string).collect(),
            modules: modules.collect(),
            private: summary.private.map(|counts| PrivateEnd {
                times: counts.times,
                ms: millis(counts.lasted),
                keys: counts.keys,
                results: counts.results,
            }),
            ledger: summary.ledger.hops.iter().map(HopLine::of).collect(),
        }
    }
}

/// The event that tells of something seen on `call`, or `None` if it is none.
pub(super) fn happening(
    at: WallTime,
    call: &str,
    now: Instant,
    seen: &Seen<'_>,
) -> Option<Happening> {
    let (kind, json, provider_call) = json(at, call, now, seen, None)?;
    let provider_call = provider_call.map(str::to_owned);
    let tenant = tenant(seen).cloned();
    Some(Happening { kind, call: call.to_owned(), provider_call, tenant, json })
}

/// The type and the JSON of something seen on `call` and the provider's name for the call, or `None` if it is no event: a broken socket is told
/// by the end of its call.
pub(crate) fn json<'a>(
    at: WallTime,
    call: &str,
    now: Instant,
    seen: &Seen<'a>,
    tag: Option<Tag<'_>>,
) -> Option<(&'static str, String, Option<&'a str>)> {
    let at = at.to_string();
    let tenant = tenant(seen).map(|tenant| &**tenant);
    let (line, provider_call) = match seen {
        Seen::SocketFailed(_) => return None,
        Seen::Report { report, session } => {
            let (port, body) = body(report, session)?;
            let elapsed = session.origin().map(|origin| millis(now - origin));
            let at_ms = elapsed.filter(|_| !body.tells_its_time());
            let module = port.map(|port| name(session, port));
            let (provider, provider_call) = (session.provider(), session.provider_call());
            let route = session.route();
            (
                Line { tag, at, at_ms, call, provider_call, provider, tenant, route, module, body },
                provider_call,
            )
        }
        Seen::Ended(summary) => {
            let provider_call = summary.provider_call.as_deref();
            let (provider, body) = (summary.provider, Body::Ended(Ended::of(summary)));
            let (at_ms, module, route) = (None, None, summary.route.as_deref());
            let line =
                Line { tag, at, at_ms, call, provider_call, provider, tenant, route, module, body };
            (line, provider_call)
        }
        Seen::Late(Late { provider, provider_call, route, module, event, .. }) => {
            let (at_ms, provider_call) = (None, provider_call.as_deref());
            let (route, module, body) = (route.as_deref(), Some(&**module), Body::Event(event));
            let line =
                Line { tag, at, at_ms, call, provider_call, provider, tenant, route, module, body };
            (line, provider_call)
        }
    };
    Some((line.body.kind(), serde_json::to_string(&line).ok()?, provider_call))
}

/// Whose call it was seen on.
fn tenant<'a>(seen: &Seen<'a>) -> Option<&'a Arc<str>> {
    match seen {
        Seen::SocketFailed(_) => None,
        Seen::Report { session, .. } => session.tenant(),
        Seen::Ended(summary) => summary.tenant.as_ref(),
        Seen::Late(late) => late.tenant.as_ref(),
    }
}

/// What a listener hears who missed that many events.
pub(super) fn lagged(missed: u64) -> String {
    serde_json::to_string(&Body::Lagged { missed }).unwrap_or_default()
}

/// Which module did what.
fn body<'a>(report: &'a Report, session: &'a Session) -> Option<(Option<PortId>, Body<'a>)> {
    Some(match report {
        Report::Started(start) => (None, Body::Started(Started::of(start, session))),
        Report::Detached { reason, window } => {
            (None, Body::Detached { reason: peer_text(reason), window_ms: millis(*window) })
        }
        Report::Reattached { away, replaced } => {
            (None, Body::Reattached { away_ms: millis(*away), replaced: *replaced })
        }
        Report::ModuleReady(port) => (Some(*port), Body::ModuleReady),
        Report::ModuleFailed { port, reason, retrying } => {
            (Some(*port), Body::ModuleFailed { reason: peer_text(reason), retrying: *retrying })
        }
        Report::Bypassed { port, why, count } => {
            (Some(*port), Body::Bypassed { reason: why.name(), count: *count })
        }
        Report::FellBack { failed, to } => {
            (Some(*failed), Body::ModuleReplaced { by: name(session, *to) })
        }
        Report::Transcript(port, transcript) => (*port, Body::Transcript(transcript)),
        Report::Said(port, say) => (Some(*port), Body::Say(say)),
        Report::Turn(port, turn) => (Some(*port), Body::Turn(turn)),
        Report::Vad(port, vad) => (Some(*port), Body::Vad(vad)),
        Report::Dtmf(port, dtmf) => (*port, Body::Dtmf(dtmf)),
        Report::Event(port, event) => (Some(*port), Body::Event(event)),
        Report::Log(port, log) => (Some(*port), Body::Log(log)),
        Report::Metric(port, metric) => (Some(*port), Body::Metric(metric)),
        Report::Error(port, error) => (Some(*port), Body::Error(error)),
        Report::Cleared { cleared, by } => (*by, Body::Cleared(cleared)),
        Report::Dropped { reason, count } => {
            (None, Body::Dropped { reason: reason.name(), count: *count })
        }
        Report::Private { began, at_ms, by } => {
            let state = if *began { "began" } else { "ended" };
            let port = if let PrivateBy::Module(port) = by { Some(*port) } else { None };
            (port, Body::Private { state, by: by.name(), at_ms: *at_ms })
        }
        Report::Consent(consent) => (None, Body::Consent(consent)),
        Report::Notice(notice) => (None, Body::Notice { text: notice_text(notice) }),
        _ => return None,
    })
}

fn notice_text(notice: &Notice) -> String {
    peer_text(&crate::call::notice_text(notice))
}

fn name(session: &Session, port: PortId) -> &str {
    session.port_name(port)
}

fn peer_text(text: &str) -> String {
    PeerText(text).to_string()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
