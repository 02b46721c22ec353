//! What a call sends over its socket at once. Decides nothing of what that is.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use ringback_proto::provider::{Outbox, Send as WireSend};

use crate::clock::Clock;
use crate::shutdown::Shutdown;
use crate::socket::wire::Kind;
use crate::socket::{Socket, SocketError};

/// A write that waits for the other end is given up so long after we were told to end now.
const LAST_WRITE: Duration = Duration::from_millis(250);

/// Sends everything in one write; gives the close code if the stream is to be closed after it.
pub(super) async fn send_all(
    clock: Clock,
    socket: &mut Socket,
    outbox: &Outbox,
    shutdown: &Shutdown,
) -> Result<Option<u16>, SocketError> {
    let mut close = None;
    for send in outbox.sends() {
        match send {
            WireSend::Text(span) => socket.feed_octets(Kind::Text, outbox.octets(span))?,
            WireSend::Binary(span) => socket.feed_octets(Kind::Binary, outbox.octets(span))?,
            WireSend::Close(code) => close = close.or(Some(*code)),
            // Only of calls that have lines in the place of a socket.
            WireSend::Dial(..) | WireSend::TextOn(..) | WireSend::Drop(_) => {}
        }
    }
    // Nearly always the system takes all of it at once, and nothing has to be waited for.
    let at_once = poll_fn(|cx| Poll::Ready(socket.poll_flush(cx))).await;
    match at_once {
        Poll::Ready(flushed) => flushed?,
        Poll::Pending => {
            tokio::select! {
                biased;
                flushed = socket.flush() => flushed?,
                () = async {
                    shutdown.cut_off().await;
                    clock.sleep_until(Some(clock.now() + LAST_WRITE)).await;
                } => return Err(SocketError::WriteDeadline { waited: LAST_WRITE }),
            }
        }
    }
    Ok(close)
}
