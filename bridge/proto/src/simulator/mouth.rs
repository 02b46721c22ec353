//! What a person on the phone says: sound cut into frames, usually of 20 ms, and encoded, one every 20 ms whatever happens. Speaks no wire.

use std::collections::VecDeque;
use std::time::Duration;

use ringback_codecs::{EncodeError, Encoder, MediaFormat, UnsupportedFormat};

use crate::Instant;
use crate::provider::Track;

/// Length of a message, if nothing else is wanted.
const FRAME: Duration = Duration::from_millis(20);

/// The voice on one track, silence when it has nothing to say.
pub(super) struct Mouth {
    /// Whose voice.
    pub(super) track: Track,
    format: MediaFormat,
    encoder: Box<dyn Encoder>,
    since: Instant,
    /// Length of a frame.
    frame_time: Duration,
    /// Frames sent.
    frames: u32,
    waiting: VecDeque<i16>,
    frame: Vec<i16>,
    payload: Vec<u8>,
}

impl Mouth {
    /// A voice that begins at `since`, in frames of another length where one is wanted and the codec has none of its own.
    pub(super) fn new(
        track: Track,
        format: MediaFormat,
        since: Instant,
        wanted: Option<Duration>,
    ) -> Result<Self, UnsupportedFormat> {
        let encoder = format.encoder()?;
        let free = encoder.frame_samples().is_none();
        Ok(Self {
            track,
            format,
            encoder,
            since,
            frame_time: wanted.filter(|_| free).unwrap_or(FRAME),
            frames: 0,
            waiting: VecDeque::new(),
            frame: Vec::new(),
            payload: Vec::new(),
        })
    }

    /// Says this after what is being said.
    pub(super) fn say(&mut self, samples: impl IntoIterator<Item = i16>) {
        self.waiting.extend(samples);
    }

    /// Forgets up to `samples` of the oldest that are not said yet; gives how many.
    pub(super) fn skip(&mut self, samples: usize) -> usize {
        self.waiting.drain(..samples.min(self.waiting.len())).len()
    }

    /// Samples not said yet.
    pub(super) fn unsaid(&self) -> usize {
        self.waiting.len()
    }

    /// When the next frame has been said.
    pub(super) fn next(&self) -> Instant {
        self.since + self.frame_time * (self.frames + 1)
    }

    /// When the frame with the last sample before `into` has been said.
    pub(super) fn sent_at(&self, into: Duration) -> Instant {
        let frames = into.as_nanos().div_ceil(self.frame_time.as_nanos());
        self.since + self.frame_time.saturating_mul(u32::try_from(frames).unwrap_or(u32::MAX))
    }

    /// The payload of the next frame if it has been said by `now`.
    pub(super) fn frame(&mut self, now: Instant) -> Result<Option<&[u8]>, EncodeError> {
        if self.next() > now {
            return Ok(None);
        }
        // Rates that do not divide into frames (11,025 Hz) make frames of unequal length.
        let samples = |frames| self.format.rate.samples_in(self.frame_time * frames);
        let len = (samples(self.frames + 1) - samples(self.frames)) as usize;
        self.frames += 1;
        self.frame.clear();
        self.frame.extend(self.waiting.drain(..len.min(self.waiting.len())));
        self.frame.resize(len, 0);
        self.payload.clear();
        self.encoder.encode(&self.frame, &mut self.payload)?;
        Ok(Some(&self.payload))
    }
}

#[cfg(test)]
mod tests {
    use ringback_codecs::{Encoding, Endian, SampleRate};

    use super::*;

    #[test]
    fn frames_come_on_time_and_hold_all_that_was_said() {
        let rate = SampleRate::new(11_025).unwrap();
        let format = MediaFormat::mono(Encoding::L16(Endian::Little), rate);
        let start = Instant::from_millis(5);
        let mut mouth = Mouth::new(Track::Inbound, format, start, None).unwrap();
        mouth.say([1; 300]);
        assert_eq!(mouth.next(), Instant::from_millis(25));
        assert_eq!(mouth.frame(Instant::from_millis(24)), Ok(None));
        let now = Instant::from_millis(1005);
        let mut lengths = Vec::new();
        let mut said = Vec::new();
        while let Some(payload) = mouth.frame(now).unwrap() {
            lengths.push(payload.len() / 2);
            said.extend_from_slice(payload);
        }
        assert_eq!((lengths.len(), lengths.iter().sum::<usize>()), (50, 11_025));
        assert!(lengths.iter().all(|len| [220, 221].contains(len)), "{lengths:?}");
        let expected = [1i16.to_le_bytes().repeat(300), vec![0; 2 * (11_025 - 300)]].concat();
        assert_eq!(said, expected);
        assert_eq!(mouth.unsaid(), 0);
    }

    #[test]
    fn a_sample_is_sent_at_the_end_of_its_frame() {
        let format = MediaFormat::mono(Encoding::Pcmu, SampleRate::new(8_000).unwrap());
        let mouth = Mouth::new(Track::Inbound, format, Instant::from_millis(5), None).unwrap();
        for (into, sent) in [(0, 5), (1, 25), (20, 25), (21, 45), (1_000, 1_005)] {
            assert_eq!(mouth.sent_at(Duration::from_millis(into)), Instant::from_millis(sent));
        }
        assert!(mouth.sent_at(Duration::MAX) > Instant::from_millis(u64::from(u32::MAX)));
    }

    #[test]
    fn what_is_skipped_is_the_oldest() {
        let format = MediaFormat::mono(Encoding::L16(Endian::Little), SampleRate::HZ_8000);
        let mut mouth = Mouth::new(Track::Inbound, format, Instant::ZERO, None).unwrap();
        mouth.say(0..200);
        assert_eq!((mouth.skip(40), mouth.unsaid()), (40, 160));
        let payload = mouth.frame(Instant::from_millis(20)).unwrap().unwrap();
        assert_eq!(payload[..2], 40i16.to_le_bytes());
        assert_eq!(mouth.skip(1), 0);
    }
}
