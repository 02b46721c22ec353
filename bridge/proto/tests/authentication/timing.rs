//! Whether the time of a refusal tells how much of a guess was right: Welch's t of two kinds of guesses. Not in the ordinary run, since
//! a machine with others on it has times of its own.
//!
//! `cargo nextest run --all-features -p ringback-proto --test authentication --run-ignored ignored-only --no-capture`

#![allow(
    clippy::disallowed_methods,
    reason = "it is time that is measured here, and told to nobody"
)]

use std::hint::black_box;
use std::time::Instant;

use ringback_proto::provider::Secret;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// Guesses of each kind.
const GUESSES: usize = 10_000;
/// Refusals that are timed together: one takes less than a clock can tell.
const TOGETHER: u32 = 64;
/// Beyond this the two kinds are told apart (the bound of the test vector leakage assessment, Goodwill and others, 2011).
const BOUND: f64 = 4.5;

/// Mean and variance of the mean, of what is left when the slowest tenth is gone: those are others' doing.
fn moments(mut times: Vec<f64>) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    times.truncate(times.len() * 9 / 10);
    let count = times.len() as f64;
    let mean = times.iter().sum::<f64>() / count;
    let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, variance / count)
}

/// Welch's t of the times that `first` and `second` take, in turns that change places.
fn t(mut first: impl FnMut(), mut second: impl FnMut()) -> f64 {
    let mut times = [Vec::with_capacity(GUESSES), Vec::with_capacity(GUESSES)];
    let mut time = |which: usize, act: &mut dyn FnMut()| {
        let began = Instant::now();
        (0..TOGETHER).for_each(|_| act());
        times[which].push(began.elapsed().as_nanos() as f64 / f64::from(TOGETHER));
    };
    for turn in 0..GUESSES {
        if turn % 2 == 0 {
            time(0, &mut first);
            time(1, &mut second);
        } else {
            time(1, &mut second);
            time(0, &mut first);
        }
    }
    let [(a, of_a), (b, of_b)] = times.map(moments);
    println!("    {a:.1} ns and {b:.1} ns");
    (a - b) / (of_a + of_b).sqrt()
}

/// A guess whose first `right` letters are the secret's.
fn guess(right: usize) -> String {
    let wrong = |c: char| if c == 'x' { 'y' } else { 'x' };
    SECRET.chars().enumerate().map(|(at, c)| if at < right { c } else { wrong(c) }).collect()
}

#[test]
#[ignore = "timed; see the head of this file"]
fn timing_of_a_refusal_does_not_tell_how_much_was_right() {
    let secrets = || vec![Secret::from(SECRET)];
    let name = "x-token".to_owned();
    let header = Auth::Header { name, values: secrets() };
    let refuse = |auth: &Auth, asked: &Asked| {
        let refused = asked.check(auth, NOW, &mut Replays::new(0));
        assert!(black_box(refused).is_err());
    };
    let asked = |right: usize| Asked::at("/").with("x-token", guess(right));
    let (none, most) = (asked(0), asked(SECRET.len() - 1));
    let by_secret = t(|| refuse(&header, &none), || refuse(&header, &most));
    println!("a header field, no letter right and all but one: t = {by_secret:.2}");
    let bearer = Auth::Bearer { tokens: secrets() };
    let [none, most] = [0, SECRET.len() - 1]
        .map(|right| Asked::at("/").with("authorization", format!("Bearer {}", guess(right))));
    let by_token = t(|| refuse(&bearer, &none), || refuse(&bearer, &most));
    println!("a bearer token, no letter right and all but one: t = {by_token:.2}");
    // The same by a comparison that stops at the first letter that is wrong, or nothing is shown.
    let [none, most] = [0, SECRET.len() - 1].map(guess);
    let hasty = |guess: &str| {
        let same =
            SECRET.bytes().zip(guess.bytes()).position(|(a, b)| black_box(a) != black_box(b));
        black_box(same);
    };
    let control = t(|| hasty(&none), || hasty(&most));
    println!("a comparison that stops early: t = {control:.2}");
    assert!(control.abs() > BOUND, "this machine cannot tell: {control}");
    assert!(by_secret.abs() < BOUND && by_token.abs() < BOUND, "{by_secret} {by_token}");
}
