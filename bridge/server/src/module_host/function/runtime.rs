//! The runtime's side of the clients' protocol, on one connection: jobs are asked for, results and schemas posted. Accepts no connection
//! and starts no program.
//!
//! # Sources
//! The clients themselves, `foundry-compute-modules` on PyPI and `@palantir/compute-module` on npm (version 1 of the protocol, over
//! HTTPS or HTTP), Palantir's documentation of custom clients, and `palantir/java-compute-module` (version 2, over HTTP).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, TRANSFER_ENCODING, USER_AGENT};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use ringback_proto::provider::Secret;
use serde::Serialize;
use serde_json::Value;
use subtle::ConstantTimeEq as _;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::board::{Board, Job, Outcome, Post};
use super::envelope;
use super::values::{self, Values};
use crate::clock::Clock;
use crate::net::Io;
use crate::telemetry::PeerText;

/// A poll waits so long for work; the clients ask again at once.
const LONG_POLL: Duration = Duration::from_secs(5);
/// Octets of a result that comes as a whole, and of one value of a stream.
const MAX_RESULT: usize = 16 * 1024 * 1024;
/// Octets of what a program tells of its functions.
const MAX_SCHEMAS: usize = 1024 * 1024;
/// A client has so long to send the head of its request.
const HEAD: Duration = Duration::from_secs(10);
/// What nobody wants is read for so long.
const LATE: Duration = Duration::from_secs(60);
/// Carries the contents of the token's file.
const TOKEN: &str = "Module-Auth-Token";
/// Where version 1 of the protocol has its paths.
pub(super) const V1: &str = "/interactive-module/api/internal-query";

/// One replica as its connections see it.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) board: Arc<Board>,
    pub(super) replica: usize,
    pub(super) clock: Clock,
    /// Name of the module, for the log.
    pub(super) module: String,
    /// What each request must bring, in a field of its header or, for clients that send none, as the first part of its path.
    pub(super) token: Secret,
}

/// Versions of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// The connection is to end here, without an answer.
#[derive(Debug, thiserror::Error)]
#[error("nobody waits for this result any more")]
struct Cut;

/// What a client does whose result nobody wants any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manners {
    /// Goes on with the next value on a new connection, five times, then reports an error and is free: the only cancel that the
    /// Python client understands (0.34.0).
    TriesAgain,
    /// Ends its whole process, so its stream is read to the end (TypeScript, 0.2.7), as that of a client nobody knows.
    GivesUp,
}

impl Manners {
    fn of(headers: &HeaderMap) -> Self {
        let agent =
            headers.get(USER_AGENT).map(hyper::header::HeaderValue::as_bytes).unwrap_or_default();
        if agent.starts_with(b"python-requests") { Self::TriesAgain } else { Self::GivesUp }
    }
}

/// Serves a connection of a replica to its end.
pub(super) async fn serve(io: impl Io, desk: Arc<Desk>) {
    let service = service_fn(|request| desk.answer(request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        // Head and body in one piece: in two, each small answer waits for the acknowledgement of the first.
        .writev(false)
        .serve_connection(TokioIo::new(io), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(
            module = desk.module,
            replica = desk.replica,
            "a connection ended: {error}"
        );
    }
}

type Answer = Response<Full<Bytes>>;

impl Desk {
    async fn answer(&self, request: Request<Incoming>) -> Result<Answer, Cut> {
        let Some((version, rest)) = self.route(&request) else {
            tracing::warn!(
                module = self.module,
                replica = self.replica,
                "a request without the replica's token was refused"
            );
            return Ok(plain(StatusCode::UNAUTHORIZED));
        };
        let rest = rest.to_owned();
        match (request.method(), rest.as_str()) {
            (&Method::GET, "job") => Ok(self.job(version).await),
            (&Method::POST, "schemas") => Ok(self.schemas(request).await),
            (&Method::POST, "restart-notify") => Ok(self.restarted()),
            (&Method::POST, rest) => match rest.strip_prefix("results/") {
                Some(id) => {
                    let taken = self.result(id, request).await;
                    taken.map(|()| {
                        plain(if version == Version::V1 {
                            StatusCode::NO_CONTENT
                        } else {
                            StatusCode::ACCEPTED
                        })
                    })
                }
                None => Ok(plain(StatusCode::NOT_FOUND)),
            },
            _ => Ok(plain(StatusCode::NOT_FOUND)),
        }
    }

    /// What is asked for, of who may ask.
    fn route<'r>(&self, request: &'r Request<Incoming>) -> Option<(Version, &'r str)> {
        let path = request.uri().path();
        let field = request.headers().get(TOKEN).map(hyper::header::HeaderValue::as_bytes);
        if field.is_some_and(|field| self.is_token(field)) {
            let path = path
                .strip_prefix(V1)
                .map(|rest| (Version::V1, rest))
                .unwrap_or((Version::V2, path));
            return Some((path.0, path.1.trim_start_matches('/')));
        }
        let (token, rest) = path.strip_prefix('/')?.split_once('/')?;
        self.is_token(token.as_bytes()).then_some((Version::V2, rest))
    }

    fn is_token(&self, given: &[u8]) -> bool {
        given.ct_eq(self.token.expose().as_bytes()).into()
    }

    /// Waits for a job. The first time there is no waiting: the TypeScript client tells its functions after the first answer.
    async fn job(&self, version: Version) -> Answer {
        let wait = if self.board.has_polled(self.replica) { LONG_POLL } else { Duration::ZERO };
        self.board.seen(self.replica, None);
        match timeout(wait, self.next_job()).await {
            Ok(job) => handed_out(&job, version),
            Err(_) => plain(StatusCode::NO_CONTENT),
        }
    }

    async fn next_job(&self) -> Arc<Job> {
        let _polling = self.board.polling(self.replica);
        loop {
            let mut work = std::pin::pin!(self.board.work.notified());
            // From here on nothing is missed.
            work.as_mut().enable();
            if let Some(job) = self.board.lease(self.clock.now(), self.replica) {
                return job;
            }
            work.await;
        }
    }

    async fn schemas(&self, request: Request<Incoming>) -> Answer {
        let Ok(body) = Limited::new(request.into_body(), MAX_SCHEMAS).collect().await else {
            tracing::warn!(module = self.module, "what it told of its functions cannot be read");
            return plain(StatusCode::NO_CONTENT);
        };
        let schemas: Vec<Value> = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        let names = schemas.iter().filter_map(|schema| schema["functionName"].as_str());
        self.board.seen(self.replica, Some(names.map(str::to_owned).collect()));
        plain(StatusCode::NO_CONTENT)
    }

    /// The program has begun anew: what it had is lost.
    fn restarted(&self) -> Answer {
        let lost = self.board.lost(self.replica, "its program was started again");
        if !lost.is_empty() {
            tracing::warn!(
                module = self.module,
                replica = self.replica,
                jobs = lost.len(),
                "began anew and lost its jobs"
            );
        }
        with_json(&lost)
    }

    /// Takes a result in, whatever becomes of it.
    async fn result(&self, id: &str, request: Request<Incoming>) -> Result<(), Cut> {
        let (head, body) = request.into_parts();
        let is_streamed = head.headers.contains_key(TRANSFER_ENCODING);
        match self.board.posted(self.replica, id) {
            Post::Late => {
                tracing::debug!(module = self.module, job = id, "a result that nobody waits for");
                discard(body).await
            }
            Post::Abandoned => {
                self.turn_away(id, is_streamed, Manners::of(&head.headers), body).await
            }
            Post::Wanted { job, values, was_cut } if is_streamed => {
                self.stream(&job, values, was_cut, Manners::of(&head.headers), body).await
            }
            Post::Wanted { job, values, .. } => self.whole(&job, &values, body).await,
        }
    }

    async fn turn_away(
        &self,
        id: &str,
        is_streamed: bool,
        manners: Manners,
        body: Incoming,
    ) -> Result<(), Cut> {
        if is_streamed && manners == Manners::TriesAgain {
            return Err(Cut);
        }
        discard(body).await?;
        self.board.settle(id, Outcome::Answered);
        Ok(())
    }

    /// A result in one piece.
    async fn whole(
        &self,
        job: &Job,
        values: &mpsc::Sender<Value>,
        body: Incoming,
    ) -> Result<(), Cut> {
        let mut body = body;
        let mut octets = Vec::new();
        let mut is_too_long = false;
        while let Some(frame) = body.frame().await {
            // The client sends the whole of it again.
            let Ok(frame) = frame else { return Err(Cut) };
            let data = frame.into_data().unwrap_or_default();
            is_too_long |= octets.len() + data.len() > MAX_RESULT;
            if !is_too_long {
                octets.extend_from_slice(&data);
            }
        }
        if is_too_long {
            self.settle(job, Err(format!("its answer has more than {MAX_RESULT} octets")));
            return Ok(());
        }
        // A handler that returns nothing sends nothing.
        let value = if octets.is_empty() { Ok(Value::Null) } else { values::whole(&octets) };
        let outcome = match value.map_err(|error| error.to_string()) {
            Ok(value) => match envelope::failure(&value) {
                Some(reason) => Err(reason),
                None => {
                    self.pass_on(job, values, value, false).await;
                    Ok(())
                }
            },
            Err(reason) => Err(reason),
        };
        self.settle(job, outcome);
        Ok(())
    }

    /// A result as it is made.
    async fn stream(
        &self,
        job: &Job,
        sender: mpsc::Sender<Value>,
        was_cut: bool,
        manners: Manners,
        mut body: Incoming,
    ) -> Result<(), Cut> {
        job.streams();
        let (mut values, mut came, mut is_empty) = (Values::new(MAX_RESULT), Vec::new(), true);
        loop {
            let frame = tokio::select! {
                biased;
                () = job.abandoned() => {
                    drop(sender);
                    return self.turn_away(&job.id, true, manners, body).await;
                }
                frame = body.frame() => frame,
            };
            let read = match frame {
                // Without the end of its encoding a stream was cut.
                Some(Err(_)) => {
                    self.board.was_cut(self.clock.now(), &job.id);
                    return Err(Cut);
                }
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    is_empty &= data.is_empty();
                    values.push(&data, &mut came).and_then(|()| values.edge(&mut came))
                }
                None => break,
            };
            for value in came.drain(..) {
                self.pass_on(job, &sender, value, true).await;
            }
            if let Err(error) = read {
                self.settle(job, Err(error.to_string()));
                drop(sender);
                return discard(body).await;
            }
        }
        let ended = values.finish(&mut came).map_err(|error| error.to_string());
        for value in came.drain(..) {
            self.pass_on(job, &sender, value, true).await;
        }
        // What the Python client does when its function raises an exception in mid-stream.
        let raised = was_cut && is_empty;
        self.settle(
            job,
            if raised { Err("it broke off in mid-stream; an exception?".into()) } else { ended },
        );
        Ok(())
    }

    /// Waits for the call if it has to, but not for one that does not want it any more.
    async fn pass_on(
        &self,
        job: &Job,
        values: &mpsc::Sender<Value>,
        value: Value,
        is_streamed: bool,
    ) {
        self.board.came(self.clock.now(), &job.id, true);
        tokio::select! {
            biased;
            () = job.abandoned() => {}
            // To a call that is gone there is nothing to say.
            _ = values.send(value) => {}
        }
        if is_streamed {
            self.board.came(self.clock.now(), &job.id, false);
        }
    }

    fn settle(&self, job: &Job, outcome: Result<(), String>) {
        let outcome = match outcome {
            Ok(()) => Outcome::Answered,
            Err(reason) => {
                tracing::warn!(
                    module = self.module,
                    call = job.call,
                    job = job.id,
                    function = job.function,
                    "failed: {}",
                    PeerText(&reason)
                );
                Outcome::Failed(reason)
            }
        };
        self.board.settle(&job.id, outcome);
    }
}

/// Reads what nobody wants: an answer other than yes would have it sent again, or end the client.
async fn discard(mut body: Incoming) -> Result<(), Cut> {
    let read = timeout(LATE, async { while let Some(Ok(_)) = body.frame().await {} });
    read.await.map_err(|_| Cut)
}

/// A job as the clients know it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HandedOut<'a> {
    job_id: &'a str,
    query_type: &'a str,
    query: &'a Value,
    temporary_credentials_auth_token: &'a str,
    auth_header: &'a str,
    user_id: &'a str,
}

/// Clients take what they know of it, and version 2 has had both forms: bare, and under its name.
#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(flatten)]
    bare: Option<&'a HandedOut<'a>>,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(rename = "computeModuleJobV1")]
    named: &'a HandedOut<'a>,
}

fn handed_out(job: &Job, version: Version) -> Answer {
    let inner = HandedOut {
        job_id: &job.id,
        query_type: &job.function,
        query: &job.query(),
        temporary_credentials_auth_token: "",
        auth_header: "",
        user_id: &job.call,
    };
    with_json(&Envelope {
        bare: (version == Version::V2).then_some(&inner),
        kind: "computeModuleJobV1",
        named: &inner,
    })
}

fn with_json(value: &impl Serialize) -> Answer {
    let json = serde_json::to_vec(value).expect("names are text, and values are JSON already");
    let mut answer = Response::new(Full::new(Bytes::from(json)));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    answer
}

fn plain(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}
