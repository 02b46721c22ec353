//! Counts of times, fine where they are short: a fixed table that takes a value in nanoseconds. Keeps no order.

/// Values below this have a slot each; above, each doubling has half so many.
const EXACT: u32 = 256;
const SHIFT: u32 = EXACT.trailing_zeros();
/// Slots for all of `u32`.
const SLOTS: usize = (EXACT + (32 - SHIFT) * EXACT / 2) as usize;

/// Points of a distribution, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Percentiles {
    /// Median.
    pub p50: u32,
    /// 99 of 100 are not above.
    pub p99: u32,
    /// 999 of 1,000 are not above.
    pub p999: u32,
    /// Highest.
    pub max: u32,
}

/// A distribution of microseconds, right within 0.8 %; its highest value is exact.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    slots: Vec<u32>,
    count: u64,
    max: u32,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { slots: vec![0; SLOTS], count: 0, max: 0 }
    }

    pub(super) fn record(&mut self, micros: u32) {
        self.slots[slot(micros)] += 1;
        self.count += 1;
        self.max = self.max.max(micros);
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (slot, more) in self.slots.iter_mut().zip(&other.slots) {
            *slot += more;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// Values recorded.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Values above a bound, which is rounded to a slot.
    pub(super) fn above(&self, micros: u32) -> u64 {
        self.slots[slot(micros) + 1..].iter().map(|&count| u64::from(count)).sum()
    }

    /// All zero for no values.
    pub(super) fn percentiles(&self) -> Percentiles {
        Percentiles { p50: self.at(0.5), p99: self.at(0.99), p999: self.at(0.999), max: self.max }
    }

    /// The value that `share` of all are not above.
    fn at(&self, share: f64) -> u32 {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (slot, &count) in self.slots.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank {
                return highest(slot).min(self.max);
            }
        }
        self.max
    }
}

fn slot(value: u32) -> usize {
    let doublings = (value >> (SHIFT - 1)).max(1).ilog2();
    (doublings * (EXACT / 2) + (value >> doublings)) as usize
}

/// The highest value of a slot.
fn highest(slot: usize) -> u32 {
    let slot = slot as u32;
    if slot < EXACT {
        return slot;
    }
    let doublings = slot / (EXACT / 2) - 1;
    let within = slot - doublings * (EXACT / 2);
    (((u64::from(within) + 1) << doublings) - 1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u32>) -> Histogram {
        let mut histogram = Histogram::new();
        values.into_iter().for_each(|value| histogram.record(value));
        histogram
    }

    #[test]
    fn percentiles_are_ranks_not_averages() {
        let p = of((1..=200).rev()).percentiles();
        assert_eq!((p.p50, p.p99, p.p999, p.max), (100, 198, 200, 200));
        assert_eq!(of([7]).percentiles(), Percentiles { p50: 7, p99: 7, p999: 7, max: 7 });
        assert_eq!(of([]).percentiles(), Percentiles::default());
    }

    #[test]
    fn every_value_has_a_slot_that_is_right_within_one_percent() {
        for value in (0..100_000).chain([u32::MAX - 1, u32::MAX, 1 << 31, (1 << 20) + 5_000]) {
            let (slot, highest) = (slot(value), highest(slot(value)));
            assert!(slot < SLOTS, "{value} > slot {slot}");
            assert!(highest >= value && highest - value <= value / 128, "{value} > {highest}");
        }
        assert_eq!(slot(u32::MAX), SLOTS - 1);
    }

    #[test]
    fn distributions_add_up_and_count_what_is_above() {
        let mut all = of([1, 2, 3]);
        all.add(&of([1_000_000]));
        assert_eq!((all.count(), all.percentiles().max), (4, 1_000_000));
        assert_eq!((all.above(2), all.above(20_000), all.above(2_000_000)), (2, 1, 0));
    }
}
