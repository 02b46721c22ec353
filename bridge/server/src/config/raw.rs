//! The configuration file as it is written: one struct per table, every key optional. Checks spelling and types, nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::listener::Access;
use crate::operator::Scope;
use crate::recordings::WhenUnusable;
use crate::telemetry::LogFormat;
use crate::workers::Tick;

/// A value that remembers where it stands, so that a complaint about it can say so.
pub(super) type At<T> = Spanned<T>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub server: Server,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub log: Log,
    #[serde(default)]
    pub outgoing: Outgoing,
    #[serde(default)]
    pub capture: Capture,
    #[serde(default)]
    pub recordings: Recordings,
    pub nats: Option<At<Nats>>,
    pub operator: Option<At<Operator>>,
    #[serde(default)]
    pub tenant: Vec<At<Tenant>>,
    #[serde(default)]
    pub listener: Vec<At<Listener>>,
    #[serde(default)]
    pub module: Vec<At<Module>>,
    #[serde(default)]
    pub route: Vec<At<Route>>,
    #[serde(default)]
    pub sink: Vec<At<Sink>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub bind: Option<At<String>>,
    pub drain_timeout: Option<TimeSpan>,
    pub metrics: Option<Access>,
    pub events: Option<Access>,
    pub workers: Option<At<String>>,
    #[serde(default)]
    pub trusted_proxies: Vec<At<String>>,
    pub threads: Option<At<usize>>,
    pub tick: Option<Tick>,
    pub tls: Option<At<Tls>>,
}

/// Files of a listener's certificate.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub cert: Option<At<String>>,
    pub key: Option<At<String>>,
    pub client_ca: Option<At<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Operator {
    pub bind: Option<At<String>>,
    pub tls: Option<At<Tls>>,
    #[serde(default)]
    pub insecure: bool,
    #[serde(default)]
    pub origins: Vec<At<String>>,
    pub max_connections: Option<At<usize>>,
    pub audit: Option<At<String>>,
    #[serde(default)]
    pub token: Vec<At<OperatorToken>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OperatorToken {
    pub name: Option<At<String>>,
    pub token: Option<At<String>>,
    pub tokens: Option<At<Vec<At<String>>>>,
    pub scopes: Option<At<Vec<Scope>>>,
    pub tenant: Option<At<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tenant {
    pub name: Option<At<String>>,
    pub max_calls: Option<At<usize>>,
    pub calls_per_second: Option<At<usize>>,
    pub max_event_listeners: Option<At<usize>>,
    pub keep: Option<At<TimeSpan>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub max_connections: Option<At<usize>>,
    pub max_connections_per_address: Option<At<usize>>,
    pub max_lag: Option<At<SpanOrOff>>,
    pub max_memory: Option<At<Size>>,
    pub max_calls: Option<At<usize>>,
    pub max_message: Option<At<usize>>,
    pub header_timeout: Option<At<TimeSpan>>,
    pub write_timeout: Option<At<TimeSpan>>,
    pub keepalive: Option<At<SpanOrOff>>,
    pub reattach_window: Option<At<TimeSpan>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub format: Option<LogFormat>,
    pub level: Option<At<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Outgoing {
    pub ca_file: Option<At<String>>,
    #[serde(default)]
    pub insecure: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Capture {
    pub dir: Option<At<String>>,
    #[serde(default)]
    pub audio: bool,
    pub max_file_mib: Option<At<usize>>,
    pub max_files: Option<At<usize>>,
    pub max_total_mib: Option<At<usize>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recordings {
    #[serde(default)]
    pub dirs: Vec<At<String>>,
    #[serde(default)]
    pub when_unusable: WhenUnusable,
    pub keep: Option<At<TimeSpan>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    pub name: Option<At<String>>,
    pub path: Option<At<String>>,
    pub provider: Option<At<String>>,
    pub tenant: Option<At<String>>,
    pub endpoints: Option<At<String>>,
    pub public_url: Option<At<String>>,
    pub auth: Option<At<Auth>>,
    pub hangup: Option<At<Hangup>>,
    #[serde(default)]
    pub insecure: bool,
    pub route: Option<At<String>>,
    pub routes: Option<At<Vec<At<String>>>>,
    pub max_calls: Option<At<usize>>,
    pub keepalive: Option<At<SpanOrOff>>,
    pub reattach_window: Option<At<TimeSpan>>,
    #[serde(default)]
    pub origins: Vec<At<String>>,
    pub allow: Option<At<Vec<At<String>>>>,
    #[serde(default)]
    pub options: Options,
    pub answer: Option<At<Answer>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    pub path: Option<At<String>>,
    pub public_url: Option<At<String>>,
    pub auth: Option<At<Auth>>,
    #[serde(default)]
    pub parameters: BTreeMap<String, At<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    #[serde(default)]
    pub one_way: bool,
    pub inbound_format: Option<At<String>>,
    pub outbound_format: Option<At<String>>,
    pub client_id: Option<At<String>>,
    pub client_secret: Option<At<String>>,
    pub dial: Option<At<Vec<At<String>>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Auth {
    pub kind: AuthKind,
    pub token: Option<At<String>>,
    pub tokens: Option<At<Vec<At<String>>>>,
    pub user: Option<At<String>>,
    pub password: Option<At<String>>,
    pub passwords: Option<At<Vec<At<String>>>>,
    pub header: Option<At<String>>,
    pub parameter: Option<At<String>>,
    pub shared_keys: Option<At<BTreeMap<String, At<String>>>>,
    pub prefix: Option<At<String>>,
    pub allow_unsigned: Option<At<bool>>,
    pub secret: Option<At<String>>,
    pub secrets: Option<At<Vec<At<String>>>>,
    pub jwks: Option<At<String>>,
    pub jwks_url: Option<At<String>>,
    pub jwks_cache: Option<At<String>>,
    pub issuer: Option<At<String>>,
    pub audience: Option<At<String>>,
    pub claims: Option<At<BTreeMap<String, String>>>,
    pub single_use: Option<At<bool>>,
    pub api_key: Option<At<String>>,
    pub public_key: Option<At<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hangup {
    pub kind: HangupKind,
    pub base_url: Option<At<String>>,
    pub account: Option<At<String>>,
    pub user: Option<At<String>>,
    pub password: Option<At<String>>,
    pub token: Option<At<String>>,
    pub application: Option<At<String>>,
    pub private_key: Option<At<String>>,
    pub token_url: Option<At<String>>,
    pub deadline: Option<At<TimeSpan>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum HangupKind {
    Rest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AuthKind {
    None,
    Bearer,
    Basic,
    Header,
    Query,
    Path,
    TwilioSignature,
    PlivoSignature,
    VonageJwt,
    AvayaJwt,
    AzureJwt,
    Jwt,
    GenesysSignature,
    ZoomSignature,
    SignalwireSignature,
    TelnyxSignature,
    SinchSignature,
    JambonzSignature,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Module {
    pub name: Option<At<String>>,
    pub kind: Option<At<ModuleKind>>,
    pub builtin: Option<At<super::Builtin>>,
    pub command: Option<At<Vec<String>>>,
    pub warm: Option<At<usize>>,
    pub sessions: Option<At<usize>>,
    pub max_processes: Option<At<usize>>,
    #[serde(default)]
    pub env: BTreeMap<String, At<String>>,
    #[serde(default)]
    pub inherit_env: Vec<At<String>>,
    pub dir: Option<At<String>>,
    #[serde(default)]
    pub watch: Vec<At<String>>,
    pub memory_limit: Option<At<Size>>,
    pub max_files: Option<At<usize>>,
    pub nice: Option<At<usize>>,
    pub url: Option<At<String>>,
    pub token: Option<At<String>>,
    pub ca_file: Option<At<String>>,
    pub group: Option<At<String>>,
    pub provider: Option<At<String>>,
    pub auth: Option<At<Auth>>,
    pub public_url: Option<At<String>>,
    pub parameters: Option<At<BTreeMap<String, String>>>,
    pub headers: Option<At<BTreeMap<String, String>>>,
    pub format: Option<At<String>>,
    pub on: Option<At<On>>,
    pub replicas: Option<At<usize>>,
    pub concurrency: Option<At<usize>>,
    pub max_queued: Option<At<usize>>,
    pub job_timeout: Option<At<TimeSpan>>,
    pub idle_timeout: Option<At<TimeSpan>>,
    pub end_of_utterance: Option<At<TimeSpan>>,
    pub result: Option<At<super::TextResult>>,
    pub schemas: Option<At<super::Schemas>>,
    pub readiness: Option<At<Probe>>,
    pub liveness: Option<At<Probe>>,
    pub listen: Option<At<Listen>>,
    pub tokens: Option<At<Tokens>>,
    pub max_workers: Option<At<usize>>,
    pub max_waiting: Option<At<usize>>,
    pub insecure: Option<At<bool>>,
    #[serde(default)]
    pub config: toml::Table,
    pub role: Option<At<Role>>,
    pub budget: Option<At<TimeSpan>>,
    pub on_fail: Option<At<super::OnFail>>,
    pub ready_timeout: Option<At<TimeSpan>>,
    pub ring: Option<At<TimeSpan>>,
    #[serde(default)]
    pub breaker: Breaker,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Breaker {
    pub failures: Option<At<usize>>,
    pub within: Option<At<TimeSpan>>,
    pub retry: Option<At<TimeSpan>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    Tap,
    Agent,
    Filter,
    Text,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ModuleKind {
    Bot,
    Builtin,
    Child,
    Function,
    Websocket,
    Nats,
    Worker,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nats {
    #[serde(default)]
    pub urls: Vec<At<String>>,
    pub credentials: Option<At<String>>,
    pub token: Option<At<String>>,
    pub user: Option<At<String>>,
    pub password: Option<At<String>>,
    pub ca_file: Option<At<String>>,
    pub prefix: Option<At<String>>,
    pub events: Option<At<String>>,
    pub create_stream: Option<At<bool>>,
}

/// Where the tokens of several are kept: a list, or a table that says whose each is.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a list such as [\"env:TOKEN\"], or a table such as { gpu1 = \"env:TOKEN\" }"
)]
pub(super) enum Tokens {
    List(Vec<String>),
    Named(BTreeMap<String, String>),
}

/// Which function is called when.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct On {
    pub start: Option<At<String>>,
    pub transcript: Option<At<String>>,
    pub partial: Option<At<String>>,
    pub utterance: Option<At<String>>,
    pub dtmf: Option<At<String>>,
    pub end: Option<At<String>>,
}

/// What tells whether a program with functions is well.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Probe {
    pub exec: Option<At<Vec<String>>>,
    pub http: Option<At<String>>,
    pub every: Option<At<TimeSpan>>,
    pub timeout: Option<At<TimeSpan>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listen {
    pub address: Option<At<String>>,
    pub host: Option<At<String>>,
    pub dir: Option<At<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub name: Option<At<String>>,
    #[serde(default)]
    pub modules: Vec<At<String>>,
    pub speaker: Option<At<String>>,
    pub speakers: Option<At<Speakers>>,
    pub barge_in: Option<At<BargeIn>>,
    pub when: Option<When>,
    #[serde(default)]
    pub canary: Canaries,
    #[serde(default)]
    pub private: Private,
    pub passthrough: Option<At<Passthrough>>,
    #[serde(default)]
    pub sinks: Vec<At<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Private {
    #[serde(default)]
    pub exempt: Vec<At<String>>,
    pub begin: Option<At<String>>,
    pub end: Option<At<String>>,
    pub limit: Option<At<TimeSpan>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Passthrough {
    pub url: Option<At<String>>,
    #[serde(default)]
    pub context: bool,
    pub idle: Option<At<TimeSpan>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Speakers {
    #[serde(default)]
    pub modules: Vec<At<String>>,
    #[serde(default)]
    pub when_both: WhenBoth,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WhenBoth {
    #[default]
    Mix,
    Queue,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sink {
    pub name: Option<At<String>>,
    pub kind: Option<At<SinkKind>>,
    #[serde(default)]
    pub all: bool,
    pub events: Option<At<Vec<At<String>>>>,
    pub queue: Option<At<usize>>,
    pub path: Option<At<String>>,
    pub max_file_mib: Option<At<usize>>,
    pub flush_every: Option<At<TimeSpan>>,
    pub url: Option<At<String>>,
    pub secret: Option<At<String>>,
    pub secrets: Option<At<Vec<At<String>>>>,
    pub insecure: Option<At<bool>>,
    pub source: Option<At<String>>,
    pub allow: Option<At<Vec<At<String>>>>,
    pub timeout: Option<At<TimeSpan>>,
    pub retry_for: Option<At<TimeSpan>>,
    pub concurrency: Option<At<usize>>,
    pub spool: Option<At<String>>,
    pub dir: Option<At<String>>,
    pub delete_local: Option<At<bool>>,
    pub endpoint: Option<At<String>>,
    pub region: Option<At<String>>,
    pub access_key: Option<At<String>>,
    pub secret_key: Option<At<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SinkKind {
    Jsonl,
    Webhook,
    Sqlite,
    Postgres,
    ObjectStore,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct When {
    pub listener: Option<At<Values>>,
    pub from: Option<At<Values>>,
    pub to: Option<At<Values>>,
    #[serde(default)]
    pub parameters: BTreeMap<String, At<Values>>,
    #[serde(default)]
    pub headers: BTreeMap<String, At<Values>>,
}

/// A text or a list of them.
#[derive(Debug)]
pub(super) struct Values(pub Vec<String>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: Error>(self, one: &str) -> Result<Values, E> {
                Ok(Values(vec![one.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Values, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(items)).map(Values)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// A table or a list of them.
#[derive(Debug, Default)]
pub(super) struct Canaries(pub Vec<Canary>);

impl<'de> Deserialize<'de> for Canaries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Canaries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table or a list of tables")
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Canaries, A::Error> {
                Canary::deserialize(MapAccessDeserializer::new(table))
                    .map(|one| Canaries(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Canaries, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(items)).map(Canaries)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Canary {
    pub module: At<String>,
    pub with: At<String>,
    pub percent: At<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BargeIn {
    #[serde(default = "yes")]
    pub on_speech: bool,
    pub min_speech: Option<At<TimeSpan>>,
}

fn yes() -> bool {
    true
}

/// A length of time with its unit: `"20ms"`, `"10s"`, `"5m"`, `"1h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct TimeSpan(pub Duration);

impl TryFrom<String> for TimeSpan {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse_time(&text).map(Self).ok_or_else(|| {
            format!("found {text:?}, expected a whole number and a unit such as \"20ms\", \"10s\", \"5m\" or \"1h\"")
        })
    }
}

/// A whole number and a unit: `20ms`, `10s`, `5m`, `1h`, `30d`.
pub(crate) fn parse_time(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let millis = match text[digits..].trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// Octets with their unit: `"512MiB"`, `"2GiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Size(pub u64);

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse_size(&text).map(Self).ok_or_else(|| {
            format!(
                "found {text:?}, expected a whole number and a unit such as \"512MiB\" or \"2GiB\""
            )
        })
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim_start() {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// A time or `"off"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct SpanOrOff(pub Option<Duration>);

impl TryFrom<String> for SpanOrOff {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        TimeSpan::try_from(text)
            .map(|TimeSpan(time)| Self(Some(time)))
            .map_err(|problem| format!("{problem}, or \"off\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let cases = [
            ("20ms", 20),
            ("10s", 10_000),
            ("10 s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("30d", 2_592_000_000),
        ];
        for (text, millis) in cases {
            assert_eq!(parse_time(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "20",
            "s",
            "-1s",
            "1.5s",
            "1w",
            "10s ",
            "99999999999999999999s",
            "9999999999999999h",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn keepalive_may_be_off() {
        assert_eq!(SpanOrOff::try_from("off".to_owned()), Ok(SpanOrOff(None)));
        let never = SpanOrOff::try_from("never".to_owned()).unwrap_err();
        assert!(never.contains("\"off\""), "{never}");
    }
}
