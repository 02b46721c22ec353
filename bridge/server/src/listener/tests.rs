//! The server against strangers: slow, silent, malformed, too many; and its end. In memory on paused time, or on loopback.

mod handshakes;

use super::*;
use crate::clock::Clock;
use crate::net::{Io, MemoryConnector, TcpListener, memory};
use crate::socket::{DialError, Incoming, Outgoing, SocketError, close_code, dial};
use crate::workers::Tick;
use ringback_proto::provider::{Message, OutgoingUpgrade, Rejection, Transport};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Sends texts back; does what some of them say.
struct Echo {
    shutdown: Shutdown,
}

impl Streams for Echo {
    type Admitted = String;

    fn admit(
        &self,
        endpoint: &Endpoint,
        upgrade: &Upgrade<'_>,
        peer: SocketAddr,
    ) -> Result<Admission<String>, Refusal> {
        assert!(peer.ip().is_loopback());
        if upgrade.header("authorization") == Some("Bearer wrong") {
            let unauthorized = Rejection::Unauthorized { reason: "not the token of this listener" };
            return Err(unauthorized.into());
        }
        let greeting = format!(
            "{} {} {:?} {:?}",
            endpoint.name,
            upgrade.path(),
            upgrade.query("room"),
            upgrade.public_url
        );
        let subprotocol = upgrade.subprotocols().next().map(str::to_owned);
        Ok(Admission { state: greeting, subprotocol })
    }

    async fn serve(&self, greeting: String, mut socket: Socket) {
        socket.send(Outgoing::Text(&greeting)).await.unwrap();
        loop {
            let message = tokio::select! {
                message = socket.recv() => message,
                () = self.shutdown.cut_off() => {
                    return socket.close(close_code::GOING_AWAY, "shutting down").await;
                }
            };
            if let Some(Ok(incoming)) = &message
                && let Some(Message::Binary(octets)) = socket.message(incoming)
            {
                let octets = octets.to_vec();
                socket.send(Outgoing::Binary(&octets)).await.unwrap();
                continue;
            }
            match message {
                Some(Ok(incoming @ Incoming::Message(_))) => match &*text_of(&socket, &incoming) {
                    "panic" => panic!("as the test asked for"),
                    "hang" => {
                        socket.send(Outgoing::Text("hanging")).await.unwrap();
                        std::future::pending::<()>().await;
                    }
                    text => socket.send(Outgoing::Text(text)).await.unwrap(),
                },
                Some(Ok(Incoming::Close(_))) => return socket.close(close_code::NORMAL, "").await,
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    if let Some(code) = error.close_code() {
                        socket.close(code, &error.to_string()).await;
                    }
                    return;
                }
                None => return,
            }
        }
    }
}

fn endpoint() -> Endpoint {
    Endpoint {
        name: "main".into(),
        transport: Transport::WebSocket,
        path: "/stream".into(),
        public_url: Some("wss://bridge.example/stream".into()),
        max_streams: None,
        token_in_path: false,
        tenant: None,
        answer: None,
        origins: vec!["https://phone.example".into()],
        sources: Sources::default(),
        socket: SocketOptions::default(),
    }
}

fn serve<L: net::Listener>(
    listener: L,
    endpoint: Endpoint,
    limits: Limits,
) -> (JoinHandle<Drained>, Shutdown) {
    let shutdown = Shutdown::new();
    let streams = Arc::new(Echo { shutdown: shutdown.clone() });
    let pages = Pages::default();
    let routes = Router::new()
        .route("/events", axum::routing::get(async || "an event\n"))
        .route("/slow", axum::routing::get(std::future::pending::<&str>));
    let server = Server::new(
        streams,
        vec![endpoint],
        limits,
        pages,
        routes,
        shutdown.clone(),
        Workers::here(),
    );
    (tokio::spawn(server.run(listener)), shutdown)
}

/// A server in memory with the usual limits.
fn in_memory() -> (MemoryConnector, JoinHandle<Drained>, Shutdown) {
    let (listener, connector) = memory(64 * 1024);
    let (server, shutdown) = serve(listener, endpoint(), Limits::default());
    (connector, server, shutdown)
}

/// A server on loopback.
fn on_loopback(limits: Limits) -> (SocketAddr, JoinHandle<Drained>, Shutdown) {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = net::Listener::local_addr(&listener).unwrap();
    let (server, shutdown) = serve(listener, endpoint(), limits);
    (address, server, shutdown)
}

/// Sends octets and reads until the server closes.
async fn exchange(mut io: impl Io, request: &[u8]) -> String {
    io.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    io.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

async fn get(connector: &MemoryConnector, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    exchange(connector.connect().await.unwrap(), request.as_bytes()).await
}

async fn call(io: impl Io) -> Result<Socket, DialError> {
    let request = OutgoingUpgrade { target: "/stream".into(), ..OutgoingUpgrade::default() };
    dial(io, "bridge", &request, SocketOptions::default()).await
}

async fn text(socket: &mut Socket) -> String {
    match socket.recv().await {
        Some(Ok(incoming)) => text_of(socket, &incoming),
        other => panic!("no text: {other:?}"),
    }
}

fn text_of(socket: &Socket, incoming: &Incoming) -> String {
    match socket.message(incoming) {
        Some(Message::Text(text)) => text.to_owned(),
        other => panic!("no text: {other:?}"),
    }
}

const GREETING: &str = "main /stream None Some(\"wss://bridge.example/stream\")";

#[tokio::test]
async fn a_stream_over_loopback_tells_what_it_was_asked_for() {
    let (address, server, shutdown) = on_loopback(Limits::default());
    let request = OutgoingUpgrade {
        target: "/stream?room=12%20a".into(),
        headers: vec![("x-call".into(), "Grüße".into())],
        subprotocols: vec!["audio.v1".into(), "audio.v0".into()],
    };
    let io = TcpStream::connect(address).await.unwrap();
    let options = SocketOptions::default();
    let mut socket = dial(io, &address.to_string(), &request, options).await.unwrap();
    assert_eq!(socket.subprotocol(), Some("audio.v1"));
    let greeting = "main /stream Some(\"12 a\") Some(\"wss://bridge.example/stream\")";
    assert_eq!(text(&mut socket).await, greeting);
    socket.send(Outgoing::Text("frame")).await.unwrap();
    assert_eq!(text(&mut socket).await, "frame");
    socket.close(close_code::NORMAL, "").await;
    shutdown.drain();
    assert_eq!(server.await.unwrap(), Drained { cut: 0 });
}

#[tokio::test]
async fn one_octet_over_the_limit_is_answered_1009() {
    let (address, _server, _shutdown) = on_loopback(Limits::default());
    let mut socket = call(TcpStream::connect(address).await.unwrap()).await.unwrap();
    assert_eq!(text(&mut socket).await, GREETING);
    let limit = "x".repeat(64 * 1024);
    socket.send(Outgoing::Text(&limit)).await.unwrap();
    // The echo comes back whole, to a client that takes as much.
    assert_eq!(text(&mut socket).await.len(), limit.len());
    socket.send(Outgoing::Text(&(limit + "x"))).await.unwrap();
    match socket.recv().await {
        Some(Ok(Incoming::Close(Some(closed)))) => assert_eq!(closed.code, close_code::TOO_BIG),
        other => panic!("no close frame: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_slow_with_the_head_is_cut_after_five_seconds() {
    let (connector, _server, _shutdown) = in_memory();
    for head in ["", "G", "GET /stream HTTP/1.1\r\nhost: b", "GET /healthz HTTP/1.1\r\nhost: b\r\n"]
    {
        let clock = Clock::start();
        let answer = exchange(connector.connect().await.unwrap(), head.as_bytes()).await;
        assert_eq!(clock.now().since_epoch().as_secs(), 5, "{head:?} got {answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drip_of_octets_buys_no_time() {
    let (connector, _server, _shutdown) = in_memory();
    let mut io = connector.connect().await.unwrap();
    let clock = Clock::start();
    let head = b"GET /stream HTTP/1.1\r\nx-padding: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    for octet in head {
        if io.write_all(&[*octet]).await.is_err() {
            break;
        }
        clock.sleep_until(Some(clock.now() + Duration::from_millis(200))).await;
    }
    assert!((5_000..=5_400).contains(&clock.now().since_epoch().as_millis()));
}

const UPGRADE: &str = "GET /stream HTTP/1.1\r\nHost: bridge\r\nUpgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// [`UPGRADE`] with one thing changed.
fn but(from: &str, to: &str) -> String {
    assert!(UPGRADE.contains(from), "{from:?}");
    UPGRADE.replace(from, to) + "\r\n"
}

#[tokio::test(start_paused = true)]
async fn what_the_log_keeps_is_not_told() {
    let (connector, _server, _shutdown) = in_memory();
    let request = but("Upgrade: websocket", "Upgrade: websocket\r\nAuthorization: Bearer wrong");
    let answer = exchange(connector.connect().await.unwrap(), request.as_bytes()).await;
    assert!(
        answer.ends_with("\r\n\r\nauthentication failed; the bridge's log says why\n"),
        "{answer}"
    );
}

/// The status of the answer to a good handshake with another path and more header fields.
async fn status(connector: &MemoryConnector, path: &str, fields: &str) -> u16 {
    let request = UPGRADE.replace("/stream", path) + fields + "\r\n";
    let mut io = connector.connect().await.unwrap();
    io.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 16];
    io.read_exact(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[9..12]).parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_credential_in_the_path_is_one_segment_below_it() {
    for (path, token_in_path, wanted) in [
        ("/stream", true, [101, 101, 101, 404, 404, 404]),
        ("/stream", false, [101, 404, 404, 404, 404, 404]),
    ] {
        let (listener, connector) = memory(64 * 1024);
        let endpoint = Endpoint { path: path.into(), token_in_path, ..endpoint() };
        let (_server, _shutdown) = serve(listener, endpoint, Limits::default());
        let paths =
            ["/stream", "/stream/t0ken", "/stream/t0ken/", "/stream/a/b", "/streamt", "/x/t"];
        for (path, wanted) in paths.into_iter().zip(wanted) {
            assert_eq!(status(&connector, path, "").await, wanted, "{path} {token_in_path}");
        }
    }
    let root = Endpoint { path: "/".into(), token_in_path: true, ..endpoint() };
    assert!(root.takes("/t0ken") && !root.takes("/metrics") && !root.takes("//"));
}

#[tokio::test(start_paused = true)]
async fn streams_from_addresses_that_are_not_allowed_are_answered_403() {
    let networks = |texts: &[&str]| texts.iter().map(|text| network(text).unwrap()).collect();
    let (listener, connector) = memory(64 * 1024);
    let sources = Sources {
        allow: Some(networks(&["192.0.2.0/24"])),
        trusted_proxies: networks(&["127.0.0.1", "::1"]),
    };
    let endpoint = Endpoint { sources, ..endpoint() };
    let (_server, _shutdown) = serve(listener, endpoint, Limits::default());
    for (fields, wanted) in [
        ("", 403),
        ("X-Forwarded-For: 192.0.2.7\r\n", 101),
        ("X-Forwarded-For: 6.6.6.6, 192.0.2.7\r\n", 101),
        ("X-Forwarded-For: 192.0.2.7, 6.6.6.6\r\n", 403),
        ("X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 6.6.6.6\r\n", 403),
        ("Forwarded: for=192.0.2.7\r\n", 403),
    ] {
        assert_eq!(status(&connector, "/stream", fields).await, wanted, "{fields}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_right_behind_the_request_is_not_lost() {
    let (connector, _server, _shutdown) = in_memory();
    let mut io = connector.connect().await.unwrap();
    let mut octets = but("13", "13").into_bytes();
    octets.extend_from_slice(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
    io.write_all(&octets).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(&[0x81, 2, b'h', b'i']) {
        assert_ne!(io.read_buf(&mut answer).await.unwrap(), 0, "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_connection_too_many_is_told_before_it_speaks() {
    let (listener, connector) = memory(1024);
    let limits = Limits { max_connections: 2, ..Limits::default() };
    let (_server, _shutdown) = serve(listener, endpoint(), limits);
    let first = connector.connect().await.unwrap();
    let mut second = call(connector.connect().await.unwrap()).await.unwrap();
    let clock = Clock::start();
    let answer = exchange(connector.connect().await.unwrap(), b"").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(is_refused_for(&answer, "connections"), "{answer}");
    assert!(clock.now().since_epoch() < Duration::from_secs(1), "the refusal is at once");
    drop(first);
    assert_eq!(text(&mut second).await, GREETING, "those inside are not disturbed");
    let mut third = call(connector.connect().await.unwrap()).await.unwrap();
    assert_eq!(text(&mut third).await, GREETING, "a seat that was left is free again");
}

#[tokio::test(start_paused = true)]
async fn so_many_are_told_why_they_are_refused_and_the_rest_are_closed_without_a_word() {
    let (listener, connector) = memory(1024);
    let limits = Limits { max_connections: 1, ..Limits::default() };
    let (_server, _shutdown) = serve(listener, endpoint(), limits);
    let _only = connector.connect().await.unwrap();
    let mut refused = Vec::new();
    for _ in 0..MAX_REFUSALS + 1 {
        refused.push(connector.connect().await.unwrap());
        // Who is refused is told before the next one comes, and holds the place of its refusal by not going.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut told = Vec::new();
    for mut io in refused {
        let mut octet = [0];
        told.push(io.read(&mut octet).await.unwrap() == 1);
    }
    assert_eq!(told.iter().filter(|told| **told).count(), MAX_REFUSALS, "{told:?}");
    assert_eq!(told.last(), Some(&false));
}

#[tokio::test(start_paused = true)]
async fn streams_are_capped_in_all_and_by_endpoint() {
    for (max_streams, limits) in
        [(Some(1), Limits::default()), (None, Limits { max_streams: 1, ..Limits::default() })]
    {
        let (listener, connector) = memory(1024);
        let (_server, _shutdown) = serve(listener, Endpoint { max_streams, ..endpoint() }, limits);
        let first = call(connector.connect().await.unwrap()).await.unwrap();
        match call(connector.connect().await.unwrap()).await.unwrap_err() {
            DialError::Refused { status: 503, retry_after: Some(5), .. } => {}
            other => panic!("{other}"),
        }
        assert!(get(&connector, "/healthz").await.starts_with("HTTP/1.1 200 "));
        first.close(close_code::NORMAL, "").await;
        call(connector.connect().await.unwrap()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn probes_and_figures_are_served() {
    let (connector, _server, _shutdown) = in_memory();
    let cases = [("/healthz", "ok\n"), ("/readyz", "ready\n"), ("/metrics", "ringback_streams ")];
    for (path, content) in cases {
        let answer = get(&connector, path).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(content), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
    assert!(get(&connector, "/").await.starts_with("HTTP/1.1 404 "));
}

/// Says that its peers come from afar.
struct FromAfar<L>(L);

impl<L: net::Listener> net::Listener for FromAfar<L> {
    type Io = L::Io;
    type Parcel = L::Parcel;

    async fn open(parcel: L::Parcel) -> io::Result<L::Io> {
        L::open(parcel).await
    }

    async fn accept(&mut self) -> io::Result<(L::Parcel, SocketAddr)> {
        let (io, _) = self.0.accept().await?;
        Ok((io, "192.0.2.7:4711".parse().unwrap()))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[tokio::test(start_paused = true)]
async fn figures_are_for_this_machine_only() {
    let (listener, connector) = memory(1024);
    let (_server, _shutdown) = serve(FromAfar(listener), endpoint(), Limits::default());
    for path in ["/metrics", "/events"] {
        assert!(get(&connector, path).await.starts_with("HTTP/1.1 404 "), "{path}");
    }
    assert!(get(&connector, "/readyz").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(start_paused = true)]
async fn events_are_for_this_machine_itself_and_not_for_whom_it_passes_on() {
    let (connector, _server, _shutdown) = in_memory();
    let cases = [
        ("host: 127.0.0.1:8080", "200"),
        ("host: localhost", "200"),
        ("host: bridge.example", "404"),
        ("host: localhost\r\nx-forwarded-for: 192.0.2.7", "404"),
    ];
    for (fields, status) in cases {
        let request = format!("GET /events?call=a HTTP/1.1\r\n{fields}\r\n\r\n");
        let answer = exchange(connector.connect().await.unwrap(), request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{fields}: {answer}");
    }
}

/// Opens a connection and asks for what takes long.
async fn wait(connector: &MemoryConnector, fields: &str) -> impl Io {
    let mut io = connector.connect().await.unwrap();
    let request = format!("GET /slow HTTP/1.1\r\nhost: bridge\r\n{fields}\r\n");
    io.write_all(request.as_bytes()).await.unwrap();
    io
}

const FROM_ONE: Limits = Limits {
    max_connections: 10,
    max_connections_per_address: 2,
    max_streams: 10,
    header_timeout: Duration::from_secs(5),
    drain_timeout: Duration::from_secs(30),
    grace: Duration::from_secs(2),
    retry_after: Duration::from_secs(5),
};

fn is_refused_for(answer: &str, reason: &str) -> bool {
    answer.starts_with("HTTP/1.1 503 ")
        && answer.contains("retry-after: 5\r\n")
        && answer.contains(&format!("x-ringback-reason: {reason}\r\n"))
}

#[tokio::test(start_paused = true)]
async fn one_address_has_only_so_many_connections_that_are_no_streams() {
    let (listener, connector) = memory(1024);
    let (_server, _shutdown) = serve(listener, endpoint(), FROM_ONE);
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = call(connector.connect().await.unwrap()).await.unwrap();
        assert_eq!(text(&mut stream).await, GREETING, "streams do not count");
        streams.push(stream);
    }
    let (silent, asking) = (connector.connect().await.unwrap(), wait(&connector, "").await);
    let answer = exchange(connector.connect().await.unwrap(), b"").await;
    assert!(is_refused_for(&answer, "address"), "{answer}");
    drop(silent);
    assert!(get(&connector, "/healthz").await.starts_with("HTTP/1.1 200 "), "a place is free");
    drop(asking);
    let too_many: Vec<_> =
        futures_util::future::join_all((0..10).map(|_| connector.connect())).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    drop(too_many);
    assert!(
        get(&connector, "/healthz").await.starts_with("HTTP/1.1 200 "),
        "nothing is left of them"
    );
}

#[tokio::test(start_paused = true)]
async fn whom_a_proxy_passes_on_is_counted_and_not_the_proxy() {
    let (listener, connector) = memory(1024);
    let trusted_proxies = vec![network("127.0.0.1").unwrap()];
    let sources = Sources { allow: None, trusted_proxies };
    let (_server, _shutdown) = serve(listener, Endpoint { sources, ..endpoint() }, FROM_ONE);
    let mut held = Vec::new();
    for client in ["192.0.2.7", "192.0.2.7", "192.0.2.8", "192.0.2.8", "192.0.2.9"] {
        held.push(wait(&connector, &format!("x-forwarded-for: {client}\r\n")).await);
    }
    let asked = |client: &str, path: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: bridge\r\nx-forwarded-for: 6.6.6.6, {client}\r\n\r\n")
    };
    for (client, taken) in [("192.0.2.7", false), ("192.0.2.8", false), ("192.0.2.9", true)] {
        let request = asked(client, "/healthz");
        let answer = exchange(connector.connect().await.unwrap(), request.as_bytes()).await;
        assert_eq!(answer.starts_with("HTTP/1.1 200 "), taken, "{client}: {answer}");
        assert_eq!(is_refused_for(&answer, "address"), !taken, "{client}: {answer}");
    }
    drop(held);
    let request = asked("192.0.2.7", "/healthz");
    let answer = exchange(connector.connect().await.unwrap(), request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "they have gone");
}

#[tokio::test]
async fn a_drain_waits_for_live_streams_and_refuses_new_ones() {
    let (address, server, shutdown) = on_loopback(Limits::default());
    let mut socket = call(TcpStream::connect(address).await.unwrap()).await.unwrap();
    assert_eq!(text(&mut socket).await, GREETING);
    shutdown.drain();

    match call(TcpStream::connect(address).await.unwrap()).await.unwrap_err() {
        DialError::Refused { status: 503, retry_after: Some(5), .. } => {}
        other => panic!("{other}"),
    }
    let probe = TcpStream::connect(address).await.unwrap();
    let answer = exchange(probe, b"GET /readyz HTTP/1.1\r\nhost: b\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after"), "{answer}");
    let probe = TcpStream::connect(address).await.unwrap();
    let answer = exchange(probe, b"GET /healthz HTTP/1.1\r\nhost: b\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    socket.send(Outgoing::Text("still here")).await.unwrap();
    assert_eq!(text(&mut socket).await, "still here");
    assert!(!server.is_finished());
    socket.close(close_code::NORMAL, "").await;
    assert_eq!(server.await.unwrap(), Drained { cut: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_lasts_too_long_closes_with_1001() {
    let (connector, server, shutdown) = in_memory();
    let mut socket = call(connector.connect().await.unwrap()).await.unwrap();
    assert_eq!(text(&mut socket).await, GREETING);
    let clock = Clock::start();
    shutdown.drain();
    let closed = loop {
        match socket.recv().await {
            Some(Ok(Incoming::Close(Some(closed)))) => break closed,
            Some(Ok(Incoming::Ping | Incoming::Pong)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((closed.code, clock.now().since_epoch().as_secs()), (close_code::GOING_AWAY, 30));
    drop(socket);
    assert_eq!(server.await.unwrap(), Drained { cut: 1 });
    assert!(clock.now().since_epoch() < Duration::from_secs(32));
}

#[tokio::test(start_paused = true)]
async fn a_cut_ends_even_what_hangs() {
    let (connector, server, shutdown) = in_memory();
    let mut socket = call(connector.connect().await.unwrap()).await.unwrap();
    assert_eq!(text(&mut socket).await, GREETING);
    socket.send(Outgoing::Text("hang")).await.unwrap();
    assert_eq!(text(&mut socket).await, "hanging");
    let clock = Clock::start();
    shutdown.cut();
    assert_eq!(server.await.unwrap(), Drained { cut: 1 });
    assert_eq!(clock.now().since_epoch().as_secs(), 2, "the grace and no more");
}

#[tokio::test(start_paused = true)]
async fn a_drain_without_streams_ends_at_once() {
    let (_connector, server, shutdown) = in_memory();
    let clock = Clock::start();
    shutdown.drain();
    assert_eq!(server.await.unwrap(), Drained { cut: 0 });
    assert_eq!(clock.now().since_epoch(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_one_stream_is_no_matter_to_others() {
    let (connector, server, shutdown) = in_memory();
    let mut good = call(connector.connect().await.unwrap()).await.unwrap();
    let mut bad = call(connector.connect().await.unwrap()).await.unwrap();
    assert_eq!(text(&mut good).await, GREETING);
    assert_eq!(text(&mut bad).await, GREETING);
    let before = crate::telemetry::METRICS.stream_panics.get();
    bad.send(Outgoing::Text("panic")).await.unwrap();
    assert!(matches!(bad.recv().await, Some(Err(SocketError::Cut | SocketError::Io(_)))));
    assert!(crate::telemetry::METRICS.stream_panics.get() > before);
    good.send(Outgoing::Text("fine")).await.unwrap();
    assert_eq!(text(&mut good).await, "fine");
    good.close(close_code::NORMAL, "").await;
    shutdown.drain();
    assert_eq!(server.await.unwrap(), Drained { cut: 0 });
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_there_or_not_taken_ends_in_fifteen_seconds() {
    let clock = Clock::start();
    let (listener, connector) = memory(16);
    let (_server, _shutdown) = serve(listener, endpoint(), Limits::default());
    let ask = async |path: &str| {
        let mut io = connector.connect().await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: bridge\r\n\r\n");
        io.write_all(request.as_bytes()).await.unwrap();
        io
    };
    let mut waits = ask("/slow").await;
    let mut full = ask("/metrics").await;
    assert_eq!(waits.read(&mut [0; 64]).await.unwrap(), 0, "closed without an answer");
    assert_eq!(clock.now().since_epoch().as_secs(), 15);
    // Nobody read it until now: what was on its way is all there is of it.
    let mut rest = Vec::new();
    full.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() <= 16, "{} octets", rest.len());
}

/// Out of descriptors for the first times.
struct Exhausted<L> {
    inner: L,
    failures: u32,
}

impl<L: net::Listener> net::Listener for Exhausted<L> {
    type Io = L::Io;
    type Parcel = L::Parcel;

    async fn open(parcel: L::Parcel) -> io::Result<L::Io> {
        L::open(parcel).await
    }

    async fn accept(&mut self) -> io::Result<(L::Parcel, SocketAddr)> {
        const EMFILE: i32 = 24;
        if let Some(left) = self.failures.checked_sub(1) {
            self.failures = left;
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        self.inner.accept().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

#[tokio::test(start_paused = true)]
async fn running_out_of_descriptors_pauses_and_recovers() {
    let (inner, connector) = memory(1024);
    let listener = Exhausted { inner, failures: 3 };
    let (_server, _shutdown) = serve(listener, endpoint(), Limits::default());
    let clock = Clock::start();
    let mut socket = call(connector.connect().await.unwrap()).await.unwrap();
    assert_eq!(text(&mut socket).await, GREETING);
    assert_eq!(clock.now().since_epoch(), 3 * ACCEPT_PAUSE);
}

/// A server with threads of its own must not be held by a connection on one of them: the thread would have to wait for itself.
#[tokio::test]
async fn a_connection_that_says_nothing_holds_no_server_that_has_ended() {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = net::Listener::local_addr(&listener).unwrap();
    let shutdown = Shutdown::new();
    let server = Server::new(
        Arc::new(Echo { shutdown: shutdown.clone() }),
        vec![endpoint()],
        Limits { max_connections: 1, ..Limits::default() },
        Pages::default(),
        Router::new(),
        shutdown.clone(),
        Workers::start(2, Tick::Auto).unwrap(),
    );
    let shared = Arc::downgrade(&server.shared);
    let server = tokio::spawn(server.run(listener));
    let mut silent = TcpStream::connect(address).await.unwrap();
    let refused = exchange(TcpStream::connect(address).await.unwrap(), b"").await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "the silent one has the only seat: {refused}");
    shutdown.drain();
    assert_eq!(server.await.unwrap(), Drained { cut: 0 });
    assert!(shared.upgrade().is_none(), "its threads have ended, and all that ran on them");
    assert!(matches!(silent.read(&mut [0]).await, Ok(0) | Err(_)), "the connection is cut");
}

#[tokio::test(start_paused = true)]
async fn records_and_requests_come_to_one_port() {
    let (listener, connector) = memory(1024);
    let transport = Transport::Records;
    let shutdown = Shutdown::new();
    let sources = |text| Sources {
        allow: Some(vec![super::sources::network(text).unwrap()]),
        ..Sources::default()
    };
    let records = Endpoint {
        name: "records".into(),
        path: "/records".into(),
        transport,
        sources: sources("127.0.0.1"),
        ..endpoint()
    };
    let server = Server::new(
        Arc::new(Echo { shutdown: shutdown.clone() }),
        vec![records, endpoint()],
        Limits::default(),
        Pages::default(),
        Router::new(),
        shutdown.clone(),
        Workers::here(),
    );
    let server = tokio::spawn(server.run(listener));

    let mut io = connector.connect().await.unwrap();
    let record = [0x01, 0, 2, b'h', b'i'];
    io.write_all(&record).await.unwrap();
    let mut back = [0; 5];
    io.read_exact(&mut back).await.unwrap();
    assert_eq!(back, record);
    drop(io);

    let mut socket = call(connector.connect().await.unwrap()).await.expect("a WebSocket as ever");
    assert!(text(&mut socket).await.contains("/stream"));
    socket.close(1000, "").await;
    // Its path is a name only, and silence is bounded by the deadline of requests.
    assert!(get(&connector, "/records").await.starts_with("HTTP/1.1 404"));
    let clock = Clock::start();
    let mut silent = connector.connect().await.unwrap();
    assert_eq!(silent.read(&mut back).await.unwrap(), 0);
    assert_eq!(clock.now().since_epoch().as_secs(), 5);
    // That of a head begins with the connection: a first octet at the last moment buys no more time.
    let (clock, mut slow) = (Clock::start(), connector.connect().await.unwrap());
    tokio::time::sleep(Duration::from_millis(4_900)).await;
    slow.write_all(b"G").await.unwrap();
    slow.read_to_end(&mut Vec::new()).await.unwrap();
    assert!(clock.now().since_epoch() < Duration::from_millis(5_500));

    shutdown.drain();
    assert_eq!(server.await.unwrap(), Drained { cut: 0 });
}
