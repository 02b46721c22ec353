//! The operator's side: a listener of its own for figures, events and an API, for who has a token. Takes no streams of providers.
//!
//! It has its own port, so that what is for the operator is never where providers reach it, and its own bounds, so that neither
//! side can use up the other's. Every request takes the same way: who asks, what is asked, whether that may be, and only then
//! what it is about.

mod access;
mod answer;
mod api;
mod attempts;
mod conduct;
mod connection;
mod endpoints;
mod record;
mod routes;
mod stream;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::audit::Audit;
use crate::clock::{Clock, WallTime};
use crate::endpoints::{Change, EndpointStore};
use crate::events::Events;
use crate::listener::{Limits, Pages, handshake};
use crate::module_host::Rosters;
use crate::net;
use crate::registry::Registry;
use crate::shutdown::Shutdown;
use crate::telemetry::{EdgeReport, OperatorReport, Report, operator_report, report, report_edge};
use crate::tenants::Tenants;
use crate::tls::TlsFiles;
use access::{Access, Denied, Principal};
use answer::{Problem, harden};
use api::View;
use connection::Busy;
use record::Record;
use routes::{Operation, Route, Whom};
use stream::Asks;

pub use access::{Scope, Scopes, Token, Tokens};

/// Where the operator's side listens if nothing else is said.
pub const DEFAULT_BIND: &str = "127.0.0.1:9080";
/// Who listens to events at a time, over all connections.
const MAX_LISTENERS: usize = 256;
/// Octets of a request's body; none needs a tenth of it.
const MAX_BODY: usize = 16 * 1024;
/// Pause when the system gives no connections.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The operator's side, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorConfig {
    /// Where it listens.
    pub bind: SocketAddr,
    /// What it proves itself by, if it speaks TLS.
    pub tls: Option<TlsFiles>,
    /// Who may ask for what; without any, this machine may look.
    pub tokens: Vec<Token>,
    /// Web pages that may ask, by origin.
    pub origins: Vec<String>,
    /// Connections at a time.
    pub max_connections: usize,
    /// Where the audit log is kept, if one is.
    pub audit: Option<PathBuf>,
    /// Proxies whose word about an address is believed.
    pub trusted_proxies: Vec<ipnet::IpNet>,
}

/// Reads the configuration again and puts it in the place of what holds; gives the keys that need a restart, or what is wrong.
pub type Reloading = Arc<dyn Fn() -> Result<Vec<String>, String> + Send + Sync>;

/// A listener that is called at endpoints.
#[derive(Debug, Clone)]
pub(crate) struct Called {
    pub(crate) listener: String,
    pub(crate) tenant: Option<Arc<str>>,
    pub(crate) path: String,
    pub(crate) public_url: Option<String>,
    pub(crate) store: EndpointStore,
}

/// What the operator's side is about.
pub(crate) struct Bridged {
    pub(crate) clock: Clock,
    pub(crate) shutdown: Shutdown,
    pub(crate) events: Events,
    pub(crate) registry: Registry,
    pub(crate) rosters: Rosters,
    pub(crate) tokens: Tokens,
    pub(crate) tenants: Tenants,
    pub(crate) called: Vec<Called>,
    pub(crate) limits: Limits,
    pub(crate) pages: Pages,
}

/// The operator's side of a bridge.
pub struct Operator {
    clock: Clock,
    shutdown: Shutdown,
    events: Events,
    registry: Registry,
    rosters: Rosters,
    access: Access,
    tenants: Tenants,
    called: Vec<Called>,
    record: Record,
    origins: Vec<String>,
    header_timeout: Duration,
    drain_timeout: Duration,
    grace: Duration,
    retry_after: Duration,
    reloading: Option<Reloading>,
    /// When draining will be over, once it began.
    until: OnceLock<WallTime>,
    max_connections: usize,
    connections: Arc<Semaphore>,
    listeners: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Operator {
    pub(crate) fn new(
        config: &OperatorConfig,
        bridged: Bridged,
        audit: Option<Audit>,
        reloading: Option<Reloading>,
    ) -> Arc<Self> {
        let Bridged { clock, shutdown, events, registry, rosters, tokens, limits, pages, .. } =
            bridged;
        let proxies = config.trusted_proxies.clone();
        Arc::new(Self {
            clock,
            shutdown,
            events,
            registry,
            rosters,
            access: Access::new(clock, tokens, pages, proxies),
            tenants: bridged.tenants,
            called: bridged.called,
            record: Record::new(audit, clock),
            origins: config.origins.clone(),
            header_timeout: limits.header_timeout,
            drain_timeout: limits.drain_timeout,
            grace: limits.grace,
            retry_after: limits.retry_after,
            reloading,
            until: OnceLock::new(),
            max_connections: config.max_connections,
            connections: Arc::new(Semaphore::new(config.max_connections)),
            listeners: Arc::new(Semaphore::new(MAX_LISTENERS)),
            tasks: TaskTracker::new(),
        })
    }

    /// Answers until all calls have ended after the bridge was told to, and gives those who listen time for the last words.
    pub async fn run<L: net::Listener>(self: Arc<Self>, mut listener: L) {
        if let Ok(address) = listener.local_addr() {
            operator_report(&OperatorReport::Listening { address });
        }
        let mut finished = std::pin::pin!(self.shutdown.finished());
        let mut drained = std::pin::pin!(self.shutdown.drained());
        let (mut failing, mut draining) = (false, false);
        loop {
            tokio::select! {
                biased;
                () = &mut finished => break,
                () = &mut drained, if !draining => {
                    draining = true;
                    self.drains_until();
                }
                accepted = listener.accept() => match accepted {
                    Ok((parcel, peer)) => {
                        failing = false;
                        self.take::<L>(parcel, peer);
                    }
                    Err(error) if net::is_about_one_connection(&error) => {}
                    Err(error) => {
                        if !std::mem::replace(&mut failing, true) {
                            report(&Report::AcceptFailed { error: &error, pause: ACCEPT_PAUSE });
                        }
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
        self.tasks.close();
        // One that does not take its last words is not waited for.
        let _ = tokio::time::timeout(self.grace, self.tasks.wait()).await;
    }

    fn take<L: net::Listener>(self: &Arc<Self>, parcel: L::Parcel, peer: SocketAddr) {
        let Ok(place) = Arc::clone(&self.connections).try_acquire_owned() else {
            report_edge(&EdgeReport::ConnectionRefused {
                peer,
                reason: "connections",
                limit: self.max_connections,
            });
            return;
        };
        let this = Arc::clone(self);
        self.tasks.spawn(async move {
            match L::open(parcel).await {
                Ok(io) => connection::serve(this, io, peer, place).await,
                Err(error) => report(&Report::HttpFailed { peer, reason: &error.to_string() }),
            }
        });
    }

    /// When draining is over at the latest, reckoned from when this is asked first.
    fn drains_until(&self) -> WallTime {
        *self.until.get_or_init(|| WallTime::now().after(self.drain_timeout))
    }

    /// Answers a request.
    async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
        busy: Busy,
    ) -> Response<Body> {
        let answered = self.decide(request, peer, busy).await;
        let response = answered.unwrap_or_else(Problem::into_response);
        operator_report(&OperatorReport::Answered { status: response.status().as_u16() });
        harden(response)
    }

    /// The one way of all requests.
    async fn decide(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
        busy: Busy,
    ) -> Result<Response<Body>, Problem> {
        let asks = Asks::of(&request);
        let (parts, body) = request.into_parts();
        is_plain(&parts)?;
        let method = if asks == Asks::Connect { &Method::GET } else { &parts.method };
        // Before its token is looked at: a page of somebody else's uses up no guesses of those who may ask.
        if asks != Asks::Plain || *method != Method::GET {
            self.check_origin(&parts)?;
        }
        let path = parts.uri.path().to_owned();
        let who = match self.access.who(&parts, peer) {
            Ok(who) => who,
            Err(denied) => {
                let problem = denial(denied, peer);
                if denied == Denied::Wrong {
                    let from = self.access.address(&parts, peer);
                    // The path itself is a stranger's words, and may be a token in the wrong place.
                    let asked = routes::find(&parts.method, &path);
                    let asked = asked.map_or("elsewhere", |route| route.path);
                    self.record.refused(from, asked, problem.status).await;
                }
                return Err(problem);
            }
        };
        let route = routes::find(method, &path)?;
        may(&who, route)?;
        let asked = Asked { route, path, who, asks, parts, body, busy };
        if !route.is_recorded {
            return self.carry_out(asked).await;
        }
        // In a task of its own: a peer that hangs up after asking ends neither what it asked for nor the line about it.
        let (this, who, path) = (Arc::clone(self), asked.who.clone(), asked.path.clone());
        let doing = self.tasks.spawn(async move { this.carry_out_and_record(asked).await });
        match doing.await {
            Ok(answered) => answered,
            Err(_panicked) => {
                self.record.did(&who, route.name, &path, 500).await?;
                Err(Problem::new(500, "fault", "a fault of this bridge's"))
            }
        }
    }

    /// What changes something is written down before it is done, and its outcome before that is told; what only tells something, before it
    /// is told.
    async fn carry_out_and_record(
        self: Arc<Self>,
        asked: Asked,
    ) -> Result<Response<Body>, Problem> {
        let (route, who, path) = (asked.route, asked.who.clone(), asked.path.clone());
        if route.changes() {
            self.record.begins(&who, route.name, &path).await?;
        }
        let answered = self.carry_out(asked).await;
        let status = answered.as_ref().map_or_else(|p| p.status, |r| r.status().as_u16());
        let (name, address) = (who.name.as_str(), who.address);
        operator_report(&OperatorReport::Acted { name, address, path: &path, status });
        let noted = self.record.did(&who, route.name, &path, status).await;
        // What was done is not to be done again because of that.
        let lost =
            "it was begun; what came of it cannot be written into the audit log, and is not told";
        let lost =
            |problem| if route.changes() { Problem::new(500, "audit_lost", lost) } else { problem };
        noted.map_err(lost)?;
        answered
    }

    async fn carry_out(self: &Arc<Self>, asked: Asked) -> Result<Response<Body>, Problem> {
        let Asked { route, path, who, asks, parts, body, busy } = asked;
        if route.operation == Operation::Events {
            stream::listen(self, Request::from_parts(parts, body), asks, &who, busy)
        } else if asks == Asks::Plain {
            let query = parts.uri.query().unwrap_or_default();
            let body = self.body_of(route, &parts, body).await?;
            self.perform(&who, route.operation, &route.names(&path), query, body).await
        } else {
            Err(Problem::new(400, "no_stream", "only events are told over a WebSocket"))
        }
    }

    async fn perform(
        &self,
        who: &Principal,
        operation: Operation,
        names: &[&str],
        query: &str,
        body: Value,
    ) -> Result<Response<Body>, Problem> {
        let view = View::new(self, who);
        match (operation, names) {
            (Operation::Metrics, _) => Ok(self.metrics()),
            (Operation::Workers, _) => Ok(self.workers()),
            (Operation::Document, _) => Ok(self.document()),
            (Operation::Calls, _) => Ok(self.calls(&view)),
            (Operation::Call, [call]) => self.call(&view, call),
            (Operation::HangUp, [call]) => self.hang_up(&view, call),
            (Operation::BeginPrivate, [call]) => conduct::begin_private(&view, call, &body).await,
            (Operation::EndPrivate, [call]) => conduct::end_private(&view, call).await,
            (Operation::GiveConsent, [call]) => conduct::consent(&view, call, true, &body).await,
            (Operation::WithdrawConsent, [call]) => {
                conduct::consent(&view, call, false, &body).await
            }
            (Operation::Tenants, _) => Ok(self.tenants(&view)),
            (Operation::Drain, _) => Ok(self.drain()),
            (Operation::Reload, _) => self.reload().await,
            (Operation::Audit, _) => self.read_audit(query).await,
            (Operation::Endpoints, [listener]) => Ok(endpoints::list(view.called(listener)?)),
            (Operation::NewEndpoint, [listener]) => {
                endpoints::change(view.called(listener)?, Change::New).await
            }
            (Operation::RotateEndpoint, [listener]) => {
                let called = view.called(listener)?;
                endpoints::change(called, endpoints::rotation(&body)?).await
            }
            (Operation::ExtendEndpoint, [listener, id]) => {
                let called = view.called(listener)?;
                endpoints::change(called, endpoints::extension(id, &body)?).await
            }
            (Operation::RevokeEndpoint, [listener, id]) => {
                let change = Change::Revoke((*id).to_owned());
                endpoints::change(view.called(listener)?, change).await
            }
            _ => Err(Problem::not_found()),
        }
    }

    /// What is sent with a request: an object of JSON, or nothing.
    async fn body_of(
        &self,
        route: &Route,
        parts: &Parts,
        body: Incoming,
    ) -> Result<Value, Problem> {
        let nothing = || Value::Object(Map::new());
        if route.method == Method::GET {
            return Ok(nothing());
        }
        let whole =
            tokio::time::timeout(self.header_timeout, Limited::new(body, MAX_BODY).collect());
        let octets = match whole.await {
            Ok(Ok(whole)) => whole.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let message = format!("a body may have {MAX_BODY} octets");
                return Err(Problem::new(413, "too_large", message));
            }
            Ok(Err(_)) => return Err(Problem::new(400, "bad_body", "the body cannot be read")),
            Err(_) => return Err(Problem::new(408, "slow", "the body did not come in time")),
        };
        if octets.is_empty() {
            return Ok(nothing());
        }
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
        if !kind.trim().eq_ignore_ascii_case("application/json") {
            return Err(Problem::new(415, "content_type", "a body is application/json"));
        }
        let body: Value = serde_json::from_slice(&octets)
            .map_err(|error| Problem::new(400, "bad_body", error.to_string()))?;
        if !route.takes_body && body != nothing() {
            return Err(Problem::new(400, "bad_body", "nothing is to be said with this"));
        }
        Ok(body)
    }

    /// No page of another origin may act or listen: browsers say whose page it is, programs say nothing.
    fn check_origin(&self, parts: &Parts) -> Result<(), Problem> {
        let host = parts.uri.authority().map(|authority| authority.as_str());
        let host = host.or_else(|| parts.headers.get(header::HOST)?.to_str().ok());
        handshake::check_origin(&parts.headers, host.unwrap_or_default(), &self.origins)
            .map_err(|refusal| Problem::new(refusal.status, "origin", refusal.public))
    }
}

/// Something that may be asked by who asks it.
struct Asked {
    route: &'static Route,
    path: String,
    who: Principal,
    asks: Asks,
    parts: Parts,
    body: Incoming,
    busy: Busy,
}

/// What is encoded would have to be decoded before its size is known.
fn is_plain(parts: &Parts) -> Result<(), Problem> {
    let mut encodings = parts.headers.get_all(header::CONTENT_ENCODING).iter();
    if encodings.all(|encoding| *encoding == HeaderValue::from_static("identity")) {
        return Ok(());
    }
    Err(Problem::new(415, "content_encoding", "a request's body is taken as it is, not encoded"))
}

/// Whether the token opens the route. What is about the whole bridge is not there for who has a part of it.
fn may(who: &Principal, route: &Route) -> Result<(), Problem> {
    if route.whom == Whom::All && who.tenant.is_some() {
        return Err(Problem::not_found());
    }
    if who.scopes.contains(route.scope) {
        return Ok(());
    }
    let scope = route.scope.name();
    let message = format!("this takes a token with the scope {scope:?}");
    Err(Problem::new(403, "scope", message))
}

/// What somebody is told whose token is none of ours.
fn denial(denied: Denied, peer: SocketAddr) -> Problem {
    match denied {
        // Which of the two it is, is nobody's business.
        Denied::Missing | Denied::Wrong => {
            operator_report(&OperatorReport::Unauthorized { peer });
            Problem::new(401, "unauthorized", "this takes a token: `Authorization: Bearer ...`")
        }
        Denied::Locked(left) => {
            operator_report(&OperatorReport::LockedOut { peer });
            let message = "too many wrong tokens came from this address";
            Problem { retry_after: Some(left), ..Problem::new(429, "too_many_attempts", message) }
        }
        Denied::Far => {
            operator_report(&OperatorReport::Far { peer });
            let message = "without tokens this is for programs on the bridge's own machine, asked for as localhost";
            Problem::new(403, "far", message)
        }
    }
}
