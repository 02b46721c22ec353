//! What a process has used, as Linux tells it in /proc (proc(5)); elsewhere nothing is told.

use std::fs;
use std::time::Duration;

/// What a process has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all its threads, user and system.
    pub cpu: Duration,
    /// Time that its threads were ready and had no core, because something else ran on it.
    pub waited: Duration,
    /// Resident memory.
    pub rss_kib: u64,
    /// Time that this machine's host gave to others so far, all cores together.
    pub stolen: Duration,
}

/// Linux counts for user space in hundredths of a second on every architecture (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// What the process `id` has used so far.
pub(crate) fn of(id: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let (cpu, waited) = schedule_of_threads(id).or_else(|| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        Some((cpu_in_ticks(&stat)?, Duration::ZERO))
    })?;
    let stolen = fs::read_to_string("/proc/stat").ok();
    let stolen = stolen.as_deref().and_then(stolen_in_ticks).unwrap_or_default();
    Some(Usage { cpu, waited, rss_kib: rss(&status)?, stolen })
}

/// Time on a core and time waited for one, to the nanosecond, where the kernel keeps such books.
fn schedule_of_threads(id: u32) -> Option<(Duration, Duration)> {
    let (mut cpu, mut waited) = (0, 0);
    for thread in fs::read_dir(format!("/proc/{id}/task")).ok()? {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        let mut figures = text.split_whitespace().map(str::parse::<u64>);
        cpu += figures.next()?.ok()?;
        waited += figures.next()?.ok()?;
    }
    (cpu > 0).then(|| (Duration::from_nanos(cpu), Duration::from_nanos(waited)))
}

/// User and system time in the text of /proc/<id>/stat.
fn cpu_in_ticks(stat: &str) -> Option<Duration> {
    // The name in brackets may hold spaces; the fields are counted behind it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?;
    Some(TICK * ticks)
}

fn rss(status: &str) -> Option<u64> {
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    rss.trim().trim_end_matches(" kB").parse().ok()
}

/// The eighth figure of the first line of /proc/stat.
fn stolen_in_ticks(stat: &str) -> Option<Duration> {
    let ticks = stat.lines().next()?.split_whitespace().nth(8)?.parse::<u32>().ok()?;
    Some(TICK * ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_what_linux_prints() {
        let stat = "42 (a) name) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 1 2 3";
        assert_eq!(cpu_in_ticks(stat), Some(Duration::from_secs(3)));
        assert_eq!(rss("Name:\ta\nVmRSS:\t   18432 kB\nThreads:\t3\n"), Some(18_432));
        let stat = "cpu  78198 0 12062 267653 2148 0 1280 186 0 0\ncpu0 1 2 3\n";
        assert_eq!(stolen_in_ticks(stat), Some(Duration::from_millis(1_860)));
        assert_eq!((cpu_in_ticks(""), rss(""), stolen_in_ticks("")), (None, None, None));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_is_told_what_it_used() {
        let usage = of(std::process::id()).expect("Linux tells");
        assert!(usage.cpu > Duration::ZERO && usage.rss_kib > 500, "{usage:?}");
    }
}
