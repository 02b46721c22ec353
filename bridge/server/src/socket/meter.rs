//! Bounds how fast a peer may send, below the WebSocket layer: floods of empty fragments and the like never become messages that
//! anybody above could count. Looks at amounts only.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use ringback_proto::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock::Clock;
use crate::net::Io;

/// Octets a second; the widest stream, 48 kHz L16 in base64, needs a quarter of it.
const RATE: u64 = 512 * 1024;
/// Octets at once: two seconds' worth, for a peer that makes up for a stall.
const BURST: u64 = 1024 * 1024;

/// A connection whose peer may send [`RATE`] octets a second and [`BURST`] at once.
pub(super) struct Metered {
    inner: Box<dyn Io>,
    clock: Clock,
    left: u64,
    filled: Instant,
}

/// A peer sent more than it may.
#[derive(Debug, thiserror::Error)]
#[error("more than {RATE} octets a second")]
pub(super) struct Flood;

impl Flood {
    pub(super) const RATE: u64 = RATE;

    /// Whether this is why a read failed.
    pub(super) fn is_in(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

impl Metered {
    pub(super) fn new(inner: Box<dyn Io>) -> Self {
        Self { inner, clock: Clock::start(), left: BURST, filled: Instant::ZERO }
    }

    fn spend(&mut self, octets: u64) -> io::Result<()> {
        if octets > self.left {
            let now = self.clock.now();
            let earned = (now - self.filled).as_micros() as u64 * RATE / 1_000_000;
            self.left = (self.left + earned).min(BURST);
            self.filled = now;
        }
        match self.left.checked_sub(octets) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(io::Error::other(Flood)),
        }
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let octets = (buf.filled().len() - before) as u64;
        Poll::Ready(self.spend(octets))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, octets)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test(start_paused = true)]
    async fn a_steady_stream_and_a_burst_pass_and_a_flood_does_not() {
        let (mut peer, ours) = tokio::io::duplex(64 * 1024);
        let mut ours = Metered::new(Box::new(ours));
        let mut octets = vec![0; 32 * 1024];
        for _ in 0..100 {
            peer.write_all(&octets).await.unwrap();
            ours.read_exact(&mut octets).await.unwrap();
            tokio::time::advance(Duration::from_millis(63)).await;
        }
        let mut passed = 0_usize;
        let error = loop {
            peer.write_all(&octets).await.unwrap();
            match ours.read_exact(&mut octets).await {
                Ok(_) => passed += octets.len(),
                Err(error) => break error,
            }
        };
        assert!(Flood::is_in(&error));
        assert!((900 * 1024..=1100 * 1024).contains(&passed), "{passed} octets at once");
    }
}
