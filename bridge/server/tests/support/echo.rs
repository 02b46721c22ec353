//! How what came back is compared with what was said: octet by octet where the encoding carries it, else by how much is added to it.
//! Calls nobody.

use std::ops::Range;
use std::time::Duration;

use ringback_codecs::{Encoding, MediaFormat};
use ringback_proto::provider::{FrameLaw, PlayoutPolicy, Provider};

/// What two passes through G.722 must leave of the words at least, as sound over error; 31 dB were measured.
const G722_DB: f64 = 25.0;
/// The same for Opus, of the loudness of the words: Opus keeps how speech sounds rather than its wave. 28 dB were measured.
const OPUS_DB: f64 = 20.0;

/// The same of PCMA that is answered in PCMU: each has 13 to 14 bits of which it keeps eight; 34 dB were measured.
const COMPANDED_DB: f64 = 28.0;

/// Messages of this length are full with every frame that a caller speaks; longer ones wait for more, and in the end for silence.
const SPOKEN_AT_ONCE: Duration = Duration::from_millis(20);

/// How well something came back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fidelity {
    /// Every octet of it, in one piece.
    Exact,
    /// Every sample of it that is no silence, with silence in between: what is late is waited for in silence, on wires that want
    /// sound at all times or in long messages.
    Pieces,
    /// As sound over error, in dB.
    Decibels(f64),
}

/// Whether the very octets come back that were said in `inbound` where the answer is in `outbound`.
pub fn is_exact(inbound: MediaFormat, outbound: MediaFormat) -> bool {
    inbound == outbound && !matches!(inbound.encoding, Encoding::G722 | Encoding::Opus)
}

/// That what was `sent` came back, all of it and nothing else but silence; and that its octets `words` did so in one piece, unless
/// the wire is one on which what is late is waited for in silence.
pub fn came_back(
    provider: &dyn Provider,
    format: MediaFormat,
    sent: &[u8],
    words: Range<usize>,
    heard: &[u8],
) -> Fidelity {
    let about = format!("{} in {format}", provider.name());
    let sound = |payload: &[u8]| {
        let samples = decoded(format, &[payload.to_vec()]);
        samples.into_iter().filter(|sample| *sample != 0).collect::<Vec<_>>()
    };
    let (said, came) = (sound(sent), sound(heard));
    let first = said.iter().zip(&came).position(|(said, came)| said != came);
    let same = (first, said.len()) == (None, came.len());
    assert!(
        same,
        "{about}: {} samples of sound, {} back, other from {first:?} on",
        said.len(),
        came.len()
    );
    let words = &sent[words];
    if heard.windows(words.len()).any(|piece| piece == words) {
        return Fidelity::Exact;
    }
    let can = provider.capabilities();
    let long = match can.frame {
        FrameLaw::Any | FrameLaw::UpTo(_) => false,
        FrameLaw::Exact(time)
        | FrameLaw::MultipleOf(time)
        | FrameLaw::AtLeast { least: time, .. } => time > SPOKEN_AT_ONCE,
    };
    let waited_for = long || matches!(can.playout, PlayoutPolicy::Paced { .. });
    assert!(waited_for, "{about}: what was sent ahead came back with silence in it");
    Fidelity::Pieces
}

/// How near what came back in `format`, which changes it, is to `said`; it must be near enough.
pub fn near(format: MediaFormat, said: &[i16], heard: &[Vec<u8>]) -> Fidelity {
    let heard = decoded(format, heard);
    let (bound, (ratio, delay)) = match format.encoding {
        Encoding::G722 => (G722_DB, signal_to_noise(said, &heard, 200)),
        Encoding::Opus => {
            let (said, heard) = (loudness(format, said), loudness(format, &heard));
            (OPUS_DB, signal_to_noise(&said, &heard, 60))
        }
        _ => (COMPANDED_DB, signal_to_noise(said, &heard, 200)),
    };
    assert!(ratio >= bound, "{format}: {ratio:.1} dB of {bound} dB, at a delay of {delay}");
    Fidelity::Decibels(ratio)
}

pub fn decoded(format: MediaFormat, payloads: &[Vec<u8>]) -> Vec<i16> {
    let mut decoder = format.decoder().expect("there is a codec");
    let mut samples = Vec::new();
    for payload in payloads {
        decoder.decode(payload, &mut samples).expect("the bridge sends what can be decoded");
    }
    samples
}

/// The best ratio of `said` to what `heard` adds to it, over all delays, in dB; and the delay in samples.
fn signal_to_noise(said: &[i16], heard: &[i16], most: usize) -> (f64, usize) {
    let mut best = (f64::NEG_INFINITY, 0);
    for delay in 0..most.min(heard.len()) {
        let (mut signal, mut product, mut power) = (0.0, 0.0, 0.0);
        for (&a, &b) in said.iter().zip(&heard[delay..]) {
            let (a, b) = (f64::from(a), f64::from(b));
            signal += a * a;
            product += a * b;
            power += b * b;
        }
        // What is left of `heard` once the share that follows `said` is taken out.
        let follows = product * product / signal.max(1.0);
        let ratio = 10.0 * (follows / (power - follows).max(1e-9)).log10();
        if ratio > best.0 && product > 0.0 {
            best = (ratio, delay);
        }
    }
    best
}

/// How loud it is, every millisecond: the root of the mean square of the 20 ms from there on.
fn loudness(format: MediaFormat, samples: &[i16]) -> Vec<i16> {
    let hz = format.rate.hz() as usize;
    let (step, window) = (hz / 1_000, hz / 50);
    let loud = |piece: &[i16]| {
        let sum: f64 = piece.iter().map(|&s| f64::from(s) * f64::from(s)).sum();
        (sum / window as f64).sqrt() as i16
    };
    samples.windows(window).step_by(step).map(loud).collect()
}
