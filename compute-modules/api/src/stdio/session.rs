//! One session of a module process: octets to [`Module`] calls and its answers back to octets, on a thread of its own.

use std::any::Any;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

use super::{Output, StdioError};
use crate::epoch::Epochs;
use crate::message::{
    Accept, AcceptIn, AcceptOut, ErrorReport, Framing, FromModule, Kind, Start, StopReason,
    ToModule,
};
use crate::module::Output as Answer;
use crate::wire::{self, AudioHeader};
use crate::{AudioFrame, FrameFlags, Input, Module, ModuleError, Outputs};

/// The agent's track, which all sound of a module goes to.
const AGENT_TRACK: u16 = 1;

/// What the reader hands to a session.
pub(super) enum Work {
    Message(ToModule),
    Audio(Vec<u8>),
    Stop(StopReason),
}

/// Why a session ends before `stop`.
enum End {
    /// The module, or what it was sent, is at fault: the bridge is told.
    Failed(ModuleError),
    /// The module said no; the bridge has been told.
    Rejected,
    /// Nobody is left to tell.
    Disconnected,
}

impl From<ModuleError> for End {
    fn from(error: ModuleError) -> Self {
        Self::Failed(error)
    }
}

impl From<StdioError> for End {
    fn from(error: StdioError) -> Self {
        match error {
            StdioError::Wire(error) => {
                Self::Failed(ModuleError::new("wire", format!("message cannot be sent: {error}")))
            }
            StdioError::Read(_) | StdioError::Write(_) => Self::Disconnected,
        }
    }
}

pub(super) struct Session<W> {
    slot: u16,
    module: Box<dyn Module>,
    out: Output<W>,
    /// Set before the last message, so that the slot is free when the bridge reads it.
    over: Arc<AtomicBool>,
    accept: Accept,
    /// Whether each frame is answered with one, which has its position.
    filters: bool,
    /// Position of the next sample.
    heard: u64,
    samples: Vec<i16>,
    answers: Outputs,
    speech: Speech,
}

/// Where in its epoch the module's sound is.
#[derive(Default)]
struct Speech {
    epochs: Epochs,
    /// Epoch last told to the bridge; both sides start at that of `start`.
    announced: u32,
    /// Samples spoken in it; of a filter, the position of the next.
    spoken: u64,
}

impl<W: Write> Session<W> {
    pub(super) fn new(
        slot: u16,
        module: Box<dyn Module>,
        out: Output<W>,
        over: Arc<AtomicBool>,
    ) -> Self {
        Self {
            slot,
            module,
            out,
            over,
            accept: Accept::default(),
            filters: false,
            heard: 0,
            samples: Vec::new(),
            answers: Outputs::new(),
            speech: Speech::default(),
        }
    }

    /// Serves until `stop`, an error, or the end of the process; a panic of the module ends only this session.
    pub(super) fn run(mut self, start: &Start, todo: &Receiver<Work>) {
        let served = catch_unwind(AssertUnwindSafe(|| self.serve(start, todo)));
        let over = Arc::clone(&self.over);
        let (slot, out) = (self.slot, self.out.clone());
        // The module's own drop may panic too; its session is over then anyway.
        let dropped = catch_unwind(AssertUnwindSafe(move || drop(self)));
        let last = match (served, dropped) {
            (Err(panic), _) | (Ok(Ok(_)), Err(panic)) => fatal("panic", panic_text(&*panic)),
            (Ok(Err(End::Failed(error))), _) => fatal(error.code, &error.message),
            (Ok(Ok(())), Ok(())) => FromModule::Done { stats: serde_json::Map::new() },
            (Ok(Err(End::Rejected | End::Disconnected)), _) => {
                over.store(true, Ordering::Release);
                return;
            }
        };
        over.store(true, Ordering::Release);
        if let Err(error) = out.message(slot, &last) {
            eprintln!("session in slot {slot} ended unheard: {error}");
        }
    }

    fn serve(&mut self, start: &Start, todo: &Receiver<Work>) -> Result<(), End> {
        self.start(start)?;
        loop {
            match todo.recv() {
                Ok(Work::Audio(body)) => self.audio(&body)?,
                Ok(Work::Message(message)) => self.message(&message)?,
                Ok(Work::Stop(reason)) => {
                    self.module.stop(reason, &mut self.answers);
                    self.flush()?;
                    return Ok(());
                }
                Err(_) => {
                    self.module.stop(StopReason::Gone, &mut self.answers);
                    self.flush()?;
                    return Err(End::Disconnected);
                }
            }
        }
    }

    fn start(&mut self, start: &Start) -> Result<(), End> {
        let mut ready = match self.module.start(start) {
            Ok(ready) => ready,
            Err(reject) => {
                self.over.store(true, Ordering::Release);
                self.out.message(self.slot, &FromModule::Reject(reject))?;
                return Err(End::Rejected);
            }
        };
        ready.session.clone_from(&start.session);
        // A `Module` never sees octets, so take the framing that keeps tracks, gaps and epochs apart wherever it is offered.
        if start.offer.framing.contains(&Framing::Hdr16) {
            ready.accept.framing = Framing::Hdr16;
        }
        self.accept.clone_from(&ready.accept);
        let from_ms = start.resume.as_ref().map_or(0, |resume| resume.from_ms);
        self.speech.epochs = Epochs::new(start);
        self.speech.announced = self.speech.epochs.current();
        let rate = ready.accept.input.map_or(0, |input| u64::from(input.rate));
        self.heard = from_ms.saturating_mul(rate) / 1_000;
        self.filters = start.kind == Kind::Filter;
        if self.filters {
            self.speech.spoken = self.heard;
        }
        self.out.message(self.slot, &FromModule::Ready(ready))?;
        Ok(())
    }

    fn message(&mut self, message: &ToModule) -> Result<(), End> {
        self.speech.epochs.told(message);
        let processed = self.module.process(Input::Message(message), &mut self.answers);
        if let (ToModule::Finalize { id }, Ok(())) = (message, &processed) {
            self.finalized(id);
        }
        self.flush()?;
        Ok(processed?)
    }

    /// A module without new words need not know the question; it is answered for it.
    fn finalized(&mut self, id: &str) {
        let answers = |answer| matches!(answer, Answer::Message(FromModule::Finalized { .. }));
        if !self.answers.iter().any(answers) {
            self.answers.push(FromModule::Finalized { id: id.to_owned() });
        }
    }

    fn audio(&mut self, body: &[u8]) -> Result<(), End> {
        let Some(AcceptIn { encoding, rate, .. }) = self.accept.input else {
            return Err(ModuleError::new("protocol", "sound came though none was accepted").into());
        };
        let (header, octets) = match self.accept.framing {
            Framing::Hdr16 => AudioHeader::decode(body).map_err(StdioError::from)?,
            Framing::Raw => {
                let track = self.accept.tracks.first().copied().unwrap_or_default();
                (AudioHeader { pts: self.heard, track, ..AudioHeader::default() }, body)
            }
        };
        self.samples.clear();
        wire::decode_samples(encoding, octets, &mut self.samples).map_err(StdioError::from)?;
        let AudioHeader { track, flags, pts, .. } = header;
        if self.filters {
            // What it was not given it does not answer.
            self.speech.spoken += pts.saturating_sub(self.heard);
        }
        self.heard = pts.saturating_add(self.samples.len() as u64);
        let frame = AudioFrame { track, rate, pts, flags, samples: &self.samples };
        let processed = self.module.process(Input::Audio(frame), &mut self.answers);
        self.flush()?;
        Ok(processed?)
    }

    /// Sends all answers. On error the rest of them is lost with the session.
    fn flush(&mut self) -> Result<(), End> {
        for answer in self.answers.iter() {
            match answer {
                Answer::Audio(samples) => {
                    let Some(format) = &self.accept.output else {
                        return Err(ModuleError::new(
                            "no_output",
                            "the module spoke without `accept.out` in its `ready`",
                        )
                        .into());
                    };
                    self.speech.send(self.slot, self.accept.framing, format, samples, &self.out)?;
                }
                Answer::Message(message) => {
                    let message = self.speech.epochs.said(message);
                    if let FromModule::AudioBegin { epoch } = *message {
                        self.speech.announced = epoch;
                        self.speech.spoken = 0;
                    }
                    self.out.message(self.slot, &*message)?;
                }
            }
        }
        self.answers.reset();
        Ok(())
    }
}

impl Speech {
    fn send<W: Write>(
        &mut self,
        slot: u16,
        framing: Framing,
        format: &AcceptOut,
        samples: &[i16],
        out: &Output<W>,
    ) -> Result<(), StdioError> {
        let epoch = self.epochs.current();
        if epoch != self.announced {
            out.message(slot, &FromModule::AudioBegin { epoch })?;
            self.announced = epoch;
            self.spoken = 0;
        }
        for piece in samples.chunks(wire::max_samples(format.encoding)) {
            let header = AudioHeader {
                flags: FrameFlags::default(),
                track: AGENT_TRACK,
                epoch,
                pts: self.spoken,
            };
            let header = (framing == Framing::Hdr16).then_some(&header);
            out.audio(slot, header, format, piece)?;
            self.spoken += piece.len() as u64;
        }
        Ok(())
    }
}

fn fatal(code: &str, message: &str) -> FromModule {
    FromModule::Error(ErrorReport {
        code: code.to_owned(),
        message: message.to_owned(),
        fatal: true,
        ..ErrorReport::default()
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("the module panicked")
}
