//! One way of a bad line, and a whole one: octets wait until their time, in a queue that is bounded. Opens no connection.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use ringback_proto::Instant;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::schedule::Schedule;
use super::{Done, End, Faults, Told};
use crate::clock::Clock;
use crate::net::Io;

/// Octets that one way holds; with more it does not read. One of limited rate holds less.
const MOST: usize = 64 * 1024;
/// A task that wakes up so much late was not: the line was idle, or stood still.
const LATE: Duration = Duration::from_millis(100);
/// Most octets of one read.
const READ: usize = 4 * 1024;

/// Passes octets between whoever connected and whom they connected to, as badly as told, until the connection ends. Neither end is
/// closed at the end but by what passed: that is left to the owner of both.
pub async fn line(
    clock: Clock,
    ends: (&mut impl Io, &mut impl Io),
    faults: &Faults,
    connection: u64,
) -> Told {
    line_until(clock, ends, faults, connection, std::future::pending()).await
}

/// [`line`], unless it is `stopped` before.
pub(super) async fn line_until(
    clock: Clock,
    (caller, callee): (&mut impl Io, &mut impl Io),
    faults: &Faults,
    connection: u64,
    stopped: impl Future<Output = ()>,
) -> Told {
    let opened = clock.now();
    let (mut from_caller, mut to_caller) = tokio::io::split(caller);
    let (mut from_callee, mut to_callee) = tokio::io::split(callee);
    let mut inward = Pipe::new(clock, Schedule::new(faults, connection, true));
    let mut outward = Pipe::new(clock, Schedule::new(faults, connection, false));
    let reset = faults.reset.map(|after| opened + after);
    let ended = tokio::select! {
        biased;
        () = clock.sleep_until(reset), if reset.is_some() => End::Reset,
        both = async {
            tokio::try_join!(
                inward.run(&mut from_caller, &mut to_callee),
                outward.run(&mut from_callee, &mut to_caller),
            )
        } => if both.is_ok() { End::Closed } else { End::Broken },
        () = stopped => End::Stopped,
    };
    let lasted = clock.now() - opened;
    Told {
        connection,
        ended,
        lasted_ms: millis(lasted),
        inward: inward.finish(),
        outward: outward.finish(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Octets that came together.
struct Piece {
    octets: Vec<u8>,
    /// How many of them are passed on.
    passed: usize,
    came: Instant,
    due: Instant,
}

/// One way.
struct Pipe {
    clock: Clock,
    opened: Instant,
    schedule: Schedule,
    queue: VecDeque<Piece>,
    queued: usize,
    /// Octets with which it reads no more.
    most: usize,
    /// The line is busy with what was passed on, until then.
    free_at: Instant,
    /// The stall in which something waited last.
    stalled: u64,
    /// The sender said that no more comes.
    ended: bool,
    /// The receiver was told so.
    told: bool,
    done: Done,
    space: Vec<u8>,
}

impl Pipe {
    fn new(clock: Clock, schedule: Schedule) -> Self {
        let opened = clock.now();
        let most = schedule.holds().map_or(MOST, |octets| octets.clamp(1, MOST));
        Self {
            clock,
            opened,
            most,
            schedule,
            queue: VecDeque::new(),
            queued: 0,
            free_at: opened,
            stalled: 0,
            ended: false,
            told: false,
            done: Done::default(),
            space: vec![0; READ],
        }
    }

    /// What was done; what still waits is lost.
    fn finish(self) -> Done {
        Done { discarded: self.done.discarded + self.queued as u64, ..self.done }
    }

    /// Passes octets on until the sender ends and all is passed on.
    async fn run(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        loop {
            let now = self.clock.now();
            let half_close = self.half_close_at();
            if half_close.is_some_and(|at| at <= now) {
                self.discard_queue();
                self.done.half_closed = !self.ended;
                self.tell_end(to).await;
            }
            if self.ended && self.queue.is_empty() {
                self.tell_end(to).await;
                return Ok(());
            }
            let due = self.next_due(now);
            let writes = due.is_some_and(|at| at <= now);
            let wake = due.filter(|_| !writes).into_iter().chain(half_close).min();
            let reads = !self.ended && self.queued < self.most;
            let (most, front) = (self.schedule.most_at_once(), self.queue.front());
            let next = front.map_or(&[][..], |piece| &piece.octets[piece.passed..]);
            let next = &next[..next.len().min(most)];
            tokio::select! {
                biased;
                read = from.read(&mut self.space), if reads => {
                    let octets = read?;
                    self.take(octets);
                }
                written = to.write(next), if writes => {
                    let octets = written?;
                    self.passed(octets);
                }
                () = self.clock.sleep_until(wake), if wake.is_some() => {}
            }
        }
    }

    fn half_close_at(&self) -> Option<Instant> {
        let after = self.schedule.half_close().filter(|_| !self.told)?;
        Some(self.opened + after)
    }

    /// Tells the receiver that no more comes, once. One that is gone need not know.
    async fn tell_end(&mut self, to: &mut (impl AsyncWrite + Unpin)) {
        if !self.told {
            self.told = true;
            let _ = to.shutdown().await;
        }
    }

    fn discard_queue(&mut self) {
        self.done.discarded += self.queued as u64;
        self.queue.clear();
        self.queued = 0;
    }

    /// When the next octets may be passed on.
    fn next_due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.queue.front()?.due.max(self.free_at);
        let since = due.max(now) - self.opened;
        let Some((number, ends)) = self.schedule.stall(since) else { return Some(due) };
        if number > self.stalled {
            self.stalled = number;
            self.done.stalls += 1;
        }
        // A stall without end is a day: nobody waits so long for a line.
        Some(self.opened + ends.min(since + Duration::from_secs(86_400)))
    }

    /// Takes in what was just read.
    fn take(&mut self, octets: usize) {
        if octets == 0 {
            self.ended = true;
            return;
        }
        if self.told {
            self.done.discarded += octets as u64;
            return;
        }
        let came = self.clock.now();
        let due = came + self.schedule.delay(came - self.opened);
        // Nothing overtakes.
        let due = self.queue.back().map_or(due, |last| due.max(last.due));
        let mut octets = self.space[..octets].to_vec();
        self.done.flipped += self.schedule.flip(&mut octets);
        self.queued += octets.len();
        self.queue.push_back(Piece { octets, passed: 0, came, due });
    }

    /// So many octets of the first piece were passed on.
    fn passed(&mut self, octets: usize) {
        let now = self.clock.now();
        self.done.octets += octets as u64;
        self.done.pieces += 1;
        self.queued -= octets;
        let Some(piece) = self.queue.front_mut() else { return };
        // The line goes on from when it was free, not from when this task was woken, or it would be slower than told.
        let from = self.free_at.max(piece.due);
        let from = if now - from > LATE { now } else { from };
        self.free_at = from + self.schedule.takes(octets);
        piece.passed += octets;
        if piece.passed == piece.octets.len() {
            self.done.longest_ms = self.done.longest_ms.max(millis(now - piece.came));
            self.queue.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::super::{Stall, Way};
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A line between two ends.
    fn lined(faults: Faults, connection: u64) -> (DuplexStream, DuplexStream, JoinHandle<Told>) {
        let (near, mut caller) = duplex(1024);
        let (far, mut callee) = duplex(1024);
        let clock = Clock::start();
        let running = tokio::spawn(async move {
            line(clock, (&mut caller, &mut callee), &faults, connection).await
        });
        (near, far, running)
    }

    /// When each of `count` octets came, one said every 10 ms, in ms; and whether they were those that were said.
    async fn heard(
        mut near: DuplexStream,
        mut far: DuplexStream,
        count: u8,
    ) -> (Vec<u64>, Vec<u8>) {
        let clock = Clock::start();
        let says = tokio::spawn(async move {
            for octet in 0..count {
                clock.sleep_until(Some(Instant::ZERO + u32::from(octet) * 10 * MS)).await;
                if near.write_all(&[octet]).await.is_err() {
                    break;
                }
            }
            near
        });
        let (mut times, mut octets) = (Vec::new(), Vec::new());
        while let Ok(octet) = far.read_u8().await {
            times.push(millis(clock.now().since_epoch()));
            octets.push(octet);
            if octets.len() == usize::from(count) {
                break;
            }
        }
        drop(says.await);
        (times, octets)
    }

    #[tokio::test(start_paused = true)]
    async fn octets_come_late_in_order_and_the_same_seed_is_the_same_line() {
        let run = |seed, connection| async move {
            let jitter = 200 * MS;
            let faults = Faults { latency: 50 * MS, jitter, seed, ..Faults::default() };
            let (near, far, running) = lined(faults, connection);
            let (times, octets) = heard(near, far, 200).await;
            assert_eq!(octets, (0..200).collect::<Vec<u8>>());
            (times, running.await.expect("no panic"))
        };
        let (times, told) = run(7, 0).await;
        assert!(times[0] >= 50 && times.is_sorted());
        let late = times.iter().zip(0..).map(|(time, said)| time - said * 10).max();
        assert!((200..=251).contains(&late.unwrap()), "{late:?}");
        assert_eq!((told.ended, told.inward.octets), (End::Closed, 200));
        assert_eq!(run(7, 0).await, (times.clone(), told));
        assert_ne!(run(8, 0).await.0, times);
        assert_ne!(run(7, 1).await.0, times);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_stall_everything_comes_at_once() {
        let stall = Some(Stall::again(500 * MS, 1_000 * MS));
        let (near, far, running) = lined(Faults { stall, ..Faults::default() }, 0);
        let (times, octets) = heard(near, far, 200).await;
        assert_eq!(octets.len(), 200);
        let waited = times.iter().zip(0u64..).filter(|(time, said)| *time - said * 10 > 5);
        // What was said from 1.0 to 1.5 s.
        assert_eq!(waited.count(), 50);
        assert!(times[100..150].iter().all(|time| (1_500..1_505).contains(time)), "{times:?}");
        let told = running.await.expect("no panic");
        assert_eq!((told.inward.stalls, told.outward.stalls), (1, 0));
        assert!((500..505).contains(&told.inward.longest_ms), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_line_holds_little_and_makes_the_sender_wait() {
        let faults = Faults { rate: Some(8_000), ..Faults::default() };
        let (mut near, mut far, _running) = lined(faults, 0);
        let clock = Clock::start();
        let sent = tokio::spawn(async move {
            near.write_all(&vec![7; MOST + 64 * 1024]).await.expect("there is somebody");
            clock.now().since_epoch()
        });
        let mut octets = vec![0; MOST + 64 * 1024];
        far.read_exact(&mut octets).await.expect("all of it");
        let took = clock.now().since_epoch();
        assert!((16..18).contains(&took.as_secs()), "{took:?} for 128 KiB");
        let accepted = sent.await.expect("no panic");
        // All but what the line and both streams in memory hold.
        assert!((15..17).contains(&accepted.as_secs()), "the sender was done after {accepted:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn slices_are_as_small_as_told() {
        let faults = Faults { slice: std::num::NonZeroUsize::new(3), ..Faults::default() };
        let (mut near, mut far, running) = lined(faults, 0);
        near.write_all(&[1; 100]).await.expect("there is somebody");
        drop(near);
        let mut octets = Vec::new();
        far.read_to_end(&mut octets).await.expect("all of it");
        drop(far);
        let told = running.await.expect("no panic");
        assert_eq!((octets.len(), told.inward.octets, told.inward.pieces), (100, 100, 34));
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_close_ends_one_way_and_leaves_the_other() {
        let half_close = Some(1_000 * MS);
        let faults = Faults { half_close, way: Way::In, ..Faults::default() };
        let (mut near, mut far, running) = lined(faults, 0);
        near.write_all(b"before").await.expect("there is somebody");
        let mut octets = Vec::new();
        far.read_to_end(&mut octets).await.expect("an end");
        assert_eq!(octets, b"before");
        near.write_all(b"after").await.expect("nobody tells the sender");
        far.write_all(b"answer").await.expect("the way back is open");
        let mut answer = [0; 6];
        near.read_exact(&mut answer).await.expect("the answer");
        drop((near, far));
        let told = running.await.expect("no panic");
        assert!(told.inward.half_closed && !told.outward.half_closed);
        assert_eq!((told.inward.discarded, told.outward.octets), (5, 6));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_comes_in_its_time_and_says_what_was_lost() {
        let faults = Faults { reset: Some(700 * MS), latency: 100 * MS, ..Faults::default() };
        let (near, far, running) = lined(faults, 0);
        let (_, octets) = heard(near, far, 200).await;
        assert!((59..=61).contains(&octets.len()), "{}", octets.len());
        let told = running.await.expect("no panic");
        assert_eq!((told.ended, told.lasted_ms), (End::Reset, 700));
        assert!((9..=11).contains(&told.inward.discarded), "{told:?}");
    }
}
