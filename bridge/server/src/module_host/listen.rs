//! What a module says: its frames to events for the call. Reads no stream and says nothing to the module.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use ringback_module::VERSION;
use ringback_module::message::{AcceptOut, Framing, FromModule, Kind, Ready, Register};
use ringback_module::wire::{self, AudioHeader, FrameKind};
use ringback_proto::ledger::Drop;

use super::FromHost;
use super::flood::{MessageBucket, SoundBucket, Verdict};
use super::talk::{End, Talk};
use crate::telemetry::PeerText;

/// Characters of a message that was not understood that go into the log.
const MAX_QUOTE: usize = 200;

pub(super) struct Listener<'a> {
    talk: &'a Talk<'a>,
    messages: MessageBucket,
    /// Samples left out since the last that were let through or reported.
    dropped: u64,
}

impl<'a> Listener<'a> {
    pub(super) fn new(talk: &'a Talk<'a>) -> Self {
        let messages = MessageBucket::new(talk.clock.now().since_epoch());
        Self { talk, messages, dropped: 0 }
    }

    /// What a frame of the session comes to, or the end of its module.
    pub(super) fn frame(&mut self, kind: FrameKind, body: &[u8]) -> Result<Heard, End> {
        match kind {
            FrameKind::Audio => self.audio(body),
            FrameKind::Json => self.message(body),
        }
    }

    fn message(&self, body: &[u8]) -> Result<Heard, End> {
        match serde_json::from_slice(body) {
            Ok(FromModule::Register(register)) => registered(&register).map(|()| Heard::Nothing),
            Ok(FromModule::Ready(ready)) => self.ready(ready),
            Ok(FromModule::Reject(reject)) => Err(End::Rejected(reject)),
            Ok(FromModule::Pong { .. } | FromModule::Unknown) => Ok(Heard::Nothing),
            Ok(message) => Ok(Heard::Message(message)),
            Err(error) if error.is_data() && self.talk.ready.get().is_some() => {
                let name = self.talk.name;
                let what = format!("{error}: {}", quote(body));
                tracing::warn!(module = %name, "message not understood: {}", PeerText(&what));
                Ok(Heard::Nothing)
            }
            Err(error) => {
                Err(End::failed(format!("message not understood: {error}: {}", quote(body))))
            }
        }
    }

    fn ready(&self, ready: Ready) -> Result<Heard, End> {
        if let Some(AcceptOut { rate, .. }) = ready.accept.output {
            let out_ms = self.talk.start.credit.out_ms;
            let now = self.talk.clock.now().since_epoch();
            *self.talk.sound.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(SoundBucket::new(rate, out_ms, now));
        }
        match self.talk.ready.set(ready.clone()) {
            Ok(()) => Ok(Heard::Event(FromHost::Ready(ready))),
            Err(_) => Err(End::failed("was ready twice")),
        }
    }

    fn audio(&mut self, body: &[u8]) -> Result<Heard, End> {
        let accept = self.talk.ready.get().map(|ready| &ready.accept);
        let Some((format, framing)) = accept.and_then(|a| Some((a.output?, a.framing))) else {
            return Err(End::failed("sent sound without `accept.out` in a `ready` before it"));
        };
        let (header, octets) = match framing {
            Framing::Raw => (None, body),
            Framing::Hdr16 => {
                let (header, octets) =
                    AudioHeader::decode(body).map_err(|e| End::failed(e.to_string()))?;
                (Some(header), octets)
            }
        };
        let mut samples = Vec::new();
        wire::decode_samples(format.encoding, octets, &mut samples)
            .map_err(|e| End::failed(e.to_string()))?;
        let (len, now) = (samples.len() as u64, self.talk.clock.now().since_epoch());
        let verdict = match &mut *self.talk.sound.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(sound) => sound.take(len, now),
            None => Verdict::Pass,
        };
        match verdict {
            Verdict::Pass if self.talk.start.kind == Kind::Filter => {
                let pts = header.map(|header| header.pts);
                Ok(Heard::Event(FromHost::Frame { pts, samples }))
            }
            Verdict::Pass => {
                let epoch = header.map(|header| header.epoch);
                Ok(Heard::Event(FromHost::Audio { epoch, samples }))
            }
            Verdict::Drop => Ok(Heard::Dropped { len, report_over: u64::from(format.rate) }),
            Verdict::Kill => Err(End::failed("sends sound without end and far beyond its credit")),
        }
    }

    /// Tells the call, and waits for it if it has to.
    pub(super) async fn pass_on(&mut self, heard: Heard) -> Result<(), End> {
        match heard {
            Heard::Nothing => self.throttle().await,
            Heard::Dropped { len, report_over } => {
                if self.dropped == 0 {
                    let name = self.talk.name;
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
                    return Err(End::Over(reason));
                }
            }
        }
        Ok(())
    }

    async fn report_dropped(&mut self) -> Result<(), End> {
        match std::mem::take(&mut self.dropped) {
            0 => Ok(()),
            samples => self.send(FromHost::Dropped { reason: Drop::Overflow, samples }).await,
        }
    }

    /// A module that talks faster than anybody listens is read more slowly.
    async fn throttle(&mut self) {
        let pause = self.messages.take(self.talk.clock.now().since_epoch());
        if !pause.is_zero() {
            self.talk.held_up.store(true, Ordering::Relaxed);
            tokio::time::sleep(pause).await;
            self.talk.held_up.store(false, Ordering::Relaxed);
        }
    }

    /// Waits for the call if it has to; the module is not to blame for that.
    async fn send(&self, event: FromHost) -> Result<(), End> {
        self.talk.held_up.store(true, Ordering::Relaxed);
        let sent = self.talk.from.send(event).await;
        self.talk.held_up.store(false, Ordering::Relaxed);
        sent.map_err(|_| End::Abandoned)
    }
}

/// What a frame comes to.
pub(super) enum Heard {
    Nothing,
    Event(FromHost),
    Message(FromModule),
    Dropped { len: u64, report_over: u64 },
}

pub(super) fn registered(register: &Register) -> Result<(), End> {
    if register.v.is_empty() || register.v.contains(&VERSION) {
        return Ok(());
    }
    let (module, v) = (&register.module, &register.v);
    let reason = format!("{module} speaks versions {v:?} of the contract, not {VERSION}");
    Err(End::Over(Some(reason)))
}

pub(super) fn quote(body: &[u8]) -> String {
    String::from_utf8_lossy(body).escape_debug().take(MAX_QUOTE).collect()
}
