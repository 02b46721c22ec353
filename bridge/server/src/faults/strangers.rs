//! Connections of whoever finds the port, that become no call: their time is bounded, and calls do not notice. The lines are good.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::bridge::{ECHO, PATIENCE};
use super::caller::End;
use super::process::cannot;
use super::row::Row;
use super::scene::Scene;
use super::{Fault, Ground, Run};
use crate::clock::Clock;

pub(super) static ROWS: &[Fault] = &[Fault {
    id: "F46",
    name: "slow-headers",
    what: "1,000 connections say nothing, and 500 say a request octet by octet",
    how: "from three more addresses of this machine, while calls come and go",
    run: Run::Here(slow_headers),
}];

/// Connections that say nothing.
const SILENT: usize = 1_000;
/// Connections that say a little of a request all the time.
const SLOW: usize = 500;
/// Of one address: no more are let in that are no calls yet.
const OF_ONE_ADDRESS: usize = 500;
/// Between two octets of a slow one.
const OCTET: Duration = Duration::from_millis(200);
/// What a bridge gives whoever connects for a whole request (`header_timeout`), and what looking at 1,500 of them may take.
const CLOSED_WITHIN: Duration = Duration::from_millis(5_000 + 1_500);
/// How long calls are under way meanwhile.
const LASTS: Duration = Duration::from_secs(6);

fn slow_headers(ground: &Ground) -> Result<Row, String> {
    crate::overload::raise_descriptors();
    let scene = Scene::start(ground, ECHO, LASTS + Duration::from_secs(3))?;
    let to: SocketAddr = scene.bridge.authority.parse().map_err(|_| "the bridge has no address")?;
    let sockets = (0..SILENT + SLOW).map(|at| {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::new(127, 0, 0, 2 + (at / OF_ONE_ADDRESS) as u8), 0).into())?;
        Ok(socket)
    });
    let sockets: Vec<_> = match sockets.collect::<std::io::Result<_>>() {
        Ok(sockets) => sockets,
        Err(error) => {
            return Ok(cannot(format!("it takes 1,500 sockets of 127.0.0.2 and on: {error}")));
        }
    };
    let strangers: JoinSet<_> = {
        let _entered = ground.runtime.enter();
        let sockets = sockets.into_iter().enumerate();
        sockets.map(|(at, socket)| stranger(ground.clock, socket, to, at >= SILENT)).collect()
    };
    let counted = scene.place(scene.calls(LASTS));
    let became = ground.wait(strangers.join_all());
    let (mut row, _) = scene.row(&counted)?;
    let missing = row.missing();
    row.should(missing == 0, || format!("{missing} frames are missing"));
    for call in &counted {
        row.must(call.end == End::Left, || format!("{} ended with {:?}", call.name, call.end));
    }
    let closed: Vec<_> = became.iter().filter_map(|became| became.as_ref().ok().copied()).collect();
    let others = became.iter().filter_map(|became| became.as_ref().err()).next();
    row.must(others.is_none(), || {
        let count = became.len() - closed.len();
        format!("{count} connections, and one of them {}", others.map_or("", String::as_str))
    });
    let (first, last) = (closed.iter().min().copied(), closed.iter().max().copied());
    let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
    row.notes
        .push(format!("{} connections were closed after {first:.1?} to {last:.1?}", closed.len()));
    // Who is refused at once holds up nobody.
    row.felt(first >= Duration::from_secs(4), || format!("one was closed after {first:?}"));
    row.should(last <= CLOSED_WITHIN, || format!("one was closed after {last:?}"));
    scene.finish(row)
}

/// Connects, and says nothing or next to nothing: how long until it was closed, or what became of it instead.
async fn stranger(
    clock: Clock,
    socket: TcpSocket,
    to: SocketAddr,
    speaks: bool,
) -> Result<Duration, String> {
    let connected = socket.connect(to).await;
    let mut stream = connected.map_err(|error| format!("could not connect: {error}"))?;
    let began = clock.now();
    let closed = tokio::time::timeout(PATIENCE, until_closed(&mut stream, speaks)).await;
    closed.map_err(|_| format!("was still open after {PATIENCE:?}"))?;
    Ok(clock.now() - began)
}

async fn until_closed(stream: &mut TcpStream, speaks: bool) {
    let (mut reads, mut writes) = stream.split();
    let told = async {
        let request = b"GET /twilio HTTP/1.1\r\nHost: ".iter().chain(std::iter::repeat(&b'a'));
        for octet in request {
            if !speaks || writes.write_all(&[*octet]).await.is_err() {
                break;
            }
            tokio::time::sleep(OCTET).await;
        }
        std::future::pending::<()>().await;
    };
    let closed = async {
        // What is answered before it closes, and an end that is no clean one, are an end.
        while reads.read(&mut [0; 512]).await.is_ok_and(|octets| octets > 0) {}
    };
    tokio::select! {
        () = told => {}
        () = closed => {}
    }
}
