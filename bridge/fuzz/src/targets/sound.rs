//! What sound goes through: every codec's decoder and encoder, WAV files, resamplers, the ring of a track. Tests no quality.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use ringback_codecs::g711::{a_to_linear, linear_to_a, linear_to_mu, mu_to_linear};
use ringback_codecs::{Encoding, Endian, MediaFormat, Resampler, SampleRate, wav};
use ringback_proto::media::ring::{Lagged, Ring};

use crate::script::{Draft, Script};
use crate::seeds;

/// Payloads of a script that are decoded.
const MOST_PAYLOADS: usize = 64;

/// The encodings by name.
pub(super) const ENCODINGS: [(&str, Encoding); 6] = [
    ("codec-pcmu", Encoding::Pcmu),
    ("codec-pcma", Encoding::Pcma),
    ("codec-l16le", Encoding::L16(Endian::Little)),
    ("codec-l16be", Encoding::L16(Endian::Big)),
    ("codec-g722", Encoding::G722),
    ("codec-opus", Encoding::Opus),
];

/// A decoder is given payloads, gaps and fresh starts: it gives as many samples as it says, and on error none and goes on. What it
/// gave is encoded again; where nothing can get lost, nothing did.
pub(super) fn codec(encoding: Encoding, octets: &[u8]) {
    let mut script = Script::new(octets);
    let format = format_of(encoding, script.octet());
    let (Ok(mut decoder), Ok(mut encoder)) = (format.decoder(), format.encoder()) else { return };
    let channels = usize::from(format.channels);
    let most = format.rate.samples_in(Duration::from_millis(120)) as usize * channels;
    // What follows a gap is faded into what was made up for it, and is not the payload's alone.
    let (mut pcm, mut is_pure) = (vec![7], true);
    for _ in 0..MOST_PAYLOADS {
        if script.is_over() {
            break;
        }
        pcm.truncate(1);
        match script.octet() % 8 {
            0 => {
                decoder.reset();
                is_pure = true;
            }
            1 => {
                let samples = usize::from(script.number()) % 9_600;
                decoder.conceal(samples, &mut pcm);
                assert_eq!(pcm.len() - 1, samples * channels);
                is_pure = false;
            }
            2 => {
                let samples = usize::from(script.number()) % 2_880;
                decoder.recover(script.piece(), samples, &mut pcm);
                assert_eq!(pcm.len() - 1, samples * channels);
                is_pure = false;
            }
            _ => {
                let payload = script.piece();
                let decoded = decoder.decode(payload, &mut pcm);
                let got = pcm.len() - 1;
                if decoded.is_err() {
                    assert_eq!(got, 0, "an error leaves nothing behind");
                    continue;
                }
                match format.samples_in(payload.len()) {
                    Some(told) => assert_eq!(got, told * channels),
                    None => assert!(got <= most, "{got} samples of one packet"),
                }
                if is_pure {
                    again(format, payload, &pcm[1..], &mut *encoder);
                }
            }
        }
        assert_eq!(pcm[0], 7, "what was there is left alone");
    }
}

/// Encodes what was decoded: the same octets, or as many.
fn again(
    format: MediaFormat,
    payload: &[u8],
    pcm: &[i16],
    encoder: &mut dyn ringback_codecs::Encoder,
) {
    let frame = encoder.frame_samples().map_or(usize::MAX, std::num::NonZero::get);
    let mut octets = Vec::new();
    // Opus takes longer to encode than all the rest, and nobody outside chooses what: one frame of it is enough.
    let most = if format.encoding == Encoding::Opus { 1 } else { usize::MAX };
    for piece in pcm.chunks(frame.min(pcm.len().max(1))).take(most) {
        let encoded = encoder.encode(piece, &mut octets);
        let is_whole = frame == usize::MAX || piece.len() == frame;
        assert_eq!(encoded.is_ok(), is_whole, "{encoded:?} of {} samples", piece.len());
    }
    match format.encoding {
        Encoding::L16(_) => assert_eq!(octets, payload),
        // One of two codes for the same sample comes back.
        Encoding::Pcmu => {
            let back = octets.iter().map(|code| mu_to_linear(*code));
            assert!(back.eq(payload.iter().map(|code| mu_to_linear(*code))));
            assert!(pcm.iter().map(|sample| linear_to_mu(*sample)).eq(octets));
        }
        Encoding::Pcma => {
            let back = octets.iter().map(|code| a_to_linear(*code));
            assert!(back.eq(payload.iter().map(|code| a_to_linear(*code))));
            assert!(pcm.iter().map(|sample| linear_to_a(*sample)).eq(octets));
        }
        Encoding::G722 => assert_eq!(octets.len(), payload.len()),
        _ => {}
    }
}

fn format_of(encoding: Encoding, choice: u8) -> MediaFormat {
    let rates = [8_000, 16_000, 24_000, 48_000, 12_000, 44_100, 4_000, 192_000];
    let rate = match encoding {
        Encoding::G722 => SampleRate::HZ_16000,
        _ => SampleRate::new(rates[usize::from(choice) % rates.len()]).expect("of the table"),
    };
    let channels = if encoding == Encoding::G722 { 1 } else { 1 + (choice >> 3) % 3 };
    MediaFormat { channels, ..MediaFormat::mono(encoding, rate) }
}

/// Payloads of the codec's own, cut and whole.
pub(super) fn codec_seeds(encoding: Encoding) -> Vec<Vec<u8>> {
    let seeds = [0_u8, 1, 3, 9].into_iter().filter_map(|choice| {
        let format = format_of(encoding, choice);
        let mut encoder = format.encoder().ok()?;
        let frame = encoder.frame_samples().map_or(320, std::num::NonZero::get);
        let mut draft = Draft::new().octet(choice);
        for round in 0..4_i16 {
            let pcm: Vec<i16> =
                (0..frame as i16).map(|n| n.wrapping_mul(round * 97 + 31)).collect();
            let mut payload = Vec::new();
            encoder.encode(&pcm, &mut payload).ok()?;
            draft = draft.octet(3).piece(&payload).octet(1).number(160).octet(2).number(160);
            draft = draft.piece(&payload[..payload.len() / 2]).octet(4).piece(&payload);
        }
        Some(draft.octet(0).done())
    });
    seeds.collect()
}

/// A WAV file is read to its end; what it had is written and read again. It takes memory for the sound that is there.
pub(super) fn wav_file(octets: &[u8]) {
    let Ok(read) = wav::read(octets) else { return };
    assert!(read.samples.len() <= octets.len(), "sound out of nothing");
    assert!(matches!(read.channels, 1 | 2));
    let mut reader = wav::Reader::new(octets).expect("it was read before");
    let mut pieces = Vec::new();
    while reader.read(1 + pieces.len() % 77, &mut pieces).is_ok_and(|count| count > 0) {}
    assert_eq!(pieces, read.samples, "in pieces it is another sound");
    let mut file = std::io::Cursor::new(Vec::new());
    let mut writer =
        wav::Writer::new(&mut file, read.rate, read.channels).expect("memory takes it");
    writer.write(&read.samples).expect("whole sample groups");
    writer.finish().expect("memory takes it");
    let again = wav::read(file.get_ref().as_slice()).expect("our own file");
    assert_eq!(again, read);
}

/// Beginnings of the recordings that the tests use.
pub(super) fn wav_seeds() -> Vec<Vec<u8>> {
    let files = seeds::files("test-audio", "wav");
    let octets = files.iter().filter_map(|path| std::fs::read(path).ok());
    octets.map(|file| file[..file.len().min(400)].to_vec()).collect()
}

/// Any two rates and any pieces: as many samples as the rates say, and the same whatever the pieces.
pub(super) fn resampler(octets: &[u8]) {
    let mut script = Script::new(octets);
    let rates = [8_000, 16_000, 24_000, 48_000, 11_025, 44_100, 22_050, 32_000, 12_000, 4_000];
    let mut rate = || rates[usize::from(script.octet()) % rates.len()];
    let [from, to] = [rate(), rate()].map(|hz| SampleRate::new(hz).expect("of the table"));
    // Ten times the work of all the rest is in their tables, so they are used again: once finished they are as new, and a script that
    // finds them otherwise fails.
    thread_local!(static MADE: RefCell<BTreeMap<[SampleRate; 2], [Resampler; 2]>> = RefCell::default());
    let kept = MADE.with_borrow_mut(|made| made.remove(&[from, to]));
    let [mut pieces, mut whole] =
        kept.unwrap_or_else(|| std::array::from_fn(|_| Resampler::new(from, to)));
    let (mut input, mut output, mut at_once) = (Vec::new(), Vec::new(), Vec::new());
    while !script.is_over() && input.len() < 16_000 {
        let piece: Vec<i16> = script.piece().iter().map(|octet| i16::from(*octet) << 7).collect();
        pieces.process(&piece, &mut output);
        input.extend(piece);
    }
    whole.process(&input, &mut at_once);
    assert_eq!(output, at_once, "in pieces it sounds different");
    pieces.finish(&mut output);
    let wanted = (input.len() as u64 * u64::from(to.hz())).div_ceil(from.hz().into());
    assert_eq!(output.len() as u64, wanted, "{} samples of {from} at {to}", input.len());
    // And is as new.
    pieces.process(&input, &mut output);
    assert_eq!(output[wanted as usize..], at_once);
    for resampler in [&mut pieces, &mut whole] {
        resampler.finish(&mut output);
    }
    MADE.with_borrow_mut(|made| made.insert([from, to], [pieces, whole]));
}

pub(super) fn resampler_seeds() -> Vec<Vec<u8>> {
    let pairs = (0..10).flat_map(|from| [(from, (from + 1) % 10), (from, 1)]);
    let ramp: Vec<u8> = (0..=255).collect();
    pairs
        .map(|(a, b)| Draft::new().octet(a).octet(b).piece(&ramp).piece(&ramp[..37]).done())
        .collect()
}

/// The ring against a list that forgets nothing: what it still holds is what was pushed, and what it does not is told to the sample.
pub(super) fn ring(octets: &[u8]) {
    let mut script = Script::new(octets);
    let (kind, keep) = (script.octet(), u64::from(script.octet()) + 1);
    let encoding =
        [Encoding::L16(Endian::Little), Encoding::Pcmu, Encoding::Pcma][usize::from(kind) % 3];
    let keep = Duration::from_millis(keep);
    let mut ring = Ring::new(encoding, SampleRate::HZ_8000, keep);
    let heard = |sample: i16| match encoding {
        Encoding::Pcmu => mu_to_linear(linear_to_mu(sample)),
        Encoding::Pcma => a_to_linear(linear_to_a(sample)),
        _ => sample,
    };
    let least = SampleRate::HZ_8000.samples_in(keep);
    let (mut all, mut message) = (Vec::<i16>::new(), None);
    while !script.is_over() && all.len() < 200_000 {
        match script.octet() % 5 {
            0 => {
                ring.begin_message();
                message = Some(all.len() as u64);
            }
            1 => {
                let count = u64::from(script.number());
                ring.push_silence(count);
                all.extend(std::iter::repeat_n(0, count as usize).map(heard));
            }
            2 => {
                let (position, count) = (u64::from(script.number()) * 7, script.octet());
                let mut out = vec![9];
                let read = ring.read(position, count.into(), &mut out);
                if position < ring.start() {
                    assert_eq!(read, Err(Lagged { samples: ring.start() - position }));
                    assert_eq!(out, [9]);
                } else {
                    let from = usize::try_from(position).expect("small").min(all.len());
                    let to = (from + usize::from(count)).min(all.len());
                    assert_eq!(read, Ok(to - from));
                    assert_eq!(out[1..], all[from..to]);
                }
            }
            push => {
                let piece = script.piece();
                let samples: Vec<i16> = piece.iter().map(|o| (i16::from(*o) - 128) << 8).collect();
                if push == 3 {
                    ring.push(&samples);
                } else {
                    ring.push_synthesized(&samples);
                }
                let end = all.len() as u64;
                all.extend(samples.into_iter().map(heard));
                if push == 4 && !piece.is_empty() {
                    assert!(ring.is_synthesized(&(end..end + 1)));
                }
            }
        }
        let (start, end) = (ring.start(), ring.end());
        assert_eq!(end, all.len() as u64);
        assert!(end - start >= least.min(end), "it holds less than it was told to");
        let longest = SampleRate::HZ_8000.samples_in(Duration::from_secs(10));
        if let Some(from) = message {
            assert!(start <= from.max(end.saturating_sub(longest)), "the message is not whole");
        }
        assert!(end - start <= least.max(longest), "it grows without end");
    }
}

pub(super) fn ring_seeds() -> Vec<Vec<u8>> {
    let ramp: Vec<u8> = (0..200).collect();
    let seed = |kind: u8| {
        let draft = Draft::new().octet(kind).octet(20).octet(3).piece(&ramp).octet(2).number(10);
        let draft = draft.octet(50).octet(0).octet(4).piece(&ramp).octet(1).number(300);
        draft
            .octet(2)
            .number(0)
            .octet(9)
            .octet(2)
            .number(40)
            .octet(200)
            .octet(3)
            .piece(&ramp)
            .done()
    };
    (0..3).map(seed).collect()
}
