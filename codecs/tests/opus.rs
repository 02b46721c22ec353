//! Opus through the library: what is promised of every format, loss with and without FEC, hostile packets.
#![cfg(feature = "opus")]
#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

use proptest::prelude::*;
use ringback_codecs::opus::{EncoderSettings, encoder};
use ringback_codecs::{DecodeError, EncodeError, Encoding, MediaFormat, SampleRate};

const RATES: [u32; 5] = [8_000, 12_000, 16_000, 24_000, 48_000];

fn format(hz: u32, channels: u8) -> MediaFormat {
    MediaFormat { encoding: Encoding::Opus, rate: SampleRate::new(hz).unwrap(), channels }
}

fn formats() -> impl Iterator<Item = MediaFormat> {
    RATES.into_iter().flat_map(|hz| [format(hz, 1), format(hz, 2)])
}

/// 20 ms frames of a voice-like sound, the same in all channels: a fundamental with overtones and changing loudness.
fn frames(format: MediaFormat, count: usize) -> Vec<Vec<i16>> {
    let rate = f64::from(format.rate.hz());
    let sample = |i: usize| {
        let t = i as f64 / rate;
        let harmonic =
            |n: u32| (std::f64::consts::TAU * 150.0 * f64::from(n) * t).sin() / f64::from(n);
        let loudness = 0.6 + 0.4 * (std::f64::consts::TAU * 2.0 * t).sin();
        ((1..12).map(harmonic).sum::<f64>() * 6_000.0 * loudness) as i16
    };
    let frame = format.rate.hz() as usize / 50;
    let channels = usize::from(format.channels);
    (0..count)
        .map(|n| (n * frame..(n + 1) * frame).flat_map(|i| vec![sample(i); channels]).collect())
        .collect()
}

fn packets(format: MediaFormat, frames: &[Vec<i16>], settings: EncoderSettings) -> Vec<Vec<u8>> {
    let mut encoder = encoder(format, settings).unwrap();
    let encode = |pcm: &Vec<i16>| {
        let mut payload = vec![0xAA];
        encoder.encode(pcm, &mut payload).unwrap();
        assert_eq!(payload.remove(0), 0xAA, "appends");
        payload
    };
    frames.iter().map(encode).collect()
}

fn rms(pcm: &[i16]) -> f64 {
    (pcm.iter().map(|&s| f64::from(s) * f64::from(s)).sum::<f64>() / pcm.len() as f64).sqrt()
}

fn error(a: &[i16], b: &[i16]) -> f64 {
    let difference: Vec<i16> = a.iter().zip(b).map(|(a, b)| a.saturating_sub(*b)).collect();
    rms(&difference)
}

#[test]
fn every_format_round_trips_frames_of_20_ms() {
    for format in formats() {
        let frames = frames(format, 30);
        let mut decoder = format.decoder().unwrap();
        let mut pcm = Vec::new();
        for packet in packets(format, &frames, EncoderSettings::default()) {
            assert!(packet.len() < 200, "{format}: {} octets", packet.len());
            decoder.decode(&packet, &mut pcm).unwrap();
        }
        assert_eq!(pcm.len(), frames.concat().len(), "{format}");
        let level = rms(&pcm) / rms(&frames.concat());
        assert!((0.8..1.2).contains(&level), "{format}: level {level:.2}");
    }
}

#[test]
fn frame_length_is_told_and_kept() {
    for format in formats() {
        let mut encoder = format.encoder().unwrap();
        let expected = format.rate.hz() as usize / 50 * usize::from(format.channels);
        assert_eq!(encoder.frame_samples().map(usize::from), Some(expected));
        for got in [0, 1, expected - 1, expected + 1, 2 * expected] {
            let mut payload = vec![1, 2];
            let result = encoder.encode(&vec![0; got], &mut payload);
            let encoding = Encoding::Opus;
            assert_eq!(result, Err(EncodeError::FrameLength { encoding, got, expected }));
            assert_eq!(payload, [1, 2]);
        }
    }
}

#[test]
fn formats_that_opus_has_not_say_what_it_has() {
    for (format, reason) in [
        (format(11_025, 1), "Opus works at 8000, 12000, 16000, 24000 and 48000 Hz"),
        (format(44_100, 2), "Opus works at 8000, 12000, 16000, 24000 and 48000 Hz"),
        (format(48_000, 3), "Opus has one or two channels"),
        (format(48_000, 0), "it needs at least one channel"),
    ] {
        assert_eq!(format.decoder().err().unwrap().reason, reason);
        assert_eq!(format.encoder().err().unwrap().reason, reason);
    }
    assert!(encoder(format(48_000, 0), EncoderSettings::default()).is_err());
}

#[test]
fn conceal_and_recover_are_exact_in_length_however_odd() {
    for format in formats() {
        let frames = frames(format, 12);
        let packets = packets(format, &frames, EncoderSettings::default());
        let channels = usize::from(format.channels);
        let mut decoder = format.decoder().unwrap();
        for packet in &packets[..10] {
            decoder.decode(packet, &mut Vec::new()).unwrap();
        }
        let frame = frames[0].len() / channels;
        for lost in [0, 1, 7, 19, frame - 1, frame, frame + 1, 3 * frame + 5, 20 * frame] {
            let mut pcm = vec![5];
            decoder.conceal(lost, &mut pcm);
            assert_eq!(pcm.len(), 1 + lost * channels, "{format} conceals {lost}");
            decoder.recover(&packets[11], lost, &mut pcm);
            assert_eq!(pcm.len(), 1 + 2 * lost * channels, "{format} recovers {lost}");
            decoder.recover(&[], lost, &mut pcm);
            assert_eq!(pcm.len(), 1 + 3 * lost * channels, "{format} recovers {lost} from nothing");
            assert_eq!(pcm[0], 5);
        }
    }
}

#[test]
fn concealment_does_not_depend_on_how_it_is_asked_for() {
    let format = format(16_000, 1);
    let packets = packets(format, &frames(format, 10), EncoderSettings::default());
    let run = |pieces: &[usize]| {
        let mut decoder = format.decoder().unwrap();
        let mut pcm = Vec::new();
        for packet in &packets {
            decoder.decode(packet, &mut pcm).unwrap();
        }
        pcm.clear();
        for &piece in pieces {
            decoder.conceal(piece, &mut pcm);
        }
        pcm
    };
    let whole = run(&[40]);
    assert!(rms(&whole) > 500.0);
    assert_eq!(run(&[1; 40]), whole);
    assert_eq!(run(&[7, 20, 13]), whole);
}

/// One frame in eight is lost; what FEC restores must be nearer to what was sent than what is guessed.
#[test]
fn fec_restores_better_than_concealment_guesses() {
    for hz in [16_000, 48_000] {
        let format = format(hz, 1);
        // Pitch jumps in every lost frame, so that guessing from the past must fail.
        let mut frames = frames(format, 64);
        for (n, frame) in frames.iter_mut().enumerate() {
            if n % 8 == 5 {
                let original = frame.clone();
                let sample = |i: usize| original[(i * 5 / 3) % original.len()];
                *frame = (0..original.len()).map(sample).collect();
            }
        }
        let settings = EncoderSettings { expected_loss: 25, ..EncoderSettings::default() };
        let packets = packets(format, &frames, settings);
        let mut clean = Vec::new();
        let mut decoder = format.decoder().unwrap();
        for packet in &packets {
            decoder.decode(packet, &mut clean).unwrap();
        }
        let run = |fec: bool| {
            let mut decoder = format.decoder().unwrap();
            let (mut pcm, mut lost) = (Vec::new(), 0.0);
            for (n, packet) in packets.iter().enumerate() {
                let start = pcm.len();
                let len = frames[n].len();
                if n % 8 == 5 && fec {
                    decoder.recover(&packets[n + 1], len, &mut pcm);
                } else if n % 8 == 5 {
                    decoder.conceal(len, &mut pcm);
                } else {
                    decoder.decode(packet, &mut pcm).unwrap();
                }
                if n % 8 == 5 {
                    lost += error(&pcm[start..], &clean[start..start + len]);
                }
            }
            assert_eq!(pcm.len(), clean.len());
            lost
        };
        let (restored, guessed) = (run(true), run(false));
        assert!(restored < 0.7 * guessed, "{hz} Hz: {restored:.0} against {guessed:.0}");
    }
}

#[test]
fn fec_costs_octets_and_can_be_turned_off() {
    let format = format(16_000, 1);
    let frames = frames(format, 50);
    let settings = |expected_loss| EncoderSettings {
        expected_loss,
        bitrate: Some(24_000),
        ..EncoderSettings::default()
    };
    assert_ne!(packets(format, &frames, settings(25)), packets(format, &frames, settings(0)));
    let rate = |bitrate| {
        let settings = EncoderSettings { bitrate: Some(bitrate), ..EncoderSettings::default() };
        packets(format, &frames, settings).concat().len() * 8
    };
    let (low, high) = (rate(12_000), rate(40_000));
    assert!((8_000..16_000).contains(&low) && (25_000..45_000).contains(&high), "{low} {high}");
}

#[test]
fn reset_is_a_new_stream() {
    for format in [format(16_000, 1), format(48_000, 2)] {
        let frames = frames(format, 20);
        let mut encoder = format.encoder().unwrap();
        let mut decoder = format.decoder().unwrap();
        let mut run = || {
            let (mut sizes, mut pcm) = (Vec::new(), Vec::new());
            for frame in &frames {
                let mut payload = Vec::new();
                encoder.encode(frame, &mut payload).unwrap();
                decoder.decode(&payload, &mut pcm).unwrap();
                sizes.push(payload);
            }
            decoder.conceal(3, &mut pcm);
            encoder.reset();
            decoder.reset();
            (sizes, pcm)
        };
        let first = run();
        assert_eq!(run(), first, "{format}");
    }
}

#[test]
fn empty_and_wrong_packets_are_errors_that_change_nothing() {
    let format = format(48_000, 1);
    let mut decoder = format.decoder().unwrap();
    // No octets; code 3 without a frame count; code 3 with 0 frames; 63 frames of 20 ms; code 1 of odd length.
    for packet in [&[][..], &[0x03], &[0x03, 0x00], &[0x0B, 0x3F], &[0x09, 1, 2, 3, 4, 5]] {
        let mut pcm = vec![1, 2, 3];
        let result = decoder.decode(packet, &mut pcm);
        let len = packet.len();
        let told = matches!(&result, Err(DecodeError::Corrupt { encoding: Encoding::Opus, len: l, reason })
            if *l == len && !reason.is_empty());
        assert!(told, "{packet:?}: {result:?}");
        assert_eq!(pcm, [1, 2, 3]);
    }
}

proptest! {
    #[test]
    fn hostile_packets_never_panic_and_give_at_most_120_ms(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..12),
        which in 0..10_usize,
        lost in 0..3_000_usize,
    ) {
        let format = formats().nth(which).unwrap();
        let channels = usize::from(format.channels);
        let mut decoder = format.decoder().unwrap();
        for packet in &packets {
            let mut pcm = Vec::new();
            let result = decoder.decode(packet, &mut pcm);
            prop_assert!(pcm.len() <= format.rate.hz() as usize * 12 / 100 * channels);
            prop_assert_eq!(pcm.len() % channels, 0);
            prop_assert!(result.is_ok() || pcm.is_empty());
            pcm.clear();
            decoder.recover(packet, lost, &mut pcm);
            prop_assert_eq!(pcm.len(), lost * channels);
        }
    }
}

#[test]
fn a_packet_says_how_long_it_lasts() {
    for rate in [8_000, 16_000, 24_000, 48_000] {
        let rate = SampleRate::new(rate).expect("a rate");
        let format = MediaFormat::mono(Encoding::Opus, rate);
        let mut encoder = format.encoder().expect("a codec");
        let samples = encoder.frame_samples().expect("Opus is made of frames").get();
        let mut payload = Vec::new();
        encoder.encode(&vec![0; samples], &mut payload).expect("encodes");
        assert_eq!(format.samples_of(&payload), samples);
    }
    let format = MediaFormat::mono(Encoding::Opus, SampleRate::HZ_48000);
    assert_eq!(format.samples_of(&[]), 960, "nothing to read: taken for 20 ms");
    assert_eq!(format.samples_of(&[0x03, 0x3f]), 960, "more than 120 ms cannot be");
    assert_eq!(format.samples_of(&[0x03, 0x03]), 1_440, "three frames of 10 ms");
}
