//! A module that is a worker on a NATS cluster: whichever of a group has room takes the session. Makes no connection of its own; what
//! it does over the bridge's is in the contract under NATS.

pub(super) mod flow;
pub(super) mod head;
mod offer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use ringback_module::message::Start;
use ringback_module::wire::{FrameKind, MAX_BODY, STDIO_HEADER};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::close::{farewell, left};
use super::listen::{Heard, Listener};
use super::restart::{Ground, called_off, shortened, supervise};
use super::talk::{BREACH, Broken, Carry, End, Failure, LOST, Talk};
use super::{FromHost, Hosted, Inbox, seat};
use crate::nats::Nats;
use crate::socket::Closed;
use crate::telemetry::METRICS;
use flow::{Sent, Taken};
use head::Head;
use offer::{Search, Worker};

/// A goodbye has so long to be handed over; the worker finds out without one.
const GOODBYE: Duration = Duration::from_secs(1);

/// Whose workers are asked.
#[derive(Clone)]
pub struct NatsSpec {
    /// Name of the module, for the log.
    pub name: String,
    /// The group: one token of a subject.
    pub group: String,
    /// The bridge's connection.
    pub nats: Arc<Nats>,
}

/// Has a worker of a group run a module that speaks `ringback.v1`. Must be called within a runtime.
///
/// Deadlines and credit are those of `start`; finding a worker counts towards `ready_ms`, in which workers are asked again and again. A
/// session whose worker dies, hangs, breaks the contract or goes away, or that lost a message, is offered again unless it is being
/// stopped: 100 ms later, then twice as long each time up to 5 s, up to a quarter less by chance; ten times a minute at most.
#[must_use]
pub fn spawn_nats(spec: NatsSpec, start: Start) -> Hosted {
    let (hosted, seat) = seat();
    tokio::spawn(supervise(spec, start, seat));
    hosted
}

impl Ground for NatsSpec {
    /// Each is as long as `ready_ms` where there is nobody.
    const MOST: usize = 10;
    const AGAIN: &str = "offered again";

    fn name(&self) -> &str {
        &self.name
    }

    fn pause(&self, pause: Duration) -> Duration {
        shortened(pause)
    }

    async fn run(&self, start: &Start, to: &mut Inbox, from: &mpsc::Sender<FromHost>) -> End {
        let talk = Talk::new(&self.name, start, from);
        let limit = Duration::from_millis(start.limits.ready_ms);
        let search = Search::new(self);
        let found = tokio::select! {
            found = timeout(limit, search.worker()) => found,
            end = called_off(to) => return end,
        };
        let worker = match found {
            Ok(Ok(worker)) => worker,
            Ok(Err(end)) => return end,
            Err(_elapsed) => return search.in_vain(start.limits.ready_ms),
        };
        let Worker { client, name, session, mut sound } = worker;
        let line = Line::new(client, self.nats.subject(&format!("session.{session}.in")));
        // Unbiased: whoever is always ready must not keep the others from their turn.
        let end = tokio::select! {
            end = listen(&talk, &line, &mut sound) => end,
            end = talk.write(Mouth(&line), to) => end,
            end = talk.watch() => end,
        };
        let (code, reason) = farewell(&end, talk.is_stopping());
        tokio::spawn(line.close(Closed { code, reason }));
        self.placed(
            &name,
            match end {
                End::Failed(failure) => talk.failed(failure),
                End::Rejected(reject) if reject.retryable => End::Failed(Failure {
                    not_before: Duration::from_millis(reject.retry_after_ms.unwrap_or(0)),
                    ..Failure::from(format!("{}: {}", reject.code, reject.message))
                }),
                end => end,
            },
        )
    }
}

impl NatsSpec {
    /// Says whose it was.
    fn placed(&self, worker: &str, end: End) -> End {
        let place = |reason: String| format!("{worker} of {}: {reason}", self.group);
        match end {
            End::Over(reason) => End::Over(reason.map(place)),
            End::Failed(failure) => {
                End::Failed(Failure { reason: place(failure.reason), ..failure })
            }
            end => end,
        }
    }
}

/// Both directions of a session. Reader and writer live in one task, so neither ever waits for the lock.
struct Line {
    client: Client,
    /// Where the worker listens.
    subject: String,
    flow: Mutex<(Sent, Taken)>,
    /// There may be room again.
    room: Notify,
}

impl Line {
    fn new(client: Client, subject: String) -> Self {
        Self { client, subject, flow: Mutex::default(), room: Notify::new() }
    }

    fn flow(&self) -> MutexGuard<'_, (Sent, Taken)> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn publish(&self, head: &Head, body: &[u8]) -> Result<(), Broken> {
        let (subject, body) = (self.subject.clone(), Bytes::copy_from_slice(body));
        let sent = self.client.publish_with_headers(subject, head.headers(), body).await;
        sent.map_err(|_| Broken)
    }

    /// How many of ours were taken, in the worker's words.
    fn confirmed(&self, taken: u64) -> Result<(), End> {
        if !self.flow().0.confirmed(taken) {
            return Err(End::failed("took more messages than it was sent"));
        }
        self.room.notify_one();
        Ok(())
    }

    /// A message of the contract came.
    fn took(&self, number: u64, taken: u64, octets: usize) -> Result<(), End> {
        let missing = self.flow().1.take(number, octets).err();
        if let Some(missing) = missing {
            METRICS.nats_gaps.increment();
            let reason = format!("{missing} messages from it were lost on their way");
            return Err(End::Failed(Failure { code: LOST, ..Failure::from(reason) }));
        }
        self.confirmed(taken)
    }

    /// Confirms what came, if half a window was not.
    async fn confirm(&self) -> Result<(), End> {
        let due = {
            let taken = &mut self.flow().1;
            taken.is_due().then(|| taken.tell())
        };
        let Some(taken) = due else { return Ok(()) };
        let told = self.publish(&Head::Taken(taken), &[]).await;
        told.map_err(|Broken| End::failed(Mouth::BROKEN))
    }

    async fn close(self, closed: Closed) {
        // Whoever cannot be told hears no more pings.
        let _ = timeout(GOODBYE, self.publish(&Head::Close(closed), &[])).await;
    }
}

async fn listen(talk: &Talk<'_>, line: &Line, messages: &mut Subscriber) -> End {
    let mut listener = Listener::new(talk);
    loop {
        let Some(message) = messages.next().await else {
            return End::failed("the connection to NATS is closed");
        };
        let head = message.headers.as_ref().and_then(Head::of);
        let heard = match understood(&mut listener, line, head, &message.payload) {
            Ok(heard) => heard,
            Err(end) => return end,
        };
        talk.seen_alive();
        if let Err(end) = listener.pass_on(heard).await {
            return end;
        }
        // Once it was passed on: a call that cannot take more holds the worker back.
        if let Err(end) = line.confirm().await {
            return end;
        }
    }
}

fn understood(
    listener: &mut Listener<'_>,
    line: &Line,
    head: Option<Head>,
    body: &[u8],
) -> Result<Heard, End> {
    match head {
        Some(Head::Frame { kind, number, taken }) => {
            line.took(number, taken, body.len())?;
            if body.len() > MAX_BODY {
                let octets = body.len();
                let reason = format!("message of {octets} octets is over the limit of {MAX_BODY}");
                return Err(End::failed(reason));
            }
            listener.frame(kind, body)
        }
        Some(Head::Taken(taken)) => line.confirmed(taken).map(|()| Heard::Nothing),
        Some(Head::Close(closed)) => Err(left(Some(closed))),
        None => Err(End::Failed(Failure {
            code: BREACH,
            ..Failure::from("sent a message without a field of ringback.v1".to_owned())
        })),
    }
}

/// The way to the worker.
struct Mouth<'a>(&'a Line);

impl Carry for Mouth<'_> {
    const BROKEN: &'static str = "the connection to NATS takes nothing more";

    /// A message is a frame without its header. What has no room waits here, and behind it the call's ring.
    async fn write(&mut self, kind: FrameKind, frame: &[u8]) -> Result<(), Broken> {
        let (line, body) = (self.0, &frame[STDIO_HEADER..]);
        while !line.flow().0.has_room() {
            line.room.notified().await;
        }
        let head = {
            let (sent, taken) = &mut *line.flow();
            Head::Frame { kind, number: sent.number(body.len()), taken: taken.tell() }
        };
        line.publish(&head, body).await
    }
}
