//! What strangers do to keep others off a bridge: connections that say nothing or little, streams that never start, floods, lies about
//! sizes. For tests and the fault matrix; decides nothing about what should come of it, and harms whom it is aimed at.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::overload::raise_descriptors;
use crate::socket::Asking;
use ringback_proto::provider::OutgoingUpgrade;

/// Nobody is waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(60);
/// A slow one says so much in a second.
const DRIP: Duration = Duration::from_secs(1);

/// How a connection is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It says nothing.
    Silent,
    /// It says the head of a request, an octet a second, without end.
    SlowHead,
    /// It is upgraded, and says nothing then.
    SilentStream,
    /// It is upgraded, and says one message, an octet a second, without end.
    SlowMessage,
}

impl Hold {
    /// All there are.
    pub const ALL: [Self; 4] =
        [Self::Silent, Self::SlowHead, Self::SilentStream, Self::SlowMessage];

    /// In a few words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent connections",
            Self::SlowHead => "slow heads",
            Self::SilentStream => "streams that never start",
            Self::SlowMessage => "slow messages",
        }
    }

    /// A bridge with the usual limits closes it so long after it began, and a moment for its last words. A message that is slow on a
    /// stream that never starts ends with that.
    #[must_use]
    pub const fn deadline(self) -> Duration {
        Duration::from_secs(5)
    }
}

/// What became of connections that were held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Connections that were opened, and upgraded where they had to be.
    pub opened: usize,
    /// Those of them that were closed by the other end.
    pub closed: usize,
    /// The first was closed after this.
    pub first: Duration,
    /// And the last.
    pub last: Duration,
}

/// Opens `count` connections at a time and holds them until they are closed; `target` is where they ask for streams.
pub async fn hold(address: SocketAddr, target: &str, count: usize, how: Hold) -> Held {
    raise_descriptors();
    let mut held = JoinSet::new();
    for _ in 0..count {
        let target = target.to_owned();
        held.spawn(async move { held_one(address, &target, how).await });
    }
    let mut sum = Held { opened: 0, closed: 0, first: Duration::MAX, last: Duration::ZERO };
    while let Some(ended) = held.join_next().await {
        let Ok(Ok(after)) = ended else { continue };
        sum.opened += 1;
        if let Some(after) = after {
            sum.closed += 1;
            sum.first = sum.first.min(after);
            sum.last = sum.last.max(after);
        }
    }
    sum
}

/// When it was closed by the other end, if it was.
async fn held_one(address: SocketAddr, target: &str, how: Hold) -> io::Result<Option<Duration>> {
    let mut stream = TcpStream::connect(address).await?;
    let says: Vec<u8> = match how {
        Hold::Silent => Vec::new(),
        Hold::SlowHead => b"GET / HTTP/1.1\r\nx: ".iter().copied().chain([b'x'; 100]).collect(),
        Hold::SilentStream | Hold::SlowMessage => {
            upgrade(&mut stream, target).await?;
            let message = frame(FINAL | BINARY, &[0; 100]);
            if how == Hold::SlowMessage { message } else { Vec::new() }
        }
    };
    let clock = Clock::start();
    let (mut reads, mut writes) = stream.split();
    let closed = async {
        let mut heard = [0; 512];
        while matches!(reads.read(&mut heard).await, Ok(1..)) {}
        clock.now().since_epoch()
    };
    let dripping = async {
        for octet in says {
            // Closed by now, which is what is waited for.
            if writes.write_all(&[octet]).await.is_err() {
                break;
            }
            clock.sleep_until(Some(clock.now() + DRIP)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        after = closed => Ok(Some(after)),
        () = dripping => Ok(None),
        () = clock.sleep_until(Some(clock.now() + PATIENCE)) => Ok(None),
    }
}

/// What is sent without measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    /// A message of one octet more than 64 KiB.
    TooLarge,
    /// The head of a frame of 16 MiB.
    ClaimedSize,
    /// A message of nothing but empty fragments.
    EmptyFragments,
    /// Pings.
    Pings,
    /// Messages of an octet.
    TinyMessages,
    /// Messages as large as may be.
    LargeMessages,
}

impl Flood {
    /// All there are.
    pub const ALL: [Self; 6] = [
        Self::TooLarge,
        Self::ClaimedSize,
        Self::EmptyFragments,
        Self::Pings,
        Self::TinyMessages,
        Self::LargeMessages,
    ];

    /// In a few words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooLarge => "64 KiB and an octet",
            Self::ClaimedSize => "a claim of 16 MiB",
            Self::EmptyFragments => "a flood of empty fragments",
            Self::Pings => "a flood of pings",
            Self::TinyMessages => "a flood of tiny messages",
            Self::LargeMessages => "a flood of large messages",
        }
    }

    /// The close code that a bridge with the usual limits answers with.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::TooLarge | Self::ClaimedSize => 1009,
            _ => 1008,
        }
    }

    /// What is sent again and again, or once.
    fn piece(self) -> (Vec<u8>, bool) {
        const LIMIT: usize = 64 * 1024;
        match self {
            Self::TooLarge => (frame(FINAL | BINARY, &vec![0; LIMIT + 1]), false),
            Self::ClaimedSize => {
                let head = [&[FINAL | BINARY, MASKED | 127][..], &(16_u64 << 20).to_be_bytes()];
                ([head.concat(), vec![0; 4]].concat(), false)
            }
            Self::EmptyFragments => (frame(0, &[]).repeat(1_000), true),
            Self::Pings => (frame(FINAL | PING, &[]).repeat(1_000), true),
            Self::TinyMessages => (frame(FINAL | BINARY, &[0]).repeat(1_000), true),
            Self::LargeMessages => (frame(FINAL | BINARY, &vec![0; LIMIT]), true),
        }
    }
}

/// What became of a flood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flooded {
    /// The close code, if there was one.
    pub code: Option<u16>,
    /// It was over so long after it began; `None` if it never was.
    pub after: Option<Duration>,
    /// Octets that were taken, by the other end or the systems in between.
    pub sent: u64,
}

/// Opens a stream at `target`, on which messages may be binary, and sends what is too much until it is closed.
///
/// # Errors
/// If there is no stream.
pub async fn flood(address: SocketAddr, target: &str, what: Flood) -> io::Result<Flooded> {
    let mut stream = TcpStream::connect(address).await?;
    upgrade(&mut stream, target).await?;
    let clock = Clock::start();
    let (mut reads, mut writes) = stream.split();
    let (mut sent, mut heard) = (0_u64, Vec::new());
    let (piece, again) = what.piece();
    let begin = if what == Flood::EmptyFragments { frame(TEXT, &[]) } else { Vec::new() };
    let flooding = async {
        if writes.write_all(&begin).await.is_err() {
            return;
        }
        while let Ok(()) = writes.write_all(&piece).await {
            sent += piece.len() as u64;
            if !again {
                break;
            }
        }
    };
    let closed = async {
        while matches!(reads.read_buf(&mut heard).await, Ok(1..)) {
            // All but the last words, which are a close frame.
            let surplus = heard.len().saturating_sub(4 * 1024);
            heard.drain(..surplus);
        }
        clock.now().since_epoch()
    };
    let both = async {
        let ((), after) = tokio::join!(flooding, closed);
        after
    };
    let after = tokio::time::timeout(PATIENCE, both).await.ok();
    Ok(Flooded { code: code(&heard), after, sent })
}

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;

/// A frame as clients send it; the mask of noughts leaves the payload as it is.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length: Vec<u8> = match payload.len() {
        short @ 0..126 => vec![MASKED | short as u8],
        middle @ 126..65_536 => [&[MASKED | 126][..], &(middle as u16).to_be_bytes()].concat(),
        long => [&[MASKED | 127][..], &(long as u64).to_be_bytes()].concat(),
    };
    [&[first][..], &length, &[0; 4], payload].concat()
}

/// The code of the close frame at the end of what was heard.
fn code(heard: &[u8]) -> Option<u16> {
    let begins = |at: &usize| {
        heard[*at] == FINAL | CLOSE
            && heard.get(at + 1).is_some_and(|length| at + 2 + usize::from(*length) == heard.len())
    };
    let at = (0..heard.len()).rev().find(begins)?;
    Some(u16::from_be_bytes(*heard.get(at + 2..)?.first_chunk()?))
}

async fn upgrade(stream: &mut TcpStream, target: &str) -> io::Result<()> {
    let request = OutgoingUpgrade { target: target.to_owned(), ..OutgoingUpgrade::default() };
    let mut asking = Asking::new("localhost", &request).map_err(io::Error::other)?;
    stream.write_all(asking.request()).await?;
    let mut octet = [0];
    loop {
        let count = stream.read(&mut octet).await?;
        if asking.take(&octet[..count]).map_err(io::Error::other)?.is_some() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_read_behind_everything_else() {
        let close = [0x88, 5, 0x03, 0xF0, b'w', b'h', b'y'];
        assert_eq!(code(&close), Some(1008));
        assert_eq!(code(&[&[0x82, 2, 0x88, 0x00][..], &close].concat()), Some(1008));
        assert_eq!(code(&[0x88, 0]), None);
        assert_eq!(code(&close[..6]), None, "half a close is none");
    }
}
