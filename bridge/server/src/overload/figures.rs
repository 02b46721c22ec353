//! What the process uses of memory and descriptors, and how much of them it may, as Linux tells it. Elsewhere nothing is known.

use super::{Bounds, Load};
use crate::telemetry::METRICS;
use crate::workers::Lags;

/// All that can be known now. Reads files of the kernel.
pub(super) fn read(bounds: &Bounds, lags: &Lags) -> Load {
    Load {
        calls: METRICS.streams.get(),
        lag: lags.worst(),
        memory: system::memory(bounds.max_memory),
        descriptors: system::descriptors(),
    }
}

/// Lets this process open as many files and sockets as it may: by default many systems give it 1,024 of a million.
pub(crate) fn raise_descriptors() {
    system::raise_descriptors();
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs;
    use std::path::{Path, PathBuf};

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::super::Share;

    /// The scarcer of what this process may take itself and what its control group has left, with all that run in it.
    pub(super) fn memory(most: Option<u64>) -> Option<Share> {
        let own = most.and_then(|of| {
            let status = fs::read_to_string("/proc/self/status").ok()?;
            Some(Share { used: resident(&status)?, of })
        });
        let group = fs::read_to_string("/proc/self/cgroup").ok();
        let groups = group.map(|text| of_groups(Path::new("/sys/fs/cgroup"), &text));
        scarcest(groups.into_iter().flatten().chain(own))
    }

    fn scarcest(shares: impl Iterator<Item = Share>) -> Option<Share> {
        shares.max_by(|a, b| a.ratio().total_cmp(&b.ratio()))
    }

    /// Octets of `VmRSS` in what `/proc/self/status` says.
    fn resident(status: &str) -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }

    /// What is used of the control group that `/proc/self/cgroup` names, and of those above it, where they have a limit (version 2).
    fn of_groups(root: &Path, text: &str) -> Vec<Share> {
        let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
        let group = path.map(|path| root.join(path.trim_end_matches('/')));
        let groups = group.iter().flat_map(|group| group.ancestors());
        groups.take_while(|group| group.starts_with(root)).filter_map(of_group).collect()
    }

    fn of_group(group: &Path) -> Option<Share> {
        let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        // "max" is no number, and no limit.
        let of = number(group.join("memory.max"))?;
        let used = number(group.join("memory.current"))?;
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        Some(Share { used: used.saturating_sub(given_back(&stat)), of })
    }

    /// What the kernel gives back before anybody is killed: what it only keeps of files and of their names.
    fn given_back(stat: &str) -> u64 {
        const KINDS: [&str; 3] = ["inactive_file", "active_file", "slab_reclaimable"];
        let pairs = stat.lines().filter_map(|line| line.split_once(' '));
        let kept = pairs.filter(|(kind, _)| KINDS.contains(kind));
        kept.filter_map(|(_, octets)| octets.trim().parse::<u64>().ok()).sum()
    }

    pub(super) fn descriptors() -> Option<Share> {
        const OPEN: &str = "/proc/self/fd";
        let of = getrlimit(Resource::Nofile).current?;
        // Kernels since 6.2 tell the number as the folder's length; others have it counted, the one to count with left out.
        let used = match fs::metadata(OPEN).ok()?.len() {
            0 => fs::read_dir(OPEN).ok()?.count().saturating_sub(1) as u64,
            known => known,
        };
        Some(Share { used, of })
    }

    pub(super) fn raise_descriptors() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // Where it cannot be raised, opening one too many says so.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn this_process_uses_some_memory_and_some_descriptors() {
            let before = descriptors().expect("the kernel tells");
            let files: Vec<_> = (0..20).map(|_| fs::File::open("/dev/null").unwrap()).collect();
            let after = descriptors().expect("the kernel tells");
            assert!(after.used >= before.used + 10, "{before:?} {after:?} {}", files.len());
            let memory = memory(Some(1 << 40)).expect("the kernel tells");
            assert!(memory.used > 1 << 20, "{memory:?}");
        }

        #[test]
        fn the_scarcest_of_all_groups_counts_and_caches_do_not() {
            let root = std::env::temp_dir().join(format!("ringback-groups-{}", std::process::id()));
            let group = root.join("system.slice/ringback.service");
            fs::create_dir_all(&group).unwrap();
            let write = |group: &Path, of: &str, used: &str, stat: &str| {
                fs::write(group.join("memory.max"), of).unwrap();
                fs::write(group.join("memory.current"), used).unwrap();
                fs::write(group.join("memory.stat"), stat).unwrap();
            };
            let found =
                || scarcest(of_groups(&root, "0::/system.slice/ringback.service\n").into_iter());
            assert_eq!(found(), None, "no group has a limit");
            write(&group, "max\n", "700\n", "");
            assert_eq!(found(), None);
            let stat = "anon 1\ninactive_file 200\nactive_file 40\nslab_reclaimable 10\nslab 90\n";
            write(&group, "1000\n", "700\n", stat);
            assert_eq!(found(), Some(Share { used: 450, of: 1000 }));
            write(&root.join("system.slice"), "1200\n", "900\n", "");
            assert_eq!(found(), Some(Share { used: 900, of: 1200 }), "it is shared with others");
            fs::remove_dir_all(&root).unwrap();
        }

        #[test]
        fn the_resident_part_is_read_from_the_kernels_words() {
            assert_eq!(resident("Name:\tx\nVmHWM:\t 9 kB\nVmRSS:\t   2048 kB\n"), Some(2 << 20));
            assert_eq!(resident("Name:\tx\n"), None);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::super::Share;

    pub(super) fn memory(_most: Option<u64>) -> Option<Share> {
        None
    }

    pub(super) fn descriptors() -> Option<Share> {
        None
    }

    pub(super) fn raise_descriptors() {}
}
