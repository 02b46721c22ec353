//! A module that is started again when it dies, though not for ever. Knows nothing of what it runs on.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use ringback_module::message::Start;
use tokio::sync::mpsc;

use super::talk::End;
use super::{FromHost, Inbox, Seat, ToHost};
use crate::clock::Clock;
use crate::telemetry::PeerText;

/// First pause before a restart; doubled each time up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// So many restarts are counted within this; no module is left alone for longer, whatever it asks for.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// Something that a module runs on, and that can be had anew.
pub(super) trait Ground: Send + Sync + 'static {
    /// Restarts within a minute before it is given up.
    const MOST: usize;
    /// What is done to it, in the passive voice.
    const AGAIN: &str;

    /// Name of the module.
    fn name(&self) -> &str;

    /// Makes a pause of this length another one; several that ask the same server should not all come at once.
    fn pause(&self, pause: Duration) -> Duration;

    /// Runs one session to its end.
    fn run(
        &self,
        start: &Start,
        to: &mut Inbox,
        from: &mpsc::Sender<FromHost>,
    ) -> impl Future<Output = End> + Send;
}

/// Up to a quarter less, by chance: what failed for many at once is not tried again by all of them at once.
pub(crate) fn shortened(pause: Duration) -> Duration {
    let mut chance = [0];
    // Without a random number all come back at once, which is no reason not to come back.
    let _ = crate::chance::fill(&mut chance);
    pause - pause * u32::from(chance[0]) / 1_024
}

/// Runs a module until its session is over, it says no, or it dies too often.
pub(super) async fn supervise<G: Ground>(ground: G, mut start: Start, seat: Seat) {
    let Seat { mut to, from } = seat;
    let mut restarts = Restarts::new(Clock::start(), G::MOST);
    loop {
        let mut failure = match ground.run(&start, &mut to, &from).await {
            End::Over(reason) => return say(&from, FromHost::Gone { reason }).await,
            End::Rejected(reject) => return say(&from, FromHost::Rejected(reject)).await,
            End::Abandoned => return,
            End::Failed(failure) => failure,
        };
        let Some(pause) = restarts.next() else {
            let (again, most) = (G::AGAIN, G::MOST);
            failure.reason +=
                &format!("; it was {again} {most} times within a minute and is given up");
            return say(&from, FromHost::Gone { reason: Some(failure.reason) }).await;
        };
        let after = ground.pause(pause).max(failure.not_before.min(WINDOW));
        let reason = failure.reason;
        tracing::warn!(module = %ground.name(), after_ms = after.as_millis() as u64, "restarting: {}", PeerText(&reason));
        let (busy, restarting) = (failure.busy, reason);
        match start_again(&mut to, &from, restarting, after, busy).await {
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

/// The call does not want the module any more before there is one.
pub(super) async fn called_off(to: &mut Inbox) -> End {
    loop {
        match to.recv().await {
            None => return End::Abandoned,
            Some(ToHost::Stop { .. }) => return End::Over(None),
            Some(_) => {}
        }
    }
}

/// What the call wants of a module that died.
enum Again {
    Start(Box<Start>),
    Stop,
    Abandoned,
}

/// Waits, asks for a start and passes over what was meant for the one that died.
async fn start_again(
    to: &mut Inbox,
    from: &mpsc::Sender<FromHost>,
    reason: String,
    after: Duration,
    busy: bool,
) -> Again {
    say(from, FromHost::Restarting { reason, after, busy }).await;
    let pause = tokio::time::sleep(after);
    tokio::pin!(pause);
    let mut asked = false;
    loop {
        tokio::select! {
            biased;
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
pub(super) struct Restarts {
    clock: Clock,
    most: usize,
    /// Times of those within [`WINDOW`].
    recent: VecDeque<ringback_proto::Instant>,
}

impl Restarts {
    pub(super) fn new(clock: Clock, most: usize) -> Self {
        Self { clock, most, recent: VecDeque::new() }
    }

    /// Pause before the next restart; `None` if there were too many.
    pub(super) fn next(&mut self) -> Option<Duration> {
        let now = self.clock.now();
        self.recent.retain(|&at| now.saturating_since(at) < WINDOW);
        if self.recent.len() >= self.most {
            return None;
        }
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.recent.len() as u32));
        self.recent.push_back(now);
        Some(pause.min(MAX_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::super::seat;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_and_end() {
        let mut restarts = Restarts::new(Clock::start(), 8);
        let pauses: Vec<_> = (0..9).map(|_| restarts.next().map(|p| p.as_millis())).collect();
        let expected = [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000].map(Some);
        assert_eq!(pauses[..8], expected);
        assert_eq!(pauses[8], None);
        tokio::time::advance(WINDOW).await;
        assert_eq!(restarts.next(), Some(FIRST_PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn stale_items_do_not_reach_the_next_process() {
        let (mut hosted, Seat { mut to, from }) = seat();
        hosted.try_send(ToHost::Message(ringback_module::ToModule::Ping { t: 1 })).unwrap();
        let after = Duration::from_secs(1);
        let again =
            tokio::spawn(
                async move { start_again(&mut to, &from, "gone".into(), after, false).await },
            );
        assert_eq!(
            hosted.recv().await,
            FromHost::Restarting { reason: "gone".into(), after, busy: false }
        );
        assert_eq!(hosted.recv().await, FromHost::NeedStart);
        let stop = ToHost::Stop {
            reason: ringback_module::message::StopReason::Hangup,
            deadline: Duration::ZERO,
        };
        hosted.try_send(stop).unwrap();
        assert!(matches!(again.await.unwrap(), Again::Stop));
    }
}
