//! Modules and the routes made of them.

mod bot;
mod child;
mod functions;
mod workers;

use std::ops::Range;
use std::time::Duration;

use ringback_module::message::Kind;
use ringback_proto::rule::Rule;
use ringback_proto::session::PrivateRule;
use serde_json::Value;
use toml::Spanned;

use super::super::raw::{self, At};
use super::super::{
    BargeInConfig, BreakerConfig, Builtin, ModuleConfig, ModuleRun, OnFail, RouteConfig,
};
use super::{Checker, DEFAULT_ROUTE, span};
use crate::client::WsUrl;
use crate::listener::Limits;
use crate::outgoing::Trust;
use crate::socket::SocketOptions;

const DEFAULT_READY: Duration = Duration::from_secs(5);
const DEFAULT_MIN_SPEECH: Duration = Duration::from_millis(200);

impl Checker<'_> {
    /// All modules and routes. Without a route, one is made: of the only module, or of an echo where there is none.
    pub(super) fn modules_and_routes(
        &mut self,
        raw: &raw::File,
        socket: SocketOptions,
    ) -> (Vec<ModuleConfig>, Vec<RouteConfig>) {
        let mut modules = Vec::<ModuleConfig>::new();
        // No module has more processes than there are calls, unless it is said to.
        let most = Limits::default().max_streams;
        let most = raw.limits.max_calls.as_ref().map_or(most, |at| *at.get_ref());
        for table in &raw.module {
            let taken: Vec<_> = modules.iter().map(|module| module.name.as_str()).collect();
            let module = self.module(table, &taken, most);
            modules.push(module);
        }
        self.fallbacks(raw, &modules);
        if modules.is_empty() && raw.route.is_empty() {
            modules.push(echo());
        }
        let mut routes = Vec::<RouteConfig>::new();
        for table in &raw.route {
            let taken: Vec<_> = routes.iter().map(|route| route.name.as_str()).collect();
            let route = self.route(table, &taken, &modules, socket);
            routes.push(route);
        }
        if routes.is_empty() {
            if let [_, second, ..] = raw.module.as_slice() {
                let help = "several modules and no [[route]]: add one that says which of them a call goes to";
                self.problem(second.span(), help);
            }
            let members = vec![modules[0].name.clone()];
            let (speakers, when_both) =
                self.speakers(0..0, &raw::Route::default(), &members, &modules);
            routes.push(RouteConfig {
                name: DEFAULT_ROUTE.into(),
                when: Rule::default(),
                modules: members,
                speakers,
                when_both,
                barge_in: None,
                canaries: Vec::new(),
                private: PrivateRule::default(),
                exempt: Vec::new(),
                passthrough: None,
                sinks: Vec::new(),
            });
        }
        (modules, routes)
    }

    fn module(
        &mut self,
        table: &Spanned<raw::Module>,
        taken: &[&str],
        most: usize,
    ) -> ModuleConfig {
        let raw = table.get_ref();
        let ready = Duration::from_millis(100)..=Duration::from_secs(120);
        let ring = Duration::from_millis(200)..=Duration::from_secs(120);
        let name = self.name(table.span(), raw.name.as_ref(), taken);
        let run = self.run(table.span(), raw, most);
        let config = json(&toml::Value::Table(raw.config.clone()));
        self.settings_of_builtin(table, &run, &config);
        ModuleConfig {
            name,
            run,
            config,
            role: raw.role.as_ref().map(|role| kind(*role.get_ref())),
            budget: self.budget(raw),
            on_fail: raw.on_fail.as_ref().map(|at| at.get_ref().clone()).unwrap_or_default(),
            ready_timeout: self.time(raw.ready_timeout.as_ref(), ready, DEFAULT_READY),
            ring: raw.ring.as_ref().map(|at| self.time(Some(at), ring, Duration::ZERO)),
            breaker: self.breaker(&raw.breaker),
        }
    }

    fn breaker(&mut self, raw: &raw::Breaker) -> Option<BreakerConfig> {
        let usual = BreakerConfig::default();
        let within = Duration::from_secs(1)..=Duration::from_secs(3_600);
        let retry = Duration::from_secs(1)..=Duration::from_secs(600);
        let failures = self.number(raw.failures.as_ref(), 0..=100, usual.failures);
        let within = self.time(raw.within.as_ref(), within, usual.within);
        let retry = self.time(raw.retry.as_ref(), retry, usual.retry);
        (failures > 0).then_some(BreakerConfig { failures, within, retry })
    }

    /// `kind` may be left out where one of its keys tells it.
    fn run(&mut self, table: Range<usize>, raw: &raw::Module, most: usize) -> ModuleRun {
        use raw::ModuleKind::{
            Bot, Builtin as InProcess, Child, Function, Nats, Websocket, Worker,
        };
        let given = [
            ("on", Function, span(&raw.on)),
            ("provider", Bot, span(&raw.provider)),
            ("builtin", InProcess, span(&raw.builtin)),
            ("command", Child, span(&raw.command)),
            ("url", Websocket, span(&raw.url)),
            ("token", Websocket, span(&raw.token)),
            ("ca_file", Websocket, span(&raw.ca_file)),
            ("tokens", Worker, span(&raw.tokens)),
            ("group", Nats, span(&raw.group)),
        ];
        let told = given.iter().find(|(.., span)| span.is_some()).map(|&(_, kind, _)| kind);
        let Some(kind) = raw.kind.as_ref().map(|kind| *kind.get_ref()).or(told) else {
            let help = "a module needs `builtin` (echo, recorder, player, vad, dtmf), `command`, `url`, `tokens` or `group`";
            self.problem(table, help);
            return ModuleRun::Builtin(Builtin::Echo);
        };
        let (whom, uses): (_, &[_]) = match kind {
            Bot => ("kind \"bot\"", bot::KEYS),
            InProcess => ("kind \"builtin\"", &["builtin"]),
            Child => ("kind \"child\"", child::KEYS),
            Function => ("kind \"function\"", functions::KEYS),
            Websocket => ("kind \"websocket\"", &["url", "token", "ca_file"]),
            Nats => ("kind \"nats\"", &["group"]),
            Worker => ("kind \"worker\"", workers::KEYS),
        };
        let given = given.map(|(key, _, span)| (key, span)).into_iter();
        let given = given
            .chain(child::spans(raw))
            .chain(functions::spans(raw))
            .chain(workers::spans(raw))
            .chain(bot::spans(raw));
        self.superfluous(given, uses, whom);
        let (run, missing) = match kind {
            Bot => (
                raw.provider
                    .as_ref()
                    .zip(raw.url.as_ref())
                    .map(|(provider, url)| self.bot(provider, url, raw)),
                "`provider`, whose streams it takes, and `url`, such as \"wss://bot.example/media\"",
            ),
            InProcess => (
                raw.builtin.as_ref().map(|at| ModuleRun::Builtin(*at.get_ref())),
                "`builtin`: echo, recorder, player, vad or dtmf",
            ),
            Child => (
                raw.command.as_ref().map(|at| ModuleRun::Child(self.child(at, raw, most))),
                "`command`, such as [\"python3\", \"module.py\"]",
            ),
            Function => (
                raw.on.as_ref().map(|on| self.function(table.clone(), on, raw)),
                "`on`, such as { transcript = \"on_final\" }: which function is called when",
            ),
            Websocket => (
                raw.url.as_ref().map(|at| self.websocket(at, raw)),
                "`url`, such as \"ws://127.0.0.1:9000\" or \"wss://gpu.example.com/stt\"",
            ),
            Nats => (
                raw.group.as_ref().map(|at| self.worker_of(at)),
                "`group`, the name that its workers are started with",
            ),
            Worker => (
                self.worker(raw),
                "`tokens`, such as { gpu1 = \"env:GPU1_TOKEN\" }, or `insecure = true`, which lets in everybody on this machine",
            ),
        };
        run.unwrap_or_else(|| {
            self.problem(table, format!("{whom} needs {missing}"));
            ModuleRun::Builtin(Builtin::Echo)
        })
    }

    fn websocket(&mut self, url: &At<String>, raw: &raw::Module) -> ModuleRun {
        let parsed = url.get_ref().parse::<WsUrl>();
        let parsed = parsed.unwrap_or_else(|problem| {
            self.problem(url.span(), problem);
            WsUrl::plain(String::new(), String::new())
        });
        if let Some(at) = raw.ca_file.as_ref().filter(|_| !parsed.secure) {
            self.problem(at.span(), "is for wss:// only: a ws:// server shows no certificate");
        }
        ModuleRun::WebSocket {
            url: parsed,
            token: raw.token.as_ref().map(|at| self.resolve(at)),
            trust: raw.ca_file.as_ref().map(|at| Trust::File(at.get_ref().into())),
        }
    }

    fn route(
        &mut self,
        table: &Spanned<raw::Route>,
        taken: &[&str],
        modules: &[ModuleConfig],
        socket: SocketOptions,
    ) -> RouteConfig {
        let raw = table.get_ref();
        let name = self.name(table.span(), raw.name.as_ref(), taken);
        let passthrough = self.passthrough(raw, socket);
        if raw.modules.is_empty() && passthrough.is_none() {
            let help = "a route needs `modules`, a list of at least one name, or `passthrough`";
            self.problem(table.span(), help);
        }
        let mut members = Vec::<String>::new();
        for at in &raw.modules {
            if !modules.iter().any(|module| module.name == *at.get_ref()) {
                self.unknown(at, "[[module]]", modules.iter().map(|module| module.name.as_str()));
            } else if members.contains(at.get_ref()) {
                self.problem(at.span(), format!("{:?} is in the list twice", at.get_ref()));
            }
            members.push(at.get_ref().clone());
        }
        let (speakers, when_both) = self.speakers(table.span(), raw, &members, modules);
        let barge_in = raw.barge_in.as_ref().map(|at| {
            let barge_in = at.get_ref();
            let range = Duration::from_millis(20)..=Duration::from_secs(5);
            let min_speech = self.time(barge_in.min_speech.as_ref(), range, DEFAULT_MIN_SPEECH);
            BargeInConfig { on_speech: barge_in.on_speech, min_speech }
        });
        let raw::Canaries(canaries) = &raw.canary;
        let canaries = self.canaries(canaries, &members, modules);
        let (private, exempt) = self.private(&raw.private, &members, &canaries, modules);
        RouteConfig {
            name,
            when: self.rule(raw.when.as_ref()),
            modules: members,
            speakers,
            when_both,
            barge_in,
            canaries,
            private,
            exempt,
            passthrough,
            sinks: Vec::new(),
        }
    }
}

fn echo() -> ModuleConfig {
    ModuleConfig {
        name: Builtin::Echo.name().into(),
        run: ModuleRun::Builtin(Builtin::Echo),
        config: Value::Object(serde_json::Map::new()),
        role: None,
        budget: None,
        on_fail: OnFail::default(),
        ready_timeout: DEFAULT_READY,
        ring: None,
        breaker: None,
    }
}

fn kind(role: raw::Role) -> Kind {
    match role {
        raw::Role::Tap => Kind::Tap,
        raw::Role::Agent => Kind::Agent,
        raw::Role::Filter => Kind::Filter,
        raw::Role::Text => Kind::Text,
    }
}

/// A module's own settings go to it as JSON; dates become text.
fn json(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => (*number).into(),
        toml::Value::Boolean(yes) => (*yes).into(),
        toml::Value::Datetime(date) => date.to_string().into(),
        toml::Value::Array(items) => items.iter().map(json).collect(),
        toml::Value::Table(table) => {
            table.iter().map(|(key, value)| (key.clone(), json(value))).collect()
        }
    }
}
