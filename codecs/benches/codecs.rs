//! What a 20 ms frame costs in each codec. Resampling has its own benchmark.

use divan::{Bencher, black_box};
use ringback_codecs::{Encoding, Endian, MediaFormat, SampleRate};

fn main() {
    divan::main();
}

const FORMATS: &[&str] = &[
    "PCMU 8000 Hz",
    "PCMA 8000 Hz",
    "L16 (little-endian) 8000 Hz",
    "L16 (big-endian) 16000 Hz",
    "L16 (little-endian) 16000 Hz x2",
    "G.722 16000 Hz",
    #[cfg(feature = "opus")]
    "Opus 8000 Hz",
    #[cfg(feature = "opus")]
    "Opus 16000 Hz",
    #[cfg(feature = "opus")]
    "Opus 48000 Hz",
    #[cfg(feature = "opus")]
    "Opus 48000 Hz x2",
];

fn format(name: &str) -> MediaFormat {
    let encodings = [
        Encoding::Pcmu,
        Encoding::Pcma,
        Encoding::L16(Endian::Little),
        Encoding::L16(Endian::Big),
        Encoding::G722,
        Encoding::Opus,
    ];
    let rates = [SampleRate::HZ_8000, SampleRate::HZ_16000, SampleRate::HZ_48000];
    let formats = encodings.into_iter().flat_map(|encoding| {
        rates
            .into_iter()
            .flat_map(move |rate| [1, 2].map(|channels| MediaFormat { encoding, rate, channels }))
    });
    formats.into_iter().find(|format| format.to_string() == name).expect("a name of FORMATS")
}

/// Two seconds of something like a voice: a pulse train with formants, rising and falling.
fn voice(format: MediaFormat) -> Vec<Vec<i16>> {
    let rate = format.rate.hz() as f32;
    let frame = format.rate.hz() as usize / 50;
    let sample = |at: usize| {
        let t = at as f32 / rate;
        let sine = |hz: f32| (std::f32::consts::TAU * hz * t).sin();
        let loudness = 0.5 + 0.5 * sine(3.0);
        ((sine(140.0) + 0.5 * sine(700.0) + 0.25 * sine(1_820.0)) * 5_000.0 * loudness) as i16
    };
    let channels = usize::from(format.channels);
    let group = |at: usize| std::iter::repeat_n(sample(at), channels);
    (0..100).map(|n| (n * frame..(n + 1) * frame).flat_map(group).collect()).collect()
}

fn payloads(format: MediaFormat) -> Vec<Vec<u8>> {
    let mut encoder = format.encoder().expect("supported");
    let encode = |pcm: &Vec<i16>| {
        let mut payload = Vec::new();
        encoder.encode(pcm, &mut payload).expect("whole frames");
        payload
    };
    voice(format).iter().map(encode).collect()
}

#[divan::bench(args = FORMATS)]
fn decode(bencher: Bencher<'_, '_>, name: &str) {
    let format = format(name);
    let mut decoder = format.decoder().expect("supported");
    let payloads = payloads(format);
    let mut pcm = Vec::with_capacity(1 << 16);
    let mut next = payloads.iter().cycle();
    bencher.bench_local(|| {
        pcm.clear();
        let payload = next.next().expect("endless");
        decoder.decode(black_box(payload), &mut pcm).expect("good payload");
        pcm.len()
    });
}

#[divan::bench(args = FORMATS)]
fn encode(bencher: Bencher<'_, '_>, name: &str) {
    let format = format(name);
    let mut encoder = format.encoder().expect("supported");
    let frames = voice(format);
    let mut payload = Vec::with_capacity(1 << 16);
    let mut next = frames.iter().cycle();
    bencher.bench_local(|| {
        payload.clear();
        let pcm = next.next().expect("endless");
        encoder.encode(black_box(pcm), &mut payload).expect("whole frame");
        payload.len()
    });
}

/// One lost frame and the frame after it, which is blended in.
#[divan::bench(args = FORMATS)]
fn lose_one_of_two(bencher: Bencher<'_, '_>, name: &str) {
    let format = format(name);
    let mut decoder = format.decoder().expect("supported");
    let payloads = payloads(format);
    let mut pcm = Vec::with_capacity(1 << 16);
    let mut next = payloads.iter().cycle();
    bencher.bench_local(|| {
        pcm.clear();
        decoder.conceal(format.rate.hz() as usize / 50, &mut pcm);
        let payload = next.next().expect("endless");
        decoder.decode(black_box(payload), &mut pcm).expect("good payload");
        pcm.len()
    });
}
