//! WAV in every form that is read, against files made octet by octet or by `hound`; hostile headers; the writer.

#![cfg(feature = "wav")]
#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

use std::io::{self, Cursor, Read};

use proptest::prelude::*;
use ringback_codecs::SampleRate;
use ringback_codecs::g711::{a_to_linear, mu_to_linear};
use ringback_codecs::wav::{Reader, Wav, WavError, Writer, read};

/// A file of one `fmt ` and one `data` chunk.
fn file(tag: u16, channels: u16, hz: u32, bits: u16, data: &[u8]) -> Vec<u8> {
    let align = channels * bits / 8;
    let mut fmt = Vec::new();
    fmt.extend(tag.to_le_bytes());
    fmt.extend(channels.to_le_bytes());
    fmt.extend(hz.to_le_bytes());
    fmt.extend((hz * u32::from(align)).to_le_bytes());
    fmt.extend(align.to_le_bytes());
    fmt.extend(bits.to_le_bytes());
    riff(&[(b"fmt ", &fmt), (b"data", data)])
}

fn riff(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVE".to_vec();
    for (id, data) in chunks {
        file.extend(*id);
        file.extend((data.len() as u32).to_le_bytes());
        file.extend(*data);
        file.extend(vec![0; data.len() % 2]);
    }
    file
}

fn samples(file: &[u8]) -> Vec<i16> {
    read(file).unwrap().samples
}

#[test]
fn every_layout_reads_to_the_same_scale() {
    assert_eq!(samples(&file(1, 1, 8_000, 8, &[0, 128, 255])), [-32_768, 0, 32_512]);
    assert_eq!(samples(&file(1, 1, 8_000, 16, &[0xFF, 0x7F, 0, 0x80])), [32_767, -32_768]);
    let bits24 = [0xFF, 0xFF, 0x7F, 0, 0, 0x80, 0x80, 1, 0, 0x7F, 1, 0];
    assert_eq!(samples(&file(1, 1, 8_000, 24, &bits24)), [32_767, -32_768, 2, 1]);
    let bits32: Vec<u8> =
        [i32::MAX, i32::MIN, 0x18000, 0x17FFF].iter().flat_map(|s| s.to_le_bytes()).collect();
    assert_eq!(samples(&file(1, 1, 8_000, 32, &bits32)), [32_767, -32_768, 2, 1]);
    let floats = [1.0, -1.0, 0.5, 7.0, -7.0, f32::NAN, f32::INFINITY];
    let floats: Vec<u8> = floats.iter().flat_map(|s: &f32| s.to_le_bytes()).collect();
    let expected = [32_767, -32_768, 16_384, 32_767, -32_768, 0, 32_767];
    assert_eq!(samples(&file(3, 1, 8_000, 32, &floats)), expected);
    let codes: Vec<u8> = (0..=255).collect();
    assert_eq!(
        samples(&file(6, 1, 8_000, 8, &codes)),
        codes.iter().map(|&c| a_to_linear(c)).collect::<Vec<_>>()
    );
    assert_eq!(
        samples(&file(7, 1, 8_000, 8, &codes)),
        codes.iter().map(|&c| mu_to_linear(c)).collect::<Vec<_>>()
    );
}

#[test]
fn rate_and_channels_are_told() {
    let wav = read(&file(1, 2, 44_100, 16, &[1, 0, 2, 0, 3, 0, 4, 0])[..]).unwrap();
    let rate = SampleRate::new(44_100).unwrap();
    assert_eq!(wav, Wav { rate, channels: 2, samples: vec![1, 2, 3, 4] });
}

#[test]
fn other_chunks_and_longer_headers_are_passed_over() {
    let mut fmt = file(7, 1, 8_000, 8, &[])[20..36].to_vec();
    // A mu-law header carries the size of an extension, here with one of an odd length.
    fmt.extend([1, 0, 9]);
    let chunks: &[(&[u8; 4], &[u8])] = &[
        (b"LIST", b"odd"),
        (b"fmt ", &fmt),
        (b"fact", &[2, 0, 0, 0]),
        (b"data", &[0xFF, 0x80]),
        (b"LIST", b"after"),
    ];
    assert_eq!(samples(&riff(chunks)), [0, 32_124]);
}

#[test]
fn extensible_headers_are_read_by_their_inner_tag() {
    let mut fmt = file(0xFFFE, 1, 16_000, 16, &[])[20..36].to_vec();
    fmt.extend([
        22, 0, 16, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71,
    ]);
    assert_eq!(samples(&riff(&[(b"fmt ", &fmt), (b"data", &[5, 0])])), [5]);
}

#[test]
fn files_by_another_writer_are_read() {
    for (bits, sample_format) in [
        (8, hound::SampleFormat::Int),
        (16, hound::SampleFormat::Int),
        (24, hound::SampleFormat::Int),
        (32, hound::SampleFormat::Int),
        (32, hound::SampleFormat::Float),
    ] {
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: 48_000,
            bits_per_sample: bits,
            sample_format,
        };
        let mut file = Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
        let levels = [0_i32, 1, -1, 64, -128, 127];
        for level in levels {
            match sample_format {
                hound::SampleFormat::Float => writer.write_sample(level as f32 / 128.0).unwrap(),
                hound::SampleFormat::Int => writer.write_sample(level << (bits - 8)).unwrap(),
            }
        }
        writer.finalize().unwrap();
        let expected: Vec<i16> = levels.iter().map(|level| (level << 8) as i16).collect();
        assert_eq!(samples(file.get_ref()), expected, "{bits} {sample_format:?}");
    }
}

#[test]
fn what_is_not_read_is_named() {
    let found = |file: &[u8]| match read(file) {
        Err(error @ WavError::Unsupported { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    for (file, named) in [
        (file(2, 1, 8_000, 4, &[]), "format tag 0x0002 and 4 bits"),
        (file(1, 1, 8_000, 12, &[]), "12 bits"),
        (file(1, 6, 8_000, 16, &[]), "6 channels"),
        (file(1, 0, 8_000, 16, &[]), "0 channels"),
        (file(1, 1, 500, 16, &[]), "500 Hz"),
    ] {
        let text = found(&file);
        assert!(text.contains(named) && text.contains("what works is PCM"), "{text}");
    }
    let mut padded = file(1, 1, 8_000, 24, &[]);
    padded[32] = 4;
    assert!(found(&padded).contains("sample groups of 4 octets"));
}

#[test]
fn what_is_no_wav_is_told_from_what_is_cut_short() {
    for other in
        [&b""[..], b"RIFF", b"ID3\x03 some mp3 file", b"RIFX\0\0\0\0WAVE", b"RIFF\0\0\0\0AVI fmt "]
    {
        assert!(matches!(read(other), Err(WavError::NotWav { .. })), "{other:?}");
    }
    let whole = file(1, 1, 8_000, 16, &[1, 0]);
    for cut in 12..44 {
        assert!(matches!(read(&whole[..cut]), Err(WavError::Incomplete { .. })), "{cut}");
    }
    let early = riff(&[(b"data", &[1, 0])]);
    assert!(
        matches!(read(&early[..]), Err(WavError::Incomplete { missing }) if missing.contains("fmt"))
    );
}

#[test]
fn sound_ends_with_the_file_whatever_the_header_claims() {
    for claim in [3_u32, 5, 1_000, u32::MAX] {
        let mut file = file(1, 1, 8_000, 16, &[1, 0, 2, 0, 3]);
        file.truncate(49);
        file[40..44].copy_from_slice(&claim.to_le_bytes());
        let wav = read(&file[..]).unwrap();
        let expected: &[i16] = if claim == 3 { &[1] } else { &[1, 2] };
        assert_eq!(wav.samples, expected, "{claim}");
        assert!(wav.samples.capacity() < 10_000, "takes memory for what is there");
    }
}

#[test]
fn reader_gives_pieces() {
    let data: Vec<u8> = (0..20_000_i16).flat_map(i16::to_le_bytes).collect();
    let file = file(1, 2, 8_000, 16, &data);
    let mut reader = Reader::new(&file[..]).unwrap();
    assert_eq!((reader.rate(), reader.channels()), (SampleRate::HZ_8000, 2));
    let mut pcm = Vec::new();
    let mut counts = Vec::new();
    loop {
        let count = reader.read(4_500, &mut pcm).unwrap();
        counts.push(count);
        if count == 0 {
            break;
        }
    }
    assert_eq!(counts, [4_500, 4_500, 1_000, 0]);
    assert_eq!(pcm, (0..20_000).collect::<Vec<_>>());
}

/// Gives one octet a call and is interrupted before each.
struct Reluctant<'a>(&'a [u8], bool);

impl Read for Reluctant<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = buffer.len().min(1);
        self.0.read(&mut buffer[..len])
    }
}

#[test]
fn reluctant_and_failing_sources() {
    let file = file(1, 1, 8_000, 16, &[1, 0, 2, 0]);
    assert_eq!(read(Reluctant(&file, false)).unwrap().samples, [1, 2]);
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("unplugged"))
        }
    }
    let error = read(file[..30].chain(Failing)).unwrap_err();
    assert!(matches!(&error, WavError::Io(_)) && error.to_string().contains("unplugged"));
}

#[test]
fn written_files_read_back() {
    for channels in [1, 2] {
        let pcm: Vec<i16> = (0..40_000).map(|i| (i * 7 % 65_536 - 32_768) as i16).collect();
        let mut sink = Cursor::new(Vec::new());
        let mut writer = Writer::new(&mut sink, SampleRate::HZ_16000, channels).unwrap();
        writer.write(&pcm[..30]).unwrap();
        writer.flush().unwrap();
        writer.write(&[]).unwrap();
        writer.write(&pcm[30..]).unwrap();
        writer.finish().unwrap();
        let expected = Wav { rate: SampleRate::HZ_16000, channels, samples: pcm.clone() };
        assert_eq!(read(&sink.get_ref()[..]).unwrap(), expected);
        let other = hound::WavReader::new(&sink.get_ref()[..]).unwrap();
        assert_eq!(other.into_samples::<i16>().map(Result::unwrap).collect::<Vec<_>>(), pcm);
    }
}

#[test]
fn a_flushed_file_is_good_even_if_never_finished() {
    let mut sink = Cursor::new(Vec::new());
    let mut writer = Writer::new(&mut sink, SampleRate::HZ_8000, 1).unwrap();
    writer.write(&[1, 2, 3]).unwrap();
    writer.flush().unwrap();
    std::mem::forget(writer);
    assert_eq!(samples(sink.get_ref()), [1, 2, 3]);
}

#[test]
fn writer_refuses_what_it_cannot_hold() {
    let mut sink = Cursor::new(Vec::new());
    let unsupported = Writer::new(&mut sink, SampleRate::HZ_8000, 3).err();
    assert!(matches!(unsupported, Some(WavError::Unsupported { .. })));
    let mut writer = Writer::new(&mut sink, SampleRate::HZ_8000, 2).unwrap();
    let odd = writer.write(&[1, 2, 3]);
    assert!(matches!(odd, Err(WavError::Length { got: 3, channels: 2 })));
    writer.write(&[4, 5]).unwrap();
    writer.finish().unwrap();
    assert_eq!(samples(sink.get_ref()), [4, 5]);
}

proptest! {
    #[test]
    fn arbitrary_octets_never_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&octets[..]);
        let mut file = file(1, 1, 8_000, 16, &[1, 2, 3, 4]);
        for (at, octet) in octets.iter().enumerate().filter(|(at, _)| at % 9 == 0) {
            let at = (at * 31 + usize::from(*octet)) % file.len();
            file[at] = *octet;
        }
        if let Ok(wav) = read(&file[..]) {
            prop_assert!(wav.samples.len() <= file.len());
        }
    }

    #[test]
    fn pcm_survives(pcm in prop::collection::vec(any::<i16>(), 0..500)) {
        let mut sink = Cursor::new(Vec::new());
        let mut writer = Writer::new(&mut sink, SampleRate::HZ_8000, 1).unwrap();
        writer.write(&pcm).unwrap();
        writer.finish().unwrap();
        prop_assert_eq!(samples(sink.get_ref()), pcm);
    }
}
