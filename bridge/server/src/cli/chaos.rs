//! `ringback chaos`: a bad line between two ends, to try out what either does then.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::{LogArgs, runtime, screen};
use crate::chaos::{Done, Faults, Proxy, Record, Stall, Told, Way};
use crate::clock::Clock;
use crate::config::parse_time;
use crate::exit::Exit;
use crate::shutdown::Shutdown;

const EXAMPLE: &str = "\
Example: calls to a bridge over a line like a bad mobile network's, and the same line again tomorrow:

  ringback chaos --listen 127.0.0.1:9080 --to 127.0.0.1:8080 --latency 50ms --jitter 200ms --stall 2s@10s --seed 7
  ringback call --url ws://127.0.0.1:9080/twilio --audio call.wav

It runs until Ctrl-C or SIGTERM and then tells what it did to each connection. Times have a unit: 20ms, 10s, 5m.";

/// Options of `ringback chaos`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// Where to take connections; port 0 is any free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where to pass them on to.
    #[arg(long, value_name = "HOST:PORT", value_parser = authority)]
    to: String,
    /// Every octet comes so much later.
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = time)]
    latency: Duration,
    /// And up to so much later still; drawn every 10 ms. Nothing overtakes.
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = time)]
    jitter: Duration,
    /// No more than so much a second passes: 64kbit, 1mbit, 8000B.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<u64>,
    /// For so long, so often, nothing passes; then all of it at once. for-ever@5s: after 5 s nothing passes any more.
    #[arg(long, value_name = "TIME@TIME")]
    stall: Option<Stall>,
    /// Both ends are reset after so long.
    #[arg(long, value_name = "TIME", value_parser = time)]
    reset: Option<Duration>,
    /// After so long the receiver is told that no more comes, and what is sent all the same is thrown away.
    #[arg(long, value_name = "TIME", value_parser = time)]
    half_close: Option<Duration>,
    /// Octets are passed on in pieces of at most so many.
    #[arg(long, value_name = "OCTETS")]
    slice: Option<NonZeroUsize>,
    /// The probability with which a bit is turned over, such as 1e-6.
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.0, value_parser = probability)]
    flip: f64,
    /// The same seed is the same line again.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Which way is bad; in is from whoever connects.
    #[arg(long, value_name = "WAY", default_value = "both")]
    way: Way,
    /// Tell as JSON what was done.
    #[arg(long)]
    json: bool,
}

fn time(text: &str) -> Result<Duration, String> {
    let time = parse_time(text).filter(|time| *time <= Duration::from_secs(86_400));
    time.ok_or_else(|| "a whole number with a unit, such as 20ms, 10s or 5m; at most a day".into())
}

fn rate(text: &str) -> Result<u64, String> {
    let units = [("kbit", 125.0), ("mbit", 125_000.0), ("kB", 1e3), ("MB", 1e6), ("B", 1.0)];
    let found = units.iter().find_map(|(unit, octets)| {
        let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        Some(number * octets)
    });
    let octets = found.filter(|octets| (1.0..=1e12).contains(octets));
    octets.map(|octets| octets as u64).ok_or_else(|| {
        "how much a second, with a unit: kbit, mbit, B, kB or MB, such as 64kbit".into()
    })
}

fn probability(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "0 to 1".into())
}

fn authority(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.and_then(|(_, port)| port.parse::<u16>().ok()) {
        Some(_) => Ok(text.to_owned()),
        None => Err("host and port, such as 127.0.0.1:8080".into()),
    }
}

impl Args {
    fn faults(&self) -> Faults {
        Faults {
            latency: self.latency,
            jitter: self.jitter,
            rate: self.rate,
            stall: self.stall,
            reset: self.reset,
            half_close: self.half_close,
            slice: self.slice,
            flip: self.flip,
            seed: self.seed,
            way: self.way,
        }
    }
}

pub(super) fn run(args: &Args, log: &LogArgs) -> Exit {
    log.init("warn");
    let runtime = match runtime(1) {
        Ok(runtime) => runtime,
        Err(error) => return screen::failed(Exit::Internal, error),
    };
    match runtime.block_on(serve(args)) {
        Ok(record) if args.json => {
            let json = serde_json::to_string_pretty(&record).unwrap_or_default();
            screen::print(&(json + "\n"))
        }
        Ok(record) => screen::print(&told(&record)),
        Err((exit, error)) => screen::failed(exit, error),
    }
}

async fn serve(args: &Args) -> Result<Record, (Exit, String)> {
    let shutdown = Shutdown::new();
    shutdown
        .on_signals()
        .map_err(|error| (Exit::Internal, format!("cannot watch for signals: {error}")))?;
    let cannot = |error| (Exit::Unavailable, format!("cannot listen on {}: {error}", args.listen));
    let proxy = Proxy::bind(args.listen, args.to.clone(), args.faults()).await.map_err(cannot)?;
    let address = proxy.local_addr().map_err(cannot)?;
    if args.json {
        screen::problem(format!("listening on tcp://{address}"));
    } else {
        screen::line(format!("listening on tcp://{address}"));
    }
    Ok(proxy.run(Clock::start(), shutdown).await)
}

/// What was done, a line for each connection and two for its ways.
fn told(record: &Record) -> String {
    let mut text = String::new();
    for Told { connection, ended, lasted_ms, inward, outward } in &record.connections {
        let seconds = *lasted_ms as f64 / 1e3;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "connection {connection}: {} after {seconds:.3} s", ended.name());
        let _ = writeln!(text, "  in:  {}", way(inward));
        let _ = writeln!(text, "  out: {}", way(outward));
    }
    if record.untold > 0 {
        let _ = writeln!(text, "and {} more", record.untold);
    }
    text
}

fn way(done: &Done) -> String {
    let mut text = format!("{} octets in {} pieces", done.octets, done.pieces);
    let _ = write!(text, ", the latest after {} ms", done.longest_ms);
    for (count, what) in [
        (done.stalls, "stalls"),
        (done.flipped, "bits turned over"),
        (done.discarded, "octets thrown away"),
    ] {
        if count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    if done.half_closed {
        text.push_str(", half-closed");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::End;

    #[test]
    fn rates_have_a_unit() {
        assert_eq!(
            (rate("64kbit"), rate("1mbit"), rate("8000B")),
            (Ok(8_000), Ok(125_000), Ok(8_000))
        );
        assert_eq!(rate("1.5 kB"), Ok(1_500));
        for wrong in ["", "64", "kbit", "0B", "-1B", "64bit"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert!(authority("127.0.0.1:80").is_ok() && authority("[::1]:80").is_ok());
        assert!(authority("127.0.0.1").is_err() && authority(":80").is_err());
        assert!(probability("1e-6").is_ok() && probability("2").is_err());
        assert!(time("50ms").is_ok() && time("50").is_err() && time("48h").is_err());
    }

    #[test]
    fn what_was_done_is_told_by_connection_and_way() {
        let inward =
            Done { octets: 500, pieces: 7, stalls: 1, longest_ms: 2_040, ..Done::default() };
        let outward = Done { flipped: 3, discarded: 9, half_closed: true, ..Done::default() };
        let told_of = Told { connection: 0, ended: End::Reset, lasted_ms: 5_002, inward, outward };
        let record = Record { connections: vec![told_of], untold: 2 };
        assert_eq!(
            told(&record),
            "connection 0: reset after 5.002 s\n  in:  500 octets in 7 pieces, the latest after 2040 ms, 1 stalls\n  \
             out: 0 octets in 0 pieces, the latest after 0 ms, 3 bits turned over, 9 octets thrown away, half-closed\nand 2 more\n"
        );
    }
}
