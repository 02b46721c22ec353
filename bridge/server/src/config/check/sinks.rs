//! Sinks, and the routes whose calls they get. Opens none.

use std::ops::Range;
use std::time::Duration;

use ringback_proto::provider::Secret;
use toml::Spanned;

use super::super::RouteConfig;
use super::super::raw::{self, At};
use super::{Checker, span};
use crate::events::{EventKind, EventSet};
use crate::reach::Addresses;
use crate::sink::{
    Database, JsonLines, Recordings, S3, SigningKey, SinkConfig, SinkKind, Sql, Store, Template,
    Webhook, check_database, check_store,
};

/// Events that may wait where nothing else is said.
const DEFAULT_QUEUE: usize = 10_000;
const DEFAULT_SOURCE: &str = "/ringback";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_RETRY: Duration = Duration::from_secs(60 * 60);
const DEFAULT_CONCURRENCY: usize = 4;

impl Checker<'_> {
    /// All sinks; tells routes which of them are theirs.
    pub(super) fn sinks(&mut self, raw: &raw::File, routes: &mut [RouteConfig]) -> Vec<SinkConfig> {
        let mut sinks = Vec::<SinkConfig>::new();
        for table in &raw.sink {
            let taken: Vec<_> = sinks.iter().map(|sink| sink.name.as_str()).collect();
            let sink = table.get_ref();
            let config = SinkConfig {
                name: self.name(table.span(), sink.name.as_ref(), &taken),
                kind: self.sink_kind(table.span(), sink).unwrap_or_else(nothing),
                events: self.wanted(sink),
                queue: self.number(sink.queue.as_ref(), 1..=1_000_000, DEFAULT_QUEUE),
            };
            sinks.push(config);
        }
        for (route, table) in routes.iter_mut().zip(&raw.route) {
            let names = &table.get_ref().sinks;
            if let (Some(_), Some(first)) = (&route.passthrough, names.first()) {
                let help = "a route that passes streams on tells no events: leave `sinks` out";
                self.problem(first.span(), help);
            }
            route.sinks = self.sinks_of(names, &sinks);
        }
        for (sink, table) in sinks.iter().zip(&raw.sink) {
            self.connect(sink, table, routes);
        }
        sinks
    }

    /// The sinks that a route names.
    fn sinks_of(&mut self, names: &[At<String>], sinks: &[SinkConfig]) -> Vec<String> {
        let mut members = Vec::<String>::new();
        for at in names {
            let name = at.get_ref();
            if !sinks.iter().any(|sink| sink.name == *name) {
                self.unknown(at, "[[sink]]", sinks.iter().map(|sink| sink.name.as_str()));
            } else if members.contains(name) {
                self.problem(at.span(), format!("{name:?} is in the list twice"));
            }
            members.push(name.clone());
        }
        members
    }

    /// A sink gets the calls of the routes that name it, or all: one that gets none is a misunderstanding.
    fn connect(
        &mut self,
        sink: &SinkConfig,
        table: &Spanned<raw::Sink>,
        routes: &mut [RouteConfig],
    ) {
        if table.get_ref().all {
            let told = |route: &&mut RouteConfig| {
                route.passthrough.is_none() && !route.sinks.contains(&sink.name)
            };
            routes.iter_mut().filter(told).for_each(|route| route.sinks.push(sink.name.clone()));
        } else if !routes.iter().any(|route| route.sinks.contains(&sink.name)) {
            let help = "no [[route]] names this sink: add it to `sinks` of one, or say `all = true` for the calls of all routes";
            self.problem(table.span(), help);
        }
    }

    fn wanted(&mut self, sink: &raw::Sink) -> EventSet {
        if sink.kind.as_ref().is_some_and(|kind| *kind.get_ref() == raw::SinkKind::ObjectStore) {
            // The recorder's own, of which it takes those that tell of a recording.
            return [EventKind::Event].into_iter().collect();
        }
        let Some(events) = &sink.events else { return SinkConfig::default_events() };
        if events.get_ref().is_empty() {
            self.problem(events.span(), "`events` is empty: nothing would be sent");
        }
        let mut wanted = Vec::new();
        for at in events.get_ref() {
            match at.get_ref().parse() {
                Ok(kind) => wanted.push(kind),
                Err(()) => {
                    let known = EventKind::ALL.iter().map(|kind| kind.name());
                    self.unknown(at, "kind of event", known);
                }
            }
        }
        wanted.into_iter().collect()
    }

    fn sink_kind(&mut self, table: Range<usize>, raw: &raw::Sink) -> Option<SinkKind> {
        let Some(kind) = raw.kind.as_ref().map(|kind| *kind.get_ref()) else {
            self.problem(
                table,
                "`kind` is missing: \"jsonl\", \"webhook\", \"sqlite\", \"postgres\" or \"object_store\"",
            );
            return None;
        };
        let given = [
            ("path", span(&raw.path)),
            ("max_file_mib", span(&raw.max_file_mib)),
            ("flush_every", span(&raw.flush_every)),
            ("url", span(&raw.url)),
            ("secret", span(&raw.secret)),
            ("secrets", span(&raw.secrets)),
            ("insecure", span(&raw.insecure)),
            ("source", span(&raw.source)),
            ("allow", span(&raw.allow)),
            ("timeout", span(&raw.timeout)),
            ("retry_for", span(&raw.retry_for)),
            ("concurrency", span(&raw.concurrency)),
            ("spool", span(&raw.spool)),
            ("events", span(&raw.events).filter(|_| kind == raw::SinkKind::ObjectStore)),
            ("dir", span(&raw.dir)),
            ("delete_local", span(&raw.delete_local)),
            ("endpoint", span(&raw.endpoint)),
            ("region", span(&raw.region)),
            ("access_key", span(&raw.access_key)),
            ("secret_key", span(&raw.secret_key)),
        ];
        let (whom, uses) = uses(kind);
        self.superfluous(given, uses, whom);
        match kind {
            raw::SinkKind::Sqlite | raw::SinkKind::Postgres => {
                self.database(table, raw, kind).map(SinkKind::Sql)
            }
            raw::SinkKind::ObjectStore => self.recordings(table, raw).map(SinkKind::Recordings),
            raw::SinkKind::Jsonl => self.lines(table, raw).map(SinkKind::JsonLines),
            raw::SinkKind::Webhook => self.webhook(table, raw).map(SinkKind::Webhook),
        }
    }

    fn lines(&mut self, table: Range<usize>, raw: &raw::Sink) -> Option<JsonLines> {
        const MIB: u64 = 1024 * 1024;
        let Some(path) = &raw.path else {
            let help = "kind \"jsonl\" needs `path`, such as \"transcripts/{date}.jsonl\"";
            self.problem(table, help);
            return None;
        };
        let template = path.get_ref().parse::<Template>();
        let template = template.map_err(|problem| self.problem(path.span(), problem));
        let max_file = raw.max_file_mib.as_ref();
        let max_file = max_file.map(|at| self.number(Some(at), 1..=1024 * 1024, 1) as u64 * MIB);
        let range = Duration::ZERO..=Duration::from_secs(60);
        let flush_every = self.time(raw.flush_every.as_ref(), range, Duration::ZERO);
        Some(JsonLines { path: template.ok()?, max_file, flush_every })
    }

    fn database(
        &mut self,
        table: Range<usize>,
        raw: &raw::Sink,
        kind: raw::SinkKind,
    ) -> Option<Sql> {
        let source = self.event_source(raw.source.as_ref());
        let (key, help) = match kind {
            raw::SinkKind::Sqlite => {
                (&raw.path, "kind \"sqlite\" needs `path`, such as \"calls.db\"")
            }
            _ => {
                (&raw.url, "kind \"postgres\" needs `url`, where it is kept: \"env:DATABASE_URL\"")
            }
        };
        let Some(at) = key else {
            self.problem(table, help);
            return None;
        };
        let database = match kind {
            raw::SinkKind::Sqlite => Database::Sqlite { path: at.get_ref().into() },
            _ => Database::Postgres { url: self.resolve(at) },
        };
        // One that could not be read was complained about already.
        let empty = matches!(&database, Database::Postgres { url } if url.expose().is_empty());
        if let Err(problem) = check_database(&database)
            && !empty
        {
            self.problem(at.span(), problem);
        }
        Some(Sql { database, source })
    }

    fn recordings(&mut self, table: Range<usize>, raw: &raw::Sink) -> Option<Recordings> {
        let (Some(url), Some(dir)) = (&raw.url, &raw.dir) else {
            let help = "kind \"object_store\" needs `url`, such as \"s3://bucket/prefix\", and `dir`, the folder that the recorder writes to";
            self.problem(table, help);
            return None;
        };
        let of_s3 = [
            ("endpoint", span(&raw.endpoint)),
            ("region", span(&raw.region)),
            ("access_key", span(&raw.access_key)),
            ("secret_key", span(&raw.secret_key)),
        ];
        let text = url.get_ref();
        let store = if let Some(path) = text.strip_prefix("file://").filter(|p| p.starts_with('/'))
        {
            self.superfluous(of_s3, &[], "a file:// store");
            Store::Folder(path.into())
        } else if let Some(rest) = text.strip_prefix("s3://").filter(|rest| !rest.is_empty()) {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let prefix = prefix.trim_end_matches('/').to_owned();
            let endpoint = raw.endpoint.as_ref().and_then(|at| self.url(at));
            let region = raw.region.as_ref().map(|at| at.get_ref().clone());
            let key = self.key(raw);
            Store::S3(S3 { bucket: bucket.into(), prefix, endpoint, region, key })
        } else {
            let help =
                format!("found {text:?}, expected \"s3://bucket/prefix\" or \"file:///folder\"");
            self.problem(url.span(), help);
            return None;
        };
        if let Err(problem) = check_store(&store) {
            self.problem(url.span(), problem);
        }
        let delete_local = raw.delete_local.as_ref().is_some_and(|at| *at.get_ref());
        Some(Recordings { store, dir: dir.get_ref().into(), delete_local })
    }

    /// Id and secret of a key of S3: both, or what the environment has.
    fn key(&mut self, raw: &raw::Sink) -> Option<(Secret, Secret)> {
        match (&raw.access_key, &raw.secret_key) {
            (Some(id), Some(secret)) => Some((self.resolve(id), self.resolve(secret))),
            (Some(one), None) | (None, Some(one)) => {
                self.problem(one.span(), "`access_key` and `secret_key` go together");
                None
            }
            (None, None) => None,
        }
    }

    fn webhook(&mut self, table: Range<usize>, raw: &raw::Sink) -> Option<Webhook> {
        let Some(url) = &raw.url else {
            let help = "kind \"webhook\" needs `url`, such as \"https://crm.example.com/calls\"";
            self.problem(table, help);
            return None;
        };
        let url = self.url(url);
        let keys = self.signing_keys(table, raw);
        let range = Duration::from_millis(500)..=Duration::from_secs(60);
        let timeout = self.time(raw.timeout.as_ref(), range, DEFAULT_TIMEOUT);
        let range = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);
        let retry_for = self.time(raw.retry_for.as_ref(), range, DEFAULT_RETRY);
        let concurrency = self.number(raw.concurrency.as_ref(), 1..=256, DEFAULT_CONCURRENCY);
        let allow = raw.allow.as_ref().map(|at| self.networks(at.get_ref())).unwrap_or_default();
        if let Some(at) = raw.spool.as_ref().filter(|at| at.get_ref().is_empty()) {
            self.problem(at.span(), "expected a folder, such as \"/var/lib/ringback/spool\"");
        }
        // Of its own: two sinks in one folder would take each other's events for theirs.
        let name = raw.name.as_ref().map(|at| at.get_ref().as_str()).unwrap_or_default();
        let spool = raw.spool.as_ref().map(|at| std::path::Path::new(at.get_ref()).join(name));
        let source = self.event_source(raw.source.as_ref());
        let addresses = Addresses::new(allow, "allow");
        Some(Webhook { url: url?, keys, source, addresses, timeout, retry_for, concurrency, spool })
    }

    /// `source` of CloudEvents is a URI reference and not empty.
    fn event_source(&mut self, source: Option<&At<String>>) -> String {
        let Some(at) = source else { return DEFAULT_SOURCE.to_owned() };
        let text = at.get_ref();
        let plain = |c: char| c.is_ascii_graphic() && !"\"<>\\^`{|}".contains(c);
        if text.is_empty() || !text.chars().all(plain) {
            let help =
                format!("found {text:?}, expected a URI or a path such as {DEFAULT_SOURCE:?}");
            self.problem(at.span(), help);
        }
        text.clone()
    }

    fn signing_keys(&mut self, table: Range<usize>, raw: &raw::Sink) -> Vec<SigningKey> {
        if raw.insecure.as_ref().is_some_and(|at| *at.get_ref()) {
            let given = raw.secret.as_ref().map(At::span).or(span(&raw.secrets));
            if let Some(place) = given {
                self.problem(place, "either a secret or `insecure = true`, found both");
            }
            return Vec::new();
        }
        let places = match (&raw.secret, &raw.secrets) {
            (Some(one), None) => vec![one.span()],
            (None, Some(several)) => several.get_ref().iter().map(At::span).collect(),
            (None, None) => {
                let help = "`secret` is missing, by which the receiver knows that it is us: \"env:NAME\" or \"file:/path\" (`insecure = true` signs nothing)";
                self.problem(table, help);
                return Vec::new();
            }
            (Some(_), Some(_)) => Vec::new(),
        };
        let (one, several) = (raw.secret.as_ref(), raw.secrets.as_ref());
        let secrets = self.secrets(table, ["secret", "secrets"], one, several);
        let mut keys = Vec::new();
        for (secret, place) in secrets.iter().zip(places) {
            match SigningKey::parse(secret.expose()) {
                Ok(key) => keys.push(key),
                // One that could not be read was complained about already.
                Err(_) if secret.expose().is_empty() => {}
                Err(problem) => self.problem(place, problem),
            }
        }
        keys
    }
}

/// The keys that a kind takes beside those that all take.
const fn uses(kind: raw::SinkKind) -> (&'static str, &'static [&'static str]) {
    match kind {
        raw::SinkKind::Jsonl => ("kind \"jsonl\"", &["path", "max_file_mib", "flush_every"]),
        raw::SinkKind::Sqlite => ("kind \"sqlite\"", &["path", "source"]),
        raw::SinkKind::Postgres => ("kind \"postgres\"", &["url", "source"]),
        raw::SinkKind::ObjectStore => (
            "kind \"object_store\"",
            &["url", "dir", "delete_local", "endpoint", "region", "access_key", "secret_key"],
        ),
        raw::SinkKind::Webhook => (
            "kind \"webhook\"",
            &[
                "url",
                "secret",
                "secrets",
                "insecure",
                "source",
                "allow",
                "timeout",
                "retry_for",
                "concurrency",
                "spool",
            ],
        ),
    }
}

/// What stands for a sink that was complained about.
fn nothing() -> SinkKind {
    let path = "nothing".parse().expect("a plain name is a template");
    SinkKind::JsonLines(JsonLines { path, max_file: None, flush_every: Duration::ZERO })
}
