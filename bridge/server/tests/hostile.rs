//! Streams that break the rules: each ends its own call with the right close code, and a good call beside it loses nothing.

mod support;

use std::time::Duration;

use ringback::socket::{DialError, SocketOptions, dial};
use ringback_proto::provider::OutgoingUpgrade;
use ringback_proto::session::{EndReason, Report};
use support::{Goodbye, Host, What, beside_a_good_call, soon, summaries};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const LIMIT: usize = 64 * 1024;

/// A WebSocket of bare octets: it can send what no library would.
struct Bare {
    stream: TcpStream,
    unread: Vec<u8>,
}

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const FINAL: u8 = 0x80;

/// A frame as clients send it; the mask of zeros leaves the payload as it is.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut octets = vec![first];
    match payload.len() {
        short @ 0..126 => octets.push(0x80 | short as u8),
        middle @ 126..65_536 => {
            octets.push(0x80 | 126);
            octets.extend((middle as u16).to_be_bytes());
        }
        long => {
            octets.push(0x80 | 127);
            octets.extend((long as u64).to_be_bytes());
        }
    }
    octets.extend([0; 4]);
    octets.extend(payload);
    octets
}

impl Bare {
    async fn open(host: &Host, target: &str) -> Self {
        let mut stream = host.connect().await;
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("the bridge reads");
        let mut bare = Self { stream, unread: Vec::new() };
        let head = bare.take_until(b"\r\n\r\n").await;
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        bare
    }

    async fn send(&mut self, octets: &[u8]) {
        // The bridge may close in the middle of what is too much for it.
        let _ = self.stream.write_all(octets).await;
    }

    async fn more(&mut self) -> bool {
        let mut piece = [0; 4096];
        let read = soon("octets of the bridge", self.stream.read(&mut piece)).await.unwrap_or(0);
        self.unread.extend(&piece[..read]);
        read > 0
    }

    async fn take_until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.unread.windows(end.len()).position(|w| w == end) {
                return self.unread.drain(..at + end.len()).collect();
            }
            assert!(self.more().await, "closed before {end:?}");
        }
    }

    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((first, payload, used)) = parsed(&self.unread) {
                self.unread.drain(..used);
                return Some((first & 0x0f, payload));
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Reads over everything to the close frame.
    async fn goodbye(&mut self) -> Option<Goodbye> {
        while let Some((kind, payload)) = self.frame().await {
            if kind == CLOSE {
                let code = payload.get(..2).map_or(1005, |c| u16::from_be_bytes([c[0], c[1]]));
                let reason = payload.get(2..).unwrap_or_default();
                let reason = String::from_utf8(reason.to_vec()).expect("a reason is UTF-8");
                self.send(&frame(FINAL | CLOSE, &payload)).await;
                return Some(Goodbye { code, reason });
            }
        }
        None
    }
}

/// Frames of the bridge have no mask.
fn parsed(octets: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (&first, &second) = (octets.first()?, octets.get(1)?);
    let (length, head) = match second {
        126 => (usize::from(u16::from_be_bytes([*octets.get(2)?, *octets.get(3)?])), 4),
        127 => (u64::from_be_bytes(octets.get(2..10)?.try_into().ok()?) as usize, 10),
        short => (usize::from(short), 2),
    };
    Some((first, octets.get(head..head + length)?.to_vec(), head + length))
}

/// What a bad stream does and what must come of it.
struct Case {
    name: &'static str,
    target: &'static str,
    /// Sent one after the other.
    frames: Vec<Vec<u8>>,
    /// Close code.
    code: u16,
    /// How the call is said to have ended.
    end: &'static str,
    /// In the reason that the log keeps.
    why: &'static str,
}

fn text(text: &str) -> Vec<u8> {
    frame(FINAL | TEXT, text.as_bytes())
}

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    let many = |frame: Vec<u8>, count: usize| vec![frame.repeat(count)];
    vec![
        Case { name: "garbage text", target: "/twilio", frames: vec![text("hello, operator")],
            code: 1007, end: "protocol", why: "not valid" },
        Case { name: "a start without its fields", target: "/twilio", frames: vec![text(r#"{"event":"start"}"#)],
            code: 1002, end: "protocol", why: "" },
        Case { name: "an unknown encoding", target: "/twilio", frames: vec![text(
            r#"{"event":"start","streamSid":"MZ1","start":{"streamSid":"MZ1","callSid":"CA1","tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-none","sampleRate":8000,"channels":1}}}"#)],
            code: 1003, end: "protocol", why: "not supported" },
        Case { name: "a content type that nobody has", target: "/vonage", frames: vec![text(
            r#"{"event":"websocket:connected","content-type":"audio/mp3;rate=8000"}"#)],
            code: 1003, end: "protocol", why: "not supported" },
        Case { name: "a start without a format", target: "/asterisk", frames: vec![text("MEDIA_START connection_id:c channel:ch")],
            code: 1002, end: "protocol", why: "format" },
        Case { name: "garbage on the raw wire", target: "/raw", frames: vec![text("{]")],
            code: 1007, end: "protocol", why: "not valid" },
        Case { name: "a mark without a name", target: "/raw", frames: vec![text(r#"{"type":"mark"}"#)],
            code: 1002, end: "protocol", why: "name" },
        Case { name: "text that is not UTF-8", target: "/twilio", frames: vec![frame(FINAL | TEXT, &[0xff, 0xfe, b'x'])],
            code: 1007, end: "socket", why: "UTF-8" },
        Case { name: "one octet too many", target: "/raw", frames: vec![frame(FINAL | BINARY, &vec![0x7e; LIMIT + 1])],
            code: 1009, end: "socket", why: "65536" },
        Case { name: "too many octets in pieces", target: "/raw", frames: vec![
            frame(BINARY, &vec![0x7e; LIMIT - 10]), frame(FINAL, &[0x7e; 11])],
            code: 1009, end: "socket", why: "65536" },
        Case { name: "a length that nobody has", target: "/raw", frames: vec![
            [&[FINAL | BINARY, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat()],
            code: 1009, end: "socket", why: "65536" },
        Case { name: "a frame without a mask", target: "/raw", frames: vec![vec![FINAL | BINARY, 2, 1, 2]],
            code: 1002, end: "socket", why: "mask" },
        Case { name: "the rest of nothing", target: "/raw", frames: vec![frame(FINAL, b"rest")],
            code: 1002, end: "socket", why: "ontinu" },
        Case { name: "a frame of no known kind", target: "/raw", frames: vec![frame(FINAL | 0x0b, b"")],
            code: 1002, end: "socket", why: "" },
        Case { name: "a ping in pieces", target: "/raw", frames: vec![frame(PING, b"a")],
            code: 1002, end: "socket", why: "" },
        Case { name: "a flood of pings", target: "/raw", frames: many(frame(FINAL | PING, b"x"), 500),
            code: 1008, end: "socket", why: "control frames" },
    ]
}

#[tokio::test]
async fn each_ends_its_own_call_only() {
    let host = Host::on_loopback("");
    let attacks = async {
        let mut ended = 0;
        for case in cases() {
            let mut bare = Bare::open(&host, case.target).await;
            for frame in &case.frames {
                bare.send(frame).await;
            }
            let goodbye = bare.goodbye().await;
            let goodbye = goodbye.unwrap_or_else(|| panic!("{}: cut without a word", case.name));
            assert_eq!(goodbye.code, case.code, "{}: {goodbye:?}", case.name);
            assert!(!goodbye.reason.is_empty(), "{}: no reason was given", case.name);
            ended += 1;
            let reason = nth_end(&host, ended, case.name).await;
            assert_eq!(reason.name(), case.end, "{}: {reason}", case.name);
            assert!(reason.to_string().contains(case.why), "{}: {reason}", case.name);
        }
        ended = cut_lines(&host, ended).await;
        odd_but_allowed(&host, ended).await;
    };
    let n = beside_a_good_call(&host, attacks).await;
    assert!(n >= 160 * 20, "the good call was hardly there: {n} samples");
    host.stop().await;
}

/// How the `count`-th call to end ended; the good one ends last.
async fn nth_end(host: &Host, count: usize, name: &str) -> EndReason {
    let ended = host.log.until(name, |entries| summaries(entries).nth(count - 1).cloned()).await;
    let unbalanced: Vec<_> = ended.ledger.unbalanced().map(ToString::to_string).collect();
    assert!(unbalanced.is_empty(), "{name}: {unbalanced:?}");
    ended.reason
}

/// Lines that go down without a word: nobody can be told a code, and the call still ends at once.
async fn cut_lines(host: &Host, mut ended: usize) -> usize {
    let sound = frame(FINAL | BINARY, &[0x7e; 160]);
    for how in ["half a frame", "half a head", "between frames", "a reset"] {
        let mut bare = Bare::open(host, "/raw").await;
        bare.send(&sound).await;
        // The echo is back: the call is under way.
        while bare.frame().await.expect("an echo").0 != BINARY {}
        match how {
            "half a frame" => bare.send(&sound[..90]).await,
            "half a head" => bare.send(&sound[..3]).await,
            "a reset" => bare.stream.set_zero_linger().expect("a socket of ours"),
            _ => {}
        }
        drop(bare);
        ended += 1;
        let reason = nth_end(host, ended, how).await;
        assert_eq!(reason.name(), "socket", "{how}: {reason}");
    }
    ended
}

/// What is odd but no offence ends nothing.
async fn odd_but_allowed(host: &Host, ended: usize) {
    let mut bare = Bare::open(host, "/twilio").await;
    bare.send(&frame(FINAL | BINARY, b"sound where JSON is spoken")).await;
    bare.send(&text(r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#)).await;
    bare.send(&text(r#"["event"]"#)).await;
    bare.send(&text(r#"{"event":"dark-matter"}"#)).await;
    // A ping in the middle of a message in pieces (RFC 6455, 5.4).
    bare.send(&frame(TEXT, br#"{"event":"#)).await;
    bare.send(&frame(FINAL | PING, b"still there?")).await;
    bare.send(&frame(FINAL, br#""dark-energy"}"#)).await;
    let (kind, payload) = bare.frame().await.expect("an answer to the ping");
    assert_eq!((kind, &*payload), (0x0a, &b"still there?"[..]));
    let notices = host.log.until("four notices", |entries| {
        let notices = entries.iter().filter_map(|entry| match &entry.what {
            What::Report(Report::Notice(notice), _) => Some(format!("{notice:?}")),
            _ => None,
        });
        let notices: Vec<_> = notices.collect();
        (notices.len() >= 4).then_some(notices)
    });
    let notices = notices.await.concat();
    for word in ["binary", "no name", "dark-matter", "dark-energy"] {
        assert!(notices.contains(word), "{word} is not in {notices}");
    }
    assert!(summaries(&host.log.entries()).nth(ended).is_none(), "the call goes on");
    bare.send(&frame(FINAL | CLOSE, &1000_u16.to_be_bytes())).await;
    let goodbye = bare.goodbye().await.expect("the close is answered");
    assert_eq!(goodbye.code, 1000);
    assert_eq!(nth_end(host, ended + 1, "a goodbye").await.name(), "remote");
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_the_upgrade() {
    let host = Host::on_loopback("");
    for (target, status, word) in [
        ("/raw?rate=1", 400, "rate=1"),
        ("/raw?rate=4294967297", 400, "rate="),
        ("/raw?encoding=mp3", 400, "encoding=mp3"),
        ("/raw?encoding=opus&channels=2", 400, "channels=2"),
        ("/raw?channels=200", 400, "channels=200"),
        ("/nothing-here", 404, "nothing here"),
    ] {
        let request = OutgoingUpgrade { target: target.into(), ..OutgoingUpgrade::default() };
        let stream = host.connect().await;
        match dial(stream, "localhost", &request, SocketOptions::default()).await {
            Err(DialError::Refused { status: found, body, .. }) => {
                assert_eq!(found, status, "{target}: {body}");
                assert!(body.contains(word), "{target}: {body}");
            }
            other => panic!("{target}: {other:?}"),
        }
    }
    assert!(host.log.entries().is_empty(), "no call began");
    host.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_starts_is_ended() {
    let (host, connector) = Host::in_memory("");
    for provider in ["twilio", "vonage", "asterisk"] {
        let began = host.clock.now();
        let request =
            OutgoingUpgrade { target: format!("/{provider}"), ..OutgoingUpgrade::default() };
        let io = connector.connect().await.unwrap();
        let mut socket = dial(io, "localhost", &request, SocketOptions::default()).await.unwrap();
        let closed = loop {
            match socket.recv().await {
                Some(Ok(ringback::socket::Incoming::Close(closed))) => break closed,
                Some(Ok(_)) => {}
                other => panic!("{provider}: {other:?}"),
            }
        };
        assert_eq!(closed.map(|c| c.code), Some(1008), "{provider}");
        let waited = host.clock.now() - began;
        assert!(waited >= Duration::from_secs(5) && waited < Duration::from_secs(6), "{waited:?}");
        socket.close(1000, "").await;
    }
    let ends = host.log.until("three ends", |entries| {
        let ends: Vec<_> = summaries(entries).map(|s| s.reason.clone()).collect();
        (ends.len() == 3).then_some(ends)
    });
    assert!(ends.await.iter().all(|end| *end == EndReason::NoStart));
    host.stop().await;
}

/// Whoever comes through a tunnel or a proxy on this machine, and a web page whose name was made to resolve to it.
#[tokio::test]
async fn where_nobody_is_asked_who_calls_strangers_are_not_let_in() {
    let open = "[[listener]]\nname = \"t\"\npath = \"/twilio\"\nprovider = \"twilio\"\n";
    for (toml, may) in [("", false), (open, false), (&format!("{open}insecure = true\n"), true)] {
        let host = Host::on_loopback(toml);
        for (name, field, is_near) in [
            ("localhost", None, true),
            ("abc.tunnel.example", None, false),
            ("localhost", Some(("X-Forwarded-For", "192.0.2.7")), false),
            ("evil.example:8080", Some(("Origin", "http://evil.example:8080")), false),
        ] {
            let headers = field.map(|(name, value)| (name.into(), value.into()));
            let headers = headers.into_iter().collect();
            let request =
                OutgoingUpgrade { target: "/twilio".into(), headers, ..OutgoingUpgrade::default() };
            let io = TcpStream::connect(host.address).await.unwrap();
            let dialled = dial(io, name, &request, SocketOptions::default()).await;
            match dialled {
                Ok(_) => assert!(is_near || may, "{name} {field:?}"),
                Err(DialError::Refused { status: 403, .. }) => assert!(!is_near && !may, "{name}"),
                Err(other) => panic!("{other}"),
            }
        }
        host.stop().await;
    }
}
