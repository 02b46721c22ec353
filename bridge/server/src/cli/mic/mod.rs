//! `ringback mic`: your microphone and speaker as a caller, behind any provider. Devices are opened elsewhere, and so is the call.

mod line;
mod meter;

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::time::Duration;

use ringback_codecs::{SampleRate, wav};
use ringback_proto::Instant;
use ringback_proto::provider::Start;
use ringback_proto::simulator::PhoneEvent;

use super::caller::Caller;
use super::show::Show;
use super::{LogArgs, runtime, screen};
use crate::audio_device::{self, DeviceError, Direction, Microphone, Speaker};
use crate::client::{CallEvent, Client, ClientError};
use crate::clock::Clock;
use crate::exit::Exit;
use crate::shutdown::Shutdown;
use line::{Ear, Mouth, Side};
use meter::Meter;

/// How often sound is carried between devices and call.
const TICK: Duration = Duration::from_millis(10);

/// What the phone waits before it plays a voice, for the network and this machine to be late by.
const CUSHION: Duration = Duration::from_millis(40);

/// Options of `ringback mic`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Microphone: a name of --list, or a part of one; the default is the system's.
    #[arg(long, short, value_name = "NAME")]
    input: Option<String>,
    /// Speaker: a name of --list, or a part of one; the default is the system's.
    #[arg(long, short, value_name = "NAME")]
    output: Option<String>,
    /// List microphones and speakers, and call nobody.
    #[arg(long)]
    list: bool,
    /// Hang up after so many seconds; 0 is when Ctrl-C is pressed.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    seconds: f64,
    /// Keep what you hear in this file.
    #[arg(long, short, value_name = "WAV")]
    save: Option<PathBuf>,
    /// Show no levels. They are only shown on a terminal anyway.
    #[arg(long)]
    no_level: bool,
    // Behind all others, which would stand under its last heading.
    #[command(flatten)]
    caller: Caller,
}

/// Why a call ended badly.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Call(#[from] ClientError),
    #[error("cannot write {}: {reason}", .path.display())]
    Save { path: PathBuf, reason: String },
    #[error("{0}")]
    Usage(String),
    #[error("cannot watch for Ctrl-C: {0}")]
    Signals(std::io::Error),
}

impl Failure {
    const fn exit(&self) -> Exit {
        match self {
            Self::Device(_) | Self::Call(ClientError::Connect { .. }) => Exit::Unavailable,
            Self::Call(_) | Self::Save { .. } => Exit::Failure,
            Self::Usage(_) => Exit::Usage,
            Self::Signals(_) => Exit::Internal,
        }
    }
}

pub(super) fn run(args: &Args, log: &LogArgs) -> Exit {
    log.init("warn");
    let done = if args.list {
        list().map_err(Failure::from)
    } else {
        match runtime(1) {
            Ok(runtime) => runtime.block_on(call(args)),
            Err(error) => return screen::failed(Exit::Internal, error),
        }
    };
    match done {
        Ok(()) => Exit::Ok,
        Err(error) => {
            screen::problem(&error);
            error.exit()
        }
    }
}

fn list() -> Result<(), DeviceError> {
    for (direction, title) in
        [(Direction::Input, "microphones (--input)"), (Direction::Output, "speakers (--output)")]
    {
        let devices = audio_device::list(direction)?;
        let width = devices.iter().map(|device| device.id.chars().count()).max().unwrap_or(0);
        screen::line(
            format!("{title}: {}", if devices.is_empty() { "none" } else { "" }).trim_end(),
        );
        for device in devices {
            let mark = if device.default { '*' } else { ' ' };
            screen::line(format!("{mark} {:width$}  {}", device.id, device.name));
        }
    }
    screen::line("* is used if none is named");
    Ok(())
}

async fn call(args: &Args) -> Result<(), Failure> {
    let provider = args.caller.provider();
    if !provider.has_sound() {
        let (title, name) = (provider.title(), provider.name());
        let hint = format!("talk to it with `ringback call --provider {name} --say \"...\"`");
        return Err(Failure::Usage(format!("{title} carries words and no sound; {hint}")));
    }
    let shutdown = Shutdown::new();
    shutdown.on_signals().map_err(Failure::Signals)?;
    // Before anybody is called: without them there is nothing to say and nobody to hear it.
    let microphone = Microphone::open(args.input.as_deref())?;
    let speaker = match args.caller.one_way {
        true => None,
        false => Some(Speaker::open(args.output.as_deref())?),
    };
    let clock = Clock::start();
    let caller = &args.caller;
    let show = Show::new(caller.json, false, clock.now());
    show.note(clock.now(), "microphone", &microphone.to_string());
    if let Some(speaker) = &speaker {
        show.note(clock.now(), "speaker", &speaker.to_string());
    }
    let dial = caller.dial().map_err(Failure::Usage)?;
    let to = caller.destination().map_err(Failure::Usage)?;
    let (connector, provider) = (caller.connector(), caller.provider());
    let mut client = Client::connect(clock, &connector, to, provider, dial, true).await?;
    client.phone().set_cushion(CUSHION);
    let mut seat = Seat {
        args,
        clock,
        show,
        mouth: Mouth::new(microphone),
        ear: speaker.map(Ear::new),
        saved: None,
        started: None,
        meter: Meter::new(!args.no_level),
    };
    let talked = seat.talk(&mut client, &shutdown).await;
    seat.meter.wipe();
    // A call that broke is hung up as well as it can be; the first error tells more than that one's.
    let hung_up = tokio::select! {
        done = client.hang_up() => done.map_err(Failure::from),
        () = shutdown.cut_off() => Ok(()),
    };
    let kept = seat.finish(&client);
    talked.and(hung_up).and(kept)
}

/// Where the person sits: between two devices and a call.
struct Seat<'a> {
    args: &'a Args,
    clock: Clock,
    show: Show,
    mouth: Mouth,
    ear: Option<Ear>,
    saved: Option<wav::Writer<BufWriter<File>>>,
    /// When the devices were started, which is when the call was.
    started: Option<Instant>,
    meter: Meter,
}

impl Seat<'_> {
    /// Talks until the call ends, the time is over or somebody presses Ctrl-C.
    async fn talk(&mut self, client: &mut Client, shutdown: &Shutdown) -> Result<(), Failure> {
        let seconds = self.args.seconds.clamp(0.0, 1e9);
        let begun = self.clock.now();
        let end = (seconds > 0.0).then(|| begun + Duration::from_secs_f64(seconds));
        let mut tick = begun + TICK;
        loop {
            tokio::select! {
                () = shutdown.drained() => return Ok(()),
                event = client.next() => match event? {
                    Some(event) => self.event(client, &event)?,
                    None => return Ok(()),
                },
                () = self.clock.sleep_until(Some(tick)) => {
                    let now = self.clock.now();
                    self.carry(now, client)?;
                    if end.is_some_and(|end| end <= now) {
                        return Ok(());
                    }
                    tick = now + TICK;
                }
            }
        }
    }

    fn event(&mut self, client: &mut Client, event: &CallEvent) -> Result<(), Failure> {
        self.meter.wipe();
        self.show.event(self.clock.now(), event);
        if let CallEvent::Phone(PhoneEvent::Started(start)) = event {
            self.start(start)?;
            self.carry(self.clock.now(), client)?;
        }
        Ok(())
    }

    /// The call is there: now the microphone may listen.
    fn start(&mut self, start: &Start) -> Result<(), Failure> {
        if let Some(format) = start.inbound {
            self.mouth.start(format.rate)?;
        }
        if let (Some(ear), Some(format)) = (&mut self.ear, start.outbound) {
            ear.start(format.rate)?;
            self.saved =
                self.args.save.as_ref().map(|path| create(path, format.rate)).transpose()?;
        } else if self.args.save.is_some() {
            screen::problem("nothing will be saved: the stream is one-way");
        }
        self.started = Some(self.clock.now());
        Ok(())
    }

    /// Carries sound both ways.
    fn carry(&mut self, now: Instant, client: &mut Client) -> Result<(), Failure> {
        let Some(started) = self.started else { return Ok(()) };
        let running = now - started;
        self.mouth.carry(running, client.phone())?;
        if let Some(ear) = &mut self.ear {
            let heard = ear.carry(running, client.phone())?;
            if let Some(file) = &mut self.saved {
                file.write(heard).map_err(|error| self.not_saved(&error))?;
            }
        }
        self.meter.show(now, &mut self.mouth.level, self.ear.as_mut().map(|ear| &mut ear.level));
        Ok(())
    }

    /// Ends the file and says what the call came to.
    fn finish(&mut self, client: &Client) -> Result<(), Failure> {
        let kept = match self.saved.take() {
            Some(file) => file.finish().map(|()| true).map_err(|error| self.not_saved(&error)),
            None => Ok(false),
        };
        let sides = [Some(self.mouth.account()), self.ear.as_ref().map(Ear::account)];
        let sides: Vec<Side> = sides.into_iter().flatten().collect();
        let figures: Vec<_> = sides.iter().flat_map(Side::figures).collect();
        self.show.summary(&client.counters(), &figures);
        if !self.args.caller.json {
            sides.iter().for_each(screen::line);
            if let (Ok(true), Some(path)) = (&kept, &self.args.save) {
                screen::line(format!("what you heard: {}", path.display()));
            }
        }
        kept.map(|_| ())
    }

    fn not_saved(&self, error: &wav::WavError) -> Failure {
        let path = self.args.save.clone().unwrap_or_default();
        Failure::Save { path, reason: error.to_string() }
    }
}

fn create(path: &PathBuf, rate: SampleRate) -> Result<wav::Writer<BufWriter<File>>, Failure> {
    let failed = |reason| Failure::Save { path: path.clone(), reason };
    let file = File::create(path).map_err(|error| failed(error.to_string()))?;
    wav::Writer::new(BufWriter::new(file), rate, 1).map_err(|error| failed(error.to_string()))
}
