//! Ending calls by a provider's API, where its wire has no message for it: bounded in number, tries and time. Decides about no call.

mod credential;
mod recipes;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use crate::clock::Clock;
use crate::outgoing::Connector;
use crate::outgoing::http::{self, Answer, Ask, Bounds, Url};
use crate::telemetry::{CallReport, Report, report};

pub use credential::{Credential, HangupCredential};
pub use recipes::{RECIPES, Recipe, Scheme, recipe};

/// Requests under way at a time, over all listeners; others wait for their turn.
const AT_A_TIME: usize = 16;
/// Calls that may wait; one more is not hung up but only closed.
const MAX_WAITING: usize = 512;
/// Tries of one hang-up.
const TRIES: u32 = 3;
/// What one try is held to.
const BOUNDS: Bounds = Bounds { deadline: Duration::from_secs(3), body: 64 * 1024 };
/// Pause before the second try; doubled for the third.
const PAUSE: Duration = Duration::from_millis(250);
/// Octets of an answer that the log keeps.
const TOLD: usize = 120;

/// How the calls of a listener are ended by its provider's API.
#[derive(Debug, Clone)]
pub struct HangupConfig {
    /// The request.
    pub recipe: &'static Recipe,
    /// Where the API is.
    pub base: Url,
    /// Whose calls they are; empty where the request does not say.
    pub account: String,
    /// What opens.
    pub credential: HangupCredential,
    /// A hang-up takes no longer than this, all tries together; then the stream is closed whatever became of it.
    pub deadline: Duration,
}

/// How a hang-up ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HangupOutcome {
    /// The provider ends the call.
    Done,
    /// The call was over already.
    Over,
    /// It was not done; the reason is for the log.
    Failed(String),
    /// Too many are waiting.
    Overload,
}

/// Places for hang-ups, shared by all listeners.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Self::of(AT_A_TIME, MAX_WAITING)
    }

    fn of(running: usize, waiting: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(running)),
            waiting: Arc::new(Semaphore::new(running + waiting)),
        }
    }
}

/// Ends the calls of one listener.
#[derive(Debug)]
pub(crate) struct HangUp {
    config: HangupConfig,
    credential: Credential,
    connector: Arc<Connector>,
    pool: Pool,
}

impl HangUp {
    pub(crate) fn new(
        config: HangupConfig,
        connector: Arc<Connector>,
        clock: Clock,
        pool: Pool,
    ) -> Arc<Self> {
        let credential = Credential::new(config.credential.clone(), clock);
        Arc::new(Self { config, credential, connector, pool })
    }

    /// The longest that [`HangUp::begin`] takes.
    pub(crate) const fn deadline(&self) -> Duration {
        self.config.deadline
    }

    /// Ends the call that the provider calls `id` and we call `name`, in a task of its own that goes on whatever becomes of the
    /// stream: a provider may close it before it has answered. What comes of it is reported; the receiver hears when.
    pub(crate) fn begin(self: &Arc<Self>, name: &str, id: Option<&str>) -> oneshot::Receiver<()> {
        let (done, ended) = oneshot::channel();
        let path =
            id.ok_or("the stream did not tell the provider's name for the call").and_then(|id| {
                let path = self.config.recipe.path_of(&self.config.account, id);
                path.ok_or("what the stream calls the call is no name of one")
            });
        let seat = Arc::clone(&self.pool.waiting).try_acquire_owned();
        let (path, seat) = match (path, seat) {
            (Ok(path), Ok(seat)) => (path, seat),
            (Err(reason), _) => {
                self.tell(name, &HangupOutcome::Failed(reason.to_owned()), 0);
                return ended;
            }
            (_, Err(_)) => {
                self.tell(name, &HangupOutcome::Overload, 0);
                return ended;
            }
        };
        let (this, name) = (Arc::clone(self), name.to_owned());
        tokio::spawn(async move {
            let tries = AtomicU32::new(0);
            let carried_out =
                tokio::time::timeout(this.config.deadline, this.carry_out(&path, &tries));
            let outcome = carried_out.await.unwrap_or_else(|_| {
                let within = this.config.deadline;
                HangupOutcome::Failed(match tries.load(Relaxed) {
                    0 => format!("others were before it for all of {within:?}"),
                    _ => format!("not done within {within:?}"),
                })
            });
            this.tell(&name, &outcome, tries.load(Relaxed));
            drop(seat);
            // The call may be over by now.
            let _ = done.send(());
        });
        ended
    }

    fn tell(&self, call: &str, outcome: &HangupOutcome, tries: u32) {
        let provider = self.config.recipe.provider;
        report(&Report::Call { call, what: CallReport::HungUpByApi { provider, outcome, tries } });
    }

    async fn carry_out(&self, path: &str, tries: &AtomicU32) -> HangupOutcome {
        let _running = self.pool.running.acquire().await;
        let url = self.config.base.join(path);
        let mut pause = PAUSE;
        loop {
            tries.fetch_add(1, Relaxed);
            let (reason, wait) = match self.attempt(&url).await {
                Attempt::Ended(outcome) => return outcome,
                Attempt::Again { reason, wait } => (reason, wait.unwrap_or(pause)),
            };
            if tries.load(Relaxed) == TRIES {
                return HangupOutcome::Failed(reason);
            }
            if wait >= self.config.deadline {
                return HangupOutcome::Failed(format!("{reason}; to be asked again in {wait:?}"));
            }
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
    }

    /// Asks once. Hanging up twice does no harm, so whatever may pass is tried again.
    async fn attempt(&self, url: &Url) -> Attempt {
        let again = |reason: String| Attempt::Again { reason, wait: None };
        let authorization = match self.credential.authorization(&self.connector).await {
            Ok(authorization) => authorization,
            Err(reason) => return again(reason),
        };
        let recipe = self.config.recipe;
        let ask = Ask {
            method: recipe.method.clone(),
            url,
            authorization: Some(&authorization),
            headers: &[],
            body: recipe.body.map(|(kind, text)| (kind, text.to_owned())),
        };
        let answer = match http::ask(&self.connector, &ask, BOUNDS).await {
            Ok(answer) => answer,
            Err(error) => return again(error.to_string()),
        };
        match answer.status {
            200..=299 => Attempt::Ended(HangupOutcome::Done),
            status if recipe.says_over(status, &answer.body) => Attempt::Ended(HangupOutcome::Over),
            401 if self.credential.renew().await => again(told(&answer)),
            408 | 429 | 500.. => Attempt::Again { reason: told(&answer), wait: answer.retry_after },
            _ => Attempt::Ended(HangupOutcome::Failed(told(&answer))),
        }
    }
}

/// What came of one request.
enum Attempt {
    Ended(HangupOutcome),
    /// Not yet; the provider may say when to ask again.
    Again {
        reason: String,
        wait: Option<Duration>,
    },
}

/// What the API said, for the log: providers explain themselves in the body.
fn told(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("status {}: {}", answer.status, crate::socket::cut(&text, TOLD))
}

#[cfg(test)]
#[cfg(feature = "tls")]
mod tests;
