//! Requests of providers that post that a call is there, for us to dial: read, checked and answered at once. What they mean is
//! [`Streams::posted`]'s part. Dials nobody.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use ringback_proto::provider::Upgrade;

use super::connection::{Seat, Seats, attend, seats, text_headers};
use super::{Posting, Refusal, Shared, Streams, handshake, webhook};
use crate::telemetry::{Report, report};

/// Answers a request to the endpoint of that index, and begins the call that it may be about.
pub(super) async fn receive<S: Streams>(
    shared: &Arc<Shared<S>>,
    index: usize,
    request: Request<Incoming>,
    peer: SocketAddr,
    seat: &Seat,
) -> Response<Body> {
    match decide(shared, index, request, peer).await {
        Ok(Posting::Taken) => Response::new(Body::empty()),
        Ok(Posting::Answer(json)) => {
            let mut response = Response::new(Body::from(json));
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Ok(Posting::Call((state, mut seats))) => {
            seats.begin();
            let shared = Arc::clone(shared);
            let tasks = shared.tasks.clone();
            // A call is counted by its own places, and goes on where it began; the connection ends with its answer.
            let desk = seat.desk();
            tasks.spawn(async move {
                // Let go of last: a call that is dropped has them until then.
                let _places = (seats, desk);
                let serving = pin!(shared.streams.serve_posted(state));
                attend(&shared, index, serving, peer).await;
            });
            Response::new(Body::empty())
        }
        Err(refusal) => {
            let listener = &shared.endpoints[index].endpoint.name;
            let Refusal { status, reason, .. } = &refusal;
            report(&Report::UpgradeRefused { listener, peer, status: *status, reason });
            let status = refusal.status;
            let mut response = refusal.into_response(shared.limits.retry_after);
            if status == 405 {
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            response
        }
    }
}

/// Checks in the order of cost, the body last. Places are taken only for what begins a call: what is posted about one that is there
/// is heard by a full server, too.
async fn decide<S: Streams>(
    shared: &Shared<S>,
    index: usize,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Posting<(S::Admitted, Seats)>, Refusal> {
    let bounded = &shared.endpoints[index];
    let (parts, body) = request.into_parts();
    bounded.endpoint.sources.check(peer, &parts.headers)?;
    if parts.method != Method::POST {
        return Err(Refusal::new(405, "calls are posted here"));
    }
    let host = handshake::single(&parts.headers, &header::HOST)?;
    handshake::check_origin(&parts.headers, host, &bounded.endpoint.origins)?;
    let headers = text_headers(&parts)?;
    let body = webhook::read(shared, body).await?;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let public_url = bounded.endpoint.public_url.as_deref();
    let request = Upgrade { target, public_url, headers: &headers };
    let mut verdict = shared.streams.posted(&bounded.endpoint, &request, &body);
    if verdict.as_ref().is_err_and(|refusal| refusal.may_change)
        && shared.streams.reconsider(&bounded.endpoint).await
    {
        verdict = shared.streams.posted(&bounded.endpoint, &request, &body);
    }
    Ok(match verdict? {
        Posting::Taken => Posting::Taken,
        Posting::Answer(json) => Posting::Answer(json),
        Posting::Call(state) => Posting::Call((state, seats(shared, bounded)?)),
    })
}
