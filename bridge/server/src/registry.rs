//! The calls that are live: found by name, and told what their operator wants of them. Holds no sound and ends no call itself.
//!
//! A call is entered once and leaves once. In between it looks at an atomic for each time it wakes up, and takes a lock only when
//! there is an order for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use ringback_module::message::Consent;
use ringback_proto::Instant;
use ringback_proto::session::{PortId, PrivateBy, Report};
use tokio::sync::watch;

use crate::call::{Seen, Watch};
use crate::clock::WallTime;
use crate::telemetry::Phone;

/// Orders that wait for a call; one that does not take them wants no more.
const MOST_ORDERS: usize = 8;

/// What an operator wants of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// It is to end.
    HangUp {
        /// Who wants it.
        by: String,
    },
    /// It is private from now on.
    BeginPrivate {
        /// No longer than this, or than its route allows.
        limit: Option<Duration>,
    },
    /// It is for everybody again.
    EndPrivate,
    /// The caller agreed to be recorded, or no longer does.
    Consent(Consent),
}

/// All calls that are live. Clones share them.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<BTreeMap<String, Arc<LiveCall>>>>);

/// A call, as long as it lives.
pub struct LiveCall {
    /// Our name for it.
    pub name: String,
    /// Name of the listener.
    pub listener: String,
    /// Whose it is.
    pub tenant: Option<Arc<str>>,
    /// Name of the provider.
    pub provider: &'static str,
    /// When its stream was let in.
    pub began: WallTime,
    /// The same on the bridge's clock.
    pub since: Instant,
    started: OnceLock<StartedAs>,
    ending: AtomicBool,
    orders: Orders,
    standing: watch::Sender<Standing>,
}

/// What of a call may change more than once, and is waited for by who wants it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Whether it is private now.
    pub is_private: bool,
    /// How often operators said that it is to be.
    pub privates: u64,
    /// Whether the caller agreed to be recorded, if anybody said so or the contrary.
    pub consent: Option<bool>,
    /// How often that was said.
    pub consents: u64,
}

/// What is known of a call once it started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartedAs {
    /// The provider's name for it.
    pub provider_call: Option<String>,
    /// Name of the route that took it.
    pub route: Option<String>,
    /// Who calls, but for a few digits.
    pub from: Option<String>,
    /// Who is called, but for a few digits.
    pub to: Option<String>,
    /// Names of its modules.
    pub modules: Vec<String>,
}

#[derive(Default)]
struct Orders {
    /// Whether there is any.
    waiting: AtomicBool,
    /// Used under the lock of the queue to wake, so that whoever takes an order knows that its waker was used up.
    waker: AtomicWaker,
    queue: Mutex<VecDeque<Order>>,
}

/// A call's own place among the live ones, and where it hears of orders. It leaves when this is dropped.
pub struct Entered {
    call: Arc<LiveCall>,
    registry: Registry,
    /// Whom the next order wakes.
    waker: Option<Waker>,
}

impl Registry {
    /// Enters a call. Names are ours, so there is none of that name.
    #[must_use]
    pub fn enter(
        &self,
        name: String,
        listener: String,
        tenant: Option<Arc<str>>,
        provider: &'static str,
        since: Instant,
    ) -> Box<Entered> {
        let call = Arc::new(LiveCall {
            name: name.clone(),
            listener,
            tenant,
            provider,
            began: WallTime::now(),
            since,
            started: OnceLock::new(),
            ending: AtomicBool::new(false),
            orders: Orders::default(),
            standing: watch::Sender::default(),
        });
        self.calls().insert(name, Arc::clone(&call));
        Box::new(Entered { call, registry: self.clone(), waker: None })
    }

    /// The call of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<LiveCall>> {
        self.calls().get(name).cloned()
    }

    /// All of them, by name and so by age.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<LiveCall>> {
        self.calls().values().cloned().collect()
    }

    fn calls(&self) -> MutexGuard<'_, BTreeMap<String, Arc<LiveCall>>> {
        // Entries are whole, whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveCall {
    /// Gives it an order; `false` if it has as many as it may and takes none.
    #[must_use]
    pub fn order(&self, order: Order) -> bool {
        let mut queue = self.orders.queue();
        if queue.len() >= MOST_ORDERS {
            return false;
        }
        queue.push_back(order);
        self.orders.waiting.store(true, Ordering::Release);
        self.orders.waker.wake();
        true
    }

    /// What holds of it now, and tells when that changes. It never does once the call is over.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// What is known of it, once it started.
    #[must_use]
    pub fn started(&self) -> Option<&StartedAs> {
        self.started.get()
    }

    /// In a word: `waiting` for its start, `live`, or `ending`.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match (self.ending.load(Ordering::Relaxed), self.started.get()) {
            (true, _) => "ending",
            (false, None) => "waiting",
            (false, Some(_)) => "live",
        }
    }
}

impl Watch for LiveCall {
    fn see(&self, _call: &str, _now: Instant, seen: &Seen<'_>) {
        let (start, session) = match seen {
            Seen::Report { report: Report::Started(start), session } => (start, session),
            Seen::Report { report: Report::Private { began, by, .. }, .. } => {
                return self.standing.send_modify(|standing| {
                    standing.is_private = *began;
                    standing.privates += u64::from(*began && *by == PrivateBy::Operator);
                });
            }
            Seen::Report { report: Report::PrivateAgain(PrivateBy::Operator), .. } => {
                return self.standing.send_modify(|standing| standing.privates += 1);
            }
            Seen::Report { report: Report::Consent(told), .. } => {
                return self.standing.send_modify(|standing| {
                    standing.consent = Some(told.given);
                    standing.consents += 1;
                });
            }
            _ => return,
        };
        let redacted = |number: &Option<String>| number.as_deref().map(|n| Phone(n).to_string());
        let modules = (0..session.port_count()).map(|port| session.port_name(PortId(port)));
        // A call starts once.
        let _ = self.started.set(StartedAs {
            provider_call: start.call.clone(),
            route: session.route().map(str::to_owned),
            from: redacted(&start.from),
            to: redacted(&start.to),
            modules: modules.map(str::to_owned).collect(),
        });
    }
}

impl Orders {
    fn queue(&self) -> MutexGuard<'_, VecDeque<Order>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entered {
    /// The call, to look on.
    #[must_use]
    pub fn call(&self) -> Arc<LiveCall> {
        Arc::clone(&self.call)
    }

    /// The next order, once there is one. Cheap while there is none: an atomic, and no lock.
    pub fn poll_order(&mut self, cx: &mut Context<'_>) -> Poll<Order> {
        let orders = &self.call.orders;
        if !orders.waiting.load(Ordering::Acquire) {
            if self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            orders.waker.register(cx.waker());
            self.waker = Some(cx.waker().clone());
            if !orders.waiting.load(Ordering::Acquire) {
                return Poll::Pending;
            }
        }
        let mut queue = orders.queue();
        let order = queue.pop_front();
        orders.waiting.store(!queue.is_empty(), Ordering::Release);
        drop(queue);
        // Whoever gave it has used the waker up.
        self.waker = None;
        match order {
            Some(order) => {
                if let Order::HangUp { .. } = order {
                    self.call.ending.store(true, Ordering::Relaxed);
                }
                Poll::Ready(order)
            }
            None => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.registry.calls().remove(&self.call.name);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn entered(registry: &Registry, name: &str) -> Box<Entered> {
        registry.enter(name.into(), "a".into(), None, "twilio", Instant::ZERO)
    }

    fn hang_up(by: u32) -> Order {
        Order::HangUp { by: by.to_string() }
    }

    #[test]
    fn a_call_is_found_as_long_as_it_lives() {
        let registry = Registry::default();
        let (first, second) = (entered(&registry, "1"), entered(&registry, "2"));
        let names = || registry.all().iter().map(|call| call.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(), ["1", "2"]);
        drop(first);
        assert!(registry.find("1").is_none());
        assert_eq!(registry.find("2").map(|call| call.state()), Some("waiting"));
        drop(second);
        assert!(names().is_empty(), "what is over takes no room");
    }

    #[tokio::test(start_paused = true)]
    async fn every_order_wakes_the_call_and_no_more_wait_than_may() {
        let registry = Registry::default();
        let mut call = entered(&registry, "1");
        let found = registry.find("1").expect("it lives");
        let taking = tokio::spawn(async move {
            let mut taken = Vec::new();
            for _ in 0..5 {
                taken.push(poll_fn(|cx| call.poll_order(cx)).await);
            }
            (taken, call)
        });
        // One by one, so that each finds the call asleep, and then two at once.
        for by in 0..3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(found.order(hang_up(by)));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(found.order(hang_up(3)) && found.order(hang_up(4)));
        let (taken, _call) = taking.await.expect("it ends");
        assert_eq!(taken, (0..5).map(hang_up).collect::<Vec<_>>());
        assert_eq!(found.state(), "ending");
        assert!((0..MOST_ORDERS as u32).all(|by| found.order(hang_up(by))));
        assert!(!found.order(hang_up(0)));
    }
}
