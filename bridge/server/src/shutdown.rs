//! How the process ends: first drain, then now. Waits for signals and tells; what ends a call is the call's business.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Three things everybody may wait for: *draining* (no new calls, the live ones go on), *cut* (end now) and *finished* (all calls
/// have ended, and only lookers-on are left). Clones share state.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    cut: Flag,
    finished: CancellationToken,
}

impl Shutdown {
    /// Neither draining nor cut.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins to drain: no new calls, the live ones go on. Has no effect the second time.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Ends everything now: live calls get a last word (finish recordings, close with 1001) and no more.
    pub fn cut(&self) {
        self.draining.cancel();
        self.cut.raise();
    }

    /// All calls have ended: who looked on may hear the last words and go. Only the server knows when.
    pub(crate) fn finish(&self) {
        self.finished.cancel();
    }

    /// Whether new calls are refused.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Whether live calls are being ended. Costs next to nothing.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut.is_raised()
    }

    /// Waits until draining begins.
    pub async fn drained(&self) {
        self.draining.cancelled().await;
    }

    /// Waits until everything has to end. Every call waits for this beside its work.
    #[must_use]
    pub fn cut_off(&self) -> Raised {
        self.cut.raised()
    }

    /// Waits until all calls have ended.
    pub async fn finished(&self) {
        self.finished.cancelled().await;
    }

    /// From now on the first SIGTERM or SIGINT drains and the second cuts.
    ///
    /// # Errors
    /// If the operating system gives no signal handler, or outside a tokio runtime.
    pub fn on_signals(&self) -> io::Result<()> {
        let mut signals = Signals::install()?;
        let this = self.clone();
        tokio::spawn(async move {
            signals.next().await;
            this.drain();
            signals.next().await;
            this.cut();
        });
        Ok(())
    }
}

/// Something that happens once and for all, to be waited for beside work.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flag {
    raised: Arc<AtomicBool>,
    token: CancellationToken,
}

impl Flag {
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        self.token.cancel();
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    pub(crate) fn raised(&self) -> Raised {
        let (raised, waiting) = (Arc::clone(&self.raised), self.token.clone().cancelled_owned());
        Raised { raised, waiting: Box::pin(waiting), waker: None }
    }
}

/// Waits for a flag. Keep it rather than making it anew: polled again by the same task it looks at an atomic, where the token
/// behind it would take a lock that all calls share, for every frame of each.
#[derive(Debug)]
pub struct Raised {
    raised: Arc<AtomicBool>,
    waiting: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Whom the token wakes.
    waker: Option<Waker>,
}

impl Future for Raised {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.raised.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        if self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.waker = Some(cx.waker().clone());
        self.waiting.as_mut().poll(cx)
    }
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[allow(clippy::unnecessary_wraps, reason = "the Unix twin can fail")]
    fn install() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[tokio::test]
    async fn cutting_implies_draining_and_all_clones_hear_it() {
        let shutdown = Shutdown::new();
        let clone = shutdown.clone();
        assert!(!clone.is_draining() && !clone.is_cut());
        shutdown.drain();
        clone.drained().await;
        assert!(clone.is_draining() && !clone.is_cut());
        shutdown.cut();
        clone.cut_off().await;
        let fresh = Shutdown::new();
        fresh.cut();
        assert!(fresh.is_draining() && fresh.is_cut());
        let over = Shutdown::new();
        over.finish();
        over.finished().await;
        assert!(!over.is_draining() && !over.is_cut());
    }

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(raised: &mut Raised, woken: &Arc<Woken>) -> Poll<()> {
        Pin::new(raised).poll(&mut Context::from_waker(&Waker::from(Arc::clone(woken))))
    }

    #[test]
    fn a_flag_wakes_whoever_polled_last() {
        let (flag, first, second) = (Flag::default(), Arc::default(), Arc::<Woken>::default());
        let mut raised = flag.raised();
        for woken in [&first, &first, &second, &first, &second, &second] {
            assert_eq!(poll(&mut raised, woken), Poll::Pending);
        }
        flag.raise();
        assert_eq!(second.0.load(Ordering::Relaxed), 1);
        assert_eq!(poll(&mut raised, &second), Poll::Ready(()));
        assert_eq!(poll(&mut raised, &first), Poll::Ready(()), "and it stays raised");
    }

    #[test]
    fn a_flag_raised_between_polls_or_before_the_first_is_seen() {
        let (flag, woken) = (Flag::default(), Arc::<Woken>::default());
        let (mut polled, mut fresh) = (flag.raised(), flag.raised());
        assert_eq!(poll(&mut polled, &woken), Poll::Pending);
        flag.raise();
        flag.raise();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "once and for all");
        for raised in [&mut polled, &mut fresh, &mut flag.raised()] {
            assert_eq!(poll(raised, &woken), Poll::Ready(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flag_ends_the_wait_of_a_task_that_moved_to_another() {
        let flag = Flag::default();
        let mut raised = flag.raised();
        let second = std::time::Duration::from_secs(1);
        assert!(tokio::time::timeout(second, &mut raised).await.is_err());
        let moved = tokio::spawn(raised);
        tokio::time::sleep(second).await;
        assert!(!moved.is_finished());
        flag.raise();
        moved.await.unwrap();
    }
}
