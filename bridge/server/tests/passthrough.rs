//! Streams that are passed on as they come: to bridges, to servers that behave and to those that do not. Looks into no message.

#![allow(clippy::unwrap_used, reason = "a test whose ground gives way has failed")]

mod support;

use std::time::Duration;

use ringback::client::{CallEvent, Client, WsUrl};
use ringback::config::{Config, Context, Overrides};
use ringback::net::{self, Listener as _, MemoryConnector, MemoryHosts, MemoryListener};
use ringback::socket::{self, Closed, DialError, Incoming, Outgoing, Socket, SocketOptions};
use ringback_codecs::MediaFormat;
use ringback_proto::provider::{
    Dial, Digit, Message, OutgoingUpgrade, PROVIDERS, PlayoutPolicy, Provider, Transport,
};
use ringback_proto::simulator::Counters;
use support::{Dice, Host, PATIENCE, known, over_one_socket, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

const FRAME: Duration = Duration::from_millis(20);
const FRAMES: u64 = 25;

/// A bridge that passes everything on to whoever listens where programs for Palantir's listeners do.
fn passing(passthrough: &str, more: &str) -> (Host, MemoryConnector, MemoryListener) {
    let hosts = MemoryHosts::default();
    let (listener, connector) = net::memory(16 * 1024);
    hosts.add("localhost:5000", connector);
    let toml = format!(
        "[[route]]\nname = \"default\"\npassthrough = {passthrough}\n[[listener]]\nname = \"in\"\npath = \"/in\"\nprovider = \"twilio\"\n{more}"
    );
    let (host, bridge) = Host::among(&hosts, "localhost:80", &toml);
    (host, bridge, listener)
}

fn options() -> SocketOptions {
    SocketOptions { keepalive: None, burst: u64::MAX, ..SocketOptions::default() }
}

fn request(headers: &[(&str, &str)], subprotocols: &[&str]) -> OutgoingUpgrade {
    OutgoingUpgrade {
        target: "/in?token=t&x=1".into(),
        headers: headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
        subprotocols: subprotocols.iter().map(|name| (*name).into()).collect(),
    }
}

async fn open(
    bridge: &MemoryConnector,
    request: &OutgoingUpgrade,
    options: SocketOptions,
) -> Result<Socket, DialError> {
    let io = bridge.connect().await.unwrap();
    socket::dial(io, "localhost", request, options).await
}

async fn accepted(server: &mut MemoryListener) -> DuplexStream {
    soon("the bridge dials", server.accept()).await.unwrap().0
}

/// Both ends of a stream that is passed on.
async fn joined(bridge: &MemoryConnector, server: &mut MemoryListener) -> (Socket, Socket) {
    let request = request(&[], &[]);
    let taken = async { socket::answer(accepted(server).await, options()).await.unwrap() };
    let (near, far) = tokio::join!(open(bridge, &request, options()), taken);
    (near.expect("the stream is taken"), far)
}

/// The next thing that is no ping or pong.
async fn next(socket: &mut Socket) -> Incoming {
    soon("a message", async {
        loop {
            match socket.recv().await.expect("not over").expect("no error") {
                Incoming::Ping | Incoming::Pong => {}
                other => return other,
            }
        }
    })
    .await
}

/// What a call came to at the phone.
#[derive(Debug, PartialEq)]
struct Call {
    heard: Vec<i16>,
    counters: Counters,
    events: Vec<CallEvent>,
}

async fn call(host: &Host, at: &str, provider: &dyn Provider, format: Option<MediaFormat>) -> Call {
    let url = WsUrl::plain(at.into(), format!("/{}", provider.name()));
    let dial = Dial { call: "call-1".into(), format, ..Dial::default() };
    let client = Client::connect(host.clock, &host.connector, &url, provider, dial, true).await;
    let mut client = client.unwrap_or_else(|error| panic!("{} at {at}: {error}", provider.name()));
    match format {
        Some(format) => {
            let length = FRAMES * format.rate.samples_in(FRAME);
            client.speak(&(0..length).map(known).collect::<Vec<_>>());
        }
        None => client.say("Is anybody there?").await.unwrap(),
    }
    let (mut events, clock) = (Vec::new(), host.clock);
    let mut ends = clock.now() + Duration::from_secs(1);
    let mut key = Digit::new('5');
    loop {
        tokio::select! {
            biased;
            event = client.next() => events.push(event.unwrap().expect("the call goes on")),
            () = clock.sleep_until(Some(ends)) => match key.take() {
                None => break,
                Some(key) => {
                    client.press(key).await.unwrap();
                    ends = clock.now() + Duration::from_millis(200);
                }
            }
        }
    }
    client.hang_up().await.unwrap();
    let heard = client.phone().heard().to_vec();
    Call { heard, counters: client.counters(), events }
}

/// The same call is the same to the sample and to the event, whether a bridge takes it or passes it on to one.
#[tokio::test(start_paused = true)]
async fn every_provider_hears_through_a_bridge_what_it_hears_without() {
    let hosts = MemoryHosts::default();
    let (behind, _) = Host::among(&hosts, "localhost:81", "");
    let routes = over_one_socket().into_iter().filter(|p| p.transport() == Transport::WebSocket);
    let routes = routes.map(|provider| {
        let name = provider.name();
        format!(
            "[[route]]\nname = \"{name}\"\npassthrough = {{ url = \"ws://localhost:81/{name}\" }}\n[[listener]]\nname = \"{name}\"\npath = \"/{name}\"\nprovider = \"{name}\"\nroute = \"{name}\"\n"
        )
    });
    let (host, _) = Host::among(&hosts, "localhost:80", &routes.collect::<String>());
    let mut calls = 0;
    for provider in PROVIDERS.iter().filter(|p| p.transport() == Transport::WebSocket) {
        let formats: Vec<_> = match provider.formats() {
            [] => vec![None],
            formats => formats.iter().copied().map(Some).collect(),
        };
        for format in formats {
            let (request, _) = provider.dial(&Dial { format, ..Dial::default() });
            if request.target.contains('?') {
                // What only the query tells is not passed on.
                continue;
            }
            let direct = call(&host, "localhost:81", *provider, format).await;
            let passed_on = call(&host, "localhost:80", *provider, format).await;
            assert!(direct == passed_on, "{} in {format:?}", provider.name());
            let two_way = direct.counters.media_received + direct.counters.texts_received > 0;
            assert!(
                two_way
                    || provider.capabilities().playout == PlayoutPolicy::None
                        && provider.has_sound(),
                "{}: nothing came back",
                provider.name()
            );
            calls += 1;
        }
    }
    assert!(calls > PROVIDERS.len(), "{calls} calls");
    host.stop().await;
    behind.stop().await;
}

#[tokio::test(start_paused = true)]
async fn messages_of_every_kind_and_length_pass_both_ways_whole_and_in_order() {
    let (host, bridge, mut server) = passing("{}", "");
    let (mut near, mut far) = joined(&bridge, &mut server).await;
    let mut dice = Dice(11);
    let lengths = [0, 1, 125, 126, 127, 4_095, 65_535, 65_536];
    for round in 0..40 {
        let length = *lengths.get(round).unwrap_or(&(dice.roll(3_000) as usize));
        let text: String = (0..length).map(|_| char::from(b' ' + dice.roll(90) as u8)).collect();
        let octets: Vec<u8> = (0..length).map(|_| dice.roll(256) as u8).collect();
        for (from, to) in [(0, 1), (1, 0)] {
            let mut ends = [&mut near, &mut far];
            let [one, other] = ends.get_disjoint_mut([from, to]).unwrap();
            one.send(Outgoing::Ping(b"x")).await.unwrap();
            let (sent, came) = tokio::join!(one.send(Outgoing::Text(&text)), next(other));
            sent.unwrap();
            assert!(other.message(&came) == Some(Message::Text(&text)), "{round}: {length}");
            let (sent, came) = tokio::join!(one.send(Outgoing::Binary(&octets)), next(other));
            sent.unwrap();
            assert!(other.message(&came) == Some(Message::Binary(&octets)), "{round}: {length}");
        }
    }
    near.close(1000, "").await;
    host.stop().await;
}

/// The head of the request that the server gets for a stream opened with these.
async fn head(passthrough: &str, more: &str, request: OutgoingUpgrade) -> String {
    let (host, bridge, mut server) = passing(passthrough, more);
    let opening = tokio::spawn(async move { open(&bridge, &request, options()).await });
    let mut io = accepted(&mut server).await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("a request", io.read_u8()).await.unwrap());
    }
    io.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert!(matches!(opening.await.unwrap(), Err(DialError::Refused { status: 502, .. })));
    host.stop().await;
    String::from_utf8(head).unwrap()
}

const BEARER: &str = "auth = { kind = \"bearer\", token = \"env:CARGO_PKG_NAME\" }\n";

#[tokio::test(start_paused = true)]
async fn neither_path_nor_credential_nor_any_field_is_told_to_the_server() {
    let secret = format!("Bearer {}", env!("CARGO_PKG_NAME"));
    let fields = [
        ("Authorization", secret.as_str()),
        ("Cookie", "session=1"),
        ("X-Twilio-Signature", "s1gn"),
        ("X-Api-Key", "k"),
    ];
    let head = head("{}", BEARER, request(&fields, &["media", "Bearer-ringback"])).await;
    assert!(head.starts_with("GET / HTTP/1.1\r\nHost: localhost:5000\r\n"), "{head}");
    let mut names: Vec<_> = head.lines().filter_map(|line| line.split_once(": ")).collect();
    names.retain(|(name, _)| !name.eq_ignore_ascii_case("Sec-WebSocket-Key"));
    let fields: Vec<_> = names.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let expected = [
        "Host=localhost:5000",
        "Connection=Upgrade",
        "Upgrade=websocket",
        "Sec-WebSocket-Version=13",
        "Sec-WebSocket-Protocol=media",
    ];
    assert_eq!(fields, expected);
}

#[tokio::test(start_paused = true)]
async fn who_calls_is_told_to_a_server_that_asked_for_it() {
    let own = "{ url = \"ws://localhost:5000/bot?key=1\", context = true }";
    let head =
        head(own, "insecure = true", request(&[("X-Forwarded-For", "192.0.2.7")], &[])).await;
    assert!(head.starts_with("GET /bot?key=1 HTTP/1.1\r\n"), "{head}");
    let told: Vec<_> = head.lines().filter(|line| line.starts_with("X-Ringback-")).collect();
    let [id, rest @ ..] = told.as_slice() else { panic!("{head}") };
    assert!(id.starts_with("X-Ringback-Call-Id: 20") && id.ends_with("-000001"), "{id}");
    let expected =
        ["X-Ringback-Listener: in", "X-Ringback-Provider: twilio", "X-Ringback-From: 127.0.0.1"];
    assert_eq!(rest, expected, "the word of a stranger's proxy counts for nothing");
}

#[tokio::test(start_paused = true)]
async fn the_server_chooses_the_subprotocol_and_a_browser_gets_its_own_back_otherwise() {
    // What is offered, and what is answered by a server that takes the first it is offered.
    for (offered, answered) in [
        (&["chat", "Bearer-ringback"][..], Some("chat")),
        (&["Bearer-ringback", "chat"], Some("chat")),
        (&["Bearer-ringback"], Some("Bearer-ringback")),
    ] {
        let (host, bridge, mut server) = passing("{}", BEARER);
        let request = request(&[], offered);
        let taken = async { socket::answer(accepted(&mut server).await, options()).await.unwrap() };
        let (near, far) = tokio::join!(open(&bridge, &request, options()), taken);
        assert_eq!(near.unwrap().subprotocol(), answered, "{offered:?}");
        assert_eq!(far.subprotocol(), answered.filter(|name| *name == "chat"));
        drop(far);
        host.stop().await;
    }
}

/// What the bridge answers where the server answers `text`, or nothing at all.
async fn refusal(text: Option<&str>) -> (u16, String) {
    let (host, bridge, mut server) = passing("{}", "");
    let request = request(&[], &[]);
    let answer = async {
        let mut io = accepted(&mut server).await;
        if let Some(text) = text {
            io.write_all(text.as_bytes()).await.unwrap();
        }
        let mut rest = Vec::new();
        let _ = io.read_to_end(&mut rest).await;
    };
    // The one who asks waits longer than the bridge.
    let asking = async {
        let mut io = bridge.connect().await.unwrap();
        let asked = socket::Asking::new("localhost", &request).unwrap();
        io.write_all(asked.request()).await.unwrap();
        let mut answer = String::new();
        soon("an answer", io.read_to_string(&mut answer)).await.unwrap();
        answer
    };
    let (answered, ()) = tokio::join!(asking, answer);
    host.stop().await;
    (answered.split(' ').nth(1).unwrap().parse().unwrap(), answered)
}

#[tokio::test(start_paused = true)]
async fn a_provider_hears_before_its_stream_begins_that_nobody_is_there() {
    let refused = |status: &str| format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
    for (text, status) in [
        (Some(refused("503 Service Unavailable").as_str()), 503),
        (Some(refused("403 Forbidden").as_str()), 502),
        (Some("SSH-2.0-x\r\n"), 502),
        (None, 504),
    ] {
        let (found, answer) = refusal(text).await;
        assert_eq!(found, status, "{text:?}: {answer}");
        assert!(answer.contains("the server behind this one"), "{answer}");
        assert_eq!(answer.contains("retry-after"), status == 503, "{answer}");
    }
    let (host, bridge, server) = passing("{}", "");
    drop(server);
    let error = open(&bridge, &request(&[], &[]), options()).await.expect_err("nobody");
    assert!(matches!(error, DialError::Refused { status: 502, .. }), "{error}");
    host.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_opens_once_opens_again_after_a_server_that_was_not_there() {
    let jwt = "auth = { kind = \"vonage-jwt\", secret = \"env:CARGO_PKG_NAME\" }\n";
    let (host, bridge, mut server) = passing("{}", jwt);
    let listener = support::config(&format!(
        "[[listener]]\nname = \"in\"\npath = \"/in\"\nprovider = \"vonage\"\n{jwt}"
    ));
    let proof = listener.listener("in").unwrap().auth.proof(None).unwrap();
    let destination = ringback::destination::Destination {
        proof,
        ..WsUrl::plain("localhost".into(), "/in".into()).into()
    };
    let mut request = request(&[], &[]);
    destination.sign(&mut request).unwrap();
    let refuse = async {
        let mut io = accepted(&mut server).await;
        io.write_all(b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        let _ = io.read_to_end(&mut Vec::new()).await;
    };
    let (refused, ()) = tokio::join!(open(&bridge, &request, options()), refuse);
    assert!(matches!(refused, Err(DialError::Refused { status: 502, .. })));
    let taken = async { socket::answer(accepted(&mut server).await, options()).await.unwrap() };
    let (near, far) = tokio::join!(open(&bridge, &request, options()), taken);
    near.unwrap().close(1000, "").await;
    drop(far);
    let again = open(&bridge, &request, options()).await;
    assert!(matches!(again, Err(DialError::Refused { status: 401, .. })), "it was served");
    host.stop().await;
}

fn closed(incoming: &Incoming) -> Option<(u16, &str)> {
    match incoming {
        Incoming::Close(Some(Closed { code, reason })) => Some((*code, reason.as_str())),
        Incoming::Close(None) => None,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_closes_with_is_what_the_other_hears_behind_the_last_message() {
    for (code, reason) in [(1000, "done"), (1001, ""), (4003, "no balance"), (1011, "fault")] {
        for by_server in [false, true] {
            let (host, bridge, mut server) = passing("{}", "");
            let (near, far) = joined(&bridge, &mut server).await;
            let (mut leaving, mut staying) = if by_server { (far, near) } else { (near, far) };
            leaving.feed(Outgoing::Text("last words")).unwrap();
            let leaving = tokio::spawn(leaving.close(code, reason));
            let words = next(&mut staying).await;
            assert_eq!(staying.message(&words), Some(Message::Text("last words")));
            assert_eq!(closed(&next(&mut staying).await), Some((code, reason)));
            staying.close(1000, "").await;
            leaving.await.unwrap();
            host.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_code_is_no_code_and_a_line_that_is_cut_has_a_code_of_its_own() {
    for by_server in [false, true] {
        let (host, bridge, mut server) = passing("{}", "");
        let (near, far) = joined(&bridge, &mut server).await;
        let (leaving, mut staying) = if by_server { (far, near) } else { (near, far) };
        // May not be sent, so nothing is.
        let leaving = tokio::spawn(leaving.close(1005, ""));
        assert_eq!(closed(&next(&mut staying).await), None);
        drop(staying);
        leaving.await.unwrap();
        host.stop().await;

        let (host, bridge, mut server) = passing("{}", "");
        let (near, far) = joined(&bridge, &mut server).await;
        let (leaving, mut staying) = if by_server { (far, near) } else { (near, far) };
        drop(leaving);
        let expected = if by_server {
            (1011, "the server behind this one was lost")
        } else {
            (1001, "the provider's stream was lost")
        };
        assert_eq!(closed(&next(&mut staying).await), Some(expected));
        drop(staying);
        host.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_too_big_ends_both_and_says_so_to_the_one_who_sent_it() {
    let (host, bridge, mut server) = passing("{}", "");
    let (mut near, mut far) = joined(&bridge, &mut server).await;
    let sending = tokio::spawn(async move {
        let _ = far.send(Outgoing::Binary(&vec![0; 64 * 1024 + 1])).await;
        next(&mut far).await
    });
    let lost = "the server behind this one was lost";
    assert_eq!(closed(&next(&mut near).await), Some((1011, lost)));
    let told = sending.await.unwrap();
    assert_eq!(closed(&told).unwrap().0, 1009);
    host.stop().await;
}

/// Ten megabytes in both directions of a reader that takes its time: nothing is lost, and no more is kept than connections hold.
#[tokio::test(start_paused = true)]
async fn a_server_that_says_much_waits_for_a_provider_that_reads_slowly() {
    let (host, bridge, mut server) = passing("{}", "");
    let (mut near, mut far) = joined(&bridge, &mut server).await;
    const MESSAGES: u32 = 200;
    let (sent, mut count) = tokio::sync::watch::channel(0_u32);
    let saying = tokio::spawn(async move {
        for number in 0..MESSAGES {
            let mut octets = vec![number as u8; 50_000];
            octets[..4].copy_from_slice(&number.to_be_bytes());
            far.send(Outgoing::Binary(&octets)).await.unwrap();
            sent.send(number + 1).unwrap();
        }
        far
    });
    for number in 0..MESSAGES {
        let message = next(&mut near).await;
        let Some(Message::Binary(octets)) = near.message(&message) else { panic!("{message:?}") };
        assert_eq!(octets.first_chunk(), Some(&number.to_be_bytes()));
        assert!(octets.len() == 50_000 && octets[4..].iter().all(|&o| o == number as u8));
        let ahead = *count.borrow_and_update() - number;
        assert!(ahead <= 6, "{ahead} messages of 50,000 octets are on their way");
        tokio::time::sleep(FRAME).await;
    }
    drop(saying.await.unwrap());
    host.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_nothing_is_given_up() {
    let (host, bridge, mut server) = passing("{}", "");
    let (mut near, far) = joined(&bridge, &mut server).await;
    // More than both connections hold, and less than the bridge and they do.
    for _ in 0..5 {
        near.send(Outgoing::Binary(&[7; 8_000])).await.unwrap();
    }
    let told = next(&mut near).await;
    assert_eq!(closed(&told), Some((1011, "the server behind this one was lost")));
    drop((near, far));
    host.stop().await;
}

/// Answers pings until the stream is closed; gives the texts that came, and the close.
async fn hear_out(socket: &mut Socket) -> (Vec<String>, Incoming) {
    let mut texts = Vec::new();
    loop {
        let came = socket.recv().await.expect("not over").expect("no error");
        match socket.message(&came) {
            Some(Message::Text(text)) => texts.push(text.to_owned()),
            _ if matches!(came, Incoming::Close(_)) => return (texts, came),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn silence_beyond_the_limit_ends_a_stream_and_pings_do_not_count() {
    let (host, bridge, mut server) = passing("{ idle = \"60s\" }", "keepalive = \"5s\"\n");
    let (mut near, mut far) = joined(&bridge, &mut server).await;
    let began = tokio::time::Instant::now();
    // One message a while before the limit, then none.
    let heard = tokio::time::timeout(Duration::from_secs(50), async {
        tokio::join!(hear_out(&mut near), hear_out(&mut far))
    });
    assert!(heard.await.is_err(), "not yet");
    near.send(Outgoing::Text("here")).await.unwrap();
    let (near_heard, far_heard) = tokio::join!(hear_out(&mut near), hear_out(&mut far));
    let told = Some((1001, "nothing was said for 60s"));
    assert_eq!((near_heard.0.len(), closed(&near_heard.1)), (0, told));
    assert_eq!((far_heard.0.as_slice(), closed(&far_heard.1)), (&["here".to_owned()][..], told));
    let lasted = began.elapsed();
    assert!((110..=140).contains(&lasted.as_secs()), "{lasted:?}");
    drop((near, far));
    host.stop().await;
}

#[tokio::test(start_paused = true)]
async fn streams_go_on_while_the_bridge_drains_and_end_with_1001_when_it_ends() {
    let (host, bridge, mut server) = passing("{}", "");
    let (mut near, mut far) = joined(&bridge, &mut server).await;
    host.shutdown.drain();
    near.send(Outgoing::Text("still here")).await.unwrap();
    let heard = next(&mut far).await;
    assert_eq!(far.message(&heard), Some(Message::Text("still here")));
    let refused = open(&bridge, &request(&[], &[]), options()).await;
    assert!(matches!(refused, Err(DialError::Refused { status: 503, .. })));
    host.shutdown.cut();
    for socket in [&mut near, &mut far] {
        assert_eq!(closed(&next(socket).await), Some((1001, "the bridge ends")));
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_streams_are_passed_on_than_the_listener_takes() {
    let (host, bridge, mut server) = passing("{}", "max_calls = 1\n");
    let (near, far) = joined(&bridge, &mut server).await;
    let refused = open(&bridge, &request(&[], &[]), options()).await;
    assert!(matches!(refused, Err(DialError::Refused { status: 503, .. })), "{refused:?}");
    let closing = tokio::spawn(near.close(1000, ""));
    drop(far);
    closing.await.unwrap();
    let (again, far) = tokio::time::timeout(PATIENCE, joined(&bridge, &mut server)).await.unwrap();
    drop((again, far));
    host.stop().await;
}

#[test]
fn what_cannot_be_passed_on_is_said_before_anything_starts() {
    let base = "[[route]]\nname = \"r\"\n";
    let listener = "[[listener]]\nname = \"l\"\npath = \"/l\"\n";
    let cases = [
        (
            format!("{base}modules = [\"echo\"]\npassthrough = {{}}\n"),
            "`modules` is not used by a route with `passthrough`",
        ),
        (format!("{base}passthrough = {{ url = \"http://x\" }}\n"), "does not begin with ws://"),
        (format!("{base}passthrough = {{ idle = \"1ms\" }}\n"), "expected 1s to 86400s"),
        (
            format!("{base}passthrough = {{}}\n{listener}provider = \"audiosocket\"\n"),
            "do not come as a WebSocket",
        ),
        (
            format!("{base}passthrough = {{}}\n{listener}provider = \"zoom-rtms\"\n"),
            "do not come as a WebSocket",
        ),
        (
            format!(
                "{base}passthrough = {{}}\n{listener}provider = \"telnyx\"\nhangup = {{ kind = \"rest\", token = \"env:CARGO_PKG_NAME\" }}\n"
            ),
            "never hangs up",
        ),
        (
            format!(
                "{base}passthrough = {{}}\n{listener}provider = \"telnyx\"\noptions = {{ one_way = true }}\n"
            ),
            "decodes nothing",
        ),
        (base.to_owned(), "or `passthrough`"),
    ];
    for (text, expected) in cases {
        let module = "[[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n";
        let text = format!("{module}{text}");
        let (flags, context) = (Overrides::default(), Context::of_process());
        let error = Config::parse("f.toml", &text, &flags, &context);
        let error = error.expect_err(&text).to_string();
        assert!(error.contains(expected), "{error}\n{text}");
    }
}
