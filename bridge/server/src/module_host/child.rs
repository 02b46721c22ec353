//! A module as a child process that is started again when it dies, though not for ever. What one process says and hears is in
//! `process.rs`.

use std::collections::VecDeque;
use std::time::Duration;

use ringback_module::message::Start;
use tokio::sync::mpsc;

use super::process::{End, Process};
use super::{FromHost, Hosted, Inbox, Seat, ToHost, seat};
use crate::clock::Clock;
use crate::telemetry::PeerText;

/// First pause before a restart; doubled each time up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// So many restarts within [`WINDOW`] and no more.
const MAX_RESTARTS: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// How to start a child process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildSpec {
    /// Name of the module, for the log.
    pub name: String,
    /// Program and arguments. It gets the bridge's environment and directory, and no descriptor but its three streams.
    pub command: Vec<String>,
}

/// Starts a module as a child process that speaks `ringback.v1` over its stdin and stdout. Must be called within a runtime.
///
/// Deadlines and credit are those of `start`. A process that exits, hangs, or breaks the contract is killed and, unless the
/// session is being stopped, started again: 100 ms later, then twice as long each time up to 5 s, five times a minute at most.
#[must_use]
pub fn spawn_child(spec: ChildSpec, start: Start) -> Hosted {
    let (hosted, seat) = seat();
    tokio::spawn(supervise(spec, start, seat));
    hosted
}

async fn supervise(spec: ChildSpec, mut start: Start, seat: Seat) {
    let Seat { mut to, from } = seat;
    let mut restarts = Restarts::new(Clock::start());
    loop {
        let mut reason = match Process::run(&spec, &start, &mut to, &from).await {
            End::Over(reason) => return say(&from, FromHost::Gone { reason }).await,
            End::Rejected(reject) => return say(&from, FromHost::Rejected(reject)).await,
            End::Abandoned => return,
            End::Failed(reason) => reason,
        };
        let Some(after) = restarts.next() else {
            reason.push_str("; it was started again 5 times within a minute and is given up");
            return say(&from, FromHost::Gone { reason: Some(reason) }).await;
        };
        tracing::warn!(module = %spec.name, after_ms = after.as_millis() as u64, "restarting: {}", PeerText(&reason));
        match start_again(&mut to, &from, reason, after).await {
            Again::Start(again) => start = *again,
            Again::Stop => return say(&from, FromHost::Gone { reason: None }).await,
            Again::Abandoned => return,
        }
    }
}

/// The call may be gone, and then does not need to know.
async fn say(from: &mpsc::Sender<FromHost>, event: FromHost) {
    let _ = from.send(event).await;
}

/// What the call wants of a module that died.
enum Again {
    Start(Box<Start>),
    Stop,
    Abandoned,
}

/// Waits, asks for a start and passes over what was meant for the process that died.
async fn start_again(
    to: &mut Inbox,
    from: &mpsc::Sender<FromHost>,
    reason: String,
    after: Duration,
) -> Again {
    say(from, FromHost::Restarting { reason, after }).await;
    let pause = tokio::time::sleep(after);
    tokio::pin!(pause);
    let mut asked = false;
    loop {
        tokio::select! {
            item = to.recv() => match item {
                Some(ToHost::Start(start)) if asked => return Again::Start(start),
                Some(ToHost::Stop { .. }) => return Again::Stop,
                Some(_) => {}
                None => return Again::Abandoned,
            },
            () = &mut pause, if !asked => {
                asked = true;
                say(from, FromHost::NeedStart).await;
            }
        }
    }
}

/// Counts restarts and says how long to wait.
struct Restarts {
    clock: Clock,
    /// Times of those within [`WINDOW`].
    recent: VecDeque<ringback_proto::Instant>,
}

impl Restarts {
    fn new(clock: Clock) -> Self {
        Self { clock, recent: VecDeque::new() }
    }

    /// Pause before the next restart; `None` if there were too many.
    fn next(&mut self) -> Option<Duration> {
        let now = self.clock.now();
        self.recent.retain(|&at| now.saturating_since(at) < WINDOW);
        if self.recent.len() >= MAX_RESTARTS {
            return None;
        }
        let pause = FIRST_PAUSE * 2_u32.pow(self.recent.len() as u32);
        self.recent.push_back(now);
        Some(pause.min(MAX_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn five_restarts_a_minute() {
        let mut restarts = Restarts::new(Clock::start());
        let pauses: Vec<_> = (0..6).map(|_| restarts.next().map(|p| p.as_millis())).collect();
        assert_eq!(pauses, [Some(100), Some(200), Some(400), Some(800), Some(1_600), None]);
        tokio::time::advance(WINDOW).await;
        assert_eq!(restarts.next(), Some(FIRST_PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn stale_items_do_not_reach_the_next_process() {
        let (mut hosted, Seat { mut to, from }) = seat();
        hosted.try_send(ToHost::Message(ringback_module::ToModule::Ping { t: 1 })).unwrap();
        let after = Duration::from_secs(1);
        let again =
            tokio::spawn(async move { start_again(&mut to, &from, "gone".into(), after).await });
        assert_eq!(hosted.recv().await, FromHost::Restarting { reason: "gone".into(), after });
        assert_eq!(hosted.recv().await, FromHost::NeedStart);
        let stop = ToHost::Stop {
            reason: ringback_module::message::StopReason::Hangup,
            deadline: Duration::ZERO,
        };
        hosted.try_send(stop).unwrap();
        assert!(matches!(again.await.unwrap(), Again::Stop));
    }
}
