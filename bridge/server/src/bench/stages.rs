//! What single steps of a frame's way cost in this process: resampling, G.711, Opus. The benchmark of the stages says more.

use std::hint::black_box;
use std::time::Duration;

use ringback_codecs::{Encoding, MediaFormat, Resampler, SampleRate};

use super::stamp::FRAME;
use crate::clock::Clock;

/// Frames at once: the clock is read once for all of them.
const BATCH: usize = 50;
/// How long one step is repeated; the best batch counts, because nothing makes code faster than it is.
const PATIENCE: Duration = Duration::from_millis(60);

/// Microseconds for a frame of one step, and its name.
pub(super) type Cost = (&'static str, f64);

/// Resampling 8 to 16 kHz, and back.
pub(super) fn resampling() -> [Cost; 2] {
    let (narrow, wide) = (SampleRate::HZ_8000, SampleRate::HZ_16000);
    let cost = |from, to| {
        let mut resampler = Resampler::new(from, to);
        let (sound, mut output) = (voice(from), Vec::with_capacity(BATCH * 320));
        best(|| {
            for frame in frames(&sound, from) {
                output.clear();
                resampler.process(black_box(frame), &mut output);
                black_box(&output);
            }
        })
    };
    [("resampling 8 > 16 kHz", cost(narrow, wide)), ("resampling 16 > 8 kHz", cost(wide, narrow))]
}

/// G.711 decoding and encoding.
pub(super) fn g711() -> Option<[Cost; 2]> {
    let format = MediaFormat::PCMU_8000;
    Some([("G.711 decoding", decoding(format)?), ("G.711 encoding", encoding(format)?)])
}

/// Opus encoding at its usual complexity, at 16 and at 48 kHz.
pub(super) fn opus() -> Option<[Cost; 2]> {
    let format = |rate| MediaFormat::mono(Encoding::Opus, rate);
    Some([
        ("Opus encoding, 16 kHz", encoding(format(SampleRate::HZ_16000))?),
        ("Opus encoding, 48 kHz", encoding(format(SampleRate::HZ_48000))?),
    ])
}

fn encoding(format: MediaFormat) -> Option<f64> {
    let mut encoder = format.encoder().ok()?;
    let (sound, mut payload) = (voice(format.rate), Vec::with_capacity(4_096));
    Some(best(|| {
        for frame in frames(&sound, format.rate) {
            payload.clear();
            // Cannot fail on whole frames; a failure would be cheap and show as an impossible figure.
            let _ = encoder.encode(black_box(frame), &mut payload);
            black_box(&payload);
        }
    }))
}

fn decoding(format: MediaFormat) -> Option<f64> {
    let (mut encoder, mut decoder) = (format.encoder().ok()?, format.decoder().ok()?);
    let mut payload = Vec::new();
    encoder.encode(&voice(format.rate), &mut payload).ok()?;
    let octets = payload.len() / BATCH;
    let mut pcm = Vec::with_capacity(4_096);
    Some(best(|| {
        for frame in payload.chunks_exact(octets) {
            pcm.clear();
            let _ = decoder.decode(black_box(frame), &mut pcm);
            black_box(&pcm);
        }
    }))
}

/// Microseconds for a frame in the best batch.
fn best(mut batch: impl FnMut()) -> f64 {
    let clock = Clock::start();
    let (mut now, mut best) = (clock.now(), Duration::MAX);
    while now.since_epoch() < PATIENCE {
        batch();
        let then = std::mem::replace(&mut now, clock.now());
        best = best.min(now - then);
    }
    best.as_secs_f64() * 1e6 / BATCH as f64
}

fn frames(sound: &[i16], rate: SampleRate) -> impl Iterator<Item = &[i16]> {
    sound.chunks_exact(rate.samples_in(FRAME) as usize)
}

/// Something like a voice: a pulse train with formants, rising and falling.
fn voice(rate: SampleRate) -> Vec<i16> {
    let samples = BATCH * rate.samples_in(FRAME) as usize;
    let sample = |at: usize| {
        let t = at as f32 / rate.hz() as f32;
        let sine = |hz: f32| (std::f32::consts::TAU * hz * t).sin();
        let loudness = 0.5 + 0.5 * sine(3.0);
        ((sine(140.0) + 0.5 * sine(700.0) + 0.25 * sine(1_820.0)) * 5_000.0 * loudness) as i16
    };
    (0..samples).map(sample).collect()
}
