//! What a loss sounds like in the waveform codecs: pitch, level, clicks, fading, noise, the way back. Opus conceals by itself and is
//! tested with it.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

use ringback_codecs::conceal::Concealer;
use ringback_codecs::{Encoding, Endian, MediaFormat, SampleRate};

const RATES: [u32; 6] = [8_000, 11_025, 16_000, 24_000, 44_100, 48_000];

fn rate(hz: u32) -> SampleRate {
    SampleRate::new(hz).unwrap()
}

fn tone(frequency: f64, amplitude: f64, hz: u32, len: usize) -> Vec<i16> {
    let step = std::f64::consts::TAU * frequency / f64::from(hz);
    (0..len).map(|i| (amplitude * (step * i as f64).sin()).round() as i16).collect()
}

/// White noise from -`peak` to `peak`.
fn noise(peak: i32, len: usize, mut state: u32) -> Vec<i16> {
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as i32 % (2 * peak + 1) - peak
    };
    (0..len).map(|_| next() as i16).collect()
}

fn rms(pcm: &[i16]) -> f64 {
    (pcm.iter().map(|&s| f64::from(s) * f64::from(s)).sum::<f64>() / pcm.len() as f64).sqrt()
}

fn largest_step(pcm: &[i16]) -> i32 {
    pcm.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().unwrap()
}

/// Frequency by the times of rising zero crossings, first to last.
fn frequency(pcm: &[i16], hz: u32) -> f64 {
    let crossing = |(at, w): (usize, &[i16])| {
        let (a, b) = (f64::from(w[0]), f64::from(w[1]));
        (a < 0.0 && b >= 0.0).then(|| at as f64 - a / (b - a))
    };
    let crossings: Vec<f64> = pcm.windows(2).enumerate().filter_map(crossing).collect();
    let periods = (crossings.len() - 1) as f64;
    f64::from(hz) * periods / (crossings[crossings.len() - 1] - crossings[0])
}

fn concealer(hz: u32) -> Concealer {
    Concealer::new(rate(hz), 1, 7)
}

#[test]
fn tone_keeps_frequency_and_level_through_20_ms_without_a_click() {
    for hz in RATES {
        let frame = hz as usize / 50;
        for f in [105.0, 200.0, 440.0, 1_000.0, 2_500.0] {
            let sent = tone(f, 10_000.0, hz, 10 * frame);
            let mut plc = concealer(hz);
            let mut pcm = sent[..5 * frame].to_vec();
            plc.heard(&mut pcm);
            assert_eq!(pcm, sent[..5 * frame], "real sound is not altered");
            plc.conceal(frame, &mut pcm);
            let mut after = sent[6 * frame..].to_vec();
            plc.heard(&mut after);
            pcm.extend(&after);

            let lost = &pcm[5 * frame..6 * frame];
            let found = frequency(lost, hz);
            assert!((found / f - 1.0).abs() < 0.02, "{hz} Hz: {f} became {found:.1}");
            // Full level for 10 ms, then a fifth less by the end: a tenth in energy on average.
            let level = rms(lost) / rms(&sent[..5 * frame]);
            assert!((0.8..1.05).contains(&level), "{hz} Hz, {f}: level {level:.2}");
            let natural = f64::from(largest_step(&sent));
            let step = f64::from(largest_step(&pcm)) / natural;
            assert!(step < 1.5, "{hz} Hz, {f}: step of {step:.2} times the tone's own");
        }
    }
}

/// A voice: pulses through two resonances, pitch gliding. Its own steps are the measure of a click.
fn voice(hz: u32, len: usize) -> Vec<i16> {
    let rate = f64::from(hz);
    let (mut phase, mut state) = (0.0, [[0.0_f64; 2]; 2]);
    (0..len)
        .map(|i| {
            phase += (120.0 + 20.0 * i as f64 / rate) / rate;
            let mut x = if phase >= 1.0 { 1.0 } else { 0.0 };
            phase %= 1.0;
            for (s, (f, width)) in state.iter_mut().zip([(600.0, 120.0), (1_400.0, 160.0)]) {
                let r = (-std::f64::consts::PI * width / rate).exp();
                let y =
                    x + 2.0 * r * (std::f64::consts::TAU * f / rate).cos() * s[0] - r * r * s[1];
                *s = [y, s[0]];
                x = y;
            }
            (x * 1_200.0 * (8_000.0 / rate)).clamp(-32_000.0, 32_000.0) as i16
        })
        .collect()
}

#[test]
fn voice_does_not_click_wherever_the_loss_falls() {
    for hz in [8_000, 16_000] {
        let frame = hz as usize / 50;
        let sent = voice(hz, 20 * frame);
        let own = largest_step(&sent[5 * frame..]);
        for shift in (0..frame).step_by(7) {
            let mut plc = concealer(hz);
            let lost = 8 * frame + shift;
            let mut pcm = sent[..lost].to_vec();
            plc.heard(&mut pcm);
            plc.conceal(frame, &mut pcm);
            let mut after = sent[lost + frame..].to_vec();
            plc.heard(&mut after);
            pcm.extend(&after);
            let step = largest_step(&pcm[5 * frame..]);
            assert!(f64::from(step) < 1.3 * f64::from(own), "{hz} Hz + {shift}: {step} of {own}");
            let level = rms(&pcm[lost..lost + frame]) / rms(&sent[lost..lost + frame]);
            assert!((0.6..1.2).contains(&level), "{hz} Hz + {shift}: level {level:.2}");
        }
    }
}

#[test]
fn long_loss_fades_to_the_floor_of_the_background() {
    for hz in RATES {
        let ms = hz as usize / 1_000;
        let background = noise(100, 500 * ms, 3);
        let floor = rms(&background);
        let mut heard = background.clone();
        heard.extend(tone(300.0, 12_000.0, hz, 200 * ms));
        let mut plc = concealer(hz);
        plc.heard(&mut heard);
        let mut pcm = Vec::new();
        plc.conceal(500 * ms, &mut pcm);
        let full = rms(&heard[600 * ms..]);
        assert!(rms(&pcm[..10 * ms]) > 0.9 * full, "{hz} Hz");
        let levels: Vec<f64> = pcm[10 * ms..60 * ms].chunks(10 * ms).map(rms).collect();
        assert!(levels.is_sorted_by(|a, b| a > b), "{hz} Hz: {levels:?}");
        assert!((0.4..0.6).contains(&(levels[2] / full)), "{hz} Hz: {levels:?}");
        for piece in pcm[60 * ms..].chunks(20 * ms) {
            let level = rms(piece);
            assert!(level < floor && level > 0.3 * floor, "{hz} Hz: {level:.1} of {floor:.1}");
        }
    }
}

#[test]
fn noise_after_silence_or_nothing_is_the_smallest_there_is_but_not_dead() {
    for heard in [0, 16_000] {
        let mut plc = concealer(8_000);
        plc.heard(&mut vec![0; heard]);
        let mut pcm = Vec::new();
        plc.conceal(8_000, &mut pcm);
        assert!(pcm.iter().all(|s| s.abs() <= 2), "{heard}");
        assert!(pcm[800..].chunks(160).all(|frame| frame.iter().any(|&s| s != 0)), "{heard}");
    }
}

#[test]
fn only_the_first_5_ms_after_a_loss_are_blended() {
    for hz in RATES {
        let frame = hz as usize / 50;
        let sent = voice(hz, 12 * frame);
        let mut plc = concealer(hz);
        let mut pcm = sent[..6 * frame].to_vec();
        plc.heard(&mut pcm);
        plc.conceal(2 * frame, &mut pcm);
        let mut after = sent[8 * frame..].to_vec();
        plc.heard(&mut after);
        let blended = hz as usize / 200;
        assert_ne!(after[..blended], sent[8 * frame..][..blended]);
        assert_eq!(after[blended..], sent[8 * frame..][blended..], "{hz} Hz");
    }
}

#[test]
fn pieces_do_not_matter() {
    let sent = voice(8_000, 4_000);
    let run = |heard: usize, lost: usize| {
        let mut plc = concealer(8_000);
        let mut pcm = Vec::new();
        for (from, to) in [(0, 1_600), (2_400, 4_000)] {
            for piece in sent[from..to].chunks(heard) {
                let start = pcm.len();
                pcm.extend(piece);
                plc.heard(&mut pcm[start..]);
            }
            let mut missing = 800;
            while missing > 0 {
                let now = missing.min(lost);
                plc.conceal(now, &mut pcm);
                missing -= now;
            }
        }
        pcm
    };
    let whole = run(4_000, 800);
    for (heard, lost) in [(1, 1), (7, 160), (160, 13), (161, 799)] {
        assert_eq!(run(heard, lost), whole, "{heard}, {lost}");
    }
}

#[test]
fn short_history_is_faded_out_without_a_click() {
    let mut plc = concealer(8_000);
    let mut pcm = tone(300.0, 10_000.0, 8_000, 170);
    plc.heard(&mut pcm);
    plc.conceal(160, &mut pcm);
    assert!(largest_step(&pcm[160..]) < 3_000);
    assert!(rms(&pcm[170 + 40..]) < 200.0);
}

#[test]
fn channels_are_concealed_apart_with_one_pitch() {
    let (left, right) = (tone(200.0, 8_000.0, 16_000, 3_200), noise(50, 3_200, 5));
    let heard: Vec<i16> = left.iter().zip(&right).flat_map(|(&l, &r)| [l, r]).collect();
    let mut plc = Concealer::new(SampleRate::HZ_16000, 2, 0);
    plc.heard(&mut heard.clone());
    let mut pcm = Vec::new();
    plc.conceal(320, &mut pcm);
    assert_eq!(pcm.len(), 640);
    let channel = |n: usize| pcm.iter().skip(n).step_by(2).copied().collect::<Vec<_>>();
    assert!((0.85..1.05).contains(&(rms(&channel(0)) / rms(&left))));
    assert!(rms(&channel(1)) < 1.3 * rms(&right));
    assert!((frequency(&channel(0), 16_000) - 200.0).abs() < 2.0);
}

fn waveform_formats() -> Vec<MediaFormat> {
    let mut formats = vec![MediaFormat::mono(Encoding::G722, SampleRate::HZ_16000)];
    for encoding in
        [Encoding::Pcmu, Encoding::Pcma, Encoding::L16(Endian::Little), Encoding::L16(Endian::Big)]
    {
        for (hz, channels) in [(8_000, 1), (16_000, 2), (11_025, 3)] {
            formats.push(MediaFormat { encoding, rate: rate(hz), channels });
        }
    }
    formats
}

#[test]
fn decoders_conceal_exactly_as_many_samples_as_asked() {
    for format in waveform_formats() {
        let mut decoder = format.decoder().unwrap();
        let channels = usize::from(format.channels);
        let payload = vec![0x35; format.octets_for(400).unwrap()];
        let mut pcm = Vec::new();
        for lost in [0, 1, 3, 160, 161, 5_000] {
            decoder.decode(&payload, &mut pcm).unwrap();
            let start = pcm.len();
            decoder.conceal(lost, &mut pcm);
            assert_eq!(pcm.len() - start, lost * channels, "{format}");
            // The default: knowing what comes next does not help a waveform codec, but the count holds.
            decoder.recover(&payload, lost, &mut pcm);
            assert_eq!(pcm.len() - start, 2 * lost * channels, "{format}");
        }
    }
}

#[test]
fn decoders_are_new_after_reset_and_differ_by_seed_only_in_noise() {
    for format in waveform_formats() {
        let payload: Vec<u8> =
            (0..format.octets_for(800).unwrap()).map(|i| (i * 7) as u8).collect();
        let run = |decoder: &mut dyn ringback_codecs::Decoder| {
            let mut pcm = Vec::new();
            decoder.decode(&payload, &mut pcm).unwrap();
            decoder.conceal(1_600, &mut pcm);
            decoder.decode(&payload, &mut pcm).unwrap();
            pcm
        };
        let mut decoder = format.decoder().unwrap();
        let first = run(&mut *decoder);
        assert_ne!(run(&mut *decoder), first, "{format} remembers");
        decoder.reset();
        assert_eq!(run(&mut *decoder), first, "{format}");

        let other = run(&mut *format.decoder_seeded(1).unwrap());
        let real = 800 * usize::from(format.channels);
        assert_eq!(other[..real], first[..real]);
        assert_ne!(other, first);
    }
}
