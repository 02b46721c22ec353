//! Streams without HTTP on the port of all others: told from requests by their first octet. Knows no record but the first one's kind.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::HeaderMap;
use ringback_proto::provider::{Transport, Upgrade};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use super::connection::{Seat, Seats, attend, seats};
use super::{Bounded, Refusal, Shared, Streams};
use crate::net::Io;
use crate::socket::Socket;
use crate::telemetry::{Report, report};

/// Kind of the record that AudioSocket begins with; no request begins so.
const FIRST_RECORD: u8 = 0x01;

/// Looks at what a connection begins with, if there is a listener for those that carry no HTTP, and serves it if it is one.
/// Otherwise gives it back as it was.
pub(super) async fn sorted<S: Streams, I: Io>(
    shared: &Arc<Shared<S>>,
    mut io: I,
    peer: SocketAddr,
    seat: &Arc<Seat>,
) -> Option<Rewound<I>> {
    let of_records = |bounded: &Bounded| bounded.endpoint.transport == Transport::Records;
    let Some(index) = shared.endpoints.iter().position(of_records) else {
        return Some(Rewound { first: None, io });
    };
    let first = tokio::time::timeout(shared.limits.header_timeout, io.read_u8()).await;
    let Ok(Ok(first)) = first else {
        report(&Report::HttpFailed { peer, reason: "nothing came in time" });
        return None;
    };
    if first != FIRST_RECORD {
        return Some(Rewound { first: Some(first), io });
    }
    let bounded = &shared.endpoints[index];
    match admit_records(shared, bounded, peer) {
        Ok((state, mut seats)) => {
            seats.begin();
            seat.settle();
            let socket = Socket::records(Box::new(io), &[first], bounded.endpoint.socket);
            let (shared, seat) = (Arc::clone(shared), Arc::clone(seat));
            let tasks = shared.tasks.clone();
            tasks.spawn(async move {
                let serving = pin!(shared.streams.serve(state, socket));
                attend(&shared, index, serving, peer).await;
                drop((seats, seat));
            });
        }
        Err(Refusal { status, reason, .. }) => {
            let listener = &bounded.endpoint.name;
            report(&Report::UpgradeRefused { listener, peer, status, reason: &reason });
        }
    }
    None
}

/// A connection of which an octet was read that is read again.
pub(super) struct Rewound<I> {
    first: Option<u8>,
    pub(super) io: I,
}

impl<I: Io> AsyncRead for Rewound<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.first.take() {
            Some(first) if buffer.remaining() > 0 => {
                buffer.put_slice(&[first]);
                Poll::Ready(Ok(()))
            }
            first => {
                self.first = first;
                Pin::new(&mut self.io).poll_read(cx, buffer)
            }
        }
    }
}

impl<I: Io> AsyncWrite for Rewound<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Decides about a stream where there is no request to look at.
fn admit_records<S: Streams>(
    shared: &Shared<S>,
    bounded: &Bounded,
    peer: SocketAddr,
) -> Result<(S::Admitted, Seats), Refusal> {
    let seats = seats(shared, bounded)?;
    bounded.endpoint.sources.check(peer, &HeaderMap::new())?;
    let upgrade = Upgrade { target: &bounded.endpoint.path, public_url: None, headers: &[] };
    Ok((shared.streams.admit(&bounded.endpoint, &upgrade, peer)?.state, seats))
}
