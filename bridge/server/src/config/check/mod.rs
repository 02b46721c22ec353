//! From what is written to what is meant: defaults, overrides and every rule that concerns more than one key. Collects all
//! problems instead of stopping at the first.

mod answers;
mod app;
mod auth;
mod hangup;
mod listeners;
mod modules;
mod nats;
mod operator;
mod passthrough;
mod places;
mod private;
mod recordings;
mod routes;
mod sinks;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ringback_proto::redaction::Sound;

use super::problem::{Source, did_you_mean};
use super::raw::{self, At};
use super::{
    Config, ConfigError, Context, DEFAULT_ROUTE, ModuleConfig, ModuleRun, Overrides, Place, Problem,
};
use crate::capture::CaptureOptions;
use crate::listener::{Limits, Pages};
use crate::outgoing::Trust;
use crate::overload::Bounds;
use crate::socket::SocketOptions;
use crate::telemetry::{LogFormat, LogOptions};
use crate::tls::{TlsError, TlsFiles};

const DEFAULT_BIND: &str = "127.0.0.1:8080";

/// Turns a file (or none) into a configuration.
pub(super) fn check(
    raw: &raw::File,
    source: Option<Source<'_>>,
    overrides: &Overrides,
    context: &Context<'_>,
) -> Result<Config, ConfigError> {
    let credential_headers = credential_headers(raw);
    let problems = Vec::new();
    let (door, tenants, kept) = (None, Vec::new(), BTreeSet::new());
    let mut checker =
        Checker { source, context, credential_headers, problems, door, tenants, kept };
    let (bind, bind_place) = checker.bind(raw, overrides);
    let mut limits = checker.limits(raw);
    limits.drain_timeout = overrides
        .drain_timeout
        .or(raw.server.drain_timeout.map(|raw::TimeSpan(time)| time))
        .unwrap_or(limits.drain_timeout);
    let bounds = checker.bounds(raw);
    let threads = checker.number(raw.server.threads.as_ref(), 0..=1024, 0);
    let threads = overrides.threads.unwrap_or(threads);
    let tick = overrides.tick.or(raw.server.tick).unwrap_or_default();
    let socket = checker.socket(raw);
    if let (Some(at), true) = (&raw.outgoing.ca_file, raw.outgoing.insecure) {
        checker.problem(at.span(), "either `ca_file` or `insecure`, found both");
    }
    let log = checker.log(raw, overrides);
    let capture = checker.capture(raw, overrides);
    let ca_file = raw.outgoing.ca_file.as_ref().map(|at| at.get_ref().into());
    let trust = Trust::from_options(ca_file, raw.outgoing.insecure);
    let nats = checker.nats(raw, &trust);
    let (mut modules, mut routes) = checker.modules_and_routes(raw, socket);
    let sinks = checker.sinks(raw, &mut routes);
    let tls = raw.server.tls.as_ref().and_then(|tls| checker.tls(tls));
    let recordings = checker.recordings_there_are(raw, &modules, &sinks);
    let worker_path = checker.worker_path(raw, &modules);
    let tenants = checker.tenants(raw);
    let operator = checker.operator(raw, bind);
    let listeners = checker.listeners(raw, socket, &routes, bind, &bind_place);
    checker.reach(raw, &listeners, &routes);
    withhold(checker.kept, &mut modules);
    if checker.problems.is_empty() {
        let pages = Pages {
            metrics: raw.server.metrics.unwrap_or_default(),
            events: raw.server.events.unwrap_or_default(),
        };
        let file = source.map(|source| source.name.to_owned());
        Ok(Config {
            file,
            bind,
            tls,
            pages,
            worker_path,
            limits,
            bounds,
            threads,
            tick,
            log,
            trust,
            capture,
            recordings,
            nats,
            operator,
            tenants,
            listeners,
            modules,
            routes,
            sinks,
        })
    } else {
        Err(ConfigError { problems: checker.problems })
    }
}

/// Programs do not get what the bridge keeps its secrets in, unless they are given it by name.
fn withhold(kept: BTreeSet<String>, modules: &mut [ModuleConfig]) {
    let kept: Vec<_> = kept.into_iter().collect();
    for module in modules {
        match &mut module.run {
            ModuleRun::Child(spec) => spec.launch.surroundings.withheld.clone_from(&kept),
            ModuleRun::Function(config) => config.surroundings.withheld.clone_from(&kept),
            _ => {}
        }
    }
}

/// Where a key stands, if it is there.
fn span<T>(at: &Option<At<T>>) -> Option<Range<usize>> {
    at.as_ref().map(At::span)
}

/// Header fields by which the listeners' callers prove who they are, in lower case.
fn credential_headers(raw: &raw::File) -> BTreeSet<String> {
    let auths = raw.listener.iter().filter_map(|table| table.get_ref().auth.as_ref());
    let headers = auths.filter_map(|auth| auth.get_ref().header.as_ref());
    headers.map(|at| at.get_ref().to_ascii_lowercase()).collect()
}

/// Collects what is wrong.
struct Checker<'a> {
    source: Option<Source<'a>>,
    context: &'a Context<'a>,
    credential_headers: BTreeSet<String>,
    problems: Vec<Problem>,
    /// Below this path modules dial in.
    door: Option<String>,
    /// Names of the tenants.
    tenants: Vec<Arc<str>>,
    /// Variables in which secrets are kept.
    kept: BTreeSet<String>,
}

impl Checker<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        self.source.map_or(Place::Default, |source| source.place(Some(span)))
    }

    fn problem(&mut self, span: Range<usize>, message: impl Into<String>) {
        let place = self.place(span);
        self.problems.push(Problem { place, message: message.into() });
    }

    /// A key that `whom` does not use is a misunderstanding, and about security above all: says so.
    fn superfluous<'k>(
        &mut self,
        given: impl IntoIterator<Item = (&'k str, Option<Range<usize>>)>,
        uses: &[&str],
        whom: &str,
    ) {
        let takes = if uses.is_empty() { "nothing".to_owned() } else { uses.join(", ") };
        for (key, span) in given {
            let Some(span) = span.filter(|_| !uses.contains(&key)) else { continue };
            self.problem(span, format!("`{key}` is not used by {whom}, which takes {takes}"));
        }
    }

    /// A name that must be one of `known`.
    fn unknown<'k>(
        &mut self,
        found: &At<String>,
        what: &str,
        known: impl Iterator<Item = &'k str>,
    ) {
        let known: Vec<_> = known.collect();
        let name = found.get_ref();
        let hint = did_you_mean(name, known.iter().copied()).unwrap_or_default();
        let list = if known.is_empty() { "there is none".into() } else { known.join(", ") };
        self.problem(found.span(), format!("there is no {what} {name:?} (known: {list}){hint}"));
    }

    /// The name of a table, which must be there, simple and not taken.
    fn name(&mut self, table: Range<usize>, name: Option<&At<String>>, taken: &[&str]) -> String {
        let Some(at) = name else {
            self.problem(table, "`name` is missing");
            return String::new();
        };
        let name = at.get_ref();
        let simple = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        if name.is_empty() || !name.chars().all(simple) {
            let rule = "a name is made of a-z, 0-9, `-` and `_`";
            self.problem(at.span(), format!("found {name:?}: {rule}"));
        } else if taken.contains(&name.as_str()) {
            self.problem(at.span(), format!("{name:?} is the name of another one"));
        }
        name.clone()
    }

    /// The files of a certificate. What is in them is looked at when they are needed.
    pub(super) fn tls(&mut self, at: &At<raw::Tls>) -> Option<TlsFiles> {
        if !cfg!(feature = "tls") {
            self.problem(at.span(), TlsError::Absent.to_string());
        }
        let raw::Tls { cert, key, client_ca } = at.get_ref();
        for (name, path) in [("cert", cert), ("key", key)] {
            if path.is_none() {
                let help =
                    format!("`{name}` is missing: `tls` takes `cert` and `key`, files in PEM");
                self.problem(at.span(), help);
            }
        }
        for path in [cert, key, client_ca].into_iter().flatten() {
            if path.get_ref().is_empty() {
                self.problem(path.span(), "expected a file, such as \"/etc/ringback/cert.pem\"");
            }
        }
        let path = |at: &At<String>| PathBuf::from(at.get_ref());
        let (cert, key) = (cert.as_ref().map(path)?, key.as_ref().map(path)?);
        Some(TlsFiles { cert, key, client_ca: client_ca.as_ref().map(path) })
    }

    /// A time that must lie in a range.
    fn time(
        &mut self,
        at: Option<&At<raw::TimeSpan>>,
        range: std::ops::RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        let Some(at) = at else { return default };
        let raw::TimeSpan(time) = *at.get_ref();
        if !range.contains(&time) {
            let (low, high) = (range.start(), range.end());
            self.problem(at.span(), format!("found {time:?}, expected {low:?} to {high:?}"));
        }
        time
    }

    /// A number that must lie in a range.
    fn number(
        &mut self,
        at: Option<&At<usize>>,
        range: std::ops::RangeInclusive<usize>,
        default: usize,
    ) -> usize {
        let Some(at) = at else { return default };
        let number = *at.get_ref();
        if !range.contains(&number) {
            let (low, high) = (range.start(), range.end());
            self.problem(at.span(), format!("found {number}, expected {low} to {high}"));
        }
        number
    }

    /// The address to listen on and where it was set.
    fn bind(&mut self, raw: &raw::File, overrides: &Overrides) -> (SocketAddr, Place) {
        if let Some(bind) = overrides.bind {
            return (bind, Place::Flag("--bind"));
        }
        const VARIABLE: &str = "RINGBACK_BIND";
        let (text, place) = if let Some(text) = (self.context.variable)(VARIABLE) {
            (text, Place::Environment(VARIABLE))
        } else if let Some(at) = &raw.server.bind {
            (at.get_ref().clone(), self.place(at.span()))
        } else {
            (DEFAULT_BIND.to_owned(), Place::Default)
        };
        let bind = text.parse().unwrap_or_else(|_| {
            let message = format!(
                "found {text:?}, expected an address and a port such as {DEFAULT_BIND:?}, \"0.0.0.0:8080\" or \"[::1]:8080\""
            );
            self.problems.push(Problem { place: place.clone(), message });
            SocketAddr::from(([127, 0, 0, 1], 0))
        });
        (bind, place)
    }

    fn limits(&mut self, raw: &raw::File) -> Limits {
        let raw = &raw.limits;
        let default = Limits::default();
        let header = Duration::from_millis(100)..=Duration::from_secs(60);
        Limits {
            max_connections: self.number(
                raw.max_connections.as_ref(),
                1..=1_000_000,
                default.max_connections,
            ),
            max_connections_per_address: self.number(
                raw.max_connections_per_address.as_ref(),
                1..=1_000_000,
                default.max_connections_per_address,
            ),
            max_streams: self.number(raw.max_calls.as_ref(), 1..=1_000_000, default.max_streams),
            header_timeout: self.time(raw.header_timeout.as_ref(), header, default.header_timeout),
            ..default
        }
    }

    fn bounds(&mut self, raw: &raw::File) -> Bounds {
        const MIB: u64 = 1024 * 1024;
        let raw = &raw.limits;
        let mut bounds = Bounds::default();
        if let Some(at) = &raw.max_lag {
            let raw::SpanOrOff(lag) = *at.get_ref();
            // Threads wake up on a grid of a millisecond, and clocks are no finer.
            if lag.is_some_and(|lag| lag < Duration::from_millis(5)) {
                self.problem(at.span(), "expected at least \"5ms\", or \"off\"");
            }
            bounds.max_lag = lag;
        }
        if let Some(at) = &raw.max_memory {
            let raw::Size(octets) = *at.get_ref();
            if octets < 64 * MIB {
                self.problem(at.span(), "expected at least \"64MiB\"");
            }
            bounds.max_memory = Some(octets);
        }
        bounds
    }

    fn socket(&mut self, raw: &raw::File) -> SocketOptions {
        let raw = &raw.limits;
        let default = SocketOptions::default();
        // The system gives a peer up after thirty.
        let write = Duration::from_millis(100)..=Duration::from_secs(30);
        let SocketOptions { burst, .. } = SocketOptions::default();
        SocketOptions {
            burst,
            max_message: self.number(
                raw.max_message.as_ref(),
                1024..=16 * 1024 * 1024,
                default.max_message,
            ),
            write_deadline: self.time(raw.write_timeout.as_ref(), write, default.write_deadline),
            keepalive: self.keepalive(raw.keepalive.as_ref(), default.keepalive),
        }
    }

    fn keepalive(
        &mut self,
        at: Option<&At<raw::SpanOrOff>>,
        default: Option<Duration>,
    ) -> Option<Duration> {
        let Some(at) = at else { return default };
        let raw::SpanOrOff(keepalive) = *at.get_ref();
        if keepalive.is_some_and(|time| time < Duration::from_secs(1)) {
            self.problem(
                at.span(),
                "a keepalive below 1s would be a flood; use \"20s\" or \"off\"",
            );
        }
        keepalive
    }

    fn capture(&mut self, raw: &raw::File, overrides: &Overrides) -> Option<CaptureOptions> {
        const MIB: u64 = 1024 * 1024;
        let raw = &raw.capture;
        let max_file = self.number(raw.max_file_mib.as_ref(), 1..=1024 * 1024, 64) as u64 * MIB;
        let max_total = self.number(raw.max_total_mib.as_ref(), 1..=1024 * 1024, 4096) as u64 * MIB;
        let max_files = self.number(raw.max_files.as_ref(), 1..=1_000_000, 1000);
        let dir = raw.dir.as_ref().map(|at| PathBuf::from(at.get_ref()));
        if let Some(at) = raw.dir.as_ref().filter(|at| at.get_ref().is_empty()) {
            self.problem(at.span(), "expected a folder, such as \"captures\"");
        }
        let audio = raw.audio || overrides.capture_audio;
        let sound = if audio { Sound::Keep } else { Sound::Silence };
        let dir = overrides.capture.clone().or(dir);
        if overrides.capture_audio && dir.is_none() {
            let message =
                "nothing is captured: name a folder with --capture, or `dir` of [capture]";
            let place = Place::Flag("--capture-audio");
            self.problems.push(Problem { place, message: message.into() });
        }
        let dir = dir?;
        Some(CaptureOptions { dir, sound, max_file, max_total, max_files })
    }

    fn log(&mut self, raw: &raw::File, overrides: &Overrides) -> LogOptions {
        const FILTER: &str = "RINGBACK_LOG";
        const FORMAT: &str = "RINGBACK_LOG_FORMAT";
        let default = LogOptions::default();
        let (filter, place) = if let Some(filter) = &overrides.log {
            (filter.clone(), Place::Flag("--log"))
        } else if let Some(filter) = (self.context.variable)(FILTER) {
            (filter, Place::Environment(FILTER))
        } else if let Some(at) = &raw.log.level {
            (at.get_ref().clone(), self.place(at.span()))
        } else {
            (default.filter, Place::Default)
        };
        if let Err(error) = LogOptions::parse_filter(&filter) {
            self.problems.push(Problem { place, message: error.to_string() });
        }
        let from_environment = match (self.context.variable)(FORMAT).as_deref() {
            None => None,
            Some("human") => Some(LogFormat::Human),
            Some("json") => Some(LogFormat::Json),
            Some(other) => {
                let message = format!("found {other:?}, expected human or json");
                self.problems.push(Problem { place: Place::Environment(FORMAT), message });
                None
            }
        };
        let format = overrides.log_format.or(from_environment).or(raw.log.format);
        LogOptions { format: format.unwrap_or(default.format), filter }
    }
}
