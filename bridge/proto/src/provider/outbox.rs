//! Where protocol ends put what they want done: events, messages to send and one arena of octets; sends nothing itself.

use std::ops::Range;

use super::{Event, Media, Track};

/// A range of octets in an [`Outbox`]'s arena.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Span(pub Range<usize>);

/// One message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Send {
    /// A text message.
    Text(Span),
    /// A binary message.
    Binary(Span),
    /// Close the stream with this code.
    Close(u16),
}

/// What handling a message or command brought about: events for us, messages for the wire, octets for both. The caller owns it,
/// reads it, and calls [`Outbox::reset`] before the next use; no memory is given back in between.
#[derive(Debug, Default)]
pub struct Outbox {
    arena: Vec<u8>,
    events: Vec<Event>,
    sends: Vec<Send>,
}

impl Outbox {
    /// An empty outbox.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What happened, in order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// What to send, in order.
    #[must_use]
    pub fn sends(&self) -> &[Send] {
        &self.sends
    }

    /// The octets of a span.
    #[must_use]
    pub fn octets(&self, span: &Span) -> &[u8] {
        &self.arena[span.0.clone()]
    }

    /// The text of a span; everything written by [`Outbox::text`] is UTF-8.
    #[must_use]
    pub fn text_of(&self, span: &Span) -> &str {
        std::str::from_utf8(self.octets(span)).unwrap_or_default()
    }

    /// Notes an event.
    pub fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Writes octets into the arena and gives their span.
    pub fn store(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let start = self.arena.len();
        write(&mut self.arena);
        Span(start..self.arena.len())
    }

    /// Like [`Outbox::store`], but writing may fail, which leaves nothing behind.
    pub fn try_store<E>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Span, E> {
        let start = self.arena.len();
        match write(&mut self.arena) {
            Ok(()) => Ok(Span(start..self.arena.len())),
            Err(error) => {
                self.arena.truncate(start);
                Err(error)
            }
        }
    }

    /// Stores sound and gives its event, for wires that neither count nor time it.
    pub(super) fn media(&mut self, track: Track, octets: &[u8]) -> Event {
        let payload = self.store(|arena| arena.extend_from_slice(octets));
        Event::Media(Media { track, payload, sequence: None, timestamp: None })
    }

    /// Queues a text message.
    pub fn text(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let span = self.store(write);
        debug_assert!(std::str::from_utf8(self.octets(&span)).is_ok());
        self.sends.push(Send::Text(span));
    }

    /// Queues a binary message.
    pub fn binary(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let span = self.store(write);
        self.sends.push(Send::Binary(span));
    }

    /// Queues a close.
    pub fn close(&mut self, code: u16) {
        self.sends.push(Send::Close(code));
    }

    /// Takes the events out and puts `events` in their place; both keep their memory.
    pub fn swap_events(&mut self, events: &mut Vec<Event>) {
        std::mem::swap(&mut self.events, events);
    }

    /// Forgets everything and keeps the memory.
    pub fn reset(&mut self) {
        self.arena.clear();
        self.events.clear();
        self.sends.clear();
    }
}
