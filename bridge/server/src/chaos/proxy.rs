//! The bad line between sockets: takes connections and passes each on. Reads nothing of what passes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::pipe::line_until;
use super::{Done, End, Faults, Told};
use crate::clock::Clock;
use crate::net;
use crate::shutdown::Shutdown;

/// Connections at a time; one more waits until there is room.
const MOST: usize = 4_096;
/// Connections that are told of at the end.
const TOLD: usize = 10_000;
/// Whoever does not take a connection within this is not there.
const CONNECT: Duration = Duration::from_secs(5);
/// Octets that the system keeps for a line of limited rate.
const NARROW: u32 = 4 * 1024;
/// Octets of a segment on it, as on Ethernet: on one machine they are larger than that buffer, and would wait for it to be empty.
#[cfg(unix)]
const SEGMENT: u32 = 1_460;
/// Connections that the system keeps until they are taken.
const WAITING: u32 = 1_024;
/// The system may be out of descriptors: nothing is accepted for so long.
const BREATH: Duration = Duration::from_millis(50);

/// What was done to all connections.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Record {
    /// By connection, in the order in which they ended.
    pub connections: Vec<Told>,
    /// Connections that were too many to be told of.
    pub untold: u64,
}

impl Record {
    fn add(&mut self, told: Told) {
        if self.connections.len() < TOLD {
            self.connections.push(told);
        } else {
            self.untold += 1;
        }
    }
}

/// A bad line that others connect through.
#[derive(Debug)]
pub struct Proxy {
    listener: TcpListener,
    to: String,
    faults: Faults,
}

impl Proxy {
    /// One that listens on `listen`, 0 being any free port, and connects to `to`, host and port. On the runtime that will run it.
    ///
    /// # Errors
    /// If the address is in use, not of this machine or not allowed.
    pub async fn bind(listen: SocketAddr, to: String, faults: Faults) -> io::Result<Self> {
        let socket = if listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        if faults.rate.is_some() {
            // What the system keeps for the line would make it look quick for as long as it takes to fill.
            socket.set_recv_buffer_size(NARROW)?;
            #[cfg(unix)]
            socket2::SockRef::from(&socket).set_tcp_mss(SEGMENT)?;
        }
        socket.bind(listen)?;
        Ok(Self { listener: socket.listen(WAITING)?, to, faults })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Takes connections until it is told to drain, which ends those that are open.
    pub async fn run(self, clock: Clock, shutdown: Shutdown) -> Record {
        let (mut lines, mut record) = (JoinSet::new(), Record::default());
        let mut number = 0;
        loop {
            tokio::select! {
                biased;
                () = shutdown.drained() => break,
                Some(told) = lines.join_next() => record.add(told.unwrap_or_else(gone)),
                accepted = self.listener.accept(), if lines.len() < MOST => {
                    let Ok((stream, _)) = accepted else {
                        tokio::time::sleep(BREATH).await;
                        continue;
                    };
                    let (to, faults) = (self.to.clone(), self.faults.clone());
                    lines.spawn(serve(clock, shutdown.clone(), stream, to, faults, number));
                    number += 1;
                }
            }
        }
        while let Some(told) = lines.join_next().await {
            record.add(told.unwrap_or_else(gone));
        }
        record
    }
}

/// A connection whose task failed: a fault of this program, which must not hide the others.
fn gone(_: tokio::task::JoinError) -> Told {
    told_of(u64::MAX, End::Broken)
}

fn told_of(connection: u64, ended: End) -> Told {
    let (inward, outward) = (Done::default(), Done::default());
    Told { connection, ended, lasted_ms: 0, inward, outward }
}

async fn serve(
    clock: Clock,
    shutdown: Shutdown,
    mut caller: TcpStream,
    to: String,
    faults: Faults,
    number: u64,
) -> Told {
    // What is cut into pieces is to leave in pieces; where the system refuses, the line is a little better than told.
    let _ = caller.set_nodelay(true);
    let connecting = tokio::time::timeout(CONNECT, net::connect(&to)).await;
    let Ok(Ok(mut callee)) = connecting else {
        cut(&caller);
        return told_of(number, End::Refused);
    };
    let ends = (&mut caller, &mut callee);
    let told = line_until(clock, ends, &faults, number, shutdown.drained()).await;
    if told.ended != End::Closed {
        cut(&caller);
        cut(&callee);
    }
    told
}

/// Makes the end of a connection a reset. Where the system refuses, it is a close without a word.
fn cut(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A server that sends everything back, and a line to it.
    async fn echo(faults: Faults) -> (SocketAddr, Shutdown, tokio::task::JoinHandle<Record>) {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = server.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = server.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        let proxy = Proxy::bind("127.0.0.1:0".parse().unwrap(), to, faults).await.unwrap();
        let (address, shutdown) = (proxy.local_addr().unwrap(), Shutdown::new());
        let running = tokio::spawn(proxy.run(Clock::start(), shutdown.clone()));
        (address, shutdown, running)
    }

    #[tokio::test]
    async fn what_is_sent_through_a_good_line_comes_back_and_is_told_of() {
        let (address, shutdown, running) = echo(Faults::default()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut octets = Vec::new();
        stream.read_to_end(&mut octets).await.unwrap();
        assert_eq!(octets, b"hello");
        shutdown.drain();
        let record = running.await.unwrap();
        let [told] = &record.connections[..] else { panic!("{record:?}") };
        assert_eq!((told.inward.octets, told.outward.octets), (5, 5));
        assert!(matches!(told.ended, End::Closed | End::Stopped), "{told:?}");
    }

    #[tokio::test]
    async fn a_reset_is_a_reset_at_both_ends() {
        let reset = Some(Duration::from_millis(20));
        let (address, shutdown, running) = echo(Faults { reset, ..Faults::default() }).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        shutdown.drain();
        assert_eq!(running.await.unwrap().connections[0].ended, End::Reset);
    }

    #[tokio::test]
    async fn nobody_at_the_other_end_is_a_reset_and_told_as_refused() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = free.local_addr().unwrap().to_string();
        drop(free);
        let proxy = Proxy::bind("127.0.0.1:0".parse().unwrap(), to, Faults::default());
        let proxy = proxy.await.unwrap();
        let (address, shutdown) = (proxy.local_addr().unwrap(), Shutdown::new());
        let running = tokio::spawn(proxy.run(Clock::start(), shutdown.clone()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(stream.read_u8().await.is_err());
        shutdown.drain();
        assert_eq!(running.await.unwrap().connections[0].ended, End::Refused);
    }
}
