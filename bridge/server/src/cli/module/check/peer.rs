//! The module that is looked at, as a process or a server: frames in and out, each wait with a deadline. Judges nothing itself.

use std::process::Stdio;
use std::time::Duration;

use ringback_module::message::{Accept, Framing, FromModule};
use ringback_module::wire::{self, AudioHeader, FrameKind, FrameReader, STDIO_HEADER, WireError};
use ringback_proto::provider::Message;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::rules::Rules;
use super::{Broken, DEAD};
use crate::module_host::WebSocketSpec;
use crate::socket::wire::Kind;
use crate::socket::{Incoming, Socket, close_code};

/// Frames that wait to be looked at.
const QUEUE: usize = 256;

/// A filter's answer is waited for so long at most.
const BUDGET: Duration = Duration::from_millis(200);

/// What came out of the process.
pub(super) enum Arrived {
    Json {
        slot: u16,
        body: Vec<u8>,
    },
    Sound {
        slot: u16,
        body: Vec<u8>,
    },
    /// What follows cannot be read.
    Broken(WireError),
    /// A connection is over, though the session was not.
    Ended {
        slot: u16,
        reason: String,
    },
}

/// Where the module is.
pub(super) enum Place {
    /// In a process that has to be started, with this command.
    Program(Vec<String>),
    /// At a server that is dialled.
    Server(WebSocketSpec),
}

pub(super) struct Peer {
    reached: Reached,
    arrived: mpsc::Receiver<Arrived>,
    /// The session that is talked to, and another one.
    line: Line,
    other: Line,
    pings: u64,
}

/// The way to it.
enum Reached {
    Process {
        child: Child,
        stdin: Option<ChildStdin>,
    },
    /// Each session is a connection of its own.
    Server {
        spec: WebSocketSpec,
        connections: Vec<mpsc::Sender<(FrameKind, Vec<u8>)>>,
        arrives: mpsc::Sender<Arrived>,
    },
}

/// One session, as it has to be talked to.
struct Line {
    slot: u16,
    accept: Accept,
    /// Position of the next sample.
    pts: u64,
}

impl Line {
    fn new(slot: u16) -> Self {
        Self { slot, accept: Accept::default(), pts: 0 }
    }
}

impl Peer {
    /// Starts it as the bridge does, or dials it; what a process prints to standard error is for its author to see.
    pub(super) async fn reach(place: &Place) -> Result<Self, String> {
        let (arrives, arrived) = mpsc::channel(QUEUE);
        let reached = match place {
            Place::Program(command) => Reached::spawn(command, arrives)?,
            Place::Server(spec) => {
                Reached::Server { spec: spec.clone(), connections: Vec::new(), arrives }
            }
        };
        let (line, other) = (Line::new(1), Line::new(2));
        let mut peer = Self { reached, arrived, line, other, pings: 0 };
        peer.open().await?;
        Ok(peer)
    }

    /// Opens what the session that is talked to needs, if it needs anything of its own.
    pub(super) async fn open(&mut self) -> Result<(), String> {
        let Reached::Server { spec, connections, arrives } = &mut self.reached else {
            return Ok(());
        };
        let socket = timeout(DEAD, spec.open()).await;
        let socket = socket.unwrap_or_else(|_| Err("it does not answer".into()))?;
        let (sender, sends) = mpsc::channel(1);
        tokio::spawn(converse(socket, self.line.slot, sends, arrives.clone()));
        connections.push(sender);
        Ok(())
    }

    /// Cuts all connections, and opens another.
    pub(super) async fn again(&mut self) -> Result<(), String> {
        if let Reached::Server { connections, .. } = &mut self.reached {
            connections.clear();
        }
        self.line = Line::new(1);
        self.open().await
    }

    pub(super) const fn is_server(&self) -> bool {
        matches!(self.reached, Reached::Server { .. })
    }

    /// Sessions that it takes before it has said anything.
    pub(super) const fn takes(&self) -> u32 {
        if self.is_server() { 2 } else { 1 }
    }

    /// Talks to the other session from here on.
    pub(super) fn switch(&mut self) {
        std::mem::swap(&mut self.line, &mut self.other);
    }

    /// Where the session is that is talked to.
    pub(super) const fn slot(&self) -> u16 {
        self.line.slot
    }

    /// Says something to it.
    pub(super) async fn say(
        &mut self,
        rules: &mut Rules,
        slot: u16,
        message: &Value,
    ) -> Result<(), Broken> {
        let mut frame = Vec::new();
        // What is said here is short and JSON to begin with.
        if wire::write_json(slot, message, &mut frame).is_ok() {
            rules.told(message);
            self.write(rules, FrameKind::Json, slot, frame).await?;
        }
        Ok(())
    }

    /// Sound up to `to_ms` after its begin, all at once: as what a module missed while it loaded.
    pub(super) async fn sound(&mut self, rules: &mut Rules, to_ms: u64) -> Result<(), Broken> {
        let Some(input) = self.line.accept.input else { return Ok(()) };
        let per_ms = |ms: u64| ms * u64::from(input.rate) / 1_000;
        let first = rules.resumed_from();
        self.line.pts = self.line.pts.max(per_ms(first));
        let size = per_ms(u64::from(input.frame_ms)).max(1);
        while self.line.pts + size <= per_ms(first + to_ms) {
            // Something that is neither silence nor speech, on and off.
            let sample = |n: u64| {
                if (n / 4_000).is_multiple_of(2) { (n % 36) as i16 * 300 - 5_400 } else { 0 }
            };
            let samples: Vec<_> = (self.line.pts..self.line.pts + size).map(sample).collect();
            let track = self.line.accept.tracks.first().copied().unwrap_or_default();
            let header = AudioHeader { track, pts: self.line.pts, ..AudioHeader::default() };
            let header = (self.line.accept.framing == Framing::Hdr16).then_some(&header);
            let mut frame = Vec::new();
            if wire::write_audio(self.line.slot, header, input.encoding, &samples, &mut frame)
                .is_err()
            {
                rules.wrong(format!(
                    "wants frames of {} ms, which no message holds",
                    input.frame_ms
                ));
                return Err(Broken);
            }
            self.line.pts += size;
            rules.sent_ms = self.line.pts * 1_000 / u64::from(input.rate);
            self.write(rules, FrameKind::Audio, self.line.slot, frame).await?;
        }
        Ok(())
    }

    /// All sound that was sent is answered with as much, and the next frame within the time that a filter has.
    pub(super) async fn answers(&mut self, rules: &mut Rules) -> Result<(), Broken> {
        self.answered(rules).await?;
        let began = Instant::now();
        let next = self.line.accept.input.map_or(20, |input| u64::from(input.frame_ms));
        self.sound(rules, rules.sent_ms + next).await?;
        self.answered(rules).await?;
        let took = began.elapsed();
        let verdict = if took > BUDGET { Rules::wrong } else { Rules::well };
        let (took, most) = (took.as_millis(), BUDGET.as_millis());
        verdict(
            rules,
            format!(
                "answers a frame after {took} ms; `budget` says how long that may take, 20 ms or else up to {most}"
            ),
        );
        Ok(())
    }

    async fn answered(&mut self, rules: &mut Rules) -> Result<(), Broken> {
        let deadline = Instant::now() + DEAD;
        while rules.answered < self.line.pts {
            let Ok(Some(arrived)) = timeout_at(deadline, self.arrived.recv()).await else {
                let (answered, sent) = (rules.answered, self.line.pts);
                rules.wrong(format!("answers {answered} of {sent} samples; a filter answers each frame with one as long"));
                return Err(Broken);
            };
            rules.look(arrived)?;
        }
        Ok(())
    }

    /// Asks whether it is there.
    pub(super) async fn ping(&mut self, rules: &mut Rules, slot: u16) -> Result<(), Broken> {
        self.pings += 1;
        let t = self.pings;
        // A connection is for one session, and there is nobody else to be asked.
        let slot = if self.is_server() { self.line.slot } else { slot };
        rules.pinged = slot;
        self.say(rules, slot, &json!({ "type": "ping", "t": t })).await?;
        let is_it = |message: &FromModule| matches!(message, FromModule::Pong { t: answered } if *answered == t);
        self.until(rules, DEAD, "`pong` with the `t` of `ping`, also while it is busy", is_it)
            .await?;
        Ok(())
    }

    /// Looks at what comes until `wanted` does.
    pub(super) async fn until(
        &mut self,
        rules: &mut Rules,
        within: Duration,
        what: &str,
        wanted: impl Fn(&FromModule) -> bool,
    ) -> Result<FromModule, Broken> {
        let began = Instant::now();
        loop {
            match timeout_at(began + within, self.arrived.recv()).await {
                Ok(Some(arrived)) => {
                    let Some(message) = rules.look(arrived)? else { continue };
                    if let FromModule::Ready(ready) = &message {
                        self.line.accept = ready.accept.clone();
                    }
                    if wanted(&message) {
                        rules.well(format!("{what}, after {} ms", began.elapsed().as_millis()));
                        return Ok(message);
                    }
                }
                Ok(None) => {
                    rules
                        .wrong(format!("ended before it said {what}; what it printed may say why"));
                    return Err(Broken);
                }
                Err(_) => {
                    rules.wrong(format!("no {what} within {} ms", within.as_millis()));
                    return Err(Broken);
                }
            }
        }
    }

    /// Closes a process's input and waits for its end: its exit code, none after a signal; nothing if it stays.
    pub(super) async fn close(
        &mut self,
        rules: &mut Rules,
        within: Duration,
    ) -> Option<Option<i32>> {
        let Reached::Process { child, stdin } = &mut self.reached else { return None };
        *stdin = None;
        let deadline = Instant::now() + within;
        while let Ok(Some(arrived)) = timeout_at(deadline, self.arrived.recv()).await {
            if rules.look(arrived).is_err() {
                break;
            }
        }
        let status = timeout_at(deadline, child.wait()).await.ok()?.ok()?;
        Some(status.code())
    }

    /// Nothing is left of it.
    pub(super) async fn end(&mut self) {
        match &mut self.reached {
            Reached::Process { child, .. } => drop(child.kill().await),
            Reached::Server { connections, .. } => connections.clear(),
        }
    }

    /// Writes, and looks at what comes meanwhile: a module that cannot get rid of its answers takes nothing more.
    async fn write(
        &mut self,
        rules: &mut Rules,
        kind: FrameKind,
        slot: u16,
        frame: Vec<u8>,
    ) -> Result<(), Broken> {
        let write = async {
            match &mut self.reached {
                Reached::Process { stdin, .. } => match stdin {
                    Some(stdin) => stdin.write_all(&frame).await.is_ok(),
                    None => false,
                },
                Reached::Server { connections, .. } => {
                    // What is for the process goes to the first.
                    let connection = connections.get(usize::from(slot.max(1)) - 1);
                    let body = frame[STDIO_HEADER..].to_vec();
                    match connection {
                        Some(connection) => connection.send((kind, body)).await.is_ok(),
                        None => false,
                    }
                }
            }
        };
        let mut write = std::pin::pin!(timeout(DEAD, write));
        let written = loop {
            tokio::select! {
                biased;
                written = &mut write => break written,
                Some(arrived) = self.arrived.recv() => {
                    rules.look(arrived)?;
                }
            }
        };
        match written {
            Ok(true) => Ok(()),
            Ok(false) => {
                // A server has said why, if it said anything.
                while let Ok(arrived) = self.arrived.try_recv() {
                    rules.look(arrived)?;
                }
                rules.wrong("closed its input, or ended, in the middle of the session; what it printed may say why");
                Err(Broken)
            }
            Err(_) => {
                rules.wrong(format!("takes nothing off its input for {} ms: read on one thread and compute on another", DEAD.as_millis()));
                Err(Broken)
            }
        }
    }
}

impl Reached {
    fn spawn(command: &[String], arrives: mpsc::Sender<Arrived>) -> Result<Self, String> {
        let (program, arguments) = command.split_first().ok_or("the command is empty")?;
        let mut child = Command::new(program)
            .args(arguments)
            .env("RINGBACK_STDIO", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start {program}: {error}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("it has no standard output")?;
        tokio::spawn(read(stdout, arrives));
        Ok(Self::Process { child, stdin })
    }
}

/// One session with a server, until either goes.
async fn converse(
    mut socket: Socket,
    slot: u16,
    mut sends: mpsc::Receiver<(FrameKind, Vec<u8>)>,
    arrives: mpsc::Sender<Arrived>,
) {
    loop {
        tokio::select! {
            send = sends.recv() => {
                let Some((kind, body)) = send else { break };
                let kind = match kind {
                    FrameKind::Json => Kind::Text,
                    FrameKind::Audio => Kind::Binary,
                };
                let fed = socket.feed_octets(kind, &body);
                if fed.is_err() || socket.flush().await.is_err() {
                    return;
                }
            }
            came = socket.recv() => {
                let ended = match came {
                    Some(Ok(Incoming::Close(closed))) => {
                        closed.map_or_else(|| "closed".into(), |closed| {
                            format!("closed with {} {}", closed.code, closed.reason)
                        })
                    }
                    Some(Ok(came)) => {
                        let arrived = match socket.message(&came) {
                            Some(Message::Text(text)) => {
                                Arrived::Json { slot, body: text.as_bytes().to_vec() }
                            }
                            Some(Message::Binary(body)) => {
                                Arrived::Sound { slot, body: body.to_vec() }
                            }
                            None => continue,
                        };
                        if arrives.send(arrived).await.is_err() {
                            break;
                        }
                        continue;
                    }
                    Some(Err(error)) => error.to_string(),
                    None => "cut".into(),
                };
                let _ = arrives.send(Arrived::Ended { slot, reason: ended }).await;
                break;
            }
        }
    }
    socket.close(close_code::NORMAL, "").await;
}

/// Cuts what it says into frames, to the end.
async fn read(mut stdout: ChildStdout, sender: mpsc::Sender<Arrived>) {
    let mut frames = FrameReader::new();
    let mut piece = vec![0; 65_536];
    while let Ok(len @ 1..) = stdout.read(&mut piece).await {
        frames.push(&piece[..len]);
        loop {
            let arrived = match frames.next_frame() {
                Ok(Some(frame)) => {
                    let (slot, body) = (frame.slot, frame.body.to_vec());
                    match frame.kind {
                        FrameKind::Json => Arrived::Json { slot, body },
                        FrameKind::Audio => Arrived::Sound { slot, body },
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    let _ = sender.send(Arrived::Broken(error)).await;
                    return;
                }
            };
            if sender.send(arrived).await.is_err() {
                return;
            }
        }
    }
    if let Err(error) = frames.finish() {
        let _ = sender.send(Arrived::Broken(error)).await;
    }
}
