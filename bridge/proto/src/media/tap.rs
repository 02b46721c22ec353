//! A module's view of one track: reads the ring at its own position, at its own rate, in its own frame length.

use ringback_codecs::{Resampler, SampleRate};
use ringback_module::FrameFlags;

use super::ring::Ring;
use crate::scratch::Pcm;

/// Left free after a lag, so that the next push does not overwrite what is read next: 100 ms.
const HEADROOM: u64 = 10;

/// What [`Tap::next`] brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A frame is in the buffer.
    Frame {
        /// Position of its first sample, at the tap's rate.
        pts: u64,
        /// What is special about it.
        flags: FrameFlags,
    },
    /// Sound was overwritten before it was read; positions in samples at the ring's rate.
    Lagged {
        /// First sample that is missing.
        from: u64,
        /// One past the last sample that is missing.
        to: u64,
        /// Of those, samples that were never read before either.
        lost: u64,
        /// No frame was read before.
        fresh: bool,
    },
    /// There was no stream to hear for so long; positions in samples at the ring's rate.
    Gap {
        /// First sample that never was.
        from: u64,
        /// One past the last.
        to: u64,
    },
    /// Not enough sound for a frame yet.
    Empty,
}

/// Reads one track for one module.
pub struct Tap {
    cursor: u64,
    resampler: Resampler,
    frame: usize,
    /// Resampled sound that does not fill a frame yet.
    pending: Vec<i16>,
    /// Position of `pending[0]` at the tap's rate.
    pts: u64,
    flags: FrameFlags,
    accounts: TapAccounts,
    /// What is missing from here to where the tap begins has still to be told; beyond that, nothing has.
    owed: u64,
    /// No frame was read yet.
    fresh: bool,
    /// Whether it is given what is not for everybody.
    hears_all: bool,
}

impl Tap {
    /// A tap that starts at `position` of a ring of rate `from` and gives frames of `frame_ms` at `to`.
    #[must_use]
    pub fn new(position: u64, from: SampleRate, to: SampleRate, frame_ms: u32) -> Self {
        let mut tap = Self {
            cursor: position,
            resampler: Resampler::new(from, to),
            frame: ((u64::from(to.hz()) * u64::from(frame_ms) / 1_000) as usize).max(1),
            pending: Vec::new(),
            pts: 0,
            flags: FrameFlags::default(),
            accounts: TapAccounts { origin: position, end: position, read: 0, lagged: 0 },
            owed: u64::MAX,
            fresh: true,
            hears_all: false,
        };
        tap.pts = tap.to_module(position);
        tap
    }

    /// The same, given what is not for everybody as well, if `hears_all`; others are given silence for it.
    #[must_use]
    pub fn hearing_all(self, hears_all: bool) -> Self {
        Self { hears_all, ..self }
    }

    /// The same, for a module that goes on where it was. What it read or lost before does not count again when it is replayed; what
    /// lies between that and this tap's beginning is lost. It is told of that before the first frame, from position `owed` on.
    #[must_use]
    pub fn following(mut self, past: TapAccounts, owed: u64) -> Self {
        (self.accounts, self.owed) = (past, owed);
        self
    }

    /// The same, for a module to which what it missed meanwhile is not sound.
    #[must_use]
    pub fn following_elsewhere(mut self, past: TapAccounts) -> Self {
        let missed = self.cursor.saturating_sub(past.end);
        self.accounts =
            TapAccounts { origin: past.origin + missed, end: past.end + missed, ..past };
        self
    }

    /// Position of the next sample to read, at the ring's rate.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Samples read and samples lost since the first tap that it follows began, at the ring's rate; with what is still unread they
    /// make up everything that was pushed (checked by the ledger).
    #[must_use]
    pub fn accounts(&self) -> TapAccounts {
        self.accounts
    }

    fn to_module(&self, position: u64) -> u64 {
        let (from, to) = (self.resampler.from().hz(), self.resampler.to().hz());
        (u128::from(position) * u128::from(to) / u128::from(from)) as u64
    }

    /// Fills `frame` with the next frame, if there is one.
    pub fn next(&mut self, ring: &mut Ring, frame: &mut Vec<i16>) -> Next {
        frame.clear();
        if self.owed < self.cursor {
            let (from, to) = (self.owed, self.cursor);
            self.owed = u64::MAX;
            return Next::Lagged { from, to, lost: self.accounts.lose(to), fresh: self.fresh };
        }
        self.owed = u64::MAX;
        frame.append(&mut self.pending);
        if frame.is_empty()
            && let Some(to) = ring.gap_at(self.cursor)
        {
            let from = self.cursor;
            self.accounts.read(to);
            self.restart(to);
            return Next::Gap { from, to };
        }
        while frame.len() < self.frame {
            match self.fill(ring, frame) {
                Ok(0) => {
                    self.pending.append(frame);
                    return Next::Empty;
                }
                Ok(_) => {}
                Err(lagged) => {
                    frame.clear();
                    return lagged;
                }
            }
        }
        self.pending.extend(frame.drain(self.frame..));
        let (pts, flags) = (self.pts, std::mem::take(&mut self.flags));
        self.pts += self.frame as u64;
        self.fresh = false;
        Next::Frame { pts, flags }
    }

    /// Reads as much as one frame needs, or says what was overwritten.
    fn fill(&mut self, ring: &mut Ring, frame: &mut Vec<i16>) -> Result<usize, Next> {
        let (from, to) = (self.resampler.from().hz() as usize, self.resampler.to().hz() as usize);
        if self.cursor == ring.end() {
            return Ok(0);
        }
        let missing = (self.frame - frame.len()) * from / to;
        let mut input = Pcm::lend();
        let read = match ring.gap_at(self.cursor) {
            // What is left of a frame that began before it; whether the ring still holds the gap does not matter.
            Some(end) => {
                let count = missing.max(1).min((end - self.cursor) as usize);
                input.resize(count, 0);
                Ok(count)
            }
            None => ring.read(self.cursor, missing.max(1), &mut input),
        };
        let Ok(count) = read else {
            let from = self.cursor;
            let headroom = u64::from(ring.rate().hz()) / HEADROOM;
            let target = (ring.start() + headroom).min(ring.end()).max(ring.start());
            let lost = self.accounts.lose(target);
            self.restart(target);
            return Err(Next::Lagged { from, to: target, lost, fresh: self.fresh });
        };
        if !self.hears_all {
            ring.silence_hidden(self.cursor, &mut input);
        }
        let range = self.cursor..self.cursor + count as u64;
        if count > 0 && ring.is_synthesized(&range) {
            self.flags = self.flags.with(FrameFlags::SYNTHESIZED);
        }
        self.cursor = range.end;
        self.accounts.read(range.end);
        self.resampler.process(&input, frame);
        Ok(count)
    }

    fn restart(&mut self, position: u64) {
        self.cursor = position;
        self.resampler.reset();
        self.pending.clear();
        self.pts = self.to_module(position);
        self.flags = FrameFlags::DISCONTINUITY;
    }
}

/// Figures of a [`Tap`] and of those it follows, in samples at the ring's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapAccounts {
    /// Where the first began.
    pub origin: u64,
    /// Everything before was read or lost.
    pub end: u64,
    /// Samples read since, each once.
    pub read: u64,
    /// Samples overwritten before they were read.
    pub lagged: u64,
}

impl TapAccounts {
    /// Was read up to here.
    fn read(&mut self, to: u64) {
        self.read += self.pass(to);
    }

    /// Was overwritten up to here; how much of that had not been read.
    fn lose(&mut self, to: u64) -> u64 {
        let lost = self.pass(to);
        self.lagged += lost;
        lost
    }

    fn pass(&mut self, to: u64) -> u64 {
        let new = to.saturating_sub(self.end);
        self.end += new;
        new
    }
}
