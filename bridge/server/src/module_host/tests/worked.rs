//! A module acted out as a worker on a real NATS server; a mode says how it misbehaves. What `served.rs` is to connections.

use std::collections::VecDeque;
use std::sync::Arc;

use async_nats::{Client, HeaderMap, Message, Subscriber};
use futures_util::StreamExt as _;

use super::nats_server::NatsServer;
use super::served::{Acted, Came, Over, Side};
use super::*;
use crate::config::{NatsConfig, NatsLogin};
use crate::nats::Nats;
use crate::outgoing::Trust;

/// A server and a bridge's connection to it.
pub(super) struct Cluster {
    _server: NatsServer,
    /// A connection beside the bridge's.
    pub(super) client: Client,
    nats: Arc<Nats>,
}

impl Cluster {
    /// `None` where there is no nats-server, which was said.
    pub(super) async fn start(name: &str, arguments: &[&str]) -> Option<Self> {
        let Some(server) = NatsServer::start(name, arguments) else {
            let why = "no nats-server (Debian package nats-server)";
            assert!(std::env::var_os("CI").is_none(), "this test must run, but there is {why}");
            eprintln!("SKIPPED, NOTHING WAS TESTED: {why}; `bash .ci/test` installs it");
            return None;
        };
        let client = async_nats::connect(server.url()).await.unwrap();
        let nats = Nats::new(NatsConfig {
            urls: vec![server.url()],
            login: NatsLogin::default(),
            trust: Trust::System,
            prefix: "test".into(),
            events: None,
        });
        nats.connected().await.unwrap();
        Some(Self { _server: server, client, nats })
    }

    /// The module called `group`.
    pub(super) fn spec(&self, group: &str) -> NatsSpec {
        NatsSpec { name: "m".into(), group: group.into(), nats: Arc::clone(&self.nats) }
    }

    /// Returns when the server has dealt with all that was asked of it so far: it takes things in turn.
    pub(super) async fn settled(&self) {
        let inbox = self.client.new_inbox();
        let mut echo = self.client.subscribe(inbox.clone()).await.unwrap();
        self.client.publish(inbox, "".into()).await.unwrap();
        echo.next().await.unwrap();
    }

    /// A group of one worker that behaves like `mode`, and is there when this returns.
    pub(super) async fn work(&self, mode: &'static str) -> NatsSpec {
        let inbox = self.client.new_inbox();
        let (_, group) = inbox.rsplit_once('.').unwrap();
        self.work_as(group, mode).await
    }

    /// The same under this name.
    pub(super) async fn work_as(&self, group: &str, mode: &'static str) -> NatsSpec {
        let subject = format!("test.v1.offer.{group}");
        let mut offers = self.client.queue_subscribe(subject, "workers".into()).await.unwrap();
        self.settled().await;
        let client = self.client.clone();
        tokio::spawn(async move {
            while let Some(offer) = offers.next().await {
                let side = Worked::take(&client, &offer).await;
                tokio::spawn(Acted { mode, side }.run());
            }
        });
        self.spec(group)
    }
}

/// One session.
struct Worked {
    client: Client,
    input: Subscriber,
    output: String,
    /// Came while there was no room to say something.
    kept: VecDeque<Message>,
    said: u64,
    /// Of what was said, so many were taken.
    confirmed: u64,
    taken: u64,
}

impl Worked {
    async fn take(client: &Client, offer: &Message) -> Self {
        let inbox = client.new_inbox();
        let (_, session) = inbox.rsplit_once('.').unwrap();
        let input = client.subscribe(format!("test.v1.session.{session}.in")).await.unwrap();
        let answer = json!({"type": "take", "session": session, "worker": "acted"});
        let reply = offer.reply.clone().expect("an offer wants an answer");
        client.publish(reply, answer.to_string().into()).await.unwrap();
        let output = format!("test.v1.session.{session}.out");
        let client = client.clone();
        Self { client, input, output, kept: VecDeque::new(), said: 0, confirmed: 0, taken: 0 }
    }

    /// The one field of a message, split at its first space.
    fn field(message: &Message) -> (String, String, String) {
        let headers = message.headers.as_ref().expect("every message has a field");
        let (name, values) = headers.iter().next().expect("every message has a field");
        let text = values[0].as_str();
        let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
        (name.to_string(), first.into(), rest.into())
    }

    async fn arrival(&mut self) -> Result<Message, Over> {
        let message = self.input.next().await.ok_or(Over)?;
        match Self::field(&message) {
            (name, count, _) if name == "Ringback-Taken" => self.confirmed = count.parse().unwrap(),
            (name, _, count) if name != "Ringback-Close" => self.confirmed = count.parse().unwrap(),
            _ => {}
        }
        Ok(message)
    }

    async fn say(&mut self, field: &'static str, body: &[u8]) -> Result<(), Over> {
        while self.said - self.confirmed >= 256 {
            let message = self.arrival().await?;
            self.kept.push_back(message);
        }
        let mut headers = HeaderMap::new();
        headers.insert(field, format!("{} {}", self.said, self.taken));
        self.said += 1;
        let body = body.to_vec().into();
        let sent = self.client.publish_with_headers(self.output.clone(), headers, body).await;
        sent.map_err(|_| Over)
    }
}

impl Side for Worked {
    async fn next(&mut self) -> Result<Came, Over> {
        loop {
            let message = match self.kept.pop_front() {
                Some(message) => message,
                None => self.arrival().await?,
            };
            let (name, number, _) = Self::field(&message);
            if name == "Ringback-Close" {
                return Err(Over);
            }
            if name == "Ringback-Taken" {
                continue;
            }
            assert_eq!(number, self.taken.to_string(), "numbers follow each other");
            self.taken += 1;
            return Ok(match name.as_str() {
                "Ringback-Json" => Came::Text(serde_json::from_slice(&message.payload).unwrap()),
                "Ringback-Sound" => Came::Sound(message.payload.to_vec()),
                other => panic!("{other}"),
            });
        }
    }

    async fn text(&mut self, text: &str) -> Result<(), Over> {
        self.say("Ringback-Json", text.as_bytes()).await
    }

    async fn sound(&mut self, octets: &[u8]) -> Result<(), Over> {
        self.say("Ringback-Sound", octets).await
    }

    async fn leave(&mut self) {
        let mut headers = HeaderMap::new();
        headers.insert("Ringback-Close", "1001 bye");
        let _ = self.client.publish_with_headers(self.output.clone(), headers, "".into()).await;
    }
}
