//! The search for a worker: a session is offered to its group until one of it takes it. Speaks to nobody it has found.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Client, Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use ringback_module::VERSION;
use ringback_module::wire::MAX_BODY;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::super::talk::{End, Failure, LATE};
use super::head::Head;
use super::{GOODBYE, NatsSpec};
use crate::socket::{Closed, close_code};

/// A worker that does not answer for so long is not waited for: another one is asked.
const PATIENCE: Duration = Duration::from_millis(300);
/// Where nobody had room, there is a pause before it is asked again, twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_millis(320);
/// What the server must take beside the longest message of the contract: the header fields.
const HEADERS: usize = 1_024;
/// Characters of a worker's answer that go into a reason.
const MAX_QUOTE: usize = 120;

/// What is said to the group.
#[derive(Serialize)]
#[serde(tag = "type", rename = "offer")]
struct Offer<'a> {
    v: u32,
    module: &'a str,
    bridge: &'a str,
}

/// What a worker answers.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Answer {
    /// It has room, and listens for the session that it gives this name.
    Take {
        session: String,
        #[serde(default)]
        worker: String,
    },
    /// It has none.
    Reject {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    },
}

/// A worker that took the session.
pub(super) struct Worker {
    pub(super) client: Client,
    /// As it calls itself.
    pub(super) name: String,
    /// Names the session's two subjects.
    pub(super) session: String,
    /// What it says.
    pub(super) sound: Subscriber,
}

/// One search.
pub(super) struct Search<'a> {
    spec: &'a NatsSpec,
    /// What came of the last question.
    last: Mutex<String>,
}

impl<'a> Search<'a> {
    pub(super) fn new(spec: &'a NatsSpec) -> Self {
        Self { spec, last: Mutex::new("NATS is not connected".into()) }
    }

    /// What a search comes to that found nobody in time.
    pub(super) fn in_vain(self, ready_ms: u64) -> End {
        let group = &self.spec.group;
        let last = self.last.into_inner().unwrap_or_else(PoisonError::into_inner);
        let reason =
            format!("no worker of group {group} took it: {last}; not ready within {ready_ms} ms");
        End::Failed(Failure { code: LATE, ..Failure::from(reason) })
    }

    fn note(&self, what: String) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    /// Asks until somebody takes it.
    pub(super) async fn worker(&self) -> Result<Worker, End> {
        let NatsSpec { name, group, nats } = self.spec;
        let client = nats.connected().await.map_err(|e| End::Over(Some(e.to_string())))?;
        let limit = client.max_payload();
        if limit < MAX_BODY + HEADERS {
            let needed = MAX_BODY + HEADERS;
            return Err(End::Over(Some(format!(
                "the NATS server takes messages of up to {limit} octets: set its max_payload to {needed} or more"
            ))));
        }
        let failed = |what: &dyn std::fmt::Display| End::failed(format!("NATS: {what}"));
        let offer = Offer { v: VERSION, module: name, bridge: nats.instance() };
        let offer = Bytes::from(serde_json::to_vec(&offer).map_err(|e| failed(&e))?);
        let subject = nats.subject(&format!("offer.{group}"));
        let inbox = client.new_inbox();
        let answers = client.subscribe(inbox.clone()).await.map_err(|e| failed(&e))?;
        let (client, prefix) = (client.clone(), nats.subject("session"));
        let mut asked = Asked { client: client.clone(), prefix, answers: Some(answers), open: 0 };
        let mut pause = FIRST_PAUSE;
        loop {
            let asking = client.publish_with_reply(subject.clone(), inbox.clone(), offer.clone());
            asking.await.map_err(|e| failed(&e))?;
            asked.open += 1;
            let Ok(answer) = timeout(PATIENCE, asked.next()).await else {
                self.note("whoever was asked did not answer".into());
                continue;
            };
            let answer = answer.ok_or_else(|| failed(&"the connection is closed"))?;
            asked.open -= 1;
            let Some((session, worker)) = self.taken(&answer) else {
                sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
                continue;
            };
            // Before the worker is told anything, so that it says nothing before somebody listens.
            let own = nats.subject(&format!("session.{session}.out"));
            let sound = client.subscribe(own).await.map_err(|e| failed(&e))?;
            return Ok(Worker { client, name: worker, session, sound });
        }
    }

    /// The names of session and worker, if the answer is that it was taken.
    fn taken(&self, answer: &Message) -> Option<(String, String)> {
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            self.note("none is there that has room".into());
            return None;
        }
        match serde_json::from_slice(&answer.payload) {
            Ok(Answer::Take { session, worker }) if is_name(&session) => {
                let worker: String = worker.escape_debug().take(MAX_QUOTE).collect();
                let worker = if worker.is_empty() { "a worker".to_owned() } else { worker };
                return Some((session, worker));
            }
            Ok(Answer::Take { .. }) => self.note("one gave the session a name that is none".into()),
            Ok(Answer::Reject { code, message }) => {
                let said: String = format!("{code}: {message}").escape_debug().collect();
                self.note(said.chars().take(MAX_QUOTE).collect());
            }
            Err(error) => self.note(format!("one answered what is none: {error}")),
        }
        None
    }
}

/// Whether it can stand in a subject as one token, and is long enough that nobody guesses it.
fn is_name(session: &str) -> bool {
    (16..=64).contains(&session.len()) && session.bytes().all(|octet| octet.is_ascii_alphanumeric())
}

/// Offers that were made, and may still be taken when the search is over, whichever way it ended: whoever does is let go.
struct Asked {
    client: Client,
    /// What the subjects of sessions begin with.
    prefix: String,
    answers: Option<Subscriber>,
    /// Offers without an answer.
    open: u32,
}

impl Asked {
    async fn next(&mut self) -> Option<Message> {
        self.answers.as_mut()?.next().await
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(answers) = self.answers.take().filter(|_| self.open > 0) {
            let (client, prefix) = (self.client.clone(), std::mem::take(&mut self.prefix));
            tokio::spawn(decline(client, prefix, answers));
        }
    }
}

/// Lets those go who take what another one has taken before.
async fn decline(client: Client, prefix: String, mut answers: Subscriber) {
    let all = async {
        while let Some(answer) = answers.next().await {
            if let Ok(Answer::Take { session, .. }) = serde_json::from_slice(&answer.payload)
                && is_name(&session)
            {
                let reason = "somebody else took it".into();
                let head = Head::Close(Closed { code: close_code::NORMAL, reason });
                let subject = format!("{prefix}.{session}.in");
                // Whoever does not hear it waits for a start that never comes, and not for long.
                let _ = client.publish_with_headers(subject, head.headers(), Bytes::new()).await;
            }
        }
    };
    let _ = timeout(GOODBYE, all).await;
}
