//! Providers that post that a call is there and are dialled, over sockets: whole calls, what is refused, and that one stream is one call.

#![allow(clippy::unwrap_used, reason = "a test whose ground gives way has failed")]
#![allow(
    clippy::print_stdout,
    reason = "how many were refused is what one looks for in the output"
)]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use ringback::client::{Client, ClientError, WsUrl};
use ringback::destination::Destination;
use ringback::outgoing::Connector;
use ringback::replay::{Replay, Speed, compare};
use ringback::socket::DialError;
use ringback_codecs::MediaFormat;
use ringback_proto::provider::auth::Occasion;
use ringback_proto::provider::{
    App, Dial, Line, Notice, OutgoingUpgrade, PROVIDERS, Proof, Provider, Secret, Track, Transport,
    find,
};
use ringback_proto::session::Report;
use ringback_proto::transcript::{Direction, Transcript, Wire};
use ringback_proto::{Instant, UnixSeconds};
use support::{Entry, Folder, Host, What, assert_whole, known, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const FRAME: Duration = Duration::from_millis(20);
const FRAMES: u64 = 25;

fn dialled() -> Vec<&'static dyn Provider> {
    let is = |p: &&&dyn Provider| matches!(p.transport(), Transport::Webhook { .. });
    PROVIDERS.iter().filter(is).copied().collect()
}

fn url(host: &Host, provider: &dyn Provider) -> WsUrl {
    WsUrl::plain(host.address.to_string(), format!("/{}", provider.name()))
}

fn dial(call: &str, format: MediaFormat) -> Dial {
    Dial { call: call.into(), format: Some(format), ..Dial::default() }
}

async fn place(host: &Host, provider: &dyn Provider, dial: Dial) -> Result<Client, ClientError> {
    place_at(host, provider, dial, url(host, provider).into()).await
}

async fn place_at(
    host: &Host,
    provider: &dyn Provider,
    dial: Dial,
    to: Destination,
) -> Result<Client, ClientError> {
    Client::connect(host.clock, &host.connector, to, provider, dial, false).await
}

/// Goes on until the stream has started.
async fn started(client: &mut Client) -> Result<(), ClientError> {
    soon("the start", async {
        while client.phone().start().is_none() {
            client.next().await?;
        }
        Ok(())
    })
    .await
}

async fn speak(client: &mut Client, format: MediaFormat) {
    let samples = (0..FRAMES * format.rate.samples_in(FRAME)).map(known).collect::<Vec<_>>();
    client.speak(&samples);
    soon("all words", async {
        while client.phone().unspoken(Track::Inbound) > 0 {
            let wake = client.phone().poll_timeout();
            let event = client.next();
            let timer = tokio::time::sleep(FRAME);
            tokio::select! {
                event = event => drop(event.expect("the call goes on")),
                () = timer => {}
            }
            assert!(wake.is_some(), "nothing more is said");
        }
    })
    .await;
}

/// What is posted and answered, as text.
async fn exchange(host: &Host, request: &str) -> String {
    let mut io = host.connect().await;
    io.write_all(request.as_bytes()).await.expect("the bridge reads");
    let mut answer = String::new();
    soon("an answer", io.read_to_string(&mut answer)).await.expect("text");
    answer
}

fn post(path: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{fields}\r\n{body}"
    )
}

fn notices(entries: &[Entry]) -> impl Iterator<Item = &Notice> {
    entries.iter().filter_map(|entry| match &entry.what {
        What::Report(Report::Notice(notice), _) => Some(notice),
        _ => None,
    })
}

#[tokio::test]
async fn every_frame_that_is_said_is_heard() {
    let host = Host::on_loopback("");
    for provider in dialled() {
        for (index, format) in provider.formats().iter().enumerate() {
            let call = format!("call-{index}");
            let mut client = place(&host, provider, dial(&call, *format)).await.unwrap();
            started(&mut client).await.unwrap();
            speak(&mut client, *format).await;
            client.hang_up().await.unwrap();
            let summary = host.log.ended(&call).await;
            assert_whole(&summary, &[]);
            let said = client.counters().frames_sent;
            assert!(said >= FRAMES && summary.frames_in == said, "{said} {}", summary.frames_in);
            assert_eq!(summary.reason.name(), "remote", "{}", summary.reason);
        }
    }
    host.stop().await;
}

/// Who posts tells neither numbers nor parameters, but a request has header fields, too.
#[tokio::test]
async fn what_is_posted_is_routed_as_well() {
    for provider in dialled() {
        let name = provider.name();
        let module = |name: &str| format!("[[module]]\nname = \"{name}\"\nbuiltin = \"vad\"\n");
        let route = |name: &str, when: &str| {
            module(name) + &format!("[[route]]\nname = \"{name}\"\nmodules = [\"{name}\"]\n{when}")
        };
        let toml = format!(
            "[[listener]]\nname = \"{name}\"\npath = \"/{name}\"\nprovider = \"{name}\"\ninsecure = true\n\
             options = {{ dial = [\"ws://127.0.0.1\"] }}\n"
        );
        let routes = route("elsewhere", "when = { headers = { host = \"elsewhere*\" } }\n")
            + &route("here", "when = { headers = { host = \"127.0.0.1:*\" } }\n");
        let host = Host::on_loopback(&(toml + &routes));
        let format = provider.formats()[0];
        let mut client = place(&host, provider, dial("a-call", format)).await.unwrap();
        started(&mut client).await.unwrap();
        speak(&mut client, format).await;
        client.hang_up().await.unwrap();
        let summary = host.log.ended("a-call").await;
        assert_whole(&summary, &[]);
        assert_eq!(summary.route.as_deref(), Some("here"), "{name}");
        host.stop().await;
    }
}

/// What the only call of a provider was captured as.
fn captured(folder: &Folder, provider: &dyn Provider) -> (PathBuf, String) {
    let files = std::fs::read_dir(folder.path("captures").join(provider.name())).unwrap();
    let files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    (file.clone(), std::fs::read_to_string(file).unwrap())
}

/// A capture has the post that began the call and every line by its name, names nobody, and says the same again.
#[tokio::test]
async fn a_call_that_the_bridge_dials_is_captured_and_replayed() {
    for provider in dialled() {
        let folder = Folder::new("dialled-capture");
        let dir = support::quoted(folder.path("captures").display());
        let host = Host::on_loopback(&format!("[capture]\ndir = {dir}\n"));
        let mut client =
            place(&host, provider, dial("canary-7348291", provider.formats()[0])).await.unwrap();
        started(&mut client).await.unwrap();
        speak(&mut client, provider.formats()[0]).await;
        client.hang_up().await.unwrap();
        let live = host.log.ended("canary-7348291").await;
        host.stop().await;

        let (file, text) = captured(&folder, provider);
        assert!(!text.contains("canary") && !text.contains("7348291"), "{}", file.display());
        let transcript = Transcript::parse(&text).unwrap();
        assert_eq!(transcript.notes, []);
        let of = |is: fn(&Wire) -> bool| transcript.lines.iter().filter(|l| is(&l.wire)).count();
        assert!(of(|wire| matches!(wire, Wire::Text(_))) >= 1, "what is posted");
        assert_eq!(of(|wire| matches!(wire, Wire::Dial(..))), 2);
        assert_eq!(of(|wire| matches!(wire, Wire::Opened(_))), 2);
        let last = transcript.lines.last().map(|line| &line.wire);
        assert_eq!(last, Some(&Wire::Close(1000)), "{}", file.display());

        let host = Host::on_loopback("");
        let replay = Replay {
            transcript: &transcript,
            provider,
            to: url(&host, provider).into(),
            headers: Vec::new(),
            speed: Speed::Max,
        };
        let outcome = soon("the replay", replay.run(host.clock, &Connector::default())).await;
        let outcome = outcome.unwrap();
        let again = host.log.ended_alone().await;
        assert!(live.frames_in >= FRAMES && again.frames_in == live.frames_in, "{again:?}");
        let comparison = compare(provider, &transcript, &outcome);
        assert!(comparison.is_same(&outcome), "{comparison:#?}\n{outcome:#?}");
        host.stop().await;
    }
}

/// Of a transcript that nobody answers as it says: it ends, and says where.
#[tokio::test]
async fn a_replay_that_is_refused_or_left_alone_ends_and_says_where() {
    let provider = find("zoom-rtms").unwrap();
    let path = support::root().join("bridge/proto/transcripts/zoom-rtms/call.jsonl");
    let transcript = Transcript::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    let folder = Folder::new("dialled-replay");
    let file = folder.write("secret", "the-secret").display().to_string();
    let host = Host::on_loopback(&SIGNED.replace("{file}", &file));
    let to = Destination::from(url(&host, provider));
    let proof = Proof::ZoomSignature { secret: Secret::from("the-secret") };
    let signed = Destination { proof, ..to.clone() };
    let replay = async |to: Destination| {
        let (headers, speed) = (Vec::new(), Speed::Max);
        let replay = Replay { transcript: &transcript, provider, to, headers, speed };
        soon("the replay", replay.run(host.clock, &Connector::default())).await
    };
    match replay(to).await {
        Err(ClientError::Dial { error: DialError::Refused { status: 401, .. }, .. }) => {}
        other => panic!("{other:?}"),
    }
    let outcome = replay(signed).await.unwrap();
    assert_eq!(outcome.unsaid, None);
    assert_eq!(outcome.sent.0["media type 14"], 4);
    host.stop().await;
}

/// Header fields that sign a request with the secret of [`SIGNED`].
fn signature(body: &str, now: UnixSeconds) -> Vec<(String, String)> {
    let mut request = OutgoingUpgrade::default();
    let proof = Proof::ZoomSignature { secret: Secret::from("the-secret") };
    let (host, secure, public_url) = ("x", false, None);
    let occasion = Occasion { now, nonce: "", host, secure, public_url, body };
    proof.sign(&mut request, &occasion).unwrap();
    request.headers
}

const SIGNED: &str = "
[[listener]]
name = \"zoom-rtms\"
path = \"/zoom-rtms\"
provider = \"zoom-rtms\"
auth = { kind = \"zoom-signature\", secret = \"file:{file}\" }
options = { client_id = \"id\", client_secret = \"file:{file}\", dial = [\"ws://127.0.0.1\"] }
[[module]]
name = \"dtmf\"
builtin = \"dtmf\"
[[route]]
name = \"default\"
modules = [\"dtmf\"]
";

#[tokio::test]
async fn only_signed_requests_begin_calls_and_only_the_right_secret_opens_the_servers() {
    let folder = support::Folder::new("dialled");
    let file = folder.write("secret", "the-secret").display().to_string();
    let host = Host::on_loopback(&SIGNED.replace("{file}", &file));
    let provider = find("zoom-rtms").expect("in the table");
    let format = provider.formats()[0];
    let app = |secret: &str| App { client_id: "id".into(), client_secret: Secret::from(secret) };
    let signed = async |call: &str, secret: &str, client_secret: &str| {
        let proof = Proof::ZoomSignature { secret: Secret::from(secret) };
        let to = Destination { proof, app: app(client_secret), ..url(&host, provider).into() };
        place_at(&host, provider, dial(call, format), to).await.unwrap()
    };
    // A webhook that somebody else signed.
    let mut client = signed("forged", "x", "the-secret").await;
    match started(&mut client).await {
        Err(ClientError::Dial { error: DialError::Refused { status: 401, body, .. }, .. }) => {
            assert_eq!(body, "authentication failed; the bridge's log says why");
        }
        other => panic!("{other:?}"),
    }
    // Servers that know another secret: the call begins, and is refused.
    let mut client = signed("refused", "the-secret", "x").await;
    match started(&mut client).await {
        Err(error @ ClientError::NotBegun { code: 1002, .. }) => {
            assert!(error.to_string().contains("--client-secret"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let refused = host.log.ended_alone().await;
    assert!(refused.reason.to_string().contains("refused with status 3"), "{}", refused.reason);
    // All as it should be.
    let mut client = signed("right", "the-secret", "the-secret").await;
    started(&mut client).await.unwrap();
    client.hang_up().await.unwrap();
    host.log.ended("right").await;
    // Whether the URL is ours.
    let body = r#"{"event":"endpoint.url_validation","payload":{"plainToken":"token"}}"#;
    let now = ringback::clock::WallTime::now().unix_seconds();
    let fields = signature(body, now);
    let fields: String =
        fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let answer = exchange(&host, &post("/zoom-rtms", &fields, body)).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\"encryptedToken\""),
        "{answer}"
    );
    let again = exchange(&host, &post("/zoom-rtms", &fields, body)).await;
    assert!(again.starts_with("HTTP/1.1 401"), "replayed: {again}");
    host.stop().await;
}

#[tokio::test]
async fn a_post_that_is_told_to_come_again_may_come_with_the_same_signature() {
    let folder = support::Folder::new("dialled-again");
    let file = folder.write("secret", "the-secret").display().to_string();
    let signed = SIGNED.replace("{file}", &file);
    let host = Host::on_loopback(&format!("[limits]\nmax_calls = 1\n{signed}"));
    let provider = find("zoom-rtms").expect("in the table");
    let secret = Secret::from("the-secret");
    let app = App { client_id: "id".into(), client_secret: secret.clone() };
    let proof = Proof::ZoomSignature { secret };
    let to = Destination { proof, app, ..url(&host, provider).into() };
    let dial = dial("first", provider.formats()[0]);
    let mut client = place_at(&host, provider, dial, to).await.unwrap();
    started(&mut client).await.unwrap();
    let body = r#"{"event":"meeting.rtms_started","payload":{"meeting_uuid":"m","rtms_stream_id":"second","server_urls":"ws://127.0.0.1:1"}}"#;
    let now = ringback::clock::WallTime::now().unix_seconds();
    let fields = signature(body, now);
    let fields: String =
        fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = post("/zoom-rtms", &fields, body);
    for _ in 0..2 {
        let full = exchange(&host, &request).await;
        assert!(full.starts_with("HTTP/1.1 503"), "{full}");
    }
    client.hang_up().await.unwrap();
    host.log.ended("first").await;
    let taken = soon("a free place", async {
        loop {
            let answer = exchange(&host, &request).await;
            if !answer.starts_with("HTTP/1.1 503") {
                return answer;
            }
        }
    });
    let taken = taken.await;
    assert!(taken.starts_with("HTTP/1.1 200"), "{taken}");
    let again = exchange(&host, &request).await;
    assert!(again.starts_with("HTTP/1.1 401"), "replayed: {again}");
    host.shutdown.cut();
    host.log
        .until("both to end", |entries| {
            let ended = entries.iter().filter(|entry| matches!(entry.what, What::Ended(_)));
            (ended.count() == 2).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_stream_is_one_call_however_often_it_is_posted() {
    let host = Host::on_loopback("");
    let provider = find("zoom-rtms").expect("in the table");
    let format = provider.formats()[0];
    let mut client = place(&host, provider, dial("once", format)).await.unwrap();
    started(&mut client).await.unwrap();
    // With the URL of the server that is dialled already, and about a stream that nobody knows.
    let again = r#"{"event":"meeting.rtms_interrupted","payload":{"meeting_uuid":"once","rtms_stream_id":"rtms-once"}}"#;
    let started = r#"{"event":"meeting.rtms_started","payload":{"meeting_uuid":"once","rtms_stream_id":"rtms-once"}}"#;
    let unknown = r#"{"event":"meeting.rtms_stopped","payload":{"rtms_stream_id":"other"}}"#;
    let other = r#"{"event":"meeting.ended","payload":{}}"#;
    for body in [again, started, unknown, other] {
        let answer = exchange(&host, &post("/zoom-rtms", "", body)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    host.log
        .until("both to be noticed", |entries| {
            let again = |notice: &&Notice| format!("{notice:?}").contains("again");
            (notices(entries).filter(again).count() == 2).then_some(())
        })
        .await;
    speak(&mut client, format).await;
    client.hang_up().await.unwrap();
    assert_whole(&host.log.ended("once").await, &[]);
    host.stop().await;
}

#[tokio::test]
async fn what_is_no_request_of_a_provider_is_refused_and_others_are_not_dialled() {
    let host = Host::on_loopback("");
    let large = format!("{{\"event\":\"{}\"}}", "x".repeat(70_000));
    let origin = "origin: https://evil.example\r\n";
    for (request, status) in [
        ("GET /zoom-rtms HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), 405),
        (post("/zoom-rtms", "", "{"), 400),
        (post("/zoom-rtms", "", "{}"), 400),
        (post("/zoom-rtms", origin, r#"{"event":"meeting.ended"}"#), 403),
        (post("/zoom-rtms", "", &large), 413),
        (post("/zoom-rtms/x", "", "{}"), 404),
    ] {
        let answer = exchange(&host, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer}");
    }
    host.stop().await;
}

/// URLs as somebody posts them who would have us dial this machine, with {} for a port of it.
const SENT: [&str; 30] = [
    "wss://169.254.169.254/latest",
    "ws://127.0.0.1:{}/",
    "wss://127.0.0.1:{}/",
    "wss://127.1:{}/",
    "wss://2130706433:{}/",
    "wss://0x7f000001:{}/",
    "wss://017700000001:{}/",
    "wss://0177.0.0.1:{}/",
    "wss://0:{}/",
    "wss://0.0.0.0:{}/",
    "wss://[::1]:{}/",
    "wss://[::]:{}/",
    "wss://[::ffff:127.0.0.1]:{}/",
    "wss://[::ffff:7f00:1]:{}/",
    "wss://localhost:{}/",
    "wss://LOCALHOST:{}/",
    "wss://localhost.:{}/",
    "wss://zoom.us@127.0.0.1:{}/",
    "wss://127.0.0.1:{}/.zoom.us",
    "wss://127.0.0.1:{}?.zoom.us",
    "wss://127.0.0.1:{}#.zoom.us",
    "wss://127.0.0.1:{}\\\\.zoom.us/",
    "wss://127.0.0.1:{}%2f.zoom.us/",
    "wss://127.0.0.1:{}\\u0000.zoom.us/",
    "wss://127.0.0.1:{}\\r\\nhost: zoom.us/",
    "wss://\u{ff11}\u{ff12}\u{ff17}.0.0.1:{}/",
    "wss://127\u{3002}0\u{3002}0\u{3002}1:{}/",
    "http://127.0.0.1:{}/",
    "gopher://127.0.0.1:{}/_GET",
    "//127.0.0.1:{}/",
];

/// A server of this machine that tells how many have come, and answers whoever does with `answer`.
async fn counting(answer: String) -> (u16, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let came = std::sync::Arc::new(AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&came);
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, came)
}

/// Posts a call whose server is at `url`, and tells why it cannot be had.
async fn sent(host: &Host, stream: usize, url: &str) -> String {
    let body = format!(
        r#"{{"event":"meeting.rtms_started","payload":{{"meeting_uuid":"m-{stream}","rtms_stream_id":"s-{stream}","server_urls":"{url}"}}}}"#
    );
    let answer = exchange(host, &post("/zoom", "", &body)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "it is answered at once: {url}: {answer}");
    let lost = host.log.until("a line that is not had", |entries| {
        let lost = notices(entries).filter_map(|notice| match notice {
            Notice::LineLost { reason, .. } => Some(reason.clone()),
            _ => None,
        });
        lost.filter(|reason| !reason.is_empty()).nth(stream)
    });
    lost.await
}

fn dialling(dial: &str) -> Host {
    Host::on_loopback(&format!(
        "[[listener]]\nname = \"zoom\"\npath = \"/zoom\"\nprovider = \"zoom-rtms\"\ninsecure = true\n{dial}"
    ))
}

#[tokio::test]
async fn what_others_post_has_nobody_dialled_who_may_not_be() {
    let (port, came) = counting(String::new()).await;
    let to_there = format!("HTTP/1.1 302 Found\r\nlocation: ws://127.0.0.1:{port}/\r\n\r\n");
    let (redirecting, redirected) = counting(to_there).await;
    let count =
        |came: &std::sync::atomic::AtomicUsize| came.load(std::sync::atomic::Ordering::SeqCst);
    let host = dialling("options = { dial = [\"zoom.us\"] }\n");
    for (stream, url) in SENT.iter().enumerate() {
        let url = url.replace("{}", &port.to_string());
        // The log tells what of it may be told.
        let reason = sent(&host, stream, &url).await;
        assert!(!reason.contains("cannot connect"), "{url}: {reason}");
    }
    assert_eq!(count(&came), 0);
    host.shutdown.cut();
    // Who may be dialled is, and sends us nowhere else.
    let near = dialling("options = { dial = [\"ws://127.0.0.1\"] }\n");
    let reason = sent(&near, 0, &format!("ws://127.0.0.1:{redirecting}/")).await;
    assert!(reason.contains("302"), "{reason}");
    assert_eq!((count(&redirected), count(&came)), (1, 0));
    sent(&near, 1, &format!("ws://127.0.0.1:{port}/")).await;
    assert_eq!(count(&came), 1, "or nothing is shown");
    // A name that may be dialled leads where it may not: only what is written as this machine is meant.
    let named = dialling("options = { dial = [\"ws://localhost\"] }\n");
    let reason = sent(&named, 0, &format!("ws://LOCALHOST:{port}/")).await;
    assert!(reason.contains("not a public one"), "{reason}");
    assert_eq!(count(&came), 1);
    named.shutdown.cut();
    println!("{0} of {0} URLs refused, 1 of 1 dialled, 0 redirects followed", SENT.len());
    near.shutdown.cut();
}

/// The post is answered and its connection gone: the call is counted by its own place, and another may be posted.
#[tokio::test]
async fn a_call_keeps_a_place_among_calls_and_none_among_connections() {
    let host = Host::on_loopback("[limits]\nmax_connections = 1\nmax_calls = 2\n");
    let provider = find("zoom-rtms").unwrap();
    let format = provider.formats()[0];
    let mut clients = Vec::new();
    for call in ["one", "two"] {
        let mut client = place(&host, provider, dial(call, format)).await.unwrap();
        started(&mut client).await.unwrap();
        clients.push(client);
    }
    let mut third = place(&host, provider, dial("three", format)).await.unwrap();
    match started(&mut third).await {
        Err(ClientError::Dial { error: DialError::Refused { status: 503, .. }, .. }) => {}
        other => panic!("{other:?}"),
    }
    for mut client in clients {
        client.hang_up().await.unwrap();
    }
    host.log.ended("two").await;
    host.stop().await;
}

/// What Zoom kept for a minute comes at once when its media server is dialled again: all of it is heard, and it is taken for no flood.
#[tokio::test]
async fn a_minute_of_sound_that_was_kept_comes_at_once_and_is_heard() {
    const MINUTE: u64 = 60 * 50;
    let provider = find("zoom-rtms").unwrap();
    let widest = *provider.formats().iter().max_by_key(|format| format.rate).unwrap();
    let path = support::root()
        .join("bridge/proto/transcripts/zoom-rtms/media_lost_and_dialled_again.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    // Sound of the transcript is of another rate.
    let lines = text.lines().filter(|line| !line.contains(r#"\"msg_type\":14"#));
    let lines =
        lines.filter(|line| !line.contains(r#"\"msg_type\":1"#) || !line.contains("timestamp"));
    let mut text: String = lines.map(|line| line.to_owned() + "\n").collect();
    text = text.replace(r#"\"sample_rate\":1"#, r#"\"sample_rate\":3"#);
    let octets = widest.octets_for(widest.rate.samples_in(FRAME) as usize).unwrap();
    let data = base64_simd::STANDARD.encode_to_string(vec![7; octets]);
    for number in 0..MINUTE {
        let time = 1_732_700_000_000 + number * 20;
        let body = format!(
            r#"{{"msg_type":14,"content":{{"user_id":0,"user_name":"","data":"{data}","timestamp":{time}}}}}"#
        );
        let line = Wire::On(Line::Media, body).to_line(Direction::In, Instant::from_millis(9_000));
        text += &(line + "\n");
    }
    let transcript = Transcript::parse(&text).unwrap();
    let host = Host::on_loopback(
        "[[listener]]\nname = \"zoom\"\npath = \"/zoom-rtms\"\nprovider = \"zoom-rtms\"\ninsecure = true\n\
         options = { inbound_format = \"l16le/48000\", dial = [\"ws://127.0.0.1\"] }\n",
    );
    let to = url(&host, provider).into();
    let replay =
        Replay { transcript: &transcript, provider, to, headers: Vec::new(), speed: Speed::Max };
    let outcome = soon("the replay", replay.run(host.clock, &Connector::default())).await.unwrap();
    assert_eq!((outcome.unsaid, outcome.sent.0.get("media type 14")), (None, Some(&MINUTE)));
    let entries = host.log.entries();
    // The replay says good-bye to both lines in the end.
    let by_itself = |notice: &&Notice| !format!("{notice:?}").contains("closed with 1000");
    let noticed: Vec<_> = notices(&entries).filter(by_itself).collect();
    let lost = matches!(noticed.as_slice(), [Notice::LineLost { line: Line::Media, .. }]);
    assert!(lost, "more than the line that the transcript loses: {noticed:?}");
    host.shutdown.cut();
    let summary = host.log.ended_alone().await;
    assert_eq!(summary.frames_in, MINUTE);
}
