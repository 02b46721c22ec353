//! The bridge: turns a checked configuration into endpoints, admits streams and runs each as a call. Speaks to no socket itself.

#[cfg(feature = "nats")]
mod cluster;
mod live;
mod operated;
mod ports;
mod posted;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use ringback_proto::provider::{
    self, Answer, Auth, Credential, Grant, Options, Posted, Protocol, Provider, Replays, Transport,
    Upgrade, Webhook,
};
use ringback_proto::rule::{Facts, Rule};
use ringback_proto::session::{RouteTable, Session, SessionConfig};
use tokio::task::JoinSet;

use crate::call::{
    Attachments, Call, FunctionPools, Lines, LogWatch, Reattach, Sources, Watch, Watchers, Ways,
    Whose, Wire,
};
use crate::capture::{Capture, Captured, Opening};
use crate::clock::{Clock, WallTime};
use crate::config::{AnswerConfig, Config, ListenerConfig, ModuleConfig, ModuleRun};
use crate::endpoints::EndpointStore;
use crate::events::{self, Events};
use crate::hangup::{HangUp, Pool};
use crate::keyring::Keyring;
use crate::listener::{
    Admission, Answered, Drained, Endpoint, Entry, Guest, Pages, Posting, Readiness, Refusal,
    Server, Shortage, Streams, check_near,
};
use crate::module_host::{self, ChildPools, RosterConfig, Rosters};
#[cfg(feature = "nats")]
use crate::nats::Nats;
use crate::net;
use crate::outgoing::Connector;
use crate::overload::Overload;
use crate::passthrough::{Opened, Passing, Passthrough};
use crate::reach::Reach;
use crate::receipt::Receipt;
use crate::registry::Registry;
use crate::shutdown::Shutdown;
use crate::socket::Socket;
use crate::tenants::{Tenant, Tenants};
use crate::workers::Workers;
#[cfg(feature = "nats")]
use cluster::Cluster;
use live::Live;
pub use live::Reload;
use operated::{keep_endpoints, standing_stores};
use ports::Stock;
use posted::{Posts, Running};

/// A call that we dial has so long to start: its provider keeps it for a minute, and its protocol knows when to give up.
const DIALLING: Duration = Duration::from_secs(90);

/// What a listener's calls get, worked out once for a configuration.
struct Plan {
    endpoint: Endpoint,
    provider: &'static dyn Provider,
    auth: Auth,
    /// Takes nothing that comes from elsewhere than this machine.
    only_near: bool,
    /// Secrets in the path, which come and go.
    endpoints: Option<EndpointStore>,
    /// The issuer's keys, where they change.
    keyring: Option<Arc<Keyring>>,
    hangup: Option<Arc<HangUp>>,
    /// What asks for a document must bring, and what goes into it.
    answer: Option<(&'static Answer, AnswerConfig)>,
    /// What was used once, at whichever listener: several may have one secret. Locked once for an upgrade or a webhook, which may be
    /// signed alike, by the thread that answers it.
    replays: Arc<Mutex<Replays>>,
    options: Options,
    routes: Arc<RouteTable>,
    /// What runs the modules, by the numbers that the routes know.
    sources: Sources,
    watchers: Watchers,
    /// Its routes, and the sinks of each.
    sinks: Vec<(String, Vec<String>)>,
    /// Whom its calls may have us dial.
    reach: Reach,
    running: Running,
    /// A call that lost its stream waits so long for another, and is found here.
    reattach: Option<Duration>,
    attachments: Attachments,
    /// Streams that become no calls of ours: by which rule, and whom they are passed on to. Tried before routes with modules.
    passed_on: Vec<(Rule, Arc<Passthrough>)>,
}

impl Plan {
    /// Lets a request in or says why not. `body` is that of a posted one.
    fn check(&self, request: &Upgrade<'_>, body: &[u8]) -> Result<Grant, Refusal> {
        self.only_near.then(|| check_near(request.headers)).transpose()?;
        let Some(endpoints) = &self.endpoints else { return self.check_credential(request, body) };
        let segment = request.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let id = endpoints.opens(segment).map_err(|rule| Refusal {
            reason: rule.to_string(),
            ..Refusal::new(404, "no such listener")
        })?;
        // What the provider was told to dial, and signs.
        let url = request.public_url.map(|url| format!("{}/{segment}", url.trim_end_matches('/')));
        let Upgrade { target, headers, .. } = *request;
        let request = Upgrade { target, headers, public_url: url.as_deref() };
        let grant = self.check_credential(&request, body)?;
        endpoints.used(&id);
        Ok(grant)
    }

    fn check_credential(&self, request: &Upgrade<'_>, body: &[u8]) -> Result<Grant, Refusal> {
        let now = WallTime::now().unix_seconds();
        let fresh = match &self.keyring {
            None => None,
            Some(ring) => Some(ring.auth().ok_or_else(no_keys)?),
        };
        let auth = fresh.as_deref().unwrap_or(&self.auth);
        Ok(auth.check_posted(request, body, now, &mut self.replays())?)
    }

    /// Whom a stream is passed on to, if it is. Nothing but its request is known of it.
    fn passes_on(&self, request: &Upgrade<'_>) -> Option<&Arc<Passthrough>> {
        if self.passed_on.is_empty() {
            return None;
        }
        let headers = request.headers.iter();
        let headers: Vec<_> =
            headers.map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let facts = Facts { headers: &headers, ..Facts::default() };
        let mut passed_on = self.passed_on.iter();
        passed_on.find(|(rule, _)| rule.takes(&facts)).map(|(_, to)| to)
    }

    fn replays(&self) -> MutexGuard<'_, Replays> {
        // What a thread left behind that panicked is as good as ever: entries are whole.
        self.replays.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bridge ready to take calls.
pub struct Bridge {
    clock: Clock,
    shutdown: Shutdown,
    live: Arc<Live>,
    calls: AtomicU64,
    born: String,
    events: Events,
    capture: Option<Capture>,
    connector: Arc<Connector>,
    children: ChildPools,
    /// Whether changed files of modules are taken up.
    watches: bool,
    #[cfg(feature = "nats")]
    cluster: Option<Cluster>,
    #[cfg(feature = "nats")]
    nats: Option<Arc<Nats>>,
    /// Modules that dialled in.
    rosters: Rosters,
    /// Calls that are live.
    registry: Registry,
    overload: Overload,
    tenants: Tenants,
}

/// A stream that may come in.
pub struct Admitted(Stream);

enum Stream {
    Call(Accepted),
    /// With that its credential was used.
    PassedOn(Box<Passing>, Receipt),
}

/// A stream that becomes a call.
struct Accepted {
    plan: Arc<Plan>,
    protocol: Box<dyn Protocol>,
    /// Header fields that routes ask for.
    headers: Vec<(String, String)>,
    /// Of a call that is captured.
    opening: Option<Box<Opening>>,
    /// Of a call that was posted.
    posted: Option<(Posts, Receipt)>,
    /// Whom the token that it came with is about.
    subject: Option<Box<str>>,
    /// It has no place of its own.
    guest: Option<Box<(Guest, Receipt)>>,
}

impl Bridge {
    /// A bridge as `config` wants it; `watch` looks on at all its calls, beside the log.
    #[must_use]
    pub fn new(
        config: &Config,
        clock: Clock,
        shutdown: Shutdown,
        watch: Option<&Arc<dyn Watch>>,
    ) -> Self {
        let connector = Arc::new(Connector::new(config.trust.clone()));
        if config.wants_tls() {
            // Authorities are read now and not on a thread that serves calls; that there are none shows again with each request.
            let _ = connector.prepare();
        }
        Self::through(config, clock, shutdown, watch, connector)
    }

    /// A bridge that asks and dials others through `connector`.
    #[must_use]
    pub fn through(
        config: &Config,
        clock: Clock,
        shutdown: Shutdown,
        watch: Option<&Arc<dyn Watch>>,
        connector: Arc<Connector>,
    ) -> Self {
        let events = Events::new(shutdown.clone());
        let watchers = Watchers::new().with(Arc::new(events.clone()));
        let watchers = watch.cloned().into_iter().fold(watchers, Watchers::with);
        #[cfg(feature = "nats")]
        let (watchers, cluster) = Cluster::of(config, clock, watchers);
        let rosters = Rosters::new(shutdown.clone());
        rosters.apply(&config.worker_path, config.modules.iter().filter_map(workers_of));
        let outside = Outside {
            clock,
            ways: Ways {
                connector: Arc::clone(&connector),
                #[cfg(feature = "nats")]
                nats: cluster.as_ref().map(Cluster::nats),
                children: ChildPools::default(),
                functions: FunctionPools::new(clock),
                rosters: rosters.clone(),
            },
            pool: Pool::new(),
            replays: Arc::default(),
        };
        Self {
            clock,
            shutdown,
            calls: AtomicU64::new(0),
            born: WallTime::now().compact(),
            events,
            capture: None,
            connector,
            children: outside.ways.children.clone(),
            live: Live::new(config.clone(), outside, watchers),
            #[cfg(feature = "nats")]
            nats: cluster.as_ref().map(Cluster::nats),
            #[cfg(feature = "nats")]
            cluster,
            rosters,
            registry: Registry::default(),
            overload: Overload::default(),
            tenants: Tenants::new(&config.tenants, clock),
            watches: false,
        }
    }

    /// The same, but with all its calls captured.
    #[must_use]
    pub fn capturing(self, capture: Option<Capture>) -> Self {
        let overload = self.overload.clone();
        let capture = capture.map(|capture| capture.yielding_to(overload));
        Self { capture, ..self }
    }

    /// The same, taking up changes of modules' files as they are saved, if `watches`.
    #[must_use]
    pub fn watching(self, watches: bool) -> Self {
        Self { watches, ..self }
    }

    /// What happens on all its calls, for whoever wants to listen.
    #[must_use]
    pub fn events(&self) -> Events {
        self.events.clone()
    }

    /// For another configuration, while it runs.
    #[must_use]
    pub fn reloading(&self) -> Reload {
        Reload(Arc::clone(&self.live))
    }

    /// Takes calls from `listener` until shut down and all have ended, and serves them on `workers`.
    pub async fn run<L: net::Listener>(
        #[cfg_attr(not(feature = "nats"), allow(unused_mut))] mut self,
        config: &Config,
        listener: L,
        workers: Workers,
    ) -> Drained {
        // Kept to the end, and with it what runs modules.
        let live = Arc::clone(&self.live);
        let standing = live.now();
        let endpoints = standing.plans.iter().map(|plan| plan.endpoint.clone()).collect();
        let shutdown = self.shutdown.clone();
        let (limits, mut pages, mut routes) = (config.limits, config.pages, Router::new());
        if config.operator.is_some() {
            // What is for the operator is not where providers are.
            pages = Pages::OFF;
        } else {
            routes = events::routes(self.events.clone()).merge(self.rosters.routes());
        }
        // Ends with this set, when all calls have.
        let mut keeping = JoinSet::new();
        for ring in standing.plans.iter().filter_map(|plan| plan.keyring.clone()) {
            keeping.spawn(async move { ring.keep_fresh().await });
        }
        if let Some(lags) = workers.lags() {
            keeping.spawn(self.overload.clone().watch(config.bounds, lags));
        }
        drop(standing);
        let stores = standing_stores(&live);
        if !stores.is_empty() {
            keeping.spawn(keep_endpoints(stores));
        }
        live.outside.ways.functions.all().iter().for_each(|pool| pool.start());
        if self.watches {
            keeping.spawn(module_host::watch_files(self.children.clone()));
        }
        let (clock, draining) = (self.clock, shutdown.clone());
        #[cfg(feature = "nats")]
        let storing = self.cluster.take().map(|cluster| cluster.start(&mut keeping));
        let server =
            Server::new(Arc::new(self), endpoints, limits, pages, routes, shutdown, workers);
        let began = async {
            draining.drained().await;
            clock.now()
        };
        let (drained, began) = tokio::join!(server.run(listener), began);
        // What is left of the time to drain is the sinks', and a little in any case.
        let over = (began + limits.drain_timeout).max(clock.now() + LAST_EVENTS);
        let cut = async {
            draining.cut_off().await;
            clock.sleep_until(Some(clock.now() + LAST_EVENTS)).await;
        };
        let deadline = async {
            tokio::select! {
                () = clock.sleep_until(Some(over)) => {}
                () = cut => {}
            }
        };
        // Programs end one beside the other, and beside what is left to be written.
        let functions = live.outside.ways.functions.all().into_iter();
        let mut ending: JoinSet<()> =
            functions.map(|pool| async move { pool.stop().await }).collect();
        #[cfg(feature = "nats")]
        if let Some(storing) = storing {
            ending.spawn(storing.finish());
        }
        live.sinks.finish(deadline).await;
        while ending.join_next().await.is_some() {}
        drained
    }

    /// What calls get that begin now at an endpoint.
    fn plan(&self, endpoint: &Endpoint) -> Result<Arc<Plan>, Refusal> {
        let found = self.live.now().plan(&endpoint.name).map(Arc::clone);
        found.ok_or_else(|| Refusal::new(404, "no such listener"))
    }

    /// A name for the next call: sorts by time, says nothing about who calls, fits a file name.
    fn next_name(&self) -> String {
        format!("{}-{:06}", self.born, self.calls.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl Streams for Bridge {
    type Admitted = Admitted;

    fn tenant(&self, endpoint: &Endpoint) -> Option<Arc<Tenant>> {
        self.tenants.find(endpoint.tenant.as_deref()?)
    }

    fn readiness(&self) -> Readiness {
        let pools = self.children.all();
        let cold = pools.iter().filter_map(|pool| pool.warmth()).filter(|w| w.ready < w.wanted);
        let mut readiness = Readiness::default();
        if let Some(line) = self.overload.line() {
            readiness.busy = true;
            readiness.lines.push(line);
        }
        for warmth in cold {
            readiness.waits |= !warmth.was_warm;
            readiness.lines.push(warmth.to_string());
        }
        // Calls are taken all the same: what else they go to is there, and whoever is up again soon finds the sound kept.
        #[cfg(feature = "nats")]
        if self.nats.as_ref().is_some_and(|nats| !nats.is_connected()) {
            readiness.lines.push("NATS is not connected".into());
        }
        let functions = self.live.outside.ways.functions.all();
        for (line, was_ready) in functions.iter().filter_map(|pool| pool.missing()) {
            readiness.waits |= !was_ready;
            readiness.lines.push(line);
        }
        readiness.lines.extend(self.live.now().left_out(self.clock.now()));
        readiness
    }

    fn room(&self) -> Result<(), Refusal> {
        self.overload.room()
    }

    fn admit(
        &self,
        endpoint: &Endpoint,
        upgrade: &Upgrade<'_>,
        peer: SocketAddr,
    ) -> Result<Admission<Admitted>, Refusal> {
        let plan = self.plan(endpoint)?;
        let grant = plan.check(upgrade, &[])?;
        if let Some(passthrough) = plan.passes_on(upgrade) {
            return Ok(self.pass_on(&plan, passthrough, upgrade, peer, grant));
        }
        self.accept(plan, upgrade, grant, None)
    }

    fn guest(&self, endpoint: &Endpoint) -> Option<Guest> {
        let plan = self.plan(endpoint).ok()?;
        plan.reattach.and_then(|_| plan.attachments.guest())
    }

    fn admit_guest(
        &self,
        endpoint: &Endpoint,
        upgrade: &Upgrade<'_>,
        guest: Guest,
    ) -> Result<Option<Admission<Admitted>>, Refusal> {
        let plan = self.plan(endpoint)?;
        if plan.reattach.is_none() || plan.passes_on(upgrade).is_some() {
            return Ok(None);
        }
        let grant = plan.check(upgrade, &[])?;
        self.accept(plan, upgrade, grant, Some(guest)).map(Some)
    }

    fn answer(
        &self,
        endpoint: &Endpoint,
        webhook: &Webhook<'_>,
        room: Result<(), Refusal>,
    ) -> Result<Answered, Refusal> {
        let plan = self.plan(endpoint)?;
        let nobody = || Refusal::new(404, "no calls are asked for here");
        let (answer, config) = plan.answer.as_ref().ok_or_else(nobody)?;
        plan.only_near.then(|| check_near(webhook.headers)).transpose()?;
        // Before a signature that counts once has counted: the provider asks again with the same. That a call has ended is always heard.
        if room.is_err() && answer.fitting(&webhook.facts()).aside(&webhook.facts()).is_none() {
            room?;
        }
        config.auth.check(webhook, WallTime::now().unix_seconds(), &mut plan.replays())?;
        let facts = webhook.facts();
        let answer = answer.fitting(&facts);
        let (content_type, call) = (answer.content_type(), answer.call(&facts));
        if let Some(nothing) = answer.aside(&facts) {
            return Ok(Answered { content_type, document: nothing.into(), call, begins: false });
        }
        let mut parameters = answer.facts(&facts);
        parameters.retain(|(name, _)| !config.parameters.iter().any(|(own, _)| own == name));
        parameters.extend(config.parameters.iter().cloned());
        let url = endpoint.public_url.as_deref().unwrap_or_default();
        let document = answer.document(url, &Credential::of(&plan.auth), &parameters);
        Ok(Answered { content_type, document, call, begins: true })
    }

    async fn prepare(
        &self,
        mut admission: Admission<Admitted>,
    ) -> Result<Admission<Admitted>, Refusal> {
        if let Stream::PassedOn(passing, _) = &mut admission.state.0 {
            // Boxed: nearly nobody's connection has to keep room for this.
            admission.subprotocol = Box::pin(passing.dial()).await?;
        }
        Ok(admission)
    }

    fn is_door(&self, path: &str) -> bool {
        self.rosters.is_door(path)
    }

    fn enter(&self, upgrade: &Upgrade<'_>, peer: SocketAddr) -> Result<Entry, Refusal> {
        self.rosters.enter(upgrade, peer)
    }

    async fn reconsider(&self, endpoint: &Endpoint) -> bool {
        match self.plan(endpoint).ok().and_then(|plan| plan.keyring.clone()) {
            Some(ring) => ring.renewed().await,
            None => false,
        }
    }

    fn serve(&self, admitted: Admitted, socket: Socket) -> impl Future<Output = ()> + Send {
        // Made before the future, which would keep room for all that it is made from.
        let serving = match admitted.0 {
            Stream::Call(accepted) => Ok(self.call(accepted, Wire::Socket(Box::new(socket)))),
            Stream::PassedOn(passing, receipt) => {
                receipt.keep();
                Err(Box::pin(passing.run(socket, &self.shutdown)))
            }
        };
        async move {
            match serving {
                Ok(call) => {
                    call.run(&self.shutdown).await;
                }
                Err(passing) => passing.await,
            }
        }
    }

    fn posted(
        &self,
        endpoint: &Endpoint,
        request: &Upgrade<'_>,
        body: &[u8],
    ) -> Result<Posting<Admitted>, Refusal> {
        let plan = self.plan(endpoint)?;
        let grant = plan.check(request, body)?;
        // Whoever is told to come again may come with the same.
        let receipt = Receipt { replays: Arc::clone(&plan.replays), used: grant.used };
        let body =
            std::str::from_utf8(body).map_err(|_| Refusal::new(400, "the body is not UTF-8"))?;
        let name = match plan.provider.posted(body, grant.key.as_ref())? {
            Posted::Answer(json) => {
                receipt.keep();
                return Ok(Posting::Answer(json));
            }
            Posted::Other(kind) => {
                tracing::debug!(listener = endpoint.name, kind, "posted, and not for us");
                receipt.keep();
                return Ok(Posting::Taken);
            }
            Posted::About(name) => {
                plan.running.tell(&name, body)?;
                receipt.keep();
                return Ok(Posting::Taken);
            }
            Posted::Begins(name) => name,
        };
        let accepted = plan.provider.accept(request, &plan.options)?;
        let Some(posts) = plan.running.begin(name, body)? else {
            receipt.keep();
            return Ok(Posting::Taken);
        };
        let (protocol, opening) = (accepted.protocol, self.opening(&plan, request, None));
        let (posted, headers) = (Some((posts, receipt)), plan.routes.headers_of(request));
        let accepted =
            Accepted { plan, protocol, headers, opening, posted, subject: None, guest: None };
        Ok(Posting::Call(Admitted(Stream::Call(accepted))))
    }

    fn serve_posted(&self, admitted: Admitted) -> impl Future<Output = ()> + Send {
        // What is passed on was not posted.
        let accepted = match admitted.0 {
            Stream::Call(accepted) => Some(accepted),
            Stream::PassedOn(..) => None,
        };
        let (mut posts, mut call) = (None, None);
        if let Some(mut accepted) = accepted {
            posts = accepted.posted.take().map(|(posts, receipt)| {
                receipt.keep();
                posts
            });
            let plan = Arc::clone(&accepted.plan);
            call = posts.as_mut().and_then(|posts| posts.incoming.take()).map(|incoming| {
                let (connector, reach) = (&*self.connector, plan.reach.clone());
                let lines = Lines::new(incoming, connector, reach, plan.endpoint.socket);
                self.call(accepted, Wire::Lines(Box::new(lines)))
            });
        }
        async move {
            if let Some(call) = call {
                call.run(&self.shutdown).await;
            }
            drop(posts);
        }
    }
}

impl Bridge {
    /// What becomes of a stream that may come in, and is passed on.
    fn pass_on(
        &self,
        plan: &Plan,
        passthrough: &Arc<Passthrough>,
        upgrade: &Upgrade<'_>,
        peer: SocketAddr,
        grant: Grant,
    ) -> Admission<Admitted> {
        // FreeSWITCH hangs up without its own subprotocol, which a server need not know.
        let accepted = plan.provider.accept(upgrade, &plan.options).ok();
        let (call, listener) = (self.next_name(), plan.endpoint.name.clone());
        let (tenant, provider) = (plan.endpoint.tenant.clone(), plan.provider.name());
        let now = self.clock.now();
        let entered = self.registry.enter(call.clone(), listener, tenant, provider, now);
        let passing = passthrough.wanted(Opened {
            call,
            endpoint: &plan.endpoint,
            provider,
            upgrade,
            from: plan.endpoint.sources.client(peer, upgrade.headers),
            usual: accepted.and_then(|accepted| accepted.subprotocol),
            credential: grant.subprotocol,
            entered,
        });
        let receipt = Receipt { replays: Arc::clone(&plan.replays), used: grant.used };
        let state = Admitted(Stream::PassedOn(passing, receipt));
        Admission { state, subprotocol: None }
    }

    /// A stream that becomes a call, or goes on with one.
    fn accept(
        &self,
        plan: Arc<Plan>,
        upgrade: &Upgrade<'_>,
        mut grant: Grant,
        guest: Option<Guest>,
    ) -> Result<Admission<Admitted>, Refusal> {
        // Where it turns out to be no guest, its credential was not used.
        let guest = guest.map(|guest| {
            let replays = Arc::clone(&plan.replays);
            Box::new((guest, Receipt { replays, used: grant.used.take() }))
        });
        let accepted = plan.provider.accept(upgrade, &plan.options)?;
        let opening = self.opening(&plan, upgrade, accepted.subprotocol.as_deref());
        let (protocol, headers) = (accepted.protocol, plan.routes.headers_of(upgrade));
        let (subject, posted) = (grant.subject, None);
        let state = Accepted { plan, protocol, headers, opening, posted, subject, guest };
        let state = Admitted(Stream::Call(state));
        let by_credential = || grant.subprotocol.map(|name| name.expose().to_owned());
        Ok(Admission { state, subprotocol: accepted.subprotocol.or_else(by_credential) })
    }

    /// How a call began, if it is to be captured.
    fn opening(
        &self,
        plan: &Plan,
        request: &Upgrade<'_>,
        subprotocol: Option<&str>,
    ) -> Option<Box<Opening>> {
        self.capture.as_ref()?;
        let Endpoint { name, path, .. } = &plan.endpoint;
        let options = &plan.options;
        Some(Box::new(Opening::new(plan.provider, name, path, options, request, subprotocol)))
    }

    fn call(&self, admitted: Accepted, wire: Wire) -> Box<Call> {
        let plan = Arc::clone(&admitted.plan);
        let name = self.next_name();
        let mut config = SessionConfig::new(name.clone(), plan.provider.name());
        config.wall = WallTime::now().to_string();
        let mut reattach = None;
        if let Wire::Lines(_) = wire {
            config.start_timeout = DIALLING;
        } else if plan.reattach.is_some() {
            config.reattach = plan.reattach;
            let whose = Whose { credential: plan.auth.kind(), subject: admitted.subject };
            config.guest = admitted.guest.is_some();
            let own = Reattach::new(&plan.attachments, whose);
            reattach = Some(own.for_guest(admitted.guest));
        }
        config.routes = Arc::clone(&plan.routes);
        config.headers = admitted.headers;
        let tenant = plan.endpoint.tenant.clone();
        config.tenant.clone_from(&tenant);
        config.hang_up_within = plan.hangup.as_ref().map(|hangup| hangup.deadline() + LEEWAY);
        let now = self.clock.now();
        let opening = self.capture.as_ref().zip(admitted.opening);
        let tape = opening.map(|(capture, opening)| capture.tape(now, &name, *opening));
        let protocol = match &tape {
            Some(tape) => Captured::boxed(admitted.protocol, tape.clone()),
            None => admitted.protocol,
        };
        let session = Session::new(now, config, protocol);
        let sources = Arc::clone(&plan.sources);
        let sinks = self.live.sinks.watch(&plan.sinks, &plan.endpoint.name);
        let listener = plan.endpoint.name.clone();
        let provider = plan.provider.name();
        let entered = self.registry.enter(name.clone(), listener, tenant, provider, now);
        let watchers = sinks.into_iter().fold(plan.watchers.clone(), Watchers::with);
        let watchers = watchers.with(entered.call());
        let hangup = plan.hangup.clone();
        let call = Call::new(self.clock, name, session, wire, sources, watchers, hangup);
        Box::new(call.captured(tape).reattaching(reattach).entered(entered))
    }
}

/// Sinks have so long for what is not delivered when the last call has ended, if nothing is left of the time to drain.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// A hang-up by the provider's API says when it is over; the session waits this much longer for it to say so.
const LEEWAY: Duration = Duration::from_millis(500);

/// Who may dial in as this module.
fn workers_of(module: &ModuleConfig) -> Option<(&str, &RosterConfig)> {
    match &module.run {
        ModuleRun::Worker(roster) => Some((module.name.as_str(), roster)),
        _ => None,
    }
}

fn no_keys() -> Refusal {
    Refusal {
        may_change: true,
        ..Refusal::overloaded(Shortage::Keys, "none of the issuer's keys could be read so far")
    }
}

/// What is needed to ask others.
struct Outside {
    clock: Clock,
    ways: Ways,
    pool: Pool,
    replays: Arc<Mutex<Replays>>,
}

impl Outside {
    fn keyring(&self, listener: &ListenerConfig) -> Option<Arc<Keyring>> {
        let (Some(source), Auth::Jwt(jwt)) = (listener.keys.clone(), listener.auth.clone()) else {
            return None;
        };
        let connector = Arc::clone(&self.ways.connector);
        Some(Keyring::new(&listener.endpoint.name, source, jwt, connector, self.clock))
    }

    fn hangup(&self, listener: &ListenerConfig) -> Option<Arc<HangUp>> {
        let config = listener.hangup.clone()?;
        let connector = Arc::clone(&self.ways.connector);
        Some(HangUp::new(config, connector, self.clock, self.pool.clone()))
    }
}

/// Works out what the calls of a listener get; of `before` goes on what cannot change. The configuration was checked: every name in
/// it exists.
fn plan(
    config: &Config,
    listener: &ListenerConfig,
    stock: &Stock,
    watchers: &Watchers,
    outside: &Outside,
    before: Option<&Plan>,
) -> Option<Plan> {
    let provider = provider::find(&listener.provider)?;
    let routes = || listener.routes.iter().filter_map(|name| config.route(name));
    let name = &listener.endpoint.name;
    // What is no WebSocket cannot be passed on; its route is another's since the provider was.
    let can_pass_on = provider.transport() == Transport::WebSocket;
    let passed_on = routes().filter(|route| can_pass_on && route.when.is_for(name));
    let passed_on = passed_on.filter_map(|route| {
        let to = Passthrough::new(route.passthrough.as_ref()?, &outside.ways.connector);
        Some((route.when.clone(), to))
    });
    let calls = routes().filter(|route| route.passthrough.is_none());
    let sinks = calls.clone().map(|route| (route.name.clone(), route.sinks.clone()));
    let calls = calls.map(|route| ports::route(route, stock));
    let log: Arc<dyn Watch> = Arc::new(LogWatch { listener: listener.endpoint.name.clone() });
    let watchers = watchers.clone().with(log);
    let auth = listener.auth.clone();
    let mut options = listener.options.clone();
    options.one_way |= listener.one_way;
    options.credential_query = auth.query_parameter().map(str::to_owned);
    Some(Plan {
        endpoint: listener.endpoint.clone(),
        provider,
        keyring: match before {
            // With the keys that it has; where they come from cannot change.
            Some(before) => before.keyring.clone(),
            None => outside.keyring(listener),
        },
        hangup: outside.hangup(listener),
        auth,
        only_near: listener.only_near,
        endpoints: match before {
            Some(before) => before.endpoints.clone(),
            None => listener.endpoints.as_deref().map(EndpointStore::open_later),
        },
        answer: Answer::of(provider.name()).zip(listener.answer.clone()),
        replays: Arc::clone(&outside.replays),
        options,
        routes: Arc::new(RouteTable::new(name, calls)),
        sources: Arc::clone(&stock.sources),
        watchers,
        sinks: sinks.collect(),
        reach: listener.reach.clone(),
        running: before.map(|before| before.running.clone()).unwrap_or_default(),
        reattach: listener.reattach,
        attachments: before.map(|before| before.attachments.clone()).unwrap_or_default(),
        passed_on: passed_on.collect(),
    })
}

#[cfg(test)]
#[cfg(feature = "tls")]
mod tests;
