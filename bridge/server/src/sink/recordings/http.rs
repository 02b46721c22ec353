//! What an object store asks others through: a connection of the bridge's own for each request. Knows nothing of objects.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};

use crate::outgoing::{Connector, Peer, authority};

/// A request and its answer, the body of either included, take no longer.
const DEADLINE: Duration = Duration::from_secs(120);
/// Octets of an answer that are taken: nothing is ever fetched.
const MOST_ANSWER: usize = 1024 * 1024;

/// Opens connections through the bridge's connector.
#[derive(Debug, Clone)]
pub(super) struct Outgoing(pub(super) Arc<Connector>);

impl HttpConnector for Outgoing {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Outgoing {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answered = tokio::time::timeout(DEADLINE, answer(&self.0, request)).await;
        answered.unwrap_or_else(|late| Err(HttpError::new(HttpErrorKind::Timeout, late)))
    }
}

async fn answer(connector: &Connector, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    let (mut head, body) = request.into_parts();
    let peer = peer(&head.uri).map_err(|e| other(HttpErrorKind::Unknown, e))?;
    let host = head.uri.authority().map(ToString::to_string).unwrap_or_default();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = path.parse().map_err(|e| HttpError::new(HttpErrorKind::Unknown, e))?;
    if !head.headers.contains_key(HOST) {
        let host = host.parse().map_err(|e| HttpError::new(HttpErrorKind::Unknown, e))?;
        head.headers.insert(HOST, host);
    }
    let io = connector.connect(&peer).await;
    let io = io.map_err(|error| HttpError::new(HttpErrorKind::Connect, error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
    let asked = async {
        let answer = sender.send_request(Request::from_parts(head, body)).await;
        let (head, body) = answer.map_err(broken)?.into_parts();
        let body = Limited::new(body, MOST_ANSWER).collect().await;
        let body = body.map_err(|error| HttpError::new_boxed(HttpErrorKind::Interrupted, error))?;
        Ok(HttpResponse::from_parts(head, Bytes::into(body.to_bytes())))
    };
    let mut asked = std::pin::pin!(asked);
    tokio::select! {
        answer = &mut asked => answer,
        // It ends before the answer is taken where the body ends with the connection.
        ended = connection => match ended {
            Ok(()) => asked.await,
            Err(error) => Err(broken(error)),
        },
    }
}

fn peer(uri: &Uri) -> Result<Peer, String> {
    let secure = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("the address is no URL".into()),
    };
    let host = uri.authority().ok_or("the address names no host")?;
    let authority = authority(host.as_str(), if secure { 443 } else { 80 })?;
    Ok(Peer { authority, secure })
}

fn broken(error: hyper::Error) -> HttpError {
    let kind = if error.is_timeout() { HttpErrorKind::Timeout } else { HttpErrorKind::Interrupted };
    HttpError::new(kind, error)
}

fn other(kind: HttpErrorKind, reason: String) -> HttpError {
    HttpError::new_boxed(kind, reason.into())
}
