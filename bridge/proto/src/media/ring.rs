//! The recent past of one track: bounded in time, overwriting the oldest. Who reads it keeps a position of its own.
//!
//! One ring serves all modules of a track: each reads at its own position, so a slow or restarted one is served from the same
//! memory as the quick ones, and sound of a companded track is kept companded (10 s of 8 kHz mu-law are 80 kB, not 160).

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use ringback_codecs::g711::Law;
use ringback_codecs::{Encoding, SampleRate};
use ringbuf::LocalRb;
use ringbuf::storage::Heap;
use ringbuf::traits::Observer;

use crate::scratch::Octets;

/// Spans of made-up sound remembered; older ones are forgotten first.
const MAX_SPANS: usize = 64;
/// Gaps remembered; older ones become silence like any other.
const MAX_GAPS: usize = 16;
/// A message is kept whole if it is not longer than this.
const LONGEST_MESSAGE: Duration = Duration::from_secs(10);

/// Sound that was asked for is no longer there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lagged {
    /// Samples overwritten before they were read.
    pub samples: u64,
}

/// Samples are kept the way they came, so that keeping them costs no quality and no memory.
enum Store {
    Companded(Law, LocalRb<Heap<u8>>),
    Linear(LocalRb<Heap<i16>>),
}

/// History of one track, addressed by absolute sample position since the track began.
pub struct Ring {
    store: Store,
    rate: SampleRate,
    end: u64,
    /// Where the present message began, if messages are told.
    message: Option<u64>,
    /// Of nearly all tracks there is nothing to remember: one look says so.
    marks: Option<Box<Marks>>,
}

/// What is special about spans of a track, each kind in order.
#[derive(Default)]
struct Marks {
    synthesized: VecDeque<Range<u64>>,
    gaps: VecDeque<Range<u64>>,
    /// Not for everybody; the last one may have no end yet.
    hidden: VecDeque<Range<u64>>,
}

impl Ring {
    /// A ring that holds `keep` of mono sound at `rate` that came as `encoding`. At least one sample is kept.
    #[must_use]
    pub fn new(encoding: Encoding, rate: SampleRate, keep: Duration) -> Self {
        let capacity = usize::try_from(rate.samples_in(keep)).unwrap_or(usize::MAX).max(1);
        let store = match encoding {
            Encoding::Pcmu => Store::Companded(Law::Mu, LocalRb::new(capacity)),
            Encoding::Pcma => Store::Companded(Law::A, LocalRb::new(capacity)),
            _ => Store::Linear(LocalRb::new(capacity)),
        };
        Self { store, rate, end: 0, message: None, marks: None }
    }

    fn marks(&mut self) -> &mut Marks {
        self.marks.get_or_insert_default()
    }

    /// Samples per second.
    #[must_use]
    pub fn rate(&self) -> SampleRate {
        self.rate
    }

    /// Position one past the newest sample: all that was ever pushed.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Position of the oldest sample still held.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.end - self.held() as u64
    }

    fn held(&self) -> usize {
        match &self.store {
            Store::Companded(_, rb) => rb.occupied_len(),
            Store::Linear(rb) => rb.occupied_len(),
        }
    }

    /// A message begins: all that is pushed from here to the next one can be read, even if the message and the gap before it are
    /// longer than the ring, which then grows, up to 10 s. So a reader that keeps up never misses anything.
    pub fn begin_message(&mut self) {
        self.message = Some(self.end);
    }

    /// Makes room for `more` of the present message.
    fn grow_for(&mut self, more: u64) {
        let Some(from) = self.message else { return };
        let message = (self.end - from).saturating_add(more);
        let wanted = message.min(self.rate.samples_in(LONGEST_MESSAGE)) as usize;
        if wanted > self.capacity() {
            match &mut self.store {
                Store::Companded(_, rb) => *rb = grown(rb, wanted),
                Store::Linear(rb) => *rb = grown(rb, wanted),
            }
        }
    }

    /// Takes samples in; the oldest make room.
    pub fn push(&mut self, samples: &[i16]) {
        self.grow_for(samples.len() as u64);
        match &mut self.store {
            Store::Companded(law, rb) => {
                let mut codes = Octets::lend();
                law.encode(samples, &mut codes);
                rb.push_slice_overwrite(&codes);
            }
            Store::Linear(rb) => rb.push_slice_overwrite(samples),
        }
        self.end += samples.len() as u64;
    }

    /// Lets `samples` of silence pass. Costs no more than the ring holds, however long it was.
    pub fn push_silence(&mut self, samples: u64) {
        const PIECE: [i16; 800] = [0; 800];
        self.grow_for(samples);
        let kept = samples.min(self.capacity() as u64);
        if kept < samples {
            self.clear();
            self.end += samples - kept;
        }
        let mut left = kept as usize;
        while left > 0 {
            let piece = left.min(PIECE.len());
            self.push(&PIECE[..piece]);
            left -= piece;
        }
    }

    /// Lets `samples` pass for which there was no stream to hear. Who reads is told of them and need not read them; the ring does not
    /// grow for them.
    pub fn push_gap(&mut self, samples: u64) {
        let from = self.end;
        let message = self.message.take();
        self.push_silence(samples);
        self.message = message.map(|_| self.end);
        let end = self.end;
        remember(&mut self.marks().gaps, from..end, MAX_GAPS);
    }

    /// Where the gap ends in which `position` lies, if it lies in one.
    #[inline]
    #[must_use]
    pub fn gap_at(&self, position: u64) -> Option<u64> {
        let gaps = &self.marks.as_ref()?.gaps;
        gaps.iter().find(|gap| gap.contains(&position)).map(|gap| gap.end)
    }

    /// Where the next gap after `position` begins, if there is one.
    #[inline]
    #[must_use]
    pub fn next_gap(&self, position: u64) -> Option<u64> {
        let gaps = &self.marks.as_ref()?.gaps;
        gaps.iter().map(|gap| gap.start).find(|start| *start > position)
    }

    fn capacity(&self) -> usize {
        match &self.store {
            Store::Companded(_, rb) => rb.capacity().get(),
            Store::Linear(rb) => rb.capacity().get(),
        }
    }

    fn clear(&mut self) {
        match &mut self.store {
            Store::Companded(_, rb) => rb.clear(),
            Store::Linear(rb) => rb.clear(),
        };
    }

    /// Like [`Ring::push`], remembering that the samples were made up.
    pub fn push_synthesized(&mut self, samples: &[i16]) {
        let range = self.end..self.end + samples.len() as u64;
        self.push(samples);
        remember(&mut self.marks().synthesized, range, MAX_SPANS);
    }

    /// Whether any sample of `range` was made up.
    #[inline]
    #[must_use]
    pub fn is_synthesized(&self, range: &Range<u64>) -> bool {
        let Some(marks) = &self.marks else { return false };
        marks.synthesized.iter().rev().any(|s| s.start < range.end && range.start < s.end)
    }

    /// From `from` on the sound is not for everybody.
    pub fn hide_from(&mut self, from: u64) {
        let start = self.start();
        let hidden = &mut self.marks().hidden;
        hidden.retain(|span| span.end > start);
        let full = hidden.len() == MAX_SPANS;
        match hidden.back_mut() {
            // Too many to remember one by one: rather one that is too long than one that is forgotten.
            Some(last) if full || last.end >= from => last.end = u64::MAX,
            _ => hidden.push_back(from..u64::MAX),
        }
    }

    /// From `to` on it is for everybody again.
    pub fn hide_until(&mut self, to: u64) {
        let last = self.marks.as_mut().and_then(|marks| marks.hidden.back_mut());
        if let Some(last) = last.filter(|last| last.end == u64::MAX) {
            last.end = to.max(last.start);
        }
    }

    /// Puts silence in the place of what is not for everybody in `samples`, which begin at `position`.
    #[inline]
    pub fn silence_hidden(&self, position: u64, samples: &mut [i16]) {
        let Some(marks) = &self.marks else { return };
        let end = position + samples.len() as u64;
        for span in marks.hidden.iter().filter(|span| span.start < end && position < span.end) {
            let from = span.start.saturating_sub(position) as usize;
            let to = (span.end.min(end) - position) as usize;
            samples[from..to].fill(0);
        }
    }

    /// Appends up to `count` samples from `position` on to `out` and says how many. What was overwritten is told, not skipped.
    pub fn read(
        &mut self,
        position: u64,
        count: usize,
        out: &mut Vec<i16>,
    ) -> Result<usize, Lagged> {
        let start = self.start();
        if position < start {
            return Err(Lagged { samples: start - position });
        }
        let skip = usize::try_from(position - start).unwrap_or(usize::MAX);
        let count = count.min(self.held().saturating_sub(skip));
        match &mut self.store {
            Store::Companded(law, rb) => {
                let (first, second) = part(rb.as_slices(), skip, count);
                law.decode(first, out);
                law.decode(second, out);
            }
            Store::Linear(rb) => {
                let (first, second) = part(rb.as_slices(), skip, count);
                out.extend_from_slice(first);
                out.extend_from_slice(second);
            }
        }
        Ok(count)
    }
}

/// Adds a span to its kind; the oldest is forgotten if there are too many.
fn remember(spans: &mut VecDeque<Range<u64>>, span: Range<u64>, most: usize) {
    match spans.back_mut() {
        Some(last) if last.end == span.start => last.end = span.end,
        _ => {
            if spans.len() == most {
                spans.pop_front();
            }
            spans.push_back(span);
        }
    }
}

/// A larger ring with the same in it.
fn grown<T: Copy>(rb: &mut LocalRb<Heap<T>>, capacity: usize) -> LocalRb<Heap<T>> {
    let mut larger = LocalRb::new(capacity);
    let (first, second) = rb.as_slices();
    larger.push_slice_overwrite(first);
    larger.push_slice_overwrite(second);
    larger
}

/// `count` elements after `skip` of two adjoining slices.
fn part<'a, T>(
    (first, second): (&'a [T], &'a [T]),
    skip: usize,
    count: usize,
) -> (&'a [T], &'a [T]) {
    let skip = skip.min(first.len() + second.len());
    let end = skip + count;
    let of_first = skip.min(first.len())..end.min(first.len());
    let of_second = skip.max(first.len()) - first.len()..end.max(first.len()) - first.len();
    (&first[of_first], &second[of_second])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringback_codecs::Endian;
    use ringback_codecs::g711::{a_to_linear, mu_to_linear};

    fn ring(ms: u64) -> Ring {
        Ring::new(Encoding::L16(Endian::Little), SampleRate::HZ_8000, Duration::from_millis(ms))
    }

    #[test]
    fn silence_of_any_length_takes_no_longer_than_what_is_kept_of_it() {
        let mut ring = ring(100);
        ring.push_silence(1 << 48);
        assert_eq!((ring.end(), ring.end() - ring.start()), (1 << 48, 800));
    }

    #[test]
    fn what_is_held_can_be_read_from_any_position() {
        let mut ring = ring(100);
        let all: Vec<i16> = (0..1_000).collect();
        for piece in all.chunks(37) {
            ring.push(piece);
        }
        assert_eq!((ring.start(), ring.end()), (200, 1_000));
        for position in [200, 201, 555, 999] {
            let mut out = Vec::new();
            assert_eq!(ring.read(position, 100, &mut out), Ok(out.len()));
            let from = position as usize;
            assert_eq!(out, all[from..(from + 100).min(1_000)]);
        }
    }

    #[test]
    fn overwritten_sound_is_told_exactly() {
        let mut ring = ring(10);
        ring.push(&[1; 200]);
        assert_eq!(ring.read(50, 10, &mut Vec::new()), Err(Lagged { samples: 70 }));
        assert_eq!(ring.read(9_999, 10, &mut Vec::new()), Ok(0), "not yet said");
    }

    #[test]
    fn a_long_silence_moves_the_positions_and_costs_nothing() {
        let mut ring = ring(100);
        ring.push(&[7; 80]);
        ring.push_silence(8_000 * 3_600 * 24);
        ring.push(&[9; 80]);
        assert_eq!((ring.start(), ring.end()), (691_199_360, 691_200_160));
        let mut out = Vec::new();
        assert_eq!(ring.read(691_200_000, 200, &mut out), Ok(160));
        assert_eq!((out[0], out[79], out[80], out[159]), (0, 0, 9, 9));
    }

    #[test]
    fn a_message_longer_than_the_ring_is_kept_whole_and_an_absurd_one_is_not() {
        let mut ring = ring(100);
        for length in [500, 3_000, 160] {
            ring.begin_message();
            let from = ring.end();
            ring.push_synthesized(&vec![3; length]);
            ring.push_silence(length as u64);
            ring.push(&vec![5; length]);
            let mut out = Vec::new();
            assert_eq!(ring.read(from, 4 * length, &mut out), Ok(3 * length));
            assert_eq!((out[0], out[length], out[2 * length]), (3, 0, 5));
        }
        ring.begin_message();
        ring.push_silence(8_000 * 3_600);
        ring.push(&[5; 160]);
        assert_eq!(ring.end() - ring.start(), 80_000);
    }

    #[test]
    fn companded_sound_comes_back_sample_for_sample() {
        for (encoding, decode) in
            [(Encoding::Pcmu, mu_to_linear as fn(u8) -> i16), (Encoding::Pcma, a_to_linear)]
        {
            let mut ring = Ring::new(encoding, SampleRate::HZ_8000, Duration::from_millis(100));
            let samples: Vec<i16> = (0..=255).map(decode).collect();
            ring.push(&samples);
            let mut out = Vec::new();
            assert_eq!(ring.read(0, 256, &mut out), Ok(256));
            assert_eq!(out, samples);
        }
    }

    #[test]
    fn what_is_not_for_everybody_is_silent_to_the_sample() {
        let mut ring = ring(100);
        ring.push(&[5; 100]);
        ring.hide_from(100);
        ring.push(&[5; 100]);
        ring.hide_until(180);
        ring.hide_from(190);
        ring.hide_until(195);
        let heard = |ring: &mut Ring, position: u64, count| {
            let mut samples = Vec::new();
            ring.read(position, count, &mut samples).unwrap();
            ring.silence_hidden(position, &mut samples);
            samples
        };
        let hidden = |at: u64| (100..180).contains(&at) || (190..195).contains(&at);
        for (position, count) in [(0, 200), (99, 2), (100, 80), (120, 10), (179, 12), (195, 5)] {
            let wanted: Vec<_> =
                (position..).take(count).map(|at| if hidden(at) { 0 } else { 5 }).collect();
            assert_eq!(heard(&mut ring, position, count), wanted, "from {position}");
        }
        // However often: what is forgotten first is forgotten by nobody who may not hear it.
        for n in 0..200 {
            ring.hide_from(200 + 4 * n);
            ring.hide_until(202 + 4 * n);
        }
        ring.push(&[5; 800]);
        let start = ring.start();
        let late = heard(&mut ring, start, 800);
        let open = (start..).zip(&late).filter(|(at, sample)| at % 4 < 2 && **sample != 0);
        assert_eq!(open.count(), 0);
    }

    #[test]
    fn made_up_spans_are_known() {
        let mut ring = ring(100);
        ring.push(&[5; 80]);
        ring.push_synthesized(&[0; 40]);
        ring.push_synthesized(&[0; 40]);
        ring.push(&[5; 80]);
        assert!(!ring.is_synthesized(&(0..80)));
        assert!(ring.is_synthesized(&(79..81)) && ring.is_synthesized(&(159..160)));
        assert!(!ring.is_synthesized(&(160..240)));
    }
}
