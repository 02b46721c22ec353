//! Brings two tracks together by their positions. Bounded: neither is kept for longer than a second to wait for the other.

use std::collections::VecDeque;

use ringback_module::ModuleError;

use crate::file::Recording;
use crate::wav::CHANNELS;

/// A jump of the clock by more than this is a fault, not a gap, and must not fill a disk with silence: one hour.
const MAX_JUMP_MS: u64 = 3_600_000;

#[derive(Debug)]
pub(crate) struct Timeline {
    /// Position of the first sample not yet written.
    next: u64,
    lanes: [Lane; CHANNELS],
    /// Samples one lane may be ahead of the other: a second.
    limit: u64,
    rate: u32,
    late: u64,
    block: Vec<i16>,
}

#[derive(Debug)]
struct Lane {
    /// Whether it is waited for.
    live: bool,
    /// From `next` on.
    samples: VecDeque<i16>,
    /// Position one past the newest sound, as told. What comes from before it is a repetition.
    heard: u64,
}

impl Timeline {
    /// Goes on at `next`; lanes that are not live stay silent.
    pub(crate) fn new(next: u64, rate: u32, live: [bool; CHANNELS]) -> Self {
        let lanes = live.map(|live| Lane { live, samples: VecDeque::new(), heard: next });
        Self { next, lanes, limit: u64::from(rate), rate, late: 0, block: Vec::new() }
    }

    /// Samples by which sound was put behind its place at most, because it came after silence had been written there.
    pub(crate) fn late(&self) -> u64 {
        self.late
    }

    /// Puts sound of one channel in its place and writes what is complete.
    pub(crate) fn place(
        &mut self,
        channel: usize,
        pts: u64,
        samples: &[i16],
        file: &mut Recording,
    ) -> Result<(), ModuleError> {
        let jump = u64::from(self.rate) * MAX_JUMP_MS / 1_000;
        if pts > self.next.saturating_add(jump) {
            let message = format!("sound at sample {pts} follows sample {}", self.next);
            return Err(ModuleError::new("clock_jump", message));
        }
        // Pieces within the limit, so that none can push its own head over the horizon.
        let mut pts = pts;
        for piece in samples.chunks(self.limit as usize) {
            self.place_piece(channel, pts, piece, file)?;
            pts += piece.len() as u64;
        }
        Ok(())
    }

    fn place_piece(
        &mut self,
        channel: usize,
        pts: u64,
        samples: &[i16],
        file: &mut Recording,
    ) -> Result<(), ModuleError> {
        let end = self.end_of(channel);
        let lane = &mut self.lanes[channel];
        let repeated = lane.heard.saturating_sub(pts).min(samples.len() as u64);
        let (pts, samples) = (pts + repeated, &samples[repeated as usize..]);
        if samples.is_empty() {
            return Ok(());
        }
        lane.heard = pts + samples.len() as u64;
        // A track that stood still and is told by its length alone stays behind the other for good: its sound is kept, behind its
        // place, rather than lost. Silence of its own brings it back.
        self.late = self.late.max(end.saturating_sub(pts));
        let pts = pts.max(end);
        // Make room first: whatever is further behind than the limit goes out now.
        let horizon = (pts + samples.len() as u64).saturating_sub(self.limit);
        self.write_until(horizon, file)?;
        let gap = pts.saturating_sub(self.end_of(channel));
        let lane = &mut self.lanes[channel].samples;
        lane.extend(std::iter::repeat_n(0, gap as usize));
        lane.extend(samples);
        self.write_until(self.complete(), file)
    }

    /// Position one past what a lane is filled to, by sound or by silence.
    fn end_of(&self, channel: usize) -> u64 {
        self.next + self.lanes[channel].samples.len() as u64
    }

    /// Frames that wait to be written.
    pub(crate) fn waiting(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.samples.len()).max().unwrap_or_default() as u64
    }

    /// Writes all that is left, the shorter lane padded with silence.
    pub(crate) fn drain(&mut self, file: &mut Recording) -> Result<(), ModuleError> {
        self.write_until(self.next + self.waiting(), file)
    }

    /// Up to where all live lanes have sound.
    fn complete(&self) -> u64 {
        let live = self.lanes.iter().filter(|lane| lane.live);
        self.next + live.map(|lane| lane.samples.len() as u64).min().unwrap_or_default()
    }

    /// Writes up to a position, in blocks of a second at most, silence where a lane has nothing.
    fn write_until(&mut self, until: u64, file: &mut Recording) -> Result<(), ModuleError> {
        while self.next < until {
            let len = (until - self.next).min(self.limit) as usize;
            self.block.clear();
            self.block.resize(len * CHANNELS, 0);
            for (channel, lane) in self.lanes.iter_mut().enumerate() {
                let have = len.min(lane.samples.len());
                let places = self.block.iter_mut().skip(channel).step_by(CHANNELS);
                places.zip(lane.samples.drain(..have)).for_each(|(place, sample)| *place = sample);
            }
            file.write(&self.block)?;
            self.next += len as u64;
        }
        Ok(())
    }
}
