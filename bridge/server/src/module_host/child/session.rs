//! One session in a child process that it may share with others. Places nobody, and starts no process.

use std::sync::Arc;
use std::time::Duration;

use ringback_module::message::Start;
use ringback_module::wire::FrameKind;
use tokio::sync::mpsc;

use super::pool::{ChildPool, Place};
use super::process::Process;
use super::slots::{Ear, Left};
use crate::module_host::listen::Listener;
use crate::module_host::restart::{Ground, called_off};
use crate::module_host::talk::{Broken, Carry, End, Talk};
use crate::module_host::{FromHost, Inbox};

/// Gets a place of the pool, and another one when that is no more.
pub(super) struct Guest(Arc<ChildPool>);

impl Guest {
    pub(super) fn of(pool: &Arc<ChildPool>) -> Self {
        Self(Arc::clone(pool))
    }
}

impl Ground for Guest {
    const MOST: usize = 5;
    const AGAIN: &str = "started again";

    fn name(&self) -> &str {
        &self.0.spec().name
    }

    fn pause(&self, pause: Duration) -> Duration {
        pause
    }

    async fn run(&self, start: &Start, to: &mut Inbox, from: &mpsc::Sender<FromHost>) -> End {
        let talk = Talk::new(self.name(), start, from);
        let (began, limit) = (talk.clock.now(), Duration::from_millis(start.limits.ready_ms));
        let place = tokio::select! {
            biased;
            place = self.0.place(limit) => place,
            end = called_off(to) => return end,
        };
        let mut place = match place {
            Ok(place) => place,
            Err(end) => return end,
        };
        let process = Arc::clone(&place.process);
        let talk = talk.sharing(place.slot, &process.pulse);
        // One that got its place late had no time to be ready in, which is not the process's fault.
        let had_time = talk.clock.now().saturating_since(began) < limit / 2;
        serve(&talk, &mut place, to, had_time).await
    }
}

/// Serves the session until it or its process ends.
async fn serve(talk: &Talk<'_>, place: &mut Place, to: &mut Inbox, had_time: bool) -> End {
    let Place { process, ear, left, .. } = place;
    // Unbiased: whoever is always ready must not keep the others from their turn.
    let end = tokio::select! {
        end = listen(talk, ear, process) => {
            *left = match end {
                End::Over(_) | End::Rejected(_) => Left::Clean,
                End::Failed(_) => Left::Broke,
                End::Abandoned => Left::Lost,
            };
            end.unless_retryable()
        }
        end = talk.write(Mouth(process), to) => {
            if let End::Failed(failure) = &end {
                process.kill(failure.reason.clone());
            }
            end
        }
        end = talk.watch() => {
            if talk.ready.get().is_some() {
                if let End::Failed(failure) = &end {
                    process.kill(failure.reason.clone());
                }
            } else if had_time && !process.is_loading() {
                *left = Left::Broke;
            }
            end
        }
    };
    match end {
        End::Failed(failure) => talk.failed(failure),
        end => end,
    }
}

async fn listen(talk: &Talk<'_>, ear: &mut Ear, process: &Process) -> End {
    let mut listener = Listener::new(talk);
    while let Some(said) = ear.hear().await {
        let passed = match listener.frame(said.kind, &said.body) {
            Ok(heard) => listener.pass_on(heard).await,
            Err(end) => Err(end),
        };
        if let Err(end) = passed {
            return end;
        }
    }
    match process.death() {
        Some(death) if death.is_final => End::Over(Some(death.reason.clone())),
        Some(death) => End::failed(death.reason.clone()),
        None => End::failed(
            "says more than is listened to, and would hold up the other sessions of its process",
        ),
    }
}

/// The way to the process, which others go too.
struct Mouth<'a>(&'a Process);

impl Carry for Mouth<'_> {
    const BROKEN: &'static str = "it closed its stdin";
    const SHARED: bool = true;

    fn is_ping_due(&self, every: Duration) -> bool {
        self.0.is_ping_due(every)
    }

    async fn write(&mut self, _: FrameKind, frame: &[u8]) -> Result<(), Broken> {
        self.0.write(frame).await
    }
}
