//! Which module a port gets and where it runs.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use ringback_module::Module;
use ringback_module::message::Start;
use ringback_proto::translation::Bot;

use super::breaker::Breaker;
use crate::clock::Clock;
use crate::config::{BotConfig, Builtin, FunctionConfig, ModuleConfig, ModuleRun};
use crate::module_host::{
    BotSpec, ChildPool, ChildPools, FunctionPool, Hosted, Rosters, WebSocketSpec, WorkerSpec,
    spawn_bot, spawn_child, spawn_function, spawn_thread, spawn_websocket, spawn_worker,
};
#[cfg(feature = "nats")]
use crate::module_host::{NatsSpec, spawn_nats};
#[cfg(feature = "nats")]
use crate::nats::Nats;
use crate::outgoing::{Connector, Trust};

/// Sound kept for a module that may be slow or start again.
const RING: Duration = Duration::from_secs(10);
/// Sound kept for one that runs in step with the call and has always heard everything.
const IN_STEP_RING: Duration = Duration::from_millis(500);

/// A module in the call's own task may take so long for a frame.
const BUDGET: Duration = Duration::from_millis(5);

/// Whatever runs the modules of a configuration, by its numbers.
pub(crate) type Sources = Arc<[Arc<ModuleSource>]>;

/// What may run the modules of one call.
pub(super) enum Supply {
    /// Everything there is: the call has no route yet.
    All(Sources),
    /// What its route uses, by number. The rest is let go, which may be the last of a configuration that holds no more.
    Own(Vec<(usize, Arc<ModuleSource>)>),
}

impl Supply {
    pub(super) fn keep(&mut self, numbers: &[usize]) {
        if let Self::All(all) = self {
            let own = numbers.iter().filter_map(|&number| Some((number, all.get(number)?)));
            *self = Self::Own(own.map(|(number, source)| (number, Arc::clone(source))).collect());
        }
    }

    pub(super) fn get(&self, number: usize) -> Option<&ModuleSource> {
        match self {
            Self::All(all) => all.get(number).map(AsRef::as_ref),
            Self::Own(own) => own.iter().find(|(own, _)| *own == number).map(|(_, s)| s.as_ref()),
        }
    }
}

/// Makes the modules of a port, one for each call.
pub(crate) struct ModuleSource {
    /// A module has so long to be ready; its own, whatever others of the route are given.
    pub(super) ready_ms: u64,
    /// It may take so long for a frame, if it runs in the call's own task.
    pub(super) budget: Duration,
    /// So much sound is kept for it.
    pub(crate) ring: Duration,
    /// Whether it is worth trying, from what became of it on other calls.
    pub(crate) breaker: Option<Arc<Breaker>>,
    pub(super) place: Place,
}

/// Where a module runs.
pub(super) enum Place {
    /// In the call's own task: quick modules that touch no file.
    Inline(fn() -> Box<dyn Module>),
    /// On a thread of its own: modules that touch files.
    Thread { name: Arc<str>, make: fn() -> Box<dyn Module> },
    /// A child process, of those of its module.
    Child(Arc<ChildPool>),
    /// In programs that all calls share.
    Function(Arc<FunctionPool>),
    /// At the other end of a connection.
    WebSocket(WebSocketSpec),
    /// Whichever worker of a group has room.
    #[cfg(feature = "nats")]
    Nats(NatsSpec),
    /// With a worker that dialled in.
    Worker(WorkerSpec),
    /// The same, in the words of a provider.
    Bot(Box<BotSpec>),
}

/// How modules are reached that are not part of the call.
#[derive(Clone)]
pub(crate) struct Ways {
    /// Dials.
    pub(crate) connector: Arc<Connector>,
    /// Child processes, by what runs in them.
    pub(crate) children: ChildPools,
    /// Functions, by module.
    pub(crate) functions: FunctionPools,
    /// Where workers are, if the configuration names a cluster.
    #[cfg(feature = "nats")]
    pub(crate) nats: Option<Arc<Nats>>,
    /// Modules that dialled in.
    pub(crate) rosters: Rosters,
}

/// Functions of all modules; clones share them.
#[derive(Clone)]
pub(crate) struct FunctionPools {
    clock: Clock,
    pools: Arc<Mutex<Vec<Weak<FunctionPool>>>>,
}

impl FunctionPools {
    /// None yet.
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, pools: Arc::default() }
    }

    /// Those of a module configured so; the ones there are, if they are still used.
    fn of(&self, name: &str, config: &FunctionConfig) -> Arc<FunctionPool> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        let same = pools.iter().filter_map(Weak::upgrade).find(|pool| pool.is_of(name, config));
        same.unwrap_or_else(|| {
            let pool = Arc::new(FunctionPool::new(name.to_owned(), config.clone(), self.clock));
            pools.push(Arc::downgrade(&pool));
            // Elsewhere they are started by their first call.
            if tokio::runtime::Handle::try_current().is_ok() {
                pool.start();
            }
            pool
        })
    }

    /// Those that are in use.
    pub(crate) fn all(&self) -> Vec<Arc<FunctionPool>> {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Ways {
    /// What dials those that trust as `trust` says, or as all do.
    fn connector(&self, trust: Option<&Trust>) -> Connector {
        let Some(trust) = trust else { return (*self.connector).clone() };
        let connector = self.connector.trusting(trust.clone());
        // Read now and not by a call; that there is nobody to trust shows again with each connection.
        let _ = connector.prepare();
        connector
    }
}

impl ModuleSource {
    /// What the configuration says.
    pub(crate) fn of(module: &ModuleConfig, ways: &Ways) -> Self {
        let ready_ms = u64::try_from(module.ready_timeout.as_millis()).unwrap_or(u64::MAX);
        let place = Place::of(module, ways);
        let usual = if matches!(place, Place::Inline(_)) { IN_STEP_RING } else { RING };
        let (ring, budget) = (module.ring.unwrap_or(usual), module.budget.unwrap_or(BUDGET));
        let is_own = matches!(place, Place::Inline(_) | Place::Thread { .. });
        let breaker = module.breaker.filter(|_| !is_own);
        let breaker = Breaker::new(&module.name, breaker);
        Self { ready_ms, budget, ring, breaker, place }
    }

    /// Whether it runs in the call's own task.
    pub(crate) fn is_inline(&self) -> bool {
        matches!(self.place, Place::Inline(_))
    }
}

impl Place {
    fn of(module: &ModuleConfig, ways: &Ways) -> Self {
        let name: Arc<str> = module.name.as_str().into();
        match &module.run {
            ModuleRun::Child(spec) => Self::Child(ways.children.of(spec)),
            ModuleRun::Function(config) => Self::Function(ways.functions.of(&module.name, config)),
            ModuleRun::WebSocket { url, token, trust } => {
                let (name, url, token) = (module.name.clone(), url.clone(), token.clone());
                let connector = Arc::new(ways.connector(trust.as_ref()));
                Self::WebSocket(WebSocketSpec { name, url, token, connector })
            }
            #[cfg(feature = "nats")]
            ModuleRun::Nats { group } => {
                let nats = ways.nats.clone().expect("a group was checked to have a cluster");
                Self::Nats(NatsSpec { name: module.name.clone(), group: group.clone(), nats })
            }
            ModuleRun::Worker(_) => {
                let name = module.name.clone();
                let roster = ways.rosters.roster(&name);
                Self::Worker(WorkerSpec { name, roster })
            }
            ModuleRun::Bot(config) => Self::bot(&module.name, config, ways),
            ModuleRun::Builtin(Builtin::Echo) => {
                Self::Inline(|| Box::new(ringback_echo::Echo::new()))
            }
            ModuleRun::Builtin(Builtin::Vad) => Self::Inline(|| Box::new(ringback_vad::Vad::new())),
            ModuleRun::Builtin(Builtin::Dtmf) => {
                Self::Inline(|| Box::new(ringback_dtmf::Dtmf::new()))
            }
            ModuleRun::Builtin(Builtin::Recorder) => {
                Self::Thread { name, make: || Box::new(ringback_recorder::Recorder::new()) }
            }
            ModuleRun::Builtin(Builtin::Player) => {
                Self::Thread { name, make: || Box::new(ringback_player::Player::new()) }
            }
        }
    }

    fn bot(name: &str, config: &BotConfig, ways: &Ways) -> Self {
        let bot = Bot {
            provider: config.provider(),
            target: config.to.url.target.clone(),
            parameters: config.parameters.clone(),
            format: config.format,
        };
        Self::Bot(Box::new(BotSpec {
            name: name.to_owned(),
            bot,
            to: config.to.clone(),
            headers: config.headers.clone(),
            connector: ways.connector(config.trust.as_ref()),
        }))
    }

    /// Starts it somewhere else, unless it runs inline.
    pub(super) fn spawn(&self, start: Start) -> Option<Hosted> {
        match self {
            Self::Inline(_) => None,
            Self::Thread { name, make } => Some(spawn_thread(name, *make, start)),
            Self::Child(pool) => Some(spawn_child(pool, start)),
            Self::Function(pool) => Some(spawn_function(pool, start)),
            Self::WebSocket(spec) => Some(spawn_websocket(spec.clone(), start)),
            #[cfg(feature = "nats")]
            Self::Nats(spec) => Some(spawn_nats(spec.clone(), start)),
            Self::Worker(spec) => Some(spawn_worker(spec.clone(), start)),
            Self::Bot(spec) => Some(spawn_bot((**spec).clone(), start)),
        }
    }
}
