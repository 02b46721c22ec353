//! What runs on the driver's threads: callbacks that convert samples and move them through a ring. They never wait and never
//! allocate; what goes wrong is counted for others to read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cpal::traits::DeviceTrait as _;
use cpal::{
    BufferSize, ErrorKind, FromSample, I24, SampleFormat, SizedSample, Stream, StreamConfig,
    SupportedBufferSize, SupportedStreamConfig, U24,
};
use ringback_codecs::SampleRate;
use ringbuf::traits::{Consumer as _, Producer as _, Split as _};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use super::{Account, Device, DeviceError, Direction, RING, find};

/// Asked of devices as the length of one callback: a telephone's frame.
const PERIOD: Duration = Duration::from_millis(20);

/// How a device does, told by its threads.
#[derive(Debug, Default)]
pub(super) struct Health {
    moved: AtomicU64,
    missed: AtomicU64,
    gaps: AtomicU64,
    failure: OnceLock<String>,
}

impl Health {
    /// Figures so far.
    pub(super) fn account(&self) -> Account {
        Account {
            moved: self.moved.load(Ordering::Relaxed),
            missed: self.missed.load(Ordering::Relaxed),
            gaps: self.gaps.load(Ordering::Relaxed),
        }
    }

    /// Why the device works no more.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    fn moved(&self, samples: usize, missed: usize) {
        self.moved.fetch_add(samples as u64, Ordering::Relaxed);
        self.missed.fetch_add(missed as u64, Ordering::Relaxed);
    }

    fn trouble(&self, error: &cpal::Error) {
        match error.kind() {
            ErrorKind::Xrun => {
                self.gaps.fetch_add(1, Ordering::Relaxed);
            }
            // Sound goes on.
            ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied => {}
            _ => {
                // Only the first counts; others follow from it.
                let _ = self.failure.set(error.to_string());
            }
        }
    }
}

/// Opens a microphone; it starts with [`Device::start`].
pub(super) fn open_microphone(name: Option<&str>) -> Result<(Device, HeapCons<i16>), DeviceError> {
    let (listed, device) = find::find(Direction::Input, name)?;
    let config = device.default_input_config();
    open(Direction::Input, listed.id, config, |format, config, ring, health| {
        let (producer, consumer) = ring.split();
        Ok((capture_any(&device, format, config, producer, health)?, consumer))
    })
}

/// Opens a speaker; it starts with [`Device::start`].
pub(super) fn open_speaker(name: Option<&str>) -> Result<(Device, HeapProd<i16>), DeviceError> {
    let (listed, device) = find::find(Direction::Output, name)?;
    let config = device.default_output_config();
    open(Direction::Output, listed.id, config, |format, config, ring, health| {
        let (producer, consumer) = ring.split();
        Ok((render_any(&device, format, config, consumer, health)?, producer))
    })
}

/// Opens a device with `build`, with short callbacks if it can.
fn open<End>(
    direction: Direction,
    name: String,
    config: Result<SupportedStreamConfig, cpal::Error>,
    build: impl Fn(
        SampleFormat,
        StreamConfig,
        HeapRb<i16>,
        Arc<Health>,
    ) -> Result<(Stream, End), cpal::Error>,
) -> Result<(Device, End), DeviceError> {
    let failed = |error: &cpal::Error| DeviceError::open(direction, &name, error);
    let supported = config.map_err(|error| failed(&error))?;
    let (hz, format) = (supported.sample_rate(), supported.sample_format());
    let rate = SampleRate::new(hz).ok_or_else(|| {
        let reason = format!("{hz} Hz are out of range");
        failed(&cpal::Error::with_message(ErrorKind::UnsupportedConfig, reason))
    })?;
    let room = usize::try_from(rate.samples_in(RING)).unwrap_or(usize::MAX);
    let health = Arc::new(Health::default());
    let attempt = |buffer_size| {
        let config = StreamConfig { buffer_size, ..supported.config() };
        build(format, config, HeapRb::new(room), Arc::clone(&health))
    };
    let (stream, end) = match attempt(period(rate, *supported.buffer_size())) {
        Err(error) if error.kind() == ErrorKind::UnsupportedConfig => attempt(BufferSize::Default),
        opened => opened,
    }
    .map_err(|error| failed(&error))?;
    let format = format!("{rate}, {} channels, {format}", supported.channels());
    Ok((Device { direction, name, rate, format, health, stream }, end))
}

/// The callback length to ask for, as near to [`PERIOD`] as the device says it can.
fn period(rate: SampleRate, supported: SupportedBufferSize) -> BufferSize {
    let wanted = u32::try_from(rate.samples_in(PERIOD)).unwrap_or(u32::MAX);
    match supported {
        SupportedBufferSize::Range { min, max } if min <= max => {
            BufferSize::Fixed(wanted.clamp(min, max))
        }
        _ => BufferSize::Default,
    }
}

/// `$function` for the sample type of `$format`.
macro_rules! by_format {
    ($format:expr, $function:ident($($argument:expr),*)) => {
        match $format {
            SampleFormat::I8 => $function::<i8>($($argument),*),
            SampleFormat::I16 => $function::<i16>($($argument),*),
            SampleFormat::I24 => $function::<I24>($($argument),*),
            SampleFormat::I32 => $function::<i32>($($argument),*),
            SampleFormat::I64 => $function::<i64>($($argument),*),
            SampleFormat::U8 => $function::<u8>($($argument),*),
            SampleFormat::U16 => $function::<u16>($($argument),*),
            SampleFormat::U24 => $function::<U24>($($argument),*),
            SampleFormat::U32 => $function::<u32>($($argument),*),
            SampleFormat::U64 => $function::<u64>($($argument),*),
            SampleFormat::F32 => $function::<f32>($($argument),*),
            SampleFormat::F64 => $function::<f64>($($argument),*),
            other => Err(cpal::Error::with_message(
                ErrorKind::UnsupportedOperation,
                format!("its samples are {other}, which is not PCM"),
            )),
        }
    };
}

fn capture_any(
    device: &cpal::Device,
    format: SampleFormat,
    config: StreamConfig,
    ring: HeapProd<i16>,
    health: Arc<Health>,
) -> Result<Stream, cpal::Error> {
    by_format!(format, capture(device, config, ring, health))
}

fn render_any(
    device: &cpal::Device,
    format: SampleFormat,
    config: StreamConfig,
    ring: HeapCons<i16>,
    health: Arc<Health>,
) -> Result<Stream, cpal::Error> {
    by_format!(format, render(device, config, ring, health))
}

fn capture<T>(
    device: &cpal::Device,
    config: StreamConfig,
    mut ring: HeapProd<i16>,
    health: Arc<Health>,
) -> Result<Stream, cpal::Error>
where
    T: SizedSample,
    i16: FromSample<T>,
{
    let channels = usize::from(config.channels.max(1));
    let errors = Arc::clone(&health);
    device.build_input_stream(
        config,
        move |data: &[T], _: &_| {
            let pushed = ring.push_iter(data.chunks_exact(channels).map(mix));
            let frames = data.len() / channels;
            health.moved(frames, frames - pushed);
        },
        move |error| errors.trouble(&error),
        None,
    )
}

fn render<T>(
    device: &cpal::Device,
    config: StreamConfig,
    mut ring: HeapCons<i16>,
    health: Arc<Health>,
) -> Result<Stream, cpal::Error>
where
    T: SizedSample + FromSample<i16>,
{
    let channels = usize::from(config.channels.max(1));
    let errors = Arc::clone(&health);
    let mut begun = false;
    device.build_output_stream(
        config,
        move |data: &mut [T], _: &_| {
            let frames = data.len() / channels;
            let played = spread(&mut ring, data, channels);
            begun |= played > 0;
            health.moved(frames, if begun { frames - played } else { 0 });
        },
        move |error| errors.trouble(&error),
        None,
    )
}

/// One sample of all channels' mean.
fn mix<T: Copy>(frame: &[T]) -> i16
where
    i16: FromSample<T>,
{
    let sum: i32 = frame.iter().map(|&sample| i32::from(i16::from_sample_(sample))).sum();
    let channels = i32::try_from(frame.len()).unwrap_or(i32::MAX);
    i16::try_from(sum / channels).expect("a mean of 16-bit samples is one")
}

/// Fills `data` with what the ring has, the same in all channels, then with silence; gives how many samples the ring had.
fn spread<T: SizedSample + FromSample<i16>>(
    ring: &mut HeapCons<i16>,
    data: &mut [T],
    channels: usize,
) -> usize {
    let mut sound = ring.pop_iter();
    let mut played = 0;
    for frame in data.chunks_exact_mut(channels) {
        let sample = sound.next();
        played += usize::from(sample.is_some());
        frame.fill(sample.map_or(T::EQUILIBRIUM, T::from_sample_));
    }
    played
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_and_sample_types_become_one_i16() {
        assert_eq!(mix(&[0.5f32, -0.25]), 4096);
        assert_eq!(mix(&[2.0f32]), i16::MAX, "too loud is as loud as can be");
        assert_eq!(mix(&[f64::NAN]), 0);
        assert_eq!(mix(&[u16::MAX, u16::MAX]), i16::MAX);
        assert_eq!(mix(&[0u8, 128, 128, 128]), i16::MIN / 4);
        assert_eq!(mix(&[i16::MIN; 6]), i16::MIN);
    }

    #[test]
    fn a_speaker_gets_sound_on_all_channels_and_then_silence() {
        let (mut producer, mut consumer) = HeapRb::<i16>::new(8).split();
        producer.push_slice(&[0x4000, -0x8000]);
        let mut data = [1u16; 6];
        assert_eq!(spread(&mut consumer, &mut data, 2), 2);
        assert_eq!(data, [0xc000, 0xc000, 0, 0, 0x8000, 0x8000]);
        assert_eq!(producer.push_slice(&[1; 9]), 8, "what was played made room");
    }

    #[test]
    fn callbacks_are_as_long_as_a_phone_frame_where_the_device_can() {
        let rate = SampleRate::HZ_48000;
        let range = |min, max| SupportedBufferSize::Range { min, max };
        assert_eq!(period(rate, range(64, 4_096)), BufferSize::Fixed(960));
        assert_eq!(period(rate, range(1_024, 4_096)), BufferSize::Fixed(1_024));
        assert_eq!(period(rate, SupportedBufferSize::Unknown), BufferSize::Default);
    }

    #[test]
    fn gaps_are_counted_and_the_first_failure_is_kept() {
        let health = Health::default();
        for kind in [ErrorKind::Xrun, ErrorKind::DeviceChanged, ErrorKind::Xrun] {
            health.trouble(&cpal::Error::new(kind));
        }
        assert_eq!((health.account().gaps, health.failure()), (2, None));
        for reason in ["unplugged", "and so"] {
            health.trouble(&cpal::Error::with_message(ErrorKind::DeviceNotAvailable, reason));
        }
        assert_eq!(health.failure(), Some("unplugged"));
    }
}
