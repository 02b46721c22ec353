//! The modules of a route as the places of a call: what each may do, and who follows whom that fails. Starts none of them.

use std::time::Duration;

use ringback_module::message::Kind;
use ringback_proto::session::{OnFail, PortConfig, PortId};

use crate::call::{ModuleSource, Ways};
use crate::config::{Config, ModuleConfig, OnFail as OnFailConfig, RouteConfig};

/// So long a filter's answer is waited for.
const BUDGET: Duration = Duration::from_millis(20);
/// That of one that runs in step with the call, and nearly always answers before anything else happens.
const IN_STEP_BUDGET: Duration = Duration::from_millis(5);

/// Ports of a route's calls with what serves them: its modules in their order, then those that stand by for them.
#[derive(Default)]
pub(super) struct Ports {
    pub(super) configs: Vec<PortConfig>,
    pub(super) sources: Vec<ModuleSource>,
}

impl Ports {
    /// The configuration was checked: every name in it exists, and no module follows itself.
    pub(super) fn of(config: &Config, route: &RouteConfig, ways: &Ways) -> Self {
        let modules = route.modules.iter().filter_map(|name| config.module(name));
        let modules: Vec<&ModuleConfig> = modules.collect();
        let mut ports = Self::default();
        for module in &modules {
            let speaks = route.speakers.contains(&module.name);
            let usual = if speaks { Kind::Agent } else { Kind::Tap };
            let kind = module.role.unwrap_or(usual);
            ports.add(module, ways, PortConfig { kind, speaks, ..named(module) });
        }
        for (place, module) in modules.into_iter().enumerate() {
            ports.followers(config, ways, place, module);
        }
        ports
    }

    fn add(&mut self, module: &ModuleConfig, ways: &Ways, port: PortConfig) {
        let source = ModuleSource::of(module, ways);
        let in_step = source.is_inline();
        let budget = module.budget.unwrap_or(if in_step { IN_STEP_BUDGET } else { BUDGET });
        self.configs.push(PortConfig { in_step, budget, ..port });
        self.sources.push(source);
    }

    /// Who takes the place of a module does there what the first did.
    fn followers<'c>(
        &mut self,
        config: &'c Config,
        ways: &Ways,
        mut place: usize,
        mut module: &'c ModuleConfig,
    ) {
        while let OnFailConfig::Fallback(name) = &module.on_fail
            && let Some(next) = config.module(name)
        {
            let PortConfig { kind, speaks, .. } = self.configs[place];
            self.configs[place].on_fail = OnFail::Fallback(PortId(self.configs.len()));
            (place, module) = (self.configs.len(), next);
            self.add(next, ways, PortConfig { kind, speaks, standby: true, ..named(next) });
        }
    }
}

fn named(module: &ModuleConfig) -> PortConfig {
    PortConfig {
        config: module.config.clone(),
        on_fail: match module.on_fail {
            OnFailConfig::Continue | OnFailConfig::Fallback(_) => OnFail::Continue,
            OnFailConfig::Hangup => OnFail::Hangup,
        },
        ready_timeout: module.ready_timeout,
        ..PortConfig::listening(&module.name)
    }
}
