//! `ringback bench`: starts a bridge of its own, loads it with calls, prints what it cost.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ringback_proto::provider;

use super::{LogArgs, runtime, screen};
use crate::bench::{BenchServer, Figures, Plan};
use crate::client::WsUrl;
use crate::clock::Clock;
use crate::exit::Exit;

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
    /// Load a bridge that is running already; it must echo. Its cost is not measured then.
    #[arg(long, value_name = "URL")]
    url: Option<WsUrl>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, log: &LogArgs) -> Exit {
    log.init("warn");
    match measure(args) {
        Ok(figures) if args.json => screen::print(&format!("{:#}\n", figures.json())),
        Ok(figures) => screen::print(&figures.to_string()),
        Err(error) => {
            screen::problem(error);
            Exit::Failure
        }
    }
}

fn measure(args: &Args) -> Result<Figures, String> {
    let provider = provider::find(&args.provider)
        .ok_or_else(|| format!("no provider is called `{}`; see `ringback providers`", args.provider))?;
    let server = if args.url.is_none() { Some(BenchServer::start()?) } else { None };
    let url = match (&args.url, &server) {
        (Some(url), _) => url.clone(),
        (None, Some(server)) => server.url(provider.name()),
        (None, None) => return Err("no bridge to load".into()),
    };
    let plan = Plan {
        provider,
        calls: args.calls as usize,
        duration: Duration::from_secs(u64::from(args.seconds)),
    };
    let bar = progress(args);
    let runtime = runtime(1).map_err(|e| e.to_string())?;
    let figures = runtime.block_on(async {
        let usage = || server.as_ref().and_then(BenchServer::usage);
        let tick = |share: f64| bar.set_position((share * 1_000.0) as u64);
        crate::bench::run(Clock::start(), &plan, &url, usage, tick).await
    });
    bar.finish_and_clear();
    figures
}

fn progress(args: &Args) -> ProgressBar {
    let target = if args.json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(1_000), target);
    let style = ProgressStyle::with_template("{msg} [{wide_bar}] {percent:>3} %");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.set_message(format!("{} calls", args.calls));
    bar
}
