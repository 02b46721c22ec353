//! The filter behind every kernel: one Kaiser-windowed sinc per ratio, in `f64`. Designs coefficients; filters nothing.

use std::f64::consts::PI;

/// Half the filter's length, in samples of the lower of the two rates: 2.5 ms of a telephone's 8 kHz.
pub(super) const HALF_LENGTH: usize = 18;

/// How far down the stop band is, and thereby where it begins: Kaiser's formula for this length gives a transition from 0.427
/// to 0.573 of the lower rate.
const ATTENUATION_DB: f64 = 83.0;

/// Impulse response at the rate both grids share, where one sample of the lower rate is `widest` steps.
///
/// The cut-off is the lower rate's half, so every `widest`-th tap but the middle one is zero (and left at exactly 0.0); the
/// ends fall on such zeros and are not stored. Symmetric to the last bit, gain 1 at the middle of its spectrum per step of
/// the lower rate; callers scale.
pub(super) fn prototype(widest: usize) -> Vec<f64> {
    let centre = widest * HALF_LENGTH - 1;
    let beta = 0.1102 * (ATTENUATION_DB - 8.7);
    let tap = |offset: usize| {
        if offset == 0 {
            return 1.0;
        }
        if offset.is_multiple_of(widest) {
            return 0.0;
        }
        let angle = PI * offset as f64 / widest as f64;
        let place = offset as f64 / (centre + 1) as f64;
        angle.sin() / angle * bessel_i0(beta * (1.0 - place * place).sqrt()) / bessel_i0(beta)
    };
    (0..=2 * centre).map(|k| tap(k.abs_diff(centre))).collect()
}

/// Modified Bessel function of the first kind, order zero, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let (mut sum, mut term, mut k) = (1.0, 1.0, 1.0);
    while term > sum * f64::EPSILON {
        term *= quarter / (k * k);
        sum += term;
        k += 1.0;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bessel_matches_tables() {
        // Abramowitz and Stegun, table 9.8 (there scaled by e^-x) and the value at 1.
        assert!((bessel_i0(1.0) - 1.266_065_877_752_008_4).abs() < 1e-14);
        assert!((bessel_i0(5.0) * (-5.0f64).exp() - 0.183_540_8).abs() < 1e-7);
        assert!((bessel_i0(10.0) * (-10.0f64).exp() - 0.127_833_3).abs() < 1e-7);
    }

    #[test]
    fn prototype_is_symmetric_with_exact_zeros() {
        for widest in 2..=6 {
            let taps = prototype(widest);
            let centre = taps.len() / 2;
            assert_eq!(taps.len(), 2 * widest * HALF_LENGTH - 1);
            assert!(taps.iter().eq(taps.iter().rev()));
            for (k, &tap) in taps.iter().enumerate() {
                let on_grid = k != centre && k.abs_diff(centre).is_multiple_of(widest);
                assert_eq!(tap == 0.0, on_grid, "tap {k} of {widest}");
            }
        }
    }
}
