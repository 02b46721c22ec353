//! Finds the pitch period of the end of a signal by normalised cross-correlation. Does not decide whether there is one.

use std::ops::RangeInclusive;

/// Shortest period looked for: 5 ms, 200 Hz. Higher voices are found at a multiple of their period.
const MIN_MS: f32 = 5.0;
/// Longest period looked for: 15 ms, 66 Hz.
const MAX_MS: f32 = 15.0;
/// How much of the end is compared.
const WINDOW_MS: f32 = 20.0;
/// Samples per millisecond of the first, coarse search.
const COARSE_PER_MS: f32 = 8.0;

/// The lag, in samples, at which the last 20 ms of `signal` look most like what came before them, between 5 and 15 ms; `None`
/// if `signal` is shorter than 35 ms. `per_ms` is samples per millisecond.
pub(crate) fn period(signal: &[f32], per_ms: f32) -> Option<usize> {
    let [min, max, window] = [MIN_MS, MAX_MS, WINDOW_MS].map(|ms| (ms * per_ms) as usize);
    let signal = &signal[signal.len().checked_sub(window + max)?..];
    let step = ((per_ms / COARSE_PER_MS) as usize).max(1);
    if step == 1 {
        return Some(best_lag(signal, window, min..=max));
    }
    // Averaging is the low-pass: what it lets through of higher sound is settled by the fine search.
    let coarse: Vec<f32> = signal.rchunks_exact(step).rev().map(|s| s.iter().sum()).collect();
    let near = step * best_lag(&coarse, window / step, min / step..=max / step);
    Some(best_lag(signal, window, (near - step).max(min)..=(near + step).min(max)))
}

fn best_lag(signal: &[f32], window: usize, lags: RangeInclusive<usize>) -> usize {
    let recent = &signal[signal.len() - window..];
    let mut best = (*lags.start(), f32::MIN);
    for lag in lags {
        let Some(start) = (signal.len() - window).checked_sub(lag) else { break };
        let earlier = &signal[start..start + window];
        // The 1 keeps silence from dividing by zero; it is far below one step of a sample.
        let score = dot(recent, earlier) / (dot(earlier, earlier) + 1.0).sqrt();
        if score > best.1 {
            best = (lag, score);
        }
    }
    best.0
}

/// Sums in eight lanes, because the compiler may not reorder float additions by itself.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::period;

    fn pulses(every: usize, len: usize) -> Vec<f32> {
        (0..len).map(|i| 1_000.0 * (0.8_f32).powi((i % every) as i32)).collect()
    }

    #[test]
    fn finds_the_period_at_every_rate() {
        for per_ms in [8_usize, 11, 16, 24, 48, 192] {
            let every = 8 * per_ms + per_ms / 3;
            let found = period(&pulses(every, 60 * per_ms), per_ms as f32);
            assert_eq!(found, Some(every), "{per_ms} kHz");
        }
    }

    #[test]
    fn silence_has_some_period_and_too_little_sound_none() {
        assert_eq!(period(&[0.0; 480], 8.0), Some(40));
        assert_eq!(period(&[0.0; 279], 8.0), None);
    }
}
