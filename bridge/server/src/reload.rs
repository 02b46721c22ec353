//! When the configuration is read again: on SIGHUP and, if it is watched, when its file has changed. What that does to calls is the
//! bridge's business.
//!
//! A watched file is looked at once a second, which takes microseconds, instead of asking the system to tell of changes: editors
//! put another file in its place, Kubernetes turns a link somewhere above it, and network file systems tell nobody.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::bridge::Reload;
use crate::config::Config;
use crate::outgoing::Connector;
use crate::telemetry::{Report, report};

/// A file is looked at this often. What was written in between is read once it is the same twice.
const PERIOD: Duration = Duration::from_secs(1);

/// Reads the configuration as it was read at the start; what is wrong, a line each.
pub(crate) type Read = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// Reads the configuration again whenever it is asked to, for as long as it is polled.
///
/// # Errors
/// If the operating system gives no signal handler.
pub(crate) fn on_demand(
    reload: Reload,
    read: Read,
    watched: Option<PathBuf>,
) -> io::Result<impl Future<Output = ()> + Send> {
    let mut signal = Signal::install()?;
    Ok(async move {
        let mut watched = match watched {
            Some(path) => Some(Watched::new(vec![path]).await),
            None => None,
        };
        loop {
            tokio::select! {
                () = signal.next() => {}
                () = changed(watched.as_mut()) => {}
            }
            let (reload, read) = (reload.clone(), Arc::clone(&read));
            // Reads files, and a disk that is held up must not hold up the taking of calls.
            let again = move || drop(again(&reload, read.as_ref()));
            if tokio::task::spawn_blocking(again).await.is_err() {
                let problems = "a fault of this program: please report it";
                report(&Report::ConfigRefused { problems });
            }
        }
    })
}

/// Reads the configuration and puts it in the place of what holds; gives the keys that need a restart, or what is wrong. One that is
/// wrong in anything changes nothing.
pub(crate) fn again(
    reload: &Reload,
    read: &dyn Fn() -> Result<Config, String>,
) -> Result<Vec<String>, String> {
    let good = read().and_then(|config| {
        let prepared =
            config.trusts().into_iter().try_for_each(|trust| Connector::new(trust).prepare());
        prepared.map(|()| config).map_err(|error| error.to_string())
    });
    let applied = good.and_then(|config| {
        let (routes, modules) = (config.routes.len(), config.modules.len());
        reload.apply(config).map(|restart| (routes, modules, restart))
    });
    match applied {
        Ok((routes, modules, restart)) => {
            restart.iter().for_each(|key| report(&Report::ConfigNeedsRestart { key }));
            report(&Report::ConfigApplied { routes, modules });
            Ok(restart)
        }
        Err(problems) => {
            report(&Report::ConfigRefused { problems: &problems });
            Err(problems)
        }
    }
}

async fn changed(watched: Option<&mut Watched>) {
    match watched {
        Some(watched) => watched.changed().await,
        None => std::future::pending().await,
    }
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    /// Another file may be put in its place that is as old and as long.
    file: u64,
}

async fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    #[cfg(unix)]
    let file = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let file = 0;
    Some(Stamp { modified: metadata.modified().ok(), length: metadata.len(), file })
}

async fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    let mut stamps = Vec::with_capacity(paths.len());
    for path in paths {
        stamps.push(stamp(path).await);
    }
    stamps
}

/// Files that are looked at, and are read together.
pub(crate) struct Watched {
    paths: Vec<PathBuf>,
    /// As they were read last.
    read: Vec<Option<Stamp>>,
    /// As they were seen last.
    seen: Vec<Option<Stamp>>,
}

impl Watched {
    /// Begins with the files as they are.
    pub(crate) async fn new(paths: Vec<PathBuf>) -> Self {
        let now = stamps(&paths).await;
        Self { paths, read: now.clone(), seen: now }
    }

    /// Waits until one of the files is another than it was and all stay as they are for a while. One that is gone is waited for.
    /// Cancel safe.
    pub(crate) async fn changed(&mut self) {
        loop {
            tokio::time::sleep(PERIOD).await;
            let now = stamps(&self.paths).await;
            let is_settled = now == self.seen && now.iter().all(Option::is_some);
            self.seen.clone_from(&now);
            if is_settled && now != self.read {
                self.read = now;
                return;
            }
        }
    }
}

/// Asks for the configuration, and all that was read with it, to be read again.
#[cfg(unix)]
pub(crate) struct Signal(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Signal {
    pub(crate) fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::hangup()).map(Self)
    }

    pub(crate) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Where there is no such signal, the file can be watched.
#[cfg(not(unix))]
pub(crate) struct Signal;

#[cfg(not(unix))]
impl Signal {
    #[allow(clippy::unnecessary_wraps, reason = "the Unix twin can fail")]
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self)
    }

    pub(crate) async fn next(&mut self) {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_has_changed_once_it_is_another_and_stays_so() {
        let path = std::env::temp_dir().join(format!("ringback-watched-{}", std::process::id()));
        std::fs::write(&path, "one").unwrap();
        let mut watched = Watched::new(vec![path.clone()]).await;
        let while_it_is_so = PERIOD * 5;
        assert!(timeout(while_it_is_so, watched.changed()).await.is_err(), "nothing was written");
        std::fs::write(&path, "one, two").unwrap();
        // Seen once, it may still be written.
        assert!(timeout(PERIOD * 3 / 2, watched.changed()).await.is_err());
        std::fs::write(&path, "one, two, three").unwrap();
        assert!(timeout(PERIOD * 3 / 2, watched.changed()).await.is_err());
        timeout(while_it_is_so, watched.changed()).await.expect("it stayed so");
        assert!(timeout(while_it_is_so, watched.changed()).await.is_err(), "once for each change");
        std::fs::remove_file(&path).unwrap();
        assert!(
            timeout(while_it_is_so, watched.changed()).await.is_err(),
            "there is nothing to read"
        );
        std::fs::write(&path, "again").unwrap();
        timeout(while_it_is_so, watched.changed()).await.expect("it is back");
        std::fs::remove_file(&path).unwrap();
    }
}
