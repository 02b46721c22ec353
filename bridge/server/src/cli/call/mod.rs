//! `ringback call`: acts as a provider, plays a sound file into the bridge or says words to it, prints what happens and keeps what was
//! heard.

mod speech;

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringback_codecs::{Resampler, SampleRate, wav};
use ringback_proto::Instant;
use ringback_proto::provider::behaviour::{self, Act, Behaviour};
use ringback_proto::provider::{Dial, Digit, Provider, Start};
use ringback_proto::simulator::PhoneEvent;
use serde_json::Value;

use self::speech::{Speech, Wanted};
use super::caller::Caller;
use super::show::Show;
use super::{LogArgs, call_failed, runtime, screen};
use crate::client::{CallEvent, Client, ClientError};
use crate::clock::Clock;
use crate::destination::Destination;
use crate::events::{FollowError, Follower};
use crate::exit::Exit;

/// The call's end is waited for so long once we have hung up: a little longer than modules are given.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The bridge gives up within this time who no longer answers.
const GIVEN_UP: Duration = Duration::from_secs(60);

/// Options of `ringback call`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Sound file to speak: WAV, any rate. Needed for a call, unless its provider carries words.
    #[arg(long, short, value_name = "WAV")]
    audio: Option<PathBuf>,
    /// Say this over a provider whose calls carry words (conversation-relay); any number of times, each after the answer to the last.
    #[arg(long, value_name = "TEXT")]
    say: Vec<String>,
    /// Say each line of this file like that; `-` takes what you type, line by line, until Ctrl-D, and cuts answers off if you like.
    #[arg(long, value_name = "FILE")]
    words: Option<PathBuf>,
    /// Keep what the caller heard in this file.
    #[arg(long, short, value_name = "WAV")]
    save: Option<PathBuf>,
    /// Keys to press once all is said.
    #[arg(long, value_name = "KEYS", default_value = "", value_parser = keys)]
    dtmf: String,
    /// Stay on the line for so many seconds after the last word, for answers to come.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = seconds)]
    linger: f64,
    /// Do what the provider does beside what it promises; several may be given, `help` tells which there are.
    #[arg(long, value_name = "NAME")]
    behaviour: Vec<String>,
    /// Decides when such things happen: the same number, the same call.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Print transcripts as they grow, and not only when they are final.
    #[arg(long)]
    partials: bool,
    // Behind all others, which would stand under its last heading.
    #[command(flatten)]
    caller: Caller,
}

/// Seconds that a duration can be made of.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds")?;
    if (0.0..=3_600.0).contains(&seconds) { Ok(seconds) } else { Err("0 to 3600 seconds".into()) }
}

/// Keys of a telephone.
fn keys(text: &str) -> Result<String, String> {
    match text.chars().find(|&key| Digit::new(key).is_none()) {
        Some(key) => Err(format!("{key:?} is not on a telephone; 0-9, *, # and A-D are")),
        None => Ok(text.to_owned()),
    }
}

pub(super) fn run(args: &Args, log: &LogArgs) -> Exit {
    log.init("warn");
    if args.behaviour.iter().any(|name| name == "help") {
        return screen::print(&behaviours_of(args.caller.provider()));
    }
    let (speech, dial, to) = match plan(args) {
        Ok(planned) => planned,
        Err(error) => return screen::failed(Exit::Usage, error),
    };
    let runtime = match runtime(1) {
        Ok(runtime) => runtime,
        Err(error) => return screen::failed(Exit::Internal, error),
    };
    match runtime.block_on(place(args, dial, to, speech)) {
        Ok(()) => Exit::Ok,
        Err(error) => call_failed(&error),
    }
}

/// The call, with what the caller is to do beside it.
fn dial(args: &Args) -> Result<Dial, String> {
    let provider = args.caller.provider();
    let behaviours = args.behaviour.iter().map(|name| {
        behaviour::find(provider, name).ok_or_else(|| {
            let there = behaviours_of(provider);
            format!("{} has no behaviour {name:?}; there are\n{there}", provider.title())
        })
    });
    let behaviours = behaviours.collect::<Result<_, _>>()?;
    Ok(Dial { behaviours, seed: args.seed, ..args.caller.dial()? })
}

/// What may be asked for with `--behaviour`, a name a line with its sentence and who does it.
fn behaviours_of(provider: &dyn Provider) -> String {
    let row = |b: &'static Behaviour| {
        format!("  {:<22} {}\n  {:22} ({})\n", b.name, b.summary, "", b.source)
    };
    let all = behaviour::all(provider);
    all.into_iter().map(row).collect()
}

/// All that can be wrong before anybody is called.
fn plan(args: &Args) -> Result<(Speech, Dial, Destination), String> {
    let words = args.words.as_deref();
    let wanted = Wanted { audio: args.audio.as_deref(), say: &args.say, words };
    let speech = Speech::new(args.caller.provider(), &wanted)?;
    Ok((speech, dial(args)?, args.caller.destination()?))
}

/// Sound of one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sound {
    pub(super) rate: SampleRate,
    pub(super) samples: Vec<i16>,
}

impl Sound {
    /// The end of it that so many samples of a stream are.
    fn last(&self, samples: usize, start: Option<&Start>) -> Self {
        let rate = start.and_then(|start| start.inbound).map_or(self.rate, |format| format.rate);
        let left = self.rate.samples_in(rate.duration_of(samples as u64)) as usize;
        let from = self.samples.len().saturating_sub(left);
        Self { rate: self.rate, samples: self.samples[from..].to_vec() }
    }

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

async fn place(
    args: &Args,
    mut dial: Dial,
    to: Destination,
    mut speech: Speech,
) -> Result<(), ClientError> {
    let clock = Clock::start();
    let provider = args.caller.provider();
    let beside = !provider.info().capabilities.results;
    // Before the call, so that nothing of it is missed.
    let (connector, peer) = (args.caller.connector(), to.url.peer());
    let follower = match beside.then(|| Follower::connect(&connector, &peer, Some(&dial.call))) {
        Some(connecting) => Some(connecting.await),
        None => None,
    };
    let mut client =
        Client::connect(clock, &connector, to.clone(), provider, dial.clone(), true).await?;
    let mut results = Results(follower.and_then(told));
    let mut show = Show::new(args.caller.json, args.partials, clock.now());
    talk(args, clock, &mut speech, &mut client, &mut results, &mut show).await?;
    if client.redials() {
        dial.behaviours.retain(|behaviour| behaviour.act != Act::Redial);
        speech.begin_again(client.phone());
        client = Client::connect(clock, &connector, to, provider, dial, true).await?;
        talk(args, clock, &mut speech, &mut client, &mut results, &mut show).await?;
    }
    // Modules say their last words after the call, and for no longer than this.
    let last = if client.phone().is_vanished() { GIVEN_UP } else { LAST_WORDS };
    let over = clock.now() + last;
    loop {
        tokio::select! {
            result = results.next() => match result {
                Some(result) => {
                    show.result(clock.now(), &result, |into| client.phone().sent_at(into));
                    if result["type"] == "call.ended" {
                        break;
                    }
                }
                None => break,
            },
            () = clock.sleep_until(Some(over)) => break,
        }
    }
    finish(args, &mut client, &show);
    Ok(())
}

/// Speaks, listens and hangs up.
async fn talk(
    args: &Args,
    clock: Clock,
    speech: &mut Speech,
    client: &mut Client,
    results: &mut Results,
    show: &mut Show,
) -> Result<(), ClientError> {
    let linger = Duration::from_secs_f64(args.linger);
    let mut deadline: Option<Instant> = None;
    loop {
        let now = clock.now();
        let words = speech.go_on(now, linger, client).await?;
        if let Some(words) = words {
            show.note(now, "says", &words);
        }
        if deadline.is_none() && speech.is_over(client.phone()) {
            for digit in args.dtmf.chars().filter_map(Digit::new) {
                client.press(digit).await?;
            }
            show.spoken(now);
            deadline = Some(now + linger);
        }
        if deadline.is_some_and(|at| at <= now) {
            return client.hang_up().await;
        }
        let wake = deadline.unwrap_or(now + Duration::from_millis(20));
        tokio::select! {
            event = client.next() => match event? {
                Some(event) => {
                    speech.heard(&event);
                    heard(clock.now(), &event, client, show);
                }
                None => return Ok(()),
            },
            Some(result) = results.next() => {
                show.result(clock.now(), &result, |into| client.phone().sent_at(into));
            }
            () = clock.sleep_until(Some(wake)) => {}
        }
    }
}

/// Shows what happened at the phone; a result that came on the stream itself is shown like any other.
fn heard(now: Instant, event: &CallEvent, client: &mut Client, show: &mut Show) {
    if let CallEvent::Phone(PhoneEvent::Result(json)) = event
        && let Ok(result) = serde_json::from_str(json)
    {
        return show.result(now, &result, |into| client.phone().sent_at(into));
    }
    show.event(now, event);
}

/// The value, or a word on why there is none.
fn told<T>(result: Result<T, FollowError>) -> Option<T> {
    result.inspect_err(|error| screen::problem(error)).ok()
}

/// What the call's modules find, as the bridge tells it beside the call; nothing where it comes on the stream itself.
struct Results(Option<Follower>);

impl Results {
    /// The next, or `None` if there will be no more. Cancel safe.
    async fn next(&mut self) -> Option<Value> {
        let result = told(self.0.as_mut()?.next().await).flatten();
        if result.is_none() {
            self.0 = None;
        }
        result
    }
}

fn finish(args: &Args, client: &mut Client, show: &Show) {
    show.summary(&client.counters(), &[]);
    let Some(path) = &args.save else { return };
    let rate = client.phone().start().and_then(|s| s.outbound).map(|f| f.rate);
    let Some(rate) = rate else {
        return screen::problem("nothing was saved: no sound can be heard on this stream");
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
    let failed = |error: wav::WavError| format!("cannot write {}: {error}", path.display());
    let file = File::create(path).map_err(|error| failed(error.into()))?;
    let mut writer = wav::Writer::new(BufWriter::new(file), rate, 1).map_err(failed)?;
    writer.write(samples).map_err(failed)?;
    writer.finish().map_err(failed)
}
