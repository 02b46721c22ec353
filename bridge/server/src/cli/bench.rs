//! `ringback bench`: starts a bridge of its own, loads it with calls, prints what it cost.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ringback_codecs::{MediaFormat, SampleRate};
use ringback_proto::provider::{self, Provider};

use super::{LogArgs, screen};
use crate::bench::{self, Answers, Figures, Floor, Plan, Server, Setup};
use crate::client::WsUrl;
use crate::exit::Exit;
use crate::workers::Tick;

/// Options of `ringback bench`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Calls at once.
    #[arg(long, short = 'n', default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=9_000))]
    calls: u32,
    /// How long to measure, after one second of warm-up.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// Provider whose protocol is spoken.
    #[arg(long, short, default_value = "twilio")]
    provider: String,
    /// Rate of the sound in Hz, where the provider has a choice.
    #[arg(long, value_name = "HZ")]
    rate: Option<u32>,
    /// Load a bridge that is running already; it must echo. Its cost is not measured then.
    #[arg(long, value_name = "URL")]
    url: Option<WsUrl>,
    /// Threads of the bridge that serve calls.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    server_threads: u16,
    /// When the bridge serves what is ready: at once, on a tick, or either as calls are few or many.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    tick: Tick,
    /// Sound that the bridge keeps of each call for its module, in seconds.
    #[arg(long, value_name = "SECONDS", value_parser = ring)]
    ring: Option<f64>,
    /// Open calls on which nobody speaks.
    #[arg(long)]
    idle: bool,
    /// Give the bridge and the generator no cores of their own.
    #[arg(long)]
    no_pin: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// Be one of the servers that the bridge is held against; started by this command itself.
    #[arg(long, hide = true)]
    serve_floor: Option<Floor>,
}

fn ring(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.2..=120.0).contains(seconds));
    seconds.ok_or_else(|| "seconds, 0.2 to 120".into())
}

pub(super) fn run(args: &Args, log: &LogArgs) -> Exit {
    log.init("warn");
    if let Some(floor) = args.serve_floor {
        let served = floor
            .serve(args.tick, |address| screen::line(format!("listening on http://{address}")));
        return ended(served.map(|()| Exit::Ok));
    }
    ended(measure(args).map(|figures| {
        if args.json {
            screen::print(&format!("{:#}\n", figures.json()))
        } else {
            screen::print(&figures.to_string())
        }
    }))
}

fn ended(outcome: Result<Exit, String>) -> Exit {
    outcome.unwrap_or_else(|error| {
        screen::problem(error);
        Exit::Failure
    })
}

impl Args {
    fn provider(&self) -> Result<&'static dyn Provider, String> {
        provider::find(&self.provider).ok_or_else(|| {
            format!("no provider is called `{}`; see `ringback providers`", self.provider)
        })
    }

    fn format(&self, provider: &dyn Provider) -> Result<Option<MediaFormat>, String> {
        let Some(hz) = self.rate else { return Ok(None) };
        let formats = provider.formats();
        let found = formats.iter().find(|format| Some(format.rate) == SampleRate::new(hz));
        found.copied().map(Some).ok_or_else(|| {
            let rates: Vec<_> = formats.iter().map(|format| format.rate.hz().to_string()).collect();
            format!("{} does not speak at {hz} Hz; it has {}", provider.title(), rates.join(", "))
        })
    }

    fn plan(&self) -> Result<Plan, String> {
        let provider = self.provider()?;
        Ok(Plan {
            provider,
            format: self.format(provider)?,
            calls: self.calls as usize,
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(u64::from(self.seconds)),
            answers: Answers::Calls,
            silent: self.idle,
        })
    }

    fn setup(&self) -> Setup {
        Setup::Bridge {
            threads: usize::from(self.server_threads),
            tick: self.tick,
            ring: self.ring.map(Duration::from_secs_f64),
        }
    }
}

fn measure(args: &Args) -> Result<Figures, String> {
    let plan = args.plan()?;
    let server = match &args.url {
        Some(url) => Server::elsewhere(url.clone()),
        None => Server::start(&args.setup(), !args.no_pin)?,
    };
    let bar = progress(args);
    let figures =
        bench::run(&plan, &server, &|share: f64| bar.set_position((share * 1_000.0) as u64));
    bar.finish_and_clear();
    figures
}

fn progress(args: &Args) -> ProgressBar {
    let target =
        if args.json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(1_000), target);
    let style = ProgressStyle::with_template("{msg} [{wide_bar}] {percent:>3} %");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.set_message(format!("{} calls", args.calls));
    bar
}
