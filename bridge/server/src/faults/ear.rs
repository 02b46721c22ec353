//! A module that counts: hears the numbers in the sound it is given, over one WebSocket for each session, and acknowledges them.
//! Answers nothing that a caller would hear.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ringback_codecs::{Encoding, Endian, MediaFormat, SampleRate};
use ringback_module::message::{Accept, AcceptIn, AcceptOut, Ready, Reject, Start};
use ringback_module::{FromModule, Input, Module, ModuleError, Outputs, ToModule};
use ringback_proto::provider::Message;
use tokio::net::{TcpListener, TcpStream};

use crate::bench::{Heard, Hearing, Stamp};
use crate::socket::{self, Incoming, Outgoing, Socket, SocketOptions, close_code};

const RATE: u32 = 8_000;

/// What one session heard, over all its connections.
#[derive(Debug, Clone, Default)]
pub(super) struct Session {
    /// How often each number came.
    pub(super) frames: Vec<u32>,
    pub(super) strangers: u64,
    pub(super) connections: u32,
    /// What it was told is gone, in ms.
    pub(super) gaps_ms: u64,
    /// Of that, what nothing was heard behind.
    pub(super) last_gaps_ms: u64,
    /// In so many pieces.
    pub(super) gaps: u32,
    /// Samples of the call that it has heard, or was told are gone.
    until: u64,
    /// Samples that came again after a connection broke, and that it left out: it had not acknowledged them in time.
    pub(super) replayed: u64,
}

impl Session {
    /// Numbers that came at all.
    pub(super) fn heard(&self) -> u64 {
        self.frames.iter().filter(|&&times| times > 0).count() as u64
    }

    fn gap(&mut self, ms: u64) {
        self.gaps_ms += ms;
        self.last_gaps_ms += ms;
        self.gaps += 1;
    }

    /// Numbers that came again.
    pub(super) fn twice(&self) -> u64 {
        self.frames.iter().map(|&times| u64::from(times.saturating_sub(1))).sum()
    }
}

type Sessions = Arc<Mutex<HashMap<String, Session>>>;

/// The module's server.
pub(super) struct Ear {
    pub(super) address: SocketAddr,
    sessions: Sessions,
    serving: tokio::task::JoinHandle<()>,
}

impl Ear {
    /// Starts it on a free port.
    pub(super) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, sessions) = (listener.local_addr()?, Sessions::default());
        let all = Arc::clone(&sessions);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&all)));
            }
        });
        Ok(Self { address, sessions, serving })
    }

    /// What all sessions heard.
    pub(super) fn sessions(&self) -> Vec<Session> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.values().cloned().collect()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// It listens, and does not speak.
fn ready(start: &Start) -> Ready {
    let accept = Accept { input: Some(AcceptIn::pcm(RATE)), ..Accept::default() };
    Ready { session: start.session.clone(), accept, ..Ready::default() }
}

/// What a module does that is a child process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Acts {
    /// Listens, until the bridge ends it.
    Idle,
    /// After a second tells 10,000 events with each frame.
    Babbles,
    /// After a second plays ten seconds with each frame.
    Floods,
}

/// Is a child process that acts so.
pub fn be_module(acts: Acts) -> std::process::ExitCode {
    ringback_module::stdio::run("ear", move || Box::new(Acting { acts, frames: 0 }))
}

/// Frames that each takes in as a good module does.
const QUIET: u32 = 50;

/// A module that takes everything in, and may have much to say to it.
struct Acting {
    acts: Acts,
    frames: u32,
}

impl Module for Acting {
    fn start(&mut self, start: &Start) -> Result<Ready, Reject> {
        let mut ready = ready(start);
        if self.acts == Acts::Floods {
            ready.accept.output = Some(AcceptOut::pcm(RATE));
        }
        Ok(ready)
    }

    fn process(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), ModuleError> {
        self.frames += u32::from(matches!(input, Input::Audio(_)));
        match self.acts {
            Acts::Babbles if self.frames > QUIET => {
                (0..10_000).for_each(|number| out.event("babble", number.into()));
            }
            Acts::Floods if self.frames > QUIET => {
                (0..10).for_each(|_| out.play(&[0; RATE as usize]));
            }
            _ => {}
        }
        Ok(())
    }
}

/// One connection.
struct Listening {
    socket: Socket,
    sessions: Sessions,
    name: String,
    stamp: Stamp,
    hearing: Hearing,
    /// Samples of this call so far.
    position: u64,
    acked_ms: u64,
}

async fn serve(stream: TcpStream, sessions: Sessions) {
    // Small messages both ways; where the system refuses, they are a little later.
    let _ = stream.set_nodelay(true);
    let rate = SampleRate::HZ_8000;
    let stamp = Stamp::new(MediaFormat::mono(Encoding::L16(Endian::Little), rate));
    let Ok(socket) = socket::answer(stream, SocketOptions::default()).await else { return };
    let Some(stamp) = stamp else { return };
    let (name, hearing) = (String::new(), Hearing::default());
    let mut line = Listening { socket, sessions, name, stamp, hearing, position: 0, acked_ms: 0 };
    while let Some(Ok(incoming)) = line.socket.recv().await {
        if matches!(incoming, Incoming::Close(_)) {
            break;
        }
        let Some(answer) = line.take(&incoming) else { continue };
        let Ok(json) = serde_json::to_string(&answer) else { return };
        if line.socket.send(Outgoing::Text(&json)).await.is_err() {
            return;
        }
    }
    line.socket.close(close_code::NORMAL, "").await;
}

impl Listening {
    /// Takes a message in; what is answered, if anything.
    fn take(&mut self, incoming: &Incoming) -> Option<FromModule> {
        match self.socket.message(incoming)? {
            Message::Text(text) => {
                let message = serde_json::from_str(text).ok()?;
                self.told(message)
            }
            Message::Binary(octets) => {
                let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
                let session = sessions.entry(self.name.clone()).or_default();
                let (begin, samples) = (self.position, octets.len() as u64 / 2);
                self.position += samples;
                let known = session.until.saturating_sub(begin).min(samples);
                session.replayed += known;
                session.until = session.until.max(self.position);
                let octets = octets.get(known as usize * 2..).unwrap_or_default();
                self.hearing.hear(&self.stamp, 0, octets, |heard| match heard {
                    Heard::Frame(number) => {
                        let number = number as usize;
                        if session.frames.len() <= number {
                            session.frames.resize(number + 1, 0);
                        }
                        session.frames[number] += 1;
                        session.last_gaps_ms = 0;
                    }
                    Heard::Stranger => session.strangers += 1,
                });
                let in_ms = self.position * 1_000 / u64::from(RATE);
                (in_ms >= self.acked_ms + 20).then(|| {
                    self.acked_ms = in_ms;
                    FromModule::Ack { in_ms, lag_ms: None }
                })
            }
        }
    }

    fn told(&mut self, message: ToModule) -> Option<FromModule> {
        match message {
            ToModule::Start(start) => {
                self.name.clone_from(&start.session);
                let from_ms = start.resume.as_ref().map_or(0, |resume| resume.from_ms);
                self.position = from_ms * u64::from(RATE) / 1_000;
                self.acked_ms = from_ms;
                let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
                let session = sessions.entry(self.name.clone()).or_default();
                session.connections += 1;
                Some(FromModule::Ready(ready(&start)))
            }
            ToModule::Gap(gap) => {
                let ms = gap.to_ms.saturating_sub(gap.from_ms);
                // One that tells of an outage ends where the sound goes on.
                self.position = self.position.max(gap.to_ms * u64::from(RATE) / 1_000);
                self.hearing = Hearing::default();
                let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
                let session = sessions.entry(self.name.clone()).or_default();
                session.gap(ms);
                session.until = session.until.max(self.position);
                None
            }
            ToModule::Ping { t } => Some(FromModule::Pong { t }),
            ToModule::Stop { .. } => Some(FromModule::Done { stats: serde_json::Map::new() }),
            _ => None,
        }
    }
}
