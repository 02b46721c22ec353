//! The modules of a route as the places of a call: what each may do, who follows whom that fails, and who stands in for whom on some
//! calls. Starts none of them.

use std::sync::Arc;
use std::time::Duration;

use ringback_module::message::Kind;
use ringback_proto::session::{BargeIn, Canary, OnFail, PortConfig, PortId, Route};

use crate::call::{ModuleSource, Sources, Ways};
use crate::config::{Config, ModuleConfig, OnFail as OnFailConfig, RouteConfig};

/// So long a filter's answer is waited for.
const BUDGET: Duration = Duration::from_millis(20);
/// That of one that runs in step with the call, and nearly always answers before anything else happens.
const IN_STEP_BUDGET: Duration = Duration::from_millis(5);

/// What runs the modules that calls may get, by its numbers.
pub(super) struct Stock {
    modules: Vec<ModuleConfig>,
    pub(super) sources: Sources,
}

impl Stock {
    /// For all modules in use. What ran one `before` that is the same now goes on to.
    pub(super) fn of(config: &Config, ways: &Ways, before: Option<&Self>) -> Self {
        let modules: Vec<_> = config.modules_in_use().into_iter().cloned().collect();
        let source = |module: &ModuleConfig| {
            let same = before.and_then(|before| {
                let number = before.modules.iter().position(|other| other == module)?;
                Some(Arc::clone(&before.sources[number]))
            });
            same.unwrap_or_else(|| Arc::new(ModuleSource::of(module, ways)))
        };
        Self { sources: modules.iter().map(source).collect(), modules }
    }

    /// A module with its number.
    fn numbered(&self, name: &str) -> Option<(usize, &ModuleConfig)> {
        self.modules.iter().enumerate().find(|(_, module)| module.name == name)
    }
}

/// What the calls of a route get. The configuration was checked: every name in it exists, and no module follows itself.
pub(super) fn route(route: &RouteConfig, stock: &Stock) -> Route {
    let mut ports = Ports { stock, exempt: &route.exempt, configs: Vec::new() };
    let modules: Vec<_> = route.modules.iter().filter_map(|name| stock.numbered(name)).collect();
    for &(number, module) in &modules {
        let port = ports.own(number, module, route.speakers.contains(&module.name));
        ports.configs.push(port);
    }
    for (place, &(_, module)) in modules.iter().enumerate() {
        ports.configs[place] = ports.followed(ports.configs[place].clone(), module);
    }
    let canaries = route.canaries.iter().filter_map(|canary| {
        let place = modules.iter().position(|(_, module)| module.name == canary.module)?;
        let (number, module) = stock.numbered(&canary.with)?;
        let PortConfig { kind, speaks, .. } = ports.configs[place];
        let port = PortConfig { kind, speaks, ..ports.named(number, module) };
        let with = ports.followed(port, module);
        Some(Canary { port: place, with, share: canary.share })
    });
    let canaries: Vec<_> = canaries.collect();
    let all = ports.configs.iter().chain(canaries.iter().map(|canary| &canary.with));
    let barge_in = route.barge_in.filter(|barge_in| barge_in.on_speech);
    Route {
        name: route.name.as_str().into(),
        when: route.when.clone(),
        barge_in: barge_in.map(|barge_in| BargeIn { min_speech: barge_in.min_speech }),
        when_both: route.when_both,
        private: route.private.clone(),
        keep: all.map(|port| kept(port, stock)).max().unwrap_or_default(),
        canaries,
        ports: ports.configs,
    }
}

/// The longest that a module may ask for.
const LONGEST_FRAME: Duration = Duration::from_secs(1);

/// A filter's sound is kept until it has passed, however small the ring: two of the longest frames, and as long as it is waited for.
fn kept(port: &PortConfig, stock: &Stock) -> Duration {
    let ring = stock.sources[port.source].ring;
    let least =
        if port.kind == Kind::Filter { 2 * LONGEST_FRAME + port.budget } else { Duration::ZERO };
    ring.max(least)
}

/// Ports of a route's calls: its modules in their order, then those that stand by for them.
struct Ports<'c> {
    stock: &'c Stock,
    /// Names of those that hear private parts.
    exempt: &'c [String],
    configs: Vec<PortConfig>,
}

impl<'c> Ports<'c> {
    /// The port of a module that is on the call from its beginning.
    fn own(&self, number: usize, module: &ModuleConfig, speaks: bool) -> PortConfig {
        let usual = if speaks { Kind::Agent } else { Kind::Tap };
        let kind = module.role.unwrap_or(usual);
        PortConfig { kind, speaks, ..self.named(number, module) }
    }

    /// The same port with those standing by who follow its module. Who takes its place does there what the first did.
    fn followed(&mut self, mut first: PortConfig, mut module: &'c ModuleConfig) -> PortConfig {
        let (kind, speaks) = (first.kind, first.speaks);
        let mut place = None;
        while let OnFailConfig::Fallback(name) = &module.on_fail
            && let Some((number, next)) = self.stock.numbered(name)
        {
            let to = self.configs.len();
            let failing = place.map_or(&mut first, |place: usize| &mut self.configs[place]);
            failing.on_fail = OnFail::Fallback(PortId(to));
            let port = PortConfig { kind, speaks, standby: true, ..self.named(number, next) };
            self.configs.push(port);
            (place, module) = (Some(to), next);
        }
        first
    }

    fn named(&self, number: usize, module: &ModuleConfig) -> PortConfig {
        let in_step = self.stock.sources[number].is_inline();
        let usual = if in_step { IN_STEP_BUDGET } else { BUDGET };
        PortConfig {
            config: module.config.clone(),
            on_fail: match module.on_fail {
                OnFailConfig::Continue | OnFailConfig::Fallback(_) => OnFail::Continue,
                OnFailConfig::Hangup => OnFail::Hangup,
            },
            ready_timeout: module.ready_timeout,
            budget: module.budget.unwrap_or(usual),
            in_step,
            hears_private: self.exempt.contains(&module.name),
            source: number,
            ..PortConfig::listening(&module.name)
        }
    }
}
