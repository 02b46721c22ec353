//! From blocks to key presses: what lasts is a press, what is too short is nothing. Measures nothing itself.

use crate::bank::{BLOCK, HOP, Spectrum};

/// Samples per second the detector hears.
pub const RATE: u32 = crate::bank::RATE;

/// Blocks in a row that must show the same key: at least 27 ms of tone, at most 32.
const CONFIRM: u32 = 5;
/// Blocks without it that end a press: pauses from 30 ms on. Shorter ones, one lost packet of 20 ms among them, are interruptions.
const RELEASE: u32 = 8;
/// A hole in the sound up to this long (60 ms, three packets) may be inside a press.
const BRIDGED: u64 = 480;
/// Samples of tone in the first and last block that show a key, on average: almost all, as a tone cut off is spread too wide.
const COVERED: u64 = 112;

/// One press of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Press {
    /// `0`-`9`, `*`, `#`, `A`-`D`.
    pub key: char,
    /// Position of the tone's first sample, exact to 4 ms.
    pub start: u64,
    /// How many samples the tone lasted, exact to 8 ms.
    pub samples: u64,
}

/// Hears key presses in sound of 8 kHz.
///
/// A press is reported once, when its tone ended. Limits, after ITU-T Q.23 and the figures gathered in ITU-T Q.24:
///
/// | | heard up to | not heard from |
/// |---|---|---|
/// | length of tone | down to 40 ms | 20 ms |
/// | pause between two presses | down to 40 ms | 20 ms (one press) |
/// | difference from the nominal frequencies | 1.5 % | 2.5 % |
/// | row tone stronger than column tone | 8 dB | 11 dB |
/// | column tone stronger than row tone | 4 dB | 7 dB |
/// | amplitude of each tone | down to -45 dBFS | -48 dBFS |
/// | noise below the tones | down to 15 dB | 0 dB |
#[derive(Debug, Clone)]
pub struct Detector {
    block: [f32; BLOCK],
    /// Samples of `block` that are set.
    filled: usize,
    /// Position of the next sample.
    next: u64,
    /// Of the block before, if it joins on.
    before: Option<Spectrum>,
    /// Samples missing since the last block.
    missing: u64,
    candidate: Option<Candidate>,
    held: Option<Held>,
}

/// A key seen in the latest blocks, perhaps by chance.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    key: char,
    /// Begin of the first block.
    first: u64,
    blocks: u32,
}

/// A key that is certainly down.
#[derive(Debug, Clone, Copy)]
struct Held {
    key: char,
    /// Begin of the first and the latest block that showed it.
    first: u64,
    last: u64,
    /// Blocks since then that did not.
    misses: u32,
}

impl Detector {
    /// A detector that has heard nothing; the first sample will be at `position`.
    #[must_use]
    pub const fn new(position: u64) -> Self {
        Self {
            block: [0.0; BLOCK],
            filled: 0,
            next: position,
            before: None,
            missing: 0,
            candidate: None,
            held: None,
        }
    }

    /// Takes sound and appends the presses that ended in it.
    pub fn process(&mut self, samples: &[i16], presses: &mut Vec<Press>) {
        for sample in samples {
            self.block[self.filled] = f32::from(*sample) / 32_768.0;
            self.filled += 1;
            self.next = self.next.saturating_add(1);
            if self.filled == BLOCK {
                let spectrum = Spectrum::measure(&self.block);
                let key = self.before.and_then(|before| spectrum.key(&before, &self.block));
                self.before = Some(spectrum);
                self.missing = 0;
                self.judge(key, presses);
                self.block.copy_within(HOP.., 0);
                self.filled = BLOCK - HOP;
            }
        }
    }

    /// Takes note that so many samples never came. A short hole does not end a press, a long one does.
    pub fn skip(&mut self, samples: u64, presses: &mut Vec<Press>) {
        self.missing = self.missing.saturating_add(samples);
        self.next = self.next.saturating_add(samples);
        self.filled = 0;
        self.before = None;
        self.candidate = None;
        if self.missing > BRIDGED {
            self.finish(presses);
        }
    }

    /// Appends the press that is still going on, as if it ended here.
    pub fn finish(&mut self, presses: &mut Vec<Press>) {
        presses.extend(self.held.take().map(Held::press));
    }

    /// The key that is down now: from about 30 ms after its tone began until 30 ms after it ended.
    #[must_use]
    pub fn held(&self) -> Option<char> {
        self.held.map(|held| held.key)
    }

    /// Position of the next sample.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.next
    }

    /// The block just measured shows `key`.
    fn judge(&mut self, key: Option<char>, presses: &mut Vec<Press>) {
        let begin = self.next.saturating_sub(BLOCK as u64);
        if let Some(held) = &mut self.held {
            if key == Some(held.key) {
                held.last = begin;
                held.misses = 0;
                self.candidate = None;
                return;
            }
            held.misses += 1;
        }
        self.candidate = key.map(|key| match self.candidate {
            Some(same) if same.key == key => Candidate { blocks: same.blocks + 1, ..same },
            _ => Candidate { key, first: begin, blocks: 1 },
        });
        let confirmed = self.candidate.take_if(|candidate| candidate.blocks >= CONFIRM);
        if confirmed.is_some() || self.held.is_some_and(|held| held.misses >= RELEASE) {
            self.finish(presses);
        }
        if let Some(Candidate { key, first, .. }) = confirmed {
            self.held = Some(Held { key, first, last: begin, misses: 0 });
        }
    }
}

impl Held {
    fn press(self) -> Press {
        let start = self.first.saturating_add(BLOCK as u64 - COVERED);
        let end = self.last.saturating_add(COVERED);
        Press { key: self.key, start, samples: end.saturating_sub(start) }
    }
}
