//! The servers of a provider that posts that a call is there and is dialled: two doors, and requests to the bridge in their order.
//! Knows no message.

use std::pin::Pin;
use std::time::Duration;

use ringback_proto::provider::{Line, Message, OutgoingUpgrade, Provider, Transport};
use ringback_proto::transcript::CUT;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Sleep;

use super::{ClientError, WsUrl};
use crate::destination::Destination;
use crate::net::{self, Io, Listener, MemoryHosts, MemoryListener, TcpListener};
use crate::outgoing::{ConnectError, Connector};
use crate::socket::upgrade::{begin, put_fields};
use crate::socket::{self, DialError, Incoming, Outgoing, Socket, SocketError, SocketOptions};
use crate::telemetry::PeerText;

/// A request is answered within this.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of an answer, so much is read.
const MAX_ANSWER: u64 = 4 * 1024;
/// Requests and connections that wait for their turn.
const QUEUE: usize = 16;
/// A bridge that took the first request dials within this.
const DIALS_WITHIN: Duration = Duration::from_secs(10);
/// Octets on their way within this process.
const MEMORY: usize = 64 * 1024;

/// What happens at the servers.
pub(crate) enum AtServers {
    /// The bridge has dialled.
    Opened(Line),
    /// Something came.
    Came(Line, Incoming),
    /// A line is gone.
    Lost(Line, String),
    /// The request that begins the call was refused, or nobody took it.
    NotTaken(ClientError),
}

enum News {
    Dialled(Line, Box<Socket>),
    NotTaken(ClientError),
}

/// Doors, requests, and the lines that are open.
pub(crate) struct Servers {
    urls: Vec<String>,
    posts: Option<mpsc::Sender<String>>,
    news: mpsc::Receiver<News>,
    lines: [Option<Box<Socket>>; 2],
    /// Until the bridge has dialled: when it should have.
    undialled: Option<Pin<Box<Sleep>>>,
    /// Doors and the way of requests; they end with this.
    tasks: JoinSet<()>,
}

/// Where the bridge is, and how to get there.
pub(crate) struct Way {
    pub(crate) connector: Connector,
    pub(crate) to: Destination,
    /// Goes with each request, beside what signs it.
    pub(crate) headers: Vec<(String, String)>,
}

impl Servers {
    /// Opens a door for each line: on this machine, or among `hosts` under names of the call's.
    pub(crate) fn open(
        provider: &dyn Provider,
        way: Way,
        hosts: Option<&MemoryHosts>,
        call: &str,
    ) -> Result<Self, ClientError> {
        let (tell, news) = mpsc::channel(QUEUE);
        let (posts, to_post) = mpsc::channel(QUEUE);
        let (mut urls, mut tasks) = (Vec::new(), JoinSet::new());
        for line in Line::ALL {
            let (authority, scheme) = match hosts {
                Some(hosts) => {
                    let host = match provider.transport() {
                        Transport::Webhook { hosts: [host, ..] } => host,
                        _ => "invalid",
                    };
                    let authority = format!("{}.{}.{host}:443", line.name(), call);
                    let (listener, connector) = net::memory(MEMORY);
                    hosts.add(&authority, connector);
                    tasks.spawn(attend::<MemoryListener>(listener, line, tell.clone()));
                    (authority, "wss")
                }
                None => {
                    let failed = |error: std::io::Error| ClientError::Connect {
                        address: "a port of this machine".into(),
                        error: ConnectError::from(error),
                    };
                    let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).map_err(failed)?;
                    let authority = listener.local_addr().map_err(failed)?.to_string();
                    tasks.spawn(attend::<TcpListener>(listener, line, tell.clone()));
                    (authority, "ws")
                }
            };
            urls.push(format!("{scheme}://{authority}/{}", line.name()));
        }
        tasks.spawn(post_all(way, to_post, tell));
        let undialled = Some(Box::pin(tokio::time::sleep(DIALS_WITHIN)));
        Ok(Self { urls, posts: Some(posts), news, lines: [None, None], undialled, tasks })
    }

    /// Where the servers are, in the order of [`Line::ALL`].
    pub(crate) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Has a request posted after those before it.
    pub(crate) fn post(&self, body: &str) -> Result<(), ClientError> {
        let posted = self.posts.as_ref().map(|posts| posts.try_send(body.to_owned()));
        match posted {
            Some(Ok(())) => Ok(()),
            _ => Err(ClientError::NotPosted { waiting: QUEUE }),
        }
    }

    /// What happens next. Cancel safe.
    pub(crate) async fn next(&mut self) -> AtServers {
        std::future::poll_fn(|cx| {
            use std::task::Poll;
            if let Poll::Ready(Some(news)) = self.news.poll_recv(cx) {
                return Poll::Ready(match news {
                    News::Dialled(line, socket) => {
                        self.lines[line.index()] = Some(socket);
                        self.undialled = None;
                        AtServers::Opened(line)
                    }
                    News::NotTaken(error) => AtServers::NotTaken(error),
                });
            }
            for line in Line::ALL {
                let slot = &mut self.lines[line.index()];
                let Some(socket) = slot else { continue };
                let reason = match socket.poll_recv(cx) {
                    Poll::Pending => continue,
                    Poll::Ready(Some(Ok(came))) => return Poll::Ready(AtServers::Came(line, came)),
                    Poll::Ready(Some(Err(error))) => error.to_string(),
                    Poll::Ready(None) => "it was cut".into(),
                };
                *slot = None;
                return Poll::Ready(AtServers::Lost(line, reason));
            }
            if let Some(sleep) = &mut self.undialled
                && sleep.as_mut().poll(cx).is_ready()
            {
                self.undialled = None;
                let url = self.urls[0].clone();
                return Poll::Ready(AtServers::NotTaken(ClientError::NotDialled { url }));
            }
            Poll::Pending
        })
        .await
    }

    /// The octets of what came over a line, if it is a message.
    pub(crate) fn message(&self, line: Line, incoming: &Incoming) -> Option<Message<'_>> {
        self.lines[line.index()].as_ref().and_then(|socket| socket.message(incoming))
    }

    /// Queues a text message; on a line that is gone nobody hears it.
    pub(crate) fn feed(&mut self, line: Line, text: &str) -> Result<(), SocketError> {
        let socket = self.lines[line.index()].as_mut();
        socket.map_or(Ok(()), |socket| socket.feed(Outgoing::Text(text)))
    }

    /// Sends what is queued.
    pub(crate) async fn flush(&mut self) -> Result<(), SocketError> {
        for socket in self.lines.iter_mut().flatten() {
            socket.flush().await?;
        }
        Ok(())
    }

    /// Answers the bridge's close; says whether there is another line.
    pub(crate) async fn hang_up(&mut self, line: Line) -> bool {
        if let Some(socket) = self.lines[line.index()].take() {
            socket.close(socket::close_code::NORMAL, "").await;
        }
        self.lines.iter().any(Option::is_some)
    }

    /// Ends a line without a word.
    pub(crate) fn cut(&mut self, line: Line) {
        self.lines[line.index()] = None;
    }

    /// Closes the lines once all requests were posted.
    pub(crate) async fn close(mut self, code: u16) {
        self.posts = None;
        for socket in self.lines.iter_mut().filter_map(Option::take) {
            if code != CUT {
                socket.close(code, "").await;
            }
        }
        // Of the tasks, only that of the requests ends by itself.
        let _ = tokio::time::timeout(PATIENCE, self.tasks.join_next()).await;
    }
}

/// Lets in whoever comes to a door.
async fn attend<L: Listener>(mut listener: L, line: Line, tell: mpsc::Sender<News>) {
    while let Ok((parcel, _)) = listener.accept().await {
        let Ok(io) = L::open(parcel).await else { continue };
        let options = SocketOptions { keepalive: None, ..SocketOptions::default() };
        let Ok(socket) = socket::answer(io, options).await else { continue };
        if tell.send(News::Dialled(line, Box::new(socket))).await.is_err() {
            return;
        }
    }
}

/// Posts one request after the other.
async fn post_all(way: Way, mut bodies: mpsc::Receiver<String>, tell: mpsc::Sender<News>) {
    let mut begun = false;
    while let Some(body) = bodies.recv().await {
        match post(&way, &body).await {
            Ok(()) => begun = true,
            // The call is there: what else is said about it, or again, is the bridge's to refuse.
            Err(error) if begun => {
                let error = error.to_string();
                tracing::warn!(error = %PeerText(&error), "a later request was not taken");
            }
            Err(error) => {
                if tell.send(News::NotTaken(error)).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn post(way: &Way, body: &str) -> Result<(), ClientError> {
    let url = &way.to.url;
    let address = || url.authority.clone();
    let connected = way.connector.connect(&url.peer()).await;
    let mut io = connected.map_err(|error| ClientError::Connect { address: address(), error })?;
    let (target, headers) = (url.target.clone(), way.headers.clone());
    let mut request = OutgoingUpgrade { target, headers, ..OutgoingUpgrade::default() };
    way.to.sign_posted(&mut request, body).map_err(ClientError::Unsigned)?;
    let refused = |error| super::refused(&way.to, error);
    let request = written(url, &request, body).map_err(refused)?;
    let exchanged = tokio::time::timeout(PATIENCE, exchange(&mut io, &request));
    let answer = match exchanged.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(refused(DialError::Handshake(error.to_string()))),
        Err(_elapsed) => return Err(refused(DialError::Deadline(PATIENCE))),
    };
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    if status == 200 {
        return Ok(());
    }
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim().to_owned();
    Err(refused(DialError::Refused { status, retry_after: None, body }))
}

/// The request as it is sent. Its fields may be those of somebody's transcript.
fn written(url: &WsUrl, signed: &OutgoingUpgrade, body: &str) -> Result<String, DialError> {
    let mut request = begin("POST", url.host(), &signed.target)?;
    let length = body.len().to_string();
    let own = [
        ("Connection", "close"),
        ("Content-Type", "application/json"),
        ("Content-Length", &length),
    ];
    let fields = signed.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    put_fields(&mut request, own.into_iter().chain(fields))?;
    request += "\r\n";
    request += body;
    Ok(request)
}

async fn exchange(io: &mut Box<dyn Io>, request: &str) -> std::io::Result<Vec<u8>> {
    io.write_all(request.as_bytes()).await?;
    io.flush().await?;
    let mut answer = Vec::new();
    io.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_that_finds_no_place_in_the_queue_is_an_error_in_words() {
        let hosts = MemoryHosts::default();
        let to = WsUrl::plain("bridge.example:80".into(), "/zoom-rtms".into()).into();
        let way = Way { connector: Connector::within(hosts.clone()), to, headers: Vec::new() };
        let zoom = ringback_proto::provider::find("zoom-rtms").expect("a provider");
        let servers = Servers::open(zoom, way, Some(&hosts), "c").expect("doors");
        // Nothing takes them as long as this does not wait.
        (0..QUEUE).for_each(|n| servers.post("{}").unwrap_or_else(|error| panic!("{n}: {error}")));
        let error = servers.post("{}").expect_err("there is no place").to_string();
        assert!(error.contains("was not posted: 16 before it wait"), "{error}");
    }

    #[test]
    fn a_request_that_is_posted_cannot_be_broken_apart() {
        let url = WsUrl::plain("bridge.example:80".into(), "/zoom-rtms".into());
        let request = |name: &str, value: &str| OutgoingUpgrade {
            target: url.target.clone(),
            headers: vec![(name.into(), value.into())],
            ..OutgoingUpgrade::default()
        };
        let text = written(&url, &request("x", "y"), "{}").expect("a request");
        assert!(text.starts_with("POST /zoom-rtms HTTP/1.1\r\nHost: bridge.example\r\n"), "{text}");
        assert!(text.ends_with("Content-Length: 2\r\nx: y\r\n\r\n{}"), "{text}");
        for (name, value) in [("", "x"), ("a b", "x"), ("x", "y\r\n\r\nPOST /other HTTP/1.1")] {
            let broken = written(&url, &request(name, value), "{}");
            assert!(matches!(broken, Err(DialError::Request(_))), "{name}: {value}");
        }
        let elsewhere = OutgoingUpgrade { target: "/a b".into(), ..OutgoingUpgrade::default() };
        assert!(matches!(written(&url, &elsewhere, ""), Err(DialError::Request(_))));
    }
}
