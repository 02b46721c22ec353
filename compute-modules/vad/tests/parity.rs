//! The forward pass gives what ONNX Runtime gives for the original network.

#[allow(dead_code, reason = "shared by several test binaries")]
mod common;

use common::{mix, noise, speech};
use ringback_vad::{Silero, WINDOW};

/// Both run in single precision and sum in another order.
const TOLERANCE: f32 = 1e-4;

fn expected(name: &str) -> Vec<f32> {
    let lines = include_str!("data/parity.txt").lines();
    let section = lines.skip_while(|line| *line != name).skip(1);
    section.map_while(|line| line.parse().ok()).collect()
}

fn probabilities(samples: &[i16]) -> Vec<f32> {
    let mut network = Silero::new();
    let windows = samples.as_chunks::<WINDOW>().0.iter();
    windows.map(|window| network.process(&window.map(|s| f32::from(s) / 32_768.0))).collect()
}

fn check(name: &str, samples: &[i16]) {
    let (found, expected) = (probabilities(samples), expected(name));
    assert_eq!(found.len(), expected.len(), "windows of {name}");
    let differences = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    let worst = differences.fold(0.0, f32::max);
    assert!(worst < TOLERANCE, "{name}: off by {worst}");
}

#[test]
fn speech_is_seen_as_by_onnx_runtime() {
    check("speech", &speech());
}

#[test]
fn noise_of_four_levels_is_seen_as_by_onnx_runtime() {
    let quieter = |(n, sample): (usize, i16)| sample >> [1, 3, 5, 9][n / 16_000];
    check("noise", &noise(64_000).into_iter().enumerate().map(quieter).collect::<Vec<_>>());
}

#[test]
fn speech_in_noise_is_seen_as_by_onnx_runtime() {
    let speech = speech();
    let hiss: Vec<i16> = noise(speech.len()).iter().map(|sample| sample >> 4).collect();
    check("speech-in-noise", &mix(&speech, &hiss));
}
