//! What modules and bridge say to each other: stdio frames however they are cut, messages both ways, sound in every encoding.

use ringback_module::message::{FromWorker, SampleEncoding, ToWorker};
use ringback_module::wire::{
    AudioHeader, Frame, FrameKind, FrameReader, MAX_BODY, WireError, decode_samples,
    encode_samples, write_audio, write_json,
};
use ringback_module::{FromModule, ToModule};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::script::{Draft, Script};
use crate::seeds;

/// A stream is cut into frames, at once and in pieces: the same frames, and the same error at the end. Frames are written again as
/// they were, and messages in them as what they mean.
pub(super) fn stdio(octets: &[u8]) {
    let Some((&cut, stream)) = octets.split_first() else { return };
    let (whole, error) = frames(stream, stream.len().max(1));
    let (pieces, same) = frames(stream, usize::from(cut) + 1);
    assert_eq!(whole, pieces, "in pieces there are other frames");
    assert_eq!(error, same);
    let mut written = Vec::new();
    for (slot, kind, body) in &whole {
        assert!(body.len() <= MAX_BODY);
        match kind {
            FrameKind::Json => message(body),
            FrameKind::Audio => audio(*slot, body),
        }
        written.extend((body.len() as u32).to_le_bytes());
        written.extend([u8::from(*kind == FrameKind::Audio), 0]);
        written.extend(slot.to_le_bytes());
        written.extend(body);
    }
    assert!(stream.starts_with(&written), "the frames are not those of the stream");
}

type Cut = (u16, FrameKind, Vec<u8>);

fn frames(stream: &[u8], piece: usize) -> (Vec<Cut>, Result<(), WireError>) {
    let (mut reader, mut found) = (FrameReader::new(), Vec::new());
    for piece in stream.chunks(piece) {
        reader.push(piece);
        loop {
            match reader.next_frame() {
                Ok(Some(Frame { slot, kind, body })) => found.push((slot, kind, body.to_vec())),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(
                        reader.next_frame().map(|frame| frame.is_some()),
                        Err(error.clone())
                    );
                    return (found, Err(error));
                }
            }
        }
    }
    (found, reader.finish())
}

/// Text as a message of either side, on either kind of connection: what is understood is written and means the same.
pub(super) fn message(text: &[u8]) {
    same::<ToModule>(text);
    same::<FromModule>(text);
    same::<ToWorker>(text);
    same::<FromWorker>(text);
}

fn same<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(text: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(text) else { return };
    let mut frame = Vec::new();
    match write_json(1, &read, &mut frame) {
        Ok(()) => {
            let body = &frame[ringback_module::wire::STDIO_HEADER..];
            let again = serde_json::from_slice::<T>(body);
            // A type that is not known has no way to be written.
            let unknown = format!("{read:?}") == "Unknown";
            assert!(
                unknown || again.as_ref().is_ok_and(|again| *again == read),
                "{read:?} {again:?}"
            );
        }
        Err(error) => assert!(frame.is_empty(), "{error} left something behind"),
    }
}

fn audio(slot: u16, body: &[u8]) {
    let encodings = [
        SampleEncoding::PcmS16le,
        SampleEncoding::PcmF32le,
        SampleEncoding::Pcmu,
        SampleEncoding::Pcma,
    ];
    let headed = AudioHeader::decode(body).ok();
    if let Some((header, rest)) = headed {
        assert_eq!([&header.encode()[..], rest].concat(), body);
    }
    for encoding in encodings {
        let (mut samples, mut again) = (vec![5], Vec::new());
        match decode_samples(encoding, body, &mut samples) {
            Err(_) => assert_eq!(samples, [5]),
            Ok(()) => {
                assert_eq!((samples.len() - 1) * encoding.octets(), body.len());
                let mut octets = Vec::new();
                encode_samples(encoding, &samples[1..], &mut octets);
                decode_samples(encoding, &octets, &mut again).expect("our own octets");
                assert_eq!(again, samples[1..]);
                let mut frame = Vec::new();
                let written = write_audio(
                    slot,
                    headed.as_ref().map(|(h, _)| h),
                    encoding,
                    &again,
                    &mut frame,
                );
                assert_eq!(written.is_err(), frame.is_empty());
            }
        }
    }
}

/// Messages of the contract's examples, one frame after another.
pub(super) fn stdio_seeds() -> Vec<Vec<u8>> {
    let frame = |draft: Vec<u8>, kind: u8, body: &[u8]| {
        let head = [&(body.len() as u32).to_le_bytes()[..], &[kind, 0, 1, 0]].concat();
        [draft, head, body.to_vec()].concat()
    };
    let mut all = vec![6];
    let mut each = Vec::new();
    for text in message_seeds() {
        each.push(frame(vec![2], 0, &text));
        all = frame(all, 0, &text);
        all = frame(all, 1, &[[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [7; 16]].concat());
    }
    each.push(all);
    each
}

/// One of every message that `CONTRACT.md` shows.
pub(super) fn message_seeds() -> Vec<Vec<u8>> {
    let contract = seeds::root().join("compute-modules/api/CONTRACT.md");
    let text = std::fs::read_to_string(contract).unwrap_or_default();
    let blocks = text.split("```json").skip(1).filter_map(|block| block.split("```").next());
    let values = blocks.flat_map(|block| {
        let values = serde_json::Deserializer::from_str(block).into_iter::<serde_json::Value>();
        values.filter_map(Result::ok).collect::<Vec<_>>()
    });
    values.map(|value| value.to_string().into_bytes()).collect()
}

/// Text of which the pieces between what is fixed are the fuzzer's.
pub(super) fn session(octets: &[u8]) {
    let mut script = Script::new(octets);
    while !script.is_over() {
        message(script.piece());
    }
}

pub(super) fn session_seeds() -> Vec<Vec<u8>> {
    message_seeds().iter().map(|text| Draft::new().piece(text).done()).collect()
}
