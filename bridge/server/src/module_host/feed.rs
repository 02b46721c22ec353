//! Sound and messages of the call as the frames a child process reads. Pure; fills the holes that raw framing cannot show.

use ringback_module::FrameFlags;
use ringback_module::message::{AcceptIn, Framing, Ready, Start};
use ringback_module::wire::{self, AudioHeader, WireError};

/// Silence is written in pieces of this many samples, so that no hole needs a buffer of its size.
const SILENCE: [i16; 4_000] = [0; 4_000];

/// Encodes what goes to one session in one process.
pub(super) struct Feed {
    slot: u16,
    input: AcceptIn,
    framing: Framing,
    /// Position of the next sample the module counts to.
    next: u64,
}

impl Feed {
    /// For a session started with `start` and accepted with `ready`; `None` if it hears nothing.
    pub(super) fn new(slot: u16, start: &Start, ready: &Ready) -> Option<Self> {
        let input = ready.accept.input?;
        let from_ms = start.resume.as_ref().map_or(0, |resume| resume.from_ms);
        let next = (u128::from(from_ms) * u128::from(input.rate) / 1_000) as u64;
        Some(Self { slot, input, framing: ready.accept.framing, next })
    }

    /// Appends frames with this sound to `out`, whole or up to the limit of one write: give what is left again, with the
    /// position returned, until nothing is.
    ///
    /// In raw framing a hole before it becomes silence and what was sent before is left out, so that octets count time.
    pub(super) fn audio(
        &mut self,
        track: u16,
        pts: u64,
        flags: FrameFlags,
        samples: &[i16],
        out: &mut Vec<u8>,
    ) -> Result<Fed, WireError> {
        let (slot, encoding) = (self.slot, self.input.encoding);
        if self.framing == Framing::Hdr16 {
            let header = AudioHeader { flags, track, epoch: 0, pts };
            wire::write_audio(slot, Some(&header), encoding, samples, out)?;
            return Ok(Fed::All);
        }
        let hole = pts.saturating_sub(self.next);
        if hole > 0 {
            let len = hole.min(SILENCE.len() as u64);
            wire::write_audio(slot, None, encoding, &SILENCE[..len as usize], out)?;
            self.next += len;
            return Ok(Fed::Again);
        }
        let known = (self.next - pts).min(samples.len() as u64);
        let samples = &samples[known as usize..];
        if !samples.is_empty() {
            wire::write_audio(slot, None, encoding, samples, out)?;
            self.next += samples.len() as u64;
        }
        Ok(Fed::All)
    }
}

/// How far [`Feed::audio`] came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fed {
    /// To the end.
    All,
    /// Only through a piece of silence before it; write that and call again.
    Again,
}

#[cfg(test)]
mod tests {
    use ringback_module::message::{Accept, Resume, SampleEncoding};
    use ringback_module::wire::FrameReader;
    use serde_json::json;

    use super::*;

    fn feed(framing: Framing, from_ms: Option<u64>) -> Feed {
        let mut start: Start = serde_json::from_value(json!({
            "v": 1, "session": "s", "call": {"id": "c", "provider": "p"},
            "offer": {"tracks": [], "in": []},
        }))
        .unwrap();
        start.resume = from_ms.map(|from_ms| Resume { from_ms, ..Resume::default() });
        let input =
            Some(AcceptIn { encoding: SampleEncoding::PcmS16le, rate: 8_000, frame_ms: 20 });
        let accept = Accept { input, framing, ..Accept::default() };
        Feed::new(1, &start, &Ready { accept, ..Ready::default() }).unwrap()
    }

    /// Samples as a module in raw framing counts them.
    fn raw(feed: &mut Feed, pts: u64, samples: &[i16]) -> Vec<i16> {
        let (mut octets, mut heard) = (Vec::new(), Vec::new());
        while feed.audio(0, pts, FrameFlags::default(), samples, &mut octets).unwrap() == Fed::Again
        {
        }
        let mut frames = FrameReader::new();
        frames.push(&octets);
        while let Some(frame) = frames.next_frame().unwrap() {
            assert_eq!(frame.slot, 1);
            wire::decode_samples(SampleEncoding::PcmS16le, frame.body, &mut heard).unwrap();
        }
        heard
    }

    #[test]
    fn raw_octets_count_time() {
        let mut feed = feed(Framing::Raw, None);
        assert_eq!(raw(&mut feed, 2, &[1, 2]), [0, 0, 1, 2]);
        assert_eq!(raw(&mut feed, 4, &[3]), [3]);
        assert_eq!(raw(&mut feed, 3, &[2, 3, 4]), [4], "what was sent is not sent again");
        assert!(raw(&mut feed, 0, &[1]).is_empty(), "nothing of it is new");
        let heard = raw(&mut feed, 10_006, &[5]);
        assert_eq!((heard.len(), heard.last()), (10_001, Some(&5)));
    }

    #[test]
    fn raw_goes_on_where_the_resume_says() {
        let mut feed = feed(Framing::Raw, Some(1_000));
        assert_eq!(raw(&mut feed, 7_999, &[1, 2, 3]), [2, 3]);
    }

    #[test]
    fn headers_say_it_all() {
        let mut feed = feed(Framing::Hdr16, None);
        let mut octets = Vec::new();
        let fed = feed.audio(1, 77, FrameFlags::DISCONTINUITY, &[1], &mut octets);
        assert_eq!(fed, Ok(Fed::All));
        let (header, samples) = AudioHeader::decode(&octets[wire::STDIO_HEADER..]).unwrap();
        assert_eq!((header.track, header.pts, samples), (1, 77, &[1, 0][..]));
        assert!(header.flags.contains(FrameFlags::DISCONTINUITY));
    }
}
