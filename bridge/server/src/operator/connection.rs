//! One connection to the operator's side: HTTP/1.1 or HTTP/2, found out by its first octets, within deadlines. Decides no request.
//!
//! Which of the two it is, is found out here and not by the builder that hyper has for it: that one waits for ever for a connection
//! that says nothing.

use std::convert::Infallible;
use std::io::Cursor;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, join, split};
use tokio::sync::OwnedSemaphorePermit;

use super::Operator;
use crate::net::Io;
use crate::telemetry::{Report, report};

/// What a connection begins with that speaks HTTP/2 (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What heads may be: more is answered 431.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// A connection on which nothing is asked for so long is ended.
const IDLE: Duration = Duration::from_secs(60);
/// An end that was begun has so long.
const LAST_ANSWER: Duration = Duration::from_secs(2);
/// Requests at a time on a connection of HTTP/2, listeners included.
const MAX_STREAMS: u32 = 100;
/// Requests that a peer may take back before they were looked at, and those that we have to (CVE-2023-44487, CVE-2025-8671); more
/// ends the connection.
const MAX_RESETS: usize = 20;
/// What may wait for a peer that does not read, for each request.
const MAX_WAITING: usize = 64 * 1024;
/// A connection of HTTP/2 is asked this often whether it lives, and has as long to say so.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// What goes on on a connection.
#[derive(Default)]
struct Activity {
    open: AtomicUsize,
    /// Whether anything was asked since it was looked at last.
    asked: AtomicBool,
}

/// A request is being answered, or listens, as long as this lives; the connection has its place as long.
pub(super) struct Busy {
    activity: Arc<Activity>,
    _place: Arc<OwnedSemaphorePermit>,
}

impl Busy {
    fn begin(activity: &Arc<Activity>, place: &Arc<OwnedSemaphorePermit>) -> Self {
        activity.open.fetch_add(1, Ordering::Relaxed);
        activity.asked.store(true, Ordering::Relaxed);
        Self { activity: Arc::clone(activity), _place: Arc::clone(place) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.activity.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Activity {
    /// Whether nothing is going on, and nothing was asked since this was asked last.
    fn is_idle(&self) -> bool {
        let asked = self.asked.swap(false, Ordering::Relaxed);
        !asked && self.open.load(Ordering::Relaxed) == 0
    }
}

/// Serves a connection to its end. Those that become WebSockets of HTTP/1.1 go on in tasks of their own.
pub(super) async fn serve(
    operator: Arc<Operator>,
    io: impl Io,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
) {
    let (place, activity) = (Arc::new(place), Arc::<Activity>::default());
    let (mut reading, writing) = split(io);
    let began = tokio::time::timeout(operator.header_timeout, begin(&mut reading)).await;
    let Ok(Some(begin)) = began else {
        report(&Report::HttpFailed { peer, reason: "nothing came in time" });
        return;
    };
    let is_http2 = begin == PREFACE;
    let io = TokioIo::new(join(Cursor::new(begin).chain(reading), writing));
    let (answering, counted) = (Arc::clone(&operator), Arc::clone(&activity));
    let service = service_fn(move |request| {
        let (operator, busy) = (Arc::clone(&answering), Busy::begin(&counted, &place));
        async move { Ok::<_, Infallible>(operator.answer(request, peer, busy).await) }
    });
    let ended = if is_http2 {
        let connection = pin!(bounded_http2().serve_connection(io, service));
        attend(connection, |c| c.graceful_shutdown(), &activity, &operator).await
    } else {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(operator.header_timeout)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS);
        let connection = pin!(http.serve_connection(io, service).with_upgrades());
        attend(connection, |c| c.graceful_shutdown(), &activity, &operator).await
    };
    if let Err(error) = ended {
        report(&Report::HttpFailed { peer, reason: &error.to_string() });
    }
}

/// HTTP/2, and what a peer may do on a connection of it.
fn bounded_http2() -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .max_header_list_size(MAX_HEAD as u32)
        .max_send_buf_size(MAX_WAITING)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE);
    http
}

/// Reads until it is known which protocol this is: the whole beginning of HTTP/2, or what is none. `None` if it ends before.
async fn begin(io: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut begin = Vec::with_capacity(PREFACE.len());
    while begin.len() < PREFACE.len() && PREFACE.starts_with(&begin) {
        let mut rest = [0; PREFACE.len()];
        let rest = &mut rest[..PREFACE.len() - begin.len()];
        match io.read(rest).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => begin.extend_from_slice(&rest[..read]),
        }
    }
    Some(begin)
}

/// Waits until the connection ends, and ends one on which nothing goes on, or the bridge is done.
async fn attend<C>(
    mut connection: Pin<&mut C>,
    end: impl Fn(Pin<&mut C>),
    activity: &Activity,
    operator: &Operator,
) -> Result<(), hyper::Error>
where
    C: Future<Output = Result<(), hyper::Error>>,
{
    let mut finished = pin!(operator.shutdown.finished());
    let (mut is_ending, mut patience) = (false, operator.header_timeout);
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => return ended,
            () = &mut finished, if !is_ending => {}
            () = tokio::time::sleep(patience) => {
                if is_ending {
                    return Ok(());
                }
                patience = IDLE;
                if !activity.is_idle() {
                    continue;
                }
            }
        }
        (is_ending, patience) = (true, LAST_ANSWER);
        end(connection.as_mut());
    }
}

/// Peers that no library for HTTP/2 lets one write: their frames are (RFC 9113, 4.1).
#[cfg(test)]
mod tests {
    use axum::body::Body;
    use bytes::Bytes;
    use hyper::Response;
    use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;
    const WINDOW_UPDATE: u8 = 8;
    /// END_STREAM and END_HEADERS.
    const WHOLE: u8 = 5;
    const ENHANCE_YOUR_CALM: u32 = 11;
    /// `GET http://a/`, as the table of RFC 7541 has it.
    const GET: [u8; 6] = [0x82, 0x86, 0x84, 0x41, 1, b'a'];
    /// Octets under way to the peer.
    const UNDER_WAY: usize = 4 * 1024;

    fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), body].concat()
    }

    fn request(stream: u32) -> Vec<u8> {
        frame(HEADERS, WHOLE, stream, &GET)
    }

    /// A peer's line, and all that it says: each request is answered with such a body.
    async fn peer(said: &[u8], body: impl Fn() -> Body + Send + 'static) -> DuplexStream {
        let (mut near, far) = duplex(UNDER_WAY);
        let service = service_fn(move |_| {
            let answer = Response::new(body());
            async move { Ok::<_, Infallible>(answer) }
        });
        near.write_all(&[PREFACE, said].concat()).await.unwrap();
        tokio::spawn(bounded_http2().serve_connection(TokioIo::new(far), service));
        near
    }

    /// Whether a request is answered that comes behind so many of a kind; an error is the code that the connection ends with.
    async fn answered_behind(count: usize, kind: fn(u32) -> Vec<u8>) -> Result<(), u32> {
        let last = 2 * count as u32 + 1;
        let mut said = frame(SETTINGS, 0, 0, &[]);
        (1..last).step_by(2).for_each(|stream| said.extend(kind(stream)));
        said.extend(request(last));
        let mut line = peer(&said, Body::empty).await;
        loop {
            let mut head = [0; 9];
            line.read_exact(&mut head).await.unwrap();
            let word = |octets: &[u8]| u32::from_be_bytes(octets.try_into().unwrap());
            let mut body = vec![0; word(&head[..4]) as usize >> 8];
            line.read_exact(&mut body).await.unwrap();
            match head[3] {
                HEADERS if word(&head[5..]) == last => return Ok(()),
                GOAWAY => return Err(word(&body[4..8])),
                _ => {}
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_back_one_request_too_many_before_it_was_looked_at_is_cut_off() {
        let taken_back = |stream| {
            let cancel = frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
            [request(stream), cancel].concat()
        };
        assert_eq!(answered_behind(MAX_RESETS, taken_back).await, Ok(()));
        assert_eq!(answered_behind(MAX_RESETS + 1, taken_back).await, Err(ENHANCE_YOUR_CALM));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_us_take_back_one_request_too_many_is_cut_off() {
        // A field of HTTP/1.1, which makes the request malformed (RFC 9113, 8.2.2).
        let malformed = |stream| {
            let fields = [&GET[..], &[0, 10], b"connection", &[1, b'x']].concat();
            frame(HEADERS, WHOLE, stream, &fields)
        };
        assert_eq!(answered_behind(MAX_RESETS, malformed).await, Ok(()));
        assert_eq!(answered_behind(MAX_RESETS + 1, malformed).await, Err(ENHANCE_YOUR_CALM));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_waits_for_a_peer_that_has_room_for_all_and_reads_nothing() {
        const PIECE: usize = 1_024;
        let made = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&made);
        let endless = move || {
            let counted = Arc::clone(&counted);
            Body::from_stream(futures_util::stream::repeat_with(move || {
                counted.fetch_add(PIECE, Ordering::Relaxed);
                Ok::<_, Infallible>(Bytes::from_static(&[b'x'; PIECE]))
            }))
        };
        let most = (1_u32 << 31) - 1;
        let window = [&[0, 4], &most.to_be_bytes()[..]].concat();
        let said = [
            frame(SETTINGS, 0, 0, &window),
            frame(WINDOW_UPDATE, 0, 0, &(most - 65_535).to_be_bytes()),
            request(1),
        ];
        let line = peer(&said.concat(), endless).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let made = made.load(Ordering::Relaxed);
        // What is being written is no more than a frame of 16 KiB, the most that a peer takes which says nothing else.
        let most = MAX_WAITING + UNDER_WAY + 16 * 1024 + PIECE;
        assert!((MAX_WAITING..=most).contains(&made), "{made} octets were made for nobody");
        drop(line);
    }
}
