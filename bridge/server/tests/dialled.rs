//! Providers that post that a call is there and are dialled, over sockets: whole calls, what is refused, and that one stream is one call.

mod support;

use std::time::Duration;

use ringback::client::{CallEvent, Client, ClientError, WsUrl};
use ringback::socket::DialError;
use ringback_codecs::MediaFormat;
use ringback_proto::provider::{
    App, Dial, Notice, PROVIDERS, Provider, Secret, Track, Transport, find,
};
use ringback_proto::session::Report;
use support::{Entry, Host, What, assert_whole, known, soon};
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
    let url = url(host, provider);
    Client::connect(host.clock, &host.connector, &url, provider, dial, false).await
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
    format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{fields}\r\n{body}")
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

#[tokio::test]
async fn calls_that_the_bridge_dials_are_not_captured_and_counted_as_such() {
    let folder = support::Folder::new("dialled-capture");
    let dir = support::quoted(folder.path("captures").display());
    let host = Host::on_loopback(&format!("[capture]\ndir = {dir}\n"));
    let skipped = async || -> u64 {
        let text = exchange(&host, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix("ringback_captures_skipped_total "));
        value.expect("the figure").parse().expect("a number")
    };
    for provider in dialled() {
        let before = skipped().await;
        let mut client = place(&host, provider, dial("c", provider.formats()[0])).await.unwrap();
        started(&mut client).await.unwrap();
        client.hang_up().await.unwrap();
        host.log.ended("c").await;
        assert!(skipped().await > before, "{}", provider.name());
    }
    host.stop().await;
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
    let signed = |call: &str, post_key: &str, client_secret: &str| Dial {
        post_key: Secret::from(post_key),
        app: app(client_secret),
        ..dial(call, format)
    };
    // A webhook that somebody else signed.
    let mut client = place(&host, provider, signed("forged", "x", "the-secret")).await.unwrap();
    match started(&mut client).await {
        Err(ClientError::Dial { error: DialError::Refused { status: 401, body, .. }, .. }) => {
            assert_eq!(body, "authentication failed; the bridge's log says why");
        }
        other => panic!("{other:?}"),
    }
    // Servers that know another secret: the call begins, and is refused.
    let mut client = place(&host, provider, signed("refused", "the-secret", "x")).await.unwrap();
    let closed = soon("a close", async {
        loop {
            if let Some(CallEvent::Closed { code, .. }) = client.next().await.unwrap() {
                return code;
            }
        }
    });
    assert_eq!(closed.await, 1002);
    let refused = host.log.ended_alone().await;
    assert!(refused.reason.to_string().contains("refused with status 3"), "{}", refused.reason);
    // All as it should be.
    let right = signed("right", "the-secret", "the-secret");
    let mut client = place(&host, provider, right).await.unwrap();
    started(&mut client).await.unwrap();
    client.hang_up().await.unwrap();
    host.log.ended("right").await;
    // Whether the URL is ours.
    let body = r#"{"event":"endpoint.url_validation","payload":{"plainToken":"token"}}"#;
    let now = ringback::clock::WallTime::now().unix_seconds();
    let fields = provider.sign_post(body, &Secret::from("the-secret"), now);
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
    let dial = Dial { post_key: secret.clone(), app, ..dial("first", provider.formats()[0]) };
    let mut client = place(&host, provider, dial).await.unwrap();
    started(&mut client).await.unwrap();
    let body = r#"{"event":"meeting.rtms_started","payload":{"meeting_uuid":"m","rtms_stream_id":"second","server_urls":"ws://127.0.0.1:1"}}"#;
    let now = ringback::clock::WallTime::now().unix_seconds();
    let fields = provider.sign_post(body, &secret, now);
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
        ("GET /zoom-rtms HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 405),
        (post("/zoom-rtms", "", "{"), 400),
        (post("/zoom-rtms", "", "{}"), 400),
        (post("/zoom-rtms", origin, r#"{"event":"meeting.ended"}"#), 403),
        (post("/zoom-rtms", "", &large), 413),
        (post("/zoom-rtms/x", "", "{}"), 404),
    ] {
        let answer = exchange(&host, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer}");
    }
    let elsewhere = r#"{"event":"meeting.rtms_started","payload":{"meeting_uuid":"m","rtms_stream_id":"s","server_urls":"wss://169.254.169.254/latest"}}"#;
    let answer = exchange(&host, &post("/zoom-rtms", "", elsewhere)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "it is answered at once: {answer}");
    let lost = host.log.until("a line that is not had", |entries| {
        notices(entries).find_map(|notice| match notice {
            Notice::LineLost { reason, .. } => Some(reason.clone()),
            _ => None,
        })
    });
    assert!(lost.await.contains("none of those that may be dialled"), "another reason");
    host.shutdown.cut();
    let ended = host.log.ended_alone().await;
    assert_eq!(ended.reason.name(), "drain");
}
