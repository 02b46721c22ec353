//! Events as a stream: Server-Sent Events, and WebSockets over HTTP/1.1 and over HTTP/2.

use std::future::poll_fn;
use std::time::Duration;

use axum::http::{Method, Request, StatusCode, Version};
use bytes::Bytes;
use ringback::socket::wire::{Kind, Reader, Role, Writer};
use ringback::socket::{self, Incoming, SocketOptions};
use ringback_proto::provider::{Message, OutgoingUpgrade};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::support::{Folder, Host, config, soon};
use super::{call, secret, toml};

async fn connect(host: &Host) -> TcpStream {
    TcpStream::connect(host.operator.unwrap()).await.unwrap()
}

/// A WebSocket to the events, with the token as a field or as what a web page can send.
async fn over_http1(host: &Host, token: &str, as_subprotocol: bool) -> socket::Socket {
    let mut upgrade =
        OutgoingUpgrade { target: "/events".into(), headers: Vec::new(), subprotocols: Vec::new() };
    let secret = secret(token);
    if as_subprotocol {
        upgrade.subprotocols = vec![format!("Bearer-{secret}")];
    } else {
        upgrade.headers = vec![("authorization".into(), format!("Bearer {secret}"))];
    }
    let options = SocketOptions { keepalive: None, ..SocketOptions::default() };
    socket::dial(connect(host).await, "localhost", &upgrade, options).await.unwrap()
}

/// The next event, or the code that the stream was closed with.
async fn next(socket: &mut socket::Socket) -> Result<Value, u16> {
    loop {
        let incoming =
            soon("an event", socket.recv()).await.expect("a message or a close").unwrap();
        if let Incoming::Close(closed) = &incoming {
            return Err(closed.as_ref().map_or(1005, |closed| closed.code));
        }
        if let Some(Message::Text(text)) = socket.message(&incoming) {
            return Ok(serde_json::from_str(text).unwrap());
        }
    }
}

#[tokio::test]
async fn over_http_1_1_each_hears_of_its_own_calls_and_to_the_end() {
    let folder = Folder::new("operator-events");
    let host = Host::on_loopback(&toml(&folder));
    let mut all = over_http1(&host, "admin", false).await;
    let mut acme = over_http1(&host, "acme", true).await;
    assert_eq!(acme.subprotocol(), Some("Bearer-acme-0123456789abcdef"));
    let theirs = call(&host, host.connect().await, "globex", "CA-GLOBEX").await;
    let ours = call(&host, host.connect().await, "acme", "CA-ACME").await;
    for (socket, calls) in [(&mut all, &["CA-GLOBEX", "CA-ACME"][..]), (&mut acme, &["CA-ACME"])] {
        let mut heard = Vec::new();
        while heard.len() < calls.len() {
            let event = next(socket).await.unwrap();
            if event["type"] == "call.started" {
                heard.push(event["provider_call"].as_str().unwrap().to_owned());
                let tenant = if heard.last().unwrap() == "CA-ACME" { "acme" } else { "globex" };
                assert_eq!(event["tenant"], tenant);
            }
        }
        assert_eq!(heard, calls);
    }
    drop((ours.hang_up().await, theirs.hang_up().await));
    host.shutdown.drain();
    let mut ended = 0;
    let code = loop {
        match next(&mut acme).await {
            Ok(event) => {
                assert_eq!(event["tenant"], "acme");
                ended += u32::from(event["type"] == "call.ended");
            }
            Err(code) => break code,
        }
    };
    assert_eq!((ended, code), (1, 1001), "the last words come before the end");
    host.stop().await;
}

#[tokio::test]
async fn who_listens_by_a_token_that_is_taken_away_hears_no_more() {
    let folder = Folder::new("operator-revoked");
    let text = toml(&folder);
    let host = Host::on_loopback(&text);
    let mut gone = over_http1(&host, "listener", false).await;
    let mut stays = over_http1(&host, "admin", false).await;
    folder.write("listener", "another-0123456789abcdef");
    host.reload.apply(config(&text)).unwrap();
    assert_eq!(next(&mut gone).await, Err(1008));
    let caller = call(&host, host.connect().await, "raw", "CA1").await;
    assert_eq!(next(&mut stays).await.unwrap()["call"].as_str().map(str::is_empty), Some(false));
    caller.hang_up().await;
    host.stop().await;
}

#[tokio::test]
async fn as_server_sent_events_they_are_lines() {
    let folder = Folder::new("operator-sse");
    let host = Host::on_loopback(&toml(&folder));
    let mut io = connect(&host).await;
    let token = secret("listener");
    let request = format!(
        "GET /events?call=CA2 HTTP/1.0\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    io.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(io).lines();
    let mut line = async || soon("a line", lines.next_line()).await.unwrap().unwrap();
    assert!(line().await.ends_with(" 200 OK"));
    while !line().await.is_empty() {}
    let first = call(&host, host.connect().await, "raw", "CA1").await;
    let second = call(&host, host.connect().await, "raw", "CA2").await;
    let line = loop {
        let line = line().await;
        if !line.is_empty() {
            break line;
        }
    };
    let event: Value = serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((&event["provider_call"], &event["type"]), (&"CA2".into(), &"call.started".into()));
    drop((first.hang_up().await, second.hang_up().await));
    host.stop().await;
}

/// A client's connection of HTTP/2, which goes on by itself.
async fn over_http2(host: &Host) -> h2::client::SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(connect(host).await).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let mut client = client.ready().await.unwrap();
    // The server's settings tell what it speaks.
    while !client.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
        client = client.ready().await.unwrap();
    }
    client
}

fn request(method: Method, path: &str, token: &str) -> Request<()> {
    Request::builder()
        .method(method)
        .version(Version::HTTP_2)
        .uri(format!("http://localhost{path}"))
        .header("authorization", format!("Bearer {}", secret(token)))
        .body(())
        .unwrap()
}

#[tokio::test]
async fn over_http_2_events_are_a_websocket_beside_other_requests() {
    let folder = Folder::new("operator-h2");
    let host = Host::on_loopback(&toml(&folder));
    let mut client = soon("the settings", over_http2(&host)).await;
    let mut connect = request(Method::CONNECT, "/events", "listener");
    connect.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    connect.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    let (response, mut send) = client.send_request(connect, false).unwrap();
    let response = soon("the answer", response).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    let mut body = response.into_body();
    let caller = call(&host, host.connect().await, "raw", "CA1").await;
    // Beside it, on the same connection.
    let mut client = client.ready().await.unwrap();
    let (answer, _) =
        client.send_request(request(Method::GET, "/v1/calls", "reader"), true).unwrap();
    let mut answer = soon("the answer", answer).await.unwrap().into_body();
    let text = soon("a body", answer.data()).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&text).contains("\"provider_call\":\"CA1\""), "{text:?}");
    let mut reader = Reader::new(Role::Client, 64 * 1024);
    let event = loop {
        if let Some(arrival) = reader.next_message().unwrap() {
            assert_eq!(arrival.kind, Kind::Text);
            break serde_json::from_str::<Value>(reader.text(&arrival)).unwrap();
        }
        let data = soon("an event", body.data()).await.unwrap().unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        reader.push(&data);
    };
    assert_eq!((&event["type"], &event["provider_call"]), (&"call.started".into(), &"CA1".into()));
    // A goodbye is answered, and the stream ends while the connection goes on.
    let mut writer = Writer::new(Role::Client);
    writer.push(Kind::Close, &1000_u16.to_be_bytes());
    send.send_data(Bytes::copy_from_slice(writer.pending()), false).unwrap();
    let mut closed = false;
    while let Some(data) = soon("the end of the stream", poll_fn(|cx| body.poll_data(cx))).await {
        let Ok(data) = data else { break };
        reader.push(&data);
        while let Some(arrival) = reader.next_message().unwrap() {
            closed |= arrival.kind == Kind::Close;
        }
    }
    assert!(closed, "it says goodbye as well");
    caller.hang_up().await;
    host.stop().await;
}

#[tokio::test]
async fn over_http_2_the_same_rules_hold() {
    let folder = Folder::new("operator-h2-rules");
    let host = Host::on_loopback(&toml(&folder));
    let client = soon("the settings", over_http2(&host)).await;
    let status = async |request: Request<()>| {
        let mut client = client.clone().ready().await.unwrap();
        let ends = request.method() != Method::CONNECT;
        let (response, _send) = client.send_request(request, ends).unwrap();
        soon("the answer", response).await.unwrap().status().as_u16()
    };
    let connect = |path: &str, token: &str, protocol: &'static str| {
        let mut request = request(Method::CONNECT, path, token);
        request.extensions_mut().insert(h2::ext::Protocol::from_static(protocol));
        request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
        request
    };
    assert_eq!(status(request(Method::GET, "/v1/calls", "reader")).await, 200);
    assert_eq!(status(request(Method::GET, "/v1/calls", "listener")).await, 403);
    assert_eq!(status(request(Method::PUT, "/v1/calls", "reader")).await, 405);
    assert_eq!(status(connect("/events", "reader", "websocket")).await, 403);
    assert_eq!(status(connect("/v1/calls", "reader", "websocket")).await, 400);
    assert_eq!(status(connect("/events", "listener", "webtransport")).await, 405);
    let mut foreign = connect("/events", "listener", "websocket");
    foreign.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
    assert_eq!(status(foreign).await, 403);
    let mut unversioned = connect("/events", "listener", "websocket");
    unversioned.headers_mut().remove("sec-websocket-version");
    assert_eq!(status(unversioned).await, 400);
    let mut guess = request(Method::GET, "/v1/calls", "reader");
    guess.headers_mut().insert("authorization", "Bearer guess".parse().unwrap());
    assert_eq!(status(guess).await, 401);
    host.stop().await;
}

#[tokio::test]
async fn over_http_2_streams_and_fields_are_bounded() {
    let folder = Folder::new("operator-h2-bounds");
    let host = Host::on_loopback(&toml(&folder));
    let client = soon("the settings", over_http2(&host)).await;
    assert_eq!(client.current_max_send_streams(), 100);
    let mut long = request(Method::GET, "/v1/calls", "reader");
    long.headers_mut().insert("x-long", "x".repeat(20_000).parse().unwrap());
    let (response, _) = client.clone().ready().await.unwrap().send_request(long, true).unwrap();
    assert_eq!(soon("the answer", response).await.unwrap().status(), 431);
    host.stop().await;
}

#[tokio::test(start_paused = true)]
async fn over_http_2_who_listens_and_answers_no_ping_is_gone() {
    let folder = Folder::new("operator-h2-pings");
    let (host, _calls, operators) = Host::operated_in_memory(&toml(&folder));
    let io = operators.connect().await.unwrap();
    let (client, mut connection) = h2::client::handshake(io).await.unwrap();
    let mut client = client.ready().await.unwrap();
    let (response, _) =
        client.send_request(request(Method::GET, "/events", "listener"), true).unwrap();
    let response = tokio::select! {
        response = response => response.unwrap(),
        ended = &mut connection => panic!("{ended:?}"),
    };
    assert_eq!(response.status(), StatusCode::OK);
    // Nobody looks at the connection meanwhile: pings are not answered, and it is not closed.
    tokio::time::sleep(Duration::from_secs(45)).await;
    let ended = tokio::time::timeout(Duration::from_secs(1), &mut connection).await;
    assert!(ended.is_ok(), "it is still open");
    drop(response);
    host.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_more_listen_than_may_whoever_they_are() {
    let folder = Folder::new("operator-listeners");
    let text = toml(&folder).replacen("[operator]\n", "[operator]\nmax_connections = 300\n", 1);
    let (host, _calls, operators) = Host::operated_in_memory(&text);
    let token = secret("admin");
    let request =
        format!("GET /events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
    let mut listening = Vec::new();
    let mut told = Vec::new();
    for _ in 0..257 {
        let mut io = operators.connect().await.unwrap();
        io.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        soon("an answer", io.read_exact(&mut status)).await.unwrap();
        told.push(status == *b"HTTP/1.1 200");
        listening.push(io);
    }
    assert_eq!(told.iter().filter(|told| **told).count(), 256);
    assert_eq!(told.last(), Some(&false));
    drop(listening);
    host.stop().await;
}
