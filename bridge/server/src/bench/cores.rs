//! Which core does what: the server under test gets cores of its own, the generator another. Linux only; elsewhere all float.

/// Who runs where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cores {
    /// The server's.
    pub(super) server: Vec<usize>,
    /// The generator's.
    pub(super) generator: usize,
}

impl Cores {
    /// `server_threads` cores for the server and the next one for the generator, or `None` if there are not so many.
    pub(super) fn split(server_threads: usize) -> Option<Self> {
        divide(&system::allowed(), server_threads)
    }
}

fn divide(allowed: &[usize], server_threads: usize) -> Option<Cores> {
    let (server, rest) = allowed.split_at_checked(server_threads)?;
    Some(Cores { server: server.to_vec(), generator: *rest.first()? })
        .filter(|c| !c.server.is_empty())
}

/// Cores this process may use.
pub(super) fn count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs `act` with this thread, and what it starts, on `cores`; on any if there are none.
pub(super) fn with_cores<T>(cores: &[usize], act: impl FnOnce() -> T) -> T {
    if cores.is_empty() {
        return act();
    }
    let before = system::allowed();
    system::pin(cores);
    let outcome = act();
    system::pin(&before);
    outcome
}

/// Lets this process open as many sockets as it may.
pub(super) fn raise_open_files() {
    system::raise_open_files();
}

#[cfg(target_os = "linux")]
mod system {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    pub(super) fn allowed() -> Vec<usize> {
        let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()
    }

    /// Where the system refuses, the thread floats: the run says less, but it runs.
    pub(super) fn pin(cores: &[usize]) {
        let mut set = CpuSet::new();
        cores.iter().for_each(|&core| set.set(core));
        let _ = sched_setaffinity(None, &set);
    }

    /// Where it cannot be raised, opening one socket too many says so.
    pub(super) fn raise_open_files() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn allowed() -> Vec<usize> {
        Vec::new()
    }

    pub(super) fn pin(_: &[usize]) {}

    pub(super) fn raise_open_files() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_never_shares_a_core_with_the_server() {
        let cores =
            |server: &[usize], generator| Some(Cores { server: server.to_vec(), generator });
        assert_eq!(divide(&[0, 1], 1), cores(&[0], 1));
        assert_eq!(divide(&[2, 5, 7], 2), cores(&[2, 5], 7));
        assert_eq!(divide(&[0, 1], 2), None);
        assert_eq!(divide(&[0], 1), None);
        assert_eq!(divide(&[], 0), None);
    }
}
