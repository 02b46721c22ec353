//! Sockets over a connection in memory, on paused time: what a peer can do to them and what it is told.

use super::*;
use ringback_proto::provider::OutgoingUpgrade;
use tokio::io::DuplexStream;

/// Our end, and the bare connection of a peer that speaks frames by hand.
fn socket_and_wire(options: SocketOptions) -> (Socket, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(16 * 1024);
    (Socket::accepted(Box::new(ours), b"", None, options), theirs)
}

/// Our end, and the client's.
fn pair(options: SocketOptions) -> (Socket, Socket) {
    let (ours, theirs) = tokio::io::duplex(16 * 1024);
    let without_pings = SocketOptions { keepalive: None, ..options };
    (
        Socket::accepted(Box::new(ours), b"", None, options),
        Socket::new(Box::new(theirs), Role::Client, b"", None, without_pings),
    )
}

/// What asking for a stream brings at a server that answers with `answer` and then stays silent, or is gone, and how long it took.
async fn dialled(answer: &[u8], then_gone: bool) -> (DialError, Duration) {
    let (ours, mut theirs) = tokio::io::duplex(16 * 1024);
    theirs.write_all(answer).await.unwrap();
    let _theirs = Some(theirs).filter(|_| !then_gone);
    let clock = crate::clock::Clock::start();
    let request = OutgoingUpgrade { target: "/x".into(), ..OutgoingUpgrade::default() };
    let error = dial(ours, "bridge", &request, SocketOptions::default()).await.unwrap_err();
    (error, clock.now().since_epoch())
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_however_it_is_sent() {
    let chunked =
        b"HTTP/1.1 401 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwho?\r\n0\r\n\r\n".as_slice();
    let unfinished =
        b"HTTP/1.1 503 X\r\nRetry-After: 9\r\nContent-Length: 99\r\n\r\nfull".as_slice();
    let (at_once, at_last) = (Duration::ZERO, Duration::from_secs(5));
    for (answer, then_gone, status, retry_after, body, within) in [
        (chunked, false, 401, None, "who?", at_once),
        (unfinished, false, 503, Some(9), "full", at_last),
        (unfinished, true, 503, Some(9), "full", at_once),
    ] {
        let (error, took) = dialled(answer, then_gone).await;
        let DialError::Refused { status: found, retry_after: later, body: said } = error else {
            panic!("{error}")
        };
        assert_eq!((found, later, said.as_str()), (status, retry_after, body));
        assert_eq!(took, within, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_answer_and_half_an_answer_are_told_apart_from_a_refusal() {
    let half = b"HTTP/1.1 503 X\r\nRetry-".as_slice();
    let late = Duration::from_secs(5);
    assert!(matches!(dialled(half, false).await, (DialError::Deadline(_), took) if took == late));
    assert!(matches!(dialled(half, true).await, (DialError::Handshake(_), Duration::ZERO)));
}

/// A frame as a client sends it: masked, with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(long).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

const FIN_TEXT: u8 = 0x81;
const FIN_PING: u8 = 0x89;

#[tokio::test(start_paused = true)]
async fn messages_go_both_ways() {
    let (mut server, mut client) = pair(SocketOptions::default());
    client.feed(Outgoing::Text("start")).unwrap();
    client.send(Outgoing::Binary(&[1, 2, 3])).await.unwrap();
    let text = server.recv().await.unwrap().unwrap();
    assert_eq!(server.message(&text), Some(Message::Text("start")));
    let binary = server.recv().await.unwrap().unwrap();
    assert_eq!(server.message(&binary), Some(Message::Binary(&[1, 2, 3])));

    server.send(Outgoing::Ping(b"?")).await.unwrap();
    assert_eq!(client.recv().await.unwrap().unwrap(), Incoming::Ping);
    assert_eq!(server.recv().await.unwrap().unwrap(), Incoming::Pong);
}

#[tokio::test(start_paused = true)]
async fn fragments_with_a_ping_between_make_one_message() {
    let (mut server, mut wire) = socket_and_wire(SocketOptions::default());
    for octets in [frame(0x01, b"me"), frame(FIN_PING, b""), frame(0x80, b"dia")].concat() {
        wire.write_all(&[octets]).await.unwrap();
    }
    assert!(matches!(server.recv().await, Some(Ok(Incoming::Ping))));
    let message = server.recv().await.unwrap().unwrap();
    assert_eq!(server.message(&message), Some(Message::Text("media")));
}

/// Sends a piece every two seconds, and what came whole of it; gives the error and when it came.
async fn trickled(pieces: Vec<Vec<u8>>) -> (usize, Option<SocketError>, u64) {
    let (mut server, mut wire) = socket_and_wire(SocketOptions::default());
    let clock = Clock::start();
    let trickle = tokio::spawn(async move {
        for piece in pieces {
            // The socket may be closed by now.
            let _ = wire.write_all(&piece).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    });
    let (mut messages, mut failed) = (0, None);
    while let Some(incoming) = server.recv().await {
        match incoming {
            Ok(Incoming::Message(_)) => messages += 1,
            Ok(_) => {}
            // All was said.
            Err(SocketError::Cut) => {}
            Err(error) => failed = Some(error),
        }
    }
    drop(trickle);
    (messages, failed, clock.now().since_epoch().as_secs())
}

fn one_by_one(octets: &[u8]) -> Vec<Vec<u8>> {
    octets.iter().map(|octet| vec![*octet]).collect()
}

#[tokio::test(start_paused = true)]
async fn a_message_that_has_begun_must_be_whole_within_ten_seconds() {
    let ping = || frame(FIN_PING, b"");
    let fragments = || std::iter::once(frame(0x01, b"")).chain((0..20).map(|_| frame(0x00, b"")));
    let with_pings = fragments().flat_map(|fragment| [fragment, ping()]);
    for (name, pieces) in [
        ("a head, octet by octet", one_by_one(&frame(FIN_TEXT, b""))),
        ("a large frame", one_by_one(&frame(FIN_TEXT, &[b'x'; 400]))),
        ("a ping, octet by octet", one_by_one(&frame(FIN_PING, b"are you there"))),
        ("fragments without end", fragments().collect()),
        ("fragments with pings between them", with_pings.collect()),
    ] {
        let (messages, failed, seconds) = trickled(pieces).await;
        assert!(matches!(failed, Some(SocketError::Unfinished { .. })), "{name}: {failed:?}");
        assert_eq!((messages, seconds), (0, 10), "{name}");
        assert_eq!(failed.and_then(|error| error.close_code()), Some(close_code::POLICY));
    }
}

#[tokio::test(start_paused = true)]
async fn messages_that_each_take_some_seconds_are_heard() {
    // Cut anew each time, so that one has always begun when the last is whole.
    let octets: Vec<u8> = (0..20).flat_map(|_| frame(FIN_TEXT, b"slow")).collect();
    let pieces = octets.chunks(7).map(<[u8]>::to_vec).chain([frame(FIN_TEXT, b"last")]).collect();
    let (messages, failed, _) = trickled(pieces).await;
    assert!(failed.is_none(), "{failed:?}");
    assert!(messages >= 20, "{messages}");
}

#[tokio::test(start_paused = true)]
async fn the_peers_close_is_answered_with_its_own_code() {
    let (mut server, mut client) = pair(SocketOptions::default());
    let closing = tokio::spawn(async move {
        client.send(Outgoing::Text("last")).await.unwrap();
        client.writer.push_close(4000, "hung up");
        client.flush().await.unwrap();
        client.recv().await
    });
    assert!(matches!(server.recv().await, Some(Ok(Incoming::Message(_)))));
    let closed = Closed { code: 4000, reason: "hung up".into() };
    assert_eq!(server.recv().await.unwrap().unwrap(), Incoming::Close(Some(closed.clone())));
    assert!(server.recv().await.is_none(), "nothing comes after a close");
    server.close(close_code::NORMAL, "").await;
    let answer = closing.await.unwrap().unwrap().unwrap();
    assert_eq!(answer, Incoming::Close(Some(Closed { reason: String::new(), ..closed })));
}

#[tokio::test(start_paused = true)]
async fn closing_alone_answers_the_peers_close() {
    let (mut server, mut wire) = socket_and_wire(SocketOptions::default());
    wire.write_all(&frame(0x88, &4000_u16.to_be_bytes())).await.unwrap();
    assert!(matches!(server.recv().await, Some(Ok(Incoming::Close(_)))));
    server.close(close_code::NORMAL, "").await;
    let mut answer = Vec::new();
    wire.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [0x88, 2, 0x0f, 0xa0]);
}

#[tokio::test(start_paused = true)]
async fn violations_are_told_by_code() {
    let limits = SocketOptions { max_message: 1024, ..SocketOptions::default() };
    let unmasked_text = vec![FIN_TEXT, 1, b'x'];
    let reserved_bit = frame(0xC1, b"x");
    let cases: [(&str, Vec<u8>, u16); 7] = [
        ("unmasked", unmasked_text, close_code::PROTOCOL),
        ("reserved bit", reserved_bit, close_code::PROTOCOL),
        ("unknown opcode", frame(0x83, b"x"), close_code::PROTOCOL),
        ("continuation of nothing", frame(0x80, b"x"), close_code::PROTOCOL),
        ("not UTF-8", frame(FIN_TEXT, &[0xC3, 0x28]), close_code::INVALID_DATA),
        ("one octet too many", frame(0x82, &[0; 1025]), close_code::TOO_BIG),
        (
            "too many in fragments",
            [frame(0x02, &[0; 600]), frame(0x80, &[0; 600])].concat(),
            close_code::TOO_BIG,
        ),
    ];
    for (case, octets, code) in cases {
        let (mut server, mut wire) = socket_and_wire(limits);
        wire.write_all(&octets).await.unwrap();
        let error = server.recv().await.unwrap().expect_err(case);
        assert_eq!(error.close_code(), Some(code), "{case}: {error}");
        assert!(error.is_peers_fault());
        assert!(server.recv().await.is_none(), "{case}: the first error is the last");
        let closing = tokio::spawn(server.close(code, "see the log"));
        let mut answer = [0; 4];
        wire.read_exact(&mut answer).await.unwrap();
        assert_eq!([answer[0], answer[2], answer[3]], {
            let [high, low] = code.to_be_bytes();
            [0x88, high, low]
        });
        drop(wire);
        closing.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_as_big_as_the_limit_is_taken() {
    let limits = SocketOptions { max_message: 1024, ..SocketOptions::default() };
    let (mut server, mut wire) = socket_and_wire(limits);
    wire.write_all(&frame(0x82, &[7; 1024])).await.unwrap();
    let message = server.recv().await.unwrap().unwrap();
    assert_eq!(server.message(&message), Some(Message::Binary(&[7; 1024])));
}

#[tokio::test(start_paused = true)]
async fn fifty_pings_within_a_second_are_borne_and_one_more_is_not() {
    let (mut server, mut wire) = socket_and_wire(SocketOptions::default());
    for _ in 0..2 {
        wire.write_all(&frame(FIN_PING, b"").repeat(50)).await.unwrap();
        for _ in 0..50 {
            assert!(matches!(server.recv().await, Some(Ok(Incoming::Ping))));
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    wire.write_all(&frame(FIN_PING, b"").repeat(51)).await.unwrap();
    let error = loop {
        if let Err(error) = server.recv().await.unwrap() {
            break error;
        }
    };
    assert_eq!(error.close_code(), Some(close_code::POLICY), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_runs_into_the_write_deadline() {
    let (mut server, _unread) = socket_and_wire(SocketOptions::default());
    let clock = crate::clock::Clock::start();
    let error = loop {
        if let Err(error) = server.send(Outgoing::Binary(&[0; 640])).await {
            break error;
        }
    };
    assert!(matches!(error, SocketError::WriteDeadline { .. }), "{error}");
    assert_eq!(error.close_code(), None);
    assert_eq!(clock.now().since_epoch(), Duration::from_secs(5));
    server.close(close_code::GOING_AWAY, "").await;
    assert_eq!(
        clock.now().since_epoch(),
        Duration::from_secs(5),
        "no farewell to who does not read"
    );
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_written_is_bounded_and_says_so() {
    let (mut socket, _wire) =
        socket_and_wire(SocketOptions { max_message: 1_000, ..SocketOptions::default() });
    let most = WRITE_BUFFER + 1_000 * OUTGOING_FACTOR;
    let mut fed = 0;
    let error = loop {
        match socket.feed(Outgoing::Binary(&[0; 1_000])) {
            Ok(()) => fed += 1_000,
            Err(error) => break error,
        }
        assert!(fed <= most, "{fed} octets wait");
    };
    assert!(matches!(error, SocketError::OutgoingTooBig), "{error}");
    assert_eq!(error.close_code(), Some(close_code::INTERNAL));
    assert!(fed > 1_000 * (OUTGOING_FACTOR - 1), "{fed} octets");
    socket.flush().await.unwrap();
    assert!(socket.feed(Outgoing::Binary(&[0; 1_000])).is_ok(), "there is room again");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_gets_two_pings_and_is_given_up() {
    let (mut server, mut wire) = socket_and_wire(SocketOptions::default());
    let clock = crate::clock::Clock::start();
    let error = server.recv().await.unwrap().unwrap_err();
    assert!(matches!(error, SocketError::Silent { .. }), "{error}");
    assert_eq!(clock.now().since_epoch(), Duration::from_secs(45));
    drop(server);
    let mut pings = Vec::new();
    wire.read_to_end(&mut pings).await.unwrap();
    assert_eq!(pings, [FIN_PING, 0, FIN_PING, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_pings_lives() {
    let (mut server, mut client) = pair(SocketOptions::default());
    tokio::spawn(async move { while client.recv().await.is_some() {} });
    let clock = crate::clock::Clock::start();
    while clock.now().since_epoch() < Duration::from_secs(600) {
        let message = server.recv().await.unwrap().unwrap();
        assert!(matches!(message, Incoming::Pong));
    }
}

#[tokio::test(start_paused = true)]
async fn without_keepalive_no_ping_is_sent() {
    let options = SocketOptions { keepalive: None, ..SocketOptions::default() };
    let (mut server, mut wire) = socket_and_wire(options);
    let hour = Duration::from_secs(3_600);
    assert!(tokio::time::timeout(hour, server.recv()).await.is_err());
    drop(server);
    assert_eq!(wire.read(&mut [0]).await.unwrap(), 0, "not one octet was sent");
}

#[tokio::test(start_paused = true)]
async fn a_client_sends_nothing_before_it_is_answered() {
    let (ours, mut theirs) = tokio::io::duplex(16 * 1024);
    let request = OutgoingUpgrade { target: "/x".into(), ..OutgoingUpgrade::default() };
    let dialling = tokio::spawn(async move {
        let mut socket = dial(ours, "bridge", &request, SocketOptions::default()).await.unwrap();
        socket.send(Outgoing::Text("at last")).await.unwrap();
        socket
    });
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        theirs.read_buf(&mut asked).await.unwrap();
    }
    let second = Duration::from_secs(1);
    assert!(tokio::time::timeout(second, theirs.read_buf(&mut asked)).await.is_err());
    let asked = String::from_utf8(asked).unwrap();
    let key = asked.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = accept_key(key.as_bytes());
    let yes = format!(
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    theirs.write_all(yes.as_bytes()).await.unwrap();
    let mut frame = [0; 2];
    theirs.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame, [FIN_TEXT, 0x80 | 7], "a text of seven octets, masked");
    drop(dialling.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_a_close() {
    let (mut server, mut wire) = socket_and_wire(SocketOptions::default());
    wire.write_all(&frame(0x88, &1000_u16.to_be_bytes())).await.unwrap();
    wire.write_all(&frame(FIN_PING, b"too late")).await.unwrap();
    assert!(matches!(server.recv().await, Some(Ok(Incoming::Close(Some(_))))));
    server.feed(Outgoing::Text("last words")).unwrap();
    assert!(server.recv().await.is_none());
    let clock = Clock::start();
    let closing = tokio::spawn(server.close(close_code::NORMAL, ""));
    let mut heard = Vec::new();
    wire.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, [&[FIN_TEXT, 10][..], b"last words", &[0x88, 2, 0x03, 0xE8]].concat());
    assert_eq!(clock.now().since_epoch(), Duration::ZERO, "closed at once, by the server");
    drop(wire);
    closing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cut_line_is_not_a_close() {
    let (mut server, wire) = socket_and_wire(SocketOptions::default());
    drop(wire);
    let error = server.recv().await.unwrap().unwrap_err();
    assert!(matches!(error, SocketError::Cut), "{error}");
    assert!(!error.is_peers_fault());
}

#[tokio::test(start_paused = true)]
async fn reasons_are_cut_at_a_character_and_unsendable_codes_left_out() {
    let (server, mut wire) = socket_and_wire(SocketOptions::default());
    let closing = tokio::spawn(async move { server.close(1011, &"ö".repeat(100)).await });
    let mut frame = [0; 2 + 2 + 122];
    wire.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[1], 124);
    assert_eq!(std::str::from_utf8(&frame[4..]).unwrap(), "ö".repeat(61));
    drop(wire);
    closing.await.unwrap();

    let (server, mut wire) = socket_and_wire(SocketOptions::default());
    let closing = tokio::spawn(server.close(1006, "never on the wire"));
    let mut frame = [0; 2];
    wire.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame, [0x88, 0]);
    drop(wire);
    closing.await.unwrap();
}
