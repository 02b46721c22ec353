//! What every format promises: lengths, errors, round trips, that pieces do not matter, that no octets are deadly.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

use proptest::prelude::*;
use ringback_codecs::{
    DecodeError, Decoder, EncodeError, Encoder, Encoding, Endian, MediaFormat, SampleRate,
};

const LITTLE: Encoding = Encoding::L16(Endian::Little);
const BIG: Encoding = Encoding::L16(Endian::Big);

fn format(encoding: Encoding, hz: u32, channels: u8) -> MediaFormat {
    MediaFormat { encoding, rate: SampleRate::new(hz).unwrap(), channels }
}

fn waveforms() -> Vec<MediaFormat> {
    let mut formats = vec![format(Encoding::G722, 16_000, 1)];
    for encoding in [Encoding::Pcmu, Encoding::Pcma, LITTLE, BIG] {
        for channels in [1, 2, 5] {
            formats.push(format(encoding, 8_000, channels));
        }
        formats.push(format(encoding, 11_025, 1));
    }
    formats
}

fn encode(encoder: &mut dyn Encoder, pcm: &[i16]) -> Vec<u8> {
    let mut payload = Vec::new();
    encoder.encode(pcm, &mut payload).unwrap();
    payload
}

fn decode(decoder: &mut dyn Decoder, payload: &[u8]) -> Vec<i16> {
    let mut pcm = Vec::new();
    decoder.decode(payload, &mut pcm).unwrap();
    pcm
}

#[test]
fn l16_has_both_byte_orders() {
    for (encoding, octets) in [(LITTLE, [0x34, 0x12, 0xFE, 0xFF]), (BIG, [0x12, 0x34, 0xFF, 0xFE])]
    {
        let format = format(encoding, 8_000, 1);
        assert_eq!(encode(&mut *format.encoder().unwrap(), &[0x1234, -2]), octets);
        assert_eq!(decode(&mut *format.decoder().unwrap(), &octets), [0x1234, -2]);
    }
}

#[test]
fn partial_sample_groups_are_errors_that_append_nothing() {
    for (encoding, channels, len, multiple) in [
        (LITTLE, 1, 321, 2),
        (BIG, 2, 6, 4),
        (Encoding::Pcmu, 2, 161, 2),
        (Encoding::Pcma, 5, 8, 5),
    ] {
        let mut decoder = format(encoding, 8_000, channels).decoder().unwrap();
        let mut pcm = vec![9];
        let result = decoder.decode(&vec![0; len], &mut pcm);
        assert_eq!(result, Err(DecodeError::Length { encoding, len, multiple }));
        assert_eq!(pcm, [9]);
        decoder.decode(&vec![0; 4 * multiple], &mut pcm).unwrap();
        assert_eq!(pcm.len(), 1 + 4 * usize::from(channels), "stays usable");
    }
    for encoding in [LITTLE, BIG, Encoding::Pcmu, Encoding::Pcma] {
        let mut payload = vec![9];
        let result = format(encoding, 8_000, 2).encoder().unwrap().encode(&[1, 2, 3], &mut payload);
        assert_eq!(result, Err(EncodeError::Length { encoding, got: 3, multiple: 2 }));
        assert_eq!(payload, [9]);
    }
}

#[test]
fn formats_that_do_not_exist_say_why() {
    for (format, reason) in [
        (format(Encoding::G722, 8_000, 1), "G.722 is 16000 Hz (though RTP calls it 8000)"),
        (format(Encoding::G722, 16_000, 2), "G.722 has one channel"),
        (format(Encoding::Pcmu, 8_000, 0), "it needs at least one channel"),
        (format(LITTLE, 8_000, 0), "it needs at least one channel"),
    ] {
        for error in [format.decoder().err(), format.encoder().err()] {
            let error = error.expect("does not exist");
            assert_eq!((error.format, error.reason), (format, reason));
        }
        assert_eq!(format.samples_in(320).is_none(), format.channels == 0);
    }
}

#[cfg(not(feature = "opus"))]
#[test]
fn a_build_without_opus_says_so() {
    let error = format(Encoding::Opus, 48_000, 1).decoder().err().expect("not built in");
    assert!(error.reason.contains("cargo feature `opus`"));
}

#[test]
fn g722_waits_for_the_partner_of_an_odd_sample_until_reset() {
    let mut encoder = format(Encoding::G722, 16_000, 1).encoder().unwrap();
    let first = encode(&mut *encoder, &[100; 7]);
    assert_eq!(first.len(), 3);
    assert_eq!(encode(&mut *encoder, &[]).len(), 0);
    assert_eq!(encode(&mut *encoder, &[100]).len(), 1);
    encoder.encode(&[5; 3], &mut Vec::new()).unwrap();
    encoder.reset();
    assert_eq!(encode(&mut *encoder, &[100; 7]), first);
}

/// Cuts `whole` into pieces that are multiples of `unit`, their sizes taken from `cuts`.
fn pieces<'a, T>(mut whole: &'a [T], unit: usize, cuts: &[usize]) -> Vec<&'a [T]> {
    let mut pieces = Vec::new();
    for cut in cuts.iter().cycle() {
        let (piece, rest) = whole.split_at((cut * unit).min(whole.len()));
        pieces.push(piece);
        whole = rest;
        if whole.is_empty() {
            return pieces;
        }
    }
    unreachable!("cuts are not empty and not all 0")
}

proptest! {
    #[test]
    fn pieces_do_not_matter(
        pcm in prop::collection::vec(any::<i16>(), 400..1_000),
        cuts in prop::collection::vec(1..70_usize, 1..8),
    ) {
        for format in waveforms() {
            let channels = usize::from(format.channels);
            let pcm = &pcm[..pcm.len() / (2 * channels) * 2 * channels];
            let payload = encode(&mut *format.encoder().unwrap(), pcm);
            let mut encoder = format.encoder().unwrap();
            let mut decoder = format.decoder().unwrap();
            let encoded: Vec<u8> =
                pieces(pcm, channels, &cuts).iter().flat_map(|p| encode(&mut *encoder, p)).collect();
            prop_assert_eq!(&encoded, &payload);
            prop_assert_eq!(Some(encoded.len()), format.octets_for(pcm.len() / channels));

            let whole = decode(&mut *format.decoder().unwrap(), &payload);
            let unit = format.octets_for(2).unwrap();
            let decoded: Vec<i16> =
                pieces(&payload, unit, &cuts).iter().flat_map(|p| decode(&mut *decoder, p)).collect();
            prop_assert_eq!(decoded.len() / channels, format.samples_in(payload.len()).unwrap());
            prop_assert_eq!(decoded, whole);
        }
    }

    #[test]
    fn l16_is_exact_and_g711_within_its_steps(pcm in prop::collection::vec(any::<i16>(), 0..500)) {
        for encoding in [LITTLE, BIG, Encoding::Pcmu, Encoding::Pcma] {
            let format = format(encoding, 8_000, 1);
            let payload = encode(&mut *format.encoder().unwrap(), &pcm);
            let came = decode(&mut *format.decoder().unwrap(), &payload);
            prop_assert_eq!(came.len(), pcm.len());
            for (&sent, &came) in pcm.iter().zip(&came) {
                let error = (i32::from(sent) - i32::from(came)).abs();
                // Half a step: 1/32 of the magnitude, but at least 8 steps of a sample. The loudest 2% are clipped.
                let allowed = match encoding {
                    Encoding::Pcmu | Encoding::Pcma => 8 + i32::from(sent).abs() / 31,
                    _ => 0,
                };
                prop_assert!(error <= allowed, "{} came as {} in {}", sent, came, encoding);
            }
        }
    }

    #[test]
    fn no_octets_are_deadly(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 1..8),
        lost in 0..700_usize,
    ) {
        for format in waveforms() {
            let mut decoder = format.decoder().unwrap();
            let mut pcm = Vec::new();
            for payload in &payloads {
                let start = pcm.len();
                let result = decoder.decode(payload, &mut pcm);
                let expected = if result.is_ok() { format.samples_in(payload.len()).unwrap() } else { 0 };
                prop_assert_eq!(pcm.len() - start, expected * usize::from(format.channels));
                decoder.recover(payload, lost, &mut pcm);
            }
        }
    }
}
