//! The only place that reads a clock: monotonic time for all that waits, wall time for labels. Decides nothing by either.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringback_proto::{Instant, UnixSeconds};

/// Monotonic time as the pure crates are told it. Cheap to copy; all copies share one epoch.
///
/// It runs on tokio's clock, so a test that pauses tokio's time has the whole bridge in its hand.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    epoch: tokio::time::Instant,
}

impl Clock {
    /// A clock whose epoch is now.
    #[must_use]
    pub fn start() -> Self {
        Self { epoch: tokio::time::Instant::now() }
    }

    /// Time since the epoch. Read it once per wake-up and pass it on.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::from_epoch(self.epoch.elapsed())
    }

    /// Waits until `deadline`; for ever if there is none, so it can stand in a `select!` without a guard.
    pub async fn sleep_until(&self, deadline: Option<Instant>) {
        match deadline.and_then(|at| self.epoch.checked_add(at.since_epoch())) {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// An alarm that is not set.
    #[must_use]
    pub fn alarm(&self) -> Alarm {
        Alarm { epoch: self.epoch, at: None, sleep: tokio::time::sleep_until(self.epoch) }
    }
}

pin_project_lite::pin_project! {
    /// A deadline that may be set anew again and again, which costs nothing while it stays the same and no lock while it moves
    /// later; a fresh [`Clock::sleep_until`] for each wait costs both. Polled before its time it wakes its task then.
    #[derive(Debug)]
    pub struct Alarm {
        epoch: tokio::time::Instant,
        at: Option<Instant>,
        #[pin]
        sleep: tokio::time::Sleep,
    }
}

impl Alarm {
    /// From now on rings at `deadline`, or never.
    pub fn set(self: Pin<&mut Self>, deadline: Option<Instant>) {
        let this = self.project();
        if *this.at == deadline {
            return;
        }
        *this.at = deadline.filter(|at| {
            let at = this.epoch.checked_add(at.since_epoch());
            at.map(|at| this.sleep.reset(at)).is_some()
        });
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        match this.at {
            Some(_) => this.sleep.poll(cx),
            None => Poll::Pending,
        }
    }
}

/// Wall time, for log lines, file names and reports; never for arithmetic, because it jumps.
///
/// Prints as RFC 3339 in UTC with milliseconds: `2026-11-21T07:05:09.042Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime {
    since_unix_epoch: Duration,
}

impl WallTime {
    /// What the wall clock shows. A clock set before 1970 reads as 1970.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the place that reads the wall clock")]
    pub fn now() -> Self {
        Self::from_unix(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// The time so long after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_unix(since_unix_epoch: Duration) -> Self {
        Self { since_unix_epoch }
    }

    /// A file's time; one before 1970 reads as 1970.
    #[must_use]
    pub fn of_file(time: SystemTime) -> Self {
        Self::from_unix(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// So much later.
    #[must_use]
    pub const fn after(self, time: Duration) -> Self {
        Self { since_unix_epoch: self.since_unix_epoch.saturating_add(time) }
    }

    /// How long ago `earlier` was, a file's time for example; nothing if it lies ahead.
    #[must_use]
    pub fn since(&self, earlier: SystemTime) -> Duration {
        let earlier = earlier.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.since_unix_epoch.saturating_sub(earlier)
    }

    /// The moment as credentials tell it.
    #[must_use]
    pub const fn unix_seconds(&self) -> UnixSeconds {
        UnixSeconds(self.since_unix_epoch.as_secs())
    }

    /// `20261121T070509Z`: the same moment for file names, which sort by it.
    #[must_use]
    pub fn compact(&self) -> String {
        let (year, month, day) = self.date();
        let (hour, minute, second) = self.time_of_day();
        format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
    }

    fn time_of_day(&self) -> (u64, u64, u64) {
        let second = self.since_unix_epoch.as_secs() % 86_400;
        (second / 3_600, second / 60 % 60, second % 60)
    }

    /// Year, month and day of the proleptic Gregorian calendar.
    ///
    /// Years are counted from 1 March, so that the leap day is the last of its year and months fall into a pattern of 153 days
    /// per five of them; 400 years always have 146,097 days.
    fn date(&self) -> (u64, u64, u64) {
        const DAYS_FROM_MARCH_0000_TO_1970: u64 = 719_468;
        let days = self.since_unix_epoch.as_secs() / 86_400 + DAYS_FROM_MARCH_0000_TO_1970;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        (year, month, day)
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date();
        let (hour, minute, second) = self.time_of_day();
        let milli = self.since_unix_epoch.subsec_millis();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall(seconds: u64) -> String {
        WallTime::from_unix(Duration::from_secs(seconds)).to_string()
    }

    #[test]
    fn wall_time_prints_as_rfc_3339() {
        assert_eq!(wall(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(wall(951_782_399), "2000-02-28T23:59:59.000Z");
        assert_eq!(wall(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(wall(951_868_800), "2000-03-01T00:00:00.000Z");
        assert_eq!(wall(1_709_164_800), "2024-02-29T00:00:00.000Z");
        assert_eq!(wall(1_735_689_599), "2024-12-31T23:59:59.000Z");
        assert_eq!(wall(4_107_542_400), "2100-03-01T00:00:00.000Z");
        let time = WallTime::from_unix(Duration::from_millis(1_795_244_709_042));
        assert_eq!(time.to_string(), "2026-11-21T07:05:09.042Z");
        assert_eq!(time.compact(), "20261121T070509Z");
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let mut last = (1969, 12, 31);
        for day in 0..146_097 {
            let date = WallTime::from_unix(Duration::from_secs(day * 86_400)).date();
            let next_day = date == (last.0, last.1, last.2 + 1) && date.2 <= 31;
            let next_month = date == (last.0, last.1 + 1, 1) && last.2 >= 28;
            let next_year = date == (last.0 + 1, 1, 1) && last == (last.0, 12, 31);
            assert!(next_day || next_month || next_year, "{date:?} after {last:?}");
            last = date;
        }
        assert_eq!(last, (2369, 12, 31));
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_follows_paused_time() {
        let clock = Clock::start();
        assert_eq!(clock.now(), Instant::ZERO);
        tokio::time::advance(Duration::from_millis(1_500)).await;
        assert_eq!(clock.now(), Instant::from_millis(1_500));
        clock.sleep_until(Some(Instant::from_millis(60_000))).await;
        assert_eq!(clock.now(), Instant::from_millis(60_000));
        clock.sleep_until(Some(Instant::ZERO)).await;
        assert_eq!(clock.now(), Instant::from_millis(60_000), "a deadline in the past is due now");
    }

    #[tokio::test(start_paused = true)]
    async fn no_deadline_waits_for_ever() {
        let clock = Clock::start();
        let year = Duration::from_secs(365 * 86_400);
        assert!(tokio::time::timeout(year, clock.sleep_until(None)).await.is_err());
    }

    /// When an alarm rings, in milliseconds; `None` if it never does. Does not set it anew.
    async fn rings(clock: &Clock, alarm: Pin<&mut Alarm>) -> Option<u64> {
        let rung = tokio::time::timeout(Duration::from_secs(3_600), alarm).await;
        rung.ok().map(|()| clock.now().since_epoch().as_millis() as u64)
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_rings_when_it_was_last_told_to() {
        let ms = |at| Some(Instant::from_millis(at));
        for (case, settings, rung) in [
            ("never set", vec![], None),
            ("once", vec![ms(20)], Some(20)),
            ("later", vec![ms(20), ms(60)], Some(60)),
            ("earlier", vec![ms(60), ms(20)], Some(20)),
            ("to and fro", vec![ms(20), ms(60), ms(40)], Some(40)),
            ("off", vec![ms(20), None], None),
            ("off and on", vec![ms(20), None, ms(20)], Some(20)),
            ("at once", vec![ms(0)], Some(0)),
            ("beyond all time", vec![ms(20), Some(Instant::from_epoch(Duration::MAX))], None),
        ] {
            let clock = Clock::start();
            let mut alarm = std::pin::pin!(clock.alarm());
            for deadline in settings {
                alarm.as_mut().set(deadline);
                // Polled in between, as by a task that something else woke.
                let soon = tokio::time::timeout(Duration::ZERO, alarm.as_mut());
                assert_eq!(soon.await.is_ok(), deadline == ms(0), "{case}");
            }
            assert_eq!(rings(&clock, alarm).await, rung, "{case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_that_rang_goes_on_until_it_is_set_to_something_else() {
        let clock = Clock::start();
        let mut alarm = std::pin::pin!(clock.alarm());
        let first = Some(Instant::from_millis(20));
        alarm.as_mut().set(first);
        assert_eq!(rings(&clock, alarm.as_mut()).await, Some(20));
        tokio::time::advance(Duration::from_millis(10)).await;
        alarm.as_mut().set(first);
        assert_eq!(rings(&clock, alarm.as_mut()).await, Some(30), "still due, so at once");
        alarm.as_mut().set(Some(Instant::from_millis(25)));
        assert_eq!(rings(&clock, alarm.as_mut()).await, Some(30), "past, so at once");
        alarm.as_mut().set(Some(Instant::from_millis(50)));
        assert_eq!(rings(&clock, alarm.as_mut()).await, Some(50));
        alarm.as_mut().set(None);
        assert_eq!(rings(&clock, alarm.as_mut()).await, None);
    }
}
