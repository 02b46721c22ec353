//! Takes connections, answers plain HTTP, and turns admitted upgrades into [`Socket`]s. What a stream means is [`Streams`]' part.
//!
//! An accept loop of our own, because a general one does not bound what strangers may do before they have said anything: here a
//! connection has [`Limits::header_timeout`] to send a whole request, however slowly it starts, and caps hold before any work.

mod access;
mod connection;
mod dial_in;
pub(crate) mod handshake;
mod neighbours;
mod posted;
mod records;
mod refusal;
mod routes;
mod sources;
mod webhook;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use ipnet::IpNet;
use ringback_proto::provider::{Transport, Upgrade, Webhook};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::net;
use crate::shutdown::{Flag, Shutdown};
use crate::socket::{Socket, SocketOptions};
use crate::telemetry::{EdgeReport, Report, report, report_edge};
use crate::tenants::Tenant;
use crate::workers::Workers;
use neighbours::{Neighbours, Place};

pub use access::{Access, Pages};
pub(crate) use access::{check_near, is_near};
pub(crate) use connection::text_headers;
pub use refusal::{REASON, Refusal, Shortage};
pub use routes::RESERVED_PATHS;
pub(crate) use routes::{EVENTS_PATH, WORKERS_PATH};
pub use sources::{Sources, network};
pub use webhook::{AnswerPoint, Answered};

/// A stream that came where there was no place for it, because it may be one of a call that has its place. Counted while it lives.
#[derive(Debug)]
pub struct Guest(Arc<AtomicUsize>);

impl Guest {
    /// One more among `guests`, of whom there may be `most`.
    pub(crate) fn among(guests: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let one_more = |open: usize| (open < most).then_some(open + 1);
        let taken = guests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.ok().map(|_| Self(Arc::clone(guests)))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the streams of a server mean: implemented by the bridge, and by tests.
pub trait Streams: Send + Sync + 'static {
    /// What [`Streams::admit`] found out and [`Streams::serve`] needs. Dropped unserved if the peer goes away in between.
    type Admitted: Send + 'static;

    /// Whose the streams of an endpoint are, if there are bounds for whoever that is.
    fn tenant(&self, endpoint: &Endpoint) -> Option<Arc<Tenant>> {
        let _ = endpoint;
        None
    }

    /// Decides about a stream before its upgrade is answered. Must not block.
    ///
    /// # Errors
    /// The refusal becomes the HTTP answer.
    fn admit(
        &self,
        endpoint: &Endpoint,
        upgrade: &Upgrade<'_>,
        peer: SocketAddr,
    ) -> Result<Admission<Self::Admitted>, Refusal> {
        let _ = (endpoint, upgrade, peer);
        Err(Refusal::new(404, "no streams are taken here"))
    }

    /// Whether a stream may come for which there is no place: one that goes on with a call, which has its place already.
    fn guest(&self, endpoint: &Endpoint) -> Option<Guest> {
        let _ = endpoint;
        None
    }

    /// [`Streams::admit`] of such a stream; `None` if it is none after all. One that turns out to be a call of its own is closed as soon
    /// as that is known.
    ///
    /// # Errors
    /// The refusal becomes the HTTP answer.
    fn admit_guest(
        &self,
        endpoint: &Endpoint,
        upgrade: &Upgrade<'_>,
        guest: Guest,
    ) -> Result<Option<Admission<Self::Admitted>>, Refusal> {
        let _ = (endpoint, upgrade, guest);
        Ok(None)
    }

    /// Does what must be done before an admitted stream's upgrade is answered: where streams are passed on, that there is somebody.
    /// Must not take longer than some seconds.
    ///
    /// # Errors
    /// The refusal becomes the HTTP answer.
    fn prepare(
        &self,
        admission: Admission<Self::Admitted>,
    ) -> impl Future<Output = Result<Admission<Self::Admitted>, Refusal>> + Send {
        std::future::ready(Ok(admission))
    }

    /// Whether new streams should come, for whoever asks before it sends them. They are taken in any case.
    fn readiness(&self) -> Readiness {
        Readiness::default()
    }

    /// No to one more call where there is too little of what [`Limits`] do not count. Asked for each, before anything else is.
    ///
    /// # Errors
    /// The refusal becomes the HTTP answer.
    fn room(&self) -> Result<(), Refusal> {
        Ok(())
    }

    /// Decides what a provider is told that asks what to do with a call, if the endpoint has an [`AnswerPoint`]. Must not block.
    /// `room` is the refusal of a call that would begin, where its stream would be refused now.
    ///
    /// # Errors
    /// The refusal becomes the HTTP answer.
    fn answer(
        &self,
        endpoint: &Endpoint,
        webhook: &Webhook<'_>,
        room: Result<(), Refusal>,
    ) -> Result<Answered, Refusal> {
        let _ = (endpoint, webhook, room);
        Err(Refusal::new(404, "no calls are asked for here"))
    }

    /// Whether modules dial in at `path`.
    fn is_door(&self, path: &str) -> bool {
        let _ = path;
        false
    }

    /// Decides about a module that dials in at such a path, before its upgrade is answered. Must not block.
    ///
    /// # Errors
    /// The refusal becomes the HTTP answer. Whoever gives it reports it.
    fn enter(&self, upgrade: &Upgrade<'_>, peer: SocketAddr) -> Result<Entry, Refusal> {
        let _ = (upgrade, peer);
        Err(Refusal::new(404, "no module dials in here"))
    }

    /// Waits for what a [`Refusal`] that may change depends on; says whether it is worth to decide again. Must not take long.
    fn reconsider(&self, endpoint: &Endpoint) -> impl Future<Output = bool> + Send {
        let _ = endpoint;
        std::future::ready(false)
    }

    /// Takes in what a provider posted at an endpoint of [`Transport::Webhook`]. Must not block.
    ///
    /// # Errors
    /// The refusal becomes the HTTP answer.
    fn posted(
        &self,
        endpoint: &Endpoint,
        request: &Upgrade<'_>,
        body: &[u8],
    ) -> Result<Posting<Self::Admitted>, Refusal> {
        let _ = (endpoint, request, body);
        Err(Refusal::new(404, "nothing is posted here"))
    }

    /// Serves a call that was posted until it ends. When [`Shutdown::cut_off`] comes, [`Limits::grace`] is left.
    fn serve_posted(&self, admitted: Self::Admitted) -> impl Future<Output = ()> + Send {
        drop(admitted);
        std::future::ready(())
    }

    /// Serves the stream until it ends, and closes the socket. When [`Shutdown::cut_off`] comes, [`Limits::grace`] is left.
    fn serve(&self, admitted: Self::Admitted, socket: Socket) -> impl Future<Output = ()> + Send;
}

/// How ready a server's streams are to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Readiness {
    /// Something has still to start before the first.
    pub waits: bool,
    /// New streams would be refused now.
    pub busy: bool,
    /// What is not there that should be, a sentence each.
    pub lines: Vec<String>,
}

/// What a posted request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Posting<T> {
    /// It was taken in.
    Taken,
    /// It wants this JSON for an answer.
    Answer(String),
    /// It begins a call, which is [`Streams::serve_posted`]'s.
    Call(T),
}

/// What serves a connection until it ends.
pub type Serve = Box<dyn FnOnce(Socket) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Yes to a module that dials in. Dropped unserved if it goes away before its upgrade is through.
pub struct Entry {
    /// Subprotocol to answer with; one of those offered.
    pub subprotocol: &'static str,
    /// Bounds of its socket.
    pub socket: SocketOptions,
    /// Serves it; ends soon after [`Shutdown::finished`].
    pub serve: Serve,
}

/// Yes to a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission<T> {
    /// Handed to [`Streams::serve`].
    pub state: T,
    /// Subprotocol to answer with; one of those offered.
    pub subprotocol: Option<String>,
}

/// A path at which streams are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name of the listener in the configuration.
    pub name: String,
    /// Whose its calls are.
    pub tenant: Option<Arc<str>>,
    /// What carries its streams. Of those that are no WebSockets there can be one; its path is a name only.
    pub transport: Transport,
    /// Path, matched exactly.
    pub path: String,
    /// Whether the path may have one more segment, which is a credential.
    pub token_in_path: bool,
    /// URL that the provider was told to dial, over which signatures are computed.
    pub public_url: Option<String>,
    /// Where its calls are asked for, if that is answered here.
    pub answer: Option<AnswerPoint>,
    /// Streams at a time; `None` leaves only [`Limits::max_streams`].
    pub max_streams: Option<usize>,
    /// Web pages, by origin (`https://phone.example`), that may open streams. No provider sends an `Origin`, browsers always
    /// do: without this check any page its user visits could speak to a bridge on the user's machine.
    pub origins: Vec<String>,
    /// Addresses that may open streams.
    pub sources: Sources,
    /// Bounds of its sockets.
    pub socket: SocketOptions,
}

impl Endpoint {
    /// Whether streams for `path` are its own.
    fn takes(&self, path: &str) -> bool {
        if self.transport == Transport::Records {
            return false;
        }
        let below = || {
            let rest = path.strip_prefix(self.path.trim_end_matches('/'))?.strip_prefix('/')?;
            let token = rest.trim_end_matches('/');
            Some(!token.is_empty() && !token.contains('/') && !RESERVED_PATHS.contains(&path))
        };
        self.path == path || (self.token_in_path && below() == Some(true))
    }
}

/// Bounds of the whole server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time, streams included. One more is answered 503 before it is read.
    pub max_connections: usize,
    /// Connections at a time from one address, or 64-bit network of IPv6, that are no streams yet. Those of trusted proxies are
    /// counted by whom they pass on, once that is known.
    pub max_connections_per_address: usize,
    /// Streams at a time, over all endpoints.
    pub max_streams: usize,
    /// A connection has so long to send the whole head of a request, from its first moment.
    pub header_timeout: Duration,
    /// Once draining, live streams have so long to end by themselves.
    pub drain_timeout: Duration,
    /// Once told to end, streams have so long for last words, and then those who look on to take them.
    pub grace: Duration,
    /// `Retry-After` of refusals for lack of capacity.
    pub retry_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            max_connections_per_address: 500,
            max_streams: 1000,
            header_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(2),
            retry_after: Duration::from_secs(5),
        }
    }
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Streams that were told to end before their call was over.
    pub cut: usize,
}

/// A connection that hangs while we answer it is dropped after the header timeout and this.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause when the system gives no connections (out of descriptors): those who end theirs need time, not a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections over the cap that are being told so; more are dropped without a word.
const MAX_REFUSALS: usize = 64;
/// What HTTP/1 heads may be; hyper answers more with 431.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// A server for streams and its plain HTTP side.
pub struct Server<S> {
    /// Not shared with what runs on them: whoever let go of them last would wait for them to end, itself included.
    workers: Workers,
    /// Dropped when the workers have ended.
    shared: Arc<Shared<S>>,
}

/// What all tasks of a server share.
struct Shared<S> {
    streams: Arc<S>,
    endpoints: Vec<Bounded>,
    limits: Limits,
    pages: Pages,
    shutdown: Shutdown,
    router: Router,
    live: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    neighbours: Neighbours,
    /// Proxies of any endpoint: who connects through one is known only later.
    proxies: Vec<IpNet>,
    refusals: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Connections that look on for as long as they like.
    onlookers: TaskTracker,
    abort: Flag,
    /// Streams that ended because they were told to.
    cut: AtomicUsize,
}

/// What a connection holds.
struct Entered {
    seat: OwnedSemaphorePermit,
    /// Among those of its address, unless it is a proxy's.
    place: Option<Place>,
}

/// An endpoint, the streams it has left, and whose they are.
struct Bounded {
    endpoint: Endpoint,
    live: Option<Arc<Semaphore>>,
    tenant: Option<Arc<Tenant>>,
}

impl<S> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("limits", &self.shared.limits).finish_non_exhaustive()
    }
}

impl<S: Streams> Server<S> {
    /// A server that takes streams at `endpoints` and serves `routes` beside `/healthz`, `/readyz` and `/metrics`.
    #[must_use]
    pub fn new(
        streams: Arc<S>,
        endpoints: Vec<Endpoint>,
        limits: Limits,
        pages: Pages,
        routes: Router,
        shutdown: Shutdown,
        workers: Workers,
    ) -> Self {
        let proxies = endpoints.iter().flat_map(|e| e.sources.trusted_proxies.iter().copied());
        let proxies = proxies.collect();
        let endpoints = endpoints
            .into_iter()
            .map(|endpoint| {
                let live = endpoint.max_streams.map(|max| Arc::new(Semaphore::new(max)));
                let tenant = streams.tenant(&endpoint);
                Bounded { endpoint, live, tenant }
            })
            .collect();
        let asked = Arc::clone(&streams);
        let readiness = move || asked.readiness();
        let shared = Shared {
            streams,
            endpoints,
            limits,
            pages,
            router: routes::router(shutdown.clone(), limits.retry_after, readiness).merge(routes),
            shutdown,
            live: Arc::new(Semaphore::new(limits.max_streams)),
            connections: Arc::new(Semaphore::new(limits.max_connections)),
            neighbours: Neighbours::new(limits.max_connections_per_address),
            proxies,
            refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
            tasks: TaskTracker::new(),
            onlookers: TaskTracker::new(),
            abort: Flag::default(),
            cut: AtomicUsize::new(0),
        };
        Self { workers, shared: Arc::new(shared) }
    }

    /// Takes connections until shut down, and returns when all streams have ended: by themselves while draining, told to when
    /// [`Limits::drain_timeout`] has passed or [`Shutdown::cut`] was called, or dropped [`Limits::grace`] later.
    ///
    /// While it drains it goes on to answer, so that probes and providers hear 503 instead of a closed port. Connections that
    /// are still open then, but no streams, end with the threads that serve them.
    pub async fn run<L: net::Listener>(self, mut listener: L) -> Drained {
        if let Ok(address) = listener.local_addr() {
            let paths: Vec<_> =
                self.shared.endpoints.iter().map(|b| b.endpoint.path.as_str()).collect();
            report(&Report::Listening { address, paths: &paths });
        }
        let mut ended = std::pin::pin!(self.shared.ended());
        let mut failing = false;
        loop {
            tokio::select! {
                biased;
                drained = &mut ended => return drained,
                accepted = listener.accept() => match accepted {
                    Ok((parcel, peer)) => {
                        failing = false;
                        self.shared.take::<L>(parcel, peer, &self.workers);
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
    }
}

impl<S: Streams> Shared<S> {
    /// Starts to serve a connection, or to refuse it.
    fn take<L: net::Listener>(
        self: &Arc<Self>,
        parcel: L::Parcel,
        peer: SocketAddr,
        workers: &Workers,
    ) {
        let open = async move || {
            let failed = |error: io::Error| {
                report(&Report::HttpFailed { peer, reason: &error.to_string() });
            };
            L::open(parcel).await.map_err(failed).ok()
        };
        let (shortage, limit) = match self.entry(peer) {
            Ok(entry) => {
                let (shared, desk) = (Arc::clone(self), Arc::new(workers.desk()));
                let kept = Arc::clone(&desk);
                desk.spawn(async move {
                    if let Some(io) = open().await {
                        connection::serve(shared, io, peer, entry, kept).await;
                    }
                });
                return;
            }
            Err(refused) => refused,
        };
        report_edge(&EdgeReport::ConnectionRefused { peer, reason: shortage.name(), limit });
        if !L::hears_at_once() {
            return;
        }
        if let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() {
            let retry_after = self.limits.retry_after;
            tokio::spawn(async move {
                if let Some(io) = open().await {
                    connection::refuse(io, shortage, retry_after).await;
                }
                drop(permit);
            });
        }
    }

    /// A place for one more connection of `peer`, or what there is too little of, and how much there may be.
    fn entry(&self, peer: SocketAddr) -> Result<Entered, (Shortage, usize)> {
        let Limits { max_connections, max_connections_per_address, .. } = self.limits;
        let seat = Arc::clone(&self.connections).try_acquire_owned();
        let seat = seat.map_err(|_| (Shortage::Connections, max_connections))?;
        let place = if self.is_proxy(peer.ip()) {
            None
        } else {
            let place = self.neighbours.take(peer.ip());
            Some(place.ok_or((Shortage::Address, max_connections_per_address))?)
        };
        Ok(Entered { seat, place })
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// Waits for the end of everything, from the call to shut down to the last stream.
    async fn ended(&self) -> Drained {
        self.shutdown.drained().await;
        self.tasks.close();
        let timeout = self.limits.drain_timeout;
        report(&Report::Draining { live: self.tasks.len(), timeout });
        tokio::select! {
            biased;
            () = self.tasks.wait() => {}
            () = self.shutdown.cut_off() => {}
            () = tokio::time::sleep(timeout) => {}
        }
        if !self.tasks.is_empty() {
            self.shutdown.cut();
            if tokio::time::timeout(self.limits.grace, self.tasks.wait()).await.is_err() {
                self.abort.raise();
                self.tasks.wait().await;
            }
        }
        self.shutdown.finish();
        self.onlookers.close();
        // One that does not take its last words is not waited for.
        let _ = tokio::time::timeout(self.limits.grace, self.onlookers.wait()).await;
        // Counted by the streams themselves: those on other threads may have ended before anybody could count them here.
        let cut = self.cut.load(Ordering::Acquire);
        report(&Report::Drained { cut });
        Drained { cut }
    }
}

#[cfg(test)]
mod tests;
