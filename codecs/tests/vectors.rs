//! G.711 against the tables of the Recommendation, G.722 against vectors of our own that another implementation agrees with.
//! Concealment and sound quality after loss are tested elsewhere.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

use ringback_codecs::g711::{a_to_linear, linear_to_a, linear_to_mu, mu_to_linear};
use ringback_codecs::g722::DELAY_SAMPLES;
use ringback_codecs::{Encoding, MediaFormat, SampleRate};

/// Decision values of positive input, by (intervals, width) of each segment, in 16-bit steps of `unit` each.
fn decisions(segments: &[(usize, i32)], unit: i32) -> Vec<i32> {
    let widths = segments.iter().flat_map(|&(count, width)| std::iter::repeat_n(width, count));
    let ends = widths.scan(0, |end, width| {
        *end += width * unit;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

/// ITU-T G.711 table 1: 128 intervals up to 4096, 13-bit values.
fn a_decisions() -> Vec<i32> {
    let decisions =
        decisions(&[(32, 2), (16, 4), (16, 8), (16, 16), (16, 32), (16, 64), (16, 128)], 8);
    assert_eq!(decisions.len(), 129);
    assert_eq!(decisions[128], 4096 * 8);
    decisions
}

/// ITU-T G.711 table 2: 128 intervals up to 8159, 14-bit values.
fn mu_decisions() -> Vec<i32> {
    let segments =
        [(1, 1), (15, 2), (16, 4), (16, 8), (16, 16), (16, 32), (16, 64), (16, 128), (16, 256)];
    let decisions = decisions(&segments, 4);
    assert_eq!(decisions.len(), 129);
    assert_eq!(decisions[128], 8159 * 4);
    decisions
}

/// The interval a magnitude lies in, its lower decision value included; the last one takes what is louder still.
fn interval(decisions: &[i32], magnitude: i32) -> u8 {
    let above = decisions.iter().position(|&d| d > magnitude).unwrap_or(128);
    (above.min(128) - 1) as u8
}

fn magnitude(sample: i16) -> i32 {
    i32::from(if sample < 0 { !sample } else { sample })
}

#[test]
fn every_sample_falls_in_its_a_law_interval() {
    let decisions = a_decisions();
    for sample in i16::MIN..=i16::MAX {
        let sign = if sample < 0 { 0 } else { 0x80 };
        let expected = (sign | interval(&decisions, magnitude(sample))) ^ 0x55;
        assert_eq!(linear_to_a(sample), expected, "{sample}");
    }
}

#[test]
fn every_sample_falls_in_its_mu_law_interval() {
    let decisions = mu_decisions();
    for sample in i16::MIN..=i16::MAX {
        let top = if sample < 0 { 0x7F } else { 0xFF };
        let expected = top - interval(&decisions, magnitude(sample));
        assert_eq!(linear_to_mu(sample), expected, "{sample}");
    }
}

#[test]
fn every_a_law_code_decodes_to_the_middle_of_its_interval() {
    let decisions = a_decisions();
    for n in 0..128_u8 {
        let middle = (decisions[usize::from(n)] + decisions[usize::from(n) + 1]) / 2;
        assert_eq!(i32::from(a_to_linear((0x80 | n) ^ 0x55)), middle, "+{n}");
        assert_eq!(i32::from(a_to_linear(n ^ 0x55)), -middle, "-{n}");
    }
}

#[test]
fn every_mu_law_code_decodes_to_the_middle_of_its_interval_and_both_zeros_to_zero() {
    let decisions = mu_decisions();
    assert_eq!((mu_to_linear(0xFF), mu_to_linear(0x7F)), (0, 0));
    for n in 1..128_u8 {
        let middle = (decisions[usize::from(n)] + decisions[usize::from(n) + 1]) / 2;
        assert_eq!(i32::from(mu_to_linear(0xFF - n)), middle, "+{n}");
        assert_eq!(i32::from(mu_to_linear(0x7F - n)), -middle, "-{n}");
    }
}

#[test]
fn codes_survive_a_round_trip() {
    for code in 0..=u8::MAX {
        assert_eq!(linear_to_a(a_to_linear(code)), code);
        // Negative zero is the one code that samples cannot carry.
        let expected = if code == 0x7F { 0xFF } else { code };
        assert_eq!(linear_to_mu(mu_to_linear(code)), expected);
    }
}

#[test]
fn extremes_and_zeros_of_g711() {
    assert_eq!([linear_to_mu(0), linear_to_mu(-1), linear_to_mu(-4)], [0xFF, 0x7F, 0x7F]);
    assert_eq!([linear_to_mu(i16::MAX), linear_to_mu(i16::MIN)], [0x80, 0x00]);
    assert_eq!([mu_to_linear(0x80), mu_to_linear(0x00)], [32_124, -32_124]);
    assert_eq!([linear_to_a(0), linear_to_a(-1)], [0xD5, 0x55]);
    assert_eq!([linear_to_a(i16::MAX), linear_to_a(i16::MIN)], [0xAA, 0x2A]);
    assert_eq!([a_to_linear(0xAA), a_to_linear(0x2A)], [32_256, -32_256]);
}

const G722: MediaFormat = MediaFormat::mono(Encoding::G722, SampleRate::HZ_16000);

/// Two seconds: a rising chirp of triangles, loud noise, silence, soft noise. Integers only, so the same everywhere.
fn g722_input() -> Vec<i16> {
    let mut state = 1_u32;
    let mut noise = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as u16 as i16
    };
    let triangle = |phase: i32| (phase % 4_096 - 2_048).abs() - 1_024;
    (0..32_000_i32)
        .map(|i| match i / 8_000 {
            0 => (triangle(i * i / 32) * 24) as i16,
            1 => noise(),
            2 => 0,
            _ => noise() / 64,
        })
        .collect()
}

fn crc32(octets: &[u8]) -> u32 {
    !octets.iter().fold(u32::MAX, |crc, &octet| {
        (0..8).fold(crc ^ u32::from(octet), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 }
        })
    })
}

fn encode(pcm: &[i16]) -> Vec<u8> {
    let mut payload = Vec::new();
    G722.encoder().unwrap().encode(pcm, &mut payload).unwrap();
    payload
}

fn decode(payload: &[u8]) -> Vec<i16> {
    let mut pcm = Vec::new();
    G722.decoder().unwrap().decode(payload, &mut pcm).unwrap();
    pcm
}

fn octets(pcm: &[i16]) -> Vec<u8> {
    pcm.iter().flat_map(|s| s.to_le_bytes()).collect()
}

#[test]
fn crc32_is_the_usual_one() {
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
}

/// The checksums are those of FFmpeg's encoder and decoder, given the same input.
#[test]
fn g722_vectors() {
    let input = g722_input();
    assert_eq!(crc32(&octets(&input)), 0x3EFD_9213);
    let payload = encode(&input);
    assert_eq!(crc32(&payload), 0x4881_36BB);
    assert_eq!(crc32(&octets(&decode(&payload))), 0x45B0_1F34);
}

/// Every octet in every order an encoder would not make: FFmpeg's decoder agrees here, too.
#[test]
fn g722_vectors_of_hostile_octets() {
    let mut state = 7_u32;
    let payload: Vec<u8> = (0..16_000)
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if i < 12_000 { (state >> 24) as u8 } else { (i / 500) as u8 }
        })
        .collect();
    assert_eq!(crc32(&octets(&decode(&payload))), 0x57C6_F611);
}

fn tone(hz: f64, amplitude: f64, len: usize) -> Vec<i16> {
    let sample = |i| (amplitude * (std::f64::consts::TAU * hz * i as f64 / 16_000.0).sin()) as i16;
    (0..len).map(sample).collect()
}

/// Signal to noise of what came back after `delay`, in dB, without the first 100 ms.
fn snr(sent: &[i16], came: &[i16], delay: usize) -> f64 {
    let pairs = sent.iter().zip(&came[delay..]).skip(1_600);
    let (signal, noise) = pairs.fold((0.0, 1e-9), |(signal, noise), (&a, &b)| {
        let (a, b) = (f64::from(a), f64::from(b));
        (signal + a * a, noise + (a - b) * (a - b))
    });
    10.0 * f64::log10(signal / noise)
}

#[test]
fn g722_quality_by_tone() {
    for (hz, least) in
        [(300.0, 30.0), (1_000.0, 30.0), (3_000.0, 25.0), (5_000.0, 14.0), (7_000.0, 14.0)]
    {
        let sent = tone(hz, 10_000.0, 16_000);
        let ratio = snr(&sent, &decode(&encode(&sent)), DELAY_SAMPLES);
        assert!(ratio > least, "{hz} Hz: {ratio:.1} dB");
    }
}

#[test]
fn g722_delay_is_as_told() {
    let sent = g722_input()[..8_000].to_vec();
    let came = decode(&encode(&sent));
    let best = (0..64).max_by(|&a, &b| snr(&sent, &came, a).total_cmp(&snr(&sent, &came, b)));
    assert_eq!(best, Some(DELAY_SAMPLES));
}

#[test]
fn g722_full_scale_saturates_and_recovers() {
    let square: Vec<i16> =
        (0..1_600).map(|i| if i / 40 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
    let quiet = tone(1_000.0, 1_000.0, 8_000);
    let came = decode(&encode(&[square.clone(), quiet.clone()].concat()));
    // Wrapping instead of saturating would turn the middle of a half-wave round.
    for start in (800..1_600).step_by(40) {
        let middle = came[start + DELAY_SAMPLES + 20];
        assert!(
            f64::from(middle) * f64::from(square[start + 20]) > 0.0
                && middle.unsigned_abs() > 20_000
        );
    }
    assert!(snr(&quiet, &came[1_600..], DELAY_SAMPLES) > 25.0);
}
