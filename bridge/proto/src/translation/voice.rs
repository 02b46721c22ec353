//! The caller's sound on its way to a bot: cut into the provider's frames and encoded, each as soon as it is whole. Speaks no wire.

use std::collections::VecDeque;
use std::time::Duration;

use ringback_codecs::{EncodeError, Encoder, MediaFormat, UnsupportedFormat};

use crate::Instant;

/// Length of a message, where the codec has no frames of its own.
const FRAME: Duration = Duration::from_millis(20);
/// A backlog, such as what was said before the bot was there, is told at most this much faster than it was said.
const HASTE: u32 = 2;
/// A hole longer than this is not told whole, as silence.
const LONGEST_HOLE: Duration = Duration::from_secs(10);

/// The caller's voice.
pub(super) struct Voice {
    encoder: Box<dyn Encoder>,
    /// Samples of a message.
    frame: usize,
    /// Between two messages at least.
    spacing: Duration,
    longest_hole: u64,
    waiting: VecDeque<i16>,
    /// Position of the next sample, once there was one.
    next: Option<u64>,
    sent: Option<Instant>,
    pcm: Vec<i16>,
    payload: Vec<u8>,
}

impl Voice {
    /// A voice that a bot hears in this format.
    pub(super) fn new(format: MediaFormat) -> Result<Self, UnsupportedFormat> {
        let encoder = format.encoder()?;
        let usual = usize::try_from(format.rate.samples_in(FRAME)).unwrap_or(1);
        let frame = encoder.frame_samples().map_or(usual, std::num::NonZeroUsize::get);
        Ok(Self {
            encoder,
            frame,
            spacing: format.rate.duration_of(frame as u64) / HASTE,
            longest_hole: format.rate.samples_in(LONGEST_HOLE),
            waiting: VecDeque::new(),
            next: None,
            sent: None,
            pcm: Vec::new(),
            payload: Vec::new(),
        })
    }

    /// Takes sound whose first sample is at `position`. What is missing before it becomes silence, as a telephone has it, and what was
    /// there before is left out.
    pub(super) fn hear(&mut self, position: u64, samples: &[i16]) {
        let next = *self.next.get_or_insert(position);
        let hole = position.saturating_sub(next).min(self.longest_hole);
        self.waiting.extend(std::iter::repeat_n(0, usize::try_from(hole).unwrap_or(0)));
        let known = next.saturating_sub(position).min(samples.len() as u64);
        self.waiting.extend(&samples[known as usize..]);
        self.next = Some(next.max(position + samples.len() as u64));
    }

    /// When the next message is due, if there is enough for one.
    pub(super) fn due(&self) -> Option<Instant> {
        let whole = self.waiting.len() >= self.frame;
        whole.then(|| self.sent.map_or(Instant::ZERO, |sent| sent + self.spacing))
    }

    /// The payload of the next message, if it is due.
    pub(super) fn frame(&mut self, now: Instant) -> Result<Option<&[u8]>, EncodeError> {
        if self.due().is_none_or(|due| due > now) {
            return Ok(None);
        }
        self.sent = Some(now);
        self.pcm.clear();
        self.pcm.extend(self.waiting.drain(..self.frame));
        self.payload.clear();
        self.encoder.encode(&self.pcm, &mut self.payload)?;
        Ok(Some(&self.payload))
    }
}

#[cfg(test)]
mod tests {
    use ringback_codecs::{Encoding, Endian, SampleRate};

    use super::*;

    fn voice() -> Voice {
        let format = MediaFormat::mono(Encoding::L16(Endian::Little), SampleRate::HZ_8000);
        Voice::new(format).expect("a codec")
    }

    /// All that is told by `until`, and when.
    fn told(voice: &mut Voice, until: u64) -> (Vec<u64>, Vec<i16>) {
        let (mut times, mut samples) = (Vec::new(), Vec::new());
        for ms in 0..=until {
            while let Some(payload) = voice.frame(Instant::from_millis(ms)).expect("encodes") {
                times.push(ms);
                let (pairs, _) = payload.as_chunks::<2>();
                samples.extend(pairs.iter().map(|pair| i16::from_le_bytes(*pair)));
            }
        }
        (times, samples)
    }

    #[test]
    fn a_backlog_is_told_at_twice_the_pace_and_in_whole_frames() {
        let mut voice = voice();
        let said: Vec<i16> = (1..=700).collect();
        voice.hear(4_000, &said);
        assert_eq!(told(&mut voice, 100), (vec![0, 10, 20, 30], said[..640].to_vec()));
        voice.hear(4_700, &[7; 100]);
        assert_eq!(told(&mut voice, 100).0, [40], "the rest of a frame is waited for");
    }

    #[test]
    fn holes_are_silence_and_what_comes_again_is_left_out() {
        let mut voice = voice();
        voice.hear(0, &[1; 160]);
        voice.hear(320, &[2; 160]);
        voice.hear(240, &[9; 240]);
        let expected = [vec![1; 160], vec![0; 160], vec![2; 160]].concat();
        assert_eq!(told(&mut voice, 1_000).1, expected);
        voice.hear(80_480_000, &[3; 160]);
        assert_eq!(told(&mut voice, 20_000).1.len(), 80_160, "no hole is longer than it need be");
    }
}
