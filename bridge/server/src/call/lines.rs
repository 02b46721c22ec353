//! The sockets of a call that its provider posted and the bridge dials. Knows no message and no reason to dial.

use std::pin::Pin;
use std::task::{Context, Poll};

use ringback_proto::provider::{Line, Message, OutgoingUpgrade};
use tokio::sync::mpsc;

use crate::outgoing::Connector;
use crate::reach::Reach;
use crate::socket::wire::Kind;
use crate::socket::{self, Incoming, Socket, SocketError, SocketOptions, close_code};

/// What is posted about a call waits here for it; one that leaves so much is stuck.
pub(crate) const MOST_POSTED: usize = 8;

/// Zoom keeps a minute of sound for who lost a line, and sends it at once: 8 MB where it is widest, of 48 kHz in base64. Nothing of it
/// is kept here but the message that is read, so it is no flood.
const KEPT_FOR_US: u64 = 12 * 1024 * 1024;

/// What happened.
pub(super) enum Happened {
    /// Something was posted about the call.
    Posted(String),
    /// A line is open.
    Opened(Line),
    /// Something came over a line.
    Came(Line, Incoming),
    /// A line is gone, or could not be had.
    Lost(Line, String),
}

type Dialling = Pin<Box<dyn Future<Output = Result<Socket, String>> + Send>>;

enum Slot {
    Idle,
    Dialling(Dialling),
    Open(Box<Socket>),
}

/// The lines of a call.
pub(crate) struct Lines {
    posted: mpsc::Receiver<String>,
    slots: [Slot; 2],
    connector: Connector,
    reach: Reach,
    options: SocketOptions,
}

impl Lines {
    /// None is open yet. Their sockets send no pings: their providers have their own way to ask for life.
    pub(crate) fn new(
        posted: mpsc::Receiver<String>,
        connector: &Connector,
        reach: Reach,
        options: SocketOptions,
    ) -> Self {
        let options = SocketOptions { keepalive: None, burst: KEPT_FOR_US, ..options };
        let connector = connector.within_reach(reach.addresses().clone());
        Self { posted, slots: [Slot::Idle, Slot::Idle], connector, reach, options }
    }

    /// Dials, in the place of what that line was connected to.
    pub(super) fn dial(&mut self, line: Line, url: &str) {
        let (url, connector, options) = (self.reach.url(url), self.connector.clone(), self.options);
        self.slots[line.index()] = Slot::Dialling(Box::pin(async move {
            let url = url?;
            let failed = |error: String| format!("{}: {error}", url.authority);
            let io = connector.connect(&url.peer()).await.map_err(|e| failed(e.to_string()))?;
            let request =
                OutgoingUpgrade { target: url.target.clone(), ..OutgoingUpgrade::default() };
            let dialled = socket::dial(io, url.host(), &request, options).await;
            dialled.map_err(|error| failed(error.to_string()))
        }));
    }

    /// What happens next. Sound that is there comes before what may be its end.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        for line in [Line::Media, Line::Control] {
            let slot = &mut self.slots[line.index()];
            match slot {
                Slot::Idle => {}
                Slot::Dialling(dialling) => match dialling.as_mut().poll(cx) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(socket)) => {
                        *slot = Slot::Open(Box::new(socket));
                        return Poll::Ready(Happened::Opened(line));
                    }
                    Poll::Ready(Err(reason)) => {
                        *slot = Slot::Idle;
                        return Poll::Ready(Happened::Lost(line, reason));
                    }
                },
                Slot::Open(socket) => match socket.poll_recv(cx) {
                    Poll::Pending => {}
                    Poll::Ready(Some(Ok(incoming))) => {
                        return Poll::Ready(Happened::Came(line, incoming));
                    }
                    Poll::Ready(Some(Err(error))) => {
                        *slot = Slot::Idle;
                        return Poll::Ready(Happened::Lost(line, error.to_string()));
                    }
                    Poll::Ready(None) => {
                        *slot = Slot::Idle;
                        return Poll::Ready(Happened::Lost(line, "it was cut".into()));
                    }
                },
            }
        }
        match self.posted.poll_recv(cx) {
            Poll::Ready(Some(body)) => Poll::Ready(Happened::Posted(body)),
            // Nothing more can come, and the call goes on.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// The octets of what came over a line, if it is a message.
    pub(super) fn message(&self, line: Line, incoming: &Incoming) -> Option<Message<'_>> {
        match &self.slots[line.index()] {
            Slot::Open(socket) => socket.message(incoming),
            _ => None,
        }
    }

    /// Queues a text message; on a line that is gone nobody hears it.
    pub(super) fn feed(&mut self, line: Line, text: &[u8]) -> Result<(), SocketError> {
        match &mut self.slots[line.index()] {
            Slot::Open(socket) => socket.feed_octets(Kind::Text, text),
            _ => Ok(()),
        }
    }

    /// Sends what is queued.
    pub(super) async fn flush(&mut self, line: Line) -> Result<(), SocketError> {
        match &mut self.slots[line.index()] {
            Slot::Open(socket) => socket.flush().await,
            _ => Ok(()),
        }
    }

    /// Answers the other end's close.
    pub(super) async fn hang_up(&mut self, line: Line) {
        let slot = std::mem::replace(&mut self.slots[line.index()], Slot::Idle);
        if let Slot::Open(socket) = slot {
            socket.close(close_code::NORMAL, "").await;
        }
    }

    /// Closes all of them.
    pub(super) async fn close(self, code: u16, reason: &str) {
        for slot in self.slots {
            if let Slot::Open(socket) = slot {
                socket.close(code, reason).await;
            }
        }
    }
}
