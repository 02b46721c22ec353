//! Frames of sound on their way through the bridge, counted by the memory they take: none. Asserts nothing about what they say.

mod support;

use std::time::Duration;

use ringback::socket::wire::{Kind, Role, Writer};
use ringback_proto::provider::{Dial, FrameLaw, PROVIDERS, PlayoutPolicy, Provider, Transport};
use support::Host;
use support::turn::{Kept, Turn, ends, frames, opening};
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
        let (octets, taken) = call(*provider).await;
        assert!(octets >= least(*provider), "{}: {octets} octets came back", provider.name());
        assert_eq!(taken, 0, "{}: allocated between its sockets", provider.name());
    }
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

/// A call to a bridge in memory, in virtual time; gives the octets that came back and how many blocks were allocated meanwhile.
async fn call(provider: &dyn Provider) -> (usize, u64) {
    let name = provider.name();
    let (host, connector) = Host::in_memory(&format!(
        "[[listener]]\nname = \"{name}\"\npath = \"/{name}\"\nprovider = \"{name}\"\n\
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
    };
    let frames: Vec<Vec<u8>> = frames.iter().map(|frame| framed(role, frame)).collect();
    if role == Role::Client {
        upgrade(provider, &mut io).await;
    }
    for message in &opening {
        io.write_all(&framed(role, message)).await.expect("the bridge reads");
    }
    let (warm_up, counted) = frames.split_at(WARM_UP);
    speak(&mut io, warm_up).await;
    let before = blocks();
    let octets = speak(&mut io, counted).await;
    let taken = blocks() - before;
    drop(io);
    host.stop().await;
    (octets, taken)
}

/// Asks for the stream and reads the answer.
async fn upgrade(provider: &dyn Provider, io: &mut DuplexStream) {
    let target = format!("/{}", provider.name());
    let (request, _) = provider.dial(&Dial { target, ..Dial::default() });
    let mut head = format!(
        "GET {} HTTP/1.1\r\nhost: bridge.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
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
