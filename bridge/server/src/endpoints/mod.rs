//! The endpoints of a listener where they are kept: a file, for its owner alone, changed as a whole. What may be is in `rules`.
//!
//! A bridge and a command line may change one file: each takes a lock, reads what is there now, and puts a new file in its place. Of
//! the segments that open, only hashes are kept; whoever makes one is told it once.

mod rules;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ringback_proto::provider::Secret;
use sha2::{Digest as _, Sha256};

use crate::clock::WallTime;

pub use rules::{Endpoint, Endpoints, Old, Rule};

/// How often a bridge looks whether somebody else has changed a file, and writes down what was used.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);

/// Why endpoints cannot be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// They may not be so.
    #[error(transparent)]
    Rule(#[from] Rule),
    /// The file cannot be used.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// What somebody wants of endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The first one.
    New,
    /// A new one in the place of the active one.
    Rotate(Old),
    /// The end of this one is put off, to so many seconds from now.
    Extend(String, u64),
    /// This one is there no longer.
    Revoke(String),
}

impl Change {
    /// In a word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Rotate(_) => "rotate",
            Self::Extend(..) => "extend",
            Self::Revoke(_) => "revoke",
        }
    }
}

/// What came of a change.
#[derive(Debug)]
pub struct Changed {
    /// As they are now.
    pub endpoints: Endpoints,
    /// Of a new one: its name, and the last segment of its path, which is told this once.
    pub made: Option<(String, Secret)>,
}

/// Where the endpoints of a listener are kept. Clones are the same one.
#[derive(Debug, Clone)]
pub struct EndpointStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// Locked for as long as it takes to look one up, once for each stream that comes.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    endpoints: Endpoints,
    /// The file that they were read from.
    stamp: Option<Stamp>,
    /// Streams let in and not written down yet, and when the last one was, by name of the endpoint.
    uses: BTreeMap<String, (u64, u64)>,
}

/// What tells one file from another that takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(Option<SystemTime>, u64, u64);

impl EndpointStore {
    /// Those in the file at `path`; none, if it is not there.
    ///
    /// # Errors
    /// If it cannot be read, or holds something else.
    pub fn open(path: &Path) -> Result<Self, EndpointError> {
        let (endpoints, stamp) = read(path)?;
        let state = State { endpoints, stamp, uses: BTreeMap::new() };
        Ok(Self(Arc::new(Inner { path: path.to_owned(), state: Mutex::new(state) })))
    }

    /// The same of a file that may be of no use now: until it is, nobody is let in.
    #[must_use]
    pub fn open_later(path: &Path) -> Self {
        Self::open(path).unwrap_or_else(|_| {
            Self(Arc::new(Inner { path: path.to_owned(), state: Mutex::default() }))
        })
    }

    /// The name of the endpoint whose path ends with `segment`, if it lets in now.
    ///
    /// # Errors
    /// Why it does not, for the log.
    pub fn opens(&self, segment: &str) -> Result<String, Rule> {
        let state = self.state();
        state.endpoints.opens(&hash(segment), now()).map(|endpoint| endpoint.id.clone())
    }

    /// That endpoint has let in a stream.
    pub fn used(&self, id: &str) {
        let mut state = self.state();
        // Only what exists is counted, so no more than a few.
        if state.endpoints.all().iter().any(|endpoint| endpoint.id == id) {
            let (count, last) = state.uses.entry(id.to_owned()).or_default();
            *count += 1;
            *last = now();
        }
    }

    /// As they are now, what was let in since it was written down last included.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        let state = self.state();
        let mut endpoints = state.endpoints.clone();
        state.uses.iter().for_each(|(id, (count, last))| endpoints.used(id, *count, *last));
        endpoints
    }

    /// Takes up what somebody else has changed, and writes down what was used. May take as long as a disk does.
    ///
    /// # Errors
    /// If the file cannot be used; what was known goes on to hold.
    pub fn refresh(&self) -> Result<(), EndpointError> {
        let is_same = {
            let state = self.state();
            state.uses.is_empty() && state.stamp == stamp(&self.0.path)
        };
        if is_same { Ok(()) } else { self.update(|_| Ok(())) }
    }

    /// Does what is wanted, if it may be; when this returns, it is on disk. May take as long as a disk does.
    ///
    /// # Errors
    /// If it may not be, or cannot be written down; then nothing has changed.
    pub fn change(&self, change: &Change) -> Result<Changed, EndpointError> {
        let now = now();
        let mut made = None;
        let mut new = || -> Result<Endpoint, EndpointError> {
            let (id, segment) = (random(4)?, random(32)?);
            let endpoint = Endpoint::new(format!("e-{id}"), hash(&segment), now);
            made = Some((endpoint.id.clone(), Secret::from(segment)));
            Ok(endpoint)
        };
        self.update(|endpoints| {
            match change {
                Change::New => endpoints.add(new()?, now)?,
                Change::Rotate(old) => endpoints.rotate(new()?, *old, now)?,
                Change::Extend(id, seconds) => endpoints.extend(id, *seconds, now)?,
                Change::Revoke(id) => endpoints.revoke(id)?,
            }
            Ok(())
        })?;
        Ok(Changed { endpoints: self.endpoints(), made })
    }

    /// Changes the file as it is now, and what is known of it.
    fn update(
        &self,
        act: impl FnOnce(&mut Endpoints) -> Result<(), EndpointError>,
    ) -> Result<(), EndpointError> {
        let path = &self.0.path;
        let failed = |error: io::Error| failed(path, &error);
        let _lock = lock(path).map_err(failed)?;
        let (before, read_from) = read(path)?;
        let mut endpoints = before.clone();
        let uses = self.state().uses.clone();
        uses.iter().for_each(|(id, (count, last))| endpoints.used(id, *count, *last));
        act(&mut endpoints)?;
        if endpoints != before {
            write(path, &endpoints).map_err(failed)?;
        }
        let mut state = self.state();
        state.stamp = if endpoints == before { read_from } else { stamp(path) };
        state.endpoints = endpoints;
        for (id, (count, _)) in uses {
            // More may have been let in meanwhile.
            state.uses.entry(id).and_modify(|(since, _)| *since -= count);
        }
        state.uses.retain(|_, (count, _)| *count > 0);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is whole, whoever panicked.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> u64 {
    WallTime::now().unix_seconds().0
}

fn failed(path: &Path, error: &io::Error) -> EndpointError {
    EndpointError::File { path: path.to_owned(), reason: error.to_string() }
}

fn hash(segment: &str) -> String {
    Sha256::digest(segment).iter().map(|octet| format!("{octet:02x}")).collect()
}

/// So many random octets in hexadecimal.
fn random(octets: usize) -> Result<String, EndpointError> {
    let mut random = vec![0; octets];
    let failed = |error: getrandom::Error| failed(Path::new("random"), &io::Error::other(error));
    getrandom::fill(&mut random).map_err(failed)?;
    Ok(random.iter().map(|octet| format!("{octet:02x}")).collect())
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    let file = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let file = 0;
    Some(Stamp(metadata.modified().ok(), metadata.len(), file))
}

fn read(path: &Path) -> Result<(Endpoints, Option<Stamp>), EndpointError> {
    let stamp = stamp(path);
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
        Err(error) => return Err(failed(path, &error)),
    };
    let endpoints = serde_json::from_str(&text).map_err(|error| {
        let reason = format!("is no file of endpoints: {error}");
        EndpointError::File { path: path.to_owned(), reason }
    })?;
    Ok((endpoints, stamp))
}

/// Nobody else changes the file as long as what this gives lives. A file of its own, because that of the endpoints is replaced.
fn lock(path: &Path) -> io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = private().create(true).append(true).open(name)?;
    #[cfg(target_os = "linux")]
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
    Ok(file)
}

/// Puts a new file in the place of the old one, whole whatever happens in between.
fn write(path: &Path, endpoints: &Endpoints) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut file = private().write(true).create(true).truncate(true).open(&new)?;
    file.write_all(serde_json::to_string_pretty(endpoints)?.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// For the owner alone.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let folder = format!("ringback-endpoints-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(folder);
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn path(&self) -> PathBuf {
            self.0.join("state.json")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn segment(changed: Changed) -> Secret {
        changed.made.expect("a new one").1
    }

    #[test]
    fn a_segment_is_told_once_and_kept_nowhere() {
        let scratch = Scratch::new("secret");
        let store = EndpointStore::open(&scratch.path()).unwrap();
        let first = segment(store.change(&Change::New).unwrap());
        assert_eq!(first.expose().len(), 64, "256 bits");
        let second = segment(store.change(&Change::Rotate(Old::Stays(60))).unwrap());
        assert_ne!(first, second);
        let text = std::fs::read_to_string(scratch.path()).unwrap();
        for segment in [&first, &second] {
            assert!(
                !text.contains(segment.expose())
                    && !format!("{store:?}").contains(segment.expose())
            );
            assert!(store.opens(segment.expose()).is_ok());
        }
        for segment in ["", "x", first.expose().to_uppercase().as_str(), &hash(first.expose())] {
            assert_eq!(store.opens(segment), Err(Rule::Unknown));
        }
        for entry in std::fs::read_dir(&scratch.0).unwrap() {
            let entry = entry.unwrap();
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt as _;
                assert_eq!(
                    entry.metadata().unwrap().permissions().mode() & 0o777,
                    0o600,
                    "{entry:?}"
                );
            }
        }
    }

    #[test]
    fn what_one_changes_the_other_takes_up_and_nobodys_counts_are_lost() {
        let scratch = Scratch::new("two");
        let bridge = EndpointStore::open(&scratch.path()).unwrap();
        let command = EndpointStore::open(&scratch.path()).unwrap();
        let first = segment(command.change(&Change::New).unwrap());
        assert_eq!(bridge.opens(first.expose()), Err(Rule::Unknown));
        bridge.refresh().unwrap();
        let id = bridge.opens(first.expose()).unwrap();
        bridge.used(&id);
        bridge.used(&id);
        // While the bridge has not written that down.
        let second = segment(command.change(&Change::Rotate(Old::Stays(60))).unwrap());
        bridge.refresh().unwrap();
        bridge.used(&bridge.opens(second.expose()).unwrap());
        let used = |store: &EndpointStore| -> Vec<u64> {
            store.endpoints().all().iter().map(|endpoint| endpoint.used).collect()
        };
        assert_eq!(used(&bridge), [2, 1]);
        bridge.refresh().unwrap();
        assert_eq!(used(&EndpointStore::open(&scratch.path()).unwrap()), [2, 1]);
        command.change(&Change::Revoke(id)).unwrap();
        bridge.refresh().unwrap();
        assert_eq!(bridge.opens(first.expose()), Err(Rule::Unknown));
        assert_eq!(used(&bridge), [1]);
    }

    #[test]
    fn what_may_not_be_changes_nothing_and_a_file_of_no_use_is_told() {
        let scratch = Scratch::new("rules");
        let store = EndpointStore::open(&scratch.path()).unwrap();
        assert!(matches!(
            store.change(&Change::Rotate(Old::Goes)),
            Err(EndpointError::Rule(Rule::NoneActive))
        ));
        assert!(!scratch.path().exists());
        let first = segment(store.change(&Change::New).unwrap());
        std::fs::write(scratch.path(), "{").unwrap();
        let error = store.refresh().unwrap_err().to_string();
        assert!(error.contains("state.json: is no file of endpoints"), "{error}");
        assert!(store.opens(first.expose()).is_ok(), "what was known goes on to hold");
        assert!(EndpointStore::open(&scratch.path()).is_err());
    }
}
