//! Which session has which slot of a process, and the queues of what the process says to each. Starts and writes nothing.

use std::sync::Arc;

use ringback_module::message::FromModule;
use ringback_module::wire::{Frame, FrameKind};
use tokio::sync::{Semaphore, mpsc};

/// Octets said and not yet listened to, of one session; above the largest frame there is.
const MOST_SAID: usize = 1 << 20;
/// What a frame takes beside its octets.
const FRAME: usize = 64;
/// Sessions of one process, whatever it says of itself.
const MOST_SESSIONS: u32 = 1_000;

/// A frame of a session.
pub(super) struct Said {
    pub(super) kind: FrameKind,
    pub(super) body: Vec<u8>,
}

/// Where the process speaks to a session.
#[derive(Clone)]
pub(super) struct Voice {
    said: mpsc::UnboundedSender<Said>,
    /// In octets.
    room: Arc<Semaphore>,
}

/// Where the session listens.
pub(super) struct Ear {
    said: mpsc::UnboundedReceiver<Said>,
    room: Arc<Semaphore>,
}

fn cost(said: &Said) -> u32 {
    (said.body.len() + FRAME).min(MOST_SAID) as u32
}

impl Voice {
    /// Waits while the session is behind. Cancel safe: what was not said by then is given up.
    pub(super) async fn say(&self, said: Said) {
        // Never closed.
        if let Ok(room) = self.room.acquire_many(cost(&said)).await {
            room.forget();
            let _ = self.said.send(said);
        }
    }

    /// Whether the session has left.
    pub(super) fn is_deaf(&self) -> bool {
        self.said.is_closed()
    }

    /// Gives it back if the session is behind.
    pub(super) fn try_say(&self, said: Said) -> Result<(), Said> {
        match self.room.try_acquire_many(cost(&said)) {
            Ok(room) => {
                room.forget();
                let _ = self.said.send(said);
                Ok(())
            }
            Err(_) => Err(said),
        }
    }
}

impl Ear {
    /// The next frame; `None` once the process is no more, or does not speak to this session any more.
    pub(super) async fn hear(&mut self) -> Option<Said> {
        let said = self.said.recv().await?;
        self.room.add_permits(cost(&said) as usize);
        Some(said)
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "bounded in octets by the semaphore: a thousand short messages are as good as one frame of sound"
)]
fn line() -> (Voice, Ear) {
    let (sender, said) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(MOST_SAID));
    (Voice { said: sender, room: Arc::clone(&room) }, Ear { said, room })
}

enum Slot {
    Free,
    Taken(Voice),
    /// Its session is over for us and, as far as is known, not for the process, which has said so many octets in it since.
    Lost(usize),
}

/// Who hears what the process says.
pub(super) enum Heard {
    /// A session.
    By(Voice),
    /// Its session is over.
    ByNobody,
    /// Its session is over for the process as well now: there is room for another.
    Last,
}

/// How a session left its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// The process said that it is over.
    Clean,
    /// It may not know that it is.
    Lost,
    /// It did what it must not; others had better not come.
    Broke,
}

/// All slots of a process.
#[derive(Default)]
pub(super) struct Slots {
    /// The first is slot 1.
    slots: Vec<Slot>,
    live: u16,
    lost: u16,
    /// Sessions it takes, once it has registered.
    pub(super) takes: Option<u16>,
    /// No session comes any more.
    pub(super) is_retired: bool,
    /// Its only session keeps us from reading it.
    pub(super) is_held: bool,
}

impl Slots {
    pub(super) fn live(&self) -> u16 {
        self.live
    }

    /// Taken and lost ones.
    pub(super) fn used(&self) -> u16 {
        self.live + self.lost
    }

    pub(super) fn lost(&self) -> u16 {
        self.lost
    }

    /// `register` came.
    pub(super) fn register(&mut self, max_sessions: u32) -> u16 {
        let takes = max_sessions.clamp(1, MOST_SESSIONS) as u16;
        self.takes = Some(takes);
        takes
    }

    /// The lowest that is free.
    pub(super) fn take(&mut self) -> (u16, Ear) {
        let (voice, ear) = line();
        let free = self.slots.iter().position(|slot| matches!(slot, Slot::Free));
        let index = free.unwrap_or(self.slots.len());
        match self.slots.get_mut(index) {
            Some(slot) => *slot = Slot::Taken(voice),
            None => self.slots.push(Slot::Taken(voice)),
        }
        self.live += 1;
        (index as u16 + 1, ear)
    }

    /// Its session is gone.
    pub(super) fn leave(&mut self, slot: u16, left: Left) {
        let Some(place) = self.place(slot) else { return };
        let was_live = matches!(place, Slot::Taken(_));
        let now = if left == Left::Clean { Slot::Free } else { Slot::Lost(0) };
        let was_lost = matches!(std::mem::replace(place, now), Slot::Lost(_));
        self.live -= u16::from(was_live);
        self.lost -= u16::from(was_lost);
        self.lost += u16::from(left != Left::Clean);
        self.is_retired |= left == Left::Broke;
        self.is_held = false;
    }

    /// Its session hears no more of the process, and is to find out. It still has its slot.
    pub(super) fn silence(&mut self, slot: u16) {
        if let Some(place @ Slot::Taken(_)) = self.place(slot) {
            // A voice that nobody speaks with.
            *place = Slot::Taken(line().0);
        }
    }

    /// The same for all of them.
    pub(super) fn silence_all(&mut self) {
        for slot in 1..=self.slots.len() as u16 {
            self.silence(slot);
        }
    }

    /// Who hears a frame.
    ///
    /// # Errors
    /// If there never was a session in it, or if it goes on as if it were not over.
    pub(super) fn heard(&mut self, frame: &Frame<'_>) -> Result<Heard, String> {
        let (slot, open) = (frame.slot, self.slots.len());
        let Some(place) = self.place(slot) else {
            return Err(format!("sent a frame for slot {slot}, but {}", opened(open)));
        };
        match place {
            Slot::Taken(voice) => Ok(Heard::By(voice.clone())),
            Slot::Free => Ok(Heard::ByNobody),
            Slot::Lost(_) if is_last(frame) => {
                *place = Slot::Free;
                self.lost -= 1;
                Ok(Heard::Last)
            }
            Slot::Lost(said) => {
                *said += frame.body.len() + FRAME;
                if *said > MOST_SAID {
                    return Err(format!(
                        "goes on and on in slot {slot}, where it was told to stop"
                    ));
                }
                Ok(Heard::ByNobody)
            }
        }
    }

    fn place(&mut self, slot: u16) -> Option<&mut Slot> {
        self.slots.get_mut(usize::from(slot).checked_sub(1)?)
    }
}

fn opened(slots: usize) -> String {
    match slots {
        0 => "none is open".into(),
        1 => "only 1 is open".into(),
        slots => format!("only 1 to {slots} are open"),
    }
}

/// Whether this is the last word of a session.
fn is_last(frame: &Frame<'_>) -> bool {
    if frame.kind != FrameKind::Json {
        return false;
    }
    match serde_json::from_slice(frame.body) {
        Ok(FromModule::Done { .. } | FromModule::Reject(_)) => true,
        Ok(FromModule::Error(error)) => error.fatal,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn done(slot: u16) -> Frame<'static> {
        Frame { slot, kind: FrameKind::Json, body: br#"{"type": "done"}"# }
    }

    const fn other(slot: u16) -> Frame<'static> {
        Frame {
            slot,
            kind: FrameKind::Json,
            body: br#"{"type": "event", "name": "x", "data": null}"#,
        }
    }

    #[test]
    fn the_lowest_free_slot_is_taken_and_a_lost_one_is_free_after_its_last_word() {
        let mut slots = Slots::default();
        let ears: Vec<_> = (1..=3).map(|slot| (slot, slots.take().0)).collect();
        assert!(ears.iter().all(|(expected, slot)| expected == slot));
        slots.leave(2, Left::Clean);
        assert_eq!((slots.live(), slots.used()), (2, 2));
        assert_eq!(slots.take().0, 2);
        slots.leave(1, Left::Lost);
        assert_eq!((slots.live(), slots.used(), slots.take().0), (2, 3, 4));
        assert!(matches!(slots.heard(&other(1)), Ok(Heard::ByNobody)));
        assert_eq!(slots.lost(), 1);
        assert!(matches!(slots.heard(&done(1)), Ok(Heard::Last)));
        assert_eq!((slots.lost(), slots.take().0), (0, 1));
        assert!(!slots.is_retired);
        slots.leave(1, Left::Broke);
        assert!(slots.is_retired);
    }

    #[test]
    fn a_slot_that_never_was_is_a_breach() {
        let mut slots = Slots::default();
        for (open, word) in
            ["none is open", "only 1 is open", "only 1 to 2 are open"].iter().enumerate()
        {
            let said = slots.heard(&other(7)).err().unwrap();
            assert_eq!(said, format!("sent a frame for slot 7, but {word}"), "{open} open");
            slots.take();
        }
        assert!(slots.heard(&other(0)).is_err());
    }

    #[tokio::test]
    async fn a_session_may_be_a_mebibyte_behind_and_no_more() {
        let mut slots = Slots::default();
        let (slot, mut ear) = slots.take();
        let Ok(Heard::By(voice)) = slots.heard(&other(slot)) else { panic!("nobody there") };
        let said = || Said { kind: FrameKind::Audio, body: vec![0; 100_000] };
        let mut queued = 0;
        while voice.try_say(said()).is_ok() {
            queued += 1;
        }
        assert_eq!(queued, MOST_SAID / (100_000 + FRAME));
        assert_eq!(ear.hear().await.unwrap().body.len(), 100_000);
        assert!(voice.try_say(said()).is_ok());
        drop(voice);
        slots.silence(slot);
        for _ in 0..queued {
            assert!(ear.hear().await.is_some(), "what was said before is heard");
        }
        assert!(ear.hear().await.is_none());
        assert_eq!(slots.live(), 1, "it has still to leave");
    }

    #[test]
    fn what_goes_on_where_it_was_told_to_stop_is_a_breach_in_the_end() {
        let mut slots = Slots::default();
        let (slot, _ear) = slots.take();
        slots.leave(slot, Left::Lost);
        let sound = Frame { slot, kind: FrameKind::Audio, body: &[0; 16_000] };
        let heard = (0..).take_while(|_| slots.heard(&sound).is_ok()).count();
        assert_eq!(heard, MOST_SAID / (16_000 + FRAME));
    }

    #[test]
    fn a_process_takes_one_session_at_least_and_not_any_number() {
        let mut slots = Slots::default();
        assert_eq!([0, 1, 8, u32::MAX].map(|n| slots.register(n)), [1, 1, 8, 1_000]);
    }
}
