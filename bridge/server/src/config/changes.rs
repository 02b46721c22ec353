//! What of a configuration can take the place of one that is in use, and what of it has to wait for a restart. Applies nothing.

use super::{Config, ListenerConfig};
#[cfg(feature = "nats")]
use super::{ModuleConfig, ModuleRun};
use crate::listener::{Endpoint, Limits, Pages, Sources};
use crate::operator::OperatorConfig;
use crate::overload::Bounds;
use crate::sink::SinkConfig;
use crate::socket::SocketOptions;
use crate::telemetry::LogOptions;
use crate::workers::Tick;

/// What comes of a configuration that is asked for while another one is in use.
#[derive(Debug, Clone)]
pub struct Succession {
    /// What holds from now on.
    pub config: Config,
    /// The keys in which that is not what was asked for: they need a restart.
    pub restart: Vec<String>,
}

impl Config {
    /// What holds if `wanted` is asked for while this is in use. Routes and modules are as wanted, and so is what listeners do with
    /// calls. Where and how connections are taken stays as it is. Who may call changes only where the rest of the listener is as
    /// wanted: credentials were checked together with the addresses that they guard.
    ///
    /// # Errors
    /// If it has modules that could run only after a restart.
    pub fn succeeded_by(&self, wanted: Self) -> Result<Succession, String> {
        #[cfg(feature = "nats")]
        self.has_its_cluster(&wanted)?;
        // Named one by one, so that no key is forgotten here.
        let Self {
            file,
            bind,
            tls,
            pages,
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
            worker_path,
            sinks: running_sinks,
            ..
        } = self;
        let Self { listeners, modules, routes, mut sinks, .. } = wanted;
        let mut keys = Keys::default();
        keys.note("server.bind", *bind != wanted.bind);
        // What is in its files may change at any time.
        keys.note("server.tls", *tls != wanted.tls);
        keys.of_pages(*pages, wanted.pages);
        keys.of_limits(*limits, wanted.limits);
        keys.of_bounds(*bounds, wanted.bounds);
        keys.of_threads((*threads, *tick), (wanted.threads, wanted.tick));
        keys.of_log(log, &wanted.log);
        keys.note("outgoing", *trust != wanted.trust);
        keys.note("capture", *capture != wanted.capture);
        keys.note("recordings", *recordings != wanted.recordings);
        keys.note("nats", *nats != wanted.nats);
        keys.note("server.workers", *worker_path != wanted.worker_path);
        let operator = keys.of_operator(operator.as_ref(), wanted.operator.as_ref());
        keys.note("tenant", *tenants != wanted.tenants);
        let find = |among: &[ListenerConfig], name: &str| {
            among.iter().position(|listener| listener.endpoint.name == name)
        };
        let is_elsewhere = *bind != wanted.bind;
        let kept = self.listeners.iter().filter_map(|running| {
            // One that is no more takes no more calls.
            let wanted = &listeners[find(&listeners, &running.endpoint.name)?];
            Some(running.succeeded_by(wanted, is_elsewhere, &mut keys))
        });
        let kept: Vec<_> = kept.collect();
        for new in &listeners {
            let name = &new.endpoint.name;
            keys.note(&format!("listener.{name}"), find(&self.listeners, name).is_none());
        }
        keys.of_sinks(running_sinks, &mut sinks);
        let config = Self {
            file: file.clone(),
            bind: *bind,
            tls: tls.clone(),
            pages: *pages,
            limits: *limits,
            bounds: *bounds,
            threads: *threads,
            tick: *tick,
            log: log.clone(),
            trust: trust.clone(),
            capture: capture.clone(),
            recordings: recordings.clone(),
            nats: nats.clone(),
            operator,
            tenants: tenants.clone(),
            worker_path: worker_path.clone(),
            listeners: kept,
            modules,
            routes,
            sinks,
        };
        Ok(Succession { config, restart: keys.0 })
    }

    /// Workers are reached by a connection that is made at the start.
    #[cfg(feature = "nats")]
    fn has_its_cluster(&self, wanted: &Self) -> Result<(), String> {
        let is_worker = |module: &&ModuleConfig| matches!(module.run, ModuleRun::Nats { .. });
        match wanted.modules.iter().find(is_worker).filter(|_| self.nats.is_none()) {
            None => Ok(()),
            Some(module) => Err(format!(
                "module {:?} is a worker on NATS, and [nats] needs a restart: nothing was changed",
                module.name
            )),
        }
    }
}

impl ListenerConfig {
    fn succeeded_by(&self, wanted: &Self, is_elsewhere: bool, keys: &mut Keys) -> Self {
        let name = &self.endpoint.name;
        let known = keys.0.len();
        keys.of_endpoint(&self.endpoint, &wanted.endpoint);
        let is_another = self.provider != wanted.provider;
        keys.note(&format!("listener.{name}.provider"), is_another);
        keys.note(&format!("listener.{name}.endpoints"), self.endpoints != wanted.endpoints);
        let by_keys = self.keys.is_some() || wanted.keys.is_some();
        let new_auth = self.auth != wanted.auth || self.keys != wanted.keys;
        // Whatever guards a door stays with it.
        let is_fixed = is_elsewhere || keys.0.len() > known || self.endpoint != wanted.endpoint;
        let keeps_auth = is_fixed || by_keys;
        keys.note(&format!("listener.{name}.auth"), keeps_auth && new_auth);
        let is_insecure_new = self.only_near != wanted.only_near
            && !new_auth
            && self.endpoints == wanted.endpoints
            && self.endpoint.sources == wanted.endpoint.sources;
        keys.note(&format!("listener.{name}.insecure"), keeps_auth && is_insecure_new);
        keys.note(&format!("listener.{name}.answer"), is_fixed && self.answer != wanted.answer);
        let mut next = if is_another { self.clone() } else { wanted.clone() };
        next.endpoint = self.endpoint.clone();
        next.keys = self.keys.clone();
        next.endpoints = self.endpoints.clone();
        next.routes = wanted.routes.clone();
        if keeps_auth {
            next.auth = self.auth.clone();
            next.only_near = self.only_near;
        }
        if is_fixed {
            next.answer = self.answer.clone();
        }
        next
    }
}

/// Keys that need a restart, each once.
#[derive(Default)]
struct Keys(Vec<String>);

impl Keys {
    fn note(&mut self, key: &str, is_other: bool) {
        if is_other && !self.0.iter().any(|known| known == key) {
            self.0.push(key.to_owned());
        }
    }

    fn of_pages(&mut self, running: Pages, wanted: Pages) {
        let Pages { metrics, events } = running;
        self.note("server.metrics", metrics != wanted.metrics);
        self.note("server.events", events != wanted.events);
    }

    /// A sink that keeps files stays as it is: two at once would send, number and forget the same ones.
    fn of_sinks(&mut self, running: &[SinkConfig], wanted: &mut [SinkConfig]) {
        for sink in wanted {
            let running = running.iter().find(|running| running.name == sink.name);
            if let Some(running) = running.filter(|running| running.spools() && *running != sink) {
                self.note(&format!("sink.{}", running.name), true);
                *sink = running.clone();
            }
        }
    }

    /// Who may ask changes at once, where it is asked and where from does not; tokens beyond this machine were checked together with
    /// that.
    fn of_operator(
        &mut self,
        running: Option<&OperatorConfig>,
        wanted: Option<&OperatorConfig>,
    ) -> Option<OperatorConfig> {
        let (Some(running), Some(wanted)) = (running, wanted) else {
            self.note("operator", running.is_some() != wanted.is_some());
            return running.cloned();
        };
        let OperatorConfig {
            bind,
            tls,
            tokens,
            origins,
            max_connections,
            audit,
            trusted_proxies: _,
        } = running;
        self.note("operator.audit", *audit != wanted.audit);
        let is_elsewhere = *bind != wanted.bind;
        self.note("operator.bind", is_elsewhere);
        self.note("operator.tls", *tls != wanted.tls);
        self.note("operator.origins", *origins != wanted.origins);
        self.note("operator.max_connections", *max_connections != wanted.max_connections);
        // Without any token a side that was guarded would be open.
        let opens = is_elsewhere || tokens.is_empty() != wanted.tokens.is_empty();
        self.note("operator.token", opens && *tokens != wanted.tokens);
        let tokens = if opens { tokens } else { &wanted.tokens }.clone();
        Some(OperatorConfig { tokens, ..running.clone() })
    }

    fn of_limits(&mut self, running: Limits, wanted: Limits) {
        // The last two have no key.
        let Limits {
            max_connections,
            max_connections_per_address,
            max_streams,
            header_timeout,
            drain_timeout,
            grace: _,
            retry_after: _,
        } = running;
        self.note("limits.max_connections", max_connections != wanted.max_connections);
        self.note(
            "limits.max_connections_per_address",
            max_connections_per_address != wanted.max_connections_per_address,
        );
        self.note("limits.max_calls", max_streams != wanted.max_streams);
        self.note("limits.header_timeout", header_timeout != wanted.header_timeout);
        self.note("server.drain_timeout", drain_timeout != wanted.drain_timeout);
    }

    fn of_log(&mut self, running: &LogOptions, wanted: &LogOptions) {
        self.note("log.format", running.format != wanted.format);
        self.note("log.level", running.filter != wanted.filter);
    }

    fn of_threads(&mut self, running: (usize, Tick), wanted: (usize, Tick)) {
        self.note("server.threads", running.0 != wanted.0);
        self.note("server.tick", running.1 != wanted.1);
    }

    fn of_bounds(&mut self, running: Bounds, wanted: Bounds) {
        let Bounds { max_lag, max_memory } = running;
        self.note("limits.max_lag", max_lag != wanted.max_lag);
        self.note("limits.max_memory", max_memory != wanted.max_memory);
    }

    fn of_endpoint(&mut self, running: &Endpoint, wanted: &Endpoint) {
        // The name is what both are found by; transport and path's token follow from provider and auth.
        let Endpoint {
            name,
            tenant,
            transport: _,
            path,
            token_in_path: _,
            public_url,
            answer,
            max_streams,
            origins,
            sources: Sources { allow, trusted_proxies },
            socket: SocketOptions { max_message, write_deadline, keepalive, .. },
        } = running;
        self.note("server.trusted_proxies", *trusted_proxies != wanted.sources.trusted_proxies);
        self.note("limits.max_message", *max_message != wanted.socket.max_message);
        self.note("limits.write_timeout", *write_deadline != wanted.socket.write_deadline);
        for (key, is_other) in [
            ("tenant", *tenant != wanted.tenant),
            ("path", *path != wanted.path),
            ("public_url", *public_url != wanted.public_url),
            ("answer", *answer != wanted.answer),
            ("max_calls", *max_streams != wanted.max_streams),
            ("origins", *origins != wanted.origins),
            ("allow", *allow != wanted.sources.allow),
            ("keepalive", *keepalive != wanted.socket.keepalive),
        ] {
            self.note(&format!("listener.{name}.{key}"), is_other);
        }
    }
}
