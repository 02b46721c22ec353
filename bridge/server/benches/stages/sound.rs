//! Stages that know samples: codecs, concealment, resamplers, and the queues between wire and module.

use std::time::Duration;

use divan::black_box;
use ringback_codecs::{Encoding, Endian, MediaFormat, Resampler, SampleRate};
use ringback_module::message::Pace;
use ringback_proto::Instant;
use ringback_proto::media::playout::{Playout, PlayoutLimits};
use ringback_proto::media::ring::Ring;
use ringback_proto::media::tap::{Next, Tap};
use ringback_proto::media::timeline::{Arrival, Timeline, TimelinePolicy};
use ringback_proto::provider::find;

use crate::table::Stage;

const FRAME: Duration = Duration::from_millis(20);

const fn mono(encoding: Encoding, rate: SampleRate) -> MediaFormat {
    MediaFormat::mono(encoding, rate)
}

const FORMATS: [MediaFormat; 8] = [
    mono(Encoding::Pcmu, SampleRate::HZ_8000),
    mono(Encoding::Pcma, SampleRate::HZ_8000),
    mono(Encoding::L16(Endian::Little), SampleRate::HZ_16000),
    mono(Encoding::L16(Endian::Big), SampleRate::HZ_16000),
    MediaFormat {
        encoding: Encoding::L16(Endian::Little),
        rate: SampleRate::HZ_16000,
        channels: 2,
    },
    mono(Encoding::G722, SampleRate::HZ_16000),
    mono(Encoding::Opus, SampleRate::HZ_16000),
    mono(Encoding::Opus, SampleRate::HZ_48000),
];

/// One pair for each of our own filters, then what is left to `rubato`: by FFT, and by interpolation.
const PAIRS: [(u32, u32); 15] = [
    (8_000, 16_000),
    (8_000, 24_000),
    (8_000, 32_000),
    (8_000, 48_000),
    (16_000, 8_000),
    (24_000, 8_000),
    (32_000, 8_000),
    (48_000, 8_000),
    (16_000, 24_000),
    (24_000, 16_000),
    (24_000, 32_000),
    (32_000, 24_000),
    (8_000, 44_100),
    (44_100, 16_000),
    (11_025, 8_000),
];

pub(crate) fn stages() -> Vec<Stage> {
    let mut stages = Vec::new();
    stages.extend(FORMATS.map(decode));
    stages.extend(FORMATS.map(encode));
    stages.extend(FORMATS.map(conceal));
    stages.extend(PAIRS.map(resample));
    stages.extend([timeline(), companded_ring(), linear_ring(), playout()]);
    stages
}

/// Two seconds of something like a voice, in frames: a pulse train with formants, rising and falling.
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

/// Steps through a list, again and again.
struct Loop<T>(Vec<T>, usize);

impl<T> Loop<T> {
    fn next(&mut self) -> &T {
        self.1 = (self.1 + 1) % self.0.len();
        &self.0[self.1]
    }
}

fn decode(format: MediaFormat) -> Stage {
    Stage::new(format!("decode: {format}"), move || {
        let mut decoder = format.decoder().expect("supported");
        let mut payloads = Loop(payloads(format), 0);
        let mut pcm = Vec::with_capacity(1 << 14);
        move || {
            pcm.clear();
            decoder.decode(black_box(payloads.next()), &mut pcm).expect("good payload");
            black_box(pcm.as_slice());
        }
    })
}

fn encode(format: MediaFormat) -> Stage {
    Stage::new(format!("encode: {format}"), move || {
        let mut encoder = format.encoder().expect("supported");
        let mut frames = Loop(voice(format), 0);
        let mut payload = Vec::with_capacity(1 << 14);
        move || {
            payload.clear();
            encoder.encode(black_box(frames.next()), &mut payload).expect("whole frame");
            black_box(payload.as_slice());
        }
    })
}

/// One lost frame and the frame after it, which is blended in.
fn conceal(format: MediaFormat) -> Stage {
    Stage::new(format!("lose and decode: {format}"), move || {
        let mut decoder = format.decoder().expect("supported");
        let mut payloads = Loop(payloads(format), 0);
        let mut pcm = Vec::with_capacity(1 << 14);
        move || {
            pcm.clear();
            decoder.conceal(format.rate.hz() as usize / 50, &mut pcm);
            decoder.decode(black_box(payloads.next()), &mut pcm).expect("good payload");
            black_box(pcm.as_slice());
        }
    })
}

fn resample((from, to): (u32, u32)) -> Stage {
    Stage::new(format!("resample: {from} to {to} Hz"), move || {
        let rate = |hz| SampleRate::new(hz).expect("a rate of the list");
        let samples = from.div_ceil(50);
        let noise = (0..samples).map(|n| (n.wrapping_mul(2_654_435_761) >> 16) as i16);
        let input: Vec<i16> = noise.collect();
        let mut resampler = Resampler::new(rate(from), rate(to));
        let mut output = Vec::with_capacity(1 << 14);
        move || {
            output.clear();
            resampler.process(black_box(&input), &mut output);
            black_box(output.as_slice());
        }
    })
}

fn timeline() -> Stage {
    Stage::new("timeline", || {
        let mut timeline = Timeline::new(SampleRate::HZ_8000, TimelinePolicy::default());
        let mut n = 0;
        move || {
            n += 1;
            let arrival = Arrival {
                payload: black_box(&[0x55; 160]),
                samples: 160,
                sequence: Some(n),
                timestamp: Some(FRAME * n as u32),
            };
            let now = Instant::ZERO + FRAME * n as u32;
            timeline.push(now, arrival, &mut |step| {
                black_box(step);
            });
        }
    })
}

fn companded_ring() -> Stage {
    let format = mono(Encoding::Pcmu, SampleRate::HZ_8000);
    Stage::new("ring and tap: PCMU 8000 to 16000 Hz", move || ring_and_tap(format))
}

fn linear_ring() -> Stage {
    let format = mono(Encoding::L16(Endian::Little), SampleRate::HZ_16000);
    Stage::new("ring and tap: L16 16000 to 16000 Hz", move || ring_and_tap(format))
}

/// A frame into the ring and out of it, at the rate of a module.
fn ring_and_tap(format: MediaFormat) -> impl FnMut() {
    let mut ring = Ring::new(format.encoding, format.rate, Duration::from_secs(1));
    let mut tap = Tap::new(0, format.rate, SampleRate::HZ_16000, 20);
    let mut frames = Loop(voice(format), 0);
    let mut frame = Vec::with_capacity(1_024);
    move || {
        ring.push(black_box(frames.next()));
        let next = tap.next(&mut ring, &mut frame);
        assert!(matches!(black_box(next), Next::Frame { .. }));
        black_box(frame.as_slice());
    }
}

/// A frame into playback and out of it, and what was heard let go.
fn playout() -> Stage {
    Stage::new("playout", || {
        let twilio = find("twilio").expect("a provider of the table");
        let rate = SampleRate::HZ_8000;
        let mut playout = Playout::new(rate, twilio.capabilities(), PlayoutLimits::default());
        let mut now = Instant::ZERO;
        move || {
            now += FRAME;
            playout.push(now, black_box(&[0x55; 160]), Pace::Live);
            playout.poll(now, &mut |emit| {
                black_box(emit);
            });
            playout.take_heard(now, None);
            playout.drain_told().for_each(drop);
        }
    })
}
