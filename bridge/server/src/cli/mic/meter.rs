//! How loud both ends are, as one line that is written over on a terminal. Nowhere else is anything written.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use ringback_proto::Instant;

/// Time between two pictures.
const PERIOD: Duration = Duration::from_millis(100);
/// Characters of a bar; the whole line has to fit 80.
const WIDTH: usize = 20;
/// Level at the left end of a bar, in dBFS; the right end is full scale.
const FLOOR: f64 = -60.0;

/// Peak and mean power since they were last asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Level {
    peak: u16,
    power: u64,
    samples: u64,
}

impl Level {
    pub(super) fn add(&mut self, samples: &[i16]) {
        for &sample in samples {
            let size = sample.unsigned_abs();
            self.peak = self.peak.max(size);
            self.power += u64::from(size) * u64::from(size);
        }
        self.samples += samples.len() as u64;
    }

    /// Root mean square and peak in dBFS, a full-scale square wave being 0; minus infinity for silence. Begins anew.
    fn take(&mut self) -> (f64, f64) {
        let Self { peak, power, samples } = std::mem::take(self);
        let full = 32_768.0;
        let mean = power as f64 / samples.max(1) as f64;
        (20.0 * (mean.sqrt() / full).log10(), 20.0 * (f64::from(peak) / full).log10())
    }
}

/// The line of levels, on standard error so that redirected events stay whole.
#[derive(Debug)]
pub(super) struct Meter {
    on: bool,
    shown: bool,
    next: Instant,
}

impl Meter {
    /// A meter that shows itself if it is `wanted` and there is a terminal.
    pub(super) fn new(wanted: bool) -> Self {
        Self { on: wanted && io::stderr().is_terminal(), shown: false, next: Instant::ZERO }
    }

    /// Shows the levels since it last did, if that was long enough ago.
    pub(super) fn show(&mut self, now: Instant, mouth: &mut Level, ear: Option<&mut Level>) {
        if !self.on || now < self.next {
            return;
        }
        self.next = now + PERIOD;
        let ear = ear.map(|ear| format!("   hear {}", bar(ear.take()))).unwrap_or_default();
        self.write(&format!("\r\x1b[Kspeak {}{ear}", bar(mouth.take())));
        self.shown = true;
    }

    /// Makes way for another line.
    pub(super) fn wipe(&mut self) {
        if std::mem::take(&mut self.shown) {
            self.write("\r\x1b[K");
        }
    }

    fn write(&mut self, text: &str) {
        let mut err = io::stderr().lock();
        // A terminal that is gone needs no levels.
        self.on = err.write_all(text.as_bytes()).and_then(|()| err.flush()).is_ok();
    }
}

/// A bar as long as the mean, with a stroke at the peak, and the mean in figures.
fn bar((mean, peak): (f64, f64)) -> String {
    let place = |level: f64| ((level.max(FLOOR) / FLOOR - 1.0) * -(WIDTH as f64)).round() as usize;
    let (mean_at, peak_at) = (place(mean), place(peak));
    let mut bar: Vec<char> = (0..WIDTH).map(|at| if at < mean_at { '█' } else { '·' }).collect();
    if peak_at > mean_at {
        bar[peak_at.min(WIDTH) - 1] = '│';
    }
    let figure = if mean < FLOOR { "  -∞".to_owned() } else { format!("{mean:4.0}") };
    format!("{} {figure} dBFS", bar.into_iter().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_of_what_came_since_and_relative_to_full_scale() {
        let mut level = Level::default();
        level.add(&[i16::MIN, 0]);
        level.add(&[i16::MIN, 0]);
        let (mean, peak) = level.take();
        assert!((mean + 3.01).abs() < 0.01 && peak.abs() < 0.01, "{mean} {peak}");
        assert_eq!(level.take(), (f64::NEG_INFINITY, f64::NEG_INFINITY));
    }

    #[test]
    fn bars_are_of_one_length_whatever_they_show() {
        let none = bar((f64::NEG_INFINITY, f64::NEG_INFINITY));
        assert_eq!(none, format!("{}   -∞ dBFS", "·".repeat(WIDTH)));
        assert_eq!(bar((0.0, 0.0)), format!("{}    0 dBFS", "█".repeat(WIDTH)));
        assert_eq!(
            bar((-30.0, -15.0)),
            format!("{}····│{}  -30 dBFS", "█".repeat(10), "·".repeat(5))
        );
        for level in [-1.0, -59.9, -60.0, -200.0] {
            assert_eq!(bar((level, 0.0)).chars().count(), none.chars().count(), "{level}");
        }
    }
}
