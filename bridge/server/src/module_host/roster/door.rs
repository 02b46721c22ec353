//! Where modules dial in: which path is whose, who is let in, and what the operator is shown of it. Runs no session.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::routing::get;
use ringback_module::{CONTRACT, WORKER_CONTRACT};
use ringback_proto::provider::{Secret, Upgrade};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::over_socket;
use super::control::{self, Visitor};
use super::idle::{self, Coming};
use super::{Roster, RosterConfig};
use crate::listener::{Entry, Refusal, WORKERS_PATH, check_near};
use crate::shutdown::Shutdown;
use crate::socket::SocketOptions;
use crate::telemetry::{Report, report};

/// Idle connections get a ping of the WebSocket this often: firewalls and proxies forget those on which nothing is said.
const KEEP_IDLE: Duration = Duration::from_secs(5);

/// All modules whose workers dial in. Clones share them.
#[derive(Clone)]
pub struct Rosters {
    shutdown: Shutdown,
    doors: Arc<Mutex<Doors>>,
}

#[derive(Default)]
struct Doors {
    /// Modules dial in below it.
    path: String,
    rosters: BTreeMap<String, Arc<Roster>>,
}

impl std::fmt::Debug for Rosters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.doors().rosters.keys()).finish()
    }
}

impl Rosters {
    /// No module yet. All connections are closed when `shutdown` is finished.
    #[must_use]
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, doors: Arc::default() }
    }

    fn doors(&self) -> MutexGuard<'_, Doors> {
        // Entries are whole, whoever panicked.
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on these modules have workers, below `path`, and no others. Workers of modules that stay stay, if their token still
    /// opens; sessions go on in any case.
    pub fn apply<'a>(
        &self,
        path: &str,
        modules: impl IntoIterator<Item = (&'a str, &'a RosterConfig)>,
    ) {
        let mut doors = self.doors();
        path.clone_into(&mut doors.path);
        let mut before = std::mem::take(&mut doors.rosters);
        for (name, config) in modules {
            let roster = before
                .remove(name)
                .unwrap_or_else(|| Roster::new(name.to_owned(), self.shutdown.clone()));
            roster.configure(config.clone());
            doors.rosters.insert(name.to_owned(), roster);
        }
        drop(doors);
        for roster in before.into_values() {
            roster.dismiss();
        }
    }

    /// The workers of the module of that name; of one that was not told of, nobody will ever come.
    #[must_use]
    pub(crate) fn roster(&self, name: &str) -> Arc<Roster> {
        let known = self.doors().rosters.get(name).cloned();
        known.unwrap_or_else(|| Roster::new(name.to_owned(), self.shutdown.clone()))
    }

    fn at(&self, path: &str) -> Option<Arc<Roster>> {
        let doors = self.doors();
        let name = path.strip_prefix(doors.path.as_str())?.strip_prefix('/')?;
        doors.rosters.get(name).cloned()
    }

    /// Whether modules dial in at `path`.
    #[must_use]
    pub fn is_door(&self, path: &str) -> bool {
        self.at(path).is_some()
    }

    /// Lets a module in that has the token of a worker, or the ticket for a session.
    ///
    /// # Errors
    /// The refusal becomes the HTTP answer.
    pub fn enter(&self, upgrade: &Upgrade<'_>, peer: SocketAddr) -> Result<Entry, Refusal> {
        let Some(roster) = self.at(upgrade.path()) else {
            return Err(Refusal::new(404, "no module dials in here"));
        };
        let admitted = self.admit(&roster, upgrade, peer);
        if let Err(Refusal { status, reason, .. }) = &admitted {
            let (module, status) = (&roster.name, *status);
            report(&Report::WorkerRefused { module, peer, status, reason });
        }
        admitted
    }

    fn admit(
        &self,
        roster: &Arc<Roster>,
        upgrade: &Upgrade<'_>,
        peer: SocketAddr,
    ) -> Result<Entry, Refusal> {
        if upgrade.header("origin").is_some() {
            // Browsers always send it, programs never: a page must not reach a bridge on its reader's machine.
            return Err(Refusal::new(403, "modules dial in from programs, not from web pages"));
        }
        let bearer = upgrade.header("authorization").and_then(bearer);
        let offers = |name: &str| upgrade.subprotocols().any(|offered| offered == name);
        if offers(WORKER_CONTRACT) {
            let (token, secret) = self.check(roster, upgrade, bearer, peer)?;
            let visitor = Visitor { roster: Arc::clone(roster), token, secret, peer };
            return Ok(Entry {
                subprotocol: WORKER_CONTRACT,
                socket: control::options(),
                serve: Box::new(|socket| Box::pin(control::serve(visitor, socket))),
            });
        }
        if offers(CONTRACT) {
            let ticket = bearer.ok_or_else(|| unauthorized("no ticket"))?;
            let worker = roster.state().redeem(ticket, Instant::now());
            let worker = worker.ok_or_else(|| {
                unauthorized("the ticket is none, was used, or is too old; a worker registers with the subprotocol ringback.v1.worker")
            })?;
            let coming = Coming { roster: Arc::clone(roster), worker };
            return Ok(Entry {
                subprotocol: CONTRACT,
                socket: SocketOptions { keepalive: Some(KEEP_IDLE), ..over_socket::options() },
                serve: Box::new(|socket| Box::pin(idle::wait(coming, socket))),
            });
        }
        let what = format!("here modules dial in: the subprotocol is {WORKER_CONTRACT}");
        Err(Refusal::new(400, what))
    }

    /// The name of the token that a worker brings, and the token.
    fn check(
        &self,
        roster: &Roster,
        upgrade: &Upgrade<'_>,
        bearer: Option<&str>,
        peer: SocketAddr,
    ) -> Result<(String, Option<Secret>), Refusal> {
        let tokens = roster.state().config.tokens.clone();
        if tokens.is_empty() {
            let is_near =
                peer.ip().to_canonical().is_loopback() && check_near(upgrade.headers).is_ok();
            return if is_near {
                Ok(("local".into(), None))
            } else {
                let reason = "it has no `tokens`, so that only this machine's modules may dial in";
                Err(Refusal { reason: reason.into(), ..forbidden() })
            };
        }
        let Some(bearer) = bearer else { return Err(unauthorized("no bearer token")) };
        let given = Secret::from(bearer);
        // All are looked at, whichever it is.
        let mut found = None;
        for (name, token) in tokens {
            if token == given {
                found = Some((name, Some(token)));
            }
        }
        if let Some(found) = found {
            return Ok(found);
        }
        let others: Vec<_> = self.doors().rosters.values().cloned().collect();
        let whose = others
            .iter()
            .find(|other| other.state().config.tokens.iter().any(|(_, token)| *token == given));
        match whose {
            None => Err(unauthorized("the bearer token is none of its `tokens`")),
            Some(other) => {
                let reason = format!("the token is one of module {:?}", other.name);
                Err(Refusal { reason, ..forbidden() })
            }
        }
    }

    /// The page that shows all workers.
    pub(crate) fn routes(&self) -> Router {
        let this = self.clone();
        let page = move || {
            let kind = [(header::CONTENT_TYPE, "application/json")];
            std::future::ready((kind, format!("{:#}\n", this.overview())).into_response())
        };
        Router::new().route(WORKERS_PATH, get(page))
    }

    /// All workers, as the page shows them.
    #[must_use]
    pub(crate) fn overview(&self) -> Value {
        let rosters: Vec<_> = self.doors().rosters.values().cloned().collect();
        let modules = rosters.iter().map(|roster| roster.overview());
        json!({ "modules": modules.collect::<Vec<_>>() })
    }
}

impl Roster {
    fn configure(self: &Arc<Self>, config: RosterConfig) {
        let mut state = self.state();
        state.config = config;
        let locked_out = state.locked_out();
        let gone: Vec<_> = locked_out.into_iter().filter_map(|id| state.leave(id)).collect();
        drop(state);
        // Their connections end for want of orders.
        drop(gone);
        self.settle();
    }

    /// The module is there no more: its workers may go.
    fn dismiss(&self) {
        let mut state = self.state();
        state.config.max_workers = 0;
        let gone = std::mem::take(&mut state.workers);
        drop(state);
        drop(gone);
    }

    fn overview(&self) -> Value {
        let state = self.state();
        let workers = state.workers.iter().map(|worker| {
            json!({
                "worker": &*worker.name,
                "peer": worker.peer.to_string(),
                "module": worker.module,
                "version": worker.version,
                "max_sessions": worker.max_sessions,
                "sessions": worker.sessions,
                "elsewhere": worker.elsewhere,
                "load": worker.load,
                "idle_connections": worker.idle_connections(),
                "going_away": worker.is_leaving,
            })
        });
        let waiting = state.waiting.iter().filter(|waiting| !waiting.is_closed()).count();
        json!({ "name": self.name, "workers": workers.collect::<Vec<_>>(), "waiting": waiting })
    }
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthorized(reason: &str) -> Refusal {
    Refusal {
        reason: reason.into(),
        ..Refusal::new(401, "authentication failed; the bridge's log says why")
    }
}

fn forbidden() -> Refusal {
    Refusal::new(403, "this is not for you; the bridge's log says why")
}
