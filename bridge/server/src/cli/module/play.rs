//! `ringback module test`: plays a sound file to a module through the bridge's own module host, without any call, and prints what
//! comes back. Judges no answer; `check` does.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use ringback_codecs::{SampleRate, wav};
use ringback_module::message::{
    AcceptOut, AudioFormat, Call, Cleared, Framing, FromModule, Kind, MarkReport, MarkStatus,
    Offer, Ready, Role, Start, StopReason, ToModule, Track,
};
use ringback_module::{FrameFlags, VERSION};
use ringback_proto::Instant;
use serde_json::{Value, json};

use super::{ServerArgs, config};
use crate::cli::call::{Sound, read_mono};
use crate::cli::screen::{self, Style};
use crate::cli::{LogArgs, runtime, serve};
use crate::clock::Clock;
use crate::exit::Exit;
use crate::module_host::{
    ChildPool, ChildSpec, FromHost, Hosted, ToHost, WebSocketSpec, spawn_child, spawn_websocket,
};

/// A recording at many times its speed brings far more playback at once than a call may.
const CREDIT_MS: u64 = 24 * 3_600_000;

/// What the module prints is half of what its author wants to see; that it would be started again is of no use to him.
const WHAT_IT_PRINTS: &str = "error,ringback::module_host::stderr=info";

/// Options of `ringback module test`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How the module is started, as with `ringback serve --module`: `"python3 my_module.py"`; or the ws:// or wss:// URL of a server.
    #[arg(value_name = "COMMAND|URL")]
    module: String,
    /// Sound file to play: WAV, any rate; of two channels, the first.
    audio: PathBuf,
    /// So many times as fast as a call.
    #[arg(long, default_value_t = 1.0, value_name = "TIMES", value_parser = speed)]
    speed: f64,
    /// So many seconds of silence behind the file, which end the last utterance.
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = seconds)]
    silence: f64,
    /// The module's configuration, as in a `[[module]]`'s `config`.
    #[arg(long, value_name = "JSON", value_parser = config)]
    config: Option<Value>,
    /// Keep what the module says aloud in this file.
    #[arg(long, short, value_name = "WAV")]
    save: Option<PathBuf>,
    /// One JSON object a line instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Where the module is.
enum Whereabouts {
    Program(Box<ChildSpec>),
    Server(Box<WebSocketSpec>),
}

impl Whereabouts {
    fn of(args: &Args) -> Result<Self, String> {
        let name = "module".to_owned();
        match args.server.server(&args.module) {
            Some(server) => Ok(Self::Server(Box::new(server?))),
            None => {
                let mut spec = ChildSpec::new(name, serve::words(&args.module)?);
                spec.launch.surroundings = crate::module_host::Surroundings::whole();
                Ok(Self::Program(Box::new(spec)))
            }
        }
    }

    fn spawn(self, start: Start) -> Hosted {
        match self {
            Self::Program(spec) => spawn_child(&ChildPool::new(*spec), start),
            Self::Server(spec) => spawn_websocket(*spec, start),
        }
    }
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if (0.1..=1_000.0).contains(&speed) => Ok(speed),
        _ => Err("0.1 to 1000 times".into()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("0 to 60 seconds".into()),
    }
}

pub(super) fn run(args: &Args, log: &LogArgs) -> Exit {
    log.init(WHAT_IT_PRINTS);
    let planned = Whereabouts::of(args).and_then(|module| Ok((module, read_mono(&args.audio)?)));
    let (module, sound) = match planned {
        Ok(planned) => planned,
        Err(error) => return screen::failed(Exit::Usage, error),
    };
    let runtime = match runtime(1) {
        Ok(runtime) => runtime,
        Err(error) => return screen::failed(Exit::Internal, error),
    };
    match runtime.block_on(play(args, module, &sound)) {
        Ok(()) => Exit::Ok,
        Err(problem) => screen::failed(Exit::Failure, problem),
    }
}

/// What a bridge would offer for this sound.
fn start(args: &Args, rate: SampleRate) -> Start {
    let formats = [rate.hz(), 8_000, 16_000, 24_000].map(AudioFormat::pcm).to_vec();
    let features = ["clear", "mark", "hangup"].map(str::to_owned).to_vec();
    let mut start = Start {
        v: VERSION,
        session: "test".into(),
        wall: String::new(),
        kind: Kind::Agent,
        call: Call { id: "test".into(), provider: "test".into(), ..Call::default() },
        config: args.config.clone().unwrap_or_default(),
        offer: Offer {
            tracks: vec![Track { id: 0, role: Role::Caller }],
            input: formats.clone(),
            output: formats,
            frame_ms: vec![10, 20, 40, 60, 100],
            framing: vec![Framing::Raw, Framing::Hdr16],
            features,
        },
        limits: Default::default(),
        credit: Default::default(),
        resume: None,
    };
    start.credit.out_ms = CREDIT_MS;
    start
}

async fn play(args: &Args, module: Whereabouts, sound: &Sound) -> Result<(), String> {
    let clock = Clock::start();
    let start = start(args, sound.rate);
    let stop_ms = start.limits.stop_ms;
    let hosted = module.spawn(start);
    let mut test = Test::new(args, clock, hosted);
    let ready = test.ready().await?;
    if let Some(input) = ready.accept.input {
        let rate = SampleRate::new(input.rate)
            .ok_or_else(|| format!("it wants to hear {} Hz, which nothing has", input.rate))?;
        let mut samples = sound.at(rate);
        let silence = rate.samples_in(Duration::from_secs_f64(args.silence));
        samples.resize(samples.len() + silence as usize, 0);
        test.sound(&samples, rate, u64::from(input.frame_ms.max(1))).await?;
    } else {
        test.note("hears nothing: its `ready` accepts no sound");
    }
    let deadline = Duration::from_millis(stop_ms);
    test.send(ToHost::Stop { reason: StopReason::Hangup, deadline }).await?;
    while !test.is_over {
        let event = test.hosted.recv().await;
        test.take(event)?;
    }
    test.finish(ready.accept.output)
}

/// A module that is played to, and what is known of it so far.
struct Test<'a> {
    args: &'a Args,
    clock: Clock,
    hosted: Hosted,
    style: Style,
    began: Instant,
    frame_ms: u64,
    /// When the sound that ends with each frame was sent.
    sent: Vec<Instant>,
    /// Answers the queue had no room for yet.
    answers: VecDeque<ToModule>,
    /// What it plays, and how much of it was told.
    spoken: Vec<i16>,
    told: usize,
    epoch: u32,
    rate_out: u32,
    messages: usize,
    errors: usize,
    hung_up: bool,
    is_over: bool,
}

impl<'a> Test<'a> {
    fn new(args: &'a Args, clock: Clock, hosted: Hosted) -> Self {
        Self {
            args,
            clock,
            hosted,
            style: Style::of_stdout(),
            began: clock.now(),
            frame_ms: 20,
            sent: Vec::new(),
            answers: VecDeque::new(),
            spoken: Vec::new(),
            told: 0,
            epoch: 0,
            rate_out: 8_000,
            messages: 0,
            errors: 0,
            hung_up: false,
            is_over: false,
        }
    }

    async fn ready(&mut self) -> Result<Ready, String> {
        loop {
            match self.hosted.recv().await {
                FromHost::Ready(ready) => {
                    let took = self.clock.now().saturating_since(self.began);
                    self.rate_out = ready.accept.output.map_or(8_000, |output| output.rate);
                    self.note(&format!("ready after {} ms", took.as_millis()));
                    return Ok(ready);
                }
                event => self.take(event)?,
            }
        }
    }

    /// Sends all of it at its pace, and takes what is said meanwhile.
    async fn sound(
        &mut self,
        samples: &[i16],
        rate: SampleRate,
        frame_ms: u64,
    ) -> Result<(), String> {
        self.frame_ms = frame_ms;
        self.began = self.clock.now();
        let size = (rate.samples_in(Duration::from_millis(frame_ms)) as usize).max(1);
        for (n, piece) in samples.chunks(size).enumerate() {
            let pts = (n * size) as u64;
            let ended = rate.duration_of(pts + piece.len() as u64);
            let due = self.began + ended.div_f64(self.args.speed);
            while self.clock.now() < due && !self.hung_up {
                tokio::select! {
                    event = self.hosted.recv() => self.take(event)?,
                    () = self.clock.sleep_until(Some(due)) => break,
                }
                self.answer().await?;
            }
            if self.hung_up || self.is_over {
                return Ok(());
            }
            let flags = FrameFlags::default();
            let samples = piece.to_vec();
            self.send(ToHost::Audio { track: 0, pts, rate: rate.hz(), flags, samples }).await?;
            self.sent.push(self.clock.now());
        }
        Ok(())
    }

    /// Hands over an item, and waits while the module reads nothing.
    async fn send(&mut self, mut item: ToHost) -> Result<(), String> {
        while let Err(back) = self.hosted.try_send(item) {
            item = back;
            loop {
                match self.hosted.recv().await {
                    FromHost::Writable => break,
                    event => self.take(event)?,
                }
            }
        }
        Ok(())
    }

    async fn answer(&mut self) -> Result<(), String> {
        while let Some(message) = self.answers.pop_front() {
            self.send(ToHost::Message(message)).await?;
        }
        Ok(())
    }

    fn take(&mut self, event: FromHost) -> Result<(), String> {
        match event {
            FromHost::Message(message) => self.message(&message),
            FromHost::Audio { samples, .. } | FromHost::Frame { samples, .. } => {
                self.spoken.extend_from_slice(&samples);
            }
            FromHost::Dropped { samples, .. } => {
                self.errors += 1;
                self.note(&format!("{samples} samples of it were dropped: over its credit"));
            }
            FromHost::Rejected(reject) => {
                return Err(format!(
                    "the module rejected the session: {} {}",
                    reject.code, reject.message
                ));
            }
            FromHost::Restarting { reason, .. } | FromHost::Gone { reason: Some(reason) } => {
                return Err(format!("the module failed: {reason}"));
            }
            FromHost::Gone { reason: None } => self.is_over = true,
            FromHost::Ready(_) | FromHost::NeedStart | FromHost::Writable => {}
        }
        Ok(())
    }

    fn message(&mut self, message: &FromModule) {
        match message {
            // Everything is heard at once here: what a caller hears of it takes a call.
            FromModule::Mark { name } => {
                let status = MarkStatus::Played;
                let (epoch, played_ms) = (self.epoch, self.spoken_ms());
                let report = MarkReport { name: name.clone(), epoch, status, played_ms };
                self.answers.push_back(ToModule::Mark(report));
            }
            FromModule::Clear { epoch } => {
                let epoch = epoch.unwrap_or(self.epoch);
                self.epoch = epoch.saturating_add(1);
                let played_ms = self.spoken_ms();
                self.answers.push_back(ToModule::Cleared(Cleared {
                    epoch,
                    played_ms,
                    ..Cleared::default()
                }));
            }
            FromModule::Hangup(_) => self.hung_up = true,
            FromModule::Error(_) => self.errors += 1,
            // Of no interest to a person, four times a second.
            FromModule::Ack { .. } => return,
            _ => {}
        }
        self.messages += 1;
        self.tell_sound();
        self.tell(message);
    }

    /// All that it said aloud so far.
    fn spoken_ms(&self) -> u64 {
        self.spoken.len() as u64 * 1_000 / u64::from(self.rate_out.max(1))
    }

    /// End of the sound that was sent.
    fn sent_ms(&self) -> u64 {
        self.sent.len() as u64 * self.frame_ms
    }

    /// How long ago the sound up to there was sent, if it was.
    fn since(&self, ms: u64) -> Option<Duration> {
        let last = ms.div_ceil(self.frame_ms).checked_sub(1)?;
        let sent = self.sent.get(usize::try_from(last).ok()?)?;
        Some(self.clock.now().saturating_since(*sent))
    }

    fn tell(&self, message: &FromModule) {
        let about = match message {
            FromModule::Transcript(transcript) => Some(transcript.end_ms),
            FromModule::Vad(vad) => Some(vad.at_ms),
            FromModule::Dtmf(dtmf) => Some(dtmf.at_ms),
            _ => None,
        };
        let latency = about.and_then(|ms| self.since(ms)).map(|latency| latency.as_millis() as u64);
        // What was parsed from JSON can be written as JSON.
        let mut fields = serde_json::to_value(message).unwrap_or_default();
        if self.args.json {
            screen::line(
                json!({ "at_ms": self.sent_ms(), "latency_ms": latency, "message": fields }),
            );
            return;
        }
        let kind = fields.as_object_mut().and_then(|fields| fields.remove("type"));
        let kind = kind.as_ref().and_then(Value::as_str).unwrap_or("unknown");
        let latency =
            latency.map(|ms| self.style.good(format!("  {ms} ms after it"))).unwrap_or_default();
        let kind = self.style.bold(format!("{kind:<11}"));
        self.line(&format!("{kind} {}{latency}", screen::harmless(&fields)));
    }

    /// What it said aloud since it was last told.
    fn tell_sound(&mut self) {
        let samples = self.spoken.len() - std::mem::replace(&mut self.told, self.spoken.len());
        if samples == 0 {
            return;
        }
        let ms = samples as u64 * 1_000 / u64::from(self.rate_out.max(1));
        if self.args.json {
            screen::line(json!({ "at_ms": self.sent_ms(), "sound_ms": ms }));
        } else {
            self.line(&format!("{} {ms} ms", self.style.bold("sound      ")));
        }
    }

    fn note(&self, text: &str) {
        if !self.args.json {
            self.line(&self.style.dim(text));
        }
    }

    /// `text` is harmless.
    fn line(&self, text: &str) {
        let at = Duration::from_millis(self.sent_ms()).as_secs_f64();
        screen::painted(&format!("{}  {text}\n", self.style.dim(format!("{at:8.2} s"))));
    }

    /// The verdict.
    fn finish(mut self, output: Option<AcceptOut>) -> Result<(), String> {
        self.tell_sound();
        let took =
            self.sent.last().map_or(Duration::ZERO, |last| last.saturating_since(self.began));
        self.note(&format!(
            "{} messages to {:.1} s of sound in {:.1} s, {:.1} s said aloud",
            self.messages,
            Duration::from_millis(self.sent_ms()).as_secs_f64(),
            took.as_secs_f64(),
            Duration::from_millis(self.spoken_ms()).as_secs_f64(),
        ));
        if let Some(path) = &self.args.save {
            let rate = output
                .and_then(|output| SampleRate::new(output.rate))
                .unwrap_or(SampleRate::HZ_8000);
            save(path, rate, &self.spoken)
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        match self.errors {
            0 => Ok(()),
            errors => Err(format!("the module had {errors} errors, told above")),
        }
    }
}

fn save(path: &std::path::Path, rate: SampleRate, samples: &[i16]) -> Result<(), String> {
    let file = File::create(path).map_err(|error| error.to_string())?;
    let mut wav = wav::Writer::new(std::io::BufWriter::new(file), rate, 1)
        .map_err(|error| error.to_string())?;
    wav.write(samples).and_then(|()| wav.finish()).map_err(|error| error.to_string())
}
