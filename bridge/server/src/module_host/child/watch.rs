//! Looks whether the files of a module have changed, and has its pool renewed when they have. Reads none of them.
//!
//! It looks by itself, twice a second, and asks no system to tell it: what is watched is a handful of files, while a person works on
//! them. That costs nothing to speak of, works in containers and on network file systems, and whichever way an editor saves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use super::ChildSpec;
use super::pool::{ChildPool, ChildPools};

/// How often it looks. A change is taken up when nothing has changed since the last look.
const EVERY: Duration = Duration::from_millis(500);
/// Files of a module that are looked at.
const MOST: usize = 10_000;
/// Folders of what others made.
const FOREIGN: [&str; 3] = ["__pycache__", "node_modules", "target"];

/// The files of a module: when they were written, and how long they are.
type Files = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// Takes up changes until it is dropped.
pub(crate) async fn watch(pools: ChildPools) {
    let mut watch = Watch::default();
    let mut looks = tokio::time::interval(EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        watch.look(&pools).await;
    }
}

/// What was seen so far.
#[derive(Default)]
pub(crate) struct Watch(Vec<Seen>);

struct Seen {
    pool: Weak<ChildPool>,
    files: Files,
    /// They are not what its processes were started from.
    has_changed: bool,
}

impl Watch {
    /// Looks once, and renews the pools whose files have changed and settled.
    pub(crate) async fn look(&mut self, pools: &ChildPools) {
        self.0.retain(|seen| seen.pool.strong_count() > 0);
        for pool in pools.all() {
            let spec = pool.spec().clone();
            let Ok(files) = tokio::task::spawn_blocking(move || files(&spec)).await else {
                continue;
            };
            let known = self.0.iter_mut().find(|seen| seen.pool.as_ptr() == Arc::as_ptr(&pool));
            let Some(seen) = known else {
                self.0.push(Seen { pool: Arc::downgrade(&pool), files, has_changed: false });
                continue;
            };
            if seen.take(files) {
                let module = pool.spec().name.as_str();
                tracing::info!(module, "its files have changed: new calls get new processes");
                pool.renew();
            }
        }
    }
}

impl Seen {
    /// Whether they have changed, and settled.
    fn take(&mut self, files: Files) -> bool {
        let is_settled = self.files == files;
        self.has_changed |= !is_settled;
        self.files = files;
        is_settled && std::mem::take(&mut self.has_changed)
    }
}

/// Those that its command names, those of the same kind beside each, and all in the folders it says to watch.
fn files(spec: &ChildSpec) -> Files {
    let dir = spec.launch.dir.clone().unwrap_or_default();
    let mut files = Files::new();
    for word in &spec.command {
        let path = dir.join(word);
        if !path.is_file() {
            continue;
        }
        if let (Some(folder), Some(kind)) = (path.parent(), path.extension()) {
            let beside = entries(folder).into_iter().filter(|path| path.extension() == Some(kind));
            beside.for_each(|path| add(path, &mut files));
        }
        add(path, &mut files);
    }
    for folder in &spec.watch {
        descend(&dir.join(folder), &mut files);
    }
    files
}

fn add(path: PathBuf, files: &mut Files) {
    if let Ok(about) = std::fs::metadata(&path)
        && about.is_file()
        && files.len() < MOST
    {
        files.insert(path, (about.modified().ok(), about.len()));
    }
}

/// Without what is hidden, and what others made.
fn descend(folder: &Path, files: &mut Files) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // A link may lead back to where it is.
            if name.starts_with('.') || FOREIGN.contains(&&*name) || files.len() >= MOST {
                continue;
            }
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else {
                add(path, files);
            }
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    // A folder that is not there now may be the next time.
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files_of(len: u64) -> Files {
        Files::from([(PathBuf::from("a"), (None, len))])
    }

    #[test]
    fn a_change_is_taken_up_once_when_it_has_settled() {
        let mut seen = Seen { pool: Weak::new(), files: files_of(1), has_changed: false };
        let looks = [1, 1, 2, 3, 3, 3, 1, 1].map(|len| seen.take(files_of(len)));
        assert_eq!(looks, [false, false, false, false, true, false, false, true]);
    }

    #[test]
    fn files_are_those_of_the_command_their_kind_and_watched_folders() {
        let root = std::env::temp_dir().join(format!("module-host-watch-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        for file in
            ["bot.py", "words.py", "notes.txt", "m/a.bin", "m/.hidden", "m/target/x", "m/deep/b"]
        {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let mut spec =
            ChildSpec::new("m", vec!["python3".into(), "bot.py".into(), "--fast".into()]);
        spec.launch.dir = Some(root.clone());
        spec.watch = vec!["m".into(), "nowhere".into()];
        let found: Vec<_> = files(&spec).into_keys().collect();
        let wanted = ["bot.py", "m/a.bin", "m/deep/b", "words.py"].map(|file| root.join(file));
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, wanted);
    }
}
