//! Events told to a server by HTTP: CloudEvents, signed as Standard Webhooks are, in order for each call, again and again until they
//! are taken or too old. Follows no redirect.

mod held;
mod signature;
mod spool;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyper::Method;

use super::backoff::pause;
use super::{Event, Intake};
use crate::clock::{Clock, WallTime};
use crate::outgoing::Connector;
use crate::outgoing::http::{self, Answer, Ask, Bounds, Url};
use crate::reach::Addresses;
use crate::telemetry::{Lost, SinkReport};

use held::{Held, Sending};
pub use signature::SigningKey;
use spool::Spool;

/// Media type of a CloudEvent in structured mode.
const CONTENT_TYPE: &str = "application/cloudevents+json";
/// Octets of an answer that are read; only its status matters.
const MOST_ANSWER: usize = 64 * 1024;
/// Octets of an answer that the log keeps.
const TOLD: usize = 120;
/// Events taken from the queue at a time.
const BATCH: usize = 64;
/// A server that says when to come again is believed this far.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// Where and how events are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where.
    pub url: Url,
    /// What they are signed with: more than one while a key is replaced by another.
    pub keys: Vec<SigningKey>,
    /// Who the events are from: `source` of CloudEvents.
    pub source: String,
    /// Addresses that may be connected to.
    pub addresses: Addresses,
    /// A try takes no longer.
    pub timeout: Duration,
    /// An event is tried for so long.
    pub retry_for: Duration,
    /// Requests under way at a time.
    pub concurrency: usize,
    /// Folder for events that are not delivered yet.
    pub spool: Option<PathBuf>,
}

/// What came of a try.
enum Outcome {
    Delivered,
    /// It may work later; the server may say when.
    Again {
        reason: String,
        wait: Option<Duration>,
    },
    /// This event will never be taken.
    Refused(String),
    /// No event will be taken any more.
    Disabled(String),
}

/// Deletes what waits on disk of these calls, and says how much that was. A bridge that runs has it in memory as well, and delivers it.
/// May block.
pub(super) fn erase(config: &Webhook, calls: &BTreeSet<String>) -> std::io::Result<u64> {
    config.spool.as_deref().map_or(Ok(0), |dir| Spool::new(dir).erase(calls))
}

/// Delivers what `intake` gives until there is no more, or for ever what cannot be delivered.
pub(super) async fn run(config: Webhook, most: usize, connector: Arc<Connector>, intake: Intake) {
    let sender = Sender { connector: connector.within_reach(config.addresses.clone()), config };
    let spool = sender.config.spool.as_deref().map(Spool::new);
    let mut desk = Desk {
        clock: Clock::start(),
        held: Held::new(most),
        intake,
        spool,
        kept: true,
        failing: false,
        disabled: false,
        retry_for: sender.config.retry_for,
    };
    desk.resume().await;
    let mut under_way = FuturesUnordered::new();
    let mut closed = false;
    loop {
        let now = desk.clock.now();
        while under_way.len() < sender.config.concurrency
            && let Some(sending) = desk.held.next(now)
        {
            under_way.push(sender.send(sending));
        }
        if closed && desk.held.is_empty() {
            return;
        }
        let wake = desk.held.wake().filter(|_| under_way.len() < sender.config.concurrency);
        tokio::select! {
            biased;
            Some((sending, outcome)) = under_way.next() => desk.settle(&sending, outcome).await,
            events = desk.intake.take(BATCH), if !closed => match events {
                Some(events) => desk.take_in(events).await,
                None => closed = true,
            },
            () = desk.clock.sleep_until(wake), if wake.is_some() => {}
        }
    }
}

/// Keeps account of what is held.
struct Desk {
    clock: Clock,
    held: Held,
    intake: Intake,
    spool: Option<Spool>,
    /// The spool worked the last time.
    kept: bool,
    /// The server took nothing the last time.
    failing: bool,
    /// It wants no more.
    disabled: bool,
    retry_for: Duration,
}

impl Desk {
    /// Begins with what the last run left.
    async fn resume(&mut self) {
        let Some(left) = self.on_disk(Spool::read).await else { return };
        let count = left.events.len();
        self.intake.figures.take(count as u64 + left.broken);
        if left.broken > 0 {
            self.intake.lost(Lost::Unreadable, "files of the spool are broken", left.broken);
        }
        if count > 0 {
            self.intake.tell(SinkReport::Resumed { count });
        }
        let mut gone = Vec::new();
        for (number, event) in left.events {
            gone.extend(self.held.add_as(number, Arc::new(event)));
        }
        self.overflowed(gone).await;
    }

    async fn take_in(&mut self, events: Vec<Arc<Event>>) {
        if self.disabled {
            self.intake.figures.lose(Lost::Disabled, events.len() as u64);
            return;
        }
        let (mut new, mut gone) = (Vec::new(), Vec::new());
        for event in events {
            new.push((self.held.next_number(), Arc::clone(&event)));
            gone.extend(self.held.add(event));
        }
        // On disk before anything is sent: whatever happens from here on, it is not lost.
        new.retain(|(number, _)| !gone.contains(number));
        self.on_disk(move |spool| spool.write(&new)).await;
        self.overflowed(gone).await;
    }

    async fn overflowed(&mut self, gone: Vec<u64>) {
        if gone.is_empty() {
            return;
        }
        self.intake.lost(Lost::Overflow, "too many are not delivered", gone.len() as u64);
        self.on_disk(move |spool| spool.forget(&gone)).await;
    }

    /// Does something with the spool, if there is one, where it may block.
    async fn on_disk<T: Send + 'static>(
        &mut self,
        act: impl FnOnce(&Spool) -> std::io::Result<T> + Send + 'static,
    ) -> Option<T> {
        let spool = self.spool.clone()?;
        let dir = spool.dir().to_owned();
        let acted = tokio::task::spawn_blocking(move || act(&spool)).await.ok()?;
        match acted {
            Ok(value) => {
                self.kept = true;
                Some(value)
            }
            Err(error) => {
                if std::mem::take(&mut self.kept) {
                    let reason = error.to_string();
                    self.intake.tell(SinkReport::NotKept { dir: &dir, reason: &reason });
                }
                None
            }
        }
    }

    async fn settle(&mut self, sending: &Sending, outcome: Outcome) {
        let number = sending.number;
        // One that was given up while it was under way is counted as that.
        if !self.held.holds(number) && !matches!(outcome, Outcome::Disabled(_)) {
            return;
        }
        match outcome {
            Outcome::Again { reason, wait } => return self.failed(sending, &reason, wait).await,
            Outcome::Disabled(reason) => return self.disable(&reason).await,
            Outcome::Delivered => self.intake.delivered(1),
            Outcome::Refused(reason) => self.intake.lost(Lost::Refused, &reason, 1),
        }
        if std::mem::take(&mut self.failing) {
            self.intake.tell(SinkReport::Recovered);
        }
        self.held.done(number);
        self.on_disk(move |spool| spool.forget(&[number])).await;
    }

    async fn failed(&mut self, sending: &Sending, reason: &str, wait: Option<Duration>) {
        let now = self.clock.now();
        if sending.tried_for >= self.retry_for {
            self.held.done(sending.number);
            self.intake.lost(Lost::Expired, reason, 1);
            let number = sending.number;
            self.on_disk(move |spool| spool.forget(&[number])).await;
            return;
        }
        let again = match wait.map(|wait| wait.min(LONGEST_PAUSE)) {
            Some(wait) => {
                self.held.pause(now + wait);
                wait
            }
            None => pause(sending.tries),
        };
        self.intake.retried();
        let is_new = !std::mem::replace(&mut self.failing, true);
        self.intake.tell(SinkReport::Failing { reason, again, is_new });
        self.held.again(sending.number, now + again);
    }

    async fn disable(&mut self, reason: &str) {
        let gone = self.held.clear();
        if !std::mem::replace(&mut self.disabled, true) || !gone.is_empty() {
            self.intake.lost(Lost::Disabled, reason, gone.len() as u64);
        }
        self.on_disk(move |spool| spool.forget(&gone)).await;
    }
}

/// Sends one event at a time, as often as it is asked to.
struct Sender {
    config: Webhook,
    connector: Connector,
}

impl Sender {
    async fn send(&self, sending: Sending) -> (Sending, Outcome) {
        let outcome = self.attempt(&sending.event).await;
        (sending, outcome)
    }

    async fn attempt(&self, event: &Event) -> Outcome {
        let config = &self.config;
        let body = event.cloud_event(&config.source);
        // Of this try: a receiver takes no old ones.
        let at = WallTime::now().unix_seconds();
        let signatures: Vec<_> =
            config.keys.iter().map(|key| key.sign(&event.id, at, &body)).collect();
        let (at, signatures) = (at.0.to_string(), signatures.join(" "));
        let mut headers = vec![("webhook-id", &*event.id), ("webhook-timestamp", &*at)];
        if !config.keys.is_empty() {
            headers.push(("webhook-signature", &*signatures));
        }
        let ask = Ask {
            method: Method::POST,
            url: &config.url,
            authorization: None,
            headers: &headers,
            body: Some((CONTENT_TYPE, body)),
        };
        let bounds = Bounds { deadline: config.timeout, body: MOST_ANSWER };
        let answer = match http::ask(&self.connector, &ask, bounds).await {
            Ok(answer) => answer,
            Err(error) => return Outcome::Again { reason: error.to_string(), wait: None },
        };
        let reason = || told(&answer);
        match answer.status {
            200..=299 => Outcome::Delivered,
            410 => Outcome::Disabled(reason()),
            408 | 425 | 429 | 500.. => {
                Outcome::Again { reason: reason(), wait: answer.retry_after }
            }
            _ => Outcome::Refused(reason()),
        }
    }
}

/// What the server said, for the log.
fn told(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("status {}: {}", answer.status, crate::socket::cut(&text, TOLD))
}
