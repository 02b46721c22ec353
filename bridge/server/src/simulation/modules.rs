//! Modules that are played: servers in memory that speak `ringback.v1`, most of them not as they should. Play nothing of the bridge.

use std::time::Duration;

use ringback_module::message::{
    Accept, AcceptIn, AcceptOut, Event, Kind, Ready, Reject, Transcript,
};
use ringback_module::{FromModule, ToModule};
use ringback_proto::provider::Message;
use tokio::task::JoinSet;

use crate::net::{Io, Listener as _, MemoryListener};
use crate::socket::{self, Incoming, Outgoing, Socket, SocketOptions, close_code};

/// How a module behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Answers sound with the same sound.
    Echo,
    /// Talks about everything it hears: transcripts, marks, clears, events.
    Talker,
    /// Takes half as long again for every frame as it lasts.
    Slow,
    /// Says that it is ready, and then nothing more, ever.
    Deaf,
    /// Says nothing at all.
    Mute,
    /// Says no.
    No,
    /// Goes away in the middle, and can be dialled again.
    Crashing,
    /// Says what is no message.
    Garbage,
    /// Answers with ten times as much.
    Flood,
    /// Is ready after three seconds.
    Late,
    /// Hangs the call up after a second.
    Leaver,
    /// Does not upgrade at all.
    NoServer,
}

impl Part {
    pub(super) const ALL: [Self; 14] = [
        Self::Echo,
        Self::Echo,
        Self::Echo,
        Self::Talker,
        Self::Slow,
        Self::Deaf,
        Self::Mute,
        Self::No,
        Self::Crashing,
        Self::Garbage,
        Self::Flood,
        Self::Late,
        Self::Leaver,
        Self::NoServer,
    ];

    /// Whether a call with it loses nothing of what it is there for.
    pub(super) const fn is_well(self) -> bool {
        matches!(self, Self::Echo)
    }

    /// Whether it can end a call by itself.
    pub(super) const fn hangs_up(self) -> bool {
        matches!(self, Self::Leaver)
    }
}

/// Serves sessions until it is dropped.
pub(super) async fn serve(mut listener: MemoryListener, part: Part) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => match accepted {
                Ok((io, _)) => drop(sessions.spawn(session(io, part))),
                Err(_) => return,
            },
            Some(_) = sessions.join_next() => {}
        }
    }
}

async fn session(io: impl Io, part: Part) {
    if part == Part::NoServer {
        tokio::time::sleep(Duration::from_millis(30)).await;
        return;
    }
    let options = SocketOptions { keepalive: None, burst: u64::MAX, ..SocketOptions::default() };
    let options = SocketOptions { max_message: ringback_module::wire::MAX_BODY, ..options };
    let Ok(mut socket) = socket::answer(io, options).await else { return };
    let mut acting = Acting { part, frames: 0 };
    while let Some(Ok(incoming)) = socket.recv().await {
        if matches!(incoming, Incoming::Close(_)) {
            return socket.close(close_code::NORMAL, "").await;
        }
        let heard = match socket.message(&incoming) {
            Some(Message::Text(text)) => {
                Heard::Message(serde_json::from_str(text).unwrap_or(ToModule::Unknown))
            }
            Some(Message::Binary(octets)) => Heard::Sound(octets.to_vec()),
            None => continue,
        };
        match acting.hear(heard, &mut socket).await {
            Some(true) => {}
            Some(false) => return socket.close(close_code::NORMAL, "").await,
            None => return,
        }
    }
}

enum Heard {
    Message(ToModule),
    Sound(Vec<u8>),
}

struct Acting {
    part: Part,
    frames: u64,
}

impl Acting {
    /// Acts on what came; `false` ends the session, `None` cuts it.
    async fn hear(&mut self, heard: Heard, socket: &mut Socket) -> Option<bool> {
        let part = self.part;
        match heard {
            Heard::Message(ToModule::Start(start)) => {
                match part {
                    Part::Mute => tokio::time::sleep(Duration::from_secs(3_600)).await,
                    Part::Late => tokio::time::sleep(Duration::from_secs(3)).await,
                    _ => {}
                }
                let answer = match part {
                    Part::No => FromModule::Reject(Reject::bad_config("not today")),
                    _ => FromModule::Ready(ready(&start)),
                };
                say(socket, &answer).await?;
                if part == Part::Deaf {
                    tokio::time::sleep(Duration::from_secs(3_600)).await;
                }
            }
            Heard::Message(ToModule::Ping { t }) => say(socket, &FromModule::Pong { t }).await?,
            Heard::Message(ToModule::Stop { .. }) => {
                say(socket, &FromModule::Done { stats: serde_json::Map::default() }).await?;
            }
            Heard::Message(_) => {}
            Heard::Sound(octets) => {
                self.frames += 1;
                return self.sound(&octets, socket).await;
            }
        }
        Some(true)
    }

    async fn sound(&mut self, octets: &[u8], socket: &mut Socket) -> Option<bool> {
        match self.part {
            Part::Slow => tokio::time::sleep(Duration::from_millis(30)).await,
            Part::Crashing if self.frames == 25 => return None,
            Part::Garbage if self.frames == 10 => {
                send(socket, Outgoing::Text("{\"type\":")).await?;
            }
            Part::Leaver if self.frames == 50 => {
                let hangup = serde_json::json!({ "type": "hangup", "reason": "enough" });
                send(socket, Outgoing::Text(&hangup.to_string())).await?;
            }
            Part::Talker => self.talk(socket).await?,
            _ => {}
        }
        let times = if self.part == Part::Flood { 10 } else { 1 };
        for _ in 0..times {
            send(socket, Outgoing::Binary(octets)).await?;
        }
        Some(true)
    }

    async fn talk(&self, socket: &mut Socket) -> Option<()> {
        let n = self.frames;
        if n.is_multiple_of(5) {
            let transcript = Transcript {
                id: format!("u{}", n / 20),
                text: "words ".repeat((n % 20) as usize),
                is_final: n.is_multiple_of(20),
                ..Transcript::default()
            };
            say(socket, &FromModule::Transcript(transcript)).await?;
        }
        if n.is_multiple_of(7) {
            say(socket, &FromModule::Mark { name: format!("m{n}") }).await?;
        }
        if n.is_multiple_of(31) {
            say(socket, &FromModule::Clear { epoch: None }).await?;
        }
        if n.is_multiple_of(11) {
            let (name, data) = (format!("e{n}"), serde_json::json!({ "n": n }));
            say(socket, &FromModule::Event(Event { name, data })).await?;
        }
        Some(())
    }
}

/// It hears and speaks at the call's own rate, or has words only where there is no sound.
fn ready(start: &ringback_module::message::Start) -> Ready {
    let rate = start.native_rate();
    let sound = !start.offer.input.is_empty();
    let speaks = sound && (start.kind == Kind::Filter || !start.offer.output.is_empty());
    Ready {
        session: start.session.clone(),
        accept: Accept {
            input: sound.then(|| AcceptIn::pcm(rate)),
            output: speaks.then(|| AcceptOut::pcm(rate)),
            ..Accept::default()
        },
        ..Ready::default()
    }
}

async fn say(socket: &mut Socket, message: &FromModule) -> Option<()> {
    let text = serde_json::to_string(message).ok()?;
    send(socket, Outgoing::Text(&text)).await
}

async fn send(socket: &mut Socket, message: Outgoing<'_>) -> Option<()> {
    socket.feed(message).ok()?;
    socket.flush().await.ok()
}
