//! The 44 octets in front of the sound of a recording: two channels of 16-bit PCM. Writes no sound and opens no file.

/// Octets of the header.
pub(crate) const HEADER: u64 = 44;
/// Channels of a recording.
pub(crate) const CHANNELS: usize = 2;
/// Octets of a frame: a sample of each channel.
pub(crate) const FRAME: u64 = 2 * CHANNELS as u64;
/// A WAV file counts its octets in 32 bits; this many frames leave room for the header.
pub(crate) const MAX_FRAMES: u64 = (u32::MAX as u64 - 1_024) / FRAME;

/// Where frame `frame` of the sound begins.
pub(crate) const fn offset(frame: u64) -> u64 {
    HEADER + frame * FRAME
}

/// Frames whose octets are all in a file of that length.
pub(crate) const fn frames_in(octets: u64) -> u64 {
    octets.saturating_sub(HEADER) / FRAME
}

/// The header of a file with so many frames, at most [`MAX_FRAMES`].
pub(crate) fn header(rate: u32, frames: u64) -> [u8; HEADER as usize] {
    // Fits: MAX_FRAMES keeps it under 4 GiB.
    let octets = (frames * FRAME) as u32;
    let mut header = [0; HEADER as usize];
    let mut at = 0;
    let mut put = |field: &[u8]| {
        header[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    };
    put(b"RIFF");
    put(&(octets + HEADER as u32 - 8).to_le_bytes());
    put(b"WAVEfmt ");
    put(&16_u32.to_le_bytes());
    put(&1_u16.to_le_bytes());
    put(&(CHANNELS as u16).to_le_bytes());
    put(&rate.to_le_bytes());
    put(&(rate * FRAME as u32).to_le_bytes());
    put(&(FRAME as u16).to_le_bytes());
    put(&16_u16.to_le_bytes());
    put(b"data");
    put(&octets.to_le_bytes());
    header
}

/// The rate of the recording that begins with `header`, if it is one of ours; how much sound it claims is not looked at.
pub(crate) fn rate_of(found: &[u8; HEADER as usize]) -> Option<u32> {
    let rate = u32::from_le_bytes([found[24], found[25], found[26], found[27]]);
    let mut ours = header(rate.min(u32::MAX / FRAME as u32), 0);
    for size in [4..8, 40..44] {
        ours[size.clone()].copy_from_slice(&found[size]);
    }
    (ours == *found).then_some(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_programs_read_the_header() {
        for (rate, frames) in [(8_000, 0), (48_000, 3), (16_000, MAX_FRAMES)] {
            let mut file = header(rate, frames).to_vec();
            file.resize(HEADER as usize + 12, 7);
            let wav = hound::WavReader::new(file.as_slice()).unwrap();
            let spec = wav.spec();
            assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, rate, 16));
            assert_eq!(u64::from(wav.duration()), frames);
            assert_eq!(rate_of(&header(rate, frames)), Some(rate));
        }
        let mut other = header(8_000, 9);
        other[22] = 1;
        assert_eq!(rate_of(&other), None, "one channel");
        assert_eq!(rate_of(&[0xFF; 44]), None);
    }
}
