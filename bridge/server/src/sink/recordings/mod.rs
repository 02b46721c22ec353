//! Recordings from the folder that the recorder writes to into an object store, each when it is whole. Deletes none that is not stored,
//! and looks at no file that is not in the folder.

mod config;
mod http;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use futures_util::StreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Location;
use object_store::{ObjectStore, ObjectStoreExt as _, RetryConfig};
use ringback_recorder::vault::SEALED;
use ringback_recorder::{About, LookedAfter};
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

use super::backoff::Backoff;
use super::{Event, Intake};
use crate::clock::WallTime;
use crate::outgoing::Connector;
use crate::recordings::FINISHED;
use crate::telemetry::{Lost, SinkReport};

pub use config::{Recordings, S3, Store};
use http::Outgoing;

/// A recording that is longer goes in pieces of so many octets; S3 wants at least 5 MiB.
const PART: usize = 8 * 1024 * 1024;
/// A recording of an earlier process is left over when nobody has written to it for so long: that process may still have calls.
const QUIET: Duration = Duration::from_secs(10 * 60);
/// Deleting one object takes no longer.
const ERASING: Duration = Duration::from_secs(60);
/// Ending of the file that says that the recording beside it is stored.
const STORED: &str = "stored";

/// When this process first had a sink: whatever was last written before is not of it.
static STARTED: OnceLock<WallTime> = OnceLock::new();

/// Whether there can be such a store.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(store: &Store) -> Result<(), String> {
    match store {
        // It is made when it is first needed.
        Store::Folder(_) => Ok(()),
        Store::S3(_) => open(store, &Arc::default()).map(|_| ()).map_err(|e| e.to_string()),
    }
}

fn open(store: &Store, connector: &Arc<Connector>) -> object_store::Result<Arc<dyn ObjectStore>> {
    let bucket = match store {
        Store::Folder(folder) => {
            let made = super::jsonl::make_dir(folder).map_err(|source| {
                object_store::Error::Generic { store: "folder", source: Box::new(source) }
            });
            made?;
            return Ok(Arc::new(LocalFileSystem::new_with_prefix(folder)?));
        }
        Store::S3(bucket) => bucket,
    };
    // Within a try; beyond it, tries are ours.
    let retry = RetryConfig {
        max_retries: 2,
        retry_timeout: Duration::from_secs(60),
        ..Default::default()
    };
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&bucket.bucket)
        .with_http_connector(Outgoing(Arc::clone(connector)))
        .with_retry(retry);
    if let Some(endpoint) = &bucket.endpoint {
        let plain = !endpoint.peer().secure;
        builder = builder.with_endpoint(endpoint.to_string()).with_allow_http(plain);
    }
    if let Some(region) = &bucket.region {
        builder = builder.with_region(region);
    }
    if let Some((id, secret)) = &bucket.key {
        builder = builder.with_access_key_id(id.expose()).with_secret_access_key(secret.expose());
    }
    Ok(Arc::new(builder.build()?))
}

/// Whether an event tells that a recording is whole.
pub(super) fn is_finished(event: &Event) -> bool {
    // Most are not, and need no reading.
    event.json.contains(FINISHED) && name_of(event).is_some()
}

/// The name of the file that an event tells of. A module may say what it likes: only the name counts, and that of a recording.
fn name_of(event: &Event) -> Option<String> {
    #[derive(Deserialize)]
    struct Told {
        name: String,
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        path: PathBuf,
    }
    let told: Told = serde_json::from_str(&event.json).ok()?;
    let name = told.data.path.file_name()?.to_str()?.to_owned();
    (told.name == FINISHED && is_recording(&name)).then_some(name)
}

fn is_recording(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name_of_wav = name.strip_suffix(SEALED).unwrap_or(name);
    name_of_wav.ends_with(".wav") && !name.starts_with('.') && name.chars().all(plain)
}

/// Stores what `intake` tells of until there is no more, and what earlier runs left.
pub(super) async fn run(config: Recordings, connector: Arc<Connector>, intake: Intake) {
    STARTED.get_or_init(WallTime::now);
    let mut carrier = Carrier::new(config, connector, PART);
    let mut backoff = Backoff::default();
    carrier.sweep(&intake, &mut backoff).await;
    let mut sweep = tokio::time::interval(QUIET);
    // The first is over at once.
    sweep.tick().await;
    loop {
        let events = tokio::select! {
            biased;
            events = intake.take(1) => events,
            _ = sweep.tick() => {
                carrier.sweep(&intake, &mut backoff).await;
                continue;
            }
        };
        let Some(events) = events else { return };
        for name in events.iter().filter_map(|event| name_of(event)) {
            carrier.carry(&name, &intake, &mut backoff).await;
        }
    }
}

/// A store that has not deleted something so often will not: others wait to be stored.
const MOST_UNDELETED: u32 = 5;

/// Why a recording is not stored.
enum Failure {
    /// It cannot be read, and will not be, and why.
    Unreadable(io::Error),
    /// The store takes nothing now, or the disk gives nothing.
    Away(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{IsADirectory, NotFound, PermissionDenied};
        match error.kind() {
            NotFound | PermissionDenied | IsADirectory => Self::Unreadable(error),
            _ => Self::Away(error.to_string()),
        }
    }
}

impl From<object_store::Error> for Failure {
    fn from(error: object_store::Error) -> Self {
        Self::Away(error.to_string())
    }
}

/// What became of a recording that was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    Kept,
    /// It was deleted meanwhile, and so is what was stored of it.
    TakenBack,
    /// It was deleted meanwhile, and the store does not delete what it has of it.
    Left,
    /// It went before it could be stored from here, where recordings go once they are stored.
    Away,
}

/// What is known of a recording from one try to store it to the next.
#[derive(Debug, Default)]
struct Tried {
    /// It was there.
    begun: bool,
    /// So often the store did not delete it.
    undeleted: u32,
}

struct Carrier {
    config: Recordings,
    connector: Arc<Connector>,
    store: Option<Arc<dyn ObjectStore>>,
    part: usize,
    /// Recordings of the folder that cannot be read, and were counted as that.
    unreadable: BTreeSet<String>,
}

impl Carrier {
    fn new(config: Recordings, connector: Arc<Connector>, part: usize) -> Self {
        Self { config, connector, store: None, part, unreadable: BTreeSet::new() }
    }

    /// Stores what an earlier run left.
    async fn sweep(&mut self, intake: &Intake, backoff: &mut Backoff) {
        let dir = self.config.dir.clone();
        let found = tokio::task::spawn_blocking(move || left_over(&dir)).await;
        let names = found.ok().and_then(Result::ok).unwrap_or_default();
        let there: BTreeSet<_> = names.iter().collect();
        self.unreadable.retain(|name| there.contains(name));
        let (again, names): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| self.unreadable.contains(name));
        if !names.is_empty() {
            intake.figures.take(names.len() as u64);
            intake.tell(SinkReport::Resumed { count: names.len() });
        }
        for name in names {
            self.carry(&name, intake, backoff).await;
        }
        for name in again {
            // What was counted once is counted again only if it can be read by now.
            if let Ok(Stored::Kept) = self.store(&name, &mut Tried::default()).await {
                self.unreadable.remove(&name);
                intake.figures.take(1);
                intake.delivered(1);
            }
        }
    }

    /// Stores one recording, however often it takes.
    async fn carry(&mut self, name: &str, intake: &Intake, backoff: &mut Backoff) {
        let mut tried = Tried::default();
        loop {
            match self.store(name, &mut tried).await {
                Ok(Stored::Kept) => {
                    backoff.worked(intake);
                    return intake.delivered(1);
                }
                Ok(Stored::TakenBack) => {
                    backoff.worked(intake);
                    let reason =
                        "it was deleted while it was being stored, and is in the store no more";
                    return intake.lost(Lost::Deleted, reason, 1);
                }
                Ok(Stored::Left) => {
                    backoff.worked(intake);
                    let reason = format!(
                        "{name} was deleted while it was being stored, and is in the store still, which does not delete it: may this bridge delete there?"
                    );
                    return intake.lost(Lost::Deleted, &reason, 1);
                }
                Ok(Stored::Away) => {
                    backoff.worked(intake);
                    let reason = format!(
                        "{name} went before it was stored here: another bridge has stored it, or it was deleted"
                    );
                    return intake.lost(Lost::Deleted, &reason, 1);
                }
                // Others wait behind it.
                Err(Failure::Unreadable(error)) => {
                    let reason = format!("{name} in {}: {error}", self.config.dir.display());
                    self.unreadable.insert(name.to_owned());
                    return intake.lost(Lost::Unreadable, &reason, 1);
                }
                Err(Failure::Away(reason)) => backoff.wait(intake, &reason).await,
            }
        }
    }

    /// Stores a recording, and before it what is known of it, if that stands beside it. One that was there and is deleted before all
    /// of it is stored must not be in the store: whoever deletes it looks there before and after, and finds nothing that is on its
    /// way.
    async fn store(&mut self, name: &str, tried: &mut Tried) -> Result<Stored, Failure> {
        let path = self.config.dir.join(name);
        // Where recordings go once they are stored, one that is gone may have been stored by another bridge that does so.
        let is_deleted_if_gone = !self.config.delete_local;
        let about = About::path(&path);
        let about_name = about.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match is_there(&path).await {
            true => tried.begun = true,
            false if tried.begun && is_deleted_if_gone => {
                return self.take_back([name, about_name], tried).await;
            }
            false if tried.begun => return Ok(Stored::Away),
            false => return Err(Failure::Unreadable(io::ErrorKind::NotFound.into())),
        }
        // Where one that is gone may be stored, whoever deletes it must not find it half stored.
        let _ours = if is_deleted_if_gone { None } else { Some(look_after(&path).await?) };
        match self.put(&about, about_name).await {
            Ok(()) => {}
            // Not all have one.
            Err(Failure::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(failure) => return Err(failure),
        }
        match self.put(&path, name).await {
            Err(Failure::Unreadable(error))
                if is_deleted_if_gone && error.kind() == io::ErrorKind::NotFound => {}
            put => put?,
        }
        if is_deleted_if_gone && !is_there(&path).await {
            return self.take_back([name, about_name], tried).await;
        }
        // It is stored: what goes wrong from here on costs a second copy and no recording.
        let noted = if self.config.delete_local && !ringback_recorder::is_held(&path) {
            let _ = tokio::fs::remove_file(&about).await;
            tokio::fs::remove_file(&path).await
        } else {
            let note = stored(&path);
            let noted = tokio::fs::write(&note, "").await;
            if !is_there(&path).await {
                // It was deleted since, and has its name in no folder any more.
                let _ = tokio::fs::remove_file(&note).await;
            }
            noted
        };
        if let Err(error) = noted {
            tracing::warn!(
                file = name,
                "the recording is stored, but that cannot be noted: {error}"
            );
        }
        Ok(Stored::Kept)
    }

    fn opened(&mut self) -> Result<Arc<dyn ObjectStore>, Failure> {
        let store = match &self.store {
            Some(store) => Arc::clone(store),
            None => open(&self.config.store, &self.connector)?,
        };
        Ok(Arc::clone(self.store.insert(store)))
    }

    /// Deletes objects of these names, as far as they are there.
    async fn take_back(&mut self, names: [&str; 2], tried: &mut Tried) -> Result<Stored, Failure> {
        let store = self.opened()?;
        for name in names {
            match store.delete(&self.config.store.location(name)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(_) if tried.undeleted >= MOST_UNDELETED => return Ok(Stored::Left),
                Err(error) => {
                    tried.undeleted += 1;
                    return Err(error.into());
                }
            }
        }
        Ok(Stored::TakenBack)
    }

    /// Stores one file under that name.
    async fn put(&mut self, path: &Path, name: &str) -> Result<(), Failure> {
        let mut file = tokio::fs::File::open(path).await?;
        let store = self.opened()?;
        let location = self.config.store.location(name);
        let first = read(&mut file, self.part).await?;
        if first.len() < self.part {
            store.put(&location, first.freeze().into()).await?;
        } else {
            let mut upload = store.put_multipart(&location).await?;
            let sent = async {
                let mut part = first;
                while !part.is_empty() {
                    upload.put_part(part.freeze().into()).await?;
                    part = read(&mut file, self.part).await?;
                }
                Ok::<_, Failure>(upload.complete().await.map(|_| ())?)
            };
            if let Err(failure) = sent.await {
                // What is left of it there is the store's to clear away.
                let _ = upload.abort().await;
                return Err(failure);
            }
        }
        Ok(())
    }
}

/// Deletes the recordings of these names from the store, and what is known of them; says how many objects that were. What a bucket
/// keeps of earlier versions it keeps.
///
/// # Errors
/// Why not all that are there are gone.
pub(super) async fn erase(
    config: &Recordings,
    connector: &Arc<Connector>,
    calls: &BTreeSet<String>,
    names: &BTreeSet<String>,
) -> Result<u64, String> {
    let store = open(&config.store, connector).map_err(|error| error.to_string())?;
    let mut names: BTreeSet<_> = names.iter().filter(|name| is_recording(name)).cloned().collect();
    let of_names: Vec<_> = names.iter().map(|name| About::path(Path::new(name))).collect();
    names.extend(of_names.iter().filter_map(|path| path.to_str()).map(str::to_owned));
    // What is in the folder no longer, and what was repaired under another name, is found by its call.
    let mut objects = store.list(config.store.folder().as_ref());
    let mut there = Vec::new();
    loop {
        let next = tokio::time::timeout(ERASING, objects.next()).await;
        let Some(object) = next.map_err(|_| late())? else { break };
        let location = object.map_err(|error| error.to_string())?.location;
        let name = location.filename().unwrap_or_default();
        let is_theirs = names.contains(name) || call_of(name).is_some_and(|of| calls.contains(of));
        if is_theirs && location == config.store.location(name) {
            there.push(location);
        }
    }
    drop(objects);
    let mut gone = 0;
    for location in there {
        match tokio::time::timeout(ERASING, store.delete(&location)).await {
            Ok(Ok(())) => gone += 1,
            Ok(Err(object_store::Error::NotFound { .. })) => {}
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(late()),
        }
    }
    Ok(gone)
}

fn late() -> String {
    format!("not done in {ERASING:?}")
}

/// The call of a recording, or of what is known of one, by its name: `<call>-<number>.` and an end of ours.
fn call_of(name: &str) -> Option<&str> {
    let is_ours =
        is_recording(name) || is_recording(&format!("{}.wav", name.strip_suffix(".json")?));
    let (call, number) = name.split('.').next()?.rsplit_once('-')?;
    (is_ours && !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit())).then_some(call)
}

impl Store {
    /// Where an object of that name is.
    fn location(&self, name: &str) -> Location {
        match self {
            Self::S3(S3 { prefix, .. }) => Location::from(format!("{prefix}/{name}")),
            Self::Folder(_) => Location::from(name),
        }
    }

    /// What all of them are in.
    fn folder(&self) -> Option<Location> {
        match self {
            Self::S3(S3 { prefix, .. }) => Some(Location::from(prefix.as_str())),
            Self::Folder(_) => None,
        }
    }
}

/// Whether a file is there. One of which that cannot be said is.
async fn is_there(path: &Path) -> bool {
    tokio::fs::try_exists(path).await.unwrap_or(true)
}

/// Looks after a recording while it is stored: nobody deletes it meanwhile, and no other bridge stores it.
async fn look_after(path: &Path) -> Result<LookedAfter, Failure> {
    let path = path.to_owned();
    let looked = tokio::task::spawn_blocking(move || ringback_recorder::look_after(&path)).await;
    let ours = looked.map_err(|error| Failure::Away(error.to_string()))??;
    ours.ok_or_else(|| Failure::Away("somebody else looks after the recording".into()))
}

/// Whether a recording is stored.
pub(crate) fn is_stored(recording: &Path) -> bool {
    stored(recording).exists()
}

/// The file that says that the recording is stored.
fn stored(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(STORED);
    name.into()
}

/// The next `most` octets of a file, or what is left of it.
async fn read(file: &mut tokio::fs::File, most: usize) -> Result<BytesMut, Failure> {
    let mut part = BytesMut::new();
    let mut file = file.take(most as u64);
    while file.read_buf(&mut part).await? > 0 {}
    Ok(part)
}

/// Recordings that nobody writes to any more and that are not stored, oldest first. May block.
fn left_over(dir: &Path) -> io::Result<Vec<String>> {
    let (now, started) = (WallTime::now(), *STARTED.get_or_init(WallTime::now));
    let mut found = Vec::<(SystemTime, String)>::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let (path, about) = (entry.path(), entry.metadata()?);
        if !about.is_file() || !is_recording(&name) || stored(&path).exists() {
            continue;
        }
        let written = about.modified()?;
        if !started.since(written).is_zero() && now.since(written) >= QUIET {
            found.push((written, name));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, name)| name).collect())
}
