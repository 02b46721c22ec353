//! `GET /events` on the operator's side: Server-Sent Events, or a WebSocket over HTTP/1.1 or HTTP/2. What happens is told by
//! [`crate::events`]; who may hear it was decided before.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Query;
use axum::http::{HeaderValue, Method, Request, Response, Version, header};
use axum::response::IntoResponse as _;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::unfold;
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use ringback_proto::provider::Secret;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::Operator;
use super::access::Principal;
use super::answer::Problem;
use super::connection::Busy;
use crate::events::Subscription;
use crate::listener::handshake;
use crate::socket::{Incoming as Came, Outgoing, Socket, SocketOptions, close_code};
use crate::telemetry::METRICS;
use crate::tenants::TenantListener;

/// Largest message taken of a listener, who has nothing to say.
const MAX_MESSAGE: usize = 4 * 1024;

/// How a request asks for a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    /// It does not.
    Plain,
    /// RFC 6455.
    Upgrade,
    /// RFC 8441: CONNECT with a protocol.
    Connect,
}

impl Asks {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let protocol = request.extensions().get::<Protocol>().map(Protocol::as_str);
        match (request.method(), protocol) {
            (&Method::CONNECT, Some("websocket")) => Self::Connect,
            _ if request.version() < Version::HTTP_2
                && request.headers().contains_key(header::UPGRADE) =>
            {
                Self::Upgrade
            }
            _ => Self::Plain,
        }
    }
}

/// What a listener may ask for.
#[derive(Deserialize)]
struct Which {
    /// Only this call, by our name or the provider's.
    call: Option<String>,
}

/// Held as long as somebody listens.
struct Listening {
    _permit: OwnedSemaphorePermit,
    _own: Option<TenantListener>,
    _busy: Busy,
}

impl Listening {
    fn begin(permit: OwnedSemaphorePermit, own: Option<TenantListener>, busy: Busy) -> Self {
        METRICS.operator_listeners.increment();
        Self { _permit: permit, _own: own, _busy: busy }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        METRICS.operator_listeners.decrement();
    }
}

type Revoked = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tells `who` from now on what happens, for as long as the token opens it.
pub(super) fn listen(
    operator: &Arc<Operator>,
    mut request: Request<Incoming>,
    asks: Asks,
    who: &Principal,
    busy: Busy,
) -> Result<Response<Body>, Problem> {
    let which = Query::<Which>::try_from_uri(request.uri());
    let Query(Which { call }) =
        which.map_err(|error| Problem::new(400, "bad_query", error.to_string()))?;
    let on_upgrade = (asks != Asks::Plain).then(|| hyper::upgrade::on(&mut request));
    let (parts, _body) = request.into_parts();
    let mut response = match asks {
        Asks::Plain => None,
        Asks::Upgrade => match handshake::check(&parts, &operator.origins) {
            Ok(accept) => Some(handshake::switch(&accept, subprotocol(who))),
            Err(refusal) => return Ok(refusal.into_response(operator.retry_after)),
        },
        Asks::Connect => Some(connected(&parts, who)?),
    };
    let permit = Arc::clone(&operator.listeners).try_acquire_owned();
    let permit = permit.map_err(|_| {
        let message = "as many listen as may";
        Problem::later("too_many_listeners", message, operator.retry_after)
    })?;
    let tenant = who.tenant.as_deref().and_then(|name| operator.tenants.find(name));
    let own = tenant.map(|tenant| tenant.listener()).transpose().map_err(|quota| {
        let message = "as many listen as this tenant may have";
        Problem::later(quota.name(), message, operator.retry_after)
    })?;
    let listening = Listening::begin(permit, own, busy);
    let subscription = operator.events.subscribe_as(call, who.tenant.clone());
    let revoked: Revoked = Box::pin(operator.access.revoked(who));
    let (Some(response), Some(on_upgrade)) = (response.take(), on_upgrade) else {
        return Ok(lines(subscription, revoked, listening));
    };
    let subprotocol = who.subprotocol.as_ref().map(|name| name.expose().to_owned());
    operator.tasks.spawn(async move {
        // One that is gone before has heard nothing.
        let Ok(upgraded) = on_upgrade.await else { return };
        let options = SocketOptions { max_message: MAX_MESSAGE, ..SocketOptions::default() };
        let io = Box::new(TokioIo::new(upgraded));
        tell(Socket::accepted(io, &[], subprotocol, options), subscription, revoked).await;
        drop(listening);
    });
    Ok(response)
}

/// A token that came as a subprotocol must be answered with it: a browser takes no other yes.
fn subprotocol(who: &Principal) -> Option<HeaderValue> {
    let name = who.subprotocol.as_ref().map(Secret::expose)?;
    let mut value = HeaderValue::from_str(name).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The yes to a WebSocket over HTTP/2 (RFC 8441, section 5).
fn connected(
    parts: &axum::http::request::Parts,
    who: &Principal,
) -> Result<Response<Body>, Problem> {
    if parts.headers.get(header::SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes) != Some(b"13") {
        let message = "only version 13 of the WebSocket protocol is spoken";
        return Err(Problem::new(400, "handshake", message));
    }
    let mut response = Response::new(Body::empty());
    if let Some(name) = subprotocol(who) {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, name);
    }
    Ok(response)
}

/// As Server-Sent Events. A comment every 15 s keeps proxies awake and finds listeners that are gone.
fn lines(subscription: Subscription, revoked: Revoked, listening: Listening) -> Response<Body> {
    let state = (subscription, revoked, listening);
    let lines = unfold(state, |(mut subscription, mut revoked, listening)| async move {
        let json = tokio::select! {
            biased;
            () = &mut revoked => None,
            json = subscription.next() => json,
        }?;
        let event = Event::default().data(json);
        Some((Ok::<_, Infallible>(event), (subscription, revoked, listening)))
    });
    Sse::new(lines).keep_alive(KeepAlive::new()).into_response()
}

/// As messages of text, one each. What the listener says means nothing, but that it closes.
async fn tell(mut socket: Socket, mut subscription: Subscription, mut revoked: Revoked) {
    let (code, reason) = loop {
        tokio::select! {
            biased;
            () = &mut revoked => break (close_code::POLICY, "the token opens this no longer".into()),
            came = socket.recv() => match came {
                Some(Ok(Came::Close(_))) => break (close_code::NORMAL, String::new()),
                Some(Ok(_)) => {}
                Some(Err(error)) => match error.close_code() {
                    Some(code) => break (code, error.to_string()),
                    None => return,
                },
                None => return,
            },
            json = subscription.next() => {
                let Some(json) = json else {
                    break (close_code::GOING_AWAY, "the bridge ends".into());
                };
                // One that does not read is not waited for: its connection is beyond use.
                if socket.send(Outgoing::Text(&json)).await.is_err() {
                    return;
                }
            }
        }
    };
    socket.close(code, &reason).await;
}
