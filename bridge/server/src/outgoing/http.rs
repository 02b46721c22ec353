//! One HTTP/1.1 request to somebody else and its answer: deadlines, a bounded body, a connection of its own. Follows no redirect,
//! sends nothing twice and keeps no connection.

use std::error::Error;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;

use super::{ConnectError, Connector, Peer, host_field, parts};
use ringback_proto::provider::Secret;

/// Who asks.
const AGENT: &str = concat!("ringback/", env!("CARGO_PKG_VERSION"));

/// Where a server answers: `https://host[:port]/path`, or `http://` on this very machine. Prints without its query, which may hold a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    peer: Peer,
    target: String,
}

impl Url {
    /// Whom to connect to.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Path and query.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The same server and what is behind `path`, which is appended as it stands.
    #[must_use]
    pub fn join(&self, path: &str) -> Self {
        let target = format!("{}{path}", self.target.trim_end_matches('/'));
        Self { peer: self.peer.clone(), target }
    }

    fn host(&self) -> &str {
        host_field(&self.peer.authority, self.peer.secure)
    }
}

impl std::str::FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (secure, rest, port) =
            match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
                (Some(rest), _) => (true, rest, 443),
                (_, Some(rest)) => (false, rest, 80),
                _ => return Err("does not begin with https://".into()),
            };
        let (authority, target) = parts(rest, port)?;
        let peer = Peer { authority, secure };
        let here = peer.host() == "localhost"
            || peer.host().parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        if !secure && !here {
            return Err("begins with http://: keys and secrets go over https:// only, except on this machine".into());
        }
        Ok(Self { peer, target })
    }
}

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.peer.secure { "https" } else { "http" };
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "{scheme}://{}{path}", self.host())
    }
}

/// What to ask.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// Method.
    pub method: Method,
    /// Where.
    pub url: &'a Url,
    /// Value of the `Authorization` field.
    pub authorization: Option<&'a Secret>,
    /// More fields, by their names in lower case.
    pub headers: &'a [(&'static str, &'a str)],
    /// Type and text of the body.
    pub body: Option<(&'static str, String)>,
}

/// What a request is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// From the first octet of the name's look-up to the last of the answer.
    pub deadline: Duration,
    /// Octets of the answer's body.
    pub body: usize,
}

/// What the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`, where it is a number of seconds.
    pub retry_after: Option<Duration>,
    /// `max-age` of `Cache-Control`; zero where it says `no-store` or `no-cache`.
    pub max_age: Option<Duration>,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// There is no connection.
    #[error("cannot connect: {0}")]
    Connect(#[from] ConnectError),
    /// Not all of the answer came in time.
    #[error("no whole answer in {0:?}")]
    Deadline(Duration),
    /// More came than is taken.
    #[error("the answer is longer than {0} octets")]
    TooLong(usize),
    /// What came is no answer, or the line was cut.
    #[error("no HTTP answer: {0}")]
    Broken(String),
}

/// Asks, and takes the answer as it is: what its status means is the caller's to say.
///
/// # Errors
/// If no whole answer came within bounds.
pub async fn ask(
    connector: &Connector,
    ask: &Ask<'_>,
    bounds: Bounds,
) -> Result<Answer, HttpError> {
    let asked = tokio::time::timeout(bounds.deadline, answer(connector, ask, bounds.body));
    asked.await.unwrap_or(Err(HttpError::Deadline(bounds.deadline)))
}

async fn answer(connector: &Connector, ask: &Ask<'_>, limit: usize) -> Result<Answer, HttpError> {
    let request = request(ask)?;
    let io = connector.connect(&ask.url.peer).await?;
    let broken = |error: hyper::Error| HttpError::Broken(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
    let mut connection = std::pin::pin!(connection);
    let asked = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        taken(response, limit).await
    };
    let mut asked = std::pin::pin!(asked);
    tokio::select! {
        answer = &mut asked => answer,
        // It ends before the answer is taken where the body ends with the connection.
        ended = &mut connection => match ended {
            Ok(()) => asked.await,
            Err(error) => Err(broken(error)),
        },
    }
}

fn request(ask: &Ask<'_>) -> Result<Request<Body>, HttpError> {
    let wrong = |what: &str| HttpError::Broken(format!("the request's {what} cannot be written"));
    let mut request = Request::builder()
        .method(&ask.method)
        .uri(&ask.url.target)
        .header(HOST, ask.url.host())
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "application/json");
    if let Some(secret) = ask.authorization {
        let mut value = HeaderValue::from_str(secret.expose()).map_err(|_| wrong("credential"))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    for (name, value) in ask.headers {
        request = request.header(*name, *value);
    }
    let body = match &ask.body {
        Some((kind, text)) => {
            request = request.header(CONTENT_TYPE, *kind);
            Body::from(text.clone())
        }
        None => Body::empty(),
    };
    request.body(body).map_err(|_| wrong("path"))
}

async fn taken(response: Response<Incoming>, limit: usize) -> Result<Answer, HttpError> {
    let (head, body) = response.into_parts();
    let seconds = |text: &str| text.trim().parse().ok().map(Duration::from_secs);
    let retry_after = field(&head.headers, RETRY_AFTER.as_str()).and_then(seconds);
    let max_age = field(&head.headers, CACHE_CONTROL.as_str()).and_then(max_age);
    let body = to_bytes(Body::new(body), limit).await.map_err(|error| {
        let mut cause: Option<&dyn Error> = Some(&error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<hyper::Error>() {
                return HttpError::Broken(error.to_string());
            }
            cause = error.source();
        }
        HttpError::TooLong(limit)
    })?;
    Ok(Answer { status: head.status.as_u16(), retry_after, max_age, body })
}

fn field<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// How long an answer may be kept (RFC 9111, 5.2.2), if it says.
fn max_age(cache_control: &str) -> Option<Duration> {
    let mut directives = cache_control.split(',').map(str::trim);
    let is = |directive: &str, name: &str| directive.eq_ignore_ascii_case(name);
    if directives.clone().any(|d| is(d, "no-store") || is(d, "no-cache")) {
        return Some(Duration::ZERO);
    }
    let seconds = directives.find_map(|directive| {
        let (name, value) = directive.split_once('=')?;
        is(name.trim(), "max-age").then(|| value.trim().trim_matches('"').parse().ok())?
    });
    seconds.map(Duration::from_secs)
}

#[cfg(test)]
mod tests;
