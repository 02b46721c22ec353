//! The least that a worker on NATS can be, with a server to work on: it sends back the sound that it hears. For one machine, and without
//! the patience of a kit.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use async_nats::{Client, Message};
use bytes::Bytes;
use futures_util::StreamExt as _;
use ringback_module::wire::FrameKind;
use serde_json::json;

use super::place::answer;
use crate::module_host::{Head, Sent, Taken};

/// The group of the worker.
pub(super) const GROUP: &str = "bench";
/// What subjects begin with, if nothing else is said.
const PREFIX: &str = "ringback.v1";

/// What the server says once it listens, before the address.
const LISTENS: &str = "Listening for client connections on ";
/// Where Debian puts it is not in everybody's path.
const PROGRAMS: [&str; 2] = ["nats-server", "/usr/sbin/nats-server"];

/// Starts a server on a free port of this machine, and gives where it is.
pub(super) fn start_server() -> Result<(Child, String), String> {
    let start = |program| {
        let mut command = Command::new(program);
        command.args(["--addr", "127.0.0.1", "--port", "-1"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().ok()
    };
    let server = PROGRAMS.into_iter().find_map(start);
    let mut server = server.ok_or("there is no nats-server; on Debian: apt install nats-server")?;
    let stderr = server.stderr.take().ok_or("nats-server has no standard error")?;
    let mut lines = BufReader::new(stderr).lines();
    let told = lines.find_map(|line| Some(line.ok()?.split_once(LISTENS)?.1.trim().to_owned()));
    let authority = told.ok_or("nats-server did not say where it listens")?;
    // What else it prints is read away, lest the pipe fill up.
    std::thread::spawn(move || lines.for_each(drop));
    Ok((server, authority))
}

/// Works until whoever started it ends it; `listening` is told where NATS is, once offers are taken.
pub(super) async fn work(at: SocketAddr, listening: impl FnOnce(SocketAddr)) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("NATS at {at}: {error}");
    let client = async_nats::connect(format!("nats://{at}")).await.map_err(|e| failed(&e))?;
    let offers = format!("{PREFIX}.offer.{GROUP}");
    let offers = client.queue_subscribe(offers, "workers".into()).await;
    let mut offers = offers.map_err(|e| failed(&e))?;
    client.flush().await.map_err(|e| failed(&e))?;
    listening(at);
    while let Some(offer) = offers.next().await {
        if let Some(session) = Session::take(&client, &offer).await {
            tokio::spawn(session.run());
        }
    }
    Ok(())
}

struct Session {
    client: Client,
    messages: async_nats::Subscriber,
    output: String,
    sent: Sent,
    taken: Taken,
}

impl Session {
    async fn take(client: &Client, offer: &Message) -> Option<Self> {
        // Letters and digits, and as hard to guess as a bench needs.
        let inbox = client.new_inbox();
        let name = inbox.rsplit('.').next()?;
        let subject = format!("{PREFIX}.session.{name}");
        let messages = client.subscribe(format!("{subject}.in")).await.ok()?;
        let taken = json!({"type": "take", "session": name, "worker": "bench"}).to_string();
        client.publish(offer.reply.clone()?, taken.into()).await.ok()?;
        let (client, output) = (client.clone(), format!("{subject}.out"));
        Some(Self { client, messages, output, sent: Sent::default(), taken: Taken::default() })
    }

    async fn run(mut self) {
        while let Some(message) = self.messages.next().await {
            let said = match message.headers.as_ref().and_then(Head::of) {
                Some(Head::Frame { kind, number, taken }) => {
                    let counts = self.taken.take(number, message.payload.len()).is_ok()
                        && self.sent.confirmed(taken);
                    if !counts {
                        return;
                    }
                    self.frame(kind, message.payload).await
                }
                Some(Head::Taken(taken)) if self.sent.confirmed(taken) => Some(()),
                _ => return,
            };
            if said.is_none() {
                return;
            }
        }
    }

    /// Answers what wants an answer; `None` if that cannot be said.
    async fn frame(&mut self, kind: FrameKind, body: Bytes) -> Option<()> {
        let body = match kind {
            FrameKind::Audio => body,
            FrameKind::Json => match answer(std::str::from_utf8(&body).ok()?) {
                Some(answer) => serde_json::to_vec(&answer).ok()?.into(),
                None => return Some(()),
            },
        };
        let (number, taken) = (self.sent.number(body.len()), self.taken.tell());
        let headers = Head::Frame { kind, number, taken }.headers();
        self.client.publish_with_headers(self.output.clone(), headers, body).await.ok()
    }
}
