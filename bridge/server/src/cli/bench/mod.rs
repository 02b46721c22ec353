//! `ringback bench`: starts a bridge of its own, loads it with calls, prints what it cost. Measures nothing itself.

pub(super) mod show;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ringback_codecs::{MediaFormat, SampleRate};
use ringback_proto::provider::{self, PlayoutPolicy, Provider};
use serde_json::Value;

use super::caller::bridge_url;
use super::credential::CredentialArgs;
use super::{LogArgs, screen};
use crate::bench::{
    self, Answers, Comparison, Contender, Figures, Floor, Found, Hops, Panel, Place, Plan, Range,
    Scale, Server, Setup, Survey,
};
use crate::client::WsUrl;
use crate::exit::Exit;
use crate::workers::Tick;
use show::Bar;

/// The generator has no more calls.
const MOST: usize = 9_000;
/// Where the search for the highest number of calls begins, and how close is close enough.
const FIRST: usize = 500;
const STEP: usize = 50;
/// Trials of one number of calls, if something else is in the way.
const TRIES: usize = 4;

const OWN_BRIDGE: &str = "the bridge that is started for this asks for no credential; give one with --url or --config, for one that runs \
    already, and without --table, --find-max and --against";
const SHORT_FORM: &str = "\nThe short form: few calls and runs, so what depends on them is open. Only frames that are lost, come \
    twice or are unknown make it fail.\n";
const NO_FAIR_RUN: &str = "\nThis host gave no fair run of some of them, see the row of lost frames: whether frames get lost is open, and is \
    not what this command fails for. Run it on a quieter machine.\n";

/// Options of `ringback bench`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Calls at once.
    #[arg(long, short = 'n', default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=MOST as i64))]
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
    /// Codec of the sound, where the provider has a choice: pcmu, pcma, l16, g722, opus. Of G.722 and Opus every call is encoded and
    /// decoded, and its frames are numbered by tones, which costs the generator more. Opus leaves so little of a few frames that they
    /// cannot be read: they are counted as that, and are wrong only if they are over 2 % of all.
    #[arg(long, value_name = "NAME")]
    codec: Option<String>,
    /// Load a bridge that is running already; it must echo. Its cost is not measured then.
    #[arg(long, value_name = "URL", value_parser = plain_url, conflicts_with_all = ["against", "find_max", "table"])]
    url: Option<WsUrl>,
    /// Threads of the bridge that serve calls.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    server_threads: u16,
    /// When the bridge serves frames in batches.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    tick: Tick,
    /// Sound that the bridge keeps of each call for its module, in seconds.
    #[arg(long, value_name = "SECONDS", value_parser = ring)]
    ring: Option<f64>,
    /// Open calls on which nobody speaks; to have the bridge's pings in the figures, measure 20 seconds or a multiple.
    #[arg(long, conflicts_with_all = ["against", "find_max", "table"])]
    idle: bool,
    /// Give the bridge and the generator no cores of their own.
    #[arg(long)]
    no_pin: bool,
    /// Measure servers that only send back what comes, too, in turns with the bridge.
    #[arg(long, value_name = "FLOOR", value_delimiter = ',', group = "turns", conflicts_with_all = ["find_max", "table"])]
    against: Vec<Floor>,
    /// Measure what the way to a module and back adds: bridges whose module runs there, in turns with one whose module is in its process.
    #[arg(long, value_name = "PLACE", value_delimiter = ',', group = "turns", conflicts_with_all = ["against", "find_max", "table", "url", "idle"])]
    module: Vec<Place>,
    /// Runs of each server, in turns.
    #[arg(long, value_name = "N", default_value_t = 5, requires = "turns", value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Look for the highest number of calls that is carried without loss.
    #[arg(long, conflicts_with = "table")]
    find_max: bool,
    /// What the 99th percentile of latency is held to in the search.
    #[arg(long, value_name = "MS", default_value = "20ms", value_parser = p99_us)]
    p99: u32,
    /// Measure everything that the bridge is held to, and print the verdicts.
    #[arg(long)]
    table: bool,
    /// With few calls and in half a minute, or a minute where the host disturbs it; fails only if frames are lost, come twice or are unknown.
    #[arg(long, requires = "table")]
    short: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// Draw the latencies.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Be one of the servers that the bridge is held against; started by this command itself.
    #[arg(long, hide = true)]
    serve_floor: Option<Floor>,
    /// Be the module that a bridge is measured with; started by this command itself.
    #[arg(long, hide = true)]
    serve_module: Option<Place>,
    /// Where that module works.
    #[arg(long, hide = true)]
    at: Option<SocketAddr>,
    #[command(flatten)]
    credential: CredentialArgs,
}

fn ring(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.2..=120.0).contains(seconds));
    seconds.ok_or_else(|| "seconds, 0.2 to 120".into())
}

fn p99_us(text: &str) -> Result<u32, String> {
    let ms = text.strip_suffix("ms").unwrap_or(text).trim().parse::<f64>();
    let ms = ms.ok().filter(|ms| (0.1..=10_000.0).contains(ms));
    ms.map(|ms| (ms * 1e3) as u32).ok_or_else(|| "milliseconds, 0.1 to 10000".into())
}

pub(super) fn run(args: &Args, log: &LogArgs) -> Exit {
    log.init("warn");
    if let Some(floor) = args.serve_floor {
        let listening = |address| screen::line(format!("listening on http://{address}"));
        return floor.serve(args.tick, listening).map_or_else(failure, |()| Exit::Ok);
    }
    if let Some(place) = args.serve_module {
        let listening = |address| screen::line(format!("listening on http://{address}"));
        return place.serve(args.at, listening).unwrap_or_else(failure);
    }
    let outcome = if args.credential.is_given() && !args.is_elsewhere() {
        Err(OWN_BRIDGE.to_owned())
    } else if args.table {
        args.survey()
    } else if args.find_max {
        args.search()
    } else if !args.module.is_empty() {
        args.hops()
    } else if args.against.is_empty() {
        args.measure()
    } else {
        args.compare()
    };
    outcome.and_then(|outcome| outcome.show(args)).unwrap_or_else(failure)
}

fn failure(error: String) -> Exit {
    screen::problem(error);
    Exit::Failure
}

/// What there is to show, and whether it is as it should be.
struct Outcome {
    text: String,
    json: Value,
    panels: Vec<Panel>,
    title: String,
    good: bool,
}

impl Outcome {
    fn show(self, args: &Args) -> Result<Exit, String> {
        if let Some(path) = &args.plot {
            let drawing = bench::svg(&self.title, &self.panels)?;
            std::fs::write(path, drawing)
                .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        let text = if args.json { format!("{:#}\n", self.json) } else { self.text };
        let printed = screen::print(&text);
        Ok(if self.good { printed } else { Exit::Failure })
    }
}

/// A server without TLS: the generator measures what a bridge costs, and speaks none.
fn plain_url(text: &str) -> Result<WsUrl, String> {
    let url = bridge_url(text)?;
    if url.secure { Err("a bench is over ws://, without TLS".into()) } else { Ok(url) }
}

impl Args {
    fn provider(&self) -> Result<&'static dyn Provider, String> {
        let provider = provider::find(&self.provider).ok_or_else(|| {
            format!("no provider is called `{}`; see `ringback providers`", self.provider)
        })?;
        if !provider.has_sound() {
            return Err(format!("{} carries words, and sound is measured here", provider.title()));
        }
        if provider.capabilities().playout == PlayoutPolicy::None {
            return Err(format!(
                "{0} only listens: no echo comes back whose latency could be measured; `ringback call --provider {1}` shows what is heard of it",
                provider.title(),
                provider.name()
            ));
        }
        Ok(provider)
    }

    fn format(&self, provider: &dyn Provider) -> Result<Option<MediaFormat>, String> {
        if self.rate.is_none() && self.codec.is_none() {
            return Ok(None);
        }
        let formats = provider.formats();
        let fits = |format: &&MediaFormat| {
            let codec = format.encoding.to_string().to_lowercase().replace('.', "");
            let wanted = self.codec.as_ref().map(|codec| codec.to_lowercase().replace('.', ""));
            self.rate.is_none_or(|hz| Some(format.rate) == SampleRate::new(hz))
                && wanted.is_none_or(|wanted| codec.starts_with(&wanted))
        };
        formats.iter().find(fits).copied().map(Some).ok_or_else(|| {
            let has: Vec<_> = formats.iter().map(ToString::to_string).collect();
            let rate = self.rate.map(|hz| format!("{hz} Hz"));
            let asked: Vec<_> = self.codec.clone().into_iter().chain(rate).collect();
            let (asked, has) = (asked.join(" at "), has.join(", "));
            format!("{} does not speak {asked}; it has {has}", provider.title())
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
            module: None,
        }
    }

    /// Whether a bridge is loaded that runs already, which only the plain measurement does.
    fn is_elsewhere(&self) -> bool {
        let plain =
            !self.table && !self.find_max && self.against.is_empty() && self.module.is_empty();
        plain && (self.url.is_some() || self.credential.names_listener())
    }

    fn title(&self) -> String {
        format!("ringback bench: {} calls over {}", self.calls, self.provider)
    }

    fn measure(&self) -> Result<Outcome, String> {
        let plan = self.plan()?;
        let server = if self.is_elsewhere() {
            Server::elsewhere(self.credential.destination(plan.provider, self.url.as_ref())?)
        } else {
            Server::start(&self.setup(), !self.no_pin)?
        };
        let bar = Bar::new(self.json, &format!("{} calls", self.calls));
        let figures: Figures = bench::run(&plan, &server, &|share| bar.at(share, None))?;
        bar.done();
        Ok(Outcome {
            text: figures.to_string(),
            json: figures.json(),
            panels: vec![Panel::over_time([(self.provider.as_str(), &figures)])],
            title: self.title(),
            good: true,
        })
    }

    fn compare(&self) -> Result<Outcome, String> {
        let plan = self.plan()?;
        let contender =
            |name: &str, setup| Contender { name: name.into(), setup, plan: plan.clone() };
        let mut contenders = vec![contender(plan.provider.name(), self.setup())];
        contenders.extend(
            self.against.iter().map(|floor| {
                contender(floor.name(), Setup::Floor { floor: *floor, tick: self.tick })
            }),
        );
        let bar = Bar::new(self.json, "");
        let rounds = usize::from(self.rounds);
        let standings = bench::in_turns(&contenders, rounds, !self.no_pin, &|share, who| {
            bar.at(share, Some(who));
        })?;
        bar.done();
        let comparison = Comparison { standings };
        let last = comparison.standings.iter();
        let last = last.filter_map(|s| Some((s.name.as_str(), s.runs.last()?)));
        Ok(Outcome {
            text: comparison.to_string(),
            json: comparison.json(),
            panels: vec![Panel::over_time(last)],
            title: self.title(),
            good: true,
        })
    }

    fn hops(&self) -> Result<Outcome, String> {
        let (plan, setup) = (self.plan()?, self.setup());
        let bar = Bar::new(self.json, "");
        let rounds = usize::from(self.rounds);
        let told = |share: f64, who: &str| bar.at(share, Some(who));
        let hops: Hops = bench::hops(&setup, &plan, &self.module, rounds, !self.no_pin, &told)?;
        bar.done();
        Ok(Outcome {
            text: hops.to_string(),
            json: hops.json(),
            panels: vec![Panel::over_time(hops.last_runs())],
            title: self.title(),
            good: true,
        })
    }

    fn search(&self) -> Result<Outcome, String> {
        let plan = self.plan()?;
        let bar = Bar::new(self.json, "");
        let range = Range { first: FIRST, most: MOST, step: STEP, tries: TRIES };
        let found: Found = bench::search(range, self.p99, |calls| {
            let message = format!("{calls} calls");
            let plan = Plan { calls, ..plan.clone() };
            bench::measure(&self.setup(), &plan, !self.no_pin, &|share| {
                bar.at(share, Some(&message));
            })
        });
        bar.done();
        Ok(Outcome {
            text: found.to_string(),
            json: found.json(),
            panels: vec![Panel::over_calls(&found)],
            title: format!("ringback bench: calls over {}", self.provider),
            good: found.calls > 0,
        })
    }

    fn survey(&self) -> Result<Outcome, String> {
        let scale = if self.short { Scale::SHORT } else { Scale::FULL };
        let bar = Bar::new(self.json, "");
        let survey: Survey =
            bench::survey(scale, !self.no_pin, &|share, what| bar.at(share, Some(what)))?;
        bar.done();
        // More lines than these four are a tangle.
        let last = survey.standings.iter().take(4);
        let last = last.filter_map(|s| Some((s.name.as_str(), s.runs.last()?)));
        let mut text = survey.table.to_string();
        if self.short {
            text.push_str(SHORT_FORM);
        }
        if survey.wrong.is_none() {
            text.push_str(NO_FAIR_RUN);
        }
        Ok(Outcome {
            text,
            json: survey.json(),
            panels: vec![Panel::over_time(last), Panel::over_calls(&survey.found)],
            title: format!("ringback bench: {} calls", scale.calls),
            good: if self.short { !survey.is_wrong() } else { !survey.table.is_missed() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::P99_US;

    #[test]
    fn bounds_are_read_with_and_without_their_unit() {
        assert_eq!((p99_us("20ms"), p99_us("2.5")), (Ok(20_000), Ok(2_500)));
        assert_eq!(p99_us("20ms"), Ok(P99_US));
        for wrong in ["", "0", "20s", "1e9"] {
            assert!(p99_us(wrong).is_err(), "{wrong}");
        }
        assert!(ring("0.2").is_ok() && ring("0.1").is_err() && ring("ten").is_err());
    }
}
