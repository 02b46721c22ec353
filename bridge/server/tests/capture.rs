//! What `--capture` writes: a call of every provider over a real socket, redacted, whole, and understood by the bridge's own end as the
//! live call was.
#![allow(clippy::unwrap_used, reason = "a test that cannot read its own files has failed")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ringback_codecs::MediaFormat;
use ringback_proto::Instant;
use ringback_proto::provider::{
    Dial, Digit, Event, Outbox, PROVIDERS, PlayoutPolicy, Provider, Start, Transport, Upgrade,
};
use ringback_proto::session::{Report, Summary};
use ringback_proto::transcript::{Direction, Transcript, Wire};
use support::{Caller, Folder, Host, Process, What, quoted, soon};

const FROM: &str = "+15557348291";
const TO: &str = "+15556613072";
const PARAMETER: &str = "parameter-vd52h-canary";
const QUERY: &str = "query-zp47w-canary";
const HEADER: &str = "header-kx81m-canary";

/// What may be found nowhere. Of numbers, the digits; of the rest, the part that is no word.
const CANARIES: [&str; 6] = ["5557348291", "5556613072", "vd52h", "zp47w", "kx81m", "canary"];

/// What is dialled for a call of a provider, with a credential in the query.
fn dial(provider: &dyn Provider) -> Dial {
    Dial {
        target: format!("/{}?token={QUERY}", provider.name()),
        call: format!("call-of-{}", provider.name()),
        from: FROM.into(),
        to: TO.into(),
        parameters: vec![("account".into(), PARAMETER.into()), ("pin".into(), "kx81m".into())],
        ..Dial::default()
    }
}

/// Every provider at a path of its name, with a credential in the query, or in a header field where its wire drops the query.
fn listeners() -> String {
    let listener = |provider: &&dyn Provider| {
        let (name, target) = (provider.name(), provider.dial(&dial(*provider)).0.target);
        let auth = match provider.transport() {
            Transport::Records => "",
            Transport::WebSocket if target.contains(QUERY) => {
                r#"auth = { kind = "query", parameter = "token", token = "file:TOKEN" }"#
            }
            Transport::WebSocket => {
                r#"auth = { kind = "header", header = "x-credential", token = "file:TOKEN" }"#
            }
            Transport::Webhook { .. } => panic!("not over one socket: see `dialled`"),
        };
        format!(
            "[[listener]]\nname = \"{name}\"\npath = \"/{name}\"\nprovider = \"{name}\"\n{auth}\n"
        )
    };
    support::over_one_socket().iter().map(listener).collect()
}

fn configuration(folder: &Folder, capture: &str) -> String {
    let token = folder.write("token", QUERY).display().to_string();
    let dir = quoted(folder.path("captures").display());
    format!("[capture]\ndir = {dir}\n{capture}\n{}", listeners()).replace("TOKEN", &token)
}

/// All captures in a folder, by the name of their provider.
fn captures(folder: &Folder) -> BTreeMap<String, Vec<PathBuf>> {
    let entries = |path: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let folders = entries(&folder.path("captures"));
    folders.into_iter().map(|path| (name(&path), entries(&path))).collect()
}

fn plays(provider: &dyn Provider) -> bool {
    provider.capabilities().playout != PlayoutPolicy::None
}

/// A call with everything in it that must not be found, and what was said on it.
async fn call(host: &Host, provider: &'static dyn Provider) -> (Caller, String) {
    let dial = dial(provider);
    let headers = [
        ("Authorization", HEADER),
        ("Cookie", HEADER),
        ("X-Twilio-Signature", HEADER),
        ("X-Credential", QUERY),
    ];
    let stream = host.connect().await;
    let mut caller = Caller::dial(host.clock, stream, provider, &dial, &headers)
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", provider.name()));
    caller.in_step = false;
    if provider.formats().is_empty() {
        // It carries words instead of sound; its beginning has all that must not be found.
        return (caller.hang_up().await, dial.call);
    }
    let format = caller.format().await;
    let said: Vec<i16> =
        (0..format.rate.samples_in(Duration::from_millis(1_000))).map(support::known).collect();
    caller.speak(&said).await;
    if provider.capabilities().dtmf_in {
        caller.press(Digit::new('9').unwrap()).await;
    }
    caller.pause(20).await;
    (caller.hang_up().await, dial.call)
}

/// What our own end makes of a capture.
#[derive(Default)]
struct Understood {
    start: Option<Start>,
    media: u64,
    digits: usize,
}

fn understood(provider: &dyn Provider, transcript: &Transcript) -> Understood {
    let headers: Vec<_> =
        transcript.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let upgrade = Upgrade { target: &transcript.target, public_url: None, headers: &headers };
    let accepted = provider.accept(&upgrade, &transcript.options);
    let mut end = accepted.unwrap_or_else(|why| panic!("{}: {why}", provider.name())).protocol;
    let (mut out, mut all) = (Outbox::new(), Understood::default());
    let mut take = |out: &mut Outbox| {
        for event in out.events() {
            match event {
                Event::Started(start) => all.start = Some((**start).clone()),
                Event::Media(_) => all.media += 1,
                Event::Dtmf { .. } => all.digits += 1,
                Event::Notice(notice) => panic!("{}: {notice:?}", provider.name()),
                _ => {}
            }
        }
        out.reset();
    };
    end.handle_open(Instant::ZERO, &mut out).unwrap();
    take(&mut out);
    for line in transcript.lines.iter().filter(|line| line.direction == Direction::In) {
        if end.poll_timeout().is_some_and(|at| at <= line.at) {
            end.handle_timeout(line.at, &mut out).unwrap();
            take(&mut out);
        }
        if let Some(message) = line.wire.message() {
            let handled = end.handle_message(line.at, message, &mut out);
            handled.unwrap_or_else(|why| panic!("{} line {}: {why}", provider.name(), line.number));
            take(&mut out);
        }
    }
    all
}

/// The start of the live call.
fn started(host: &Host, summary: &Summary) -> Start {
    let entries = host.log.entries();
    let mut of_call = entries.iter().filter(|entry| entry.call == summary.call);
    of_call
        .find_map(|entry| match &entry.what {
            What::Report(Report::Started(start), _) => Some((**start).clone()),
            _ => None,
        })
        .expect("the call started")
}

/// What redaction leaves of a start: everything but whose call it is.
fn shape(start: &Start) -> impl PartialEq + std::fmt::Debug {
    let length = |text: &Option<String>| text.as_ref().map(String::len);
    let names: Vec<_> =
        start.parameters.iter().map(|(name, value)| (name.clone(), value.len())).collect();
    let parties = [&start.stream, &start.call, &start.from, &start.to].map(length);
    (parties, names, start.tracks.clone(), start.inbound, start.outbound, start.capabilities)
}

/// That nothing of the sound is in the file: no piece of any payload, in hex or in base64.
fn check_sound(format: MediaFormat, caller: &Caller, text: &str) {
    let silence = |piece: &[u8]| piece.windows(2).all(|pair| pair[0] == pair[1]);
    for payload in caller.sent.iter().chain(&caller.heard) {
        let Some(piece) = payload.get(..12).filter(|piece| !silence(piece)) else { continue };
        let hex: String = piece.iter().map(|octet| format!("{octet:02x}")).collect();
        let base64 = base64_simd::STANDARD.encode_to_string(piece);
        assert!(!text.contains(&hex) && !text.contains(&base64), "{format}: sound is in the file");
    }
}

#[tokio::test]
async fn every_providers_calls_are_captured_whole_and_name_nobody() {
    let folder = Folder::new("capture-all");
    let host = Arc::new(Host::on_loopback(&configuration(&folder, "")));
    let mut calls = tokio::task::JoinSet::new();
    for provider in support::over_one_socket() {
        let host = host.clone();
        calls.spawn(async move {
            let (mut caller, usual) = call(&host, provider).await;
            let has_sound = !provider.formats().is_empty();
            let format = if has_sound { Some(caller.format().await) } else { None };
            let summary = host.log.ended(caller.call().unwrap_or(&usual)).await;
            (provider, format, caller, summary)
        });
    }
    let mut done = Vec::new();
    while let Some(call) = calls.join_next().await {
        done.push(call.expect("a call failed"));
    }
    let starts: Vec<_> = done.iter().map(|(_, _, _, summary)| started(&host, summary)).collect();
    let digits = |call: &str| {
        let is_digit = |what: &What| matches!(what, What::Report(Report::Dtmf(None, _), _));
        host.log.entries().iter().filter(|e| e.call == call && is_digit(&e.what)).count()
    };
    let digits: Vec<_> = done.iter().map(|(_, _, _, summary)| digits(&summary.call)).collect();
    Arc::into_inner(host).expect("all calls are over").stop().await;

    let files = captures(&folder);
    assert_eq!(files.len(), support::over_one_socket().len(), "{files:?}");
    for (((provider, format, caller, summary), start), digits) in
        done.iter().zip(&starts).zip(digits)
    {
        let name = provider.name();
        let [path] = files[name].as_slice() else { panic!("{name}: {:?}", files[name]) };
        let text = std::fs::read_to_string(path).unwrap();
        for canary in CANARIES {
            let line = text.lines().find(|line| line.contains(canary));
            assert_eq!(line, None, "{canary} is in the capture of {name}");
        }
        if let Some(format) = format {
            check_sound(*format, caller, &text);
        }
        let transcript = Transcript::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let about = transcript.about.as_ref().expect("a capture says where it is from");
        assert_eq!((about.provider.as_str(), about.call.as_str()), (name, summary.call.as_str()));
        assert_eq!(about.sound, "silence of the same length");
        assert_eq!(transcript.notes, [], "{name}");

        let again = understood(*provider, &transcript);
        let understood_start = again.start.unwrap_or_else(|| panic!("{name} does not start"));
        assert_eq!(
            format!("{:?}", shape(&understood_start)),
            format!("{:?}", shape(start)),
            "{name}"
        );
        assert_eq!(again.media, summary.frames_in, "{name}: sound that came in");
        assert_eq!(again.digits, digits, "{name}: keys");
        let out = transcript.lines.iter().filter(|line| line.direction == Direction::Out);
        let spoken = out.filter(|line| line.wire.message().is_some()).count() as u64;
        assert!(spoken >= summary.frames_out, "{name}: {spoken} of {}", summary.frames_out);
        assert_eq!(summary.frames_out > 0, plays(*provider), "{name}");
        let last = transcript.lines.last().expect("something was said");
        assert!(matches!(last.wire, Wire::Close(_)), "{name} ends with {last:?}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn captures_are_for_nobody_elses_eyes() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = Folder::new("capture-modes");
    let host = Host::on_loopback(&configuration(&folder, ""));
    call(&host, PROVIDERS[0]).await;
    host.stop().await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let files = captures(&folder);
    assert_eq!(mode(&folder.path("captures")), 0o700);
    assert_eq!(mode(&files[PROVIDERS[0].name()][0]), 0o600);
}

#[tokio::test]
async fn sound_is_kept_when_asked_for_and_nothing_else() {
    let folder = Folder::new("capture-sound");
    let host = Host::on_loopback(&configuration(&folder, "audio = true"));
    let (caller, _) = call(&host, PROVIDERS[0]).await;
    host.stop().await;
    let text = std::fs::read_to_string(&captures(&folder)[PROVIDERS[0].name()][0]).unwrap();
    let payload = base64_simd::STANDARD.encode_to_string(&caller.sent[0]);
    assert!(text.contains(&payload), "the sound is not in the file");
    assert!(CANARIES.iter().all(|canary| !text.contains(canary)), "more than the sound was kept");
    assert!(text.lines().next().unwrap().contains("\"sound\":\"as it was\""));
}

#[tokio::test]
async fn no_more_files_are_begun_than_allowed_and_calls_go_on() {
    let folder = Folder::new("capture-limits");
    let host = Host::on_loopback(&configuration(&folder, "max_files = 1"));
    for _ in 0..2 {
        let (caller, _) = call(&host, PROVIDERS[0]).await;
        assert!(!caller.heard.is_empty(), "the echo is heard");
    }
    host.stop().await;
    let files = captures(&folder);
    assert_eq!(files.values().map(Vec::len).sum::<usize>(), 1, "{files:?}");
}

#[tokio::test]
async fn a_capture_is_whole_up_to_its_last_line_when_the_bridge_is_killed() {
    let folder = Folder::new("capture-killed");
    let dir = folder.path("captures");
    let process = Process::serve(&["--no-config", "--capture", &dir.display().to_string()], &[]);
    let clock = ringback::clock::Clock::start();
    let stream =
        soon("a connection", tokio::net::TcpStream::connect(&process.address)).await.unwrap();
    let dial = Dial { target: "/twilio".into(), ..Dial::default() };
    let mut caller = Caller::dial(clock, stream, PROVIDERS[0], &dial, &[]).await.unwrap();
    caller.speak(&[1_000; 160 * 25]).await;
    let path = captures(&folder)["twilio"][0].clone();
    let read = || std::fs::read_to_string(&path).unwrap();
    soon("lines of the capture", async {
        while read().lines().count() < 20 {
            caller.pause(1).await;
        }
    })
    .await;
    process.signal("KILL");
    process.finish();
    let text = read();
    assert!(text.ends_with('\n'), "the last line is whole");
    let transcript = Transcript::parse(&text).unwrap();
    assert!(transcript.lines.len() >= 19, "{} lines", transcript.lines.len());
    assert_eq!(transcript.notes, []);
}

#[test]
fn a_folder_that_cannot_be_written_is_refused_at_the_start() {
    let folder = Folder::new("capture-nowhere");
    let file = folder.write("file", "");
    let dir = file.join("captures").display().to_string();
    let args = ["serve", "--no-config", "--bind", "127.0.0.1:0", "--capture", &dir];
    let finished = support::run(&mut support::ringback(args), Duration::from_secs(30));
    assert_eq!(finished.code, Some(64), "{}", finished.stderr);
    assert!(
        finished.stderr.contains(&format!("cannot capture into {dir}: ")),
        "{}",
        finished.stderr
    );
    let args = ["serve", "--no-config", "--bind", "127.0.0.1:0", "--capture-audio"];
    let finished = support::run(&mut support::ringback(args), Duration::from_secs(30));
    assert_eq!(finished.code, Some(64), "{}", finished.stderr);
    assert!(finished.stderr.contains("--capture-audio"), "{}", finished.stderr);
}
