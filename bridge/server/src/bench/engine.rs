//! The generator: one thread that sends what is due, reads what came and notes how long it took. Starts nothing and sums up nothing.
//!
//! It must cost less than what it measures, or it measures itself. So there is no task, no timer and no allocation per frame: callers
//! are due in a fixed order, sockets are asked for what is ready without waiting, and between two frames the thread spins where it
//! has a core of its own.

use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use ringback_proto::Instant;
use ringback_proto::provider::{Command, Event, Outbox, Track};

use super::Answers;
use super::caller::{Caller, Pen};
use super::schedule::{Due, Schedule};
use super::stamp::{FRAME, Heard, Hearing, MAX_FRAMES, Stamp};
use super::tally::{Tally, micros};
use super::voice::{Told, Voice};
use crate::clock::Clock;

/// Sockets read, and frames sent, before the other is looked after: neither may make the other late.
const AT_ONCE: usize = 64;
/// A wait in the system is a whole number of milliseconds and ends late; what is due within this is spun for.
const SPIN: Duration = Duration::from_millis(2);
/// The longest wait, so that the end of a silent run is not missed.
const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// After the last frame came back, one that comes twice would come within this.
const ENCORE: Duration = Duration::from_millis(40);

/// What the generator needs to run.
pub(super) struct Engine {
    pub(super) clock: Clock,
    pub(super) callers: Vec<Caller>,
    /// `None` where each caller has a voice.
    pub(super) stamp: Option<Stamp>,
    pub(super) schedule: Schedule,
    pub(super) answers: Answers,
    pub(super) tally: Tally,
    /// How long frames may still come back after the last one was due.
    pub(super) cool_down: Duration,
    pub(super) pen: Pen,
    /// Whether this thread has a core to spin on.
    pub(super) spins: bool,
}

/// One caller's part of the books.
struct Book<'a> {
    schedule: &'a Schedule,
    tally: &'a mut Tally,
    caller: usize,
    now: Instant,
}

impl Book<'_> {
    /// A frame came back.
    fn note(&mut self, heard: Heard) {
        match heard {
            Heard::Frame(number) => self.note_frame(number, Some(Duration::ZERO)),
            Heard::Stranger => self.note_stranger(),
        }
    }

    /// A frame came back so long ago, or could not be read.
    fn note_frame(&mut self, number: u32, ago: Option<Duration>) {
        let due = self.schedule.due(self.caller, number);
        if due > self.now || number as usize >= self.schedule.frames() {
            self.note_stranger();
        } else if due >= self.schedule.until() {
            // Said so that those before it come.
        } else if self.tally.is_repeated(self.caller, number) {
            self.tally.duplicates += u64::from(ago.is_some());
        } else {
            self.tally.answered += u64::from(self.is_measuring());
            match (self.schedule.counted(due), ago) {
                (Some(counted), Some(ago)) => {
                    self.tally.back(counted, micros((self.now - due).saturating_sub(ago)));
                }
                (Some(_), None) => self.tally.unreadable += 1,
                (None, _) => {}
            }
        }
    }

    /// A voice was heard, whose numbers are known as far as the rests of a division by `alike`, and by when they are due: at most
    /// `believed` frames ago.
    fn note_told(&mut self, told: Told, alike: u32, believed: u32) {
        let (rest, ago) = match told {
            Told::Frame(rest, ago) => (rest, Some(ago)),
            Told::Unreadable(rest) => (rest, None),
            Told::Stranger => return self.note_stranger(),
        };
        let latest = self.schedule.latest(self.caller, self.now, rest, alike);
        let recent =
            |&number: &u32| self.now - self.schedule.due(self.caller, number) <= FRAME * believed;
        match latest.filter(recent) {
            Some(number) => self.note_frame(number, ago),
            None => self.note_stranger(),
        }
    }

    fn is_measuring(&self) -> bool {
        self.schedule.counted(self.now).is_some() && self.now < self.schedule.until()
    }

    /// Something came that was not sent. While warming up nobody watches the machine, and a stream that it makes stumble may be cut
    /// within a frame.
    fn note_stranger(&mut self) {
        self.tally.strangers += u64::from(self.schedule.counted(self.now).is_some());
    }
}

impl Engine {
    /// Runs the schedule to its end and hangs up.
    ///
    /// # Errors
    /// If a stream broke: the run is not what was asked for.
    pub(super) fn run(mut self) -> Result<Tally, String> {
        let mut poll =
            Poll::new().map_err(|error| format!("cannot watch for what is ready: {error}"))?;
        for (index, caller) in self.callers.iter_mut().enumerate() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(&mut caller.stream, Token(index), interest)
                .map_err(|error| format!("cannot watch call {index}: {error}"))?;
        }
        let outcome = self.turns(&mut poll);
        let (clock, mut pen) = (self.clock, self.pen);
        for caller in self.callers {
            caller.hang_up(clock, &mut pen);
        }
        outcome.map(|()| self.tally)
    }

    fn turns(&mut self, poll: &mut Poll) -> Result<(), String> {
        let mut events = Events::with_capacity(AT_ONCE);
        let mut payload = Vec::new();
        let (mut last, mut allowed, mut worked) = (self.clock.now(), Duration::ZERO, false);
        loop {
            let now = self.clock.now();
            if self.schedule.counted(now).is_some() && last < self.schedule.until() {
                self.tally.turn(now - last, allowed, worked);
            }
            last = now;
            if self.is_over(now) {
                return Ok(());
            }
            worked = self.speak_all_due(&mut payload)?;
            allowed = self.wait(self.clock.now());
            match poll.poll(&mut events, Some(allowed)) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("cannot watch for what is ready: {error}")),
            }
            worked |= !events.is_empty();
            for event in &events {
                let Token(index) = event.token();
                self.look_after(index, event.is_writable())
                    .map_err(|error| format!("call {index} of {}: {error}", self.callers.len()))?;
            }
            if !self.spins && events.is_empty() && allowed.is_zero() {
                std::thread::yield_now();
            }
        }
    }

    /// Whether there is nothing left to send or to wait for.
    fn is_over(&self, now: Instant) -> bool {
        let until = self.schedule.until();
        now >= until + self.cool_down || (now >= until + ENCORE && self.tally.is_complete())
    }

    /// How long the system may be asked to wait for something to read.
    fn wait(&self, now: Instant) -> Duration {
        let next = match self.schedule.next() {
            Some(due) => due.at - now,
            None => (self.schedule.until() + self.cool_down) - now,
        };
        let wait = next.saturating_sub(SPIN).min(LONGEST_WAIT);
        // Rounded down: the system would round it up.
        Duration::from_millis(wait.as_millis() as u64)
    }

    /// Sends what is due, and says whether anything was.
    fn speak_all_due(&mut self, payload: &mut Vec<u8>) -> Result<bool, String> {
        for sent in 0..AT_ONCE {
            let now = self.clock.now();
            let Some(due) = self.schedule.next().filter(|due| due.at <= now) else {
                return Ok(sent > 0);
            };
            self.schedule.advance();
            self.speak(now, due, payload)
                .map_err(|error| format!("call {}: {error}", due.caller))?;
        }
        Ok(true)
    }

    fn speak(&mut self, now: Instant, due: Due, payload: &mut Vec<u8>) -> Result<(), String> {
        let Some(caller) = self.callers.get_mut(due.caller) else { return Ok(()) };
        // Both fit: they are bounded by the plan.
        match (&self.stamp, &mut caller.voice) {
            (Some(stamp), _) => stamp.write(due.number % MAX_FRAMES, due.caller as u32, payload),
            (None, Some(voice)) => {
                voice.write(due.number, payload).map_err(|error| error.to_string())?;
            }
            (None, None) => return Ok(()),
        }
        let media = Command::Media { track: Track::Inbound, payload };
        caller
            .protocol
            .handle_command(now, media, &mut self.pen.out)
            .map_err(|error| error.to_string())?;
        caller.flush(&mut self.pen)?;
        if due.at >= self.schedule.until() {
            return Ok(());
        }
        self.tally.said_one(due.caller);
        if self.schedule.counted(due.at).is_some() {
            self.tally.sent(micros(now - due.at));
        }
        Ok(())
    }

    /// Reads all that came for a caller.
    fn look_after(&mut self, index: usize, writable: bool) -> Result<(), String> {
        let Some(caller) = self.callers.get_mut(index) else { return Ok(()) };
        if writable {
            caller.flush_backlog()?;
        }
        let mut more = true;
        while more {
            more = caller.read()?;
            let now = self.clock.now();
            let mut book =
                Book { schedule: &self.schedule, tally: &mut self.tally, caller: index, now };
            let (mut hearing, mut in_order) = (caller.hearing, caller.in_order);
            let mut voice = caller.voice.take();
            let calls = self.answers == Answers::Calls;
            while caller.next_message(&mut self.pen, |protocol, message, out| {
                if !calls {
                    book.note(Heard::Frame(in_order));
                    in_order += 1;
                    return Ok(());
                }
                protocol.handle_message(now, message, out).map_err(|error| error.to_string())?;
                match (&self.stamp, &mut voice) {
                    (Some(stamp), _) => hear(stamp, &mut hearing, out, &mut book),
                    (None, Some(voice)) => hear_voice(voice, out, &mut book)?,
                    (None, None) => {}
                }
                Ok(())
            })? {}
            (caller.hearing, caller.in_order, caller.voice) = (hearing, in_order, voice);
            caller.flush(&mut self.pen)?;
        }
        Ok(())
    }
}

/// Notes the frames in what the protocol understood.
fn hear(stamp: &Stamp, hearing: &mut Hearing, out: &Outbox, book: &mut Book<'_>) {
    let caller = book.caller as u32;
    for event in out.events() {
        if let Event::Media(media) = event {
            hearing.hear(stamp, caller, out.octets(&media.payload), |heard| book.note(heard));
        }
    }
}

/// [`hear`], of what carries no stamps.
fn hear_voice(voice: &mut Voice, out: &Outbox, book: &mut Book<'_>) -> Result<(), String> {
    for event in out.events() {
        if let Event::Media(media) = event {
            let (alike, believed) = (voice.alike(), voice.believed());
            let heard = voice.hear(out.octets(&media.payload), |told| {
                book.note_told(told, alike, believed);
            });
            heard.map_err(|error| format!("sound from the bridge: {error}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames and strangers at milliseconds of a run that is measured from 100 to 200: what is counted of them.
    fn noted(heard: &[(u64, Heard)]) -> Tally {
        let at = Instant::from_millis;
        let schedule = Schedule::new(1, at(0), at(100), at(200));
        let mut tally = Tally::new(1, schedule.frames(), Duration::from_millis(100));
        for &(now, heard) in heard {
            Book { schedule: &schedule, tally: &mut tally, caller: 0, now: at(now) }.note(heard);
        }
        tally
    }

    #[test]
    fn what_comes_twice_or_was_never_sent_is_counted_apart_from_what_came_back() {
        let frame = Heard::Frame;
        let tally = noted(&[(150, frame(6)), (151, frame(6)), (152, frame(9)), (153, frame(99))]);
        assert_eq!((tally.received, tally.duplicates, tally.strangers), (1, 1, 2));
        let tally = noted(&[(150, Heard::Stranger), (250, Heard::Stranger)]);
        assert_eq!((tally.received, tally.strangers), (0, 2));
    }

    #[test]
    fn what_is_answered_while_it_is_measured_is_told_from_what_was_due_then() {
        let frame = Heard::Frame;
        let tally = noted(&[(90, frame(3)), (110, frame(4)), (150, frame(6)), (250, frame(8))]);
        assert_eq!((tally.received, tally.answered), (2, 2));
    }

    #[test]
    fn what_a_voice_says_is_told_apart_by_when_it_is_due() {
        let at = Instant::from_millis;
        let mut schedule = Schedule::new(1, at(0), at(0), at(10_000));
        schedule.go_on_for(FRAME * 3);
        let mut tally = Tally::new(1, schedule.frames(), Duration::from_secs(10));
        let due = |number| schedule.due(0, number);
        let mut note = |now, told| {
            let mut book = Book { schedule: &schedule, tally: &mut tally, caller: 0, now };
            book.note_told(told, 30, 10);
        };
        let ms = Duration::from_millis;
        note(due(45) + ms(50), Told::Frame(15, ms(40)));
        note(due(45) + ms(60), Told::Frame(15, ms(0)));
        note(due(46) + ms(60), Told::Unreadable(16));
        note(due(47) + ms(60), Told::Unreadable(15));
        // Due 22 frames ago, or never; and what is said after the end.
        note(due(47) + ms(1), Told::Frame(25, ms(0)));
        note(due(3), Told::Frame(4, ms(0)));
        note(due(502), Told::Frame(501 % 30, ms(0)));
        let counts = (tally.received, tally.duplicates, tally.unreadable, tally.strangers);
        assert_eq!(counts, (1, 1, 1, 2));
        assert_eq!(tally.latency[9].percentiles().max, 10_000);
    }

    #[test]
    fn the_warm_up_is_not_judged_but_for_what_comes_twice() {
        let tally = noted(&[(30, Heard::Frame(0)), (50, Heard::Stranger), (60, Heard::Frame(0))]);
        assert_eq!((tally.received, tally.duplicates, tally.strangers), (0, 1, 0));
    }
}
