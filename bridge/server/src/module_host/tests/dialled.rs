//! What only a module behind a WebSocket can meet: servers that are away, that say no, or that close. In virtual time.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::served::serve;
use super::*;
use crate::client::WsUrl;
use crate::net::{self, Listener as _, MemoryHosts};
use crate::outgoing::Connector;
use ringback_proto::provider::Secret;

/// Dialled where a server answers with these octets and keeps what it was asked.
fn answered(answer: &'static str) -> (WebSocketSpec, Arc<std::sync::Mutex<String>>) {
    let (mut listener, memory) = net::memory(64 * 1024);
    let asked = Arc::new(std::sync::Mutex::new(String::new()));
    let keep = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut io, _)) = listener.accept().await {
            let mut head = vec![0; 4_096];
            let len = io.read(&mut head).await.unwrap();
            *keep.lock().unwrap() = String::from_utf8_lossy(&head[..len]).into_owned();
            io.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let spec = WebSocketSpec {
        name: "m".into(),
        url: WsUrl::plain("module:80".into(), "/m?key=hidden".into()),
        token: Some(Secret::from("t0ken")),
        connector: Arc::new(Connector::in_memory(memory)),
    };
    (spec, asked)
}

async fn gone(hosted: &mut Hosted) -> String {
    match next(hosted).await {
        FromHost::Gone { reason: Some(reason) } => reason,
        other => panic!("unexpected {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_upgrade_names_contract_and_token_and_no_reason_names_the_query() {
    let (spec, asked) = answered("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    assert!(!format!("{spec:?}").contains("t0ken"));
    let reason = gone(&mut spawn_websocket(spec, start())).await;
    assert!(
        reason.starts_with("ws://module:80/m: ") && reason.contains("path of `url`"),
        "{reason}"
    );
    let asked = asked.lock().unwrap().clone();
    for line in [
        "GET /m?key=hidden HTTP/1.1",
        "Host: module\r\n",
        "Authorization: Bearer t0ken",
        "Sec-WebSocket-Protocol: ringback.v1",
    ] {
        assert!(asked.contains(line), "{line} in {asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_dialling_again_would_not_mend_is_final() {
    for (answer, word) in [
        ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "check `token`"),
        ("HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n", "check `url`"),
    ] {
        let reason = gone(&mut spawn_websocket(answered(answer).0, start())).await;
        assert!(reason.contains(word), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_dialled_for_half_a_minute() {
    let spec = WebSocketSpec {
        connector: Arc::new(Connector::within(MemoryHosts::default())),
        ..answered("").0
    };
    let began = tokio::time::Instant::now();
    let mut hosted = spawn_websocket(spec, start());
    let mut restarts = 0;
    let reason = loop {
        match next(&mut hosted).await {
            FromHost::Restarting { .. } => restarts += 1,
            FromHost::NeedStart => hosted.try_send(ToHost::Start(Box::new(start()))).unwrap(),
            FromHost::Gone { reason } => break reason.unwrap(),
            other => panic!("unexpected {other:?}"),
        }
    };
    assert_eq!(restarts, 10);
    assert!(reason.contains("cannot connect") && reason.contains("given up"), "{reason}");
    // 26.3 s of pauses, of which chance takes a quarter at most.
    let waited = began.elapsed();
    assert!((19..=28).contains(&waited.as_secs()), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_busy_is_left_alone_for_as_long_as_it_asks() {
    let mut hosted = spawn_websocket(serve("busy").spec, start());
    let FromHost::Restarting { reason, after, .. } = next(&mut hosted).await else { panic!() };
    assert!(reason.ends_with("busy: 8 of 8"), "{reason}");
    assert_eq!(after, Duration::from_secs(7));

    let full = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 9\r\ncontent-length: 0\r\n\r\n";
    let mut hosted = spawn_websocket(answered(full).0, start());
    let FromHost::Restarting { after, .. } = next(&mut hosted).await else { panic!() };
    assert_eq!(after, Duration::from_secs(9));
}

#[tokio::test(start_paused = true)]
async fn connecting_counts_towards_the_time_to_get_ready() {
    let (listener, memory) = net::memory(1024);
    let connector = Arc::new(Connector::in_memory(memory));
    let spec = WebSocketSpec { connector, ..answered("").0 };
    let mut start = start();
    start.limits.ready_ms = 300;
    let mut hosted = spawn_websocket(spec, start);
    assert!(restarting(&mut hosted).await.ends_with("not ready within 300 ms"));
    drop(listener);
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_it_is_dialled_is_the_end() {
    let (listener, memory) = net::memory(1024);
    let connector = Arc::new(Connector::in_memory(memory));
    let spec = WebSocketSpec { connector, ..answered("").0 };
    let mut hosted = spawn_websocket(spec, start());
    hosted.try_send(stop(PATIENCE)).unwrap();
    assert_eq!(next(&mut hosted).await, FromHost::Gone { reason: None });
    drop(listener);
}

/// As the table of close codes in the contract has it.
#[tokio::test(start_paused = true)]
async fn the_code_of_a_close_says_whether_to_dial_again() {
    for (code, again) in [
        (1000, false),
        (1001, true),
        (1011, true),
        (1012, true),
        (1013, true),
        (4001, false),
        (4002, false),
        (4004, false),
        (4008, true),
        (4029, true),
    ] {
        let (mut listener, memory) = net::memory(1024);
        let connector = Arc::new(Connector::in_memory(memory));
        tokio::spawn(async move {
            let (io, _) = listener.accept().await.unwrap();
            let options = crate::socket::SocketOptions::default();
            let Ok(socket) = crate::socket::answer(io, options).await else { panic!() };
            socket.close(code, "because").await;
        });
        let spec = WebSocketSpec { connector, ..answered("").0 };
        let mut hosted = spawn_websocket(spec, start());
        let reason = match next(&mut hosted).await {
            FromHost::Restarting { reason, .. } if again => reason,
            FromHost::Gone { reason: Some(reason) } if !again => reason,
            other => panic!("{code}: {other:?}"),
        };
        assert!(reason.contains(&format!("with {code}: because")), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_module_is_not_dialled_again() {
    let served = serve("good");
    let mut hosted = spawn_websocket(served.spec, start());
    ready(&mut hosted, Value::Null).await;
    drop(hosted);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(served.dialled.load(Ordering::SeqCst), 1);
}
