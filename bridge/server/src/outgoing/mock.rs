//! A server for tests: gives the answers it was told to, one after the other, and keeps what it was asked. Understands nothing of it.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Connector;
use crate::net::{self, Io, Listener as _, MemoryConnector, MemoryListener};

/// What a request is answered with.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// These octets, and the end of the connection.
    Octets(String),
    /// The same, once this is done.
    After(Deed, String),
    /// Nothing, for as long as the other end likes to wait.
    Silence,
}

/// Something to be done before an answer.
#[derive(Clone)]
pub(crate) struct Deed(Arc<dyn Fn() + Send + Sync>);

impl Deed {
    pub(crate) fn of(deed: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(deed))
    }
}

impl std::fmt::Debug for Deed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deed")
    }
}

/// An answer with a status line of its own, header fields (each with its line end) and a body.
pub(crate) fn reply(status: &str, fields: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Octets(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{fields}\r\n{body}"))
}

/// A server in memory.
pub(crate) struct Mock {
    /// `http://localhost`.
    pub(crate) url: String,
    memory: MemoryConnector,
    asked: Arc<Mutex<Vec<String>>>,
    replies: Arc<Mutex<Vec<Reply>>>,
}

impl Mock {
    /// Gives these answers in order, and the last one from then on.
    pub(crate) fn new(replies: Vec<Reply>) -> Self {
        let (mut listener, memory) = net::memory(64 * 1024);
        let (asked, replies) = (Arc::default(), Arc::new(Mutex::new(replies)));
        let url = "http://localhost".to_owned();
        let mock = Self { url, memory, asked: Arc::clone(&asked), replies: Arc::clone(&replies) };
        tokio::spawn(async move {
            while let Ok((parcel, _)) = listener.accept().await {
                let Ok(stream) = MemoryListener::open(parcel).await else { continue };
                tokio::spawn(serve(stream, Arc::clone(&asked), Arc::clone(&replies)));
            }
        });
        mock
    }

    /// What connects to it, whatever the address.
    pub(crate) fn connector(&self) -> Connector {
        Connector::in_memory(self.memory.clone())
    }

    /// Whole requests so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Gives this answer from now on.
    pub(crate) fn answer(&self, reply: Reply) {
        *self.replies.lock().unwrap() = vec![reply];
    }
}

async fn serve(
    mut stream: impl Io,
    asked: Arc<Mutex<Vec<String>>>,
    replies: Arc<Mutex<Vec<Reply>>>,
) {
    let mut request = Vec::new();
    while !is_whole(&request) {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    asked.lock().unwrap().push(String::from_utf8(std::mem::take(&mut request)).unwrap());
    let reply = {
        let mut replies = replies.lock().unwrap();
        if replies.len() > 1 { replies.remove(0) } else { replies[0].clone() }
    };
    if let Reply::After(Deed(deed), _) = &reply {
        deed();
    }
    match reply {
        Reply::Octets(octets) | Reply::After(_, octets) => {
            // A client that has heard enough may be gone.
            let _ = stream.write_all(octets.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Reply::Silence => {
            let _ = stream.read_buf(&mut request).await;
        }
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

/// A private key, made for tests by `openssl genrsa 2048 | openssl pkcs8 -topk8 -nocrypt`.
pub(crate) const TEST_KEY: &str = include_str!("test-key.pem");

/// A key set that holds the public half of [`TEST_KEY`] under this name.
pub(crate) fn key_set(kid: &str) -> String {
    include_str!("test-keys.json").replace("KID", kid)
}
