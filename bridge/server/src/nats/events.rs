//! What happens on calls, stored in a stream of JetStream: each event once, those of a call in their order. Holds up no call: what does
//! not fit its queue, or cannot be stored in time, is left out and counted.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::context::{GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::{self, Context, stream};
use bytes::Bytes;
use ringback_proto::Instant;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Nats;
use crate::call::{Seen, Watch};
use crate::clock::Clock;
use crate::config::NatsStream;
use crate::events::told;
use crate::telemetry::{METRICS, Metric, Report, report};

/// Events are stored one after the other in each lane, and the calls are spread over so many.
const LANES: usize = 16;
/// Events that wait in a lane.
const QUEUE: usize = 512;
/// An event that is not stored so long after it happened is left out. Within it the stream knows a repetition: see [`REMEMBERED`].
const KEPT: Duration = Duration::from_secs(60);
/// The server has so long to say that it is stored.
const ACK: Duration = Duration::from_secs(5);
/// When the bridge ends, what is left has so long.
const LAST: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// A stream that we make knows so long what it has, keeps it so long, and no more of it than this.
const REMEMBERED: Duration = Duration::from_secs(120);
const STREAM_AGE: Duration = Duration::from_secs(7 * 24 * 3_600);
const STREAM_OCTETS: i64 = 1 << 30;

/// An event on its way.
struct Item {
    kind: &'static str,
    /// Names it, whoever stores it and however often.
    id: String,
    json: String,
    since: Instant,
}

/// Puts events into the lanes.
pub(crate) struct NatsEvents {
    nats: Arc<Nats>,
    lanes: Vec<mpsc::Sender<Item>>,
    next: AtomicU64,
}

/// The other end of the lanes.
pub(crate) struct Lanes {
    clock: Clock,
    nats: Arc<Nats>,
    stream: NatsStream,
    lanes: Vec<mpsc::Receiver<Item>>,
}

/// Lanes between calls, whose time is that of `clock`, and `stream`.
pub(crate) fn lanes(
    clock: Clock,
    nats: &Arc<Nats>,
    stream: NatsStream,
) -> (Arc<NatsEvents>, Lanes) {
    let (lanes, ends) = (0..LANES).map(|_| mpsc::channel(QUEUE)).unzip();
    let events = NatsEvents { nats: Arc::clone(nats), lanes, next: AtomicU64::new(0) };
    (Arc::new(events), Lanes { clock, nats: Arc::clone(nats), stream, lanes: ends })
}

impl Watch for NatsEvents {
    fn see(&self, call: &str, now: Instant, seen: &Seen<'_>) {
        let Some((kind, json)) = told(call, now, seen) else { return };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{number}", self.nats.instance());
        let lane = BuildHasherDefault::<DefaultHasher>::default().hash_one(call) as usize % LANES;
        let item = Item { kind, id, json, since: now };
        match self.lanes[lane].try_send(item) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => METRICS.nats_events_overflow.increment(),
            Err(TrySendError::Closed(_)) => METRICS.nats_events_shutdown.increment(),
        }
    }
}

impl Lanes {
    /// Stores what comes, until `ending`; what is left then is given 3 s.
    pub(crate) async fn run(self, ending: CancellationToken) {
        let Self { clock, nats, stream, lanes } = self;
        // That it cannot be was told by who keeps the connection.
        let Ok(client) = nats.client().await else { return };
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ACK);
        let store = Arc::new(Store { clock, nats, context });
        let mut running = JoinSet::new();
        for queue in lanes {
            running.spawn(lane(Arc::clone(&store), queue, ending.clone()));
        }
        running.spawn(async move {
            tokio::select! {
                () = store.prepare(&stream) => {}
                () = ending.cancelled() => {}
            }
        });
        while running.join_next().await.is_some() {}
    }
}

/// Where events go.
struct Store {
    clock: Clock,
    nats: Arc<Nats>,
    context: Context,
}

impl Store {
    /// Looks for the stream, or makes it, until it is there. Events wait for it as long as for anything else.
    async fn prepare(&self, stream: &NatsStream) {
        let mut told = String::new();
        loop {
            let reason = match self.look_for(stream).await {
                Ok(window) if window >= KEPT => return,
                Ok(window) => {
                    let reason = format!(
                        "its `duplicate_window` is {window:?}: what is stored again after that may be there twice"
                    );
                    return report(&Report::NatsStream { stream: &stream.name, reason: &reason });
                }
                Err(reason) => reason,
            };
            if reason != told {
                report(&Report::NatsStream { stream: &stream.name, reason: &reason });
                told = reason;
            }
            sleep(MAX_PAUSE).await;
        }
    }

    /// How long the stream knows what it has.
    async fn look_for(&self, stream: &NatsStream) -> Result<Duration, String> {
        self.nats.connected().await.map_err(|error| error.to_string())?;
        let found = match self.context.get_stream(&stream.name).await {
            Ok(found) => found,
            Err(error) if is_missing(&error.kind()) => {
                if !stream.create {
                    return Err("it is not there: make it, or say `create_stream = true`".into());
                }
                let made = self.context.get_or_create_stream(self.config(stream)).await;
                made.map_err(|error| error.to_string())?
            }
            Err(error) => return Err(error.to_string()),
        };
        Ok(found.cached_info().config.duplicate_window)
    }

    fn config(&self, stream: &NatsStream) -> stream::Config {
        stream::Config {
            name: stream.name.clone(),
            subjects: vec![self.nats.subject("events.>")],
            description: Some("What happened on calls of Ringback".into()),
            duplicate_window: REMEMBERED,
            max_age: STREAM_AGE,
            max_bytes: STREAM_OCTETS,
            discard: stream::DiscardPolicy::Old,
            ..stream::Config::default()
        }
    }

    async fn publish(&self, subject: &str, id: &str, payload: Bytes) -> Result<(), Refused> {
        self.nats.connected().await.map_err(|_| Refused::Unsure)?;
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id);
        let failed = |kind: PublishErrorKind| match kind {
            PublishErrorKind::MaxPayloadExceeded => Refused::ForGood,
            _ => Refused::Unsure,
        };
        let sent = self.context.publish_with_headers(subject.to_owned(), headers, payload).await;
        let stored = sent.map_err(|error| failed(error.kind()))?.await;
        stored.map(|_| ()).map_err(|error| failed(error.kind()))
    }
}

fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.code() == 404)
}

/// Why an event is not stored.
enum Refused {
    /// Asking again would not help.
    ForGood,
    /// It may even be stored.
    Unsure,
}

async fn lane(to: Arc<Store>, mut queue: mpsc::Receiver<Item>, ending: CancellationToken) {
    loop {
        let item = tokio::select! {
            biased;
            () = ending.cancelled() => break,
            item = queue.recv() => item,
        };
        let Some(item) = item else { return };
        to.store(item, &ending, None).await.increment();
    }
    queue.close();
    let last = to.clock.now() + LAST;
    while let Some(item) = queue.recv().await {
        to.store(item, &ending, Some(last)).await.increment();
    }
}

impl Store {
    /// Stores one event or gives it up; the figure says which. `last` is when the bridge is over, once that is known.
    async fn store(
        &self,
        item: Item,
        ending: &CancellationToken,
        mut last: Option<Instant>,
    ) -> &'static Metric {
        let subject = self.nats.subject(&format!("events.{}", item.kind));
        let payload = Bytes::from(item.json);
        let mut pause = FIRST_PAUSE;
        loop {
            let until = last.unwrap_or(item.since + KEPT);
            let now = self.clock.now();
            if now >= until {
                return if last.is_some() {
                    &METRICS.nats_events_shutdown
                } else {
                    &METRICS.nats_events_expired
                };
            }
            let attempt = async {
                match self.publish(&subject, &item.id, payload.clone()).await {
                    Err(Refused::Unsure) => {
                        sleep(pause).await;
                        None
                    }
                    done => Some(done),
                }
            };
            tokio::select! {
                done = attempt => match done {
                    Some(Ok(())) => return &METRICS.nats_events_stored,
                    Some(Err(_)) => return &METRICS.nats_events_refused,
                    None => pause = (pause * 2).min(MAX_PAUSE),
                },
                () = self.clock.sleep_until(Some(until.min(now + ACK))) => {}
                // What was sent may be stored; that it is sent again does not store it twice.
                () = ending.cancelled(), if last.is_none() => last = Some(self.clock.now() + LAST),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ringback_proto::ledger::Ledger;
    use ringback_proto::session::{EndReason, Summary};

    use super::*;
    use crate::config::{NatsConfig, NatsLogin};
    use crate::outgoing::Trust;

    /// To a server that is not there.
    fn nowhere(clock: Clock) -> (Arc<NatsEvents>, Lanes) {
        let nats = Nats::new(NatsConfig {
            urls: vec!["nats://127.0.0.1:1".into()],
            login: NatsLogin::default(),
            trust: Trust::System,
            prefix: "test".into(),
            events: None,
        });
        lanes(clock, &nats, NatsStream { name: "calls".into(), create: false })
    }

    fn summary() -> Summary {
        Summary {
            call: "c1".into(),
            tenant: None,
            route: None,
            provider_call: None,
            provider: "raw",
            reason: EndReason::NoStart,
            duration: Duration::ZERO,
            heard: Duration::ZERO,
            played: Duration::ZERO,
            frames_in: 0,
            frames_out: 0,
            texts_in: 0,
            texts_out: 0,
            underruns: 0,
            drift_ppm: None,
            reattached: 0,
            modules: Vec::new(),
            private: None,
            ledger: Ledger::default(),
        }
    }

    #[tokio::test]
    async fn what_does_not_fit_is_counted_and_holds_nobody_up() {
        let clock = Clock::start();
        let (events, lanes) = nowhere(clock);
        let before = METRICS.nats_events_overflow.get();
        for _ in 0..QUEUE + 7 {
            events.see("c1", clock.now(), &Seen::Ended(&summary()));
        }
        assert_eq!(METRICS.nats_events_overflow.get() - before, 7);
        drop(lanes);
        let before = METRICS.nats_events_shutdown.get();
        events.see("c1", clock.now(), &Seen::Ended(&summary()));
        assert_eq!(METRICS.nats_events_shutdown.get() - before, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_stored_for_a_minute_is_left_out_and_at_the_end_in_three_seconds() {
        let clock = Clock::start();
        let (events, lanes) = nowhere(clock);
        for _ in 0..3 {
            events.see("c1", clock.now(), &Seen::Ended(&summary()));
        }
        let ending = CancellationToken::new();
        let running = tokio::spawn(lanes.run(ending.clone()));
        let before = METRICS.nats_events_expired.get();
        sleep(KEPT - Duration::from_secs(1)).await;
        assert_eq!(METRICS.nats_events_expired.get() - before, 0);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(METRICS.nats_events_expired.get() - before, 3);

        for _ in 0..3 {
            events.see("c1", clock.now(), &Seen::Ended(&summary()));
        }
        sleep(Duration::from_secs(1)).await;
        let (before, began) = (METRICS.nats_events_shutdown.get(), clock.now());
        ending.cancel();
        running.await.unwrap();
        assert_eq!(METRICS.nats_events_shutdown.get() - before, 3);
        let took = clock.now() - began;
        // The one that was being stored has its own three seconds, the others have them together.
        assert!(took <= 2 * LAST + Duration::from_secs(1), "{took:?}");
    }
}
