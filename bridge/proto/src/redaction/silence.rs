//! Sound of which nothing is left but its length. Hears nothing.

use ringback_codecs::{Encoding, MediaFormat};

/// As many octets as `payload` that are silence in `format`.
pub(super) fn of(format: MediaFormat, payload: &[u8]) -> Vec<u8> {
    match format.encoding {
        Encoding::Pcmu => vec![0xff; payload.len()],
        Encoding::Pcma => vec![0xd5; payload.len()],
        Encoding::G722 => g722(format, payload.len()),
        Encoding::Opus => opus(payload),
        _ => vec![0; payload.len()],
    }
}

fn g722(format: MediaFormat, octets: usize) -> Vec<u8> {
    let mut silence = Vec::with_capacity(octets);
    if let Ok(mut encoder) = format.encoder() {
        // Of the silence that it cannot encode there is none; zeros are quiet enough.
        let _ = encoder.encode(&vec![0; octets * 2], &mut silence);
    }
    silence.resize(octets, 0);
    silence
}

/// A packet (RFC 6716, 3.1) of the same kind of frame, but of one, and of zeros: the rest of a packet is what was said.
fn opus(packet: &[u8]) -> Vec<u8> {
    const FRAMES: u8 = 0b11;
    let mut silence = vec![0; packet.len()];
    if let (Some(first), Some(toc)) = (silence.first_mut(), packet.first()) {
        *first = toc & !FRAMES;
    }
    silence
}

#[cfg(test)]
mod tests {
    use ringback_codecs::{Endian, SampleRate};

    use super::*;

    #[test]
    fn silence_is_as_long_as_what_it_stands_for_and_decodes_to_nothing() {
        let encodings =
            [Encoding::Pcmu, Encoding::Pcma, Encoding::L16(Endian::Big), Encoding::G722];
        for encoding in encodings {
            let rate =
                if encoding == Encoding::G722 { SampleRate::HZ_16000 } else { SampleRate::HZ_8000 };
            let format = MediaFormat::mono(encoding, rate);
            let silence = of(format, &[0x5a; 320]);
            assert_eq!(silence.len(), 320, "{encoding}");
            let mut samples = Vec::new();
            format.decoder().unwrap().decode(&silence, &mut samples).unwrap();
            assert!(samples.iter().all(|sample| sample.abs() < 64), "{encoding}: {samples:?}");
            assert_eq!(of(format, &[]), [0; 0], "{encoding}");
        }
    }

    #[test]
    fn a_packet_of_opus_keeps_the_kind_of_its_frame_and_nothing_else() {
        let format = MediaFormat::mono(Encoding::Opus, SampleRate::HZ_48000);
        assert_eq!(of(format, &[0x7b, 1, 2, 3]), [0x78, 0, 0, 0]);
        assert_eq!(of(format, &[]), [0; 0]);
    }
}
