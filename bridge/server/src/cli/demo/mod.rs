//! `ringback demo`: a whole call on this machine, with nothing configured: bridge, caller, transcript, reply, recording, picture.

mod python;
mod show;
mod stage;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ringback_proto::provider::{self, Dial, Track};
use ringback_proto::simulator::PhoneEvent;

use super::call::{Sound, read_mono_from};
use super::{LogArgs, runtime, screen};
use crate::bridge::Bridge;
use crate::client::{CallEvent, Client, WsUrl};
use crate::clock::Clock;
use crate::config::{Config, Context, Overrides};
use crate::exit::Exit;
use crate::net::{Listener as _, TcpListener};
use crate::outgoing::Connector;
use crate::shutdown::Shutdown;
use crate::workers::Workers;
use show::{Heard, Show};
use stage::Stage;

/// What the caller says; the words are those of the sound file's manifest.
const CALLER: &[u8] = include_bytes!("../../../../../test-audio/call-appointment.wav");
const WORDS: &str = "hello i would like to make an appointment for next tuesday morning \
     my telephone number is five five five two three four seven please call me back this afternoon";
/// After the last word, the call waits so long for transcript and reply.
const PATIENCE: Duration = Duration::from_secs(20);
/// Modules load before the caller speaks: nobody answers the phone before the person behind it is awake.
const LOADING: Duration = Duration::from_secs(30);

/// Options of `ringback demo`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where recording and picture go.
    #[arg(long, value_name = "DIR", default_value = "ringback-demo")]
    out: PathBuf,
    /// Provider the caller comes over.
    #[arg(long, short, default_value = "twilio")]
    provider: String,
    /// Python with PocketSphinx in it; without this, one is looked for and, if need be, set up.
    #[arg(long, value_name = "PROGRAM", env = "RINGBACK_PYTHON")]
    python: Option<PathBuf>,
}

pub(super) fn run(args: &Args, log: &LogArgs) -> Exit {
    log.init("warn");
    match demo(args) {
        Ok(()) => Exit::Ok,
        Err(error) => screen::failed(Exit::Failure, error),
    }
}

fn demo(args: &Args) -> Result<(), String> {
    let provider = provider::find(&args.provider).ok_or_else(|| {
        format!("no provider is called `{}`; see `ringback providers`", args.provider)
    })?;
    let python = python::find(args.python.as_deref())?;
    let stage = Stage::set(&args.out)?;
    let caller = read_mono_from(CALLER)?;
    let toml = stage.config(&python, provider.name());
    let config = Config::parse("the demo", &toml, &Overrides::default(), &Context::of_process())
        .map_err(|error| error.to_string())?;
    let runtime = runtime(0).map_err(|error| format!("cannot start: {error}"))?;
    let heard = runtime.block_on(perform(config, provider, &caller))?;
    stage.finish(&heard, WORDS)
}

/// The whole call; what was understood.
async fn perform(
    config: Config,
    provider: &'static dyn provider::Provider,
    caller: &Sound,
) -> Result<Heard, String> {
    let clock = Clock::start();
    let shutdown = Shutdown::new();
    let listener = TcpListener::bind(config.bind).map_err(|e| format!("cannot listen: {e}"))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let show = Arc::new(Show::new());
    let watch: Arc<dyn crate::call::Watch> = show.clone();
    let bridge = Bridge::new(&config, clock, shutdown.clone(), Some(&watch));
    let serving = tokio::spawn(async move { bridge.run(&config, listener, Workers::here()).await });
    let url = WsUrl::plain(address.to_string(), format!("/{}", provider.name()));
    show.line(&format!("bridge on ws://{address}, a caller comes over {}", provider.title()));
    let outcome = call(clock, &url, provider, caller, &show).await;
    shutdown.drain();
    serving.await.map_err(|e| format!("the bridge failed: {e}"))?;
    outcome?;
    Ok(show.heard())
}

async fn call(
    clock: Clock,
    url: &WsUrl,
    provider: &dyn provider::Provider,
    caller: &Sound,
    show: &Show,
) -> Result<(), String> {
    let failed = |error: crate::client::ClientError| error.to_string();
    let mut client =
        Client::connect(clock, &Connector::default(), url, provider, Dial::default(), true)
            .await
            .map_err(failed)?;
    let loading = clock.now() + LOADING;
    let mut spoken = false;
    let mut last_word = None;
    loop {
        let now = clock.now();
        let ready = show.is_listening() || now >= loading;
        let format = client.phone().start().and_then(|start| start.inbound);
        if let (false, true, Some(format)) = (spoken, ready, format) {
            show.begin(now);
            client.speak(&caller.at(format.rate));
            spoken = true;
        }
        if spoken && last_word.is_none() && client.phone().unspoken(Track::Inbound) == 0 {
            last_word = Some(now);
        }
        if let Some(at) = last_word
            && (show.is_complete(at) || now >= at + PATIENCE)
        {
            return client.hang_up().await.map_err(failed);
        }
        tokio::select! {
            event = client.next() => match event.map_err(failed)? {
                Some(CallEvent::Phone(PhoneEvent::PlaybackEnded)) => show.reply_ended(clock.now()),
                Some(CallEvent::Phone(PhoneEvent::PlaybackBegan)) => show.reply_began(clock.now()),
                Some(CallEvent::Closed { code, reason }) => {
                    return Err(format!("the bridge closed the call: {code} {reason}"));
                }
                Some(_) => {}
                None => return Err("the call ended before its time".into()),
            },
            () = clock.sleep_until(Some(now + Duration::from_millis(20))) => {}
        }
    }
}
