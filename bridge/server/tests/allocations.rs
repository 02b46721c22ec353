//! Frames of sound on their way through the bridge, counted by the memory they take: none. Asserts nothing about what they say.

mod support;

use std::time::Duration;

use ringback::net::{Listener as _, MemoryListener, memory};
use ringback::socket::wire::{Kind, Role, Writer};
use ringback::socket::{Incoming, Outgoing, Socket, SocketOptions, answer};
use ringback_proto::provider::{
    Command, Dial, FrameLaw, Outbox, PROVIDERS, PlayoutPolicy, Provider, Transport,
};
use support::Host;
use support::turn::{Kept, Turn, ends, frames, kept, opening};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, timeout_at};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const FRAME: Duration = Duration::from_millis(20);
/// By then a call has all the memory it needs.
const WARM_UP: usize = 100;
const COUNTED: usize = 500;

// One test, because the counter counts for the whole process.
#[tokio::test(start_paused = true)]
async fn frames_of_sound_allocate_nothing() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let sound = || PROVIDERS.iter().filter(|provider| provider.has_sound());
    for provider in sound() {
        let mut call = Turn::new(provider.name(), WARM_UP + COUNTED);
        let turns = |call: &mut Turn, count| (0..count).map(|_| call.turn()).sum::<usize>();
        turns(&mut call, WARM_UP);
        let before = blocks();
        let octets = turns(&mut call, COUNTED);
        let taken = blocks() - before;
        assert!(octets >= least(*provider), "{}: {octets} octets came back", provider.name());
        assert_eq!(taken, 0, "{}: allocated within its session", provider.name());
    }
    for provider in sound() {
        let Cost { octets, taken, .. } = call(*provider).await;
        assert!(octets >= least(*provider), "{}: {octets} octets came back", provider.name());
        assert_eq!(taken, 0, "{}: allocated between its sockets", provider.name());
    }
    // Once more, as the first call made what its thread keeps for all.
    let twilio = ringback_proto::provider::find("twilio").expect("is there");
    let Cost { held, .. } = call(twilio).await;
    assert!(held < MOST_HELD, "a call holds {held} octets");
}

/// What a call of mu-law at 8 kHz may hold, with what the connection in memory holds in the place of the system. A future
/// that keeps room for what it rarely does shows here first: a call lives in one.
const MOST_HELD: usize = 28 * 1024;

/// What a call brought and took.
struct Cost {
    /// Octets that came back.
    octets: usize,
    /// Blocks allocated while frames were counted.
    taken: u64,
    /// Octets of heap that it holds in the middle.
    held: usize,
}

/// Octets that must come back at least.
fn least(provider: &dyn Provider) -> usize {
    let can = provider.capabilities();
    match (can.playout, can.frame) {
        (PlayoutPolicy::None, _) => 0,
        // What is gathered for longer messages may not have come.
        (_, FrameLaw::UpTo(_)) => (COUNTED - 25) * 160,
        _ => COUNTED * 160,
    }
}

/// Allocations of this process so far.
fn blocks() -> u64 {
    dhat::HeapStats::get().total_blocks
}

/// A call to a bridge in memory, in virtual time.
async fn call(provider: &dyn Provider) -> Cost {
    let name = provider.name();
    let (host, connector) = Host::in_memory(&format!(
        "[[listener]]\nname = \"{name}\"\npath = \"/{name}\"\nprovider = \"{name}\"\ninsecure = true\n\
         [[module]]\nname = \"echo\"\nbuiltin = \"echo\"\nconfig = {{ rate = 16000 }}\n\
         [[route]]\nname = \"default\"\nmodules = [\"echo\"]\nspeaker = \"echo\"\n"
    ));
    let mut io = connector.connect().await.expect("the bridge listens");
    let (_, mut phone) = ends(provider);
    let opening = opening(provider, phone.as_mut());
    // All octets of the caller's are there before anything is counted.
    let frames = frames(provider, phone.as_mut(), WARM_UP + COUNTED);
    let role = match provider.transport() {
        Transport::WebSocket => Role::Client,
        Transport::Records => Role::Records,
        Transport::Webhook { .. } => return dialled(provider, host, io).await,
    };
    let frames: Vec<Vec<u8>> = frames.iter().map(|frame| framed(role, frame)).collect();
    let bare = dhat::HeapStats::get().curr_bytes;
    if role == Role::Client {
        upgrade(provider, &mut io).await;
    }
    for message in &opening {
        io.write_all(&framed(role, message)).await.expect("the bridge reads");
    }
    let (warm_up, counted) = frames.split_at(WARM_UP);
    speak(&mut io, warm_up).await;
    let held = dhat::HeapStats::get().curr_bytes - bare;
    let before = blocks();
    let octets = speak(&mut io, counted).await;
    let taken = blocks() - before;
    drop(io);
    host.stop().await;
    Cost { octets, taken, held }
}

/// The same of a provider that posts, over `io`, and is dialled.
async fn dialled(provider: &dyn Provider, host: Host, mut io: DuplexStream) -> Cost {
    let (_, mut phone) = ends(provider);
    let opening = opening(provider, phone.as_mut());
    let frames = frames(provider, phone.as_mut(), WARM_UP + COUNTED);
    let hosts = host.connector.hosts().expect("in memory");
    let (mut listener, connector) = memory(64 * 1024);
    // Where the provider's end says that both its servers are.
    hosts.add("rtms.zoom.us:443", connector);
    let mut lines: [Option<Socket>; 2] = [None, None];
    let bare = dhat::HeapStats::get().curr_bytes;
    for message in &opening {
        match message {
            Kept::Text(body) => post(provider, &mut io, body).await,
            Kept::Dialled(line) => {
                let (parcel, _) = listener.accept().await.expect("it dials");
                let io = MemoryListener::open(parcel).await.expect("opens");
                let options = SocketOptions { keepalive: None, ..SocketOptions::default() };
                lines[line.index()] = Some(answer(io, options).await.expect("a WebSocket"));
            }
            Kept::On(line, text) => {
                let socket = lines[line.index()].as_mut().expect("was dialled");
                // What the bridge says comes first.
                assert!(matches!(socket.recv().await, Some(Ok(Incoming::Message(_)))));
                socket.send(Outgoing::Text(text)).await.expect("the bridge reads");
            }
            Kept::Binary(_) => panic!("what is posted is text"),
        }
    }
    let (warm_up, counted) = frames.split_at(WARM_UP);
    say(&mut lines, warm_up).await;
    let held = dhat::HeapStats::get().curr_bytes - bare;
    let before = blocks();
    say(&mut lines, counted).await;
    let taken = blocks() - before;
    let mut goodbye = Outbox::new();
    let hung_up =
        phone.handle_command(ringback_proto::Instant::ZERO, Command::Hangup, &mut goodbye);
    hung_up.expect("may hang up");
    say(&mut lines, &kept(&goodbye).filter(|m| matches!(m, Kept::On(..))).collect::<Vec<_>>())
        .await;
    host.stop().await;
    Cost { octets: 0, taken, held }
}

async fn post(provider: &dyn Provider, io: &mut DuplexStream, body: &str) {
    let (name, length) = (provider.name(), body.len());
    let head =
        format!("POST /{name} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
    io.write_all(format!("{head}{body}").as_bytes()).await.expect("the bridge reads");
    let mut answer = Vec::new();
    io.read_to_end(&mut answer).await.expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

/// Sends a frame every 20 ms over its line.
async fn say(lines: &mut [Option<Socket>; 2], frames: &[Kept]) {
    let mut due = Instant::now();
    for frame in frames {
        let Kept::On(line, text) = frame else { panic!("sound comes over a line") };
        let socket = lines[line.index()].as_mut().expect("was dialled");
        socket.send(Outgoing::Text(text)).await.expect("the bridge reads");
        due += FRAME;
        tokio::time::sleep_until(due).await;
    }
}

/// Asks for the stream and reads the answer.
async fn upgrade(provider: &dyn Provider, io: &mut DuplexStream) {
    let target = format!("/{}", provider.name());
    let (request, _) = provider.dial(&Dial { target, ..Dial::default() });
    let mut head = format!(
        "GET {} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        request.target
    );
    let subprotocols = request.subprotocols.iter().map(|p| ("sec-websocket-protocol", p.as_str()));
    let headers = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in headers.chain(subprotocols) {
        head += &format!("{name}: {value}\r\n");
    }
    io.write_all(format!("{head}\r\n").as_bytes()).await.expect("the bridge reads");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(io.read_u8().await.expect("an answer"));
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
}

/// A message as it goes over the wire.
fn framed(role: Role, message: &Kept) -> Vec<u8> {
    let mut writer = Writer::new(role);
    match message {
        Kept::Text(text) => writer.push(Kind::Text, text.as_bytes()),
        Kept::Binary(octets) => writer.push(Kind::Binary, octets),
        other => panic!("not over one socket: {other:?}"),
    }
    writer.pending().to_vec()
}

/// Sends a frame every 20 ms; gives the octets that came back.
async fn speak(io: &mut DuplexStream, frames: &[Vec<u8>]) -> usize {
    let mut heard = 0;
    let mut piece = [0; 4_096];
    let mut due = Instant::now();
    for frame in frames {
        io.write_all(frame).await.expect("the bridge reads");
        due += FRAME;
        while let Ok(read) = timeout_at(due, io.read(&mut piece)).await {
            heard += read.expect("the bridge speaks");
        }
    }
    heard
}
