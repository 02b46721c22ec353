//! The two wires between a person's devices and a call: each between two clocks that are never quite the same, so each is kept
//! between a cushion against gaps and a limit on delay, and what that costs is counted. Touches no socket.

use std::fmt;
use std::time::Duration;

use ringback_codecs::{Resampler, SampleRate};
use ringback_proto::provider::Track;
use ringback_proto::simulator::Simulator;

use super::meter::Level;
use crate::audio_device::{Account, DeviceError, Microphone, Speaker};

/// Silence put before sound that comes to an empty queue: devices and calls take and give 20 ms at a time, and not on the dot.
const CUSHION: Duration = Duration::from_millis(60);
/// Most that may be queued; more delay than that makes people talk over each other.
const MOST: Duration = Duration::from_millis(200);
/// What is left when there was more.
const SETTLED: Duration = Duration::from_millis(100);

/// Keeps a queue between empty and late.
#[derive(Debug)]
struct Balance {
    cushion: usize,
    most: usize,
    settled: usize,
    running: bool,
    /// Times the queue ran dry.
    dry: u64,
}

impl Balance {
    fn new(rate: SampleRate) -> Self {
        let samples = |time| usize::try_from(rate.samples_in(time)).unwrap_or(usize::MAX);
        Self {
            cushion: samples(CUSHION),
            most: samples(MOST),
            settled: samples(SETTLED),
            running: false,
            dry: 0,
        }
    }

    /// How much silence goes before sound that comes while `queued` samples wait.
    fn silence(&mut self, queued: usize) -> usize {
        if queued > 0 {
            return 0;
        }
        self.dry += u64::from(self.running);
        self.running = true;
        self.cushion
    }

    /// How many of `queued` samples are too many.
    fn excess(&self, queued: usize) -> usize {
        if queued > self.most { queued - self.settled } else { 0 }
    }
}

/// A wire that is in use.
struct Wire {
    resampler: Resampler,
    balance: Balance,
    // Kept for its memory.
    resampled: Vec<i16>,
}

impl Wire {
    /// From one rate to another; the queue is behind the resampler.
    fn new(from: SampleRate, to: SampleRate) -> Self {
        let balance = Balance::new(to);
        Self { resampler: Resampler::new(from, to), balance, resampled: Vec::new() }
    }
}

/// From the microphone to the call.
pub(super) struct Mouth {
    microphone: Microphone,
    wire: Option<Wire>,
    raw: Vec<i16>,
    late: u64,
    /// How loud it is.
    pub(super) level: Level,
}

impl Mouth {
    pub(super) fn new(microphone: Microphone) -> Self {
        Self { microphone, wire: None, raw: Vec::new(), late: 0, level: Level::default() }
    }

    /// Begins to listen, for a call that speaks at `rate`.
    pub(super) fn start(&mut self, rate: SampleRate) -> Result<(), DeviceError> {
        self.wire = Some(Wire::new(self.microphone.rate(), rate));
        self.microphone.start()
    }

    /// Says to the phone what the microphone heard; `running` since the start.
    pub(super) fn carry(
        &mut self,
        running: Duration,
        phone: &mut Simulator,
    ) -> Result<(), DeviceError> {
        self.microphone.check(running)?;
        let Some(wire) = &mut self.wire else { return Ok(()) };
        self.raw.clear();
        self.microphone.take(&mut self.raw);
        self.level.add(&self.raw);
        let from = self.microphone.rate();
        self.late += say(wire, &self.raw, phone)
            .map_or(0, |samples| from.samples_in(wire.resampler.to().duration_of(samples as u64)));
        Ok(())
    }

    pub(super) fn account(&self) -> Side {
        Side {
            name: "microphone",
            rate: self.microphone.rate(),
            device: self.microphone.account(),
            late: self.late,
            dry: self.wire.as_ref().map_or(0, |wire| wire.balance.dry),
        }
    }
}

/// Says `raw` to the phone; gives how many samples at the phone's rate were forgotten because too many waited, if any were.
fn say(wire: &mut Wire, raw: &[i16], phone: &mut Simulator) -> Option<usize> {
    wire.resampled.clear();
    wire.resampler.process(raw, &mut wire.resampled);
    if wire.resampled.is_empty() {
        return None;
    }
    let silence = wire.balance.silence(phone.unspoken(Track::Inbound));
    wire.resampled.splice(0..0, std::iter::repeat_n(0, silence));
    phone.speak(Track::Inbound, &wire.resampled);
    let excess = wire.balance.excess(phone.unspoken(Track::Inbound));
    (excess > 0).then(|| phone.skip_unspoken(Track::Inbound, excess))
}

/// From the call to the speaker.
pub(super) struct Ear {
    speaker: Speaker,
    wire: Option<Wire>,
    heard: Vec<i16>,
    late: u64,
    /// How loud it is.
    pub(super) level: Level,
}

impl Ear {
    pub(super) fn new(speaker: Speaker) -> Self {
        Self { speaker, wire: None, heard: Vec::new(), late: 0, level: Level::default() }
    }

    /// Begins to play, of a call that is heard at `rate`.
    pub(super) fn start(&mut self, rate: SampleRate) -> Result<(), DeviceError> {
        self.wire = Some(Wire::new(rate, self.speaker.rate()));
        self.speaker.start()
    }

    /// Plays what the phone heard, and gives it; `running` since the start.
    pub(super) fn carry(
        &mut self,
        running: Duration,
        phone: &mut Simulator,
    ) -> Result<&[i16], DeviceError> {
        self.speaker.check(running)?;
        self.heard.clear();
        let Some(wire) = &mut self.wire else { return Ok(&self.heard) };
        phone.take_heard(&mut self.heard);
        self.level.add(&self.heard);
        wire.resampled.clear();
        wire.resampler.process(&self.heard, &mut wire.resampled);
        if !wire.resampled.is_empty() {
            let queued = self.speaker.queued();
            let silence = wire.balance.silence(queued);
            wire.resampled.splice(0..0, std::iter::repeat_n(0, silence));
            // What the device has cannot be taken back, so only what just came can be left out.
            let all = wire.resampled.len();
            let excess = wire.balance.excess(queued + all).min(all);
            let played = self.speaker.play(&wire.resampled[excess..]);
            self.late += (all - played) as u64;
        }
        Ok(&self.heard)
    }

    pub(super) fn account(&self) -> Side {
        Side {
            name: "speaker",
            rate: self.speaker.rate(),
            device: self.speaker.account(),
            late: self.late,
            dry: self.wire.as_ref().map_or(0, |wire| wire.balance.dry),
        }
    }
}

/// What one wire came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Side {
    name: &'static str,
    rate: SampleRate,
    device: Account,
    /// Samples at the device's rate that were dropped because they came too late.
    late: u64,
    /// Times the queue ran dry.
    dry: u64,
}

impl Side {
    /// The figures by name, times in milliseconds.
    pub(super) fn figures(&self) -> [(&'static str, u64); 5] {
        let ms = |samples| self.rate.millis_of(samples);
        let names = match self.name {
            "microphone" => [
                "microphone_ms",
                "microphone_lost_ms",
                "microphone_late_ms",
                "microphone_dry",
                "microphone_gaps",
            ],
            _ => [
                "speaker_ms",
                "speaker_missed_ms",
                "speaker_late_ms",
                "speaker_dry",
                "speaker_gaps",
            ],
        };
        let Account { moved, missed, gaps } = self.device;
        let figures = [ms(moved), ms(missed), ms(self.late), self.dry, gaps];
        std::array::from_fn(|index| (names[index], figures[index]))
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [moved, missed, late, dry, gaps] = self.figures().map(|(_, figure)| figure);
        let missed_how = if self.name == "microphone" { "lost" } else { "missing" };
        let seconds = Duration::from_millis(moved).as_secs_f64();
        write!(
            f,
            "{}: {seconds:.1} s; {missed} ms {missed_how}, {late} ms dropped as too late, {dry} times dry, {gaps} gaps of the driver",
            self.name
        )
    }
}

#[cfg(test)]
mod tests {
    use ringback_proto::Instant;
    use ringback_proto::provider::{self, Dial, Outbox};

    use super::*;

    #[test]
    fn a_queue_begins_with_a_cushion_and_is_cut_when_it_is_late() {
        let mut balance = Balance::new(SampleRate::HZ_8000);
        assert_eq!((balance.silence(0), balance.dry), (480, 0), "the beginning is no gap");
        assert_eq!((balance.silence(1), balance.dry), (0, 0));
        assert_eq!((balance.silence(0), balance.dry), (480, 1));
        assert_eq!(balance.excess(1_600), 0);
        assert_eq!(balance.excess(1_601), 801);
    }

    /// A call over the provider whose stream starts without the bridge, so that a phone can be had without one.
    fn phone() -> (Simulator, Outbox) {
        let provider = provider::find("twilio").expect("a provider");
        let (_, mut phone) = Simulator::new(provider, &Dial::default(), true);
        let mut out = Outbox::new();
        phone.handle_open(Instant::ZERO, &mut out).expect("an open stream");
        assert!(phone.start().is_some());
        (phone, out)
    }

    #[test]
    fn a_microphone_that_runs_fast_never_makes_the_caller_late() {
        let (mut phone, mut out) = phone();
        let mut wire = Wire::new(SampleRate::HZ_8000, SampleRate::HZ_8000);
        let (mut late, mut worst) = (0, 0);
        for frame in 1..=1_500u64 {
            late += say(&mut wire, &[1; 162], &mut phone).unwrap_or(0);
            worst = worst.max(phone.unspoken(Track::Inbound));
            let now = Instant::from_millis(20 * frame);
            phone.handle_timeout(now, &mut out).expect("time goes by");
            out.reset();
        }
        let (came, said) = (1_500 * 162, 1_500 * 160);
        assert!(worst <= 1_600, "{worst} samples waited");
        assert_eq!(
            came + 480 - late - said,
            phone.unspoken(Track::Inbound),
            "nothing is uncounted"
        );
        assert!(late > 800 && wire.balance.dry == 0, "{late} late");
    }

    #[test]
    fn a_microphone_that_runs_slow_is_cushioned_anew_when_it_runs_dry() {
        let (mut phone, mut out) = phone();
        let mut wire = Wire::new(SampleRate::HZ_8000, SampleRate::HZ_8000);
        for frame in 1..=500u64 {
            assert_eq!(say(&mut wire, &[1; 158], &mut phone), None);
            phone.handle_timeout(Instant::from_millis(20 * frame), &mut out).expect("time goes by");
            out.reset();
        }
        // 480 samples of cushion last 240 frames at two samples a frame.
        assert_eq!(wire.balance.dry, 2);
    }

    #[test]
    fn sides_tell_their_figures_in_milliseconds() {
        let device = Account { moved: 96_000, missed: 480, gaps: 1 };
        let side =
            Side { name: "microphone", rate: SampleRate::HZ_48000, device, late: 4_800, dry: 3 };
        assert_eq!(
            side.to_string(),
            "microphone: 2.0 s; 10 ms lost, 100 ms dropped as too late, 3 times dry, 1 gaps of the driver"
        );
        assert_eq!(side.figures()[1], ("microphone_lost_ms", 10));
    }
}
