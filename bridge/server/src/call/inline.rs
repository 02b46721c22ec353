//! A module in the call's own task: called where the sound flows, its panics caught. Does no I/O and no waiting.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::LocalKey;

use ringback_module::message::{Ready, Reject, Start, StopReason, ToModule};
use ringback_module::{AudioFrame, Input, Module, ModuleError, Output, Outputs};
use ringback_proto::scratch::{Lend, Scratch};

pub(super) struct Inline {
    module: Box<dyn Module>,
    /// Answers not handed out yet.
    outputs: Option<Scratch<Answers>>,
}

/// A buffer for answers, lent by the thread.
#[derive(Default)]
struct Answers(Outputs);

impl Lend for Answers {
    fn shelf() -> &'static LocalKey<RefCell<Vec<Self>>> {
        thread_local! { static SHELF: RefCell<Vec<Answers>> = const { RefCell::new(Vec::new()) } }
        &SHELF
    }

    fn wipe(&mut self) {
        self.0.reset();
    }

    fn octets(&self) -> usize {
        self.0.octets()
    }
}

impl Inline {
    pub(super) fn new(module: Box<dyn Module>) -> Self {
        Self { module, outputs: None }
    }

    pub(super) fn start(&mut self, start: &Start) -> Result<Ready, Reject> {
        let module = &mut self.module;
        catch_unwind(AssertUnwindSafe(|| module.start(start))).unwrap_or_else(|panic| {
            Err(Reject { code: "panic".into(), message: what(panic.as_ref()), ..Reject::default() })
        })
    }

    pub(super) fn hear(&mut self, frame: AudioFrame<'_>) -> Result<(), String> {
        self.process(Input::Audio(frame))
    }

    pub(super) fn tell(&mut self, message: &ToModule) -> Result<(), String> {
        self.process(Input::Message(message))
    }

    fn process(&mut self, input: Input<'_>) -> Result<(), String> {
        let Self { module, outputs } = self;
        let outputs = &mut outputs.get_or_insert_with(Scratch::lend).0;
        let done = catch_unwind(AssertUnwindSafe(|| module.process(input, outputs)));
        flatten(done)
    }

    pub(super) fn stop(&mut self, reason: StopReason) -> Result<(), String> {
        let Self { module, outputs } = self;
        let outputs = &mut outputs.get_or_insert_with(Scratch::lend).0;
        flatten(catch_unwind(AssertUnwindSafe(|| {
            module.stop(reason, outputs);
            Ok(())
        })))
    }

    /// Hands out all answers in order.
    pub(super) fn drain(&mut self, mut sink: impl FnMut(Output<'_>)) {
        if let Some(outputs) = self.outputs.take() {
            outputs.0.iter().for_each(&mut sink);
        }
    }
}

fn flatten(done: std::thread::Result<Result<(), ModuleError>>) -> Result<(), String> {
    match done {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("panicked: {}", what(panic.as_ref()))),
    }
}

fn what(panic: &(dyn std::any::Any + std::marker::Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").chars().take(200).collect()
}
