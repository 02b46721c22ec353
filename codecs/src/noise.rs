//! The background of a track: measures how quiet it gets, and makes noise of that level. Decides nothing about when to play it.

/// What an unmeasured or digitally silent background counts as: one step of a 16-bit sample, about -90 dB of full scale.
const QUIETEST: f32 = 1.0;
/// What is louder all the time (-44 dB of full scale) is a tone or music, not background; noise that loud would be worse than the
/// gap.
const LOUDEST: f32 = 200.0;
/// Blocks after which the measured floor may rise again: 1 s of 10 ms blocks.
const WINDOW_BLOCKS: u32 = 100;
/// Peak of the uniform noise for a level of 1. Smoothing by halves leaves an RMS of a third of the peak, so 2.5 stays a sixth
/// (1.6 dB) below the level, which no fluctuation of a block can make up for.
const PEAK: f32 = 2.5;

/// Level of the background, as the quietest mean magnitude of a block in the last one to two seconds.
///
/// The mean magnitude never exceeds the RMS of the same sound, so noise of that RMS is never the louder of the two.
#[derive(Debug, Clone, Copy, Default)]
pub struct Floor {
    now: Option<u32>,
    before: Option<u32>,
    blocks: u32,
}

impl Floor {
    /// Takes in a 10 ms block with mean magnitude `level`, in steps of a 16-bit sample.
    pub fn measure(&mut self, level: u32) {
        if self.blocks == WINDOW_BLOCKS {
            self.before = self.now.take();
            self.blocks = 0;
        }
        self.now = Some(self.now.map_or(level, |lowest| lowest.min(level)));
        self.blocks += 1;
    }

    /// The floor in steps of a 16-bit sample; at least 1, so that what is made of it is never dead silence, and at most 200.
    #[must_use]
    pub fn level(&self) -> f32 {
        let lowest = match (self.now, self.before) {
            (Some(now), Some(before)) => Some(now.min(before)),
            (now, before) => now.or(before),
        };
        lowest.map_or(QUIETEST, |level| (level as f32).clamp(QUIETEST, LOUDEST))
    }
}

/// Comfort noise: white noise smoothed by a one-pole low-pass, as room noise is duller than white.
///
/// The same seed gives the same noise on every machine.
#[derive(Debug, Clone)]
pub struct ComfortNoise {
    seed: u64,
    state: u64,
    smoothed: f32,
}

impl ComfortNoise {
    /// A generator; streams that may be mixed should have different seeds.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, state: seed ^ 0x9E37_79B9_7F4A_7C15, smoothed: 0.0 }
    }

    /// The next sample of noise whose RMS stays below `level`.
    pub fn sample(&mut self, level: f32) -> f32 {
        // A 64-bit linear congruential generator; its upper half is white enough to listen to.
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let white = (self.state >> 32) as i32 as f32 / 2_147_483_648.0;
        self.smoothed = 0.5 * (self.smoothed + white);
        self.smoothed * PEAK * level
    }

    /// Starts over from the seed.
    pub const fn reset(&mut self) {
        *self = Self::new(self.seed);
    }
}

#[cfg(test)]
mod tests {
    use super::{ComfortNoise, Floor, WINDOW_BLOCKS};

    #[test]
    fn noise_is_below_its_level_and_not_silent() {
        let mut noise = ComfortNoise::new(1);
        let samples: Vec<f32> = (0..48_000).map(|_| noise.sample(100.0)).collect();
        let rms = (samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32).sqrt();
        assert!((75.0..90.0).contains(&rms), "{rms}");
        let mean = samples.iter().sum::<f32>() / samples.len() as f32;
        assert!(mean.abs() < 2.0, "{mean}");
    }

    #[test]
    fn seeds_differ_and_reset_repeats() {
        let take = |noise: &mut ComfortNoise| -> Vec<f32> {
            (0..32).map(|_| noise.sample(1_000.0)).collect()
        };
        let mut one = ComfortNoise::new(1);
        let first = take(&mut one);
        assert_ne!(first, take(&mut ComfortNoise::new(2)));
        assert_ne!(first, take(&mut one));
        one.reset();
        assert_eq!(first, take(&mut one));
    }

    #[test]
    fn floor_follows_down_at_once_and_up_within_two_windows() {
        let mut floor = Floor::default();
        assert_eq!(floor.level(), 1.0);
        floor.measure(300);
        floor.measure(50);
        floor.measure(9_000);
        assert_eq!(floor.level(), 50.0);
        for _ in 0..2 * WINDOW_BLOCKS {
            floor.measure(150);
        }
        assert_eq!(floor.level(), 150.0);
        for _ in 0..2 * WINDOW_BLOCKS {
            floor.measure(4_000);
        }
        assert_eq!(floor.level(), 200.0);
        floor.measure(0);
        assert_eq!(floor.level(), 1.0);
    }
}
