//! The last 60 ms of a track, kept for concealment, and the measuring of its quietest blocks. Interprets nothing.

use multiversion::multiversion;

use crate::noise::Floor;

/// Blocks of 10 ms remembered.
const BLOCKS: usize = 6;

/// A ring of interleaved samples. Its blocks do not depend on how payloads were cut.
pub(crate) struct History {
    ring: Box<[i16]>,
    channels: usize,
    /// Samples (all channels) of one block.
    block: usize,
    /// Where the next sample goes.
    at: usize,
    /// Samples of the current block still to come.
    room: usize,
    filled: usize,
    /// Whether the current block holds sound that was made up, which says nothing about the background.
    made_up: bool,
}

impl History {
    /// For `groups` samples per channel in 10 ms.
    pub(crate) fn new(groups: usize, channels: usize) -> Self {
        let block = groups * channels;
        let ring = vec![0; block * BLOCKS].into_boxed_slice();
        Self { ring, channels, block, at: 0, room: block, filled: 0, made_up: false }
    }

    /// Remembers real sound; every block completed by it is measured into `floors`, one a channel.
    pub(crate) fn push_heard(&mut self, mut pcm: &[i16], floors: &mut [Floor]) {
        while !pcm.is_empty() {
            let (now, later) = pcm.split_at(pcm.len().min(self.room));
            self.store(now);
            if self.room == 0 {
                let end = self.at + self.block;
                if !self.made_up {
                    measure(&self.ring[self.at..end], self.channels, floors);
                }
                self.next_block(end);
            }
            pcm = later;
        }
    }

    /// Remembers sound that was made up; it is not measured.
    pub(crate) fn push_made(&mut self, mut pcm: &[i16]) {
        while !pcm.is_empty() {
            let (now, later) = pcm.split_at(pcm.len().min(self.room));
            self.store(now);
            self.made_up = true;
            if self.room == 0 {
                self.next_block(self.at + self.block);
            }
            pcm = later;
        }
    }

    /// What is remembered, oldest first, in two pieces; each holds whole sample groups once only whole groups went in.
    pub(crate) fn parts(&self) -> (&[i16], &[i16]) {
        let next = self.at + self.block - self.room;
        if self.filled < self.ring.len() {
            return (&self.ring[..next], &[]);
        }
        let (new, old) = self.ring.split_at(next);
        (old, new)
    }

    pub(crate) fn clear(&mut self) {
        self.at = 0;
        self.room = self.block;
        self.filled = 0;
        self.made_up = false;
    }

    fn store(&mut self, pcm: &[i16]) {
        let start = self.at + self.block - self.room;
        self.ring[start..start + pcm.len()].copy_from_slice(pcm);
        self.room -= pcm.len();
        self.filled = (self.filled + pcm.len()).min(self.ring.len());
    }

    fn next_block(&mut self, end: usize) {
        self.at = if end == self.ring.len() { 0 } else { end };
        self.room = self.block;
        self.made_up = false;
    }
}

/// Mean magnitude of each channel of an interleaved block.
fn measure(block: &[i16], channels: usize, floors: &mut [Floor]) {
    if let [floor] = floors {
        floor.measure(magnitude(block) / block.len() as u32);
        return;
    }
    for (channel, floor) in floors.iter_mut().enumerate() {
        let samples = block[channel..].iter().step_by(channels);
        let sum: u32 = samples.map(|s| u32::from(s.unsigned_abs())).sum();
        floor.measure(sum / (block.len() / channels) as u32);
    }
}

/// At most 1,920 samples (10 ms at the highest rate), so the sum fits 32 bits.
#[multiversion(targets("x86_64+avx2"))]
fn magnitude(samples: &[i16]) -> u32 {
    samples.iter().map(|s| u32::from(s.unsigned_abs())).sum()
}

#[cfg(test)]
mod tests {
    use super::History;
    use crate::noise::Floor;

    fn joined(history: &History) -> Vec<i16> {
        let (old, new) = history.parts();
        [old, new].concat()
    }

    #[test]
    fn keeps_the_newest_in_order_however_cut() {
        let pcm: Vec<i16> = (0..1_000).collect();
        for cut in [1, 3, 7, 80, 160, 999, 1_000] {
            let mut history = History::new(80, 1);
            let mut floors = [Floor::default()];
            for piece in pcm.chunks(cut) {
                history.push_heard(piece, &mut floors);
            }
            assert_eq!(joined(&history), pcm[520..], "cut {cut}");
            // The mean of the first block, which is the quietest.
            assert_eq!(floors[0].level(), 39.0);
        }
    }

    #[test]
    fn partly_filled_and_cleared() {
        let mut history = History::new(80, 1);
        history.push_heard(&[1, 2, 3], &mut [Floor::default()]);
        assert_eq!(joined(&history), [1, 2, 3]);
        history.clear();
        assert!(joined(&history).is_empty());
    }

    #[test]
    fn channels_are_measured_apart_and_made_up_sound_not_at_all() {
        let mut history = History::new(80, 2);
        let mut floors = [Floor::default(), Floor::default()];
        let pcm: Vec<i16> = (0..160).map(|i| if i % 2 == 0 { 10 } else { -150 }).collect();
        history.push_heard(&pcm, &mut floors);
        assert_eq!(floors.map(|f| f.level()), [10.0, 150.0]);
        history.push_made(&[2; 80]);
        history.push_heard(&[2; 80], &mut floors);
        assert_eq!(floors.map(|f| f.level()), [10.0, 150.0]);
        history.push_heard(&[3; 160], &mut floors);
        assert_eq!(floors.map(|f| f.level()), [3.0, 3.0]);
    }
}
