//! What one way of one connection does, and when: nothing but the seed decides. Moves no octet.

use std::time::Duration;

use super::Faults;

/// How long a draw of the jitter holds.
const DRAWN_EVERY: Duration = Duration::from_millis(10);
/// A line of limited rate passes on what it may in so long, at once.
const TURN: u64 = 50;

/// What a line of limited rate holds beyond what is late on it: so long it takes until whoever sends too much feels it.
const HELD: Duration = Duration::from_millis(250);

/// One way of one connection.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    /// Nothing wrong, if this way is none of those that are bad.
    faults: Faults,
    key: u64,
    flips: Flips,
}

impl Schedule {
    pub(super) fn new(faults: &Faults, connection: u64, inward: bool) -> Self {
        let faults = if faults.way.has(inward) { faults.clone() } else { Faults::default() };
        let key = mix(mix(faults.seed, connection), u64::from(inward));
        let flips = Flips::new(faults.flip, mix(key, 1));
        Self { faults, key, flips }
    }

    /// How late is what comes so long after the connection was opened.
    pub(super) fn delay(&self, since: Duration) -> Duration {
        let jitter = u64::try_from(self.faults.jitter.as_micros()).unwrap_or(u64::MAX - 1);
        let slot = since.as_nanos() / DRAWN_EVERY.as_nanos();
        let slot = u64::try_from(slot).unwrap_or(u64::MAX);
        let drawn = mix(mix(self.key, 2), slot) % (jitter + 1);
        self.faults.latency + Duration::from_micros(drawn)
    }

    /// Which stall it is so long after the opening, and when it ends.
    pub(super) fn stall(&self, since: Duration) -> Option<(u64, Duration)> {
        self.faults.stall?.at(since)
    }

    pub(super) const fn half_close(&self) -> Option<Duration> {
        self.faults.half_close
    }

    /// Most octets of one write.
    pub(super) fn most_at_once(&self) -> usize {
        let turn = self.faults.rate.map(|rate| usize::try_from(rate / TURN).unwrap_or(usize::MAX));
        let slice = self.faults.slice.map(std::num::NonZeroUsize::get);
        turn.into_iter().chain(slice).min().unwrap_or(usize::MAX).max(1)
    }

    /// Octets that a line of limited rate holds: what is late on it, and a little.
    pub(super) fn holds(&self) -> Option<usize> {
        let rate = self.faults.rate?;
        let time = HELD + self.faults.latency + self.faults.jitter;
        Some((rate as f64 * time.as_secs_f64()) as usize)
    }

    /// How long a write of so many octets keeps the line busy.
    pub(super) fn takes(&self, octets: usize) -> Duration {
        let seconds = |rate: u64| octets as f64 / rate.max(1) as f64;
        self.faults.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(seconds(rate)))
    }

    /// Turns over bits of the next octets of the stream, and says how many.
    pub(super) fn flip(&mut self, octets: &mut [u8]) -> u64 {
        self.flips.next_in(octets)
    }
}

/// Where bits are turned over: the distances between them are drawn, so an octet that is well costs nothing.
#[derive(Debug, Clone)]
struct Flips {
    probability: f64,
    key: u64,
    drawn: u64,
    /// Bits until the next one; `None` is never.
    left: Option<u64>,
}

impl Flips {
    fn new(probability: f64, key: u64) -> Self {
        let mut flips = Self { probability, key, drawn: 0, left: None };
        flips.left = flips.draw();
        flips
    }

    fn draw(&mut self) -> Option<u64> {
        if self.probability <= 0.0 {
            return None;
        }
        self.drawn += 1;
        // 53 bits are what a float holds; never 0, whose logarithm is not finite.
        let chance = ((mix(self.key, self.drawn) >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
        let distance = chance.ln() / (1.0 - self.probability.min(1.0)).ln();
        // Certain flips divide by minus infinity: the distance is 0.
        Some(if distance.is_finite() { distance as u64 } else { u64::MAX })
    }

    fn next_in(&mut self, octets: &mut [u8]) -> u64 {
        let bits = octets.len() as u64 * 8;
        let (mut at, mut count) = (0, 0);
        while let Some(left) = self.left {
            let bit = at + left;
            if bit >= bits {
                self.left = Some(bit - bits);
                break;
            }
            octets[(bit / 8) as usize] ^= 1 << (bit % 8);
            count += 1;
            at = bit + 1;
            self.left = self.draw();
        }
        count
    }
}

/// A number that looks random and is the same for the same two (SplitMix64).
fn mix(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::Way;
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn delays(faults: &Faults, connection: u64, inward: bool) -> Vec<Duration> {
        let schedule = Schedule::new(faults, connection, inward);
        (0..500).map(|slot| schedule.delay(10 * slot * MS)).collect()
    }

    #[test]
    fn jitter_is_drawn_anew_for_every_seed_connection_and_way() {
        let faults = Faults { latency: 50 * MS, jitter: 200 * MS, seed: 7, ..Faults::default() };
        let first = delays(&faults, 0, true);
        assert_eq!(first, delays(&faults, 0, true));
        assert_ne!(first, delays(&faults, 1, true));
        assert_ne!(first, delays(&faults, 0, false));
        assert_ne!(first, delays(&Faults { seed: 8, ..faults.clone() }, 0, true));
        let (least, most) = (first.iter().min().unwrap(), first.iter().max().unwrap());
        assert!(*least >= 50 * MS && *least < 60 * MS, "{least:?}");
        assert!(*most <= 250 * MS && *most > 240 * MS, "{most:?}");
        let one_way = Faults { way: Way::Out, ..faults };
        assert_eq!(delays(&one_way, 0, true), vec![Duration::ZERO; 500]);
    }

    #[test]
    fn bits_are_turned_over_at_the_same_places_however_the_stream_is_cut() {
        let faults = Faults { flip: 1e-3, seed: 3, ..Faults::default() };
        let flipped = |cut: usize| {
            let mut schedule = Schedule::new(&faults, 0, true);
            let mut stream = vec![0; 100_000];
            let count: u64 = stream.chunks_mut(cut).map(|piece| schedule.flip(piece)).sum();
            let found: u64 = stream.iter().map(|octet| u64::from(octet.count_ones())).sum();
            assert_eq!(count, found);
            (stream, count)
        };
        let (whole, count) = flipped(100_000);
        assert!((600..1_000).contains(&count), "{count} of 800,000");
        assert!(flipped(1).0 == whole && flipped(333).0 == whole);
        let mut certain = [0xf0; 4];
        let all = Faults { flip: 1.0, ..Faults::default() };
        assert_eq!(Schedule::new(&all, 0, true).flip(&mut certain), 32);
        assert_eq!(certain, [0x0f; 4]);
        assert_eq!(Schedule::new(&Faults::default(), 0, true).flip(&mut certain), 0);
    }
}
