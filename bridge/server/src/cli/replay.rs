//! `ringback replay`: feeds a transcript to a bridge as its provider did, and tells how the answers compare.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use ringback_proto::provider::{self, Provider};
use ringback_proto::transcript::{CUT, Direction, NO_CODE, Transcript};
use serde_json::{Value, json};

use super::caller::{bridge_url, parameter, provider_named};
use super::credential::CredentialArgs;
use super::{LogArgs, TrustArgs, call_failed, runtime, screen};
use crate::client::WsUrl;
use crate::clock::Clock;
use crate::destination::Destination;
use crate::exit::Exit;
use crate::replay::{Comparison, Difference, Heard, Kinds, Outcome, Replay, Speed, compare};

/// Options of `ringback replay`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Transcript: a capture of `ringback serve --capture`, or one of the project's own.
    file: PathBuf,
    /// The bridge's listener, as `serve` prints it; the default is the transcript's path at 127.0.0.1:8080.
    #[arg(long, short, value_name = "URL", value_parser = bridge_url)]
    url: Option<WsUrl>,
    /// Sign as the provider does whose listener is in this configuration, and say it there; the path is the listener's.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Which listener, if the provider has several.
    #[arg(long, value_name = "NAME", requires = "config")]
    listener: Option<String>,
    /// How many times as fast as it was: a number, or `max` for no waiting at all.
    #[arg(long, value_name = "N", default_value = "1")]
    speed: Speed,
    /// Header field to send as well: a credential, which no transcript has. Any number of times.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = parameter)]
    headers: Vec<(String, String)>,
    /// Query parameter to add, any number of times.
    #[arg(long = "query", value_name = "NAME=VALUE", value_parser = parameter)]
    query: Vec<(String, String)>,
    /// Provider, where neither the file nor its folder tells.
    #[arg(long, short, value_parser = provider_named)]
    provider: Option<&'static str>,
    /// Fail unless the bridge says the same as in the transcript, sound left out.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    trust: TrustArgs,
    /// Print what came of it as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, log: &LogArgs) -> Exit {
    log.init("warn");
    let (transcript, provider) = match read(args) {
        Ok(read) => read,
        Err(problem) => {
            return screen::failed(Exit::Usage, format!("{}: {problem}", args.file.display()));
        }
    };
    for (line, note) in &transcript.notes {
        screen::problem(format!("{}: line {line}: {note}", args.file.display()));
    }
    let runtime = match runtime(1) {
        Ok(runtime) => runtime,
        Err(error) => return screen::failed(Exit::Internal, error),
    };
    let to = match to(args, &transcript, provider) {
        Ok(to) => to,
        Err(problem) => return screen::failed(Exit::Usage, problem),
    };
    let replay = Replay {
        transcript: &transcript,
        provider,
        to,
        headers: args.headers.clone(),
        speed: args.speed,
    };
    match runtime.block_on(replay.run(Clock::start(), &args.trust.connector())) {
        Ok(outcome) => {
            let comparison = compare(provider, &transcript, &outcome);
            let show = if args.json { as_json } else { as_text };
            screen::print(&show(&comparison, &outcome));
            let failed = args.check && !comparison.is_same(&outcome);
            if failed || outcome.unsaid.is_some() { Exit::Failure } else { Exit::Ok }
        }
        Err(error) => call_failed(&error),
    }
}

fn read(args: &Args) -> Result<(Transcript, &'static dyn Provider), String> {
    let text = std::fs::read_to_string(&args.file).map_err(|error| error.to_string())?;
    let transcript = Transcript::parse(&text).map_err(|error| error.to_string())?;
    let told = transcript.about.as_ref().map(|about| about.provider.as_str());
    let folder = args.file.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let named = args.provider.into_iter().chain(told).chain(folder);
    let provider = named.filter_map(provider::find).next();
    let provider =
        provider.ok_or("neither the file nor its folder names a provider: --provider")?;
    Ok((transcript, provider))
}

/// Where to, and with what proof.
fn to(
    args: &Args,
    transcript: &Transcript,
    provider: &dyn Provider,
) -> Result<Destination, String> {
    if args.config.is_none() {
        return Ok(url(args, transcript, args.url.clone()).into());
    }
    let credential = CredentialArgs::of(args.config.clone(), args.listener.clone());
    let to = credential.destination(provider, args.url.as_ref())?;
    Ok(Destination { url: url(args, transcript, Some(to.url.clone())), ..to })
}

/// The path is that of the transcript unless the URL has one.
fn url(args: &Args, transcript: &Transcript, url: Option<WsUrl>) -> WsUrl {
    let (path, query) = transcript.target.split_once('?').unwrap_or((&transcript.target, ""));
    let here = || WsUrl::plain("127.0.0.1:8080".into(), "/".into());
    let mut url = url.unwrap_or_else(here);
    if url.target == "/" {
        url.target = path.to_owned();
    }
    if !query.is_empty() {
        url.target.push(if url.target.contains('?') { '&' } else { '?' });
        url.target.push_str(query);
    }
    url.target = provider::with_query(&url.target, &args.query);
    url
}

fn as_text(comparison: &Comparison, outcome: &Outcome) -> String {
    // Writing to a string cannot fail.
    let mut text =
        format!("sent in {:.1} s: {}\n", outcome.lasted.as_secs_f64(), in_words(&outcome.sent));
    if let Some(line) = outcome.unsaid {
        let _ = writeln!(text, "the stream was over before line {line} could be said");
    }
    let width = comparison.counts.iter().map(|count| count.kind.len()).max().unwrap_or(0).max(7);
    let _ = writeln!(text, "{:width$}  captured  now", "answers");
    for count in &comparison.counts {
        let kind = screen::harmless(&count.kind);
        let _ = writeln!(text, "{kind:width$}  {:8}  {:3}", count.captured, count.replayed);
    }
    if outcome.unkept > 0 {
        let _ = writeln!(text, "{} more answers were not compared", outcome.unkept);
    }
    match &comparison.first {
        None => text.push_str("beside the sound, all answers are the same\n"),
        Some(difference) => text.push_str(&difference_text(difference)),
    }
    let _ = writeln!(
        text,
        "closed {}; captured: {}",
        end_text(outcome.closed),
        end_text(comparison.closed)
    );
    text
}

fn in_words(kinds: &Kinds) -> String {
    let words: Vec<_> =
        kinds.0.iter().map(|(kind, count)| format!("{count} {}", screen::harmless(kind))).collect();
    if words.is_empty() { "nothing".into() } else { words.join(", ") }
}

fn heard_text(heard: &Heard) -> String {
    screen::harmless(format!("{} {}", heard.kind, heard.shape))
}

fn difference_text(difference: &Difference) -> String {
    let mut text = String::from("first difference beside the sound:\n");
    let _ = match &difference.captured {
        Some((line, heard)) => {
            writeln!(text, "  captured in line {line}: {}", heard_text(heard))
        }
        None => writeln!(text, "  captured: nothing more"),
    };
    let _ = match &difference.replayed {
        Some(heard) => writeln!(text, "  now: {}", heard_text(heard)),
        None => writeln!(text, "  now: nothing more"),
    };
    text
}

fn end_text(end: Option<(Direction, u16)>) -> String {
    let Some((by, code)) = end else { return "by nobody".into() };
    let by = match by {
        Direction::In => "by the provider",
        Direction::Out => "by the bridge",
    };
    match code {
        CUT => format!("{by} without a word"),
        NO_CODE => format!("{by} without a code"),
        code => format!("{by} with {code}"),
    }
}

fn as_json(comparison: &Comparison, outcome: &Outcome) -> String {
    let end = |end: Option<(Direction, u16)>| match end {
        None => Value::Null,
        Some((by, code)) => {
            json!({ "by": if by == Direction::In { "provider" } else { "bridge" }, "code": code })
        }
    };
    let answers = comparison.counts.iter().map(|count| {
        let value = json!({ "captured": count.captured, "now": count.replayed });
        (count.kind.clone(), value)
    });
    let first = comparison.first.as_ref().map(|difference| {
        let captured = difference
            .captured
            .as_ref()
            .map(|(line, heard)| json!({ "line": line, "kind": heard.kind, "shape": heard.shape }));
        let now = difference
            .replayed
            .as_ref()
            .map(|heard| json!({ "kind": heard.kind, "shape": heard.shape }));
        json!({ "captured": captured, "now": now })
    });
    let value = json!({
        "same": comparison.is_same(outcome),
        "seconds": outcome.lasted.as_secs_f64(),
        "sent": outcome.sent.0,
        "unsaid_line": outcome.unsaid,
        "answers": answers.collect::<serde_json::Map<_, _>>(),
        "not_compared": outcome.unkept,
        "first_difference": first,
        "closed": end(outcome.closed),
        "closed_captured": end(comparison.closed),
    });
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::Count;

    #[test]
    fn what_a_file_says_does_nothing_to_a_terminal() {
        let nasty = "start\x1b]0;x\x07\nforged".to_owned();
        let heard = Heard { kind: nasty.clone(), shape: nasty.clone(), is_sound: false };
        let comparison = Comparison {
            counts: vec![Count { kind: nasty.clone(), captured: 1, replayed: 0 }],
            first: Some(Difference { captured: Some((7, heard.clone())), replayed: Some(heard) }),
            closed: None,
        };
        let outcome =
            Outcome { sent: Kinds([(nasty, 1)].into_iter().collect()), ..Outcome::default() };
        let text = as_text(&comparison, &outcome);
        assert!(!text.contains('\x1b') && !text.contains("\nforged"), "{text}");
        assert_eq!(text.matches("start\\u001b]0;x\\u0007\\u000aforged").count(), 6, "{text}");
    }
}
