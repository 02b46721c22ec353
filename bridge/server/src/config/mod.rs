//! What the operator wants: `ringback.toml`, overridden by the environment, overridden by flags, checked as a whole before
//! anything starts. Starts nothing; reads no file but the configuration and the secrets it names.

mod changes;
mod check;
mod function;
mod problem;
mod raw;
mod secret;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ringback_codecs::MediaFormat;
use ringback_module::message::Kind as ModuleKind;
use ringback_proto::media::mixer::WhenBoth;
use ringback_proto::provider::{
    self, Auth, Options, PROVIDERS, Provider, Secret, Transport, WebhookAuth,
};
use ringback_proto::redaction::Sound;
use ringback_proto::rule::Rule;
use ringback_proto::session::{PrivateRule, Share};
use serde::Deserialize;
use serde_json::Value;

use crate::capture::CaptureOptions;
use crate::client::WsUrl;
use crate::destination::Destination;
use crate::hangup::{HangupConfig, HangupCredential};
use crate::keyring::KeySource;
use crate::listener::{Endpoint, Limits, Pages};
use crate::module_host::{ChildSpec, RosterConfig};
use crate::operator::OperatorConfig;
use crate::outgoing::Trust;
use crate::overload::Bounds;
use crate::reach::Reach;
use crate::recordings::RecordingsConfig;
use crate::sink::SinkConfig;
use crate::socket::SocketOptions;
use crate::telemetry::{LogFormat, LogOptions};
use crate::tls::TlsFiles;
use crate::workers::Tick;
use problem::Source;

pub use changes::Succession;
pub use function::{
    FunctionConfig, FunctionListen, Probe, ProbeKind, Schemas, TextResult, Trigger,
};
pub use problem::{ConfigError, Place, Problem};
pub(crate) use raw::AuthKind;
pub(crate) use raw::parse_time;
pub(crate) use secret::resolve as resolve_secret;

/// Name of the file that is read if none is named.
pub const FILE_NAME: &str = "ringback.toml";
/// Name of the route that listeners without one use.
pub const DEFAULT_ROUTE: &str = "default";

/// A configuration that was checked: every name in it exists.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the file it was read from, or `None` for the defaults.
    pub file: Option<String>,
    /// Where connections are taken.
    pub bind: SocketAddr,
    /// What it proves itself by to those who connect, if that is by TLS.
    pub tls: Option<TlsFiles>,
    /// Who may read the figures and the events of calls.
    pub pages: Pages,
    /// Below this path modules dial in that are workers.
    pub worker_path: String,
    /// Bounds of the server.
    pub limits: Limits,
    /// What may be used up before new calls are refused.
    pub bounds: Bounds,
    /// Threads that serve calls; 0 is one for each core.
    pub threads: usize,
    /// When they wake up in batches.
    pub tick: Tick,
    /// What is logged and how.
    pub log: LogOptions,
    /// Whom connections to others trust.
    pub trust: Trust,
    /// Whether and where calls are captured.
    pub capture: Option<CaptureOptions>,
    /// What is done with the recordings there are.
    pub recordings: RecordingsConfig,
    /// The NATS cluster, for modules that are workers there and for what happens on calls.
    pub nats: Option<NatsConfig>,
    /// The operator's side, if it has one of its own.
    pub operator: Option<OperatorConfig>,
    /// Whose calls there are, where that matters.
    pub tenants: Vec<TenantConfig>,
    /// Where streams are taken; never empty.
    pub listeners: Vec<ListenerConfig>,
    /// The modules there are.
    pub modules: Vec<ModuleConfig>,
    /// The routes there are; never empty.
    pub routes: Vec<RouteConfig>,
    /// The sinks there are.
    pub sinks: Vec<SinkConfig>,
}

/// A named path at which one provider's streams are taken.
#[derive(Debug, Clone)]
pub struct ListenerConfig {
    /// Name, path, public URL and bounds.
    pub endpoint: Endpoint,
    /// Name of the provider, one of the table of providers.
    pub provider: String,
    /// How a stream proves that it may.
    pub auth: Auth,
    /// Takes only what was meant for this machine by whoever is on it, and nothing that a proxy or tunnel passes on, or a web page whose
    /// name was made to resolve to us: nobody proves who calls, and the address of a peer alone tells nothing.
    pub only_near: bool,
    /// Where the keys that tokens are signed with are read again, for an `auth` that has such keys.
    pub keys: Option<KeySource>,
    /// How its calls are ended by the provider's API.
    pub hangup: Option<HangupConfig>,
    /// How the provider is answered when it asks what to do with a call; where, is in [`Endpoint::answer`].
    pub answer: Option<AnswerConfig>,
    /// Whether nothing is played into its calls, whatever the provider can.
    pub one_way: bool,
    /// Where the endpoints are kept that it is called at, if its path alone is none.
    pub endpoints: Option<PathBuf>,
    /// What the wire does not tell.
    pub options: Options,
    /// Whom its calls may have us dial.
    pub reach: Reach,
    /// A call whose stream was lost waits so long for another stream of it; `None` ends it.
    pub reattach: Option<Duration>,
    /// Names of the routes that are tried for its calls, in this order, each one of [`Config::routes`]; never empty.
    pub routes: Vec<String>,
}

/// Somebody whose calls are kept apart from those of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantConfig {
    /// Name.
    pub name: Arc<str>,
    /// Calls at a time.
    pub max_calls: Option<usize>,
    /// Calls that begin within a second.
    pub calls_per_second: Option<u32>,
    /// Who listens to its events at a time.
    pub max_event_listeners: Option<usize>,
}

/// How a provider is answered that asks what to do with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerConfig {
    /// How it proves that it may ask.
    pub auth: WebhookAuth,
    /// Custom parameters of all calls, by name.
    pub parameters: Vec<(String, String)>,
}

/// A compute module.
#[derive(Debug, Clone, PartialEq)]
pub struct ModuleConfig {
    /// Name, as routes know it.
    pub name: String,
    /// What runs.
    pub run: ModuleRun,
    /// Handed to the module as `config` of its start message.
    pub config: Value,
    /// What it is used as; `None` leaves that to the route: who speaks is an agent, others listen.
    pub role: Option<ModuleKind>,
    /// So long a filter's answer is waited for, and so long a module in the call's own task may take for a frame; `None` leaves it
    /// to where it runs.
    pub budget: Option<Duration>,
    /// What its failure means to the call.
    pub on_fail: OnFail,
    /// It has so long to answer the start.
    pub ready_timeout: Duration,
    /// So much sound is kept for it while it is slow or starting again; `None` leaves it to where it runs.
    pub ring: Option<Duration>,
    /// When calls go without it at once, because it fails on most; `None` tries it on each. Not for those of this
    /// binary, which need no waiting for.
    pub breaker: Option<BreakerConfig>,
}

/// When a module is left alone for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// It failed on so many calls, and on half of them all;
    pub failures: usize,
    /// within this.
    pub within: Duration,
    /// Then it is left alone for so long, and twice as long each time that one call tries it in vain.
    pub retry: Duration,
}

impl Default for BreakerConfig {
    /// Five: one call tells nothing of others, and of a module that is dead five calls have told enough. A minute, in which each
    /// call that fails has given up its restarts. Ten seconds: a process that is started anew is there by then.
    fn default() -> Self {
        let (within, retry) = (Duration::from_secs(60), Duration::from_secs(10));
        Self { failures: 5, within, retry }
    }
}

/// What runs as a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModuleRun {
    /// A module of this binary, in its process.
    Builtin(Builtin),
    /// Child processes; their command is never empty.
    Child(ChildSpec),
    /// Programs whose functions are called when something happens.
    Function(Box<FunctionConfig>),
    /// Somebody's bot, dialled as its provider would.
    Bot(Box<BotConfig>),
    /// A server that is dialled, once for each call.
    WebSocket {
        /// Where it is.
        url: WsUrl,
        /// What it is shown, as `Authorization: Bearer`.
        token: Option<Secret>,
        /// Whom its certificate must be signed by, if that is not as [`Config::trust`] says.
        trust: Option<Trust>,
    },
    /// A worker of a group on the NATS cluster, whichever has room.
    #[cfg(feature = "nats")]
    Nats {
        /// Name of the group: one token of a subject.
        group: String,
    },
    /// Workers that dial in, at its name below [`Config::worker_path`].
    Worker(RosterConfig),
}

/// A NATS cluster and what the bridge does there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsConfig {
    /// Its servers, `nats://` or `tls://`; never empty.
    pub urls: Vec<String>,
    /// What the bridge shows them.
    pub login: NatsLogin,
    /// Whom their certificates must be signed by.
    pub trust: Trust,
    /// Every subject of ours begins with this and a dot.
    pub prefix: String,
    /// The stream for what happens on calls.
    pub events: Option<NatsStream>,
}

impl NatsConfig {
    /// Whether it says that the servers speak TLS; those of other URLs may ask for it too.
    fn wants_tls(&self) -> bool {
        self.urls.iter().any(|url| url.starts_with("tls://"))
    }
}

/// How the bridge proves itself to NATS; servers take of it what they ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatsLogin {
    /// A token.
    pub token: Option<Secret>,
    /// User and password.
    pub user: Option<(String, Secret)>,
    /// What is in a `.creds` file: a user's JWT and the seed of its key.
    pub credentials: Option<Secret>,
}

/// A stream of JetStream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsStream {
    /// Name.
    pub name: String,
    /// Whether it is made if it is not there.
    pub create: bool,
}

/// A bot that was written for a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BotConfig {
    /// Name of the provider whose streams it takes.
    pub provider: String,
    /// Where it is, and what it is shown.
    pub to: Destination,
    /// Custom parameters of all its calls.
    pub parameters: Vec<(String, String)>,
    /// Header fields beside the provider's.
    pub headers: Vec<(String, String)>,
    /// The format it takes, where its provider has a choice.
    pub format: Option<MediaFormat>,
    /// Whom its certificate must be signed by, if that is not as [`Config::trust`] says.
    pub trust: Option<Trust>,
}

impl BotConfig {
    /// The provider; it was looked up when the configuration was checked.
    #[must_use]
    pub fn provider(&self) -> &'static dyn Provider {
        provider::find(&self.provider).unwrap_or(PROVIDERS[0])
    }
}

/// Modules that are part of the binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Builtin {
    /// Says back what it hears.
    Echo,
    /// Writes the call to a file.
    Recorder,
    /// Plays a file.
    Player,
    /// Tells speech from silence.
    Vad,
    /// Hears keys in the sound.
    Dtmf,
}

impl Builtin {
    /// Its name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Recorder => "recorder",
            Self::Player => "player",
            Self::Vad => "vad",
            Self::Dtmf => "dtmf",
        }
    }
}

/// What the failure of a module means to the call.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum OnFail {
    /// The call goes on without it.
    #[default]
    Continue,
    /// The call ends.
    Hangup,
    /// The module of this name, one of [`Config::modules`], is started in its place.
    Fallback(String),
}

impl TryFrom<String> for OnFail {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match (text.as_str(), text.strip_prefix("fallback:")) {
            ("continue", _) => Ok(Self::Continue),
            ("hangup", _) => Ok(Self::Hangup),
            (_, Some(module)) => Ok(Self::Fallback(module.to_owned())),
            _ => Err(format!(
                "found {text:?}, expected \"continue\", \"hangup\" or \"fallback:NAME\", NAME being another [[module]]"
            )),
        }
    }
}

/// The modules a listener's calls go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteConfig {
    /// Name, as listeners know it.
    pub name: String,
    /// Which calls it takes.
    pub when: Rule,
    /// Names of modules, each one of [`Config::modules`].
    pub modules: Vec<String>,
    /// Those of them that are heard by the caller.
    pub speakers: Vec<String>,
    /// What happens when several of those have something to say.
    pub when_both: WhenBoth,
    /// Whether and when the caller's speech drops what is being played.
    pub barge_in: Option<BargeInConfig>,
    /// Modules that some of its calls get in the place of others.
    pub canaries: Vec<CanaryConfig>,
    /// How private parts of its calls begin and end.
    pub private: PrivateRule,
    /// Modules that are given what is said and pressed in those.
    pub exempt: Vec<String>,
    /// In the place of modules: the server that its streams are passed on to as they come.
    pub passthrough: Option<PassthroughConfig>,
    /// Names of the sinks that its calls' events go to, each one of [`Config::sinks`].
    pub sinks: Vec<String>,
}

impl RouteConfig {
    /// Its name and where its calls go.
    fn summary(&self) -> String {
        let goes = match &self.passthrough {
            Some(PassthroughConfig { url, .. }) => format!("passed on to {}", url.authority),
            None => self.modules.join(", "),
        };
        format!("{}: {goes}", self.name)
    }
}

/// Where streams are passed on to as they come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassthroughConfig {
    /// The server.
    pub url: WsUrl,
    /// Whether it is told which call it is, by header fields.
    pub context: bool,
    /// A stream on which neither side says anything for so long is ended.
    pub idle: Duration,
    /// Bounds of the connection to it.
    pub socket: SocketOptions,
}

/// A module that a share of a route's calls gets in the place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanaryConfig {
    /// Name of the module that it stands in for, one of the route's.
    pub module: String,
    /// Its own name, one of [`Config::modules`].
    pub with: String,
    /// Its share of the route's calls.
    pub share: Share,
}

/// When the caller's speech drops what is being played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BargeInConfig {
    /// Whether speech does it at all; otherwise only a module can.
    pub on_speech: bool,
    /// Speech must last so long: a cough is no interruption.
    pub min_speech: Duration,
}

/// What the command line sets; `None` leaves what file and environment say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides {
    /// `--bind`.
    pub bind: Option<SocketAddr>,
    /// `--log`: a level or filter.
    pub log: Option<String>,
    /// `--log-format`.
    pub log_format: Option<LogFormat>,
    /// `--threads`.
    pub threads: Option<usize>,
    /// `--tick`.
    pub tick: Option<Tick>,
    /// `--capture`.
    pub capture: Option<PathBuf>,
    /// `--capture-audio`.
    pub capture_audio: bool,
    /// `--drain-timeout`.
    pub drain_timeout: Option<Duration>,
}

/// What a configuration is checked against.
pub struct Context<'a> {
    /// Variables of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Names of providers.
    pub providers: Vec<&'a str>,
}

impl Context<'static> {
    /// The environment of this process and the table of providers.
    #[must_use]
    pub fn of_process() -> Self {
        Self {
            variable: &|name| std::env::var(name).ok(),
            providers: PROVIDERS.iter().map(|provider| provider.name()).collect(),
        }
    }
}

impl Config {
    /// Reads and checks the file at `path`. Without one, [`FILE_NAME`] in the working directory is read if it is there, and the
    /// defaults hold if not.
    ///
    /// # Errors
    /// All that is wrong, with places.
    pub fn load(
        path: Option<&Path>,
        overrides: &Overrides,
        context: &Context<'_>,
    ) -> Result<Self, ConfigError> {
        let implied = Path::new(FILE_NAME);
        let path = match path {
            Some(path) => path,
            None if implied.exists() => implied,
            None => return Self::defaults(overrides, context),
        };
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            let place = Source { name: &name, text: "" }.place(None);
            ConfigError {
                problems: vec![Problem { place, message: format!("cannot be read: {error}") }],
            }
        })?;
        Self::parse(&name, &text, overrides, context)
    }

    /// Checks the text of a file called `name`.
    ///
    /// # Errors
    /// All that is wrong, with places.
    pub fn parse(
        name: &str,
        text: &str,
        overrides: &Overrides,
        context: &Context<'_>,
    ) -> Result<Self, ConfigError> {
        let source = Source { name, text };
        let raw = toml::from_str(text)
            .map_err(|error| ConfigError { problems: vec![source.problem(&error)] })?;
        check::check(&raw, Some(source), overrides, context)
    }

    /// What holds without a file: every provider at a path of its name, on this machine only, echoed.
    ///
    /// # Errors
    /// If environment or flags ask for what cannot be, such as serving the world without authentication.
    pub fn defaults(overrides: &Overrides, context: &Context<'_>) -> Result<Self, ConfigError> {
        check::check(&raw::File::default(), None, overrides, context)
    }

    /// The route of that name.
    #[must_use]
    pub fn route(&self, name: &str) -> Option<&RouteConfig> {
        self.routes.iter().find(|route| route.name == name)
    }

    /// The module of that name.
    #[must_use]
    pub fn module(&self, name: &str) -> Option<&ModuleConfig> {
        self.modules.iter().find(|module| module.name == name)
    }

    /// The modules that calls may get: those of the listeners' routes, their canaries, and those that follow them if they fail.
    #[must_use]
    pub fn modules_in_use(&self) -> Vec<&ModuleConfig> {
        let mut names = Vec::<&String>::new();
        let is_used = |route: &&RouteConfig| {
            self.listeners.iter().any(|listener| listener.routes.contains(&route.name))
        };
        for route in self.routes.iter().filter(is_used) {
            names.extend(&route.modules);
            names.extend(route.canaries.iter().map(|canary| &canary.with));
        }
        let mut place = 0;
        while let Some(name) = names.get(place) {
            if let Some(OnFail::Fallback(next)) = self.module(name).map(|module| &module.on_fail)
                && !names.contains(&next)
            {
                names.push(next);
            }
            place += 1;
        }
        self.modules.iter().filter(|module| names.contains(&&module.name)).collect()
    }

    /// The listener of that name.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<&ListenerConfig> {
        self.listeners.iter().find(|listener| listener.endpoint.name == name)
    }

    /// All that connections by TLS trust; none if nothing in it asks or dials others so.
    #[must_use]
    pub fn trusts(&self) -> Vec<Trust> {
        let dialled = self.modules.iter().filter_map(|module| match &module.run {
            ModuleRun::WebSocket { url, trust, .. } if url.secure => Some(trust),
            ModuleRun::Bot(bot) if bot.to.url.secure => Some(&bot.trust),
            _ => None,
        });
        let shared = self.wants_tls().then_some(&self.trust);
        let nats = self.nats.as_ref().filter(|nats| nats.wants_tls()).map(|nats| &nats.trust);
        shared.into_iter().chain(dialled.flatten()).chain(nats).cloned().collect()
    }

    /// Whether anything in it asks or dials others by TLS, trusting as all do that have no trust of their own. Without `auth` a
    /// provider is dialled for tries only.
    #[must_use]
    pub fn wants_tls(&self) -> bool {
        let modules = self.modules.iter().any(|module| match &module.run {
            ModuleRun::WebSocket { url, trust: None, .. } => url.secure,
            ModuleRun::Bot(bot) => bot.to.url.secure && bot.trust.is_none(),
            _ => false,
        });
        let mut passed_on = self.routes.iter().filter_map(|route| route.passthrough.as_ref());
        let sinks = self.sinks.iter().any(|sink| sink.kind.wants_tls());
        modules
            || sinks
            || passed_on.any(|passthrough| passthrough.url.secure)
            || self.listeners.iter().any(|listener| {
                let keys =
                    matches!(&listener.keys, Some(KeySource::Url { url, .. }) if url.peer().secure);
                let asks = listener.hangup.as_ref().is_some_and(|hangup| {
                    let token = matches!(&hangup.credential,
                    HangupCredential::Client { url, .. } if url.peer().secure);
                    token || hangup.base.peer().secure
                });
                let dials = matches!(listener.endpoint.transport, Transport::Webhook { .. });
                keys || asks || (dials && listener.auth != Auth::None)
            })
    }

    /// Where an endpoint's calls come in on this machine.
    fn address(&self, Endpoint { transport, path, .. }: &Endpoint) -> String {
        let s = if self.tls.is_some() { "s" } else { "" };
        match transport {
            Transport::WebSocket => format!("ws{s}://{}{path}", self.bind),
            Transport::Records if self.tls.is_some() => format!("tls://{}", self.bind),
            Transport::Records => format!("tcp://{}", self.bind),
            Transport::Webhook { .. } => format!("http{s}://{}{path}", self.bind),
        }
    }

    /// Where connections are taken, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http{}://{}", if self.tls.is_some() { "s" } else { "" }, self.bind)
    }

    /// What this configuration does, a line for each listener, to be shown at the start.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = match &self.file {
            Some(file) => format!("configuration: {file}\n"),
            None => format!("no {FILE_NAME} here: defaults, for this machine only\n"),
        };
        let addresses: Vec<_> =
            self.listeners.iter().map(|listener| self.address(&listener.endpoint)).collect();
        let width = addresses.iter().map(String::len).max().unwrap_or(0);
        for (listener, address) in self.listeners.iter().zip(&addresses) {
            let ListenerConfig { endpoint, provider, auth, answer, routes, .. } = listener;
            let plural = if routes.len() > 1 { "s" } else { "" };
            let routes = routes.iter().filter_map(|name| self.route(name));
            let routes: Vec<_> = routes.map(RouteConfig::summary).collect();
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "  {address:width$}  {provider}, auth {}, route{plural} {}",
                auth.kind(),
                routes.join("; "),
            );
            if let Some((point, answer)) = endpoint.answer.as_ref().zip(answer.as_ref()) {
                let (url, kind) = (&point.public_url, answer.auth.kind());
                let _ = writeln!(text, "    answers calls at {url}, auth {kind}");
            }
        }
        for SinkConfig { name, kind, .. } in &self.sinks {
            let of = |route: &&RouteConfig| route.sinks.contains(name);
            let routes: Vec<_> =
                self.routes.iter().filter(of).map(|route| route.name.as_str()).collect();
            let _ = writeln!(text, "sink {name}: {kind}, of route {}", routes.join(", "));
        }
        if let Some(NatsConfig { urls, prefix, events, .. }) = &self.nats {
            let urls = urls.join(", ");
            let events =
                events.as_ref().map(|stream| format!(", events to stream {}", stream.name));
            let _ = writeln!(text, "  {urls}  NATS, {prefix}.v1.>{}", events.unwrap_or_default());
        }
        for module in &self.modules {
            if let ModuleRun::Worker(roster) = &module.run {
                let (path, name) = (&self.worker_path, &module.name);
                let who = if roster.tokens.is_empty() { ", of this machine only" } else { "" };
                let s = if self.tls.is_some() { "s" } else { "" };
                let _ = writeln!(
                    text,
                    "  ws{s}://{}{path}/{name}  workers of {name} dial in{who}",
                    self.bind
                );
            }
        }
        if let Some(OperatorConfig { bind, tls, tokens, .. }) = &self.operator {
            let scheme = if tls.is_some() { "https" } else { "http" };
            let who = match tokens.len() {
                0 => "this machine may look".to_owned(),
                1 => "1 token".to_owned(),
                tokens => format!("{tokens} tokens"),
            };
            let _ =
                writeln!(text, "  {scheme}://{bind}  figures, events and API for operators, {who}");
        }
        if let Some(capture) = &self.capture {
            let sound = match capture.sound {
                Sound::Silence => "sound is replaced by silence",
                Sound::Keep => "SOUND IS KEPT",
            };
            let _ = writeln!(text, "capturing all calls into {}: {sound}", capture.dir.display());
        }
        if let Some(TlsFiles { client_ca: Some(path), .. }) = &self.tls {
            let path = path.display();
            let _ = writeln!(text, "  only clients with a certificate by {path}");
        }
        if self.trust == Trust::Anybody {
            text.push_str("CERTIFICATES OF OTHERS ARE NOT CHECKED: whoever answers is taken for whom was meant\n");
        }
        text
    }
}

#[cfg(test)]
mod tests;
