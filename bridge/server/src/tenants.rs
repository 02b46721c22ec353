//! What each tenant may use of the bridge at a time, and what it uses. Refuses nobody itself: whoever asks does.
//!
//! A tenant's own bounds are looked at before those of all, so that who asks for too much takes nothing of what is left for others,
//! not even for as long as a refusal takes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ringback_proto::Instant;

use crate::clock::Clock;
use crate::config::TenantConfig;

/// All tenants. Clones are the same ones.
#[derive(Debug, Clone, Default)]
pub struct Tenants(Arc<[Arc<Tenant>]>);

/// Somebody whose calls are kept apart from those of others.
#[derive(Debug)]
pub struct Tenant {
    config: TenantConfig,
    clock: Clock,
    setups: Mutex<Bucket>,
    calls: AtomicUsize,
    listeners: AtomicUsize,
    begun: AtomicU64,
    refused: [AtomicU64; Quota::ALL.len()],
}

/// What there may be no more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// Calls at a time.
    Calls,
    /// Calls that begin within a second.
    Setups,
    /// Those who listen to events at a time.
    Listeners,
}

impl Quota {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Calls, Self::Setups, Self::Listeners];

    /// In a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calls => "tenant_calls",
            Self::Setups => "tenant_setups",
            Self::Listeners => "tenant_listeners",
        }
    }
}

/// What is left of a rate, which comes back as time passes.
#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// A call of a tenant's, or one that asks to be. Dropped before [`TenantSeat::begin`], it never was.
#[derive(Debug)]
pub struct TenantSeat {
    tenant: Arc<Tenant>,
    has_begun: bool,
}

/// Somebody who listens to a tenant's events.
#[derive(Debug)]
pub struct TenantListener(Arc<Tenant>);

impl Tenants {
    /// As they are configured, and nobody there yet.
    #[must_use]
    pub fn new(configs: &[TenantConfig], clock: Clock) -> Self {
        let tenants = configs.iter().map(|config| Arc::new(Tenant::new(config.clone(), clock)));
        let tenants = Self(tenants.collect());
        ALL.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(tenants.0.iter().map(Arc::downgrade));
        tenants
    }

    /// The one of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Tenant>> {
        self.0.iter().find(|tenant| &*tenant.config.name == name).cloned()
    }

    /// All of them, as they are configured.
    #[must_use]
    pub fn all(&self) -> &[Arc<Tenant>] {
        &self.0
    }
}

impl Tenant {
    fn new(config: TenantConfig, clock: Clock) -> Self {
        let left = config.calls_per_second.unwrap_or_default().into();
        Self {
            setups: Mutex::new(Bucket { left, at: clock.now() }),
            clock,
            config,
            calls: AtomicUsize::new(0),
            listeners: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            refused: Default::default(),
        }
    }

    /// What it may.
    #[must_use]
    pub const fn config(&self) -> &TenantConfig {
        &self.config
    }

    /// Calls that are live, and those who listen.
    #[must_use]
    pub fn uses(&self) -> (usize, usize) {
        (self.calls.load(Relaxed), self.listeners.load(Relaxed))
    }

    /// Calls that have begun.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    /// How often there was too little of this.
    #[must_use]
    pub fn refused(&self, quota: Quota) -> u64 {
        self.refused[quota as usize].load(Relaxed)
    }

    /// A place for one more call.
    ///
    /// # Errors
    /// What it has used up.
    pub fn call(self: &Arc<Self>) -> Result<TenantSeat, Quota> {
        self.counted(self.take_call())
    }

    /// Whether there would be one.
    ///
    /// # Errors
    /// What it has used up.
    pub fn has_room(&self) -> Result<(), Quota> {
        let full = self.config.max_calls.is_some_and(|max| self.calls.load(Relaxed) >= max);
        self.counted(if full { Err(Quota::Calls) } else { Ok(()) })
    }

    /// A place for one more who listens.
    ///
    /// # Errors
    /// If it has as many as it may.
    pub fn listener(self: &Arc<Self>) -> Result<TenantListener, Quota> {
        let took = one_more(&self.listeners, self.config.max_event_listeners);
        self.counted(took.then(|| TenantListener(Arc::clone(self))).ok_or(Quota::Listeners))
    }

    fn take_call(self: &Arc<Self>) -> Result<TenantSeat, Quota> {
        if !one_more(&self.calls, self.config.max_calls) {
            return Err(Quota::Calls);
        }
        if let Some(rate) = self.config.calls_per_second
            && !self.bucket().take(rate.into(), self.clock.now())
        {
            self.calls.fetch_sub(1, Relaxed);
            return Err(Quota::Setups);
        }
        Ok(TenantSeat { tenant: Arc::clone(self), has_begun: false })
    }

    fn bucket(&self) -> std::sync::MutexGuard<'_, Bucket> {
        self.setups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted<T>(&self, outcome: Result<T, Quota>) -> Result<T, Quota> {
        outcome.inspect_err(|quota| {
            self.refused[*quota as usize].fetch_add(1, Relaxed);
        })
    }
}

impl Bucket {
    /// Takes one, if there is one left. As many as come in a second may come at once.
    fn take(&mut self, rate: f64, now: Instant) -> bool {
        self.left = (self.left + rate * (now - self.at).as_secs_f64()).min(rate);
        self.at = now;
        let has = self.left >= 1.0;
        if has {
            self.left -= 1.0;
        }
        has
    }
}

/// The tenants of all bridges of this process, for its figures.
static ALL: Mutex<Vec<Weak<Tenant>>> = Mutex::new(Vec::new());

/// What tenants use, in Prometheus' text format; nothing where there are none.
pub(crate) fn exposition(text: &mut String) {
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|tenant| tenant.strong_count() > 0);
    let mut tenants = BTreeMap::<Arc<str>, Vec<Arc<Tenant>>>::new();
    for tenant in all.iter().filter_map(Weak::upgrade) {
        tenants.entry(Arc::clone(&tenant.config.name)).or_default().push(tenant);
    }
    drop(all);
    if tenants.is_empty() {
        return;
    }
    type Figure = fn(&Tenant) -> u64;
    let families: [(&str, &str, &str, Figure); 3] = [
        ("calls", "gauge", "Calls of a tenant's.", |tenant| tenant.uses().0 as u64),
        ("listeners", "gauge", "Who listens to a tenant's events.", |tenant| {
            tenant.uses().1 as u64
        }),
        ("calls_total", "counter", "Calls of a tenant's that began.", Tenant::begun),
    ];
    // Writing to a string cannot fail.
    for (family, kind, help, figure) in families {
        let family = format!("ringback_tenant_{family}");
        let _ = writeln!(text, "# HELP {family} {help}\n# TYPE {family} {kind}");
        for (name, tenants) in &tenants {
            let sum: u64 = tenants.iter().map(|tenant| figure(tenant)).sum();
            let _ = writeln!(text, "{family}{{tenant=\"{name}\"}} {sum}");
        }
    }
    let family = "ringback_tenant_refused_total";
    let _ = writeln!(text, "# HELP {family} What a tenant had used up.\n# TYPE {family} counter");
    for (name, tenants) in &tenants {
        for quota in Quota::ALL {
            let (sum, quota) =
                (tenants.iter().map(|t| t.refused(quota)).sum::<u64>(), quota.name());
            let _ = writeln!(text, "{family}{{tenant=\"{name}\",quota=\"{quota}\"}} {sum}");
        }
    }
}

/// Counts one more, unless there are as many as may be.
fn one_more(count: &AtomicUsize, most: Option<usize>) -> bool {
    let more = |now: usize| most.is_none_or(|most| now < most).then_some(now + 1);
    count.fetch_update(Relaxed, Relaxed, more).is_ok()
}

impl TenantSeat {
    /// The call begins.
    pub fn begin(&mut self) {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.tenant.begun.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for TenantSeat {
    fn drop(&mut self) {
        self.tenant.calls.fetch_sub(1, Relaxed);
        if !self.has_begun && self.tenant.config.calls_per_second.is_some() {
            // Strangers who are refused for other reasons use up nothing of a tenant's.
            self.tenant.bucket().left += 1.0;
        }
    }
}

impl Drop for TenantListener {
    fn drop(&mut self) {
        self.0.listeners.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn tenant(max_calls: Option<usize>, calls_per_second: Option<u32>) -> Arc<Tenant> {
        let config = TenantConfig {
            name: "acme".into(),
            max_calls,
            calls_per_second,
            max_event_listeners: Some(1),
        };
        Tenants::new(&[config], Clock::start()).find("acme").unwrap()
    }

    fn begun(tenant: &Arc<Tenant>) -> Result<TenantSeat, Quota> {
        let mut seat = tenant.call()?;
        seat.begin();
        Ok(seat)
    }

    #[tokio::test(start_paused = true)]
    async fn calls_at_a_time_are_counted_until_they_end() {
        let tenant = tenant(Some(2), None);
        let (first, _second) = (begun(&tenant).unwrap(), begun(&tenant).unwrap());
        assert_eq!(begun(&tenant).unwrap_err(), Quota::Calls);
        assert_eq!(tenant.has_room(), Err(Quota::Calls));
        drop(first);
        assert_eq!(tenant.has_room(), Ok(()));
        let _third = begun(&tenant).unwrap();
        assert_eq!((tenant.uses().0, tenant.begun(), tenant.refused(Quota::Calls)), (2, 3, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_begin_in_a_second_and_who_is_refused_later_was_none() {
        let tenant = tenant(None, Some(3));
        for second in 0..4 {
            for _ in 0..5 {
                drop(tenant.call().expect("it did not begin"));
            }
            let begun: Vec<_> = (0..10).map(|_| begun(&tenant).map(drop)).collect();
            let let_in = begun.iter().filter(|begun| begun.is_ok()).count();
            assert_eq!(let_in, 3, "in second {second}");
            assert!(begun.contains(&Err(Quota::Setups)));
            assert_eq!(tenant.uses().0, 0);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        tokio::time::advance(Duration::from_millis(333)).await;
        assert_eq!((tenant.begun(), tenant.refused(Quota::Setups)), (12, 28));
        tokio::time::advance(Duration::from_secs(60)).await;
        let after_a_minute = (0..10).filter(|_| begun(&tenant).is_ok()).count();
        assert_eq!(after_a_minute, 3, "what is not used is not saved up");
    }

    #[tokio::test(start_paused = true)]
    async fn listeners_have_a_bound_of_their_own() {
        let tenant = tenant(None, None);
        let first = tenant.listener().unwrap();
        assert_eq!(tenant.listener().unwrap_err(), Quota::Listeners);
        drop(first);
        assert!(tenant.listener().is_ok());
        assert_eq!(tenant.refused(Quota::Listeners), 1);
    }
}
