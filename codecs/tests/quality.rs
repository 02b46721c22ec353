//! The resampler's data sheet, measured and enforced for every pair of rates. Measures through the public API only.
//!
//! `cargo test -p ringback-codecs --test quality data_sheet -- --nocapture` prints the table.

#![cfg(feature = "resample")]

use std::f64::consts::TAU;

use audioadapter_buffers::direct::InterleavedSlice;
use proptest::prelude::*;
use ringback_codecs::{Resampler, SampleRate};
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

const RATES: [u32; 8] = [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];
/// Tones are 1 dB below full scale.
const AMPLITUDE: f64 = 29_204.0;
/// Analysed are 0.4 s after 0.2 s of settling: all multiples of 2.5 Hz are orthogonal on them.
const SETTLE_MS: u32 = 200;
const WINDOW_MS: u32 = 400;
const GRID_HZ: f64 = 2.5;

fn rate(hz: u32) -> SampleRate {
    SampleRate::new(hz).expect("within the range of rates")
}

fn pairs() -> impl Iterator<Item = (u32, u32)> {
    RATES.into_iter().flat_map(|from| RATES.into_iter().map(move |to| (from, to)))
}

/// Pairs whose ratio is of small numbers, which filters of our own serve.
fn has_own_filter(from: u32, to: u32) -> bool {
    let ratio = f64::from(from.max(to)) / f64::from(from.min(to));
    [2.0, 3.0, 4.0, 6.0, 1.5, 4.0 / 3.0].contains(&ratio)
}

fn tone(hz: f64, rate: u32, samples: u32) -> Vec<i16> {
    let step = TAU * hz / f64::from(rate);
    (0..samples).map(|n| (AMPLITUDE * (step * f64::from(n)).sin()).round() as i16).collect()
}

/// Feeds `input` in frames of 20 ms, as calls do.
fn in_frames(from: u32, to: u32, input: &[i16]) -> Vec<i16> {
    let mut resampler = Resampler::new(rate(from), rate(to));
    let mut output = Vec::new();
    for frame in input.chunks(from as usize / 50) {
        resampler.process(frame, &mut output);
    }
    output
}

/// Output for a tone, cut to the window, with the index of its first sample.
fn settled(from: u32, to: u32, hz: f64) -> (Vec<f64>, usize) {
    let input = tone(hz, from, from / 1_000 * (SETTLE_MS + WINDOW_MS + 100) + from / 10);
    let output = in_frames(from, to, &input);
    let first = (to * SETTLE_MS / 1_000) as usize;
    let samples = (to * WINDOW_MS / 1_000) as usize;
    (output[first..first + samples].iter().map(|&sample| f64::from(sample)).collect(), first)
}

/// Amplitudes of `sin` and `cos` at `hz` in samples of which the first has index `first`.
fn component(samples: &[f64], first: usize, rate: u32, hz: f64) -> (f64, f64) {
    let step = TAU * hz / f64::from(rate);
    let (mut sine, mut cosine) = (0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let (s, c) = (step * (first + n) as f64).sin_cos();
        sine += sample * s;
        cosine += sample * c;
    }
    let scale = 2.0 / samples.len() as f64;
    (sine * scale, cosine * scale)
}

fn power(samples: &[f64]) -> f64 {
    samples.iter().map(|sample| sample * sample).sum::<f64>() / samples.len() as f64
}

fn decibels(power_ratio: f64) -> f64 {
    10.0 * power_ratio.max(1e-15).log10()
}

/// How loud a tone comes out, and how far all else (images, distortion, rounding) is below it; both in dB.
fn gain_and_sinad(from: u32, to: u32, hz: f64) -> (f64, f64) {
    let (output, first) = settled(from, to, hz);
    let (sine, cosine) = component(&output, first, to, hz);
    let signal = (sine * sine + cosine * cosine) / 2.0;
    let rest = (power(&output) - signal).max(0.0);
    (decibels(2.0 * signal / (AMPLITUDE * AMPLITUDE)), -decibels(rest / signal))
}

/// All that comes out for a tone that should not come out, in dB of the tone.
fn leak(from: u32, to: u32, hz: f64) -> f64 {
    decibels(2.0 * power(&settled(from, to, hz).0) / (AMPLITUDE * AMPLITUDE))
}

fn delay_ms(from: u32, to: u32) -> f64 {
    let hz = 25.0;
    let (output, first) = settled(from, to, hz);
    let (sine, cosine) = component(&output, first, to, hz);
    (-cosine).atan2(sine) / (TAU * hz) * 1_000.0
}

/// `count` tones from `low` to `high`, on the grid.
fn sweep(low: f64, high: f64, count: u32) -> impl Iterator<Item = f64> {
    let step = (high - low) / f64::from(count - 1);
    (0..count).map(move |n| ((low + step * f64::from(n)) / GRID_HZ).round() * GRID_HZ)
}

/// What the table says of a pair. The band edge is 0.425 of the lower rate; images are the worst sum of all that accompanies
/// a tone below that; aliases the worst that comes out of a tone beyond 0.575 of the lower rate (0.52 where `rubato` works).
#[derive(Debug)]
struct Sheet {
    sinad_1k: f64,
    sinad_3k: f64,
    edge_gain: f64,
    worst_image: f64,
    worst_alias: Option<f64>,
    delay_ms: f64,
}

impl Sheet {
    fn measure(from: u32, to: u32) -> Self {
        let low = f64::from(from.min(to));
        let pass = 0.425;
        let stop = if has_own_filter(from, to) { 0.575 } else { 0.52 };
        let highest = f64::from(from) / 2.0 - 10.0;
        Self {
            sinad_1k: gain_and_sinad(from, to, 1_000.0).1,
            sinad_3k: gain_and_sinad(from, to, 3_000.0).1,
            edge_gain: (gain_and_sinad(from, to, pass * low).0 * 1_000.0).round() / 1_000.0,
            worst_image: sweep(300.0, pass * low, 14)
                .map(|hz| -gain_and_sinad(from, to, hz).1)
                .fold(f64::MIN, f64::max),
            worst_alias: (from > to).then(|| {
                sweep(stop * low, highest, 14).map(|hz| leak(from, to, hz)).fold(f64::MIN, f64::max)
            }),
            delay_ms: delay_ms(from, to),
        }
    }
}

#[test]
#[allow(clippy::print_stdout, reason = "the table is for people to read and paste")]
fn data_sheet() {
    let mut broken = Vec::new();
    println!(
        "| Hz | filter | SINAD 1 kHz / 3 kHz, dB | gain at band edge, dB | images, dB | aliases, dB |"
    );
    println!("|---|---|---|---|---|---|");
    for (from, to) in pairs().filter(|(from, to)| from != to) {
        let resampler = Resampler::new(rate(from), rate(to)).to_string();
        let (pair, filter) = resampler.split_once(", ").expect("rates, then the filter");
        let sheet = Sheet::measure(from, to);
        let aliases = sheet.worst_alias.map_or("-".to_owned(), |alias| format!("{alias:.1}"));
        println!(
            "| {pair} | {filter} | {:.1} / {:.1} | {:.3} | {:.1} | {aliases} |",
            sheet.sinad_1k,
            sheet.sinad_3k,
            sheet.edge_gain + 0.0,
            sheet.worst_image
        );

        let own = has_own_filter(from, to);
        let stated = Resampler::new(rate(from), rate(to)).delay().as_secs_f64() * 1_000.0;
        let kept = (sheet.delay_ms - stated).abs() < 0.002
            && sheet.delay_ms <= if own { 2.25 } else { 10.01 }
            && sheet.sinad_1k.min(sheet.sinad_3k) >= 89.0
            && sheet.edge_gain.abs() <= if own { 0.01 } else { 0.2 }
            && sheet.worst_image <= -80.0
            && sheet.worst_alias.is_none_or(|alias| alias <= -80.0);
        if !kept {
            broken.push((resampler, stated, sheet));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn frame_borders_leave_no_trace() {
    for (from, to) in pairs() {
        let hz = 1_010.0;
        let (output, first) = settled(from, to, hz);
        for sideband in 1..=40 {
            for hz in [hz + 50.0 * f64::from(sideband), (hz - 50.0 * f64::from(sideband)).abs()] {
                let (sine, cosine) = component(&output, first, to, hz);
                let level = decibels((sine * sine + cosine * cosine) / (AMPLITUDE * AMPLITUDE));
                assert!(level < -95.0, "{from} > {to}: {level:.1} dB at {hz} Hz");
            }
        }
    }
}

/// The same sound out of `rubato`'s longest and best filter, in `f64` and from unrounded input.
///
/// Its input is moved so that both delays cancel.
fn oracle(from: u32, to: u32, delay: f64, sound: impl Fn(f64) -> f64, samples: usize) -> Vec<f64> {
    let window = WindowFunction::BlackmanHarris2;
    let (from_hz, to_hz) = (from as usize, to as usize);
    let mut engine =
        Fft::<f64>::new_custom(from_hz, to_hz, from_hz / 50 * 2, 1, 1, window, FixedSync::Input)
            .expect("rates are not zero");
    let block = engine.input_frames_next();
    let shift = (block / 2) as f64 / f64::from(from) - delay;
    let mut output = Vec::new();
    for first in (0..samples).step_by(block) {
        let time = |n: usize| (first + n) as f64 / f64::from(from) + shift;
        let input: Vec<f64> = (0..block).map(|n| sound(time(n))).collect();
        let input = InterleavedSlice::new(&input, 1, block).expect("one channel");
        output.extend(engine.process(&input, None).expect("a whole block").take_data());
    }
    output
}

#[test]
fn agrees_with_rubato() {
    for (from, to) in pairs().filter(|&(from, to)| has_own_filter(from, to)) {
        let low = f64::from(from.min(to));
        let sound = |time: f64| {
            [0.013, 0.047, 0.101, 0.177, 0.262, 0.333, 0.409]
                .iter()
                .map(|part| 4_000.0 * (TAU * part * low * time + 30.0 * part).sin())
                .sum::<f64>()
        };
        let input: Vec<i16> =
            (0..from).map(|n| sound(f64::from(n) / f64::from(from)).round() as i16).collect();
        let mut resampler = Resampler::new(rate(from), rate(to));
        let mut ours = Vec::new();
        resampler.process(&input, &mut ours);

        let delay = resampler.delay().as_secs_f64();
        let theirs = oracle(from, to, delay, sound, from as usize);
        let settled = to as usize / 5..to as usize * 9 / 10;
        let difference: Vec<f64> =
            settled.map(|index| f64::from(ours[index]) - theirs[index]).collect();
        let worst = difference.iter().fold(0.0, |worst: f64, d| worst.max(d.abs()));
        let rms = power(&difference).sqrt();
        assert!(worst < 5.0 && rms < 1.0, "{from} > {to}: worst {worst:.2}, rms {rms:.2} steps");
    }
}

#[test]
fn constants_pass_exactly_and_peaks_are_limited() {
    for (from, to) in pairs() {
        for level in [i16::MIN, -1_234, 0, 1, i16::MAX] {
            let output = in_frames(from, to, &vec![level; from as usize / 5]);
            let settled = &output[to as usize / 10..];
            let exact = from == to || has_own_filter(from, to);
            let allowed = if exact { 0 } else { 1 };
            assert!(
                settled.iter().all(|sample| sample.abs_diff(level) <= allowed),
                "{from} > {to}: {level} became {:?}",
                &settled[..8]
            );
        }
        // A full-scale square wave overshoots: limited at the peaks, it must not wrap to the other sign.
        let period = from / 200;
        let half = |n: u32| if n % period < period / 2 { i16::MAX } else { i16::MIN };
        let square: Vec<i16> = (0..from).map(half).collect();
        let output = in_frames(from, to, &square);
        let extremes = |sample: &&i16| sample.unsigned_abs() > 32_000;
        assert!(output.iter().filter(extremes).count() > output.len() / 8, "{from} > {to}");
        let jumps = output.windows(2).filter(|w| w[0].abs_diff(w[1]) > 60_000).count();
        assert!(jumps <= 2 * 200 + 2, "{from} > {to}: {jumps} jumps");
    }
}

#[test]
fn any_two_rates_work() {
    let odd =
        [(8_000, 44_101), (191_999, 4_000), (4_000, 192_000), (12_345, 8_000), (8_000, 8_001)];
    for (from, to) in odd {
        let mut resampler = Resampler::new(rate(from), rate(to));
        let input = tone(440.0, from, from);
        let mut output = Vec::new();
        resampler.process(&input, &mut output);
        resampler.finish(&mut output);
        assert_eq!(output.len(), to as usize, "{resampler}");
        let settled: Vec<f64> = output[to as usize / 2..].iter().map(|&s| f64::from(s)).collect();
        let loss = decibels(2.0 * power(&settled) / (AMPLITUDE * AMPLITUDE));
        assert!(loss.abs() < 0.1, "{resampler}: {loss:.2} dB");
    }
}

#[test]
fn reset_and_finish_leave_a_new_resampler() {
    let input = tone(700.0, 8_000, 1_003);
    for (from, to) in pairs() {
        let mut resampler = Resampler::new(rate(from), rate(to));
        let mut first = Vec::new();
        resampler.process(&input, &mut first);
        resampler.finish(&mut first);

        let mut again = Vec::new();
        resampler.process(&input, &mut again);
        resampler.reset();
        again.clear();
        resampler.process(&input, &mut again);
        resampler.finish(&mut again);
        assert_eq!(first, again, "{from} > {to}");
    }
}

#[test]
fn tells_what_it_is() {
    let shown = |from, to| Resampler::new(rate(from), rate(to)).to_string();
    assert_eq!(shown(8_000, 8_000), "8000 Hz > 8000 Hz, copy");
    assert_eq!(shown(8_000, 16_000), "8000 Hz > 16000 Hz, 71-tap half-band, 2.19 ms");
    assert_eq!(shown(48_000, 8_000), "48000 Hz > 8000 Hz, 215-tap polyphase, 2.12 ms");
    assert_eq!(shown(44_100, 8_000), "44100 Hz > 8000 Hz, FFT in blocks of 441, 4.99 ms");
    assert_eq!(shown(11_025, 8_000), "11025 Hz > 8000 Hz, sinc in blocks of 27, 4.95 ms");
}

/// Sound with everything in it, full-scale steps too.
fn noise(seed: u64, samples: usize) -> Vec<i16> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as i16
    };
    (0..samples).map(|_| next()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn cutting_the_input_changes_nothing(
        pair in 0..RATES.len() * RATES.len(),
        seed: u64,
        cuts in prop::collection::vec(prop_oneof![0..4usize, 0..200usize, 0..3_000usize], 0..24),
    ) {
        let (from, to) = pairs().nth(pair).expect("within the number of pairs");
        let input = noise(seed, cuts.iter().sum());

        let mut whole = Vec::new();
        let mut resampler = Resampler::new(rate(from), rate(to));
        resampler.process(&input, &mut whole);
        resampler.finish(&mut whole);
        let total = (input.len() as u64 * u64::from(to)).div_ceil(u64::from(from));
        prop_assert_eq!(whole.len() as u64, total);

        let mut pieces = Vec::new();
        let mut taken = 0;
        for cut in cuts {
            resampler.process(&input[taken..taken + cut], &mut pieces);
            taken += cut;
            let due = taken as u64 * u64::from(to) / u64::from(from);
            if from == to || has_own_filter(from, to) {
                prop_assert_eq!(pieces.len() as u64, due);
            } else {
                let block = u64::from(to) / 50 + 2;
                prop_assert!((due.saturating_sub(block)..=due).contains(&(pieces.len() as u64)));
            }
        }
        resampler.finish(&mut pieces);
        prop_assert_eq!(whole, pieces);
    }
}
