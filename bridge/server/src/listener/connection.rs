//! One connection from its first octet to its answer or its upgrade. Serves no stream itself.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use ringback_proto::provider::{Transport, Upgrade};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tower_service::Service as _;

use super::neighbours::Place;
use super::records::{Rewound, sorted};
use super::sources::passed_on;
use super::{
    ANSWER_TIMEOUT, Admission, Bounded, Entered, MAX_HEAD, MAX_HEADERS, REASON, Refusal, Shared,
    Shortage, Streams, dial_in, handshake, posted, routes, webhook,
};
use crate::clock::Clock;
use crate::net::Io;
use crate::socket::{Socket, linger};
use crate::telemetry::{EdgeReport, METRICS, Report, report, report_edge};
use crate::tenants::{Quota, TenantSeat};
use crate::workers::Desk;

/// A head whose first octet came at the last moment has so long for the rest.
const LEAST_HEAD: Duration = Duration::from_millis(250);

/// Held as long as a connection is open, as a stream or before.
pub(super) struct Seat {
    _permit: OwnedSemaphorePermit,
    /// Among the connections of its address that are no streams yet.
    place: Mutex<Option<Place>>,
    desk: Arc<Desk>,
    /// Set by an answer that goes on for as long as the server does.
    looks_on: OnceLock<TaskTrackerToken>,
}

impl Seat {
    fn take(Entered { seat, place }: Entered, desk: Arc<Desk>) -> Arc<Self> {
        METRICS.connections.increment();
        let place = Mutex::new(place);
        Arc::new(Self { _permit: seat, place, desk, looks_on: OnceLock::new() })
    }

    /// It was let in: whoever let it in counts it from now on.
    pub(super) fn settle(&self) {
        self.put(None);
    }

    fn put(&self, place: Option<Place>) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    /// The place at the thread, which what goes on there keeps when the connection is gone.
    pub(super) fn desk(&self) -> Arc<Desk> {
        Arc::clone(&self.desk)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        METRICS.connections.decrement();
    }
}

/// Reads one request and answers it; an upgrade goes on in a task of its own.
pub(super) async fn serve<S: Streams, I: Io>(
    shared: Arc<Shared<S>>,
    io: I,
    peer: SocketAddr,
    entered: Entered,
    desk: Arc<Desk>,
) {
    let seat = Seat::take(entered, desk);
    let clock = Clock::start();
    let Some(io) = sorted(&shared, io, peer, &seat).await else { return };
    // One deadline for all of a head, its first octet included: what that took is taken off.
    let took = clock.now().since_epoch();
    let head_timeout = shared.limits.header_timeout.saturating_sub(took).max(LEAST_HEAD);
    let deadline = head_timeout + ANSWER_TIMEOUT;
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS);
    let kept = Arc::clone(&seat);
    let service = service_fn(move |request| {
        let (shared, seat) = (Arc::clone(&shared), Arc::clone(&seat));
        async move {
            let mut response = answer::<S, I>(&shared, request, peer, seat).await;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                // Not by hyper's `keep_alive(false)`, which would also rewrite the `Connection: upgrade` of a 101.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http.serve_connection(TokioIo::new(io), service).with_upgrades();
    let mut connection = pin!(connection);
    let ended = match tokio::time::timeout(deadline, &mut connection).await {
        Err(_elapsed) if kept.looks_on.get().is_some() => Ok(connection.await),
        ended => ended,
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => report(&Report::HttpFailed { peer, reason: &error.to_string() }),
        Err(_elapsed) => {
            report(&Report::HttpFailed { peer, reason: "the answer was not taken in time" });
        }
    }
}

/// Tells a connection over the cap to come back later, without reading what it wants.
pub(super) async fn refuse(mut io: impl Io, shortage: Shortage, retry_after: Duration) {
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: {}\r\n{REASON}: {}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        retry_after.as_secs(),
        shortage.name()
    );
    // A fresh connection has room for these few octets; a peer without any does not read them anyway.
    let written = tokio::time::timeout(Duration::from_secs(1), io.write_all(answer.as_bytes()));
    if let Ok(Ok(())) = written.await {
        linger(io).await;
    }
}

async fn answer<S: Streams, I: Io>(
    shared: &Arc<Shared<S>>,
    mut request: Request<Incoming>,
    peer: SocketAddr,
    seat: Arc<Seat>,
) -> Response<Body> {
    if let Err(refusal) = count_passed_on(shared, request.headers(), peer, &seat) {
        return refusal.into_response(shared.limits.retry_after);
    }
    let path = request.uri().path();
    if shared.streams.is_door(path) {
        return dial_in::answer::<S, I>(shared, request, peer, seat);
    }
    for (index, bounded) in shared.endpoints.iter().enumerate() {
        if let Some(point) = bounded.endpoint.answer.as_ref().filter(|point| point.path == path) {
            return webhook::answer(shared, index, point, request, peer).await;
        }
    }
    // An exact path first: it may look like a credential below another.
    let is_exact =
        |b: &Bounded| b.endpoint.transport != Transport::Records && b.endpoint.path == path;
    let exact = shared.endpoints.iter().position(is_exact);
    let index = exact.or_else(|| shared.endpoints.iter().position(|b| b.endpoint.takes(path)));
    let Some(index) = index else {
        if !shared.pages.may_see(path, peer, request.headers()) {
            return routes::not_found();
        }
        if path == routes::EVENTS_PATH {
            let _ = seat.looks_on.set(shared.onlookers.token());
        }
        let Ok(response) = shared.router.clone().call(request).await;
        return response;
    };
    if let Transport::Webhook { .. } = shared.endpoints[index].endpoint.transport {
        return posted::receive(shared, index, request, peer, &seat).await;
    }
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (parts, _body) = request.into_parts();
    let mut verdict = admit(shared, &shared.endpoints[index], &parts, peer);
    if verdict.as_ref().is_err_and(|refusal| refusal.may_change)
        && shared.streams.reconsider(&shared.endpoints[index].endpoint).await
    {
        verdict = admit(shared, &shared.endpoints[index], &parts, peer);
    }
    let verdict = match verdict {
        Ok(asked) => prepared(&*shared.streams, asked).await,
        Err(refusal) => Err(refusal),
    };
    match verdict {
        Ok(mut admitted) => {
            admitted.seats.begin();
            seat.settle();
            let response = handshake::switch(&admitted.accept, admitted.subprotocol.clone());
            let shared = Arc::clone(shared);
            let tasks = shared.tasks.clone();
            tasks.spawn(stream::<S, I>(shared, index, on_upgrade, admitted, peer, seat));
            response
        }
        Err(refusal) => {
            let listener = &shared.endpoints[index].endpoint.name;
            let Refusal { status, reason, .. } = &refusal;
            report(&Report::UpgradeRefused { listener, peer, status: *status, reason });
            refusal.into_response(shared.limits.retry_after)
        }
    }
}

/// Counts a connection by whom a proxy of ours passes on: nothing was known of them before.
fn count_passed_on<S: Streams>(
    shared: &Shared<S>,
    headers: &HeaderMap,
    peer: SocketAddr,
    seat: &Seat,
) -> Result<(), Refusal> {
    if !shared.is_proxy(peer.ip()) {
        return Ok(());
    }
    // What is no address is refused where addresses matter.
    let Some(client) = passed_on(&shared.proxies, peer, headers) else { return Ok(()) };
    if let Some(place) = shared.neighbours.take(client) {
        seat.put(Some(place));
        return Ok(());
    }
    let limit = shared.limits.max_connections_per_address;
    let reason = Shortage::Address.name();
    report_edge(&EdgeReport::ConnectionRefused { peer: SocketAddr::new(client, 0), reason, limit });
    Err(Refusal::overloaded(Shortage::Address, "as many connections of one address as allowed"))
}

/// A stream that was let in, and a place for it.
struct Asked<T> {
    admission: Admission<T>,
    accept: String,
    seats: Seats,
}

/// A stream that may begin.
struct Admitted<T> {
    state: T,
    accept: String,
    subprotocol: Option<HeaderValue>,
    seats: Seats,
}

/// Places taken by a stream: one of the server's and, where those are counted, one of its listener's. A guest has none.
#[derive(Default)]
pub(super) struct Seats {
    tenant: Option<TenantSeat>,
    _seats: [Option<OwnedSemaphorePermit>; 2],
}

impl Seats {
    /// The stream begins: from now on it counts as one of its tenant's that did.
    pub(super) fn begin(&mut self) {
        self.tenant.as_mut().map(TenantSeat::begin);
    }
}

/// Takes places for a stream, unless there are none left.
pub(super) fn seats<S: Streams>(shared: &Shared<S>, bounded: &Bounded) -> Result<Seats, Refusal> {
    may_begin(shared)?;
    let tenant = bounded.tenant.as_ref().map(|tenant| tenant.call()).transpose();
    let tenant = tenant.map_err(used_up)?;
    let seat = Arc::clone(&shared.live).try_acquire_owned();
    let seat = seat.map_err(|_| full(Shortage::Calls))?;
    let own = bounded.live.as_ref().map(|live| Arc::clone(live).try_acquire_owned());
    let own = own.transpose().map_err(|_| full(Shortage::ListenerCalls))?;
    Ok(Seats { tenant, _seats: [Some(seat), own] })
}

/// A tenant has none left.
pub(super) fn used_up(quota: Quota) -> Refusal {
    let shortage = match quota {
        Quota::Setups => Shortage::TenantSetups,
        Quota::Calls | Quota::Listeners => Shortage::TenantCalls,
    };
    Refusal::overloaded(shortage, "the tenant has as many as it may (`[[tenant]]`)")
}

/// Whether any call may begin now.
pub(super) fn may_begin<S: Streams>(shared: &Shared<S>) -> Result<(), Refusal> {
    if shared.shutdown.is_draining() {
        return Err(Refusal::overloaded(Shortage::Draining, "draining"));
    }
    shared.streams.room()
}

pub(super) fn full(shortage: Shortage) -> Refusal {
    Refusal::overloaded(shortage, "as many streams as allowed are open (`max_calls`)")
}

/// Checks in the order of cost: what a full or draining server has to say comes before any look at the request.
fn admit<S: Streams>(
    shared: &Shared<S>,
    bounded: &Bounded,
    parts: &Parts,
    peer: SocketAddr,
) -> Result<Asked<S::Admitted>, Refusal> {
    let (seats, guest) = match seats(shared, bounded) {
        Ok(seats) => (seats, None),
        Err(refusal) => match shared.streams.guest(&bounded.endpoint) {
            Some(guest) => (Seats::default(), Some((guest, refusal))),
            None => return Err(refusal),
        },
    };
    bounded.endpoint.sources.check(peer, &parts.headers)?;
    let accept = handshake::check(parts, &bounded.endpoint.origins)?;

    let headers = text_headers(parts)?;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let public_url = bounded.endpoint.public_url.as_deref();
    let upgrade = Upgrade { target, public_url, headers: &headers };
    let admission = match guest {
        None => shared.streams.admit(&bounded.endpoint, &upgrade, peer)?,
        Some((guest, full)) => {
            let admission = shared.streams.admit_guest(&bounded.endpoint, &upgrade, guest)?;
            admission.ok_or(full)?
        }
    };
    Ok(Asked { admission, accept, seats })
}

/// Has done what must be done before the answer, and knows the answer.
async fn prepared<S: Streams>(
    streams: &S,
    asked: Asked<S::Admitted>,
) -> Result<Admitted<S::Admitted>, Refusal> {
    let Asked { admission, accept, seats } = asked;
    let Admission { state, subprotocol } = streams.prepare(admission).await?;
    let subprotocol = subprotocol.map(|name| HeaderValue::from_str(&name)).transpose();
    let subprotocol = subprotocol.map_err(|error| Refusal {
        reason: format!("the chosen subprotocol is no header value: {error}"),
        ..Refusal::new(500, "internal error")
    })?;
    Ok(Admitted { state, accept, subprotocol, seats })
}

/// Header fields as text. Octets that are not UTF-8 would have to be guessed at; no provider sends any.
pub(crate) fn text_headers(parts: &Parts) -> Result<Vec<(&str, &str)>, Refusal> {
    let mut headers = Vec::with_capacity(parts.headers.len());
    for (name, value) in &parts.headers {
        let value = std::str::from_utf8(value.as_bytes())
            .map_err(|_| Refusal::new(400, format!("header field `{name}` is not UTF-8")))?;
        headers.push((name.as_str(), value));
    }
    Ok(headers)
}

/// Counts a stream while it lives, and tells if a fault of this program ends it.
struct Live<'a> {
    listener: &'a str,
    peer: SocketAddr,
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        METRICS.streams.decrement();
        if std::thread::panicking() {
            report(&Report::StreamPanicked { listener: self.listener, peer: self.peer });
        }
    }
}

async fn stream<S: Streams, I: Io>(
    shared: Arc<Shared<S>>,
    index: usize,
    on_upgrade: OnUpgrade,
    admitted: Admitted<S::Admitted>,
    peer: SocketAddr,
    _seat: Arc<Seat>,
) {
    let Admitted { state, subprotocol, seats: _seats, .. } = admitted;
    let socket = match on_upgrade.await {
        Ok(upgraded) => {
            let (io, read_ahead) = unwrap_io::<I>(upgraded);
            let subprotocol = subprotocol.and_then(|name| name.to_str().ok().map(str::to_owned));
            let options = shared.endpoints[index].endpoint.socket;
            Socket::accepted(io, &read_ahead, subprotocol, options)
        }
        Err(error) => return report(&Report::HttpFailed { peer, reason: &error.to_string() }),
    };
    let serving = pin!(shared.streams.serve(state, socket));
    attend(&shared, index, serving, peer).await;
}

/// Serves a stream to its end. Pinned by who holds it: handed over, a call's future would lie in the connection's twice.
pub(super) async fn attend<S: Streams>(
    shared: &Shared<S>,
    index: usize,
    serving: Pin<&mut impl Future<Output = ()>>,
    peer: SocketAddr,
) {
    METRICS.streams.increment();
    let _live = Live { listener: &shared.endpoints[index].endpoint.name, peer };
    tokio::select! {
        biased;
        () = serving => {}
        () = shared.abort.raised() => {}
    }
    if shared.shutdown.is_cut() {
        shared.cut.fetch_add(1, Ordering::Release);
    }
}

/// The connection without the wrapping HTTP needed, which would cost an indirection for every read of a call.
pub(super) fn unwrap_io<I: Io>(upgraded: hyper::upgrade::Upgraded) -> (Box<dyn Io>, Bytes) {
    match upgraded.downcast::<TokioIo<Rewound<I>>>() {
        Ok(parts) => (Box::new(parts.io.into_inner().io), parts.read_buf),
        Err(wrapped) => (Box::new(TokioIo::new(wrapped)), Bytes::new()),
    }
}
