//! A module on a thread of its own, for one that blocks (a disk, a long computation). Cannot be killed, so it is not started again.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use ringback_module::epoch::Epochs;
use ringback_module::message::{FromModule, Start, StopReason};
use ringback_module::{AudioFrame, Input, Module, Output, Outputs};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{FromHost, Heir, Hosted, Inbox, Seat, ToHost, seat};
use crate::recordings::Incomplete;
use crate::telemetry::{CallReport, Report, report};

/// Runs a module on a thread of its own. `make` is called there. A panic ends the module, not the bridge. Must be called within a
/// runtime.
///
/// A module that is not ready within `limits.ready_ms` of `start` is gone; its thread ends when it returns. One that later does
/// not return from a call stays as it is until it does: the call goes on and loses that module's sound as its ring overflows. A call
/// that ends meanwhile leaves it with what the ring still holds ([`Hosted::leave`]).
#[must_use]
pub fn spawn_thread<F>(name: &str, make: F, start: Start) -> Hosted
where
    F: FnOnce() -> Box<dyn Module> + Send + 'static,
{
    let (mut hosted, Seat { to, from }) = seat();
    let (left_with, rest) = oneshot::channel();
    let heir = Arc::new(Heir::default());
    (hosted.rest, hosted.heir) = (Some(left_with), Some(Arc::clone(&heir)));
    let to = Told { inbox: to, rest: Some(rest), items: Vec::new().into_iter() };
    let thread = std::thread::Builder::new().name(format!("module-{name}"));
    let (events, named) = (from.clone(), name.to_owned());
    let ready_ms = start.limits.ready_ms;
    let (answered, answer) = oneshot::channel();
    let spawned = thread.spawn(move || {
        let over = catch_unwind(AssertUnwindSafe(|| {
            let hears = Hears { module: &named, call: &start.call.id, from: &events, heir: &heir };
            serve(make(), &start, to, hears, answered)
        }));
        let last = over.unwrap_or_else(|panic| gone(format!("panicked: {}", text(&*panic))));
        // The call may be gone, and then does not need to know.
        let _ = events.blocking_send(last);
    });
    if let Err(error) = spawned {
        // The queue is new and empty, so there is room.
        let _ = from.try_send(gone(format!("no thread for it: {error}")));
        return hosted;
    }
    tokio::spawn(async move {
        if timeout(Duration::from_millis(ready_ms), answer).await.is_err() {
            let _ = from.send(gone(format!("not ready within {ready_ms} ms"))).await;
        }
    });
    hosted
}

fn gone(reason: String) -> FromHost {
    FromHost::Gone { reason: Some(reason) }
}

/// Serves until the end and returns the last event.
fn serve(
    mut module: Box<dyn Module>,
    start: &Start,
    mut to: Told,
    hears: Hears<'_>,
    answered: oneshot::Sender<()>,
) -> FromHost {
    let started = module.start(start);
    // Nobody waits any more if it took too long; the call has let go of this module then.
    let _ = answered.send(());
    let ready = match started {
        Ok(ready) => ready,
        Err(reject) => return FromHost::Rejected(reject),
    };
    let (epochs, outputs) = (Epochs::new(start), Outputs::new());
    let from = hears.from;
    let mut speech = Speech { hears, epochs, outputs };
    if from.blocking_send(FromHost::Ready(ready)).is_err() {
        return stop(module.as_mut(), StopReason::Gone, &mut speech);
    }
    while let Some(item) = to.next() {
        let done = match &item {
            ToHost::Audio { track, pts, rate, flags, samples } => {
                let (track, pts, rate, flags) = (*track, *pts, *rate, *flags);
                let frame = AudioFrame { track, rate, pts, flags, samples };
                module.process(Input::Audio(frame), &mut speech.outputs)
            }
            ToHost::Message(message) => {
                speech.epochs.told(message);
                module.process(Input::Message(message), &mut speech.outputs)
            }
            ToHost::Stop { reason, .. } => return stop(module.as_mut(), *reason, &mut speech),
            // Only a process that died is started again.
            ToHost::Start(_) => Ok(()),
        };
        speech.flush();
        if let Err(error) = done {
            return gone(error.to_string());
        }
    }
    stop(module.as_mut(), StopReason::Gone, &mut speech)
}

fn stop(module: &mut dyn Module, reason: StopReason, speech: &mut Speech<'_>) -> FromHost {
    module.stop(reason, &mut speech.outputs);
    speech.flush();
    FromHost::Gone { reason: None }
}

/// All that the module is told, in order.
struct Told {
    inbox: Inbox,
    rest: Option<oneshot::Receiver<Vec<ToHost>>>,
    items: std::vec::IntoIter<ToHost>,
}

impl Told {
    /// What comes next; after the queue, once that is closed, what the call left, if it left anything.
    fn next(&mut self) -> Option<ToHost> {
        if self.rest.is_some() {
            if let Some(item) = self.inbox.blocking_recv() {
                return Some(item);
            }
            // It is sent before the queue is closed.
            let left = self.rest.take().and_then(|mut rest| rest.try_recv().ok());
            self.items = left.unwrap_or_default().into_iter();
        }
        self.items.next()
    }
}

/// Who hears a module: its call, then whoever is told of it by that, and at last the log.
struct Hears<'a> {
    module: &'a str,
    call: &'a str,
    from: &'a mpsc::Sender<FromHost>,
    heir: &'a Heir,
}

impl Hears<'_> {
    /// Tells it. To a call that is gone there is nothing to say; that a recording lacks its end is reported all the same.
    fn tell(&self, said: FromHost) {
        let Err(unheard) = self.from.blocking_send(said) else { return };
        if let Some(FromHost::Message(FromModule::Event(event))) = self.heir.hear(unheard.0)
            && let Some(lacks) = Incomplete::told_by(&event.name, &event.data)
        {
            let what = CallReport::RecordingIncomplete { module: self.module, lacks };
            report(&Report::Call { call: self.call, what });
        }
    }
}

struct Speech<'a> {
    hears: Hears<'a>,
    epochs: Epochs,
    outputs: Outputs,
}

impl Speech<'_> {
    /// Sends all answers. If nobody listens any more, the next receive ends the loop.
    fn flush(&mut self) {
        for output in self.outputs.iter() {
            let event = match output {
                Output::Audio(samples) => {
                    let epoch = Some(self.epochs.current());
                    FromHost::Audio { epoch, samples: samples.to_vec() }
                }
                Output::Message(message) => {
                    let message: FromModule = self.epochs.said(message).into_owned();
                    FromHost::Message(message)
                }
            };
            self.hears.tell(event);
        }
        self.outputs.reset();
    }
}

fn text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
