//! The other side of plain HTTP: providers that ask what to do with a call, answered with a document. Who may ask and what they are
//! told is [`Streams::answer`]'s part.

use std::net::SocketAddr;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method as HttpMethod, Request, Response, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use ringback_proto::provider::Webhook;
use ringback_proto::provider::answer::Method;

use super::connection::{full, may_begin, text_headers, used_up};
use super::{Bounded, Refusal, Shared, Shortage, Streams};
use crate::telemetry::{Report, report};

/// Largest body of a webhook; those of providers have a few kilobytes.
const MAX_BODY: usize = 64 * 1024;

/// Where an endpoint's calls are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerPoint {
    /// Path, matched exactly.
    pub path: String,
    /// URL that the provider was told to ask, over which signatures are computed.
    pub public_url: String,
    /// Whether a request without credentials is told to bring them.
    pub challenges: bool,
}

/// What a provider is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Its media type.
    pub content_type: &'static str,
    /// The document.
    pub document: String,
    /// The provider's name for the call, in its own words.
    pub call: Option<String>,
    /// Whether a stream is asked for, and not something noted.
    pub begins: bool,
}

/// Answers a request at the `point` of the endpoint of that index.
pub(super) async fn answer<S: Streams>(
    shared: &Shared<S>,
    index: usize,
    point: &AnswerPoint,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Response<Body> {
    let bounded = &shared.endpoints[index];
    let listener = &bounded.endpoint.name;
    match decide(shared, bounded, point, request, peer).await {
        Ok(answered) => {
            let call = answered.call.as_deref().unwrap_or_default();
            report(&Report::WebhookAnswered { listener, peer, call, begins: answered.begins });
            let mut response = Response::new(Body::from(answered.document));
            let headers = response.headers_mut();
            let kind = HeaderValue::from_static(answered.content_type);
            headers.insert(header::CONTENT_TYPE, kind);
            // It is for one call, and the stream's credential may be in it.
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(refusal) => {
            let Refusal { status, reason, .. } = &refusal;
            report(&Report::WebhookRefused { listener, peer, status: *status, reason });
            let status = refusal.status;
            let mut response = refusal.into_response(shared.limits.retry_after);
            let headers = response.headers_mut();
            match status {
                401 => {
                    let basic = HeaderValue::from_static("Basic realm=\"ringback\"");
                    headers.insert(header::WWW_AUTHENTICATE, basic);
                }
                405 => {
                    headers.insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
                }
                _ => {}
            }
            response
        }
    }
}

/// Checks in the order of cost, the body last.
async fn decide<S: Streams>(
    shared: &Shared<S>,
    bounded: &Bounded,
    point: &AnswerPoint,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Answered, Refusal> {
    let (parts, body) = request.into_parts();
    bounded.endpoint.sources.check(peer, &parts.headers)?;
    let method = method(&parts)?;
    let headers = text_headers(&parts)?;
    let body = read(shared, body).await?;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let webhook =
        Webhook { method, target, public_url: &point.public_url, headers: &headers, body: &body };
    if method == Method::Post && !body.is_empty() && webhook.body_kind().is_none() {
        let help = "a form (application/x-www-form-urlencoded) or JSON (application/json) is read";
        return Err(Refusal::new(415, help));
    }
    let room = has_room(shared, bounded);
    let answered = shared.streams.answer(&bounded.endpoint, &webhook, room);
    answered.map_err(|refusal| match refusal.status {
        // There is nothing to bring that would help, unless it is user and password.
        401 if !point.challenges => Refusal { status: 403, ..refusal },
        _ => refusal,
    })
}

/// Whether a stream would be taken now. A call whose stream would be refused is not told to open one: by this 503 the provider turns
/// to its fallback address, which may be another bridge, and by a document that rejects the call it would not.
fn has_room<S: Streams>(shared: &Shared<S>, bounded: &Bounded) -> Result<(), Refusal> {
    may_begin(shared)?;
    bounded.tenant.as_ref().map_or(Ok(()), |tenant| tenant.has_room()).map_err(used_up)?;
    if shared.live.available_permits() == 0 {
        return Err(full(Shortage::Calls));
    }
    match &bounded.live {
        Some(live) if live.available_permits() == 0 => Err(full(Shortage::ListenerCalls)),
        _ => Ok(()),
    }
}

fn method(parts: &Parts) -> Result<Method, Refusal> {
    match parts.method {
        HttpMethod::GET => Ok(Method::Get),
        HttpMethod::POST => Ok(Method::Post),
        _ => Err(Refusal::new(405, "calls are asked for by GET or POST")),
    }
}

/// The whole body, as long as it is neither large nor slow.
pub(super) async fn read<S>(shared: &Shared<S>, body: Incoming) -> Result<Bytes, Refusal> {
    let large = || Refusal::new(413, format!("a body may have {MAX_BODY} octets"));
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(large());
    }
    let whole = Limited::new(body, MAX_BODY).collect();
    match tokio::time::timeout(shared.limits.header_timeout, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(large()),
        Ok(Err(error)) => Err(Refusal {
            reason: format!("the body cannot be read: {error}"),
            ..Refusal::new(400, "the body cannot be read")
        }),
        Err(_elapsed) => Err(Refusal::new(408, "the body did not come in time")),
    }
}
