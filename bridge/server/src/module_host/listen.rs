//! What one child process says: its stdout to events for the call. Writes nothing to the process.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use ringback_module::VERSION;
use ringback_module::message::{AcceptOut, Framing, FromModule, Ready, Register};
use ringback_module::wire::{self, AudioHeader, FrameKind, FrameReader};
use tokio::io::AsyncReadExt;
use tokio::process::ChildStdout;

use super::FromHost;
use super::flood::{MessageBucket, SoundBucket, Verdict};
use super::process::{End, Outcome, Process, SLOT};
use crate::telemetry::PeerText;

/// Octets read at once.
const PIECE: usize = 16 * 1024;
/// Characters of a message that was not understood that go into the log.
const MAX_QUOTE: usize = 200;

pub(super) struct Listener<'a> {
    process: &'a Process<'a>,
    stdout: ChildStdout,
    messages: MessageBucket,
    /// Samples left out since the last that were let through or reported.
    dropped: u64,
}

impl<'a> Listener<'a> {
    pub(super) fn new(process: &'a Process<'a>, stdout: ChildStdout) -> Self {
        let messages = MessageBucket::new(process.clock.now().since_epoch());
        Self { process, stdout, messages, dropped: 0 }
    }

    pub(super) async fn run(mut self) -> Outcome {
        let mut frames = FrameReader::new();
        let mut piece = vec![0; PIECE];
        loop {
            let len = match self.stdout.read(&mut piece).await {
                Ok(0) => return Outcome::Exited,
                Ok(len) => len,
                Err(error) => return failed(format!("its stdout cannot be read: {error}")),
            };
            self.process.seen_alive();
            frames.push(&piece[..len]);
            loop {
                let heard = match frames.next_frame() {
                    Ok(Some(frame)) => self.frame(frame),
                    Ok(None) => break,
                    Err(error) => return failed(format!("does not speak ringback.v1: {error}")),
                };
                let outcome = match heard {
                    Ok(heard) => self.pass_on(heard).await,
                    Err(outcome) => Err(outcome),
                };
                if let Err(outcome) = outcome {
                    return outcome;
                }
            }
        }
    }

    fn frame(&mut self, frame: wire::Frame<'_>) -> Result<Heard, Outcome> {
        if frame.slot != 0 && frame.slot != SLOT {
            let slot = frame.slot;
            return Err(failed(format!("sent a frame for slot {slot}, but only {SLOT} is open")));
        }
        match frame.kind {
            FrameKind::Audio => self.audio(frame.body),
            FrameKind::Json => self.message(frame.body),
        }
    }

    fn message(&self, body: &[u8]) -> Result<Heard, Outcome> {
        match serde_json::from_slice(body) {
            Ok(FromModule::Register(register)) => registered(&register).map(|()| Heard::Nothing),
            Ok(FromModule::Ready(ready)) => self.ready(ready),
            Ok(FromModule::Reject(reject)) => Err(Outcome::End(End::Rejected(reject))),
            Ok(FromModule::Pong { .. } | FromModule::Unknown) => Ok(Heard::Nothing),
            Ok(message) => Ok(Heard::Message(message)),
            Err(error) if error.is_data() && self.process.ready.get().is_some() => {
                let name = &self.process.spec.name;
                let what = format!("{error}: {}", quote(body));
                tracing::warn!(module = %name, "message not understood: {}", PeerText(&what));
                Ok(Heard::Nothing)
            }
            Err(error) => Err(failed(format!("message not understood: {error}: {}", quote(body)))),
        }
    }

    fn ready(&self, ready: Ready) -> Result<Heard, Outcome> {
        if let Some(AcceptOut { rate, .. }) = ready.accept.output {
            let out_ms = self.process.start.credit.out_ms;
            let now = self.process.clock.now().since_epoch();
            *self.process.sound.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(SoundBucket::new(rate, out_ms, now));
        }
        match self.process.ready.set(ready.clone()) {
            Ok(()) => Ok(Heard::Event(FromHost::Ready(ready))),
            Err(_) => Err(failed("was ready twice")),
        }
    }

    fn audio(&mut self, body: &[u8]) -> Result<Heard, Outcome> {
        let accept = self.process.ready.get().map(|ready| &ready.accept);
        let Some((format, framing)) = accept.and_then(|a| Some((a.output?, a.framing))) else {
            return Err(failed("sent sound without `accept.out` in a `ready` before it"));
        };
        let (epoch, octets) = match framing {
            Framing::Raw => (None, body),
            Framing::Hdr16 => {
                let (header, octets) =
                    AudioHeader::decode(body).map_err(|e| failed(e.to_string()))?;
                (Some(header.epoch), octets)
            }
        };
        let mut samples = Vec::new();
        wire::decode_samples(format.encoding, octets, &mut samples)
            .map_err(|e| failed(e.to_string()))?;
        let (len, now) = (samples.len() as u64, self.process.clock.now().since_epoch());
        let verdict = match &mut *self.process.sound.lock().unwrap_or_else(PoisonError::into_inner)
        {
            Some(sound) => sound.take(len, now),
            None => Verdict::Pass,
        };
        match verdict {
            Verdict::Pass => Ok(Heard::Event(FromHost::Audio { epoch, samples })),
            Verdict::Drop => Ok(Heard::Dropped { len, report_over: u64::from(format.rate) }),
            Verdict::Kill => Err(failed("sends sound without end and far beyond its credit")),
        }
    }

    async fn pass_on(&mut self, heard: Heard) -> Result<(), Outcome> {
        match heard {
            Heard::Nothing => self.throttle().await,
            Heard::Dropped { len, report_over } => {
                if self.dropped == 0 {
                    let name = &self.process.spec.name;
                    tracing::warn!(module = %name, "sends more sound than its credit; the newest is dropped");
                }
                self.dropped += len;
                if self.dropped >= report_over {
                    self.report_dropped().await?;
                }
            }
            Heard::Event(event) => {
                self.report_dropped().await?;
                self.send(event).await?;
            }
            Heard::Message(message) => {
                self.throttle().await;
                self.report_dropped().await?;
                let over = match &message {
                    FromModule::Done { .. } => Some(None),
                    FromModule::Error(error) if error.fatal => {
                        Some(Some(format!("{}: {}", error.code, error.message)))
                    }
                    _ => None,
                };
                self.send(FromHost::Message(message)).await?;
                if let Some(reason) = over {
                    return Err(Outcome::End(End::Over(reason)));
                }
            }
        }
        Ok(())
    }

    async fn report_dropped(&mut self) -> Result<(), Outcome> {
        match std::mem::take(&mut self.dropped) {
            0 => Ok(()),
            samples => self.send(FromHost::Dropped { samples }).await,
        }
    }

    /// A module that talks faster than anybody listens is read more slowly.
    async fn throttle(&mut self) {
        let pause = self.messages.take(self.process.clock.now().since_epoch());
        if !pause.is_zero() {
            self.process.held_up.store(true, Ordering::Relaxed);
            tokio::time::sleep(pause).await;
            self.process.held_up.store(false, Ordering::Relaxed);
        }
    }

    /// Waits for the call if it has to; the process is not to blame for that.
    async fn send(&self, event: FromHost) -> Result<(), Outcome> {
        self.process.held_up.store(true, Ordering::Relaxed);
        let sent = self.process.from.send(event).await;
        self.process.held_up.store(false, Ordering::Relaxed);
        sent.map_err(|_| Outcome::End(End::Abandoned))
    }
}

/// What a frame comes to.
enum Heard {
    Nothing,
    Event(FromHost),
    Message(FromModule),
    Dropped { len: u64, report_over: u64 },
}

fn failed(reason: impl Into<String>) -> Outcome {
    Outcome::End(End::Failed(reason.into()))
}

fn registered(register: &Register) -> Result<(), Outcome> {
    if register.v.is_empty() || register.v.contains(&VERSION) {
        return Ok(());
    }
    let (module, v) = (&register.module, &register.v);
    let reason = format!("{module} speaks versions {v:?} of the contract, not {VERSION}");
    Err(Outcome::End(End::Over(Some(reason))))
}

fn quote(body: &[u8]) -> String {
    String::from_utf8_lossy(body).escape_debug().take(MAX_QUOTE).collect()
}
