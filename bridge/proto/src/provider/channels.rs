//! Interleaved channels of one wire message to tracks and back, and samples that messages cut in two. Octets only, decodes nothing.

use ringback_codecs::{Encoding, MediaFormat};

use super::{Media, Outbox, Span, Track};

/// Tracks of channels, in order.
const TRACKS: [Track; 2] = [Track::Inbound, Track::Outbound];

/// Octets of one sample, where an encoding writes each on its own.
pub(super) const fn sample_octets(encoding: Encoding) -> Option<usize> {
    match encoding {
        Encoding::Pcmu | Encoding::Pcma => Some(1),
        Encoding::L16(_) => Some(2),
        _ => None,
    }
}

/// Cuts what arrives into whole samples, and those into one track per channel.
#[derive(Debug)]
pub(super) struct Splitter {
    /// Octets of a sample; nothing where messages are not made of samples and pass as they are.
    sample: Option<usize>,
    channels: usize,
    /// Whose voice a single channel carries.
    first: Track,
    /// What came and is not handed on yet; between messages less than one sample of every channel.
    rest: Vec<u8>,
}

impl Splitter {
    /// For messages of this format, of one or two channels.
    pub(super) fn new(wire: MediaFormat) -> Self {
        let channels = usize::from(wire.channels).clamp(1, TRACKS.len());
        let first = Track::Inbound;
        Self { sample: sample_octets(wire.encoding), channels, first, rest: Vec::new() }
    }

    /// The same where a single channel carries this track.
    pub(super) fn beginning(self, first: Track) -> Self {
        Self { first, ..self }
    }

    /// Gives the sound of every track to `take`, in order of channels; nothing while there is no whole sample.
    pub(super) fn split(
        &mut self,
        octets: &[u8],
        out: &mut Outbox,
        mut take: impl FnMut(Media, &mut Outbox),
    ) {
        let mut give = |track, payload, out: &mut Outbox| {
            take(Media { track, payload, sequence: None, timestamp: None }, out);
        };
        let sample = self.sample.unwrap_or(1);
        let whole = sample * self.channels;
        if self.sample.is_none()
            || (self.channels == 1 && self.rest.is_empty() && octets.len().is_multiple_of(whole))
        {
            let payload = out.store(|arena| arena.extend_from_slice(octets));
            return give(self.first, payload, out);
        }
        self.rest.extend_from_slice(octets);
        let len = self.rest.len() / whole * whole;
        if len > 0 {
            let tracks = if self.channels == 1 { [self.first; 2] } else { TRACKS };
            for (channel, track) in tracks.into_iter().take(self.channels).enumerate() {
                let payload = channel_of(&self.rest[..len], whole, channel * sample, sample, out);
                give(track, payload, out);
            }
        }
        self.rest.drain(..len);
    }
}

fn channel_of(octets: &[u8], whole: usize, at: usize, sample: usize, out: &mut Outbox) -> Span {
    out.store(|arena| {
        for samples in octets.chunks_exact(whole) {
            arena.extend_from_slice(&samples[at..at + sample]);
        }
    })
}

/// Joins two tracks into interleaved messages, as far as both have come.
#[derive(Debug)]
pub(super) struct Joiner {
    sample: usize,
    waiting: [Vec<u8>; 2],
}

impl Joiner {
    /// For samples of `sample` octets.
    pub(super) const fn new(sample: usize) -> Self {
        Self { sample, waiting: [Vec::new(), Vec::new()] }
    }

    /// Adds sound of a track and sends what can be joined. The track that is ahead waits, up to 64 KiB.
    pub(super) fn join(&mut self, track: Track, octets: &[u8], out: &mut Outbox) {
        const MOST: usize = 64 * 1024;
        let waiting = &mut self.waiting[usize::from(track == Track::Outbound)];
        let room = MOST.saturating_sub(waiting.len());
        waiting.extend_from_slice(&octets[..octets.len().min(room)]);
        let len = self.waiting.iter().map(Vec::len).min().unwrap_or(0) / self.sample * self.sample;
        if len == 0 {
            return;
        }
        let [left, right] = &mut self.waiting;
        out.binary(|arena| {
            let pairs = left[..len].chunks(self.sample).zip(right[..len].chunks(self.sample));
            for (left, right) in pairs {
                arena.extend_from_slice(left);
                arena.extend_from_slice(right);
            }
        });
        left.drain(..len);
        right.drain(..len);
    }
}

#[cfg(test)]
mod tests {
    use ringback_codecs::{Endian, SampleRate};

    use super::*;
    use crate::provider::Send;

    fn linear(channels: u8) -> MediaFormat {
        let encoding = Encoding::L16(Endian::Little);
        MediaFormat { encoding, rate: SampleRate::HZ_8000, channels }
    }

    fn split(splitter: &mut Splitter, octets: &[u8]) -> Vec<(Track, Vec<u8>)> {
        let mut out = Outbox::new();
        let mut found = Vec::new();
        splitter.split(octets, &mut out, |media, out| {
            found.push((media.track, out.octets(&media.payload).to_vec()));
        });
        found
    }

    #[test]
    fn samples_cut_in_two_are_put_together() {
        let mut splitter = Splitter::new(linear(1));
        assert_eq!(split(&mut splitter, &[1]), []);
        assert_eq!(split(&mut splitter, &[2, 3]), [(Track::Inbound, vec![1, 2])]);
        assert_eq!(split(&mut splitter, &[4, 5, 6]), [(Track::Inbound, vec![3, 4, 5, 6])]);
        assert_eq!(split(&mut splitter, &[7, 8]), [(Track::Inbound, vec![7, 8])]);
    }

    #[test]
    fn channels_become_tracks_and_tracks_channels() {
        let mut joiner = Joiner::new(2);
        let mut out = Outbox::new();
        joiner.join(Track::Inbound, &[1, 2, 5, 6, 9], &mut out);
        assert!(out.sends().is_empty());
        joiner.join(Track::Outbound, &[3, 4, 7, 8], &mut out);
        let [Send::Binary(span)] = out.sends() else { panic!("{:?}", out.sends()) };
        let wire = out.octets(span).to_vec();
        assert_eq!(wire, [1, 2, 3, 4, 5, 6, 7, 8]);
        let mut splitter = Splitter::new(linear(2));
        assert_eq!(split(&mut splitter, &wire[..3]), []);
        let tracks = [(Track::Inbound, vec![1, 2, 5, 6]), (Track::Outbound, vec![3, 4, 7, 8])];
        assert_eq!(split(&mut splitter, &wire[3..]), tracks);
    }

    #[test]
    fn a_single_channel_may_be_the_other_track() {
        let mut splitter = Splitter::new(linear(1)).beginning(Track::Outbound);
        assert_eq!(split(&mut splitter, &[1, 2]), [(Track::Outbound, vec![1, 2])]);
        assert_eq!(split(&mut splitter, &[3, 4, 5]), [(Track::Outbound, vec![3, 4])]);
    }
}
