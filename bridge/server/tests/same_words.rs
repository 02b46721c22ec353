//! A spoken sentence through every provider's end into a bridge with the real transcriber and an echo: the words are the same whoever
//! carried them, and what comes back is what was said. Needs a Python with PocketSphinx.
#![allow(
    clippy::print_stdout,
    reason = "what each provider made of the sentence is what one looks for in the output"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ringback::client::{CallEvent, Client, WsUrl};
use ringback_codecs::MediaFormat;
use ringback_proto::provider::{Dial, FrameLaw, PROVIDERS, Provider, Track, Transport};
use ringback_proto::session::Report;
use support::echo::{self, Fidelity};
use support::{Caller, FRAME, Host, Log, What, python_with, quoted, root, skip, sound};
use tokio::sync::Semaphore;

/// What is spoken, and what is said in it.
const SENTENCE: &str = "sentence.wav";
const WORDS: &str = "what time do you open on saturday";
/// Where the words are in the file, as its manifest has it, with some room.
const SPOKEN_MS: std::ops::Range<u64> = 450..2_800;
/// So many of the words may be wrong in any format; none was when this was written.
const MOST_WRONG: usize = 1;
/// Calls at a time: each transcriber takes a core for half a second to begin, and a fifth of one while it hears words.
const AT_ONCE: usize = 3;
/// The longest that words are waited for, in which they are kept for the transcriber: a machine that is busy with other things may
/// take it for dead, and it begins anew.
const PATIENCE: Duration = Duration::from_secs(120);
/// Silence is said in pieces of so many frames until the words are there.
const SILENCE: usize = 10;
/// The transcript of the last words ends no earlier; they end at 2,670 ms.
const WORDS_END_MS: u64 = 2_300;

/// Every provider that carries sound, in its usual format; and each encoding that is nobody's usual one, once.
fn calls() -> Vec<(&'static dyn Provider, MediaFormat)> {
    let spoken = |provider: &&'static dyn Provider| {
        let formats = provider.formats().iter().filter(|format| format.decoder().is_ok());
        formats.map(|format| (*provider, *format)).collect::<Vec<_>>()
    };
    let all: Vec<_> = PROVIDERS.iter().map(spoken).collect();
    let usual = all.iter().filter_map(|formats| formats.first());
    let mut calls: Vec<_> = usual.copied().collect();
    // From the end of the table, where the wire is that answers in what it is asked in.
    for (provider, format) in all.iter().rev().flatten() {
        if calls.iter().all(|(_, known)| known.encoding != format.encoding) {
            calls.push((*provider, *format));
        }
    }
    calls
}

/// A bridge whose every call goes to the transcriber and an echo.
fn host(python: &Path) -> Host {
    let path = root().join("compute-modules/python/src");
    let script = root().join("compute-modules/transcribe/transcribe.py");
    let [python, script] = [python, &script].map(|path| quoted(path.display()));
    let environment = quoted(format!("PYTHONPATH={}", path.display()));
    Host::on_loopback(&format!(
        "[[module]]\nname = \"transcribe\"\nkind = \"child\"\nready_timeout = \"30s\"\non_fail = \"hangup\"\nring = \"120s\"\n\
         command = [\"env\", \"PYTHONDONTWRITEBYTECODE=1\", {environment}, {python}, {script}]\n\
         [[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n\
         [[route]]\nname = \"default\"\nmodules = [\"transcribe\", \"echo\"]\nspeaker = \"echo\"\n"
    ))
}

/// What came of one call.
struct Outcome {
    provider: &'static dyn Provider,
    format: MediaFormat,
    /// What the transcriber understood.
    text: String,
    /// How well the sentence came back; `None` where nothing can be played.
    echo: Option<Fidelity>,
}

async fn call(python: &Path, provider: &'static dyn Provider, format: MediaFormat) -> Outcome {
    let about = format!("{} in {format}", provider.name());
    let target = format!("/{}", provider.name());
    let dial = Dial { target, format: Some(format), ..Dial::default() };
    let host = host(python);
    if let Transport::Webhook { .. } = provider.transport() {
        return call_dialled(host, provider, dial).await;
    }
    let stream = host.connect().await;
    let caller = Caller::dial(host.clock, stream, provider, &dial, &[]).await;
    let mut caller = caller.unwrap_or_else(|error| panic!("{about}: {error}"));
    assert_eq!(caller.format().await, format, "{about}: it speaks what it was told");
    let outbound = caller.outbound();
    caller.in_step = outbound.is_some();
    caller.slack = gathered(provider, format);
    caller.speak(&sound(SENTENCE, format.rate.hz())).await;
    // However busy the machine: who hangs up early may cut the transcriber off.
    let words = async {
        while understood(&host.log).is_none() {
            caller.pause(SILENCE).await;
        }
    };
    let end = tokio::time::timeout(PATIENCE, words).await;
    assert!(end.is_ok(), "{about}: no words within {PATIENCE:?}: {:#?}", host.log.entries());
    let caller = caller.hang_up().await;
    let summary = host.log.ended_alone().await;
    assert_eq!(summary.reason.name(), "remote", "{about}: {}", summary.reason);
    let text = understood(&host.log).expect("it has been there before");
    let echo = outbound.map(|outbound| came_back(provider, format, outbound, &caller));
    host.stop().await;
    Outcome { provider, format, text, echo }
}

/// The same where the bridge dials, which comes back to nobody.
async fn call_dialled(host: Host, provider: &'static dyn Provider, dial: Dial) -> Outcome {
    let (about, format) = (provider.name(), dial.format.expect("a format of the table"));
    let url = WsUrl::plain(host.address.to_string(), dial.target.clone());
    let client = Client::connect(host.clock, &host.connector, &url, provider, dial, false).await;
    let mut client = client.unwrap_or_else(|error| panic!("{about}: {error}"));
    client.speak(&sound(SENTENCE, format.rate.hz()));
    let silence = vec![0; format.rate.samples_in(FRAME) as usize * SILENCE];
    let words = async {
        while understood(&host.log).is_none() {
            if client.phone().unspoken(Track::Inbound) == 0 {
                client.speak(&silence);
            }
            let turn = tokio::time::timeout(FRAME, client.next()).await;
            let event = turn.map_or(Ok(None), |event| event);
            let event = event.unwrap_or_else(|error| panic!("{about}: {error}"));
            assert!(!matches!(event, Some(CallEvent::Closed { .. })), "{about}: {event:?}");
        }
    };
    let end = tokio::time::timeout(PATIENCE, words).await;
    assert!(end.is_ok(), "{about}: no words within {PATIENCE:?}: {:#?}", host.log.entries());
    assert_eq!(client.phone().start().and_then(|start| start.inbound), Some(format), "{about}");
    client.hang_up().await.unwrap_or_else(|error| panic!("{about}: {error}"));
    let summary = host.log.ended_alone().await;
    assert_eq!(summary.reason.name(), "remote", "{about}: {}", summary.reason);
    let text = understood(&host.log).expect("it has been there before");
    host.stop().await;
    Outcome { provider, format, text, echo: None }
}

/// Samples that the bridge gathers before it sends them, at most.
fn gathered(provider: &dyn Provider, format: MediaFormat) -> u64 {
    let time = match provider.capabilities().frame {
        FrameLaw::Any => Duration::ZERO,
        FrameLaw::Exact(time)
        | FrameLaw::MultipleOf(time)
        | FrameLaw::UpTo(time)
        | FrameLaw::AtLeast { least: time, .. } => time,
    };
    format.rate.samples_in(time)
}

/// That the words came back as they were said.
fn came_back(
    provider: &dyn Provider,
    format: MediaFormat,
    outbound: MediaFormat,
    caller: &Caller,
) -> Fidelity {
    let about = format!("{} in {format}", provider.name());
    let samples = |ms: u64| format.rate.samples_in(Duration::from_millis(ms)) as usize;
    let (from, to) = (samples(SPOKEN_MS.start), samples(SPOKEN_MS.end));
    if !echo::is_exact(format, outbound) {
        assert_eq!(format.rate, outbound.rate, "{about}: another rate cannot be compared");
        let said = &echo::decoded(format, &caller.sent)[from..to];
        let silence = SPOKEN_MS.start as usize / FRAME.as_millis() as usize;
        return echo::near(outbound, said, &caller.heard[silence..]);
    }
    let octets = |samples| format.octets_for(samples).expect("no packets");
    let words = octets(from)..octets(to);
    echo::came_back(provider, format, &caller.sent.concat(), words, &caller.heard.concat())
}

/// The words, once those at the end of the sentence are final.
fn understood(log: &Log) -> Option<String> {
    let transcripts = log.entries().into_iter().filter_map(|entry| match entry.what {
        What::Report(Report::Transcript(_, transcript), _) => Some(transcript),
        _ => None,
    });
    let said: Vec<_> = transcripts.filter(|transcript| transcript.is_final).collect();
    said.last().filter(|last| last.end_ms >= WORDS_END_MS)?;
    let words = said.iter().flat_map(|transcript| transcript.text.split_whitespace());
    Some(words.map(str::to_lowercase).collect::<Vec<_>>().join(" "))
}

/// Words left out, put in and exchanged, at least (Levenshtein).
fn word_errors(said: &str, understood: &str) -> usize {
    let understood: Vec<_> = understood.split_whitespace().collect();
    let mut row: Vec<usize> = (0..=understood.len()).collect();
    for (index, said) in said.split_whitespace().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, word) in understood.iter().enumerate() {
            let exchanged = diagonal + usize::from(said != *word);
            diagonal = row[column + 1];
            row[column + 1] = exchanged.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[understood.len()]
}

#[tokio::test]
async fn the_words_are_the_same_through_every_provider() {
    let Some(python) = python_with("pocketsphinx") else { return skip("pocketsphinx") };
    let (python, turns) = (Arc::new(python), Arc::new(Semaphore::new(AT_ONCE)));
    let mut under_way = tokio::task::JoinSet::new();
    for (provider, format) in calls() {
        let (python, turns) = (python.clone(), turns.clone());
        under_way.spawn(async move {
            let _turn = turns.acquire().await.expect("never closed");
            call(&python, provider, format).await
        });
    }
    let mut formats: BTreeMap<String, BTreeMap<String, BTreeSet<&str>>> = BTreeMap::new();
    for Outcome { provider, format, text, echo } in under_way.join_all().await {
        let (name, format) = (provider.name(), format.to_string());
        let echo = echo.map_or("cannot be played to".to_owned(), |echo| format!("{echo:?}"));
        println!("{name:20}{format:32}{text:36}{echo}");
        formats.entry(format).or_default().entry(text).or_default().insert(name);
    }
    for (format, texts) in &formats {
        let one = texts.len() == 1;
        assert!(one, "in {format} the words depend on who carries them: {texts:?}");
        for text in texts.keys() {
            let wrong = word_errors(WORDS, text);
            assert!(wrong <= MOST_WRONG, "in {format} {wrong} words are wrong: {text:?}");
        }
    }
    let done: BTreeSet<_> = formats.values().flat_map(BTreeMap::values).flatten().collect();
    let silent = PROVIDERS.iter().map(|provider| provider.name());
    let silent: Vec<_> = silent.filter(|name| !done.contains(name)).collect();
    println!("carry no sound that could be compared: {silent:?}");
}
