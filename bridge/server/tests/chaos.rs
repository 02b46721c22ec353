//! Calls over bad lines: in simulated time, where the same seed is the same line to the millisecond, and through `ringback chaos` as
//! its users run it. What a line does by itself is tested beside its code.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::num::NonZeroUsize;
use std::process::Stdio;
use std::time::Duration;

use ringback::chaos::{Faults, Stall, Told, Way, line};
use ringback::client::{CallEvent, Client, WsUrl};
use ringback::clock::Clock;
use ringback_codecs::{Encoding, MediaFormat, SampleRate};
use ringback_proto::provider::{Dial, Track, find};
use support::{Host, PATIENCE, assert_whole, known, ringback, send_signal};

const FRAMES: u64 = 200;

/// What a call over such a line was like: what was heard of what was said, and what was done to the line.
async fn call(faults: Faults) -> (Vec<i16>, Told) {
    let (host, connector) = Host::in_memory("");
    let (near, mut middle) = tokio::io::duplex(16 * 1024);
    let mut far = connector.connect().await.expect("the bridge listens");
    let clock = Clock::start();
    let bad = tokio::spawn(async move { line(clock, (&mut middle, &mut far), &faults, 0).await });
    let provider = find("raw").expect("there is one");
    let format =
        MediaFormat::mono(Encoding::L16(ringback_codecs::Endian::Little), SampleRate::HZ_16000);
    let dial = Dial { format: Some(format), ..Dial::default() };
    let url = WsUrl::plain("localhost:80".into(), "/raw".into());
    let mut client = Client::over(clock, near, &url, provider, dial, true).await.expect("a call");
    client.speak(&(0..FRAMES * 320).map(known).collect::<Vec<_>>());
    let mut leaves = None;
    loop {
        let wake = leaves.unwrap_or(clock.now() + support::FRAME);
        tokio::select! {
            event = client.next() => match event.expect("the call goes on") {
                Some(CallEvent::Closed { code, reason }) => panic!("closed: {code} {reason}"),
                Some(_) => {}
                None => panic!("over before its time"),
            },
            () = clock.sleep_until(Some(wake)) => {}
        }
        let is_said =
            client.phone().start().is_some() && client.phone().unspoken(Track::Inbound) == 0;
        if is_said && leaves.is_none() {
            leaves = Some(clock.now() + Duration::from_secs(2));
        }
        if leaves.is_some_and(|at| at <= clock.now()) {
            break;
        }
    }
    let heard = client.phone().heard().to_vec();
    client.hang_up().await.expect("a goodbye");
    drop(client);
    let told = bad.await.expect("no panic");
    let summary = host.log.ended_alone().await;
    // A line that is late brings heaps, whose echo is late for ever unless some of it goes.
    assert_whole(&summary, &[("playout", "trimmed"), ("playout", "call_ended")]);
    assert_eq!(summary.ledger.hop("wire.in").map(|hop| hop.left), Some(summary.frames_in));
    host.stop().await;
    (heard, told)
}

#[tokio::test(start_paused = true)]
async fn in_pieces_of_one_octet_nothing_is_lost() {
    let faults = Faults { slice: NonZeroUsize::new(1), ..Faults::default() };
    let (heard, told) = call(faults).await;
    let said: Vec<_> = (0..FRAMES * 320).map(known).collect();
    let begins = heard.iter().position(|&sample| sample != 0).expect("an echo");
    assert!(heard[begins..].starts_with(&said), "it heard something else");
    assert_eq!(
        (told.inward.pieces, told.outward.pieces),
        (told.inward.octets, told.outward.octets)
    );
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_sounds_the_same_over_a_line_that_is_late_and_stalls() {
    let ms = Duration::from_millis;
    let stall = Some(Stall::again(ms(700), ms(1_500)));
    let faults = |seed| Faults {
        latency: ms(20),
        jitter: ms(200),
        stall,
        seed,
        way: Way::In,
        ..Faults::default()
    };
    let (first, again, other) =
        (call(faults(7)).await, call(faults(7)).await, call(faults(8)).await);
    assert!(first == again, "the same seed was another line");
    assert!(first.0 != other.0, "another seed was the same line");
    assert!(first.1.inward.stalls >= 2 && first.1.inward.longest_ms >= 700, "{:?}", first.1);
}

#[test]
fn the_command_passes_connections_on_and_tells_what_it_did() {
    let bridge = support::Process::serve(&["--no-config"], &[]);
    let args = ["chaos", "--to", &bridge.address, "--latency", "30ms", "--seed", "7"];
    let mut command = ringback(args);
    let mut chaos = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(chaos.stdout.take().expect("piped"));
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line");
    let address = line.trim().strip_prefix("listening on tcp://").expect("where it listens");
    let mut stream = std::net::TcpStream::connect(address).expect("it takes connections");
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: bridge\r\nConnection: close\r\n\r\n")
        .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(stream);
    send_signal("TERM", chaos.id());
    let mut told = String::new();
    lines.read_to_string(&mut told).expect("what it did");
    assert!(chaos.wait().expect("its end").success());
    assert!(told.starts_with("connection 0: "), "{told}");
    assert!(told.contains("  in:  58 octets in 1 pieces"), "{told}");
}
