//! `ringback call`: acts as a provider, plays a sound file into the bridge, prints what happens and keeps what was heard.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringback_codecs::{Resampler, SampleRate, wav};
use ringback_proto::Instant;
use ringback_proto::provider::{Digit, Track};

use super::caller::{Caller, Show};
use super::{LogArgs, runtime, screen};
use crate::client::{Client, ClientError};
use crate::clock::Clock;
use crate::exit::Exit;

/// Options of `ringback call`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    caller: Caller,
    /// Sound file to speak: WAV, any rate.
    #[arg(long, short, value_name = "WAV")]
    audio: PathBuf,
    /// Keep what the caller heard in this file.
    #[arg(long, short, value_name = "WAV")]
    save: Option<PathBuf>,
    /// Keys to press once the file is spoken.
    #[arg(long, value_name = "KEYS", default_value = "")]
    dtmf: String,
    /// Stay on the line for so many seconds after the last word, for answers to come.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    linger: f64,
}

pub(super) fn run(args: &Args, log: &LogArgs) -> Exit {
    log.init("warn");
    let sound = match read_mono(&args.audio) {
        Ok(sound) => sound,
        Err(error) => {
            screen::problem(error);
            return Exit::Usage;
        }
    };
    let runtime = match runtime(1) {
        Ok(runtime) => runtime,
        Err(error) => {
            screen::problem(error);
            return Exit::Internal;
        }
    };
    match runtime.block_on(place(args, &sound)) {
        Ok(()) => Exit::Ok,
        Err(error) => {
            screen::problem(&error);
            if matches!(error, ClientError::Connect { .. }) {
                Exit::Unavailable
            } else {
                Exit::Failure
            }
        }
    }
}

/// Sound of one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sound {
    pub(super) rate: SampleRate,
    pub(super) samples: Vec<i16>,
}

impl Sound {
    /// The same sound at another rate.
    pub(super) fn at(&self, rate: SampleRate) -> Vec<i16> {
        let mut resampler = Resampler::new(self.rate, rate);
        let mut samples = Vec::new();
        resampler.process(&self.samples, &mut samples);
        resampler.finish(&mut samples);
        samples
    }
}

/// Reads a sound file; of two channels, the first.
pub(super) fn read_mono(path: &Path) -> Result<Sound, String> {
    let shown = path.display();
    let file = File::open(path).map_err(|error| format!("cannot open {shown}: {error}"))?;
    read_mono_from(std::io::BufReader::new(file)).map_err(|error| format!("{shown}: {error}"))
}

/// Reads sound from anywhere; of two channels, the first.
pub(super) fn read_mono_from(reader: impl std::io::Read) -> Result<Sound, String> {
    let wav = wav::read(reader).map_err(|error| error.to_string())?;
    let samples = wav.samples.iter().step_by(usize::from(wav.channels.max(1))).copied().collect();
    Ok(Sound { rate: wav.rate, samples })
}

async fn place(args: &Args, sound: &Sound) -> Result<(), ClientError> {
    let clock = Clock::start();
    let Args { caller, .. } = args;
    let mut client =
        Client::connect(clock, &caller.url(), caller.provider(), caller.dial(), true).await?;
    let mut show = Show::new(caller.json, clock.now());
    let mut spoken = false;
    let mut deadline: Option<Instant> = None;
    loop {
        if let (false, Some(start)) = (spoken, client.phone().start()) {
            let rate = start.inbound.rate;
            client.speak(&sound.at(rate));
            spoken = true;
        }
        let now = clock.now();
        if spoken && deadline.is_none() && client.phone().unspoken(Track::Inbound) == 0 {
            for digit in args.dtmf.chars().filter_map(Digit::new) {
                client.press(digit).await?;
            }
            show.spoken_at = Some(now);
            deadline = Some(now + Duration::from_secs_f64(args.linger.clamp(0.0, 3_600.0)));
        }
        if deadline.is_some_and(|at| at <= now) {
            client.hang_up().await?;
            break;
        }
        let wake = deadline.unwrap_or(now + Duration::from_millis(20));
        tokio::select! {
            event = client.next() => match event? {
                Some(event) => show.event(clock.now(), &event),
                None => break,
            },
            () = clock.sleep_until(Some(wake)) => {}
        }
    }
    show.summary(client.counters(), &[]);
    finish(args, &mut client);
    Ok(())
}

fn finish(args: &Args, client: &mut Client) {
    let Some(path) = &args.save else { return };
    let rate = client.phone().start().and_then(|s| s.outbound).map(|f| f.rate);
    let Some(rate) = rate else {
        return screen::problem("nothing was saved: the stream is one-way");
    };
    match save(path, rate, client.phone().heard()) {
        Ok(()) if !args.caller.json => {
            screen::line(format!("what the caller heard: {}", path.display()));
        }
        Ok(()) => {}
        Err(error) => screen::problem(error),
    }
}

/// Writes a mono WAV file.
pub(super) fn save(path: &Path, rate: SampleRate, samples: &[i16]) -> Result<(), String> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate.hz(),
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let failed = |error: hound::Error| format!("cannot write {}: {error}", path.display());
    let mut writer = hound::WavWriter::create(path, spec).map_err(failed)?;
    for &sample in samples {
        writer.write_sample(sample).map_err(failed)?;
    }
    writer.finalize().map_err(failed)
}
