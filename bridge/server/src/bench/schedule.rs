//! When which caller is due: every 20 ms, each at a moment of its own. Looks at no clock.

use std::time::Duration;

use ringback_proto::Instant;

use super::stamp::FRAME;

/// Who is due next, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: Instant,
    pub(super) caller: usize,
    /// Of the caller's frames.
    pub(super) number: u32,
}

/// An open schedule: what is due does not depend on what came back. Callers are due in the same order in every round.
#[derive(Debug)]
pub(super) struct Schedule {
    start: Instant,
    measure_from: Instant,
    until: Instant,
    /// What is due after that is said for the sake of what was before.
    silent_from: Instant,
    phases: Vec<Duration>,
    next: Due,
}

impl Schedule {
    /// `callers` at random moments of a frame, the same in every run; frames from `start` on, counted from `measure_from` to `until`.
    pub(super) fn new(
        callers: usize,
        start: Instant,
        measure_from: Instant,
        until: Instant,
    ) -> Self {
        let frame = FRAME.as_nanos() as u64;
        let mut phases: Vec<_> =
            (0..callers as u64).map(|n| Duration::from_nanos(mix(n) % frame)).collect();
        phases.sort_unstable();
        let first = phases.first().copied().unwrap_or_default();
        let next = Due { at: start + first, caller: 0, number: 0 };
        Self { start, measure_from, until, silent_from: until, phases, next }
    }

    /// Callers speak for so long after the end; those frames are not counted.
    pub(super) fn go_on_for(&mut self, time: Duration) {
        self.silent_from = self.until + time;
    }

    /// The next frame to send; `None` once all were.
    pub(super) fn next(&self) -> Option<Due> {
        (self.next.at < self.silent_from && !self.phases.is_empty()).then_some(self.next)
    }

    /// The next frame was sent.
    pub(super) fn advance(&mut self) {
        let Due { caller, number, .. } = self.next;
        let (caller, number) =
            if caller + 1 < self.phases.len() { (caller + 1, number) } else { (0, number + 1) };
        self.next = Due { at: self.due(caller, number), caller, number };
    }

    /// When a caller's frame was due.
    pub(super) fn due(&self, caller: usize, number: u32) -> Instant {
        let phase = self.phases.get(caller).copied().unwrap_or_default();
        self.start + phase + FRAME * number
    }

    /// The last frame of a caller that was due by `now`, of those whose numbers leave `rest` when divided by `alike`.
    pub(super) fn latest(&self, caller: usize, now: Instant, rest: u32, alike: u32) -> Option<u32> {
        let first = self.due(caller, 0);
        if now < first {
            return None;
        }
        let last = u32::try_from((now - first).as_nanos() / FRAME.as_nanos()).ok()?;
        last.checked_sub((last % alike + alike - rest % alike) % alike)
    }

    /// How long after the beginning of what is counted; `None` for the warm-up.
    pub(super) fn counted(&self, due: Instant) -> Option<Duration> {
        (due >= self.measure_from).then(|| due - self.measure_from)
    }

    /// The end.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Frames a caller sends at most.
    pub(super) fn frames(&self) -> usize {
        ((self.silent_from - self.start).as_nanos() / FRAME.as_nanos()) as usize + 1
    }
}

/// Random enough, and the same on every machine (`SplitMix64`).
fn mix(n: u64) -> u64 {
    let z = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_sound_alike_are_told_apart_by_the_time() {
        let at = Instant::from_millis;
        let schedule = Schedule::new(1, at(0), at(0), at(100_000));
        let begun = schedule.due(0, 0);
        let latest =
            |after: u64, rest| schedule.latest(0, begun + Duration::from_millis(after), rest, 512);
        assert_eq!((latest(0, 0), latest(0, 1), latest(40, 2)), (Some(0), None, Some(2)));
        assert_eq!(latest(511 * 20, 511), Some(511));
        assert_eq!((latest(512 * 20, 0), latest(512 * 20, 1)), (Some(512), Some(1)));
        assert_eq!(latest(1_030 * 20, 510), Some(1_022));
        assert_eq!(schedule.latest(0, Instant::ZERO, 0, 512), (begun == at(0)).then_some(0));
    }

    fn schedule(callers: usize) -> Schedule {
        let at = Instant::from_millis;
        Schedule::new(callers, at(1_000), at(1_100), at(1_200))
    }

    fn all(mut schedule: Schedule) -> Vec<Due> {
        std::iter::from_fn(|| {
            let next = schedule.next();
            schedule.advance();
            next
        })
        .collect()
    }

    #[test]
    fn all_frames_come_in_the_order_in_which_they_are_due() {
        let dues = all(schedule(100));
        assert_eq!(dues.len(), 1_000);
        assert!(dues.is_sorted_by_key(|due| due.at));
        let again = schedule(100);
        for due in dues {
            assert_eq!(again.due(due.caller, due.number), due.at);
            assert!((due.number as usize) < again.frames());
        }
    }

    #[test]
    fn every_caller_is_due_every_20_ms_at_a_moment_of_its_own() {
        let dues = all(schedule(50));
        for caller in 0..50 {
            let mine: Vec<_> = dues.iter().filter(|due| due.caller == caller).collect();
            assert_eq!(mine.len(), 10);
            assert!(mine.windows(2).all(|pair| pair[1].at - pair[0].at == FRAME));
        }
        let moments: std::collections::BTreeSet<_> = dues.iter().map(|due| due.at).collect();
        assert!(moments.len() > 490, "{} moments", moments.len());
    }

    #[test]
    fn the_warm_up_is_not_counted() {
        let schedule = schedule(1);
        assert_eq!(schedule.counted(Instant::from_millis(1_099)), None);
        assert_eq!(schedule.counted(Instant::from_millis(1_150)), Some(Duration::from_millis(50)));
    }

    #[test]
    fn callers_go_on_after_the_end_where_they_are_asked_to() {
        let mut longer = schedule(2);
        longer.go_on_for(FRAME * 3);
        assert_eq!(longer.until(), schedule(2).until());
        assert_eq!(longer.frames(), schedule(2).frames() + 3);
        assert_eq!(all(longer).len(), all(schedule(2)).len() + 6);
    }

    #[test]
    fn without_callers_nothing_is_due() {
        assert_eq!(schedule(0).next(), None);
    }
}
