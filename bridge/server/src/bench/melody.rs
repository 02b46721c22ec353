//! Sound that says its own number through Opus: one tone for each frame, and which one tells of the frames before it. For a codec that
//! models voices, which keeps one soft tone of 20 ms where it smears two; knows no call and no codec.
//!
//! There are 17 tones, 160 Hz apart and within what a telephone passes, too few to number frames by themselves: a number is read from a
//! tone and those around it. The tones step along in strides that change after each 17 frames, until every tone has followed every
//! other one once: 272 frames. So two in a row say where in this melody they are, and three leave no doubt. Of seven in a row
//! no two are the same.
//!
//! Whoever hears it goes along: the tone that is due next is the next frame, at once. Anything else is kept until what follows says
//! where the melody goes on; then the time that passed, and how many frames it skips, tell apart what was lost, came twice, came in
//! another order, and what was there and could not be read.
//!
//! It cannot tell a frame that something else sounds over from one that the codec spoilt, so many of those are wrong, too (`figures`);
//! nor what single frames came within a hole of more than sixteen, which are lost with it; and a frame that was not the one that was
//! due is known up to two frames later, from which its latency is reckoned back to the nearest 2.5 ms.

use std::f64::consts::TAU;
use std::time::Duration;

use ringback_codecs::SampleRate;

use super::stamp::FRAME;
use super::tones::goertzel;

/// Of a call's frames, those whose numbers differ by this sound alike: five and a half seconds.
pub(super) const ALIKE: u32 = TONES * STRIDES.len() as u32;

/// A prime, so that any stride reaches all of them.
const TONES: u32 = 17;
const LOWEST_HZ: f64 = 400.0;
const APART_HZ: f64 = 160.0;
/// From a tone to the next, for 17 frames each: each is three times the one before. No other factor keeps the same tones farther apart
/// where a stride ends.
const STRIDES: [u32; 16] = strides();

/// What it is heard at: nothing of it is above, and a decoder is cheapest there.
pub(super) const HEARD_AT: SampleRate = SampleRate::HZ_8000;
/// What is looked at, at once: two periods of the distance between two tones.
const WINDOW: usize = 100;
/// How far the window moves, in samples and in time.
const HOP: usize = 20;
const HOP_TIME: Duration = Duration::from_micros(2_500);
/// Hops of a frame.
const HOPS: u64 = 8;

/// How long a frame takes to become loud, and to fade: to a codec for voices an abrupt change is noise.
const RAMP: Duration = Duration::from_millis(5);
/// Strength of a tone.
const LOUD: f64 = 12_000.0;
/// Weaker sound is none.
const QUIET: f64 = 600.0;
/// A tone is at least this share of what is in the window.
const PURE: f64 = 0.5;
/// And so much stronger, in power, than the next one.
const CLEAR: f64 = 2.0;

/// Of the tone that is due less is enough: at least this share, and no other is stronger.
const DUE: f64 = 0.3;

/// Windows in which a tone is heard before it is believed; of the one that is due, one less.
const BELIEVED: u64 = 3;
/// Windows in which a tone may be covered by something else and go on.
const COVERED: u64 = 3;
/// Frames that a melody skips at most while the time that passed is believed.
const NEAR: u32 = 8;
/// Tones that are kept until it is known what they are.
const KEPT: usize = 16;

const fn strides() -> [u32; 16] {
    let mut all = [1; 16];
    let mut at = 1;
    while at < all.len() {
        all[at] = all[at - 1] * 3 % TONES;
        at += 1;
    }
    all
}

/// The tone at a place of the melody.
fn tone(place: u32) -> u32 {
    let stride = STRIDES[(place / TONES) as usize % STRIDES.len()];
    stride * (place % TONES) % TONES
}

/// Where in the melody one tone follows the other: the place of the latter.
fn place(before: u32, tone: u32) -> Option<u32> {
    let stride = (tone + TONES - before) % TONES;
    let block = STRIDES.iter().position(|&other| other == stride)? as u32;
    let step = (1..=TONES).find(|step| step * stride % TONES == tone)?;
    Some((block * TONES + step) % ALIKE)
}

/// From one place forward to another.
const fn ahead(from: u32, to: u32) -> u32 {
    (to + ALIKE - from) % ALIKE
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// The frame at a place of the melody, so long ago.
    Frame(u32, Duration),
    /// The time of the frame at a place, in which nothing could be read.
    Unreadable(u32),
    /// A tone that nothing of this melody explains.
    Stranger,
}

/// Writes frames at one rate.
pub(super) struct Singer {
    frame: usize,
    ramp: f64,
    /// Radians from a sample to the next, by tone.
    turns: [f64; TONES as usize],
}

impl Singer {
    pub(super) fn new(rate: SampleRate) -> Self {
        let samples = |time| rate.samples_in(time) as usize;
        let hz = |tone| LOWEST_HZ + APART_HZ * tone as f64;
        let turns = std::array::from_fn(|tone| TAU * hz(tone) / f64::from(rate.hz()));
        Self { frame: samples(FRAME), ramp: samples(RAMP) as f64, turns }
    }

    /// Appends the frame at a place.
    pub(super) fn write(&self, place: u32, pcm: &mut Vec<i16>) {
        let turn = self.turns[tone(place) as usize];
        pcm.extend((0..self.frame).map(|at| {
            let edge = ((at + 1).min(self.frame - at) as f64 / self.ramp).min(1.0);
            ((turn * at as f64).sin() * LOUD * edge) as i16
        }));
    }
}

/// A tone that goes on.
#[derive(Debug, Clone, Copy)]
struct Held {
    tone: u32,
    /// The hop of its first window, and the windows in which it was heard.
    from: u64,
    windows: u64,
    /// Of frames with it, those that were noted.
    noted: u64,
}

/// Hears a melody, at [`HEARD_AT`].
pub(super) struct Listener {
    /// What Goertzel's recursion multiplies by, by tone.
    factors: [f32; TONES as usize],
    hop: u64,
    held: Option<Held>,
    /// May cover what is held, or follow it.
    rising: Option<Held>,
    /// The last frame that is certain: its place, and the hop at which it began to be heard.
    last: Option<(u32, u64)>,
    /// Tones since then, and when they began.
    kept: Vec<(u32, u64)>,
    /// Hops since then in which there was no sound.
    silent: u64,
}

impl Listener {
    pub(super) fn new() -> Self {
        let hz = |tone| LOWEST_HZ + APART_HZ * tone as f64;
        let factors = std::array::from_fn(|tone| {
            (2.0 * (TAU * hz(tone) / f64::from(HEARD_AT.hz())).cos()) as f32
        });
        let kept = Vec::with_capacity(KEPT + 1);
        Self { factors, hop: 0, held: None, rising: None, last: None, kept, silent: 0 }
    }

    /// Hears what is in `pcm` and says how many samples need not be heard again.
    pub(super) fn hear(&mut self, pcm: &[i16], mut tell: impl FnMut(Read)) -> usize {
        let mut at = 0;
        while at + WINDOW <= pcm.len() {
            let window = &pcm[at..at + WINDOW];
            let energy: f64 = window.iter().map(|&sample| f64::from(sample).powi(2)).sum();
            let is_silent = energy < QUIET.powi(2) * window.len() as f64;
            self.silent += u64::from(is_silent);
            let heard = if is_silent { None } else { self.tone_in(window, energy) };
            self.follow(heard, &mut tell);
            self.hop += 1;
            at += HOP;
        }
        at
    }

    /// The tone that fills this window, if one does.
    fn tone_in(&self, window: &[i16], energy: f64) -> Option<u32> {
        let (mut best, mut power, mut next) = (0, 0.0, 0.0);
        for (tone, &factor) in (0..).zip(&self.factors) {
            let found = goertzel(factor, window);
            if found > power {
                (best, power, next) = (tone, found, power);
            } else if found > next {
                next = found;
            }
        }
        let share = 2.0 * power / (window.len() as f64 * energy);
        let is_clear = share >= PURE && power >= CLEAR * next;
        (is_clear || (share >= DUE && self.due() == Some(best))).then_some(best)
    }

    /// The tone of the frame after the last one that is certain.
    fn due(&self) -> Option<u32> {
        self.last.map(|(last, _)| tone((last + 1) % ALIKE))
    }

    /// Takes in what is heard at this hop.
    fn follow(&mut self, heard: Option<u32>, tell: &mut impl FnMut(Read)) {
        let hop = self.hop;
        let goes_on = |held: &Held| heard == Some(held.tone);
        if let Some(held) = self.held.as_mut().filter(|held| goes_on(held)) {
            self.rising = None;
            held.windows = hop - held.from + 1;
            // Half a frame longer than one, or one and a half, and so on.
            let frames = (held.windows + 6) / HOPS;
            let (tone, from, noted) = (held.tone, held.from, held.noted);
            held.noted = frames.max(noted);
            (noted..frames).for_each(|frame| self.note(tone, from + frame * HOPS, tell));
            return;
        }
        if self.held.is_some_and(|held| hop - (held.from + held.windows) > COVERED) {
            self.held = None;
        }
        let Some(tone) = heard else { return };
        match &mut self.rising {
            Some(rising) if rising.tone == tone => rising.windows += 1,
            rising => *rising = Some(Held { tone, from: hop, windows: 1, noted: 1 }),
        }
        let is_due = self.due() == Some(tone);
        if let Some(rising) = self.rising
            && rising.windows + u64::from(is_due) >= BELIEVED
        {
            self.held = self.rising.take();
            self.note(tone, rising.from, tell);
        }
    }

    /// A frame has a tone, and began to be heard at a hop.
    fn note(&mut self, tone: u32, from: u64, tell: &mut impl FnMut(Read)) {
        self.kept.push((tone, from));
        if let Some((last, then)) = self.last {
            let frames = frames_between(then, from) as u32;
            let in_time = (last + frames) % ALIKE;
            if (1..=NEAR).contains(&frames) && tone == self::tone(in_time) {
                return self.go_on(1, in_time, tell);
            }
            let next = (last + 1) % ALIKE;
            if self.kept.len() == 1 && tone == self::tone(next) {
                return self.go_on(1, next, tell);
            }
        }
        let tones = self.kept.iter().rev().map(|&(tone, _)| tone);
        let mut pairs = tones.clone().zip(tones.skip(1)).map(|(tone, before)| place(before, tone));
        let (pair, pair_before) = (pairs.next().flatten(), pairs.next().flatten());
        if let Some(at) = pair {
            let near = self.last.is_some_and(|(last, _)| (2..=NEAR + 1).contains(&ahead(last, at)));
            if pair_before.is_some_and(|before| ahead(before, at) == 1) {
                return self.go_on(3, at, tell);
            } else if near {
                return self.go_on(2, at, tell);
            }
        }
        if self.kept.len() > KEPT {
            self.kept.remove(0);
            // Before the melody has begun, anything may be heard.
            if self.last.is_some() {
                tell(Read::Stranger);
            }
        }
    }

    /// The melody goes on: the last `certain` tones lead to `place`. What was kept before them is explained.
    fn go_on(&mut self, certain: usize, place: u32, tell: &mut impl FnMut(Read)) {
        let kept = std::mem::take(&mut self.kept);
        let (doubtful, sure) = kept.split_at(kept.len() - certain);
        let first = (place + ALIKE + 1 - certain as u32) % ALIKE;
        if let (Some((last, then)), Some(&(_, from))) = (self.last, sure.first())
            && (1..=2 * NEAR).contains(&ahead(last, first))
        {
            self.explain(doubtful, (last, then), (first, from), tell);
        }
        for (&(_, from), place) in sure.iter().zip(first..) {
            let place = place % ALIKE;
            tell(Read::Frame(place, self.ago(from)));
            self.last = Some((place, from));
        }
        self.kept = kept;
        self.kept.clear();
        self.silent = 0;
    }

    /// Says what the tones between two certain frames, not far from each other, were.
    fn explain(
        &self,
        doubtful: &[(u32, u64)],
        (last, then): (u32, u64),
        (first, from): (u32, u64),
        tell: &mut impl FnMut(Read),
    ) {
        let missing = ahead(last, first) - 1;
        // A frame that came as silence is lost. Of its time, two windows have nothing of its neighbours in them.
        let silent = (self.silent + 6) / HOPS;
        let mut time = frames_between(then, from).saturating_sub(1 + silent);
        let (mut came, mut others) = (0u32, Vec::new());
        for &(tone, from) in doubtful {
            let is_it = |n: &u32| came >> n & 1 == 0 && self::tone(last + 1 + n) == tone;
            let found = (0..missing).find(is_it);
            match found {
                Some(n) => {
                    came |= 1 << n;
                    time = time.saturating_sub(1);
                    tell(Read::Frame((last + 1 + n) % ALIKE, self.ago(from)));
                }
                None => others.push((tone, from)),
            }
        }
        // Where there was time for a frame that is missing, it was there.
        for n in (0..missing).filter(|n| came >> n & 1 == 0) {
            if time > 0 {
                time -= 1;
                tell(Read::Unreadable((last + 1 + n) % ALIKE));
            }
        }
        // And where there was time for more than are missing, something came that is of another time.
        for (tone, from) in others.into_iter().take(time as usize) {
            let near = |back: &u32| self::tone((last + ALIKE - back) % ALIKE) == tone;
            tell(match (0..NEAR).find(near) {
                Some(back) => Read::Frame((last + ALIKE - back) % ALIKE, self.ago(from)),
                None => Read::Stranger,
            });
        }
    }

    /// How long ago a tone that began to be heard then could have been believed.
    fn ago(&self, from: u64) -> Duration {
        HOP_TIME * self.hop.saturating_sub(from + BELIEVED - 1) as u32
    }
}

/// How many frames later a hop is, rounded.
const fn frames_between(then: u64, now: u64) -> u64 {
    (now.saturating_sub(then) + HOPS / 2) / HOPS
}

#[cfg(test)]
mod tests {
    use ringback_codecs::{Decoder, Encoder, Encoding, MediaFormat, Resampler};

    use super::super::tones::testing;
    use super::*;

    fn opus(hz: u32) -> MediaFormat {
        MediaFormat::mono(Encoding::Opus, SampleRate::new(hz).expect("a rate"))
    }

    /// A caller whose sound goes to a bridge, which resamples it for a module, and sends back what the module sends back.
    struct Loop {
        frame: usize,
        singer: Singer,
        listener: Listener,
        ends: [(Box<dyn Encoder>, Box<dyn Decoder>); 2],
        resamplers: [Resampler; 2],
        waiting: Vec<i16>,
        heard: Vec<i16>,
        read: Vec<Read>,
    }

    impl Loop {
        fn new(hz: u32) -> Self {
            let (format, middle) = (opus(hz), SampleRate::HZ_16000);
            let end = |decoder: MediaFormat| {
                (format.encoder().expect("a codec"), decoder.decoder().expect("a codec"))
            };
            Self {
                frame: hz as usize / 50,
                singer: Singer::new(format.rate),
                listener: Listener::new(),
                ends: [end(format), end(opus(HEARD_AT.hz()))],
                resamplers: [
                    Resampler::new(format.rate, middle),
                    Resampler::new(middle, format.rate),
                ],
                waiting: Vec::new(),
                heard: Vec::new(),
                read: Vec::new(),
            }
        }

        fn say(&mut self, place: u32) {
            let mut said = Vec::new();
            self.singer.write(place, &mut said);
            self.send(&said);
        }

        fn be_silent(&mut self) {
            self.send(&vec![0; self.frame]);
        }

        fn send(&mut self, said: &[i16]) {
            let mut payload = Vec::new();
            self.ends[0].0.encode(said, &mut payload).expect("a frame");
            let mut at_module = Vec::new();
            let mut at_bridge = Vec::new();
            self.ends[0].1.decode(&payload, &mut at_bridge).expect("its own octets");
            self.resamplers[0].process(&at_bridge, &mut at_module);
            self.resamplers[1].process(&at_module, &mut self.waiting);
            while self.waiting.len() >= self.frame {
                let piece: Vec<_> = self.waiting.drain(..self.frame).collect();
                payload.clear();
                self.ends[1].0.encode(&piece, &mut payload).expect("a frame");
                self.ends[1].1.decode(&payload, &mut self.heard).expect("its own octets");
            }
            let done = self.listener.hear(&self.heard, |read| self.read.push(read));
            self.heard.drain(..done);
        }
    }

    /// All that was read of a melody, from its beginning.
    fn read(hz: u32, frames: u32) -> Vec<Read> {
        let mut line = Loop::new(hz);
        (0..frames).for_each(|number| line.say(number % ALIKE));
        line.read
    }

    /// What is read is every frame, in its order, but for those that could not be, of which there are few.
    fn expect_all(hz: u32, frames: u32) {
        let read = read(hz, frames);
        let mut unreadable = 0;
        for (number, read) in (0..).zip(&read) {
            let place = match *read {
                Read::Frame(place, _) => Some(place),
                Read::Unreadable(place) => {
                    unreadable += 1;
                    Some(place)
                }
                Read::Stranger => None,
            };
            assert_eq!(place, Some(number % ALIKE), "at {hz} Hz, number {number}: {read:?}");
        }
        // The last ones are on their way yet.
        assert!(read.len() + 3 >= frames as usize, "{} of {frames} at {hz} Hz", read.len());
        assert!(unreadable * 100 <= frames, "{unreadable} of {frames} at {hz} Hz");
    }

    #[test]
    fn no_number_is_misread_after_opus_to_a_module_and_back() {
        expect_all(48_000, 3_000);
    }

    #[test]
    fn no_number_is_misread_at_lower_rates() {
        expect_all(8_000, 1_000);
        expect_all(16_000, 1_000);
    }

    /// What is done to a frame on purpose.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Fault {
        Lost,
        Twice,
        /// After the next one.
        Swapped,
        Silent,
    }

    #[test]
    fn frames_that_are_lost_come_twice_in_another_order_or_silent_are_told() {
        const EVERY: u32 = 12;
        let faults = [Fault::Lost, Fault::Twice, Fault::Swapped, Fault::Silent];
        let fault = |number: u32| {
            (number % EVERY == 7).then(|| faults[(number / EVERY) as usize % faults.len()])
        };
        let (mut line, mut number) = (Loop::new(48_000), 0);
        while number < 500 {
            let (said, next) = match fault(number) {
                None => (&[Some(number)][..], 1),
                Some(Fault::Lost) => (&[][..], 1),
                Some(Fault::Twice) => (&[Some(number), Some(number)][..], 1),
                Some(Fault::Swapped) => (&[Some(number + 1), Some(number)][..], 2),
                Some(Fault::Silent) => (&[None][..], 1),
            };
            for said in said {
                match said {
                    Some(number) => line.say(number % ALIKE),
                    None => line.be_silent(),
                }
            }
            number += next;
        }
        // The nearest to the one before.
        let mut latest = 0;
        let mut number_of = |place| {
            let round = (latest + ALIKE / 2 - place) / ALIKE;
            latest = place + round * ALIKE;
            latest
        };
        let read = line.read.iter().map(|read| match *read {
            Read::Frame(place, _) => (number_of(place), true),
            Read::Unreadable(place) => (number_of(place), false),
            Read::Stranger => panic!("nobody else speaks: {:?}", line.read),
        });
        let read: Vec<_> = read.collect();
        for number in 0..490 {
            let times = read.iter().filter(|&&one| one == (number, true)).count();
            let expected = match fault(number) {
                Some(Fault::Lost | Fault::Silent) => 0,
                Some(Fault::Twice) => 2,
                Some(Fault::Swapped) | None => 1,
            };
            assert_eq!(times, expected, "{number}: {:?}", fault(number));
            if fault(number) == Some(Fault::Swapped) {
                let at = |wanted| read.iter().position(|&(number, _)| number == wanted);
                assert!(at(number) > at(number + 1), "{number} came after the next");
            }
        }
        assert!(read.iter().all(|&(_, readable)| readable), "what is lost is not unreadable");
    }

    #[test]
    fn every_tone_follows_every_other_one_once_and_none_comes_back_soon() {
        let mut places: Vec<_> = (0..ALIKE)
            .map(|at| place(tone((at + ALIKE - 1) % ALIKE), tone(at)).expect("a place"))
            .collect();
        assert!(places.iter().copied().eq(0..ALIKE));
        places.dedup();
        assert_eq!(places.len(), (TONES * (TONES - 1)) as usize);
        for at in 0..ALIKE {
            assert!((1..7).all(|later| tone((at + later) % ALIKE) != tone(at)), "{at}");
        }
        assert_eq!(place(3, 3), None);
    }

    #[test]
    fn nothing_is_read_in_speech_noise_and_silence() {
        let mut sounds = vec![testing::noise(8_000 * 15), vec![0; 8_000]];
        for (_, rate, pcm) in testing::recordings() {
            let mut heard = Vec::new();
            Resampler::new(rate, HEARD_AT).process(&pcm, &mut heard);
            sounds.push(heard);
        }
        let windows: usize = sounds.iter().map(|pcm| pcm.len() / HOP).sum();
        assert!(windows > 18_000, "{windows} windows are looked at");
        for pcm in sounds {
            let (mut listener, mut read) = (Listener::new(), Vec::new());
            listener.hear(&pcm, |one| read.push(one));
            assert_eq!(read, []);
        }
    }
}
