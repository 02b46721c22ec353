//! The module that is looked at, as a process: frames in and out, each wait with a deadline. Judges nothing itself.

use std::process::Stdio;
use std::time::Duration;

use ringback_module::message::{Accept, Framing, FromModule};
use ringback_module::wire::{self, AudioHeader, FrameKind, FrameReader, WireError};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::rules::Rules;
use super::{Broken, DEAD};

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
}

pub(super) struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    arrived: mpsc::Receiver<Arrived>,
    /// The session that is talked to, and another one.
    line: Line,
    other: Line,
    pings: u64,
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
    /// Starts it as the bridge does; what it prints to standard error is for its author to see.
    pub(super) fn spawn(command: &[String]) -> Result<Self, String> {
        let (program, arguments) = command.split_first().ok_or("the command is empty")?;
        let mut child = Command::new(program)
            .args(arguments)
            .env("RINGBACK_STDIO", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start {program}: {error}"))?;
        let (sender, arrived) = mpsc::channel(QUEUE);
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("it has no standard output")?;
        tokio::spawn(read(stdout, sender));
        let (line, other) = (Line::new(1), Line::new(2));
        Ok(Self { child, stdin, arrived, line, other, pings: 0 })
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
            self.write(rules, &frame).await?;
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
            self.write(rules, &frame).await?;
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

    /// Closes its input and waits for its end: its exit code, none after a signal; nothing if it stays.
    pub(super) async fn close(
        &mut self,
        rules: &mut Rules,
        within: Duration,
    ) -> Option<Option<i32>> {
        self.stdin = None;
        let deadline = Instant::now() + within;
        while let Ok(Some(arrived)) = timeout_at(deadline, self.arrived.recv()).await {
            if rules.look(arrived).is_err() {
                break;
            }
        }
        let status = timeout_at(deadline, self.child.wait()).await.ok()?.ok()?;
        Some(status.code())
    }

    /// Nothing is left of it.
    pub(super) async fn end(&mut self) {
        let _ = self.child.kill().await;
    }

    /// Writes, and looks at what comes meanwhile: a module that cannot get rid of its answers takes nothing more.
    async fn write(&mut self, rules: &mut Rules, frame: &[u8]) -> Result<(), Broken> {
        let Some(stdin) = &mut self.stdin else { return Err(Broken) };
        let mut write = std::pin::pin!(timeout(DEAD, stdin.write_all(frame)));
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
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => {
                rules.wrong("closed its standard input, or ended, in the middle of the session; what it printed may say why");
                Err(Broken)
            }
            Err(_) => {
                rules.wrong(format!("takes nothing off its standard input for {} ms: read on one thread and compute on another", DEAD.as_millis()));
                Err(Broken)
            }
        }
    }
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
