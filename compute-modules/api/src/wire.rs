//! The contract as octets: stdio frames, audio headers and samples. Pure: fed slices, writes into `Vec`s; opens and reads nothing.
//!
//! A stdio stream is a sequence of frames, all numbers little-endian:
//!
//! ```text
//! 0  u32 length of the body in octets
//! 4  u8  kind: 0 JSON (UTF-8), 1 audio
//! 5  u8  0
//! 6  u16 session slot: 0 the process itself (register, ping), 1.. one session each
//! 8  body
//! ```

use ringback_codecs::g711::{a_to_linear, linear_to_a, linear_to_mu, mu_to_linear};
use serde::Serialize;

use crate::FrameFlags;
use crate::message::SampleEncoding;

/// Octets in front of every stdio frame.
pub const STDIO_HEADER: usize = 8;
/// Octets in front of the samples in [`crate::message::Framing::Hdr16`].
pub const AUDIO_HEADER: usize = 16;
/// Largest body of a stdio frame: a message of `Limits::max_msg` octets.
pub const MAX_BODY: usize = 262_144;

/// First octet of an [`AudioHeader`].
const AUDIO_KIND: u8 = 1;

/// Octets that are not `ringback.v1`, or sound that does not fit it. The stream they came on cannot be read any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A frame announces (or would need) more than [`MAX_BODY`].
    #[error(
        "frame at octet {at}: body of {len} octets is over the limit of {MAX_BODY}; \
         send less at once, and print nothing to stdout but frames"
    )]
    TooLong {
        /// Octets of the stream before the frame; 0 for one that is being written.
        at: u64,
        /// Length announced.
        len: usize,
    },
    /// A frame is neither JSON nor audio.
    #[error(
        "frame at octet {at}: kind {kind} with reserved octet {reserved}, expected kind 0 (JSON) or 1 (audio) and 0; \
         print nothing to stdout but frames"
    )]
    Kind {
        /// Octets of the stream before the frame.
        at: u64,
        /// Kind found.
        kind: u8,
        /// The octet after it.
        reserved: u8,
    },
    /// The stream ended inside a frame.
    #[error("stream ended inside the frame at octet {at}, {missing} octets short")]
    Truncated {
        /// Octets of the stream before the frame.
        at: u64,
        /// Octets that never came.
        missing: usize,
    },
    /// A message does not turn into JSON.
    #[error("message cannot be written as JSON: {0}")]
    Json(String),
    /// Sound with a header is shorter than the header, or starts with another kind.
    #[error(
        "audio of {len} octets does not start with a header of {AUDIO_HEADER} octets and kind 1"
    )]
    AudioHeader {
        /// Octets found.
        len: usize,
    },
    /// Sound that ends inside a sample.
    #[error("audio of {len} octets does not hold whole {encoding:?} samples of {} octets", encoding.octets())]
    Samples {
        /// How samples are written.
        encoding: SampleEncoding,
        /// Octets found.
        len: usize,
    },
}

/// What a stdio frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// One JSON object, UTF-8.
    Json,
    /// Samples, with or without an [`AudioHeader`] in front.
    Audio,
}

impl FrameKind {
    const fn octet(self) -> u8 {
        match self {
            Self::Json => 0,
            Self::Audio => 1,
        }
    }
}

/// One stdio frame, borrowed from its [`FrameReader`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// 0 for the process itself, otherwise a session.
    pub slot: u16,
    /// What `body` is.
    pub kind: FrameKind,
    /// The octets after the header.
    pub body: &'a [u8],
}

/// Cuts a stdio stream into frames. Holds no more than one unfinished frame and what was pushed last, so push in pieces of
/// bounded size and take all frames out after each.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// Octets of `buffer` already given out.
    taken: usize,
    /// Octets of the stream before `buffer[taken]`.
    at: u64,
    failed: Option<WireError>,
}

impl FrameReader {
    /// A reader at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next octets of the stream, however they were cut.
    pub fn push(&mut self, octets: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        if self.failed.is_none() {
            self.buffer.extend_from_slice(octets);
        }
    }

    /// The next whole frame, or `None` until more is pushed.
    ///
    /// # Errors
    /// [`WireError::TooLong`] and [`WireError::Kind`]; the place of the next frame is unknown from then on, so every later call
    /// says the same.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, WireError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let (len, kind, slot) = match self.header() {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.buffer = Vec::new();
                self.taken = 0;
                self.failed = Some(error.clone());
                return Err(error);
            }
        };
        let body = self.taken + STDIO_HEADER..self.taken + STDIO_HEADER + len;
        if self.buffer.len() < body.end {
            return Ok(None);
        }
        self.taken = body.end;
        self.at += (STDIO_HEADER + len) as u64;
        Ok(Some(Frame { slot, kind, body: &self.buffer[body] }))
    }

    /// Checks that the stream may end here.
    ///
    /// # Errors
    /// [`WireError::Truncated`] if it ends inside a frame, and whatever [`Self::next_frame`] failed with.
    pub fn finish(&self) -> Result<(), WireError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let have = self.buffer.len() - self.taken;
        if have == 0 {
            return Ok(());
        }
        let whole = match self.header()? {
            Some((len, ..)) => STDIO_HEADER + len,
            None => STDIO_HEADER,
        };
        Err(WireError::Truncated { at: self.at, missing: whole.saturating_sub(have) })
    }

    fn header(&self) -> Result<Option<(usize, FrameKind, u16)>, WireError> {
        let Some(header) = self.buffer[self.taken..].first_chunk::<STDIO_HEADER>() else {
            return Ok(None);
        };
        let &[l0, l1, l2, l3, kind, reserved, s0, s1] = header;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if len > MAX_BODY {
            return Err(WireError::TooLong { at: self.at, len });
        }
        let frame_kind = match (kind, reserved) {
            (0, 0) => FrameKind::Json,
            (1, 0) => FrameKind::Audio,
            _ => return Err(WireError::Kind { at: self.at, kind, reserved }),
        };
        Ok(Some((len, frame_kind, u16::from_le_bytes([s0, s1]))))
    }
}

/// Appends one stdio frame holding `message`.
///
/// # Errors
/// [`WireError::Json`] and [`WireError::TooLong`]; `out` is then as it was.
pub fn write_json(slot: u16, message: &impl Serialize, out: &mut Vec<u8>) -> Result<(), WireError> {
    write_frame(slot, FrameKind::Json, out, |out| {
        serde_json::to_writer(out, message).map_err(|error| WireError::Json(error.to_string()))
    })
}

/// Appends one stdio frame of sound, with `header` in front if the session is framed [`crate::message::Framing::Hdr16`].
///
/// # Errors
/// [`WireError::TooLong`] if it is more than a body holds ([`max_samples`]); `out` is then as it was.
pub fn write_audio(
    slot: u16,
    header: Option<&AudioHeader>,
    encoding: SampleEncoding,
    samples: &[i16],
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    write_frame(slot, FrameKind::Audio, out, |out| {
        if let Some(header) = header {
            out.extend_from_slice(&header.encode());
        }
        encode_samples(encoding, samples, out);
        Ok(())
    })
}

/// Samples that fit one stdio frame, header or not.
#[must_use]
pub const fn max_samples(encoding: SampleEncoding) -> usize {
    (MAX_BODY - AUDIO_HEADER) / encoding.octets()
}

fn write_frame(
    slot: u16,
    kind: FrameKind,
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let start = out.len();
    let [s0, s1] = slot.to_le_bytes();
    out.extend_from_slice(&[0, 0, 0, 0, kind.octet(), 0, s0, s1]);
    let written = body(out).and_then(|()| {
        let len = out.len() - start - STDIO_HEADER;
        if len > MAX_BODY { Err(WireError::TooLong { at: 0, len }) } else { Ok(len as u32) }
    });
    match written {
        Ok(len) => out[start..start + 4].copy_from_slice(&len.to_le_bytes()),
        Err(_) => out.truncate(start),
    }
    written.map(|_| ())
}

/// What stands in front of the samples in [`crate::message::Framing::Hdr16`], 16 octets, little-endian:
/// `0 u8 kind = 1 | 1 u8 flags | 2 u16 track | 4 u32 epoch | 8 u64 pts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AudioHeader {
    /// What is special about this sound.
    pub flags: FrameFlags,
    /// Which track it is of; from a module always the agent's, 1.
    pub track: u16,
    /// Playback generation; 0 towards the module.
    pub epoch: u32,
    /// Position of the first sample, in samples: on the media clock towards a module, since the epoch began from one.
    pub pts: u64,
}

impl AudioHeader {
    /// As it goes over the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; AUDIO_HEADER] {
        let mut octets = [0; AUDIO_HEADER];
        octets[0] = AUDIO_KIND;
        octets[1] = self.flags.0;
        octets[2..4].copy_from_slice(&self.track.to_le_bytes());
        octets[4..8].copy_from_slice(&self.epoch.to_le_bytes());
        octets[8..].copy_from_slice(&self.pts.to_le_bytes());
        octets
    }

    /// Splits header and sample octets.
    ///
    /// # Errors
    /// [`WireError::AudioHeader`] if `body` is too short or of another kind.
    pub fn decode(body: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let Some((&header, samples)) = body.split_first_chunk::<AUDIO_HEADER>() else {
            return Err(WireError::AudioHeader { len: body.len() });
        };
        let [AUDIO_KIND, flags, t0, t1, e0, e1, e2, e3, pts @ ..] = header else {
            return Err(WireError::AudioHeader { len: body.len() });
        };
        let header = Self {
            flags: FrameFlags(flags),
            track: u16::from_le_bytes([t0, t1]),
            epoch: u32::from_le_bytes([e0, e1, e2, e3]),
            pts: u64::from_le_bytes(pts),
        };
        Ok((header, samples))
    }
}

/// Appends `samples` as octets.
pub fn encode_samples(encoding: SampleEncoding, samples: &[i16], out: &mut Vec<u8>) {
    out.reserve(samples.len() * encoding.octets());
    match encoding {
        SampleEncoding::PcmS16le => out.extend(samples.iter().flat_map(|s| s.to_le_bytes())),
        SampleEncoding::PcmF32le => {
            out.extend(samples.iter().flat_map(|&s| (f32::from(s) / 32_768.0).to_le_bytes()));
        }
        SampleEncoding::Pcmu => out.extend(samples.iter().map(|&s| linear_to_mu(s))),
        SampleEncoding::Pcma => out.extend(samples.iter().map(|&s| linear_to_a(s))),
    }
}

/// Appends the samples in `octets`. Floats beyond full scale saturate, NaN is silence.
///
/// # Errors
/// [`WireError::Samples`] if the last sample is cut; nothing is appended then.
pub fn decode_samples(
    encoding: SampleEncoding,
    octets: &[u8],
    out: &mut Vec<i16>,
) -> Result<(), WireError> {
    if !octets.len().is_multiple_of(encoding.octets()) {
        return Err(WireError::Samples { encoding, len: octets.len() });
    }
    match encoding {
        SampleEncoding::PcmS16le => {
            out.extend(octets.chunks_exact(2).map(|o| i16::from_le_bytes([o[0], o[1]])));
        }
        SampleEncoding::PcmF32le => out.extend(
            octets
                .chunks_exact(4)
                .map(|o| from_float(f32::from_le_bytes([o[0], o[1], o[2], o[3]]))),
        ),
        SampleEncoding::Pcmu => out.extend(octets.iter().map(|&o| mu_to_linear(o))),
        SampleEncoding::Pcma => out.extend(octets.iter().map(|&o| a_to_linear(o))),
    }
    Ok(())
}

/// A float cast saturates and turns NaN into 0.
fn from_float(sample: f32) -> i16 {
    (sample * 32_768.0).round() as i16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const ENCODINGS: [SampleEncoding; 4] = [
        SampleEncoding::PcmS16le,
        SampleEncoding::PcmF32le,
        SampleEncoding::Pcmu,
        SampleEncoding::Pcma,
    ];

    fn frames(reader: &mut FrameReader) -> Result<Vec<(u16, FrameKind, Vec<u8>)>, WireError> {
        let mut found = Vec::new();
        while let Some(frame) = reader.next_frame()? {
            found.push((frame.slot, frame.kind, frame.body.to_vec()));
        }
        Ok(found)
    }

    proptest! {
        /// Times, confidences and whatever else modules measure are passed on as they are.
        #[test]
        fn numbers_mean_the_same_when_they_are_written_and_read(n in proptest::num::f64::NORMAL) {
            let mut out = Vec::new();
            write_json(0, &json!({ "n": n }), &mut out).unwrap();
            let read: Value = serde_json::from_slice(&out[STDIO_HEADER..]).unwrap();
            prop_assert_eq!(read["n"].as_f64(), Some(n));
        }
    }

    #[test]
    fn frame_layout() {
        let mut out = Vec::new();
        write_json(0x0102, &json!({"t": 1}), &mut out).unwrap();
        assert_eq!(out, b"\x07\0\0\0\0\0\x02\x01{\"t\":1}");
        out.clear();
        write_audio(3, None, SampleEncoding::PcmS16le, &[1, -2], &mut out).unwrap();
        assert_eq!(out, [4, 0, 0, 0, 1, 0, 3, 0, 1, 0, 0xFE, 0xFF]);
    }

    #[test]
    fn audio_header_layout() {
        let header = AudioHeader {
            flags: FrameFlags::DISCONTINUITY.with(FrameFlags::SPEECH),
            track: 1,
            epoch: 0x0403_0201,
            pts: 0x0807_0605_0403_0201,
        };
        let octets = header.encode();
        assert_eq!(octets, [1, 5, 1, 0, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(AudioHeader::decode(&octets), Ok((header, &[][..])));
        assert_eq!(AudioHeader::decode(&octets[..15]), Err(WireError::AudioHeader { len: 15 }));
        assert_eq!(AudioHeader::decode(&[0; 16]), Err(WireError::AudioHeader { len: 16 }));
    }

    #[test]
    fn printed_text_is_recognised() {
        let mut reader = FrameReader::new();
        reader.push(b"loading model...\n");
        let error = reader.next_frame().unwrap_err();
        assert_eq!(error, WireError::TooLong { at: 0, len: 0x6461_6F6C });
        assert!(error.to_string().contains("stdout"), "{error}");
        reader.push(b"\0\0\0\0\0\0\0\0");
        assert_eq!(reader.next_frame(), Err(error), "the place of the next frame is lost");
    }

    #[test]
    fn unknown_kind_is_an_error_where_it_stands() {
        let mut out = Vec::new();
        write_json(1, &json!({}), &mut out).unwrap();
        out.extend_from_slice(&[0, 0, 0, 0, 7, 0, 0, 0]);
        let mut reader = FrameReader::new();
        reader.push(&out);
        assert!(reader.next_frame().unwrap().is_some());
        assert_eq!(reader.next_frame(), Err(WireError::Kind { at: 10, kind: 7, reserved: 0 }));
    }

    #[test]
    fn end_of_stream_inside_a_frame() {
        let mut out = Vec::new();
        write_json(1, &json!({"a": 1}), &mut out).unwrap();
        let mut reader = FrameReader::new();
        reader.push(&out);
        reader.push(&out[..12]);
        assert_eq!(frames(&mut reader).unwrap().len(), 1);
        assert_eq!(reader.finish(), Err(WireError::Truncated { at: 15, missing: 3 }));
        reader.push(&out[12..]);
        assert_eq!(frames(&mut reader).unwrap().len(), 1);
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn too_long_leaves_the_buffer_alone() {
        let mut out = vec![9];
        let text = "x".repeat(MAX_BODY);
        assert_eq!(
            write_json(1, &text, &mut out),
            Err(WireError::TooLong { at: 0, len: MAX_BODY + 2 })
        );
        for encoding in ENCODINGS {
            let samples = vec![0; MAX_BODY / encoding.octets() + 1];
            assert!(write_audio(1, None, encoding, &samples, &mut out).is_err());
        }
        assert_eq!(out, [9]);
        for encoding in ENCODINGS {
            let samples = vec![0; max_samples(encoding)];
            let header = AudioHeader::default();
            assert_eq!(write_audio(1, Some(&header), encoding, &samples, &mut out), Ok(()));
        }
    }

    #[test]
    fn floats_saturate_and_nan_is_silence() {
        let floats = [f32::NAN, f32::INFINITY, -f32::INFINITY, 2.0, -2.0, 1.0, -1.0, 0.5, -0.0];
        let octets: Vec<u8> = floats.iter().flat_map(|f| f.to_le_bytes()).collect();
        let mut samples = Vec::new();
        decode_samples(SampleEncoding::PcmF32le, &octets, &mut samples).unwrap();
        assert_eq!(samples, [0, 32767, -32768, 32767, -32768, 32767, -32768, 16384, 0]);
    }

    #[test]
    fn cut_samples_are_refused_whole() {
        let mut samples = vec![7];
        for (encoding, len) in [(SampleEncoding::PcmS16le, 3), (SampleEncoding::PcmF32le, 6)] {
            let error = decode_samples(encoding, &vec![0; len], &mut samples);
            assert_eq!(error, Err(WireError::Samples { encoding, len }));
        }
        assert_eq!(samples, [7]);
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(
            bodies in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<i16>(), 0..90)), 0..9),
            cut in 1usize..70,
        ) {
            let mut stream = Vec::new();
            for (slot, samples) in &bodies {
                write_audio(*slot, None, SampleEncoding::PcmS16le, samples, &mut stream).unwrap();
            }
            let mut reader = FrameReader::new();
            let mut found = Vec::new();
            for piece in stream.chunks(cut) {
                reader.push(piece);
                found.extend(frames(&mut reader).unwrap());
            }
            prop_assert_eq!(reader.finish(), Ok(()));
            let mut decoded = Vec::new();
            for (slot, kind, body) in found {
                prop_assert_eq!(kind, FrameKind::Audio);
                let mut samples = Vec::new();
                decode_samples(SampleEncoding::PcmS16le, &body, &mut samples).unwrap();
                decoded.push((slot, samples));
            }
            prop_assert_eq!(decoded, bodies);
        }

        #[test]
        fn arbitrary_octets_never_panic_nor_pile_up(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..40),
            small in any::<bool>(),
        ) {
            let mut reader = FrameReader::new();
            for mut piece in pieces {
                if small && piece.len() > 5 {
                    piece[1..6].fill(0);
                }
                reader.push(&piece);
                while let Ok(Some(frame)) = reader.next_frame() {
                    let _ = AudioHeader::decode(frame.body);
                    let _ = serde_json::from_slice::<crate::FromModule>(frame.body);
                    for encoding in ENCODINGS {
                        let _ = decode_samples(encoding, frame.body, &mut Vec::new());
                    }
                }
                prop_assert!(reader.buffer.len() <= MAX_BODY + STDIO_HEADER + 64);
            }
            let _ = reader.finish();
        }

        #[test]
        fn linear_encodings_keep_every_sample(samples in prop::collection::vec(any::<i16>(), 0..400)) {
            for encoding in [SampleEncoding::PcmS16le, SampleEncoding::PcmF32le] {
                let (mut octets, mut back) = (Vec::new(), Vec::new());
                encode_samples(encoding, &samples, &mut octets);
                prop_assert_eq!(octets.len(), samples.len() * encoding.octets());
                decode_samples(encoding, &octets, &mut back).unwrap();
                prop_assert_eq!(&back, &samples);
            }
        }

        #[test]
        fn g711_codes_survive(codes in prop::collection::vec(any::<u8>(), 0..400)) {
            for encoding in [SampleEncoding::Pcmu, SampleEncoding::Pcma] {
                let (mut samples, mut octets) = (Vec::new(), Vec::new());
                decode_samples(encoding, &codes, &mut samples).unwrap();
                encode_samples(encoding, &samples, &mut octets);
                for (&code, &back) in codes.iter().zip(&octets) {
                    // mu-law has two codes for zero; all others are one to one.
                    let zero = encoding == SampleEncoding::Pcmu && code & 0x7F == 0x7F;
                    prop_assert!(code == back || zero, "{code:#x} came back as {back:#x}");
                }
            }
        }

        #[test]
        fn audio_headers_survive(flags: u8, track: u16, epoch: u32, pts: u64, tail: Vec<u8>) {
            let header = AudioHeader { flags: FrameFlags(flags), track, epoch, pts };
            let mut body = header.encode().to_vec();
            body.extend_from_slice(&tail);
            prop_assert_eq!(AudioHeader::decode(&body), Ok((header, &tail[..])));
        }
    }
}
