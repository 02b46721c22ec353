//! The detector against the limits of ITU-T Q.23 and Q.24, line noise, companding, and everything that is no key.

use std::f64::consts::TAU;

use ringback_codecs::g711;
use ringback_dtmf::{Detector, Press};

const KEYS: &str = "123A456B789C*0#D";
const ROWS: [f64; 4] = [697.0, 770.0, 852.0, 941.0];
const COLUMNS: [f64; 4] = [1_209.0, 1_336.0, 1_477.0, 1_633.0];
const PER_MS: usize = 8;

/// How a key is pressed. Level is that of the two tones' peak, in decibels of full scale.
#[derive(Clone, Copy)]
struct Line {
    level: f64,
    /// Row tone stronger than column tone, in decibels.
    twist: f64,
    /// Both frequencies are this much too high.
    detune: f64,
    /// Decibels of noise below the tones.
    noise: Option<f64>,
}

const PLAIN: Line = Line { level: -10.0, twist: 0.0, detune: 0.0, noise: None };

impl Line {
    fn amplitudes(self) -> [f64; 2] {
        let (row, column) = (1.0, 10f64.powf(-self.twist / 20.0));
        let scale = 32_767.0 * 10f64.powf(self.level / 20.0) / (row + column);
        [row * scale, column * scale]
    }

    fn tone(self, key: char, samples: usize) -> Vec<f64> {
        let at = KEYS.find(key).expect("a key");
        let [row, column] = self.amplitudes();
        let angle = |hertz: f64, n: usize| TAU * hertz * (1.0 + self.detune) * n as f64 / 8_000.0;
        let sample =
            |n| row * angle(ROWS[at / 4], n).sin() + column * angle(COLUMNS[at % 4], n + 3).sin();
        (0..samples).map(sample).collect()
    }

    /// Presses `keys`, each so many milliseconds, with pauses before, between and after; `shift` samples later.
    fn dial(self, keys: &str, tone_ms: usize, pause_ms: usize, shift: usize) -> Vec<i16> {
        let mut sound = vec![0.0; 50 * PER_MS + shift];
        for key in keys.chars() {
            sound.extend(self.tone(key, tone_ms * PER_MS));
            sound.resize(sound.len() + pause_ms * PER_MS, 0.0);
        }
        sound.resize(sound.len() + 50 * PER_MS, 0.0);
        if let Some(below) = self.noise {
            let power: f64 =
                self.amplitudes().iter().map(|amplitude| amplitude.powi(2) / 2.0).sum();
            let loudness = (power * 10f64.powf(-below / 10.0)).sqrt();
            for (sample, noise) in sound.iter_mut().zip(noise(shift as u32 + 1)) {
                *sample += noise * loudness;
            }
        }
        sound.into_iter().map(|sample| sample as i16).collect()
    }
}

/// Almost Gaussian white noise, loudness 1.
fn noise(mut seed: u32) -> impl Iterator<Item = f64> {
    let mut uniform = move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(seed >> 8) / f64::from(1 << 24) - 0.5
    };
    std::iter::repeat_with(move || (0..12).map(|_| uniform()).sum())
}

fn presses(samples: &[i16]) -> Vec<Press> {
    let (mut detector, mut presses) = (Detector::new(0), Vec::new());
    detector.process(samples, &mut presses);
    detector.finish(&mut presses);
    presses
}

fn keys(samples: &[i16]) -> String {
    presses(samples).iter().map(|press| press.key).collect()
}

/// Through a mu-law line and back.
fn companded(samples: &[i16]) -> Vec<i16> {
    samples.iter().map(|s| g711::mu_to_linear(g711::linear_to_mu(*s))).collect()
}

/// Every position of the tone against the blocks.
fn shifts() -> impl Iterator<Item = usize> {
    (0..40).step_by(3)
}

fn check(line: Line, tone_ms: usize, pause_ms: usize, what: &str) {
    for shift in shifts() {
        let sound = line.dial(KEYS, tone_ms, pause_ms, shift);
        assert_eq!(keys(&sound), KEYS, "{what}, {tone_ms}/{pause_ms} ms, shift {shift}");
        assert_eq!(keys(&companded(&sound)), KEYS, "{what}, mu-law, shift {shift}");
    }
}

#[test]
fn all_keys_are_heard_fast_and_slow() {
    for (tone, pause) in [(40, 40), (50, 50), (100, 400), (70, 45)] {
        check(PLAIN, tone, pause, "plain");
    }
}

#[test]
fn all_keys_are_heard_at_any_level() {
    for level in [0.0, -6.0, -12.0, -18.0, -24.0, -30.0, -36.0] {
        check(Line { level, ..PLAIN }, 50, 50, &format!("{level} dBFS"));
    }
}

#[test]
fn all_keys_are_heard_with_twist() {
    for twist in [8.0, 4.0, -4.0] {
        check(Line { twist, ..PLAIN }, 50, 50, &format!("{twist} dB of twist"));
    }
}

#[test]
fn twist_beyond_the_limits_is_no_key() {
    for twist in [12.0, -8.0] {
        assert_eq!(keys(&Line { twist, ..PLAIN }.dial(KEYS, 100, 100, 0)), "", "{twist} dB");
    }
}

#[test]
fn detuned_keys_are_heard_to_one_and_a_half_percent() {
    for detune in [0.015, -0.015, 0.01] {
        check(Line { detune, ..PLAIN }, 50, 50, &format!("detuned by {detune}"));
        let noisy = Line { detune, noise: Some(15.0), ..PLAIN };
        check(noisy, 60, 60, &format!("noisy and detuned by {detune}"));
    }
}

#[test]
fn detuned_keys_are_not_heard_from_three_and_a_half_percent() {
    for detune in [0.025, -0.025, 0.035, -0.035, 0.05, -0.05] {
        for shift in shifts() {
            let sound = Line { detune, ..PLAIN }.dial(KEYS, 100, 100, shift);
            assert_eq!(keys(&sound), "", "detuned by {detune}, shift {shift}");
        }
    }
}

#[test]
fn all_keys_are_heard_in_noise() {
    for level in [-3.0, -20.0, -30.0] {
        let line = Line { level, noise: Some(15.0), ..PLAIN };
        check(line, 50, 50, &format!("{level} dBFS in noise"));
        check(Line { twist: 6.0, ..line }, 60, 60, "twist and noise");
    }
}

#[test]
fn a_tone_of_20_ms_is_nothing() {
    for shift in 0..40 {
        assert_eq!(keys(&PLAIN.dial(KEYS, 20, 100, shift)), "", "shift {shift}");
    }
}

#[test]
fn the_same_key_pressed_twice_is_two_presses() {
    for shift in shifts() {
        assert_eq!(keys(&PLAIN.dial("5555", 40, 40, shift)), "5555", "shift {shift}");
    }
}

#[test]
fn a_short_interruption_is_one_press() {
    for shift in 0..40 {
        for (at, gap) in [(40, 10), (50, 10), (63, 20)] {
            let mut sound = PLAIN.dial("7", 120, 50, shift);
            let begin = (50 + at) * PER_MS + shift;
            sound[begin..begin + gap * PER_MS].fill(0);
            let presses = presses(&sound);
            assert_eq!(presses.len(), 1, "shift {shift}, {gap} ms at {at} ms");
            assert!((112..=128).contains(&(presses[0].samples / 8)), "{presses:?}");
        }
    }
}

#[test]
fn keys_without_a_pause_are_told_apart() {
    for shift in shifts() {
        assert_eq!(keys(&PLAIN.dial("1596", 80, 0, shift)), "1596", "shift {shift}");
    }
}

#[test]
fn begin_and_length_are_told() {
    for tone_ms in [40, 100, 2_000] {
        for shift in 0..40 {
            let [press] = presses(&PLAIN.dial("#", tone_ms, 50, shift))[..] else {
                panic!("one press was expected");
            };
            let begin = (50 * PER_MS + shift) as u64;
            assert!(press.start.abs_diff(begin) <= 32, "{press:?} should begin at {begin}");
            let length = (tone_ms * PER_MS) as u64;
            assert!(press.samples.abs_diff(length) <= 64, "{press:?} should last {length}");
        }
    }
}

#[test]
fn the_length_of_chunks_does_not_matter() {
    let sound = PLAIN.dial(KEYS, 50, 50, 0);
    let expected = presses(&sound);
    for length in [1, 7, 80, 160, 240, 4_000] {
        let (mut detector, mut presses) = (Detector::new(0), Vec::new());
        for chunk in sound.chunks(length) {
            detector.process(chunk, &mut presses);
        }
        assert_eq!(presses, expected, "chunks of {length}");
    }
}

#[test]
fn a_lost_packet_does_not_make_two_presses_of_one() {
    for lost in 0..10 {
        let sound = PLAIN.dial("2", 200, 50, lost * 16);
        let from = (100 + lost) * PER_MS;
        for packets in 1..=3 {
            let (mut detector, mut presses) = (Detector::new(0), Vec::new());
            let hole = packets * 20 * PER_MS;
            detector.process(&sound[..from], &mut presses);
            detector.skip(hole as u64, &mut presses);
            detector.process(&sound[from + hole..], &mut presses);
            assert_eq!(presses.len(), 1, "{packets} packets at {from}: {presses:?}");
            assert!((192..=208).contains(&(presses[0].samples / 8)), "{presses:?}");
        }
    }
}

#[test]
fn a_long_hole_ends_a_press() {
    let tone = PLAIN.dial("2", 200, 0, 0);
    let (mut detector, mut presses) = (Detector::new(0), Vec::new());
    detector.process(&tone[..1_600], &mut presses);
    assert_eq!((detector.held(), presses.len()), (Some('2'), 0));
    for _ in 0..4 {
        detector.skip(160, &mut presses);
    }
    assert_eq!((detector.held(), presses.len()), (None, 1));
    detector.process(&tone[400..], &mut presses);
    assert_eq!(presses.len(), 2, "the key is still down behind it");
}

#[test]
fn speech_has_no_keys() {
    let speech: Vec<i16> = include_bytes!("../../vad/tests/data/speech-8k.ulaw")
        .iter()
        .map(|code| g711::mu_to_linear(*code))
        .collect();
    for divisor in [1, 4, 16] {
        let quieter: Vec<i16> = speech.iter().map(|sample| sample / divisor).collect();
        assert_eq!(keys(&quieter), "", "speech over {divisor}");
    }
}

#[test]
fn what_else_is_on_a_line_has_no_keys() {
    const MINUTE: usize = 480_000;
    let sines = |hertz: &[f64], n: usize| -> f64 {
        hertz.iter().map(|hertz| (TAU * hertz * n as f64 / 8_000.0).sin()).sum()
    };
    for (name, hertz) in [
        ("dial tone", &[350.0, 440.0][..]),
        ("ringback", &[440.0, 480.0]),
        ("busy", &[480.0, 620.0]),
        ("fax", &[2_100.0]),
        ("fax calling", &[1_100.0]),
        ("special information", &[950.0, 1_400.0, 1_800.0]),
        ("chord in C", &[261.63, 329.63, 392.0, 523.25, 659.26, 783.99]),
        ("chord in F", &[349.23, 440.0, 523.25, 698.46, 880.0, 1_046.5, 1_396.9]),
        ("multi-frequency signalling", &[700.0, 1_100.0]),
        ("a row tone alone", &[852.0]),
        ("a column tone alone", &[1_336.0]),
        ("two row tones", &[697.0, 941.0]),
        ("three tones", &[770.0, 1_209.0, 1_477.0]),
    ] {
        for amplitude in [300.0, 4_000.0] {
            let on = |n: usize| n % 8_000 < 4_000;
            let sample = |n| if on(n) { (sines(hertz, n) * amplitude) as i16 } else { 0 };
            let sound: Vec<i16> = (0..MINUTE / 6).map(sample).collect();
            assert_eq!(keys(&sound), "", "{name} at {amplitude}");
        }
    }
    for loudness in [100.0, 1_000.0, 8_000.0] {
        let hiss = noise(7).take(MINUTE).map(|sample| (sample * loudness) as i16);
        assert_eq!(keys(&hiss.collect::<Vec<_>>()), "", "noise at {loudness}");
    }
}

#[test]
fn noise_as_loud_as_the_tones_hides_them_without_inventing_others() {
    let sound = Line { noise: Some(0.0), ..PLAIN }.dial(KEYS, 100, 100, 0);
    assert_eq!(keys(&sound), "");
}

#[test]
fn a_sweep_through_all_pitches_has_no_keys() {
    let mut phase = 0.0f64;
    let glide = |n: usize| {
        phase += TAU * (200.0 + n as f64 / 80_000.0 * 400.0) / 8_000.0;
        let voice =
            (1..=5).map(|harmonic| (phase * f64::from(harmonic)).sin() / f64::from(harmonic));
        (voice.sum::<f64>() * 6_000.0) as i16
    };
    assert_eq!(keys(&(0..160_000).map(glide).collect::<Vec<_>>()), "");
}
