//! Where protocol ends put what they want done: events, messages to send and one arena of octets; sends nothing itself.

use std::cell::RefCell;
use std::ops::Range;
use std::thread::LocalKey;

use super::{Event, Line, Media, Track};
use crate::scratch::{Lend, Scratch};

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
    /// Close the stream with this code, and all lines that were dialled for it.
    Close(u16),
    /// Dial the URL of the span as that line, in the place of whatever the line was connected to. What comes of it is told by
    /// [`Protocol::handle_line`](super::Protocol::handle_line).
    Dial(Line, Span),
    /// A text message over a line that was dialled.
    TextOn(Line, Span),
    /// End that line without a word; at the provider's end.
    Drop(Line),
}

/// What handling a message or command brought about: events for us, messages for the wire, octets for both. The caller owns it,
/// reads it, and calls [`Outbox::reset`] before the next use. Empty it holds no memory: the thread lends it ([`crate::scratch`]).
#[derive(Debug, Default)]
pub struct Outbox {
    page: Option<Scratch<Page>>,
}

/// What is in an outbox that is not empty. Boxed, because a call keeps two outboxes and moves them for every message; `None` only
/// until it is first written on, so that a page put in the place of another costs nothing.
#[derive(Debug, Default)]
struct Page(Option<Box<Content>>);

#[derive(Debug, Default)]
struct Content {
    arena: Vec<u8>,
    events: Vec<Event>,
    sends: Vec<Send>,
}

impl Lend for Page {
    fn shelf() -> &'static LocalKey<RefCell<Vec<Self>>> {
        thread_local! { static SHELF: RefCell<Vec<Page>> = const { RefCell::new(Vec::new()) } }
        &SHELF
    }

    fn wipe(&mut self) {
        let Some(Content { arena, events, sends }) = self.0.as_deref_mut() else { return };
        arena.clear();
        events.clear();
        sends.clear();
    }

    fn octets(&self) -> usize {
        let Some(Content { arena, events, sends }) = self.0.as_deref() else { return 0 };
        let messages = sends.capacity() * size_of::<Send>();
        arena.capacity() + events.capacity() * size_of::<Event>() + messages
    }
}

impl Outbox {
    /// An empty outbox.
    #[must_use]
    pub const fn new() -> Self {
        Self { page: None }
    }

    fn content(&mut self) -> &mut Content {
        self.page.get_or_insert_with(Scratch::lend).0.get_or_insert_default()
    }

    fn written(&self) -> Option<&Content> {
        self.page.as_ref()?.0.as_deref()
    }

    /// What happened, in order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        self.written().map_or(&[], |content| &content.events)
    }

    /// What to send, in order.
    #[must_use]
    pub fn sends(&self) -> &[Send] {
        self.written().map_or(&[], |content| &content.sends)
    }

    /// The octets of a span.
    #[must_use]
    pub fn octets(&self, span: &Span) -> &[u8] {
        self.written().map_or(&[], |content| &content.arena[span.0.clone()])
    }

    /// The text of a span; everything written by [`Outbox::text`] is UTF-8.
    #[must_use]
    pub fn text_of(&self, span: &Span) -> &str {
        std::str::from_utf8(self.octets(span)).unwrap_or_default()
    }

    /// Notes an event.
    pub fn event(&mut self, event: Event) {
        self.content().events.push(event);
    }

    /// Writes octets into the arena and gives their span.
    pub fn store(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let arena = &mut self.content().arena;
        let start = arena.len();
        write(arena);
        Span(start..arena.len())
    }

    /// Like [`Outbox::store`], but writing may fail, which leaves nothing behind.
    pub fn try_store<E>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Span, E> {
        let arena = &mut self.content().arena;
        let start = arena.len();
        match write(arena) {
            Ok(()) => Ok(Span(start..arena.len())),
            Err(error) => {
                arena.truncate(start);
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
        self.content().sends.push(Send::Text(span));
    }

    /// Queues a binary message.
    pub fn binary(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let span = self.store(write);
        self.content().sends.push(Send::Binary(span));
    }

    /// Queues a close.
    pub fn close(&mut self, code: u16) {
        self.content().sends.push(Send::Close(code));
    }

    /// Takes the messages from number `from` on out; their octets stay.
    pub(crate) fn take_sends(&mut self, from: usize) -> Vec<Send> {
        if self.sends().len() <= from {
            return Vec::new();
        }
        self.content().sends.split_off(from)
    }

    /// Has a URL dialled as that line.
    pub fn dial(&mut self, line: Line, url: &str) {
        let span = self.store(|arena| arena.extend_from_slice(url.as_bytes()));
        self.content().sends.push(Send::Dial(line, span));
    }

    /// Queues a text message for a line that was dialled.
    pub fn text_on(&mut self, line: Line, write: impl FnOnce(&mut Vec<u8>)) {
        let span = self.store(write);
        debug_assert!(std::str::from_utf8(self.octets(&span)).is_ok());
        self.content().sends.push(Send::TextOn(line, span));
    }

    /// Has a line ended without a word.
    pub fn drop_line(&mut self, line: Line) {
        self.content().sends.push(Send::Drop(line));
    }

    /// Takes the events out and puts `events` in their place; both keep their memory.
    pub fn swap_events(&mut self, events: &mut Vec<Event>) {
        std::mem::swap(&mut self.content().events, events);
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.page = None;
    }
}
