//! The seam to the network: where connections come from. TCP in production, memory in tests and simulation; speaks no protocol.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

/// An ordered, reliable stream of octets in both directions.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// Where connections come from.
pub trait Listener: Send + 'static {
    /// One connection.
    type Io: Io;
    /// A connection on its way to the thread that will serve it.
    type Parcel: Send + 'static;

    /// Waits for the next connection and its peer's address. Cancel safe.
    ///
    /// # Errors
    /// As the system reports them; the caller decides whether to go on.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Parcel, SocketAddr)>> + Send;

    /// Makes a connection out of what was accepted, on the runtime that will serve it. Takes no longer than some seconds.
    ///
    /// # Errors
    /// If the system does not let that runtime wait for it, or no keys are agreed on.
    fn open(parcel: Self::Parcel) -> impl Future<Output = io::Result<Self::Io>> + Send;

    /// Whether a peer can be told no as soon as it is there. One that cannot is better left without a word.
    #[must_use]
    fn hears_at_once() -> bool {
        true
    }

    /// The address that peers connect to.
    ///
    /// # Errors
    /// If the system does not tell.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// Octets the kernel may hold for a peer that does not read. The system's default is megabytes: more than a minute of sound
/// that can neither be cleared nor counted. This is about a second of it, which Linux doubles for its own book-keeping.
const SEND_BUFFER: u32 = 16 * 1024;

/// Octets that the kernel may hold of which nothing is on its way yet: a quarter of a second of a call, behind what the peer has
/// room for. What waits in front of it can be taken back.
const NOT_SENT: u32 = 4 * 1024;
/// A peer that takes in nothing of what was sent for so long is gone, whatever the network says.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// A connection on which nothing comes is probed by the kernel from then on, and as often as [`PROBE_EVERY`]: behind pings, which
/// some peers do not take.
const PROBE_AFTER: Duration = Duration::from_secs(20);
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// Sets a socket up for frames that are small, late ones worthless, and a peer that may vanish without a word. What a system does
/// not know it goes without.
fn tune(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(PROBE_AFTER);
    #[cfg(any(unix, windows))]
    let keepalive = keepalive.with_interval(PROBE_EVERY);
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(target_os = "linux")]
    {
        let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        let _ = socket.set_tcp_notsent_lowat(NOT_SENT);
    }
    Ok(())
}

/// Opens a connection to `authority`, host and port, at the first of its addresses that answers; set up as those that are accepted.
///
/// # Errors
/// If the name is not known, or none of its addresses answers: what the last one did.
pub async fn connect(authority: &str) -> io::Result<TcpStream> {
    connect_where(tokio::net::lookup_host(authority).await?.collect(), |_| Ok(())).await
}

/// The same to one of these addresses that `allowed` lets through.
///
/// # Errors
/// If no address is allowed and answers: what was wrong with the last one.
pub async fn connect_where(
    addresses: Vec<SocketAddr>,
    allowed: impl Fn(IpAddr) -> io::Result<()>,
) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match open(address, &allowed).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn open(
    address: SocketAddr,
    allowed: impl Fn(IpAddr) -> io::Result<()>,
) -> io::Result<TcpStream> {
    allowed(address.ip())?;
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_send_buffer_size(SEND_BUFFER)?;
    tune(&SockRef::from(&socket))?;
    socket.connect(address).await
}

/// Connections the kernel holds before they are accepted.
const BACKLOG: u32 = 1024;

/// Connections over TCP, each set up for frames of sound: sent at once, little of them held by the kernel, and a peer that vanishes
/// found out.
#[derive(Debug)]
pub struct TcpListener {
    inner: tokio::net::TcpListener,
}

impl TcpListener {
    /// Listens on `address`; port 0 takes a free port. The address can be taken again right after a restart (`SO_REUSEADDR`).
    ///
    /// # Errors
    /// If the address is in use, not of this machine or not allowed.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if cfg!(unix) {
            // On Windows the same option would let a second process steal the port.
            socket.set_reuseaddr(true)?;
        }
        socket.set_send_buffer_size(SEND_BUFFER)?;
        socket.bind(address)?;
        Ok(Self { inner: socket.listen(BACKLOG)? })
    }
}

impl Listener for TcpListener {
    type Io = TcpStream;
    type Parcel = std::net::TcpStream;

    async fn accept(&mut self) -> io::Result<(Self::Parcel, SocketAddr)> {
        let (stream, peer) = self.inner.accept().await?;
        tune(&SockRef::from(&stream))?;
        // Sockets belong to the runtime that waits for them; this lets go of it.
        Ok((stream.into_std()?, peer))
    }

    async fn open(parcel: Self::Parcel) -> io::Result<TcpStream> {
        TcpStream::from_std(parcel)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// Whether an error of [`Listener::accept`] is about one connection that went away, so that the next can be taken at once.
/// All others (out of descriptors, out of memory) will come again at once and call for a pause.
#[must_use]
pub fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, InvalidInput,
        NotConnected,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | Interrupted
            | InvalidInput
            | NotConnected
    )
}

/// A listener in memory and what connects to it. `buffer` octets fit into each direction of a connection before writing waits.
#[must_use]
pub fn memory(buffer: usize) -> (MemoryListener, MemoryConnector) {
    let (sender, receiver) = mpsc::channel(64);
    (MemoryListener { receiver }, MemoryConnector { sender, buffer })
}

/// Connections within this process, for tests and simulation.
#[derive(Debug)]
pub struct MemoryListener {
    receiver: mpsc::Receiver<DuplexStream>,
}

impl Listener for MemoryListener {
    type Io = DuplexStream;
    type Parcel = DuplexStream;

    /// Waits for ever once every [`MemoryConnector`] is gone.
    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.receiver.recv().await {
            Some(stream) => Ok((stream, MEMORY_ADDRESS)),
            None => std::future::pending().await,
        }
    }

    async fn open(parcel: DuplexStream) -> io::Result<DuplexStream> {
        Ok(parcel)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(MEMORY_ADDRESS)
    }
}

/// What both ends of a connection in memory are called.
const MEMORY_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Opens connections to a [`MemoryListener`].
#[derive(Debug, Clone)]
pub struct MemoryConnector {
    sender: mpsc::Sender<DuplexStream>,
    buffer: usize,
}

impl MemoryConnector {
    /// A connection; waits while too many are not accepted yet.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionRefused`] if the listener is gone.
    pub async fn connect(&self) -> io::Result<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(self.buffer);
        self.sender
            .send(theirs)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(ours)
    }
}

/// Names within this process that can be dialled, for tests and simulation of those who dial.
#[derive(Debug, Clone, Default)]
pub struct MemoryHosts(Arc<Mutex<HashMap<String, MemoryConnector>>>);

impl MemoryHosts {
    /// The name of whoever answers for names that nobody has.
    pub const ANY: &str = "*";

    /// Makes a listener known by `authority`, host and port.
    pub fn add(&self, authority: &str, connector: MemoryConnector) {
        self.names().insert(authority.to_owned(), connector);
    }

    /// Connects to the listener of that name.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionRefused`] if there is none.
    pub async fn connect(&self, authority: &str) -> io::Result<DuplexStream> {
        let connector = {
            let names = self.names();
            names.get(authority).or_else(|| names.get(Self::ANY)).cloned()
        };
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        connector.ok_or_else(refused)?.connect().await
    }

    fn names(&self) -> MutexGuard<'_, HashMap<String, MemoryConnector>> {
        // Entries are whole, whatever became of who made them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn echo_once<L: Listener>(listener: &mut L, mut client: impl Io) {
        let (server, _) = listener.accept().await.unwrap();
        let mut server = L::open(server).await.unwrap();
        client.write_all(b"frame").await.unwrap();
        let mut octets = [0; 5];
        server.read_exact(&mut octets).await.unwrap();
        server.write_all(&octets).await.unwrap();
        client.read_exact(&mut octets).await.unwrap();
        assert_eq!(&octets, b"frame");
    }

    #[tokio::test]
    async fn tcp_and_memory_carry_octets_alike() {
        let mut tcp = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = TcpStream::connect(tcp.local_addr().unwrap()).await.unwrap();
        echo_once(&mut tcp, client).await;

        let (mut listener, connector) = memory(64);
        let client = connector.connect().await.unwrap();
        echo_once(&mut listener, client).await;
        drop(listener);
        let refused = connector.connect().await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn sockets_are_set_up_for_sound_whoever_opened_them() {
        let mut listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let dialled = connect(&listener.local_addr().unwrap().to_string()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        for socket in [SockRef::from(&accepted), SockRef::from(&dialled)] {
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert!(socket.send_buffer_size().unwrap() <= 2 * SEND_BUFFER as usize);
            #[cfg(target_os = "linux")]
            {
                assert_eq!(socket.tcp_keepalive_time().unwrap(), PROBE_AFTER);
                assert_eq!(socket.tcp_keepalive_interval().unwrap(), PROBE_EVERY);
                assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
                assert_eq!(socket.tcp_notsent_lowat().unwrap(), NOT_SENT);
            }
        }
    }

    /// Frames of 20 ms of Twilio's that a connection takes whose peer has stopped to read, with room for `window` octets.
    #[cfg(target_os = "linux")]
    async fn frames_until_blocked(window: usize, undo: impl Fn(&SockRef<'_>)) -> usize {
        const FRAME: usize = 320;
        let mut listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let peer = TcpSocket::new_v4().unwrap();
        peer.set_recv_buffer_size(window as u32).unwrap();
        let _peer = peer.connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        undo(&SockRef::from(&accepted));
        let mut stream = TcpListener::open(accepted).await.unwrap();
        let mut octets = 0;
        // What is on its way when the system says no makes room once more.
        while let Ok(written) =
            tokio::time::timeout(Duration::from_millis(300), stream.write(&[0; FRAME])).await
        {
            octets += written.unwrap();
        }
        octets / FRAME
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_peer_that_stops_reading_leaves_half_a_second_of_sound_with_the_system() {
        let usual = |socket: &SockRef<'_>| {
            socket.set_tcp_notsent_lowat(u32::MAX).unwrap();
            socket.set_send_buffer_size(4 << 20).unwrap();
        };
        let buffer_only = |socket: &SockRef<'_>| socket.set_tcp_notsent_lowat(u32::MAX).unwrap();
        let window = 2 * 1024;
        let (ours, without, nothing) = tokio::join!(
            frames_until_blocked(window, |_| ()),
            frames_until_blocked(window, buffer_only),
            frames_until_blocked(window, usual)
        );
        eprintln!(
            "frames until a write blocks: {ours}, without NOTSENT_LOWAT {without}, with a large buffer {nothing}"
        );
        assert!(ours <= 40, "{ours} frames");
        assert!(ours < without && without < nothing, "{ours} {without} {nothing}");
    }

    #[test]
    fn running_out_of_descriptors_is_not_about_one_connection() {
        const EMFILE: i32 = 24;
        assert!(!is_about_one_connection(&io::Error::from_raw_os_error(EMFILE)));
        assert!(is_about_one_connection(&io::ErrorKind::ConnectionAborted.into()));
    }

    #[tokio::test]
    async fn a_taken_address_is_an_error() {
        let first = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let second = TcpListener::bind(first.local_addr().unwrap());
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
