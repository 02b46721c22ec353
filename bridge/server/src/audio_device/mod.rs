//! Microphones and speakers of this machine as bounded rings of mono samples. Resamples nothing and knows of no call.

mod error;
mod find;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use cpal::traits::StreamTrait as _;
use ringback_codecs::SampleRate;
use ringbuf::traits::{Consumer as _, Observer as _, Producer as _};
use ringbuf::{HeapCons, HeapProd};

pub use error::DeviceError;
pub use find::{Listed, list};
use stream::Health;

/// What a ring between a device and the program holds at most.
const RING: Duration = Duration::from_millis(500);
/// How far a device may be ahead of the clock before it is no device of sound: drivers fill their buffers when they start.
const HEAD_START: Duration = Duration::from_secs(2);

/// Which way sound goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Into the program.
    Input,
    /// Out of it.
    Output,
}

impl Direction {
    /// What such a device is called.
    const fn noun(self) -> &'static str {
        match self {
            Self::Input => "microphone",
            Self::Output => "speaker",
        }
    }

    /// The option that chooses one.
    const fn option(self) -> &'static str {
        match self {
            Self::Input => "--input",
            Self::Output => "--output",
        }
    }
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.noun())
    }
}

/// How a device did, in samples of one channel at its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// Samples that the device gave or took.
    pub moved: u64,
    /// Of a microphone: samples lost because its ring was full. Of a speaker: samples of silence because its ring was empty,
    /// counted from the first sound on.
    pub missed: u64,
    /// Gaps that the driver reported itself.
    pub gaps: u64,
}

/// What both kinds of device have.
struct Device {
    direction: Direction,
    name: String,
    rate: SampleRate,
    format: String,
    health: Arc<Health>,
    stream: cpal::Stream,
}

impl Device {
    fn start(&self) -> Result<(), DeviceError> {
        self.stream.play().map_err(|error| DeviceError::open(self.direction, &self.name, &error))
    }

    fn check(&self, running: Duration) -> Result<(), DeviceError> {
        let (direction, name) = (self.direction, self.name.clone());
        if let Some(reason) = self.health.failure() {
            return Err(DeviceError::Lost { direction, name, reason: reason.to_owned() });
        }
        let most = self.rate.samples_in(running * 2 + HEAD_START);
        if self.health.account().moved > most {
            return Err(DeviceError::NotPaced { direction, name });
        }
        Ok(())
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.format)
    }
}

/// A microphone. Silent until [`Microphone::start`]; ends when dropped. Prints as its name and format.
pub struct Microphone {
    device: Device,
    ring: HeapCons<i16>,
}

impl Microphone {
    /// Opens the microphone of this name (see [`list`]), or the system's default one. All channels are mixed into one.
    ///
    /// # Errors
    /// If there is none, or it cannot be opened; says what to do.
    pub fn open(name: Option<&str>) -> Result<Self, DeviceError> {
        let (device, ring) = stream::open_microphone(name)?;
        Ok(Self { device, ring })
    }

    /// Samples a second.
    #[must_use]
    pub fn rate(&self) -> SampleRate {
        self.device.rate
    }

    /// Begins to listen.
    ///
    /// # Errors
    /// If the device does not start.
    pub fn start(&self) -> Result<(), DeviceError> {
        self.device.start()
    }

    /// Appends what came since the last call, at most half a second, and gives the number of samples.
    pub fn take(&mut self, into: &mut Vec<i16>) -> usize {
        let before = into.len();
        into.extend(self.ring.pop_iter());
        into.len() - before
    }

    /// Figures so far.
    #[must_use]
    pub fn account(&self) -> Account {
        self.device.health.account()
    }

    /// Whether it still is a microphone, `running` since its start.
    ///
    /// # Errors
    /// If it is gone, or gives sound much faster than real time.
    pub fn check(&self, running: Duration) -> Result<(), DeviceError> {
        self.device.check(running)
    }
}

impl std::fmt::Display for Microphone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.device.fmt(f)
    }
}

/// A speaker. Silent until [`Speaker::start`]; ends when dropped, whatever is queued. Prints as its name and format.
pub struct Speaker {
    device: Device,
    ring: HeapProd<i16>,
}

impl Speaker {
    /// Opens the speaker of this name (see [`list`]), or the system's default one. The sound goes to all its channels.
    ///
    /// # Errors
    /// If there is none, or it cannot be opened; says what to do.
    pub fn open(name: Option<&str>) -> Result<Self, DeviceError> {
        let (device, ring) = stream::open_speaker(name)?;
        Ok(Self { device, ring })
    }

    /// Samples a second.
    #[must_use]
    pub fn rate(&self) -> SampleRate {
        self.device.rate
    }

    /// Begins to play what is queued, and silence when nothing is.
    ///
    /// # Errors
    /// If the device does not start.
    pub fn start(&self) -> Result<(), DeviceError> {
        self.device.start()
    }

    /// Samples given and not taken by the device yet.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.ring.occupied_len()
    }

    /// Queues sound, and gives the number of samples for which there was room; half a second is the most that is queued.
    pub fn play(&mut self, samples: &[i16]) -> usize {
        self.ring.push_slice(samples)
    }

    /// Figures so far.
    #[must_use]
    pub fn account(&self) -> Account {
        self.device.health.account()
    }

    /// Whether it still is a speaker, `running` since its start.
    ///
    /// # Errors
    /// If it is gone, or takes sound much faster than real time.
    pub fn check(&self, running: Duration) -> Result<(), DeviceError> {
        self.device.check(running)
    }
}

impl std::fmt::Display for Speaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.device.fmt(f)
    }
}
