//! Upgrades of modules that dial in. They are no streams: they count as connections only, and live as long as the server has calls.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use ringback_proto::provider::Upgrade;

use super::connection::{Seat, text_headers, unwrap_io};
use super::{Entry, Refusal, Shared, Streams, handshake};
use crate::net::Io;
use crate::socket::Socket;
use crate::telemetry::{Report, report};

/// Answers a request at a path where modules dial in. Also while draining: calls that go on may need a module anew.
pub(super) fn answer<S: Streams, I: Io>(
    shared: &Arc<Shared<S>>,
    mut request: Request<Incoming>,
    peer: SocketAddr,
    seat: Arc<Seat>,
) -> Response<Body> {
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (parts, _body) = request.into_parts();
    let (accept, Entry { subprotocol, socket, serve }) = match admit(shared, &parts, peer) {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.into_response(shared.limits.retry_after),
    };
    seat.settle();
    shared.onlookers.spawn(async move {
        match on_upgrade.await {
            Ok(upgraded) => {
                let (io, read_ahead) = unwrap_io::<I>(upgraded);
                let name = Some(subprotocol.to_owned());
                serve(Socket::accepted(io, &read_ahead, name, socket)).await;
            }
            Err(error) => report(&Report::HttpFailed { peer, reason: &error.to_string() }),
        }
        drop(seat);
    });
    handshake::switch(&accept, Some(HeaderValue::from_static(subprotocol)))
}

fn admit<S: Streams>(
    shared: &Shared<S>,
    parts: &Parts,
    peer: SocketAddr,
) -> Result<(String, Entry), Refusal> {
    let accept = handshake::check(parts, &[])?;
    let headers = text_headers(parts)?;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let upgrade = Upgrade { target, public_url: None, headers: &headers };
    Ok((accept, shared.streams.enter(&upgrade, peer)?))
}
