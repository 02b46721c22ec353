//! What holds for new calls, and how something else comes to hold while others go on. Reads no file and takes no call.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ringback_proto::Instant;

use super::ports::Stock;
use super::{Outside, Plan, plan, workers_of};
use crate::call::Watchers;
use crate::config::Config;
use crate::operator::{Token, Tokens};
use crate::sink::Sinks;

/// What holds for calls that begin. One that has begun keeps the plan that it began with.
pub(super) struct Standing {
    config: Config,
    pub(super) plans: Vec<Arc<Plan>>,
    stock: Stock,
}

impl Standing {
    /// What did not change of what held `before` goes on: modules with their processes, keys, calls that are posted about.
    fn of(config: Config, outside: &Outside, watchers: &Watchers, before: Option<&Self>) -> Self {
        let stock = Stock::of(&config, &outside.ways, before.map(|before| &before.stock));
        let plans = config.listeners.iter().filter_map(|listener| {
            let before = before.and_then(|before| before.plan(&listener.endpoint.name));
            plan(&config, listener, &stock, watchers, outside, before.map(AsRef::as_ref))
        });
        Self { plans: plans.map(Arc::new).collect(), stock, config }
    }

    /// What is to be said of modules that are left out of calls.
    pub(super) fn left_out(&self, now: Instant) -> impl Iterator<Item = String> {
        let breakers = self.stock.sources.iter().filter_map(|source| source.breaker.as_ref());
        breakers.filter_map(move |breaker| breaker.line(now))
    }

    /// What calls at the listener of that name get.
    pub(super) fn plan(&self, listener: &str) -> Option<&Arc<Plan>> {
        self.plans.iter().find(|plan| plan.endpoint.name == listener)
    }
}

/// What holds now.
pub(super) struct Live {
    /// Locked for as long as it takes to take or replace a pointer, once for each stream that comes in.
    standing: RwLock<Arc<Standing>>,
    /// Held while something else is prepared.
    preparing: Mutex<()>,
    pub(super) outside: Outside,
    watchers: Watchers,
    pub(super) sinks: Arc<Sinks>,
    /// Of operators.
    pub(super) tokens: Tokens,
}

impl Live {
    pub(super) fn new(config: Config, outside: Outside, watchers: Watchers) -> Arc<Self> {
        let sinks = Arc::new(Sinks::start(&config.sinks, &outside.ways.connector));
        let tokens = Tokens::new(operators_of(&config));
        let standing = Standing::of(config, &outside, &watchers, None);
        let standing = RwLock::new(Arc::new(standing));
        let preparing = Mutex::default();
        Arc::new(Self { standing, preparing, outside, watchers, sinks, tokens })
    }

    pub(super) fn now(&self) -> Arc<Standing> {
        Arc::clone(&self.standing.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Who may ask on the operator's side.
fn operators_of(config: &Config) -> &[Token] {
    config.operator.as_ref().map_or(&[], |operator| &operator.tokens)
}

/// Puts another configuration in the place of a bridge's, for calls that begin from then on.
#[derive(Clone)]
pub struct Reload(pub(super) Arc<Live>);

impl Reload {
    /// From now on `wanted` holds as far as it can without a restart: [`Config::succeeded_by`]. Gives the keys that need one. What
    /// only ran modules of before is dropped when the last call that uses it has ended. May take as long as it takes to read files;
    /// must be called within a runtime.
    ///
    /// # Errors
    /// What has to be restarted before anything of it can hold; then nothing has changed.
    pub fn apply(&self, wanted: Config) -> Result<Vec<String>, String> {
        let Live { standing, preparing, outside, watchers, sinks, tokens } = &*self.0;
        let _preparing = preparing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.0.now();
        let next = before.config.succeeded_by(wanted)?;
        tokens.replace(operators_of(&next.config));
        sinks.apply(&next.config.sinks, &outside.ways.connector);
        let workers = next.config.modules.iter().filter_map(workers_of);
        outside.ways.rosters.apply(&next.config.worker_path, workers);
        let after = Standing::of(next.config, outside, watchers, Some(&before));
        outside.ways.functions.all().iter().for_each(|pool| pool.start());
        *standing.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(after);
        Ok(next.restart)
    }
}
