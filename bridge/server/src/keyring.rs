//! Public keys of token issuers that change while the bridge runs: fetched by URL or read from a file again, and kept over
//! failures. Verifies no token.
//!
//! A stream whose token names a key that is not known waits here for `PATIENCE`, no longer, while the keys are read anew, and is
//! asked once more. Most providers try a stream once: a refusal would lose the call that brings the first token of a new key.
//! Whoever makes up keys gains nothing by it: one read serves all who wait, and before `REST` has passed there is no other.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Method;
use ringback_proto::Instant;
use ringback_proto::provider::Auth;
use ringback_proto::provider::auth::{Jwt, JwtKeys, KeySet};
use tokio::sync::{Notify, watch};

use crate::clock::{Clock, WallTime};
use crate::outgoing::Connector;
use crate::outgoing::http::{self, Ask, Bounds, Url};
use crate::telemetry::{Report, report};

/// A stream waits so long for keys that are being read.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause after a read before an unknown key leads to the next.
const REST: Duration = Duration::from_secs(10);
/// What a fetch is held to: no issuer's set comes near it.
const BOUNDS: Bounds = Bounds { deadline: Duration::from_secs(5), body: 256 * 1024 };
/// Keys are fetched again this often where the issuer does not say, and never more or less often than this where it does.
const USUAL: Duration = Duration::from_secs(3600);
const OFTEN: Duration = Duration::from_secs(60);
/// Well before [`KEEP`] is over: issuers say a day, and one fetch that fails must not be the end of all keys.
const SELDOM: Duration = Duration::from_secs(12 * 3600);
/// After a failure the next try comes so much later, doubled with each, up to a bound.
const RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(300);
/// Fetched keys are kept so long while no newer ones can be had.
const KEEP: Duration = Duration::from_secs(24 * 3600);
/// A file is looked at this often.
const LOOK: Duration = Duration::from_secs(5);

/// Where an issuer's keys are read anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// The issuer's key set by HTTPS.
    Url {
        /// Where.
        url: Url,
        /// File in which the last set that was fetched is kept for the next start.
        cache: Option<PathBuf>,
    },
    /// A file that somebody else keeps up to date.
    File(PathBuf),
}

impl std::fmt::Display for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url { url, .. } => write!(f, "{url}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The keys of one listener.
pub(crate) struct Keyring {
    listener: String,
    source: KeySource,
    /// What tokens must be like; its keys are those that always hold.
    jwt: Jwt,
    connector: Arc<Connector>,
    clock: Clock,
    state: Mutex<State>,
    /// Counts reads that ended.
    reads: watch::Sender<u64>,
    wanted: Notify,
}

#[derive(Default)]
struct State {
    /// What streams are held to; `None` while there is no key at all.
    auth: Option<Arc<Auth>>,
    /// When the keys that were fetched are too old, if there are any.
    expires: Option<Instant>,
    /// When the last read ended.
    ended: Option<Instant>,
    reading: bool,
    /// What the file looked like when it was last read.
    stamp: Option<Stamp>,
    /// Tries that failed since one did not.
    failures: u32,
}

/// What tells that a file was changed: when, and its length.
type Stamp = (Option<std::time::SystemTime>, u64);

/// What was read.
struct Keys {
    keys: KeySet,
    text: Vec<u8>,
    /// To be read again after this.
    again: Duration,
}

/// Why there are no newer keys.
struct Failure {
    reason: String,
    /// When to try again, if the issuer says.
    retry_after: Option<Duration>,
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self { reason, retry_after: None }
    }
}

impl Keyring {
    /// The keys of `listener`, whose tokens must be like `jwt`. Reads the cached copy, if there is one that is not too old.
    pub(crate) fn new(
        listener: &str,
        source: KeySource,
        mut jwt: Jwt,
        connector: Arc<Connector>,
        clock: Clock,
    ) -> Arc<Self> {
        // What was configured always holds, but what a file held at the start only until the file changes.
        let first = match (&source, &mut jwt.keys) {
            (KeySource::File(_), JwtKeys::Public(keys)) => std::mem::take(keys),
            _ => KeySet::default(),
        };
        let ring = Self {
            listener: listener.to_owned(),
            source,
            jwt,
            connector,
            clock,
            state: Mutex::default(),
            reads: watch::Sender::new(0),
            wanted: Notify::new(),
        };
        ring.use_only(&first);
        ring.read_cache();
        Arc::new(ring)
    }

    /// What streams are held to now; `None` while there is no key at all.
    pub(crate) fn auth(&self) -> Option<Arc<Auth>> {
        self.state().auth.clone()
    }

    /// Waits until keys were read anew, for [`PATIENCE`] at most. Says whether they were; `false` at once if they were read just now.
    pub(crate) async fn renewed(&self) -> bool {
        let mut reads = {
            let mut state = self.state();
            let now = self.clock.now();
            if !state.reading {
                if state.ended.is_some_and(|ended| now < ended + REST) {
                    return false;
                }
                state.reading = true;
                self.wanted.notify_one();
            }
            self.reads.subscribe()
        };
        tokio::time::timeout(PATIENCE, reads.changed()).await.is_ok_and(|read| read.is_ok())
    }

    /// Reads the keys again and again, for as long as it is polled.
    pub(crate) async fn keep_fresh(&self) {
        loop {
            let again = self.renew().await;
            // A wish that was fulfilled by the read that it found under way is none any more.
            let wished = async {
                while !self.state().reading {
                    self.wanted.notified().await;
                }
            };
            let _ = tokio::time::timeout(again, wished).await;
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // What a thread left behind that panicked is as good as ever: nothing is half set.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the keys once, and tells when to do so again.
    async fn renew(&self) -> Duration {
        self.state().reading = true;
        let read = match &self.source {
            KeySource::Url { url, .. } => self.fetch(url).await.map(Some),
            KeySource::File(path) => self.look(path).await,
        };
        let again = match read {
            Ok(Some(keys)) => self.taken(keys).await,
            Ok(None) => {
                self.state().failures = 0;
                LOOK
            }
            Err(failure) => self.failed(&failure),
        };
        let mut state = self.state();
        state.reading = false;
        state.ended = Some(self.clock.now());
        self.reads.send_modify(|reads| *reads += 1);
        again
    }

    async fn fetch(&self, url: &Url) -> Result<Keys, Failure> {
        let get = Ask { method: Method::GET, url, authorization: None, headers: &[], body: None };
        let answer = http::ask(&self.connector, &get, BOUNDS).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status != 200 {
            let reason = format!("answers with status {}", answer.status);
            return Err(Failure { reason, retry_after: answer.retry_after });
        }
        let again = answer.max_age.unwrap_or(USUAL).clamp(OFTEN, SELDOM);
        Ok(Keys { keys: parsed(&answer.body)?, text: answer.body.into(), again })
    }

    /// Reads the file if it is not what it was.
    async fn look(&self, path: &Path) -> Result<Option<Keys>, Failure> {
        let failed = |error: std::io::Error| format!("cannot be read: {error}");
        let meta = tokio::fs::metadata(path).await.map_err(failed)?;
        let stamp = (meta.modified().ok(), meta.len());
        if self.state().stamp == Some(stamp) {
            return Ok(None);
        }
        let text = tokio::fs::read(path).await.map_err(failed)?;
        // Once for each change, whether it is for the better or not.
        self.state().stamp = Some(stamp);
        Ok(Some(Keys { keys: parsed(&text)?, text, again: LOOK }))
    }

    async fn taken(&self, read: Keys) -> Duration {
        let Keys { keys, text, again } = read;
        let is_new = self.use_only(&keys);
        let source = &self.source.to_string();
        {
            let mut state = self.state();
            state.failures = 0;
            let fetched = matches!(self.source, KeySource::Url { .. });
            state.expires = fetched.then(|| self.clock.now() + KEEP);
        }
        report(&Report::KeysRead {
            listener: &self.listener,
            source,
            keys: keys.len(),
            again,
            is_new,
        });
        if let KeySource::Url { cache: Some(path), .. } = &self.source
            && let Err(error) = write_whole(path, text).await
        {
            let reason = format!("the copy at {} cannot be written: {error}", path.display());
            self.report_failure(&reason, again);
        }
        again
    }

    /// Keeps what there is, unless that is too old.
    fn failed(&self, failure: &Failure) -> Duration {
        let (again, too_old, is_first) = {
            let mut state = self.state();
            let is_first = state.failures == 0;
            let doubled = RETRY.saturating_mul(1 << state.failures.min(10));
            state.failures = state.failures.saturating_add(1);
            let again = match self.source {
                KeySource::File(_) => LOOK,
                KeySource::Url { .. } => {
                    doubled.max(failure.retry_after.unwrap_or_default()).min(LONGEST_RETRY)
                }
            };
            (again, state.expires.take_if(|at| *at <= self.clock.now()).is_some(), is_first)
        };
        // A file that is gone is looked for every few seconds: that is said once.
        if is_first || matches!(self.source, KeySource::Url { .. }) {
            self.report_failure(&failure.reason, again);
        }
        if too_old {
            self.use_only(&KeySet::default());
            report(&Report::KeysExpired { listener: &self.listener, kept: KEEP });
        }
        again
    }

    fn report_failure(&self, reason: &str, again: Duration) {
        let (listener, source) = (&self.listener, &self.source.to_string());
        report(&Report::KeysNotRead { listener, source, reason, again });
    }

    /// From now on these keys hold, and those of the configuration. Says whether anything is different from before.
    fn use_only(&self, keys: &KeySet) -> bool {
        let keys = match &self.jwt.keys {
            JwtKeys::Public(configured) => configured.clone().and(keys),
            JwtKeys::Shared(_) => keys.clone(),
        };
        let jwt = Jwt { keys: JwtKeys::Public(keys.clone()), ..self.jwt.clone() };
        let auth = (!keys.is_empty()).then(|| Arc::new(Auth::Jwt(jwt)));
        let mut state = self.state();
        let is_new = state.auth != auth;
        state.auth = auth;
        is_new
    }

    /// Takes the copy of the last fetch, if it is not too old.
    fn read_cache(&self) {
        let KeySource::Url { cache: Some(path), .. } = &self.source else { return };
        let read = || -> Result<(KeySet, Duration), String> {
            let text = std::fs::read(path).map_err(|error| error.to_string())?;
            let modified = std::fs::metadata(path).and_then(|meta| meta.modified());
            let modified = modified.map_err(|error| error.to_string())?;
            Ok((parsed(&text)?, WallTime::now().since(modified)))
        };
        match read() {
            Ok((keys, age)) if age < KEEP => {
                self.use_only(&keys);
                self.state().expires = Some(self.clock.now() + (KEEP - age));
            }
            Ok(_) => {}
            Err(_) if !path.exists() => {}
            Err(error) => {
                let reason = format!("the copy at {} is of no use: {error}", path.display());
                self.report_failure(&reason, Duration::ZERO);
            }
        }
    }
}

fn parsed(text: &[u8]) -> Result<KeySet, String> {
    let text = std::str::from_utf8(text).map_err(|_| "is no text".to_owned())?;
    KeySet::parse(text).map_err(|error| error.to_string())
}

/// Writes a file so that whoever reads it finds the old text or the new one, and never half of either.
async fn write_whole(path: &Path, text: Vec<u8>) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    tokio::fs::write(&beside, text).await?;
    tokio::fs::rename(&beside, path).await
}

#[cfg(test)]
mod tests;
