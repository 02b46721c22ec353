//! Transcripts replayed over real sockets: the project's own, captures, and what is none.
#![allow(clippy::unwrap_used, reason = "a test that cannot read its own files has failed")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ringback::client::{ClientError, WsUrl};
use ringback::outgoing::{Connector, Trust};
use ringback::replay::{Outcome, Replay, Speed, compare};
use ringback::socket::DialError;
use ringback_proto::provider::{Dial, Provider, find};
use ringback_proto::transcript::{Direction, Transcript};
use serde_json::Value;
use support::{Caller, Folder, Host, PATIENCE, Process, quoted, root, soon, summaries};

/// The call that every provider's transcripts begin with.
fn call_of(provider: &dyn Provider) -> PathBuf {
    root().join("bridge/proto/transcripts").join(provider.name()).join("call.jsonl")
}

fn read(path: &std::path::Path) -> Transcript {
    let text = std::fs::read_to_string(path).unwrap();
    Transcript::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

async fn replay(
    host: &Host,
    provider: &'static dyn Provider,
    transcript: &Transcript,
    target: String,
    headers: &[(&str, &str)],
) -> Result<Outcome, ClientError> {
    let replay = Replay {
        transcript,
        provider,
        to: WsUrl::plain(host.address.to_string(), target).into(),
        headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        speed: Speed::Max,
    };
    let connector = Connector::new(Trust::from_options(None, false));
    soon("the end of the replay", replay.run(host.clock, &connector)).await
}

#[tokio::test]
async fn every_providers_transcript_is_a_call_to_a_live_bridge() {
    let host = Arc::new(Host::on_loopback(""));
    let mut replays = tokio::task::JoinSet::new();
    for provider in support::over_one_socket() {
        let host = host.clone();
        replays.spawn(async move {
            let (name, transcript) = (provider.name(), read(&call_of(provider)));
            let query = transcript.target.split_once('?').map(|(_, query)| format!("?{query}"));
            let target = format!("/{name}{}", query.unwrap_or_default());
            let outcome = replay(&host, provider, &transcript, target, &[]).await;
            let outcome = outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(outcome.unsaid, None, "{name}: all of it is said");
            let lines = transcript.lines.iter().filter(|line| line.direction == Direction::In);
            let messages = lines.filter(|line| line.wire.message().is_some()).count() as u64;
            assert_eq!(outcome.sent.0.values().sum::<u64>(), messages, "{name}");
        });
    }
    while let Some(replayed) = replays.join_next().await {
        replayed.expect("a replay failed");
    }
    let ended = host
        .log
        .until("the end of all calls", |entries| {
            let ended: Vec<_> = summaries(entries).cloned().collect();
            (ended.len() == support::over_one_socket().len()).then_some(ended)
        })
        .await;
    for summary in ended {
        // Some carry words instead.
        let provider = find(summary.provider).expect("of the table");
        let has_sound = !provider.formats().is_empty();
        assert_eq!(summary.frames_in > 0, has_sound, "{}: sound is heard", summary.provider);
    }
    Arc::into_inner(host).expect("all replays are over").stop().await;
}

#[tokio::test]
async fn a_capture_is_replayed_with_credentials_that_it_does_not_have() {
    let folder = Folder::new("replay-capture");
    let token = folder.write("token", "opens").display().to_string();
    let dir = quoted(folder.path("captures").display());
    let listener = r#"
[[listener]]
name = "twilio"
path = "/twilio"
provider = "twilio"
auth = { kind = "header", header = "x-credential", token = "file:TOKEN" }
"#;
    let toml = format!("[capture]\ndir = {dir}\n{}", listener.replace("TOKEN", &token));
    let provider = find("twilio").unwrap();
    let host = Host::on_loopback(&toml);
    let dial = Dial { target: "/twilio".into(), ..Dial::default() };
    let stream = host.connect().await;
    let opens = [("x-credential", "opens")];
    let mut caller = Caller::dial(host.clock, stream, provider, &dial, &opens).await.unwrap();
    caller.speak(&[1_000; 160 * 20]).await;
    caller.hang_up().await;
    host.stop().await;
    let files = std::fs::read_dir(folder.path("captures/twilio")).unwrap();
    let files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let transcript = read(file);

    let host = Host::on_loopback(&listener.replace("TOKEN", &token));
    let refused = replay(&host, provider, &transcript, transcript.target.clone(), &[]).await;
    let is_401 = |error: &ClientError| {
        matches!(error, ClientError::Dial { error: DialError::Refused { status: 401, .. }, .. })
    };
    assert!(refused.as_ref().is_err_and(is_401), "{refused:?}");
    let target = transcript.target.clone();
    let outcome = replay(&host, provider, &transcript, target, &opens).await.unwrap();
    host.stop().await;
    let comparison = compare(provider, &transcript, &outcome);
    assert_eq!(outcome.closed, comparison.closed, "the stream ends as it did");
    let media = comparison.counts.iter().find(|count| count.kind == "media").expect("an echo");
    assert!(media.captured > 0 && media.replayed > 0, "{media:?}");
    assert_eq!((outcome.sent.0["start"], outcome.sent.0["media"]), (1, 20));
}

#[test]
fn the_command_tells_how_answers_compare() {
    let process = Process::serve(&["--no-config"], &[]);
    let url = format!("ws://{}", process.address);
    let file = call_of(find("twilio").unwrap()).display().to_string();
    let replay = |more: &[&str]| {
        let args = ["replay", &file, "--url", &url, "--speed", "max"];
        support::run(&mut support::ringback(args.iter().chain(more)), PATIENCE)
    };
    let shown = replay(&[]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    for words in ["sent in ", "1 start", "captured  now", "first difference", "closed by the "] {
        assert!(shown.stdout.contains(words), "{words:?} is not in\n{}", shown.stdout);
    }
    let checked = replay(&["--json", "--check"]);
    // An echo sets other marks than whoever answered the call of the transcript.
    assert_eq!(checked.code, Some(1), "{}", checked.stderr);
    let told: Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!(told["same"], false);
    assert_eq!(told["sent"]["start"], 1);
    assert!(told["first_difference"]["captured"]["line"].is_u64(), "{told:#}");
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
}

#[test]
fn what_cannot_be_replayed_is_refused_with_file_and_line() {
    let folder = Folder::new("replay-wrong");
    let first = r#"{"dir":"in","type":"upgrade","data":"/twilio"}"#;
    let wrong = folder.write("twilio/wrong.jsonl", &format!("{first}\n{{\"dir\":\"up\"}}\n"));
    let nobodys = folder.write("nobody/call.jsonl", &format!("{first}\n"));
    let fine = folder.write("twilio/call.jsonl", &format!("{first}\n"));
    let missing = folder.path("missing.jsonl");
    let url = "ws://127.0.0.1:1/twilio";
    for (file, code, words) in [
        (&wrong, 64, "wrong.jsonl: line 2: "),
        (&nobodys, 64, "--provider"),
        (&missing, 64, "missing.jsonl: "),
        (&fine, 69, "cannot connect to 127.0.0.1:1: "),
    ] {
        let args = ["replay", &file.display().to_string(), "--url", url];
        let ended = support::run(&mut support::ringback(args), Duration::from_secs(30));
        assert_eq!(ended.code, Some(code), "{}: {}", file.display(), ended.stderr);
        assert!(ended.stderr.contains(words), "{words:?} is not in {}", ended.stderr);
    }
}
