//! A module in the call's own task: called where the sound flows, its panics caught, its time measured now and then. Does no I/O
//! and no waiting.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::LocalKey;
use std::time::Duration;

use ringback_module::message::{Ready, Reject, Start, StopReason, ToModule};
use ringback_module::{AudioFrame, Input, Module, ModuleError, Output, Outputs};
use ringback_proto::scratch::{Lend, Scratch};

use crate::clock::Clock;

// What a panic costs is one module, which holds only if it can be caught.
const _: () = assert!(cfg!(panic = "unwind"), "the bridge must be built with panics that unwind");

/// One frame of so many is timed: about one a second, so that no frame pays for a clock.
const SAMPLE: u8 = 50;
/// So many in a row over the budget are no accident of the machine's; each is timed once one was.
const PATIENCE: u8 = 25;

pub(super) struct Inline {
    module: Box<dyn Module>,
    /// Answers not handed out yet.
    outputs: Option<Scratch<Answers>>,
    clock: Clock,
    pace: Pace,
}

/// Whether a module keeps to the time it has for a frame. Reads no clock.
#[derive(Debug)]
struct Pace {
    budget: Duration,
    /// Frames until one is timed.
    left: u8,
    /// Over the budget in a row, of those that were timed.
    over: u8,
}

impl Pace {
    const fn new(budget: Duration) -> Self {
        // The first is not timed: it may find what it needs for the first time.
        Self { budget, left: SAMPLE, over: 0 }
    }

    /// Whether the next frame is to be timed.
    fn is_due(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }

    /// A frame took that long. Says whether that was too long.
    fn took(&mut self, time: Duration) -> bool {
        let is_over = time > self.budget;
        self.over = if is_over { self.over.saturating_add(1) } else { 0 };
        self.left = if is_over { 0 } else { SAMPLE };
        is_over
    }

    /// Why it is let go, if it has to be.
    fn verdict(&self, last: Duration) -> Result<(), String> {
        if self.over < PATIENCE {
            return Ok(());
        }
        let Self { budget, over, .. } = self;
        Err(format!(
            "takes longer than its budget of {budget:?} for a frame and would hold up the call: {over} times in a row, {last:?} the last time"
        ))
    }
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
    /// It may take `budget` for a frame.
    pub(super) fn new(module: Box<dyn Module>, clock: Clock, budget: Duration) -> Self {
        Self { module, outputs: None, clock, pace: Pace::new(budget) }
    }

    pub(super) fn start(&mut self, start: &Start) -> Result<Ready, Reject> {
        let module = &mut self.module;
        catch_unwind(AssertUnwindSafe(|| module.start(start))).unwrap_or_else(|panic| {
            Err(Reject { code: "panic".into(), message: what(panic.as_ref()), ..Reject::default() })
        })
    }

    /// Whether that took too long is only known now and then; [`Self::is_slow`] says so.
    pub(super) fn hear(&mut self, frame: AudioFrame<'_>) -> Result<(), String> {
        if !self.pace.is_due() {
            return self.process(Input::Audio(frame));
        }
        let began = self.clock.now();
        self.process(Input::Audio(frame))?;
        let time = self.clock.now().saturating_since(began);
        self.pace.took(time);
        self.pace.verdict(time)
    }

    /// Whether the last frame that was timed took too long, and was the last one.
    pub(super) fn is_slow(&self) -> bool {
        self.pace.over > 0
    }

    pub(super) fn tell(&mut self, message: &ToModule) -> Result<(), String> {
        self.process(Input::Message(message))
    }

    fn process(&mut self, input: Input<'_>) -> Result<(), String> {
        let Self { module, outputs, .. } = self;
        let outputs = &mut outputs.get_or_insert_with(Scratch::lend).0;
        let done = catch_unwind(AssertUnwindSafe(|| module.process(input, outputs)));
        flatten(done)
    }

    pub(super) fn stop(&mut self, reason: StopReason) -> Result<(), String> {
        let Self { module, outputs, .. } = self;
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

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_millis(5);

    /// How many of `frames` are timed, each taking `time`; the verdict of the last.
    fn hear(pace: &mut Pace, frames: usize, time: Duration) -> (usize, Result<(), String>) {
        let mut timed = 0;
        for _ in 0..frames {
            if pace.is_due() {
                timed += 1;
                pace.took(time);
                if let Err(reason) = pace.verdict(time) {
                    return (timed, Err(reason));
                }
            }
        }
        (timed, Ok(()))
    }

    #[test]
    fn a_module_within_its_budget_is_timed_once_a_second_and_stays() {
        let mut pace = Pace::new(BUDGET);
        assert_eq!(hear(&mut pace, 60 * 50, BUDGET), (60, Ok(())));
    }

    #[test]
    fn one_that_is_slow_is_timed_at_every_frame_and_let_go_in_half_a_second() {
        let mut pace = Pace::new(BUDGET);
        assert_eq!(hear(&mut pace, 49, BUDGET * 2), (0, Ok(())));
        let (timed, verdict) = hear(&mut pace, 1_000, BUDGET * 2);
        assert_eq!(timed, usize::from(PATIENCE));
        let reason = verdict.unwrap_err();
        assert!(
            reason.contains("budget of 5ms") && reason.contains("25 times in a row, 10ms"),
            "{reason}"
        );
    }

    #[test]
    fn a_hiccup_is_forgiven() {
        let mut pace = Pace::new(BUDGET);
        for _ in 0..1_000 {
            let (_, verdict) = hear(&mut pace, 50 + usize::from(PATIENCE) - 2, BUDGET * 9);
            assert_eq!(verdict, Ok(()));
            assert_eq!(hear(&mut pace, 1, BUDGET), (1, Ok(())));
        }
    }
}
