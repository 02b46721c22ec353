//! Short polyphase filters for ratios of small numbers: the sample arithmetic and its streaming state. Chooses no rates.
//!
//! Input is looked at in *periods*: `down` samples in, `up` samples out, after which the pattern of coefficients repeats. A
//! period's inputs are dealt out to `down` streams, so that the same output of neighbouring periods reads neighbouring
//! samples and the compiler can work on as many periods at once as the machine's vectors hold. Each output is one sum in one
//! fixed order, whatever the cutting of the input was, and nothing in it is fused or reordered: the samples are the same on
//! every machine.

use std::sync::LazyLock;
use std::time::Duration;

use multiversion::multiversion;

use super::design;
use crate::SampleRate;

/// Periods per pass over the stack buffers: 20 ms of the lower of two telephone rates.
const PASS: usize = 160;
/// Periods whose sums stay in registers while all taps are added: ten vectors of eight. A pass is a whole number of blocks.
const BLOCK: usize = 80;
/// Periods in a pass and those before it, of which a filter reads most where `up` or `down` is 1.
const SPAN: usize = 2 * design::HALF_LENGTH + PASS;

/// Two mirror taps of one output, which share their coefficient. Places index the streams laid end to end.
struct Folded {
    near: usize,
    far: usize,
    weight: f32,
}

/// A tap whose mirror belongs to another output, or that is its own.
struct Plain {
    place: usize,
    weight: f32,
}

/// The coefficients of one output of a period.
struct Phase {
    folded: Vec<Folded>,
    plain: Vec<Plain>,
}

/// Filter for one ratio; one copy serves the whole process.
pub(super) struct Kernel {
    /// Output samples of a period.
    up: usize,
    /// Input samples of a period.
    down: usize,
    /// Periods before the current one that outputs still read.
    reach: usize,
    phases: Vec<Phase>,
    run: fn(&Self, &mut Past, &[i16], &mut Vec<i16>),
}

/// The end of the input so far, as much of it as outputs to come still need. Made by [`Kernel::past`].
pub(super) struct Past {
    /// `Kernel::reach` whole periods, then the period that is not complete.
    samples: Vec<i16>,
}

static KERNELS: LazyLock<[Kernel; 12]> = LazyLock::new(|| {
    [
        Kernel::new::<2, 1>(),
        Kernel::new::<3, 1>(),
        Kernel::new::<4, 1>(),
        Kernel::new::<6, 1>(),
        Kernel::new::<1, 2>(),
        Kernel::new::<1, 3>(),
        Kernel::new::<1, 4>(),
        Kernel::new::<1, 6>(),
        Kernel::new::<3, 2>(),
        Kernel::new::<2, 3>(),
        Kernel::new::<4, 3>(),
        Kernel::new::<3, 4>(),
    ]
});

impl Kernel {
    /// The kernel making `up` samples of every `down`, a ratio in lowest terms, or `None` where there is none.
    pub(super) fn find(up: usize, down: usize) -> Option<&'static Self> {
        KERNELS.iter().find(|kernel| kernel.up == up && kernel.down == down)
    }

    fn new<const UP: usize, const DOWN: usize>() -> Self {
        let taps = design::prototype(UP.max(DOWN));
        let reach = (2 * design::HALF_LENGTH).div_ceil(UP.min(DOWN));
        let phases = (0..UP).map(|output| Phase::new(&taps, [UP, DOWN, reach], output)).collect();
        Self { up: UP, down: DOWN, reach, phases, run: run::<UP, DOWN> }
    }

    /// Length of the filter all phases are cut from.
    pub(super) fn taps(&self) -> usize {
        2 * self.up.max(self.down) * design::HALF_LENGTH - 1
    }

    /// True where the ratio is 2:1 either way and every other tap is zero.
    pub(super) fn is_half_band(&self) -> bool {
        self.up.max(self.down) == 2
    }

    /// Group delay where `from` is the rate of the input; a whole number of output samples for every kernel.
    pub(super) fn delay(&self, from: SampleRate) -> Duration {
        // An output waits for the last input before the next one is due, hence not the plain half length.
        let steps = (self.taps() - 1) / 2 - (self.down - 1);
        let grid = self.up as u64 * u64::from(from.hz());
        Duration::from_nanos(steps as u64 * 1_000_000_000 / grid)
    }

    /// Inputs from before the first sample: silence.
    pub(super) fn past(&self) -> Past {
        let mut samples = Vec::with_capacity((self.reach + 1) * self.down);
        samples.resize(self.reach * self.down, 0);
        Past { samples }
    }

    /// Filters `input` and appends all outputs it completes.
    pub(super) fn process(&self, past: &mut Past, input: &[i16], output: &mut Vec<i16>) {
        (self.run)(self, past, input, output);
    }

    /// Appends the sample, if any, that input so far begins but does not complete, and forgets all input.
    pub(super) fn finish(&self, past: &mut Past, output: &mut Vec<i16>) {
        let carried = past.samples.len() - self.reach * self.down;
        let begun = (carried * self.up).div_ceil(self.down) - carried * self.up / self.down;
        let end = output.len() + begun;
        for _ in carried..self.down {
            self.process(past, &[0], output);
        }
        output.truncate(end);
        self.reset(past);
    }

    /// Forgets all input.
    pub(super) fn reset(&self, past: &mut Past) {
        past.samples.clear();
        past.samples.resize(self.reach * self.down, 0);
    }
}

impl Phase {
    /// Coefficients of output number `output` of each period, their sum scaled to 1: constant sound passes unchanged.
    fn new(taps: &[f64], [up, down, reach]: [usize; 3], output: usize) -> Self {
        // Grid steps from the first sample in reach to the last one before the next output is due; inputs lie at every
        // `up`-th step, so the filter's tap `k` meets one only where what is left divides.
        let newest = reach * down * up + (output + 1) * down - 1;
        let reads = |k: usize| taps[k] != 0.0 && (newest - k).is_multiple_of(up);
        let place = |k: usize| {
            let sample = (newest - k) / up;
            sample % down * SPAN + sample / down
        };
        let sum: f64 = (0..taps.len()).filter(|&k| reads(k)).map(|k| taps[k]).sum();
        let weight = |k: usize| (taps[k] / sum) as f32;

        let mut phase = Self { folded: Vec::new(), plain: Vec::new() };
        for k in (0..taps.len()).filter(|&k| reads(k)) {
            let mirror = taps.len() - 1 - k;
            if mirror == k || !reads(mirror) {
                phase.plain.push(Plain { place: place(k), weight: weight(k) });
            } else if k < mirror {
                phase.folded.push(Folded { near: place(k), far: place(mirror), weight: weight(k) });
            }
        }
        phase
    }
}

/// One output of all periods that `samples` has blocks for.
#[multiversion(targets("x86_64+avx2"))]
fn filter(phase: &Phase, streams: &[f32], samples: &mut [[i16; BLOCK]]) {
    for (block, samples) in samples.iter_mut().enumerate() {
        let read = |place: usize| -> &[f32; BLOCK] {
            streams[block * BLOCK + place..].first_chunk().expect("a stream outlasts its pass")
        };
        let mut sums = [0.0f32; BLOCK];
        for tap in &phase.folded {
            let (near, far) = (read(tap.near), read(tap.far));
            for at in 0..BLOCK {
                sums[at] += (near[at] + far[at]) * tap.weight;
            }
        }
        for tap in &phase.plain {
            let read = read(tap.place);
            for at in 0..BLOCK {
                sums[at] += read[at] * tap.weight;
            }
        }
        for (sample, sum) in samples.iter_mut().zip(sums) {
            *sample = to_sample(sum);
        }
    }
}

/// Deals periods of `down` samples out to as many streams.
#[multiversion(targets("x86_64+avx2"))]
fn deal(window: &[i16], down: usize, streams: &mut [f32]) {
    match down {
        1 => deal_to::<1>(window, streams),
        2 => deal_to::<2>(window, streams),
        3 => deal_to::<3>(window, streams),
        4 => deal_to::<4>(window, streams),
        6 => deal_to::<6>(window, streams),
        _ => unreachable!("no kernel of the table takes {down} samples a period"),
    }
}

#[inline(always)]
fn deal_to<const DOWN: usize>(window: &[i16], streams: &mut [f32]) {
    let (periods, _) = window.as_chunks::<DOWN>();
    for (stream, samples) in streams.chunks_exact_mut(SPAN).enumerate() {
        for (sample, period) in samples.iter_mut().zip(periods) {
            *sample = f32::from(period[stream]);
        }
    }
}

/// Puts the outputs of each period, `up` of them, in a row.
#[multiversion(targets("x86_64+avx2"))]
fn weave(outputs: &[[i16; PASS]], made: &mut [i16]) {
    match outputs.len() {
        1 => made.copy_from_slice(&outputs[0]),
        2 => weave_of::<2>(outputs, made),
        3 => weave_of::<3>(outputs, made),
        4 => weave_of::<4>(outputs, made),
        6 => weave_of::<6>(outputs, made),
        up => unreachable!("no kernel of the table gives {up} samples a period"),
    }
}

#[inline(always)]
fn weave_of<const UP: usize>(outputs: &[[i16; PASS]], made: &mut [i16]) {
    let (periods, _) = made.as_chunks_mut::<UP>();
    let outputs: &[[i16; PASS]; UP] = outputs.try_into().expect("as many as matched");
    for (at, period) in periods.iter_mut().enumerate().take(PASS) {
        *period = std::array::from_fn(|output| outputs[output][at]);
    }
}

/// Nearest sample, ties to even, limited to what 16 bits hold.
///
/// Adding 1.5 * 2^23 leaves no bits for a fraction, so the addition itself rounds; this needs nothing that SSE2 lacks. Sums
/// stay far below the 2^22 at which it would fail: no phase amplifies a sample more than threefold.
#[inline(always)]
pub(super) fn to_sample(sum: f32) -> i16 {
    const SHIFT: f32 = 12_582_912.0;
    let whole = (sum + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits()) as i32;
    whole.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
}

fn run<const UP: usize, const DOWN: usize>(
    kernel: &Kernel,
    past: &mut Past,
    mut input: &[i16],
    output: &mut Vec<i16>,
) {
    while !input.is_empty() {
        let carried = past.samples.len() - kernel.reach * DOWN;
        let (now, later) = input.split_at(input.len().min(PASS * DOWN - carried));
        input = later;

        let mut window = [[0i16; DOWN]; SPAN];
        let filled = past.samples.len() + now.len();
        let flat = window.as_flattened_mut();
        flat[..past.samples.len()].copy_from_slice(&past.samples);
        flat[past.samples.len()..filled].copy_from_slice(now);

        let due = (carried + now.len()) * UP / DOWN;
        let made = filter_pass::<UP, DOWN>(kernel, &window, due.div_ceil(UP));
        output.extend_from_slice(&made.as_flattened()[carried * UP / DOWN..due]);

        let complete = (carried + now.len()) / DOWN * DOWN;
        past.samples.clear();
        past.samples.extend_from_slice(&window.as_flattened()[complete..filled]);
    }
}

/// All outputs of the first `periods` periods of a pass (and some of what is behind them, of no meaning).
#[inline]
fn filter_pass<const UP: usize, const DOWN: usize>(
    kernel: &Kernel,
    window: &[[i16; DOWN]; SPAN],
    periods: usize,
) -> [[i16; UP]; PASS] {
    let mut streams = [[0.0f32; SPAN]; DOWN];
    deal(window.as_flattened(), DOWN, streams.as_flattened_mut());
    let mut outputs = [[0i16; PASS]; UP];
    for (output, phase) in outputs.iter_mut().zip(&kernel.phases) {
        let (blocks, _) = output.as_chunks_mut();
        filter(phase, streams.as_flattened(), &mut blocks[..periods.div_ceil(BLOCK)]);
    }
    let mut made = [[0i16; UP]; PASS];
    weave(&outputs, made.as_flattened_mut());
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_round_to_the_nearest_sample() {
        for (sum, sample) in [(0.49, 0), (0.5, 0), (1.5, 2), (-0.51, -1), (-2.5, -2), (99.7, 100)] {
            assert_eq!(to_sample(sum), sample, "{sum}");
        }
    }

    #[test]
    fn sums_beyond_16_bits_are_limited() {
        for (sum, sample) in [(32_767.4, i16::MAX), (32_767.6, i16::MAX), (100_000.0, i16::MAX)] {
            assert_eq!(to_sample(sum), sample);
            assert_eq!(to_sample(-sum - 1.0), i16::MIN);
        }
    }

    #[test]
    fn phases_sum_to_one_and_amplify_less_than_threefold() {
        for kernel in KERNELS.iter() {
            for phase in &kernel.phases {
                let folded = phase.folded.iter().flat_map(|tap| [tap.weight; 2]);
                let weights: Vec<f32> =
                    folded.chain(phase.plain.iter().map(|tap| tap.weight)).collect();
                assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
                assert!(weights.iter().map(|weight| weight.abs()).sum::<f32>() < 3.0);
            }
        }
    }

    #[test]
    fn half_bands_keep_every_other_sample_and_skip_zeros() {
        let up = Kernel::find(2, 1).expect("a kernel of the table");
        let [filtered, kept] = up.phases.as_slice() else { panic!("two outputs a period") };
        assert!(kept.folded.is_empty() && kept.plain.len() == 1 && kept.plain[0].weight == 1.0);
        assert!(filtered.plain.is_empty() && filtered.folded.len() == design::HALF_LENGTH);
    }
}
